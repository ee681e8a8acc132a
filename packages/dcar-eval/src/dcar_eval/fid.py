"""The Fréchet distance of two sets of features: from sums that merge, or pytorch-fid's files.

FID (Heusel et al. 2017) is this distance with Inception features, see
`dcar_eval.metrics.inception`. Everything here is float64; no network is involved.
"""

from __future__ import annotations

import hashlib
import io
import math
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dcht.errors import UsageError
from dcht.files import open_regular, write_atomic

FEW_IMAGES = 2048
"""Below this many images Inception's covariance is singular, and the distance biased upward."""
MAX_DIM = 8192
"""Largest dimension of stored statistics that is read; Inception's is 2,048."""
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

Array = NDArray[np.float64]


class SingularCovarianceWarning(UserWarning):
    """A covariance came from fewer samples than it has dimensions (or from dependent ones)."""


class Statistics(NamedTuple):
    """A distribution's mean (d,) and covariance (d, d)."""

    mu: Array
    sigma: Array


def frechet_distance(mu1: ArrayLike, sigma1: ArrayLike, mu2: ArrayLike, sigma2: ArrayLike) -> float:
    """|mu1 - mu2|^2 + tr(sigma1 + sigma2 - 2 sqrt(sigma1 sigma2)); never negative or complex.

    With sigma = A A^T on both sides, the trace of the root is the sum of the singular values of
    A1^T A2. That needs no root of an unsymmetric matrix (where SciPy's `sqrtm` may come out
    complex), and holds for singular covariances.

    Args:
        mu1: mean, (d,).
        sigma1: covariance, symmetric, (d, d).
        mu2: mean, (d,).
        sigma2: covariance, symmetric, (d, d).

    Raises:
        UsageError: shapes that do not fit each other, or values that are not finite.

    Warns:
        SingularCovarianceWarning: a covariance has not full rank.
    """
    means = [np.asarray(mu, dtype=np.float64) for mu in (mu1, mu2)]
    covariances = [np.asarray(sigma, dtype=np.float64) for sigma in (sigma1, sigma2)]
    dim = means[0].size
    expected = [(dim,), (dim,), (dim, dim), (dim, dim)]
    shapes = [value.shape for value in (*means, *covariances)]
    if shapes != expected:
        raise UsageError(f"mu1, mu2, sigma1, sigma2 have shapes {shapes}; expected {expected}")
    if not all(np.isfinite(value).all() for value in (*means, *covariances)):
        raise UsageError("statistics hold values that are not finite")
    roots = [_root(sigma) for sigma in covariances]
    ranks = [root.shape[1] for root in roots]
    if min(ranks) < dim:
        warnings.warn(
            f"covariances of {dim} dimensions have ranks {ranks[0]} and {ranks[1]}: too few "
            "samples, which biases the distance upward",
            SingularCovarianceWarning,
            stacklevel=2,
        )
    cross = np.linalg.svd(roots[0].T @ roots[1], compute_uv=False).sum()
    offset = means[0] - means[1]
    traces = sum(np.trace(sigma) for sigma in covariances)
    return max(0.0, float(offset @ offset + traces - 2 * cross))


def _root(sigma: Array) -> NDArray[np.floating]:
    """A with A A^T = sigma: (d, d), or (d, rank) where sigma is singular."""
    try:
        return np.linalg.cholesky(sigma)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(sigma)
        kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
        return vectors[:, kept] * np.sqrt(values[kept])


@dataclass
class FeatureSums:
    """Sums over features, enough for their statistics; sums of parts add up to those of a whole."""

    count: int
    total: Array
    outer: Array

    @classmethod
    def empty(cls, dim: int) -> FeatureSums:
        """The sums over no features of `dim` dimensions."""
        return cls(0, np.zeros(dim), np.zeros((dim, dim)))

    def update(self, features: ArrayLike) -> None:
        """Add features (n, d)."""
        rows = np.asarray(features, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.total):
            raise UsageError(f"features have shape {rows.shape}; expected (n, {len(self.total)})")
        self.count += len(rows)
        self.total += rows.sum(axis=0)
        self.outer += rows.T @ rows

    def __add__(self, other: FeatureSums) -> FeatureSums:
        return FeatureSums(
            self.count + other.count, self.total + other.total, self.outer + other.outer
        )

    def statistics(self) -> Statistics:
        """Mean and unbiased covariance (n - 1 below the line, as in pytorch-fid).

        Raises:
            UsageError: fewer than two features were added.
        """
        if self.count < 2:
            raise UsageError(f"statistics need two images at least, there are {self.count}")
        mu = self.total / self.count
        sigma = (self.outer - self.count * np.outer(mu, mu)) / (self.count - 1)
        return Statistics(mu, sigma)


def save_statistics(path: str | Path, statistics: Statistics) -> None:
    """Write an `.npz` that pytorch-fid reads, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, mu=statistics.mu, sigma=statistics.sigma)
    write_atomic(Path(path), buffer.getvalue())


def statistics_sha256(statistics: Statistics) -> str:
    """Hash of stored statistics, by their values."""
    return hashlib.sha256(statistics.mu.tobytes() + statistics.sigma.tobytes()).hexdigest()


def load_statistics(path: str | Path) -> Statistics:
    """Read an `.npz` that `save_statistics` or `pytorch-fid --save-stats` wrote; no pickle.

    Raises:
        UsageError: no such file, or it is something else: too large, say, or of values that are no
            mean and covariance.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            found = Statistics(*(_read_array(archive, key) for key in ("mu", "sigma")))
        _require_statistics(found)
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist") from None
    except Exception as error:
        # zipfile and numpy raise what they ran into, and promise no exception's kind.
        reason = str(error) or type(error).__name__
        raise UsageError(f"{path} is not an .npz with mu and sigma: {reason}") from None
    return found


def _read_array(archive: zipfile.ZipFile, key: str) -> Array:
    """An array of an `.npz`, whose header is believed only as far as there are bytes."""
    with archive.open(f"{key}.npy") as file:
        version = np.lib.format.read_magic(file)
        if version not in HEADERS:
            raise ValueError(f"{key} has version {version} of numpy's format")
        shape, fortran, dtype = HEADERS[version](file)
        if dtype.kind not in "fiu" or len(shape) > 2 or max(shape, default=0) > MAX_DIM:
            raise ValueError(
                f"{key} is {dtype} of shape {shape}; expected numbers, {MAX_DIM:,} a side at most"
            )
        length = math.prod(shape) * dtype.itemsize
        content = file.read(length + 1)
    if len(content) != length:
        raise ValueError(f"{key} of shape {shape} has not the {length:,} bytes that this takes")
    values = np.frombuffer(content, dtype).astype(np.float64)
    return values.reshape(shape, order="F" if fortran else "C")


def _require_statistics(found: Statistics) -> None:
    """Refuse what no set of images has as mean and covariance."""
    mu, sigma = found
    if mu.ndim != 1 or sigma.shape != (mu.size, mu.size) or not mu.size:
        raise ValueError(f"shapes {mu.shape} and {sigma.shape}; expected (d,) and (d, d)")
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise ValueError("values that are not finite")
    if sigma.diagonal().min() < 0 or not np.allclose(sigma, sigma.T, atol=1e-6 * abs(sigma).max()):
        raise ValueError("sigma is no covariance: not symmetric, or a variance below 0")
