"""The command line as a user meets it: what is printed where, and exit codes."""

import importlib.util
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dcht import LatentsStore
from dcht.cli import build_parser, main
from dcht.config import parse_size
from dcht.device import pick_device
from dcht.errors import UsageError


class Ended(NamedTuple):
    returncode: object
    stdout: str
    stderr: str


@pytest.fixture
def dcht(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Run `dcht` in this process."""

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr("sys.argv", ["dcht", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Ended(ended.value.code, printed.out, printed.err)

    return call


def test_encode_reports_and_lists_what_it_skipped(
    images: Path, saved_tokenizer: Path, tmp_path: Path, dcht: Callable[..., Ended]
) -> None:
    (images / "b.jpg").write_text("no image")
    words = ("encode", images, "--out", tmp_path / "x", "--ckpt", saved_tokenizer, "--size", "64")
    first = dcht(*words, "--json")
    assert first.returncode == 3
    assert json.loads(first.stdout)["images"] == 5
    assert "1 skipped: see" in first.stderr
    again = dcht(*words)
    assert again.returncode == 3  # a finished store keeps its exit code
    assert again.stdout.startswith(f"{tmp_path / 'x'}: 5 images")
    other = dcht(*words[:-1], "96")
    assert other.returncode == 2
    assert other.stderr.startswith("error: ") and other.stderr.count("\n") == 1


def test_real_photos_with_three_bad_files_among_them(saved_tokenizer: Path, tmp_path: Path) -> None:
    spec = importlib.util.find_spec("skimage")
    assert spec is not None and spec.origin is not None
    data = Path(spec.origin).parent / "data"
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"):
        shutil.copy(data / name, folder)
    whole = (data / "rocket.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("this is no image")
    # A bitmap's header is enough for a bomb: 30,000 x 30,000 pixels, and no data.
    header = struct.pack(
        "<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, 30000, 30000, 1, 24, *[0] * 6
    )
    (folder / "bomb.bmp").write_bytes(header)
    out = tmp_path / "latents"
    words = ["encode", folder, "--out", out, "--ckpt", saved_tokenizer]
    command = [sys.executable, "-c", "from dcht.cli import main; main()", *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 3, result.stderr
    errors = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    assert [row["file"] for row in errors] == ["bomb.bmp", "text.png", "truncated.jpg"]
    assert "the cap is" in errors[0]["reason"] or "exceeds limit" in errors[0]["reason"]
    assert len(LatentsStore(out)) == 4


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["encode", "no/such", "--out", "x"], 2, "no/such is not there"),
        (["encode", ".", "--out", "x", "--size", "250"], 2, "not a multiple of 32; the nearest is"),
        (["encode", ".", "--out", "x", "--batch-size", "0"], 2, "whole number of at least 1"),
        (["encode", ".", "--out", "x", "--shard", "2/2"], 2, "'2/2' is not I/N with 0 <= I < N"),
        (["encode", ".", "--out", "x", "--crop", "--pad"], 2, "not allowed with argument --crop"),
        (["inspect", ".", "--out", "x.jpg"], 2, "should end in .png"),
        (["encode", ".", "--out", "x", "--ckpt", "./nothing"], 4, "neither a folder nor a Hub id"),
        (["reconstruct", ".", "--out", "x", "--path", "both"], 2, "invalid choice"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], code: int, message: str, dcht: Callable[..., Ended]
) -> None:
    result = dcht(*arguments)
    assert result.returncode == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_help_has_examples_and_needs_no_torch(dcht: Callable[..., Ended]) -> None:
    assert "examples:" in dcht("--help").stdout
    of_encode = dcht("encode", "--help").stdout.partition("examples:\n")[2]
    assert "dcht encode photos/ --out latents/" in of_encode
    assert "dcht decode" not in of_encode and "exit codes" not in of_encode
    modules = subprocess.run(
        [sys.executable, "-c", "import sys, dcht.cli; print('torch' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert modules.stdout == "False\n"


@pytest.mark.parametrize(("text", "size"), [("256", (256, 256)), ("512x384", (512, 384))])
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "-32", "32x", "1x2x3", "3.5", "0", "250", "64x65"])
def test_wrong_sizes_are_named(text: str) -> None:
    with pytest.raises(UsageError, match=r"size '?"):
        parse_size(text)


def test_every_verb_spells_its_options_alike() -> None:
    parser = build_parser()
    everything = {"ckpt", "size", "batch_size", "device", "strict", "force", "resume", "json"}
    known = {
        "encode": everything,
        "reconstruct": everything,
        "decode": everything - {"size", "strict"},
        "inspect": {"force", "json"},
    }
    for verb, names in known.items():
        arguments = parser.parse_args([verb, "images", "--out", "x"])
        for name in names:
            assert hasattr(arguments, name), (verb, name)


def test_encode_inspect_and_decode(
    images: Path,
    saved_tokenizer: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process: importing torch six times is not what is tested."""

    def told(*arguments: object) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["dcht", *map(str, arguments), "--json"])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        assert stop.value.code == 0, printed.err
        return json.loads(printed.out)

    out, ckpt = tmp_path / "latents", ("--ckpt", saved_tokenizer)
    words = ("encode", images, "--out", out, *ckpt, "--size", "64", "--shard-size", "2")
    estimate = told(*words, "--dry-run")
    assert (estimate["images"], estimate["shards"]) == (6, 3)
    assert not out.exists()
    part = told(*words, "--shard", "0/2")
    assert (part["images"], part["encoded"], part["missing"]) == (4, 4, 1)
    rest = told(*words, "--shard", "1/2")
    assert (rest["images"], rest["encoded"], rest["missing"]) == (6, 2, 0)
    found = told("inspect", out, "--out", tmp_path / "codes.png")
    assert (found["images"], found["files_checked"]) == (6, 6)
    assert (tmp_path / "codes.png").stat().st_size > 1000
    assert told("decode", out, "--out", tmp_path / "seen", *ckpt)["images"] == 6
    assert len(list((tmp_path / "seen").rglob("*.png"))) == 6


