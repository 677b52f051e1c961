"""Files of segments that are lost or damaged: the answers stay right, and the files come back."""

from __future__ import annotations

import json
import os
import shutil
import threading
import zlib

import numpy as np
import pytest
from tests import segments
from tests.damage import specimen
from tests.damage.specimen import DIMENSION, DOCUMENTS, NAME, QUERIES, READINGS, VECTORS, sql
from tests.segments import TINY, every_index, folders, maintain, records, searched_rows

import nearfield
from nearfield import Document
from nearfield.errors import CollectionInUseError, NearfieldError, ReadOnlyError
from nearfield.stores.local import indexes, segment_files
from nearfield.stores.local.plans import PlanKind

MAPPED = segment_files.VECTORS
SCAN = segment_files.INDEXES[PlanKind.SCAN]
INDEXES = list(segment_files.INDEXES.values())
FILES = [segment_files.SLOTS, segment_files.NORMS, segment_files.BLOCKS, MAPPED, *INDEXES]
FLIPS = 16


@pytest.fixture(scope="session")
def sealed(original, tmp_path_factory):
    """The specimen with two segments and a memtable, and dead rows in both segments; closed."""
    folder = specimen.copy(original, tmp_path_factory.mktemp("sealed") / "database")
    with segments.reopen(folder, NAME) as collection:
        numbers = range(0, DOCUMENTS, 2)
        collection.upsert([specimen.document(n) for n in numbers], vectors=VECTORS[numbers])
        with every_index():
            assert maintain(collection) == 1
        renewed = range(0, DOCUMENTS, 8)
        collection.upsert([specimen.document(n) for n in renewed], vectors=VECTORS[renewed])
    policy = segments.Policy(index_rows=8, seal_rows=8, fan_in=99, dead_share=1.0)
    with segments.reopen(folder, NAME, policy=policy) as collection:
        seal_tail(collection)
        newest = range(4, DOCUMENTS, 60)
        collection.upsert([specimen.document(n) for n in newest], vectors=VECTORS[newest])
        first, second = records(collection)
        assert set(INDEXES) <= first.files.keys()
        assert SCAN in second.files
        rows = searched_rows(collection, QUERIES[0])
        assert rows["memtable"] == len(newest)
        assert sum(rows.values()) == DOCUMENTS
        tombstones = collection.stats()["tombstones"]
        assert tombstones > 0
    return folder


def seal_tail(collection):
    """Seal the memtable as a background thread would while writes come in."""
    with collection._store._maintenance._lease(5.0):
        assert collection._store._maintenance._do_all(settle=False) == 1


def answers(folder):
    """Read the specimen in every way that goes through segments."""
    with specimen.reopen(folder) as collection:
        return {
            name: specimen.answer(READINGS[name], collection)
            for name in ("search", "filtered", "tagged", "many", "count")
        }


@pytest.fixture(scope="session")
def right(sealed, tmp_path_factory):
    """What the specimen with segments answers."""
    folder = specimen.copy(sealed, tmp_path_factory.mktemp("right") / "database")
    found = answers(folder)
    assert not any(answer.detected for answer in found.values())
    return found


@pytest.fixture
def folder(sealed, tmp_path):
    return specimen.copy(sealed, tmp_path / "database")


def files_named(folder, name):
    return sorted((folder / NAME / "segments").glob(f"*/{name}"))


def assert_unharmed(folder, right):
    """Verify that every answer is right, and that maintenance makes everything sound again."""
    assert answers(folder) == right
    with segments.reopen(folder, NAME) as collection:
        for query in QUERIES:
            collection.search(query)  # also finds what only shows when vectors are read
        maintain(collection)
        assert maintain(collection) == 0
        assert folders(collection) == sorted(record.folder for record in records(collection))
        assert collection._store._snapshots.unusable == frozenset()  # or they are built for ever
    with segments.reopen(folder, NAME) as collection:
        rows = searched_rows(collection, QUERIES[0])
        assert rows["segments"] >= DOCUMENTS - TINY.seal_rows
        assert collection._store._snapshots.unusable == frozenset()
        for part in collection._store._snapshots._snapshot.parts:
            if part.segment:
                part.segment.verify(None)  # raises if a block is not as it was written
        assert collection.check().ok
    assert answers(folder) == right


