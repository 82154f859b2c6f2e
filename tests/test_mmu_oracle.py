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


def difference(machine, hart, seed, steps):
    """The first step or counter that differs, with the steps that fit; None: they agree."""
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
        if answer != want:
            return f"step {at}: {answer}, oracle {want}", fitting[: at + 1], counters
    for name, value in counters.items():
        if value != slow.mmu.counters.get(name, 0):
            return f"{name}: {value}, oracle {slow.mmu.counters.get(name, 0)}", fitting, counters
    return None, fitting, counters


def agree(machine, hart, seed, steps):
    """Engine and oracle agree; when not, say so on the shortest program found. Counters."""
    differs, fitting, counters = difference(machine, hart, seed, steps)
    if differs:
        for at in range(len(fitting) - 1, -1, -1):
            fewer = fitting[:at] + fitting[at + 1:]
            if difference(machine, hart, seed, fewer)[0]:
                fitting = fewer
        differs = difference(machine, hart, seed, fitting)[0]
        brief = [{k: v for k, v in step.items() if v} for step in fitting]
        pytest.fail(f"{differs}\n" + "\n".join(map(str, brief)), pytrace=False)
    assert counters["l1_hits"] + counters["l2_hits"] + counters["misses"] == counters["lookups"]
    assert counters["walks"] == counters["misses"] + counters["walks_speculative"]
    return counters


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
    whole = 1 << oracle.SIXTEEN
    base = draw(arrays((1, 1, 1 | whole) if shape in (0, 1) else (1, 3, 7, 5, 6, 7 | whole)))
    sizes = (6, 2, 7, 6 | whole, whole)
    upper = draw(arrays(sizes, sectors=(1, 1, 2))) if shape in (0, 2) else ABSENT
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
        "l1_split_store", "l2_seq_page_sizes", "inv_l1", "inv_l2", "inv_pwc",
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
        "prefetch_next_line": draw(st.sampled_from((0, 0, 1, 1, 2, 8))),
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
CHANCES = {
    oracle.S_ACCESS: 80, oracle.S_FENCE: 6, oracle.S_MAP: 6, oracle.S_UNMAP: 2, oracle.S_RESUME: 3,
    oracle.S_ADVANCE: 3, oracle.S_FORGET: 1, oracle.S_STORE_INVALID: 1,
    oracle.S_GLOBAL_POINTER: 1,
}
# With a walk left in flight.
CHANCES_MIDWAY = {
    oracle.S_ACCESS: 4, oracle.S_RESUME: 6, oracle.S_FENCE: 3, oracle.S_MAP: 2, oracle.S_UNMAP: 1,
    oracle.S_FORGET: 2, oracle.S_STORE_INVALID: 1, oracle.S_ADVANCE: 1,
}


def fields(kind, chance, flags):
    """What a step of this kind has besides its address."""
    if kind == oracle.S_ACCESS:
        return {"access": chance.choice((0, 0, 0, 1, 1, 2)), "user": chance.random() < 0.1,
                "asid": chance.choice((0, 0, 0, 1, 2)), "speculative": chance.random() < 0.1,
                "reads_max": chance.choice((0,) * 30 + (1, 2))}
    if kind == oracle.S_RESUME:
        return {"reads_max": chance.randrange(3)}
    if kind == oracle.S_FENCE:
        return {"form": chance.choice((0, 1, 2, 2, 3, 3)), "asid": chance.choice((0, 0, 1, 2)),
                "cause": chance.randrange(4)}
    if kind == oracle.S_FORGET:
        return {"pages": chance.choice((1, 2, 8, 512))}
    if kind == oracle.S_ADVANCE:
        return {"cycles": chance.choice((1, 6, 60, 900))}
    if kind == oracle.S_GLOBAL_POINTER:
        return {"level": chance.choice((1, 1, 2)), "other_hart": chance.random() < 0.5}
    level = 0 if kind == oracle.S_UNMAP else chance.choice((0,) * 8 + (1, 1, 2))
    pages = chance.choice((1, 2, 5, 16)) if level == 0 else 1 << 9 * level
    if kind == oracle.S_UNMAP and chance.random() < 0.2:
        pages = 512
    ppn = 8 + chance.randrange(64) if level == 0 else (1 + chance.randrange(64)) << 9 * level
    if kind == oracle.S_MAP:
        flags = flags if chance.random() < 0.7 else chance.choice(FLAGS)
    elif kind == oracle.S_STORE_INVALID:
        flags = chance.choice((0, oracle.G, 8 << 10 | flags & ~oracle.V))
    return {"level": level, "pages": pages, "ppn": ppn, "flags": flags,
            "other_hart": chance.random() < 0.5}


def regions(va, pages, flags):
    """Regions of 64 KiB: sixteen equal PTEs each."""
    return [mmu_steps.store_map(va + page * 4096, flags=flags, ppn=64 + page // 16 * 16 + 8)
            for page in range(pages)]


def program(levels, seed, length):
    """Random steps that keep coming back to a few pages, most of them mapped at the start."""
    chance = random.Random(seed)
    upper, flags = mmu_steps.base(levels), chance.choice((*FLAGS[:3] * 3, FLAGS[6]))
    steps = []
    if chance.random() < 0.8:
        whole = flags & oracle.NAPOT and chance.random() < 0.8
        steps += [*(regions(upper, 48, flags) if whole else
                    [mmu_steps.store_map(upper, 40, flags=flags),
                     mmu_steps.store_map(upper + 256 * 4096, 300, flags=flags)]),
                  mmu_steps.store_map(upper + 1024 * 4096, 512, level=1, flags=flags),
                  mmu_steps.store_map(0, 20, flags=chance.choice(FLAGS)),
                  mmu_steps.step(oracle.S_ADVANCE, cycles=10000)]
    some = chance.sample(PAGES, chance.randrange(2, len(PAGES) + 1))
    page, low_half, midway = 0, False, False
    for _ in range(length):
        if chance.random() < (0.2 if midway else 0.7):
            page, low_half = chance.choice(some), chance.random() < 0.15
        chances = CHANCES_MIDWAY if midway else CHANCES
        kind = chance.choices(tuple(chances), tuple(chances.values()))[0]
        step = BLANK | {"kind": kind} | fields(kind, chance, flags)
        step["va"] = (0 if low_half else upper) + page % (1 << 9 * levels - 1) * 4096
        if kind in (oracle.S_MAP, oracle.S_UNMAP, oracle.S_STORE_INVALID):
            step["va"] -= step["va"] % (4096 << 9 * step["level"])
        elif kind in (oracle.S_ACCESS, oracle.S_FENCE):
            step["va"] += chance.choice((0, 8, 4095))
            if chance.random() < 0.02:
                step["va"] ^= 1 << 62      # not canonical
        midway = (kind == oracle.S_ACCESS and step["reads_max"] > 0) or (
            midway and kind not in (oracle.S_ACCESS, oracle.S_RESUME))
        steps.append(step)
    return steps


@pytest.mark.soak
@pytest.mark.timeout(max(300, EXAMPLES))          # 10,000 take a quarter of an hour
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(machine=machines(), seed=st.integers(0, 2**64 - 1), hart=st.integers(0, 9))
def test_random_programs_on_random_machines_match_the_oracle(machine, seed, hart):
    agree(machine, hart, seed, program(machine["levels"], seed, 150))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_match_the_oracle_over_a_long_program(name):
    machine = load(name).c_values()
    counters = agree(machine, 1, 7, program(machine["levels"], name, 1500))
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
    counters = agree(machine, 0, 1, steps)
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
