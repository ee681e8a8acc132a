import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dcar.config import JointTextConfig, LossConfig, TextConfig
from dcar.pipeline import TextToImage
from dcar.train import Trainer, make_optimizer, train
from dcar.train_config import OptimizerConfig, PublishDtype, TrainConfig
from dcht import CheckpointError, UsageError
from dcht.training import NonFiniteLossError, load_resume


def weights(config: TrainConfig) -> dict[str, torch.Tensor]:
    return load_file(Path(config.out) / "checkpoint" / "model.safetensors")


def rows(config: TrainConfig) -> list[dict]:
    lines = (Path(config.out) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_run_logs_samples_and_publishes(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(config) == 0
    logged = rows(config)
    assert [row["step"] for row in logged] == [2, 4, 6, 8]
    needed = {"total", "cross_entropy", "diffusion", "accuracy", "grad_norm", "lr"}
    assert needed | {"sequences_per_second"} <= logged[0].keys()
    assert [path.name for path in (Path(config.out) / "samples").iterdir()] == [
        "prompts-0000008.png"
    ]
    pipe = TextToImage.from_pretrained(Path(config.out) / "checkpoint")
    assert pipe.size == (64, 64) and pipe.sampling == config.sampling
    assert pipe("a red apple").images[0].size == (64, 64)
    report = capsys.readouterr().err
    assert "12 images of 64 x 64 (4 tokens each), 15 captions" in report
    assert "2.0 steps an epoch" in report and "generator 0.03 M" in report


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_stopped_run_continues_as_if_it_had_not_been(
    config: TrainConfig, dropout: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = replace(config.model.generator, attention_dropout=dropout)
    config = replace(config, model=replace(config.model, generator=generator))
    whole = replace(config, out=str(tmp_path / "whole"))
    assert train(whole) == 0

    step = Trainer.train_step

    def interrupted(self: Trainer) -> dict[str, float]:
        if self.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", interrupted)
        assert train(config) == 130
    saved = load_resume(config.out)
    assert saved is not None and saved[0] == 4
    assert train(config) == 0
    assert equal(weights(config), weights(whole))
    ends = [load_resume(run.out) for run in (config, whole)]
    assert ends[0] is not None and ends[1] is not None
    assert equal(ends[0][1]["learner"], ends[1][1]["learner"])
    without = [
        [{k: v for k, v in row.items() if k not in ("time", "sequences_per_second")} for row in r]
        for r in (rows(config), rows(whole))
    ]
    assert without[0] == without[1]


def test_a_finished_run_is_left_as_it_is(config: TrainConfig) -> None:
    train(config)
    before = weights(config)
    assert train(config) == 0
    assert equal(weights(config), before)


def test_other_settings_need_another_folder_or_force(config: TrainConfig) -> None:
    train(replace(config, steps=4))
    other = replace(config, steps=4, optimizer=replace(config.optimizer, lr=1e-4))
    with pytest.raises(UsageError, match=r"other settings \(optimizer\.lr\)"):
        train(other)
    assert train(replace(other, force=True)) == 0
    assert train(replace(other, log_every=1, force=False)) == 0


def test_changed_data_is_noticed(config: TrainConfig, store: Path) -> None:
    train(replace(config, steps=4))
    shard = store / "shard-00000.jsonl"
    shard.write_text(shard.read_text().replace("red", "pink"))
    with pytest.raises(UsageError, match="is not the data that the run"):
        train(replace(config, steps=4))


def test_accumulation_is_the_whole_batch(config: TrainConfig) -> None:
    whole, parts = (Trainer(replace(config, accumulate=k)) for k in (1, 3))
    for _ in range(3):
        a, b = whole.train_step(), parts.train_step()
        assert a.keys() == b.keys()
        for name in ("total", "cross_entropy", "diffusion", "grad_norm"):
            assert a[name] == pytest.approx(b[name], rel=1e-4), name
    with pytest.raises(UsageError, match="batch_size 6 is not a multiple of accumulate 4"):
        replace(config, accumulate=4)


def test_one_batch_is_memorised(config: TrainConfig, store: Path) -> None:
    """With a caption of its own each, twelve images are known by heart after 150 steps."""
    captions = [f"{colour} {noun}" for colour in ("red", "blue", "green") for noun in "abcd"]
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
    trainer = Trainer(config)
    logged = [trainer.train_step() for _ in range(150)]
    assert logged[0]["cross_entropy"] > 3.5
    assert sum(row["cross_entropy"] for row in logged[-10:]) / 10 < 0.3
    assert sum(row["accuracy"] for row in logged[-10:]) / 10 > 0.9


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_batch(config: TrainConfig) -> None:
    Path(config.out).mkdir()
    trainer = Trainer(config)
    with torch.no_grad():
        trainer.learner.model.generator.to_logits.bias[0] = float("nan")
    with pytest.raises(NonFiniteLossError, match=r"losses are not finite.*cross_entropy"):
        trainer.train_step()
    kept = load_file(Path(config.out) / "nonfinite-0000000.safetensors")
    assert kept["indices"].shape == (6, 2, 2)


def test_the_joint_text_encoder_is_trained_and_averaged(config: TrainConfig) -> None:
    trainer = Trainer(config)
    before = {k: v.clone() for k, v in trainer.text.state_dict().items()}
    for _ in range(4):  # the cross-attention starts at zero: text has an effect from step 2 on
        trainer.train_step()
    assert not equal(before, trainer.text.state_dict())
    average = trainer.averaged()[1].state_dict()
    assert not equal(average, before) and not equal(average, trainer.text.state_dict())


def test_a_frozen_t5_stays_out_of_the_checkpoint(
    config: TrainConfig, tmp_path: Path, text: torch.nn.Module
) -> None:
    from transformers import T5Config, T5EncoderModel

    folder = tmp_path / "t5"
    shape = T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
                     use_cache=False)  # fmt: skip
    T5EncoderModel(shape).save_pretrained(folder)
    text.tokenizer.save_pretrained(folder)  # type: ignore[operator, union-attr]
    frozen = TextConfig(name=str(folder), joint=None)
    config = replace(config, model=replace(config.model, text=frozen), steps=2)
    assert train(config) == 0
    assert {key.split(".")[0] for key in weights(config)} == {"generator", "head"}
    assert TextToImage.from_pretrained(Path(config.out) / "checkpoint")("a dog").images


def test_discrete_only_trains_and_samples(config: TrainConfig) -> None:
    config = replace(config, model=replace(config.model, discrete_only=True), steps=2)
    assert train(config) == 0
    assert not any(key.startswith("head") for key in weights(config))
    assert TextToImage.from_pretrained(Path(config.out) / "checkpoint")("a dog").images


def test_images_on_the_fly_train_like_latents(config: TrainConfig, captioned: Path) -> None:
    from dcar.train_config import DataConfig, DataKind

    folder = DataConfig(kind=DataKind.folder, root=str(captioned), size=64)
    latents, images = Trainer(config), Trainer(replace(config, data=folder))
    assert latents.train_step()["total"] == pytest.approx(images.train_step()["total"], rel=1e-3)


def test_published_weights_start_another_run(config: TrainConfig, tmp_path: Path) -> None:
    train(replace(config, publish_dtype=PublishDtype.float32))
    start = str(Path(config.out) / "checkpoint")
    finetune = replace(config, init_from=start, out=str(tmp_path / "finetune"))
    trainer = Trainer(finetune)
    published = weights(config)
    for key, value in trainer.learner.model.state_dict().items():
        assert torch.equal(value, published[key]), key
    for key, value in trainer.text.state_dict().items():
        assert torch.equal(value, published[f"text.{key}"]), key
    assert trainer.step == 0 and not trainer.optimizer.state
    wider = replace(config.model.generator, mlp_dim=128)
    with pytest.raises(UsageError, match=r"differs from the model .* generator\.mlp_dim"):
        Trainer(replace(finetune, model=replace(config.model, generator=wider)))
    # Dropout may differ, and another text encoder may not.
    dropout = replace(config.model.generator, attention_dropout=0.1)
    Trainer(replace(finetune, model=replace(config.model, generator=dropout)))
    deeper = TextConfig(name=None, joint=JointTextConfig(depth=2, num_heads=2, vocabulary=64))
    with pytest.raises(UsageError, match=r"text\.joint\.depth"):
        Trainer(replace(finetune, model=replace(config.model, text=deeper)))


def test_what_does_not_belong_together_is_refused(
    config: TrainConfig, store: Path, saved_tokenizer: Path
) -> None:
    odd = replace(config.tokenizer, codebook_size=128)
    with pytest.raises(UsageError, match=r"tokenizer_ckpt=.* differs .* codebook_size"):
        Trainer(replace(config, tokenizer=odd))
    plan = store / "manifest.json"
    plan.write_text(plan.read_text().replace(json.loads(plan.read_text())["plan"][
        "tokenizer_sha256"], "d" * 64))  # fmt: skip
    with pytest.raises(CheckpointError, match="was encoded by tokenizer dddd"):
        Trainer(config)


def test_weight_decay_spares_what_the_field_spares(config: TrainConfig) -> None:
    trainer = Trainer(config)
    names = {id(p): name for name, p in trainer.learner.named_parameters()}
    decayed, kept = (
        {names[id(p)] for p in group["params"]}
        for group in make_optimizer(trainer.learner, config).param_groups
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
    row = Trainer(replace(config, loss=loss)).train_step()
    expected = 2 * row["cross_entropy"] + 0.5 * row["diffusion"]
    assert row["total"] == pytest.approx(expected, rel=1e-5)
