"""Scores of a benchmark of questions for people: a table, and what they must know of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dcar_eval.runs.results import text_table
from dcht.errors import printable

NAMED = 10
"""Missing images that are named before the rest is left to `results.json`."""


def table(results: dict[str, Any]) -> str:
    """Every score with its interval, in percent."""
    lines = [["score", "%", "95 % interval", "n"], *_lines(results["scores"])]
    return f"{printable(results['protocol']['name'])}\n{text_table(lines)}"


def _lines(scores: dict[str, Any]) -> Iterator[list[str]]:
    for name, found in scores.items():
        groups = {name: found}
        if isinstance(found, dict):
            groups = {f"{name} {group}": values for group, values in found.items()}
        for label, (value, low, high, n) in groups.items():
            spread = f"{100 * low:.2f} to {100 * high:.2f}"
            yield [label, f"{100 * value:.2f}", spread, f"{n:,}"]


def notes(results: dict[str, Any]) -> list[str]:
    """What keeps the numbers from being compared, and what is missing."""
    found = [f"NOT COMPARABLE: {reason}" for reason in results["not_comparable"]]
    found += results["missing"][:NAMED]
    if len(results["missing"]) > NAMED:
        found.append(f"and {len(results['missing']) - NAMED} more: see results.json")
    return found
