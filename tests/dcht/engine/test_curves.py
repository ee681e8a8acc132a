import json

import numpy as np
import pytest
from PIL import Image

from dcht.engine.curves import Panel, plot_curves
from dcht.engine.metrics import read_metrics

PANELS = [
    Panel("losses", {"l2": "l2", "l1": "l1"}, log_scale=True),
    Panel("never logged", {"nothing": "nothing"}),
    Panel("quality", {"psnr": "PSNR"}),
]


def rows(count: int) -> list[dict[str, float]]:
    return [{"step": step, "l2": 1 / (step + 1), "psnr": float(step)} for step in range(count)]


def ink(path, color: tuple[int, int, int]) -> int:
    """How many pixels are about of this color."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return int((np.abs(pixels - color).max(axis=-1) < 24).sum())


def test_rows_come_in_the_order_of_their_steps(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (5, 1, 3)))
    assert [row["step"] for row in read_metrics(path)] == [1, 3, 5]


def test_the_table_beside_it_has_a_line_a_step(tmp_path):
    logged = [{"step": 1, "l2": 0.5}, {"step": 2, "l2": 0.25}, {"step": 2, "psnr": 20.0}]
    plot_curves(logged, PANELS, tmp_path / "curves.png", marks={})
    assert (tmp_path / "curves.csv").read_text() == "step,l2,psnr\n1,0.5,\n2,0.25,20.0\n"


def test_a_curve_is_drawn_and_a_panel_without_values_is_not(tmp_path):
    sizes = {}
    for name, count in (("two", 2), ("many", 200)):
        plot_curves(rows(count), PANELS, tmp_path / f"{name}.png", marks={0: "a", 100: "b"})
        assert ink(tmp_path / f"{name}.png", (31, 119, 180)) > 100  # the first color of a plot
        with Image.open(tmp_path / f"{name}.png") as image:
            sizes[name] = image.size
    assert sizes["two"] == sizes["many"]
    plot_curves(rows(3), PANELS[:1] + PANELS[1:2] * 5, tmp_path / "one.png", marks={})
    with Image.open(tmp_path / "one.png") as image:
        assert image.size == sizes["two"]  # one row of two places, one of them empty
    assert len(list(tmp_path.glob("*.png"))) == len(list(tmp_path.glob("*.csv"))) == 3


@pytest.mark.parametrize("marks", [{}, {50: "discrete_learning"}])
def test_marks_are_lines_through_every_panel(tmp_path, marks):
    plot_curves(rows(100), PANELS, tmp_path / "a.png", marks=marks)
    gray = ink(tmp_path / "a.png", (153, 153, 153))
    plot_curves(rows(100), PANELS, tmp_path / "b.png", marks={})
    plain = ink(tmp_path / "b.png", (153, 153, 153))
    assert (gray > plain + 100) == bool(marks)
