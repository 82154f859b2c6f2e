"""Work made from a recording is safe in every order its gates allow, and loses nothing recorded."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysim import engine, ftrace, machines, scenario, workloads
from pysim.errors import InputError
from pysim.workloads import recovery, replay
from pysim.workloads.replay import Replay, Settings

PACKAGED = "riscv-6.12-mark-smp2-forkburst"
KIND = {number: name for name, number in engine.ITEMS.items()}
FLAG = engine.ITEM_FLAGS
PAGE = 4096


def rows(made: Replay) -> list[dict[str, Any]]:
    """Return the items of a replay as C would read them, kinds by name."""
    array = np.frombuffer(made.items, dtype=engine.layout("struct csim_item"))
    names = array.dtype.names
    return [{n: KIND[int(row[n])] if n == "kind" else int(row[n]) for n in names}
            for row in array]


def gates(made: Replay) -> list[int]:
    return np.frombuffer(made.gates, dtype="u4").tolist()


def settings(harts: int, **changes: Any) -> Settings:
    return Settings(**({"harts": harts, "levels": 5, "traced_mhz": 100} | changes))


def of_text(*lines: str) -> recovery.Recovery:
    return recovery.recover(ftrace.trace(list(lines), "text"))


def alloc(t: float, hart: int, pid: int, va: int, pages: int = 4, align: int = 32768) -> str:
    return (f"  a-{pid} [{hart:03}] ..... {t:.6f}: alloc_vmap_area: va_start: {va} "
            f"size={(pages + 1) * PAGE} align={align} vstart=0xff20000000000000 failed=0")


def free(t: float, hart: int, pid: int, va: int) -> str:
    return (f"  a-{pid} [{hart:03}] ..... {t:.6f}: free_vmap_area_noflush: va_start={va:#x} "
            "nr_lazy=5 nr_lazy_max=8192")


def purge(t: float, hart: int, pid: int, first: int, end: int) -> str:
    return (f"  a-{pid} [{hart:03}] ..... {t:.6f}: purge_vmap_area_lazy: start={first:#x} "
            f"end={end:#x} num_purged=1")


def fork(t: float, hart: int, pid: int, child: int) -> str:
    return (f"  a-{pid} [{hart:03}] ..... {t:.6f}: sched_process_fork: comm=a pid={pid} "
            f"child_comm=a child_pid={child}")


def switch(t: float, hart: int, pid: int, to: int, state: str = "S") -> str:
    return (f"  a-{pid} [{hart:03}] d.... {t:.6f}: sched_switch: prev_comm=a prev_pid={pid} "
            f"prev_prio=120 prev_state={state} ==> next_comm=a next_pid={to} next_prio=120")


VA = 0xFF20000000000000


# ---- every order the gates allow ----------------------------------------------------------------


class Kernel:
    """The kernel's side of the items, checked while a scheduler picks any hart that can go on."""

    def __init__(self, items: list[dict[str, Any]], gate_counts: list[int]) -> None:
        self.queues: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for item in items:
            self.queues[item["hart"]].append(item)
        self.counts = gate_counts
        self.signals: Counter[int] = Counter()
        self.mapped: dict[int, int] = {}  # page -> first page of its area
        self.areas: dict[int, int] = {}   # first page -> pages
        self.lazy: set[int] = set()
        self.touched: dict[int, set[int]] = defaultdict(set)   # hart -> pages
        self.used: dict[int, set[int]] = defaultdict(set)      # ... at any time
        self.switched: dict[int, set[int]] = defaultdict(set)  # hart -> first pages
        self.current: dict[int, range] = {}
        self.came_up: set[int] = set()
        self.space: dict[int, int] = {}
        self.masks: dict[int, set[int]] = defaultdict(set)     # address space -> harts
        self.recorded = masks_in_order(items)
        self.up_before = {item["order"]: {i["arg"] for i in items if i["kind"] == "online"
                                          and i["order"] < item["order"]} for item in items
                          if item["kind"] == "map"}

    def runnable(self) -> list[int]:
        return [hart for hart, queue in self.queues.items()
                if queue and self.signals[queue[0]["wait"]] >= self.counts[queue[0]["wait"]]]

    def run(self, seed: int) -> None:
        chance = random.Random(seed)
        left = sum(map(len, self.queues.values()))
        while left:
            able = self.runnable()
            assert able, "every hart waits"
            hart = chance.choice(able)
            for _ in range(chance.choice((1, 1, 2, 50))):  # sometimes one hart runs far ahead
                if not self.queues[hart] or hart not in self.runnable():
                    break
                item = self.queues[hart].pop(0)
                getattr(self, "do_" + item["kind"])(item, hart)
                if item["signal"]:
                    self.signals[item["signal"]] += 1
                left -= 1

    @staticmethod
    def pages(item: dict[str, Any]) -> range:
        first = item["va"] // PAGE
        return range(first, first + item["pages"])

    def do_map(self, item: dict[str, Any], hart: int) -> None:
        assert self.came_up == self.up_before[item["order"]], "other harts are up than recorded"
        for page in self.pages(item):
            assert page not in self.mapped, "mapped twice"
            assert page not in self.lazy, "reused before its purge"
            self.mapped[page] = self.pages(item)[0]
        self.areas[self.pages(item)[0]] = item["pages"]

    def do_unmap(self, item: dict[str, Any], hart: int) -> None:
        pages = self.pages(item)
        assert self.areas.pop(pages[0]) == item["pages"], "not the area that was mapped"
        for page in pages:
            del self.mapped[page]
            self.lazy.add(page)
            for other, touched in self.touched.items():
                assert page not in touched, f"hart {other} still uses it"
                self.used[other].discard(page)
        for stacks in self.switched.values():
            stacks.discard(pages[0])

    def do_purge(self, item: dict[str, Any], hart: int) -> None:
        if item["pages"] > 1 << 31:
            self.lazy.clear()
        self.lazy -= set(self.pages(item)) if item["pages"] < 1 << 16 else self.lazy

    def do_touch(self, item: dict[str, Any], hart: int) -> None:
        for page in self.pages(item):
            assert page in self.mapped, "touched before it is mapped or after it is freed"
            self.touched[hart].add(page)
            self.used[hart].add(page)
        if item["flags"] & FLAG["stack"]:
            assert set(self.pages(item)) <= set(self.current[hart])

    def do_switch(self, item: dict[str, Any], hart: int) -> None:
        pages = self.pages(item)
        self.current[hart] = pages
        if not item["va"]:
            assert item["pages"] == item["flags"] == item["wait"] == 0
            return
        assert self.mapped[pages[-1]] == pages[0]
        assert bool(item["flags"] & FLAG["first"]) == (pages[0] not in self.switched[hart])
        if item["flags"] & FLAG["first"]:
            assert item["arg"] == 1
            self.used[hart].add(pages[-1])
        for page in pages[len(pages) - item["arg"]:]:
            assert page in self.used[hart], "the mix would go where the hart has not been"
            self.touched[hart].add(page)
        self.switched[hart].add(pages[0])

    def do_forget(self, item: dict[str, Any], hart: int) -> None:
        pages = set(self.pages(item))
        assert pages & self.used[hart], "never used here"
        assert not pages & set(self.current.get(hart, ())), "it stands on it"
        self.touched[hart] -= pages

    def do_switch_mm(self, item: dict[str, Any], hart: int) -> None:
        assert item["arg"] != self.space.get(hart), "it runs there already"
        self.space[hart] = item["arg"]
        self.masks[item["arg"]].add(hart)

    def do_user_fault(self, item: dict[str, Any], hart: int) -> None:
        assert item["arg"] > 0

    def do_flush(self, item: dict[str, Any], hart: int) -> None:
        assert item["pages"] == 0

    def do_user_unmap(self, item: dict[str, Any], hart: int) -> None:
        assert item["pages"] != self.space.get(hart), "the space that runs is not named"
        space = item["pages"] or self.space.get(hart, 0)
        assert self.masks[space] == self.recorded[item["order"]], "the mask is another"

    do_user_protect = do_user_unmap

    def do_online(self, item: dict[str, Any], hart: int) -> None:
        assert item["arg"] != hart
        self.came_up.add(item["arg"])

    def do_finish(self, item: dict[str, Any], hart: int) -> None:
        assert not self.queues[hart], "something comes after the end"

    def do_idle(self, item: dict[str, Any], hart: int) -> None:
        assert item["arg"] or item["wait"] or item["signal"], "an idle item that does nothing"


