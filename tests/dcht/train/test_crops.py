import io
import json
import os
import tarfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dcht.data.entries import Entry, file_entry
from dcht.errors import UsageError
from dcht.train.dataset import (
    Crops,
    image_contents,
    load_batches,
    split_inputs,
    stream_keys,
    to_images,
)
from dcht.train_config import DataConfig


def config(root: Path, **settings) -> DataConfig:
    return DataConfig(root=str(root), **{"size": 64, "crop": 32, "num_val": 2, **settings})


def entries(*paths: Path) -> list[Entry]:
    return [file_entry(str(path), path.name) for path in paths]


def ramp(width: int, height: int) -> Image.Image:
    """An image whose red grows to the right and whose green grows downwards."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.arange(width)[None, :]
    pixels[..., 1] = np.arange(height)[:, None]
    return Image.fromarray(pixels)


def test_validation_images_are_spread_and_kept_apart(tmp_path):
    for index in range(10):
        ramp(8, 8).save(tmp_path / f"{index}.png")
    (tmp_path / "4.heic").write_bytes(b"GIF89a")
    training, validation, left_out = split_inputs(config(tmp_path))
    assert [image.name for image in validation] == ["0.png", "5.png"]
    assert [image.name for image in training] == [f"{k}.png" for k in (1, 2, 3, 4, 6, 7, 8, 9)]
    assert [(image.name, image.problem) for image in left_out] == [("4.heic", ".heic is not read")]


def test_a_small_folder_keeps_a_quarter_for_validation(tmp_path):
    for index in range(12):
        ramp(8, 8).save(tmp_path / f"{index:02d}.png")
    training, validation, _ = split_inputs(config(tmp_path, num_val=64))
    assert [image.name for image in validation] == ["00.png", "04.png", "08.png"]
    assert len(training) == 9
    # No cliff where there are just more images than `num_val`.
    assert len(split_inputs(config(tmp_path, num_val=11)).validation) == 3
    assert len(split_inputs(config(tmp_path, num_val=6)).validation) == 6
    for image in training + validation[1:]:
        (tmp_path / image.name).unlink()
    with pytest.raises(UsageError, match="has 1 images; training needs at least 2"):
        split_inputs(config(tmp_path))
    (tmp_path / "a.heic").write_bytes(b"GIF89a")
    with pytest.raises(UsageError, match=r"has 1 images \(a.heic: .heic is not read\); training"):
        split_inputs(config(tmp_path))


def test_what_a_run_adds_to_its_images_is_no_input(images, tmp_path):
    out = images / "run"
    (out / "samples").mkdir(parents=True)
    (images / "run-2").mkdir()
    for place in (out / "curves.png", out / "samples" / "0.png", images / "run-2" / "g.png"):
        ramp(8, 8).save(place)
    (tmp_path / "linked").symlink_to(images, target_is_directory=True)

    def names(root: Path | str, out: Path | None) -> list[str]:
        training, validation, left_out = split_inputs(config(Path(root)), out=out)
        assert not left_out
        return sorted(entry.name for entry in (*training, *validation))

    first = ["a.png", "b.jpg", "c.webp", "d.bmp", "e.png", "more/f.jpg", "run-2/g.png"]
    own = ["run/curves.png", "run/samples/0.png"]
    assert names(images, None) == sorted(first + own)
    # By the folder, not by what it is called.
    for root, place in ((images, out), (images, tmp_path / "linked" / "run"),
                        (tmp_path / "linked", out), (f"{images}/*[!t]", out)):  # fmt: skip
        assert names(root, place) == first
    # Images within the run's folder are no samples of it.
    assert names(images, tmp_path) == names(images, None)
    with pytest.raises(UsageError, match=r"holds the images themselves .*; choose another out="):
        names(images, tmp_path / "linked")


@pytest.fixture
def sources(images: Path, tmp_path: Path) -> dict[str, Path]:
    """The same images in every way that `dcht encode` reads."""
    names = sorted(p.relative_to(images).as_posix() for p in images.rglob("*.*[gp]"))
    assert len(names) == 6
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for name in names:
            tar.add(images / name, name)
    for number, some in enumerate((names[:3], names[3:])):
        with tarfile.open(tmp_path / f"part-{number}.tar", "w") as tar:
            for name in some:
                tar.add(images / name, name)
    lines = [f"pictures/{name}\n" for name in names]
    (tmp_path / "list.txt").write_text("".join(lines))
    rows = [f'{{"file_name": "pictures/{name}", "caption": "one"}}\n' for name in names]
    (tmp_path / "list.jsonl").write_text("".join(rows))
    return {
        "folder": images,
        "tar": tmp_path / "all.tar",
        "pattern": tmp_path / "part-{0..1}.tar",
        "lines": tmp_path / "list.txt",
        "rows": tmp_path / "list.jsonl",
    }


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_reads_what_encode_reads(sources, workers):
    """The same crops, in the same order, from a folder, archives and lists."""
    found = {}
    for kind, root in sources.items():
        settings = config(root, workers=workers)
        training, validation, left_out = split_inputs(settings)
        assert (len(training), len(validation), left_out) == (4, 2, [])
        crops = Crops(training, settings, cache=False)
        batches = load_batches(crops, batch_size=2, seed=0, first_step=1, num_steps=3)
        held_out = Crops(validation, settings, cache=True)
        found[kind] = torch.cat([*batches, torch.stack([held_out[k, None] for k in range(2)])])
    assert all(torch.equal(found["folder"], other) for other in found.values())


def test_a_member_that_changes_is_another_content(sources, tmp_path):
    """By content: another member's bytes, not the archive's time."""
    tar = sources["tar"]

    def contents() -> str:
        training, validation, _ = split_inputs(config(tar))
        return image_contents([*training, *validation])

    before = contents()
    os.utime(tar, (1, 1))
    assert contents() == before
    with tarfile.open(tar) as old:
        members = [(m, old.extractfile(m).read()) for m in old.getmembers()]  # type: ignore[union-attr]
    with tarfile.open(tar, "w") as new:
        for number, (member, content) in enumerate(members):
            changed = content[:-1] + bytes([content[-1] ^ 1]) if number == 3 else content
            new.addfile(member, io.BytesIO(changed))
    assert contents() != before


def test_a_folder_that_cannot_be_read_is_known_before_a_step(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    for cache in (True, False):
        crops = Crops(entries(tmp_path / "a.png"), config(tmp_path), cache=cache)
        with pytest.raises(UsageError, match=r"no image in .* can be read"):
            crops.require_readable()


def test_what_images_are_is_their_names_and_bytes(tmp_path):
    for name in ("a.bmp", "b.bmp"):
        ramp(8, 8).save(tmp_path / name)
    a, b, c = (tmp_path / f"{name}.bmp" for name in "abc")
    before = image_contents(entries(a, b))
    assert image_contents(entries(b, a)) == before
    os.utime(a, (1, 1))
    assert image_contents(entries(a, b)) == before
    ramp(8, 8).rotate(90).save(b)  # as many bytes
    repainted = image_contents(entries(a, b))
    b.rename(c)
    assert len({before, repainted, image_contents(entries(a, c))}) == 3
    # What a run recorded before archives could be read: resuming it goes on.
    plain = [["a.bmp", b"1"], ["b.bmp", b"22"]]
    for name, content in plain:
        (tmp_path / name).write_bytes(content)
    rows = [[name, len(content), sha256(content).hexdigest()] for name, content in plain]
    digest = sha256(b"".join(json.dumps(row).encode() + b"\n" for row in rows)).hexdigest()
    assert image_contents(entries(a, tmp_path / "b.bmp")) == digest


def test_a_crop_is_the_resized_images_pixels(tmp_path):
    ramp(96, 64).save(tmp_path / "a.png")
    crops = Crops(entries(tmp_path / "a.png"), config(tmp_path), cache=False)
    center = crops[0, None]
    assert center.dtype == torch.uint8
    assert center.shape == (3, 32, 32)
    assert center[0, 0].tolist() == list(range(32, 64))
    assert center[1, :, 0].tolist() == list(range(16, 48))
    corners, mirrored = set(), 0
    for draw in range(200):
        red, green = crops[0, f"{draw}"][0, 0], crops[0, f"{draw}"][1, :, 0]
        mirrored += int(red[0] > red[-1])
        corners.add((int(red.min()), int(green.min())))
        assert int(red.max() - red.min()) == 31
    assert 70 < mirrored < 130
    assert {left for left, _ in corners} <= set(range(65))
    assert {top for _, top in corners} == set(range(33))


def test_the_short_side_is_resized_and_the_center_is_an_option(tmp_path):
    ramp(300, 200).save(tmp_path / "a.png")
    centered = config(tmp_path, random_crop=False, flip=False)
    crops = Crops(entries(tmp_path / "a.png"), centered, cache=True)
    assert crops.pixels is not None
    (pixels,) = crops.pixels
    assert pixels is not None and pixels.shape == (64, 96, 3)
    assert torch.equal(crops[0, "1"], crops[0, None])


def test_the_stream_is_a_function_of_its_position():
    keys = list(stream_keys(5, 0, 0, 20))
    assert keys[7:13] == list(stream_keys(5, 0, 7, 13))
    epochs = [[index for index, _ in keys[first : first + 5]] for first in range(0, 20, 5)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert len({text for _, text in keys}) == 20
    assert list(stream_keys(5, 1, 0, 20)) != keys


def test_batches_are_equal_with_workers_without_and_cached(images):
    files = entries(*sorted(images.glob("*.*g")))
    streams = []
    for cache, workers in ((False, 0), (False, 2), (True, 2)):
        crops = Crops(files, config(images, workers=workers), cache=cache)
        batches = load_batches(crops, batch_size=3, seed=1, first_step=2, num_steps=4)
        streams.append(torch.stack(list(batches)))
    assert streams[0].shape == (4, 3, 3, 32, 32)
    assert torch.equal(streams[0], streams[1])
    assert torch.equal(streams[0], streams[2])


@pytest.mark.parametrize("broken", [["a.png"], ["e.png"], ["b.jpg", "c.webp", "e.png"]])
def test_a_cache_changes_nothing_of_the_stream_also_where_images_are_broken(images, broken):
    """In the first place, in the last, several in a row: `data.cache` may change on resuming."""
    for name in broken:
        (images / name).write_text("no image")
    files = entries(*sorted(images.glob("*.*g")), images / "c.webp")
    streams = []
    for cache in (False, True):
        crops = Crops(files, config(images, workers=0), cache=cache)
        assert len(crops) == len(files)
        batches = load_batches(crops, batch_size=3, seed=1, first_step=0, num_steps=8)
        streams.append(torch.stack([*batches, torch.stack([crops[k, None] for k in range(3)])]))
    assert torch.equal(*streams)


def test_unreadable_files_are_passed_over_and_named(images, capsys):
    (images / "broken.png").write_text("no image")
    files = entries(images / "broken.png", images / "a.png")
    cached = Crops(files, config(images), cache=True)
    assert len(cached) == 2
    assert torch.equal(Crops(files, config(images), cache=False)[0, "x"], cached[0, "x"])
    assert "broken.png: not a PNG" in capsys.readouterr().err
    assert torch.equal(cached[0, "x"], cached[1, "x"])
    assert not capsys.readouterr().err  # once is enough
    with pytest.raises(UsageError, match=r"no image in .* can be read"):
        _ = Crops(files[:1], config(images), cache=False)[0, None]


def test_pixels_reach_from_minus_one_to_one():
    levels = torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(1, 3, 1, 1)
    images = to_images(levels, torch.device("cpu")).flatten()
    assert images.tolist() == pytest.approx([-1, 1, -0.6])
