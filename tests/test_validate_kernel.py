"""Predicted beside counted: read right, compared right, and equal where a row can be scored."""

from __future__ import annotations

import csv
import gzip
import io
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pysim import engine, ftrace, kernel_counts, machines, ops
from pysim import validate_kernel as vk
from pysim.engine import Question, Result
from pysim.errors import InputError
from pysim.policies.linux import PreventiveRange
from pysim.workloads.recovery import recover

COLUMNS = ("policy", "boot_id", "smp", "workload", "rep", "ops", "S_full", "S_addr", "rf_kern",
           "rf_user", "rf_full", "rf_targets", "pf_S_k", "alloc_vmap_area",
           "free_vmap_area_noflush", "__purge_vmap_area_lazy", "ftkr_calls")
ROW = dict.fromkeys(COLUMNS, 0) | {"policy": "mark", "boot_id": "m", "smp": 2, "workload": "fork",
                                   "ops": 10}
USER = {"user S_addr", "user S_asid", "user S_addr_asid", "user calls", "S_full", "rf_full"}
SMALL = Path(__file__).parent / "data" / "kernel"
PACKAGED = ftrace.find("riscv-6.12-mark-smp2-forkburst")


def table(*rows: dict[str, Any], leave_out: str = "") -> str:
    out = io.StringIO()
    columns = [c for c in [*COLUMNS, *{k for r in rows for k in r} - {*COLUMNS}] if c != leave_out]
    writer = csv.DictWriter(out, columns, restval=0, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def preventive(maps: int, purges: int = 0, **changes: Any) -> dict[str, Any]:
    """A row of a preventive kernel whose counts obey the rule of one call a map and a purge."""
    calls = maps + purges
    row = ROW | {"policy": "preventive", "alloc_vmap_area": maps, "__purge_vmap_area_lazy": purges,
                 "free_vmap_area_noflush": maps, "ftkr_calls": calls, "rf_kern": calls}
    row |= changes
    return row | {"rf_targets": row["rf_kern"] * row["smp"]}


PREVENTIVE_OPS = ops.lower(PreventiveRange(svvptc_aware=True), nr_cpus=64).ops
"""The preventive kernel of the tables is of the 6.12 tree, whose user side knows Svvptc."""
KINDS = {number: name for name, number in engine.ITEMS.items()}


def naive(question: Question) -> Result:
    """Count what the kernel would ask for, without any machine: another way to the number."""
    harts = engine.ffi.from_buffer("struct csim_params *", question.params).harts
    items = np.frombuffer(question.items, dtype=engine.layout("struct csim_item"))
    items = sorted(items, key=lambda item: int(item["order"]))
    up = harts - sum(KINDS[int(item["kind"])] == "online" for item in items)
    counts: Counter[str] = Counter()
    svvptc = engine.ffi.from_buffer("struct csim_params *", question.params).machine.svvptc
    lazy = bool(svvptc)

    space: dict[int, Any] = {}
    ran: dict[Any, set[int]] = defaultdict(set)     # address space -> harts

    def everywhere(pages: int) -> None:
        """A kernel range fenced on all harts, or here when there is no other."""
        if up > 1:
            counts["remote_fence_calls"] += 1
            counts["remote_fence_targets"] += up
        else:
            counts["fences_addr" if 1 <= pages <= 64 else "fences_full"] += (
                pages if 1 <= pages <= 64 else 1)

    def of_user(hart: int, other: int, pages: int) -> None:
        """User pages fenced where their space has run, or here when it ran nowhere else."""
        harts = ran[other or space.setdefault(hart, ("its own", hart))]
        if harts - {hart}:
            for what in ("fence", "user"):
                counts[f"remote_{what}_calls"] += 1
                counts[f"remote_{what}_targets"] += len(harts)
        else:
            counts["fences_addr_asid" if 1 <= pages <= 64 else "fences_asid"] += (
                pages if 1 <= pages <= 64 else 1)

    for item in items:
        kind, hart, arg = KINDS[int(item["kind"])], int(item["hart"]), int(item["arg"])
        up += kind == "online"
        if kind == "switch_mm":
            space[hart] = arg or ("its own", hart)
            ran[space[hart]].add(hart)
        elif kind == "flush":
            everywhere(0)
        elif kind == "user_unmap" or (kind in ("user_protect", "user_spurious") and lazy):
            of_user(hart, int(item["pages"]), arg if kind == "user_unmap" else 1)
        elif kind in ("user_fault", "user_protect", "user_spurious") and not lazy:
            counts["fences_addr"] += max(1, arg)
        elif kind == "purge" or (kind == "map" and question.ops == PREVENTIVE_OPS):
            everywhere(int(item["pages"]))
    return Result(verdict="ran", verdict_hart=0, verdict_at_cycles=0, verdict_va=0,
                  counters={c.name: counts[c.name] for c in engine.COUNTERS}, histograms={})


def judged(folder: Path, *rows: dict[str, Any], simulate: Any = naive) -> list[vk.Row]:
    (folder / "counts_x.csv").write_text(table(*rows))
    return list(vk.validate_kernel(folder, simulate=simulate).rows)


def outcome(rows: list[vk.Row], what: str) -> tuple[int | None, int | None, str]:
    found = [(r.measured, r.predicted, r.outcome) for r in rows if r.what == what]
    assert len(found) == 1, rows
    return found[0]


# ---- rules --------------------------------------------------------------------------------------


def test_several_harts_call_once_for_each_map_and_purge(tmp_path: Path) -> None:
    rows = judged(tmp_path, preventive(7, 3, smp=4))
    assert outcome(rows, "rf_kern") == (10, 10, "equal")
    assert outcome(rows, "kernel targets") == (40, 40, "equal")
    assert outcome(rows, "pf_S_k") == (0, 0, "equal")


def test_a_count_that_is_off_by_one_differs(tmp_path: Path) -> None:
    rows = judged(tmp_path, preventive(7, 3, rf_kern=11))
    assert outcome(rows, "rf_kern") == (11, 10, "differs")
    report = vk.KernelReport(rows=tuple(rows))
    assert not report.ok
    assert "differs" in report.text()
    assert "11" in report.text()


def test_mark_calls_for_purges_only(tmp_path: Path) -> None:
    rows = judged(tmp_path, ROW | {"alloc_vmap_area": 50, "__purge_vmap_area_lazy": 4, "rf_kern": 4,
                                   "ftkr_calls": 4, "rf_targets": 8})
    assert outcome(rows, "rf_kern") == (4, 4, "equal")


def test_full_and_user_fences_are_no_kernel_targets(tmp_path: Path) -> None:
    rows = judged(tmp_path, preventive(5, rf_full=2) | {"rf_targets": 14})
    assert outcome(rows, "kernel targets") == (10, 10, "equal")
    for change in ({}, {"rf_calls": 7}):
        rows = judged(tmp_path, preventive(5, rf_user=2) | change)
        assert outcome(rows, "kernel targets")[2] == "not scored"
        assert outcome(rows, "rf_kern")[2] == "equal"


def test_when_every_call_named_every_hart_each_of_them_did(tmp_path: Path) -> None:
    row = preventive(5, rf_user=1, rf_full=3, rf_calls=9, smp=8)
    rows = judged(tmp_path, row | {"rf_targets": 72})
    assert outcome(rows, "kernel targets") == (40, 40, "equal")
    rows = judged(tmp_path, row | {"rf_targets": 71})
    assert outcome(rows, "kernel targets")[2] == "not scored"


def test_blocks_of_vm_map_ram_may_be_reserved_without_a_map(tmp_path: Path) -> None:
    for calls, wanted in ((136, "equal"), (140, "equal"), (132, "equal"), (131, "differs")):
        rows = judged(tmp_path, preventive(8, workload="tv_vmram", ops=128, rf_kern=calls))
        assert outcome(rows, "rf_kern")[2] == wanted
    rows = judged(tmp_path, preventive(8, workload="tv_vmram", ops=128, rf_kern=128, smp=8))
    assert outcome(rows, "rf_kern")[2] == "equal"  # each hart has its own block


def test_a_row_whose_own_events_disagree_is_not_scored(tmp_path: Path) -> None:
    rows = judged(tmp_path, preventive(5, 2, ftkr_calls=6, rf_kern=6))
    measured, predicted, verdict = outcome(rows, "rf_kern")
    assert (measured, predicted, verdict) == (6, 7, "not scored")
    assert "entered 6 times" in next(r.reason for r in rows if r.what == "rf_kern")


@pytest.mark.parametrize(("sizes", "addr", "full"), [
    ({"workload": "fork"}, 12, 0), ({"workload": "threads"}, 12, 0)])
def test_one_hart_fences_page_by_page(
    tmp_path: Path, sizes: dict[str, Any], addr: int, full: int
) -> None:
    base = ROW | {"smp": 1, "S_addr": 100, "S_full": 9, "alloc_vmap_area": 5} | sizes
    rows = judged(tmp_path, base, preventive(3, smp=1, S_addr=112, S_full=9, rf_kern=0, **sizes))
    assert outcome(rows, "S_addr added") == (12, addr, "equal")
    assert outcome(rows, "S_full added") == (0, full, "equal")


def test_a_test_of_fixed_size_needs_the_modules_own_areas(tmp_path: Path) -> None:
    base = ROW | {"smp": 1, "workload": "tv_fix16", "ops": 2, "alloc_vmap_area": 2}
    rows = judged(tmp_path, base, preventive(2, smp=1, workload="tv_fix16", ops=2, S_addr=32,
                                             rf_kern=0))
    assert outcome(rows, "S_addr added") == (32, 2, "not scored")


def test_a_base_that_varies_by_itself_is_not_subtracted(tmp_path: Path) -> None:
    bases = [ROW | {"smp": 1, "rep": rep, "S_addr": 100 + rep} for rep in range(3)]
    rows = judged(tmp_path, *bases, preventive(1, smp=1, rep=1, S_addr=105, rf_kern=0))
    assert outcome(rows, "S_addr added") == (4, 4, "not scored")
    assert outcome(rows, "S_full added")[2] == "equal"


def test_a_fault_more_than_the_base_had_is_a_fence_more(tmp_path: Path) -> None:
    base = ROW | {"smp": 1, "workload": "threads", "S_addr": 100, "pf_U_u": 100}
    bases = [base, base | {"rep": 1, "S_addr": 90, "pf_U_u": 85, "pf_S_u": 5}]
    row = preventive(2, smp=1, workload="threads", S_addr=100 + 8 - 3, pf_U_u=97, rf_kern=0)
    assert outcome(judged(tmp_path, *bases, row), "S_addr added") == (5, 5, "equal")
    bases[1]["S_addr"] = 91
    assert outcome(judged(tmp_path, *bases, row), "S_addr added")[2] == "not scored"
    rows = judged(tmp_path, *(one | {"policy": "mark+svvptc", "S_addr": 7} for one in bases),
                  row | {"policy": "preventive+svvptc", "S_addr": 15}, simulate=engine.simulate)
    assert outcome(rows, "S_addr added") == (8, 8, "equal")     # faults fence nothing there


@pytest.mark.parametrize("workload", ["forkburst", "forkpar"])
def test_processes_that_fault_at_once_have_no_base(tmp_path: Path, workload: str) -> None:
    base = ROW | {"smp": 4, "ipi": "imsic", "workload": workload, "S_addr": 7680}
    row = preventive(3, smp=4, ipi="imsic", workload=workload, S_addr=7680 + 48 - 4, rf_kern=0)
    rows = judged(tmp_path, base, row, simulate=engine.simulate)
    assert outcome(rows, "S_addr added") == (44, 48, "not scored")


def area(at: int, pages: int) -> str:
    align = 32768 if pages == 4 else 1
    return (f"  init-1 [000] ..... {1 + at / 1000:.6f}: alloc_vmap_area: va_start: "
            f"{0xFF20000000000000 + at * 0x20000} size={(pages + 1) * 4096} align={align} "
            "vstart=0xff20000000000000 failed=0")


def recorded(folder: Path, workload: str, harts: int, ops_nr: int, *pages: int) -> dict[str, Any]:
    """Put a recording of these areas into a folder, and its row into a table of traced runs."""
    name = f"riscv-6.12-mark-smp{harts}-{workload}.ftrace.txt"
    (folder / name).write_text("\n".join(area(at, n) for at, n in enumerate(pages)))
    row = ROW | {"smp": harts, "workload": workload, "ops": ops_nr, "alloc_vmap_area": len(pages)}
    (folder / "counts_traced.csv").write_text(table(row))
    return row


@pytest.mark.parametrize(("maps", "tasks", "want"), [
    (6, 0, "equal"), (7, 1, "equal"), (8, 2, "equal"), (7, 0, "not scored"), (5, 0, "not scored")])
def test_areas_beyond_the_recorded_are_stacks_of_the_rows_tasks(
    tmp_path: Path, maps: int, tasks: int, want: str
) -> None:
    recorded(tmp_path, "bpf", 4, 1, 2, 18, 2, 4)        # on other harts, with a stack among them
    base = ROW | {"smp": 1, "workload": "bpf", "ops": 2, "alloc_vmap_area": 6}
    row = preventive(maps, smp=1, workload="bpf", ops=2, rf_kern=0, copy_process=tasks,
                     S_addr=2 * 22 + 4 * (maps - 6))
    rows = [r for r in judged(tmp_path, base, row) if r.file == "counts_x.csv"]
    assert outcome(rows, "S_addr added")[2] == want


@pytest.mark.parametrize(("workload", "maps", "flushes", "pages"), [
    ("tv_fix1", 10, 12, 8), ("tv_fix16", 10, 12, 128), ("tv_vmram", 3, 12, 8)])
def test_a_test_maps_its_modules_areas_and_its_own(
    tmp_path: Path, workload: str, maps: int, flushes: int, pages: int
) -> None:
    recorded(tmp_path, "tv_rand", 2, 2, 7, 1, 4, 33, 70)    # two of them are the module's own
    base = ROW | {"smp": 1, "workload": workload, "ops": 8, "alloc_vmap_area": maps,
                  "__purge_vmap_area_lazy": 2, "ftkr_calls": 2}
    row = base | {"policy": "preventive", "ftkr_calls": flushes, "S_addr": 8 + pages,
                  "S_full": 22}
    rows = [r for r in judged(tmp_path, base, row) if r.policy == "preventive"]
    assert outcome(rows, "S_addr added") == (8 + pages, 8 + pages, "equal")
    assert outcome(rows, "S_full") == (22, 22, "equal")


def test_a_recorded_boot_has_areas_of_ftrace_that_others_have_not(tmp_path: Path) -> None:
    recorded(tmp_path, "boot", 1, 1, 4, 4, 1, 8)
    base = ROW | {"smp": 1, "workload": "boot", "ops": 1, "alloc_vmap_area": 4, "copy_process": 3}
    row = preventive(4, smp=1, workload="boot", ops=1, rf_kern=0, copy_process=3, S_addr=13)
    rows = [r for r in judged(tmp_path, base, row) if r.policy == "preventive"]
    assert outcome(rows, "S_addr added")[2] == "not scored"
    same = {"copy_process": 2, "S_addr": 17}
    rows = [r for r in judged(tmp_path, base, row | same) if r.policy == "preventive"]
    assert outcome(rows, "S_addr added") == (17, 17, "equal")


def test_without_mark_nothing_is_subtracted(tmp_path: Path) -> None:
    rows = judged(tmp_path, preventive(1, smp=1, S_addr=105, rf_kern=0))
    assert outcome(rows, "S_addr added") == (None, 4, "not scored")


@pytest.mark.parametrize("change", [{"policy": "hopeful"}, {"workload": "doom"},
                                    {"ipi": "pigeon"}])
def test_what_is_not_known_is_not_modelled(tmp_path: Path, change: dict[str, str]) -> None:
    rows = judged(tmp_path, preventive(1) | change)
    assert [row.outcome for row in rows] == ["not modelled"]
    assert rows[0].reason.startswith("not modelled: ")
    assert next(iter(change.values())) in rows[0].reason
    good = judged(tmp_path, preventive(1))
    assert vk.KernelReport(rows=tuple(good)).ok
    assert not vk.KernelReport(rows=(*good, *rows)).ok


def test_imsic_rows_count_broadcasts_and_every_harts_fences(tmp_path: Path) -> None:
    base = ROW | {"ipi": "imsic", "alloc_vmap_area": 3, "S_addr": 50}
    rows = judged(tmp_path, base, preventive(3, ipi="imsic", S_addr=50 + 2 * 12, rf_kern=0))
    mine = [row for row in rows if row.policy == "preventive (imsic)"]
    assert outcome(mine, "ftkr_calls") == (3, 3, "equal")
    assert not [row for row in rows if row.what == "rf_kern"]


def imsic_rows(harts: int) -> list[dict[str, Any]]:
    """What kernels with their own IPIs count: every hart fences for itself, firmware nothing.

    Maps of 4 pages are 4 fences by address on each hart, purges and set_memory whole ones.
    """
    base = ROW | {"ipi": "imsic", "smp": harts, "rf_calls": 0, "M_sfence": 0}
    both = ({"policy": "mark", "ftkr_calls": 0, "S_addr": 7}, {
        "policy": "preventive", "ftkr_calls": 9, "S_addr": 7 + 9 * 4 * harts})
    module = {"workload": "modload", "ops": 2, "__purge_vmap_area_lazy": 8, "ftkr_calls": 8,
              "S_full": 48 * harts}
    anon = base | ANON | {"S_addr": 2048}
    return [*(base | row | {"workload": "threads", "alloc_vmap_area": 9} for row in both),
            base | module, anon]


@pytest.mark.parametrize("harts", [2, 8, 16])
def test_under_imsic_every_hart_fences_for_itself(tmp_path: Path, harts: int) -> None:
    rows = judged(tmp_path, *imsic_rows(harts), simulate=engine.simulate)
    assert {row.outcome for row in rows} == {"equal"}
    got = Counter(row.what for row in rows if row.measured)
    assert got == {"ftkr_calls": 2, "S_addr added": 1, "S_full": 1, "user S_addr": 1}
    for n, column in ((1, "S_addr"), (2, "S_full"), (3, "M_sfence"), (0, "rf_calls")):
        wrong = imsic_rows(harts)
        wrong[n][column] += 1
        assert "differs" in {r.outcome for r in judged(tmp_path, *wrong, simulate=engine.simulate)}


@pytest.mark.parametrize(("policy", "calls"), [
    ("none", 3), ("mark-7.2", 3), ("mark-barrier", 3), ("mark-7.2+svvptc", 3), ("none+svvptc", 3),
    ("preventive+svvptc", 10), ("preventive-range", 10), ("preventive-range-6.7", 10),
])
def test_other_kernels_go_by_the_names_of_policies(tmp_path: Path, policy: str, calls: int) -> None:
    row = preventive(7, 3, policy=policy, ftkr_calls=calls, rf_kern=calls, smp=8)
    rows = judged(tmp_path, row, simulate=engine.simulate)
    assert outcome(rows, "rf_kern") == (calls, calls, "equal")
    assert outcome(rows, "kernel targets") == (8 * calls, 8 * calls, "equal")
    fewer = judged(tmp_path, row | {"rf_kern": calls - 1}, simulate=engine.simulate)
    assert outcome(fewer, "rf_kern")[2] == "differs"


def test_kernels_of_the_tree_know_svvptc_on_the_user_side(tmp_path: Path) -> None:
    for policy in ("preventive+svvptc", "none+svvptc"):
        row = ROW | ANON | {"policy": policy, "smp": 1, "S_addr": 0}
        assert outcome(judged(tmp_path, row, simulate=engine.simulate), "user S_addr") == (
            0, 0, "equal")
    row = preventive(3, policy="preventive+svvptc", smp=1, S_addr=12, rf_kern=0)
    base = ROW | {"policy": "mark+svvptc", "smp": 1, "alloc_vmap_area": 3}
    mine = [r for r in judged(tmp_path, base, row, simulate=engine.simulate)
            if r.policy == "preventive+svvptc"]
    assert outcome(mine, "S_addr added") == (12, 12, "equal")


def test_a_kernel_that_flushes_whole_has_no_ranges_to_count(tmp_path: Path) -> None:
    row = preventive(7, policy="preventive-full", rf_kern=0, rf_full=7)
    rows = judged(tmp_path, row, simulate=engine.simulate)
    assert outcome(rows, "rf_kern")[2] == "not scored"


def test_faults_of_cached_invalid_entries_find_the_mark(tmp_path: Path) -> None:
    row = ROW | {"negative_mode": "neg8", "pf_S_k": 5, "nv_hit": 5}
    assert outcome(judged(tmp_path, row), "nv_hit of pf_S_k") == (5, 5, "equal")
    assert outcome(judged(tmp_path, row | {"nv_hit": 4}), "nv_hit of pf_S_k")[2] == "differs"


def test_an_imsic_boot_flushes_each_map_whoever_is_up(tmp_path: Path) -> None:
    (tmp_path / "riscv-6.12-mark-smp2-boot.ftrace.txt").write_text(boot_trace(4, 6))
    boot = preventive(10, workload="boot", ops=1, ipi="imsic", rf_kern=0)
    assert outcome(judged(tmp_path, boot), "ftkr_calls") == (10, 10, "equal")
    assert outcome(judged(tmp_path, boot | {"ftkr_calls": 9}), "ftkr_calls")[2] == "differs"


def test_a_run_that_ends_in_a_verdict_differs(tmp_path: Path) -> None:
    def oops(question: Question) -> Result:
        good = naive(question)
        return Result(verdict="oops", verdict_hart=0, verdict_at_cycles=1, verdict_va=2,
                      counters=good.counters, histograms={})

    rows = judged(tmp_path, preventive(3, workload="threads"), simulate=oops)
    assert {row.outcome for row in rows} == {"differs"}


def test_equal_questions_run_once(tmp_path: Path) -> None:
    asked = []

    def note(question: Question) -> Result:
        asked.append(question.key)
        return naive(question)

    judged(tmp_path, *[preventive(3, rep=rep) for rep in range(5)], simulate=note)
    assert len(asked) == 1


# ---- the user side ------------------------------------------------------------------------------

ANON = {"workload": "pf_anon", "ops": 2048, "pf_U_u": 2048, "pf_S_u": 0, "S_asid": 4,
        "S_addr_asid": 0, "rf_calls": 0}


@pytest.mark.parametrize(("policy", "addr"), [("preventive", 2048), ("mark", 2048),
                                              ("mark+svvptc", 0)])
def test_a_fault_is_one_fence_or_none_with_svvptc(tmp_path: Path, policy: str, addr: int) -> None:
    row = ROW | ANON | {"policy": policy, "smp": 1, "S_addr": addr}
    assert outcome(judged(tmp_path, row, simulate=engine.simulate), "user S_addr") == (
        addr, addr, "equal")
    rows = judged(tmp_path, row | {"S_addr": addr + 1}, simulate=engine.simulate)
    assert outcome(rows, "user S_addr")[2] == "differs"
    assert outcome(rows, "user S_asid") == (4, 4, "equal")


def test_on_several_harts_unmaps_are_calls(tmp_path: Path) -> None:
    rows = judged(tmp_path, ROW | ANON | {"S_addr": 2048, "rf_calls": 4, "rf_user": 2,
                                          "rf_full": 2}, simulate=engine.simulate)
    assert outcome(rows, "user calls") == (4, 4, "equal")


def test_imsic_has_no_user_calls_to_compare(tmp_path: Path) -> None:
    rows = judged(tmp_path, ROW | ANON | {"S_addr": 2048, "ipi": "IMSIC"},
                  simulate=engine.simulate)
    assert not [row for row in rows if row.what == "user calls"]
    assert outcome(rows, "rf_calls") == (0, 0, "equal")
    assert outcome(rows, "user S_addr") == (2048, 2048, "equal")


def test_a_fork_with_more_faults_has_spurious_ones(tmp_path: Path) -> None:
    row = ROW | {"smp": 1, "policy": "mark+svvptc", "ops": 10, "pf_U_u": 70, "pf_S_u": 10,
                 "S_asid": 20, "S_addr_asid": 60}
    rows = judged(tmp_path, row, simulate=engine.simulate)
    assert outcome(rows, "user S_addr_asid") == (60, 60, "equal")
    rows = judged(tmp_path, row | {"pf_U_u": 50}, simulate=engine.simulate)
    assert outcome(rows, "user S_addr_asid")[2] == "not scored"


def test_a_modules_whole_flushes_are_counted_apart_from_purges(tmp_path: Path) -> None:
    base = {"workload": "modload", "ops": 2, "__purge_vmap_area_lazy": 8, "ftkr_calls": 8}
    rows = judged(tmp_path, ROW | base | {"smp": 1, "S_full": 48})
    assert outcome(rows, "S_full") == (48, 48, "equal")
    rows = judged(tmp_path, ROW | base | {"rf_kern": 8, "rf_full": 40, "rf_targets": 96})
    assert outcome(rows, "rf_full") == (40, 40, "equal")
    rows = judged(tmp_path, ROW | base | {"rf_kern": 9, "__purge_vmap_area_lazy": 9, "rf_full": 45,
                                          "ftkr_calls": 9, "rf_targets": 108})
    assert outcome(rows, "rf_full")[2] == "not scored"


@pytest.mark.parametrize(("policy", "maps"), [("mark", 50), ("preventive", 60)])
def test_where_ftrace_hides_purges_flushes_tell_them(
    tmp_path: Path, policy: str, maps: int
) -> None:
    row = ROW | {"policy": policy, "workload": "modload", "alloc_vmap_area": maps, "rf_full": 200,
                 "ftkr_calls": 40 + maps * (policy == "preventive")}
    assert outcome(traced(tmp_path, row), "rf_full") == (200, 200, "equal")


# ---- boots --------------------------------------------------------------------------------------


def boot_trace(maps_before: int, maps_after: int) -> str:
    lines = ["  swapper-0 [000] ..... 1.000000: sched_process_fork: comm=s pid=0 child_comm=i "
             "child_pid=1"]
    for n in range(maps_before + maps_after):
        if n == maps_before:
            lines.append("  <idle>-0 [001] d.... 2.000000: sched_switch: prev_comm=s prev_pid=0 "
                         "prev_prio=120 prev_state=R ==> next_comm=m next_pid=9 next_prio=0")
        lines.append(f"  init-1 [000] ..... {1 + (n >= maps_before) + n / 1000:.6f}: "
                     f"alloc_vmap_area: va_start: {0xFF20000000000000 + n * 0x8000} size=20480 "
                     "align=32768 vstart=0xff20000000000000 failed=0")
    return "\n".join(lines)


@pytest.mark.parametrize("maps", [8, 10, 13])
def test_maps_before_the_other_harts_are_up_make_no_call(tmp_path: Path, maps: int) -> None:
    """The recorded boot has 4 maps before and 6 after; another has more or fewer at its end."""
    (tmp_path / "riscv-6.12-mark-smp2-boot.ftrace.txt").write_text(boot_trace(4, 6))
    rows = judged(tmp_path, preventive(maps, workload="boot", ops=1, rf_kern=maps - 4))
    assert outcome(rows, "rf_kern") == (maps - 4, maps - 4, "equal")
    assert outcome(rows, "kernel targets")[2] == "equal"


@pytest.mark.parametrize(("spread", "want"), [(0, "equal"), (2, "not scored")])
def test_maps_before_the_other_harts_are_up_are_fenced_here_page_by_page(
    tmp_path: Path, spread: int, want: str
) -> None:
    (tmp_path / "riscv-6.12-mark-smp2-boot.ftrace.txt").write_text(boot_trace(4, 6))
    base = ROW | {"workload": "boot", "alloc_vmap_area": 10, "S_addr": 100, "copy_process": 10}
    row = preventive(10, workload="boot", ops=1, rf_kern=6, S_addr=116)
    rows = judged(tmp_path, base, base | {"boot_id": "n", "S_addr": 100 + spread}, row)
    assert outcome(rows, "S_addr added") == (16, 16, want)


def test_the_boot_of_an_event_log_serves_where_there_is_no_ftrace(tmp_path: Path) -> None:
    (tmp_path / "events-6.12-preventive-smp2.evt").write_text(LOG)     # one map before hart 1
    for maps in (2, 5):
        rows = judged(tmp_path, preventive(maps, workload="boot", ops=1, rf_kern=maps - 1))
        rows = [row for row in rows if row.file == "counts_x.csv"]
        assert outcome(rows, "rf_kern") == (maps - 1, maps - 1, "equal")


def test_a_boot_nobody_recorded_is_not_scored(tmp_path: Path) -> None:
    rows = judged(tmp_path, preventive(10, workload="boot", ops=1, rf_kern=6))
    assert outcome(rows, "rf_kern")[2] == "not scored"


# ---- recordings and event logs ------------------------------------------------------------------


def traced(folder: Path, row: dict[str, Any], simulate: Any = naive) -> list[vk.Row]:
    (folder / "counts_traced.csv").write_text(table(row))
    return list(vk.validate_kernel(folder, simulate=simulate).rows)


def test_a_traced_row_runs_its_own_recording(tmp_path: Path) -> None:
    shutil.copy(PACKAGED, tmp_path)
    row = ROW | {"workload": "forkburst", "alloc_vmap_area": 236}
    assert outcome(traced(tmp_path, row), "rf_kern") == (0, 0, "equal")
    assert outcome(traced(tmp_path, row | {"alloc_vmap_area": 235}), "rf_kern")[2] == "not scored"
    (tmp_path / PACKAGED.name).unlink()
    assert outcome(traced(tmp_path, row), "rf_kern")[2] == "not scored"


LOG = """0 0 0.1 copy_process a0=0 a1=0 a2=0 ra=1
0 0 0.1 __switch_to a0=80c09f80 a1=21d8000 a2=0 ra=1
1 0 0.2 __vmap_pages_range_noflush a0=ff20000000000000 a1=ff20000000004000 a2=e7 ra=1
2 0 0.2 flush_tlb_kernel_range a0=ff20000000000000 a1=ff20000000004000 a2=e7 ra=1
3 1 0.3 sfence:M full
4 0 0.4 vmap_range_noflush a0=ff20000000008000 a1=ff20000000009000 a2=0 ra=1
5 0 0.4 flush_tlb_kernel_range a0=ff20000000008000 a1=ff20000000009000 a2=e7 ra=1
6 0 0.4 sbi_rfence fid=1 hmask=3 start=ff20000000008000 size=1000 asid=0
7 0 0.5 MARK 1
8 0 0.6 MARK 12
9 0 0.7 __vmap_pages_range_noflush a0=ff20000000010000 a1=ff20000000014000 a2=e7 ra=1
10 0 0.7 flush_tlb_kernel_range a0=ff20000000010000 a1=ff20000000014000 a2=e7 ra=1
11 0 0.7 sbi_rfence fid=1 hmask=3 start=ff20000000010000 size=4000 asid=0
12 1 0.8 __vunmap_range_noflush a0=ff20000000010000 a1=ff20000000014000 a2=0 ra=1
13 1 0.9 __purge_vmap_area_lazy a0=1 a1=2 a2=0 ra=1
14 1 0.9 flush_tlb_kernel_range a0=ff20000000010000 a1=ff60000000014000 a2=e7 ra=1
15 1 0.9 sbi_rfence fid=1 hmask=3 start=ff20000000010000 size=40000000004000 asid=0
16 1 0.9 sbi_rfence fid=1 hmask=3 start=0 size=0 asid=0
17 1 0.9 sbi_rfence fid=2 hmask=1 start=7fff0000 size=1000 asid=5
18 0 1.0 MARK 13
19 0 1.1 MARK 50
20 0 1.1 __vmap_pages_range_noflush a0=ff20000000020000 a1=ff20000000024000 a2=e7 ra=1
21 0 1.2 MARK 51
"""


def test_an_event_log_is_compared_window_by_window(tmp_path: Path) -> None:
    (tmp_path / "events-6.12-preventive-smp2.evt.gz").write_bytes(gzip.compress(LOG.encode()))
    rows = [r for r in judged(tmp_path, ROW) if r.file.startswith("events")
            and r.what in ("rf_kern", "kernel targets")]
    assert [(r.workload, r.what, r.measured, r.predicted, r.outcome) for r in rows] == [
        ("boot", "rf_kern", 1, 1, "equal"), ("boot", "kernel targets", 2, 2, "equal"),
        ("fork", "rf_kern", 2, 2, "equal"), ("fork", "kernel targets", 4, 4, "equal")]


def test_a_window_that_is_not_whole_is_not_scored(tmp_path: Path) -> None:
    lines = LOG.splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if "MARK 13" in line)
    for text, why in (("".join(lines[:at]), "the log ends in this window"),
                      ("".join(lines[:at - 3] + lines[at - 1:]),
                       "2 events of this window are not in the log")):
        (tmp_path / "events-6.12-preventive-smp2.evt").write_text(text)
        rows = [r for r in judged(tmp_path, ROW) if r.file.startswith("events")
                and r.what in ("rf_kern", "kernel targets", "window")]
        assert {r.outcome for r in rows if r.workload == "boot"} == {"equal"}
        assert [r.reason for r in rows if r.workload == "fork"] == [why]


