"""Drawn events become items that obey the kernel's rules, and depend on the seed alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from pysim import engine, machines, scenario, workloads
from pysim.errors import InputError
from pysim.workloads import drawn

ITEM = engine.layout("struct csim_item")
KINDS = {number: name for name, number in engine.ITEMS.items()}
QUIET = {"vmalloc_per_s": 0, "user_faults_per_s": 0, "ticks_hz": 0, "interrupts_per_s": 0,
         "speculative_walks_per_mcycle": 0}


def made(seed: int = 1, harts: int = 4, machine: str = "p550", **changes: Any) -> Any:
    workload = workloads.load("idle").override(QUIET | {"lifetime_ms": 0.2} | changes)
    items, gates = drawn.build(workload, machines.load(machine), harts, seed)
    return np.frombuffer(items, ITEM), np.frombuffer(gates, np.uint32)


def kinds(items: Any) -> Counter[str]:
    return Counter(KINDS[int(kind)] for kind in items["kind"])


OBJECTS = [rate for rate in drawn.RATES if not rate.startswith(("user", "mm", "file", "access"))]


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "harts", "rates"), [
    *((seed, 1 + seed % 5, [OBJECTS[seed % 6], OBJECTS[(seed + 1 + seed // 6) % 6]])
      for seed in range(12)), (99, 3, OBJECTS)])
def test_no_address_is_reused_before_its_purge(seed: int, harts: int, rates: list[str]) -> None:
    """Every page goes mapped, unmapped, fenced, mapped again; the gates say the same."""
    items, gates = made(seed, harts, **dict.fromkeys(rates, 40_000), lazy_purge_mib=1)
    state: dict[int, str] = {}
    purged_by: dict[int, int] = {}
    purges: dict[int, int] = {}                      # gate -> number of the purge
    unmapped: dict[int, Any] = {}
    for item in items:
        kind, va, pages = KINDS[int(item["kind"])], int(item["va"]), int(item["pages"])
        span = range(va, va + pages * 4096, 4096)
        if kind == "map":
            for page in span:
                assert state.get(page, "new") in ("new", "fenced"), (page, state[page])
                if state.get(page) == "fenced":      # behind that purge, or a later one
                    assert purges[int(item["wait"])] >= purged_by[page]
                state[page] = "mapped"
        elif kind == "unmap":
            for page in span:
                assert state[page] == "mapped"
                state[page] = "unmapped"
                unmapped[page] = item["signal"]
        elif kind == "purge":
            covered = [page for page, now in state.items() if now == "unmapped"
                       and va <= page < va + pages * 4096]
            for page in covered:
                assert unmapped[page] == item["wait"] != 0
                state[page], purged_by[page] = "fenced", len(purges)
            purges[int(item["signal"])] = len(purges)
    assert len(gates) > 0
    assert kinds(items)["map"] > 10


def test_a_module_is_loaded_flushed_and_unloaded() -> None:
    items, _ = made(modules_per_s=1000, lifetime_ms=0.01)
    count = kinds(items)
    loads = count["map"] // len(drawn.MODULE_PAGES)
    assert loads > 5
    assert count["unmap"] >= count["map"] - len(drawn.MODULE_PAGES) * 2    # the last may stay
    assert abs(count["flush"] - drawn.MODULE_FLUSHES * loads) <= drawn.MODULE_FLUSHES * 2
    assert abs(count["purge"] - drawn.MODULE_PURGES * loads) <= drawn.MODULE_PURGES * 2
    first, end = engine.regions(machines.load("p550").levels)["module"]
    assert all(first <= va < end for va in items["va"][items["kind"] == engine.ITEMS["map"]])


def test_a_bpf_program_is_three_maps_and_a_purge_at_once() -> None:
    count = kinds(made(bpf_programs_per_s=2000, lifetime_ms=0.01)[0])
    assert count["map"] == len(drawn.BPF_PAGES) * (count["map"] // 3)
    assert abs(count["purge"] - count["map"] // 3) <= 2


def test_a_fixmap_fence_is_one_local_page_fence() -> None:
    items, _ = made(fixmap_fences_per_s=10_000)
    assert set(kinds(items)) == {"fixmap"}
    assert set(items["arg"]) == {1}
    assert len(set(items["hart"])) == 4


@pytest.mark.parametrize(("harts", "fls"), [(1, 1), (2, 2), (3, 2), (4, 3), (8, 4), (64, 7)])
def test_freed_objects_wait_for_a_purge_by_the_number_of_harts(harts: int, fls: int) -> None:
    """One purge past fls(harts) MiB of freed area, guard pages included (lazy_max_pages)."""
    items, _ = made(huge_maps_per_s=20_000, lifetime_ms=0.01, lazy_purge_mib=1, harts=harts)
    lazy, waited = 0, []
    for item in items:
        kind = KINDS[int(item["kind"])]
        if kind == "unmap":
            lazy += int(item["pages"]) + 1
        elif kind == "purge":
            waited.append(lazy)
            lazy = 0
    limit = fls * 256
    assert len(waited) > 3
    assert all(limit < pages <= limit + 2 * 513 for pages in waited)


def test_a_percpu_chunk_is_fenced_as_it_goes_and_a_device_stays() -> None:
    items, _ = made(percpu_populates_per_s=2000, lifetime_ms=0.01, harts=2)
    count = kinds(items)
    assert count["map"] > 10
    assert count["flush"] == count["unmap"]
    fenced = {int(i["va"]) for i in items if KINDS[int(i["kind"])] == "flush"}
    assert fenced == {int(i["va"]) for i in items if KINDS[int(i["kind"])] == "unmap"}
    assert not {"unmap", "purge"} & kinds(made(ioremaps_per_s=2000, lifetime_ms=0.01)[0]).keys()


def test_vm_map_ram_maps_inside_its_harts_block_and_fences_nothing_as_it_goes() -> None:
    items, _ = made(vm_map_rams_per_s=5000, lifetime_ms=0.01, harts=2, lazy_purge_mib=64)
    blocks: dict[int, set[int]] = {}
    for item in items[items["kind"] == engine.ITEMS["map"]]:
        first, last = (int(va) >> 22 for va in (item["va"], item["va"] + 4096 * (
            int(item["pages"]) - 1)))
        assert first == last, "over the end of a block"
        blocks.setdefault(int(item["hart"]), set()).add(first)
    assert len(blocks) == 2
    assert not blocks[0] & blocks[1]
    assert not {"flush", "purge"} & kinds(items).keys()


def test_the_user_side_of_a_fork_is_what_was_counted() -> None:
    """37 pages fenced by address, 2 whole flushes, 4 pages: data/kernel, `fork` on one hart."""
    items, _ = made(user_forks_per_s=500, harts=1)
    forks = kinds(items)["user_protect"]
    faults = items[items["kind"] == engine.ITEMS["user_fault"]]["arg"].sum() // forks
    unmaps = items[items["kind"] == engine.ITEMS["user_unmap"]]["arg"]
    assert faults + 1 == 37
    assert ((unmaps == 0).sum(), (unmaps == 1).sum()) == (2 * forks, 4 * forks)


@pytest.mark.parametrize("rate", drawn.RATES)
def test_a_rate_is_met(rate: str) -> None:
    """20 ms at 10 000 a second, each hart or the system: 200, within 4 standard deviations."""
    items, _ = made(**{rate: 10_000}, harts=2, lifetime_ms=1000)
    per_hart = rate in drawn.RATES[:5]
    events = len(items) / {"user_forks_per_s": 13, "modules_per_s": 20, "bpf_programs_per_s": 6,
                           "vm_map_rams_per_s": 2, "percpu_populates_per_s": 2,
                           "ioremaps_per_s": 2, "huge_maps_per_s": 2}.get(rate, 1)
    want = 400 if per_hart else 200
    assert abs(events - want) < 4 * want**0.5


def test_equal_seeds_draw_equal_items_and_others_do_not() -> None:
    one = [made(seed, modules_per_s=2000, mm_switches_per_s=2000)[0].tobytes()
           for seed in (1, 1, 2)]
    assert one[0] == one[1] != one[2]


@pytest.mark.parametrize("name", ["forkexec", "bpf", "modload", "vmalloc-test", "lat-mmap",
                                  "mmapstress01"])
def test_every_policy_meets_the_same_work(name: str) -> None:
    digests = set()
    for policy in ("none", "preventive-range", "mark-7.2", "deferred"):
        built = scenario.build({"policy": policy, "machine": "cva6", "harts": 2,
                                "workload": {"inherit": name, "duration_ms": 2}})
        result = engine.simulate(scenario.lower(built))
        assert result.counters["ambient_faults"] == 0
        if policy != "none":
            assert result.verdict == "ran"
            digests.add(result.counters["work_digest"])
    assert len(digests) == 1


def test_many_scenarios_are_lowered_as_one_is() -> None:
    lowering = scenario.Lowering()
    workload = workloads.load("modload").override({"duration_ms": 2})
    for replicate in (0, 1, 0):
        built = scenario.build({"policy": "none", "machine": "u74", "workload": workload,
                                "replicate": replicate})
        assert lowering(built) == scenario.lower(built)


def test_each_replicate_draws_work_of_its_own() -> None:
    """As a sweep asks: a cell's scenario and the number of a replicate; more of them than kept."""
    lowering = scenario.Lowering()
    built = scenario.build({"policy": "none", "machine": "u74",
                            "workload": {"inherit": "modload", "modules_per_s": 1000}})
    many = range(100)
    keys = lowering.keys(built, many)
    for replicate in (0, 1, 99, 0):
        alone = scenario.lower(built.model_copy(update={"replicate": replicate}))
        assert lowering(built, replicate) == alone
        assert keys[replicate] == alone.key
    assert len({lowering(built, replicate).items for replicate in many}) > 90


def test_a_workload_without_them_keeps_its_seed() -> None:
    """Seeds of workloads that were there before do not move."""
    assert "modules_per_s" not in workloads.load("fork").canonical
    assert "modules_per_s" in workloads.load("modload").canonical
    assert "address_spaces" in workloads.load("mmapstress01").canonical


def test_a_recording_takes_no_drawn_events() -> None:
    with pytest.raises(InputError, match="modules_per_s: a replay's work is its recording's"):
        workloads.load("forkburst").override({"modules_per_s": 1})
