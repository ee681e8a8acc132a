"""What verbs that share out their work have in common: options, shares, what is said at the end."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcar.commands.common import sampling_settings
from dcht.commands.common import OK, SKIPPED, part, report_skipped
from dcht.device import pick_precision
from dcht.errors import UsageError, printable

if TYPE_CHECKING:
    import torch

    from dcar.pipeline import TextToImage
    from dcar_eval.runs.shares import Share
    from dcar_eval.scenes.evaluate import Truths
    from dcht.engine.distributed import World


def add_inception(verb: argparse.ArgumentParser) -> None:
    """Add what says which network makes the features, and where its weights are."""
    verb.add_argument(
        "--extractor", metavar="NAME",
        help="another feature network: inception, inception-tf1, efficientnet-lite0 (offline), "
        "dinov2 or clip (dinov2:FOLDER), package.module:function; then results say fid[NAME] "
        "[the protocol's]",
    )  # fmt: skip
    verb.add_argument(
        "--inception-weights", metavar="PATH",
        help="what `python -m dcar_eval.inception` fetched [$DCAR_EVAL_INCEPTION]",
    )  # fmt: skip


def add_share(verb: argparse.ArgumentParser) -> None:
    """Add `--shard`."""
    verb.add_argument(
        "--shard", type=part, default=(0, 1), metavar="I/N", dest="part",
        help="do every N-th batch from the I-th on (0 <= I < N), beside N-1 other runs with the "
        "same --out; the last to end puts them together [0/1]",
    )  # fmt: skip


def pick_share(arguments: argparse.Namespace, here: World) -> Share:
    """The share of `--shard`, or of this rank.

    Raises:
        UsageError: both were given.
    """
    from dcar_eval.runs.shares import Share

    if here.size == 1:
        return Share(*arguments.part)
    if arguments.part != (0, 1):
        raise UsageError(
            f"--shard {arguments.part[0]}/{arguments.part[1]} under a launcher of {here.size} "
            "ranks; use one of the two"
        )
    return Share(here.rank, here.size)


def print_results(
    arguments: argparse.Namespace,
    share: Share,
    table: Callable[[dict[str, Any]], str],
    notes: Callable[[dict[str, Any]], list[str]],
) -> dict[str, Any] | None:
    """Print the results in `--out` and what to note of them; None if other shares are not done."""
    from dcar_eval.runs.results import finished, shown

    results = finished(arguments.out)
    if results is None:
        print(f"share {share.number}/{share.of} is done; others are not", file=sys.stderr)
        return None
    show(arguments, results, table)
    for note in shown(arguments.out, notes, results):
        print(printable(note), file=sys.stderr)
    return results


def end_judging(
    arguments: argparse.Namespace,
    share: Share,
    table: Callable[[dict[str, Any]], str],
    notes: Callable[[dict[str, Any]], list[str]],
) -> int:
    """`print_results`; the exit code says whether images were skipped or are missing."""
    results = print_results(arguments, share, table, notes)
    if results is None:
        return OK
    code = report_skipped(results["skipped"], arguments.out / "errors.jsonl")
    return SKIPPED if results["missing"] else code


def check_given(arguments: argparse.Namespace, *, resized: bool = False) -> None:
    """Refuse `--images` beside what generates others, or where nothing is.

    Args:
        arguments: of the verb.
        resized: whether `--size` is what images that are there are brought to.

    Raises:
        UsageError: so it is.
    """
    if arguments.images is None:
        return
    generating = (
        arguments.size and not resized, sampling_settings(arguments), arguments.ckpt,
        arguments.seed, arguments.precision != "fp32",
    )  # fmt: skip
    if any(generating):
        raise UsageError("--images are judged as they are; leave out what generates others")
    if not arguments.images.exists():
        raise UsageError(
            f"{arguments.images} is not there; expected a folder of images, or a table"
        )


def show(
    arguments: argparse.Namespace,
    results: dict[str, Any],
    table: Callable[[dict[str, Any]], str],
) -> None:
    """Print results, which may have been read from `--out`, as JSON or as a table.

    Raises:
        UsageError: they are damaged.
    """
    from dcar_eval.runs.results import shown

    print(json.dumps(results) if arguments.json else shown(arguments.out, table, results))


def load_pipe(arguments: argparse.Namespace, device: torch.device) -> TextToImage:
    """The generator of `--ckpt` in `--precision`.

    Raises:
        UsageError: int8, which scores are not measured in.
    """
    from dcar.pipeline import TextToImage

    precision = pick_precision(arguments.precision, device)
    return TextToImage.from_pretrained(arguments.ckpt, device=device, precision=precision)


def add_noise_seed(verb: argparse.ArgumentParser) -> None:
    """Add what generates the same prompts again."""
    verb.add_argument(
        "--noise-seed", type=int, metavar="N", help="of the noise alone [that of --seed]"
    )


def add_truths(verb: argparse.ArgumentParser) -> None:
    """Add what images of scenes are held against."""
    verb.add_argument(
        "--sprites", type=Path, metavar="DIR",
        help="folder with the npm packages: hold each image against the true scene of its "
        "prompt [they are judged by their content alone]",
    )  # fmt: skip
    verb.add_argument(
        "--lpips-weights", metavar="DIR",
        help="with --sprites: what `python -m dcht.perceptual` wrote [$DCHT_PERCEPTUAL_WEIGHTS]",
    )  # fmt: skip


def pick_truths(arguments: argparse.Namespace) -> Truths | None:
    """What `--sprites` and `--lpips-weights` say.

    Raises:
        UsageError: weights of LPIPS and nothing to measure with them.
    """
    if arguments.sprites is None:
        if arguments.lpips_weights is not None:
            raise UsageError("--lpips-weights compare with true scenes; name their --sprites too")
        return None
    from dcar_eval.scenes.evaluate import Truths

    return Truths(sprites=arguments.sprites, lpips_weights=arguments.lpips_weights)


def pick_metrics(text: str, known: Sequence[str]) -> list[str]:
    """The metrics that a list with commas names.

    Raises:
        UsageError: one that is not known.
    """
    names = [name for name in text.split(",") if name]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"metric {unknown[0]!r} is not known; use {', '.join(known)}")
    return names
