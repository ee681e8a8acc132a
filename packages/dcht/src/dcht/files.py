"""Files and folders that commands write: whole or not at all, one process at a time.

Also the way back in: JSON and rows that somebody else may have written, or cut short, are read here
with limits, so that a damaged or hostile file is one line and never a traceback, a hang or a full
memory. Nothing here imports torch.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import secrets
import shlex
import socket
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from dcht.errors import UsageError, printable
from dcht.ranges import shown

ERRORS = "errors.jsonl"
"""What every command that skips inputs lists them in."""
LOCK = ".lock"
"""In a folder while a process writes it; names that process."""
PARTIAL = ".partial"
"""What the name of a file ends with while it is being written; such names begin with a dot."""
MAX_JSON = 1 << 26
"""Largest JSON file that is read. A text tokenizer of 256,000 words takes 33 MB."""
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
"""What a file system that cannot lock answers."""


# Writing


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part.

    Raises:
        UsageError: it cannot be written (the disk is full, say); no part of it is left.
    """
    for tries_left in (2, 1, 0):
        partial = partial_path(path)
        try:
            with partial.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.replace(partial, path)
            except FileNotFoundError:
                # Another run of the same command took it for what a killed one had left.
                if not tries_left:
                    raise
            else:
                return
        except OSError as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def partial_path(path: Path) -> Path:
    """Where a file is written before it has its name: beside it, under a name of its own.

    Several processes may write the same file at once, so no two of these names are equal.
    """
    return path.with_name(f".{path.name[:48]}.{secrets.token_hex(4)}{PARTIAL}")


def is_partial(name: str) -> bool:
    """Whether a file of this name was left by a process that was killed while it wrote."""
    return name.startswith(".") and name.endswith(PARTIAL)


def remove_partials(folder: Path, *, below: bool = False) -> None:
    """Remove the files that a killed process left in a folder (and, if asked, in those below it).

    Folders are left alone, whatever their names: nobody here writes a partial folder this way.
    """
    for left_over in (folder.rglob if below else folder.glob)(f".*{PARTIAL}"):
        if left_over.is_file() and not left_over.is_symlink():
            left_over.unlink(missing_ok=True)


def remove_partials_of(file: Path) -> None:
    """Remove what a killed process left of one file, in a folder that may hold anything else.

    A process that is writing the file now writes it once more, see `write_atomic`.
    """
    for left_over in file.parent.glob(f".*{PARTIAL}"):
        # The name that `partial_path` gave it, but for eight digits.
        if left_over.name[: -len(PARTIAL) - 8] == f".{file.name[:48]}.":
            with suppress(OSError):  # somebody else's, or a folder
                left_over.unlink(missing_ok=True)


def jsonl(rows: Sequence[dict[str, Any]]) -> bytes:
    """Rows as a JSONL file."""
    # A file name that is no UTF-8 holds lone surrogates; a backslash makes JSON's escape of them.
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return lines.encode("utf-8", "backslashreplace")


# Folders in use


def is_in_use(folder: Path) -> bool:
    """Whether a folder holds something that is not ours to write beside.

    The lock and what a killed process left unfinished do not count.
    """
    if not folder.exists():
        return False
    return any(not is_partial(path.name) and path.name != LOCK for path in folder.iterdir())


def require_unused(folder: Path, *, force: bool) -> None:
    """Refuse a folder that holds something.

    Raises:
        UsageError: it does, and `force` is off.
    """
    if is_in_use(folder) and not force:
        raise UsageError(f"{folder} is not empty; use --force or another --out")


