import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dcar.config import JointTextConfig, LossConfig, Schedule, TextConfig
from dcar.model import DCAR, Randomness
from dcar.train import train
from dcar.train.learner import make_optimizer
from dcar.train.trainer import Trainer
from dcar.train_config import DataConfig, DataKind, OptimizerConfig, PublishDtype, TrainConfig
from dcht import CheckpointError, UsageError
from dcht.engine.distributed import World
from dcht.errors import NonFiniteLossError

ALONE = World(0, 1, torch.device("cpu"))


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_accumulation_is_the_whole_batch(config: TrainConfig) -> None:
    whole, parts = (Trainer(replace(config, accumulate=k), ALONE) for k in (1, 3))
    for _ in range(3):
        a, b = whole.train_step(), parts.train_step()
        assert a.scalars == pytest.approx(b.scalars, rel=1e-4)
        torch.testing.assert_close(a.by_ratio, b.by_ratio, rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageError, match="batch_size 6 is not a multiple of accumulate 4"):
        replace(config, accumulate=4)


def test_one_batch_is_memorized(config: TrainConfig, store: Path) -> None:
    """With a caption of its own each, twelve images are known by heart after 150 steps."""
    captions = [f"{color} {noun}" for color in ("red", "blue", "green") for noun in "abcd"]
    shard = store / "shard-00000.jsonl"
    rows = [json.loads(line) for line in shard.read_text().splitlines()]
    for row, caption in zip(rows, captions, strict=True):
        row |= {"caption": caption, "captions": [caption]}
    shard.write_text("".join(json.dumps(row) + "\n" for row in rows))
    generator = replace(config.model.generator, cond_dropout=0.0)
    config = replace(
        config,
        model=replace(config.model, generator=generator),
        steps=150,
        batch_size=12,
        optimizer=OptimizerConfig(lr=1e-2, final_lr=1e-2, warmup_steps=5),
    )
    trainer = Trainer(config, ALONE)
    logged = [trainer.train_step() for _ in range(150)]
    assert logged[0].scalars["cross_entropy"] > 3.5
    assert sum(row.scalars["cross_entropy"] for row in logged[-10:]) / 10 < 0.3
    _, hits, count = sum(row.by_ratio for row in logged[-10:]).sum(dim=0)  # type: ignore[union-attr]
    assert hits / count > 0.9


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_batch(config: TrainConfig) -> None:
    Path(config.out).mkdir()
    trainer = Trainer(config, ALONE)
    with torch.no_grad():
        trainer.learner.model.generator.to_logits.bias[0] = float("nan")
    with pytest.raises(NonFiniteLossError, match=r"losses are not finite.*cross_entropy"):
        trainer.train_step()
    kept = load_file(Path(config.out) / "nonfinite-0000000.safetensors")
    assert kept["indices"].shape == (6, 2, 2)


def test_the_joint_text_encoder_is_trained_and_averaged(config: TrainConfig) -> None:
    trainer = Trainer(config, ALONE)
    before = {k: v.clone() for k, v in trainer.text.state_dict().items()}
    for _ in range(4):  # the cross-attention starts at zero: text has an effect from step 2 on
        trainer.train_step()
    assert not equal(before, trainer.text.state_dict())
    average = trainer.averaged()[1].state_dict()
    assert not equal(average, before) and not equal(average, trainer.text.state_dict())


def test_images_on_the_fly_train_like_latents(config: TrainConfig, captioned: Path) -> None:
    folder = DataConfig(kind=DataKind.folder, root=str(captioned), size=64)
    latents, images = Trainer(config, ALONE), Trainer(replace(config, data=folder), ALONE)
    a, b = latents.train_step().scalars["total"], images.train_step().scalars["total"]
    assert a == pytest.approx(b, rel=1e-3)


