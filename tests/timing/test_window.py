"""The window in which a valid mapping can fault: its two edges, to the cycle, and nothing beyond.

A PTE store by hart 0 at MAPPED is seen by its own walker `store_drain_cycles` later and by the
others `coherence_cycles` after that. Before the store a fault is a fault; from the store until it
is seen it is spurious (the PTE is valid when re-read); afterwards a core that caches no invalid
entry cannot fault. That is what Svvptc promises, with the two fields as its bound.
"""

from __future__ import annotations

import pytest
from items import item, run
from mmu_steps import ABSENT, array

from pysim import machines

MAPPED, DRAIN, COHERENCE = 1000, 30, 200
SEEN = {0: MAPPED + DRAIN, 1: MAPPED + DRAIN + COHERENCE}
WINDOW = {"store_drain_cycles": DRAIN, "coherence_cycles": COHERENCE}
NO_NEGATIVE = [name for name in machines.PRESETS
               if not any((machines.load(name).inv_l1, machines.load(name).inv_l2,
                           machines.load(name).inv_pwc)) and not machines.load(name).unknowns]


def faults(hart: int, at: int, *, before: int | None = None, **changes: object) -> dict[str, int]:
    """What a touch at ``at`` meets; ``before``: an earlier one, of a neighbour in the line."""
    rows = [item("map", 0, MAPPED, page=1), item("touch", hart, at, page=1)]
    if before is not None:
        rows[:0] = [item("map", 0, 10, page=2), item("touch", hart, before, page=2)]
    result = run(rows, policy="vmalloc-fault", harts=2, trap_save_instructions=5000,
                 livelock_retries=3, **WINDOW | changes)
    counters = result.counters
    return {"verdict": result.verdict, **{name: counters[name] for name in (
        "kernel_faults_c", "spurious_faults", "window_faults", "negative_faults")}}


@pytest.mark.parametrize("hart", [0, 1])
def test_the_window_opens_with_the_store_and_closes_when_it_is_seen(hart: int) -> None:
    expected = {MAPPED: 1, MAPPED + 1: 1, SEEN[hart] - 1: 1, SEEN[hart]: 0, SEEN[hart] + 1: 0}
    for at, inside in expected.items():
        found = faults(hart, at)
        assert found["verdict"] == "ran"
        assert found["window_faults"] == found["spurious_faults"] == inside, at
        assert found["kernel_faults_c"] == inside
        assert found["negative_faults"] == 0


def test_a_cycle_before_the_store_the_fault_is_no_spurious_one() -> None:
    """Hart 1 is no later than hart 0: it finds an invalid PTE, and so would whoever re-reads it."""
    found = faults(1, MAPPED - 1)
    assert (found["kernel_faults_c"], found["spurious_faults"]) == (1, 0)


@pytest.mark.parametrize("step", [1, 7])
def test_without_negative_entries_every_fault_lies_inside_the_window(step: int) -> None:
    hits = [at for at in range(MAPPED, SEEN[1] + 60, step) if faults(1, at)["window_faults"]]
    assert hits == list(range(MAPPED, SEEN[1], step))


@pytest.mark.parametrize("name", NO_NEGATIVE)
def test_a_preset_without_negative_entries_is_bounded(name: str) -> None:
    """Whatever its TLBs are: a walk of the same line before leaves nothing that outlives it."""
    machine = machines.load(name)
    assert machine.mode == "Sv39"
    hardware = {key: machine.c_values()[key] for key in (
        "l1i", "l1d", "l1st", "l2", "pwc", "pwc_unified", "l1_split_store", "asid_bits",
        "l2_seq_page_sizes", "inv_l1", "inv_l2", "inv_pwc", "inv_line_capture", "walkers")}
    for at, inside in ((SEEN[1] - 1, 1), (SEEN[1], 0), (SEEN[1] + 5000, 0)):
        found = faults(1, at, before=500, **hardware)
        assert found == {"verdict": "ran", "kernel_faults_c": inside, "spurious_faults": inside,
                         "window_faults": inside, "negative_faults": 0}, at


def test_a_negative_entry_outlives_the_window_until_it_is_fenced() -> None:
    """The same touches, long after it: only a core that kept the invalid PTE still faults, once."""
    l2 = [array(64, sectors=8), ABSENT]
    for kept in (0, 1):
        rows = [item("map", 0, 10, page=2), item("touch", 1, 500, page=2),
                item("map", 0, MAPPED, page=1), item("touch", 1, 60_000, page=1)]
        result = run(rows, policy="mark-7.2", harts=2, l2=l2, inv_l2=kept, inv_line_capture=8,
                     **WINDOW)
        assert result.verdict == "ran"
        counters = result.counters
        assert (counters["negative_faults"], counters["window_faults"]) == (kept, 0)
        assert counters["early_checks_retried"] == kept


def test_svvptc_with_entries_that_only_a_fence_drops_is_named() -> None:
    """Such a core does not exist: the extension bounds how long an invalid PTE may be kept."""
    both = machines.load("rocket").override({"svvptc": True})
    assert any("Svvptc" in note for note in both.notes)
    neither = machines.load("cva6").override({"svvptc": True})
    assert not neither.notes
    assert neither.window_cycles == neither.store_drain_cycles + neither.coherence_cycles
