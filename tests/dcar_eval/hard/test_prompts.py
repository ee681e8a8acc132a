"""The committed prompts: what they are is fixed, balanced and told truly."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from dcar_eval.hard import prompts as module
from dcar_eval.hard.grammar import BENCHMARK, Group, HardScene, HardTask
from dcar_eval.hard.held_out import OBJECTS, by_kind, combinations_of, held_out, kind_of
from dcar_eval.hard.prompts import KINDS, PER_TASK, load, make, prompts, text
from dcht.errors import CheckpointError


def scene_of(row: dict[str, Any]) -> HardScene:
    """The scene that a row of GenEval's file asks for."""
    names = list(dict.fromkeys(clause["class"] for clause in row["include"]))
    first = {clause["class"]: clause for clause in reversed(row["include"])}
    groups = tuple(
        Group(name=name, count=first[name]["count"], color=first[name].get("color"),
              size=first[name].get("size"))
        for name in names
    )  # fmt: skip

    def relations() -> Iterator[tuple[int, str, int]]:
        for clause in row["include"]:
            if "position" in clause:
                relation, target = clause["position"]
                other = names.index(row["include"][target]["class"])
                yield names.index(clause["class"]), relation, other

    return HardScene(task=HardTask(row["tag"]), groups=groups, relations=tuple(relations()))


def test_every_unseen_prompt_shows_one_held_out_combination_and_no_seen_one_does() -> None:
    assert load()["objects"] == list(OBJECTS)
    assert {kind: [tuple(c) for c in found] for kind, found in load()["held_out"].items()} == (
        by_kind()
    )
    for row in load()["prompts"]:
        shown = held_out().intersection(combinations_of(scene_of(row)))
        assert sorted(map(list, shown)) == row["shows"]
        assert len(shown) == (0 if row["seen"] else 1)


def test_they_are_balanced_and_all_different() -> None:
    rows = load()["prompts"]
    assert len({row["prompt"] for row in rows}) == len(rows) == 2 * PER_TASK * len(BENCHMARK)
    for task in BENCHMARK:
        unseen = [row for row in rows if row["tag"] == task.value and not row["seen"]]
        kinds = Counter(kind_of(tuple(row["shows"][0])) for row in unseen)
        assert set(kinds) == set(KINDS[task])
        assert max(kinds.values()) - min(kinds.values()) <= 1
    times = Counter(tuple(c) for row in rows for c in row["shows"])
    for kind, found in by_kind().items():
        asked = [times[combination] for combination in found]
        assert max(asked) - min(asked) <= {"count": 4}.get(kind, 1)
    names = Counter(clause["class"] for row in rows for clause in row["include"])
    assert set(names) == set(OBJECTS)


def test_columns_come_in_order_and_begin_again() -> None:
    few = prompts(3)
    assert [(row["tag"], row["seen"]) for row in few] == [
        (task.value, seen) for task in BENCHMARK for seen in (False, True) for _ in range(3)
    ]
    many = prompts(PER_TASK + 1)
    assert many[PER_TASK] == many[0] == few[0]


def test_others_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    load.cache_clear()
    monkeypatch.setattr(module, "SHA256", "0" * 64)
    with pytest.raises(CheckpointError, match=r"prompts\.json has SHA-256 .*, not 0000"):
        load()
    monkeypatch.undo()
    assert load()["prompts"]


@pytest.mark.slow
def test_they_are_what_make_draws() -> None:
    assert text(make()) == text(load())
