"""Networks compiled with torch.compile, where they are: called as before, state dicts as before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dcht.errors import UsageError


def compile_method(module: nn.Module, name: str) -> None:
    """Compile a method of a module, one graph a shape; a second call changes nothing.

    On a GPU it becomes a CUDA graph.

    Raises:
        UsageError: no C++ compiler.
    """
    if name in vars(module):
        return
    require_compiler()
    graphs = next(module.parameters()).device.type == "cuda"
    setattr(module, name, _compiled(getattr(module, name), graphs=graphs))


@contextmanager
def compiled_forward(module: nn.Module, *, enabled: bool = True) -> Iterator[None]:
    """A module whose forward is compiled, within the block.

    Raises:
        UsageError: no C++ compiler.
    """
    if not enabled or "forward" in vars(module):
        yield
        return
    compile_method(module, "forward")
    try:
        yield
    finally:
        del module.forward


def require_compiler() -> None:
    """Refuse where torch.compile could not make anything.

    Raises:
        UsageError: no C++ compiler.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise UsageError(
            "compile needs a C++ compiler, and none was found; install g++, or name one in CXX"
        ) from None


def _compiled(call: Callable[..., Tensor], *, graphs: bool) -> Callable[..., Tensor]:
    if not graphs:
        return torch.compile(call, dynamic=False)
    fast = torch.compile(call, dynamic=False, mode="reduce-overhead")

    def replay(*inputs: object) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        # The graph's next run writes where its result lies.
        return fast(*inputs).clone()

    return replay
