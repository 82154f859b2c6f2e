"""The slow explorer: docs/abstract-machine.md in plain Python, breadth first, without reductions.

It exists to be obviously right: ``csim/explore.c`` must agree with it on verdict, property and the
length of the shortest counterexample, and every trace the engine finds is replayed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pysim.litmus import Litmus, Parameters
from pysim.ops import Program
from pysim.reference.machine import EVICT, FILL, Machine, Transition, Violated
from pysim.reference.state import State

__all__ = ["Machine", "Outcome", "Transition", "explore", "replay", "tell"]

_ORDER = ("S1", "S2", "S3", "S4")
IDLE = (FILL, EVICT)  # they change no guard: a state with nothing else is a deadlock


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a search found.

    ``verdict`` is verified, refuted or unknown; ``property`` and ``length`` (steps) belong to a
    refuted one; ``depth`` is the last level completely expanded; ``s5_length`` is where the ghost
    S5 first failed, which does not stop the search.
    """

    verdict: str
    property: str | None
    length: int | None
    trace: tuple[Transition, ...]
    states: int
    transitions: int
    depth: int
    s5_length: int | None


_Key: TypeAlias = tuple[object, ...]
_Parents: TypeAlias = "dict[_Key, tuple[_Key, Transition] | None]"


def _trace(parents: _Parents, key: _Key) -> list[Transition]:
    found: list[Transition] = []
    link = parents[key]
    while link is not None:
        key, transition = link
        found.append(transition)
        link = parents[key]
    return found[::-1]


def explore(program: Program, litmus: Litmus, parameters: Parameters | None = None, *,
            max_states: int = 1_000_000) -> Outcome:
    """Search every interleaving, breadth first; states are kept whole in a dict.

    Raises InputError when the program uses what the machine refuses.
    """
    machine = Machine(program, litmus, parameters or Parameters())
    start = machine.initial()
    parents: _Parents = {start.key(): None}
    level = [(start.key(), start)]
    transitions, depth = 0, 0
    s5 = 0 if machine.s5(start) else None

    def outcome(verdict: str, prop: str | None = None, trace: Sequence[Transition] = ()) -> Outcome:
        return Outcome(verdict=verdict, property=prop, length=len(trace) if prop else None,
                       trace=tuple(trace), states=len(parents), transitions=transitions,
                       depth=depth, s5_length=s5)

    while level:
        found: list[tuple[int, _Key, Transition]] = []
        deeper: list[tuple[_Key, State]] = []
        for here, state in level:
            stuck = True
            for transition in machine.transitions(state):
                stuck &= transition[1] in IDLE
                transitions += 1
                try:
                    after, _ = machine.apply(state, transition)
                except Violated as violated:
                    found.append((_ORDER.index(violated.prop), here, transition))
                    continue
                key = after.key()
                if key not in parents:
                    parents[key] = (here, transition)
                    deeper.append((key, after))
                    if s5 is None and machine.s5(after):
                        s5 = depth + 1
            over = litmus.chaos is not None or all(machine.finished(state, h)
                                                   for h in machine.harts)
            if stuck and not over:
                return outcome("refuted", "DL", _trace(parents, here))
        if found:
            order, here, transition = min(found, key=lambda f: f[0])
            return outcome("refuted", _ORDER[order], [*_trace(parents, here), transition])
        if len(parents) > max_states:
            return outcome("unknown")
        level = deeper
        depth += 1
    return outcome("verified")


def replay(program: Program, litmus: Litmus, parameters: Parameters | None,
           trace: Sequence[Transition], prop: str) -> str | None:
    """Follow a trace step by step; return None if it ends in ``prop``, else why it does not."""
    machine = Machine(program, litmus, parameters or Parameters())
    state = machine.initial()
    for position, transition in enumerate(trace):
        enabled = list(machine.transitions(state))
        if tuple(transition) not in enabled:
            return f"step {position + 1}: {transition} is not one of {enabled}"
        try:
            state, _ = machine.apply(state, transition)
        except Violated as violated:
            if position + 1 == len(trace) and violated.prop == prop:
                return None
            return f"step {position + 1} violates {violated}"
    if prop == "S5":
        return None if machine.s5(state) else "S5 holds at the end"
    stuck = all(kind in IDLE for _, kind, _ in machine.transitions(state))
    over = all(machine.finished(state, h) for h in machine.harts)
    if prop == "DL" and stuck and not over:
        return None
    return f"nothing is violated after {len(trace)} steps"


def tell(program: Program, litmus: Litmus, parameters: Parameters | None,
         trace: Sequence[Transition]) -> list[tuple[int, str]]:
    """Return (hart, what happened) for each step of a trace that can be followed."""
    machine = Machine(program, litmus, parameters or Parameters())
    state = machine.initial()
    story: list[tuple[int, str]] = []
    for transition in trace:
        try:
            state, text = machine.apply(state, transition)
        except Violated as violated:
            text = str(violated)
        story.append((transition[0], text))
    return story
