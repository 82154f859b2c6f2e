"""Is a policy safe? The explorer's answer, its counterexample replayed, and what it rests on.

``check`` asks one question: a policy, a scenario, what is assumed of the machine. A refutation is
believed only after the slow explorer of ``pysim.reference`` has followed it step by step.
``machine_parameters`` says what a preset allows, ``hardware`` where else a policy breaks,
``anywhere`` whether it holds for any number of harts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pysim import engine, litmus, reference
from pysim.errors import EngineError, FencelabError, InputError, StoppedError
from pysim.litmus import ACTIONS, INVALIDS, ORDERS, REGIONS, TLBS, Litmus, Parameters
from pysim.ops import Program
from pysim.policies import own

_NONE: Final = 2**32 - 1
#: States up to which they are kept whole and compared; beyond, 64-bit fingerprints stand for them.
EXACT_STATES: Final = 10**7
_PAGE_BYTES: Final = 4096
#: Most questions are small: memory is tried in these steps before all of it is asked for.
_LESS_BYTES: Final = (2**24, 2**28)
#: What the machine that the manual allows is called; every other name is a preset or a file.
SPEC: Final = "spec"

#: docs/abstract-machine.md, section 9.
ASSUMPTIONS: Final = (
    "explicit loads are performed in program order",
    "memory is multi-copy atomic",
    "PTE stores are full width",
    "locks order what they protect",
    "left out: ASIDs, superpages, A and D updates, hotplug, root tables, the reads of the stack on "
    "a return to the kernel",
)

#: What S1 to S5 and DL say, docs/abstract-machine.md, section 6.
PROPERTIES: Final = dict(engine.EXPLORE_PROPERTIES)


class UnreplayableError(FencelabError):
    """A counterexample that the slow explorer does not follow: a bug of ours, never a verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How to search.

    ``exact`` None: states are kept whole up to ``EXACT_STATES`` and as long as memory lasts, then
    fingerprints. ``symmetry`` and ``eager`` are reductions that keep the verdict. The hash seed
    moves nothing but where fingerprints lie. ``stop`` ends every search that has it.
    """

    exact: bool | None = None
    symmetry: bool = True
    eager: bool = True
    max_states: int = 100_000_000
    max_memory_bytes: int = 2**30
    hash_seed: int = 0
    stop: engine.Stop | None = None

    def __post_init__(self) -> None:
        if self.max_states < 1:
            raise InputError("options", "max_states", "at least 1")
        if not 2**20 <= self.max_memory_bytes < 2**40:
            raise InputError("options", "max_memory", "1 MiB or more, less than 1 TiB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One verdict.

    ``verdict`` is verified, refuted or unknown; ``property`` and ``length`` (steps) belong to a
    refuted one, ``limit`` to an unknown one. No counterexample of ``depth`` steps or fewer was
    missed. ``exact`` False: states were compared by fingerprints.
    """

    program: Program
    scenario: Litmus
    parameters: Parameters
    found: engine.Explored
    exact: bool

    @property
    def policy(self) -> str:
        """The policy's name."""
        return self.program.name

    @property
    def verdict(self) -> str:
        """Verified, refuted or unknown."""
        return self.found.verdict

    @property
    def cell(self) -> str:
        """The verdict in a table's cell: ``ok``, ``S2@24`` or ``?``."""
        refuted = f"{self.found.property}@{self.found.length}"
        return {"verified": "ok", "refuted": refuted, "unknown": "?"}[self.verdict]

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the verdict rests on."""
        if self.scenario.chaos is None:
            scripts = "scripts are finite: nothing is said of more harts, pages or mappings"
        else:
            scripts = "one hart and one page are exact, everything else may happen at any moment"
        found = [*ASSUMPTIONS, scripts]
        if not self.exact and self.verdict == "verified":
            chance = self.found.states**2 / 2**65
            found.append("states were compared by 64-bit fingerprints: the chance that one was "
                         f"lost is about {chance:.1g}")
        return tuple(found)


def question(scenario: Litmus, parameters: Parameters, *, exact: bool = True,
             symmetry: bool = True, eager: bool = False, max_states: int = EXACT_STATES,
             max_memory_bytes: int = 2**30, hash_seed: int = 0) -> dict[str, Any]:
    """Return a ``struct csim_explore_question`` by field names."""
    return {
        "harts": scenario.harts,
        "pages": scenario.pages,
        "below": sum(1 << page for page in scenario.table),
        "region": REGIONS.index(scenario.region),
        "stack_first": scenario.stack,
        "stack_pages": scenario.stack_pages,
        "frame_pages": scenario.frame,
        "object": _NONE if scenario.object is None else scenario.object,
        "ipi_allocates": int(scenario.ipi_allocates),
        "order": ORDERS.index(parameters.order),
        "invalid": INVALIDS.index(parameters.invalid),
        "nonleaf": int(parameters.nonleaf),
        "tlb": TLBS.index(parameters.tlb),
        "svvptc": int(parameters.svvptc),
        "svvptc_k": _NONE if parameters.svvptc_k is None else parameters.svvptc_k,
        "via": engine.VIA[parameters.via],
        "sbi_limit_pages": parameters.sbi_limit_pages,
        "retries": scenario.retries(parameters),
        "nesting": parameters.nesting,
        "cpus": cpus(scenario, parameters),
        "actions_nr": [len(script) for script in scenario.scripts],
        "actions": [
            [{"kind": ACTIONS.index(a.kind), "first": a.first, "pages": a.pages, "frame": a.frame,
              "count": a.count, "masked": int(a.masked)} for a in script]
            for script in scenario.scripts
        ],
        "chaos": _NONE if scenario.chaos is None else scenario.chaos,
        "exact": int(exact),
        "symmetry": int(symmetry),
        "eager": int(eager),
        "max_states": max_states,
        "max_memory_bytes": max_memory_bytes,
        "hash_seed": hash_seed,
    }


def cpus(scenario: Litmus, parameters: Parameters) -> list[int]:
    """Return the CPU number of each hart; harts beyond those given follow on."""
    given = list(parameters.cpus[: scenario.harts])
    while len(given) < scenario.harts:
        given.append(max(given, default=-1) + 1)
    return given


def _searched(program: Program, scenario: Litmus, parameters: Parameters, search: Search, *,
              exact: bool) -> engine.Explored:
    most = min(search.max_states, EXACT_STATES) if search.exact is None and exact else (
        search.max_states)
    asked = question(
        scenario, parameters, exact=exact, symmetry=search.symmetry, eager=search.eager,
        max_states=most, max_memory_bytes=search.max_memory_bytes, hash_seed=search.hash_seed)
    for less in _LESS_BYTES:
        if less < search.max_memory_bytes:
            small = {**asked, "max_memory_bytes": less}
            found = engine.explore(small, program.header, program.ops, stop=search.stop)
            if found.limit != "memory":
                return found
    return engine.explore(asked, program.header, program.ops, stop=search.stop)


def check(program: Program, scenario: Litmus, parameters: Parameters | None = None,
          search: Search | None = None) -> Checked:
    """Search every interleaving of a scenario under a policy.

    Raises InputError when the explorer refuses the policy in this scenario, UnreplayableError when
    a refutation cannot be followed by the slow explorer, and StoppedError when it was stopped.
    """
    parameters, search = parameters or Parameters(), search or Search()
    exact = search.exact is not False
    try:
        found = _searched(program, scenario, parameters, search, exact=exact)
        ran_out = found.limit == "memory" or (
            found.limit == "states" and found.states < search.max_states)
        if search.exact is None and ran_out:
            exact = False
            found = _searched(program, scenario, parameters, search, exact=False)
    except EngineError as refused:
        raise InputError(f"policy {program.name}", f"scenario {scenario.name}",
                         str(refused)) from refused
    if found.limit == "interrupted":
        raise StoppedError("the search was stopped before its end")
    if found.verdict == "refuted":
        _replay(program, scenario, parameters, found)
        exact = True
    return Checked(program=program, scenario=scenario, parameters=parameters, found=found,
                   exact=exact)


def _replay(program: Program, scenario: Litmus, parameters: Parameters,
            found: engine.Explored) -> None:
    trace = [(step.hart, step.kind, step.arg) for step in found.trace]
    why = reference.replay(program, scenario, parameters, trace, found.property)
    if why is not None:
        raise UnreplayableError(f"policy {program.name}: scenario {scenario.name}: the "
                                f"counterexample to {found.property} does not replay: {why}")


# ---- machines -----------------------------------------------------------------------------------


def machine_parameters(name: str, parameters: Parameters | None = None) -> list[Parameters]:
    """Return what the explorer must assume of a machine; all of them have to pass.

    ``name`` is a preset, a TOML file, or ``spec``: all that the manual allows. A structure that
    caches invalid PTEs, or of which nobody knows, means ``cache``; Svvptc is tried with a stale
    entry answering once and twice. ``parameters`` gives the rest.
    """
    from pysim import machines

    base = parameters or Parameters()
    if name == SPEC:
        return [base]
    machine = machines.load(Path(name) if name not in machines.PRESETS else name)
    keeps = (machine.inv_l1, machine.inv_l2, machine.inv_pwc)
    allowed = replace(
        base,
        invalid="reorder" if all(flag is False for flag in keeps) else "cache",
        nonleaf=machine.inv_nonleaf_range or machine.inv_pwc is not False,
        svvptc=machine.svvptc,
        via=machine.via,
        sbi_limit_pages=machine.sbi_range_limit_bytes // _PAGE_BYTES,
    )
    if not machine.svvptc:
        return [allowed]
    return [replace(allowed, svvptc_k=bound) for bound in (1, 2)]


#: Kinds of hardware that ``hardware`` tries: what a column of its table is called, and means.
HARDWARE: Final[dict[str, dict[str, Any]]] = {
    "spec": {"invalid": "cache"},
    "one entry a page": {"invalid": "cache", "tlb": "single"},
    "leaves only": {"invalid": "cache", "nonleaf": False},
    "early walks": {"invalid": "reorder"},
    "none": {"invalid": "none"},
}


def hardware(program: Program, scenario: Litmus, parameters: Parameters, search: Search,
             ) -> dict[str, dict[str, Checked]]:
    """Ask again with every order of stores and every kind of TLB: kind -> order -> verdict.

    Kinds: invalid PTEs are cached and anything the manual allows; one entry per page; cached but
    for non-leaf ones; not cached, but a walk may have been early; neither.
    """
    return {
        kind: {order: check(program, scenario, replace(parameters, order=order, **changes), search)
               for order in ORDERS}
        for kind, changes in HARDWARE.items()
    }


# ---- any number of harts ------------------------------------------------------------------------

#: Bounded scenarios that may confirm what chaos refutes.
_CONFIRMING: Final = {
    False: ("map1", "map2", "cross", "remap", "wild"),
    True: ("kstack", "kstack2", "kret"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Anywhere:
    """A verdict for any number of harts: that of chaos, and what confirms a refutation."""

    chaos: Checked
    confirmed: Checked | None

    @property
    def verdict(self) -> str:
        """Verified is a proof; refuted needs a bounded scenario, else unknown."""
        if self.chaos.verdict != "refuted":
            return self.chaos.verdict
        return "refuted" if self.confirmed is not None else "unknown"


def anywhere(program: Program, parameters: Parameters, search: Search) -> list[Anywhere]:
    """Prove a policy for any number of harts, pages, mappers and remappings.

    A page and a kernel stack, mapped by another hart and by the hart itself. What chaos refutes may
    be spurious, and is confirmed by a bounded scenario or stays unknown.
    """
    found = []
    for scenario in litmus.ANY_NUMBER:
        chaos = check(program, scenario, parameters, search)
        confirmed = None
        if chaos.verdict == "refuted":
            names = _CONFIRMING[scenario.stack_pages > 0]
            tried = (check(program, litmus.find(name, harts=harts), parameters, search)
                     for harts in (2, 3) for name in names)
            confirmed = next((one for one in tried if one.verdict == "refuted"), None)
        found.append(Anywhere(chaos=chaos, confirmed=confirmed))
    return found


#: A policy by its name or from a Python file, and its lowering with file and line in complaints.
load_policy: Final = own.load
lower: Final = own.lower


def worst(found: Sequence[str]) -> str:
    """Return the verdict of several that must all hold."""
    return next((v for v in ("refuted", "unknown") if v in found), "verified")
