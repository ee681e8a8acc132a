"""The Fréchet distance at Inception's 2048 dimensions: ours, and pytorch-fid's function.

    pytest benchmarks/speed/bench_fid.py

One round of each on the same covariances, in one process; the last benchmark asserts the ratio.
"""

import time

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from pytorch_fid.fid_score import calculate_frechet_distance

from dcar_eval.fid import Statistics, frechet_distance

DIM = 2048
AT_LEAST = 3.0


@pytest.fixture(scope="module")
def pair() -> tuple[Statistics, Statistics]:
    """Two full covariances whose eigenvalues fall off as those of real features do."""
    rng = np.random.default_rng(0)
    decay = np.exp(-np.arange(DIM) / 300)
    found = []
    for shift in (0.0, 0.02):
        rows = rng.normal(shift, 1, (3 * DIM, DIM)) * decay
        found.append(Statistics(rows.mean(axis=0), np.cov(rows, rowvar=False)))
    return found[0], found[1]


def bench_frechet_ours(benchmark: BenchmarkFixture, pair: tuple[Statistics, Statistics]) -> None:
    """Cholesky factors, and the singular values of their product."""
    benchmark.pedantic(frechet_distance, (*pair[0], *pair[1]), rounds=3)


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
def bench_frechet_ratio(benchmark: BenchmarkFixture, pair: tuple[Statistics, Statistics]) -> None:
    """Timed: pytorch-fid's function, SciPy's `sqrtm`. The values agree, and ours is faster."""
    begin = time.perf_counter()
    ours = frechet_distance(*pair[0], *pair[1])
    seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    theirs = benchmark.pedantic(calculate_frechet_distance, (*pair[0], *pair[1]), rounds=1)
    ratio = (time.perf_counter() - begin) / seconds
    benchmark.extra_info["times_faster"] = round(ratio, 1)
    assert ours == pytest.approx(float(theirs), rel=1e-6)
    assert ratio >= AT_LEAST, f"{ratio:.1f} times as fast as pytorch-fid's; {AT_LEAST} wanted"
