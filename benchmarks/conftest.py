"""What every benchmark needs of pytest: to run in this process, one after the other."""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # The suite's own `--dist`, with which pytest-benchmark would time nothing.
    config.option.dist = "no"
