"""The small T5 against transformers' own."""

import copy

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from dcar.modules.t5 import BUCKETS, T5Encoder, relative_buckets, sin_cos_positions
from dcar.modules.text import TextEncoder


def both(
    *, width: int = 24, depth: int = 2, num_heads: int = 3
) -> tuple[T5Encoder, T5EncoderModel]:
    """Ours and transformers', with unequal random weights."""
    config = T5Config(
        vocab_size=40, d_model=width, d_kv=width // num_heads, d_ff=4 * width, num_layers=depth,
        num_heads=num_heads, dropout_rate=0.0, use_cache=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours = T5Encoder(vocabulary=40, width=width, depth=depth, num_heads=num_heads)
        return ours, T5EncoderModel(config).eval()


@pytest.mark.parametrize("length", [5, 200])
@pytest.mark.parametrize("num_heads", [3, 5])
def test_the_same_weights_give_the_same_embeddings(length: int, num_heads: int) -> None:
    ours, theirs = both(num_heads=num_heads)
    theirs.encoder.load_state_dict(ours.state_dict())
    ids = torch.randint(0, 40, (2, length), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    for seen in (None, mask):
        expected = theirs(input_ids=ids, attention_mask=seen).last_hidden_state
        found = ours(ids, seen).last_hidden_state
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_random_weights_are_spread_as_transformers_spreads_them() -> None:
    ours, theirs = both(width=96, depth=1)
    reference = dict(theirs.encoder.named_parameters())
    for name, parameter in ours.named_parameters():
        wanted = reference.pop(name)
        assert parameter.shape == wanted.shape, name
        assert torch.allclose(parameter.std(), wanted.std(), rtol=0.2), name
        assert torch.allclose(parameter.mean(), wanted.mean(), atol=0.2), name
    assert reference == {}


def test_buckets_are_exact_nearby_and_one_far_away() -> None:
    buckets = relative_buckets(300, torch.device("cpu"))
    half = BUCKETS // 2
    assert buckets[8, :17].tolist() == [8, 7, 6, 5, 4, 3, 2, 1, 0, *range(half + 1, half + 9)]
    assert buckets[0, 128:].unique().tolist() == [BUCKETS - 1]
    assert buckets[299, :172].unique().tolist() == [half - 1]


@torch.no_grad()
def test_half_precision_is_close_and_keeps_the_wide_layer(text: TextEncoder) -> None:
    tokens = text.tokenize(["a red apple", "two green cars"])
    expected = text(*tokens)[tokens.mask]
    for dtype, tolerance in ((torch.float16, 2e-2), (torch.bfloat16, 1e-1)):
        cast = copy.deepcopy(text).to(dtype)
        found = cast(*tokens)
        assert found.dtype == dtype
        torch.testing.assert_close(found[tokens.mask].float(), expected, atol=tolerance, rtol=0)
    kept = {p.dtype for n, p in copy.deepcopy(text).half().named_parameters() if ".wo." in n}
    assert kept == {torch.float32}


def test_positions_tell_the_order_of_words_and_need_no_weights() -> None:
    """One token repeated: without positions every embedding is nearly the same."""
    plain, _ = both()
    placed = T5Encoder(vocabulary=40, width=24, depth=2, num_heads=3, positions=True)
    placed.load_state_dict(plain.state_dict())
    ids = torch.full((1, 6), 7)
    spreads = [m(ids).last_hidden_state.std(dim=1).mean() for m in (plain, placed)]
    assert spreads[1] > 20 * spreads[0]


def test_no_two_positions_are_alike() -> None:
    table = sin_cos_positions(120, 128, torch.device("cpu"))
    distances = torch.cdist(table, table) + 10 * torch.eye(120)
    assert distances.min() > 0.5
    assert table.pow(2).sum(dim=1).allclose(torch.full((120,), 64.0))
