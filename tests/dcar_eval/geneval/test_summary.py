"""How certain a GenEval score is: intervals over prompts, not over images."""

import numpy as np
import pytest

from dcar_eval.geneval.summary import Judged, intervals, summarize


def test_what_is_always_right_is_certain() -> None:
    judged = [Judged(p, "colors" if p < 5 else "counting", p < 5) for p in range(10)]
    overall, tasks = intervals(judged)
    assert tasks == {"colors": (1, 1), "counting": (0, 0)}
    assert overall == (0.5, 0.5)
    assert summarize(judged).overall == 0.5


def test_four_equal_images_of_a_prompt_tell_no_more_than_one() -> None:
    one = [Judged(p, "colors", p % 2 == 0) for p in range(40)]
    assert intervals(one * 4) == intervals(one)
    _, tasks = intervals(one)
    # The standard deviation of a mean of 40 coins is 0.079; 1.96 of them to each side.
    assert tasks["colors"] == pytest.approx((0.345, 0.655), abs=0.02)
    rng = np.random.default_rng(0)
    loose = [Judged(p, "colors", bool(rng.integers(2))) for p in range(40) for _ in range(4)]
    _, wider = intervals(loose)
    assert wider["colors"].high - wider["colors"].low < 0.75 * (0.655 - 0.345)


def test_nothing_has_no_summary() -> None:
    with pytest.raises(ValueError, match="no images"):
        summarize([])
