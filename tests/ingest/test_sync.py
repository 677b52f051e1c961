"""Sync: a collection follows its files, whatever happens in between."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.embedders import HashingEmbedder
from tests.ingest.files import make_docx, make_pdf

import nearfield
from nearfield.documents import Document
from nearfield.errors import EmbedderRequiredError, InvalidInputError
from nearfield.filters import F
from nearfield.ingest import (
    Progress,
    TextChunker,
    async_sync,
    async_sync_documents,
    sync,
    sync_documents,
)

PROSE = " ".join(f"Sentence number {n} speaks of topic {n % 7}." for n in range(60))
CHUNKER = TextChunker(200)


@pytest.fixture
def collection(tmp_path):
    with nearfield.open(tmp_path / "db", "notes", embedder=HashingEmbedder()) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path):
    """A small tree with every kind of file."""
    root = tmp_path / "docs"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "a.txt").write_text(PROSE)
    (root / "b.md").write_text(f"# Top\n\nShort.\n\n## Detail\n\n{PROSE}\n")
    (root / "sub" / "c.html").write_text("<title>Page</title><h1>Head</h1><p>Words.</p>")
    (root / "sub" / "d.csv").write_text("name,year\nada,1815\ngrace,1906\nalan,1912\n")
    (root / "sub" / "deep" / "e.pdf").write_bytes(make_pdf(["First page.", "Second page."]))
    (root / "sub" / "deep" / "f.docx").write_bytes(make_docx())
    (root / "g.jsonl").write_text(
        "".join(
            json.dumps({"id": f"r{n}", "text": f"Record {n}. {PROSE}"}) + "\n" for n in range(4)
        )
    )
    return root


def contents(collection):
    """Everything the collection holds, by id, the embeddings to the bit."""
    return {
        d.id: (d.text, dict(d.metadata), d.embedding.tobytes())
        for d in collection.scan(include=("text", "metadata", "embedding"))
    }


def fresh(tmp_path, folder, **options):
    """What an uninterrupted sync into a new collection gives."""
    name = f"fresh-{len(list(tmp_path.glob('fresh-*')))}"
    with nearfield.open(tmp_path / name, embedder=HashingEmbedder()) as other:
        sync(other, folder, chunker=CHUNKER, **options)
        return contents(other)


def counts(report):
    return (report.added, report.updated, report.unchanged, report.removed, len(report.failures))


# ── what is written ──────────────────────────────────────────────────────────────────────────


def test_every_chunk_says_where_it_came_from(collection, folder):
    report = sync(collection, folder, chunker=CHUNKER)
    assert counts(report) == (12, 0, 0, 0, 0)
    assert report.chunks_written == collection.count()
    source = (folder / "b.md").as_posix()
    chunks = sorted(
        collection.scan(where=F.source == source), key=lambda chunk: chunk.metadata["chunk"]
    )
    assert len(chunks) > 3
    for position, chunk in enumerate(chunks):
        assert chunk.id == f"{source}#{position}"
        assert chunk.metadata["chunk"] == position
        assert chunk.metadata["chunks"] == len(chunks)
        assert chunk.metadata["title"] == "Top"
        assert chunk.metadata.get("previous") == (f"{source}#{position - 1}" if position else None)
        last = position == len(chunks) - 1
        assert chunk.metadata.get("next") == (None if last else f"{source}#{position + 1}")
        assert len(chunk.metadata["content_hash"]) == 64
    assert chunks[0].metadata["section"] == "Top"
    assert chunks[1].metadata["section"] == "Top > Detail"
    assert "previous" not in chunks[0].metadata


def test_pages_titles_and_records_are_in_the_metadata(collection, folder):
    sync(collection, folder, chunker=CHUNKER)
    pdf = (folder / "sub/deep/e.pdf").as_posix()
    assert [collection.get(f"{pdf}#{n}").metadata["page"] for n in (0, 1)] == [1, 2]
    assert collection.get(f"{pdf}#0").metadata["title"] == "e.pdf"
    table = (folder / "sub/d.csv").as_posix()
    ada = collection.get(f"{table}#1#0")
    assert ada.text == "name: ada\nyear: 1815"
    assert (ada.metadata["record"], ada.metadata["year"]) == ("1", 1815)
    assert {d.metadata["title"] for d in collection.scan(where=F.year > 1900)} == {"grace", "alan"}
    lines = (folder / "g.jsonl").as_posix()
    assert collection.get(f"{lines}#r2#1").metadata["record"] == "r2"


def test_what_was_ingested_is_found(collection, folder):
    sync(collection, folder, chunker=CHUNKER)
    hit = collection.search("year 1906 name grace", k=1)[0]
    assert hit.metadata["title"] == "grace"


def test_fields_of_a_file_cannot_pose_as_the_syncs_own(collection, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "t", "source": "s", "chunk": 9, "content_hash": "h", "source_": 1}\n')
    sync(collection, path)
    metadata = next(iter(collection.scan())).metadata
    assert metadata["source"] == path.as_posix()
    assert (metadata["source__"], metadata["source_"]) == ("s", 1)
    assert (metadata["chunk"], metadata["chunk_"], metadata["content_hash_"]) == (0, 9, "h")
    assert counts(sync(collection, path)) == (0, 0, 1, 0, 0)


# ── incremental ──────────────────────────────────────────────────────────────────────────────


class CountingEmbedder(HashingEmbedder):
    """Remembers how many texts it embedded."""

    embedded = 0

    def embed_documents(self, texts):
        self.embedded += len(texts)
        return super().embed_documents(texts)


def test_a_second_sync_embeds_and_writes_nothing(tmp_path, folder):
    embedder = CountingEmbedder()
    with nearfield.open(tmp_path / "db", embedder=embedder) as collection:
        sync(collection, folder, chunker=CHUNKER)
        before, embedded = contents(collection), embedder.embedded
        report = sync(collection, folder, chunker=CHUNKER)
        assert counts(report) == (0, 0, 12, 0, 0)
        assert report.chunks_written == 0
        assert embedder.embedded == embedded == len(before)
        assert contents(collection) == before


def test_a_changed_file_replaces_its_chunks_and_touches_no_others(collection, folder, tmp_path):
    sync(collection, folder, chunker=CHUNKER)
    (folder / "a.txt").write_text("Now it is short.")
    report = sync(collection, folder, chunker=CHUNKER)
    assert counts(report) == (0, 1, 11, 0, 0)
    assert report.chunks_written == 1
    assert contents(collection) == fresh(tmp_path, folder)


def test_only_the_records_that_changed_are_written(collection, folder, tmp_path):
    sync(collection, folder, chunker=CHUNKER)
    path = folder / "g.jsonl"
    lines = path.read_text().splitlines()
    lines[0] = json.dumps({"id": "r0", "text": "Rewritten."})
    del lines[2]
    lines.append(json.dumps({"id": "r9", "text": "Appended."}))
    path.write_text("\n".join(lines))
    report = sync(collection, folder, chunker=CHUNKER)
    assert counts(report) == (1, 1, 10, 1, 0)
    assert contents(collection) == fresh(tmp_path, folder)


def test_another_chunker_or_another_setting_writes_all_anew(collection, folder):
    sync(collection, folder, chunker=TextChunker(200))
    assert counts(sync(collection, folder, chunker=TextChunker(300))) == (0, 12, 0, 0, 0)
    assert counts(sync(collection, folder, chunker=TextChunker(300, overlap=50)))[1] == 12
    assert counts(sync(collection, folder, chunker=TextChunker(300, overlap=50)))[2] == 12


def test_chunks_that_were_deleted_by_hand_come_back(collection, folder, tmp_path):
    sync(collection, folder, chunker=CHUNKER)
    collection.delete(f"{(folder / 'a.txt').as_posix()}#1")
    report = sync(collection, folder, chunker=CHUNKER)
    assert counts(report) == (0, 1, 11, 0, 0)
    assert contents(collection) == fresh(tmp_path, folder)


def test_a_file_that_lost_its_text_loses_its_chunks(collection, folder):
    sync(collection, folder, chunker=CHUNKER)
    (folder / "a.txt").write_text("  \n")
    report = sync(collection, folder, chunker=CHUNKER)
    assert counts(report) == (0, 0, 11, 1, 0)
    assert report.empty == 1
    assert collection.count(F.source == (folder / "a.txt").as_posix()) == 0
    assert counts(sync(collection, folder, chunker=CHUNKER)) == (0, 0, 11, 0, 0)


def test_documents_of_others_are_never_touched(collection, folder):
    source = (folder / "a.txt").as_posix()
    mine = Document("mine", id="mine", metadata={"source": source})
    gone = Document("gone", id="gone", metadata={"source": f"{folder.as_posix()}/nowhere.txt"})
    collection.upsert([mine, gone])
    sync(collection, folder, chunker=CHUNKER, prune=True)
    (folder / "a.txt").write_text("Changed.")
    sync(collection, folder, chunker=CHUNKER, prune=True)
    (folder / "a.txt").unlink()
    sync(collection, folder, chunker=CHUNKER, prune=True)
    assert collection.get(["mine", "gone"]) == [mine, gone]
    assert collection.count(F.source == source) == 1


# ── pruning ──────────────────────────────────────────────────────────────────────────────────


def test_a_vanished_file_stays_until_a_sync_prunes(collection, folder, tmp_path):
    sync(collection, folder, chunker=CHUNKER)
    (folder / "a.txt").unlink()
    shutil.rmtree(folder / "sub" / "deep")
    assert counts(sync(collection, folder, chunker=CHUNKER)) == (0, 0, 9, 0, 0)
    assert counts(sync(collection, folder, chunker=CHUNKER, prune=True)) == (0, 0, 9, 3, 0)
    assert contents(collection) == fresh(tmp_path, folder)


def test_pruning_stays_under_the_given_folders(collection, folder):
    sync(collection, folder, chunker=CHUNKER)
    before = collection.count()
    (folder / "a.txt").unlink()
    # A folder whose name only begins alike is another folder.
    (folder.parent / "doc").mkdir()
    assert counts(sync(collection, folder / "sub", prune=True, chunker=CHUNKER))[3] == 0
    assert counts(sync(collection, folder.parent / "doc", prune=True))[3] == 0
    assert collection.count() == before


def test_a_missing_folder_is_a_failure_and_prunes_nothing(collection, folder):
    sync(collection, folder, chunker=CHUNKER)
    before = contents(collection)
    folder.rename(folder.parent / "moved")
    report = sync(collection, folder, chunker=CHUNKER, prune=True)
    assert [failure.source for failure in report.failures] == [folder.as_posix()]
    assert contents(collection) == before


def test_a_vanished_file_that_is_named_itself_is_pruned(collection, tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("words")
    sync(collection, path)
    path.unlink()
    assert len(sync(collection, path).failures) == 1
    assert counts(sync(collection, path, prune=True)) == (0, 0, 0, 1, 0)
    assert collection.count() == 0


def test_pruning_keeps_what_is_on_the_disk_but_passed_over(collection, folder):
    sync(collection, folder, chunker=CHUNKER)
    before = contents(collection)
    report = sync(collection, folder, chunker=CHUNKER, prune=True, include=["*.md"])
    assert counts(report) == (0, 0, 1, 0, 0)
    (folder / "a.txt").write_bytes(b"\xff\xff not text")
    assert counts(sync(collection, folder, chunker=CHUNKER, prune=True)) == (0, 0, 11, 0, 1)
    assert contents(collection) == before


# ── which files ──────────────────────────────────────────────────────────────────────────────


def sources(collection):
    return sorted({Path(d.metadata["source"]).name for d in collection.scan()})


def test_hidden_and_machine_made_files_are_passed_over_and_unknown_ones_counted(
    collection, tmp_path
):
    root = tmp_path / "project"
    for name in (
        *(".git/a.txt", ".hidden.txt", "node_modules/p/a.md", "__pycache__/a.txt"),
        *(".venv/a.txt", "~$open.docx", "keep.txt", "photo.PNG", "Makefile", "deep/x.png"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("words")
    report = sync(collection, root)
    assert sources(collection) == ["keep.txt"]
    assert report.skipped == {".png": 2, "no suffix": 1}
    assert report.ok


def test_patterns_choose_files_by_name_and_by_path(collection, folder):
    sync(collection, folder, include=["*.md", "sub/*"], exclude=["deep", "*.csv"])
    assert sources(collection) == ["b.md", "c.html"]


def test_a_pattern_given_as_a_string_is_refused(collection, folder):
    with pytest.raises(InvalidInputError, match=r"expected a list of patterns: \['\*.md'\]"):
        sync(collection, folder, include="*.md")


def test_symbolic_links_are_not_followed_round_in_circles(collection, folder):
    (folder / "sub" / "loop").symlink_to(folder)
    (folder / "again.txt").symlink_to(folder / "a.txt")
    report = sync(collection, folder, chunker=CHUNKER)
    assert report.added == 12
    assert report.skipped == {"symbolic link": 2}


def test_a_root_named_twice_or_by_a_link_is_read_once(collection, folder, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folder)
    report = sync(
        collection, [folder, str(link), folder / "a.txt", folder / "sub"], chunker=CHUNKER
    )
    assert counts(report) == (12, 0, 0, 0, 0)


# ── failures ─────────────────────────────────────────────────────────────────────────────────


def test_what_cannot_be_read_is_reported_by_name_and_stops_nothing(collection, tmp_path):
    root = tmp_path / "mixed"
    root.mkdir()
    (root / "bad.pdf").write_bytes(b"%PDF-1.7 nothing")
    (root / "bad.txt").write_bytes(b"caf\xe9")
    (root / "bad.jsonl").write_text('{"a": 1}\n{')
    (root / "large.txt").write_text("x" * 2000)
    (root / "good.txt").write_text("good words")
    (root / "named.xyz").write_text("x")
    report = sync(collection, [root, root / "named.xyz", root / "missing.txt"], max_file_bytes=1000)
    assert sources(collection) == ["good.txt"]
    assert not report.ok
    reasons = {Path(failure.source).name: failure.reason for failure in report.failures}
    assert sorted(reasons) == [
        *("bad.jsonl", "bad.pdf", "bad.txt", "large.txt", "missing.txt", "named.xyz"),
    ]
    assert "byte 3 is 0xe9" in reasons["bad.txt"]
    assert "larger than 1000 bytes" in reasons["large.txt"]
    assert "No such file" in reasons["missing.txt"]
    assert "'.xyz'" in reasons["named.xyz"]


def test_a_file_that_has_become_unreadable_keeps_its_chunks(collection, folder):
    sync(collection, folder, chunker=CHUNKER)
    before = contents(collection)
    for path in (folder / "a.txt", folder / "g.jsonl", folder / "sub/deep/e.pdf"):
        path.write_bytes(b"\x00\x01 damaged")
    report = sync(collection, folder, chunker=CHUNKER)
    assert counts(report) == (0, 0, 6, 0, 3)
    assert contents(collection) == before


def test_a_document_that_cannot_be_stored_is_reported_and_the_batch_goes_on(collection, tmp_path):
    path = tmp_path / "x.jsonl"
    deep = "[" * 40 + "]" * 40
    path.write_text(f'{{"text": "one"}}\n{{"text": "two", "deep": {deep}}}\n{{"text": "three"}}\n')
    report = sync(collection, path)
    assert counts(report) == (2, 0, 0, 0, 1)
    assert report.failures[0].source == f"{path.as_posix()}#2"
    assert "nested deeper than" in report.failures[0].reason
    assert sorted(d.text for d in collection.scan()) == ["one", "three"]


@pytest.mark.skipif(os.name != "posix", reason="needs file names of any bytes")
def test_a_file_name_that_is_no_utf8_is_reported(collection, tmp_path):
    root = tmp_path / "names"
    root.mkdir()
    try:
        (root / os.fsdecode(b"caf\xe9.txt")).write_text("words")
    except OSError:
        pytest.skip("this file system refuses such names")
    report = sync(collection, root)
    assert report.failures[0].source.endswith("caf\\udce9.txt")
    assert "not UTF-8" in report.failures[0].reason


@pytest.mark.skipif(os.name != "posix", reason="needs a named pipe")
def test_a_pipe_is_neither_opened_nor_waited_for(collection, tmp_path):
    root = tmp_path / "pipes"
    root.mkdir()
    os.mkfifo(root / "a.txt")
    assert sync(collection, root).skipped == {"special file": 1}
    assert "neither a file nor a folder" in sync(collection, root / "a.txt").failures[0].reason


def test_an_encoding_that_is_named_reads_old_files(collection, tmp_path):
    path = tmp_path / "old.txt"
    path.write_bytes(b"caf\xe9")
    assert not sync(collection, path).ok
    assert sync(collection, path, encoding="latin-1").ok
    document = next(iter(collection.scan()))
    assert (document.text, document.metadata["encoding"]) == ("café", "latin-1")


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"max_file_bytes": 0}, {"encoding": "no-such"}]
)
def test_options_out_of_range_are_refused(collection, folder, options):
    with pytest.raises(InvalidInputError):
        sync(collection, folder, **options)


def test_a_collection_of_given_vectors_is_refused_at_once(tmp_path, folder):
    with (
        nearfield.open(tmp_path / "vectors", dimension=4) as vectors,
        pytest.raises(EmbedderRequiredError),
    ):
        sync(vectors, folder)


# ── interruption ─────────────────────────────────────────────────────────────────────────────


class Interrupted(BaseException):
    """Like KeyboardInterrupt, no Exception."""


def whole_documents(collection):
    """Whether each source's and record's chunks are all there or not at all, and of one version."""
    groups: dict[tuple[str, str | None], list[dict]] = {}
    for document in collection.scan():
        key = (document.metadata["source"], document.metadata.get("record"))
        groups.setdefault(key, []).append(dict(document.metadata))
    return all(
        sorted(m["chunk"] for m in group) == list(range(group[0]["chunks"]))
        and len({m["content_hash"] for m in group}) == 1
        for group in groups.values()
    )


def edit(folder):
    """Change, empty, add and delete some of the files."""
    (folder / "a.txt").write_text(PROSE[:700])
    (folder / "sub" / "c.html").unlink()
    (folder / "sub" / "d.csv").write_text("name,year\nada,1815\ngrace,1907\n")
    (folder / "new.md").write_text(f"# New\n\n{PROSE}")


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_interrupted_at_any_step_and_run_again_it_ends_as_if_never_interrupted(
    tmp_path, folder, batch_size
):
    options = {"chunker": CHUNKER, "batch_size": batch_size, "prune": True}
    base = tmp_path / "base"
    with nearfield.open(base, embedder=HashingEmbedder()) as collection:
        sync(collection, folder, **options)
    edit(folder)
    expected = fresh(tmp_path, folder)
    interrupted, step = True, 0
    while interrupted:
        step += 1
        copy = tmp_path / f"copy-{step}"
        shutil.copytree(base, copy)
        with nearfield.open(copy, embedder=HashingEmbedder()) as collection:
            interrupted = was_interrupted(collection, folder, at=step, **options)
            assert whole_documents(collection)
            sync(collection, folder, **options)
            assert contents(collection) == expected
            assert counts(sync(collection, folder, **options))[:2] == (0, 0)
        shutil.rmtree(copy)
    assert step > 8


def was_interrupted(collection, folder, *, at, **options):
    steps = itertools.count(1)

    def tell(progress):
        if next(steps) == at:
            raise Interrupted

    try:
        sync(collection, folder, on_progress=tell, **options)
    except Interrupted:
        return True
    return False


def test_what_was_done_before_an_interruption_is_not_done_again(tmp_path, folder):
    embedder = CountingEmbedder()
    with nearfield.open(tmp_path / "db", embedder=embedder) as collection:
        written = 0

        def stop(progress):
            nonlocal written
            written = progress.chunks_written
            if progress.chunks_written >= 20:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            sync(collection, folder, chunker=CHUNKER, batch_size=4, on_progress=stop)
        assert collection.count() == written
        embedder.embedded = 0
        report = sync(collection, folder, chunker=CHUNKER, batch_size=4)
        assert embedder.embedded == report.chunks_written == collection.count() - written


CHILD = """
import sys
import nearfield
from nearfield.ingest import TextChunker, sync
from tests.embedders import HashingEmbedder

