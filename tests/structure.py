"""The packages' structure, from the code's own imports: `python tests/structure.py` prints it.

Imports inside functions count; those under `TYPE_CHECKING` do not. A module at the top of a package
is a part of its own; those of a folder are one part.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
SOURCES = {
    "dcht": ROOT / "packages/dcht/src",
    "dcar": ROOT / "packages/dcar/src",
    "dcar_eval": ROOT / "packages/dcar-eval/src",
}
MOST = 20
"""Modules in a folder."""
FORBIDDEN_NAMES = {"util", "utils", "misc", "common", "helper", "helpers"}
"""Of modules, but for `commands/common.py`."""
COMMAND_LINE = {"commands", "cli", "launch"}
"""Parts that may know the command line; so may a `__main__`."""
NOT_KNOWN = {
    "dcht.modules": {"dcht.data", "dcht.latents", "dcht.train", "dcht.engine", "dcht.files"},
    "dcht.data": {"dcht.modules", "dcht.tokenizer", "dcht.train", "dcht.engine", "dcht.latents"},
    "dcht.latents": {"dcht.train", "dcht.engine"},
    "dcar.modules": {
        "dcht.files",
        "dcar.data",
        "dcar.train",
        "dcar.pipeline",
        "dcar.sampling",
        "dcar.weights",
    },
    "dcar.sampling": {"dcar.pipeline", "dcar.data", "dcar.train"},
    "dcar.sampler": {"dcar.pipeline", "dcar.data", "dcar.train"},
    "dcar.pipeline": {"dcar.data", "dcar.train"},
    "dcar.data": {"dcar.pipeline", "dcar.train"},
    "dcar_eval.metrics": {"dcar_eval.scenes", "dcar_eval.geneval", "dcar_eval.reconstruction"},
    "dcar_eval.runs": {"dcar_eval.metrics", "dcar_eval.scenes", "dcar_eval.geneval"},
}
"""What a part must not import, directly."""


def modules() -> dict[str, Path]:
    """Every module of the three packages, by its dotted name."""
    found = {}
    for package, source in SOURCES.items():
        for path in sorted((source / package).rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules that one imports when it is imported or used."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in node.body
        for inner in ast.walk(child)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in whole}
    return found & known.keys()


def graph() -> dict[str, set[str]]:
    """What each module imports of the three packages."""
    known = modules()
    return {name: imports(path, known) - {name} for name, path in known.items()}


def part(name: str) -> str:
    """The folder that a module is in, or the module itself at the top of its package."""
    return ".".join(name.split(".")[:2])


def parts(of: dict[str, set[str]]) -> dict[str, set[str]]:
    """What each part imports of other parts."""
    found: dict[str, set[str]] = {part(name): set() for name in of}
    for name, targets in of.items():
        found[part(name)] |= {part(target) for target in targets} - {part(name)}
    return found


def circles(of: dict[str, set[str]]) -> list[list[str]]:
    """Groups that reach each other; none in a house in order."""
    reach = {name: set(targets) for name, targets in of.items()}
    for middle in reach:
        for targets in reach.values():
            if middle in targets:
                targets |= reach[middle]
    in_circle = [name for name in reach if name in reach[name]]
    groups = {
        tuple(sorted(other for other in in_circle if other in reach[name] and name in reach[other]))
        for name in in_circle
    }
    return sorted(map(list, groups))


def crowded() -> dict[str, int]:
    """Folders with more modules than anybody takes in at a glance."""
    count = Counter(path.parent for path in modules().values() if path.name != "__init__.py")
    return {str(folder.relative_to(ROOT)): n for folder, n in count.items() if n > MOST}


def deep() -> list[str]:
    """Modules deeper than one folder below their package."""
    return [name for name in modules() if name.count(".") > 2]


def badly_named() -> list[str]:
    """Modules whose name says nothing."""
    return [
        name
        for name in modules()
        if name.split(".")[-1] in FORBIDDEN_NAMES and "commands" not in name.split(".")
    ]


def wrong_directions() -> Iterator[str]:
    """Imports that go against the direction of folders."""
    for name, targets in graph().items():
        for target in sorted(targets):
            line = f"{name} imports {target}"
            here, there = part(name), part(target)
            knows_commands = here.split(".")[1:] and here.split(".")[1] in COMMAND_LINE
            if there.endswith((".commands", ".cli")) and not (
                knows_commands or name.endswith("__main__")
            ):
                yield f"{line}: only the command line knows the command line"
            if there in NOT_KNOWN.get(here, ()):
                yield f"{line}: {here} does not know {there}"


def problems() -> list[str]:
    """Everything that is not in order, a line each."""
    files = graph()
    return [
        *(f"a circle of files: {' '.join(c)}" for c in circles(files)),
        *(f"a circle of folders: {' '.join(c)}" for c in circles(parts(files))),
        *(f"{folder} has {n} modules; at most {MOST}" for folder, n in crowded().items()),
        *(f"{name} is deeper than one folder" for name in deep()),
        *(f"{name} says nothing by its name" for name in badly_named()),
        *wrong_directions(),
    ]


def trees() -> dict[str, str]:
    """The tree of each package as on the page: a line a module, its docstring's first sentence.

    What stands at the top of a package comes before its folders; both are in alphabetical order.
    """
    found = {package: [f"{package}/"] for package in SOURCES}
    known = {name: path for name, path in modules().items() if not name.endswith("__main__")}
    for name in sorted(known, key=lambda name: _place(name, known)):
        package, *inner = name.split(".")
        if inner:
            folder = known[name].name == "__init__.py"
            indent = "  " * len(inner)
            found[package].append(f"{indent + inner[-1] + '/' * folder:25}{_sentence(known[name])}")
    return {package: "\n".join(lines) for package, lines in found.items()}


def _place(name: str, known: dict[str, Path]) -> tuple[str, bool, str]:
    package, *inner = name.split(".")
    in_folder = len(inner) > 1 or known[name].name == "__init__.py"
    return package, in_folder, ".".join(inner)


def _sentence(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(docstring.partition("\n\n")[0].split()).removesuffix(".")


def write_page() -> None:
    """Put the trees into `docs/architecture.md`."""
    text = PAGE.read_text()
    for package, tree in trees().items():
        text = re.sub(
            rf"```\n{package}/\n.*?```", lambda _, t=tree: f"```\n{t}\n```", text, flags=re.S
        )
    PAGE.write_text(text)


if __name__ == "__main__":
    if sys.argv[1:] == ["--page"]:
        write_page()
    known = modules()
    for package in SOURCES:
        print(package)
        tops = Counter(part(name) for name in known if name.startswith(f"{package}."))
        for name, count in sorted(tops.items()):
            print(f"  {name.partition('.')[2]:20} {count:3}")
    found = problems()
    print(*found, sep="\n")
    print(f"{len(known)} modules, {len(found)} problems")
    raise SystemExit(bool(found))
