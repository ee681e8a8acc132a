"""The networks that draw, compiled: `TextToImage.compile`.

Each is compiled as a whole, one graph a shape, and called as before: the way from prompt to pixels
is still `dcar.pipeline.generate_batch`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dcar.model import DCAR
from dcht.errors import UsageError


def compile_networks(model: DCAR, decoder: nn.Module) -> None:
    """Compile the transformer's blocks, the residual head and the decoder where they are.

    On a GPU they become CUDA graphs. State dicts keep their keys. A second call changes nothing.

    Raises:
        UsageError: no C++ compiler.
    """
    require_compiler()
    graphs = model.generator.null_text.device.type == "cuda"
    places = [(model.generator, "run_blocks"), (decoder, "forward")]
    if model.head is not None:
        places.append((model.head, "denoise"))
    for module, name in places:
        if name not in vars(module):
            setattr(module, name, _compiled(getattr(module, name), graphs=graphs))


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
