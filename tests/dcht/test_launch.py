import subprocess
import sys
import time
from pathlib import Path

import pytest

from dcht import launch


def run(*words: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from dcht.launch import train_main; train_main()"]
    return subprocess.run([*program, *words], capture_output=True, text=True, check=False)


def test_help_is_instant_and_names_what_can_be_chosen():
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        done = run("--help")
        seconds.append(time.perf_counter() - began)
        assert done.returncode == 0
        for word in ("imagenet256", "f32c32", "init_from="):
            assert word in done.stdout
    assert min(seconds) < 0.8  # the fastest: a busy machine is not this command's fault


def test_an_experiment_may_be_written_without_its_plus():
    done = run("experiment=tiny", "data.root=/nowhere", "out=x", "--cfg", "job")
    assert done.returncode == 0
    assert "batch_size: 8" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+experiment=tiny"], "no value for data.root, out; give each as NAME=VALUE"),
        (["+experiment=tiny", "out=x", "data.root=y", "batchsize=1"], "batchsize"),
        (["+experiment=nothing"], "nothing"),
        (["+experiment=tiny", "out=x", "data.root=y", "data.crop=50"], "data.crop is 50"),
    ],
)
def test_settings_that_do_not_compose_exit_2(words, message):
    done = run(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


SWEEP = """
import sys
from pathlib import Path
from dcht.conf import register
from dcht.launch import launch

def task(config):
    Path(config.out).write_text(config.strategy.value)
    return int(config.seed)

launch("dcht.conf", help_text="", register=register, task=task)
"""
"""`dcht-train` with a run that only writes down what it was given, and returns its seed."""


def sweep(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", SWEEP, *words, "+experiment=tiny", "data.root=pictures"]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)


def test_the_code_of_a_run_is_that_of_the_command(tmp_path):
    assert sweep(tmp_path, "out=a", "seed=130").returncode == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_a_sweep_runs_every_job_and_fails_with_one_that_fails(tmp_path):
    done = sweep(tmp_path, "-m", "out=a,b")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "three_stage"
    done = sweep(tmp_path, "-m", "seed=0,3", "out=seed-${seed}")
    assert done.returncode == 1
    assert "exit code 3" in done.stderr


def test_a_sweep_can_go_through_submitit(tmp_path):
    """Its local executor; SLURM's takes the same job."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    launcher = "hydra/launcher=submitit_local"
    done = sweep(tmp_path, "-m", launcher, "seed=0", "out=a", "strategy=no_warmup")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a").read_text() == "no_warmup"
    slurm = ("hydra/launcher=submitit_slurm", "hydra.launcher.tasks_per_node=8")
    shown = sweep(tmp_path, "--cfg", "hydra", *slurm, "out=b")
    assert "tasks_per_node: 8" in shown.stdout


def test_without_the_extra_it_is_named(monkeypatch, capsys):
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        launch.train_main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "error: dcht-train needs hydra, which is in an extra: pip install 'dcht[train]'\n"
    )
