"""Tuning a collection: a target is set, segments are built for it, and the outcome is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfield.stores.base import RecallEstimate, TradeOff, TuningReport
from nearfield.stores.local.recall import measure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nearfield.documents import Metric
    from nearfield.stores.local.plans import Target
    from nearfield.stores.local.segments import Segment
    from nearfield.stores.local.snapshots import Snapshot

__all__ = ["report"]

_US_PER_MS = 1000


def report(
    snapshot: Snapshot, metric: Metric, target: Target, queries: NDArray[np.float32] | None
) -> TuningReport:
    """Measure a collection that was built for a target, and say what came of it."""
    measured = measure(snapshot, metric, queries)
    memory_bytes = snapshot.memory_bytes()
    shortfalls = []
    if measured.recall.high < target.recall:
        shortfalls.append(
            f"recall is {measured.recall.mean:.4f} on these queries, {target.recall:.4f} was asked "
            "for; tune with more of the queries that you expect"
        )
    if target.latency_ms is not None and measured.cost_us > target.latency_ms * _US_PER_MS:
        shortfalls.append(
            f"a query takes {measured.cost_us / _US_PER_MS:.3f} ms of CPU time, "
            f"{target.latency_ms} ms were asked for; ask for a lower recall"
        )
    if target.memory_bytes is not None and memory_bytes > target.memory_bytes:
        shortfalls.append(
            f"indexes take {memory_bytes:,} bytes, {target.memory_bytes:,} were asked for"
        )
    segments = sorted(
        (part.segment for part in snapshot.parts if part.segment is not None),
        key=lambda segment: -segment.record.rows,
    )
    return TuningReport(
        target_recall=target.recall,
        recall=measured.recall,
        cost_us=measured.cost_us,
        exact_cost_us=measured.exact_cost_us,
        memory_bytes=memory_bytes,
        met=not shortfalls,
        shortfalls=tuple(shortfalls),
        front=tuple(trade for segment in segments for trade in _trade_offs(segment)),
    )


def _trade_offs(segment: Segment) -> list[TradeOff]:
    points = [point for point in segment.record.front if not point.filtered]
    trades = [
        TradeOff(
            str(point),
            point.recall_estimate(),
            point.cost_us,
            chosen=point is segment.point,
        )
        for point in sorted(points, key=lambda point: point.cost_us)
    ]
    exact = RecallEstimate(1.0, 1.0, 1.0, 1.0, 0)
    exact_us = segment.record.exact_us
    return [*trades, TradeOff("exact scan", exact, exact_us, chosen=segment.point is None)]
