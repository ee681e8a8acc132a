"""Images of what a tokenizer gives back, and how writing them goes on."""

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from dcht import Tokenizer, UsageError
from dcht.data.image_folder import ImageFolder
from dcht.files import locked
from dcht.images import read_png_text
from dcht.reconstruct import Reconstructed, reconstruct_images


@pytest.mark.parametrize(("path", "width"), [("hybrid", 64), ("compare", 4 * 64 + 12)])
def test_reconstruct_writes_images(
    saved_tokenizer: Path, images: Path, tmp_path: Path, path: str, width: int
) -> None:
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    for name in ("a.png", "c.webp"):
        (images / name).write_text("no image")
    out = tmp_path / "seen"

    def reconstruct(side: int = 64) -> Reconstructed:
        size = (side, 64)
        return reconstruct_images(tokenizer, images, out, size=size, path=path, batch_size=2)

    result = reconstruct()
    assert result.written == 4
    assert [row["file"] for row in result.errors] == ["a.png", "c.webp"]
    with Image.open(out / "more" / "f.jpg.png") as image:
        assert image.size == (width, 64)
    # Repeating it makes what is missing, in the batch it was in, and leaves the others alone.
    before = {path: path.read_bytes() for path in out.rglob("*.png")}
    (out / "d.bmp.png").unlink()
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert reconstruct() == result
    assert {path: path.read_bytes() for path in out.rglob("*.png")} == before
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    with pytest.raises(UsageError, match="other settings"):
        reconstruct(96)


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def test_what_was_painted_over_or_repaired_is_made_anew(
    saved_tokenizer: Path, images: Path, tmp_path: Path
) -> None:
    """Name, size and settings are as they were; the result is that of an empty folder."""
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)

    def reconstruct(out: Path) -> Reconstructed:
        return reconstruct_images(tokenizer, images, out, size=(64, 64), batch_size=2)

    (images / "a.png").write_text("no image")
    out = tmp_path / "seen"
    assert [row["file"] for row in reconstruct(out).errors] == ["a.png"]
    old = pixels(out / "d.bmp.png")
    content = (images / "d.bmp").read_bytes()
    (images / "d.bmp").write_bytes(content[:54] + bytes(len(content) - 54))
    Image.new("RGB", (64, 64), "red").save(images / "a.png")
    (images / "e.png").write_text("damaged now")
    result = reconstruct(out)
    assert (result.written, [row["file"] for row in result.errors]) == (5, ["e.png"])
    assert pixels(out / "d.bmp.png") != old
    assert result == reconstruct(tmp_path / "anew")
    made = {path.name: path.read_bytes() for path in (tmp_path / "anew").rglob("*.png")}
    assert made == {path.name: path.read_bytes() for path in out.rglob("*.png")}
    assert (
        read_png_text(out / "d.bmp.png")["source_sha256"]
        == hashlib.sha256((images / "d.bmp").read_bytes()).hexdigest()
    )
    (images / "e.png").unlink()
    assert reconstruct(out) == Reconstructed(5, [])


def test_one_name_with_two_endings_is_two_images(saved_tokenizer: Path, tmp_path: Path) -> None:
    images, out = tmp_path / "pictures", tmp_path / "seen"
    images.mkdir()
    for name, color in (("a.png", "red"), ("a.jpg", "blue")):
        Image.new("RGB", (64, 64), color).save(images / name)
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    assert reconstruct_images(tokenizer, images, out, size=(64, 64)).written == 2
    assert sorted(path.name for path in out.glob("*.png")) == ["a.jpg.png", "a.png.png"]


