"""Damaged and hostile files: whatever a reader is given, it ends with a documented error, soon.

Every case begins with a valid artifact and spoils it: bytes are flipped, cut, repeated, lengths
replaced; values of a JSON text become what no writer of ours would write. Hypothesis chooses, and
shrinks what it finds. `make fuzz` runs thousands of cases a reader; the suite runs a few, the same
ones every time.
"""

from __future__ import annotations

import copy
import io
import json
import os
import resource
import signal
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from dcar.pipeline.record import read_record
from dcar_eval.fid import frechet_distance, load_statistics
from dcar_eval.runs.journal import Journal
from dcar_eval.runs.results import finished, prepare
from dcht import LatentsStore, Tokenizer, UsageError
from dcht.data.archives import list_archive
from dcht.data.sources import list_inputs
from dcht.data.tables import read_table
from dcht.data.zips import list_zip
from dcht.errors import CheckpointError, printable
from dcht.images import open_image, read_png_text
from dcht.latents.inspect import inspect_store

CASES = int(os.environ.get("FUZZ_CASES", "25"))
SECONDS, BYTES = 10, 2 << 30
"""What one case may take, beyond what the process holds already."""


TRIED: Counter[str] = Counter()
"""How many cases each test has had."""


def cases(count: int) -> Callable[[Any], Any]:
    """So many cases, the same ones every time while they are few; `TRIED` counts them."""
    chosen = settings(
        max_examples=count,
        derandomize=count < 100,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )

    def apply(test: Any) -> Any:
        try_case = test.hypothesis.inner_test

        @wraps(try_case)
        def counted(*arguments: Any, **named: Any) -> None:
            TRIED[test.__name__] += 1
            try_case(*arguments, **named)

        test.hypothesis.inner_test = counted
        return chosen(test)

    return apply


@pytest.fixture(scope="module", autouse=True)
def total(request: pytest.FixtureRequest) -> Iterator[None]:
    """Say at the end how many cases there were, if somebody asked for many."""
    yield
    if CASES >= 100:
        capture: Any = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print(f"\n{TRIED.total():,} cases over {len(TRIED)} readers: {dict(TRIED)}")


fuzz = cases(CASES)
fuzz_networks = cases(CASES if CASES >= 100 else 4)
"""Of readers that build a network for each case: few of them in the suite."""

Reader = Callable[[], object]


