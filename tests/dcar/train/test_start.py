import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dcar.config import PRESETS, DCARConfig, Rounding
from dcar.data import open_data
from dcar.modules.text import TextEncoder
from dcar.train import train
from dcar.train.start import layouts_of, load_image_tokenizer, start_weights
from dcar.train_config import TrainConfig
from dcar.weights.pretrained import load_pretrained
from dcht import PRESETS as TOKENIZERS
from dcht import CheckpointError, UsageError
from dcht.ranges import WEIGHTLESS, marked


def words_of(folder: str | Path) -> TextEncoder:
    """The small text encoder of a checkpoint."""
    text = load_pretrained(folder).text
    assert isinstance(text, TextEncoder)
    return text


def with_captions(store: Path, captions: list[str]) -> None:
    """Give the images of a store other captions, in turn."""
    shard = store / "shard-00000.jsonl"
    rows = [json.loads(line) for line in shard.read_text().splitlines()]
    for number, row in enumerate(rows):
        row |= {"caption": captions[number % len(captions)], "captions": []}
    shard.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_finetune_learns_and_names_the_words_it_lacks(
    config: TrainConfig, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(replace(config, steps=2))
    start = Path(config.out) / "checkpoint"
    before = words_of(start)
    with_captions(store, ["a red zebra", "an okapi and a cat"])
    second = replace(config, init_from=str(start), out=str(tmp_path / "second"), steps=2)
    capsys.readouterr()
    assert train(second)
    said = capsys.readouterr().err
    assert f"3 of 7 words are new to {start} and are learned from scratch: an okapi zebra" in said
    after = words_of(Path(second.out) / "checkpoint")
    assert after.unknown_words("an okapi and a zebra") == []
    assert after.tokenizer.get_vocab_size() == before.tokenizer.get_vocab_size() + 3
    assert torch.equal(after.tokenize(["a red cat"]).ids, before.tokenize(["a red cat"]).ids)
    # The same words at the second start: nothing is new.
    third = replace(second, init_from=str(Path(second.out) / "checkpoint"))
    data = open_data(third.data, load_image_tokenizer(third))
    capsys.readouterr()
    start_weights(third, data)
    assert "new to" not in capsys.readouterr().err


def test_words_beyond_the_vocabulary_are_named(
    config: TrainConfig, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(replace(config, steps=1))
    many = [f"word{number:02d}" for number in range(60)]
    with_captions(store, [" ".join(many[part : part + 5]) for part in range(0, 60, 5)])
    start = str(Path(config.out) / "checkpoint")
    second = replace(config, init_from=start, out=str(tmp_path / "second"))
    known = words_of(start).tokenizer.get_vocab_size()
    capsys.readouterr()
    start_weights(second, open_data(second.data, load_image_tokenizer(second)))
    said = capsys.readouterr().err
    assert f"{64 - known} of 60 words are new" in said and "word19 and" in said
    assert f"{60 - 64 + known} words stay unknown, the vocabulary of 64 being full" in said


def test_a_text_encoder_can_be_given_positions(config: TrainConfig, tmp_path: Path) -> None:
    """They have no weights, so a checkpoint without them starts a run with them."""
    assert train(replace(config, steps=1))
    start = Path(config.out) / "checkpoint"
    assert config.model.text.joint is not None
    text = replace(config.model.text, joint=replace(config.model.text.joint, positions=True))
    model = replace(config.model, text=text)
    second = replace(config, model=model, init_from=str(start), out=str(tmp_path / "second"))
    _, placed = start_weights(second, open_data(second.data, load_image_tokenizer(second)))
    before = load_pretrained(start).text
    tokens = before.tokenize(["a cat and a cat"])
    assert all(torch.equal(placed.state_dict()[k], v) for k, v in before.state_dict().items())
    assert not torch.allclose(placed(*tokens), before(*tokens), atol=0.1)
    assert train(replace(second, steps=1))
    again = load_pretrained(Path(second.out) / "checkpoint").text
    assert again.encoder.positions  # type: ignore[union-attr]


def composed(**settings: object) -> SimpleNamespace:
    return SimpleNamespace(**{"init_from": "scratch", "tokenizer_ckpt": None, **settings})


def test_layouts_are_those_of_the_checkpoints(
    checkpoint: Path, saved_tokenizer: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = replace(TOKENIZERS["small_deep"], residual_std=None)
    assert layouts_of(composed()) == {"tokenizer": small}
    given = layouts_of(composed(tokenizer_ckpt=str(saved_tokenizer)))
    assert given == {"tokenizer": TOKENIZERS["tiny"]}
    bundled = layouts_of(composed(init_from="bundled"))
    assert bundled["tokenizer"] == small and bundled["tokenizer_ckpt"] is None
    assert bundled["model"].generator.width == PRESETS["small"].generator.width
    # A generator names the tokenizer that it was trained with.
    monkeypatch.chdir(tmp_path)
    found = layouts_of(composed(init_from=str(checkpoint)))
    assert found["sampling"] == load_pretrained(checkpoint).config.sampling
    assert found["rounding"] is Rounding.nearest
    assert found["model"] == PRESETS["tiny"] and found["tokenizer"] == TOKENIZERS["tiny"]
    assert Path(found["tokenizer_ckpt"]).samefile(saved_tokenizer)
    with pytest.raises(CheckpointError):
        layouts_of(composed(tokenizer_ckpt="./nowhere"))


def test_advice_names_the_preset(config: TrainConfig) -> None:
    with pytest.raises(
        UsageError, match=r"tokenizer_ckpt=None differs .*; choose tokenizer=small_deep"
    ):
        load_image_tokenizer(replace(config, tokenizer_ckpt=None))
    odd = replace(config.model.head, latent_channels=16)
    with pytest.raises(UsageError, match=r"head\.latent_channels is 16, and 8 in the image"):
        load_image_tokenizer(replace(config, model=replace(config.model, head=odd)))
    data = open_data(config.data, load_image_tokenizer(config))
    with pytest.raises(UsageError, match=r"init_from=bundled differs .* model\.generator\.depth, "):
        start_weights(replace(config, init_from="bundled"), data)


def test_what_shapes_the_weights_is_said_at_the_field(checkpoint: Path, config: TrainConfig):
    """Training settings may be others than the checkpoint's; each setting of a layer may not."""
    data = open_data(config.data, load_image_tokenizer(config))
    layout = PRESETS["tiny"]
    joint = layout.text.joint
    assert joint is not None
    assert marked(DCARConfig, WEIGHTLESS) == {
        "attention_dropout", "cond_dropout", "fully_masked", "batch_mul", "residual_std", "clip",
        "positions", "vocabulary", "names",
    }  # fmt: skip
    trains = replace(
        layout,
        generator=replace(
            layout.generator, attention_dropout=0.2, cond_dropout=0.3, fully_masked=0.5
        ),
        head=replace(layout.head, batch_mul=3, residual_std=0.5, clip=None),
        text=replace(layout.text, joint=replace(joint, positions=True, vocabulary=99)),
    )
    run = replace(config, init_from=str(checkpoint))
    model, _ = start_weights(replace(run, model=trains), data)
    assert model.config == trains
    for part, name, value in (
        ("generator", "qk_norm", True),
        ("generator", "position_extent", 8.0),
        ("head", "depth", 3),
        ("text", "sees_mask", False),
    ):
        odd = replace(layout, **{part: replace(getattr(layout, part), **{name: value})})
        with pytest.raises(UsageError, match=rf"in model\.{part}\.{name}; leave these and model="):
            start_weights(replace(run, model=odd), data)
