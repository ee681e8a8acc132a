"""From the detector's logits to boxes and scores, against mmdet's rules."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dcar_eval.geneval import detector
from dcar_eval.geneval.detector import find_instances

SHARED = Path(__file__).parents[2] / "shared" / "fixtures" / "geneval"
CASES = Path(os.environ.get("GENEVAL_FIXTURES", SHARED)) / "postprocess.json"
ROWS = json.loads(CASES.read_text()) if CASES.exists() else []
pytestmark = pytest.mark.skipif(not ROWS, reason=f"no {CASES}")


def tensor(row: dict[str, Any], name: str) -> Tensor:
    values = np.frombuffer(base64.b64decode(row[f"{name}_f32le_b64"]), dtype="<f4")
    return torch.from_numpy(values.reshape(row[f"{name}_shape"]).copy())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_instances(row: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector, "MAX_DETECTIONS", row["max_per_image"])
    found = find_instances(
        tensor(row, "class_logits"),
        tensor(row, "mask_logits"),
        padded=tuple(row["batch_input_shape"]),
        resized=tuple(row["resized_shape"]),
        original=tuple(row["original_shape"]),
    )
    ours = {
        (query, label): (score, box, int(mask.sum()))
        for query, label, score, box, mask in zip(
            found.queries.tolist(), found.labels.tolist(), found.scores.tolist(),
            found.boxes.tolist(), found.masks, strict=True,
        )
    }  # fmt: skip
    assert len(ours) == len(row["expected"])
    for expected in row["expected"]:
        score, box, area = ours[expected["query"], expected["label"]]
        assert score == pytest.approx(expected["score"], abs=1e-4)
        assert box == pytest.approx(expected["box"], abs=1)
        assert area == pytest.approx(expected["mask_area"], abs=2)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
