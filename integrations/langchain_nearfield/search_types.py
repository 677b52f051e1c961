"""The ways to search that LangChain knows by name, and two more."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from langchain_nearfield.filters import read_filter
from nearfield.errors import InvalidInputError
from nearfield.validation import check_share

if TYPE_CHECKING:
    from nearfield import Collection, Hit

__all__ = ["SearchType"]

_K = 4
_FETCH_K = 20
_LAMBDA_MULT = 0.5


class SearchType(StrEnum):
    """What a retriever looks for.

    Every type takes ``k``, ``filter``, ``score_threshold`` (the least relevance, from 0 to 1) and
    what :meth:`nearfield.Collection.search` takes besides.
    """

    SIMILARITY = "similarity"
    """The nearest documents."""
    SIMILARITY_SCORE_THRESHOLD = "similarity_score_threshold"
    """The nearest documents, as far as they are relevant enough."""
    MMR = "mmr"
    """Near documents that differ from each other; takes ``fetch_k`` and ``lambda_mult``."""
    KEYWORD = "keyword"
    """The documents with the words of the query (BM25)."""
    HYBRID = "hybrid"
    """Both, fused by reciprocal rank; takes ``alpha``, the weight of the nearest."""

    @classmethod
    def read(cls, name: object) -> SearchType:
        """Return the type of a name, or raise ``InvalidInputError``."""
        try:
            return cls(name)  # type: ignore[arg-type]  # any value may be tried
        except ValueError:
            raise InvalidInputError(
                f"search_type is {name!r}, expected one of: {', '.join(cls)}"
            ) from None

    def check(self, options: Mapping[str, Any]) -> None:
        """Raise ``InvalidInputError`` where an option that this type needs is missing or bad."""
        least = options.get("score_threshold")
        if least is None and self is not SearchType.SIMILARITY_SCORE_THRESHOLD:
            return
        if isinstance(least, bool) or not isinstance(least, int | float) or not 0 <= least <= 1:
            raise InvalidInputError(
                f"score_threshold is {least!r}, expected a relevance from 0 to 1"
            )

    def search(self, collection: Collection, query: str, options: Mapping[str, Any]) -> list[Hit]:
        """Search a collection with the ``search_kwargs`` of a retriever."""
        least, arguments = self._read(options)
        return _relevant(collection.search(query, **arguments), least)

    async def asearch(
        self, collection: Collection, query: str, options: Mapping[str, Any]
    ) -> list[Hit]:
        """Search a collection without blocking the event loop; see :meth:`search`."""
        least, arguments = self._read(options)
        return _relevant(await collection.asearch(query, **arguments), least)

    def _read(self, options: Mapping[str, Any]) -> tuple[float | None, dict[str, Any]]:
        self.check(options)
        arguments = {"k": _K, **options}
        arguments["where"] = read_filter(arguments.pop("filter", None))
        least = arguments.pop("score_threshold", None)
        if self is SearchType.MMR:
            arguments["candidates"] = arguments.pop("fetch_k", _FETCH_K)
            share = check_share(arguments.pop("lambda_mult", _LAMBDA_MULT), "lambda_mult")
            arguments["diversity"] = 1 - share
        elif self in {SearchType.KEYWORD, SearchType.HYBRID}:
            arguments["mode"] = self.value
        arguments.pop("fetch_k", None)  # here the filter comes before the search
        return least, arguments


def _relevant(hits: list[Hit], least: float | None) -> list[Hit]:
    return hits if least is None else [hit for hit in hits if hit.relevance >= least]
