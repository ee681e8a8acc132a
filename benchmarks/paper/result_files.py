"""What all results share: the committed file, whose weights, the table in Markdown, the image."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dcht.releases import RELEASES

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
Rows = list[dict[str, Any]]


def described(name: str, gathered: dict[str, Any]) -> dict[str, Any]:
    """What was gathered, and before it what made its runs, at which commit."""
    script = (HERE / f"{name}.sh").read_text().splitlines()
    describe = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    commit = subprocess.run(describe, cwd=HERE, capture_output=True, text=True, check=True).stdout
    return {
        "result": name,
        "commands": [line for line in script if line and not line.startswith("#")],
        "commit": commit.strip(),
        **gathered,
    }


def write(result: dict[str, Any]) -> None:
    """Write `NAME.json`, a line for each of its `rows`."""
    head = json.dumps({key: value for key, value in result.items() if key != "rows"}, indent=1)
    rows = ",\n  ".join(json.dumps(row) for row in result["rows"])
    text = head.removesuffix("\n}") + f',\n "rows": [\n  {rows}\n ]\n}}\n'
    (HERE / f"{result['result']}.json").write_text(text)


def read(name: str) -> dict[str, Any] | None:
    """The committed file, or None where the runs were not made."""
    path = HERE / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def whose(sha256: str) -> str:
    """Weights in words: the release that bundled them, where one did, and their hash."""
    name, release = f"`{sha256[:8]}`", _release(sha256)
    return f"release {release}'s ({name})" if release else name


def briefly(sha256: str) -> str:
    """Weights in a cell of a table, which `weights` stands below: the release, or the hash."""
    return _release(sha256) or f"`{sha256[:8]}`"


def _release(sha256: str) -> str | None:
    found = [version for version, bundled in RELEASES.items() if sha256 in bundled.values()]
    return found[0] if found else None


def weights(result: dict[str, Any]) -> str:
    """A line that says whose weights were measured; empty where the file names none."""
    found = [result.get("weights"), result.get("tokenizer_sha256")]
    found += [row.get("weights") for row in result["rows"]]
    told = [whose(sha256) for sha256 in dict.fromkeys(found) if sha256]
    return f"Weights: {', '.join(told)}.\n\n" if told else ""


def markdown(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table."""
    cells = [list(headings), ["---"] * len(headings), *lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def save(figure: Figure, name: str) -> None:
    """Write `NAME.png`."""
    for panel in figure.axes:
        panel.grid(alpha=0.3)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(DOCS / "pictures" / f"{name}.png", dpi=100)
