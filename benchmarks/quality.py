"""How long the quality of an embedding space takes to measure, and what memory.

Run with ``python -m benchmarks.quality``; each size is measured in a process of its own. The
vectors are clusters with a thousandth of copies and a hundredth of near-copies, mapped from a file,
so that memory that is not the file's is what the measures need.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import psutil

from nearfield.vectors.quality import Space, assess

_CLUSTERS = 200
_SPREAD = 0.8
_BLOCK_ROWS = 20_000
_MEBIBYTE = 1 << 20
_INTERVAL_S = 0.02
_DRIFT_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class Cost:
    """What one report took.

    Attributes:
        rows: Of the vectors.
        seconds: By the clock.
        cpu_seconds: Of all threads.
        anonymous_bytes: The most memory in use at once beyond that before, the file's pages aside.
        near_share: The share of near-duplicates that was found; nearly .02 were planted.
    """

    rows: int
    seconds: float
    cpu_seconds: float
    anonymous_bytes: int
    near_share: float


def make(path: Path, rows: int, dimension: int) -> None:
    """Write vectors, block by block."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((_CLUSTERS, dimension), dtype=np.float32)
    vectors = np.lib.format.open_memmap(path, "w+", np.float32, (rows, dimension))
    for start in range(0, rows, _BLOCK_ROWS):
        count = min(_BLOCK_ROWS, rows - start)
        block = _SPREAD * rng.standard_normal((count, dimension), dtype=np.float32)
        block += centres[rng.integers(_CLUSTERS, size=count)]
        copies, near = count // 1_000, count // 100
        block[-copies:] = block[:copies]
        noise = 0.01 * rng.standard_normal((near, dimension), dtype=np.float32)
        block[copies : copies + near] = block[-near - copies : -copies] + noise
        vectors[start : start + count] = block
    vectors.flush()


class Peak:
    """Looks at this process's anonymous memory while something runs."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._before = self._now()
        self.size_bytes = 0
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _now(self) -> int:
        memory = self._process.memory_info()
        return int(memory.rss - getattr(memory, "shared", 0))  # shared: the file's pages

    def _watch(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            self.size_bytes = max(self.size_bytes, self._now() - self._before)


def measure(path: str, rows: int) -> Cost:
    """Measure one report, drift included; to be called in a fresh process."""
    vectors = np.load(path, mmap_mode="r")
    assess(vectors[:500])  # imports
    with Peak() as peak:
        cpu, start = time.process_time(), time.perf_counter()
        report = assess(Space(vectors), against=vectors[:_DRIFT_ROWS])
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return Cost(rows, seconds, cpu_seconds, peak.size_bytes, report.duplicates.near_share)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dimension", type=int, default=384)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}")
    print("| vectors | seconds | CPU seconds | memory beside them, MiB | near-duplicates |")
    print("|---|---|---|---|---|")
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "vectors.npy"
            make(path, rows, options.dimension)
            context = multiprocessing.get_context("spawn")
            with context.Pool(1) as pool:
                cost = pool.apply(measure, (str(path), rows))
        print(
            f"| {rows:,} × {options.dimension} | {cost.seconds:.1f} | {cost.cpu_seconds:.1f} | "
            f"{cost.anonymous_bytes / _MEBIBYTE:.0f} | {cost.near_share:.2%} |"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
