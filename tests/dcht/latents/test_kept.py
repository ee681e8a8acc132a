"""What is kept of an encoding is what an equal command on equal content would make."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from dcht import CheckpointError, LatentsStore, Tokenizer, UsageError
from dcht.data.entries import Entry
from dcht.latents.dataset import LatentDataset
from dcht.latents.encode import Encoded, encode_images
from dcht.latents.encode_job import EncodeSettings, Flip
from dcht.latents.inspect import inspect_store

Encode = Callable[..., Encoded]


@pytest.fixture
def encode(saved_tokenizer: Path, images: Path, tmp_path: Path) -> Encode:
    """Encode the six images into `latents/`, in shards of two."""
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    settings = EncodeSettings(size=(32, 32), batch_size=2, shard_size=2)

    def run(out: Path = tmp_path / "latents", *, force: bool = False, **changes: Any) -> Encoded:
        changed = dataclasses.replace(settings, **changes)
        return encode_images(tokenizer, images, out, changed, force=force)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def age(folder: Path) -> None:
    """Make stamps older than SETTLED: as if the store had been made a while after its inputs."""
    for path in folder.glob(".stamp-*"):
        later = path.stat().st_mtime_ns + 5 * 10**9
        os.utime(path, ns=(later, later))


def paint(path: Path) -> None:
    """Another image, of equal size in pixels and bytes, as old as the one before."""
    before = path.stat()
    content = path.read_bytes()
    path.write_bytes(content[:54] + bytes(255 - byte for byte in content[54:]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "d.bmp": lambda folder: paint(folder / "d.bmp"),
    "a.txt": lambda folder: (folder / "a.txt").write_text("another image\nthe first one\n"),
    "e.json": lambda folder: (folder / "e.json").write_text('{"n": 2}'),
    "b.jpg": lambda folder: (folder / "b.jpg").write_bytes(
        b"x" * (folder / "b.jpg").stat().st_size
    ),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("stamped", [True, False])
def test_what_has_changed_is_refused_by_its_name(
    encode: Encode, images: Path, tmp_path: Path, name: str, stamped: bool
) -> None:
    """All changes keep names and sizes. With --force only their shards are made again."""
    (images / "e.json").write_text('{"n": 1}')
    encode()
    out = tmp_path / "latents"
    age(out)
    if not stamped:
        for path in out.glob(".stamp-*"):
            path.unlink()
    before = contents(out)
    assert encode().encoded == 0
    CHANGES[name](images)
    with pytest.raises(UsageError, match=rf"^{name} is not what it was when it was encoded"):
        encode()
    assert {k: v for k, v in contents(out).items() if k in before} == before
    assert encode(force=True).encoded == (1 if name == "b.jpg" else 2)
    encode(tmp_path / "anew")
    assert contents(out) == contents(tmp_path / "anew")


def test_files_that_were_not_written_are_not_read_again(
    encode: Encode, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless a file is as young as the stamp, which a clock's tick may then hide."""
    encode()
    read: list[str] = []
    plain = Entry.read
    monkeypatch.setattr(
        Entry, "read", lambda self, **how: read.append(self.name) or plain(self, **how)
    )
    assert encode().encoded == 0
    assert len(read) == 6
    age(tmp_path / "latents")
    read.clear()
    assert encode().encoded == 0
    assert read == []
    os.utime(images / "c.webp")  # touched, and equal
    assert encode().encoded == 0
    assert sorted(read) == ["c.webp", "d.bmp"]
    # The whole set copied elsewhere: other times, the same content.
    read.clear()
    shutil.copytree(images, tmp_path / "copy")
    shutil.rmtree(images)
    (tmp_path / "copy").rename(images)
    assert encode().encoded == 0
    assert len(read) == 6


def test_times_are_nowhere_but_in_stamps(encode: Encode, images: Path, tmp_path: Path) -> None:
    encode()
    for path in images.rglob("*"):
        os.utime(path, (1, 1))
    encode(tmp_path / "later")
    before, after = contents(tmp_path / "latents"), contents(tmp_path / "later")
    differ = {name for name in before if before[name] != after[name]}
    assert differ == {f".stamp-0000{shard}" for shard in range(3)}


