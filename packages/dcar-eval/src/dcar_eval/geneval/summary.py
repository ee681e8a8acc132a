"""GenEval's scores from the verdicts on images, and how certain they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
"""Bootstrap samples; their seed is 0."""
LEVEL = 0.95


class Score(NamedTuple):
    """Images of one task."""

    correct: int
    n: int

    @property
    def value(self) -> float:
        """The share that is right."""
        return self.correct / self.n


class Interval(NamedTuple):
    """Where a score would lie had other prompts of the same kind been asked, at `LEVEL`."""

    low: float
    high: float


class Summary(NamedTuple):
    """What the benchmark reports."""

    images: int
    prompts: int
    correct_images: float
    """Share of all images."""
    correct_prompts: float
    """Share of the prompts with at least one image that is right."""
    tasks: dict[str, Score]
    """In the order in which they came."""
    overall: float
    """The mean of the tasks' values, whatever their sizes."""

    def text(self, *, overall: bool = True) -> str:
        """As the benchmark's own script prints it; `overall` says whether with its last line."""
        lines = [
            "Summary",
            "=======",
            f"Total images: {self.images}",
            f"Total prompts: {self.prompts}",
            f"% correct images: {self.correct_images:.2%}",
            f"% correct prompts: {self.correct_prompts:.2%}",
            "",
            "Task breakdown",
            "==============",
            *(
                f"{name:<16} = {score.value:.2%} ({score.correct} / {score.n})"
                for name, score in self.tasks.items()
            ),
            "",
        ]
        if overall:
            lines.append(f"Overall score (avg. over tasks): {self.overall:.5f}")
        return "\n".join(lines) + "\n"


class Judged(NamedTuple):
    """An image's verdict, and what it counts for."""

    prompt: int
    tag: str
    correct: bool


def summarize(images: Iterable[Judged]) -> Summary:
    """Add up verdicts.

    Raises:
        ValueError: there are none.
    """
    judged = list(images)
    if not judged:
        raise ValueError("no images to sum up")
    prompts: dict[int, bool] = {}
    for image in judged:
        prompts[image.prompt] = prompts.get(image.prompt, False) or image.correct
    tasks = {}
    for tag in dict.fromkeys(image.tag for image in judged):
        verdicts = [image.correct for image in judged if image.tag == tag]
        tasks[tag] = Score(sum(verdicts), len(verdicts))
    return Summary(
        images=len(judged),
        prompts=len(prompts),
        correct_images=sum(image.correct for image in judged) / len(judged),
        correct_prompts=sum(prompts.values()) / len(prompts),
        tasks=tasks,
        overall=sum(score.value for score in tasks.values()) / len(tasks),
    )


def intervals(images: Iterable[Judged]) -> tuple[Interval, dict[str, Interval]]:
    """Bootstrap intervals of the overall score and of each task.

    Prompts are sampled with replacement within their task, each with all its images: images of one
    prompt are not independent, and the benchmark's tasks are fixed.
    """
    prompts: dict[str, dict[int, list[bool]]] = {}
    for prompt, tag, correct in images:
        prompts.setdefault(tag, {}).setdefault(prompt, []).append(correct)
    rng = np.random.default_rng(0)
    values = {}
    for tag, by_prompt in prompts.items():
        correct = np.array([sum(verdicts) for verdicts in by_prompt.values()])
        n = np.array([len(verdicts) for verdicts in by_prompt.values()])
        resampled = rng.integers(len(n), size=(RESAMPLES, len(n)))
        values[tag] = correct[resampled].sum(axis=1) / n[resampled].sum(axis=1)
    overall = np.mean(list(values.values()), axis=0)
    return _interval(overall), {tag: _interval(value) for tag, value in values.items()}


def _interval(values: np.ndarray) -> Interval:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
