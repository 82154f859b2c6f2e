"""Kernels on a QEMU that caches invalid translations: its faults beside the engine's.

The measured kernels (``data/kernel/counts_negative_caching.csv``) ran `mark` on a QEMU changed to
keep invalid PTEs, direct mapped: ``neg1`` what demand walks meet; ``neg2`` also the invalid PTEs of
the 64-byte line of each leaf fetched; ``neg4`` also those of the next 8 lines (and of non-leaf
lines, which hold none that a kernel maps later); ``evictN`` is neg4 with 2^N entries a level, not
4096. What they counted is ``nv_hit``: the early check found its mark and retried.

Here the engine's own translation (csim/mmu.c) runs as such a machine over what the kernel did:

* the kernel's own test_vmalloc by its geometry: which pages each of its tests maps, touches and
  frees, as in linux 6.12 lib/test_vmalloc.c and mm/vmalloc.c;
* the traced workloads by the event logs of stock kernels: every map, unmap and sfence.vma of every
  hart, in their order. The hart that maps uses the area at once; of a stack it writes the lowest
  page and the top one (set_task_stack_end_magic, copy_thread).

What the logs do not have is when a hart walks the page table in between: its running stack is
looked up again after fences and conflicts. That rate is ``walks_per_event``, lookups of the running
stack per event of a hart's log; it decides what neg4 and evictN catch, whose lines reach as far as
the next stacks, and hardly matters to neg2.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from pysim import engine, eventlog, ftrace, kernel_counts, machines
from pysim.errors import InputError
from pysim.machines import Machine

PAGE: Final = 4096
STACK_PAGES: Final = 4
STACK_ALIGN: Final = 8 * PAGE
FACTOR: Final = 2
"""A prediction from geometry holds when it is within this factor of each measured repetition."""
WALKS_PER_EVENT: Final = Fraction(1)
"""assumed: what is logged runs on its hart's stack, so each event looks its top page up once."""
MODES: Final = ("neg1", "neg2", "neg4", "evict8", "evict6", "evict4")
GEOMETRY: Final = ("tv_vmram", "tv_fix1", "tv_pcpu", "tv_fix16")
OPS: Final = {"boot": 1, "fork": 200, "forkburst": 256, "forkexec": 64, "threads": 256, "bpf": 100,
              "modload": 10, "tv_rand": 64}
"""Operations of each workload in the event logs. Source: data/kernel, counts_traced.csv."""
TRACED: Final = ("boot", "fork", "forkburst", "forkexec", "threads", "bpf", "modload", "tv_rand")

_MACHINE: Final = """
name = "qemu-{mode}"
inherit = "common"
[[sourced]]
by = "data/kernel README: QEMU virt, Sv57, 16-bit ASIDs; {mode}: {lines} lines beside the own one"
mhz = 1000
harts = 4
levels = "sv57"
asid_bits = 16
inv_l1 = false
inv_l2 = true
inv_pwc = false
inv_nonleaf_range = true
inv_line_capture = {capture}
prefetch_next_line = {lines}
l2.base = {{ sets = {sets}, ways = 1, sectors = 8, levels = [0], policy = "lru" }}
l2.superpages = {{ sets = {entries}, ways = 1, levels = [1, 2, 3, 4], policy = "lru" }}
[[assumed]]
why = "QEMU's own TLB, for valid translations only, is small here so that the other one is asked"
l1i.base = {{ sets = 1, ways = 1, levels = [0, 1, 2, 3, 4], policy = "lru" }}
l1d.base = {{ sets = 1, ways = 1, levels = [0, 1, 2, 3, 4], policy = "lru" }}
walkers = 1
[[assumed]]
why = "counts do not depend on time: stores are seen at once, nothing costs anything"
store_drain_cycles = 0
coherence_cycles = 0
fence_all_cycles = 0
fence_asid_cycles = 0
fence_va_cycles = 0
fence_pipe_cycles = 0
walk_overhead_per_level_cycles = 0
pte_via = "l1d"
"""


def machine(mode: str) -> Machine:
    """Return the QEMU of a mode: neg1, neg2, neg4 or evictN. Raises InputError for another."""
    evict = re.fullmatch(r"evict(\d+)", mode)
    if mode not in MODES and not (evict and 3 <= int(evict[1]) <= 20):
        raise InputError("negative", "mode", f"unknown mode {mode!r}", got=mode, nearest=MODES)
    entries = 2 ** int(evict[1]) if evict else 4096
    return machines.loads(_MACHINE.format(
        mode=mode, entries=entries, sets=entries // 8, capture=1 if mode == "neg1" else 8,
        lines=0 if mode in ("neg1", "neg2") else 8), f"qemu-{mode}")


# ---- what a kernel did, as steps of each hart's translation --------------------------------------


