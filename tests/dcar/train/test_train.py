import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dcar.config import TextConfig
from dcar.pipeline import TextToImage
from dcar.train import evaluate as evaluations
from dcar.train import train
from dcar.train.log import plot_run
from dcar.train.trainer import StepResult, Trainer
from dcar.train_config import DataConfig, DataKind, TrainConfig
from dcht import CheckpointError, Tokenizer, UsageError
from dcht.engine.trackers import Tracker
from dcht.files import locked
from dcht.images import LABEL_HEIGHT


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
    config: TrainConfig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcar.train.plot_run", plot_run)
    config = replace(config, trackers=[Tracker.tensorboard])
    assert train(config)
    assert list(Path(config.out, "tensorboard").iterdir())
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
        assert pairs.size == (4 * 64 + 3 * 4, LABEL_HEIGHT + 2 * 64 + 4)
    with Image.open(out / "curves.png") as curves:
        assert curves.width > 500
    pipe = TextToImage.from_pretrained(out / "checkpoint")
    assert pipe.size == (64, 64) and pipe.sampling == config.sampling
    assert pipe("a red apple").images[0].size == (64, 64)
    report = capsys.readouterr().err
    assert "12 images of 64 x 64 (4 tokens each), 15 captions" in report
    assert "2.0 steps an epoch" in report and "generator 0.03 M" in report
    assert "GiB a rank for weights, gradients, moments and average" in report

    # A run that starts from it shows what it starts from, beside what it makes of it.
    further = replace(config, init_from=str(out / "checkpoint"), out=str(out.parent / "further"))
    assert train(replace(further, steps=1, sample_every=1, log_every=1))
    samples = sorted(path.name for path in Path(further.out, "samples").iterdir())
    assert samples == [f"{n}-{s:07d}.png" for n in ("prompts", "reconstructions") for s in (0, 1)]

    images = {name: (out / "samples" / name).read_bytes() for name in names}
    for name in names:  # as if killed before it, behind the save: the same command draws it
        (out / "samples" / name).unlink()
        assert train(config)
        assert {path.name: path.read_bytes() for path in (out / "samples").iterdir()} == images


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
    assert train(whole)

    with monkeypatch.context() as patch:
        stop_before(19, patch)
        assert not train(config)
    assert saves(config) == ["step-000000016", "step-000000020"]
    assert train(config)
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
    assert train(config)
    assert equal(weights(config), before)


def test_other_settings_need_another_folder_or_force(config: TrainConfig) -> None:
    config = replace(config, steps=4, prompts=[], reconstructions=0)
    train(config)
    other = replace(config, optimizer=replace(config.optimizer, lr=1e-4))
    with pytest.raises(UsageError, match=r"other settings \(optimizer\.lr\)"):
        train(other)
    assert train(replace(other, force=True))
    assert train(replace(other, log_every=1, force=False))


