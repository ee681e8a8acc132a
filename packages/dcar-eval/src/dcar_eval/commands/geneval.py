"""`dcar-eval geneval`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcar.commands.common import CKPT, add_sampling, sampling_settings
from dcar_eval.commands.common import add_share, check_given, end_judging, load_pipe, pick_share
from dcht.commands.common import OK, add_common, positive
from dcht.config import parse_size
from dcht.errors import UsageError

if TYPE_CHECKING:
    import torch

    from dcar_eval.geneval.networks import Judges
    from dcar_eval.geneval.sources import SampleSource


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    verb = verbs.add_parser("geneval", help="GenEval's 553 prompts, without mmcv, on any device")
    verb.add_argument(
        "--images", type=Path, metavar="PATH",
        help="judge images that are there (a folder with 00000/samples/0000.png, or a table of "
        "files and prompts: .csv, .jsonl or .json) instead of generating some",
    )  # fmt: skip
    verb.add_argument(
        "--detector", metavar="NAME",
        help="folder or Hub id of a Mask2Former, or the benchmark's .pth of mmdet 2.x "
        "[facebook/mask2former-swin-small-coco-instance]",
    )  # fmt: skip
    verb.add_argument(
        "--clip", metavar="NAME", help="folder or Hub id [openai/clip-vit-large-patch14]"
    )
    verb.add_argument(
        "--smoke", action="store_true",
        help="judge with small random networks: tries everything but the numbers",
    )  # fmt: skip
    verb.add_argument(
        "--num-per-task", type=positive, metavar="N",
        help="only the first N prompts of each task; then there is no Overall",
    )  # fmt: skip
    add_share(verb)
    add_sampling(verb)
    size = {"default": None, "help": "N or WxH, multiples of 32 [the checkpoint's]"}
    add_common(
        verb, "ckpt", "seed", "size", "device", "precision",
        "strict", "offline", "out", "force", "resume",
        "json", ckpt=CKPT, size=size,
        seed={"help": "image k of prompt p depends on (seed, 4 p + k) [0]"},
    )  # fmt: skip
    verb.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw, judge, print the table, name what is missing."""
    size = parse_size(arguments.size) if arguments.size else None
    check_given(arguments)
    if arguments.smoke and (arguments.detector or arguments.clip):
        raise UsageError("--smoke has networks of its own; leave out --detector and --clip")

    from dcar_eval.geneval.evaluate import evaluate_geneval
    from dcar_eval.geneval.report import notes, table
    from dcht.engine.distributed import world

    with world(arguments.device) as here:
        share = pick_share(arguments, here)
        evaluate_geneval(
            _source(arguments, size, here.device),
            arguments.out,
            networks=_networks(arguments).to(here.device),
            share=share,
            force=arguments.force,
            strict=arguments.strict,
        )
        here.barrier()
        if not here.main:
            return OK
    return end_judging(arguments, share, table, notes)


def _source(
    arguments: argparse.Namespace, size: tuple[int, int] | None, device: torch.device
) -> SampleSource:
    from dcar_eval.geneval.sources import choose_prompts, generated_images, given_images

    prompts = choose_prompts(arguments.num_per_task)
    if arguments.images is not None:
        return given_images(arguments.images, prompts)

    return generated_images(
        load_pipe(arguments, device),
        prompts,
        seed=arguments.seed,
        size=(size[1], size[0]) if size else None,
        sampling=sampling_settings(arguments),
    )


def _networks(arguments: argparse.Namespace) -> Judges:
    from dcar_eval.geneval.networks import load_networks
    from dcar_eval.geneval.smoke import random_networks

    if arguments.smoke:
        return random_networks()
    given = {"detector": arguments.detector, "clip": arguments.clip}
    return load_networks(**{key: value for key, value in given.items() if value is not None})
