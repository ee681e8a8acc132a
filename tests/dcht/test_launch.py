import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dcht import PRESETS, launch
from dcht.conf import register


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """An entry point with words, in this process and an empty folder: its code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def call(*words: str, entry=launch.train_main) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["dcht-train", *words])
        with pytest.raises(SystemExit) as stop:
            entry()
        code = int(stop.value.code or 0)
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return call


def test_help_names_what_can_be_chosen(run):
    done = run("--help")
    assert done.returncode == 0
    for word in ("imagenet256", "f32c32", "init_from="):
        assert word in done.stdout


def test_an_experiment_may_be_written_without_its_plus(run):
    done = run("experiment=tiny", "data.root=/nowhere", "out=x", "--cfg", "job")
    assert done.returncode == 0
    assert "batch_size: 8" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+experiment=tiny"], "no value for data.root, out; give each as NAME=VALUE"),
        (["+experiment=tiny", "out=x", "data.root=y", "batchsize=1"], "batchsize"),
        (["+experiment=nothing"], "nothing"),
        (["+experiment=tiny", "out=x", "data.root=y", "--no-such"], "--no-such"),
        (["+experiment=tiny", "out=x", "data.root=y", "--cfg", "banana"], "banana"),
        (["+experiment=tiny", "out=x", "data.root=y", "data.crop=50"], "data.crop is 50"),
    ],
)
def test_settings_that_do_not_compose_exit_2(run, words, message):
    done = run(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def tiny(monkeypatch, capsys, tmp_path):
    """Compose `+experiment=tiny` with words in this process: (exit code, stderr)."""

    def call(*words: str, presets=lambda config: {}) -> tuple[int, str]:
        seen.clear()
        given = {word.lstrip("+").split("=")[0] for word in words}
        base = [f"{key}={key}" for key in ("data.root", "out") if key not in given]
        monkeypatch.setattr(sys, "argv", ["dcht-train", *words, "+experiment=tiny", *base])
        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
        with pytest.raises(SystemExit) as stop:
            launch.launch(
                "dcht.conf", help_text="", register=register, task=task, plan=plan, presets=presets
            )
        return int(stop.value.code or 0), capsys.readouterr().err

    def task(config) -> bool:
        seen.append(config)
        return True

    def plan(config, cluster) -> str:
        return "a plan"

    monkeypatch.chdir(tmp_path)
    call.seen = seen = []  # type: ignore[attr-defined]
    return call


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("optimizer.ema_decay=1", "ema_decay is 1.0; expected at least 0 and below 1"),
        ("optimizer.lr=nan", "lr is nan; expected above 0"),
        ("optimizer.lr=-1", "lr is -1.0"),
        ("optimizer.betas=[0.9]", "betas is [0.9]"),
        ("batch_size=0", "batch_size is 0; expected 1 to"),
        ("discrete_learning.steps=0", "steps is 0"),
        ("discrete_learning.epochs=inf", "epochs is inf"),
        ("log_every=0", "log_every is 0; expected at least 1"),
        ("eval_every=0", "eval_every is 0"),
        ("save_every=-3", "save_every is -3"),
        ("codebook.window=0", "window is 0"),
        ("loss.gan=-1", "gan is -1.0; expected 0 to"),
        ("loss.l2=0", "are all 0: nothing tells the decoder what to make"),
        ("out=", "out is ''; expected a name"),
        ("data.root='  '", "root is '  '; expected a name"),
        ("init_from=", "init_from is ''"),
        ("seed=${nosuch}", "seed: Interpolation key 'nosuch' not found"),
        ("seed=${seed}", "seed: Recursive interpolation detected"),
        ("seed=${oc.env:NO_SUCH_VARIABLE}", "NO_SUCH_VARIABLE"),
        ("seed=abc", "seed=abc: Value 'abc' of type 'str' could not be converted to Integer"),
        ("seed=1,2", "Ambiguous value for argument 'seed=1,2'"),
        ("seed=[1", "'seed=[1' cannot be read as KEY=VALUE"),
        ("seed", "'seed' cannot be read as KEY=VALUE"),
        ("~optimizer.lr", "does not support deletion"),
        ("@seed=1", "must be a string or a list"),
        ("tokenizer=null", "must be a string or a list"),
        ("tokenizer=huge", "tokenizer/huge is not there; choose from"),
        ("trackers=[x]", "expected one of [tensorboard, trackio, wandb]"),
        ("optimizer.rate=1", "no setting is called optimizer.rate; the nearest is optimizer."),
        ("++optimizer.learning_rate=1", "learning_rate; the nearest is optimizer.lr"),
        ("+lr=1", "no setting is called lr; the nearest is optimizer.lr"),
        ("+zz=1", "no setting is called zz; the nearest is "),
        ("data={root: x, sise: 64}", "no setting is called data.sise; the nearest is size"),
        ("+tokenizer.encoder.width=1", "the nearest is tokenizer.encoder.widths"),
    ],
)
def test_a_word_without_sense_is_one_line_and_2(tiny, word, message):
    code, said = tiny(word)
    assert code == 2
    assert message in said
    assert said.startswith("error: ") and said.count("\n") == 1, said
    assert not tiny.seen


def test_a_key_in_a_file_of_the_users_own_is_met_like_a_word(tiny, tmp_path):
    (tmp_path / "experiment").mkdir()
    mine = "# @package _global_\nloss: {lpipz: 1}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(mine)
    code, said = tiny("--config-dir", str(tmp_path), "+experiment=[mine]")
    assert code == 2 and said.count("\n") == 1
    assert "loss.lpipz" in said and "the nearest is lpips" in said


def test_presets_come_from_a_checkpoint_where_none_is_given(tiny):
    def presets(config) -> dict:
        return {"tokenizer": PRESETS["small"]} if config.init_from else {}

    assert tiny("seed=1", presets=presets)[0] == 0
    assert tiny.seen[0].tokenizer == PRESETS["tiny"]
    assert tiny("init_from=x", presets=presets)[0] == 0
    assert tiny.seen[0].tokenizer == PRESETS["small"]
    assert tiny("init_from=x", "tokenizer=f32c32", presets=presets)[0] == 0
    assert tiny.seen[0].tokenizer == PRESETS["f32c32"]
    assert tiny("init_from=x", "tokenizer.codebook_size=128", presets=presets)[0] == 0
    assert tiny.seen[0].tokenizer == replace(PRESETS["small"], codebook_size=128)


def test_a_sweep_leaves_nothing_behind(tiny, tmp_path):
    for words in (("-m", "seed=0,1"), ("--multirun", "seed=0,1")):
        assert tiny(*words) == (0, "")
        assert [config.seed for config in tiny.seen] == [0, 1]
    assert list(tmp_path.iterdir()) == []


SWEEP = """
import sys
from pathlib import Path
from dcht.conf import register
from dcht.launch import launch

