"""What was counted on real kernels: tables of counts and logs of single events, read and checked.

Two kinds of files, told by name:

* ``counts*.csv``: one row per repetition of a workload, columns by header name; what a column means
  is said where it is used.
* ``events-VERSION-POLICY-smpN.evt.gz``: one line per event of a whole run, with marks around each
  workload; read by `pysim.eventlog`.

Source of both: linux 6.12.94 on QEMU 10 with an instruction-counting plugin (data/kernel README).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pysim import engine, eventlog, ftrace
from pysim.errors import InputError
from pysim.eventlog import Window

MODULES_FIRST: Final = 0xFFFFFFFF00000000
"""Modules lie from here on in every mode. Source: linux 6.12, Documentation vm-layout.rst."""

_NAME: Final = re.compile(
    r"(?P<kind>riscv|events)-(?P<version>\d[\w.]*)-(?P<said>[\w.+-]*?)-?smp(?P<harts>[1-9]\d*)"
    r"(?:-(?P<rest>[\w.+-]+?))?\.(?P<form>ftrace\.txt|evt)(?:\.gz)?$"
)
_NEGATIVE: Final = re.compile(r"(?:neg|evict)\d+$")
"""How the emulator cached invalid translations. Source: data/kernel README, negative_mode."""

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

COUNT_MAX: Final = 1 << 53
"""A count is no larger: what a program made of it that counts in floating point is still exact."""

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
    negative: str = ""
    """How the emulator cached invalid translations; empty: it did not, or the name does not say."""

    @property
    def svvptc(self) -> bool:
        """Whether the CPU had Svvptc."""
        return self.policy.endswith(SVVPTC)


def named(name: str) -> FileName | None:
    """Read ``riscv-VERSION-POLICY[-VIA]-smpN[-VIA]-WORKLOAD.ftrace.txt`` or ``events-...evt``.

    None when it is neither. A policy may have dashes; ``sbi`` and ``imsic`` say how fences went,
    ``neg2`` or ``evict4`` how the emulator cached invalid translations.
    """
    match = _NAME.match(name)
    if match is None or (match["kind"] == "events") != (match["form"] == "evt"):
        return None
    before, after = match["said"].split("-"), (match["rest"] or "").split("-")
    vias = [word for word in (*before, *after) if word in VIAS]
    modes = [word for word in (*before, *after) if _NEGATIVE.match(word)]
    policy, workload = ("-".join(word for word in words if word not in (*VIAS, *modes))
                        for words in (before, after))
    if match["kind"] == "riscv" and not workload:
        return None
    return FileName(policy=policy, via=vias[0] if vias else VIAS[0], harts=int(match["harts"]),
                    workload=workload, negative=modes[0] if modes else "")


def fences_maps(policy: str) -> bool:
    """Whether a kernel of that name fences every map: flush_tlb_kernel_range is entered for it."""
    return policy.startswith("preventive")


class MissingColumnError(Exception):
    """A row lacks a count that a comparison needs; it is not scored, and says so."""

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
        """Return a count. Raises MissingColumnError when the row has none in that column."""
        try:
            return self.counts[column]
        except KeyError:
            raise MissingColumnError(column) from None

    @property
    def traced(self) -> bool:
        """Whether ftrace ran meanwhile: its own patching hides the entries of some functions."""
        return "traced" in self.file

    @property
    def purges(self) -> int:
        """Purges: entries of the function; where those are hidden, flushes that are no map's."""
        if not self.traced:
            return self["__purge_vmap_area_lazy"]
        return self["ftkr_calls"] - self["alloc_vmap_area"] * fences_maps(self.policy)


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
        reader = csv.reader(_plain(lines), skipinitialspace=True, strict=True)
        try:
            header = [name.strip() for name in next(reader, ())]
            nameless = tuple(name for name in _NAMED if name not in header)
            unknown = tuple(name for name in header
                            if name and name not in (*_NAMED, *COUNTS, *_OTHERS))
            for name in header:
                if name and header.count(name) > 1:
                    raise InputError(f"{path}:1", name, "two columns have this name")
            rows = [] if nameless else [
                _counted(path, reader.line_num, _cells(path, reader.line_num, header, row))
                for row in reader if row]
        except csv.Error as error:
            raise InputError(f"{path}:{reader.line_num}", "", str(error)) from error
    return Table(file=path.name, rows=tuple(rows), nameless=nameless, unknown=unknown)


def _plain(lines: Iterator[str]) -> Iterator[str]:
    """Yield lines as a spreadsheet may have written them: behind a byte order mark, ended by CR."""
    for number, line in enumerate(lines):
        yield from (line if number else line.removeprefix("\ufeff")).replace(
            "\r\n", "\n").replace("\r", "\n").splitlines(keepends=True)


def _cells(path: Path, number: int, header: list[str], row: list[str]) -> dict[str, str]:
    """Return a row by its columns. Raises InputError when it has not as many cells."""
    if len(row) != len(header):
        raise InputError(f"{path}:{number}", "", f"has {len(row)} cells, the header {len(header)}")
    return {name: cell.strip() for name, cell in zip(header, row, strict=True)}


def _counted(path: Path, number: int, row: dict[str, str]) -> Counted:
    """Read a row; a cell that is empty was not counted, as a column that is not there."""
    counts: dict[str, int] = {}
    for column in ("smp", *COUNTS):
        text = row.get(column, "")
        if not text and column != "smp":
            continue
        if not (text.isascii() and text.isdecimal()) or int(text) > COUNT_MAX:
            raise InputError(f"{path}:{number}", column, f"is a count, got {text[:40]!r}")
        counts[column] = int(text)
    if not 1 <= counts["smp"] <= engine.HARTS_MAX:
        raise InputError(f"{path}:{number}", "smp", "a machine has a hart, and up to "
                         f"{engine.HARTS_MAX}, got {counts['smp']}")
    return Counted(
        file=path.name, line=number, policy=row["policy"] or "", harts=counts["smp"],
        workload=row["workload"] or "", boot=row.get("boot_id") or "", rep=row.get("rep") or "",
        via=(row.get("ipi") or VIAS[0]).lower(),
        negative=row.get("negative_mode") or "", counts=counts,
    )


# ---- event logs -------------------------------------------------------------------------------


def read_events(
    path: Path, *, svvptc: bool = False, imsic: bool = False
) -> Iterator[Window]:
    """Yield the windows of an event log in its order, boot first; see `pysim.eventlog`.

    Raises InputError with file and line for a line that is none of a log, or a log without marks.
    """
    tally, found = ftrace.Tally(), False
    for window in eventlog.windows(path, tally, svvptc=svvptc, imsic=imsic):
        found = found or not (window.cut and window.workload == eventlog.BOOT)
        _whole(path, tally)
        yield window
    _whole(path, tally)
    if not found:
        raise InputError(str(path), "", "no workload between marks: empty or cut short")


def _whole(path: Path, tally: ftrace.Tally) -> None:
    """Refuse a log of which a line could not be read: what was counted would be too little."""
    for broken in tally.broken:
        raise InputError(f"{path}:{broken.line}", "", f"{broken.reason}: {broken.text}")
