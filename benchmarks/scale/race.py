"""Timing contenders in turn, round by round, so that a busy machine slows all of them alike."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Timing:
    """What one contender took, in microseconds for each query or document.

    Attributes:
        wall_us: Wall time, by round.
        cpu_us: CPU time of all threads of the process together, by round.
    """

    wall_us: tuple[float, ...]
    cpu_us: tuple[float, ...]

    @property
    def best_us(self) -> float:
        """The wall time of the fastest round."""
        return min(self.wall_us)

    @property
    def median_us(self) -> float:
        """The median wall time."""
        return float(np.median(self.wall_us))

    @property
    def cpu_best_us(self) -> float:
        """The CPU time of the cheapest round."""
        return min(self.cpu_us)

    @property
    def cpu_median_us(self) -> float:
        """The median CPU time."""
        return float(np.median(self.cpu_us))

    def cells(self) -> list[str]:
        """Return wall and CPU time, best and median, for a table."""
        return [
            duration(value)
            for value in (self.best_us, self.median_us, self.cpu_best_us, self.cpu_median_us)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return every round."""
        return {"wall_us": list(self.wall_us), "cpu_us": list(self.cpu_us)}


COLUMNS = ["wall best", "wall median", "CPU best", "CPU median"]
"""The heads of :meth:`Timing.cells`."""


def race(
    contenders: Mapping[str, Callable[[], Found]], *, items: int, rounds: int
) -> tuple[dict[str, Timing], dict[str, Found]]:
    """Let contenders do the same work in turn.

    Args:
        contenders: By name; one call is one round.
        items: Queries or documents in each round.
        rounds: How many, after one that does not count.

    Returns:
        The timings, and what each returned in the round that does not count.
    """
    found = {name: contender() for name, contender in contenders.items()}
    laps: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            cpu, wall = time.process_time(), time.perf_counter()
            contender()
            lap = time.perf_counter() - wall, time.process_time() - cpu
            laps[name].append((lap[0] / items * 1e6, lap[1] / items * 1e6))
    timings = {
        name: Timing(tuple(wall for wall, _ in done), tuple(cpu for _, cpu in done))
        for name, done in laps.items()
    }
    return timings, found


def duration(microseconds: float) -> str:
    """Write a time for a table."""
    if microseconds < 1e3:
        return f"{microseconds:.0f} µs"
    return f"{microseconds / 1e3:.2f} ms" if microseconds < 1e6 else f"{microseconds / 1e6:.1f} s"
