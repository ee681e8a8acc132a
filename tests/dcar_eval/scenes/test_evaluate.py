"""The scenes benchmark: its prompts, a score that is known beforehand, and runs that go on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dcar.config import PRESETS, TextConfig
from dcar.model import DCAR
from dcar.modules.text import TextEncoder, word_tokenizer
from dcar.pipeline import TextToImage
from dcar.pipeline.series import ImageSeries
from dcar.sampling_config import SamplingConfig
from dcar_eval.geneval import Detection
from dcar_eval.scenes import evaluate
from dcar_eval.scenes.captions import captions
from dcar_eval.scenes.estimator import Estimate, Estimator, EstimatorConfig
from dcar_eval.scenes.evaluate import during_training, evaluate_scenes
from dcar_eval.scenes.held_out import held_out
from dcar_eval.scenes.prompts import known_objects, sample_prompts
from dcar_eval.scenes.recognizer import Recognizer, RecognizerConfig
from dcar_eval.scenes.sample import sample_scene
from dcar_eval.scenes.world import BENCHMARK, COLORS, WORLDS, Split
from dcht import Tokenizer
from dcht.errors import UsageError

STARTER = WORLDS["starter"]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """What a checkpoint of the starter world was trained on."""
    found = []
    for index in range(800):
        rng = np.random.default_rng([9, index])
        found += captions(sample_scene(STARTER, Split.TRAIN, rng))
    return found


@pytest.fixture
def pipe(texts: list[str], tokenizer: Tokenizer) -> TextToImage:
    """A tiny generator with random weights that knows the starter world's words."""
    config = PRESETS["tiny"]
    assert config.text.joint is not None
    joint = replace(config.text.joint, vocabulary=256)
    text = TextConfig(name=None, joint=joint)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        words = word_tokenizer(texts, joint)
        return TextToImage(
            DCAR(config),
            TextEncoder.joint(text, config.generator, words),
            tokenizer,
            sampling=SamplingConfig(num_steps=2, num_diffusion_steps=2),
            size=(64, 64),
        )


def asked(num_per_task: int, seed: int) -> list[dict[str, Any]]:
    """Rows of the prompts of the starter world."""
    prompts = sample_prompts(STARTER, num_per_task=num_per_task, seed=seed)
    return [prompt.metadata for prompt in prompts]


def obedient(metadata: dict[str, Any]) -> list[Detection]:
    """Detections that are exactly what a prompt asks for."""
    offsets = {"left of": (-60, 0), "right of": (60, 0), "above": (0, -60), "below": (0, 60)}
    found = []
    for clause in metadata["include"]:
        relation, _ = clause.get("position", (None, 0))
        x, y = offsets.get(relation, (0, 0))
        box = (100.0 + x, 100.0 + y, 120.0 + x, 120.0 + y)
        found += [
            Detection(class_name=clause["class"], score=0.95, box=box, color=clause.get("color"))
        ] * clause["count"]
    return found


def test_an_object_is_known_by_its_words(pipe: TextToImage) -> None:
    """Orange is among the colors, so it is not an object for that."""
    assert "orange" in (pipe.text.known_words() or [])
    assert known_objects(pipe) == STARTER


def test_a_checkpoint_of_another_kind_is_told_so(
    pipe: TextToImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextEncoder, "known_words", lambda self: ["faces", "smiling"])
    with pytest.raises(UsageError, match="not trained on scenes: of their 62 objects it knows 0"):
        known_objects(pipe)
    monkeypatch.setattr(TextEncoder, "known_words", lambda self: None)
    with pytest.raises(UsageError, match="name them"):
        known_objects(pipe)


def test_prompts_are_held_out_and_in_order() -> None:
    rows = asked(5, seed=0)
    assert [row["tag"] for row in rows] == [task.value for task in BENCHMARK for _ in range(5)]
    assert rows == asked(5, seed=0)
    assert rows != asked(5, seed=1)
    more = asked(7, seed=0)
    assert [row for number, row in enumerate(more) if number % 7 < 5] == rows
    kept = held_out(STARTER)
    for row in rows:
        first = row["include"][0]
        if row["tag"] == "colors":
            assert (f"in {first['color']}", first["class"]) in kept
        if row["tag"] == "counting":
            assert (str(first["count"]), first["class"]) in kept
        if row["tag"] == "two_object":
            assert tuple(sorted(clause["class"] for clause in row["include"])) in kept


def test_what_the_page_says_of_the_prompts() -> None:
    """Of the thirty objects, 40 prompts a task: how many differ, and which layouts were seen.

    "A cat left of a dog" may be held out while "a cat and a dog", which looks the same, is not.
    """
    objects = tuple(sorted(WORLDS["wide"]))
    prompts = [p.metadata for p in sample_prompts(objects, num_per_task=40, seed=0)]
    different = {task.value: {p["prompt"] for p in prompts if p["tag"] == task.value}
                 for task in BENCHMARK}  # fmt: skip
    assert {task: len(found) for task, found in different.items()} == {
        "single_object": 23, "two_object": 32, "counting": 9, "colors": 25, "position": 40,
        "color_attr": 40,
    }  # fmt: skip
    many = sample_prompts(objects, num_per_task=400, seed=0)
    placed = [p.metadata["include"] for p in many if p.metadata["tag"] == "position"]
    looks_seen = [
        clauses[1]["position"][0] in ("left of", "right of")
        and tuple(sorted(clause["class"] for clause in clauses)) not in held_out(objects)
        for clauses in placed
    ]
    assert sum(looks_seen) / len(placed) == pytest.approx(0.25, abs=0.005)


