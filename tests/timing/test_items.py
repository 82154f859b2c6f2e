"""What each kind of item does, to the cycle: hand-offs, visibility, stacks, waits."""

from __future__ import annotations

import pytest
from items import Handlers, address, item, run, spent

from pysim.ops import publish, spend

STACK_VISITS = {"visit_text_permille": 0, "visit_stack_permille": 1000, "visit_cycles": 10}


@pytest.mark.parametrize(("page", "pages"), [(10, 1), (8, 1), (13, 2), (0, 1), (1, 1)])
def test_the_stream_stays_on_the_pages_of_the_stack_in_use(page: int, pages: int) -> None:
    """Touched pages of another stack, or of this one below pages not yet used, are not in use."""
    stacks = (0, 8, 12)
    rows = [item("map", 0, 10, "stack", page=at, pages=4) for at in stacks]
    rows += [item("switch", 0, 30 + at, "first", page=at, pages=4, arg=1) for at in (8, 12, 0)]
    rows += [item("touch", 0, 50, "stack", page=page, pages=pages)]
    result = run(sorted(rows, key=lambda row: row["at_cycles"]), policy="mark-7.2",
                 work=STACK_VISITS)
    assert result.verdict == "ran"
    assert result.counters["ambient_faults"] == 0
    assert result.counters["l1_hits"] + result.counters["misses"] == result.counters["lookups"]


# ---- hand-offs ----------------------------------------------------------------------------------

WORK = 30


def handed_over(at: int, *, publish_after: int = WORK, **costs: int) -> int:
    """Hart 0 maps at 100 and publishes some way into its 30 cycles; hart 1 wants it at `at`."""
    steps = [spend(1)] * publish_after + [publish()] + [spend(1)] * (WORK - publish_after)
    policy = Handlers({"map_kernel": steps})
    rows = [item("map", 0, 100, page=1, signal=1), item("forget", 1, at, page=1, wait=1)]
    return spent(run(rows, policy=policy, harts=2, **costs)).get("handoff_wait_cycles", 0)


@pytest.mark.parametrize("publish_after", [0, 1, WORK])
def test_a_hand_off_is_blocked_until_the_cycle_the_signal_is_seen(publish_after: int) -> None:
    passes = 100 + publish_after + 7 + 40
    costs = {"store_drain_cycles": 7, "coherence_cycles": 40, "publish_after": publish_after}
    for early in (0, 1, 2, passes - 101, passes):
        assert handed_over(passes - early, **costs) == early
    assert handed_over(passes + 1, **costs) == 0


def test_a_map_without_publish_is_published_at_its_end() -> None:
    policy = Handlers({"map_kernel": [spend(WORK)]})
    rows = [item("map", 0, 100, page=1, signal=1), item("forget", 1, 50, page=1, wait=1)]
    assert spent(run(rows, policy=policy, harts=2))["handoff_wait_cycles"] == 80


