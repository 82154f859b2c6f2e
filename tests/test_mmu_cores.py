"""What single cores are known to do with invalid PTEs and fences; latencies; the door."""

from __future__ import annotations

import pytest
from mmu_steps import (
    ABSENT,
    ADVANCE,
    ALL,
    ASID,
    FETCH,
    FORGET,
    GLOBAL_POINTER,
    HUGE,
    INVALID,
    LOCAL,
    PAGE,
    RESUME,
    STORE,
    VA,
    VA_ASID,
    A,
    D,
    G,
    R,
    V,
    W,
    access,
    answers,
    array,
    base,
    fence,
    machine,
    step,
    store_map,
    unmap,
)

from pysim import engine
from pysim.errors import EngineError
from pysim.machines import load

LATER = step(ADVANCE, cycles=10**6)
NEEDS_AD = engine.WALK_FAILS["A or D clear under Svade"]
DENIED = engine.WALK_FAILS["permission denied"]


def last(name, *steps, **changes):
    """The answer to the last step, on a preset or a machine of one's own."""
    hardware = (load(name).c_values() if isinstance(name, str) else name) | changes
    rows, _ = answers(hardware, list(steps))
    return rows[-1]


# ---- 64 KiB leaves -------------------------------------------------------------------------------


NAPOT_FLAGS = LOCAL | 1 << 63
WHOLE = 1 << engine.NAPOT


def region(va):
    """Sixteen equal PTEs: 64 KiB (ppn[3:0] = 1000)."""
    return [store_map(va + page * PAGE, flags=NAPOT_FLAGS, ppn=1 << 18 | 8) for page in range(16)]


@pytest.mark.parametrize(("napot", "walks"), [(0, 18), (WHOLE, 4)])
def test_a_napot_leaf_is_one_entry_where_the_core_has_such_else_sixteen(napot, walks):
    """CVA6 with its option; a fence of any page of the region drops the entry."""
    cva6 = load("cva6").c_values() | {"svnapot": 1}
    cva6["l1d"] = [cva6["l1d"][0] | {"levels": 1 | napot, "ways": 32}, ABSENT]
    pages = [access(base() + page * PAGE) for page in range(16)]
    steps = [*region(base()), *region(base() + 16 * PAGE), LATER, *pages,
             access(base() + 16 * PAGE), fence(VA, base() + 16 * PAGE), *pages,
             access(base() + 20 * PAGE), fence(VA, base() + 15 * PAGE), access(base() + 15 * PAGE)]
    rows, counters = answers(cva6, steps)
    assert counters["misses"] == counters["walks"] == walks + (napot == 0)
    assert [int(row["ppn"]) for row in rows[33:49]] == [(1 << 18) + page for page in range(16)]


def test_a_napot_entry_of_l2_gives_l1_the_page_asked_for():
    hardware = machine(svnapot=1, l1d=[array(8), ABSENT],
                       l2=[array(8), array(4, sizes=(1, engine.NAPOT))])
    steps = [*region(base()), LATER, *(access(base() + page * PAGE) for page in (3, 4, 3, 15))]
    rows, counters = answers(hardware, steps)
    assert (counters["misses"], counters["l2_hits"], counters["l1_hits"]) == (1, 2, 1)
    assert [int(row["ppn"]) & 15 for row in rows[-4:]] == [3, 4, 3, 15]


# ---- which invalid entries there are ------------------------------------------------------------


@pytest.mark.parametrize(("name", "faults"), [("rocket", True), ("boom-mega", True),
                                              ("cva6", False), ("c910", False)])
def test_an_invalid_pointer_covers_the_other_pages_of_its_range(name, faults):
    start = base()
    answer = last(name, access(start), store_map(start, 16), LATER, access(start + 9 * PAGE))
    assert bool(answer["negative"]) == faults == (answer["fail"] == INVALID)


def test_without_nonleaf_range_an_invalid_pointer_covers_the_page_asked_only():
    start = base()
    steps = [access(start), store_map(start, 16), LATER]
    for page, negative in ((0, 1), (9, 0)):
        answer = last("rocket", *steps, access(start + page * PAGE), inv_nonleaf_range=0)
        assert answer["negative"] == negative


