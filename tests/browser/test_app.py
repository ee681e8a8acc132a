"""The app as a person meets it, in a real browser: every tab, its states, and what does not fit."""

from __future__ import annotations

import struct
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from dcar.pipeline.record import read_record
from dcht.images import open_image
from dcht.reconstruct.show import fit_sides

if TYPE_CHECKING:
    from conftest import Page, Visit

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
STEPS = 8
SIDE = 256


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo of 400 x 300 pixels: it becomes 256 x 192, which are 8 x 6 tokens."""
    x, y = np.meshgrid(np.linspace(0, 1, 400), np.linspace(0, 1, 300))
    sky = np.stack([120 + 90 * y, 150 + 60 * y, 230 - 60 * y], axis=2)
    sun = (x - 0.7) ** 2 + (y - 0.3) ** 2 < 0.02
    sky[sun] = (250, 220, 90)
    path = tmp_path / "photo.png"
    Image.fromarray(sky.astype(np.uint8)).save(path)
    return path


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """A text file that is called like an image."""
    path = tmp_path / "not-an-image.png"
    path.write_text("hello\n" * 100)
    return path


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    """A PNG of a few bytes whose header says 50,000 x 50,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )  # fmt: skip
    return path


def generated(page: Page, prompt: str, seed: int, folder: Path) -> Path:
    """Generate one image with a locked seed, and download it."""
    page.page.fill("#prompt textarea", prompt)
    page.page.check("#lock input")
    page.number("#seed", seed)
    page.number("#steps", STEPS)
    page.page.click("#generate")
    page.refined("#made-stage")
    return page.download("#made-download", folder)


