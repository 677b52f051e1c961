"""``nearfield quality``: a table, JSON, and a page, of a collection or a file."""

from __future__ import annotations

import json

import numpy as np
import pytest

import nearfield
from nearfield import Document
from nearfield.cli.quality import _without_secrets
from nearfield.vectors.quality import reading

ROWS, DIMENSION = 240, 16


@pytest.fixture(scope="module")
def sound_vectors():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((4, DIMENSION))
    rows = centres[np.arange(ROWS) % 4] + 0.4 * rng.standard_normal((ROWS, DIMENSION))
    return rows.astype(np.float32)


@pytest.fixture(scope="module")
def topics(tmp_path_factory, sound_vectors):
    """A database of given vectors: four topics, six copies, and a document of ill will."""
    folder = tmp_path_factory.mktemp("quality") / "database"
    vectors = sound_vectors.copy()
    vectors[200:206] = vectors[:6]
    documents = [
        Document(
            f"text {row}",
            id=f"d{row}",
            metadata={"topic": {"name": f"topic {row % 4}"}, "year": 2000 + row % 4},
        )
        for row in range(ROWS)
    ]
    documents[7] = Document(
        "</script><script>alert('text')</script>",
        id="<img src=x onerror=alert('id')>",
        metadata={"topic": {"name": "</script><script>alert('topic')</script>"}},
    )
    with nearfield.open(folder, dimension=DIMENSION, durability="normal") as collection:
        collection.upsert(documents, vectors=vectors)
    with nearfield.open(folder, "later", dimension=DIMENSION, durability="normal") as later:
        later.upsert([f"later {row}" for row in range(60)], vectors=sound_vectors[:60] + 1)
    return folder


def test_a_table_and_findings_are_printed(invoke, topics):
    ran = invoke("quality", topics)
    assert ran.exit_code == 0, ran.stderr
    assert f"{topics}/default: 240 documents of 16 dimensions, compared by cosine" in ran.stdout
    assert "Intrinsic dimension, TwoNN" in ran.stdout
    assert "warning: 2.5 % of the documents (6) repeat another exactly: d0, d200." in ran.stdout
    assert "delete the copies" in ran.stdout


def test_the_database_may_be_named_as_in_other_commands(invoke, topics):
    by_place = invoke("quality", topics, "--json")
    by_option = invoke("quality", "--db", topics, "-c", "default", "--json")
    assert by_place.stdout == by_option.stdout
    assert by_place.exit_code == 0


def test_json_is_one_document_with_everything(invoke, topics):
    ran = invoke("quality", topics, "--field", "topic.name", "--json")
    report = json.loads(ran.stdout)
    assert ran.stderr == ""
    assert report["total"] == report["rows"] == ROWS
    assert report["metric"] == "cosine"
    assert report["label_coherence"]["agreement"] > 0.9
    assert report["label_coherence"]["labels"] == 5
    assert {"ids": ["d0", "d200"], "size": 2, "similarity": 1.0}.items() <= report["duplicates"][
        "exact_groups"
    ][0].items()
    assert report["drift"] is None
    assert report["html"] is None
    assert all({"level", "measure", "text", "advice"} == set(one) for one in report["findings"])


def test_the_clusters_are_the_topics(invoke, topics):
    report = json.loads(invoke("quality", topics, "--json").stdout)
    assert report["clusters"]["k"] == 4
    report = json.loads(invoke("quality", topics, "--clusters", "3", "--json").stdout)
    assert report["clusters"]["k"] == 3


def test_a_filter_chooses_what_is_measured(invoke, topics):
    ran = invoke("quality", topics, "--where", '{"year": {"$gte": 2002}}', "--json")
    assert json.loads(ran.stdout)["rows"] == ROWS // 2 - 1
    nothing = invoke("quality", topics, "--where", '{"year": 1066}')
    assert nothing.exit_code == 2
    assert "holds no documents that match" in nothing.stderr


def test_a_field_that_is_not_text_is_a_label_too(invoke, topics):
    report = json.loads(invoke("quality", topics, "--field", "year", "--json").stdout)
    assert report["label_coherence"]["labels"] == 4
    assert report["label_coherence"]["labelled"] == pytest.approx(239 / 240)


def test_a_file_of_vectors_is_measured(invoke, sound_vectors, tmp_path):
    path = tmp_path / "vectors.npy"
    np.save(path, sound_vectors)
    report = json.loads(invoke("quality", path, "--metric", "euclidean", "--json").stdout)
    assert report["rows"] == ROWS
    assert report["metric"] == "euclidean"
    assert "id" not in report["hubness"]["hubs"][0]


@pytest.mark.parametrize("how", ["beside", "path", "npy"])
def test_drift_is_measured_against_a_collection_or_a_file(
    invoke, topics, sound_vectors, tmp_path, how
):
    np.save(tmp_path / "other.npy", sound_vectors[:60] + 1)
    against = {"beside": "later", "path": f"{topics}/later", "npy": tmp_path / "other.npy"}[how]
    drift = json.loads(invoke("quality", topics, "--against", against, "--json").stdout)["drift"]
    assert drift["differs"] is True
    assert drift["auc"] > 0.8
    assert drift["compared"] == [ROWS, 60]


