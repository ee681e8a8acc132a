"""The kill harness in short, and that it finds what it is for. In full: `make test-kills`."""

import re
import subprocess
import sys
from pathlib import Path

HARNESS = Path(__file__).with_name("run.py")


def test_killed_commands_go_on_to_the_same_bytes_and_a_broken_one_is_found() -> None:
    names = ("encode", "generate", "mjhq", "scenes")  # a way to go on each
    command = [sys.executable, str(HARNESS), *names, "--kills", "1", "--self-check"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{len(names)} kills of {len(names)} commands" in ended.stdout
    found = dict(re.findall(r"(\w+) broken: (\d+) problems found", ended.stdout))
    assert found.keys() == {"write_atomic", "remove_partials"}
    assert min(map(int, found.values())) > 0
