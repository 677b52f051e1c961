"""Threads that read and write one collection for a while, and verify all that they see.

Run as a program, several at once. Each thread owns some documents, and is the only one to write
them; every version of a document tells its number and version in its text, its metadata and its
vector. All threads read everything.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import traceback

import numpy as np
from tests import segments

import nearfield
from nearfield import Document, F

DIMENSION = 16
OWNERS = 8
STABLE = 64
"""Documents that are updated now and then, and never deleted."""
OWN = 40
"""Documents of each owner that come and go."""
TRIPLE = 3
"""Documents of each owner that one call replaces by as many others."""

FAMILIES = {"stable": STABLE, "own": OWNERS * OWN}


def vector(name: str, version: int) -> np.ndarray:
    seed = (*name.encode(), version)
    return np.random.default_rng(seed).standard_normal(DIMENSION, dtype=np.float32)


def document(name: str, version: int, **metadata: object) -> Document:
    return Document(
        f"{name.replace('-', '')} version{version}",
        id=name,
        metadata={
            "name": name,
            "version": version,
            "family": name.split("-", maxsplit=1)[0],
            **metadata,
        },
    )


def write(collection, documents) -> None:
    collection.upsert(documents, vectors=[vector_of(item) for item in documents])


def vector_of(item: Document) -> np.ndarray:
    return vector(item.metadata["name"], item.metadata["version"])


def prepare(collection) -> None:
    """Write what must be there throughout."""
    write(collection, [document(f"stable-{number}", 0) for number in range(STABLE)])
    for owner in range(OWNERS):
        write(collection, triple(owner, 0))
        write(collection, pair(owner, 0))


def triple(owner: int, version: int) -> list[Document]:
    return [
        document(f"triple-{owner}-{version}-{part}", version, owner=owner) for part in range(TRIPLE)
    ]


def pair(owner: int, version: int) -> list[Document]:
    return [document(f"pair-{owner}-{part}", version, owner=owner) for part in "ab"]


class Owner:
    """One thread's share of the work."""

    def __init__(self, collection, owner: int, seed: int) -> None:
        self._collection = collection
        self._owner = owner
        self._rng = np.random.default_rng((seed, owner))
        self._version = 0
        self.state: dict[str, int] = {}
        self.calls = 0

    def work(self, until: float) -> None:
        writes = [self.update_stable, self.write_own, self.delete_own, self.replace_triple]
        writes.append(self.write_pair)
        reads = [self.search_stable, self.search_anything, self.search_words, self.read_own]
        reads += [self.scan, self.count]
        while time.monotonic() < until:
            choices = writes if self._rng.random() < 0.3 else reads
            choices[self._rng.integers(len(choices))]()
            self.calls += 1

    # ── writing ──────────────────────────────────────────────────────────────────────────────

    def update_stable(self) -> None:
        self._version += 1
        numbers = range(self._owner, STABLE, OWNERS)
        chosen = self._rng.choice(numbers, size=int(self._rng.integers(1, 4)), replace=False)
        names = [f"stable-{number}" for number in chosen]
        write(self._collection, [document(name, self._version) for name in names])
        self.state.update(dict.fromkeys(names, self._version))

    def write_own(self) -> None:
        self._version += 1
        size = int(self._rng.integers(1, OWN))
        numbers = self._rng.choice(OWN, size=size, replace=False)
        names = [f"own-{self._owner}-{number}" for number in numbers]
        write(self._collection, [document(name, self._version) for name in names])
        self.state.update(dict.fromkeys(names, self._version))

    def delete_own(self) -> None:
        names = [name for name in self.state if name.startswith("own-")]
        if names:
            chosen = self._rng.choice(names, size=min(5, len(names)), replace=False).tolist()
            assert self._collection.delete(chosen) == len(chosen)
            for name in chosen:
                del self.state[name]

    def replace_triple(self) -> None:
        self._version += 1
        documents = triple(self._owner, self._version)
        self._collection.upsert(
            documents,
            vectors=[vector_of(item) for item in documents],
            replace=(F.family == "triple") & (F.owner == self._owner),
        )
        self.state = {n: v for n, v in self.state.items() if not n.startswith("triple-")}
        self.state.update({item.id: self._version for item in documents})

    def write_pair(self) -> None:
        self._version += 1
        documents = pair(self._owner, self._version)
        write(self._collection, documents)
        self.state.update({item.id: self._version for item in documents})

    # ── reading ──────────────────────────────────────────────────────────────────────────────

    def search_stable(self) -> None:
        """All that exist throughout are found, updated or not."""
        query = self._rng.standard_normal(DIMENSION, dtype=np.float32)
        k = int(self._rng.integers(1, STABLE + 20))
        hits = self._collection.search(
            query, k=k, where=F.family == "stable", include=("text", "metadata", "embedding")
        )
        assert len(hits) == min(k, STABLE), (len(hits), k)
        assert len({hit.id for hit in hits}) == len(hits)
        self._examine(hits, query)

    def search_anything(self) -> None:
        query = self._rng.standard_normal(DIMENSION, dtype=np.float32)
        hits = self._collection.search(query, k=30, include=("text", "metadata", "embedding"))
        assert len(hits) == 30
        self._examine(hits, query)
        found = self._collection.search_many([query, -query], k=5, include=("metadata",))
        assert [len(part) for part in found] == [5, 5]

    def search_words(self) -> None:
        owner = int(self._rng.integers(OWNERS))
        hits = self._collection.search(f"pair{owner}a pair{owner}b", k=5, mode="keyword")
        assert sorted(hit.id for hit in hits) == [f"pair-{owner}-a", f"pair-{owner}-b"]
        assert len({hit.metadata["version"] for hit in hits}) == 1
        hits = self._collection.search(
            f"pair{owner}a", k=5, mode="hybrid", vector=vector(f"pair-{owner}-a", 0)
        )
        assert len(hits) == 5
        for hit in hits:
            assert hit.document == document(hit.id, **without_name(hit.metadata))

    def read_own(self) -> None:
        """What this thread wrote is there, and what it deleted is not."""
        names = [f"own-{self._owner}-{number}" for number in range(OWN)]
        found = self._collection.get(names, include=("text", "metadata", "embedding"))
        versions = {read.id: read.metadata["version"] for read in found if read is not None}
        assert versions == {n: v for n, v in self.state.items() if n.startswith("own-")}

    def scan(self) -> None:
        """A scan is of one moment: what one call wrote is there wholly or not at all."""
        versions: dict[tuple[str, int], list[int]] = {}
        stable = 0
        for read in self._collection.scan(include=("text", "metadata", "embedding")):
            assert read == document(read.id, **without_name(read.metadata))
            assert np.array_equal(read.embedding, vector_of(read))
            family = read.metadata["family"]
            stable += family == "stable"
            if family in {"pair", "triple"}:
                key = family, read.metadata["owner"]
                versions.setdefault(key, []).append(read.metadata["version"])
        assert stable == STABLE
        assert len(versions) == 2 * OWNERS
        for (family, _), seen in versions.items():
            assert len(seen) == (2 if family == "pair" else TRIPLE)
            assert len(set(seen)) == 1, (family, seen)

    def count(self) -> None:
        owner = int(self._rng.integers(OWNERS))
        assert self._collection.count((F.family == "triple") & (F.owner == owner)) == TRIPLE
        assert self._collection.count(F.family == "pair") == 2 * OWNERS
        assert len(self._collection) >= STABLE + OWNERS * (2 + TRIPLE)

    def _examine(self, hits, query) -> None:
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        for hit in hits:
            read = hit.document
            assert read == document(read.id, **without_name(read.metadata))
            expected = vector_of(read)
            assert np.array_equal(read.embedding, expected)
            cosine = expected @ query / np.linalg.norm(expected) / np.linalg.norm(query)
            assert abs(hit.score - cosine) < 1e-5


