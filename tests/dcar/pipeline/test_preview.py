"""Previews by the light decoder: steps are its images, the result never is; and `--preview`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from dcar.commands.common import preview_path
from dcar.pipeline import TextToImage
from dcht.config import LIGHT_PRESETS
from dcht.images import save_png, to_pil
from dcht.light import LightDecoder
from dcht.modules.autoencoder import Decoder
from dcht.tokenizer import Tokenizer

Dcar = Callable[..., tuple[int, str, str]]


def light_for(tokenizer: Tokenizer) -> LightDecoder:
    layout = LIGHT_PRESETS["tiny"]
    network = Decoder(layout, resample=tokenizer.config.resample, latent_channels=8)
    return LightDecoder(layout, network.eval())


@torch.no_grad()
def test_steps_are_the_light_decoder_s_and_the_result_is_not(pipe: TextToImage) -> None:
    *before, last = pipe.stream("a red apple", seed=3)
    light = pipe.tokenizer.light = light_for(pipe.tokenizer)
    *steps, refined = pipe.stream("a red apple", seed=3)
    assert refined.images[0].tobytes() == last.images[0].tobytes()
    assert [torch.equal(a.indices, b.indices) for a, b in zip(before, steps, strict=True)] == [
        True
    ] * len(steps)
    assert steps[0].images[0].tobytes() != before[0].images[0].tobytes()
    whole = steps[-1]  # nothing is hidden any more
    [pixels] = light.network(pipe.tokenizer.lookup(whole.indices))
    assert whole.images[0].tobytes() == to_pil(pixels).tobytes()


def test_a_pipeline_is_saved_with_it(pipe: TextToImage, tmp_path: Path) -> None:
    pipe.tokenizer.light = light_for(pipe.tokenizer)
    pipe.save_pretrained(tmp_path)
    found = TextToImage.from_pretrained(tmp_path).tokenizer.light
    assert found is not None
    assert found.config == LIGHT_PRESETS["tiny"]


@pytest.mark.parametrize("light", [False, True])
@pytest.mark.parametrize("out", ["x.png", "folder", "sheet.png"])
def test_a_preview_shows_every_step_and_changes_no_byte(
    dcar: Dcar,
    saved_tokenizer: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    light: bool,
    out: str,
) -> None:
    if light:
        tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
        tokenizer.light = light_for(tokenizer)
        tokenizer.save_pretrained(saved_tokenizer)
    more = {"x.png": [], "folder": ["--num-images", 2], "sheet.png": ["--num-images", 2, "--grid"]}
    words = ["generate", "a red apple", "--steps", 3, *more[out]]
    plain, previewed = tmp_path / "plain" / out, tmp_path / "previewed" / out
    shown: list[Image.Image] = []

    def watch(image: Image.Image, path: Path) -> None:
        save_png(image, path)
        with Image.open(path) as there:
            shown.append(there.copy())

    monkeypatch.setattr("dcar.pipeline.preview.save_png", watch)
    assert dcar(*words, "--out", plain)[0] == 0
    code, stdout, stderr = dcar(*words, "--out", previewed, "--preview")
    assert code == 0
    assert len(shown) == 4  # three steps, and the refined images
    assert f"preview: {preview_path(previewed)}" in stderr and "preview" not in Path(stdout).stem
    files = sorted(path for path in plain.parent.rglob("*.png"))
    assert [path.relative_to(plain.parent) for path in files] == sorted(
        path.relative_to(previewed.parent) for path in previewed.parent.rglob("*.png")
    )
    for path in files:
        twin = previewed.parent / path.relative_to(plain.parent)
        assert path.read_bytes() == twin.read_bytes()
    if out == "x.png":
        with Image.open(previewed) as final:
            assert shown[-1].tobytes() == final.tobytes() != shown[0].tobytes()


def test_a_file_that_is_there_is_not_taken_for_a_preview(dcar: Dcar, tmp_path: Path) -> None:
    mine = tmp_path / "x.preview.png"
    mine.write_bytes(b"mine")
    code, _, stderr = dcar("generate", "a dog", "--out", tmp_path / "x.png", "--preview")
    assert code == 2
    assert stderr.startswith(f"error: {mine} is there already, and --preview would write")
    assert mine.read_bytes() == b"mine"


def test_a_preview_stands_beside_its_output_never_in_it() -> None:
    here = Path.cwd()
    assert preview_path(Path("x.PNG")) == here / "x.preview.png"
    assert preview_path(Path("drawn/")) == here / "drawn.preview.png"
    assert preview_path(Path("v1.5")) == here / "v1.5.preview.png"
    assert preview_path(Path()) == here.with_name(f"{here.name}.preview.png")
