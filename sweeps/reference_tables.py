"""Reference pages: what the engine, the policies, the machines and the workloads say of themselves.

``python -m sweeps.reference_tables docs/tables`` writes them (``make tables``); a test compares the
committed pages with what this prints, so a page cannot lag behind its subject. Nothing is described
here: the words come from csim.h, from docstrings, and from the sources that presets carry.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from pysim import engine, machines, ops, workloads
from pysim.errors import InputError
from pysim.policies import POLICIES

_NOTE: Final = "Written by `make tables` from {subject}; edit that, not this page.\n"


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; cells are text, a bar in one is escaped."""
    lines = [headers, ["---"] * len(headers), *rows]
    cells = ([str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def page(title: str, subject: str, *parts: str) -> str:
    """Return a page: title, where it comes from, parts with an empty line between."""
    return "\n".join([f"# {title}\n", _NOTE.format(subject=subject), *parts])


def counters_page() -> str:
    """Return every counter with its unit and meaning, in the engine's order."""
    rows = [(f"`{c.name}`", c.unit, c.meaning) for c in engine.COUNTERS]
    verdicts = [(f"`{name}`",) for name in engine.VERDICTS]
    histograms = [(f"`{name}`",) for name in engine.HISTOGRAMS]
    return page(
        "Counters",
        "`csim/csim.h`",
        "All are unsigned 64-bit integers, summed over harts.\n",
        table(("counter", "unit", "meaning"), rows),
        "## Verdicts\n",
        table(("how a run ended",), verdicts),
        "## Histograms\n",
        "Cycles, log-linear: 16 buckets per power of two, exact below 16.\n",
        table(("latency",), histograms),
    )


def ops_page() -> str:
    """Return every op, condition and handler, in the engine's order."""

    def family(name: str) -> list[tuple[str, str]]:
        return [(f"`{key}`", said) for key, said in engine.meanings(name).items()]

    return page(
        "Ops",
        "`csim/csim.h`",
        "A policy is a list of ops per handler. The clock and the explorer run the same list.\n",
        "## Handlers\n",
        table(("handler", "when"), family("handler")),
        "## Ops\n",
        table(("op", "meaning"), family("op")),
        "## Conditions\n",
        "What `when` can test.\n",
        table(("condition", "holds when"), family("atom")),
    )


def step_lines(steps: Iterable[ops.Steps], indent: str = "") -> Iterable[str]:
    """Yield a handler as indented text, one step a line, with the kernel's instruction."""
    for step in steps:
        if isinstance(step, ops.When):
            yield f"{indent}when {step.condition}:"
            yield from step_lines(step.then, indent + "    ")
            if step.otherwise:
                yield f"{indent}otherwise:"
                yield from step_lines(step.otherwise, indent + "    ")
        else:
            yield f"{indent}{step.text}" + (f"    [{step.insn}]" if step.insn else "")


def policies_page() -> str:
    """Return every policy: what it follows, and its handlers as they are lowered."""
    rows = []
    sections = []
    first: dict[tuple[str, str], str] = {}
    for policy in POLICIES:
        doc = inspect.cleandoc(type(policy).__doc__ or "")
        rows.append((f"`{policy.name}`", policy.source, doc.splitlines()[0]))
        parts = [f"## {policy.name}\n", doc + "\n"]
        known: dict[str, list[str]] = {}
        for handler, steps in ops.handlers(policy).items():
            text = "\n".join(step_lines(steps))
            owner = first.setdefault((handler, text), policy.name)
            if owner == policy.name:
                parts.append(f"`{handler}`\n\n```\n{text}\n```\n")
            else:
                known.setdefault(owner, []).append(f"`{handler}`")
        parts += [f"As in {owner}: {', '.join(names)}.\n" for owner, names in known.items()]
        sections.append("\n".join(parts))
    return page(
        "Policies",
        "`pysim/policies/`",
        "What a kernel owes after it stored a PTE, one handler per moment (see [ops](ops.md)).\n",
        table(("policy", "follows", "in a sentence"), rows),
        *sections,
    )


def machine_values(machine: machines.Machine) -> dict[str, tuple[str, str]]:
    """Return each field of a machine with its value, as text, and who vouches for it.

    An array of a translation cache is one field: its shape, who leaves, what levels it holds.
    """
    found = {}
    for path, value in machine.flat().items():
        whole, _, last = path.rpartition(".")
        if not whole:
            shown = "unknown" if value is None else str(value).lower()
            found[path] = shown, machine.provenance(path)
        elif last == "ways":
            cache, _, part = whole.partition(".")
            array = getattr(getattr(machine, cache), part)
            held = "".join(f" {level}" for level in array.levels)
            shown = f"{array}, {array.policy}, level{held}" if array.ways else "absent"
            found[whole] = shown, machine.provenance(path)
    return found


def by_source(values: dict[str, tuple[str, str]]) -> str:
    """Return a table of values grouped by who vouches for them."""
    grouped: dict[str, list[str]] = {}
    for path, (shown, source) in values.items():
        grouped.setdefault(source, []).append(f"`{path}` {shown}")
    return table(("source", "values"), ((s, "; ".join(v)) for s, v in grouped.items()))


def machines_page() -> str:
    """Return every machine preset: its shape, its fields and the source of each value."""
    presets = [machines.load(name) for name in machines.PRESETS]
    shapes = [
        (
            *(f"`{m.name}`", m.title, m.mhz, m.harts, m.mode, m.l1i, m.l1d, m.l2, m.pwc),
            *(m.caches_invalid, m.fence_all_cycles, m.via),
        )
        for m in presets
    ]
    values = [machine_values(m) for m in presets]
    fields = [
        (f"`{path}`", "array" if "." in path else machines.unit(path), machines.description(path))
        for path in values[0]
    ]
    shared = dict(set.intersection(*(set(v.items()) for v in values)))
    sections = [
        f"## {m.name}\n\n{m.title}\n\n"
        + by_source({path: row for path, row in own.items() if path not in shared})
        for m, own in zip(presets, values, strict=True)
    ]
    return page(
        "Machines",
        "`pysim/machines/*.toml`",
        table(
            (
                *("machine", "what it is", "MHz", "harts", "mode", "L1 I", "L1 D", "L2"),
                *("page-walk cache", "caches invalid PTEs", "full fence, cycles", "remote fences"),
            ),
            shapes,
        ),
        "FA: fully associative. `32x4`: 32 sets of 4 ways. `+`: an array for superpages.\n",
        "## Fields\n",
        table(("field", "unit", "meaning"), fields),
        "## Shared by all\n",
        by_source({path: row for path, row in values[0].items() if path in shared}),
        *sections,
    )


def workloads_page() -> str:
    """Return every workload preset: its fields, their values and sources."""
    presets = [workloads.load(name) for name in workloads.WORKLOADS]
    described = workloads.Workload.model_fields
    hidden = {"name", "title", "sources"}
    fields = [
        (f"`{name}`", field.description) for name, field in described.items() if name not in hidden
    ]
    sections = []
    for workload in presets:
        values = [
            (workload.sources.get(name, "default"), f"`{name}` {getattr(workload, name)}")
            for name in described
            if name not in hidden and getattr(workload, name) != ""
        ]
        rows = [
            (source, "; ".join(value for _, value in group))
            for source, group in groupby(sorted(values), key=lambda row: row[0])
        ]
        sections.append(
            f"## {workload.name}\n\n{workload.title}\n\n{table(('source', 'values'), rows)}"
        )
    return page(
        "Workloads",
        "`pysim/workloads/*.toml`",
        table(("workload", "what it is"), [(f"`{w.name}`", w.title) for w in presets]),
        "## Fields\n",
        table(("field", "meaning"), fields),
        *sections,
    )


def verdicts_page() -> str:
    """Return the verdicts of every policy in every scenario."""
    from sweeps import verdicts

    return verdicts.page()


PAGES: Final[dict[str, Callable[[], str]]] = {
    "counters.md": counters_page,
    "machines.md": machines_page,
    "ops.md": ops_page,
    "policies.md": policies_page,
    "verdicts.md": verdicts_page,
    "workloads.md": workloads_page,
}


_TABLE: Final = r"(?<=<!-- table: {} -->\n).*?(?=<!-- end -->)"
LEAD: Final = re.compile(_TABLE.format("lead"), re.DOTALL)
SCORES: Final = re.compile(_TABLE.format("validate"), re.DOTALL)


def readme_with_lead(readme: str, quickstart: str) -> str:
    """Return the README with the quickstart's first table between its marks."""
    block = re.search(r"^\*\*.*?\n\n(?:\|.*\n)+", quickstart, re.MULTILINE)
    return _with_table(readme, LEAD, block)


def readme_with_scores(readme: str, validated: str) -> str:
    """Return the README with the scoreboard's summary between its marks."""
    return _with_table(readme, SCORES, re.search(r"^(?:\|.*\n)+", validated, re.MULTILINE))


def _with_table(readme: str, place: re.Pattern[str], block: re.Match[str] | None) -> str:
    if block is None or place.search(readme) is None:
        raise InputError("README.md", "table", "no place for the table, or no table")
    return place.sub(lambda _: f"\n{block[0]}\n", readme)


def _write_scores(folder: Path) -> None:
    """Write the scoreboard and its summary in the README, if the counts of real kernels are there.

    Without them the page would lose its rows, so it is left as it is.
    """
    from pysim import validate
    from sweeps import score_pages

    if validate.shared_counts() is None:
        print("validate.md is left as it is: no recorded kernels (FENCELAB_SHARED)",
              file=sys.stderr)
        return
    text = score_pages.page(validate.validate())
    (folder / "validate.md").write_text(text)
    readme = folder.parent.parent / "README.md"
    if readme.is_file():
        readme.write_text(readme_with_scores(readme.read_text(), text))


def main(arguments: Sequence[str]) -> int:
    """Write every page into the folder named, or the lead table into a README; 2: neither."""
    if len(arguments) == 3 and arguments[0] == "readme":
        readme, quickstart = Path(arguments[1]), Path(arguments[2])
        readme.write_text(readme_with_lead(readme.read_text(), quickstart.read_text()))
        return 0
    if len(arguments) != 1:
        print("usage: python -m sweeps.reference_tables FOLDER | readme README QUICKSTART",
              file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in PAGES.items():
        (folder / name).write_text(text())
    _write_scores(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
