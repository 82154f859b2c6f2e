"""Instructions of the kernel's C code around marks and fences, as the policies' ops charge them.

An instruction costs a cycle here, everything else nothing, so cycles are instructions. The numbers
are those counted on the object code of linux 6.12.107 (gcc 12.2, rv64gc, NR_CPUS=64); the file and
function of each stands in pysim/policies/paths.py. They stand here once more, as sums by hand.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from items import Row, item, run, spent

from pysim import engine, ops, policies
from pysim.ops import Policy, Step, Steps, When

CALL = 4                                            # two arguments, auipc, jalr
ONE, RANGE, FULL = CALL + 55, CALL + 64, CALL + 62  # __flush_tlb_range by number of pages
TEST, SETUP = 18, 3                                 # is_vmalloc_or_module_addr; bitmap and value
MARK_612, MARK_72 = TEST + SETUP + 9, TEST + SETUP + 1      # with the words of NR_CPUS=64
IMSIC = engine.VIA["imsic"]

MAP_1 = item("map", 0, 10, page=1)
MAP_4 = item("map", 0, 10, page=1, pages=4)
MAP_64 = item("map", 0, 10, page=1, pages=64)
MAP_65 = item("map", 0, 10, page=1, pages=65)
ANON = item("user_fault", 0, 10, arg=1)
FILE = item("user_fault", 0, 10, arg=16)
FLAG = item("user_protect", 0, 10, arg=1)
UNMAP = item("user_unmap", 0, 10, arg=1)
UNMAP_64 = item("user_unmap", 0, 10, arg=64)
UNMAP_65 = item("user_unmap", 0, 10, arg=65)
UNMAP_ALL = item("user_unmap", 0, 10, arg=0)
PURGE = item("purge", 0, 10, page=1, pages=65)
FLUSH_ALL = item("flush", 0, 10, pages=0)


def instructions(row: Row, policy: str, **named: Any) -> int:
    """What the policy spends for one item, fences and waits free."""
    return sum(spent(run([row], policy=policy, asid_bits=16, **named)).values())


@pytest.mark.parametrize(("policy", "row", "count"), [
    # preventive-range: mm/vmalloc.o and tlbflush.o, flush_tlb_kernel_range, no other hart online
    pytest.param("preventive-range", MAP_1, ONE, id="map 1 page, local fence"),
    pytest.param("preventive-range", MAP_4, RANGE + 4 * 5, id="map a stack, local fences"),
    pytest.param("preventive-range", MAP_64, RANGE + 64 * 5, id="map 64 pages, local fences"),
    pytest.param("preventive-range", MAP_65, FULL, id="map 65 pages, one full fence"),
    # mark: mm/vmalloc.o, vmap_pages_range with flush_cache_vmap inlined, Sv57
    pytest.param("mark-6.12", MAP_1, MARK_612, id="map 1 page, 6.12"),
    pytest.param("mark-6.12", MAP_64, MARK_612, id="map 64 pages, 6.12"),
    pytest.param("mark-7.2", MAP_4, MARK_72, id="map a stack, 7.2"),
    pytest.param("mark-barrier", MAP_4, MARK_72, id="map a stack, linux-next"),
    pytest.param("none", MAP_4, 0, id="map, nothing owed"),
    pytest.param("ideal", MAP_4, 0, id="map, seen at once"),
    # every policy: tlbflush.o, the purge and set_memory
    pytest.param("mark-6.12", PURGE, FULL, id="purge"),
    pytest.param("ideal", PURGE, FULL, id="purge, ideal"),
    pytest.param("mark-7.2", FLUSH_ALL, CALL + 5, id="set_memory: flush_tlb_all"),
    # the user side: mm/memory.o, set_pte_range and __handle_mm_fault; tlbflush.o
    pytest.param("preventive-range", ANON, 7, id="fault, before the Svvptc test"),
    pytest.param("mark-6.12", ANON, 1 + 7, id="fault of 1 page"),
    pytest.param("mark-7.2", FILE, 16 * (1 + 7), id="fault of 16 pages"),
    pytest.param("mark-7.2", FLAG, 2, id="access flag"),
    pytest.param("mark-7.2", UNMAP, ONE, id="flush_tlb_page"),
    pytest.param("mark-7.2", UNMAP_64, RANGE + 64 * 4, id="munmap of 64 pages"),
    pytest.param("mark-7.2", UNMAP_65, FULL, id="munmap of 65 pages"),
    pytest.param("mark-7.2", UNMAP_ALL, ONE, id="flush_tlb_mm"),
])
def test_a_path_costs_its_instructions(policy: str, row: Row, count: int) -> None:
    assert instructions(row, policy) == count


@pytest.mark.parametrize(("policy", "row", "count"), [
    pytest.param("mark-6.12", ANON, 1, id="fault of 1 page: the jump"),
    pytest.param("mark-7.2", FILE, 16, id="fault of 16 pages: a jump each"),
    pytest.param("mark-7.2", FLAG, ONE, id="access flag: flush_tlb_page"),
    pytest.param("preventive-range", FILE, 16 * 7, id="a kernel that does not know Svvptc"),
    pytest.param("mark-6.12", MAP_1, MARK_612, id="a mark is a mark"),
])
def test_a_path_costs_its_instructions_with_svvptc(policy: str, row: Row, count: int) -> None:
    assert instructions(row, policy, svvptc=1) == count


@pytest.mark.parametrize(("pages", "called"), [(1, 8), (2, 17 + 2 * 5), (64, 17 + 64 * 5),
                                               (65, 15)])
def test_the_function_an_ipi_calls_costs_its_instructions(pages: int, called: int) -> None:
    """tlbflush.o, __ipi_flush_tlb_range_asid; the sender's way there is imsic_fixed_cycles."""
    row = item("map", 0, 10, page=1, pages=pages)
    result = run([row], policy="preventive-range", harts=2, via=IMSIC)
    assert result.counters["victim_handler_cycles"] == called
    assert result.counters["map_store_cycles"] == 0