def test_an_unfinished_store_is_compared_too(encode: Encode, images: Path, tmp_path: Path) -> None:
    """Also by the run of another part, before it says that the store is finished."""
    assert encode(part=(0, 2)).missing == 1
    (images / "a.txt").write_text("another image\nthe first one\n")
    with pytest.raises(UsageError, match=r"^a\.txt is not what it was"):
        encode(part=(0, 2))
    with pytest.raises(UsageError, match=r"^a\.txt is not what it was"):
        encode(part=(1, 2))
    assert not (tmp_path / "latents" / "manifest.json").exists()
    with pytest.raises(UsageError, match=r"^a\.txt is not what it was"):
        encode()
    assert encode(force=True).encoded == 2  # the shard of a.txt
    encode(tmp_path / "anew")
    assert contents(tmp_path / "latents") == contents(tmp_path / "anew")


def test_other_inputs_are_named(encode: Encode, images: Path, tmp_path: Path) -> None:
    encode()
    shutil.copy(images / "a.png", images / "aa.png")
    with pytest.raises(UsageError, match=r"made of other inputs: aa\.png is new; use --force"):
        encode()
    (images / "aa.png").unlink()
    (images / "d.bmp").rename(tmp_path / "d.bmp")
    with pytest.raises(UsageError, match=r"d\.bmp is not there any more"):
        encode()
    (tmp_path / "d.bmp").rename(images / "d.bmp")
    (images / "a.txt").write_text("longer than it was before this test began")
    with pytest.raises(UsageError, match=r"a\.txt is not what it was"):
        encode(shard_size=4)
    (images / "a.txt").write_text("a first image\nthe first one\n")
    assert encode().encoded == 0
    (images / "metadata.csv").write_text("file_name,text\nc.webp,word\n")
    with pytest.raises(UsageError, match="what tables say of its images is another"):
        encode()


def test_a_store_of_before_is_read_and_not_encoded_into(encode: Encode, tmp_path: Path) -> None:
    """Its shards do not say what their inputs held."""
    encode()
    out = tmp_path / "latents"
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["sha256"] = {}
    (out / "manifest.json").write_text(json.dumps(manifest))
    for path in out.glob("shard-*.safetensors"):
        tensors = load_file(path)
        del tensors["sha256"]
        save_file(tensors, path, metadata={"errors": "[]"})
    store = LatentsStore(out)
    assert inspect_store(store)[0].images == 6
    assert LatentDataset(out)[5].file == "more/f.jpg"
    with pytest.raises(UsageError, match=r"before dcht recorded what inputs hold.*use --force"):
        encode()
    assert encode(force=True).encoded == 6
    encode(tmp_path / "anew")
    assert contents(out) == contents(tmp_path / "anew")


def test_a_damaged_shard_is_named_and_made_again(encode: Encode, tmp_path: Path) -> None:
    encode()
    out = tmp_path / "latents"
    whole = contents(out)
    (out / "shard-00001.safetensors").write_bytes(b"damaged")
    with pytest.raises(UsageError, match=r"shard-00001\.safetensors is missing or damaged"):
        encode()
    assert encode(force=True).encoded == 2
    assert contents(out) == whole


def test_an_error_is_gone_once_its_cause_is(encode: Encode, images: Path, tmp_path: Path) -> None:
    good = (images / "a.png").read_bytes()
    (images / "a.png").write_bytes(bytes(len(good)))
    assert encode().skipped == 1
    (images / "a.png").write_bytes(good)
    with pytest.raises(UsageError, match=r"^a\.png is not what it was"):
        encode()
    assert encode(force=True).skipped == 0
    assert not (tmp_path / "latents" / "errors.jsonl").exists()


