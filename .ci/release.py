"""`make release`: wheels and sdists of the three packages in one version, each checked.

    python .ci/release.py --repository https://example.org/owner/name --out dist

Packages know no address: the links of their READMEs lead through the repository, as a reader of it
needs them. A package index shows the README alone, so a copy is built whose links are absolute and
whose metadata has the address. The working tree stays as it is.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("dcht", "dcar", "dcar-eval")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)]*)?\)")


def one_version() -> str:
    """The version of all three packages, which they pin of each other and the changelog has.

    Raises:
        SystemExit: they are not of one version.
    """
    projects = {name: _project(name) for name in PACKAGES}
    versions = {project["version"] for project in projects.values()}
    if len(versions) != 1:
        sys.exit(f"error: the packages have versions {sorted(versions)}; they are released as one")
    (version,) = versions
    for name, project in projects.items():
        extras = project["optional-dependencies"].values()
        needs = [*project["dependencies"], *(need for extra in extras for need in extra)]
        for need in needs:
            other = re.match(r"(dcht|dcar-eval|dcar)\b", need)
            if other and not need.endswith(f"=={version}"):
                sys.exit(f"error: {name} needs {need!r}; it should pin =={version}")
    heading = re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M)
    if heading is None:
        sys.exit(f"error: CHANGELOG.md has no section {version}")
    return version


def _project(name: str) -> dict:
    return tomllib.loads((ROOT / "packages" / name / "pyproject.toml").read_text())["project"]


def absolute(text: str, folder: str, address: str) -> str:
    """Markdown of a file in `folder` with its relative links made absolute below `address`."""

    def link(match: re.Match[str]) -> str:
        path = (ROOT / folder / match[1]).resolve().relative_to(ROOT)
        return f"]({address}/{path.as_posix()}{match[2] or ''})"

    return LINK.sub(link, text)


def build(name: str, version: str, repository: str, out: Path) -> None:
    """Build the sdist and the wheel of a copy of one package."""
    with tempfile.TemporaryDirectory() as work:
        copy = Path(work) / name
        ignore = shutil.ignore_patterns("__pycache__", ".ruff_cache")
        shutil.copytree(ROOT / "packages" / name, copy, ignore=ignore)
        readme = copy / "README.md"
        address = f"{repository}/blob/v{version}"
        readme.write_text(absolute(readme.read_text(), f"packages/{name}", address))
        project = copy / "pyproject.toml"
        urls = (
            f'[project.urls]\nSource = "{repository}"\nIssues = "{repository}/issues"\n'
            f'Changelog = "{address}/CHANGELOG.md"\n\n[build-system]'
        )
        project.write_text(project.read_text().replace("[build-system]", urls, 1))
        words = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
        subprocess.run(words, cwd=copy, check=True, stdout=subprocess.DEVNULL)


def check(path: Path, version: str) -> None:
    """What every wheel and sdist must have.

    Raises:
        SystemExit: naming the file and what it lacks.
    """
    names, metadata = _contents(path)
    wrong = []
    if not any(name.endswith("LICENSE") for name in names):
        wrong.append("no LICENSE")
    if metadata["Version"] != version:
        wrong.append(f"version {metadata['Version']}")
    if metadata["License-Expression"] != "Apache-2.0":
        wrong.append("no license expression")
    if len(metadata.get_all("Classifier", [])) < 5:
        wrong.append("too few classifiers")
    if len(metadata.get_all("Project-URL", [])) != 3:
        wrong.append("not three URLs")
    if found := LINK.search(metadata.get_payload()):
        wrong.append(f"a relative link in its README: {found[1]}")
    top = 0 if path.suffix == ".whl" else 1
    if odd := [name for name in names if name.split("/")[top : top + 1] in (["tests"], ["runs"])]:
        wrong.append(f"files that do not belong there: {odd[:3]}")
    if wrong:
        sys.exit(f"error: {path.name}: {'; '.join(wrong)}")
    print(f"{path.name}: {len(names)} files, {path.stat().st_size / 1e6:.1f} MB")


def _contents(path: Path) -> tuple[list[str], Message]:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            names = wheel.namelist()
            (file,) = (name for name in names if name.endswith(".dist-info/METADATA"))
            return names, Parser().parsestr(wheel.read(file).decode())
    with tarfile.open(path) as sdist:
        names = sdist.getnames()
        (file,) = (name for name in names if name.count("/") == 1 and name.endswith("/PKG-INFO"))
        member = sdist.extractfile(file)
        assert member is not None
        return names, Parser().parsestr(member.read().decode())


def main() -> None:
    """Build and check all of them; publishes nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", required=True, help="its address, without a last slash")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    arguments = parser.parse_args()
    if not arguments.repository.startswith("https://"):
        sys.exit(f"error: --repository {arguments.repository} should begin with https://")
    version = one_version()
    shutil.rmtree(arguments.out, ignore_errors=True)
    arguments.out.mkdir(parents=True)
    for name in PACKAGES:
        build(name, version, arguments.repository.rstrip("/"), arguments.out.resolve())
    files = sorted(path for path in arguments.out.iterdir() if path.suffix in (".whl", ".gz"))
    if len(files) != 2 * len(PACKAGES):
        sys.exit(f"error: {len(files)} files in {arguments.out}; expected {2 * len(PACKAGES)}")
    for path in files:
        check(path, version)
    print(f"version {version} is ready in {arguments.out}; nothing was published")


if __name__ == "__main__":
    main()
