"""Rows about asynchronous use and LangChain's own suite of tests."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.features.blocking import BLOCKED_MS, longest_block_ms
from benchmarks.features.langchain_embeddings import SlowEmbeddings
from benchmarks.features.verdict import Verdict, no, partly, probe, yes

if TYPE_CHECKING:
    from benchmarks.features.langchain_stores import LangChainStore

_SECTION = "Asynchronous use and the framework's own tests"
_COUNT = 2_000
_WAIT_S = 0.2
_TRIES = 3
_SUITE_LIMIT_S = 150

_SUITE = """
import pytest
from benchmarks.features.trial import doors
from langchain_tests.integration_tests.vectorstores import VectorStoreIntegrationTests

DOOR = next(door for door in doors("langchain") if door.name == {name!r})


class TestStandard(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path):
        store = DOOR.open(tmp_path, self.get_embeddings())
        yield store
        DOOR.close(store)
"""


@probe(_SECTION, "async calls leave the event loop free, and await an async embedder",
       framework="langchain", limit_s=180)  # fmt: skip
def asynchronous(door: LangChainStore, folder: Path) -> Verdict:
    """The longest block while 2,000 texts are added and one is looked for; the best of three."""
    blocks, awaited = [], 0
    for number in range(_TRIES):
        texts = [f"text {i} of {number}" for i in range(_COUNT)]
        embeddings = SlowEmbeddings(texts, _WAIT_S)
        place = folder / str(number)
        place.mkdir()
        store = door.open(place, embeddings)

        async def work(store: Any = store, texts: list[str] = texts) -> None:
            await store.aadd_texts(texts)
            await store.asimilarity_search("text", k=4)

        blocks.append(asyncio.run(longest_block_ms(work())))
        awaited = embeddings.awaited
        door.close(store)
    block = min(blocks)
    waits = "awaits the embedder" if awaited >= 2 else "embeds in a thread of its own"
    if awaited == 1:
        waits = "awaits the embedder in one of the two calls"
    reason = f"blocks for {block:.0f} ms at most; {waits}"
    if block > BLOCKED_MS:
        return no(reason)
    return yes(reason) if awaited >= 2 else partly(reason)


@probe(_SECTION, "langchain-tests, the standard suite", framework="langchain", limit_s=200)
def standard_suite(door: LangChainStore, folder: Path) -> Verdict:
    file = folder / "test_standard.py"
    file.write_text(_SUITE.format(name=door.name))
    report = folder / "report.xml"
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "ANONYMIZED_TELEMETRY": "False"}
    subprocess.run(
        [sys.executable, "-m", "pytest", str(file), "-q", "-c", os.devnull, "--rootdir", folder,
         "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", f"--junitxml={report}"],
        cwd=folder, env=environment, capture_output=True, timeout=_SUITE_LIMIT_S, check=False,
    )  # fmt: skip
    suite = next(ET.parse(report).getroot().iter("testsuite"))
    total = int(suite.get("tests", 0))
    bad = sum(int(suite.get(kind, 0)) for kind in ("failures", "errors", "skipped"))
    reason = f"{total - bad} of {total}"
    if total and not bad:
        return yes(reason)
    return partly(reason) if total > bad else no(reason)


@probe(
    _SECTION,
    "import, in a process that has imported langchain-core's retrievers",
    framework="langchain",
)
def import_time(door: LangChainStore, folder: Path) -> Verdict:  # noqa: ARG001
    code = (
        "import langchain_core.vectorstores, langchain_core.retrievers, langchain_core.indexing; "
        "import time; start = time.process_time(); "
        f"import {door.modules[0]}, {door.modules[1]}; "
        "print(time.process_time() - start)"
    )
    times_s = []
    for _ in range(_TRIES):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
        times_s.append(float(done.stdout.split()[-1]))
    took_s = min(times_s)
    return yes(f"{took_s:.2f} s of CPU") if took_s < 1 else partly(f"{took_s:.2f} s of CPU")
