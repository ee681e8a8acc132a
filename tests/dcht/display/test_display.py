"""What a notebook is shown: the right colors, the right counts, and nobody's markup."""

import base64
import io
import re

import torch
from PIL import Image

from dcht import Tokenizer, code_map
from dcht.display.codes import code_color
from dcht.display.html import figure


def test_a_code_map_has_one_color_a_code() -> None:
    codes = code_map(torch.tensor([[3, 4, 3]]), patch=2)
    assert codes.size == (6, 2)
    colors = [codes.getpixel((x, y)) for y in range(2) for x in (0, 1, 2, 3, 4, 5)]
    three, four = code_color(3), code_color(4)
    assert three != four
    assert colors == [three, three, four, four, three, three] * 2


def test_a_figure_holds_its_image_and_escapes_its_texts() -> None:
    image = Image.new("RGB", (3, 2), (255, 0, 0))
    shown = figure(image, {"prompt": "<script>alert(1)</script>"})
    assert "<script>" not in shown and "&lt;script&gt;" in shown
    data = re.search(r"base64,([^\"]+)", shown)
    assert data is not None
    with Image.open(io.BytesIO(base64.b64decode(data[1]))) as found:
        assert found.convert("RGB").tobytes() == image.tobytes()


def test_latents_say_shapes_codes_and_bytes(tokenizer: Tokenizer) -> None:
    with torch.no_grad():
        latents = tokenizer.tokenize(torch.zeros(2, 3, 64, 96))
    shown = latents._repr_html_()
    channels = tokenizer.config.latent_channels
    assert "(2, 2, 3)" in shown and f"(2, {channels}, 2, 3)" in shown
    assert f"{latents.indices.unique().numel()} different ones at 12 positions" in shown
    assert f"24 of indices (uint16), {2 * 12 * channels} of residual" in shown
    empty = type(latents)(*(part[:0] for part in latents))
    assert "0 different ones at 0 positions" in empty._repr_html_()
