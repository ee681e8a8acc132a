"""What a sentence of the harder grammar may hold.

A scene is groups of objects ("two red apples", "a large dog"), and relations between groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dcar_eval.scenes.world import PLAIN

MOST = 6
"""Objects in an image."""


class HardTask(Enum):
    """Kinds of sentences."""

    ONE = "one"
    """A small red apple."""
    SEVERAL = "several"
    """Five kites."""
    GROUPS = "groups"
    """Two cups and three handbags."""
    COLORED_GROUPS = "coloured_groups"
    """Two red apples and a blue car."""
    FOUR_COLORS = "four_colours"
    """A red cup, a blue dog, a green kite and a white car."""
    SIZES = "sizes"
    """A large dog and a small cat."""
    RELATIONS = "two_relations"
    """A cat left of a dog and above a car; a cat left of a dog and a car below the dog."""
    FREE = "free_form"
    """Up to four groups with anything: for training, never asked by the benchmark."""


BENCHMARK = tuple(task for task in HardTask if task is not HardTask.FREE)
SIZES = ("small", "large")


@dataclass(frozen=True, kw_only=True)
class Group:
    """So many of one object, alike in color and size."""

    name: str
    count: int = 1
    color: str | None = None
    size: str | None = None
    """One of `SIZES`; None: any."""


Relation = tuple[int, str, int]
"""The first group stands so to the second; both by their number."""


@dataclass(frozen=True, kw_only=True)
class HardScene:
    """What is in an image. Where no relation is, nothing is said of places."""

    task: HardTask
    groups: tuple[Group, ...]
    relations: tuple[Relation, ...] = ()
    style: str = PLAIN
    """One of `dcar_eval.scenes.sprites.STYLES`."""
