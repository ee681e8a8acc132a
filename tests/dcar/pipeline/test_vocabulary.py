from dcar.modules.text import TextEncoder
from dcar.pipeline.vocabulary import NAMED_THINGS, group_words

SCENES = [
    "a", "an", "and", "are", "of", "photo", "there", "2", "apple", "apples", "bus", "buses", "cat",
    "cats", "two", "four", "above", "left", "red", "white", "orange", "potted", "plant", "plants",
    "scissors", "sheep",
]  # fmt: skip


def test_words_go_to_their_groups() -> None:
    found = group_words(SCENES)
    assert found.things == ["apple", "bus", "cat", "plant", "scissors", "sheep"]
    assert found.colours == ["red", "orange", "white"]
    assert found.numbers == ["two", "four"]
    assert found.places == ["left", "above"]
    assert found.other == ["2", "a", "an", "and", "are", "of", "photo", "potted", "there"]
    assert str(found) == (
        "apple, bus, cat, plant, scissors, sheep; red, orange, white; two, four; left, above"
    )


def test_an_orange_is_a_color_and_with_its_plural_a_thing_too() -> None:
    assert group_words(["orange", "oranges"])[:2] == (["orange"], ["orange"])


def test_short_words_with_an_s_are_no_things() -> None:
    assert group_words(["a", "as", "it", "its"]).things == []


def test_of_many_things_the_rest_is_counted() -> None:
    words = [f"thing{number:02d}" for number in range(NAMED_THINGS + 3)]
    text = str(group_words([*words, *(f"{word}s" for word in words)]))
    assert text.endswith("thing39 and 3 things more") and "thing40" not in text


def test_a_checkpoint_is_asked(text: TextEncoder) -> None:
    assert group_words(text.known_words() or []).things == ["car"]
