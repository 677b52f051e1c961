"""A ledger against a dict, through whatever is done to the documents meanwhile."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import nearfield
from nearfield import Document

NAMESPACES = ("one", "two")
IDS = st.sampled_from("abcdefgh")
GROUPS = st.sampled_from(["x", "y", None])


@dataclass
class Record:
    group: str | None
    time: int
    version: int


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.versions = 0
        self.documents: dict[str, int] = {}
        self.records: dict[tuple[str, str], Record] = {}
        self.marks = [0]

    @initialize()
    def open(self):
        self.collection = nearfield.open(self.folder, dimension=2, durability="normal")

    def teardown(self):
        self.collection.close()
        shutil.rmtree(self.folder)

    @rule(ids=st.lists(IDS, min_size=1, max_size=4, unique=True))
    def write(self, ids):
        documents = [Document("text", id=each) for each in ids]
        self.collection.upsert(documents, vectors=np.ones((len(ids), 2)))
        for each in ids:
            self.versions += 1
            self.documents[each] = self.versions

    @rule(ids=st.lists(IDS, max_size=3))
    def delete(self, ids):
        self.collection.delete(ids)
        for each in ids:
            self.documents.pop(each, None)

    @rule(
        namespace=st.sampled_from(NAMESPACES),
        pairs=st.lists(st.tuples(IDS, GROUPS), max_size=5),
        grouped=st.booleans(),
    )
    def record(self, namespace, pairs, grouped):
        ids = [each for each, _ in pairs]
        groups = [group for _, group in pairs] if grouped else None
        ledger = self.collection.ledger(namespace)
        before = ledger.now_us()
        count = ledger.record(ids, groups=groups, at_least_us=before)
        self.marks += [before, ledger.now_us()]
        assert count == len({each for each in ids if each in self.documents})
        for each, group in pairs:
            if each in self.documents:
                old = self.records.get((namespace, each))
                kept = old.group if old else None
                source = group if grouped else kept
                self.records[namespace, each] = Record(source, before + 1, self.documents[each])

    @rule(namespace=st.sampled_from(NAMESPACES), ids=st.lists(IDS, max_size=3, unique=True))
    def forget(self, namespace, ids):
        expected = sum((namespace, each) in self.records for each in ids)
        assert self.collection.ledger(namespace).forget(ids) == expected
        for each in ids:
            self.records.pop((namespace, each), None)

    @rule(
        namespace=st.sampled_from(NAMESPACES),
        data=st.data(),
        groups=st.none() | st.lists(st.sampled_from(["x", "y", "z"]), max_size=3),
        limit=st.none() | st.integers(1, 9),
    )
    def list(self, namespace, data, groups, limit):
        mark = st.none() | st.sampled_from(self.marks)
        before, after = data.draw(mark), data.draw(mark)
        expected = {
            each
            for (space, each), record in self.records.items()
            if space == namespace
            and each in self.documents
            and (before is None or record.time < before)
            and (after is None or record.time > after)
            and (groups is None or record.group in groups)
        }
        ledger = self.collection.ledger(namespace)
        found = ledger.list(before_us=before, after_us=after, groups=groups, limit=limit)
        assert len(found) == min(len(expected), limit or len(expected))
        assert set(found) <= expected
        times = [self.records[namespace, each].time for each in found]
        left_out = expected.difference(found)
        assert all(self.records[namespace, each].time >= max(times) for each in left_out)

    @rule()
    def reopen(self):
        self.collection.close()
        self.collection = nearfield.open(self.folder, create=False, durability="normal")

    @rule()
    def repair(self):
        assert self.collection.repair().quarantined == ()
        for namespace, each in [*self.records]:  # what repair forgets counted for nothing
            if each not in self.documents:
                del self.records[namespace, each]

    @invariant()
    def what_counts_is_what_the_model_says(self):
        for namespace in NAMESPACES:
            ledger = self.collection.ledger(namespace)
            drift = ledger.drift()
            mine = {each: r for (space, each), r in self.records.items() if space == namespace}
            ids = sorted("abcdefgh")
            assert ledger.recorded(ids) == [
                each in mine and self.documents.get(each) == mine[each].version for each in ids
            ]
            assert drift.missing == tuple(sorted(mine.keys() - self.documents.keys()))
            assert drift.replaced == tuple(
                sorted(
                    each
                    for each, record in mine.items()
                    if each in self.documents and self.documents[each] != record.version
                )
            )
            spoken_of = {each for _, each in self.records}
            assert drift.unrecorded == tuple(sorted(self.documents.keys() - spoken_of))


TestLedger = LedgerMachine.TestCase
