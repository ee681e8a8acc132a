"""A report as one HTML page that needs no other file, and as Markdown."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from dcar_eval.report import PICTURES, PUBLISHED, Run, Section, build_sections, find_runs
from dcar_eval.runs.results import alone
from dcht.errors import UsageError, printable
from dcht.files import remove_partials, write_atomic
from dcht.images import open_image

HTML, MARKDOWN = "report.html", "report.md"
TITLE = "dcar-eval report"
INTRODUCTION = (
    "Measured by dcar-eval, each protocol in columns of its own; numbers compare within a column. "
    "The paper's rows, called published, stand where what was measured is what the paper measured."
)
SOURCES = "Where the numbers come from"
QUALITY = 85
"""Of the images in the page, as WebP: a tenth of the PNG files, which stay beside the results."""
WIDEST = 16_383
"""Pixels of a side that WebP can have; JPEG has four times as many."""
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem;
  color: #222; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 1px solid #888; font-weight: 600; }
.published { color: #666; background: #f6f6f6; }
.sources td { text-align: left; font-size: 12px; overflow-wrap: anywhere; }
p.note { color: #666; font-size: 13px; margin: .3rem 0; }
img { max-width: 100%; }
.beside { display: flex; flex-wrap: wrap; gap: 1rem; } figure { flex: 1 1 24rem; margin: 0; }
"""


@alone
def write_report(paths: Sequence[Path], out: Path, *, force: bool = False) -> list[Path]:
    """Write `report.html` and `report.md` about evaluations.

    The same results give the same bytes.

    Args:
        paths: `results.json` files, or folders with some below them.
        out: folder to write.
        force: replace reports that are there and differ.

    Returns:
        The two files.

    Raises:
        UsageError: no results, results that do not belong together, or other reports in `out`.
    """
    runs = find_runs(paths)
    sections = build_sections(runs)
    pages = {HTML: as_html(sections, runs), MARKDOWN: as_markdown(sections, runs)}
    files = {out / name: page.encode() for name, page in pages.items()}
    for file, content in files.items():
        if file.exists() and file.read_bytes() != content and not force:
            raise UsageError(f"{file} is another report; use --force or another --out")
    remove_partials(out)
    for file, content in files.items():
        write_atomic(file, content)
    return list(files)


def as_markdown(sections: Sequence[Section], runs: Sequence[Run]) -> str:
    """The tables; images are in the HTML alone."""
    blocks = [f"# {TITLE}", INTRODUCTION]
    for section in sections:
        headings = ["", *(f"{column.metric} ({column.protocol})" for column in section.columns)]
        lines = [
            [row.name, *(row.cells.get(column, "") for column in section.columns)]
            for row in section.rows
        ]
        blocks += [f"## {printable(section.title)}", _markdown_table(headings, lines)]
        blocks += map(printable, section.notes)
    sources = [run.provenance() for run in runs]
    lines = [list(source.values()) for source in sources]
    blocks += [f"## {SOURCES}", _markdown_table(list(sources[0]), lines)]
    return "\n\n".join(blocks) + "\n"


def _markdown_table(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [headings, ["---"] * len(headings), *lines]
    escaped = ([printable(cell).replace("|", "\\|") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


def as_html(sections: Sequence[Section], runs: Sequence[Run]) -> str:
    """One page, with the runs' images in it."""
    blocks = [f"<h1>{TITLE}</h1>", f"<p>{INTRODUCTION}</p>"]
    for section in sections:
        blocks += [f"<h2>{escape(section.title)}</h2>", _html_table(section)]
        blocks += [f'<p class="note">{escape(note)}</p>' for note in section.notes]
    for name in PICTURES:
        # Sheets of one kind side by side: several models on the same images, say.
        shown = [run for run in runs if (run.folder / name).exists()]
        if shown:
            figures = "\n".join(_figure(run, name) for run in shown)
            blocks += [f"<h2>{escape(name)}</h2>", f'<div class="beside">{figures}</div>']
    sources = [run.provenance() for run in runs]
    blocks.append(f'<h2>{SOURCES}</h2><div class="wide"><table class="sources">')
    blocks.append(f"<thead><tr>{_cells('th', sources[0])}</tr></thead><tbody>")
    blocks += [f"<tr>{_cells('td', source.values())}</tr>" for source in sources]
    blocks.append("</tbody></table></div>")
    head = f'<meta charset="utf-8"><title>{TITLE}</title><style>{STYLE}</style>'
    body = "\n".join(blocks)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _html_table(section: Section) -> str:
    """Two rows of headings: protocols over metrics."""
    groups = [
        (name, len(list(group))) for name, group in groupby(c.protocol for c in section.columns)
    ]
    spans = "".join(
        f'<th colspan="{width}"{_mark(name)}>{escape(name)}</th>' for name, width in groups
    )
    names = "".join(
        f"<th{_mark(column.protocol)}>{escape(column.metric)}</th>" for column in section.columns
    )
    rows = []
    for row in section.rows:
        cells = "".join(
            f"<td{_mark(column.protocol)}>{escape(row.cells.get(column, ''))}</td>"
            for column in section.columns
        )
        rows.append(f"<tr><td>{escape(row.name)}</td>{cells}</tr>")
    head = f"<tr><th></th>{spans}</tr><tr><th></th>{names}</tr>"
    body = "\n".join(rows)
    return (
        f'<div class="wide"><table><thead>{head}</thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )


def _mark(protocol: str) -> str:
    return ' class="published"' if protocol == PUBLISHED else ""


def _cells(tag: str, values: Iterable[str]) -> str:
    return "".join(f"<{tag}>{escape(value)}</{tag}>" for value in values)


def _figure(run: Run, name: str) -> str:
    caption = escape(run.name)
    source = _data_url(run.folder / name)
    image = f'<img alt="{caption}: {escape(name)}" src="{source}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _data_url(path: Path) -> str:
    if path.suffix == ".svg":
        kind, content = "svg+xml", path.read_bytes()
    else:
        image = open_image(path)
        kind = "webp" if max(image.size) <= WIDEST else "jpeg"
        buffer = io.BytesIO()
        image.save(buffer, format=kind, quality=QUALITY)
        content = buffer.getvalue()
    return f"data:image/{kind};base64,{b64encode(content).decode()}"
