"""`dcar-eval scenes-eval --list-prompts` and `--images` as a user meets them."""

import json
import sys
from pathlib import Path

import pytest
import torch

from dcar.config import PRESETS, TextConfig
from dcar.model import DCAR
from dcar.modules.text import TextEncoder, word_tokenizer
from dcar.pipeline import TextToImage
from dcar.sampling_config import SamplingConfig
from dcar_eval import cli
from dcar_eval.scenes.captions import plural
from dcar_eval.things.recognizing import NAMES
from dcht import Tokenizer

KNOWN = ("apple", "banana", "car", "dog")
"""Fewer than the thirty of `wide`."""


def main(*words: object) -> object:
    """The exit code of `dcar-eval scenes-eval WORDS`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["dcar-eval", "scenes-eval", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    return stop.value.code


@pytest.fixture
def ckpt(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """A tiny checkpoint that knows four objects."""
    config = PRESETS["tiny"]
    assert config.text.joint is not None
    text = TextConfig(name=None, joint=config.text.joint)
    words = word_tokenizer([f"{name} {plural(name)}" for name in KNOWN], config.text.joint)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe = TextToImage(
            DCAR(config),
            TextEncoder.joint(text, config.generator, words),
            tokenizer,
            sampling=SamplingConfig(num_steps=1, num_diffusion_steps=1),
            size=(64, 64),
        )
    pipe.save_pretrained(tmp_path / "ckpt")
    return tmp_path / "ckpt"


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--seed", 3),
        ("--objects", "starter"),
        ("--benchmark", "things"),
        ("--benchmark", "hard"),
    ],
)
def test_the_list_is_what_a_run_draws_and_judges(
    options: tuple[object, ...], ckpt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = ("--num-per-task", 1, "--device", "cpu", *options)
    drawing = ("--ckpt", ckpt, *how)
    assert main("--list-prompts", *drawing) == 0
    listed = capsys.readouterr().out.splitlines()
    out = tmp_path / "out"
    assert main(*drawing, "--out", out) == 0
    rows = [json.loads(line) for line in (out / "images.jsonl").read_text().splitlines()]
    assert listed == [row["prompt"] for row in rows]
    capsys.readouterr()
    assert main("--list-prompts", *how, "--images", out / "images") == 0
    assert capsys.readouterr().out.splitlines() == listed


def test_anybodys_images_are_of_the_prompts_of_the_bundled_checkpoint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main("--list-prompts", "--json") == 0
    ours = json.loads(capsys.readouterr().out)
    assert main("--list-prompts", "--json", "--ckpt", "bundled", "--device", "cpu") == 0
    assert json.loads(capsys.readouterr().out) == ours
    assert main("--list-prompts", "--benchmark", "things") == 0  # of all that can be judged
    assert len(capsys.readouterr().out.splitlines()) == len(NAMES)


@pytest.mark.parametrize("asked", ["standard", "hard", "things"])
def test_what_no_run_would_draw_or_judge_is_not_listed(
    asked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "run" / "images"
    images.mkdir(parents=True)
    known = {"recognizer_sha256": "r", "benchmark": asked, "num_per_task": 2}
    (images.parent / "settings.json").write_text(json.dumps(known))
    for options, message in (
        (("--ckpt", tmp_path / "no"), f"{tmp_path / 'no'}"),
        (("--images", tmp_path / "no"), "no is not a folder of images"),
        (("--images", images), "is of a run with num_per_task 2, not 1"),
        (("--images", images, "--size", 64), "--images are there already"),
    ):
        how = ("--benchmark", asked, "--num-per-task", 1, "--device", "cpu")
        assert main("--list-prompts", *how, *options) in (2, 4)
        answer = capsys.readouterr()
        assert answer.out == ""
        assert message in answer.err
    assert main("--list-prompts", "--benchmark", asked, "--images", images) == 2
