"""A backup is the collection as of one moment, whatever goes on meanwhile."""

from __future__ import annotations

import threading

import pytest
from tests.crash.victims import Victims
from tests.crash.workload import (
    DIMENSION,
    NAME,
    Step,
    document,
    open_collection,
    stored,
    vector,
    verify,
)

import nearfield
from nearfield.errors import CollectionExistsError, StoreError

SEED = 21


def test_a_backup_while_another_process_writes_is_of_one_moment(tmp_path, soak):
    folder = tmp_path / "database"
    steps = 60 * soak
    with Victims(tmp_path) as victims, open_collection(folder) as collection:
        deaths = []
        writer = threading.Thread(
            target=lambda: deaths.append(
                victims.run("write", folder=folder, seed=SEED, first=1, last=steps)
            )
        )
        writer.start()
        copies = []
        while writer.is_alive() or not copies:
            copies.append(tmp_path / f"copy-{len(copies)}")
            collection.backup(copies[-1])
        writer.join()
    assert deaths[0].status == 0, deaths[0].output
    moments = [{}]
    for version in range(1, steps + 1):
        moments.append(Step.at(SEED, version).apply(moments[-1]))
    for copy in copies:
        assert sorted(path.name for path in (copy / NAME).iterdir()) == ["collection.sqlite3"]
        with open_collection(copy, create=False) as collection:
            found = stored(collection)
            assert found in moments
            verify(collection, found)
    assert len(copies) > 1


@pytest.fixture
def collection(tmp_path):
    with open_collection(tmp_path / "database") as collection:
        collection.upsert(
            [document(number, 1) for number in range(40)],
            vectors=[vector(number, 1) for number in range(40)],
        )
        yield collection


def test_a_backup_lives_on_its_own(tmp_path, collection):
    collection.backup(tmp_path / "copy")
    collection.delete([f"document-{number}" for number in range(20)])
    with open_collection(tmp_path / "copy", create=False) as copy:
        verify(copy, dict.fromkeys(range(40), 1))
        copy.delete("document-39")
    assert len(collection) == 20
    assert collection.get("document-39") is not None


def test_a_backup_does_not_overwrite(tmp_path, collection):
    collection.backup(tmp_path / "copy")
    with pytest.raises(CollectionExistsError):
        collection.backup(tmp_path / "copy")
    with pytest.raises(CollectionExistsError):
        collection.backup(tmp_path / "database")
    verify(collection, dict.fromkeys(range(40), 1))


def test_a_backup_goes_beside_other_collections(tmp_path, collection):
    database = nearfield.connect(tmp_path / "other")
    database.create("mine", dimension=DIMENSION).close()
    collection.backup(tmp_path / "other")
    assert database.names() == [NAME, "mine"]


def test_a_backup_to_a_file_is_refused(tmp_path, collection):
    (tmp_path / "file").write_text("content")
    with pytest.raises(StoreError):
        collection.backup(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "content"


def test_a_backup_of_a_read_only_handle_works(tmp_path, collection):
    with open_collection(tmp_path / "database", read_only=True) as reader:
        reader.backup(tmp_path / "copy")
    with open_collection(tmp_path / "copy", create=False) as copy:
        verify(copy, dict.fromkeys(range(40), 1))
