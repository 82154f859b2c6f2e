"""The command `fencelab check`: asks the explorer, prints verdicts and counterexamples.

Exit status: 0 verified, 1 refuted, 2 bad input, 4 unknown (a limit was reached), 5 internal (a
counterexample did not replay). Imports stand inside, as in ``sweeps.cli``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sweeps.cli_sweep import EXECUTORS, STORE, asked_through

if TYPE_CHECKING:
    from pysim.check import Anywhere, Checked, Search
    from pysim.engine import Stop
    from pysim.litmus import Litmus, Parameters
    from pysim.ops import Policy
    from sweeps.matrix import Asked, Verdict
    from sweeps.tables import Table

FORMATS: Final = ("plain", "github", "json")
STATUS: Final = {"verified": 0, "refuted": 1, "unknown": 4}
INTERNAL: Final = 5
_UNITS: Final = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
#: A timeline goes into a mail: its columns share 96 characters, and none has fewer than 20.
_MAIL_COLUMNS: Final = 96
_COLUMN_LEAST: Final = 20


def _bytes(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Return the number of bytes of an amount of memory: 4096, 512M, 2G."""
    text = value.strip().lower().removesuffix("b").removesuffix("i")
    number, unit = (text[:-1], text[-1:]) if text[-1:].isalpha() else (text, "")
    if not number.isdecimal() or unit not in _UNITS:
        raise click.BadParameter(f"{value!r} is not an amount of memory, as 4096, 512M or 2G",
                                 ctx, param)
    return int(number) * _UNITS[unit]


@click.command()
@click.argument("policy", required=False, metavar="[POLICY|FILE.py[:NAME]]")
@click.option("--all", "everything", is_flag=True, help="Every policy in every scenario.")
@click.option("--scenario", metavar="NAME|FILE.toml", help="Default: all of them.")
@click.option("--harts", type=click.IntRange(2, 6), default=2, show_default=True)
@click.option("--order", type=click.Choice(["pso", "tso", "sc"]), default="pso", show_default=True,
              help="How buffered stores reach memory; pso is RVWMO's, tso Ztso's.")
@click.option("--machine", default="spec", show_default=True, metavar="NAME|FILE|spec",
              help="What may be cached; spec: all that the manual allows. With --all several, "
                   "separated by commas.")
@click.option("--unbounded", is_flag=True, help="Any number of harts, pages and mappings.")
@click.option("--max-states", type=click.IntRange(min=1), default=100_000_000, show_default=True)
@click.option("--max-memory", callback=_bytes, default="1G", show_default=True, metavar="BYTES",
              help="As 4096, 512M or 2G.")
@click.option("--hash-seed", type=click.IntRange(0, 2**64 - 1), default=0, hidden=True)
@click.option("--executor", type=click.Choice(EXECUTORS), help="With --all: compute there, keep "
              "verdicts in the store.  [default: here, nothing kept]")
@click.option("--address", help="ray: local, HOST:PORT or ray://HOST:PORT.")
@click.option("--workers", type=click.IntRange(min=1), help="Default: every core there is.")
@click.option("--store", type=click.Path(dir_okay=False), help="Where verdicts are kept; running "
              f"again computes only what is missing.  [default: {STORE}]")
