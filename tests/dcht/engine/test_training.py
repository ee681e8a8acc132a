import json
import os
import resource
import signal
from contextlib import closing

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from dcht.checkpoint import checkpoint_sha256, write_checkpoint
from dcht.engine.distributed import World
from dcht.engine.metrics import Means
from dcht.engine.run_folder import check_settings, load_resume, room_to_write, save_resume
from dcht.engine.training import EMA, GracefulStop, RunLog, SaveClock, finite_or_stop, warmup_lr
from dcht.errors import NonFiniteLossError, UsageError

ALONE = World(0, 1, torch.device("cpu"))


def test_ema_follows_the_closed_form_and_warms_up():
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    ema = EMA(module, decay=0.5)
    nn.init.ones_(module.weight)
    ema.update(module)  # decay (1 + 1) / (10 + 1): less than 0.5, so the average moves faster
    assert ema.shadow["weight"].item() == pytest.approx(1 - 2 / 11)
    for _ in range(20):
        ema.update(module)
    ema.copy_to(module)
    assert module.weight.item() == pytest.approx(1.0, abs=1e-5)


def test_ema_of_frozen_weights_is_bit_equal_and_integers_are_copied():
    module = nn.BatchNorm2d(4)
    nn.init.normal_(module.weight)
    before = module.weight.detach().clone()
    ema = EMA(module, decay=0.99)
    assert module.num_batches_tracked is not None
    module.num_batches_tracked += 7
    for _ in range(5):
        ema.update(module)
    assert torch.equal(ema.shadow["weight"], before)
    assert ema.shadow["num_batches_tracked"] == 7


def test_ema_state_continues_and_refuses_another_module():
    module = nn.Linear(2, 2)
    first, second = EMA(module, 0.9), EMA(nn.Linear(2, 2), 0.9)
    first.update(module)
    second.load_state_dict(first.state_dict())
    assert second.num_updates == 1
    assert torch.equal(second.shadow["weight"], first.shadow["weight"])
    with pytest.raises(ValueError, match="another module"):
        EMA(nn.BatchNorm2d(2), 0.9).load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match=r"decay is 1\.5"):
        EMA(module, 1.5)


def test_warmup_lr_known_values():
    settings = {"base": 2.0, "warmup_steps": 4, "total_steps": 12}
    assert [warmup_lr(step, **settings) for step in range(5)] == [0.5, 1.0, 1.5, 2.0, 2.0]
    cosine = [warmup_lr(step, **settings, final=1.0, shape="cosine") for step in (4, 8, 12, 99)]
    assert cosine == pytest.approx([2.0, 1.5, 1.0, 1.0])
    assert warmup_lr(0, base=3.0, warmup_steps=0, total_steps=0) == 3.0


def test_run_log_has_one_row_a_step_after_a_resume(tmp_path):
    log = RunLog(tmp_path)
    for step in range(4):
        log.scalars(step, {"loss": float(step)})
    log.image(3, "grid", Image.new("RGB", (8, 6), "red"))
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    log = RunLog(tmp_path, first_step=2)
    log.scalars(2, {"loss": 20.0})
    log.close()
    rows = [json.loads(row) for row in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in rows] == [(0, 0.0), (1, 1.0), (2, 20.0)]
    with Image.open(tmp_path / "samples" / "grid-0000003.png") as image:
        assert image.size == (8, 6)
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize("row", ["{", "[]", "{}", '{"step": "3"}', '{"step": NaN}'])
def test_a_damaged_log_is_one_line(tmp_path, row):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{row}\n')
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"metrics\.jsonl"):
        RunLog(tmp_path, first_step=5, trackers=[])
    assert path.read_bytes() == before


def test_rows_are_dropped_at_once_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {step}}}\n' for step in range(9)))
    before = path.read_bytes()

    def killed(old: object, new: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            RunLog(tmp_path, first_step=5, trackers=[])
    assert path.read_bytes() == before


def test_a_value_is_averaged_over_the_steps_that_had_it():
    means = Means()
    for step in range(4):
        means.add({"l2": torch.tensor(1.0)} | ({"gan": 0.83} if step >= 2 else {}))
    again = Means()
    again.load_state(json.loads(json.dumps(means.state(), default=float)))
    for each in (means, again):
        assert each.num_steps == 4
        assert each.take() == {"l2": 1.0, "gan": pytest.approx(0.83)}
        assert (each.num_steps, each.take()) == (0, {})


def test_a_tracker_that_fails_is_said_and_left_out(tmp_path, capsys):
    class Gone:
        def scalars(self, step, values):
            raise ConnectionError("the service is gone")

        def close(self):
            raise AssertionError("not told again")

    log = RunLog(tmp_path, trackers=[])
    log._boards = [Gone()]  # type: ignore[list-item]
    for step in (1, 2):
        log.scalars(step, {"loss": 1.0})
    log.close()
    assert capsys.readouterr().err == "Gone shows nothing from here on: the service is gone\n"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_rank_that_is_not_active_logs_nothing(tmp_path, capsys):
    log = RunLog(tmp_path / "run", active=False)
    log.scalars(0, {"loss": 1.0})
    log.image(0, "grid", Image.new("RGB", (8, 6)))
    log.line("nobody hears this")
    log.close()
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr().err == ""


def test_resume_keeps_the_newest_and_returns_what_was_saved(tmp_path):
    assert load_resume(tmp_path) is None
    for step in (1, 20, 300):
        save_resume(tmp_path, step, {"x": torch.full((2,), step), "stage": "a", "list": [1, 2.5]})
    found = load_resume(tmp_path)
    assert found is not None
    assert found[0] == 300
    assert found[1]["x"].tolist() == [300, 300]
    assert found[1]["list"] == [1, 2.5]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "resume-000000020.pt",
        "resume-000000300.pt",
    ]


