"""A stream of references level by level does what one access after the other does.

Two hands on equal machines: one streams, one makes the accesses as steps, which the slow oracle
checks elsewhere. Between the streams both run the same fences, maps, unmaps and accesses, so that
what a stream leaves in the caches is asked too. Every vector path must return the same bytes.
FENCELAB_EXAMPLES sets how many random programs are tried (default 300).
"""

from __future__ import annotations

import os
import random
from typing import Any

import mmu_steps
import numpy as np
import pytest
from mmu_steps import ABSENT, ANSWER, BLANK, KERNEL, LOCAL, PAGE, POLICIES, STEP, A, R, V, W, array

from pysim import engine
from pysim.errors import EngineError
from pysim.machines import PRESETS, load

EXAMPLES = int(os.environ.get("FENCELAB_EXAMPLES", "300"))
KINDS = tuple(engine.ACCESSES)


def paths() -> list[str]:
    """The vector paths this processor has."""
    mmu = engine.Mmu(packed(mmu_steps.machine()), stores=0, tables=0)
    found = []
    for path in engine.SIMD:
        try:
            mmu.stream(np.zeros(0, np.uint64), simd=path)
            found.append(path)
        except EngineError:
            pass                # only the two that every processor has must be there
    assert {"plain", "best"} <= set(found)
    return found


def packed(machine: dict[str, Any]) -> bytes:
    return engine.pack("csim_machine", machine)


def rows(steps: list[dict[str, int]]) -> bytes:
    made = np.zeros(len(steps), STEP)
    for row, given in zip(made, steps, strict=True):
        for name, value in given.items():
            row[name] = value
    return made.tobytes()


class Streaming:
    """One hand: streams go through the batches, on one vector path."""

    def __init__(self, machine: dict[str, Any], path: str) -> None:
        self.mmu = engine.Mmu(packed(machine), hart=1, seed=5, stores=1 << 18, tables=1 << 10)
        self.path, self.batched = path, 0

    def steps(self, steps: list[dict[str, int]]) -> bytes:
        return self.mmu.steps(rows(steps))

    def stream(self, vas: np.ndarray[Any, Any], how: dict[str, Any]) -> tuple[int, int]:
        found = self.mmu.stream(vas, simd=self.path, **how)
        self.batched += found.batched
        return found.cycles, found.faults


class Stepping(Streaming):
    """The other: each reference is a step."""

    def stream(self, vas: np.ndarray[Any, Any], how: dict[str, Any]) -> tuple[int, int]:
        made = np.zeros(len(vas), STEP)
        made["va"], made["asid"], made["user"] = vas, how["asid"], how["user"]
        made["access"] = engine.ACCESSES[how["access"]]
        answers = np.frombuffer(self.mmu.steps(made.tobytes()), ANSWER)
        return int(answers["cycles"].sum()), int((answers["fail"] != 0).sum())


def shape(chance: random.Random, level: int = 0, sectors: tuple[int, ...] = (1, 1, 2, 4, 8),
          ) -> dict[str, int]:
    policy = chance.choice(("lru", "lru", "lru", *POLICIES))
    return array(chance.choice((1, 2, 3, 4, 4, 8, 8, 10, 16, 32, 64)), chance.choice((1, 2, 4, 16)),
                 chance.choice(sectors), (level,), policy)


def machine_of(chance: random.Random) -> dict[str, Any]:
    """Mostly one that can be run in batches."""
    odd = chance.random() < 0.15
    sizes = [array(4, 1, 1, (1, 2)), ABSENT] if odd else [ABSENT]
    pwc = [ABSENT, *(chance.choice((ABSENT, shape(chance, i, (1, 1, 1, 8)))) for i in (1, 2, 3)),
           ABSENT]
    return mmu_steps.machine(
        levels=chance.choice((3, 4, 5)), pwc=pwc, asid_bits=chance.choice((0, 16)),
        l1d=[shape(chance), sizes[0]], l1i=[shape(chance), sizes[0]],
        l1st=[shape(chance), sizes[0]], l1_split_store=chance.randrange(2),
        l2=chance.choice(([ABSENT] * 2, [shape(chance), ABSENT], [shape(chance), ABSENT])),
        svade=chance.choice((1, 1, 0)), prefetch_next_line=chance.random() < 0.05,
        inv_l1=chance.randrange(2), inv_l2=chance.randrange(2), inv_pwc=chance.randrange(2),
        inv_line_capture=chance.choice((0, 0, 0, 1, 8)), negative_global=chance.randrange(3),
        l2_seq_page_sizes=chance.randrange(2), fence_all_cycles=3, store_cycles=1,
        store_drain_cycles=chance.choice((0, 50)), coherence_cycles=chance.choice((0, 500)),
        l1_hit_cycles=1, l2_hit_cycles=6, pwc_hit_cycles=2, walk_overhead_per_level_cycles=1,
        read_l1d_cycles=3, read_l2_cycles=20, read_llc_cycles=50, read_dram_cycles=300,
        read_l1d_permille=chance.choice((1000, 400)), read_l2_permille=0, read_llc_permille=0)


