"""The record manager by itself: LangChain's contract, and what it knows about documents."""

from __future__ import annotations

import inspect

import pytest
from tests.embedders import HashingEmbedder

import nearfield
from nearfield import Document
from nearfield.errors import DocumentNotFoundError, InvalidInputError
from nearfield.stores.base import LedgerDrift

pytest.importorskip("langchain_core", reason="langchain-core is not installed")

from langchain_core.indexing import InMemoryRecordManager, RecordManager

from langchain_nearfield.record_manager import NearfieldRecordManager
from langchain_nearfield.vectorstore import NearfieldVectorStore

KEYS = ["a", "b", "c", "d"]


@pytest.fixture
def collection(tmp_path):
    with nearfield.open(tmp_path / "database", embedder=HashingEmbedder()) as opened:
        opened.upsert([Document(f"text of {key}", id=key) for key in KEYS])
        yield opened


@pytest.fixture
def manager(collection):
    return NearfieldRecordManager(collection, namespace="notes")


# ── the contract ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("make", [NearfieldRecordManager, None], ids=["nearfield", "in memory"])
def test_it_answers_as_langchains_own_does(collection, make):
    """The same steps, with the same outcome, on ours and on the one in memory."""
    manager = make(collection, "x") if make else InMemoryRecordManager("x")
    manager.create_schema()
    assert isinstance(manager, RecordManager)
    assert manager.namespace == "x"
    assert manager.exists(KEYS) == [False] * 4
    assert manager.list_keys() == []
    start = manager.get_time()
    manager.update(["a", "b"], group_ids=["one", "two"], time_at_least=start)
    middle = manager.get_time()
    manager.update(["c"], group_ids=[None])
    end = manager.get_time()
    assert manager.exists(["c", "a", "gone"]) == [True, True, False]
    assert manager.list_keys(before=middle) == ["a", "b"]
    assert manager.list_keys(after=middle) == ["c"]
    assert manager.list_keys(after=start, before=end, group_ids=["two", "three"]) == ["b"]
    assert len(manager.list_keys(limit=2)) == 2
    with pytest.raises(ValueError, match=r"future|past"):
        manager.update(["a"], time_at_least=end + 3600)
    with pytest.raises(ValueError, match="group"):
        manager.update(["a", "b"], group_ids=["one"])
    manager.update(["a", "c"], group_ids=["three", "three"])
    assert sorted(manager.list_keys(group_ids=["three"])) == ["a", "c"]
    manager.delete_keys(["a", "gone"])
    assert manager.exists(["a", "b"]) == [False, True]
    manager.update([])
    manager.delete_keys([])
    assert manager.exists([]) == []


async def test_the_asynchronous_half_does_the_same(manager):
    await manager.acreate_schema()
    start = await manager.aget_time()
    await manager.aupdate(["a", "b"], group_ids=["one", None], time_at_least=start)
    assert await manager.aexists(["a", "c"]) == [True, False]
    assert await manager.alist_keys(group_ids=["one"], after=start, limit=5) == ["a"]
    assert await manager.alist_keys(before=start) == []
    await manager.adelete_keys(["a"])
    assert manager.exists(["a", "b"]) == [False, True]
    assert await manager.acheck() == LedgerDrift((), (), ("a", "c", "d"))
    assert await manager.amend(delete_unrecorded=True) == LedgerDrift((), (), ("a", "c", "d"))
    assert manager.check().ok
    with pytest.raises(InvalidInputError):
        await manager.aupdate(["a"], group_ids=[])


@pytest.mark.parametrize(
    "name", ["get_time", "update", "exists", "list_keys", "delete_keys", "check", "mend"]
)
def test_an_async_twin_takes_what_the_other_takes(name):
    sync = inspect.signature(getattr(NearfieldRecordManager, name))
    twin = inspect.signature(getattr(NearfieldRecordManager, f"a{name}"))
    assert sync == twin


def test_times_are_seconds_and_keep_their_order(manager):
    times = [manager.get_time() for _ in range(50)]
    assert times == sorted(set(times))
    manager.update(["a"], time_at_least=times[-1])
    assert manager.list_keys(after=times[-1]) == ["a"]
    assert manager.list_keys(before=manager.get_time()) == ["a"]


def test_records_of_two_namespaces_do_not_mix(collection):
    one, two = (NearfieldRecordManager(collection, name) for name in ("one", "two"))
    one.update(["a"])
    assert two.exists(["a"]) == [False]
    assert two.list_keys() == []
    two.update(["a"])
    one.delete_keys(["a"])
    assert two.exists(["a"]) == [True]


# ── what it stands on ────────────────────────────────────────────────────────────────────────────


def test_it_takes_a_collection_or_a_store_over_one(collection):
    NearfieldRecordManager(collection).update(["a"])
    store = NearfieldVectorStore.from_collection(collection)
    assert NearfieldRecordManager(store).exists(["a"]) == [True]


@pytest.mark.parametrize("wrong", ["a path", None, InMemoryRecordManager("x")])
def test_anything_else_is_refused(wrong):
    with pytest.raises(InvalidInputError, match="NearfieldVectorStore"):
        NearfieldRecordManager(wrong)


def test_a_refresh_keeps_the_source(manager):
    manager.update(["a"], group_ids=["one"])
    manager.update(["a"])
    assert manager.list_keys(group_ids=["one"]) == ["a"]


def test_recording_documents_of_another_store_says_so(manager):
    with pytest.raises(DocumentNotFoundError, match=r"none of the 2 documents.*NearfieldVector"):
        manager.update(["x", "y"], group_ids=[None, None])
    manager.update(["x", "a"])
    assert manager.exists(["x", "a"]) == [False, True]


@pytest.mark.parametrize(
    "call",
    [
        lambda manager: manager.list_keys(before="yesterday"),
        lambda manager: manager.list_keys(after=float("nan")),
        lambda manager: manager.list_keys(before=float("inf")),
        lambda manager: manager.list_keys(limit=-1),
        lambda manager: manager.update(["a"], time_at_least=True),
        lambda manager: manager.exists([None]),
    ],
)
def test_bad_input_is_refused(manager, call):
    with pytest.raises(InvalidInputError):
        call(manager)


# ── drift ────────────────────────────────────────────────────────────────────────────────────────


def test_drift_is_found_and_mended(collection, manager):
    manager.update(["a", "b", "c"])
    collection.delete("a")
    collection.upsert([Document("replaced", id="b"), Document("new", id="new")])
    drift = LedgerDrift(missing=("a",), replaced=("b",), unrecorded=("d", "new"))
    assert manager.check() == drift
    assert manager.mend() == drift
    assert manager.check() == LedgerDrift((), ("b",), ("d", "new"))
    manager.mend(delete_unrecorded=True)
    assert manager.check() == LedgerDrift((), ("b",), ())
    assert sorted(document.id for document in collection.scan()) == ["b", "c"]
    assert manager.list_keys() == ["b", "c"]


def test_mending_leaves_what_another_namespace_recorded(collection, manager):
    other = NearfieldRecordManager(collection, "other")
    manager.update(["a"])
    other.update(["b"])
    collection.delete("b")
    assert manager.mend(delete_unrecorded=True).unrecorded == ("c", "d")
    assert other.check().missing == ("b",)
    assert [document.id for document in collection.scan()] == ["a"]
