"""What is said of a point: its replicates' counters, reduced by `pysim.stats` to one value each.

A metric turns the replicates of one point into an estimate with its 95 % interval, or into a
quantile of their pooled latencies. A point any of whose replicates ended in a verdict has no
metrics: its policy is unsafe there, and is never ranked. The difference to a baseline is taken in
pairs, replicate by replicate, because equal replicates did equal work.

Left out: every sum and division; they are those of `pysim.counters` and `pysim.stats`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from pysim import counters, stats
from pysim.engine import Result
from pysim.stats import Estimate, Exact

if TYPE_CHECKING:
    from sweeps.grid import Point

Coordinate: TypeAlias = "str | int | float"
Value: TypeAlias = "Estimate | Fraction | None"
Sample: TypeAlias = Mapping[int, Result]
"""Results by replicate."""
DIFFERENCE: Final = "difference"
"""The one metric that takes two points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One column: its heading, its meaning, how people read it, and what it makes of a sample.

    A ``share`` is a fraction that people read as percent; ``points`` a difference of shares.
    """

    heading: str
    meaning: str
    style: Literal["number", "share", "points", "ns"] = "number"
    of: Callable[[Sample, int], Value] = lambda sample, mhz: None


def _mean(value: Callable[[Result], Exact]) -> Callable[[Sample, int], Value]:
    return lambda sample, mhz: stats.estimate(value(result) for result in sample.values())


def _counter(name: str) -> Metric:
    described = counters.BY_NAME[name]
    return Metric(heading=name.replace("_", " "), meaning=f"{described.meaning} ({described.unit})",
                  of=_mean(lambda result: result.counters[name]))


def _total(result: Result) -> Fraction:
    overhead = counters.overhead(result)
    assert overhead is not None, "asked only of runs that ran"
    return overhead.total


def _latency(histogram: str, part: Fraction) -> Callable[[Sample, int], Value]:
    def of(sample: Sample, mhz: int) -> Value:
        pooled = stats.merge(result.histograms[histogram] for result in sample.values())
        cycles = stats.quantile(pooled, part)
        return None if cycles is None else counters.nanoseconds(cycles, mhz)
    return of


_P50, _P99 = Fraction(1, 2), Fraction(99, 100)

METRICS: Final[Mapping[str, Metric]] = {
    **{name: _counter(name) for name, c in counters.BY_NAME.items() if c.unit != "hash"},
    "overhead": Metric(heading="overhead\n%", style="share", of=_mean(_total),
                       meaning="counted causes per useful cycle"),
    DIFFERENCE: Metric(heading="difference\npoints", style="points",
                       meaning="overhead less that of the baseline, in pairs of equal seed"),
    "fences": Metric(heading="fences", of=_mean(counters.fences_executed),
                     meaning="sfence.vma executed, the firmware's included"),
    "remote": replace(_counter("remote_fence_calls"), heading="remote\nfences"),
    "ipis": replace(_counter("ipis"), heading="IPIs"),
    "spurious": replace(_counter("spurious_faults"), heading="spurious\nfaults"),
    "map_p50": Metric(heading="map p50\nns", style="ns", of=_latency("map", _P50),
                      meaning="median time of a kernel mapping, as its mapper sees it"),
    "map_p99": Metric(heading="map p99\nns", style="ns", of=_latency("map", _P99),
                      meaning="99th percentile of the same"),
    "stall_p99": Metric(heading="stall p99\nns", style="ns", of=_latency("stall", _P99),
                        meaning="99th percentile of how long a victim hart is stopped"),
    "touch_p99": Metric(heading="touch p99\nns", style="ns", of=_latency("first_touch", _P99),
                        meaning="99th percentile of a hart's first access to a new mapping"),
}
DEFAULT: Final = ("overhead", DIFFERENCE, "fences", "remote", "ipis", "spurious", "map_p50",
                  "map_p99")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One point, reduced: where it lies, and its metrics or what kept it from having any.

    ``unsafe`` says how a replicate ended, ``missing`` how many replicates have no record.
    """

    coordinates: Mapping[str, Coordinate]
    replicates: int
    missing: int
    unsafe: str
    values: Mapping[str, Value]
    overheads: Mapping[int, Fraction]


def reduce(coordinates: Mapping[str, Coordinate], results: Mapping[int, Result | None], mhz: int,
           names: Sequence[str]) -> Row:
    """Reduce the replicates of one point to a row."""
    sample = {number: result for number, result in results.items() if result is not None}
    bad = [result for result in sample.values() if not counters.is_safe(result)]
    usable = bool(sample) and not bad
    return Row(
        coordinates=coordinates, replicates=len(results), missing=len(results) - len(sample),
        unsafe=_unsafe(bad, len(sample)) if bad else "",
        values={name: METRICS[name].of(sample, mhz) for name in names} if usable else {},
        overheads={n: _total(result) for n, result in sample.items()} if usable else {},
    )


def _unsafe(bad: Sequence[Result], runs: int) -> str:
    often = "" if runs == 1 else f", {len(bad)} of {runs} runs"
    return verdict(bad[0]) + often


def verdict(result: Result) -> str:
    """Say how a run ended that did not run to its end: ``oops (hart 3, cycle 812, va 0x...)``."""
    return (f"{result.verdict} (hart {result.verdict_hart}, cycle {result.verdict_at_cycles}, "
            f"va {result.verdict_va:#x})")


def against(row: Row, baseline: Row | None) -> Row:
    """Return the row with the difference of its overhead to the baseline's, where both have one."""
    if baseline is None or not row.overheads.keys() & baseline.overheads.keys():
        return row
    value = stats.paired(row.overheads, baseline.overheads)
    return replace(row, values={**row.values, DIFFERENCE: value})


def of_points(points: Sequence[Point], keys: Sequence[str], load: Callable[[str], Result | None],
              names: Sequence[str], *, rows: str, baseline: str) -> list[Row]:
    """Reduce a sweep's points: replicates that follow one another are one row.

    ``load`` returns the result of a key; ``baseline`` is the label on the axis ``rows`` that every
    other row of equal coordinates is compared with.
    """
    found: list[Row] = []
    together = itertools.groupby(zip(points, keys, strict=True),
                                 key=lambda pair: pair[0].coordinates)
    for coordinates, replicates in together:
        group = list(replicates)
        results = {point.scenario.replicate: load(key) for point, key in group}
        mhz = group[0][0].scenario.machine.mhz
        found.append(reduce(coordinates, results, mhz, names))
    bases = {_beside(row, rows): row for row in found if row.coordinates.get(rows) == baseline}
    return [against(row, bases.get(_beside(row, rows))) for row in found]


def _beside(row: Row, axis: str) -> tuple[Coordinate, ...]:
    """Return where a row lies on every axis but one."""
    return tuple(value for name, value in row.coordinates.items() if name != axis)
