"""The scoreboard: what the engine predicts beside what others measured, one row a number.

Each row says where the measurement comes from, which numbers went in (``input``), which were fitted
to which measurement (``fitted``) and what was predicted, and passes or fails at a tolerance that
stands in this file, before anything is scored. A row that fails stays, with its reason. Every
parameter of every row can be printed.

Groups end in their table. Left out: arithmetic beyond sums, ratios and one least-squares line.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Final, TypeAlias

from pysim import (
    costs,
    engine,
    footprint,
    machines,
    ops,
    policies,
    published,
    scenario,
    stats,
    workloads,
)
from pysim import validate_kernel as kernels
from pysim.engine import Question, Result
from pysim.errors import InputError
from pysim.machines import Machine
from pysim.ops import ALL, PAGE, RANGE, Extent, Handler, Mark, shootdown, store_ptes
from pysim.scores import (
    Outcome,
    Parameter,
    Role,
    Score,
    Scoreboard,
    of_machine,
    passed,
    percent,
    text,
)

# ---- tolerances, fixed before scoring -----------------------------------------------------------

K1_RELATIVE: Final = Fraction(25, 100)
"""SBI calls that were not fitted lie within this part of the measured cycles."""
GAIN_FACTOR: Final = Fraction(3, 2)
"""A gain's predicted range reaches no farther than this factor from its typical value."""
LINEAR: Final = Fraction(99, 100)
"""Share of the variance of shootdown times that a line in the number of harts explains."""
FIXED_SLOPES: Final = 3
"""A shootdown's fixed part is at least so many times what one more hart adds."""
REMOVED_POINTS: Final = 10
"""The share of fence requests that a preset loses lies within so many percentage points."""


# ---- runs ---------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Bench:
    """Where the rows get their runs: the engine, and a folder of counts if there is one."""

    data: Path | None
    simulate: Callable[[Question], Result] = engine.simulate

    def cycles_a_map(self, policy: ops.Policy, machine: Machine, harts: int, counter: str, *,
                     pages: int = 4, maps: int = 32) -> Fraction:
        """Return a counter per map when one hart maps and nobody works."""
        trace = kernels.counted_trace(harts, (pages,) * maps)
        asked = kernels.question(trace, "none", machine, harts)
        program = ops.lower(policy, nr_cpus=max(64, harts))
        result = self.simulate(dataclasses.replace(asked, header=program.header, ops=program.ops))
        assert result.verdict == "ran", result.verdict
        return Fraction(result.counters[counter], maps)

    def preset(self, workload: str, policy: str, machine: Machine, harts: int,
               **changes: float) -> Result:
        """Run a workload preset, with changes said by the caller."""
        chosen = workloads.load(workload)
        if changes:
            chosen = chosen.override(changes, where="pysim/validate.py")
        return self.simulate(scenario.lower(scenario.build({
            "policy": policy, "machine": machine, "harts": harts, "workload": chosen})))


def shared_counts() -> Path | None:
    """Return the folder of counted kernels: FENCELAB_SHARED, else ``shared`` beside a checkout."""
    named = os.environ.get("FENCELAB_SHARED")
    root = Path(named) if named else Path(__file__).resolve().parent.parent.parent / "shared"
    folder = root / "data" / "kernel"
    return folder if folder.is_dir() else None


# ---- real kernels -------------------------------------------------------------------------------

KERNEL_SOURCE: Final = "linux 6.12.94 on QEMU 10, counted (data/kernel README)"


def of_kernels(bench: Bench) -> Iterator[Score]:
    """Remote and local fences of real kernels, exact, summed over repetitions and workloads."""
    if bench.data is None:
        yield Score(group="kernels", what="every count", role="predicted", measured="",
                    predicted="", tolerance="exact", outcome="not scored", source=KERNEL_SOURCE,
                    reason="no folder of counts: say --data DIR or set FENCELAB_SHARED")
        return
    report = kernels.validate_kernel(bench.data, simulate=bench.simulate)
    groups: dict[tuple[str, str], list[kernels.Row]] = defaultdict(list)
    for row in report.rows:
        groups[row.policy, row.what].append(row)
    for (policy, what), rows in groups.items():
        yield _kernel_score(policy, what, rows, bench.data)


