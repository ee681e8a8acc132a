"""The report: every number in the column of its protocol, and none that was not given."""

import json
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dcar_eval.report import PUBLISHED, Column, build_sections, find_runs
from dcar_eval.report.pages import write_report
from dcar_eval.report.paper import TABLE1, TABLE2, TABLE3
from dcht.errors import UsageError

RUN = {
    "finished": "2026-01-01T00:00:00+00:00", "seconds": 1.0, "machine": "m", "device": "cpu",
    "threads": 2,
}  # fmt: skip
DCAR = {"name": "dcar", "sha256": "d" * 64}
TITOK = {"name": "titok", "sha256": "e" * 64}
TASKS = dict.fromkeys(TABLE3.columns[:-1], 0.5)


def reconstruction(protocol: dict[str, str], psnr: float, n: int = 50_000) -> dict[str, Any]:
    return {
        "task": "reconstruction",
        "n": n,
        "protocol": protocol,
        "settings": {"size": [256, 256], "tokenizer_sha256": "a" * 64},
        "paths": {"hybrid": {"psnr": {"value": psnr, "n": 3}, "rfid": {"value": None, "n": 3}}},
    }


def scenes() -> dict[str, Any]:
    settings = {
        "weights": "b" * 64, "recognizer_sha256": "c" * 64, "split": "held-out", "objects": ["cup"],
        "num_per_task": 40, "seed": 7, "size": 256,
    }  # fmt: skip
    own = {"overall": 0.99, "tasks": dict.fromkeys(TASKS, 0.99)}
    return {
        "task": "scenes", "overall": 0.5, "tasks": TASKS, "recognizer": own, "settings": settings,
    }  # fmt: skip


def profile() -> dict[str, Any]:
    rows = [
        {"precision": "fp16", "batch_size": 1, "seconds": 0.4321, "images_per_second": 2.3},
        {"precision": "fp16", "batch_size": 16, "seconds": 1.6, "images_per_second": 10.0},
    ]
    return {
        "task": "profile",
        "protocol": {"name": "paper, 512 x 512 on A100", "sha256": "f" * 64},
        "settings": {"weights": None},
        "parameters": {"text": 1_000_000, "transformer": 2_000_000},
        "flops": {"text": 10**9, "transformer": 2 * 10**9},
        "run": RUN | {"measurements": rows},
    }


