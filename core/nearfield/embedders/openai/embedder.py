"""The embedder: what is asked of a server, and what becomes of the answers."""

from __future__ import annotations

import asyncio
import threading
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import numpy as np

from nearfield.closing import Closing
from nearfield.embedders.forks import begin_anew_after_fork
from nearfield.embedders.openai import tokens
from nearfield.embedders.openai.batches import pack
from nearfield.embedders.openai.models import MAX_REQUEST_TOKENS
from nearfield.embedders.openai.secret import Secret
from nearfield.embedders.openai.settings import (
    BATCH_SIZE,
    EncodingFormat,
    OverLong,
    Settings,
)
from nearfield.embedders.openai.usage import Usage, UsageCounter
from nearfield.embedders.unit import lengths
from nearfield.errors import (
    ClosedError,
    EmbeddingError,
    InvalidDocumentError,
    InvalidInputError,
    MissingDependencyError,
)
from nearfield.validation import check_positive, check_seconds, check_text, check_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearfield.documents import EmbeddingInfo
    from nearfield.embedders.openai.clients import Clients
    from nearfield.embedders.openai.exchange import Course, Exchange

__all__ = ["OpenAIEmbedder"]

_LEAST_VERSION = 3
"""Of the openai package."""
_EMPTY = " "
"""Sent in place of an empty text, which the API refuses."""


