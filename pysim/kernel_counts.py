"""What was counted on real kernels: tables of counts and logs of single events, read and checked.

Two kinds of files, told by name:

* ``counts*.csv``: one row per repetition of a workload, columns by header name; what a column means
  is said where it is used.
* ``events-VERSION-POLICY-smpN.evt.gz``: one line per event of a whole run, ``seq hart seconds event
  args``, with MARK lines around each workload.

Source of both: linux 6.12.94 on QEMU 10 with an instruction-counting plugin (data/kernel README).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pysim import ftrace
from pysim.errors import InputError
from pysim.ftrace import ADDRESS_END, PAGE_BYTES, Alloc, Event, Exit, Fork, Free, Purge

KERNEL_FIRST: Final = 1 << 63
"""Addresses from here on are the kernel's."""

MODULES_FIRST: Final = 0xFFFFFFFF00000000
"""Modules lie from here on in every mode. Source: linux 6.12, Documentation vm-layout.rst."""

WINDOWS: Final = {1: "fork", 4: "forkburst", 5: "forkexec", 6: "threads", 7: "bpf", 10: "modload",
                  14: "tv_rand"}
"""Workload w of an event log lies between MARK 10 + 2w and MARK 11 + 2w. Source: its README."""

_NAME: Final = re.compile(
    r"(?P<kind>riscv|events)-(?P<version>\d[\w.]*)-(?P<said>[\w.+-]*?)-?smp(?P<harts>[1-9]\d*)"
    r"(?:-(?P<rest>[\w.+-]+?))?\.(?P<form>ftrace\.txt|evt)(?:\.gz)?$"
)
VIAS: Final = ("sbi", "imsic")
"""How remote fences may have gone; a file or a row that does not say went through SBI."""

SVVPTC: Final = "+svvptc"
"""How the name of a policy ends on a CPU that has it."""

COUNTS: Final = (
    "ops", "insn", "S_sfence", "S_full", "S_addr", "S_asid", "S_addr_asid", "M_sfence", "rf_calls",
    "rf_kern", "rf_user", "rf_full", "rf_targets", "fencei_calls", "sbi_ipi", "ipi_targets",
    "S_fencei", "pf_U_u", "pf_S_u", "pf_S_k", "pf_U_k", "nv_hit", "ecallU", "irqs",
    "alloc_vmap_area", "free_vmap_area_noflush", "__purge_vmap_area_lazy", "copy_process",
    "handle_mm_fault", "ftkr_calls",
)
"""Columns that count; their meaning stands in the README of the tables."""

_NAMED: Final = ("policy", "workload", "smp")
"""Columns without which a row cannot be told from another."""

_OTHERS: Final = ("boot_id", "rep", "negative_mode", "ipi", "S_sfence_per_vcpu",
                  "M_sfence_per_vcpu", "neg_fill", "neg_hit")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileName:
    """What the name of a recording or an event log says of it."""

    policy: str
    via: str
    harts: int
    workload: str
    """Empty for an event log, which holds several."""

    @property
    def svvptc(self) -> bool:
        """Whether the CPU had Svvptc."""
        return self.policy.endswith(SVVPTC)


def named(name: str) -> FileName | None:
    """Read ``riscv-VERSION-POLICY[-VIA]-smpN[-VIA]-WORKLOAD.ftrace.txt`` or ``events-...evt``.

    None when it is neither. A policy may have dashes; ``sbi`` and ``imsic`` say how fences went.
    """
    match = _NAME.match(name)
    if match is None or (match["kind"] == "events") != (match["form"] == "evt"):
        return None
    before, after = match["said"].split("-"), (match["rest"] or "").split("-")
    vias = [word for word in (*before, *after) if word in VIAS]
    workload = "-".join(word for word in after if word not in VIAS)
    if match["kind"] == "riscv" and not workload:
        return None
    return FileName(policy="-".join(word for word in before if word not in VIAS),
                    via=vias[0] if vias else VIAS[0], harts=int(match["harts"]),
                    workload=workload)


