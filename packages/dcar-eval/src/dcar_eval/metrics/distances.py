"""Distances of two sets of images by their features: FID's, KID, and how far they spread.

FID (Heusel et al. 2017) is biased upward with few images, and how far it would move with other
images cannot be seen from it; KID (Binkowski et al. 2018) is unbiased. So they stand together.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcar_eval.fid import (
    FEW_IMAGES,
    FeatureSums,
    SingularCovarianceWarning,
    Statistics,
    frechet_distance,
)
from dcar_eval.metrics.protocol import fid_name

SPLITS = 5
SUBSETS, SUBSET = 100, 1000
"""KID's, as in torch-fidelity; of fewer images a subset is half."""
SEED = 0
"""Of the splits and subsets: they are the same in every run."""

Array = NDArray[np.floating]


def statistics_of(features: Array) -> Statistics:
    """Mean and covariance of features (n, d)."""
    sums = FeatureSums.empty(features.shape[1])
    for part in np.array_split(features, max(1, len(features) // SUBSET)):
        sums.update(part)
    return sums.statistics()


def distances(
    real: Array | Statistics, fake: Array, *, kind: str, extractor: str
) -> dict[str, dict[str, Any]]:
    """FID and KID of features (n, d) against others, or against stored statistics (no KID then).

    Args:
        real: the reference.
        fake: what is measured.
        kind: `rfid`, `gfid` or `fid`.
        extractor: its name, which a distance that is not FID's bears.

    Returns:
        By name: `value` and `n`; FID with `splits` (mean and deviation over disjoint random parts
        of `fake`, each against all of `real`), KID with its deviation over subsets.
    """
    found: dict[str, Any] = {"value": frechet(real, fake), "n": len(fake)}
    if len(fake) >= 2 * SPLITS:
        reference = real if isinstance(real, Statistics) else statistics_of(real)
        order = np.random.default_rng(SEED).permutation(len(fake))
        parts = np.array_split(order, SPLITS)
        values = [frechet(reference, fake[np.sort(part)]) for part in parts]
        found["splits"] = {
            "num": SPLITS,
            "n": len(parts[-1]),
            "mean": float(np.mean(values)),
            "std": float(np.std(values, ddof=1)),
        }
    result = {fid_name(kind, extractor): found}
    if not isinstance(real, Statistics) and min(len(real), len(fake)) >= 4:
        result[fid_name("kid", extractor)] = kernel_distance(real, fake)
    return result


def frechet(real: Array | Statistics, fake: Array | Statistics) -> float:
    """The Fréchet distance, without the warning of too few images: `few_images` says that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularCovarianceWarning)
        first, second = (
            found if isinstance(found, Statistics) else statistics_of(found)
            for found in (real, fake)
        )
        return frechet_distance(*first, *second)


def kernel_distance(real: Array, fake: Array) -> dict[str, Any]:
    """KID: mean and deviation over random subsets of `squared_mmd` of features (n, d)."""
    size = min(SUBSET, min(len(real), len(fake)) // 2)
    rng = np.random.default_rng(SEED)
    values = [
        squared_mmd(
            real[rng.choice(len(real), size, replace=False)],
            fake[rng.choice(len(fake), size, replace=False)],
        )
        for _ in range(SUBSETS)
    ]
    spread = {"subsets": SUBSETS, "subset": size, "std": float(np.std(values))}
    return {"value": float(np.mean(values)), "n": len(fake), **spread}


def squared_mmd(real: Array, fake: Array) -> float:
    """The unbiased squared maximum mean discrepancy, kernel (x y / d + 1)^3; may be negative."""
    x, y = (np.asarray(rows, dtype=np.float64) for rows in (real, fake))

    def kernel(a: Array, b: Array) -> Array:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def without_self(rows: Array) -> float:
        pairs = kernel(rows, rows)
        return float(pairs.sum() - np.trace(pairs)) / (len(rows) * (len(rows) - 1))

    return without_self(x) + without_self(y) - 2 * float(kernel(x, y).mean())


def few_images(name: str, count: int) -> list[str]:
    """What a reader of a Fréchet distance over so many images must know, if anything."""
    if count >= FEW_IMAGES:
        return []
    return [
        f"{name} is of {count} images: below {FEW_IMAGES:,} it is biased upward and compares with "
        "nothing else"
    ]
