"""`python -m dcar_eval.commands.ceiling`: the bundled recognizer with its ceiling as it is now."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from dcar_eval.scenes.ceiling import measure_ceiling
from dcar_eval.scenes.recognizer import Recognizer
from dcht.commands.common import OK, positive, run
from dcht.errors import printable
from dcht.tokenizer import Tokenizer


def main() -> int:
    """Write the bundled recognizer with its ceiling as it is now."""
    parser = argparse.ArgumentParser(prog="python -m dcar_eval.commands.ceiling")
    parser.add_argument("sprites", type=Path, help="folder with the npm packages")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--num-per-task", type=positive, default=250)
    words = parser.parse_args()
    recognizer, _ = Recognizer.from_pretrained()
    ceiling = measure_ceiling(
        recognizer,
        words.sprites,
        num_per_task=words.num_per_task,
        seed=recognizer.config.training["seed"] + 1,
        tokenizer=Tokenizer.from_pretrained(),
    )
    recognizer.config = replace(recognizer.config, ceiling=ceiling)
    recognizer.save_pretrained(words.out)
    print(printable(f"{words.out}: overall {ceiling['overall']:.4f}"))
    return OK


if __name__ == "__main__":
    run(main)
