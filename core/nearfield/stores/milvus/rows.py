"""The rows of a collection: what is asked of Milvus about them, page by page."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nearfield.stores.milvus.expressions import all_of, among_ids, literal
from nearfield.stores.milvus.messages import insert, upsert

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymilvus import MilvusClient

    from nearfield.stores.milvus.connections import Handle
    from nearfield.stores.sparse_words import Words

__all__ = ["MOST_HITS", "Row", "Rows"]

Row: TypeAlias = Mapping[str, Any]

MOST_HITS = 16_384
"""What Milvus returns at once, and what it finds for a query, at the most."""
_WITHOUT_INDEX = 1024
"""Rows of a segment from which on Milvus gives it an index."""
_POLL_S = 0.1
_SEALED_FROM = 1000
"""Milvus Lite looks at rows that are not in a file yet one by one, in Python."""
_PAGE = 1000
"""Rows in an answer, and ids in an expression."""


@dataclass(frozen=True, slots=True)
class _Progress:
    """How many rows have an index, are to get one, and have one that is not in use yet."""

    indexed: int
    pending: int
    unused: int

    @property
    def unfinished(self) -> int:
        return self.pending + self.unused


class Rows:
    """The rows of one collection.

    Conditions are expressions in Milvus's language: empty where every row is meant, None where
    none is.

    Args:
        handle: The collection.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._name = handle.name
        self._unsealed = 0

    def put(self, rows: list[dict[str, Any]]) -> None:
        """Write rows, each in the place of the one that has its id."""

        def write(client: MilvusClient, within_s: float) -> None:
            if self._handle.is_lite:
                # Its upsert keeps the fields that a new row lacks; its insert replaces.
                insert(client, self._name, rows, within_s)
            else:  # whose insert would leave the old row there
                upsert(client, self._name, rows, within_s)

        self._handle.run(write)
        self._unsealed += len(rows)
        if self._handle.is_lite and self._unsealed >= _SEALED_FROM:
            self._flush()

    def remove(self, ids: Sequence[str]) -> None:
        """Delete rows; those that are not there are passed over."""
        for start in range(0, len(ids), _PAGE):
            try:
                self._handle.run(partial(self._delete, among_ids(ids[start : start + _PAGE])))
            finally:  # though it failed, it may have been done
                self._handle.deleted()

    def _delete(self, condition: str, client: MilvusClient, within_s: float) -> None:
        client.delete(self._name, filter=condition, timeout=within_s)

    def seal(self) -> bool:
        """End the segments that are being written, and wait until their lists are in use.

        It waits as long as something comes of it, and ``timeout_s`` more.

        Returns:
            Whether that took any building.
        """
        before = self._progress()
        self._flush()
        last, since_s = before, time.monotonic()
        while (now := self._progress()).unfinished:
            if now != last:
                last, since_s = now, time.monotonic()
            elif time.monotonic() - since_s > self._handle.address.timeout_s:
                break
            time.sleep(_POLL_S)
        return now != before

    def _flush(self) -> None:
        self._handle.run(lambda client, within_s: client.flush(self._name, timeout=within_s))
        self._unsealed = 0

    def _progress(self) -> _Progress:
        def look(client: MilvusClient, within_s: float) -> _Progress:
            described = client.describe_index(self._name, "vector", timeout=within_s)
            indexed, pending = described["indexed_rows"], described["pending_index_rows"]
            if self._handle.is_lite:
                return _Progress(indexed, pending, 0)
            # A server goes on searching what is being written until it has loaded the index.
            segments = client.list_loaded_segments(self._name, timeout=within_s)
            loaded = sum(
                segment.num_rows
                for segment in segments
                if segment.index_name or segment.num_rows < _WITHOUT_INDEX
            )
            return _Progress(indexed, pending, max(0, indexed - loaded))

        return self._handle.run(look)

    def ids(self, condition: str | None, among: Sequence[str] | None = None) -> list[str]:
        """Return the ids of what matches, in the order of writing."""
        columns = ["id", "written"]
        pages = (
            self.matching(condition, columns, page=MOST_HITS)
            if among is None
            else self.of_ids(among, condition, columns)
        )
        found = [(row["written"], row["id"]) for page in pages for row in page]
        return [name for _, name in sorted(found)]

    def matching(
        self, condition: str | None, columns: list[str], *, page: int = _PAGE
    ) -> Iterator[list[Row]]:
        """Fetch what matches, page by page, in the order of ids."""
        after = ""
        while rows := self._query(all_of([condition or "", after]), condition, columns, page):
            yield rows
            if len(rows) < page:
                return
            after = f"id > {literal(max(row['id'] for row in rows))}"

    def of_ids(
        self, ids: Sequence[str], condition: str | None, columns: list[str]
    ) -> Iterator[list[Row]]:
        """Fetch those of the ids that match, page by page."""
        different = iter(dict.fromkeys(ids))
        if not ids:
            self._handle.check_open()
        while page := list(islice(different, _PAGE)):
            yield self._query(all_of([among_ids(page), condition or ""]), condition, columns)

    def count(self, condition: str | None) -> int:
        """Count what matches."""
        if condition is None:
            self._handle.check_open()
            return 0
        found = self._handle.read(
            lambda client, options: client.query(
                self._name, filter=condition, output_fields=["count(*)"], **options
            )
        )
        return int(found[0]["count(*)"])

    def nearest(
        self,
        queries: NDArray[np.float32],
        condition: str,
        columns: list[str],
        *,
        limit: int,
        probes: int,
    ) -> list[list[Row]]:
        """Ask Milvus for what is nearest to each query.

        Args:
            queries: Shape (n, dimension).
            condition: What may be found.
            columns: What to fetch of it.
            limit: How many for each query.
            probes: How many lists of a segment to search, where it has lists.
        """
        answers: Any = self._handle.read(
            lambda client, options: client.search(
                self._name,
                data=queries.tolist(),  # which the client takes more quickly than arrays
                anns_field="vector",
                filter=condition,
                limit=limit,
                output_fields=columns,
                search_params={"params": {"nprobe": probes}},
                **options,
            )
        )
        vectors = _vectors(answers)
        return [
            [
                {**hit["entity"], "id": hit["id"], "vector": vectors[answer.start + place]}
                for place, hit in enumerate(map(answer.get_raw_item, range(len(answer))))
            ]
            for answer in answers
        ]

    def worded(
        self, asked: Words, condition: str, columns: list[str], *, limit: int
    ) -> list[tuple[Row, float]]:
        """Ask Milvus for what has some of the words, the best first, each with its score.

        Args:
            asked: The words.
            condition: What may be found.
            columns: What to fetch of it.
            limit: How many at the most.
        """
        (answer,) = self._handle.read(
            lambda client, options: client.search(
                self._name,
                data=[asked],
                anns_field="words",
                filter=condition,
                limit=limit,
                output_fields=columns,
                search_params={"metric_type": "IP", "params": {"drop_ratio_search": 0.0}},
                **options,
            )
        )
        return [({**hit["entity"], "id": hit["id"]}, float(hit["distance"])) for hit in answer]

    def _query(
        self, expression: str, condition: str | None, columns: list[str], limit: int | None = None
    ) -> list[Row]:
        if condition is None:
            self._handle.check_open()
            return []
        page: dict[str, Any] = {} if limit is None else {"limit": limit}
        if limit is not None and self._handle.is_lite:
            # Rows come in the order of ids then, as they do from servers, of which with this
            # option the client would not ask to wait for writes.
            page["iterator"] = "True"
        return list(
            self._handle.read(
                lambda client, options: client.query(
                    self._name, filter=expression, output_fields=columns, **page, **options
                )
            )
        )


def _vectors(answers: Any) -> NDArray[np.float32]:
    """Return the vectors of what was found for all queries, as they came, one after the other.

    Asked for by a hit, the client makes a list of each vector's numbers.
    """
    for answer in answers:
        for column in answer.lazy_field_data:
            if column.field_name == "vector":
                numbers = np.asarray(column.vectors.float_vector.data, np.float32)
                return numbers.reshape(-1, column.vectors.dim)
    return np.empty((0, 0), np.float32)  # nothing was found
