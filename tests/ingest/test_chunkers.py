"""Chunkers: what a chunk may hold, where it may end, and that nothing is lost."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.embedders import HashingEmbedder

from nearfield.documents import EmbeddingInfo
from nearfield.errors import InvalidInputError
from nearfield.ingest import Chunker, Markup, TextChunker, TokenCounter

PROSE = " ".join(f"Sentence number {n} has a few plain words." for n in range(200))


class Uncounting:
    """An embedder with a limit that cannot say how long a text is to it."""

    def __init__(self, max_tokens: int | None) -> None:
        self.info = EmbeddingInfo("uncounting", 8, max_tokens=max_tokens)

    def embed_documents(self, texts):
        return np.ones((len(texts), 8), dtype=np.float32)

    embed_queries = embed_documents


TEXTS = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]), st.sampled_from(" \n\t.!?,#`*-|abcdefgäö日本🙂")
    ),
    max_size=400,
)


@given(TEXTS, st.integers(1, 60), st.sampled_from(Markup))
def test_chunks_are_verbatim_in_order_bounded_and_leave_only_white_space(text, capacity, markup):
    chunks = TextChunker(capacity).split(text, markup=markup)
    position = 0
    for chunk in chunks:
        found = text.find(chunk, position)
        assert found >= 0
        assert not text[position:found].strip()
        assert len(chunk) <= capacity
        assert chunk.strip()
        position = found + len(chunk)
    assert not text[position:].strip()


@given(TEXTS, st.integers(5, 60), st.data())
def test_an_overlap_repeats_and_never_drops_text(text, capacity, data):
    overlap = data.draw(st.integers(0, capacity - 1))
    chunks = TextChunker(capacity, overlap=overlap).split(text)
    assert chunks == TextChunker(capacity, overlap=overlap).split(text)
    assert all(chunk in text and len(chunk) <= capacity for chunk in chunks)
    assert Counter("".join(text.split())) <= Counter("".join(chunks))


def test_prose_is_cut_between_sentences():
    chunks = TextChunker(200).split(PROSE)
    assert len(chunks) > 40
    assert all(chunk.startswith("Sentence") and chunk.endswith(".") for chunk in chunks)


def test_lines_that_were_wrapped_do_not_decide_where_prose_is_cut():
    wrapped = PROSE.replace(" has a", "\nhas a").replace(" plain", "\nplain")
    chunks = TextChunker(200).split(wrapped)
    assert all(chunk.startswith("Sentence") and chunk.endswith(".") for chunk in chunks)
    assert "\nhas a" in chunks[0]


def test_an_overlap_carries_whole_sentences_over():
    chunks = TextChunker(200, overlap=60).split(PROSE)
    for before, after in pairwise(chunks):
        first_sentence = after.split(". ")[0]
        assert first_sentence in before


def test_markdown_keeps_a_code_block_whole_where_it_fits():
    code = "```python\n" + "".join(f"line_{n} = {n}\n\n" for n in range(8)) + "```"
    text = f"{PROSE[:300]}\n\n{code}\n\n{PROSE[:300]}"
    assert code in TextChunker(320).split(text, markup=Markup.MARKDOWN)


@pytest.mark.parametrize("max_tokens", [5, 16, 100])
def test_no_chunk_has_more_tokens_than_the_embedder_reads(max_tokens):
    embedder = HashingEmbedder(64, max_tokens=max_tokens)
    chunks = TextChunker.for_embedder(embedder).split(PROSE)
    counts = [embedder.count_tokens(chunk) for chunk in chunks]
    assert max(counts) <= max_tokens
    assert sum(counts) == embedder.count_tokens(PROSE)
    assert sum(counts) / len(counts) > max_tokens / 3


@given(st.text(max_size=600))
@settings(max_examples=50)
def test_where_tokens_cannot_be_counted_bytes_are_the_bound(text):
    chunks = TextChunker.for_embedder(Uncounting(max_tokens=64)).split(text)
    assert all(len(chunk.encode("utf-8", "replace")) <= 56 for chunk in chunks)


def test_without_a_limit_a_chunk_has_at_most_1200_characters():
    for embedder in (None, Uncounting(None), Uncounting(8192), HashingEmbedder()):
        chunks = TextChunker.for_embedder(embedder).split(PROSE)
        assert 1000 < max(map(len, chunks)) <= 1200


def test_text_without_spaces_is_cut_although_it_is_one_token():
    embedder = HashingEmbedder(64, max_tokens=100)
    chunks = TextChunker.for_embedder(embedder).split("x" * 50_000)
    assert "".join(chunks) == "x" * 50_000
    assert max(map(len, chunks)) <= 1600


def test_very_long_lines_are_kept_whole_across_the_cuts():
    text = "word " * 30_000
    chunks = TextChunker(1200).split(text)
    assert " ".join(chunks).split() == text.split()


def test_a_capacity_beyond_the_embedder_is_refused():
    with pytest.raises(InvalidInputError, match="reads 100 and cuts off the rest"):
        TextChunker.for_embedder(HashingEmbedder(max_tokens=100), capacity=101)


@pytest.mark.parametrize(("capacity", "overlap"), [(0, 0), (10, 10), (10, -1)])
def test_settings_that_cannot_work_are_refused(capacity, overlap):
    with pytest.raises(InvalidInputError, match="expected a capacity of at least 1"):
        TextChunker(capacity, overlap=overlap)


def test_the_fingerprint_changes_with_every_setting_and_with_the_model():
    chunkers = [
        TextChunker(),
        TextChunker(100),
        TextChunker(100, overlap=10),
        TextChunker.for_embedder(HashingEmbedder(max_tokens=100)),
        TextChunker.for_embedder(HashingEmbedder(128, max_tokens=100)),
        TextChunker.for_embedder(Uncounting(108)),
    ]
    assert len({chunker.fingerprint for chunker in chunkers}) == len(chunkers)
    assert TextChunker(100).fingerprint == TextChunker(100).fingerprint


def test_the_protocols_are_met():
    assert isinstance(TextChunker(), Chunker)
    assert isinstance(HashingEmbedder(), TokenCounter)
    assert not isinstance(Uncounting(1), TokenCounter)


def test_blank_text_has_no_chunks():
    assert TextChunker().split(" \n\t\n ") == []
    assert TextChunker().split("") == []
