import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dcar import evaluations
from dcar.config import TextConfig
from dcar.pipeline import TextToImage
from dcar.train import train
from dcar.train_config import TrainConfig
from dcar.trainer import StepResult, Trainer
from dcht import CheckpointError, UsageError


@pytest.fixture(autouse=True)
def no_curves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing them takes longer than a run of these; one test looks at them."""
    if "publishes" not in request.node.name:
        monkeypatch.setattr("dcar.train.plot_run", lambda out: None)


def weights(config: TrainConfig) -> dict[str, torch.Tensor]:
    return load_file(Path(config.out) / "checkpoint" / "model.safetensors")


def rows(config: TrainConfig) -> list[dict]:
    lines = (Path(config.out) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def saves(config: TrainConfig) -> list[str]:
    return sorted(path.name for path in (Path(config.out) / "resume").iterdir())


def state(config: TrainConfig) -> dict[str, torch.Tensor]:
    """All tensors of the last save."""
    (file,) = (Path(config.out) / "resume" / saves(config)[-1]).glob("*.safetensors")
    return load_file(file)


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def stop_before(step: int, patch: pytest.MonkeyPatch) -> None:
    """Have SIGTERM arrive while the step after `step` is under way."""
    original = Trainer.train_step

    def interrupted(self: Trainer) -> StepResult:
        if self.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self)

    patch.setattr(Trainer, "train_step", interrupted)


def test_a_run_logs_samples_and_publishes(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(config) == 0
    logged = rows(config)
    assert [row["step"] for row in logged] == [2, 4, 6, 8]
    needed = {"total", "cross_entropy", "diffusion", "accuracy", "grad_norm", "lr"}
    assert needed | {"sequences_per_second", "peak_memory_gib"} <= logged[0].keys()
    for row in logged:  # four tokens an image: a mask ratio of 1 is always among twelve samples
        quarters = [row.get(f"cross_entropy/{a}") for a in ("0.00-0.25", "0.75-1.00")]
        assert min(q for q in quarters if q) <= row["cross_entropy"] * 1.5
    out = Path(config.out)
    names = sorted(path.name for path in (out / "samples").iterdir())
    assert names == ["prompts-0000008.png", "reconstructions-0000008.png"]
    with Image.open(out / "samples" / names[1]) as pairs:
        assert pairs.size == (4 * 64 + 3 * 4, 2 * 64 + 4)
    with Image.open(out / "curves.png") as curves:
        assert curves.width > 500
    pipe = TextToImage.from_pretrained(out / "checkpoint")
    assert pipe.size == (64, 64) and pipe.sampling == config.sampling
    assert pipe("a red apple").images[0].size == (64, 64)
    report = capsys.readouterr().err
    assert "12 images of 64 x 64 (4 tokens each), 15 captions" in report
    assert "2.0 steps an epoch" in report and "generator 0.03 M" in report
    assert "GiB a rank for weights, gradients, moments and average" in report


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_forty_steps_are_twenty_and_twenty_more(
    config: TrainConfig, dropout: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit: weights, average, moments, and the log."""
    generator = replace(config.model.generator, attention_dropout=dropout)
    model = replace(config.model, generator=generator)
    config = replace(config, model=model, steps=40, sample_every=40, save_every=16, prompts=[])
    config = replace(config, reconstructions=0)
    whole = replace(config, out=str(tmp_path / "whole"))
    assert train(whole) == 0

    with monkeypatch.context() as patch:
        stop_before(19, patch)
        assert train(config) == 130
    assert saves(config) == ["step-000000016", "step-000000020"]
    assert train(config) == 0
    assert saves(config) == ["step-000000032", "step-000000040"]
    assert equal(state(config), state(whole))
    assert equal(weights(config), weights(whole))
    free = ("time", "sequences_per_second", "peak_memory_gib")
    without = [
        [{k: v for k, v in row.items() if k not in free} for row in r]
        for r in (rows(config), rows(whole))
    ]
    assert without[0] == without[1]


def test_a_finished_run_is_left_as_it_is(config: TrainConfig) -> None:
    train(config)
    before = weights(config)
    assert train(config) == 0
    assert equal(weights(config), before)


def test_other_settings_need_another_folder_or_force(config: TrainConfig) -> None:
    config = replace(config, steps=4, prompts=[], reconstructions=0)
    train(config)
    other = replace(config, optimizer=replace(config.optimizer, lr=1e-4))
    with pytest.raises(UsageError, match=r"other settings \(optimizer\.lr\)"):
        train(other)
    assert train(replace(other, force=True)) == 0
    assert train(replace(other, log_every=1, force=False)) == 0


def test_changed_data_is_noticed(config: TrainConfig, store: Path) -> None:
    config = replace(config, steps=4, prompts=[], reconstructions=0)
    train(config)
    shard = store / "shard-00000.jsonl"
    shard.write_text(shard.read_text().replace("red", "pink"))
    with pytest.raises(UsageError, match="is not the data that the run"):
        train(config)


def test_a_frozen_t5_stays_out_of_the_checkpoint(
    config: TrainConfig, frozen_t5: TextConfig
) -> None:
    config = replace(config, model=replace(config.model, text=frozen_t5), steps=2)
    assert train(config) == 0
    assert {key.split(".")[0] for key in weights(config)} == {"generator", "head"}
    assert not any("text." in key for key in state(config))
    assert TextToImage.from_pretrained(Path(config.out) / "checkpoint")("a dog").images


def test_discrete_only_trains_and_samples(config: TrainConfig) -> None:
    config = replace(config, model=replace(config.model, discrete_only=True), steps=2)
    assert train(config) == 0
    assert not any(key.startswith("head") for key in weights(config))
    assert TextToImage.from_pretrained(Path(config.out) / "checkpoint")("a dog").images


def test_evaluations_of_other_packages_are_called_and_logged(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def brightness(pipe: TextToImage, *, seed: int, out: Path) -> dict[str, float]:
        calls.append((seed, out.name))
        return {"mean": 7.5}

    class Entry:
        name = "brightness"

        def load(self):  # type: ignore[no-untyped-def]
            return brightness

    monkeypatch.setattr(evaluations, "entry_points", lambda group: [Entry()])
    config = replace(config, steps=4, evaluations=["brightness"], evaluate_every=2, seed=5)
    train(config)
    assert calls == [(5, "brightness-0000002"), (5, "brightness-0000004")]
    found = [(row["step"], row["brightness/mean"]) for row in rows(config) if len(row) == 3]
    assert found == [(2, 7.5), (4, 7.5)]
    with pytest.raises(UsageError, match="'sharpness' is not installed; there is brightness"):
        train(replace(config, evaluations=["sharpness"], force=True))


def test_a_damaged_save_is_named(config: TrainConfig) -> None:
    config = replace(config, steps=4, prompts=[], reconstructions=0)
    train(config)
    (file,) = (Path(config.out) / "resume" / "step-000000004").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"step-000000004 is damaged: .*; delete it to"):
        train(config)


def test_a_run_pauses_and_saves_by_the_clock(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pause = Path(config.out) / "PAUSE"
    pause.parent.mkdir(parents=True, exist_ok=True)
    pause.touch()
    monkeypatch.setattr("dcht.training.time.sleep", lambda _: pause.unlink())
    config = replace(config, save_every=1000, save_minutes=1e-9, keep_saves=3)
    assert train(config) == 0
    assert "paused for as long as" in capsys.readouterr().err
    assert [int(name.split("-")[1]) for name in saves(config)] == [6, 7, 8]