@pytest.mark.parametrize("pages", [1, 2, 3, 64])
def test_a_loop_over_the_pages_costs_each_of_them_the_same(pages: int) -> None:
    """5 instructions, a load and a store a page; half a cycle each is rounded once, at the end."""
    policy = Handlers({"map_kernel": [spend(5, loads=1, stores=1, each_page=True)]})
    result = run([item("map", 0, 100, page=0, pages=pages)], policy=policy, load_cycles=2,
                 store_cycles=3, instruction_millicycles=500)
    assert spent(result) == {"map_store_cycles": -(-5 * pages // 2) + 5 * pages}


def test_a_loop_over_no_pages_costs_nothing() -> None:
    """An extent of everything has no list of pages to go through."""
    policy = Handlers({"flush_kernel": [spend(5, each_page=True)]})
    assert spent(run([item("flush", 0, 100, pages=0)], policy=policy)) == {}


@pytest.mark.parametrize(("rows", "waits"), [
    pytest.param([item("idle", 0, 100, signal=1), item("idle", 0, 100, wait=1)], 0,
                 id="own signal: at once"),
    pytest.param([item("idle", 0, 90, signal=1), item("idle", 0, 100, signal=1),
                  item("idle", 0, 100, wait=1)], 0, id="two own signals: at once"),
    pytest.param([item("idle", 0, 100, signal=1), item("idle", 1, 100, wait=1)], 47,
                 id="another's: when it is seen"),
    pytest.param([item("idle", 0, 100, signal=1), item("idle", 1, 120, signal=1),
                  item("idle", 1, 120, wait=1)], 27, id="the own signal is the later one"),
    pytest.param([item("idle", 1, 10, signal=1), item("idle", 0, 100, signal=1),
                  item("idle", 1, 100, wait=1)], 47, id="the own signal is the earlier one"),
    pytest.param([item("idle", 0, 100, signal=1), item("idle", 1, 150, signal=1),
                  item("idle", 1, 150, wait=1)], 0, id="another's has long been seen"),
    pytest.param([item("idle", 0, 100, signal=1), item("idle", 1, 110, signal=1),
                  item("idle", 2, 110, wait=1)], 47, id="the last of two others"),
    pytest.param([item("idle", 0, 100, signal=1), item("idle", 1, 110, wait=1),
                  item("idle", 2, 120, wait=1), item("idle", 3, 147, wait=1),
                  item("idle", 0, 200, wait=1)], 37 + 27, id="many may wait"),
])
def test_a_gate_opens_for_each_hart_when_it_sees_the_last_signal(
        rows: list[dict[str, int]], waits: int) -> None:
    result = run(rows, harts=4, store_drain_cycles=7, coherence_cycles=40)
    assert spent(result) == ({"handoff_wait_cycles": waits} if waits else {})


def test_a_hart_that_waits_for_one_that_waits_waits_for_both() -> None:
    rows = [item("idle", 0, 5000, signal=1), item("idle", 1, 10, wait=1, signal=2),
            item("idle", 2, 20, wait=2)]
    result = run(rows, harts=3, coherence_cycles=100)
    assert spent(result) == {"handoff_wait_cycles": 5090 + 5180}
    assert result.counters["wall_cycles"] == 3 * 100_000 + 5090 + 5180


# ---- visibility ---------------------------------------------------------------------------------

WINDOW = {"store_drain_cycles": 30, "coherence_cycles": 200}


def window_faults(touch_hart: int, at: int, **costs: int) -> int:
    """A page mapped at 1000 by hart 0, touched before or after its PTE is seen."""
    rows = [item("map", 0, 1000, page=1), item("touch", touch_hart, at, page=1)]
    result = run(rows, policy="vmalloc-fault", harts=2, trap_save_instructions=1000,
                 **(WINDOW | costs))
    assert result.verdict == "ran"
    counters = result.counters
    assert counters["spurious_faults"] == counters["window_faults"] == counters["kernel_faults_c"]
    assert counters["negative_faults"] == 0
    return counters["window_faults"]


@pytest.mark.parametrize("drain", [0, 1, 30])
@pytest.mark.parametrize("coherence", [1, 200])
def test_another_harts_touch_faults_until_the_store_is_seen(drain: int, coherence: int) -> None:
    costs = {"store_drain_cycles": drain, "coherence_cycles": coherence}
    seen = 1000 + drain + coherence
    assert [window_faults(1, at, **costs) for at in (seen - 1, seen, seen + 1)] == [1, 0, 0]


@pytest.mark.parametrize("drain", [1, 30])
def test_the_own_touch_faults_until_the_store_has_drained(drain: int) -> None:
    seen = 1000 + drain
    found = [window_faults(0, at, store_drain_cycles=drain) for at in (seen - 1, seen, seen + 1)]
    assert found == [1, 0, 0]


@pytest.mark.parametrize("tables_there", [False, True])
@pytest.mark.parametrize("levels", [3, 4, 5])
def test_a_walk_reads_each_level_when_it_gets_there(levels: int, tables_there: bool) -> None:
    """A read takes 10 cycles and its overhead 3. The first level that may be too new decides.

    That is the leaf where a neighbour was mapped before; else the first pointer to a new table:
    below the root, whose entry is there from the start, and in Sv57 below the level that the
    harts' own stacks, 1 GiB further on, go through too.
    """
    costs = {"levels": levels, "read_l1d_cycles": 10, "read_l1d_permille": 1000,
             "walk_overhead_per_level_cycles": 3, **WINDOW}
    reads_before = levels - 1 if tables_there else {3: 1, 4: 1, 5: 2}[levels]

    def faults(at: int) -> int:
        rows = [item("map", 0, 10, va=address(2, levels), pages=1)] * tables_there
        rows += [item("idle", 1, 10)] * tables_there        # both look up the same pages again
        rows += [item("map", 0, 1000, va=address(1, levels), pages=1),
                 item("touch", 1, at, va=address(1, levels), pages=1)]
        return run(rows, policy="vmalloc-fault", harts=2, trap_save_instructions=1000,
                   **costs).counters["window_faults"]

    found = [faults(1230 - 13 * reads_before + more) for more in (-1, 0)]
    assert found == [1, 0]


def test_each_store_of_a_range_is_seen_at_its_own_time() -> None:
    """Two tables and four leaves, one store every 50 cycles: the last leaf is the sixth."""
    costs = {"store_cycles": 50, **WINDOW}

    def faults(page: int, at: int) -> int:
        rows = [item("map", 0, 1000, page=0, pages=4), item("touch", 1, at, page=page)]
        return run(rows, policy="vmalloc-fault", harts=2, trap_save_instructions=1000,
                   **costs).counters["window_faults"]

    # the root entry is there from the start: one table, then the leaves
    for page in range(4):
        seen = 1000 + 50 * (1 + page) + 230
        assert [faults(page, at) for at in (seen - 1, seen)] == [1, 0]


# ---- waits and masks ----------------------------------------------------------------------------


@pytest.mark.parametrize("cycles", [0, 1, 12345])
def test_an_idle_hart_sleeps_that_long(cycles: int) -> None:
    result = run([item("idle", 0, 100, arg=cycles)])
    assert spent(result) == ({"idle_cycles": cycles} if cycles else {})
    assert result.counters["wall_cycles"] == 100_000 + cycles


def test_a_hart_that_is_not_online_is_in_no_mask() -> None:
    flush = [item("flush", 0, at, page=1) for at in (100, 300)]
    result = run([flush[0], item("online", 0, 200, arg=2), flush[1]], policy="preventive-range",
                 harts=3)
    assert result.counters["remote_fence_targets"] == 2 + 3
    assert result.counters["ipis"] == 1 + 2


def test_one_hart_alone_fences_for_itself() -> None:
    rows = [item("map", 0, 100, page=1), item("online", 0, 200, arg=1), item("map", 0, 300, page=2)]
    result = run(rows, policy="preventive-range", harts=2, fence_va_cycles=5,
                 sbi_range_limit_bytes=4096)
    assert result.counters["remote_fence_calls"] == 1
    assert result.counters["fences_addr"] == 1
    assert spent(result) == {"map_store_cycles": 4 + 55,    # the way to the own fence
                             "local_fence_cycles": 5, "initiator_wait_cycles": 5 + 5,
                             "victim_handler_cycles": 5}


def test_latencies_are_those_of_one_map_one_stall_and_one_touch() -> None:
    rows = [item("map", 0, 100, page=1, signal=1), item("touch", 1, 100, page=1, wait=1)]
    result = run(rows, policy="preventive-range", harts=2, sbi_handler_cycles=12, store_cycles=2,
                 barrier_cycles=1, read_l1d_permille=1000, read_l1d_cycles=4)
    assert result.histograms == {"map": {2 * 2 + 1 + 12: 1}, "stall": {12: 1},
                                 "first_touch": {3 * 4: 1}}


@pytest.mark.parametrize("flags", [(), ("fetch",), ("load",)])
def test_the_first_use_meets_what_later_loads_would_meet(flags: tuple[str, ...]) -> None:
    """Wrong-path loads have filled the TLB of loads with invalid entries; a store or a fetch asks
    another one, and the reference stream, which loads, never faults."""
    rows = [item("map", 0, 10, page=0, pages=4), item("map", 0, 5000, page=4, pages=4),
            item("touch", 0, 5000, *flags, page=4, pages=4)]
    result = run(rows, policy="vmalloc-fault", inv_l1=1, l1_split_store=1,
                 work={"speculative_walks_per_tcycle": 10**10, "visit_text_permille": 0,
                       "visit_module_permille": 1000, "visit_cycles": 10})
    assert result.verdict == "ran"
    assert result.counters["ambient_faults"] == 0
    assert result.counters["negative_faults"] == 4
    assert sum(result.histograms["first_touch"].values()) == 4