def begin(
    folder: Path, record: str, made_of: dict[str, Any], *, files: Sequence[str], force: bool
) -> None:
    """Begin a folder of several files, or go on with it: from here on it says what it is made of.

    What a killed run left is known by that, and is not in the way of the same command. Files that
    are made of something else are removed first, so that those that are there are never old ones.

    Args:
        folder: which; made if it is not there.
        record: name of the file that says it.
        made_of: everything the files depend on; plain JSON values.
        files: the names of what will be written.
        force: begin anew, whatever is there.

    Raises:
        UsageError: it is made of something else, or holds something else; and `force` is off.
    """
    path = folder / record
    before = read_json(path) if path.exists() and not force else None
    begun = before == made_of
    if before is not None and not begun:
        names = dict.fromkeys([*made_of, *before])
        name = next(name for name in names if made_of.get(name) != before.get(name))
        raise UsageError(
            f"{folder} was begun with {name} {shown(before.get(name))}, not "
            f"{shown(made_of.get(name))}; use --force or another --out"
        )
    if not begun:
        require_unused(folder, force=force)
        for name in (record, *files):
            (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    remove_partials(folder)
    if not begun:
        write_atomic(path, json.dumps(made_of, indent=1).encode() + b"\n")


@contextmanager
def locked(folder: str | Path, *, wait: bool = False) -> Iterator[None]:
    """Be the only process that writes a folder, which is made if it is not there.

    The lock is the system's, on a file `.lock` in the folder: it ends with the process, however
    that ends, and the file is removed when it is given back. A folder that was made for it and in
    which nothing was written is removed too. A file system that cannot lock is said on stderr, and
    the work goes on.

    Args:
        folder: which.
        wait: until whoever holds it has ended, for what takes moments and several want to do.

    Raises:
        UsageError: another process holds it (the message says which), or it cannot be written.
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    path = folder / LOCK
    made = not folder.exists()
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path, timeout=-1 if wait else 0, fallback_to_soft=False)
            lock.acquire()
        except Timeout:
            raise UsageError(
                f"{folder} is being written by {_holder(path)}; wait for it to end, or use "
                "another --out"
            ) from None
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise UsageError(f"{folder} cannot be written: {error.strerror}") from None
            print(
                f"warning: {printable(folder)} is on a file system without locks; nothing keeps "
                "another process from writing it too",
                file=sys.stderr,
            )
        else:
            held.callback(_give_back, lock, path)
            command = " ".join(map(shlex.quote, [os.path.basename(sys.argv[0]), *sys.argv[1:]]))
            holder = {"process": os.getpid(), "host": socket.gethostname(), "command": command}
            with suppress(OSError):  # a full disk; the lock holds all the same
                path.write_text(json.dumps(holder) + "\n", encoding="utf-8", errors="replace")
        try:
            yield
        finally:
            held.close()
            if made:
                with suppress(OSError):  # something was written: it stays
                    folder.rmdir()


def _give_back(lock: Any, path: Path) -> None:
    # Removed while it is held: whoever opened it meanwhile finds it without a name and tries again.
    with suppress(OSError):  # Windows removes no open file; an empty one is left there
        path.unlink()
    lock.release()


def _holder(path: Path) -> str:
    try:
        found = read_json(path)
        return f"process {found['process']} on {found['host']} ({found['command']})"
    except (KeyError, ValueError):
        return "another process"


# Reading what may be damaged


def open_regular(path: str | Path) -> io.BufferedReader:
    """Open a regular file for reading.

    Raises:
        OSError: it cannot be opened, or is no regular file: a pipe or a device would hold the
            reader for ever.
    """
    file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file


def open_stream(path: str | Path) -> io.BufferedReader:
    """Open a file or a pipe (`<(...)`) for reading; a pipe that nobody writes to is empty.

    Raises:
        OSError: it cannot be opened.
    """
    file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115
    if hasattr(os, "O_NONBLOCK"):
        os.set_blocking(file.fileno(), True)
    return file


def _open_at_once(path: str, flags: int) -> int:
    # A pipe put in a file's place would otherwise block until somebody writes into it.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def file_sha256(path: Path) -> str:
    """SHA-256 of a regular file.

    Raises:
        OSError: it is not there, or is none.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_json(content: bytes | str, where: str | Path) -> Any:
    """A JSON text, as strict as RFC 8259: UTF-8, no NaN or Infinity, a depth that can be read.

    Raises:
        UsageError: it is none of that; the message begins with `where`.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise UsageError(f"{where} is not JSON that can be read: nested too deeply") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not UTF-8: {error.reason} at byte {error.start}") from None
    except ValueError as error:
        raise UsageError(f"{where} is not JSON: {error}") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is too large for a number")
    return value


def read_json(path: str | Path, *, kind: type = dict) -> Any:
    """The content of a JSON file that should hold a value of type `kind`.

    Raises:
        FileNotFoundError: it is not there.
        UsageError: it cannot be read, is too large, is no JSON, or holds something else.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_JSON + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path} cannot be read: {reason}") from None
    if len(content) > MAX_JSON:
        raise UsageError(f"{path} is larger than {MAX_JSON:,} bytes: no settings are")
    found = parse_json(content, path)
    if not isinstance(found, kind):
        raise UsageError(f"{path} holds {_named(type(found))}; expected {_named(kind)}")
    return found


def _named(kind: type) -> str:
    return {dict: "a JSON object", list: "a JSON list", type(None): "null"}.get(
        kind, f"a value of type {kind.__name__}"
    )


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file: a JSON object a line, lines ended by newlines alone.

    Raises:
        FileNotFoundError: it is not there.
        UsageError: it cannot be read, or a line is no JSON object; the message has its number.
    """
    try:
        with open_regular(path) as file:
            lines = enumerate(read_lines(file), start=1)
            return [parse_row(line, f"{path} line {number}") for number, line in lines]
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def read_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, each with its newline.

    Raises:
        UsageError: one is longer than any row.
    """
    while line := file.readline(MAX_JSON + 1):
        if len(line) > MAX_JSON:
            raise UsageError(f"a line of more than {MAX_JSON:,} bytes: no row is as long")
        yield line


def parse_row(line: bytes, where: str) -> dict[str, Any]:
    """A line of a JSONL file.

    Raises:
        UsageError: it is no JSON object.
    """
    row = parse_json(line, where)
    if not isinstance(row, dict):
        raise UsageError(f"{where} holds {_named(type(row))}; expected a JSON object")
    return row
