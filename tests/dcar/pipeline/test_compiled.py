"""A compiled pipeline beside the plain one."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from dcar.modules.diffusion_head import DiffusionHead
from dcar.pipeline import TextToImage
from dcar.sampler import sample_head_noise
from dcht.errors import UsageError


@pytest.mark.slow  # the C++ compiler takes half a minute
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_pipeline_draws_what_the_plain_one_draws(pipe: TextToImage) -> None:
    plain, fast = pipe, copy.deepcopy(pipe).compile()
    keys = set(plain.model.state_dict()) | set(plain.tokenizer.state_dict())
    assert keys == set(fast.model.state_dict()) | set(fast.tokenizer.state_dict())
    generator = plain.model.generator
    text = torch.randn(2, 4, generator.config.text_dim)
    context = generator.embed_text(text, torch.ones(2, 4))
    indices = torch.randint(generator.mask_id + 1, (2, 2, 3))
    with torch.inference_mode():
        hidden = generator.encode(indices, context)
        found = fast.model.generator.encode(indices, context)
        torch.testing.assert_close(found, hidden, rtol=1e-4, atol=1e-4)
        head, quick = plain.model.head, fast.model.head
        assert isinstance(head, DiffusionHead) and isinstance(quick, DiffusionHead)
        sources = [torch.Generator().manual_seed(0)]
        noise = sample_head_noise(sources, head, 6, plain.sampling)
        residual = head.sample(hidden, 3, 1.0, noise=noise)
        found = quick.sample(hidden, 3, 1.0, noise=noise)
        torch.testing.assert_close(found, residual, rtol=1e-4, atol=1e-4)
        latent = torch.randn(1, plain.tokenizer.config.latent_channels, 2, 3)
        found, pixels = fast.tokenizer.decode(latent), plain.tokenizer.decode(latent)
        torch.testing.assert_close(found, pixels, rtol=1e-4, atol=1e-4)
    result, expected = (each("a red apple", num_images=2) for each in (fast, plain))
    assert torch.equal(result.indices, expected.indices)
    for image, other in zip(result.images, expected.images, strict=True):
        assert np.abs(np.asarray(image, float) - np.asarray(other, float)).max() <= 1


def test_without_a_compiler_it_is_one_line(
    pipe: TextToImage,
) -> None:
    from torch._inductor import config

    # torch's own way: pytest would take the setting away in place of giving it back.
    missing = config.patch({"cpp.cxx": ("no-such-compiler",)})
    with missing, pytest.raises(UsageError, match="needs a C\\+\\+ compiler, and none was found"):
        pipe.compile()
    assert "run_blocks" not in vars(pipe.model.generator)
