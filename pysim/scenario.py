"""A scenario: policy, machine, workload and seed; lowered to the plain bytes of one question.

Everything a person can say about one run is here, and nothing is clamped in silence: what cannot
be asked is refused with where, key and reason.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

from pydantic import Field, ValidationError, field_validator, model_validator

from pysim import engine, ops, policies, sourced
from pysim.engine import Question
from pysim.errors import InputError
from pysim.machines import Machine
from pysim.machines import load as load_machine
from pysim.machines.model import Frozen, complaint
from pysim.policies import own
from pysim.workloads import Workload
from pysim.workloads import load as load_workload

if TYPE_CHECKING:
    from pysim.workloads.replay import Replay

# Kconfig's default for 64-bit RISC-V up to 6.12 (facts/kernel.md 3)
NR_CPUS_DEFAULT: Final = 64


def _dressed(key: str, value: Any, where: str) -> Machine | Workload:
    """Turn a name, a path, or {inherit = NAME, field = value, ...} into a machine or workload."""
    load: Callable[[str | Path], Machine | Workload] = _LOADERS[key]
    if isinstance(value, Machine if key == "machine" else Workload):
        return value
    try:
        if isinstance(value, str | Path):
            return load(value)
        if isinstance(value, Mapping) and isinstance(value.get("inherit"), str):
            changes = {name: change for name, change in value.items() if name != "inherit"}
            return load(value["inherit"]).override(changes, where=where)
    except InputError as error:
        if error.where in (where, key):
            raise error.inside(where, key) from error
        raise InputError(where, key, str(error)) from error
    raise InputError(where, key, f"is a name, a file or a table with `inherit`, got {value!r}")


_LOADERS: Final[dict[str, Callable[[str | Path], Machine | Workload]]] = {
    "machine": load_machine,
    "workload": load_workload,
}


class Scenario(Frozen):
    """One run: a policy on a machine with a number of harts, under a workload and a seed."""

    policy: str = Field(
        description="name of a mapping policy, or FILE.py:NAME, a class of your own: it is run"
    )
    machine: Machine = Field(description="the machine; see ``build`` for how to name one")
    harts: Annotated[int, Field(strict=True, ge=1, le=engine.HARTS_MAX)] = Field(
        description="harts of this run; default: the machine's own"
    )
    workload: Workload = Field(description="the workload; see ``build`` for how to name one")
    root_seed: Annotated[int, Field(strict=True, ge=0, lt=2**64)] = Field(
        default=1, description="root of every draw"
    )
    replicate: Annotated[int, Field(strict=True, ge=0, lt=2**32)] = Field(
        default=0, description="number of the repetition: other draws, same question"
    )
    nr_cpus: Annotated[int, Field(strict=True, ge=1, le=engine.HARTS_MAX)] = Field(
        description="CONFIG_NR_CPUS; default: 64, or the next power of two that holds the harts"
    )
    livelock_retries: Annotated[int, Field(strict=True, ge=1, lt=2**32)] = Field(
        default=1000,
        description="faults on one access before the run is a livelock; assumed: ten times what a "
        "visibility window of 10 000 cycles can cause",
    )

    @field_validator("policy")
    @classmethod
    def _known(cls, value: str) -> str:
        if own.is_file(value):
            try:
                own.load(value)
            except InputError as error:
                raise complaint(str(error)) from error
        elif value not in policies.names():
            raise complaint(f"unknown policy {value!r}", got=value, nearest=policies.names())
        return value

    @model_validator(mode="after")
    def _possible(self) -> Scenario:
        if self.nr_cpus < self.harts:
            raise complaint(f"a kernel built for {self.nr_cpus} cannot run {self.harts} harts",
                            key="nr_cpus")
        return self

    @property
    def seed(self) -> int:
        """The seed of every draw: root seed, workload and replicate, nothing else."""
        return self.workload.seed(self.root_seed, self.replicate)

    @property
    def notes(self) -> tuple[str, ...]:
        """What lowering decided where the scenario does not say."""
        return self.machine.notes + self.workload.notes(self.machine, self.harts)


def build(values: Mapping[str, Any], where: str = "scenario") -> Scenario:
    """Return the scenario of a table: names become models, and what is not given its default.

    ``machine`` and ``workload`` are models, or names of presets, or paths of TOML files, or tables
    ``{inherit = NAME, field = value, ...}``; ``harts`` defaults to the machine's, ``nr_cpus`` to 64
    or the next power of two that holds the harts.
    Raises InputError with ``where``, key, reason and nearest name.
    """
    filled = dict(values)
    for key in _LOADERS:
        if key not in filled:
            raise InputError(where, key, "is not given")
        filled[key] = _dressed(key, filled[key], where)
    harts = filled.setdefault("harts", filled["machine"].harts)
    if isinstance(harts, int) and harts > 0:
        filled.setdefault("nr_cpus", max(NR_CPUS_DEFAULT, 1 << (harts - 1).bit_length()))
    else:
        filled.setdefault("nr_cpus", NR_CPUS_DEFAULT)
    try:
        return Scenario.model_validate(filled)
    except ValidationError as error:
        raise sourced.refused(error, lambda key: where, Scenario) from None


@lru_cache(maxsize=1024)
def _program(policy: str, nr_cpus: int, stamp: tuple[int, int]) -> ops.Program:
    return own.lower(own.load(policy), nr_cpus=nr_cpus)


def lower(scenario: Scenario, *, work: Replay | None = None) -> Question:
    """Lower a scenario to the bytes that cross the door.

    ``work`` is a recording that is no file: its mappings and its length replace the workload's.
    Raises InputError for a value that does not fit, EngineError for a program the engine refuses.
    """
    machine, workload = scenario.machine, scenario.workload
    program = _program(scenario.policy, scenario.nr_cpus, own.stamp(scenario.policy))
    values = workload.c_values(machine, scenario.seed, scenario.harts)
    if work is None:
        items, gates = workload.items(machine, scenario.harts, scenario.seed)
    else:
        items, gates = work.items, work.gates
        values |= {"synthetic": 0, "useful_cycles": max(workload.visit_cycles, work.useful_cycles)}
    params = engine.pack("csim_params", {
        "harts": scenario.harts,
        "nr_cpus": scenario.nr_cpus,
        "livelock_retries": scenario.livelock_retries,
        "zero": 0,
        "machine": machine.c_values(),
        "workload": values,
    })
    return Question(params=params, header=program.header, ops=program.ops, items=items,
                    gates=gates)


class _Shared(NamedTuple):
    """What the replicates of a scenario share: parameters round the seed, program, its digests."""

    before: bytes
    after: bytes
    header: bytes
    ops: bytes
    digests: bytes


class _Work(NamedTuple):
    """Items and gates that cross the door, and their digests."""

    items: bytes
    gates: bytes
    digests: bytes


class Lowering:
    """``lower`` for many scenarios: what they share is made once.

    The bytes are those of ``lower`` for a scenario that was built or validated: machines, workloads
    and programs are remembered by identity, seeds by workload, root seed and replicate, and the
    parameters are put together from their structs. A cache that is full is begun again. Drawn work,
    each replicate's own, is kept only as long as a few others.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], Any] = {}
        self._held: dict[int, object] = {}
        self._drawn: dict[tuple[Any, ...], tuple[_Work, object, object]] = {}
        self._last: tuple[Scenario, _Shared, _Work | None] | None = None

    def _once(self, key: tuple[Any, ...], make: Callable[[], Any], *held: object) -> Any:
        """Return what was made for a key; ``held`` objects are kept, for their ids are in it."""
        try:
            return self._made[key]
        except KeyError:
            pass
        if len(self._made) >= _CACHE_MAX:
            self._made.clear()
            self._held.clear()
        made = make()
        self._made[key] = made
        self._held.update((id(one), one) for one in held)
        return made

    def _at(self, scenario: Scenario) -> tuple[Scenario, _Shared, _Work | None]:
        """Return what a scenario's replicates share; their work too, unless each draws its own."""
        if self._last is None or self._last[0] is not scenario:
            workload = scenario.workload
            work = None if workload.draws_items else self._once(
                ("work", id(workload), id(scenario.machine), scenario.harts),
                lambda: _work(scenario, 0), workload, scenario.machine)
            self._last = scenario, self._shared(scenario), work
        return self._last

    def _shared(self, scenario: Scenario) -> _Shared:
        machine, workload, harts = scenario.machine, scenario.workload, scenario.harts
        key = (scenario.policy, id(machine), id(workload), harts, scenario.nr_cpus,
               scenario.livelock_retries)

        def make() -> _Shared:
            clock = (harts, id(machine)) if workload.trace else (0, machine.mhz)
            body = self._once((id(workload), *clock), lambda: _packed_workload(scenario),
                              workload, machine)
            hardware = self._once((id(machine),),
                                  lambda: engine.pack("csim_machine", machine.c_values()), machine)
            head = _HEAD.pack(harts, scenario.nr_cpus, scenario.livelock_retries, 0)
            params = head + body + hardware
            program = _program(scenario.policy, scenario.nr_cpus, own.stamp(scenario.policy))
            digests = engine.digest(program.header) + engine.digest(program.ops)
            return _Shared(params[:_SEED_AT], params[_SEED_AT + 8:], program.header, program.ops,
                           digests)

        shared: _Shared = self._once(key, make, machine, workload)
        return shared

    def _own_work(self, scenario: Scenario, replicate: int) -> _Work:
        """Draw a replicate's work, or remember it: other policies are asked about the same."""
        machine, workload = scenario.machine, scenario.workload
        seed = workload.seed(scenario.root_seed, replicate)
        key = (id(workload), id(machine), scenario.harts, seed)
        if key not in self._drawn:
            while len(self._drawn) >= _DRAWN_MAX:
                del self._drawn[next(iter(self._drawn))]
            self._drawn[key] = _work(scenario, seed), workload, machine
        return self._drawn[key][0]

    def _seed(self, scenario: Scenario, replicate: int) -> bytes:
        workload, root_seed = scenario.workload, scenario.root_seed
        key = "seed", id(workload), root_seed, replicate
        seed: bytes | None = self._made.get(key)   # asked twice for every run
        return seed or self._once(
            key, lambda: workload.seed(root_seed, replicate).to_bytes(8, "little"), workload)

    def key(self, scenario: Scenario) -> str:
        """Return the key of a scenario's question. Raises what ``lower`` raises."""
        return self.keys(scenario, range(scenario.replicate, scenario.replicate + 1))[0]

    def keys(self, scenario: Scenario, replicates: Iterable[int]) -> list[str]:
        """Return the keys of a scenario's replicates. Raises what ``lower`` raises."""
        _, shared, work = self._at(scenario)
        return [engine.key_of(shared.before + self._seed(scenario, replicate) + shared.after,
                              shared.digests
                              + (work or self._own_work(scenario, replicate)).digests)
                for replicate in replicates]

    def __call__(self, scenario: Scenario, replicate: int | None = None) -> Question:
        """Return a scenario's question, or another replicate's. Raises what ``lower`` raises."""
        number = scenario.replicate if replicate is None else replicate
        _, shared, work = self._at(scenario)
        items, gates, _ = work or self._own_work(scenario, number)
        return Question(params=shared.before + self._seed(scenario, number) + shared.after,
                        header=shared.header, ops=shared.ops, items=items, gates=gates)


_CACHE_MAX: Final = 100_000
_DRAWN_MAX: Final = 64   # up to a megabyte each
# struct csim_params: four numbers, the workload, the machine; without gaps, or ``lower`` differs
_HEAD: Final = struct.Struct("<4I")
_SEED_AT: Final = engine.offset("csim_params", "workload") + engine.offset("csim_workload", "seed")


def _work(scenario: Scenario, seed: int) -> _Work:
    items, gates = scenario.workload.items(scenario.machine, scenario.harts, seed)
    return _Work(items, gates, hashlib.sha256(items).digest() + hashlib.sha256(gates).digest())


def _packed_workload(scenario: Scenario) -> bytes:
    workload = scenario.workload
    return engine.pack("csim_workload", workload.c_values(scenario.machine, 0, scenario.harts))
