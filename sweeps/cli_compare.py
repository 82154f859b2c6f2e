"""``fencelab compare``: two stores beside each other, for people and for CI."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from sweeps.cli_parts import Real, formatted

_PERCENT: Final = re.compile(r"(\d+(?:\.\d+)?) *%")


def _share(ctx: click.Context, option: click.Parameter, value: str) -> float:
    """Return a part of one, written "2%" or 0.02."""
    found = _PERCENT.fullmatch(value.strip())
    try:
        number = float(found[1]) / 100 if found else float(value)
    except ValueError:
        number = -1.0
    if not number >= 0:
        raise click.BadParameter(f"{value!r} is not a share: write 2% or 0.02", ctx, option)
    return number


@click.command()
@click.argument("base", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("new", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--metric", default="overhead", show_default=True, help="overhead or a counter.")
@click.option("--tolerance", callback=_share, default="0", show_default=True,
              help="Part of the first's mean that a difference may be.")
@click.option("--floor", callback=_share, default="0", show_default=True,
              help="Differences up to this (in the metric) never matter.")
@click.option("--confidence", type=Real(0.5, 1, min_open=True, max_open=True),
              default=0.95, show_default=True, help="Of the intervals.")
@click.option("--every", is_flag=True, help="Show every point, not only what moved.")
@formatted
def compare(form: str, base: Path, new: Path, metric: str, tolerance: float, floor: float,
            confidence: float, *, every: bool) -> int:
    """Did a change move the results? Status 3 when a point got worse, 4 when none is in both."""
    from sweeps import compare as compared
    from sweeps import tables
    from sweeps.store import Store

    with Store(base, write=False) as before, Store(new, write=False) as after:
        found = compared.stores(before, after, metric=metric, tolerance=tolerance, floor=floor,
                                confidence=confidence)
    click.echo(tables.render([found.table(every=every)], form, {"exit_status": found.exit_status}))
    return found.exit_status
