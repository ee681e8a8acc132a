"""The harder benchmark's report: a score that is known beforehand, in two columns."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from PIL import Image

from dcar.pipeline import TextToImage
from dcar.pipeline.series import ImageSeries
from dcar.sampling_config import SamplingConfig
from dcar_eval import cli
from dcar_eval.geneval import Detection
from dcar_eval.hard import evaluate, fixed
from dcar_eval.hard.evaluate import evaluate_hard, table
from dcar_eval.hard.grammar import BENCHMARK
from dcar_eval.hard.held_out import OBJECTS
from dcar_eval.hard.prompts import SHA256, prompts
from dcar_eval.scenes.estimator import Estimate, Estimator
from dcar_eval.scenes.recognizer import Recognizer, RecognizerConfig
from dcar_eval.scenes.world import COLORS
from dcht.errors import UsageError

SIDE = 64


def obedient(row: dict[str, Any]) -> list[Detection]:
    """What a prompt asks for: each clause's objects, places on a line for each relation."""
    offsets = {"left of": (-40, 0), "right of": (40, 0), "above": (0, -40), "below": (0, 40)}
    found: dict[str, list[Detection]] = {}
    places: list[tuple[float, float]] = []
    for clause in row["include"]:
        relation, target = clause.get("position", (None, None))
        x, y = places[target] if relation else (100.0 * len(places), 0.0)
        x, y = (x + offsets[relation][0], y + offsets[relation][1]) if relation else (x, y)
        places.append((x, y))
        side = 30 if clause.get("size") == "large" else 10
        found[clause["class"]] = [
            Detection(
                class_name=clause["class"], score=0.9, box=(x, y, x + side, y + side),
                color=clause.get("color"),
            )
        ] * clause["count"]  # fmt: skip
    return [detection for group in found.values() for detection in group]


def main(words: list[str]) -> object:
    """The exit code of `dcar-eval WORDS`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["dcar-eval", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    return stop.value.code


@pytest.fixture
def pipe() -> TextToImage:
    made = SimpleNamespace(
        size=(SIDE, SIDE),
        identity={"weights": "1" * 64},
        device=torch.device("cpu"),
        settings=lambda **given: SamplingConfig(**given),
    )
    return cast(TextToImage, made)


def test_a_score_that_is_known_beforehand(
    pipe: TextToImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen prompts are drawn right but for two relations; of the unseen ones every second is.

    What is seen is sharp, what is unseen is not.
    """
    rows = prompts(4)

    def write(pipe: object, plan: ImageSeries, out: Path, **options: object) -> list[Path]:
        out.mkdir()
        assert plan.prompts == [row["prompt"] for row in rows]
        for number in range(len(rows)):
            Image.new("RGB", (SIDE, SIDE), (number, 0, 0)).save(out / f"{number:05d}.png")
        return sorted(out.iterdir())

    def look(self: Recognizer, images: list[Image.Image]) -> list[list[Detection]]:
        (number,) = {image.getpixel((0, 0))[0] for image in images}  # type: ignore[index]
        row = rows[number]
        right = number % 2 == 0 or (row["seen"] and row["tag"] != "two_relations")
        return [obedient(row) if right else []]

    def estimate(self: Estimator, image: Image.Image, found: list[Detection]) -> Estimate:
        seen = rows[image.getpixel((0, 0))[0]]["seen"]  # type: ignore[index]
        return Estimate(torch.tensor([20.0]), torch.tensor([float(seen)]))

    own = {"overall": 0.9, "tasks": {task.value: 0.9 for task in BENCHMARK}}
    stub = Recognizer(RecognizerConfig(classes=list(OBJECTS), colours=list(COLORS), ceiling=own))
    monkeypatch.setattr(Recognizer, "from_pretrained", lambda name: (stub, "0" * 64))
    monkeypatch.setattr(Recognizer, "detect", look)
    monkeypatch.setattr(Estimator, "estimate", estimate)
    monkeypatch.setattr(fixed, "generate_images", write)
    out = tmp_path / "out"
    results = evaluate_hard(pipe, out, num_per_task=4, seed=3)
    single = [row for row in rows if len(row["include"]) < 3 or row["tag"] == "four_colours"]
    assert len(single) == 8 * 6
    straight = {k: v for k, v in results["unseen"]["tasks"].items() if k != "two_relations"}
    assert straight == dict.fromkeys(straight, 0.5)
    assert results["overall"] == results["unseen"]["overall"]
    assert results["tasks"] == results["unseen"]["tasks"]
    seen = results["seen"]["tasks"]
    assert all(share == 1 for task, share in seen.items() if task != "two_relations")
    assert results["seen"]["distinct"] == {"prompts": 28, "combinations": 0}
    assert results["unseen"]["distinct"]["prompts"] == 28
    assert 20 <= results["unseen"]["distinct"]["combinations"] <= 28
    low, high = results["unseen"]["intervals"]["one"]
    assert low < 0.5 < high
    assert results["settings"]["prompts_sha256"] == SHA256
    assert results["gated"] == results["unseen"]["gated"] == 0
    assert results["seen"]["gated"] == results["seen"]["overall"]
    assert results["fidelity"] == {
        "psnr": None, "psnr_objects": 20, "ssim": None, "lpips": None, "ceiling": None,
        "estimated": True,
    }  # fmt: skip
    lines = [line.split() for line in table(results).splitlines()]
    assert lines[2][:2] == ["one", "0.500"]
    assert lines[2][-1] == "0.900"
    assert lines[-1][:4] == ["correct", "and", "recognizable", "0.000"]
    judged = [json.loads(line) for line in (out / "images.jsonl").read_text().splitlines()]
    assert [row["metadata"] for row in judged] == rows
    assert evaluate_hard(pipe, out, num_per_task=4, seed=3) == results
    with pytest.raises(UsageError, match="seed 3, not 4"):
        evaluate_hard(pipe, out, num_per_task=4, seed=4)

    # The same images, given to the command, are judged the same.
    given = ["scenes-eval", "--benchmark", "hard", "--images", str(out / "images")]
    again = tmp_path / "again"
    assert main([*given, "--num-per-task", "4", "--out", str(again)]) == 0
    found = json.loads((again / "results.json").read_text())
    assert (again / "images.jsonl").read_bytes() == (out / "images.jsonl").read_bytes()
    ours = {"settings", "run"}
    assert {k: v for k, v in found.items() if k not in ours} == {
        k: v for k, v in results.items() if k not in ours
    }
    assert set(found["settings"]) - set(results["settings"]) == {"images_sha256"}


