"""Weights that are laid out once: the same products, whatever becomes of the weights."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dcar.modules.packed import Linear, _types, gelu, laid_out, packed_flops

only_x86 = pytest.mark.skipif(not _types(), reason="this processor or torch packs no weights")


def pair() -> tuple[Linear, nn.Linear]:
    torch.manual_seed(0)
    packed, plain = Linear(64, 96), nn.Linear(64, 96)
    plain.load_state_dict(packed.state_dict())
    return packed, plain


def compared(packed: Linear, plain: nn.Linear, x: Tensor) -> None:
    with torch.inference_mode(), laid_out(packed):
        torch.testing.assert_close(packed(x), plain(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(3, 7, 64),
        torch.randn(64),
        torch.randn(1000, 64),
        torch.randn(64, 5).T,
        torch.randn(3, 8, 64)[:, ::2],
        torch.randn(2, 128)[:, 64:],
        torch.randn(0, 64),
    ],
    ids=["three axes", "one row", "many", "transposed", "every second", "half a row", "none"],
)
def test_it_agrees_with_the_plain_layer(x: Tensor) -> None:
    compared(*pair(), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_its_gelu_is_that_of_the_plain_layer(dtype: torch.dtype) -> None:
    packed, plain = (layer.to(dtype) for layer in pair())
    x = torch.randn(3, 64).to(dtype)
    exact = nn.functional.gelu(plain.double()(x.double()), approximate="tanh")
    close = 1e-5 if dtype in (torch.float32, torch.float64) else 0.02
    with torch.inference_mode(), laid_out(packed):
        found = gelu(packed, x)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), exact, atol=close, rtol=0)
        torch.testing.assert_close(gelu(nn.Sequential(packed), x), found, atol=close, rtol=0)


@only_x86
def test_weights_are_laid_out_while_an_image_is_drawn_only() -> None:
    packed, _ = pair()
    x = torch.randn(4, 64)
    with laid_out(packed):
        with torch.no_grad():
            packed(x)
        packed(x).sum().backward()
        assert packed._packed is None
        assert packed.weight.grad is not None
        with torch.inference_mode(), laid_out(nn.Sequential(packed)):
            packed(x)
        assert packed._packed is not None
        assert list(packed.state_dict()) == ["weight", "bias"]
    assert packed._packed is None
    with torch.inference_mode():
        packed(x)
    assert packed._packed is None


def fused_step(layer: nn.Linear) -> None:
    """Of an optimizer that writes into memory; no version tells."""
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)
    layer(torch.ones(4, 64)).sum().backward()
    optimizer.step()


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.weight.data.mul_(3),
        lambda layer: layer.weight.data.add_(1),  # as peft merges
        lambda layer: layer.weight.detach().numpy().fill(2.0),
        fused_step,
    ],
    ids=["scaled", "merged", "from numpy", "fused optimizer"],
)
def test_the_next_image_is_drawn_with_weights_that_changed_without_telling(
    change: Callable[[nn.Linear], object],
) -> None:
    packed, plain = pair()
    x = torch.randn(4, 64)
    compared(packed, plain, x)
    change(packed)
    change(plain)
    compared(packed, plain, x)


def test_two_drawings_at_once_keep_it_until_the_last_is_done() -> None:
    packed, plain = pair()
    x = torch.randn(4, 64)
    with torch.inference_mode(), laid_out(packed):
        with laid_out(packed):
            packed(x)
        torch.testing.assert_close(packed(x), plain(x), atol=1e-5, rtol=0)
        assert (packed._packed is not None) == bool(_types())
    assert packed._packed is None
    assert packed._drawings == 0


@pytest.mark.parametrize("way", ["hook", "pre-hook", "global hook", "forward"])
def test_whoever_watches_a_layer_sees_it_called(way: str) -> None:
    """Steering and observers work as they do where weights are not packed."""
    packed, plain = pair()
    x = torch.randn(4, 64)

    def ones(*_: object) -> Any:  # torch's annotation of the global hook has it return nothing
        return torch.ones(4, 96)

    for layer in (packed, plain):
        handle = None
        if way == "hook":
            layer.register_forward_hook(ones)
        elif way == "pre-hook":
            layer.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 0,))
        elif way == "forward":
            layer.forward = ones  # type: ignore[method-assign]
        else:
            handle = nn.modules.module.register_module_forward_hook(ones)
        with torch.inference_mode(), laid_out(layer):
            found = gelu(layer, x)
        if handle is not None:
            handle.remove()
        told = plain.bias if way == "pre-hook" else torch.ones(96)
        expected = nn.functional.gelu(told, approximate="tanh").expand(4, 96)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_weights_that_changed_are_laid_out_again() -> None:
    packed, plain = pair()
    x = torch.randn(4, 64)
    compared(packed, plain, x)
    for layer in (packed, plain):
        with torch.no_grad():
            layer.weight.mul_(2)
    compared(packed, plain, x)
    with torch.inference_mode():
        for layer in (packed, plain):
            layer.weight.mul_(2)
    compared(packed, plain, x)
    for layer in (packed, plain):
        layer.weight.data = layer.weight.data * 3
    compared(packed, plain, x)
    for layer in (packed, plain):
        layer.bfloat16().float()
    compared(packed, plain, x)
    other, _ = pair()
    packed.load_state_dict(other.state_dict())
    plain.load_state_dict(other.state_dict())
    compared(packed, plain, x)


def test_weights_in_the_place_of_others_are_told_apart() -> None:
    """New ones at the old address, at the same version: the old are held, so it cannot be."""
    packed, plain = pair()
    x = torch.randn(4, 64)
    compared(packed, plain, x)
    for factor in range(2, 6):
        for layer in (packed, plain):
            values = (layer.weight.data * factor).tolist()
            layer.weight.data = torch.empty(0)
            layer.weight.data = torch.tensor(values)
        compared(packed, plain, x)


def test_a_copy_lays_out_its_own() -> None:
    packed, plain = pair()
    x = torch.randn(4, 64)
    compared(packed, plain, x)
    for other in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        compared(other, plain, x)
        with torch.no_grad():
            other.weight.zero_()
        compared(packed, plain, x)


@pytest.mark.skipif(torch.bfloat16 not in _types(), reason="this processor has no bf16")
def test_bf16_is_packed_where_the_processor_has_it() -> None:
    packed, plain = (layer.bfloat16() for layer in pair())
    x = torch.randn(9, 64).bfloat16()
    with torch.inference_mode(), laid_out(packed):
        torch.testing.assert_close(packed(x), plain(x), atol=0.02, rtol=0)
        assert packed._packed is not None


def test_other_types_and_made_under_inference_mode_take_the_plain_way() -> None:
    packed, _ = pair()
    with torch.inference_mode():
        made = Linear(64, 96)
        with laid_out(nn.ModuleList([packed, made])):
            for dtype in (torch.float64, torch.float16):
                assert packed.to(dtype)(torch.randn(2, 64).to(dtype)).dtype == dtype
            made(torch.randn(2, 64))
            assert packed._packed is None
            assert made._packed is None


@only_x86
def test_its_operations_are_counted_as_the_plain_layer_has_them() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    found = []
    for layer in pair():
        counter = FlopCounterMode(display=False, custom_mapping=packed_flops())
        with torch.inference_mode(), laid_out(layer), counter:
            layer(torch.randn(3, 7, 64))
        found.append(counter.get_total_flops())
    assert found == [2 * 21 * 64 * 96] * 2


def test_a_compiler_traces_the_plain_layer_in_one_graph() -> None:
    """`eager` traces and compiles nothing: no compiler is needed, and a break would be an error."""
    packed, plain = pair()
    x = torch.randn(4, 64)
    traced = torch.compile(
        lambda x: gelu(packed, packed(x)[:, :64]), backend="eager", fullgraph=True
    )
    with torch.inference_mode(), laid_out(packed):
        expected = nn.functional.gelu(plain(plain(x)[:, :64]), approximate="tanh")
        torch.testing.assert_close(traced(x), expected, atol=1e-5, rtol=0)
        assert packed._packed is None
