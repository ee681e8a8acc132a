"""`python -m dcar_eval.commands.ceiling`: what a bundled recognizer is worth, as it is now."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from dcar_eval.hard import recognizing as hard
from dcar_eval.scenes import ceiling as standard
from dcar_eval.scenes.recognizer import Recognizer
from dcar_eval.things import recognizing as things
from dcht.commands.common import OK, positive, run
from dcht.tokenizer import Tokenizer

BENCHMARKS = {
    "standard": (None, standard.measure_ceiling, 250),
    "hard": (hard.BUNDLED, hard.measure_ceiling, 250),
    "things": (things.BUNDLED, things.measure_ceiling, 4),
}
"""Of each, its bundled recognizer, how that is measured, and images of each task or thing."""


def main() -> int:
    """Print the ceiling; with --out, write the recognizer with it, too."""
    parser = argparse.ArgumentParser(prog="python -m dcar_eval.commands.ceiling")
    parser.add_argument("sprites", type=Path, help="folder with the npm packages")
    parser.add_argument("--benchmark", choices=tuple(BENCHMARKS), default="standard")
    parser.add_argument("--tokenizer", metavar="CKPT", help="what true images go through [bundled]")
    parser.add_argument(
        "--num-per-task", type=positive, metavar="N", help="images of each task [250], or thing [4]"
    )
    parser.add_argument("--out", type=Path, help="where the recognizer is written with its ceiling")
    words = parser.parse_args()
    bundled, measure_ceiling, images = BENCHMARKS[words.benchmark]
    recognizer, _ = Recognizer.from_pretrained(bundled)
    ceiling = measure_ceiling(
        recognizer,
        words.sprites,
        num_per_task=words.num_per_task or images,
        seed=recognizer.config.training["seed"] + 1,
        tokenizer=Tokenizer.from_pretrained(words.tokenizer),
    )
    if words.out is not None:
        recognizer.config = replace(recognizer.config, ceiling=ceiling)
        recognizer.save_pretrained(words.out)
    print(json.dumps(ceiling))
    return OK


if __name__ == "__main__":
    run(main)
