"""The words a mapping policy is written in, and their lowering to the engine's ops.

A policy is a frozen dataclass with one method per moment (``map_kernel``, ``early_trap``, ...),
each returning a list of steps. Steps are built by the functions below, conditions by the
upper-case names, combined with ``&``, ``|`` and ``~``. ``lower`` turns a policy into a ``Program``:
plain bytes, branches forward only, so that the engine can run it on a clock or over every
interleaving.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol, TypeAlias, runtime_checkable

from pysim import engine
from pysim.errors import InputError

# ---- conditions -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition in disjunctive form: any of the conjunctions, each a set of literals."""

    terms: tuple[frozenset[Literal], ...]

    def __and__(self, other: Condition) -> Condition:
        return Condition(tuple(a | b for a in self.terms for b in other.terms))

    def __or__(self, other: Condition) -> Condition:
        return Condition(self.terms + other.terms)

    def __invert__(self) -> Condition:
        result = Condition((frozenset(),))
        for term in self.terms:
            result &= Condition(tuple(frozenset({literal.negated()}) for literal in sorted(term)))
        return result

    def __str__(self) -> str:
        return " or ".join(" and ".join(str(x) for x in sorted(term)) for term in self.terms)


@dataclass(frozen=True, slots=True, order=True)
class Literal:
    """One atom of csim.h, or its negation; ``operand`` is a mark's name or a number of pages."""

    atom: str
    negative: bool = False
    operand: str | int = 0

    def negated(self) -> Literal:
        """Return the opposite literal."""
        return Literal(self.atom, not self.negative, self.operand)

    def __str__(self) -> str:
        operand = f"({self.operand})" if self.atom in _OPERAND_ATOMS else ""
        return f"{'not ' if self.negative else ''}{self.atom}{operand}"


_OPERAND_ATOMS: Final = frozenset({"marked", "pages_le"})


def _atom(name: str, operand: str | int = 0) -> Condition:
    return Condition((frozenset({Literal(name, operand=operand)}),))


SSCRATCH_ZERO: Final = _atom("sscratch_zero")
INTERRUPT: Final = _atom("interrupt")
PAGE_FAULT: Final = _atom("page_fault")
PAGE_FAULT_FETCH: Final = _atom("page_fault_fetch")
PAGE_FAULT_LOAD: Final = _atom("page_fault_load")
PAGE_FAULT_STORE: Final = _atom("page_fault_store")
USER_MODE: Final = _atom("user_mode")
KERNEL_ADDRESS: Final = _atom("kernel_address")
REGION_VMALLOC: Final = _atom("region_vmalloc")
REGION_MODULE: Final = _atom("region_module")
REGION_VMEMMAP: Final = _atom("region_vmemmap")
REGION_LINEAR: Final = _atom("region_linear")
REGION_PCI_IO: Final = _atom("region_pci_io")
SVVPTC: Final = _atom("svvptc")
SVINVAL: Final = _atom("svinval")
ONE_HART: Final = _atom("one_hart")
SBI_FENCES: Final = _atom("sbi_fences")
IRQS_ON: Final = _atom("irqs_on")
ASIDS: Final = _atom("asids")
RUNNING: Final = _atom("running")
ASID_ROLLOVER: Final = _atom("asid_rollover")
PTE_VALID_NOW: Final = _atom("pte_valid_now")
TRANSLATES_NOW: Final = _atom("translates_now")


def marked(name: str) -> Condition:
    """This hart's bit of the named mark is set: an explicit load of its word."""
    return _atom("marked", name)


def pages_le(pages: int) -> Condition:
    """The extent has at most ``pages`` pages of 4 KiB."""
    return _atom("pages_le", pages)


ONE_PAGE: Final = pages_le(1)
SOME_PAGES: Final = pages_le(2**32 - 1)
"""The extent is a list of pages, not everything."""


# ---- steps ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One op. ``mark`` names the mark it uses, ``insn`` the kernel's instruction, for readers."""

    op: str
    text: str
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    n: int = 0
    mark: str | None = None
    insn: str = ""


@dataclass(frozen=True, slots=True)
class When:
    """Steps that run when the condition holds, and others when it does not."""

    condition: Condition
    then: tuple[Steps, ...]
    otherwise: tuple[Steps, ...] = ()


Steps: TypeAlias = "Step | When"
Handler: TypeAlias = list["Step | When"]


@dataclass(frozen=True, slots=True)
class Extent:
    """What a fence covers: everything, the faulting or first page, or the mapping's range."""

    kind: int
    text: str


ALL: Final = Extent(0, "everything")
PAGE: Final = Extent(1, "the page")
RANGE: Final = Extent(2, "the range")

