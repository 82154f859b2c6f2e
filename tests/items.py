"""Hand-made work on a machine where nothing costs anything: what is left is what the test set.

An item is written as ``item("map", hart, at, page=3)``; a gate is a number, and how many signals it
needs follows from the items. ``run`` asks the engine.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from mmu_steps import ABSENT, array, machine

from pysim import engine, ops, policies
from pysim.engine import ITEM_FLAGS, ITEMS, Question, Result

ITEM = engine.layout("struct csim_item")
PAGE = 4096
VMALLOC = {levels: engine.regions(levels)["vmalloc"][0] for levels in (3, 4, 5)}
USEFUL = 100_000

Row = dict[str, int]


@dataclass(frozen=True)
class Handlers:
    """A policy of these handlers and no other."""

    handlers: Mapping[str, Sequence[Any]] = field(hash=False)
    marks: tuple[ops.Mark, ...] = (ops.Mark("m"),)
    name: str = "made"
    source: str = "a test"

    def __getattr__(self, name: str) -> Callable[[], list[Any]]:
        handlers = self.__dict__.get("handlers", {})
        if name not in handlers:
            raise AttributeError(name)
        return lambda: list(handlers[name])


def address(page: int, levels: int = 3) -> int:
    """The page of that number in the vmalloc area."""
    return VMALLOC[levels] + page * PAGE


def item(kind: str, hart: int, at: int, *flags: str, page: int | None = None,
         **fields: int) -> Row:
    """A ``struct csim_item`` but its order: kind and flags by name, the range by page number."""
    made = {"kind": ITEMS[kind], "hart": hart, "at_cycles": at, "va": 0, "arg": 0, "pages": 0,
            "wait": 0, "signal": 0, "flags": sum(ITEM_FLAGS[flag] for flag in flags)}
    if page is not None:
        made |= {"va": address(page), "pages": 1}
    return made | fields


def bare(**changes: Any) -> dict[str, Any]:
    """A machine with 64 entries of any size in each L1, no other cache, and every cost 0.

    Instructions cannot be free: one is one cycle.
    """
    whole = [array(64, sizes=(0, 1, 2)), ABSENT]
    return machine(**{"l1i": whole, "l1d": whole, "l1st": whole,
                      "instruction_millicycles": 1000, "via": engine.VIA["sbi"],
                      "sbi_window_harts": 64} | changes)


def idle_work(useful: int, **changes: int) -> dict[str, int]:
    """A workload that draws nothing and whose page visits are as long as the run."""
    made = dict.fromkeys(engine.struct_fields("csim_workload"), 0)
    return made | {"useful_cycles": useful, "visit_cycles": useful, "text_pages": 1,
                   "linear_pages": 1, "user_pages": 1, "visit_text_permille": 1000} | changes


def pack_items(rows: Sequence[Row]) -> tuple[bytes, bytes]:
    """Items in the order given, and the gates they signal."""
    packed = np.zeros(len(rows), ITEM)
    gates = [0] * (1 + max((max(row["wait"], row["signal"]) for row in rows), default=0))
    for order, (into, row) in enumerate(zip(packed, rows, strict=True), 1):
        for name, value in (row | {"order": row.get("order", order)}).items():
            into[name] = value
        gates[row["signal"]] += row["signal"] != 0
    return packed.tobytes(), struct.pack(f"<{len(gates)}I", *gates)


def ask(rows: Sequence[Row], *, policy: Any = "none", harts: int = 1, useful: int = USEFUL,
        nr_cpus: int = 64, livelock_retries: int = 100, work: Mapping[str, int] | None = None,
        **changes: Any) -> Question:
    """The question of these items under a policy, on the bare machine with changes."""
    found = policies.find(policy) if isinstance(policy, str) else policy
    program = ops.lower(found, nr_cpus=max(nr_cpus, harts))
    params = engine.pack("csim_params", {
        "harts": harts, "nr_cpus": max(nr_cpus, harts), "livelock_retries": livelock_retries,
        "zero": 0, "machine": bare(**changes), "workload": idle_work(useful, **(work or {})),
    })
    items, gates = pack_items(rows)
    return Question(params=params, header=program.header, ops=program.ops, items=items,
                    gates=gates)


def with_work(question: Question, **changes: int) -> Question:
    """The question with fields of its ``struct csim_workload`` changed, in C's units."""
    params = engine.ffi.new("struct csim_params *")
    engine.ffi.memmove(params, question.params, len(question.params))
    for name, value in changes.items():
        setattr(params.workload, name, value)
    return replace(question, params=bytes(engine.ffi.buffer(params)))


def run(rows: Sequence[Row], **named: Any) -> Result:
    """What comes out of ``ask``."""
    return engine.simulate(ask(rows, **named))


def spent(result: Result) -> dict[str, int]:
    """Every counter of cycles that is not zero, useful cycles left out; the run has ended well."""
    assert result.verdict == "ran", result
    return {c.name: result.counters[c.name] for c in engine.COUNTERS
            if c.unit == "cycles" and c.name not in ("useful_cycles", "wall_cycles")
            and result.counters[c.name]}