def masks_in_order(items: list[dict[str, Any]]) -> dict[int, set[int]]:
    """Where the space that each user change concerns has run, when items go in their order."""
    masks: dict[int, set[int]] = defaultdict(set)
    space: dict[int, int] = {}
    found = {}
    for item in items:
        if item["kind"] == "switch_mm":
            space[item["hart"]] = item["arg"]
            masks[item["arg"]].add(item["hart"])
        elif item["kind"] in ("user_unmap", "user_protect"):
            found[item["order"]] = set(masks[item["pages"] or space.get(item["hart"], 0)])
    return found


def laws(rec: recovery.Recovery, chosen: Settings, seeds: int = 3) -> Replay:
    made = replay.build(rec, chosen)
    items = rows(made)
    assert [item["order"] for item in items] == list(range(1, len(items) + 1))
    at: dict[int, int] = defaultdict(int)
    for item in items:
        assert at[item["hart"]] <= item["at_cycles"] < made.useful_cycles
        at[item["hart"]] = item["at_cycles"]
        assert item["hart"] < chosen.harts
    signalled: dict[int, int] = {}
    for item in items:
        signalled[item["signal"]] = item["order"]
    assert all(signalled[item["wait"]] < item["order"] for item in items if item["wait"])
    kinds = Counter(item["kind"] for item in items)
    repaired = made.counts["repaired"]
    missing_frees = rec.findings["maps over an area whose free is missing"]
    assert kinds["map"] == len(rec.areas)
    assert kinds["unmap"] == len(rec.freed) + missing_frees
    assert kinds["purge"] == len(rec.purged) + repaired
    events = Counter(type(event) for event in rec.trace.events)
    for kind, event in (("user_fault", ftrace.UserFault), ("user_unmap", ftrace.UserUnmap),
                        ("user_protect", ftrace.UserProtect), ("flush", ftrace.Flush)):
        assert kinds[kind] == events[event]
    for seed in range(seeds):
        Kernel(items, gates(made)).run(seed)
    return made


