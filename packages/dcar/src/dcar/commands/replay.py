"""`dcar replay`: an image made again from what its PNG records."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcar.commands.common import CKPT, is_image_path, report
from dcht.commands.common import add_common
from dcht.device import pick_device
from dcht.errors import UsageError, printable

if TYPE_CHECKING:
    import torch

    from dcar.pipeline.record import Record


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    verb = verbs.add_parser("replay", help="make an image again from what its PNG records")
    verb.add_argument("png", type=Path, metavar="PNG", help="one that dcar generate or edit wrote")
    verb.add_argument("--image", type=Path, help="of an edit: the image that was edited")
    verb.add_argument(
        "--no-metadata", dest="metadata", action="store_false",
        help="leave out the record and the mark that a model made the image",
    )  # fmt: skip
    add_common(
        verb, "out", "ckpt", "device", "force", "resume", "offline", "json",
        out={"help": "x.png"}, ckpt=CKPT,
    )  # fmt: skip
    verb.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the image again."""
    if not is_image_path(arguments.out):
        raise UsageError(f"--out {arguments.out} should end in .png: replay writes one image")
    from dcar.pipeline import TextToImage
    from dcar.pipeline.notes import replay_notes
    from dcar.pipeline.record import XMP, read_record
    from dcar.pipeline.series import replay_file
    from dcht.images import ImageError, open_image, read_png_text

    start = time.perf_counter()
    record = read_record(arguments.png)
    image = None
    if arguments.image is not None:
        try:
            image = open_image(arguments.image)
        except ImageError as error:
            raise UsageError(f"{arguments.image}: {error}") from None
    asked = arguments.device
    device = _device_of(record, arguments.png) if asked == "auto" else pick_device(asked)
    pipe = TextToImage.from_pretrained(arguments.ckpt, device=device, precision=record.precision)
    files = replay_file(
        pipe, record, arguments.out, image=image, force=arguments.force,
        metadata=arguments.metadata, xmp=XMP in read_png_text(arguments.png),
    )  # fmt: skip
    for line in replay_notes(arguments.png, arguments.out):
        print(printable(line), file=sys.stderr)
    return report(arguments, files, time.perf_counter() - start, {"prompt": record.prompt})


def _device_of(record: Record, png: Path) -> torch.device:
    """The device that an image was drawn on.

    Raises:
        UsageError: it is not here; the message says how to replay the image all the same.
    """
    try:
        return pick_device(record.device)
    except UsageError:
        raise UsageError(
            f"{png} was drawn on {record.device}, which is not available here; --device cpu "
            "replays it on the CPU, where differences are to be expected"
        ) from None
