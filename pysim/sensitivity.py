"""Assumptions that could change the ranking of the policies: every assumed cost, halved to doubled.

Every cost of a machine that is `assumed` is varied by x0.5 to x2: each alone at both ends, and all
together along Morris trajectories (M. Morris, Technometrics 33, 1991): from a random start one cost
after the other takes a step, so each step shows what one cost does among others that are off too.
Effects are in percentage points of overhead per doubling. A policy overtakes another when the order
of the two is reversed by more than a margin on both sides. Equal seeds: every run meets the same
work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Final

from pysim import counters, engine, scenario
from pysim.engine import Question, Result
from pysim.errors import InputError
from pysim.machines import Machine
from pysim.workloads.drawn import draw

LEVELS: Final = (Fraction(1, 2), Fraction(1), Fraction(2))
"""Factors of a cost: a step of a trajectory goes from one to the next."""

ENDINGS: Final = ("_cycles", "_millicycles", "_instructions")
"""Names of costs end so."""

MARGIN: Final = Fraction(1, 10_000)
"""Overheads closer than this part of useful work (0.01 points) are not told apart.
assumed: below what any measurement of a kernel resolves."""

Setting = tuple[Fraction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """One assumed cost and what varying it did.

    ``effects`` are points of overhead per doubling, by policy, the mean of their sizes; ``alone``
    and ``among`` the pairs of policies that changed places, varied alone or along trajectories.
    """

    path: str
    value: int
    why: str
    effects: dict[str, Fraction] = field(default_factory=dict)
    alone: tuple[str, ...] = ()
    among: Counter[str] = field(default_factory=Counter)

    @property
    def strongest(self) -> tuple[str, Fraction]:
        """The policy whose overhead depends on it most, and how much."""
        return max(self.effects.items(), key=lambda pair: pair[1], default=("", Fraction(0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The answer: the ranking as assumed, each assumption, and how often the ranking held."""

    machine: str
    ranking: tuple[tuple[str, Fraction], ...]
    unsafe: tuple[str, ...]
    assumptions: tuple[Assumption, ...]
    settings: int
    runs: int
    held: int
    """Settings in which no pair of policies had changed places."""


def assumed_costs(machine: Machine) -> dict[str, int]:
    """Return the costs of a machine that nobody measured, by field.

    Costs of 0 cannot be scaled, and what fences would cost on another way is not paid here.
    """
    elsewhere = tuple(f"{via}_" for via in engine.VIA if via != machine.via)
    return {path: value for path, value in machine.flat().items()
            if path.endswith(ENDINGS) and isinstance(value, int) and value > 0
            and not path.startswith(elsewhere)
            and machine.provenance(path).startswith("assumed")}


def trajectories(costs: int, number: int, seed: int) -> list[list[Setting]]:
    """Return Morris trajectories: paths of ``costs`` steps, one cost at a time, each path its own.

    Every cost moves one level up or down once; order, start and direction are drawn.
    """
    found = []
    for path in range(number):
        bits = [draw(seed, "morris", path, index) for index in range(costs)]
        at = [Fraction(LEVELS[value % len(LEVELS)]) for value in bits]
        settings = [tuple(at)]
        for index in sorted(range(costs), key=lambda index: bits[index] >> 8):
            position = LEVELS.index(at[index])
            up = position == 0 or (position == 1 and bits[index] >> 4 & 1)
            at[index] = LEVELS[position + 1 if up else position - 1]
            settings.append(tuple(at))
        found.append(settings)
    return found


def overtaken(before: dict[str, Fraction], after: dict[str, Fraction]) -> list[str]:
    """Return the pairs that changed places: "a before b" where b led."""
    shared = [name for name in before if name in after]
    return [f"{one} before {other}" for one in shared for other in shared
            if before[one] - before[other] > MARGIN and after[other] - after[one] > MARGIN]


