"""What the app makes is what the command and the call that it names make."""

import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dcar.app.recipes import Recipe, file_name
from dcar.app.studio import MAX_IMAGES, MAX_SIDE, Studio, settings_for
from dcar.pipeline import TextToImage
from dcar.pipeline.edit import inpaint, outpaint
from dcar.pipeline.record import read_record
from dcht.errors import CheckpointError, UsageError

Dcar = Callable[..., tuple[int, str, str]]


@pytest.fixture
def studio(checkpoint: Path) -> Studio:
    return Studio(TextToImage.from_pretrained(checkpoint))


def test_its_folder_goes_with_it(checkpoint: Path) -> None:
    studio = Studio(TextToImage.from_pretrained(checkpoint))
    folder = studio.folder
    (folder / "00000.png").write_bytes(b"x")
    del studio
    assert not folder.exists()


def made(studio: Studio, prompt: str, **asked: Any) -> tuple[list[Path], Any]:
    """The files of a request, and its series."""
    series, _ = studio.plan(prompt, **asked)
    *_, last = studio.run(series)
    return studio.save(series, last.images, prompt=prompt), series


def repeat(dcar: Dcar, command: str, folder: Path) -> list[bytes]:
    """The files of a command line as the app gives it, run in `folder`."""
    words = shlex.split(command)[1:]
    end = words.index("--") if "--" in words else len(words)
    # The fixture adds options at the end, where behind `--` they would be none.
    words, last = words[:end], words[end:]
    assert not last
    place = words.index("--out") + 1
    words[place] = str(folder / words[place])
    words = [str(folder / w) if w in ("photo.png", "mask.png") else w for w in words]
    code, out, err = dcar(*words)
    assert code == 0, err
    return [Path(line).read_bytes() for line in out.splitlines()]


@pytest.mark.parametrize(
    ("count", "size", "given"),
    [
        (1, None, {}),
        (3, (96, 64), {"num_steps": 3, "order": "halton", "cfg_scale": 1.5, "temperature": 2.0}),
    ],
)
def test_the_command_makes_the_same_files(
    studio: Studio, dcar: Dcar, tmp_path: Path, count: int, size: Any, given: dict[str, Any]
) -> None:
    prompt = "a 'red' apple & a dog"
    asked = settings_for(studio, **given)
    files, series = made(studio, prompt, seed=5, num_images=count, size=size, settings=asked)
    command = studio.recipe(series, prompt).command()
    assert repeat(dcar, command, tmp_path) == [path.read_bytes() for path in files]


def test_the_python_makes_the_same_images(studio: Studio, checkpoint: Path, tmp_path: Path) -> None:
    files, series = made(studio, "a dog", seed=2, num_images=2, settings={"num_steps": 3})
    studio.ckpt = str(checkpoint)
    code = studio.recipe(series, "a dog").python()
    found: dict[str, Any] = {}
    lines = code.splitlines()
    exec("\n".join(lines[: [line.startswith("for ") for line in lines].index(True)]), found)
    for path, image in zip(files, found["result"].images, strict=True):
        with Image.open(path) as other:
            assert other.tobytes() == image.tobytes()


