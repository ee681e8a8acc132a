from dataclasses import replace

import pytest
import torch

from dcar import DCAR, PRESETS, Generator
from dcar.config import GeneratorConfig
from dcar.modules.transformer import position_table

TINY = PRESETS["tiny"].generator


def inputs(config: GeneratorConfig, h: int = 2, w: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    indices = torch.randint(config.codebook_size + 1, (2, h, w), generator=generator)
    text = torch.randn(2, config.text_length, config.text_dim, generator=generator)
    mask = torch.arange(config.text_length) < torch.tensor([[3], [config.text_length]])
    return {"indices": indices, "text": text, "text_mask": mask}


def test_parameter_counts_of_the_paper() -> None:
    with torch.device("meta"):
        paper, release = DCAR(PRESETS["dcar_671m"]), DCAR(PRESETS["dc_ar_512"])

    def count(module: torch.nn.Module | None) -> int:
        assert module is not None
        return sum(parameter.numel() for parameter in module.parameters())

    assert count(paper.generator) == 634_942_336
    assert count(release.generator) == 635_071_360
    assert count(paper.head) == count(release.head) == 36_192_320
    assert round(count(paper) / 1e6) == 671  # Table 2
    assert all(tensor.is_meta for tensor in paper.state_dict().values())


def test_only_the_null_caption_is_a_buffer_and_positions_are_no_weights(model: DCAR) -> None:
    assert [name for name, _ in model.named_buffers()] == ["generator.null_text"]
    assert not any("pos" in name for name, _ in model.named_parameters())


@torch.no_grad()
def test_shapes_on_any_grid(model: DCAR) -> None:
    for grid in ((1, 1), (2, 3), (4, 4)):
        logits, hidden = model.generator(**inputs(TINY, *grid))
        n = grid[0] * grid[1]
        assert logits.shape == (2, n, TINY.codebook_size)
        assert hidden.shape == (2, n, TINY.width)


@torch.no_grad()
def test_flat_indices_are_a_square_grid(model: DCAR) -> None:
    given = inputs(TINY, 2, 2)
    flat = given | {"indices": given["indices"].flatten(1)}
    assert torch.equal(model.generator(**given).logits, model.generator(**flat).logits)
    with pytest.raises(ValueError, match="6 positions are no square"):
        model.generator(**(flat | {"indices": torch.zeros(2, 6, dtype=torch.long)}))


@torch.no_grad()
def test_text_context_is_computed_once_and_exact(model: DCAR) -> None:
    given = inputs(TINY)
    context = model.generator.embed_text(given["text"], given["text_mask"])
    assert len(context.keys) == TINY.depth
    once = model.generator(given["indices"], context=context)
    assert torch.equal(once.logits, model.generator(**given).logits)


@torch.no_grad()
def test_padding_has_no_effect_and_real_tokens_have(model: DCAR) -> None:
    given = inputs(TINY)
    before = model.generator(**given).logits
    changed = given["text"].clone()
    changed[0, 3:] = 7.0  # beyond the first caption's mask
    assert torch.allclose(model.generator(**(given | {"text": changed})).logits, before, atol=1e-5)
    changed[0, 0] = 7.0
    after = model.generator(**(given | {"text": changed})).logits
    assert not torch.allclose(after[0], before[0], atol=1e-3)
    assert torch.allclose(after[1], before[1], atol=1e-5)


def test_text_that_does_not_fit_is_refused(model: DCAR) -> None:
    given = inputs(TINY)
    with pytest.raises(ValueError, match=r"expected \(b, l, 16\) with l at most 8"):
        model.generator(given["indices"], torch.zeros(2, 9, 16), torch.ones(2, 9))
    with pytest.raises(ValueError, match="pass text and text_mask, or context"):
        model.generator(given["indices"])


def test_dropped_captions_become_the_null_caption(model: DCAR) -> None:
    given = inputs(TINY)
    dropped = model.generator.drop_text(given["text"], torch.tensor([True, False]))
    assert torch.equal(dropped[0], model.generator.null_text)
    assert torch.equal(dropped[1], given["text"][1])


def test_attention_dropout_is_for_training_only() -> None:
    generator = Generator(replace(TINY, attention_dropout=0.5))
    for block in generator.blocks:
        torch.nn.init.normal_(block.cross_attention.out.weight)  # type: ignore[union-attr]
    given = inputs(TINY)
    torch.manual_seed(0)
    with torch.no_grad():
        generator.train()
        assert not torch.equal(generator(**given).hidden, generator(**given).hidden)
        generator.eval()
        assert torch.equal(generator(**given).hidden, generator(**given).hidden)


def test_positions_cover_the_same_range_on_every_grid() -> None:
    device = torch.device("cpu")
    small, large = (position_table(side, side, 32, 16.0, device) for side in (8, 16))
    # Row and column 4 of 8 are where row and column 8 of 16 are.
    assert torch.allclose(small[4 * 8 + 4], large[8 * 16 + 8])
    # The first half of the channels is the column, sines before cosines.
    assert torch.allclose(small[1, :8], torch.sin(2.0 * 10000.0 ** -(torch.arange(8) / 8)))
    assert torch.allclose(small[8, 16:24], small[1, :8])


def test_positions_asked_for_by_a_sampler_serve_training() -> None:
    with torch.inference_mode():
        table = position_table(5, 7, 32, 16.0, torch.device("cpu"))
    assert not table.is_inference()
