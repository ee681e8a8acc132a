"""DPG-Bench: long prompts, questions with dependencies, answered with yes or no.

Hu et al. 2024 (ELLA, arXiv 2403.05135), whose questions are made as DSG's are (Cho et al. 2024,
arXiv 2310.18235). The user brings `dpg_bench.csv`. Two things are not as in the published script,
which takes a prompt's categories from its last image alone (ELLA's issue 60) and passes over the
file's first question: here all images and all questions count.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dcar_eval.vqa.intervals import group_means, measure
from dcar_eval.vqa.questions import Answer, Benchmark, Item, Question, Scored
from dcar_eval.vqa.soft_tifa import git_blob
from dcht.data.captions import decode_text
from dcht.errors import UsageError
from dcht.files import open_regular

NAME, PROMPTS, IMAGES = "dpg", 1065, 4
JUDGE = "mPLUG-large (damo/mplug_visual-question-answering_coco_large_en of ModelScope)"
PUBLISHED_BLOB = "98457fc9901943f51ff9a30367250fc292533bed"
"""Git's name of the published file."""
WHERE = "it is dpg_bench/dpg_bench.csv of github.com/TencentQQGYLab/ELLA"
COLUMNS = ("item_id", "text", "proposition_id", "dependency", "tuple", "question_natural_language")
PROTOCOL = {
    "images": "four of each prompt, transparency on white",
    "question": "the file's, and 'Answer yes or no.', each by itself",
    "answer": "1 if the judge's most likely next token begins a yes, else 0",
    "dependencies": "in the file's order, a question with a parent of score 0 has score 0",
    "score": "mean over an image's questions, then a prompt's images, then prompts",
    "categories": "mean of the answers before dependencies, over all images; by the text before "
    "the tuple's parenthesis (L2), and before its hyphen (L1)",
}


def read_dpg(path: Path) -> Benchmark:
    """The benchmark, from the file that the user brings.

    Raises:
        UsageError: it is not there, or a row is not what the benchmark has.
    """
    try:
        with open_regular(path) as file:
            content = file.read()
    except FileNotFoundError:
        raise UsageError(f"{path} is not there; {WHERE}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    return Benchmark(
        name=NAME,
        items=_items(path, decode_text(str(path), content)),
        sha256=hashlib.sha256(content).hexdigest(),
        file="" if git_blob(content) == PUBLISHED_BLOB else WHERE,
        size=PROMPTS,
        images=IMAGES,
        protocol=PROTOCOL,
        judge=JUDGE,
        score=score,
        summarize=summarize,
    )


def _items(path: Path, text: str) -> list[Item]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    items: dict[str, Item] = {}
    try:
        if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
            raise UsageError(f"{path} has no column {missing[0]}; {WHERE}")
        for row in rows:
            where = f"{path} line {rows.line_num}"
            if any(row[name] is None for name in COLUMNS):
                raise UsageError(f"{where} has fewer fields than the table")
            _add(items, row, where)
    except csv.Error as error:
        raise UsageError(f"{path} line {rows.line_num} is not CSV: {error}") from None
    if not items:
        raise UsageError(f"{path} holds no questions; {WHERE}")
    return list(items.values())


def _add(items: dict[str, Item], row: dict[str, str], where: str) -> None:
    key = row["item_id"].strip()
    if not key or key in (".", "..") or {"/", "\\", "\0"} & set(key):
        raise UsageError(f"{where}: item_id {key!r} is no name of a file")
    try:
        number = int(row["proposition_id"])
        parents = [int(part) for part in row["dependency"].split(",") if part.strip()]
    except ValueError:
        raise UsageError(
            f"{where}: proposition_id and dependency are {row['proposition_id']!r} and "
            f"{row['dependency']!r}; expected whole numbers"
        ) from None
    facts: dict[str, Any] = {"numbers": [], "parents": [], "categories": []}
    item = items.setdefault(key, Item(key=key, prompt=row["text"], questions=[], facts=facts))
    if number in item.facts["numbers"]:
        raise UsageError(f"{where}: {key} has question {number} twice")
    question = f"{row['question_natural_language'].strip()} Answer yes or no."
    item.questions.append(Question(question, "yes"))
    item.facts["numbers"].append(number)
    item.facts["parents"].append([parent for parent in parents if parent])
    item.facts["categories"].append(row["tuple"].partition("(")[0].strip().rstrip("- "))


def with_dependencies(
    numbers: Sequence[int], parents: Sequence[Sequence[int]], answers: Sequence[int]
) -> list[int]:
    """Scores of questions: an answer counts only if none of its parents has score 0.

    s_q = a_q if s_p = 1 for every parent p, else 0, in the order of the questions (ELLA, after
    DSG: what depends on something that is not there is not asked). A parent that is no question of
    the prompt does not count.

    Args:
        numbers: of the questions.
        parents: numbers of what each depends on.
        answers: 1 for yes, 0 for no.
    """
    scores = dict(zip(numbers, answers, strict=True))
    for number, above in zip(numbers, parents, strict=True):
        if any(scores.get(parent, 1) == 0 for parent in above):
            scores[number] = 0
    return [scores[number] for number in numbers]


def score(item: Item, answers: Sequence[Answer]) -> dict[str, Any]:
    """An image's answers, its scores after dependencies, and their mean."""
    said = [int(answer.said) for answer in answers]
    scores = with_dependencies(item.facts["numbers"], item.facts["parents"], said)
    return {"answers": said, "scores": scores, "score": sum(scores) / len(scores)}


def summarize(images: Sequence[Scored]) -> dict[str, Any]:
    """The score over prompts, and the answers by category, each with its interval."""
    fine: dict[str, list[tuple[str, float]]] = {}
    coarse: dict[str, list[tuple[str, float]]] = {}
    for item, row in images:
        for category, answer in zip(item.facts["categories"], row["answers"], strict=True):
            fine.setdefault(category, []).append((item.key, answer))
            coarse.setdefault(category.partition("-")[0].strip(), []).append((item.key, answer))
    return {
        "score": measure(group_means((item.key, row["score"]) for item, row in images)),
        "L1": {name: measure(values) for name, values in sorted(coarse.items())},
        "L2": {name: measure(values) for name, values in sorted(fine.items())},
    }
