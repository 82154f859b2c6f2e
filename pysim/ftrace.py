"""Read recordings: the text that ftrace, trace_pipe and ``trace-cmd report`` print.

One line is one event: task, hart, flags, time, name, fields. The columns moved over the years, so a
line is taken apart by what its columns look like, never by their position. Events of the vmalloc
area and of the scheduler become typed events; others are counted by name. Lines that are neither
are kept with their number and a reason, and are fatal only when nothing usable remains.

Sources of the formats: linux 6.12, kernel/trace/trace_output.c (columns, flags, lost events),
include/trace/events/vmalloc.h and sched.h (fields); trace-cmd 2.x and 3.x, plugin sched_switch.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final, TypeAlias

from pysim.errors import InputError

PAGE_BYTES: Final = 4096
ADDRESS_END: Final = 1 << 64
BROKEN_KEPT: Final = 20
"""So many broken lines are kept word for word; all are counted."""


# ---- events -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Alloc:
    """An area of the vmalloc or module region was reserved; mapped at once unless ``failed``.

    ``size_bytes`` includes the guard page that nearly every area has.
    Source: linux 6.12, include/trace/events/vmalloc.h, alloc_vmap_area.
    """

    at_ns: int
    hart: int
    pid: int
    irqs_off: bool
    va: int
    size_bytes: int
    align_bytes: int
    region_va: int
    failed: bool


@dataclass(frozen=True, slots=True)
class Free:
    """An area was unmapped without a fence; ``lazy_pages`` wait for the next purge.

    Source: linux 6.12, include/trace/events/vmalloc.h, free_vmap_area_noflush.
    """

    at_ns: int
    hart: int
    pid: int
    irqs_off: bool
    va: int
    lazy_pages: int
    lazy_pages_max: int


@dataclass(frozen=True, slots=True)
class Purge:
    """All areas freed so far were fenced; ``first_va`` >= ``end_va`` means there was no fence.

    Source: linux 6.12, include/trace/events/vmalloc.h, purge_vmap_area_lazy.
    """

    at_ns: int
    hart: int
    pid: int
    irqs_off: bool
    first_va: int
    end_va: int
    areas: int


@dataclass(frozen=True, slots=True)
class Switch:
    """The hart goes from the task ``pid`` to the task ``next_pid``; ``prev_state`` Z or X: it died.

    Source: linux 6.12, include/trace/events/sched.h, sched_switch.
    """

    at_ns: int
    hart: int
    pid: int
    irqs_off: bool
    prev_state: str
    next_pid: int


@dataclass(frozen=True, slots=True)
class Fork:
    """The task ``pid`` made the task ``child_pid``.

    Source: linux 6.12, include/trace/events/sched.h, sched_process_fork.
    """

    at_ns: int
    hart: int
    pid: int
    irqs_off: bool
    child_pid: int


@dataclass(frozen=True, slots=True)
class Exit:
    """The task ``pid`` is exiting; it still runs until it is switched away.

    Source: linux 6.12, include/trace/events/sched.h, sched_process_exit.
    """

    at_ns: int
    hart: int
    pid: int
    irqs_off: bool


# The following are told by event logs only (`pysim.eventlog`), not by ftrace. ``space`` is a user
# address space; numbers start at 1 and are never given twice.


@dataclass(frozen=True, slots=True)
class SwitchMm:
    """The hart runs another address space from now on.

    Source: linux 6.12, arch/riscv/mm/context.c, switch_mm.
    """

    at_ns: int
    hart: int
    pid: int
    irqs_off: bool
    space: int


@dataclass(frozen=True, slots=True)
class UserFault:
    """A fault installed so many user pages.

    Source: linux 6.12, arch/riscv/include/asm/pgtable.h, update_mmu_cache_range.
    """

    at_ns: int
    hart: int
    pid: int
    irqs_off: bool
    pages: int


@dataclass(frozen=True, slots=True)
class UserProtect:
    """One user page of an address space gained rights: accessed, dirty, writable.

    Source: linux 6.12, arch/riscv/mm/pgtable.c, ptep_set_access_flags.
    """

    at_ns: int
    hart: int
    pid: int
    irqs_off: bool
    space: int


@dataclass(frozen=True, slots=True)
class UserUnmap:
    """User pages of an address space lost rights; 0 pages: all of them, or more than 64.

    Source: linux 6.12, arch/riscv/mm/tlbflush.c, flush_tlb_mm, flush_tlb_page, flush_tlb_range.
    """

    at_ns: int
    hart: int
    pid: int
    irqs_off: bool
    space: int
    pages: int


@dataclass(frozen=True, slots=True)
class Flush:
    """Everything was fenced everywhere: set_memory, code that is freed.

    Source: linux 6.12, arch/riscv/mm/tlbflush.c, flush_tlb_all.
    """

    at_ns: int
    hart: int
    pid: int
    irqs_off: bool


UserEvent: TypeAlias = SwitchMm | UserFault | UserProtect | UserUnmap
Event: TypeAlias = Alloc | Free | Purge | Switch | Fork | Exit | Flush | UserEvent


@dataclass(frozen=True, slots=True)
class Broken:
    """A line that could not be read: its number (from 1), why, and how it begins."""

    line: int
    reason: str
    text: str


@dataclass(slots=True)
class Tally:
    """What a recording holds beside its typed events; filled while it is read."""

    lines: int = 0
    comments: int = 0
    known: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    broken_nr: int = 0
    broken: list[Broken] = field(default_factory=list)
    lost: Counter[int] = field(default_factory=Counter)
    """Events lost per hart; -1: overwritten in the ring buffer, hart unknown."""
    harts_announced: int = 0
    """Harts that the header says recorded; 0: it does not say."""
    out_of_order: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    """What the reader had to assume, or left out."""

    def complain(self, line: int, reason: str, text: str) -> None:
        """Count a broken line and keep it if there is room."""
        self.broken_nr += 1
        if len(self.broken) < BROKEN_KEPT:
            self.broken.append(Broken(line, reason, text.strip()[:80]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A recording: typed events in time order, and what else was in it."""

    name: str
    events: tuple[Event, ...]
    tally: Tally

    @property
    def harts(self) -> tuple[int, ...]:
        """The harts that recorded something, ascending."""
        return tuple(sorted({event.hart for event in self.events}))

    @property
    def span_ns(self) -> int:
        """From the first typed event to the last."""
        return self.events[-1].at_ns - self.events[0].at_ns


