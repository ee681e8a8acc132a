"""`dcar-eval scenes-eval`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcar.commands.common import CKPT, add_sampling, sampling_settings
from dcar_eval.commands.common import add_noise_seed, add_truths, load_pipe, pick_truths, show
from dcht.commands.common import OK, add_common, positive
from dcht.config import parse_size
from dcht.device import pick_device
from dcht.errors import UsageError

if TYPE_CHECKING:
    from dcar.pipeline import TextToImage
    from dcar_eval.hard.fixed import Benchmark


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    verb = verbs.add_parser("scenes-eval", help="held-out prompts of the scenes, judged offline")
    verb.add_argument(
        "--benchmark", choices=("standard", "hard", "things"), default="standard",
        help="hard: groups, sizes, two relations, free places; fixed prompts, unseen and seen; "
        "things: each that the checkpoint knows, alone [standard]",
    )  # fmt: skip
    verb.add_argument(
        "--images", type=Path, metavar="FOLDER",
        help="judge these, 00000.png and on, the images of the prompts of this --seed and "
        "--num-per-task; generate none",
    )  # fmt: skip
    verb.add_argument(
        "--list-prompts", action="store_true",
        help="print the prompts in their order, a line an image, and do nothing else: those that "
        "--ckpt is asked; without it those that --images are judged by",
    )  # fmt: skip
    verb.add_argument(
        "--num-per-task",
        type=positive,
        metavar="N",
        help="prompts per task, or images per thing [40; of things 1]",
    )
    verb.add_argument(
        "--objects", metavar="NAMES",
        help="starter, wide, all, or names by commas [the thirty of wide, or fewer that the "
        "checkpoint's words tell; of --images their run's]",
    )  # fmt: skip
    add_noise_seed(verb)
    add_truths(verb)
    add_sampling(verb)
    size = {"default": None, "help": "side in pixels, a multiple of 32 [the checkpoint's]"}
    add_common(
        verb, "ckpt", "seed", "size", "batch_size", "device", "precision",
        "offline", "out", "force", "resume",
        "json", ckpt=CKPT, batch_size=8, size=size,
        seed={"help": "of prompts and noise [0]"}, out={"required": False},
    )  # fmt: skip
    verb.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Generate images, or read those that are there; judge; print the table."""
    from dcar_eval.scenes.things import parse_objects

    if arguments.num_per_task is None:
        arguments.num_per_task = 1 if arguments.benchmark == "things" else 40
    if arguments.benchmark != "standard":
        for option in ("objects", "sprites", "noise_seed"):
            if getattr(arguments, option) is not None:
                raise UsageError(
                    f"--{option.replace('_', '-')} is of the standard benchmark; the prompts of "
                    f"{arguments.benchmark} are fixed, and its places free"
                )
    objects = parse_objects(arguments.objects) if arguments.objects else None
    if arguments.images is not None:
        _check_judging(arguments)
    if arguments.list_prompts:
        return _list_prompts(arguments, objects)
    if arguments.out is None:
        raise UsageError("--out is missing: a folder for the results")
    truths = pick_truths(arguments)
    if arguments.images is not None:
        results = _judge(arguments, objects, truths)
    else:
        results = _generate(arguments, objects, truths)
    show(arguments, results, _table)
    return OK


def _generate(arguments: argparse.Namespace, objects: Any, truths: Any) -> dict[str, Any]:
    width, height = parse_size(arguments.size) if arguments.size else (None, None)
    if width != height:
        raise UsageError(f"scenes are square, not {width} x {height}; give --size N")

    from dcar_eval.hard.evaluate import evaluate_hard
    from dcar_eval.scenes.evaluate import evaluate_scenes
    from dcar_eval.things.evaluate import evaluate_things

    pipe = load_pipe(arguments, pick_device(arguments.device))
    shared: Any = {
        "num_per_task": arguments.num_per_task,
        "seed": arguments.seed,
        "size": width,
        "batch_size": arguments.batch_size,
        "force": arguments.force,
        "sampling": sampling_settings(arguments),
    }
    if arguments.benchmark == "hard":
        return evaluate_hard(pipe, arguments.out, **shared)
    if arguments.benchmark == "things":
        return evaluate_things(pipe, arguments.out, **shared)
    return evaluate_scenes(
        pipe, arguments.out, objects=objects, noise_seed=arguments.noise_seed, truths=truths,
        **shared,
    )  # fmt: skip


def _check_judging(arguments: argparse.Namespace) -> None:
    """Refuse what has no bearing on images that are there."""
    drawing = (sampling_settings(arguments), arguments.size, arguments.precision != "fp32")
    if any(drawing) or arguments.noise_seed is not None:
        raise UsageError(
            "--images are there already; leave --size, --noise-seed, --precision and the sampling "
            "settings out"
        )
    if arguments.benchmark != "standard" and arguments.ckpt is not None:
        raise UsageError(
            f"--images of {arguments.benchmark} are judged without a checkpoint; leave --ckpt out"
        )


