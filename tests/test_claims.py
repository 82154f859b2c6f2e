"""Claimed behaviour of a core (facts/hardware.md) -> what shows that its preset behaves so.

One row per claim: the preset, where the fact sheet says it, its words there, and what is done to
the preset's own translation to see it. No preset is without rows; a row whose words are no longer
in the fact sheet fails, and so does one whose machine behaves otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mmu_steps import (
    ADVANCE,
    ALL,
    ASID,
    FETCH,
    HUGE,
    INVALID,
    LOAD,
    LOCAL,
    PAGE,
    STORE,
    VA,
    VA_ASID,
    A,
    D,
    R,
    V,
    W,
    access,
    answers,
    base,
    fence,
    step,
    store_map,
)

from pysim import engine, machines

LATER = step(ADVANCE, cycles=10**6)
N = 1 << 63                    # with ppn[3:0] = 1000: a NAPOT leaf of 64 KiB
RESERVED = engine.WALK_FAILS["reserved bits set"]


def seen(name: str, *steps: Any, **changes: Any) -> tuple[Any, dict[str, int]]:
    """The answer to the last step on the preset, and the counters."""
    rows, counters = answers(machines.load(name).c_values() | changes, list(steps))
    return rows[-1], counters


def start(name: str) -> int:
    return base(machines.load(name).levels)


# ---- what can be shown --------------------------------------------------------------------------


def holds(count: int, *, kind: int = LOAD, apart: int = 1) -> Callable[[str], None]:
    """A first level keeps ``count`` pages, so far apart, and not one more that would need a way."""

    def show(name: str) -> None:
        first = start(name)
        for pages, all_hit in ((count, True), (count + 1, False)):
            touched = [access(first + page * apart * PAGE, kind) for page in range(pages)]
            _, counters = seen(name, store_map(first, pages * apart), LATER, *touched, *touched)
            assert (counters["l1_hits"] == pages) == all_hit, (pages, counters["l1_hits"])

    return show


def holds_huge(count: int) -> Callable[[str], None]:
    """A first level keeps so many 2 MiB pages beside its small ones."""

    def show(name: str) -> None:
        first = start(name)
        for pages, all_hit in ((count, True), (count + 1, False)):
            touched = [access(first + page * HUGE) for page in range(pages)]
            _, counters = seen(name, store_map(first, pages * 512, level=1), LATER, *touched,
                               *touched)
            assert (counters["l1_hits"] == pages) == all_hit, (pages, counters["l1_hits"])

    return show


def second_level(pages: int, *, direct_mapped: bool = False) -> Callable[[str], None]:
    """A second level keeps ``pages`` in a row; the page that many further takes a place of theirs.

    Direct mapped, that one page is enough to drive the first out.
    """

    def show(name: str) -> None:
        first = start(name)
        touched = [access(first + page * PAGE) for page in range(pages)]
        _, counters = seen(name, store_map(first, pages), LATER, *touched, *touched)
        assert counters["misses"] == pages
        far = [access(first + pages * PAGE), *touched[1:50], access(first)]   # out of L1
        _, counters = seen(name, store_map(first, pages + 1), LATER, access(first), *far)
        assert counters["misses"] == (52 if direct_mapped else 51)

    return show


def no_second_level(name: str) -> None:
    first = start(name)
    touched = [access(first + page * PAGE) for page in range(400)]
    _, counters = seen(name, store_map(first, 400), LATER, *touched, *touched)
    assert counters["l2_hits"] == 0


def second_level_holds_no_superpages(name: str) -> None:
    first = start(name)
    touched = [access(first + page * HUGE) for page in range(48)]
    _, counters = seen(name, store_map(first, 48 * 512, level=1), LATER, *touched, *touched)
    assert counters["l2_hits"] == 0
    assert counters["misses"] > 48


def walk_reads(after_another: int) -> Callable[[str], None]:
    """The first walk reads every level; one for the next page so many PTEs."""

    def show(name: str) -> None:
        first = start(name)
        far = 64 * PAGE             # of another line and tag, under the same table
        _, one = seen(name, store_map(first, 128), LATER, access(first))
        _, two = seen(name, store_map(first, 128), LATER, access(first), access(first + far))
        assert one["walk_reads"] == machines.load(name).levels
        assert two["walk_reads"] - one["walk_reads"] == after_another

    return show


def caches_invalid(*, l1: bool, l2: bool = False) -> Callable[[str], None]:
    """A page touched before it was mapped faults afterwards, from L1, from L2, or not at all."""

    def show(name: str) -> None:
        first = start(name)
        touched = [store_map(first + 4 * PAGE), LATER, access(first), store_map(first), LATER]
        answer, counters = seen(name, *touched, access(first))
        assert (answer["negative"], answer["fail"]) == ((1, INVALID) if l1 or l2 else (0, 0))
        assert (counters["negative_fills"] > 0) == (l1 or l2)
        only_l2, _ = seen(name, *touched, access(first), inv_l1=0)
        assert only_l2["negative"] == l2

    return show


def an_invalid_pointer_covers_its_range(name: str) -> None:
    first = start(name)
    steps = [access(first), store_map(first, 16), LATER, access(first + 9 * PAGE)]
    answer, _ = seen(name, *steps)
    assert (answer["negative"], answer["fail"]) == (1, INVALID)


def one_walk_caches_eight(name: str) -> None:
    first = start(name)
    steps = [store_map(first), LATER, access(first), store_map(first + PAGE, 7), LATER]
    for page in (1, 7):
        answer, _ = seen(name, *steps, access(first + page * PAGE))
        assert answer["negative"] == 1


def prefetches_the_next_line(name: str) -> None:
    first = start(name)
    steps = [store_map(first, 24), LATER, access(first)]
    for page, walks in ((8, 1), (16, 2)):
        _, counters = seen(name, *steps, access(first + page * PAGE))
        assert counters["walks"] == walks


def no_asid_is_compared(name: str) -> None:
    first = start(name)
    steps = [store_map(first, flags=LOCAL), LATER, access(first, asid=1), access(first, asid=2)]
    _, counters = seen(name, *steps)
    assert counters["l1_hits"] == 1


def asids_are_compared(name: str) -> None:
    first = start(name)
    steps = [store_map(first, flags=LOCAL), LATER, access(first, asid=1)]
    for asid, hits in ((1, 1), (2, 0)):
        assert seen(name, *steps, access(first, asid=asid))[1]["l1_hits"] == hits


def fences_cost(*, full: int, asid: int, va: int) -> Callable[[str], None]:
    """What the instruction takes beside the refill of the pipeline."""

    def show(name: str) -> None:
        pipe = machines.load(name).fence_pipe_cycles
        for form, cycles in ((ALL, full), (ASID, asid), (VA, va), (VA_ASID, va)):
            answer, _ = seen(name, fence(form, start(name), asid=1))
            assert answer["cycles"] == cycles + pipe, form

    return show


def by_address_drops(*, everything: bool) -> Callable[[str], None]:
    """A fence with an address drops that page; another page stays, unless the core drops all."""

    def show(name: str) -> None:
        first, other = start(name), start(name) + 77 * PAGE
        steps = [store_map(first, 128), LATER, access(first), access(other), fence(VA, first)]
        for va, stays in ((first, False), (other, not everything)):
            _, counters = seen(name, *steps, access(va))
            assert (counters["walks"] == 2) == stays, hex(va)

    return show


def a_page_walk_cache_outlives_an_address(name: str) -> None:
    first = start(name)
    steps = [store_map(first, 128), LATER, access(first)]
    for form, reads in ((VA, 1), (ALL, machines.load(name).levels)):
        _, before = seen(name, *steps, fence(form, first))
        _, after = seen(name, *steps, fence(form, first), access(first + 64 * PAGE))
        assert after["walk_reads"] - before["walk_reads"] == reads, form


def by_address_clears_the_set(name: str) -> None:
    """... of the second level, the page fenced and one that shares its set."""
    l2 = machines.load(name).l2.base
    first = start(name)
    there = first + l2.sets * l2.sectors * PAGE
    pages = [store_map(first, 2 * l2.sets * l2.sectors), LATER, access(there)]
    push = [access(first + (16 + 8 * page) * PAGE) for page in range(60)]  # out of L1
    _, kept = seen(name, *pages, *push, access(there))
    _, fenced = seen(name, *pages, *push, fence(VA, first), access(there))
    assert fenced["walks"] == kept["walks"] + 1


def the_first_level_matches_eight_bits(name: str) -> None:
    first = start(name)
    steps = [store_map(first, 513), LATER, access(first + 256 * PAGE), access(first + PAGE),
             fence(VA, first)]
    for va, hits in ((first + 256 * PAGE, 0), (first + PAGE, 1)):
        assert seen(name, *steps, access(va))[1]["l1_hits"] == hits


def probes_sizes_in_turn(name: str) -> None:
    """A superpage is found by the second probe, a walk begins after the third."""
    machine = machines.load(name)
    first = start(name)
    huge = [access(first + page * HUGE) for page in range(40)]
    small = [access(first + page * PAGE) for page in range(40)]
    answer, _ = seen(name, store_map(first, 40 * 512, level=1), LATER, *huge, access(first))
    assert answer["cycles"] == 2 * machine.l2_hit_cycles
    answer, _ = seen(name, store_map(first, 40), LATER, *small, access(first))
    assert answer["cycles"] == machine.l2_hit_cycles


def loads_and_stores_are_apart(name: str) -> None:
    first = start(name)
    steps = [store_map(first), LATER, access(first, LOAD)]
    for kind, hits in ((LOAD, 1), (STORE, 0), (FETCH, 0)):
        assert seen(name, *steps, access(first, kind))[1]["l1_hits"] == hits


def translates_napot(name: str) -> None:
    """Sixteen equal PTEs are one 64 KiB page; without Svnapot their N bit is reserved."""
    first, frame = start(name), 1 << 18
    stores = [store_map(first + page * PAGE, flags=V | R | W | A | D | N, ppn=frame | 0b1000)
              for page in range(16)]
    answer, _ = seen(name, *stores, LATER, access(first + 13 * PAGE))
    assert (answer["fail"], answer["ppn"]) == (0, frame + 13)
    answer, _ = seen(name, *stores, LATER, access(first + 13 * PAGE), svnapot=0)
    assert answer["fail"] == RESERVED


def walkers(count: int) -> Callable[[str], None]:
    """So many walks at once; what they do to a waiting hart is in tests/c/walkers.c."""

    def show(name: str) -> None:
        assert machines.load(name).walkers == count
        assert machines.load(name).c_values()["walkers"] == count

    return show


# ---- the table ----------------------------------------------------------------------------------


class Claim(NamedTuple):
    """One row: the fact sheet's section and words, and what shows it."""

    preset: str
    section: str
    words: str
    shows: Callable[[str], None]


