"""How many replicates are enough: adaptive replicates, successive halving, Pareto fronts.

``next_round`` looks at what is measured and says how many replicates every point should have next;
asking again is cheap, because replicates that are stored are not computed twice, and replicate
number n is the same run whoever asks for it and when. Where rounds end depends on the results, so
fixed-n intervals are a little too narrow then; ``rule`` says so wherever they are shown.

Left out: running. cli_sweep.py goes round.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from pysim import stats
from pysim.stats import Estimate
from sweeps.metrics import Row

if TYPE_CHECKING:
    from fractions import Fraction

    from sweeps.grid import Halving, Sweep, Until

_GROWTH_MAX: Final = 2.0
"""A round at most doubles a point's replicates: early spreads are rough."""


def first_round(asked: Sweep, cells: int) -> list[int]:
    """Return the replicates of every cell in the first round."""
    if asked.until is not None:
        return [asked.until.min] * cells
    if asked.halving is not None:
        return [asked.halving.first] * cells
    return [asked.seeds] * cells


def next_round(asked: Sweep, counts: Sequence[int], rows: Sequence[Row]) -> list[int] | None:
    """Return the replicates of every cell in the next round; None when there is none.

    ``rows`` are those of the cells, in their order.
    """
    if asked.until is not None:
        wanted = _until(asked.until, asked.report.rows, counts, rows)
    elif asked.halving is not None:
        wanted = _halved(asked.halving, asked.goals[0], counts, rows)
    else:
        return None
    return wanted if wanted != list(counts) else None


def rule(asked: Sweep) -> str:
    """Return the stopping rule in words; nothing when replicates are fixed."""
    if asked.until is not None:
        until = asked.until
        of = f"the paired difference to {until.difference_to}, of that row's mean" \
            if until.difference_to else "the mean overhead"
        return (f"Replicates were added, from {until.min} to at most {until.max} a point, until "
                f"the half width of the {until.confidence:.0%} interval was {until.overhead:.3g} "
                f"of {of}. Intervals over a number that was not fixed before are a little too "
                "narrow.")
    if asked.halving is not None:
        return (f"Successive halving towards {asked.goal}: {asked.halving.first} replicates a "
                f"point, then {asked.halving.keep:.3g} of the points with twice as many, until one "
                "was left. Points that left early have wider intervals; the winner's mean is "
                "flattered by having been chosen.")
    return ""


# ---- adaptive replicates ----------------------------------------------------------------------


def _beside(row: Row, axis: str) -> tuple[object, ...]:
    return tuple(value for name, value in row.coordinates.items() if name != axis)


def _until(until: Until, axis: str, counts: Sequence[int], rows: Sequence[Row]) -> list[int]:
    bases = {_beside(row, axis): at for at, row in enumerate(rows)
             if row.coordinates.get(axis) == until.difference_to}
    wanted = list(counts)
    for at, row in enumerate(rows):
        if row.unsafe or row.missing or not row.overheads:
            continue
        base = bases.get(_beside(row, axis)) if until.difference_to else None
        if until.difference_to and (base is None or base == at):
            continue
        width = _relative_width(row.overheads, None if base is None else rows[base].overheads,
                                until.confidence)
        if width is None or width <= until.overhead:
            continue
        growth = min(_GROWTH_MAX, (width / until.overhead) ** 2)
        more = min(until.max, max(counts[at] + 1, math.ceil(counts[at] * growth)))
        wanted[at] = max(wanted[at], more)
        if base is not None:   # pairs need both
            wanted[base] = max(wanted[base], more)
    return wanted


def _relative_width(ours: Mapping[int, Fraction], theirs: Mapping[int, Fraction] | None,
                    confidence: float) -> float | None:
    """Return the half width of the interval as part of the mean (of the other row's mean).

    None where there is nothing to divide by: an overhead of 0 in every replicate is known exactly.
    """
    if theirs is None:
        found = stats.estimate(ours.values(), confidence=confidence)
        scale = abs(found.mean)
    else:
        if not ours.keys() & theirs.keys():
            return None
        found = stats.paired(ours, theirs, confidence=confidence)
        scale = abs(stats.estimate(theirs.values()).mean)
    if found.half_width is None or not scale:
        return None
    return found.half_width / scale


# ---- search -----------------------------------------------------------------------------------


def value_of(row: Row, metric: str) -> float | None:
    """Return a row's metric as a number; None where there is none."""
    value = row.values.get(metric)
    if isinstance(value, Estimate):
        return value.mean
    return None if value is None else float(value)


def _halved(halving: Halving, goal: tuple[int, str], counts: Sequence[int], rows: Sequence[Row]
            ) -> list[int]:
    """Double the replicates of the better part of those that have the most."""
    sign, metric = goal
    most = max(counts)
    groups: dict[tuple[object, ...], list[tuple[float, int]]] = {}
    for at, row in enumerate(rows):
        value = value_of(row, metric)
        if counts[at] == most and value is not None:
            place = tuple(row.coordinates[axis] for axis in halving.within)
            groups.setdefault(place, []).append((sign * value, at))
    wanted = list(counts)
    for ranked in groups.values():
        if len(ranked) == 1:
            continue
        ranked.sort()
        kept = min(len(ranked) - 1, math.ceil(len(ranked) * halving.keep))
        for _, at in ranked[:max(1, kept)]:
            wanted[at] = 2 * most
    return wanted


def best(goal: tuple[int, str], rows: Sequence[Row], within: Sequence[str] = ()) -> list[Row]:
    """Return the best row of each group, among those with the most replicates there."""
    sign, metric = goal
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if value_of(row, metric) is not None:
            groups.setdefault(tuple(row.coordinates[axis] for axis in within), []).append(row)
    found = []
    for group in groups.values():
        most = max(row.replicates for row in group)
        found.append(min((row for row in group if row.replicates == most),
                         key=lambda row: sign * (value_of(row, metric) or 0.0)))
    return found


def front(goals: Sequence[tuple[int, str]], rows: Sequence[Row]) -> list[Row]:
    """Return the rows that no other row beats in both goals, best in the first goal first."""
    placed = []
    for row in rows:
        values = [value_of(row, metric) for _, metric in goals]
        if all(value is not None for value in values):
            placed.append((tuple(sign * float(value or 0.0) for (sign, _), value
                                 in zip(goals, values, strict=True)), row))
    placed.sort(key=lambda pair: pair[0])
    found: list[Row] = []
    lowest = math.inf
    for (_, second), row in placed:
        if second < lowest:
            found.append(row)
            lowest = second
    return found
