"""The estimator of fidelity: how cells become an estimate, and that what ships sees blur."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from dcar_eval.geneval import Detection
from dcar_eval.metrics.likeness import RECOGNIZABLE
from dcar_eval.scenes.estimator import (
    BEST,
    BUNDLED,
    CELLS,
    SIDE,
    WORST,
    Estimator,
    EstimatorConfig,
    covered,
    pool,
)
from dcht.checkpoint import checkpoint_sha256


def cells(psnr: torch.Tensor, detail: float = 0.5) -> torch.Tensor:
    """An answer about one image, whose cells all weigh the same."""
    whole = torch.ones(CELLS, CELLS)
    return torch.stack([psnr * whole, detail * whole, 0 * whole])[None]


def test_errors_are_averaged_and_not_decibels() -> None:
    """Half at 10 dB and half at 30: the mean error is that of 12.97 dB."""
    psnr = torch.full((CELLS, CELLS), 10.0)
    psnr[:, CELLS // 2 :] = 30
    found = pool(cells(psnr), torch.ones(1, CELLS, CELLS))
    assert float(found.psnr) == pytest.approx(-10 * np.log10((0.1 + 0.001) / 2), abs=1e-4)
    assert float(found.detail) == pytest.approx(0.5)
    right = torch.zeros(1, CELLS, CELLS)
    right[:, :, CELLS // 2 :] = 1
    assert float(pool(cells(psnr), right).psnr) == pytest.approx(30, abs=0.01)


def test_estimates_stay_within_what_was_learned() -> None:
    everywhere = torch.ones(1, CELLS, CELLS)
    assert float(pool(cells(torch.tensor(3.0)), everywhere).psnr) == WORST
    assert float(pool(cells(torch.tensor(60.0)), everywhere).psnr) == BEST


def test_boxes_cover_cells_at_every_size() -> None:
    """A box from a quarter to a half, and four pixels more of 256: half a cell."""
    box = Detection(class_name="apple", score=0.9, box=(64.0, 64.0, 128.0, 132.0))
    inside = covered([box], SIDE)[0]
    expected = torch.zeros(CELLS, CELLS)
    expected[8:16, 8:16] = 1
    expected[16, 8:16] = 0.5
    assert torch.equal(inside, expected)
    twice = Detection(class_name="apple", score=0.9, box=(128.0, 128.0, 256.0, 264.0))
    assert torch.equal(covered([twice], 2 * SIDE)[0], expected)
    assert covered([], SIDE).eq(1).all()


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    config = EstimatorConfig(training={"steps": 3}, worth={"images": 5})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Estimator(config).half().float().eval()
    sha256 = network.save_pretrained(tmp_path)
    again, found = Estimator.from_pretrained(tmp_path)
    assert (again.config, found) == (config, sha256)
    image = torch.rand(1, 3, SIDE, SIDE) * 2 - 1
    assert torch.equal(again(image), network(image))


def test_what_ships_sees_blur_and_few_pixels(npm_folder: Path) -> None:
    """The more is taken of the discs and boxes of the tests, the less is estimated."""
    estimator, sha256 = Estimator.from_pretrained()
    assert sha256 == checkpoint_sha256(BUNDLED)
    assert estimator.config.worth["detail"]["correlation"] >= 0.9
    art = next(iter(sorted(npm_folder.rglob("*.webp"))))
    image = Image.new("RGB", (256, 256), (214, 222, 236))
    with Image.open(art) as sprite:
        shape = sprite.convert("RGBa").resize((128, 128)).convert("RGBA")
    image.paste(shape, (64, 64), shape)
    box = [Detection(class_name="apple", score=0.9, box=(64.0, 64.0, 192.0, 192.0))]
    found = [
        estimator.estimate(image.filter(ImageFilter.GaussianBlur(sigma)), box)
        for sigma in (0, 2, 5, 10)
    ]
    psnr, detail = ([float(value) for value in values] for values in zip(*found, strict=True))
    assert psnr == sorted(psnr, reverse=True) and detail == sorted(detail, reverse=True)
    assert detail[0] > RECOGNIZABLE > detail[-1]
