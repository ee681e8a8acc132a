"""A scene in words: GenEval's own wording first, then paraphrases."""

from __future__ import annotations

from dcar_eval.scenes.world import Scene, SceneObject, Task

IRREGULAR = {
    "bus": "buses", "sheep": "sheep", "knife": "knives", "person": "people",
    "computer mouse": "computer mice", "scissors": "scissors", "skis": "skis",
    "broccoli": "broccoli",
}  # fmt: skip
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}
NO_ARTICLE = ("scissors", "skis", "broccoli")


def plural(name: str) -> str:
    """The plural, as people write it (GenEval's own file has "benchs" and "knifes")."""
    if name in IRREGULAR:
        return IRREGULAR[name]
    return name + ("es" if name.endswith(("s", "x", "ch", "sh")) else "s")


def described(thing: SceneObject) -> str:
    """`red apple`, or `apple`."""
    return f"{thing.colour} {thing.name}" if thing.colour else thing.name


def with_article(thing: SceneObject) -> str:
    """`an apple`, `a red apple`, `scissors`."""
    text = described(thing)
    if thing.name in NO_ARTICLE:
        return text
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def captions(scene: Scene) -> list[str]:
    """Every wording of a scene; the first is GenEval's."""
    first = scene.objects[0]
    a = with_article(first)
    if scene.task is Task.COUNTING:
        many = f"{NUMBERS[len(scene.objects)]} {plural(first.name)}"
        listed = ", ".join([a] * (len(scene.objects) - 1)) + f" and {a}"
        return [
            f"a photo of {many}", many, f"{len(scene.objects)} {plural(first.name)}", listed,
            f"a picture of {many}", f"there are {many}",
        ]  # fmt: skip
    if len(scene.objects) == 1:
        texts = [f"a photo of {a}", a, f"a picture of {a}"]
        if first.name in NO_ARTICLE:
            return texts
        texts.append(f"one {described(first)}")
        if first.colour:
            texts.append(f"{with_article(SceneObject(name=first.name))} that is {first.colour}")
        return [*texts, described(first)]
    second = scene.objects[1]
    b = with_article(second)
    if scene.relation is None:
        return [
            f"a photo of {a} and {b}", f"{a} and {b}", f"{b} and {a}", f"{a} with {b}",
            f"a picture of {b} and {a}", f"{described(first)}, {described(second)}",
        ]  # fmt: skip
    here, there = {
        "left of": ("on the left", "on the right"),
        "right of": ("on the right", "on the left"),
        "above": ("at the top", "at the bottom"),
        "below": ("at the bottom", "at the top"),
    }[scene.relation]
    opposite = {
        "left of": "right of", "right of": "left of", "above": "below", "below": "above",
    }[scene.relation]  # fmt: skip
    texts = [
        f"a photo of {a} {scene.relation} {b}",
        f"{a} {scene.relation} {b}",
        f"{b} {opposite} {a}",
        f"{a} {here} and {b} {there}",
        f"{described(first)} {here}, {described(second)} {there}",
    ]
    if scene.relation.endswith("of"):
        texts.append(f"{a} to the {scene.relation} {b}")
    return texts
