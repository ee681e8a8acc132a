"""GenEval 2: prompts of three to ten atoms, and Soft-TIFA, its score.

Kamath et al. 2025 (arXiv 2512.16853). The user brings `geneval2_data.jsonl`, whose license is
CC BY-NC 4.0; what is done with it follows the paper's description.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dcar_eval.vqa.intervals import group_means, measure
from dcar_eval.vqa.questions import Answer, Benchmark, Item, Question, Scored
from dcht.errors import UsageError
from dcht.files import open_regular, read_rows

NAME, PROMPTS = "geneval2", 800
JUDGE = "Qwen/Qwen3-VL-8B-Instruct"
PUBLISHED_BLOB = "823f48414446157fe252f92e3c60c803c33c303c"
"""Git's name of the published file."""
WHERE = "it is geneval2_data.jsonl of github.com/facebookresearch/GenEval2 (CC BY-NC 4.0)"
PROTOCOL = {
    "images": "one of each prompt, transparency on white",
    "question": "the file's, and 'Answer in one word.', each by itself",
    "soft score": "probability of the first tokens of the right answer (small, capital, in "
    "digits), of the judge's next token",
    "atom level": "arithmetic mean of a prompt's soft scores (AM), mean over prompts",
    "prompt level": "geometric mean of a prompt's soft scores (GM), mean over prompts",
    "skills": "mean of all soft scores of a skill",
    "atomicity": "mean GM of the prompts of so many atoms",
}


def read_geneval2(path: Path) -> Benchmark:
    """The benchmark, from the file that the user brings.

    Raises:
        UsageError: it is not there, or a line is not what the benchmark has.
    """
    try:
        rows = read_rows(path)
    except FileNotFoundError:
        raise UsageError(f"{path} is not there; {WHERE}") from None
    items = [_item(row, number, path) for number, row in enumerate(rows)]
    if not items:
        raise UsageError(f"{path} holds no prompts; {WHERE}")
    if len({item.prompt for item in items}) < len(items):
        raise UsageError(f"{path} has a prompt twice")
    with open_regular(path) as file:
        content = file.read()
    return Benchmark(
        name=NAME,
        items=items,
        sha256=hashlib.sha256(content).hexdigest(),
        file="" if git_blob(content) == PUBLISHED_BLOB else WHERE,
        size=PROMPTS,
        images=1,
        protocol=PROTOCOL,
        judge=JUDGE,
        score=score,
        summarize=summarize,
    )


def git_blob(content: bytes) -> str:
    """Git's name of a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _item(row: dict[str, Any], number: int, path: Path) -> Item:
    where = f"{path} line {number + 1}"
    prompt, atoms = row.get("prompt"), row.get("atom_count")
    pairs, skills = row.get("vqa_list"), row.get("skills")
    if not isinstance(prompt, str) or not isinstance(atoms, int):
        raise UsageError(f"{where} has no prompt with its atom_count; {WHERE}")
    if not isinstance(pairs, list) or not isinstance(skills, list) or len(pairs) != len(skills):
        raise UsageError(f"{where} has not as many skills as questions (vqa_list); {WHERE}")
    if not pairs or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, str) and p for p in pair)
        for pair in pairs
    ):
        raise UsageError(f"{where}: vqa_list holds no pairs of question and answer; {WHERE}")
    return Item(
        key=f"{number:05d}",
        prompt=prompt,
        questions=[Question(f"{question} Answer in one word.", right) for question, right in pairs],
        facts={"skills": [str(skill) for skill in skills], "atoms": atoms},
    )


def arithmetic_mean(scores: Sequence[float]) -> float:
    """AM = (s_1 + ... + s_n) / n: Soft-TIFA's atom level (arXiv 2512.16853)."""
    return math.fsum(scores) / len(scores)


def geometric_mean(scores: Sequence[float]) -> float:
    """GM = (s_1 ... s_n)^(1/n): Soft-TIFA's prompt level (arXiv 2512.16853).

    0 if one score is 0: a prompt is as good as all of its atoms together.
    """
    if min(scores) <= 0:
        return 0.0
    return math.exp(math.fsum(map(math.log, scores)) / len(scores))


def score(item: Item, answers: Sequence[Answer]) -> dict[str, Any]:
    """An image's soft scores, in the order of its questions, and their two means."""
    scores = [answer.probability for answer in answers]
    return {"scores": scores, "am": arithmetic_mean(scores), "gm": geometric_mean(scores)}


def summarize(images: Sequence[Scored]) -> dict[str, Any]:
    """AM and GM over prompts, AM by skill and GM by atomicity, each with its interval."""
    skills: dict[str, list[tuple[str, float]]] = {}
    for item, row in images:
        for skill, value in zip(item.facts["skills"], row["scores"], strict=True):
            skills.setdefault(skill, []).append((item.key, value))
    atoms: dict[str, list[tuple[str, float]]] = {}
    for item, row in sorted(images, key=lambda image: image[0].facts["atoms"]):
        atoms.setdefault(str(item.facts["atoms"]), []).append((item.key, row["gm"]))
    return {
        "am": measure(group_means((item.key, row["am"]) for item, row in images)),
        "gm": measure(group_means((item.key, row["gm"]) for item, row in images)),
        "skills": {name: measure(values) for name, values in sorted(skills.items())},
        "atomicity": {name: measure(group_means(values)) for name, values in atoms.items()},
    }
