"""Timing of contenders in turn, so that a busy machine slows all of them alike."""

from __future__ import annotations

import json
import platform
import sqlite3
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Contender = Callable[[int], object]
    """Does the work once; gets the number of the round."""

_WARMUP_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Timing:
    """What one contender took, in seconds a round.

    Attributes:
        experiment: What was done.
        contender: Who did it.
        rounds: How often.
        items: Documents or queries handled in each round.
        total_s: All rounds together.
        minimum_s: The fastest round.
        median_s: The median round.
        p95_s: The 95th percentile.
        cpu_median_s: The median of the process's CPU time, all threads together.
    """

    experiment: str
    contender: str
    rounds: int
    items: int
    total_s: float
    minimum_s: float
    median_s: float
    p95_s: float
    cpu_median_s: float

    @property
    def items_per_s(self) -> float:
        """Documents or queries a second over all rounds."""
        return self.rounds * self.items / self.total_s


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, and the bar it was to meet.

    Attributes:
        name: What it says.
        value: How much.
        unit: Of what.
        at_most: The bar, where less is better.
        at_least: The bar, where more is better.
    """

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def verdict(self) -> str:
        """PASS, MISS, or nothing where there is no bar."""
        if self.at_most is None and self.at_least is None:
            return ""
        below = self.at_most is None or self.value <= self.at_most
        above = self.at_least is None or self.value >= self.at_least
        return "PASS" if below and above else "MISS"

    @property
    def bar(self) -> str:
        """The bar in words."""
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return "" if self.at_least is None else f">= {self.at_least:g}"


@dataclass(slots=True)
class Report:
    """All timings and figures of a run, and notes on what could not be measured."""

    timings: list[Timing] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def figure(self, name: str, value: float, unit: str, **bar: float) -> None:
        """Record a number; ``at_most=`` or ``at_least=`` sets its bar."""
        self.figures.append(Figure(name, float(value), unit, **bar))

    def lines(self) -> list[str]:
        """Return the tables as text."""
        columns = ("min", "median", "p95", "cpu")
        lines = ["".join([" " * 52, *(f"{column:>11}" for column in columns), "   items/s  ratio"])]
        first: dict[str, Timing] = {}
        for timing in self.timings:
            ours = first.setdefault(timing.experiment, timing)
            if ours is timing:
                lines.append(timing.experiment)
            lines.append(
                f"  {timing.contender:50} {_duration(timing.minimum_s)} "
                f"{_duration(timing.median_s)} {_duration(timing.p95_s)} "
                f"{_duration(timing.cpu_median_s)} {timing.items_per_s:9,.0f} "
                f"{timing.median_s / ours.median_s:6.2f}"
            )
        lines.append("")
        lines.extend(
            f"{figure.verdict or '    '}  {figure.name:60} {figure.value:12,.2f} "
            f"{figure.unit:8} {figure.bar}".rstrip()
            for figure in self.figures
        )
        lines.extend(f"NOTE  {note}" for note in self.notes)
        return lines

    def write(self, path: Path) -> None:
        """Store everything as JSON, with what it was measured on."""
        content: dict[str, Any] = {
            "machine": {
                "platform": platform.platform(),
                "python": platform.python_version(),
                "numpy": np.__version__,
                "faiss": faiss.__version__,
                "sqlite": sqlite3.sqlite_version,
            },
            "timings": [
                {**asdict(timing), "items_per_s": timing.items_per_s} for timing in self.timings
            ],
            "figures": [{**asdict(figure), "verdict": figure.verdict} for figure in self.figures],
            "notes": self.notes,
        }
        path.write_text(json.dumps(content, indent=2), encoding="utf-8")


class Contest:
    """Lets contenders do the same work in turn, round by round.

    Args:
        benchmark: pytest-benchmark's fixture, which drives the rounds and keeps the history.
        report: Where the timings go.
    """

    def __init__(self, benchmark: Any, report: Report) -> None:
        self._benchmark = benchmark
        self._report = report

    def run(
        self,
        experiment: str,
        contenders: Mapping[str, Contender],
        *,
        rounds: int,
        items: int = 1,
    ) -> list[Timing]:
        """Time contenders; the first is the one that pytest-benchmark records.

        Args:
            experiment: What they do.
            contenders: By name.
            rounds: How often, after three rounds that do not count.
            items: Documents or queries that each round handles.

        Returns:
            The timings, in the order of the contenders.
        """
        (first, subject), *rivals = contenders.items()
        clocks = {name: _Clock() for name in contenders}
        number = iter(range(rounds + _WARMUP_ROUNDS))

        def let_rivals_go_first() -> tuple[tuple[int], dict[str, Any]]:
            current = next(number)
            for name, rival in rivals:
                clocks[name].time(rival, current)
            return (current,), {}

        self._benchmark.pedantic(
            lambda current: clocks[first].time(subject, current),
            setup=let_rivals_go_first,
            rounds=rounds,
            warmup_rounds=_WARMUP_ROUNDS,
        )
        timings = [clock.timing(experiment, name, items) for name, clock in clocks.items()]
        self._report.timings.extend(timings)
        self._benchmark.extra_info["timings"] = [asdict(timing) for timing in timings]
        return timings


class _Clock:
    """Wall and CPU times of one contender."""

    def __init__(self) -> None:
        self._wall_s: list[float] = []
        self._cpu_s: list[float] = []

    def time(self, contender: Contender, current: int) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        contender(current)
        self._wall_s.append(time.perf_counter() - wall)
        self._cpu_s.append(time.process_time() - cpu)

    def timing(self, experiment: str, contender: str, items: int) -> Timing:
        wall, cpu = self._wall_s[_WARMUP_ROUNDS:], self._cpu_s[_WARMUP_ROUNDS:]
        return Timing(
            experiment,
            contender,
            rounds=len(wall),
            items=items,
            total_s=sum(wall),
            minimum_s=min(wall),
            median_s=float(np.median(wall)),
            p95_s=float(np.percentile(wall, 95)),
            cpu_median_s=float(np.median(cpu)),
        )


def _duration(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:7.1f} µs"
    return f"{seconds * 1e3:7.2f} ms" if seconds < 1 else f"{seconds:7.2f} s "
