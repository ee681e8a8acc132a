"""A GenEval run from images to scores: small random networks, a few prompts."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dcar.config import PRESETS
from dcar.model import DCAR
from dcar.modules.text import TextEncoder, word_tokenizer
from dcar.pipeline import TextToImage
from dcar.sampling_config import SamplingConfig
from dcar_eval.cli import build_parser
from dcar_eval.geneval import Detection, evaluate
from dcar_eval.geneval import detector as detector_module
from dcar_eval.geneval.evaluate import evaluate_geneval
from dcar_eval.geneval.networks import Judges
from dcar_eval.geneval.prompts import lines, metadata
from dcar_eval.geneval.report import notes, table
from dcar_eval.geneval.smoke import random_networks
from dcar_eval.geneval.sources import choose_prompts, generated_images, given_images
from dcar_eval.runs.shares import Share
from dcht import Tokenizer
from dcht.errors import UsageError

PROMPTS = [0, 80, 260]


@pytest.fixture(autouse=True)
def small_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector looks at 96 pixels instead of 800."""
    monkeypatch.setattr(detector_module, "SHORT_SIDE", 96)
    monkeypatch.setattr(detector_module, "LONG_SIDE", 160)


@pytest.fixture(scope="module")
def networks() -> Judges:
    return random_networks()


def write_images(folder: Path, prompts: list[int]) -> Path:
    for prompt in prompts:
        samples = folder / f"{prompt:05d}" / "samples"
        samples.mkdir(parents=True)
        (samples.parent / "metadata.jsonl").write_text(lines()[prompt] + "\n")
        for k in range(4):
            rng = np.random.default_rng([prompt, k])
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(samples / f"{k:04d}.png")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images", PROMPTS)


