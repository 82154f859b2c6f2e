"""The user side on the clock: how many fences, on which harts, by address, by ASID or whole."""

from __future__ import annotations

from typing import Any

import pytest
from items import Row, item, run, spent

from pysim import engine

FENCES = ("fences_full", "fences_addr", "fences_asid", "fences_addr_asid")
IMSIC = engine.VIA["imsic"]


def counted(rows: list[Row], *names: str, **named: Any) -> tuple[int, ...]:
    result = run(rows, **({"policy": "mark-7.2", "asid_bits": 16} | named))
    assert result.verdict == "ran", result
    return tuple(result.counters[name] for name in names)


def fences(rows: list[Row], **named: Any) -> tuple[int, ...]:
    """Full, by address, by ASID, by both."""
    return counted(rows, *FENCES, **named)


@pytest.mark.parametrize("pages", [1, 16, 100])
def test_a_fault_fences_each_page_it_installs_unless_svvptc(pages: int) -> None:
    fault = [item("user_fault", 0, 10, arg=pages)]
    assert fences(fault) == (0, pages, 0, 0)
    assert fences(fault, svvptc=1) == (0, 0, 0, 0)
    assert fences(fault, svvptc=1, policy="preventive-range") == (0, pages, 0, 0)
    assert counted(fault, "user_faults", "user_fault_pages") == (1, pages)


@pytest.mark.parametrize("policy", ["mark-barrier", "mark-switch-in"])
def test_from_7_3_on_a_fault_fences_in_its_own_address_space(policy: str) -> None:
    """kernel.md 4 and 7: update_mmu_cache_range by ASID (15ce1d7c4ddf); 7.2 and before did not."""
    for kind, pages in (("user_fault", 16), ("user_protect", 1), ("user_spurious", 1)):
        rows = [item(kind, 0, 10, arg=pages)]
        assert fences(rows, policy="mark-7.2") == (0, pages, 0, 0)
        assert fences(rows, policy=policy) == (0, 0, 0, pages)
    assert fences([item("user_fault", 0, 10, arg=16)], policy=policy, svvptc=1) == (0, 0, 0, 0)


def test_a_fault_drops_no_page_in_use() -> None:
    """Its pages are fresh; a COW or a munmap has a page that the hart was using."""
    user = {"visit_cycles": 100, "visit_text_permille": 0, "user_pages": 1}
    costs = {"read_l1d_cycles": 3, "read_l1d_permille": 1000}

    def refill(kind: str) -> int:
        result = run([item(kind, 0, 150, arg=1)], policy="mark-7.2", work=user, useful=2000,
                     asid_bits=16, **costs)
        assert result.verdict == "ran"
        return result.counters["refill_user_cycles"]

    assert refill("user_fault") == 0
    assert refill("user_unmap") > 0


def test_an_access_flag_is_fenced_here_or_with_svvptc_by_asid() -> None:
    change = [item("user_protect", 0, 10, arg=1)]
    assert fences(change) == (0, 1, 0, 0)
    assert fences(change, svvptc=1) == (0, 0, 0, 1)


def test_a_spurious_write_fault_is_fenced_like_an_access_flag() -> None:
    again = [item("user_spurious", 0, 10)]
    assert fences(again) == (0, 1, 0, 0)
    assert fences(again, svvptc=1) == (0, 0, 0, 1)
    assert counted(again, "user_spurious_faults", "traps_user") == (1, 1)


@pytest.mark.parametrize(("policy", "pages", "want"), [
    ("mark-7.2", 1, (0, 0, 0, 1)), ("mark-7.2", 64, (0, 0, 0, 64)), ("mark-7.2", 65, (0, 0, 1, 0)),
    ("mark-7.2", 0, (0, 0, 1, 0)), ("preventive-full", 1, (0, 0, 0, 1)),
    ("preventive-full", 2, (0, 0, 1, 0)), ("vmalloc-fault", 2, (0, 0, 1, 0)),
])
def test_an_unmap_fences_up_to_its_threshold_page_by_page(
    policy: str, pages: int, want: tuple[int, ...]
) -> None:
    assert fences([item("user_unmap", 0, 10, arg=pages)], policy=policy) == want


