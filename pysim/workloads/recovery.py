"""What a recording says between its lines: areas and their lives, and whose stack is which.

ftrace gives the reservation and the release of areas, forks, exits and context switches. From these
follow: which area is a kernel stack, which task owns it, on which hart a stack is first used, which
purge made an address free for reuse, and when a hart came up. What does not follow is said in
``Recovery.findings``, never guessed.

The rules and their sources (linux 6.12):

* An area has one guard page at its end; only the blocks that serve vm_map_ram have none and are not
  mapped when they are reserved (mm/vmalloc.c: get_vm_area_node, new_vmap_block).
* A kernel stack is 16 KiB aligned to 32 KiB (arch/riscv: THREAD_SIZE, THREAD_ALIGN), to 16 KiB on
  x86-64. A fork reserves it (dup_task_struct) before it is reported (sched_process_fork), in the
  same task.
* A fork that reserved nothing took its stack from the forking hart's cache of two; a dead task's
  stack goes there when its last hart has switched away from it, or, when both slots are taken,
  is freed after an RCU grace period, which tries the cache once more (kernel/fork.c).
* A purge names the range from the first to the last area it takes; an area outside was freed
  after it had taken them (__purge_vmap_area_lazy).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pysim.ftrace import (
    PAGE_BYTES,
    Alloc,
    Flush,
    Fork,
    Free,
    Purge,
    Switch,
    SwitchMm,
    Trace,
    UserFault,
    UserProtect,
    UserUnmap,
)

STACK_PAGES: Final = 4
STACK_ALIGN_BYTES: Final = (32768, 16384)
STACK_SLOTS: Final = 2
BLOCK_BYTES_MIN: Final = 256 << 10
"""The smallest vm_map_ram block. Source: linux 6.12, mm/vmalloc.c, VMAP_BBMAP_BITS."""
HUGE_BYTES: Final = 2 << 20
DEAD: Final = ("Z", "X")

NEVER: Final = 1 << 62
"""An event index past every event: what has not ended when the recording does."""


@dataclass(slots=True, kw_only=True, eq=False)
class Area:
    """One mapping, from the event that made it to the one that freed it (indices of events)."""

    va: int
    pages: int
    end_va: int
    hart: int
    made_at: int
    stack: bool
    huge: bool
    region_va: int
    freed_at: int = NEVER
    forced: str = ""
    """Why the recording ends its life without an event: its address was reserved again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What was recovered; indices are positions in ``trace.events``."""

    trace: Trace
    areas: tuple[Area, ...]
    made: dict[int, Area]
    freed: dict[int, Area]
    purged: dict[int, tuple[Area, ...]]
    reuses: dict[int, int]
    """Map -> the last purge (or map that forced one) that fenced what lay there before."""
    forced: dict[int, tuple[Area, ...]]
    """Map -> areas that must end before it though no event ended them, or no purge did."""
    stacks: dict[int, Area]
    """Fork -> its child's stack; a fork that is missing here has an unknown one."""
    idle_stacks: dict[int, Area]
    """Hart -> the stack of its idle task, where its bring-up was recorded."""
    online_at: dict[int, int]
    """Hart -> its first event, for harts that came up during the recording."""
    findings: Counter[str] = field(default_factory=Counter)

    @property
    def recorded_harts(self) -> int:
        """Harts of the traced machine: as its header says, or the highest that recorded."""
        return max(self.trace.tally.harts_announced, self.trace.harts[-1] + 1)

    @property
    def peak_live_pages(self) -> int:
        """The most pages mapped at once, of areas the recording saw being made."""
        changes = Counter[int]()
        for area in self.areas:
            changes[area.made_at] += area.pages
            if area.freed_at != NEVER:
                changes[area.freed_at] -= area.pages
        live = peak = 0
        for at in sorted(changes):
            live += changes[at]
            peak = max(peak, live)
        return peak


# ---- areas ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Ranges:
    """Areas by address, none overlapping."""

    starts: list[int] = field(default_factory=list)
    areas: dict[int, Area] = field(default_factory=dict)

    def overlapping(self, va: int, end_va: int) -> list[Area]:
        """Return the areas that share a byte with [va, end_va), by address."""
        at = bisect_left(self.starts, va)
        if at and self.areas[self.starts[at - 1]].end_va > va:
            at -= 1
        found = []
        while at < len(self.starts) and self.starts[at] < end_va:
            found.append(self.areas[self.starts[at]])
            at += 1
        return found

    def remove(self, area: Area) -> None:
        del self.areas[area.va]
        del self.starts[bisect_left(self.starts, area.va)]

    def add(self, area: Area) -> None:
        insort(self.starts, area.va)
        self.areas[area.va] = area


