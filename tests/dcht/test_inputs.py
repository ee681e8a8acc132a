"""What counts as an input, what it is called, and what comes along with it."""

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from dcht.entries import hash_entries
from dcht.errors import UsageError
from dcht.images import ImageError, list_images
from dcht.inputs import list_inputs


def png(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), color).save(buffer, format="PNG")
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def problems(source: Path | list[Path]) -> dict[str, str]:
    return {entry.name: entry.problem for entry in list_inputs(source) if entry.problem}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two images with sidecars as WebDataset has them, and one as a packed folder has them."""
    path = tmp_path / "shards" / "007.tar"
    path.parent.mkdir()
    write_tar(
        path,
        {
            "a/0001.png": png("red"),
            "a/0001.txt": b"a red one\n",
            "a/0001.json": b'{"score": 3}',
            "a/0002.left.png": png("lime"),
            "a/0002.json": b'{"caption": "a green one", "captions": ["green", "lime"]}',
            "b/x.y.png": png("blue"),
            "b/x.y.txt": b"a blue one",
            "b/notes.md": b"nothing to see",
        },
    )
    return path


def test_a_folder_gives_what_list_images_gives(pictures: Path) -> None:
    found = list_inputs(pictures)
    expected = [path.relative_to(pictures).as_posix() for path in list_images(pictures)]
    assert [entry.name for entry in found] == expected
    assert not problems(pictures)
    opened = found[0].open()
    with Image.open(pictures / "a.png") as image:
        assert opened.tobytes() == image.convert("RGB").tobytes()


def test_archives_are_read_where_they_are(archive: Path) -> None:
    before = archive.parent.parent.stat().st_mtime_ns, sorted(archive.parent.iterdir())
    found = {entry.name: entry for entry in list_inputs(archive)}
    assert list(found) == ["007.tar/a/0001.png", "007.tar/a/0002.left.png", "007.tar/b/x.y.png"]
    colors = [entry.open().getpixel((0, 0)) for entry in found.values()]
    assert colors == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    rows = [entry.row() for entry in found.values()]
    assert rows[0] == {"score": 3, "file": "007.tar/a/0001.png", "caption": "a red one"}
    assert (rows[1]["caption"], rows[1]["captions"]) == ("green", ["green", "lime"])
    assert rows[2]["caption"] == "a blue one"
    assert before == (archive.parent.parent.stat().st_mtime_ns, sorted(archive.parent.iterdir()))


def test_a_folder_of_archives_a_pattern_and_a_list_of_them_are_one(archive: Path) -> None:
    second = archive.with_name("008.tar")
    write_tar(second, {"c.png": png("white")})
    folder = archive.parent
    names = [entry.name for entry in list_inputs(folder)]
    assert names[-1] == "008.tar/c.png"
    for sources in (
        [archive, second],
        [second, archive],
        f"{folder}/{{007..008}}.tar",
        f"{folder}/{{007,008}}.tar",
        f"{folder}/*.tar",
    ):
        assert [entry.name for entry in list_inputs(sources)] == names, sources
        assert hash_entries(list_inputs(sources)) == hash_entries(list_inputs(folder))
    with pytest.raises(UsageError, match=r"009\.tar is not there"):
        list_inputs(f"{folder}/{{007..009}}.tar")


@pytest.mark.parametrize("name", ["list.txt", "list.jsonl", "list.csv"])
def test_lists_name_images_with_their_captions(pictures: Path, tmp_path: Path, name: str) -> None:
    content = {
        "list.txt": "pictures/c.webp\n\npictures/a.png\n",
        "list.jsonl": '{"path": "pictures/c.webp", "caption": "from the list", "n": 1}\n'
        '{"file_name": "pictures/a.png", "text": "not this: a.txt goes before"}\n',
        "list.csv": 'file_name,text,n\npictures/c.webp,"from the list",1\npictures/a.png,,\n',
    }
    (tmp_path / name).write_text(content[name])
    rows = [entry.row() for entry in list_inputs(tmp_path / name)]
    assert [row["file"] for row in rows] == ["pictures/a.png", "pictures/c.webp"]
    assert rows[0]["captions"] == ["a first picture", "the first one"]
    expected = None if name == "list.txt" else "from the list"
    assert rows[1]["caption"] == expected
    assert [entry.open().size for entry in list_inputs(tmp_path / name)] == [(80, 70), (112, 70)]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_metadata_file_as_imagefolder_has_it(pictures: Path, suffix: str) -> None:
    rows = [("c.webp", "named above"), ("more/f.jpg", "named above, too"), ("gone.png", "x")]
    if suffix == "jsonl":
        lines = [json.dumps({"file_name": file, "text": text}) for file, text in rows]
    else:
        lines = ["file_name,text", *(f'"{file}","{text}"' for file, text in rows)]
    (pictures / f"metadata.{suffix}").write_text("\n".join(lines))
    captions = {e.name: e.row()["caption"] for e in list_inputs(pictures) if not e.problem}
    assert captions["c.webp"] == "named above"
    assert captions["more/f.jpg"] == "named above, too"
    assert captions["a.png"] == "a first picture"
    assert captions["d.bmp"] is None
    assert list(problems(pictures)) == ["gone.png"]


def test_names_and_sizes_make_the_hash(pictures: Path) -> None:
    seen = {hash_entries(list_inputs(pictures))}
    changes = [
        lambda: (pictures / "a.txt").write_text("another caption"),
        lambda: (pictures / "metadata.csv").write_text("file_name,text\nd.bmp,word\n"),
        lambda: (pictures / "metadata.csv").write_text("file_name,text\nd.bmp,world\n"),
        lambda: (pictures / "d.bmp").rename(pictures / "g.bmp"),
        lambda: (pictures / "e.png").write_bytes(b"shorter"),
    ]
    for number, change in enumerate(changes, start=2):
        change()
        seen.add(hash_entries(list_inputs(pictures)))
        assert len(seen) == number


def test_what_cannot_be_read_is_said(pictures: Path, tmp_path: Path) -> None:
    outside = tmp_path / "secret.png"
    outside.write_bytes(png("red"))
    (tmp_path / "secret.txt").write_text("a secret")
    (pictures / "inside.png").symlink_to("a.png")
    (pictures / "outside.png").symlink_to(outside)
    (pictures / "nowhere.png").symlink_to("gone.png")
    (pictures / "loop.png").symlink_to("loop.png")
    (pictures / "linked").symlink_to(tmp_path)
    (pictures / "folder.png").mkdir()
    (pictures / "d.txt").symlink_to(tmp_path / "secret.txt")
    (pictures / "old.gif").write_bytes(b"GIF89a")
    os.mkfifo(pictures / "pipe.png")
    link_out = "is a link out of the folder; a list may name its target"
    assert problems(pictures) == {
        "d.bmp": f"d.txt {link_out}",
        "folder.png": "a folder, not an image",
        "linked": "a link to a folder: not followed",
        "loop.png": "loop.png cannot be read: Too many levels of symbolic links",
        "nowhere.png": "nowhere.png cannot be read: No such file or directory",
        "old.gif": ".gif is not read",
        "outside.png": f"outside.png {link_out}",
        "pipe.png": "pipe.png is not a regular file",
    }
    entries = {entry.name: entry for entry in list_inputs(pictures)}
    assert entries["inside.png"].open().size == (80, 70)
    with pytest.raises(ImageError, match="link out of the folder"):
        entries["outside.png"].open()


def test_a_pipe_in_the_place_of_a_file_does_not_block(pictures: Path) -> None:
    (entry,) = list_inputs(pictures / "a.png")
    (pictures / "a.png").unlink()
    os.mkfifo(pictures / "a.png")
    with pytest.raises(ImageError, match="not a regular file"):
        entry.open()


def test_sidecars_that_cannot_be_read_are_problems_of_their_image(pictures: Path) -> None:
    for name, content, reason in (
        ("a.json", b"{", r"a\.json: not JSON"),
        ("a.json", b"[" * 100_000, r"a\.json: not JSON"),
        ("a.json", b'"\xff"', r"a\.json: not a text in UTF-8"),
    ):
        (pictures / name).write_bytes(content)
        with pytest.raises(UsageError, match=reason):
            list_inputs(pictures)[0].row()
    (pictures / "a.json").write_bytes(b'\xef\xbb\xbf["with", "a byte order mark"]')
    assert list_inputs(pictures)[0].row()["json"] == ["with", "a byte order mark"]


def test_hostile_members_of_archives(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("good.png", "../up.png", "a/../../up.png", "/etc/up.png"):
            member = tarfile.TarInfo(name)
            member.size = len(png("red"))
            tar.addfile(member, io.BytesIO(png("red")))
        for name, kind in (("sym.png", tarfile.SYMTYPE), ("hard.png", tarfile.LNKTYPE),
                           ("pipe.png", tarfile.FIFOTYPE), ("dir.png", tarfile.DIRTYPE),
                           ("good.txt", tarfile.SYMTYPE)):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    assert problems(path) == {
        "x.tar/../up.png": "its name leads out of the archive",
        "x.tar//etc/up.png": "its name leads out of the archive",
        "x.tar/a/../../up.png": "its name leads out of the archive",
        "x.tar/dir.png": "not a regular file",
        "x.tar/good.png": "good.txt: not a regular file",
        "x.tar/hard.png": "not a regular file",
        "x.tar/pipe.png": "not a regular file",
        "x.tar/sym.png": "not a regular file",
    }


def test_damaged_archives_give_what_stands_before_the_damage(archive: Path) -> None:
    whole = archive.read_bytes()
    with tarfile.open(archive) as tar:
        second = tar.getmember("a/0002.left.png")
    damages = {
        "damaged or cut": [whole[: second.offset], whole[: second.offset] + b"?" * 1024],
        "damaged": [whole[: second.offset + 100]],
        "cut short": [whole[: second.offset_data + 10]],
    }
    for reason, contents in damages.items():
        for content in contents:
            archive.write_bytes(content)
            entries = list_inputs(archive)
            assert [e.name for e in entries if not e.problem] == ["007.tar/a/0001.png"]
            assert reason in " ".join(problems(archive).values())
    archive.write_bytes(b"no archive")
    assert problems(archive) == {"007.tar": "damaged: truncated header"}


def test_headers_that_go_back_end_the_archive(archive: Path) -> None:
    """A negative size would make a reader of headers go round in circles."""
    content = bytearray(archive.read_bytes())
    content[124:136] = b"\xff" * 10 + (-1024).to_bytes(2, "big", signed=True)
    checksum = sum(content[:148]) + 8 * 32 + sum(content[156:512])
    content[148:156] = f"{checksum:06o}\0 ".encode()
    archive.write_bytes(content)
    assert "007.tar" in problems(archive)


@pytest.mark.parametrize(
    ("name", "message"),
    [("x.zip", "is compressed"), ("x.tar.gz", "is compressed"), ("x.bin", "not a text in UTF-8")],
)
def test_a_source_of_another_kind_is_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\x00\xfe")
    with pytest.raises(UsageError, match=message):
        list_inputs(tmp_path / name)


def test_names_that_are_no_utf8_travel(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    names = [b"\xff\xfe.png", "é\n\u202e.png".encode(), b'"quote\\.png', b" .png"]
    for name in names:
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).write_bytes(png("red"))
    entries = list_inputs(folder)
    assert sorted(os.fsencode(entry.name) for entry in entries) == sorted(names)
    assert all(entry.open().size == (4, 4) for entry in entries)
