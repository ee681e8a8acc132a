"""Two ranks are one run: the same bits on both, and one rank's numbers at the same batch."""

import json
from pathlib import Path
from runpy import run_path

import pytest
import torch
from safetensors.torch import load_file

from dcht import Tokenizer, UsageError
from dcht.engine.distributed import World
from dcht.train.trainer import Trainer
from dcht.train_config import DataConfig, TrainConfig

SCRIPT = Path(__file__).with_name("train_on_ranks.py")


def rows(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_two_ranks_hold_one_codebook_and_agree_with_one_rank(run_ranks, images, tmp_path):
    told = run_ranks(2, SCRIPT, images, tmp_path)
    run_path(str(SCRIPT))["main"](images, tmp_path)  # this process, alone
    first, second, alone = (
        load_file(tmp_path / f"of-{name}.safetensors")
        for name in ("2-rank-0", "2-rank-1", "1-rank-0")
    )
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
    assert torch.equal(first["window"], alone["window"])
    for key, value in first.items():
        torch.testing.assert_close(value, alone[key], rtol=1e-3, atol=1e-5, msg=key)

    # The whole run: rank 0 alone speaks and writes, and what it logs is of the whole batch.
    assert "2 ranks, each on cpu" in told[0]
    assert "alternate_finetune 2/2" in told[0]
    assert told[1] == ""
    both, one = rows(tmp_path / "of-2"), rows(tmp_path / "of-1")
    assert [row["step"] for row in both] == [row["step"] for row in one]
    for ours, theirs in zip(both, one, strict=True):
        for name in ours.keys() - {"time", "images_per_second"}:
            # A norm of gradients sums what the order of sums changed in each weight.
            near = 2e-2 if name.startswith("grad_norm") else 5e-3
            assert ours[name] == pytest.approx(theirs[name], rel=near, abs=1e-5), name
    stds = [
        Tokenizer.from_pretrained(tmp_path / f"of-{size}" / "tokenizer").config.residual_std
        for size in (1, 2)
    ]
    assert stds[0] == pytest.approx(stds[1], rel=1e-3)


def test_a_batch_that_ranks_cannot_share_is_refused(images):
    data = DataConfig(root=str(images))
    run = TrainConfig(out="x", tokenizer=Tokenizer.from_pretrained().config, data=data)
    with pytest.raises(UsageError, match="batch_size 128 is not a multiple of the 3 ranks"):
        Trainer(run, World(0, 3, torch.device("cpu")))
