"""Scenes on disk: exact truth, the same bytes however they are made, and folders that resume."""

import hashlib
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from dcar_eval.geneval import Detection, evaluate_detections
from dcar_eval.scenes import dataset
from dcar_eval.scenes.dataset import MANIFEST, Example, Settings, make_example, write_scenes
from dcar_eval.scenes.sprites import Sprites
from dcht.errors import UsageError
from dcht.images import list_images

SETTINGS = Settings(
    objects=("apple", "banana", "car", "dog"), size=64, seed=3, split="train", webdataset=False
)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "CHUNK", 5)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.usefixtures("small_parts")
def test_the_layout_is_that_of_any_training_set(npm_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    assert write_scenes(npm_folder, out, num=12, settings=SETTINGS, workers=1) == 12
    images = list_images(out)
    assert [path.stem for path in images] == [f"{index:06d}" for index in range(12)]
    for path in images:
        with Image.open(path) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (64, 64), "RGB")
        lines = path.with_suffix(".txt").read_text().splitlines()
        truth = json.loads(path.with_suffix(".json").read_text())
        assert truth["prompt"] == lines[0]
        assert lines[0].startswith("a photo of ")
        assert truth["split"] == "train"


def test_the_truth_passes_the_benchmark_rules(npm_folder: Path) -> None:
    """Boxes and colors of the truth, taken as detections, satisfy GenEval's own decision."""
    sprites = Sprites(npm_folder, SETTINGS.objects)
    tags = set()
    for index in range(120):
        truth = make_example(index, SETTINGS, sprites).truth
        detections = [
            Detection(
                class_name=thing["class"], score=1, box=tuple(thing["box"]), color=thing["colour"]
            )
            for thing in truth["objects"]
        ]
        verdict = evaluate_detections(truth, detections)
        assert verdict.correct, verdict.reason
        tags.add(truth["tag"])
    assert len(tags) == 7


def test_a_image_depends_on_the_settings_and_its_number_alone(npm_folder: Path) -> None:
    def images(settings: Settings, order: list[int]) -> list[bytes]:
        sprites = Sprites(npm_folder, settings.objects)
        made = {index: make_example(index, settings, sprites) for index in order}
        return [made[index].image.tobytes() for index in sorted(order)]

    first = images(SETTINGS, [0, 1, 2])
    assert images(SETTINGS, [2, 0, 1]) == first
    assert len(set(first)) == 3
    assert not set(first) & set(images(replace(SETTINGS, seed=4), [0, 1, 2]))
    assert not set(first) & set(images(replace(SETTINGS, split="held-out"), [0, 1, 2]))


@pytest.mark.slow
def test_processes_write_what_one_process_writes(npm_folder: Path, tmp_path: Path) -> None:
    """A scene more than a part holds, so that there is work for two."""
    tiny = replace(SETTINGS, size=32)
    for workers in (1, 2):
        out = tmp_path / f"by{workers}"
        write_scenes(npm_folder, out, num=dataset.CHUNK + 1, settings=tiny, workers=workers)
    assert digests(tmp_path / "by1") == digests(tmp_path / "by2")


