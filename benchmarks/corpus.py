"""Synthetic corpora with the statistics of text: Zipf's law, function words, near-equal lengths."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, pairwise, product

import numpy as np

from nearfield import Document

DIMENSION = 384
SEED = 20260

_VOCABULARY = 40_000
_ZIPF_EXPONENT = 1.0  # Zipf, Human Behavior and the Principle of Least Effort, 1949
_FUNCTION_WORDS = """
    the of and to in a is that for it as was with be by on not he his but at are this have from
    which or had an they one you were all their there been if more when will would who so no
    """.split()
_ONSETS = "b br c cl d dr f fl g gr h j k l m n p pl pr qu r s sc sh sp st t th tr v w".split()
_NUCLEI = "a ai e ea i o oa ou u".split()
_CODAS = ["", "l", "m", "n", "nd", "r", "s", "st", "t"]

SELECTIVITIES = {
    0.001: ("shelf", "shelf-007"),
    0.01: ("section", "section-07"),
    0.1: ("kind", "kind-7"),
    0.5: ("language", "en"),
}
"""Selectivity → a string field and a value that this share of the documents has."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents, their embeddings and queries.

    Attributes:
        documents: With ids and metadata, without embeddings.
        vectors: float32 of shape (n, DIMENSION), of length 1.
        queries: Texts made of words that stand together in a document.
        query_vectors: One for each query text, shape (queries, DIMENSION).
    """

    documents: list[Document]
    vectors: np.ndarray
    queries: list[str]
    query_vectors: np.ndarray

    def batches(self, size: int):
        """Iterate over (documents, vectors) in batches."""
        for start in range(0, len(self.documents), size):
            yield self.documents[start : start + size], self.vectors[start : start + size]


def make_corpus(count: int, *, words: int, queries: int = 512) -> Corpus:
    """Make a corpus, the same at every call.

    Args:
        count: How many documents.
        words: The mean number of words of a document; the standard deviation is a quarter of it.
        queries: How many queries, of 4 to 9 words.
    """
    rng = np.random.default_rng(SEED)
    texts = _make_texts(rng, count, words)
    metadata = _make_metadata(rng, count)
    documents = [
        Document(text, id=f"doc-{number:07d}", metadata=values)
        for number, (text, values) in enumerate(zip(texts, metadata, strict=True))
    ]
    query_texts = []
    for number in rng.integers(0, count, queries):
        text = texts[number].split()
        length = int(rng.integers(4, 10))
        start = int(rng.integers(0, max(1, len(text) - length)))
        query_texts.append(" ".join(text[start : start + length]))
    return Corpus(documents, _unit_vectors(rng, count), query_texts, _unit_vectors(rng, queries))


def _make_texts(rng: np.random.Generator, count: int, words: int) -> list[str]:
    vocabulary = np.array(_make_vocabulary(), dtype=object)
    weights = 1.0 / np.arange(1, len(vocabulary) + 1) ** _ZIPF_EXPONENT
    lengths = np.maximum(4, rng.normal(words, words / 4, count).astype(int))
    picked = rng.choice(len(vocabulary), size=int(lengths.sum()), p=weights / weights.sum())
    stream = vocabulary[picked]
    ends = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    return [" ".join(stream[start:end]) for start, end in pairwise(ends)]


def _make_vocabulary() -> list[str]:
    syllables = ["".join(parts) for parts in product(_ONSETS, _NUCLEI, _CODAS)]
    rng = np.random.default_rng(SEED)
    rng.shuffle(syllables)
    # Common words are short: syllables first, then pairs of them.
    made = (*syllables, *("".join(pair) for pair in product(syllables[:200], syllables)))
    return list(islice(dict.fromkeys((*_FUNCTION_WORDS, *made)), _VOCABULARY))


def _make_metadata(rng: np.random.Generator, count: int) -> list[dict[str, object]]:
    shelves, sections = rng.integers(0, 1000, count), rng.integers(0, 100, count)
    kinds, languages = rng.integers(0, 10, count), rng.integers(0, 2, count)
    positions = rng.permutation(count) / count
    return [
        {
            "shelf": f"shelf-{shelf:03d}",
            "section": f"section-{section:02d}",
            "kind": f"kind-{kind}",
            "language": "en" if language else "de",
            "position": position,
            "labels": [f"shelf-{shelf:03d}", f"section-{section:02d}", f"kind-{kind}"]
            + (["en"] if language else ["de"]),
        }
        for shelf, section, kind, language, position in zip(
            shelves.tolist(),
            sections.tolist(),
            kinds.tolist(),
            languages.tolist(),
            positions.tolist(),
            strict=True,
        )
    ]


def _unit_vectors(rng: np.random.Generator, count: int) -> np.ndarray:
    vectors = rng.standard_normal((count, DIMENSION), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors
