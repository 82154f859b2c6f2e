"""What there is: policies as the ops that run, machines and workloads with their sources.

Programs (`csv`, `json`) get one row per field, people the sheets of `pysim.sheets`.
"""

from __future__ import annotations

import inspect
from fractions import Fraction
from typing import TYPE_CHECKING

from sweeps.tables import Cell, Column, Table, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pysim.footprint import Curve
    from pysim.negative import Report as NegativeReport
    from pysim.scores import Scoreboard
    from pysim.sensitivity import Study
    from pysim.validate_kernel import KernelReport
    from pysim.walks import WalkReport
    from pysim.workloads.recovery import Recovery

_TABULATE = {"plain": "simple", "github": "github"}


def _text(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name=name, style="text") for name in names)


def _opening(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0]


def policies(form: str) -> str:
    """Return one line per policy: its name, what it follows, what it does."""
    from pysim.policies import POLICIES

    rows = tuple((policy.name, str(getattr(policy, "source", "")), _opening(type(policy).__doc__))
                 for policy in POLICIES)
    return render([Table(title="", columns=_text("policy", "follows", "what it does"), rows=rows)],
                  form)


def policy(name: str, form: str) -> str:
    """Return a policy's handlers, step by step, with the kernel's instructions."""
    from pysim import ops
    from pysim.policies import own
    from sweeps.reference_tables import step_lines

    chosen = own.load(name, where="policies")
    rows = tuple((handler, line) for handler, steps in ops.handlers(chosen).items()
                 for line in step_lines(steps))
    about = inspect.getdoc(type(chosen)) or ""
    if form == "plain":
        parts = [f"{chosen.name}: {about}"]
        for handler, steps in ops.handlers(chosen).items():
            parts.append("\n".join([f"{handler}:", *step_lines(steps, "    ")]))
        return "\n\n".join(parts)
    return render([Table(title=chosen.name, columns=_text("handler", "step"), rows=rows)], form)


def machines(form: str) -> str:
    """Return one line per machine."""
    from pysim import machines as known
    from pysim import sheets

    if form in _TABULATE:
        return sheets.machines_overview(form=_TABULATE[form])
    presets = [known.load(name) for name in known.PRESETS]
    paths = list(presets[0].flat())
    rows = tuple((m.name, m.harts, *map(_plain, m.flat().values())) for m in presets)
    return render([Table(title="machines", columns=_text("machine", "harts", *paths), rows=rows)],
                  form)


def machine(name: str, form: str) -> str:
    """Return every field of a machine with unit and source."""
    from pysim import machines as known
    from pysim import sheets

    chosen = known.load(name)
    if form in _TABULATE:
        return sheets.machine_sheet(chosen, form=_TABULATE[form])
    rows = tuple((path, _plain(value), known.unit(path), chosen.provenance(path))
                 for path, value in chosen.flat().items())
    return render([Table(title=chosen.name, columns=_text("field", "value", "unit", "source"),
                         rows=rows)], form)


def footprint(found: Curve, form: str) -> str:
    """Return translation cost against footprint, beside the measured one where there is one."""
    from pysim.footprint import notes, size_text

    known = any(point.measured_ns is not None for point in found.points)
    places = ("L1D", "L2", "last level", "memory")
    columns = [
        Column(name="footprint_bytes", heading="footprint", style="text"),
        Column(name="translation_ns", heading="translation\nns"),
        *([Column(name="measured_ns", heading="measured\nns"),
           Column(name="agrees", style="text")] if known else []),
        Column(name="small_pages_ns", heading="4 KiB pages\nns"),
        Column(name="huge_pages_ns", heading="2 MiB pages\nns"),
        Column(name="l1_misses", heading="L1 misses\n%", style="share"),
        Column(name="walks", heading="walks\n%", style="share"),
        *(Column(name=f"pte_reads_{place.replace(' ', '_').lower()}",
                 heading=f"PTE reads\n{place}") for place in places),
    ]
    rows = []
    for point in found.points:
        size = size_text(point.footprint_bytes) if form in _TABULATE else point.footprint_bytes
        verdict = {None: "", True: "yes", False: "no"}[point.agrees]
        compared = (point.measured_ns, verdict) if known else ()
        rows.append((size, point.translation_ns, *compared, point.small_ns, point.huge_ns,
                     point.l1_misses, point.walks, *point.pte_reads))
    title = (f"{found.machine.name} at {found.machine.mhz} MHz: random reads, ns each; translation "
             "= 4 KiB less 2 MiB pages")
    table = Table(title=title, columns=tuple(columns), rows=tuple(rows),
                  notes=tuple(notes(found)))
    return render([table], form, {"machine": found.machine.name})


