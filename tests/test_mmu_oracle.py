"""The engine's mmu answers what the slow one answers, step by step and counter by counter.

FENCELAB_EXAMPLES sets how many random programs are tried (default 300).
"""

from __future__ import annotations

import os
import random

import mmu_steps
import oracle_tlb as oracle
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmu_steps import ABSENT, BLANK

from pysim import engine
from pysim.errors import EngineError
from pysim.machines import PRESETS, load

EXAMPLES = int(os.environ.get("FENCELAB_EXAMPLES", "300"))
ANSWERED = ("cycles", "ppn", "fail", "negative", "refill", "refill_for", "walking", "aborted")


def engine_answers(machine, hart, seed, steps):
    found, counters = mmu_steps.answers(machine, steps, hart=hart, seed=seed)
    return [{name: int(row[name]) for name in ANSWERED} for row in found], counters


def agree(machine, hart, seed, steps):
    """Compare on the steps that fit; return the steps and the counters."""
    slow = oracle.Run(machine, hart, seed)
    fitting, wanted = [], []
    for step in steps:
        try:
            wanted.append(slow.step(step))
            fitting.append(step)
        except oracle.RefusedError:
            pass
    answers, counters = engine_answers(machine, hart, seed, fitting)
    for at, (answer, want) in enumerate(zip(answers, wanted, strict=True)):
        assert answer == want, f"step {at}: {fitting[at]}"
    counted = {name: counters[name] for name in oracle.COUNTED}
    assert counted == slow.mmu.counters
    assert not [n for n, value in counters.items() if value and n not in oracle.COUNTED]
    assert counters["l1_hits"] + counters["l2_hits"] + counters["misses"] == counters["lookups"]
    assert counters["walks"] == counters["misses"] + counters["walks_speculative"]
    return fitting, counters


# ---- random machines ----------------------------------------------------------------------------

POLICY = st.integers(0, len(oracle.POLICIES) - 1)


def arrays(levels, sectors=(1, 2, 4, 8), sets=(1, 1, 2, 4)):
    return st.builds(
        lambda sets, ways, sectors, levels, policy: {
            "sets": sets, "ways": ways, "sectors": sectors, "levels": levels, "policy": policy},
        st.sampled_from(sets), st.sampled_from((1, 2, 3, 4, 5, 8)), st.sampled_from(sectors),
        st.sampled_from(levels), POLICY)


@st.composite
def tlbs(draw, *, maybe_absent):
    if maybe_absent and draw(st.booleans()):
        return [ABSENT, ABSENT]
    shape = draw(st.integers(0, 3))
    base = draw(arrays((1,) if shape in (0, 1) else (1, 3, 7, 5, 6)))
    upper = draw(arrays((6, 2, 7), sectors=(1, 1, 2))) if shape in (0, 2) else ABSENT
    return [base, upper]


