"""Two hundred prompts that nobody means: each becomes an image or one clear line."""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dcht.images import read_png_text

Dcar = Callable[..., tuple[int, str, str]]
CONTROL = [chr(code) for code in (*range(1, 32), 127, *range(128, 160)) if chr(code) != "\n"]
ODD = [
    "\N{ZERO WIDTH JOINER}", "\N{RIGHT-TO-LEFT OVERRIDE}", "\N{COMBINING ACUTE ACCENT}" * 50,
    "\N{LINE SEPARATOR}", "\N{NO-BREAK SPACE}", "\N{ZERO WIDTH NO-BREAK SPACE}", "\ufffe",
    "\U0001f34e\U0001f3fd", "\U000e0001", "\U0010ffff", "عربى", "漢字", "ﬁ", "İ", "ß", "𝔞",
]  # fmt: skip
TRAPS = [
    "<pad>", "</s>", "<unk>", "<extra_id_0>", "%s %d", "{}", "{0.__class__}", "$(ls)", "`ls`",
    "-", "--", "../../x.png", "C:\\x", "\\n", '{"prompt": 1}', "null", "NaN", "'; drop", "<b>&amp;",
    "A red heart", ".", '"', "'", "a" * 10_000, "a " * 5_000, "é" * 10_000, "🍎" * 3_000,
]  # fmt: skip


def prompts() -> list[str]:
    rng = random.Random(0)
    letters = [*CONTROL, *ODD, *TRAPS, *"abc ", "a dog", "red"]
    mixed = ["".join(rng.choices(letters[:-30], k=rng.randint(1, 40))) for _ in range(60)]
    found = dict.fromkeys([*CONTROL, *ODD, *TRAPS, *mixed])
    more = ("".join(chr(rng.randint(1, 0xD7FF)) for _ in range(20)) for _ in range(400))
    for prompt in more:
        if len(found) == 196:
            break
        found[prompt.replace("\n", " ")] = None
    return list(found)


def test_each_becomes_an_image_in_one_process(dcar: Dcar, tmp_path: Path) -> None:
    everything = prompts()
    assert len(everything) == 196
    # A line a prompt: what is nothing but white space is no line, and a carriage return ends one.
    lines = [prompt for prompt in everything if prompt.strip() and "\r" not in prompt]
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(lines), encoding="utf-8", newline="\n")
    out = tmp_path / "out"
    words = ("--prompts", file, "--steps", 1, "--diffusion-steps", 1, "--size", 32)
    code, stdout, _ = dcar("generate", *words, "--batch-size", 50, "--out", out, "--json")
    assert code == 0
    files = json.loads(stdout)["files"]
    assert [read_png_text(path)["Description"] for path in files] == [p.strip() for p in lines]
    # Replay knows them too, whatever is in them.
    for k in (0, 50, len(lines) - 1):
        again = tmp_path / f"again-{k}.png"
        assert dcar("replay", files[k], "--out", again)[0] == 0
        assert again.read_bytes() == Path(files[k]).read_bytes()
    # The rest comes as arguments: empty, white, of several lines.
    rest = ["", " ", "\n", "a\nb", *(prompt for prompt in everything if prompt not in lines)]
    words = ("--steps", 1, "--diffusion-steps", 1, "--size", 32, "--out", tmp_path / "rest")
    code, stdout, stderr = dcar("generate", *rest, *words, "--json")
    assert code == 0, stderr
    found = [read_png_text(path)["Description"] for path in json.loads(stdout)["files"]]
    assert found == rest


def test_what_is_not_text_is_one_line(
    dcar: Dcar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x.png"
    code, _, stderr = dcar("generate", "a\udc80b", "--out", out)
    assert code == 2 and "is not valid text" in stderr and stderr.count("\n") == 1
    for content in (b"\xff\xfe\x00", b"\x80abc"):
        (tmp_path / "prompts").write_bytes(content)
        code, _, stderr = dcar("generate", "--prompts", tmp_path / "prompts", "--out", out)
        assert code == 2 and "utf-8" in stderr and stderr.count("\n") == 1
        with (tmp_path / "prompts").open(encoding="utf-8") as file:
            monkeypatch.setattr(sys, "stdin", file)
            code, _, stderr = dcar("generate", "--prompts", "-", "--out", out)
        assert code == 2 and "utf-8" in stderr and stderr.count("\n") == 1
    (tmp_path / "prompts").write_text(" \n\t\n")
    code, _, stderr = dcar("generate", "--prompts", tmp_path / "prompts", "--out", out)
    assert code == 2 and "no prompt; for example" in stderr
    assert not out.exists()
