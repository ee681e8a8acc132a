"""The profile: its parts are the sampler's, its counts those of the formulas."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dcar.config import PRESETS, GeneratorConfig, HeadConfig
from dcar.modules.classes import ClassEncoder
from dcar.pipeline import TextToImage
from dcar.sampling_config import SamplingConfig
from dcar_eval.metrics.random_weights import random_pipeline
from dcar_eval.profile import measure as profiling
from dcar_eval.profile.measure import (
    count_flops,
    count_parameters,
    generation_parts,
    profile,
    prompt_for,
    table,
)
from dcar_eval.profile.memory import PeakMemory
from dcar_eval.profile.protocol import PAPER, PRECISIONS, ProfileProtocol
from dcht.errors import UsageError
from dcht.images import to_pil

ALL = ProfileProtocol(name="own", precisions=PRECISIONS)


@pytest.fixture
def pipe() -> TextToImage:
    """A tiny generator with random weights, whose output layers are not zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe = random_pipeline("tiny")
        for layer in (pipe.model.generator.to_logits, pipe.model.head.outputs):  # type: ignore[union-attr]
            torch.nn.init.normal_(layer.weight, std=0.1)
        return pipe


def test_the_parts_draw_the_images(pipe: TextToImage) -> None:
    prompts = ["a red apple", "a blue car"]
    settings = SamplingConfig(num_steps=3, num_diffusion_steps=4)
    made = dict(generation_parts(pipe, prompts, settings=settings, size=(64, 96), seed=5))
    assert list(made) == ["text", "transformer", "head", "decoder"]
    drawn = pipe(prompts, height=64, width=96, seed=5, num_steps=3, num_diffusion_steps=4)
    expected = [image.tobytes() for image in drawn.images]
    assert [to_pil(pixels).tobytes() for pixels in made["decoder"]] == expected


def test_a_checkpoint_of_classes_is_asked_for_one(pipe: TextToImage) -> None:
    text = prompt_for(pipe)
    pipe.text = ClassEncoder(["tench", "goldfish"], 8)
    assert text != prompt_for(pipe) == "tench"
    assert pipe.text.tokenize([prompt_for(pipe)]).ids.tolist() == [[0]]


def transformer_macs(config: GeneratorConfig, n: int) -> tuple[int, int, int]:
    """Multiply-adds of one branch by the formulas: the text, a pass, the logits of n positions."""
    d, length, mlp = config.width, config.text_length, config.mlp_dim
    text = length * (config.text_dim * d + d * d) + config.depth * 2 * length * d * d
    attention = 4 * n * d * d + 2 * n * n * d
    cross = 2 * n * d * d + 2 * n * length * d
    return text, config.depth * (attention + cross + 2 * n * d * mlp), n * d * config.codebook_size


def head_macs(config: HeadConfig, n: int, *, steps: int) -> int:
    """Multiply-adds of the guided head: embeddings once, then `steps` of both branches."""
    width, channels = config.width, config.latent_channels
    embeddings = steps * (256 * width + width * width) + 2 * n * config.condition_dim * width
    row = channels * width + config.depth * 5 * width**2 + 2 * width**2 + 2 * channels * width
    return embeddings + steps * 2 * n * row


@pytest.mark.parametrize(("side", "gmac"), [(8, 44.2), (16, 153.1)])
def test_a_pass_of_the_full_model(side: int, gmac: float) -> None:
    """Worked out by hand at 256 and 512 px, without the projection of 120 text tokens."""
    config = PRESETS["dcar_671m"].generator
    text, step, logits = transformer_macs(config, side * side)
    projection = 120 * (768 * 1152 + 1152 * 1152)
    assert (text - projection + step + logits) / 1e9 == pytest.approx(gmac, abs=0.05)


def test_flops_are_those_of_the_formulas(pipe: TextToImage) -> None:
    config, n = pipe.model.config, 6
    one = count_flops(
        pipe, settings=SamplingConfig(num_steps=1, num_diffusion_steps=3), size=(64, 96)
    )
    text, step, logits = transformer_macs(config.generator, n)
    assert one["transformer"] == 2 * 2 * (text + step + logits)
    assert one["head"] == 2 * head_macs(config.head, n, steps=3)
    assert set(one) == {"text", "transformer", "head", "decoder"}
    # A second step is a second pass; the keys and values of the text are made once.
    two = count_flops(pipe, settings=SamplingConfig(num_steps=2), size=(64, 96))
    assert 0 < two["transformer"] - one["transformer"] - 2 * 2 * step <= 2 * 2 * logits
    assert two["decoder"] == one["decoder"] > 0
    unguided = count_flops(pipe, settings=SamplingConfig(num_steps=1, cfg_scale=0), size=(64, 96))
    assert 2 * unguided["transformer"] == one["transformer"]


def test_the_full_model_has_the_papers_sizes() -> None:
    with torch.device("meta"):
        counts = count_parameters(random_pipeline("dcar_671m"))
    millions = {part: round(count / 1e6, 2) for part, count in counts.items()}
    assert millions["text"] == 109.63  # T5-base's encoder
    assert (millions["transformer"], millions["head"]) == (634.94, 36.19)
    with pytest.raises(UsageError, match="preset 'large' is not known; use dcar_671m"):
        random_pipeline("large")


