"""GenEval's results for people: a table, and what they must know of it."""

from __future__ import annotations

from typing import Any

from dcar_eval.runs.results import text_table
from dcht.errors import printable

NAMED = 10
"""Missing or duplicate images that are named before the rest is left to `results.json`."""


def table(results: dict[str, Any]) -> str:
    """The tasks and, if every image was there, the overall score."""
    lines = [["task", "correct", "95 % interval", "images"]]
    for name, value in results["tasks"].items():
        lines.append([name, f"{value:.4f}", _range(results, name), str(results["counts"][name][1])])
    if results["overall"] is not None:
        cells = [f"{results['overall']:.4f}", _range(results, "overall"), str(results["n"])]
        lines.append(["overall", *cells])
    return f"{printable(results['protocol']['name'])}\n{text_table(lines)}"


def _range(results: dict[str, Any], name: str) -> str:
    low, high = results["intervals"][name]
    return f"{low:.3f} to {high:.3f}"


def notes(results: dict[str, Any]) -> list[str]:
    """What keeps the numbers from being compared, and what is missing or there twice."""
    found = [f"NOT COMPARABLE: {reason}" for reason in results["not_comparable"]]
    for entries in (results["missing"], results["duplicates"]):
        found += entries[:NAMED]
        if len(entries) > NAMED:
            found.append(f"and {len(entries) - NAMED} more: see results.json")
    if results["protocol"]["name"] == "geneval[hf]":
        found.append(
            "geneval[hf] has Meta's training of the detector, not the benchmark's own: compare it "
            "with geneval[hf] alone"
        )
    return found
