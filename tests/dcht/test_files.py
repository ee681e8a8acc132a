"""Files written whole, folders held by one process, and what comes back from damaged ones."""

import json
import os
import subprocess
import sys

import pytest

from dcht.errors import UsageError, printable
from dcht.files import (
    LOCK,
    begin,
    is_in_use,
    locked,
    parse_json,
    partial_path,
    read_json,
    read_rows,
    remove_partials,
    require_unused,
    write_atomic,
)


def test_a_written_file_is_whole_and_leaves_nothing_beside_it(tmp_path):
    write_atomic(tmp_path / "a.json", b"old")
    write_atomic(tmp_path / "a.json", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.json": b"new"}


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    kept = [tmp_path / ".x.partial", tmp_path / "y.partial", tmp_path / ".hidden"]
    kept[0].mkdir()
    (kept[0] / "y.png").write_bytes(b"a picture below a folder of that name")
    kept[1].write_bytes(b"")
    kept[2].write_bytes(b"")
    partial_path(tmp_path / "results.json").write_bytes(b"{")
    remove_partials(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert (kept[0] / "y.png").exists()


def test_a_lock_and_a_partial_file_alone_are_an_empty_folder(tmp_path):
    (tmp_path / LOCK).write_bytes(b"")
    partial_path(tmp_path / "settings.json").write_bytes(b"{")
    assert not is_in_use(tmp_path)
    assert not is_in_use(tmp_path / "nothing")
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(UsageError, match="is not empty; use --force or another --out"):
        require_unused(tmp_path, force=False)
    require_unused(tmp_path, force=True)


def test_a_folder_of_several_files_is_gone_on_with_by_what_it_is_made_of(tmp_path):
    def start(made_of: str, force: bool = False) -> list[str]:
        begin(tmp_path, "record.json", {"of": made_of}, files=["a", "b"], force=force)
        return sorted(path.name for path in tmp_path.iterdir())

    assert start("x") == ["record.json"]
    (tmp_path / "a").touch()
    assert start("x") == ["a", "record.json"]  # killed after its first file
    with pytest.raises(UsageError, match="was begun with of 'x', not 'y'; use --force or another"):
        start("y")
    # Under the new record the old file would pass for a new one.
    assert start("y", force=True) == ["record.json"]
    assert json.loads((tmp_path / "record.json").read_text()) == {"of": "y"}
    (tmp_path / "mine").touch()
    assert start("y", force=True) == ["mine", "record.json"]


def test_the_second_process_is_told_who_holds_the_folder(tmp_path):
    code = (
        "import sys; from dcht.files import locked\n"
        "with locked(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UsageError, match=f"written by process {holder.pid} on "), locked(tmp_path):
        pass
    assert json.loads((tmp_path / LOCK).read_text())["process"] == holder.pid  # still its own
    holder.communicate("", timeout=30)
    with locked(tmp_path):
        pass
    assert not (tmp_path / LOCK).exists()


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path):
    code = "import os, sys; from dcht.files import locked\nwith locked(sys.argv[1]): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, tmp_path]).returncode == 9
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_made_for_a_lock_goes_when_nothing_was_written(tmp_path):
    with locked(tmp_path / "a" / "out"):
        pass
    assert not (tmp_path / "a" / "out").exists()
    with locked(tmp_path / "b"):
        write_atomic(tmp_path / "b" / "x", b"")
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["x"]


def test_a_file_system_without_locks_is_said_and_the_work_goes_on(tmp_path, monkeypatch, capsys):
    import errno
    import fcntl

    def refuse(*_):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path):
        write_atomic(tmp_path / "x", b"done")
    assert (tmp_path / "x").read_bytes() == b"done"
    assert "without locks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[]", "holds a JSON list; expected a JSON object"),
        (b"null", "holds null; expected a JSON object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b'{"a": 1e999}', "1e999 is too large"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not UTF-8"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON"),
    ],
)
def test_json_that_is_none_is_one_line(tmp_path, content, reason):
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(UsageError, match=reason) as error:
        read_json(tmp_path / "c.json")
    assert "\n" not in str(error.value)


