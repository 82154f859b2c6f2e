"""Instructions by which counted kernels differ: scored where the noise allows it, else said so."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest

from pysim import engine, validate
from pysim import validate_kernel as vk
from pysim.engine import Question, Result
from pysim.validate_insns import InsnRow

TICK = 4000
PAGES = 8192
KERNELS = ("preventive", "mark", "mark+svvptc")
FAULT = {"preventive": 9, "mark": 9, "mark+svvptc": 1}      # with its fence, a page installed


def insns(policy: str, rep: int, *, each: dict[str, int] = FAULT, odd: int = 0) -> int:
    """What a kernel of that policy would count, whose ticks are many where its fences are.

    In one of them a boot costs ``odd`` more, or less, with every repetition.
    """
    drift = odd * (rep - 1) if policy == "preventive" else 0
    return 6_000_000 + PAGES * each[policy] + TICK * irqs(policy, rep) + drift


def irqs(policy: str, rep: int) -> int:
    return {"preventive": 50, "mark": 40, "mark+svvptc": 15}[policy] + rep


def folder(path: Path, *, leave_out: str = "", kernels: tuple[str, ...] = KERNELS,
           harts: int = 1, reps: int = 3, **made: Any) -> vk.KernelReport:
    """Score a table of `pf_file` whose instructions are made here."""
    rows = [{"policy": policy, "boot_id": "m", "smp": harts, "workload": "pf_file", "rep": rep,
             "ops": PAGES, "insn": insns(policy, rep, **made), "irqs": irqs(policy, rep),
             "S_addr": 0, "S_full": 0, "S_asid": 0, "S_addr_asid": 0, "pf_U_u": 512, "pf_S_u": 0,
             "pf_S_k": 0, "rf_kern": 0, "rf_user": 0, "rf_full": 0, "rf_targets": 0, "rf_calls": 0,
             "alloc_vmap_area": 0, "free_vmap_area_noflush": 0, "__purge_vmap_area_lazy": 0,
             "ftkr_calls": 0} for policy in kernels for rep in range(reps)]
    out = io.StringIO()
    writer = csv.DictWriter(out, [c for c in rows[0] if c != leave_out], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    (path / "counts_x.csv").write_text(out.getvalue())
    return vk.validate_kernel(path)


def only(report: vk.KernelReport) -> InsnRow:
    assert len(report.instructions) == 1, report.instructions
    return report.instructions[0]


def test_a_difference_is_predicted_an_operation_and_ticks_are_taken_off(tmp_path: Path) -> None:
    """8 instructions a page and its fence, less the jump that Svvptc leaves: no noise, no error."""
    row = only(folder(tmp_path))
    assert (row.more, row.less) == ("mark", "mark+svvptc")
    assert (row.measured, row.predicted, row.noise, row.tick) == (8, 8, 0, TICK)
    assert row.outcome == "pass"


def test_paths_that_differ_fail_and_the_exact_counts_keep_their_answer(tmp_path: Path) -> None:
    good = folder(tmp_path)
    report = folder(tmp_path, each=FAULT | {"mark+svvptc": 2})
    assert only(report).outcome == "fail"
    assert report.rows == good.rows
    assert report.ok == good.ok
    assert "fail" in report.text()
    assert "no exit status hangs on it" in report.text()


def test_kernels_without_a_repetition_in_common_are_not_scored(tmp_path: Path) -> None:
    folder(tmp_path)
    table = tmp_path / "counts_x.csv"
    lines = table.read_text().splitlines()
    moved = [line.replace("svvptc,m,1,pf_file,", "svvptc,m,1,pf_file,7") for line in lines]
    table.write_text("\n".join(moved) + "\n")
    reasons = {row.less: row.reason for row in vk.validate_kernel(tmp_path).instructions}
    assert reasons["mark+svvptc"] == "no repetition of both with operations in it"
    idle = [line.replace(f",{PAGES},", ",0,") for line in lines]
    table.write_text("\n".join(idle) + "\n")
    assert {row.outcome for row in vk.validate_kernel(tmp_path).instructions} == {"not scored"}


def without_spend(question: Question) -> Result:
    """The engine, with every path free."""
    kind = engine.OPS["spend"]
    size = engine.ffi.sizeof("struct csim_op")
    free = bytearray(question.ops)
    for at in range(0, len(free), size):
        if free[at] == kind:
            op = engine.ffi.from_buffer("struct csim_op *", memoryview(free)[at:at + size])
            op.n = 0
    return engine.simulate(dataclasses.replace(question, ops=bytes(free)))


@pytest.mark.soak
def test_without_the_paths_nothing_passes(shared: Path) -> None:
    """What the counted kernels show is more than their fences: 1 a page and not 8."""
    with_them, without = (
        vk.validate_kernel(shared / "data" / "kernel", simulate=simulate).instructions
        for simulate in (engine.simulate, without_spend))
    passed = [(a, b) for a, b in zip(with_them, without, strict=True) if a.outcome == "pass"]
    assert {a.workload.split()[0] for a, _ in passed} == {"tv_fix16", "pf_file"}
    assert not [a for a in with_them if a.outcome == "fail"]
    assert {b.outcome for _, b in passed} == {"fail"}


# ---- what is not scored --------------------------------------------------------------------------


def test_noise_that_hides_the_difference_is_said(tmp_path: Path) -> None:
    """Two kernels that should not differ do, and not by ticks: by 12 a page, which is more."""
    row = only(folder(tmp_path, odd=12 * PAGES))
    assert row.outcome == "not scored"
    assert row.reason.startswith("noise")


@pytest.mark.parametrize("column", ["insn", "irqs"])
def test_a_table_without_the_column_is_not_scored(tmp_path: Path, column: str) -> None:
    report = folder(tmp_path, leave_out=column)
    assert {row.outcome for row in report.instructions} == {"not scored"}
    assert {row.reason for row in report.instructions} == {f"the column {column} is missing"}


def test_without_a_control_nothing_is_scored(tmp_path: Path) -> None:
    """Nobody says what a tick costs, or what boots differ in."""
    row = only(folder(tmp_path, kernels=("mark", "mark+svvptc")))
    assert row.outcome == "not scored"
    assert "no kernels" in row.reason


@pytest.mark.parametrize(("harts", "kernels"), [(2, KERNELS), (1, ("mark",))])
def test_other_harts_and_kernels_alone_are_not_compared(
        tmp_path: Path, harts: int, kernels: tuple[str, ...]) -> None:
    assert folder(tmp_path, harts=harts, kernels=kernels).instructions == ()


def test_the_exact_counts_do_not_hear_of_it(tmp_path: Path) -> None:
    rows = [{row.what for row in folder(tmp_path, **made).rows}  # type: ignore[arg-type]
            for made in ({}, {"each": FAULT | {"mark": 30}})]
    assert rows[0] == rows[1]


# ---- the scoreboard ------------------------------------------------------------------------------


def test_without_counts_the_instructions_are_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "shared_counts", lambda: None)
    rows = validate.validate(only="instructions").rows
    assert [row.outcome for row in rows] == ["not scored"]
    assert "FENCELAB_SHARED" in rows[0].reason


@pytest.mark.soak
def test_every_difference_has_its_paths_and_its_tick(shared: Path) -> None:
    rows = validate.validate(shared / "data" / "kernel", only="instructions").rows
    scored = [row for row in rows if row.outcome in ("pass", "fail")]
    assert scored
    for row in scored:
        roles = {p.name: p.role for p in row.parameters}
        assert roles["instructions a timer tick"] == "fitted"
        assert roles["flush 2-64 pages, each"] == "input"
        assert all(p.source for p in row.parameters)
    assert all(row.reason for row in rows if row.outcome == "not scored")
