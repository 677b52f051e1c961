"""What a store is: the protocol behind every collection, embedded or remote.

A store holds documents and their vectors and answers searches over them. It knows nothing of
embedders: vectors come in ready, validated by :class:`~nearfield.collection.Collection`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from nearfield.documents import Document, EmbeddingInfo, Hit, Metric, SearchMode
    from nearfield.filters import Filter

__all__ = [
    "Capabilities",
    "CheckReport",
    "Checkable",
    "CollectionInfo",
    "Explanation",
    "Include",
    "Ledger",
    "LedgerDrift",
    "PlanStep",
    "Problem",
    "RecallEstimate",
    "Recordable",
    "RepairReport",
    "SearchRequest",
    "Store",
    "StoreFactory",
    "TradeOff",
    "Tunable",
    "TuningReport",
    "Versioned",
]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store does natively; a collection degrades loudly, never quietly.

    Attributes:
        modes: The search modes the store answers itself.
        atomic_writes: Whether one upsert or delete call happens whole or not at all.
        read_your_writes: Whether an acknowledged write is seen by the next search; False means
            eventual consistency.
        backup: Whether the store can be checked, repaired and backed up from here.
    """

    modes: frozenset[SearchMode]
    atomic_writes: bool
    read_your_writes: bool
    backup: bool


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What is fixed about a collection at its birth.

    Attributes:
        name: The collection's name in its database.
        embedding: The space its vectors live in.
        metric: How its vectors are compared.
    """

    name: str
    embedding: EmbeddingInfo
    metric: Metric


@dataclass(frozen=True, slots=True)
class Include:
    """Which parts of a document come back; its id always does."""

    text: bool = True
    metadata: bool = True
    embedding: bool = False


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One search, or many that share everything but the query.

    Attributes:
        mode: What to match.
        k: The most hits per query, at least 1.
        vectors: float32 of shape (queries, dimension), for the modes vector and hybrid.
        texts: One query text each, for the modes keyword and hybrid.
        where: Only documents that match this filter.
        ids: Only documents with one of these ids; None for all.
        alpha: In the mode hybrid, the weight of the vectors, from 0 to 1; the words have the rest.
        min_score: Only hits that score at least this.
        include: The parts of each document to return.
    """

    mode: SearchMode
    k: int
    vectors: NDArray[np.float32] | None = None
    texts: Sequence[str] | None = None
    where: Filter | None = None
    ids: Sequence[str] | None = None
    alpha: float = 0.5
    min_score: float | None = None
    include: Include = Include()


@runtime_checkable
class Store(Protocol):
    """A place that holds one collection. Safe to call from several threads at once."""

    @property
    def info(self) -> CollectionInfo:
        """What was fixed at the collection's birth."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What this store does natively."""
        ...

    def upsert(self, documents: Sequence[Document], *, replace: Filter | None = None) -> None:
        """Write documents, each with its embedding, in one atomic step.

        A document whose id is there already takes its place. Ids in the batch are unique.

        Args:
            documents: What to write.
            replace: In the same step, delete the documents that match this filter and are not in
                the batch.
        """
        ...

    def delete(self, *, ids: Sequence[str] | None = None, where: Filter | None = None) -> int:
        """Delete by ids, by filter, or what has the ids and matches, in one atomic step.

        Returns:
            How many were there.
        """
        ...

    def get(self, ids: Sequence[str], *, include: Include) -> list[Document | None]:
        """Fetch documents in the order of the ids, None for each that is not there."""
        ...

    def search(self, request: SearchRequest) -> list[list[Hit]]:
        """Answer each query with its best hits, best first, ties by id.

        min(k, matches) hits come back per query, less those under ``min_score``.
        """
        ...

    def scan(self, *, where: Filter | None, include: Include) -> Generator[Document, None, None]:
        """Iterate over a consistent snapshot, in the order of writing."""
        ...

    def count(self, *, where: Filter | None = None) -> int:
        """Count the documents, or those that match."""
        ...

    def stats(self) -> dict[str, Any]:
        """Return JSON-ready figures on size and state."""
        ...

    def close(self) -> None:
        """Let go of every resource. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that a check found wrong.

    Attributes:
        kind: A short, stable name of the kind of damage.
        detail: What is wrong, for a person.
        id: The document it concerns, where it is known.
    """

    kind: str
    detail: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check of every stored byte found.

    Attributes:
        documents: How many documents were read and verified.
        problems: What is wrong, empty when all is well.
    """

    documents: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair did.

    Attributes:
        documents: How many documents the collection holds now.
        quarantined: The documents whose stored bytes were damaged and were set aside; ids that
            could not be read are left out.
        actions: What was done, for a person, in order.
    """

    documents: int
    quarantined: tuple[str, ...]
    actions: tuple[str, ...]