@st.composite
def machines(draw):
    flag, small = st.integers(0, 1), st.integers(0, 5)
    levels = draw(st.sampled_from((3, 3, 4, 5)))
    unified = draw(flag)
    pwc = [ABSENT] * 5
    if unified and draw(flag):
        pwc = [draw(arrays((0b11110, 2, 6), sectors=(1,))), *[ABSENT] * 4]
    elif not unified:
        pwc = [ABSENT, *(draw(st.one_of(st.just(ABSENT), arrays((2 << i,)))) for i in range(4))]
    machine = dict.fromkeys(engine.struct_fields("csim_machine"), 0)
    machine |= {name: draw(flag) for name in (
        "l1_split_store", "l2_seq_page_sizes", "prefetch_next_line", "inv_l1", "inv_l2", "inv_pwc",
        "inv_nonleaf_range", "svnapot", "svpbmt", "fence_l2_va_clears_set", "pte_via")}
    machine |= {name: draw(small) for name in (
        "fence_all_cycles", "fence_asid_cycles", "fence_va_cycles", "fence_pipe_cycles",
        "l1_hit_cycles", "l2_hit_cycles", "walk_overhead_per_level_cycles", "pwc_hit_cycles",
        "read_l1d_cycles", "store_drain_cycles", "store_cycles")}
    return machine | {
        "mhz": 1000, "levels": levels, "walkers": 1, "pwc_unified": unified, "pwc": pwc,
        "l1i": draw(tlbs(maybe_absent=False)), "l1d": draw(tlbs(maybe_absent=False)),
        "l1st": draw(tlbs(maybe_absent=False)), "l2": draw(tlbs(maybe_absent=True)),
        "asid_bits": draw(st.sampled_from((0, 1, 16))),
        "inv_line_capture": draw(st.sampled_from((0, 1, 2, 4, 8, 8))),
        "negative_global": draw(st.integers(0, 2)),
        "svade": draw(st.sampled_from((1, 1, 0))),
        "fence_va_as_all": draw(st.sampled_from((0, 0, 0, 1))),
        "fence_va_low8_match": draw(st.sampled_from((0, 0, 1))),
        "read_l2_cycles": 20, "read_llc_cycles": 50, "read_dram_cycles": 300,
        "read_l1d_permille": 400, "read_l2_permille": 300, "read_llc_permille": 200,
        "coherence_cycles": draw(st.sampled_from((0, 7, 100, 700))),
    }


# ---- random programs ----------------------------------------------------------------------------

# Pages that meet: neighbours in one line, across lines, across a table, in other 2 MiB and 1 GiB.
PAGES = (*range(0, 12), 15, 16, 23, 24, 256, 259, 504, 511, 512, 513, 520, 1024, 1 << 18,
         (1 << 18) + 1, (1 << 27) + 3)
FLAGS = (
    oracle.V | oracle.R | oracle.W | oracle.X | oracle.A | oracle.D | oracle.G,
    oracle.V | oracle.R | oracle.W | oracle.A | oracle.D | oracle.G,
    oracle.V | oracle.R | oracle.W | oracle.X | oracle.A | oracle.D,
    oracle.V | oracle.R | oracle.A | oracle.D,
    oracle.V | oracle.R | oracle.W | oracle.A,
    oracle.V | oracle.R | oracle.W | oracle.X | oracle.U | oracle.A | oracle.D,
    oracle.V | oracle.R | oracle.W | oracle.X | oracle.A | oracle.D | oracle.NAPOT,
    oracle.V | oracle.R | oracle.W | oracle.A | oracle.D | 1 << 61,
)
KINDS = (
    *[oracle.S_ACCESS] * 12, *[oracle.S_MAP] * 4, *[oracle.S_FENCE] * 2, oracle.S_UNMAP,
    oracle.S_RESUME, oracle.S_RESUME, oracle.S_ADVANCE, oracle.S_ADVANCE, oracle.S_FORGET,
    oracle.S_STORE_INVALID,
)


def make_step(levels, kind, page, low_half, size, detail):
    """One step from a few small numbers; ``detail`` is cut into the fields of its kind."""
    def cut(count):
        nonlocal detail
        detail, value = divmod(detail, count)
        return value

    base = 0 if low_half else mmu_steps.base(levels)
    step = BLANK | {"kind": kind, "va": base + PAGES[page] % (1 << 9 * levels - 1) * 4096}
    if kind == oracle.S_ACCESS:
        step |= {"access": cut(3), "user": cut(4) == 0, "asid": cut(3), "speculative": cut(5) == 0,
                 "reads_max": (0, 0, 0, 0, 1, 2)[cut(6)]}
        step["va"] += (0, 0, 8, 4095)[cut(4)]
        if cut(40) == 0:
            step["va"] ^= 1 << 62
    elif kind == oracle.S_RESUME:
        step["reads_max"] = cut(3)
    elif kind == oracle.S_FENCE:
        step |= {"form": cut(4), "asid": cut(3), "cause": cut(4)}
        if cut(40) == 0:
            step["va"] ^= 1 << 62
    elif kind == oracle.S_FORGET:
        step["pages"] = (1, 2, 8, 512)[cut(4)]
    elif kind == oracle.S_ADVANCE:
        step["cycles"] = (1, 6, 60, 900)[cut(4)]
    else:
        level = size if kind != oracle.S_UNMAP else 0
        leaf = 1 << 9 * level
        step["va"] -= step["va"] % (leaf * 4096)
        step |= {"level": level, "pages": leaf * ((1, 2, 5, 16)[cut(4)] if level == 0 else 1),
                 "other_hart": cut(2), "ppn": 8 + leaf * (cut(64) + 1)}
        step["ppn"] -= step["ppn"] % leaf
        step["flags"] = FLAGS[cut(len(FLAGS))] if kind == oracle.S_MAP else 32 * cut(2)
        if kind == oracle.S_UNMAP:
            step["pages"] *= (1, 512)[cut(2)]
    return step


