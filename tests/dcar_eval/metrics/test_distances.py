"""KID against its definition, the spread beside it, and what few images are told."""

import numpy as np
import pytest

from dcar_eval.fid import FEW_IMAGES, frechet_distance
from dcar_eval.metrics.distances import (
    distances,
    few_images,
    kernel_distance,
    squared_mmd,
    statistics_of,
)

RNG = np.random.default_rng(0)


def features(count: int, shift: float = 0.0) -> np.ndarray:
    return RNG.normal(shift, 1, (count, 6)).astype(np.float32)


def test_squared_mmd_is_its_definition() -> None:
    """Gretton et al. 2012, equation 3: sums over pairs that are not an image with itself."""
    x, y = features(7), features(5, 0.5)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (float(a.astype(float) @ b.astype(float)) / 6 + 1) ** 3

    def within(rows: np.ndarray) -> float:
        values = [kernel(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
        return float(np.mean(values))

    across = np.mean([kernel(a, b) for a in x for b in y])
    assert squared_mmd(x, y) == pytest.approx(within(x) + within(y) - 2 * across, rel=1e-9)


def test_kid_is_unbiased_and_fid_is_not() -> None:
    """Two sets of one distribution: KID is 0 within its deviation, FID is above."""
    x, y = features(400), features(400)
    found = distances(x, y, kind="fid", extractor="inception")
    assert found.keys() == {"fid", "kid"}
    assert abs(found["kid"]["value"]) < 3 * found["kid"]["std"]
    assert found["fid"]["value"] > 0
    splits = found["fid"]["splits"]
    assert (splits["num"], splits["n"]) == (5, 80)
    assert splits["mean"] > found["fid"]["value"]  # fewer images, more bias
    apart = distances(x, features(400, 0.5), kind="fid", extractor="inception")
    assert apart["kid"]["value"] > 5 * apart["kid"]["std"]


def test_the_value_is_that_of_all_images_and_the_same_every_time() -> None:
    x, y = features(500), features(260, 0.2)
    found = distances(x, y, kind="rfid", extractor="resnet")
    assert found == distances(x, y, kind="rfid", extractor="resnet")
    expected = frechet_distance(
        *[stat for rows in (x, y) for stat in (rows.mean(0), np.cov(rows.T.astype(float)))]
    )
    assert found["rfid[resnet]"]["value"] == pytest.approx(expected, rel=1e-6)
    assert found["rfid[resnet]"]["n"] == found["kid[resnet]"]["n"] == 260
    assert found["kid[resnet]"] == kernel_distance(x, y)
    assert found["kid[resnet]"]["subset"] == 130
    stored = distances(statistics_of(x), y, kind="rfid", extractor="resnet")
    assert stored == {"rfid[resnet]": found["rfid[resnet]"]}


def test_few_images_give_finite_values_and_a_note() -> None:
    for count in (2, 3, 9):
        found = distances(features(count), features(count), kind="fid", extractor="inception")
        assert all(np.isfinite(values["value"]) for values in found.values())
    assert few_images("rfid", FEW_IMAGES) == []
    assert few_images("rfid", 2047) == [
        "rfid is of 2047 images: below 2,048 it is biased upward and compares with nothing else"
    ]
