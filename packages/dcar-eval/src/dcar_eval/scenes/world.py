"""What a scene may hold: objects, colours, counts, relations, and which combinations are held out.

Nothing here draws a picture. A scene is a function of (seed, index, split, objects) alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from dcht.errors import UsageError

SPRITE_LABELS = {
    "person": "person standing", "bicycle": "bicycle", "car": "automobile",
    "motorcycle": "motorcycle", "airplane": "airplane", "bus": "bus", "train": "locomotive",
    "truck": "delivery truck", "boat": "sailboat", "stop sign": "stop sign", "bird": "bird",
    "cat": "cat", "dog": "dog", "horse": "horse", "sheep": "ewe", "cow": "cow",
    "elephant": "elephant", "bear": "bear", "zebra": "zebra", "giraffe": "giraffe",
    "backpack": "backpack", "umbrella": "umbrella", "handbag": "handbag", "tie": "necktie",
    "suitcase": "luggage", "frisbee": "flying disc", "skis": "skis", "sports ball": "soccer ball",
    "kite": "kite", "skateboard": "skateboard", "tennis racket": "tennis",
    "wine glass": "wine glass", "cup": "teacup without handle", "knife": "kitchen knife",
    "spoon": "spoon", "bowl": "bowl with spoon", "banana": "banana", "apple": "red apple",
    "sandwich": "sandwich", "orange": "tangerine", "broccoli": "broccoli", "carrot": "carrot",
    "hot dog": "hot dog", "pizza": "pizza", "donut": "doughnut", "cake": "shortcake",
    "chair": "chair", "couch": "couch and lamp", "potted plant": "potted plant", "bed": "bed",
    "toilet": "toilet", "tv": "television", "laptop": "laptop", "computer mouse": "computer mouse",
    "computer keyboard": "keyboard", "cell phone": "mobile phone", "book": "closed book",
    "clock": "mantelpiece clock", "vase": "amphora", "scissors": "scissors",
    "teddy bear": "teddy bear", "toothbrush": "toothbrush",
}  # fmt: skip
"""GenEval's class name to the label of its sprite: the 62 classes with a clean sprite."""

WORLDS = {
    # Twelve that differ in outline: what two cores can learn in an hour.
    "starter": (
        "apple", "banana", "bird", "boat", "book", "bus",
        "car", "cat", "chair", "dog", "elephant", "umbrella",
    ),
    "all": tuple(SPRITE_LABELS),
}  # fmt: skip

COLOURS = {
    "red": (225, 40, 40), "orange": (245, 140, 20), "yellow": (250, 215, 40),
    "green": (50, 170, 70), "blue": (45, 110, 225), "purple": (140, 70, 200),
    "pink": (250, 130, 190), "brown": (135, 85, 50), "black": (40, 40, 45),
    "white": (245, 245, 245),
}  # fmt: skip
"""GenEval's ten colours in its order, as sRGB."""

RELATIONS = ("left of", "right of", "above", "below")
COUNTS = (2, 3, 4)


class Task(Enum):
    """The six tasks, by GenEval's tags."""

    SINGLE = "single_object"
    TWO = "two_object"
    COUNTING = "counting"
    COLORS = "colors"
    POSITION = "position"
    ATTRIBUTION = "color_attr"


class Split(Enum):
    """Combinations seen in training, or kept from it."""

    TRAIN = "train"
    HELD_OUT = "held-out"


TASK_WEIGHTS = {
    # Colours are the product of ten and the objects, so they get the most pictures; attribution is
    # two of them at once and learns from the same.
    Task.SINGLE: 0.15,
    Task.TWO: 0.15,
    Task.COUNTING: 0.2,
    Task.COLORS: 0.25,
    Task.POSITION: 0.15,
    Task.ATTRIBUTION: 0.1,
}
HELD_OUT_SHARE = 0.1
NEVER_HELD_OUT = (("red", "apple"), ("blue", "car"))
NEVER_COLOURED = ("person",)
"""GenEval asks for no coloured people."""


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One object; without a colour it keeps the colours of its sprite."""

    name: str
    colour: str | None = None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is in a picture. With a relation, the first object stands so to the second."""

    task: Task
    objects: tuple[SceneObject, ...]
    relation: str | None = None


