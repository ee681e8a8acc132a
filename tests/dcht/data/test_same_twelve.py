"""The same twelve images, captions and labels in every form in which people have data."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dcht import LatentDataset, Tokenizer
from dcht.cli import build_parser
from dcht.data.webdataset import write_shards
from dcht.latents.encode import encode_images
from dcht.latents.encode_job import EncodeSettings

LABELS = ["cat", 3, "great white shark"] * 4
CAPTIONS = [f"image {k} of twelve, {'wide' if k % 2 else 'tall'}" for k in range(12)]
NAMES = [f"{k:02d}.png" for k in range(12)]
CLASS_NAMES = ["3", "cat", "great white shark"]


def _rows() -> list[dict]:
    return [
        {"file_name": name, "caption": caption, "label": label}
        for name, caption, label in zip(NAMES, CAPTIONS, LABELS, strict=True)
    ]


def _images(folder: Path, pictures: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in pictures.items():
        (folder / name).write_bytes(content)
    return folder


def folder(pictures, root):
    """Captions in every file that may hold them, named by people and by cameras."""
    found = _images(root, {name.replace("png", "PNG"): c for name, c in pictures.items()})
    suffixes = (".txt", ".caption", ".TXT", ".cap", ".Caption")
    for k, row in enumerate(_rows()):
        stem = found / f"{k:02d}"
        stem.with_suffix(suffixes[k % 5]).write_text(row["caption"] + "\n")
        stem.with_suffix((".cls", ".CLS")[k % 2]).write_text(str(row["label"]))
    return found


def tar(pictures, root):
    root.mkdir()
    with tarfile.open(root / "all.tar", "w") as archive:
        for k, (row, content) in enumerate(zip(_rows(), pictures.values(), strict=True)):
            for suffix, data in (
                ("img" if k % 2 else "png", content),
                ("cap" if k % 3 else "TXT", row["caption"].encode()),
                ("cls", str(row["label"]).encode()),
            ):
                member = tarfile.TarInfo(f"{k:02d}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return root / "all.tar"


def listed(pictures, root):
    found = folder(pictures, root)
    (found / "list.txt").write_text("".join(f"{k:02d}.PNG\n" for k in range(12)))
    return found / "list.txt"


def jsonl(pictures, root):
    found = _images(root, pictures)
    (found / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _rows()))
    return found / "rows.jsonl"


def csv(pictures, root):
    """In the folder, as the one table there; keyed as the field does it."""
    found = _images(root, pictures)
    lines = [f'{r["file_name"]},"{r["caption"]}",{r["label"]}' for r in _rows()]
    (found / "captions.csv").write_text("\n".join(["image,text,label", *lines]))
    return found


def kohya(pictures, root):
    found = _images(root, pictures)
    rows = {row.pop("file_name"): row for row in _rows()}
    (found / "metadata.json").write_text(json.dumps(rows))
    return found


def kohya_as_its_scripts_write_it(pictures, root):
    """Under a name of their own, and keyed without suffixes."""
    found = _images(root, pictures)
    rows = {row.pop("file_name").rpartition(".")[0]: row for row in _rows()}
    (found / "meta_cap.json").write_text(json.dumps(rows))
    return found


def metadata_parquet(pictures, root):
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = _images(root, pictures)
    rows = [row | {"label": str(row["label"])} for row in _rows()]
    features = {"label": {"_type": "ClassLabel", "names": CLASS_NAMES}}
    numbers = [row | {"label": CLASS_NAMES.index(row["label"])} for row in rows]
    table = pa.Table.from_pylist(numbers).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    pq.write_table(table, found / "metadata.parquet")
    return found


def parquet(pictures, root):
    """Bare bytes, three row groups."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    root.mkdir()
    rows = [
        {"image": content, "text": row["caption"], "label": str(row["label"])}
        for row, content in zip(_rows(), pictures.values(), strict=True)
    ]
    table = pa.Table.from_pylist(rows)
    features = {"label": {"_type": "ClassLabel", "names": CLASS_NAMES}}
    table = table.set_column(
        2, "label", pa.array([CLASS_NAMES.index(r["label"]) for r in rows])
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, root / "train.parquet", row_group_size=5)
    return root / "train.parquet"


def _dataset(pictures, root):
    from datasets import ClassLabel, Dataset, Features, Value
    from datasets import Image as ImageFeature

    found = _images(root / "raw", pictures)
    features = Features(
        {
            "image": ImageFeature(),
            "caption": Value("string"),
            "label": ClassLabel(names=CLASS_NAMES),
        }
    )
    rows = _rows()
    return Dataset.from_dict(
        {
            "image": [str(found / row["file_name"]) for row in rows],
            "caption": [row["caption"] for row in rows],
            "label": [CLASS_NAMES.index(str(row["label"])) for row in rows],
        },
        features=features,
    )


