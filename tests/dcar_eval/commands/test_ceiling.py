"""`python -m dcar_eval.commands.ceiling`: what it prints is JSON, however many things there are."""

import json
from typing import Any

import pytest

from dcar_eval.commands import ceiling
from dcar_eval.things.recognizing import BUNDLED, NAMES


def test_the_ceiling_of_every_thing_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """548 things are more than a line of a terminal takes; a program reads them."""
    found = {"overall": 0.5, "things": dict.fromkeys(NAMES, 0.5)}

    def measure(*_: Any, num_per_task: int, **__: Any) -> dict[str, Any]:
        return found | {"num_per_task": num_per_task}

    monkeypatch.setitem(ceiling.BENCHMARKS, "things", (BUNDLED, measure, 4))
    monkeypatch.setattr("sys.argv", ["ceiling", "sprites", "--benchmark", "things"])
    assert ceiling.main() == 0
    assert json.loads(capsys.readouterr().out) == found | {"num_per_task": 4}
