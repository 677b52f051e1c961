"""``nearfield search``: what people read, and what programs read."""

import json

import pytest


def test_a_question_finds_what_means_the_same_by_default(invoke, database):
    ran = invoke("search", "a kitten on a rug", "--db", database, "-k", "1")
    assert ran.exit_code == 0
    assert "cats/1" in ran.stdout
    assert "The cat sat on the mat" in ran.stdout
    assert "dogs/1" not in ran.stdout


def test_hits_are_one_json_document(invoke, database):
    ran = invoke("search", "lava", "--db", database, "--json", "--mode", "vector", "-k", 2)
    answer = json.loads(ran.stdout)
    assert ran.exit_code == 0
    assert answer["query"] == "lava"
    assert answer["mode"] == "vector"
    assert answer["collection"] == "default"
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2]
    best = answer["hits"][0]
    assert best["id"] == "volcanoes/1"
    assert best["text"].startswith("Volcanoes erupt")
    assert best["metadata"] == {"year": 2023}
    assert best["score"] > answer["hits"][1]["score"]


def test_keywords_match_words_and_nothing_else(invoke, database):
    ran = invoke("search", "sticks", "--db", database, "--json", "-m", "keyword")
    assert [hit["id"] for hit in json.loads(ran.stdout)["hits"]] == ["dogs/1"]


def test_a_filter_keeps_only_what_matches(invoke, database):
    where = '{"year": {"$gte": 2021}}'
    ran = invoke("search", "cat", "--db", database, "--json", "--where", where)
    assert {hit["id"] for hit in json.loads(ran.stdout)["hits"]} == {"dogs/1", "volcanoes/1"}


def test_a_document_can_be_the_example(invoke, database):
    ran = invoke("search", "--like", "cats/1", "--db", database, "--json", "-k", 1)
    answer = json.loads(ran.stdout)
    assert answer["like"] == "cats/1"
    assert answer["mode"] == "vector"
    assert [hit["id"] for hit in answer["hits"]] == ["dogs/1"]


def test_a_search_without_hits_succeeds_and_says_so_on_stderr(invoke, database):
    ran = invoke("search", "zzzzzz", "--db", database, "-m", "keyword")
    assert ran.exit_code == 0
    assert ran.stdout == ""
    assert ran.stderr == "no hits\n"


def test_a_minimum_score_leaves_out_what_scores_less(invoke, database):
    ran = invoke(
        *("search", "lava", "--db", database, "--json", "-m", "vector", "--min-score", "0.2")
    )
    hits = json.loads(ran.stdout)["hits"]
    assert [hit["id"] for hit in hits] == ["volcanoes/1"]
    assert hits[0]["score"] >= 0.2


def test_a_hits_title_and_section_are_shown_above_its_id(invoke, database):
    ran = invoke("search", "cat", "--db", database, "-m", "keyword")
    assert "Pets · At home\n    cats/1\n" in ran.stdout


def test_piped_output_is_plain_and_fits_80_columns(run_process, database):
    ran = run_process("search", "animals that purr", "--db", database)
    assert ran.returncode == 0
    assert "\x1b" not in ran.stdout
    assert not set(ran.stdout) & set("─│┃━╭╮╰╯")
    assert all(len(line) <= 80 and line == line.rstrip() for line in ran.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["cat", "--where", "{year: 2020}"], "is not JSON"),
        (["cat", "--where", "[1]"], "expected a JSON object"),
        (["cat", "--where", '{"year": {"$near": 3}}'], "$near"),
        (["cat", "-k", "0"], "-k"),
        (["cat", "--mode", "psychic"], "psychic"),
        ([], "QUERY or --like"),
        (["cat", "--like", "cats/1"], "QUERY or --like"),
    ],
)
def test_bad_input_is_refused_with_its_reason(invoke, database, arguments, told):
    ran = invoke("search", *arguments, "--db", database)
    assert ran.exit_code == 2
    assert ran.stdout == ""
    assert told in ran.stderr
    assert ran.stderr.startswith("error: ")
    assert ran.stderr.count("\n") == 1


def test_options_can_come_from_the_environment(run_process, database):
    ran = run_process("search", "cat", "--json", NEARFIELD_DB=str(database))
    assert len(json.loads(ran.stdout)["hits"]) == 3