@pytest.mark.parametrize("name", ["mark-neg2-smp2", "mark-smp2-evict6"])
def test_a_log_of_cached_invalid_entries_is_its_policys(tmp_path: Path, name: str) -> None:
    text = every_fence(2, "sbi").replace("preventive", "mark")
    flush = next(line for line in text.splitlines() if "__flush_tlb_range" in line)
    fault = f"{flush.split()[0]} 0 1.5 pagefault cause=f stval=ff20000000010000"
    for between in ("", fault + "\n"):     # the kernel faults between a flush and its fence
        (tmp_path / f"events-6.12-{name}.evt").write_text(
            text.replace(flush + "\n", flush + "\n" + between))
        rows = [r for r in judged(tmp_path, ROW, simulate=engine.simulate)
                if r.file.startswith("events") and r.what.startswith("user")]
        assert {r.outcome for r in rows} == {"equal"}
        assert rows[0].policy == f"mark ({'neg2' if 'neg2' in name else 'evict6'})"
    assert any(r.measured for r in rows)


def every_fence(harts: int, via: str) -> str:
    """A log of a fork in which two harts take part, as a kernel with SBI or IMSIC leaves it."""
    lines: list[str] = []

    def put(hart: int, text: str) -> None:
        lines.append(f"{len(lines)} {hart} {1 + len(lines) / 1e5:.6f} {text}")

    def flush(sender: int, what: str, call: str, fence: str, harts: Any) -> None:
        put(sender, what)
        if via == "sbi":
            put(sender, f"sbi_rfence {call} hmask={sum(1 << h for h in harts):x}")
        for hart in harts:
            for va in fence.split(","):
                put(hart, f"sfence:{'S' if via == 'imsic' else 'M'} {va}")

    both, everyone = (0, 1), range(harts)
    put(0, "copy_process a0=0")
    put(0, "__switch_to a0=1 a1=2")
    put(0, "switch_mm a0=0 a1=1000 a2=0")
    for hart in everyone[1:]:
        put(hart, "sfence:S full")
    put(0, "MARK 1")
    put(0, "MARK 12")
    put(1, "switch_mm a0=0 a1=1000 a2=2")
    pages = [0xFF20000000008000 + n * 4096 for n in range(4)]
    kernel = f"a0={pages[0]:x} a1={pages[-1] + 4096:x}"
    put(0, f"__vmap_pages_range_noflush {kernel}")
    flush(0, f"flush_tlb_kernel_range {kernel}", f"fid=1 start={pages[0]:x} size=4000",
          ",".join(f"addr={va:x}" for va in pages), everyone)
    flush(1, "__flush_tlb_range a0=1000 a2=5000", "fid=2 start=5000 size=2000",
          "addr=5000 asid=2,addr=6000 asid=2", both)
    flush(0, "__flush_tlb_range a0=1000 a2=0", "fid=2 start=0 size=ffffffffffffffff", "asid=2",
          both)
    put(1, "sfence:S addr=7000")
    put(0, "sfence:S addr=ff1bfffffebfc000")                # text is patched
    flush(1, "flush_tlb_all", "fid=1 start=0 size=ffffffffffffffff", "full", everyone)
    put(0, "MARK 13")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("harts", [2, 4, 8])
