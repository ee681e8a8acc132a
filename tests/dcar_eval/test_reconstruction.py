"""Reconstruction metrics: the stated conventions, what a run writes, and how it goes on."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from dcar_eval import reconstruction
from dcar_eval.metrics.features import Extractor
from dcar_eval.metrics.networks import MetricNetworks, load_networks
from dcar_eval.metrics.pixels import psnr, ssim
from dcar_eval.metrics.protocol import PROTOCOLS
from dcar_eval.reconstruction import evaluate_reconstruction, notes, table
from dcar_eval.runs.journal import Journal, features_file
from dcar_eval.runs.shares import Share
from dcht import PRESETS, Tokenizer
from dcht.errors import CheckpointError, UsageError
from dcht.files import locked
from dcht.images import LABEL_HEIGHT, open_image, read_png_text, resize_crop, to_pil, to_tensor

Evaluate = Callable[..., dict[str, Any]]
FEATURES = 12


class Distance(torch.nn.Module):
    """Stands in for LPIPS; `weight` for its weights."""

    weight: torch.Tensor

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor(weight))

    def forward(self, images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        return self.weight * (images - others).abs().mean(dim=(1, 2, 3))


def features(images: torch.Tensor) -> torch.Tensor:
    """Means over patches: 12 numbers that differ from image to image."""
    assert images.dtype == torch.uint8
    return torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 2).flatten(1)


@pytest.fixture
def evaluate(
    saved_tokenizer: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Evaluate:
    """Evaluate the six images with stand-ins for the networks, in batches of two."""
    monkeypatch.setattr(reconstruction, "SAVED_EVERY", 2)
    extractor = Extractor(
        name="inception", sha256="", dim=FEATURES, device=torch.device("cpu"), module=features
    )
    networks = MetricNetworks(lpips={"lpips_vgg": Distance()}, extractor=extractor)
    settings = {"size": (64, 64), "batch_size": 2, "networks": networks}
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)

    def run(out: Path = tmp_path / "out", **changes: Any) -> Any:
        return evaluate_reconstruction(tokenizer, images, out, **(settings | changes))

    return run


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, without the one block of the results that may differ from run to run."""
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    results = json.loads(found["results.json"])
    found["results.json"] = json.dumps(results | {"run": None}).encode()
    return found


def test_psnr_and_ssim_are_what_the_protocol_says() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, (48, 64, 3), dtype=np.uint8)
    assert psnr(image, image + 10) == pytest.approx(20 * np.log10(255 / 10))
    assert psnr(image, image) is None
    assert ssim(image, image) == pytest.approx(1)
    noisy = np.clip(image + rng.normal(0, 20, image.shape), 0, 255).astype(np.uint8)
    expected = structural_similarity(
        image, noisy, data_range=255, channel_axis=-1,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert ssim(image, noisy) == expected
    assert ssim(image, noisy) != structural_similarity(image, noisy, channel_axis=-1)


def test_values_are_means_over_images(evaluate: Evaluate, images: Path, tmp_path: Path) -> None:
    results = evaluate()
    rows = lines(tmp_path / "out" / "images.jsonl")
    names = ["a.png", "b.jpg", "c.webp", "d.bmp", "e.png", "more/f.jpg"]
    assert [row["file"] for row in rows] == names
    tokenizer = Tokenizer.from_pretrained(tmp_path / "tokenizer")
    crop = resize_crop(open_image(images / "d.bmp"), (64, 64))
    for path in ("hybrid", "discrete"):
        with torch.inference_mode():
            back = to_pil(tokenizer.reconstruct(to_tensor(crop)[None], path)[0])
        row = rows[3][path]
        assert row["psnr"] == pytest.approx(psnr(np.asarray(crop), np.asarray(back)), abs=0.05)
        assert row["ssim"] == pytest.approx(ssim(np.asarray(crop), np.asarray(back)), abs=1e-3)
        difference = np.abs(np.asarray(crop).astype(float) - np.asarray(back)).mean() / 127.5
        assert row["lpips_vgg"] == pytest.approx(difference, abs=1e-3)
        values = results["paths"][path]
        assert values.keys() == {"psnr", "ssim", "lpips_vgg", "rfid", "kid"}
        for metric in ("psnr", "ssim", "lpips_vgg"):
            mean = np.mean([row[path][metric] for row in rows])
            assert values[metric] == {"value": pytest.approx(mean), "n": 6}
        assert values["rfid"]["value"] > 0
    assert results["paths"]["hybrid"] != results["paths"]["discrete"]


def test_results_say_what_they_depend_on(evaluate: Evaluate, tmp_path: Path) -> None:
    results = evaluate(limit=4)
    assert results == json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["n"], results["skipped"]) == (4, 0)
    settings = results["settings"]
    assert settings["protocol_sha256"] == results["protocol"]["sha256"] == PROTOCOLS["dcar"].sha256
    saved = Tokenizer.from_pretrained(tmp_path / "tokenizer").sha256
    assert (settings["tokenizer_sha256"], settings["size"]) == (saved, [64, 64])
    assert results["versions"].keys() >= {"dcht", "dcar-eval", "torch", "scikit-image"}
    head, hybrid, discrete = (line.split() for line in table(results).splitlines())
    assert head == ["path", "psnr", "ssim", "lpips_vgg", "rfid", "kid", "images"]
    assert (hybrid[0], discrete[0], discrete[-1]) == ("hybrid", "discrete", "4")
    assert notes(results) == [
        "rfid is of 4 images: below 2,048 it is biased upward and compares with nothing else"
    ]


