"""What `dcar generate`, `edit` and `replay` have in common: options, the pipeline, the report."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcar.config import SAFETY_THRESHOLD
from dcar.sampling_config import SAMPLING_PRESETS, Guidance, Order, Selector, Solver
from dcht.commands.common import (
    OK,
    PRECISION_WITH_INT8,
    add_common,
    positive,
    require_folder_name,
)
from dcht.commands.terminal import loading
from dcht.device import pick_device
from dcht.errors import UsageError, printable
from dcht.files import locked, remove_partials

if TYPE_CHECKING:
    from dcar.pipeline import TextToImage
    from dcar.pipeline.safety import Screened
    from dcar.pipeline.series import ImageSeries
    from dcar.pipeline.settings import Settings

OUT = {"help": "x.png, or a folder"}
NO_METADATA = (
    "leave out the record and the mark that a model made the image; it can then neither be "
    "replayed nor kept by a repeated command"
)
CKPT = {"help": "generator folder or Hub id [the bundled one]"}


def add_series(verb: argparse.ArgumentParser, *, out: dict[str, Any], size: str) -> None:
    """Add the options of a verb that samples a series of images.

    Args:
        verb: the parser to add them to.
        out: what argparse should know about `--out`.
        size: the help of `--size`, which has no default.
    """
    verb.add_argument(
        "--num-images", type=positive, default=1, metavar="N",
        help="images of each prompt [1]",
    )  # fmt: skip
    verb.add_argument("--grid", action="store_true", help="write one contact sheet, --out x.png")
    verb.add_argument(
        "--film", type=Path, action="append", default=[], metavar="X",
        help="write the unmasking too: x.gif is animated, x.png shows all steps; twice for both",
    )  # fmt: skip
    verb.add_argument(
        "--preview", action="store_true",
        help="show each step in OUT.preview.png while it runs; the file is removed at the end",
    )  # fmt: skip
    verb.add_argument(
        "--safety", metavar="NAME",
        help="ask this ShieldGemma (folder or Hub id) about every prompt; a rejected one becomes "
        "'A red heart' [no check]",
    )  # fmt: skip
    verb.add_argument(
        "--safety-threshold", type=float, metavar="P",
        help=f"P(Yes) from which a prompt is rejected [{SAFETY_THRESHOLD}]",
    )  # fmt: skip
    verb.add_argument("--no-metadata", dest="metadata", action="store_false", help=NO_METADATA)
    add_sampling(verb)
    add_common(
        verb, "out", "ckpt", "seed", "size", "batch_size", "device", "precision",
        "force", "resume", "offline",
        "json", out=out, ckpt=CKPT, batch_size=8, size={"default": None, "help": size},
        seed={"help": "image k depends on (seed, k) [0]"}, precision=PRECISION_WITH_INT8,
    )  # fmt: skip


def add_sampling(verb: argparse.ArgumentParser) -> None:
    """Add the options that take the place of the checkpoint's sampling settings."""
    settings = verb.add_argument_group("sampling, in place of the checkpoint's settings")
    settings.add_argument(
        "--preset", choices=list(SAMPLING_PRESETS), help="a named set of the settings below"
    )
    settings.add_argument(
        "--steps", type=positive, dest="num_steps", metavar="N", help="number of unmasking steps"
    )
    settings.add_argument(
        "--cfg", type=float, dest="cfg_scale", metavar="S", help="guidance scale; 0 is off"
    )
    settings.add_argument(
        "--guidance",
        choices=_values(Guidance),
        help="how the guidance scale changes over the steps",
    )
    settings.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="how random the first step is; it falls to 0 with the steps",
    )
    settings.add_argument("--order", choices=_values(Order), help="which tokens come first")
    settings.add_argument(
        "--diffusion-steps", type=positive, dest="num_diffusion_steps", metavar="N",
        help="diffusion steps of the residual head",
    )  # fmt: skip
    settings.add_argument(
        "--solver", choices=_values(Solver), help="solver of the residual head's diffusion"
    )
    settings.add_argument(
        "--fts",
        choices=_values(Selector),
        help="give the tokens that this ranks first more diffusion steps than the others",
    )


def _values(choices: Any) -> list[str]:
    return [choice.value for choice in choices]


def sampling_settings(arguments: argparse.Namespace) -> Settings:
    """The sampling settings that the command line gives."""
    names = (
        "preset", "num_steps", "cfg_scale", "guidance", "temperature", "order",
        "num_diffusion_steps", "solver", "fts",
    )  # fmt: skip
    given = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in given.items() if value is not None}  # type: ignore[return-value]


def is_image_path(out: Path) -> bool:
    """Whether an output is one image and not a folder."""
    return out.suffix.lower() == ".png"


