"""The two sets of vectors that approximate search is measured on.

``load_clusters`` makes synthetic clusters. ``load_glosses`` embeds the definitions of WordNet with
the default embedder; its queries are WordNet's example sentences, which no base text contains.
Run with ``python -m benchmarks.vectors --cache FOLDER`` to make both in advance.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nearfield.embedders import MiniLMEmbedder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

DIMENSION = 384
QUERIES = 1_000
SEED = 20261

_CLUSTERS = 1_000
_LOCAL_DIMENSION = 48
_SHARED_DIMENSION = 96
_SIZE_SIGMA = 1.0
_SPREAD_SIGMA = 0.35
_NOISE = 0.25
"""Length of the part of a vector's deviation that has all dimensions, of the whole deviation's."""

WORDNET_VARIABLE = "NEARFIELD_WORDNET"
_WORDNET_FOLDER = Path("/usr/share/wordnet")
_PARTS = ("noun", "verb", "adj", "adv")
_MARKER = re.compile(r"\((?:a|p|ip)\)$")
"""Where an adjective stands; see wndb(5WN)."""
_EXAMPLE = re.compile(r'"([^"]+)"')
_SHORTEST_EXAMPLE_WORDS = 4


class WordNetMissingError(LookupError):
    """WordNet's files are not in the folder."""


@dataclass(frozen=True, slots=True)
class VectorSet:
    """Vectors to search, and held-out queries.

    Attributes:
        name: For tables.
        base: float32 of shape (n, DIMENSION), of length 1.
        queries: float32 of shape (QUERIES, DIMENSION), of length 1, none of them in ``base``.
    """

    name: str
    base: NDArray[np.float32]
    queries: NDArray[np.float32]


def load_clusters(cache: Path, *, count: int = 200_000) -> VectorSet:
    """Load the synthetic clusters, the same on every machine; make them if they are not cached.

    A mixture of 1,000 Gaussians whose sizes and spreads are log-normal. The centers lie in a
    space of 96 dimensions. A cluster deviates from its center by as much as the center is long,
    at the median, in 48 dimensions of its own with slowly falling variances (their participation
    ratio is 35), and a little in all. Queries are drawn from the same mixture.
    """
    suffix = "" if count == 200_000 else f"-{count}"
    base, queries = cache / f"clusters{suffix}.npy", cache / f"cluster_queries{suffix}.npy"
    if not (base.exists() and queries.exists()):
        vectors = _mixture(count + QUERIES)
        cache.mkdir(parents=True, exist_ok=True)
        _save(base, vectors[QUERIES:])
        _save(queries, vectors[:QUERIES])
    return VectorSet("clusters", np.load(base), np.load(queries))


def load_glosses(
    cache: Path, *, wordnet: Path | None = None, threads: int | None = None
) -> VectorSet:
    """Load the embeddings of WordNet's 117,659 synsets; embed them if they are not cached.

    Args:
        cache: Folder of the arrays ``glosses.npy`` and ``gloss_queries.npy``, and of
            ``glosses.json`` with their texts.
        wordnet: Folder with the files ``data.noun`` and so on; by default what the environment
            variable NEARFIELD_WORDNET says, else ``/usr/share/wordnet``.
        threads: Of the embedder.

    Raises:
        WordNetMissingError: The texts are not cached and the folder has no WordNet.
    """
    record, base, queries = (
        cache / name for name in ("glosses.json", "glosses.npy", "gloss_queries.npy")
    )
    embedder = MiniLMEmbedder(threads)
    fingerprint = embedder.info.fingerprint
    if record.exists() and json.loads(record.read_bytes())["embedder"] == fingerprint:
        return VectorSet("glosses", np.load(base), np.load(queries))
    texts, sentences = read_wordnet(wordnet)
    cache.mkdir(parents=True, exist_ok=True)
    _save(base, embedder.embed_documents(texts))
    _save(queries, embedder.embed_queries(sentences))
    # The last file, so that an interrupted run is not taken for a complete one.
    record.write_text(
        json.dumps({"embedder": fingerprint, "texts": texts, "queries": sentences}), "utf-8"
    )
    return VectorSet("glosses", np.load(base), np.load(queries))