def test_a_score_that_is_known_beforehand(
    pipe: TextToImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second image shows what it should, the others nothing: one half in each task.

    Every second of these is sharp.
    """
    rows = asked(4, seed=3)

    def write(pipe: object, plan: ImageSeries, out: Path, **options: object) -> list[Path]:
        out.mkdir()
        assert plan.prompts == [row["prompt"] for row in rows]
        for number in range(len(rows)):
            Image.new("RGB", (64, 64), (number, 0, 0)).save(out / f"{number:05d}.png")
        return sorted(out.iterdir())

    def look(self: Recognizer, images: list[Image.Image]) -> list[list[Detection]]:
        (number,) = {image.getpixel((0, 0))[0] for image in images}  # type: ignore[index]
        return [obedient(rows[number]) if number % 2 else []]

    def estimate(self: Estimator, image: Image.Image, found: list[Detection]) -> Estimate:
        number = image.getpixel((0, 0))[0]  # type: ignore[index]
        assert len(found) == (len(obedient(rows[number])) if number % 2 else 0)
        return Estimate(torch.tensor([20.0]), torch.tensor([float(number % 4 == 1)]))

    stub = Recognizer(
        RecognizerConfig(classes=list(STARTER), colours=list(COLORS), ceiling={"overall": 0.99})
    )
    stub_estimator = Estimator(EstimatorConfig())
    monkeypatch.setattr(Recognizer, "from_pretrained", lambda: (stub, "0" * 64))
    monkeypatch.setattr(Recognizer, "detect", look)
    monkeypatch.setattr(Estimator, "from_pretrained", lambda: (stub_estimator, "1" * 64))
    monkeypatch.setattr(Estimator, "estimate", estimate)
    monkeypatch.setattr(evaluate, "generate_images", write)
    out = tmp_path / "out"
    results = evaluate_scenes(pipe, out, num_per_task=4, seed=3)
    assert results["tasks"] == {task.value: 0.5 for task in BENCHMARK}
    assert results["overall"] == 0.5
    assert results["gated"] == 0.25
    assert results["fidelity"] == {
        "psnr": None, "psnr_objects": 20, "ssim": None, "lpips": None, "ceiling": None,
        "estimated": True,
    }  # fmt: skip
    assert results["settings"]["estimator_sha256"] == "1" * 64
    assert (results["seen"], results["unseen"]) == (None, None)
    assert results["distinct"]["counting"] == len({row["prompt"] for row in rows[8:12]})
    assert results["recognizer"] == {"sha256": "0" * 64, "overall": 0.99}
    assert results["settings"]["objects"] == list(STARTER)
    judged = [json.loads(line) for line in (out / "images.jsonl").read_text().splitlines()]
    assert [row["metadata"] for row in judged] == rows
    wrong = [row for row in judged if not row["correct"]]
    assert all(row["reason"].startswith(("expected", "no target")) for row in wrong)
    with Image.open(out / "failures.png") as sheet:
        assert sheet.width > 6 * 190  # six columns
    # Finished, it answers from its results; other settings are refused, and begun with force.
    assert evaluate_scenes(pipe, out, num_per_task=4, seed=3) == results
    with pytest.raises(UsageError, match="was begun with seed 3, not 4"):
        evaluate_scenes(pipe, out, num_per_task=4, seed=4)


def test_a_run_that_was_killed_makes_the_same(
    pipe: TextToImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the recognizer that ships, on what random weights draw."""
    whole = evaluate_scenes(pipe, tmp_path / "whole", num_per_task=1, batch_size=2)
    draw, drawn = ImageSeries.images, []

    def dies(self: ImageSeries, *arguments: Any, **more: Any) -> list[Image.Image]:
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(1)
        return draw(self, *arguments, **more)

    broken = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr(ImageSeries, "images", dies)
        with pytest.raises(KeyboardInterrupt):
            evaluate_scenes(pipe, broken, num_per_task=1, batch_size=2)
    assert len(list((broken / "images").iterdir())) == 4
    again = evaluate_scenes(pipe, broken, num_per_task=1, batch_size=2)
    assert {**again, "run": None} == {**whole, "run": None}
    files = ["images.jsonl", *(f"images/{number:05d}.png" for number in range(6))]
    for name in files:
        assert (broken / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert again["n"] == 6


def test_what_is_refused(pipe: TextToImage, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="seed -1 is negative"):
        evaluate_scenes(pipe, tmp_path / "out", seed=-1)
    pipe.size = (64, 96)
    with pytest.raises(UsageError, match="scenes are square, not 96 x 64"):
        evaluate_scenes(pipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_training_run_may_call_it(
    pipe: TextToImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "TRAINING_PER_TASK", 1)
    measured = during_training(pipe, seed=0, out=tmp_path / "step")
    assert set(measured) == {"overall", *(task.value for task in BENCHMARK)}
    assert (tmp_path / "step" / "results.json").exists()
