"""`python -m dcar_eval.commands.gate`: the detail of true scenes, blurred, as a table."""

from __future__ import annotations

import argparse
from pathlib import Path

from dcar_eval.results import text_table
from dcar_eval.scenes.gate import measure_gate
from dcht.command import OK, positive, run


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m dcar_eval.commands.gate")
    parser.add_argument("sprites", type=Path, help="folder with the npm packages")
    parser.add_argument("--num-per-task", type=positive, default=20)
    words = parser.parse_args()
    print(text_table(measure_gate(words.sprites, num_per_task=words.num_per_task)))
    return OK


if __name__ == "__main__":
    run(main)