@click.option("--timeline", type=click.Path(dir_okay=False, writable=True), metavar="OUT.json",
              help="Write the counterexample as a Chrome trace.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="plain", show_default=True)
def check(policy: str | None, everything: bool, **given: Any) -> int:
    """Is a policy safe? Every interleaving of a small machine, or a shortest counterexample."""
    from pysim import engine
    from pysim.check import Search, UnreplayableError, machine_parameters
    from pysim.litmus import Parameters

    stop = engine.Stop()
    search = Search(max_states=given["max_states"], max_memory_bytes=given["max_memory"],
                    hash_seed=given["hash_seed"], stop=stop)
    if everything == (policy is not None):
        raise click.UsageError("one policy (see `fencelab policies`), or --all")
    if not everything and any(given[name] for name in ("executor", "address", "workers", "store")):
        raise click.UsageError("--executor, --address, --workers and --store need --all")
    names = given["machine"].split(",") if everything else [given["machine"]]
    machines = {name: machine_parameters(name, Parameters(order=given["order"])) for name in names}
    assumed = machines[names[0]]

    def work() -> int:
        if everything:
            return _all(given, machines, search)
        if given["unbounded"]:
            return _unbounded(str(policy), given, assumed, search)
        return _one(str(policy), given, assumed, search)

    try:
        if given["executor"] or given["store"]:
            return work()               # it drains on Ctrl-C by itself
        return _interruptible(work, stop)
    except UnreplayableError as error:
        print(f"fencelab: internal error: {error}", file=sys.stderr)
        return INTERNAL


def _interruptible(work: Callable[[], int], stop: Stop) -> int:
    """Work beside the main thread, where alone Ctrl-C arrives; it ends the search under way."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        try:
            return pool.submit(work).result()
        except KeyboardInterrupt:
            stop.set()
            raise


def _scenarios(given: dict[str, Any]) -> list[Litmus]:
    """Return the scenarios asked for: a file's, one by name, or all."""
    from pysim import litmus

    name, harts = given["scenario"], given["harts"]
    if name is None:
        return [litmus.find(known, harts=harts, where="check") for known in litmus.names()]
    if name.endswith(".toml"):
        found = litmus.load(Path(name))
        if harts not in (2, found.harts):
            raise click.UsageError(f"{name} is about {found.harts} harts: leave --harts out")
        return [found]
    return [litmus.find(name, harts=harts, where="check")]


def _status(verdicts: Iterable[str]) -> int:
    from pysim.check import worst

    return STATUS[worst(list(verdicts))]


def _show(tables: Sequence[Table], form: str) -> None:
    from sweeps.tables import render

    click.echo(render(tables, form))


def _text_table(title: str, names: Sequence[str], rows: Iterable[Sequence[Any]],
                notes: Sequence[str] = (), wraps: Mapping[str, int] | None = None) -> Table:
    from sweeps.tables import Column, Table

    columns = tuple(Column(name=name, style="text", wrap_columns=(wraps or {}).get(name))
                    for name in names)
    return Table(title=title, columns=columns, rows=tuple(tuple(map(str, row)) for row in rows),
                 notes=tuple(notes))


# ---- every policy -------------------------------------------------------------------------------


def _all(given: dict[str, Any], machines: Mapping[str, Sequence[Parameters]],
         search: Search) -> int:
    """Print policy (and machine) by scenario; a cell is the first verdict that is not `ok`."""
    from pysim import ops
    from pysim.policies import POLICIES
    from sweeps import matrix

    scenarios = _scenarios(given)
    asked = matrix.questions([ops.lower(policy) for policy in POLICIES], scenarios, machines,
                             search)
    if given["executor"] or given["store"]:
        records, status = asked_through(asked, given, matrix.answer)
        found = {key: matrix.read(record) for key, record in records.items()}
    else:
        found = {one.key: matrix.read(matrix.answer_with(one, search)) for one in asked}
        status = 0
    cells = _cells(asked, found)
    _print_matrix(given, machines, [scenario.name for scenario in scenarios], cells)
    return status or (STATUS["unknown"] if "?" in cells.values() else STATUS["verified"])


def _cells(asked: Sequence[Asked], found: dict[str, Verdict]) -> dict[tuple[str, str, str], str]:
    """Return the cell of (policy, machine, scenario): the worst of what was asked of it."""
    order = ("verified", "unknown", "refuted", "refused")
    worst: dict[tuple[str, str, str], Verdict | None] = {}
    for one in asked:
        at = (one.policy, one.machine, one.scenario.name)
        verdict, before = found.get(one.key), worst.get(at)
        if at not in worst or verdict is None or (
                before is not None and order.index(verdict.verdict) > order.index(before.verdict)):
            worst[at] = verdict
    return {at: "missing" if verdict is None else verdict.cell for at, verdict in worst.items()}


def _print_matrix(given: dict[str, Any], machines: Mapping[str, Sequence[Parameters]],
                  scenarios: Sequence[str], cells: dict[tuple[str, str, str], str]) -> None:
    several = len(machines) > 1
    names = ["policy", *["machine"] * several, *scenarios]
    heads = dict.fromkeys((policy, machine) for policy, machine, _ in cells)
    rows = [[policy, *[machine] * several, *(cells[policy, machine, name] for name in scenarios)]
            for policy, machine in heads]
    if given["form"] == "json":
        parameters = {name: [asdict(one) for one in assumed] for name, assumed in machines.items()}
        said = [dict(zip(names, row, strict=True)) for row in rows]
        click.echo(json.dumps({"parameters": parameters, "verdicts": said}, indent=1))
        return
    title = f"{given['harts']} harts, machine {given['machine']}, stores {given['order']}"
    notes = ["ok: verified; S2@24: refuted by S2, shortest counterexample 24 steps"]
    _show([_text_table(title, names, rows, notes)], given["form"])


# ---- one policy ---------------------------------------------------------------------------------


def _one(name: str, given: dict[str, Any], assumed: Sequence[Parameters], search: Search) -> int:
    """Print the verdict of one policy, and the first counterexample in full."""
    from pysim import check as checks

    policy = checks.load_policy(name)
    program = checks.lower(policy)
    found = [checks.check(program, scenario, each, search)
             for scenario in _scenarios(given) for each in assumed]
    refuted = next((one for one in found if one.verdict == "refuted"), None)
    _write_timeline(refuted, given["timeline"])
    if given["form"] == "json":
        documents = [_document(one) for one in found]
        click.echo(json.dumps(documents[0] if len(documents) == 1 else documents, indent=1))
    else:
        _print_one(policy, found, refuted, search, given["form"])
    return _status(one.verdict for one in found)


def _write_timeline(refuted: Checked | None, path: str | None) -> None:
    from pysim import timeline
    from pysim.errors import InputError

    if path is None:
        return
    if refuted is None:
        print("fencelab: nothing was refuted: no timeline was written", file=sys.stderr)
        return
    try:
        Path(path).write_text(timeline.chrome(refuted) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(path, "timeline", f"cannot be written: {error.strerror}") from error


def _print_one(policy: Policy, found: Sequence[Checked], refuted: Checked | None, search: Search,
               form: str) -> None:
    rows = [(one.scenario.name, _said(one), one.found.states, one.found.transitions,
             _machine(one.parameters)) for one in found]
    names = ("scenario", "verdict", "states", "transitions", "machine")
    shown = refuted or found[0]
    tables = [_text_table(f"policy {policy.name}", names, rows, _notes(found))]
    if refuted is not None:
        tables += [_counterexample(refuted), _where_it_breaks(refuted, search),
                   _what_would_help(policy, refuted, search)]
    _show(tables, form)
    click.echo("\nThis rests on:\n" + "\n".join(f"- {text}" for text in shown.assumptions))


def _said(checked: Checked) -> str:
    found = checked.found
    if checked.verdict == "refuted":
        return f"refuted: {found.property} in {found.length} steps"
    if checked.verdict == "unknown":
        return f"unknown ({_LIMITS[found.limit]}); nothing within {found.depth} steps"
    return "verified"


_LIMITS: Final = {
    "states": "max-states reached",
    "memory": "max-memory reached",
    "stores": "a store buffer overflowed",
    "interrupted": "interrupted",
}


def _machine(parameters: Parameters) -> str:
    """Return the parameters in a few words."""
    kept = {"cache": "invalid PTEs cached", "reorder": "early walks", "none": "no invalid PTEs"}
    words = [f"stores {parameters.order}", kept[parameters.invalid]]
    if parameters.invalid == "cache" and not parameters.nonleaf:
        words.append("leaves only")
    if parameters.tlb == "single":
        words.append("one entry a page")
    if parameters.svvptc:
        words.append("Svvptc" if parameters.svvptc_k is None else f"Svvptc k={parameters.svvptc_k}")
    return ", ".join([*words, f"fences via {parameters.via}"])


def _notes(found: Sequence[Checked]) -> list[str]:
    early = [one for one in found if one.found.s5_length is not None]
    return [f"{one.scenario.name}: S5 (nobody may still miss what was marked for it) fails after "
            f"{one.found.s5_length} steps" for one in early]


def _counterexample(checked: Checked) -> Table:
    """Return the timeline: a column for each hart and one for memory."""
    from pysim import timeline

    harts = checked.scenario.harts
    rows = []
    for line in timeline.lines(checked):
        at = harts if line.column is None else line.column
        rows.append([line.number, *(str(line) if column == at else ""
                                    for column in range(harts + 1))])
    title = (f"{checked.scenario.name}: {checked.scenario.question}\n"
             f"a shortest counterexample, {checked.found.length} steps")
    tracks = [*(f"hart {h}" for h in range(harts)), "memory"]
    each = max(_COLUMN_LEAST, _MAIL_COLUMNS // len(tracks) - 2)     # two spaces stand between
    return _text_table(title, ["step", *tracks], rows, [timeline.ending(checked)],
                       dict.fromkeys(tracks, each))


def _where_it_breaks(checked: Checked, search: Search) -> Table:
    """Return on which hardware the scenario is refuted: orders of stores by kinds of TLB."""
    from pysim import check as checks

    grid = checks.hardware(checked.program, checked.scenario, checked.parameters, search)
    rows = [(kind, *(one.cell for one in by_order.values())) for kind, by_order in grid.items()]
    orders = list(next(iter(grid.values())))
    return _text_table("on which hardware", ["invalid PTEs cached", *orders], rows,
                       ["spec: all that the manual allows; leaves only: non-leaf ones are not; "
                        "early walks: not cached, but a walk may miss a store; none: neither"])


def _what_would_help(policy: Policy, checked: Checked, search: Search) -> Table:
    """Return single changes of the policy that make the scenario pass."""
    from pysim import litmus, repair

    known = [litmus.find(name, harts=2) for name in litmus.names()]
    repairs = repair.find(policy, checked.scenario, checked.parameters, search, others=known)
    rows = [(one.text, ", ".join(one.others) or "none", ", ".join(one.worse) or "none")
            for one in repairs]
    names = ["single change that makes it pass", "still refuted", "refuted by it"]
    return _text_table("what would help", names, rows or [("none was found", "", "")],
                       wraps={names[0]: 60})


def _document(checked: Checked) -> dict[str, Any]:
    """Return a verdict for programs."""
    from pysim import timeline

    found = checked.found
    refuted = checked.verdict == "refuted"
    return {
        "policy": checked.policy,
        "scenario": checked.scenario.name,
        "parameters": asdict(checked.parameters),
        "harts": checked.scenario.harts,
        "verdict": checked.verdict,
        "property": found.property or None,
        "meaning": timeline.ending(checked) if refuted else None,
        "length": found.length if refuted else None,
        "limit": found.limit or None,
        "depth": found.depth,
        "s5_length": found.s5_length,
        "states": found.states,
        "transitions": found.transitions,
        "exact": checked.exact,
        "assumptions": list(checked.assumptions),
        "steps": [asdict(line) for line in timeline.lines(checked)],
    }


# ---- any number of harts ------------------------------------------------------------------------


def _unbounded(name: str, given: dict[str, Any], assumed: Sequence[Parameters],
               search: Search) -> int:
    """Print the proof for any number of harts, or what stands in its way."""
    from pysim import check as checks

    if given["scenario"] is not None:
        raise click.UsageError("--unbounded has scenarios of its own: leave --scenario out")
    if given["harts"] != 2:
        raise click.UsageError("--unbounded is about any number of harts: leave --harts out")
    policy = checks.load_policy(name)
    program = checks.lower(policy)
    found = [one for each in assumed for one in checks.anywhere(program, each, search)]
    confirmed = next((one.confirmed for one in found if one.confirmed is not None), None)
    _write_timeline(confirmed, given["timeline"])
    if given["form"] == "json":
        click.echo(json.dumps([_any_document(one) for one in found], indent=1))
    else:
        rows = [(one.chaos.scenario.name, _any_said(one), one.chaos.found.states,
                 one.chaos.found.transitions, _machine(one.chaos.parameters)) for one in found]
        names = ("any number of harts", "verdict", "states", "transitions", "machine")
        tables = [_text_table(f"policy {policy.name}", names, rows)]
        if confirmed is not None:
            tables.append(_counterexample(confirmed))
        _show(tables, given["form"])
        click.echo("\nThis rests on:\n"
                   + "\n".join(f"- {text}" for text in found[0].chaos.assumptions))
    return _status(one.verdict for one in found)


def _any_said(one: Anywhere) -> str:
    if one.chaos.verdict != "refuted":
        return _said(one.chaos)
    property_ = one.chaos.found.property
    if one.confirmed is None:
        return f"unknown: {property_} under chaos, in no bounded scenario"
    where = one.confirmed.scenario
    return (f"refuted: {one.confirmed.found.property} in {where.name}, {where.harts} harts "
            f"({property_} under chaos)")


def _any_document(one: Anywhere) -> dict[str, Any]:
    confirmed = None if one.confirmed is None else _document(one.confirmed)
    return {**_document(one.chaos), "verdict": one.verdict, "chaos": one.chaos.verdict,
            "confirmed_by": confirmed}