def without_name(metadata) -> dict[str, object]:
    return {key: value for key, value in metadata.items() if key not in {"name", "family"}}


def watch_maintenance(collection) -> list[tuple[float, float]]:
    """Return the spans in which this process builds segments, as they come; all share a clock."""
    maintenance = collection._store._maintenance
    do_all = maintenance._do_all
    spans = []

    def timed(**options):
        started = time.monotonic()
        try:
            return do_all(**options)
        finally:
            spans.append((started, time.monotonic()))

    maintenance._do_all = timed
    return spans


def main() -> None:
    folder, first, threads, seconds, seed = sys.argv[1], *map(int, sys.argv[2:6])
    if sys.argv[6:] == ["tiny segments"]:
        policy = segments.Policy(index_rows=8, seal_rows=32, quiet_seal_rows=8, quiet_s=0.0)
        collection = segments.reopen(folder, "default", policy=policy)
    else:
        collection = nearfield.open(folder, create=False)
    spans = watch_maintenance(collection)
    owners = [Owner(collection, first + number, seed) for number in range(threads)]
    errors = []
    until = time.monotonic() + seconds

    def work(owner: Owner) -> None:
        try:
            owner.work(until)
        except BaseException:  # noqa: BLE001 - reported to the parent
            errors.append(traceback.format_exc())

    workers = [threading.Thread(target=work, args=(owner,)) for owner in owners]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    collection.close()
    state = {name: version for owner in owners for name, version in owner.state.items()}
    calls = sum(owner.calls for owner in owners)
    json.dump({"errors": errors, "state": state, "calls": calls, "spans": spans}, sys.stdout)


if __name__ == "__main__":
    main()