@runtime_checkable
class Checkable(Protocol):
    """A store whose files are at hand: it can be verified, mended and copied."""

    def check(self) -> CheckReport:
        """Verify every stored byte."""
        ...

    def repair(self) -> RepairReport:
        """Rebuild what can be rebuilt and set aside what is damaged."""
        ...

    def backup(self, destination: Path) -> None:
        """Copy the collection, as of one moment, into a new database folder."""
        ...


@dataclass(frozen=True, slots=True)
class LedgerDrift:
    """Where a ledger and the documents of its collection say different things.

    Attributes:
        missing: Ids that are recorded and of which there is no document.
        replaced: Ids whose documents were written again after they were recorded.
        unrecorded: Ids of documents that no record speaks of, in any namespace.
    """

    missing: tuple[str, ...]
    replaced: tuple[str, ...]
    unrecorded: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether there is a record for each document and a document for each record."""
        return not (self.missing or self.replaced or self.unrecorded)


class Ledger(Protocol):
    """Which documents a program wrote, when, and from which source, in one namespace.

    Times are microseconds of Unix time, and increase with each one that is given out, even where
    the system's clock goes back.
    """

    def now_us(self) -> int:
        """Return the time, later than any that was returned or recorded before."""
        ...

    def record(
        self,
        ids: Sequence[str],
        *,
        groups: Sequence[str | None] | None = None,
        at_least_us: int | None = None,
    ) -> int:
        """Record that documents are as they should be now.

        Args:
            ids: Documents; those that are not there are passed over.
            groups: The source of each; None to leave it as it was recorded before.
            at_least_us: Refuse to record an earlier time than this.

        Returns:
            How many were recorded.

        Raises:
            InvalidInputError: ``groups`` has another length, or ``at_least_us`` is in the future.
        """
        ...

    def recorded(self, ids: Sequence[str]) -> list[bool]:
        """Tell for each id whether its document is there as it was when it was recorded."""
        ...

    def list(
        self,
        *,
        before_us: int | None = None,
        after_us: int | None = None,
        groups: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """List the ids of recorded documents, those of the earliest time first.

        A document that was replaced since is listed, one that is gone is not.

        Args:
            before_us: Only those recorded before this time.
            after_us: Only those recorded after this time.
            groups: Only those of these sources; an empty list matches none.
            limit: At most so many.
        """
        ...

    def forget(self, ids: Sequence[str]) -> int:
        """Delete records, not documents; return how many there were."""
        ...

    def drift(self) -> LedgerDrift:
        """Compare the records with the documents, as of one moment."""
        ...


@runtime_checkable
class Versioned(Protocol):
    """A store that can tell cheaply whether anything was written."""

    def version(self) -> int:
        """Return a number that each write, by whomever, makes larger."""
        ...


@runtime_checkable
class Recordable(Protocol):
    """A store that keeps ledgers beside the documents, in the same database."""

    def ledger(self, namespace: str) -> Ledger:
        """Return the ledger of a namespace; it comes into being with its first record."""
        ...


@dataclass(frozen=True, slots=True)
class PlanStep:
    """How a search went through one part of a collection.

    Attributes:
        plan: What it did, in words.
        rows: The rows that are there, deleted ones too.
        matching: Those that it was allowed to return.
        compared: Codes or vectors that were compared with the query, in all.
        reranked: Those of them that were compared by their true vectors.
        predicted_recall: The recall measured for this plan; 1.0 where it is exact, 0.0 where none
            was measured.
    """

    plan: str
    rows: int
    matching: int
    compared: int
    reranked: int
    predicted_recall: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a search was answered.

    Attributes:
        mode: What was matched.
        steps: One for each part of the collection.
        documents: How many documents there are.
        matching: How many of them the filter takes.
        hits: How many came back.
    """

    mode: SearchMode
    steps: tuple[PlanStep, ...]
    documents: int
    matching: int
    hits: int

    @property
    def selectivity(self) -> float:
        """The share of the documents that the filter takes."""
        return self.matching / self.documents if self.documents else 1.0

    @property
    def compared(self) -> int:
        """How many codes and vectors were compared with the query."""
        return sum(step.compared for step in self.steps)

    @property
    def predicted_recall(self) -> float:
        """The share of the true k best that is expected among the hits."""
        total = sum(step.matching for step in self.steps)
        if not total:
            return 1.0
        return sum(step.predicted_recall * step.matching for step in self.steps) / total


