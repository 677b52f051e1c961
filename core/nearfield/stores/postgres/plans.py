"""How searches by vector go: through the index at some depth, or past it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from psycopg import sql

from nearfield.errors import CollectionNotFoundError
from nearfield.stores.base import RecallEstimate, TradeOff, TuningReport
from nearfield.stores.recall import K, estimate, invent_queries

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from nearfield.stores.postgres.connections import Connection
    from nearfield.stores.postgres.schema import Birth

__all__ = ["Plan", "choose", "read_plan", "use"]

_DEPTHS = (20, 40, 80, 160, 320, 640, 1000)
"""pgvector's ef_search; it takes at most 1,000."""
_QUERIES = 200
_SEED = 7
_US = 1e6


@dataclass(frozen=True, slots=True)
class Plan:
    """A setting for searches.

    Attributes:
        depth: pgvector's ``hnsw.ef_search``; None to compare every vector.
        recall: What was measured with it; None before the first tuning.
    """

    depth: int | None = 160
    recall: float | None = None

    def __str__(self) -> str:
        return "every vector" if self.depth is None else f"graph, ef_search {self.depth}"


def read_plan(connection: Connection, birth: Birth) -> Plan:
    """Read the plan that the collection was tuned to.

    Raises:
        CollectionNotFoundError: It was dropped a moment ago.
    """
    row = connection.execute(
        sql.SQL("SELECT settings FROM {} WHERE key = %s").format(birth.names.collections),
        (birth.names.key,),
    ).fetchone()
    if row is None:
        name = birth.info.name
        raise CollectionNotFoundError(f"the collection {name!r} was just dropped", name=name)
    settings = row[0]
    return Plan(settings["depth"], settings["recall"]) if "depth" in settings else Plan()


def record(connection: Connection, birth: Birth, plan: Plan) -> None:
    """Record the plan for everyone who opens the collection from now on."""
    connection.execute(
        sql.SQL("UPDATE {} SET settings = %s WHERE key = %s").format(birth.names.collections),
        (json.dumps({"depth": plan.depth, "recall": plan.recall}), birth.names.key),
    )


def use(connection: Connection, depth: int) -> None:
    """Set a connection up for searches of the index at a depth."""
    connection.execute(
        "SELECT set_config('hnsw.ef_search', %s, false), "
        # Further candidates are fetched until enough of them match the filter.
        "set_config('hnsw.iterative_scan', 'relaxed_order', false), "
        "set_config('hnsw.max_scan_tuples', '2147483647', false)",
        (str(depth),),
    )


@dataclass(frozen=True, slots=True)
class _Candidate:
    plan: Plan
    recall: RecallEstimate
    cost_us: float


def choose(
    search: Callable[[NDArray[np.float32], int | None], list[str]],
    sample: tuple[list[str], NDArray[np.float32]],
    queries: NDArray[np.float32] | None,
    *,
    target_recall: float,
    latency_ms: float | None,
) -> tuple[Plan, TuningReport]:
    """Measure depths, and take the quickest whose recall is above the target with confidence.

    Args:
        search: Takes a query and a depth, and returns the ids of the K + 1 best.
        sample: Ids and vectors of some documents, to make queries of.
        queries: Queries to measure with instead.
        target_recall: The mean recall@10 to hold.
        latency_ms: The most a query may take, in milliseconds of waiting.
    """
    asked, own = _asked(sample, queries)
    if not len(asked):
        nothing = RecallEstimate(1.0, 1.0, 1.0, 1.0, 0)
        return Plan(), TuningReport(
            target_recall, nothing, 0.0, 0.0, 0, met=True, shortfalls=(), front=()
        )
    truth, exact_us = _answers(search, asked, own, None)
    exact = _Candidate(Plan(None, 1.0), estimate(np.ones(len(asked))), exact_us)
    measured = []
    for depth in _DEPTHS:
        found, cost_us = _answers(search, asked, own, depth)
        recalls = [
            len(set(mine) & set(true)) / max(1, len(true))
            for mine, true in zip(found, truth, strict=True)
        ]
        recall = estimate(np.array(recalls))
        measured.append(_Candidate(Plan(depth, recall.mean), recall, cost_us))
        if recall.low >= target_recall:
            break
    fit = [candidate for candidate in measured if candidate.recall.low >= target_recall]
    chosen = min([*fit, exact], key=lambda candidate: candidate.cost_us) if fit else exact
    shortfalls = []
    if latency_ms is not None and chosen.cost_us > latency_ms * 1000:
        shortfalls.append(
            f"a query takes {chosen.cost_us / 1000:.3f} ms, {latency_ms} ms were asked for; ask "
            "for a lower recall"
        )
    return chosen.plan, TuningReport(
        target_recall=target_recall,
        recall=chosen.recall,
        cost_us=chosen.cost_us,
        exact_cost_us=exact_us,
        memory_bytes=0,
        met=not shortfalls,
        shortfalls=tuple(shortfalls),
        front=tuple(
            TradeOff(str(each.plan), each.recall, each.cost_us, chosen=each is chosen)
            for each in (*measured, exact)
        ),
    )


def _asked(
    sample: tuple[list[str], NDArray[np.float32]], queries: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32], list[str | None]]:
    if queries is not None:
        return queries, [None] * len(queries)
    ids, vectors = sample
    made, rows = invent_queries(vectors, _QUERIES, _SEED)
    return made, [ids[row] if row >= 0 else None for row in rows.tolist()]


def _answers(
    search: Callable[[NDArray[np.float32], int | None], list[str]],
    queries: NDArray[np.float32],
    own: list[str | None],
    depth: int | None,
) -> tuple[list[list[str]], float]:
    search(queries[0], depth)  # plans and caches are not to be timed
    start = time.perf_counter()
    found = [search(query, depth) for query in queries]
    cost_us = (time.perf_counter() - start) * _US / len(queries)
    # A query that is a document finds itself, which says nothing.
    return [
        [name for name in names if name != itself][:K]
        for names, itself in zip(found, own, strict=True)
    ], cost_us


def explained(steps: Any, birth: Birth) -> bool:
    """Whether PostgreSQL's own explanation says that it would use the collection's index."""
    return birth.names.index_name in json.dumps(steps)
