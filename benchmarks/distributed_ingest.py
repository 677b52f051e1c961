"""What workers make of an ingest: run as ``python -m benchmarks.distributed_ingest --json d.json``.

The same folder is ingested into a new collection by this process alone, by local processes and by
a Dask cluster of processes on this machine, in turn, round by round. Local processes are started
in each round, which is part of the time; the cluster stands. Beside it, the CPU time that the
coordinator itself needs for a chunk, which tells how many workers it can keep busy.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.corpus import make_corpus
from tests.dask_cluster import dask_cluster

import nearfield
from nearfield.embedders import MiniLMEmbedder
from nearfield.ingest import sync

WORDS = 120
CROWD = (1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="keep every round in this file")
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _write(folder / "files", arguments.files)
        (folder / "dask").mkdir()
        with dask_cluster(folder / "dask", workers=max(CROWD)) as cluster:
            rounds = _rounds(folder, cluster.url, arguments.rounds)
    print(_table(rounds))
    if arguments.json:
        arguments.json.write_text(json.dumps(rounds, indent=2))


def _write(folder: Path, files: int) -> None:
    folder.mkdir()
    for number, document in enumerate(make_corpus(files, words=WORDS, queries=1).documents):
        (folder / f"{number}.txt").write_text(document.text)


def _rounds(folder: Path, url: str, rounds: int) -> dict[str, list[dict[str, float]]]:
    processors = len(os.sched_getaffinity(0))
    contenders: dict[str, tuple[int | None, int | str | None]] = {
        "this process, one thread": (1, None),
        f"this process, {processors} threads": (None, None),
        **{f"{count} local": (None, count) for count in CROWD},
        f"{max(CROWD)} of Dask": (None, url),
    }
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, (threads, workers) in contenders.items():
            with nearfield.open(
                folder / f"{number} {name}", embedder=MiniLMEmbedder(threads)
            ) as collection:
                began = time.process_time()
                report = sync(collection, folder / "files", workers=workers)
                cpu_s = time.process_time() - began
            if not report.ok:
                raise SystemExit(f"{name}: {report.failures}")
            if number:  # the first round loads models and warms the cluster up
                figures[name].append(
                    {
                        "chunks_per_s": report.chunks_per_s,
                        "coordinator_cpu_ms": 1000 * cpu_s / report.chunks_written,
                    }
                )
    return figures


def _table(rounds: dict[str, list[dict[str, float]]]) -> str:
    alone = _medians(next(iter(rounds.values())))["chunks_per_s"]
    lines = [f"{'':28} {'chunks/s':>9} {'ratio':>6}   coordinator's CPU a chunk"]
    for name, figures in rounds.items():
        medians = _medians(figures)
        rate, cpu_ms = medians["chunks_per_s"], medians["coordinator_cpu_ms"]
        lines.append(f"{name:28} {rate:9.1f} {rate / alone:6.2f}   {cpu_ms:8.2f} ms")
    return "\n".join(lines)


def _medians(figures: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(each[key] for each in figures) for key in figures[0]}


if __name__ == "__main__":
    main()
