"""A network of one's own is known by its code: an edited one has no old features."""

from pathlib import Path

import pytest
import torch

from dcar_eval.metrics.features import load_extractor

NETWORK = """
from torch import nn


class Scale(nn.Module):
    def forward(self, pixels):
        return pixels / 255


def net():
    return nn.Sequential(Scale(), nn.Adaptive{pool}Pool2d(2), nn.Flatten())
"""


def test_an_edited_function_makes_another_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its class is torch's `Sequential`, whose file stays as it is."""
    monkeypatch.syspath_prepend(str(tmp_path))
    hashes = []
    for number, pool in enumerate(("Avg", "Max", "Avg")):
        (tmp_path / f"own{number}.py").write_text(NETWORK.format(pool=pool))
        found = load_extractor(f"own{number}:net", device=torch.device("cpu"))
        hashes.append(found.sha256)
    assert hashes[0] == hashes[2] != hashes[1]
