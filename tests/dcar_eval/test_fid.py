"""The Fréchet distance against closed forms, SciPy, and pytorch-fid's files."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pytorch_fid import fid_score
from scipy.linalg import sqrtm

from dcar_eval.fid import (
    FeatureSums,
    SingularCovarianceWarning,
    Statistics,
    frechet_distance,
    load_statistics,
    save_statistics,
)
from dcht.errors import UsageError

RNG = np.random.default_rng(0)


def sums_of(features: np.ndarray) -> FeatureSums:
    sums = FeatureSums.empty(features.shape[1])
    sums.update(features)
    return sums


def test_diagonal_gaussians_have_a_closed_form() -> None:
    mu1, mu2 = RNG.normal(size=(2, 40))
    deviation1, deviation2 = RNG.uniform(0.1, 3, size=(2, 40))
    expected = ((mu1 - mu2) ** 2).sum() + ((deviation1 - deviation2) ** 2).sum()
    found = frechet_distance(mu1, np.diag(deviation1**2), mu2, np.diag(deviation2**2))
    assert found == pytest.approx(expected, rel=1e-12)


def test_scaled_covariances_have_a_closed_form() -> None:
    """sigma and 4 sigma: tr(sigma + 4 sigma - 2 * 2 sigma) = tr(sigma)."""
    sigma = np.cov(RNG.normal(size=(300, 30)), rowvar=False)
    zero = np.zeros(30)
    assert frechet_distance(zero, sigma, zero, 4 * sigma) == pytest.approx(np.trace(sigma))
    assert frechet_distance(zero, sigma, zero, sigma) == pytest.approx(0, abs=1e-12)


def test_equals_the_matrix_square_root() -> None:
    decay = np.exp(-np.arange(128) / 20)  # as uneven as real features
    mix = RNG.normal(size=(128, 128)) / 11
    a = sums_of(RNG.normal(size=(900, 128)) * decay).statistics()
    b = sums_of(RNG.normal(size=(900, 128)) * decay @ mix + 0.1).statistics()
    root = np.asarray(sqrtm(a.sigma @ b.sigma))
    offset = a.mu - b.mu
    expected = offset @ offset + np.trace(a.sigma + b.sigma - 2 * np.real(root))
    assert frechet_distance(*a, *b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(*b, *a) == pytest.approx(expected, rel=1e-6)


def test_few_samples_give_the_exact_value_and_a_warning() -> None:
    """Of factors A and B the trace of the root is the nuclear norm of A^T B, also where
    sigma = A A^T is singular: that needs no root of a d x d matrix to check against."""
    samples = [RNG.normal(size=(12, 200)), RNG.normal(size=(9, 200)) + 0.3]
    a, b = (sums_of(rows).statistics() for rows in samples)
    factors = [(rows - rows.mean(axis=0)).T / np.sqrt(len(rows) - 1) for rows in samples]
    cross = np.linalg.norm(factors[0].T @ factors[1], ord="nuc")
    expected = ((a.mu - b.mu) ** 2).sum() + np.trace(a.sigma + b.sigma) - 2 * cross
    with pytest.warns(SingularCovarianceWarning, match="200 dimensions have ranks 11 and 8"):
        assert frechet_distance(*a, *b) == pytest.approx(expected, rel=1e-9)


def test_two_images_and_no_spread_at_all() -> None:
    pair = sums_of(RNG.normal(size=(2, 50))).statistics()
    constant = sums_of(np.ones((5, 50))).statistics()
    with pytest.warns(SingularCovarianceWarning):
        assert frechet_distance(*pair, *pair) == pytest.approx(0, abs=1e-9)
    with pytest.warns(SingularCovarianceWarning):
        expected = ((pair.mu - 1) ** 2).sum() + np.trace(pair.sigma)
        assert frechet_distance(*pair, *constant) == pytest.approx(expected)


def test_sums_of_parts_equal_one_pass() -> None:
    features = RNG.normal(2, 1, size=(257, 24)).astype(np.float32)
    whole = sums_of(features).statistics()
    parts = sums_of(features[:100]) + sums_of(features[100:101]) + sums_of(features[101:])
    merged = parts.statistics()
    assert parts.count == 257
    assert np.allclose(merged.mu, whole.mu, rtol=1e-14)
    assert np.allclose(merged.sigma, whole.sigma, rtol=1e-10, atol=1e-13)
    double = features.astype(np.float64)
    assert np.allclose(whole.mu, double.mean(axis=0), rtol=1e-12)
    assert np.allclose(whole.sigma, np.cov(double, rowvar=False), rtol=1e-9, atol=1e-12)


def test_statistics_files_are_those_of_pytorch_fid(tmp_path: Path) -> None:
    ours = sums_of(RNG.normal(size=(30, 8))).statistics()
    path = tmp_path / "ours.npz"
    save_statistics(path, ours)
    theirs = fid_score.compute_statistics_of_path(str(path), None, 1, 8, "cpu")  # type: ignore[arg-type]
    assert all(np.array_equal(a, b) for a, b in zip(theirs, ours, strict=True))
    np.savez_compressed(tmp_path / "theirs.npz", mu=ours.mu, sigma=ours.sigma)
    again = load_statistics(tmp_path / "theirs.npz")
    assert all(np.array_equal(a, b) for a, b in zip(again, ours, strict=True))
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two images at least, there are 1"):
        sums_of(np.ones((1, 4))).statistics()
    with pytest.raises(UsageError, match=r"shape \(3, 5\); expected \(n, 4\)"):
        FeatureSums.empty(4).update(np.ones((3, 5)))
    four, five = (Statistics(np.zeros(dim), np.eye(dim)) for dim in (4, 5))
    with pytest.raises(UsageError, match="have shapes"):
        frechet_distance(*four, *five)
    with pytest.raises(UsageError, match="not finite"):
        frechet_distance(four.mu * np.nan, four.sigma, *four)
    with pytest.raises(UsageError, match="does not exist"):
        load_statistics(tmp_path / "nothing.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(UsageError, match=r"is not an \.npz with mu and sigma"):
        load_statistics(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    with pytest.raises(UsageError, match=r"is not an \.npz with mu and sigma"):
        load_statistics(tmp_path / "other.npz")


def test_stored_statistics_are_read_with_care(tmp_path: Path) -> None:
    """Empty, renamed, lying, or of values that no images have: one line and little memory."""
    path, identity = tmp_path / "x.npz", np.eye(4)
    save_statistics(path, Statistics(np.zeros(4), identity))
    whole = path.read_bytes()

    def stored(**arrays: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        return buffer.getvalue()

    def lying(header: bytes, content: bytes) -> bytes:
        """An archive whose `mu` says that it has another shape than there are bytes for."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            length = len(header).to_bytes(2, "little")
            archive.writestr("mu.npy", b"\x93NUMPY\x01\x00" + length + header + content)
        return buffer.getvalue()

    describe = "{{'descr': '{}', 'fortran_order': False, 'shape': {}}}\n".format
    array = io.BytesIO()
    np.save(array, identity)
    hostile = {
        b"": "not a zip file",
        whole[: len(whole) // 2]: "not a zip file",
        array.getvalue(): "not a zip file",  # an .npy renamed
        stored(mu=np.zeros(4)): "sigma.npy",
        stored(mu=np.zeros(4), sigma=np.eye(5)): r"expected \(d,\) and \(d, d\)",
        stored(mu=np.zeros((2, 2)), sigma=identity): r"expected \(d,\) and \(d, d\)",
        stored(mu=np.zeros(0), sigma=np.zeros((0, 0))): r"expected \(d,\) and \(d, d\)",
        stored(mu=np.full(4, np.nan), sigma=identity): "not finite",
        stored(mu=np.zeros(4), sigma=-identity): "no covariance",
        stored(mu=np.zeros(4), sigma=np.triu(np.ones((4, 4)))): "no covariance",
        stored(mu=np.array(["a"] * 4), sigma=identity): "expected numbers",
        stored(mu=np.zeros(4, dtype=complex), sigma=identity): "expected numbers",
        lying(describe("<f8", "(8000,)").encode(), b"short"): "has not the 64,000 bytes",
        lying(describe("<f8", "(10**9,)").encode(), b""): "",
        lying(describe("<f8", "(1000000000,)").encode(), b""): "expected numbers, 8,192 a side",
        lying(describe("|O", "(4,)").encode(), b"\x80\x04."): "expected numbers",
        lying(describe("<f8", "(4,)").encode(), b"\0" * 10**7): "has not the 32 bytes",
    }
    for content, reason in hostile.items():
        path.write_bytes(content)
        with pytest.raises(UsageError, match=rf"is not an \.npz with mu and sigma: .*{reason}"):
            load_statistics(path)
    path.write_bytes(whole)
    assert np.array_equal(load_statistics(path).sigma, identity)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UsageError, match="not a regular file"):
        load_statistics(path)


@pytest.mark.slow
def test_equals_the_matrix_square_root_at_inceptions_dimensions() -> None:
    decay = np.exp(-np.arange(2048) / 300)
    a, b = (sums_of(RNG.normal(m, 1, (4500, 2048)) * decay).statistics() for m in (0, 0.05))
    root = np.asarray(sqrtm(a.sigma @ b.sigma))
    offset = a.mu - b.mu
    expected = offset @ offset + np.trace(a.sigma + b.sigma - 2 * np.real(root))
    assert frechet_distance(*a, *b) == pytest.approx(expected, rel=1e-6)
