"""Operations on vectors: comparing, normalising, averaging, finding outliers, reducing dimensions.

They take anything that numpy reads as real numbers, change none of it, refuse what is not finite,
and give no NaN and no warning. Which rule a zero vector follows stands beside each.
"""

from __future__ import annotations

from nearfield.vectors.centroids import Centroids, centroid, centroids
from nearfield.vectors.normalization import Norm, normalize
from nearfield.vectors.outliers import OutlierRule, Outliers, find_outliers
from nearfield.vectors.pairwise import (
    pairwise_cosine,
    pairwise_dot,
    pairwise_euclidean,
    pairwise_manhattan,
)
from nearfield.vectors.pca import PCA
from nearfield.vectors.random_projection import RandomProjection, johnson_lindenstrauss_dimension
from nearfield.vectors.similarity import cosine, dot, euclidean, manhattan

__all__ = [
    "PCA",
    "Centroids",
    "Norm",
    "OutlierRule",
    "Outliers",
    "RandomProjection",
    "centroid",
    "centroids",
    "cosine",
    "dot",
    "euclidean",
    "find_outliers",
    "johnson_lindenstrauss_dimension",
    "manhattan",
    "normalize",
    "pairwise_cosine",
    "pairwise_dot",
    "pairwise_euclidean",
    "pairwise_manhattan",
]
