"""The command line as a user meets it: what is printed where, and exit codes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from dcar_eval.cli import build_parser, main


class Answer(NamedTuple):
    code: object
    out: str
    err: str


Ask = Callable[..., Answer]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run `dcar-eval` with these words, in this process (torch is loaded once)."""

    def run(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["dcar-eval", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return Answer(stop.value.code, printed.out, printed.err)

    return run


def test_reconstruction_prints_a_table_and_says_what_is_left_out(
    ask: Ask,
    images: Path,
    saved_tokenizer: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for variable in ("DCHT_PERCEPTUAL_WEIGHTS", "DCAR_EVAL_INCEPTION"):
        monkeypatch.delenv(variable, raising=False)
    (images / "b.jpg").write_text("no image")
    out = tmp_path / "out"
    words = ("reconstruction", "--images", images, "--ckpt", saved_tokenizer, "--size", 64)
    first = ask(*words, "--out", out, "--device", "cpu")
    assert first.code == 3
    assert [line.split()[0] for line in first.out.splitlines()] == ["path", "hybrid", "discrete"]
    assert f"1 skipped: see {out / 'errors.jsonl'}" in first.err
    for metric in ("lpips_vgg", "lpips_alex", "rfid"):
        assert first.err.count(f"{metric} is left out: ") == 1
    # Repeated, a finished run keeps its answer and its exit code.
    again = ask(*words, "--out", out, "--device", "cpu", "--json")
    assert again.code == 3
    assert json.loads(again.out) == json.loads((out / "results.json").read_text())


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("reconstruction --images no/such --out x", 2, "no/such is not there"),
        ("reconstruction --images . --out x --size 250", 2, "not a multiple of 32"),
        ("reconstruction --images . --out x --ckpt ./no", 4, "neither a folder nor a Hub id"),
        ("reconstruction --images . --out x --limit 0", 2, "whole number of at least 1"),
        ("scenes --sprites . --out x --num 0", 2, "whole number of at least 1"),
        ("scenes --sprites . --out x --num -3", 2, "whole number of at least 1"),
        ("scenes --sprites . --out x --num 1 --seed -1", 2, "seed -1 is negative"),
        ("scenes --sprites no/such --out x --num 1", 2, "npm install @lobehub/fluent-emoji-3d"),
        ("scenes --sprites . --out x --num 1 --objects gizmo,cat", 2, "'gizmo' is not known"),
        ("scenes --sprites . --out x --num 1 --size 100", 2, "size 100 is not a multiple of 32"),
        ("scenes --sprites . --out x --num 1 --backgrounds sea", 2, "invalid choice: 'sea'"),
        ("scenes-eval --out x --size 64x96", 2, "scenes are square, not 64 x 96"),
        ("scenes-eval --out x --num-per-task 0", 2, "whole number of at least 1"),
        ("scenes-eval --out x --objects gizmo,cat", 2, "'gizmo' is not known"),
        ("scenes-eval --out x --ckpt ./no", 4, "neither a folder nor a Hub id"),
        ("scenes-train --sprites no/such --out x", 2, "npm install @lobehub/fluent-emoji-3d"),
    ],
)
def test_mistakes_are_named(ask: Ask, words: str, code: int, message: str) -> None:
    answer = ask(*words.split())
    assert answer.code == code
    assert message in answer.err
    assert answer.out == ""


def test_help_needs_neither_torch_nor_hydra() -> None:
    """How long it takes is measured for all commands at once, in test_workspace.py."""
    program = "import sys, dcar_eval.cli as c; c.build_parser().print_help(); print(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert "examples:" in shown
    assert not {"torch", "numpy", "hydra"} & set(shown.splitlines()[-1].split())


@pytest.mark.parametrize("verb", ["reconstruction --images x", "scenes --sprites x --num 1"])
def test_every_verb_spells_its_options_alike(verb: str) -> None:
    arguments = build_parser().parse_args([*verb.split(), "--out", "x"])
    for name in ("out", "size", "force", "resume", "json"):
        assert hasattr(arguments, name)


def test_scenes_without_sprites_are_their_captions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is rendered, and no caption shows what is held out."""
    from dcar_eval.scenes.prompts import sample_captions
    from dcar_eval.scenes.world import WORLDS, Split
    from dcht.errors import UsageError

    out = tmp_path / "known.txt"
    command = ["scenes", "--num", "30", "--objects", "wide", "--out"]
    arguments = build_parser().parse_args([*command, str(out)])
    assert arguments.function(arguments) == arguments.function(arguments) == 0
    lines = out.read_text().splitlines()
    assert lines == sample_captions(WORLDS["wide"], 30, seed=0, split=Split.TRAIN)
    assert len(set(lines)) > 25
    for odd in ([*command, str(tmp_path / "folder")], [*command, str(out), "--seed", "1"]):
        arguments = build_parser().parse_args(odd)
        with pytest.raises(UsageError, match=r"go into --out X\.txt|holds other captions"):
            arguments.function(arguments)
    for odd in ("--webdataset", "--backgrounds varied"):
        arguments = build_parser().parse_args([*command, str(out), *odd.split()])
        with pytest.raises(UsageError, match="is of scenes that are rendered; name"):
            arguments.function(arguments)
    capsys.readouterr()
    arguments = build_parser().parse_args([*command, str(out), "--json"])
    assert arguments.function(arguments) == 0
    assert json.loads(capsys.readouterr().out) == {"out": str(out), "captions": 30}
