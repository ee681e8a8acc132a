"""The recipes of docs/extending.md, carried out as they stand there."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image

from dcar import DCAR, PRESETS, SamplingConfig, sample_residual
from dcar.config import LossConfig, Order, Schedule, Solver
from dcar.randomness import keyed_generator
from dcar_eval.metrics.features import load_extractor
from dcar_eval.metrics.protocol import PROTOCOLS
from dcar_eval.metrics.sets import METRICS
from dcht import UsageError

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/extending.md").read_text(), re.M | re.S)
PIECE = re.compile(r"# (packages/\S+), before: (.*)\n")


def program(name: str) -> dict[str, Any]:
    """What the page's program that defines a class leaves behind."""
    (text,) = (block for block in BLOCKS if re.search(rf"class {name}\b", block))
    names: dict[str, Any] = {}
    exec(compile(text, name, "exec"), names)
    return names


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of the packages with the page's pieces in their places."""
    folder = tmp_path_factory.mktemp("sources")
    for source in ROOT.glob("packages/*/src/*"):
        ignored = shutil.ignore_patterns("checkpoints", "__pyc*")
        shutil.copytree(source, folder / source.name, ignore=ignored)
    pieces = [(found, block) for block in BLOCKS if (found := PIECE.match(block))]
    assert len(pieces) == 11
    for found, block in pieces:
        path = folder.joinpath(*Path(found[1]).parts[3:])
        before, line, after = path.read_text().partition(found[2])
        assert line, found[0]
        # Before the whole line, and a member before the blank lines that end its class.
        start, indent = before[: before.rindex("\n") + 1], before[before.rindex("\n") + 1 :]
        piece = block[found.end() :]
        if line.startswith("class "):
            start, piece = start.rstrip("\n") + "\n", piece + "\n\n"
        path.write_text(start + piece + indent + line + after)
    return folder


READER = """
import contextlib, io, json, sys
for line in sys.stdin:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(json.loads(line), {"__name__": "page"})
    print(json.dumps(said.getvalue()), flush=True)
"""
Run = Callable[[str], str]