def test_what_a_forced_run_was_killed_over_is_not_kept(
    saved_tokenizer: Path, images: Path, tmp_path: Path
) -> None:
    """Images of other settings of the same inputs do not pass for those that were asked for."""
    tokenizer, out = Tokenizer.from_pretrained(saved_tokenizer), tmp_path / "seen"
    size = (64, 64)
    reconstruct_images(tokenizer, images, out, size=size, path="discrete")
    own = Image.new("RGB", (8, 8))
    own.save(out / "mine.png")
    settings = json.loads((out / ".settings.json").read_text()) | {"path": "hybrid"}
    ImageFolder(out, settings, force=True)  # and killed before its first image
    assert [path.name for path in out.rglob("*.png")] == ["mine.png"]
    result = reconstruct_images(tokenizer, images, out, size=size)
    assert result == reconstruct_images(tokenizer, images, tmp_path / "anew", size=size)
    made = {path.name: path.read_bytes() for path in (tmp_path / "anew").rglob("*.png")}
    assert made == {
        path.name: path.read_bytes() for path in out.rglob("*.png") if path.name != "mine.png"
    }


NAMES = (
    ".x.partial/y.png", ".lock/y.png", ".settings.json/y.png", "errors.jsonl/y.png",
    "x" * 250 + ".png", "ü" * 120 + ".png", "long" * 100 + "/y.png", "a.png", "a.png.png/b.png",
)  # fmt: skip


def test_names_that_are_hard_to_write(saved_tokenizer: Path, tmp_path: Path) -> None:
    """They work, and work again; what cannot is listed, and the rest is there."""
    image = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(image, format="PNG")
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name in NAMES:
            member = tarfile.TarInfo(name)
            member.size = len(image.getvalue())
            tar.addfile(member, io.BytesIO(image.getvalue()))
    tokenizer, out = Tokenizer.from_pretrained(saved_tokenizer), tmp_path / "seen"
    for _ in range(2):
        found = reconstruct_images(tokenizer, tmp_path / "x.tar", out, size=(32, 32))
        assert [row["file"] for row in found.errors] == ["x.tar/a.png.png/b.png"]
        assert found.written == len(NAMES) - 1 == len(list(out.rglob("*.png"))) - 0
    assert not list(out.rglob("*.lock"))


def test_two_processes_do_not_write_one_folder(
    saved_tokenizer: Path, images: Path, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    with (
        locked(tmp_path / "seen"),
        pytest.raises(UsageError, match=r"is being written by process \d+"),
    ):
        reconstruct_images(tokenizer, images, tmp_path / "seen", size=(32, 32))
    assert reconstruct_images(tokenizer, images, tmp_path / "seen", size=(32, 32)).written == 6


def test_what_lies_in_out_is_no_input(saved_tokenizer: Path, images: Path) -> None:
    tokenizer, out = Tokenizer.from_pretrained(saved_tokenizer), images / "more" / "seen"
    some = [images / "a.png", images / "more"]
    for sources, written in ((images, 6), (some, 2)):
        for again in (sources, sources, [*some, out] if sources is some else sources):
            assert reconstruct_images(tokenizer, again, out, size=(32, 32)).written == written
        assert len(list(out.rglob("*.png"))) == written
        shutil.rmtree(out)


@pytest.mark.parametrize("bad", ["a.png", "e.png"])
def test_strict_stops_at_what_an_earlier_run_skipped(
    saved_tokenizer: Path, images: Path, tmp_path: Path, bad: str
) -> None:
    """As in an empty folder; without it what is listed stays so."""
    tokenizer, out = Tokenizer.from_pretrained(saved_tokenizer), tmp_path / "seen"

    def reconstruct(out: Path, *, strict: bool = False) -> Reconstructed:
        return reconstruct_images(
            tokenizer, images, out, size=(32, 32), batch_size=2, strict=strict
        )

    (images / bad).write_text("no image")
    listed = reconstruct(out)
    for folder in (tmp_path / "anew", out):
        with pytest.raises(UsageError, match=rf"^{bad}: not a PNG"):
            reconstruct(folder, strict=True)
    assert reconstruct(out) == listed
    shutil.copy(images / "c.webp", images / bad)
    assert reconstruct(out, strict=True) == Reconstructed(6, [])
