"""``nearfield demo``: real documents, real answers, and nothing to do the second time."""

import json

import pytest

import nearfield


@pytest.fixture(scope="module")
def demo_database(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "db"


def test_the_demo_indexes_and_answers(invoke, demo_database):
    ran = invoke("demo", "--db", demo_database, "--limit", 120)
    assert ran.exit_code == 0
    assert "demo: 120 added" in ran.stdout
    assert f"nearfield search --db {demo_database} -c demo" in ran.stdout
    assert "hits in" in ran.stdout
    assert all(len(line) <= 80 for line in ran.stdout.splitlines() if line[:1].isdigit())


def test_a_second_run_has_nothing_left_to_embed(invoke, demo_database):
    ran = invoke("demo", "--db", demo_database, "--limit", 120, "--json")
    answer = json.loads(ran.stdout)
    assert ran.exit_code == 0
    assert answer["report"]["unchanged"] == 120
    assert answer["report"]["chunks_written"] == 0
    assert {question["mode"] for question in answer["questions"]} == {
        "vector",
        "keyword",
        "hybrid",
    }
    vector = next(q for q in answer["questions"] if q["mode"] == "vector")
    assert [hit["rank"] for hit in vector["hits"]] == [1, 2, 3]


def test_the_filtered_question_is_answered_by_what_matches_only(invoke, demo_database):
    ran = invoke("demo", "--db", demo_database, "--limit", 120, "--json")
    (filtered,) = [q for q in json.loads(ran.stdout)["questions"] if q["where"]]
    assert filtered["where"] == {"kind": "class"}
    assert filtered["hits"]
    assert {hit["metadata"]["kind"] for hit in filtered["hits"]} == {"class"}


def test_a_larger_demo_goes_on_from_a_smaller_one(invoke, demo_database):
    ran = invoke("demo", "--db", demo_database, "--limit", 150, "--json")
    report = json.loads(ran.stdout)["report"]
    assert (report["unchanged"], report["added"]) == (120, 30)


def test_the_demo_leaves_other_collections_alone(invoke, database):
    assert invoke("demo", "--db", database, "--limit", 5).exit_code == 0
    assert nearfield.connect(database).names() == ["default", "demo"]
    with nearfield.open(database, "default") as collection:
        assert len(collection) == 3
