"""`dcar-eval stats`, `fid` and `mjhq` as a user meets them."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from torch import Tensor, nn

from dcar_eval.cli import main
from dcar_eval.fid import Statistics, save_statistics


class Answer(NamedTuple):
    code: object
    out: str
    err: str


Ask = Callable[..., Answer]


class Means(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.float().mean(dim=(2, 3))


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Ask:
    """Run `dcar-eval` with these words; `somebodys:means` is an extractor."""
    own = ModuleType("somebodys")
    own.means = Means  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "somebodys", own)
    monkeypatch.setenv("DCAR_EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("DCAR_EVAL_INCEPTION", raising=False)

    def run(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["dcar-eval", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return Answer(stop.value.code, printed.out, printed.err)

    return run


def test_statistics_are_written_and_compared(ask: Ask, images: Path, tmp_path: Path) -> None:
    how = ("--size", 64, "--device", "cpu", "--extractor", "somebodys:means")
    stats = tmp_path / "stats.npz"
    assert ask("stats", images, "--out", stats, *how).code == 0
    with np.load(stats) as stored:
        assert stored.files == ["mu", "sigma"]
        assert stored["sigma"].shape == (3, 3)
    written = stats.stat().st_mtime_ns
    assert ask("stats", images, "--out", stats, *how).code == 0  # the same: it is left alone
    assert stats.stat().st_mtime_ns == written
    other = ask("stats", images, "--out", stats, *how, "--size", 32)
    assert other.code == 2 and "is of others; use --force" in other.err
    answer = ask("fid", stats, images, *how, "--json")
    found = json.loads(answer.out)
    assert found["fid[somebodys:means]"] == {"value": pytest.approx(0, abs=1e-6), "n": 6}
    assert "kid[somebodys:means]" not in found
    assert found["extractor"]["name"] == "somebodys:means"
    assert "is of 6 images: below 2,048" in answer.err
    both = ask("fid", images, images, *how)
    assert [line.split()[0] for line in both.out.splitlines()] == [
        "fid[somebodys:means]",
        "kid[somebodys:means]",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fid no/such .", "no/such is not there"),
        ("stats . --out x.txt", "--out x.txt should end in .npz"),
        ("fid {images} {images} --size 64", "python -m dcar_eval.inception --out DIR"),
        ("fid {images} {images} --extractor resnet", "extractor 'resnet' is not known"),
        ("fid {images} {images} --crop adm", "--crop adm says how images come to a --size"),
        ("stats {images} --out x.npz --crop cover", "--crop cover says how images come to a"),
        (
            "fid {images} {images} --extractor efficientnet-lite0 --inception-weights w",
            "--inception-weights w are of FID's network, and the extractor is efficientnet-lite0",
        ),
        ("mjhq --data . --images . --steps 4 --out x", "--images are judged as they are"),
        ("mjhq --data . --images . --ckpt x --size 256 --out x", "--images are judged as they are"),
        ("mjhq --data no/such --out x", "meta_data.json is not there; the benchmark is"),
        ("mjhq --data . --out x --size 512x256", "both sets are square, not 512 x 256"),
        ("mjhq --data . --out x --shard 2/2", "'2/2' is not I/N with 0 <= I < N"),
    ],
)
def test_mistakes_are_named(ask: Ask, images: Path, words: str, message: str) -> None:
    answer = ask(*(word.format(images=images) for word in words.split()))
    assert answer.code == 2
    assert message in answer.err
    assert answer.out == ""


def one_size(folder: Path, side: int, count: int = 4) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(side)
    for number in range(count):
        pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_json_says_what_was_measured(ask: Ask, tmp_path: Path) -> None:
    how = ("--device", "cpu", "--extractor", "somebodys:means", "--batch-size", 2)
    first, second = one_size(tmp_path / "first", 24, 5), one_size(tmp_path / "second", 48)
    found = json.loads(ask("fid", first, second, *how, "--size", "64x32", "--json").out)
    assert (found["size"], found["crop"], found["batch_size"]) == ("64x32", "cover", 2)
    shas = [found[name].pop("sha256") for name in ("reference", "images")]
    assert shas[0] != shas[1]
    assert found["reference"] == {"path": str(first), "n": 5, "size": [64, 32]}
    assert found["images"] == {"path": str(second), "n": 4, "size": [64, 32]}
    stats = tmp_path / "first.npz"
    ask("stats", first, "--out", stats, *how)
    found = json.loads(ask("fid", first, stats, *how, "--json").out)
    assert found["size"] is None
    assert found["reference"] == {"path": str(first), "n": 5, "size": [24, 24], "sha256": shas[0]}
    assert found["images"].pop("sha256") not in shas
    assert found["images"] == {"path": str(stats), "n": None, "size": None}


def test_images_of_two_sizes_are_refused(ask: Ask, tmp_path: Path) -> None:
    how = ("--device", "cpu", "--extractor", "somebodys:means")
    small, big = one_size(tmp_path / "small", 24), one_size(tmp_path / "big", 48)
    batch = tmp_path / "batch.npz"
    np.savez(batch, np.zeros((4, 48, 48, 3), dtype=np.uint8))
    for other in (big, batch):
        for sets, said in (
            ((small, other), f"images of {small} are 24 x 24, of {other} 48 x 48; give --size"),
            ((other, small), f"images of {other} are 48 x 48, of {small} 24 x 24; give --size"),
        ):
            answer = ask("fid", *sets, *how)
            assert (answer.code, answer.out, len(answer.err.splitlines())) == (2, "", 1)
            assert said in answer.err
        assert ask("fid", small, other, *how, "--size", 32).code == 0
    stats = tmp_path / "small.npz"
    ask("stats", small, "--out", stats, *how)
    assert ask("fid", stats, big, *how).code == 0  # statistics do not say of which size they are


@pytest.mark.parametrize("dim", [2, 2048])
def test_statistics_of_another_network_are_refused_before_any_image(
    dim: int, ask: Ask, images: Path, tmp_path: Path
) -> None:
    others = tmp_path / "others.npz"
    save_statistics(others, Statistics(np.zeros(dim), np.eye(dim)))
    how = ("--size", 32, "--device", "cpu", "--extractor", "somebodys:means")
    for sets in ((others, images), (images, others), (others, others)):
        answer = ask("fid", *sets, *how)
        assert (answer.code, answer.out, len(answer.err.splitlines())) == (2, "", 1)
        assert f"{others} has statistics of {dim:,} dimensions, and extractor" in answer.err
        assert "extractor somebodys:means makes features of 3;" in answer.err
    assert not (tmp_path / "cache").exists()
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    meta = {f"{k}beef": {"category": "people", "prompt": "a red cube"} for k in range(2)}
    (data / "meta_data.json").write_text(json.dumps(meta))
    answer = ask("mjhq", "--data", data, "--reference", others, "--out", out, *how)
    assert (answer.code, answer.out, len(answer.err.splitlines())) == (2, "", 1)
    assert f"{others} has statistics of {dim:,} dimensions" in answer.err
    assert not out.exists()


def test_few_images_are_few_on_either_side(
    ask: Ask, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcar_eval.fid.FEW_IMAGES", 5)
    monkeypatch.setattr("dcar_eval.metrics.distances.FEW_IMAGES", 5)
    how = ("--size", 32, "--device", "cpu", "--extractor", "somebodys:means")
    few = tmp_path / "few"
    few.mkdir()
    for name in ("a.png", "b.jpg", "c.webp"):
        (few / name).write_bytes((images / name).read_bytes())
    assert ask("fid", images, images, *how).err == ""
    for sets in ((few, images), (images, few)):
        assert "is of 3 images: below 5 it is biased" in ask("fid", *sets, *how).err


def test_further_metrics_stand_beside_the_distances(ask: Ask, images: Path) -> None:
    how = ("--size", 64, "--device", "cpu", "--extractor", "somebodys:means", "--json")
    plain = json.loads(ask("fid", images, images, *how).out)
    answer = ask("fid", images, images, *how, "--metrics", "mind,precision-recall,cmmd")
    assert answer.code == 0
    found = json.loads(answer.out)
    assert {name: found[name] for name in plain} == plain  # and no other number moves
    assert found["mind[somebodys:means]"]["value"] == 0
    assert found["mind[somebodys:means]"]["directions"] == 1024
    both = found["precision-recall[somebodys:means]"]
    assert (both["precision"], both["recall"]) == (1, 1)
    assert found["cmmd[somebodys:means]"]["value"] == pytest.approx(0, abs=1e-9)


def test_a_metric_that_cannot_be_had_is_said_before_any_work(
    ask: Ask, images: Path, tmp_path: Path
) -> None:
    how = ("--size", 64, "--device", "cpu", "--extractor", "somebodys:means")
    answer = ask("fid", images, images, *how, "--metrics", "fidelity")
    assert answer.code == 2
    assert "metric 'fidelity' is not known; use mind" in answer.err
    stats = tmp_path / "stats.npz"
    ask("stats", images, "--out", stats, *how)
    assert "need images" in ask("fid", stats, images, *how, "--metrics", "mind").err
    answer = ask("fid", images, images, *how, "--metrics", "inception-score")
    assert "needs a classifier" in answer.err


def test_inception_score_of_a_classifier(ask: Ask, images: Path) -> None:
    how = ("--size", 64, "--device", "cpu", "--extractor", "efficientnet-lite0", "--json")
    answer = ask("fid", images, images, *how, "--metrics", "inception-score")
    assert answer.code in (0, 2)  # 2: fewer images than splits
    if answer.code == 0:
        assert 1 <= json.loads(answer.out)["inception-score[efficientnet-lite0]"]["value"] <= 1000
    else:
        assert "cannot be split into 10 parts" in answer.err
