"""Two stores beside each other: whether a change moved the results, and for the worse.

Points are matched by what they say (policy, harts, machine, workload, seeds), not by key: another
build of the engine has other keys on purpose. Machines and workloads are the same when every field
is; one whose fields were changed is matched by its name where that is no guess. What both stores
have is compared in pairs, replicate by replicate, because equal replicates do equal work. A point
is *worse* when the whole interval of its differences lies above the tolerance: noise alone does not
fail a build, and neither does a change that is too small to matter.

Left out: what a good value is. More is worse; compare something of which less is better.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, TypeAlias

from pysim import counters, stats
from pysim.errors import InputError
from pysim.stats import Estimate
from sweeps import columns
from sweeps.store import Store
from sweeps.tables import Cell, Column, Table

Judgement: TypeAlias = Literal["worse", "better", "same", "moved", "unsafe now", "safe now"]
OVERHEAD: Final = "overhead"
REGRESSIONS: Final = ("worse", "unsafe now")
_POINT: Final = ("policy", "harts", "nr_cpus", "livelock_retries")

Place: TypeAlias = "tuple[str, str, str, str, str, str]"
"""Policy, machine, harts, workload, nr_cpus, livelock_retries; machine and workload as matched."""
Sample: TypeAlias = "dict[tuple[str, int], Fraction | None]"
"""Root seed and replicate -> value; None where the run ended in a verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One point in both stores: the means, the paired difference, and what it comes to."""

    place: Place
    pairs: int
    base: Estimate | None
    new: Estimate | None
    difference: Estimate | None
    judgement: Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All points in both stores, and how many only one of them has."""

    metric: str
    points: tuple[Difference, ...]
    only_base: int
    only_new: int

    @property
    def exit_status(self) -> int:
        """0 nothing is worse, 3 something is, 4 nothing could be compared."""
        if not self.points:
            return 4
        return 3 if any(one.judgement in REGRESSIONS for one in self.points) else 0

    def table(self, *, every: bool) -> Table:
        """Return what moved, or every point."""
        shown = [one for one in self.points if every or one.judgement != "same"]
        counts = {name: sum(one.judgement == name for one in self.points)
                  for name in ("worse", "unsafe now", "better", "safe now", "moved", "same")}
        title = f"{self.metric}: " + ", ".join(f"{n} {name}" for name, n in counts.items() if n)
        style = "share" if self.metric == OVERHEAD else "number"
        points = "points" if self.metric == OVERHEAD else "number"
        rows: list[tuple[Cell, ...]] = [
            (*one.place[:4], one.pairs, one.base, one.new, one.difference, one.judgement)
            for one in shown]
        notes = tuple(
            f"{count} points are only in the {which} store" for count, which in
            ((self.only_base, "first"), (self.only_new, "second")) if count)
        return Table(title=title, notes=notes, rows=tuple(rows), columns=(
            *(Column(name=name, style="text") for name in ("policy", "machine", "harts",
                                                           "workload")),
            Column(name="pairs"), Column(name="before", style=style),
            Column(name="after", style=style), Column(name="difference", style=points),
            Column(name="judgement", style="text")))


def stores(base: Store, new: Store, *, metric: str = OVERHEAD, tolerance: float = 0.0,
           floor: float = 0.0, confidence: float = 0.95) -> Comparison:
    """Compare two stores; ``tolerance`` is a part of the first's mean, ``floor`` in the metric.

    Raises InputError for a metric that is no counter.
    """
    if metric != OVERHEAD and metric not in counters.BY_NAME:
        known = (OVERHEAD, *counters.BY_NAME)
        raise InputError("--metric", metric, "no counter of this name", got=metric, nearest=known)
    names = _matched(_parts(base), _parts(new))
    before, after = _samples(base, metric, names[0]), _samples(new, metric, names[1])
    found = []
    for place in sorted(before.keys() & after.keys()):
        common = before[place].keys() & after[place].keys()
        if common:
            found.append(_judged(place, {one: before[place][one] for one in common},
                                 {one: after[place][one] for one in common},
                                 tolerance, floor, confidence))
    places = {one.place for one in found}
    return Comparison(metric=metric, points=tuple(found),
                      only_base=len(before.keys() - places), only_new=len(after.keys() - places))


