"""The command `fencelab sensitivity`: which assumed costs could change the ranking of policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click

from sweeps.cli_parts import formatted

POLICIES: Final = ("ideal", "vmalloc-fault", "preventive-full", "preventive-range", "mark-6.12",
                   "mark-7.2", "mark-barrier", "mark-switch-in")
"""Compared by default: what Linux did and does, and the bound below."""


@click.command()
@click.option("--machine", default="sg2042", show_default=True, metavar="NAME|FILE")
@click.option("--harts", type=int, default=4, show_default=True)
@click.option("--workload", default="fork", show_default=True, metavar="NAME|FILE")
@click.option("--duration-ms", type=float, default=3, show_default=True,
              help="Useful time of each hart and run.")
@click.option("--policy", "policies", multiple=True, metavar="NAME|FILE.py:NAME",
              help=f"May be repeated; default: {', '.join(POLICIES)}.")
@click.option("--paths", type=click.IntRange(1, 1000), default=4, show_default=True,
              help="Morris trajectories: more of them meet more combinations.")
@click.option("--sobol", type=click.IntRange(0, 2**16), default=0, show_default=True,
              help="Points for Sobol' indices, a power of two; each is a run of every policy for "
              "every cost.")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=1, show_default=True)
@click.option("--workers", type=click.IntRange(1, 256), default=2, show_default=True)
@formatted
def sensitivity(form: str, machine: str, harts: int, workload: str, policies: Sequence[str],
                duration_ms: float, **given: Any) -> int:
    """Vary every assumed cost by x0.5 to x2, and say whether another policy would win."""
    from pysim import scenario
    from pysim import sensitivity as asked
    from sweeps import listings

    chosen = list(policies) or list(POLICIES)
    seed = given.pop("seed")
    base = scenario.build({
        "policy": chosen[0], "machine": machine, "harts": harts, "root_seed": seed,
        "workload": {"inherit": workload, "duration_ms": duration_ms}}, "options")
    for policy in chosen[1:]:
        scenario.build({"policy": policy, "machine": base.machine, "harts": harts,
                        "workload": base.workload}, "options")
    found = asked.study(base, chosen, seed=seed, **given)
    click.echo(listings.sensitivity(found, form))
    return 0
