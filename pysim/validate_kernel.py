"""Predicted beside counted: remote fences and local fences of real kernels, row by row.

For every row of a table of counts the engine runs the recorded work of that row under the policy
the kernel had, on a machine that caches no invalid translation and shows every PTE store at once,
as QEMU does. The work is a recording where there is one; otherwise it is built from the row's own
event counts: so many maps, frees and purges. What is compared:

* several harts: calls for a remote fence of a kernel range (``rf_kern``) and the harts they
  address (``kernel targets`` = ``rf_targets`` - harts x ``rf_full``);
* one hart, and a boot before the others are up: the fences by address and the full ones that
  ``preventive`` has more than ``mark``, a fault that it has more being one fence more;
* everywhere: page faults of the kernel on kernel addresses, of which there are none; where a row's
  user work is known (`pysim.validate_user`), the local fences of user faults, unmaps and forks, the
  user shootdowns of several harts, and the whole flushes of a module's load and unload;
* where a run left an event log (`pysim.validate_logs`): every fence of the kernel, every call and
  every hart addressed, and what the other kernels would have made of the same events;
* where the kernel used its own IPIs: the fences of every hart, and that no SBI call was made.

A row that cannot be scored says why; nothing is fitted to the counts.
"""

from __future__ import annotations

import dataclasses
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias

from pysim import (
    engine,
    ftrace,
    kernel_counts,
    machines,
    ops,
    policies,
    scenario,
    validate_insns,
    validate_logs,
    validate_user,
    workloads,
)
from pysim.engine import Question, Result
from pysim.errors import EngineError, InputError
from pysim.eventlog import Window
from pysim.ftrace import PAGE_BYTES, Alloc, Event, Free, Purge, Trace
from pysim.kernel_counts import Counted, FileName, MissingColumnError, fences_maps
from pysim.machines import Machine
from pysim.policies.linux import Linux
from pysim.validate_insns import InsnRow
from pysim.validate_user import UserWork
from pysim.workloads import Workload, replay
from pysim.workloads.recovery import Recovery, recover

POLICIES: Final[Mapping[str, tuple[str, bool]]] = {
    "preventive": ("preventive-range", False),
    "mark": ("mark-6.12", False),
    "mark+svvptc": ("mark-6.12", True),
}
"""The kernels of the tables -> our policy, and whether the CPU had Svvptc. Others go by our names
for policies, with ``+svvptc`` behind them or not."""

WHOLE_FLUSHES: Final = ("preventive-full", "vmalloc-fault")
"""Policies whose fences of kernel ranges are flushes of everything, counted in rf_full."""

FORKS: Final = ("fork", "forkpin0", "forkpar", "forkburst", "forkexec", "threads")
"""Their maps are kernel stacks of 4 pages. Source: linux 6.12, VMAP_STACK, THREAD_SIZE_ORDER 2."""

FIXED_PAGES: Final = {"tv_fix1": 1, "tv_fix1t": 1, "tv_fix16": 16}
"""Pages of each map these tests make. Source: linux lib/test_vmalloc.c, fix_size_alloc_test."""

NO_MAPS: Final = ("idle", "pf_anon", "pf_file", "lat_mmap", "mprotect", "ctxsw")
OTHERS: Final = ("boot", "bpf", "sockfilter", "bpfmap", "modload", "tv_rand", "tv_vmram",
                 "tv_pcpu")
WORKLOADS: Final = (*FORKS, *FIXED_PAGES, *NO_MAPS, *OTHERS)

VMRAM_PAGES: Final = 1
"""Pages of each map of tv_vmram. Source: linux lib/test_vmalloc.c, vm_map_ram_test, nr_pages."""

CONCURRENT: Final = ("forkpar", "forkburst")
"""Their processes fault at once on several harts; which of them finds a page there already is the
schedule's: up to 23 fences differ from run to run under one policy (data/kernel, S_addr)."""

VMRAM_BLOCKS: Final = 4
"""tv_vmram: reservations that are blocks, not maps: this many (data/kernel README), and one for
each hart where there are more (linux 6.12, mm/vmalloc.c: blocks are per hart)."""

PCPU_CUT: Final = 1
"""tv_pcpu: a call is counted as it begins and as it is made; a window may cut one in two."""

NR_CPUS: Final = 64
"""CONFIG_NR_CPUS of the kernels (data/kernel README)."""

_OF_THE_TREE: Final = ("preventive-range", "mark-6.12", "none")
_STACK_PAGES: Final = 4
_USER_WHAT: Final = {"S_addr": "user S_addr", "S_asid": "user S_asid",
                     "S_addr_asid": "user S_addr_asid"}
_STEP_NS: Final = 10_000
_BASE_VA: Final = 0xFF20000000000000
_PURGE_PAGES: Final = 1 << 20
"""A purge is one range over everything gathered, in effect full (data/kernel README)."""


EVENTS_MAX: Final = 1 << 20
"""A row of more events of a kind is not run. assumed: fifty times the largest counted, and what a
laptop has memory for."""

_EVENTS: Final = ("ops", "alloc_vmap_area", "free_vmap_area_noflush", "__purge_vmap_area_lazy",
                  "ftkr_calls", "pf_U_u", "pf_S_u")

NOT_MODELLED: Final = "not modelled"


