"""Measure the approximate tier: its bars, its peers, its figures.

``python -m benchmarks.scale --cache FOLDER --json FILE`` measures everything, prints Markdown and
draws the figures. ``--only search filters`` measures a part; the rest is taken from the file.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_FIGURES = Path(__file__).parents[2] / "docs" / "figures"
_SETS = ("glosses", "clusters")
_EXPERIMENTS = (
    "build", "open", "batch", "growth", "peers", "churn", "writes", "search", "filters", "tunings",
)  # fmt: skip
"""In the order they are run: those that tune for another recall come last."""


def main() -> None:
    """Run the experiments that the command line names."""
    options = _options()
    if any(os.environ.get(name) != "1" for name in _THREADS):
        # These are read when numpy and faiss are loaded, so they are set for a new process.
        os.environ.update(dict.fromkeys(_THREADS, "1"))
        os.execv(sys.executable, sys.orig_argv)
    from benchmarks.scale import changes, costs, filtered, plots, rivalry, tunings, unfiltered
    from benchmarks.scale.catalog import Catalog
    from benchmarks.scale.report import Record

    options.cache.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="scale-", dir=options.cache))
    catalog = Catalog(options.cache, work, options.sets)
    record = Record(options.json)
    experiments = {
        "build": lambda: costs.run_build(catalog),
        "open": lambda: costs.run_opening(catalog),
        "batch": lambda: unfiltered.run_batch(catalog),
        "growth": lambda: costs.run_growth(catalog, million=options.million),
        "peers": lambda: rivalry.run(catalog, work, options.peer_count),
        "churn": lambda: changes.run_churn(catalog),
        "writes": lambda: changes.run_writes(catalog),
        "search": lambda: unfiltered.run_search(catalog),
        "filters": lambda: filtered.run(catalog),
        "tunings": lambda: tunings.run(catalog),
    }
    try:
        for name in sorted(options.only, key=_EXPERIMENTS.index):
            start = time.perf_counter()
            result = experiments[name]()
            record.add(name, result, time.perf_counter() - start)
            print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    finally:
        catalog.close()
        shutil.rmtree(work, ignore_errors=True)
    print(record.markdown())
    for file in plots.draw(record, options.figures):
        print(f"drew {file}", file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--cache", type=Path, required=True,
        help="holds vectors and hnswlib's graphs from run to run; about 2 GB are used at a time",
    )  # fmt: skip
    parser.add_argument(
        "--json", type=Path, required=True,
        help="holds every measurement; experiments that are not run now are kept in it",
    )  # fmt: skip
    parser.add_argument("--only", nargs="+", choices=_EXPERIMENTS, default=_EXPERIMENTS)
    parser.add_argument("--sets", nargs="+", choices=_SETS, default=list(_SETS))
    parser.add_argument("--figures", type=Path, default=_FIGURES, help="where SVG files go")
    parser.add_argument(
        "--peer-count", type=int, default=50_000, help="documents that peers are measured with"
    )
    parser.add_argument("--million", action="store_true", help="let growth go up to 1,000,000")
    return parser.parse_args()


if __name__ == "__main__":
    main()
