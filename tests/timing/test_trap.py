"""Instructions of the trap path, counted: with one cycle each and nothing else, cycles are counts.

The numbers are those of facts/kernel.md 3, where the macro of linux 6.12 was assembled and counted;
the three instructions before it (csrrw, bnez, csrr) are charged to faults of our own making only.
"""

from __future__ import annotations

import pytest
from items import Handlers, address, item, run, spent

from pysim import engine, machines
from pysim.ops import (
    ALL,
    PTE_VALID_NOW,
    SSCRATCH_ZERO,
    allocate,
    clear_mark,
    fail,
    fall_through,
    mark,
    marked,
    retry,
    shootdown,
    spend,
    store_ptes,
    touch,
    when,
)

INTERRUPT = 1 << 63
USER = 0x40_0000
TIMER, BREAKPOINT, ECALL = INTERRUPT | 5, 3, 8
FETCH, LOAD, STORE = 12, 13, 15
MARKS = ("mark-6.12", "mark-7.2", "mark-barrier")
WORDS = {"mark-6.12": 9, "mark-7.2": 1, "mark-barrier": 1}      # NR_CPUS is 64
PROLOGUE = 3
TEST = 18 + 3       # is it vmalloc's, and the mark's address (pysim/policies/paths.py)


@pytest.mark.parametrize("policy", MARKS)
@pytest.mark.parametrize(("scause", "stval", "from_user", "instructions"), [
    pytest.param(TIMER, 0, False, 4, id="interrupt"),
    pytest.param(INTERRUPT | 9, 0, False, 4, id="device interrupt"),
    pytest.param(BREAKPOINT, 0, False, 12, id="not a page fault"),
    pytest.param(2, 0, False, 12, id="illegal instruction"),
    pytest.param(LOAD, USER, False, 10, id="load page fault, user address"),
    pytest.param(STORE, USER, False, 12, id="store page fault, user address"),
    pytest.param(FETCH, USER, False, 14, id="fetch page fault, user address"),
    pytest.param(LOAD, address(5), False, 25, id="load page fault, bit clear"),
    pytest.param(STORE, address(5), False, 27, id="store page fault, bit clear"),
    pytest.param(FETCH, address(5), False, 29, id="fetch page fault, bit clear"),
    pytest.param(TIMER, 0, True, 0, id="interrupt from U"),
    pytest.param(ECALL, 0, True, 0, id="system call"),
    pytest.param(LOAD, USER, True, 0, id="load page fault from U"),
    pytest.param(STORE, address(5), True, 0, id="kernel address from U"),
])
def test_the_check_counts_its_instructions(policy: str, scause: int, stval: int, from_user: bool,
                                           instructions: int) -> None:
    flags = ("from_user",) if from_user else ()
    result = run([item("trap", 0, 100, *flags, arg=scause, va=stval)], policy=policy)
    assert spent(result) == ({"early_check_cycles": instructions} if instructions else {})
    assert result.counters["traps_interrupt"] == (scause >= INTERRUPT)
    assert result.counters["traps_user"] == from_user
    assert result.counters["early_checks"] == (not from_user)


@pytest.mark.parametrize(("scause", "stval", "loads", "stores"), [
    (TIMER, 0, 1, 1), (BREAKPOINT, 0, 2, 2), (LOAD, USER, 2, 2), (LOAD, address(5), 5, 3),
])
def test_loads_and_stores_of_a_path_cost_beside_its_instructions(
        scause: int, stval: int, loads: int, stores: int) -> None:
    rows = [item("trap", 0, 100, arg=scause, va=stval)]
    bare, both = (spent(run(rows, policy="mark-7.2", **costs))["early_check_cycles"]
                  for costs in ({}, {"load_cycles": 1000, "store_cycles": 100}))
    assert both - bare == 1000 * loads + 100 * stores


@pytest.mark.parametrize("policy", ["none", "preventive-range", "ideal", "vmalloc-fault"])
def test_a_policy_without_a_check_pays_nothing(policy: str) -> None:
    rows = [item("trap", 0, 100, arg=TIMER), item("trap", 0, 300, arg=LOAD, va=0x1000)]
    if policy != "vmalloc-fault":
        rows.insert(1, item("trap", 0, 200, arg=LOAD, va=address(5)))
    assert spent(run(rows, policy=policy)) == {}


@pytest.mark.parametrize("mapped", [False, True])
def test_a_probe_is_asked_of_the_c_handler_and_fixed_up(mapped: bool) -> None:
    """Linux 6.4's vmalloc_fault runs for it too: what it finds is retried, the rest is fixed up."""
    rows = [item("map", 0, 100, page=5)] * mapped
    rows.append(item("trap", 0, 900, arg=LOAD, va=address(5)))
    result = run(rows, policy="vmalloc-fault", livelock_retries=3)
    assert result.counters["kernel_faults_c"] == (3 if mapped else 1)
    assert result.verdict == ("livelock" if mapped else "ran")   # this trap comes whatever is done
    assert result.counters["early_check_cycles"] > 0 == result.counters["lazy_fault_cycles"]


