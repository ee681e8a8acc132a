"""`dcar-eval scenes` as a user meets it."""

import json
import sys
from pathlib import Path

import pytest

from dcar_eval.cli import main

WORDS = ["scenes", "--num", "2", "--size", "64", "--workers", "1", "--json"]


def test_scenes_are_written_once_and_others_refused(
    npm_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "scenes"
    places = ["--sprites", str(npm_folder), "--objects", "apple,banana,car,dog", "--out", str(out)]

    def run(*words: str) -> object:
        monkeypatch.setattr(sys, "argv", ["dcar-eval", *WORDS, *places, *words])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code

    for drawn in (2, 0):
        assert run() == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed.keys() == {"out", "scenes", "drawn", "seconds"}
        assert (printed["scenes"], printed["drawn"]) == (2, drawn)
    for words, change in ((("--seed", "5"), "seed 0, not 5"),):
        assert run(*words) == 2
        assert f"holds scenes with {change}" in capsys.readouterr().err
    # Forced with the same settings, an image that was spoilt is drawn again.
    image = out / "part-0000" / "000001.jpg"
    content = image.read_bytes()
    image.write_bytes(b"spoilt")
    assert run("--force") == 0
    assert image.read_bytes() == content


def test_the_harder_grammar_has_its_own_tasks(
    npm_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "scenes"
    places = ["--sprites", str(npm_folder), "--objects", "apple,banana,car,dog", "--out", str(out)]

    def run(*words: str) -> object:
        monkeypatch.setattr(sys, "argv", ["dcar-eval", *WORDS, *places, *words])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code

    assert run("--grammar", "hard", "--task", "sizes") == 0
    plan = json.loads((out / "scenes.json").read_text())
    assert (plan["grammar"], plan["task"], plan["backgrounds"]) == ("hard", "sizes", "textured")
    truth = json.loads((out / "part-0000" / "000000.json").read_text())
    assert {clause["size"] for clause in truth["include"]} == {"small", "large"}
    capsys.readouterr()
    assert run() == 2
    assert "holds scenes with" in capsys.readouterr().err
    for words, said in (
        (("--task", "sizes"), "--task sizes is not of the standard grammar; use single_object"),
        (("--grammar", "hard", "--task", "colors"), "colors is not of the hard grammar; use one"),
        (("--grammar", "hard", "--backgrounds", "plain"), "--backgrounds is of the standard"),
        (("--styles", "flat"), "--styles is of the harder grammar; add --grammar hard"),
        (("--styles", "sketch"), "'sketch' is not among 3d, noto, flat"),
    ):
        assert run(*words) == 2
        assert said in capsys.readouterr().err
