"""What counts as an input, what it is called, and what comes along with it."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from dcht.data.entries import MAX_SIDECAR, Content, content_sha256, digest_all, hash_entries
from dcht.data.sources import find_inputs, list_inputs
from dcht.errors import UsageError
from dcht.images import ImageError, list_images


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


def test_a_folder_gives_what_list_images_gives(images: Path) -> None:
    found = list_inputs(images)
    expected = [path.relative_to(images).as_posix() for path in list_images(images)]
    assert [entry.name for entry in found] == expected
    assert not problems(images)
    opened = found[0].open()
    with Image.open(images / "a.png") as image:
        assert opened.tobytes() == image.convert("RGB").tobytes()


def test_archives_are_read_where_they_are(archive: Path) -> None:
    before = archive.parent.parent.stat().st_mtime_ns, sorted(archive.parent.iterdir())
    found = {entry.name: entry for entry in list_inputs(archive)}
    assert list(found) == ["007.tar/a/0001.png", "007.tar/a/0002.left.png", "007.tar/b/x.y.png"]
    colors = [entry.open().getpixel((0, 0)) for entry in found.values()]
    assert colors == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    rows = [entry.row() for entry in found.values()]
    assert rows[0] == {"score": 3, "file": "007.tar/a/0001.png", "caption": "a red one"}
    assert (rows[1]["caption"], rows[1]["captions"]) == (
        "green", ["green", "lime", "a green one"],
    )  # fmt: skip
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
def test_lists_name_images_with_their_captions(images: Path, tmp_path: Path, name: str) -> None:
    content = {
        "list.txt": "pictures/c.webp\n\npictures/a.png\n",
        "list.jsonl": '{"path": "pictures/c.webp", "caption": "from the list", "n": 1}\n'
        '{"file_name": "pictures/a.png", "text": "not this: a.txt goes before"}\n',
        "list.csv": 'file_name,text,n\npictures/c.webp,"from the list",1\npictures/a.png,,\n',
    }
    (tmp_path / name).write_text(content[name])
    rows = [entry.row() for entry in list_inputs(tmp_path / name)]
    assert [row["file"] for row in rows] == ["pictures/a.png", "pictures/c.webp"]
    assert rows[0]["captions"] == ["a first image", "the first one"]
    expected = None if name == "list.txt" else "from the list"
    assert rows[1]["caption"] == expected
    assert [entry.open().size for entry in list_inputs(tmp_path / name)] == [(80, 70), (112, 70)]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_metadata_file_as_imagefolder_has_it(images: Path, suffix: str) -> None:
    rows = [("c.webp", "named above"), ("more/f.jpg", "named above, too"), ("gone.png", "x")]
    if suffix == "jsonl":
        lines = [json.dumps({"file_name": file, "text": text}) for file, text in rows]
    else:
        lines = ["file_name,text", *(f'"{file}","{text}"' for file, text in rows)]
    (images / f"metadata.{suffix}").write_text("\n".join(lines))
    captions = {e.name: e.row()["caption"] for e in list_inputs(images) if not e.problem}
    assert captions["c.webp"] == "named above"
    assert captions["more/f.jpg"] == "named above, too"
    assert captions["a.png"] == "a first image"
    assert captions["d.bmp"] is None
    assert list(problems(images)) == ["gone.png"]


def test_names_and_sizes_make_the_hash(images: Path) -> None:
    seen = {hash_entries(list_inputs(images))}
    changes = [
        lambda: (images / "a.txt").write_text("another caption"),
        lambda: (images / "metadata.csv").write_text("file_name,text\nd.bmp,word\n"),
        lambda: (images / "metadata.csv").write_text("file_name,text\nd.bmp,world\n"),
        lambda: (images / "d.bmp").rename(images / "g.bmp"),
        lambda: (images / "e.png").write_bytes(b"shorter"),
    ]
    for number, change in enumerate(changes, start=2):
        change()
        seen.add(hash_entries(list_inputs(images)))
        assert len(seen) == number


def test_what_cannot_be_read_is_said(images: Path, tmp_path: Path) -> None:
    outside = tmp_path / "secret.png"
    outside.write_bytes(png("red"))
    (tmp_path / "secret.txt").write_text("a secret")
    (images / "inside.png").symlink_to("a.png")
    (images / "outside.png").symlink_to(outside)
    (images / "nowhere.png").symlink_to("gone.png")
    (images / "loop.png").symlink_to("loop.png")
    (images / "linked").symlink_to(tmp_path)
    (images / "folder.png").mkdir()
    (images / "d.txt").symlink_to(tmp_path / "secret.txt")
    (images / "old.heic").write_bytes(b"ftypheic")
    os.mkfifo(images / "pipe.png")
    link_out = "is a link out of the folder; --follow-links reads it"
    assert problems(images) == {
        "d.bmp": f"d.txt {link_out}",
        "folder.png": "a folder, not an image",
        "linked": "a link to a folder: not followed",
        "loop.png": "loop.png cannot be read: Too many levels of symbolic links",
        "nowhere.png": "nowhere.png cannot be read: No such file or directory",
        "old.heic": ".heic is not read",
        "outside.png": f"outside.png {link_out}",
        "pipe.png": "pipe.png is not a regular file",
    }
    entries = {entry.name: entry for entry in list_inputs(images)}
    assert entries["inside.png"].open().size == (80, 70)
    with pytest.raises(ImageError, match="link out of the folder"):
        entries["outside.png"].open()


def test_a_pipe_in_the_place_of_a_file_does_not_block(images: Path) -> None:
    (entry,) = list_inputs(images / "a.png")
    (images / "a.png").unlink()
    os.mkfifo(images / "a.png")
    with pytest.raises(ImageError, match="not a regular file"):
        entry.open()


def test_sidecars_that_cannot_be_read_are_problems_of_their_image(images: Path) -> None:
    for name, content, reason in (
        ("a.json", b"{", r"a\.json is not JSON"),
        ("a.json", b"[" * 100_000, r"a\.json is not JSON"),
        ("a.json", b'"\xff"', r"a\.json: not a text in UTF-8"),
    ):
        (images / name).write_bytes(content)
        with pytest.raises(UsageError, match=reason):
            list_inputs(images)[0].row()
    (images / "a.json").write_bytes(b'\xef\xbb\xbf["with", "a byte order mark"]')
    assert list_inputs(images)[0].row()["json"] == ["with", "a byte order mark"]


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


def rows(source: Path) -> dict[str, dict[str, object]]:
    return {entry.name: entry.row() for entry in list_inputs(source) if not entry.problem}


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_every_row_of_an_image_gives_a_caption(images: Path, suffix: str) -> None:
    """In one table, in two of them, and in a list: an image is one input with all its captions."""
    texts = ["one", "two", "one", "three"]
    if suffix == "jsonl":
        lines = [json.dumps({"file_name": "c.webp", "text": text, "n": text}) for text in texts]
    else:
        lines = ["file_name,text,n", *(f"c.webp,{text},{text}" for text in texts)]
    (images / f"metadata.{suffix}").write_text("\n".join(lines))
    (images / "more" / "metadata.csv").write_text("file_name,text\n../c.webp,four\n")
    row = rows(images)["c.webp"]
    assert row["captions"] == ["one", "two", "three", "four"]
    assert (row["caption"], row["n"]) == ("one", "one")
    (images / "more" / "metadata.csv").unlink()
    (entry,) = list_inputs((images / f"metadata.{suffix}").rename(images / f"list.{suffix}"))
    assert entry.row()["captions"] == ["one", "two", "three"]


def test_a_json_beside_an_image_goes_before_a_table(images: Path) -> None:
    """Whatever the keys are called."""
    (images / "e.json").write_text('{"text": "beside", "score": 1}')
    line = {"file_name": "e.png", "captions": ["of", "the table"], "score": 2, "more": 3}
    (images / "metadata.jsonl").write_text(json.dumps(line))
    row = rows(images)["e.png"]
    assert row["caption"] == "beside"
    assert "captions" not in row
    assert (row["score"], row["more"]) == (1, 3)


def test_long_fields_of_a_csv_are_read(images: Path) -> None:
    long = "a cat and " * 20_000
    (images / "metadata.csv").write_text(f'file_name,text\nd.bmp,"{long}"\ne.png,behind it\n')
    assert not problems(images)
    assert rows(images)["d.bmp"]["caption"] == long
    assert rows(images)["e.png"]["caption"] == "behind it"


def test_a_csv_row_that_loses_a_part_of_its_caption_is_listed(images: Path) -> None:
    table = "file_name, text\nd.bmp,a cat, sitting\ne.png,whole\n"
    (images / "metadata.csv").write_text(table)
    assert list(problems(images)) == ["metadata.csv line 2"]
    assert "quotes" in problems(images)["metadata.csv line 2"]
    assert rows(images)["e.png"]["caption"] == "whole"


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_only_line_ends_end_a_line(images: Path, mark: str) -> None:
    (images / "d.txt").write_bytes(f"a{mark}b\r\nsecond\rthird\n".encode())
    assert rows(images)["d.bmp"]["captions"] == [f"a{mark}b", "second", "third"]
    odd = f"x{mark}y.png"
    (images / odd).write_bytes(png("red"))
    (images / "list.txt").write_bytes(f"{odd}\r\na.png".encode())
    assert [entry.name for entry in list_inputs(images / "list.txt")] == ["a.png", odd]


def test_a_caption_that_is_no_text_is_refused(images: Path) -> None:
    (images / "d.json").write_text('{"caption": "half \\ud800 a pair"}')
    entry = next(entry for entry in list_inputs(images) if entry.name == "d.bmp")
    with pytest.raises(UsageError, match="caption is no text"):
        entry.row()


def test_tables_and_texts_that_are_not_read_are_named(images: Path, archive: Path) -> None:
    for name in ("captions.csv", "more/labels.json", "c.TXT", "gone.txt", "f.parquet"):
        (images / name).write_text("file,caption\na.png,x\n")
    (images / "metadata.csv").write_text("file_name,text\nd.bmp,word\n")
    found = find_inputs(images)
    assert found.unread == ["captions.csv", "f.parquet", "gone.txt", "more/labels.json"]
    assert found.tables == ["metadata.csv"]
    assert rows(images)["c.webp"]["captions"] == ["file,caption", "a.png,x"]
    assert not problems(images)
    write_tar(archive, {"1.png": png("red"), "1.txt": b"x", "1.cls": b"3", "labels.csv": b"x"})
    assert find_inputs(archive).unread == ["007.tar/labels.csv"]


def test_what_macos_adds_to_an_archive_is_no_image(archive: Path) -> None:
    twin = b"\0\5\26\7 of macOS"
    write_tar(
        archive,
        {"./._1.png": twin, "./1.png": png("red"), "./1.txt": b"x", "._1.txt": twin,
         "__MACOSX/1.png": twin},
    )  # fmt: skip
    found = find_inputs(archive)
    assert [(entry.row()["caption"], entry.problem) for entry in found.entries] == [("x", "")]
    assert found.unread == []


def test_lists_of_different_folders_keep_their_images_apart(tmp_path: Path) -> None:
    for name, color in (("one", "red"), ("two", "blue")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(png(color))
        (tmp_path / name / "list.txt").write_text("x.png\n")
    entries = list_inputs([tmp_path / "one" / "list.txt", tmp_path / "two" / "list.txt"])
    assert [entry.name for entry in entries] == ["one/x.png", "two/x.png"]
    assert [entry.open().getpixel((0, 0)) for entry in entries] == [(255, 0, 0), (0, 0, 255)]


def test_an_image_that_two_sources_name_is_one(images: Path) -> None:
    twice = list_inputs([images, images / "a.png", images])
    once = [f"pictures/{entry.name}" for entry in list_inputs(images)]
    assert [entry.name for entry in twice] == once


def test_an_image_of_two_sources_has_the_captions_of_both(images: Path, tmp_path: Path) -> None:
    for name, words in (("one", "A"), ("two", "B")):
        row = {"file_name": f"{images.name}/c.webp", "caption": words, name: 1}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    for sources, captions in (([one, two], ["A", "B"]), ([two, one], ["B", "A"])):
        (entry,) = list_inputs(sources)
        row = entry.row()
        assert row["captions"] == captions and row["one"] == row["two"] == 1
    found = {entry.name: entry.row()["caption"] for entry in list_inputs([images, one])}
    assert [words for name, words in found.items() if name.endswith("c.webp")] == ["A"]


def test_a_caption_and_more_of_them_are_all_kept(images: Path) -> None:
    rows = [
        {"file_name": "c.webp", "caption": "main", "captions": ["x", "y"], "text": "other"},
        {"file_name": "d.bmp", "caption": "y", "captions": ["x", "y"]},
        {"file_name": "e.png", "text": "alone"},
    ]
    (images / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {entry.name: entry.row() for entry in list_inputs(images)}
    assert found["c.webp"]["captions"] == ["x", "y", "main"]
    assert found["d.bmp"]["captions"] == ["x", "y"]
    assert found["e.png"]["caption"] == "alone"


@pytest.mark.parametrize("packed", [False, True])
def test_a_text_is_of_the_image_that_has_its_very_name(tmp_path: Path, packed: bool) -> None:
    """Names that differ in case alone, as ids in base 64 do."""
    folder = tmp_path / "ids"
    folder.mkdir()
    for name in ("aBc.png", "AbC.png", "B.JPG", "xY.png", "XY.png", "Xy.png"):
        Image.new("RGB", (8, 8)).save(folder / name)
    for name in ("aBc", "b", "xy", "XY"):
        (folder / f"{name}.txt").write_text(f"of {name}")
    if packed:
        with tarfile.open(tmp_path / "ids.tar", "w") as archive:
            for path in sorted(folder.iterdir()):
                archive.add(path, path.name)
    entries = list_inputs(tmp_path / "ids.tar" if packed else folder)
    assert {entry.name.rpartition("/")[2]: entry.row()["caption"] for entry in entries} == {
        "aBc.png": "of aBc", "AbC.png": None, "B.JPG": "of b",
        "XY.png": "of XY", "xY.png": "of xy", "Xy.png": "of xy",
    }  # fmt: skip


def test_what_is_read_has_a_hash(images: Path, archive: Path) -> None:
    """Of the image, the text and the fields: a change of equal size shows."""
    (images / "a.json").write_text('{"n": 1}')
    expected = b"".join(
        hashlib.sha256((images / name).read_bytes()).digest()
        for name in ("a.png", "a.txt", "a.json")
    )
    assert next(digest_all(list_inputs(images))) == expected
    whole = content_sha256(list_inputs(images))
    pixels = bytearray((images / "d.bmp").read_bytes())
    pixels[-1] ^= 1
    (images / "d.bmp").write_bytes(pixels)
    assert content_sha256(list_inputs(images)) != whole
    members = list(digest_all(list_inputs(archive)))
    assert members[0][:32] == hashlib.sha256(png("red")).digest()
    assert members[0][32:64] == hashlib.sha256(b"a red one\n").digest()
    assert members[2][64:] == bytes(32)
    # What cannot be read differs by the reason.
    assert Content(problem="x").sha256() != Content(problem="y").sha256()


def test_patterns_stand_for_what_a_shell_makes_of_them(archive: Path) -> None:
    folder = archive.parent
    write_tar(folder / "008.tar", {"c.png": png("white")})
    down = list_inputs(f"{folder}/{{008..007}}.tar")
    assert [entry.name for entry in down] == [entry.name for entry in list_inputs(folder)]


@pytest.mark.parametrize(
    "pattern",
    ["{0..99999999}.tar", "{000007..999999999999999999}.tar", "x{1..9}{1..99999999}.tar",
     "{0.." + "9" * 5000 + "}.tar", "{}.tar", "{a,}{b,}{c..d}", "[", "{0..9..2}.tar"],
)  # fmt: skip
@pytest.mark.timeout(60)
def test_a_pattern_of_too_much_answers_at_once(archive: Path, pattern: str) -> None:
    with pytest.raises(UsageError, match="is not there"):
        list_inputs(f"{archive.parent}/{pattern}")


def test_a_pattern_is_bounded(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcht.data.sources.MAX_PATTERN", 3)
    with pytest.raises(UsageError, match="stands for more than 3 paths"):
        list_inputs(f"{images}/*")
    with pytest.raises(UsageError, match="stands for more than 3 paths"):
        list_inputs(f"{images}/{{a,a,a,a}}.png")


def test_images_of_other_formats_alone_are_said(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.heic", "b.HEIC", "c.jxl"):
        (tmp_path / "in" / name).write_bytes(b"ftypheic")
    for source in (tmp_path / "in", [tmp_path / "in" / "a.heic"]):
        with pytest.raises(
            UsageError, match=r"no images that can be used: \.heic.* not read; convert"
        ):
            list_inputs(source)
    with pytest.raises(UsageError, match=r"can be used: \.heic, \.jxl are not read"):
        list_images(tmp_path / "in")


@pytest.mark.timeout(60)
def test_headers_of_an_archive_are_bounded(tmp_path: Path) -> None:
    """A header may say that its name or its records fill the rest of a large file."""
    path = tmp_path / "large.tar"
    for kind in (b"x", b"L", b"K"):
        info = tarfile.TarInfo("long")
        info.type, info.size = kind, 1 << 33
        header = info.tobuf(tarfile.GNU_FORMAT)
        with path.open("wb") as file:
            file.write(header)
            file.truncate(1 << 34)  # sparse
        assert "damaged" in problems(path)["large.tar"]


def test_a_large_file_beside_an_image_is_not_read(images: Path) -> None:
    with (images / "a.json").open("wb") as file:
        file.truncate(MAX_SIDECAR + 1)
    with pytest.raises(ImageError, match=r"a\.json: .* the cap is"):
        list_inputs(images)[0].row()


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".txt"])
def test_an_image_that_is_named_in_several_ways_is_one(images: Path, suffix: str) -> None:
    """In one list, in a list beside the folder, and in the folder's own table."""
    ways = ["c.webp", "./c.webp", "more/../c.webp", "more//f.jpg", "more/f.jpg"]
    lines = {
        ".jsonl": [json.dumps({"file_name": way, "caption": way}) for way in ways],
        ".csv": ["file_name,caption", *(f"{way},{way}" for way in ways)],
        ".txt": ways,
    }[suffix]
    listing = images / f"metadata{suffix}"
    listing.write_text("\n".join(lines) + "\n")
    entries = list_inputs(listing)
    assert [entry.name for entry in entries] == ["c.webp", "more/f.jpg"]
    if suffix != ".txt":
        assert [entry.row()["captions"] for entry in entries] == [ways[:3], ways[3:]]
        found = {entry.name: entry.row() for entry in list_inputs(images)}
        assert found["c.webp"]["captions"] == ways[:3]


def test_a_list_beside_a_folder_names_its_images(images: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    listing = tmp_path / "lists" / "some.txt"
    listing.write_text(f"../{images.name}/a.png\n")
    names = [entry.name for entry in list_inputs([images, listing])]
    assert names == [f"{images.name}/{entry.name}" for entry in list_inputs(images)]
    assert [entry.name for entry in list_inputs(listing)] == [f"../{images.name}/a.png"]