@dataclass(slots=True)
class Program:
    """Steps of every hart: a map or unmap is a step of each, the rest of one.

    ``parts`` says for each hart and step which workload it belongs to.
    """

    harts: int
    rows: list[list[dict[str, int]]] = field(init=False)
    parts: list[list[str]] = field(init=False)
    part: str = ""

    def __post_init__(self) -> None:
        self.rows = [[] for _ in range(self.harts)]
        self.parts = [[] for _ in range(self.harts)]

    def _add(self, hart: int, **step: int) -> None:
        self.rows[hart].append(step)
        self.parts[hart].append(self.part)

    def table(self, kind: int, hart: int, first: int, pages: int, **step: int) -> None:
        """Store PTEs: one hart does, all see it."""
        for number in range(self.harts):
            self._add(number, kind=kind, va=first, pages=pages, other_hart=number != hart, **step)

    def map(self, hart: int, first: int, pages: int, touched: Iterable[int]) -> None:
        """Map an area, and let the hart write the pages ``touched`` of it."""
        self.table(_MAP, hart, first, pages, flags=_KERNEL, ppn=1 << 20)
        for page in touched:
            self.touch(hart, first + page * PAGE)

    def unmap(self, hart: int, first: int, pages: int) -> None:
        """Clear the PTEs of an area."""
        self.table(_UNMAP, hart, first, pages)

    def touch(self, hart: int, va: int) -> None:
        """Write a page; a cached invalid PTE is a fault that the early check answers."""
        self._add(hart, kind=_ACCESS, va=va, access=_STORE, lazy=1)

    def fence(self, hart: int, form: int, va: int = 0, asid: int = 0) -> None:
        """Execute sfence.vma on one hart."""
        self._add(hart, kind=_FENCE, form=form, va=va, asid=asid)

    def run(self, hardware: Machine) -> tuple[Counter[str], int]:
        """Return by workload how often a cached invalid PTE answered, and how many walks began."""
        packed = engine.pack("csim_machine", hardware.c_values())
        hits, walks = Counter[str](), 0
        for hart in range(self.harts):
            steps = np.zeros(len(self.rows[hart]), _STEP)
            for index, row in enumerate(self.rows[hart]):
                for name, value in row.items():
                    steps[name][index] = value
            found, counters = engine.mmu_run(packed, hart, 1, steps.tobytes())
            answers = np.frombuffer(found, _ANSWER)
            hits.update(part for part, negative in zip(
                self.parts[hart], answers["negative"], strict=True) if negative)
            walks += counters["walks"]
        return hits, walks


_STEP: Final = engine.layout("struct csim_mmu_step")
_ANSWER: Final = engine.layout("struct csim_mmu_answer")
_ACCESS, _RESUME, _FENCE, _FORGET, _MAP, _UNMAP = range(6)   # csim.h, enum csim_mmu_step_kind
_STORE: Final = 1                                            # csim.h, enum csim_access
_KERNEL: Final = 0b1110_0111                                 # V R W G A D, csim/rv.h
_FORMS: Final = {(False, False): 0, (False, True): 1, (True, False): 2, (True, True): 3}


# ---- test_vmalloc, by its geometry ---------------------------------------------------------------

_LOOPS: Final = 128          # data/kernel README: ops of tv_vmram and tv_fix1
_PERCPU_PAGES: Final = 4640  # data/kernel README: percpu populates of tv_pcpu
_UNIT_PAGES: Final = 28
"""A hart's part of a percpu chunk. assumed: 4,640 populates in 166 to 171 chunks (the ranges that
``tv_pcpu`` frees, ftkr_calls), 27.1 to 28 of each; parts lie side by side (mm/percpu.c)."""


def geometry(workload: str, harts: int) -> Program:
    """Return the maps and touches of one of the kernel's own tests, which run on one hart.

    Source: linux 6.12. Areas follow each other because lazily freed addresses are not reused before
    a purge, each with a guard page (mm/vmalloc.c); blocks of vm_map_ram have no guard pages; the
    tests write one byte of what they map (lib/test_vmalloc.c). percpu chunks are populated page by
    page on every hart's part, and the allocating hart clears them all (mm/percpu-vm.c, percpu.c).
    """
    made, first = Program(harts=harts), engine.regions(5)["vmalloc"][0] + (1 << 24)
    made.part = workload
    if workload == "tv_pcpu":
        for populate in range(_PERCPU_PAGES):
            chunk, page = divmod(populate, _UNIT_PAGES)
            units = [first + ((chunk * harts + hart) * _UNIT_PAGES + page) * PAGE
                     for hart in range(harts)]
            for va in units:
                made.map(0, va, 1, ())
            for va in units:
                made.touch(0, va)
        return made
    pages, guard = {"tv_vmram": (1, 0), "tv_fix1": (1, 1), "tv_fix16": (16, 1)}[workload]
    for loop in range(_LOOPS):
        va = first + loop * (pages + guard) * PAGE
        made.map(0, va, pages, (0,))
        made.unmap(0, va, pages)
    return made


