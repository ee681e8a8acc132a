"""Color, completion and tracebacks: what a terminal gets, and what a pipe does not."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from dcht.commands.terminal import in_color

COMMANDS = ("dcht", "dcar", "dcar_eval")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_color_is_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert in_color(Terminal()) is expected
    assert not in_color(io.StringIO())


def on_a_terminal(*words: str, **variables: str) -> str:
    """What a command writes to stderr, which is a terminal."""
    outer, inner = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm"}
    subprocess.run(
        [sys.executable, "-m", *words], stderr=inner, stdout=subprocess.DEVNULL, check=False,
        env=environment | variables,
    )  # fmt: skip
    os.close(inner)
    with os.fdopen(outer, "rb", closefd=True) as stream:
        return stream.read1().decode()  # type: ignore[attr-defined]


def test_an_error_is_red_on_a_terminal_and_plain_without_color() -> None:
    words = ("dcht", "inspect", "/nowhere")
    assert on_a_terminal(*words).startswith("\x1b[31merror:\x1b[0m /nowhere is not there")
    assert on_a_terminal(*words, NO_COLOR="1").startswith("error: /nowhere is not there")


@pytest.mark.parametrize("place", [1, 3])
def test_debug_shows_the_traceback_and_the_line(place: int) -> None:
    words = ["dcht", "inspect", "/nowhere"]
    plain = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)
    assert plain.returncode == 2 and len(plain.stderr.splitlines()) == 1
    words.insert(place, "--debug")
    found = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)
    assert found.returncode == 2
    assert "Traceback" in found.stderr and "require_sources" in found.stderr
    assert found.stderr.splitlines()[-1] == plain.stderr.strip()


@pytest.mark.parametrize("package", COMMANDS)
def test_bash_completes_every_verb_and_option(package: str, tmp_path: Path) -> None:
    words = [sys.executable, "-m", package, "--print-completion", "bash"]
    script = tmp_path / "completion"
    script.write_text(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    command = package.replace("_", "-")
    code = (
        f"source {script}; COMP_WORDS=({command} ''); COMP_CWORD=1; "
        f"$(complete -p {command} | sed -E 's/.*-F ([^ ]+).*/\\1/'); "
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    offered = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    verbs = {"dcht": "doctor", "dcar": "generate", "dcar_eval": "scenes-eval"}
    assert verbs[package] in offered.stdout.split()
