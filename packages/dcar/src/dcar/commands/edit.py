"""`dcar edit`: part of an image regenerated, more of it, or a variation."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcar.commands.common import (
    OUT,
    add_series,
    check_series,
    load_pipe,
    sampling_settings,
    screen_prompts,
    write_series,
)
from dcht.config import parse_size
from dcht.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from dcar.pipeline.edit import Edit

EXAMPLES = """examples:
  dcar edit photo.png "a red apple" --mask mask.png --out new.png     white is regenerated
  dcar edit photo.png "a red apple" --mask mask.png --num-images 4 --out several/
  dcar edit photo.png "a red apple" --outpaint left=128,right=128 --out wide.png
  dcar edit photo.png "a red apple" --strength 0.5 --out variation.png
  dcar replay new.png --image photo.png --out again.png

A mask snaps outwards to tokens of 32 x 32 pixels. Every pixel outside is the photo's own, bit for
bit. Sides are multiples of 32; --size 512x384 resizes and crops photo and mask.
"""
SIDES = ("left", "right", "top", "bottom")


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    verb = verbs.add_parser(
        "edit",
        help="part of an image regenerated, more of it, or a variation",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("image", type=Path, help="the image to edit")
    verb.add_argument("prompt", help="what the whole image shows afterwards")
    where = verb.add_mutually_exclusive_group()
    where.add_argument("--mask", type=Path, metavar="FILE", help="white where it is to change")
    where.add_argument(
        "--outpaint", type=margins, metavar="SIDE=PX,...",
        help="draw around it: left, right, top, bottom, in multiples of 32",
    )  # fmt: skip
    verb.add_argument(
        "--strength", type=float, metavar="S",
        help="share of the tokens that is regenerated, above 0 and at most 1: without --mask a "
        "variation of the whole image",
    )  # fmt: skip
    add_series(verb, out=OUT, size="N or WxH, multiples of 32 [the image's own]")
    verb.set_defaults(function=run)


def margins(text: str) -> dict[str, int]:
    """An argparse type: `left=128,top=64`."""
    found = {}
    for part in text.split(","):
        side, _, pixels = part.partition("=")
        if side not in SIDES or not pixels.isdecimal():
            raise argparse.ArgumentTypeError(
                f"{part!r} is not SIDE=PIXELS; for example left=128,top=64"
            )
        found[side] = int(pixels)
    return found


def run(arguments: argparse.Namespace) -> int:
    """Write the edited images."""
    if arguments.mask is None and arguments.outpaint is None and arguments.strength is None:
        raise UsageError(
            "what is to change? give --mask FILE, --outpaint left=128, or --strength 0.5 for a "
            "variation"
        )
    if arguments.outpaint is not None and arguments.strength is not None:
        raise UsageError("--strength is for --mask or the whole image, not for --outpaint")
    check_series(arguments, arguments.num_images)
    image, bright = read_images(arguments)

    pipe = load_pipe(arguments)
    patch = pipe.tokenizer.config.downsampling
    edit = snapped_edit(arguments, image, bright, patch)
    from dcar.pipeline.series import ImageSeries
    from dcht.images import to_tensor
    from dcht.reconstruct.fidelity import infidelity, mean_psnr

    if pipe.tokenizer.card_psnr is not None:
        psnr = mean_psnr(pipe.tokenizer, to_tensor(edit.image)[None])
        if line := infidelity(pipe.tokenizer, psnr):
            print(f"note: {line}", file=sys.stderr)
    found = screen_prompts(pipe, [arguments.prompt] * arguments.num_images)
    plan = ImageSeries(
        prompts=found.prompts,
        verdicts=found.verdicts,
        seed=arguments.seed,
        height=edit.region.shape[0] * patch,
        width=edit.region.shape[1] * patch,
        settings=pipe.settings(**sampling_settings(arguments)),
        batch_size=arguments.batch_size,
        metadata=arguments.metadata,
        edit=edit,
    )
    tokens = {"may_change": int(edit.region.sum()), "all": edit.region.size}
    return write_series(pipe, plan, arguments, {"tokens": tokens})


def read_images(arguments: argparse.Namespace) -> tuple[Image.Image, np.ndarray | None]:
    """The image, brought to `--size`, and where it is to change; None without a mask."""
    from dcar.pipeline.edit import fit_mask
    from dcht.images import ImageError, open_image, resize_crop

    def read(path: Path) -> Any:
        try:
            return open_image(path)
        except ImageError as error:
            raise UsageError(f"{path}: {error}") from None

    image = read(arguments.image)
    mask = None if arguments.mask is None else read(arguments.mask).convert("L")
    if mask is not None and mask.size != image.size:
        raise UsageError(
            f"{arguments.mask} is {mask.width} x {mask.height}, {arguments.image} is "
            f"{image.width} x {image.height}; they must be of one size"
        )
    if arguments.size is not None:
        image = resize_crop(image, parse_size(arguments.size))
    if mask is None:
        return image, None
    bright = fit_mask(mask, image.size)
    if not bright.any() and fit_mask(mask, mask.size).any():
        raise UsageError(
            f"nothing to change: where {arguments.mask} is bright, --size {arguments.size} "
            f"crops the image; one of its shape ({mask.width} x {mask.height}) keeps it all"
        )
    return image, bright


def snapped_edit(
    arguments: argparse.Namespace, image: Image.Image, bright: np.ndarray | None, patch: int
) -> Edit:
    """The edit that the command line asks for; on stderr, what snapping made of its mask.

    Args:
        arguments: the command line.
        image: what is edited.
        bright: where it is to change (H, W); None: everywhere, or around it.
        patch: pixels of a token's side.
    """
    from dcar.pipeline.edit import inpaint, outpaint

    if image.width % patch or image.height % patch:
        fits = max(32, patch)  # what --size takes
        width, height = (max(fits, side // fits * fits) for side in image.size)
        raise UsageError(
            f"{arguments.image} is {image.width} x {image.height}, not multiples of {patch}; "
            f"--size {width}x{height} resizes and crops it"
        )
    if arguments.outpaint is not None:
        return outpaint(image, **arguments.outpaint, patch=patch)
    strength = 1 if arguments.strength is None else arguments.strength
    edit = inpaint(image, bright, patch=patch, strength=strength)
    if bright is not None:
        white = int(bright.sum())
        tokens = int(edit.region.sum())
        print(
            f"mask: {white:,} px, snapped outwards to tokens of {patch} px: "
            f"{tokens * patch * patch:,} px ({tokens} of {edit.region.size} tokens) may change",
            file=sys.stderr,
        )
    return edit
