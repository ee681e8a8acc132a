"""The kill harness in short, and that it finds what it is for. In full: `make test-kills`."""

import subprocess
import sys
from pathlib import Path

HARNESS = Path(__file__).with_name("run.py")


def run(*words: object) -> tuple[int, str]:
    """What the harness ends with, and what it says."""
    command = [sys.executable, str(HARNESS), *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True)
    return ended.returncode, ended.stdout + ended.stderr


def test_killed_commands_go_on_to_the_same_bytes() -> None:
    names = ("encode", "reconstruct", "generate", "reconstruction", "mjhq", "scenes", "report")
    code, said = run(*names, "--kills", 2)
    assert said.rstrip().endswith(": 0 problems"), said
    assert code == 0 and f"{2 * len(names)} kills of {len(names)} commands" in said


def test_a_write_that_is_not_whole_is_found() -> None:
    code, said = run("report", "--inject", "write_atomic", "--kills", 4)
    assert code == 1 and "repeated, it ended with 2" in said, said


def test_what_is_left_behind_is_found() -> None:
    code, said = run("report", "--inject", "remove_partials", "--kills", 6)
    assert code == 1 and "left behind: o/.report." in said, said
