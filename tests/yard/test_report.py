"""A report is one file that needs nothing else, shows what the tables show, and runs nothing."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from test_cli import SWEEP, within

from pysim.errors import InputError
from pysim.stats import Estimate
from sweeps import plots, report, tables
from sweeps.metrics import Row
from sweeps.tables import Column, Table

pytest.importorskip("matplotlib", reason="NO MATPLOTLIB: reports are not tested")

HOSTILE = "<script>alert('$x$ & \"y\"')</script>"


def row(policy: str, harts: int | str, mean: float | None) -> Row:
    value = None if mean is None else Estimate(mean=mean, low=mean - 0.1, high=mean + 0.1, n=5)
    return Row(coordinates={"policy": policy, "harts": harts}, replicates=5, missing=0,
               unsafe="" if value else "oops (hart 0, cycle 1, va 0x0)",
               values={"overhead": value} if value else {}, overheads={})


ROWS = [row(policy, harts, None if policy == "none" else 0.1 * harts)
        for policy in ("mark-7.2", "none", HOSTILE) for harts in (1, 2, 64)]


class Parsed(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def picture(rows: list[Row]) -> str:
    return plots.lines(HOSTILE, rows, "policy", "harts", "overhead")


def texts(svg: str) -> list[str]:
    return ["".join(one.itertext()) for one in ET.fromstring(svg).iter()
            if one.tag.endswith("}text")]


def test_a_picture_names_every_line_and_every_place() -> None:
    found = texts(picture(ROWS))
    assert {"1", "2", "64", "harts", "policy", "overhead, %", "mark-7.2", HOSTILE,
            "none (no number)"} <= set(found)


def markers(svg: str) -> int:
    """Count the points on the lines: what is used again inside the axes, ticks left out."""
    axes = next(one for one in ET.fromstring(svg).iter() if one.get("id") == "axes_1")
    ticks = [use for one in axes if (one.get("id") or "").startswith("matplotlib.axis")
             for use in one.iter("{http://www.w3.org/2000/svg}use")]
    return len(list(axes.iter("{http://www.w3.org/2000/svg}use"))) - len(ticks)


def test_a_picture_has_a_point_for_every_number_and_none_for_what_is_unsafe() -> None:
    caps = 2
    assert markers(picture(ROWS)) == 6 * (1 + caps)
    assert markers(picture(ROWS[:3])) == 3 * (1 + caps)
    assert markers(picture(ROWS[3:6])) == 0


def test_equal_rows_make_equal_pictures() -> None:
    assert picture(ROWS) == picture(ROWS)
    assert picture(ROWS) != picture(ROWS[:6])


def test_names_along_an_axis_stay_names() -> None:
    found = texts(picture([row("mark-7.2", name, 0.5) for name in ("rocket", "u74", "sg2042")]))
    assert {"rocket", "u74", "sg2042"} <= set(found)


def test_a_page_escapes_what_it_is_told_and_needs_nothing_else() -> None:
    table = Table(title=HOSTILE, columns=(Column(name=HOSTILE, style="text"),
                                          Column(name="overhead", style="share")),
                  rows=((HOSTILE, Estimate(mean=0.5, low=0.4, high=0.6, n=5)),), notes=(HOSTILE,))
    section = report.Section(name=HOSTILE, question=HOSTILE, tables=(table,),
                             pictures=(picture(ROWS),))
    page = Parsed(report.page([section, section], {HOSTILE: HOSTILE}))
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed"}
    links = [value for _, attributes in page.tags for name, value in attributes.items()
             if name in ("href", "src", "xlink:href", "style") and value]
    assert all(not re.search("https?:|//|@import", link) for link in links)
    assert page.text.count(HOSTILE) >= 14
    assert "50 ± 10" in page.text


def test_latex_is_escaped_and_set_by_booktabs() -> None:
    table = Table(title="50 %", columns=(Column(name="a_b", style="text"),), rows=(("c&d_e",),),
                  notes=("a note",))
    assert tables.render([table], "latex").splitlines() == [
        "% 50 %", "% a note", r"\begin{tabular}{l}", r"\toprule", r" a\_b   \\", r"\midrule",
        r" c\&d\_e \\", r"\bottomrule", r"\end{tabular}"]


def test_a_sweep_writes_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text(SWEEP)
    monkeypatch.chdir(tmp_path)
    done = within(capsys, "sweep", "mine.toml", "--report", "out.html")
    assert done.returncode == 0, done.stderr
    page = Parsed((tmp_path / "out.html").read_text())
    assert "What does a small sweep cost?" in page.text
    assert page.text.count("±") == done.stdout.count("±") > 0
    assert [tag for tag, _ in page.tags].count("svg") == 1
    assert "build_id" in page.text
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(("given", "reason"), [
    ("out.pdf", "a file that ends in .html is wanted"),
    ("nowhere/out.html", "no folder 'nowhere'"),
])
def test_a_report_that_cannot_be_written_is_refused_before_anything_runs(
    given: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mine.toml").write_text(SWEEP)
    monkeypatch.chdir(tmp_path)
    done = within(capsys, "sweep", "mine.toml", "--report", given)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert reason in done.stderr
    assert not (tmp_path / "fencelab.db").exists()


def test_without_matplotlib_a_report_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pip install 'fencelab\[plot\]'"):
        report.check(str(tmp_path / "out.html"))