@pytest.mark.parametrize("via", ["sbi", "imsic"])
def test_every_fence_of_a_log_is_predicted(tmp_path: Path, via: str, harts: int) -> None:
    name = f"events-6.12-preventive{'-imsic' if via == 'imsic' else ''}-smp{harts}.evt"
    (tmp_path / name).write_text(every_fence(harts, via))
    report = vk.validate_kernel(tmp_path)
    rows = {r.what: (r.measured, r.predicted) for r in report.rows if r.workload == "fork"}
    assert all(measured == predicted for measured, predicted in rows.values()), rows
    here = {"S_full": 0, "S_addr": 2, "S_asid": 0, "S_addr_asid": 0, "rf_kern": 1,
            "kernel targets": harts, "rf_calls": 4, "rf_targets": 2 * harts + 4, "user calls": 2,
            "user targets": 4}
    each = {"S_full": harts, "S_addr": 2 + 4 * harts, "S_asid": 2, "S_addr_asid": 4}
    assert {what: n for what, (n, _) in rows.items()} == (here if via == "sbi" else each)
    assert report.ok


def test_a_log_of_svvptc_fences_no_fault_and_its_flags_by_asid(tmp_path: Path) -> None:
    """Two faults, an access flag on one hart, and one of a space that has run on two."""
    fault = "pagefault cause=15 from=U stval="
    lines = ["copy_process a0=0", "__switch_to a0=1 a1=2", "switch_mm a0=0 a1=1000 a2=0", "MARK 1",
             "MARK 12", f"{fault}5000", f"{fault}6000", f"{fault}7000",
             "ptep_set_access_flags a0=1 a1=7000", "__flush_tlb_range a0=1000 a2=7000",
             "sfence:S addr=7000 asid=2"]
    text = [f"{n} 0 {1 + n / 1e5:.6f} {line}" for n, line in enumerate(lines)]
    more = ["1 switch_mm a0=0 a1=1000 a2=2", "1 ptep_set_access_flags a0=1",
            "1 __flush_tlb_range a0=1000 a2=8000",
            "1 sbi_rfence fid=2 hmask=3 start=8000 size=1000",
            "0 sfence:M addr=8000 asid=2", "1 sfence:M addr=8000 asid=2", "0 MARK 13"]
    for n, line in enumerate(more, len(lines)):
        hart, _, what = line.partition(" ")
        text.append(f"{n} {hart} {1 + n / 1e5:.6f} {what}")
    (tmp_path / "events-6.12-mark+svvptc-smp2.evt.gz").write_bytes(
        gzip.compress("\n".join(text).encode()))
    rows = {r.what: (r.measured, r.predicted) for r in vk.validate_kernel(tmp_path).rows
            if r.workload == "fork"}
    assert rows == {"S_full": (0, 0), "S_addr": (0, 0), "S_asid": (0, 0), "S_addr_asid": (1, 1),
                    "rf_kern": (0, 0), "kernel targets": (0, 0), "rf_calls": (1, 1),
                    "rf_targets": (2, 2), "user calls": (1, 1), "user targets": (2, 2)}


