"""``nearfield ingest``: files in, only what changed, and every failure by name."""

import json
import signal
import time

import pytest

import nearfield


@pytest.fixture
def folder(tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    (files / "guide.md").write_text(
        "# Guide\n\nHow to boil water.\n\n## Kettle\n\nFill it first.\n"
    )
    (files / "notes.txt").write_text("The train leaves at noon.")
    (files / "picture.png").write_bytes(b"\x89PNG")
    return files


def test_files_are_read_and_found(invoke, folder, tmp_path):
    db = tmp_path / "db"
    ran = invoke("ingest", folder, "--db", db, "--json")
    report = json.loads(ran.stdout)
    assert ran.exit_code == 0
    assert report["collection"] == "default"
    assert report["ok"] is True
    assert report["added"] == 2
    assert report["skipped"] == {".png": 1}
    found = invoke("search", "when does the train leave", "--db", db, "--json", "-k", 1)
    (hit,) = json.loads(found.stdout)["hits"]
    assert hit["metadata"]["source"] == (folder / "notes.txt").as_posix()


def test_a_second_run_writes_only_what_changed(invoke, folder, tmp_path):
    db = tmp_path / "db"
    invoke("ingest", folder, "--db", db)
    (folder / "notes.txt").write_text("The train leaves at one.")
    report = json.loads(invoke("ingest", folder, "--db", db, "--json").stdout)
    assert (report["added"], report["updated"], report["unchanged"]) == (0, 1, 1)
    assert report["chunks_written"] == 1


def test_the_summary_reads_well(invoke, folder, tmp_path):
    ran = invoke("ingest", folder, "--db", tmp_path / "db", "-c", "docs")
    assert ran.exit_code == 0
    first, second = ran.stdout.splitlines()
    assert first.startswith("docs: 2 added; ")
    assert first.endswith(" s")
    assert second == "passed over: 1 .png"
    assert ran.stderr == ""


def test_a_file_that_fails_is_named_and_the_others_are_read(invoke, folder, tmp_path):
    (folder / "broken.json").write_text('{"text": ')
    ran = invoke("ingest", folder, "--db", tmp_path / "db")
    assert ran.exit_code == 4
    assert "2 added, 1 failed" in ran.stdout
    assert ran.stderr.startswith("failed: ")
    assert "broken.json" in ran.stderr
    as_json = invoke("ingest", folder, "--db", tmp_path / "db", "--json")
    assert as_json.exit_code == 4
    report = json.loads(as_json.stdout)
    assert report["ok"] is False
    (failure,) = report["failures"]
    assert failure["source"].endswith("broken.json")
    assert failure["reason"]


def test_prune_removes_the_documents_of_files_that_are_gone(invoke, folder, tmp_path):
    db = tmp_path / "db"
    invoke("ingest", folder, "--db", db)
    (folder / "notes.txt").unlink()
    kept = json.loads(invoke("ingest", folder, "--db", db, "--json").stdout)
    assert kept["removed"] == 0
    pruned = json.loads(invoke("ingest", folder, "--db", db, "--json", "--prune").stdout)
    assert pruned["removed"] == 1


def test_patterns_choose_the_files(invoke, folder, tmp_path):
    only = invoke("ingest", folder, "--db", tmp_path / "a", "--json", "--include", "*.md")
    assert json.loads(only.stdout)["added"] == 1
    without = invoke("ingest", folder, "--db", tmp_path / "b", "--json", "--exclude", "*.md")
    assert json.loads(without.stdout)["added"] == 1


def test_a_path_that_is_not_there_is_refused_before_anything_is_made(invoke, tmp_path):
    ran = invoke("ingest", tmp_path / "absent", "--db", tmp_path / "db")
    assert ran.exit_code == 2
    assert "absent" in ran.stderr
    assert not (tmp_path / "db").exists()


def test_embeddings_are_kept_unless_told_otherwise(invoke, folder, tmp_path):
    invoke("ingest", folder, "--db", tmp_path / "with")
    assert (tmp_path / "with" / "embeddings-cache.sqlite3").is_file()
    invoke("ingest", folder, "--db", tmp_path / "without", "--no-cache")
    assert not (tmp_path / "without" / "embeddings-cache.sqlite3").exists()
    assert nearfield.connect(tmp_path / "with").names() == ["default"]


def test_a_cache_does_not_make_a_file_look_changed(invoke, folder, tmp_path):
    db = tmp_path / "db"
    invoke("ingest", folder, "--db", db, "--no-cache")
    report = json.loads(invoke("ingest", folder, "--db", db, "--json").stdout)
    assert report["unchanged"] == 2
    assert report["chunks_written"] == 0


def test_an_embedder_that_nobody_knows_is_refused(invoke, folder, tmp_path):
    ran = invoke("ingest", folder, "--db", tmp_path / "db", "--embedder", "psychic")
    assert ran.exit_code == 2
    assert ran.stderr.startswith("error: ")
    assert "psychic" in ran.stderr


def count_documents(db):
    try:
        with nearfield.open(db, "default", create=False, read_only=True) as collection:
            return len(collection)
    except nearfield.errors.CollectionNotFoundError:
        return 0


def test_an_interrupted_run_says_so_on_one_line_and_goes_on_when_run_again(
    nearfield_process, run_process, tmp_path
):
    files = tmp_path / "many"
    files.mkdir()
    for number in range(500):
        (files / f"{number}.txt").write_text(f"Note {number} tells of the number {number * 7}.")
    process = nearfield_process("ingest", files, "--db", tmp_path / "db", heeds_interrupts=True)
    while count_documents(tmp_path / "db") == 0:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.startswith("interrupted: ")
    assert err.count("\n") == 1
    kept = count_documents(tmp_path / "db")
    assert 0 < kept < 500

    again = run_process("ingest", files, "--db", tmp_path / "db", "--json")
    report = json.loads(again.stdout)
    assert again.returncode == 0
    assert report["unchanged"] == kept
    assert report["added"] == 500 - kept


def test_workers_share_the_work_and_their_rate_is_told(invoke, folder, tmp_path):
    ran = invoke("ingest", folder, "--db", tmp_path / "db", "--workers", "2")
    assert ran.exit_code == 0
    summary, _ = ran.stdout.splitlines()
    assert summary.startswith("default: 2 added; 3 chunks written in ")
    assert summary.endswith(" a second")
    again = invoke("ingest", folder, "--db", tmp_path / "db", "--json")
    assert json.loads(again.stdout)["unchanged"] == 2


def test_workers_that_are_no_number_and_no_cluster_are_refused(invoke, folder, tmp_path):
    ran = invoke("ingest", folder, "--db", tmp_path / "db", "--workers", "many")
    assert ran.exit_code == 2
    assert "dask://host:8786" in ran.stderr
