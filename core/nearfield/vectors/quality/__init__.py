"""The quality of an embedding space: what is wrong with a set of vectors, and what to do.

:func:`assess` measures everything; each measure is a function of a :class:`Space`. They need the
extra ``quality``.
"""

from __future__ import annotations

from nearfield.vectors.quality.clusters import Cluster, Clusters, clusters
from nearfield.vectors.quality.coherence import (
    Coherence,
    LabelAgreement,
    LabelCoherence,
    coherence,
    label_coherence,
)
from nearfield.vectors.quality.dimension_efficiency import DimensionEfficiency, dimension_efficiency
from nearfield.vectors.quality.distances import DistanceStatistics, Quantiles, distance_statistics
from nearfield.vectors.quality.drift import Drift, drift
from nearfield.vectors.quality.duplicates import DuplicateGroup, Duplicates, duplicates
from nearfield.vectors.quality.findings import Finding, Level
from nearfield.vectors.quality.hubness import Hub, Hubness, hubness
from nearfield.vectors.quality.intrinsic_dimension import IntrinsicDimension, intrinsic_dimension
from nearfield.vectors.quality.isotropy import Isotropy, isotropy
from nearfield.vectors.quality.meanings import MEANINGS, Meaning
from nearfield.vectors.quality.outliers import Outlier, OutlierStatistics, outliers
from nearfield.vectors.quality.reading import VectorSet, read_collection
from nearfield.vectors.quality.report import QualityReport, assess
from nearfield.vectors.quality.space import NotMeasurableError, Space

__all__ = [
    "MEANINGS",
    "Cluster",
    "Clusters",
    "Coherence",
    "DimensionEfficiency",
    "DistanceStatistics",
    "Drift",
    "DuplicateGroup",
    "Duplicates",
    "Finding",
    "Hub",
    "Hubness",
    "IntrinsicDimension",
    "Isotropy",
    "LabelAgreement",
    "LabelCoherence",
    "Level",
    "Meaning",
    "NotMeasurableError",
    "Outlier",
    "OutlierStatistics",
    "QualityReport",
    "Quantiles",
    "Space",
    "VectorSet",
    "assess",
    "clusters",
    "coherence",
    "dimension_efficiency",
    "distance_statistics",
    "drift",
    "duplicates",
    "hubness",
    "intrinsic_dimension",
    "isotropy",
    "label_coherence",
    "outliers",
    "read_collection",
]