def every_recording(shared: Path) -> list[recovery.Recovery]:
    files = sorted((shared / "data" / "kernel" / "traces").glob("*.ftrace.txt.gz"))
    assert files
    return [recovery.recover(ftrace.load(path)) for path in files]


@pytest.mark.parametrize("harts", [1, 2, 3, 8])
def test_the_packaged_recording_obeys_the_laws(harts: int) -> None:
    made = laws(replay.recovered(PACKAGED), settings(harts), seeds=10)
    assert made.counts["map"] == 236


@pytest.mark.soak
@pytest.mark.parametrize("harts", [1, 2, 3, 4, 8])
def test_every_recording_obeys_the_laws(shared: Path, harts: int) -> None:
    for rec in every_recording(shared):
        laws(rec, settings(harts), seeds=2)


def test_no_recorded_kernel_reuses_an_unpurged_address(shared: Path) -> None:
    for rec in every_recording(shared):
        assert not rec.forced, rec.trace.name
        assert not [what for what in rec.findings if "missing" in what or "not purged" in what]


@pytest.mark.soak
@pytest.mark.parametrize("levels", [3, 4, 5])
def test_addresses_lie_in_the_layout_of_the_mode(shared: Path, levels: int) -> None:
    regions = engine.regions(levels)
    for rec in every_recording(shared):
        made = replay.build(rec, settings(2, levels=levels))
        for item in rows(made):
            if item["kind"] == "map":
                end = item["va"] + item["pages"] * PAGE
                assert any(regions[r][0] <= item["va"] and end <= regions[r][1]
                           for r in ("vmalloc", "module"))
        laws(rec, settings(2, levels=levels), seeds=1)


def test_recorded_addresses_stay_where_they_were_in_their_own_mode() -> None:
    rec = replay.recovered(PACKAGED)
    kept = {item["va"] for item in rows(replay.build(rec, settings(2))) if item["kind"] == "map"}
    assert kept == {area.va for area in rec.areas}


PAGES = st.integers(0, 24)
HARTS = st.integers(0, 2)
PIDS = st.integers(0, 5)


@st.composite
def any_recording(draw: st.DrawFn) -> recovery.Recovery:
    """Events in any order, consistent or not: lost frees, lost switches, pids used again."""
    lines, now = [], 1.0
    for _ in range(draw(st.integers(1, 40))):
        now += draw(st.sampled_from((0, 1e-6, 1e-5, 1e-3)))
        hart, pid, page = draw(HARTS), draw(PIDS), draw(PAGES)
        kind = draw(st.sampled_from("aaaaffffpswk"))
        if kind == "a":
            pages, align = draw(st.sampled_from(((4, 32768), (1, 1), (3, 1))))
            lines.append(alloc(now, hart, pid, VA + page * PAGE, pages, align))
        elif kind == "f":
            lines.append(free(now, hart, pid, VA + page * PAGE))
        elif kind == "p":
            lines.append(purge(now, hart, pid, VA, VA + page * PAGE))
        elif kind == "k":
            lines.append(fork(now, hart, pid, draw(PIDS)))
        else:
            state = draw(st.sampled_from(("S", "R", "Z", "X")))
            lines.append(switch(now, hart, pid, draw(PIDS), state))
    return of_text(*lines)