def _kernel_score(policy: str, what: str, rows: list[kernels.Row], data: Path) -> Score:
    outcomes = Counter(row.outcome for row in rows)
    scored = [row for row in rows if row.outcome in ("equal", "differs")]
    harts = sorted({row.harts for row in rows})
    wrong = [row for row in scored if row.outcome == "differs"]
    reasons = Counter(row.reason for row in rows if row.reason)
    loose = max((row.tolerance for row in scored), default=0)
    parts = [f"{wrong[0].workload} on {wrong[0].harts} harts: {wrong[0].measured} measured, "
             f"{wrong[0].predicted} predicted" if wrong else ""]
    parts += [f"{times} not scored: {why}" for why, times in reasons.most_common(1)]
    outcome: Outcome = passed(not wrong) if scored else "not scored"
    if outcomes[kernels.NOT_MODELLED]:
        outcome = "not modelled"
    return Score(
        group="kernels", what=f"{policy}: {what}, {', '.join(map(str, harts))} harts",
        role="predicted", measured=text(sum(row.measured or 0 for row in scored)),
        predicted=text(sum(row.predicted or 0 for row in scored)),
        tolerance=f"exact, each of {len(scored)}" + (f"; vm_map_ram +-{loose}" if loose else ""),
        outcome=outcome, source=KERNEL_SOURCE,
        reason="; ".join(part for part in parts if part),
        parameters=tuple(_kernel_parameters(policy, data)))


def _kernel_parameters(policy: str, data: Path) -> Iterator[Parameter]:
    name = policy.partition(" ")[0]
    if name not in kernels.POLICIES:
        return
    ours, svvptc = kernels.POLICIES[name]
    source = str(data)
    yield Parameter(name="policy", value=ours, role="input", source=policies.find(ours).source)
    yield Parameter(name="work", value="maps, frees, purges, sizes", role="input",
                    source=f"{source}: recordings, event logs and the rows' own event counts")
    yield Parameter(name="NR_CPUS", value=str(kernels.NR_CPUS), role="input", source=KERNEL_SOURCE)
    machine = kernels.qemu(svvptc=svvptc, via="imsic" if "imsic" in policy else "sbi")
    yield from of_machine(machine, ("levels", "asid_bits", "svvptc", "via", "inv_l1",
                                     "sbi_range_limit_bytes", "sbi_window_harts"))


# ---- the patch series ---------------------------------------------------------------------------

SERIES_HARTS: Final = 4
"""assumed: harts of the machine of the patch series, which is not disclosed (kernel.md 5)."""


def series_machine(level: str, *, svvptc: bool) -> Machine:
    """Return the undisclosed core of the patch series: what its mails say, and the cost table.

    It caches no invalid entry (the cover letter). assumed: shape of p550, 1 GHz and one cycle an
    instruction as the presets' rates are counted, every cost of the table at ``level`` (low,
    typical, high).
    """
    machine = machines.load("p550").override(costs.at(level), where=f"cost table, {level}")
    machine = machine.override({"mhz": 1000, "instruction_millicycles": 1000},
                               where="assumed: the clock of the presets' rates")
    return machine.override({"inv_l1": False, "inv_l2": False, "inv_pwc": False, "svvptc": svvptc},
                            where=published.SERIES_SOURCE)


def _series_runs(bench: Bench, series: published.Series, level: str, **changes: float
                 ) -> tuple[Result, Result]:
    """Run a preset before (6.5, no Svvptc) and after the patches (6.12 on Svvptc)."""
    before = bench.preset(series.workload, "preventive-full", series_machine(level, svvptc=False),
                          SERIES_HARTS, **changes)
    after = bench.preset(series.workload, "mark-6.12", series_machine(level, svvptc=True),
                         SERIES_HARTS, **changes)
    return before, after


def _series_parameters(series: published.Series) -> tuple[Parameter, ...]:
    chosen = workloads.load(series.workload)
    rates = (Parameter(name=f"{chosen.name}: {field}", value=str(getattr(chosen, field)),
                       role="assumed" if chosen.provenance(field).startswith("assumed")
                       else "input", source=chosen.provenance(field))
             for field in type(chosen).model_fields
             if field not in ("name", "title", "sources", "trace"))
    return (
        Parameter(name="harts", value=str(SERIES_HARTS), role="assumed",
                  source="not disclosed (kernel.md 5)"),
        Parameter(name="before", value="preventive-full, no Svvptc", role="input",
                  source=published.SERIES_SOURCE),
        Parameter(name="after", value="mark-6.12, Svvptc", role="input",
                  source=published.SERIES_SOURCE),
        Parameter(name="fences before", value=str(series.before), role="input",
                  source=published.SERIES_SOURCE),
        Parameter(name="fences after", value=str(series.after), role="input",
                  source=published.SERIES_SOURCE),
        *of_machine(series_machine("typical", svvptc=True),
                     [cost.field for cost in costs.COSTS]),
        *rates,
    )


