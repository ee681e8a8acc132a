from pathlib import Path

from dcht.data import contents
from dcht.data.contents import contents_sha256
from dcht.data.entries import Part


def part(path: Path) -> tuple[str, Part]:
    return path.name, Part(str(path), path.stat().st_size)


def test_a_set_too_large_to_read_is_known_by_names_sizes_and_a_sample(tmp_path, monkeypatch):
    files = [tmp_path / f"{number}" for number in range(10)]
    for file in files:
        file.write_bytes(bytes(100))
    parts = [part(file) for file in files]
    monkeypatch.setattr(contents, "READ", 500)  # every second file
    before = contents_sha256(parts)
    files[1].write_bytes(b"x" * 100)
    assert contents_sha256(parts) == before  # what the page says is not seen
    files[2].write_bytes(b"x" * 100)
    assert contents_sha256(parts) != before
    monkeypatch.undo()
    whole = contents_sha256(parts)
    files[1].write_bytes(b"y" * 100)
    assert contents_sha256(parts) != whole


def test_a_file_that_is_gone_is_another_content(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    parts = [part(file)]
    before = contents_sha256(parts)
    file.unlink()
    assert contents_sha256(parts) != before