CLAIMS = (
    Claim("rocket", "a.1", "8x4 FA (=32x4K) + 4 superpage", holds(32)),
    Claim("rocket", "a.1", "8x4 FA (=32x4K) + 4 superpage", holds(8, apart=4)),
    Claim("rocket", "a.1", "8x4 FA (=32x4K) + 4 superpage", holds_huge(4)),
    Claim("rocket", "a.1", "none (nL2TLBEntries=0)", no_second_level),
    Claim("rocket", "a.1", "8 FA PLRU, non-leaf only", walk_reads(1)),
    Claim("rocket", "a.1", "**0 bits** (ASIdBits=0; not compared in tags)", no_asid_is_compared),
    Claim("rocket", "a.3", "inserts with no test of `pte.v`", caches_invalid(l1=True)),
    Claim("rocket", "a.3", "the negative entry covers 2 MiB or 1 GiB",
          an_invalid_pointer_covers_its_range),
    Claim("rocket", "a.4", "PTE cache cleared only if rs1=x0",
          a_page_walk_cache_outlives_an_address),
    Claim("rocket", "a.4", "1 cycle; matching sector entry", fences_cost(full=1, asid=1, va=1)),
    Claim("rocket", "a.4", "1 cycle; matching sector entry", by_address_drops(everything=False)),
    Claim("boom-mega", "a.1", "nTLBWays=32: 8x4 + 4 super", holds(32)),
    Claim("boom-mega", "a.1", "512 DM", second_level(512, direct_mapped=True)),
    Claim("boom-mega", "a.1", "**4K leaves only**", second_level_holds_no_superpages),
    Claim("boom-mega", "a.3", "no validity gate (ITLB = Rocket TLB)", caches_invalid(l1=True)),
    Claim("boom-mega", "a.4", "L2 clears **all ways of the set**", by_address_clears_the_set),
    Claim("cva6", "a.1", "16 FA", holds(16)),
    Claim("cva6", "a.1", "none (UseSharedTlb=0)", no_second_level),
    Claim("cva6", "a.1", "none: every walk starts at the root", walk_reads(3)),
    Claim("cva6", "a.3", "doesn't put a useless entry into the TLB", caches_invalid(l1=False)),
    Claim("cva6", "a.4", "exact VA/ASID match in L1, 1 cycle", by_address_drops(everything=False)),
    Claim("cva6", "a.4", "exact VA/ASID match in L1, 1 cycle", asids_are_compared),
    Claim("xs-nanhu", "a.1", "ld and st each: 64 DM 4K (victim) + 16 FA all-size", holds(64)),
    Claim("xs-nanhu", "a.1", "ld and st each: 64 DM 4K (victim) + 16 FA all-size",
          loads_and_stores_are_apart),
    Claim("xs-nanhu", "a.1", "32 FA 4K + 4 super", holds(32, kind=FETCH)),
    Claim("xs-nanhu", "a.1", "1 PTW + 6 LLPTW", walkers(7)),
    Claim("xs-nanhu", "a.3", "line stored with pf bits", caches_invalid(l1=True, l2=True)),
    Claim("xs-nanhu", "a.4", "PageTableCache.scala` sfence part", by_address_clears_the_set),
    Claim("xs-kmh", "a.1", "ld/st/prefetch each 48 FA, 8-page compression", holds(48, apart=8)),
    Claim("xs-kmh", "a.1", "ld/st/prefetch each 48 FA, 8-page compression",
          loads_and_stores_are_apart),
    Claim("xs-kmh", "a.3", "one walk caches the validity of 8 neighbouring PTEs",
          one_walk_caches_eight),
    Claim("xs-kmh", "a.3", "refill gate has no pf term", caches_invalid(l1=True, l2=True)),
    Claim("xs-kmh", "a.4", "next-line L2 prefetch", prefetches_the_next_line),
    Claim("xs-kmh", "a.1", "Svinval, Svnapot, Svpbmt, Svade", translates_napot),
    Claim("c906", "a.1", "10 FA", holds(10)),
    Claim("c906", "a.1", "128 = 64 sets x 2", second_level(128)),
    Claim("c906", "a.3", "uTLB refill needs `jtlb_*_ref_pavld`", caches_invalid(l1=False)),
    Claim("c906", "a.4", "uTLB matches only low 8 VPN bits (over-invalidates)",
          the_first_level_matches_eight_bits),
    Claim("c906", "a.4", "**64 cycles** (one set per cycle)",
          fences_cost(full=64, asid=450, va=12)),
    Claim("c910", "a.1", "16 FA + 1 huge", holds(16)),
    Claim("c910", "a.1", "16 FA + 1 huge", holds_huge(1)),
    Claim("c910", "a.1", "1024 = 256 sets x 4", second_level(1024)),
    Claim("c910", "a.1", "probed 4K -> 2M -> 1G sequentially", probes_sizes_in_turn),
    Claim("c910", "a.1", "none: restarts at level 1", walk_reads(3)),
    Claim("c910", "a.3", "jTLB write only in PTW_DATA_VLD", caches_invalid(l1=False)),
    Claim("c910", "a.4", "**256 cycles** (one set per cycle)",
          fences_cost(full=256, asid=3600, va=12)),
    Claim("sg2042", "a.1", "c910 / c920 (OpenC910; SG2042, TH1520)", second_level(1024)),
    Claim("sg2042", "a.1", "C920 assumed = C910 (M)", holds(16)),
    Claim("sg2042", "a.3", "page fault -> IDLE", caches_invalid(l1=False)),
    Claim("sg2042", "a.4", "1024-entry read/compare/write loop",
          fences_cost(full=256, asid=3600, va=12)),
    Claim("u74", "a.1", "40 FA", holds(40)),
    Claim("u74", "a.1", "512 DM", second_level(512, direct_mapped=True)),
    Claim("u74", "a.3", "U74 descends from the Rocket line, so YES is the conservative default",
          caches_invalid(l1=True)),
    Claim("u74", "a.4", "address form must be replaced by full sfence",
          by_address_drops(everything=True)),
    Claim("p550", "a.1", "32 FA", holds(32)),
    Claim("p550", "a.1", "~512 (knee between 2 MiB and 4 MiB reach)", second_level(512)),
    Claim("p550", "d.2", "`p550`, `x60` (sweep inv)", caches_invalid(l1=True)),
    Claim("x60", "a.1", "? (assume 32 FA)", holds(32)),
    Claim("x60", "a.1", "? (assume 512)", second_level(512)),
    Claim("x60", "a.1", "svinval, svnapot, svpbmt, sstc", translates_napot),
    Claim("x60", "a.3", "Not decidable from public text", caches_invalid(l1=True, l2=True)),
    Claim("x60", "c.6", "asid all self", fences_cost(full=220, asid=730, va=20)),
    Claim("naxriscv", "a.1", "4K: 4 ways x 32 sets; super: 2 ways x 32 sets", holds(128)),
    Claim("naxriscv", "a.1", "MmuPlugin.scala:190` (ASID commented out)", no_asid_is_compared),
    Claim("naxriscv", "a.3", "`data.valid := True; data.pageFault := load.exception",
          caches_invalid(l1=True)),
    Claim("naxriscv", "a.4", ">= 32 cycles counter", fences_cost(full=32, asid=32, va=32)),
    Claim("naxriscv", "a.4", "flushes all", by_address_drops(everything=True)),
    Claim("vexii", "a.1", "3x32 + super 1x32", holds(96)),
    Claim("vexii", "a.1", "2x32 + super 1x32", holds(64, kind=FETCH)),
    Claim("vexii", "a.3", "write.mask := 0", caches_invalid(l1=False)),
    Claim("vexii", "a.4", "`sets` cycles (32 or 64)", fences_cost(full=32, asid=32, va=32)),
    Claim("vexii", "a.4", "flushes all", by_address_drops(everything=True)),
    Claim("blackparrot", "a.1", "8x4K + 2x2M + 1x1G FA", holds(8)),
    Claim("blackparrot", "a.3", "walk_done & ... & ~page_fault_v", caches_invalid(l1=False)),
    Claim("blackparrot", "a.4", "flushes all", by_address_drops(everything=True)),
    Claim("blackparrot", "a.4", "1 cycle", fences_cost(full=1, asid=1, va=1)),
)


@pytest.mark.parametrize("claim", CLAIMS, ids=[
    f"{claim.preset}-{index}" for index, claim in enumerate(CLAIMS)])
def test_a_preset_does_what_the_fact_sheet_claims(claim: Claim) -> None:
    claim.shows(claim.preset)


def test_no_preset_is_without_a_row() -> None:
    """... of its geometry, of invalid PTEs, and, unless they are guessed, of its fences."""
    for name in machines.PRESETS:
        sections = {claim.section for claim in CLAIMS if claim.preset == name}
        assert "a.1" in sections, name
        assert sections & {"a.3", "d.2"}, name
        assert sections & {"a.4", "c.6"} or name == "p550", name


def test_the_words_of_every_claim_stand_in_the_fact_sheet(shared: Path) -> None:
    text = " ".join((shared / "facts" / "hardware.md").read_text().replace("\\|", "|").split())
    missing = [claim.words for claim in CLAIMS if " ".join(claim.words.split()) not in text]
    assert not missing
