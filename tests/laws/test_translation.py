"""Laws of translation caches: what must hold on every machine and every stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmu_steps import (
    ABSENT,
    ACCESS,
    ADVANCE,
    ALL,
    ASID,
    FETCH,
    HUGE,
    INVALID,
    KERNEL,
    LOAD,
    LOCAL,
    PAGE,
    POLICIES,
    STORE,
    VA,
    VA_ASID,
    access,
    answers,
    array,
    base,
    fence,
    machine,
    step,
    store_map,
)

from pysim.machines import PRESETS, load

PAGES = 48
LATER = step(ADVANCE, cycles=10**6)


def mapped(levels: int = 3, flags: int = KERNEL) -> list[dict[str, int]]:
    """Three megapages and PAGES small pages, seen by everybody."""
    return [store_map(base(levels), PAGES, flags=flags),
            store_map(base(levels) + HUGE, 3 * 512, level=1, flags=flags), LATER]


def pages_of(levels: int) -> list[int]:
    return [*(base(levels) + PAGE * page for page in range(PAGES)),
            *(base(levels) + HUGE * (1 + page) + 5 * PAGE for page in range(3))]


STREAM = st.lists(st.integers(0, PAGES + 2), min_size=20, max_size=150)


@pytest.mark.parametrize("name", PRESETS)
@settings(max_examples=10, deadline=None)
@given(stream=STREAM)
def test_hits_and_misses_add_up_to_lookups(name, stream):
    hardware = load(name).c_values()
    pages = pages_of(hardware["levels"])
    steps = mapped(hardware["levels"]) + [access(pages[page]) for page in stream]
    _, counters = answers(hardware, steps)
    hits = counters["l1_hits"] + counters["l2_hits"]
    assert hits + counters["misses"] == counters["lookups"] == len(stream)
    assert counters["walks"] == counters["misses"]


@settings(max_examples=60, deadline=None)
@given(stream=STREAM, ways=st.integers(1, 12), sets=st.sampled_from((1, 2, 4)))
def test_on_one_stream_a_wider_lru_set_never_misses_more(stream, ways, sets):
    steps = mapped() + [access(pages_of(3)[page]) for page in stream if page < PAGES]
    missed = [
        answers(machine(l1d=[array(wide, sets), ABSENT]), steps)[1]["misses"]
        for wide in (ways, ways + 1, ways + 4)
    ]
    assert missed == sorted(missed, reverse=True)


@settings(max_examples=100, deadline=None)
@given(stream=STREAM, ways=st.integers(1, 12), sets=st.sampled_from((1, 2, 4)),
       fences=st.lists(st.integers(0, 150), min_size=1, max_size=8))
def test_with_lru_refills_are_exactly_the_misses_that_full_fences_caused(
    stream, ways, sets, fences
):
    hardware = machine(l1d=[array(ways, sets), array(2, sizes=(1, 2))],
                       walk_overhead_per_level_cycles=1)
    visits = [access(pages_of(3)[page]) for page in stream]
    fenced = [mixed for at, visit in enumerate(visits)
              for mixed in ([fence(ALL)] if at in fences else []) + [visit]]
    rows, _ = answers(hardware, mapped() + fenced)
    rows = rows[[given["kind"] == ACCESS for given in mapped() + fenced]]
    alone = answers(hardware, mapped() + visits)[0][len(mapped()):]
    missed, missed_alone = rows["cycles"] > 0, alone["cycles"] > 0
    assert (missed[missed_alone]).all()
    assert np.array_equal(rows["refill"] == 1, missed & ~missed_alone)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_keeps_what_fits(policy):
    hardware = machine(l1d=[array(10, 4, policy=policy), ABSENT])
    steps = mapped() + [access(va) for va in pages_of(3)[:40]] * 3
    assert answers(hardware, steps)[1]["misses"] == 40


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_evicts_when_it_does_not_fit(policy):
    hardware = machine(l1d=[array(8, policy=policy), ABSENT])
    counters = answers(hardware, mapped() + [access(va) for va in pages_of(3)[:9]] * 20)[1]
    assert 20 < counters["misses"] <= 180


@pytest.mark.parametrize("name", PRESETS)
def test_after_a_full_fence_every_page_misses_once(name):
    hardware = load(name).c_values()
    pages = pages_of(hardware["levels"])
    touch_all = [access(va, kind) for va in pages for kind in (LOAD, STORE, FETCH)]
    steps = mapped(hardware["levels"]) + touch_all + [fence(ALL)]
    for va in pages:
        cold = answers(hardware, [*steps, access(va)])[1]
        warm = answers(hardware, steps)[1]
        assert cold["misses"] == warm["misses"] + 1


@pytest.mark.parametrize("name", [n for n in PRESETS if not load(n).fence_va_as_all])
def test_a_fence_by_asid_keeps_globals(name):
    hardware = load(name).c_values()
    pages = [base(hardware["levels"]) + PAGE * page for page in range(2)]
    for flags, kept in ((KERNEL, 1), (LOCAL, 0)):
        steps = [*mapped(hardware["levels"], flags), *(access(va) for va in pages)]
        before = answers(hardware, steps)[1]["misses"]
        steps += [fence(ASID), *(access(va) for va in pages)]
        after = answers(hardware, steps)[1]["misses"]
        assert (after == before) == bool(kept), flags


def test_another_asid_sees_global_pages_only():
    for flags, misses in ((KERNEL, 1), (LOCAL, 2)):
        steps = [*mapped(flags=flags), access(base(), asid=1), access(base(), asid=2)]
        assert answers(machine(), steps)[1]["misses"] == misses
    steps = [*mapped(flags=LOCAL), access(base(), asid=1), access(base(), asid=2)]
    assert answers(machine(asid_bits=0), steps)[1]["misses"] == 1


def test_a_fence_by_address_drops_one_page_and_by_asid_no_global_one():
    one, two = base(), base() + PAGE
    def missed(flags, form, va, asid=0):
        steps = [*mapped(flags=flags), access(one), access(two), fence(form, va, asid),
                 access(one), access(two)]
        return answers(machine(), steps)[1]["misses"] - 2
    assert missed(KERNEL, VA, one) == 1
    assert missed(KERNEL, VA_ASID, one) == 0
    assert missed(LOCAL, VA_ASID, one) == 1
    assert missed(LOCAL, VA_ASID, one, asid=1) == 0
    assert missed(KERNEL, VA, base() + 7 * PAGE) == 0


def test_a_fence_by_address_drops_the_superpage_around_it():
    steps = [*mapped(), access(base() + HUGE), fence(VA, base() + HUGE + 9 * PAGE),
             access(base() + HUGE)]
    assert answers(machine(), steps)[1]["misses"] == 2


@pytest.mark.parametrize("name", PRESETS)
def test_a_machine_that_caches_no_invalid_ptes_never_answers_negative(name):
    hardware = load(name).c_values() | {"inv_l1": 0, "inv_l2": 0, "inv_pwc": 0}
    start = base(hardware["levels"])
    probes = [access(start + PAGE * page, asid=page % 3) for page in range(64)] * 2
    rows, counters = answers(hardware, [store_map(start, 32), LATER, *probes, *mapped(
        hardware["levels"]), *probes])
    assert not rows["negative"].any()
    assert counters["negative_fills"] == counters["negative_hits"] == 0
    assert (rows["fail"] == INVALID).any()


@pytest.mark.parametrize("name", PRESETS)
def test_a_new_mapping_is_seen_after_a_full_fence(name):
    """Whatever was cached, whoever stored: once visible and fenced, it translates."""
    hardware = load(name).c_values()
    pages = pages_of(hardware["levels"])
    probes = [access(va, kind) for va in pages for kind in (LOAD, STORE, FETCH)]
    rows, _ = answers(hardware, [*probes, *mapped(hardware["levels"]), fence(ALL), *probes])
    assert (rows["fail"][: len(probes)] == INVALID).all()
    assert (rows["fail"][-len(probes):] == 0).all()


@pytest.mark.parametrize("name", PRESETS)
def test_without_a_fence_a_new_mapping_faults_exactly_where_invalid_ptes_are_cached(name):
    hardware = load(name).c_values()
    start = base(hardware["levels"])
    # the tables exist, so that only the leaf's own validity is cached
    rows, _ = answers(hardware, [store_map(start + 64 * PAGE), LATER, access(start),
                                 store_map(start), LATER, access(start), fence(ALL),
                                 access(start)])
    assert rows["fail"][2] == INVALID
    assert bool(rows["fail"][5]) == bool(rows["negative"][5]) == bool(hardware["inv_l1"])
    assert rows["fail"][7] == 0


def test_walk_reads_fall_to_one_with_a_page_walk_cache_and_to_three_without():
    there = [ABSENT, array(4), array(4), ABSENT, ABSENT]
    steps = [*mapped(), *(access(base() + PAGE * page) for page in range(8))]
    assert answers(machine(), steps)[1]["walk_reads"] == 24
    counters = answers(machine(pwc=there), steps)[1]
    assert counters["walk_reads"] == 3 + 7
    assert counters["pwc_hits"] == 7


def test_the_same_seed_gives_the_same_cycles_and_another_seed_others():
    hardware = load("p550").c_values()
    steps = mapped(hardware["levels"]) + [access(va) for va in pages_of(hardware["levels"])]
    one, again, other = (answers(hardware, steps, seed=s)[0]["cycles"] for s in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