def test_further_metrics_have_records_of_their_own(evaluate: Evaluate, tmp_path: Path) -> None:
    """Of a pair and of the sets; what the protocol measures, and its hash, are as without them."""
    plain = evaluate(tmp_path / "plain", size=(192, 192), limit=4)
    networks = MetricNetworks(
        lpips={"lpips_vgg": Distance()},
        extractor=Extractor(
            name="inception", sha256="", dim=FEATURES, device=torch.device("cpu"), module=features
        ),
        further=["ms-ssim", "mind"],
    )
    results = evaluate(size=(192, 192), limit=4, networks=networks)
    for path, values in results["paths"].items():
        assert values.keys() - plain["paths"][path].keys() == {"ms-ssim", "mind"}
        assert {name: values[name] for name in plain["paths"][path]} == plain["paths"][path]
        rows = lines(tmp_path / "out" / "images.jsonl")
        assert values["ms-ssim"]["value"] == pytest.approx(
            np.mean([row[path]["ms-ssim"] for row in rows])
        )
        for name in ("ms-ssim", "mind"):
            assert values[name]["sha256"] == results["settings"]["further"][name]
    assert results["settings"]["protocol_sha256"] == plain["settings"]["protocol_sha256"]
    assert "ms-ssim" in table(results).split()
    with pytest.raises(UsageError, match="ms-ssim needs sides of 176 pixels at least"):
        evaluate(tmp_path / "small", size=(192, 160), networks=networks)
    assert not (tmp_path / "small").exists()


def test_sheet_shows_the_first_images(evaluate: Evaluate, tmp_path: Path) -> None:
    evaluate()
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.size == (4 * 64 + 3 * 4, LABEL_HEIGHT + 6 * 64 + 5 * 4)
    text = read_png_text(tmp_path / "out" / "sheet.png")
    assert text["columns"] == "input, discrete, hybrid, 5 x error"


def test_perfect_reconstruction_has_no_psnr_but_a_value(
    evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tokenizer, "encode", lambda self, images: images)
    monkeypatch.setattr(Tokenizer, "decode", lambda self, latent: latent)
    monkeypatch.setattr(reconstruction, "_write_sheet", lambda *_: None)
    values = evaluate(path="hybrid")["paths"]["hybrid"]
    assert values["psnr"] == {"value": None, "n": 0}
    assert values["ssim"]["value"] == pytest.approx(1)
    assert values["lpips_vgg"]["value"] == 0
    assert values["rfid"]["value"] == pytest.approx(0, abs=1e-9)


def test_bad_images_are_skipped_counted_and_listed(
    evaluate: Evaluate, images: Path, tmp_path: Path
) -> None:
    (images / "a.png").write_text("no image")
    (images / "d.bmp").write_bytes((images / "d.bmp").read_bytes()[:40])
    results = evaluate()
    assert (results["n"], results["skipped"]) == (4, 2)
    assert [row["file"] for row in lines(tmp_path / "out" / "errors.jsonl")] == ["a.png", "d.bmp"]
    with pytest.raises(UsageError, match=r"a\.png: not a PNG"):
        evaluate(tmp_path / "strict", strict=True)
    for path in images.rglob("*.*"):
        path.write_text("no image")
    with pytest.raises(UsageError, match="none of the 6 images could be read"):
        evaluate(tmp_path / "none")


