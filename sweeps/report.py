"""Answers as one HTML file that needs nothing else: tables, pictures, and where they come from.

Every text is escaped, whatever a sweep file calls its axes. Left out: arithmetic; the tables are
those that a terminal shows, the pictures are of the same rows.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pysim.errors import InputError
from sweeps import plots
from sweeps.tables import Table, cell

STYLE: Final = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1f24; background: #fff;
       max-width: 72rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.4rem; }
p.question { white-space: pre-line; }
figure { margin: 1.4rem 0; } figcaption { font-weight: 600; margin-bottom: .3rem; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #d9dee3; text-align: right;
         white-space: nowrap; }
th { border-bottom: 2px solid #8c959f; vertical-align: bottom; white-space: pre-line; }
th.text, td.text { text-align: left; }
tbody tr:hover { background: #f3f5f7; }
small { color: #57606a; display: block; }
figure svg { max-width: 100%; height: auto; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One question: its words, the tables of its answer, and pictures (SVG) of them."""

    name: str
    question: str
    tables: tuple[Table, ...]
    pictures: tuple[str, ...]


def check(path: str) -> None:
    """Raise InputError unless a report can be written there: before anything is computed."""
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise InputError("options", "report", "a file that ends in .html is wanted", got=path)
    if not Path(path).parent.is_dir():
        raise InputError("options", "report", f"no folder {str(Path(path).parent)!r}")
    plots.pyplot("report")


def write(sections: Sequence[Section], about: Mapping[str, str], path: Path) -> None:
    """Write a report whole or not at all; ``about`` says where its numbers come from."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(page(sections, about), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise InputError(str(path), "", f"cannot be written: {error.strerror}") from error


def page(sections: Sequence[Section], about: Mapping[str, str]) -> str:
    """Return the HTML of a report."""
    title = html.escape(f"fencelab: {', '.join(section.name for section in sections)}")
    links = "".join(f'<li><a href="#q{at}">{html.escape(section.name)}</a></li>'
                    for at, section in enumerate(sections)) if len(sections) > 1 else ""
    rows = "".join(f'<tr><td class="text">{html.escape(key)}</td>'
                   f'<td class="text">{html.escape(value)}</td></tr>'
                   for key, value in about.items())
    return "\n".join([
        '<!DOCTYPE html>', '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{STYLE}</style></head><body>", f"<h1>{title}</h1>",
        f"<ul>{links}</ul>" if links else "",
        *(_section(at, section) for at, section in enumerate(sections)),
        f"<h2>Where this comes from</h2><table><tbody>{rows}</tbody></table>", "</body></html>\n"])


def _section(at: int, section: Section) -> str:
    pictures = (f"<figure>{svg[svg.index('<svg'):]}</figure>" for svg in section.pictures)
    return "\n".join([f'<h2 id="q{at}">{html.escape(section.name)}</h2>',
                      f'<p class="question">{html.escape(section.question)}</p>',
                      *pictures, *map(_table, section.tables)])


def _table(table: Table) -> str:
    """Return a table as people read it, its notes below."""
    kinds = [' class="text"' if column.style == "text" else "" for column in table.columns]
    head = "".join(f"<th{kind}>{html.escape(column.heading or column.name)}</th>"
                   for column, kind in zip(table.columns, kinds, strict=True))
    body = "".join(
        "<tr>" + "".join(
            f"<td{kind}>{html.escape(cell(value, column.style))}</td>"
            for value, column, kind in zip(row, table.columns, kinds, strict=True)) + "</tr>\n"
        for row in table.rows)
    notes = "".join(f"<small>{html.escape(note)}</small>" for note in table.notes)
    return (f"<figure><figcaption>{html.escape(table.title)}</figcaption><div class=\"wide\">"
            f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
            f"{notes}</figure>")
