"""What a new process pays: run as ``python -m benchmarks.startup import`` or ``open FOLDER``, or
``search FOLDER QUERIES`` with a file of query vectors.

Prints one JSON object. Run by the speed benchmarks, in a process of its own for each round.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def measure_import() -> dict[str, Any]:
    """Time ``import nearfield``, with numpy imported already."""
    start = time.perf_counter()
    import nearfield  # noqa: F401

    return {"wall_s": time.perf_counter() - start}


def measure_open(folder: str) -> dict[str, Any]:
    """Time opening a collection up to its first hit, with everything imported already."""
    import faiss  # noqa: F401
    import filelock  # noqa: F401

    import nearfield
    import nearfield.stores.local.database

    before_bytes = _resident_bytes()
    start = time.perf_counter()
    collection = nearfield.open(folder, create=False)
    query = np.ones(collection.info.embedding.dimension, np.float32)
    hits = collection.search(query, k=1)
    wall_s = time.perf_counter() - start
    return {
        "wall_s": wall_s,
        "hits": len(hits),
        "resident_bytes": _resident_bytes() - before_bytes,
        "peak_bytes": _peak_bytes() - before_bytes,
    }


def measure_search(folder: str, queries: str) -> dict[str, Any]:
    """Time opening a collection up to its first hit; measure memory after many searches."""
    import faiss  # noqa: F401
    import filelock  # noqa: F401

    import nearfield
    import nearfield.stores.local.database

    vectors = np.load(queries)
    before = _memory_bytes()
    start = time.perf_counter()
    collection = nearfield.open(folder, create=False)
    hits = collection.search(vectors[0])
    first_hit_s = time.perf_counter() - start
    for vector in vectors:
        collection.search(vector)
    after = _memory_bytes()
    return {
        "first_hit_s": first_hit_s,
        "hits": len(hits),
        "anonymous_bytes": after["Anonymous"] - before["Anonymous"],
        "file_bytes": after["Rss"] - after["Anonymous"] - before["Rss"] + before["Anonymous"],
    }


def _memory_bytes() -> dict[str, int]:
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    return {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines}


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


def _peak_bytes() -> int:
    # Not ru_maxrss: a new process starts with its parent's.
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    [kibibytes] = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(kibibytes) * 1024


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    tasks = {"import": measure_import, "open": measure_open, "search": measure_search}
    print(json.dumps(tasks[task](*arguments)))