class OpenAIEmbedder(Closing):
    """Embeds with a model of OpenAI's, or with any other behind a server with the same API.

    Texts are sent in batches, several at once. A request is repeated after 429, 5xx, a timeout or
    a broken connection, with growing pauses or those the server asks for, and after nothing else.
    May be shared by threads and event loops, and used after a fork. Close it, or use it in a
    ``with`` block, to close its connections; those of an event loop end with the loop.

    An empty text is embedded as one space. The service's vectors of a text vary a little from
    request to request.

    Args:
        model: The model's name on the server, such as ``"text-embedding-3-small"``.
        api_key: The key; None means the variable ``OPENAI_API_KEY``, which is sent to OpenAI, to
            this machine and to the server that ``OPENAI_BASE_URL`` names, and to no other; so
            are the other variables of OpenAI's client.
        base_url: Another server, such as ``"http://127.0.0.1:8080/v1"``; None means the variable
            ``OPENAI_BASE_URL``, and OpenAI where that is not set.
        dimensions: Ask the model for fewer components, if it was trained for it (Matryoshka).
        dimension: How many components the vectors of a model have that is not known here; None
            learns it from the first answer, and ``info`` sends a request for it if there was none.
        space: Which model it is, where the name on the server does not say: a name of OpenAI's
            for a deployment of it elsewhere; or a name of your own for one model on two servers.
        normalize: Scale vectors to length 1. With False they stay as the server sends them.
        query_prompt: Put before every query.
        document_prompt: Put before every document.
        over_long: What becomes of a text with more tokens than the model reads, ``"refuse"`` or
            ``"truncate"``, which embeds its first half, or the first half of that, and so on.
            Where the model is OpenAI's and tiktoken has its vocabulary, tokens are counted
            before anything is sent; elsewhere the server says what is too long.
        max_tokens: What a model that is not known here reads of a text, for ``info``.
        batch_size: Texts in a request at most, up to 2,048.
        concurrency: Requests under way at once, of all threads, and again of each event loop.
        max_retries: How often a request is repeated at most.
        timeout_s: How long an attempt may take.
        deadline_s: How long a request may take, with its retries and the pauses between.
        encoding_format: How vectors are sent, ``"base64"`` or ``"float"``.

    Raises:
        MissingDependencyError: openai 3 is not installed.
        InvalidInputError: An option is out of range, the address has a secret in it, or the model
            has no vectors of that dimension.
    """

    def __init__(
        self,
        model: str = "text-embedding-3-small",
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        dimensions: int | None = None,
        dimension: int | None = None,
        space: str | None = None,
        normalize: bool = True,
        query_prompt: str = "",
        document_prompt: str = "",
        over_long: OverLong | str = OverLong.REFUSE,
        max_tokens: int | None = None,
        batch_size: int = BATCH_SIZE,
        concurrency: int = 4,
        max_retries: int = 6,
        timeout_s: float = 60.0,
        deadline_s: float = 300.0,
        encoding_format: EncodingFormat | str = EncodingFormat.BASE64,
    ) -> None:
        _check_package()
        self._settings = Settings.checked(
            model=model,
            base_url=base_url,
            space=space,
            dimensions=dimensions,
            dimension=dimension,
            normalize=bool(normalize),
            query_prompt=query_prompt,
            document_prompt=document_prompt,
            over_long=over_long,
            max_tokens=max_tokens,
            batch_size=batch_size,
            encoding_format=encoding_format,
        )
        self._api_key = None if api_key is None else Secret.of(api_key, "api_key")
        self._concurrency = check_positive(concurrency, "concurrency")
        self._max_retries = _check_retries(max_retries)
        self._timeout_s = check_seconds(timeout_s, "timeout_s")
        self._deadline_s = check_seconds(deadline_s, "deadline_s")
        self._dimension = self._settings.dimension
        self._usage = UsageCounter()
        self._connection: tuple[Clients, Exchange] | None = None
        self._closed = False
        self.begin_anew()
        begin_anew_after_fork(self)
        # Not a method: without the vocabulary it must not seem to count.
        if self._settings.known is not None and tokens.is_vocabulary_here():
            self.count_tokens = self._count_tokens

    def __repr__(self) -> str:
        return f"OpenAIEmbedder({self._settings.name(self._dimension)!r})"

    @property
    def info(self) -> EmbeddingInfo:
        """The space the vectors live in.

        Of a model that is not known here, and whose dimension was neither given nor seen in an
        answer, the first use sends a request.

        The fingerprint covers the model, the dimension, the prompts and the options that change
        vectors. OpenAI's models are the same in every region; of another server the address
        belongs to the fingerprint, unless ``space`` names the model.
        """
        if self._dimension is None:
            self._embed([_EMPTY], "")
        return self._settings.info(self._dimension or 0)

    @property
    def usage(self) -> Usage:
        """Requests sent and tokens charged so far."""
        return self._usage.total

    @property
    def slice_size(self) -> int:
        """Texts that keep all connections busy."""
        return self._settings.batch_size * self._concurrency

    @property
    def request_size(self) -> int:
        """Texts in one request at most; fewer where they are long."""
        return self._settings.batch_size

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to be stored.

        Returns:
            C-contiguous float32 array of shape (len(texts), dimension), in the order given.

        Raises:
            InvalidDocumentError: A text is no ``str``, has a lone surrogate, or is too long.
            EmbeddingError: The server could not be reached, refused, or sent something else than
                one finite vector of the right dimension for each text.
            ClosedError: The embedder was closed.
        """
        return self._embed(texts, self._settings.document_prompt)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to search with; as :meth:`embed_documents`."""
        return self._embed(texts, self._settings.query_prompt)

    async def aembed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to be stored without blocking the event loop."""
        return await self._aembed(texts, self._settings.document_prompt)

    async def aembed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to search with, without blocking the event loop."""
        return await self._aembed(texts, self._settings.query_prompt)

    def close(self) -> None:
        """Close the connections; those of an event loop when it next runs. Twice is fine."""
        with self._lock:
            self._closed = True
        if self._connection is not None:
            self._connection[0].close()

    async def aclose(self) -> None:
        """Close the connections. Twice is fine."""
        with self._lock:
            self._closed = True
        if self._connection is not None:
            await self._connection[0].aclose()

    def begin_anew(self) -> None:
        """Forget, in a forked child, a thread of the parent that was connecting."""
        self._lock = threading.Lock()

    def _embed(self, texts: Sequence[str], prompt: str) -> NDArray[np.float32]:
        if not len(texts):
            return np.empty((0, self.info.dimension), dtype=np.float32)
        clients, courses = self._begin(texts, prompt)
        return np.concatenate(clients.run(courses))

    async def _aembed(self, texts: Sequence[str], prompt: str) -> NDArray[np.float32]:
        if not len(texts):
            if self._dimension is None:
                await self._aembed([_EMPTY], "")
            return np.empty((0, self.info.dimension), dtype=np.float32)
        # On a thread: tokens may have to be counted, and the first call imports the client.
        clients, courses = await asyncio.to_thread(self._begin, texts, prompt)
        return np.concatenate(await clients.arun(courses))

    def _begin(
        self, texts: Sequence[str], prompt: str
    ) -> tuple[Clients, list[Course[NDArray[np.float32]]]]:
        """Check the texts and put them together to requests."""
        checked = check_texts(texts)
        clients, exchange = self._connect()
        sent = [self._fitted(prompt + text or _EMPTY, at) for at, text in enumerate(checked)]
        # A token has at least one byte, so that bytes are never too few. Counting tokens would
        # take longer than the requests it would save.
        sizes = [len(text.encode()) for text in sent]
        runs = pack(sizes, max_inputs=self._settings.batch_size, max_size=MAX_REQUEST_TOKENS)
        return clients, [exchange.embed([sent[at] for at in run], [*run]) for run in runs]

    def _fitted(self, text: str, position: int) -> str:
        """Cut or refuse what the server would, where tokens can be counted; see ``Exchange``."""
        from nearfield.embedders.openai.exchange import shorter

        limit = self._settings.max_tokens
        if limit is None or not hasattr(self, "count_tokens"):
            return text
        while len(text.encode()) > limit:
            count = tokens.count_tokens(text)
            if count <= limit:
                break
            if self._settings.over_long is OverLong.REFUSE:
                raise InvalidDocumentError(
                    f"text of {count} tokens is too long for {self._settings.model!r}, which reads "
                    f"{limit} (document {position} of the batch); split it, or "
                    "let it be cut with over_long='truncate'",
                    position=position,
                )
            text = shorter(text)
        return text

    def _count_tokens(self, text: str) -> int:
        """Count a document's tokens, its prompt included."""
        return tokens.count_tokens(self._settings.document_prompt + check_text(text))

    def _connect(self) -> tuple[Clients, Exchange]:
        from nearfield.embedders.openai.clients import Clients, Target
        from nearfield.embedders.openai.exchange import Exchange

        with self._lock:
            if self._closed:
                raise ClosedError("this OpenAIEmbedder was closed; make a new one")
            if self._connection is None:
                key = self._key()
                target = Target(
                    url=self._settings.address.url,
                    trusted=self._settings.address.is_trusted,
                    key=key,
                    model=self._settings.model,
                    dimensions=self._settings.dimensions,
                    encoding_format=self._settings.encoding_format.value,
                )
                exchange = Exchange(
                    model=self._settings.model,
                    server=self._settings.address.place,
                    key=key,
                    timeout_s=self._timeout_s,
                    deadline_s=self._deadline_s,
                    max_retries=self._max_retries,
                    truncates=self._settings.over_long is OverLong.TRUNCATE,
                    accept=self._accept,
                    usage=self._usage,
                )
                self._connection = Clients(target, concurrency=self._concurrency), exchange
            return self._connection

    def _key(self) -> Secret | None:
        if self._api_key is not None:
            return self._api_key
        key = self._settings.address.environment_key()
        if key is not None:
            return Secret.of(key, "the variable OPENAI_API_KEY")
        if self._settings.address.is_openai:
            raise EmbeddingError(
                "there is no key for OpenAI: set the variable OPENAI_API_KEY, or pass api_key="
            )
        return None

    def _accept(self, vectors: NDArray[np.float32]) -> None:
        """Check the dimension of an answer, or learn it from the first; scale to length 1."""
        got = vectors.shape[1]
        with self._lock:
            expected = self._dimension = self._dimension or got
        if got != expected:
            raise EmbeddingError(
                f"{self._settings.address.place} sent vectors of {got} components for "
                f"{self._settings.model!r}, expected {expected}; check the model's name, "
                "dimensions= and dimension="
            )
        if not self._settings.normalize:
            return
        norms = lengths(vectors)
        if not norms.all():
            raise EmbeddingError(
                f"{self._settings.address.place} sent a vector of zeros, which has no direction; "
                "normalize=False takes it as it is"
            )
        np.divide(vectors, norms, out=vectors, casting="same_kind")


def _check_retries(max_retries: object) -> int:
    if isinstance(max_retries, int) and not isinstance(max_retries, bool) and max_retries >= 0:
        return max_retries
    raise InvalidInputError(f"max_retries is {max_retries!r}, expected 0 or more")


def _check_package() -> None:
    try:
        major = int(version("openai").partition(".")[0])
    except PackageNotFoundError:
        major = 0
    if major < _LEAST_VERSION:
        raise MissingDependencyError("openai>=3", extra="openai", purpose="OpenAIEmbedder")
