"""A sweep: its points are scenes-eval's, it goes on where it stopped, and its plots say enough."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dcar.pipeline import TextToImage
from dcar_eval import sweep
from dcar_eval.metrics.random_weights import random_pipeline
from dcar_eval.profile.measure import Speed
from dcar_eval.scenes.evaluate import Truths, evaluate_scenes
from dcar_eval.scenes.world import WORLDS
from dcar_eval.sweep import at_point, run_sweep, table
from dcar_eval.sweep.axes import NAMED, points
from dcar_eval.sweep.plot import write_plots
from dcht.errors import UsageError
from dcht.images import to_pil

STARTER = WORLDS["starter"]
OPTIONS: dict[str, Any] = {"num_per_task": 1, "objects": STARTER, "repeats": 1}
AXES = {"num_steps": [1, 2], "num_diffusion_steps": [2]}


@pytest.fixture
def pipe() -> TextToImage:
    """A tiny generator with random weights, whose output layers are not zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe = random_pipeline("tiny")
        for layer in (pipe.model.generator.to_logits, pipe.model.head.outputs):  # type: ignore[union-attr]
            torch.nn.init.normal_(layer.weight, std=0.1)
        return pipe


def made_up(name: str, values: dict[str, list[Any]]) -> dict[str, Any]:
    """Results without a model: quality 0, 0.1, ..., and a second an image."""
    found = points(values)
    return {
        "task": "sweep",
        "sweep": name,
        "axes": values,
        "points": [
            {"settings": point, "overall": k / 10, "stderr": 0.02, "tasks": {"colors": 0.5}, "n": 6}
            for k, point in enumerate(found)
        ],
        "cited": [list(pair) for pair in NAMED[name].cited.items()] if name in NAMED else [],
        "run": {
            "speed": [{"latency": 1.5, "images_per_second": 1.0, "device": "cpu"} for _ in found]
        },
    }


