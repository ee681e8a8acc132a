"""Metrics of two sets of features against closed forms and against the plainest way to compute."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from dcar_eval.metrics.sets import (
    METRICS,
    SetMetric,
    cmmd,
    inception_score,
    measure_sets,
    precision_recall,
    sliced_wasserstein,
)
from dcht.errors import UsageError

RAMP = np.arange(16.0).reshape(8, 2)


@pytest.fixture
def sets() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    return rng.normal(size=(300, 6)), rng.normal(size=(200, 6)) + 0.5


def test_a_shift_costs_its_square_in_each_direction(sets: tuple[np.ndarray, np.ndarray]) -> None:
    real, _ = sets
    shift = np.array([3.0, 0, 0, 0, 0, 0])
    found = sliced_wasserstein(real, real + shift, directions=20_000)
    assert found == pytest.approx(9 / 6, rel=0.02)  # the mean of (theta . m)^2 is |m|^2 / d
    assert sliced_wasserstein(real, real[::-1]) == 0


def test_a_scale_in_one_dimension_is_the_closed_form() -> None:
    x = np.random.default_rng(0).normal(size=(500, 1))
    # W2^2(x, 3x) = mean of (2x)^2; the only directions are +1 and -1.
    assert sliced_wasserstein(x, 3 * x) == pytest.approx(float((4 * x**2).mean()))


def test_sets_of_other_sizes_are_compared_exactly() -> None:
    # Quantile functions of {0, 1} and {0, 1, 2}: they differ on (1/3, 1/2) by 1 and (2/3, 1) by 1.
    x, y = np.array([[0.0], [1.0]]), np.array([[0.0], [1.0], [2.0]])
    assert sliced_wasserstein(x, y) == pytest.approx(1 / 6 + 1 / 3)
    assert wasserstein_distance(x[:, 0], y[:, 0]) == pytest.approx(
        1 / 6 + 1 / 3
    )  # |.| = |.|^2 here


def test_precision_and_recall_are_what_the_definition_says(
    sets: tuple[np.ndarray, np.ndarray],
) -> None:
    real, fake = sets

    def covered(points: np.ndarray, support: np.ndarray) -> float:
        radii = np.sort(cdist(support, support), axis=1)[:, 3]
        return float((cdist(points, support) <= radii).any(axis=1).mean())

    found = precision_recall(real, fake)
    assert found == {"precision": covered(fake, real), "recall": covered(real, fake)}
    assert 0.5 < found["precision"] < 1


def test_a_model_that_repeats_one_image_is_precise_and_recalls_nothing() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(200, 3))
    fake = real[:1] + rng.normal(size=(50, 3)) * 1e-6
    found = precision_recall(real, fake)
    assert found["precision"] == 1
    assert found["recall"] <= 1 / 200


def test_cmmd_is_the_kernel_sum_and_zero_for_equal_sets(
    sets: tuple[np.ndarray, np.ndarray],
) -> None:
    real, fake = sets
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in sets)
    kernels = [np.exp(-(cdist(a, b) ** 2) / 200).mean() for a, b in ((x, x), (y, y), (x, y))]
    assert cmmd(real, fake) == pytest.approx(1000 * (kernels[0] + kernels[1] - 2 * kernels[2]))
    assert cmmd(real, real) == pytest.approx(0, abs=1e-9)
    assert cmmd(real, 5 * fake) == pytest.approx(cmmd(real, fake))  # directions alone count


def test_inception_score_is_the_number_of_classes_at_best_and_one_at_worst() -> None:
    sure = np.eye(8)[np.arange(80) % 8] * 1000
    assert inception_score(sure, splits=10) == {"value": pytest.approx(8), "std": pytest.approx(0)}
    assert inception_score(np.zeros((80, 8)))["value"] == pytest.approx(1)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_worsens_when_the_features_are_spoiled(name: str) -> None:
    rng = np.random.default_rng(3)
    real, same = rng.normal(size=(400, 8)), rng.normal(size=(400, 8))
    spoiled = same * 0.3 + 2
    before, after = (METRICS[name].compute(real, rows) for rows in (same, spoiled))
    if name == "precision-recall":
        assert after["recall"] < before["recall"] - 0.3
    else:
        assert after["value"] > 3 * before["value"]


def test_a_metric_added_later_has_a_record_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: metric.record(name) for name, metric in METRICS.items()}
    assert len({record["sha256"] for record in before.values()}) == len(METRICS)
    gap = SetMetric(
        compute=lambda real, fake: {"value": float(np.abs(real.mean() - fake.mean()))},
        settings={"power": 1},
        source="here",
    )
    monkeypatch.setitem(METRICS, "gap", gap)
    assert {name: METRICS[name].record(name) for name in before} == before
    found = measure_sets(["gap", "precision-recall"], RAMP, RAMP + 2, extractor="dinov2")
    assert list(found) == ["gap[dinov2]", "precision[dinov2]", "recall[dinov2]"]
    assert found["gap[dinov2]"] == {"value": 2.0, "n": 8, **gap.record("gap")}
    squared = replace(gap, settings={"power": 2})
    hashes = {
        gap.record("gap")["sha256"],
        gap.record("g")["sha256"],
        squared.record("gap")["sha256"],
    }
    assert len(hashes) == 3


def test_what_cannot_be_measured_is_said() -> None:
    good = np.zeros((4, 2))
    with pytest.raises(UsageError, match="not finite"):
        sliced_wasserstein(good, good * np.nan)
    with pytest.raises(UsageError, match="need 4 images at least"):
        precision_recall(good, good[:3])
    with pytest.raises(UsageError, match="expected"):
        cmmd(good, np.zeros((4, 3)))
    with pytest.raises(UsageError, match="cannot be split"):
        inception_score(np.zeros((3, 2)))
