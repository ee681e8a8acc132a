"""Commands killed in the middle and repeated: the same files as if nothing had happened.

The commands run in forks of one process that has imported everything, so that a trial takes as long
as its work. What a trial must show: the repeated command ends as the undisturbed one did, prints no
traceback, hangs nowhere, leaves the same files with the same bytes, and nothing unfinished.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import events

PATIENCE = 180.0
"""Seconds after which a command counts as stuck."""
UNFINISHED = (".partial", ".lock", ".tmp")
"""What a name of something that no ended command leaves behind ends with."""
Main = Callable[["Command", Path], int]
"""Runs a command that may write to a folder; its exit code."""
VOLATILE = {"time", "images_per_second", "sequences_per_second", "peak_memory_gib", "seconds"}
"""In a row of a log: what differs between equal runs."""


@dataclass(frozen=True)
class Command:
    """A command that goes on where it was stopped."""

    name: str
    line: str
    """The command line, with names of places in braces."""
    volatile: tuple[str, ...] = ()
    """Names of files that hold times, so that equal runs differ."""
    code: int = 0
    """Its exit code."""


@dataclass
class Findings:
    """What came of the trials of a command."""

    kills: int = 0
    problems: list[str] = field(default_factory=list)
    kinds: str = ""
    """The events of an undisturbed run, in order."""
    seconds: float = 0.0


def try_command(command: Command, folder: Path, main: Main, *, kills: int, seed: int) -> Findings:
    """Kill a command at `kills` of its events, each in a folder of its own."""
    found, start = Findings(), time.monotonic()
    whole = folder / "whole"
    code, said = _run(command, whole, main)
    found.kinds = (folder / "whole.events").read_text()
    if code != command.code:
        found.problems.append(f"undisturbed: ended with {code}, not {command.code}: {said[-500:]}")
        return found
    expected = contents(whole, command.volatile)
    chance = random.Random(f"{seed} {command.name}")
    for number, at in enumerate(choose(found.kinds, kills, chance)):
        trial = folder / f"trial-{number}"
        alone = number % 2 == 1  # the others that it started live on, and may be in the way
        killed, _ = _run(command, trial, main, at=at, alone=alone)
        found.kills += 1
        if number % 3 == 2:  # and once more, while it recovers
            _run(command, trial, main, at=chance.randint(1, max(1, at)))
            found.kills += 1
        code, said = _run(command, trial, main)
        where = f"killed at event {at} of {len(found.kinds)} ({found.kinds[at - 1]})"
        # 2: one of its workers was killed, and it says so.
        if killed not in (-signal.SIGKILL, command.code, 2):
            found.problems.append(f"{where}: ended with {killed} before")
        wrong = problems(command, code, said, contents(trial, command.volatile), expected)
        found.problems += [f"{where}: {problem}" for problem in [*wrong, *unfinished(trial)]]
        shutil.rmtree(trial, ignore_errors=True)
    shutil.rmtree(whole, ignore_errors=True)
    found.seconds = time.monotonic() - start
    return found


def choose(kinds: str, number: int, chance: random.Random) -> list[int]:
    """Events to kill at: of every kind in turn, so that rare ones are among them."""
    by_kind = {kind: [at for at, k in enumerate(kinds, 1) if k == kind] for kind in kinds}
    for places in by_kind.values():
        chance.shuffle(places)
    turns = max(map(len, by_kind.values()), default=0)
    in_turn = [
        places[turn] for turn in range(turns) for places in by_kind.values() if places[turn:]
    ]
    return in_turn[:number]


def problems(
    command: Command, code: int | None, said: str, found: dict[str, str], expected: dict[str, str]
) -> list[str]:
    """What is wrong after the repeated command."""
    wrong = []
    if code is None:
        wrong.append(f"stuck for {PATIENCE:.0f} s")
    elif code != command.code:
        wrong.append(f"repeated, it ended with {code}: {said.strip()[-300:]}")
    if "Traceback" in said:
        wrong.append(f"a traceback: {said.strip()[-300:]}")
    names = sorted(found.keys() | expected.keys())
    differ = [name for name in names if found.get(name) != expected.get(name)]
    if code == command.code and differ:
        wrong.append(f"other files or bytes: {', '.join(differ[:5])}")
    return wrong


def unfinished(folder: Path) -> list[str]:
    """Names of what is left of a write, or of a lock."""
    left = [path for path in folder.rglob("*") if path.name.endswith(UNFINISHED)]
    return [f"left behind: {path.relative_to(folder)}" for path in left]


def contents(folder: Path, volatile: Sequence[str]) -> dict[str, str]:
    """A hash of every file, without what may differ between equal runs."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in volatile)
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(_lasting(path, folder)).hexdigest()
        for path in files
        if "tensorboard" not in path.parts and not path.name.endswith(UNFINISHED)
    }


