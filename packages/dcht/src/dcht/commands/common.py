"""What the command lines of all three packages share: options, exit codes, devices and sizes.

Nothing here imports torch at import time, so that `--help` stays instant.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from dcht.commands.terminal import drop_stdout, in_color, ready_streams
from dcht.device import PRECISIONS
from dcht.errors import CheckpointError, NonFiniteLossError, UsageError, printable
from dcht.files import remove_partials_of

OK, FAILED, USAGE, SKIPPED, BAD_CHECKPOINT, INTERRUPTED = 0, 1, 2, 3, 4, 130
READER_GONE = 141
"""128 + SIGPIPE, as a shell has it; Windows has no such signal."""
EXIT_CODES = """exit codes: 0 ok, 2 usage or bad input, 3 done but some inputs were skipped,
  4 bad checkpoint, 130 interrupted
"""


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def part(text: str) -> tuple[int, int]:
    """An argparse type: `I/N`, with 0 <= I < N."""
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and int(number) < int(of)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with 0 <= I < N; for example 0/4")
    return int(number), int(of)


def path(text: str) -> Path:
    """An argparse type: a path; an empty text (an unset variable of the shell, say) is none."""
    if not text:
        raise argparse.ArgumentTypeError("an empty text is not a path")
    return Path(text)


FILE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif",
    ".tar", ".zip", ".npz", ".safetensors", ".json", ".jsonl", ".csv", ".txt",
)  # fmt: skip
"""What names of files end in, and those of folders do not."""
COMMON: dict[str, dict[str, Any]] = {
    "out": {"type": path, "required": True, "metavar": "PATH", "help": "where to write"},
    "ckpt": {"help": "checkpoint folder or Hub id [the bundled one]"},
    "size": {"default": "256", "help": "N or WxH, multiples of 32 [256]"},
    "seed": {"type": int, "default": 0, "help": "what everything random depends on [0]"},
    "batch_size": {"type": positive, "metavar": "N", "help": "images in one pass"},
    "device": {"default": "auto", "help": "auto, cpu, cuda or mps [auto]"},
    "precision": {
        "choices": PRECISIONS,
        "default": "fp32",
        "metavar": "NAME",
        "help": "auto (the fastest that the device computes in), fp32, bf16 or fp16 [fp32]",
    },
    "strict": {"action": "store_true", "help": "stop at the first bad input"},
    "force": {"action": "store_true", "help": "replace what --out holds"},
    "resume": {"action": "store_true", "help": "no need for it: a repeated command continues"},
    "offline": {"action": "store_true", "help": "never ask the Hub"},
    "follow_links": {
        "action": "store_true",
        "help": "follow links that lead out of the folder, also to folders",
    },
    "json": {"action": "store_true", "help": "print one JSON object"},
}
"""The options that every verb of every tool spells alike."""


def add_common(verb: argparse.ArgumentParser, *names: str, **changes: dict[str, Any] | int) -> None:
    """Add some of the `COMMON` options to a verb, in the order given.

    Args:
        verb: the parser to add them to.
        names: their names, with underscores.
        changes: by name, what this verb says otherwise: a dict of argparse's keywords (an option
            may be left as it is but for its `help`), or just the default of a number.
    """
    for name in names:
        keywords = COMMON[name]
        change = changes.get(name, {})
        if isinstance(change, int):
            change = {"default": change, "help": f"{keywords['help']} [{change}]"}
        verb.add_argument(f"--{name.replace('_', '-')}", **keywords | change)


PRECISION_WITH_INT8 = {
    "help": "auto (the fastest that the device computes in), fp32, bf16, fp16, or int8 (extra: "
    "dcar[int8]) [fp32]"
}
"""`--precision` of a verb that generates images."""
TRACEBACK = "HYDRA_FULL_ERROR"
"""The variable that has errors shown with their traceback, in Hydra's commands as in ours."""


class _Parser(argparse.ArgumentParser):
    """Shows what is wrong with a command line in one line, whatever its words hold."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def command_parser(
    prog: str, *, version: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """A parser of the house style: `--version`, examples and exit codes at the end of `--help`."""
    parser = _Parser(
        prog=prog,
        description=description,
        epilog=f"{examples}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{prog} {version}")
    parser.add_argument(
        "--print-completion", choices=("bash", "zsh", "tcsh"), action=_Completion,
        help="print what makes this shell complete the command, and do nothing else",
    )  # fmt: skip
    return parser


class _Completion(argparse.Action):
    """Prints a shell's completion script for the whole parser."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: object, values: Any, option: object = None
    ) -> None:
        import shtab

        print(shtab.complete(parser, shell=values))
        parser.exit()


