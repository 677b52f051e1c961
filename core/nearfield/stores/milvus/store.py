"""A collection in Milvus."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from nearfield.documents import SearchMode
from nearfield.errors import UnsupportedOperationError
from nearfield.stores.base import Capabilities, Explanation, PlanStep
from nearfield.stores.milvus.expressions import expression
from nearfield.stores.milvus.keywords import Keywords
from nearfield.stores.milvus.records import (
    columns,
    decode,
    encode_all,
    size_bytes,
    stamped,
)
from nearfield.stores.milvus.rows import Rows
from nearfield.stores.milvus.searches import Searches
from nearfield.stores.milvus.tuning import Tuning
from nearfield.stores.refusals import read_only

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nearfield.documents import Document, Hit
    from nearfield.filters import Filter
    from nearfield.stores.base import CollectionInfo, Include, SearchRequest, TuningReport
    from nearfield.stores.milvus.connections import Handle
    from nearfield.stores.milvus.schema import Birth

__all__ = ["MilvusStore"]

_SCAN_ROWS = 500
_BATCH_ROWS = 5000
_BATCH_BYTES = 16_000_000
"""A server takes messages of at most 64 MB."""
_CAPABILITIES = Capabilities(
    modes=frozenset({SearchMode.VECTOR}),
    atomic_writes=False,
    read_your_writes=True,
    backup=False,
)
_WITH_WORDS = dataclasses.replace(_CAPABILITIES, modes=frozenset(SearchMode))


class MilvusStore:
    """One collection in a database; see :class:`~nearfield.stores.base.Store`."""

    def __init__(self, handle: Handle, birth: Birth) -> None:
        self._handle = handle
        self._info = birth.info
        self._rows = Rows(handle)
        self._tuning = Tuning(handle, self._rows, birth)
        self._searches = Searches(self._rows, birth, self._tuning.plan)
        self._keywords = (
            Keywords(self._rows, birth.info, self._searches.search) if birth.has_words else None
        )

    @property
    def info(self) -> CollectionInfo:
        """What was fixed at the collection's birth."""
        return self._info

    @property
    def capabilities(self) -> Capabilities:
        """What Milvus does natively."""
        return _CAPABILITIES if self._keywords is None else _WITH_WORDS

    def upsert(self, documents: Sequence[Document], *, replace: Filter | None = None) -> None:
        """Write documents, a batch at a time; see :class:`~nearfield.stores.base.Store`.

        Each document is written whole or not at all. What ``replace`` takes is deleted after that.
        """
        condition = expression(replace)
        self._refuse_read_only()
        rows = encode_all(documents, has_words=self._keywords is not None)
        with self._handle.writing():
            gone = [] if replace is None else self._rows.ids(condition)
            for batch in _batches(stamped(rows)):
                self._rows.put(batch)
            written = {document.id for document in documents}
            self._rows.remove([name for name in gone if name not in written])

    def delete(self, *, ids: Sequence[str] | None = None, where: Filter | None = None) -> int:
        """Delete by ids, by filter, or by both, and count; see ``Store``."""
        condition = expression(where)
        self._refuse_read_only()
        with self._handle.writing():
            gone = self._rows.ids(condition, ids)
            self._rows.remove(gone)
        return len(gone)

    def get(self, ids: Sequence[str], *, include: Include) -> list[Document | None]:
        """Fetch documents in the order of the ids; see ``Store``."""
        found = {
            row["id"]: decode(row, include)
            for page in self._rows.of_ids(ids, "", columns(include))
            for row in page
        }
        return [found.get(name) for name in ids]

    def count(self, *, where: Filter | None = None) -> int:
        """Count the documents, or those that match."""
        return self._rows.count(expression(where))

    def scan(self, *, where: Filter | None, include: Include) -> Generator[Document, None, None]:
        """Iterate over the documents that were there at the start, in the order of writing.

        One that is deleted or written again meanwhile, or does not match any more, is left out or
        comes as it is now.
        """
        condition = expression(where)
        names = self._rows.ids(condition)
        for start in range(0, len(names), _SCAN_ROWS):
            ids = names[start : start + _SCAN_ROWS]
            order = {name: place for place, name in enumerate(ids)}
            for page in self._rows.of_ids(ids, condition, columns(include)):
                for row in sorted(page, key=lambda each: order[each["id"]]):
                    yield decode(row, include)

    def search(self, request: SearchRequest) -> list[list[Hit]]:
        """Answer each query with its best hits; see ``Store``."""
        if request.mode is SearchMode.VECTOR or self._keywords is None:
            return self._searches.search(request)
        return self._keywords.search(request)

    def stats(self) -> dict[str, Any]:
        """Return the collection's size and state."""
        return {
            "name": self._info.name,
            "server": self._handle.address.shown,
            "version": self._handle.version,
            "metric": self._info.metric.value,
            "embedding": self._info.embedding.to_dict(),
            "documents": self.count(),
        }

    def close(self) -> None:
        """Let go of the collection. Idempotent."""
        self._handle.close()

    # ── plans ────────────────────────────────────────────────────────────────────────────────

    def maintain(self) -> int:
        """Have what was written searched as quickly as it can be; see ``Tunable``."""
        self._refuse_read_only()
        return int(self._tuning.maintain())

    def tune(
        self,
        *,
        target_recall: float,
        latency_ms: float | None,
        memory_bytes: int | None,
        recheck_share: float,
        queries: NDArray[np.float32] | None,
    ) -> TuningReport:
        """Choose how to search, and record it; see ``Tunable``."""
        if memory_bytes is not None:
            raise UnsupportedOperationError(
                "memory_bytes cannot be set for a collection in Milvus, whose servers share their "
                "memory among all; leave it out"
            )
        del recheck_share  # there is no background that could repeat searches
        self._refuse_read_only()
        return self._tuning.choose(
            self._searches.ranking, queries, target_recall=target_recall, latency_ms=latency_ms
        )

    def explain(self, request: SearchRequest) -> Explanation:
        """Answer one query, and tell how; see ``Tunable``."""
        found = self.search(request)[0]
        documents, matching = self.count(), self.count(where=request.where)
        plan = self._tuning.plan()
        used, recall = str(plan), plan.recall
        if request.mode is SearchMode.KEYWORD or request.where is not None:
            used, recall = "every match", 1.0
        step = PlanStep(used, documents, matching, matching, len(found), recall)
        return Explanation(request.mode, (step,), documents, matching, len(found))

    def _refuse_read_only(self) -> None:
        self._handle.check_open()
        if self._handle.address.read_only:
            raise read_only(self._handle.address.shown)


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        size += size_bytes(row)
        if batch and (size > _BATCH_BYTES or len(batch) == _BATCH_ROWS):
            yield batch
            batch, size = [], size_bytes(row)
        batch.append(row)
    if batch:
        yield batch