# csim.h, enum csim_who, csim_barrier, csim_via: the names are the engine's, in its order
_WHO: Final = ("all", "own", "first_n", "others", "online", "mm_mask", "running")
_BARRIERS: Final = ("w_w", "rw_rw", "complete")
_VIA: Final = ("machine", "sbi", "imsic", "hw")


def _extent(extent: Extent) -> Extent:
    """Return what was said to be an extent. Raises InputError for anything else."""
    if not isinstance(extent, Extent):
        raise InputError("policy", "extent", f"is ALL, PAGE or RANGE, got {extent!r}")
    return extent


def _index(names: Sequence[str], name: str, what: str) -> int:
    if name not in names:
        raise InputError("policy", what, f"unknown {what} {name!r}", got=name, nearest=names)
    return names.index(name)


def store_ptes(*, valid: bool, insn: str = "set_pte") -> Step:
    """Store the extent's PTEs (non-leaf ones too where a table is new)."""
    return Step("store_ptes", f"store the PTEs, V={int(valid)}", a=int(valid), insn=insn)


def store_barrier(kind: str, *, insn: str = "") -> Step:
    """Order stores: ``w_w`` (smp_wmb), ``rw_rw`` (smp_mb), ``complete`` (they reached memory)."""
    number = _index(_BARRIERS, kind, "barrier")
    fences = {"w_w": "fence w,w", "rw_rw": "fence rw,rw", "complete": "fence; wait"}
    return Step("store_barrier", f"barrier {kind}", a=number, insn=insn or fences[kind])


def sync_context() -> Step:
    """Drain this hart's stores and refetch (arm64 isb)."""
    return Step("sync_context", "synchronise the context")


def publish() -> Step:
    """From here on others may use the mapping; without it, from the end of ``map_kernel`` on."""
    return Step("publish", "publish the mapping")


def mark(name: str, who: str = "all", *, n: int = 0, insn: str = "sd") -> Step:
    """Set bits of a mark with plain stores of whole words; ``n`` harts with ``first_n``."""
    text = f"mark {name} for {who if who != 'first_n' else f'the first {n}'} harts"
    return Step("mark", text, b=_index(_WHO, who, "who"), n=n, mark=name, insn=insn)


def clear_mark(
    name: str, *, amo: bool = True, width: int = 64, who: str = "own", insn: str = ""
) -> Step:
    """Clear bits of a mark: atomically, or by storing back the word that the test read."""
    how = "amoxor" if amo else "plain store"
    return Step(
        "clear_mark",
        f"clear the {who} bit of {name} ({how}, {width} bits)",
        b=int(amo),
        c=width,
        d=_index(_WHO, who, "who"),
        mark=name,
        insn=insn or (f"amoxor.{'d' if width == 64 else 'w'}" if amo else "sd"),
    )


def fence(
    extent: Extent, *, threshold_pages: int = 64, by_asid: bool = False, svinval: bool = False,
    insn: str = "",
) -> Step:
    """This hart's sfence.vma. A range is its list of pages, one fence each, up to the threshold.

    ``svinval``: the kernel puts them between sfence.w.inval and sfence.inval.ir where the machine
    has Svinval. The default threshold is tlb_flush_all_threshold of linux 6.12,
    arch/riscv/mm/tlbflush.c.
    """
    operands = "x0" if _extent(extent) is ALL else "va"
    asid = "asid" if by_asid else "x0"
    return Step(
        "fence",
        f"fence {extent.text}{' of this ASID' if by_asid else ''}",
        a=extent.kind,
        b=int(by_asid),
        c=int(svinval),
        n=threshold_pages,
        insn=insn or f"sfence.vma {operands}, {asid}" + " (or sinval.vma)" * svinval,
    )


def fence_free() -> Step:
    """The mapping's stale entries vanish everywhere at no cost: nobody's hardware."""
    return Step("fence_free", "stale entries vanish everywhere")


def shootdown(
    extent: Extent,
    *,
    who: str = "online",
    via: str = "machine",
    threshold_pages: int = 64,
    by_asid: bool = False,
    insn: str = "flush_tlb_kernel_range",
) -> Step:
    """Fences on other harts (and this one when it is in the mask), and the wait for them."""
    return Step(
        "shootdown",
        f"shootdown of {_extent(extent).text} on {who} harts via {via}",
        a=extent.kind,
        b=_index(_WHO, who, "who"),
        c=_index(_VIA, via, "via"),
        d=int(by_asid),
        n=threshold_pages,
        insn=insn,
    )


def ack() -> Step:
    """Acknowledge the shootdown that this ``ipi`` handler serves (default: at its end)."""
    return Step("ack", "acknowledge")


def defer(extent: Extent, *, who: str = "all") -> Step:
    """Queue a fence for each hart of ``who`` instead of sending an IPI."""
    text = f"queue a fence of {_extent(extent).text}"
    return Step("defer", text, a=extent.kind, b=_index(_WHO, who, "who"))


