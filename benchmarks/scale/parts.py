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

_SELECT = "SELECT slot, id, text, metadata FROM documents WHERE slot IN ({})".format(
    ",".join("?" * K)
)


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

    def _find(self, query: NDArray[np.float32]) -> list[int]:
        plan, segment = self._plan, self._segment
        found = self._index.candidates(query, plan.candidates, plan.depth, None)
        products = _products_by_row(segment.vectors, query, found, Metric.COSINE)[0]
        best = found[0][np.argpartition(products, -K)[-K:]]
        rows = self._connection.execute(_SELECT, segment.slots[best].tolist()).fetchall()
        documents = [
            (identifier, text, self._decode(metadata)) for _, identifier, text, metadata in rows
        ]
        return [int(identifier) for identifier, _, _ in documents]
