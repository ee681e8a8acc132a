"""`dcar-eval mjhq`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcar.commands.common import CKPT, add_sampling, sampling_settings
from dcar_eval.commands.common import (
    add_inception,
    add_share,
    check_given,
    load_pipe,
    pick_metrics,
    pick_share,
    print_results,
)
from dcar_eval.metrics.protocol import GENERATION_PROTOCOLS, GenerationProtocol
from dcht.commands.common import OK, add_common, positive
from dcht.config import parse_size
from dcht.errors import UsageError

if TYPE_CHECKING:
    import torch

    from dcar_eval.mjhq.benchmark import Prompt
    from dcar_eval.mjhq.sources import GeneratedImages, GivenImages


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    verb = verbs.add_parser("mjhq", help="gFID of a model on MJHQ-30K")
    verb.add_argument(
        "--data", type=Path, required=True, metavar="DIR",
        help="the benchmark: meta_data.json, and its images in folders or zips",
    )  # fmt: skip
    verb.add_argument(
        "--images", type=Path, metavar="DIR",
        help="images of any model, called after the keys, in place of generating",
    )  # fmt: skip
    verb.add_argument(
        "--reference", type=Path, metavar="X.npz",
        help="pytorch-fid's statistics of the images, in place of them; no categories then",
    )  # fmt: skip
    verb.add_argument(
        "--protocol", choices=list(GENERATION_PROTOCOLS), default="sana",
        help="how images are saved, cropped and compared [sana]",
    )  # fmt: skip
    verb.add_argument(
        "--metrics", metavar="NAMES", default="",
        help="beside gFID and KID, any of mind,precision-recall,cmmd",
    )  # fmt: skip
    verb.add_argument("--limit", type=positive, metavar="N", help="only the first N prompts")
    add_inception(verb)
    add_share(verb)
    add_sampling(verb)
    size = {"default": "512", "help": "side in pixels of both sets, a multiple of 32 [512]"}
    add_common(
        verb, "ckpt", "seed", "size", "batch_size", "device", "precision",
        "offline", "out", "force", "resume",
        "json", ckpt=CKPT, batch_size=8, size=size,
        seed={"help": "prompt k is generated with the noise of (seed, k) [0]"},
    )  # fmt: skip
    verb.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw, measure, print the table."""
    from dataclasses import replace

    width, height = parse_size(arguments.size)
    if width != height:
        raise UsageError(f"both sets are square, not {width} x {height}; give --size N")
    check_given(arguments, resized=True)
    protocol = GENERATION_PROTOCOLS[arguments.protocol]
    protocol = replace(protocol, size=width, fid=arguments.extractor or protocol.fid)

    from dcar_eval.metrics.features import load_extractor, load_reference
    from dcar_eval.metrics.sets import METRICS
    from dcar_eval.mjhq import evaluate_mjhq, notes, table
    from dcar_eval.mjhq.benchmark import read_prompts, reference_images
    from dcht.engine.distributed import world

    metrics = pick_metrics(arguments.metrics, list(METRICS))
    prompts = read_prompts(arguments.data)[: arguments.limit]
    with world(arguments.device) as here:
        share = pick_share(arguments, here)
        extractor = load_extractor(
            protocol.fid, device=here.device, inception_weights=arguments.inception_weights
        )
        reference = (
            load_reference(arguments.reference, extractor)
            if arguments.reference
            else reference_images(arguments.data, prompts)
        )
        evaluate_mjhq(
            _source(arguments, prompts, protocol, here.device),
            prompts,
            reference,
            arguments.out,
            protocol=protocol,
            extractor=extractor,
            metrics=metrics,
            batch_size=arguments.batch_size,
            share=share,
            force=arguments.force,
        )
        here.barrier()
        if not here.main:
            return OK
    print_results(arguments, share, table, notes)
    return OK


def _source(
    arguments: argparse.Namespace,
    prompts: list[Prompt],
    protocol: GenerationProtocol,
    device: torch.device,
) -> GeneratedImages | GivenImages:
    """What `--images` or `--ckpt` says."""
    from dcar_eval.mjhq.sources import GeneratedImages, GivenImages

    if arguments.images:
        return GivenImages(arguments.images, prompts)

    pipe = load_pipe(arguments, device)
    return GeneratedImages(
        pipe,
        prompts,
        arguments.out / "images",
        protocol=protocol,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        sampling=pipe.settings(**sampling_settings(arguments)),
        force=arguments.force,
    )