def checked_machine(path: str, form: str) -> str:
    """Return what a machine's file changes of what it inherits; raises InputError for a bad one."""
    from pysim import engine, sourced
    from pysim import machines as known

    chosen = known.load(path)
    engine.check_machine(engine.pack("csim_machine", chosen.c_values()))
    facts = sourced.parse(*known.read(path))
    parent = known.load(facts.parent) if facts.parent else None
    before = parent.flat() if parent else {}
    rows = tuple((field, _plain(value), _plain(before.get(field)), known.unit(field),
                  chosen.provenance(field))
                 for field, value in chosen.flat().items() if before.get(field) != value)
    columns = _text("field", "value", f"{facts.parent or 'inherited'}", "unit", "source")
    table = Table(title=f"{path}: a possible machine, {chosen.name}", columns=columns, rows=rows,
                  notes=tuple(f"note: {note}" for note in chosen.notes))
    return render([table], form)


def workloads(form: str) -> str:
    """Return one line per workload."""
    from pysim import sheets
    from pysim import workloads as known

    if form in _TABULATE:
        return sheets.workloads_overview(form=_TABULATE[form])
    presets = [known.load(name) for name in known.WORKLOADS]
    fields = [name for name in known.Workload.model_fields if name != "sources"]
    rows = tuple(tuple(_plain(getattr(w, field)) for field in fields) for w in presets)
    return render([Table(title="workloads", columns=_text(*fields), rows=rows)], form)


def workload(name: str, form: str) -> str:
    """Return every field of a workload with unit and source."""
    from pysim import sheets
    from pysim import workloads as known

    chosen = known.load(name)
    if form in _TABULATE:
        return sheets.workload_sheet(chosen, form=_TABULATE[form])
    fields = [field for field in known.Workload.model_fields
              if field not in ("name", "title", "sources")]
    rows = tuple((field, _plain(getattr(chosen, field)), known.unit(field),
                  chosen.provenance(field)) for field in fields)
    return render([Table(title=chosen.name, columns=_text("field", "value", "unit", "source"),
                         rows=rows)], form)


def _plain(value: object) -> str | int | float | None:
    """Return a value as CSV and JSON hold it."""
    from pysim.sheets import levels_text

    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, tuple | list):
        return levels_text(value)
    return str(value)


def walks(report: WalkReport, form: str) -> str:
    """Return how many walks agree, by what was expected of them."""
    if form == "plain":
        return report.text()
    columns = (*_text("expected"), Column(name="cases"), Column(name="agreed"))
    return render([Table(title=f"{report.path}: {report.agreed} of {report.cases} walks agree",
                         columns=columns, rows=report.kinds,
                         notes=tuple(one.text() for one in report.disagreements))], form)


def kernel(report: KernelReport, form: str, *, every: bool) -> str:
    """Return how many counted numbers the engine predicts; programs get every row."""
    if form in _TABULATE:
        return report.text(_TABULATE[form], every=every).rstrip("\n")
    columns = (*_text("file", "policy"), Column(name="harts"), *_text("workload", "rep", "what"),
               Column(name="measured"), Column(name="predicted"), Column(name="tolerance"),
               *_text("outcome", "reason"))
    rows = tuple((r.file, r.policy, r.harts, r.workload, r.rep, r.what, r.measured, r.predicted,
                  r.tolerance, r.outcome, r.reason) for r in report.rows)
    return render([Table(title="counted and predicted", columns=columns, rows=rows)], form)


def scoreboard(board: Scoreboard, form: str, *, explain: bool) -> str:
    """Return every prediction beside its measurement; with ``explain``, every parameter too."""
    names = ("group", "what", "role", "measured", "predicted", "tolerance", "outcome", "source",
             "reason")
    rows = tuple(tuple(getattr(row, name) for name in names) for row in board.rows)
    notes: tuple[str, ...] = (board.summary,)
    if form in _TABULATE:
        said = {text: number for number, text in enumerate(dict.fromkeys(
            text for row in rows for text in row[-2:] if text), 1)}
        rows = tuple((*row[:-2], *(f"[{said[text]}]" if text else "" for text in row[-2:]))
                     for row in rows)
        notes = (*notes, *(f"[{number}] {text}" for text, number in said.items()))
    tables = [Table(title="", columns=_text(*names), rows=rows, notes=notes)]
    if explain:
        columns = ("group", "what", "parameter", "value", "role", "source")
        given = tuple((row.group, row.what, p.name, p.value, p.role, p.source)
                      for row in board.rows for p in row.parameters)
        tables.append(Table(title="parameters", columns=_text(*columns), rows=given))
    if form == "csv" and explain:
        return "\n".join(render([table], form) for table in tables)
    return render(tables, form)


