"""``assess``: one report, with findings, for any vectors that can be measured."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from tests.quality.spaces import gaussian, planted

from nearfield.errors import InvalidInputError, InvalidVectorError
from nearfield.vectors import quality
from nearfield.vectors.quality import MEANINGS, Level, Space, assess
from nearfield.vectors.quality.table import lines_of

MEASURES = (
    "intrinsic_dimension",
    "dimension_efficiency",
    "isotropy",
    "hubness",
    "coherence",
    "distances",
    "outliers",
    "clusters",
)


def texts_of(report, level):
    return " ".join(finding.text for finding in report.findings if finding.level is level)


@pytest.fixture(scope="module")
def faulty():
    """Six topics with copies, near-copies, outliers and a zero."""
    vectors, truth = planted(6, 60)
    vectors[300:330] = vectors[:30]
    vectors[330:350] = vectors[30:50] * 1.0001 + 0.001
    vectors[[100, 101]] = 5 * gaussian(2, 32, seed=3)
    vectors[200] = 0
    ids = [f"doc {row}" for row in range(len(vectors))]
    return vectors, truth.tolist(), ids


@pytest.fixture(scope="module")
def faulty_report(faulty):
    vectors, labels, ids = faulty
    other = gaussian(40, 32, seed=1)
    return assess(
        vectors,
        labels=labels,
        ids=ids,
        against=other,
        against_ids=[f"query {row}" for row in range(40)],
    )


def test_what_is_wrong_is_said_in_words_with_ids(faulty_report):
    warnings = texts_of(faulty_report, Level.WARNING)
    notes = texts_of(faulty_report, Level.NOTE)
    assert "Vectors of zeros (1): doc 200." in warnings
    assert "8.3 % of the documents (30) repeat another exactly: doc 0, doc 300" in warnings
    assert "have a near-duplicate" in warnings
    assert "doc 101" in notes + warnings
    assert "doc 100" in notes + warnings
    assert "as far from all documents as random ones" in warnings
    assert "query " in warnings
    levels = [finding.level for finding in faulty_report.findings]
    assert levels == sorted(levels, key=list(Level).index)
    for finding in faulty_report.findings:
        assert bool(finding.advice) == (finding.level is not Level.GOOD)


def test_a_report_is_json_with_ids_beside_positions(faulty_report):
    report = json.loads(json.dumps(faulty_report.to_dict(), allow_nan=False))
    assert report["rows"] == 360
    assert report["zero_rows"] == 1
    assert report["duplicates"]["exact_groups"][0]["rows"] == [0, 300]
    assert report["duplicates"]["exact_groups"][0]["ids"] == ["doc 0", "doc 300"]
    hub = report["hubness"]["hubs"][0]
    assert hub["id"] == f"doc {hub['row']}"
    far = report["drift"]["far_rows"]
    assert report["drift"]["far_ids"] == [f"query {row}" for row in far]
    assert "assignments" not in report["clusters"]
    for name in (*MEASURES, "label_coherence", "drift"):
        assert report[name] is not None


def test_every_measure_is_explained_and_in_the_table(faulty_report):
    assert [line.measure for line in lines_of(faulty_report)] == list(MEANINGS)
    for place, meaning in MEANINGS.items():
        part, _, field = place.partition(".")
        assert isinstance(getattr(getattr(faulty_report, part), field), float)
        assert all(dataclasses.astuple(meaning))
    for finding in faulty_report.findings:
        assert finding.measure in MEANINGS or finding.measure == "zero_rows"


def test_sound_vectors_give_no_warning():
    vectors, truth = planted(6, 60, spread=0.8)
    report = assess(vectors, labels=truth.tolist(), against=planted(6, 60, spread=0.8)[0])
    assert not texts_of(report, Level.WARNING)
    assert "No duplicates were found." in texts_of(report, Level.GOOD)
    assert "not found to differ" in texts_of(report, Level.GOOD)


def test_a_cone_is_warned_of():
    lean = gaussian(500, 32)
    lean[:, 0] += 10
    assert "point the same way" in texts_of(assess(lean), Level.WARNING)


def test_hubs_and_lost_neighbours_are_warned_of():
    report = assess(gaussian(1_000, 400), metric="euclidean")
    assert "near very many others" in texts_of(report, Level.WARNING)
    assert "hardly nearer than a random one" in texts_of(report, Level.WARNING)
    assert "the 10 nearest of no other" in texts_of(report, Level.NOTE)


def test_a_label_of_many_values_is_not_held_against_the_vectors():
    report = assess(gaussian(100, 8), labels=[f"{row}" for row in range(100)])
    assert "nearly one for each" in texts_of(report, Level.NOTE)


def test_the_same_seed_gives_the_same_report():
    vectors, truth = planted(5, 200, spread=0.7)
    options = {"labels": truth.tolist(), "against": gaussian(100, 32), "sample": 300}
    one, same, other = (assess(vectors, **options, seed=seed).to_dict() for seed in (7, 7, 8))
    assert one == same
    assert {**one, "seed": 8} != other


def test_the_caller_s_vectors_stay_as_they_are():
    vectors = gaussian(100, 8)
    vectors.setflags(write=False)
    kept = vectors.copy()
    assess(vectors, against=vectors)
    assert (vectors == kept).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int16, "memmap", "strided", list])
def test_numbers_of_any_kind_are_measured_alike(dtype, tmp_path):
    rounded = np.round(gaussian(60, 6) * 10)
    expected = assess(rounded).to_dict()
    if dtype == "memmap":
        np.save(tmp_path / "rows.npy", rounded)
        given = np.load(tmp_path / "rows.npy", mmap_mode="r")
    elif dtype == "strided":
        given = np.repeat(rounded, 2, axis=1)[:, ::2]
    else:
        given = rounded.tolist() if dtype is list else rounded.astype(dtype)
    assert assess(given).to_dict() == expected


def test_blocks_make_no_difference(monkeypatch):
    vectors, _ = planted(5, 100)
    vectors[33] = 0
    whole = assess(vectors, sample=200).to_dict()
    monkeypatch.setattr(quality.space, "_BLOCK_VALUES", 32 * 37)
    assert assess(vectors, sample=200).to_dict() == whole


def test_a_sample_says_the_same_as_the_whole_within_its_errors():
    vectors, truth = planted(10, 150, spread=0.6)
    whole = assess(vectors, labels=truth.tolist())
    part = assess(vectors, labels=truth.tolist(), sample=400)
    for place, error in (
        ("isotropy.mean_cosine", "mean_cosine_std"),
        ("coherence.score", "score_std"),
        ("label_coherence.agreement", "agreement_std"),
        ("distances.relative_contrast", "relative_contrast_std"),
        ("clusters.silhouette", "silhouette_std"),
    ):
        name, _, field = place.partition(".")
        of_whole, of_part = getattr(whole, name), getattr(part, name)
        difference = abs(getattr(of_whole, field) - getattr(of_part, field))
        assert difference < 4 * getattr(of_part, error) + 0.01, place


# ── what can hardly be measured ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
@pytest.mark.parametrize(
    "vectors",
    [
        gaussian(1, 4),
        gaussian(2, 4),
        gaussian(3, 4),
        gaussian(7, 4),
        gaussian(60, 1),
        np.ones((60, 4)),
        np.zeros((60, 4)),
        np.repeat(gaussian(2, 4), 30, axis=0),
        np.vstack([gaussian(60, 4), np.zeros((60, 4))]),
        gaussian(60, 4) * 1e15,
        gaussian(60, 4) * 1e-9,
        np.arange(60.0).reshape(-1, 1),
    ],
    ids=[
        "1 row",
        "2 rows",
        "3 rows",
        "fewer than k",
        "dimension 1",
        "all equal",
        "all zeros",
        "two values",
        "half zeros",
        "huge",
        "tiny",
        "a line",
    ],
)
def test_what_cannot_be_measured_is_said_and_nothing_else_fails(vectors, metric):
    report = assess(vectors, metric=metric, against=vectors)
    json.dumps(report.to_dict(), allow_nan=False)
    for name in (*MEASURES, "drift"):
        assert (getattr(report, name) is None) == (name in report.skipped)
    assert all(reason for reason in report.skipped.values())
    lines_of(report)
    if len(vectors) < 50:
        assert "too few" in texts_of(report, Level.NOTE)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e19])
def test_what_is_not_finite_is_refused_with_its_row(bad):
    vectors = gaussian(30, 4)
    vectors[17, 2] = bad
    with pytest.raises(InvalidVectorError, match="row 17 "):
        Space(vectors)


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((np.empty((0, 4)),), {}, "at least one row"),
        ((np.ones(4),), {}, "at least one row"),
        ((np.empty((4, 0)),), {}, "dimension at least 1"),
        ((np.ones((2, 2, 2)),), {}, "shape"),
        ((["a", "b"],), {}, "real numbers"),
        ((np.ones((4, 2)),), {"metric": "hamming"}, "hamming"),
        ((np.ones((4, 2)),), {"sample": 0}, "sample"),
        ((np.ones((4, 2)),), {"neighbours": 0}, "neighbours"),
        ((np.ones((4, 2)),), {"seed": -1}, "seed"),
        ((np.ones((4, 2)),), {"ids": ["a"]}, "1 ids for 4 rows"),
        ((np.ones((4, 2)),), {"labels": ["a"] * 5}, "5 labels for 4 rows"),
        ((np.ones((4, 2)),), {"against_ids": ["a"]}, "against_ids"),
        ((np.ones((4, 2)),), {"against": np.ones((4, 3))}, "dimension"),
    ],
)
def test_bad_arguments_are_refused(arguments, options, said):
    with pytest.raises(InvalidInputError, match=said):
        assess(*arguments, **options)


def test_without_the_extra_the_error_names_it():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from nearfield.errors import MissingDependencyError\n"
        "from nearfield.vectors.quality import Space\n"
        "try:\n    Space([[1.0]])\n"
        "except MissingDependencyError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "nearfield[quality]"' in done.stdout


def test_importing_the_package_brings_nothing_heavy():
    code = (
        "import sys; import nearfield.vectors.quality\n"
        "print(sorted({'faiss', 'sklearn', 'scipy', 'plotly', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
