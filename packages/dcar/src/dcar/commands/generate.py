"""`dcar generate`: prompts to images."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dcar.commands.common import (
    OUT,
    add_series,
    check_series,
    is_image_path,
    load_pipe,
    sampling_settings,
    screen_prompts,
    write_series,
)
from dcht.commands.common import OK
from dcht.config import parse_size
from dcht.errors import UsageError, printable
from dcht.files import open_stream, write_atomic

EXAMPLES = """examples:
  dcar generate "a photo of a red apple" --out apple.png
  dcar generate "a red apple" "a blue car" --num-images 4 --seed 7 --out pictures/
  cat prompts.txt | dcar generate --prompts - --out sheet.png --grid
  dcar generate "a red apple" --size 512x256 --preset halton-12 --out wide.png
  dcar generate "a red apple" --out apple.png --film apple.gif --film steps.png
  dcar generate --prompts prompts.txt --captions --out drawn/     for dcht encode drawn/
  dcar generate --list-words
"""


MAX_PROMPTS = 1 << 26
"""Bytes of the largest file of prompts that is read."""


def add(verbs: Any) -> None:
    """Add the verb to the subparsers."""
    verb = verbs.add_parser(
        "generate",
        help="prompts to images",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("prompt", nargs="*", help="what to generate")
    verb.add_argument("--prompts", metavar="FILE", help="a prompt a line; - is stdin")
    verb.add_argument(
        "--list-words", action="store_true",
        help="print the words or classes that the checkpoint knows, and do nothing else",
    )  # fmt: skip
    verb.add_argument(
        "--captions", action="store_true",
        help="write each prompt beside its image, as dcht encode reads captions",
    )  # fmt: skip
    size = "N or WxH, multiples of 32 [the checkpoint's]"
    # --list-words has no --out; `run` asks for it otherwise.
    add_series(verb, out=OUT | {"required": False}, size=size)
    verb.set_defaults(function=run)


def read_prompts(words: list[str], file: str | None) -> list[str]:
    """The prompts of the command line, then those of a file (`-`: stdin), a line each.

    Raises:
        UsageError: there are none, or the file cannot be read.
    """
    from dcht.data.captions import text_captions

    prompts = list(words)
    if file is not None:
        prompts += text_captions(_read_text(file))
    if not prompts:
        raise UsageError(
            'no prompt; for example: dcar generate "a photo of a red apple" --out x.png'
        )
    return prompts


def _read_text(file: str) -> str:
    """The text of a file, a pipe (`<(...)`) or stdin (`-`), in UTF-8, with or without its mark."""
    try:
        if file == "-":
            content = sys.stdin.buffer.read(MAX_PROMPTS + 1)
        else:
            with open_stream(file) as opened:
                content = opened.read(MAX_PROMPTS + 1)
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise UsageError(f"--prompts {file}: {error}") from None
    if len(content) > MAX_PROMPTS:
        raise UsageError(f"--prompts {file} is larger than {MAX_PROMPTS:,} bytes")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Write the images, or print the words."""
    if arguments.list_words:
        return _list_words(arguments)
    # What can be wrong without the weights is found before torch is loaded.
    prompts = read_prompts(arguments.prompt, arguments.prompts)
    prompts = [prompt for prompt in prompts for _ in range(arguments.num_images)]
    size = None if arguments.size is None else parse_size(arguments.size)
    if arguments.out is None:
        raise UsageError("--out is missing; name x.png, or a folder")
    check_series(arguments, len(prompts))
    if arguments.captions and (arguments.grid or is_image_path(arguments.out)):
        raise UsageError("--captions stand beside images; give --out a folder, without --grid")

    pipe = load_pipe(arguments)
    from dcar.pipeline.series import ImageSeries

    width, height = size or (pipe.size[1], pipe.size[0])
    settings = pipe.settings(**sampling_settings(arguments))
    found = screen_prompts(pipe, prompts)
    plan = ImageSeries(
        prompts=found.prompts,
        verdicts=found.verdicts,
        seed=arguments.seed,
        height=height,
        width=width,
        settings=settings,
        batch_size=arguments.batch_size,
        metadata=arguments.metadata,
    )
    captions = _captions(arguments, plan.prompts) if arguments.captions else {}
    code = write_series(pipe, plan, arguments, {})
    for path, content in captions.items():
        write_atomic(path, content)
    return code


def _captions(arguments: argparse.Namespace, prompts: Sequence[str]) -> dict[Path, bytes]:
    """The files of `--captions`, by path, without those that are there and say the same.

    Raises:
        UsageError: one is there and says something else, as its owner has written it.
    """
    found = {}
    for number, prompt in enumerate(prompts):
        path = arguments.out / f"{number:05d}.txt"
        caption = " ".join(prompt.split())  # a line is a caption
        content = f"{caption}\n".encode()
        there = path.read_bytes() if path.exists() else None
        if there not in (None, content) and not arguments.force:
            raise UsageError(
                f"{path} exists and says something else; use --force or another --out, or leave "
                "--captions out"
            )
        if there != content:
            found[path] = content
    return found


def _list_words(arguments: argparse.Namespace) -> int:
    from dcar.pipeline.vocabulary import vocabulary_of

    pipe = load_pipe(arguments)
    words = pipe.text.known_words()
    if words is None:
        raise UsageError("this checkpoint reads any text (a T5); there is no list of words")
    if pipe.model.config.text.classes is not None:
        if arguments.json:
            print(json.dumps({"classes": words}))
        else:
            print(*map(printable, words), sep="\n")
        return OK
    known = vocabulary_of(pipe)
    assert known is not None
    groups = known._asdict()
    if arguments.json:
        print(json.dumps({"words": words, **groups}))
    else:
        for name, group in groups.items():
            between = ", " if any(" " in word for word in group) else " "  # "fire truck"
            print(f"{name}: {between.join(map(printable, group)) or 'none'}")
    return OK
