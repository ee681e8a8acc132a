"""Steps are counted where somebody looks, and only where the work takes its time."""

import io
import time

import pytest
from PIL import Image

from dcar.pipeline import TextToImage, progress
from dcar.pipeline.progress import counted_steps


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_batch_counts_its_steps_and_the_residual(pipe: TextToImage) -> None:
    counted: list[int] = []
    settings = pipe.settings(num_steps=3)
    *_, last = pipe.generate_batch(
        ["a dog", "a cat"], settings=settings, size=(64, 64), seed=0, previews=False,
        stepped=lambda: counted.append(1),
    )  # fmt: skip
    assert len(counted) == 4 and isinstance(last.images[0], Image.Image)


@pytest.mark.parametrize(("patience", "seen"), [(0.0, True), (60.0, False)])
def test_only_what_takes_long_is_shown(
    monkeypatch: pytest.MonkeyPatch, patience: float, seen: bool
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(progress, "PATIENCE", patience)
    with counted_steps(2, 1) as stepped:
        for _ in range(2):
            time.sleep(0.15)
            stepped()
    assert ("2/2" in terminal.getvalue()) is seen


def test_nothing_is_shown_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with counted_steps(1, 1) as stepped:
        stepped()
    assert stream.getvalue() == ""