@dataclass(kw_only=True)
class _Runs:
    """Runs of the policies at a setting of the costs, each setting once."""

    base: scenario.Scenario
    policies: Sequence[str]
    costs: dict[str, int]
    simulate: Callable[[Question], Result]
    made: dict[Setting, dict[str, Fraction]] = field(default_factory=dict)

    def at(self, setting: Setting) -> dict[str, Fraction]:
        """Return the overhead of every policy that ran to the end."""
        changes = {path: max(1, round(value * factor))
                   for (path, value), factor in zip(self.costs.items(), setting, strict=True)}
        machine = self.base.machine.override(changes, where="sensitivity")
        overheads = {}
        for policy in self.policies:
            asked = self.base.model_copy(update={"machine": machine, "policy": policy})
            found = counters.overhead(self.simulate(scenario.lower(asked)))
            if found is not None:
                overheads[policy] = Fraction(found.total)
        return overheads

    def all(self, settings: Iterable[Setting], workers: int) -> None:
        """Make every setting's runs; the engine holds no lock."""
        missing = [s for s in dict.fromkeys(settings) if s not in self.made]
        with ThreadPoolExecutor(workers) as pool:
            self.made.update(zip(missing, pool.map(self.at, missing), strict=True))


def study(base: scenario.Scenario, policies: Sequence[str], *, paths: int = 6, seed: int = 1,
          workers: int = 2, simulate: Callable[[Question], Result] = engine.simulate) -> Study:
    """Vary every assumed cost of a scenario's machine and compare the policies at each setting.

    Raises InputError when fewer than two policies are compared, or nothing is assumed.
    """
    costs = assumed_costs(base.machine)
    if len(policies) < 2:
        raise InputError("sensitivity", "policy", "a ranking has two policies or more")
    if not costs:
        raise InputError("sensitivity", "machine", f"no cost of {base.machine.name} is assumed")
    runs = _Runs(base=base, policies=policies, costs=costs, simulate=simulate)
    middle: Setting = (Fraction(1),) * len(costs)
    ends = {path: [tuple(factor if other == path else Fraction(1) for other in costs)
                   for factor in (LEVELS[0], LEVELS[-1])] for path in costs}
    walked = trajectories(len(costs), paths, seed)
    runs.all([middle, *(s for pair in ends.values() for s in pair),
              *(s for path in walked for s in path)], workers)
    now = runs.made[middle]
    assumptions = [_assumption(base.machine, path, index, runs, ends[path], walked)
                   for index, path in enumerate(costs)]
    return Study(
        machine=base.machine.name,
        ranking=tuple(sorted(now.items(), key=lambda pair: pair[1])),
        unsafe=tuple(name for name in policies if name not in now),
        assumptions=tuple(sorted(assumptions, key=lambda one: (
            -len(one.alone), -sum(one.among.values()), -one.strongest[1]))),
        settings=len(runs.made), runs=len(runs.made) * len(policies),
        held=sum(not overtaken(now, found) for found in runs.made.values()))


def _assumption(machine: Machine, path: str, index: int, runs: _Runs, ends: Sequence[Setting],
                walked: Sequence[Sequence[Setting]]) -> Assumption:
    now = runs.made[(Fraction(1),) * len(runs.costs)]
    among: Counter[str] = Counter()
    sizes: dict[str, list[Fraction]] = {name: [] for name in now}
    for settings in walked:
        for before, after in pairwise(settings):
            if before[index] == after[index]:
                continue
            one, other = runs.made[before], runs.made[after]
            among.update(overtaken(one, other))
            for name in sizes.keys() & one.keys() & other.keys():
                sizes[name].append(abs(other[name] - one[name]) * 100)
    return Assumption(
        path=path, value=runs.costs[path], why=machine.provenance(path).removeprefix("assumed: "),
        effects={name: sum(found, Fraction(0)) / len(found)
                 for name, found in sorted(sizes.items()) if found},
        alone=tuple(dict.fromkeys(pair for end in ends
                                  for pair in overtaken(now, runs.made[end]))),
        among=among)
