"""A light decoder in training: what it learns from, what moves, what comes out, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from dcht import Tokenizer, UsageError
from dcht.checkpoint import checkpoint_sha256
from dcht.conf import register
from dcht.config import LIGHT_PRESETS, PRESETS
from dcht.engine.distributed import World
from dcht.engine.plan import Cluster
from dcht.light.teacher import Teacher
from dcht.loss_config import LossConfig
from dcht.modules.autoencoder import Decoder
from dcht.train import train
from dcht.train.plan import plan
from dcht.train.start import start_light
from dcht.train.trainer import Trainer
from dcht.train_config import DataConfig, OptimizerConfig, Stage, StageConfig, TrainConfig

LOSS = LossConfig(l1=1.0, lpips=0.0, gan=0.0, teacher=1.0, features=0.5)


def config(images: Path, start: Path, out: Path, **settings) -> TrainConfig:
    stage = StageConfig(discrete_prob=0.5, train_encoder=False, train_codebook=False, steps=4)
    given = {
        "out": str(out),
        "tokenizer": PRESETS["tiny"],
        "light": LIGHT_PRESETS["tiny"],
        "init_from": str(start),
        "data": DataConfig(root=str(images), size=64, crop=64, num_val=1, workers=0),
        "stages": [Stage.alternate_finetune],
        "alternate_finetune": stage,
        "loss": LOSS,
        "optimizer": OptimizerConfig(lr=3e-3, ema_decay=0.5),
        "batch_size": 4,
        "trackers": [],
    }
    return TrainConfig(**{**given, **settings})


@torch.no_grad()
def test_a_teacher_s_own_copy_has_no_error_but_that_of_the_reading(tokenizer: Tokenizer) -> None:
    layout = tokenizer.config.decoder
    teacher = Teacher(tokenizer.decoder, (layout, layout))
    latent = tokenizer.lookup(torch.arange(4).reshape(1, 2, 2))
    for projection in teacher.projections:  # the identity
        torch.nn.init.dirac_(projection.weight)  # type: ignore[arg-type]
        torch.nn.init.zeros_(projection.bias)  # type: ignore[arg-type]
    output, taught, features = teacher(tokenizer.decoder, latent, LOSS)
    assert torch.equal(output, tokenizer.decode(latent))
    assert taught == {"teacher": 0} and features["features"].item() < 1e-12
    # Nothing read: all of the features' square is error. A shift of the output is its own size.
    for projection in teacher.projections:
        torch.nn.init.zeros_(projection.weight)  # type: ignore[arg-type]
    other = Decoder(layout, resample=tokenizer.config.resample, latent_channels=8)
    other.load_state_dict(tokenizer.decoder.state_dict())
    other.output.conv.bias += 0.25  # type: ignore[union-attr]
    _, taught, features = teacher(other.eval(), latent, LOSS)
    assert features["features"].item() == pytest.approx(1)
    assert taught["teacher"].item() == pytest.approx(0.25, rel=1e-4)
    assert teacher(other, latent, replace(LOSS, teacher=0.0, features=0.0))[1:] == ({}, {})


def test_stages_of_one_resolution_are_compared(tokenizer: Tokenizer) -> None:
    """A finest stage with blocks has no partner where the other decoder has none there."""
    ours, theirs = LIGHT_PRESETS["tiny"], PRESETS["tiny"].decoder
    teacher = Teacher(tokenizer.decoder, (ours, theirs))
    pairs = [(conv.in_channels, conv.out_channels) for conv in teacher.projections]  # type: ignore[union-attr]
    assert pairs == [(16, 32), (16, 32), (16, 32), (8, 16), (8, 8)]
    deeper = replace(ours, depths=[1, 0, 1, 1, 1, 1])
    assert len(Teacher(tokenizer.decoder, (deeper, theirs)).projections) == 5


def test_a_run_learns_and_leaves_the_tokenizer_as_it_was(
    images: Path, saved_tokenizer: Path, tmp_path: Path
) -> None:
    before = checkpoint_sha256(saved_tokenizer)
    out = tmp_path / "run"
    stage = StageConfig(discrete_prob=0.5, train_encoder=False, train_codebook=False, steps=40)
    settings = config(images, saved_tokenizer, out, alternate_finetune=stage, log_every=10)
    trainer = Trainer(settings, World(0, 1, torch.device("cpu")))
    trainer.begin_stage()
    assert trainer.teacher is not None
    frozen = {key: value.clone() for key, value in trainer.teacher.decoder.state_dict().items()}
    batch = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    batch = F.avg_pool2d(batch, 9, 1, 4)
    parts = {key: value.clone() for key, value in trainer.tokenizer.state_dict().items()}
    rows = [trainer.train_step(batch) for _ in range(40)]
    for name in ("l1", "teacher", "features"):
        assert rows[-1][name] < 0.8 * rows[0][name], name
    moved = {
        key.split(".")[0]
        for key, value in trainer.averaged().state_dict().items()
        if not torch.equal(value, parts[key])
    }
    assert moved == {"decoder"}
    assert all(torch.equal(v, trainer.teacher.decoder.state_dict()[k]) for k, v in frozen.items())
    trainer.finish_stage()
    published = out / "tokenizer"
    for name in ("config.json", "model.safetensors"):
        assert (published / name).read_bytes() == (saved_tokenizer / name).read_bytes()
    assert checkpoint_sha256(published) == before
    found = Tokenizer.from_pretrained(published)
    assert found.light is not None
    weights = found.light.network.state_dict()
    assert all(
        torch.equal(v, weights[k]) for k, v in trainer.tokenizer.decoder.state_dict().items()
    )
    # A run from there goes on from it, one of another layout begins anew.
    again = Trainer(config(images, published, tmp_path / "again"), World(0, 1, torch.device("cpu")))
    assert torch.equal(again.tokenizer.decoder.input.weight, weights["input.weight"])
    other = replace(LIGHT_PRESETS["tiny"], depths=[0, 0, 1, 1, 1, 2])
    settings = config(images, published, tmp_path / "other", light=other)
    anew = Trainer(settings, World(0, 1, torch.device("cpu")))
    assert not torch.equal(anew.tokenizer.decoder.input.weight, weights["input.weight"])
    assert "PSNR" not in (published / "light" / "README.md").read_text()  # nothing was validated


def test_a_stopped_run_ends_with_the_bits_of_an_uninterrupted_one(
    images: Path, saved_tokenizer: Path, tmp_path: Path
) -> None:
    paths = []
    for name, legs in (("whole", (2,)), ("parts", (1, 2))):
        for steps in legs:
            stage = StageConfig(
                discrete_prob=0.5, train_encoder=False, train_codebook=False, steps=2
            )
            run = config(images, saved_tokenizer, tmp_path / name, alternate_finetune=stage)
            if steps == 1:
                stop_after(run, 1)
            else:
                assert train(run)
        paths.append(tmp_path / name / "tokenizer" / "light" / "model.safetensors")
    assert paths[0].read_bytes() == paths[1].read_bytes()


def stop_after(run: TrainConfig, steps: int) -> None:
    """Train so many steps, save, and leave, as a signal would have it."""
    from dcht.checkpoint import to_dict
    from dcht.engine.run_folder import save_resume, write_settings
    from dcht.train.dataset import load_batches, to_images
    from dcht.train.resume import state_of

    trainer = Trainer(run, World(0, 1, torch.device("cpu")))
    trainer.begin_stage()
    write_settings(run.out, to_dict(run))
    for batch in load_batches(
        trainer.crops, batch_size=4, seed=0, first_step=0, num_steps=steps, rank=0, num_ranks=1
    ):
        trainer.train_step(to_images(batch, trainer.device))
    save_resume(run.out, trainer.step, state_of(trainer))


def test_what_makes_no_sense_is_refused(saved_tokenizer: Path, tmp_path: Path) -> None:
    def refused(match: str, **settings) -> None:
        with pytest.raises(UsageError, match=match):
            config(tmp_path, saved_tokenizer, tmp_path / "out", **settings)

    refused(r"loss.teacher=1 and loss.features=0.5 are a light decoder's", light=None)
    refused("name it with init_from=", init_from=None)
    refused(r"stages=\[alternate_finetune\]", stages=list(Stage))
    moving = StageConfig(discrete_prob=0.5, train_encoder=True, train_codebook=False, steps=4)
    refused("encoder and codebook frozen", alternate_finetune=moving)
    wide = replace(LIGHT_PRESETS["tiny"], widths=[8, 8, 8, 16, 16, 12])
    refused("light: decoder: coarsest width 12 is not a multiple of", light=wide)


def test_the_experiment_is_the_bundled_tokenizer_s(tmp_path: Path) -> None:
    register()
    with initialize_config_module("dcht.conf", version_base="1.3"):
        words = ["+experiment=light_decoder", "data.root=x", "out=y"]
        run = OmegaConf.to_object(compose("train", overrides=words))
    assert isinstance(run, TrainConfig)
    assert run.light == LIGHT_PRESETS["small"] and run.init_from == "bundled"
    assert [stage.name for stage in run.plan()] == ["alternate_finetune"]


def test_a_plan_counts_what_trains(saved_tokenizer: Path, tmp_path: Path) -> None:
    run = config(tmp_path, saved_tokenizer, tmp_path / "out", light=LIGHT_PRESETS["tiny"])
    student, teacher = start_light(Tokenizer(run.tokenizer), LIGHT_PRESETS["tiny"])
    counts = [
        sum(p.numel() for p in part.parameters()) / 1e6
        for part in (student.decoder, teacher.projections)
    ]
    named = f"trained (decoder {counts[0]:.1f} M, projections {counts[1]:.1f} M)"
    assert named in plan(run, Cluster(gpus=1))
