import sys
from types import ModuleType
from typing import Any

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dcht import UsageError
from dcht.engine.trackers import Tracker, open_board
from dcht.engine.training import RunLog


@pytest.fixture(params=["trackio", "wandb"])
def service(request, monkeypatch) -> Any:
    """A stand-in for the package that writes down how it was called."""
    module = ModuleType(request.param)
    calls: list[tuple[str, Any]] = []
    vars(module).update(
        calls=calls,
        init=lambda **keywords: calls.append(("init", keywords)),
        log=lambda values, step: calls.append(("log", (step, values))),
        finish=lambda: calls.append(("finish", None)),
        Image=lambda image: ("picture", image.size),
    )
    monkeypatch.setitem(sys.modules, request.param, module)
    return module


def test_a_service_gets_every_row_and_image_under_one_name(service, tmp_path):
    tracker = Tracker(service.__name__)
    for first_step in (0, 5):  # the second time, the run goes on
        log = RunLog(tmp_path / "run", first_step=first_step, trackers=[tracker])
        log.scalars(first_step, {"loss": 2.0})
        log.image(first_step, "grid", Image.new("RGB", (8, 6)))
        log.close()
    verbs = [verb for verb, _ in service.calls]
    assert verbs == ["init", "log", "log", "finish"] * 2
    assert service.calls[1][1] == (0, {"loss": 2.0})
    assert service.calls[6][1] == (5, {"grid": ("picture", (8, 6))})
    begun = [keywords for verb, keywords in service.calls if verb == "init"]
    assert begun[0] == begun[1]
    assert begun[0]["resume"] == "allow"
    assert begun[0]["name"].startswith("run-")
    # wandb finds a run again by its id alone, and trackio by its name.
    assert begun[0].get("id") == (begun[0]["name"] if tracker is Tracker.wandb else None)
    elsewhere = RunLog(tmp_path / "other" / "run", trackers=[tracker])
    elsewhere.close()
    assert service.calls[-2][1]["name"] != begun[0]["name"]
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_tensorboard_holds_what_was_logged(tmp_path):
    log = RunLog(tmp_path)
    log.scalars(3, {"loss": 2.5})
    log.image(3, "grid", Image.new("RGB", (8, 6), "red"))
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(point.step, point.value) for point in events.Scalars("loss")] == [(3, 2.5)]
    assert [(shown.width, shown.height) for shown in events.Images("grid")] == [(8, 6)]


def test_a_tracker_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)  # as if it were not there
    with pytest.raises(UsageError, match=r"pip install 'dcht\[trackio\]'"):
        open_board(Tracker.trackio, tmp_path, first_step=0)


def test_without_tensorboard_a_run_goes_on_and_says_so(tmp_path, monkeypatch, capsys):
    """It is on by default, so nobody has asked for it; `dcar` alone does not install it."""
    monkeypatch.setattr("dcht.engine.trackers.find_spec", lambda name: None)
    log = RunLog(tmp_path)
    log.scalars(3, {"loss": 2.5})
    log.close()
    assert not (tmp_path / "tensorboard").exists()
    assert '"loss": 2.5' in (tmp_path / "metrics.jsonl").read_text()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "pip install 'dcht[tensorboard]'" in said
