"""The engine's clock beside a slow one that shares nothing with it, on drawn work.

FENCELAB_EXAMPLES sets how many drawn runs are compared in each case (default 150).
"""

from __future__ import annotations

import os
from typing import Any

import oracle_clock
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from items import address, item, run
from oracle_clock import Item

EXAMPLES = int(os.environ.get("FENCELAB_EXAMPLES", "150"))
USEFUL = 5000
COUNTED = (
    "wall_cycles", "useful_cycles", "base_translation_cycles", "map_store_cycles", "mark_cycles",
    "early_check_cycles", "lazy_fault_cycles", "local_fence_cycles", "initiator_wait_cycles",
    "victim_handler_cycles", "refill_map_cycles", "refill_lazy_cycles", "purge_cycles",
    "handoff_wait_cycles", "maps", "unmaps", "pte_stores", "marks", "mark_clears",
    "line_transfers", "fences_full", "fences_addr", "fences_firmware", "ipi_delay_cycles",
    "traps_interrupt", "traps_kernel_fault", "early_checks", "early_checks_retried",
    "spurious_faults", "window_faults", "negative_faults", "retries", "lookups", "l1_hits",
    "misses", "refill_misses", "walks", "walk_reads", "negative_fills", "negative_hits", "items",
)
TERMS = ("store", "barrier", "amo", "load", "line_transfer", "trap_entry", "sret", "store_drain",
         "coherence", "fence_all", "fence_va", "fence_pipe", "walk_overhead_per_level", "read_l1d",
         "ecall", "sbi_fixed", "sbi_send", "sbi_deliver", "sbi_handler", "sbi_ack")


@st.composite
def work(draw: st.DrawFn, harts: int) -> list[Item]:
    """Up to ten items in order, each hart's own too; touches mostly behind their map's gate."""
    items: list[Item] = []
    at = [0] * harts
    mapped: list[Item] = []
    for number in range(1, draw(st.integers(1, 10)) + 1):
        hart = draw(st.integers(0, harts - 1))
        at[hart] += draw(st.sampled_from([0, 0, 1, 7, 60, 400, 1500]))
        at[hart] = min(at[hart], USEFUL - 1)
        kind = draw(st.sampled_from(["map", "map", "touch", "touch", "touch", "trap", "unmap"]))
        if kind == "trap" or (kind != "map" and not mapped):
            items.append(Item("trap", hart, at[hart]))
        elif kind == "map":
            page = draw(st.integers(0, 8))
            pages = draw(st.sampled_from([1, 1, 2]))
            items.append(Item("map", hart, at[hart], page, pages, signal=number))
            mapped.append(items[-1])
        else:
            target = draw(st.sampled_from(mapped))
            wait = draw(st.sampled_from([target.signal] * 3 + [0]))
            items.append(Item(kind, hart, at[hart], target.page, target.pages, wait=wait))
    return items


@st.composite
def machine(draw: st.DrawFn) -> dict[str, int]:
    """Costs that are mostly unlike, some of them nothing, so that ties happen too.

    Only what reaches another hart takes time: the order of a request and of what its target does in
    that very cycle is nobody's business.
    """
    cost = st.sampled_from([0, 1, 2, 3, 10, 17, 100, 230])
    made = {f"{term}_cycles": draw(cost) for term in TERMS}
    made["sbi_deliver_cycles"] += 1
    return made | {"inv_l1": draw(st.integers(0, 1)), "trap_save_instructions": draw(cost),
                   "sbi_range_limit_bytes": draw(st.sampled_from([0, 4096, 8192]))}


def engine_says(policy: str, harts: int, costs: dict[str, int], items: list[Item]) -> Any:
    rows = []
    for i in items:
        if i.kind == "trap":
            rows.append(item("trap", i.hart, i.at, arg=1 << 63 | 5, wait=i.wait, signal=i.signal))
        else:
            rows.append(item(i.kind, i.hart, i.at, page=i.page, pages=i.pages, wait=i.wait,
                             signal=i.signal))
    return run(rows, policy=policy, harts=harts, useful=USEFUL, read_l1d_permille=1000, **costs)


@pytest.mark.parametrize("policy", ["preventive-range", "mark-7.2"])
@pytest.mark.parametrize("harts", [1, 2, 3])
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_the_engine_agrees_with_the_slow_clock(policy: str, harts: int, data: Any) -> None:
    costs, items = data.draw(machine()), data.draw(work(harts))
    result = engine_says(policy, harts, costs, items)
    verdict, hart, at, page, counted = oracle_clock.predict(policy, harts, USEFUL, costs, items)
    assert result.verdict == verdict
    if verdict != "ran":
        va = address(page) if verdict != "deadlock" else 0
        assert (result.verdict_hart, result.verdict_at_cycles, result.verdict_va) == (hart, at, va)
        return
    found = {name: result.counters[name] for name in COUNTED}
    assert found == {name: counted[name] for name in COUNTED}


@pytest.mark.parametrize("limit", [0, 4096, 8192])
@pytest.mark.parametrize("handler", [10, 600, 2000])
def test_requests_that_are_merged_agree_too(limit: int, handler: int) -> None:
    """Five harts that map at about the same time: requests meet at the fifth, and at each other."""
    merged = 0
    for gap in (0, 1, 5, 17, 60):
        costs = {f"{term}_cycles": 3 + number for number, term in enumerate(TERMS)} | {
            "sbi_handler_cycles": handler, "sbi_deliver_cycles": 7, "inv_l1": 0,
            "trap_save_instructions": 2, "sbi_range_limit_bytes": limit}
        items = [Item("map", hart, 500 + gap * hart, 3 * hart, 1 + hart % 2, signal=hart + 1)
                 for hart in range(4)]
        result = engine_says("preventive-range", 5, costs, items)
        verdict, *_, counted = oracle_clock.predict("preventive-range", 5, USEFUL, costs, items)
        assert (result.verdict, verdict) == ("ran", "ran")
        names = (*COUNTED, "requests_merged")
        assert {name: result.counters[name] for name in names} == {
            name: counted[name] for name in names}
        merged += counted["requests_merged"]
    assert merged > 0 or handler == 10 or limit == 8192