def task(config):
    Path(config.out).write_text(config.strategy.value)
    return config.seed == 0

launch("dcht.conf", help_text="", register=register, task=task, plan=lambda config, cluster: "")
"""
"""`dcht-train` whose run only writes down what it was given; stopped unless its seed is 0."""


def sweep(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", SWEEP, *words, "+experiment=tiny", "data.root=pictures"]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)


def write_strategy():
    """The same in this process."""

    def task(config) -> bool:
        Path(config.out).write_text(config.strategy.value)
        return config.seed == 0

    launch.launch(
        "dcht.conf", help_text="", register=register, task=task, plan=lambda config, cluster: ""
    )


GIVEN = ("+experiment=tiny", "data.root=pictures")


def test_the_code_of_a_run_is_that_of_the_command(run, tmp_path):
    assert run("out=a", "seed=3", *GIVEN, entry=write_strategy).returncode == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_a_sweep_runs_every_job_and_fails_with_one_that_fails(run, tmp_path):
    done = run("-m", "out=a,b", *GIVEN, entry=write_strategy)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "three_stage"
    done = run("-m", "seed=0,3", "out=seed-${seed}", *GIVEN, entry=write_strategy)
    assert done.returncode == 130
    assert "a job of the sweep ended with exit code 130" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "multirun").exists()


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
    monkeypatch.setattr(sys, "argv", ["dcht-train", "+experiment=tiny"])
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        launch.train_main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "error: dcht-train needs hydra, which is in an extra: pip install 'dcht[train]'\n"
    )
