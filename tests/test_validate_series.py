"""Rows about the patch series: presets follow what was counted, gains fail and pass by the rule."""

from __future__ import annotations

import csv
import dataclasses
from fractions import Fraction
from pathlib import Path

import pytest

from pysim import costs, engine, published, scores, validate, validate_series, workloads
from pysim.engine import Result
from pysim.validate_series import Pair

GIGA = 10**9


def board(only: str) -> dict[str, scores.Score]:
    return {row.what: row for row in validate.validate(only=only).rows}


def result(**changed: int) -> Result:
    counters = dict.fromkeys((c.name for c in engine.COUNTERS), 0) | changed
    return Result(verdict="ran", verdict_hart=0, verdict_at_cycles=0, verdict_va=0,
                  counters=counters, histograms={})


def pair(gain_percent: int, removed: int = 1000) -> Pair:
    """100 000 cycles before; ``removed`` of 1 500 requests removed."""
    return Pair(before=result(wall_cycles=100_000, fence_requests=1500),
                after=result(wall_cycles=1000 * (100 - gain_percent),
                             fence_requests=1500 - removed))


# ---- the presets --------------------------------------------------------------------------------


def counted(shared: Path, workload: str, policy: str = "mark", harts: int = 1) -> dict[str, float]:
    """Counts of a workload per operation, and operations per 10^9 instructions (``rate``)."""
    with open(shared / "data" / "kernel" / "counts_sbi.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file)
                if (row["policy"], row["workload"], row["smp"]) == (policy, workload, str(harts))]
    total = {name: sum(float(row[name]) for row in rows) for name in rows[0]
             if name in ("ops", "insn", "S_sfence", "S_addr", "S_asid", "rf_calls", "pf_U_u",
                         "alloc_vmap_area")}
    each = {name: value / total["ops"] for name, value in total.items()}
    return each | {"rate": GIGA / each["insn"]}


def test_lat_pagefault_and_lat_mmap_are_as_counted(shared: Path) -> None:
    file, mmap = counted(shared, "pf_file"), counted(shared, "lat_mmap")
    fault, mapped = workloads.load("lat-pagefault"), workloads.load("lat-mmap")
    assert fault.file_faults_per_s == pytest.approx(file["rate"] / 16, rel=1e-3)
    assert fault.user_unmaps_per_s == pytest.approx(file["rate"] / 512, rel=1e-3)
    assert file["S_asid"] == pytest.approx(1 / 512)
    assert mapped.user_faults_per_s == pytest.approx(64 * mmap["rate"], rel=1e-3)
    assert mapped.user_unmaps_per_s == pytest.approx(mmap["rate"], rel=1e-3)
    assert mmap["S_asid"] == pytest.approx(1, rel=0.01)
    for preset in (fault, mapped):
        assert preset.user_unmap_pages == 0


def test_a_child_of_mmapstress01_is_a_fork_and_its_passes_over_a_page(shared: Path) -> None:
    stress, fork = workloads.load("mmapstress01"), counted(shared, "fork")
    child = fork["insn"] + 500 * 4096 / 20 * 10
    assert stress.user_forks_per_s == pytest.approx(GIGA / child, rel=1e-3)
    stacks = counted(shared, "forkburst", harts=4)["alloc_vmap_area"]
    assert stress.vmalloc_per_s == pytest.approx(stacks * 4 * stress.user_forks_per_s, rel=0.01)
    assert stress.lifetime_ms == pytest.approx(20 * 1000 / (4 * stress.user_forks_per_s), rel=0.02)


def test_a_boot_to_login_is_a_kernels_boot_and_programs(shared: Path) -> None:
    """Requests before the patches are the published ones: that fitted the number of programs."""
    login, boot = workloads.load("boot-login"), counted(shared, "boot")
    program = counted(shared, "forkexec")
    remote = counted(shared, "forkexec", "preventive", 4)
    fixmap, programs = 8584 + 2 * 55_000, 2414
    each = remote["S_sfence"] + remote["rf_calls"]
    assert fixmap + programs * each == pytest.approx(630_000, rel=0.005)
    seconds = (boot["insn"] + programs * program["insn"]) / GIGA
    assert login.user_forks_per_s == pytest.approx(programs / seconds / 4, rel=0.005)
    assert login.fixmap_fences_per_s == pytest.approx(fixmap / seconds, rel=0.005)
    stacks = boot["alloc_vmap_area"] + programs * remote["alloc_vmap_area"]
    assert login.vmalloc_per_s == pytest.approx(stacks / seconds, rel=0.02)
    ratio = login.user_forks_per_s / workloads.load("forkexec").user_forks_per_s
    for field in ("user_unmaps_per_s", "file_faults_per_s", "user_faults_per_s"):
        mine, theirs = (getattr(workloads.load(name), field) for name in ("boot-login", "forkexec"))
        assert mine == pytest.approx(ratio * theirs, rel=0.005)
    assert workloads.load("boot").fixmap_fences_per_s == pytest.approx(
        8584 * boot["rate"], rel=0.005)