def of_series(bench: Bench) -> Iterator[Score]:
    """Fence counts of the patch series: a consistency check, and what a preset loses unfitted."""
    for series in published.SERIES:
        if series.workload not in workloads.WORKLOADS:
            continue
        before, after = _series_runs(bench, series, "typical")
        parameters = _series_parameters(series)
        yield _consistency(series, before, after, parameters)
        lost = before.counters["fence_requests"] - after.counters["fence_requests"]
        share = Fraction(lost, before.counters["fence_requests"])
        measured = 1 - Fraction(series.after, series.before)
        yield Score(
            group="patch series", what=f"{series.name}: fence requests removed, preset unfitted",
            role="predicted", measured=percent(measured), predicted=percent(share),
            tolerance=f"{REMOVED_POINTS} points",
            outcome=passed(abs(share - measured) * 100 <= REMOVED_POINTS),
            source=published.SERIES_SOURCE, parameters=parameters,
            reason="" if abs(share - measured) * 100 <= REMOVED_POINTS else
            "the residue (what is fenced after the patches too) depends on a system that is not "
            f"described; preset {series.workload}: {before.counters['fence_requests']} -> "
            f"{after.counters['fence_requests']}")


def _consistency(series: published.Series, before: Result, after: Result,
                 parameters: tuple[Parameter, ...]) -> Score:
    """The count before, from the count after and from what one user fault fences before and after.

    Every removed request is taken for a user fault's: the residue is unpublished, hence an input.
    """
    def of_user(result: Result) -> Fraction:
        fences = result.counters["fences_addr"]
        return Fraction(fences, result.counters["user_faults"])

    faults = series.before - series.after
    predicted = series.after + faults * (of_user(before) - of_user(after))
    return Score(group="patch series", what=f"{series.name}: requests before", role="input",
                 measured=text(series.before), predicted=text(predicted),
                 tolerance="none: its residue is an input", outcome="input",
                 source=published.SERIES_SOURCE, parameters=parameters)


# ---- gains --------------------------------------------------------------------------------------


def of_gains(bench: Bench) -> Iterator[Score]:
    """Time saved by the patch series: the range that the cost table's low to high spans."""
    for series in published.SERIES:
        if series.workload not in workloads.WORKLOADS:
            continue
        base = workloads.load(series.workload)
        gains = {}
        for level, work in (("low", costs.FAULT_CYCLES.high), ("typical", None),
                            ("high", costs.FAULT_CYCLES.low)):
            # cheap fences beside dear faults, and the other way round
            factor = 1.0 if work is None else costs.FAULT_CYCLES.typical / work
            changes = {"user_faults_per_s": base.user_faults_per_s * factor}
            before, after = _series_runs(bench, series, level, **changes)
            gains[level] = 1 - Fraction(after.counters["wall_cycles"],
                                        before.counters["wall_cycles"])
        yield _gain(series, gains)


def _gain(series: published.Series, gains: Mapping[str, Fraction]) -> Score:
    low, typical, high = (gains[level] for level in costs.LEVELS)
    inside = low <= series.gain <= high
    narrow = high <= typical * GAIN_FACTOR and low * GAIN_FACTOR >= typical
    why = [] if inside else ["the published gain lies outside"]
    if not narrow:
        why.append("the costs span more than they may: that core's fence and fault costs are not "
                   "published")
    return Score(
        group="gains", what=series.name, role="predicted", measured=percent(series.gain),
        predicted=f"{percent(low)} .. {percent(high)}, typical {percent(typical)}",
        tolerance=f"inside, within a factor {float(GAIN_FACTOR)} of typical",
        outcome=passed(inside and narrow), source=published.SERIES_SOURCE, reason="; ".join(why),
        parameters=(*(Parameter(name=cost.field, value=f"{cost.low} {cost.typical} {cost.high}",
                                role="input", source=cost.source)
                      for cost in (*costs.COSTS, costs.FAULT_CYCLES)),
                    *_series_parameters(series)))


# ---- remote fences against harts ----------------------------------------------------------------

SHOOTDOWN_HARTS: Final = (2, 4, 8, 16, 32, 64)


