"""A collection under any sequence of calls, through several handles, against dict and arithmetic.

Vectors are small integers: their products are exact, so ties abound and every tie is real.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests import segments
from tests.oracle import Oracle

import nearfield
from nearfield import Document, F, Metric
from nearfield.filters import And, Or
from nearfield.stores.local import tombstones

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = 200
"""For each metric."""
DIMENSION = 3
IDS = ["a", "A", "b", "é", "e\u0301", "ß", "😀", "\x00", "a\x00", " ", "'", "%", "01", "1"]
WORDS = ["red", "green", "blue", "été"]

names = st.sampled_from(IDS)
anyone = st.one_of(names, st.integers(0, 45).map("many {}".format))
handles = st.integers(0, 1)
conditions = st.sampled_from(
    [
        F.n == 0,
        F.n >= 2,
        F.n != 1,
        F.tag == "x",
        F.tag == None,  # noqa: E711
        F.tags.contains("x"),
        F.deep.n.in_([0, 3]),
        F.missing.exists(),
        And(()),
        Or(()),
    ]
)
filters = st.one_of(
    conditions,
    st.builds(lambda a, b: a & b, conditions, conditions),
    st.builds(lambda a, b: a | ~b, conditions, conditions),
)
metadata = st.fixed_dictionaries(
    {"n": st.integers(0, 3)},
    optional={
        "tag": st.sampled_from(["x", "y", None]),
        "tags": st.lists(st.sampled_from(["x", "y"]), max_size=2),
        "deep": st.fixed_dictionaries({"n": st.integers(0, 3)}),
    },
)
texts = st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join)


def vectors(metric: Metric) -> st.SearchStrategy[np.ndarray]:
    rows = st.tuples(*[st.integers(-2, 2)] * DIMENSION)
    if metric is Metric.COSINE:
        rows = rows.filter(any)
    return rows.map(lambda row: np.array(row, np.float32))


def documents(metric: Metric) -> st.SearchStrategy[Document]:
    return st.builds(Document, texts, id=names, metadata=metadata, embedding=vectors(metric))


class CollectionMachine(RuleBasedStateMachine):
    """Every rule acts on the collection and on the oracle, and compares what they say."""

    metric: ClassVar[Metric]
    template: ClassVar[Path]
    """An empty collection to start from; making one flushes the disk, copying does not."""
    workplace: ClassVar[Path]

    @initialize(kept=st.sampled_from([2, 100_000]), sealed=st.sampled_from([0, 12, 40]))
    def begin(self, kept, sealed):
        self.folder = self.workplace / "database"
        shutil.copytree(self.template, self.folder)
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(tombstones, "_KEPT", kept)  # how soon a handle that slept starts anew
        self.patch.setattr(tombstones, "_TRIMMED_EVERY", kept)
        self.oracle = Oracle(self.metric)
        self.handles = [self.open(), self.open()]
        self.scan = None
        if sealed:
            self.write_many(0, np.array([1, 0, 2], np.float32), range(sealed))
            assert segments.maintain(self.handles[0]) == 1

    def open(self):
        return segments.reopen(self.folder, "default")

    def teardown(self):
        if not hasattr(self, "handles"):
            return
        try:
            for handle in self.handles:
                self.compare_everything(handle)
            report = self.handles[0].check()
            # A file that was lost is told of, and costs nothing.
            assert [each for each in report.problems if each.kind != "segment"] == []
            assert report.documents == len(self.oracle.documents)
        finally:
            self.patch.undo()
            self.scan = None
            for handle in self.handles:
                handle.close()
            shutil.rmtree(self.folder)

    # ── writing ──────────────────────────────────────────────────────────────────────────────

    @rule(data=st.data(), handle=handles, replace=st.one_of(st.none(), st.none(), filters))
    def upsert(self, data, handle, replace):
        batch = data.draw(st.lists(documents(self.metric), max_size=6))
        assert self.handles[handle].upsert(batch, replace=replace) == [d.id for d in batch]
        self.oracle.upsert(batch, replace)

    @rule(data=st.data(), handle=handles, count=st.integers(1, 30), start=st.integers(0, 20))
    def upsert_many(self, data, handle, count, start):
        self.write_many(handle, data.draw(vectors(self.metric)), range(start, start + count))

    def write_many(self, handle, row, numbers):
        batch = [
            Document("red", id=f"many {i}", metadata={"n": i % 4}, embedding=row * (1 + i % 3))
            for i in numbers
        ]
        self.handles[handle].upsert(batch)
        self.oracle.upsert(batch)

    @rule(handle=handles, ids=st.lists(anyone, max_size=5))
    def delete(self, handle, ids):
        assert self.handles[handle].delete(ids) == self.oracle.delete(ids)

    @rule(handle=handles, where=filters)
    def delete_where(self, handle, where):
        expected = self.oracle.delete([d.id for d in self.oracle.matching(where)])
        assert self.handles[handle].delete(where=where) == expected

    # ── searching ────────────────────────────────────────────────────────────────────────────

    @rule(
        data=st.data(),
        handle=handles,
        k=st.integers(1, 40),
        where=st.one_of(st.none(), filters),
        limited=st.booleans(),
    )
    def search(self, data, handle, k, where, limited):
        query = data.draw(vectors(self.metric))
        expected = self.oracle.search(query, k, where)
        min_score = None
        if limited and expected:
            min_score = expected[len(expected) // 2][1]
            if self.metric is not Metric.DOT:
                min_score -= 1e-6  # its own score may be rounded once more, or less
            expected = self.oracle.search(query, k, where, min_score)
        hits = self.handles[handle].search(query, k=k, where=where, min_score=min_score)
        self.compare_hits(hits, expected)

    @rule(
        data=st.data(),
        handle=handles,
        k=st.integers(1, 40),
        where=st.one_of(st.none(), filters),
    )
    def search_many(self, data, handle, k, where):
        queries = data.draw(st.lists(vectors(self.metric), min_size=1, max_size=3))
        found = self.handles[handle].search_many(queries, k=k, where=where)
        assert len(found) == len(queries)
        for query, hits in zip(queries, found, strict=True):
            self.compare_hits(hits, self.oracle.search(query, k, where))

    @precondition(lambda self: self.oracle.documents)
    @rule(data=st.data(), handle=handles, k=st.integers(1, 10))
    def search_like(self, data, handle, k):
        example = data.draw(st.sampled_from(sorted(self.oracle.documents)))
        expected = self.oracle.search(self.oracle.documents[example].embedding, 10_000)
        hits = self.handles[handle].search(like=example, k=k)
        self.compare_hits(hits, [pair for pair in expected if pair[0] != example][:k])

    @rule(
        handle=handles,
        word=st.sampled_from([*WORDS, "gold"]),
        where=st.one_of(st.none(), filters),
        k=st.integers(1, 20),
    )
    def search_keyword(self, handle, word, where, k):
        holders = {d.id for d in self.oracle.matching(where) if word in d.text.split()}
        hits = self.handles[handle].search(word, mode="keyword", k=10_000, where=where)
        assert {hit.id for hit in hits} == holders
        assert len(hits) == len(holders)
        order = [(-hit.score, hit.id) for hit in hits]
        assert order == sorted(order)
        assert self.handles[handle].search(word, mode="keyword", k=k, where=where) == hits[:k]

    @rule(data=st.data(), handle=handles, k=st.integers(1, 40), where=filters)
    def search_both(self, data, handle, k, where):
        query = data.draw(vectors(self.metric))
        hits = self.handles[handle].search("red", vector=query, mode="hybrid", k=k, where=where)
        matching = {document.id for document in self.oracle.matching(where)}
        assert len({hit.id for hit in hits}) == len(hits) == min(k, len(matching))
        assert {hit.id for hit in hits} <= matching

    # ── reading ──────────────────────────────────────────────────────────────────────────────

    @rule(handle=handles, where=filters)
    def count(self, handle, where):
        assert self.handles[handle].count(where) == len(self.oracle.matching(where))
        assert len(self.handles[handle]) == len(self.oracle.documents)

    @rule(handle=handles, ids=st.lists(anyone, max_size=4))
    def get(self, handle, ids):
        assert self.handles[handle].get(ids) == [self.oracle.documents.get(each) for each in ids]

    @rule(handle=handles, where=st.one_of(st.none(), filters))
    def scan_at_once(self, handle, where):
        assert list(self.handles[handle].scan(where=where)) == self.oracle.matching(where)

    @precondition(lambda self: self.scan is None and self.oracle.documents)
    @rule(handle=handles)
    def begin_scan(self, handle):
        scan = self.handles[handle].scan()
        self.scan = [next(scan)], scan, self.oracle.matching(None)

    @precondition(lambda self: self.scan is not None)
    @rule()
    def finish_scan(self):
        seen, scan, expected = self.scan
        assert [*seen, *scan] == expected
        self.scan = None

    # ── handles ──────────────────────────────────────────────────────────────────────────────

    @rule(handle=handles)
    def reopen(self, handle):
        self.handles[handle].close()
        self.handles[handle] = self.open()

    # ── segments ─────────────────────────────────────────────────────────────────────────────

    @rule(handle=handles)
    def maintain(self, handle):
        collection = self.handles[handle]
        segments.maintain(collection)
        assert segments.maintain(collection) == 0
        known = sorted(record.folder for record in segments.records(collection))
        assert segments.folders(collection) == known

    @rule(data=st.data())
    def lose_a_file(self, data):
        files = sorted((self.folder / "default" / "segments").glob("*/*"))
        if files:
            data.draw(st.sampled_from(files)).unlink()

    @rule(data=st.data())
    def lose_a_segment(self, data):
        folders = sorted((self.folder / "default" / "segments").glob("*"))
        if folders:
            shutil.rmtree(data.draw(st.sampled_from(folders)))

    # ── comparing ────────────────────────────────────────────────────────────────────────────

    def compare_hits(self, hits, expected):
        assert [hit.id for hit in hits] == [name for name, _ in expected]
        scores = [score for _, score in expected]
        if self.metric is Metric.DOT:
            assert [hit.score for hit in hits] == scores
        else:
            assert [hit.score for hit in hits] == pytest.approx(scores, rel=1e-6, abs=1e-7)
        assert [hit.document for hit in hits] == [self.oracle.documents[hit.id] for hit in hits]
        assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))

    def compare_everything(self, handle):
        stored = list(handle.scan(include=["text", "metadata", "embedding"]))
        expected = self.oracle.matching(None)
        assert stored == expected
        for mine, theirs in zip(stored, expected, strict=True):
            assert mine.embedding.tolist() == theirs.embedding.tolist()
        query = np.ones(DIMENSION, np.float32)
        self.compare_hits(handle.search(query, k=10_000), self.oracle.search(query, 10_000))
        assert handle.count(F.n >= 0) == len(self.oracle.matching(F.n >= 0))


@pytest.mark.parametrize("metric", list(Metric))
def test_a_collection_agrees_with_dict_and_arithmetic(metric, tmp_path, soak):
    template = tmp_path / "template"
    nearfield.open(template, dimension=DIMENSION, metric=metric).close()
    machine = type(
        f"{metric.name.title()}Machine",
        (CollectionMachine,),
        {"metric": metric, "template": template, "workplace": tmp_path},
    )
    run_state_machine_as_test(
        machine, settings=settings(max_examples=EXAMPLES * soak, stateful_step_count=25)
    )