@pytest.fixture(scope="module")
def run(copied: Path) -> Iterator[Run]:
    """What code prints in one process that imports the copy, and imports it once."""
    with subprocess.Popen(
        [sys.executable, "-c", READER],
        env={"PYTHONPATH": str(copied), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        told, answers = process.stdin, process.stdout

        def call(code: str) -> str:
            told.write(json.dumps(code) + "\n")
            told.flush()
            return json.loads(answers.readline())

        yield call


def test_an_order_and_a_mask_law_in_a_copy_of_the_sources(copied: Path, run: Run) -> None:
    code = """
import torch, dcar
from dcar import DCAR, PRESETS, unmask
from dcar.masking import training_mask
from dcar.pipeline.settings import resolve
from dcar.sampling_config import SamplingConfig, Schedule
print(dcar.__file__)
config = resolve(SamplingConfig(), {"order": "outwards", "schedule": "square", "num_steps": 3})
text, seeds = torch.zeros(1, 8, 16), [torch.Generator().manual_seed(0)]
model = DCAR(PRESETS["tiny"]).eval().generator
with torch.no_grad():
    for step in unmask(model, text, torch.ones(1, 8), grid=(3, 3), config=config, generators=seeds):
        print("".join("#" if index == 64 else "." for index in step.indices.flatten()))
mask = training_mask(torch.tensor([0.5]), torch.rand(1, 100), Schedule("square"))
print(int(mask.sum()))
"""
    said = run(code).split()
    # 9 (1 - 1/9) = 8 and 9 (1 - 4/9) = 5 stay hidden: the middle is first, the corners are last.
    assert said[0] == f"{copied}/dcar/__init__.py"
    assert said[1] == "####.####" and said[3:] == ["." * 9, "75"]
    assert said[2].count("#") == 5 and {said[2][corner] for corner in (0, 2, 6, 8)} == {"#"}


def test_the_copy_offers_both_at_the_command_line(run: Run) -> None:
    code = "sys.argv = ['dcar', 'generate', '--help']; from dcar.cli import main; main()"
    said = run(f"import sys\ntry:\n    {code}\nexcept SystemExit: pass")
    assert "outwards" in said


def test_a_foreign_transformer() -> None:
    names = program("Foreign")
    block = next(block for block in BLOCKS if "class Foreign:" in block)
    wrapper = block[block.index("class Foreign:") : block.index("@torch.no_grad")]
    assert len([line for line in wrapper.splitlines() if line]) <= 15
    seen = []

    def network(indices: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Sure of index 10 c + 1 for class c; where it is given none, of index 1."""
        seen.append((indices.shape, classes.tolist()))
        index = torch.where(classes == 10, 1, 10 * classes + 1)
        logits = torch.nn.functional.one_hot(index, 100)[:, None].float()
        return 1000 * logits.expand(-1, indices.shape[1], -1)

    for order in Order:
        for schedule in Schedule:
            indices = names["generate"](
                network, torch.tensor([3, 7]), (4, 6), order=order, schedule=schedule, num_steps=4,
                cfg_scale=1.0,
            )  # fmt: skip
            assert indices.shape == (2, 4, 6)
            assert indices.flatten(1).unique(dim=1).tolist() == [[31], [71]]
    seen.clear()
    names["generate"](network, torch.tensor([3, 7]), (4, 6), num_steps=1, cfg_scale=2.0)
    assert seen == [((4, 24), [3, 7, 10, 10])]


def test_a_head_of_flow_matching() -> None:
    torch.manual_seed(0)
    head = program("Flow")["Flow"]()
    condition = torch.zeros(2, 16, 32)
    condition[1] = 1.0
    target = torch.stack([torch.full((16, 8), 0.5), torch.full((16, 8), -1.0)])
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(400):
        loss = head.loss(target, condition, t=torch.randint(1000, (64,)), noise=torch.randn(64, 8))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    config = SamplingConfig(solver=Solver.ddim, cfg_scale=0.0, num_diffusion_steps=50)
    seeds = [keyed_generator(0, number) for number in range(2)]
    with torch.no_grad():
        found = sample_residual(head, condition, config=config, generators=seeds)
    means = found.mean(dim=(1, 2)).tolist()
    assert means == [pytest.approx(0.5, abs=0.1), pytest.approx(-1.0, abs=0.1)]
    with pytest.raises(UsageError, match=r"solver ddpm is none of this head's; use ddim"):
        sample_residual(head, condition, config=SamplingConfig(), generators=seeds)


def test_the_head_trains_inside_the_model() -> None:
    model = DCAR(PRESETS["tiny"])
    model.head = program("Flow")["Flow"]()
    losses = model(
        torch.zeros(2, 2, 3, dtype=torch.long),
        torch.randn(2, 8, 2, 3),
        torch.randn(2, 8, 16),
        torch.ones(2, 8),
        model.sample_randomness(0, range(2), 6),
        loss=LossConfig(),
    )
    losses.total.backward()
    assert losses.diffusion > 0
    assert all(parameter.grad is not None for parameter in model.head.parameters())


def test_a_loss_in_a_copy_of_the_sources(run: Run) -> None:
    code = """
import torch
from dcht.loss_config import LossConfig, StageLoss
from dcht.train.losses import ReconstructionLoss, weighted_sum
run = LossConfig(l2=1.0, lpips=0.0)
stage = StageLoss(edges=3.0).applied(run)
ramp = torch.arange(4.0).expand(1, 3, 4, 4) / 8
for config in (run, stage):
    terms = ReconstructionLoss(config)(ramp, torch.zeros(1, 3, 4, 4))
    print(sorted(terms), float(weighted_sum(terms, config) - terms["l2"]))
"""
    # The ramp's steps are 1 / 8 everywhere: 3 / 8 with the stage's weight.
    assert run(code).splitlines() == ["['l2'] 0.0", "['edges', 'l2'] 0.375"]


def test_a_metric_in_a_copy_of_the_sources(run: Run) -> None:
    code = """
import numpy as np
from dcar_eval.metrics.protocol import PROTOCOLS
from dcar_eval.metrics.sets import METRICS, measure_sets
rows = np.arange(8.0).reshape(4, 2)
print(measure_sets(["spread"], rows, 2 * rows, extractor="inception")["spread"]["value"])
print({n: m.record(n)["sha256"] for n, m in METRICS.items() if n != "spread"})
print({n: p.sha256 for n, p in PROTOCOLS.items()})
from dcar_eval.metrics.pairs import PAIR_METRICS
ramp = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
print(PAIR_METRICS["mae"].compute(ramp, ramp + 3))
"""
    value, records, protocols, error = run(code).splitlines()
    assert float(value) == 2.0 and float(error) == 3.0
    assert eval(records) == {
        name: metric.record(name)["sha256"] for name, metric in METRICS.items()
    }
    assert eval(protocols) == {name: protocol.sha256 for name, protocol in PROTOCOLS.items()}


def test_a_feature_extractor_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own")
    module.__dict__.update(program("MeanColor"))
    monkeypatch.setitem(sys.modules, "own", module)
    extractor = load_extractor("own:mean_color", device=torch.device("cpu"))
    assert extractor.dim == 3
    assert extractor(torch.tensor([[3, 5, 7]], dtype=torch.uint8)[..., None, None]).tolist() == [
        [3.0, 5.0, 7.0]
    ]


def test_a_kind_of_data_set_in_a_copy_of_the_sources(run: Run, tmp_path: Path) -> None:
    for name in ("a_red_apple.png", "two_dogs.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    code = f"""
from dcar.data.image_sets import list_images
from dcar.train_config import DataKind
found = list_images({str(tmp_path)!r}, DataKind.names).images
print([image.row["caption"] for image in found])
"""
    assert run(code).strip() == "['a red apple', 'two dogs']"