# ---- fences -------------------------------------------------------------------------------------


def test_presets_lose_the_share_that_the_patches_removed() -> None:
    rows = board("patch series")
    scored = {what: row for what, row in rows.items() if row.role == "predicted"}
    assert len(scored) == len(rows) - len(scored) == len(published.SERIES)
    assert {row.outcome for row in scored.values()} == {"pass"}
    assert all(row.measured == row.predicted for row in rows.values() if row.role == "input")
    boot = scored["Ubuntu boot to login: fence requests removed"]
    assert "fitted: kernel.md 5, 630 000 requests before" in boot.reason
    assert {p.name for p in boot.parameters if p.role == "fitted"} >= {
        "boot-login: user_forks_per_s"}


def test_another_residue_fails_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = dataclasses.replace(published.SERIES[2], after=665_000 // 2)
    monkeypatch.setattr(published, "SERIES", (kept,))
    row = board("patch series")["lmbench lat_pagefault: fence requests removed"]
    assert row.outcome == "fail"
    assert "what is fenced after the patches too" in row.reason


# ---- gains --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "typical", "high", "outcome"), [
    (5, 6, 7, "pass"), (4, 6, 9, "pass"), (3, 6, 9, "fail"), (4, 6, 10, "fail"),
    (7, 8, 9, "fail"), (3, 4, 5, "fail"), (6, 6, 6, "pass"),
])
def test_a_gain_passes_inside_a_narrow_range(
    low: int, typical: int, high: int, outcome: str
) -> None:
    pairs = {"low": pair(low), "typical": pair(typical), "high": pair(high)}
    alone = {"one": (Fraction(1, 100), Fraction(2, 100))}
    row = validate_series._gain(published.SERIES[0], pairs, alone)     # published: 6 %
    assert row.outcome == outcome
    assert bool(row.reason) == (outcome == "fail")


def test_a_failing_gain_says_what_it_asks_and_what_spans_most() -> None:
    pairs = {"low": pair(1), "typical": pair(10), "high": pair(50)}
    alone = {"this": (Fraction(1, 100), Fraction(2, 100)), "that": (Fraction(1, 100), Fraction(5))}
    series = dataclasses.replace(published.SERIES[0], gain=Fraction(20, 100), note="odd")
    row = validate_series._gain(series, pairs, alone)
    # of 90 000 cycles after, 22 500 more before are 20 %: 22.5 for each of 1 000
    assert row.reason == (
        "what is unknown of that core spans more than it may; it is 22.5 cycles for each request "
        "removed, predicted 1, 10, 50; widest alone: that, 1 % to 500 %; odd")


def test_dearer_fences_save_more() -> None:
    rows = board("gains")
    for row in rows.values():
        low, rest = row.predicted.split(" .. ")
        high, typical = rest.split(", typical ")
        low_part, typical_part, high_part = (float(x.rstrip(" %")) for x in (low, typical, high))
        assert 0 <= low_part <= typical_part <= high_part, row
        named = {p.name.partition(": ")[0] for p in row.parameters}
        assert named >= {unknown.name for unknown in validate_series.UNKNOWNS}
    inside = [row for row in rows.values() if "lies outside" not in row.reason]
    assert len(inside) == 3


def test_every_cost_of_the_table_is_unknown_of_that_core_once() -> None:
    fields = [field for unknown in validate_series.UNKNOWNS for field in unknown.typical]
    assert sorted(fields) == sorted({cost.field for cost in costs.COSTS}
                                    | {"instruction_millicycles", "fence_va_as_all"})
    for unknown in validate_series.UNKNOWNS:
        assert unknown.low.keys() == unknown.typical.keys() == unknown.high.keys()


def test_a_second_of_that_core_is_as_many_instructions_as_the_presets_count() -> None:
    for level in costs.LEVELS:
        machine = validate_series.core(svvptc=True, levels=level)
        assert machine.mhz == machine.instruction_millicycles
        assert not any((machine.inv_l1, machine.inv_l2, machine.inv_pwc))
    only = validate_series.core(svvptc=False, levels={"pipeline refill after a fence": "high"})
    assert only.fence_pipe_cycles == 40
    assert only.override({"fence_pipe_cycles": 30}).flat() == validate_series.core(
        svvptc=False).flat()
