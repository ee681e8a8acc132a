"""Our generator against the published release's code, on the recorded cases."""

import json
import os
from pathlib import Path

import pytest
import torch
from einops import rearrange
from safetensors.torch import load_file

from dcar import DCAR, PRESETS
from dcar.config import Schedule
from dcar.masking import training_mask
from dcar.modules.transformer import position_table
from dcar.weights.release import convert_config, convert_tensors, renamed_keys
from dcht import CheckpointError

SHARED = Path(__file__).parents[2] / "shared" / "fixtures" / "release"
ROOT = Path(os.environ.get("RELEASE_FIXTURES", SHARED))
CASES = ROOT / "generator"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"no fixtures at {CASES}")


def case(name: str) -> dict[str, torch.Tensor]:
    path = CASES / f"{name}.safetensors"
    if not path.exists():
        pytest.skip(f"no case {name} at {CASES}")
    return load_file(path)


def sides(name: str) -> tuple[int, int]:
    """Height and width of the grid, which end the name of a case."""
    height, width = name.split("_")[-1].split("x")
    return int(height), int(width)


@pytest.fixture(scope="module")
def model() -> DCAR:
    model = DCAR(convert_config(json.loads((CASES / "config.json").read_text())["model"]))
    model.load_state_dict(convert_tensors(load_file(CASES / "weights.safetensors")), strict=True)
    return model.eval()


GRIDS = sorted(path.stem for path in CASES.glob("case_*.safetensors"))


@pytest.mark.parametrize("name", GRIDS)
@torch.no_grad()
def test_logits_hidden_and_every_block(model: DCAR, name: str) -> None:
    tensors = case(name)
    generator, config = model.generator, model.generator.config
    height, width = sides(name)
    ids = rearrange(tensors["input_ids"], "b (h w) -> b h w", h=height)
    text, mask = tensors["encoder_hidden_states"], tensors["encoder_attention_mask"]
    null = generator.drop_text(text, torch.ones(len(text), dtype=torch.bool))

    table = position_table(height, width, config.width, config.position_extent, torch.device("cpu"))
    torch.testing.assert_close(table, tensors["pos_embed"][0], atol=1e-6, rtol=0)
    for half, captions in (("cond", text), ("uncond", null)):
        projected = generator.caption(captions)
        torch.testing.assert_close(projected, tensors[f"caption_proj_{half}"], atol=5e-5, rtol=0)
        seen: list[torch.Tensor] = []
        hooks = [
            block.register_forward_hook(lambda _, __, output, seen=seen: seen.append(output))
            for block in generator.blocks
        ]
        logits, hidden = generator(ids, captions, mask)
        for hook in hooks:
            hook.remove()
        if half == "cond":
            for number, output in enumerate(seen):
                expected = tensors[f"cond_after_block_{number}"]
                torch.testing.assert_close(output, expected, atol=5e-5, rtol=0)
        torch.testing.assert_close(logits, tensors[f"logits_{half}"], atol=5e-5, rtol=0)
        torch.testing.assert_close(hidden, tensors[f"hidden_{half}"], atol=5e-5, rtol=0)
        once = generator(ids, context=generator.embed_text(captions, mask))
        assert torch.equal(once.logits, logits)


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("masking*.safetensors")))
def test_training_mask(model: DCAR, name: str) -> None:
    tensors = case(name)
    mask = training_mask(tensors["u_ratio"], tensors["u_perm"], Schedule.arccos)
    assert torch.equal(mask, tensors["masks"].bool())
    masked = tensors["input_tokens"].masked_fill(mask, model.generator.mask_id)
    assert torch.equal(masked, tensors["masked_tokens"])


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("diff_loss_*")))
@torch.no_grad()
def test_diffusion_loss_of_the_whole_model(model: DCAR, name: str) -> None:
    tensors = case(name)
    ids = rearrange(tensors["input_ids"], "b (h w) -> b h w", h=sides(name)[0])
    logits, hidden = model.generator(
        ids, tensors["encoder_hidden_states"], tensors["encoder_attention_mask"]
    )
    torch.testing.assert_close(logits, tensors["logits"], atol=5e-5, rtol=0)
    torch.testing.assert_close(hidden, tensors["hidden"], atol=5e-5, rtol=0)
    assert model.head is not None
    loss = model.head.loss(
        tensors["residual_features"], hidden, t=tensors["t"], noise=tensors["noise"]
    )
    torch.testing.assert_close(loss, tensors["diff_loss"], atol=0, rtol=1e-4)


def test_every_key_of_the_release_is_ours_with_its_shape() -> None:
    path = SHARED / "keys_dc_ar_512.json"
    if not path.exists():
        pytest.skip(f"no {path}")
    theirs = json.loads(path.read_text())["keys"]
    with torch.device("meta"):
        state = DCAR(PRESETS["dc_ar_512"]).state_dict()
    names = renamed_keys(theirs)
    assert len(theirs) == 573
    assert sorted(names.values()) == sorted(state)
    assert all(theirs[key][0] == list(state[ours].shape) for key, ours in names.items())


def test_a_key_renamed_by_hand_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"blocks\.0\.attn\.qvk\.weight"):
        renamed_keys(["blocks.0.attn.qvk.weight"])
