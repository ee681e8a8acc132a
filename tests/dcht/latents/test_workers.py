"""The same store from several processes, from runs that were killed, and onto a disk that fills."""

import hashlib
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dcht import LatentsStore, Tokenizer
from dcht.errors import UsageError
from dcht.latents.encode import Encoded, encode_images
from dcht.latents.encode_job import Backend, EncodeSettings

SETTINGS = EncodeSettings(size=(64, 64), batch_size=2, shard_size=3, threads=1)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Forty images, two of which are none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((96, 80), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:02d}.png")
        (folder / f"{number:02d}.txt").write_text(f"image {number}")
    for number in (7, 30):
        (folder / f"{number:02d}.png").write_text("no image")
    return folder


def hashes(store: Path) -> dict[str, str]:
    """SHA-256 of every file, hidden ones too."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in store.iterdir()}


@pytest.fixture
def whole(photos: Path, saved_tokenizer: Path, tmp_path: Path) -> dict[str, str]:
    """The hashes of a store that one process made without interruption."""
    out = tmp_path / "whole"
    before = torch.get_num_threads()
    encode_images(Tokenizer.from_pretrained(saved_tokenizer), photos, out, SETTINGS)
    torch.set_num_threads(before)
    return hashes(out)


def test_two_workers_make_the_same_bytes(
    photos: Path, saved_tokenizer: Path, tmp_path: Path, whole: dict[str, str]
) -> None:
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    result = encode_images(tokenizer, photos, tmp_path / "two", replace(SETTINGS, workers=2))
    assert result == Encoded(images=38, skipped=2, encoded=38, missing=0, captioned=38, unread=[])
    assert hashes(tmp_path / "two") == whole


@pytest.mark.slow
def test_what_a_worker_meets_is_raised(photos: Path, saved_tokenizer: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    settings = replace(SETTINGS, workers=2, strict=True)
    with pytest.raises(UsageError, match=r"^(07|30)\.png: not a PNG"):
        encode_images(tokenizer, photos, tmp_path / "x", settings)


@pytest.mark.slow
def test_ray_makes_the_same_bytes(
    photos: Path, saved_tokenizer: Path, tmp_path: Path, whole: dict[str, str]
) -> None:
    words = [sys.executable, "-W", "ignore", "-c", "from dcht.cli import main; main()", "encode"]
    words += [photos, "--out", tmp_path / "ray", "--ckpt", saved_tokenizer, "--size", "64"]
    words += ["--batch-size", "2", "--shard-size", "3", "--threads", "1"]
    words += ["--backend", "ray", "--workers", "2"]
    result = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert result.returncode == 3, result.stderr
    assert hashes(tmp_path / "ray") == whole


def test_ray_is_named_where_it_is_missing(
    photos: Path, saved_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcht.latents.ray_workers.find_spec", lambda name: None)
    settings = replace(SETTINGS, backend=Backend.ray)
    with pytest.raises(UsageError, match=r"pip install 'dcht\[ray\]'"):
        encode_images(Tokenizer.from_pretrained(saved_tokenizer), photos, tmp_path / "x", settings)


def kill_and_finish(
    tokenizer: Tokenizer, photos: Path, out: Path, settings: EncodeSettings, moments: list[float]
) -> int:
    """Kill an encoding at moments counted from its first new file, then let one end; how many died.

    Processes are forked from one that has imported everything and has not computed anything.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dcht.latents.encode"])

    def names() -> set[str]:
        return {path.name for path in out.iterdir()} if out.exists() else set()

    killed = 0
    for moment in [*moments, None]:
        before = names()
        process = context.Process(target=encode_images, args=(tokenizer, photos, out, settings))
        process.start()
        if moment is None:
            process.join()
            assert process.exitcode == 0
            break
        while process.is_alive() and names() <= before:
            time.sleep(0.001)
        time.sleep(moment)
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
    return killed