@pytest.mark.slow
@given(any_recording(), st.integers(1, 4), st.sampled_from((Fraction(1), Fraction(3, 7))))
def test_any_recording_obeys_the_laws(
    rec: recovery.Recovery, harts: int, factor: Fraction
) -> None:
    laws(rec, settings(harts, rate_factor=factor), seeds=2)


# ---- the same bytes -----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_same_bytes_in_another_process_with_another_hash_seed() -> None:
    made = replay.build(replay.recovered(PACKAGED), settings(2))
    here = hashlib.sha256(made.items + made.gates).hexdigest()
    again = replay.build(recovery.recover(ftrace.load(PACKAGED)), settings(2))
    assert hashlib.sha256(again.items + again.gates).hexdigest() == here
    program = (
        "import hashlib; from pysim.workloads import replay as r;"
        f"m = r.build(r.recovered({PACKAGED!r}), r.Settings(harts=2, levels=5, traced_mhz=100));"
        "print(hashlib.sha256(m.items + m.gates).hexdigest())")
    for seed in ("1", "77"):
        done = subprocess.run([sys.executable, "-c", program], check=True, text=True,
                              capture_output=True, env=os.environ | {"PYTHONHASHSEED": seed},
                              cwd=Path(__file__).parent.parent)
        assert done.stdout.strip() == here


# ---- time ---------------------------------------------------------------------------------------

TWO_HARTS = (
    "# P:2 #P:2",
    alloc(1.000010, 0, 1, VA),
    fork(1.000020, 0, 1, 50),
    switch(1.000100, 1, 0, 50),        # hart 1 slept 90 us, then runs the child
    switch(1.000130, 1, 50, 0, "X"),   # 30 us of work on hart 1
    free(1.000200, 0, 1, VA),          # 180 us of work on hart 0
)


def at(made: Replay, hart: int, kind: str) -> list[int]:
    return [i["at_cycles"] for i in rows(made) if (i["hart"], i["kind"]) == (hart, kind)]


def test_gaps_become_work_where_a_task_ran_and_sleep_where_none_did() -> None:
    made = laws(of_text(*TWO_HARTS), settings(2))  # 100 MHz: 100 cycles a microsecond
    assert at(made, 0, "map") == [0]
    assert at(made, 0, "unmap") == [19_000]
    sleeps = [(i["hart"], i["at_cycles"], i["arg"]) for i in rows(made) if i["kind"] == "idle"]
    assert sleeps == [(1, 0, 9_000), (1, 3_000, 7_000)]
    assert at(made, 1, "switch") == [0, 3_000]
    assert (at(made, 0, "finish"), at(made, 1, "finish")) == ([19_001], [3_001])
    assert made.useful_cycles == 19_002


def test_the_clock_of_the_traced_machine_scales_the_gaps() -> None:
    made = replay.build(of_text(*TWO_HARTS), settings(2, traced_mhz=250))
    assert at(made, 0, "unmap") == [47_500]


@pytest.mark.parametrize("factor", [Fraction(2), Fraction(1, 3), Fraction(7, 5)])
def test_the_rate_factor_divides_work_and_sleep(factor: Fraction) -> None:
    made = laws(of_text(*TWO_HARTS), settings(2, rate_factor=factor))
    assert at(made, 0, "unmap") == [int(19_000 / factor)]
    sleeps = [i["arg"] for i in rows(made) if i["kind"] == "idle"]
    assert sleeps == [int(9_000 / factor), int(7_000 / factor)]


def test_the_recorded_policys_cost_is_taken_out_of_the_mapping_harts_work() -> None:
    made = replay.build(of_text(*TWO_HARTS), settings(2, map_cost_cycles=1_500))
    assert at(made, 0, "unmap") == [17_500]
    assert at(made, 1, "switch") == [0, 3_000]
    most = replay.build(of_text(*TWO_HARTS), settings(2, map_cost_cycles=10**9))
    assert at(most, 0, "unmap") == [0]


def test_two_trace_harts_on_one_do_their_work_one_after_the_other() -> None:
    made = laws(of_text(*TWO_HARTS), settings(1))
    assert at(made, 0, "unmap") == [19_000 + 3_000]
    assert "idle" not in made.counts  # hart 0 always worked


def test_harts_beyond_the_recorded_have_no_items() -> None:
    made = laws(of_text(*TWO_HARTS), settings(16))
    assert {item["hart"] for item in rows(made)} == {0, 1}


def test_without_switches_every_gap_is_work() -> None:
    made = laws(of_text(alloc(1, 0, 7, VA), free(1.5, 0, 7, VA)), settings(1))
    assert at(made, 0, "unmap") == [50_000_000]


# ---- stacks -------------------------------------------------------------------------------------