def flush_deferred() -> Step:
    """Execute the fences queued for this hart."""
    return Step("flush_deferred", "execute queued fences", insn="sfence.vma")


def touch_stack(which: str = "current", *, page: int = 0) -> Step:
    """Store to a kernel stack, ``current`` or ``next``, ``page`` pages below its top."""
    number = _index(("current", "next"), which, "which")
    return Step("touch_stack", f"store to the {which} stack", a=number, n=page, insn="sd")


def touch() -> Step:
    """Store through the TLB to the object the nested allocation made."""
    return Step("touch", "store to the new object", insn="sd")


def allocate(pages: int = 1) -> Step:
    """Allocate in the vmalloc area from inside a handler: ``map_kernel`` again, interrupts off."""
    return Step("allocate", f"vmalloc of {pages} pages", n=pages, insn="vmalloc")


def sync_root(*, all_roots: bool = False) -> Step:
    """Copy init_mm's root entry into the current root table, or into all of them."""
    return Step("sync_root", "copy the root entry", a=int(all_roots), insn="set_pgd")


def spend(insns: int, *, loads: int = 0, stores: int = 0, each_page: bool = False) -> Step:
    """Charge the path's instructions: ``insns`` in all, of which loads and stores.

    With ``each_page`` once for every page of what the handler is for, as a loop does.
    """
    text = f"{insns} instructions ({loads} loads, {stores} stores)" + " a page" * each_page
    return Step("spend", text, a=loads, b=stores, c=int(each_page), n=insns)


def retry() -> Step:
    """Return from the trap; the access is executed again."""
    return Step("retry", "retry the access", insn="sret")


def fall_through() -> Step:
    """Go on to the C handler."""
    return Step("fall_through", "go on to the C handler")


def fail() -> Step:
    """Fix up if the access was a probe, else the kernel oopses."""
    return Step("fail", "oops, unless it was a probe", insn="die")


def when(
    condition: Condition, then: Iterable[Steps], otherwise: Iterable[Steps] = ()
) -> When:
    """Run ``then`` if the condition holds when the hart gets here, else ``otherwise``."""
    return When(condition, tuple(then), tuple(otherwise))


