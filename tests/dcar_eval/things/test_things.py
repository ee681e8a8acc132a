"""The benchmark of things: a score that is known beforehand, and what its recognizer sees."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from dcar.config import JointTextConfig
from dcar.pipeline import TextToImage
from dcar.pipeline.series import ImageSeries
from dcar.sampling_config import SamplingConfig
from dcar_eval.geneval import Detection
from dcar_eval.hard import fixed
from dcar_eval.scenes.estimator import Estimate, Estimator
from dcar_eval.scenes.recognizer import Recognizer, RecognizerConfig
from dcar_eval.scenes.sprites import Sprites
from dcar_eval.scenes.things import same_things
from dcar_eval.scenes.world import COLORS
from dcar_eval.things.evaluate import evaluate_things, known_things, table
from dcar_eval.things.recognizing import BUNDLED, NAMES, NEIGHBORHOOD, SHARES, SIDE, compose
from dcht.errors import UsageError

PIXELS = 64
WORDS = ["a", "photo", "of", "apple", "apples", "dog", "dogs", "fox", "foxes", "cat", "an"]


@pytest.fixture
def pipe() -> TextToImage:
    made = SimpleNamespace(
        size=(PIXELS, PIXELS),
        identity={"weights": "1" * 64},
        device=torch.device("cpu"),
        settings=lambda **given: SamplingConfig(**given),
        text=SimpleNamespace(
            known_words=lambda: WORDS,
            unknown_words=lambda text: set(text.split()) - set(WORDS),
        ),
        model=SimpleNamespace(
            config=SimpleNamespace(text=SimpleNamespace(joint=JointTextConfig(names=[])))
        ),
    )
    return cast(TextToImage, made)


def test_a_name_is_known_in_the_singular_and_in_the_plural(pipe: TextToImage) -> None:
    assert known_things(pipe) == ("apple", "dog", "fox")
    cast(Any, pipe.model.config.text.joint).names = ["fox", "cat"]  # cats it does not know
    assert known_things(pipe) == ("fox",)
    cast(Any, pipe.text).known_words = lambda: None  # it reads any text
    assert known_things(pipe) == NAMES
    cast(Any, pipe.text).known_words = lambda: ["a", "photo"]
    cast(Any, pipe.text).unknown_words = lambda text: set(text.split()) - {"a", "photo"}
    with pytest.raises(UsageError, match=f"knows none of the {len(NAMES)} things"):
        known_things(pipe)


def test_a_score_that_is_known_beforehand(
    pipe: TextToImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apples are there, one of two foxes has company, dogs are cats."""
    shown = [["apple"], ["apple"], ["cat"], ["cat"], ["fox"], ["fox", "fox"]]

    def write(pipe: object, plan: ImageSeries, out: Path, **options: object) -> list[Path]:
        out.mkdir()
        assert plan.prompts == [f"a photo of {a}" for a in ("an apple", "a dog", "a fox")
                                for _ in range(2)]  # fmt: skip
        for number in range(len(shown)):
            Image.new("RGB", (PIXELS, PIXELS), (number, 0, 0)).save(out / f"{number:05d}.png")
        return sorted(out.iterdir())

    def look(self: Recognizer, images: list[Image.Image]) -> list[list[Detection]]:
        (number,) = {image.getpixel((0, 0))[0] for image in images}  # type: ignore[index]
        boxes = [(20.0 * k, 0.0, 20.0 * k + 10, 10.0) for k in range(2)]
        return [
            [Detection(class_name=name, score=0.9, box=box, color="red")
             for name, box in zip(shown[number], boxes, strict=False)]
        ]  # fmt: skip

    own = {"overall": 0.5, "things": dict.fromkeys(NAMES, 0.25) | {"apple": 1.0}}
    stub = Recognizer(RecognizerConfig(classes=list(NAMES), colours=list(COLORS), ceiling=own))
    monkeypatch.setattr(Recognizer, "from_pretrained", lambda name: (stub, "0" * 64))
    monkeypatch.setattr(Recognizer, "detect", look)
    monkeypatch.setattr(
        Estimator,
        "estimate",
        lambda *_: Estimate(torch.tensor([20.0]), torch.tensor([1.0])),
    )
    monkeypatch.setattr(fixed, "generate_images", write)
    results = evaluate_things(pipe, tmp_path / "out", num_per_task=2, seed=3)
    assert results["things"] == {"apple": 1, "dog": 0, "fox": 0.5}
    assert (results["overall"], results["drawn"], results["known"]) == (0.5, 1, 3)
    assert results["gated"] == results["overall"]
    assert results["benchmark"] == "things"
    lines = table(results).splitlines()
    assert lines[1].split()[-2:] == ["0.500", "0.500"]  # (1 + 0.25 + 0.25) / 3
    assert lines[-1] == "not drawn: dog, fox"


def test_a_composition_is_mostly_of_one_thing(npm_folder: Path) -> None:
    classes = ["apple", "banana", "car", "dog"]
    sprites = Sprites(npm_folder, tuple(classes))
    counts = [
        len(compose(index, seed=0, classes=classes, sprites=sprites, size=96).objects)
        for index in range(60)
    ]
    assert 0.5 < np.mean([count == 1 for count in counts]) < 0.95
    assert max(counts) > 2
    assert sum(SHARES.values()) == pytest.approx(1)


def test_names_that_mean_the_same_are_one_thing() -> None:
    assert len(NAMES) == len(set(NAMES)) == 548
    assert {same_things()[name] for name in NAMES} == set(NAMES)


def test_the_one_that_ships() -> None:
    """Its ceiling on true images of each thing, as it was measured."""
    recognizer, _ = Recognizer.from_pretrained(BUNDLED)
    config = recognizer.config
    assert config.classes == list(NAMES)
    assert (config.side, config.neighbourhood) == (SIDE, NEIGHBORHOOD)
    assert sum(file.stat().st_size for file in BUNDLED.iterdir()) <= 4_000_000
    assert set(config.ceiling["things"]) == set(NAMES)
    assert config.ceiling["overall"] >= 0.95
    assert config.ceiling["refused"] >= 0.99
    assert config.ceiling["reconstructed"]["overall"] < config.ceiling["overall"]
