"""The recognizer: what it is told is what it says, the one that ships, and a run that goes on."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from PIL import Image

from dcar_eval.geneval import COLORS, Options
from dcar_eval.scenes.compositions import Labeled
from dcar_eval.scenes.recognizer import (
    BUNDLED,
    GRID,
    SIDE,
    Answers,
    Recognizer,
    RecognizerConfig,
    shrink,
)
from dcar_eval.scenes.recognizer_train import (
    IGNORED,
    Training,
    losses,
    targets,
    train_recognizer,
    weights_for,
)
from dcar_eval.scenes.world import BENCHMARK, SPRITE_LABELS
from dcar_eval.scenes.world import COLORS as SCENE_COLORS
from dcht.checkpoint import checkpoint_sha256, read_tensors
from dcht.engine.run_folder import RESUME_PATTERN
from dcht.errors import CheckpointError, UsageError

CLASSES = ["apple", "banana", "car", "dog"]
OBJECTS = [
    Labeled(2, 4, (0.05, 0.1, 0.4, 0.5)),
    Labeled(0, -1, (0.55, 0.5, 0.95, 0.9)),
    Labeled(0, 0, (0.6, 0.05, 0.9, 0.35)),
]


@pytest.fixture
def small() -> Recognizer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Recognizer(RecognizerConfig(classes=CLASSES, colours=list(SCENE_COLORS))).eval()


def perfect(objects: list[Labeled]) -> Answers:
    """The answers of a network that knows the truth."""
    truth = targets(objects)
    heat = truth.heat[None].clamp(1e-4, 1 - 1e-4)
    classes = torch.zeros(1, len(CLASSES), GRID, GRID)
    colors = torch.zeros(1, len(SCENE_COLORS), GRID, GRID)
    for name, wanted in (("classes", truth.classes), ("colours", truth.colors)):
        logits = {"classes": classes, "colours": colors}[name]
        for row, column in (wanted != IGNORED).nonzero().tolist():
            logits[0, wanted[row, column], row, column] = 20.0
    return Answers(heat.logit(), classes, colors, truth.edges[None])


def test_the_truth_comes_back_as_detections(
    small: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recognizer, "forward", lambda self, images: perfect(OBJECTS))
    (found,) = small.detect([Image.new("RGB", (200, 200))])
    assert len(found) == len(OBJECTS)
    for kind, color, box in OBJECTS:
        (match,) = [d for d in found if d.box == pytest.approx([200 * v for v in box], abs=0.1)]
        assert match.class_name == CLASSES[kind]
        assert match.score > 0.99
        assert color < 0 or match.color == list(SCENE_COLORS)[color]


def test_the_truth_has_the_least_loss() -> None:
    truth = targets(OBJECTS)
    batch = type(truth)(*(part[None] for part in truth))
    right = losses(perfect(OBJECTS), batch)
    assert all(float(right[name]) < 0.02 for name in ("classes", "colours", "edges"))
    moved = [Labeled(kind, (color + 1) % 10, box) for kind, color, box in OBJECTS[::-1]]
    moved[0] = moved[0]._replace(kind=3)
    wrong = losses(perfect(moved), batch)
    assert float(wrong["classes"]) > 1
    assert float(wrong["colours"]) > 1
    plain = [thing._replace(color=-1) for thing in OBJECTS]
    uncolored = losses(perfect(plain), type(truth)(*(part[None] for part in targets(plain))))
    assert float(uncolored["colours"]) == 0  # not the mean of nothing
    nowhere = losses(perfect([]), batch)
    assert float(nowhere["heat"]) > 2 * float(right["heat"])


def test_it_reads_any_square_size_alike() -> None:
    image = torch.rand(1, 3, 16, 16).repeat_interleave(16, 2).repeat_interleave(16, 3)
    large = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert shrink(image).shape == (1, 3, SIDE, SIDE)
    assert (shrink(image) - shrink(large)).abs().mean() < 0.02


def test_saved_and_loaded_it_is_the_same(small: Recognizer, tmp_path: Path) -> None:
    small.config.options = Options(threshold=0.2)
    sha256 = small.save_pretrained(tmp_path / "r")
    loaded, found = Recognizer.from_pretrained(tmp_path / "r")
    assert found == sha256
    assert loaded.config == small.config
    for key, value in loaded.state_dict().items():
        torch.testing.assert_close(value, small.state_dict()[key], rtol=1e-3, atol=1e-4)
    (tmp_path / "r" / "config.json").write_text('{"classes": ["apple"], "colours": ["red"]}')
    with pytest.raises(CheckpointError, match=r"answer\.bias"):
        Recognizer.from_pretrained(tmp_path / "r")


def test_the_one_that_ships() -> None:
    recognizer, sha256 = Recognizer.from_pretrained()
    assert sha256 == checkpoint_sha256(BUNDLED)
    assert recognizer.config.classes == list(SPRITE_LABELS)
    assert tuple(recognizer.config.colours) == COLORS
    assert sum(file.stat().st_size for file in BUNDLED.iterdir()) <= 4_000_000
    assert all(value.isfinite().all() for value in read_tensors(BUNDLED).values())
    ceiling = recognizer.config.ceiling
    assert set(ceiling["tasks"]) == {task.value for task in BENCHMARK}
    assert ceiling["overall"] >= 0.985
    assert min(ceiling["tasks"].values()) >= 0.96
    assert ceiling["refused"] >= 0.99


def test_a_run_that_was_stopped_goes_on_exactly(
    npm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dcar_eval.scenes import recognizer_train

    training = Training(classes=CLASSES, steps=4, batch_size=2, warmup_steps=1)
    ceiling = {"overall": 0.5, "tasks": {}, "num_per_task": 3}

    def run(
        out: Path, settings: Training = training, *, force: bool = False, num_per_task: int = 3
    ) -> bool:
        return train_recognizer(
            npm_folder,
            out,
            training=settings,
            measure=lambda _: ceiling | {"num_per_task": num_per_task},
            measured_on={"num_per_task": num_per_task},
            workers=0,
            save_every=2,
            log_every=2,
            force=force,
        )

    assert run(tmp_path / "whole")

    descend, done = recognizer_train._descend, []

    def dies(*arguments: object) -> None:
        if len(done) == 3:
            raise RuntimeError("killed")
        done.append(descend(*arguments))  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(recognizer_train, "_descend", dies)
        with pytest.raises(RuntimeError, match="killed"):
            run(tmp_path / "broken")
    assert len(list((tmp_path / "broken").glob(RESUME_PATTERN))) == 1
    assert run(tmp_path / "broken")
    whole, broken = (tmp_path / name / "recognizer" for name in ("whole", "broken"))
    assert checkpoint_sha256(whole) == checkpoint_sha256(broken)
    config = json.loads((whole / "config.json").read_text())
    assert config["training"] == asdict(training)
    assert config["ceiling"] == ceiling

    # Finished, it does nothing; with other settings it is another run.
    before = (broken / "model.safetensors").stat().st_mtime_ns
    assert run(tmp_path / "broken")
    assert (broken / "model.safetensors").stat().st_mtime_ns == before
    # On other images it is measured again, with the same weights.
    assert run(tmp_path / "broken", num_per_task=7)
    again = json.loads((broken / "config.json").read_text())
    assert again == config | {"ceiling": ceiling | {"num_per_task": 7}}
    weights = [(path / "model.safetensors").read_bytes() for path in (whole, broken)]
    assert weights[0] == weights[1]
    other = Training(classes=CLASSES, steps=4, batch_size=2, warmup_steps=1, seed=1)
    with pytest.raises(UsageError, match=r"other settings \(seed\)"):
        run(tmp_path / "broken", other)
    assert run(tmp_path / "broken", other, force=True)
    assert checkpoint_sha256(broken) != checkpoint_sha256(whole)


def test_it_may_begin_with_one_that_knows_more(small: Recognizer) -> None:
    """What the two classes had, and colors and edges, are where they were."""
    fewer = Recognizer(
        RecognizerConfig(classes=["dog", "banana"], colours=list(SCENE_COLORS))
    ).eval()
    fewer.load_state_dict(weights_for(small, ["dog", "banana"]))
    images = torch.rand(1, 3, SIDE, SIDE)
    theirs, ours = small(images), fewer(images)
    torch.testing.assert_close(ours.classes, theirs.classes[:, [3, 1]])
    for part in ("heat", "colors", "edges"):
        torch.testing.assert_close(getattr(ours, part), getattr(theirs, part))


def test_another_side_has_its_own_grid() -> None:
    config = RecognizerConfig(
        classes=CLASSES, colours=list(SCENE_COLORS), side=160, neighbourhood=3
    )
    assert Recognizer(config)(torch.zeros(1, 3, 160, 160)).heat.shape == (1, 20, 20)
    truth = targets([Labeled(0, 0, (0.4, 0.4, 0.6, 0.6))], 20)
    assert truth.heat[10, 10] == 1
    assert float(truth.edges[0, 10, 10]) == pytest.approx(10.5 / 20 - 0.4)
