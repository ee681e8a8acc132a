"""What one step moves and what it leaves alone; whole runs are in `test_train.py`."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dcht import PRESETS, Tokenizer
from dcht.engine.distributed import World
from dcht.errors import NonFiniteLossError, UsageError
from dcht.train.log import describe
from dcht.train.trainer import Trainer
from dcht.train_config import (
    CodebookConfig,
    DataConfig,
    LossConfig,
    OptimizerConfig,
    Stage,
    StageConfig,
    TrainConfig,
)

ALONE = World(0, 1, torch.device("cpu"))


def config(images: Path, *stages: Stage, **settings) -> TrainConfig:
    defaults = {
        "out": str(images.parent),
        "tokenizer": PRESETS["tiny"],
        "data": DataConfig(root=str(images), size=64, crop=64, num_val=1, workers=0),
        "stages": list(stages),
        "loss": LossConfig(lpips=0.0, gan_start=0, discriminator_channels=4),
        "optimizer": OptimizerConfig(lr=1e-3, ema_decay=0.5),
        "codebook": CodebookConfig(window=64),
        "batch_size": 4,
    }
    return TrainConfig(**{**defaults, **settings})


def started(images: Path, stage: Stage, **settings) -> Trainer:
    """Within a stage, from a saved tokenizer: alternate fine-tuning takes its codebook as it is."""
    torch.manual_seed(0)
    start = images.parent / "start"
    Tokenizer(PRESETS["tiny"]).save_pretrained(start)
    trainer = Trainer(config(images, stage, init_from=str(start), **settings), ALONE)
    trainer.begin_stage()
    return trainer


def batch(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def moved(trainer: Trainer, steps: int = 2) -> set[str]:
    """The parts of the tokenizer that differ in any bit, buffers included, after some steps."""
    before = {key: value.clone() for key, value in trainer.tokenizer.state_dict().items()}
    for _ in range(steps):
        trainer.train_step(batch())
    after = trainer.tokenizer.state_dict()
    return {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}


@pytest.mark.parametrize(
    ("stage", "parts"),
    [
        (Stage.continuous_warmup, {"encoder", "decoder"}),
        (Stage.discrete_learning, {"encoder", "decoder", "quantizer"}),
        (Stage.alternate_finetune, {"decoder"}),
    ],
)
def test_a_stage_moves_its_parts_and_no_bit_of_the_others(images, stage, parts):
    assert moved(started(images, stage)) == parts


def test_the_codebook_is_trained_or_given_before_it_is_used(images):
    """Alone, or after a warm-up that leaves it random, alternate fine-tuning is refused."""
    alone = (Stage.alternate_finetune,)
    for stages in (alone, (Stage.continuous_warmup, *alone)):
        with pytest.raises(UsageError, match="gives no codebook of 64 codes, and the stages use"):
            Trainer(config(images, *stages), ALONE)
    Trainer(config(images, Stage.discrete_learning, *alone), ALONE)


def test_the_frozen_parts_stay_bit_equal_through_the_ema_too(images):
    trainer = started(images, Stage.alternate_finetune)
    before = {key: value.clone() for key, value in trainer.tokenizer.state_dict().items()}
    for _ in range(3):
        trainer.train_step(batch())
    for key, value in trainer.averaged().state_dict().items():
        if not key.startswith("decoder"):
            assert torch.equal(value, before[key])


def test_each_image_takes_one_of_the_two_paths(images):
    trainer = started(images, Stage.alternate_finetune)
    many, mixed, num_discrete = batch(64), 0, 0
    z = trainer.tokenizer.encode(many)
    z_q = trainer.tokenizer.quantize(z).z_q
    for _ in range(8):
        _, latent, terms = trainer._latents(many)
        on_z = (latent == z).flatten(1).all(dim=1)
        on_z_q = (latent == z_q).flatten(1).all(dim=1)
        assert torch.equal(on_z, ~on_z_q)
        assert terms == {}
        mixed += int(on_z.any() and on_z_q.any())
        num_discrete += int(on_z_q.sum())
        trainer.step += 1  # another step draws anew
    assert mixed == 8
    assert abs(num_discrete - 256) < 45  # 512 coins: four standard deviations


def test_the_paths_of_the_first_two_stages(images):
    trainer = started(images, Stage.continuous_warmup)
    z, latent, terms = trainer._latents(batch())
    assert latent is z
    assert terms == {}
    assert trainer.usage() == {}
    trainer = started(images, Stage.discrete_learning)
    z, latent, terms = trainer._latents(batch())
    torch.testing.assert_close(latent, trainer.tokenizer.quantize(z).z_q)
    assert terms["commitment"].item() == pytest.approx(0.25 * terms["codebook"].item())
    assert trainer.usage()["codebook_used"] > 0


def test_everything_can_train_on_mixed_paths(images):
    """Table 5's row 'alternate, all trainable' is a setting, not another trainer."""
    free = StageConfig(discrete_prob=0.5, train_encoder=True, train_codebook=True, steps=2)
    trainer = started(images, Stage.alternate_finetune, alternate_finetune=free)
    assert moved(trainer) == {"encoder", "decoder", "quantizer"}


