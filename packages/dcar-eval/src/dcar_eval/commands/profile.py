"""`dcar-eval profile`."""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING, Any

from dcar.commands.common import CKPT
from dcar_eval.commands.common import show
from dcar_eval.profile.protocol import DEFINITION, PAPER, PRECISIONS, ProfileProtocol
from dcht.commands.common import OK, add_common, positive
from dcht.config import parse_size
from dcht.device import Precision, pick_device, pick_precision
from dcht.errors import UsageError, printable

if TYPE_CHECKING:
    from dcar.pipeline import TextToImage


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    verb = verbs.add_parser("profile", help="time, FLOPs, parameters and memory of a generator")
    verb.add_argument(
        "setting", nargs="*", metavar="KEY=VALUE",
        help="sampling, in place of the checkpoint's: num_steps=8 order=halton",
    )  # fmt: skip
    verb.add_argument(
        "--preset", metavar="NAME",
        help="a size with random weights, in place of --ckpt: dcar_671m, dc_ar_512, small or tiny",
    )  # fmt: skip
    verb.add_argument(
        "--protocol", choices=["paper"], help="section 4.1's: fp16, 512 px, the paper's 12 steps"
    )
    verb.add_argument(
        "--precision",
        metavar="NAMES",
        help="by commas [fp32,bf16,fp16; on a CPU fp32, and bf16 where it is made for that]; "
        "--protocol paper: fp16",
    )
    verb.add_argument("--warmup", type=int, default=1, metavar="N", help="batches not timed [1]")
    verb.add_argument("--repeats", type=positive, metavar="N", help="batches timed [5; on a CPU 2]")
    size = {"default": None, "help": "N or WxH, multiples of 32 [the checkpoint's]"}
    add_common(
        verb, "ckpt", "size", "device", "offline", "out", "force", "resume", "json",
        ckpt=CKPT, size=size,
    )  # fmt: skip
    verb.set_defaults(function=run)


def read_protocol(arguments: argparse.Namespace) -> ProfileProtocol:
    """The conditions that the command line names; no precisions if it names none.

    Raises:
        UsageError: a precision that is not known, or an option that the paper's protocol settles.
    """
    if arguments.protocol is not None:
        given = {"--size": arguments.size, "--precision": arguments.precision}
        given["KEY=VALUE"] = arguments.setting
        for name, value in given.items():
            if value:
                raise UsageError(f"--protocol paper settles {name}: leave one of them out")
        return PAPER
    known = {precision.name: precision for precision in PRECISIONS}
    names = arguments.precision.split(",") if arguments.precision else []
    for name in names:
        if name not in known:
            raise UsageError(f"precision {name!r} is not known; use fp32, bf16 or fp16")
    return ProfileProtocol(
        name="own",
        precisions=tuple(known[name] for name in names),
        size=parse_size(arguments.size) if arguments.size else None,
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print the table with what its numbers mean."""
    from dcar_eval.sweep.axes import RESIDUAL, single_values

    protocol = read_protocol(arguments)
    sampling = single_values(arguments.setting)
    if RESIDUAL in sampling:
        raise UsageError("residual is for sweep (table4), not for profile")
    if arguments.preset is not None and arguments.ckpt is not None:
        raise UsageError("--preset has random weights, --ckpt trained ones: give one of them")
    if arguments.warmup < 0:
        raise UsageError(f"--warmup is {arguments.warmup}; it must not be negative")

    from dataclasses import replace

    from dcar.pipeline import TextToImage
    from dcar_eval.metrics.random_weights import random_pipeline
    from dcar_eval.profile.measure import profile, table

    device = pick_device(arguments.device)
    on_cpu = device.type == "cpu"
    if not protocol.precisions:
        usual = {Precision.fp32, pick_precision("auto", device)} if on_cpu else PRECISIONS
        protocol = replace(protocol, precisions=tuple(p for p in PRECISIONS if p in usual))

    def build() -> TextToImage:
        if arguments.preset is not None:
            return random_pipeline(arguments.preset).to(device)
        return TextToImage.from_pretrained(arguments.ckpt).to(device)

    results = profile(
        build,
        arguments.out,
        protocol=protocol,
        preset=arguments.preset,
        sampling=sampling,  # type: ignore[arg-type]
        warmup=arguments.warmup,
        repeats=arguments.repeats or (2 if on_cpu else 5),
        force=arguments.force,
    )
    show(
        arguments,
        results,
        lambda found: "\n".join(
            [printable(found["protocol"]["name"]), table(found), textwrap.fill(DEFINITION, 100)]
        ),
    )
    return OK
