"""The scenes benchmark: held-out prompts, drawn by a model, judged by GenEval's rules.

Offline and exact but for the recogniser, whose own score on true scenes stands beside the model's.
It is called sprite-GenEval for its rules; its numbers compare with nothing but themselves. With the
artwork, pictures are held against the true scenes of their prompts too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dcar.pipeline import TextToImage
from dcar.pipeline.series import ImageSeries, generate_images
from dcar.pipeline.settings import Settings
from dcar_eval.runs.failures import write_failures
from dcar_eval.runs.results import alone, finished, prepare, this_run, versions, write_results
from dcar_eval.scenes.given import IMAGES, GivenPictures
from dcar_eval.scenes.judge import LPIPS_NET, Art, judge
from dcar_eval.scenes.likeness import RECOGNISABLE
from dcar_eval.scenes.prompts import Prompt, draw_prompts, known_objects
from dcar_eval.scenes.recognizer import Recognizer
from dcar_eval.scenes.world import BENCHMARK, Split
from dcht.checkpoint import to_dict
from dcht.errors import UsageError
from dcht.files import write_atomic
from dcht.tokenizer import Tokenizer

ROWS, FAILURES = "images.jsonl", "failures.png"
PACKAGES = ("dcar-eval", "dcar", "dcht", "torch", "numpy", "pillow")
TRAINING_PER_TASK = 8
"""Pictures of each task that are drawn while a generator trains."""


@dataclass(frozen=True, kw_only=True)
class Truths:
    """Where the artwork of true scenes is, and what else they are compared with."""

    sprites: Path
    """Folder with the npm packages."""
    lpips_weights: str | None = None
    """What `dcht.perceptual` wrote; None: its usual places, and no LPIPS where they are empty."""


@alone
def evaluate_scenes(
    pipe: TextToImage,
    out: Path,
    *,
    num_per_task: int = 40,
    seed: int = 0,
    noise_seed: int | None = None,
    objects: tuple[str, ...] | None = None,
    size: int | None = None,
    batch_size: int = 8,
    force: bool = False,
    sampling: Settings | None = None,
    truths: Truths | None = None,
) -> dict[str, Any]:
    """Draw, judge and report; continue where a run stopped.

    Writes `images/NNNNN.png`, `images.jsonl` (a row an image: prompt, verdict, reason, what was
    found, how like the truth), `failures.png` and, last, `results.json`.

    Args:
        pipe: the model.
        out: folder to write.
        num_per_task: prompts of each of the six tasks, one image each.
        seed: of the prompts; not negative.
        noise_seed: of the noise, so that the same prompts can be drawn again; None: `seed`.
        objects: what prompts are about; None: what the checkpoint knows.
        size: side in pixels; None: the checkpoint's, which must be square.
        batch_size: images sampled together.
        force: replace what `out` holds.
        sampling: settings in place of the checkpoint's.
        truths: what pictures are held against; None: `gated` and `fidelity` are not measured.

    Returns:
        The content of `results.json`: `overall` (mean of the tasks), `tasks` (share correct),
        `gated` (mean of the tasks, of correct and recognisable), `fidelity`, `distinct` (different
        prompts of each task), `seen` and `unseen` (null: all prompts are held out), `recognizer`
        (its hash and its own scores), `settings`, `n`, `versions`, `run`.

    Raises:
        UsageError: settings out of range, objects unknown, or `out` holds something else.
        CheckpointError: the bundled recogniser is missing or damaged.
    """
    check_seeds(seed, noise_seed)
    height, width = (size, size) if size else pipe.size
    require_square(height, width)
    chosen = pipe.settings(**(sampling or {}))
    objects = objects or known_objects(pipe)
    noise_seed = seed if noise_seed is None else noise_seed
    judges = SceneJudges.load(objects, pipe.tokenizer, truths, pipe.device)
    settings = {
        **pipe.identity,
        **judges.settings(objects, num_per_task=num_per_task, seed=seed),
        "noise_seed": noise_seed,
        "size": height,
        "sampling": to_dict(chosen),
        "batch_size": batch_size,
    }
    prepare(out, settings, files=(ROWS, FAILURES), force=force)
    if (done := finished(out)) is not None:
        return done
    start = time.perf_counter()
    prompts = draw_prompts(objects, num_per_task=num_per_task, seed=seed)
    plan = ImageSeries(
        prompts=[prompt.metadata["prompt"] for prompt in prompts],
        verdicts=[None] * len(prompts),
        seed=noise_seed,
        height=height,
        width=width,
        settings=chosen,
        batch_size=batch_size,
    )
    files = generate_images(pipe, plan, out / IMAGES, force=force)
    return judges.report(files, prompts, out, settings, start)


@alone
def evaluate_pictures(
    given: GivenPictures,
    out: Path,
    *,
    tokenizer: Tokenizer,
    device: torch.device,
    force: bool = False,
    truths: Truths | None = None,
) -> dict[str, Any]:
    """Judge pictures that are there, as `evaluate_scenes` judges those that it draws.

    Args:
        given: the pictures, and which prompts they are of.
        out: folder to write.
        tokenizer: whose reconstructions of the true scenes are the ceiling.
        device: where the recogniser runs.
        force: replace what `out` holds.
        truths: what pictures are held against; None: `gated` and `fidelity` are not measured.

    Raises:
        UsageError: objects unknown, or `out` holds something else.
        CheckpointError: the bundled recogniser is missing or damaged.
    """
    check_seeds(given.seed)
    objects = given.objects
    asked: dict[str, Any] = {"num_per_task": given.num_per_task, "seed": given.seed}
    judges = SceneJudges.load(objects, tokenizer, truths, device)
    settings = {
        "images_sha256": given.sha256(),
        **judges.settings(objects, **asked),
        "tokenizer_sha256": tokenizer.sha256,
    }
    prepare(out, settings, files=(ROWS, FAILURES), force=force)
    if (done := finished(out)) is not None:
        return done
    start = time.perf_counter()
    return judges.report(given.files, draw_prompts(objects, **asked), out, settings, start)


def require_square(height: int, width: int) -> None:
    """Refuse pictures of another shape than scenes have."""
    if height != width:
        raise UsageError(f"scenes are square, not {width} x {height}; give a size, 256 for example")


def check_seeds(*seeds: int | None) -> None:
    """Refuse negative seeds.

    Raises:
        UsageError: naming the first.
    """
    for seed in seeds:
        if seed is not None and seed < 0:
            raise UsageError(f"seed {seed} is negative; 0 or more")


@dataclass(frozen=True, kw_only=True)
class SceneJudges:
    """What judges a run's pictures."""

    recognizer: Recognizer
    art: Art | None
    sha256: str
    """Of the recogniser."""
    device: torch.device

    @classmethod
    def load(
        cls,
        objects: tuple[str, ...],
        tokenizer: Tokenizer,
        truths: Truths | None,
        device: torch.device,
    ) -> SceneJudges:
        """Load the bundled recogniser, and the artwork where there is some."""
        recognizer, recognizer_sha256 = Recognizer.from_pretrained()
        art = None
        if truths is not None:
            art = Art.load(truths.sprites, objects, tokenizer, truths.lpips_weights)
        return cls(
            recognizer=recognizer.to(device),
            art=art,
            sha256=recognizer_sha256,
            device=device,
        )

    def settings(self, objects: tuple[str, ...], *, num_per_task: int, seed: int) -> dict[str, Any]:
        """What the results depend on, besides the pictures."""
        lpips = LPIPS_NET if self.art is not None and self.art.lpips is not None else None
        return {
            "recognizer_sha256": self.sha256,
            "recognisable": RECOGNISABLE,
            "truths": self.art is not None,
            "lpips": lpips,
            "split": Split.HELD_OUT.value,
            "objects": list(objects),
            "num_per_task": num_per_task,
            "seed": seed,
        }

    def report(
        self,
        files: Sequence[Path],
        prompts: Sequence[Prompt],
        out: Path,
        settings: dict[str, Any],
        start: float,
    ) -> dict[str, Any]:
        """Judge the pictures and write what was found; `results.json` comes last."""
        judged = judge(self.recognizer, files, prompts, self.art)
        lines = "".join(json.dumps(row) + "\n" for row in judged.rows)
        write_atomic(out / ROWS, lines.encode())
        wrong = [row for row in judged.rows if not row["correct"]]
        write_failures(out / FAILURES, wrong, files[0].parent)
        tasks = {task.value: judged.share("correct", task.value) for task in BENCHMARK}
        results = {
            "task": "scenes",
            "overall": judged.mean("correct", tasks),
            "tasks": tasks,
            "gated": None if self.art is None else judged.mean("gated", tasks),
            "fidelity": judged.fidelity(),
            "distinct": {task: judged.distinct(task) for task in tasks},
            "seen": None,
            "unseen": None,
            "recognizer": {
                "sha256": self.sha256, **self.recognizer.config.ceiling
            },
            "settings": settings,
            "n": len(judged.rows),
            "versions": versions(PACKAGES),
            "run": this_run(start, self.device),
        }  # fmt: skip
        write_results(out, results)
        return results


class DuringTraining:
    """The benchmark on a few pictures: what `evaluations=[scenes]` has `dcar-train` call."""

    def require_applicable(self, pipe: TextToImage) -> None:
        """Refuse a generator that knows nothing of scenes.

        Raises:
            UsageError: it is not square, or knows none of their objects.
            CheckpointError: the bundled recogniser is missing or damaged.
        """
        require_square(*pipe.size)
        SceneJudges.load(known_objects(pipe), pipe.tokenizer, None, pipe.device)

    def __call__(self, pipe: TextToImage, *, seed: int, out: Path) -> dict[str, float]:
        """Draw and judge; the mean of the tasks, and each of them."""
        results = evaluate_scenes(pipe, out, num_per_task=TRAINING_PER_TASK, seed=seed)
        return {"overall": results["overall"], **results["tasks"]}


during_training = DuringTraining()
