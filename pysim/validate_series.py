"""Rows of the scoreboard about the patch series: fences it removed, and time it saved.

Its machine is not disclosed. Counts do not depend on one; times do, and are told as a range: what
is unknown of such a core, everything at once at the end that saves least, as is usual, and at the
end that saves most. What a fault costs beside its fences is not in that range as a guess of cycles:
the presets have it as instructions, counted on a real kernel, so it is those times the cycles an
instruction takes. The row of the cost table for a whole minor fault (44) is not used.

Left out: that the kernel of the series fenced each page of a fault between its stores, and later
ones all of them after the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from pysim import costs, machines, published, workloads
from pysim.engine import Result
from pysim.machines import Machine
from pysim.published import Series
from pysim.scores import Parameter, Score, of_machine, passed, percent, role_of, text

if TYPE_CHECKING:
    from pysim.validate import Bench

# ---- tolerances, fixed before scoring -----------------------------------------------------------

GAIN_FACTOR: Final = Fraction(3, 2)
"""A gain's predicted range reaches no farther than this factor from its typical value."""
REMOVED_POINTS: Final = 10
"""The share of fence requests that a preset loses lies within so many percentage points."""

# ---- the core nobody has described --------------------------------------------------------------

HARTS: Final = 4
"""assumed: harts of the machine of the patch series, which is not disclosed (kernel.md 5)."""

BEFORE: Final = "preventive-full"
AFTER: Final = "mark-6.12"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Something of that core that nobody has said: fields of a machine at each of costs.LEVELS.

    At ``low`` the patches save least, at ``high`` most. ``sources`` are by field.
    """

    name: str
    low: Mapping[str, Any]
    typical: Mapping[str, Any]
    high: Mapping[str, Any]
    sources: Mapping[str, str]

    def at(self, level: str) -> Mapping[str, Any]:
        """Return the fields at a level."""
        found: Mapping[str, Any] = getattr(self, level)
        return found


def _of_table(name: str, *begins: str) -> Unknown:
    """Costs of the table whose names begin so."""
    fields = {level: {field: cycles for field, cycles in costs.at(level).items()
                      if field.startswith(begins) and field != "fence_pipe_cycles"}
              for level in costs.LEVELS}
    return Unknown(name=name, **fields, sources={cost.field: cost.source for cost in costs.COSTS})


def _of_one(name: str, field: str, low: Any, typical: Any, high: Any, why: str) -> Unknown:
    """One field that the table has no row for, or another typical value."""
    return Unknown(name=name, low={field: low}, typical={field: typical}, high={field: high},
                   sources={field: f"assumed: {why}"})


UNKNOWNS: Final[tuple[Unknown, ...]] = (
    _of_one("cycles an instruction", "instruction_millicycles", 1000, 500, 500,
            "out of order, 0.5, rather than in order, 1.0 (hardware.md d.2)"),
    _of_one("pipeline refill after a fence", "fence_pipe_cycles", 5, 30, 40,
            "30 out of order (hardware.md d.2), 5-40 (row 18)"),
    _of_one("a fence by address drops everything", "fence_va_as_all", False, False, True,
            "so on naxriscv, vexii, blackparrot, and u74 by its erratum (hardware.md a.4)"),
    _of_table("a fence itself", "fence_"),
    _of_table("a remote fence", "ecall_", "sbi_", "imsic_"),
    _of_table("walks and second-level hits", "l2_", "walk_", "read_"),
    _of_table("traps and lines", "trap_", "sret_", "amo_", "line_"),
)


def core(*, svvptc: bool, levels: Mapping[str, str] | str = "typical") -> Machine:
    """Return that core with each unknown at its level; ``levels``: all at one, or by name.

    It caches no invalid entry (the cover letter). assumed: shape of p550, an out-of-order core. The
    clock makes a second 10^9 instructions, as the presets' rates are counted: it follows the cycles
    an instruction takes.
    """
    machine = machines.load("p550")
    for unknown in UNKNOWNS:
        level = levels if isinstance(levels, str) else levels.get(unknown.name, "typical")
        for field, value in unknown.at(level).items():
            machine = machine.override({field: value}, where=unknown.sources[field])
    return machine.override(
        {"mhz": machine.instruction_millicycles},
        where="10^9 instructions a second, as the presets' rates are counted"
    ).override({"inv_l1": False, "inv_l2": False, "inv_pwc": False, "svvptc": svvptc},
               where=published.SERIES_SOURCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A preset before the patches (6.5, no Svvptc) and after them (6.12 on Svvptc)."""

    before: Result
    after: Result

    def counted(self, counter: str) -> tuple[int, int]:
        """Return a counter of both."""
        return self.before.counters[counter], self.after.counters[counter]

    @property
    def removed(self) -> int:
        """Fence requests that the patches removed."""
        before, after = self.counted("fence_requests")
        return before - after

    @property
    def gain(self) -> Fraction:
        """The part of the time that was saved."""
        before, after = self.counted("wall_cycles")
        return 1 - Fraction(after, before)

    def cycles_a_request(self, gain: Fraction) -> Fraction:
        """Return what each removed request must have cost for a gain, all harts together."""
        return self.after.counters["wall_cycles"] * gain / (1 - gain) / max(1, self.removed)


