"""Images to a store: what is stored, what is skipped, what an interruption leaves."""

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dcht import LatentsStore, Tokenizer, UsageError
from dcht.data.sources import list_inputs
from dcht.data.webdataset import write_shards
from dcht.device import Precision
from dcht.files import is_in_use
from dcht.images import Fit, fit_image, list_images, open_image, resize_crop, to_tensor
from dcht.latents.encode import Encoded, encode_images, estimate
from dcht.latents.encode_job import EncodeSettings, Flip, plan_encoding
from dcht.latents.encode_shards import encode_shards
from dcht.latents.writer import LatentsWriter

Encode = Callable[..., Encoded]


@pytest.fixture
def encode(saved_tokenizer: Path, images: Path, tmp_path: Path) -> Encode:
    """Encode the six images into `latents/`, in shards of four and batches of two."""
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    settings = EncodeSettings(size=(96, 64), batch_size=2, shard_size=4)

    def run(out: Path = tmp_path / "latents", *, force: bool = False, **changes: Any) -> Encoded:
        changed = dataclasses.replace(settings, **changes)
        return encode_images(tokenizer, images, out, changed, force=force)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def spoil(images: Path) -> None:
    """Make two of the six unreadable, one at the start of a batch."""
    (images / "a.png").write_text("no image")
    whole = (images / "b.jpg").read_bytes()
    (images / "b.jpg").write_bytes(whole[: len(whole) // 2])


def test_store_holds_what_the_tokenizer_gives(
    encode: Encode, tokenizer: Tokenizer, images: Path, tmp_path: Path
) -> None:
    assert encode() == Encoded(images=6, skipped=0, encoded=6, missing=0, captioned=2, unread=[])
    store = LatentsStore(tmp_path / "latents")
    assert (len(store), store.manifest.shards) == (6, [4, 2])
    assert store.plan.tokenizer_sha256 == Tokenizer.from_pretrained(tmp_path / "tokenizer").sha256
    for number, path in enumerate(list_images(images)):
        pixels = to_tensor(resize_crop(open_image(path), (96, 64)))[None]
        with torch.inference_mode():
            expected = tokenizer.tokenize(pixels)
            indices, residual = store.read(number)
            assert indices.dtype == torch.int64
            assert torch.equal(indices, expected.indices[0])
            assert (residual - expected.residual[0]).abs().max() <= 1e-3
            # The image comes back through the fp16 store.
            restored = tokenizer.decode(tokenizer.lookup(indices[None]) + residual[None])
            assert (restored - tokenizer.reconstruct(pixels)).abs().max() <= 2e-2
    all_indices, all_residual = store.load_all()
    assert torch.equal(all_indices[5], store.read(5)[0])
    assert torch.equal(all_residual[5].float(), store.read(5)[1])
    with pytest.raises(IndexError):
        store.read(6)


def test_captions_and_fields_come_along(encode: Encode, images: Path, tmp_path: Path) -> None:
    (images / "e.json").write_text('{"task": "colors", "file": "not this"}')
    encode()
    rows = LatentsStore(tmp_path / "latents").rows
    assert [row["file"] for row in rows][:2] == ["a.png", "b.jpg"]
    assert rows[0]["caption"] == "a first image"
    assert rows[0]["captions"] == ["a first image", "the first one"]
    assert (rows[1]["caption"], "captions" in rows[1]) == ("a second image", False)
    assert rows[2]["caption"] is None
    assert rows[4] == {"task": "colors", "file": "e.png", "caption": None}


def test_bad_images_are_skipped_counted_and_listed(
    encode: Encode, images: Path, tmp_path: Path
) -> None:
    encode(tmp_path / "good")
    spoil(images)
    assert encode() == Encoded(images=4, skipped=2, encoded=4, missing=0, captioned=0, unread=[])
    assert LatentsStore(tmp_path / "latents").manifest.shards == [2, 2]
    lines = (tmp_path / "latents" / "errors.jsonl").read_text().splitlines()
    errors = [json.loads(line) for line in lines]
    assert [row["file"] for row in errors] == ["a.png", "b.jpg"]
    assert all(row["reason"] for row in errors)
    # The others are stored as if nothing had happened.
    good, store = (LatentsStore(tmp_path / name) for name in ("good", "latents"))
    assert torch.equal(store.read(0)[0], good.read(2)[0])
    with pytest.raises(UsageError, match=r"a\.png: not a PNG"):
        encode(tmp_path / "strict", strict=True)


def test_a_shard_may_come_out_empty(encode: Encode, images: Path, tmp_path: Path) -> None:
    for path in list_images(images)[:4]:
        path.write_text("no image")
    encode()
    store = LatentsStore(tmp_path / "latents")
    assert store.manifest.shards == [0, 2]
    assert store.load_all()[0].shape == (2, 2, 3)
    assert torch.equal(store.read(0)[0], store.load_all()[0][0])


def test_interrupted_work_ends_in_the_same_bytes(
    encode: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(tmp_path / "whole")
    write = LatentsWriter.write

    def stop_at_the_second(self: LatentsWriter, shard: int, *rest: object) -> None:
        if shard == 1:
            raise KeyboardInterrupt
        write(self, shard, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(LatentsWriter, "write", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            encode()
    with pytest.raises(UsageError, match="not finished: repeat"):
        LatentsStore(tmp_path / "latents")
    (tmp_path / "latents" / ".shard-00001.safetensors.0a1b2c3d.partial").write_bytes(b"left over")
    first = (tmp_path / "latents" / "shard-00000.safetensors").stat().st_mtime_ns
    encode()
    assert contents(tmp_path / "latents") == contents(tmp_path / "whole")
    assert (tmp_path / "latents" / "shard-00000.safetensors").stat().st_mtime_ns == first


def test_a_finished_store_is_left_alone(encode: Encode, images: Path, tmp_path: Path) -> None:
    spoil(images)
    encode()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "latents").glob("shard-*")}
    assert encode() == Encoded(images=4, skipped=2, encoded=0, missing=0, captioned=0, unread=[])
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "latents").glob("shard-*")}
    assert after == before


def test_other_settings_need_force(encode: Encode, tmp_path: Path) -> None:
    encode()
    before = contents(tmp_path / "latents")
    with pytest.raises(UsageError, match="was begun with width 96, not 64"):
        encode(size=(64, 64))
    assert contents(tmp_path / "latents") == before
    encode(size=(64, 64), force=True)
    assert LatentsStore(tmp_path / "latents").plan.width == 64
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty and is not a store"):
        encode(tmp_path / "photos")
    encode(tmp_path / "photos", force=True)
    assert (tmp_path / "photos" / "mine.txt").read_text() == "mine"


def test_an_empty_folder_is_named(encode: Encode, images: Path) -> None:
    shutil.rmtree(images)
    images.mkdir()
    with pytest.raises(UsageError, match="holds no images"):
        encode()


def test_runs_for_parts_of_the_shards_make_the_same_store(encode: Encode, tmp_path: Path) -> None:
    """Three runs side by side, the last of which finds nothing missing and finishes."""
    encode(tmp_path / "whole", shard_size=2)
    results = [encode(shard_size=2, part=(number, 3)) for number in (2, 0, 1)]
    assert [result.missing for result in results] == [2, 1, 0]
    assert [result.images for result in results] == [2, 2, 6]
    assert contents(tmp_path / "latents") == contents(tmp_path / "whole")
    assert encode(shard_size=2, part=(2, 3)).encoded == 0
    with pytest.raises(UsageError, match="would remove what the other runs wrote"):
        encode(shard_size=2, part=(0, 3), force=True)


def test_a_run_leaves_what_others_are_writing_alone(encode: Encode, tmp_path: Path) -> None:
    encode(shard_size=2, part=(0, 3))
    theirs, mine = (
        tmp_path / "latents" / f".shard-0000{shard}.jsonl.12345678.partial" for shard in (1, 2)
    )
    for path in (theirs, mine):
        path.write_text("half a")
    encode(shard_size=2, part=(2, 3))
    assert theirs.exists() and not mine.exists()


def test_both_flips_are_stored(encode: Encode, tokenizer: Tokenizer, tmp_path: Path,
                               images: Path) -> None:  # fmt: skip
    (images / "c.webp").write_text("no image")
    assert encode(flip=Flip.both).images == 10
    store = LatentsStore(tmp_path / "latents")
    assert [(row["file"], row.get("flip", False)) for row in store.rows[:4]] == [
        ("a.png", False), ("a.png", True), ("b.jpg", False), ("b.jpg", True),
    ]  # fmt: skip
    assert store.rows[1]["caption"] == "a first image"
    pixels = to_tensor(resize_crop(open_image(images / "b.jpg"), (96, 64)))[None]
    with torch.inference_mode():
        mirrored = tokenizer.tokenize(pixels.flip(-1))
    indices, residual = store.read(3)
    assert torch.equal(indices, mirrored.indices[0])
    assert (residual - mirrored.residual[0]).abs().max() <= 1e-3
    assert not torch.equal(indices, store.read(2)[0])


@pytest.mark.parametrize("fit", Fit)
def test_the_fit_is_used_and_recorded(
    encode: Encode, tokenizer: Tokenizer, tmp_path: Path, images: Path, fit: Fit
) -> None:
    encode(fit=fit)
    store = LatentsStore(tmp_path / "latents")
    assert store.plan.transform == fit.value
    pixels = to_tensor(fit_image(open_image(images / "a.png"), (96, 64), fit))[None]
    with torch.inference_mode():
        expected = tokenizer.tokenize(pixels).indices[0]
    assert torch.equal(store.read(0)[0], expected)
    other = Fit.crop if fit is Fit.pad else Fit.pad
    with pytest.raises(UsageError, match="was begun with transform"):
        encode(fit=other)


@pytest.mark.parametrize("precision", [Precision.bf16, Precision.fp16])
def test_lower_precision_changes_little_and_is_recorded(
    encode: Encode, tmp_path: Path, precision: Precision
) -> None:
    encode(tmp_path / "whole")
    encode(precision=precision)
    exact, rough = LatentsStore(tmp_path / "whole"), LatentsStore(tmp_path / "latents")
    assert rough.plan.precision == precision.value
    same = (exact.load_all()[0] == rough.load_all()[0]).float().mean()
    assert same > 0.8
    assert not torch.equal(exact.load_all()[1], rough.load_all()[1])


@pytest.mark.slow
def test_a_compiled_encoder_makes_the_same_latents(encode: Encode, tmp_path: Path) -> None:
    encode(tmp_path / "plain", batch_size=4)
    encode(batch_size=4, compile=True)
    plain, fast = LatentsStore(tmp_path / "plain"), LatentsStore(tmp_path / "latents")
    for here, there in zip(plain.load_all(), fast.load_all(), strict=True):
        assert here.shape == there.shape
        assert (here.float() - there.float()).abs().max() <= 1e-3


def test_compiled_it_sees_full_batches_alone_and_the_plan_says_so(
    encode: Encode, saved_tokenizer: Path, images: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Six images are a batch of four and one of two, which another graph would be made for."""
    shapes = []

    def compile(call: Callable[..., Tensor], *, graphs: bool) -> Callable[..., Tensor]:
        assert not graphs

        def compiled(images: Tensor) -> Tensor:
            shapes.append(tuple(images.shape))
            return call(images)

        return compiled

    encode(tmp_path / "plain", batch_size=4)
    monkeypatch.setattr("dcht.modules.compiled._compiled", compile)
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    settings = EncodeSettings(size=(96, 64), batch_size=4, shard_size=4, compile=True)
    encode_images(tokenizer, images, tmp_path / "latents", settings)
    assert set(shapes) == {(4, 3, 64, 96)} and len(shapes) == 2
    assert "forward" not in vars(tokenizer.encoder)
    plain, fast = LatentsStore(tmp_path / "plain"), LatentsStore(tmp_path / "latents")
    assert fast.plan.compiled and not plain.plan.compiled
    for here, there in zip(plain.load_all(), fast.load_all(), strict=True):
        assert (here.float() - there.float()).abs().max() <= 1e-3
    with pytest.raises(UsageError, match="was begun with compiled True, not False"):
        encode(batch_size=4)


def test_the_estimate_counts_what_encoding_writes(
    encode: Encode, saved_tokenizer: Path, images: Path, tmp_path: Path
) -> None:
    (images / "folder.png").mkdir()
    settings = EncodeSettings(size=(96, 64), batch_size=2, shard_size=4, flip=Flip.both)
    found = estimate(Tokenizer.from_pretrained(saved_tokenizer), images, settings)
    encode(flip=Flip.both)
    store = LatentsStore(tmp_path / "latents")
    tensors = [store.read_shard(shard) for shard in range(2)]
    numbers = sum(part.numel() for pair in tensors for part in pair if part is not None)
    assert (found.images, found.problems, found.shards) == (6, 1, 2)
    assert found.bytes == 2 * numbers
    part = dataclasses.replace(settings, part=(1, 2))
    half = estimate(Tokenizer.from_pretrained(saved_tokenizer), images, part)
    assert (half.images, half.problems, half.shards) == (2, 1, 1)
    assert half.bytes == 2 * sum(part.numel() for part in tensors[1] if part is not None)
    assert found.seconds > 0


def test_two_runs_may_begin_a_store_at_the_same_moment(
    saved_tokenizer: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One waits for the other, whose plan it would take for somebody else's, or remove."""
    settings = EncodeSettings(size=(96, 64), shard_size=3)
    plan = plan_encoding(Tokenizer.from_pretrained(saved_tokenizer), list_inputs(images), settings)
    out = tmp_path / "store"

    def begin(number: int) -> LatentsWriter:
        return LatentsWriter(out, plan, num_shards=2, own=[number])

    with ThreadPoolExecutor() as pool:
        other: list[Future[LatentsWriter]] = []

        def at_this_moment(folder: Path) -> bool:
            if not other:
                other.append(pool.submit(begin, 1))
                wait(other, timeout=1)
            return is_in_use(folder)

        monkeypatch.setattr("dcht.latents.writer.is_in_use", at_this_moment)
        assert begin(0).missing() == other[0].result().missing() == [0, 1]


def test_a_store_that_is_begun_is_not_locked(
    encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished one may lie where nothing can be written."""
    encode()
    monkeypatch.setattr(
        "dcht.latents.writer.locked", lambda *_, **__: pytest.fail("locked a known store")
    )
    assert encode().encoded == 0


def test_force_leaves_alone_what_it_reads(
    saved_tokenizer: Path, images: Path, tmp_path: Path
) -> None:
    """WebDataset calls its tars as a store calls its shards."""
    data = tmp_path / "data"
    write_shards(images, data)
    (data / "00000.tar").rename(data / "shard-000000.tar")
    (tmp_path / "link").symlink_to(data)
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    settings = EncodeSettings(size=(96, 64))
    for out in (data, tmp_path / "link"):
        for force in (False, True):
            with pytest.raises(UsageError, match=r"is an input|is not a store"):
                encode_images(tokenizer, data / "shard-000000.tar", out, settings, force=force)
    assert (data / "shard-000000.tar").stat().st_size


def test_more_workers_than_shards_are_no_faster(
    saved_tokenizer: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Seven inputs in shards of four: two workers have something to do, one of them four."""
    (images / "folder.png").mkdir()
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    ticks = itertools.count()
    monkeypatch.setattr("dcht.latents.encode.time.perf_counter", lambda: next(ticks))
    for workers, expected in ((1, 3.0), (2, 3 * 4 / 7), (8, 3 * 4 / 7)):
        settings = EncodeSettings(size=(96, 64), batch_size=2, shard_size=4, workers=workers)
        assert estimate(tokenizer, images, settings).seconds == pytest.approx(expected)
    told = capsys.readouterr().err.splitlines()
    assert told == ["note: 2 shards for 8 workers, 6 idle; --shard-size 1 would keep 7 busy"]


@pytest.mark.parametrize(
    ("workers", "shard_size", "note"),
    [
        (2, 4, ""),
        (3, 3, "note: 2 shards for 3 workers, 1 idle; --shard-size 2 would keep 3 busy"),
        (2, 4096, "note: 1 shard for 2 workers, 1 idle; --shard-size 3 would keep 2 busy"),
        (9, 1, ""),
    ],
)
def test_idle_workers_are_named(
    encode: Encode,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    workers: int,
    shard_size: int,
    note: str,
) -> None:
    def here(job: Any, tokenizer: Tokenizer, todo: Any, **others: Any) -> None:
        encode_shards(job, tokenizer, todo, others["progress"])

    monkeypatch.setattr("dcht.latents.workers.run_workers", here)
    encode(workers=workers, shard_size=shard_size)
    told = capsys.readouterr().err
    assert note in told if note else "idle" not in told
    encode(workers=workers, shard_size=shard_size)
    assert "idle" not in capsys.readouterr().err  # nothing is left to do


def test_one_mistake_of_many_is_named(encode: Encode, tmp_path: Path) -> None:
    encode()
    with pytest.raises(UsageError, match=r"was begun with threads \d+, not 7"):
        encode(threads=7)


def test_a_store_of_the_first_release_is_read(encode: Encode, tmp_path: Path) -> None:
    """Its manifest knew no flips, precision, device or hashes."""
    encode()
    path = tmp_path / "latents" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["sha256"]
    for name in ("flip", "precision", "compiled", "device", "latents_sha256"):
        del manifest["plan"][name]
    path.write_text(json.dumps(manifest))
    assert len(LatentsStore(tmp_path / "latents")) == 6


def test_strict_stops_at_what_an_earlier_run_skipped(
    encode: Encode, images: Path, tmp_path: Path
) -> None:
    """Finished or begun; a run of another part stops at its own alone."""
    spoil(images)
    encode(shard_size=1)
    assert encode(shard_size=1).skipped == 2
    for part in ((0, 1), (0, 2)):
        with pytest.raises(UsageError, match=r"^a\.png: not a PNG"):
            encode(shard_size=1, strict=True, part=part)
    with pytest.raises(UsageError, match=r"^b\.jpg: "):
        encode(shard_size=1, strict=True, part=(1, 2))
    begun = tmp_path / "begun"
    assert encode(begun, part=(0, 2)).missing == 1
    with pytest.raises(UsageError, match=r"^a\.png: not a PNG"):
        encode(begun, strict=True)
    assert encode(begun, strict=True, part=(1, 2)).skipped == 2
    shutil.copy(images / "e.png", images / "a.png")
    shutil.copy(images / "more" / "f.jpg", images / "b.jpg")
    assert encode(force=True, strict=True).skipped == 0


@pytest.mark.parametrize("way", ["folder", "link", "pattern", "link in it"])
def test_what_lies_in_out_is_no_input(
    encode: Encode, saved_tokenizer: Path, images: Path, tmp_path: Path, way: str
) -> None:
    """`encode photos --out photos/latents`, and again, with images and tables in it."""
    out, elsewhere = images / "latents", tmp_path / "elsewhere"
    (tmp_path / "linked").symlink_to(images)
    if way == "link in it":
        elsewhere.mkdir()
        out.symlink_to(elsewhere)
    source = {"link": tmp_path / "linked", "pattern": images / "*"}.get(way, images)
    settings = EncodeSettings(size=(96, 64))
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    for encoded in (6, 0, 0):
        found = encode_images(tokenizer, source, out, settings)
        assert (found.images, found.encoded, found.unread) == (6, encoded, [])
        shutil.copy(images / "e.png", out / "seen.png")
    assert estimate(tokenizer, source, settings, out=out).images == 6
    assert estimate(tokenizer, source, settings).images == 6 + (way != "link in it")