def read_wordnet(folder: Path | None = None) -> tuple[list[str], list[str]]:
    """Read each synset's words and definition, and 1,000 example sentences of four words or more.

    Raises:
        WordNetMissingError: The folder has no WordNet.
    """
    folder = folder or Path(os.environ.get(WORDNET_VARIABLE) or _WORDNET_FOLDER)
    if missing := [part for part in _PARTS if not (folder / f"data.{part}").exists()]:
        raise WordNetMissingError(
            f"WordNet's data.{missing[0]} is not in {folder}; install it with: apt-get install "
            f"wordnet-base, or name its folder in the environment variable {WORDNET_VARIABLE}"
        )
    texts: list[str] = []
    examples: set[str] = set()
    for words, gloss in _synsets(folder):
        examples.update(
            example
            for example in _EXAMPLE.findall(gloss)
            if len(example.split()) >= _SHORTEST_EXAMPLE_WORDS
        )
        definition = _EXAMPLE.sub("", gloss).strip(" ;:-")
        texts.append(f"{', '.join(words)}: {definition}")
    drawn = np.random.default_rng(SEED).choice(len(examples), QUERIES, replace=False)
    ordered = sorted(examples)
    return texts, [ordered[number] for number in drawn]


def load_all(cache: Path) -> Iterator[VectorSet]:
    """Iterate over both sets; without WordNet, say so on stderr and go on without the glosses."""
    yield load_clusters(cache)
    try:
        yield load_glosses(cache)
    except WordNetMissingError as error:
        print(f"SKIPPED the glosses: {error}", file=sys.stderr)


def _synsets(folder: Path) -> Iterator[tuple[list[str], str]]:
    for part in _PARTS:
        for line in (folder / f"data.{part}").read_text("utf-8").splitlines():
            if line.startswith("  "):  # the license
                continue
            data, _, gloss = line.partition(" | ")
            fields = data.split()
            count = int(fields[3], 16)
            words = fields[4 : 4 + 2 * count : 2]
            yield [_MARKER.sub("", word).replace("_", " ") for word in words], gloss.strip()


def _mixture(count: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(SEED)
    sizes = rng.lognormal(sigma=_SIZE_SIGMA, size=_CLUSTERS)
    labels = rng.choice(_CLUSTERS, size=count, p=sizes / sizes.sum())
    spreads = rng.lognormal(sigma=_SPREAD_SIGMA, size=_CLUSTERS)
    shared = rng.normal(size=(_SHARED_DIMENSION, DIMENSION)) / np.sqrt(DIMENSION)
    centers = _unit(rng.normal(size=(_CLUSTERS, _SHARED_DIMENSION)) @ shared)
    deviations = np.arange(1, _LOCAL_DIMENSION + 1) ** -0.25
    deviations /= np.linalg.norm(deviations)
    vectors = np.empty((count, DIMENSION), dtype=np.float32)
    for cluster in range(_CLUSTERS):
        rows = np.flatnonzero(labels == cluster)
        basis = rng.normal(size=(_LOCAL_DIMENSION, DIMENSION)) / np.sqrt(DIMENSION)
        local = (rng.normal(size=(len(rows), _LOCAL_DIMENSION)) * deviations) @ basis
        noise = rng.normal(scale=_NOISE / np.sqrt(DIMENSION), size=(len(rows), DIMENSION))
        vectors[rows] = _unit(centers[cluster] + spreads[cluster] * (local + noise))
    return vectors


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _save(path: Path, vectors: NDArray[np.float32]) -> None:
    partial = path.with_suffix(".partial.npy")
    np.save(partial, vectors)
    partial.replace(path)


def main(arguments: list[str] | None = None) -> None:
    """Make both sets in a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    for vectors in load_all(parser.parse_args(arguments).cache):
        print(f"{vectors.name}: {len(vectors.base):,} vectors, {len(vectors.queries):,} queries")


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s")
