"""The paper in miniature: what the page shows is what the committed results say."""

import json
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from dcht.releases import GENERATOR, RELEASES

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "paper"


@pytest.fixture
def miniature(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(RESULTS))
    return import_module("miniature")


def test_the_tables_of_the_page_are_those_of_the_committed_results(miniature: ModuleType) -> None:
    pages = [page.read_text() for page in miniature.PAGES]
    assert [miniature.with_tables(page) for page in pages] == pages
    places = [place for page in pages for place in re.findall(r"<!-- (\w+) -->", page)]
    assert sorted(places[::2]) == sorted(miniature.RESULTS)
    assert places[1::2] == ["end"] * len(miniature.RESULTS)


def test_a_result_says_what_made_it(miniature: ModuleType) -> None:
    committed = sorted(RESULTS.glob("*.json"))
    assert {path.stem for path in committed} <= set(miniature.RESULTS)
    for path in committed:
        result = json.loads(path.read_text())
        assert result["result"] == path.stem
        assert result["commands"]
        assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", result["commit"])
        assert result["rows"]


def test_a_table_says_whose_weights_it_is_of(miniature: ModuleType) -> None:
    weights = miniature.result_files.weights
    rows = [{"weights": sha256} for sha256 in (RELEASES["0.1.0"][GENERATOR], "f" * 64, None)]
    assert weights({"rows": rows}) == "Weights: release 0.1.0's (`5a6ac0e0`), `ffffffff`.\n\n"
    assert weights({"rows": [{}]}) == ""


def test_every_result_can_be_drawn(miniature: ModuleType) -> None:
    for name, module in miniature.RESULTS.items():
        if result := miniature.result_files.read(name):
            assert module.plot(result).axes


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content) + "\n")


def swept(path: Path, seed: int, points: list[dict[str, Any]]) -> None:
    """What `dcar-eval sweep` leaves, as far as it is read."""
    settings = {"weights": "w", "objects": ["a"], "num_per_task": 8, "size": 64, "seed": seed}
    run = {"speed": [{"images_per_second": 2.0}] * len(points)}
    write(path, {"settings": settings, "points": points, "run": run})


def point(**settings: Any) -> dict[str, Any]:
    flops = {"transformer": 2 * 10**9, "head": 10**9}
    return {"settings": settings, "overall": 0.5, "stderr": 0.03, "n": 48, "flops": flops}


def shown(module: ModuleType, name: str, work: Path) -> str:
    """The table of what is in a folder, which must be drawn without complaint too."""
    result = {"result": name, **module.gather(work)}
    assert module.plot(result).axes
    return module.table(result)


def test_seeds_narrow_an_error_and_settings_at_one_seed_do_not(
    miniature: ModuleType, tmp_path: Path
) -> None:
    """Two seeds of independent images: 0.03 / sqrt(2). Solvers draw the same scenes: 0.03."""
    points = [point(order="gtr", num_steps=4, solver=solver) for solver in ("ddpm", "ddim")]
    for seed in (0, 1):
        swept(tmp_path / f"steps-{seed}" / "results.json", seed, points)
    sweeps = miniature.sweeps
    rows = sweeps.gather(tmp_path)["rows"]
    assert len(rows) == 4
    (mean,) = sweeps.means(rows, "order").values()
    assert mean.error == pytest.approx(0.03 / 2**0.5)
    assert mean.gflop == 3
    (mean,) = sweeps.means([row for row in rows if row["seed"] == 0], "order").values()
    assert mean.error == pytest.approx(0.03)
    assert "| gtr | 0.50 ± 0.02 |" in shown(sweeps, "fig6", tmp_path)


def test_a_image_is_held_against_its_twin(miniature: ModuleType, tmp_path: Path) -> None:
    """Ten levels off everywhere is 28.1 dB; the twin itself has no distance."""
    heads = [(20, None), (20, "frequency"), (20, "random"), (8, None)]
    points = [
        point(order=order, num_steps=6, num_diffusion_steps=long, fts=fts)
        for order in ("confidence", "gtr")
        for long, fts in heads
    ]
    swept(tmp_path / "all-0" / "results.json", 0, points)
    for number, (long, fts) in enumerate(heads * 2):
        level = 100 if (long, fts) == heads[0] else 110
        path = tmp_path / "all-0" / "points" / f"{number:03d}" / "images" / "00000.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (4, 4), (level,) * 3).save(path)
    table = shown(miniature.gtr_fts, "gtr_fts", tmp_path)
    assert "| GtR | 20 diffusion steps | 0.50 ± 0.03 (3.0 GFLOP) |" in table
    assert "| plain | FTS, 20 and 8 | 0.50 ± 0.03 (28.1 dB, 3.0 GFLOP) |" in table


