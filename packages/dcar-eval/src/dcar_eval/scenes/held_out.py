"""Which combinations training never sees: about a tenth of each kind, the same for ever.

Balanced over the objects of a world: every object and every color, count and relation loses its
share, so that none is easier for having been seen whole. Which ones is decided by SHA-256 of their
names: on every machine alike, and nobody's choice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import combinations, permutations, product

from dcar_eval.scenes.things import PEOPLE, same_things
from dcar_eval.scenes.world import COLORS, COUNTS, WORLDS, Scene

HELD_OUT_SHARE = 0.1
NEVER_HELD_OUT = (("red", "apple"), ("blue", "car"))
"""What the README asks for."""

Combination = tuple[str, ...]


@lru_cache(maxsize=16)
def held_out(objects: tuple[str, ...]) -> frozenset[Combination]:
    """The combinations of a world that are kept from training.

    Pairs (a, b) in alphabetical order; ("in COLOR", object); (count, object); (a, relation, b)
    among the pairs that are not held out as such.
    """
    objects = tuple(dict.fromkeys(same_things()[name] for name in objects))
    colored = [name for name in objects if name not in PEOPLE]
    colors = [
        # Marked as a color, because "orange" is a fruit too.
        (f"in {color}", name)
        for color, name in product(COLORS, colored)
        if (color, name) not in NEVER_HELD_OUT
    ]
    counts = list(product(map(str, COUNTS), objects))
    pairs = balanced(combinations(sorted(objects), 2))
    relations = [
        (first, relation, second)
        for first, second in permutations(objects, 2)
        if (min(first, second), max(first, second)) not in pairs
        for relation in ("left of", "above")
    ]
    return frozenset(balanced(colors) | balanced(counts) | pairs | balanced(relations))


def is_held_out(scene: Scene, objects: tuple[str, ...]) -> bool:
    """Whether a scene of a world shows a combination that training must not see.

    A single object without a color never does: there, held-out means new seeds.
    """
    return not held_out(objects).isdisjoint(combinations_of(scene))


def is_kept_from_training(scene: Scene, objects: tuple[str, ...]) -> bool:
    """Whether a training set of a world must not show a scene.

    A world that can be asked for the thirty objects of `wide` keeps theirs from training too: they
    are what the benchmarks ask for, of whatever checkpoint.
    """
    benchmark = WORLDS["wide"]
    return is_held_out(scene, objects) or (
        set(benchmark) <= set(objects) and is_held_out(scene, benchmark)
    )


def combinations_of(scene: Scene) -> Iterator[Combination]:
    """What a scene combines, in the words of `held_out`."""
    names = [same_things()[thing.name] for thing in scene.objects]
    coats = [thing.color for thing in scene.objects]
    yield from ((f"in {coat}", name) for coat, name in zip(coats, names, strict=True) if coat)
    if len(names) > 1 and len(set(names)) == 1:
        yield str(len(names)), names[0]
    else:
        yield from combinations(sorted(names), 2)
    if scene.relation is not None:
        first, second = names
        yield placed(first, scene.relation, second)


def placed(first: str, relation: str, second: str) -> Combination:
    """A left of B is B right of A: one combination, one name."""
    opposite = {"right of": "left of", "below": "above"}
    if relation in opposite:
        return second, opposite[relation], first
    return first, relation, second


def balanced(candidates: Iterable[Combination]) -> frozenset[Combination]:
    """About a tenth: in the order of their hashes, as long as each word is below its quota.

    A word's quota is a tenth of the combinations it occurs in; one, where that rounds to none and
    it occurs in several.
    """
    listed = list(candidates)
    total = Counter(word for combination in listed for word in combination)
    quota = {
        word: max(round(HELD_OUT_SHARE * count), 1 if count > 1 else 0)
        for word, count in total.items()
    }
    taken: Counter[str] = Counter()
    chosen = set()
    for combination in sorted(listed, key=_digest):
        if all(taken[word] < quota[word] for word in combination):
            taken.update(combination)
            chosen.add(combination)
    return frozenset(chosen)


def _digest(combination: Combination) -> bytes:
    return hashlib.sha256("|".join(combination).encode()).digest()
