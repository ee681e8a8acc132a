"""Further metrics of two sets of images by their features, beside FID and KID (`distances`).

A metric is a row of `METRICS`: what it computes from the features of the reference (m, d) and of
what is measured (n, d), and everything its value depends on. Each is a record of its own; adding
one changes no other's numbers, names or hash. Everything is float64; random variates have a fixed
seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcar_eval.metrics.protocol import FurtherMetric, fid_name
from dcht.errors import UsageError

SEED = 0
DIRECTIONS = 1024
NEIGHBORS = 3
CMMD_SIGMA, CMMD_SCALE = 10.0, 1000.0
ROWS_AT_ONCE = 1024
"""Rows of a matrix of pairs that exist at once."""

Array = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class SetMetric(FurtherMetric):
    """A metric of two sets of features."""

    compute: Callable[[Array, Array], dict[str, float]]
    """From the reference's features (m, d) and the measured ones (n, d): values by name."""


def sliced_wasserstein(real: Array, fake: Array, *, directions: int = DIRECTIONS) -> float:
    """MIND: the mean over random directions of the exact squared 2-Wasserstein distance.

    (1 / D) sum_j W2^2(<theta_j, real>, <theta_j, fake>) with theta_j uniform on the unit sphere, as
    the closed form in one dimension has it: the integral of the squared difference of the two
    quantile functions. For two sets that differ by a shift m it is |m|^2 / d on average.

    Args:
        real: (m, d).
        fake: (n, d).
        directions: how many; sampled with a fixed seed.

    Returns:
        In squared units of the features, 0 for equal sets.
    """
    x, y = _checked(real, fake)
    thetas = np.random.default_rng(SEED).standard_normal((directions, x.shape[1]))
    thetas /= np.linalg.norm(thetas, axis=1, keepdims=True)
    # Quantile functions are steps that change at multiples of 1/m and 1/n.
    edges = np.union1d(np.arange(1, len(x) + 1) / len(x), np.arange(1, len(y) + 1) / len(y))
    widths = np.diff(edges, prepend=0.0)
    middles = edges - widths / 2
    rows, others = ((middles * len(points)).astype(int) for points in (x, y))
    total = 0.0
    for part in np.array_split(thetas, -(-directions // 64)):
        difference = np.sort(x @ part.T, axis=0)[rows] - np.sort(y @ part.T, axis=0)[others]
        total += float((widths @ difference**2).sum())
    return total / directions


def precision_recall(real: Array, fake: Array, *, neighbors: int = NEIGHBORS) -> dict[str, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019), k-nearest neighbors.

    Precision is the share of `fake` that lies within a ball around some point of `real`, whose
    radius is the distance to that point's k-th neighbor in `real`; recall is the same with the sets
    exchanged.

    Args:
        real: (m, d), m > k.
        fake: (n, d), n > k.
        neighbors: k; 3 as published.

    Raises:
        UsageError: a set has too few points.
    """
    x, y = _checked(real, fake)
    if min(len(x), len(y)) <= neighbors:
        raise UsageError(
            f"precision and recall of {neighbors} neighbors need {neighbors + 1} images at least "
            f"on each side; there are {len(x)} and {len(y)}"
        )
    return {"precision": _covered(y, x, neighbors), "recall": _covered(x, y, neighbors)}


def _covered(points: Array, support: Array, neighbors: int) -> float:
    """The share of points (n, d) that lie in a ball of the support (m, d)."""
    radii = np.concatenate(
        [
            # The nearest is the point itself, at distance 0.
            np.partition(_squared_distances(rows, support), neighbors, axis=1)[:, neighbors]
            for rows in _pieces(support)
        ]
    )
    inside = [(_squared_distances(rows, support) <= radii).any(axis=1) for rows in _pieces(points)]
    return float(np.concatenate(inside).mean())


def cmmd(real: Array, fake: Array) -> float:
    """CMMD (Jayasumana et al. 2024) of CLIP embeddings: 1000 times the squared MMD, kernel RBF.

    k(x, y) = exp(-|x - y|^2 / (2 sigma^2)) with sigma 10, of embeddings scaled to unit length; the
    means include the pairs of a point with itself, as in the published code.

    Args:
        real: (m, d) embeddings.
        fake: (n, d) embeddings.
    """
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in _checked(real, fake))

    def mean_kernel(a: Array, b: Array) -> float:
        sums = [
            np.exp(-_squared_distances(rows, b) / (2 * CMMD_SIGMA**2)).sum() for rows in _pieces(a)
        ]
        return float(np.sum(sums)) / (len(a) * len(b))

    return CMMD_SCALE * (mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y))


def inception_score(logits: Array, *, splits: int = 10) -> dict[str, float]:
    """Inception Score (Salimans et al. 2016): exp of the mean divergence of p(y|x) from p(y).

    Args:
        logits: (n, classes) of the measured images.
        splits: parts, in the images' order, over which mean and deviation are taken.

    Returns:
        `value`, from 1 to the number of classes, and `std` over the splits.

    Raises:
        UsageError: fewer images than splits.
    """
    if len(logits) < splits:
        raise UsageError(f"{len(logits)} images cannot be split into {splits} parts")
    x = np.asarray(logits, dtype=np.float64)
    log_p = x - x.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    scores = []
    for part in np.array_split(log_p, splits):
        p = np.exp(part)
        log_marginal = np.log(p.mean(axis=0, keepdims=True).clip(min=np.finfo(np.float64).tiny))
        scores.append(np.exp((p * (part - log_marginal)).sum(axis=1).mean()))
    return {"value": float(np.mean(scores)), "std": float(np.std(scores))}


def _checked(real: Array, fake: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = (np.asarray(rows, dtype=np.float64) for rows in (real, fake))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not len(x) or not len(y):
        raise UsageError(f"features have shapes {x.shape} and {y.shape}; expected (m, d), (n, d)")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise UsageError("features hold values that are not finite")
    return x, y


def _pieces(rows: Array) -> list[Array]:
    return np.array_split(rows, -(-len(rows) // ROWS_AT_ONCE))


def _squared_distances(a: Array, b: Array) -> Array:
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None]
    return (squares - 2 * a @ b.T).clip(min=0)


INCEPTION_SCORE = "inception-score"
"""Of the measured images alone, by a network that is a classifier."""
METRICS: dict[str, SetMetric] = {
    "mind": SetMetric(
        compute=lambda real, fake: {"value": sliced_wasserstein(real, fake)},
        settings={"directions": DIRECTIONS, "seed": SEED},
        source="arXiv 2605.06797",
    ),
    "precision-recall": SetMetric(
        compute=precision_recall,
        settings={"neighbors": NEIGHBORS},
        source="arXiv 1904.06991",
    ),
    "cmmd": SetMetric(
        compute=lambda real, fake: {"value": cmmd(real, fake)},
        settings={"sigma": CMMD_SIGMA, "scale": CMMD_SCALE, "unit_length": True},
        source="arXiv 2401.09603",
    ),
}
"""By the name that `dcar-eval fid --metrics` takes."""


def measure_sets(
    names: Sequence[str], real: Array, fake: Array, *, extractor: str
) -> dict[str, dict[str, Any]]:
    """Metrics of `METRICS` by their own names, each value with `n` and the metric's record.

    Args:
        names: of the metrics.
        real: features (m, d) of the reference.
        fake: features (n, d) of what is measured.
        extractor: the name of what made them, which a value that is not of FID's network bears.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        metric = METRICS[name]
        for key, value in metric.compute(real, fake).items():
            label = fid_name(name if key == "value" else key, extractor)
            found[label] = {"value": value, "n": len(fake), **metric.record(name)}
    return found
