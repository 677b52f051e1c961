"""LangChain's ``index()`` and ``aindex()``: nothing is skipped that is not there, nothing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.embedders import HashingEmbedder

import nearfield
from nearfield import Document as Stored
from nearfield.errors import EmbeddingError

pytest.importorskip("langchain_core", reason="langchain-core is not installed")

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, aindex, index
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_nearfield.document_index import NearfieldDocumentIndex
from langchain_nearfield.record_manager import NearfieldRecordManager
from langchain_nearfield.vectorstore import NearfieldVectorStore

ROOT = Path(__file__).parents[3]
CLEANUPS = [None, "incremental", "full", "scoped_full"]


class Place:
    """A collection, its vector store and its record manager, and a way to index into them."""

    def __init__(self, folder, *, asynchronous=False, embedder=None):
        self.collection = nearfield.open(folder, embedder=embedder or HashingEmbedder())
        self.store = NearfieldVectorStore.from_collection(self.collection)
        self.manager = NearfieldRecordManager(self.store, "notes")
        self.asynchronous = asynchronous

    async def index(self, documents, *, manager=None, **options):
        """Index, and return how many were added, updated, skipped and deleted."""
        options = {"key_encoder": "sha256", "source_id_key": "source", **options}
        manager = manager or self.manager
        if self.asynchronous:
            result = await aindex(documents, manager, self.store, **options)
        else:
            result = index(documents, manager, self.store, **options)
        return tuple(result[f"num_{what}"] for what in ("added", "updated", "skipped", "deleted"))

    @property
    def texts(self):
        return sorted(document.text for document in self.collection.scan())

    def id_of(self, text):
        return next(found.id for found in self.collection.scan() if found.text == text)

    def assert_in_step(self):
        assert self.manager.check().ok
        assert sorted(self.manager.list_keys()) == sorted(
            document.id for document in self.collection.scan()
        )


@pytest.fixture(params=[False, True], ids=["index", "aindex"])
def place(request, tmp_path):
    place = Place(tmp_path / "database", asynchronous=request.param)
    yield place
    place.collection.close()


def note(text, source="a"):
    return Document(page_content=text, metadata={"source": source})


NOTES = [note("one"), note("two"), note("three", "b"), note("four", "c"), note("five", "c")]
TEXTS = sorted(each.page_content for each in NOTES)


# ── the modes ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("cleanup", "batch_size"),
    [(cleanup, size) for cleanup in CLEANUPS for size in (1, 2, 100) if cleanup != "incremental"]
    + [("incremental", 100)],  # smaller batches clean up what a later one brings
)
async def test_indexing_twice_skips_everything_the_second_time(place, cleanup, batch_size):
    options = {"cleanup": cleanup, "batch_size": batch_size}
    assert await place.index(NOTES, **options) == (5, 0, 0, 0)
    assert await place.index(NOTES, **options) == (0, 0, 5, 0)
    assert place.texts == TEXTS
    place.assert_in_step()


@pytest.mark.parametrize(
    ("cleanup", "deleted", "left"),
    [
        (None, 0, ["five", "four", "one", "one, changed", "three", "two"]),
        ("incremental", 1, ["five", "four", "one, changed", "three", "two"]),
        ("scoped_full", 1, ["five", "four", "one, changed", "three", "two"]),
        ("full", 4, ["one, changed", "two"]),
    ],
)
async def test_each_cleanup_deletes_what_it_should(place, cleanup, deleted, left):
    await place.index(NOTES)
    changed = [note("one, changed"), note("two")]
    assert await place.index(changed, cleanup=cleanup) == (1, 0, 1, deleted)
    assert place.texts == left
    place.assert_in_step()
    assert await place.index(changed, cleanup=cleanup) == (0, 0, 2, 0)


async def test_incremental_cleanup_in_small_batches_ends_with_the_right_documents(place):
    options = {"cleanup": "incremental", "batch_size": 1}
    assert await place.index(NOTES, **options) == (5, 0, 0, 0)
    added, updated, skipped, deleted = await place.index(NOTES, **options)
    assert (updated, added + skipped) == (0, 5)
    assert added == deleted
    assert place.texts == TEXTS
    place.assert_in_step()


@settings(max_examples=25)
@given(
    runs=st.lists(
        st.tuples(
            st.lists(
                st.builds(note, st.sampled_from(["one", "two", "three"]), st.sampled_from("ab"))
            ),
            st.sampled_from(CLEANUPS),
            st.integers(1, 4),
            st.booleans(),
        ),
        max_size=4,
    )
)
def test_without_drift_it_counts_as_langchains_own_record_manager_does(runs):
    memory = InMemoryVectorStore(DeterministicFakeEmbedding(size=8)), InMemoryRecordManager("x")
    with tempfile.TemporaryDirectory() as folder:
        place = Place(folder)
        for documents, cleanup, batch_size, force in runs:
            options = {
                "cleanup": cleanup,
                "batch_size": batch_size,
                "force_update": force,
                "source_id_key": "source",
                "key_encoder": "sha256",
            }
            expected = index(documents, memory[1], memory[0], **options)
            assert index(documents, place.manager, place.store, **options) == expected
            stored = (entry["text"] for entry in memory[0].store.values())
            assert place.texts == sorted(stored)
        place.assert_in_step()
        place.collection.close()


async def test_an_empty_source_cleans_up_everything_in_full_mode_only(place):
    await place.index(NOTES)
    for cleanup in (None, "incremental", "scoped_full"):
        assert await place.index([], cleanup=cleanup) == (0, 0, 0, 0)
    assert await place.index([], cleanup="full", cleanup_batch_size=2) == (0, 0, 0, 5)
    assert place.texts == []
    place.assert_in_step()


async def test_documents_without_a_source_are_indexed_too(place):
    options = {"source_id_key": None, "cleanup": "full"}
    assert await place.index(NOTES, **options) == (5, 0, 0, 0)
    assert await place.index(NOTES[:2], **options) == (0, 0, 2, 3)
    assert place.texts == ["one", "two"]


async def test_duplicates_in_a_batch_are_written_once(place):
    assert await place.index([*NOTES, *NOTES]) == (5, 0, 5, 0)
    place.assert_in_step()


async def test_a_forced_update_writes_everything_again(place):
    await place.index(NOTES)
    assert await place.index(NOTES, force_update=True, cleanup="full") == (0, 5, 0, 0)
    assert await place.index(NOTES, cleanup="full") == (0, 0, 5, 0)
    place.assert_in_step()


@pytest.mark.parametrize("encoder", ["blake2b", "sha512"])
async def test_every_key_encoder_works(place, encoder):
    options = {"key_encoder": encoder, "cleanup": "full"}
    assert await place.index(NOTES, **options) == (5, 0, 0, 0)
    assert await place.index(NOTES, **options) == (0, 0, 5, 0)


async def test_keys_of_ones_own_are_the_documents_ids(place):
    def key_of(document):
        return f"note/{document.page_content.split(',')[0]}"

    await place.index(NOTES, key_encoder=key_of)
    assert place.collection.get("note/one").text == "one"
    assert await place.index([note("one, changed")], key_encoder=key_of) == (0, 0, 1, 0)
    changed = await place.index([note("one, changed")], key_encoder=key_of, force_update=True)
    assert changed == (0, 1, 0, 0)
    assert place.collection.get("note/one").text == "one, changed"
    place.assert_in_step()


async def test_two_namespaces_index_into_one_collection(place):
    other = NearfieldRecordManager(place.collection, "mail")
    letters = [note("letter one"), note("letter two")]
    await place.index(NOTES, cleanup="full")
    assert await place.index(letters, manager=other, cleanup="full") == (2, 0, 0, 0)
    assert await place.index(NOTES, cleanup="full") == (0, 0, 5, 0)
    assert await place.index([], manager=other, cleanup="full") == (0, 0, 0, 2)
    assert place.texts == TEXTS
    place.assert_in_step()


# ── drift: what other doors did ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cleanup", CLEANUPS)
async def test_after_a_wipe_everything_is_added_again(place, cleanup):
    await place.index(NOTES, cleanup=cleanup)
    place.collection.delete(where={"source": {"$exists": True}})
    assert place.texts == []
    assert await place.index(NOTES, cleanup=cleanup) == (5, 0, 0, 0)
    assert place.texts == TEXTS
    place.assert_in_step()


async def test_after_a_collection_was_dropped_everything_is_added_again(place, tmp_path):
    await place.index(NOTES)
    place.collection.close()
    nearfield.connect(tmp_path / "database").drop("default")
    again = Place(tmp_path / "database", asynchronous=place.asynchronous)
    assert await again.index(NOTES, cleanup="full") == (5, 0, 0, 0)
    assert again.texts == TEXTS
    again.collection.close()


@pytest.mark.parametrize("cleanup", CLEANUPS)
async def test_a_document_deleted_elsewhere_is_added_again(place, cleanup):
    await place.index(NOTES, cleanup=cleanup)
    place.collection.delete(place.id_of("three"))
    assert await place.index(NOTES, cleanup=cleanup) == (1, 0, 4, 0)
    assert place.texts == TEXTS
    place.assert_in_step()


@pytest.mark.parametrize("cleanup", CLEANUPS)
async def test_a_document_replaced_elsewhere_is_written_anew(place, cleanup):
    await place.index(NOTES, cleanup=cleanup)
    place.collection.upsert(Stored("something else", id=place.id_of("three")))
    assert place.manager.check().replaced == (place.id_of("something else"),)
    assert await place.index(NOTES, cleanup=cleanup) == (1, 0, 4, 0)
    assert place.texts == TEXTS
    place.assert_in_step()


@pytest.mark.parametrize("cleanup", ["incremental", "full", "scoped_full"])
async def test_a_document_replaced_elsewhere_is_still_cleaned_up(place, cleanup):
    await place.index(NOTES, cleanup=cleanup)
    place.collection.upsert(Stored("something else", id=place.id_of("two")))
    left = [each for each in NOTES if each.page_content != "two"]
    assert await place.index(left, cleanup=cleanup) == (0, 0, 4, 1)
    assert place.texts == sorted(each.page_content for each in left)
    place.assert_in_step()


async def test_cleaning_up_counts_only_documents_that_were_there(place):
    await place.index(NOTES)
    place.collection.delete([place.id_of("one"), place.id_of("two")])
    assert await place.index(NOTES[3:], cleanup="full") == (0, 0, 2, 1)
    assert place.manager.check().missing != ()  # counts for nothing
    place.manager.mend()
    place.assert_in_step()


@pytest.mark.filterwarnings("ignore:The class `DocumentIndex`")
async def test_a_document_index_over_the_same_collection_is_indexed_into(place):
    place.store = NearfieldDocumentIndex(vectorstore=place.store)
    assert await place.index(NOTES, cleanup="full") == (5, 0, 0, 0)
    assert await place.index(NOTES[:3], cleanup="full") == (0, 0, 3, 2)
    assert place.texts == ["one", "three", "two"]
    place.assert_in_step()


async def test_documents_of_other_doors_are_left_alone(place):
    await place.index(NOTES)
    place.collection.upsert(Stored("by hand", id="mine", metadata={"source": "a"}))
    for cleanup in ("incremental", "full", "scoped_full"):
        assert await place.index(NOTES[:1], cleanup=cleanup)
        assert "by hand" in place.texts
    assert place.manager.check().unrecorded == ("mine",)


async def test_indexing_into_another_store_is_refused_at_once(place, tmp_path):
    other = Place(tmp_path / "other", asynchronous=place.asynchronous)
    with pytest.raises(LookupError, match="let index\\(\\) write into a NearfieldVectorStore"):
        await place.index(NOTES, manager=other.manager)
    other.collection.close()


# ── runs that break off ──────────────────────────────────────────────────────────────────────────


class FailingEmbedder(HashingEmbedder):
    """Works for a number of calls, and then not until it is told to."""

    calls_left = 10**9

    def embed_documents(self, texts):
        self.calls_left -= 1
        if self.calls_left < 0:
            raise ConnectionError("the model is out of reach")
        return super().embed_documents(texts)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["index", "aindex"])
@pytest.mark.parametrize("cleanup", CLEANUPS)
async def test_after_an_embedder_failed_the_rest_is_added(tmp_path, cleanup, asynchronous):
    embedder = FailingEmbedder()
    place = Place(tmp_path / "database", asynchronous=asynchronous, embedder=embedder)
    embedder.calls_left = 2
    options = {"cleanup": cleanup, "batch_size": 1}
    with pytest.raises(EmbeddingError, match="out of reach"):
        await place.index(NOTES, **options)
    assert len(place.texts) == 2
    place.assert_in_step()
    embedder.calls_left = 10**9
    added, *_ = await place.index(NOTES, **options)
    assert added == (4 if cleanup == "incremental" else 3)  # small batches clean up too much
    assert place.texts == TEXTS
    place.assert_in_step()
    place.collection.close()


@pytest.mark.parametrize("asynchronous", [False, True], ids=["index", "aindex"])
async def test_a_failure_after_a_refresh_does_not_lose_the_source(tmp_path, asynchronous):
    """Within a batch the known documents are refreshed first, without their source."""
    embedder = FailingEmbedder()
    place = Place(tmp_path / "database", asynchronous=asynchronous, embedder=embedder)
    await place.index(NOTES)
    embedder.calls_left = 0
    with pytest.raises(EmbeddingError, match="out of reach"):
        await place.index([*NOTES, note("new")], cleanup="incremental")
    embedder.calls_left = 10**9
    assert await place.index([note("one")], cleanup="incremental") == (0, 0, 1, 1)
    assert place.texts == ["five", "four", "one", "three"]
    place.collection.close()


VICTIM = """
    import asyncio, os, signal, sys
    from langchain_nearfield.record_manager import NearfieldRecordManager
    from tests.integrations.langchain.test_indexing import NOTES, Place

    folder, asynchronous, survived, options = sys.argv[1], *map(eval, sys.argv[2:])

    class Doomed(NearfieldRecordManager):
        '''Dies in place of the update that follows the documents.'''

        def update(self, keys, *, group_ids=None, time_at_least=None):
            global survived
            if group_ids is not None:
                if survived == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                survived -= 1
            super().update(keys, group_ids=group_ids, time_at_least=time_at_least)

    place = Place(folder, asynchronous=asynchronous)
    asyncio.run(place.index(NOTES, manager=Doomed(place.store, "notes"), **options))
