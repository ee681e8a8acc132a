"""A report as one HTML page that needs no other file, and as Markdown."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from dcar_eval.report import PUBLISHED, Run, Section, build_sections, find_runs
from dcar_eval.runs.results import alone
from dcht.errors import UsageError, printable
from dcht.files import remove_partials, write_atomic

HTML, MARKDOWN = "report.html", "report.md"
TITLE = "dcar-eval report"
INTRODUCTION = (
    "Published rows are the paper's; the others were measured by dcar-eval, each protocol in "
    "columns of its own. Numbers compare within a column."
)
SOURCES = "Where the numbers come from"
TYPES = {".png": "image/png", ".svg": "image/svg+xml"}
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
    for run in runs:
        for image in run.images:
            name = escape(f"{run.name}: {image.name}")
            blocks += [f"<h2>{name}</h2>", f'<img alt="{name}" src="{_data_url(image)}">']
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


def _data_url(image: Path) -> str:
    content = b64encode(image.read_bytes()).decode()
    return f"data:{TYPES[image.suffix]};base64,{content}"
