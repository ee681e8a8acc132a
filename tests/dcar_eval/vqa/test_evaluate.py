"""Both benchmarks from files to scores: a judge of known answers, and a small random one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dcar.config import PRESETS
from dcar.model import DCAR
from dcar.modules.text import TextEncoder, word_tokenizer
from dcar.pipeline import TextToImage
from dcar.sampling_config import SamplingConfig
from dcar_eval.cli import main
from dcar_eval.runs.shares import Share
from dcar_eval.vqa.dpg import read_dpg
from dcar_eval.vqa.evaluate import evaluate_questions
from dcar_eval.vqa.judge import LanguageJudge, check_judge, load_judge
from dcar_eval.vqa.questions import Question
from dcar_eval.vqa.report import notes, table
from dcar_eval.vqa.smoke import random_judge
from dcar_eval.vqa.soft_tifa import read_geneval2
from dcar_eval.vqa.sources import generated_images, given_images
from dcht import CheckpointError, Tokenizer, UsageError

KNOWN = {
    "How many cars are in the image?": 0.2,
    "Are the cars red?": 0.8,
    "Are there any cars in the image?": 1.0,
    "Is there a car?": 0.9,
    "Is the car red?": 0.1,
}


@pytest.fixture(scope="module")
def judge() -> LanguageJudge:
    return random_judge()


def save_image(path: Path, seed: int, side: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Of GenEval 2's two prompts and of DPG-Bench's two, in several formats."""
    folder = tmp_path / "images"
    save_image(folder / "00000.jpg", 0)
    save_image(folder / "00001.PNG", 1)
    for item in ("p1", "p2"):
        for number in range(4):
            save_image(folder / item / f"{number}.webp", 10 + number)
    return folder


def without_run(results: dict[str, Any] | None) -> dict[str, Any]:
    assert results is not None
    return json.loads(json.dumps({k: v for k, v in results.items() if k != "run"}))


def test_geneval2_killed_shared_and_continued(
    geneval2_file: Path, images: Path, tmp_path: Path, known_judge: Any
) -> None:
    benchmark = read_geneval2(geneval2_file)
    source = given_images(images, benchmark, benchmark.items)
    assert [image.name for image in source.images] == ["00000.jpg", "00001.PNG"]

    def run(out: str, judge: Any, **options: Any) -> dict[str, Any] | None:
        return evaluate_questions(benchmark, source, tmp_path / out, judge=judge, **options)

    judge = known_judge(KNOWN)
    whole = without_run(run("whole", judge))
    gm = 0.16 ** (1 / 3)
    assert whole["scores"]["am"][0] == pytest.approx((2 / 3 + 0.9) / 2)
    assert whole["scores"]["gm"][0] == pytest.approx((gm + 0.9) / 2)
    assert whole["scores"]["atomicity"]["3"][0] == pytest.approx(gm)
    assert judge.asked == 2 + 3 + 3, "what is known first"
    assert whole["protocol"]["name"] == "geneval2[known]"
    assert whole["missing"] == []
    reasons = "; ".join(whole["not_comparable"])
    for part in ("this judge is known", "is not the published file", "benchmark's 800 prompts"):
        assert part in reasons
    rows = (tmp_path / "whole" / "images.jsonl").read_bytes()
    assert json.loads(rows.splitlines()[0])["scores"] == [0.2, 0.8, 1.0]

    class Dies(known_judge):
        def answer(self, image: Any, questions: Any) -> Any:
            if self.asked >= 5:
                raise KeyboardInterrupt
            return super().answer(image, questions)

    with pytest.raises(KeyboardInterrupt):
        run("killed", Dies(KNOWN))
    again = known_judge(KNOWN)
    assert without_run(run("killed", again)) == whole
    assert again.asked == 2 + 3, "what was saved is not asked again"
    assert (tmp_path / "killed" / "images.jsonl").read_bytes() == rows
    assert run("shared", known_judge(KNOWN), share=Share(1, 2)) is None
    assert without_run(run("shared", known_judge(KNOWN), share=Share(0, 2))) == whole
    assert (tmp_path / "shared" / "images.jsonl").read_bytes() == rows
    # Finished: nobody is asked.
    nobody = known_judge({})
    assert without_run(run("whole", nobody)) == whole and not nobody.asked
    # Another image, another judge, another file are another evaluation.
    save_image(images / "00001.PNG", 7)
    other = given_images(images, benchmark, benchmark.items)
    with pytest.raises(UsageError, match=r"00001\.PNG is no longer what .* was begun with"):
        evaluate_questions(benchmark, other, tmp_path / "whole", judge=judge)
    text = table(whole)
    assert "skills attribute" in text and "78.33" in text
    assert notes(whole)[0].startswith("NOT COMPARABLE: published scores are Qwen/")


