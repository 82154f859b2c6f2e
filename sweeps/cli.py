"""The command line: parses, calls, prints; decides nothing and computes nothing.

Imports stand inside the commands, so that `fencelab --help` answers at once. Results go to standard
output, everything else to standard error. Exit status: 0 done, 1 some configurations failed or a
validation did not hold, 2 bad input (one line says where, key and reason), 3 a comparison found a
regression, 4 nothing was measured, 130 interrupted with everything finished kept.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pysim.errors import FencelabError, InputError
from sweeps.cli_check import check
from sweeps.cli_compare import compare
from sweeps.cli_parts import F, Nearest, formatted
from sweeps.cli_sensitivity import sensitivity
from sweeps.cli_store import store
from sweeps.cli_sweep import answer, schema, sweep
from sweeps.cli_validate import validate

if TYPE_CHECKING:
    from pysim.engine import Question, Result
    from pysim.scenario import Scenario
    from sweeps.tables import Table


def _scenario_options(command: F) -> F:
    """Give a command the options that make a scenario, the policy left out."""
    options = (
        click.option("--machine", required=True, metavar="NAME|FILE",
                     help="A preset (see `fencelab machines`) or a TOML file."),
        click.option("--harts", type=int, help="Default: the machine's own."),
        click.option("--seed", type=int, default=1, show_default=True, help="Root of every draw."),
        click.option("--nr-cpus", type=int, help="CONFIG_NR_CPUS; default: 64, or more if needed."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _version(ctx: click.Context) -> None:
    from pysim import engine
    from sweeps.run import version

    click.echo(f"fencelab {version() or 'from a checkout'}, engine {engine.BUILD_ID[:12]}")
    ctx.exit()


@click.group(cls=Nearest, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True,
              callback=lambda ctx, option, value: _version(ctx) if value else None,
              help="Show the version and the engine's build id, and exit.")
def cli() -> None:
    """What a new RISC-V kernel mapping must do so that every hart sees it, and what that costs."""


# ---- one run ----------------------------------------------------------------------------------


@cli.command()
@click.option("--policy", required=True, metavar="NAME|FILE.py:NAME",
              help="A mapping policy (see `fencelab policies`), or a class of your own; naming a "
              "file runs it, as your code.")
@_scenario_options
@click.option("--workload", default="fork", show_default=True, metavar="NAME|FILE",
              help="A preset or a TOML file.")
@click.option("--vmalloc-per-s", type=float, help="Kernel mappings per second, whole system.")
@click.option("--duration-ms", type=float, help="Useful time of each hart.")
@click.option("--timeline", type=click.Path(dir_okay=False, writable=True), metavar="OUT.json",
              help="Write what every hart does as a Chrome trace; for short runs.")
@formatted
@click.option("--per-hart", is_flag=True, help="Also what each hart counted.")
def run(form: str, workload: str, timeline: str | None, *, per_hart: bool, **given: Any) -> int:
    """Cost of one policy on one machine: counters, and overhead by cause."""
    from pysim import engine
    from pysim.scenario import lower
    from sweeps import endings, tables
    from sweeps.run import canonical

    changes = {name: given.pop(name) for name in ("vmalloc_per_s", "duration_ms")}
    scenario = _scenario(workload=_changed(workload, changes), **given)
    question = lower(scenario)
    if timeline is None:
        result = engine.simulate(question)
    else:
        result = _timeline(scenario, question, timeline)
    head = {"scenario": json.loads(canonical(scenario)), "verdict": result.verdict}
    shown = tables.of_run(scenario, result, form)
    if per_hart:
        each = tables.per_hart(engine.per_hart(question)[1])
        shown = [each] if form == "csv" else [*shown, each]
    if form != "csv":
        shown += endings.tables(question, result, scenario.machine.mhz)
    click.echo(tables.render(shown, form, head))
    return 0


def _timeline(scenario: Scenario, question: Question, path: str) -> Result:
    """Run with the log on and write it."""
    from pysim import engine, policies, run_timeline
    from pysim.policies import own

    result, log = engine.logged(question)
    program = own.lower(policies.find(scenario.policy), nr_cpus=scenario.nr_cpus)
    about = {"policy": scenario.policy, "machine": scenario.machine.name,
             "workload": scenario.workload.name, "verdict": result.verdict}
    text = run_timeline.chrome(log, program, harts=scenario.harts, mhz=scenario.machine.mhz,
                               about=about)
    try:
        Path(path).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(path, "timeline", f"cannot be written: {error.strerror}") from error
    return result


def _changed(workload: str, changes: dict[str, float | None]) -> Any:
    """Return a workload as `scenario.build` takes it: a name, or a name with changes."""
    said = {name: value for name, value in changes.items() if value is not None}
    return {"inherit": workload, **said} if said else workload


def _scenario(*, seed: int, **values: Any) -> Scenario:
    from pysim import scenario

    said = {name: value for name, value in values.items() if value is not None}
    return scenario.build({"root_seed": seed, **said}, "options")


@cli.command()
@click.argument("file")
@click.option("--policy", "policies", multiple=True, metavar="NAME|FILE.py:NAME",
              help="May be repeated; default: all but the broken ones.")
@click.option("--machine", default="sg2042", show_default=True, metavar="NAME|FILE")
@click.option("--harts", type=int, help="Default: as many as were recorded.")
@click.option("--rate-factor", type=float, default=1.0, show_default=True,
              help="The recorded gaps are divided by it.")
@click.option("--traced-mhz", type=int, default=0, help="Clock of the traced machine; default: "
              "this one's.")
@click.option("--recorded-policy", type=click.Choice(["", "mark", "preventive"]), default="",
              help="What the traced kernel did; its cost is no useful work.")
@click.option("--window", default="", metavar="NAME", help="Of an event log (.evt.gz): the "
              "workload to replay; default: all of it.")
@click.option("--visit-cycles", type=click.IntRange(min=1), help="Useful cycles per page visit; "
              "default: 400, or what makes 600 000 visits a hart of a long recording.")
@click.option("--seed", type=int, default=1, show_default=True, help="Root of every draw.")
@click.option("--seeds", type=click.IntRange(1, 1000), default=5, show_default=True,
              help="Replicates, with other draws each.")
@formatted
def replay(form: str, file: str, policies: Sequence[str], machine: str, harts: int | None,
           visit_cycles: int | None, seed: int, seeds: int, **given: Any) -> int:
    """Cost of policies under what a kernel did, recorded: an ftrace text or an event log."""
    from tempfile import TemporaryDirectory

    from pysim import eventlog
    from pysim.policies import POLICIES
    from pysim.policies.broken import BROKEN
    from pysim.workloads import replay as recordings
    from sweeps import grid, listings, metrics, tables
    from sweeps.executors.local import Threads

    found = recordings.recovered(file, given["window"])
    workload = {"inherit": "forkburst", "trace": file, **given}
    if eventlog.is_log(file):
        workload["user_faults_per_s"] = 0       # they are in the log
    base = {"machine": machine, "root_seed": seed,
            "harts": found.recorded_harts if harts is None else harts}
    workload["visit_cycles"] = visit_cycles or _affordable(base | {"workload": workload})
    asked = grid.Sweep(
        where="options", question=f"What does {file} cost?", seeds=seeds,
        axes={"policy": list(policies) or [p.name for p in POLICIES if p not in BROKEN]},
        base=base | {"workload": workload})
    points = grid.expand(asked)
    with TemporaryDirectory(prefix="fencelab-") as folder:
        outcome, rows = answer(asked, points, Threads(), Path(folder) / "replay.db", kept=False)
    if outcome.missing:
        return outcome.exit_status
    scenario = points[0].scenario
    visits = f"a page is visited every {workload['visit_cycles']:,} useful cycles (--visit-cycles)"
    about = listings.recording(found, [*scenario.notes, visits])
    table = tables.by_metric(f"{scenario.machine.name}, {scenario.harts} harts", ["policy"], rows,
                             metrics.DEFAULT, asked.report.baseline)
    _print_with(about, table, form)
    return outcome.exit_status


# assumed: enough page visits for the working set to be refilled after every fence of a recording
VISITS_A_HART: Final = 600_000


def _affordable(values: Mapping[str, Any]) -> int:
    """Return the workload's own visit_cycles, or what keeps a long recording to so many visits."""
    from pysim import scenario

    one = scenario.build({"policy": "none", **values}, "options")
    budget = one.workload.c_values(one.machine, one.seed, one.harts)["useful_cycles"]
    return max(one.workload.visit_cycles, -(-budget // VISITS_A_HART))


def _print_with(about: Table, table: Table, form: str) -> None:
    """Print a table after what it is about; CSV has one header, so there it goes to stderr."""
    from sweeps import tables

    if form == "csv":
        print(tables.render([about], "plain"), file=sys.stderr)
        click.echo(tables.render([table], form))
    else:
        click.echo(tables.render([about, table], form))


@cli.command()
@click.argument("machine", metavar="MACHINE|FILE.toml")
@click.option("--plot", metavar="OUT.png|OUT.svg", help="Draw the curve too; needs matplotlib.")
@click.option("--reads", type=click.IntRange(1000, 100_000_000), default=400_000,
              show_default=True, help="Random reads per footprint and page size.")
@click.option("--seed", type=int, default=1, show_default=True, help="Root of every draw.")
@click.option("--scattered", is_flag=True, help="Frames of 4 KiB pages all over memory, as on a "
              "board that has run for long, instead of one after the other.")
@formatted
def footprint(form: str, machine: str, plot: str | None, reads: int, seed: int, *,
              scattered: bool) -> int:
    """Translation cost per random read, against the footprint, 64 KiB to 64 MiB."""
    from pysim import footprint as asked
    from pysim import machines
    from sweeps import footprint_plot, listings

    if plot is not None:
        footprint_plot.check(plot)
    found = asked.curve(machines.load(machine), reads=reads, seed=seed, scattered=scattered)
    click.echo(listings.footprint(found, form))
    if plot is not None:
        footprint_plot.draw(found, plot)
    return 0


# ---- commands of their own files ---------------------------------------------------------------

cli.add_command(sweep)
cli.add_command(schema)
cli.add_command(compare)
cli.add_command(store)
cli.add_command(check)
cli.add_command(validate)
cli.add_command(sensitivity)


# ---- what there is ----------------------------------------------------------------------------


@cli.command()
@click.argument("name", required=False)
@formatted
def policies(form: str, name: str | None) -> int:
    """List the mapping policies, or show one as the ops that are run."""
    from sweeps import listings

    click.echo(listings.policy(name, form) if name else listings.policies(form))
    return 0


@cli.command()
@click.argument("name", required=False, metavar="[NAME|FILE.toml]")
@click.option("--check", metavar="FILE.toml", help="Say whether a machine of one's own is "
              "possible, and what it changes of the preset it inherits from.")
@formatted
def machines(form: str, name: str | None, check: str | None) -> int:
    """List the machines, or show one with the source of every field."""
    from sweeps import listings

    if check is not None:
        if name is not None:
            raise click.UsageError(f"--check takes the file; {name!r} is one name too many")
        click.echo(listings.checked_machine(check, form))
        return 0
    click.echo(listings.machine(name, form) if name else listings.machines(form))
    return 0


@cli.command()
@click.argument("name", required=False)
@formatted
def workloads(form: str, name: str | None) -> int:
    """List the workloads, or show one with the source of every field."""
    from sweeps import listings

    click.echo(listings.workload(name, form) if name else listings.workloads(form))
    return 0


# ---- the door ---------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status; complaints are one line each."""
    try:
        status = cli.main(args=arguments, prog_name="fencelab", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        print(f"fencelab: {error.format_message()}", file=sys.stderr)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except FencelabError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:   # the reader of our output has left; Python would complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return int(status or 0)


if __name__ == "__main__":
    sys.exit(main())
