"""`dcar edit` and the replay of an edit."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from dcar import TextToImage
from dcht import PRESETS, Tokenizer
from dcht.config import CoderConfig
from dcht.images import read_png_text

Dcar = Callable[..., tuple[int, str, str]]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    coarse = np.random.default_rng(6).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(coarse).resize((128, 96), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    image = Image.new("L", (128, 96))
    ImageDraw.Draw(image).rectangle((40, 40, 69, 49), fill=255)
    image.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_an_edit_changes_the_snapped_mask_alone_and_says_so(
    dcar: Dcar, photo: Path, mask: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new.png"
    code, stdout, stderr = dcar("edit", photo, "--mask", mask, "a dog", "--out", out, "--json")
    assert code == 0
    assert stderr == (
        "mask: 300 px, snapped outwards to tokens of 32 px: 2,048 px (2 of 12 tokens) may change\n"
    )
    assert json.loads(stdout)["tokens"] == {"may_change": 2, "all": 12}
    changed = (pixels(out) != pixels(photo)).any(axis=2)
    assert changed[32:64, 32:96].mean() > 0.9
    changed[32:64, 32:96] = False
    assert not changed.any()
    record = json.loads(read_png_text(out)["dcar"])
    assert record["edit"]["region"] == ["....", ".##.", "...."]
    assert (record["prompt"], record["height"], record["width"]) == ("a dog", 96, 128)


@pytest.mark.parametrize(
    "words",
    [
        ("--mask", "mask.png"),
        ("--mask", "mask.png", "--strength", 0.5, "--order", "gtr", "--steps", 4),
        ("--outpaint", "left=32,bottom=64"),
        ("--strength", 0.4),
        ("--mask", "mask.png", "--size", "64x96"),
    ],
)
def test_an_edit_is_replayed_byte_for_byte(
    dcar: Dcar,
    photo: Path,
    mask: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[object, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("edit", photo, "a dog", *words, "--num-images", 3, "--batch-size", 2)
    assert dcar(*command, "--out", "several", "--seed", 4)[0] == 0
    made = sorted(Path("several").iterdir())
    assert len({path.read_bytes() for path in made}) == 3
    # Any file of the same pixels will do.
    with Image.open(photo) as image:
        image.save("copy.bmp")
    for path in made:
        code, _, stderr = dcar("replay", path, "--image", "copy.bmp", "--out", "x.png", "--force")
        assert code == 0, stderr
        assert Path("x.png").read_bytes() == path.read_bytes()


def test_replay_of_an_edit_needs_the_image_that_was_edited(
    dcar: Dcar, photo: Path, mask: Path, tmp_path: Path
) -> None:
    out, again = tmp_path / "new.png", tmp_path / "again.png"
    dcar("edit", photo, "a dog", "--mask", mask, "--out", out)
    sha256 = json.loads(read_png_text(out)["dcar"])["edit"]["image_sha256"]
    code, _, stderr = dcar("replay", out, "--out", again)
    assert code == 2 and "--image" in stderr and sha256 in stderr
    code, _, stderr = dcar("replay", out, "--image", mask, "--out", again)
    assert code == 2 and "is not the image that was edited" in stderr and sha256 in stderr
    code, _, stderr = dcar("replay", out, "--image", tmp_path / "nowhere", "--out", again)
    assert code == 2 and "no such file" in stderr
    assert not again.exists()


def test_outpainting_from_the_command_line(dcar: Dcar, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "wide.png"
    assert dcar("edit", photo, "a dog", "--outpaint", "right=64,top=32", "--out", out)[0] == 0
    assert pixels(out).shape == (128, 192, 3)
    assert np.array_equal(pixels(out)[32:, :128], pixels(photo))


def test_an_edit_has_a_film_too(dcar: Dcar, photo: Path, mask: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "steps.png"
    words = ("--mask", mask, "--steps", 4, "--film", sheet)
    assert dcar("edit", photo, "a dog", *words, "--out", tmp_path / "new.png")[0] == 0
    assert pixels(sheet).shape == (96, 5 * 128 + 4 * 4, 3)
    for step in range(5):
        left = step * 132
        assert np.array_equal(pixels(sheet)[:32, left : left + 128], pixels(photo)[:32])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "what is to change? give --mask FILE"),
        (["--outpaint", "left=32", "--strength", "0.5"], "--strength is for --mask"),
        (["--outpaint", "left=40"], "left 40 is not a multiple of 32; the nearest is 32"),
        (["--outpaint", "left=0"], "nothing to generate"),
        (["--outpaint", "up=32"], "'up=32' is not SIDE=PIXELS; for example left=128,top=64"),
        (["--outpaint", "left=-32"], "is not SIDE=PIXELS"),
        (["--strength", "0"], "strength is 0.0"),
        (["--mask", "small.png"], "they must be of one size"),
        (["--mask", "nowhere.png"], "nowhere.png: no such file"),
        (["--mask", "text.png"], "text.png: not a"),
        (["--mask", "black.png"], "nothing to change: the mask is nowhere bright"),
        (["--mask", "pipe.png"], "pipe.png: not a regular file"),
        (["--mask", "."], ".: Is a directory"),
        (["--strength", "1", "--num-images", "2"], "is one file for 2 images"),
    ],
)
def test_bad_usage_is_one_line(
    dcar: Dcar,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("L", (64, 64)).save("small.png")
    Path("text.png").write_text("no image")
    Image.new("L", (128, 96), 127).save("black.png")
    os.mkfifo("pipe.png")
    code, stdout, stderr = dcar("edit", "photo.png", "a dog", *words, "--out", "x.png")
    assert (code, stdout) == (2, "")
    # argparse prints its usage before its line.
    assert "error: " in stderr.splitlines()[-1] and message in stderr.splitlines()[-1]
    assert not Path("x.png").exists()


def test_a_image_of_odd_size_says_how_to_fit_it(dcar: Dcar, tmp_path: Path) -> None:
    odd = tmp_path / "odd.png"
    Image.new("RGB", (250, 100)).save(odd)
    words = ("edit", odd, "a dog", "--strength", 1, "--out", tmp_path / "x.png")
    code, _, stderr = dcar(*words)
    assert code == 2 and "is 250 x 100, not multiples of 32; --size 224x96 resizes" in stderr
    assert dcar(*words, "--size", "224x96")[0] == 0
    assert pixels(tmp_path / "x.png").shape == (96, 224, 3)


def test_a_mask_that_size_crops_away_says_so(dcar: Dcar, photo: Path, tmp_path: Path) -> None:
    """The left edge of an image that is cut to a square: bright, and not in what is left."""
    edge, dark = Image.new("L", (128, 96)), Image.new("L", (128, 96))
    ImageDraw.Draw(edge).rectangle((0, 0, 9, 95), fill=255)
    edge.save(tmp_path / "edge.png")
    dark.save(tmp_path / "dark.png")
    words = ("edit", photo, "a dog", "--size", "64x64", "--out", tmp_path / "x.png", "--mask")
    code, _, stderr = dcar(*words, tmp_path / "edge.png")
    assert code == 2 and "edge.png is bright, --size 64x64 crops the image" in stderr
    assert "one of its shape (128 x 96) keeps it all" in stderr
    code, _, stderr = dcar(*words, tmp_path / "dark.png")
    assert code == 2 and "the mask is nowhere bright" in stderr
    assert not (tmp_path / "x.png").exists()


@pytest.fixture
def patch(checkpoint: Path, request: pytest.FixtureRequest) -> int:
    """The checkpoint gets an image tokenizer with tokens of so many pixels."""
    patch = request.param
    stages = patch.bit_length()

    def resized(coder: CoderConfig) -> CoderConfig:
        lists = {name: some for name, some in vars(coder).items() if isinstance(some, list)}
        return replace(coder, **{n: (some + some[-1:])[:stages] for n, some in lists.items()})

    tiny = PRESETS["tiny"]
    pipe = TextToImage.from_pretrained(checkpoint)
    config = replace(tiny, encoder=resized(tiny.encoder), decoder=resized(tiny.decoder))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe.tokenizer = Tokenizer(config).eval()
    pipe.save_pretrained(checkpoint)
    return patch


@pytest.mark.parametrize(
    ("patch", "tokens", "box"),
    [
        (16, (6, 64), (32, 32, 80, 64)),
        (32, (2, 16), (32, 32, 96, 64)),
        (64, (2, 4), (0, 0, 128, 64)),
    ],
    indirect=["patch"],
)
def test_a_mask_snaps_to_the_tokenizer_s_tokens(
    dcar: Dcar,
    patch: int,
    tokens: tuple[int, int],
    box: tuple[int, int, int, int],
    tmp_path: Path,
) -> None:
    photo, mask, out, bare = (tmp_path / f"{n}.png" for n in ("square", "mask", "out", "bare"))
    Image.fromarray(np.random.default_rng(7).integers(0, 256, (128, 128, 3), np.uint8)).save(photo)
    white = Image.new("L", (128, 128))
    ImageDraw.Draw(white).rectangle((40, 40, 69, 49), fill=255)
    white.save(mask)
    command = ("edit", photo, "a dog", "--mask", mask, "--out")
    code, stdout, stderr = dcar(*command, out, "--json")
    assert code == 0, stderr
    some, count = tokens
    assert json.loads(stdout)["tokens"] == {"may_change": some, "all": count}
    assert f"tokens of {patch} px: {some * patch**2:,} px ({some} of {count} tokens)" in stderr
    changed = (pixels(out) != pixels(photo)).any(axis=2)
    left, top, right, bottom = box
    assert changed[top:bottom, left:right].mean() > 0.9
    changed[top:bottom, left:right] = False
    assert not changed.any()
    # Without a record, and made again from it, the pixels are the same.
    assert dcar(*command, bare, "--no-metadata")[0] == 0
    assert np.array_equal(pixels(bare), pixels(out))
    again = tmp_path / "again.png"
    assert dcar("replay", out, "--image", photo, "--out", again)[0] == 0
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize("patch", [16, 64], indirect=True)
def test_sides_and_margins_are_multiples_of_the_tokenizer_s_tokens(
    dcar: Dcar, patch: int, tmp_path: Path
) -> None:
    small, out, wide = (tmp_path / f"{name}.png" for name in ("small", "out", "wide"))
    Image.new("RGB", (5 * patch, 3 * patch), "teal").save(small)
    for words in (("--strength", 0.5), ("--outpaint", f"left={patch}")):
        code, _, stderr = dcar("edit", small, "a dog", *words, "--out", out, "--force")
        assert code == 0, stderr
    assert pixels(out).shape == (3 * patch, 6 * patch, 3)
    assert np.array_equal(pixels(out)[:, patch:], pixels(small))
    code, _, stderr = dcar("edit", small, "a dog", "--outpaint", "left=8", "--out", wide)
    assert code == 2 and f"left 8 is not a multiple of {patch}" in stderr
    Image.new("RGB", (patch + 8, patch)).save(small)
    words = ("edit", small, "a dog", "--strength", 1, "--out", wide)
    code, _, stderr = dcar(*words)
    side = max(32, patch)  # --size takes multiples of 32
    assert code == 2 and f"not multiples of {patch}; --size {side}x{side} resizes" in stderr
    assert dcar(*words, "--size", f"{side}x{side}")[0] == 0
    assert pixels(wide).shape == (side, side, 3)
