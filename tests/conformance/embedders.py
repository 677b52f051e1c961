"""The embedders that the conformance suite is run on, and what is particular to each."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.embedders import HashingEmbedder
from tests.figures import colour_histograms
from tests.models import sentence_transformer_folder
from tests.openai_server import connect, shared_server

from nearfield.embedders import (
    CachedEmbedder,
    CallableEmbedder,
    CallableImageEmbedder,
    CombinedEmbedder,
    Embedder,
    MiniLMEmbedder,
    MultimodalEmbedder,
    QuantizedEmbedder,
    RateLimitedEmbedder,
    RetryingEmbedder,
    SentenceTransformerEmbedder,
    TruncatedEmbedder,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CASES", "Case"]

Maker = Callable[[Path], Embedder]
"""Makes an embedder, given a folder of its own."""

SAMPLES = ["a wing in supersonic flow", "heat at the stagnation point", "cats, dogs and a fox"]


@dataclass(frozen=True, slots=True)
class Case:
    """An embedder that the suite is run on.

    Attributes:
        make: Makes it.
        alike: Make others with the same vectors, and so with the same fingerprint.
        unlike: Make others with other vectors, and so with another fingerprint.
        tolerance: How far a component may vary with the batch; 0 means to the bit.
        refuses_surrogates: Whether texts that are no UTF-8 are refused.
        embeds_queries_one_by_one: Whether an error cannot tell a query's place.
        reads_beyond_its_limit: Whether a part of it reads more tokens than all of it do.
    """

    make: Maker
    alike: Sequence[Maker] = ()
    unlike: Sequence[Maker] = ()
    tolerance: float = 0.0
    refuses_surrogates: bool = True
    embeds_queries_one_by_one: bool = False
    reads_beyond_its_limit: bool = False


def drawn(texts: list[str]) -> NDArray[np.float64]:
    """Embed without a model: a text is the seed of its vector, of unequal lengths."""
    seeds = [int.from_bytes(hashlib.blake2b(text.encode()).digest()) for text in texts]
    return np.array([np.random.default_rng(seed).standard_normal(32) for seed in seeds])


async def awaited(texts: list[str]) -> NDArray[np.float64]:
    """Embed as over a network."""
    await asyncio.sleep(0.001)
    return drawn(texts)


def backwards(texts: list[str]) -> NDArray[np.float64]:
    """Embed otherwise."""
    return drawn([text[::-1] for text in texts])


def minilm(_folder: Path) -> Embedder:
    return MiniLMEmbedder(threads=3)


def hashing(dimension: int = 32, max_tokens: int | None = None) -> Maker:
    return lambda _folder: HashingEmbedder(dimension, max_tokens=max_tokens)


def function(called: object = drawn, **options: object) -> Maker:
    settings = {"name": "drawn", "dimension": 32, **options}
    return lambda _folder: CallableEmbedder(called, **settings)  # type: ignore[arg-type]


def wrapped(wrapper: Callable[..., Embedder], inner: Maker, *values: object, **options: object):
    return lambda folder: wrapper(inner(folder), *values, **options)


def cached(inner: Maker) -> Maker:
    return lambda folder: CachedEmbedder(inner(folder), folder / "embeddings.sqlite3")


def combined(*arguments: object, parts: Sequence[Maker] = (), **options: object) -> Maker:
    makers = parts or (function(), function(backwards, name="backwards"))
    return lambda folder: CombinedEmbedder([make(folder) for make in makers], *arguments, **options)  # type: ignore[arg-type]


def sentence_transformer(**options: object) -> Maker:
    return lambda _folder: SentenceTransformerEmbedder(sentence_transformer_folder(), **options)  # type: ignore[arg-type]


def multimodal(text: Maker, **options: object) -> Maker:
    def make(folder: Path) -> Embedder:
        pytest.importorskip("PIL", reason="Pillow is not installed")
        image = CallableImageEmbedder(colour_histograms, name="histograms", dimension=64)
        return MultimodalEmbedder(text=text(folder), image=image, **options)  # type: ignore[arg-type]

    return make


def langchain(_folder: Path) -> Embedder:
    pytest.importorskip("langchain_core", reason="langchain is not installed")
    door = importlib.import_module("langchain_nearfield")
    embedder: Embedder = door.LangChainEmbedder(door.NearfieldEmbeddings("minilm"))
    return embedder


def openai(**options: object) -> Maker:
    def make(_folder: Path) -> Embedder:
        pytest.importorskip("openai", minversion="3", reason="openai is not installed")
        return connect(shared_server(), over_long="truncate", **options)

    return make


int8 = QuantizedEmbedder.fitted
limited = RateLimitedEmbedder
PLENTY = 1_000_000

CASES: dict[str, Case] = {
    "minilm": Case(minilm, alike=[lambda _folder: MiniLMEmbedder(threads=1)]),
    "minilm-one-thread": Case(lambda _folder: MiniLMEmbedder(threads=1)),
    "sentence-transformers": Case(
        sentence_transformer(),
        alike=[sentence_transformer(batch_size=2, device="cpu")],
        unlike=[sentence_transformer(query_prompt="query: ")],
        tolerance=2e-6,
    ),
    "sentence-transformers-truncated": Case(
        sentence_transformer(truncate_dim=128),
        unlike=[sentence_transformer(truncate_dim=64)],
        tolerance=2e-6,
    ),
    "openai": Case(
        openai(),
        alike=[openai(batch_size=1), openai(concurrency=1), openai(encoding_format="float")],
        unlike=[
            openai(dimensions=16),
            openai(query_prompt="query: "),
            openai(document_prompt="passage: "),
        ],
    ),
    "langchain": Case(langchain, embeds_queries_one_by_one=True),
    "hashing": Case(
        hashing(), unlike=[hashing(16), hashing(max_tokens=2)], refuses_surrogates=False
    ),
    "callable": Case(
        function(),
        alike=[function(batch_size=2), function(concurrent=True), function(awaited)],
        unlike=[
            function(backwards, name="backwards"),
            function(backwards, fingerprint="drawn/2"),
            function(query_function=backwards, fingerprint="drawn/3"),
        ],
    ),
    "callable-awaited": Case(function(awaited, batch_size=3)),
    "callable-normalised": Case(
        function(normalize=True),
        unlike=[function(), function(backwards, name="other", normalize=True)],
    ),
    "cached": Case(cached(minilm), alike=[minilm]),
    "truncated": Case(
        wrapped(TruncatedEmbedder, minilm, 128),
        unlike=[minilm, wrapped(TruncatedEmbedder, minilm, 64)],
    ),
    "int8": Case(
        wrapped(int8, function(), SAMPLES),
        alike=[wrapped(int8, function(batch_size=1), SAMPLES)],
        unlike=[
            function(),
            wrapped(int8, function(), SAMPLES[:2]),
            wrapped(int8, function(), SAMPLES, quantize_queries=True),
        ],
    ),
    "binary": Case(
        wrapped(QuantizedEmbedder, function(), "binary"),
        unlike=[
            function(),
            wrapped(QuantizedEmbedder, function(), "binary", quantize_queries=True),
        ],
    ),
    "average": Case(
        combined("average", weights=[1, 3]),
        alike=[combined(weights=[2, 6])],
        unlike=[
            combined(),
            combined(weights=[1, 3], normalize=False),
            combined("concatenate", weights=[1, 3]),
        ],
    ),
    "concatenate": Case(
        combined("concatenate", parts=[hashing(16), function(backwards, name="backwards")]),
        unlike=[
            combined("concatenate", parts=[hashing(16), function()]),
            combined("concatenate", parts=[hashing(16), function()], weights=[1, 2]),
        ],
    ),
    "max": Case(combined("max"), unlike=[combined("max", normalize=False)]),
    "norm-attention": Case(
        combined("norm_attention", normalize=False), unlike=[combined("norm_attention")]
    ),
    "rate-limited": Case(
        wrapped(limited, function(), texts_per_minute=PLENTY),
        alike=[function(), wrapped(limited, function(), requests_per_minute=PLENTY, batch_size=1)],
    ),
    "retrying": Case(
        wrapped(RetryingEmbedder, function()),
        alike=[function(), wrapped(RetryingEmbedder, function(), attempts=1)],
    ),
    "multimodal": Case(
        multimodal(function()),
        alike=[multimodal(function(batch_size=1), missing="alone")],
        unlike=[function(), multimodal(function(backwards, name="backwards"))],
    ),
    # Wrappers around wrappers
    "cached-truncated": Case(cached(wrapped(TruncatedEmbedder, minilm, 64))),
    "binary-combined": Case(
        wrapped(QuantizedEmbedder, combined("concatenate"), "binary", quantize_queries=True)
    ),
    "retrying-limited-awaited": Case(
        wrapped(RetryingEmbedder, wrapped(limited, function(awaited), texts_per_minute=PLENTY))
    ),
    "combined-awaited": Case(
        combined(
            "norm_attention",
            parts=[cached(function(awaited)), wrapped(TruncatedEmbedder, minilm, 32)],
        ),
        reads_beyond_its_limit=True,
    ),
    "cached-int8-retrying-awaited": Case(
        cached(wrapped(int8, wrapped(RetryingEmbedder, function(awaited)), SAMPLES))
    ),
}
"""By name; ``pytest -k`` takes them."""
