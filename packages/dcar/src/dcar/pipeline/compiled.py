"""The networks that draw, compiled: `TextToImage.compile`.

Each is compiled as a whole, one graph a shape, and called as before: the way from prompt to pixels
is still `dcar.pipeline.generate_batch`.
"""

from __future__ import annotations

from torch import nn

from dcar.model import DCAR
from dcht.modules.compiled import compile_method


def compile_networks(model: DCAR, decoder: nn.Module) -> None:
    """Compile the transformer's blocks, the residual head and the decoder where they are.

    On a GPU they become CUDA graphs. State dicts keep their keys. A second call changes nothing.

    Raises:
        UsageError: no C++ compiler.
    """
    places = [(model.generator, "run_blocks"), (decoder, "forward")]
    if model.head is not None:
        places.append((model.head, "denoise"))
    for module, name in places:
        compile_method(module, name)
