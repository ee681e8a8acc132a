"""Small benchmarks laid out as the published files are, and a judge of known answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from dcar_eval.vqa.questions import Answer, Question

ROWS = [
    {
        "prompt": "two red cars",
        "atom_count": 3,
        "vqa_list": [
            ["How many cars are in the image?", "two"],
            ["Are the cars red?", "Yes"],
            ["Are there any cars in the image?", "Yes"],
        ],
        "skills": ["count", "attribute", "object"],
    },
    {
        "prompt": "a dog on a mat",
        "atom_count": 4,
        "vqa_list": [
            ["How many dogs are in the image?", "one"],
            ["Are there any dogs in the image?", "Yes"],
            ["Is the dog on the mat?", "Yes"],
        ],
        "skills": ["count", "object", "position"],
    },
]
DPG = """\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,\
question_natural_language
p1,"a red car, parked",,1,0,entity,whole,entity - whole (car),Is there a car?
p1,"a red car, parked",,2,1,attribute,color,"attribute - color (car, red)",Is the car red?
p1,"a red car, parked",,3,"1,2",attribute,state,"attribute - other (car, parked)",Is the car parked?
p1,"a red car, parked",,4,0,global,,global - (photo),Is this a photo?
p2,two dogs,,1,0,entity,whole,entity - whole (dogs),Are there dogs?
p2,two dogs,,2,1,other,count,"other - count (dogs, ==2)",Are there two dogs?
"""


class KnownJudge:
    """Answers by what a question is: probabilities that the test says; every call is counted."""

    label, sha256, dtype = "known", "0" * 64, "float32"
    device = torch.device("cpu")

    def __init__(self, known: dict[str, float]) -> None:
        self.known, self.asked = known, 0

    def answer(self, image: Image.Image, questions: Sequence[Question]) -> list[Answer]:
        self.asked += len(questions)
        found = []
        for question in questions:
            text = question.text.removesuffix(" Answer in one word.")
            chance = self.known.get(text.removesuffix(" Answer yes or no."), 0.9)
            found.append(Answer(chance, chance > 0.5))
        return found


@pytest.fixture
def geneval2_file(tmp_path: Path) -> Path:
    path = tmp_path / "geneval2_data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def dpg_file(tmp_path: Path) -> Path:
    path = tmp_path / "dpg_bench.csv"
    path.write_text(DPG)
    return path


@pytest.fixture
def known_judge() -> type[KnownJudge]:
    return KnownJudge
