"""`dcar-eval profile`, `sweep` and `report` as a user meets them."""

import json
from pathlib import Path

import pytest

from dcar_eval.cli import build_parser
from dcht.commands.common import exit_code


def ask(*words: object) -> int:
    arguments = build_parser().parse_args([*map(str, words)])
    return exit_code(arguments.function, arguments)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["profile", "--protocol", "paper", "--size", "256"], "--protocol paper settles --size"),
        (["profile", "--protocol", "paper", "num_steps=8"], "--protocol paper settles KEY=VALUE"),
        (["profile", "--precision", "fp8"], "precision 'fp8' is not known; use fp32, bf16 or fp16"),
        (["profile", "--preset", "tiny", "--ckpt", "x"], "give one of them"),
        (["profile", "--preset", "huge"], "preset 'huge' is not known; use dcar_671m"),
        (["profile", "residual=off"], "residual is for sweep"),
        (["profile", "num_steps=4,8"], "num_steps has 2 values here"),
        (["profile", "--warmup", "-1"], "--warmup is -1"),
        (["sweep", "fig7"], "sweep 'fig7' is not known; use fig6 or table4, or KEY=V,V"),
        (["sweep", "fig6", "table4"], "sweep 'table4' comes second"),
        (["sweep", "steps=4,8"], "setting 'steps' is not known"),
        (["sweep", "fig6", "--size", "64x32"], "scenes are square, not 64 x 32"),
        (["report", "nowhere"], "nowhere holds no results.json"),
    ],
)
def test_what_does_not_fit_is_refused(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert ask(*words, "--out", out) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_profile_and_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "profile", "--preset", "tiny", "--precision", "fp32", "--repeats", 1, "num_steps=1",
        "--device", "cpu", "--out", tmp_path / "speed",
    )  # fmt: skip
    assert ask(*words) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("own, 64 x 64 on ")
    assert "two a multiply-add" in printed.replace("\n", " ")
    assert ask(*words, "--json") == 0
    stored = json.loads((tmp_path / "speed" / "results.json").read_text())
    assert json.loads(capsys.readouterr().out) == stored
    settings = json.loads((tmp_path / "speed" / "settings.json").read_text())
    assert settings["preset"] == stored["settings"]["preset"] == "tiny"
    assert ask("report", tmp_path / "speed", "--out", tmp_path / "report") == 0
    html, markdown = capsys.readouterr().out.splitlines()
    assert "speed (random weights)" in Path(markdown).read_text()
    assert Path(html).name == "report.html"