@pytest.mark.parametrize("way", ["inpaint", "outpaint", "variation"])
def test_an_edit_s_command_makes_the_same_file(
    studio: Studio, dcar: Dcar, tmp_path: Path, way: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    photo = Image.fromarray(pixels)
    photo.save(tmp_path / "photo.png")
    mask = Image.new("L", photo.size)
    mask.paste(255, (32, 0, 64, 32))
    mask.save(tmp_path / "mask.png")
    edit, fields = {
        "inpaint": (inpaint(photo, mask, strength=1), {"mask": True}),
        "outpaint": (outpaint(photo, left=32), {"margins": {"left": 32, "right": 0}}),
        "variation": (inpaint(photo, None, strength=0.5), {"strength": 0.5}),
    }[way]
    files, series = made(studio, "a car", seed=1, edit=edit, settings={})
    recipe = studio.recipe(series, "a car", **fields)
    assert repeat(dcar, recipe.command(), tmp_path) == [files[0].read_bytes()]
    compile(recipe.python(), "recipe", "exec")


def test_a_replay_is_the_file_and_leaves_the_threads_as_they_were(studio: Studio) -> None:
    threads = torch.get_num_threads()
    files, _ = made(studio, "a cat", seed=4, num_images=2, settings={})
    record = read_record(files[1])
    record.threads = threads + 1
    assert studio.replay(read_record(files[1]), None).read_bytes() == files[1].read_bytes()
    studio.replay(record, None)
    assert torch.get_num_threads() == threads
    record.weights = "1" * 64
    with pytest.raises(CheckpointError):
        studio.replay(record, None)


def test_every_step_is_a_frame(studio: Studio) -> None:
    series, _ = studio.plan("a dog", seed=0, num_images=2, settings={"num_steps": 3})
    progress = list(studio.run(series))
    assert [len(one.frames) for one in progress] == [1, 2, 3, 4]
    assert [one.done for one in progress] == [False, False, False, True]
    assert progress[-1].frames[-1]["label"] == "refined by the residual"
    assert progress[2].frames[-1]["label"] == "step 3 of 3, 8 of 8 tokens"
    assert progress[0].frames[0]["image"] != progress[0].frames[0]["tokens"]


@pytest.mark.parametrize(
    ("prompt", "asked", "said"),
    [
        ("  ", {}, "the prompt is empty"),
        ("a" * 100_001, {}, "the prompt has 100,001 characters; at most 100,000"),
        ("a dog", {"num_images": MAX_IMAGES + 1}, "images is 9; expected 1 to 8"),
        ("a dog", {"settings": {"num_steps": 65}}, "steps is 65; expected 1 to 64"),
        ("a dog", {"size": (2 * MAX_SIDE, 64)}, "2048 x 64 is too large here"),
        ("a dog", {"settings": {"order": "best"}}, "order 'best' is not known"),
    ],
)
def test_what_is_out_of_range_is_one_line(
    studio: Studio, prompt: str, asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        studio.plan(prompt, **{"seed": 0, "settings": {}, **asked})


def test_unknown_words_are_said(studio: Studio) -> None:
    _, notes = studio.plan("a zebra", seed=0, num_images=3, settings={})
    assert len(notes) == 1 and notes[0].startswith("this checkpoint does not know 'zebra'")


@pytest.mark.parametrize("prompt", ["-rf apples", "--out x", "a 'b' \"c\" $(d) `e`\nf"])
def test_any_prompt_is_one_word_of_the_command(prompt: str) -> None:
    recipe = Recipe(prompt=prompt, seed=0, settings={})
    words = shlex.split(recipe.command())
    assert words.count(prompt) == 1
    assert not prompt.startswith("-") or words[-2:] == ["--", prompt]


def test_a_recipe_keeps_the_threshold_of_the_checker(studio: Studio) -> None:
    """What an app rejects, the command that it shows must not draw."""
    series, _ = studio.plan("a dog", seed=0, num_images=1, settings={})
    assert "threshold" not in studio.recipe(series, "a dog").command()
    studio.safety = "shield"
    for threshold, shown in ((0.2, False), (0.05, True)):
        studio.pipe.safety = SimpleNamespace(threshold=threshold)  # type: ignore[assignment]
        recipe = studio.recipe(series, "a dog")
        assert ("--safety shield --safety-threshold 0.05" in recipe.command()) == shown
        assert ("safety='shield', safety_threshold=0.05)" in recipe.python()) == shown


@pytest.mark.parametrize(
    ("device", "gpu", "command", "python"),
    [
        ("cpu", False, "", ""),
        ("cpu", True, "--device cpu", ""),
        ("cuda:0", True, "", "device='cuda'"),
        ("cuda:1", True, "--device cuda:1", "device='cuda:1'"),
    ],
)
def test_a_recipe_names_the_device_that_its_line_would_not_pick(
    studio: Studio,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    gpu: bool,
    command: str,
    python: str,
) -> None:
    """The command takes the best that is there, `from_pretrained` the CPU."""
    series, _ = studio.plan("a dog", seed=0, settings={})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(TextToImage, "device", property(lambda pipe: torch.device(device)))
    for fields in ({}, {"strength": 0.5}):
        recipe = studio.recipe(series, "a dog", **fields)
        named = recipe.command().partition("--device")
        assert "".join(named[1:]).partition(" --out")[0] == command
        assert recipe.python().count("device=") == bool(python)
        assert f"from_pretrained({python})" in recipe.python()


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A photo of a red apple!", "a-photo-of-a-red-apple-3-1.png"),
        ("../../etc/passwd", "etc-passwd-3-1.png"), ("苹果", "image-3-1.png"),
    ],
)  # fmt: skip
def test_names_of_files_are_plain(prompt: str, name: str) -> None:
    assert file_name(prompt, 3, 1) == name