# ---- one line ---------------------------------------------------------------------------------

# A task's name has at most 15 bytes and may hold blanks, dashes and colons; `<idle>` and `<...>`
# are the kernel's own. The thread group, the flags (4 or 5 characters, the first never a digit)
# and everything after the name may be missing.
_LINE: Final = re.compile(
    r"\s*(\S.{0,15}|)-(\d+)\s+(?:\([\s\d-]+\)\s+)?\[(\d+)\]\s+"
    r"(?:([^\s\d]\S{3,4})\s+)?(\d+)\.(\d+):\s+([^\s:]+)(?::\s*|\s+|$)(.*)"
)
_LOST: Final = re.compile(r"CPU:\s*(\d+)\s+\[(?:LOST (\d+) )?EVENTS(?: DROPPED)?\]")
_QUIET: Final = re.compile(r"cpus=\d+$|CPU \d+ is empty$|version = \d+$|$")
_WRITTEN: Final = re.compile(r"#\s*entries-in-buffer/entries-written:\s*(\d+)/(\d+)")
_HARTS: Final = re.compile(r"(?:#.*#P:|cpus=)(\d+)$")

_FIELDS: Final = re.compile(r"(\w+)[=:]\s*(-?0x[0-9a-fA-F]+|-?\d+)(?=\s|$)")
_SWITCH: Final = re.compile(
    r"prev_comm=.* prev_pid=(\d+) prev_prio=-?\d+ prev_state=(\S+) ==> "
    r"next_comm=.* next_pid=(\d+) next_prio=-?\d+\s*$"
)
_SWITCH_SHORT: Final = re.compile(r".*:(\d+) \[-?\d+\] (\S+) ==> .*:(\d+) \[-?\d+\]\s*$")
_FORK: Final = re.compile(r"comm=.* pid=(\d+) child_comm=.* child_pid=(\d+)\s*$")
_EXIT: Final = re.compile(r"comm=.* pid=(\d+)(?: prio=-?\d+)?(?: group_dead=\w+)?\s*$")

