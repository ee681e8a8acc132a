"""The documentation beside the code: every command, every block of Python, every link."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pages: ModuleType = importlib.import_module("pages")
settings: ModuleType = importlib.import_module("settings")
sys.path.pop(0)

PAGES = {str(page.relative_to(pages.ROOT)): page for page in pages.pages()}
INLINE = re.compile(r"(?<!`)`((?:dcht|dcar|dcar-eval) [a-z][^`\n]*)`")


def fresh(command: str) -> None:
    """`check`, naming the command."""
    try:
        pages.check(command)
    except Exception as error:
        pytest.fail(f"{command}: {error}")


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one_that_our_programs_take(page: str) -> None:
    for block in pages.blocks(PAGES[page]):
        if block.language == "python":
            pages.check_python(block)
        else:
            for command in pages.commands(block):
                fresh(command)


def test_verbs_and_options_within_a_line_are_there() -> None:
    for name, page in PAGES.items():
        for match in INLINE.finditer(page.read_text()):
            program, verb, *words = match[1].split()
            parser = importlib.import_module(f"{pages.OURS[program]}.cli").build_parser()
            actions = parser._subparsers._group_actions[0].choices
            if "|" in verb:
                continue
            assert verb in actions, f"{name}: {match[1]}"
            known = set(actions[verb]._option_string_actions) | {"--debug"}
            for word in words:
                option = re.match(r"--[a-z-]+", word)
                assert option is None or option[0] in known, f"{name}: {match[1]}"


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("dcar generate apple --colour red --out x.png", "--colour"),
        ("dcht encoed photos --out x", "encoed"),
        ("dcar-train +experiment=tiny data.rot=x out=y", "rot"),
        ("dcht-train +experiment=imagenet255 data.root=x out=y", "imagenet255"),
        ("python benchmarks/no_such.py", "no_such"),
        ("make docs-rum", "docs-rum"),
    ],
)
def test_a_wrong_command_would_be_found(command: str, wrong: str) -> None:
    with pytest.raises(Exception, match=wrong):
        pages.check(command)


def test_a_name_that_is_not_there_would_be_found() -> None:
    block = pages.Block(pages.ROOT / "README.md", 1, "python", "from dcht import Tokeniser")
    with pytest.raises(AssertionError, match="Tokeniser"):
        pages.check_python(block)


def test_anchors_of_links_are_headings() -> None:
    """MkDocs checks those within `docs/`; these lead into it, and out of it."""
    for name, page in PAGES.items():
        for target, anchor in re.findall(r"\]\((?!http)([^)#\s]*)#([^)]+)\)", page.read_text()):
            text = (page.parent / target).read_text() if target else page.read_text()
            titles = re.findall(r"^#+ (.*)$", text, re.M)
            slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in slugs, f"{name}: {target}#{anchor}"


def first(page: str, language: str) -> Any:
    return next(
        b for b in pages.blocks(PAGES[page]) if (b.language == "python") is (language == "python")
    )


def test_the_first_block_of_the_tokenizer_s_page_runs() -> None:
    block = first("docs/tokenizer.md", "python")
    space: dict[str, Any] = {}
    exec(compile(block.text, block.place, "exec"), space)
    assert space["everything"].shape == (2, 3, 256, 192)


def test_the_first_command_of_the_page_on_encoding_runs(tmp_path: Path) -> None:
    pages.build_world(tmp_path / "world")
    command, *_ = pages.commands(first("docs/encode.md", "shell"))
    assert command.endswith("--dry-run")
    assert pages.run("", command, ["bash", "-c", command], tmp_path / "world") == []


def test_what_cannot_run_here_says_why_and_what_can_is_run() -> None:
    assert pages.reason("dcht-train +experiment=imagenet256 data.root=imagenet/train out=y")
    assert pages.reason("torchrun --nproc-per-node 8 --no-python dcar-train +experiment=tiny")
    assert pages.reason("dcar generate a --ckpt CKPT --out x.png")
    assert pages.reason('dcar generate "a photo of a red apple" --out apple.png') is None
    assert pages.reason("dcht-train +experiment=tiny data.root=photos out=runs/tiny") is None


def test_the_hydra_guide_has_every_setting_with_its_meaning() -> None:
    """`python tests/settings.py --page` writes it."""
    page = settings.PAGE.read_text()
    for name, table in settings.tables().items():
        assert settings.MARKS.format(name=name, table=table) in page, name
        assert not [line for line in table.splitlines() if line.endswith("|  |")], name
    assert "| `optimizer.lr` | float, above 0 and at most 100 | `0.0001` |" in page
    assert "| `data.kind` | latents, folder," in page