def _add_debug(parser: argparse.ArgumentParser) -> None:
    """Add `--debug` to a parser and to each of its verbs, before which or after it may stand."""
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS,
        help="show the traceback of an error that is otherwise one line",
    )  # fmt: skip
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                _add_debug(verb)


def _share_examples(parser: argparse.ArgumentParser) -> None:
    """Show a verb that has no examples of its own those of the whole command that are about it."""
    lines = (parser.epilog or "").splitlines()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                about = [line for line in lines if f"{line.strip()} ".startswith(f"{verb.prog} ")]
                if verb.epilog is None and about:
                    verb.epilog = "\n".join(["examples:", *about])
                    verb.formatter_class = argparse.RawDescriptionHelpFormatter


def run_verb(parser: argparse.ArgumentParser) -> NoReturn:
    """Parse the command line, call its verb's `function(arguments)`, exit with what it returns.

    What a killed run left unfinished of the files that this one writes is removed first.
    """
    ready_streams()
    let_threads_sleep()
    _add_debug(parser)
    _share_examples(parser)
    arguments = parser.parse_args()
    if "debug" in arguments:
        os.environ[TRACEBACK] = "1"
    if getattr(arguments, "offline", False):
        os.environ["HF_HUB_OFFLINE"] = "1"
    for out in (getattr(arguments, "out", None), *getattr(arguments, "film", ())):
        if out is not None:
            remove_partials_of(out)
    sys.exit(exit_code(arguments.function, arguments))


def report_skipped(count: int, listing: Path) -> int:
    """Say on stderr how many inputs were skipped, if any; return the exit code for that."""
    if count:
        print(f"{count} skipped: see {printable(listing)}", file=sys.stderr)
    return SKIPPED if count else OK


def run(main: Callable[[], int]) -> NoReturn:
    """Call `main` and exit with its code, or that of what went wrong, see `exit_code`."""
    sys.exit(exit_code(main))


def exit_code(main: Callable[..., int], *given: Any, whole: bool | None = None) -> int:
    """Call `main`; its code, or that of an error, of which a user is told in one line on stderr.

    Args:
        main: returns an exit code.
        given: what it is called with.
        whole: print an error's traceback too; None: if `wants_traceback`.
    """
    ready_streams()
    whole = wants_traceback() if whole is None else whole
    try:
        code = main(*given)
        sys.stdout.flush()
    except UsageError as error:
        code = _fail(error, USAGE, whole)
    except CheckpointError as error:
        code = _fail(error, BAD_CHECKPOINT, whole)
    except NonFiniteLossError as error:
        code = _fail(error, FAILED, whole)
    except KeyboardInterrupt:
        code = _fail("interrupted", INTERRUPTED, whole)
    except BrokenPipeError:
        # The reader (`head`, say) went away: not an error.
        drop_stdout()
        code = READER_GONE
    except OSError as error:
        # A folder that may not be written, a file where a folder should be, a full disk. Without a
        # name it is a stream: results are printed there and nowhere else without one.
        where = error.filename or "stdout"
        code = _fail(f"{where}: {error.strerror or error}", USAGE, whole)
        if error.filename is None:
            drop_stdout()
    return code


def let_threads_sleep() -> None:
    """Have OpenMP's threads sleep where they would spin, unless the user has said what they do.

    They spin while they wait for each other; beside other work that takes the time which the others
    need (one image: 10.1 processor seconds, 6.7 asleep). Of use before torch is imported.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def wants_traceback() -> bool:
    """Whether tracebacks are asked for: by `--debug`, or by Hydra's own variable."""
    return os.environ.get(TRACEBACK, "0") not in ("", "0")


def _fail(message: object, code: int, whole: bool) -> int:
    if whole:
        traceback.print_exc()
    word = "\x1b[31merror:\x1b[0m" if in_color(sys.stderr) else "error:"
    print(f"{word} {printable(message)}", file=sys.stderr)
    return code


def require_sources(sources: Iterable[str]) -> None:
    """Refuse a source that is not there, before torch and the weights are loaded.

    Raises:
        UsageError: it is no pattern, no file or folder, and not on the Hub.
    """
    for source in sources:
        remote = source.startswith("hf:/")
        if not remote and not set(source) & set("*?[{") and not os.path.lexists(source):
            raise UsageError(f"{source} is not there")


def require_folder_name(out: Path, *, instead: str = "") -> None:
    """Refuse a folder to write that is called like a file: `--out apple.jpg` means an image.

    Raises:
        UsageError: it is called so, and is no folder yet; the message says what to name `instead`.
    """
    if out.suffix.lower() in FILE_SUFFIXES and not out.is_dir():
        advice = instead or f"give it a name without {out.suffix}"
        raise UsageError(f"--out {out} is a folder to write; {advice}")