@pytest.mark.parametrize("name", ["xs-nanhu", "xs-kmh"])
def test_xiangshan_faults_on_a_neighbour_nobody_accessed(name):
    """The line of the page accessed, and the next one by prefetch; no page beyond."""
    start = base(load(name).levels)
    steps = [store_map(start), LATER, access(start), store_map(start + PAGE, 23), LATER]
    for page, negative in ((1, 1), (7, 1), (8, 1), (15, 1), (16, 0), (23, 0)):
        assert last(name, *steps, access(start + page * PAGE))["negative"] == negative, page
    for page, negative in ((7, 1), (8, 0)):
        answer = last(name, *steps, access(start + page * PAGE), prefetch_next_line=0)
        assert answer["negative"] == negative


def test_a_line_is_captured_only_where_a_structure_has_sectors_to_keep_it():
    start = base()
    steps = [store_map(start + 9 * PAGE), LATER, access(start), store_map(start, 8), LATER,
             access(start + PAGE)]
    flags = {"inv_l1": 1, "inv_l2": 1, "inv_line_capture": 8}
    one, eight = (machine(l2=[array(8, sectors=n), ABSENT], **flags) for n in (1, 8))
    assert last(one, *steps)["negative"] == 0
    assert last(eight, *steps)["negative"] == 1
    assert last(eight, *steps, inv_l2=0)["negative"] == 0


def test_an_l1_line_keeps_only_neighbours_of_the_same_kind():
    start = base()
    lined = machine(l1d=[array(4, sectors=8), ABSENT], inv_l1=1, inv_line_capture=8)
    steps = [store_map(start, 4, ppn=1 << 18), store_map(start + 4 * PAGE, 1, ppn=1 << 19), LATER,
             access(start)]
    for page, walks in ((1, 1), (3, 1), (4, 2), (5, 2)):
        _, counters = answers(lined, [*steps, access(start + page * PAGE)])
        assert counters["walks"] == walks, page


def test_a_speculative_walk_plants_a_negative_entry_and_is_no_lookup():
    start = base()
    steps = [access(start, speculative=1), store_map(start), LATER, access(start)]
    rows, counters = answers(load("rocket").c_values(), steps)
    assert rows[-1]["negative"]
    assert (counters["lookups"], counters["walks"], counters["walks_speculative"]) == (1, 1, 1)


def test_a_cached_leaf_refuses_by_itself_and_is_cached_refused_where_invalid_ptes_are():
    start = base()
    for inv, stale in ((1, True), (0, False)):
        hardware = machine(inv_l1=inv)
        readonly = [store_map(start, flags=V | R | A | D), LATER, access(start, STORE),
                    store_map(start), LATER, access(start, STORE)]
        rows, _ = answers(hardware, readonly)
        assert rows["fail"][2] == DENIED
        assert (rows["fail"][5] == DENIED) == stale
        assert not rows["negative"].any()
    clean = [store_map(start, flags=V | R | W | A), LATER, access(start), store_map(start), LATER,
             access(start, STORE)]
    assert last(machine(), *clean)["fail"] == NEEDS_AD
    assert last(machine(svade=0), *clean)["fail"] == 0


def test_negative_global_decides_whether_an_asid_fence_drops_an_invalid_entry():
    start = base()
    for rule, flags, negative in ((0, G, 0), (1, G, 1), (1, 0, 0), (2, 0, 1)):
        hardware = machine(inv_l1=1, negative_global=rule)
        steps = [store_map(start + PAGE), step(6, va=start, pages=1, flags=flags), LATER,
                 access(start), store_map(start), LATER, fence(ASID), access(start)]
        assert last(hardware, *steps)["negative"] == negative, (rule, flags)


def test_a_global_pointer_makes_what_it_leads_to_global():
    start = base()
    for mark, misses in (([], 2), ([step(GLOBAL_POINTER, va=start, level=1)], 1)):
        steps = [store_map(start, flags=LOCAL), *mark, LATER, access(start, asid=1),
                 access(start, asid=2)]
        for pwc in ([ABSENT] * 5, [ABSENT, array(2), array(2), ABSENT, ABSENT]):
            assert answers(machine(pwc=pwc), steps)[1]["misses"] == misses


# ---- fences -------------------------------------------------------------------------------------


def test_rocket_drops_an_invalid_pointer_of_its_superpage_array_by_address():
    start = base()
    steps = [access(start), store_map(start, 16), LATER]
    gib = 512 * HUGE             # the table was empty: the root's pointer is what was invalid
    assert last("rocket", *steps, fence(VA, start + gib - PAGE), access(start))["fail"] == 0
    assert last("rocket", *steps, fence(VA, start + gib), access(start))["fail"] == INVALID