def addresses(chance: random.Random, base: int, pages: int) -> np.ndarray[Any, Any]:
    """A stream of some kind over the mapped pages, seldom a little past them."""
    numbers = np.random.default_rng(chance.randrange(1 << 30))
    n = chance.choice((10, 255, 256, 700, 4096, 5000, 9000))
    span = chance.choice((1, 3, 20, 70, 600, pages, pages))
    kind = chance.choice(("uniform", "uniform", "sequence", "hot"))
    if kind == "uniform":
        chosen = numbers.integers(0, span, n)
    elif kind == "sequence":
        chosen = np.arange(n) // chance.choice((1, 7, 64)) % span
    else:
        rare = numbers.random(n) < 0.02
        hot = numbers.integers(0, min(span, 20), n)
        chosen = np.where(rare, numbers.integers(0, pages, n), hot)
    if chance.random() < 0.15:
        chosen[chance.randrange(n)] = pages + chance.randrange(2000)
    vas = (np.uint64(base) + chosen.astype(np.uint64) * np.uint64(PAGE)
           + numbers.integers(0, PAGE, n).astype(np.uint64))
    if chance.random() < 0.05:
        vas[chance.randrange(n)] ^= np.uint64(1 << 62)     # not canonical
    return vas


def between(chance: random.Random, base: int, pages: int, flags: int, asid: int,
            ) -> list[dict[str, int]]:
    """What happens between two streams: most often nothing."""
    va = base + PAGE * chance.randrange(pages)
    some = [
        mmu_steps.fence(chance.randrange(4), va=va, asid=asid, cause=chance.randrange(4)),
        mmu_steps.store_map(va, flags=flags, ppn=7),
        mmu_steps.unmap(va),
        mmu_steps.step(mmu_steps.ADVANCE, cycles=chance.choice((20, 5000))),
        mmu_steps.access(va, chance.randrange(3), asid=asid),
        mmu_steps.access(base + PAGE * (pages + 5), asid=asid),
        mmu_steps.step(mmu_steps.FORGET, va=va, pages=8),
    ]
    return chance.sample(some, chance.choice((0, 0, 1, 2)))


def probes(base: int, pages: int, asid: int) -> list[dict[str, int]]:
    """Accesses and fences whose answers show what the caches hold, and in which order."""
    steps = [mmu_steps.access(base + PAGE * (page * 37 % pages), kind, asid=asid)
             for page in range(300) for kind in (0, 1)]
    steps.append(mmu_steps.fence(cause=2))
    return steps + [mmu_steps.access(base + PAGE * (page * 11 % pages), asid=asid)
                    for page in range(200)]


def same_story(seed: int, path: str) -> int:
    """Tell one story to both hands; return how many references went in batches."""
    chance = random.Random(seed)
    machine = machine_of(chance)
    asids = chance.choice(((0,), (3,), (0, 3)))
    flags = chance.choice((LOCAL, LOCAL, V | R | W | A, KERNEL if len(asids) == 1 else LOCAL))
    pages, base = chance.choice((80, 700, 5000)), mmu_steps.base(machine["levels"])
    hands: tuple[Streaming, Streaming] = (Streaming(machine, path), Stepping(machine, path))
    story: list[Any] = [[mmu_steps.store_map(base, pages, flags=flags)],
                        [mmu_steps.step(mmu_steps.ADVANCE, cycles=chance.choice((0, 100000)))]]
    for _ in range(chance.randrange(2, 7)):
        asid = chance.choice(asids)
        how = {"access": chance.choice(KINDS[:1] * 3 + KINDS), "asid": asid,
               "user": chance.random() < 0.05}
        story += [between(chance, base, pages, flags, asid), (addresses(chance, base, pages), how)]
    story.append(probes(base, pages, asids[0]))
    for part in story:
        told = [hand.steps(part) if isinstance(part, list) else hand.stream(*part)
                for hand in hands]
        assert told[0] == told[1], f"seed {seed}: {part}"
        found = [hand.mmu.counters() for hand in hands]
        assert found[0] == found[1], f"seed {seed}: {part}"
    return hands[0].batched


