"""What a shootdown costs, to the cycle: computed here from the terms, found by the engine."""

from __future__ import annotations

from typing import Any

import pytest
from items import Handlers, idle_work, item, run, spent

from pysim import engine
from pysim.ops import ALL, RANGE, fence, shootdown, spend

SBI = {"ecall_cycles": 281, "sbi_fixed_cycles": 503, "sbi_send_cycles": 211,
       "sbi_deliver_cycles": 499, "sbi_handler_cycles": 1009, "sbi_ack_cycles": 31,
       "sbi_range_limit_bytes": 4096, "fence_va_cycles": 3, "fence_all_cycles": 17,
       "fence_pipe_cycles": 5}
IMSIC = {"via": engine.VIA["imsic"], "imsic_fixed_cycles": 307, "imsic_send_cycles": 101,
         "imsic_deliver_cycles": 293, "imsic_handler_cycles": 797, "imsic_ack_cycles": 29,
         "trap_entry_cycles": 13, "sret_cycles": 11, "fence_va_cycles": 3, "fence_all_cycles": 17,
         "fence_pipe_cycles": 5}
HW = {"via": engine.VIA["hw"], "hw_fixed_cycles": 199, "hw_per_hart_cycles": 7,
      "fence_va_cycles": 3, "fence_pipe_cycles": 5}
CALLED = 8      # __ipi_flush_tlb_range_asid of one page (pysim/policies/paths.py)
HARTS = (2, 3, 5, 64, 65, 128, 129)      # at the edges of a window of 64
BY_HAND = Handlers({"map_kernel": [spend(1)] * 900, "flush_kernel": [shootdown(ALL)],
                    "ipi": [fence(RANGE)]})


def one_map(harts: int, sender: int, costs: dict[str, Any], **named: Any) -> engine.Result:
    return run([item("map", sender, 1000, page=1)], policy="preventive-range", harts=harts,
               **(costs | named))


def last_ack(finished: list[int], ack: int) -> int:
    """When the sender has seen them all: one acknowledgement after the other."""
    seen = 0
    for at in sorted(finished):
        seen = max(seen, at) + ack
    return seen


def sbi_wait(harts: int, sender: int, c: dict[str, int]) -> int:
    """One call per window of 64 hart ids; sends in sequence, the own fence in its place."""
    now, fence_cycles = 0, c["fence_va_cycles"] + c["fence_pipe_cycles"]
    for first in range(0, harts, 64):
        finished = []
        now += c["ecall_cycles"] + c["sbi_fixed_cycles"]
        for hart in range(first, min(first + 64, harts)):
            if hart == sender:
                now += fence_cycles
                continue
            now += c["sbi_send_cycles"]
            finished.append(now + c["sbi_deliver_cycles"] + c["sbi_handler_cycles"]
                            + fence_cycles)
        now = max(now, last_ack(finished, c["sbi_ack_cycles"]))
    return now


