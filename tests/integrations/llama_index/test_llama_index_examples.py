"""The examples run offline, as a newcomer starts them, and print what they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("llama_index.core", reason="needs llama-index-core")

EXAMPLES = Path(__file__).parents[3] / "examples"
# A proxy that no one listens at: whatever reaches for the network fails.
OFFLINE = dict.fromkeys(
    ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"),
    "http://127.0.0.1:9",
)


def run(name, *arguments):
    environment = {**os.environ, **OFFLINE, "PYTHONWARNINGS": "error::DeprecationWarning:__main__"}
    environment.pop("OPENAI_API_KEY", None)
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_query_engine_answers_from_the_right_note(tmp_path):
    first = run("llama_index_query_engine.py", tmp_path / "data")
    asked, outside, hybrid, answer = first.split("\n\n", 3)
    assert "kitchen" in asked.splitlines()[1]
    assert "kitchen" not in outside
    assert len(outside.splitlines()) == 3
    assert "garage" in hybrid
    assert "The kettle boils water" in answer
    assert "holds 3 notes" in answer


def test_the_query_engine_needs_no_folder():
    assert "holds 3 notes" in run("llama_index_query_engine.py")


def test_the_chat_engine_reads_the_right_note(tmp_path):
    printed = run("llama_index_chat_engine.py", tmp_path / "data")
    read = [line.split()[1] for line in printed.splitlines() if line.startswith("Read:")]
    assert read == ["whales", "owls"]
    assert "4 messages are remembered" in printed
