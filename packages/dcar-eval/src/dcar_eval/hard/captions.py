"""A scene of the harder grammar in words; the first wording is the benchmark's."""

from __future__ import annotations

from dcar_eval.hard.grammar import Group, HardScene
from dcar_eval.scenes.captions import NO_ARTICLE, NUMBERS, OPPOSITES, OTHER_WORDS, plural
from dcar_eval.scenes.world import PLAIN

OTHER_SIZES = {"large": "big", "small": "little"}
"""Other words for a size."""


def captions(scene: HardScene, *, in_order: bool = False) -> list[str]:
    """Every wording of a scene; `in_order`: none that lists the groups in another order."""
    sentences = _related(scene) if scene.relations else _listed(scene.groups, in_order)
    first, *_ = sentences
    texts = [f"a photo of {first}", *sentences]
    texts += [f"{start} {first}" for start in ("a picture of", "an image of", "draw")]
    if any(group.size for group in scene.groups):
        words = (first.replace(size, other) for size, other in OTHER_SIZES.items())
        texts += [text for text in words if text != first]
    if scene.style == PLAIN:
        return [*texts, f"{first} in {PLAIN} style"]
    return [f"{text} in {scene.style} style" for text in texts]


def described(group: Group, count: str | None = None) -> str:
    """`two red apples`, `a large dog`, `scissors`."""
    words = [word for word in (group.size, group.color) if word]
    if group.count > 1:
        return " ".join([count or NUMBERS[group.count], *words, plural(group.name)])
    text = " ".join([*words, group.name])
    if group.name in NO_ARTICLE:
        return text
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def _bare(group: Group) -> str:
    """`red apple`, or as `described` where there are several."""
    words = [word for word in (group.size, group.color, group.name) if word]
    return " ".join(words) if group.count == 1 else described(group)


def _listed(groups: tuple[Group, ...], in_order: bool) -> list[str]:
    """In any order where places are free."""
    phrases = [described(group) for group in groups]
    texts = [joined(phrases)]
    if len(groups) > 1:
        texts.append(", ".join(phrases))
        if not in_order:
            texts += [joined(phrases[::-1]), joined(phrases[1:] + phrases[:1])]
        texts += [", ".join(map(_bare, groups)), f"{joined(phrases[:-1])} with {phrases[-1]}"]
    if any(group.count > 1 for group in groups):
        texts.append(joined([described(group, str(group.count)) for group in groups]))
    return list(dict.fromkeys(texts))


def _related(scene: HardScene) -> list[str]:
    """One relation, or two that share an object: told from that one, and from the others."""
    if len(scene.relations) == 1:
        ((first, relation, second),) = scene.relations
        a, b = described(scene.groups[first]), described(scene.groups[second])
        back = OPPOSITES[relation]
        return [
            f"{a} {relation} {b}",
            f"{b} {back} {a}",
            *(f"{a} {words} {b}" for words in OTHER_WORDS[relation]),
            *(f"{b} {words} {a}" for words in OTHER_WORDS[back]),
        ]
    (a, here, b), (c, there, d) = scene.relations
    if a == c:  # "a cat left of a dog and above a car"
        return _of_one(scene.groups, a, (here, b), (there, d))
    assert b == d, "two relations share an object"
    told = _to_one(scene.groups, b, (a, here), (c, there))
    return told + _of_one(scene.groups, b, (OPPOSITES[here], a), (OPPOSITES[there], c))


def _of_one(
    groups: tuple[Group, ...], one: int, first: tuple[str, int], second: tuple[str, int]
) -> list[str]:
    """The places of one object, in this order and in the other; and the others' places."""
    (here, b), (there, c) = first, second
    subject, x, y = (described(groups[number]) for number in (one, b, c))
    return [
        f"{subject} {here} {x} and {there} {y}",
        f"{subject} {there} {y} and {here} {x}",
        f"{subject} {OTHER_WORDS[here][0]} {x} and {OTHER_WORDS[there][0]} {y}",
        *_to_one(groups, one, (b, OPPOSITES[here]), (c, OPPOSITES[there])),
    ]


def _to_one(
    groups: tuple[Group, ...], one: int, first: tuple[int, str], second: tuple[int, str]
) -> list[str]:
    """Two objects' places to one that is named twice."""
    (a, here), (c, there) = first, second
    x, target, y = (described(groups[number]) for number in (a, one, c))
    the = f"the {_bare(groups[one])}"
    return [f"{x} {here} {target} and {y} {there} {the}"]


def joined(phrases: list[str]) -> str:
    """`a, b and c`."""
    *start, last = phrases
    return f"{', '.join(start)} and {last}" if start else last
