"""MJHQ on a look-alike: twelve prompts of two categories, drawn by a tiny model."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dcar.config import PRESETS, TextConfig
from dcar.model import DCAR
from dcar.modules.text import TextEncoder, word_tokenizer
from dcar.pipeline import TextToImage
from dcar.sampling_config import SamplingConfig
from dcar_eval import mjhq
from dcar_eval.fid import Statistics
from dcar_eval.metrics.distances import distances, statistics_of
from dcar_eval.metrics.features import Extractor, cached_features
from dcar_eval.metrics.protocol import GENERATION_PROTOCOLS
from dcar_eval.mjhq import evaluate_mjhq, notes, table
from dcar_eval.mjhq.benchmark import read_prompts, reference_images
from dcar_eval.mjhq.sources import GeneratedImages, GivenImages
from dcar_eval.runs.journal import Journal
from dcar_eval.runs.shares import Share
from dcht import Tokenizer
from dcht.errors import UsageError
from dcht.images import open_image, to_bytes

PROTOCOL = replace(GENERATION_PROTOCOLS["sana"], size=64)
Evaluate = Callable[..., dict[str, Any] | None]


class Patches(nn.Module):
    """Means over patches: 12 numbers that differ from image to image."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images.float() / 255, 2).flatten(1)


@pytest.fixture
def look_alike(tmp_path: Path) -> Path:
    """`meta_data.json`, and images in a folder for each category."""
    folder, rng = tmp_path / "mjhq", np.random.default_rng(0)
    meta = {}
    for number in range(12):
        category = ("people", "animals")[number % 2]
        key = f"{(number * 7) % 12:02d}beef"
        meta[key] = {"category": category, "prompt": f"a red cube, number {number}"}
        (folder / "imgs" / category).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((128, 128), Image.Resampling.BICUBIC)
        image.save(folder / "imgs" / category / f"{key}.jpg")
    (folder / "meta_data.json").write_text(json.dumps(meta))
    return folder


@pytest.fixture
def pipe(tokenizer: Tokenizer) -> TextToImage:
    config = PRESETS["tiny"]
    assert config.text.joint is not None
    text = TextConfig(name=None, joint=config.text.joint)
    words = word_tokenizer(["a red cube"], config.text.joint)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TextToImage(
            DCAR(config),
            TextEncoder.joint(text, config.generator, words),
            tokenizer,
            sampling=SamplingConfig(num_steps=2, num_diffusion_steps=2),
            size=(64, 64),
        )


@pytest.fixture
def extractor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Extractor:
    monkeypatch.setenv("DCAR_EVAL_CACHE", str(tmp_path / "cache"))
    return Extractor(
        name="inception", sha256="", dim=12, device=torch.device("cpu"), module=Patches()
    )