def test_published_weights_start_another_run(config: TrainConfig, tmp_path: Path) -> None:
    train(replace(config, publish_dtype=PublishDtype.float32))
    start = str(Path(config.out) / "checkpoint")
    finetune = replace(config, init_from=start, out=str(tmp_path / "finetune"))
    trainer = Trainer(finetune, ALONE)
    published = load_file(Path(start) / "model.safetensors")
    for key, value in trainer.learner.model.state_dict().items():
        assert torch.equal(value, published[key]), key
    for key, value in trainer.text.state_dict().items():
        assert torch.equal(value, published[f"text.{key}"]), key
    assert trainer.step == 0 and not trainer.optimizer.state
    wider = replace(config.model.generator, mlp_dim=128)
    with pytest.raises(UsageError, match=r"differs from the model .* model\.generator\.mlp_dim"):
        Trainer(replace(finetune, model=replace(config.model, generator=wider)), ALONE)
    # Dropout may differ, and another text encoder may not.
    dropout = replace(config.model.generator, attention_dropout=0.1)
    Trainer(replace(finetune, model=replace(config.model, generator=dropout)), ALONE)
    deeper = TextConfig(name=None, joint=JointTextConfig(depth=2, num_heads=2, vocabulary=64))
    with pytest.raises(UsageError, match=r"text\.joint\.depth"):
        Trainer(replace(finetune, model=replace(config.model, text=deeper)), ALONE)


def test_what_does_not_belong_together_is_refused(
    config: TrainConfig, store: Path, saved_tokenizer: Path
) -> None:
    odd = replace(config.tokenizer, codebook_size=128)
    with pytest.raises(UsageError, match=r"tokenizer_ckpt=.* differs .* codebook_size"):
        Trainer(replace(config, tokenizer=odd), ALONE)
    path = store / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["plan"] |= {"tokenizer_sha256": "d" * 64, "latents_sha256": None}
    path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="was encoded by tokenizer dddd"):
        Trainer(config, ALONE)


def test_weight_decay_spares_what_the_field_spares(config: TrainConfig) -> None:
    trainer = Trainer(config, ALONE)
    names = {id(p): name for name, p in trainer.learner.named_parameters()}
    decayed, kept = (
        {names[id(p)] for p in group["params"]}
        for group in make_optimizer(trainer.learner, config.optimizer).param_groups
    )
    assert "model.generator.blocks.0.attention.qkv.weight" in decayed
    assert "model.generator.to_logits.weight" in decayed
    for name in (
        "model.generator.embedding.weight",
        "model.generator.blocks.0.attention.qkv.bias",
        "model.head.blocks.0.fc1.weight",
        "text.encoder.embed_tokens.weight",
        "text.encoder.final_layer_norm.weight",
        "text.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
    ):
        assert name in kept, name
    assert decayed | kept == set(names.values())


def test_loss_weights_are_applied(config: TrainConfig) -> None:
    loss = LossConfig(cross_entropy=2.0, diffusion=0.5)
    row = Trainer(replace(config, loss=loss), ALONE).train_step().scalars
    expected = 2 * row["cross_entropy"] + 0.5 * row["diffusion"]
    assert row["total"] == pytest.approx(expected, rel=1e-5)


