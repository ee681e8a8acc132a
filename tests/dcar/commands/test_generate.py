"""What the verbs that draw do with prompts, outputs and streams of every kind."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dcht.data.sources import list_inputs
from dcht.files import LOCK, locked, partial_path
from dcht.images import read_png_text

Dcar = Callable[..., tuple[int, str, str]]
LONG = "a red apple and a blue car and two green dogs"


def test_what_a_prompt_leaves_out_is_said_everywhere(dcar: Dcar, tmp_path: Path) -> None:
    """Eight tokens, one of them the end: the rest is named on stderr, in JSON and in the record."""
    out = tmp_path / "x.png"
    code, stdout, stderr = dcar("generate", LONG, "--out", out, "--json")
    assert code == 0
    assert f"reads 8 tokens of a prompt; of {LONG!r} it leaves out 'and two green dogs'" in stderr
    assert json.loads(stdout)["left_out"] == {LONG: "and two green dogs"}
    assert json.loads(read_png_text(out)["dcar"])["left_out"] == "and two green dogs"
    assert dcar("replay", out, "--out", tmp_path / "again.png")[0] == 0
    assert (tmp_path / "again.png").read_bytes() == out.read_bytes()
    # The image is that of what was read, and a prompt that fits has a record as before.
    short = tmp_path / "short.png"
    code, stdout, _ = dcar("generate", "a red apple and a blue car", "--out", short, "--json")
    assert json.loads(stdout)["left_out"] == {}
    assert "left_out" not in json.loads(read_png_text(short)["dcar"])
    with Image.open(out) as cut, Image.open(short) as whole:
        assert cut.tobytes() == whole.tobytes()


def test_a_sheet_and_an_edit_say_it_too(dcar: Dcar, tmp_path: Path) -> None:
    sheet, photo, edited = (tmp_path / f"{name}.png" for name in ("sheet", "photo", "edited"))
    dcar("generate", "a dog", LONG, "--grid", "--out", sheet)
    records = json.loads(read_png_text(sheet)["dcar"])
    assert [record.get("left_out") for record in records] == [None, "and two green dogs"]
    Image.new("RGB", (64, 64)).save(photo)
    code, stdout, stderr = dcar("edit", photo, LONG, "--strength", 0.5, "--out", edited, "--json")
    assert code == 0 and "leaves out" in stderr
    assert json.loads(stdout)["left_out"] == {LONG: "and two green dogs"}


@pytest.mark.parametrize("source", ["file", "stdin", "pipe"])
def test_a_byte_order_mark_changes_nothing(
    dcar: Dcar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    plain, marked = tmp_path / "plain.png", tmp_path / "marked.png"
    dcar("generate", "a red apple", "--out", plain)
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"\xef\xbb\xbfa red apple\r\n")
    name: object = file
    if source == "stdin":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
        name = "-"
    elif source == "pipe":
        reading, writing = os.pipe()
        os.write(writing, file.read_bytes())
        os.close(writing)
        name = f"/dev/fd/{reading}"
    assert dcar("generate", "--prompts", name, "--out", marked)[0] == 0
    assert marked.read_bytes() == plain.read_bytes()


def test_captions_stand_beside_images_as_encoding_reads_them(dcar: Dcar, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert dcar("generate", "a red apple", "a\ndog", "--captions", "--out", out)[0] == 0
    rows = [entry.row() for entry in list_inputs(out)]
    assert [row["caption"] for row in rows] == ["a red apple", "a dog"]
    mine = out / "00001.txt"
    mine.write_text("my dog Rex\n")  # a caption that its owner has mended, before a repetition
    again = ("generate", "a red apple", "a\ndog", "--captions", "--out", out)
    code, _, stderr = dcar(*again)
    assert (code, "00001.txt exists and says something else" in stderr) == (2, True)
    assert mine.read_text() == "my dog Rex\n"
    assert dcar(*again, "--force")[0] == 0 and mine.read_text() == "a dog\n"
    code, _, stderr = dcar("generate", "a", "--captions", "--out", tmp_path / "x.png")
    assert (code, "give --out a folder" in stderr) == (2, True)


def test_what_nobody_sees_in_a_prompt_draws_the_same_image(dcar: Dcar, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prompts = ["a red apple", "\ufeffa red apple", "a re\u200bd ap\u00adple", "a\u202e red apple"]
    code, _, stderr = dcar("generate", *prompts, "--seed", 3, "--batch-size", 1, "--out", out)
    assert (code, stderr) == (0, "")
    for k, prompt in enumerate(prompts):
        assert read_png_text(out / f"{k:05d}.png")["Description"] == prompt
    alone = tmp_path / "alone.png"
    for prompt in prompts:
        dcar("generate", prompt, "--seed", 3, "--out", alone, "--force")
        with Image.open(alone) as image, Image.open(out / "00000.png") as first:
            assert image.tobytes() == first.tobytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfea\0", "utf-8"),
        (b"\xef\xbb\xbf \n", "no prompt"),
        (b"a" * 100_001, "prompt is 'aaa"),
        (b"a" * ((1 << 26) + 1), "is larger than 67,108,864 bytes"),
    ],
)
def test_prompts_that_are_none_are_one_line(
    dcar: Dcar, tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    code, _, stderr = dcar("generate", "--prompts", file, "--out", tmp_path / "x.png")
    assert code == 2 and message in stderr.splitlines()[-1]
    assert not (tmp_path / "x.png").exists()


def test_a_pipe_that_nobody_writes_is_no_prompt(dcar: Dcar, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    code, _, stderr = dcar("generate", "--prompts", tmp_path / "pipe", "--out", tmp_path / "x.png")
    assert code == 2 and "no prompt; for example" in stderr


@pytest.mark.parametrize("name", ["apple.jpg", "apple.WEBP", "apple.gif", "apple.tiff"])
@pytest.mark.parametrize("verb", ["generate", "edit", "replay"])
def test_a_image_of_another_format_is_refused_and_no_folder(
    dcar: Dcar, tmp_path: Path, verb: str, name: str
) -> None:
    photo = tmp_path / "photo.png"
    dcar("generate", "a dog", "--out", photo)
    words = {"generate": ["a dog"], "edit": [photo, "a dog", "--strength", 1], "replay": [photo]}
    code, _, stderr = dcar(verb, *words[verb], "--out", tmp_path / name)
    assert code == 2 and name in stderr and ".png" in stderr and stderr.count("\n") == 1
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("verb", ["generate", "edit"])
def test_a_folder_that_another_process_writes_is_refused(
    dcar: Dcar, tmp_path: Path, verb: str
) -> None:
    photo, out = tmp_path / "photo.png", tmp_path / "out"
    Image.new("RGB", (64, 64)).save(photo)
    words = ["a dog"] if verb == "generate" else [photo, "a dog", "--strength", 1]
    code = (
        "import sys; from dcht.files import locked\n"
        "with locked(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        found, _, stderr = dcar(verb, *words, "--out", out)
        assert found == 2 and f"is being written by process {holder.pid}" in stderr
        assert [path.name for path in out.iterdir()] == [LOCK]
        # One file needs no lock: it appears whole.
        assert dcar(verb, *words, "--out", out / "x.png")[0] == 0
        holder.communicate("", timeout=60)
    partial_path(out / "00000.png").write_bytes(b"what a killed process left")
    assert dcar(verb, *words, "--out", out)[0] == 0
    assert sorted(path.name for path in out.iterdir()) == ["00000.png", "x.png"]


def test_export_and_convert_hold_their_folder(
    dcar: Dcar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(
        "dcar.weights.release_keys.write_release",
        lambda source, out, **_: seen.append((out / LOCK).exists()) or "0" * 64,
    )
    from dcar import cli

    monkeypatch.setattr(
        sys, "argv", ["dcar", "convert", "x", "--from", "release", "--out", str(tmp_path / "out")]
    )
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert (stop.value.code, seen) == (0, [True])
    with locked(tmp_path / "out"):
        pass


SHELL = "import sys, dcar.cli; sys.argv[0] = 'dcar'; dcar.cli.main()"


@pytest.mark.parametrize(
    ("redirection", "environment", "code", "message"),
    [
        (">&-", {}, 0, ""),
        ("> /dev/full", {}, 2, "error: stdout: No space left on device\n"),
        ("2>&- > /dev/null", {}, 0, ""),
        ("> /dev/null", {"PYTHONIOENCODING": "ascii"}, 0, ""),
        ("--prompts - <&-", {}, 2, "error: no prompt; for example"),
    ],
)
def test_streams_that_cannot_be_written_or_read(
    checkpoint: Path, tmp_path: Path, redirection: str, environment: dict[str, str], code: int,
    message: str,
) -> None:  # fmt: skip
    out = tmp_path / "äpfel \N{RED APPLE}.png"
    prompt = "" if "--prompts" in redirection else "'a red apple'"
    words = f"generate {prompt} --out '{out}' --ckpt '{checkpoint}' --device cpu {redirection}"
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -c \"{SHELL}\" {words}"],
        env=os.environ | environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr
    assert out.exists() == ("--prompts" not in redirection)


def test_control_characters_of_words_and_names_are_shown_as_escapes(
    dcar: Dcar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "a\x1b]0;pwned\x07\nerror: forged"
    for words in (
        ("generate", "a dog", "--prompts", evil, "--out", tmp_path / "x.png"),
        ("generate", f"a {evil} zebra", "--out", tmp_path / "y.png"),
        ("edit", evil, "a dog", "--strength", 1, "--out", tmp_path / "z.png"),
        ("replay", evil, "--out", tmp_path / "w.png"),
        ("generate", "a dog", f"--{evil}", "--out", tmp_path / "v.png"),
        ("generate", "a dog", "--out", tmp_path / evil / "u.png"),
    ):
        _, stdout, stderr = dcar(*words)
        assert "\x1b" not in stdout + stderr and "\x07" not in stdout + stderr
        assert not any(line.startswith("error: forged") for line in stderr.splitlines())
