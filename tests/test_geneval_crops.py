"""What the color classifier is shown, against the reference implementation's own crops."""

import base64
import io
import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dcar_eval.geneval.colors import color_crop

SHARED = Path(__file__).parents[2] / "shared" / "fixtures" / "geneval"
CASES = Path(os.environ.get("GENEVAL_FIXTURES", SHARED)) / "crops.jsonl"
ROWS = [json.loads(line) for line in CASES.read_text().splitlines()] if CASES.exists() else []
pytestmark = pytest.mark.skipif(not ROWS, reason=f"no {CASES}")


def image(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['id']}-{row['kind']}")
def test_crop(row: dict[str, Any]) -> None:
    options, expected = row["options"], row["expected"]
    mask = None
    if row["mask_png"] is not None and options["bgcolor"] != "original":
        mask = np.array(image(row["mask_png"])) > 0
    crop = color_crop(
        image(row["image_png"]),
        mask,
        row["box"] if options["crop"] == "1" else None,
        background=options["bgcolor"],
    )
    assert list(crop.size) == expected["size"]
    assert crop.mode == "RGB"
    assert zlib.crc32(crop.tobytes()) == expected["rgb_crc32"]
    assert crop.tobytes() == image(expected["crop_png"]).convert("RGB").tobytes()