def test_a_row_of_a_logs_own_run_is_predicted_whole(tmp_path: Path) -> None:
    (tmp_path / "events-6.12-preventive-smp4.evt").write_text(every_fence(4, "sbi"))
    row = preventive(1, smp=4, ftkr_calls=1) | {
        "S_sfence": 2, "S_addr": 2, "S_full": 0, "S_asid": 0, "S_addr_asid": 0, "rf_calls": 4,
        "rf_targets": 12, "rf_user": 1, "rf_full": 2, "pf_U_u": 70, "pf_S_u": 0}
    rows = traced(tmp_path, row, simulate=engine.simulate)
    got = {r.what: (r.measured, r.predicted) for r in rows if r.what.endswith("by the log")}
    assert got["S_addr by the log"] == (2, 2)
    assert got["rf_targets by the log"] == (12, 12)
    assert len(got) == 6
    other = traced(tmp_path, row | {"S_sfence": 3}, simulate=engine.simulate)
    reasons = {r.reason for r in other if r.what.endswith("by the log")}
    assert reasons == {"the log of this run has 2 fences, the row 3: the windows differ"}


def test_the_log_of_one_policy_predicts_another(tmp_path: Path) -> None:
    """One map and a fault: `mark` makes no kernel call, `preventive` one; Svvptc no fence."""
    (tmp_path / "events-6.12-preventive-smp4.evt").write_text(every_fence(4, "sbi"))
    sbi = {"smp": 4, "ops": 2, "copy_process": 2, "S_addr": 2, "S_full": 0, "S_asid": 0,
           "S_addr_asid": 0, "rf_calls": 0, "pf_U_u": 14, "pf_S_u": 0}
    rows = [ROW | sbi | {"alloc_vmap_area": 3, "rep": rep} for rep in range(2)]
    rows.append(ROW | sbi | {"policy": "mark+svvptc", "S_addr": 0})
    (tmp_path / "counts_traced.csv").write_text(table(preventive(1, smp=4, ops=2)))
    found = {r.what: r for r in judged(tmp_path, *rows, simulate=engine.simulate)
             if r.what.startswith("as ")}
    assert (found["as mark: rf_kern"].measured, found["as mark: rf_kern"].predicted) == (0, 0)
    fences = found["as mark: S_addr"]
    assert (fences.measured, fences.predicted, fences.outcome) == (2, 2, "equal")
    fences = found["as mark+svvptc: S_addr"]
    assert (fences.measured, fences.predicted) == (0, 1)    # text is patched under Svvptc too
    assert found["as mark+svvptc: S_addr_asid"].outcome == "not scored"
    with_it = "events-6.12-mark+svvptc-smp4.evt"        # and from Svvptc to a kernel without it
    (tmp_path / with_it).write_text(every_fence(4, "sbi"))
    back = {r.what: r for r in judged(tmp_path, *rows, simulate=engine.simulate)
            if r.file == with_it}
    assert back["as mark: S_addr"].outcome == "not scored"
    assert back["as mark: S_addr_asid"].outcome == "equal"
    (tmp_path / with_it).unlink()
    rows[0]["S_addr"] = 4
    varies = {r.what: r for r in judged(tmp_path, *rows, simulate=engine.simulate)}
    assert varies["as mark: S_addr"].outcome == "not scored"