def modelled(policy: str) -> tuple[str, bool] | None:
    """Return our policy for a kernel's name, and whether its CPU had Svvptc; None if unknown."""
    if policy in POLICIES:
        return POLICIES[policy]
    base = policy.removesuffix(kernel_counts.SVVPTC)
    svvptc = base != policy
    if base in POLICIES:
        return POLICIES[base][0], svvptc
    return (base, svvptc) if base in policies.names() else None


def base_of(policy: str) -> str:
    """Return the kernel that a policy's rows are compared with: `mark` on a CPU like its own."""
    return "mark" + kernel_counts.SVVPTC * policy.endswith(kernel_counts.SVVPTC)


# ---- rows -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One number of a kernel beside ours; ``reason`` says why it is not scored, if so."""

    file: str
    policy: str
    harts: int
    workload: str
    rep: str
    what: str
    measured: int | None
    predicted: int | None
    tolerance: int = 0
    reason: str = ""

    @property
    def outcome(self) -> str:
        """``equal``, ``differs``, ``not scored`` or ``not modelled``."""
        if self.reason.startswith(NOT_MODELLED):
            return NOT_MODELLED
        if self.reason or self.measured is None or self.predicted is None:
            return "not scored"
        return "equal" if abs(self.measured - self.predicted) <= self.tolerance else "differs"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelReport:
    """Every comparison of a folder, in the order of its files."""

    rows: tuple[Row, ...] = field(repr=False)
    notes: tuple[str, ...] = ()
    """What of the folder was not read: columns that nobody knows, recordings without a map."""
    instructions: tuple[InsnRow, ...] = field(default=(), repr=False)
    """By how many instructions kernels differ: within noise, never exact, so not in ``ok``."""

    @property
    def ok(self) -> bool:
        """Whether something was scored, nothing scored differs and nothing is not modelled."""
        outcomes = Counter(row.outcome for row in self.rows)
        return bool(outcomes["equal"]) and not (outcomes["differs"] or outcomes[NOT_MODELLED])

    def text(self, form: str = "simple", *, every: bool = False) -> str:
        """Return a summary, what differs and why rows are not scored; with ``every``, each row.

        ``form`` is a tabulate format.
        """
        from tabulate import tabulate

        def table(headers: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
            return str(tabulate(list(lines), headers=list(headers), tablefmt=form))

        groups: dict[tuple[str, str, int, str], Counter[str]] = defaultdict(Counter)
        for row in self.rows:
            groups[row.file, row.policy, row.harts, row.what][row.outcome] += 1
        total = Counter(row.outcome for row in self.rows)
        counted = Counter(row.outcome for row in self.rows if row.measured or row.predicted)
        some, off = counted["equal"], counted["differs"]
        outcomes = ("equal", "differs", "not scored", NOT_MODELLED)
        parts = [
            table(("file", "policy", "harts", "what", *outcomes),
                  ((*key, *(n[outcome] for outcome in outcomes)) for key, n in groups.items())),
            f"{total['equal']} of {total['equal'] + total['differs']} scored numbers are equal "
            f"({some} of {some + off} of those that are not 0 on both sides), "
            f"{total['not scored']} are not scored, {total[NOT_MODELLED]} are not modelled",
        ]
        headers = ("file", "policy", "harts", "workload", "rep", "what", "measured", "predicted",
                   "outcome")
        shown = self.rows if every else [r for r in self.rows if r.outcome == "differs"]
        if shown:
            parts.append(table(headers, (
                (r.file, r.policy, r.harts, r.workload, r.rep, r.what, r.measured, r.predicted,
                 r.outcome + (f": {r.reason}" if r.reason else "")
                 + (f" (within {r.tolerance})" if r.tolerance else ""))
                for r in shown)))
        reasons = Counter((r.what, r.reason) for r in self.rows if r.reason)
        if reasons and not every:
            parts.append(table(("not scored", "rows", "because"), (
                (what, times, why) for (what, why), times in reasons.most_common())))
        if self.instructions:
            found = list(validate_insns.table(self.instructions))
            parts += ["instructions an operation by which kernels differ on one hart (told beside "
                      "the counts: their noise is an estimate, and no exit status hangs on it):",
                      table(tuple(found[0]), (tuple(row.values()) for row in found))]
        parts += self.notes
        return "\n\n".join(parts) + "\n"


# ---- the machine and the question ---------------------------------------------------------------


@lru_cache(maxsize=8)
def qemu(*, svvptc: bool = False, via: str = "sbi") -> Machine:
    """Return the emulated machine of the tables, as far as counts depend on it.

    Sv57, 16-bit ASIDs, no invalid translation cached, stores seen at once, OpenSBI's limit of one
    page. Source: data/kernel README (QEMU 10 virt, OpenSBI 1.6); the rest, which no count depends
    on, is the preset rocket's.
    """
    return machines.load("rocket").override({
        "levels": 5, "asid_bits": 16, "svvptc": svvptc, "via": via,
        "inv_l1": False, "inv_l2": False, "inv_pwc": False, "inv_nonleaf_range": False,
        "inv_line_capture": 1, "prefetch_next_line": False,
        "store_drain_cycles": 0, "coherence_cycles": 0,
        "sbi_range_limit_bytes": 4096, "sbi_window_harts": 64,
    }, where="data/kernel README: QEMU 10 virt")


@lru_cache(maxsize=8)
def counting(*, svvptc: bool, via: str) -> Machine:
    """Return that machine with an instruction a cycle, and nothing else that takes time."""
    return validate_insns.counting(qemu(svvptc=svvptc, via=via))


@lru_cache(maxsize=1)
def _quiet() -> Workload:
    """Return a workload that does nothing but the recording."""
    return workloads.load("idle").override({
        "vmalloc_per_s": 0, "user_faults_per_s": 0, "ticks_hz": 0, "interrupts_per_s": 0,
        "speculative_walks_per_mcycle": 0,
    })


def question(trace: Trace, policy: str, machine: Machine, harts: int) -> Question:
    """Return the run of a recording on a machine where nothing else happens."""
    made = replay.build(recover(trace), replay.Settings(harts=harts, levels=machine.levels,
                                                        traced_mhz=1))
    return _lowered(policy, machine, harts, made)


def _lowered(policy: str, machine: Machine, harts: int, work: replay.Replay) -> Question:
    """Lower a run; kernels of the tables are of one tree, 6.12, whose user side knows Svvptc."""
    nr_cpus = max(NR_CPUS, harts)
    asked = scenario.lower(scenario.Scenario(
        policy=policy, machine=machine, harts=harts, workload=_quiet(), nr_cpus=nr_cpus), work=work)
    found = policies.find(policy)
    if policy not in _OF_THE_TREE or not isinstance(found, Linux):
        return asked
    program = ops.lower(dataclasses.replace(found, svvptc_aware=True), nr_cpus=nr_cpus)
    return dataclasses.replace(asked, header=program.header, ops=program.ops)


def user_question(work: UserWork, policy: str, machine: Machine, harts: int) -> Question:
    """Return the run of a row's user work, on hart 0 of a machine where nothing else happens."""
    items, length = validate_user.items(work, harts)
    return _lowered(policy, machine, harts, replay.Replay(
        items=items, gates=struct.pack("<I", 0), useful_cycles=length, counts=Counter(), notes=()))


# ---- recordings made from counts ----------------------------------------------------------------


@lru_cache(maxsize=4096)
def counted_trace(
    harts: int, sizes: tuple[int, ...], frees: int = 0, purges: int = 0
) -> Trace:
    """Return the recording of a row that has none: maps of ``sizes`` pages, frees, then purges."""
    events: list[Event] = []
    va = _BASE_VA
    starts = []

    def head() -> tuple[int, int, int, bool]:
        return len(events) * _STEP_NS, 0, 1, False

    for pages in sizes:
        events.append(Alloc(*head(), va, (pages + 1) * PAGE_BYTES, 1, _BASE_VA, False))
        starts.append(va)
        va += (pages + 1) * PAGE_BYTES
    events += [Free(*head(), start, 0, 0) for start in islice(starts, frees)]
    for _ in range(purges):
        events.append(Purge(*head(), _BASE_VA, _BASE_VA + _PURGE_PAGES * PAGE_BYTES, 0))
    return Trace(name="counts", events=tuple(events),
                 tally=ftrace.Tally(harts_announced=harts))


def fitted_boot(boot: Recovery, maps: int, harts: int) -> Trace:
    """Return a recorded boot with as many maps as another boot counted, changed at its end."""
    events = list(boot.trace.events)
    areas = list(boot.areas)
    while len(areas) > maps:
        at = max(area.made_at for area in areas if area.freed_at > len(events))
        areas = [area for area in areas if area.made_at != at]
        del events[at]
    last = events[-1]
    va = max(area.end_va for area in boot.areas if area.va < kernel_counts.MODULES_FIRST)
    events += [Alloc(last.at_ns, 0, 1, False, va + n * 8 * PAGE_BYTES,
                     (_STACK_PAGES + 1) * PAGE_BYTES, 1, 0, False)
               for n in range(maps - len(areas))]
    return Trace(name=boot.trace.name, events=tuple(events),
                 tally=ftrace.Tally(harts_announced=harts))


# ---- a folder -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    """The sizes of a row's maps in pages, and why they are not known, if so."""

    pages: tuple[int, ...]
    unknown: str = ""


def _unknown(maps: int, why: str) -> _Sizes:
    """Return sizes that only keep the number of maps; what depends on them is not scored."""
    return _Sizes(pages=(1,) * maps, unknown=why)


Part: TypeAlias = Callable[[Counted, Mapping[str, int], str], Iterable[Row]]


@dataclass(kw_only=True)
class _Folder:
    """Tables, recordings and event logs of one folder, and the runs made for them."""

    tables: list[list[Counted]]
    recordings: dict[tuple[str, str, int, str], Recovery]  # policy, via, harts, workload
    logs: list[Path]
    simulate: Callable[[Question], Result]
    ran: dict[str, Result] = field(default_factory=dict)
    user_ran: dict[tuple[UserWork, str, bool, str, int], Mapping[str, int]] = field(
        default_factory=dict)
    asked: dict[tuple[int, str, int, int], tuple[Trace, Result]] = field(default_factory=dict)
    windows: dict[Path, list[Window]] = field(default_factory=dict)
    fenced: dict[tuple[int, str], Mapping[str, int]] = field(default_factory=dict)

    @cached_property
    def base(self) -> dict[tuple[str, str, str, str, int, str, str], Counted]:
        """Rows of ``mark`` to subtract: by policy, file, via, boot, harts, workload, repetition."""
        return {(r.policy, r.file, r.via, r.boot, r.harts, r.workload, r.rep): r
                for table in self.tables for r in table
                if r.policy == base_of(r.policy) and not r.negative}

    def run(self, trace: Trace, policy: str, machine: Machine, harts: int) -> Result:
        """Run a recording; equal questions run once, and the same recording is built once."""
        same = (id(trace), policy, id(machine), harts)  # machines and traces here are kept
        if same not in self.asked:
            asked = question(trace, policy, machine, harts)
            if asked.key not in self.ran:
                self.ran[asked.key] = self.simulate(asked)
            self.asked[same] = (trace, self.ran[asked.key])
        return self.asked[same][1]

    def recording(self, workload: str, harts: int, policy: str = "") -> Recovery | None:
        """Return a recording of the workload: this policy's and so many harts', if there is one."""
        mine = [(p == policy, -n, recovery) for (p, _, n, w), recovery in self.recordings.items()
                if w == workload and n == harts]
        return max(mine, key=lambda found: found[:2])[2] if mine else None

    # ---- what a row's maps were ----

    def sizes(self, row: Counted) -> _Sizes:
        """Return the sizes of a row's maps, from recordings or from what the test is."""
        maps = row["alloc_vmap_area"]
        if row.workload == "tv_vmram":
            return self._ram_sizes(row)
        if row.workload == "tv_pcpu":
            return _unknown(maps, "percpu populates were not recorded")
        if row.workload in FORKS or not maps:
            return _Sizes(pages=(_STACK_PAGES,) * maps)
        if row.workload == "tv_rand":
            return _unknown(maps, "sizes are random, and not of this repetition")
        if row.workload in FIXED_PAGES:
            own = self.own_areas("tv_rand", row.harts)
            return self._filled(row, maps, own and (
                *own, *(FIXED_PAGES[row.workload],) * row["ops"]))
        if row.workload == "boot":
            return self._boot_sizes(row)
        return self._filled(row, maps, self.own_areas(row.workload, row.harts, row["ops"]))

    def _ram_sizes(self, row: Counted) -> _Sizes:
        """Maps of vm_map_ram are known by their number where every map is a flush, on one hart."""
        own = self.own_areas("tv_rand", row.harts)
        if row.harts == 1 and own and fences_maps(row.policy):
            maps = row["ftkr_calls"] - row.purges
            return self._filled(row, maps, (*own, *(VMRAM_PAGES,) * row["ops"]))
        return _unknown(row["alloc_vmap_area"] + row["ops"],
                        "which areas of vm_map_ram are blocks was not recorded")

    def _boot_sizes(self, row: Counted) -> _Sizes:
        """A boot's areas are those of a recorded one, a stack for each task: without ftrace's."""
        maps, own = row["alloc_vmap_area"], self.own_areas("boot", row.harts)
        if own is None:
            return _unknown(maps, "the sizes of these maps were not recorded")
        others = maps - row.counts.get("copy_process", 0)
        if others != len(own) and not row.traced:
            return _unknown(maps, f"recorded with {len(own)} areas that are no stacks, this row "
                            f"has {others}: ftrace maps areas of its own")
        return self._filled(row, maps, own)

    @staticmethod
    def _filled(row: Counted, maps: int, own: tuple[int, ...] | None) -> _Sizes:
        """Areas that a workload always has, and a stack for each task beyond them."""
        if own is None:
            return _unknown(maps, "the sizes of these maps were not recorded")
        stacks = maps - len(own)
        tasks = stacks if row.traced else row.counts.get("copy_process", 0)
        if not 0 <= stacks <= tasks:
            return _unknown(maps, f"recorded with {len(own)} areas that are no stacks, this row "
                            f"has {maps} areas and {tasks} tasks")
        return _Sizes(pages=(*own, *(_STACK_PAGES,) * stacks))

    def own_areas(self, workload: str, harts: int, ops_nr: int = 0) -> tuple[int, ...] | None:
        """Return the pages of the recorded areas that are no stacks, for so many operations.

        Without a number: once, and of tv_rand those of its module alone. They are the same on any
        number of harts; this one's recording is preferred.
        """
        found = sorted((n != harts, n) for _, _, n, w in self.recordings if w == workload)
        for _, n in found:
            recovery, traced = self.recording(workload, n), self.traced_ops(workload, n)
            if recovery is None or not traced or not recovery.areas:
                continue
            made = recovery.areas
            if workload == "tv_rand":
                made = made[:len(made) - traced]
            own = tuple(area.pages for area in made if area.pages != _STACK_PAGES)
            times = Fraction(ops_nr or 1, traced if ops_nr else 1) * len(own)
            if times.denominator == 1:
                return tuple(own[at % len(own)] for at in range(int(times)))
        return None

    def traced_ops(self, workload: str, harts: int) -> int | None:
        """Return the operations of a recorded workload, from the table of the traced runs."""
        return next((r["ops"] for table in self.tables for r in table
                     if r.traced and (r.workload, r.harts) == (workload, harts)), None)

    # ---- what a row's work was ----

    def trace(self, row: Counted) -> tuple[Trace, str]:
        """Return the work of a row as a recording, and why it is not the row's, if so."""
        purges = row["__purge_vmap_area_lazy"]
        maps, flushed = row["alloc_vmap_area"], row["ftkr_calls"]
        own = maps if fences_maps(row.policy) else 0
        if row.traced:
            found = self.recordings.get((row.policy, row.via, row.harts, row.workload))
            if found is None:
                return counted_trace(row.harts, self.sizes(row).pages, 0, 0), (
                    "the recording of this run is not in the folder")
            have = (len(found.areas), len(found.purged))
            want = (maps, flushed - own)
            return found.trace, "" if have == want else (
                f"recorded are {have[0]} maps and {have[1]} purges, counted {want[0]} and "
                f"{want[1]}: the windows differ")
        if row.workload == "boot" and row.harts > 1 and own:
            boot = self.recording("boot", row.harts, row.policy)
            if boot is None:
                return counted_trace(row.harts, self.sizes(row).pages, 0, purges), (
                    f"no recorded boot on {row.harts} harts says how many maps came before them")
            return fitted_boot(boot, maps, row.harts), ""
        sizes = self.sizes(row)
        frees = min(maps, row["free_vmap_area_noflush"])
        if row.workload == "tv_pcpu":   # populates are purges here: each is one call too
            sized = row.harts == 1 or row.via == "imsic"
            return counted_trace(row.harts, sizes.pages, frees, flushed - own), (
                "percpu populates are known only by the calls they make (ftkr_calls)"
                if sized else "")
        wrong = "" if row.workload == "tv_vmram" or flushed == own + purges else (
            f"{own} maps and {purges} purges should flush, flush_tlb_kernel_range was entered "
            f"{flushed} times: a purge found nothing, or the window cut one in two")
        return counted_trace(row.harts, sizes.pages, frees, purges), wrong

    # ---- rows ----

    def compare(self, row: Counted) -> Iterable[Row]:
        """Compare one row of a table; what is not modelled is said once."""
        for what, value, known in (("policy", row.policy, modelled(row.policy) is not None),
                                   ("workload", row.workload, row.workload in WORKLOADS),
                                   ("ipi", row.via, row.via in kernel_counts.VIAS)):
            if not known:
                yield self.row(row, "rf_kern", row.counts.get("rf_kern"), None,
                               reason=f"{NOT_MODELLED}: {what} {value!r}")
                return
        for column in _EVENTS:
            if row.counts.get(column, 0) > EVENTS_MAX:
                yield self.row(row, "row", None, None, reason=(
                    f"{column} is {row[column]}: more events than are run, {EVENTS_MAX}"))
                return
        try:
            trace, wrong = self.trace(row)
            result = self.run(trace, *self.under(row), row.harts) if trace.events else None
        except MissingColumnError as missing:
            yield self.row(row, "row", None, None, reason=str(missing))
            return
        except EngineError as refused:
            yield self.row(row, "row", None, None, reason=f"the engine refused it: {refused}")
            return
        if result is not None and result.verdict != "ran":
            wrong = ""  # scored, and wrong: no kernel of the tables died
        for part in self.parts(row):
            try:
                yield from part(row, _predicted(result), wrong)
            except MissingColumnError as missing:
                yield self.row(row, "row", None, None, reason=str(missing))

    def parts(self, row: Counted) -> Iterable[Part]:
        """Return what can be compared of a row."""
        yield self.faults
        if row.harts > 1:
            yield self.by_ipi if row.via == "imsic" else self.several
        if fences_maps(row.policy) and (row.harts == 1 or row.via == "imsic"
                                        or row.workload == "boot"):
            yield self.alone
        if not row.negative:
            yield self.user
        if row.traced:
            yield self.by_log

    def faults(self, row: Counted, predicted: Mapping[str, int], wrong: str) -> Iterable[Row]:
        """Compare page faults of the kernel: none, or each of them finds the mark."""
        policy, machine = self.under(row)
        if not row.negative:
            yield self.row(row, "pf_S_k", row["pf_S_k"], predicted["traps_kernel_fault"])
        elif policy.startswith("mark") and not machine.svvptc:  # the check fences: no fault is left
            yield self.row(row, "nv_hit of pf_S_k", row["nv_hit"], row["pf_S_k"])

    @staticmethod
    def under(row: Counted) -> tuple[str, Machine]:
        """Return our policy of a row's kernel, and the machine it ran on."""
        found = modelled(row.policy)
        assert found is not None
        return found[0], qemu(svvptc=found[1], via=row.via)

    def run_user(self, work: UserWork, row: Counted) -> Mapping[str, int]:
        """Run a row's user work, once for equal rows."""
        policy, machine = self.under(row)
        same = (work, policy, machine.svvptc, row.via, row.harts)
        if same not in self.user_ran:
            self.user_ran[same] = _predicted(self.simulate(
                user_question(work, policy, machine, row.harts)))
        return self.user_ran[same]

    def user(self, row: Counted, kernel: Mapping[str, int], wrong: str) -> Iterable[Row]:
        """Compare user fences and whole flushes; the kernel's own fences are added."""
        work = validate_user.of_row(row)
        if work is None:
            return
        ran = self.run_user(work, row)
        predicted = {
            "S_addr": kernel["fences_addr"] + ran["fences_addr"],
            "S_full": kernel["fences_full"] + ran["fences_full"],
            "S_asid": ran["fences_asid"], "S_addr_asid": ran["fences_addr_asid"],
            "user calls": ran["remote_user_calls"],
            "rf_full": ran["remote_fence_calls"] - ran["remote_user_calls"],
        }
        imsic = row.via == "imsic"
        unknown = self.sizes(row).unknown if fences_maps(row.policy) and (
            row.harts == 1 or imsic) else ""
        several = work.on_several
        if imsic:   # the kernel's own IPIs: no SBI call is made, every hart fences for itself
            several = tuple("S_full" if what == "rf_full" else what for what in several
                            if what != "user calls")
        for what in work.on_one_hart if row.harts == 1 else several:
            sized = what in ("S_addr", "S_full") and unknown
            measured = row["rf_calls"] - row["rf_kern"] if what == "user calls" else row[what]
            trace = wrong if what in ("S_addr", "S_full") else ""
            yield self.row(row, _USER_WHAT.get(what, what), measured, predicted[what],
                           reason=work.wrong or sized or trace)

    def several(self, row: Counted, predicted: Mapping[str, int], wrong: str) -> Iterable[Row]:
        """Compare remote fences."""
        wrong = wrong or self.ranges(row)
        tolerance = self.tolerance(row)
        yield self.row(row, "rf_kern", row["rf_kern"], predicted["remote_fence_calls"],
                       tolerance=tolerance, reason=wrong)
        targets = row["rf_targets"] - row.harts * row["rf_full"]
        if row["rf_user"]:
            targets = row.harts * row["rf_kern"]    # if every call named every hart
            if not wrong and row["rf_targets"] != row.harts * row.counts.get("rf_calls", -1):
                wrong = "user fences address the harts a process ran on, and are not told apart"
        yield self.row(row, "kernel targets", targets, predicted["remote_fence_targets"],
                       tolerance=tolerance * row.harts, reason=wrong)

    @staticmethod
    def ranges(row: Counted) -> str:
        """Say why a kernel's fences of ranges are not counted as such, if so."""
        found = modelled(row.policy)
        return "its fences of kernel ranges are whole flushes, counted in rf_full" if (
            found is not None and found[0] in WHOLE_FLUSHES) else ""

    @staticmethod
    def tolerance(row: Counted) -> int:
        """Return by how many calls a row may be off: what the window cuts, what it does not see."""
        if row.workload == "tv_vmram" and fences_maps(row.policy):
            return max(VMRAM_BLOCKS, row.harts)
        return PCPU_CUT if row.workload == "tv_pcpu" else 0

    def by_ipi(self, row: Counted, predicted: Mapping[str, int], wrong: str) -> Iterable[Row]:
        """Compare a kernel that uses its own IPIs: no SBI call is made, firmware fences nothing."""
        wrong = wrong or self.ranges(row)
        if row.workload == "boot" and fences_maps(row.policy):  # entered, whoever is up
            sizes = (1,) * row["alloc_vmap_area"]
            predicted = _predicted(self.run(counted_trace(
                row.harts, sizes, 0, row["__purge_vmap_area_lazy"]), *self.under(row), row.harts))
            wrong = self.ranges(row)
        yield self.row(row, "ftkr_calls", row["ftkr_calls"], predicted["remote_fence_calls"],
                       tolerance=self.tolerance(row), reason=wrong)
        for what in ("rf_calls", "M_sfence"):
            if what in row.counts and not (what == "M_sfence" and row.workload == "boot"):
                yield self.row(row, what, row[what], 0)     # a boot: once as each hart starts

    def alone(self, row: Counted, predicted: Mapping[str, int], wrong: str) -> Iterable[Row]:
        """Compare what ``preventive`` fences more than ``mark`` did in the same repetition."""
        key = (base_of(row.policy), row.file, row.via, row.boot, row.harts, row.workload)
        base = self.base.get((*key, row.rep))
        if row.workload != "boot" or row.harts == 1 or row.via == "imsic":
            wrong = wrong or self.sizes(row).unknown    # early in a boot all are stacks
        if base is None:
            yield self.row(row, "S_addr added", None, predicted["fences_addr"],
                           reason=wrong or "no repetition of `mark` to subtract")
            return
        marked = self.run(self.trace(base)[0], *self.under(base), base.harts) if base[
            "alloc_vmap_area"] + base["__purge_vmap_area_lazy"] else None
        without = _predicted(marked)
        more = self.fault_fences(row) - self.fault_fences(base)
        yield self.row(row, "S_addr added", row["S_addr"] - base["S_addr"],
                       predicted["fences_addr"] - without["fences_addr"] + more,
                       reason=wrong or self.spread(base))
        purges = base["__purge_vmap_area_lazy"] - row["__purge_vmap_area_lazy"]
        differs = purges and ("frees of BPF and modules flush whole too, and `mark` purged another "
                              "number of times")
        yield self.row(row, "S_full added", row["S_full"] - base["S_full"],
                       predicted["fences_full"] - without["fences_full"],
                       reason=wrong or differs or "")

    def instructions(self, row: Counted) -> tuple[int, str]:
        """Return what a row's policy spends on the paths of its work, and why not, if so."""
        policy, machine = self.under(row)
        counter = counting(svvptc=machine.svvptc, via=row.via)
        work = validate_user.of_row(row)
        if work is None:
            return 0, "its user work is not known"
        trace, wrong = self.trace(row)
        wrong = wrong or work.wrong or self.sizes(row).unknown
        total = 0
        if trace.events and not wrong:
            total = validate_insns.spent(self.run(trace, policy, counter, row.harts))
        asked = user_question(work, policy, counter, row.harts)
        if asked.key not in self.ran:
            self.ran[asked.key] = self.simulate(asked)
        return total + validate_insns.spent(self.ran[asked.key]), wrong

    def by_instructions(self) -> Iterable[InsnRow]:
        """Compare the instructions of the folder's kernels."""
        known = [row for table in self.tables for row in table if modelled(row.policy)
                 and row.workload in WORKLOADS and row.via in kernel_counts.VIAS]
        return validate_insns.compare(known, lambda names: validate_insns.pairs_of(
            names, base_of, fences_maps), self.instructions)

    def fault_fences(self, row: Counted) -> int:
        """Predict the fences by address of a row's user faults, one page each.

        Only differences are used: a fault that a run had more is anonymous or spurious.
        """
        faults = row.counts.get("pf_U_u", 0) + row.counts.get("pf_S_u", 0)
        work = UserWork(items=(("user_fault", 1, faults),), on_one_hart=(), on_several=())
        return self.run_user(work, row)["fences_addr"] if faults else 0

    def spread(self, base: Counted) -> str:
        """Say why another repetition of ``mark`` would have been another base, if so."""
        if base.workload in CONCURRENT and base.harts > 1:
            return "processes that fault at once on several harts find other pages there each time"
        found = {r["S_addr"] - self.fault_fences(r) for r in self.base.values()
                 if (r.policy, r.file, r.via, r.harts, r.workload)
                 == (base.policy, base.file, base.via, base.harts, base.workload)
                 and (r.boot == base.boot or r.workload == "boot")}
        return "`mark` itself varies between repetitions" if len(found) > 1 else ""

    @staticmethod
    def row(row: Counted, what: str, measured: int | None, predicted: int | None, *,
            tolerance: int = 0, reason: str = "") -> Row:
        policy = row.policy + (f" ({row.negative})" if row.negative else "") + (
            " (imsic)" if row.via == "imsic" else "")
        return Row(file=row.file, policy=policy, harts=row.harts, workload=row.workload,
                   rep=f"{row.boot} {row.rep}".strip(), what=what, measured=measured,
                   predicted=predicted, tolerance=tolerance, reason=reason)

    def uncounted(self, file: str, name: FileName) -> Row | None:
        """Say of a recording that no row of counts is of its run; None if one is, or it is a log.

        One of a policy or a workload that is not known is not modelled, whatever was counted.
        """
        if not name.workload:
            return None
        reason = "no row of counts is of this run; its sizes serve other rows"
        for what, value, known in (("policy", name.policy, modelled(name.policy) is not None),
                                   ("workload", name.workload, name.workload in WORKLOADS)):
            if not known:
                reason = f"{NOT_MODELLED}: {what} {value!r}"
        if not reason.startswith(NOT_MODELLED) and any(
                (r.policy, r.via, r.harts, r.workload)
                == (name.policy, name.via, name.harts, name.workload)
                for table in self.tables for r in table):
            return None
        return Row(file=file, policy=name.policy, harts=name.harts, workload=name.workload, rep="",
                   what="recording", measured=None, predicted=None, reason=reason)

    # ---- event logs ----

    def read(self) -> list[str]:
        """Read every event log once; returns what could not be read, and why."""
        unread = []
        for path in self.logs:
            name = kernel_counts.named(path.name)
            assert name is not None
            try:
                self.windows[path] = list(kernel_counts.read_events(
                    path, svvptc=name.svvptc, imsic=name.via == "imsic"))
                for window in self.windows[path]:       # where no ftrace tells what was mapped
                    if window.wrong:
                        continue
                    alone = validate_logs.kernel_alone(window)
                    if any(isinstance(event, Alloc) for event in alone.events):
                        self.recordings.setdefault(
                            (name.policy, name.via, name.harts, window.workload),
                            recover(alone.trace(path.name, name.harts)))
            except InputError as error:
                unread.append(f"{path.name} is not read: {error}")
        return unread

    def predict(self, window: Window, name: FileName, policy: str) -> Mapping[str, int]:
        """Predict a window of a log under a kernel, its own or another; once."""
        same = (id(window), policy)         # windows here are kept
        if same not in self.fenced:
            found = modelled(policy)
            assert found is not None
            ours, machine = found[0], qemu(svvptc=found[1], via=name.via)
            self.fenced[same] = validate_logs.predict(
                window, name.harts, name.via,
                lambda trace: _predicted(self.run(trace, ours, machine, name.harts)))
        return self.fenced[same]

    def log(self, path: Path) -> Iterable[Row]:
        """Compare the windows of an event log, whose events and fences are known one by one."""
        name = kernel_counts.named(path.name)
        assert name is not None
        for window in self.windows.get(path, ()):
            if modelled(name.policy) is None:
                yield _of_log(path, name, window, validate_logs.Compared(
                    what="rf_kern", measured=window.calls, predicted=None,
                    reason=f"{NOT_MODELLED}: policy {name.policy!r}"))
                continue
            if window.wrong:
                yield _of_log(path, name, window, validate_logs.Compared(
                    what="window", measured=None, predicted=None, reason=window.wrong))
                continue
            predicted = self.predict(window, name, name.policy)
            for compared in validate_logs.compare(window, predicted):
                yield _of_log(path, name, window, compared)
            if not name.negative:
                yield from self.cross(path, name, window)

    def cross(self, path: Path, name: FileName, window: Window) -> Iterable[Row]:
        """Compare a window under the other kernels with what those counted of its workload."""
        ops_nr = self.traced_ops(window.workload, name.harts)
        for policy in POLICIES:
            rows = [r for table in self.tables for r in table
                    if (r.policy, r.via, r.harts, r.workload)
                    == (policy, name.via, name.harts, window.workload)
                    and not (r.negative or r.traced)]
            if policy == name.policy or not rows:
                continue
            try:
                found = list(validate_logs.crossed(
                    window, ops_nr or 0, self.predict(window, name, policy), rows,
                    of_svvptc=name.svvptc, svvptc=POLICIES[policy][1],
                    fences_maps=fences_maps(policy)))
            except MissingColumnError:
                continue
            for compared in found:
                yield _of_log(path, name, window, dataclasses.replace(
                    compared, what=f"as {policy}: {compared.what}"))

    def by_log(self, row: Counted, predicted: Mapping[str, int], wrong: str) -> Iterable[Row]:
        """Compare every fence of a row whose run left an event log."""
        for path, windows in self.windows.items():
            name = kernel_counts.named(path.name)
            assert name is not None
            if (name.policy, name.via, name.harts, name.negative) != (
                    row.policy, row.via, row.harts, row.negative):
                continue
            for window in windows:
                if window.workload == row.workload and not window.wrong:
                    fenced = self.predict(window, name, row.policy)
                    for one in validate_logs.against_row(window, fenced, row):
                        yield self.row(row, one.what, one.measured, one.predicted,
                                       reason=one.reason)


def _of_log(path: Path, name: FileName, window: Window, compared: validate_logs.Compared) -> Row:
    policy = name.policy + f" ({name.negative})" * bool(name.negative) + (
        " (imsic)" * (name.via == "imsic"))
    return Row(file=path.name, policy=policy, harts=name.harts, workload=window.workload, rep="",
               what=compared.what, measured=compared.measured, predicted=compared.predicted,
               reason=compared.reason)


def _predicted(result: Result | None) -> Mapping[str, int]:
    """Return the counters of a run that ended well; -1 everywhere for one that did not."""
    if result is None:
        return defaultdict(int)
    if result.verdict != "ran":
        return defaultdict(lambda: -1)
    return result.counters


def validate_kernel(
    directory: str | Path, *, simulate: Callable[[Question], Result] = engine.simulate
) -> KernelReport:
    """Predict the counts of every table and event log in a folder (and in its ``traces``).

    Raises InputError when nothing in it can be scored, or a file cannot be read.
    """
    root = Path(directory)
    if not root.is_dir():
        raise InputError(str(root), "", "is not a folder")
    files = sorted(path for place in (root, root / "traces") if place.is_dir()
                   for path in place.iterdir())
    tables = [kernel_counts.read_counts(path) for path in files
              if path.name.startswith("counts") and path.name.endswith((".csv", ".csv.gz"))]
    names = {path: name for path in files if (name := kernel_counts.named(path.name)) is not None}
    logs = sorted((path for path, name in names.items() if not name.workload),
                  key=lambda path: bool(names[path].negative))
    recordings, unread = {}, []
    for path, name in sorted(names.items(), key=lambda item: not item[1].negative):  # plain: last
        try:
            if name.workload:
                recordings[name.policy, name.via, name.harts, name.workload] = replay.recovered(
                    str(path))
        except InputError as error:
            unread.append(f"{path.name} is not read: {error}")
    if not (logs or recordings or any(table.rows or table.nameless for table in tables)):
        raise InputError(str(root), "", "nothing to score in it: no counts*.csv with a row, no "
                         "events-*.evt, no riscv-*.ftrace.txt")
    folder = _Folder(tables=[list(table.rows) for table in tables], recordings=recordings,
                     logs=logs, simulate=simulate)
    unread += folder.read()
    rows = [compared for table in tables for row in table.rows for compared in folder.compare(row)]
    rows += [compared for path in logs for compared in folder.log(path)]
    rows += _nameless(tables)
    rows += [row for path, name in names.items() if (row := folder.uncounted(path.name, name))]
    notes = [f"{table.file}: column {column!r} is unknown, and not read"
             for table in tables for column in table.unknown]
    notes += [note for table in tables for note in _twice(table)]
    return KernelReport(rows=tuple(rows), notes=(*notes, *unread),
                        instructions=tuple(folder.by_instructions()))


def _twice(table: kernel_counts.Table) -> Iterable[str]:
    """Say of which runs a table has more than one row."""
    seen: dict[tuple[object, ...], int] = {}
    for row in table.rows:
        key = (row.policy, row.negative, row.via, row.boot, row.harts, row.workload, row.rep)
        before = seen.setdefault(key, row.line)
        if before != row.line:
            yield f"{table.file}:{row.line}: the same run as line {before}: both are compared"


def _nameless(tables: Iterable[kernel_counts.Table]) -> Iterable[Row]:
    """Say of a table without the columns that name its rows that it cannot be scored."""
    for table in tables:
        if table.nameless:
            yield Row(file=table.file, policy="", harts=0, workload="", rep="", what="table",
                      measured=None, predicted=None,
                      reason=f"lacks the column {' and '.join(table.nameless)}")
