"""What a scene may hold: objects, colors, counts and relations, in tasks.

Nothing here is random: see `dcar_eval.scenes.sample`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

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
    # Thirty: these, and eighteen more that nobody would mistake for another.
    "wide": (
        "airplane", "apple", "backpack", "banana", "bed", "bicycle", "bird", "boat", "book", "bus",
        "cake", "car", "carrot", "cat", "chair", "clock", "cup", "dog", "donut", "elephant",
        "giraffe", "handbag", "horse", "kite", "pizza", "potted plant", "scissors", "sheep",
        "train", "umbrella",
    ),
    "all": tuple(SPRITE_LABELS),
}  # fmt: skip

COLORS = {
    "red": (225, 40, 40), "orange": (245, 140, 20), "yellow": (250, 215, 40),
    "green": (50, 170, 70), "blue": (45, 110, 225), "purple": (140, 70, 200),
    "pink": (250, 130, 190), "brown": (135, 85, 50), "black": (40, 40, 45),
    "white": (245, 245, 245),
}  # fmt: skip
"""GenEval's ten colors in its order, as sRGB."""

PLAIN = "3d"
"""The style of the art where no other is named."""
STYLES = (PLAIN, "noto", "flat")
"""In which the same things are rendered by their artists."""

RELATIONS = ("left of", "right of", "above", "below")
COUNTS = (2, 3, 4)
GATHERINGS = (3, 4, 4)
"""How many different objects stand together in free forms; four as often again as three."""


class Task(Enum):
    """GenEval's six tasks, by its tags, and scenes that combine them."""

    SINGLE = "single_object"
    TWO = "two_object"
    COUNTING = "counting"
    COLORS = "colors"
    POSITION = "position"
    ATTRIBUTION = "color_attr"
    FREE = "free_form"
    """Two red apples; a blue car left of a dog; a cat, a red cup and a kite: for training, never
    asked by the benchmark."""
    GATHERING = "gathering"
    """The last kind of free form, where nothing else is wanted: almost every token an object."""


BENCHMARK = tuple(task for task in Task if task not in (Task.FREE, Task.GATHERING))
"""The six that are scored."""


class Split(Enum):
    """Combinations seen in training, or kept from it."""

    TRAIN = "train"
    HELD_OUT = "held-out"


TASK_WEIGHTS = {
    # What holds more than one thing to get right gets more images: four objects in four colors
    # teach as much as four images of one, in as many tokens.
    Task.SINGLE: 0.04,
    Task.TWO: 0.08,
    Task.COUNTING: 0.12,
    Task.COLORS: 0.12,
    Task.POSITION: 0.14,
    Task.ATTRIBUTION: 0.14,
    Task.FREE: 0.36,
}
NEVER_COLORED = ("person",)
"""GenEval asks for no colored people."""


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One object; without a color it keeps the colors of its sprite."""

    name: str
    color: str | None = None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is in an image. With a relation, the first object stands so to the second; without
    one, objects stand in the order of the words: from left to right, and from top to bottom.
    """

    task: Task
    objects: tuple[SceneObject, ...]
    relation: str | None = None
