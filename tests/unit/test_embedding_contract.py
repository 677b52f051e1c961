"""Slices, progress and cancellation, beneath a collection and by themselves."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from tests.embedders import HashingEmbedder

import nearfield
from nearfield import Document
from nearfield.embedders import (
    CachedEmbedder,
    CallableEmbedder,
    CombinedEmbedder,
    MiniLMEmbedder,
    TruncatedEmbedder,
    contract,
)
from nearfield.errors import EmbeddingError, InvalidDocumentError, InvalidInputError

TEXTS = [f"text number {i}" for i in range(10)]


class SlicedEmbedder(HashingEmbedder):
    """Embeds three texts at a time, and remembers how many it was asked for, and where."""

    slice_size = 3

    def __init__(self):
        super().__init__(16)
        self.asked = []
        self.threads = set()

    def embed_documents(self, texts):
        self.asked.append(len(texts))
        self.threads.add(threading.get_ident())
        return super().embed_documents(texts)


class AwaitedEmbedder(SlicedEmbedder):
    """Does its work in asynchronous methods only."""

    def __init__(self):
        super().__init__()
        self.cancelled = 0
        self.begun = asyncio.Event()
        self.stuck = False

    async def aembed_documents(self, texts):
        self.begun.set()
        try:
            await asyncio.sleep(3600 if self.stuck else 0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.embed_documents(texts)

    async def aembed_queries(self, texts):
        return self.embed_queries(texts)


class WaitingEmbedder(SlicedEmbedder):
    """Has no asynchronous methods, and works on a slice until it is let go."""

    def __init__(self):
        super().__init__()
        self.begun = threading.Event()
        self.let_go = threading.Event()

    def embed_documents(self, texts):
        vectors = super().embed_documents(texts)
        self.begun.set()
        self.let_go.wait(30)
        return vectors


@pytest.fixture(params=[SlicedEmbedder, AwaitedEmbedder])
def embedder(request):
    return request.param()


@pytest.fixture
def collection(tmp_path, embedder):
    with nearfield.open(tmp_path, "texts", embedder=embedder) as opened:
        yield opened


# ── slices ───────────────────────────────────────────────────────────────────────────────────────


def test_without_a_callback_one_call_takes_all_texts():
    embedder = SlicedEmbedder()
    contract.embed_documents(embedder, TEXTS)
    assert embedder.asked == [10]


def test_with_a_callback_the_embedder_gets_slices_of_its_own_size():
    embedder = SlicedEmbedder()
    told = []
    contract.embed_documents(embedder, TEXTS, progress=lambda *numbers: told.append(numbers))
    assert embedder.asked == [3, 3, 3, 1]
    assert told == [(3, 10), (6, 10), (9, 10), (10, 10)]


def test_an_embedder_that_names_no_size_gets_256_texts_at_a_time():
    told = []
    contract.embed_documents(
        HashingEmbedder(4), ["a"] * 600, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(256, 600), (512, 600), (600, 600)]


def test_of_no_texts_no_progress_is_told():
    told = []
    vectors = contract.embed_documents(
        SlicedEmbedder(), [], progress=lambda *numbers: told.append(numbers)
    )
    assert vectors.shape == (0, 16)
    assert told == []


async def test_an_embedder_that_cannot_be_awaited_works_on_other_threads_slice_by_slice():
    embedder = SlicedEmbedder()
    callers = set()
    await contract.aembed_documents(
        embedder, TEXTS, progress=lambda *_: callers.add(threading.get_ident())
    )
    assert embedder.asked == [3, 3, 3, 1]
    assert threading.get_ident() not in embedder.threads
    assert callers == {threading.get_ident()}


async def test_a_fault_in_a_later_slice_is_named_by_its_place_among_all_texts():
    class Faulty(SlicedEmbedder):
        def embed_documents(self, texts):
            vectors = super().embed_documents(texts)
            if "odd" in texts:
                vectors[list(texts).index("odd")] = np.nan
            if "bad" in texts:
                place = list(texts).index("bad")
                raise InvalidDocumentError(
                    f"text is bad (document {place} of the batch)", position=place
                )
            return vectors

    ignore = lambda *_: None  # noqa: E731
    with pytest.raises(EmbeddingError, match="NaN or infinity for text 7"):
        contract.embed_documents(Faulty(), [*TEXTS[:7], "odd"], progress=ignore)
    for texts, place in ([*TEXTS[:8], "bad"], 8), (["bad"], 0):
        with pytest.raises(InvalidDocumentError, match=f"document {place} of") as refusal:
            contract.embed_documents(Faulty(), texts, progress=ignore)
        assert refusal.value.position == place
        with pytest.raises(InvalidDocumentError, match=f"document {place} of"):
            await contract.aembed_documents(Faulty(), texts)


async def test_awaiting_an_embedder_reads_its_info_on_no_thread_of_the_event_loop_before_it_works():
    class Heavy(SlicedEmbedder):
        """Loads its model for ``info``, as sentence-transformers do."""

        loaded_by = None

        @property
        def info(self):
            self.loaded_by = self.loaded_by or threading.get_ident()
            return super().info

    embedder = Heavy()
    await contract.aembed_documents(embedder, TEXTS)
    assert embedder.loaded_by != threading.get_ident()


# ── a collection's writing ───────────────────────────────────────────────────────────────────────


async def test_writing_tells_how_many_texts_are_embedded(collection):
    told = []
    collection.upsert(TEXTS, progress=lambda *numbers: told.append(numbers))
    await collection.aupsert(TEXTS, progress=lambda *numbers: told.append(numbers))
    assert told == [(3, 10), (6, 10), (9, 10), (10, 10)] * 2
    assert len(collection) == 20


async def test_documents_that_bring_their_vectors_are_not_counted(collection):
    told = []
    vectors = HashingEmbedder(16).embed_documents(["a"])
    mixed = [Document("given", embedding=vectors[0]), Document("made")]
    collection.upsert(mixed, progress=lambda *numbers: told.append(numbers))
    await collection.aupsert(["a"], vectors=vectors, progress=lambda *numbers: told.append(numbers))
    assert told == [(1, 1)]


async def test_what_the_callback_raises_comes_through_and_nothing_is_written(collection, embedder):
    class EnoughError(Exception):
        pass

    def refuse(done, total):
        if done >= 6:
            raise EnoughError

    with pytest.raises(EnoughError):
        collection.upsert(TEXTS, progress=refuse)
    with pytest.raises(EnoughError):
        await collection.aupsert(TEXTS, progress=refuse)
    assert len(collection) == 0
    assert embedder.asked == [3, 3] * 2


async def test_a_cancelled_write_ends_after_the_slice_in_hand_and_writes_nothing(tmp_path):
    embedder = WaitingEmbedder()
    with nearfield.open(tmp_path, "texts", embedder=embedder) as collection:
        task = asyncio.create_task(collection.aupsert(TEXTS))
        await asyncio.to_thread(embedder.begun.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        embedder.let_go.set()
        assert len(collection) == 0
        await asyncio.to_thread(lambda: None)
    assert embedder.asked == [3]


async def test_a_cancelled_write_cancels_what_is_awaited(tmp_path):
    embedder = AwaitedEmbedder()
    embedder.stuck = True
    with nearfield.open(tmp_path, "texts", embedder=embedder) as collection:
        task = asyncio.create_task(collection.aupsert(TEXTS))
        await embedder.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(collection) == 0
    assert embedder.cancelled == 1
    assert embedder.asked == []


# ── one text is no list of texts ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", ["abc", "", b"abc"])
async def test_one_text_is_not_taken_apart_into_its_letters(tmp_path, text):
    plain = HashingEmbedder()
    embedders = [
        MiniLMEmbedder(),
        CallableEmbedder(lambda texts: np.ones((len(texts), 2)), name="ones", dimension=2),
        CachedEmbedder(plain, tmp_path / "cache"),
        CombinedEmbedder([plain, plain]),
        TruncatedEmbedder(plain, 8),
    ]
    calls = [call for each in embedders for call in (each.embed_documents, each.embed_queries)]
    calls += [lambda given: contract.embed_documents(plain, given)]
    calls += [lambda given: contract.embed_queries(plain, given)]
    for call in calls:
        with pytest.raises(InvalidInputError, match=r"put it into a list: \[text\]"):
            call(text)
    for awaited in (contract.aembed_documents, contract.aembed_queries):
        with pytest.raises(InvalidInputError, match="put it into a list"):
            await awaited(plain, text)


def test_what_is_no_list_of_texts_is_refused():
    for given in (7, None):
        with pytest.raises(InvalidInputError, match="expected a list of texts, got"):
            MiniLMEmbedder().embed_documents(given)
    assert MiniLMEmbedder().embed_documents(text for text in ("a", "b")).shape == (2, 384)
