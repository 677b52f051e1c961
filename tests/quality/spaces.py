"""Vectors of which it is known what is to be found in them."""

from __future__ import annotations

import numpy as np


def embedded(points, dimension=64, seed=0):
    """Rotate points into a space of more dimensions; no distance changes."""
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.standard_normal((dimension, points.shape[1])))
    return (points @ axes.T).astype(np.float32)


def cube(rows, dimension, seed=0):
    return embedded(np.random.default_rng(seed).random((rows, dimension)), seed=seed)


def sphere(rows, dimension, seed=0):
    points = np.random.default_rng(seed).standard_normal((rows, dimension + 1))
    return embedded(points / np.linalg.norm(points, axis=1, keepdims=True), seed=seed)


def swiss_roll(rows, seed=0):
    rng = np.random.default_rng(seed)
    turn = 1.5 * np.pi * (1 + 2 * rng.random(rows))
    points = np.stack([turn * np.cos(turn), 21 * rng.random(rows), turn * np.sin(turn)], axis=1)
    return embedded(points, seed=seed)


def gaussian(rows, dimension, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)


def planted(clusters, rows_each, dimension=32, spread=0.25, seed=0):
    """Return well separated round clusters, and the cluster of each row."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, dimension))
    truth = np.repeat(np.arange(clusters), rows_each)
    rng.shuffle(truth)
    noise = rng.standard_normal((len(truth), dimension))
    return (centres[truth] + spread * noise).astype(np.float32), truth