class MissingColumnError(Exception):
    """A table lacks a column that a comparison needs; the row is not scored, and says so."""

    def __init__(self, column: str) -> None:
        self.column = column
        super().__init__(f"the column {column} is missing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """One row of a table of counts: what happened in one repetition of one workload."""

    file: str
    line: int
    policy: str
    harts: int
    workload: str
    boot: str
    rep: str
    via: str
    negative: str
    """How the emulator cached invalid translations; empty: it did not."""
    counts: dict[str, int]

    def __getitem__(self, column: str) -> int:
        """Return a count. Raises MissingColumnError when the table has no such column."""
        try:
            return self.counts[column]
        except KeyError:
            raise MissingColumnError(column) from None

    @property
    def traced(self) -> bool:
        """Whether ftrace ran meanwhile: its own patching hides the entries of some functions."""
        return "traced" in self.file


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of counts; what it lacks or has beyond the known columns is named, not refused."""

    file: str
    rows: tuple[Counted, ...]
    nameless: tuple[str, ...]
    """Columns it lacks without which its rows cannot be told apart: then it has no rows."""
    unknown: tuple[str, ...]


def read_counts(path: Path) -> Table:
    """Read one table by its header. Raises InputError with file, line and column for bad values.

    Without the columns that name a row (policy, workload, smp) it has no rows.
    """
    with ftrace.open_text(path) as lines:
        reader = csv.DictReader(lines)
        header = [name for name in (reader.fieldnames or ()) if name]
        nameless = tuple(name for name in _NAMED if name not in header)
        unknown = tuple(name for name in header if name not in (*_NAMED, *COUNTS, *_OTHERS))
        rows = [] if nameless else [
            _counted(path, number, row) for number, row in enumerate(reader, 2)]
    return Table(file=path.name, rows=tuple(rows), nameless=nameless, unknown=unknown)


def _counted(path: Path, number: int, row: dict[str, str]) -> Counted:
    counts: dict[str, int] = {}
    for column in ("smp", *COUNTS):
        if column in row:
            text = row[column] or ""
            if not (text.isascii() and text.isdecimal()):
                raise InputError(f"{path}:{number}", column, f"is a count, got {text!r}")
            counts[column] = int(text)
    if not counts["smp"]:
        raise InputError(f"{path}:{number}", "smp", "a machine has a hart")
    return Counted(
        file=path.name, line=number, policy=row["policy"] or "", harts=counts["smp"],
        workload=row["workload"] or "", boot=row.get("boot_id") or "", rep=row.get("rep") or "",
        via=row.get("ipi") or VIAS[0],
        negative=row.get("negative_mode") or "", counts=counts,
    )


# ---- event logs -------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Window:
    """One workload of an event log: what the kernel did, and the remote fences it asked for."""

    workload: str
    events: list[Event] = field(default_factory=list)
    calls: int = 0
    """Remote fences of kernel ranges (rf_kern)."""
    targets: int = 0
    """Harts they addressed, the caller included."""

    def trace(self, name: str, harts: int) -> ftrace.Trace:
        """Return the window as a recording; raises InputError when nothing was mapped in it."""
        return ftrace.Trace(name=name, events=tuple(self.events),
                            tally=ftrace.Tally(harts_announced=harts))


_ARGUMENT: Final = re.compile(r"(\w+)=([0-9a-f]+)")


@dataclass(slots=True)
class _Log:
    """An event log while it is read, line by line."""

    where: str
    window: Window | None = field(default_factory=lambda: Window(workload="boot"))
    last_map: dict[int, tuple[int, int]] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)

    def line(self, number: int, words: list[str]) -> Window | None:
        """Take one line in; returns the window that it ends."""
        try:
            hart, at_ns, what = int(words[1]), round(float(words[2]) * 1e9), words[3]
            if what == "MARK":
                return self.mark(int(words[4]))
            if self.window is not None:
                given = {name: int(value, 16) for name, value in _ARGUMENT.findall(
                    " ".join(words[4:]))}
                self.event(self.window, (at_ns, hart, 1, False), what, given)
        except (ValueError, IndexError, KeyError) as error:
            raise InputError(f"{self.where}:{number}", "", "not a line of an event log: "
                             f"{' '.join(words)[:60]}") from error
        return None

    def mark(self, mark: int) -> Window | None:
        ended = self.window if mark == 1 or (mark >= 10 and mark % 2) else None
        begins = WINDOWS.get((mark - 10) // 2) if mark >= 10 and mark % 2 == 0 else None
        self.window = Window(workload=begins) if begins else None
        return ended

    def event(self, window: Window, head: tuple[int, int, int, bool], what: str,
              given: dict[str, int]) -> None:
        """Turn one event into one of a recording, or count it."""
        hart = head[1]
        if window.workload == "boot" and hart not in self.seen:
            # a boot, as recordings show it: the first task is made, other harts appear
            self.seen.add(hart)
            window.events.append(Exit(*head) if window.events else Fork(*head, 1))
        if what in ("__vmap_pages_range_noflush", "vmap_range_noflush"):
            first, end = given["a0"], given["a1"]
            self.last_map[hart] = (first, end)
            size = end - first + PAGE_BYTES
            window.events.append(Alloc(*head, first, size, 1, 0, False))
        elif what == "__vunmap_range_noflush":
            window.events.append(Free(*head, given["a0"], 0, 0))
        elif what == "flush_tlb_kernel_range":
            if self.last_map.pop(hart, None) != (given["a0"], given["a1"]):  # else the map's own
                end = min(given["a1"], ADDRESS_END - PAGE_BYTES)
                window.events.append(Purge(*head, given["a0"], end, 0))
        elif what == "sbi_rfence" and given["fid"] == 1 and given["start"] >= KERNEL_FIRST:
            window.calls += 1
            window.targets += given["hmask"].bit_count()


def read_events(path: Path) -> Iterator[Window]:
    """Yield the windows of an event log in its order, boot first.

    Raises InputError with file and line for a line that is none of a log, or a log without marks.
    """
    log, found = _Log(str(path)), False
    with ftrace.open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            ended = log.line(number, line.split())
            if ended is not None:
                found = True
                yield ended
    if not found:
        raise InputError(str(path), "", "no workload between marks: empty or cut short")
