import subprocess
import sys
import time

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
        (["+experiment=tiny"], "mandatory value: out"),
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


def test_without_the_extra_it_is_named(monkeypatch, capsys):
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        launch.train_main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "error: dcht-train needs hydra, which is in an extra: pip install 'dcht[train]'\n"
    )
