import json
import resource
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcar import cli
from dcar.commands.generate import read_prompts
from dcht import launch
from dcht.images import read_png_text, save_png

Dcar = Callable[..., tuple[int, str, str]]


def test_a_prompt_becomes_a_file_that_says_what_it_is(dcar: Dcar, tmp_path: Path) -> None:
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


def test_repeating_a_command_does_nothing_and_other_settings_need_force(
    dcar: Dcar, tmp_path: Path
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


def test_an_unfinished_folder_is_continued(dcar: Dcar, tmp_path: Path) -> None:
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


def test_replay_is_byte_equal(dcar: Dcar, tmp_path: Path) -> None:
    out, again = tmp_path / "pictures", tmp_path / "again.png"
    dcar("generate", "a dog", "a cat", "a red apple", "--batch-size", 2, "--seed", 3, "--out", out)
    for number in range(3):
        image = out / f"{number:05d}.png"
        assert dcar("replay", image, "--out", again, "--force")[0] == 0
        assert again.read_bytes() == image.read_bytes()


def test_replay_compares_pixels_and_not_what_a_file_says(dcar: Dcar, tmp_path: Path) -> None:
    made, black, touched = (tmp_path / f"{name}.png" for name in ("made", "black", "touched"))
    dcar("generate", "a dog", "--seed", 3, "--out", made)
    original, text = made.read_bytes(), read_png_text(made)
    with Image.open(made) as image:
        pixels = image.convert("RGB")
    save_png(Image.new("RGB", pixels.size), black, text)
    pixels.putpixel((63, 63), tuple(value ^ 1 for value in pixels.getpixel((63, 63))))  # type: ignore[union-attr]
    save_png(pixels, touched, text)
    cropped = tmp_path / "cropped.png"
    save_png(pixels.crop((0, 0, 32, 64)), cropped, text)
    for out, source in ((black, made), (touched, made), (touched, touched), (cropped, made)):
        before = out.read_bytes()
        code, stdout, stderr = dcar("replay", source, "--out", out)
        assert (code, stdout) == (2, "") and out.read_bytes() == before
        said = f"{out} has other pixels than the record makes here; --force replaces it"
        assert stderr == f"error: {said}\n"
    # Equal pixels are kept, of the image itself, too; with --force a file is the image again.
    kept = made.stat().st_mtime_ns
    assert dcar("replay", made, "--out", made)[:2] == (0, f"{made}\n")
    assert made.stat().st_mtime_ns == kept and made.read_bytes() == original
    assert dcar("replay", made, "--out", black, "--force")[0] == 0
    assert black.read_bytes() == original


def test_replay_without_metadata_keeps_what_has_none_and_the_same_pixels(
    dcar: Dcar, tmp_path: Path
) -> None:
    made, bare = tmp_path / "made.png", tmp_path / "bare.png"
    dcar("generate", "a dog", "--out", made)
    command = ("replay", made, "--no-metadata", "--out")
    assert dcar(*command, bare)[0] == dcar(*command, bare)[0] == 0
    for other in (made, tmp_path / "text.png"):
        if other is not made:
            other.write_text("no image")
        before = other.read_bytes()
        code, _, stderr = dcar(*command, other)
        assert code == 2 and "was made otherwise" in stderr and other.read_bytes() == before
    Image.new("RGB", (64, 64)).save(bare)
    code, _, stderr = dcar(*command, bare)
    assert code == 2 and "other pixels than the record makes" in stderr


def test_a_cropped_image_is_not_kept_as_the_one_it_was(dcar: Dcar, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    dcar("generate", "a dog", "--out", out)
    with Image.open(out) as image:
        cropped = image.convert("RGB").crop((0, 0, 64, 32))
    save_png(cropped, out, read_png_text(out))
    code, _, stderr = dcar("generate", "a dog", "--out", out)
    assert code == 2 and "was made otherwise" in stderr


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_replay_says_how_where_the_record_s_device_is_not(
    dcar: Dcar,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    device: str,
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    made, there, again = (tmp_path / f"{name}.png" for name in ("made", "there", "again"))
    dcar("generate", "a dog", "--out", made)
    text = read_png_text(made)
    record = json.loads(text["dcar"]) | {"device": device}
    with Image.open(made) as image:
        save_png(image, there, text | {"dcar": json.dumps(record, ensure_ascii=False)})
    for asked, message in (
        (
            [],
            f"{there} was drawn on {device}, which is not available here; --device cpu replays it",
        ),
        (["--device", device], f"device '{device}' is not available here; use auto or cpu"),
    ):
        monkeypatch.setattr(
            sys, "argv", ["dcar", "replay", str(there), "--out", str(again), *asked]
        )
        with pytest.raises(SystemExit) as stop:
            cli.main()
        stderr = capsys.readouterr().err
        assert stop.value.code == 2 and message in stderr and stderr.count("\n") == 1
    assert dcar("replay", there, "--out", again)[0] == 0  # which asks for --device cpu
    assert again.read_bytes() == there.read_bytes()


def test_replay_refuses_what_it_cannot_make_again(
    dcar: Dcar, tmp_path: Path, checkpoint: Path
) -> None:
    plain = tmp_path / "plain.png"
    Image.new("RGB", (8, 8)).save(plain)
    code, _, stderr = dcar("replay", plain, "--out", tmp_path / "x.png")
    assert code == 2 and "holds no record of dcar" in stderr
    sheet = tmp_path / "sheet.png"
    dcar("generate", "a dog", "a cat", "--grid", "--out", sheet)
    code, _, stderr = dcar("replay", sheet, "--out", tmp_path / "x.png")
    assert code == 2 and "is a sheet of 2 images" in stderr
    image = tmp_path / "dog.png"
    dcar("generate", "a dog", "--out", image)
    config = checkpoint / "config.json"
    config.write_text(config.read_text().replace('"height": 64', '"height": 96'))
    code, _, stderr = dcar("replay", image, "--out", tmp_path / "x.png")
    assert code == 4 and "was made with weights" in stderr


def test_prompts_come_from_a_file_or_stdin(
    dcar: Dcar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_what_is_not_known_is_said_and_what_is(dcar: Dcar, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    code, stdout, stderr = dcar("generate", "a red zebra", "--out", out, "--json")
    assert code == 0
    assert stderr == (
        "this checkpoint does not know 'zebra'. It knows: car; red, green, blue; two. --list-words "
        "prints all 12 words; --ckpt FOLDER or a Hub id loads a larger checkpoint\n"
    )
    result = json.loads(stdout)
    assert result["unknown_words"] == {"a red zebra": ["zebra"]}
    assert result["knows"]["things"] == ["car"]
    assert result["knows"]["colours"] == ["red", "green", "blue"]


def test_of_known_words_nothing_is_said(dcar: Dcar, tmp_path: Path) -> None:
    code, stdout, stderr = dcar("generate", "a red dog", "--out", tmp_path / "x.png", "--json")
    assert (code, stderr) == (0, "")
    result = json.loads(stdout)
    assert (result["unknown_words"], result["knows"]) == ({}, None)


def test_the_words_of_a_checkpoint_are_listed(dcar: Dcar) -> None:
    code, stdout, _ = dcar("generate", "--list-words")
    assert code == 0
    assert stdout.splitlines() == [
        "things: car",
        "colours: red green blue",
        "numbers: two",
        "places: none",
        "other: a and apple cat dog the",
    ]
    listed = json.loads(dcar("generate", "--list-words", "--json")[1])
    assert len(listed["words"]) == 12 and listed["numbers"] == ["two"]


def test_settings_and_preset_of_the_command_line_are_recorded(dcar: Dcar, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    words = ("--preset", "gtr-6", "--cfg", 2, "--solver", "ddim", "--fts", "norm", "--steps", 7,
             "--diffusion-steps", 8)  # fmt: skip
    assert dcar("generate", "a dog", "--size", "96x32", *words, "--out", out)[0] == 0
    settings = json.loads(read_png_text(out)["dcar"])["settings"]
    given = {"order": "gtr", "cfg_scale": 2, "solver": "ddim", "fts": "norm", "num_steps": 7}
    assert {name: settings[name] for name in given} == given
    with Image.open(out) as image:
        assert image.size == (96, 32)


def test_a_record_of_an_earlier_version_is_read(dcar: Dcar, tmp_path: Path) -> None:
    """Its settings lack what came later, whose defaults mean what was done then."""
    out, old = tmp_path / "x.png", tmp_path / "old.png"
    dcar("generate", "a dog", "--seed", 2, "--out", out)
    text = read_png_text(out)
    record = json.loads(text["dcar"])
    del record["edit"], record["safety"]
    early = ("num_steps", "cfg_scale", "temperature", "num_diffusion_steps", "order", "schedule")
    record["settings"] = {name: record["settings"][name] for name in early}
    with Image.open(out) as image:
        save_png(image, old, text | {"dcar": json.dumps(record)})
    assert dcar("replay", old, "--out", tmp_path / "again.png")[0] == 0
    assert (tmp_path / "again.png").read_bytes() == out.read_bytes()


def test_replay_of_another_release_says_so_and_how_far_it_is(dcar: Dcar, tmp_path: Path) -> None:
    """Equal bytes are promised within a release, which the PNG names."""
    out, other, again = (tmp_path / f"{name}.png" for name in ("out", "other", "again"))
    dcar("generate", "a dog", "--seed", 2, "--out", out)
    assert dcar("replay", out, "--out", again)[2] == ""
    text = read_png_text(out)
    assert text["Software"] == f"dcar {version('dcar')}"
    with Image.open(out) as image:
        pixels = np.array(image)
        pixels[0, 0, 0] = (
            (int(pixels[0, 0, 0]) + 7) if pixels[0, 0, 0] < 100 else (int(pixels[0, 0, 0]) - 7)
        )
        save_png(Image.fromarray(pixels), other, text | {"Software": "dcar 0.0.9"})
    code, _, err = dcar("replay", other, "--out", again)
    assert code == 0 and again.read_bytes() == out.read_bytes()
    assert f"other.png was made by dcar 0.0.9, this is dcar {version('dcar')}" in err
    assert "the largest difference of a value is 7 of 255" in err


@pytest.mark.parametrize("content", ["{", "[]", "3", '{"prompt": 3}', "null", '{"a": {}}'])
def test_a_damaged_record_is_one_line(dcar: Dcar, tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.png"
    save_png(Image.new("RGB", (64, 64)), path, {"dcar": content})
    code, _, stderr = dcar("replay", path, "--out", tmp_path / "y.png")
    assert code == 2 and stderr.startswith("error: ") and stderr.count("\n") == 1


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_end_of_a_line_ends_a_prompt(tmp_path: Path, end: str) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(end.join(["\ufeffa dog", "", "  a \u2028cat ", ""]).encode())
    assert read_prompts(["first"], str(file)) == ["first", "a dog", "a \u2028cat"]


def test_film_shows_every_step(dcar: Dcar, tmp_path: Path) -> None:
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


def test_a_film_is_not_written_over_an_image(dcar: Dcar, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "link").symlink_to(tmp_path)
    for film, place in (
        (out / "00001.png", out),
        (tmp_path / "link" / "out" / "00000.png", out),
        (tmp_path / "link" / "x.png", tmp_path / "x.png"),
    ):
        words = ("generate", "a dog", "--out", place, "--film", film, "--force")
        code, _, stderr = dcar(*words)
        assert code == 2 and stderr.startswith("error: --film") and not place.exists()


def test_a_film_may_be_a_sheet_of_all_steps(dcar: Dcar, tmp_path: Path) -> None:
    gif, sheet, out = tmp_path / "x.gif", tmp_path / "x.png", tmp_path / "out"
    command = ("generate", "a dog", "a cat", "--out", out, "--film", gif, "--film", sheet)
    code, stdout, _ = dcar(*command)
    assert code == 0 and stdout.split()[-2:] == [str(gif), str(sheet)]
    with Image.open(sheet) as image:
        # A row an image, a column a step; the last column is the finished image.
        assert image.size == (3 * 64 + 8, 2 * 64 + 4)
        finished = image.crop((136, 68, 200, 132))
    with Image.open(out / "00001.png") as image:
        assert finished.tobytes() == image.tobytes()
    before = sheet.stat().st_mtime_ns
    assert dcar(*command)[0] == 0 and sheet.stat().st_mtime_ns == before


@pytest.mark.parametrize("prompts", [["a dog"], ["a dog", "a cat"], ["a dog"] * 5])
def test_a_film_is_no_contact_sheet_and_a_sheet_no_film(
    dcar: Dcar, tmp_path: Path, prompts: list[str]
) -> None:
    """Both are of the same images, made in the same way."""
    images, film, sheet = tmp_path / "images", tmp_path / "film.png", tmp_path / "sheet.png"
    as_film = ("generate", *prompts, "--out", images, "--film")
    as_sheet = ("generate", *prompts, "--grid", "--out")
    assert dcar(*as_film, film)[0] == dcar(*as_sheet, sheet)[0] == 0
    for command, kept in ((as_film, sheet), (as_sheet, film)):
        before = kept.read_bytes()
        code, stdout, stderr = dcar(*command, kept)
        assert (code, stdout) == (2, "") and "exists and was made otherwise" in stderr
        assert kept.read_bytes() == before
    # Each is kept as what it is, and replayed as neither.
    for command, kept in ((as_film, film), (as_sheet, sheet)):
        made = kept.stat().st_mtime_ns
        assert dcar(*command, kept)[0] == 0 and kept.stat().st_mtime_ns == made
        code, _, stderr = dcar("replay", kept, "--out", tmp_path / "x.png")
        assert code == 2 and f"is a sheet of {len(prompts)} images" in stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["generate", "--out", "x.png"], 2, "no prompt; for example"),
        (["generate", "a", "--out", "x.png", "--size", "250"], 2, "size 250 is not a multiple"),
        (["generate", "a", "b", "--out", "x.png"], 2, "is one file for 2 images"),
        (["generate", "a", "--grid", "--out", "x"], 2, "should end in .png"),
        (["generate", "--prompts", "nowhere.txt", "--out", "x.png"], 2, "nowhere.txt"),
        (["generate", "a", "--cfg", "-1", "--out", "x.png"], 2, "cfg_scale is -1"),
        (["generate", "a", "--seed", "-1", "--out", "x.png"], 2, "seed is -1"),
        (["generate", "a", "--film", "x.mp4", "--out", "x.png"], 2, "should end in .gif or .png"),
        (["generate", "a", "--film", "x.png", "--out", "x.png"], 2, "name two files"),
        (["generate", "a"], 2, "--out is missing"),
        (["generate", "a", "--safety", "./nowhere", "--out", "x.png"], 4, "cannot be loaded"),
        (
            ["generate", "a", "b", "--film", "x.gif", "--batch-size", "1", "--out", "x"],
            2,
            "one batch: 2 images, --batch-size 1",
        ),
        (["replay", "nowhere.png", "--out", "x.png"], 2, "nowhere.png"),
    ],
)
def test_bad_usage_is_one_line(
    dcar: Dcar,
    words: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
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
    ("entry", "words", "times"),
    [
        ("main", ["--help"], 20),
        ("main", ["generate", "--help"], 20),
        ("train_main", ["--help"], 40),
    ],
)
def test_help_is_instant(entry: str, words: list[str], times: float) -> None:
    """In starts of an empty interpreter; one that imports torch is a hundred of them."""

    def cpu_seconds(*command: str) -> float:
        # Its own time, not the clock's, and the least of three: other work is not ours.
        spent = []
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-c", *command], capture_output=True, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(spent)

    ours = cpu_seconds(f"import sys, dcar.cli; dcar.cli.{entry}()", *words)
    assert ours < times * cpu_seconds("pass")


def test_without_the_trainer_s_extra_it_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dcar-train", "+experiment=tiny"])
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        cli.train_main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "error: dcar-train needs hydra, which is in an extra: pip install 'dcar[train]'\n"
    )


def test_finetune512_without_weights_to_start_from_exits_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["+experiment=finetune512", "data.root=x", f"out={tmp_path / 'run'}"]
    monkeypatch.setattr(sys, "argv", ["dcar-train", *words])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit) as stop:
        cli.train_main()
    assert stop.value.code == 2 and "init_from" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