def run(bench: Bench, series: Series, levels: Mapping[str, str] | str = "typical") -> Pair:
    """Run the preset of a benchmark before and after; ``levels`` as of `core`."""
    return Pair(before=bench.preset(series.workload, BEFORE, core(svvptc=False, levels=levels),
                                    HARTS),
                after=bench.preset(series.workload, AFTER, core(svvptc=True, levels=levels), HARTS))


def _parameters(series: Series, costs_used: Iterable[Parameter]) -> tuple[Parameter, ...]:
    """Every parameter of a row; ``costs_used`` at their values, or over their range."""
    chosen = workloads.load(series.workload)
    rates = (Parameter(name=f"{chosen.name}: {field}", value=str(getattr(chosen, field)),
                       role=role_of(chosen.provenance(field)), source=chosen.provenance(field))
             for field in type(chosen).model_fields
             if field not in ("name", "title", "sources", "trace"))
    said = (("before", f"{BEFORE}, no Svvptc"), ("after", f"{AFTER}, Svvptc"),
            ("caches no invalid entry", "true"),
            ("fences before", str(series.before)), ("fences after", str(series.after)))
    guessed = (("harts", str(HARTS)), ("TLBs and caches", "p550"))
    return (
        *(Parameter(name=name, value=value, role="assumed", source="not disclosed (kernel.md 5)")
          for name, value in guessed),
        *(Parameter(name=name, value=value, role="input", source=published.SERIES_SOURCE)
          for name, value in said),
        *costs_used, *rates,
    )


def _typical() -> Iterator[Parameter]:
    """What that core is taken for where times decide nothing."""
    fields = ("mhz", *(field for unknown in UNKNOWNS for field in unknown.typical))
    return of_machine(core(svvptc=True), fields)


def _ranges() -> Iterator[Parameter]:
    """What is unknown of that core: low, typical, high."""
    for unknown in UNKNOWNS:
        for field in unknown.typical:
            source = unknown.sources[field]
            yield Parameter(name=f"{unknown.name}: {field}", role=role_of(source), source=source,
                            value=", ".join(str(unknown.at(level)[field])
                                            for level in costs.LEVELS))


# ---- fences -------------------------------------------------------------------------------------


