"""Files that the caller opens are synced as files on the disk are."""

from __future__ import annotations

import pytest
from tests.embedders import HashingEmbedder

import nearfield
from nearfield.errors import IngestError
from nearfield.ingest import sync
from nearfield.ingest.sync import FileContent, SourceFile, sync_files


@pytest.fixture
def collection(tmp_path):
    with nearfield.open(tmp_path / "data", embedder=HashingEmbedder()) as collection:
        yield collection


def test_what_was_synced_from_the_disk_is_unchanged_when_the_caller_opens_it(collection, tmp_path):
    path = tmp_path / "a.md"
    path.write_text("# A\n\ntext")
    assert sync(collection, path).added == 1
    source = path.as_posix()
    file = SourceFile(source, lambda: FileContent(path.read_bytes(), source), 9)
    report = sync_files(collection, [file])
    assert (report.added, report.updated, report.unchanged) == (0, 0, 1)


def test_the_name_chooses_the_reader_and_the_source_names_the_chunks(collection):
    page = b"<html><body><h1>Kettles</h1><p>They boil.</p></body></html>"
    url = "https://pages.test/?id=7"
    report = sync_files(collection, [SourceFile(url, lambda: FileContent(page, "pages.html"))])
    assert report.added == 1
    (chunk,) = collection.scan()
    assert chunk.id == f"{url}#0"
    assert chunk.metadata["title"] == "Kettles"


def test_a_file_that_cannot_be_loaded_is_a_failure_and_keeps_what_is_stored(collection):
    def gone():
        raise IngestError("it is gone", source="b.txt")

    good = SourceFile("a.txt", lambda: FileContent(b"first", "a.txt"))
    sync_files(collection, [good, SourceFile("b.txt", lambda: FileContent(b"second", "b.txt"))])
    report = sync_files(collection, [good, SourceFile("b.txt", gone)])
    assert (report.unchanged, report.updated) == (1, 0)
    assert [failure.source for failure in report.failures] == ["b.txt"]
    assert collection.count() == 2
