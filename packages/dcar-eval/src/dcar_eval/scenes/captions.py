"""A scene in words: GenEval's own wording first, then paraphrases and free forms."""

from __future__ import annotations

from dcar_eval.scenes.world import Scene, SceneObject

IRREGULAR = {
    "bus": "buses", "knife": "knives", "person": "people", "mouse": "mice", "child": "children",
    "man": "men", "woman": "women", "snowman": "snowmen", "foot": "feet", "tooth": "teeth",
    "goose": "geese", "elf": "elves", "wolf": "wolves", "leaf": "leaves", "scarf": "scarves",
    "mango": "mangoes", "mosquito": "mosquitoes", "potato": "potatoes", "superhero": "superheroes",
    "tomato": "tomatoes", "tornado": "tornadoes", "volcano": "volcanoes",
}  # fmt: skip
"""By the last word of a name."""
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
NO_ARTICLE = (
    "scissors", "skis", "broccoli", "bacon", "biceps", "bread", "butter", "cheese", "chopsticks",
    "coffee", "corn", "footprints", "french fries", "fries", "garlic", "glasses", "goggles",
    "grapes", "headphones", "jeans", "lightning", "maracas", "meat", "milk", "pants", "popcorn",
    "salt", "shorts", "soup", "spaghetti", "sunglasses", "sushi", "yarn",
)  # fmt: skip
"""Plurals of their own, and what is not counted: one word for one and for many."""
SAME_IN_PLURAL = (
    *NO_ARTICLE, "blowfish", "deer", "fish", "jellyfish", "moose", "sheep", "squid",
    "tropical fish",
)  # fmt: skip
PLACES = {
    "left of": ("on the left", "on the right"),
    "right of": ("on the right", "on the left"),
    "above": ("at the top", "at the bottom"),
    "below": ("at the bottom", "at the top"),
}
"""Where a relation has the first object, and where the second."""
OPPOSITES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
OTHER_WORDS = {
    "left of": ("to the left of", "on the left side of"),
    "right of": ("to the right of", "on the right side of"),
    "above": ("over",),
    "below": ("under", "beneath"),
}
"""Other ways to say a relation."""


def plural(name: str) -> str:
    """The plural, as people write it (GenEval's own file has "benchs" and "knifes")."""
    if name in SAME_IN_PLURAL:
        return name
    *start, last = name.split(" ")
    if last in IRREGULAR:
        return " ".join([*start, IRREGULAR[last]])
    if last.endswith("y") and last[-2] not in "aeiou":
        return f"{name[:-1]}ies"
    return name + ("es" if name.endswith(("s", "x", "ch", "sh")) else "s")


def described(thing: SceneObject) -> str:
    """`red apple`, or `apple`."""
    return f"{thing.color} {thing.name}" if thing.color else thing.name


def with_article(thing: SceneObject) -> str:
    """`an apple`, `a red apple`, `scissors`."""
    text = described(thing)
    if thing.name in NO_ARTICLE:
        return text
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def captions(scene: Scene) -> list[str]:
    """Every wording of a scene; the first is GenEval's."""
    first, *others = scene.objects
    if not others:
        return _single(first)
    if others[0].name == first.name:
        return _several(first, len(scene.objects))
    return _together(scene.objects) if scene.relation is None else _placed(scene)


def _single(thing: SceneObject) -> list[str]:
    a = with_article(thing)
    texts = [f"a photo of {a}", a, f"a picture of {a}", f"an image of {a}", f"draw {a}"]
    if thing.name in NO_ARTICLE:
        return texts
    texts += [f"there is {a}", f"one {described(thing)}", described(thing)]
    if thing.color:
        plain = SceneObject(name=thing.name)
        texts += [f"{with_article(plain)} that is {thing.color}", f"{thing.name}, {thing.color}"]
    return texts


def _several(thing: SceneObject, count: int) -> list[str]:
    a, color = with_article(thing), f"{thing.color} " if thing.color else ""
    things = f"{color}{plural(thing.name)}"
    many = f"{NUMBERS[count]} {things}"
    return [
        f"a photo of {many}", many, f"{count} {things}",
        ", ".join([a] * (count - 1)) + f" and {a}", ", ".join([described(thing)] * count),
        f"a picture of {many}", f"an image of {many}", f"there are {many}", f"draw {many}",
        f"exactly {many}", f"a group of {many}",
    ]  # fmt: skip


def _together(things: tuple[SceneObject, ...]) -> list[str]:
    """In one order, which is that of their places."""
    *start, last = (with_article(thing) for thing in things)
    joined = f"{', '.join(start)} and {last}"
    *bare, bare_last = (described(thing) for thing in things)
    texts = [
        f"a photo of {joined}", joined, f"a picture of {joined}", f"an image of {joined}",
        f"draw {joined}", ", ".join([*bare, bare_last]), f"{', '.join(bare)} and {bare_last}",
        f"{', '.join(start)} with {last}", f"{', '.join(start)} together with {last}",
        f"{', '.join(start)} next to {last}",
    ]  # fmt: skip
    return [*texts, f"both {joined}"] if len(things) == 2 else texts


def _placed(scene: Scene) -> list[str]:
    assert scene.relation is not None, "captions() sends only scenes that have one"
    first, second = scene.objects
    a, b = with_article(first), with_article(second)
    (here, there), back = PLACES[scene.relation], OPPOSITES[scene.relation]
    return [
        f"a photo of {a} {scene.relation} {b}",
        f"{a} {scene.relation} {b}",
        f"{b} {back} {a}",
        f"a picture of {b} {back} {a}",
        f"{a} is {scene.relation} {b}",
        f"{a} {here} and {b} {there}",
        f"{described(first)} {here}, {described(second)} {there}",
        f"{described(second)} {there}, {described(first)} {here}",
        f"{here} {a}, {there} {b}",
        f"{described(first)} {scene.relation} {described(second)}",
        *(f"{a} {words} {b}" for words in OTHER_WORDS[scene.relation]),
        *(f"{b} {words} {a}" for words in OTHER_WORDS[back]),
    ]