def test_killed_and_started_again_it_ends_in_the_same_bytes(
    photos: Path, saved_tokenizer: Path, tmp_path: Path, whole: dict[str, str]
) -> None:
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    out = tmp_path / "killed"
    assert kill_and_finish(tokenizer, photos, out, SETTINGS, [0.0, 0.01, 0.02]) == 3
    assert hashes(out) == whole


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "kills"), [(1, 20), (2, 4)])
def test_killed_at_random_moments(
    photos: Path, saved_tokenizer: Path, tmp_path: Path, workers: int, kills: int
) -> None:
    rng = np.random.default_rng(1)
    for number in range(40, 1500):  # or it would be over before the last
        pixels = rng.integers(0, 256, (80, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{number:04d}.png")
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    encode_images(tokenizer, photos, tmp_path / "whole", SETTINGS)
    draw = random.Random(0)
    moments = [draw.uniform(0, 0.2) for _ in range(kills)]
    settings = replace(SETTINGS, workers=workers)
    assert kill_and_finish(tokenizer, photos, tmp_path / "killed", settings, moments) == kills
    assert hashes(tmp_path / "killed") == hashes(tmp_path / "whole")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: the system refuses a write as on a full disk."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_said_and_leaves_no_half_shard(
    photos: Path, saved_tokenizer: Path, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    settings = replace(SETTINGS, shard_size=40)
    out, whole = tmp_path / "full", tmp_path / "whole"
    encode_images(tokenizer, photos, whole, settings)
    sizes = {path.name: path.stat().st_size for path in whole.iterdir()}
    size = max(sizes[".plan.json"], sizes["shard-00000.jsonl"])
    assert size < sizes["shard-00000.safetensors"]
    message = r"shard-00000\.safetensors cannot be written: File too large"
    with largest_file(size), pytest.raises(UsageError, match=message):
        encode_images(tokenizer, photos, out, settings)
    assert sorted(path.name for path in out.iterdir()) == [".plan.json", "shard-00000.jsonl"]
    with pytest.raises(UsageError, match="not finished"):
        LatentsStore(out)
    encode_images(tokenizer, photos, out, settings)
    assert hashes(out) == hashes(whole)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["import", "start"])
def test_a_worker_that_dies_while_it_starts_is_said(
    photos: Path,
    saved_tokenizer: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    """Much waits for it: what a pipe does not take would hold the parent for ever."""
    deadly = tmp_path / "deadly"
    deadly.mkdir()
    code = "import os, sys\nif '--multiprocessing-fork' in sys.argv: os._exit(9)\n"
    (deadly / "sitecustomize.py").write_text(code)
    if moment == "import":
        monkeypatch.setenv("PYTHONPATH", str(deadly))
    else:
        monkeypatch.setattr(
            "dcht.latents.workers._device", lambda job, k: "cpu" if k else "no device"
        )
    big = Tokenizer.from_pretrained(saved_tokenizer)
    big.register_buffer("ballast", torch.zeros(1 << 22), persistent=False)
    settings = replace(SETTINGS, workers=2)
    with pytest.raises(UsageError, match="a worker stopped before its work was done"):
        encode_images(big, photos, tmp_path / "x", settings)


@pytest.mark.slow
@pytest.mark.parametrize("wait", [0.0, 1.0, "shard"])
def test_an_interrupt_of_the_terminal_is_one_line(
    photos: Path, saved_tokenizer: Path, tmp_path: Path, wait: float | str
) -> None:
    """Ctrl-C reaches every process of the terminal: while workers start, and while they work."""
    rng = np.random.default_rng(1)
    for number in range(40, 600):
        pixels = rng.integers(0, 256, (80, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{number:04d}.png")
    out = tmp_path / "stopped"
    words = [sys.executable, "-c", "from dcht.cli import main; main()", "encode", photos, "--out"]
    words += [out, "--ckpt", saved_tokenizer, "--size", "64", "--batch-size", "2"]
    words += ["--shard-size", "3", "--threads", "1", "--workers", "2"]
    process = subprocess.Popen(
        [*map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # What a shell starts in the background ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = (lambda: list(out.glob("shard-*"))) if wait == "shard" else (lambda: out.exists())
    while not until():
        time.sleep(0.01)
    time.sleep(wait if isinstance(wait, float) else 0)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in told
    assert told.splitlines()[-1] == "error: interrupted"