def _lasting(path: Path, folder: Path) -> bytes:
    content = path.read_bytes().replace(os.fsencode(folder), b"FOLDER")
    if path.name == "results.json":
        results = json.loads(content)
        results.pop("run", None)
        return json.dumps(results, sort_keys=True).encode()
    if path.name == "metrics.jsonl":
        rows = [json.loads(line) for line in content.splitlines()]
        kept = [{key: value for key, value in row.items() if key not in VOLATILE} for row in rows]
        return json.dumps(kept, sort_keys=True).encode()
    if path.suffix == ".pt":
        return _saved(path)
    if path.suffix == ".safetensors" and "resume" in path.parts:
        return _tensors(content)
    return content


def _saved(path: Path) -> bytes:
    """What a file of `torch.save` holds: the bytes differ with which objects are one."""
    import torch

    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                digest.update(f"{key!r}:".encode())
                add(inner)
        elif isinstance(value, list | tuple):
            digest.update(f"{len(value)}[".encode())
            for inner in value:
                add(inner)
        elif isinstance(value, torch.Tensor):
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        else:
            digest.update(repr(value).encode())

    add(torch.load(path, weights_only=True))
    return digest.digest()


def _tensors(content: bytes) -> bytes:
    """What a file of safetensors holds: torch's own writer keeps no order."""
    length = int.from_bytes(content[:8], "little")
    header, values = json.loads(content[8 : 8 + length]), content[8 + length :]
    kept = {}
    for name, row in header.items():
        if name != "__metadata__":
            start, end = row.pop("data_offsets")
            kept[name] = [row, hashlib.sha256(values[start:end]).hexdigest()]
    return json.dumps(kept, sort_keys=True).encode()


def _run(
    command: Command,
    folder: Path,
    main: Main,
    *,
    at: int = 0,
    alone: bool = False,
) -> tuple[int | None, str]:
    """Run a command in a fork, killed at an event; its exit code (None: stuck), what it said."""
    folder.mkdir(parents=True, exist_ok=True)
    log, said = folder.with_suffix(".events"), folder.with_suffix(".log")
    log.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        environment = {
            events.WATCH: str(folder), events.LOG: str(log), events.AT: str(at),
            events.ALONE: str(int(alone)),
        }  # fmt: skip
        _be_the_child(command, folder, main, environment, said)
    code = _wait(child)
    text = said.read_text(errors="replace")
    return code, text


def _be_the_child(
    command: Command,
    folder: Path,
    main: Main,
    environment: dict[str, str],
    said: Path,
) -> None:
    code = 99
    try:
        os.setpgid(0, 0)
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        null = os.open(os.devnull, os.O_RDONLY)
        for number, target in ((0, null), (1, file), (2, file)):
            os.dup2(target, number)
        os.environ.update(environment)
        events.install()
        os.chdir(folder)
        code = main(command, folder)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int) -> int | None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            _wait_for_group(child)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _wait_for_group(child: int) -> None:
    """Until those that it started have ended too: they were killed with it, or are to end by it."""
    for _ in range(1000):
        try:
            os.killpg(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)


def main_of(words: Sequence[str], entries: dict[str, Callable[[], Any]]) -> int:
    """Run the console script that the first word names; its exit code."""
    sys.argv = list(words)
    try:
        entries[words[0]]()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0