def test_a_pipe_or_a_device_in_a_files_place_does_not_hold_the_reader(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            read_json(path)
        with pytest.raises(UsageError, match="cannot be read"):
            read_rows(path)


def test_rows_end_at_newlines_alone_and_a_bad_one_has_its_number(tmp_path):
    text = "one\u2028two\u0085three\x0bfour"
    (tmp_path / "rows.jsonl").write_text(json.dumps({"a": text}, ensure_ascii=False) + "\n")
    assert read_rows(tmp_path / "rows.jsonl") == [{"a": text}]
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": 1}\n[1]\n')
    with pytest.raises(UsageError, match="line 2 holds a JSON list"):
        read_rows(tmp_path / "rows.jsonl")


def test_a_byte_order_mark_is_no_part_of_json():
    assert parse_json(b'\xef\xbb\xbf{"a": 1}', "x") == {"a": 1}


def test_a_text_from_outside_is_one_line_of_printable_characters():
    assert printable("\x1b]0;owned\x07 a\nerror: b\u202ec") == (
        "\\x1b]0;owned\\x07 a\\nerror: b\\u202ec"
    )
    assert printable("déjà 猫 🐈") == "déjà 猫 🐈"
    assert printable(os.fsdecode(b"a\xff.png")) == "a\\udcff.png"
    assert len(printable("x" * 10**6)) == 2000


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        (">&-", 3, "1 skipped\n"),
        (">/dev/full", 2, "1 skipped\nerror: stdout: No space left on device\n"),
        ("2>/dev/full", 3, ""),
        ("2>&-", 3, ""),
        (">&- 2>&-", 3, ""),
        (">/dev/full 2>/dev/full", 2, ""),
    ],
)
def test_a_stream_that_cannot_be_written_is_no_traceback(tmp_path, redirection, code, said):
    program = (
        "import sys; from dcht.commands.common import run\n"
        "def main():\n"
        "    print('1 skipped', file=sys.stderr)\n"
        "    open(sys.argv[1], 'w').write('done'); print('done'); return 3\n"
        "run(main)"
    )
    command = f'{sys.executable} -c "$PROGRAM" "$OUT" {redirection}'
    environment = {**os.environ, "PROGRAM": program, "OUT": str(tmp_path / "out")}
    ended = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (code, said)
    assert ended.stdout in ("", "done\n")
    assert (tmp_path / "out").read_text() == "done"  # and no line of a stream in it


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        ("UsageError('x')", 2), ("CheckpointError('x')", 4), ("NonFiniteLossError('x')", 1),
        ("KeyboardInterrupt", 130), ("OSError(28, 'full', 'x')", 2),
    ],
)  # fmt: skip
def test_an_error_that_nobody_can_be_told_has_its_exit_code(raised, code):
    program = "from dcht.commands.common import run\nfrom dcht.errors import *\n"
    program += f"def m(): raise {raised}\nrun(m)"
    for redirection in ("2>/dev/full", "2>&-", "2>&1 >&- | true; exit ${PIPESTATUS[0]}"):
        command = ["bash", "-c", f'"$0" -c "$1" {redirection}', sys.executable, program]
        assert subprocess.run(command).returncode == code, redirection


def test_what_a_killed_run_left_of_one_file_is_removed_by_the_next(tmp_path):
    """Whatever the verb does then: here it is refused."""
    program = (
        "import argparse; from pathlib import Path; from dcht.commands.common import run_verb\n"
        "from dcht.errors import UsageError\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--out', type=Path)\n"
        "parser.add_argument('--film', type=Path, action='append', default=[])\n"
        "def refuse(arguments): raise UsageError('no')\n"
        "parser.set_defaults(function=refuse)\n"
        "run_verb(parser)\n"
    )
    names = ("x.png", "y.gif", "other.png")
    parts = [partial_path(tmp_path / name) for name in names]
    for part in parts:
        part.write_bytes(b"half")
    (tmp_path / ".x.png.01234567.partial").mkdir()  # somebody's folder: it stays
    words = ["--out", tmp_path / "x.png", "--film", tmp_path / "y.gif", "--film", "/nowhere/z.gif"]
    ended = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (2, "error: no\n")
    assert {path.name for path in tmp_path.iterdir()} == {
        parts[2].name, ".x.png.01234567.partial"
    }  # fmt: skip


def test_an_ascii_terminal_shows_other_characters_by_their_escapes():
    program = "from dcht.commands.common import run; run(lambda: print('d\u00e9j\u00e0') or 0)"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert (ended.returncode, ended.stdout) == (0, b"d\\xe9j\\xe0\n")