@pytest.mark.parametrize("policy", ["preventive-range", "mark-6.12"])
def test_the_way_to_other_harts_is_the_machines(policy: str) -> None:
    """With another hart online the path is in sbi_fixed_cycles, not counted twice."""
    mark = MARK_612 if policy == "mark-6.12" else 0
    assert instructions(MAP_4, policy, harts=2) == mark


@pytest.mark.parametrize(("row", "each"), [("map", 5), ("user_unmap", 4)])
def test_a_range_costs_the_same_for_every_page(row: str, each: int) -> None:
    """Up to the threshold; above it the number of pages is nothing to the path."""
    def cost(pages: int) -> int:
        made = item(row, 0, 10, page=1, pages=pages) if row == "map" else item(
            row, 0, 10, arg=pages)
        return instructions(made, "preventive-range")

    costs = [cost(pages) for pages in range(2, 65)]
    assert {b - a for a, b in itertools.pairwise(costs)} == {each}
    assert len({cost(pages) for pages in (65, 100, 400)}) == 1


@pytest.mark.parametrize("pages", [1, 2, 5, 64, 100])
def test_a_fault_costs_the_same_for_every_page_it_installs(pages: int) -> None:
    row = item("user_fault", 0, 10, arg=pages)
    assert instructions(row, "mark-7.2") == pages * instructions(ANON, "mark-7.2")


# ---- nothing left out ----------------------------------------------------------------------------

UNCOUNTED = ("arm64", "x86-64", "powerpc", "deferred")
"""Other instruction sets, and a proposal: nobody has counted them (docs/model.md)."""


def after_nothing(steps: list[Steps], spends: bool = False) -> list[Step]:
    """Fences and marks of a handler that no instructions stand in front of."""
    found: list[Step] = []
    for step in steps:
        if isinstance(step, When):
            within = [after_nothing(list(branch), spends) for branch in (step.then, step.otherwise)]
            found += [bare for branch in within for bare in branch]
            spends = spends or any(s.op == "spend" for s in leaves(step))
        elif step.op == "spend":
            spends = True
        elif step.op in ("fence", "mark") and not spends:
            found.append(step)
    return found


def leaves(step: Steps) -> list[Step]:
    if isinstance(step, Step):
        return [step]
    return [leaf for inner in (*step.then, *step.otherwise) for leaf in leaves(inner)]


@pytest.mark.parametrize("policy", [p for p in policies.POLICIES if p.name not in UNCOUNTED
                                    and not p.name.startswith("broken")], ids=lambda p: p.name)
def test_no_fence_and_no_mark_is_without_its_path(policy: Policy) -> None:
    """A switch is every policy's; what an IPI called before 6.7 is in its handler's cycles."""
    for name, steps in ops.handlers(policy).items():
        old = name == "ipi" and policy.name in ("vmalloc-fault", "preventive-full")
        if name not in ("switch_mm", "kernel_fault") and not old:
            assert after_nothing(steps) == [], name
