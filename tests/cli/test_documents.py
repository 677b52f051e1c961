"""``nearfield get`` and ``nearfield delete``."""

import json


def test_get_shows_text_and_metadata(invoke, database):
    ran = invoke("get", "dogs/1", "--db", database)
    assert ran.exit_code == 0
    assert "animal: dog" in ran.stdout
    assert "year: 2021" in ran.stdout
    assert "Dogs fetch sticks" in ran.stdout


def test_get_returns_what_is_there_and_fails_for_what_is_not(invoke, database):
    ran = invoke("get", "dogs/1", "absent", "--db", database, "--json")
    answer = json.loads(ran.stdout)
    assert ran.exit_code == 1
    assert [document["id"] for document in answer["documents"]] == ["dogs/1"]
    assert answer["documents"][0]["metadata"] == {"animal": "dog", "year": 2021}
    assert answer["documents"][0]["created_at"]
    assert answer["missing"] == ["absent"]
    assert ran.stderr == "error: not found: absent\n"


def test_delete_by_id_tells_how_many_were_there(invoke, database):
    ran = invoke("delete", "dogs/1", "cats/1", "--db", database, "--json")
    assert ran.exit_code == 0
    assert json.loads(ran.stdout) == {"collection": "default", "deleted": 2, "missing": []}
    left = invoke("search", "dog", "--db", database, "--json")
    assert [hit["id"] for hit in json.loads(left.stdout)["hits"]] == ["volcanoes/1"]


def test_deleting_what_is_not_there_is_told(invoke, database):
    ran = invoke("delete", "absent", "dogs/1", "dogs/1", "--db", database, "--json")
    assert ran.exit_code == 1
    assert json.loads(ran.stdout) == {"collection": "default", "deleted": 1, "missing": ["absent"]}


def test_delete_by_filter_needs_a_yes_where_nobody_can_be_asked(invoke, database):
    where = '{"year": {"$gte": 2021}}'
    refused = invoke("delete", "--where", where, "--db", database, "--json")
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    done = invoke("delete", "--where", where, "--db", database, "--json", "--yes")
    assert json.loads(done.stdout)["deleted"] == 2


def test_delete_refuses_both_ids_and_a_filter_and_neither(invoke, database):
    for arguments in (["dogs/1", "--where", "{}"], []):
        ran = invoke("delete", *arguments, "--db", database, "--yes")
        assert ran.exit_code == 2
    stats = invoke("search", "dog", "--db", database, "--json")
    assert len(json.loads(stats.stdout)["hits"]) == 3


def test_escape_sequences_in_a_document_are_not_sent_to_the_terminal(invoke, tmp_path):
    import nearfield

    with nearfield.open(tmp_path / "db", "default") as collection:
        collection.upsert([nearfield.Document("a\x1b[2Jb", id="x", metadata={"k": "\x1b[31m"})])
    shown = invoke("get", "x", "--db", tmp_path / "db")
    assert shown.exit_code == 0
    assert "\x1b" not in shown.stdout
    exact = invoke("get", "x", "--db", tmp_path / "db", "--json")
    assert json.loads(exact.stdout)["documents"][0]["text"] == "a\x1b[2Jb"