def test_a_run_that_was_interrupted_continues_also_with_force(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`force` is for a run with other settings, or data: the same command is not one."""
    config = replace(config, prompts=[], reconstructions=0, force=True)
    whole = replace(config, out=str(tmp_path / "whole"))
    assert train(whole)
    with monkeypatch.context() as patch:
        stop_before(4, patch)
        assert not train(config)
    assert saves(config) == ["step-000000004", "step-000000005"]
    first = rows(config)[0]
    assert train(replace(config, log_every=1))
    assert rows(config)[0] == first and [row["step"] for row in rows(config)] == [2, 4, 6, 7, 8]
    assert equal(state(config), state(whole))
    assert equal(weights(config), weights(whole))
    monkeypatch.delattr(Trainer, "train_step")
    assert train(config)  # a finished one is left as it is
    assert equal(state(config), state(whole))


@pytest.mark.parametrize("force", [False, True])
def test_force_replaces_a_run_of_other_data(config: TrainConfig, store: Path, force: bool) -> None:
    config = replace(config, steps=4, prompts=[], reconstructions=0, force=force)
    train(config)
    shard = store / "shard-00000.jsonl"
    shard.write_text(shard.read_text().replace("red", "pink"))
    anew = replace(config, steps=4, save_every=3, log_every=1)
    if not force:
        with pytest.raises(UsageError, match=r"\(changed: captions\)"):
            train(anew)
        return
    assert train(anew)
    assert saves(config) == ["step-000000003", "step-000000004"]
    assert [row["step"] for row in rows(config)] == [1, 2, 3, 4]
    Path(config.out, "config.json").unlink()  # nobody knows how it began
    assert train(replace(config, save_every=2))
    assert saves(config) == ["step-000000002", "step-000000004"]


def test_changed_data_is_noticed(config: TrainConfig, store: Path) -> None:
    config = replace(config, steps=4, prompts=[], reconstructions=0)
    train(config)
    shard = store / "shard-00000.jsonl"
    before = shard.read_text()
    shard.write_text(before.replace("red", "pink"))
    with pytest.raises(UsageError, match=r"is not the data that the run .*\(changed: captions\)"):
        train(config)
    weighted = json.loads(before.splitlines()[1]) | {"caption_weights": [1, 3]}
    lines = [before.splitlines()[0], json.dumps(weighted), *before.splitlines()[2:]]
    shard.write_text("".join(line + "\n" for line in lines))
    with pytest.raises(UsageError, match=r"\(changed: caption weights\)"):
        train(config)
    shard.write_text(before)
    assert train(config)
    manifest = store / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")  # as of other images: it has their hashes
    with pytest.raises(UsageError, match=r"\(changed: images of source 1 \(.*latents\)\)"):
        train(config)


def test_changed_images_are_noticed(config: TrainConfig, captioned: Path) -> None:
    data = DataConfig(kind=DataKind.folder, root=str(captioned), size=64)
    config = replace(config, data=data, steps=1, prompts=[], reconstructions=0)
    train(config)
    image = captioned / "03.png"
    before = image.read_bytes()
    os.utime(image, (1, 1))
    assert train(config)
    Image.open(image).rotate(180).save(image)
    with pytest.raises(UsageError, match=r"\(changed: images of source 1"):
        train(config)
    image.write_bytes(before)
    assert train(config)
    tokenizer = Tokenizer.from_pretrained(config.tokenizer_ckpt)
    tokenizer.set_residual_std(0.5)
    tokenizer.save_pretrained(str(config.tokenizer_ckpt))
    with pytest.raises(UsageError, match=r"changed: image tokenizer"):
        train(config)


def test_a_save_of_before_says_less_and_continues(config: TrainConfig) -> None:
    """dcar 0.1 kept a hash of the captions, and no progress."""
    config = replace(config, steps=2, prompts=[], reconstructions=0)
    train(config)
    path = Path(config.out) / "resume" / "step-000000002" / "state.json"
    facts = json.loads(path.read_text())
    old = {"step": 2, "ema_updates": facts["ema_updates"], "data": facts["data"]["captions"]}
    path.write_text(json.dumps(old))
    assert train(config)
    path.write_text(json.dumps(old | {"data": "0" * 64}))
    with pytest.raises(UsageError, match=r"changed: captions"):
        train(config)


def test_a_frozen_t5_stays_out_of_the_checkpoint(
    config: TrainConfig, frozen_t5: TextConfig
) -> None:
    config = replace(config, model=replace(config.model, text=frozen_t5), steps=2)
    assert train(config)
    assert {key.split(".")[0] for key in weights(config)} == {"generator", "head"}
    assert not any("text." in key for key in state(config))
    assert TextToImage.from_pretrained(Path(config.out) / "checkpoint")("a dog").images


def test_discrete_only_trains_and_samples(config: TrainConfig) -> None:
    config = replace(config, model=replace(config.model, discrete_only=True), steps=2)
    assert train(config)
    assert not any(key.startswith("head") for key in weights(config))
    assert TextToImage.from_pretrained(Path(config.out) / "checkpoint")("a dog").images


def provide(evaluation: object, patch: pytest.MonkeyPatch, name: str = "brightness") -> None:
    """Have an evaluation be what an installed package provides."""

    class Entry:
        def load(self) -> object:
            return evaluation

    Entry.name = name  # type: ignore[attr-defined]
    patch.setattr(evaluations, "entry_points", lambda group: [Entry()])


def measured(config: TrainConfig) -> list[dict[str, float]]:
    """The rows of evaluations, without their time."""
    found = [row for row in rows(config) if any(key.startswith("brightness/") for key in row)]
    return [{key: value for key, value in row.items() if key != "time"} for row in found]


def test_evaluations_of_other_packages_are_called_and_logged(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each when its step is saved and published, at the last step above all."""
    calls = []

    def brightness(pipe: TextToImage, *, seed: int, out: Path) -> dict[str, float]:
        there = sorted(path.name for path in Path(config.out).glob("*/*"))
        calls.append((seed, out.name, "step-000000004" in there, "model.safetensors" in there))
        assert not out.exists()
        out.mkdir(parents=True)
        return {"mean": 7.5}

    provide(brightness, monkeypatch)
    config = replace(config, steps=4, evaluations=["brightness"], evaluate_every=2, seed=5)
    train(config)
    assert calls == [
        (5, "brightness-0000002", False, False),
        (5, "brightness-0000004", True, True),
    ]
    assert measured(config) == [{"step": step, "brightness/mean": 7.5} for step in (2, 4)]
    assert train(config)
    assert len(calls) == 2  # a finished run does nothing
    with pytest.raises(UsageError, match="'sharpness' is not installed; there is brightness"):
        train(replace(config, evaluations=["sharpness"], force=True))


@pytest.mark.parametrize("failure", [ValueError("too dark"), SystemExit(2), float("nan"), "dark"])
def test_an_evaluation_that_fails_costs_nothing(
    config: TrainConfig,
    failure: object,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def brightness(pipe: TextToImage, *, seed: int, out: Path) -> dict[str, object]:
        if isinstance(failure, BaseException):
            raise failure
        return {"mean": failure}

    provide(brightness, monkeypatch)
    config = replace(config, steps=2, evaluations=["brightness"], prompts=[], reconstructions=0)
    assert train(config)
    assert measured(config) == [{"step": 2, "brightness/failed": 1.0}]
    assert saves(config) == ["step-000000002"] and weights(config)
    said = capsys.readouterr().err
    assert "evaluation brightness of step 2 failed, and the run goes on: " in said
    assert str(failure).split("(")[0] in said and "Traceback" not in said


def test_images_that_cannot_be_drawn_cost_nothing(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object, **settings: object) -> None:
        raise RuntimeError("no colors left")

    monkeypatch.setattr("dcar.train.generate_samples", broken)
    config = replace(config, steps=2)
    assert train(config)
    assert saves(config) == ["step-000000002"] and weights(config)
    said = capsys.readouterr().err
    assert "the images of step 2 failed, and the run goes on: RuntimeError: no colors" in said


@pytest.mark.parametrize("reason", [UsageError("it knows no dogs"), KeyError("dog")])
def test_an_evaluation_that_does_not_apply_is_refused_before_the_first_step(
    config: TrainConfig, reason: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Brightness:
        def require_applicable(self, pipe: TextToImage) -> None:
            assert pipe.size == (64, 64)
            raise reason

    provide(Brightness(), monkeypatch)
    with pytest.raises(UsageError, match=r"'brightness' does not apply: .*dog"):
        train(replace(config, evaluations=["brightness"]))
    assert not Path(config.out).exists()


def test_an_evaluation_that_was_killed_is_made_up_for(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the last step, and in the middle; what the first try left is not in the second's way."""
    killed = set()

    def brightness(pipe: TextToImage, *, seed: int, out: Path) -> dict[str, float]:
        assert not out.exists()
        out.mkdir(parents=True)
        if out.name not in killed:
            killed.add(out.name)
            raise KeyboardInterrupt
        return {"mean": 7.5}

    provide(brightness, monkeypatch)
    config = replace(config, evaluations=["brightness"], evaluate_every=4, prompts=[])
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert saves(config)[-1] == "step-000000008"
    assert train(config)
    assert measured(config) == [{"step": step, "brightness/mean": 7.5} for step in (4, 8)]
    assert [row["step"] for row in rows(config) if "total" in row] == [2, 4, 6, 8]


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_force_removes_nothing_before_all_that_can_be_refused_has_been(
    config: TrainConfig, tmp_path: Path
) -> None:
    config = replace(config, steps=2)
    train(config)
    before = tree(Path(config.out))
    nowhere = replace(config.data, root=str(tmp_path / "nowhere"))
    loss = replace(config.loss, diffusion=2.0)
    for change in (
        {"data": nowhere},
        {"init_from": str(tmp_path / "nowhere")},
        {"tokenizer_ckpt": None},
        {"evaluations": ["nothing"]},
        {"trackers": [Tracker.trackio]},
    ):
        with pytest.raises((UsageError, CheckpointError)):
            train(replace(config, loss=loss, force=True, **change))  # type: ignore[arg-type]
        assert tree(Path(config.out)) == before, change
    with pytest.raises(UsageError, match=r"other settings \(loss\.diffusion\)"):
        train(replace(config, loss=loss))
    assert tree(Path(config.out)) == before
    anew = replace(config, loss=loss, force=True, steps=1, sample_every=9)
    assert train(anew)
    assert saves(config) == ["step-000000001"]
    assert [row["step"] for row in rows(config)] == [1]
    assert len(list((Path(config.out) / "samples").iterdir())) == 2  # none of the old run's


def test_a_row_is_of_all_its_steps_also_after_a_stop(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, log_every=4, prompts=[], reconstructions=0, save_every=100)
    whole = replace(config, out=str(tmp_path / "whole"))
    assert train(whole)
    for step in (2, 5):
        with monkeypatch.context() as patch:
            stop_before(step, patch)
            assert not train(config)
    moved = replace(config, out=str(tmp_path / "moved"))
    Path(config.out).rename(moved.out)
    assert train(moved)
    free = ("time", "sequences_per_second", "peak_memory_gib")
    found, expected = (
        [{k: v for k, v in row.items() if k not in free} for row in rows(run)]
        for run in (moved, whole)
    )
    assert [row["step"] for row in found] == [4, 8]
    assert found == expected


def test_a_second_run_is_told_who_writes(config: TrainConfig) -> None:
    with (
        locked(config.out),
        pytest.raises(UsageError, match=f"is being written by process {os.getpid()} on "),
    ):
        train(config)
    assert not Path(config.out).exists()


def test_a_checkpoint_holds_what_belongs_to_it(config: TrainConfig) -> None:
    """Neither a lock nor what a kill left in the middle of writing."""
    train(replace(config, steps=1))
    folder = Path(config.out) / "checkpoint"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["README.md", "config.json", "model.safetensors", "tokenizer.json"]
    (folder / ".model.safetensors.01234567.partial").write_bytes(b"half")
    train(replace(config, steps=1))
    assert sorted(path.name for path in folder.iterdir()) == names
    assert not list(Path(config.out).glob(".*"))


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000])
def test_settings_of_a_run_that_are_none_are_one_line(config: TrainConfig, content: str) -> None:
    config = replace(config, steps=1, prompts=[], reconstructions=0)
    train(config)
    (Path(config.out) / "config.json").write_text(content)
    with pytest.raises(UsageError, match=r"config\.json (is not|holds)"):
        train(config)


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"step": 2, "ema_updates": -1}', '{"step": 1e99}', "[" * 100_000]
)
def test_facts_of_a_save_that_are_none_are_one_line(config: TrainConfig, content: str) -> None:
    config = replace(config, steps=2, prompts=[], reconstructions=0)
    train(config)
    (Path(config.out) / "resume" / "step-000000002" / "state.json").write_text(content)
    with pytest.raises(CheckpointError, match="step-000000002 is damaged") as error:
        train(config)
    assert "\n" not in str(error.value)


def test_what_lies_beside_saves_is_none(config: TrainConfig) -> None:
    config = replace(config, steps=4, save_every=2, prompts=[], reconstructions=0)
    train(config)
    folder = Path(config.out) / "resume"
    (folder / "step-zzz").mkdir()
    (folder / "step-9x").write_bytes(b"junk")
    assert train(config)
    (folder / "step-000000009").mkdir()
    with pytest.raises(CheckpointError, match=r"step-000000009 is damaged: .*; delete it"):
        train(config)


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
    monkeypatch.setattr("dcht.engine.training.time.sleep", lambda _: pause.unlink())
    config = replace(config, save_every=1000, save_minutes=1e-9, keep_saves=3)
    assert train(config)
    assert "paused for as long as" in capsys.readouterr().err
    assert [int(name.split("-")[1]) for name in saves(config)] == [6, 7, 8]
