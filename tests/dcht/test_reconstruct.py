"""Pictures of what a tokenizer gives back, and how writing them goes on."""

from pathlib import Path

import pytest
from PIL import Image

from dcht import Tokenizer, UsageError
from dcht.reconstruct import Reconstructed, reconstruct_images


@pytest.mark.parametrize(("path", "width"), [("hybrid", 64), ("compare", 4 * 64 + 12)])
def test_reconstruct_writes_pictures(
    saved_tokenizer: Path, pictures: Path, tmp_path: Path, path: str, width: int
) -> None:
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    for name in ("a.png", "c.webp"):
        (pictures / name).write_text("no picture")
    out = tmp_path / "seen"

    def reconstruct(side: int = 64) -> Reconstructed:
        size = (side, 64)
        return reconstruct_images(tokenizer, pictures, out, size=size, path=path, batch_size=2)

    result = reconstruct()
    assert result.written == 4
    assert [row["file"] for row in result.errors] == ["a.png", "c.webp"]
    with Image.open(out / "more" / "f.jpg.png") as picture:
        assert picture.size == (width, 64)
    # Repeating it makes what is missing, in the batch it was in, and leaves the others alone.
    before = {path: path.read_bytes() for path in out.rglob("*.png")}
    (out / "d.bmp.png").unlink()
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert reconstruct() == result
    assert {path: path.read_bytes() for path in out.rglob("*.png")} == before
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    with pytest.raises(UsageError, match="other settings"):
        reconstruct(96)
