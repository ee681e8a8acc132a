"""Thousands of inputs of the kind that crash readers: none may, and every one is listed.

The inputs are made from a seed: headers fuzzed, files cut, bytes that claim to be something else,
bombs, links, pipes, folders, archives that lie, odd names, sidecars and tables that are garbage.
"""

import io
import json
import os
import random
import struct
import tarfile
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from dcht import LatentsStore, Tokenizer
from dcht.latents.encode import encode_images
from dcht.latents.encode_job import EncodeSettings

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP"}


def image(draw: random.Random, suffix: str) -> bytes:
    pixels = np.frombuffer(draw.randbytes(40 * 36 * 3), np.uint8).reshape(40, 36, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=FORMATS[suffix])
    return buffer.getvalue()


def bomb(draw: random.Random, suffix: str) -> bytes:
    """A header that claims more pixels than may be opened, and nothing behind it."""
    side = draw.choice([9_000, 50_000, 2**31 - 1])
    if suffix == "bmp":
        side = min(side, 60_000)
        values = (b"BM", 54, 0, 0, 54, 40, side, side, 1, 24, *[0] * 6)
        return struct.pack("<2sIHHIIiiHHIIiiII", *values)
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk


def cut(draw: random.Random, suffix: str) -> bytes:
    whole = image(draw, suffix)
    # The pixels of these formats fill the file: what is left of it never holds all of them.
    return whole[: draw.randrange(len(whole) * 3 // 4)]


def fuzzed_header(draw: random.Random, suffix: str) -> bytes:
    """Random bytes over the first ones: the signature never survives."""
    content = bytearray(image(draw, suffix))
    content[:12] = bytes(byte ^ draw.randrange(1, 256) for byte in content[:12])
    for _ in range(draw.randrange(20)):
        content[draw.randrange(12, min(200, len(content)))] = draw.randrange(256)
    return bytes(content)


def something_else(draw: random.Random, suffix: str) -> bytes:
    kinds = (b"", b"\0", b"this is no picture", b"GIF89a", b"%PDF-1.7", b"PK\3\4", b"II*\0", b"BM",
             b"\xff\xd8", b"RIFF\0\0\0\0WEBP", b"\x89PNG\r\n\x1a\n", b"8BPS", b"\x80\x04pickle.",
             b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\0\0\1\0", b"P6 9 9 255 ")  # fmt: skip
    return draw.choice(kinds) + draw.randbytes(draw.randrange(3)) * draw.randrange(50)


def fuzzed_body(draw: random.Random, suffix: str) -> bytes:
    """Damage behind the signature: a decoder may notice it or not."""
    content = bytearray(image(draw, suffix))
    for _ in range(draw.randrange(1, 40)):
        content[draw.randrange(12, min(draw.choice([80, 5000]), len(content)))] = draw.randrange(
            256
        )
    return bytes(content)


MAKERS = (bomb, cut, fuzzed_header, something_else)
MEMBER_NAMES = (
    "../../escaped-{}.png",
    "/tmp/escaped-{}.png",
    "a/../../escaped-{}.png",
    "./..//{}.png",
)


def write_malformed(root: Path, count: int, seed: int) -> tuple[set[str], set[str]]:
    """Fill `root` with `count` malformed inputs.

    Returns the names that must be listed, and those of which a decoder may make something.
    """
    draw = random.Random(seed)
    expected, either = set(), set()
    for number in range(count):
        name = f"{draw.choice('abc')}/{number:04d}-{draw.choice(['', 'ü ', '-rf ', '%s', '{}'])}"
        (root / name).parent.mkdir(exist_ok=True)
        kind = draw.randrange(14)
        suffix = draw.choice(list(FORMATS))
        path = root / f"{name}.{draw.choice([suffix, suffix.upper()])}"
        inside = ""
        if kind < 7:
            path.write_bytes(draw.choice(MAKERS)(draw, suffix))
        elif kind == 7:
            target = draw.choice(
                ["/etc/passwd", "/dev/zero", "../../outside.png", "gone", path.name]
            )
            path.symlink_to(target)
        elif kind == 8:
            draw.choice([os.mkfifo, os.mkdir])(path)
        elif kind == 9:
            path.write_bytes(image(draw, suffix))
            garbage = draw.choice([b"\xff\xfe", b"{", b"[" * 5000, b'{"a": 1e', b"\x80" * 9])
            # A text needs only be UTF-8; JSON fails in more ways.
            text = draw.random() < 0.3
            path.with_suffix(".txt" if text else ".json").write_bytes(
                b"\xff\xfe" if text else garbage
            )
        elif kind == 10:
            path = root / f"{name}.tar"
            inside = write_archive(draw, path, number)
        elif kind < 13:
            path.write_bytes(fuzzed_body(draw, suffix))
            either.add(path.relative_to(root).as_posix())
            continue
        else:
            path = root / f"{name}-{suffix}.{draw.choice(['gif', 'tiff', 'heic', 'psd', 'tar.gz'])}"
            path.write_bytes(draw.randbytes(64))
        expected.add(path.relative_to(root).as_posix() + inside)
    for folder in "abc":
        lines = [draw.choice(['{"file_name": 1}', "[" * 9999, '{"text": "x"}', "\0", "nil", '"'])
                 for _ in range(30)]  # fmt: skip
        (root / folder / "metadata.jsonl").write_text("\n".join(lines))
        expected |= {f"{folder}/metadata.jsonl line {number}" for number in range(1, 31)}
        (root / folder / "metadata.csv").write_bytes(b'file_name\n"' + draw.randbytes(50))
        expected.add(f"{folder}/metadata.csv")
    return expected, either


def write_archive(draw: random.Random, path: Path, number: int) -> str:
    """A tar with a member that leads out of it, whose name is returned, or a damaged one."""
    name = draw.choice(MEMBER_NAMES).format(number)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 512
        tar.addfile(member, io.BytesIO(image(draw, "png")))
    content = bytearray(buffer.getvalue())
    if draw.random() < 0.5:
        path.write_bytes(content)
        return f"/{name}"
    content = content[: draw.choice([100, 512, 700, 1024])]
    for _ in range(draw.randrange(8)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    path.write_bytes(content)
    return ""


def test_two_thousand_malformed_inputs(saved_tokenizer: Path, tmp_path: Path) -> None:
    root, out = tmp_path / "inputs", tmp_path / "latents"
    root.mkdir()
    expected, either = write_malformed(root, 2000, seed=0)
    draw = random.Random(1)
    good = [f"good-{number}.png" for number in range(8)]
    for name in good:
        (root / name).write_bytes(image(draw, "png"))
    before = set(tmp_path.rglob("*"))
    settings = EncodeSettings(size=(32, 32), shard_size=700)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a decoder may complain before it gives up
        result = encode_images(Tokenizer.from_pretrained(saved_tokenizer), root, out, settings)
    rows = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    listed = [row["file"] for row in rows]
    stored = {row["file"] for row in LatentsStore(out).rows}
    assert all(row["reason"] for row in rows)
    assert result.skipped == len(listed) == len(set(listed))
    assert set(listed) >= expected
    assert set(listed) | stored >= expected | either | set(good)
    # What else there is are members of archives that are damaged behind them.
    assert all(".tar/" in name for name in set(listed) - expected - either)
    assert stored >= set(good)
    assert not set(listed) & stored
    written = set(tmp_path.rglob("*")) - before
    assert not [path for path in written if out not in (path, *path.parents)]
    assert not list(Path("/tmp").glob("escaped-*"))
