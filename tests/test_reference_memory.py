"""What stores, fences and walks do to one state: each row cites the rule it comes from."""

from __future__ import annotations

import pytest

from pysim.litmus import Litmus, Parameters
from pysim.reference.state import EMPTY, Memory, State

LEAF, MARK = ("leaf", 0), ("mark", 0)
TABLE = ("table", 0)


def machine(table: tuple[int, ...] = (), **parameters: object) -> tuple[Memory, State]:
    where = Litmus(name="two", question="", pages=2, scripts=((), ()), table=table)
    return Memory(where, Parameters(**parameters)), State(where, 1)


def test_own_walker_sees_a_store_at_once_others_when_it_drains():  # T1, T2
    memory, s = machine()
    memory.issue(s, 0, LEAF, 1)
    assert memory.answers(s, 0, 0) == [0, 1]
    assert memory.answers(s, 1, 0) == [0]
    memory.drain(s, 0, 0)
    assert memory.answers(s, 1, 0) == [0, 1]


def test_a_walk_may_return_any_value_since_the_last_fence():  # A2, A4
    memory, s = machine(order="sc")
    for value in (1, 0, 2):
        memory.issue(s, 0, LEAF, value)
    assert memory.answers(s, 1, 0) == [0, 1, 2]
    memory.fence(s, 1, None)
    assert memory.answers(s, 1, 0) == [2]
    assert memory.answers(s, 0, 0) == [0, 1, 2]  # A7: the other hart's fence is its own


def test_a_fence_orders_only_what_is_visible_here():  # A6: the hole of a missing barrier
    memory, s = machine()
    memory.issue(s, 0, LEAF, 1)
    memory.fence(s, 1, None)
    assert memory.answers(s, 1, 0) == [0]
    memory.fence(s, 0, None)
    assert memory.answers(s, 0, 0) == [1]  # its own pending store is visible to it


def test_a_fence_by_address_covers_one_leaf():  # A8
    memory, s = machine(order="sc")
    memory.issue(s, 0, LEAF, 1)
    memory.issue(s, 0, ("leaf", 1), 1)
    memory.fence(s, 1, 0)
    assert memory.answers(s, 1, 0) == [1]
    assert memory.answers(s, 1, 1) == [0, 1]


def test_a_fence_by_address_leaves_the_table():  # A8
    memory, s = machine(table=(0,), order="sc")
    memory.issue(s, 0, TABLE, 1)
    memory.issue(s, 0, LEAF, 1)
    assert memory.answers(s, 1, 0) == [0, 1, 255]
    memory.fence(s, 1, 0)
    assert memory.answers(s, 1, 0) == [1, 255]
    memory.fence(s, 1, None)
    assert memory.answers(s, 1, 0) == [1]


def test_nothing_is_read_below_an_unreachable_table():  # A3
    memory, s = machine(table=(0,), order="sc")
    memory.issue(s, 0, LEAF, 1)
    memory.issue(s, 0, LEAF, 2)
    assert memory.answers(s, 1, 0) == [255]
    memory.issue(s, 0, TABLE, 1)
    assert memory.answers(s, 1, 0) == [2, 255]


@pytest.mark.parametrize(
    ("order", "barrier", "drainable"),
    [
        ("pso", False, [0, 1]),
        ("pso", True, [0]),
        ("tso", False, [0]),
        ("tso", True, [0]),
        ("sc", False, []),
    ],
)
def test_what_may_drain(order, barrier, drainable):  # T2, T3
    memory, s = machine(order=order)
    memory.issue(s, 0, LEAF, 1)
    if barrier:
        memory.raise_barrier(s, 0)
    memory.issue(s, 0, MARK, 3, keep=-1)
    assert memory.drainable(s, 0) == drainable


def test_stores_to_one_place_stay_in_order():
    memory, s = machine()
    memory.issue(s, 0, LEAF, 1)
    memory.issue(s, 0, LEAF, 2)
    assert memory.drainable(s, 0) == [0]


def test_barriers_are_forgotten_when_nothing_is_before_them():
    """Equal futures are equal states: epochs start at 0, an empty buffer has no barrier."""
    memory, s = machine()
    fresh = s.key()
    memory.raise_barrier(s, 0)
    assert s.key() == fresh
    memory.issue(s, 0, MARK, 1, keep=-1)
    memory.raise_barrier(s, 0)
    memory.issue(s, 0, ("flag", 0), 1)
    memory.drain(s, 0, 0)
    assert [entry.epoch for entry in s.harts[0].buffer] == [0]


def test_a_mark_sets_and_a_stored_word_wipes():
    memory, s = machine(order="sc")
    memory.issue(s, 0, MARK, 0b01, keep=-1)
    memory.issue(s, 0, MARK, 0b10, keep=-1)
    assert s.mark == [0b11]
    memory.issue(s, 1, MARK, 0b00, keep=0)
    assert s.mark == [0]


def test_a_reordered_walk_lasts_until_the_hart_serialises():  # commit message, second case
    memory, s = machine(order="sc", invalid="reorder")
    memory.issue(s, 0, LEAF, 1)
    assert memory.answers(s, 1, 0) == [0, 1]
    memory.serialise(s, 1)
    assert memory.answers(s, 1, 0) == [1]
    memory.issue(s, 0, LEAF, 0)
    memory.serialise(s, 1)
    assert memory.answers(s, 1, 0) == [0, 1]  # stale valid entries do not go away


def test_without_early_walks_only_what_is_visible_is_invalid():
    memory, s = machine(order="sc", invalid="none")
    memory.issue(s, 0, LEAF, 1)
    memory.after_step(s)
    assert memory.answers(s, 1, 0) == [1]


def test_svvptc_bounds_the_answers_of_a_stale_entry():  # A10
    memory, s = machine(order="sc", svvptc=True, svvptc_k=1)
    memory.count_stale(s, 1, 0, 0)
    memory.after_step(s)
    memory.issue(s, 0, LEAF, 1)
    memory.after_step(s)
    assert memory.answers(s, 1, 0) == [0, 1]  # before the store it was not stale
    memory.count_stale(s, 1, 0, 0)
    memory.after_step(s)
    assert memory.answers(s, 1, 0) == [1]
    assert memory.answers(s, 0, 0) == [0, 1]


def test_one_entry_answers_until_it_is_evicted_or_fenced():
    memory, s = machine(order="sc", tlb="single")
    assert (5, 0) in memory.fills(s, 1)
    memory.fill(s, 1, 0)
    memory.issue(s, 0, LEAF, 1)
    assert memory.answers(s, 1, 0) == [0]
    assert (6, 0) in memory.fills(s, 1)
    memory.evict(s, 1, 0)
    assert memory.answers(s, 1, 0) == [1]
    memory.fill(s, 1, 0)
    memory.fence(s, 1, None)
    assert s.harts[1].cache == [EMPTY, EMPTY]


def test_invalid_entries_are_not_filled_where_none_are_cached():
    memory, s = machine(tlb="single", invalid="none", table=(0,))
    assert memory.fills(s, 0) == []
    memory.issue(s, 0, TABLE, 1)
    assert memory.fills(s, 0) == [(5, 255)]