def tell(progress):
    print(progress.chunks_written, flush=True)

with nearfield.open(sys.argv[1], embedder=HashingEmbedder()) as collection:
    sync(collection, sys.argv[2], chunker=TextChunker(200), batch_size=3, on_progress=tell)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("lines", [2, 6, 11, 17])
def test_killed_in_the_middle_and_run_again_it_ends_as_if_never_killed(tmp_path, folder, lines):
    database = tmp_path / "killed"
    with nearfield.open(database, embedder=HashingEmbedder()) as collection:
        sync(collection, folder, chunker=CHUNKER)
    for path in (folder / "a.txt", folder / "b.md", folder / "g.jsonl"):
        path.write_text(path.read_text().replace("topic", "subject"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, database, folder],
        stdout=subprocess.PIPE,
        env=environment,
    )
    with child:
        told = [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
    assert all(told), "the child ended before it was killed"
    expected = fresh(tmp_path, folder)
    with nearfield.open(database, embedder=HashingEmbedder()) as collection:
        assert collection.check().ok
        assert whole_documents(collection)
        sync(collection, folder, chunker=CHUNKER)
        assert contents(collection) == expected


# ── progress ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_progress_never_goes_back_and_ends_at_the_totals(collection, folder, batch_size):
    told: list[Progress] = []
    sync(collection, folder, chunker=CHUNKER, batch_size=batch_size, on_progress=told.append)
    size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    for before, after in itertools.pairwise(told):
        assert before.files_done <= after.files_done
        assert before.bytes_done <= after.bytes_done
        assert before.chunks_written <= after.chunks_written
    assert told[-1] == Progress(7, 7, collection.count(), size_bytes, size_bytes, None)
    assert {Path(p.source).name for p in told if p.source} == {
        path.name for path in folder.rglob("*.*")
    }


def test_progress_moves_within_a_file_of_many_chunks_that_is_written_at_once(collection, tmp_path):
    path = tmp_path / "large.txt"
    path.write_text(PROSE * 5)
    told: list[tuple[int, int, int]] = []

    def tell(progress):
        told.append((progress.bytes_done, progress.chunks_written, collection.count()))

    report = sync(collection, path, chunker=CHUNKER, batch_size=8, on_progress=tell)
    assert len({bytes_done for bytes_done, _, _ in told}) > 5
    assert {(chunks, count) for _, chunks, count in told} == {
        (0, 0),
        (report.chunks_written, report.chunks_written),
    }


# ── documents that are no files ──────────────────────────────────────────────────────────────


def documents(count):
    return [
        Document(f"{n}. {PROSE}", id=f"doc-{n}", metadata={"title": f"No. {n}", "kind": "made"})
        for n in range(count)
    ]


def test_documents_are_chunked_and_followed_like_files(collection):
    given = documents(5)
    assert counts(sync_documents(collection, given, chunker=CHUNKER)) == (5, 0, 0, 0, 0)
    first = collection.get("doc-3#0")
    assert first.metadata["source"] == "doc-3"
    assert (first.metadata["title"], first.metadata["kind"]) == ("No. 3", "made")
    assert first.metadata["next"] == "doc-3#1"
    given[3] = Document("Rewritten.", id="doc-3")
    assert counts(sync_documents(collection, iter(given), chunker=CHUNKER)) == (0, 1, 4, 0, 0)
    assert collection.get("doc-3#1") is None
    assert collection.get("doc-3#0").text == "Rewritten."


def test_documents_that_are_no_longer_given_are_pruned_where_the_filter_matches(collection):
    other = Document("other", id="other", metadata={"kind": "kept"})
    sync_documents(collection, [*documents(4), other], chunker=CHUNKER)
    report = sync_documents(collection, documents(2), chunker=CHUNKER, prune={"kind": "made"})
    assert counts(report) == (0, 0, 2, 2, 0)
    assert {d.metadata["source"] for d in collection.scan()} == {"doc-0", "doc-1", "other"}


def test_documents_from_an_iterator_have_unknown_totals(collection):
    told: list[Progress] = []
    sync_documents(collection, iter(documents(3)), on_progress=told.append)
    assert {(p.files_total, p.bytes_total) for p in told} == {(None, None)}
    assert told[-1].files_done == 3


def test_a_document_that_cannot_be_stored_does_not_stop_the_others(collection):
    bad = [
        Document("x", id="bad-metadata", metadata={"value": object()}),
        Document("lone \ud800 surrogate", id="bad-text"),
        Document("x", id=""),
        Document(" ", id="blank"),
    ]
    report = sync_documents(collection, [*documents(1), *bad, Document("good", id="good")])
    assert (report.added, report.empty) == (2, 1)
    assert [failure.source for failure in report.failures] == ["bad-metadata", "bad-text", ""]


def test_interrupted_documents_resume_too(collection):
    def stop(progress):
        if progress.chunks_written > 10:
            raise Interrupted

    with pytest.raises(Interrupted):
        sync_documents(collection, documents(8), chunker=CHUNKER, batch_size=4, on_progress=stop)
    done = len({d.metadata["source"] for d in collection.scan()})
    assert 0 < done < 8
    assert counts(sync_documents(collection, documents(8), chunker=CHUNKER)) == (
        8 - done,
        0,
        done,
        0,
        0,
    )


# ── async ────────────────────────────────────────────────────────────────────────────────────


async def test_the_async_twins_do_the_same_without_blocking_the_loop(collection, folder, tmp_path):
    threads = set()
    report = await async_sync(
        collection,
        folder,
        chunker=CHUNKER,
        on_progress=lambda _: threads.add(threading.current_thread()),
    )
    assert counts(report) == (12, 0, 0, 0, 0)
    assert contents(collection) == fresh(tmp_path, folder)
    assert threading.main_thread() not in threads
    assert (await async_sync_documents(collection, documents(2))).added == 2


async def test_a_cancelled_sync_has_ended_when_the_cancellation_arrives(collection, folder):
    reached, release = threading.Event(), threading.Event()

    def hold(progress):
        if progress.chunks_written:
            reached.set()
            release.wait(10)

    task = asyncio.create_task(
        async_sync(collection, folder, chunker=CHUNKER, batch_size=2, on_progress=hold)
    )
    await asyncio.to_thread(reached.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    count = collection.count()
    assert whole_documents(collection)
    await asyncio.sleep(0.05)
    assert collection.count() == count
    assert sync(collection, folder, chunker=CHUNKER).added > 0
