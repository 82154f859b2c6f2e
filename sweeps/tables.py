"""Records -> what people see: tables with an interval beside every mean.

A table is columns and rows of raw values; only ``render`` turns values into text, so that `plain`
and `github` are for reading (percent, rounded to what the interval supports) and `csv` and `json`
are for programs (fractions as they are, low and high in columns of their own).

Left out: arithmetic. Values come from `sweeps.metrics`, and are printed.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pysim.stats import Estimate
from sweeps.metrics import DIFFERENCE, METRICS, Row, verdict

if TYPE_CHECKING:
    from pysim.engine import Result
    from pysim.scenario import Scenario
    from sweeps.grid import Report

Cell: TypeAlias = "str | int | float | Estimate | Fraction | None"
NOTHING: Final = "-"
_TABULATE: Final = {"plain": "simple", "github": "github", "latex": "latex_booktabs"}
_PERCENT: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: its name for programs, its heading for people, how its values are read.

    Text goes on in the next line of its cell after ``wrap_columns`` characters, in plain tables.
    """

    name: str
    heading: str = ""
    style: str = "number"
    wrap_columns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns and rows of raw values, under a title, above notes."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


def noted(table: Table, note: str) -> Table:
    """Return the table with one more note under it."""
    return replace(table, notes=(*table.notes, note))


# ---- numbers as people read them --------------------------------------------------------------


def _number(value: float) -> str:
    """Print up to four digits, thousands apart; whole numbers whole."""
    if value == 0:
        return "0"
    if abs(value) >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _estimate(value: Estimate, factor: int, sign: str = "") -> str:
    """Print a mean to the second digit of its half width: ``1.234 ± 0.012``."""
    mean, half = value.mean * factor, value.half_width
    if not half:
        return f"{'+' if sign and mean > 0 else ''}{_number(mean)}"
    half *= factor
    digits = max(0, 1 - int(f"{half:.1e}".partition("e")[2]))   # of the rounded half width
    return f"{mean:{sign},.{digits}f} ± {half:,.{digits}f}"


def cell(value: Cell, style: str) -> str:
    """Return a value as people read it."""
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return value
    factor = _PERCENT if style in ("share", "points") else 1
    sign = "+" if style == "points" else ""
    if isinstance(value, Estimate):
        return _estimate(value, factor, sign)
    return _number(float(value) * factor)


# ---- rendering --------------------------------------------------------------------------------


def render(tables: Sequence[Table], form: str, head: Mapping[str, Any] | None = None) -> str:
    """Print tables; ``head`` is what a JSON document says before them.

    CSV has one header, so it takes tables of equal columns only.
    """
    if form == "json":
        return json.dumps({**(head or {}), "tables": [_as_json(table) for table in tables]},
                          indent=1)
    if form == "csv":
        return _as_csv(tables)
    return "\n\n".join(_as_text(table, form) for table in tables)


def _as_text(table: Table, form: str) -> str:
    from tabulate import tabulate

    rows = [[cell(value, column.style) for value, column in zip(row, table.columns, strict=True)]
            for row in table.rows]
    align = ["left" if column.style == "text" else "right" for column in table.columns]
    headings = [column.heading or column.name for column in table.columns]
    if form != "plain":
        headings = [heading.replace("\n", " ") for heading in headings]
    wraps = [column.wrap_columns if form == "plain" else None for column in table.columns]
    text = tabulate(rows, headers=headings, tablefmt=_TABULATE[form], disable_numparse=True,
                    colalign=align if rows else (), maxcolwidths=wraps if any(wraps) else None)
    if form == "latex":
        return "\n".join(f"% {line}" for line in (table.title, *table.notes) if line) + f"\n{text}"
    title = f"**{table.title}**\n" if form == "github" and table.title else table.title
    return "\n".join(part for part in (title, text, *_notes(table, form)) if part)


def _notes(table: Table, form: str) -> Iterable[str]:
    return [f"\n{note}" if form == "github" else note for note in table.notes]


def _raw(value: Cell) -> str | int | float | None:
    if isinstance(value, Fraction):
        return float(value) if value.denominator > 1 else value.numerator
    assert not isinstance(value, Estimate)
    return value


