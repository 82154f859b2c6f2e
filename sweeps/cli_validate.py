"""The commands `fencelab validate ...`: predicted beside measured.

Exit status: 0 when something was scored and all of it holds, 1 when a row fails or is not modelled,
2 for bad input. Imports stand inside, as in ``sweeps.cli``.
"""

from __future__ import annotations

from pathlib import Path

import click

from sweeps.cli_parts import Nearest, formatted


@click.group(cls=Nearest, invoke_without_command=True)
@click.option("--data", type=click.Path(file_okay=False, path_type=Path),
              help="A folder of counted kernels; default: $FENCELAB_SHARED/data/kernel, or "
              "../shared/data/kernel beside a checkout.")
@click.option("--only", metavar="GROUP", help="One group of rows, as `kernels` or `gains`.")
@click.option("--explain", is_flag=True, help="Every parameter of every row, and its source.")
@formatted
@click.pass_context
def validate(ctx: click.Context, form: str, *, data: Path | None, only: str | None,
             explain: bool) -> int:
    """Does the simulator tell the truth? Predicted beside measured, row by row."""
    if ctx.invoked_subcommand is not None:
        return 0
    from pysim import validate as scores
    from sweeps import listings

    board = scores.validate(data, only=only)
    click.echo(listings.scoreboard(board, form, explain=explain))
    return 0 if board.ok else 1


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
@click.option("--walks-per-event", type=click.FloatRange(0, 100), default=1.0, show_default=True,
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
    """Fences of real kernels, counted, beside the engine's under the same recorded work."""
    from pysim.validate_kernel import validate_kernel as compare
    from sweeps import listings

    report = compare(directory)
    click.echo(listings.kernel(report, form, every=every))
    return 0 if report.ok else 1