def test_a_profile_has_every_precision_at_both_batches(
    pipe: TextToImage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built = []

    def build() -> TextToImage:
        built.append(1)
        return random_pipeline("tiny")

    settings = {"num_steps": 2, "num_diffusion_steps": 2}
    results = profile(build, tmp_path, protocol=ALL, sampling=settings, repeats=2)  # type: ignore[arg-type]
    assert len(built) == 3
    # A line a part, terminal or not.
    said = [line.split() for line in capsys.readouterr().err.splitlines()]
    parts = ["text", "transformer", "head", "decoder", "all"]
    assert [line[:3] for line in said] == [
        [name, f"x{batch}", part]
        for name in ("fp32", "bf16", "fp16") for batch in (1, 16) for part in parts
    ]  # fmt: skip
    rows = results["run"]["measurements"]
    assert [(row["precision"], row["batch_size"]) for row in rows] == [
        (name, batch) for name in ("fp32", "bf16", "fp16") for batch in (1, 16)
    ]
    for row in rows:
        assert row["fastest"] <= row["seconds"] <= row["slowest"]
        assert row["images_per_second"] == row["batch_size"] / row["seconds"]
        assert list(row["parts"]) == ["text", "transformer", "head", "decoder"]
        assert row["peak_bytes"] is None or row["peak_bytes"] > 2**20
    assert results["settings"]["sampling"]["num_steps"] == 2
    assert "64 x 64 on" in results["protocol"]["name"]
    lines = table(results).splitlines()
    assert [line.split()[0] for line in lines[1:]] == [*rows[0]["parts"], "all", "images/s", "peak"]
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert profile(build, tmp_path, protocol=ALL, sampling=settings, repeats=2) == results  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="was begun with repeats 2, not 3"):
        profile(build, tmp_path, protocol=ALL, sampling=settings, repeats=3)  # type: ignore[arg-type]
    # Stopped behind a precision, it is not measured again.
    for name in ("results.json", "fp16.json"):
        (tmp_path / name).unlink()
    capsys.readouterr()
    again = profile(build, tmp_path, protocol=ALL, sampling=settings, repeats=2)  # type: ignore[arg-type]
    assert {line.split()[0] for line in capsys.readouterr().err.splitlines()} == {"fp16"}
    assert again["run"]["measurements"][:4] == rows[:4]


def test_a_preset_is_told_from_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hash tells random weights; of a checkpoint its hash does, and old folders go on."""
    speed = profiling.Speed(batch_size=1, seconds=1, fastest=1, slowest=1, parts={})
    monkeypatch.setattr(profiling, "measure_speed", lambda *_, **__: speed)

    def measure(out: Path, preset: str | None) -> dict[str, Any]:
        results = profile(lambda: random_pipeline("tiny"), out, protocol=ALL, preset=preset)
        return results["settings"]

    assert measure(tmp_path / "random", "tiny")["preset"] == "tiny"
    with pytest.raises(UsageError, match="was begun with preset tiny, not small"):
        measure(tmp_path / "random", "small")
    assert "preset" not in measure(tmp_path / "trained", None)


def test_the_papers_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fp16, 512 px and the paper's sampling, whatever the checkpoint says."""
    asked = []

    def measure(pipe: TextToImage, **options: object) -> profiling.Speed:
        dtype = next(pipe.model.parameters()).dtype
        asked.append((dtype, options["size"], options["settings"], options["batch_size"]))
        batch = options["batch_size"]
        assert isinstance(batch, int)
        return profiling.Speed(batch_size=batch, seconds=1, fastest=1, slowest=1, parts={})

    monkeypatch.setattr(profiling, "measure_speed", measure)
    monkeypatch.setattr(profiling, "count_flops", lambda *_, **__: {})
    profile(lambda: random_pipeline("tiny"), tmp_path, protocol=PAPER)
    expected = (torch.float16, (512, 512), SamplingConfig())
    assert asked == [(*expected, 1), (*expected, 16)]


def test_other_conditions_have_other_hashes() -> None:
    described = ALL.described(size=(64, 64), device="a")
    assert described == ALL.described(size=(64, 64), device="a")
    others = [ALL.described(size=(64, 96), device="a"), ALL.described(size=(64, 64), device="b")]
    others.append(PAPER.described(size=(64, 64), device="a"))
    assert len({one["sha256"] for one in (described, *others)}) == 4
    assert len({one["name"] for one in (described, *others)}) == 4


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux keeps the mark")
def test_peak_memory_is_of_its_own_time() -> None:
    device = torch.device("cpu")
    first = PeakMemory(device)
    size = 200 * 2**20
    kept = torch.ones(size, dtype=torch.uint8)
    high = first.read()
    del kept
    low = PeakMemory(device).read()
    if high is None or low is None:
        pytest.skip("this process may not reset the mark")
    assert high - low > 0.9 * size