def test_head_and_trunk_can_be_clipped_apart(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together, one norm shrinks both; apart, each has its own, and the trunk's is what it was."""

    def gradients(clip: float, head_clip: float | None) -> tuple[Trainer, dict[str, float]]:
        optimizer = replace(config.optimizer, clip=clip, head_clip=head_clip)
        trainer = Trainer(replace(config, optimizer=optimizer), ALONE)
        for kept in ("step", "zero_grad"):
            monkeypatch.setattr(trainer.optimizer, kept, lambda **_: None)
        return trainer, trainer.train_step().scalars

    def norms(trainer: Trainer) -> tuple[float, float]:
        """Of trunk and head, as they are left for the optimizer."""
        parts: dict[bool, list[torch.Tensor]] = {False: [], True: []}
        for name, parameter in trainer.learner.named_parameters():
            if parameter.grad is not None:
                parts[name.startswith("model.head.")].append(parameter.grad.flatten())
        trunk, head = (float(torch.cat(parts[is_head]).norm()) for is_head in (False, True))
        return trunk, head

    free, whole = gradients(1e9, None)
    trunk, head = norms(free)
    assert whole["grad_norm"] == pytest.approx((trunk**2 + head**2) ** 0.5, rel=1e-5)
    assert "head_grad_norm" not in whole
    together, _ = gradients(whole["grad_norm"] / 4, None)
    assert norms(together) == pytest.approx((trunk / 4, head / 4), rel=1e-4)
    apart, logged = gradients(trunk * 2, head / 4)
    assert norms(apart) == pytest.approx((trunk, head / 4), rel=1e-4)
    assert (logged["grad_norm"], logged["head_grad_norm"]) == pytest.approx((trunk, head))


def test_a_detached_head_leaves_the_trunk_as_it_is_without_one(config: TrainConfig) -> None:
    """Bit for bit, after clipped steps; attached, the same head moves it."""

    def trunk(*, discrete_only: bool, detach: bool) -> dict[str, torch.Tensor]:
        arm = replace(
            config,
            model=replace(config.model, discrete_only=discrete_only),
            loss=LossConfig(detach=detach),
            optimizer=replace(config.optimizer, clip=0.1, head_clip=0.1),
        )
        trainer = Trainer(arm, ALONE)
        for _ in range(3):
            trainer.train_step()
        weights = trainer.learner.state_dict()
        return {name: w for name, w in weights.items() if not name.startswith("model.head.")}

    alone = trunk(discrete_only=True, detach=False)
    detached = trunk(discrete_only=False, detach=True)
    assert alone.keys() == detached.keys()
    assert all(torch.equal(alone[name], detached[name]) for name in alone)
    attached = trunk(discrete_only=False, detach=False)
    assert not all(torch.equal(alone[name], attached[name]) for name in alone)


def test_cached_text_trains_like_fresh_text(
    config: TrainConfig, frozen_t5: TextConfig, tmp_path: Path
) -> None:
    """Up to the cache's float16; the second time nothing is encoded."""
    config = replace(config, model=replace(config.model, text=frozen_t5))
    cached = replace(config, text_cache=str(tmp_path / "cache"))
    fresh, first, second = (Trainer(each, ALONE) for each in (config, cached, cached))
    expected = [fresh.train_step().scalars["total"] for _ in range(3)]
    found = [first.train_step().scalars["total"] for _ in range(3)]
    assert found == pytest.approx(expected, rel=1e-3)
    second.text.forward = None  # type: ignore[assignment]
    assert [second.train_step().scalars["total"] for _ in range(3)] == found


def test_recomputed_activations_give_the_same_gradients(config: TrainConfig) -> None:
    """With dropout, which must fall the same way twice."""
    generator = replace(config.model.generator, attention_dropout=0.3)
    config = replace(config, model=replace(config.model, generator=generator))
    kept = Trainer(config, ALONE)
    recomputed = Trainer(replace(config, activation_checkpointing=True), ALONE)
    for _ in range(3):
        assert kept.train_step().scalars == recomputed.train_step().scalars
    assert equal(kept.learner.state_dict(), recomputed.learner.state_dict())


def test_the_law_of_the_mask_is_a_setting_of_the_run_and_not_of_its_checkpoint(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    laws: list[Schedule] = []
    sample_randomness = DCAR.sample_randomness

    def watched(self: DCAR, *arguments: Any, mask_schedule: Schedule) -> Randomness:
        laws.append(mask_schedule)
        return sample_randomness(self, *arguments, mask_schedule=mask_schedule)

    monkeypatch.setattr(DCAR, "sample_randomness", watched)
    train(replace(config, steps=1, mask_schedule=Schedule.cosine))
    assert laws == [Schedule.cosine]
    assert json.loads((Path(config.out) / "config.json").read_text())["mask_schedule"] == "cosine"
    assert "mask_schedule" not in (Path(config.out) / "checkpoint/config.json").read_text()