def _judge(arguments: argparse.Namespace, objects: Any, truths: Any) -> dict[str, Any]:
    if arguments.benchmark != "standard":
        return _judge_fixed(arguments)

    from dcar_eval.scenes.evaluate import evaluate_images
    from dcar_eval.scenes.given import find_images

    given = find_images(
        arguments.images,
        num_per_task=arguments.num_per_task,
        seed=arguments.seed,
        objects=objects,
        truths=truths is not None,
    )
    pipe = load_pipe(arguments, pick_device(arguments.device))
    return evaluate_images(
        given,
        arguments.out,
        tokenizer=pipe.tokenizer,
        device=pipe.device,
        force=arguments.force,
        truths=truths,
    )


def _judge_fixed(arguments: argparse.Namespace) -> dict[str, Any]:
    from dcar_eval.hard.fixed import judge_fixed
    from dcar_eval.scenes.given import find_numbered

    benchmark = _fixed(arguments)
    files = find_numbered(arguments.images, len(benchmark.asked), arguments.num_per_task)
    device = pick_device(arguments.device)
    return judge_fixed(benchmark, files, arguments.out, device=device, force=arguments.force)


def _fixed(arguments: argparse.Namespace, pipe: TextToImage | None = None) -> Benchmark:
    """What is asked by the harder benchmark, or by that of things.

    Things are those of the run that drew --images, or that a checkpoint knows; else all.
    """
    number, known = arguments.num_per_task, {}
    if arguments.images is not None:
        from dcar_eval.scenes.given import run_of

        known = run_of(arguments.images, arguments.benchmark)
        if known.get("num_per_task", number) != number:
            raise UsageError(
                f"{arguments.images} is of a run with num_per_task {known['num_per_task']}, "
                f"not {number}"
            )
    if arguments.benchmark == "hard":
        from dcar_eval.hard.evaluate import hard_benchmark

        return hard_benchmark(number)
    from dcar_eval.things.evaluate import known_things, things_benchmark
    from dcar_eval.things.recognizing import NAMES

    return things_benchmark(known.get("things") or (known_things(pipe) if pipe else NAMES), number)


def _list_prompts(arguments: argparse.Namespace, objects: Any) -> int:
    pipe = None
    if arguments.ckpt is not None:  # whether or not prompts depend on it: is there such a one?
        pipe = load_pipe(arguments, pick_device(arguments.device))
    if arguments.benchmark == "standard":
        prompts = _standard(arguments, objects, pipe)
    else:
        prompts = [row["prompt"] for row in _fixed(arguments, pipe).asked]
    print(json.dumps({"prompts": prompts}) if arguments.json else "\n".join(prompts))
    return OK


def _standard(arguments: argparse.Namespace, objects: Any, pipe: TextToImage | None) -> list[str]:
    """The prompts of the standard benchmark: of --images, of a checkpoint, or of anybody's."""
    from dcar_eval.scenes.evaluate import check_seeds
    from dcar_eval.scenes.given import find_objects
    from dcar_eval.scenes.prompts import known_objects, sample_prompts
    from dcar_eval.scenes.world import WORLDS

    asked: dict[str, Any] = {"num_per_task": arguments.num_per_task, "seed": arguments.seed}
    check_seeds(arguments.seed)
    if arguments.images is not None:
        objects = find_objects(arguments.images, objects=objects, **asked)
    elif objects is None:
        objects = known_objects(pipe) if pipe else tuple(sorted(WORLDS["wide"]))
    return [prompt.metadata["prompt"] for prompt in sample_prompts(objects, **asked)]


def _table(results: dict[str, Any]) -> str:
    """What people read."""
    from dcar_eval.runs.results import text_table

    if results.get("benchmark") == "hard":
        from dcar_eval.hard import evaluate as hard

        return hard.table(results)
    if results.get("benchmark") == "things":
        from dcar_eval.things import evaluate as things

        return things.table(results)
    own, distinct = results["recognizer"], results["distinct"]
    rows = [("overall", results["overall"], own["overall"], sum(distinct.values()))]
    rows += [
        (name, share, own["tasks"][name], distinct[name])
        for name, share in results["tasks"].items()
    ]
    lines = [(name, f"{share:.3f}", f"{most:.3f}", str(count)) for name, share, most, count in rows]
    heading = ("task", "correct", "recognizer alone", "different prompts")
    table = text_table([heading, *lines])
    return f"{table}\ncorrect and recognizable: {results['gated']:.3f}\n{_fidelity(results)}"


def _fidelity(results: dict[str, Any]) -> str:
    found = results["fidelity"]
    if found["estimated"]:
        return f"PSNR of the objects: {found['psnr_objects']:.2f} dB, estimated without their art"
    ceiling = found["ceiling"]
    names = {
        "psnr": "PSNR in dB", "psnr_objects": "of the objects", "ssim": "SSIM", "lpips": "LPIPS",
    }  # fmt: skip
    parts = [
        f"{label} {found[key]:.{digits}f} ({ceiling[key]:.{digits}f})"
        for (key, label), digits in zip(names.items(), (2, 2, 3, 3), strict=True)
        if found[key] is not None
    ]
    return f"beside the true scenes (the tokenizer's ceiling): {', '.join(parts)}"
