"""The commands `fencelab validate ...`: predicted beside measured.

Exit status: 0 when something was scored and all of it holds, 1 when a row fails or is not modelled,
2 for bad input, 5 when a group could not be scored, 130 interrupted. Imports stand inside, as in
``sweeps.cli``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sweeps.cli_parts import Nearest, Real, formatted
from sweeps.cli_sweep import EXECUTORS, STORE, asked_through


@click.group(cls=Nearest, invoke_without_command=True)
@click.option("--data", type=click.Path(file_okay=False, path_type=Path),
              help="A folder of counted kernels; default: $FENCELAB_SHARED/data/kernel, or "
              "../shared/data/kernel beside a checkout.")
@click.option("--only", metavar="GROUP", help="One group of rows, as `kernels` or `gains`.")
@click.option("--explain", is_flag=True, help="Every parameter of every row, and its source.")
@click.option("--executor", type=click.Choice(EXECUTORS), help="Score group by group there, keep "
              "rows in the store.  [default: here, nothing kept]")
@click.option("--address", help="ray: local, HOST:PORT or ray://HOST:PORT.")
@click.option("--workers", type=click.IntRange(min=1), help="Default: every core there is.")
@click.option("--store", metavar="FILE", type=click.Path(dir_okay=False),
              help="Where rows are kept; running again scores only what changed.  "
              f"[default: {STORE}]")
@formatted
@click.pass_context
def validate(ctx: click.Context, /, form: str, *, data: Path | None, only: str | None,
             explain: bool, **given: Any) -> int:
    """Does the simulator tell the truth? Predicted beside measured, row by row."""
    if ctx.invoked_subcommand is not None:
        return 0
    from pysim import validate as scores
    from sweeps import listings

    status = 0
    if given["executor"] or given["store"]:
        from sweeps import scoring

        asked = scoring.questions(data, only)
        records, status = asked_through(asked, given, scoring.answer)
        board = scoring.board(asked, records)
    elif given["address"] or given["workers"]:
        raise click.UsageError("--address and --workers need --executor")
    else:
        board = scores.validate(data, only=only)
    click.echo(listings.scoreboard(board, form, explain=explain))
    return status or (0 if board.ok else 1)


@validate.command("walk")
@click.argument("file")
@formatted
def validate_walk(form: str, file: str) -> int:
    """Page walks judged by another simulator, compared one by one."""
    from pysim import walks
    from sweeps import listings

    report = walks.validate(file)
    click.echo(listings.walks(report, form))
    return 0 if report.agreed == report.cases else 1


@validate.command("negative")
@click.argument("directory")
@click.option("--walks-per-event", type=Real(0, 100), default=1.0, show_default=True,
              help="Assumed: lookups of the running stack per logged event.")
@formatted
def validate_negative(form: str, directory: str, *, walks_per_event: float) -> int:
    """Kernels on an emulator that caches invalid translations, beside the engine's TLBs."""
    from fractions import Fraction

    from pysim import negative
    from sweeps import listings

    report = negative.validate(directory, walks_per_event=Fraction(str(walks_per_event)))
    click.echo(listings.negative(report, form))
    return 0 if report.ok else 1


@validate.command("kernel")
@click.argument("directory")
@click.option("--every", is_flag=True, help="Show every row, not only what differs.")
@formatted
def validate_kernel(form: str, directory: str, *, every: bool) -> int:
    """Fences of real kernels, counted, beside the engine's under the same recorded work.

    DIRECTORY holds counts*.csv, events-*.evt.gz and riscv-*.ftrace.txt.gz: see
    docs/counted-kernels.md.
    """
    from pysim.validate_kernel import validate_kernel as compare
    from sweeps import listings

    report = compare(directory)
    click.echo(listings.kernel(report, form, every=every))
    return 0 if report.ok else 1
