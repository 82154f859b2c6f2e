"""The page of verdicts: every policy in every scenario, and what each refutation rests on.

Tables and timelines are searched when the page is written, by the engine; the slow explorer of
``pysim.reference`` replays every timeline and words it. Only the readings below are prose.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from pysim import check, engine, litmus, ops, reference
from pysim.errors import EngineError
from pysim.litmus import Litmus, Parameters
from pysim.policies import POLICIES, find
from sweeps.reference_tables import page as reference_page
from sweeps.reference_tables import table

#: Columns of the tables by machine; the first is the default.
MACHINES: Final[dict[str, Parameters]] = {
    "pso": Parameters(),
    "tso": Parameters(order="tso"),
    "sc": Parameters(order="sc"),
    "reorder": Parameters(invalid="reorder"),
    "none": Parameters(invalid="none"),
    "single": Parameters(tlb="single"),
    "svvptc": Parameters(svvptc=True),
    "svvptc k=1": Parameters(svvptc=True, svvptc_k=1),
    "svvptc k=2": Parameters(svvptc=True, svvptc_k=2),
    "sbi": Parameters(via="sbi"),
}
_SHIPPED: Final = ("none", "vmalloc-fault", "preventive-full", "preventive-range-6.7",
                   "preventive-range", "mark-6.12", "mark-7.2", "mark-barrier", "mark-switch-in")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A refutation, shown as a timeline, and the clauses it needs."""

    title: str
    policy: str
    scenario: str
    text: str
    machine: str = "pso"


READINGS: Final = (
    Reading(
        title="The mark can overtake the PTE (Linux 6.12 to 7.3)",
        policy="mark-7.2", scenario="map2",
        text="""\
Between the PTE store and the mark there is no fence, and RVWMO lets a hart's stores to
different addresses become visible in either order. Another hart sees the mark, uses it up for
an unrelated fault and fences; its walker reads the PTE again before the store arrives, and
caches "invalid" once more (A3, A5). `sfence.vma` orders only stores already visible to the hart
that executes it (A6). By the time the mapping is published the bit is 0, so the next fault is
an oops. One more source of faults is needed: a second mapping (`map2`, `cross`) or a probe
(`wild`); with a single mapping it is verified. Stores that stay in order (`tso`, `sc`) make it
safe, and so does hardware that keeps no invalid entries at all (`none`). linux-next 2026 has
the barrier (`mark-barrier`).""",
    ),
    Reading(
        title="A trap frame on a stack page this hart never touched (Linux 6.12 and later)",
        policy="mark-barrier", scenario="kstack2", machine="single",
        text="""\
The check stands at the start of `handle_exception`, before the frame is stored. An interrupt
that arrives when less than a frame is left on the current stack page stores its registers on
the next page. If this hart holds a stale invalid entry for that page (A5: invalid PTEs may be
cached, A3: for an address it never used), the store faults. `csrw CSR_SCRATCH, x0` comes only
after the save, so the nested entry finds sscratch nonzero, takes itself for a trap from user
mode and jumps over the check; and it has already overwritten sepc, scause, stval and sstatus of
the interrupted trap, which are read only after the registers are saved. Running the check there
too does not help (`broken-naive-entry`): the interrupted trap's return address is gone.

Nothing here needs two entries for one page, nor stores out of order: it is refuted with one
entry per page and under `sc`. It does need hardware that keeps invalid entries across a trap:
with `reorder` the trap entry itself orders the walk. A hart that takes its mark before it first
uses a stack (`mark-switch-in`) is verified; so are preventive fences.""",
    ),
    Reading(
        title="The return to user mode loads from the stack with sscratch set (Linux 6.12 on)",
        policy="mark-barrier", scenario="kret",
        text="""\
`ret_from_exception` writes sscratch and sepc and then loads the registers from the stack. The
stack page has been used by this hart before, so the fault needs a stronger reading of the
manual than `kstack2`: "subsequent accesses ... might use different translations from that set"
(A2) and "an arbitrary number of entries for the same address" (A4): a valid entry answers
first, a stale invalid one later. Where a page has one entry (`single`) it is verified. The
remedy is the same.""",
    ),
    Reading(
        title="Svvptc does not replace the fence (Linux 6.12 to 7.1)",
        policy="mark-6.12", scenario="map2", machine="svvptc k=1",
        text="""\
With Svvptc the check of 6.12 clears the bit and retries without a fence. The extension bounds
how long a visible valid PTE may be missed (A10), it does not make the next access see it. Even
if a stale entry answers only one access, one fault uses up the bit for all pages, and another
page may be stale once. 1b2c6b56a9fa (7.2 and stable) made the fence unconditional.
Without Svvptc, and with early walks alone (`reorder`), the refutations are those of the missing
barrier: with it a retry without a fence is verified there (`broken-b10`).""",
    ),
    Reading(
        title="Fences by address leave non-leaf entries (Linux 6.7 to 6.11)",
        policy="preventive-range", scenario="nl",
        text="""\
Up to 64 pages are fenced one by one, but `sfence.vma` with an address orders leaf PTEs only
(A8; "if software modifies a non-leaf PTE, it should execute SFENCE.VMA with rs1=x0"). When the
mapping needed a new page-table page, a cached invalid non-leaf entry survives. SBI
implementations that widen requests hide this for more than one page. The full fence of 6.5
(`preventive-full`) and that of the mark's handler cover it.""",
    ),
    Reading(
        title="A mapping made in the IPI path waits for itself (Linux 6.5 to 6.11)",
        policy="preventive-range", scenario="ipialloc",
        text="""\
A traced IPI may map. With preventive fences it then sends IPIs itself and waits with interrupts
off, for a hart that may be doing the same. Remote fences through SBI do not enter the kernel of
the other hart and do not show it. Policies that do not interrupt anybody to map are verified.""",
    ),
    Reading(
        title="A fault handler needs a stack (Linux up to 6.4)",
        policy="vmalloc-fault", scenario="kstack",
        text="""\
The C handler runs after the frame has been stored on the kernel stack; when the stack is what
is missing, storing the frame faults again.""",
    ),
    Reading(
        title="A fault handler that fences by address (Linux up to 6.4)",
        policy="vmalloc-fault", scenario="nl",
        text="""\
The PTE is there, so the handler fences the address and retries; the cached invalid non-leaf
entry is not covered (A8) and the access faults for ever.""",
    ),
)


