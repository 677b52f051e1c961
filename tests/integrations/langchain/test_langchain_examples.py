"""The examples run offline, as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("langchain_*.py"))
NEEDS = {
    "langchain_agent": "langchain",
    "langchain_rag": "langchain_core",
}


def test_every_example_is_known():
    assert {path.stem for path in EXAMPLES} == NEEDS.keys()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_offline_and_finds_the_answer(path, tmp_path):
    pytest.importorskip(NEEDS[path.stem], reason=f"{NEEDS[path.stem]} is not installed")
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
    assert "vinegar" in done.stdout
    assert "Traceback" not in done.stderr
