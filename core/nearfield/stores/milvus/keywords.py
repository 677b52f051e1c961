"""Searches by words, and by words and vectors together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from nearfield.documents import SearchMode
from nearfield.stores.candidates import Found, best_of, hits
from nearfield.stores.fusion import fused, widened
from nearfield.stores.milvus.expressions import all_of, expression, literal
from nearfield.stores.milvus.records import columns, decode
from nearfield.stores.milvus.rows import MOST_HITS, Row, Rows
from nearfield.stores.sparse_words import Words, asked_words

if TYPE_CHECKING:
    from nearfield.documents import Hit
    from nearfield.stores.base import CollectionInfo, SearchRequest

__all__ = ["Keywords"]

_SPARE = 5
"""Candidates beyond k, to see whether others tie with the k-th."""
_TIES = 16
"""How many times as many to ask for where they do."""


class Keywords:
    """Answers the keyword and hybrid searches of one collection that has its words indexed.

    Args:
        rows: Its rows.
        info: What was fixed at its birth.
        nearest: Answers searches by vector.
    """

    def __init__(
        self,
        rows: Rows,
        info: CollectionInfo,
        nearest: Callable[[SearchRequest], list[list[Hit]]],
    ) -> None:
        self._rows = rows
        self._info = info
        self._nearest = nearest

    def search(self, request: SearchRequest) -> list[list[Hit]]:
        """Answer each query with its best hits; see :class:`~nearfield.stores.base.Store`."""
        if request.mode is SearchMode.KEYWORD:
            return self._worded(request)
        wide = widened(request)
        near = self._nearest(dataclasses.replace(wide, mode=SearchMode.VECTOR))
        return fused(near, self._worded(wide), request, self._info.metric)

    def _worded(self, request: SearchRequest) -> list[list[Hit]]:
        condition = expression(request.where)
        self._rows.count(None)  # is it open?
        return [
            hits(self._best(asked_words(text), condition, request), request, self._info.metric)
            for text in request.texts or ()
        ]

    def _best(self, asked: Words, condition: str | None, request: SearchRequest) -> list[Found]:
        if condition is None or not asked:
            return []
        wanted = columns(request.include)
        if request.ids is not None:
            return _compared(
                asked, self._rows.of_ids(request.ids, condition, [*wanted, "words"]), request
            )
        limit = request.k + _SPARE
        if limit <= MOST_HITS:
            found = self._rows.worded(asked, condition, wanted, limit=limit)
            if len(found) < limit or found[-1][1] < found[request.k - 1][1]:
                return _chosen(found, request)
        if _TIES * limit <= MOST_HITS:
            return _chosen(self._of_many_ties(asked, condition, wanted, request.k), request)
        return _compared(asked, self._rows.matching(condition, [*wanted, "words"]), request)

    def _of_many_ties(
        self, asked: Words, condition: str, wanted: list[str], k: int
    ) -> list[tuple[Row, float]]:
        """Fetch the k best where more tie with the k-th than Milvus was asked for.

        Of those that tie it names any. So it is asked again for those whose ids are not above the
        best that is known, which leaves less than a part in ``_TIES`` of them each time.
        """
        limit = _TIES * (k + _SPARE)
        best: dict[str, float] = {}
        within = condition
        while True:
            found = self._rows.worded(asked, within, ["id"], limit=limit)
            best |= {row["id"]: score for row, score in found}
            ranked = sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
            last, least = ranked[-1] if ranked else ("", 0.0)
            if len(found) < limit or found[-1][1] < least:
                break
            best = dict(ranked)
            within = all_of([condition, f"id <= {literal(last)}"])
        scores = dict(ranked)
        pages = self._rows.of_ids(list(scores), condition, wanted)
        return [(row, scores[row["id"]]) for page in pages for row in page]


def _compared(asked: Words, pages: Iterable[list[Row]], request: SearchRequest) -> list[Found]:
    """Choose among all rows, scored here."""
    best: list[Found] = []
    for page in pages:
        scored = [(row, sum(row["words"].get(word, 0.0) for word in asked)) for row in page]
        best = best_of(best + _chosen([pair for pair in scored if pair[1]], request), request.k)
    return best


def _chosen(found: Sequence[tuple[Row, float]], request: SearchRequest) -> list[Found]:
    """Make documents of the k best that score enough, best first, ties by id."""
    least = request.min_score
    ranked = sorted(found, key=lambda pair: (-pair[1], pair[0]["id"]))
    return [
        (score, row["id"], decode(row, request.include))
        for row, score in ranked[: request.k]
        if least is None or score >= least
    ]
