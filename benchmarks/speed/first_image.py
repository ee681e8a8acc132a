"""What the first image costs as a whole process, by itself and beside two busy processes.

    python benchmarks/speed/first_image.py

Processor seconds (user and system, all threads) of `python -c "import torch"` and of `dcar
generate`, which take turns; the least of --rounds counts. Then the same images while two processes
of this script do nothing but compute. `OMP_*` of the shell is left out: what counts is what people
get. Exit code 1 if a bound does not hold.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROMPT = "a photo of a red apple"
IMPORT = [sys.executable, "-c", "import torch"]
SPIN = [sys.executable, "-c", "while True: pass"]
TIMES, PLUS = 1.35, 1.2
"""An image costs at most so many times what `import torch` does, and so many seconds more..."""
BUSY = 1.3
"""...and beside two busy processes at most so many times what it costs by itself."""


def processor_seconds(command: list[str]) -> float:
    """Of a process and its threads, from its start to its end."""
    dropped = ("OMP_", "PYTHONDONTWRITEBYTECODE")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, env=environment, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@contextmanager
def busy(count: int = 2) -> Iterator[None]:
    """So many processes that compute until the end of the block."""
    neighbors = [subprocess.Popen(SPIN) for _ in range(count)]
    try:
        yield
    finally:
        for each in neighbors:
            each.kill()
        for each in neighbors:
            each.wait()


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="the least counts [3]")
    rounds = range(parser.parse_args().rounds)
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "apple.png")
        generate = [sys.executable, "-m", "dcar", "generate", PROMPT, "--out", out, "--force"]
        processor_seconds(generate)  # what is compiled and read once
        torch, alone, beside = [], [], []
        for _ in rounds:
            torch.append(processor_seconds(IMPORT))
            alone.append(processor_seconds(generate))
            with busy():
                beside.append(processor_seconds(generate))
    bound = TIMES * min(torch) + PLUS
    print(f"import torch            {min(torch):6.2f} s")
    print(f"dcar generate           {min(alone):6.2f} s, at most {bound:.2f}")
    ratio = min(beside) / min(alone)
    print(f"beside two busy ones    {min(beside):6.2f} s, {ratio:.2f}x, at most {BUSY}x")
    holds = min(alone) <= bound and ratio <= BUSY
    print("both bounds hold" if holds else "NOT within the bounds")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