@pytest.mark.parametrize("when", [1, 2, 3])
def test_a_killed_run_goes_on_to_the_same_results(
    evaluate: Evaluate, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    (images / "b.jpg").write_text("no image")
    evaluate(tmp_path / "whole")
    save = Journal.save
    calls = 0

    def stop(journal: Journal) -> None:
        """Killed after rows were appended, before they count."""
        nonlocal calls
        calls += 1
        if calls == when:
            raise KeyboardInterrupt
        save(journal)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            evaluate()
    (tmp_path / "out" / ".results.json.partial").write_text("left over")
    assert not (tmp_path / "out" / "results.json").exists()
    evaluate()
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_finished_run_is_left_alone(evaluate: Evaluate, images: Path, tmp_path: Path) -> None:
    first = evaluate()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.jsonl")}
    for left in (features_file("input"), features_file("hybrid")):  # killed behind its results
        (tmp_path / "out" / left).write_bytes(bytes(48))
    assert evaluate() == first
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(UsageError, match="was begun with files 6, not 3"):
        evaluate(limit=3)
    with pytest.raises(UsageError, match=r"was begun with size \[64, 64\], not \[96, 64\]"):
        evaluate(size=(96, 64))
    extractor = Extractor(
        name="inception", sha256="", dim=FEATURES, device=torch.device("cpu"), module=features
    )
    others = MetricNetworks(lpips={"lpips_vgg": Distance(2.0)}, extractor=extractor)
    with pytest.raises(UsageError, match="was begun with lpips_sha256"):
        evaluate(networks=others)
    assert evaluate(limit=3, force=True)["n"] == 3
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        evaluate(tmp_path / "mine")


def test_a_image_painted_over_is_refused_by_its_name(
    evaluate: Evaluate, images: Path, tmp_path: Path
) -> None:
    """At the same size in bytes and with the same times: half a run, a whole one, a share."""
    first = evaluate()
    evaluate(tmp_path / "shared", share=Share(1, 2))
    file = images / "d.bmp"
    before, pixels = file.stat(), bytearray(file.read_bytes())
    pixels[60:] = bytes(255 - value for value in pixels[60:])
    file.write_bytes(pixels)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    for out, share in ((tmp_path / "out", Share()), (tmp_path / "shared", Share(1, 2))):
        with pytest.raises(UsageError, match=r"^d\.bmp is no longer what"):
            evaluate(out, share=share)
    again = evaluate(force=True)
    assert again["paths"] != first["paths"]
    assert again["settings"]["content_sha256"] != first["settings"]["content_sha256"]


def test_a_folder_that_is_being_written_is_refused(evaluate: Evaluate, tmp_path: Path) -> None:
    """A share holds its own folder, so that shares work beside each other."""
    out = tmp_path / "out"
    with locked(out), pytest.raises(UsageError, match=rf"{out} is being written by process"):
        evaluate()
    with locked(out / "part-0-of-2"):
        assert evaluate(share=Share(1, 2)) is None
        with pytest.raises(UsageError, match=r"part-0-of-2 is being written by process"):
            evaluate(share=Share(0, 2))
    assert evaluate(share=Share(0, 2))["n"] == 6
    assert not list(out.rglob(".lock"))


@pytest.mark.parametrize("name", ["settings.json", "results.json"])
def test_damaged_files_of_a_run_are_one_line(evaluate: Evaluate, tmp_path: Path, name: str) -> None:
    results = evaluate()
    for damage in (b"{", b"[]", b"[" * 10**5, b"\xff"):
        (tmp_path / "out" / name).write_bytes(damage)
        with pytest.raises(UsageError, match=name.replace(".", r"\.")):
            evaluate()
    assert evaluate(force=True)["paths"] == results["paths"]


def test_a_plain_autoencoder_has_one_path(images: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer(replace(PRESETS["tiny"], codebook_size=None)).eval()
    with pytest.raises(CheckpointError, match="was never saved"):
        evaluate_reconstruction(tokenizer, images, tmp_path / "out", size=(64, 64))
    tokenizer.save_pretrained(tmp_path / "plain")
    with pytest.raises(CheckpointError, match="no quantizer"):
        evaluate_reconstruction(tokenizer, images, tmp_path / "out", size=(64, 64))
    results = evaluate_reconstruction(
        tokenizer, images, tmp_path / "out", size=(64, 64), path="hybrid"
    )
    assert results is not None and results["settings"]["metrics"] == ["psnr", "ssim"]
    assert not (tmp_path / "out" / "sheet.png").exists()


def test_networks_without_weights_are_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("DCHT_PERCEPTUAL_WEIGHTS", "DCAR_EVAL_INCEPTION"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    cpu, dcar = torch.device("cpu"), PROTOCOLS["dcar"]
    networks = load_networks(dcar, device=cpu)
    assert networks.metrics == ["psnr", "ssim"]
    assert networks.left_out.keys() == {"lpips_vgg", "lpips_alex", "rfid"}
    assert networks.left_out["lpips_vgg"] == (
        "no perceptual weights (vgg16) were found; "
        "`python -m dcht.perceptual --help` says how to get the weights"
    )
    assert "python -m dcar_eval.inception" in networks.left_out["rfid"]
    with pytest.raises(UsageError, match="nowhere does not exist"):
        load_networks(dcar, device=cpu, lpips_weights="nowhere")
    # Nothing is left to measure: that is no result.
    with pytest.raises(UsageError, match=r"python -m dcar_eval\.inception"):
        load_networks(PROTOCOLS["titok"], device=cpu)
    with pytest.raises(UsageError, match="extractor 'resnet' is not known; use inception,"):
        load_networks(replace(dcar, fid="resnet"), device=cpu)


def test_two_shares_are_one_run(evaluate: Evaluate, images: Path, tmp_path: Path) -> None:
    """Byte for byte, whichever ends last; and nothing is said before."""
    (images / "e.png").write_text("no image")
    evaluate(tmp_path / "whole")
    assert evaluate(share=Share(1, 2)) is None
    assert not (tmp_path / "out" / "results.json").exists()
    assert evaluate(share=Share(0, 2)) is not None
    merged, whole = contents(tmp_path / "out"), contents(tmp_path / "whole")
    own = ("settings.json", ".contents.json")  # each share has them in its folder
    assert merged == {name: whole[name] for name in whole if name not in own}
    assert evaluate(share=Share(1, 2)) == json.loads((tmp_path / "out/results.json").read_text())
    with pytest.raises(UsageError, match="--force with share 1/2"):
        evaluate(share=Share(1, 2), force=True)


def test_an_image_missing_or_twice_is_named(evaluate: Evaluate, tmp_path: Path) -> None:
    evaluate(share=Share(1, 2))
    part = tmp_path / "out" / "part-1-of-2"
    whole = {path.name: path.read_bytes() for path in part.iterdir()}

    def tamper(rows: list[str]) -> None:
        """The rows that the state of the share counts on, changed."""
        content = "".join(rows).encode()
        state = json.loads(whole[".state.json"])
        state["files"]["images.jsonl"] = [len(content), sha256(content).hexdigest()]
        (part / ".state.json").write_text(json.dumps(state))
        (part / "images.jsonl").write_bytes(content)

    rows = whole["images.jsonl"].decode().splitlines(keepends=True)
    tamper(rows[:1])
    with pytest.raises(UsageError, match=r"image 3 \(d\.bmp\) is missing from"):
        evaluate(share=Share(0, 2))
    tamper([rows[0], rows[0].replace('"index": 2', '"index": 1')])
    with pytest.raises(UsageError, match=r"image 1 \(c.webp\) is there twice: in .*part-0.*part-1"):
        evaluate(share=Share(0, 2))
    tamper(rows)
    (part / "settings.json").write_bytes(whole["settings.json"].replace(b'"dcar"', b'"other"'))
    with pytest.raises(UsageError, match="part-1-of-2 has protocol other, part-0-of-2 dcar"):
        evaluate(share=Share(0, 2))


def test_the_named_protocols_are_carried_out(evaluate: Evaluate, tmp_path: Path) -> None:
    """Each line of a protocol changes the numbers that it is about."""
    extractor = Extractor(
        name="inception", sha256="", dim=FEATURES, device=torch.device("cpu"), module=features
    )
    found = {}
    for name, protocol in PROTOCOLS.items():
        networks = MetricNetworks(protocol=protocol, extractor=extractor)
        results = evaluate(tmp_path / name, networks=networks, path="hybrid")
        assert results["protocol"] == protocol.described()
        found[name] = results["paths"]["hybrid"]
    assert found["titok"].keys() == {"rfid", "kid"}
    assert found["dc-ae"]["psnr"] == found["llamagen"]["psnr"]  # one crop, one rounding
    ssims = {found[name]["ssim"]["value"] for name in ("dcar", "dc-ae", "llamagen")}
    assert len(ssims) == 3
    with pytest.raises(UsageError, match="size 96x64 is not square"):
        evaluate(
            tmp_path / "wide", networks=MetricNetworks(protocol=PROTOCOLS["dc-ae"]), size=(96, 64)
        )
