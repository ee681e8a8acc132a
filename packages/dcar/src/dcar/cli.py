"""`dcar generate|replay` and `dcar-train`: parse, call one function, report. No torch before it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from dcar import __version__
from dcar.config import PRESETS, Order
from dcht.cli import positive
from dcht.command import OK, parse_size, pick_device, run
from dcht.errors import UsageError

EPILOG = """examples:
  dcar generate "a photo of a red apple" --out apple.png     with the bundled checkpoint
  dcar generate "a red apple" "a blue car" --num-images 4 --out pictures/
  dcar generate --prompts prompts.txt --out sheet.png --grid
  dcar generate "a red apple" --out apple.png --film apple.gif
  dcar replay apple.png --out again.png                      the same picture, byte for byte

exit codes: 0 ok, 2 usage or bad input, 4 bad checkpoint
"""

TRAIN_HELP = """\
usage: dcar-train +experiment=NAME [KEY=VALUE ...]

Train a generator on latents; the result is OUT/checkpoint.
The same command continues a run that was stopped.

examples:
  dcht encode pictures/ --out latents/
  dcar-train +experiment=scenes256 data.root=latents out=runs/scenes
  dcar-train +experiment=pretrain256 tokenizer_ckpt=TOKENIZER data.root=latents out=runs/256
  dcar-train +experiment=finetune512 init_from=runs/256/checkpoint tokenizer_ckpt=TOKENIZER \\
      data.root=latents512 out=runs/512

experiments: {experiments}
models (model=NAME): {models}
data (data=NAME): latents, folder

