"""What the commands share that set a collection beside its engine's own client."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

__all__ = ["Calls", "arguments", "in_turn", "medians_ms", "over_us", "report", "seconds", "turn"]

_Call = TypeVar("_Call")
Calls: TypeAlias = Mapping[str, Callable[[int], object]]
"""By name; each takes the number of a query."""

_BARS = {"search over the client, us": 150.0, "insert, share of the client's rate": 0.9}
_WARMING = 10
"""Rounds that are not counted."""


def arguments(about: str | None, *, count: int, rounds: int) -> argparse.Namespace:
    """Read the command line: ``json``, ``count`` of documents, ``rounds`` of searches."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--rounds", type=int, default=rounds)
    return parser.parse_args()


def seconds(work: Callable[[], object]) -> float:
    """Return how long some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turn(calls: Calls, queries: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each call in each round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + _WARMING):
        for name, call in turn(calls, number):
            times[name].append(seconds(partial(call, number % queries)))
    return {name: taken[_WARMING:] for name, taken in times.items()}


def turn(calls: Mapping[str, _Call], number: int) -> list[tuple[str, _Call]]:
    """Return the calls in the order of a turn; each goes first as often as the others.

    The first one finds colder caches, of the query or the documents, than those after it.
    """
    ordered = list(calls.items())
    first = number % len(ordered)
    return ordered[first:] + ordered[:first]


def medians_ms(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median of each, in milliseconds."""
    return {f"{name}, ms": statistics.median(taken) * 1e3 for name, taken in times.items()}


def over_us(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of what each round took more, in microseconds."""
    return 1e6 * statistics.median(mine - its for mine, its in zip(ours, theirs, strict=True))


def report(figures: Mapping[str, Mapping[str, float]], kept: Path | None) -> None:
    """Print the figures of each way to keep a collection, with their bars, and keep them."""
    for way, values in figures.items():
        for name, value in values.items():
            print(f"{way:24} {name:48} {value:12,.3f}  {_verdict(name, value)}".rstrip())
    if kept is not None:
        kept.write_text(json.dumps(figures, indent=2))


def _verdict(name: str, value: float) -> str:
    bar = _BARS.get(name)
    if bar is None:
        return ""
    good = value >= bar if name.startswith("insert") else value <= bar
    return f"{'PASS' if good else 'MISS'} (bar {bar:g})"