@pytest.mark.parametrize("policy", MARKS)
@pytest.mark.parametrize(("flags", "instructions"), [((), 31), (("load",), 29), (("fetch",), 33)])
def test_a_resolved_fault_counts_its_instructions(
        policy: str, flags: tuple[str, ...], instructions: int) -> None:
    """The page is touched before the own store has drained, once per cycle of the fault's path."""
    path = PROLOGUE + instructions - 3      # amoxor, sfence.vma and sret are steps of their own
    rows = [item("map", 0, 100, page=1), item("touch", 0, 100, *flags, page=1)]
    words = WORDS[policy]
    result = run(rows, policy=policy, store_drain_cycles=words + path, amo_cycles=1, sret_cycles=1,
                 fence_all_cycles=1)
    assert spent(result) == {"lazy_fault_cycles": PROLOGUE + instructions, "mark_cycles": words,
                             "map_store_cycles": TEST}
    assert result.counters["early_checks_retried"] == 1
    assert result.counters["kernel_faults_c"] == 0
    assert result.counters["mark_clears"] == result.counters["fences_full"] == 1


def test_entry_and_return_are_the_machines() -> None:
    rows = [item("map", 0, 100, page=1), item("touch", 0, 100, page=1)]
    costs = {"trap_entry_cycles": 100, "sret_cycles": 1000, "amo_cycles": 10_000}
    result = run(rows, policy="mark-7.2", store_drain_cycles=50, **costs)
    assert spent(result) == {"lazy_fault_cycles": 11_100 + PROLOGUE + 31 - 3, "mark_cycles": 1,
                             "map_store_cycles": TEST}


@pytest.mark.parametrize(("policy", "nr_cpus", "words"), [
    ("mark-6.12", 64, 9), ("mark-6.12", 512, 65), ("mark-7.2", 64, 1), ("mark-7.2", 256, 4),
])
def test_a_mark_is_a_store_for_each_word(policy: str, nr_cpus: int, words: int) -> None:
    """Source of the words: hardware.md row 31. Each is an instruction, and a store."""
    rows = [item("map", 0, 100, page=1)]
    costs = ({}, {"store_cycles": 10})
    pte = spent(run(rows, policy="none", **costs[1])).get("map_store_cycles", 0)
    assert spent(run(rows, policy=policy, nr_cpus=nr_cpus)) == {
        "mark_cycles": words, "map_store_cycles": TEST}
    assert spent(run(rows, policy=policy, nr_cpus=nr_cpus, **costs[1])) == {
        "mark_cycles": 11 * words, "map_store_cycles": pte + TEST}


@pytest.mark.parametrize("policy", MARKS)
def test_a_probe_takes_the_mark_and_faults_again(policy: str) -> None:
    """A load that the kernel knows may fault finds the bit set: one more trap, not two."""
    rows = [item("map", 0, 100, page=1), item("trap", 0, 200, arg=LOAD, va=address(5)),
            item("trap", 0, 300, arg=LOAD, va=address(5))]
    result = run(rows, policy=policy, amo_cycles=1, fence_all_cycles=1, sret_cycles=1,
                 trap_entry_cycles=100)
    resolved, clear = 29, 25
    assert spent(result) == {"early_check_cycles": resolved + 100 + PROLOGUE + clear + clear,
                             "mark_cycles": WORDS[policy], "map_store_cycles": TEST}
    assert result.counters["early_checks"] == 3
    assert result.counters["early_checks_retried"] == 1


def test_a_fault_in_c_costs_the_save_the_handler_and_the_return() -> None:
    """vmalloc_fault: the frame is saved on the stack, 150 instructions, one fence by address."""
    rows = [item("map", 0, 100, page=1), item("touch", 0, 100, page=1)]
    result = run(rows, policy="vmalloc-fault", store_drain_cycles=1, trap_entry_cycles=7,
                 sret_cycles=11, trap_save_instructions=62, trap_exit_instructions=44,
                 fence_va_cycles=5)
    assert spent(result) == {"lazy_fault_cycles": 7 + PROLOGUE + 62 + 150 + 5 + 44 + 11}
    assert result.counters["kernel_faults_c"] == result.counters["spurious_faults"] == 1


@pytest.mark.parametrize("name", machines.PRESETS)
def test_the_presets_entry_and_return_are_those_of_a_fault_in_the_kernel(name: str) -> None:
    """69 instructions from S to the C handler, the three before the check among them; 41 back."""
    machine = machines.load(name)
    entry, leave = machine.trap_save_instructions, machine.trap_exit_instructions
    assert (PROLOGUE + entry, leave) == (69, 41)
    rows = [item("map", 0, 100, page=1), item("touch", 0, 100, page=1)]
    result = run(rows, policy="vmalloc-fault", store_drain_cycles=1, trap_save_instructions=entry,
                 trap_exit_instructions=leave)
    assert spent(result) == {"lazy_fault_cycles": 69 + 150 + 41}


