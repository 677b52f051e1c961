"""By which plan a collection is searched, and how it is chosen, recorded and kept up."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from nearfield.stores.milvus.address import Index
from nearfield.stores.milvus.plans import LISTS, choose
from nearfield.stores.milvus.records import now_us, vectors
from nearfield.stores.milvus.schema import read_plan, record_plan
from nearfield.stores.recall import invent_queries

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from nearfield.stores.base import TuningReport
    from nearfield.stores.milvus.connections import Handle
    from nearfield.stores.milvus.plans import Plan, Ranking
    from nearfield.stores.milvus.rows import Rows
    from nearfield.stores.milvus.schema import Birth

__all__ = ["Tuning"]

_SEALED_FROM = 10_000
"""Fewer rows are compared quickly in any case."""
_LOOK_AGAIN_S = 5.0
_QUERIES, _SEED = 200, 7
_ROWS = 2000
"""To make queries of."""


class Tuning:
    """The plan of one collection.

    Args:
        handle: The collection.
        rows: Its rows.
        birth: What is recorded of it.
    """

    def __init__(self, handle: Handle, rows: Rows, birth: Birth) -> None:
        self._handle = handle
        self._rows = rows
        self._info = birth.info
        self._has_lists = birth.index is Index.LISTS
        self._known = birth.plan
        self._look_again_s = time.monotonic() + _LOOK_AGAIN_S

    def plan(self) -> Plan:
        """Return the plan, as it was a few seconds ago at the earliest: others may tune, too."""
        if time.monotonic() >= self._look_again_s:
            self._look_again_s = time.monotonic() + _LOOK_AGAIN_S
            self._known = self._handle.run(
                lambda client, within_s: read_plan(client, self._handle.name, within_s)
            )
        return self._known

    def maintain(self) -> bool:
        """End the segments that are being written, and wait until they are searched as such.

        That is twice as quick, and puts what was written into lists, where there are lists.

        Returns:
            Whether it took any building.
        """
        if not self._has_lists and self._rows.count("") < _SEALED_FROM:
            return False
        sealed_us = now_us()
        built = self._rows.seal()
        if self._has_lists:
            self._record(replace(self.plan(), sealed_us=sealed_us))
        return built

    def choose(
        self,
        ranking: Callable[[NDArray[np.float32], int], Ranking],
        queries: NDArray[np.float32] | None,
        *,
        target_recall: float,
        latency_ms: float | None,
    ) -> TuningReport:
        """Measure plans, take one, and record it; see ``Tunable``.

        Args:
            ranking: Takes a query and a number of lists, and returns the best K.
            queries: What to measure with; None for some that are made of documents.
            target_recall: The mean recall@10 to hold.
            latency_ms: The most a query may take.
        """
        self.maintain()
        asked = self._questions() if queries is None else queries
        start = time.perf_counter()
        truth = [ranking(query, LISTS) for query in asked]
        exact_us = (time.perf_counter() - start) * 1e6 / max(1, len(asked))
        plan, report = choose(
            ranking,
            asked,
            truth,
            exact_us,
            target_recall=target_recall,
            latency_ms=latency_ms,
            has_lists=self._has_lists,
        )
        self._record(replace(plan, sealed_us=self.plan().sealed_us))
        return report

    def _record(self, plan: Plan) -> None:
        self._handle.run(
            lambda client, within_s: record_plan(client, self._handle.name, plan, within_s)
        )
        self._known = plan

    def _questions(self) -> NDArray[np.float32]:
        """Invent queries from documents; none of them is a document, which would find itself."""
        ids = self._rows.ids("")
        drawn = random.Random(_SEED).sample(ids, min(len(ids), _ROWS))  # noqa: S311
        pages = self._rows.of_ids(drawn, "", ["id", "vector"])
        rows = [row for page in pages for row in page]
        given = vectors(rows, self._info.embedding.dimension)
        if not len(given):
            return given
        made, own = invent_queries(given, _QUERIES, _SEED)
        return made[own < 0]
