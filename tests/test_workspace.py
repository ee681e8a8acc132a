"""The workspace as it is installed: wheels, entry points, import direction, README commands."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"dcht": "dcht", "dcar": "dcar", "dcar-eval": "dcar_eval"}
HYDRA = {"hydra", "omegaconf", "antlr4", "yaml", "packaging"}
COMMANDS = {
    "dcht": set(),
    "dcar": set(),
    "dcar-eval": set(),
    "dcht-train": HYDRA,
    "dcar-train": HYDRA,
}
"""Every console script, and what its --help may import of others: that is what takes its time."""
HEAVY = ["lpips", "tensorboard", "torchvision"]
"""What training a tokenizer may need, and nothing else of dcht and dcar."""
FORBIDDEN = [".".join(name) for name in (("pypi", "org"), ("registry", "npmjs"))]
FORBIDDEN += ["python" + "hosted"]
FORBIDDEN += [f"{folder}/" for folder in (Path.home(), ROOT) if len(folder.parts) > 1]
"""Package hosts and this machine's own paths; put together here, or this file would name them."""


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The three wheels, built as a release would be (no network: the backend is installed)."""
    folder = tmp_path_factory.mktemp("wheels")
    found = {}
    for package in PACKAGES:
        words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(words, cwd=ROOT / "packages" / package, check=True, capture_output=True)
        (found[package],) = folder.glob(f"{PACKAGES[package]}-*.whl")
    return found


def installed(wheels: dict[str, Path], names: list[str], folder: Path) -> dict[str, str]:
    """An environment with these wheels unpacked, the third-party libraries, and nothing editable.

    `python -S` reads no `.pth` file, so the checkout's own editable installs are out of sight.
    """
    for name in names:
        with zipfile.ZipFile(wheels[name]) as wheel:
            wheel.extractall(folder)
    path = os.pathsep.join([str(folder), sysconfig.get_paths()["purelib"]])
    return {**os.environ, "PYTHONPATH": path}


def python(code: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-S", "-c", code, *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("package", PACKAGES)
def test_wheels_hold_what_the_package_needs(wheels: dict[str, Path], package: str) -> None:
    source = ROOT / "packages" / package / "src"
    kinds = (".py", ".yaml", ".safetensors", ".json", ".typed")
    expected = {
        path.relative_to(source).as_posix() for path in source.rglob("*") if path.suffix in kinds
    }
    with zipfile.ZipFile(wheels[package]) as wheel:
        names = set(wheel.namelist())
    assert expected <= names
    assert not [name for name in names if name.startswith(("tests/", "runs/"))]


def test_the_lowest_wheel_stands_alone(wheels: dict[str, Path], tmp_path: Path) -> None:
    environment = installed(wheels, ["dcht"], tmp_path)
    code = (
        "import pkgutil, importlib, sys, dcht\n"
        "for module in pkgutil.walk_packages(dcht.__path__, 'dcht.'):\n"
        "    importlib.import_module(module.name)\n"
        "assert not {'dcar', 'dcar_eval', 'transformers'} & set(sys.modules), 'upward import'\n"
        "print(dcht.__file__)"
    )
    result = python(code, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(str(tmp_path))


@pytest.mark.parametrize("package", ["dcht", "dcar"])
def test_the_base_install_is_light(package: str) -> None:
    """Down to the last dependency of a dependency, without extras."""
    waiting, seen = [package], set()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform
        needed = [line for line in lines if "extra ==" not in line]
        waiting += [re.split(r"[\s\[<>=!~;(]", line, maxsplit=1)[0] for line in needed]
    assert not seen & {*HEAVY, "hydra-core", "matplotlib"}


@pytest.mark.parametrize("experiment", ["pretrain256", "finetune512 init_from=scratch"])
def test_experiments_compose_from_wheels(
    wheels: dict[str, Path], tmp_path: Path, experiment: str
) -> None:
    environment = installed(wheels, ["dcht", "dcar"], tmp_path)
    words = [f"+experiment={experiment.split()[0]}", *experiment.split()[1:]]
    words += ["data.root=x", "out=y", "--cfg", "job", "--resolve"]
    # What only training a tokenizer needs is not there.
    code = (
        "import sys; sys.argv[0] = 'dcar-train'\n"
        f"sys.modules.update(dict.fromkeys({HEAVY!r}))\n"
        "from dcar.cli import train_main; train_main()"
    )
    result = python(code, *words, env=environment, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    # Both packages' groups are there, and the paper's numbers.
    assert "codebook_size: 16384" in result.stdout
    assert "batch_size: 1024" in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_next_to_nothing(command: str) -> None:
    script = Path(sysconfig.get_path("scripts")) / command
    result = subprocess.run([script, "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
    entry = re.search(r"from ([\w.]+) import (\w+)", script.read_text())
    assert entry is not None
    module, function = entry.groups()
    code = (
        f"import sys; before = set(sys.modules); sys.argv = ['{command}', '--help']\n"
        f"from {module} import {function}\n"
        f"try: {function}()\n"
        "except SystemExit: pass\n"
        "print(); print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    imported = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    others = set(imported.stdout.splitlines()[-1].split()) - sys.stdlib_module_names
    # Compiled modules of some packages put a helper with an underscore at the top.
    assert {name for name in others if name[0] != "_"} - set(PACKAGES.values()) <= COMMANDS[command]


def test_readme_has_two_commands_and_ci_runs_them() -> None:
    text = (ROOT / "README.md").read_text()
    block = re.search(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert block is not None
    commands = block[1].splitlines()
    assert len(commands) == 2
    assert "uv run --no-dev --package dcar dcar generate" in commands[0]
    assert "--out apple.png" in commands[0]
    assert commands[1].endswith("pytest -n auto")


def test_the_first_command_installs_nothing_of_trainers_and_developers() -> None:
    """What `uv run --no-dev --package dcar` brings stands in the two packages' base install."""
    needs = set()
    for package in ("dcht", "dcar"):
        project = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())
        needs |= {re.split(r"[\[<>=]", need)[0] for need in project["project"]["dependencies"]}
    assert needs == {
        "dcht", "einops", "filelock", "huggingface-hub", "numpy", "pillow", "safetensors", "shtab",
        "tokenizers", "torch", "tqdm", "transformers",
    }  # fmt: skip


