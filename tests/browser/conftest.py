"""`dcar app` in a process of its own, and Debian's Chromium to visit it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Request
    from playwright.sync_api import Page as Tab

sync_api = pytest.importorskip("playwright.sync_api")

SCREENSHOTS = Path(__file__).parent / "screenshots"
"""What every test saw; git ignores it."""
START = 180
"""Seconds within which the app answers, on a loaded machine."""
WAIT = 120_000
"""Milliseconds within which a page does what was asked."""


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser that the system has; none is downloaded."""
    for name in ("chromium", "chromium-browser"):
        if (found := shutil.which(name)) is not None:
            return found
    pytest.skip("no chromium: apt-get install chromium")


@pytest.fixture(scope="session")
def app(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running app with the bundled checkpoint."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("app") / "stderr"
    temporary = tmp_path_factory.mktemp("temporary")
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "dcar", "app", "--port", str(port), "--device", "cpu"],
            stdout=subprocess.PIPE, stderr=stderr, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)},
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == address, log.read_text()
        yield address
    finally:
        process.terminate()
        code = process.wait(60)
        process.stdout.close()  # type: ignore[union-attr]
        SCREENSHOTS.mkdir(exist_ok=True)
        (SCREENSHOTS / "stderr.txt").write_text(log.read_text())
    assert "Traceback" not in log.read_text(), log.read_text()
    assert code == 128 + signal.SIGTERM
    assert not list(temporary.glob("dcar-app-*"))


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


Visit = Callable[..., "Page"]


class Page:
    """A window on the app: what a person does in it, and what they see."""

    def __init__(self, page: Tab, address: str) -> None:
        self.page = page
        self.address = address
        self.others: list[str] = []
        page.set_default_timeout(WAIT)
        page.on("request", self._asked)
        page.goto(address)
        page.wait_for_selector("#generate")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.others.append(request.url)

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def upload(self, where: str, file: Path) -> None:
        self.page.set_input_files(f"{where} input[type=file]", file)

    def number(self, where: str, value: int) -> None:
        field = self.page.locator(f"{where} input[type=number]").first
        field.fill(str(value))
        field.blur()

    def said(self, where: str, kind: str) -> str:
        """The notice of this kind, once it is there."""
        return self.page.locator(f"{where} .notice.{kind}").inner_text()

    def frames(self, stage: str) -> int:
        return int(self.page.locator(f"{stage} .stage").get_attribute("data-frames") or 0)

    def refined(self, stage: str) -> None:
        """Wait until the last frame is there."""
        label = self.page.locator(f"{stage} .stage-label")
        sync_api.expect(label).to_have_text("refined by the residual", timeout=WAIT)

    def download(self, button: str, folder: Path) -> Path:
        self.page.wait_for_selector(button, state="visible")
        with self.page.expect_download() as started:
            self.page.click(button)
        path = folder / started.value.suggested_filename
        started.value.save_as(path)
        return path

    def shot(self, name: str) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        time.sleep(0.5)  # what fades in or slides has done so
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


@pytest.fixture
def visit(app: str, browser: Browser) -> Iterator[Visit]:
    """Open a window: width and height in pixels, and light or dark."""
    contexts = []

    def opened(width: int = 1280, height: int = 900, scheme: str = "light") -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
        )
        contexts.append(context)
        return Page(context.new_page(), app)

    yield opened
    for context in contexts:
        context.close()