@dataclass(frozen=True, slots=True)
class RecallEstimate:
    """Recall over a sample of queries.

    Attributes:
        mean: The mean over queries.
        low: The lower end of the mean's 95 % interval.
        high: The upper end.
        p5: The 5th percentile over queries.
        queries: How many there were.
    """

    mean: float
    low: float
    high: float
    p5: float
    queries: int


@dataclass(frozen=True, slots=True)
class TradeOff:
    """A way to search that no other beats in both recall and cost.

    Attributes:
        plan: What it is, in words.
        recall: What was measured.
        cost_us: CPU microseconds a query.
        chosen: Whether it is the one in use.
    """

    plan: str
    recall: RecallEstimate
    cost_us: float
    chosen: bool


@dataclass(frozen=True, slots=True)
class TuningReport:
    """What a tuning measured and chose.

    Attributes:
        target_recall: What was asked for.
        recall: What the collection reaches now, over sampled or given queries.
        cost_us: What a query costs now, in CPU microseconds.
        exact_cost_us: What comparing every vector costs.
        memory_bytes: What the indexes hold in memory.
        met: Whether recall, latency and memory are all as asked for.
        shortfalls: What is not, in words.
        front: What there was to choose from, by segment; the largest first.
    """

    target_recall: float
    recall: RecallEstimate
    cost_us: float
    exact_cost_us: float
    memory_bytes: int
    met: bool
    shortfalls: tuple[str, ...]
    front: tuple[TradeOff, ...]


@runtime_checkable
class Tunable(Protocol):
    """A store that measures how it searches and can be told what recall to hold."""

    def explain(self, request: SearchRequest) -> Explanation:
        """Answer one query, and tell how."""
        ...

    def tune(
        self,
        *,
        target_recall: float,
        latency_ms: float | None,
        memory_bytes: int | None,
        recheck_share: float,
        queries: NDArray[np.float32] | None,
    ) -> TuningReport:
        """Choose the cheapest plans that hold a recall, and keep to it from now on.

        Args:
            target_recall: Mean recall@10, from 0 to 1; 1 compares every vector.
            latency_ms: The most CPU milliseconds a query may take, or None.
            memory_bytes: The most memory that indexes may take, or None.
            recheck_share: The share of searches to repeat exactly in the background.
            queries: Queries to measure with, shape (m, dimension); None to take documents.
        """
        ...

    def maintain(self) -> int:
        """Do all maintenance that is due; return how many segments were built."""
        ...


class StoreFactory(Protocol):
    """One database of a kind of store: the collections behind one URL."""

    def list(self) -> list[str]:
        """Name the collections, sorted."""
        ...

    def open(self, name: str) -> Store:
        """Open a collection, or raise ``CollectionNotFoundError``."""
        ...

    def create(self, info: CollectionInfo) -> Store:
        """Make a collection, or raise ``CollectionExistsError``."""
        ...

    def drop(self, name: str) -> None:
        """Delete a collection and all its documents, or raise ``CollectionNotFoundError``."""
        ...

    def rename(self, name: str, new_name: str) -> None:
        """Give a collection another name."""
        ...