def test_fidelity_is_compared_image_by_image(miniature: ModuleType, tmp_path: Path) -> None:
    """Each of three images gains 2, 3 and 4 dB from one step to eight: 3 dB, error 1 / sqrt 3."""
    points = []
    for number, (steps, psnrs) in enumerate([(1, [20, 21, 22]), (8, [22, 24, 26])]):
        rows = [{"fidelity": {"psnr": psnr}} for psnr in psnrs]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        folder = tmp_path / "halton-7" / "points" / f"{number:03d}"
        folder.mkdir(parents=True)
        (folder / "images.jsonl").write_text(lines)
        means = {"psnr": sum(psnrs) / 3, "psnr_objects": 18.5, "ssim": 0.75, "lpips": None}
        ceiling = {**means, "psnr": 29.4}
        found = {"gated": 0.25, "fidelity": {**means, "ceiling": ceiling, "estimated": False}}
        points.append(point(order="halton", num_steps=steps) | found)
    swept(tmp_path / "halton-7" / "results.json", 7, points)
    path = tmp_path / "halton-7" / "results.json"
    results = json.loads(path.read_text())
    results["settings"] |= {"noise_seed": 5, "recognisable": 0.35, "lpips": None}
    write(path, results)
    table = shown(miniature.truth, "truth", tmp_path)
    assert "| `w` | 1 | 0.500 | 0.250 | 21.00 | 18.50 | 0.750 | -3.00 ± 0.58 |" in table
    assert "| `w` | 8 | 0.500 | 0.250 | 24.00 | 18.50 | 0.750 | +0.00 ± 0.00 |" in table
    assert "| `w` | the tokenizer's ceiling | - | - | 29.40 | 18.50 | 0.750 | - |" in table


def judged(folder: Path, psnrs: list[float], correct: bool = True) -> None:
    """Rows of images beside the truth; of their objects 2 dB less."""
    rows = [
        {"correct": correct, "gated": False, "fidelity": {"psnr": psnr, "psnr_objects": psnr - 2}}
        for psnr in psnrs
    ]
    folder.mkdir(parents=True)
    (folder / "images.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_orders_are_compared_image_by_image_over_both_seeds(
    miniature: ModuleType, tmp_path: Path
) -> None:
    """One step has 3, 4, 5 and 4 dB less than eight: 4 dB, error sqrt(2/3) / 2 = 0.41."""
    points = [point(order="halton", num_steps=steps) for steps in (1, 8)]
    for seed, less in ((0, [3, 4]), (1, [5, 4])):
        swept(tmp_path / f"steps-{seed}" / "results.json", seed, points)
        folder = tmp_path / f"steps-{seed}" / "points"
        judged(folder / "000", [24.0 - value for value in less], correct=seed == 0)
        judged(folder / "001", [24.0, 24.0])
        column = {"overall": 0.25, "n": 28}
        hard = {"unseen": column | {"overall": 0.2 + 0.2 * seed}, "seen": column, "gated": 0.1}
        write(tmp_path / f"hard-{seed}-halton-8" / "results.json", hard)
    table = shown(miniature.orders, "orders", tmp_path)
    assert "| PSNR (dB) | halton | 20.00 (-4.00 ± 0.41) | 24.00 |" in table
    assert "| of the objects | halton | 18.00 (-4.00 ± 0.41) | 22.00 |" in table
    assert "| score | halton | 0.50 (-0.50 ± 0.29) | 1.00 |" in table
    assert "| score, hard, unseen | halton | - | 0.30 |" in table


