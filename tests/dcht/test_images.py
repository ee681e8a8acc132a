"""Reading what may be hostile, and writing what may be interrupted."""

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dcht.images import (
    LABEL_HEIGHT,
    Fit,
    ImageError,
    fit_image,
    grid,
    list_images,
    open_image,
    read_png_text,
    resize_crop,
    save_png,
    to_pil,
    to_tensor,
)


def bomb(side: int = 50_000, text: bytes = b"") -> bytes:
    """A PNG of a few hundred bytes whose header claims side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + (chunk(b"tEXt", text) if text else b"")
    body += chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def test_pixels_round_trip() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(8, 32)
    image = Image.fromarray(np.stack([values, values[::-1], values.T.reshape(8, 32)], axis=-1))
    pixels = to_tensor(image)
    assert pixels.shape == (3, 8, 32)
    assert (pixels.min(), pixels.max()) == (-1, 1)
    assert to_pil(pixels).tobytes() == image.tobytes()


def test_out_of_range_pixels_are_clamped() -> None:
    pixels = torch.tensor([-3.0, 0.0, 3.0]).reshape(1, 1, 3).expand(3, 1, 3)
    assert list(to_pil(pixels).tobytes()[::3]) == [0, 128, 255]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 10, 20))  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise: white on top
    image.save(tmp_path / "turned.jpg", exif=exif, quality=100)
    upright = open_image(tmp_path / "turned.jpg")
    assert upright.size == (20, 40)
    assert np.asarray(upright)[2, 10, 0] > 250
    assert np.asarray(upright)[37, 10, 0] < 5


def test_transparency_is_put_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert open_image(tmp_path / "clear.png").getpixel((1, 1)) == (255, 255, 255)


def test_sixteen_bit_gray_keeps_its_range(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 32768, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert open_image(tmp_path / "deep.png").getpixel((1, 1)) == (128, 128, 128)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("text.png", b"this is no picture", "not a PNG, JPEG, WEBP, BMP, GIF, TIFF, AVIF image"),
        ("empty.jpg", b"", "not a PNG"),
        ("bomb.png", bomb(), r"cap is 64,000,000|exceeds limit"),
        ("smaller_bomb.png", bomb(9000), "81,000,000 pixels; the cap is 64,000,000"),
    ],
    ids=["text", "empty", "bomb", "smaller_bomb"],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        open_image(tmp_path / name)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format={"jpg": "JPEG"}.get(suffix, suffix.upper()))
    (tmp_path / f"cut.{suffix}").write_bytes(buffer.getvalue()[: buffer.tell() // 2])
    with pytest.raises(ImageError):
        open_image(tmp_path / f"cut.{suffix}")


def test_the_first_frame_or_page_is_the_image(tmp_path: Path) -> None:
    """Upright and on white, as of every format."""
    pages = [Image.new("RGB", (6, 4), color) for color in ("red", "lime", "blue")]
    for suffix in ("gif", "tiff", "avif"):
        pages[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=pages[1:])
        red = np.array(open_image(tmp_path / f"a.{suffix}"))[2, 3]
        assert np.abs(red.astype(int) - (255, 0, 0)).max() < 4, suffix
    clear = Image.new("P", (2, 1))
    clear.putpalette([0, 0, 255, 255, 0, 0])
    clear.putdata([0, 1])
    clear.save(tmp_path / "clear.gif", transparency=0)
    assert open_image(tmp_path / "clear.gif").getpixel((0, 0)) == (255, 255, 255)
    turned = Image.new("RGB", (6, 4), "red")
    turned.paste("blue", (0, 0, 6, 1))
    turned.save(tmp_path / "turned.tiff", tiffinfo={274: 6})
    assert open_image(tmp_path / "turned.tiff").size == (4, 6)
    assert open_image(tmp_path / "turned.tiff").getpixel((3, 5)) == (0, 0, 255)


@pytest.mark.parametrize("suffix", ["gif", "tiff", "avif"])
def test_frames_above_the_cap_are_not_decoded(tmp_path: Path, suffix: str) -> None:
    Image.new("RGB", (64, 32)).save(tmp_path / f"a.{suffix}")
    with pytest.raises(ImageError, match="64 x 32 is 2,048 pixels; the cap is 2,047"):
        open_image(tmp_path / f"a.{suffix}", max_pixels=2047)
    content = bytearray((tmp_path / f"a.{suffix}").read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = content.copy()
        for place in rng.integers(3, len(content), 4):
            damaged[place] = rng.integers(256)
        with contextlib.suppress(ImageError):
            assert open_image(io.BytesIO(damaged), max_pixels=1 << 16).mode == "RGB"


def test_the_name_does_not_choose_the_decoder(tmp_path: Path) -> None:
    """A format outside the allow-list is refused whatever the file is called."""
    Image.new("RGB", (4, 4)).save(tmp_path / "picture.ppm")
    (tmp_path / "picture.ppm").rename(tmp_path / "picture.png")
    with pytest.raises(ImageError, match="not a PNG"):
        open_image(tmp_path / "picture.png")


@pytest.mark.parametrize(
    ("size", "target"), [((300, 200), (96, 96)), ((50, 400), (64, 32)), ((64, 32), (64, 32))]
)
def test_resize_crop_keeps_the_center(size: tuple[int, int], target: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "black")
    width, height = size
    image.paste("white", (width // 2 - 2, height // 2 - 2, width // 2 + 2, height // 2 + 2))
    cropped = np.asarray(resize_crop(image, target)).astype(float)[..., 0]
    assert cropped.shape == (target[1], target[0])
    rows, columns = np.indices(cropped.shape) + 0.5
    assert (rows * cropped).sum() / cropped.sum() == pytest.approx(target[1] / 2, abs=0.5)
    assert (columns * cropped).sum() / cropped.sum() == pytest.approx(target[0] / 2, abs=0.5)


def test_png_carries_text(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4), "red")
    save_png(image, tmp_path / "sub" / "x.png", {"prompt": "a red heart ♥", "seed": "7"})
    assert read_png_text(tmp_path / "sub" / "x.png") == {"prompt": "a red heart ♥", "seed": "7"}
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["x.png"]
    (tmp_path / "y.png").write_bytes(b"no")
    with pytest.raises(ImageError, match=r"y\.png is not a PNG"):
        read_png_text(tmp_path / "y.png")


def test_grid_places_row_by_row() -> None:
    sheet = grid([Image.new("RGB", (2, 2), c) for c in ("red", "lime", "blue")], columns=2, gap=1)
    assert sheet.size == (5, 5)
    assert sheet.getpixel((0, 0)) == (255, 0, 0)
    assert sheet.getpixel((3, 0)) == (0, 255, 0)
    assert sheet.getpixel((0, 3)) == (0, 0, 255)
    assert sheet.getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("labels", [["a", "b"], ["a", "b", "c", "d"]])
def test_labels_stand_above_columns_or_above_every_image(labels: list[str]) -> None:
    reds = [Image.new("RGB", (30, 20), "red") for _ in range(4)]
    plain, labeled = grid(reds, columns=2), grid(reds, columns=2, labels=labels)
    lines = len(labels) // 2
    assert labeled.height == plain.height + lines * LABEL_HEIGHT
    pixels = np.asarray(labeled).astype(int)
    assert ((pixels == (255, 0, 0)).all(axis=-1)).sum() == 4 * 30 * 20  # no text on an image
    ink = np.array([bool((row < 128).all(axis=-1).any()) for row in pixels])
    second = LABEL_HEIGHT + 20 + 4
    assert ink[:LABEL_HEIGHT].any() and ink[second : second + LABEL_HEIGHT].any() == (lines == 2)


def test_list_images_is_sorted_and_deep(images: Path) -> None:
    names = [path.relative_to(images).as_posix() for path in list_images(images)]
    assert names == ["a.png", "b.jpg", "c.webp", "d.bmp", "e.png", "more/f.jpg"]


def test_pad_keeps_everything_and_resize_stretches() -> None:
    image = Image.new("RGB", (80, 40), "black")
    padded = np.asarray(fit_image(image, (64, 64), Fit.pad))
    assert (padded[16:48] == 0).all()
    assert (padded[:16] == 255).all() and (padded[48:] == 255).all()
    assert (np.asarray(fit_image(image, (64, 64), Fit.resize)) == 0).all()
    cropped = fit_image(image, (64, 64), Fit.crop)
    assert cropped.tobytes() == resize_crop(image, (64, 64)).tobytes()


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1)])
def test_the_narrowest_images_need_no_more_memory(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "black")
    with pytest.raises(ImageError, match="too narrow"):
        fit_image(image, (256, 256), Fit.crop)
    for fit in (Fit.pad, Fit.resize):
        assert fit_image(image, (256, 256), fit).size == (256, 256)


@pytest.mark.parametrize(
    ("size", "refused"),
    [
        ((40_000, 2), [Fit.crop]),
        ((2, 40_000), [Fit.crop]),
        ((300_000, 1), [Fit.crop]),
        # Stretched, its rows would have 256 pixels before its columns have so few.
        ((1, 300_000), [Fit.crop, Fit.resize]),
    ],
)
def test_the_cap_guards_every_resize(size: tuple[int, int], refused: list[Fit]) -> None:
    for fit in Fit:
        if fit in refused:
            message = r"too narrow to be made \d+ x \d+: the cap is 64,000,000 pixels"
            with pytest.raises(ImageError, match=message):
                fit_image(Image.new("RGB", size), (256, 256), fit)
        else:
            assert fit_image(Image.new("RGB", size), (256, 256), fit).size == (256, 256)


@pytest.mark.parametrize("side", [8_001, 20_000, 60_000])
def test_the_texts_of_a_bomb_are_not_read(tmp_path: Path, side: int) -> None:
    (tmp_path / "x.png").write_bytes(bomb(side, b"dcar\0{}"))
    with pytest.raises(ImageError, match=r"x\.png is not a PNG that can be read: .*pixels"):
        read_png_text(tmp_path / "x.png")


def test_what_is_no_png_has_no_texts(images: Path) -> None:
    for name, reason in (("b.jpg", "not a PNG image"), ("gone.png", "no such file")):
        with pytest.raises(ImageError, match=reason):
            read_png_text(images / name)
