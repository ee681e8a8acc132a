"""Whole runs of the tiny tokenizer: results, resuming, stages alone."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from dcht import PRESETS, CheckpointError, Tokenizer, UsageError
from dcht.checkpoint import checkpoint_sha256
from dcht.commands.common import OK
from dcht.engine.distributed import World
from dcht.engine.trackers import Tracker
from dcht.files import locked
from dcht.launch import experiment_names, train_main
from dcht.loss_config import LPIPSNet
from dcht.perceptual import LPIPS
from dcht.train import train
from dcht.train.log import describe, plot_run
from dcht.train.trainer import Trainer
from dcht.train_config import (
    CodebookConfig,
    DataConfig,
    LossConfig,
    OptimizerConfig,
    PublishDtype,
    Stage,
    StageLoss,
    TrainConfig,
)


def config(images: Path, out: Path, *stages: Stage, steps: int, **settings) -> TrainConfig:
    data = DataConfig(root=str(images), size=64, crop=64, num_val=1, cache=True, workers=1)
    run = TrainConfig(
        out=str(out),
        tokenizer=replace(PRESETS["tiny"], codebook_size=16),
        data=data,
        stages=list(stages),
        loss=LossConfig(lpips=0.0, gan_start=3, discriminator_channels=4),
        optimizer=OptimizerConfig(lr=1e-3, final_lr=1e-4, warmup_steps=2, ema_decay=0.9),
        codebook=CodebookConfig(kmeans_start=True, revive_every=3),
        batch_size=4,
        log_every=2,
        save_every=1000,
        trackers=[],
    )
    for stage in Stage:
        setattr(run, stage.value, replace(run.stage(stage), steps=steps))
    return replace(run, **settings)


@pytest.fixture
def colors(tmp_path: Path) -> Path:
    """Plain colors: what even a tiny tokenizer learns in a hundred steps."""
    folder = tmp_path / "colours"
    folder.mkdir()
    for index in range(24):
        shade = tuple(60 + 130 * (index >> bit & 1) for bit in range(3))
        Image.new("RGB", (64, 64), shade).save(folder / f"{index:02d}.png")
    return folder


@pytest.fixture
def twelve(tmp_path: Path) -> Path:
    """Twelve photographs, in size and shape as a camera's are, small."""
    folder = tmp_path / "twelve"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(12):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC)
        image.save(folder / f"IMG_{index:04d}.jpg")
    return folder


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "tokenizer" / "model.safetensors")


