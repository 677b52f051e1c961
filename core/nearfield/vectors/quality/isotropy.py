"""Whether the vectors point in all directions, or into a cone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nearfield.vectors.quality.space import Space

__all__ = ["Isotropy", "isotropy"]

_SHORTEST = 1e-12


@dataclass(frozen=True, slots=True)
class Isotropy:
    """How far the vectors are from pointing evenly in all directions.

    Attributes:
        mean_cosine: The mean cosine of two different rows, in (−1, 1]; 0 where directions are even.
        mean_cosine_std: Its standard error.
        iso_score: IsoScore, in [0, 1]: 0 where all variance is along one direction, 1 where it is
            the same along all. The mean is taken out first, so a narrow cone can have a high score.
    """

    mean_cosine: float
    mean_cosine_std: float
    iso_score: float


def isotropy(space: Space) -> Isotropy:
    """Measure the isotropy by the mean cosine and by IsoScore.

    Mean cosine: over all pairs of sampled rows, which is (‖Σu‖² − n) / (n(n − 1)) for rows u of
    length 1; the standard error is that of a U-statistic, 2 σ(u · ū) / √n. (Ethayarajh, 2019,
    EMNLP.)

    IsoScore: (P − 1) / (d − 1) with P = (Σλ)² / Σλ², the participation ratio of the variances λ
    along the principal directions; this is what the six steps of its definition come to. (Rudman,
    Gillman, Rayne and Eickhoff, 2022, Findings of ACL.) In one dimension it is 1.

    Raises:
        NotMeasurableError: Fewer than 2 rows with a direction, or all equal.
    """
    space.require_spread("isotropy")
    rows = space.sample
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    rows = rows[norms > _SHORTEST] / norms[norms > _SHORTEST, np.newaxis].astype(np.float32)
    count = len(rows)
    total = rows.sum(axis=0, dtype=np.float64)
    lean = rows @ (total / max(count, 1)).astype(np.float32)
    variances = space.pca.variances
    participation = variances.sum() ** 2 / np.square(variances).sum()
    return Isotropy(
        mean_cosine=float((total @ total - count) / (count * (count - 1))) if count > 1 else 0.0,
        mean_cosine_std=float(2 * lean.std(dtype=np.float64) / np.sqrt(max(count, 1))),
        iso_score=float((participation - 1) / max(space.dimension - 1, 1))
        if space.dimension > 1
        else 1.0,
    )