@pytest.mark.parametrize("verb", ["encode", "reconstruct", "decode"])
@pytest.mark.parametrize(
    ("out", "message"),
    [("apple.jpg", "is a folder to write"), ("x.tar", "is a folder to write"), ("", "not a path")],
)
def test_a_folder_called_like_a_image_is_refused(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    verb: str, out: str, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(images)
    monkeypatch.setattr(sys, "argv", ["dcht", verb, ".", "--out", out])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not Path("apple.jpg").exists()


def test_the_summary_counts_captions_and_names_what_was_not_read(
    images: Path, saved_tokenizer: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def encode(*more: object) -> tuple[int, str]:
        words = ("encode", images, "--out", tmp_path / "x", "--ckpt", saved_tokenizer)
        monkeypatch.setattr(sys, "argv", [str(w) for w in ("dcht", *words, "--size", "64", *more)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, capsys.readouterr().out  # type: ignore[return-value]

    (images / "captions\n.csv").write_text("name,caption\na,x\n")
    (images / "e.png").write_text("no image")
    code, told = encode("--dry-run")
    assert code == 0
    assert told.startswith("6 images, 2 with captions (0 more cannot be read) in 1 shards, ")
    assert told.endswith("; not read: captions\\n.csv\n")
    code, told = encode("--dry-run", "--json")
    assert (json.loads(told)["captioned"], len(json.loads(told)["unread"])) == (2, 1)
    code, told = encode()
    assert code == 3
    assert f"{tmp_path / 'x'}: 5 images, 2 with captions, 5 encoded now in" in told
    assert "; not read: captions\\n.csv\n" in told and told.count("\n") == 1
    code, told = encode("--json")
    found = json.loads(told)
    assert (found["images"], found["captioned"], found["encoded"]) == (5, 2, 0)
    assert found["unread"] == ["captions\n.csv"]


def test_inputs_that_are_no_images_are_not_counted_as_such(
    images: Path, saved_tokenizer: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for path in images.rglob("*.*"):
        path.write_text("no image")
    words = ("encode", images, "--out", tmp_path / "x", "--ckpt", saved_tokenizer)
    monkeypatch.setattr(sys, "argv", ["dcht", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 3
    assert ": 0 images, 0 with captions, 0 encoded now" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["meta", "xpu", "cpu:-1", "cpu:7", "", "cuda:99", "tpu", "\x1b[31m"]
)
def test_a_device_that_cannot_be_had_is_refused(name):
    with pytest.raises(UsageError, match=r"device .* is not (known|available here); use auto"):
        pick_device(name)
    assert pick_device("cpu:0").type == "cpu"


@pytest.mark.parametrize(("given", "wanted"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_sleep_while_they_wait_unless_the_user_says_else(given, wanted):
    program = (
        "import argparse, os, sys; from dcht.commands.common import run_verb\n"
        "assert 'torch' not in sys.modules\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.set_defaults(function=lambda _: print(os.environ['OMP_WAIT_POLICY']) or 0)\n"
        "run_verb(parser)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert done.stdout.decode().strip() == wanted, done.stderr
