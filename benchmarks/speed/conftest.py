"""Two implementations in turn, and their ratio; what takes minutes runs only with `-m slow`."""

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from pytest_benchmark.utils import load_timer

ROUNDS, WARM_UP = 12, 2
RATIOS = pytest.StashKey[list[str]]()

Call = Callable[[], object]
Versus = Callable[[Call, Call], None]


@pytest.fixture
def versus(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> Versus:
    """Time `ours` with pytest-benchmark and `peer` between its rounds.

    Alternating, a machine that is busy with something else slows both. The ratio is that of the
    fastest rounds: what interferes can only make one slower.
    """

    def run(ours: Call, peer: Call) -> None:
        seconds: list[float] = []
        timer = load_timer(request.config.getoption("benchmark_timer")).target

        def time_peer() -> None:
            start = timer()
            peer()
            seconds.append(timer() - start)

        benchmark.pedantic(ours, setup=time_peer, rounds=ROUNDS, warmup_rounds=WARM_UP)
        if benchmark.stats is None:  # --benchmark-disable
            return
        fastest: float = benchmark.stats.stats.min  # type: ignore[assignment]  (cached_property)
        ratio = min(seconds) / fastest
        benchmark.extra_info |= {"peer_seconds": min(seconds), "ratio": ratio}
        lines = request.config.stash.setdefault(RATIOS, [])
        lines.append(
            f"{request.node.name}: {fastest * 1e3:.1f} ms, peer {min(seconds) * 1e3:.1f} ms, "
            f"ratio {ratio:.2f}"
        )

    return run


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if lines := config.stash.get(RATIOS, []):
        terminalreporter.section("ratios: peer's fastest round / ours")
        terminalreporter.write("\n".join(lines) + "\n")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("markexpr"):
        return
    slow = [item for item in items if "slow" in item.keywords]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]
