"""Images that are there: whose they are, and which are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from dcar_eval.scenes.evaluate import Truths, evaluate_images
from dcar_eval.scenes.given import GivenImages, find_images, run_of, sha256_of
from dcar_eval.scenes.world import WORLDS
from dcht import Tokenizer
from dcht.errors import UsageError
from dcht.perceptual import LPIPS

COUNT = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of each of the six tasks."""
    folder = tmp_path / "run" / "images"
    folder.mkdir(parents=True)
    for number in range(COUNT):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(folder / f"{number:05d}.png")
    return folder


def find(folder: Path, **changes: Any) -> GivenImages:
    asked: dict[str, Any] = {"num_per_task": 2, "seed": 3, "objects": None, "truths": False}
    return find_images(folder, **(asked | changes))


def settle(folder: Path, **settings: Any) -> None:
    (folder.parent / "settings.json").write_text(json.dumps(settings))


def test_anybody_s_images_are_of_the_thirty_objects(folder: Path) -> None:
    given = find(folder)
    assert given.objects == tuple(sorted(WORLDS["wide"]))
    assert [file.name for file in given.files] == [f"{n:05d}.png" for n in range(COUNT)]
    assert find(folder, objects=("apple", "dog")).objects == ("apple", "dog")


def test_a_run_knows_its_objects_and_its_prompts(folder: Path) -> None:
    settle(folder, recognizer_sha256="r", objects=["cat", "dog"], seed=3, num_per_task=2)
    assert find(folder).objects == ("cat", "dog")
    assert find(folder, objects=("cat", "dog")).objects == ("cat", "dog")
    with pytest.raises(UsageError, match="leave --objects out"):
        find(folder, objects=("apple", "dog"))
    with pytest.raises(UsageError, match="of a run with seed 3, not 4"):
        find(folder, seed=4)
    settle(folder, recognizer_sha256="r", objects=["cat", "dog"], seed=3, num_per_task=4)
    with pytest.raises(UsageError, match="of a run with num_per_task 4, not 2"):
        find(folder)


@pytest.mark.parametrize("other", ["hard", "things"])
def test_images_of_another_benchmark_are_of_other_prompts(folder: Path, other: str) -> None:
    settle(folder, recognizer_sha256="r", benchmark=other, seed=3, num_per_task=2)
    with pytest.raises(UsageError, match=f"of a run of --benchmark {other}, whose prompts are not"):
        find(folder)


def test_a_run_is_known_by_every_path_to_its_images(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(folder, recognizer_sha256="r", objects=["cat", "dog"], seed=3, num_per_task=2)
    (folder / "deeper").mkdir()
    link = tmp_path / "link"
    link.symlink_to(folder, target_is_directory=True)
    monkeypatch.chdir(folder)
    for place in (folder, Path(), Path("../images"), Path("deeper/.."), link):
        assert find(place).objects == ("cat", "dog")
        with pytest.raises(UsageError, match="of a run with seed 3, not 4"):
            find(place, seed=4)
        with pytest.raises(UsageError, match=r"of --benchmark standard, .* in .*results\.json"):
            run_of(place, "hard")


def test_a_run_whose_images_lie_elsewhere_is_known(folder: Path, tmp_path: Path) -> None:
    elsewhere = folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(elsewhere, target_is_directory=True)
    settle(folder, recognizer_sha256="r", objects=["cat", "dog"], seed=3, num_per_task=2)
    assert find(folder).objects == ("cat", "dog")
    assert find(elsewhere).objects == tuple(sorted(WORLDS["wide"]))


def test_settings_of_something_else_say_nothing(folder: Path, tmp_path: Path) -> None:
    settle(folder, objects=["cat", "dog"], seed=9)
    assert find(folder).objects == tuple(sorted(WORLDS["wide"]))
    (folder.parent / "settings.json").write_text("[" * 10)
    assert find(folder).objects == tuple(sorted(WORLDS["wide"]))
    settle(folder, recognizer_sha256="r", objects=["cat", "dog"], seed=9)
    copied = folder.rename(folder.with_name("blurred"))  # beside a run, and not its own
    assert find(copied).objects == tuple(sorted(WORLDS["wide"]))


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere is not a folder of images"):
        find(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"00012\.png: no such file; one image is needed for"):
        find(folder, num_per_task=3)
    with pytest.raises(UsageError, match=r"00006\.png is one image too many: 1 of a task are 6"):
        find(folder, num_per_task=1)
    Image.new("RGB", (32, 32)).save(folder / "00100.png")  # behind a gap
    with pytest.raises(UsageError, match=r"00100\.png is one image too many: 2 of a task are 12"):
        find(folder)
    (folder / "00100.png").unlink()
    (folder / "00003.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"00003\.png: not a PNG"):
        find(folder)
    Image.new("RGB", (64, 96)).save(folder / "00003.png")
    with pytest.raises(UsageError, match=r"00003\.png: scenes are square, not 64 x 96"):
        find(folder)
    Image.new("RGB", (100, 100)).save(folder / "00003.png")
    assert find(folder)
    with pytest.raises(UsageError, match=r"00003\.png is 100 px wide; .* a multiple of 32"):
        find(folder, truths=True)


def test_the_hash_is_of_the_images(folder: Path) -> None:
    before = sha256_of(find(folder).files)
    assert sha256_of(find(folder).files) == before
    Image.new("RGB", (64, 64), (99, 0, 0)).save(folder / "00003.png")
    assert sha256_of(find(folder).files) != before


def test_other_art_and_other_weights_of_lpips_are_another_run(
    folder: Path, npm_folder: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Fidelity depends on both, and an old number never stands for a new question."""
    weights = [tmp_path / name for name in ("alexnet.safetensors", "others.safetensors")]
    for seed, file in enumerate(weights):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            save_file(LPIPS("alex").state_dict(), file)

    def judged(lpips: Path = weights[0]) -> dict[str, Any]:
        given = find(folder, objects=("apple", "banana", "car", "dog"), truths=True)
        truths = Truths(sprites=npm_folder, lpips_weights=str(lpips))
        place, device = tmp_path / "out", torch.device("cpu")
        return evaluate_images(given, place, tokenizer=tokenizer, device=device, truths=truths)

    first = judged()
    assert first["fidelity"]["lpips"] is not None
    assert judged() == first
    with pytest.raises(UsageError, match="was begun with lpips_sha256"):
        judged(weights[1])
    sprite = next(npm_folder.rglob("1f34e.webp"))
    with Image.open(sprite) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(sprite, lossless=True)
    with pytest.raises(UsageError, match="was begun with sprites_sha256"):
        judged()