def rows(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_run_improves_psnr_and_leaves_what_it_says(colors, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("dcht.train.plot_run", plot_run)
    out = tmp_path / "run"
    gentle = LossConfig(lpips=0.0, gan=0.0)
    run = config(colors, out, *Stage, steps=60, loss=gentle, eval_every=20)
    run.optimizer = OptimizerConfig(lr=1e-3, ema_decay=0.8)
    run.data.num_val = 4
    run.trackers = [Tracker.tensorboard]
    assert train(run)
    for path in ("hybrid", "discrete"):
        psnr = [row[name] for row in rows(out) if (name := f"val_psnr_{path}") in row]
        assert len(psnr) == 9
        assert psnr[-1] > psnr[0] + 3
    told = capsys.readouterr().err
    for stage in Stage:
        assert f"{stage.value}: steps 0 to 60" in told
    tokenizer = Tokenizer.from_pretrained(out / "tokenizer")
    assert tokenizer.config.residual_std is not None
    assert (out / "samples" / "reconstruction-0000180.png").exists()
    assert list((out / "tensorboard").iterdir())
    with Image.open(out / "curves.png") as curves:
        assert min(curves.size) > 500
    # A finished run does nothing and keeps its exit code.
    before = checkpoint_sha256(out / "tokenizer")
    assert train(run)
    assert checkpoint_sha256(out / "tokenizer") == before


def test_a_stage_that_has_ended_keeps_its_length(images, tmp_path):
    """Another one would be passed over, and settings and card would say what was not done."""
    out = tmp_path / "run"
    stages = (Stage.continuous_warmup, Stage.discrete_learning)
    assert train(config(images, out, *stages, steps=3))
    settings = (out / "config.json").read_bytes()
    for steps in (2, 9):
        with pytest.raises(UsageError, match=rf"warmup has ended in .* 3 steps, .* have {steps};"):
            train(config(images, out, *stages, steps=steps))
    later = config(images, out, *stages, steps=3)
    later.discrete_learning = replace(later.discrete_learning, steps=5)
    with pytest.raises(UsageError, match="discrete_learning has ended"):
        train(later)
    assert (out / "config.json").read_bytes() == settings
    assert "continuous_warmup (3 steps)" in (out / "tokenizer" / "README.md").read_text()


def test_a_stage_has_its_own_losses(images, tmp_path, capsys):
    """A GAN and an L1 in the last stage alone, whose terms and file are there and nowhere else."""
    stages = (Stage.continuous_warmup, Stage.discrete_learning)
    run = config(images, tmp_path / "run", *stages, steps=2, log_every=1)
    run.loss = LossConfig(lpips=0.0, gan=0.0, gan_start_in_stage=0, discriminator_channels=4)
    run.discrete_learning = replace(run.discrete_learning, loss=StageLoss(l1=2.0, gan=0.1))
    assert train(run)
    steps = [row for row in rows(tmp_path / "run") if "l2" in row]
    assert ["l1" in row for row in steps] == [False, False, True, True]
    assert [row.get("gan_weight") for row in steps] == [None, None, *[pytest.approx(0.1)] * 2]
    assert (tmp_path / "run" / "discriminator.safetensors").exists()
    assert "loss weights: l2 1, l1 2, lpips 0, gan 0.1" in capsys.readouterr().err
    with pytest.raises(UsageError, match="are all 0"):
        replace(run, discrete_learning=replace(run.discrete_learning, loss=StageLoss(l2=0)))


def test_interrupted_often_it_ends_with_the_same_weights(images, tmp_path, monkeypatch):
    """In a stage, at its last step, in one with the discriminator at work, and between two."""
    stages = (Stage.continuous_warmup, Stage.discrete_learning, Stage.alternate_finetune)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    assert train(config(images, straight, *stages, steps=6))
    step = Trainer.train_step
    for stop_at in (2, 6, 9):

        def stopping(trainer, images, stop_at=stop_at):
            terms = step(trainer, images)
            if trainer.step == stop_at:
                signal.raise_signal(signal.SIGTERM)
            return terms

        monkeypatch.setattr(Trainer, "train_step", stopping)
        assert not train(config(images, broken, *stages, steps=6))
    monkeypatch.undo()
    begin = Trainer.begin_stage

    def killed(trainer):
        assert trainer.stage_index < 2, "killed between two stages"
        begin(trainer)

    monkeypatch.setattr(Trainer, "begin_stage", killed)
    with pytest.raises(AssertionError, match="killed between two stages"):
        train(config(images, broken, *stages, steps=6))
    monkeypatch.undo()
    assert train(config(images, broken, *stages, steps=6))
    assert checkpoint_sha256(broken / "tokenizer") == checkpoint_sha256(straight / "tokenizer")
    assert [row["step"] for row in rows(broken)] == [row["step"] for row in rows(straight)]


def test_ten_steps_and_ten_more_are_twenty_steps(images, tmp_path, monkeypatch):
    """Discrete learning, with revival, the adversary and the EMA: bit for bit."""
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    assert train(config(images, straight, Stage.discrete_learning, steps=20))
    step = Trainer.train_step

    def stopping(trainer, images):
        terms = step(trainer, images)
        if trainer.step == 10:
            signal.raise_signal(signal.SIGTERM)
        return terms

    monkeypatch.setattr(Trainer, "train_step", stopping)
    assert not train(config(images, broken, Stage.discrete_learning, steps=20))
    monkeypatch.undo()
    assert train(config(images, broken, Stage.discrete_learning, steps=20))
    assert checkpoint_sha256(broken / "tokenizer") == checkpoint_sha256(straight / "tokenizer")


def test_a_stage_alone_equals_the_stage_in_a_run(images, tmp_path):
    """It starts from the published folder: same weights in, same steps, same weights out."""
    settings = {"loss": LossConfig(lpips=0.0, gan=0.0)}
    whole, first, second = (tmp_path / name for name in ("whole", "first", "second"))
    stages = (Stage.discrete_learning, Stage.alternate_finetune)
    train(config(images, whole, *stages, steps=4, **settings))
    train(config(images, first, stages[0], steps=4, **settings))
    start = str(first / "tokenizer")
    alone = config(images, second, stages[1], steps=4, init_from=start, **settings)
    train(alone)
    for key, value in weights(second).items():
        if not key.startswith("decoder"):
            assert torch.equal(value, weights(first)[key]), key
            assert torch.equal(value, weights(whole)[key]), key
    residual_stds = {
        Tokenizer.from_pretrained(out / "tokenizer").config.residual_std
        for out in (whole, first, second)
    }
    assert len(residual_stds) == 1
    assert any(not torch.equal(v, weights(first)[k]) for k, v in weights(second).items())


def test_other_settings_in_the_same_folder_are_refused(images, tmp_path):
    run = config(images, tmp_path / "run", Stage.continuous_warmup, steps=2)
    train(run)
    with pytest.raises(UsageError, match=r"other settings \(batch_size, loss\.l1\)"):
        train(replace(run, batch_size=2, loss=replace(run.loss, l1=1.0)))
    assert train(replace(run, log_every=1))
    longer = replace(run, continuous_warmup=replace(run.continuous_warmup, steps=9))
    with pytest.raises(UsageError, match="has ended"):
        train(longer)


def stop_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Have SIGTERM arrive in this step."""
    original = Trainer.train_step

    def stopping(trainer, images):
        terms = original(trainer, images)
        if trainer.step == step:
            signal.raise_signal(signal.SIGTERM)
        return terms

    patch.setattr(Trainer, "train_step", stopping)


def without_times(out: Path) -> list[dict[str, float]]:
    free = ("time", "images_per_second")
    return [{k: v for k, v in row.items() if k not in free} for row in rows(out)]


def test_a_row_is_of_all_its_steps_also_after_a_stop(images, tmp_path, monkeypatch):
    """Rows at 4 and 8, stopped at 3 and 6: the rows of the run that was never stopped."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    stage = Stage.discrete_learning
    assert train(config(images, whole, stage, steps=8, log_every=4))
    for step in (3, 6):
        with monkeypatch.context() as patch:
            stop_at(step, patch)
            run = config(images, broken, stage, steps=8, log_every=4)
            assert not train(run)
    moved = tmp_path / "moved"
    broken.rename(moved)
    assert train(config(images, moved, stage, steps=8, log_every=4))
    assert without_times(moved) == without_times(whole)
    # The discriminator came in at step 3: its mean is over five steps, not eight.
    assert "gan" in rows(whole)[0] and "gan" in rows(whole)[1]


def test_what_a_run_depends_on_may_not_change_under_it(images, tmp_path, monkeypatch):
    run = config(images, tmp_path / "run", Stage.continuous_warmup, steps=6)
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        assert not train(run)
    left = {path.name: path.read_bytes() for path in Path(run.out).glob("*.*")}
    longer = replace(run, continuous_warmup=replace(run.continuous_warmup, steps=7))
    with pytest.raises(UsageError, match=r"continuous_warmup has 7 steps, and had 6 .* cosine"):
        train(longer)
    later = replace(run, discrete_learning=replace(run.discrete_learning, steps=99))
    image = images / "d.bmp"
    whole = image.read_bytes()
    image.write_bytes(whole[:-3] + bytes(3))
    with pytest.raises(UsageError, match=r"images in .* are not those that the run in"):
        train(run)
    image.write_bytes(whole)
    (images / "more" / "f.jpg").rename(images / "more" / "g.jpg")
    with pytest.raises(UsageError, match=r"images in .* are not those that the run in"):
        train(run)
    (images / "more" / "g.jpg").rename(images / "more" / "f.jpg")
    assert {path.name: path.read_bytes() for path in Path(run.out).glob("*.*")} == left
    assert train(later)


def test_a_run_among_its_images_continues(images, tmp_path, monkeypatch):
    """What it drew is no input, and its weights are those of a run elsewhere."""
    stage = Stage.continuous_warmup
    elsewhere = config(images, tmp_path / "elsewhere", stage, steps=6, eval_every=2)
    assert train(elsewhere)
    run = replace(elsewhere, out=str(images / "runs" / "a"))
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        assert not train(run)
    assert list(Path(run.out, "samples").iterdir())
    assert train(run)
    ends = [checkpoint_sha256(Path(out, "tokenizer")) for out in (run.out, elsewhere.out)]
    assert ends[0] == ends[1]
    assert train(run)


def test_a_cache_may_be_given_up_where_an_image_is_broken(images, tmp_path, monkeypatch):
    (images / "d.bmp").write_text("no image")
    stage = Stage.continuous_warmup
    whole = config(images, tmp_path / "whole", stage, steps=6)
    assert train(whole)
    run = replace(whole, out=str(tmp_path / "run"))
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        assert not train(run)
    assert train(replace(run, data=replace(run.data, cache=False)))
    ends = [checkpoint_sha256(Path(out, "tokenizer")) for out in (run.out, whole.out)]
    assert ends[0] == ends[1]


def test_lpips_may_not_change_under_a_run(images, tmp_path, monkeypatch):
    """A loss that changes in the middle would be nobody's: neither the old run's nor the new."""
    torch.manual_seed(0)
    weights = tmp_path / "alexnet.safetensors"
    first, second = (LPIPS("alex").state_dict() for _ in range(2))
    save_file(first, weights)
    loss = LossConfig(lpips=0.1, lpips_net=LPIPSNet.alex, lpips_weights=str(weights), gan=0)
    run = config(images, tmp_path / "run", Stage.continuous_warmup, steps=4, loss=loss)
    with monkeypatch.context() as patch:
        stop_at(2, patch)
        assert not train(run)
    save_file(second, weights)
    with pytest.raises(UsageError, match="LPIPS has other weights than the run in"):
        train(run)
    save_file(first, weights)
    assert train(run)


def test_a_constant_rate_lets_a_stage_grow(images, tmp_path, monkeypatch):
    run = config(images, tmp_path / "run", Stage.continuous_warmup, steps=4)
    run = replace(run, optimizer=replace(run.optimizer, final_lr=None))
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        assert not train(run)
    longer = replace(run, continuous_warmup=replace(run.continuous_warmup, steps=5))
    assert train(longer)
    assert rows(Path(run.out))[-1]["step"] == 5


def test_a_state_of_something_else_is_damaged(images, tmp_path):
    run = config(images, tmp_path / "run", Stage.continuous_warmup, steps=2)
    assert train(run)
    (newest,) = Path(run.out).glob("resume-*.pt")
    saved = torch.load(newest, weights_only=True)
    for change in ({"tokenizer": {}}, {"stage_index": 9}, {"stage_step": "1"}, {"ema": None}):
        step = {"stage_index": 0, "stage_step": 1} if "ema" in change else {}
        torch.save({"step": 2, "state": saved["state"] | step | change}, newest)
        with pytest.raises(CheckpointError, match=r"resume-000000002\.pt is damaged"):
            train(run)


def test_a_run_that_is_refused_leaves_the_folder_as_it_was(images, tmp_path):
    out = tmp_path / "run"
    run = config(tmp_path / "nowhere", out, Stage.continuous_warmup, steps=2)
    with pytest.raises(UsageError):
        train(run)
    assert not out.exists()
    with locked(out):
        (out / "config.json").write_text("{}")
        with pytest.raises(UsageError, match="is being written by process"):
            train(config(images, out, Stage.continuous_warmup, steps=2))
    assert [path.name for path in out.iterdir()] == ["config.json"]


def test_a_last_stage_that_is_worse_is_published_with_a_word(images, tmp_path, capsys):
    stages = (Stage.discrete_learning, Stage.alternate_finetune)
    good = config(images, tmp_path / "good", stages[0], steps=8)
    assert train(good)
    assert "worse" not in capsys.readouterr().err
    start = str(tmp_path / "good" / "tokenizer")
    spoiled = OptimizerConfig(lr=1.0, ema_decay=0.0)
    bad = config(
        images, tmp_path / "bad", stages[1], steps=3, init_from=start,
        optimizer=spoiled,
    )  # fmt: skip
    assert train(bad)
    said = capsys.readouterr().err
    assert f"alternate_finetune made the held-out images worse than init_from={start}" in said
    assert "hybrid path" in said
    both = config(images, tmp_path / "both", *stages, steps=3, optimizer=spoiled)
    assert train(both)
    ends = [row for row in rows(tmp_path / "both") if "val_psnr_hybrid" in row]
    worse = ends[1]["val_psnr_hybrid"] < ends[0]["val_psnr_hybrid"] - 0.005
    said = capsys.readouterr().err
    assert ("worse than discrete_learning: hybrid" in said) == worse


def test_a_codebook_that_was_trained_is_not_replaced(images, tmp_path, capsys):
    """`kmeans_start` with `init_from`: the bundled tokenizer's codes stay, and the run says so."""
    start = str(tmp_path / "start")
    tokenizer = Tokenizer(replace(PRESETS["tiny"], codebook_size=16))
    new = config(images, tmp_path / "new", Stage.discrete_learning, steps=1, init_from=start)
    tokenizer.save_pretrained(start)  # of a warm-up: its codebook is as it began
    trainer = Trainer(new, World(0, 1, torch.device("cpu")))
    trainer.begin_stage()
    assert "the codebook is new: k-means over" in describe(trainer)
    codes = torch.nn.functional.normalize(torch.randn(16, 8), dim=-1)
    with torch.no_grad():
        tokenizer.get_parameter("quantizer.codebook").copy_(codes)
    tokenizer.save_pretrained(start)
    trainer = Trainer(new, World(0, 1, torch.device("cpu")))
    trainer.begin_stage()
    assert torch.equal(trainer.tokenizer.get_parameter("quantizer.codebook"), codes)
    assert "the codebook is kept, because it was trained before" in describe(trainer)


@pytest.mark.parametrize("name", experiment_names("dcht"))
def test_every_experiment_starts_from_twelve_photographs(
    name, twelve, tokenizer, tmp_path, monkeypatch
):
    """As it is written, but for the size of the network, of the images and of a batch."""
    monkeypatch.chdir(tmp_path)
    tokenizer.set_residual_std(0.1)
    tokenizer.save_pretrained("tiny")
    words = [f"+experiment={name}", f"data.root={twelve}", "out=run", "device=cpu", "trackers=[]"]
    if name != "tiny":
        words += ["tokenizer=tiny", "data.size=64", "data.crop=64", "data.workers=0"]
        words += ["batch_size=4", "loss.lpips=0", "loss.discriminator_channels=4"]
    if name == "light_decoder":
        words += ["light=tiny", "init_from=tiny"]
    words += [f"{stage.value}.steps=2" for stage in Stage]
    monkeypatch.setattr("sys.argv", ["dcht-train", *words])
    with pytest.raises(SystemExit) as stop:
        train_main()
    assert stop.value.code == OK
    assert Tokenizer.from_pretrained("run/tokenizer").config.residual_std is not None


def test_half_precision_halves_the_file(images, tmp_path):
    run = config(images, tmp_path / "run", Stage.continuous_warmup, steps=1)
    train(replace(run, publish_dtype=PublishDtype.float16))
    stored = {value.dtype for key, value in weights(tmp_path / "run").items() if "num_" not in key}
    assert stored == {torch.float16}


def test_a_run_pauses_and_saves_by_the_clock(images, tmp_path, monkeypatch, capsys):
    """It ends with the bits of a run that did neither; a pause is in no rate."""
    straight, paused = tmp_path / "straight", tmp_path / "paused"
    assert train(config(images, straight, Stage.continuous_warmup, steps=4))
    (paused / "PAUSE").parent.mkdir()
    (paused / "PAUSE").touch()
    waited = []

    def sleep(seconds):
        waited.append(sorted(path.name for path in paused.glob("resume-*")))
        (paused / "PAUSE").unlink()

    monkeypatch.setattr("dcht.engine.training.time.sleep", sleep)
    run = config(images, paused, Stage.continuous_warmup, steps=4, save_minutes=1e-9)
    assert train(run)
    assert waited == [[]]  # after the first step, and once
    assert "paused" in capsys.readouterr().err
    assert len(list(paused.glob("resume-*"))) == 2
    assert (paused / "resume-000000003.pt").exists()
    assert checkpoint_sha256(paused / "tokenizer") == checkpoint_sha256(straight / "tokenizer")


def test_the_discriminator_goes_on_over_stages_and_runs(images, tmp_path):
    loss = LossConfig(lpips=0.0, gan_start_in_stage=1, discriminator_channels=4)
    first = config(images, tmp_path / "a", *list(Stage)[:2], steps=3, loss=loss)
    assert train(first)
    found = rows(tmp_path / "a")
    # It is out in the first step of each stage, and in no mean of the two others.
    assert {row["step"]: row["gan_weight"] for row in found if "gan" in row} == {
        2: 0.5,
        3: 0.5,
        6: 0.5,
    }
    learned = load_file(tmp_path / "a" / "discriminator.safetensors")
    after = replace(loss, discriminator_from=str(tmp_path / "a"), gan_start_in_stage=100)
    alone = (Stage.alternate_finetune,)
    second = config(images, tmp_path / "b", *alone, steps=1, loss=after)
    second.init_from = str(tmp_path / "a" / "tokenizer")
    assert train(second)
    kept = load_file(tmp_path / "b" / "discriminator.safetensors")
    assert all(torch.equal(value, kept[key]) for key, value in learned.items())


def test_a_gan_that_never_comes_in_is_told(images, tmp_path, capsys):
    short = LossConfig(lpips=0.0, gan_start=5, discriminator_channels=4)
    for name, loss, told in (
        ("a", short, "gan_start=5 counts the steps of the run, which has 3; loss.gan_start_in"),
        ("b", replace(short, gan_start_in_stage=3), "gan_start_in_stage=3 and no stage has more"),
        ("c", replace(short, gan_start=2), None),
        ("d", replace(short, gan=0.0), None),
    ):
        run = config(images, tmp_path / name, Stage.continuous_warmup, steps=3, loss=loss)
        assert train(run)
        said = capsys.readouterr().err
        assert ("the GAN never comes in" in said) == (told is not None)
        assert told is None or told in said


def test_validation_says_its_stage(images, tmp_path):
    run = config(images, tmp_path / "run", *list(Stage)[:2], steps=2)
    assert train(run)
    found = [row for row in rows(tmp_path / "run") if "val_psnr_hybrid" in row]
    assert [(row["step"], row["stage"]) for row in found] == [(2, 0), (4, 1)]


def test_what_a_run_publishes_has_a_card_and_can_be_exported(images, tmp_path, capsys, monkeypatch):
    """As `dcar-train export`: with the run's own bytes, or rounded; killed anywhere, repeated."""
    out = tmp_path / "run"
    assert train(config(images, out, Stage.discrete_learning, steps=2))
    before = checkpoint_sha256(out / "tokenizer")
    validation = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    psnr = [row["val_psnr_hybrid"] for row in validation if "val_psnr_hybrid" in row][-1]
    capsys.readouterr()

    def call(*words):
        monkeypatch.setattr("sys.argv", ["dcht-train", "export", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            train_main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    assert call(out, "--out", tmp_path / "a") == (0, f"{tmp_path / 'a'}: {before[:12]}\n", "")
    assert checkpoint_sha256(tmp_path / "a") == before
    card = (tmp_path / "a" / "README.md").read_text()
    for fact in (
        "library_name: dcht", "license: unknown", "# run\n", "`pictures`: 5 images, crops of 64 px",
        "discrete_learning (2 steps); batches of 4, from scratch, seed 0", f"{psnr:.2f} dB",
        "| codes | 16 |", "32 x 32 pixels, 8 channels", "No license was chosen",
    ):  # fmt: skip
        assert fact in card, (fact, card)
    assert str(tmp_path) not in card
    written = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    order = ["export.json", "README.md", "config.json", "model.safetensors"]
    assert sorted(order) == sorted(written)
    for count in range(len(order), 0, -1):
        for name in order[count:]:
            (tmp_path / "a" / name).unlink()
        assert call(out, "--out", tmp_path / "a")[0] == 0
        assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == written
    code, _, errors = call(out, "--out", tmp_path / "a", "--dtype", "float16")
    assert (code, errors.count("\n")) == (2, 1)
    code, printed, _ = call(out, "--out", tmp_path / "a", "--dtype", "float16", "--force", "--json")
    half = json.loads(printed)["sha256"]
    assert half == Tokenizer.from_pretrained(tmp_path / "a").sha256 != before
    code, _, errors = call(tmp_path, "--out", tmp_path / "b")
    assert (code, errors.count("\n")) == (2, 1)
    assert "holds no tokenizer/; name a run's folder" in errors
    assert not (tmp_path / "b").exists()