@dataclass(slots=True)
class _Purged:
    """Which purge last fenced an address: [start, end) -> event, never overlapping, split freely.

    An area's range is reused piece by piece, so what a new purge does not cover keeps its own.
    """

    starts: list[int] = field(default_factory=list)
    ends: dict[int, tuple[int, int]] = field(default_factory=dict)  # start -> end, purge

    def _within(self, va: int, end_va: int) -> list[int]:
        at = bisect_left(self.starts, va)
        if at and self.ends[self.starts[at - 1]][0] > va:
            at -= 1
        return self.starts[at:bisect_left(self.starts, end_va)]

    def latest(self, va: int, end_va: int) -> int | None:
        """Return the last purge that fenced a byte of [va, end_va)."""
        return max((self.ends[start][1] for start in self._within(va, end_va)), default=None)

    def add(self, va: int, end_va: int, purge: int) -> None:
        pieces = [(va, end_va, purge)]
        for start in self._within(va, end_va):
            end, before = self.ends.pop(start)
            del self.starts[bisect_left(self.starts, start)]
            pieces += [piece for piece in ((start, va, before), (end_va, end, before))
                       if piece[0] < piece[1]]
        for start, end, at in pieces:
            insort(self.starts, start)
            self.ends[start] = (end, at)


def _area(at: int, event: Alloc) -> Area | None:
    """Return the mapping that a reservation makes, or None when it makes none."""
    block = event.size_bytes == event.align_bytes and event.size_bytes >= BLOCK_BYTES_MIN
    if event.failed or block:
        return None
    pages = max(1, event.size_bytes // PAGE_BYTES - 1)
    huge_bytes = pages * PAGE_BYTES
    return Area(
        va=event.va,
        pages=pages,
        end_va=event.va + event.size_bytes,
        hart=event.hart,
        made_at=at,
        stack=pages == STACK_PAGES and event.align_bytes in STACK_ALIGN_BYTES,
        huge=event.align_bytes >= HUGE_BYTES and not (huge_bytes | event.va) % HUGE_BYTES,
        region_va=event.region_va,
    )


@dataclass(slots=True)
class _Lives:
    """The lives of all areas, followed through the recording."""

    findings: Counter[str]
    areas: list[Area] = field(default_factory=list)
    live: _Ranges = field(default_factory=_Ranges)
    lazy: _Ranges = field(default_factory=_Ranges)
    fenced: _Purged = field(default_factory=_Purged)
    made: dict[int, Area] = field(default_factory=dict)
    freed: dict[int, Area] = field(default_factory=dict)
    purged: dict[int, tuple[Area, ...]] = field(default_factory=dict)
    reuses: dict[int, int] = field(default_factory=dict)
    forced: dict[int, tuple[Area, ...]] = field(default_factory=dict)

    def make(self, at: int, event: Alloc) -> None:
        area = _area(at, event)
        if area is None:
            what = "failed reservations" if event.failed else "vm_map_ram blocks (no map of theirs)"
            self.findings[what] += 1
            return
        forced = []
        for other in self.live.overlapping(area.va, area.end_va):
            other.freed_at, other.forced = at, "its free is missing"
            self.findings["maps over an area whose free is missing"] += 1
            self.live.remove(other)
            forced.append(other)
        for other in self.lazy.overlapping(area.va, area.end_va):
            other.forced = "its purge is missing"
            self.findings["maps over an area freed but not purged"] += 1
            self.lazy.remove(other)
            forced.append(other)
        purge = self.fenced.latest(area.va, area.end_va)
        if purge is not None:
            self.reuses[at] = purge
        for other in forced:
            self.fenced.add(other.va, other.end_va, at)
        if forced:
            self.forced[at] = tuple(forced)
        self.live.add(area)
        self.made[at] = area
        self.areas.append(area)

    def end(self, at: int, event: Free) -> None:
        area = self.live.areas.get(event.va)
        if area is None:
            self.findings["frees of areas older than the recording"] += 1
            return
        self.live.remove(area)
        area.freed_at = at
        self.freed[at] = area
        self.lazy.add(area)

    def purge(self, at: int, event: Purge) -> None:
        if event.first_va >= event.end_va:
            self.findings["purges with nothing to fence"] += 1
            return
        covered = tuple(area for area in self.lazy.areas.values()
                        if event.first_va <= area.va and area.end_va <= event.end_va)
        for area in covered:
            self.lazy.remove(area)
            self.fenced.add(area.va, area.end_va, at)
        self.purged[at] = covered


# ---- tasks and stacks -------------------------------------------------------------------------


UNKNOWN: Final = Area(va=0, pages=STACK_PAGES, end_va=0, hart=0, made_at=-1, stack=True,
                      huge=False, region_va=0)
"""Stands for a stack older than the recording; never an item of its own."""


@dataclass(slots=True)
class _Cache:
    """One hart's cache of stacks. ``sure`` is false while it may hold what nobody recorded."""

    sure: bool
    slots: list[Area | None] = field(default_factory=lambda: [None] * STACK_SLOTS)

    def take(self) -> Area | None:
        for index, area in enumerate(self.slots):
            if area is not None:
                self.slots[index] = None
                return area
        return None

    def put(self, area: Area) -> bool:
        for index, other in enumerate(self.slots):
            if other is None:
                self.slots[index] = area
                return True
        return False


@dataclass(slots=True)
class _Tasks:
    """Which task lives on which stack, followed through the recording."""

    findings: Counter[str]
    deaths: dict[tuple[int, int], int]
    boot: bool
    caches: dict[int, _Cache] = field(default_factory=dict)
    reserved: dict[int, list[Area]] = field(default_factory=dict)
    owned: dict[int, Area] = field(default_factory=dict)
    waiting: list[Area] = field(default_factory=list)
    stacks: dict[int, Area] = field(default_factory=dict)

    def cache(self, hart: int) -> _Cache:
        if hart not in self.caches:
            self.caches[hart] = _Cache(sure=self.boot)
        return self.caches[hart]

    def reserve(self, area: Area, pid: int) -> None:
        """Note a new stack: it would have been a cached one had both slots not been empty."""
        self.reserved.setdefault(pid, []).append(area)
        cache = self.cache(area.hart)
        wrong = sum(other is not None for other in cache.slots)
        if wrong and cache.sure:
            self.findings["cached stacks that a later fork did not take"] += wrong
        cache.slots = [None] * STACK_SLOTS
        cache.sure = True

    def fork(self, at: int, event: Fork) -> None:
        mine = self.reserved.get(event.pid)
        if mine:
            area = mine.pop()
            what = "stacks reserved by a fork"
        else:
            area = self._cached(at, event)
            what = "stacks unknown" if area is UNKNOWN else "stacks from a hart's cache"
        self.findings[what] += 1
        self.owned[event.child_pid] = area
        if area is not UNKNOWN:
            self.stacks[at] = area

    def _cached(self, at: int, event: Fork) -> Area:
        """Find the cached stack a fork took: one that lives longer than the child."""
        ends = self.deaths[(event.child_pid, at)]
        cache = self.cache(event.hart)
        if not cache.sure:
            return UNKNOWN
        area = cache.take()
        if area is None:  # one that came through RCU, if there is only one it can be
            late = [other for other in self.waiting if other.freed_at > ends]
            if len(late) != 1:
                cache.sure = False
                return UNKNOWN
            area = late[0]
            self.waiting.remove(area)
        if area.freed_at <= ends:
            self.findings["cached stacks freed while a task should have had them"] += 1
            cache.sure = False
            return UNKNOWN
        return area

    def died(self, hart: int, pid: int) -> None:
        """Return a dead task's stack to the hart's cache, or leave it to RCU."""
        area = self.owned.pop(pid, UNKNOWN)
        if not self.cache(hart).put(area):
            self.waiting.append(area)

    def freed(self, area: Area) -> None:
        """Note that a stack is gone: it waits no more, and a cache that held it was guessed."""
        for stacks in (self.waiting, *self.reserved.values()):
            if area in stacks:
                stacks.remove(area)
        for pid, owned in self.owned.items():
            if owned is area:
                self.findings["stacks freed while their task lived"] += 1
                self.owned[pid] = UNKNOWN
        for cache in self.caches.values():
            if area in cache.slots:
                if cache.sure:
                    self.findings["cached stacks that were freed instead"] += 1
                cache.slots[cache.slots.index(area)] = None
                cache.sure = False


def _deaths(trace: Trace) -> dict[tuple[int, int], int]:
    """Return (pid, index of its fork) -> index of the switch after which it is no more."""
    born: dict[int, int] = {}
    found: dict[tuple[int, int], int] = {}
    for at, event in enumerate(trace.events):
        if isinstance(event, Fork):
            if event.child_pid in born:
                found.setdefault((event.child_pid, born[event.child_pid]), at)
            born[event.child_pid] = at
        elif isinstance(event, Switch) and event.prev_state.startswith(DEAD) and event.pid in born:
            found.setdefault((event.pid, born.pop(event.pid)), at)
    for pid, at in born.items():
        found.setdefault((pid, at), NEVER - 1)
    return found


def _booting(trace: Trace) -> bool:
    """Tell whether the recording shows the first task being made: the kernel is booting."""
    return any(isinstance(event, Fork) and event.child_pid <= 2 for event in trace.events)


def _first_events(trace: Trace) -> Iterator[tuple[int, int]]:
    """Yield each hart and its first event, in order."""
    seen: set[int] = set()
    for at, event in enumerate(trace.events):
        if event.hart not in seen:
            seen.add(event.hart)
            yield event.hart, at


def recover(trace: Trace) -> Recovery:
    """Follow a recording from its first event to its last; see the module for the rules."""
    findings: Counter[str] = Counter()
    lives = _Lives(findings)
    for at, event in enumerate(trace.events):
        if isinstance(event, Alloc):
            lives.make(at, event)
        elif isinstance(event, Free):
            lives.end(at, event)
        elif isinstance(event, Purge):
            lives.purge(at, event)
    boot = _booting(trace)
    first = dict(_first_events(trace))
    online_at = {hart: at for hart, at in first.items() if at} if boot else {}
    tasks = _Tasks(findings, _deaths(trace), boot)
    idle_stacks: dict[int, Area] = {}
    for at, event in enumerate(trace.events):
        if online_at.get(event.hart) == at:
            _adopt_idle_stack(tasks, event.hart, idle_stacks)
        for area in lives.forced.get(at, ()):
            tasks.freed(area)
        if at in lives.made and lives.made[at].stack:
            tasks.reserve(lives.made[at], event.pid)
        elif at in lives.freed and lives.freed[at].stack:
            tasks.freed(lives.freed[at])
        elif isinstance(event, Fork):
            tasks.fork(at, event)
        elif isinstance(event, Switch) and event.prev_state.startswith(DEAD):
            tasks.died(event.hart, event.pid)
    return Recovery(
        trace=trace, areas=tuple(lives.areas), made=lives.made, freed=lives.freed,
        purged=lives.purged, reuses=lives.reuses, forced=lives.forced, stacks=tasks.stacks,
        idle_stacks=idle_stacks, online_at=online_at, findings=findings,
    )


def _adopt_idle_stack(tasks: _Tasks, hart: int, idle_stacks: dict[int, Area]) -> None:
    """Give a hart that comes up the oldest stack the first task reserved without a fork.

    Source: linux 6.12, kernel/smpboot.c, idle_threads_init: one fork_idle per hart, in order, in
    the first task, with no sched_process_fork.
    """
    pending = tasks.reserved.get(1)
    if pending:
        idle_stacks[hart] = pending.pop(0)
        tasks.findings["stacks of idle tasks"] += 1


def _user_side(trace: Trace) -> Iterator[tuple[str, int]]:
    """Yield what an event log says of user pages and whole flushes; ftrace says nothing."""
    kinds = Counter(type(event) for event in trace.events)
    if not any(kinds[kind] for kind in (UserFault, UserUnmap, SwitchMm, Flush)):
        return
    yield "user faults", kinds[UserFault]
    yield "user pages they installed", sum(
        event.pages for event in trace.events if isinstance(event, UserFault))
    yield "user pages given rights", kinds[UserProtect]
    yield "user flushes", kinds[UserUnmap]
    yield "address spaces", len({event.space for event in trace.events
                                 if isinstance(event, SwitchMm)})
    yield "switches of address space", kinds[SwitchMm]
    yield "whole flushes", kinds[Flush]


def summary(recovery: Recovery) -> tuple[tuple[str, int | str], ...]:
    """Return what is in a recording, what is missing and what was recovered: name and value."""
    trace, tally = recovery.trace, recovery.trace.tally
    return (
        ("recording", trace.name),
        ("lines", tally.lines),
        ("comments", tally.comments),
        ("broken lines", tally.broken_nr),
        *((f"line {broken.line} broken", f"{broken.reason}: {broken.text}")
          for broken in tally.broken),
        ("events used", len(trace.events)),
        *((f"event {name}", times) for name, times in sorted(tally.known.items())),
        ("events of other kinds", tally.unknown.total()),
        *((f"other event {name}", times) for name, times in tally.unknown.most_common(10)),
        *((f"events lost on {f'hart {hart}' if hart >= 0 else 'some hart'}", times)
          for hart, times in sorted(tally.lost.items())),
        ("events out of order", tally.out_of_order),
        ("span, ns", trace.span_ns),
        ("recorded harts", recovery.recorded_harts),
        ("harts that came up meanwhile", len(recovery.online_at)),
        ("maps", len(recovery.areas)),
        ("pages mapped", sum(area.pages for area in recovery.areas)),
        ("most pages mapped at once", recovery.peak_live_pages),
        ("kernel stacks among the maps", sum(area.stack for area in recovery.areas)),
        ("maps over a purged address", len(recovery.reuses)),
        ("frees", len(recovery.freed)),
        ("purges", len(recovery.purged)),
        *_user_side(trace),
        *sorted(recovery.findings.items()),
        *sorted(tally.notes.items()),
    )
