"""Whose a run's folder is, and what is read back from it."""

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from dcht import CheckpointError, UsageError
from dcht.engine.distributed import World
from dcht.engine.run_folder import (
    check_settings,
    load_resume,
    newest_resume,
    published,
    save_resume,
    sole_run,
)
from dcht.files import locked

ALONE = World(0, 1, torch.device("cpu"))


def test_a_second_run_is_told_who_writes(tmp_path):
    out = tmp_path / "run"
    with sole_run(out, ALONE):
        assert [path.name for path in out.iterdir()] == [".lock"]
        with (
            pytest.raises(UsageError, match=f"is being written by process {os.getpid()} on "),
            sole_run(out, ALONE),
        ):
            pass
    assert not out.exists()  # nothing was written


def test_what_a_killed_run_left_is_removed(tmp_path):
    for name in (".config.json.0a1b.partial", "checkpoint/.model.safetensors.0a1b.partial"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    (tmp_path / ".checkpoint.partial").mkdir()
    (tmp_path / ".checkpoint.partial" / "config.json").write_bytes(b"half")
    (tmp_path / "checkpoint" / "config.json").write_bytes(b"whole")
    with sole_run(tmp_path, ALONE):
        pass
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    assert sorted(left) == ["checkpoint", "checkpoint/config.json"]


def test_what_is_published_is_whole(tmp_path):
    folder = tmp_path / "checkpoint"
    with published(folder) as staging:
        (staging / "config.json").write_bytes(b"1")
        assert not folder.exists()
    with pytest.raises(RuntimeError), published(folder) as staging:
        (staging / "config.json").write_bytes(b"2")
        assert [path.name for path in folder.iterdir()] == ["config.json"]
        raise RuntimeError
    assert (folder / "config.json").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("name", ["best", "best-000000009", "-1", "000000009 (copy)", ""])
def test_a_copy_beside_the_resume_files_is_none(name, tmp_path):
    save_resume(tmp_path, 1, {"x": torch.ones(1)})
    copy = tmp_path / f"resume-{name}.pt"
    copy.write_bytes((tmp_path / "resume-000000001.pt").read_bytes())
    for step in (2, 3, 4):
        save_resume(tmp_path, step, {"x": torch.ones(step)})
        step_read, state = load_resume(tmp_path) or (0, {})
        assert (step_read, len(state["x"])) == (step, step)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted([copy.name, "resume-000000003.pt", "resume-000000004.pt"])


def test_resume_files_are_ordered_by_their_numbers(tmp_path):
    """The next digit, too, and a number that somebody wrote shorter."""
    for step in (5, 999_999_999, 1_000_000_000):
        save_resume(tmp_path, step, {})
    assert newest_resume(tmp_path) == tmp_path / "resume-1000000000.pt"
    assert not (tmp_path / "resume-000000005.pt").exists()
    (tmp_path / "resume-1000000000.pt").rename(tmp_path / "resume-9.pt")
    assert newest_resume(tmp_path) == tmp_path / "resume-999999999.pt"
    assert newest_resume(tmp_path / "nowhere") is None


def packed(path: Path) -> None:
    """What torch would unpack: a kilobyte that becomes megabytes."""
    save_resume(path.parent, 2, {"x": torch.zeros(1 << 20)})
    with zipfile.ZipFile(path) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def cut_short(path: Path) -> None:
    save_resume(path.parent, 2, {"x": torch.ones(1000)})
    path.write_bytes(path.read_bytes()[:-500])


class Command:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("it-ran",)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"junk"),
        lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)),
        lambda path: path.write_bytes(pickle.dumps(Command())),
        lambda path: torch.save({"step": 2, "state": Command()}, path),
        lambda path: torch.save({"step": "2", "state": {}}, path),
        lambda path: torch.save([1], path),
        lambda path: os.mkfifo(path),
        lambda path: path.mkdir(),
        packed,
        cut_short,
    ],
)
def test_a_resume_file_that_is_none_is_one_line(damage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_resume(tmp_path, 1, {"x": torch.ones(2)})
    damage(tmp_path / "resume-000000002.pt")
    with pytest.raises(CheckpointError, match=r"resume-000000002\.pt is damaged") as error:
        load_resume(tmp_path)
    assert "\n" not in str(error.value) and "weights_only" not in str(error.value)
    assert not Path("it-ran").exists()


@pytest.mark.parametrize("content", ["{", "[]", "null", "[" * 100_000, '{"a": NaN}', "\xff"])
def test_settings_that_are_none_are_one_line(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=r"config\.json (is not|holds)"):
        check_settings(tmp_path, {"seed": 1}, free=(), resuming=True)
    check_settings(tmp_path, {"seed": 1}, free=(), resuming=False)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UsageError, match=r"without its config\.json"):
        check_settings(tmp_path, {"seed": 1}, free=(), resuming=True)


def test_a_lock_is_not_in_the_way_of_a_run_that_was_moved(tmp_path):
    (tmp_path / ".lock").write_text("{}")  # of a process that was killed
    with locked(tmp_path):
        assert (tmp_path / ".lock").exists()
    assert not (tmp_path / ".lock").exists()
