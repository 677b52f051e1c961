"""Any Python function as an embedder."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nearfield.documents import EmbeddingInfo, Metric
from nearfield.embedders.contract import check_embeddings, placed, slices
from nearfield.embedders.fingerprint import derived_fingerprint
from nearfield.embedders.unit import unit_vectors
from nearfield.errors import InvalidInputError
from nearfield.validation import check_member, check_positive, check_text, check_texts

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Function: TypeAlias = Callable[[list[str]], ArrayLike | Awaitable[ArrayLike]]
    """Takes texts and returns, or is awaited for, an array of shape (n, dimension)."""

__all__ = ["CallableEmbedder", "filled"]


class CallableEmbedder:
    """Embeds with a function of yours, synchronous or asynchronous.

    An asynchronous function is awaited by the ``a…`` methods; the others run it to its end in an
    event loop of its own, another for each call, so let it open its connections by itself there.
    A synchronous function is called on a worker thread by the ``a…`` methods.

    Args:
        function: Takes a list of texts, never an empty one, and returns their vectors in the same
            order: an array, or lists of numbers, of shape (n, dimension).
        name: What errors and a collection's record call it.
        dimension: The number of components of each vector.
        fingerprint: Change it whenever the same text gets another vector, so that a collection or
            a cache does not mix the two. When left out, the name stands for it: give a changed
            function another name then.
        query_function: For texts to search with, where those are embedded differently.
        normalize: Scale vectors to length 1.
        metric: How the vectors are to be compared.
        max_tokens: Tokens of a text that reach the vector; None where there is no limit.
        count_tokens: Counts a text's tokens, so that chunks can be fitted to ``max_tokens``.
        batch_size: The most texts in one call of the function.
        concurrent: Whether a synchronous function may be called from several threads at once.
            Otherwise calls take turns.

    Raises:
        InvalidInputError: The name is empty, or an option is out of range.
    """

    def __init__(
        self,
        function: Function,
        *,
        name: str,
        dimension: int,
        fingerprint: str | None = None,
        query_function: Function | None = None,
        normalize: bool = False,
        metric: Metric | str = Metric.COSINE,
        max_tokens: int | None = None,
        count_tokens: Callable[[str], int] | None = None,
        batch_size: int = 256,
        concurrent: bool = False,
    ) -> None:
        for what, given in {"function": function, "query_function": query_function}.items():
            if given is not None and not callable(given):
                raise InvalidInputError(f"{what} is a {type(given).__name__}, expected a function")
        identity = {"name": filled(name, "name")}
        if fingerprint is not None:
            identity = {"fingerprint": filled(fingerprint, "fingerprint")}
        dimension = check_positive(dimension, "dimension")
        self.info = EmbeddingInfo(
            model=f"callable:{name}",
            dimension=dimension,
            normalized=bool(normalize),
            metric=check_member(metric, Metric, "metric"),
            max_tokens=None if max_tokens is None else check_positive(max_tokens, "max_tokens"),
            fingerprint=derived_fingerprint(
                "callable", [], **identity, dimension=dimension, normalize=bool(normalize)
            ),
        )
        self.slice_size = check_positive(batch_size, "batch_size")
        if count_tokens is not None:  # an embedder that cannot count tokens must not seem to
            self.count_tokens = count_tokens
        self._function = function
        self._query_function = query_function or function
        self._turns: AbstractContextManager[object] = (
            nullcontext() if concurrent else threading.Lock()
        )

    def __repr__(self) -> str:
        return f"CallableEmbedder({self.info.model.partition(':')[2]!r})"

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to be stored.

        Raises:
            InvalidDocumentError: A text is no ``str`` or has a lone surrogate.
            EmbeddingError: The function returned what is no embedding for each text, or, to be
                normalised, a vector that is zero.
        """
        return self._embed(self._function, texts)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to search with; as :meth:`embed_documents`."""
        return self._embed(self._query_function, texts)

    async def aembed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to be stored without blocking the event loop."""
        return await self._aembed(self._function, texts)

    async def aembed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to search with, without blocking the event loop."""
        return await self._aembed(self._query_function, texts)

    def _embed(self, function: Function, texts: Sequence[str]) -> NDArray[np.float32]:
        parts = []
        for places, batch in self._batches(texts):
            with placed(places):
                returned = self._call(function, batch)
                vectors = _run(returned) if isinstance(returned, Awaitable) else returned
                parts.append(self._checked(vectors, places))
        return self._finished(parts)

    async def _aembed(self, function: Function, texts: Sequence[str]) -> NDArray[np.float32]:
        parts = []
        for places, batch in self._batches(texts):
            with placed(places):
                if _is_asynchronous(function):
                    returned = function(batch)
                else:
                    returned = await asyncio.to_thread(self._call, function, batch)
                vectors = await returned if isinstance(returned, Awaitable) else returned
                parts.append(self._checked(vectors, places))
        return self._finished(parts)

    def _batches(self, texts: Sequence[str]) -> list[tuple[range, list[str]]]:
        checked = check_texts(texts)
        cut = slices(checked, self.slice_size) if checked else ()
        return [(places, list(batch)) for places, batch in cut]

    def _call(self, function: Function, batch: list[str]) -> ArrayLike | Awaitable[ArrayLike]:
        with self._turns:
            return function(batch)

    def _checked(self, vectors: object, places: range) -> NDArray[np.float32]:
        as_returned = replace(self.info, normalized=False)
        return check_embeddings(vectors, count=len(places), info=as_returned, start=places.start)

    def _finished(self, parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        vectors = np.concatenate([np.empty((0, self.info.dimension), np.float32), *parts])
        if not self.info.normalized:
            return vectors
        return unit_vectors(vectors, reason="let the function return another, or normalize=False")


def filled(text: object, name: str) -> str:
    """Return a text that tells one function from others, or raise ``InvalidInputError``."""
    if checked := check_text(text, what=name):
        return checked
    raise InvalidInputError(f"{name} is empty; give one that tells this function from others")


def _is_asynchronous(function: Function) -> bool:
    method = type(function).__call__  # of an object that can be called
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(method)


def _run(vectors: Awaitable[ArrayLike]) -> ArrayLike:
    """Await what an asynchronous function returned, also beneath a running event loop."""

    async def wait() -> ArrayLike:
        return await vectors

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, wait()).result()
