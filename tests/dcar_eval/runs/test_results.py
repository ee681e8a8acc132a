"""An evaluation's folder: one process at a time, begun once, and refused when anything changed."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dcar_eval.runs.results import (
    CONTENT,
    CONTENTS,
    RESULTS,
    SETTINGS,
    alone,
    finished,
    hash_all,
    hash_contents,
    prepare,
    shown,
    text_table,
    write_results,
)
from dcht.data.sources import list_inputs
from dcht.errors import UsageError
from dcht.files import partial_path


def test_a_process_killed_while_it_wrote_the_settings_is_no_obstacle(tmp_path: Path) -> None:
    """It left a part of them alone in the folder."""
    out = tmp_path / "out"
    out.mkdir()
    partial_path(out / SETTINGS).write_bytes(b'{"a"')
    prepare(out, {"a": 1}, files=(), force=False)
    assert [path.name for path in out.iterdir()] == [SETTINGS]


def test_parts_of_images_go_too_and_foreign_files_stay(tmp_path: Path) -> None:
    prepare(tmp_path, {"a": 1}, files=(), force=False)
    (tmp_path / "images").mkdir()
    partial_path(tmp_path / "images" / "00000.png").write_bytes(b"half a picture")
    (tmp_path / "images" / ".mine").write_bytes(b"")
    prepare(tmp_path, {"a": 1}, files=(), force=False)
    assert [path.name for path in (tmp_path / "images").iterdir()] == [".mine"]


@pytest.mark.parametrize("content", [b"{", b"[]", b"null", b"[" * 10**5, b"\xff", b'{"a": NaN}'])
def test_damaged_settings_are_one_line_and_force_begins_anew(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / SETTINGS).write_bytes(content)
    with pytest.raises(UsageError, match=r"settings\.json") as error:
        prepare(tmp_path, {"a": 1}, files=(), force=False)
    assert "\n" not in str(error.value)
    prepare(tmp_path, {"a": 1}, files=(), force=True)
    assert json.loads((tmp_path / SETTINGS).read_text()) == {"a": 1}


@pytest.mark.parametrize("known", [{"a": 1, "b": None}, {}, {"a": None}, {"a": 1, "\x1b[31m": 2}])
def test_settings_that_only_one_has_differ_also_where_they_are_null(
    tmp_path: Path, known: dict[str, Any]
) -> None:
    (tmp_path / SETTINGS).write_text(json.dumps(known))
    with pytest.raises(UsageError, match="was begun with"):
        prepare(tmp_path, {"a": 1}, files=(), force=False)
    assert json.loads((tmp_path / SETTINGS).read_text()) == known


def test_the_image_that_changed_is_named(images: Path, tmp_path: Path) -> None:
    """The same name, the same size in bytes, the same times: other pixels."""
    out = tmp_path / "out"

    def begin(force: bool = False) -> None:
        contents = hash_contents(list_inputs(images))
        settings = {CONTENT: hash_all(contents), "more": 1}
        prepare(out, settings, files=(), force=force, contents=contents)

    begin()
    begin()
    file = images / "d.bmp"
    before, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 255
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UsageError, match=r"^d\.bmp is no longer what .*out was begun with"):
        begin()
    (out / CONTENTS).unlink()  # may be deleted: then it is not named
    with pytest.raises(UsageError, match="was begun with content_sha256"):
        begin()
    begin(force=True)
    begin()
    (images / "a.png").rename(images / "z.png")
    with pytest.raises(UsageError, match=r"^z\.png is no longer"):
        begin()


def test_a_second_process_is_told_who_works_here(tmp_path: Path) -> None:
    @alone
    def evaluate(model: str, out: Path, *, seed: int = 0) -> int:
        """What an evaluation looks like."""
        if seed:
            with pytest.raises(UsageError, match=rf"written by process {os.getpid()} on"):
                evaluate(model, out=out)
        return 7

    assert evaluate("a model", tmp_path / "out", seed=1) == 7
    assert not (tmp_path / "out").exists()  # nothing was written


def test_results_are_finite_or_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a result is not finite"):
        write_results(tmp_path, {"value": float("nan")})
    assert finished(tmp_path) is None
    write_results(tmp_path, {"value": 1.5})
    assert finished(tmp_path) == {"value": 1.5}


def test_results_that_lack_something_are_one_line(tmp_path: Path) -> None:
    def table(results: dict) -> str:
        return f"{results['tasks']['a']:.3f}"

    assert shown(tmp_path, table, {"tasks": {"a": 0.5}}) == "0.500"
    for damaged in ({}, {"tasks": None}, {"tasks": []}, {"tasks": {"a": "x"}}):
        with pytest.raises(UsageError, match=rf"{RESULTS} is not what this evaluation writes"):
            shown(tmp_path, table, damaged)


def test_a_table_holds_no_control_characters() -> None:
    assert text_table([["\x1b[31mred", "a\nb"]]) == "\\x1b[31mred  a\\nb"
