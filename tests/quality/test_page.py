"""The HTML page: whole, and safe whatever the documents say."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from tests.quality.spaces import gaussian, planted

from nearfield.vectors.quality import Space, assess
from nearfield.vectors.quality.page import Source, render_page, shown_rows

HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>{{ 7 * 7 }}"


class Elements(HTMLParser):
    """Collects the elements of a page, and the text of its scripts."""

    def __init__(self):
        super().__init__()
        self.names, self.attributes, self.scripts = [], [], []
        self._in_script = False

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += attrs
        if tag == "script":
            self._in_script = True
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data):
        if self._in_script:
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)


def parsed(page):
    elements = Elements()
    elements.feed(page)
    return elements


def figures_of(page):
    (data,) = [text for attributes, text in parsed(page).scripts if attributes.get("id")]
    return json.loads(data)


@pytest.fixture(scope="module")
def hostile_page():
    """A page on which every name and text is an attack."""
    vectors, truth = planted(4, 30)
    vectors[60:70] = vectors[:10]
    ids = [f"{row} {HOSTILE}" for row in range(120)]
    labels = [f"{label} {HOSTILE}" for label in truth]
    against = Space(gaussian(30, 32))
    against_ids = [f"q{row} {HOSTILE}" for row in range(30)]
    space = Space(vectors)
    report = assess(space, labels=labels, ids=ids, against=against, against_ids=against_ids)
    source = Source(
        title=f"title {HOSTILE}",
        total=120,
        model=HOSTILE,
        ids=ids,
        labels=labels,
        field=HOSTILE,
        texts={row: f"text {row} {HOSTILE}" for row in shown_rows(space, report.ids)},
        against_title=HOSTILE,
        against_ids=against_ids,
        against_texts=dict.fromkeys(shown_rows(against, report.against_ids), HOSTILE),
    )
    return render_page(space, report, source, against=against)


def test_nothing_from_a_document_becomes_markup_or_script(hostile_page):
    elements = parsed(hostile_page)
    assert elements.names.count("script") == 3
    assert "img" not in elements.names
    assert not [name for name, _ in elements.attributes if name.startswith("on")]
    assert "<script>alert" not in hostile_page
    assert "</script><script>" not in hostile_page.replace("</script>\n<script>", "")
    assert "{{ 7 * 7 }}" in hostile_page  # not evaluated


def test_the_plots_data_is_json_in_which_texts_are_escaped_for_plotly(hostile_page):
    figures = figures_of(hostile_page)
    hover = figures["map"]["hover"]
    assert len(hover) == 150
    for shown in hover:
        assert set(re.findall(r"<[^>]*>", shown)) <= {"<b>", "</b>", "<br>"}
        assert "&lt;/script&gt;" in shown
    for colouring in figures["map"]["colourings"]:
        for group in colouring["groups"]:
            assert "<" not in group["name"]


def test_only_the_page_s_own_scripts_may_run_and_nothing_is_fetched(hostile_page):
    elements = parsed(hostile_page)
    (policy,) = [
        value for name, value in elements.attributes if name == "content" and "script-src" in value
    ]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    scripts = policy.split("script-src")[1].split(";")[0]
    assert "unsafe" not in scripts
    assert not {"src", "href"} & {name for name, _ in elements.attributes}


def test_the_page_opens_in_one_piece_of_less_than_six_megabytes():
    vectors, _ = planted(6, 400, dimension=16)
    space = Space(vectors)
    against = Space(vectors[::-1].copy())
    ids = [f"a document with a long name, number {row}" for row in range(2_400)]
    report = assess(space, ids=ids, against=against, clusters_wanted=6)
    texts = dict.fromkeys(shown_rows(space, report.ids), "some words of a text " * 40)
    source = Source(
        title="long", total=2_400, ids=ids, texts=texts, against_ids=ids, against_texts=texts
    )
    assert len(render_page(space, report, source, against=against).encode()) < 6e6


def test_colours_are_by_set_by_field_and_by_cluster(hostile_page):
    names = [colouring["name"] for colouring in figures_of(hostile_page)["map"]["colourings"]]
    assert names == ["set", HOSTILE, "cluster"]


def test_each_point_is_in_one_group_of_each_colouring(hostile_page):
    plot = figures_of(hostile_page)["map"]
    for colouring in plot["colourings"]:
        points = [point for group in colouring["groups"] for point in group["points"]]
        assert sorted(points) == list(range(len(plot["x"])))
        colours = [group["colour"] for group in colouring["groups"]]
        assert len(set(colours)) == len(colours)


def test_many_values_share_the_colour_of_the_others():
    vectors = gaussian(300, 8)
    labels = [None if row % 10 == 0 else f"value {row % 40}" for row in range(300)]
    space = Space(vectors)
    report = assess(space, labels=labels)
    page = render_page(space, report, Source(title="many", total=300, labels=labels, field="v"))
    groups = figures_of(page)["map"]["colourings"][0]["groups"]
    assert len(groups) == 12
    ranked = sorted(groups, key=lambda group: group["rank"])
    assert [group["name"] for group in ranked[-2:]] == ["other", "none"]
    assert {group["name"] for group in groups[:2]} == {"other", "none"}  # drawn below the others


def test_the_histograms_hold_every_value_once():
    space = Space(gaussian(200, 16))
    page = render_page(space, assess(space), Source(title="rows", total=200))
    figures = figures_of(page)
    for series in figures["distances"]["data"]:
        assert sum(series["y"]) == pytest.approx(1)
    assert sum(figures["hubness"]["data"][0]["y"]) == 200
    assert figures["variance"]["data"][0]["y"][-1] == pytest.approx(1)


@pytest.mark.parametrize("vectors", [gaussian(1, 3), gaussian(2, 1), gaussian(12, 1) * 0 + 1])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_page_is_made_of_what_little_there_is(vectors, metric):
    space = Space(vectors, metric=metric)
    page = render_page(space, assess(space), Source(title="little", total=len(vectors)))
    assert "not measured" in page