@contextmanager
def little_memory() -> Iterator[None]:
    """Memory that ends soon: what would take gigabytes fails here, as no documented error does."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def only_documented(read: Reader) -> None:
    """Call a reader; fail on anything but success or an error that a command turns into a line."""

    def late(*_: object) -> None:
        raise TimeoutError(f"no answer after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        with little_memory(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read()
    except (UsageError, CheckpointError) as error:
        assert len(printable(error)) <= 2000
    except OSError as error:
        assert not isinstance(error, TimeoutError), error
        assert error.filename is not None, f"an OSError without a file: {error!r}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# What is done to bytes, and to JSON

edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "byte", "delete", "insert", "cut", "repeat", "number"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
        st.binary(min_size=1, max_size=24),
        st.sampled_from([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 65536]),
    ),
    min_size=1,
    max_size=6,
)


def spoil(content: bytes, changes: list[tuple[str, float, int, bytes, int]]) -> bytes:
    """Bytes after some edits, each at a place given as a share of the length."""
    spoiled = bytearray(content)
    for kind, share, value, piece, number in changes:
        if not spoiled:
            spoiled = bytearray(b"\0")
        at = int(share * len(spoiled))
        match kind:
            case "flip":
                spoiled[at] ^= 1 << value % 8
            case "byte":
                spoiled[at] = value
            case "delete":
                del spoiled[at : at + 1 + value % 64]
            case "insert":
                spoiled[at:at] = piece
            case "cut":
                del spoiled[at:]
            case "repeat":
                spoiled[at : at + 16] = spoiled[value : value + 16]
            case _:
                spoiled[at : at + 4] = struct.pack("<I" if value % 2 else ">I", number)
    return bytes(spoiled)


hostile = st.sampled_from(
    [
        *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**12, 10**30, -(10**9), 0.5, -0.0, 1e308),
        *(
            "",
            "x",
            "nan",
            "../../etc/passwd",
            "/dev/zero",
            "cuda:-1",
            "\x1b]0;owned\x07\nerror: no",
        ),
        *([], {}, [[]], [0], [1] * 3, {"a": 1}, [None], ["x"] * 6, [-1] * 6, [0] * 6, [10**12] * 6),
    ]
)
json_edits = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["replace", "replace", "replace", "delete", "add", "scale"]),
        hostile,
    ),
    min_size=1,
    max_size=3,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to everything inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in inner:
        yield (*path, key)
        if isinstance(child, dict | list):
            yield from places(child, (*path, key))


def spoil_json(value: Any, changes: list[tuple[float, str, Any]]) -> Any:
    """A JSON value with some of its parts replaced, removed, added or scaled."""
    spoiled = copy.deepcopy(value)
    for share, kind, other in changes:
        found = list(places(spoiled))
        if not found:
            break
        *path, key = found[int(share * len(found))]
        parent = spoiled
        for step in path:
            parent = parent[step]
        if kind == "delete":
            del parent[key]
        elif kind == "add" and isinstance(parent, dict):
            parent["extra\x1b[31m"] = copy.deepcopy(other)
        elif kind == "scale" and isinstance(parent[key], int | float):
            parent[key] = parent[key] * 1000 + 1
        else:
            parent[key] = copy.deepcopy(other)
    return spoiled


def with_checksums(png: bytes) -> bytes:
    """A PNG whose chunks have right checksums: damage behind them is seen only then."""
    fixed, at = bytearray(png[:8]), 8
    while at + 8 <= len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        if at + 12 + length > len(png):
            return png
        body = png[at + 4 : at + 8 + length]
        fixed += png[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(fixed)


# Images and what they carry


def _image() -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((48, 36), Image.Resampling.BICUBIC)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


IMAGES = {
    **{
        f"png {mode}": _saved(_image().convert(mode), "PNG")
        for mode in ("RGB", "RGBA", "P", "LA", "1", "L")
    },
    "png I;16": _saved(_image().convert("L").convert("I;16"), "PNG"),
    "jpeg": _saved(_image(), "JPEG"),
    "jpeg progressive": _saved(_image(), "JPEG", progressive=True),
    "jpeg cmyk": _saved(_image().convert("CMYK"), "JPEG"),
    "webp": _saved(_image(), "WEBP"),
    "webp lossless": _saved(_image(), "WEBP", lossless=True),
    "webp frames": _saved(_image(), "WEBP", save_all=True, append_images=[_image().rotate(90)]),
    "bmp": _saved(_image(), "BMP"),
}


@fuzz
@given(st.sampled_from(sorted(IMAGES)), edits, st.booleans())
def test_images(kind: str, changes: Any, checked: bool) -> None:
    content = spoil(IMAGES[kind], changes)
    if kind.startswith("png") and checked:
        content = with_checksums(content)
    only_documented(lambda: open_image(io.BytesIO(content)))


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of an image that was really generated."""
    from dcar import TextToImage
    from dcar.pipeline.series import ImageSeries, generate_images
    from dcar.sampling_config import SamplingConfig

    pipe = TextToImage.from_pretrained()
    plan = ImageSeries(
        prompts=["a photo of a red apple"], verdicts=[None], seed=0, height=64, width=64,
        settings=SamplingConfig(num_steps=1), batch_size=1,
    )  # fmt: skip
    [path] = generate_images(pipe, plan, tmp_path_factory.mktemp("record") / "out")
    return json.loads(read_png_text(path)["dcar"])


