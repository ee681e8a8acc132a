"""Runs of the tiny generator draw no curves, unless a test asks."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_curves() -> Iterator[None]:
    """Drawing them takes longer than most runs here: one test puts `plot_run` back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcar.train.plot_run", lambda out: None)
        yield