_Head: TypeAlias = tuple[int, int, int, bool]  # at_ns, hart, pid, irqs_off


def _numbers(body: str, *names: str) -> list[int]:
    """Return the named integer fields of a body; ValueError names the first that is missing."""
    found = {name: int(value, 0) for name, value in _FIELDS.findall(body)}
    for name in names:
        if name not in found:
            raise ValueError(f"no number {name}")
    return [found[name] for name in names] + [found.get("align", 1), found.get("failed", 0),
                                              found.get("vstart", 0)]


def _address(va: int, name: str) -> int:
    if not 0 <= va < ADDRESS_END or va % PAGE_BYTES:
        raise ValueError(f"{name} is not the address of a page")
    return va


def _alloc(head: _Head, body: str) -> Event:
    va, size_bytes, align_bytes, failed, region_va = _numbers(body, "va_start", "size")
    if size_bytes <= 0 or size_bytes % PAGE_BYTES:
        raise ValueError("size is not a whole number of pages")
    if not failed and _address(va, "va_start") + size_bytes > ADDRESS_END:
        raise ValueError("the area passes the end of the address space")
    return Alloc(*head, va, size_bytes, align_bytes, region_va, bool(failed))


def _free(head: _Head, body: str) -> Event:
    va, lazy_pages, lazy_pages_max, *_ = _numbers(body, "va_start", "nr_lazy", "nr_lazy_max")
    return Free(*head, _address(va, "va_start"), lazy_pages, lazy_pages_max)


def _purge(head: _Head, body: str) -> Event:
    first_va, end_va, areas, *_ = _numbers(body, "start", "end", "num_purged")
    if not (0 <= first_va < ADDRESS_END and 0 <= end_va < ADDRESS_END):
        raise ValueError("start or end is not an address")
    return Purge(*head, first_va, end_va, areas)


def _switch(head: _Head, body: str) -> Event:
    match = _SWITCH.match(body) or _SWITCH_SHORT.match(body)
    if match is None:
        raise ValueError("no `previous task ==> next task`")
    at_ns, hart, _, irqs_off = head
    return Switch(at_ns, hart, int(match[1]), irqs_off, match[2], int(match[3]))


def _fork(head: _Head, body: str) -> Event:
    match = _FORK.match(body)
    if match is None:
        raise ValueError("no pid and child_pid")
    at_ns, hart, _, irqs_off = head
    return Fork(at_ns, hart, int(match[1]), irqs_off, int(match[2]))


def _exit(head: _Head, body: str) -> Event:
    match = _EXIT.match(body)
    if match is None:
        raise ValueError("no pid")
    at_ns, hart, _, irqs_off = head
    return Exit(at_ns, hart, int(match[1]), irqs_off)


EVENTS: Final[dict[str, Callable[[_Head, str], Event]]] = {
    "alloc_vmap_area": _alloc,
    "free_vmap_area_noflush": _free,
    "purge_vmap_area_lazy": _purge,
    "sched_switch": _switch,
    "sched_process_fork": _fork,
    "sched_process_exit": _exit,
}
"""The events that mean something here, by the kernel's name."""


def _not_an_event(number: int, line: str, tally: Tally) -> None:
    """Account for a line that is no event: a comment, a notice about losses, or a broken line."""
    text = line.strip()
    if announced := _HARTS.match(text):
        tally.harts_announced = int(announced[1])
    if text.startswith("#"):
        tally.comments += 1
        written = _WRITTEN.match(text)
        if written:
            overwritten = int(written[2]) - int(written[1])
            if overwritten > 0:
                tally.lost[-1] += overwritten
    elif lost := _LOST.search(text):
        tally.comments += 1
        tally.lost[int(lost[1])] += int(lost[2] or 1)
    elif _QUIET.match(text):
        tally.comments += 1
    else:
        tally.complain(number, "not a line of a trace", text)


