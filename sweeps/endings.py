"""How a run ended that did not end well: what, on which hart, when, and what led to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sweeps.tables import Column, Table

if TYPE_CHECKING:
    from pysim.engine import Question, Result

LAST: Final = 20
"""Events of the whole machine that are shown before the end."""

WHAT: Final = {
    "oops": "a kernel page fault that nobody resolved",
    "livelock": "one access faulted again and again, and was retried each time",
    "stack overflow": "traps nested until the stack had no room: a fault inside the entry of a "
                      "trap is taken for one from user mode, and nests",
    "deadlock": "every hart waits for another",
    "stale use": "a freed mapping answered an access",
}


def tables(question: Question, result: Result, mhz: int) -> list[Table]:
    """Return the end of a run that ended in a verdict, and the last events; nothing if it ran."""
    from pysim import engine

    if result.verdict == "ran":
        return []
    _, events = engine.last_logged(question, LAST)
    at_us = result.verdict_at_cycles / mhz
    facts = (("what", WHAT[result.verdict]), ("hart", str(result.verdict_hart)),
             ("when", f"cycle {result.verdict_at_cycles:,}, {at_us:,.3f} us"),
             ("address", f"{result.verdict_va:#x}"))
    text = ("kind", "address", "value")
    columns = (Column(name="cycle"), Column(name="hart"),
               *(Column(name=name, style="text") for name in text), Column(name="detail"))
    rows = tuple((e.at_cycles, e.hart, e.kind, f"{e.va:#x}" if e.va else "", f"{e.value:#x}"
                  if e.value else "", e.detail) for e in events)
    notes = tuple(f"{kind}: {engine.LOG_KINDS[kind]}"
                  for kind in dict.fromkeys(event.kind for event in events))
    return [Table(title=f"the run ended: {result.verdict}", rows=facts,
                  columns=tuple(Column(name=name, style="text") for name in ("", "this run"))),
            Table(title=f"the last {len(events)} events", columns=columns, rows=rows, notes=notes)]
