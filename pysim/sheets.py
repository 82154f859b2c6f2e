"""Machines and workloads as text: one line for each preset, and one sheet with every source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pysim import engine, machines, workloads
from pysim.machines import Machine
from pysim.workloads import Workload

# columns of a terminal that a source may take before it is wrapped
_SOURCE_COLUMNS = 72


def _table(headers: Sequence[str], rows: Iterable[Sequence[object]], form: str,
           widths: Sequence[int | None] | None = None) -> str:
    """Lay out a table; only a terminal's form is wrapped, files keep whole lines."""
    from tabulate import tabulate

    wrap = list(widths) if widths and form == "simple" else None
    return str(tabulate(list(rows), headers=list(headers), tablefmt=form, disable_numparse=True,
                        maxcolwidths=wrap))


def machines_overview(*, form: str = "simple", of: Iterable[Machine] | None = None) -> str:
    """Return one line per machine, all presets by default; ``form`` is a tabulate format."""
    chosen = [machines.load(name) for name in machines.PRESETS] if of is None else list(of)
    headers = ("machine", "mode", "MHz", "harts", "L1 D-TLB", "L2 TLB", "PWC", "caches invalid",
               "full fence, cycles", "via")
    return _table(headers, (
        (m.name, m.mode, m.mhz, m.harts, m.l1d, m.l2, m.pwc, m.caches_invalid,
         m.fence_all_cycles + m.fence_pipe_cycles, m.via)
        for m in chosen), form)


def levels_text(levels: Sequence[object]) -> str:
    """Return the page sizes that an array holds as a machine's file writes them: ``0 napot``."""
    return " ".join("napot" if level == engine.NAPOT else str(level) for level in levels)


def _shown(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return levels_text(value) if isinstance(value, tuple | list) else str(value)


def _machine_rows(machine: Machine) -> Iterable[tuple[str, str, str, str]]:
    """One row per field; an array of one source is one row."""
    flat = machine.flat()
    parts: dict[str, list[str]] = {}
    for path in flat:
        parts.setdefault(path.rpartition(".")[0] or path, []).append(path)
    for array, paths in parts.items():
        sources = {machine.provenance(path) for path in paths}
        if paths != [array] and (flat[f"{array}.ways"] == 0 or len(sources) == 1):
            yield array, _array(flat, array), "sets x ways x pages", sources.pop()
        else:
            for path in paths:
                yield path, _shown(flat[path]), machines.unit(path), machine.provenance(path)


def _array(flat: Mapping[str, object], array: str) -> str:
    if flat[f"{array}.ways"] == 0:
        return "absent"
    shape = " x ".join(str(flat[f"{array}.{key}"]) for key in ("sets", "ways", "sectors"))
    return f"{shape}, levels {_shown(flat[f'{array}.levels'])}, {flat[f'{array}.policy']}"


def machine_sheet(machine: Machine, *, form: str = "simple") -> str:
    """Return every field of a machine with value, unit and source (or why it is assumed)."""
    title = f"{machine.name}: {machine.title}" if machine.title else machine.name
    table = _table(("field", "value", "unit", "source"), _machine_rows(machine), form,
                   (None, None, None, _SOURCE_COLUMNS))
    return "\n".join((title, "", table, *(f"note: {note}" for note in machine.notes)))


def workloads_overview(*, form: str = "simple") -> str:
    """Return one line per workload preset."""
    headers = ("workload", "what", "ms", "maps/s", "user faults/s", "interrupts/s")
    presets = [workloads.load(name) for name in workloads.WORKLOADS]
    return _table(headers, ((w.name, w.title, w.duration_ms, w.vmalloc_per_s, w.user_faults_per_s,
                             w.interrupts_per_s) for w in presets), form)


def workload_sheet(workload: Workload, *, form: str = "simple") -> str:
    """Return every field of a workload with value, unit and source (or why it is assumed)."""
    title = f"{workload.name}: {workload.title}" if workload.title else workload.name
    said = workload.model_fields_set - {"name", "title", "sources"}
    rows = ((field, _shown(getattr(workload, field)), workloads.unit(field),
             workload.provenance(field)) for field in Workload.model_fields if field in said)
    table = _table(("field", "value", "unit", "source"), rows, form,
                   (None, None, None, _SOURCE_COLUMNS))
    return "\n".join((title, "", table))
