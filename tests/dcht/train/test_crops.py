import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dcht.errors import UsageError
from dcht.train.dataset import (
    Crops,
    image_contents,
    load_batches,
    split_files,
    stream_keys,
    to_images,
)
from dcht.train_config import DataConfig


def config(root: Path, **settings) -> DataConfig:
    return DataConfig(root=str(root), **{"size": 64, "crop": 32, "num_val": 2, **settings})


def ramp(width: int, height: int) -> Image.Image:
    """An image whose red grows to the right and whose green grows downwards."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.arange(width)[None, :]
    pixels[..., 1] = np.arange(height)[:, None]
    return Image.fromarray(pixels)


def test_validation_files_are_spread_and_kept_apart(tmp_path):
    for index in range(10):
        ramp(8, 8).save(tmp_path / f"{index}.png")
    training, validation = split_files(config(tmp_path))
    assert [path.name for path in validation] == ["0.png", "5.png"]
    assert len(training) == 8
    assert not set(training) & set(validation)


def test_a_small_folder_keeps_a_quarter_for_validation(tmp_path):
    for index in range(12):
        ramp(8, 8).save(tmp_path / f"{index:02d}.png")
    training, validation = split_files(config(tmp_path, num_val=64))
    assert [path.name for path in validation] == ["00.png", "04.png", "08.png"]
    assert len(training) == 9
    for path in training + validation[1:]:
        path.unlink()
    with pytest.raises(UsageError, match="has 1 images; training needs at least 2"):
        split_files(config(tmp_path))


def test_a_folder_that_cannot_be_read_is_known_before_a_step(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    for cache in (True, False):
        crops = Crops([tmp_path / "a.png"], config(tmp_path), cache=cache)
        with pytest.raises(UsageError, match=r"no image in .* can be read"):
            crops.require_readable()


def test_what_images_are_is_their_names_and_bytes(tmp_path):
    for name in ("a.bmp", "b.bmp"):
        ramp(8, 8).save(tmp_path / name)
    files, settings = [tmp_path / "a.bmp", tmp_path / "b.bmp"], config(tmp_path)
    before = image_contents(settings, files)
    assert image_contents(settings, files[::-1]) == before
    os.utime(files[0], (1, 1))
    assert image_contents(settings, files) == before
    ramp(8, 8).rotate(90).save(files[1])  # as many bytes
    repainted = image_contents(settings, files)
    files[1].rename(tmp_path / "c.bmp")
    renamed = image_contents(settings, [files[0], tmp_path / "c.bmp"])
    assert len({before, repainted, renamed}) == 3


def test_a_crop_is_the_resized_images_pixels(tmp_path):
    ramp(96, 64).save(tmp_path / "a.png")
    crops = Crops([tmp_path / "a.png"], config(tmp_path), cache=False)
    centre = crops[0, None]
    assert centre.dtype == torch.uint8
    assert centre.shape == (3, 32, 32)
    assert centre[0, 0].tolist() == list(range(32, 64))
    assert centre[1, :, 0].tolist() == list(range(16, 48))
    corners, mirrored = set(), 0
    for draw in range(200):
        red, green = crops[0, f"{draw}"][0, 0], crops[0, f"{draw}"][1, :, 0]
        mirrored += int(red[0] > red[-1])
        corners.add((int(red.min()), int(green.min())))
        assert int(red.max() - red.min()) == 31
    assert 70 < mirrored < 130
    assert {left for left, _ in corners} <= set(range(65))
    assert {top for _, top in corners} == set(range(33))


def test_the_short_side_is_resized_and_the_centre_is_an_option(tmp_path):
    ramp(300, 200).save(tmp_path / "a.png")
    centred = config(tmp_path, random_crop=False, flip=False)
    crops = Crops([tmp_path / "a.png"], centred, cache=True)
    assert crops.pixels is not None
    assert crops.pixels[0].shape == (64, 96, 3)
    assert torch.equal(crops[0, "1"], crops[0, None])


def test_the_stream_is_a_function_of_its_position():
    keys = list(stream_keys(5, 0, 0, 20))
    assert keys[7:13] == list(stream_keys(5, 0, 7, 13))
    epochs = [[index for index, _ in keys[first : first + 5]] for first in range(0, 20, 5)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert len({text for _, text in keys}) == 20
    assert list(stream_keys(5, 1, 0, 20)) != keys


def test_batches_are_equal_with_workers_without_and_cached(pictures):
    files = sorted(pictures.glob("*.*g"))
    streams = []
    for cache, workers in ((False, 0), (False, 2), (True, 2)):
        crops = Crops(files, config(pictures, workers=workers), cache=cache)
        batches = load_batches(crops, batch_size=3, seed=1, first_step=2, num_steps=4)
        streams.append(torch.stack(list(batches)))
    assert streams[0].shape == (4, 3, 3, 32, 32)
    assert torch.equal(streams[0], streams[1])
    assert torch.equal(streams[0], streams[2])


def test_unreadable_files_are_passed_over_and_named(pictures, capsys):
    (pictures / "broken.png").write_text("no image")
    files = [pictures / "broken.png", pictures / "a.png"]
    cached = Crops(files, config(pictures), cache=True)
    assert len(cached) == 1
    assert torch.equal(Crops(files, config(pictures), cache=False)[0, "x"], cached[0, "x"])
    assert "broken.png: not a PNG" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"no image in .* can be read"):
        _ = Crops(files[:1], config(pictures), cache=False)[0, None]


def test_pixels_reach_from_minus_one_to_one():
    levels = torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(1, 3, 1, 1)
    images = to_images(levels, torch.device("cpu")).flatten()
    assert images.tolist() == pytest.approx([-1, 1, -0.6])