def test_a_new_stack_is_written_by_the_forker_and_switched_to_by_the_child() -> None:
    items = [i for i in rows(laws(of_text(*TWO_HARTS), settings(2)))
             if i["kind"] not in ("idle", "finish")]
    short = [(i["hart"], i["kind"], (i["va"] - VA) // PAGE if i["va"] else None, i["pages"])
             for i in items]
    assert short == [
        (0, "map", 0, 4), (0, "touch", 0, 1),            # set_task_stack_end_magic
        (0, "touch", 3, 1), (0, "forget", 0, 4),         # copy_thread
        (1, "switch", 0, 4), (1, "touch", 2, 1),         # the child, then its second page
        (1, "switch", None, 0), (1, "forget", 0, 4),     # it is gone
        (0, "forget", 0, 4), (0, "unmap", 0, 4),
    ]
    assert [i["flags"] for i in items[:6]] == [FLAG["stack"], 0, 0, 0, FLAG["first"],
                                               FLAG["stack"]]
    first_use = items[4]
    assert first_use["wait"] == items[0]["signal"] != 0


def test_a_fork_without_a_map_takes_the_stack_of_the_last_dead_task_of_its_hart() -> None:
    rec = of_text(
        alloc(1.0, 0, 1, VA), fork(1.1, 0, 1, 50), switch(1.2, 0, 1, 50),
        switch(1.3, 0, 50, 1, "Z"), fork(1.4, 0, 1, 51), switch(1.5, 0, 1, 51),
        switch(1.6, 0, 51, 1, "Z"))
    assert {at: area.va for at, area in rec.stacks.items()} == {1: VA, 4: VA}
    cleared = [i for i in rows(laws(rec, settings(1))) if i["kind"] == "touch" and i["pages"] == 4]
    assert len(cleared) == 1  # alloc_thread_stack_node clears a cached stack whole


def test_caches_are_per_hart_and_hold_two() -> None:
    """The third dead task's stack is not cached, and another hart's fork does not see any."""
    lines = [alloc(1.0, 1, 2, VA + 0x100000)]  # hart 1's cache is known to be empty after this
    for n in range(3):
        lines += [alloc(2 + n, 0, 1, VA + n * 0x8000), fork(2.1 + n, 0, 1, 50 + n)]
    lines += [switch(5.0, 0, 1, 50)]
    lines += [switch(5.1 + n / 10, 0, 50 + n, 51 + n if n < 2 else 1, "X") for n in range(3)]
    lines += [fork(6.0, 0, 1, 60), fork(6.1, 0, 1, 61), fork(6.2, 1, 2, 62)]
    rec = of_text(*lines)
    taken = [rec.stacks.get(at) for at in range(len(lines) - 3, len(lines))]
    assert [area.va if area else None for area in taken] == [VA, VA + 0x8000, VA + 0x100000]


def test_a_stack_that_is_freed_too_early_was_not_taken_by_that_fork() -> None:
    rec = of_text(
        alloc(1.0, 0, 1, VA), fork(1.1, 0, 1, 50), switch(1.2, 0, 1, 50),
        switch(1.3, 0, 50, 1, "Z"), fork(1.4, 0, 1, 51), free(1.45, 0, 1, VA),
        switch(1.5, 0, 1, 51), switch(1.6, 0, 51, 1, "Z"))
    assert list(rec.stacks) == [1]
    assert rec.findings["cached stacks freed while a task should have had them"] == 1
    laws(rec, settings(2))


def test_what_a_cache_held_before_the_recording_is_unknown() -> None:
    rec = of_text(fork(1.0, 0, 1, 50), switch(1.1, 0, 1, 50), switch(1.2, 0, 50, 1, "Z"))
    assert not rec.stacks
    assert rec.findings == {"stacks unknown": 1}


def test_a_migrated_task_uses_its_stack_first_on_the_new_hart_too() -> None:
    rec = of_text(
        alloc(1.0, 0, 1, VA), fork(1.1, 0, 1, 50), switch(1.2, 0, 1, 50), switch(1.3, 0, 50, 1),
        switch(1.4, 1, 0, 50), switch(1.5, 1, 50, 0), switch(1.6, 0, 1, 50),
        switch(1.7, 0, 50, 1, "Z"), free(1.8, 1, 9, VA))
    stood = [(i["hart"], bool(i["flags"] & FLAG["first"]), i["arg"])
             for i in rows(laws(rec, settings(2), seeds=20)) if i["kind"] == "switch" and i["va"]]
    assert stood == [(0, True, 1), (1, True, 1), (0, False, 2)]


def test_a_stack_freed_while_its_task_seems_to_run_is_left_first() -> None:
    """The switch away was lost."""
    for freer in (0, 1, 2):
        rec = of_text(alloc(1.0, 0, 1, VA), fork(1.1, 0, 1, 50), switch(1.2, 1, 0, 50),
                      free(1.3, freer, 9, VA))
        laws(rec, settings(3), seeds=20)


# ---- purges and repairs -------------------------------------------------------------------------


def test_reuse_waits_for_the_purge_and_the_purge_for_the_frees() -> None:
    rec = of_text(
        alloc(1.0, 0, 1, VA, align=1), free(1.1, 1, 2, VA), purge(1.2, 2, 3, VA, VA + 5 * PAGE),
        alloc(1.3, 3, 4, VA, align=1))
    items = {(i["kind"], i["hart"]): i for i in rows(laws(rec, settings(4), seeds=50))}
    assert items["unmap", 1]["wait"] == items["forget", 0]["signal"] != 0
    assert items["purge", 2]["wait"] == items["unmap", 1]["signal"] != 0
    assert items["map", 3]["wait"] == items["purge", 2]["signal"] != 0


def test_purges_take_turns() -> None:
    """A map over two areas purged at two times waits for both through the later one."""
    rec = of_text(
        alloc(1.0, 0, 1, VA, 1, 1), alloc(1.01, 0, 1, VA + 2 * PAGE, 1, 1),
        free(1.1, 0, 1, VA), purge(1.2, 2, 3, VA, VA + 2 * PAGE),
        free(1.3, 0, 1, VA + 2 * PAGE), purge(1.4, 3, 4, VA + 2 * PAGE, VA + 4 * PAGE),
        alloc(1.5, 1, 4, VA, 3, 1))
    laws(rec, settings(4), seeds=100)


def test_a_purge_that_fenced_nothing_is_not_replayed() -> None:
    rec = of_text(alloc(1.0, 0, 1, VA), purge(1.2, 0, 3, ftrace.ADDRESS_END - PAGE, 0))
    assert "purge" not in laws(rec, settings(1)).counts


def test_a_missing_free_is_reported_and_repaired() -> None:
    rec = of_text(alloc(1.0, 0, 1, VA), alloc(1.1, 1, 2, VA + 0x4000, 1, 1))
    assert rec.findings["maps over an area whose free is missing"] == 1
    made = laws(rec, settings(2), seeds=20)
    assert made.counts["repaired"] == 1


def test_a_missing_purge_is_reported_and_repaired() -> None:
    rec = of_text(alloc(1.0, 0, 1, VA), free(1.05, 1, 2, VA), alloc(1.1, 1, 2, VA))
    assert rec.findings["maps over an area freed but not purged"] == 1
    assert laws(rec, settings(2), seeds=20).counts["repaired"] == 1


def test_a_failed_reservation_and_a_block_of_vm_map_ram_map_nothing() -> None:
    rec = of_text(
        alloc(1.0, 0, 1, VA).replace("failed=0", "failed=1"), alloc(1.1, 0, 1, VA),
        alloc(1.2, 0, 1, VA + (4 << 20), (4 << 20) // PAGE - 1, 4 << 20))
    assert [area.va for area in rec.areas] == [VA]


def test_a_pack_of_two_mebibytes_is_huge() -> None:
    rec = of_text(alloc(1.0, 0, 1, VA, 512, 2 << 20),
                  alloc(1.1, 0, 1, VA + (4 << 20), 513, 2 << 20))
    assert [area.huge for area in rec.areas] == [True, False]


def test_frees_of_areas_older_than_the_recording_are_only_counted() -> None:
    rec = of_text(free(1.0, 0, 1, VA), alloc(1.1, 0, 1, VA + 0x8000))
    assert rec.findings["frees of areas older than the recording"] == 1
    assert "unmap" not in laws(rec, settings(1)).counts


# ---- booting ------------------------------------------------------------------------------------


def boot_of(harts: int) -> recovery.Recovery:
    lines = [alloc(1.0, 0, 0, VA), fork(1.001, 0, 0, 1)]
    lines += [alloc(1.01 + n / 1000, 0, 1, VA + (n + 1) * 0x8000) for n in range(1, harts)]
    for n in range(1, harts):
        lines += [switch(1.1 + n, n, 0, 20 + n), switch(1.2 + n, n, 20 + n, 0),
                  alloc(1.3 + n, n - 1, 99, VA + 0x100000 + n * 0x8000, 1, 1)]
    return of_text(*lines)


@pytest.mark.parametrize("harts", [2, 3, 4])
def test_harts_come_up_after_all_that_was_recorded_before(harts: int) -> None:
    rec = boot_of(harts)
    assert rec.online_at.keys() == set(range(1, harts))
    assert [a.va for a in rec.idle_stacks.values()] == [VA + (n + 1) * 0x8000
                                                        for n in range(1, harts)]
    items = rows(laws(rec, settings(harts), seeds=20))
    online = {item["arg"]: item["order"] for item in items if item["kind"] == "online"}
    assert online.keys() == set(range(1, harts))
    for item in items:
        if item["kind"] == "map" and item["va"] >= VA + 0x100000:
            up = (item["va"] - VA - 0x100000) // 0x8000
            assert {hart for hart, order in online.items() if order < item["order"]} == set(
                range(1, up + 1))


def test_a_recording_that_starts_later_has_all_harts_up() -> None:
    assert not of_text(*TWO_HARTS).online_at


# ---- the seam -----------------------------------------------------------------------------------


def test_a_replay_workload_gives_its_recordings_work_budget_and_assumptions() -> None:
    machine, workload = machines.load("u74"), workloads.load("forkburst")
    items, gate_bytes = workload.items(machine, 2)
    made = replay.of(workload, machine, 2)
    assert (items, gate_bytes) == (made.items, made.gates)
    assert workload.c_values(machine, 1, 2)["useful_cycles"] == made.useful_cycles
    assert workload.c_values(machine, 1, 2)["synthetic"] == 0
    assert any("recorded under mark; 0 cycles a map" in note for note in made.notes)


def test_a_recording_counts_by_its_bytes_wherever_it_lies(tmp_path: Path) -> None:
    workload = workloads.load("forkburst")
    copy = tmp_path / "mine.txt.gz"
    copy.write_bytes(ftrace.find(PACKAGED).read_bytes())
    assert workload.seed(1, 0) == workload.override({"trace": str(copy)}).seed(1, 0)
    copy.write_text("\n".join(TWO_HARTS))
    assert workload.seed(1, 0) != workload.override({"trace": str(copy)}).seed(1, 0)


def test_the_traced_clock_is_the_given_the_known_or_the_machines_own(tmp_path: Path) -> None:
    machine, workload = machines.load("u74"), workloads.load("forkburst")
    rec = replay.recovered(PACKAGED)

    def chosen(**changes: Any) -> tuple[int, str]:
        got, notes = replay.settings(workload.override(changes), machine, 2, rec)
        return got.traced_mhz, " ".join(notes)

    assert chosen()[0] == 160
    assert chosen(traced_mhz=77)[0] == 77
    mhz, notes = chosen(traced_mhz=0)
    assert mhz == replay.QEMU_TRACED_MHZ
    assert "wall times mean nothing" in notes
    path = tmp_path / "mine.txt"
    path.write_text("\n".join(TWO_HARTS))
    other = workload.override({"trace": str(path), "traced_mhz": 0, "recorded_policy": ""})
    got, told = replay.settings(other, machine, 2, replay.recovered(str(path)))
    assert got.traced_mhz == machine.mhz
    assert "the traced clock is not given" in told[0]
    assert "unknown policy" in told[1]


def test_a_preventive_recording_pays_for_its_remote_fences() -> None:
    machine = machines.load("u74")
    alone, two, four = (replay.map_cost_cycles("preventive", machine, n) for n in (1, 2, 4))
    assert 0 < alone < two < four
    assert four - two == 2 * (machine.sbi_send_cycles + machine.sbi_ack_cycles)
    assert replay.map_cost_cycles("mark", machine, 4) == 0


def test_an_edited_recording_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("\n".join(TWO_HARTS))
    assert len(replay.recovered(str(path)).areas) == 1
    path.write_text("\n".join([*TWO_HARTS, alloc(2.0, 0, 1, VA + 0x8000)]))
    assert len(replay.recovered(str(path)).areas) == 2


def test_a_replay_without_its_recording_is_refused() -> None:
    with pytest.raises(InputError, match="no such file"):
        workloads.load("forkburst").override({"trace": "/nowhere/x.txt"}).items(
            machines.load("u74"), 2)


def test_a_replay_cannot_be_given_a_duration() -> None:
    with pytest.raises(InputError, match="duration_ms"):
        workloads.load("forkburst").override({"duration_ms": 5})
    with pytest.raises(InputError, match="duration_ms"):
        workloads.load("fork").override({"duration_ms": 0})


def test_areas_too_far_apart_for_a_mode_are_refused() -> None:
    rec = of_text(alloc(1.0, 0, 1, VA), alloc(1.0, 0, 1, VA + (1 << 40)))
    replay.build(rec, settings(1))
    with pytest.raises(InputError, match="does not fit into the region"):
        replay.build(rec, settings(1, levels=3))


# ---- on the engine ------------------------------------------------------------------------------


def ran(policy: str, machine: str = "xs-kmh", harts: int = 2, **changes: Any) -> engine.Result:
    workload = {"inherit": "forkburst", "rate_factor": 40} | changes
    return engine.simulate(scenario.lower(scenario.build({
        "policy": policy, "machine": machine, "harts": harts, "workload": workload})))


@pytest.mark.parametrize(("policy", "machine"), [
    ("ideal", "xs-kmh"), ("vmalloc-fault", "sg2042"), ("preventive-range", "xs-kmh"),
    ("mark-6.12", "xs-kmh"), ("mark-barrier", "xs-kmh"), ("mark-switch-in", "xs-kmh")])
def test_a_recording_runs_to_its_end_with_all_it_recorded(policy: str, machine: str) -> None:
    result = ran(policy, machine)
    assert result.verdict == "ran"
    counters = result.counters
    assert (counters["maps"], counters["map_pages"]) == (236, 944)
    assert (counters["unmaps"], counters["purges"]) == (227, 0)
    assert counters["ambient_faults"] == 0
    assert counters["remote_fence_calls"] == (236 if policy == "preventive-range" else 0)


def test_a_handler_in_c_cannot_repair_the_stack_it_needs() -> None:
    """`vmalloc-fault` in `kstack`: S4, where the core keeps an invalid entry of the new stack."""
    result = ran("vmalloc-fault")
    assert result.verdict == "stack overflow"
    first, end = engine.regions(machines.load("xs-kmh").levels)["vmalloc"]
    assert first <= result.verdict_va < end


@pytest.mark.parametrize("harts", [1, 2, 4])
def test_each_hart_works_as_long_as_it_did_when_it_was_recorded(harts: int) -> None:
    """Recorded harts finish with their record, others run the mix as long as the busiest."""
    made = replay.of(workloads.load("forkburst").override({"rate_factor": 40}),
                     machines.load("xs-kmh"), harts)
    ends = [item["at_cycles"] for item in rows(made) if item["kind"] == "finish"]
    assert len(ends) == min(harts, 2)
    result = ran("mark-7.2", harts=harts)
    assert result.counters["useful_cycles"] == sum(ends) + (
        harts - len(ends)) * made.useful_cycles


def test_a_recording_is_the_same_work_for_every_policy() -> None:
    same = [{name: ran(policy).counters[name] for name in ("work_digest", "useful_cycles", "maps")}
            for policy in ("ideal", "preventive-range", "mark-6.12")]
    assert same[0] == same[1] == same[2]


def test_a_recording_gives_the_same_record_twice() -> None:
    assert ran("mark-7.2").record() == ran("mark-7.2").record()


def test_more_of_the_time_goes_to_maps_when_the_rate_rises() -> None:
    slow, fast = ran("preventive-range", rate_factor=20), ran("preventive-range", rate_factor=200)
    assert slow.counters["maps"] == fast.counters["maps"]
    parts = [r.counters["initiator_wait_cycles"] / r.counters["useful_cycles"]
             for r in (slow, fast)]
    assert parts[1] > 5 * parts[0] > 0


# ---- the report ---------------------------------------------------------------------------------


def test_the_summary_says_what_is_there_and_what_is_not() -> None:
    rec = of_text("garbage", *TWO_HARTS, "CPU:1 [LOST 3 EVENTS]", free(2.0, 0, 1, VA),
                  "  a-1 [000] 3.0: tlb_flush: pages:1")
    told = dict(recovery.summary(rec))
    assert told["line 1 broken"] == "not a line of a trace: garbage"
    wanted = {
        "recording": "text", "lines": 10, "broken lines": 1, "events used": 6,
        "event sched_switch": 2, "events of other kinds": 1, "other event tlb_flush": 1,
        "events lost on hart 1": 3, "events out of order": 0, "span, ns": 999_990_000,
        "recorded harts": 2, "maps": 1, "pages mapped": 4, "most pages mapped at once": 4,
        "kernel stacks among the maps": 1, "frees": 1, "purges": 0,
        "frees of areas older than the recording": 1, "stacks reserved by a fork": 1,
    }
    assert {name: told[name] for name in wanted} == wanted


def test_no_harts_are_not_the_recorded_ones(capsys: pytest.CaptureFixture[str]) -> None:
    from sweeps.cli import main

    assert main(["replay", "riscv-6.12-mark-smp2-forkburst", "--harts", "0"]) == 2
    assert "options: harts: input should be greater than or equal to 1" in capsys.readouterr().err
