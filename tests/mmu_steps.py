"""Steps for one hart's mmu, in the words of the tests, and the engine's answers to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from pysim import engine

STEP = engine.layout("struct csim_mmu_step")
ANSWER = engine.layout("struct csim_mmu_answer")
BLANK: dict[str, int] = dict.fromkeys((name for name in STEP.names or () if name != "zero"), 0)
ABSENT = {"sets": 0, "ways": 0, "sectors": 1, "levels": 0, "policy": 0}
POLICIES = engine.TLB_POLICIES

ACCESS, RESUME, FENCE, FORGET, MAP, UNMAP, STORE_INVALID, ADVANCE, GLOBAL_POINTER = range(9)
LOAD, STORE, FETCH = range(3)
ALL, ASID, VA, VA_ASID = range(4)
INVALID = engine.WALK_FAILS["V clear"]
V, R, W, X, U, G, A, D = (1 << bit for bit in range(8))
KERNEL = V | R | W | X | G | A | D
LOCAL = V | R | W | X | A | D
PAGE = 4096
HUGE = 512 * PAGE


def array(ways: int, sets: int = 1, sectors: int = 1, sizes: tuple[int, ...] = (0,),
          policy: str = "lru") -> dict[str, int]:
    """A ``struct csim_array``."""
    return {"sets": sets, "ways": ways, "sectors": sectors, "policy": POLICIES[policy],
            "levels": sum(1 << size for size in sizes)}


def machine(**fields: Any) -> dict[str, Any]:
    """A machine with one-array first levels of 4 entries of any size, and nothing else."""
    whole = [array(4, sizes=(0, 1, 2)), ABSENT]
    made: dict[str, Any] = dict.fromkeys(engine.struct_fields("csim_machine"), 0)
    made |= {"mhz": 1000, "levels": 3, "walkers": 1, "svade": 1, "asid_bits": 16,
             "l1i": whole, "l1d": whole, "l1st": whole, "l2": [ABSENT] * 2, "pwc": [ABSENT] * 5}
    return made | fields


def base(levels: int = 3) -> int:
    """The first address of the upper half."""
    return int((1 << 64) - (1 << 11 + 9 * levels))


def access(va: int, kind: int = LOAD, **fields: int) -> dict[str, int]:
    return BLANK | {"kind": ACCESS, "va": va, "access": kind} | fields


def fence(form: int = ALL, va: int = 0, asid: int = 0, cause: int = 0) -> dict[str, int]:
    return BLANK | {"kind": FENCE, "form": form, "va": va, "asid": asid, "cause": cause}


def store_map(va: int, pages: int = 1, level: int = 0, flags: int = KERNEL,
              **fields: int) -> dict[str, int]:
    return BLANK | {"kind": MAP, "va": va, "pages": pages, "level": level, "flags": flags,
                    "ppn": 1 << 18} | fields


def unmap(va: int, pages: int = 1) -> dict[str, int]:
    return BLANK | {"kind": UNMAP, "va": va, "pages": pages}


def step(kind: int, **fields: int) -> dict[str, int]:
    return BLANK | {"kind": kind} | fields


def answers(hardware: dict[str, Any], steps: list[dict[str, int]], *, hart: int = 0,
            seed: int = 0) -> tuple[np.ndarray[Any, Any], dict[str, int]]:
    """One row per step, and the counters."""
    rows = np.zeros(len(steps), STEP)
    for row, given in zip(rows, steps, strict=True):
        for name, value in given.items():
            row[name] = value
    packed = engine.pack("csim_machine", hardware)
    found, counters = engine.mmu_run(packed, hart, seed, rows.tobytes())
    return np.frombuffer(found, ANSWER), counters
