"""Folders and files that are missing, in the way, or not for us to write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.damage.specimen import (
    DIMENSION,
    DOCUMENTS,
    NAME,
    QUERIES,
    VECTORS,
    database_file,
    document,
    identifier,
    reopen,
)

import nearfield
from nearfield import Document
from nearfield.errors import (
    CollectionExistsError,
    CollectionNotFoundError,
    ReadOnlyError,
    StoreError,
)

NOBODY = 65534
CORE = Path(nearfield.__file__).parent.parent


def test_a_missing_folder_is_not_made_by_looking(tmp_path):
    missing = tmp_path / "missing" / "deeper"
    with pytest.raises(CollectionNotFoundError, match="none"):
        nearfield.open(missing, NAME, create=False)
    with pytest.raises(CollectionNotFoundError):
        nearfield.open(missing, NAME, read_only=True)
    assert nearfield.connect(missing).names() == []
    assert not missing.parent.exists()


def test_a_missing_database_file_is_not_taken_for_an_empty_collection(folder):
    database_file(folder).unlink()
    with pytest.raises(CollectionNotFoundError):
        nearfield.open(folder, NAME, create=False)
    with pytest.raises((CollectionNotFoundError, CollectionExistsError)):
        nearfield.open(folder, NAME, dimension=DIMENSION)
    assert nearfield.connect(folder).names() == []


def test_a_path_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("content")
    with pytest.raises(StoreError, match="file"):
        nearfield.open(path, dimension=DIMENSION)
    with pytest.raises(StoreError):
        nearfield.open(path / "below", dimension=DIMENSION)
    assert path.read_text() == "content"


def test_a_collections_name_that_is_taken_by_a_file_is_refused(tmp_path):
    (tmp_path / "notes").write_text("content")
    with pytest.raises((StoreError, CollectionExistsError, CollectionNotFoundError)):
        nearfield.open(tmp_path, "notes", dimension=DIMENSION)
    assert (tmp_path / "notes").read_text() == "content"


def test_others_files_in_the_folder_are_left_alone(folder):
    others = [folder / ".cache.tmp", folder / ".x.tmp" / "deep", folder / "notes" / "a.txt"]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_text("content")
    database = nearfield.connect(folder)
    assert database.names() == [NAME]
    database.rename(NAME, "other")
    database.drop("other")
    assert all(path.read_text() == "content" for path in others)


def test_read_only_refuses_every_write(folder):
    with reopen(folder, read_only=True) as collection:
        for write in (
            lambda: collection.upsert([document(1)], vectors=VECTORS[:1]),
            lambda: collection.delete(identifier(1)),
            collection.repair,
        ):
            with pytest.raises(ReadOnlyError):
                write()
        assert collection.check().ok
        assert len(collection) == DOCUMENTS
    database = nearfield.connect(folder, read_only=True)
    for change in (
        lambda: database.create("new", dimension=DIMENSION),
        lambda: database.rename(NAME, "new"),
        lambda: database.drop(NAME),
    ):
        with pytest.raises(ReadOnlyError):
            change()


def test_a_read_only_handle_sees_what_another_writes(folder):
    with reopen(folder) as writer, reopen(folder, read_only=True) as reader:
        for turn in range(3):
            writer.upsert([Document("new", id=f"new-{turn}")], vectors=QUERIES[turn : turn + 1])
            assert reader.search(QUERIES[turn], k=1)[0].id == f"new-{turn}"
            assert len(reader) == DOCUMENTS + turn + 1


# ── files that another user owns ────────────────────────────────────────────────────────────────


@pytest.fixture
def foreign(folder, tmp_path_factory):
    """A function that runs code as a user who may read the specimen and not write it."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    database_file(folder).chmod(0o644)
    ours = tmp_path_factory.getbasetemp()
    for path in (database_file(folder).parent, folder, *folder.parents):
        mode = path.stat().st_mode
        if ours in {path, *path.parents} or path.name.startswith(("pytest-", "popen-")):
            path.chmod(mode | 0o055)
        elif not mode & 0o001:
            pytest.skip(f"other users may not enter {path}")

    def start(code):
        program = f"""
            import os
            import faiss, filelock, numpy  # while the interpreter's own files can be read
            import nearfield, nearfield.stores.local.database
            from nearfield.errors import *
            os.setgroups([])
            os.setgid({NOBODY})
            os.setuid({NOBODY})
            import json, sys
            folder = sys.argv[1]
            query = numpy.array(json.loads(sys.argv[2]), "float32")
        """
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                textwrap.dedent(program) + textwrap.dedent(code),
                str(folder),
                json.dumps(QUERIES[0].tolist()),
            ],
            env={**os.environ, "PYTHONPATH": str(CORE)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    return start


def outcome(process):
    """Wait for a process and return what it printed."""
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return json.loads(output)


READ = f"""
    with nearfield.open(folder, {NAME!r}, read_only=True) as collection:
        found = [[hit.id, hit.score] for hit in collection.search(query, k=5)]
        print(json.dumps([len(collection), found, collection.check().ok]))
"""


def expected_reading(folder):
    with reopen(folder) as collection:
        found = [[hit.id, hit.score] for hit in collection.search(QUERIES[0], k=5)]
        return [len(collection), found, True]


def test_a_collection_that_may_not_be_written_can_be_read(folder, foreign):
    expected = expected_reading(folder)
    assert outcome(foreign(READ)) == expected
    assert sorted(path.name for path in database_file(folder).parent.iterdir()) == [
        "collection.sqlite3"
    ]


def test_a_collection_that_may_not_be_written_can_be_read_while_its_owner_writes(folder, foreign):
    with reopen(folder) as owner:
        owner.upsert([Document("new", id="new")], vectors=QUERIES[:1])
        found = [[hit.id, hit.score] for hit in owner.search(QUERIES[0], k=5)]
        assert found[0][0] == "new"
        assert outcome(foreign(READ)) == [DOCUMENTS + 1, found, True]


def test_a_reader_without_write_permission_notices_the_owners_later_writes(folder, foreign):
    process = foreign(f"""
        with nearfield.open(folder, {NAME!r}, read_only=True) as collection:
            print(len(collection), flush=True)
            input()
            print(json.dumps([collection.search(query, k=1)[0].id, len(collection)]))
    """)
    assert process.stdout.readline() == f"{DOCUMENTS}\n"
    with reopen(folder) as owner:
        owner.upsert([Document("new", id="new")], vectors=QUERIES[:1])
        process.stdin.write("go on\n")
        assert outcome(process) == ["new", DOCUMENTS + 1]


def test_writing_what_may_not_be_written_says_so(foreign):
    code = f"""
        def attempt(change):
            try:
                change()
            except ReadOnlyError as error:
                return "ReadOnlyError"
            except Exception as error:
                return repr(error)

        def write():
            with nearfield.open(folder, {NAME!r}, create=False) as collection:
                collection.upsert([nearfield.Document("x")], vectors=[query])

        database = nearfield.connect(folder)
        print(json.dumps([
            attempt(write),
            attempt(lambda: database.create("new", dimension={DIMENSION})),
            attempt(lambda: database.drop({NAME!r})),
            attempt(lambda: database.rename({NAME!r}, "new")),
        ]))
    """
    assert outcome(foreign(code)) == ["ReadOnlyError"] * 4


def test_a_folder_that_may_not_be_read_says_so(folder, foreign):
    database_file(folder).chmod(0o600)
    code = f"""
        try:
            nearfield.open(folder, {NAME!r}, read_only=True)
        except StoreError as error:
            print(json.dumps(type(error).__name__))
    """
    assert outcome(foreign(code)) in {"StoreError", "ReadOnlyError"}


def test_a_read_only_file_is_refused_to_its_owner_too(folder, foreign):
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    database_file(folder).chmod(0o444)
    process = foreign(f"""
        found = []
        try:
            with nearfield.open(folder, {NAME!r}, create=False) as collection:
                collection.upsert([nearfield.Document("x")], vectors=[query])
        except ReadOnlyError:
            found.append("refused")
        with nearfield.open(folder, {NAME!r}, read_only=True) as collection:
            found.append(len(collection.search(query, k=3)))
        print(json.dumps(found))
    """)
    assert outcome(process) == ["refused", 3]
