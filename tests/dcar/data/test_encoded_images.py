from pathlib import Path

import pytest
import torch
from PIL import Image

from dcar.data import Data, open_data
from dcar.data.encoded_images import nearest
from dcar.data.order import Stream
from dcar.train_config import DataConfig, DataKind
from dcht import Tokenizer, UsageError


def save(folder: Path, name: str, size: tuple[int, int], caption: str = "a scene") -> Image.Image:
    """An image whose left half is dark and whose right half is bright."""
    image = Image.new("RGB", size, (30, 60, 90))
    image.paste((250, 200, 150), (size[0] // 2, 0, size[0], size[1]))
    image.save(folder / name)
    (folder / name).with_suffix(".txt").write_text(caption)
    return image


def opened(root: Path, tokenizer: Tokenizer, **settings: object) -> Data:
    config = DataConfig(kind=DataKind.folder, root=str(root), **settings)  # type: ignore[arg-type]
    return open_data(config, tokenizer)


def test_each_image_takes_the_bucket_nearest_to_its_shape(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    save(tmp_path, "square.png", (100, 100))
    save(tmp_path, "tall.png", (80, 170))
    save(tmp_path, "wide.png", (200, 110))
    turned = save(tmp_path, "turned.jpg", (200, 110))  # upright it is tall
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    data = opened(tmp_path, tokenizer, buckets=["64x64", "96x64", "32x64"])
    assert [data.grid(row) for row in range(4)] == [(2, 2), (2, 1), (2, 1), (2, 3)]
    assert data.read([3]).indices.shape == (1, 2, 3)
    assert data.read([1, 2]).residual.shape == (2, 8, 2, 1)
    # Equal numbers of wider and narrower are as near as it gets: the first one is taken.
    assert nearest((3, 1), [(64, 64), (9 * 64, 64)]) == (64, 64)
    stream = Stream(0, data)
    for step in range(20):
        rows = [sample.row for sample in stream.batch(step, 3)]
        data.read(rows)  # of one grid, or this would not stack


def test_a_turned_tiff_takes_the_bucket_of_what_it_shows(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """Pillow turns a TIFF itself, and says so in its size already."""
    image = save(tmp_path, "a.tif", (200, 110))
    for turn in (3, 6, 8):
        image.save(tmp_path / f"b{turn}.tif", tiffinfo={0x0112: turn})
        (tmp_path / f"b{turn}.txt").write_text("a scene")
    data = opened(tmp_path, tokenizer, buckets=["96x64", "64x96"])
    assert [data.grid(row) for row in range(4)] == [(2, 3), (2, 3), (3, 2), (3, 2)]


def test_flips_are_rows_of_their_own_but_not_of_captions_that_name_a_side(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    save(tmp_path, "a.png", (64, 64))
    save(tmp_path, "b.png", (64, 64), "a bright half to the Right of a dark one")
    data = opened(tmp_path, tokenizer, size=64, flip=True)
    assert len(data) == 3 and data.captions[2] == ["a scene"]
    assert data.notes == [
        f"{tmp_path}: 1 images are not shown mirrored: their captions say left or right"
    ]
    mirrored = Image.open(tmp_path / "a.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    mirrored.save(tmp_path / "a.png")
    again = opened(tmp_path, tokenizer, size=64)
    assert torch.equal(again.read([0]).indices, data.read([0]).indices)
    flipped = opened(tmp_path, tokenizer, size=64, flip=True).read([2])
    mirrored.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "a.png")
    assert torch.equal(flipped.residual, opened(tmp_path, tokenizer, size=64).read([0]).residual)


def test_what_cannot_be_used_is_left_out_and_said(tmp_path: Path, tokenizer: Tokenizer) -> None:
    save(tmp_path, "a.png", (64, 64))
    (tmp_path / "b.heic").write_bytes(b"GIF89a")
    data = opened(tmp_path, tokenizer, size=64)
    assert len(data) == 1
    assert data.notes == [f"{tmp_path}: 1 left out, for instance b.heic: .heic is not read"]
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    (tmp_path / "c.txt").write_text("cut")
    with pytest.raises(UsageError, match=r"c\.png: damaged.*take it out"):
        opened(tmp_path, tokenizer, size=64).read([1])
    with pytest.raises(UsageError, match="size 70 is not a multiple of 32"):
        opened(tmp_path, tokenizer, buckets=["64x70"])
