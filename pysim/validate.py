"""The scoreboard: what the engine predicts beside what others measured, one row a number.

Each row says where the measurement comes from, which numbers went in (``input``), which were fitted
to which measurement (``fitted``) and what was predicted, and passes or fails at a tolerance that
stands here or with its group, before anything is scored. A row that fails stays, with its reason.
Every parameter of every row can be printed.

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
    engine,
    footprint,
    machines,
    ops,
    policies,
    published,
    scenario,
    stats,
    validate_series,
)
from pysim import validate_kernel as kernels
from pysim.engine import Question, Result
from pysim.errors import InputError
from pysim.machines import Machine
from pysim.ops import ALL, PAGE, RANGE, Extent, Handler, Mark, shootdown, store_ptes
from pysim.policies import paths
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
from pysim.validate_insns import InsnRow

# ---- tolerances, fixed before scoring -----------------------------------------------------------

K1_RELATIVE: Final = Fraction(25, 100)
"""SBI calls that were not fitted lie within this part of the measured cycles."""
LINEAR: Final = Fraction(99, 100)
"""Share of the variance of shootdown times that a line in the number of harts explains."""
FIXED_SLOPES: Final = 3
"""A shootdown's fixed part is at least so many times what one more hart adds."""


# ---- runs ---------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Bench:
    """Where the rows get their runs: the engine, and a folder of counts if there is one."""

    data: Path | None
    simulate: Callable[[Question], Result] = engine.simulate

    @cached_property
    def counted(self) -> kernels.KernelReport | None:
        """The folder of counts, compared once; None where there is none."""
        return None if self.data is None else kernels.validate_kernel(
            self.data, simulate=self.simulate)

    def cycles_a_map(self, policy: ops.Policy, machine: Machine, harts: int, counter: str, *,
                     pages: int = 4, maps: int = 32) -> Fraction:
        """Return a counter per map when one hart maps and nobody works."""
        trace = kernels.counted_trace(harts, (pages,) * maps)
        asked = kernels.question(trace, "none", machine, harts)
        program = ops.lower(policy, nr_cpus=max(64, harts))
        result = self.simulate(dataclasses.replace(asked, header=program.header, ops=program.ops))
        assert result.verdict == "ran", result.verdict
        return Fraction(result.counters[counter], maps)

    def preset(self, workload: str, policy: str, machine: Machine, harts: int) -> Result:
        """Run a workload preset as it is."""
        return self.simulate(scenario.lower(scenario.build({
            "policy": policy, "machine": machine, "harts": harts, "workload": workload})))


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
    report = bench.counted
    if report is None or bench.data is None:
        yield _without_counts("kernels", "every count", "exact")
        return
    groups: dict[tuple[str, str], list[kernels.Row]] = defaultdict(list)
    for row in report.rows:
        groups[row.policy, row.what].append(row)
    for (policy, what), rows in groups.items():
        yield _kernel_score(policy, what, rows, bench.data)


def _without_counts(group: str, what: str, tolerance: str) -> Score:
    return Score(group=group, what=what, role="predicted", measured="", predicted="",
                 tolerance=tolerance, outcome="not scored", source=KERNEL_SOURCE,
                 reason="no folder of counts: say --data DIR or set FENCELAB_SHARED")


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
        tolerance=f"exact, each of {len(scored)}" + (
            f"; vm_map_ram, percpu +-{loose}" if loose else ""),
        outcome=outcome, source=KERNEL_SOURCE,
        reason="; ".join(part for part in parts if part),
        parameters=tuple(_kernel_parameters(policy, data)))


def _kernel_parameters(policy: str, data: Path) -> Iterator[Parameter]:
    name = policy.partition(" ")[0]
    found = kernels.modelled(name)
    if found is None:
        return
    ours, svvptc = found
    source = str(data)
    yield Parameter(name="policy", value=ours, role="input", source=policies.find(ours).source)
    yield Parameter(name="work", value="maps, frees, purges, sizes", role="input",
                    source=f"{source}: recordings, event logs and the rows' own event counts")
    yield Parameter(name="user work", value="faults, flushes, switches of address space",
                    role="input", source=f"{source}: event logs and the rows' own event counts")
    yield Parameter(name="faults on cached invalid PTEs", value="pf_S_k", role="input",
                    source=f"{source}: the row's own; predicted is that the check answers each")
    yield Parameter(name="fences without a cause", value="harts that come up, text that is patched",
                    role="input", source=f"{source}: event logs; the same under every policy")
    yield Parameter(name="NR_CPUS", value=str(kernels.NR_CPUS), role="input", source=KERNEL_SOURCE)
    machine = kernels.qemu(svvptc=svvptc, via="imsic" if "imsic" in policy else "sbi")
    yield from of_machine(machine, ("levels", "asid_bits", "svvptc", "via", "inv_l1",
                                     "sbi_range_limit_bytes", "sbi_window_harts"))


# ---- instructions -------------------------------------------------------------------------------


def of_instructions(bench: Bench) -> Iterator[Score]:
    """Instructions by which counted kernels differ on one hart; what noise hides is not scored."""
    report = bench.counted
    if report is None:
        yield _without_counts("instructions", "every difference", "the noise of the counts")
        return
    unknown = Counter(row.reason for row in report.instructions if row.predicted is None)
    for row in report.instructions:
        if row.predicted is not None:
            yield _insn_score(row)
    for reason, times in unknown.most_common():
        yield Score(group="instructions", what=f"{times} other differences", role="predicted",
                    measured="", predicted="", tolerance="the noise of the counts",
                    outcome="not scored", source=KERNEL_SOURCE, reason=reason)


def _insn_score(row: InsnRow) -> Score:
    def said(value: Fraction | None) -> str:
        return "" if value is None else text(value)

    return Score(
        group="instructions", what=f"{row.more} - {row.less}: {row.workload.split()[0]}, each",
        role="predicted", measured=said(row.measured), predicted=said(row.predicted),
        tolerance=f"+-{said(row.noise)}, the noise of the counts" if row.noise is not None else
        "the noise of the counts", outcome=row.outcome, source=KERNEL_SOURCE, reason=row.reason,
        parameters=tuple(_insn_parameters(row)))


def _insn_parameters(row: InsnRow) -> Iterator[Parameter]:
    if row.tick is not None:
        yield Parameter(name="instructions a timer tick", value=text(row.tick), role="fitted",
                        source="the same counts: kernels whose policies do the same")
    for name, value in paths.counted().items():
        yield Parameter(name=name, value=str(value), role="input", source=paths.SOURCE)


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
    "instructions": of_instructions,
    "patch series": validate_series.of_counts,
    "gains": validate_series.of_gains,
    "remote fences": of_shootdowns,
    "SBI calls": of_sbi,
    "footprint": of_footprint,
}


def chosen(only: str | None) -> tuple[str, ...]:
    """Return the groups to score: the one named, or all. Raises InputError for an unknown one."""
    if only is None:
        return tuple(GROUPS)
    if only not in GROUPS:
        raise InputError("validate", "only", f"unknown group {only!r}", got=only, nearest=GROUPS)
    return (only,)


def validate(data: Path | None = None, *, only: str | None = None,
             simulate: Callable[[Question], Result] = engine.simulate) -> Scoreboard:
    """Score every group; ``data`` is a folder of counted kernels, by default the shared one.

    ``only`` names one group. Raises InputError for an unknown one, or a folder that is none.
    """
    bench = Bench(data=data or shared_counts(), simulate=simulate)
    return Scoreboard(rows=tuple(row for name in chosen(only) for row in GROUPS[name](bench)))