def test_the_discriminator_waits_for_its_step(images):
    late = LossConfig(lpips=0.0, gan_start=2, discriminator_channels=4)
    trainer = started(images, Stage.continuous_warmup, loss=late)
    before = {key: value.clone() for key, value in trainer.discriminator.state_dict().items()}
    names = [set(trainer.train_step(batch())) for _ in range(2)]
    assert names == [{"l2", "grad_norm"}] * 2
    assert all(torch.equal(v, before[k]) for k, v in trainer.discriminator.state_dict().items())
    assert set(trainer.train_step(batch())) == {
        *("l2", "gan", "discriminator", "gan_weight", "logits_real", "logits_fake"),
        *("grad_norm", "grad_norm_reconstruction", "grad_norm_gan", "grad_norm_discriminator"),
    }
    assert not torch.equal(
        before["layers.0.weight"], trainer.discriminator.state_dict()["layers.0.weight"]
    )


def test_a_loss_that_is_not_finite_stops_before_the_weights(images):
    trainer = started(images, Stage.continuous_warmup)
    before = {key: value.clone() for key, value in trainer.tokenizer.encoder.state_dict().items()}
    with pytest.raises(NonFiniteLossError, match="nonfinite-0000000"):
        trainer.train_step(batch() * float("nan"))
    after = trainer.tokenizer.encoder.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_kmeans_start_puts_codes_among_the_latents(images):
    help_ = CodebookConfig(kmeans_start=True)
    small = replace(PRESETS["tiny"], codebook_size=8)
    trainer = started(images, Stage.discrete_learning, codebook=help_, tokenizer=small)
    with torch.no_grad():
        z = trainer.tokenizer.encode(batch())
        far = Tokenizer(small).get_parameter("quantizer.codebook")
        trained = (z - trainer.tokenizer.quantize(z).z_q).square().mean()
        trainer.tokenizer.get_parameter("quantizer.codebook").copy_(far)
        random = (z - trainer.tokenizer.quantize(z).z_q).square().mean()
    assert trained < random


def test_revival_brings_dead_codes_back(images):
    help_ = CodebookConfig(revive_every=2, window=64)
    trainer = started(images, Stage.discrete_learning, codebook=help_)
    trainer.train_step(batch())
    dead = trainer.window.counts() == 0
    before = trainer.tokenizer.get_parameter("quantizer.codebook").detach().clone()
    trainer.train_step(batch())
    after = trainer.tokenizer.get_parameter("quantizer.codebook").detach()
    assert dead.sum() > 30
    assert torch.equal((before != after).any(dim=1), (before != after).any(dim=1) | dead)


def test_the_residual_is_measured_when_it_has_moved(images):
    trainer = started(images, Stage.discrete_learning)
    trainer.train_step(batch())
    trainer.finish_stage()
    loaded = Tokenizer.from_pretrained(images.parent / "tokenizer")
    assert loaded.config.residual_std == trainer.tokenizer.config.residual_std
    assert 0 < (loaded.config.residual_std or 0) < 2 / 8**0.5


def test_it_says_what_it_will_do(images):
    told = describe(started(images, Stage.alternate_finetune))
    assert "50% of them on the discrete path" in told
    assert "trains: decoder (0.16 M)" in told
    assert "l2 1, l1 0, lpips 0, gan 0.5 (gan from step 0 of the run)" in told
    assert "on cpu in fp32" in told


@pytest.mark.parametrize("stage", Stage)
def test_under_bf16_autocast_the_quantizer_stays_in_fp32(images, stage, monkeypatch):
    """A CPU trains in fp32; autocast is forced here to run what a GPU does."""
    trainer = started(images, stage)
    monkeypatch.setattr(trainer, "bf16", True)
    z, latent, terms = trainer._latents(batch())
    assert {value.dtype for value in (z, latent, *terms.values())} == {torch.float32}
    if terms:
        direct = trainer.tokenizer.require_quantizer().forward_train(z)
        assert terms["codebook"].item() == direct.losses["codebook"].item()
    monkeypatch.setattr(trainer.optimizer, "zero_grad", lambda **_: None)
    losses = trainer.train_step(batch())
    assert all(value.isfinite() for value in losses.values())
    weights = [p for p in trainer.tokenizer.parameters() if p.grad is not None]
    assert weights
    assert all(p.grad.dtype is torch.float32 for p in weights if p.grad is not None)


FSQ = replace(PRESETS["tiny"], latent_channels=2, codebook_size=40, fsq_levels=[8, 5])


def test_levels_train_without_a_codebook(images):
    """Nothing but encoder and decoder moves, and there is no loss besides the reconstruction's."""
    trainer = Trainer(config(images, Stage.discrete_learning, tokenizer=FSQ), ALONE)
    trainer.begin_stage()
    assert set(trainer.trainable()) == {"encoder", "decoder"}
    assert "codebook 1" not in describe(trainer)
    terms = trainer.train_step(batch())
    assert not {"codebook", "commitment"} & set(terms)
    assert 0 < trainer.usage()["codebook_used"] <= 4 * 4 / 40
    assert moved(trainer) == {"encoder", "decoder"}
    trainer.finish_stage()
    loaded = Tokenizer.from_pretrained(images.parent / "tokenizer")
    assert loaded.config.fsq_levels == [8, 5] and loaded.config.residual_std
    # They are never new: a stage that trains neither encoder nor codes may begin with them.
    Trainer(config(images, Stage.alternate_finetune, tokenizer=FSQ), ALONE).begin_stage()


@pytest.mark.parametrize("setting", [{"kmeans_start": True}, {"revive_every": 5}])
def test_codes_that_are_fixed_are_not_placed(images, setting):
    wanted = config(
        images, Stage.discrete_learning, tokenizer=FSQ, codebook=CodebookConfig(**setting)
    )
    with pytest.raises(UsageError, match="the 40 codes of this quantizer are fixed"):
        Trainer(wanted, ALONE)