# ---- policies ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mark:
    """A bitmap of one bit per hart; ``words`` 64-bit words are stored by one ``mark``.

    ``words`` is a rule of CONFIG_NR_CPUS: 6.12 stores NR_CPUS/8 + 1, 7.2 NR_CPUS/64.
    """

    name: str
    words: str = "nr_cpus/64"

    def words_nr(self, nr_cpus: int) -> int:
        """Return how many words one ``mark`` stores on a kernel built for ``nr_cpus`` harts."""
        rules = {"nr_cpus/64": -(-nr_cpus // 64), "nr_cpus/8+1": nr_cpus // 8 + 1}
        if self.words not in rules:
            raise InputError("policy", f"mark {self.name}", f"unknown words rule {self.words!r}",
                             got=self.words, nearest=rules)
        return rules[self.words]


@runtime_checkable
class Policy(Protocol):
    """What a mapping policy offers: a name, its marks, and handlers by the engine's names.

    A handler that is missing does nothing at that moment. The class's docstring cites the file.
    """

    @property
    def name(self) -> str:
        """The name tables and configurations use."""
        ...

    @property
    def source(self) -> str:
        """The version it follows."""
        ...

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The marks its ops use."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A lowered policy: what crosses the door, and the texts that do not."""

    name: str
    ops: bytes
    header: bytes
    texts: tuple[str, ...] = field(repr=False, default=())
    insns: tuple[str, ...] = field(repr=False, default=())
    marks: tuple[str, ...] = ()


# struct csim_op, csim.h: kind a b c d zero skip n zero2 all_of none_of
_OP: Final = struct.Struct("<6BHIIQQ")


@dataclass(slots=True)
class _Code:
    """One handler while it is being lowered."""

    rows: list[tuple[int, ...]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    insns: list[str] = field(default_factory=list)

    def emit(self, row: tuple[int, ...], text: str, insn: str = "") -> int:
        self.rows.append(row)
        self.texts.append(text)
        self.insns.append(insn)
        return len(self.rows) - 1

    def land(self, branch: int) -> None:
        """Make the branch at ``branch`` come down at the next op to be emitted."""
        row = list(self.rows[branch])
        row[6] = len(self.rows) - branch - 1
        self.rows[branch] = tuple(row)


def _row(kind: str, step: Step | None = None, mark_at: int | None = None, *,
         n: int = 0, all_of: int = 0, none_of: int = 0) -> tuple[int, ...]:
    number = engine.OPS[kind]
    if step is None:
        return (number, 0, 0, 0, 0, 0, 0, n, 0, all_of, none_of)
    a = step.a if mark_at is None else mark_at
    return (number, a, step.b, step.c, step.d, 0, 0, step.n, 0, 0, 0)


def _mark_at(marks: Sequence[Mark], name: str, policy: str) -> int:
    names = [m.name for m in marks]
    if name not in names:
        raise InputError(f"policy {policy}", "marks", f"no mark named {name!r}", got=name,
                         nearest=names)
    return names.index(name)


def _whens(term: frozenset[Literal], marks: Sequence[Mark], policy: str) -> list[tuple[int, ...]]:
    """Lower one conjunction: one WHEN for the plain atoms, one more per atom with an operand."""
    masks = [0, 0]  # all_of, none_of
    rows = []
    for literal in sorted(term):
        bit = 1 << engine.ATOMS[literal.atom]
        if literal.atom not in _OPERAND_ATOMS:
            masks[literal.negative] |= bit
            continue
        operand = literal.operand
        number = operand if isinstance(operand, int) else _mark_at(marks, operand, policy)
        own = [0, 0]
        own[literal.negative] = bit
        rows.append(_row("when", n=number, all_of=own[0], none_of=own[1]))
    return [_row("when", all_of=masks[0], none_of=masks[1]), *rows] if any(masks) else rows


def _lower_when(code: _Code, node: When, marks: Sequence[Mark], policy: str) -> None:
    into_body: list[int] = []
    misses: list[int] = []
    for position, term in enumerate(node.condition.terms):
        for branch in misses:
            code.land(branch)
        text = "when " + " and ".join(str(x) for x in sorted(term))
        misses = [code.emit(row, text) for row in _whens(term, marks, policy)]
        if position + 1 < len(node.condition.terms):
            into_body.append(code.emit(_row("jump"), "then"))
    for branch in into_body:
        code.land(branch)
    _lower_steps(code, node.then, marks, policy)
    if node.otherwise:
        past = code.emit(_row("jump"), "over the otherwise")
        for branch in misses:
            code.land(branch)
        _lower_steps(code, node.otherwise, marks, policy)
        code.land(past)
    else:
        for branch in misses:
            code.land(branch)


def _lower_steps(code: _Code, steps: Iterable[Steps], marks: Sequence[Mark], policy: str) -> None:
    for step in steps:
        if isinstance(step, When):
            _lower_when(code, step, marks, policy)
        elif isinstance(step, Step):
            at = None if step.mark is None else _mark_at(marks, step.mark, policy)
            code.emit(_row(step.op, step, at), step.text, step.insn)
        else:
            raise InputError(f"policy {policy}", "handler", f"{step!r} is no step: write one as "
                             "fence(ALL) or when(...)")


def handlers(policy: Policy) -> dict[str, Handler]:
    """Return the policy's handlers by name, in the engine's order; missing ones are left out."""
    found: dict[str, Handler] = {}
    for name in engine.HANDLERS:
        method = getattr(policy, name, None)
        if method is not None:
            steps = method()
            if not isinstance(steps, Iterable) or isinstance(steps, str | bytes):
                raise InputError(f"policy {policy.name}", name, "returns its steps, a list, not "
                                 f"{steps!r}")
            found[name] = list(islice(steps, engine.OPS_MAX + 1))   # one too many is refused
    return found


def lower(policy: Policy, *, nr_cpus: int = 64) -> Program:
    """Lower a policy to the bytes that cross the door; the engine checks them once more.

    Raises InputError when a step, mark or condition is malformed.
    """
    rows: list[tuple[int, ...]] = []
    texts: list[str] = []
    insns: list[str] = []
    at = [0] * len(engine.HANDLERS)
    nr = [0] * len(engine.HANDLERS)
    for name, steps in handlers(policy).items():
        code = _Code()
        _lower_steps(code, steps, policy.marks, policy.name)
        code.emit(_row("end"), "end")
        index = engine.HANDLERS[name]
        at[index], nr[index] = len(rows), len(code.rows)
        rows += code.rows
        texts += code.texts
        insns += code.insns
    words = [m.words_nr(nr_cpus) for m in policy.marks]
    words += [0] * (engine.MARKS_MAX - len(words))
    header = struct.pack(f"<{2 + len(words) + 2 * len(at)}I", len(rows), len(policy.marks), *words,
                         *at, *nr)
    try:
        ops = b"".join(_OP.pack(*row) for row in rows)
    except struct.error as error:
        reason = f"an operand is out of range: {error}"
        raise InputError(f"policy {policy.name}", "ops", reason) from error
    program = Program(
        name=policy.name, ops=ops, header=header, texts=tuple(texts), insns=tuple(insns),
        marks=tuple(m.name for m in policy.marks),
    )
    engine.check_program(program.header, program.ops)
    return program
