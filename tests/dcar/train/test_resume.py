import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

from dcar.train import resume, train
from dcar.train.resume import ResumeFolder, read_facts, read_tensors_into
from dcar.train.trainer import StepResult, Trainer
from dcar.train_config import TrainConfig
from dcht import CheckpointError, UsageError
from dcht.engine.distributed import World

ALONE = World(0, 1, torch.device("cpu"))
KILLED_WHILE_SAVING = """
import os, signal
import dcar.train.resume, dcar.train.trainer

step = dcar.train.trainer.Trainer.train_step
def terminated(self):
    if self.step == 5:
        os.kill(os.getpid(), signal.SIGTERM)
    return step(self)
dcar.train.trainer.Trainer.train_step = terminated

commit = dcar.train.resume.ResumeFolder._commit
def killed(self, folder):
    if folder.name == "step-000000006":
        (file,) = folder.with_name(f".{folder.name}.partial").glob("*.safetensors")
        os.truncate(file, 1000)
        os.kill(os.getpid(), signal.SIGKILL)
    commit(self, folder)
dcar.train.resume.ResumeFolder._commit = killed
"""


@pytest.fixture
def config(config: TrainConfig) -> TrainConfig:
    """A run that draws nothing."""
    return replace(config, prompts=[], reconstructions=0)


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a": torch.randn(3, 5, generator=generator),
        "b.c": torch.arange(7),
        "half": torch.ones(2, dtype=torch.float16),
    }


def test_a_save_comes_back_and_the_oldest_go(tmp_path: Path) -> None:
    with ResumeFolder(tmp_path, ALONE, keep=2) as saves:
        assert saves.newest() is None
        for step in (1, 2, 3):
            values = {name: value * step for name, value in tensors().items()}
            saves.save(step, values, {"updates": step * 10}, wait=step == 2)
            for value in values.values():
                value.zero_()  # as the next step would, while the save is written
    assert names(tmp_path) == ["step-000000002", "step-000000003"]
    newest = tmp_path / "step-000000003"
    assert ResumeFolder(tmp_path, ALONE, keep=2).newest() == newest
    assert read_facts(newest) == {"step": 3, "updates": 30}
    found = {name: torch.zeros_like(value) for name, value in tensors().items()}
    read_tensors_into(newest, found, ALONE)
    for name, value in tensors().items():
        assert torch.equal(found[name], value * 3), name


def test_nothing_in_a_save_is_a_pickle(tmp_path: Path) -> None:
    with ResumeFolder(tmp_path, ALONE, keep=1) as saves:
        saves.save(1, tensors(), {}, wait=False)
    files = names(tmp_path / "step-000000001")
    assert {Path(name).suffix for name in files} == {".json", ".safetensors"}
    (shard,) = (tmp_path / "step-000000001").glob("*.safetensors")
    assert torch.equal(load_file(shard)["a"], tensors()["a"])


def test_a_large_state_is_written_a_file_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "FILE_BYTES", 70)
    with ResumeFolder(tmp_path, ALONE, keep=1) as saves:
        saves.save(1, tensors(), {}, wait=True)
    shards = sorted((tmp_path / "step-000000001").glob("*.safetensors"))
    assert [list(load_file(shard)) for shard in shards] == [["a"], ["b.c", "half"]]
    found = {name: torch.zeros_like(value) for name, value in tensors().items()}
    read_tensors_into(tmp_path / "step-000000001", found, ALONE)
    assert torch.equal(found["b.c"], tensors()["b.c"])


def test_training_goes_on_while_a_save_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    write = HuggingFaceStorageWriter.write_data

    def slow(self, *arguments):  # type: ignore[no-untyped-def]
        assert gate.wait(60)
        return write(self, *arguments)

    monkeypatch.setattr(HuggingFaceStorageWriter, "write_data", slow)
    with ResumeFolder(tmp_path, ALONE, keep=1) as saves:
        saves.save(1, tensors(), {}, wait=False)
        saves.poll()
        assert names(tmp_path) == [".step-000000001.partial"]
        assert ResumeFolder(tmp_path / "elsewhere", ALONE, keep=1).newest() is None
        gate.set()
    assert names(tmp_path) == ["step-000000001"]


SHARD = "shard-00001-model-00001-of-00001"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.json", b"{"),
        (SHARD, b""),
        (SHARD, (1 << 62).to_bytes(8, "little") + b"{}"),
        (SHARD, (100_000).to_bytes(8, "little") + b"[" * 100_000),
    ],
)
def test_damage_is_named(
    tmp_path: Path, name: str, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with ResumeFolder(tmp_path, ALONE, keep=1) as saves:
        saves.save(1, tensors(), {}, wait=True)
    folder = tmp_path / "step-000000001"
    (file,) = folder.glob(f"{name}*")
    file.write_bytes(content)
    caplog.clear()
    with pytest.raises(CheckpointError, match=r"step-000000001 is damaged: .*; delete it to"):
        read_facts(folder)
        read_tensors_into(folder, tensors(), ALONE)
    assert not caplog.records


def test_a_save_of_another_model_is_refused(tmp_path: Path) -> None:
    with ResumeFolder(tmp_path, ALONE, keep=1) as saves:
        saves.save(1, tensors(), {}, wait=True)
    for other in ({"z": torch.zeros(2)}, {"a": torch.zeros(3, 6)}):
        with pytest.raises(CheckpointError, match="step-000000001 is damaged"):
            read_tensors_into(tmp_path / "step-000000001", other, ALONE)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the processes that `launch` starts: sums differ in their last bits with the threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_killed_during_a_save_a_run_continues_from_the_whole_one(
    config: TrainConfig, tmp_path: Path, launch, one_thread: None
) -> None:
    """SIGTERM has it save; SIGKILL comes before the save is whole."""
    (process,) = launch(config, before=KILLED_WHILE_SAVING)
    errors = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, errors
    folder = Path(config.out) / "resume"
    assert names(folder) == [".step-000000006.partial", "step-000000004"]
    assert train(config)
    assert names(folder) == ["step-000000004", "step-000000008"]
    whole = replace(config, out=str(tmp_path / "whole"))
    train(whole)
    ends = [
        load_file(Path(run.out) / "checkpoint" / "model.safetensors") for run in (config, whole)
    ]
    for key, value in ends[0].items():
        assert torch.equal(value, ends[1][key]), key


@pytest.mark.parametrize("save_every", [3, 8])
def test_a_full_disk_is_one_line_and_loses_nothing(
    config: TrainConfig, save_every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While training goes on (step 6) and at the end of the run (step 8)."""
    config = replace(config, save_every=save_every)
    folder = Path(config.out) / "resume"
    with monkeypatch.context() as patch:
        step = Trainer.train_step

        def terminated(self: Trainer) -> StepResult:
            if self.step == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(self)

        patch.setattr(Trainer, "train_step", terminated)
        assert not train(config)
    assert names(folder) == ["step-000000003"]
    with disk_of(500_000), pytest.raises(UsageError) as error:
        train(config)
    assert "\n" not in str(error.value)
    assert "could not be written: File too large" in str(error.value)
    assert names(folder) == ["step-000000003"]
    assert train(config)
    assert "step-000000008" in names(folder)
