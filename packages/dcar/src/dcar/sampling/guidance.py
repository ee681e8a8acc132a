"""Classifier-free guidance: (1 + s) conditional - s unconditional, in the sampler and the head.

Where s is 0 nothing unconditional is computed. The rows of both branches are stacked, conditional
first. Shapes: b images, n positions, k codes.
"""

from __future__ import annotations

from typing import assert_never

import torch
from einops import rearrange
from torch import Tensor

from dcar.config import Guidance, HeadGuidance, SamplingConfig
from dcar.modules.diffusion_head import guide
from dcar.sampling.models import Context, MaskedModel


def step_scale(config: SamplingConfig, step: int) -> float:
    """The scale s of the logits in `step` (from 0); 0 where guidance is off."""
    match config.guidance:
        case Guidance.constant:
            return config.cfg_scale
        case Guidance.linear:
            return config.cfg_scale * step / config.num_steps
        case Guidance.interval:
            left = (config.num_steps - step) / config.num_steps
            inside = config.interval_low <= left <= config.interval_high
            return config.cfg_scale if inside else 0.0
        case _:
            assert_never(config.guidance)


def head_scale(config: SamplingConfig) -> float:
    """The scale s of the residual head.

    It is not scaled with the steps, being after the last one; but it is 0 if the last step was not
    guided, for then there are no unconditional hidden states.
    """
    match config.head_guidance:
        case HeadGuidance.same:
            scale = config.cfg_scale
        case HeadGuidance.off:
            scale = 0.0
        case HeadGuidance.release:
            scale = 0.0 if config.cfg_scale == 1 else config.cfg_scale
        case _:
            assert_never(config.head_guidance)
    return scale if last_step_scale(config) else 0.0


def last_step_scale(config: SamplingConfig) -> float:
    """The scale s of the logits in the last step, whose hidden states condition the residual."""
    return step_scale(config, config.num_steps - 1)


def guidance_context(
    model: MaskedModel[Context], text: Tensor, text_mask: Tensor, *, guided: bool
) -> Context:
    """The text's context; with guidance the null caption's rows after it.

    The null half keeps the prompt's own mask (PixArt-alpha), so it depends on the prompt's length.
    """
    if guided:
        everything = torch.ones(len(text), dtype=torch.bool, device=text.device)
        text = torch.cat([text, model.drop_text(text, everything)])
        text_mask = torch.cat([text_mask, text_mask])
    return model.embed_text(text, text_mask)


def guided_logits(
    model: MaskedModel[Context], hidden: Tensor, rows: Tensor, scale: float
) -> Tensor:
    """Logits (p, k), in fp32, of positions `rows` (p,) among the b n of all images.

    `hidden` is (b, n, d), or with guidance (2b, n, d), the conditional rows first.
    """
    branches = hidden.chunk(2) if scale else (hidden,)
    picked = [rearrange(branch, "b n d -> (b n) d")[rows] for branch in branches]
    logits = model.predict(torch.cat(picked)).float()
    if not scale:
        return logits
    conditional, unconditional = logits.chunk(2)
    return guide(conditional, unconditional, scale)