MIGRATES = [item("switch_mm", 0, 10, arg=1), item("switch_mm", 0, 20, arg=0),
            item("switch_mm", 1, 1000, arg=1), item("user_unmap", 1, 2000, arg=1)]
REMOTE = ("remote_fence_calls", "remote_fence_targets", "remote_user_calls", "remote_user_targets",
          "fences_firmware", "fences_addr_asid")


def test_a_fence_follows_the_address_space_to_where_it_ever_ran() -> None:
    assert counted(MIGRATES, *REMOTE, harts=4, sbi_range_limit_bytes=4096) == (1, 2, 1, 2, 2, 0)
    stays = [row for row in MIGRATES if row["hart"] == 1]
    assert counted(stays, *REMOTE, harts=4) == (0, 0, 0, 0, 0, 1)


def test_a_fence_may_concern_a_space_that_runs_elsewhere() -> None:
    """Space 1 ran on hart 1 only, hart 0 flushes it: one call that names one hart, no fence here.

    Afterwards the hart's own space is meant again, which ran nowhere else.
    """
    runs = [item("switch_mm", 1, 10, arg=1)]
    other = item("user_unmap", 0, 1000, arg=1, pages=1)
    names = (*REMOTE, "mm_switches")
    assert counted([*runs, other], *names, harts=3, sbi_range_limit_bytes=4096) == (
        1, 1, 1, 1, 1, 0, 1)
    assert counted([*runs, other, item("user_unmap", 0, 2000, arg=1)], *names, harts=3) == (
        1, 1, 1, 1, 1, 1, 1)
    change = item("user_protect", 0, 1000, arg=1, pages=1)
    assert counted([*runs, change], *names, harts=3, svvptc=1) == (1, 1, 1, 1, 1, 0, 1)
    assert counted([*runs, other], "fences_addr_asid", harts=3, via=IMSIC) == (1,)
    here = [item("switch_mm", 0, 10, arg=1), item("switch_mm", 0, 20, arg=2)]
    assert fences([*here, item("user_unmap", 0, 30, arg=3, pages=1)]) == (0, 0, 0, 3)


def test_a_fence_of_another_space_leaves_the_entries_of_this_one() -> None:
    """The page the hart works on is fenced by another space's ASID, and still hits."""
    user = {"visit_cycles": 100, "visit_text_permille": 0, "user_pages": 1, "text_pages": 1}
    rows = [item("switch_mm", 0, 10, arg=1), item("switch_mm", 0, 20, arg=2)]
    refills = [run([*rows, item("user_unmap", 0, 1000, arg=0, pages=space)], policy="mark-7.2",
                   work=user, asid_bits=16, useful=2000).counters["refill_misses"]
               for space in (1, 2, 0)]
    assert refills[0] == 0 < refills[1] == refills[2]


def test_without_asids_the_hart_left_behind_is_not_asked() -> None:
    assert counted(MIGRATES, *REMOTE[:2], harts=4, asid_bits=0) == (0, 0)


def test_an_ipi_fences_by_the_senders_asid() -> None:
    """Two harts, one page and one ASID each, and nothing else is dropped."""
    got = counted(MIGRATES, *REMOTE, "fences_addr", harts=4, via=IMSIC)
    assert got == (1, 2, 1, 2, 0, 2, 0)


def test_deferred_interrupts_only_who_runs_it_now() -> None:
    rows = [*MIGRATES, item("switch_mm", 0, 3000, arg=1)]
    got = counted(rows, "remote_user_targets", "fences_full", harts=4, policy="deferred")
    assert got == (1, 1)     # the sender itself at once, hart 0 when it switches back


def test_threads_on_two_harts_are_both_interrupted() -> None:
    rows = [item("switch_mm", 0, 10, arg=1), item("switch_mm", 1, 10, arg=1),
            item("user_unmap", 1, 2000, arg=1)]
    assert counted(rows, "remote_user_targets", harts=4, policy="deferred") == (2,)