def _flat(table: Table) -> list[dict[str, str | int | float | None]]:
    """Return rows as name -> raw value; an estimate becomes three columns."""
    estimated = {column.name for index, column in enumerate(table.columns)
                 if any(isinstance(row[index], Estimate) for row in table.rows)}
    flat = []
    for row in table.rows:
        one: dict[str, str | int | float | None] = {}
        for column, value in zip(table.columns, row, strict=True):
            if column.name in estimated:
                known = value if isinstance(value, Estimate) else None
                one[column.name] = known.mean if known else None
                one[f"{column.name}_low"] = known.low if known else None
                one[f"{column.name}_high"] = known.high if known else None
            else:
                one[column.name] = _raw(value)
        flat.append(one)
    return flat


def _as_json(table: Table) -> dict[str, Any]:
    return {"title": table.title, "rows": _flat(table), "notes": list(table.notes)}


def _as_csv(tables: Sequence[Table]) -> str:
    assert len({table.columns for table in tables}) <= 1, "one CSV has one header"
    rows = [row for table in tables for row in _flat(table)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names or ["nothing"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


# ---- tables of points -------------------------------------------------------------------------


def _metric_column(name: str, baseline: str = "") -> Column:
    heading = METRICS[name].heading
    if name == DIFFERENCE and baseline:
        heading = f"points less\n{baseline}"
    return Column(name=name, heading=heading, style=METRICS[name].style)


def _text(names: Iterable[str]) -> tuple[Column, ...]:
    return tuple(Column(name=name, style="text") for name in names)


def _instead(row: Row) -> str:
    """Say what stands in place of a number."""
    if row.unsafe:   # oops (hart 3, cycle 812, ...): the rest is a note below the table
        return f"unsafe: {row.unsafe.partition(',')[0]})"
    return "no result" if row.missing == row.replicates else ""


def by_metric(title: str, axes: Sequence[str], rows: Sequence[Row], metrics: Sequence[str],
              baseline: str) -> Table:
    """Return a table of one line per row: the axes given, then every metric."""
    lines = []
    for row in rows:
        instead = _instead(row)
        values: list[Cell] = [row.values.get(name) for name in metrics]
        if instead:
            values = [instead, *[None] * (len(metrics) - 1)]
        lines.append((*(row.coordinates[axis] for axis in axes), *values))
    columns = (*_text(axes), *(_metric_column(name, baseline) for name in metrics))
    notes = (f"{', '.join(str(row.coordinates[axis]) for axis in axes)}: {row.unsafe}"
             for row in rows if row.unsafe)
    return Table(title=title, columns=columns, rows=tuple(lines), notes=tuple(notes))


def pivot(title: str, rows: Sequence[Row], down: str, across: str, metric: str) -> Table:
    """Return a table of one metric: one axis down, another across."""
    downs = list(dict.fromkeys(row.coordinates[down] for row in rows))
    acrosses = list(dict.fromkeys(row.coordinates[across] for row in rows))
    at = {(row.coordinates[down], row.coordinates[across]): row for row in rows}
    unsafe = {row.coordinates[down]: f"{row.coordinates[down]}, {across} "
              f"{row.coordinates[across]}: {row.unsafe}" for row in reversed(rows) if row.unsafe}
    lines = []
    for one in downs:
        found = [at.get((one, other)) for other in acrosses]
        lines.append((one, *(_short(row, metric) for row in found)))
    style = METRICS[metric].style
    columns = (Column(name=down, heading=down, style="text"),
               *(Column(name=str(x), heading=f"{across} {x}", style=style) for x in acrosses))
    return Table(title=title, columns=columns, rows=tuple(lines), notes=tuple(unsafe.values()))


def _short(row: Row | None, metric: str) -> Cell:
    if row is None:
        return None
    if row.unsafe:
        return f"unsafe: {row.unsafe.partition(' (')[0]}"
    return _instead(row) or row.values.get(metric)


def tidy(axes: Sequence[str], rows: Sequence[Row], metrics: Sequence[str]) -> Table:
    """Return one line per point with everything, for programs."""
    lines = tuple(
        (*(row.coordinates[axis] for axis in axes), row.replicates, row.missing, row.unsafe,
         *(row.values.get(name) for name in metrics))
        for row in rows
    )
    columns = (*_text(axes), Column(name="replicates"), Column(name="missing"),
               Column(name="unsafe", style="text"), *(_metric_column(name) for name in metrics))
    return Table(title="", columns=columns, rows=lines)


def groups(rows: Sequence[Row], axes: Sequence[str]) -> list[tuple[str, list[Row]]]:
    """Cut rows into groups of equal coordinates on these axes, each with a title."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        title = ", ".join(f"{axis} {row.coordinates[axis]}" for axis in axes)
        found.setdefault(title, []).append(row)
    return list(found.items())


def of_sweep(report: Report, axes: Sequence[str], rows: Sequence[Row],
             metrics: Sequence[str]) -> list[Table]:
    """Return the tables of a sweep for people: the lead with every metric, then one pivot each."""
    others = [axis for axis in axes if axis not in (report.rows, report.columns)]
    if report.columns not in axes:
        return [by_metric(title, [report.rows], found, metrics, report.baseline)
                for title, found in groups(rows, others)]
    lead = [row for row in rows
            if all(row.coordinates[axis] == value for axis, value in report.lead.items())]
    varying = [axis for axis in axes if axis != report.rows and axis not in report.lead]
    fixed = ", ".join(f"{axis} {value}" for axis, value in report.lead.items())
    tables = [by_metric(", ".join(part for part in (fixed, title) if part), [report.rows], found,
                        metrics, report.baseline)
              for title, found in groups(lead, varying)] if report.lead else []
    heading = METRICS[report.cells].heading.replace("\n", " ")
    return tables + [
        pivot(f"{heading}: {title}" if title else heading, found, report.rows, report.columns,
              report.cells)
        for title, found in groups(rows, others)
    ]


# ---- one run ----------------------------------------------------------------------------------


def of_run(scenario: Scenario, result: Result, form: str) -> list[Table]:
    """Return the tables of one run: overhead by cause, latencies, counters; CSV: counters only."""
    if form == "csv":
        return [_counters(result)]
    mhz = scenario.machine.mhz
    title = (f"{scenario.policy} on {scenario.machine.name}, {scenario.harts} harts at {mhz} MHz, "
             f"{scenario.workload.name}")
    return [_causes(title, result), _latencies(result, mhz), _counters(result)]


def _causes(title: str, result: Result) -> Table:
    from pysim import counters

    columns = (Column(name="cause", style="text"), Column(name="cycles"),
               Column(name="share", heading="% of useful", style="share"),
               Column(name="meaning", style="text"))
    overhead = counters.overhead(result)
    if overhead is None:
        return Table(title=f"{title}: unsafe: {verdict(result)}", columns=columns, rows=(),
                     notes=("no overhead: the run ended in a verdict",))
    rows: list[tuple[Cell, ...]] = [
        (name, result.counters[name], share,
         counters.BY_NAME[name].meaning.removeprefix("cause: "))
        for name, share in overhead.parts.items()
    ]
    rows.append(("overhead", None, overhead.total, "all causes per useful cycle"))
    return Table(title=title, columns=columns, rows=tuple(rows))


def _latencies(result: Result, mhz: int) -> Table:
    from pysim import counters

    def in_ns(cycles: int | None) -> Fraction | None:
        return None if cycles is None else counters.nanoseconds(cycles, mhz)

    rows = tuple((name, found.n, in_ns(found.p50), in_ns(found.p99), in_ns(found.longest))
                 for name, found in counters.latencies(result).items())
    quantiles = (Column(name=f"{part}_ns", heading=f"{part} ns") for part in ("p50", "p99", "max"))
    return Table(title="latencies", rows=rows, columns=(
        Column(name="latency", style="text"), Column(name="count"), *quantiles))


def per_hart(parts: Sequence[Mapping[str, int]]) -> Table:
    """Return what each hart counted, one column a hart; counters that are 0 everywhere left out."""
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, *(part[name] for part in parts))
        for name in parts[0] if any(part[name] for part in parts))
    return Table(title="per hart", rows=rows, columns=(
        Column(name="counter", style="text"),
        *(Column(name=f"hart_{hart}", heading=f"hart {hart}") for hart in range(len(parts)))))


def _counters(result: Result) -> Table:
    """Return every counter of a run with unit and meaning."""
    from pysim import counters

    return Table(title="counters", columns=(
        Column(name="counter", style="text"), Column(name="value"),
        Column(name="unit", style="text"), Column(name="meaning", style="text")),
        rows=tuple((c.name, result.counters[c.name], c.unit, c.meaning)
                   for c in counters.BY_NAME.values()))
