"""Images and masks as RGB on white: against pixels computed from the file's own samples."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from dcht import UsageError
from dcht.flatten import flatten
from dcht.images import open_image


def png(samples: np.ndarray, depth: int, key: list[int] | None) -> bytes:
    """A PNG of gray (H, W) or RGB (H, W, 3) samples at a bit depth, with a color key."""
    height, width = samples.shape[:2]
    rows = b""
    for row in samples.reshape(height, -1):
        bits = "".join(f"{int(sample):0{depth}b}" for sample in row)
        bits += "0" * (-len(bits) % 8)
        rows += b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    kind = 0 if samples.ndim == 2 else 2
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))]
    if key is not None:
        chunks.append((b"tRNS", struct.pack(f">{len(key)}H", *key)))
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(content)) + name + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_gray_color_key_is_white_at_every_depth(depth: int, share: float) -> None:
    most = 2**depth - 1
    key = int(share * most)
    values = {0, key, max(0, key - 1), min(most, key + 1), most}
    samples = np.array([sorted(values), sorted(values, reverse=True)])
    right = np.where(samples == key, 255, np.round(samples * 255 / most))
    found = np.asarray(open_image(io.BytesIO(png(samples, depth, [key]))))
    assert np.array_equal(found, np.repeat(right[..., None], 3, axis=2))
    opaque = np.asarray(open_image(io.BytesIO(png(samples, depth, None))))
    assert np.array_equal(opaque[..., 0], np.round(samples * 255 / most))


def test_a_key_of_16_bit_colors_is_compared_in_16_bits() -> None:
    key = [0x1234, 0x0056, 0xFF00]
    near = [[0x1235, 0x0056, 0xFF00], [0x1234, 0x0057, 0xFF00], [0x1234, 0x0056, 0xFF01]]
    samples = np.array([[key, near[0]], [near[1], key], [near[2], [0, 0, 0]]])
    found = np.asarray(open_image(io.BytesIO(png(samples, 16, key))))
    assert (found.reshape(-1, 3) == 255).all(axis=1).tolist() == [True, False, False, True] + [
        False
    ] * 2
    kept = np.asarray(open_image(io.BytesIO(png(samples, 16, None))))
    assert np.array_equal(found[0, 1], kept[0, 1]) and np.array_equal(found[2], kept[2])


def test_every_kind_of_transparency_shows_white() -> None:
    """A hole in a black image, as a channel (8 bits and palette) and through the API."""
    black = Image.new("RGBA", (4, 4), (0, 0, 0, 255))
    black.putpixel((1, 2), (0, 0, 0, 0))
    holes = [black, black.convert("LA"), black.convert("PA"), black.convert("RGBa")]
    for image in holes:
        pixels = np.asarray(flatten(image))
        assert pixels.shape == (4, 4, 3) and pixels[2, 1].tolist() == [255] * 3, image.mode
        assert pixels.sum() == 3 * 255, image.mode


def test_an_image_of_the_api_is_that_of_the_file(tmp_path) -> None:
    """Upright as EXIF says, 16 bits divided by 257: `Image.open` and `open_image` agree."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(2, 8, 3)).save(
        tmp_path / "turned.png", exif=exif
    )
    gray = Image.fromarray((np.arange(16, dtype=np.uint16) * 4369).reshape(2, 8))
    gray.save(tmp_path / "grey.png")
    for name, size in (("turned.png", (2, 8)), ("grey.png", (8, 2))):
        with Image.open(tmp_path / name) as image:
            ours = flatten(image)
        theirs = open_image(tmp_path / name)
        assert ours.size == size and ours.tobytes() == theirs.tobytes()
    assert np.asarray(flatten(gray))[..., 0].ravel().tolist() == [17 * k for k in range(16)]
    assert flatten(gray.convert("I")).tobytes() == flatten(gray).tobytes()


def test_modes_without_a_range_are_refused() -> None:
    with pytest.raises(UsageError, match=r"mode F \(floating point\) has no range"):
        flatten(Image.new("F", (2, 2)))
    for value in (-1, 70_000):
        with pytest.raises(UsageError, match="mode I has values outside 0 to 65535"):
            flatten(Image.new("I", (2, 2), value))


def tiff(samples: np.ndarray, bits: int, photometric: int, *, signed: bool = False) -> bytes:
    """A TIFF (little endian) of one strip of gray samples (H, W) of 12, 16 or 32 bits."""
    height, width = samples.shape
    if bits == 12:
        strip = bytes.fromhex("".join(f"{int(sample):03x}" for sample in samples.ravel()))
    else:
        strip = samples.astype(f"<u{bits // 8}").tobytes()
    values = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1,
              278: height, 279: len(strip), 339: 2 if signed else 1}  # fmt: skip
    values[273] = 8 + 2 + 12 * len(values) + 4
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    return b"II*\0" + struct.pack("<IH", 8, len(values)) + fields + bytes(4) + strip


@pytest.mark.parametrize("bits", [12, 16])
def test_a_tiff_of_more_than_eight_bits_is_as_bright_as_its_samples(bits: int) -> None:
    levels = np.arange(256).reshape(4, 64) * (2**bits - 1) // 255
    expected = np.arange(256).reshape(4, 64)
    found = np.asarray(open_image(io.BytesIO(tiff(levels, bits, 1))))
    assert np.abs(found[..., 0].astype(int) - expected).max() <= (0 if bits == 16 else 1)
    assert (found[0, 0, 0], found[-1, -1, 0]) == (0, 255)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_white_is_zero_where_a_tiff_says_so(compression: str | None) -> None:
    """Pillow inverts 8 bits in writing and in reading, and 16 in neither."""
    gray = np.arange(256, dtype=np.uint8).reshape(4, 64)
    for samples, expected in ((gray, gray), (gray.astype(np.uint16) * 257, 255 - gray)):
        file = io.BytesIO()
        options = {"compression": compression, "tiffinfo": {262: 0}}
        Image.fromarray(samples).save(file, "TIFF", **options)
        assert np.array_equal(np.asarray(open_image(file))[..., 0], expected)
    by_hand = io.BytesIO(tiff(gray.astype(int) * 257, 16, 0))
    assert np.array_equal(np.asarray(open_image(by_hand))[..., 0], 255 - gray)


@pytest.mark.parametrize(("bits", "signed"), [(32, False), (32, True), (16, True)])
def test_a_file_of_32_bits_or_of_signed_numbers_is_refused(bits: int, signed: bool) -> None:
    """Whatever it holds: 0 to 252 came out nearly black."""
    gray = np.arange(64).reshape(2, 32) * 4
    file = io.BytesIO(tiff(gray, bits, 1, signed=signed))
    with Image.open(file) as image:
        assert image.mode == "I" and np.array_equal(np.asarray(image), gray)
    with pytest.raises(UsageError, match=r"^a TIFF of mode I"):
        open_image(file)
