"""Which combinations no training set shows: those of the thirty objects, and more of the same.

The standard grammar holds out a tenth of the (color, object), (count, object), pairs of objects
and (object, relation, object) of the thirty. The harder one keeps these, so that a set of standard
scenes gives nothing away, and adds (count, object) for five and six and (size, object). A bigger
world keeps the same ones, whatever a thing is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations, permutations, product

from dcar_eval.hard.grammar import HardScene, Relation
from dcar_eval.scenes.captions import OPPOSITES
from dcar_eval.scenes.held_out import Combination, balanced, placed
from dcar_eval.scenes.held_out import held_out as standard
from dcar_eval.scenes.things import same_things
from dcar_eval.scenes.world import COUNTS, WORLDS

OBJECTS = WORLDS["wide"]
"""What the benchmark asks for."""
MORE_COUNTS = ("5", "6")


@cache
def held_out() -> frozenset[Combination]:
    """All of them, as `combinations_of` writes them."""
    return standard(OBJECTS).union(
        balanced(product(MORE_COUNTS, OBJECTS)), balanced(product(("small", "large"), OBJECTS))
    )


def by_kind() -> dict[str, list[Combination]]:
    """All of them, sorted, by what they combine."""
    kinds: dict[str, list[Combination]] = {
        kind: [] for kind in ("colour", "count", "size", "pair", "relation")
    }
    for combination in sorted(held_out()):
        kinds[kind_of(combination)].append(combination)
    return kinds


def kind_of(combination: Combination) -> str:
    """`color`, `count`, `size`, `pair` or `relation`."""
    first, *_ = combination
    if len(combination) == 3:
        return "relation"
    if first.startswith("in "):
        return "colour"
    if first in (*map(str, COUNTS), *MORE_COUNTS):
        return "count"
    return "size" if first in ("small", "large") else "pair"


def combinations_of(scene: HardScene) -> Iterator[Combination]:
    """What a scene combines, by the first of each object's names."""
    names = [same_things()[group.name] for group in scene.groups]
    for name, group in zip(names, scene.groups, strict=True):
        if group.color:
            yield f"in {group.color}", name
        if group.size:
            yield group.size, name
        if group.count > 1:
            yield str(group.count), name
    yield from combinations(sorted(names), 2)
    for first, relation, second in (*scene.relations, *implied(scene)):
        yield placed(names[first], relation, names[second])


def implied(scene: HardScene) -> Iterator[Relation]:
    """What two relations say together: left of what is left of a third is left of that too."""
    told = [*scene.relations, *((b, OPPOSITES[r], a) for a, r, b in scene.relations)]
    for (a, here, b), (c, there, d) in permutations(told, 2):
        if b == c and a != d and here == there:
            yield a, here, d