def posix_only() -> set[str]:
    """Modules of the standard library that Windows has not."""
    return {"fcntl", "grp", "pwd", "resource", "syslog", "termios", "tty"}


def test_nothing_of_posix_is_imported_at_the_top_of_a_module() -> None:
    for path in (ROOT / "packages").glob("*/src/**/*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in getattr(node, "names", [])]
            names.append(getattr(node, "module", None) or "")
            assert not posix_only() & set(names), f"{path.relative_to(ROOT)} imports {names}"


WITHOUT_POSIX = {
    "os": {"fork", "getuid", "killpg", "mkfifo", "sched_getaffinity", "statvfs", "uname"}
    | {"O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK"},
    "signal": {"SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1", "SIGXFSZ", "alarm"}
    | {"pthread_sigmask", "setitimer"},
    "socket": {"AF_UNIX"},
}
"""Of modules that Windows has, what it has not."""


def run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """What of a module runs when it is imported: all but the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield node
            yield from run_at_import(node)


def test_nothing_that_windows_lacks_runs_at_import() -> None:
    seen = 0
    for path in (ROOT / "packages").glob("*/src/**/*.py"):
        for node in run_at_import(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                seen += 1
                missing = WITHOUT_POSIX.get(node.value.id, set())
                assert node.attr not in missing, f"{path.relative_to(ROOT)}:{node.lineno}"
    assert seen > 100
    lines = "import signal\nclass A:\n    number = signal.SIGKILL\ndef f(): signal.alarm(1)\n"
    found = [n.attr for n in run_at_import(ast.parse(lines)) if isinstance(n, ast.Attribute)]
    assert found == ["SIGKILL"]


@pytest.mark.slow
def test_everything_imports_where_posix_modules_are_missing() -> None:
    code = (
        "import importlib, importlib.util, pkgutil, sys\n"
        # Of others': on Linux it takes `resource`, on Windows it does not.
        "if importlib.util.find_spec('psutil'): import psutil\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('fcntl', 'grp', 'pwd', 'resource'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "for package in ('dcht', 'dcar', 'dcar_eval'):\n"
        "    path = importlib.import_module(package).__path__\n"
        "    for module in pkgutil.walk_packages(path, package + '.'):\n"
        "        if not module.name.endswith('__main__'):\n"
        "            importlib.import_module(module.name)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_links_in_the_documents_lead_somewhere() -> None:
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    documents += (ROOT / "packages").glob("*/README.md")
    for document in documents:
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_nothing_names_a_package_host_or_one_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert ROOT / "uv.lock" not in files
    for path in files:
        if path.suffix not in (".safetensors", ".png", ".gif"):
            text = path.read_text(encoding="utf-8", errors="ignore")
            for word in FORBIDDEN:
                assert word not in text, f"{path.relative_to(ROOT)} names {word}"
