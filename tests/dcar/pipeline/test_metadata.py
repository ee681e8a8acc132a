"""What a PNG says of its making: IPTC's mark beside the record, or, when asked, nothing at all."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dcar.pipeline.record import RECORD, XMP
from dcht.images import read_png_text, save_png

Dcar = Callable[..., tuple[int, str, str]]
KINDS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
TYPE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


def source_type(path: Path) -> str:
    """IPTC's DigitalSourceType, read as any XMP reader does."""
    with Image.open(path) as image:
        image.load()
        packet = image.info["xmp"]
    (found,) = (
        value
        for node in ET.fromstring(packet).iter()
        for name, value in node.items()
        if name == TYPE
    )
    return found.removeprefix(KINDS)


def test_what_a_model_made_says_so(dcar: Dcar, tmp_path: Path) -> None:
    made, edited, sheet = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    assert dcar("generate", "a dog", "--out", made)[0] == 0
    assert dcar("edit", made, "a cat", "--strength", "0.5", "--out", edited)[0] == 0
    assert dcar("generate", "a dog", "a cat", "--grid", "--out", sheet)[0] == 0
    assert source_type(made) == source_type(sheet) == "trainedAlgorithmicMedia"
    assert source_type(edited) == "compositeWithTrainedAlgorithmicMedia"
    again = tmp_path / "again.png"
    assert dcar("replay", made, "--out", again)[0] == 0
    assert again.read_bytes() == made.read_bytes()


def test_no_metadata_leaves_all_of_it_out(dcar: Dcar, tmp_path: Path) -> None:
    made, bare, again, film = (tmp_path / f"{n}.png" for n in ("made", "bare", "again", "film"))
    assert dcar("generate", "a dog", "--out", made)[0] == 0
    words = ("generate", "a dog", "--no-metadata", "--film", film)
    assert dcar(*words, "--out", bare)[0] == 0
    assert dcar("replay", made, "--no-metadata", "--out", again)[0] == 0
    with Image.open(made) as image:
        pixels = image.convert("RGB").tobytes()
    for path in (bare, again):
        assert read_png_text(path) == {}
        assert b"tEXt" not in path.read_bytes() and b"eXIf" not in path.read_bytes()
        with Image.open(path) as image:
            assert image.convert("RGB").tobytes() == pixels
    assert read_png_text(film) == {}
    code, _, stderr = dcar(*words, "--out", bare)
    assert code == 2 and "use --force" in stderr, "nothing tells that it is the same"
    code, _, stderr = dcar("replay", bare, "--out", tmp_path / "x.png")
    assert code == 2 and "holds no record" in stderr


@pytest.mark.parametrize("kept", [{XMP}, set()])
def test_an_image_without_the_mark_is_kept_by_its_record(
    dcar: Dcar, tmp_path: Path, kept: set[str]
) -> None:
    path = tmp_path / "a.png"
    assert dcar("generate", "a dog", "--out", path)[0] == 0
    text = read_png_text(path)
    assert text.keys() == {"Software", "Description", RECORD, XMP}
    with Image.open(path) as image:
        save_png(image.convert("RGB"), path, {k: v for k, v in text.items() if k in {*text} - kept})
    before = path.read_bytes()
    assert dcar("generate", "a dog", "--out", path)[0] == 0
    assert path.read_bytes() == before