def test_an_image_is_generated_step_by_step_and_replayed(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    page.shot("generate-empty")
    page.page.fill("#prompt textarea", "a photo of a re")
    page.page.locator(".words .chip.match", has_text="red").click()
    assert page.page.input_value("#prompt textarea") == "a photo of a red "
    page.page.locator(".words-kinds button", has_text="things").click()
    page.page.locator(".words .chip", has_text="apple").first.click()
    assert page.page.input_value("#prompt textarea") == "a photo of a red apple "
    page.page.check("#lock input")
    page.number("#seed", 7)
    page.number("#steps", STEPS)
    page.page.click("#generate")
    seen = set()
    end = time.monotonic() + 120
    while max(seen, default=0) <= STEPS and time.monotonic() < end:
        seen.add(page.frames("#made-stage"))
        if max(seen) == STEPS // 2:
            page.shot("generate-running")
        time.sleep(0.02)
    assert len(seen - {0}) >= 3, f"the steps came at once: {seen}"
    page.refined("#made-stage")
    path = page.download("#made-download", tmp_path)
    page.page.click("#made-again button")
    page.shot("generate-done")
    command = page.page.locator("#made-command").inner_text()
    assert "dcar generate" in command and "--seed 7" in command and f"--steps {STEPS}" in command
    assert "TextToImage.from_pretrained()" in page.page.locator("#made-python").inner_text()
    assert page.page.input_value("#seed input") == "7"
    record = read_record(path)
    assert (record.prompt, record.seed) == ("a photo of a red apple", 7)
    assert record.settings.num_steps == STEPS

    page.tab("Read a PNG")
    page.shot("read-empty")
    page.upload("#png", path)
    assert "a photo of a red apple" in page.page.locator("#record td").first.inner_text()
    page.page.click("#replay")
    assert page.said("#read-said", "good").startswith("byte-equal")
    page.shot("read-done")
    assert page.others == [], "the page asked another host"


def test_a_photo_is_reconstructed(visit: Visit, photo: Path) -> None:
    page = visit()
    page.tab("Reconstruct")
    page.shot("reconstruct-empty")
    page.upload("#photo", photo)
    cards = page.page.locator("#numbers .card")
    cards.first.wait_for()
    numbers = page.page.locator("#numbers").inner_text()
    discrete, hybrid = (
        float(cards.nth(n).locator("b").inner_text().removesuffix(" dB")) for n in (0, 1)
    )
    assert hybrid > discrete > 10, numbers
    assert "54 bytes of indices" in numbers and "147,456 bytes" in numbers and "8 x 6" in numbers
    counts = [int(text) for text in page.page.locator("#usage em").all_inner_texts()]
    assert counts == sorted(counts, reverse=True) and sum(counts) <= 48
    page.page.wait_for_selector("#compared img", state="visible")
    page.page.wait_for_selector("#codes img", state="visible")
    before = page.page.locator("#compared img").first.get_attribute("src")
    page.page.get_by_label("discrete and hybrid").check()
    page.page.wait_for_function(
        "before => document.querySelector('#compared img').src !== before", arg=before
    )
    page.shot("reconstruct-done")


def test_a_painted_mask_changes_nothing_outside_of_it(
    visit: Visit, photo: Path, tmp_path: Path
) -> None:
    page = visit()
    page.tab("Edit")
    page.shot("edit-empty")
    page.upload("#edited", photo)
    canvas = page.page.locator("#painter canvas")
    canvas.wait_for(state="visible")
    page.page.wait_for_function(
        "document.querySelector('#painter canvas').width === 256"
        " && document.querySelector('#painter .painter-count').textContent !== ''"
    )
    page.page.fill("#edit-prompt textarea", "a red apple")
    page.page.click("#edit")
    assert page.said("#edits-said", "error") == "nothing is painted; paint over what is to change"
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    scale = box["width"] / 256
    mouse = page.page.mouse
    mouse.move(box["x"] + 80 * scale, box["y"] + 80 * scale)
    mouse.down()
    mouse.move(box["x"] + 112 * scale, box["y"] + 80 * scale, steps=4)
    page.shot("edit-painting")
    mouse.up()
    # A brush of 24 px about (80..112, 80): columns 2 and 3, row 2; it also touches row 3? 92 < 96.
    assert "2 of 48 tokens" in page.page.locator(".painter-count").inner_text()
    page.page.click("#edit")
    page.refined("#edits-stage")
    edited = open_image(page.download("#edits-download", tmp_path))
    page.page.wait_for_selector("#edit-compared img", state="visible")
    page.shot("edit-done")
    original = fit_sides(open_image(photo), SIDE)
    apart = np.abs(np.asarray(edited, int) - np.asarray(original, int)).max(axis=2)
    inside = np.zeros(apart.shape, bool)
    inside[64:96, 64:128] = True
    assert apart[~inside].max() == 0, "a pixel outside the mask changed"
    assert apart[inside].max() > 20

    page.page.get_by_label("Outpaint").check()
    page.page.wait_for_selector("#margins", state="visible")
    page.page.click("#edit")
    page.page.click("#edits-again button")
    page.page.locator("#edits-command", has_text="--outpaint right=64").wait_for()
    wide = open_image(page.download("#edits-download", tmp_path))
    assert wide.size == (256 + 64, 192)
    assert wide.crop((0, 0, 256, 192)).tobytes() == original.tobytes()
    page.shot("edit-outpainted")


def test_what_is_no_image_is_one_line(
    visit: Visit, text_file: Path, bomb: Path, tmp_path: Path
) -> None:
    page = visit()
    for tab, where, said in (
        ("Reconstruct", "#photo", "#reconstruct-said"), ("Edit", "#edited", "#edits-said"),
        ("Read a PNG", "#png", "#read-said"),
    ):  # fmt: skip
        page.tab(tab)
        for file, reason in ((text_file, "not a"), (bomb, "2500000000 pixels")):
            page.upload(where, file)
            notice = page.page.locator(f"{said} .notice.error", has_text=file.name)
            notice.wait_for()
            text = notice.inner_text()
            assert reason in text and "\n" not in text and str(tmp_path) not in text, text
            page.shot(f"error-{tab.lower().replace(' ', '-')}-{file.stem}")
            page.page.locator(f"{where} button").first.click()  # let go of it
            page.page.wait_for_selector(f"{where} input[type=file]", state="attached")


def test_long_and_strange_prompts(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    long = "a red apple and <b>a zebra</b> " * 400
    path = generated(page, long[:10_000], 3, tmp_path)
    said = page.said("#made-said", "note")
    assert "leaves out" in said and "does not know" in said and len(said) < 5000
    assert page.page.locator("#made-said b").count() == 0, "a prompt became HTML"
    page.shot("generate-long-prompt")
    assert read_record(path).prompt == long[:10_000].strip()
    page.page.fill("#prompt textarea", "   ")
    page.page.click("#generate")
    assert page.said("#made-said", "error").startswith("the prompt is empty")
    page.shot("generate-error")


def test_two_windows_at_once(visit: Visit, tmp_path: Path) -> None:
    windows = [visit(), visit(390, 844, "dark")]
    prompts = ["a photo of a blue car", "a photo of a yellow banana"]
    for page, prompt, seed in zip(windows, prompts, (1, 2), strict=True):
        page.page.fill("#prompt textarea", prompt)
        page.page.check("#lock input")
        page.number("#seed", seed)
        page.number("#steps", STEPS)
    for page in windows:
        page.page.click("#generate")
    for page, prompt, seed in zip(windows, prompts, (1, 2), strict=True):
        page.refined("#made-stage")
        record = read_record(page.download("#made-download", tmp_path))
        assert (record.prompt, record.seed) == (prompt, seed)
        assert page.page.locator("#made-gallery img").count() == 1, "the other window's image"


CUT = """() => [...document.querySelectorAll(".slider_input_container .max_value")]
    .filter(each => each.getBoundingClientRect().right >
        each.closest(".block").getBoundingClientRect().right)
    .map(each => each.innerText)"""
"""The greatest numbers of sliders that lie beyond their box."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1000, 1280])
def test_every_tab_fits_its_window(visit: Visit, photo: Path, width: int, scheme: str) -> None:
    page = visit(width, 844, scheme)
    for tab, where in (
        ("Generate", None), ("Reconstruct", "#photo"), ("Edit", "#edited"), ("Read a PNG", None)
    ):  # fmt: skip
        page.tab(tab)
        if where is not None:
            page.upload(where, photo)
            shown = "#numbers .card" if tab == "Reconstruct" else "#painter canvas"
            page.page.locator(shown).first.wait_for(state="visible")
        page.shot(f"{tab.lower().replace(' ', '-')}-{width}-{scheme}")
        wide = page.page.evaluate("document.scrollingElement.scrollWidth")
        assert wide <= width, f"{tab} is {wide} pixels wide"
        assert page.page.evaluate(CUT) == [], f"numbers beside a slider of {tab} are cut"
