"""A cache of embeddings in one SQLite file: a text is embedded once, by whomever."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from nearfield.embedders import contract
from nearfield.embedders.vector_file import VectorFile
from nearfield.embedders.wrapper import Wrapper
from nearfield.errors import InvalidInputError
from nearfield.validation import check_texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from nearfield.documents import EmbeddingInfo
    from nearfield.embedders.base import Embedder

__all__ = ["CachedEmbedder"]

_LEAST_BYTES = 1 << 20
_BATCH = 512
"""Texts embedded and stored together: what a killed process has to embed again."""


class CachedEmbedder(Wrapper):
    """Keeps the vectors of documents, so that each text is embedded once.

    Queries are passed on and not kept: they rarely repeat, and one is quick to embed. So are
    images. Any number of embedders, threads and processes may share a file. It is disposable: a
    damaged entry is embedded again; a damaged file, or one that is no cache, is renamed to
    ``….set-aside-1`` and begun anew; where nothing can be stored, texts are embedded all the
    same. The log tells. A killed process loses at most the last 512 texts.

    Args:
        embedder: Makes the vectors, and stays open. ``info.fingerprint`` tells its vectors from
            others in the same file, so it must not be empty.
        path: The file; its folder is made.
        max_bytes: The size to keep the file to, a write-ahead log of a few megabytes apart. What
            has not been used for longest goes first, whoever stored it. None means no bound.

    Raises:
        InvalidInputError: The path is a folder, or the bound below 1 MiB. At the first use: the
            embedder has no fingerprint.

    Attributes:
        hits: Documents whose vectors were in the cache, or repeated within a call.
        misses: Documents that had to be embedded.
    """

    def __init__(
        self, embedder: Embedder, path: str | os.PathLike[str], *, max_bytes: int | None = None
    ) -> None:
        if max_bytes is not None and max_bytes < _LEAST_BYTES:
            raise InvalidInputError(
                f"max_bytes is {max_bytes}, expected at least {_LEAST_BYTES} (1 MiB), or None"
            )
        if Path(path).is_dir():
            raise InvalidInputError(
                f"the embedding cache {os.fspath(path)!r} is a folder; name a file in it"
            )
        super().__init__(embedder)
        self._file = VectorFile(Path(path), max_bytes)
        self._counters = threading.Lock()
        self.hits = 0
        self.misses = 0

    def __repr__(self) -> str:
        return f"CachedEmbedder({self._embedder!r}, {os.fspath(self._file.path)!r})"

    @property
    def embedder(self) -> Embedder:
        """What makes the vectors that are not in the cache."""
        return self._embedder

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Look vectors up, and embed and keep those that are missing.

        Raises:
            ClosedError: The cache was closed.
            EmbeddingError: The embedder failed or broke its contract; its batches before are kept.
        """
        work = self._look_up(texts)
        for keys in work.batches():
            with contract.placed(work.places_of(keys)):
                vectors = contract.embed_documents(self._embedder, work.texts_of(keys))
            self._keep(work, keys, vectors)
        return work.vectors

    async def aembed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to be stored without blocking the event loop."""
        work = await asyncio.to_thread(self._look_up, texts)
        for keys in work.batches():
            with contract.placed(work.places_of(keys)):
                vectors = await contract.aembed_documents(self._embedder, work.texts_of(keys))
            await asyncio.to_thread(self._keep, work, keys, vectors)
        return work.vectors

    def close(self) -> None:
        """Close the file; the embedder stays open. Closing twice is fine."""
        self._file.close()

    def _look_up(self, texts: Sequence[str]) -> _Work:
        texts = check_texts(texts)
        info = self.info
        prefix = _prefix(info)
        keys = [_key(prefix, text) for text in texts]
        stored = self._file.get(list(dict.fromkeys(keys)))
        vectors = np.empty((len(texts), info.dimension), dtype=np.float32)
        missing: dict[bytes, list[int]] = {}
        for position, key in enumerate(keys):
            vector = stored.get(key)
            if vector is None or len(vector) != vectors.itemsize * info.dimension:
                missing.setdefault(key, []).append(position)
            else:
                vectors[position] = np.frombuffer(vector, dtype="<f4")
        with self._counters:
            self.hits += len(texts) - len(missing)
            self.misses += len(missing)
        return _Work(texts, vectors, missing)

    def _keep(self, work: _Work, keys: list[bytes], vectors: NDArray[np.float32]) -> None:
        for key, vector in zip(keys, vectors, strict=True):
            work.vectors[work.missing[key]] = vector
        rows = vectors.astype("<f4", copy=False)
        self._file.put({key: row.tobytes() for key, row in zip(keys, rows, strict=True)})


@dataclass(frozen=True, slots=True)
class _Work:
    """A call's texts, their vectors as far as they are known, and where the others belong."""

    texts: list[str]
    vectors: NDArray[np.float32]
    missing: dict[bytes, list[int]]

    def batches(self) -> Iterator[list[bytes]]:
        keys = iter(self.missing)
        while batch := list(islice(keys, _BATCH)):
            yield batch

    def places_of(self, keys: list[bytes]) -> list[int]:
        return [self.missing[key][0] for key in keys]

    def texts_of(self, keys: list[bytes]) -> list[str]:
        return [self.texts[place] for place in self.places_of(keys)]


def _prefix(info: EmbeddingInfo) -> bytes:
    if not info.fingerprint:
        raise InvalidInputError(
            f"the embedder {info.model!r} has no fingerprint, so its vectors could not be told "
            "from another's in the cache; give its info a fingerprint that changes whenever a "
            "text would get another vector"
        )
    identity = json.dumps([info.fingerprint, info.dimension, info.normalized, "document"])
    return hashlib.sha256(identity.encode()).digest()


def _key(prefix: bytes, text: str) -> bytes:
    return hashlib.sha256(prefix + hashlib.sha256(text.encode()).digest()).digest()