def events(lines: Iterable[str], tally: Tally) -> Iterator[Event]:
    """Yield the typed events of ``lines`` in their order and fill ``tally``; nothing is kept."""
    line_match, known, unknown = _LINE.match, tally.known, tally.unknown
    for number, line in enumerate(lines, tally.lines + 1):
        tally.lines = number
        match = line_match(line)
        if match is None:
            _not_an_event(number, line, tally)
            continue
        _, pid, hart, flags, seconds, fraction, name, body = match.groups()
        make = EVENTS.get(name)
        if make is None:
            unknown[name] += 1
            continue
        if len(fraction) > 9:
            tally.complain(number, f"{name}: time finer than a nanosecond", line)
            continue
        at_ns = int(seconds) * 1_000_000_000 + int(fraction) * 10 ** (9 - len(fraction))
        try:
            event = make((at_ns, int(hart), int(pid), flags is not None and flags[0] in "dD"), body)
        except ValueError as error:
            tally.complain(number, f"{name}: {error}", line)
            continue
        known[name] += 1
        yield event


# ---- files ------------------------------------------------------------------------------------

_MAGIC: Final = {
    b"\x17\x08\x44tracing": "a binary trace.dat: print it with `trace-cmd report`",
    b"PERFILE2": "a perf.data file: record with ftrace or trace-cmd",
}


@contextmanager
def open_text(path: Path) -> Iterator[Iterator[str]]:
    """Open a text file, gzipped or not (told by its first bytes), line by line.

    Raises InputError when it is missing, a folder, binary, or a truncated or damaged gzip file.
    """
    where = str(path)
    try:
        with path.open("rb") as raw:
            start = raw.read(10)
            for magic, advice in _MAGIC.items():
                if start.startswith(magic):
                    raise InputError(where, "", advice)
            raw.seek(0)
            stream = gzip.GzipFile(fileobj=raw) if start[:2] == b"\x1f\x8b" else raw
            yield (line.decode("utf-8", "replace") for line in stream)
    except EOFError as error:
        raise InputError(where, "", "the gzip file is truncated") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(where, "", f"the gzip file is damaged: {error}") from error
    except OSError as error:
        raise InputError(where, "", (error.strerror or str(error)).lower()) from error


def packaged() -> tuple[str, ...]:
    """Return the names of the recordings that ship with the package, without their suffix."""
    folder = resources.files("pysim") / "workloads"
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(n.removesuffix(SUFFIX) for n in names if n.endswith(SUFFIX)))


SUFFIX: Final = ".ftrace.txt.gz"


def find(source: str | Path) -> Path:
    """Return the file meant by a path or by the name of a recording of the package.

    Raises InputError with the nearest packaged name when it is neither.
    """
    path = Path(source)
    if path.exists():
        return path
    name = str(source).removesuffix(SUFFIX)
    if name in packaged():
        with resources.as_file(resources.files("pysim") / "workloads" / (name + SUFFIX)) as found:
            return found
    raise InputError(str(source), "", "no such file, and no recording of the package",
                     got=name, nearest=packaged())


def trace(lines: Iterable[str], name: str) -> Trace:
    """Read a whole recording into memory, only its typed events.

    ftrace merges the harts' buffers by time; files joined by other means are sorted by time here
    (stable, counted in ``tally.out_of_order``). Raises InputError when no usable event remains.
    """
    tally = Tally()
    found = deque(events(lines, tally))
    if not found:
        raise InputError(name, "", nothing(tally))
    last_ns = 0
    for event in found:
        tally.out_of_order += event.at_ns < last_ns
        last_ns = max(last_ns, event.at_ns)
    ordered = sorted(found, key=lambda event: event.at_ns) if tally.out_of_order else found
    return Trace(name=name, events=tuple(ordered), tally=tally)


def nothing(tally: Tally) -> str:
    """Say why nothing usable remained."""
    if not tally.lines:
        return "the file is empty"
    if tally.broken:
        first = tally.broken[0]
        return (f"no usable event in {tally.lines} lines, {tally.broken_nr} of them broken; "
                f"line {first.line}: {first.reason}")
    if tally.unknown:
        name, times = tally.unknown.most_common(1)[0]
        return f"none of {sum(tally.unknown.values())} events is known here, {times} are {name}"
    return "no events, only comments"


def load(source: str | Path) -> Trace:
    """Read a recording by path or packaged name; see ``trace``."""
    path = find(source)
    with open_text(path) as lines:
        return trace(lines, path.name)
