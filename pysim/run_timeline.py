"""A run as a timeline: the engine's event log in the trace-event format of Chrome and Perfetto.

One track per hart: items of the work, traps, interrupts of other harts' shootdowns and the waits
for one's own are slices that nest; stores, fences, marks and faults are instants inside them. Time
is in microseconds of the machine's clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pysim import engine
from pysim.engine import Logged
from pysim.ops import Program

_ITEMS: Final = {number: name for name, number in engine.ITEMS.items()}
_FAILS: Final = {number: name for name, number in engine.WALK_FAILS.items()}
_OPENS: Final = frozenset({"item", "send", "take", "trap"})
_CLOSES: Final = {"item_end": ("item",), "waited": ("send",), "sret": ("trap", "take"),
                  "fail": ("trap",)}
_BY_ASID, _BY_FIRMWARE, _FOR_ANOTHER = 1, 2, 4
_INTERRUPT: Final = 1 << 63
#: Ops that only cost, or whose effect has an entry of its own.
_UNTOLD: Final = frozenset({"end", "spend", "jump", "when", "store_ptes", "fence", "shootdown",
                            "ack", "publish", "retry", "fall_through"})
_OPS: Final = {number: name for name, number in engine.OPS.items()}


def _op_kind(program: Program, op: int) -> str:
    return _OPS[program.ops[op * engine.OP_BYTES]]


def _slice_name(entry: Logged) -> str:
    if entry.kind == "item":
        return _ITEMS[entry.value]
    if entry.kind == "send":
        return "shootdown: wait" if entry.value else "shootdown of everything: wait"
    if entry.kind == "take":
        return f"IPI of hart {entry.value}"
    if entry.value & _INTERRUPT:
        return f"interrupt {entry.value & ~_INTERRUPT}"
    return f"fault {entry.value} at {entry.va:#x}"


def _fence_name(entry: Logged) -> str:
    words = ["sfence.vma"] if not entry.value else [f"sfence.vma {entry.va:#x}"]
    if entry.detail & _BY_ASID:
        words.append("asid")
    if entry.detail & _BY_FIRMWARE:
        words.append("(firmware)")
    elif entry.detail & _FOR_ANOTHER:
        words.append("(broadcast)")
    return " ".join(words)


def _instant_name(entry: Logged, program: Program) -> str | None:
    """Return what an entry says at one moment; None: nothing worth a mark."""
    if entry.kind == "op":
        told = _op_kind(program, entry.detail) not in _UNTOLD
        return program.texts[entry.detail] if told else None
    if entry.kind == "store":
        return f"store PTE {entry.va:#x}" if entry.value else f"clear PTE {entry.va:#x}"
    if entry.kind == "access":
        return f"{_FAILS[entry.detail]} {entry.va:#x}" if entry.detail else None
    return {"fence": _fence_name, "publish": lambda _: "published",
            "firmware": lambda e: f"fence for hart {e.value}",
            "ack": lambda e: f"acknowledged to hart {e.value}",
            "fail": lambda _: "nobody resolves the fault",
            "stack": lambda _: "another stack"}.get(entry.kind, lambda _: None)(entry)


def _track(log: Sequence[Logged], hart: int, program: Program, mhz: float
           ) -> Iterator[dict[str, Any]]:
    """Yield one hart's events in the order of time; every slice that opens is closed."""
    common = {"pid": 0, "tid": hart, "cat": "run"}
    opened: list[str] = []
    last = 0.0
    for entry in log:
        at = last = entry.at_cycles / mhz
        if entry.kind in _OPENS:
            opened.append(entry.kind)
            yield common | {"ph": "B", "ts": at, "name": _slice_name(entry),
                            "args": {"va": hex(entry.va), "cycle": entry.at_cycles}}
        name = _instant_name(entry, program)
        if name is not None:
            yield common | {"ph": "i", "s": "t", "ts": at, "name": name,
                            "args": {"cycle": entry.at_cycles}}
        if opened and opened[-1] in _CLOSES.get(entry.kind, ()):
            opened.pop()
            yield common | {"ph": "E", "ts": at}
    for _ in opened:                    # a verdict ended the run inside
        yield common | {"ph": "E", "ts": last}


def chrome(log: Sequence[Logged], program: Program, *, harts: int, mhz: float,
           about: dict[str, Any]) -> str:
    """Return a run's log as a trace; ``mhz`` is the machine's clock, ``about`` is kept with it."""
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 0, "tid": hart, "name": "thread_name", "args": {"name": f"hart {hart}"}}
        for hart in range(harts)
    ]
    for hart in range(harts):
        own = sorted((entry for entry in log if entry.hart == hart),
                     key=lambda entry: entry.at_cycles)
        events += _track(own, hart, program, mhz)
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ns", "otherData": about})