@pytest.mark.usefixtures("small_parts")
def test_tars_hold_the_same_files(npm_folder: Path, tmp_path: Path) -> None:
    write_scenes(npm_folder, tmp_path / "folder", num=7, settings=SETTINGS, workers=1)
    tars = replace(SETTINGS, webdataset=True)
    write_scenes(npm_folder, tmp_path / "tars", num=7, settings=tars, workers=1)
    with tarfile.open(tmp_path / "tars" / "part-0001.tar") as tar:
        names = tar.getnames()
        content = {name: tar.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    assert names == ["000005.jpg", "000005.txt", "000005.json", *[
        f"000006.{suffix}" for suffix in ("jpg", "txt", "json")
    ]]  # fmt: skip
    for name in names:
        assert content[name] == (tmp_path / "folder" / "part-0001" / name).read_bytes()


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("webdataset", [False, True])
def test_an_interrupted_folder_goes_on(npm_folder: Path, tmp_path: Path, webdataset: bool) -> None:
    settings = replace(SETTINGS, webdataset=webdataset)
    write_scenes(npm_folder, tmp_path / "whole", num=12, settings=settings, workers=1)
    out = tmp_path / "broken"

    def stops(index: int, settings: Settings, sprites: Sprites) -> Example:
        if index == 7:
            raise KeyboardInterrupt
        return make_example(index, settings, sprites)

    with pytest.raises(KeyboardInterrupt):
        write_scenes(npm_folder, out, num=12, settings=settings, workers=1, make=stops)
    assert any(path.name.startswith(".part-") for path in out.iterdir())
    assert write_scenes(npm_folder, out, num=12, settings=settings, workers=1) == 7
    assert digests(out) == digests(tmp_path / "whole")
    assert write_scenes(npm_folder, out, num=12, settings=settings, workers=1) == 0


@pytest.mark.usefixtures("small_parts")
def test_other_settings_need_force(npm_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    write_scenes(npm_folder, out, num=12, settings=SETTINGS, workers=1)
    other = replace(SETTINGS, seed=9)
    with pytest.raises(UsageError, match="holds scenes with seed 3, not 9; use --force"):
        write_scenes(npm_folder, out, num=12, settings=other, workers=1)
    with pytest.raises(UsageError, match="holds scenes with num 12, not 6"):
        write_scenes(npm_folder, out, num=6, settings=SETTINGS, workers=1)
    assert write_scenes(npm_folder, out, num=6, settings=other, workers=1, force=True) == 6
    assert len(list_images(out)) == 6
    assert json.loads((out / MANIFEST).read_text())["seed"] == 9


@pytest.mark.usefixtures("small_parts")
def test_other_sprites_are_other_scenes(npm_folder: Path, tmp_path: Path) -> None:
    """A set of images from two releases of the art would be neither's."""
    out = tmp_path / "scenes"
    write_scenes(npm_folder, out, num=6, settings=SETTINGS, workers=1)
    sprite = next(npm_folder.rglob("*.webp"))
    Image.new("RGBA", (256, 256), "red").save(sprite, lossless=True)
    with pytest.raises(UsageError, match="holds scenes with sprites_sha256"):
        write_scenes(npm_folder, out, num=6, settings=SETTINGS, workers=1)


@pytest.mark.usefixtures("small_parts")
def test_a_folder_may_hold_one_task_only(npm_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    settings = replace(SETTINGS, task="colors")
    write_scenes(npm_folder, out, num=6, settings=settings, workers=1)
    truths = [json.loads(path.read_text()) for path in sorted(out.glob("part-*/*.json"))]
    assert [truth["tag"] for truth in truths] == ["colors"] * 6
    with pytest.raises(UsageError, match="holds scenes with task 'colors', not None"):
        write_scenes(npm_folder, out, num=6, settings=SETTINGS, workers=1)
    few = replace(settings, objects=("apple", "car"), task="gathering")
    with pytest.raises(UsageError, match="4 objects gather, not 2; add some"):
        write_scenes(npm_folder, tmp_path / "few", num=6, settings=few, workers=1)
    assert not (tmp_path / "few").exists()


def test_a_folder_with_other_things_is_left_alone(npm_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "photos"
    out.mkdir()
    (out / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(UsageError, match="photos is not empty; use --force"):
        write_scenes(npm_folder, out, num=2, settings=SETTINGS, workers=1)
    assert (out / "holiday.jpg").read_bytes() == b"precious"


def test_what_is_refused(npm_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    for settings, num, message in (
        (replace(SETTINGS, size=250), 2, "size 250 is not a multiple of 32"),
        (replace(SETTINGS, seed=-1), 2, "seed -1 is negative"),
        (SETTINGS, 0, "0 scenes cannot be written"),
    ):
        with pytest.raises(UsageError, match=message):
            write_scenes(npm_folder, out, num=num, settings=settings)
    assert not out.exists()
