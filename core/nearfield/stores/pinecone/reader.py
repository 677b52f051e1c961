"""Reads the records of one collection: by id, by filter, and those that an index finds nearest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from pinecone.errors import ApiError

from nearfield.errors import InvalidInputError
from nearfield.stores.flat.filters import Clause, Where, all_of
from nearfield.stores.pinecone.connections import PAGE, together
from nearfield.stores.pinecone.errors import is_too_large
from nearfield.stores.pinecone.records import ID, ORDER, record_id

if TYPE_CHECKING:
    from nearfield.stores.pinecone.connections import Handle

__all__ = ["MOST_CANDIDATES", "SPARE", "Reader", "pages"]

_Item = TypeVar("_Item")

SPARE = 5
"""Candidates beyond k: Pinecone's scores are of 32 bits, and its search is approximate."""
MOST_CANDIDATES = 10_000
_PAGE_ID_BYTES = 4_000
"""Ids are fetched by a URL."""
_ANSWER_BYTES = 3_000_000
"""Pinecone answers a query with at most 4 MB."""
_HIT_BYTES = 2_000
_COMPONENT_BYTES = 14
"""What a hit mostly takes beside its vector, and each component of that."""
_ALL: Where = {ORDER: {"$gte": 0}}
"""Every record has an order; an empty filter is not taken."""


class Reader:
    """The records of one collection.

    Args:
        handle: The namespace that they are in.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def check_open(self) -> None:
        """Raise ``ClosedError`` after the end."""
        self._handle.check_open()

    def fetched(self, ids: Sequence[str], clause: Clause) -> Iterator[Any]:
        """Fetch the records of those documents, by id, that match."""
        different = list(dict.fromkeys(ids))
        self._handle.check_open()
        if clause is True:
            urls = _url_pages(list(map(record_id, different)))
            for records in together(self._handle.fetch, list(urls)):
                yield from records
        else:
            for page in pages(different, PAGE):
                yield from self.matching(all_of([{ID: {"$in": page}}, clause]))

    def matching(self, clause: Clause) -> Iterator[Any]:
        """Fetch the records that match, in no order."""
        self._handle.check_open()
        if clause is False:
            return iter(())
        return self._handle.matching(_ALL if clause is True else clause)

    def nearest(self, query: Mapping[str, Any], clause: Clause, depth: int) -> list[Any]:
        """Return the records that Pinecone finds nearest to a query, in no order.

        Args:
            query: Its vectors, as the client's ``query`` takes them.
            clause: What may be found.
            depth: How many at the most.
        """
        arguments = {**query, "top_k": depth}
        if clause is not True:
            arguments["filter"] = clause
        size = _HIT_BYTES + _COMPONENT_BYTES * self._handle.index.dimension
        if depth * size <= _ANSWER_BYTES:
            try:
                return self._handle.query(
                    **arguments, include_values=True, include_metadata=True
                ).matches
            except InvalidInputError as error:
                # These records are larger than most; what is wrong otherwise fails again below.
                if not isinstance(error.__cause__, ApiError) or not is_too_large(error.__cause__):
                    raise
        names = [match.id for match in self._handle.query(**arguments).matches]
        found = together(self._handle.fetch, list(_url_pages(names)))
        return [record for page in found for record in page]


def pages(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Split what comes into lists of a size."""
    left = iter(items)
    while page := list(islice(left, size)):
        yield page


def _url_pages(names: list[str]) -> Iterator[list[str]]:
    """Split ids so that the URL that asks for them stays short."""
    page: list[str] = []
    size = 0
    for name in names:
        cost = 3 * len(name) + len("ids=&")  # each character may be escaped
        if page and (len(page) == PAGE or size + cost > _PAGE_ID_BYTES):
            yield page
            page, size = [], 0
        page.append(name)
        size += cost
    if page:
        yield page