options:
  -h, --help              this text
  --cfg job --resolve     show every setting with its value, and do not run
  --hydra-help            what else the command line can do
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line of `dcar`."""
    parser = argparse.ArgumentParser(
        prog="dcar",
        description="DC-AR: text to image with a masked autoregressive generator.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dcar {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    generate = verbs.add_parser("generate", help="prompts to pictures")
    generate.add_argument("prompt", nargs="*", help="what to draw")
    generate.add_argument("--prompts", metavar="FILE", help="a prompt a line; - is stdin")
    generate.add_argument("--num-images", type=positive, default=1, metavar="N", help="a prompt")
    generate.add_argument("--seed", type=int, default=0, help="image k depends on (seed, k) [0]")
    generate.add_argument("--size", help="N or WxH, multiples of 32 [the checkpoint's]")
    generate.add_argument("--steps", type=positive, help="unmasking steps [the checkpoint's]")
    generate.add_argument("--diffusion-steps", type=positive, help="of the residual head")
    generate.add_argument("--cfg", type=float, help="guidance, 0 is off [the checkpoint's]")
    generate.add_argument("--temperature", type=float, help="[the checkpoint's]")
    generate.add_argument(
        "--order", choices=[order.value for order in Order], help="which tokens a step keeps"
    )
    generate.add_argument("--batch-size", type=positive, default=8, metavar="N")
    generate.add_argument("--grid", action="store_true", help="one contact sheet, --out x.png")
    generate.add_argument("--film", type=Path, metavar="X.gif", help="the unmasking, animated")
    generate.set_defaults(function=_generate)

    replay = verbs.add_parser("replay", help="make a picture again from what its PNG records")
    replay.add_argument("picture", type=Path, help="a PNG that dcar generate wrote")
    replay.set_defaults(function=_replay)

    for verb in (generate, replay):
        verb.add_argument("--out", type=Path, required=True, help="x.png, or a folder")
        verb.add_argument("--ckpt", help="generator folder or Hub id [the bundled one]")
        verb.add_argument("--device", default="auto", help="auto, cpu, cuda or mps [auto]")
        verb.add_argument("--force", action="store_true", help="replace what --out holds")
        verb.add_argument(
            "--resume", action="store_true", help="what repeating a command does anyway"
        )
        verb.add_argument("--offline", action="store_true", help="never ask the Hub")
        verb.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def read_prompts(words: list[str], file: str | None) -> list[str]:
    """The prompts of the command line, then those of a file (`-`: stdin), a line each.

    Raises:
        UsageError: there are none, or the file cannot be read.
    """
    prompts = list(words)
    if file is not None:
        try:
            content = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--prompts {file}: {error}") from None
        prompts += [line.strip() for line in content.splitlines() if line.strip()]
    if not prompts:
        raise UsageError(
            'no prompt; for example: dcar generate "a photo of a red apple" --out x.png'
        )
    return prompts


def _generate(arguments: argparse.Namespace) -> int:
    # What can be wrong without the weights is found before torch is loaded.
    prompts = read_prompts(arguments.prompt, arguments.prompts)
    prompts = [prompt for prompt in prompts for _ in range(arguments.num_images)]
    size = None if arguments.size is None else parse_size(arguments.size)
    to_file = arguments.out.suffix.lower() == ".png"
    if arguments.grid and not to_file:
        raise UsageError(f"--grid writes one picture; --out {arguments.out} should end in .png")
    if to_file and len(prompts) > 1 and not arguments.grid:
        raise UsageError(
            f"--out {arguments.out} is one file for {len(prompts)} pictures; name a folder, or "
            "add --grid for a contact sheet"
        )
    if arguments.film is not None and arguments.film.suffix.lower() != ".gif":
        raise UsageError(f"--film {arguments.film} should end in .gif")
    if arguments.film is not None and len(prompts) > arguments.batch_size:
        raise UsageError(
            f"--film shows one batch: {len(prompts)} pictures, --batch-size {arguments.batch_size}"
        )
    from dcar.generate import Plan, generate_film, generate_images, generate_sheet
    from dcar.pipeline import TextToImage

    start = time.perf_counter()
    pipe = TextToImage.from_pretrained(arguments.ckpt).to(pick_device(arguments.device))
    width, height = size or (pipe.size[1], pipe.size[0])
    plan = Plan(
        prompts=prompts,
        seed=arguments.seed,
        height=height,
        width=width,
        settings=pipe.settings(
            num_steps=arguments.steps,
            cfg_scale=arguments.cfg,
            temperature=arguments.temperature,
            num_diffusion_steps=arguments.diffusion_steps,
            order=arguments.order,
        ),
        batch_size=arguments.batch_size,
    )
    unknown = {prompt: pipe.text.unknown_words(prompt) for prompt in dict.fromkeys(prompts)}
    for prompt, words in unknown.items():
        if words:
            named = ", ".join(repr(word) for word in words)
            print(f"{prompt!r}: this checkpoint does not know {named}", file=sys.stderr)
    write = generate_sheet if arguments.grid else generate_images
    files = write(pipe, plan, arguments.out, force=arguments.force)
    if arguments.film is not None:
        files += generate_film(pipe, plan, arguments.film, force=arguments.force)
    extra = {"seed": arguments.seed, "unknown_words": unknown}
    return _report(arguments, files, time.perf_counter() - start, extra)


def _replay(arguments: argparse.Namespace) -> int:
    from dcar.generate import read_record, replay_file
    from dcar.pipeline import TextToImage

    start = time.perf_counter()
    record = read_record(arguments.picture)
    device = record.device if arguments.device == "auto" else arguments.device
    pipe = TextToImage.from_pretrained(arguments.ckpt).to(pick_device(device))
    files = replay_file(pipe, record, arguments.out, force=arguments.force)
    return _report(arguments, files, time.perf_counter() - start, {"prompt": record.prompt})


def _report(
    arguments: argparse.Namespace, files: list[Path], seconds: float, extra: dict[str, Any]
) -> int:
    if arguments.json:
        names = [str(file) for file in files]
        print(json.dumps({"files": names, **extra, "seconds": round(seconds, 3)}))
    else:
        for file in files:
            print(file)
    return OK


def main() -> NoReturn:
    """Entry point of `dcar`."""
    arguments = build_parser().parse_args()
    if arguments.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    run(lambda: arguments.function(arguments))


def train_main() -> NoReturn:
    """Entry point of `dcar-train`."""
    from dcht.launch import experiment_names, launch

    def register() -> None:
        from dcar.conf import register

        register()

    def task(config: Any) -> int:
        from dcar.train import train

        return train(config)

    names = {"experiments": ", ".join(experiment_names("dcar")), "models": ", ".join(PRESETS)}
    launch("dcar.conf", help_text=TRAIN_HELP.format(**names), register=register, task=task)