@pytest.fixture
def evaluate(
    look_alike: Path,
    pipe: TextToImage,
    extractor: Extractor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Evaluate:
    monkeypatch.setattr(mjhq, "SAVED_EVERY", 2)
    prompts = read_prompts(look_alike)

    def run(out: Path = tmp_path / "out", seed: int = 0, **options: Any) -> Any:
        source = GeneratedImages(
            pipe, prompts, out / "images", protocol=PROTOCOL, seed=seed, batch_size=2,
            sampling=pipe.sampling,
        )  # fmt: skip
        reference = options.pop("reference", None) or reference_images(look_alike, prompts)
        return evaluate_mjhq(
            options.pop("source", source), prompts, reference, out,
            protocol=PROTOCOL, extractor=extractor, batch_size=2, **options,
        )  # fmt: skip

    return run


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, without what may differ from run to run."""
    files = [folder / "images.jsonl", folder / "results.json", *(folder / "images").iterdir()]
    found = {file.name: file.read_bytes() for file in files}
    results = json.loads(found["results.json"])
    found["results.json"] = json.dumps(results | {"run": None}).encode()
    return found


def test_overall_and_by_category(
    evaluate: Evaluate, look_alike: Path, pipe: TextToImage, extractor: Extractor, tmp_path: Path
) -> None:
    results = evaluate()
    assert results is not None
    prompts = read_prompts(look_alike)
    rows = [json.loads(line) for line in (tmp_path / "out/images.jsonl").read_text().splitlines()]
    assert [row["key"] for row in rows] == [prompt.key for prompt in prompts]
    files = [tmp_path / "out/images" / f"{prompt.key}.jpg" for prompt in prompts]
    with Image.open(files[3]) as image:
        assert (image.format, image.size) == ("JPEG", (64, 64))
        assert json.loads(image.info["comment"])["index"] == 3
        # Prompt k is image k of the seed, whatever the batch.
        (expected,) = pipe(prompts[3].prompt, seed=0, first_index=3).images
        expected.save(tmp_path / "expected.jpg")
        same = np.asarray(Image.open(tmp_path / "expected.jpg")).astype(float)
        assert np.abs(np.asarray(image) - same).mean() < 0.5
    real = cached_features(
        reference_images(look_alike, prompts), extractor, size=(64, 64), crop=PROTOCOL.crop
    )
    drawn = np.concatenate([extractor(to_bytes(open_image(file))[None]) for file in files])
    expected = distances(real, drawn, kind="gfid", extractor="inception")
    assert results["metrics"]["gfid"]["value"] == pytest.approx(expected["gfid"]["value"], rel=1e-6)
    people = [index for index, prompt in enumerate(prompts) if prompt.category == "people"]
    part = distances(real[people], drawn[people], kind="gfid", extractor="inception")
    assert results["categories"]["people"]["gfid"]["n"] == 6
    value = results["categories"]["people"]["gfid"]["value"]
    assert value == pytest.approx(part["gfid"]["value"], rel=1e-6)
    assert results["protocol"]["sha256"] == PROTOCOL.sha256
    lines = [line.split()[0] for line in table(results).splitlines()]
    assert lines == ["images", "all", "animals", "people"]
    first, second, third = notes(results)
    assert "12 prompts of the benchmark's 30,000" in first
    assert "below 2,048" in second
    assert "of 6 images, which biases it upward" in third


def test_shares_and_killed_runs_are_one_run(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    save = Journal.save
    with monkeypatch.context() as patch:
        calls: list[Journal] = []

        def stop(journal: Journal) -> None:
            calls.append(journal)
            if len(calls) == 3:
                raise KeyboardInterrupt
            save(journal)

        patch.setattr(Journal, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            evaluate()
    drawn = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/images").iterdir()}
    assert 0 < len(drawn) < 12
    evaluate()
    assert contents(tmp_path / "out") == whole
    assert {path: path.stat().st_mtime_ns for path in drawn} == drawn
    assert evaluate(tmp_path / "shared", share=Share(1, 2)) is None
    assert evaluate(tmp_path / "shared", share=Share(0, 2)) is not None
    assert contents(tmp_path / "shared") == whole
    with pytest.raises(UsageError, match="was begun with seed 0, not 1"):
        evaluate(seed=1)


def test_images_of_other_settings_are_not_taken(evaluate: Evaluate, tmp_path: Path) -> None:
    evaluate(share=Share(1, 2))
    with pytest.raises(UsageError, match=r"beef\.jpg was made otherwise; use --force"):
        evaluate(share=Share(1, 3), seed=1)


def test_anyones_images_and_stored_statistics(
    evaluate: Evaluate, look_alike: Path, extractor: Extractor, tmp_path: Path
) -> None:
    """The benchmark's own images are at distance 0 of themselves."""
    prompts = read_prompts(look_alike)
    given = GivenImages(look_alike / "imgs", prompts)
    results = evaluate(source=given)
    assert results is not None
    assert results["metrics"]["gfid"]["value"] == pytest.approx(0, abs=1e-9)
    real = cached_features(
        reference_images(look_alike, prompts), extractor, size=(64, 64), crop=PROTOCOL.crop
    )
    stored = evaluate(tmp_path / "stored", source=given, reference=statistics_of(real))
    assert stored is not None
    assert stored["metrics"].keys() == {"gfid"}
    assert stored["metrics"]["gfid"]["value"] == pytest.approx(0, abs=1e-9)
    assert stored["categories"] == {}
    further = evaluate(tmp_path / "further", source=given, metrics=["mind", "precision-recall"])
    assert further is not None
    assert further["metrics"].keys() - {"mind", "precision", "recall"} == results["metrics"].keys()
    assert further["metrics"]["mind"]["value"] == pytest.approx(0, abs=1e-9)
    assert further["metrics"]["precision"]["value"] == further["metrics"]["recall"]["value"] == 1
    with pytest.raises(UsageError, match="mind needs images"):
        evaluate(tmp_path / "no", source=given, reference=statistics_of(real), metrics=["mind"])
    (look_alike / "imgs/people" / f"{prompts[4].key}.jpg").unlink()
    with pytest.raises(UsageError, match=f"lacks 1 of 12 images, the first is {prompts[4].key}"):
        GivenImages(look_alike / "imgs", prompts)


def test_statistics_of_another_network_are_refused_before_an_image_is_drawn(
    evaluate: Evaluate, tmp_path: Path
) -> None:
    for dim in (11, 13):
        others = Statistics(np.zeros(dim), np.eye(dim))
        with pytest.raises(UsageError, match=f"statistics of {dim} dim.* inception makes .* of 12"):
            evaluate(reference=others)
    assert not (tmp_path / "out").exists()


def test_images_are_in_folders_or_in_a_zip(look_alike: Path, tmp_path: Path) -> None:
    prompts = read_prompts(look_alike)
    files = sorted((look_alike / "imgs").rglob("*.jpg"))
    in_folder = [entry.open().tobytes() for entry in reference_images(look_alike, prompts)]
    zipped = tmp_path / "zipped"
    zipped.mkdir()
    (zipped / "meta_data.json").write_bytes((look_alike / "meta_data.json").read_bytes())
    with zipfile.ZipFile(zipped / "imgs.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.relative_to(look_alike).as_posix())
            archive.writestr(f"__MACOSX/._{file.name}", b"")
    in_zip = [entry.open().tobytes() for entry in reference_images(zipped, prompts)]
    assert in_zip == in_folder
    with zipfile.ZipFile(zipped / "imgs.zip", "a") as archive:
        archive.write(files[0], f"again/{files[0].name}")
    with pytest.raises(UsageError, match=f"has {files[0].stem} twice: imgs/.* and again/"):
        reference_images(zipped, prompts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds a JSON list; expected a JSON object"),
        ("{", "is not JSON"),
        ('{"a": {"prompt": "x"}}', "is not what MJHQ-30K has"),
        ('{"a": {"category": 3, "prompt": "x"}}', "'a' is not a key with"),
        ('{"../a": {"category": "x", "prompt": "x"}}', r"'\.\./a' is not a key with"),
        ("{}", "holds no prompts"),
    ],
)
def test_a_damaged_benchmark_is_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UsageError, match=r"meta_data\.json is not there; the benchmark is"):
        read_prompts(tmp_path)
    (tmp_path / "meta_data.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        read_prompts(tmp_path)
