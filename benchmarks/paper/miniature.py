"""The paper's comparisons in miniature: runs to committed results, results to tables and plots.

    python benchmarks/paper/miniature.py gather NAME WORK   what NAME.sh left in WORK, as NAME.json
    python benchmarks/paper/miniature.py draw               every docs/pictures/NAME.png, and the
                                    tables of their pages, between the marks <!-- NAME -->

NAME.sh makes the runs; the modules beside this file know what is in them. Where NAME.json is not
there, the table says NOT RUN.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType

import arms
import classes
import curves
import estimator
import fts
import gtr
import gtr_fts
import hard
import head
import orders
import reconstruction
import rehearsal
import result_files
import stage2
import standard
import strategies
import sweeps
import table2
import table4
import things
import tokenizer_legs
import truth

PAGES = [
    result_files.DOCS / name
    for name in (
        "miniature.md",
        "scenes.md",
        "finetune.md",
        "train-generator.md",
        "train-tokenizer.md",
    )
]
RESULTS: dict[str, ModuleType] = {
    "reconstruction": reconstruction,
    "stage2": stage2,
    "table2": table2,
    "table4": table4,
    "arms": arms,
    "table5": curves,
    "strategies": strategies,
    "table6": curves,
    "fig6": sweeps,
    "truth": truth,
    "orders": orders,
    "gtr_fts": gtr_fts,
    "gtr": gtr,
    "fts": fts,
    "head": head,
    "estimator": estimator,
    "standard": standard,
    "hard": hard,
    "things": things,
    "rehearsal": rehearsal,
    "classes": classes,
    "tokenizer": tokenizer_legs,
}
"""What gathers, tabulates and draws each."""


def with_tables(page: str) -> str:
    """The page with table and plot of every committed result in their place."""
    for name, module in RESULTS.items():
        content = f"NOT RUN: `benchmarks/paper/{name}.sh` makes it.\n"
        if result := result_files.read(name):
            whose = result_files.weights(result)
            plot = f"![plot of {name}](pictures/{name}.png)\n"
            content = f"{module.table(result)}\n{whose}{plot}"
        before, mark, rest = page.partition(f"<!-- {name} -->\n")
        if not mark:
            continue
        _, end, after = rest.partition("<!-- end -->")
        page = before + mark + content + end + after
    return page


def main() -> None:
    """Parse the command line and do it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("gather", help="runs to benchmarks/paper/NAME.json")
    verb.add_argument("name", choices=list(RESULTS))
    verb.add_argument("work", type=Path)
    verbs.add_parser("draw", help="plots and tables of every committed file")
    arguments = parser.parse_args()
    if arguments.verb == "gather":
        try:
            gathered = RESULTS[arguments.name].gather(arguments.work)
        except FileNotFoundError as error:
            raise SystemExit(
                f"{error.filename} is not there; {arguments.name}.sh makes it"
            ) from None
        if not gathered["rows"]:
            # A result that is committed must not be replaced by nothing.
            raise SystemExit(f"{arguments.work} holds no runs that {arguments.name}.sh makes")
        result_files.write(result_files.described(arguments.name, gathered))
        return
    for name, module in RESULTS.items():
        if result := result_files.read(name):
            result_files.save(module.plot(result), name)
    for page in PAGES:
        page.write_text(with_tables(page.read_text()))


if __name__ == "__main__":
    main()
