import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dcar import cli
from dcar.config import CheckpointConfig, SamplingConfig
from dcar.model import DCAR
from dcar.pretrained import refer_to_tokenizer, save_pretrained
from dcar.text import TextEncoder
from dcht import Tokenizer
from dcht.images import read_png_text


@pytest.fixture
def checkpoint(model: DCAR, text: TextEncoder, saved_tokenizer: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "generator"
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    config = CheckpointConfig(
        model=model.config,
        tokenizer=refer_to_tokenizer(tokenizer, str(saved_tokenizer), folder),
        sampling=SamplingConfig(num_steps=2, num_diffusion_steps=2, cfg_scale=1.0),
        height=64,
        width=64,
    )
    save_pretrained(folder, model, text, config)
    return folder


@pytest.fixture
def dcar(checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Run `dcar` in this process: (exit code, stdout, stderr)."""

    def call(*words: object) -> tuple[int, str, str]:
        arguments = ["dcar", *map(str, words), "--ckpt", str(checkpoint), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        output = capsys.readouterr()
        return int(stop.value.code or 0), output.out, output.err

    return call


def test_a_prompt_becomes_a_file_that_says_what_it_is(dcar, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "apple.png"
    code, stdout, stderr = dcar("generate", "a red apple", "--out", out, "--seed", 7)
    assert (code, stdout) == (0, f"{out}\n"), stderr
    with Image.open(out) as image:
        assert image.size == (64, 64)
    text = read_png_text(out)
    record = json.loads(text["dcar"])
    assert text["Description"] == record["prompt"] == "a red apple"
    assert (record["seed"], record["index"], record["batch_size"]) == (7, 0, 1)
    assert record["settings"]["num_steps"] == 2 and len(record["weights"]) == 64
    assert record["threads"] >= 1
    assert not any("time" in key or "date" in key for key in record)


def test_repeating_a_command_does_nothing_and_other_settings_need_force(  # type: ignore[no-untyped-def]
    dcar, tmp_path: Path
) -> None:
    out = tmp_path / "apple.png"
    dcar("generate", "a red apple", "--out", out)
    before = (out.stat().st_mtime_ns, out.read_bytes())
    assert dcar("generate", "a red apple", "--out", out)[0] == 0
    assert (out.stat().st_mtime_ns, out.read_bytes()) == before
    code, _, stderr = dcar("generate", "a red apple", "--out", out, "--seed", 1)
    assert code == 2 and "--force or another --out" in stderr
    assert dcar("generate", "a red apple", "--out", out, "--seed", 1, "--force")[0] == 0
    assert out.read_bytes() != before[1]


def test_an_unfinished_folder_is_continued(dcar, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "pictures"
    command = ("generate", "a dog", "a cat", "--num-images", 2, "--batch-size", 3, "--out", out)
    assert dcar(*command)[0] == 0
    files = sorted(out.iterdir())
    assert [file.name for file in files] == [f"{number:05d}.png" for number in range(4)]
    content = [file.read_bytes() for file in files]
    files[2].unlink()
    kept = files[3].stat().st_mtime_ns
    assert dcar(*command)[0] == 0
    assert [file.read_bytes() for file in files] == content
    assert files[3].stat().st_mtime_ns == kept


def test_replay_is_byte_equal(dcar, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out, again = tmp_path / "pictures", tmp_path / "again.png"
    dcar("generate", "a dog", "a cat", "a red apple", "--batch-size", 2, "--seed", 3, "--out", out)
    for number in range(3):
        picture = out / f"{number:05d}.png"
        assert dcar("replay", picture, "--out", again, "--force")[0] == 0
        assert again.read_bytes() == picture.read_bytes()


def test_replay_refuses_what_it_cannot_make_again(  # type: ignore[no-untyped-def]
    dcar, tmp_path: Path, checkpoint: Path
) -> None:
    plain = tmp_path / "plain.png"
    Image.new("RGB", (8, 8)).save(plain)
    code, _, stderr = dcar("replay", plain, "--out", tmp_path / "x.png")
    assert code == 2 and "holds no record of dcar" in stderr
    sheet = tmp_path / "sheet.png"
    dcar("generate", "a dog", "a cat", "--grid", "--out", sheet)
    code, _, stderr = dcar("replay", sheet, "--out", tmp_path / "x.png")
    assert code == 2 and "is a sheet of 2 pictures" in stderr
    picture = tmp_path / "dog.png"
    dcar("generate", "a dog", "--out", picture)
    config = checkpoint / "config.json"
    config.write_text(config.read_text().replace('"height": 64', '"height": 96'))
    code, _, stderr = dcar("replay", picture, "--out", tmp_path / "x.png")
    assert code == 4 and "was made with weights" in stderr


def test_prompts_come_from_a_file_or_stdin(  # type: ignore[no-untyped-def]
    dcar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = tmp_path / "prompts.txt"
    lines.write_text("a dog\n\n  a cat  \n")
    out = tmp_path / "a"
    code, stdout, _ = dcar("generate", "a red apple", "--prompts", lines, "--out", out, "--json")
    result = json.loads(stdout)
    assert code == 0 and len(result["files"]) == 3
    assert [read_png_text(file)["Description"] for file in result["files"]] == [
        "a red apple",
        "a dog",
        "a cat",
    ]
    with lines.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert dcar("generate", "--prompts", "-", "--out", tmp_path / "b")[0] == 0
    assert len(list((tmp_path / "b").iterdir())) == 2


def test_unknown_words_are_said(dcar, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "x.png"
    code, stdout, stderr = dcar("generate", "a red zebra", "--out", out, "--json")
    assert code == 0 and "this checkpoint does not know 'zebra'" in stderr
    assert json.loads(stdout)["unknown_words"] == {"a red zebra": ["zebra"]}


def test_film_shows_every_step(dcar, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    gif = tmp_path / "x.gif"
    command = ("generate", "a dog", "a cat", "--out", tmp_path / "out", "--film", gif)
    assert dcar(*command)[0] == 0
    with Image.open(gif) as image:
        assert getattr(image, "n_frames", 1) == 3 and image.width > 128
    before = gif.read_bytes()
    assert dcar(*command)[0] == 0
    code, _, stderr = dcar("generate", "a car", "--out", tmp_path / "x.png", "--film", gif)
    assert code == 2 and "was made otherwise; use --force" in stderr
    assert gif.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["generate", "--out", "x.png"], 2, "no prompt; for example"),
        (["generate", "a", "--out", "x.png", "--size", "250"], 2, "size 250 is not a multiple"),
        (["generate", "a", "b", "--out", "x.png"], 2, "is one file for 2 pictures"),
        (["generate", "a", "--grid", "--out", "x"], 2, "should end in .png"),
        (["generate", "--prompts", "nowhere.txt", "--out", "x.png"], 2, "nowhere.txt"),
        (["generate", "a", "--cfg", "-1", "--out", "x.png"], 2, "cfg_scale is -1"),
        (["generate", "a", "--seed", "-1", "--out", "x.png"], 2, "seed is -1"),
        (["generate", "a", "--film", "x.mp4", "--out", "x.png"], 2, "should end in .gif"),
        (
            ["generate", "a", "b", "--film", "x.gif", "--batch-size", "1", "--out", "x"],
            2,
            "one batch: 2 pictures, --batch-size 1",
        ),
        (["replay", "nowhere.png", "--out", "x.png"], 2, "nowhere.png"),
    ],
)
def test_bad_usage_is_one_line(  # type: ignore[no-untyped-def]
    dcar, words: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found, stdout, stderr = dcar(*words)
    assert (found, stdout) == (code, "")
    assert message in stderr and stderr.startswith("error: ") and stderr.count("\n") == 1


def test_a_checkpoint_that_is_not_there_exits_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["dcar", "generate", "a", "--out", str(tmp_path / "x.png"), "--ckpt", "./nowhere"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 4
    assert "neither a folder nor a Hub id" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("entry", "words", "seconds"),
    [
        ("main", ["--help"], 0.3),
        ("main", ["generate", "--help"], 0.3),
        ("train_main", ["--help"], 0.8),
    ],
)
def test_help_is_instant(entry: str, words: list[str], seconds: float) -> None:
    command = [sys.executable, "-c", f"import sys, dcar.cli; dcar.cli.{entry}()", *words]

    def cpu_seconds() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    # Its own time, not the clock's: other work on the machine is not ours.
    start = cpu_seconds()
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.startswith("usage: dcar")
    assert cpu_seconds() - start < seconds


def test_finetune512_without_weights_to_start_from_exits_2(tmp_path: Path) -> None:
    words = ["+experiment=finetune512", "data.root=x", f"out={tmp_path / 'run'}"]
    command = [sys.executable, "-c", "import dcar.cli; dcar.cli.train_main()", *words]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 2 and "init_from" in found.stderr
    assert not (tmp_path / "run").exists()
