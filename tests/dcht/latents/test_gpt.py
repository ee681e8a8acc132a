"""`docs/gpt.md`: a GPT over the bundled tokenizer's tokens, trained in each of three ways."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dcht import LatentDataset, Tokenizer
from dcht.latents.encode import encode_images
from dcht.latents.encode_job import EncodeSettings

PAGE = Path(__file__).parents[3] / "docs" / "gpt.md"


@pytest.fixture(scope="module")
def code() -> str:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return block


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of one image each, at 128 px: 16 tokens of the bundled tokenizer."""
    root = tmp_path_factory.mktemp("gpt")
    rng = np.random.default_rng(0)
    for label in range(2):
        (root / "pictures" / str(label)).mkdir(parents=True)
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        coarse.resize((128, 128)).save(root / "pictures" / str(label) / "a.png")
    settings = EncodeSettings(size=(128, 128), batch_size=2)
    encode_images(Tokenizer.from_pretrained(), root / "pictures", root / "latents", settings)
    return root / "latents"


def test_the_page_keeps_its_word(code: str) -> None:
    assert len(code.splitlines()) <= 100


@pytest.mark.parametrize("way", ["plainly", "by_accelerate", "by_transformers"])
def test_two_images_are_learned_by_heart(
    code: str, latents: Path, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "samples").mkdir()
    space: dict[str, Any] = {"__name__": "page"}
    exec(compile(code, str(PAGE), "exec"), space)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = space["main"](latents, space[f"train_{way}"], steps=150, width=64, depth=2, heads=2)
    expected = torch.stack([indices for indices, *_ in LatentDataset(latents)])  # type: ignore[call-overload]
    assert len(expected.unique()) > 4
    assert torch.equal(drawn, expected)
    with Image.open("samples/1.png") as image:
        assert image.size == (128, 128)
