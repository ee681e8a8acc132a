"""Our sampler against the published release's code: every step of the recorded runs."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import rearrange
from safetensors import safe_open
from safetensors.torch import load_file

from dcar import DCAR
from dcar.config import Guidance, SamplingConfig, with_preset
from dcar.modules.diffusion_head import HeadNoise
from dcar.sampler import Step, StepNoise, sample_residual, unmask
from dcar.weights.release import convert_config, convert_tensors
from dcht import Tokenizer, TokenizerConfig
from dcht.config import Act, Block, CoderConfig, Norm
from dcht.convert.keys import Family
from dcht.convert.keys import convert_tensors as convert_tokenizer_tensors
from dcht.images import to_pil

SHARED = Path(__file__).parents[2] / "shared" / "fixtures" / "release"
ROOT = Path(os.environ.get("RELEASE_FIXTURES", SHARED))
CASES = ROOT / "sampler"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"no fixtures at {CASES}")

RUNS = sorted(path.stem for path in CASES.glob("*.safetensors") if not path.stem.endswith("_image"))


class Run:
    """A recorded run with our settings for it."""

    def __init__(self, name: str) -> None:
        path = CASES / f"{name}.safetensors"
        if not path.exists():
            pytest.skip(f"no case {name} at {CASES}")
        self.tensors = load_file(path)
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        self.side = int(metadata["grid"])
        self.config = replace(
            with_preset(SamplingConfig(), "release"),
            num_steps=int(metadata["num_sample_steps"]),
            cfg_scale=float(metadata["guidance_scale"]),
            guidance=Guidance(metadata["guidance_decay"]),
            temperature=float(metadata["randomize_temperature"]),
            num_diffusion_steps=int(metadata["diffusion_steps"]),
            logit_annealing=metadata["softmax_temperature_annealing"] == "True",
        )

    def steps(self, model: DCAR, images: slice = slice(None)) -> list[Step]:
        tensors = self.tensors
        noise = [
            StepNoise(token[images], confidence[images])
            for token, confidence in zip(tensors["u_token"], tensors["u_confidence"], strict=True)
        ]
        start = tensors.get("init_image_tokens")
        if start is not None:
            start = rearrange(start[images], "b (h w) -> b h w", h=self.side)
        return list(
            unmask(
                model.generator,
                tensors["encoder_hidden_states"][images],
                tensors["encoder_attention_mask"][images],
                grid=(self.side, self.side),
                config=self.config,
                noise=noise,
                start=start,
            )
        )


@pytest.fixture(scope="module")
def model() -> DCAR:
    folder = ROOT / "generator"
    model = DCAR(convert_config(json.loads((folder / "config.json").read_text())["model"]))
    model.load_state_dict(convert_tensors(load_file(folder / "weights.safetensors")), strict=True)
    return model.eval()


@pytest.mark.parametrize("name", [name for name in RUNS if not name.startswith("quirk")])
@torch.no_grad()
def test_every_step_and_the_residual(model: DCAR, name: str) -> None:
    run = Run(name)
    tensors, mask_id = run.tensors, model.generator.mask_id
    steps = run.steps(model)
    for number, step in enumerate(steps):
        last = number + 1 == len(steps)
        ids = rearrange(step.indices, "b h w -> b (h w)")
        known = tensors["ids_in"][number] != mask_id
        assert torch.equal(rearrange(step.candidates, "b h w -> b (h w)"), ~known)
        expected = tensors["logits_guided"][number][~known]
        torch.testing.assert_close(step.logits, expected, atol=1e-3, rtol=0)
        sampled = rearrange(step.sampled, "b h w -> b (h w)")
        expected = torch.where(known, tensors["ids_in"][number], tensors["sampled_ids"][number])
        assert torch.equal(sampled, expected), f"drawn ids of step {number + 1}"
        assert torch.equal(ids, tensors["ids_out"][number]), f"ids after step {number + 1}"
        assert torch.equal(ids == mask_id, tensors["mask_out"][number].bool())
        if not last:
            assert (ids == mask_id).sum(dim=1).unique().tolist() == [
                int(tensors["mask_len"][number])
            ]
    final = rearrange(steps[-1].indices, "b h w -> b (h w)")
    assert torch.equal(final, tensors["final_ids"])
    assert not (final == mask_id).any()
    torch.testing.assert_close(steps[-1].hidden, tensors["latents_last_forward"], atol=5e-5, rtol=0)

    assert model.head is not None
    images = len(final)
    start = rearrange(tensors["diff_init_noise"], "(b n) c -> b n c", b=images)
    step_noise = tensors["diff_step_noise"][:, : images * run.side**2]
    residual = sample_residual(
        model.head,
        steps[-1].hidden,
        config=run.config,
        noise=HeadNoise(start, rearrange(step_noise, "s (b n) c -> s b n c", b=images)),
    )
    if "init_mask" in tensors:
        given = rearrange(tensors["init_mask"].bool(), "b n -> b n 1")
        residual = torch.where(given, tensors["init_residual_features"], residual)
    # In fp32 the reference itself is up to 1.6e-4 from the same steps in float64, and processors
    # round apart: few may differ by so much, and all together hardly at all.
    torch.testing.assert_close(residual, tensors["residual"], atol=6e-4, rtol=0)
    assert (residual - tensors["residual"]).abs().mean() < 1e-5


@pytest.mark.parametrize("name", [name for name in RUNS if name.startswith("quirk")])
@torch.no_grad()
def test_unequal_masks_in_one_batch_equal_single_edits(model: DCAR, name: str) -> None:
    run = Run(name)
    together = run.steps(model)[-1].indices
    start = rearrange(run.tensors["init_image_tokens"], "b (h w) -> b h w", h=run.side)
    known = start != model.generator.mask_id
    assert torch.equal(together[known], start[known])
    for image in range(len(together)):
        alone = run.steps(model, slice(image, image + 1))[-1].indices
        assert torch.equal(alone, together[image : image + 1])


def image_tokenizer() -> Tokenizer:
    """The tokenizer of the fixtures, as ours."""
    folder = ROOT / "tokenizer"
    settings = json.loads((folder / "config.json").read_text())

    def coder(network: dict[str, Any]) -> CoderConfig:
        blocks = {"ResBlock": Block.RES, "EViT_GLU": Block.EVIT}
        norms, acts = (
            value if isinstance(value, list) else [value] * len(network["width_list"])
            for value in (network["norm"], network["act"])
        )
        return CoderConfig(
            widths=network["width_list"],
            depths=network["depth_list"],
            blocks=[blocks[name] for name in network["block_type"]],
            norms=[Norm(name) for name in norms],
            acts=[Act(name) for name in acts],
            output_norm=Norm(network["out_norm"] or "ln2d"),
        )

    config = TokenizerConfig(
        encoder=coder(settings["network"]["encoder"]),
        decoder=coder(settings["network"]["decoder"]),
        latent_channels=settings["codebook_embed_dim"],
        codebook_size=settings["codebook_size"],
    )
    tokenizer = Tokenizer(config)
    tensors = load_file(folder / "weights.safetensors")
    converted = convert_tokenizer_tensors(tensors, config, Family.EFFICIENTVIT)
    tokenizer.load_state_dict(converted, strict=True)
    return tokenizer.eval()


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("*_image.safetensors")))
@torch.no_grad()
def test_image_of_a_run(name: str) -> None:
    """The first image of a run, decoded; the release truncates to 8 bits where we round."""
    run, expected = Run(name.removesuffix("_image")), load_file(CASES / f"{name}.safetensors")
    tokenizer = image_tokenizer()
    indices = rearrange(run.tensors["final_ids"][:1], "b (h w) -> b h w", h=run.side)
    residual = rearrange(run.tensors["residual"][:1], "b (h w) c -> b c h w", h=run.side)
    decoded = tokenizer.decode(tokenizer.lookup(indices) + residual)
    torch.testing.assert_close(decoded, expected["decoded_raw"], atol=1e-4, rtol=0)
    image = to_pil(decoded[0] - 1 / 255)
    ours = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    theirs = rearrange(expected["image_uint8"][0], "c h w -> (h w c)")
    difference = (ours.int() - theirs.int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() <= 1e-3