@pytest.mark.parametrize("sender", [0, 1, -1])
@pytest.mark.parametrize("harts", HARTS)
def test_an_sbi_shootdown_costs_the_sum_of_its_terms(harts: int, sender: int) -> None:
    result = one_map(harts, sender % harts, SBI)
    assert spent(result) == {
        "initiator_wait_cycles": sbi_wait(harts, sender % harts, SBI),
        "victim_handler_cycles": (harts - 1) * (1009 + 3 + 5),
    }
    assert result.counters["remote_fence_calls"] == -(-harts // 64)
    assert result.counters["remote_fence_targets"] == harts
    assert result.counters["fences_firmware"] == harts
    assert result.counters["fences_firmware_full"] == 0
    assert result.counters["ipis"] == harts - 1
    assert result.counters["ipi_delay_cycles"] == 0


@pytest.mark.parametrize(("ran_on", "sender", "calls"), [
    ((), 0, 0), ((63,), 0, 1), ((64,), 0, 2), ((127,), 64, 1), ((127, 128), 64, 2),
    ((5, 70), 128, 3), ((0, 1), 128, 2), ((128,), 63, 2),
])
def test_a_window_without_a_target_costs_no_call(
        ran_on: tuple[int, ...], sender: int, calls: int) -> None:
    """An address space that ran on some of 129 harts: windows 0-63, 64-127 and 128."""
    rows = [item("switch_mm", hart, 10, arg=1) for hart in ran_on]
    rows += [item("switch_mm", sender, 20, arg=1), item("user_unmap", sender, 1000, arg=1)]
    result = run(rows, policy="mark-7.2", harts=129, asid_bits=16, **SBI)
    assert result.counters["remote_user_calls"] == calls
    assert result.counters["remote_user_targets"] == (len(ran_on) + 1 if calls else 0)
    assert result.counters["fences_firmware"] == (len(ran_on) + 1 if calls else 0)
    assert result.counters["fences_addr_asid"] == (0 if calls else 1)


@pytest.mark.parametrize("via", ["sbi", "imsic"])
@pytest.mark.parametrize(("pages", "by_address"), [(64, 64), (65, 0), (512, 0)])
def test_a_map_above_the_threshold_is_one_full_fence_each(
        via: str, pages: int, by_address: int) -> None:
    """64 pages one by one by IPI; OpenSBI widens them all; a 2 MiB leaf is 512 pages."""
    huge = ("huge",) if pages == 512 else ()
    rows = [item("map", 0, 1000, *huge, page=512, pages=pages)]
    costs = {"via": engine.VIA[via], "sbi_range_limit_bytes": 4096}
    result = run(rows, policy="preventive-range", harts=3, **costs)
    full = result.counters["fences_full"] + result.counters["fences_firmware_full"]
    addr = result.counters["fences_addr"]
    if via == "sbi":
        assert (full, addr) == (3, 0)
    else:
        assert (full, addr) == (0 if by_address else 3, 3 * by_address)
    assert result.counters["pte_stores"] <= (4 if huge else pages + 4)


@pytest.mark.parametrize("harts", HARTS)
@pytest.mark.parametrize(("term", "times"), [
    ("ecall_cycles", "windows"), ("sbi_fixed_cycles", "windows"), ("sbi_send_cycles", "others"),
    ("sbi_deliver_cycles", "windows"), ("sbi_handler_cycles", "windows"),
    ("fence_va_cycles", "windows and one"), ("fence_pipe_cycles", "windows and one"),
    ("sbi_ack_cycles", "windows"),
])
def test_each_term_of_an_sbi_shootdown_counts_as_often_as_it_happens(
        harts: int, term: str, times: str) -> None:
    windows = -(-harts // 64)
    count = {"windows": windows, "others": harts - 1, "windows and one": windows + 1}[times]
    waits = [one_map(harts, 0, SBI | {term: SBI[term] + more}).counters["initiator_wait_cycles"]
             for more in (0, 100)]
    assert waits[1] - waits[0] == 100 * count


def test_acknowledgements_that_come_together_are_seen_one_after_the_other() -> None:
    costs = SBI | {"sbi_send_cycles": 0, "sbi_ack_cycles": 100}
    waited = one_map(9, 0, costs).counters["initiator_wait_cycles"]
    assert waited == sbi_wait(9, 0, costs) == 281 + 503 + 8 + 499 + 1009 + 8 + 8 * 100


@pytest.mark.parametrize(("pages", "limit", "full"), [
    (1, 4096, False), (1, 4095, True), (1, 0, True), (2, 4096, True), (2, 8192, False),
    (64, 64 * 4096, False), (65, 65 * 4096, False), (65, 65 * 4096 - 1, True),
])
def test_a_request_above_the_range_limit_becomes_a_full_fence(
        pages: int, limit: int, full: bool) -> None:
    costs = SBI | {"sbi_range_limit_bytes": limit}
    result = run([item("map", 0, 1000, page=1, pages=pages)], policy="preventive-range", harts=3,
                 **costs)
    executed = 3 if full else 3 * pages
    each = 17 + 5 if full else pages * (3 + 5)
    assert result.counters["fences_firmware"] == executed
    assert result.counters["fences_firmware_full"] == (3 if full else 0)
    assert result.counters["fence_requests"] == pages
    assert result.counters["victim_handler_cycles"] == 2 * (1009 + each)


def imsic_wait(harts: int, c: dict[str, int], before_handler: int = 0) -> int:
    """The sender is hart 0; a target acknowledges at the end of its handler, before it returns."""
    fence_cycles = c["fence_va_cycles"] + c["fence_pipe_cycles"]
    now = c["imsic_fixed_cycles"] + fence_cycles
    finished = []
    for _ in range(1, harts):
        now += c["imsic_send_cycles"]
        finished.append(now + c["imsic_deliver_cycles"] + c["trap_entry_cycles"] + before_handler
                        + c["imsic_handler_cycles"] + CALLED + fence_cycles)
    return max(now, last_ack(finished, c["imsic_ack_cycles"]))


@pytest.mark.parametrize("harts", HARTS)
def test_an_imsic_shootdown_costs_the_sum_of_its_terms(harts: int) -> None:
    result = one_map(harts, 0, IMSIC)
    assert spent(result) == {
        "initiator_wait_cycles": imsic_wait(harts, IMSIC),
        "victim_handler_cycles": (harts - 1) * (13 + 797 + CALLED + 3 + 5 + 11),
    }
    assert result.counters["remote_fence_calls"] == 1
    assert result.counters["fences_addr"] == harts
    assert result.counters["fences_firmware"] == 0


@pytest.mark.parametrize("harts", HARTS)
@pytest.mark.parametrize(("term", "times"), [
    ("imsic_fixed_cycles", "1"), ("imsic_send_cycles", "others"), ("imsic_deliver_cycles", "1"),
    ("trap_entry_cycles", "1"), ("imsic_handler_cycles", "1"), ("imsic_ack_cycles", "1"),
    ("fence_va_cycles", "2"), ("fence_pipe_cycles", "2"), ("sret_cycles", "0"),
])
def test_each_term_of_an_imsic_shootdown_counts_as_often_as_it_happens(
        harts: int, term: str, times: str) -> None:
    count = harts - 1 if times == "others" else int(times)
    waits = [one_map(harts, 0, IMSIC | {term: IMSIC[term] + more}).counters[
        "initiator_wait_cycles"] for more in (0, 70)]
    assert waits[1] - waits[0] == 70 * count


@pytest.mark.parametrize(("text_permille", "check"), [(1000, 4), (0, 0)])
def test_the_check_of_the_interrupt_delays_the_answer_in_the_kernel_only(
        text_permille: int, check: int) -> None:
    """Visits of user pages: the interrupt comes from user mode, and the check is jumped over."""
    work = {"visit_text_permille": text_permille}
    result = run([item("flush", 0, 1000, page=1)], policy="mark-7.2", harts=3, work=work, **IMSIC)
    assert spent(result) == {
        "purge_cycles": imsic_wait(3, IMSIC, before_handler=check)
        + 2 * (13 + 797 + CALLED + 8 + 11),
    } | ({"early_check_cycles": 2 * check} if check else {})


@pytest.mark.parametrize("harts", HARTS)
def test_a_broadcast_interrupts_nobody(harts: int) -> None:
    result = one_map(harts, 0, HW)
    assert spent(result) == {"initiator_wait_cycles": 199 + 7 * harts + 3 + 5}
    assert result.counters["fences_addr"] == harts
    assert result.counters["ipis"] == 0


# ---- who can be interrupted, and when -----------------------------------------------------------


def masked(begins: int, via: str, **costs: int) -> engine.Result:
    """Hart 0 shoots at 1000, so that its IPI arrives at 1000; hart 1 masks for 900 cycles."""
    return run([item("map", 1, begins, "irqs_off", page=1), item("flush", 0, 1000, page=9)],
               policy=BY_HAND, harts=2, via=engine.VIA[via], **costs)


@pytest.mark.parametrize("begins", [1, 99, 100, 101, 500, 999])
def test_an_imsic_ipi_is_taken_the_cycle_interrupts_come_back(begins: int) -> None:
    """Masked from `begins` for 900 cycles; an IPI of 1000 waits for what is left of them."""
    left = max(0, begins + 900 - 1000)
    result = masked(begins, "imsic", imsic_handler_cycles=40)
    assert result.counters["ipi_delay_cycles"] == left
    assert spent(result)["purge_cycles"] == (left + 40) + 40


def test_an_item_that_begins_after_the_ipi_does_not_delay_it() -> None:
    assert masked(1001, "imsic").counters["ipi_delay_cycles"] == 0


@pytest.mark.parametrize("begins", [101, 999])
def test_no_mask_delays_an_sbi_ipi(begins: int) -> None:
    result = masked(begins, "sbi", sbi_handler_cycles=40)
    assert result.counters["ipi_delay_cycles"] == 0
    assert spent(result)["purge_cycles"] == 40 + 40


def test_an_idle_hart_wakes_and_goes_back_to_sleep() -> None:
    result = run([item("idle", 1, 500, arg=2000), item("flush", 0, 1000, page=9)],
                 policy=BY_HAND, harts=2, sbi_handler_cycles=40, idle_wake_cycles=300)
    assert spent(result) == {"idle_cycles": 2000 - 340, "purge_cycles": 340 + 340}
    assert result.counters["idle_wakes"] == 1


def test_two_senders_serve_each_other_while_they_wait() -> None:
    """Both fence for each other inside their own call: no handler, nobody is interrupted."""
    result = run([item("map", hart, 1000, page=1 + hart) for hart in range(2)],
                 policy="preventive-range", harts=2, **SBI)
    call, send, deliver, fenced, ack = 281 + 503, 211, 499, 3 + 5, 31
    to_0 = call + send + deliver            # hart 1 sends before its own fence, hart 0 after it
    to_1 = call + fenced + send + deliver
    ends_0 = to_1 + fenced + ack
    ends_1 = max(to_1 + fenced, to_0 + fenced + ack)
    assert spent(result) == {"initiator_wait_cycles": ends_0 - fenced + ends_1 - fenced,
                             "victim_handler_cycles": 2 * fenced}
    assert result.histograms["stall"] == {}


def test_shootdowns_one_after_the_other_leave_other_entries_alone() -> None:
    """However many requests a hart has served, it still holds its text and its stack."""
    for harts in (2, 3, 8):
        misses = {run([item("map", 0, 1000 * n, page=n) for n in range(1, shoots + 1)],
                      policy="preventive-range", harts=harts, **SBI).counters["misses"]
                  for shoots in (1, 8, 50)}
        assert misses == {2 * harts}


def test_a_sender_that_waits_for_acknowledgements_serves_others_at_once() -> None:
    """All targets have fenced, the answers are still on their way."""
    rows = [item("map", 0, 1000, page=1), item("map", 1, 3000, page=2)]
    result = run(rows, policy="preventive-range", harts=3, sbi_ack_cycles=10_000,
                 sbi_range_limit_bytes=4096)
    assert result.counters["ipi_delay_cycles"] == 0


def test_a_hart_at_a_gate_serves_others_at_once() -> None:
    """The gate is open, and the hart waits for the store that opened it to be seen."""
    rows = [item("idle", 0, 1000, signal=1), item("idle", 1, 1000, wait=1),
            item("flush", 2, 1050, page=9)]
    result = run(rows, policy=BY_HAND, harts=3, coherence_cycles=100, sbi_handler_cycles=7)
    assert result.counters["ipi_delay_cycles"] == 0
    assert spent(result) == {"handoff_wait_cycles": 100 - 7, "purge_cycles": 3 * 7}


BUSY = {"map_kernel": [shootdown(RANGE)], "flush_kernel": [shootdown(ALL, via="sbi")],
        "ipi": [fence(RANGE)]}


@pytest.mark.parametrize(("pages", "want"), [
    ((1, 1), 0), ((4, 4), 1), ((1, 4), 1), ((4, 1), 1), ((1, -1), 1),
])
def test_a_request_inside_one_that_waits_is_served_with_it(
    pages: tuple[int, int], want: int
) -> None:
    """Harts 0 and 1 shoot while hart 2 is in the firmware for hart 3: their two requests wait.

    A page (-1: the very same one) is fenced by address, 4 pages are widened to everything.
    """
    first = item("map", 0, 1400, page=5, pages=pages[0])
    page = 5 if pages[1] == -1 else 9
    rows = [item("map", 3, 0, page=1), first, item("map", 1, 1401, page=page, pages=abs(pages[1]))]
    rows.sort(key=lambda row: row["at_cycles"])
    costs = SBI | {"sbi_handler_cycles": 9000}
    result = run(rows, policy=Handlers(BUSY), harts=4, **costs)
    assert result.verdict == "ran"
    assert result.counters["remote_fence_calls"] == 3
    assert bool(result.counters["requests_merged"]) == bool(want)
    served = result.counters["fences_firmware"] + result.counters["requests_merged"]
    assert served == result.counters["remote_fence_targets"]


def test_work_of_the_door_is_what_the_test_believes() -> None:
    """The bare machine and workload draw nothing: no item is added to those given."""
    assert idle_work(10)["maps_per_tcycle"] == 0
    assert run([item("idle", 0, 5, arg=3)], useful=10).counters["items"] == 1
