"""What a search asks: its queries and options, checked before anything is embedded or read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.documents import SearchMode
from nearfield.embedders.images import is_image
from nearfield.errors import InvalidInputError, InvalidVectorError
from nearfield.filters import parse
from nearfield.rerankers.base import Reranker
from nearfield.stores.base import Include, SearchRequest
from nearfield.validation import check_ids, check_positive, check_text, check_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.embedders.base import ImageLike
    from nearfield.filters import Filter
    from nearfield.stores.base import CollectionInfo

__all__ = [
    "DEFAULT_PARTS",
    "Queries",
    "SearchOptions",
    "list_queries",
    "read_include",
    "read_queries",
]

DEFAULT_PARTS = ("text", "metadata")
"""What comes back of a document when nothing else is asked for."""
_DEFAULT_INCLUDE = Include()
_PARTS = ("text", "metadata", "embedding")
_POOL = 4
"""Candidates per hit to rerank or to pick diverse hits from, unless told, and 50 at least."""


@dataclass(frozen=True, slots=True)
class Queries:
    """One or more queries.

    Attributes:
        texts: One text each, or None when only vectors or images were given.
        vectors: float32 of shape (n, dimension), or None when the others are still to be embedded.
        images: One image each, or None when they are of another kind.
    """

    texts: tuple[str, ...] | None
    vectors: NDArray[np.float32] | None
    images: tuple[ImageLike, ...] | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The texts, none when only vectors were given."""
        return self.texts or ()


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """All that several queries of one search share; see ``Collection.search``."""

    k: int
    where: Filter | None
    ids: tuple[str, ...] | None
    mode: SearchMode
    alpha: float
    min_score: float | None
    reranker: Reranker | None
    diversity: float | None
    candidates: int
    include: Include

    @classmethod
    def checked(
        cls,
        *,
        k: object,
        where: Any = None,
        ids: Any = None,
        mode: object = SearchMode.VECTOR,
        alpha: object = 0.5,
        min_score: object = None,
        rerank: object = None,
        diversity: object = None,
        candidates: object = None,
        include: Iterable[str] = DEFAULT_PARTS,
    ) -> SearchOptions:
        """Check each option, or raise ``InvalidInputError``."""
        hits = check_positive(k, "k")
        if diversity is not None:
            diversity = _read_fraction(diversity, "diversity", "0 (relevance alone) to 1")
        elif candidates is not None and rerank is None:
            raise InvalidInputError(
                "candidates is for a search with rerank= or diversity=; leave it out"
            )
        return cls(
            hits,
            parse(where),
            None if ids is None else tuple(check_ids(ids)),
            _read_mode(mode),
            _read_fraction(alpha, "alpha", "0 (words alone) to 1 (vectors alone)"),
            None if min_score is None else _read_number(min_score, "min_score"),
            _read_reranker(rerank),
            diversity,
            _read_candidates(candidates, hits),
            read_include(include),
        )

    @property
    def needs_vectors(self) -> bool:
        """Whether queries must be embedded."""
        return self.mode is not SearchMode.KEYWORD

    def request(self, queries: Queries, *, spare: int = 0) -> SearchRequest:
        """Return what to ask the store, for ``spare`` more hits than are wanted."""
        reranked, diverse = self.reranker is not None, self.diversity is not None
        k, include = self.k, self.include
        if reranked or diverse:
            k = self.candidates
            include = Include(
                include.text or reranked, include.metadata, include.embedding or diverse
            )
        return SearchRequest(
            mode=self.mode,
            k=k + spare,
            vectors=queries.vectors if self.needs_vectors else None,
            texts=queries.texts if self.mode is not SearchMode.VECTOR else None,
            where=self.where,
            ids=self.ids,
            alpha=self.alpha,
            min_score=None if reranked else self.min_score,  # it is for the reranker's scores
            include=include,
        )


def list_queries(queries: Any) -> Any:
    """Return several queries as an array or a list, or raise ``InvalidInputError``."""
    if isinstance(queries, np.ndarray) and queries.ndim:
        return queries
    if isinstance(queries, str | bytes | Mapping) or not np.iterable(queries):
        raise InvalidInputError(
            f"expected several queries, texts, images or vectors, got {type(queries).__name__}; "
            "for one query there is search"
        )
    return list(queries)


