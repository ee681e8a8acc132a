"""The prompt file and the summary, against the benchmark's own."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dcar_eval.geneval.prompts import SHA256, lines, sha256
from dcar_eval.geneval.summary import Judged, summarize

SHARED = Path(__file__).parents[2] / "shared" / "fixtures" / "geneval"
CASES = Path(os.environ.get("GENEVAL_FIXTURES", SHARED)) / "summary.json"
ROWS = json.loads(CASES.read_text()) if CASES.exists() else []
PROMPTS = SHARED / "evaluation_metadata.jsonl"


def test_the_prompts_are_the_published_file() -> None:
    assert sha256() == SHA256
    assert len(lines()) == 553


@pytest.mark.skipif(not PROMPTS.exists(), reason=f"no {PROMPTS}")
def test_the_prompts_are_the_published_file_byte_for_byte() -> None:
    assert "".join(f"{line}\n" for line in lines()).encode() == PROMPTS.read_bytes()


@pytest.mark.skipif(not ROWS, reason=f"no {CASES}")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_summary(row: dict[str, Any]) -> None:
    judged = [
        Judged(prompt=int(Path(file).parents[1].name), tag=tag, correct=correct)
        for file, tag, correct in row["results"]
    ]
    text = summarize(judged).text()
    assert text == row["expected_stdout"]
    without = summarize(judged).text(overall=False)
    assert without == text[: text.index("Overall")]