# ---- faults inside the trap ---------------------------------------------------------------------


def test_a_handler_that_ends_undecided_is_not_decided_by_a_fault_inside_it() -> None:
    """In C: no PTE, so touch something new; that fault is resolved, the outer one is not."""
    resolve = when(PTE_VALID_NOW, [retry()])
    policy = Handlers({"map_kernel": [store_ptes(valid=True)],
                       "kernel_fault": [resolve, allocate(1), touch()]})
    result = run([item("touch", 0, 100, page=1)], policy=policy, store_drain_cycles=5)
    assert (result.verdict, result.verdict_va) == ("oops", address(1))


def test_a_check_that_ends_undecided_falls_through() -> None:
    """The same before the stack: what a nested check decided is about its own fault."""
    check = when(SSCRATCH_ZERO, [when(marked("m"), [clear_mark("m"), allocate(1), touch()])])
    policy = Handlers({"map_kernel": [store_ptes(valid=True), mark("m")], "early_trap": [check],
                       "kernel_fault": [when(PTE_VALID_NOW, [retry()]), fail()]})
    rows = [item("map", 0, 100, page=1), item("touch", 0, 200, page=2)]
    result = run(rows, policy=policy, store_drain_cycles=5)
    assert (result.verdict, result.verdict_va) == ("oops", address(2))


@pytest.mark.parametrize("policy", ["mark-7.2", "none", "vmalloc-fault"])
def test_a_fault_nobody_can_resolve_is_an_oops(policy: str) -> None:
    result = run([item("map", 0, 10, page=1), item("touch", 0, 100, page=7)], policy=policy)
    assert (result.verdict, result.verdict_va, result.verdict_hart) == ("oops", address(7), 0)
    assert result.counters["early_checks"] == (2 if policy == "mark-7.2" else 1)


def test_a_fault_that_is_always_retried_is_a_livelock() -> None:
    policy = Handlers({"early_trap": [spend(1), retry()]})
    result = run([item("touch", 0, 100, page=7)], policy=policy, livelock_retries=50)
    assert result.verdict == "livelock"
    assert result.counters["retries"] == 50
    assert result.verdict_at_cycles == 100 + 50 * (PROLOGUE + 1)


def test_a_save_that_faults_again_and_again_overflows_the_stack() -> None:
    """The stack itself is not there: the frame cannot be saved, and nobody resolves it."""
    policy = Handlers({"early_trap": [fall_through()], "kernel_fault": [fail()]})
    rows = [item("switch", 0, 50, page=8, pages=4, arg=1), item("touch", 0, 100, page=1)]
    result = run(rows, policy=policy)
    assert result.verdict == "stack overflow"
    assert result.verdict_va == address(8)


ON_A_NEW_STACK = [item("map", 0, 10, page=8, pages=4),
                  item("switch", 0, 20, page=8, pages=4, arg=1)]
SHOT = item("flush", 1, 60, page=99)


@pytest.mark.parametrize(("rows", "via"), [
    pytest.param([*ON_A_NEW_STACK, item("trap", 0, 30, arg=TIMER)], "sbi", id="interrupt"),
    pytest.param([*ON_A_NEW_STACK, SHOT], "imsic", id="IPI"),
])
@pytest.mark.parametrize("policy", MARKS)
def test_the_window_of_sscratch_hides_the_check(
        policy: str, rows: list[dict[str, int]], via: str) -> None:
    """A fault of the save is taken for one from user mode: the check does not look at it."""
    result = run(rows, policy=policy, harts=2, via=engine.VIA[via], store_drain_cycles=10_000)
    assert (result.verdict, result.verdict_hart) == ("stack overflow", 0)
    assert result.counters["early_checks_retried"] == result.counters["mark_clears"] == 0


def test_a_fault_after_the_save_finds_the_check_again() -> None:
    """The handler of an IPI touches what it has just mapped: sscratch is zero by then."""
    policy = Handlers({
        "map_kernel": [store_ptes(valid=True), mark("m")],
        "early_trap": [when(SSCRATCH_ZERO & marked("m"), [clear_mark("m"), spend(99), retry()])],
        "flush_kernel": [shootdown(ALL)], "ipi": [allocate(1), touch()]})
    result = run([item("flush", 1, 100, page=99)], policy=policy, harts=2,
                 via=engine.VIA["imsic"], store_drain_cycles=50)
    assert result.verdict == "ran"
    assert result.counters["early_checks_retried"] == result.counters["window_faults"] == 1
