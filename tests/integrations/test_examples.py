"""The examples run offline, as they are."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
NEEDS = {
    "langchain_agent": "langchain",
    "langchain_rag": "langchain_core",
    "llama_index_chat_engine": "llama_index.core",
    "llama_index_query_engine": "llama_index.core",
}


def test_every_example_is_known():
    assert {path.stem for path in EXAMPLES} == NEEDS.keys()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_offline_and_finds_the_answer(path, tmp_path):
    package = NEEDS[path.stem]
    if not is_installed(package):
        pytest.skip(f"{package} is not installed")
    environment = {name: value for name, value in os.environ.items() if name != "MODEL"}
    done = subprocess.run(
        [sys.executable, path],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "kettle" in done.stdout
    assert "Traceback" not in done.stderr


def is_installed(package):
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False
