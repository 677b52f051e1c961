"""Try what vector stores can do, and write docs/comparison.md.

``python -m benchmarks.features --json FILE`` tries every store that is installed; ``--only NAME …``
tries some, and takes the others from the file.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks.features import table, trial
from benchmarks.features.door import findable
from benchmarks.features.record import Record

_DOCUMENT = Path(__file__).parents[2] / "docs" / "comparison.md"
_STORES = {
    "langchain": ("nearfield", "faiss", "chroma", "qdrant"),
    "llama_index": ("nearfield", "faiss", "chroma", "qdrant", "duckdb"),
}
_NAMES = tuple(dict.fromkeys(name for names in _STORES.values() for name in names))


def main() -> None:
    """Try the stores that the command line names."""
    options = _options()
    record = Record(options.json)
    for framework, module in trial.FRAMEWORKS.items():
        if framework in options.framework and not findable(module):
            print(f"SKIPPED {framework}: no {module}", file=sys.stderr)
    chosen = [
        (framework, door)
        for framework in options.framework
        for door in trial.doors(framework)
        if door.name in options.only
    ]
    trial.prepare([module for _, door in chosen if not door.missing() for module in door.modules])
    for framework, door in chosen:
        if missing := door.missing():
            print(f"SKIPPED {framework} {door.name}: no {', '.join(missing)}", file=sys.stderr)
            continue
        record.begin(framework, door)
        for probe in trial.rows(framework):
            if options.row and options.row not in probe.row:
                continue
            start = time.perf_counter()
            verdict = trial.run(framework, door, probe)
            record.add(framework, door, probe, verdict)
            took_s = time.perf_counter() - start
            print(
                f"{framework} {door.name} [{took_s:.1f} s] {probe.row}: "
                f"{verdict.answer}, {verdict.reason}",
                file=sys.stderr,
            )
        record.save()
    tables = table.markdown(record)
    print(tables)
    unknown = _untried(record)
    if options.row or unknown:
        why = "one row was tried" if options.row else f"nothing is known of {', '.join(unknown)}"
        print(f"{options.document.name} is left alone: {why}", file=sys.stderr)
    else:
        table.write(options.document, tables)


def _untried(record: Record) -> list[str]:
    """The stores that a whole table has and the record has not."""
    return [
        f"{framework} {name}"
        for framework, names in _STORES.items()
        for name in names
        if name not in record.stores(framework)
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.features",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, help="holds every verdict, from run to run")
    parser.add_argument("--only", nargs="+", choices=_NAMES, default=_NAMES, metavar="STORE")
    parser.add_argument(
        "--framework", nargs="+", choices=list(trial.FRAMEWORKS), default=list(trial.FRAMEWORKS)
    )
    parser.add_argument("--row", help="try only rows with this in them; nothing is written to docs")
    parser.add_argument(
        "--document", type=Path, default=_DOCUMENT, help="whose generated part is replaced"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