@pytest.mark.parametrize(("text", "where"), [
    ("", "no workload between marks"), ("0 0 0.1 sfence:M full\n", "no workload between marks"),
    (LOG + "22 zero 1 MARK 3\n", "evt:24: not a line"), (LOG + "22 0\n", "evt:24: not a line"),
    (LOG.replace("a1=ff20000000004000", ""), "evt:3: not a line"),
])
def test_a_broken_event_log_is_refused_by_line(tmp_path: Path, text: str, where: str) -> None:
    path = tmp_path / "events-6.12-mark-smp2.evt"
    path.write_text(text)
    with pytest.raises(InputError, match=where):
        list(kernel_counts.read_events(path))


@pytest.mark.slow
def test_event_logs_and_recordings_of_one_run_tell_of_the_same_areas(shared: Path) -> None:
    traces = shared / "data" / "kernel" / "traces"
    compared = 0
    for log in sorted(traces.glob("events-*.evt.gz")):
        policy, smp = log.name.removesuffix(".evt.gz").split("-")[2:]
        for window in kernel_counts.read_events(log):
            path = traces / f"riscv-6.12-{policy}-{smp}-{window.workload}.ftrace.txt.gz"
            areas = {(a.va, a.pages) for a in recover(ftrace.load(path)).areas}
            logged = recover(window.trace(log.name, 4)).areas if window.events else ()
            assert {(a.va, a.pages) for a in logged} == areas, path.name
            compared += len(areas)
    assert compared > 2000


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "message"), [
    (table(ROW | {"rf_kern": "many"}), r"counts_x\.csv:2: rf_kern: is a count, got 'many'"),
    (table(ROW, ROW | {"rf_kern": -1}), r"counts_x\.csv:3: rf_kern: is a count, got '-1'"),
    (table(ROW | {"smp": 0}), "smp: a machine has a hart"),
    (table(ROW | {"smp": 5000}), "smp: a machine has a hart, and up to 4096, got 5000"),
    (table(ROW | {"smp": ""}), r":2: smp: is a count, got ''"),
    (table(ROW | {"rf_kern": 10**30}), r":2: rf_kern: is a count, got '1000"),
    (table(ROW)[:-9], r"counts_x\.csv:2: has \d+ cells, the header 17"),
    (table(ROW).replace("\nmark,", "\nmark,m,"), ":2: has 18 cells, the header 17"),
    (table(ROW).replace("rf_user", "rf_kern"), ":1: rf_kern: two columns have this name"),
    (table(ROW, ROW).replace("\nmark,", '\n"mark,'), "expected after"),
])
def test_a_broken_table_is_refused_by_line_and_column(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "counts_x.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        vk.validate_kernel(tmp_path, simulate=naive)


@pytest.mark.parametrize("column", ["rf_kern", "ftkr_calls", "ops", "rf_targets"])
def test_a_column_that_is_missing_takes_its_rows_out_of_the_score(
    tmp_path: Path, column: str
) -> None:
    (tmp_path / "counts_x.csv").write_text(
        table(preventive(3, workload="tv_vmram", ops=2, rf_full=20), leave_out=column))
    report = vk.validate_kernel(tmp_path, simulate=naive)
    assert "not scored" in {row.outcome for row in report.rows}
    assert f"the column {column} is missing" in {row.reason for row in report.rows}
    assert "differs" not in {row.outcome for row in report.rows}


@pytest.mark.parametrize("written", [
    lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n"),
    lambda text: text.replace("\n", "\r"), lambda text: text.replace(",", " , "),
    lambda text: text.replace("\n", "\n\n"),
])
def test_a_table_may_come_from_a_spreadsheet(tmp_path: Path, written: Any) -> None:
    text = written(table(preventive(7, 3, workload="threads"), ROW | {"workload": "threads"}))
    (tmp_path / "counts_x.csv").write_bytes(text.encode())
    report = vk.validate_kernel(tmp_path, simulate=naive)
    assert Counter(row.outcome for row in report.rows) == {"equal": 6}
    assert not report.notes


@pytest.mark.parametrize("column", ["rf_kern", "ftkr_calls", "rf_targets"])
def test_an_empty_cell_was_not_counted(tmp_path: Path, column: str) -> None:
    whole = preventive(3, workload="threads")
    rows = judged(tmp_path, whole, whole | {"rep": 1, column: ""})
    assert {row.outcome for row in rows if row.rep == "m 0"} == {"equal"}
    lacking = [row for row in rows if row.rep == "m 1" and row.reason]
    assert [row.reason for row in lacking] == [f"the column {column} is missing"]
    assert "differs" not in {row.outcome for row in rows}


def test_a_row_of_more_events_than_can_be_run_says_so(tmp_path: Path) -> None:
    huge = [preventive(10**12), ROW | ANON | {"pf_U_u": 10**9}]
    rows = judged(tmp_path, *huge, preventive(3, workload="threads"))
    assert [(r.what, r.outcome) for r in rows[:2]] == [("row", "not scored")] * 2
    assert "alloc_vmap_area" in rows[0].reason
    assert "pf_U_u" in rows[1].reason
    assert {r.outcome for r in rows[2:]} == {"equal"}


def test_a_run_that_stands_twice_is_noted(tmp_path: Path) -> None:
    judged(tmp_path, ROW, preventive(1), ROW | {"rep": 1}, ROW)
    report = vk.validate_kernel(tmp_path, simulate=naive)
    assert report.notes == ("counts_x.csv:5: the same run as line 2: both are compared",)


def test_what_a_missing_column_does_not_concern_is_scored(tmp_path: Path) -> None:
    row = ROW | ANON | {"S_addr": 2048, "rf_calls": 4, "rf_full": 2}
    (tmp_path / "counts_x.csv").write_text(table(row, leave_out="rf_user"))
    rows = vk.validate_kernel(tmp_path).rows
    assert {row.what: row.outcome for row in rows} == {
        "pf_S_k": "equal", "rf_kern": "equal", "row": "not scored", "user S_addr": "equal",
        "user calls": "equal"}


@pytest.mark.parametrize("column", ["policy", "smp", "workload"])
def test_a_table_without_names_is_a_row_that_says_so(tmp_path: Path, column: str) -> None:
    (tmp_path / "counts_x.csv").write_text(table(ROW, leave_out=column))
    report = vk.validate_kernel(tmp_path, simulate=naive)
    assert [row.outcome for row in report.rows] == ["not scored"]
    assert column in report.rows[0].reason
    assert not report.ok


def test_an_unknown_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "counts_x.csv").write_text(table(ROW | {"zeal": 7}))
    report = vk.validate_kernel(tmp_path, simulate=naive)
    assert report.ok
    assert "counts_x.csv: column 'zeal' is unknown" in report.text()