# ---- the traced workloads, by their event logs ---------------------------------------------------

_MODULES: Final = 0xFFFFFFFF00000000
_ARGUMENT: Final = re.compile(r"(\w+)=([0-9a-f]+)")


def logged(path: Path, walks_per_event: Fraction = WALKS_PER_EVENT) -> Program:
    """Return what an event log says each hart mapped, freed, used and fenced.

    Raises InputError with file and line for a line that is none of a log.
    """
    said = kernel_counts.named(path.name)
    if said is None:
        raise InputError(str(path), "", "not the name of an event log")
    log = _Log(Program(harts=said.harts))
    due: defaultdict[int, Fraction] = defaultdict(Fraction)
    with ftrace.open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            words = line.split()
            try:
                hart = int(words[1])
                log.line(hart, words)
            except (ValueError, IndexError, KeyError) as error:
                raise InputError(f"{path}:{number}", "", "not a line of an event log: "
                                 f"{line.strip()[:60]}") from error
            due[hart] += walks_per_event
            while due[hart] >= 1:
                due[hart] -= 1
                log.use_stack(hart)
    return log.made


@dataclass(slots=True)
class _Log:
    """An event log while it is read, and whose stack is which.

    A log names tasks and maps apart: a task that is switched to for the first time gets the oldest
    stack that nobody has yet; one whose stack was mapped before the log or came from the cache has
    none, and its walks are left out.
    """

    made: Program
    free: list[int] = field(default_factory=list)            # top pages of stacks without a task
    owned: dict[int, int] = field(default_factory=dict)      # task -> top page, 0: unknown
    running: dict[int, int] = field(default_factory=dict)    # hart -> task

    def __post_init__(self) -> None:
        self.made.part = "boot"

    def use_stack(self, hart: int) -> None:
        """The hart's code runs on its task's stack."""
        va = self.owned.get(self.running.get(hart, 0), 0)
        if va:
            self.made.touch(hart, va)

    def line(self, hart: int, words: list[str]) -> None:
        what = words[3]
        if what == "MARK":
            mark = int(words[4])
            inside = mark >= 10 and mark % 2 == 0
            self.made.part = eventlog.WINDOWS.get((mark - 10) // 2, "") if inside else ""
            return
        given = {name: int(value, 16) for name, value in _ARGUMENT.findall(" ".join(words[4:]))}
        if what in ("sfence:S", "sfence:M"):
            form = _FORMS["addr" in given, "asid" in given]
            self.made.fence(hart, form, given.get("addr", 0), given.get("asid", 0))
        elif what in ("__vmap_pages_range_noflush", "vmap_range_noflush"):
            self.map(hart, given["a0"], (given["a1"] - given["a0"]) // PAGE,
                     device=what == "vmap_range_noflush")
        elif what == "__vunmap_range_noflush":
            self.unmap(hart, given["a0"], given["a1"])
        elif what == "__switch_to":
            self.running[hart] = given["a1"]
            if given["a1"] not in self.owned:
                self.owned[given["a1"]] = self.free.pop(0) if self.free else 0
        elif what == "do_exit":
            self.owned.pop(self.running.get(hart, 0), None)

    def map(self, hart: int, first: int, pages: int, *, device: bool) -> None:
        stack = pages == STACK_PAGES and first % STACK_ALIGN == 0 and first < _MODULES
        top = first + (pages - 1) * PAGE
        touched: Iterable[int] = range(pages)
        if stack:
            touched = (0, pages - 1)
            self.free.append(top)
        elif device or (self.made.part == "tv_rand" and first < _MODULES):
            touched = (0,)   # ioremap: a first register; lib/test_vmalloc.c writes one byte
        self.made.map(hart, first, pages, touched)

    def unmap(self, hart: int, first: int, end: int) -> None:
        self.made.unmap(hart, first, (end - first) // PAGE)
        self.free = [va for va in self.free if not first <= va < end]
        for task, va in list(self.owned.items()):
            if first <= va < end:
                self.owned[task] = 0


# ---- predicted beside measured -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One workload on one emulator: hits of every repetition, and the engine's.

    ``predicted`` is scaled to the measured number of operations; None: neither the geometry nor a
    log of the workload is known. ``basis`` says which it was.
    """

    mode: str
    harts: int
    workload: str
    ops: int
    measured: tuple[int, ...]
    predicted: Fraction | None
    basis: str

    @property
    def holds(self) -> bool | None:
        """Whether the prediction holds where one is promised: 0 for neg1, geometry under neg2."""
        if self.predicted is None:
            return None
        if self.mode == "neg1":
            return self.predicted == 0 and not any(self.measured)
        if self.mode == "neg2" and self.workload in ("tv_vmram", "tv_fix1", "tv_pcpu"):
            return all(self.predicted <= FACTOR * count and count <= FACTOR * self.predicted
                       for count in self.measured)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How the traced workloads of one emulator are ordered by hits, in pairs.

    A pair counts where every repetition of one has more hits than every one of the other. ``tied``
    and ``wrong`` name the pairs that the engine finds equal or orders the other way round.
    """

    mode: str
    harts: int
    pairs: int
    tied: tuple[tuple[str, str], ...]
    wrong: tuple[tuple[str, str], ...]

    @property
    def right(self) -> int:
        """Pairs in the measured order."""
        return self.pairs - len(self.tied) - len(self.wrong)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Every row of the table of counts, in its order of modes and workloads."""

    rows: tuple[Row, ...]
    orders: tuple[Order, ...]
    walks_per_event: Fraction
    walks: dict[tuple[str, int], int]
    """Walks that the engine made over the whole log, by mode and harts."""

    @property
    def ok(self) -> bool:
        """Nothing that is promised fails, and something was."""
        said = [row.holds for row in self.rows if row.holds is not None]
        return bool(said) and all(said)


def validate(directory: str | Path, *, walks_per_event: Fraction = WALKS_PER_EVENT) -> Report:
    """Predict every row of ``counts_negative_caching.csv`` in a folder of counts and traces.

    Raises InputError when the folder has no such table.
    """
    folder = Path(directory)
    path = folder / "counts_negative_caching.csv"
    if not path.is_file():
        raise InputError(str(folder), "", "has no counts_negative_caching.csv")
    measured: dict[tuple[str, int, str], list[kernel_counts.Counted]] = {}
    for one in kernel_counts.read_counts(path).rows:
        for column in ("ops", "nv_hit"):
            if column not in one.counts:
                raise InputError(f"{path}:{one.line}", column, "was not counted")
        measured.setdefault((one.negative, one.harts, one.workload), []).append(one)
    logs = {said.harts: log for log in sorted((folder / "traces").glob("events-*.evt*"))
            if (said := kernel_counts.named(log.name)) and said.policy == "mark"
            and not said.negative}
    predicted: dict[tuple[str, int], Counter[str]] = {}
    walks: dict[tuple[str, int], int] = {}
    programs = {harts: logged(log, walks_per_event) for harts, log in logs.items()}
    rows = []
    for (mode, harts, workload), found in measured.items():
        emulator = (mode, harts)
        if emulator not in predicted and programs:
            nearest = min(programs, key=lambda have: abs(have - harts))
            predicted[emulator], walks[emulator] = programs[nearest].run(machine(mode))
        hits, basis = _predict(mode, harts, workload, predicted.get(emulator), programs)
        scale = Fraction(found[0]["ops"], OPS.get(workload, found[0]["ops"]))
        rows.append(Row(mode=mode, harts=harts, workload=workload, ops=found[0]["ops"],
                        measured=tuple(one["nv_hit"] for one in found), basis=basis,
                        predicted=None if hits is None else hits * scale))
    modes = (*MODES, *sorted({row.mode for row in rows} - {*MODES}))
    rows.sort(key=lambda row: (modes.index(row.mode), row.harts))
    return Report(rows=tuple(rows), orders=tuple(_orders(rows)), walks=walks,
                  walks_per_event=walks_per_event)


def _predict(mode: str, harts: int, workload: str, logged_hits: Counter[str] | None,
             programs: dict[int, Program]) -> tuple[int | None, str]:
    if workload in GEOMETRY:
        return geometry(workload, harts).run(machine(mode))[0][workload], "geometry"
    if workload in TRACED and logged_hits is not None:
        nearest = min(programs, key=lambda have: abs(have - harts))
        return logged_hits[workload], f"log of {nearest} harts"
    return None, "neither geometry nor log"


def _orders(rows: Iterable[Row]) -> Iterator[Order]:
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        if row.workload in TRACED and row.predicted is not None:
            groups.setdefault((row.mode, row.harts), []).append(row)
    for (mode, harts), found in groups.items():
        pairs = [(a, b) for a in found for b in found if min(a.measured) > max(b.measured)]
        less = {(a.workload, b.workload): (a.predicted or 0) - (b.predicted or 0)
                for a, b in pairs}
        yield Order(mode=mode, harts=harts, pairs=len(pairs),
                    tied=tuple(pair for pair, more in less.items() if more == 0),
                    wrong=tuple(pair for pair, more in less.items() if more < 0))
