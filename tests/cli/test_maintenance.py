"""``nearfield stats``, ``check``, ``repair``, ``backup`` and ``collections``."""

import json
import os
import sys

import pytest

import nearfield


def test_stats_are_one_json_document(invoke, database):
    ran = invoke("stats", "--db", database, "--json")
    figures = json.loads(ran.stdout)
    assert ran.exit_code == 0
    assert figures["name"] == "default"
    assert figures["documents"] == 3


def test_stats_read_well(invoke, database):
    ran = invoke("stats", "--db", database)
    assert ran.exit_code == 0
    assert "documents" in ran.stdout
    assert "{" not in ran.stdout


def test_check_of_a_sound_collection_succeeds(invoke, database):
    ran = invoke("check", "--db", database, "--json")
    assert ran.exit_code == 0
    assert json.loads(ran.stdout) == {
        "collection": "default",
        "ok": True,
        "documents": 3,
        "problems": [],
    }
    assert "3 documents" in invoke("check", "--db", database).stdout


def damage_one_text(database):
    """Change a stored byte behind the checksums' back, as a failing disk would."""
    path = database / "default" / "collection.sqlite3"
    content = path.read_bytes()
    assert content.count(b"Dogs fetch sticks") >= 1
    path.write_bytes(content.replace(b"Dogs fetch sticks", b"Dogs fetch stocks"))


def test_check_tells_of_damage_and_repair_sets_it_aside(invoke, database):
    damage_one_text(database)
    checked = invoke("check", "--db", database, "--json")
    report = json.loads(checked.stdout)
    assert checked.exit_code == 3
    assert report["ok"] is False
    assert report["problems"]
    assert {"kind", "detail", "id"} == set(report["problems"][0])
    shown = invoke("check", "--db", database)
    assert shown.exit_code == 3
    assert "nearfield repair" in shown.stderr

    repaired = invoke("repair", "--db", database, "--json")
    report = json.loads(repaired.stdout)
    assert repaired.exit_code == 4
    assert report["documents"] == 2
    assert report["quarantined"] == ["dogs/1"]
    assert report["actions"]
    assert invoke("check", "--db", database).exit_code == 0


def test_repair_of_a_sound_collection_changes_nothing(invoke, database):
    ran = invoke("repair", "--db", database, "--json")
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["documents"] == 3
    assert json.loads(ran.stdout)["quarantined"] == []


def test_a_backup_answers_as_the_original_does(invoke, database, tmp_path):
    ran = invoke("backup", tmp_path / "copy", "--db", database, "--json")
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["destination"] == str(tmp_path / "copy")
    asked = ["search", "lava", "--json", "-m", "vector", "--db"]
    original, copy = (
        json.loads(invoke(*asked, folder).stdout)["hits"]
        for folder in (database, tmp_path / "copy")
    )
    assert copy == original


def test_collections_are_listed_with_their_sizes(invoke, database):
    for arguments in (["collections"], ["collections", "list"]):
        ran = invoke(*arguments, "--db", database, "--json")
        assert ran.exit_code == 0
        (listed,) = json.loads(ran.stdout)["collections"]
        assert listed["name"] == "default"
        assert listed["documents"] == 3
        assert listed["dimension"] == 384
        assert listed["metric"] == "cosine"
    assert "default" in invoke("collections", "--db", database).stdout


def test_a_collection_can_be_renamed_and_dropped(invoke, database):
    renamed = invoke("collections", "rename", "default", "pets", "--db", database, "--json")
    assert json.loads(renamed.stdout) == {"renamed": "default", "to": "pets"}
    refused = invoke("collections", "drop", "pets", "--db", database)
    assert refused.exit_code == 2
    assert nearfield.connect(database).names() == ["pets"]
    dropped = invoke("collections", "drop", "pets", "--yes", "--db", database, "--json")
    assert json.loads(dropped.stdout) == {"dropped": "pets"}
    assert nearfield.connect(database).names() == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, []), ("n", 130, ["default"])])
def test_at_a_terminal_dropping_is_asked_about(nearfield_process, database, answer, code, left):
    import pty

    master, terminal = pty.openpty()
    try:
        os.write(master, f"{answer}\n".encode())
        process = nearfield_process(
            *("collections", "drop", "default", "--db", database), stdin=terminal
        )
        _, err = process.communicate(timeout=60)
    finally:
        os.close(master)
        os.close(terminal)
    assert process.returncode == code
    assert "delete collection 'default' and its 3 documents?" in err
    assert nearfield.connect(database).names() == left


def test_a_collection_that_is_not_there_is_not_found(invoke, database):
    commands = [
        ["search", "cat", "-c", "absent"],
        ["get", "x", "-c", "absent"],
        ["delete", "x", "-c", "absent"],
        ["stats", "-c", "absent"],
        ["check", "-c", "absent"],
        ["repair", "-c", "absent"],
        ["collections", "drop", "absent", "--yes"],
        ["collections", "rename", "absent", "other"],
    ]
    for command in commands:
        ran = invoke(*command, "--db", database)
        assert ran.exit_code == 1, command
        assert ran.stdout == ""
        assert "absent" in ran.stderr
        assert ran.stderr.startswith("error: ")
        assert ran.stderr.count("\n") == 1
    assert nearfield.connect(database).names() == ["default"]