@pytest.mark.parametrize(("name", "want"), [
    ("riscv-6.12-mark-smp2-boot.ftrace.txt.gz", ("mark", "sbi", 2, "boot")),
    ("riscv-6.12-mark+svvptc-smp8-tv_rand.ftrace.txt", ("mark+svvptc", "sbi", 8, "tv_rand")),
    ("riscv-7.2-rc1-mark-imsic-smp4-fork.ftrace.txt.gz", ("rc1-mark", "imsic", 4, "fork")),
    ("riscv-6.12-mark-smp4-imsic-fork.ftrace.txt", ("mark", "imsic", 4, "fork")),
    ("riscv-6.12-broken-b2-smp4-fork.ftrace.txt", ("broken-b2", "sbi", 4, "fork")),
    ("events-6.12-preventive-smp16.evt.gz", ("preventive", "sbi", 16, "")),
    ("events-6.12-preventive-smp16-imsic.evt", ("preventive", "imsic", 16, "")),
    ("events-6.12-mark-neg2-smp2.evt.gz", ("mark", "sbi", 2, "")),
    ("riscv-6.12-mark-smp2-evict4-fork.ftrace.txt", ("mark", "sbi", 2, "fork")),
    ("events-6.12-preventive-smp0.evt", None), ("riscv-6.12-mark-smp2.ftrace.txt", None),
    ("events-6.12-mark-smp2.ftrace.txt", None), ("x86-6.18-compile.ftrace.txt.gz", None),
])
def test_a_file_name_says_what_was_recorded(name: str, want: Any) -> None:
    found = kernel_counts.named(name)
    assert want == (found and (found.policy, found.via, found.harts, found.workload))