def test_gtr_and_fts_are_compared_image_by_image(miniature: ModuleType, tmp_path: Path) -> None:
    """Of two images one is 1 dB and the other 3 dB better: 2 dB, error 1."""
    points = [point(order=order, num_steps=4) for order in ("confidence", "gtr")]
    swept(tmp_path / "gtr" / "gtr-0" / "results.json", 0, points)
    for number, psnrs in enumerate([[20.0, 20.0], [21.0, 23.0]]):
        judged(tmp_path / "gtr" / "gtr-0" / "points" / f"{number:03d}", psnrs)
    line = shown(miniature.gtr, "gtr", tmp_path / "gtr").splitlines()[2]
    assert line.startswith("| 4 | 20.00 | 22.00 | +2.00 ± 1.00 | 18.00 | 20.00 | +2.00 ± 1.00 |")

    heads = list(miniature.fts.HEADS)
    points = [point(num_diffusion_steps=steps, fts=fts) for steps, fts in heads]
    swept(tmp_path / "fts" / "long-0" / "results.json", 0, points)
    for number, head in enumerate(heads):
        psnrs = [20.0, 20.0] if head == (5, None) else [21.0, 23.0]
        judged(tmp_path / "fts" / "long-0" / "points" / f"{number:03d}", psnrs)
    table = shown(miniature.fts, "fts", tmp_path / "fts")
    assert "| FTS, 20 and 3 | 22.00 | +2.00 ± 1.00 | 20.00 | +2.00 ± 1.00 | 1.00 |" in table
    assert "| 5 everywhere | 20.00 | - | 18.00 | - | 1.00 |" in table


def test_estimates_stand_beside_what_was_measured(miniature: ModuleType) -> None:
    """Estimates half a decibel above and below: 0.5 dB away; half the range: correlation 1."""
    estimator = miniature.estimator
    rows = [
        {"run": name, "psnr": psnr, "estimate": 20 + (psnr - 20) / 2, "gated": True,
         "gated_estimate": psnr > 20}
        for name in estimator.NAMES
        for psnr in (19.0, 21.0)
    ]  # fmt: skip
    result = {"rows": rows}
    lines = estimator.table(result).splitlines()
    count = 2 * len(estimator.NAMES)
    assert lines[2] == "| 1 step | 2 | 20.00 | 20.00 | 0.50 | 1.00 | 1.00 | 0.50 |"
    assert lines[-1] == f"| all | {count} | 20.00 | 20.00 | 0.50 | 1.00 | 1.00 | 0.50 |"
    assert estimator.plot(result).axes


def test_what_fine_tuning_forgets_stands_beside_what_it_learned(
    miniature: ModuleType, tmp_path: Path
) -> None:
    for name, right in (("before", 0.9), ("alone", 0.1), ("rehearsed", 0.85)):
        found = {"overall": right, "gated": right - 0.1, "n": 60, "fidelity": {"psnr_objects": 20}}
        write(tmp_path / "eval" / name / "results.json", found)
        known = {"photos": 20, "nearest_to_their_own": 19, "psnr_against_reconstruction": 24.04}
        write(tmp_path / f"{name}.json", known)
    lines = shown(miniature.rehearsal, "rehearsal", tmp_path).splitlines()
    assert lines[2] == "| before | 0.900 | 0.800 |  |"
    assert lines[4] == "| with the rehearsal above | 0.850 | 0.750 | 19 of 20, 24.0 dB |"


def test_arms_are_compared_with_discrete_tokens_image_by_image(
    miniature: ModuleType, tmp_path: Path
) -> None:
    """Both of two images gain 1 dB and 3 dB: 2 dB, error 1; the cross-entropy is of ten lines.

    Discrete only is the detached arm without its residual, as long as the others or longer.
    """
    drawn = {
        "detached-0/scores": [21.0, 23.0],
        "detached-0/without/points/000": [20.0, 20.0],
        "longer-0/scores": [20.0, 22.0],
    }
    for where, psnrs in drawn.items():
        judged(tmp_path / "runs" / where, psnrs)
    for arm in ("detached", "longer"):
        lines = [{"step": 20 * k, "cross_entropy": float(k)} for k in range(12)]
        log = tmp_path / "runs" / f"{arm}-0" / "run" / "metrics.jsonl"
        log.parent.mkdir()
        log.write_text("".join(json.dumps(x) + "\n" for x in lines))
    lines = shown(miniature.arms, "arms", tmp_path).splitlines()
    assert lines[2] == "| discrete only | 220 | 6.500 (6.500) | 1.00 | 0.00 | 20.00 | 18.00 |"
    assert lines[3].startswith("| a head that the transformer does not feel |")
    assert "| 22.00 (+2.00 ± 1.00) | 20.00 (+2.00 ± 1.00) |" in lines[3]
    assert "| 21.00 (+1.00 ± 1.00) |" in lines[4]