def test_a_by_address_fence_leaves_an_invalid_pointer_in_the_page_walk_cache():
    start = base()
    hardware = machine(inv_pwc=1, pwc=[ABSENT, array(4), array(4), ABSENT, ABSENT])
    steps = [access(start), store_map(start), LATER]
    for form, fail in ((VA, INVALID), (VA_ASID, INVALID), (ASID, 0), (ALL, 0)):
        assert last(hardware, *steps, fence(form, start), access(start))["fail"] == fail, form


@pytest.mark.parametrize(("form", "walk_reads"), [(VA, 1), (VA_ASID, 1), (ASID, 3), (ALL, 3)])
def test_rocket_keeps_its_pte_cache_on_a_fence_by_address(form, walk_reads):
    start = base()
    steps = [store_map(start, flags=LOCAL), LATER, access(start), fence(form, start)]
    _, before = answers(load("rocket").c_values(), steps)
    _, after = answers(load("rocket").c_values(), [*steps, access(start)])
    assert after["walk_reads"] - before["walk_reads"] == walk_reads


def test_boom_clears_the_whole_l2_set_of_an_address():
    """512 sets: page 512 shares the set of page 0, page 1 does not."""
    start = base()
    steps = [store_map(start, 600), LATER, access(start), fence(VA, start + 512 * PAGE)]
    hardware = load("boom-mega").c_values()
    _, kept = answers(hardware, [*steps[:-1], fence(VA, start + 513 * PAGE), access(start, FETCH)])
    _, lost = answers(hardware, [*steps, access(start, FETCH)])
    assert (kept["l2_hits"], lost["l2_hits"]) == (1, 0)


def test_c906_compares_eight_bits_of_the_page_in_its_first_level():
    start = base()
    steps = [store_map(start, 600), LATER, access(start)]
    for page, l1_hits in ((256, 0), (255, 1)):
        _, counters = answers(load("c906").c_values(),
                              [*steps, fence(VA, start + page * PAGE), access(start)])
        assert counters["l1_hits"] == l1_hits
        assert counters["l2_hits"] == 1 - l1_hits


@pytest.mark.parametrize("name", ["u74", "naxriscv", "vexii", "blackparrot"])
def test_any_form_is_a_full_fence_where_the_address_is_ignored(name):
    start = base()
    for form in (ASID, VA, VA_ASID):
        steps = [store_map(start, 2), LATER, access(start), fence(form, start + PAGE, asid=3)]
        _, counters = answers(load(name).c_values(), [*steps, access(start)])
        assert counters["misses"] == 2


@pytest.mark.parametrize("name", ["c910", "cva6", "xs-kmh", "rocket", "vexii"])
def test_a_fence_costs_its_form_and_the_pipeline(name):
    hardware = load(name).c_values()
    full = bool(hardware["fence_va_as_all"])
    for form, field in ((ALL, "all"), (ASID, "asid"), (VA, "va"), (VA_ASID, "va")):
        cost = hardware[f"fence_{'all' if full else field}_cycles"]
        assert last(name, fence(form))["cycles"] == cost + hardware["fence_pipe_cycles"]


def test_a_refill_names_the_fence_that_dropped_the_entry_not_a_later_one():
    start = base()
    steps = [store_map(start, 3), LATER, access(start), access(start + PAGE),
             fence(VA, start, cause=2), fence(ALL, cause=1), fence(ALL, cause=3)]
    assert last("cva6", *steps, access(start))["refill_for"] == 2
    assert last("cva6", *steps, access(start + PAGE))["refill_for"] == 1
    assert last("cva6", *steps, access(start + 2 * PAGE))["refill"] == 0
    assert last("cva6", *steps, access(start), access(start))["refill"] == 0


def test_refilling_in_another_order_forgets_no_dropped_entry():
    start = base()
    pages = [start + PAGE * page for page in range(16)]
    steps = [store_map(start, 16), LATER, *map(access, pages), fence(ALL)]
    _, counters = answers(load("cva6").c_values(), steps + [access(va) for va in pages[::-1]])
    assert counters["refill_misses"] == 16


def test_a_dropped_invalid_entry_is_no_refill():
    start = base()
    answer = last("rocket", access(start), store_map(start), LATER, fence(ALL), access(start))
    assert answer["fail"] == answer["refill"] == 0


def test_what_only_l2_still_knew_is_a_refill_too():
    start = base()
    pages = [start + PAGE * page for page in range(64)]
    steps = [store_map(start, 64), LATER, *map(access, pages), fence(ALL), access(start)]
    assert last("c910", *steps)["refill"] == 1
    assert last("cva6", *steps)["refill"] == 0