def write(folder: Path, results: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    content = {"n": 240, "versions": {"dcar-eval": "0.1.0"}, "run": RUN} | results
    (folder / "results.json").write_text(json.dumps(content))
    return folder


class Tables(HTMLParser):
    """The widths of a page's table rows, and whatever it would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[int]] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.loaded += [found[key] or "" for key in ("src", "href") if key in found]
        if tag == "table":
            self.rows.append([])
        if tag == "tr":
            self.rows[-1].append(0)
        if tag in ("td", "th"):
            self.rows[-1][-1] += int(found.get("colspan") or 1)


def test_the_published_rows_add_up() -> None:
    """Overall is the mean of the six tasks, as printed (two digits each)."""
    for cells in TABLE3.rows.values():
        *tasks, overall = map(float, cells)
        assert sum(tasks) / 6 == pytest.approx(overall, abs=0.0101)
    for table in (*TABLE1.values(), TABLE2, TABLE3):
        assert {len(cells) for cells in table.rows.values()} == {len(table.columns)}
    assert TABLE1[256].rows["DC-HT"] == ("64", "1.60", "21.50", "0.5676", "0.2221")
    assert TABLE2.rows["DC-AR"] == ("671M", "512", "12", "5.49", "0.4", "10.3")


def test_each_protocol_has_columns_of_its_own(tmp_path: Path) -> None:
    first = write(tmp_path / "ours", reconstruction(DCAR, 25.0))
    second = write(tmp_path / "theirs", reconstruction(TITOK, 24.0))
    (section,) = build_sections(find_runs([first, second]))
    assert section.title == TABLE1[256].title
    assert list(dict.fromkeys(c.protocol for c in section.columns)) == [PUBLISHED, "dcar", "titok"]
    rows = {row.name: row.cells for row in section.rows}
    assert {c.protocol for c in rows["DC-HT"]} == {PUBLISHED}
    ours = rows[f"ours ({'a' * 8}), hybrid"]
    assert {(c.protocol, c.metric): cell for c, cell in ours.items()} == {
        ("dcar", "psnr"): "25.0000", ("dcar", "rfid"): "-",
    }  # fmt: skip


def test_folders_of_one_name_have_rows_of_their_own(tmp_path: Path) -> None:
    """Two seeds of one checkpoint, in `a/eval` and `b/eval`: a name may not hide one of them."""
    places = {"a/eval": 25.0, "b/eval": 24.0, "b/deep/eval": 23.0, "other": 22.0}
    for place, psnr in places.items():
        write(tmp_path / place, reconstruction(DCAR, psnr))
    (section,) = build_sections(find_runs([tmp_path / place for place in places]))
    found = {
        row.name.partition(" (")[0]: cell
        for row in section.rows
        for column, cell in row.cells.items()
        if column.metric == "psnr" and column.protocol == "dcar"
    }
    assert found == {
        "a/eval": "25.0000", "b/eval": "24.0000", "deep/eval": "23.0000", "other": "22.0000",
    }  # fmt: skip


@pytest.mark.parametrize(("inside", "given"), [("eval", "."), ("eval/deeper", "..")])
def test_the_folder_that_one_is_in_has_its_name(
    inside: str, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, psnr in (("a/eval", 25.0), ("b/eval", 24.0)):
        write(tmp_path / place, reconstruction(DCAR, psnr))
    (tmp_path / "a" / inside).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "a" / inside)
    alone, *_ = find_runs([Path(given)])
    assert alone.name == f"eval ({'a' * 8})"
    names = [run.name for run in find_runs([Path(given), tmp_path / "b" / "eval"])]
    assert names == [f"a/eval ({'a' * 8})", f"b/eval ({'a' * 8})"]


def test_scores_of_generators(tmp_path: Path) -> None:
    """GenEval without an overall score has none here; MJHQ stands beside the speed."""
    write(
        tmp_path / "geneval",
        {
            "task": "geneval",
            "protocol": {"name": "geneval[hf]", "sha256": "1" * 64},
            "settings": {"weights": "b" * 64},
            "overall": None,
            "tasks": TASKS | {"colors": 0.75},
            "not_comparable": ["12 images are missing"],
        },
    )
    write(
        tmp_path / "mjhq",
        {
            "task": "mjhq",
            "protocol": {"name": "sana", "sha256": "2" * 64},
            "settings": {"weights": "b" * 64},
            "metrics": {"gfid": {"value": 12.345, "n": 30_000}},
            "n": 30_000,
        },
    )
    write(tmp_path / "speed", profile())
    third, second = build_sections(find_runs([tmp_path]))
    assert third.title == "GenEval, without the paper's rows: they do not compare"
    assert len(third.rows) == 1 and second.title == TABLE2.title
    cells = {column.metric: cell for column, cell in third.rows[-1].cells.items()}
    assert (cells["colors"], cells["overall"], cells["images"]) == ("0.750", "-", "240")
    assert third.notes[-1] == "geneval (bbbbbbbb): not comparable: 12 images are missing"
    assert second.rows[-2].cells[Column("sana", "gfid")] == "12.35"
    assert second.rows[-1].cells[Column("paper, 512 x 512 on A100", "latency fp16 (s)")] == "0.432"


def test_other_benchmarks_of_scenes_have_tables_of_their_own(tmp_path: Path) -> None:
    settings = {"weights": "b" * 64, "recognizer_sha256": "c" * 64, "size": 256}
    column = {"overall": 0.2, "tasks": {"one": 0.2, "sizes": 0.1}, "n": 14}
    own = {"overall": 0.9, "tasks": {"one": 0.91, "sizes": 0.92}, "things": {"fox": 0.8, "cup": 1}}
    hard = column | {
        "task": "scenes", "benchmark": "hard", "unseen": column, "recognizer": own,
        "seen": column | {"overall": 0.75, "n": 15}, "n": 29,
        "settings": settings | {"benchmark": "hard", "prompts_sha256": "1" * 64},
    }  # fmt: skip
    things = {
        "task": "scenes", "benchmark": "things", "overall": 0.25, "drawn": 1, "known": 1, "n": 4,
        "things": {"fox": 0.25}, "recognizer": own,
        "settings": settings | {"benchmark": "things", "things": ["fox"]},
    }  # fmt: skip
    made = {"standard": scenes(), "hard": hard, "things": things}
    runs = find_runs([write(tmp_path / name, results) for name, results in made.items()])
    assert [run.provenance()["protocol"].rpartition(" ")[0] for run in runs] == [
        "scenes, 1 objects, 256 x 256", "hard scenes, 256 x 256", "1 things, 256 x 256",
    ]  # fmt: skip
    standard, harder, alone = build_sections(runs)
    assert [row.name for row in harder.rows] == [
        "hard (bbbbbbbb), unseen", "hard (bbbbbbbb), seen", "the recognizer on true scenes",
    ]  # fmt: skip
    assert [list(row.cells.values()) for row in harder.rows] == [
        ["0.200", "0.100", "0.200", "14"], ["0.200", "0.100", "0.750", "15"],
        ["0.910", "0.920", "0.900"],
    ]  # fmt: skip
    # Of the same things: what the recognizer is worth on others is another question.
    assert [list(row.cells.values()) for row in alone.rows] == [["0.250", "1 of 1", "4"], ["0.800"]]
    assert standard.rows[0].cells[Column("scenes, 1 objects, 256 x 256", "images")] == "240"


def test_given_images_have_no_weights(tmp_path: Path) -> None:
    """The tokenizer in their settings made the ceiling, and none of the images."""
    given = scenes()
    given["settings"] |= {"images_sha256": "2" * 64, "tokenizer_sha256": "a" * 64}
    for name in ("weights", "size"):  # neither is known
        del given["settings"][name]
    (run,) = find_runs([write(tmp_path / "theirs", given)])
    assert run.name == "theirs" and run.provenance()["weights"] == "-"
    assert run.provenance()["protocol"].startswith("scenes, 1 objects, images as given ")


def test_unlike_protocols_of_one_name_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "a", reconstruction(DCAR, 25.0))
    second = write(tmp_path / "b", reconstruction(DCAR | {"sha256": "0" * 64}, 24.0))
    with pytest.raises(
        UsageError, match="both say protocol 'dcar', but of hashes dddddddd and 0000"
    ):
        write_report([first, second], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    unlike = scenes()
    unlike["settings"] = unlike["settings"] | {"recognizer_sha256": "9" * 64}
    pair = [write(tmp_path / "c", scenes()), write(tmp_path / "d", unlike)]
    with pytest.raises(UsageError, match="unlike numbers do not share a column"):
        build_sections(find_runs(pair))


def test_pages_hold_every_table_and_need_no_other_file(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    write(runs / "rec", reconstruction(DCAR, 25.0))
    write(runs / "<scenes>", scenes())
    write(runs / "speed", profile())
    Image.new("RGB", (8, 8), (200, 0, 0)).save(runs / "<scenes>" / "failures.png")
    html, markdown = write_report([runs], tmp_path / "out")
    page, text = html.read_text(), markdown.read_text()
    tables = Tables()
    tables.feed(page)
    assert len(tables.rows) == 4  # Tables 1 and 2, the scenes, the sources
    assert all(len(set(widths)) == 1 for widths in tables.rows)
    (image,) = tables.loaded
    assert image.startswith("data:image/webp;base64,")
    assert "<scenes>" not in page and "&lt;scenes&gt;" in page
    for cell in (
        "0.432",
        "10.00",
        "3.0M",
        "25.0000",
        "random weights",
        "bbbbbbbb",
        "0.990",
        "0.69",
    ):
        assert (cell in page) == (cell != "0.69")
        assert (cell in text) == (cell != "0.69")  # no GenEval was given: no Table 3
    widths = {line.count("|") for line in text.split("\n\n")[3].splitlines()}
    assert len(widths) == 1
    assert write_report([runs], tmp_path / "out") == [html, markdown]  # the same bytes


def test_other_reports_are_kept(tmp_path: Path) -> None:
    first = write(tmp_path / "a", reconstruction(DCAR, 25.0))
    out = tmp_path / "out"
    write_report([first], out)
    second = write(tmp_path / "b", scenes())
    with pytest.raises(UsageError, match="is another report"):
        write_report([first, second], out)
    assert "Scenes" in write_report([first, second], out, force=True)[1].read_text()


def test_a_sweeps_points_are_the_sweeps(tmp_path: Path) -> None:
    point = {"settings": {"num_steps": 4}, "overall": 0.25, "stderr": 0.03, "n": 6}
    results = {
        "task": "sweep",
        "sweep": "fig6",
        "settings": scenes()["settings"],
        "points": [point],
        "run": RUN | {"speed": [{"latency": 0.5, "images_per_second": 4.0}]},
    }
    folder = write(tmp_path / "sweep", results)
    write(folder / "points" / "000", scenes())
    (run,) = find_runs([tmp_path])
    assert run.folder == folder
    (section,) = build_sections([run])
    assert [row.name for row in section.rows] == ["num_steps 4"]
    assert list(section.rows[0].cells.values()) == ["0.250 ± 0.030", "6", "0.500", "4.00"]


def test_what_is_no_result_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no results\.json"):
        find_runs([tmp_path])
    folder = write(tmp_path / "a", {"task": "training"})
    with pytest.raises(UsageError, match="is of task 'training'; a report takes reconstruction"):
        find_runs([folder])
    (folder / "results.json").write_text("{")
    with pytest.raises(UsageError, match="is not JSON"):
        find_runs([folder / "results.json"])


def test_a_table_is_headed_by_what_was_measured(tmp_path: Path) -> None:
    """The paper's rows stand where the paper's images do; the same images share a table."""
    eleven = reconstruction(DCAR, 25.0, n=11)
    eleven["settings"] |= {"content_sha256": "1234567890"}
    other = reconstruction(DCAR, 24.0, n=11)
    other["settings"] = eleven["settings"] | {"tokenizer_sha256": "b" * 64}
    third = reconstruction(DCAR, 23.0, n=11)
    third["settings"] |= {"content_sha256": "fedcba9876"}
    for name, results in (("a", eleven), ("b", other), ("c", third)):
        write(tmp_path / name, results)
    first, second = build_sections(find_runs([tmp_path]))
    assert first.title == "Reconstruction of 11 images, 256 x 256 (SHA-256 12345678)"
    assert [row.name for row in first.rows] == ["a (aaaaaaaa), hybrid", "b (bbbbbbbb), hybrid"]
    assert PUBLISHED not in {column.protocol for column in first.columns}
    assert second.title.endswith("(SHA-256 fedcba98)")
    small = profile() | {"protocol": {"name": "paper, 512 x 512 on cpu", "sha256": "3" * 64}}
    (section,) = build_sections(find_runs([write(tmp_path / "x" / "speed", small)]))
    assert (section.title, len(section.rows)) == ("Efficiency", 1)


def test_notes_are_merged_and_smoke_runs_left_out(tmp_path: Path) -> None:
    def geneval(label: str) -> dict[str, Any]:
        return {
            "task": "geneval",
            "protocol": {"name": f"geneval[{label}]", "sha256": label * 8},
            "settings": {"weights": None},
            "overall": None,
            "tasks": TASKS,
            "not_comparable": ["no Overall"],
        }

    for name in ("a", "b"):
        write(tmp_path / "runs" / name, geneval("hf"))
    smoke = write(tmp_path / "runs" / "c", geneval("smoke"))
    (section,) = build_sections(find_runs([tmp_path]))
    assert section.notes == ["a, b: not comparable: no Overall"]
    assert [row.name for row in section.rows] == ["a", "b"]
    with pytest.raises(UsageError, match="holds smoke runs alone"):
        find_runs([smoke])


def test_questions_have_tables_of_their_own(tmp_path: Path) -> None:
    scores = {"am": [0.5, 0.4, 0.6, 2], "skills": {"count": [0.25, 0.2, 0.3, 2]}}
    results = {
        "task": "geneval2",
        "protocol": {"name": "geneval2[judge]", "sha256": "4" * 64},
        "settings": {"weights": "b" * 64},
        "scores": scores,
    }
    (section,) = build_sections(find_runs([write(tmp_path / "g", results)]))
    cells = {column.metric: cell for column, cell in section.rows[0].cells.items()}
    assert cells == {"am": "50.00", "skills count": "25.00", "images": "240"}


def test_sheets_stand_side_by_side_and_are_small(tmp_path: Path) -> None:
    """As WebP; one that is too long for it as JPEG. What is shown is the sheet."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    sheet = Image.fromarray(noise).resize((400, 300), Image.Resampling.BICUBIC)
    for name in ("a", "b"):
        folder = write(tmp_path / name, reconstruction(DCAR, 25.0))
        sheet.save(folder / "sheet.png")
    Image.new("RGB", (20_000, 8)).save(tmp_path / "a" / "failures.png")
    html, _ = write_report([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    tables = Tables()
    tables.feed(html.read_text())
    kinds = [url.partition(";")[0] for url in tables.loaded]
    assert kinds == ["data:image/webp", "data:image/webp", "data:image/jpeg"]
    content = b64decode(tables.loaded[0].partition(",")[2])
    assert len(content) < 0.3 * (tmp_path / "a" / "sheet.png").stat().st_size
    shown = np.asarray(Image.open(BytesIO(content)).convert("RGB")).astype(float)
    assert np.abs(shown - np.asarray(sheet)).mean() < 8
    assert html.read_text().count('<div class="beside">') == 2