def _parts(store: Store) -> dict[int, tuple[str, str, str]]:
    """Return machines and workloads by number: kind, name, body."""
    return {number: (kind, name, body) for number, kind, name, body in
            store.rows("SELECT id, kind, name, body FROM parts ORDER BY id")}


def _matched(base: Mapping[int, tuple[str, str, str]], new: Mapping[int, tuple[str, str, str]]
             ) -> tuple[dict[int, str], dict[int, str]]:
    """Return one name for every machine and workload of either store; the same for the same.

    Equal bodies are the same. Of those left, one of a name on either side is the same, changed.
    """
    bodies = {(kind, body) for kind, _, body in base.values()} & {
        (kind, body) for kind, _, body in new.values()}
    told: dict[tuple[str, str], str] = {}
    for kind, name, body in base.values():
        if (kind, body) in bodies:
            taken = sum(one == name or one.startswith(f"{name} #") for one in told.values())
            told[kind, body] = f"{name} #{taken + 1}" if taken else name

    def rest(parts: Mapping[int, tuple[str, str, str]], which: str) -> dict[int, str]:
        left: dict[tuple[str, str], int] = {}
        for kind, name, body in parts.values():
            left[kind, name] = left.get((kind, name), 0) + ((kind, body) not in bodies)
        return {number: told.get((kind, body)) or (
            f"{name} (changed)" if left[kind, name] == 1 else f"{name} ({which} {number})")
            for number, (kind, name, body) in parts.items()}

    return rest(base, "first's"), rest(new, "second's")


def _samples(store: Store, metric: str, names: Mapping[int, str]) -> dict[Place, Sample]:
    wanted = (*_POINT, "machine", "workload", "root_seed", "replicate")
    found: dict[Place, Sample] = {}
    with columns.plain(store) as one:
        for block in one.blocks(wanted):
            if metric in block.counters:
                _note(found, block, wanted, block.counters[metric].tolist(), names)
    return found


def _note(found: dict[Place, Sample], block: columns.Block, wanted: Sequence[str],
          values: list[float], names: Mapping[int, str]) -> None:
    """Sort a block's values into samples."""
    for policy, harts, cpus, retries, machine, workload, seed, replicate, verdict, value in zip(
            *(block.columns[name] for name in (*wanted, columns.VERDICT)), values, strict=True):
        place = (policy, names[machine], str(harts), names[workload], str(cpus), str(retries))
        ran = verdict == counters.RAN
        found.setdefault(place, {})[seed, replicate] = Fraction(value) if ran else None


def _judged(place: Place, before: Sample, after: Sample, tolerance: float, floor: float,
            confidence: float) -> Difference:
    """Judge one point of pairs."""
    was_safe, is_safe = (None not in sample.values() for sample in (before, after))
    if not (was_safe and is_safe):
        judgement: Judgement = "same" if was_safe == is_safe else (
            "unsafe now" if was_safe else "safe now")
        return Difference(place=place, pairs=len(before), base=_mean(before), new=_mean(after),
                          difference=None, judgement=judgement)
    pairs = sorted(before)
    ours = {at: after[pair] or Fraction(0) for at, pair in enumerate(pairs)}
    theirs = {at: before[pair] or Fraction(0) for at, pair in enumerate(pairs)}
    base = stats.estimate(theirs.values(), confidence=confidence)
    moved = stats.paired(ours, theirs, confidence=confidence)
    limit = max(tolerance * abs(base.mean), floor)
    low = moved.mean if moved.low is None else moved.low
    high = moved.mean if moved.high is None else moved.high
    return Difference(place=place, pairs=len(pairs), base=base,
                      new=stats.estimate(ours.values(), confidence=confidence), difference=moved,
                      judgement=_verdict(low, high, limit, any(ours[at] != theirs[at]
                                                               for at in ours)))


def _verdict(low: float, high: float, limit: float, moved: bool) -> Judgement:
    if low > limit:
        return "worse"
    if high < -limit:
        return "better"
    return "moved" if moved else "same"


def _mean(sample: Sample) -> Estimate | None:
    values = list(_known(sample))
    return stats.estimate(values) if len(values) == len(sample) else None


def _known(sample: Sample) -> Iterator[Fraction]:
    return (value for value in sample.values() if value is not None)