def test_a_sweep_beside_other_art_is_another_sweep(
    pipe: TextToImage, npm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished one answers the question that it was asked, and no other."""

    def measure(*_: object, batch_size: int, **__: object) -> Speed:
        return Speed(batch_size=batch_size, seconds=4.0, fastest=4.0, slowest=4.0, parts={})

    monkeypatch.setattr(sweep, "measure_speed", measure)

    def swept() -> dict[str, Any]:
        options: dict[str, Any] = OPTIONS | {"objects": ("apple", "banana", "car", "dog")}
        truths = Truths(sprites=npm_folder)
        return run_sweep(pipe, tmp_path / "out", {"num_steps": [1]}, truths=truths, **options)

    first = swept()
    assert first["settings"]["sprites_sha256"] and swept() == first
    sprite = next(npm_folder.rglob("1f415.webp"))
    with Image.open(sprite) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(sprite, lossless=True)
    with pytest.raises(UsageError, match="was begun with sprites_sha256"):
        swept()


def test_a_sweep_that_was_stopped_goes_on(
    pipe: TextToImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[int] = []

    def measure(*_: object, batch_size: int, settings: Any, **__: object) -> Speed:
        if len(timed) == 2:
            raise KeyboardInterrupt
        timed.append(settings.num_steps)
        return Speed(batch_size=batch_size, seconds=4.0, fastest=4.0, slowest=4.0, parts={})

    monkeypatch.setattr(sweep, "measure_speed", measure)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_sweep(pipe, out, AXES, **OPTIONS)
    assert timed == [1, 1]  # batch 1 and 16 of the first point
    timed.insert(0, 0)  # there is no third measurement at which it would stop again
    drawn = sorted((out / "points").glob("*/images/*.png"))
    results = run_sweep(pipe, out, AXES, **OPTIONS)
    assert timed[3:] == [2, 2]
    assert len(drawn) == 12  # nothing was left to draw
    assert [point["settings"]["num_steps"] for point in results["points"]] == [1, 2]
    assert [speed["latency"] for speed in results["run"]["speed"]] == [4.0, 4.0]
    assert [speed["images_per_second"] for speed in results["run"]["speed"]] == [4.0, 4.0]
    alone = evaluate_scenes(
        pipe, tmp_path / "alone", num_per_task=1, objects=STARTER,
        sampling={"num_steps": 2, "num_diffusion_steps": 2},
    )  # fmt: skip
    for key in ("overall", "tasks", "n"):
        assert results["points"][1][key] == alone[key]
    rows = list(csv.DictReader((out / "sweep.csv").read_text().splitlines()))
    assert [row["num_steps"] for row in rows] == ["1", "2"]
    assert [float(row["overall"]) for row in rows] == [p["overall"] for p in results["points"]]
    assert rows[0]["images_per_second"] == "4.0"
    one, two = (point["flops"] for point in results["points"])
    assert two["transformer"] > one["transformer"]
    assert two["decoder"] == one["decoder"]
    assert float(rows[1]["gflop"]) == sum(two.values()) / 1e9
    assert table(results).splitlines()[0].split()[:3] == [
        "num_steps",
        "num_diffusion_steps",
        "overall",
    ]
    assert (out / "sweep.png").exists()
    assert run_sweep(pipe, out, AXES, **OPTIONS) == json.loads((out / "results.json").read_text())
    with pytest.raises(UsageError, match="was begun with axes"):
        run_sweep(pipe, out, {"num_steps": [1]}, **OPTIONS)


def test_without_the_residual_the_codes_are_decoded_alone(pipe: TextToImage) -> None:
    bare = at_point(pipe, {"residual": False, "num_steps": 2})
    result = bare(["a red apple", "a blue car"], seed=3)
    pixels = pipe.tokenizer.decode_indices(result.indices)
    assert [image.tobytes() for image in result.images] == [to_pil(x).tobytes() for x in pixels]
    whole = at_point(pipe, {"residual": True, "num_steps": 2})(
        ["a red apple", "a blue car"], seed=3
    )
    assert torch.equal(whole.indices, result.indices)
    assert whole.images[0].tobytes() != result.images[0].tobytes()
    assert bare.sha256 is None  # these images are of no checkpoint
    with pytest.raises(UsageError, match="has no residual head"):
        at_point(bare, {"residual": True})


def test_what_cannot_be_drawn_is_refused_before_anything_is(
    pipe: TextToImage, tmp_path: Path
) -> None:
    for axes, message in (({"num_steps": [4, 0]}, "num_steps is 0"), ({}, "nothing to sweep")):
        with pytest.raises(UsageError, match=message):
            run_sweep(pipe, tmp_path / "out", axes, **OPTIONS)
    assert not (tmp_path / "out").exists()


def test_the_standard_error_is_that_of_a_mean_of_shares() -> None:
    """Two tasks of 25 images, shares 0.5 and 0.9: sqrt((0.25 + 0.09) / 25) / 2."""
    scores = {
        "overall": 0.7, "tasks": {"a": 0.5, "b": 0.9}, "n": 50, "settings": {"num_per_task": 25},
        "gated": None, "fidelity": {},
    }  # fmt: skip
    assert sweep._quality(scores)["stderr"] == pytest.approx((0.34 / 25) ** 0.5 / 2)


def test_fig6_cites_what_was_not_run(tmp_path: Path) -> None:
    results = made_up("fig6", NAMED["fig6"].axes)
    write_plots(results, tmp_path)
    drawing = (tmp_path / "sweep.svg").read_bytes()
    assert drawing.count(b"NOT RUN") == 2
    assert b"MAR-B" in drawing
    write_plots(results, tmp_path)
    assert (tmp_path / "sweep.svg").read_bytes() == drawing


def test_table4_and_several_axes_can_be_drawn(tmp_path: Path) -> None:
    for name, axes in (
        ("table4", NAMED["table4"].axes),
        ("", {"temperature": [0.0, 1.0], "order": ["random", "halton"]}),
    ):
        write_plots(made_up(name, axes), tmp_path)
        drawing = (tmp_path / "sweep.svg").read_bytes()
        expected = [b"<!-- on -->", b"<!-- off -->"] if name else [b"order random", b"order halton"]
        assert all(words in drawing for words in expected)
