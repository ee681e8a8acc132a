"""What is released: one version, links that lead somewhere from a package index, licenses."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
assert spec is not None and spec.loader is not None
release = importlib.util.module_from_spec(spec)
spec.loader.exec_module(release)
ADDRESS = "https://example.org/owner/name"


def test_the_packages_have_one_version_and_the_changelog_has_it() -> None:
    import dcar
    import dcht

    assert release.one_version() == dcht.__version__ == dcar.__version__


@pytest.mark.parametrize("name", release.PACKAGES)
def test_every_package_has_the_license(name: str) -> None:
    folder = ROOT / "packages" / name
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("name", release.PACKAGES)
def test_links_of_a_readme_lead_to_files_of_the_repository(name: str) -> None:
    folder = f"packages/{name}"
    text = release.absolute((ROOT / folder / "README.md").read_text(), folder, ADDRESS)
    assert release.LINK.search(text) is None
    for link in text.split(f"]({ADDRESS}/")[1:]:
        assert (ROOT / link.split(")")[0].split("#")[0]).is_file()


def test_links_elsewhere_and_anchors_stay() -> None:
    text = "[a](https://x.org) [b](#c) [d](../../docs/fid.md#e)"
    expected = f"[a](https://x.org) [b](#c) [d]({ADDRESS}/docs/fid.md#e)"
    assert release.absolute(text, "packages/dcht", ADDRESS) == expected


def test_two_versions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = release._project
    monkeypatch.setattr(
        release, "_project", lambda name: real(name) | ({"version": "9"} if name == "dcar" else {})
    )
    with pytest.raises(SystemExit, match="released as one"):
        release.one_version()