def test_two_runs_at_once_do_not_hinder_each_other(
    encode: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second takes what the first is writing for what a killed one left."""
    encode(tmp_path / "whole")
    replace, started = os.replace, []

    def replace_late(source: Path, target: Path) -> None:
        if not started and str(target).endswith("shard-00001.safetensors"):
            started.append(True)
            encode()
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_late)
    encode()
    assert started
    assert contents(tmp_path / "latents") == contents(tmp_path / "whole")


@pytest.mark.parametrize("flip", Flip)
def test_a_key_flip_of_the_users_own_flips_nothing(
    encode: Encode, images: Path, tmp_path: Path, flip: Flip
) -> None:
    (images / "e.json").write_text('{"flip": true, "n": 1}')
    encode(flip=flip)
    store = LatentsStore(tmp_path / "latents")
    found = [(row["file"], store.is_flipped(k)) for k, row in enumerate(store.rows)]
    names = ["a.png", "b.jpg", "c.webp", "d.bmp", "e.png", "more/f.jpg"]
    if flip is Flip.none:
        assert found == [(name, False) for name in names]
        assert store.rows[4]["flip"] is True
    else:
        assert found == [(name, mirrored) for name in names for mirrored in (False, True)]
        assert [row.get("flip") for row in store.rows] == [None, True] * 6


def flip_a_bit(path: Path) -> None:
    """Of the first tensor, or of a text."""
    content = bytearray(path.read_bytes())
    header = int.from_bytes(content[:8], "little")
    content[8 + header if path.suffix == ".safetensors" else -9] ^= 1
    path.write_bytes(content)


def cut_a_row(path: Path) -> None:
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])


DAMAGE: dict[str, tuple[str, Callable[[Path], object], int, bool]] = {
    "a bit of a tensor": ("shard-00001.safetensors", flip_a_bit, 2, False),
    "a bit of a row": ("shard-00001.jsonl", lambda path: path.write_bytes(
        path.read_bytes().replace(b"c.webp", b"c.webq")), 2, False),
    "fewer rows": ("shard-00001.jsonl", cut_a_row, 2, True),
    "no rows": ("shard-00001.jsonl", Path.unlink, 2, True),
    "no tensors": ("shard-00001.safetensors", Path.unlink, 2, True),
    "half of the tensors": ("shard-00001.safetensors", lambda path: path.write_bytes(
        path.read_bytes()[:-20]), 2, True),
    "no list of errors": ("errors.jsonl", Path.unlink, 0, True),
    "a bit of the list": ("errors.jsonl", flip_a_bit, 0, False),
}  # fmt: skip
"""File, what is done to it, how many images are then encoded again, and whether it shows without
reading every byte."""


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_damaged_is_refused_or_made_again(
    encode: Encode, images: Path, tmp_path: Path, kind: str
) -> None:
    name, damage, again, plain = DAMAGE[kind]
    (images / "b.jpg").write_text("no image")
    encode()
    out = tmp_path / "latents"
    whole = contents(out)
    damage(out / name)
    damaged = contents(out)
    assert damaged != whole
    if plain:
        with pytest.raises(UsageError, match=rf"{name}.*; dcht inspect .* and --force"):
            encode()
    else:
        assert encode().encoded == 0
    assert contents(out) == damaged
    assert encode(force=True).encoded == again
    assert contents(out) == whole


def test_of_a_store_without_a_manifest_that_can_be_read_nothing_is_known(
    encode: Encode, tmp_path: Path
) -> None:
    encode()
    out = tmp_path / "latents"
    whole = contents(out)
    (out / "manifest.json").write_bytes(whole["manifest.json"][:-40])
    with pytest.raises(CheckpointError, match=r"manifest\.json is not JSON"):
        encode()
    assert encode(force=True).encoded == 6
    assert contents(out) == whole


def test_a_shard_without_its_rows_is_a_missing_one(encode: Encode, tmp_path: Path) -> None:
    """In a store that was not finished yet; there a run goes on without being forced."""
    encode(part=(0, 2))
    (tmp_path / "latents" / "shard-00000.jsonl").unlink()
    assert encode().encoded == 4
    encode(tmp_path / "anew")
    assert contents(tmp_path / "latents") == contents(tmp_path / "anew")


def test_what_a_killed_mending_leaves_does_not_pass_for_whole(
    encode: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it removes last: without the manifest nobody knows what is damaged."""
    encode()
    out = tmp_path / "latents"
    whole = contents(out)
    unlink = Path.unlink
    for allowed in range(5):
        flip_a_bit(out / "shard-00001.safetensors")
        left = iter(range(allowed))

        def killed(path: Path, missing_ok: bool = False, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            unlink(path, missing_ok=missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", killed)
            with pytest.raises(KeyboardInterrupt):
                encode(force=True)
        encode(force=True)
        assert contents(out) == whole, allowed