def test_recordings_without_counts_are_rows_too(tmp_path: Path) -> None:
    trace = boot_trace(1, 1)
    for name in ("mark-smp2-boot", "hopeful-smp2-boot", "mark-smp2-doom"):
        (tmp_path / f"riscv-6.12-{name}.ftrace.txt").write_text(trace)
    report = vk.validate_kernel(tmp_path, simulate=naive)
    assert [row.outcome for row in report.rows] == ["not modelled", "not scored", "not modelled"]
    assert not report.ok


def test_more_harts_than_the_recorded_kernels_had_masks_for(tmp_path: Path) -> None:
    assert outcome(judged(tmp_path, preventive(3, smp=96)), "rf_kern") == (3, 3, "equal")


def test_a_folder_without_counts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to score"):
        vk.validate_kernel(tmp_path)
    (tmp_path / "counts_x.csv").write_text(table())
    with pytest.raises(InputError, match="nothing to score"):
        vk.validate_kernel(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        vk.validate_kernel(tmp_path / "nothing")


def test_tables_may_be_gzipped_and_a_log_that_is_cut_short_is_said(tmp_path: Path) -> None:
    (tmp_path / "counts-8.csv.gz").write_bytes(gzip.compress(table(preventive(2)).encode()))
    log = gzip.compress(LOG.encode())
    (tmp_path / "events-6.12-mark-smp2.evt.gz").write_bytes(log[:len(log) // 2])
    (tmp_path / "events-6.12-mark-smp4.evt").write_text(LOG + "gibberish\n")
    report = vk.validate_kernel(tmp_path, simulate=naive)
    assert report.ok
    assert "smp2.evt.gz is not read" in report.text()
    assert "smp4.evt is not read" in report.text()


def test_other_columns_and_files_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("counts\n")
    assert outcome(judged(tmp_path, preventive(2) | {"zeal": "high"}), "rf_kern")[2] == "equal"


# ---- the report ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["simple", "github", "latex", "tsv"])
def test_the_report_names_every_reason_and_on_request_every_row(tmp_path: Path, form: str) -> None:
    report = vk.KernelReport(rows=tuple(judged(tmp_path, preventive(2, rf_user=1), ROW)))
    assert report.ok
    assert "user fences" in report.text(form)
    assert len(report.text(form, every=True).splitlines()) >= len(report.rows)
    scored = sum(row.outcome == "equal" for row in report.rows)
    assert f"{scored} of {scored} scored numbers are equal" in report.text(form)


def test_the_machine_is_the_emulator_of_the_tables() -> None:
    machine = vk.qemu()
    assert machine.mode == "Sv57"
    assert machine.caches_invalid == "no"
    assert (machine.store_drain_cycles, machine.coherence_cycles) == (0, 0)
    assert (machine.via, machine.sbi_range_limit_bytes) == ("sbi", 4096)
    assert vk.qemu(svvptc=True).svvptc
    assert machine.name not in machines.PRESETS or machine.sources["levels"].startswith("data/k")


# ---- the whole ----------------------------------------------------------------------------------


def test_the_engine_agrees_with_the_counts_of_this_checkout() -> None:
    report = vk.validate_kernel(SMALL)
    assert not [row for row in report.rows if row.outcome == "differs"]
    assert report.ok
    equal = [row for row in report.rows if row.outcome == "equal"]
    assert len(equal) >= 270
    assert sum(row.measured != 0 for row in equal) >= 120
    assert {row.what for row in equal} == {"rf_kern", "kernel targets", "pf_S_k", "S_addr added",
                                           "S_full added", *(USER - {"user calls"})}


def test_the_wrong_policy_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were preventive taken for mark, or the other way round, hundreds of rows would differ."""
    swapped = {"preventive": ("mark-6.12", False), "mark": ("preventive-range", False)}
    monkeypatch.setattr(vk, "POLICIES", swapped)
    rows = vk.validate_kernel(SMALL).rows
    off = Counter(row.what for row in rows if row.outcome == "differs")
    assert off.keys() == {"rf_kern", "kernel targets", "S_addr added", "user S_addr", "S_full"}
    assert off["rf_kern"] >= 30


@pytest.mark.soak
def test_the_engine_agrees_with_every_scorable_row(shared: Path) -> None:
    report = vk.validate_kernel(shared / "data" / "kernel")
    assert not [row for row in report.rows if row.outcome == "differs"]
    assert sum(row.outcome == "equal" for row in report.rows) >= 1500


@pytest.mark.soak
def test_a_naive_count_agrees_with_every_scorable_row(shared: Path) -> None:
    report = vk.validate_kernel(shared / "data" / "kernel", simulate=naive)
    assert not [row for row in report.rows if row.outcome == "differs"]
    assert sum(row.outcome == "equal" for row in report.rows) >= 1500