def test_dpg_with_one_image_missing_and_grids(
    dpg_file: Path, images: Path, tmp_path: Path, known_judge: Any
) -> None:
    benchmark = read_dpg(dpg_file)
    source = given_images(images, benchmark, benchmark.items)
    assert len(source.images) == 8
    found = without_run(
        evaluate_questions(benchmark, source, tmp_path / "out", judge=known_judge(KNOWN))
    )
    assert found["scores"]["score"][0] == pytest.approx((0.5 + 1.0) / 2)
    assert found["scores"]["L2"]["attribute - color"][:1] == [0.0]
    assert found["scores"]["L2"]["attribute - other"][:1] == [1.0]
    (images / "p2" / "3.webp").write_bytes(b"no image")
    fewer = given_images(images, benchmark, benchmark.items)
    damaged = without_run(
        evaluate_questions(benchmark, fewer, tmp_path / "damaged", judge=known_judge(KNOWN))
    )
    assert damaged["missing"] == ["p2 has 3 of 4 images"]
    assert (damaged["skipped"], damaged["n"]) == (1, 7)
    with pytest.raises(UsageError, match=r"3\.webp"):
        evaluate_questions(
            benchmark, fewer, tmp_path / "strict", judge=known_judge(KNOWN), strict=True
        )

    save_image(tmp_path / "grids" / "p1.png", 3, side=64)
    grids = given_images(tmp_path / "grids", benchmark, benchmark.items[:1], grids=True)
    assert [image.label for image in grids.images] == [f"p1.png#{k}" for k in range(4)]
    whole = Image.open(tmp_path / "grids" / "p1.png")
    parts = [np.asarray(image.cut(whole)) for image in grids.images]
    rows = [np.concatenate(parts[k : k + 2], axis=1) for k in (0, 2)]
    assert np.array_equal(np.concatenate(rows), np.asarray(whole))
    cut = without_run(
        evaluate_questions(benchmark, grids, tmp_path / "cut", judge=known_judge(KNOWN))
    )
    assert (cut["n"], cut["missing"]) == (4, [])