def test_queries_of_a_text_file_are_embedded_as_queries(invoke, database, tmp_path):
    queries = tmp_path / "queries.txt"
    queries.write_text("".join(f"question {row}\n\n" for row in range(12)), encoding="utf-8")
    ran = invoke("quality", database, "--against", queries, "--json")
    report = json.loads(ran.stdout)
    assert ran.exit_code == 0
    assert "drift" in report["skipped"]  # three documents are too few
    assert report["rows"] == 3
    queries.write_text("\n", encoding="utf-8")
    assert "holds no query" in invoke("quality", database, "--against", queries).stderr


def test_a_page_is_written_with_the_texts_of_the_documents(invoke, topics, tmp_path):
    page = tmp_path / "page.html"
    ran = invoke("quality", topics, "--field", "topic.name", "--against", "later", "--html", page)
    assert ran.exit_code == 0, ran.stderr
    assert f"wrote {page}" in ran.stderr.replace("\n", "")
    written = page.read_text(encoding="utf-8")
    assert "text 200" in written
    assert "topic 3" in written
    assert "later 5" in written
    for attack in ("<script>alert", "<img src=x"):
        assert attack not in written


def test_a_large_collection_is_measured_by_a_part_of_it(invoke, topics, monkeypatch):
    monkeypatch.setattr(reading, "MAX_READ_BYTES", 100 * 4 * DIMENSION)
    ran = invoke("quality", topics, "--json")
    report = json.loads(ran.stdout)
    assert report["total"] == ROWS
    assert report["rows"] == 100
    assert "100 of 240 documents" in invoke("quality", topics).stdout


def test_the_part_that_is_read_is_drawn_evenly(topics):
    drawn = np.zeros(ROWS)
    with nearfield.open(topics, create=False) as collection:
        place = {document.id: row for row, document in enumerate(collection.scan())}
        for seed in range(60):
            found = reading.read_collection(
                collection, field="year", max_bytes=60 * 4 * DIMENSION, seed=seed
            )
            assert len(found.ids) == len(set(found.ids)) == len(found.vectors) == 60
            vector = collection.get(found.ids[17], include=("embedding",)).embedding
            assert (vector == found.vectors[17]).all()
            drawn[[place[identifier] for identifier in found.ids]] += 1
    assert drawn.mean() == 15
    assert drawn[:80].mean() == pytest.approx(15, abs=1.5)
    assert drawn[-80:].mean() == pytest.approx(15, abs=1.5)


def test_what_does_not_go_together_is_refused(invoke, topics, sound_vectors, tmp_path):
    path = tmp_path / "vectors.npy"
    np.save(path, sound_vectors)
    narrow = tmp_path / "narrow.npy"
    np.save(narrow, sound_vectors[:, :8])
    flat = tmp_path / "flat.npy"
    np.save(flat, sound_vectors[0])
    pickled = tmp_path / "pickled.npy"
    np.save(pickled, np.array([{}], dtype=object), allow_pickle=True)
    broken = tmp_path / "broken.npy"
    broken.write_bytes(b"not numpy")
    queries = tmp_path / "queries.txt"
    queries.write_text("why?\n", encoding="utf-8")
    latin = tmp_path / "latin.txt"
    latin.write_text("café\n", encoding="latin-1")
    for arguments, said in (
        ([path, "--field", "topic"], "need a collection"),
        ([path, "--against", "later"], "PATH/COLLECTION"),
        ([path, "--against", queries], "embedded by a collection's model"),
        ([topics, "--metric", "dot"], "compares by cosine"),
        ([topics, "--against", narrow], "dimension"),
        ([flat], "(n, dimension)"),
        ([pickled], "not a .npy file of numbers"),
        ([broken], "not a .npy file of numbers"),
        ([topics, "--against", latin], "is not UTF-8"),
        ([topics, "--field", "absent"], "has the metadata field 'absent'"),
        ([topics, "--html", tmp_path / "absent" / "page.html"], "there is no folder"),
        ([topics, "--html", tmp_path], "--html"),
        ([topics, "--near", "2"], "near"),
        ([topics, "--sample", "1"], "--sample"),
    ):
        ran = invoke("quality", *arguments)
        assert ran.exit_code == 2, (arguments, ran.stderr)
        assert said in ran.stderr
        assert ran.stdout == ""


def test_what_is_not_there_is_not_found(invoke, topics, tmp_path):
    assert invoke("quality", topics, "-c", "absent").exit_code == 1
    assert invoke("quality", topics, "--against", "absent").exit_code == 1
    assert invoke("quality", tmp_path / "absent.npy").exit_code == 3


def test_a_url_is_shown_without_its_password():
    url = "postgresql://me:secret@host:5432/db?password=other"
    assert _without_secrets(url) == "postgresql://host:5432/db"
    assert _without_secrets("a/folder") == "a/folder"


def test_an_empty_collection_has_nothing_to_measure(invoke, tmp_path):
    with nearfield.open(tmp_path / "empty", dimension=3):
        pass
    ran = invoke("quality", tmp_path / "empty")
    assert ran.exit_code == 2
    assert "holds no documents" in ran.stderr