def negative(report: NegativeReport, form: str) -> str:
    """Return hits of cached invalid PTEs, measured and predicted, with the assumed walk rate."""
    rate = float(report.walks_per_event)
    columns = (*_text("mode"), Column(name="harts"), *_text("workload"), Column(name="ops"),
               *_text("measured"), Column(name="predicted"),
               Column(name="walks_per_event", heading="walks per event\n(assumed)"),
               *_text("from", "outcome"))
    rows = tuple(
        (row.mode, row.harts, row.workload, row.ops, " ".join(map(str, row.measured)),
         row.predicted, rate if row.basis.startswith("log") else None, row.basis,
         {None: "", True: "holds", False: "fails"}[row.holds])
        for row in report.rows)
    notes = []
    for order in report.orders:
        if order.pairs:
            wrong = [f"{a} before {b}" for a, b in order.wrong]
            tied = [f"{a} and {b}" for a, b in order.tied]
            notes.append(
                f"{order.mode}, {order.harts} harts: {order.right} of {order.pairs} pairs of "
                "traced workloads in the measured order"
                + (f"; tied: {', '.join(tied)}" if tied else "")
                + (f"; measured, not predicted: {', '.join(wrong)}" if wrong else ""))
    notes.append(f"assumed: {rate:g} lookups of the running stack per logged event; hits of neg4 "
                 "and evictN follow that rate, those of neg2 the geometry")
    table = Table(title="faults on cached invalid PTEs (nv_hit), measured and predicted",
                  columns=columns, rows=rows, notes=tuple(notes))
    return render([table], form, {"walks_per_event": rate})


def sensitivity(found: Study, form: str) -> str:
    """Return the ranking as assumed, and what each assumption could do to it."""
    notes = [f"{name}: unsafe here, not ranked" for name in found.unsafe]
    if found.tied:
        notes.append(f"too close to be told apart: {', '.join(found.tied)}")
    ranking = Table(
        title=f"{found.machine}: the ranking as assumed", notes=tuple(notes), rows=found.ranking,
        columns=(*_text("policy"), Column(name="overhead", heading="overhead %", style="share")))
    asked = any(one.shares for one in found.assumptions)
    share = (Column(name="share", heading="share of variance %", style="share"),) if asked else ()
    rows: tuple[tuple[Cell, ...], ...] = tuple((
        one.path, one.value, "; ".join(one.alone) or "-", sum(one.among.values()),
        "; ".join(pair for pair, _ in one.among.most_common(2)) or "-", one.strongest[1],
        *((Fraction(one.shares.get(one.strongest[0], 0.0)),) if asked else ()),
        one.strongest[0], one.why) for one in found.assumptions)
    assumptions = Table(
        title="each assumed cost, by x0.5 to x2", rows=rows,
        columns=(*_text("cost"), Column(name="value"), *_text("alone it reverses"),
                 Column(name="reversals", heading="reversals among others"),
                 *_text("most often"), Column(name="points", heading="points a doubling"),
                 *share, *_text("of", "why assumed")),
        notes=_sensitivity_notes(found))
    if form == "csv":
        return render([assumptions], form)
    return render([ranking, assumptions], form)


def _sensitivity_notes(found: Study) -> tuple[str, ...]:
    reversing = [one.path for one in found.assumptions if one.reverses]
    return (
        f"the order of every pair held in {found.held} of {found.settings} settings "
        f"({found.runs:,} runs)",
        *(f"{name} became unsafe in {times} of them" for name, times in found.unsafe_at.items()),
        f"could change the ranking: {', '.join(reversing)}" if reversing
        else "no assumed cost changed the ranking, alone or among others"
        if found.held == found.settings else "the ranking changed only where several were off")


def recording(found: Recovery, notes: Sequence[str]) -> Table:
    """Return what was read of a recording, line by line, and what was assumed."""
    from pysim.workloads.recovery import summary

    columns = (*_text("what"), Column(name="value"))
    return Table(title="", columns=columns, rows=summary(found),
                 notes=tuple(f"note: {note}" for note in notes))
