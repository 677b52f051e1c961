"""The parts of a search alone: what no collection built of them can be faster than."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from benchmarks.scale.truth import K

from nearfield import Metric
from nearfield.stores.local.flat import _products_by_row

if TYPE_CHECKING:
    from benchmarks.scale.catalog import Loaded
    from numpy.typing import NDArray

_SELECT = "SELECT slot, id, text, metadata FROM documents WHERE slot IN ({})"
_COMPARED_AT_ONCE = 32
_READ_AT_ONCE = 500
"""As a collection does."""


class BareParts:
    """FAISS's index, its kernel over the candidates' true vectors, and SQLite's ten rows.

    Nothing is checked, verified, locked, scored in float64, filtered or made into hits, and there
    is no transaction. The plan is the collection's own.

    Args:
        loaded: A collection in one segment.
    """

    def __init__(self, loaded: Loaded) -> None:
        store: Any = loaded.collection._store  # noqa: SLF001
        with store._view(None) as (_, snapshot):  # noqa: SLF001
            (part,) = snapshot.parts
        self._segment = part.segment
        self._plan = self._segment.plan_for(part.selection(None), K)
        self._index = self._segment._indexes[self._plan.point.kind]  # noqa: SLF001
        self._connection = store._pool.take()  # noqa: SLF001
        self._put_back = store._pool.put_back  # noqa: SLF001
        self._decode = msgspec.json.Decoder(dict[str, Any]).decode

    def close(self) -> None:
        """Give the connection back."""
        self._put_back(self._connection)

    def find(self, queries: NDArray[np.float32]) -> list[list[int]]:
        """Find ten documents for each query; return their rows."""
        return [self._find(queries[row : row + 1]) for row in range(len(queries))]

    def find_together(self, queries: NDArray[np.float32]) -> list[list[int]]:
        """Do the same at once, reading a document that several queries find once."""
        plan, segment = self._plan, self._segment
        found = self._index.candidates(queries, plan.candidates, plan.depth, None)
        starts = range(0, len(queries), _COMPARED_AT_ONCE)
        some = [slice(start, start + _COMPARED_AT_ONCE) for start in starts]
        best = np.concatenate([self._best(queries[each], found[each]) for each in some])
        slots = segment.slots[best]
        wanted = np.unique(slots).tolist()
        numbers: dict[int, int] = {}
        for start in range(0, len(wanted), _READ_AT_ONCE):
            numbers |= self._read(wanted[start : start + _READ_AT_ONCE])
        return [[numbers[slot] for slot in row] for row in slots.tolist()]

    def _find(self, query: NDArray[np.float32]) -> list[int]:
        plan = self._plan
        found = self._index.candidates(query, plan.candidates, plan.depth, None)
        best = self._best(query, found)[0]
        return list(self._read(self._segment.slots[best].tolist()).values())

    def _best(self, queries: NDArray[np.float32], found: NDArray[np.int64]) -> NDArray[np.int64]:
        products = _products_by_row(self._segment.vectors, queries, found, Metric.COSINE)
        best = np.argpartition(products, -K, axis=1)[:, -K:]
        return np.take_along_axis(found, best, axis=1)

    def _read(self, slots: list[int]) -> dict[int, int]:
        """Read and decode documents; return their numbers, by slot."""
        statement = _SELECT.format(",".join("?" * len(slots)))
        rows = self._connection.execute(statement, slots).fetchall()
        documents = {
            slot: (identifier, text, self._decode(metadata))
            for slot, identifier, text, metadata in rows
        }
        return {slot: int(identifier) for slot, (identifier, _, _) in documents.items()}
