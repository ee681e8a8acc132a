"""`dcht convert` and `dcht export`: checkpoints of others to ours, and ours to ONNX and diffusers.

Parsing and reporting alone; no torch before it is needed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from dcht.commands.common import OK, add_common, positive
from dcht.config import VARIANTS
from dcht.errors import UsageError, printable
from dcht.files import begin, locked


def add_convert(verbs: Any) -> None:
    """Add `dcht convert` to a command line's subparsers."""
    convert = verbs.add_parser(
        "convert", help="a published DC-AE or DC-HT (a file, a folder, a Hub id) to a tokenizer"
    )
    convert.add_argument(
        "source",
        help="weights file or .index.json, folder (of a pipeline too: its vae/), or Hub id",
    )
    convert.add_argument("--variant", choices=VARIANTS, help="refuse any other layout")
    convert.add_argument(
        "--codebook", type=positive, metavar="N",
        help="give a DC-AE N random codes, and fold its latents' norm: the start of dcht-train",
    )  # fmt: skip
    norm = convert.add_mutually_exclusive_group()
    norm.add_argument(
        "--latent-norm", type=_length, metavar="S", help="typical length of a latent [17.7]"
    )
    norm.add_argument(
        "--calibrate", type=Path, metavar="DIR", help="measure that length over a folder of images"
    )
    convert.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), default="float32",
        help="of the weights that are written [float32]",
    )  # fmt: skip
    add_common(convert, "out", "force", "resume", "offline", "json")
    convert.set_defaults(function=_convert)


def add_export(verbs: Any) -> None:
    """Add `dcht export` to a command line's subparsers."""
    export = verbs.add_parser(
        "export", help="a tokenizer for other programs: as ONNX files, or as diffusers' class"
    )
    export.add_argument(
        "--to", choices=("onnx", "diffusers"), default="onnx",
        help="onnx: encoder, decoder and codebook for any size (dcht[onnx]); diffusers: the folder "
        "of an AutoencoderDC, of a tokenizer without codebook [onnx]",
    )  # fmt: skip
    add_common(export, "out", "ckpt", "force", "resume", "offline", "json")
    export.set_defaults(function=_export)


def _length(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def _convert(arguments: argparse.Namespace) -> int:
    if arguments.codebook is None and (arguments.latent_norm or arguments.calibrate):
        raise UsageError(
            "--latent-norm and --calibrate need --codebook: only there is a norm folded"
        )
    if arguments.calibrate is not None and not arguments.calibrate.is_dir():
        raise UsageError(f"--calibrate {arguments.calibrate} is not a folder of images")
    import torch

    from dcht.convert.latent_norm import LATENT_NORM
    from dcht.convert.published import describe, write_converted

    dtype = None if arguments.dtype == "float32" else getattr(torch, arguments.dtype)
    with locked(arguments.out):
        record = write_converted(
            arguments.source,
            arguments.out,
            variant=arguments.variant,
            codebook_size=arguments.codebook,
            latent_norm=arguments.latent_norm or LATENT_NORM,
            images=arguments.calibrate,
            dtype=dtype,
            force=arguments.force,
        )
    made = describe(arguments.out)
    if arguments.json:
        print(json.dumps({"out": str(arguments.out)} | record | made._asdict()))
    else:
        norm = record["folded_latent_norm"]
        folded = "" if norm is None else f", latent norm {norm:.4g} folded into the decoder"
        codes = "no codebook" if made.codes is None else f"{made.codes:,} codes"
        print(
            f"{printable(arguments.out)}: {record['sha256'][:12]}, "
            f"{' or '.join(made.layouts) or 'a layout of its own'}, "
            f"{made.parameters / 1e6:.2f} M parameters in {arguments.dtype}, {codes}{folded}\n"
            f"next: {made.next_command}"
        )
    return OK


def _export(arguments: argparse.Namespace) -> int:
    if arguments.to == "diffusers":
        return _export_to_diffusers(arguments)
    from dcht.export import RECORD, export_programs, file_names, require_onnx, save_onnx

    require_onnx()
    out: Path = arguments.out
    with locked(out):
        from dcht.tokenizer import Tokenizer

        tokenizer = Tokenizer.from_pretrained(arguments.ckpt)
        files = file_names(tokenizer)
        begin(out, RECORD, {"tokenizer": tokenizer.sha256}, files=files, force=arguments.force)
        if not all((out / name).exists() for name in files):
            save_onnx(export_programs(tokenizer), out)
    if arguments.json:
        print(json.dumps({"out": str(out), "files": files, "tokenizer": tokenizer.sha256}))
    else:
        print(f"{printable(out)}: {', '.join(files)}")
    return OK


def _export_to_diffusers(arguments: argparse.Namespace) -> int:
    from dcht.convert.to_diffusers import write_autoencoder

    out: Path = arguments.out
    with locked(out):
        found = write_autoencoder(arguments.ckpt, out, force=arguments.force)
    if arguments.json:
        print(json.dumps({"out": str(out)} | found._asdict()))
    else:
        print(f"{printable(out)}: {', '.join(found.files)}, {found.factor}")
        print(f'next: AutoencoderDC.from_pretrained("{printable(out)}")')
    return OK