@pytest.mark.parametrize("form", [ALL, ASID, VA, VA_ASID])
def test_a_fence_in_the_middle_of_a_walk_ends_it_without_a_fill(form):
    start = base()
    steps = [store_map(start + PAGE), LATER, access(start, reads_max=2),
             fence(form, start + 5 * HUGE), step(RESUME)]
    assert last("rocket", *steps)["aborted"] == 1
    _, counters = answers(load("rocket").c_values(), steps)
    assert counters["negative_fills"] == 0


def test_a_forgotten_range_keeps_no_invalid_entry_and_every_valid_one():
    start = base()
    steps = [store_map(start), LATER, access(start), access(start + PAGE), access(start + HUGE),
             store_map(start + PAGE), store_map(start + HUGE), LATER,
             step(FORGET, va=start, pages=513)]
    for va in (start, start + PAGE, start + HUGE):
        assert last("rocket", *steps, access(va))["fail"] == 0
    _, counters = answers(load("rocket").c_values(), [*steps, access(start)])
    assert counters["l1_hits"] == 1


def test_a_stale_valid_entry_answers_until_it_is_fenced():
    start = base()
    steps = [store_map(start), LATER, access(start), unmap(start), LATER]
    for name in ("rocket", "cva6", "xs-kmh"):
        levels = load(name).levels
        moved = [s | {"va": s["va"] and base(levels)} for s in steps]
        assert last(name, *moved, access(base(levels)))["fail"] == 0
        assert last(name, *moved, fence(ALL), access(base(levels)))["fail"] == INVALID


@pytest.mark.parametrize(("name", "spared"), [("boom-mega", False), ("xs-nanhu", False),
                                              ("xs-kmh", False), ("c910", True)])
def test_a_fence_by_address_clears_the_set_of_l2_where_the_core_does(name, spared):
    """Another page in the same set of L2, gone from an L1 of one entry."""
    l2 = load(name).l2.base
    start, apart = base(load(name).levels), l2.sets * l2.sectors
    there, beside = start + apart * PAGE, start + 8 * PAGE
    machine = load(name).c_values() | {"l1d": [array(1), ABSENT]}
    steps = [store_map(start, 2 * apart), LATER, access(there), access(beside)]
    for fenced, kept in ((start, spared), (start + 16 * PAGE, True), (there, False)):
        _, counters = answers(machine, [*steps, fence(VA, fenced), access(there)])
        assert counters["walks"] == (2 if kept else 3)


# ---- time ---------------------------------------------------------------------------------------

TIMED = {
    "l1_hit_cycles": 1, "l2_hit_cycles": 7, "walk_overhead_per_level_cycles": 4,
    "pwc_hit_cycles": 2, "read_l1d_cycles": 3, "read_l1d_permille": 1000, "read_l2_cycles": 20,
}
TWO_LEVELS = {"l1d": [array(1, sizes=(0, 1, 2)), ABSENT],
              "l2": [array(64, sizes=(0, 1, 2)), ABSENT]}


def test_latencies_add_up():
    start = base()
    there = [store_map(start, 4), LATER]
    one_level, two_levels = machine(**TIMED), machine(**TIMED, **TWO_LEVELS)
    walk = 3 * (4 + 3)
    assert last(one_level, *there, access(start))["cycles"] == 1 + walk
    assert last(one_level, *there, access(start), access(start))["cycles"] == 1
    visit_two = [*there, access(start), access(start + PAGE)]
    assert last(two_levels, *visit_two)["cycles"] == 1 + 7 + walk
    assert last(two_levels, *visit_two, access(start))["cycles"] == 1 + 7
    assert last(one_level, *there, access(start), pte_via=1)["cycles"] == 1 + 3 * (4 + 20)


def test_a_page_walk_cache_costs_its_hits():
    start = base()
    steps = [store_map(start, 4), LATER, access(start), access(start + PAGE)]
    split = [ABSENT, array(4), array(4), ABSENT, ABSENT]
    unified = [array(8, sizes=(1, 2, 3, 4)), *[ABSENT] * 4]
    assert last(machine(**TIMED, pwc=split), *steps)["cycles"] == 1 + 2 + 7
    assert last(machine(**TIMED, pwc=unified, pwc_unified=1), *steps)["cycles"] == 1 + 2 * 2 + 7