def damaged(content, kind):
    """Return the content of a file after some damage; None if it is gone."""
    middle = len(content) // 2
    return {
        "missing": None,
        "one byte short": content[:-1],
        "half": content[:middle],
        "empty": b"",
        "one byte longer": content + b"\0",
        "twice as long": content * 2,
        "zeros": bytes(len(content)),
        "other bytes": np.random.default_rng(0).bytes(len(content)),
    }[kind]


KINDS = [
    "missing",
    "one byte short",
    "half",
    "empty",
    "one byte longer",
    "twice as long",
    "zeros",
    "other bytes",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_changes_no_answer_and_is_built_again(folder, right, name, kind):
    paths = files_named(folder, name)
    path = paths[KINDS.index(kind) % len(paths)]
    content = damaged(path.read_bytes(), kind)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert_unharmed(folder, right)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_changes_no_answer(sealed, right, tmp_path, soak, name):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    size_bytes = files_named(sealed, name)[0].stat().st_size
    places = rng.integers(size_bytes, size=FLIPS * soak).tolist()
    folder = specimen.copy(sealed, tmp_path / "database")
    path = files_named(folder, name)[0]
    content = path.read_bytes()
    for place in [0, size_bytes - 1, *places]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        with segments.reopen(folder, NAME) as collection:
            for query, expected in zip(QUERIES, right["search"].value, strict=True):
                found = collection.search(query, k=5, include=specimen.EVERYTHING)
                assert specimen.hits([*found]) == expected, place
            noticed = collection._store._snapshots.unusable
            in_header = name == MAPPED and place < 128  # nothing is read from it
            assert len(noticed) == (not in_header), place
    assert_unharmed(folder, right)


def test_faiss_never_sees_bytes_that_were_not_verified(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(indexes, "_map", seen.append)
    for path in files_named(folder, SCAN):
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 4
        path.write_bytes(content)
    with segments.reopen(folder, NAME) as collection:
        collection.search(QUERIES[0])
        assert len(collection._store._snapshots.unusable) == 2
    assert seen == []


def test_lost_folders_change_no_answer(sealed, right, tmp_path):
    def lose_one(root):
        shutil.rmtree(next(root.iterdir()))

    def lose_files(root):
        for file in next(root.iterdir()).iterdir():
            file.unlink()

    def become_a_file(root):
        shutil.rmtree(root)
        root.write_bytes(b"")

    def swap(root):
        first, second = sorted(root.iterdir())
        first.rename(root / "between")
        second.rename(first)
        (root / "between").rename(second)

    for lose in (lose_one, lose_files, shutil.rmtree, swap):
        folder = specimen.copy(sealed, tmp_path / "database")
        lose(folder / NAME / "segments")
        assert_unharmed(folder, right)
    folder = specimen.copy(sealed, tmp_path / "database")
    become_a_file(folder / NAME / "segments")
    assert answers(folder) == right


def test_a_write_by_filter_works_when_segments_are_lost(folder):
    """It reads the collection inside its own transaction, where there is no second look."""
    for path in files_named(folder, SCAN):
        path.unlink()
    with segments.reopen(folder, NAME) as collection:
        gone = collection.delete(where=nearfield.F.group == 1)
        assert gone == DOCUMENTS // specimen.GROUPS
        assert len(collection.search(QUERIES[0], k=DOCUMENTS)) == DOCUMENTS - gone


RECORD_DAMAGE = {
    "no JSON": "UPDATE segments SET record = '{'",
    "another type of JSON": "UPDATE segments SET record = '[]'",
    "empty": "UPDATE segments SET record = ''",
    "bytes": "UPDATE segments SET record = CAST(record AS BLOB), checksum = checksum + 1",
    "a number": "UPDATE segments SET record = 5",
    "not UTF-8": "UPDATE segments SET record = CAST(x'ff' || record AS TEXT)",
    "other rows": "UPDATE segments SET record = replace(record, '\"rows\":', '\"rows\":1')",
    "checksum": "UPDATE segments SET checksum = checksum + 1",
    "checksum that is text": "UPDATE segments SET checksum = 'x'",
    "first slot": "UPDATE segments SET first_slot = first_slot + 1",
    "first slot that is text": "UPDATE segments SET first_slot = 'x'",
    "last slot": "UPDATE segments SET last_slot = last_slot - 1",
    "last slot far off": "UPDATE segments SET last_slot = last_slot + (1 << 60)",
    "last slot that is text": "UPDATE segments SET last_slot = 'x'",
    "id": "UPDATE segments SET segment_id = segment_id + 100",
}


@pytest.mark.parametrize("damage", RECORD_DAMAGE)
@pytest.mark.parametrize("both", [False, True], ids=["the first", "all"])
def test_a_damaged_record_changes_no_answer(folder, right, damage, both):
    only = "" if both else " WHERE first_slot = (SELECT min(first_slot) FROM segments)"
    sql(folder, RECORD_DAMAGE[damage] + only)
    assert_unharmed(folder, right)


@pytest.mark.parametrize("damage", RECORD_DAMAGE)
def test_a_damaged_record_keeps_no_one_from_writing(folder, damage):
    sql(folder, RECORD_DAMAGE[damage])
    with segments.reopen(folder, NAME, policy=segments.TINY_AUTOMATIC) as collection:
        collection.upsert([Document("new", id="new")], vectors=QUERIES[:1])
        assert collection.search(QUERIES[0], k=1)[0].id == "new"
        assert collection.delete(where=nearfield.F.group == 1) == DOCUMENTS // specimen.GROUPS
        assert collection.delete("new") == 1
        rest = DOCUMENTS - DOCUMENTS // specimen.GROUPS
        assert len(collection.search(QUERIES[0], k=1000)) == rest


def test_a_record_that_seals_another_collections_file_changes_no_answer(folder, right, tmp_path):
    with segments.connect(tmp_path / "other").create("other", dimension=DIMENSION) as other:
        other.upsert([Document("", id=str(n)) for n in range(30)], vectors=VECTORS[:30])
        maintain(other)
        [record] = records(other)
        files = segments.folder_of(other) / "segments" / record.folder
        strange, seal = (files / SCAN).read_bytes(), record.files[SCAN]
    # Only the checksum, and then the file with it: the checksums agree, and the index does not.
    for content in (None, strange):
        with segments.reopen(folder, NAME) as collection:
            first = records(collection)[0]
        changed = json.loads(first.to_json())
        changed["files"][SCAN] = {"size_bytes": seal.size_bytes, "checksum": seal.checksum}
        text = json.dumps(changed)
        sql(
            folder,
            "UPDATE segments SET record = ?, checksum = ? WHERE segment_id = ?",
            text,
            zlib.crc32(text.encode()),
            first.segment_id,
        )
        if content is not None:
            (folder / NAME / "segments" / first.folder / SCAN).write_bytes(content)
        assert_unharmed(folder, right)


TARGET_DAMAGE = ["'{'", "'{}'", "'[]'", "5", "x'ff'", "CAST(x'ff' AS TEXT)", '\'{"recall":"x"}\'']


@pytest.mark.parametrize("value", TARGET_DAMAGE)
def test_a_damaged_target_is_noticed_and_repaired(folder, right, value):
    sql(folder, f"UPDATE state SET target = {value}")
    found = answers(folder)
    for name, answer in found.items():
        assert answer.detected or answer == right[name]
    with segments.reopen(folder, NAME) as collection:
        assert not collection.check().ok
        assert collection.repair().quarantined == ()
        assert collection.check().ok
    assert_unharmed(folder, right)


@pytest.mark.parametrize("value", ["-7", "'x'", "x'00'", "9223372036854775807", "1.5"])
def test_a_damaged_generation_is_noticed_and_repaired(folder, right, value):
    sql(folder, f"UPDATE state SET generation = {value}")
    found = answers(folder)
    for name, answer in found.items():
        assert answer.detected or answer == right[name]
    with segments.reopen(folder, NAME) as collection:
        assert collection.repair().quarantined == ()
        assert collection.check().ok
    assert_unharmed(folder, right)


def test_a_repair_drops_the_segments_and_maintenance_brings_them_back(folder, right):
    with segments.reopen(folder, NAME) as collection, segments.reopen(folder, NAME) as other:
        assert searched_rows(other, QUERIES[0])["segments"]
        collection.repair()
        assert records(collection) == []
        assert searched_rows(collection, QUERIES[0]) == {"segments": 0, "memtable": DOCUMENTS}
        assert searched_rows(other, QUERIES[0]) == {"segments": 0, "memtable": DOCUMENTS}
    assert_unharmed(folder, right)


def test_a_row_that_was_set_aside_is_in_no_segment(folder):
    sql(folder, "UPDATE documents SET text = 'other' WHERE id = 'document-3'")
    with segments.reopen(folder, NAME) as collection:
        assert collection.repair().quarantined == ("document-3",)
        maintain(collection)
        assert len(collection.search(VECTORS[3], k=DOCUMENTS)) == DOCUMENTS - 1
        assert collection.search(VECTORS[3], k=1)[0].id != "document-3"


def test_a_backup_has_no_segments_and_builds_its_own(folder, right, tmp_path):
    with segments.reopen(folder, NAME) as collection:
        collection.backup(tmp_path / "copy")
    assert sorted(p.name for p in (tmp_path / "copy" / NAME).iterdir()) == ["collection.sqlite3"]
    with segments.reopen(tmp_path / "copy", NAME, read_only=True) as collection:
        assert searched_rows(collection, QUERIES[0]) == {"segments": 0, "memtable": DOCUMENTS}
    assert_unharmed(tmp_path / "copy", right)


def test_a_read_only_handle_searches_segments_and_builds_none(folder, right):
    with segments.reopen(folder, NAME, read_only=True, policy=segments.TINY_AUTOMATIC) as reader:
        assert searched_rows(reader, QUERIES[0])["segments"]
        with pytest.raises(ReadOnlyError):
            maintain(reader)
    for path in files_named(folder, SCAN):
        path.write_bytes(b"")
    before = files(folder)
    with segments.reopen(folder, NAME, read_only=True, policy=segments.TINY_AUTOMATIC) as reader:
        assert searched_rows(reader, QUERIES[0]) == {"segments": 0, "memtable": DOCUMENTS}
        assert not reader._store._maintenance.running
    assert files(folder) == before
    assert_unharmed(folder, right)


@pytest.mark.skipif(os.name == "nt", reason="folders have no such permissions there")
def test_a_read_only_folder_with_segments_is_searched(folder):
    places = [folder / NAME, *sorted((folder / NAME).glob("**/*"))]
    before = files(folder)
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        with segments.reopen(folder, NAME, read_only=True) as reader:
            assert searched_rows(reader, QUERIES[0])["segments"]
            assert len(reader.search(QUERIES[0], k=DOCUMENTS)) == DOCUMENTS
    finally:
        for path in places:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert {name for name in files(folder) if "-" not in name} == {
        name for name in before if "-" not in name
    }


def files(folder):
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.glob("*/segments/**/*")
        if path.is_file()
    }


class Builder:
    """A thread that builds a segment and stops in the middle of it until it is let go."""

    def __init__(self, collection):
        self.entered, self.leave = threading.Event(), threading.Event()
        self.error = None
        maintenance = collection._store._maintenance
        compaction = maintenance._compaction
        copy_rows = compaction._copy_rows

        def stopping(*arguments):
            copy_rows(*arguments)
            self.entered.set()
            assert self.leave.wait(60)

        compaction._copy_rows = stopping
        self.built = 0
        self._thread = threading.Thread(target=self._build, args=(collection,))

    def _build(self, collection):
        try:
            self.built = maintain(collection)
        except NearfieldError as error:
            self.error = error

    def __enter__(self):
        self._thread.start()
        assert self.entered.wait(60)
        return self

    def __exit__(self, *_):
        self.leave.set()
        self._thread.join()


@pytest.fixture
def unsealed(tmp_path):
    """A collection that has much to be sealed."""
    with segments.connect(tmp_path / "database").create(NAME, dimension=DIMENSION) as collection:
        collection.upsert(
            [specimen.document(n) for n in range(DOCUMENTS)], vectors=VECTORS[:DOCUMENTS]
        )
        yield collection


def test_a_collection_is_neither_dropped_nor_renamed_during_a_build(unsealed, tmp_path):
    database = segments.connect(tmp_path / "database")
    with Builder(unsealed) as builder:
        with pytest.raises(CollectionInUseError):
            database.drop(NAME)
        with pytest.raises(CollectionInUseError):
            database.rename(NAME, "other")
        builder.leave.set()
    assert builder.built == 1
    assert searched_rows(unsealed, QUERIES[0])["segments"] == DOCUMENTS


def test_a_collection_closed_during_a_build_leaves_nothing_behind(unsealed, tmp_path):
    database = segments.connect(tmp_path / "database")
    with Builder(unsealed) as builder:
        unsealed.close()
        database.rename(NAME, "other")
        builder.leave.set()
    assert builder.error is not None
    assert database.names() == ["other"]
    assert not (tmp_path / "database" / NAME).exists()
    with database.open("other") as collection:
        assert maintain(collection) == 1
        assert len(folders(collection)) == 1
        assert searched_rows(collection, QUERIES[0])["segments"] == DOCUMENTS
    database.drop("other")
    assert sorted(p.name for p in (tmp_path / "database").iterdir()) == ["nearfield.lock"]


def test_what_is_deleted_and_written_during_a_build_is_right(unsealed):
    with Builder(unsealed) as builder:
        unsealed.delete([specimen.identifier(n) for n in range(50)])
        unsealed.upsert([Document("", id="new")], vectors=QUERIES[:1])
        unsealed.upsert([Document("", id="document-60")], vectors=QUERIES[1:2])
        builder.leave.set()
    assert builder.built
    found = {hit.id for hit in unsealed.search(QUERIES[0], k=1000)}
    expected = {specimen.identifier(n) for n in range(50, DOCUMENTS)} | {"new"}
    assert found == expected
    assert unsealed.search(QUERIES[1], k=1)[0].id == "document-60"
    assert maintain(unsealed) == 0


def test_more_deletions_during_a_build_than_are_kept_are_not_forgotten(unsealed, monkeypatch):
    monkeypatch.setattr("nearfield.stores.local.tombstones._KEPT", 4)
    monkeypatch.setattr("nearfield.stores.local.tombstones._TRIMMED_EVERY", 1)
    with Builder(unsealed) as builder:
        unsealed.delete([specimen.identifier(n) for n in range(50)])
        builder.leave.set()
    found = {hit.id for hit in unsealed.search(QUERIES[0], k=1000)}
    assert found == {specimen.identifier(n) for n in range(50, DOCUMENTS)}
    assert searched_rows(unsealed, QUERIES[0])["segments"] == DOCUMENTS - 50


def test_rows_deleted_before_they_are_copied_are_not_counted_as_dead(unsealed):
    compaction = unsealed._store._maintenance._compaction
    copy_rows = compaction._copy_rows

    def deleting(*arguments):
        unsealed.delete([specimen.identifier(n) for n in range(50)])
        copy_rows(*arguments)

    compaction._copy_rows = deleting
    assert maintain(unsealed) == 1  # a segment whose rows are all alive is not built again
    del compaction._copy_rows
    assert unsealed.stats()["tombstones"] == 0
    assert maintain(unsealed) == 0
    assert searched_rows(unsealed, QUERIES[0]) == {"segments": DOCUMENTS - 50, "memtable": 0}


def test_a_handle_that_slept_while_rows_were_sealed_deleted_and_unsealed_wakes_up(tmp_path):
    database = segments.connect(tmp_path / "database")
    with database.create(NAME, dimension=DIMENSION) as writer, database.open(NAME) as sleeper:
        numbers = range(100)
        writer.upsert([specimen.document(n) for n in numbers], vectors=VECTORS[numbers])
        assert len(sleeper.search(QUERIES[0], k=1000)) == 100
        writer.delete(specimen.identifier(0))
        assert maintain(writer) == 1
        late = range(100, 108)  # too few to be merged with the others
        writer.upsert([specimen.document(n) for n in late], vectors=VECTORS[late])
        assert maintain(writer) == 1
        writer.delete([specimen.identifier(n) for n in numbers])
        maintain(writer)
        assert [record.rows for record in records(writer)] == [len(late)]
        found = sorted(hit.id for hit in sleeper.search(QUERIES[0], k=1000))
        assert found == sorted(specimen.identifier(n) for n in late)


def test_a_repair_first_ends_the_build_that_is_under_way(tmp_path):
    """It may replace the file, and a segment of the old one must not come to the new one."""
    database = segments.connect(tmp_path / "database", policy=segments.TINY_AUTOMATIC)
    with database.create(NAME, dimension=DIMENSION) as collection:
        maintenance = collection._store._maintenance
        entered, leave = threading.Event(), threading.Event()

        def endless(writer, task, checkpoint):
            entered.set()
            while not leave.wait(0.01):
                checkpoint()

        maintenance._compaction._copy_rows = endless
        collection.upsert([specimen.document(n) for n in range(40)], vectors=VECTORS[:40])
        try:
            assert entered.wait(60)
            assert collection.repair().quarantined == ()
            assert not maintenance.running
        finally:
            leave.set()
        assert folders(collection) == records(collection) == []
        del maintenance._compaction._copy_rows
        maintain(collection)
        assert searched_rows(collection, QUERIES[0])["segments"] == 40


def test_a_segment_of_any_few_rows_can_be_built(tmp_path):
    policy = segments.Policy(index_rows=0, seal_rows=1, quiet_seal_rows=1, automatic=False)
    for metric in nearfield.Metric:
        for rows in (1, 2, 3, 15, 16, 17, 63, 64, 65):
            database = segments.connect(tmp_path / f"{metric}-{rows}", policy=policy)
            with database.create(NAME, dimension=DIMENSION, metric=metric) as collection:
                numbers = range(rows)
                collection.upsert([specimen.document(n) for n in numbers], vectors=VECTORS[numbers])
                assert maintain(collection) == 1
                assert searched_rows(collection, QUERIES[0]) == {"segments": rows, "memtable": 0}
                assert len(collection.search(QUERIES[0], k=100)) == rows


@pytest.mark.parametrize("name", FILES)
def test_check_names_a_damaged_segment_and_repair_throws_it_away(folder, right, name):
    path = files_named(folder, name)[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with segments.reopen(folder, NAME) as collection:
        found = collection.check()
        assert found.documents == DOCUMENTS
        assert [problem.kind for problem in found.problems] == ["segment"]
        assert collection.repair().quarantined == ()
        assert collection.check().ok
    assert_unharmed(folder, right)
