"""Whether rows that are near belong together: without labels, and with them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.errors import InvalidInputError
from nearfield.vectors.quality.pairs import distance_table
from nearfield.vectors.quality.space import NotMeasurableError

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

    from nearfield.vectors.quality.space import Space

__all__ = ["Coherence", "LabelAgreement", "LabelCoherence", "coherence", "label_coherence"]

_LABELS_LISTED = 10
_FEWEST_OF_A_LABEL = 5
_PAIR_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class Coherence:
    """How much more alike near rows are than random ones.

    Attributes:
        score: (nearest − random) / (1 − random), in [0, 1] as a rule: 0 where neighbours are no
            more alike than random rows, 1 where they are equal.
        score_std: Its standard error.
        nearest: The mean similarity to the k nearest rows.
        random: The mean similarity of two random rows.
        k: Neighbours looked at.
        rows: Rows whose neighbours were looked at.
    """

    score: float
    score_std: float
    nearest: float
    random: float
    k: int
    rows: int


def coherence(space: Space) -> Coherence:
    """Compare the similarity of neighbours with that of random pairs.

    The similarity is the cosine, or 1 − r²/m under the other metrics (:meth:`Space.similarity`).
    The score is this project's own: the rise from random to nearest as a share of the most there
    could be.

    Raises:
        NotMeasurableError: Fewer than 3 rows, or all equal.
    """
    space.require(3, "coherence")
    space.require_spread("coherence")
    by_row = space.similarity(space.probes.distances).mean(axis=1)
    nearest = float(by_row.mean())
    random = float(space.similarity(space.pair_distances).mean())
    return Coherence(
        score=(nearest - random) / (1 - random),
        score_std=float(by_row.std() / np.sqrt(len(by_row)) / (1 - random)),
        nearest=nearest,
        random=random,
        k=space.probes.k,
        rows=len(by_row),
    )


@dataclass(frozen=True, slots=True)
class LabelAgreement:
    """One label's part.

    Attributes:
        label: The label.
        share: Its share of the labelled rows.
        agreement: The share of its rows' neighbours that have it too.
    """

    label: Any
    share: float
    agreement: float


@dataclass(frozen=True, slots=True)
class LabelCoherence:
    """How well neighbours agree in a label.

    Attributes:
        agreement: The share of labelled neighbours that have their row's label, in [0, 1].
        agreement_std: Its standard error.
        chance: The agreement of two random rows, Σ c(c − 1) / (T(T − 1)) over the labels' counts c,
            T all labelled rows.
        adjusted: (agreement − chance) / (1 − chance): 0 as good as chance, 1 always.
        within: The mean distance of two rows of one label; None where no label has two.
        between: The mean distance of two rows of different labels.
        labels: How many different labels there are.
        labelled: The share of rows that have a label.
        weakest: The labels whose rows agree least, at most ten, of those with at least five rows
            looked at.
    """

    agreement: float
    agreement_std: float
    chance: float
    adjusted: float
    within: float | None
    between: float | None
    labels: int
    labelled: float
    weakest: tuple[LabelAgreement, ...]


def label_coherence(space: Space, labels: Sequence[Hashable | None]) -> LabelCoherence:
    """Measure how often the k nearest rows have the same label.

    The adjustment for chance is that of Cohen's kappa (1960).

    Args:
        space: The vectors.
        labels: One for each row; None where a row has none.

    Raises:
        InvalidInputError: Not one label for each row.
        NotMeasurableError: Fewer than 3 rows with a label, or one label alone.
    """
    if len(labels) != space.rows:
        raise InvalidInputError(
            f"{len(labels):,} labels for {space.rows:,} rows; give one for each"
        )
    space.require(3, "label coherence")
    codes, names = _encoded(labels)
    counts = np.bincount(codes[space.usable][codes[space.usable] >= 0], minlength=len(names))
    total = int(counts.sum())
    if np.count_nonzero(counts) < 2:  # noqa: PLR2004
        raise NotMeasurableError(
            f"label coherence: needs at least two different labels, got {np.count_nonzero(counts)} "
            f"on {total:,} rows"
        )
    own, agreements = _agreements(space, codes)
    chance = float((counts * (counts - 1.0)).sum() / (total * (total - 1.0)))
    agreement = float(agreements.mean())
    within, between = _distances(space, codes)
    return LabelCoherence(
        agreement=agreement,
        agreement_std=float(agreements.std() / np.sqrt(len(agreements))),
        chance=chance,
        adjusted=(agreement - chance) / (1 - chance),
        within=within,
        between=between,
        labels=int(np.count_nonzero(counts)),
        labelled=total / len(space.usable),
        weakest=_weakest(own, agreements, counts, names),
    )


def _encoded(labels: Sequence[Hashable | None]) -> tuple[NDArray[np.int64], list[Hashable]]:
    """Number the labels in order of appearance; −1 stands for none."""
    numbers: dict[Hashable, int] = {}
    try:
        codes = np.fromiter(
            (-1 if label is None else numbers.setdefault(label, len(numbers)) for label in labels),
            dtype=np.int64,
            count=len(labels),
        )
    except TypeError as error:
        raise InvalidInputError(f"a label cannot be compared: {error}; give text") from None
    return codes, list(numbers)


def _agreements(
    space: Space, codes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the label of each probe that can be judged, and the share of neighbours with it."""
    own = codes[space.probes.rows]
    theirs = codes[space.probes.indices]
    known = (theirs >= 0).sum(axis=1)
    judged = (own >= 0) & (known > 0)
    if not judged.any():
        raise NotMeasurableError("label coherence: no labelled row has a labelled neighbour")
    same = (theirs[judged] == own[judged, np.newaxis]).sum(axis=1)
    return own[judged], same / known[judged]


def _distances(space: Space, codes: NDArray[np.int64]) -> tuple[float | None, float | None]:
    rows = space.sample_rows[:_PAIR_ROWS]
    labelled = codes[rows] >= 0
    vectors = space.sample[:_PAIR_ROWS][labelled]
    own = codes[rows][labelled]
    if len(own) < 2:  # noqa: PLR2004
        return None, None
    table = distance_table(vectors, vectors)
    pairs = np.triu_indices(len(own), 1)
    distances, same = table[pairs], own[pairs[0]] == own[pairs[1]]
    return (
        float(distances[same].mean()) if same.any() else None,
        float(distances[~same].mean()) if not same.all() else None,
    )


def _weakest(
    own: NDArray[np.int64],
    agreements: NDArray[np.float64],
    counts: NDArray[np.int64],
    names: list[Hashable],
) -> tuple[LabelAgreement, ...]:
    frequent = [code for code, seen in Counter(own.tolist()).items() if seen >= _FEWEST_OF_A_LABEL]
    found = [
        LabelAgreement(
            names[code], float(counts[code] / counts.sum()), float(agreements[own == code].mean())
        )
        for code in frequent
    ]
    return tuple(sorted(found, key=lambda one: (one.agreement, str(one.label)))[:_LABELS_LISTED])