PROGRAM = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, len(PAGES) - 1), st.booleans(),
              st.sampled_from((0, 0, 0, 1, 1, 2)), st.integers(0, 10**6)),
    min_size=30, max_size=160)


@settings(max_examples=EXAMPLES, deadline=None,
          suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(machine=machines(), program=PROGRAM, seed=st.integers(0, 2**64 - 1), hart=st.integers(0, 9))
def test_random_programs_on_random_machines_match_the_oracle(machine, program, seed, hart):
    steps = [make_step(machine["levels"], *numbers) for numbers in program]
    agree(machine, hart, seed, steps)


def long_program(levels, chance, length, pages):
    """Random steps that come back to the page and half of the step before, half of the time."""
    steps, page, low_half = [], 0, False
    for _ in range(length):
        if chance.random() < 0.5:
            page, low_half = chance.randrange(pages), chance.random() < 0.3
        size = chance.choice((0, 0, 0, 0, 1))
        steps.append(make_step(levels, chance.choice(KINDS), page, low_half, size,
                               chance.randrange(10**6)))
    return steps


@pytest.mark.parametrize("name", PRESETS)
def test_presets_match_the_oracle_over_a_long_program(name):
    machine = load(name).c_values()
    chance = random.Random(name)
    steps = long_program(machine["levels"], chance, 1500, len(PAGES))
    _, counters = agree(machine, 1, 7, steps)
    assert min(counters[name] for name in ("walks", "l1_hits", "refill_misses")) > 0
    assert bool(counters["negative_hits"]) == bool(machine["inv_l1"])


def test_300_full_fences_in_a_row_keep_their_causes_apart():
    machine = load("xs-kmh").c_values()
    chance = random.Random(3)
    base = mmu_steps.base(machine["levels"])
    steps = [BLANK | {"kind": oracle.S_MAP, "va": base, "pages": 16, "flags": FLAGS[0]},
             BLANK | {"kind": oracle.S_ADVANCE, "cycles": 1000}]
    for _ in range(300):
        for _ in range(chance.randrange(4)):
            va = base + 4096 * chance.randrange(16)
            steps.append(BLANK | {"kind": oracle.S_ACCESS, "va": va})
        steps.append(BLANK | {"kind": oracle.S_FENCE, "cause": chance.randrange(4)})
    _, counters = agree(machine, 0, 1, steps)
    assert counters["refill_misses"] > 100


def test_a_step_that_does_not_fit_is_refused_by_both():
    machine = load("rocket").c_values()
    base = mmu_steps.base(3)
    small = BLANK | {"kind": oracle.S_MAP, "va": base, "pages": 1, "flags": FLAGS[0], "ppn": 1}
    huge = small | {"pages": 512, "level": 1, "ppn": 512}
    part = BLANK | {"kind": oracle.S_UNMAP, "va": base, "pages": 1}
    for steps in ([small, huge], [huge, small], [huge, part]):
        with pytest.raises(oracle.RefusedError):
            oracle.run(machine, 0, 0, steps)
        with pytest.raises(EngineError, match=r"steps\[1\].va"):
            engine_answers(machine, 0, 0, steps)
