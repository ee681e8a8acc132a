"""A small world to run every resumable command in: images, checkpoints, a store, a benchmark."""

from __future__ import annotations

import json
import shlex
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from harness import Command
from PIL import Image, ImageDraw
from torch import Tensor, nn

CAPTIONS = ("a red apple", "a blue car\nthe blue car", "two green cars", "a dog and a cat")
OBJECTS = ("apple", "banana", "car", "dog")
CODES = ("1f34e", "1f34c", "1f697", "1f415")
TOKENIZER, GENERATOR, STORE = "tokenizer", "generator", "store"
PICTURES, PHOTO, MASK, TAR = "pictures", "photo.png", "mask.png", "pictures.tar"
MJHQ, SPRITES, AUTOENCODER, RESULTS = "mjhq", "node_modules", "autoencoder.safetensors", "results"


class Patches(nn.Module):
    """Features that are twelve means: a distance in no time."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images.float() / 255, 2).flatten(1)


def patches() -> nn.Module:
    """What `--extractor` names."""
    return Patches()


def make(world: Path) -> None:
    """Make everything; takes seconds."""
    world.mkdir()
    _write_images(world)
    _write_checkpoints(world)
    _write_benchmark(world / MJHQ)
    _write_sprites(world / SPRITES)
    _write_autoencoder(world / AUTOENCODER)
    _write_results(world)


def _image(seed: int, side: int = 64) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)


def _write_images(world: Path) -> None:
    """Eight, one of them in a folder, with captions; and one that cannot be read."""
    folder = world / PICTURES
    (folder / "more").mkdir(parents=True)
    for number in range(8):
        stem = folder / ("more" if number == 7 else "") / f"{number:02d}"
        _image(number).save(stem.with_suffix(".png"))
        stem.with_suffix(".txt").write_text(CAPTIONS[number % 4] + "\n")
    (folder / "05-broken.png").write_text("no image")
    with tarfile.open(world / TAR, "w") as tar:
        for path in sorted(folder.rglob("*.*")):
            tar.add(path, path.relative_to(folder).as_posix())
    _image(20).save(world / PHOTO)
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    mask.save(world / MASK)


def _write_checkpoints(world: Path) -> None:
    from dcar.config import PRESETS, CheckpointConfig, SamplingConfig
    from dcar.model import DCAR
    from dcar.modules.text import TextEncoder, word_tokenizer
    from dcar.sampling_config import Solver
    from dcar.weights.pretrained import refer_to_tokenizer, save_pretrained
    from dcht import PRESETS as TOKENIZERS
    from dcht import Tokenizer
    from dcht.latents.encode import encode_images
    from dcht.latents.encode_job import EncodeSettings

    torch.manual_seed(0)
    Tokenizer(TOKENIZERS["tiny"]).eval().save_pretrained(world / TOKENIZER)
    tokenizer = Tokenizer.from_pretrained(world / TOKENIZER)
    encode_images(
        tokenizer, world / PICTURES, world / STORE, EncodeSettings(size=(64, 64), batch_size=4)
    )
    preset = PRESETS["tiny"]
    assert preset.text.joint is not None
    model = DCAR(preset)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    words = word_tokenizer("\n".join(CAPTIONS).splitlines(), preset.text.joint)
    config = CheckpointConfig(
        model=preset,
        tokenizer=refer_to_tokenizer(tokenizer, str(world / TOKENIZER), world / GENERATOR),
        sampling=SamplingConfig(
            num_steps=2, solver=Solver.dpmpp, num_diffusion_steps=4, cfg_scale=1.0
        ),
        height=64,
        width=64,
    )
    text = TextEncoder.joint(preset.text, preset.generator, words)
    save_pretrained(world / GENERATOR, model, text, config)


def _write_benchmark(folder: Path) -> None:
    rows = {}
    for number in range(6):
        category, key = ("people", "animals")[number % 2], f"{number:02d}beef"
        rows[key] = {"category": category, "prompt": CAPTIONS[number % 4].splitlines()[0]}
        (folder / "imgs" / category).mkdir(parents=True, exist_ok=True)
        _image(40 + number).save(folder / "imgs" / category / f"{key}.jpg")
    (folder / "meta_data.json").write_text(json.dumps(rows))


def _write_sprites(folder: Path) -> None:
    from dcar_eval.scenes.world import SPRITE_LABELS

    art, labels = folder / "art", folder / "emojibase-data" / "en"
    art.mkdir(parents=True)
    labels.mkdir(parents=True)
    pairs = list(zip(OBJECTS, CODES, strict=True))
    rows = [{"label": SPRITE_LABELS[name], "hexcode": code} for name, code in pairs]
    (labels / "data.json").write_text(json.dumps(rows))
    for kind, code in enumerate(CODES):
        sprite = Image.new("RGBA", (128, 128))
        box = (10 + 5 * kind, 5, 120, 125 - 10 * kind)
        ImageDraw.Draw(sprite).ellipse(box, fill=(60 + 40 * kind, 90, 200 - 40 * kind, 255))
        ImageDraw.Draw(sprite).rectangle((50, 50, 65, 65), fill=(250, 250, 240, 255))
        sprite.save(art / f"{code}.webp", lossless=True)


def _write_autoencoder(file: Path) -> None:
    """A published autoencoder at its smallest, under its authors' names."""
    from safetensors.torch import save_file

    from dcht import PRESETS, Tokenizer
    from dcht.convert.keys import Family, their_key

    torch.manual_seed(1)
    config = replace(PRESETS["tiny"], codebook_size=None)
    tensors = Tokenizer(config).state_dict()
    save_file({their_key(key, config, Family.EFFICIENTVIT): t for key, t in tensors.items()}, file)


