"""Records that somebody else may have written: bounds, known words, shapes that agree."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dcar.config import SamplingConfig
from dcar.pipeline.record import EditRecord, Record, read_record
from dcar.pipeline.safety import Verdict
from dcht.errors import UsageError, printable
from dcht.images import ImageError, read_png_text, save_png

EDIT = EditRecord(
    image_sha256="1" * 64, width=96, height=64, left=32, top=0, region=["#...", "##.."], strength=1
)
RECORD = Record(
    prompt="a dog", seed=2**70, index=5, height=64, width=128, settings=SamplingConfig(),
    weights="0" * 64, batch_size=8, row=3, threads=4, device="cpu", edit=EDIT,
    safety=Verdict(checker="x", threshold=0.2, scores={"hate": 0.1}),
)  # fmt: skip


def write(path: Path, record: Any, size: tuple[int, int] = (128, 64)) -> Path:
    """A PNG of this size with a record."""
    content = record if isinstance(record, str) else json.dumps(record)
    save_png(Image.new("RGB", size), path, {"dcar": content})
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    save_png(Image.new("RGB", (128, 64)), path, RECORD.text())
    assert read_record(path) == RECORD
    assert "left_out" not in json.loads(read_png_text(path)["dcar"])


def test_a_record_without_a_precision_or_what_was_left_out_is_an_earlier_one(
    tmp_path: Path,
) -> None:
    content = RECORD.content()
    for name in ("edit", "safety"):
        del content[name]
    record = read_record(write(tmp_path / "x.png", content))
    assert record.edit is None and record.safety is None and record.left_out is None


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(threads=10**6), "threads is 1000000; expected 1 to 1,024"),
        (lambda r: r.update(threads=0), "threads is 0"),
        (lambda r: r.update(threads="4"), "threads: '4' is not of type int"),
        (lambda r: r.update(batch_size=10**9), "batch_size is 1000000000; expected 1 to 1,024"),
        (lambda r: r.update(row=8), "row is 8; expected less than batch_size 8"),
        (lambda r: r.update(row=-1), "row is -1"),
        (lambda r: r.update(seed=-1), "seed is -1"),
        (lambda r: r.update(seed=2**200), "seed is"),
        (lambda r: r.update(index=2**64), "index is"),
        (lambda r: r.update(height=64_000_000), "128 x 64000000 is more than 64,000,000 pixels"),
        (lambda r: r.update(height=96, edit=None), "is 128 x 64, its record says 128 x 96"),
        (lambda r: r.update(width=None), "width: None is not of type int"),
        (lambda r: r.update(device="cuda:0; rm"), "device is 'cuda:0; rm'; expected cpu, cuda"),
        (lambda r: r.update(weights="0" * 63), "weights is .*; expected a SHA-256"),
        (lambda r: r.update(prompt=["a"]), r"prompt: \['a'\] is not of type str"),
        (lambda r: r.update(prompt="a" * 100_001), "prompt is 'a*...a*'; expected 0 to 100,000"),
        (lambda r: r.pop("seed"), "settings seed are missing"),
        (lambda r: r.update({"x\n\x1b": 1}), r"unknown settings x"),
        (lambda r: r["settings"].update(num_steps=10**9), "settings: num_steps is 1000000000"),
        (lambda r: r["settings"].update(num_diffusion_steps=10**9), "num_diffusion_steps is"),
        (lambda r: r["settings"].update(cfg_scale=1e308), r"cfg_scale is 1e\+308"),
        (lambda r: r["settings"].update(order="upwards"), "settings.order: 'upwards' is not one"),
        (lambda r: r["settings"].update(solver=["ddpm"]), "settings.solver: "),
        (lambda r: r["settings"].update(stage_steps=[4] * 65), "stage_steps is"),
        (lambda r: r["settings"].update(stage_steps=[10**12]), "stage_steps is"),
        (lambda r: r.update(settings=[]), r"settings: \[\] is not of type dict"),
        (
            lambda r: r["edit"].update(region=["#...", "##."]),
            "rows of region are not of one length",
        ),
        (
            lambda r: r["edit"].update(region=["#..x"] * 2),
            "region is .*; expected .* rows of # and",
        ),
        (lambda r: r["edit"].update(region=[]), "region is"),
        (
            lambda r: r["edit"].update(region=["#..."] * 3),
            "has 4 x 3 tokens, which 128 x 64 pixels",
        ),
        (lambda r: r["edit"].update(region=["#"]), "has 1 x 1 tokens, which 128 x 64 pixels have"),
        (lambda r: r["edit"].update(left=64), "96 x 64 pixels at 64, 0 do not lie on"),
        (lambda r: r["edit"].update(left=1), "at 1, 0 do not lie on"),
        (lambda r: r["edit"].update(width=10**9), "edit: width is 1000000000"),
        (lambda r: r["edit"].update(strength=0), "edit: strength is 0"),
        (lambda r: r["edit"].update(image_sha256="../../etc"), "image_sha256 is"),
        (lambda r: r["safety"].update(scores={}), r"safety: scores are \{\}"),
        (lambda r: r["safety"].update(scores={"hate": 7}), "safety: scores are"),
        (lambda r: r["safety"].update(scores={"hate": "high"}), "safety.scores.hate: 'high' is"),
        (lambda r: r["safety"].update(scores=[1]), r"safety.scores: \[1\] is not of type dict"),
    ],
)
def test_what_no_image_depends_on_is_one_line(tmp_path: Path, change: Change, message: str) -> None:
    content = RECORD.content()
    change(content)
    path = write(tmp_path / "x.png", content)
    with pytest.raises(UsageError, match=message) as caught:
        read_record(path)
    assert len(printable(caught.value)) <= 2000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ("null", "None is not of type dict"),
        ("3", "3 is not of type dict"),
        ("[]", "is a sheet of 0 images"),
        ("[" * 100_000, "nested too deeply"),
        ('{"seed": NaN}', "NaN is not a number"),
        ('{"settings": {"temperature": Infinity}}', "Infinity is not a number"),
        ('{"settings": {"temperature": 1e999}}', "1e999 is too large"),
        ('{"seed": ' + "9" * 5000 + "}", "is not JSON"),
    ],
)
def test_what_is_no_record_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_record(write(tmp_path / "x.png", content))


def test_texts_that_explode_are_refused(tmp_path: Path) -> None:
    """A chunk of 200 KB that would be 200 MB, and a thousand that are 1 MB each."""
    path = tmp_path / "x.png"
    save_png(Image.new("RGB", (8, 8)), path)
    whole = path.read_bytes()
    bomb = b"dcar\0\0" + zlib.compress(b"0" * 200_000_000, 9)
    small = b"dcar\0\0" + zlib.compress(b"0" * 1_000_000, 9)
    for contents in ([bomb], [small] * 1000):
        chunks = b"".join(
            struct.pack(">I", len(content)) + b"zTXt" + content
            + struct.pack(">I", zlib.crc32(b"zTXt" + content))
            for content in contents
        )  # fmt: skip
        path.write_bytes(whole[:33] + chunks + whole[33:])
        with pytest.raises(ImageError, match="is not a PNG that can be read"):
            read_png_text(path)