@pytest.mark.slow
@pytest.mark.parametrize("path", paths())
def test_streams_do_what_steps_do(path: str) -> None:
    batched = [same_story(seed, path) for seed in range(EXAMPLES // 6)]
    assert sum(count > 0 for count in batched) > len(batched) // 8


SHAPES = {
    "9 ways": array(9), "32 ways": array(32), "64 ways": array(64),
    "tree, 4 ways": array(4, 8, policy="plru"), "tree, 8 ways": array(8, 4, policy="plru"),
    "4 ways of sectors": array(4, 4, 4), "8 ways of sectors": array(8, 2, 2),
    "tree of sectors": array(4, 4, 4, policy="plru"), "fifo": array(4, 8, policy="fifo"),
    "tree, 4 ways, many sets": array(4, 256, policy="plru"),
    "tree, 8 ways, many sets": array(8, 128, policy="plru"),
}


@pytest.mark.parametrize("path", paths())
@pytest.mark.parametrize("shape", SHAPES)
def test_every_form_is_the_same_array(path: str, shape: str) -> None:
    """Often missed and seldom, in turn; pages whose numbers end alike, more than fit and fewer."""
    ways = SHAPES[shape]["ways"] * SHAPES[shape]["sets"]
    machine = mmu_steps.machine(l1d=[SHAPES[shape], ABSENT], l2=[array(12), ABSENT],
                                l1_hit_cycles=1, l2_hit_cycles=6, read_l2_cycles=20,
                                read_l1d_permille=0, read_l2_permille=1000)
    numbers = np.random.default_rng(ways)
    pages = np.array([at * 4096 % 16384 + at // 4 for at in range(3 * ways)], np.uint64)
    hands = (Streaming(machine, path), Stepping(machine, path))
    start = [mmu_steps.store_map(mmu_steps.base(), 16400),
             mmu_steps.step(mmu_steps.ADVANCE, cycles=100)]
    for hand in hands:
        hand.steps(start)
    how = {"access": "load", "asid": 0, "user": False}
    for span in (ways - 3, ways + 1, 3 * ways, 3, ways + 2, 2 * ways, 3 * ways):
        order = np.concatenate([np.arange(2500) % span, numbers.integers(0, span, 3000)])
        vas = np.uint64(mmu_steps.base()) + pages[order] * np.uint64(PAGE)
        assert hands[0].stream(vas, how) == hands[1].stream(vas, how)
        assert hands[0].mmu.counters() == hands[1].mmu.counters()
    assert hands[0].batched == 7 * 5500


@pytest.mark.parametrize("name", PRESETS)
def test_presets_stream_as_they_step(name: str) -> None:
    machine = load(name).c_values()
    base, chance = mmu_steps.base(machine["levels"]), random.Random(name)
    hands = (Streaming(machine, "best"), Stepping(machine, "best"))
    start = [mmu_steps.store_map(base, 3000, flags=KERNEL),
             mmu_steps.step(mmu_steps.ADVANCE, cycles=100000)]
    how = {"access": "load", "asid": 0, "user": False}
    for hand in hands:
        hand.steps(start)
    for _ in range(4):
        vas = addresses(chance, base, 3000)
        assert hands[0].stream(vas, how) == hands[1].stream(vas, how)
    assert hands[0].mmu.counters() == hands[1].mmu.counters()


def test_a_stream_ends_its_batches_at_a_fault_and_counts_it() -> None:
    machine = mmu_steps.machine(l1d=[array(4, 16), ABSENT], l1_hit_cycles=1, read_dram_cycles=9)
    base = mmu_steps.base()
    hand = Streaming(machine, "best")
    hand.steps([mmu_steps.store_map(base, 64), mmu_steps.step(mmu_steps.ADVANCE, cycles=100)])
    vas = np.full(3 * 4096, base, np.uint64)
    vas[5000] = base + 64 * PAGE
    assert hand.stream(vas, {"access": "load", "asid": 0, "user": False})[1] == 1
    assert hand.batched == 2 * 4096                 # the middle one went one by one
    assert hand.mmu.counters()["misses"] == 2


def test_a_store_on_its_way_keeps_streams_one_by_one() -> None:
    machine = mmu_steps.machine(l1d=[array(4, 16), ABSENT], l1_hit_cycles=1, read_dram_cycles=9,
                                store_drain_cycles=100)
    hand = Streaming(machine, "best")
    vas = np.full(4096, mmu_steps.base(), np.uint64)
    how = {"access": "load", "asid": 0, "user": False}
    hand.steps([mmu_steps.store_map(mmu_steps.base())])
    _, faults = hand.stream(vas[:64], how)
    assert faults > 0
    assert hand.batched == 0
    hand.steps([mmu_steps.step(mmu_steps.ADVANCE, cycles=100)])
    assert hand.stream(vas, how)[1] == 0
    assert hand.batched == 4096


def test_impossible_streams_are_refused() -> None:
    mmu = engine.Mmu(packed(mmu_steps.machine()), stores=0, tables=0)
    with pytest.raises(EngineError, match=r"steps\[0\]\.pages"):
        mmu.steps(rows([BLANK | {"kind": mmu_steps.MAP, "va": mmu_steps.base(), "pages": 1,
                                 "flags": KERNEL}]))
    with pytest.raises(EngineError, match="more PTEs"):
        engine.Mmu(packed(mmu_steps.machine()), stores=1 << 40, tables=0)
    with pytest.raises(EngineError):
        mmu.stream(b"1234567")