def test_strategies_stand_beside_each_other_on_both_paths(
    miniature: ModuleType, tmp_path: Path
) -> None:
    for seed, psnr in ((0, 20.0), (1, 22.0)):
        run = tmp_path / "runs" / f"no_warmup-{seed}"
        (run / "run").mkdir(parents=True)
        logged = {"step": 9, "codebook_used": 0.5, "perplexity": 12.4}
        (run / "run" / "metrics.jsonl").write_text(json.dumps(logged) + "\n")
        values = {"psnr": psnr, "lpips_alex": 0.25, "rfid[efficientnet-lite0]": 100.0}
        found = {name: {"value": value} for name, value in values.items()}
        write(run / "scores" / "results.json", {"paths": {"hybrid": found, "discrete": found}})
    lines = shown(miniature.strategies, "strategies", tmp_path).splitlines()
    scores = "21.00 (20.00, 22.00) | 0.250 (0.250, 0.250) | 100.0 (100.0, 100.0)"
    assert lines[2] == f"| no warm-up | hybrid | {scores} |  |  |"
    assert lines[3] == f"| no warm-up | discrete | {scores} | 50 % | 12 |"


def test_stage_2_says_what_the_residual_is_worth(miniature: ModuleType, tmp_path: Path) -> None:
    """The last validation of a log counts; the worth is hybrid minus discrete, seed by seed."""
    for seed, more in ((0, 0.0), (1, 1.0)):
        path = tmp_path / f"seed-{seed}" / "stage2-0.5" / "metrics.jsonl"
        path.parent.mkdir(parents=True)
        lines = [
            {"step": step, "val_psnr_hybrid": psnr, "val_psnr_discrete": 18.0 + more,
             "val_lpips_hybrid": 0.25, "val_lpips_discrete": 0.5, "codebook_used": 0.75}
            for step, psnr in ((200, 1.0), (600, 20.0 + 2 * more))
        ]  # fmt: skip
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    lines = shown(miniature.stage2, "stage2", tmp_path).splitlines()
    lpips = "0.250 (0.250, 0.250) | 0.500 (0.500, 0.500)"
    psnr = "21.00 (20.00, 22.00) | 18.50 (18.00, 19.00)"
    start = "| half of them | stage 2 |"
    assert lines[2] == f"{start} {psnr} | {lpips} | 2.50 (2.00, 3.00) | 75 % |"


def test_heads_stand_beside_each_other_by_steps(miniature: ModuleType, tmp_path: Path) -> None:
    for seed, more in ((0, 0.0), (1, 1.0)):
        rows = [
            {"seed": seed, "arm": arm, "centered": centered, "steps": steps, "temperature": 0.0,
             "psnr": 20 + more, "kid": 0.01, "explained": 0.5}
            for arm, centered, steps in (
                ("no residual", False, 0), ("flow", True, 1), ("flow", True, 20),
                ("regression", False, 1),
            )
        ]  # fmt: skip
        write(
            tmp_path / f"seed-{seed}" / "rows.json",
            {"steps": 2, "mean_of_codes": 0.2, "rows": rows},
        )
    lines = shown(miniature.head, "head", tmp_path).splitlines()
    assert lines[0].startswith("| trained to say | temperature | 1 step | 2 steps |")
    assert "| flow, centered | 0 | 20.50 (10.0) |  |  |  | 20.50 (10.0) |" in lines
    assert "| regression | - | 20.50 (10.0) |  |  |  |  |" in lines