def chosen_by_hash(*words: str) -> bool:
    """Whether a combination falls into the held-out tenth: the same on every machine, for ever."""
    digest = hashlib.sha256("|".join(words).encode()).digest()
    return int.from_bytes(digest[:8]) < HELD_OUT_SHARE * 2**64


def is_held_out(scene: Scene) -> bool:
    """Whether a scene shows a combination that training must not see.

    Held out are about a tenth of the object pairs, of (colour, object), of (count, object) and of
    (relation, pair). A single object without a colour never is: there, held-out means new seeds.
    """
    names = [thing.name for thing in scene.objects]
    if any(
        thing.colour is not None
        and (thing.colour, thing.name) not in NEVER_HELD_OUT
        and chosen_by_hash("colour", thing.colour, thing.name)
        for thing in scene.objects
    ):
        return True
    if scene.task is Task.COUNTING:
        return chosen_by_hash("count", str(len(names)), names[0])
    if len(names) == 2:
        pair = sorted(names)
        if chosen_by_hash("pair", *pair):
            return True
        if scene.relation is not None:
            return chosen_by_hash("relation", *_canonical(names[0], scene.relation, names[1]))
    return False


def _canonical(first: str, relation: str, second: str) -> tuple[str, str, str]:
    """A left of B is B right of A: one combination, one name."""
    opposite = {"right of": "left of", "below": "above"}
    if relation in opposite:
        return second, opposite[relation], first
    return first, relation, second


def parse_objects(text: str) -> tuple[str, ...]:
    """A world's name, or names of objects joined by commas."""
    names = WORLDS.get(text) or tuple(word.strip() for word in text.split(","))
    unknown = [name for name in names if name not in SPRITE_LABELS]
    if unknown:
        raise UsageError(
            f"object {unknown[0]!r} is not known; use {' or '.join(WORLDS)}, or names among "
            + ", ".join(SPRITE_LABELS)
        )
    if len(set(names)) < 2:
        raise UsageError(f"objects {text!r}: two different ones are needed at least")
    return tuple(sorted(set(names)))


def draw_scene(objects: Sequence[str], split: Split, rng: np.random.Generator) -> Scene:
    """Draw a scene of the split: tasks by weight, then until a combination belongs to it."""
    task = list(TASK_WEIGHTS)[rng.choice(len(TASK_WEIGHTS), p=list(TASK_WEIGHTS.values()))]
    for _ in range(10_000):
        scene = _draw(task, objects, rng)
        if any(thing.colour and thing.name in NEVER_COLOURED for thing in scene.objects):
            continue
        if scene.task is Task.SINGLE or is_held_out(scene) == (split is Split.HELD_OUT):
            return scene
    raise UsageError(f"among {', '.join(objects)} no {task.value} combination is {split.value}")


def _draw(task: Task, objects: Sequence[str], rng: np.random.Generator) -> Scene:
    first, second = (str(name) for name in rng.choice(objects, 2, replace=False))
    colours = [str(name) for name in rng.choice(list(COLOURS), 2, replace=False)]
    if task is Task.SINGLE:
        return Scene(task=task, objects=(SceneObject(name=first),))
    if task is Task.COLORS:
        return Scene(task=task, objects=(SceneObject(name=first, colour=colours[0]),))
    if task is Task.COUNTING:
        count = int(rng.choice(COUNTS))
        return Scene(task=task, objects=(SceneObject(name=first),) * count)
    if task is Task.ATTRIBUTION:
        pair = zip((first, second), colours, strict=True)
        return Scene(task=task, objects=tuple(SceneObject(name=n, colour=c) for n, c in pair))
    relation = str(rng.choice(RELATIONS)) if task is Task.POSITION else None
    both = (SceneObject(name=first), SceneObject(name=second))
    return Scene(task=task, objects=both, relation=relation)