def test_c910_asks_its_second_level_one_size_after_the_other():
    start = base()
    there = [store_map(start, 2), store_map(start + HUGE, 2 * 512, level=1), LATER]
    hardware = machine(**TIMED, **TWO_LEVELS, l2_seq_page_sizes=1)
    small = [*there, access(start), access(start + PAGE), access(start)]
    large = [*there, access(start + HUGE), access(start + 2 * HUGE), access(start + HUGE)]
    assert last(hardware, *small)["cycles"] == 1 + 7
    assert last(hardware, *large)["cycles"] == 1 + 2 * 7
    assert last(hardware, *there, access(start))["cycles"] == 1 + 3 * 7 + 3 * 7


def test_a_store_is_seen_by_a_walk_from_its_visibility_on_not_a_cycle_before():
    """The leaf is read 14 cycles after the access began; the tables have long been there."""
    start = base()
    slow = machine(**TIMED | {"l1_hit_cycles": 0}, store_drain_cycles=10, coherence_cycles=100)
    for other, seen_after in ((0, 10), (1, 110)):
        for late, fail in ((0, 0), (1, INVALID)):
            wait = seen_after - 14 - late
            before = [step(ADVANCE, cycles=wait)] if wait > 0 else []
            if wait < 0 and other == 0:
                continue
            steps = [store_map(start + PAGE), LATER, store_map(start, other_hart=other), *before,
                     access(start)]
            assert last(slow, *steps)["fail"] == fail, (other, late)
    early = machine(**TIMED | {"l1_hit_cycles": 0}, store_drain_cycles=15)
    steps = [store_map(start + PAGE), LATER, store_map(start), access(start)]
    assert last(early, *steps)["fail"] == INVALID
    assert last(early, *steps[:-1], step(ADVANCE, cycles=1), access(start))["fail"] == 0


# ---- the door -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "field"), [
    ({"levels": 6}, "machine.levels"),
    ({"asid_bits": 17}, "machine.asid_bits"),
    ({"inv_line_capture": 3}, "machine.inv_line_capture"),
    ({"inv_line_capture": 16}, "machine.inv_line_capture"),
    ({"negative_global": 3}, "machine.negative_global"),
    ({"pte_via": 2}, "machine.pte_via"),
    ({"read_l1d_permille": 600, "read_l2_permille": 401}, "machine.read_l1d_permille"),
    ({"l1d": [array(65), ABSENT]}, "machine.l1d[0].ways"),
    ({"l2": [array(4, sets=3), ABSENT]}, "machine.l2[0].sets"),
    ({"l1i": [array(4), array(4, sectors=16)]}, "machine.l1i[1].sectors"),
    ({"l1i": [array(4), array(4, sizes=())]}, "machine.l1i[1].levels"),
    ({"l1d": [array(4) | {"policy": 99}, ABSENT]}, "machine.l1d[0].policy"),
    ({"pwc": [array(4, sectors=8), *[ABSENT] * 4], "pwc_unified": 1}, "machine.pwc[0].sectors"),
])
def test_an_impossible_machine_is_refused_by_name(change, field):
    packed = engine.pack("csim_machine", machine(**change))
    with pytest.raises(EngineError) as refused:
        engine.check_machine(packed)
    assert str(refused.value).startswith(f"{field}: ")
    with pytest.raises(EngineError):
        engine.mmu_run(packed, 0, 0, b"")


@pytest.mark.parametrize(("bad", "field"), [
    (access(0, kind=3), "access"),
    (fence(form=4), "form"),
    (fence(cause=4), "cause"),
    (step(9), "kind"),
    (step(8, va=base()), "level"),
    (step(8, va=base(), level=3), "level"),
    (step(8, va=base(), level=1), "va"),
    (store_map(base(), 0), "pages"),
    (store_map(base(), 3, level=1), "pages"),
    (store_map(base() + PAGE, 512, level=1), "va"),
    (store_map(1 << 40), "va"),
    (store_map(base() - PAGE, 2), "va"),
    (store_map(base(), flags=R | A), "flags"),
    (store_map(base(), flags=V | W), "flags"),
    (store_map(base(), flags=V | R | 1 << 20), "flags"),
    (store_map(base(), 512, level=1, ppn=1), "ppn"),
    (store_map(base(), level=3), "level"),
    (step(6, va=base(), pages=1, flags=V), "flags"),
    (step(FORGET, va=base()), "pages"),
])
def test_an_impossible_step_is_refused_by_name(bad, field):
    with pytest.raises(EngineError, match=rf"^steps\[1\]\.{field}: "):
        answers(machine(), [access(base()), bad])