@pytest.fixture
def pipe(tokenizer: Tokenizer) -> TextToImage:
    config = PRESETS["tiny"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert config.text.joint is not None
        words = word_tokenizer(["two red cars", "a dog on a mat"], config.text.joint)
        return TextToImage(
            DCAR(config),
            TextEncoder.joint(config.text, config.generator, words),
            tokenizer,
            sampling=SamplingConfig(num_steps=2, num_diffusion_steps=2),
            size=(64, 64),
        )


def test_generated_images_are_the_same_in_parts(
    dpg_file: Path, pipe: TextToImage, tmp_path: Path, known_judge: Any
) -> None:
    benchmark = read_dpg(dpg_file)

    def run(out: str, count: int, **options: Any) -> dict[str, Any] | None:
        source = generated_images(pipe, benchmark, benchmark.items[:count], seed=3)
        judge = known_judge(KNOWN)
        return evaluate_questions(benchmark, source, tmp_path / out, judge=judge, **options)

    run("all", 2)
    run("first", 1)
    for number in range(4):
        name = f"images/p1/{number:05d}.png"
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
    assert run("shared", 2, share=Share(0, 2)) is None
    merged = run("shared", 2, share=Share(1, 2))
    whole = json.loads((tmp_path / "all" / "results.json").read_text())
    assert without_run(merged) == {k: v for k, v in whole.items() if k != "run"}
    assert whole["settings"]["seed"] == 3


Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dcar-eval", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return run


def test_the_commands_with_a_random_judge(
    ask: Ask, geneval2_file: Path, dpg_file: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("geneval2", "--prompts", geneval2_file, "--images", images, "--smoke", "--out", out)
    code, printed, errors = ask(*words, "--device", "cpu", "--json")
    results = json.loads(printed)
    assert (code, results["task"]) == (0, "geneval2")
    assert results["protocol"]["name"] == "geneval2[smoke]"
    assert "NOT COMPARABLE: the judge has random weights" in errors
    for row in map(json.loads, (out / "images.jsonl").read_text().splitlines()):
        assert all(0 < score < 1 for score in row["scores"])
    assert json.loads(ask(*words, "--device", "cpu", "--json")[1]) == results
    # A table that pairs files and prompts, from another folder, in another order.
    pairs = images / "pairs.csv"
    pairs.write_text("file_name,prompt\n00001.PNG,a dog on a mat\n00000.jpg,two red cars\n")
    table = (*words[:4], pairs, "--smoke", "--out", tmp_path / "table", "--device", "cpu", "--json")
    again = json.loads(ask(*table)[1])
    assert again["scores"] == results["scores"]

    dpg = ("dpg", "--prompts", dpg_file, "--images", images, "--smoke", "--device", "cpu")
    code, printed, _ = ask(*dpg, "--out", tmp_path / "dpg", "--limit", 1)
    assert code == 0 and printed.startswith("dpg[smoke]\n")
    assert "L1 entity" in printed and "L2 global" in printed
    for more, message in (
        (("--judge", "x"), "--smoke has a judge of its own"),
        (("--seed", 3), "--images are judged as they are"),
    ):
        code, _, errors = ask(*dpg, "--out", tmp_path / "x", *more)
        assert (code, errors.count("\n")) == (2, 1) and message in errors
    code, _, errors = ask("dpg", "--prompts", dpg_file, "--grids", "--smoke", "--out", out)
    assert (code, errors.count("\n")) == (2, 1) and "--grids are of --images" in errors
    code, _, errors = ask("geneval2", "--prompts", "no.jsonl", "--smoke", "--out", out)
    assert (code, errors.count("\n")) == (2, 1) and "no.jsonl is not there" in errors


@torch.inference_mode()
def test_a_judge_is_loaded_and_asks_what_it_did(
    judge: LanguageJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved and loaded by name: the same answers; probabilities of tokens, counted once each."""
    image = Image.fromarray(np.full((40, 30, 3), 90, np.uint8))
    questions = [Question("yes no Is it? Answer yes or no.", "yes"), Question("no", "three")]
    answers = judge.answer(image, questions)
    folder = tmp_path / "my-judge"
    judge.model.save_pretrained(folder)
    judge.processor.save_pretrained(folder)
    loaded = load_judge(str(folder))
    assert loaded.label == "my-judge" and loaded.sha256 is not None
    assert loaded.answer(image, questions) == answers
    words = loaded.processor.tokenizer.get_vocab()
    assert loaded._first_tokens(questions[0]) == [words["yes"], words["Yes"]]
    # "3" is no word of this tokenizer: what it does not know stands for nothing.
    assert loaded._first_tokens(questions[1]) == [words["three"], words["Three"]]
    with pytest.raises(CheckpointError, match="weights are damaged, or this device computes"):
        check_judge(loaded)
    assert set(check_judge(judge)) == {q.text for q in (
        Question("Is there a person in the image? Answer yes or no.", "yes"),
        Question("Is there an elephant in the image? Answer yes or no.", "no"),
    )}  # fmt: skip
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match="has no chat template"):
        load_judge(str(folder))
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_judge(str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="nobody/judge is not a local folder") as caught:
        load_judge("nobody/judge")
    assert "\n" not in str(caught.value)
