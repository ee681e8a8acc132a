"""What every test module may use: tiny models, real-looking images, and no network."""

import copy
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dcht import PRESETS, Tokenizer

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores: threads of one that wait for each other take the others' time.
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")


LONG = {
    "test_kills.py", "test_train_ranks.py", "test_export.py", "test_train.py", "test_workspace.py",
    "test_extending.py", "test_startup.py", "test_judge.py", "test_resume.py",
}  # fmt: skip
"""Files that take a worker half a minute and more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They go first: a worker takes whole files, and what it has last, all others wait for."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests are offline: a connection anywhere but this machine fails at once, and says so."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and not str(address).startswith(("('127.", "('::1'")):
            raise OSError(f"tests do not use the network: {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Tokenizer:
    """What `tokenizer` is a copy of: made once."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = Tokenizer(PRESETS["tiny"])
        for module in tokenizer.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
        return tokenizer.eval()


@pytest.fixture
def tokenizer(tiny_tokenizer: Tokenizer) -> Tokenizer:
    """A tiny tokenizer with fixed random weights, in eval mode."""
    return copy.deepcopy(tiny_tokenizer)


@pytest.fixture(scope="session")
def tiny_tokenizer_folder(
    tiny_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What `saved_tokenizer` is a copy of."""
    folder = tmp_path_factory.mktemp("tiny") / "tokenizer"
    copy.deepcopy(tiny_tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture
def saved_tokenizer(tiny_tokenizer_folder: Path, tmp_path: Path) -> Path:
    """The tiny tokenizer as a checkpoint folder."""
    return Path(shutil.copytree(tiny_tokenizer_folder, tmp_path / "tokenizer"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Six small images in several formats, with captions, one of them in a subfolder."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = ["a.png", "b.jpg", "c.webp", "d.bmp", "e.png", "more/f.jpg"]
    for index, name in enumerate(names):
        coarse = rng.integers(0, 256, (6, 8 + index, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((80 + 16 * index, 70), Image.Resampling.BICUBIC)
        image.save(folder / name)
    (folder / "a.txt").write_text("a first image\nthe first one\n")
    (folder / "b.txt").write_text("a second image\n")
    return folder
