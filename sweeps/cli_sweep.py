"""The commands of sweeps: ``fencelab sweep`` and the JSON Schema of its files."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pysim.errors import InputError
from sweeps.cli_parts import FORMATS, F, Real

if TYPE_CHECKING:
    from sweeps.asking import Question
    from sweeps.executors.shard import Executor, Simulate
    from sweeps.grid import Changes, Sweep
    from sweeps.metrics import Row
    from sweeps.points import Points
    from sweeps.report import Section
    from sweeps.run import Outcome
    from sweeps.tables import Table

EXECUTORS: Final = ("processes", "threads", "ray")
STORE: Final = "fencelab.db"


def executing(command: F) -> F:
    """Give a command the options that choose an executor and what one run may take."""
    options = (
        click.option("--executor", type=click.Choice(EXECUTORS), default="processes",
                     show_default=True, help="Where runs are computed."),
        click.option("--address", help="ray: local, HOST:PORT or ray://HOST:PORT."),
        click.option("--workers", type=click.IntRange(min=1),
                     help="Default: every core there is."),
        click.option("--timeout-s", type=Real(min=0, min_open=True),
                     help="A run that takes longer has failed."),
        click.option("--memory-mib", type=click.IntRange(min=1),
                     help="A run that takes more memory has failed (processes, ray)."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def executor_of(*, executor: str, address: str | None, workers: int | None,
                timeout_s: float | None, memory_mib: int | None,
                ask: Simulate | None = None) -> Executor:
    """Return the executor of these options; only `ray` takes an address."""
    from sweeps.executors.shard import Limits, simulate

    if address is not None and executor != "ray":
        raise click.UsageError(f"--address is for --executor ray, not for {executor}")
    if memory_mib is not None and executor == "threads":
        raise click.UsageError("--memory-mib needs a process of its own, not threads")
    limits = Limits(timeout_s, memory_mib)
    if executor == "ray":
        from sweeps.executors.ray import Ray
        return Ray(address, workers, ask or simulate, limits)
    from sweeps.executors import local
    made = local.Threads if executor == "threads" else local.Processes
    return made(workers, ask or simulate, limits)


def asked_through(asked: Sequence[Question], given: Mapping[str, Any],
                  answer: Simulate) -> tuple[dict[str, bytes], int]:
    """Compute through an executor what the store lacks; return records and an exit status.

    ``given`` are the options executor, address, workers and store, None where not given.
    """
    from sweeps import asking

    path = Path(given["store"] or STORE)
    executor = executor_of(executor=given["executor"] or "processes", address=given["address"],
                           workers=given["workers"], timeout_s=None, memory_mib=None, ask=answer)
    answered = asking.ask(asked, path, executor)
    return answered.records, answered.tell(path)


@click.command()
@click.argument("name", metavar="NAME|FILE.toml")
@executing
@click.option("--store", default=STORE, show_default=True, type=click.Path(dir_okay=False),
              help="Where records are kept; running again computes only what is missing.")
@click.option("--seeds", type=click.IntRange(1, 10_000), help="Replicates instead of the file's.")
@click.option("--set", "sets", multiple=True, metavar="FIELD=VALUE",
              help="Fix a field of every point; an axis of that name has this one value.")
@click.option("--axis", "axes", multiple=True, metavar="FIELD=VALUE,...",
              help="Vary a field over these values instead of the file's.")
@click.option("--retry-failed", is_flag=True, help="Ask again what failed earlier.")
@click.option("--dry-run", is_flag=True, help="Say what would run, how long and in how much "
              "memory; store nothing.")
@click.option("--live", is_flag=True, help="Redraw a table of running means (on a terminal).")
@click.option("--summary", type=click.Path(dir_okay=False),
              help="What became of it, as JSON; default: STORE.summary.json.")
@click.option("--report", metavar="OUT.html",
              help="Write tables and pictures to one file too; needs matplotlib.")
@click.option("--format", "form", type=click.Choice((*FORMATS, "latex")), default="plain",
              show_default=True, help="How tables are printed.")
def sweep(form: str, name: str, store: str, seeds: int | None, sets: Sequence[str],
          axes: Sequence[str], summary: str | None, report: str | None, *, retry_failed: bool,
          dry_run: bool, live: bool, **chosen: Any) -> int:
    """Many runs, kept in a store: a sweep file asks, tables answer."""
    from sweeps import grid
    from sweeps import run as runs

    if report is not None:
        from sweeps import report as reports
        reports.check(report)
    if summary is not None and not Path(summary).parent.is_dir():
        raise InputError("options", "summary", f"no folder {str(Path(summary).parent)!r}")
    sections: list[Section] | None = None if report is None else []
    changes = _changes(sets, axes, seeds)
    found = [(one, grid.expand(one)) for one in grid.questions(name, changes)]
    total: Outcome | None = None
    for number, (asked, points) in enumerate(found):
        if number:
            click.echo("")
        if dry_run:
            _dry_run(asked, points, chosen, Path(store), form)
            continue
        outcome = _ask(asked, points, executor_of(**chosen), Path(store), form,
                       retry_failed=retry_failed, live=live, sections=sections)
        total = outcome if total is None else runs.together(total, outcome)
        if outcome.missing:
            break
    if total is None:
        return 0
    said = runs.summary(total, Path(store), total.exit_status)
    runs.write_summary(said, Path(summary or f"{store}.summary.json"))
    if report is not None and sections and not total.missing:
        about = {"command": said["command"], "store": store, **said["versions"]}
        reports.write(sections, {key: str(value) for key, value in about.items()}, Path(report))
    return total.exit_status


def _ask(asked: Sweep, points: Points, executor: Executor, store: Path, form: str, *,
         retry_failed: bool, live: bool, sections: list[Section] | None = None) -> Outcome:
    """Answer one question and print it, unless it was interrupted; note it for a report."""
    from sweeps import metrics

    outcome, rows = answer(asked, points, executor, store, retry_failed=retry_failed, live=live)
    if not outcome.missing and rows:
        shown = asked.report.metrics or metrics.DEFAULT
        axes = list(points[0].coordinates)
        _show(asked, axes, rows, shown, outcome, form)
        if sections is not None:
            sections.append(_section(asked, axes, rows, shown))
    return outcome


def _section(asked: Sweep, axes: Sequence[str], rows: Sequence[Row], shown: Sequence[str]
             ) -> Section:
    """Return an answer as a report shows it: a picture of every table by rows and columns."""
    from sweeps import plots, report, tables

    told = asked.report
    others = [axis for axis in axes if axis not in (told.rows, told.columns)]
    pictures = [plots.lines(title or asked.question.splitlines()[0], found, told.rows, told.columns,
                            told.cells)
                for title, found in tables.groups(rows, others)] if told.columns in axes else []
    return report.Section(name=Path(asked.where).stem, question=asked.question,
                          tables=tuple(_tables(asked, axes, rows, shown)),
                          pictures=tuple(pictures))


def _changes(sets: Sequence[str], axes: Sequence[str], seeds: int | None) -> Changes:
    from sweeps import grid

    def parts(option: str, text: str) -> tuple[str, str]:
        path, found, given = text.partition("=")
        if not found or not path or not given:
            raise InputError(option, "", f"FIELD=VALUE is wanted, got {text!r}")
        return path.strip(), given.strip()

    def values(given: str) -> Any:
        whole = grid.value(given)
        if isinstance(whole, list | dict):
            return whole
        return [grid.value(part.strip()) for part in given.split(",")]

    return grid.Changes(
        sets={path: grid.value(given) for path, given in (parts("--set", one) for one in sets)},
        axes={path: values(given) for path, given in (parts("--axis", one) for one in axes)},
        seeds=seeds)


def answer(asked: Sweep, points: Points, executor: Executor, store: Path, *, kept: bool = True,
           retry_failed: bool = False, live: bool = False) -> tuple[Outcome, list[Row]]:
    """Compute what the store lacks, round by round, say so, and reduce what it then has."""
    from pysim.scenario import Lowering
    from sweeps import run as runs
    from sweeps.executors.shard import Stop
    from sweeps.progress import Watcher
    from sweeps.store import Store

    stop, lower = Stop(), Lowering()
    watch = Watcher() if live else None
    with runs.interruptible(stop):
        planned = runs.plan(_first(asked, points).scenarios, lower, stop=stop)
        with Store(store, write=True) as opened:
            points, planned, outcome, rows = _rounds(
                asked, points, planned, lambda planned: runs.run(
                    planned, opened, executor, stop=stop, retry_failed=retry_failed, watch=watch),
                opened.result)
            if kept:
                runs.say(outcome, planned, store)
            else:
                runs.say_failures(outcome, planned)
    return outcome, rows


def _first(asked: Sweep, points: Points) -> Points:
    from sweeps import points as made
    from sweeps import search

    if asked.until is None and asked.halving is None:
        return points
    return made.Points(points.cells, search.first_round(asked, len(points.cells)))


def _rounds(asked: Sweep, points: Points, planned: Any, run: Any, load: Any
            ) -> tuple[Points, Any, Outcome, list[Row]]:
    """Go round until nothing more is wanted; one round where replicates are fixed."""
    from sweeps import metrics, search
    from sweeps import points as made
    from sweeps import run as runs
    from sweeps.executors.shard import Stop

    points, total = _first(asked, points), None
    names = list(dict.fromkeys([*(asked.report.metrics or metrics.DEFAULT), asked.report.cells,
                                *(metric for _, metric in asked.goals)]))
    while True:
        outcome = run(planned)
        total = outcome if total is None else runs.added(total, outcome)
        rows = metrics.of_points(points, planned.keys, load, names,
                                 rows=asked.report.rows, baseline=asked.report.baseline)
        counts = None if outcome.missing else search.next_round(
            asked, [row.replicates for row in rows], rows)
        if counts is None:
            return points, planned, total, rows
        print(f"{len(points)} points so far, {sum(counts) - len(points)} more wanted",
              file=sys.stderr)
        points = made.Points(points.cells, counts)
        planned = runs.plan(points.scenarios, planned.lower, stop=Stop())


def _dry_run(asked: Sweep, points: Points, chosen: dict[str, Any], store: Path, form: str
             ) -> None:
    from pysim.scenario import Lowering
    from sweeps import forecast, tables
    from sweeps import run as runs
    from sweeps.executors.shard import Stop

    stop = Stop()
    with runs.interruptible(stop):
        planned = runs.plan(_first(asked, points).scenarios, Lowering(), stop=stop)
        told = forecast.of_plan(planned, points, store, executor_of(**chosen),
                                chosen["workers"], stop=stop)
    click.echo(tables.render([replace(told.table(), title=f"{asked.where}: what would run")], form))


def _show(asked: Sweep, axes: Sequence[str], rows: Sequence[Row], shown: Sequence[str],
          outcome: Outcome, form: str) -> None:
    """Print a sweep's answer: tables for people, one line per point for programs."""
    from sweeps import search, tables

    if form in ("csv", "json"):
        rule = search.rule(asked)
        head = {"question": asked.question, "stopping_rule": rule, "computed": outcome.computed,
                "stored": outcome.stored, "failed": len(outcome.failed)}
        click.echo(tables.render([tables.tidy(axes, rows, shown)], form, head))
        return
    question = asked.question
    click.echo("\n".join(f"% {line}" for line in question.splitlines()) if form == "latex"
               else question)
    click.echo("\n" + tables.render(_tables(asked, axes, rows, shown), form))


def _tables(asked: Sweep, axes: Sequence[str], rows: Sequence[Row], shown: Sequence[str]
            ) -> list[Table]:
    """Return a sweep's answer as tables for people."""
    from sweeps import search, tables

    rule = search.rule(asked)
    found = tables.of_sweep(asked.report, axes, rows, shown)
    if asked.goal:
        within = asked.halving.within if asked.halving else ()
        chosen = search.best(asked.goals[0], rows, within)
        found.append(tables.by_metric(f"best: {asked.goal}", axes, chosen, shown,
                                      asked.report.baseline))
    elif asked.report.pareto:
        chosen = search.front(asked.goals, rows)
        found.append(tables.by_metric(f"not beaten in both: {', '.join(asked.report.pareto)}", axes,
                                      chosen, shown, asked.report.baseline))
    if rule:
        counts = [row.replicates for row in rows]
        found[-1] = tables.noted(found[-1], f"{min(counts)} to {max(counts)} replicates a point. "
                                 f"{rule}")
    return found


@click.command()
def schema() -> int:
    """Print the JSON Schema of sweep files: every key, its meaning and unit."""
    from sweeps import schema as made

    click.echo(json.dumps(made.of_sweep(), indent=1))
    return 0