def read_queries(queries: Any, vectors: Any, mode: SearchMode, info: CollectionInfo) -> Queries:
    """Tell texts, images and vectors apart and check them.

    Args:
        queries: Texts, images or vectors, all of one kind; None entries where only vectors are
            given.
        vectors: The embeddings of the texts, shape (n, dimension), or None.
        mode: What the queries are for.
        info: The collection they are for.
    """
    texts = None
    are_texts = [isinstance(query, str) for query in queries]
    if all(are_texts):
        texts = tuple(check_text(query, what="query") for query in queries)
    elif any(are_texts):
        raise InvalidInputError(
            "the queries are a mixture of texts and vectors or images; search for each"
        )
    elif not isinstance(queries, np.ndarray) and any(is_image(query) for query in queries):
        return _read_images(queries, vectors, mode)
    elif vectors is None:
        if any(query is None for query in queries):
            raise InvalidInputError("there is no query: pass a text, an image, a vector, or like=")
        vectors = queries
    elif any(query is not None for query in queries):
        raise InvalidInputError("the query is a vector, and vector= gives another; pass one")
    if texts is None and mode is not SearchMode.VECTOR:
        raise InvalidInputError(
            f"a {mode} search matches words, and the query is a vector; pass a text, with its "
            "embedding as vector= if you have it"
        )
    if vectors is None:
        return Queries(texts, None)
    checked = check_vectors(
        _stacked(vectors),
        dimension=info.embedding.dimension,
        metric=info.metric,
        what="query vector",
    )
    if len(checked) != len(queries):
        raise InvalidInputError(f"{len(checked)} vectors were given for {len(queries)} queries")
    return Queries(texts, checked)


def _read_images(queries: Any, vectors: Any, mode: SearchMode) -> Queries:
    if not all(is_image(query) for query in queries):
        raise InvalidInputError("the queries are a mixture of images and vectors; search for each")
    if vectors is not None:
        raise InvalidInputError("the query is an image, and vector= gives another; pass one")
    if mode is not SearchMode.VECTOR:
        raise InvalidInputError(
            f"a {mode} search matches words, and the query is an image; pass a text"
        )
    return Queries(None, None, tuple(queries))


def read_include(include: Iterable[str]) -> Include:
    """Read the names of document parts, or raise ``InvalidInputError``."""
    if include is DEFAULT_PARTS:
        return _DEFAULT_INCLUDE
    if not isinstance(include, Iterable):
        raise InvalidInputError(
            f"include must be a list of parts, got {type(include).__name__}; expected any of: "
            f"{', '.join(_PARTS)}"
        )
    names = [include] if isinstance(include, str) else list(include)
    unknown = [name for name in names if name not in _PARTS]
    if unknown:
        raise InvalidInputError(f"include has {unknown[0]!r}, expected any of: {', '.join(_PARTS)}")
    return Include(**{part: part in names for part in _PARTS})


def _stacked(vectors: Any) -> Any:
    """Join a list of vectors to one array; anything else is left to be judged as it is."""
    if not isinstance(vectors, list | tuple):
        return vectors
    try:
        rows = [np.asarray(row) for row in vectors]
        # One query as a row of its own is what embedders return for it.
        rows = [row[0] if row.shape[:-1] == (1,) else row for row in rows]
        return rows[0][np.newaxis] if len(rows) == 1 else np.asarray(rows)
    except ValueError:
        raise InvalidVectorError(
            "the query vectors differ in length, expected one dimension for all"
        ) from None


def _read_mode(mode: object) -> SearchMode:
    if isinstance(mode, SearchMode):
        return mode
    try:
        return SearchMode(mode)  # type: ignore[arg-type]  # any value may be tried
    except ValueError:
        raise InvalidInputError(
            f"mode is {mode!r}, expected one of: {', '.join(SearchMode)}"
        ) from None


def _read_number(value: object, name: str) -> float:
    is_real = isinstance(value, int | float | np.integer | np.floating)
    if not is_real or isinstance(value, bool):
        raise InvalidInputError(f"{name} must be a real number, got {type(value).__name__}")
    try:
        number = float(value)  # type: ignore[arg-type]  # narrowed by `is_real`
    except OverflowError:
        raise InvalidInputError(f"{name} is beyond the range of a float") from None
    if math.isnan(number):
        raise InvalidInputError(f"{name} is NaN, expected a number")
    return number


def _read_fraction(value: object, name: str, expected: str) -> float:
    number = _read_number(value, name)
    if not 0.0 <= number <= 1.0:
        raise InvalidInputError(f"{name} is {number}, expected {expected}")
    return number


def _read_reranker(value: object) -> Reranker | None:
    if value is None or (isinstance(value, Reranker) and not isinstance(value, type)):
        return value
    if isinstance(value, str):
        raise InvalidInputError(
            f"rerank is the name {value!r}, expected a reranker; load it once and keep it: "
            f"nearfield.rerankers.load({value!r})"
        )
    raise InvalidInputError(
        f"rerank is of type {type(value).__name__}, expected an object with the methods of "
        "nearfield.rerankers.Reranker"
    )


def _read_candidates(value: object, k: int) -> int:
    if value is None:
        return max(_POOL * k, 50)
    return max(check_positive(value, "candidates"), k)
