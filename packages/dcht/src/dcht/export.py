"""A tokenizer as graphs that run without this package: `torch.export` programs and ONNX files.

encode: images (b, 3, H, W) in [-1, 1] to z (b, c, h, w) and, with a codebook, indices (b, h, w) and
z_q. decode: a latent (z, z_q, or z_q plus a residual) to images. lookup: indices to z_q.
Batch, height and width stay free: any multiple of 32.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn.attention import SDPBackend, sdpa_kernel

from dcht.errors import UsageError
from dcht.files import partial_path, remove_partials, write_atomic
from dcht.tokenizer import Tokenizer

Names = Mapping[str, tuple[list[str], list[str]]]
NAMES: Names = {
    "encode": (["images"], ["z", "indices", "z_q"]),
    "decode": (["latent"], ["images"]),
    "lookup": (["indices"], ["z_q"]),
}
"""Each graph's inputs and outputs; a continuous autoencoder has neither indices nor z_q."""

ONE_FILE = 1 << 30
"""Bytes of weights that a graph holds itself; an ONNX file ends at twice that."""
RECORD = "export.json"
"""Beside the ONNX files that a command writes: which tokenizer they are."""


class _Encode(nn.Module):
    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        z = self.tokenizer.encode(images)
        return (z,) if self.tokenizer.quantizer is None else (z, *self.tokenizer.quantizer(z))


class _Decode(nn.Module):
    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.decoder = tokenizer.decoder

    def forward(self, latent: Tensor) -> Tensor:
        return self.decoder(latent)


class _Lookup(nn.Module):
    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.quantizer = tokenizer.require_quantizer()

    def forward(self, indices: Tensor) -> Tensor:
        return self.quantizer.lookup(indices)


def export_programs(tokenizer: Tokenizer) -> dict[str, ExportedProgram]:
    """`torch.export` programs by name: encode, decode and, with a codebook, lookup.

    Args:
        tokenizer: in eval mode, on a CPU, in fp32.
    """
    factor, channels = tokenizer.config.downsampling, tokenizer.config.latent_channels
    batch, rows, columns = Dim("batch"), Dim("h"), Dim("w")
    h, w = 3, 4  # an example; any does
    images = torch.zeros(2, 3, factor * h, factor * w)
    graphs: dict[str, tuple[nn.Module, Tensor, dict[int, object]]] = {
        "encode": (_Encode(tokenizer), images, {0: batch, 2: factor * rows, 3: factor * columns}),
        "decode": (
            _Decode(tokenizer), torch.zeros(2, channels, h, w), {0: batch, 2: rows, 3: columns}
        ),
    }  # fmt: skip
    if tokenizer.quantizer is not None:
        indices = torch.zeros(2, h, w, dtype=torch.int64)
        graphs["lookup"] = (_Lookup(tokenizer), indices, {0: batch, 1: rows, 2: columns})
    with torch.no_grad():
        return {
            name: torch.export.export(graph, (example,), dynamic_shapes=(shape,))
            for name, (graph, example, shape) in graphs.items()
        }


def file_names(tokenizer: Tokenizer) -> list[str]:
    """The names of the files that `save_onnx` writes for a tokenizer."""
    graphs = (name for name in NAMES if name != "lookup" or tokenizer.quantizer is not None)
    return [f"{name}.onnx" for name in graphs]


def require_onnx() -> None:
    """Check that ONNX files can be written.

    Raises:
        UsageError: the extra `dcht[onnx]` is not installed.
    """
    if find_spec("onnx") is None or find_spec("onnxscript") is None:
        raise UsageError('ONNX export needs onnx and onnxscript: pip install "dcht[onnx]"')


def save_onnx(
    programs: dict[str, ExportedProgram], out: str | Path, names: Names = NAMES
) -> list[Path]:
    """Write what `export_programs` gave as `NAME.onnx` files into folder `out`, each whole.

    The weights of a large graph are in `NAME.onnx.data` beside it, which is there before it is.

    Args:
        programs: by name.
        out: the folder.
        names: each program's inputs and outputs.

    Raises:
        UsageError: the extra `dcht[onnx]` is not installed, or a file cannot be written.
    """
    require_onnx()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    remove_partials(out)
    paths = []
    for name, program in programs.items():
        inputs, outputs = names[name]
        # Attention is taken apart here: as matrix products, whose results have one layout.
        with sdpa_kernel(SDPBackend.MATH):
            written = torch.onnx.export(
                program,
                input_names=inputs,
                output_names=outputs[: len(program.graph_signature.user_outputs)],
                dynamo=True,
                verbose=False,
            )
        assert written is not None, "dynamo=True gives a program"
        paths.append(out / f"{name}.onnx")
        weights = sum(value.nbytes for value in program.state_dict.values())
        if weights <= ONE_FILE:
            write_atomic(paths[-1], written.model_proto.SerializeToString())
        else:
            import onnx_ir

            partial = partial_path(paths[-1])
            onnx_ir.save(written.model, partial, external_data=f"{name}.onnx.data")
            os.replace(partial, paths[-1])
    return paths
