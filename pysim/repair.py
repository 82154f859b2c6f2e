"""Which single change of a policy's steps makes a scenario pass, found by trying them all.

A change swaps two neighbours, drops one step, or adds a barrier or a fence. Every change that a
handler of the scenario allows is lowered and searched like any policy; what passes is then asked
in the other scenarios too, so that a cure which breaks something else is not praised.

Left out: changes that need two steps, and those of conditions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pysim import ops
from pysim.check import Search, check
from pysim.errors import InputError
from pysim.litmus import Litmus, Parameters
from pysim.ops import ALL, Mark, Policy, Step, Steps, When

#: Handlers a scenario can run, by the action that calls them; traps always can happen.
_CALLED: Final = {"map": "map_kernel", "unmap": "unmap_kernel", "purge": "purge_kernel",
                  "flush": "flush_kernel", "switch": "switch_task"}
_TRAPS: Final = ("early_trap", "kernel_fault", "ipi")
#: What may be added, from the cheapest.
_ADDED: Final = (
    ops.store_barrier("w_w"),
    ops.store_barrier("rw_rw"),
    ops.fence(ALL),
)
#: What may be dropped: without these a policy still maps, publishes and returns from its traps.
_DROPPED: Final = frozenset({"fence", "store_barrier", "mark", "clear_mark", "shootdown", "ack",
                             "touch_stack", "touch", "allocate", "defer", "flush_deferred",
                             "sync_context"})
#: Most states a changed policy may take: it is compared with one that was refuted.
_STATES: Final = 200_000


@dataclass(frozen=True)
class Edited:
    """A policy with other handlers; it answers to the engine's handler names only."""

    name: str
    marks: tuple[Mark, ...]
    steps: dict[str, list[Steps]] = field(hash=False)

    def __getattr__(self, name: str) -> Any:
        steps = self.__dict__.get("steps", {})
        if name not in steps:
            raise AttributeError(name)
        return lambda: steps[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """A single change after which the scenario is verified.

    ``text`` says what changes and where; ``others`` names the scenarios that are still refuted
    with it, ``worse`` those that were verified before and no longer are.
    """

    text: str
    policy: Edited
    others: tuple[str, ...]
    worse: tuple[str, ...]


Change = tuple[str, list[Steps]]


def _name(step: Steps) -> str:
    if isinstance(step, When):
        return f"when {step.condition}"
    return step.insn if step.op in ("store_barrier", "fence") and step.insn else step.text


def _costs_only(step: Steps) -> bool:
    if isinstance(step, When):
        return all(map(_costs_only, (*step.then, *step.otherwise)))
    return step.op == "spend"


def _here(steps: Sequence[Steps]) -> Iterator[Change]:
    """Yield the changes of one list of steps, each with what it does."""
    whole = list(steps)
    real = [at for at, step in enumerate(whole) if not _costs_only(step)]
    for first, second in itertools.pairwise(real):
        a, b = whole[first], whole[second]
        if a != b:
            swapped = list(whole)
            swapped[first], swapped[second] = b, a
            yield f"swap {_name(a)!r} and {_name(b)!r}", swapped
    for at in real:
        step = whole[at]
        if isinstance(step, Step) and step.op in _DROPPED:
            yield f"drop {_name(step)!r}", whole[:at] + whole[at + 1:]
    for added in _ADDED:
        for at in real:
            yield f"add {added.insn!r} before {_name(whole[at])!r}", [
                *whole[:at], added, *whole[at:]]
        if not whole or not _leaves(whole[-1]):
            where = f"after {_name(whole[-1])!r}" if whole else "as its only step"
            yield f"add {added.insn!r} {where}", [*whole, added]


def _leaves(step: Steps) -> bool:
    return isinstance(step, Step) and step.op in ("retry", "fall_through", "fail")


def _deep(steps: Sequence[Steps]) -> Iterator[Change]:
    """Yield the changes of a list of steps and of every list inside its conditions."""
    yield from _here(steps)
    for at, step in enumerate(steps):
        if not isinstance(step, When) or _costs_only(step):
            continue
        for text, then in _deep(step.then):
            yield text, [*steps[:at], replace(step, then=tuple(then)), *steps[at + 1:]]
        for text, otherwise in _deep(step.otherwise) if step.otherwise else ():
            yield text, [*steps[:at], replace(step, otherwise=tuple(otherwise)), *steps[at + 1:]]


def changes(policy: Policy, scenario: Litmus) -> Iterator[tuple[str, Edited]]:
    """Yield every single change that can matter in a scenario: what it does, and the policy."""
    called = {_CALLED[a.kind] for script in scenario.scripts for a in script if a.kind in _CALLED}
    handlers = dict(ops.handlers(policy))
    for name in (*_CALLED.values(), *_TRAPS):
        if name not in called and name not in _TRAPS:
            continue
        for text, steps in _deep(handlers.get(name, [])):
            yield f"{name}: {text}", Edited(policy.name, policy.marks, {**handlers, name: steps})


def find(policy: Policy, scenario: Litmus, parameters: Parameters, search: Search, *,
         others: Sequence[Litmus] = (), nr_cpus: int = 64, most: int = 3) -> list[Repair]:
    """Return single changes that make the scenario pass, at most ``most``, the best first.

    The best leave the fewest of ``others`` refuted; among equals the first tried wins: swaps, then
    drops, then what is added, from the cheapest. One that refutes what was verified is named only
    when there is no other. Policies that lower to the same ops count once.
    """
    limited = replace(search, max_states=min(search.max_states, _STATES))
    tried: set[tuple[bytes, bytes]] = set()
    passing: list[tuple[str, Edited]] = []
    for text, edited in changes(policy, scenario):
        program = ops.lower(edited, nr_cpus=nr_cpus)
        key = (program.header, program.ops)
        if key in tried:
            continue
        tried.add(key)
        try:
            if check(program, scenario, parameters, limited).verdict == "verified":
                passing.append((text, edited))
        except InputError:
            continue  # the engine refuses this one
    before = _refuted(policy, others, parameters, limited, nr_cpus)
    repairs = []
    for text, edited in passing:
        after = _refuted(edited, others, parameters, limited, nr_cpus)
        worse = tuple(name for name in after if name not in before)
        repairs.append(Repair(text=text, policy=edited, others=after, worse=worse))
    harmless = [repair for repair in repairs if not repair.worse] or repairs
    harmless.sort(key=lambda repair: (len(repair.worse), len(repair.others)))
    return harmless[:most]


def _refuted(policy: Policy, scenarios: Sequence[Litmus], parameters: Parameters, search: Search,
             nr_cpus: int) -> tuple[str, ...]:
    program = ops.lower(policy, nr_cpus=nr_cpus)
    return tuple(s.name for s in scenarios
                 if check(program, s, parameters, search).verdict != "verified")
