"""The legs of a GPU on this machine, with a budget of seconds and four sprites."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from dcar import TextToImage
from dcar_eval.scenes.world import SPRITE_LABELS
from dcht import Tokenizer

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "paper" / "gpu_legs.py"
CODES = {"apple": "1F34E", "banana": "1F34C", "car": "1F697", "dog": "1F415"}


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Four sprites in the layout of the npm packages."""
    folder = tmp_path / "inputs"
    art, labels = folder / "assets", folder / "emojibase-data" / "en"
    art.mkdir(parents=True)
    labels.mkdir(parents=True)
    for number, code in enumerate(CODES.values()):
        image = Image.new("RGBA", (64, 64))
        shape = ImageDraw.Draw(image)
        shape.ellipse((4, 4 + 6 * number, 60, 60), fill=(60 + 40 * number, 90, 200, 255))
        image.save(art / f"{code.lower()}.webp", lossless=True)
    rows = [{"label": SPRITE_LABELS[name], "hexcode": code} for name, code in CODES.items()]
    (labels / "data.json").write_text(json.dumps(rows))
    return folder


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_tiny_budget_makes_a_tokenizer_and_a_generator_and_goes_on(
    inputs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = (
        "run", inputs, "--out", out, "--minutes", 0.1, "--tokenizer", "tiny", "--generator",
        "tiny", "--objects", ",".join(CODES), "--styles", "3d", "--part", 24, "--size", 64,
        "--batch-size", 4, "--workers", 1,
    )  # fmt: skip
    done = run(*command)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout.splitlines()[-1])
    tokenizer = Tokenizer.from_pretrained(made["tokenizer"])
    pipe = TextToImage.from_pretrained(made["generator"])
    assert pipe.tokenizer.sha256 == tokenizer.sha256
    rows = [json.loads(line) for line in (out / "legs.jsonl").read_text().splitlines()]
    assert [row["leg"] for row in rows if row["leg"] != "render"] == [
        "tokenizer", "tokenizer", "encode", "generator", "generator",
    ]  # fmt: skip
    assert all(row["exit_code"] == 0 for row in rows)
    # The same command again trains nothing: every command finds its work done.
    again = run(*command)
    assert again.returncode == 0, again.stderr
    assert TextToImage.from_pretrained(made["generator"]).sha256 == pipe.sha256
    more = [json.loads(line) for line in (out / "legs.jsonl").read_text().splitlines()]
    assert [row["leg"] for row in more[len(rows) :]] == ["tokenizer", "encode", "generator"]


def test_more_than_60_mb_of_art_is_refused(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu_legs  # pyright: ignore[reportMissingImports]

    from dcht.errors import UsageError

    for package in ("noto", "fluent-emoji-flat"):
        icons = inputs / "@iconify-json" / package / "icons.json"
        icons.parent.mkdir(parents=True)
        icons.write_text(json.dumps({"height": 32, "icons": {}}))
    (inputs / "unused.txt").write_text("not art")
    monkeypatch.setattr(gpu_legs, "things", lambda: tuple(CODES))
    size = gpu_legs.gather(inputs, tmp_path / "sent")
    sent = sorted(path.name for path in (tmp_path / "sent").rglob("*") if path.is_file())
    assert len(sent) == 7 and "unused.txt" not in sent
    assert size == sum(p.stat().st_size for p in (tmp_path / "sent").rglob("*") if p.is_file())
    monkeypatch.setattr(gpu_legs, "MOST", size - 1)
    with pytest.raises(UsageError, match="at most 0 MB may be sent"):
        gpu_legs.gather(inputs, tmp_path / "more")