@functools.cache
def _program(name: str) -> ops.Program:
    return ops.lower(find(name))


@functools.cache
def _searched(name: str, where: Litmus, parameters: Parameters) -> engine.Explored:
    program = _program(name)
    asked = check.question(where, parameters, symmetry=False)
    return engine.explore(asked, program.header, program.ops)


def _cell(name: str, where: Litmus, parameters: Parameters) -> str:
    try:
        found = _searched(name, where, parameters)
    except EngineError:
        return "refused"
    if found.verdict != "refuted":
        return {"verified": "ok", "unknown": "?"}[found.verdict]
    return f"**{found.property}**@{found.length}"


def _rows(policies: Iterable[str], columns: dict[str, tuple[Litmus, Parameters]]) -> str:
    rows = [(f"`{name}`", *(_cell(name, *column) for column in columns.values()))
            for name in policies]
    return table(["policy", *columns], rows)


def timeline(name: str, where: Litmus, parameters: Parameters) -> str:
    """Return the shortest counterexample as a table: one row a step, one column a hart."""
    found = _searched(name, where, parameters)
    moves = [(step.hart, step.kind, step.arg) for step in found.trace]
    wrong = reference.replay(_program(name), where, parameters, moves, found.property)
    assert wrong is None, f"{name} in {where.name}: {wrong}"
    story = reference.tell(_program(name), where, parameters, moves)
    rows = [(number, *(text if hart == h else "" for h in range(where.harts)))
            for number, (hart, text) in enumerate(story, 1)]
    return table(["step", *(f"hart {h}" for h in range(where.harts))], rows)


def _reading(reading: Reading) -> str:
    where = litmus.find(reading.scenario)
    verdicts = {machine: _cell(reading.policy, where, parameters)
                for machine, parameters in MACHINES.items()}
    refuted = ", ".join(f"`{m}` {cell}" for m, cell in verdicts.items() if cell != "ok")
    verified = ", ".join(f"`{m}`" for m, cell in verdicts.items() if cell == "ok")
    return "\n".join([
        f"### {reading.title}\n",
        f"`{reading.policy}` in `{reading.scenario}`: {where.question}. Refuted with {refuted}; "
        f"verified with {verified or 'none of them'}.\n",
        f"{reading.text}\n",
        f"With `{reading.machine}`:\n",
        timeline(reading.policy, where, MACHINES[reading.machine]),
    ])


def page() -> str:
    """Return the page: three tables of verdicts, the regions, then the readings."""
    names = [policy.name for policy in POLICIES]
    default = Parameters()
    scenarios = {where.name: (where, default) for where in litmus.LITMUS}
    anyone = {where.name: (where, default) for where in litmus.ANY_NUMBER}
    map2 = {name: (litmus.find("map2"), machine) for name, machine in MACHINES.items()}
    regions = {region: (replace(litmus.find("map1"), region=region), default)
               for region in litmus.REGIONS}
    return reference_page(
        "Verdicts", "`sweeps/verdicts.py`, policies and scenarios",
        "What the abstract machine (`docs/abstract-machine.md`) says of every policy: ok = "
        "verified within the scenario, **Sx**@n = refuted, shortest counterexample of n steps, "
        "DL = deadlock. S1 stale frame used, S2 oops on a published page, S3 endless retry, S4 a "
        "fault where no check can help (trap frame, return to user mode) or traps without end.\n",
        "## Two harts, everything the manual allows\n",
        _rows(names, scenarios),
        "## Any number of harts, pages, mappers and remappings\n",
        "One hart and one page are exact, everything else is chaos; ok is a proof, a refutation "
        "may be spurious. `-own`: the hart maps the page itself; `-stack`: it is a kernel stack.\n",
        _rows(names, anyone),
        "## `map2` by machine\n",
        "`pso`, `tso`, `sc`: how stores drain. `reorder`: invalid PTEs are not cached, but a walk "
        "may have been early. `none`: neither. `single`: one entry per page, explicit fills and "
        "evictions. `svvptc`: the extension, staleness unbounded, or one or two accesses. `sbi`: "
        "remote fences by firmware.\n",
        _rows(names, map2),
        "## `map1` by region\n",
        "Whose call sites mark what: vmemmap hotplug (marked since 7.2), the linear map (kfence "
        "marks by itself since 7.2), the PCI I/O window (nobody).\n",
        _rows(_SHIPPED, regions),
        "## What the refutations of shipped policies rest on\n",
        "A1 to A11 are the rules of the privileged manual as `docs/abstract-machine.md` uses "
        "them.\n",
        *(_reading(reading) for reading in READINGS),
    )
