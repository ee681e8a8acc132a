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
    # Forced with the same settings, a picture that was spoilt is drawn again.
    picture = out / "part-0000" / "000001.jpg"
    content = picture.read_bytes()
    picture.write_bytes(b"spoilt")
    assert run("--force") == 0
    assert picture.read_bytes() == content
