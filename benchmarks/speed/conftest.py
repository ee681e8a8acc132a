"""Two implementations in turn, and their ratio; what takes minutes runs only with `-m slow`.

Ratios are compared with those of `results/ratios.json`, which `RECORD=1 make bench` writes; what
fell by more than a tenth is named. That fails nothing: another processor has other ratios. The
fastest rounds come nearer to the truth the more there are, so what seems to have fallen gets more
of them before it is named.
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC
from pytest_benchmark.fixture import BenchmarkFixture
from pytest_benchmark.utils import load_timer

from dcht import PRESETS, Tokenizer, TokenizerConfig
from dcht.config import CoderConfig
from dcht.convert.keys import Family, convert_tensors

BLOCKS = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
FEWEST, MOST, SECONDS = 3, 12, 3.0
"""Rounds: as many as take about so long..."""
SETS = 3
"""...and as many again, and once more, where the ratio seems to have fallen."""
RATIOS = pytest.StashKey[dict[str, float]]()
RECORDED = Path(__file__).parent / "results" / "ratios.json"
FALLEN = 0.9

Call = Callable[[], object]
Versus = Callable[..., None]


@pytest.fixture
def versus(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> Versus:
    """Time `ours` with pytest-benchmark and `peer` between its rounds.

    Alternating, a machine that is busy with something else slows both. The ratio is that of the
    fastest rounds: what interferes can only make one slower.
    """

    def run(ours: Call, peer: Call, *, rounds: int | None = None) -> None:
        name, recorded = request.node.name, read_recorded()
        timer = load_timer(request.config.getoption("benchmark_timer")).target
        theirs: list[float] = []

        def timed(call: Call) -> float:
            start = timer()
            call()
            return timer() - start

        def time_peer() -> None:
            theirs.append(timed(peer))

        if rounds is None:
            warm_up = timed(peer) + timed(ours) if benchmark.enabled else SECONDS
            rounds = min(MOST, max(FEWEST, int(SECONDS / warm_up)))
        benchmark.pedantic(ours, setup=time_peer, rounds=rounds)
        if benchmark.stats is None:  # --benchmark-disable
            return
        fastest: float = benchmark.stats.stats.min  # type: ignore[assignment]  (cached_property)
        for _ in range(SETS - 1):
            if not fallen({name: min(theirs) / fastest}, recorded):
                break
            for _ in range(rounds):
                time_peer()
                fastest = min(fastest, timed(ours))
        ratio = min(theirs) / fastest
        benchmark.extra_info |= {"seconds": fastest, "peer_seconds": min(theirs), "ratio": ratio}
        request.config.stash.setdefault(RATIOS, {})[name] = ratio

    return run


@pytest.fixture
def autoencoders() -> Callable[[int], tuple[Tokenizer, AutoencoderDC]]:
    """DC-AE in the in-1.0 layout with its widths divided: ours and diffusers', the same weights."""

    def build(factor: int) -> tuple[Tokenizer, AutoencoderDC]:
        config = narrowed(factor)
        theirs = diffusers_model(config)
        return our_model(config, theirs), theirs

    return build


def narrowed(factor: int) -> TokenizerConfig:
    def coder(config: CoderConfig) -> CoderConfig:
        return replace(config, widths=[width // factor for width in config.widths])

    config = PRESETS["dc_ae_mix"]
    return replace(config, encoder=coder(config.encoder), decoder=coder(config.decoder))


def diffusers_model(config: TokenizerConfig) -> AutoencoderDC:
    model = AutoencoderDC(
        latent_channels=config.latent_channels,
        encoder_block_types=BLOCKS,  # type: ignore[arg-type]
        decoder_block_types=BLOCKS,  # type: ignore[arg-type]
        encoder_block_out_channels=tuple(config.encoder.widths),
        decoder_block_out_channels=tuple(config.decoder.widths),
        encoder_layers_per_block=tuple(config.encoder.depths),
        decoder_layers_per_block=tuple(config.decoder.depths),
        encoder_qkv_multiscales=((),) * 6,
        decoder_qkv_multiscales=((),) * 6,
        downsample_block_type="pixel_unshuffle",
        upsample_block_type="pixel_shuffle",
        decoder_norm_types=["batch_norm"] * 3 + ["rms_norm"] * 3,  # type: ignore[arg-type]
        decoder_act_fns=["relu"] * 3 + ["silu"] * 3,  # type: ignore[arg-type]
    )
    return model.eval()


def our_model(config: TokenizerConfig, theirs: AutoencoderDC) -> Tokenizer:
    with torch.device("meta"):
        ours = Tokenizer(config)
    tensors = convert_tensors(theirs.state_dict(), config, Family.DIFFUSERS)
    ours.load_state_dict(tensors, assign=True)
    return ours.eval()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    ratios = config.stash.get(RATIOS, {})
    if not ratios:
        return
    recorded = read_recorded()
    terminalreporter.section("ratios: peer's fastest round / ours")
    for name, ratio in ratios.items():
        before = f", recorded {recorded[name]:.2f}" if name in recorded else ""
        terminalreporter.line(f"{name}: {ratio:.2f}{before}")
    for name in fallen(ratios, recorded):
        terminalreporter.line(f"FELL by more than a tenth: {name}")
    if os.environ.get("RECORD"):
        kept = recorded | {name: round(ratio, 3) for name, ratio in ratios.items()}
        RECORDED.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def read_recorded() -> dict[str, float]:
    """The ratios that were kept, by the name of their benchmark."""
    return json.loads(RECORDED.read_text()) if RECORDED.exists() else {}


def fallen(ratios: dict[str, float], recorded: dict[str, float]) -> list[str]:
    """The names of ratios that are more than a tenth below what was recorded."""
    return [name for name, ratio in ratios.items() if ratio < FALLEN * recorded.get(name, 0.0)]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("markexpr"):
        return
    slow = [item for item in items if "slow" in item.keywords]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]
