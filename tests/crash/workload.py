"""A seeded stream of writes, what the collection must hold after each, and how to verify it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

import nearfield
from nearfield import Document, F

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nearfield import Collection

NAME = "collection"
DIMENSION = 16
DOCUMENTS = 250
GROUPS = 5

Model = dict[int, int]
"""Which documents there are, by number, and the step that wrote each."""


class Kind(StrEnum):
    """What a step does."""

    UPSERT = "upsert"
    REPLACE = "replace"
    DELETE = "delete"
    DELETE_WHERE = "delete_where"


@dataclass(frozen=True, slots=True)
class Step:
    """One call that writes.

    Attributes:
        version: The step's place in the stream; documents it writes carry it.
        kind: What it does.
        numbers: The documents it writes or deletes.
        group: The group that it replaces or deletes from.
        before: Only documents older than this step are deleted by a filter.
    """

    version: int
    kind: Kind
    numbers: tuple[int, ...]
    group: int
    before: int

    @classmethod
    def at(cls, seed: int, version: int) -> Step:
        """Return the step at a place in a stream."""
        rng = np.random.default_rng((seed, version))
        kind = rng.choice(list(Kind), p=[0.6, 0.15, 0.15, 0.1])
        size = int(rng.choice([1, 5, 60, 150]))
        numbers = rng.choice(DOCUMENTS, size=size, replace=False)
        group = int(rng.integers(GROUPS))
        if kind == Kind.REPLACE:
            numbers = numbers[numbers % GROUPS == group]
        before = version - int(rng.integers(1, 20))
        return cls(version, Kind(kind), tuple(numbers.tolist()), group, before)

    def apply(self, model: Mapping[int, int]) -> Model:
        """Return what there is after the step."""
        after = dict(model)
        if self.kind is Kind.DELETE:
            for number in self.numbers:
                after.pop(number, None)
        if self.kind is Kind.REPLACE:
            after = {n: version for n, version in after.items() if n % GROUPS != self.group}
        if self.kind is Kind.DELETE_WHERE:
            after = {
                n: version
                for n, version in after.items()
                if n % GROUPS != self.group or version >= self.before
            }
        if self.kind in {Kind.UPSERT, Kind.REPLACE}:
            after |= dict.fromkeys(self.numbers, self.version)
        return after

    def perform(self, collection: Collection) -> None:
        """Do it."""
        if self.kind is Kind.DELETE:
            collection.delete([identifier(number) for number in self.numbers])
        elif self.kind is Kind.DELETE_WHERE:
            collection.delete(where=(F.group == self.group) & (F.version < self.before))
        else:
            collection.upsert(
                [document(number, self.version) for number in self.numbers],
                vectors=[vector(number, self.version) for number in self.numbers],
                replace=F.group == self.group if self.kind is Kind.REPLACE else None,
            )


def identifier(number: int) -> str:
    return f"document-{number}"


def word(number: int, version: int) -> str:
    """Return a word that is in one version of one document only."""
    return f"n{number}v{version}"


def document(number: int, version: int) -> Document:
    """Return a document whose text and metadata tell its number and version."""
    padding = "more words of a longer text " * (number % 10 * 20 if number % 3 == 0 else 1)
    return Document(
        f"{word(number, version)} {padding}",
        id=identifier(number),
        metadata={"number": number, "version": version, "group": number % GROUPS},
    )


def vector(number: int, version: int) -> np.ndarray:
    """Return its vector, which tells them too."""
    return np.random.default_rng((number, version)).standard_normal(DIMENSION, dtype=np.float32)


def open_collection(folder, **options) -> Collection:
    return nearfield.open(folder, NAME, dimension=DIMENSION, **options)


def model_at(seed: int, version: int) -> Model:
    """Return what there is after all steps up to a version, from the first on."""
    model: Model = {}
    for step in range(1, version + 1):
        model = Step.at(seed, step).apply(model)
    return model


def stored(collection: Collection) -> Model:
    """Read what there is, and verify that each document is whole and as it was written."""
    found: Model = {}
    for read in collection.scan(include=("text", "metadata", "embedding")):
        number, version = read.metadata["number"], read.metadata["version"]
        assert read == document(number, version)
        assert np.array_equal(read.embedding, vector(number, version))
        assert number not in found
        found[number] = version
    return found


def verify(collection: Collection, model: Mapping[int, int]) -> None:
    """Verify that the collection holds exactly the model, by every way of reading it."""
    assert stored(collection) == model
    assert len(collection) == len(model)
    report = collection.check()
    assert report.ok, report.problems
    assert report.documents == len(model)
    for group in range(GROUPS):
        expected = sum(number % GROUPS == group for number in model)
        assert collection.count(F.group == group) == expected
    numbers = sorted(model)[:: max(1, len(model) // 10)]
    for number in numbers:
        version = model[number]
        nearest = collection.search(vector(number, version), k=1, where=F.version == version)[0]
        assert (nearest.id, nearest.score) == (identifier(number), 1.0)
        [hit] = collection.search(word(number, version), k=3, mode="keyword")
        assert hit.document == document(number, version)
    ids = [identifier(number) for number in range(DOCUMENTS)]
    present = [number for number, read in enumerate(collection.get(ids)) if read is not None]
    assert present == sorted(model)
