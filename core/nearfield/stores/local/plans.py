"""Plans: how a segment can be searched, what that was measured to cost, and which one to use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from nearfield.stores.base import RecallEstimate

__all__ = [
    "DEFAULT_TARGET",
    "OperatingPoint",
    "PlanKind",
    "Target",
    "cheapest",
    "cheapest_of_each_kind",
    "pareto_front",
]


class PlanKind(StrEnum):
    """What finds the candidates."""

    SCAN = "scan"
    """Every code is compared."""
    LISTS = "lists"
    """The codes in the nearest lists are compared."""
    GRAPH = "graph"
    """A graph over 8-bit codes is walked."""


@dataclass(frozen=True, slots=True)
class Target:
    """What the owner of a collection asks of its searches.

    Attributes:
        recall: The mean recall@k to hold, from 0 to 1; 1 compares every vector.
        latency_ms: The most CPU milliseconds a query may take, or None.
        memory_bytes: The most memory that indexes may take, or None.
        recheck_share: The share of searches that is repeated exactly in the background.
    """

    recall: float = 0.99
    latency_ms: float | None = None
    memory_bytes: int | None = None
    recheck_share: float = 0.0005


DEFAULT_TARGET = Target()


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One setting of an index, and what was measured with it.

    Attributes:
        kind: What finds the candidates.
        depth: Lists to look into, or how far to walk a graph (``nprobe``, ``efSearch``).
        candidates: How many of the candidates are compared by their true vectors, for k = 10.
        recall: Mean recall@10 over the sampled queries.
        recall_low: The lower end of its 95 % interval.
        recall_high: The upper end.
        recall_p5: The 5th percentile over queries.
        queries: How many queries that was.
        cost_us: CPU microseconds per query, reranking included.
        filtered: Whether it was measured under filters that are correlated with the vectors, the
            worst of them counting.
    """

    kind: PlanKind
    depth: int
    candidates: int
    recall: float
    recall_low: float
    recall_high: float
    recall_p5: float
    queries: int
    cost_us: float
    filtered: bool = False

    def __str__(self) -> str:
        where = {
            PlanKind.SCAN: "scan of codes",
            PlanKind.LISTS: f"{self.depth} lists",
            PlanKind.GRAPH: f"graph, depth {self.depth}",
        }[self.kind]
        return f"{where}, {self.candidates} reranked"

    def recall_estimate(self) -> RecallEstimate:
        """Return the recall as it is reported."""
        return RecallEstimate(
            self.recall, self.recall_low, self.recall_high, self.recall_p5, self.queries
        )


def cheapest(points: Iterable[OperatingPoint], recall: float) -> OperatingPoint | None:
    """Return the cheapest point whose recall is above a target for sure; None if none is."""
    return next(iter(cheapest_of_each_kind(points, recall)), None)


def cheapest_of_each_kind(
    points: Iterable[OperatingPoint], recall: float, *, filtered: bool = False
) -> list[OperatingPoint]:
    """Return such a point of each kind that has one, measured under filters or not."""
    best: dict[PlanKind, OperatingPoint] = {}
    for point in sorted(points, key=lambda point: point.cost_us):
        if point.filtered == filtered and point.recall_low >= recall and recall < 1:
            best.setdefault(point.kind, point)
    return list(best.values())


def pareto_front(points: Iterable[OperatingPoint]) -> list[OperatingPoint]:
    """Keep, of each kind, the points that no other of the kind beats in both recall and cost."""
    front: list[OperatingPoint] = []
    for point in sorted(points, key=lambda point: (point.cost_us, -point.recall_low)):
        beaten = any(
            (other.kind, other.filtered) == (point.kind, point.filtered)
            and other.recall_low >= point.recall_low
            for other in front
        )
        if not beaten:
            front.append(point)
    return front