def _write_results(world: Path) -> None:
    """An evaluation that has ended, for a report."""
    from dcar_eval.reconstruction import evaluate_reconstruction
    from dcht import Tokenizer

    evaluate_reconstruction(
        Tokenizer.from_pretrained(world / TOKENIZER), world / PICTURES, world / RESULTS,
        size=(64, 64),
    )  # fmt: skip


ENCODE = "dcht encode {pictures} --out {out} {tokenizer} --size 64 --batch-size 2 --shard-size 3"
RECONSTRUCTION = (
    "dcar-eval reconstruction --images {pictures} --out {out} {tokenizer} --size 64 --batch-size 2 "
    "--extractor {extractor}"
)
SCENES = (
    "dcar-eval scenes --sprites {world}/node_modules --num 5 --size 64 --workers 1 "
    "--objects {objects} --out {out}"
)
TRAINING = "device=cpu trackers=[] log_every=1 save_every=2 batch_size=4 out={out}"
SPEED = ("sweep.csv", "sweep.png", "sweep.svg", "speed.json")
COMMANDS = (
    Command("encode", ENCODE, code=3),
    Command("encode a tar", ENCODE.replace("{pictures}", "{world}/pictures.tar"), code=3),
    Command("encode in two processes", f"{ENCODE} --workers 2", code=3),
    Command(
        "reconstruct",
        "dcht reconstruct {pictures} --out {out} {tokenizer} --size 64 --batch-size 2",
        code=3,
    ),
    Command("decode", "dcht decode {world}/store --out {out} {tokenizer} --batch-size 2"),
    Command("convert", "dcht convert {world}/autoencoder.safetensors --out {out} --codebook 16"),
    Command(
        "train a tokenizer",
        f"dcht-train +experiment=tiny data.root={{pictures}} {TRAINING} data.num_val=1 loss.gan=0 "
        "tokenizer.codebook_size=8 continuous_warmup.steps=3 discrete_learning.steps=3 "
        "alternate_finetune.steps=2 eval_every=2",
        volatile=("curves.png", "curves.csv"),
    ),
    Command(
        "generate",
        "dcar generate 'a red apple' 'two green cars' --num-images 2 --out {out} {generator} "
        "--batch-size 2",
    ),
    Command(
        "edit",
        "dcar edit {world}/photo.png 'a red apple' --mask {world}/mask.png --num-images 3 "
        "--out {out} {generator} --batch-size 2",
    ),
    Command(
        "train a generator",
        "dcar-train +experiment=tiny tokenizer_ckpt={world}/tokenizer data.root={world}/store "
        f"{TRAINING} steps=4 sample_every=2 reconstructions=1",
        volatile=("curves.png", "curves.csv"),
    ),
    Command("reconstruction", RECONSTRUCTION, code=3),
    Command("a share of a reconstruction", f"{RECONSTRUCTION} --shard 1/2"),
    Command(
        "stats",
        "dcar-eval stats {world}/mjhq/imgs --out {out}.npz --size 64 --batch-size 2 --device cpu "
        "--extractor {extractor}",
    ),
    Command(
        "mjhq",
        "dcar-eval mjhq --data {world}/mjhq --out {out} {generator} --size 64 --batch-size 2 "
        "--extractor {extractor}",
    ),
    Command("geneval", "dcar-eval geneval --smoke --num-per-task 1 --out {out} {generator}"),
    Command("scenes", SCENES),
    Command("scenes in tars", f"{SCENES} --webdataset"),
    Command(
        "scenes-eval",
        "dcar-eval scenes-eval --num-per-task 1 --objects {objects} --out {out} {generator} "
        "--batch-size 4",
    ),
    Command(
        "sweep",
        "dcar-eval sweep num_steps=1,2 --num-per-task 1 --objects {objects} --repeats 1 "
        "--out {out} {generator}",
        volatile=SPEED,
    ),
    Command(
        "profile",
        "dcar-eval profile --precision fp32 --warmup 0 --repeats 1 --out {out} {generator}",
    ),
    Command("report", "dcar-eval report {world}/results --out {out}"),
)
"""Every command that goes on where it was stopped."""


def words(command: Command, world: Path, folder: Path) -> list[str]:
    """The command line of a command that may write to `folder`."""
    places = {
        "world": world,
        "out": folder / "o",
        "pictures": world / PICTURES,
        "extractor": f"{__name__}:patches",
        "objects": ",".join(OBJECTS),
    }
    for part in (TOKENIZER, GENERATOR):
        places[part] = f"--ckpt {world / part} --device cpu"
    return shlex.split(command.line.format(**places))