"""


def kill_while_indexing(place, folder, survived, **options):
    place.collection.close()
    arguments = [str(folder), repr(place.asynchronous), repr(survived), repr(options)]
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(VICTIM), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    return Place(folder, asynchronous=place.asynchronous)


@pytest.mark.parametrize("cleanup", [None, "full"])
async def test_killed_before_the_records_nothing_is_skipped_for_ever(place, tmp_path, cleanup):
    options = {"cleanup": cleanup, "batch_size": 2}
    place = kill_while_indexing(place, tmp_path / "database", 1, **options)
    assert len(place.texts) == 4  # two batches were written, one was recorded
    assert len(place.manager.list_keys()) == 2
    assert len(place.manager.check().unrecorded) == 2
    assert await place.index(NOTES, **options) == (3, 0, 2, 0)
    assert place.texts == TEXTS
    place.assert_in_step()
    place.collection.close()


async def test_killed_while_rewriting_nothing_stays_that_the_source_dropped(place, tmp_path):
    await place.index(NOTES)
    place = kill_while_indexing(place, tmp_path / "database", 0, force_update=True)
    assert len(place.manager.check().replaced) == 5
    assert await place.index(NOTES[:2], cleanup="full") == (2, 0, 0, 3)
    assert place.texts == ["one", "two"]
    place.assert_in_step()
    place.collection.close()


async def test_what_a_killed_run_left_and_no_source_has_is_mended(place, tmp_path):
    place = kill_while_indexing(place, tmp_path / "database", 0)
    assert await place.index(NOTES[:2], cleanup="full") == (2, 0, 0, 0)
    assert place.texts == TEXTS
    assert len(place.manager.mend(delete_unrecorded=True).unrecorded) == 3
    assert place.texts == ["one", "two"]
    place.assert_in_step()
    place.collection.close()
