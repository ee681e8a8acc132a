from dcar.modules.text import TextEncoder
from dcar.pipeline.vocabulary import (
    NAMED_THINGS,
    group_words,
    nearest,
    parts_of_names,
)

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


HOUSES = [
    "a", "of", "two", "red", "light", "bulb", "bulbs", "fire", "fires", "truck", "trucks",
    "t", "-", "rex", "rexes", "fox", "foxes",
]  # fmt: skip
NAMES = ["light bulb", "fire", "fire truck", "t-rex", "fox"]


def test_names_are_whole_where_the_checkpoint_lists_them() -> None:
    found = group_words(HOUSES, NAMES)
    assert found.things == sorted(NAMES)
    assert found.other == ["-", "a", "of"]
    assert found.colours == ["red"] and found.numbers == ["two"]


def test_plurals_of_listed_names_are_no_words_of_another_kind() -> None:
    words = ["a", "wolf", "wolves", "tv", "tvs", "cherry", "cherries", "snowman", "snowmen", "of"]
    found = group_words(words, ["wolf", "tv", "cherry", "snowman", "wolf"])
    assert found.things == ["cherry", "snowman", "tv", "wolf"]
    assert found.other == ["a", "of"]


def test_what_a_fine_tune_learned_is_a_thing_beside_the_names_of_its_start() -> None:
    found = group_words([*HOUSES, "zebra", "zebras", "striped"], NAMES)
    assert found.things == sorted([*NAMES, "zebra"]) and found.other == ["-", "a", "of", "striped"]
    assert nearest("zebr", found) == ["zebra"]


def test_a_word_that_is_known_within_a_name_alone_is_said() -> None:
    known = group_words(HOUSES, NAMES)
    assert parts_of_names("two red trucks and a fox", known) == {"trucks": "fire truck"}
    assert parts_of_names("a bulb of light", known) == {"bulb": "light bulb", "light": "light bulb"}
    ways = ("a fire  truck", "a fire-truck", "a fire\u00a0truck", "a fire\u2011truck", "a T rex")
    ways += ("a fire\u2014truck", "a fire\u200b truck", "a fi\u200bre truck", "a fire\xad-truck")
    for whole in (
        "two fire trucks",
        "a T-rex and a fire",
        "foxes of fire",
        "two light bulbs",
        *ways,
    ):
        assert parts_of_names(whole, known) == {}
    assert parts_of_names("a truck", group_words(HOUSES)) == {}  # which lists no names


def test_what_is_spelled_alike_is_near() -> None:
    known = group_words(HOUSES, NAMES)
    assert nearest("Foxs", known) == ["fox"]
    assert nearest("firetruck", known) == ["fire truck"]
    assert nearest("zeppelin", known) == []


def test_plurals_of_listed_names_are_no_other_words() -> None:
    words = ["a", "butterfly", "butterflies", "snowman", "snowmen", "flies"]
    assert group_words(words, ["butterfly", "snowman"]).other == ["a", "flies"]
