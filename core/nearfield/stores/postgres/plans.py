"""How searches by vector go: through the index at some depth, or past it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nearfield.errors import CollectionNotFoundError
from nearfield.stores.base import RecallEstimate, TradeOff, TuningReport
from nearfield.stores.recall import K, estimate, invent_queries, recall

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from nearfield.stores.postgres.connections import Connection
    from nearfield.stores.postgres.schema import Birth
    from nearfield.stores.postgres.table import Table

__all__ = [
    "START_DEPTH",
    "Plan",
    "Ranking",
    "Sample",
    "Settings",
    "State",
    "choose",
    "explained",
    "read_state",
    "record",
    "use",
]

Ranking: TypeAlias = list[tuple[str, float]]
"""Ids, each with a score, best first."""
Sample: TypeAlias = "tuple[list[str], NDArray[np.float32]]"
"""Ids and vectors of some documents."""

_DEPTHS = (20, 40, 80, 160, 320, 640, 1000)
"""pgvector's ef_search; it takes at most 1,000."""
START_DEPTH = 160
"""Before anything was measured."""
_QUERIES = 200
_SEED = 7
_US = 1e6
_FEWEST_QUERIES = 50
_GROWTH = 2
"""When a collection has grown so many times, its plan is measured anew."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A setting for searches.

    Attributes:
        depth: pgvector's ``hnsw.ef_search``; None to compare every vector.
        recall: What was measured with it; None before the first tuning.
    """

    depth: int | None = START_DEPTH
    recall: float | None = None

    def __str__(self) -> str:
        return "every vector" if self.depth is None else f"graph, ef_search {self.depth}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What all who have a collection open go by.

    Attributes:
        target_recall: The mean recall@10 to hold.
        recheck_share: The share of searches to repeat exactly in the background.
        plan: How to search.
        index: The index that the plan was measured on; None before the first measurement.
        documents: About how many there were then.
    """

    target_recall: float = 0.99
    recheck_share: float = 0.0005
    plan: Plan = Plan()
    index: int | None = None
    documents: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """How a collection stands.

    Attributes:
        settings: What is recorded.
        index: The index of the vectors; None while there is none that is complete.
        documents: About how many there are.
    """

    settings: Settings
    index: int | None
    documents: int

    @property
    def is_measured(self) -> bool:
        """Whether the plan is known to hold the target on the index as it is."""
        measured = self.settings
        grown = self.documents > _GROWTH * max(1, measured.documents)
        return self.index is not None and self.index == measured.index and not grown

    @property
    def plan(self) -> Plan:
        """How searches go."""
        return self.settings.plan if self.index is not None else Plan(None, 1.0)


def read_state(table: Table, name: str) -> State:
    """Read how a collection stands.

    Raises:
        CollectionNotFoundError: It was dropped a moment ago.
    """
    rows = table.rows(
        "SELECT settings, (SELECT indexrelid::bigint FROM pg_index "
        "WHERE indexrelid = to_regclass({index}) AND indisvalid), "
        "coalesce((SELECT reltuples FROM pg_class WHERE oid = to_regclass({name})), 0)::bigint "
        "FROM {collections} WHERE key = {key}"
    )
    if not rows:
        raise CollectionNotFoundError(f"the collection {name!r} was just dropped", name=name)
    ((recorded, index, documents),) = rows
    values = dict(recorded)
    if values:
        values["plan"] = Plan(**values["plan"])
    return State(Settings(**values), index, documents)


def record(table: Table, settings: Settings) -> None:
    """Record what all who have the collection open are to go by; they look every few seconds."""
    statement = table.sql("UPDATE {collections} SET settings = %s WHERE key = {key}")
    recorded = json.dumps(asdict(settings))
    table.pool.run(lambda connection: connection.execute(statement, (recorded,)))


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
    search: Callable[[NDArray[np.float32], int | None], Ranking],
    given: Sample | NDArray[np.float32],
    *,
    target_recall: float,
    latency_ms: float | None = None,
    exact_within_s: float | None = None,
    least_depth: int = 0,
) -> tuple[Plan, TuningReport]:
    """Measure depths, and take the quickest whose recall is above the target with confidence.

    Args:
        search: Takes a query and a depth, and returns the K + 1 best.
        given: Queries to measure with, or some documents to make them of.
        target_recall: The mean recall@10 to hold.
        latency_ms: The most a query may take, in milliseconds of waiting.
        exact_within_s: About how long the comparisons of every vector may take in all; fewer
            queries are asked then, but no fewer than 50.
        least_depth: Choose no depth below this one, and rather a depth that holds the target than
            the comparison of every vector, even if that was quicker just now.
    """
    asked, own = _asked(given)
    if not len(asked):
        nothing = RecallEstimate(1.0, 1.0, 1.0, 1.0, 0)
        return Plan(), TuningReport(
            target_recall, nothing, 0.0, 0.0, 0, met=True, shortfalls=(), front=()
        )
    if exact_within_s is not None:
        _, one_us = _answers(search, asked[:1], own[:1], None)
        count = max(_FEWEST_QUERIES, min(len(asked), int(exact_within_s * _US / max(1.0, one_us))))
        places = np.linspace(0, len(asked) - 1, min(count, len(asked))).astype(int)
        asked, own = asked[places], [own[place] for place in places]
    truth, exact_us = _answers(search, asked, own, None)
    exact = _Candidate(Plan(None, 1.0), estimate(np.ones(len(asked))), exact_us)
    measured = []
    for depth in _DEPTHS:
        if depth < least_depth or target_recall >= 1.0:
            continue
        found, cost_us = _answers(search, asked, own, depth)
        measured_recall = estimate(np.array(list(map(recall, found, truth))))
        measured.append(_Candidate(Plan(depth, measured_recall.mean), measured_recall, cost_us))
        if measured_recall.low >= target_recall:
            break
    fit = [candidate for candidate in measured if candidate.recall.low >= target_recall]
    chosen = exact
    if fit:
        choice = fit if least_depth else [*fit, exact]
        chosen = min(choice, key=lambda candidate: candidate.cost_us)
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
    given: Sample | NDArray[np.float32],
) -> tuple[NDArray[np.float32], list[str | None]]:
    if not isinstance(given, tuple):
        return given, [None] * len(given)
    ids, vectors = given
    if not ids:
        return vectors, []
    made, rows = invent_queries(vectors, _QUERIES, _SEED)
    return made, [ids[row] if row >= 0 else None for row in rows.tolist()]


def _answers(
    search: Callable[[NDArray[np.float32], int | None], Ranking],
    queries: NDArray[np.float32],
    own: list[str | None],
    depth: int | None,
) -> tuple[list[Ranking], float]:
    search(queries[0], depth)  # plans and caches are not to be timed
    start = time.perf_counter()
    found = [search(query, depth) for query in queries]
    cost_us = (time.perf_counter() - start) * _US / len(queries)
    # A query that is a document finds itself, which says nothing.
    return [
        [pair for pair in ranking if pair[0] != itself][:K]
        for ranking, itself in zip(found, own, strict=True)
    ], cost_us


def explained(steps: Any, birth: Birth) -> bool:
    """Whether PostgreSQL's own explanation says that it would use the collection's index."""
    return birth.names.index_name in json.dumps(steps)
