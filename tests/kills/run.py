"""The kill harness: `python tests/kills/run.py --kills 15` tries every resumable command.

The last line says how many kills there were and what they found; the exit code is 1 if anything.
`--self-check` then breaks the project on purpose, in each way there is, to see it found.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import events

if __name__ == "__mp_main__":
    events.install()  # a worker of a command that is being killed


def careless_write(path: Path, content: bytes) -> None:
    """`dcht.files.write_atomic` as one would write it first."""
    with open(path, "wb") as file:
        file.write(content)


def careless_removal(folder: Path, *, below: bool = False) -> None:
    """`dcht.files.remove_partials` as one would forget it."""


INJECTED = {"write_atomic": careless_write, "remove_partials": careless_removal}
"""What of `dcht.files` can be broken, and what it becomes."""
CHECKED = "report"
"""The command with which it is tried: the quickest."""


def prepare() -> dict[str, Callable[[], Any]]:
    """Import what commands import, and make them save often; the entry points."""
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"}
    import torch
    import torch.utils.flop_counter

    import dcar.cli
    import dcar.pipeline.edit
    import dcar.pipeline.series
    import dcar.train
    import dcar_eval.cli
    import dcar_eval.geneval.detector
    import dcar_eval.geneval.evaluate
    import dcar_eval.geneval.smoke
    import dcar_eval.metrics.features
    import dcar_eval.metrics.networks
    import dcar_eval.mjhq
    import dcar_eval.reconstruction
    import dcar_eval.report.pages
    import dcar_eval.scenes.dataset
    import dcar_eval.sweep
    import dcht.cli
    import dcht.files
    import dcht.latents.decode
    import dcht.latents.encode
    import dcht.launch
    import dcht.reconstruct
    import dcht.train

    torch.set_num_threads(1)
    for module in (dcar_eval.reconstruction, dcar_eval.mjhq, dcar_eval.metrics.features):
        module.SAVED_EVERY = 2  # type: ignore[attr-defined]
    dcar_eval.scenes.dataset.CHUNK = 2
    detector = dcar_eval.geneval.detector
    detector.SHORT_SIDE, detector.LONG_SIDE = 96, 160
    return {
        "dcht": dcht.cli.main, "dcht-train": dcht.launch.train_main,
        "dcar": dcar.cli.main, "dcar-train": dcar.cli.train_main, "dcar-eval": dcar_eval.cli.main,
    }  # fmt: skip


def inject(name: str) -> None:
    """Break a function of `dcht.files`: its code, so that those who imported it are broken too."""
    import dcht.files

    getattr(dcht.files, name).__code__ = INJECTED[name].__code__


def main() -> int:
    """Try the commands; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commands", nargs="*", metavar="NAME", help="of commands [all]")
    parser.add_argument("--kills", type=int, default=15, help="of each command [15]")
    parser.add_argument("--seed", type=int, default=0, help="which events [0]")
    parser.add_argument("--self-check", action="store_true", help="is what is broken found?")
    arguments = parser.parse_args()
    entries = prepare()
    import harness
    import worlds

    known = {command.name: command for command in worlds.COMMANDS}
    if odd := set(arguments.commands) - known.keys():
        parser.error(f"no commands {sorted(odd)}; there are {list(known)}")

    kills, wrong = 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        folder, start = Path(temporary).resolve(), time.monotonic()
        world = folder / "world"
        in_a_fork(lambda: worlds.make(world))

        def run(command: harness.Command, out: Path) -> int:
            os.environ["DCAR_EVAL_CACHE"] = str(out / "cache")
            return harness.main_of(worlds.words(command, world, out), entries)

        chosen = list(arguments.commands or known)
        for number, name in enumerate(chosen):
            found = harness.try_command(
                known[name], folder / str(number), run, kills=arguments.kills, seed=arguments.seed
            )
            kills, wrong = kills + found.kills, wrong + len(found.problems)
            print(f"{name}: {found.kills} kills over {len(found.kinds)} events, "
                  f"{found.seconds:.0f} s", flush=True)  # fmt: skip
            for problem in found.problems:
                print(f"  {problem}", flush=True)
        for name in INJECTED if arguments.self_check else ():

            def broken(command: harness.Command, out: Path, name: str = name) -> int:
                inject(name)  # in the fork: the next one is whole again
                return run(command, out)

            found = harness.try_command(
                known[CHECKED], folder / name, broken, kills=5, seed=arguments.seed
            )
            print(f"{name} broken: {len(found.problems)} problems found", flush=True)
            wrong += not found.problems
        seconds = time.monotonic() - start
    print(f"{kills} kills of {len(chosen)} commands in {seconds:.0f} s: {wrong} problems")
    return int(wrong > 0)


def in_a_fork(work: Callable[[], object]) -> None:
    """Do something that computes: the process that forks the trials must not have begun to."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            if code:
                import traceback

                traceback.print_exc()
            os._exit(code)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise SystemExit("the world could not be made")


if __name__ == "__main__":
    sys.exit(main())