@pytest.mark.parametrize(("policy", "want"), [
    ("mark-7.2", (0, 0, 3, 0)), ("preventive-full", (3, 0, 0, 0)), ("none", (0, 0, 3, 0))])
def test_without_asids_every_switch_drops_the_user_entries(
    policy: str, want: tuple[int, ...]
) -> None:
    rows = [item("switch_mm", 0, 10 * n, arg=n % 2) for n in range(1, 4)]
    assert fences(rows, policy=policy, asid_bits=0) == want
    assert fences(rows, policy=policy) == (0, 0, 0, 0)


def test_seven_bits_are_not_enough_for_64_harts() -> None:
    rows = [item("switch_mm", 0, 10, arg=1)]
    assert fences(rows, asid_bits=7) == (0, 0, 1, 0)     # 128 is not more than twice 64
    assert fences(rows, asid_bits=8) == (0, 0, 0, 0)


def test_a_rollover_costs_one_full_fence_on_each_hart_that_switches() -> None:
    rows = [item("switch_mm", 0, n, arg=n) for n in range(1, 256)]     # 2 to 255 are free: 254
    rows += [item("switch_mm", 1, 2000, arg=1), item("switch_mm", 1, 2001, arg=2)]
    got = counted(rows, "asid_rollovers", "mm_switches", *FENCES, harts=3, asid_bits=8)
    assert got == (1, 257, 2, 0, 0, 0)


def test_an_address_space_meets_only_its_own_entries() -> None:
    """Back in the old one its page still hits; in the new one the same address misses."""
    def misses(rows: list[Row], asid_bits: int) -> int:
        user = {"visit_cycles": 100, "visit_text_permille": 0, "user_pages": 1, "text_pages": 1}
        result = run(rows, policy="mark-7.2", work=user, asid_bits=asid_bits, useful=2000)
        assert result.verdict == "ran"
        return result.counters["misses"] + result.counters["l2_hits"]

    quiet = misses([], 16)
    there = misses([item("switch_mm", 0, 500, arg=1)], 16)
    back = misses([item("switch_mm", 0, 500, arg=1), item("switch_mm", 0, 1000, arg=0)], 16)
    assert quiet < there == back
    assert back < misses([item("switch_mm", 0, 500, arg=1), item("switch_mm", 0, 1000, arg=0)], 0)


def test_user_fences_are_charged_to_the_user_side() -> None:
    costs = {"fence_va_cycles": 3, "fence_pipe_cycles": 5}
    result = run([item("user_fault", 0, 10, arg=2), item("user_unmap", 0, 20, arg=1)],
                 policy="mark-7.2", asid_bits=16, **costs)
    around = 2 * (1 + 7) + (4 + 55)     # pysim/policies/paths.py: two pages mapped, one unmapped
    assert spent(result) == {"user_fence_cycles": 3 * 8 + around}


@pytest.mark.parametrize("policy", ["none", "preventive-full", "mark-7.2", "ideal"])
def test_a_fixmap_slot_is_fenced_here_under_every_policy(policy: str) -> None:
    rows = [item("fixmap", 0, 10, arg=2), item("fixmap", 0, 20, arg=1)]
    for svvptc in (0, 1):
        assert fences(rows, policy=policy, harts=2, svvptc=svvptc) == (0, 3, 0, 0)
    result = run(rows, policy=policy, fence_va_cycles=3, fence_pipe_cycles=5)
    assert spent(result) == {"purge_cycles": 3 * 8}


@pytest.mark.parametrize(("row", "field"), [
    (item("user_protect", 0, 10, arg=0), "empty range"),
    (item("fixmap", 0, 10, arg=65), "from 1 to 64 fixmap slots"),
    (item("user_unmap", 0, 10, arg=(1 << 20) + 1), "more than 2.20 user pages"),
    (item("switch_mm", 0, 10, arg=(1 << 17) + 1), "address spaces"),
    (item("user_unmap", 0, 10, pages=(1 << 17) + 1), "address spaces"),
])
def test_impossible_user_items_are_refused(row: Row, field: str) -> None:
    with pytest.raises(engine.EngineError, match=field):
        run([row])
