from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dcar.config import PRESETS
from dcar.model import DCAR
from dcar.train import train
from dcar.train.lora import add_lora, merge_lora
from dcar.train_config import LoraConfig, TrainConfig
from dcht import UsageError

SETTINGS = LoraConfig(rank=2, scale=1.5)


def adapted(model: DCAR) -> DCAR:
    """With matrices that have learned something."""
    add_lora(model, SETTINGS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return model


def test_nothing_changes_at_first_and_only_the_matrices_train(model: DCAR) -> None:
    indices, text = torch.randint(64, (1, 2, 3)), torch.randn(1, 8, 16)
    mask = torch.ones(1, 8, dtype=torch.bool)
    before = model.generator(indices, text, mask).logits
    add_lora(model, SETTINGS)
    assert torch.equal(model.generator(indices, text, mask).logits, before)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained and all(".lora_A." in name or ".lora_B." in name for name in trained)
    layers = {name.split(".lora_")[0] for name in trained}
    assert "generator.blocks.1.cross_attention.kv" in layers
    assert any(name.startswith("head.blocks.0.") for name in layers)
    assert not any("embedding" in name or "to_logits" in name for name in layers)


@torch.no_grad()
def test_merged_weights_do_the_same_under_the_usual_names(model: DCAR) -> None:
    indices, text = torch.randint(64, (1, 2, 3)), torch.randn(1, 8, 16)
    mask = torch.ones(1, 8, dtype=torch.bool)
    plain = model.generator(indices, text, mask).logits
    expected = adapted(model).generator(indices, text, mask).logits
    assert not torch.allclose(expected, plain, atol=1e-2)
    merged = DCAR(PRESETS["tiny"]).eval()
    merged.load_state_dict(merge_lora(model.state_dict(), SETTINGS), strict=True)
    assert torch.allclose(merged.generator(indices, text, mask).logits, expected, atol=1e-5)
    again = merge_lora(merged.state_dict(), SETTINGS)
    assert all(torch.equal(again[key], value) for key, value in merged.state_dict().items())


def test_a_run_with_lora_publishes_a_plain_checkpoint(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = replace(config, steps=2)
    assert train(first)
    start = str(Path(config.out) / "checkpoint")
    second = replace(
        config, init_from=start, out=str(tmp_path / "lora"), lora=SETTINGS, steps=4, save_every=2
    )
    capsys.readouterr()
    assert train(second)
    old, new = (load_file(Path(run.out) / "checkpoint" / "model.safetensors")
                for run in (first, second))  # fmt: skip
    assert old.keys() == new.keys()
    changed = {key for key in old if not torch.equal(old[key], new[key])}
    assert "generator.blocks.0.mlp.fc1.weight" in changed
    assert "generator.embedding.weight" not in changed
    assert "generator.blocks.0.mlp.fc1.bias" not in changed
    # The small text encoder trains with it, whole.
    assert any(key.startswith("text.") for key in changed)


def test_what_lora_cannot_do(config: TrainConfig) -> None:
    with pytest.raises(UsageError, match=r"lora\.rank=2 has nothing to adapt"):
        train(replace(config, lora=SETTINGS))
    with pytest.raises(UsageError, match=r"lora\.rank is -1"):
        LoraConfig(rank=-1)
