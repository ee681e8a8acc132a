"""What a command imports: beside PyTorch itself next to nothing, as that is what start-up costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

OURS = {"dcht", "dcar", "dcar_eval"}
FEW = OURS | {"torch", "numpy", "PIL", "defusedxml", "safetensors", "einops", "filelock"}
"""filelock (the lock of a folder) and PIL's defusedxml are milliseconds."""

RUN = """
import json, sys
from importlib import import_module
import torch
theirs = set(sys.modules)
name, sys.argv[1:] = sys.argv[1], sys.argv[2:]
try:
    import_module(f"{name}.cli").main()
except SystemExit as end:
    assert end.code == 0, end.code
packages = {module.split(".")[0] for module in set(sys.modules) - theirs}
known = sys.stdlib_module_names | {"__main__", "__mp_main__"}
print(json.dumps({
    # Compiled modules of some packages put a helper with an underscore at the top.
    "packages": sorted(name for name in packages - known if name[0] != "_"),
    "torch": sorted(name for name in set(sys.modules) - theirs if name.startswith("torch.")),
}))
"""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    return folder


@pytest.mark.parametrize(
    ("line", "more"),
    [
        ("dcar generate apple --size 64 --out {out}.png", {"tokenizers"}),
        ("dcht encode {images} --size 64 --out {out}", set()),
        ("dcar_eval scenes-eval --num-per-task 1 --out {out} --json", {"tokenizers"}),
    ],
)
def test_little_is_imported_beside_torch(
    line: str, more: set[str], images: Path, tmp_path: Path
) -> None:
    words = line.format(images=images, out=tmp_path / "out").split()
    found = subprocess.run(
        [sys.executable, "-c", RUN, *words], capture_output=True, text=True, check=True
    )
    imported = json.loads(found.stdout.splitlines()[-1])
    assert set(imported["packages"]) - FEW - more == set()
    # PyTorch's own start-up loads what it loads; compilers, exporters and trainers come on top.
    heavy = ("torch._dynamo", "torch._inductor", "torch.export", "torch.distributed")
    assert not [name for name in imported["torch"] if name.startswith(heavy)]
