"""`dcar app`: what is refused before it answers, and that Gradio is loaded by nothing else."""

import ast
import socket
from collections.abc import Callable
from importlib import util
from pathlib import Path

import pytest

import dcar.commands.app as command

Dcar = Callable[..., tuple[int, str, str]]
SOURCE = Path(command.__file__).parents[1]


def test_a_port_in_use_is_one_line(dcar: Dcar) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, stderr = dcar("app", "--port", port)
    assert code == 2
    assert f"port {port} is in use; --port {port + 1} takes another" in stderr
    assert stderr.startswith("loading ...")


@pytest.mark.parametrize("port", ["80", "x", "70000", "-1"])
def test_a_port_that_is_none_is_refused(dcar: Dcar, port: str) -> None:
    code, _, stderr = dcar("app", f"--port={port}")
    assert code == 2 and "expected 1024 to 65535" in stderr


def test_without_the_extra_it_is_named(dcar: Dcar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    code, _, stderr = dcar("app")
    assert code == 2 and "pip install 'dcar[app]'" in stderr


def test_gradio_is_imported_by_the_app_alone_and_not_by_what_needs_no_browser() -> None:
    importing = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom)) and "gradio" in ast.unparse(node)
    }
    assert importing and all(name.startswith("app/") for name in importing)
    assert not importing & {"app/studio.py", "app/recipes.py"}
    assert util.find_spec("gradio") is not None


def test_style_and_scripts_name_no_other_host() -> None:
    from dcar.app.server import theme

    assert "google" not in theme()._get_theme_css().lower()
    source = "\n".join(
        path.read_text() for path in (SOURCE / "app").iterdir() if path.suffix in (".js", ".css")
    )
    assert "http" not in source
    assert not list((SOURCE / "app").glob("*.pyi")), "Gradio wrote into the package"


def test_what_people_wrote_is_no_html() -> None:
    from dcar.app.components import notice

    assert notice("<b>x</b>", kind="error") == (
        '<div class="notice error" role="alert"><p>&lt;b&gt;x&lt;/b&gt;</p></div>'
    )
    assert notice("") == notice([]) == ""


@pytest.mark.parametrize(
    "value", [None, "x", {}, {"cells": "##"}, {"cells": [1]}, {"cells": ["a"]}]
)
def test_a_mask_that_is_none_is_nothing_painted(value: object) -> None:
    from dcar.app.components import painted

    assert painted(value) == []


def test_a_canvas_has_a_cell_a_token() -> None:
    from PIL import Image

    from dcar.app.components import canvas, painted

    shown = canvas(Image.new("RGB", (96, 64)), 32)
    assert shown["cells"] == ["...", "..."]
    assert painted(shown) == ["...", "..."]
