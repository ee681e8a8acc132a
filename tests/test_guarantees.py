"""The page of guarantees names tests that are there."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "guarantees.md"


def test_every_guarantee_names_a_test() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| (?!promise|-)", line)]
    assert rows
    for row in rows:
        named = re.findall(r"`((?:\w+/)*test_\w+\.py)(?:::(\w+))?`", row.rsplit(" | ", 1)[1])
        assert named, f"no test for: {row}"
        for file, function in named:
            content = (TESTS / file).read_text()
            assert not function or f"def {function}(" in content, f"{file} has no {function}"
