"""Running a probe in a process of its own, in a folder of its own, for a bounded time."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import multiprocessing
import os
import re
import shutil
import signal
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.features.conditions import InexpressibleError
from benchmarks.features.door import findable
from benchmarks.features.verdict import Probe, Verdict, no, probes

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from benchmarks.features.door import Door

__all__ = ["FRAMEWORKS", "doors", "prepare", "run"]

FRAMEWORKS = {"langchain": "langchain_core", "llama_index": "llama_index.core"}
"""With the module that each needs."""
_PROBE_MODULES = {
    "langchain": ("filtering", "langchain_filtering", "writing", "langchain_writing", "searching",
                  "langchain_searching", "durability", "langchain_rest"),
    "llama_index": ("filtering", "llama_index_filtering", "writing", "llama_index_writing",
                    "searching", "llama_index_searching", "durability", "llama_index_rest"),
}  # fmt: skip
_TRACE_CHARACTERS = 1500
_REASON_CHARACTERS = 110
_PREFIX = "features-"
_PLACE = re.compile(rf"[^\s'\"]*{_PREFIX}[^\s'\"]*")
_PATH = re.compile(r"(?<![\w:/])/(?:[^\s'\"/]+/)+")
"""The folders of a file, which say nothing about a store."""
_CONTEXT = multiprocessing.get_context("forkserver")


def doors(framework: str) -> tuple[Door, ...]:
    """The stores of a framework; none if it is not installed."""
    if not findable(FRAMEWORKS[framework]):
        return ()
    module = importlib.import_module(f"benchmarks.features.{framework}_stores")
    return getattr(module, f"{framework.upper()}_STORES")


def rows(framework: str) -> list[Probe]:
    """The probes of a framework; none if it is not installed."""
    if not findable(FRAMEWORKS[framework]):
        return []
    for name in _PROBE_MODULES[framework]:
        importlib.import_module(f"benchmarks.features.{name}")
    return probes(framework)


def prepare(modules: list[str]) -> None:
    """Have these modules imported once; every probe is a fork of what has imported them."""
    _CONTEXT.set_forkserver_preload(modules)


def run(framework: str, door: Door, probe: Probe) -> Verdict:
    """Try a store; whatever happens to the process, a verdict comes out."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_try, args=(framework, door.name, probe.row, folder, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(probe.limit_s):
            return no(f"no end within {probe.limit_s:.0f} s")
        try:
            return receiver.recv()
        except EOFError:
            process.join()
            return no(f"the process died ({_cause(process.exitcode)})")
    finally:
        if process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.join()
        shutil.rmtree(folder, ignore_errors=True)


def _cause(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return signal.Signals(-exit_code).name
    return f"exit {exit_code}"


def _try(framework: str, name: str, row: str, folder: Path, sender: Connection) -> None:
    os.setsid()  # so that its own children can be ended with it
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    door = next(door for door in doors(framework) if door.name == name)
    probe = next(probe for probe in rows(framework) if probe.row == row)
    (folder / "data").mkdir()
    noise = io.StringIO()
    with contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise):
        verdict = _attempt(probe, door, folder / "data")
    sender.send(verdict)
    sender.close()
    os._exit(0)  # a store that was not closed must not hold up the end


def _attempt(probe: Probe, door: Any, folder: Path) -> Verdict:
    try:
        return probe.run(door, folder)
    except InexpressibleError as error:
        return no(str(error))
    except BaseException as error:  # noqa: BLE001  # a panic of a store's is a verdict too
        verdict = no(told(error))
        trace = traceback.format_exc()[-_TRACE_CHARACTERS:]
        return Verdict(verdict.answer, verdict.reason, trace=trace)


def told(error: BaseException) -> str:
    """An error in one line."""
    words = str(error).split()
    text = f"{type(error).__name__}: {' '.join(words)}" if words else type(error).__name__
    text = _PATH.sub("…/", _PLACE.sub("the folder", text))
    return text if len(text) <= _REASON_CHARACTERS else text[: _REASON_CHARACTERS - 1] + "…"