def of_shootdowns(bench: Bench) -> Iterator[Score]:
    """What one more hart adds to a remote fence: the shape, for each way fences take."""
    measured = []
    for one in published.SHOOTDOWNS:
        fit = stats.line(one.points)
        measured.append(f"{one.name}: {text(fit.fixed / fit.slope)}")
    for via in ("sbi", "imsic"):
        machine = machines.load("sg2042").override({"via": via}, where="pysim/validate.py")
        fit = stats.line([(harts, bench.cycles_a_map(
            policies.find("preventive-range"), machine, harts, "initiator_wait_cycles"))
            for harts in SHOOTDOWN_HARTS])
        slopes = fit.fixed / fit.slope
        good = fit.r_squared >= LINEAR and slopes >= FIXED_SLOPES and fit.slope > 0
        costs_used = ("ecall_cycles", "sbi_fixed_cycles", "sbi_send_cycles", "sbi_deliver_cycles",
                      "sbi_handler_cycles", "sbi_ack_cycles") if via == "sbi" else (
                      "imsic_fixed_cycles", "imsic_send_cycles", "imsic_deliver_cycles",
                      "imsic_handler_cycles", "imsic_ack_cycles")
        yield Score(
            group="remote fences", what=f"{via}, {SHOOTDOWN_HARTS[0]} to {SHOOTDOWN_HARTS[-1]} "
            "harts: fixed part in slopes", role="predicted", measured="; ".join(measured),
            predicted=f"{text(slopes)} (r2 {float(fit.r_squared):.4f}; {fit} cycles)",
            tolerance=f"r2 >= {float(LINEAR)}, >= {FIXED_SLOPES} slopes",
            outcome=passed(good), source="; ".join(one.source for one in published.SHOOTDOWNS),
            reason="shape only: those machines are x86" + (
                "" if good else "; not linear, or the fixed part is too small"),
            parameters=tuple(of_machine(machine, (*costs_used, "fence_all_cycles",
                                                   "fence_pipe_cycles"))))