def of_counts(bench: Bench) -> Iterator[Score]:
    """Fence counts of the patch series: a consistency check, and what a preset loses."""
    for series in published.SERIES:
        pair, parameters = run(bench, series), _parameters(series, _typical())
        yield _consistency(series, pair, parameters)
        share = Fraction(pair.removed, pair.counted("fence_requests")[0])
        measured = 1 - Fraction(series.after, series.before)
        before, after = pair.counted("fence_requests")
        good = abs(share - measured) * 100 <= REMOVED_POINTS
        fitted = [one.source for one in parameters if one.role == "fitted"]
        why = [] if good else ["what is fenced after the patches too is not what the preset has"]
        why += list(dict.fromkeys(fitted))
        yield Score(
            group="patch series", what=f"{series.name}: fence requests removed",
            role="predicted", measured=percent(measured),
            predicted=f"{percent(share)} ({text(before)} to {text(after)})",
            tolerance=f"{REMOVED_POINTS} points", outcome=passed(good),
            source=published.SERIES_SOURCE, reason="; ".join(why), parameters=parameters)


def _consistency(series: Series, pair: Pair, parameters: tuple[Parameter, ...]) -> Score:
    """The count before, from the count after and what one page of a user fault fences.

    Every removed request is taken for such a page's: the residue is unpublished, hence an input.
    What access flags fence by address before the patches, they fence by ASID after them.
    """
    before, after = pair.counted("fences_addr")
    flags = pair.before.counters["user_protects"]
    a_page = Fraction(before - after - flags, pair.before.counters["user_fault_pages"])
    predicted = series.after + (series.before - series.after) * a_page
    return Score(group="patch series", what=f"{series.name}: requests before", role="input",
                 measured=text(series.before), predicted=text(predicted),
                 tolerance="none: its residue is an input", outcome="input",
                 source=published.SERIES_SOURCE, parameters=parameters)


# ---- gains --------------------------------------------------------------------------------------


def of_gains(bench: Bench) -> Iterator[Score]:
    """Time saved by the patch series: the range that what is unknown of its core spans."""
    for series in published.SERIES:
        pairs = {level: run(bench, series, level) for level in costs.LEVELS}
        alone = {unknown.name: tuple(
            pairs["typical"].gain if unknown.at(level) == unknown.typical
            else run(bench, series, {unknown.name: level}).gain for level in ("low", "high"))
            for unknown in UNKNOWNS}
        yield _gain(series, pairs, alone)


def _gain(series: Series, pairs: Mapping[str, Pair],
          alone: Mapping[str, tuple[Fraction, ...]]) -> Score:
    """One gain: ``pairs`` by level, ``alone`` the gain with one unknown at low and at high."""
    low, typical, high = (pairs[level].gain for level in costs.LEVELS)
    inside = low <= series.gain <= high
    narrow = high <= typical * GAIN_FACTOR and low * GAIN_FACTOR >= typical
    outcome = passed(inside and narrow)
    return Score(
        group="gains", what=series.name, role="predicted", measured=percent(series.gain),
        predicted=f"{percent(low)} .. {percent(high)}, typical {percent(typical)}",
        tolerance=f"inside, within a factor {float(GAIN_FACTOR)} of typical", outcome=outcome,
        source=published.SERIES_SOURCE,
        reason="" if outcome == "pass" else _why(series, pairs, alone, inside=inside),
        parameters=_parameters(series, _ranges()))


def _why(series: Series, pairs: Mapping[str, Pair],
         alone: Mapping[str, tuple[Fraction, ...]], *, inside: bool) -> str:
    """Say what the published gain asks of each removed request, and which unknown spans most."""
    each = {level: pair.cycles_a_request(pair.gain) for level, pair in pairs.items()}
    needed = pairs["typical"].cycles_a_request(series.gain)
    widest = max(alone, key=lambda name: abs(alone[name][1] - alone[name][0]))
    ends = " to ".join(percent(gain) for gain in alone[widest])
    said = ", ".join(text(each[level]) for level in costs.LEVELS)
    return "; ".join((
        "what is unknown of that core spans more than it may" if inside
        else "the published gain lies outside",
        f"it is {text(needed)} cycles for each request removed, predicted {said}",
        f"widest alone: {widest}, {ends}",
        *([series.note] if series.note else ())))
