"""Assumptions that could change the ranking of the policies: every assumed cost, halved to doubled.

Every cost of a machine that is `assumed` is varied by x0.5 to x2: each alone at both ends, and all
together along Morris trajectories (M. Morris, Technometrics 33, 1991): from a random start one cost
after the other takes a step, so each step shows what one cost does among others that are off too.
Effects are in percentage points of overhead per doubling. If asked, all are also drawn together,
log-uniformly, for total Sobol' indices: the share of an overhead's variance that a cost has a part
in (scipy.stats.sobol_indices, after Saltelli 2010).

A policy overtakes another when the order of the two is reversed by more than a margin on both
sides. A policy that becomes unsafe at a setting has no overhead there, and its place is lost too.
Equal seeds: every run meets the same work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from pysim import counters, engine, scenario
from pysim.engine import Question, Result
from pysim.errors import InputError
from pysim.machines import Machine
from pysim.workloads.drawn import draw

if TYPE_CHECKING:
    import numpy as np

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
    and ``among`` the pairs of policies that changed places, varied alone or by a step among others
    (there or back, counted against the ranking as assumed: a step may end in a tie);
    ``shares`` total Sobol' indices by policy, parts of 1, empty when not asked for.
    """

    path: str
    value: int
    why: str
    effects: dict[str, Fraction] = field(default_factory=dict)
    alone: tuple[str, ...] = ()
    among: Counter[str] = field(default_factory=Counter)
    shares: dict[str, float] = field(default_factory=dict)

    @property
    def strongest(self) -> tuple[str, Fraction]:
        """The policy whose overhead depends on it most, and how much."""
        return max(self.effects.items(), key=lambda pair: pair[1], default=("", Fraction(0)))

    @property
    def reverses(self) -> bool:
        """Whether it changed the ranking, alone or among others."""
        return bool(self.alone or self.among)


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
    """Settings in which no pair of policies had changed places and all were safe."""
    unsafe_at: dict[str, int] = field(default_factory=dict)
    """In how many settings a ranked policy ended in a verdict, for those that did."""

    @property
    def tied(self) -> tuple[str, ...]:
        """Neighbours in the ranking that are not told apart: "a and b"."""
        return tuple(f"{one} and {other}" for (one, before), (other, after)
                     in pairwise(self.ranking) if after - before <= MARGIN)


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


def sobol_shares(runs: _Runs, ranked: Sequence[str], points: int, seed: int, workers: int
                 ) -> dict[str, list[float]]:
    """Return total Sobol' indices of the overheads: by policy, one for each cost in its order.

    ``points`` is a power of two; (costs + 2) times as many settings are run. An overhead that does
    not vary has no shares: 0. Where a policy is unsafe, its overhead as assumed stands in.
    """
    import numpy as np
    from scipy.stats import sobol_indices, uniform

    now = runs.made[(Fraction(1),) * len(runs.costs)]

    def overheads(doublings: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        settings = [tuple(Fraction(2.0 ** float(value)) for value in column)
                    for column in doublings.T]
        runs.all(settings, workers)
        return np.array([[float(runs.made[setting].get(name, now[name])) for setting in settings]
                         for name in ranked])

    named = {"func": overheads, "n": points, "dists": [uniform(loc=-1, scale=2)] * len(runs.costs)}
    generator = np.random.default_rng(seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        try:
            found = sobol_indices(**named, rng=generator)
        except TypeError:   # scipy before 1.15 calls it so
            found = sobol_indices(**named, random_state=generator)
    totals = np.clip(np.nan_to_num(np.atleast_2d(found.total_order)), 0, 1)
    return {name: [float(share) for share in row]
            for name, row in zip(ranked, totals, strict=True)}


def study(base: scenario.Scenario, policies: Sequence[str], *, paths: int = 6, sobol: int = 0,
          seed: int = 1, workers: int = 2,
          simulate: Callable[[Question], Result] = engine.simulate) -> Study:
    """Vary every assumed cost of a scenario's machine and compare the policies at each setting.

    ``paths`` Morris trajectories; ``sobol`` points for Sobol' indices, a power of two, 0: none.
    Raises InputError when fewer than two policies are compared, or nothing is assumed, or
    ``sobol`` is no power of two.
    """
    if sobol & (sobol - 1):
        raise InputError("sensitivity", "sobol", f"is a power of two, got {sobol}")
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
    ranked = [name for name in policies if name in now]
    shares = sobol_shares(runs, ranked, sobol, seed, workers) if sobol and ranked else {}
    assumptions = [replace(_assumption(base.machine, path, index, runs, ends[path], walked),
                           shares={name: parts[index] for name, parts in shares.items()})
                   for index, path in enumerate(costs)]
    lost = {name: sum(name not in found for found in runs.made.values()) for name in ranked}
    return Study(
        machine=base.machine.name,
        ranking=tuple(sorted(now.items(), key=lambda pair: pair[1])),
        unsafe=tuple(name for name in policies if name not in now),
        unsafe_at={name: times for name, times in lost.items() if times},
        assumptions=tuple(sorted(assumptions, key=lambda one: (
            -len(one.alone), -sum(one.among.values()), -one.strongest[1]))),
        settings=len(runs.made), runs=len(runs.made) * len(policies),
        held=sum(now.keys() <= found.keys() and not overtaken(now, found)
                 for found in runs.made.values()))


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
            among.update({*overtaken(now, one)} ^ {*overtaken(now, other)})
            for name in sizes.keys() & one.keys() & other.keys():
                sizes[name].append(abs(other[name] - one[name]) * 100)
    return Assumption(
        path=path, value=runs.costs[path], why=machine.provenance(path).removeprefix("assumed: "),
        effects={name: sum(found, Fraction(0)) / len(found)
                 for name, found in sorted(sizes.items()) if found},
        alone=tuple(dict.fromkeys(pair for end in ends
                                  for pair in overtaken(now, runs.made[end]))),
        among=among)