# ---- SBI calls on one hart ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One remote fence by SBI that names only the calling hart, in place of a map's own.

    Source: the benchmark of rustsbi/rustsbi pull request 277 (hardware.md c.6).
    """

    extent: Extent
    by_asid: bool = False
    name: str = "sbi-self"
    source: str = "hardware.md c.6"
    marks: tuple[Mark, ...] = ()

    def map_kernel(self) -> Handler:
        """Call the firmware."""
        return [store_ptes(valid=True),
                shootdown(self.extent, who="all", via="sbi", by_asid=self.by_asid)]


@dataclass(frozen=True, kw_only=True)
class _K1:
    """A K1 fitted to four calls of one firmware."""

    bench: Bench
    firmware: published.Firmware

    @cached_property
    def machine(self) -> Machine:
        """The preset with four fields solved from four measurements, nothing else touched."""
        base, f = machines.load("x60"), self.firmware
        fixed = f.page_self - f.impl_id - base.fence_va_cycles - base.fence_pipe_cycles
        rest = f.impl_id + fixed + base.fence_pipe_cycles
        return base.override({
            "ecall_cycles": f.impl_id, "sbi_fixed_cycles": fixed,
            "fence_all_cycles": f.all_self - rest, "fence_asid_cycles": f.asid_all_self - rest,
        }, where=f"fitted to {self.firmware.name}: {published.K1_SOURCE}")

    def call(self, extent: Extent, *, by_asid: bool = False, pages: int = 1) -> Fraction:
        return self.bench.cycles_a_map(_Call(extent=extent, by_asid=by_asid), self.machine, 1,
                                       "initiator_wait_cycles", pages=pages)


def of_sbi(bench: Bench) -> Iterator[Score]:
    """SBI calls on a K1: four of each firmware are fitted, three are predicted."""
    for firmware in published.K1:
        k1 = _K1(bench=bench, firmware=firmware)
        ecall = Fraction(k1.machine.ecall_cycles)
        roles = dict.fromkeys(("ecall_cycles", "sbi_fixed_cycles", "fence_all_cycles",
                               "fence_asid_cycles"), "fitted")
        parameters = tuple(of_machine(k1.machine, (
            *roles, "fence_va_cycles", "fence_pipe_cycles", "sbi_range_limit_bytes"), roles))
        rows: tuple[tuple[str, Role, int, Fraction], ...] = (
            ("base impl_id", "fitted", firmware.impl_id, ecall),
            ("sfence page self", "fitted", firmware.page_self, k1.call(PAGE)),
            ("sfence all self", "fitted", firmware.all_self, k1.call(ALL)),
            ("asid all self", "fitted", firmware.asid_all_self, k1.call(ALL, by_asid=True)),
            ("base marchid", "predicted", firmware.marchid, ecall),
            ("sfence 16 pages self", "predicted", firmware.pages_16_self,
             k1.call(RANGE, pages=16)),
            ("asid page self", "predicted", firmware.asid_page_self, k1.call(PAGE, by_asid=True)),
        )
        for what, role, measured, predicted in rows:
            good = abs(predicted - measured) <= K1_RELATIVE * measured
            outcome: Outcome = passed(good)
            if role == "fitted":
                outcome = "fitted" if predicted == measured else "fail"
            yield Score(
                group="SBI calls", what=f"K1, {firmware.name}: {what}", role=role,
                measured=text(measured, "cycles"), predicted=text(predicted, "cycles"),
                tolerance="fitted" if role == "fitted" else f"{percent(K1_RELATIVE)}",
                outcome=outcome, source=published.K1_SOURCE, parameters=parameters)


# ---- footprint ----------------------------------------------------------------------------------

FOOTPRINT_SOURCE: Final = "sbc-bench result 8PA8, P550 at 1.4 GHz (hardware.md c.5)"
FITTED_POINTS: Final = (256 * footprint.KIB, 2048 * footprint.KIB)
"""Footprints from and to which a curve's points were fitted: they gave `l2_hit_cycles`, and the
second knee the entries of the L2 TLB (see the preset p550)."""
KNEES: Final[Mapping[str, tuple[int, Role]]] = {
    "l1_misses": (128 * footprint.KIB, "predicted"), "walks": (2048 * footprint.KIB, "fitted"),
}


def of_footprint(bench: Bench) -> Iterator[Score]:
    """Translation cost against footprint on a P550: where its knees are, and each point."""
    found = footprint.curve(machines.load("p550"))
    roles = dict.fromkeys(found.machine.fitted, "fitted")
    parameters = tuple(of_machine(found.machine, (
        "l1d.base.ways", "l2.base.sets", "l2.base.ways", "l2_hit_cycles", "pte_via",
        "walk_overhead_per_level_cycles", "read_l2_cycles", "read_llc_cycles", "read_dram_cycles",
    ), roles))
    for share, (measured, role) in KNEES.items():
        reach = found.reach(share)
        yield Score(
            group="footprint", what=f"P550: last footprint before {share.replace('_', ' ')}",
            role=role, measured=footprint.size_text(measured),
            predicted=footprint.size_text(reach) if reach is not None else "none",
            tolerance="exact", outcome=passed(reach == measured) if role == "predicted" else
            "fitted" if reach == measured else "fail", source=FOOTPRINT_SOURCE,
            parameters=parameters)
    tolerance = f"{percent(footprint.TOLERANCE)} or {float(footprint.TOLERANCE_NS)} ns"
    for point in found.points:
        if point.measured_ns is None:
            continue
        fitted = FITTED_POINTS[0] <= point.footprint_bytes <= FITTED_POINTS[1]
        yield Score(
            group="footprint", what=f"P550: {footprint.size_text(point.footprint_bytes)}",
            role="fitted" if fitted else "predicted", measured=text(point.measured_ns, "ns"),
            predicted=text(point.translation_ns, "ns"), tolerance=tolerance,
            outcome=("fitted" if fitted else "pass") if point.agrees else "fail",
            source=FOOTPRINT_SOURCE, parameters=parameters)


# ---- the whole ----------------------------------------------------------------------------------

Group: TypeAlias = Callable[[Bench], Iterable[Score]]

GROUPS: Final[Mapping[str, Group]] = {
    "kernels": of_kernels,
    "patch series": of_series,
    "gains": of_gains,
    "remote fences": of_shootdowns,
    "SBI calls": of_sbi,
    "footprint": of_footprint,
}


def validate(data: Path | None = None, *, only: str | None = None,
             simulate: Callable[[Question], Result] = engine.simulate) -> Scoreboard:
    """Score every group; ``data`` is a folder of counted kernels, by default the shared one.

    ``only`` names one group. Raises InputError for an unknown one, or a folder that is none.
    """
    if only is not None and only not in GROUPS:
        raise InputError("validate", "only", f"unknown group {only!r}", got=only, nearest=GROUPS)
    bench = Bench(data=data or shared_counts(), simulate=simulate)
    chosen = GROUPS.values() if only is None else (GROUPS[only],)
    return Scoreboard(rows=tuple(row for group in chosen for row in group(bench)))
