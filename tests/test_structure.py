"""The house: no circles, no crowded folders, one direction; what is public can be imported."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).parent))
structure: ModuleType = importlib.import_module("structure")
sys.path.pop(0)

PUBLIC = [
    "dcht.latents", "dcht.perceptual", "dcht.train", "dcht.losses", "dcht.crops", "dcht.images",
    "dcht.tokenizer", "dcht.flatten", "dcht.export", "dcht.launch",
    "dcar.sampler", "dcar.pipeline", "dcar.edit", "dcar.train", "dcar.text", "dcar.transformer",
    "dcar.diffusion_head", "dcar.masking", "dcar.safety", "dcar.data", "dcar.draw",
    "dcar.sampling_config", "dcar_eval.fid", "dcar_eval.reconstruction", "dcar_eval.geneval",
    "dcar_eval.mjhq", "dcar_eval.profile", "dcar_eval.metrics", "dcar_eval.inception",
    "dcar_eval.efficientnet", "dcar_eval.scenes.recognizer", "dcar_eval.scenes.held_out",
]  # fmt: skip
"""Paths of the design and of the documentation."""


def test_the_house_is_in_order() -> None:
    assert structure.problems() == []


def test_a_circle_a_crowd_and_a_wrong_direction_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = structure.graph()
    assert structure.circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    monkeypatch.setattr(structure, "MOST", 3)
    assert "packages/dcht/src/dcht/data" in structure.crowded()
    wrong = graph | {"dcht.modules.layers": {"dcht.data.reader", "dcht.commands.common"}}
    monkeypatch.setattr(structure, "graph", lambda: wrong)
    assert len(list(structure.wrong_directions())) == 2


@pytest.mark.parametrize("name", PUBLIC)
def test_public_paths_stay(name: str) -> None:
    importlib.import_module(name)


@pytest.mark.parametrize("package", ["dcht", "dcar", "dcar_eval"])
def test_every_exported_name_is_there(package: str) -> None:
    module = importlib.import_module(package)
    for name in getattr(module, "__all__", ()):
        assert getattr(module, name) is not None


def test_the_architecture_page_is_the_tree_on_disk() -> None:
    """`python tests/structure.py --page` writes it."""
    page = structure.PAGE.read_text()
    for package, tree in structure.trees().items():
        assert f"```\n{tree}\n```" in page, package