def check_series(arguments: argparse.Namespace, count: int) -> None:
    """Refuse an output that does not fit `count` images, before torch is loaded.

    Raises:
        UsageError: saying what would fit.
    """
    to_file = is_image_path(arguments.out)
    if not to_file:
        require_folder_name(arguments.out, instead="an image is x.png, whose record is in it")
    if arguments.grid and not to_file:
        raise UsageError(f"--grid writes one image; --out {arguments.out} should end in .png")
    if to_file and count > 1 and not arguments.grid:
        raise UsageError(
            f"--out {arguments.out} is one file for {count} images; name a folder, or add "
            "--grid for a contact sheet"
        )
    if arguments.preview and not arguments.force and (path := preview_path(arguments.out)).exists():
        raise UsageError(
            f"{path} is there already, and --preview would write and then remove it; move it, or "
            "use --force"
        )
    for film in arguments.film:
        if film.suffix.lower() not in (".gif", ".png"):
            raise UsageError(f"--film {film} should end in .gif or .png")
        place, out = film.resolve(), arguments.out.resolve()
        if place == out:
            raise UsageError(f"--film and --out are both {film}; name two files")
        if place.parent == out and re.fullmatch(r"[0-9]+\.png", place.name):
            raise UsageError(f"--film {film} is called as an image of --out {arguments.out} is")
        if count > arguments.batch_size:
            raise UsageError(
                f"--film shows one batch: {count} images, --batch-size {arguments.batch_size}"
            )


def preview_path(out: Path) -> Path:
    """The file of `--preview`: `x.preview.png` beside `x.png`, `drawn.preview.png` beside `drawn/`.

    Never inside a folder of images, where another command would take it for one of them.
    """
    out = out.absolute()  # `.` has no name
    name = out.stem if is_image_path(out) else out.name
    return out.with_name(f"{name}.preview.png")


def load_pipe(arguments: argparse.Namespace) -> TextToImage:
    """The pipeline of a verb with `add_series`, on its device."""
    with loading():
        from dcar.pipeline import TextToImage

        return TextToImage.from_pretrained(
            arguments.ckpt,
            device=pick_device(arguments.device),
            precision=arguments.precision,
            safety=arguments.safety,
            safety_threshold=arguments.safety_threshold,
        )


def screen_prompts(pipe: TextToImage, prompts: Sequence[str]) -> Screened:
    """Prompts after the safety check; on stderr, those rejected and what it does not know."""
    from dcar.pipeline.notes import prompt_notes

    found = pipe.screen(prompts)
    for line in prompt_notes(pipe, found, advice=word_advice(pipe)):
        print(printable(line), file=sys.stderr)
    return found


def word_advice(pipe: TextToImage) -> str:
    """What to do about words that the checkpoint does not know."""
    return (
        f"--list-words prints all {len(pipe.text.known_words() or [])} words; --ckpt FOLDER or a "
        "Hub id loads a larger checkpoint"
    )


def write_series(
    pipe: TextToImage, plan: ImageSeries, arguments: argparse.Namespace, extra: dict[str, Any]
) -> int:
    """Write a plan's images, its sheet and its films, and report them."""
    from dcar.pipeline.notes import left_out, unknown_words
    from dcar.pipeline.preview import live_preview
    from dcar.pipeline.series import generate_film, generate_images, generate_sheet
    from dcar.pipeline.vocabulary import vocabulary_of
    from dcht.checkpoint import to_dict

    start = time.perf_counter()
    write = generate_sheet if arguments.grid else generate_images
    out: Path = arguments.out
    with nullcontext() if is_image_path(out) else locked(out):
        if not is_image_path(out):
            remove_partials(out)
        with live_preview(preview_path(out)) if arguments.preview else nullcontext() as show:
            files = write(pipe, plan, out, force=arguments.force, show=show)
    for film in arguments.film:
        files += generate_film(pipe, plan, film, force=arguments.force)
    unknown, known = unknown_words(pipe, plan.prompts), vocabulary_of(pipe)
    knows = known._asdict() if unknown and known is not None else None
    extra = {
        "seed": plan.seed,
        "unknown_words": unknown,
        "knows": knows,
        "left_out": left_out(pipe, plan.prompts),
        **extra,
    }
    if pipe.safety is not None:
        extra["safety"] = [
            to_dict(verdict) | {"rejected": verdict.rejected}
            for verdict in plan.verdicts
            if verdict is not None
        ]
    return report(arguments, files, time.perf_counter() - start, extra)


def report(
    arguments: argparse.Namespace, files: Sequence[Path], seconds: float, extra: dict[str, Any]
) -> int:
    """Print the files, or one JSON object with more."""
    if arguments.json:
        names = [str(file) for file in files]
        print(json.dumps({"files": names, **extra, "seconds": round(seconds, 3)}))
    else:
        for file in files:
            print(printable(file))
    return OK