def saved(pictures, root):
    """`save_to_disk`, in two files, with what `datasets` caches beside them."""
    _dataset(pictures, root).save_to_disk(root / "saved", num_shards=2)
    first = min((root / "saved").glob("*.arrow"))
    (root / "saved" / "cache-0123.arrow").write_bytes(first.read_bytes())
    return root / "saved"


def pushed(pictures, root):
    """Parquet as `push_to_hub` of `datasets` writes it, in a snapshot of the Hub's cache."""
    from datasets.table import embed_table_storage

    rows = _dataset(pictures, root).with_format("arrow")
    rows.map(embed_table_storage, batched=True).to_parquet(root / "0.parquet")
    repository = root / "datasets--user--name"
    data = repository / "snapshots" / ("a" * 40) / "data"
    data.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (root / "0.parquet").rename(repository / "blobs" / "0123abc")
    (data / "train-00000-of-00001.parquet").symlink_to("../../../blobs/0123abc")
    return data.parent


def snapshot(pictures, root):
    """A Hub's imagefolder: links into the cache's blobs."""
    repository = root / "datasets--user--name"
    found = repository / "snapshots" / ("a" * 40)
    (repository / "blobs").mkdir(parents=True)
    found.mkdir(parents=True)
    table = "".join(json.dumps(row) + "\n" for row in _rows()).encode()
    for name, content in {**pictures, "metadata.jsonl": table}.items():
        blob = hashlib.sha256(content).hexdigest()
        (repository / "blobs" / blob).write_bytes(content)
        (found / name).symlink_to(f"../../blobs/{blob}")
    return found


def packed(pictures, root):
    """What `dcht shard` makes of a table."""
    source = jsonl(pictures, root / "from")
    write_shards(source, root / "shards", shard_size=5)
    return root / "shards"


FORMS: list[Callable[[dict[str, bytes], Path], Path]] = [
    folder, tar, listed, jsonl, csv, kohya, kohya_as_its_scripts_write_it, metadata_parquet,
    parquet, saved, pushed, snapshot,
    packed,
]  # fmt: skip


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    found = {}
    for k, name in enumerate(NAMES):
        image = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        image.resize((40 + k, 36)).save(buffer, format="PNG")
        found[name] = buffer.getvalue()
    return found


def test_twelve_images_are_the_same_in_every_form(
    pictures, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    tokenizer = Tokenizer.from_pretrained(tmp_path / "tokenizer")
    settings = EncodeSettings(size=(64, 32), batch_size=12)
    seen = {}
    for form in FORMS:
        name = form.__name__
        source = form(pictures, tmp_path / name)
        found = encode_images(tokenizer, source, tmp_path / f"{name}-latents", settings)
        assert (found.images, found.skipped, found.unread) == (12, 0, []), name
        data = LatentDataset(tmp_path / f"{name}-latents", fields=["caption", "label"])
        samples = list(data)  # type: ignore[call-overload]
        assert [sample["caption"] for sample in samples] == CAPTIONS, name
        assert [sample["label"] for sample in samples] == LABELS, name
        seen[name] = torch.stack([sample["indices"] for sample in samples])
        assert torch.equal(seen[name], seen["folder"]), name
    assert len(set(map(bytes, seen["folder"].flatten(1).numpy()))) > 6  # they do differ


def test_the_same_from_the_command_line_and_in_the_evaluations(pictures, tmp_path, capsys) -> None:
    """One reader: what encoding reads, the others read."""
    from dcht.commands.common import require_sources
    from dcht.data.sources import find_inputs
    from dcht.train.dataset import split_inputs
    from dcht.train_config import DataConfig

    source = parquet(pictures, tmp_path / "p")
    split = split_inputs(DataConfig(root=str(source), num_val=2, size=32, crop=32))
    assert (len(split.training), len(split.validation)) == (10, 2)
    assert split.training[0].open().size[1] == 36
    require_sources([str(source)])
    assert find_inputs(csv(pictures, tmp_path / "c")).tables == ["captions.csv"]
    arguments = build_parser().parse_args(
        ["shard", str(source), "--out", str(tmp_path / "s"), "--seed", "1"]
    )
    assert arguments.function(arguments) == 0
    assert "12 images in 1 tars, 1 written now" in capsys.readouterr().out
    with tarfile.open(tmp_path / "s" / "00000.tar") as archive:
        first = archive.getnames()[0]
        order = [json.load(archive.extractfile(n))["source"] for n in archive.getnames()  # type: ignore[arg-type]
                 if n.endswith("json")]  # fmt: skip
    assert first == "000000000.png"
    assert sorted(order) == [f"train.parquet/{k:06d}" for k in range(12)] != order
