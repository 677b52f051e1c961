"""Where rerankers are called: what they return is checked here, once, for every one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nearfield.errors import NearfieldError, RerankingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearfield.rerankers.base import Reranker

__all__ = ["rerank"]

_TOLERANCE = 1e-6
"""How far beyond 0 and 1 float32 arithmetic may lead."""


def rerank(reranker: Reranker, query: str, texts: Sequence[str]) -> NDArray[np.float64]:
    """Judge how well texts answer a query; the reranker is not called for no texts.

    Returns:
        Relevances in [0, 1], shape (len(texts),).

    Raises:
        RerankingError: The reranker failed, or broke its contract.
        NearfieldError: What else the reranker raised of nearfield's own.
    """
    if not texts:
        return np.empty(0)
    try:
        relevances = reranker.rerank(query, texts)
    except NearfieldError:
        raise
    except Exception as error:
        raise RerankingError(
            f"the reranker {reranker.name!r} failed on {len(texts)} texts: "
            f"{type(error).__name__}: {error}"
        ) from error
    return _checked(relevances, reranker.name, len(texts))


def _checked(relevances: object, name: str, count: int) -> NDArray[np.float64]:
    expected = f"numbers from 0 to 1 of shape ({count},)"
    try:
        given = np.asarray(relevances)
    except ValueError:  # ragged
        raise _breach(name, f"a {type(relevances).__name__}", expected) from None
    if given.shape != (count,) or given.dtype.kind not in "fiu":
        got = f"a {given.dtype} array of shape {given.shape} for {count} texts"
        raise _breach(name, got, expected)
    checked = given.astype(np.float64)
    outside = ~((checked >= -_TOLERANCE) & (checked <= 1 + _TOLERANCE))  # NaN is, too
    if outside.any():
        row = int(np.argmax(outside))
        raise _breach(name, f"{checked[row]} for text {row} of {count}", expected)
    return checked.clip(0.0, 1.0)


def _breach(name: str, got: str, expected: str) -> RerankingError:
    return RerankingError(
        f"the reranker {name!r} returned {got}, expected {expected}; this is a bug in the "
        "reranker, which may have to map its scores by the logistic function"
    )
