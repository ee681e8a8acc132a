"""The Fréchet distance at Inception's 2048 dimensions: ours, and pytorch-fid's function.

Ours is of Cholesky factors and the singular values of their product, pytorch-fid's of SciPy's
`sqrtm`. One round of each on the same covariances: theirs takes a minute.
"""

from collections.abc import Callable

import numpy as np
import pytest
from pytorch_fid.fid_score import calculate_frechet_distance

from dcar_eval.fid import Statistics, frechet_distance

DIM = 2048


def statistics(shift: float, rng: np.random.Generator) -> Statistics:
    """A full covariance whose eigenvalues fall off as those of real features do."""
    rows = rng.normal(shift, 1, (3 * DIM, DIM)) * np.exp(-np.arange(DIM) / 300)
    return Statistics(rows.mean(axis=0), np.cov(rows, rowvar=False))


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
def bench_frechet(versus: Callable[..., None]) -> None:
    """The values agree."""
    rng = np.random.default_rng(0)
    a, b = statistics(0.0, rng), statistics(0.02, rng)
    found: dict[str, float] = {}
    versus(
        lambda: found.update(ours=frechet_distance(*a, *b)),
        lambda: found.update(theirs=float(calculate_frechet_distance(*a, *b))),
        rounds=1,
    )
    assert found["ours"] == pytest.approx(found["theirs"], rel=1e-6)