def test_a_disk_that_fills_up_leaves_the_earlier_file_and_one_line(tmp_path):
    """The limit on a file's size stands in for the disk: the same failing write."""
    save_resume(tmp_path, 1, {"x": torch.ones(3)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    message = r"resume-000000002.pt could not be written: File too large; .* make room"
    with pytest.raises(UsageError, match=message), room_to_write(tmp_path):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
            save_resume(tmp_path, 2, {"x": torch.ones(50_000)})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["resume-000000001.pt"]
    found = load_resume(tmp_path)
    assert found is not None
    assert found[1]["x"].tolist() == [1, 1, 1]


def test_a_checkpoint_without_room_leaves_the_earlier_one_and_one_line(tmp_path):
    sha256 = write_checkpoint(tmp_path, {"a": 1}, {"x": torch.ones(3)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    message = r"model.safetensors could not be written: File too large"
    with pytest.raises(UsageError, match=message), room_to_write(tmp_path):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
            write_checkpoint(tmp_path, {"a": 1}, {"x": torch.ones(50_000)})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoint_sha256(tmp_path) == sha256
    assert len(list(tmp_path.iterdir())) == 2


def test_graceful_stop_catches_once_and_restores_the_handlers():
    before = signal.getsignal(signal.SIGINT)
    with GracefulStop() as stop:
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_guard_saves_the_batch(tmp_path):
    batch = {"images": torch.ones(1, 3, 2, 2)}
    finite_or_stop({"l2": torch.tensor(1.0)}, batch, tmp_path, 5)
    assert not list(tmp_path.iterdir())
    with pytest.raises(NonFiniteLossError, match=r"step 6.*lpips.*nan"):
        finite_or_stop(
            {"l2": torch.tensor(1.0), "lpips": torch.tensor(float("nan"))}, batch, tmp_path, 6
        )
    assert torch.equal(
        load_file(tmp_path / "nonfinite-0000006.safetensors")["images"], batch["images"]
    )


@pytest.mark.parametrize("size", [0, 100])
def test_the_guard_says_the_loss_also_on_a_full_disk(size, tmp_path):
    batch, losses = {"images": torch.ones(1, 3, 8, 8)}, {"l2": torch.tensor(float("inf"))}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(NonFiniteLossError, match=r"l2.*inf.*the batch is lost: .*too large$"):
            finite_or_stop(losses, batch, tmp_path, 6)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
    with pytest.raises(NonFiniteLossError, match=r"the batch is in "):
        finite_or_stop(losses, batch, tmp_path, 6)


def test_settings_of_a_run_are_kept_and_compared(tmp_path):
    first = {"seed": 1, "data": {"root": "a", "workers": 2}, "old": 3}
    check_settings(tmp_path, first, free={"workers"}, resuming=False)
    assert json.loads((tmp_path / "config.json").read_text()) == first
    moved = {"seed": 1, "data": {"root": "a", "workers": 4}, "new": 5}
    check_settings(tmp_path, moved, free={"workers"}, resuming=True)
    other = {"seed": 2, "data": {"root": "b", "workers": 4}}
    with pytest.raises(UsageError, match=r"\(data\.root, seed\)"):
        check_settings(tmp_path, other, free={"workers"}, resuming=True)


@pytest.fixture
def log(tmp_path):
    with closing(RunLog(tmp_path / "run", trackers=[])) as opened:
        yield opened


def test_a_run_waits_while_there_is_a_file_pause(log, monkeypatch, capsys):
    pause, slept = log.folder / "PAUSE", []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            pause.unlink()

    monkeypatch.setattr("dcht.engine.training.time.sleep", sleep)
    stop = GracefulStop()
    assert not stop.agreed(ALONE, log)
    assert not slept
    pause.touch()
    assert not stop.agreed(ALONE, log)
    assert len(slept) == 3
    assert capsys.readouterr().err.count(f"paused for as long as {pause} exists") == 1


def test_a_paused_run_can_be_stopped(log, monkeypatch):
    (log.folder / "PAUSE").touch()
    stop = GracefulStop()
    monkeypatch.setattr(
        "dcht.engine.training.time.sleep", lambda _: setattr(stop, "requested", True)
    )
    assert stop.agreed(ALONE, log)


def test_the_clock_asks_for_a_save_once_its_minutes_are_over(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("dcht.engine.training.time.monotonic", lambda: now[0])
    clock = SaveClock(0.5)
    asked = []
    for seconds in (29, 30, 31, 59, 60):
        now[0] = 100.0 + seconds
        asked.append(clock.due(ALONE))
        if asked[-1]:
            clock.saved()
    assert asked == [False, True, False, False, True]
