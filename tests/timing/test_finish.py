"""A hart's budget ends at its FINISH, to the cycle, and only its own."""

from __future__ import annotations

import pytest
from items import USEFUL, item, run


@pytest.mark.parametrize("at", [1, 500, USEFUL - 1])
def test_a_hart_works_up_to_its_finish(at: int) -> None:
    counters = run([item("finish", 0, at)]).counters
    assert (counters["useful_cycles"], counters["wall_cycles"]) == (at, at)


def test_the_other_harts_go_on() -> None:
    counters = run([item("finish", 1, 500)], harts=3).counters
    assert counters["useful_cycles"] == 2 * USEFUL + 500


@pytest.mark.parametrize(("at", "maps"), [(499, 1), (500, 0), (501, 0)])
def test_what_comes_at_the_finish_or_later_is_not_done(at: int, maps: int) -> None:
    rows = sorted([item("map", 0, at, page=1), item("finish", 0, 500)],
                  key=lambda row: row["at_cycles"])
    result = run(rows, policy="mark-7.2")
    assert result.verdict == "ran"
    assert result.counters["maps"] == maps


def test_the_earliest_finish_counts() -> None:
    rows = [item("finish", 0, 300), item("finish", 0, 700)]
    assert run(rows).counters["useful_cycles"] == 300


def test_a_finished_hart_still_serves_fences_and_is_not_charged() -> None:
    rows = [item("finish", 1, 500), item("map", 0, 10_000, page=1)]
    costs = {"sbi_handler_cycles": 1000, "sbi_send_cycles": 10, "sbi_deliver_cycles": 100}
    result = run(rows, policy="preventive-range", harts=2, **costs)
    assert result.counters["fences_firmware"] == 2
    assert result.counters["victim_handler_cycles"] == 0
    assert result.counters["initiator_wait_cycles"] >= 1110


def test_ticks_are_drawn_for_the_budget_only() -> None:
    ticks = {"ticks_per_tcycle": 10**9}  # one in 1000 cycles
    whole = run([], work=ticks).counters["traps_interrupt"]
    half = run([item("finish", 0, USEFUL // 2)], work=ticks).counters["traps_interrupt"]
    assert whole in (99, 100)
    assert half in (49, 50)
