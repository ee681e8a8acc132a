"""`dcar-eval geneval2` and `dcar-eval dpg`: benchmarks that ask a vision-language model."""

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

    from dcar_eval.vqa.judge import LanguageJudge
    from dcar_eval.vqa.questions import Benchmark, Item
    from dcar_eval.vqa.sources import AskedSource

JUDGE = "Qwen/Qwen3-VL-8B-Instruct"


def add(verbs: Any) -> None:
    """Add both verbs to the subparsers."""
    verb = verbs.add_parser("geneval2", help="GenEval 2: Soft-TIFA by a vision-language model")
    verb.add_argument(
        "--prompts", type=Path, required=True, metavar="FILE",
        help="the benchmark's geneval2_data.jsonl (CC BY-NC 4.0, not part of this package)",
    )  # fmt: skip
    _add(verb)
    verb.set_defaults(function=run_geneval2, grids=False)

    verb = verbs.add_parser("dpg", help="DPG-Bench: yes or no by a vision-language model")
    verb.add_argument(
        "--prompts", type=Path, required=True, metavar="FILE",
        help="the benchmark's dpg_bench.csv (not part of this package)",
    )  # fmt: skip
    verb.add_argument(
        "--grids", action="store_true",
        help="--images are the benchmark's grids of 2 x 2, ITEM.png, and not single images",
    )  # fmt: skip
    _add(verb)
    verb.set_defaults(function=run_dpg)


def _add(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--images", type=Path, metavar="PATH",
        help="judge images that are there instead of generating some: a folder with KEY.png or "
        "KEY/*.png, or a table of files and prompts (.csv, .jsonl or .json)",
    )  # fmt: skip
    verb.add_argument(
        "--judge", metavar="NAME",
        help=f"folder or Hub id of a vision-language model of transformers [{JUDGE}]",
    )  # fmt: skip
    verb.add_argument(
        "--smoke", action="store_true",
        help="judge with a small random network: tries everything but the numbers",
    )  # fmt: skip
    verb.add_argument(
        "--limit", type=positive, metavar="N", help="only the first N prompts; compares with none"
    )
    add_share(verb)
    add_sampling(verb)
    size = {"default": None, "help": "N or WxH, multiples of 32 [the checkpoint's]"}
    add_common(
        verb, "ckpt", "seed", "size", "device", "precision",
        "strict", "offline", "out", "force", "resume",
        "json", ckpt=CKPT, size=size,
        seed={"help": "image k of prompt p, of n each, depends on (seed, n p + k) [0]"},
    )  # fmt: skip


def run_geneval2(arguments: argparse.Namespace) -> int:
    """Draw, ask, print the table."""
    _check(arguments)
    from dcar_eval.vqa.soft_tifa import read_geneval2

    return _run(arguments, read_geneval2(arguments.prompts))


def run_dpg(arguments: argparse.Namespace) -> int:
    """Draw, ask, print the table."""
    _check(arguments)
    if arguments.grids and arguments.images is None:
        raise UsageError("--grids are of --images; what is generated here is single images")
    from dcar_eval.vqa.dpg import read_dpg

    return _run(arguments, read_dpg(arguments.prompts))


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what does not go together, before torch and the weights are loaded."""
    check_given(arguments)
    if arguments.smoke and arguments.judge:
        raise UsageError("--smoke has a judge of its own; leave out --judge")


def _run(arguments: argparse.Namespace, benchmark: Benchmark) -> int:
    from dcar_eval.vqa.evaluate import evaluate_questions
    from dcar_eval.vqa.report import notes, table
    from dcht.engine.distributed import world

    items = benchmark.items[: arguments.limit]
    with world(arguments.device) as here:
        share = pick_share(arguments, here)
        evaluate_questions(
            benchmark,
            _source(arguments, benchmark, items, here.device),
            arguments.out,
            judge=_judge(arguments).to(here.device),
            share=share,
            force=arguments.force,
            strict=arguments.strict,
        )
        here.barrier()
        if not here.main:
            return OK
    return end_judging(arguments, share, table, notes)


def _source(
    arguments: argparse.Namespace, benchmark: Benchmark, items: list[Item], device: torch.device
) -> AskedSource:
    from dcar_eval.vqa.sources import generated_images, given_images

    if arguments.images is not None:
        return given_images(arguments.images, benchmark, items, grids=arguments.grids)
    size = parse_size(arguments.size) if arguments.size else None
    return generated_images(
        load_pipe(arguments, device),
        benchmark,
        items,
        seed=arguments.seed,
        size=(size[1], size[0]) if size else None,
        sampling=sampling_settings(arguments),
    )


def _judge(arguments: argparse.Namespace) -> LanguageJudge:
    if arguments.smoke:
        from dcar_eval.vqa.smoke import random_judge

        return random_judge()
    from dcar_eval.vqa.judge import load_judge

    return load_judge(arguments.judge or JUDGE)