def test_heads_that_are_there_are_not_trained_again(
    miniature: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    head_train = import_module("head_train")
    rows = [{"arm": arm, "centered": centered} for arm, centered in head_train.ARMS]
    write(tmp_path / "rows.json", {"steps": 5, "mean_of_codes": 0.2, "rows": rows})
    monkeypatch.setattr(head_train.TextToImage, "from_pretrained", lambda: pytest.fail("loaded"))
    words = ["head_train.py", "a", "b", "--images", "c", "--out", str(tmp_path), "--steps"]
    monkeypatch.setattr("sys.argv", [*words, "5"])
    head_train.main()
    monkeypatch.setattr("sys.argv", [*words, "6"])
    with pytest.raises(SystemExit, match="is of heads of 5 steps, not 6"):
        head_train.main()


def test_a_class_is_right_where_it_is_what_is_seen_first(miniature: ModuleType) -> None:
    """Of four drawn images three show their class and two pass the gate."""
    classes = miniature.classes
    seen = [{"cat": 2}, {"dog": 1, "bear": 1}]
    rows = [
        {"kind": kind, "class": name, "n": 2, "seen": shown if kind == "drawn" else {name: 2}}
        | {"gated": 1 if kind == "drawn" else 0 if kind == classes.SHRUNK else 2}
        for kind in classes.KINDS
        for name, shown in zip(("cat", "dog"), seen, strict=True)
    ]
    assert classes.table({"rows": rows}).splitlines()[2:] == [
        "| cat | 1.00 (0.50) | 1.00 (0.00) | 1.00 (1.00) | 1.00 (1.00) |",
        "| dog | 0.50 (0.50) | 1.00 (0.00) | 1.00 (1.00) | 1.00 (1.00) |",
        "| all | 0.75 (0.50) | 1.00 (0.00) | 1.00 (1.00) | 1.00 (1.00) |",
        "| 95 % interval of all | 0.30 to 0.95 | 0.51 to 1.00 | 0.51 to 1.00 | 0.51 to 1.00 |",
    ]
    (panel,) = classes.plot({"rows": rows}).axes
    labels = [text.get_text() for text in panel.get_xticklabels()]
    assert labels == ["cat", "dog", "bear", "nothing"]
    assert panel.images[0].get_array().tolist() == [[1, 0, 0, 0], [0, 0.5, 0.5, 0]]


@pytest.mark.parametrize(("share", "count"), [(1.0, 100), (0.0, 7), (0.5, 20), (0.97, 120)])
def test_wilsons_interval(miniature: ModuleType, share: float, count: int) -> None:
    """Its ends are the shares p from which the one seen is 1.96 standard deviations of p away."""
    for end in miniature.classes.interval(share, count):
        assert (share - end) ** 2 == pytest.approx(1.96**2 * end * (1 - end) / count, abs=1e-12)


def test_the_most_certain_object_is_what_an_image_shows(miniature: ModuleType) -> None:
    """Below the threshold an image shows nothing."""
    found = [
        SimpleNamespace(class_name="cat", score=0.4),
        SimpleNamespace(class_name="dog", score=0.8),
    ]
    assert miniature.classes.most_certain(found, 0.5) == "dog"
    assert miniature.classes.most_certain(found[:1], 0.5) == "nothing"


def test_both_paths_stand_beside_each_other(miniature: ModuleType, tmp_path: Path) -> None:
    for images, size in (("scenes", [512, 384]), ("photographs", [256, 256])):
        paths = {
            name: {"psnr": {"value": psnr, "n": 8}, "ssim": {"value": 0.9, "n": 8}}
            for name, psnr in (("hybrid", 26.0), ("discrete", 23.5))
        }
        found = {
            "settings": {"size": size, "tokenizer_sha256": "t"},
            "protocol": {"name": "dcar"},
            "n": 8,
            "paths": paths,
        }
        write(tmp_path / f"{images}-{size[0]}x{size[1]}" / "results.json", found)
    table = shown(miniature.reconstruction, "reconstruction", tmp_path)
    assert "| held-out scenes | 512 x 384 | 8 | 26.00 | 23.50 | 0.900 | 0.900 |" in table


def test_latency_is_of_batch_1_and_throughput_of_16(miniature: ModuleType, tmp_path: Path) -> None:
    measured = [
        {
            "precision": "fp32",
            "seconds": seconds,
            "images_per_second": rate,
            "parts": {"decoder": seconds},
            "peak_bytes": 2**30,
        }
        for seconds, rate in ((0.5, 2.0), (4.0, 4.0))
    ]
    found = {
        "settings": {"weights": "w", "size": [64, 64], "parameters": 10**6}
        | {"sampling": {"num_steps": 12}},
        "protocol": {"definition": "latency is ..."},
        "flops": {"decoder": 10**9},
        "run": {"machine": "m", "threads": 2, "measurements": measured},
    }
    write(tmp_path / "64" / "results.json", found)
    table = shown(miniature.table2, "table2", tmp_path)
    assert "| 64 px | fp32 | 1.00 M | 12 | 1.0 | 0.50 | 4.00 | 1.00 GiB |" in table


def test_a_generator_with_the_residual_stands_beside_one_without(
    miniature: ModuleType, tmp_path: Path
) -> None:
    distances = {f"{kind}[efficientnet-lite0]": {"value": 1.5} for kind in ("fid", "kid")}
    swept(
        tmp_path / "drawn" / "0" / "results.json",
        0,
        [point(residual=residual) for residual in (True, False)],
    )
    for variant, steps in (("hybrid", 800), ("discrete", 960)):
        write(tmp_path / "drawn" / "0" / f"distances-{variant}.json", distances)
        run = tmp_path / "trained" / f"{variant}-0"
        write(run / "scores" / "results.json", {"overall": 0.25, "n": 6})
        write(run / "distances.json", distances)
        write(run / "run" / "metrics.jsonl", {"step": steps, "cross_entropy": 2.0})
    table = shown(miniature.table4, "table4", tmp_path)
    assert (
        "| discrete only | 0.500 (0.500) | 1.5 (1.5) | 1.500 (1.500) | 2.00 (2.00) | - | - |"
        in (table)
    )
    assert "| discrete only | 0.250 (0.250) | 1.5 (1.5) | 1.500 (1.500) | - | 2.000 (2.000) |" in (
        table
    )


def test_equal_cost_gives_the_head_s_share_to_more_steps(miniature: ModuleType) -> None:
    flops = {"text": 1, "transformer": 9, "head": 2, "decoder": 100}
    assert miniature.table4.equal_steps({"flops": flops}, 800) == 960


@pytest.mark.parametrize(
    "name", ["fig6", "truth", "table2", "table4", "table5", "gtr_fts", "reconstruction"]
)
@pytest.mark.parametrize("there", [True, False])
def test_a_result_is_not_replaced_by_nothing(
    miniature: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    there: bool,
) -> None:
    written: list[object] = []
    monkeypatch.setattr(import_module("result_files"), "write", written.append)
    work = tmp_path if there else tmp_path / "missing"
    monkeypatch.setattr("sys.argv", ["miniature.py", "gather", name, str(work)])
    with pytest.raises(SystemExit, match=rf"{name}\.sh makes"):
        miniature.main()
    assert not written


def scored(work: Path, name: str, **found: Any) -> None:
    """What `dcar-eval scenes-eval` leaves, as far as it is read; given images know no weights."""
    settings = {} if name.endswith("-shrunk") else {"weights": "e" * 64, "size": 256}
    write(work / name / "results.json", {"settings": settings, "n": 6, **found})


def test_spoiled_images_are_named_after_the_run_that_drew_them(
    miniature: ModuleType, tmp_path: Path
) -> None:
    decibels = {"psnr": 25.0, "psnr_objects": 23.07, "ssim": 0.9, "lpips": None}
    fidelity = decibels | {"ceiling": decibels | {"psnr_objects": 24.71}}
    tasks = {"single_object": 1.0, "color_attr": 0.5}
    judge = {"sha256": "d" * 64, "overall": 1.0, "tasks": tasks, "num_per_task": 250}
    shared = {"overall": 0.75, "tasks": tasks, "fidelity": fidelity, "recognizer": judge}
    scored(tmp_path, "0-256", gated=0.625, **shared)
    scored(tmp_path, "0-256-shrunk", gated=0.0, **shared)
    table = shown(miniature.standard, "standard", tmp_path)
    cells = "0.750 | 1.000 | 0.500 | {} | 23.07 | 24.71 |"
    assert f"| `eeeeeeee`, 256 px | {cells.format('0.625')}" in table
    assert f"| `eeeeeeee`, 256 px, as 16 x 16 px | {cells.format('0.000')}" in table
    assert "| the recognizer, true scenes | 1.000 | 1.000 | 0.500 | - | - | - |" in table


def test_the_harder_benchmark_stands_beside_true_scenes(
    miniature: ModuleType, tmp_path: Path
) -> None:
    def column(share: float) -> dict[str, Any]:
        edges = {name: [share - 0.125, share + 0.125] for name in ("overall", "one")}
        shares = {"overall": share, "tasks": {"one": share}}
        return {"n": 280, "gated": 0.25, "intervals": edges, **shares}

    for name, share in (("0", 0.75), ("0-shrunk", 0.5)):
        columns = {"unseen": column(share), "seen": column(0.875)}
        scored(tmp_path, name, fidelity={"psnr_objects": 19.5}, **columns)
    blurred = {"overall": 0.875, "tasks": {"one": 0.875}, "tokenizer_sha256": "c" * 64}
    truth = {"overall": 1.0, "tasks": {"one": 1.0}, "refused": 1.0, "reconstructed": blurred}
    write(tmp_path / "ceiling.json", truth | {"num_per_task": 250, "seed": 1})
    table = shown(miniature.hard, "hard", tmp_path)
    shares = "0.750 | 0.62 to 0.88 | 0.875 | 0.75 to 1.00 | 0.500 | 1.000 | 0.875 |"
    assert f"| `one` | {shares}" in table
    assert "| gated, estimated | 0.250 | - | 0.250 | - | 0.250 | - | - |" in table


def test_things_that_were_not_drawn_are_named(miniature: ModuleType, tmp_path: Path) -> None:
    """The ceiling is of the two things that were asked for, not of the third."""
    for name, shares in (("0", (1.0, 0.5)), ("0-shrunk", (0.0, 0.0))):
        found = dict(zip(("apple", "fox"), shares, strict=True))
        scored(
            tmp_path, name, things=found, known=2, drawn=sum(share > 0.5 for share in shares),
            overall=sum(shares) / 2, gated=0.5, fidelity={"psnr_objects": 19.5},
        )  # fmt: skip
    blurred = {"things": {"apple": 1.0, "fox": 0.5, "owl": 0.0}, "tokenizer_sha256": "c" * 64}
    truth = {"things": {"apple": 1.0, "fox": 1.0, "owl": 0.0}, "reconstructed": blurred}
    write(tmp_path / "ceiling.json", truth | {"refused": 1.0, "num_per_task": 4, "seed": 1})
    table = shown(miniature.things, "things", tmp_path)
    assert "| `eeeeeeee` | 2 | 1 | 0.500 | 0.500 | 19.5 | 1.000 | 0.750 |" in table
    assert "| `eeeeeeee`, as 16 x 16 px | 2 | 0 | 0.000 |" in table
    assert "Not drawn by the first: fox." in table


def test_readme_and_card_quote_what_ships(miniature: ModuleType) -> None:
    """Of every benchmark the first row is the bundled checkpoint's; the prose rounds it."""
    read = miniature.result_files.read
    (small, large), hard, things = _bundled(read("standard")), read("hard"), read("things")
    (harder,), (alone,) = _bundled(hard), _bundled(things)
    unseen = harder["unseen"]["shares"]["overall"]
    # Of what the commands print, which is three digits.
    percent = [
        f"{100 * round(row, 3):.1f} %" for row in (small["overall"], large["overall"], unseen)
    ]
    readme = " ".join((ROOT / "README.md").read_text().split())
    for told in (
        f"{percent[0]} right at 256 px, and {percent[1]} at 512 px",
        f"the harder grammar's {percent[2]} (`--benchmark hard`)",
        f"{alone['drawn']} of the {alone['known']} things, each alone",
        f"gated {alone['gated']:.3f}",
    ):
        assert told in readme
    card = ROOT / "packages" / "dcar" / "src" / "dcar" / "checkpoints" / "default" / "README.md"
    for told in (
        f"{small['overall']:.3f} on held-out prompts",
        f"{unseen:.3f} of the harder grammar",
        f"{alone['drawn']} of {alone['known']} things",
    ):
        assert told in " ".join(card.read_text().split())


def _bundled(result: dict[str, Any]) -> list[dict[str, Any]]:
    weights = list(RELEASES.values())[-1][GENERATOR]
    return [row for row in result["rows"] if row["weights"] == weights and not row["shrunk"]]