@fuzz
@given(json_edits)
def test_records(tmp_path_factory: pytest.TempPathFactory, record: dict, changes: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "record.png"
    text = PngImagePlugin.PngInfo()
    text.add_itxt("Description", "a photo of a red apple")
    text.add_itxt("dcar", json.dumps(spoil_json(record, changes)))
    Image.new("RGB", (8, 8)).save(path, pnginfo=text)
    only_documented(lambda: read_record(path))


@fuzz
@given(edits, st.booleans())
def test_png_text(
    tmp_path_factory: pytest.TempPathFactory, record: dict, changes: Any, checked: bool
) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("dcar", json.dumps(record), zip=True)
    content = spoil(_saved(Image.new("RGB", (8, 8)), "PNG", pnginfo=text), changes)
    path = tmp_path_factory.getbasetemp() / "text.png"
    path.write_bytes(with_checksums(content) if checked else content)
    only_documented(lambda: read_png_text(path))
    only_documented(lambda: read_record(path))


# Archives and tables


def _tar(image: str, text: str) -> bytes:
    """Three images, each with a text and fields in members of these suffixes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for key in ("k/0000", "k/0001", "é" * 60):
            members = {image: IMAGES["png L"], text: b"a photo", ".json": b'{"a": 1}'}
            members[".cls"] = b"3"
            for suffix, content in members.items():
                member = tarfile.TarInfo(key + suffix)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"images/{number}.jpg", IMAGES["jpeg"])
        archive.writestr("images/s.png", IMAGES["png RGB"], compress_type=zipfile.ZIP_STORED)
    return buffer.getvalue()


TARS, ZIP = [_tar(".png", ".txt"), _tar(".img", ".cap")], _zip()


def with_tar_checksums(tar: bytes) -> bytes:
    """A tar whose headers have right checksums."""
    fixed = bytearray(tar)
    for at in range(0, len(fixed) - 511, 512):
        if fixed[at + 257 : at + 262] == b"ustar":
            fixed[at + 148 : at + 156] = b" " * 8
            fixed[at + 148 : at + 156] = b"%06o\0 " % sum(fixed[at : at + 512])
    return bytes(fixed)


@fuzz
@given(st.sampled_from(TARS), edits, st.booleans())
def test_tars(
    tmp_path_factory: pytest.TempPathFactory, tar: bytes, changes: Any, checked: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "t.tar"
    content = spoil(tar, changes)
    path.write_bytes(with_tar_checksums(content) if checked else content)
    entries: list[Any] = []
    only_documented(lambda: entries.extend(list_archive(str(path), "t.tar")))
    for entry in entries:
        only_documented(entry.row)
        only_documented(entry.open)


@fuzz
@given(edits, st.booleans())
def test_zips(tmp_path_factory: pytest.TempPathFactory, changes: Any, directory: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "z.zip"
    start = ZIP.index(b"PK\1\2") if directory else 0
    path.write_bytes(ZIP[:start] + spoil(ZIP[start:], changes))
    entries: list[Any] = []
    only_documented(lambda: entries.extend(list_zip(path)))
    for entry in entries:
        only_documented(entry.open)


TABLES = {
    "m.jsonl": b'{"file_name": "a.png", "caption": "x"}\n{"path": "b.png", "captions": ["a"]}\n',
    "m.csv": b'file_name,caption\na.png,"x, y"\nb.png,z\n',
    "l.txt": b"a.png\nb.png\n/etc/passwd\nhttp://x/y.png\n",
}


@fuzz
@given(st.sampled_from(sorted(TABLES)), edits)
def test_tables(name: str, changes: Any) -> None:
    only_documented(lambda: list(read_table(name, spoil(TABLES[name], changes))))


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


STATISTICS = [
    _npz(mu=np.zeros(4), sigma=np.eye(4)),
    _npz(mu=np.array([{}], dtype=object), sigma=np.eye(4)),
    _npz(mu=np.zeros(4, complex), sigma=np.eye(4)),
    _npz(mu=np.zeros(4, "U5"), sigma=np.eye(4)),
    _npz(mu=np.full(4, 1e308), sigma=np.eye(4) * 1e308),
    _npz(mu=np.float64(1), sigma=-np.eye(1)),
    b"",
    b"hello",
]


@fuzz
@given(st.sampled_from(STATISTICS), st.one_of(st.just([]), edits))
def test_statistics(tmp_path_factory: pytest.TempPathFactory, content: bytes, changes: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "s.npz"
    path.write_bytes(spoil(content, changes))

    def read() -> None:
        found = load_statistics(path)
        frechet_distance(found.mu, found.sigma, found.mu, found.sigma)

    only_documented(read)


# Parquet, Arrow and folders with tables, on disk and on the Hub


@pytest.fixture(scope="module")
def columnar() -> dict[str, bytes]:
    """Files as the library `datasets` writes them, by name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_memory_pool(pa.system_memory_pool())  # another one reserves more than `little_memory`
    pa.set_cpu_count(1)
    rows = [
        {"image": {"bytes": IMAGES["png L"], "path": f"{k}.png"}, "caption": f"no {k}",
         "label": k % 2, "size": [k, 0.5]}
        for k in range(4)
    ]  # fmt: skip
    features = {"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    notes = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.Table.from_pylist(rows).replace_schema_metadata(notes)
    names = pa.table({"file_name": ["a.png"], "caption": ["a photo"]})
    found = {}
    for name, given_table in (("images.parquet", table), ("metadata.parquet", names)):
        buffer = io.BytesIO()
        pq.write_table(given_table, buffer, row_group_size=2)
        found[name] = buffer.getvalue()
    for name, new in (("stream.arrow", pa.ipc.new_stream), ("file.arrow", pa.ipc.new_file)):
        buffer = io.BytesIO()
        with new(buffer, table.schema) as writer:
            writer.write_table(table)
        found[name] = buffer.getvalue()
    return found


def read_source(source: str | Path) -> None:
    """List a source, and read all that it names."""
    entries: list[Any] = []
    only_documented(lambda: entries.extend(list_inputs(source)))
    for entry in entries:
        only_documented(entry.row)
        only_documented(entry.open)


@fuzz
@given(st.sampled_from(["images.parquet", "stream.arrow", "file.arrow"]), edits)
def test_columnar_files(
    tmp_path_factory: pytest.TempPathFactory, columnar: dict, name: str, changes: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(spoil(columnar[name], changes))
    read_source(path)


FOLDER_TABLES = {
    "metadata.jsonl": b'{"file_name": "a.png", "caption": "x", "label": 3, "score": [1, null]}\n',
    "captions.tsv": b"image\tcaption\na.png\tone, two\n",
    "metadata.csv": b'file_name,text,label\na.png,"x, y",dog\n',
    "a.json": b'{"caption": "a photo", "captions": ["b"], "label": 1}',
    "a.txt": b"a photo\nthe photo\n",
    "a.cls": b"7\n",
}


@fuzz
@given(st.sampled_from([*sorted(FOLDER_TABLES), "metadata.parquet", "saved.arrow"]), edits)
def test_folders(
    tmp_path_factory: pytest.TempPathFactory, columnar: dict, name: str, changes: Any
) -> None:
    """An image with what says something of it; or what `save_to_disk` of `datasets` leaves."""
    folder = tmp_path_factory.mktemp("folder")
    if name == "saved.arrow":
        (folder / "data-00000-of-00001.arrow").write_bytes(columnar["stream.arrow"])
        files = [{"filename": "data-00000-of-00001.arrow"}]
        state = json.dumps({"_data_files": files, "_split": "train"}).encode()
        (folder / "state.json").write_bytes(spoil(state, changes))
        (folder / "dataset_info.json").write_bytes(spoil(b'{"features": {}}', changes))
    else:
        (folder / "a.png").write_bytes(IMAGES["png L"])
        (folder / name).write_bytes(spoil((columnar | FOLDER_TABLES)[name], changes))
    read_source(folder)


@fuzz
@given(edits, json_edits)
def test_the_hub(
    tmp_path_factory: pytest.TempPathFactory, columnar: dict, changes: Any, in_answer: Any
) -> None:
    """A stand-in whose answer and whose file are spoiled."""
    path = tmp_path_factory.getbasetemp() / "hub.parquet"
    path.write_bytes(spoil(columnar["images.parquet"], changes))
    answer = spoil_json({"sha": "b" * 40, "files": ["README.md", "data/a.parquet"]}, in_answer)

    class Hub:
        def dataset_info(self, name: str, revision: str | None = None) -> Any:
            siblings = [SimpleNamespace(rfilename=file) for file in answer["files"]]
            return SimpleNamespace(sha=answer["sha"], siblings=siblings)

        def open(self, file: str, mode: str) -> Any:
            return path.open(mode)

    def missing(*_: Any, **__: Any) -> None:
        raise OSError("not here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.HfApi", Hub)
        patch.setattr("huggingface_hub.HfFileSystem", Hub)
        patch.setattr("huggingface_hub.snapshot_download", missing)
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        read_source("hf://user/name")


# What evaluations are given: batches, questions, prompts, tables of images

BATCHES = [
    _npz(arr_0=np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)),
    _npz(arr_0=np.zeros((2, 4, 5, 3), np.float32)),
    _npz(arr_0=np.array([{}], dtype=object)),
    b"",
]


@fuzz
@given(st.sampled_from(BATCHES), st.one_of(st.just([]), edits))
def test_batches(tmp_path_factory: pytest.TempPathFactory, content: bytes, changes: Any) -> None:
    from dcar_eval.given.batches import is_batch, list_batch

    path = tmp_path_factory.getbasetemp() / "batch.npz"
    path.write_bytes(spoil(content, changes))
    is_batch(path)
    entries: list[Any] = []
    only_documented(lambda: entries.extend(list_batch(path)))
    for entry in entries[:4]:
        only_documented(entry.open)


QUESTIONS = {
    "prompt": "a red car", "atom_count": 3, "skills": ["count", "object"],
    "vqa_list": [["How many cars are in the image?", "two"], ["Are there any cars?", "Yes"]],
}  # fmt: skip
GIVEN = {
    "geneval2.jsonl": json.dumps(QUESTIONS).encode() + b"\n",
    "dpg.csv": b"item_id,text,proposition_id,dependency,tuple,question_natural_language\n"
    b'p1,"a car, parked",1,0,entity - whole (car),Is there a car?\n'
    b'p1,"a car, parked",2,"1,0","attribute - color (car, red)",Is the car red?\n',
    "meta_data.json": b'{"00beef": {"category": "people", "prompt": "a man"}}',
    "pairs.csv": b"file_name,prompt\na.png,a man\nb.png,a dog\n",
    "pairs.jsonl": b'{"image": "a.png", "prompt": "a man"}\n',
    "pairs.json": b'{"a man": ["a.png", "b.png"], "a dog": "c.png"}',
}


def read_given(path: Path) -> object:
    """A file that an evaluation is given, by what it is called."""
    from dcar_eval.given.pairs import find_pairs
    from dcar_eval.mjhq.benchmark import read_prompts
    from dcar_eval.vqa.dpg import read_dpg
    from dcar_eval.vqa.soft_tifa import read_geneval2

    match path.stem:
        case "geneval2":
            return read_geneval2(path)
        case "dpg":
            return read_dpg(path)
        case "meta_data":
            return read_prompts(path.parent)
        case _:
            return find_pairs(path, {"00": "a man", "01": "a dog"})


@fuzz
@given(st.sampled_from(sorted(GIVEN)), st.one_of(json_edits, edits))
def test_files_of_benchmarks(
    tmp_path_factory: pytest.TempPathFactory, name: str, changes: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    if len(changes[0]) == 5:
        path.write_bytes(spoil(GIVEN[name], changes))
    elif name.endswith(".csv"):
        path.write_bytes(GIVEN[name] + repr(changes).encode())
    else:
        path.write_text(json.dumps(spoil_json(json.loads(GIVEN[name]), changes)) + "\n")
    only_documented(lambda: read_given(path))


# Stores and checkpoints


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three images, without hashes, so that damage reaches the readers."""
    from dcht.latents.encode import encode_images
    from dcht.latents.encode_job import EncodeSettings

    folder = tmp_path_factory.mktemp("fuzz-store")
    images = folder / "images"
    images.mkdir()
    for number in range(3):
        (images / f"{number}.png").write_bytes(IMAGES["png RGB"])
        (images / f"{number}.txt").write_text("a photo\n")
    torch.manual_seed(0)
    from dcht import PRESETS

    tokenizer = Tokenizer(PRESETS["tiny"]).eval()
    tokenizer.save_pretrained(folder / "tokenizer")
    encode_images(tokenizer, images, folder / "latents", EncodeSettings(size=(64, 64)))
    path = folder / "latents" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": {}}))
    return folder


def read_store(folder: Path) -> None:
    """Everything that is read of a store."""
    found = LatentsStore(folder)
    inspect_store(found)
    assert len(found.rows) == len(found)
    if len(found):
        found.read(0)
        found.row(len(found) - 1)


@fuzz
@given(st.one_of(json_edits, edits))
def test_manifests(store: Path, changes: Any) -> None:
    path = store / "latents" / "manifest.json"
    valid = path.read_text()
    try:
        of_json = len(changes[0]) == 3
        manifest = json.loads(valid)
        path.write_bytes(
            json.dumps(spoil_json(manifest, changes)).encode()
            if of_json
            else spoil(valid.encode(), changes)
        )
        only_documented(lambda: read_store(store / "latents"))
    finally:
        path.write_text(valid)


def spoil_tensors(content: bytes, in_header: Any, in_bytes: Any) -> bytes:
    """A safetensors file with another header, and then with bytes of it changed."""
    length = struct.unpack("<Q", content[:8])[0]
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    text = json.dumps(spoil_json(header, in_header)).encode() if in_header else content[8:][:length]
    head = struct.pack("<Q", len(text)) + text
    return spoil(head, in_bytes) + body if in_bytes else head + body


either = st.tuples(st.one_of(st.just([]), json_edits), st.one_of(st.just([]), edits))


@fuzz
@given(either, st.one_of(st.just([]), edits))
def test_shards(store: Path, in_tensors: Any, in_rows: Any) -> None:
    tensors, rows = (store / "latents" / f"shard-00000.{kind}" for kind in ("safetensors", "jsonl"))
    valid = tensors.read_bytes(), rows.read_bytes()
    try:
        tensors.write_bytes(spoil_tensors(valid[0], *in_tensors))
        rows.write_bytes(spoil(valid[1], in_rows) if in_rows else valid[1])
        only_documented(lambda: read_store(store / "latents"))
    finally:
        tensors.write_bytes(valid[0])
        rows.write_bytes(valid[1])


def use_tokenizer(folder: Path) -> None:
    """Load a tokenizer and reconstruct with it."""
    tokenizer = Tokenizer.from_pretrained(folder)
    if tokenizer.quantizer is not None and tokenizer.config.downsampling <= 64:
        with torch.inference_mode():
            tokenizer.reconstruct(torch.zeros(1, 3, 64, 64), path="discrete")


@fuzz_networks
@given(st.one_of(json_edits, edits))
def test_tokenizer_configs(store: Path, changes: Any) -> None:
    path = store / "tokenizer" / "config.json"
    valid = path.read_text()
    try:
        path.write_bytes(
            json.dumps(spoil_json(json.loads(valid), changes)).encode()
            if len(changes[0]) == 3
            else spoil(valid.encode(), changes)
        )
        only_documented(lambda: use_tokenizer(store / "tokenizer"))
    finally:
        path.write_text(valid)


@fuzz_networks
@given(either)
def test_tokenizer_weights(store: Path, changes: Any) -> None:
    path = store / "tokenizer" / "model.safetensors"
    valid = path.read_bytes()
    try:
        path.write_bytes(spoil_tensors(valid, *changes))
        only_documented(lambda: use_tokenizer(store / "tokenizer"))
    finally:
        path.write_bytes(valid)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled generator's folder, its weights a link: nothing here changes them."""
    from dcar.weights.pretrained import BUNDLED

    folder = tmp_path_factory.mktemp("fuzz-generator")
    for path in Path(BUNDLED).iterdir():
        if path.name == "model.safetensors":
            (folder / path.name).symlink_to(path)
        elif path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def use_generator(folder: Path) -> None:
    """Load a generator and read a prompt with it."""
    from dcar import TextToImage

    pipe = TextToImage.from_pretrained(folder)
    tokens = pipe.text.tokenize(["a photo of a red apple"])
    with torch.inference_mode():
        pipe.text(tokens.ids, tokens.mask)


@fuzz_networks
@given(st.sampled_from(["config.json", "tokenizer.json"]), st.one_of(json_edits, edits))
def test_generator_settings(generator: Path, name: str, changes: Any) -> None:
    path = generator / name
    valid = path.read_bytes()
    try:
        path.write_bytes(
            json.dumps(spoil_json(json.loads(valid), changes)).encode()
            if len(changes[0]) == 3
            else spoil(valid, changes)
        )
        only_documented(lambda: use_generator(generator))
    finally:
        path.write_bytes(valid)


# An evaluation's folder


@fuzz
@given(
    st.sampled_from(["settings.json", ".state.json", "results.json", "images.jsonl"]),
    st.one_of(json_edits, edits),
)
def test_evaluation_folders(
    tmp_path_factory: pytest.TempPathFactory, name: str, changes: Any
) -> None:
    out = tmp_path_factory.mktemp("evaluation")
    asked = {"seed": 0, "protocol": {"name": "dcar", "size": 64}}
    prepare(out, asked, files=[], force=False)
    journal = Journal(out, {"fid": 4})
    journal.add(
        [{"index": 0, "file": "a.png"}],
        files=1,
        features={"fid": np.zeros((1, 4), dtype=np.float32)},
    )
    journal.save()
    (out / "results.json").write_text(json.dumps({"settings": asked, "value": 1.5}))
    valid = (out / name).read_bytes()
    of_json = len(changes[0]) == 3 and name != "images.jsonl"
    (out / name).write_bytes(
        json.dumps(spoil_json(json.loads(valid), changes)).encode()
        if of_json
        else spoil(valid, changes if len(changes[0]) == 5 else [("cut", 0.5, 0, b"", 0)])
    )

    def read() -> None:
        prepare(out, asked, files=[], force=False)
        finished(out)
        again = Journal(out, {"fid": 4})
        again.read("images.jsonl")
        again.features("fid")

    only_documented(read)


# Command lines

hostile_words = st.sampled_from(
    ["", "-", "--", "--no-such", "-1", "nan", "1e999", "9" * 5000, "\x1b[31m", "\ud800", "é", "{",
     "@/etc/passwd", "/dev/zero", "a=b", "1/0", "0x0", "left=-1", "1,,2", "64x", "²", "None"]
)  # fmt: skip
word_edits = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from(["replace", "add", "delete"]),
              hostile_words),
    min_size=1, max_size=3,
)  # fmt: skip
LINES = (
    "dcht encode a --out b --size 64x32 --flip both --workers 2 --shard 0/2 --batch-size 4",
    "dcht reconstruct a b --out c --path compare --tile 64 --pad --json",
    "dcht convert a --out b --codebook 16 --latent-norm 2.5",
    "dcar generate red --out b --seed 1 --size 64 --cfg 2 --film c.gif --grid --temperature 0.5",
    "dcar edit a red --out b --outpaint left=32,right=64 --strength 0.5 --num-images 2",
    "dcar-eval reconstruction --images a --out b --size 64 --shard 1/2 --limit 3",
    "dcar-eval scenes --sprites a --out b --num 5 --seed 1",
)
SETTINGS = ["+experiment=tiny", "data.root=a", "out=b", "seed=1", "batch_size=4", "optimizer.lr=1"]


def spoil_words(words: list[str], changes: list[tuple[float, str, str]]) -> list[str]:
    """A command line with words replaced, added, removed, or their values replaced."""
    spoiled = list(words)
    for share, kind, other in changes:
        at = int(share * len(spoiled))
        if kind == "delete":
            del spoiled[at : at + 1]
        elif kind == "add" or not spoiled:
            spoiled.insert(at, other)
        else:
            name, equals, _ = spoiled[at].partition("=")
            spoiled[at] = f"{name}={other}" if equals else other
    return spoiled


@fuzz
@given(st.sampled_from(LINES), word_edits)
def test_command_lines(line: str, changes: Any) -> None:
    import dcar.cli
    import dcar_eval.cli
    import dcht.cli

    tool, *words = line.split()
    parsers = {"dcht": dcht.cli, "dcar": dcar.cli, "dcar-eval": dcar_eval.cli}
    parser, said = parsers[tool].build_parser(), io.StringIO()

    def parse() -> None:
        with redirect_stderr(said), redirect_stdout(said):
            parser.parse_args(spoil_words(words, changes))

    try:
        only_documented(parse)
    except SystemExit as stop:
        assert stop.code in (0, 2)
        error = said.getvalue().splitlines()[-1]
        assert stop.code == 0 or (": error: " in error and "\x1b" not in error)


@fuzz_networks
@given(st.sampled_from(["dcht", "dcar"]), word_edits)
def test_training_settings(tool: str, changes: Any) -> None:
    """Composed and checked; what would train gets them instead."""
    import importlib

    from dcht.launch import launch

    words, said = spoil_words(SETTINGS, changes), io.StringIO()
    register = importlib.import_module(f"{tool}.conf").register

    def compose() -> None:
        with redirect_stderr(said), redirect_stdout(said), pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", [f"{tool}-train", *words])
            patch.delenv("HYDRA_FULL_ERROR", raising=False)
            launch(
                f"{tool}.conf", help_text="", register=register, task=lambda config: True,
                plan=lambda config, cluster: "",
            )  # fmt: skip

    with pytest.raises(SystemExit) as stop:
        only_documented(compose)
    lines = said.getvalue().splitlines()
    assert stop.value.code == 0 or (stop.value.code == 2 and len(lines) == 1), lines
    assert "\x1b" not in said.getvalue()
