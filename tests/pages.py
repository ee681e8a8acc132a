"""The blocks of the documentation: found, held against the code, and run.

    python tests/pages.py [--list] [PAGE ...]     what `make docs-run` calls

A page's commands and its Python blocks are run in their order, in a folder of its own that holds
the images, latents and checkpoints which pages speak of. What cannot be run here says why (`NEEDS`)
and is checked instead: a training is composed, any other command parsed by its own parser.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import importlib.util
import io
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = {"dcht": "dcht", "dcar": "dcar", "dcar-eval": "dcar_eval"}
TRAINERS = {"dcht-train": "dcht.conf", "dcar-train": "dcar.conf"}
BUNDLED = {
    "dcht": ROOT / "packages/dcht/src/dcht/checkpoints/small",
    "dcar": ROOT / "packages/dcar/src/dcar/checkpoints/default",
}
PROGRAMS = {
    *OURS, *TRAINERS, "python", "pytest", "make", "uv", "pip", "npm", "torchrun", "srun", "sbatch",
    "apt-get", "cp", "mkdir", "cmp", "unzip", "head",
}  # fmt: skip
"""What a line of a block begins with where the block is of commands."""
NEEDS = {
    r"\.\.\.|\b[A-Z][A-Z_]{2,}\b|\bCKPT|\bDIR\b|\bfirst-?$": "words in the place of yours",
    r"imagenet/|journeydb|MJHQ|\bval/|val512|/data/|Rex": "a data set",
    r"torchrun|srun|sbatch|submitit|backend ray|--workers 8": "several GPUs, or a cluster",
    r"mit-han-lab|google/|pretrained_models|dc-ar-512|743b7d99": "published weights",
    r"hf://": "the Hub",
    r"node_modules|sprites|lpips|unpacked|theirs|old/": "art, weights or images from elsewhere",
    r"photos-and-one|runs/photos/tokenizer": "photographs of other packages",
    r"dcar-eval report": "results of evaluations",
    r"~/": "your own shell",
    r"^(pip|npm|apt-get|uv|unzip|make) |pytest|benchmarks/(?!reference)|/wheels": "minutes: "
    "a target of its own",
    r"^dcar app": "somebody who looks at it",
    r"dcar-eval (sweep|profile|geneval2?|dpg|scenes(-\w+)?)\b": "minutes of evaluation",
}
"""By a pattern of the command: what it needs that is not here."""
PRELUDE = """
from pathlib import Path
import torch
from PIL import Image
photo, mask = Image.open("photo.png"), Image.open("mask.png")
mask_a, mask_b = mask, mask.rotate(180)
images = torch.rand(2, 3, 64, 96) * 2 - 1
Image.Image.show = lambda image: None
pizzas = {"class": "pizza", "count": 2}
metadata = {"tag": "counting", "include": [pizzas], "exclude": [pizzas | {"count": 3}]}
detections = [{"class": "pizza", "score": 0.9, "box": [k, 0, k + 9, 9]} for k in (0, 20, 40)]
"""
"""Names that Python blocks take from their reader."""


@dataclass(frozen=True)
class Block:
    """A fence of a page: commands, or Python."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every page with blocks that a reader may copy."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [*found, *sorted((ROOT / "packages").glob("*/README.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """The commands and Python of a page; fences of output are left out."""
    text = page.read_text()
    for match in re.finditer(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", text, re.M | re.S):
        line = text[: match.start()].count("\n") + 1
        block = Block(page, line, match[2], match[3])
        if block.language == "python" or any(_program(words) for words in _lines(block.text)):
            yield block


def commands(block: Block) -> list[str]:
    """The commands of a block, one a line, without comments."""
    return [_joined(words) for words in _lines(block.text) if _program(words)]


def _joined(words: list[str]) -> str:
    return " ".join(word if word == ">" else shlex.quote(word) for word in words)


def _lines(text: str) -> Iterator[list[str]]:
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"\s&&\s", line):
            with contextlib.suppress(ValueError):  # an apostrophe: no line of a shell
                words = shlex.split(part, comments=True)
                if words:
                    yield words


def _program(words: list[str]) -> str | None:
    """The program of a command behind variables, `uv run` and launchers of several ranks."""
    rest = [word for word in words if not re.match(r"[A-Z_]+=", word)]
    if not rest or rest[0] not in PROGRAMS:
        return None
    is_row = rest[0] == "head" and not rest[1].startswith("-")  # of a table: the generator's head
    return None if is_row else rest[0]


def reason(command: str) -> str | None:
    """What a command needs that is not here."""
    for pattern, needs in NEEDS.items():
        if re.search(pattern, command):
            return needs
    words = shlex.split(command)
    few_steps = {"+experiment=tiny", "steps=4", "runs/photos"}
    if words[0] in TRAINERS and not few_steps & set(words):
        return "hours: composed"
    return None


def check(command: str) -> None:
    """Hold a command against the code: its program, verb, options, settings and files.

    Raises:
        AssertionError: saying what is not so.
    """
    words = shlex.split(command)
    start = next((n for n, word in enumerate(words) if word in {*OURS, *TRAINERS}), None)
    if words[:2] == ["uv", "run"] and start is not None and words[start - 1] == "--package":
        start = start + 1  # `uv run --package dcar dcar ...`
    if start is not None and words[0] not in {"pip", "cp"}:
        program, rest = words[start], words[start + 1 :]
        _compose(program, rest) if program in TRAINERS else _parse(program, rest)
    for at, word in enumerate(words):
        if word == "-m" and words[at - 1].startswith("python"):
            assert importlib.util.find_spec(words[at + 1]), f"no module {words[at + 1]}"
        if re.match(r"(tests|benchmarks)/[\w/.]+\.(py|sh|csv)", word):
            assert (ROOT / word.split("::")[0]).exists(), f"no file {word}"
    if words[0] == "make":
        targets = (ROOT / "Makefile").read_text()
        for word in words[1:]:
            assert "=" in word or f"\n{word}:" in targets, f"no target {word}"


def _parse(program: str, words: list[str]) -> None:
    parser = importlib.import_module(f"{OURS[program]}.cli").build_parser()
    said = io.StringIO()
    words = [word for word in words if word != "..."]
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            parser.parse_args(words)
    except SystemExit as stop:
        assert not stop.code, said.getvalue().strip().splitlines()[-1]


def _compose(program: str, words: list[str]) -> None:
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    if words[:1] in (["export"], ["--help"]):
        return
    module = TRAINERS[program]
    importlib.import_module(module).register()
    skipped = ("-", "...", "hydra", "+hydra", "plan")
    settings = [word for word in words if "=" in word and not word.startswith(skipped)]
    if "-m" in words:  # the first job of a sweep
        settings = [re.sub(r"=([^,\[]+),.*", r"=\1", word) for word in settings]
    settings = [re.sub(r"\$\{\w+\}", "x", word) for word in settings]
    GlobalHydra.instance().clear()
    with initialize_config_module(module, version_base="1.3"):
        config = compose("train", overrides=settings)
        OmegaConf.to_container(config, resolve=True)


def check_python(block: Block) -> None:
    """Compile a block, and find every name that it imports of our packages.

    Raises:
        AssertionError: a name that is not there.
    """
    if block.text.startswith(
        "# packages/"
    ):  # a piece that tests/test_extending.py puts in its place
        return
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS.values():
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


def build_world(folder: Path) -> None:
    """What pages speak of: images with captions, masks, latents, and what a training leaves."""
    import pyarrow.parquet
    from PIL import Image

    def shade(size: tuple[int, int], turn: int) -> Image.Image:
        parts = [Image.linear_gradient("L").rotate(90 * (turn + n)).resize(size) for n in range(3)]
        return Image.merge("RGB", parts)

    for name in ("photos", "pictures", "my-pictures"):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            shade((320, 256), number).save(folder / name / f"{number}.jpg")
            (folder / name / f"{number}.txt").write_text("a photo of a red apple\n")
            (folder / name / f"{number}.cls").write_text(str(number % 2))
    (folder / "list.jsonl").write_text('{"file_name": "photos/0.jpg", "caption": "a red apple"}\n')
    for name in ("prompts", "known"):
        (folder / f"{name}.txt").write_text("a red apple\na blue car\n")
    for name in ("photo", "apple"):
        shade((256, 256), 0).save(folder / f"{name}.png")
    with zipfile.ZipFile(folder / "pictures.zip", "w") as archive:
        for path in sorted((folder / "pictures").glob("*.jpg")):
            archive.write(path, path.name)
    rows = [
        {"image": path.read_bytes(), "caption": "a red apple", "label": number}
        for number, path in enumerate(sorted((folder / "photos").glob("*.jpg")))
    ]
    (folder / "data").mkdir()
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(rows), folder / "data" / "train-00000-of-00001.parquet"
    )
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    shade((320, 256), 1).save(folder / "photo.jpg")
    Image.linear_gradient("L").save(folder / "mask.png")
    for name in ("mine", "gen", "scenes", "256", "classes", "memorize"):
        shutil.copytree(BUNDLED["dcar"], folder / "runs" / name / "checkpoint")
    shutil.copytree(BUNDLED["dcht"], folder / "runs" / "a" / "tokenizer")


def run_page(page: Path, folder: Path, *, listed: bool) -> list[str]:
    """Run the blocks of a page in `folder`; what failed, each with its place."""
    failed, python, made = [], [PRELUDE], {}
    print(f"\n{page.relative_to(ROOT)}")
    for block in blocks(page):
        if block.language == "python":
            check_python(block)
            if page.name == "extending.md":
                print(f"  {block.line}: Python, carried out by tests/test_extending.py")
            else:
                python.append(block.text)
            continue
        for command in commands(block):
            check(command)
            needs = reason(command) or (None if listed else untrained(command, folder))
            if needs is not None or listed:
                print(f"  {block.line}: {command[:90]}  [{needs or 'runs'}]")
            else:
                make_room(command, folder, made)
                failed += run(block.place, command, ["bash", "-c", command], folder)
    if len(python) > 1 and not listed:
        code = "\n".join(python)
        failed += run(
            str(page.name), f"{len(python) - 1} blocks", [sys.executable, "-"], folder, code
        )
    return failed


def untrained(command: str, folder: Path) -> str | None:
    """What a command needs that a training of the same page would have made, had it been run."""
    words = shlex.split(command)
    named = [value for name, value in itertools.pairwise(words) if name == "--ckpt"]
    missing = [value for value in named if not (folder / value).exists()]
    return "hours of training before it" if missing else None


def make_room(command: str, folder: Path, made: dict[str, str]) -> None:
    """Remove what another command wrote to the place: a block's lines are often alternatives.

    Args:
        made: by a place the command that wrote to it, to be carried on.
    """
    for name, place in itertools.pairwise(shlex.split(command)):
        if name == "--out" and made.get(place) != command:
            path = folder / place
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            made[place] = command


def run(place: str, name: str, words: list[str], folder: Path, code: str = "") -> list[str]:
    """Run words in a folder with our programs on the path; nothing, or what went wrong."""
    began = time.monotonic()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        words, cwd=folder, input=code, env={**os.environ, "PATH": path}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    state = "ok" if done.returncode in (0, 3) else f"exit {done.returncode}"
    print(
        f"  {place.split(':')[-1]}: {name[:90]}  {state}, {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return [] if state == "ok" else [f"{place}: {name}\n{done.stderr[-2000:]}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", nargs="*", type=Path, help="pages [all]")
    parser.add_argument(
        "--list", action="store_true", help="say what would be run, and run nothing"
    )
    arguments = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory() as work:
        build_world(Path(work) / "world")
        for page in [path.resolve() for path in arguments.page] or pages():
            if any(True for _ in blocks(page)):
                folder = Path(work) / "page"
                shutil.copytree(Path(work) / "world", folder, symlinks=True)
                failed += run_page(page, folder, listed=arguments.list)
                shutil.rmtree(folder)
    for problem in failed:
        print(f"\nFAILED {problem}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
