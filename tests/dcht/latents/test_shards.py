"""Stores that were damaged, cut short, or made up: one line, whatever reads them."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dcht import CheckpointError, LatentDataset, LatentsStore, Tokenizer, UsageError
from dcht.files import MAX_JSON
from dcht.latents.decode import decode_store
from dcht.latents.encode import encode_images
from dcht.latents.encode_job import EncodeSettings
from dcht.latents.inspect import inspect_store


@pytest.fixture
def latents(images: Path, saved_tokenizer: Path, tmp_path: Path) -> Path:
    """The six images, in two shards, in a store that does not know its own hashes."""
    out = tmp_path / "latents"
    settings = EncodeSettings(size=(32, 32), shard_size=4)
    encode_images(Tokenizer.from_pretrained(saved_tokenizer), images, out, settings)
    change_manifest(out, lambda manifest: manifest.update(sha256={}))
    return out


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def read_everything(folder: Path) -> None:
    store = LatentsStore(folder)
    inspect_store(store)
    for index in range(len(store)):
        store.read(index)
        store.row(index)


def lines(folder: Path) -> list[bytes]:
    return (folder / "shard-00000.jsonl").read_bytes().splitlines(keepends=True)


ROWS: dict[str, Callable[[list[bytes]], bytes]] = {
    "no JSON": lambda rows: b"".join([rows[0], b"{", *rows[2:]]),
    "no UTF-8": lambda rows: b"".join([b'{"file": "\xff"}\n', *rows[1:]]),
    "no object": lambda rows: b"".join([b"[]\n", *rows[1:]]),
    "no file": lambda rows: b"".join([b'{"caption": null}\n', *rows[1:]]),
    "a number for a name": lambda rows: b"".join([b'{"file": 1, "caption": null}\n', *rows[1:]]),
    "a list for a caption": lambda rows: b"".join([b'{"file": "x", "caption": []}\n', *rows[1:]]),
    "nested": lambda rows: b"[" * 100_000 + b"\n" + b"".join(rows[1:]),
    "one less": lambda rows: b"".join(rows[:-1]),
    "one more": lambda rows: b"".join([*rows, rows[0]]),
    "empty": lambda rows: b"",
}


@pytest.mark.parametrize("kind", ROWS)
def test_rows_that_are_none(latents: Path, kind: str) -> None:
    (latents / "shard-00000.jsonl").write_bytes(ROWS[kind](lines(latents)))
    store = LatentsStore(latents)
    with pytest.raises(CheckpointError, match=r"shard-00000\.jsonl"):
        _ = store.rows
    with pytest.raises(CheckpointError, match=r"shard-00000\.jsonl"):
        inspect_store(LatentsStore(latents))
    if kind != "one more":  # which is never asked for
        with pytest.raises(CheckpointError, match=r"^[^\n]*shard-00000\.jsonl[^\n]*$"):
            for index in range(4):
                LatentDataset(latents)[index]


def test_a_row_without_an_end_is_not_read_to_it(latents: Path) -> None:
    with (latents / "shard-00000.jsonl").open("r+b") as file:
        file.truncate(1 << 34)  # sparse
    with pytest.raises(CheckpointError, match=f"more than {MAX_JSON:,} bytes"):
        read_everything(latents)


def without(name: str) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors.pop(name)


def changed(
    name: str, change: Callable[[torch.Tensor], torch.Tensor]
) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors.update({name: change(tensors[name]).contiguous()})


def poisoned(residual: torch.Tensor) -> torch.Tensor:
    residual[0, 0, 0, 0] = torch.nan
    return residual


TENSORS = {
    "has no tensor 'indices'": without("indices"),
    "has no tensor 'residual'": without("residual"),
    "indices is U16 \\(4,\\)": changed("indices", lambda t: t[:, 0, 0]),
    "indices is I64": changed("indices", lambda t: t.long()),
    "indices is F32 \\(\\)": changed("indices", lambda t: torch.zeros(())),
    "residual is F32": changed("residual", lambda t: t.float()),
    "residual is F16 .* expected F16": changed("residual", lambda t: t[:, 1:]),
    "4 images and 3 residuals": changed("residual", lambda t: t[1:]),
    "holds index": changed("indices", lambda t: (t.int() * 0 + 65535).to(torch.uint16)),
    "a residual that is NaN or infinite": changed("residual", poisoned),
}  # fmt: skip


@pytest.mark.parametrize("message", TENSORS)
def test_tensors_that_do_not_fit(latents: Path, message: str) -> None:
    path = latents / "shard-00000.safetensors"
    tensors = load_file(path)
    TENSORS[message](tensors)
    save_file(tensors, path, metadata={"errors": "[]"})
    with pytest.raises(CheckpointError, match=message):
        read_everything(latents)
    with pytest.raises(CheckpointError, match=message):
        LatentDataset(latents)[0]


def test_fewer_images_than_counted(latents: Path) -> None:
    path = latents / "shard-00001.safetensors"
    tensors = {name: value[:1].contiguous() for name, value in load_file(path).items()}
    save_file(tensors, path, metadata={"errors": "[]"})
    with pytest.raises(CheckpointError, match="1 images and 1 residuals; expected 2"):
        read_everything(latents)


IN_ITS_PLACE: tuple[Callable[[Path], object], ...] = (
    os.mkfifo,
    os.mkdir,
    lambda path: path.symlink_to("/dev/zero"),
    lambda path: path.write_bytes(b"\xff" * 100),
    lambda path: None,
)


@pytest.mark.parametrize("make", IN_ITS_PLACE)
@pytest.mark.parametrize("name", ["shard-00000.safetensors", "shard-00000.jsonl"])
def test_something_else_in_the_place_of_a_file(
    latents: Path, name: str, make: Callable[[Path], object]
) -> None:
    (latents / name).unlink()
    make(latents / name)
    with pytest.raises(CheckpointError, match=rf"^[^\n]*{name}[^\n]*$"):
        read_everything(latents)


MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no file of a store": lambda m: m.update(sha256={"../../../etc/passwd": "0"}),
    "'/dev/zero', which is no file": lambda m: m.update(sha256={"/dev/zero": "0"}),
    "sha256: \\[\\] is not of type dict": lambda m: m.update(sha256=[]),
    "sha256.shard-00000.jsonl: 5 is not of type str": lambda m: m.update(
        sha256={"shard-00000.jsonl": 5}
    ),
    "count is 7": lambda m: m.update(count=7),
    "shards is": lambda m: m.update(shards=[-1, 7], count=6),
    "shards is \\[\\]": lambda m: m.update(shards=[], count=0),
    "expected 10": lambda m: m.update(shards=[10], count=10),
    "shard-00002": lambda m: m.update(shards=[4, 2, 1], count=7),
    "codebook_size": lambda m: m["plan"].update(codebook_size=10**30),
    "codebook_size is -1": lambda m: m["plan"].update(codebook_size=-1),
    "latent_channels": lambda m: m["plan"].update(latent_channels=0),
    "latent_height": lambda m: m["plan"].update(latent_height=10**12),
    "plan.width: True is not of type int": lambda m: m["plan"].update(width=True),
    "residual_std": lambda m: m["plan"].update(residual_std=-1.0),
    "5 is not of type str": lambda m: m["plan"].update(transform=5),
    "None is not of type str": lambda m: m["plan"].update(flip=None),
    "format": lambda m: m.update(format="another"),
    "this reads 'dcht-latents-1'": lambda m: m.update(plan=[]),
    "unknown settings": lambda m: m.update(more=1),
    "settings skipped are missing": lambda m: m.pop("skipped"),
}


@pytest.mark.parametrize("message", MANIFESTS)
def test_manifests_that_cannot_be(latents: Path, message: str) -> None:
    change_manifest(latents, MANIFESTS[message])
    with pytest.raises(CheckpointError, match=message):
        read_everything(latents)


@pytest.mark.parametrize("content", [b"[]", b"null", b"{", b"[" * 100_000, b"\xff", b"",
                                     b'{"a": NaN}', b'{"format": 1e999}'])  # fmt: skip
def test_a_manifest_that_is_none(latents: Path, content: bytes) -> None:
    (latents / "manifest.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"^[^\n]*manifest\.json[^\n]*$"):
        LatentsStore(latents)
    (latents / "manifest.json").unlink()
    os.mkfifo(latents / "manifest.json")
    with pytest.raises(CheckpointError, match="not a regular file"):
        LatentsStore(latents)


def test_names_of_a_store_are_printed_in_one_line(latents: Path) -> None:
    """The words of a manifest come from outside too."""
    change_manifest(latents, lambda m: m["plan"].update(transform="x\n\x1b]0;y"))
    found, _ = inspect_store(LatentsStore(latents))
    assert "x\\n\\x1b]0;y" in found.lines()
    assert "\x1b" not in found.lines()


def test_images_of_other_latents_are_made_anew(
    latents: Path, saved_tokenizer: Path, tmp_path: Path
) -> None:
    """Their names, the tokenizer and the path are as they were."""
    tokenizer, out = Tokenizer.from_pretrained(saved_tokenizer), tmp_path / "seen"
    decode_store(tokenizer, LatentsStore(latents), out)
    before = {path.name: path.read_bytes() for path in out.rglob("*.png")}
    path = latents / "shard-00000.safetensors"
    tensors = load_file(path)
    tensors["residual"][0] *= -3
    save_file(tensors, path, metadata={"errors": "[]"})
    assert decode_store(tokenizer, LatentsStore(latents), out) == 6
    decode_store(tokenizer, LatentsStore(latents), tmp_path / "anew")
    after = {path.name: path.read_bytes() for path in out.rglob("*.png")}
    assert after == {path.name: path.read_bytes() for path in (tmp_path / "anew").rglob("*.png")}
    assert after["a.png.png"] != before["a.png.png"]


def test_rows_of_one_name_are_not_one_image(
    latents: Path, saved_tokenizer: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in lines(latents)]
    names = ["up.png", "../../up.png", "/up.png", "half \ud800.png"]
    content = [json.dumps(row | {"file": name}) for row, name in zip(rows, names, strict=True)]
    (latents / "shard-00000.jsonl").write_text("\n".join(content) + "\n")
    tokenizer, out = Tokenizer.from_pretrained(saved_tokenizer), tmp_path / "seen"
    assert decode_store(tokenizer, LatentsStore(latents), out, limit=4) == 2
    errors = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    assert [row["file"] for row in errors] == ["../../up.png", "/up.png"]
    assert all("would be that of up.png" in row["reason"] for row in errors)
    assert (out / "half \\ud800.png.png").exists()


def test_encoding_over_junk_is_said(images: Path, saved_tokenizer: Path, tmp_path: Path) -> None:
    out = tmp_path / "latents"
    settings = EncodeSettings(size=(32, 32))
    for content in (b"[]", b"[" * 100_000, b'{"width": -1}', b"\xff"):
        out.mkdir(exist_ok=True)
        (out / ".plan.json").write_bytes(content)
        with pytest.raises(UsageError, match="is not a store of latents"):
            encode_images(Tokenizer.from_pretrained(saved_tokenizer), images, out, settings)