@pytest.fixture
def pipe(tokenizer: Tokenizer) -> TextToImage:
    """A tiny generator with random weights."""
    config = PRESETS["tiny"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert config.text.joint is not None
        words = word_tokenizer([row["prompt"] for row in metadata()], config.text.joint)
        return TextToImage(
            DCAR(config),
            TextEncoder.joint(config.text, config.generator, words),
            tokenizer,
            sampling=SamplingConfig(num_steps=2, num_diffusion_steps=2),
            size=(64, 64),
        )


def run(images: Path, out: Path, networks: Judges, **options: Any) -> dict[str, Any]:
    found = evaluate_geneval(given_images(images, PROMPTS), out, networks=networks, **options)
    assert found is not None
    return found


def without_run(results: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps({k: v for k, v in results.items() if k != "run"}))


def test_killed_and_shared_runs_make_the_same(
    images: Path, tmp_path: Path, networks: Judges, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(images, tmp_path / "whole", networks)
    rows = (tmp_path / "whole" / "images.jsonl").read_bytes()
    assert [json.loads(line)["index"] for line in rows.splitlines()] == list(range(12))
    assert whole["n"] == 12
    assert whole["overall"] is None
    assert (tmp_path / "whole" / "failures.png").exists()
    assert "Overall" not in (tmp_path / "whole" / "summary.txt").read_text()

    judge, calls = evaluate._judge, iter(range(100))

    def dies(*arguments: Any) -> dict[str, Any]:
        if next(calls) == 6:  # in the middle of the second prompt
            raise KeyboardInterrupt
        return judge(*arguments)

    monkeypatch.setattr(evaluate, "_judge", dies)
    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "killed", networks)
    assert not (tmp_path / "killed" / "results.json").exists()
    again = run(images, tmp_path / "killed", networks)
    assert next(calls) == 7 + 8, "what was saved is not judged again"
    assert without_run(again) == without_run(whole)
    assert (tmp_path / "killed" / "images.jsonl").read_bytes() == rows

    source, out = given_images(images, PROMPTS), tmp_path / "shared"
    assert evaluate_geneval(source, out, networks=networks, share=Share(1, 2)) is None
    merged = evaluate_geneval(source, out, networks=networks, share=Share(0, 2))
    assert merged is not None
    assert without_run(merged) == without_run(whole)
    assert (out / "images.jsonl").read_bytes() == rows


def test_an_image_painted_over_is_refused_by_its_name(
    images: Path, tmp_path: Path, networks: Judges
) -> None:
    run(images, tmp_path / "out", networks)
    for path in images.rglob("*.png"):  # all of one size, as only a BMP would be
        Image.open(path).save(path.with_suffix(".bmp"))
        path.with_suffix(".bmp").rename(path)
    run(images, tmp_path / "bitmaps", networks)
    name = "00080/samples/0002.png"
    content = bytearray((images / name).read_bytes())
    content[-1] ^= 255
    (images / name).write_bytes(content)
    with pytest.raises(UsageError, match=f"^{name} is no longer what"):
        run(images, tmp_path / "bitmaps", networks)


def test_a_pipe_in_an_images_place_is_listed(
    images: Path, tmp_path: Path, networks: Judges
) -> None:
    file = images / "00080" / "samples" / "0002.png"
    file.unlink()
    os.mkfifo(file)
    results = run(images, tmp_path / "out", networks)
    assert (results["n"], results["skipped"]) == (11, 1)
    assert "not a regular file" in (tmp_path / "out" / "errors.jsonl").read_text()


def test_what_is_missing_or_twice_is_named(images: Path, tmp_path: Path, networks: Judges) -> None:
    samples = images / "00080" / "samples"
    (samples / "0003.png").unlink()
    (samples / "0001.png").write_bytes((samples / "0000.png").read_bytes())
    (images / "00260" / "samples" / "0002.png").write_bytes(b"no picture")
    results = run(images, tmp_path / "out", networks)
    assert results["missing"] == [
        "00080/samples has 3 of 4 images",
        "00260/samples has 3 of 4 images",
    ]
    assert results["duplicates"] == [
        "00080/samples/0001.png is the same image as 00080/samples/0000.png"
    ]
    assert results["skipped"] == 1
    (error,) = (tmp_path / "out" / "errors.jsonl").read_text().splitlines()
    assert json.loads(error)["file"] == "00260/samples/0002.png"
    said = "\n".join(notes(results))
    assert "NOT COMPARABLE: detector and CLIP have random weights" in said
    assert "NOT COMPARABLE: 10 of the benchmark's 2,212 images: no Overall" in said
    assert "00080/samples has 3 of 4 images" in said
    assert "overall" not in table(results)
    with pytest.raises(UsageError, match=r"0002\.png: not a PNG"):
        run(images, tmp_path / "strict", networks, strict=True)


def test_overall_is_said_when_every_image_is_there(
    tmp_path: Path, networks: Judges, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A benchmark of two prompts, a bench and a cow, and a bench wherever one looks."""
    rows = metadata()
    monkeypatch.setattr(evaluate, "metadata", lambda: [rows[0], rows[1] | {"tag": "two_object"}])
    bench = Detection(class_name="bench", score=0.9, box=(0, 0, 9, 9))
    monkeypatch.setattr(Judges, "look_at", lambda *_: [bench])
    images = write_images(tmp_path / "images", [0, 1])
    results = evaluate_geneval(given_images(images, [0, 1]), tmp_path / "out", networks=networks)
    assert results is not None
    assert results["tasks"] == {"single_object": 1, "two_object": 0}
    assert results["overall"] == 0.5
    assert results["intervals"]["overall"] == (0.5, 0.5)
    assert "Overall score (avg. over tasks): 0.50000" in (tmp_path / "out/summary.txt").read_text()
    assert table(results).splitlines()[-1].split() == [
        "overall",
        "0.5000",
        "0.500",
        "to",
        "0.500",
        "8",
    ]


def test_a_checkpoint_draws_into_the_benchmarks_layout(
    pipe: TextToImage, tmp_path: Path, networks: Judges
) -> None:
    prompts = choose_prompts(1)
    assert prompts == [0, 80, 179, 259, 353, 453]
    assert len(choose_prompts(None)) == 553
    chosen = prompts[:2]
    out = tmp_path / "out"
    results = evaluate_geneval(generated_images(pipe, chosen, seed=3), out, networks=networks)
    assert results is not None
    assert results["settings"]["seed"] == 3
    assert results["missing"] == []
    assert (out / "images/00080/metadata.jsonl").read_text() == lines()[80] + "\n"
    # Image 2 of prompt 80 is image 4 * 80 + 2 of its seed.
    (alone,) = pipe(metadata()[80]["prompt"], seed=3, first_index=322, batch_size=1).images
    drawn = np.asarray(Image.open(out / "images/00080/samples/00002.png")).astype(int)
    assert (np.abs(drawn - np.asarray(alone)) > 1).mean() < 1e-3
    # What was drawn is judged alike as a folder of anyone's.
    judged = evaluate_geneval(
        given_images(out / "images", chosen), tmp_path / "again", networks=networks
    )
    assert judged is not None
    assert judged["tasks"] == results["tasks"]
    assert (out / "images.jsonl").read_bytes() == (tmp_path / "again/images.jsonl").read_bytes()


@pytest.fixture
def dcar_eval(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Calls the command line in this process: exit code, stdout, stderr."""
    from dcht.commands.common import exit_code

    def call(*words: object) -> tuple[int, str, str]:
        arguments = build_parser().parse_args([*map(str, words)])
        code = exit_code(arguments.function, arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield call
    sys.stdout.flush()


def test_the_whole_command(
    images: Path, tmp_path: Path, dcar_eval: Callable[..., tuple[int, str, str]]
) -> None:
    write_images(images, [179, 259, 353, 453])
    words = ("geneval", "--images", images, "--num-per-task", 1, "--smoke", "--device", "cpu")
    code, out, err = dcar_eval(*words, "--out", tmp_path / "out")
    assert code == 0
    assert out.splitlines()[0] == "geneval[smoke]"
    assert [line.split()[0] for line in out.splitlines()[2:]] == [
        "single_object", "two_object", "counting", "colors", "position", "color_attr",
    ]  # fmt: skip
    assert "NOT COMPARABLE: detector and CLIP have random weights" in err
    code, out, _ = dcar_eval(*words, "--out", tmp_path / "out", "--json")
    results = json.loads(out)
    assert results == json.loads((tmp_path / "out/results.json").read_text())
    assert results["n"] == 24
    (images / "00179/samples/0000.png").unlink()
    code, _, err = dcar_eval(*words, "--out", tmp_path / "less")
    assert code == 3
    assert "00179/samples has 3 of 4 images" in err
    code, _, err = dcar_eval(*words, "--out", tmp_path / "out")
    assert code == 2
    assert "was begun with images 24, not 23" in err
    for more, message in (
        (("--seed", 1), "--images are judged as they are"),
        (("--clip", "x/y"), "--smoke has networks of its own"),
    ):
        code, _, err = dcar_eval(*words, *more, "--out", tmp_path / "no")
        assert (code, message in err) == (2, True)