def test_images_that_are_not_those_of_the_prompts_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["scenes-eval", "--benchmark", "hard", "--images", str(tmp_path)]
    out = ["--out", str(tmp_path / "out")]
    for options, message in (
        (["--num-per-task", "1"], "00000.png: no such file; one image is needed for each prompt"),
        (["--ckpt", "bundled"], "judged without a checkpoint; leave --ckpt out"),
        (["--size", "64"], "--images are there already"),
        (["--sprites", str(tmp_path)], "--sprites is of the standard benchmark"),
    ):
        assert main([*given, *options, *out]) == 2
        assert message in capsys.readouterr().err


def test_images_of_things_are_of_those_that_their_run_drew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "run" / "images"
    images.mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (SIDE, SIDE)).save(images / f"{number:05d}.png")
    known = {
        "benchmark": "things", "recognizer_sha256": "r", "num_per_task": 2, "things": ["fox", "owl"]
    }  # fmt: skip
    (images.parent / "settings.json").write_text(json.dumps(known))
    given = ["scenes-eval", "--benchmark", "things", "--images", str(images)]
    out = tmp_path / "out"
    assert main([*given, "--num-per-task", "2", "--out", str(out)]) == 0
    found = json.loads((out / "results.json").read_text())
    assert (found["things"], found["drawn"], found["n"]) == ({"fox": 0, "owl": 0}, 0, 4)
    capsys.readouterr()
    assert main([*given, "--num-per-task", "1", "--out", str(tmp_path / "other")]) == 2
    assert "of a run with num_per_task 2, not 1" in capsys.readouterr().err


def test_prompts_are_listed_in_the_order_of_their_images(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["scenes-eval", "--benchmark", "hard", "--num-per-task", "2", "--list-prompts"]
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines() == [row["prompt"] for row in prompts(2)]


def test_more_images_of_a_prompt_are_one_prompt() -> None:
    """Two prompts of ten images each tell less than twenty prompts: the interval is wider."""

    def column(prompts: int) -> tuple[float, float]:
        rows = [
            {"prompt": str(k % prompts), "tag": "one", "correct": k % prompts % 2 == 0,
             "gated": False, "metadata": {"shows": []}}
            for k in range(20)
        ]  # fmt: skip
        low, high = evaluate._column(rows)["intervals"]["one"]
        return low, high

    assert column(2) == (0, 1)
    low, high = column(20)
    assert 0.2 < low < 0.5 < high < 0.8


def test_what_is_refused(pipe: TextToImage, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="seed -1 is negative"):
        evaluate_hard(pipe, tmp_path / "out", seed=-1)
    pipe.size = (64, 96)
    with pytest.raises(UsageError, match="scenes are square, not 96 x 64"):
        evaluate_hard(pipe, tmp_path / "out")
