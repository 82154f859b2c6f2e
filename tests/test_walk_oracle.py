"""The engine's walk against the manual read slowly, on chance; the oracle itself against Spike."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import oracle
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from pysim import walks

SAMPLE = Path(__file__).parent / "golden" / "walks-500.jsonl.gz"
RAM = range(0x8000_0000, 1 << 52)

# Where the oracle stops -> why the engine says it did (csim_walk_fail_name).
REASON = {
    (0, "not canonical"): "non-canonical address",
    (2, "no memory"): "PTE outside memory",
    (3, "v=0"): "V clear",
    (3, "r=0 w=1"): "W without R",
    (4, "i<0"): "no leaf at level 0",
    (5, "misaligned"): "misaligned superpage",
    (6, "u"): "permission denied",
    (8, "rwx"): "permission denied",
    (9, "a or d"): "A or D clear under Svade",
    (10, ""): "none",
}


def reason(walked: oracle.Walked) -> str:
    return REASON.get((walked.step, walked.why), "reserved bits set" if walked.step == 3 else "?")


def judged(memory: dict[int, int], va: int, access: str, mode: oracle.Mode) -> oracle.Walked:
    def read(pa: int) -> int | None:
        return memory.get(pa, 0) if pa in RAM else None

    return oracle.walk(read, va, access, mode)


# ---- the oracle and Spike -----------------------------------------------------------------------


def mode_of(case: dict[str, Any]) -> oracle.Mode:
    return oracle.Mode(
        levels=case["levels"],
        satp_ppn=int(case["satp_ppn"], 16),
        privilege=case["priv"],
        sum=bool(case["sum"]),
        mxr=bool(case["mxr"]),
        svadu=case["ad"] == "svadu",
        svnapot=bool(case["svnapot"]),
        svpbmt=bool(case["svpbmt"]),
    )


def disagreements(path: Path) -> tuple[int, list[int]]:
    """Cases with a translation, and the ids of those that Spike and the oracle see differently."""
    cases, wrong = 0, []
    with gzip.open(path) as file:
        for case in map(json.loads, file):
            if case["levels"] == 0 or case["priv"] == "M":
                continue
            memory = {int(pa, 16): int(value, 16) for pa, value in case["mem"]}
            found = judged(memory, int(case["va"], 16), case["acc"], mode_of(case))
            exp: dict[str, Any] = {"cause": found.cause, "access": found.cause}
            if found.cause == 0:
                names = ("level", "size", "pbmt", "g")
                exp = {"pa": hex(found.pa)} | {name: getattr(found, name) for name in names}
                exp["access"] = "ok" if found.pa in RAM else oracle.ACCESS_FAULT[case["acc"]]
            reads = [hex(pa) for pa in found.reads]
            after = [[hex(pa), hex(value)] for pa, value in found.after]
            cases += 1
            if (exp, reads, after) != (case["exp"], case["reads"], case["after"]):
                wrong.append(case["id"])
    return cases, wrong


@pytest.mark.slow
def test_the_oracle_agrees_with_spike(shared: Path) -> None:
    cases, wrong = disagreements(shared / "data" / "golden" / "walk_golden.jsonl.gz")
    assert cases == 36_000 - 506  # those are bare, or of M-mode
    assert wrong == []


def test_the_oracle_agrees_with_spike_on_the_sample() -> None:
    cases, wrong = disagreements(SAMPLE)
    assert cases > 450
    assert wrong == []


# ---- the engine and the oracle ------------------------------------------------------------------

V, R, W, X, U, G, A, D = (1 << bit for bit in range(8))
N = 1 << 63
RAM_PPNS = range(RAM.start >> 12, RAM.stop >> 12)
EDGES = (0, RAM_PPNS[0] - 1, RAM_PPNS[0], RAM_PPNS[-1], RAM_PPNS[-1] + 1, (1 << 44) - 1)
PPN_FIELD = (1 << 44) - 1 << 10
RWX = (R, R | W, R | X, R | W | X, X)

Pick = Callable[[int], int]
"""A number below the one given: drawn by hypothesis, or by a seeded generator."""
Chain = tuple[dict[int, int], int, str, oracle.Mode]


def some_ppn(pick: Pick) -> int:
    """A frame of RAM; one in four is one of a few, so that tables meet."""
    return RAM_PPNS[pick(8) if pick(4) == 0 else pick(len(RAM_PPNS))]


def some_leaf(pick: Pick, level: int) -> int:
    ppn = some_ppn(pick) >> 9 * level << 9 * level
    rwx = RWX[pick(len(RWX))]
    flags = V | rwx | pick(2) * U | pick(2) * G | (A, D, A | D, A | D)[pick(4)] | pick(3) << 61
    if level == 0 and pick(2):
        return (ppn & ~15 | (8, 8, 8, pick(16))[pick(4)]) << 10 | flags | N
    return ppn << 10 | flags


def flawed(pick: Pick, pte: int) -> int:
    """A PTE with a bit flipped, or that points to an edge of memory."""
    kind = pick(4)
    if kind == 0:
        return pte & ~PPN_FIELD | EDGES[pick(len(EDGES))] << 10
    return pte ^ 1 << (pick(10) if kind == 1 else 54 + pick(10) if kind == 2 else pick(64))


def some_address(pick: Pick, levels: int) -> int:
    """Of the low half, of the high one, or any."""
    half = 1 << oracle.VA_BITS[levels] - 1
    kind = pick(8)
    if kind == 0:
        return pick(2**64)
    return pick(half) if kind % 2 else 2**64 - 1 - pick(half)


def some_chain(pick: Pick) -> Chain:
    """A path of pointers to a leaf, or to none, and up to two flaws in it."""
    levels = 3 + pick(3)
    mode = oracle.Mode(
        levels=levels,
        satp_ppn=some_ppn(pick) if pick(16) else EDGES[pick(len(EDGES))],
        privilege="US"[pick(2)],
        sum=bool(pick(2)),
        mxr=bool(pick(2)),
        svadu=bool(pick(2)),
        svnapot=bool(pick(4)),
        svpbmt=bool(pick(4)),
    )
    access = "rwx"[pick(3)]
    va = some_address(pick, levels) & (-2 if access == "x" else -1)
    leaf_level = pick(levels + 1) - 1
    path = [some_ppn(pick) << 10 | V for _ in range(levels - 1, max(leaf_level, -1), -1)]
    if leaf_level >= 0:
        path.append(some_leaf(pick, leaf_level))
    for _ in range((0, 0, 1, 2)[pick(4)]):
        at = pick(len(path))
        path[at] = flawed(pick, path[at])
    memory, table = {}, mode.satp_ppn
    for above, pte in enumerate(path):
        index = va >> 12 + 9 * (levels - 1 - above) & 511
        memory[table * 4096 + index * 8] = pte
        table = (pte & PPN_FIELD) >> 10
    return memory, va, access, mode


def case_of(
    memory: dict[int, int], va: int, access: str, mode: oracle.Mode, walked: oracle.Walked
) -> walks.WalkCase:
    translation: tuple[tuple[str, int], ...] = (("cause", walked.cause),)
    outcome: int | str = walked.cause
    if walked.cause == 0:
        names = ("pa", "level", "size", "pbmt", "g")
        translation = tuple((name, getattr(walked, name)) for name in names)
        outcome = "ok" if walked.pa in RAM else oracle.ACCESS_FAULT[access]
    return walks.WalkCase(
        line=1,
        number=0,
        cls="chance",
        va=va,
        satp_ppn=mode.satp_ppn,
        levels=mode.levels,
        privilege=walks.PRIVILEGES[mode.privilege],
        access=walks.ACCESSES[access],
        flags=(mode.sum, mode.mxr, mode.svadu, mode.svnapot, mode.svpbmt),
        mem=tuple(memory.items()),
        expected=walks.Outcome(
            translation=translation, access=outcome, reads=walked.reads, after=walked.after
        ),
    )


def assert_agreement(chains: list[Chain]) -> list[oracle.Walked]:
    expected = [judged(*chain) for chain in chains]
    cases = [case_of(*chain, walked) for chain, walked in zip(chains, expected, strict=True)]
    for case, walked, got in zip(cases, expected, walks.walk(cases), strict=True):
        assert got == (case.expected, reason(walked)), case
    return expected


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_engine_agrees_with_the_manual(data: st.DataObject) -> None:
    chain = some_chain(lambda below: data.draw(st.integers(0, below - 1)))
    (walked,) = assert_agreement([chain])
    event(f"step {walked.step}")


@pytest.mark.slow
def test_the_engine_agrees_with_the_manual_in_bulk() -> None:
    """The same chains by the thousand, in one call; each way to end comes at least 20 times."""
    random = Random(1)
    walked = assert_agreement([some_chain(random.randrange) for _ in range(20_000)])
    ends = Counter((found.step, found.why) for found in walked)
    ends.update((10, found.level) for found in walked if found.step == 10)
    ends.update((10, "64 KiB") for found in walked if found.size == 65536)
    ends.update((9, len(found.after)) for found in walked if found.step == 10)
    reserved = {"n with another size", "pbmt=3", "bits 58:54", "bits 60:59"}
    reserved |= {"n without Svnapot", "pbmt without Svpbmt"}
    reserved |= {f"{field} in a pointer" for field in ("u", "a", "d", "n", "pbmt")}
    wanted = {*REASON, *((3, why) for why in reserved), *((10, level) for level in range(5))}
    wanted |= {(10, "64 KiB"), (9, 0), (9, 1)}
    assert {end for end in wanted if ends[end] < 20} == set()


@pytest.mark.parametrize(
    ("levels", "va", "canonical"),
    [
        (3, 0x3F_FFFF_FFFF, True),
        (3, 0x40_0000_0000, False),
        (4, 2**64 - 1, True),
        (5, 1 << 63, False),
    ],
)
def test_the_oracle_knows_canonical_addresses(levels: int, va: int, canonical: bool) -> None:
    assert oracle.is_canonical(va, levels) is canonical
