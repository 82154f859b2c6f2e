"""A recording becomes work: items on each hart's axis of useful cycles, and gates between harts.

The gaps between a hart's recorded events become useful cycles, or sleep where the idle task ran.
Maps, frees and purges are replayed as recorded, never recomputed; what another hart must have done
first is a gate:

* the first use of a stack on another hart waits until it is mapped;
* a free waits until every hart that used the area is done with it;
* a purge waits for the frees it covers, and for the purge before it;
* a map over an address used before waits for the purge that fenced it;
* a flush of user pages waits until its address space has run on every hart that it had run on, and
  a hart that runs a space for the first time waits for the flushes before.

Every gate is signalled by items of an earlier place in the recording, so nobody waits in a circle.
The seed draws none of this: only the references between the items.

Trace hart *h* runs on hart *h* mod ``harts`` and finishes where the recording ends; harts beyond
the recorded ones only run the synthetic mix, as long as the busiest one works. Context switches
are kept as the recorded kernel made them: that a policy changes the schedule is left out.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pysim import engine, eventlog, ftrace, kernel_counts
from pysim.errors import InputError
from pysim.ftrace import (
    PAGE_BYTES,
    Alloc,
    Flush,
    Fork,
    Purge,
    Switch,
    SwitchMm,
    Trace,
    UserFault,
    UserProtect,
    UserUnmap,
)
from pysim.workloads.recovery import DEAD, STACK_PAGES, Area, Recovery, recover

if TYPE_CHECKING:
    from pysim.machines import Machine
    from pysim.workloads.model import Workload

QEMU_TRACED_MHZ: Final = 120
"""Clock of the recordings made on QEMU, whose wall times mean nothing: one cycle an instruction.

assumed: the median, over the 24 recordings of linux 6.12.94 on QEMU 10, of instructions executed
per second in which a task ran (48 to 774 million; counts_traced.csv, column insn).
"""
_QEMU_NAME: Final = re.compile(
    r"(?:riscv|events)-6\.12-(mark|preventive)(?:\+svvptc)?(?:-imsic)?-smp\d+\b")

STACK_PAGES_IN_USE: Final = 2
"""Pages from its top that a running task visits. assumed: syscall paths stay under 8 KiB."""

_ITEM: Final = struct.Struct("<QQQQIIIHBB")  # csim.h, struct csim_item
_PAGES_MAX: Final = 1 << 28
"""The engine takes no larger range; a purge that spans regions is one full fence anyway."""
_MODULES_FIRST: Final = 0xFFFFFFFF00000000
_LAST: Final = 1 << 30  # after everything else that an event did


# ---- addresses ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Addresses:
    """Moves recorded addresses into the simulated kernel's layout when they lie elsewhere.

    A recording of another mode or architecture keeps its areas' distances within each region.
    """

    moves: dict[bool, int]  # is it a module? -> what is added
    where: str
    regions: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, recovery: Recovery, levels: int) -> _Addresses:
        regions = engine.regions(levels)
        moves = {}
        for module, name in ((False, "vmalloc"), (True, "module")):
            mine = [a for a in recovery.areas if (a.va >= _MODULES_FIRST) == module]
            first, end = regions[name]
            moves[module] = 0
            if mine and not all(first <= a.va and a.end_va <= end for a in mine):
                base = min(a.region_va or a.va for a in mine)
                moves[module] = first - (base & -(1 << 30))
        return cls(moves, recovery.trace.name, regions)

    @property
    def moved(self) -> bool:
        return any(self.moves.values())

    def __call__(self, area: Area) -> int:
        module = area.va >= _MODULES_FIRST
        va = area.va + self.moves[module]
        first, end = self.regions["module" if module else "vmalloc"]
        if not first <= va <= end - area.pages * PAGE_BYTES:
            raise InputError(self.where, "va_start", f"{area.va:#x} does not fit into the region "
                             f"[{first:#x}, {end:#x}) of the machine")
        return va


# ---- items --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Item:
    """One struct csim_item that is still being completed; ``key`` becomes its order."""

    key: tuple[int, int]
    kind: str
    hart: int
    at_cycles: int
    va: int = 0
    pages: int = 0
    arg: int = 0
    flags: int = 0
    wait: int = 0
    signal: int = 0


@dataclass(frozen=True, slots=True)
class _Place:
    """A point of one hart's axis that has been passed: where an item can still be put."""

    event: int
    at_cycles: int


@dataclass(slots=True)
class _Hart:
    """One simulated hart while the recording is gone through."""

    number: int
    states: dict[int, bool]  # of its trace harts: busy?
    millicycles: int = 0
    last_ns: int = 0
    idle_ns: int = 0
    place: _Place = field(default_factory=lambda: _Place(-1, 0))
    before_cycles: int = 0   # where it was at its previous event
    current: Area | None = None
    debt_millicycles: int = 0


@dataclass(slots=True)
class _Use:
    """What one hart did with one area."""

    last: _Place
    switched: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The work of a recording, as it crosses the door, and what was assumed on the way."""

    items: bytes = field(repr=False)
    gates: bytes = field(repr=False)
    useful_cycles: int
    counts: Counter[str]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a recording is laid on the simulated machine's clock.

    ``traced_mhz`` is the clock of the machine that was traced; ``map_cost_cycles`` what the
    recorded policy spent on each map there, which is no useful work; ``touch_delay_cycles`` the
    work between a map and the mapping hart's first use of it, as far as its hart worked that long;
    every hart works so long before the recording begins.
    """

    harts: int
    levels: int
    traced_mhz: int
    rate_factor: Fraction = Fraction(1)
    map_cost_cycles: int = 0
    touch_delay_cycles: int = 0


@dataclass(slots=True)
class _Builder:
    """Goes through a recording once and leaves items and gates."""

    recovery: Recovery
    settings: Settings
    addresses: _Addresses
    harts: list[_Hart]
    items: list[_Item] = field(default_factory=list)
    gates: list[int] = field(default_factory=lambda: [0])
    uses: dict[int, dict[int, _Use]] = field(default_factory=dict)  # area made_at -> hart -> use
    mapped: dict[int, _Item] = field(default_factory=dict)
    unmapped: dict[int, _Item] = field(default_factory=dict)
    purges: dict[int, _Item] = field(default_factory=dict)
    last_purge: _Item | None = None
    owners: dict[int, Area] = field(default_factory=dict)  # pid -> stack
    forked: set[int] = field(default_factory=set)
    running: dict[int, int] = field(default_factory=dict)   # hart -> address space
    ran: dict[int, dict[int, _Item]] = field(default_factory=dict)  # space -> hart -> first switch
    flushed: dict[int, dict[int, _Item]] = field(default_factory=dict)  # space -> hart -> last
    awaited: set[tuple[int, int, int]] = field(default_factory=set)
    subs: Counter[int] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)

    # ---- time ----

    def cycles(self, millicycles: int) -> int:
        factor = self.settings.rate_factor
        return millicycles * factor.denominator // (1000 * factor.numerator)

    def advance(self, at: int, hart: _Hart, at_ns: int) -> None:
        """Let the hart's time pass up to an event: as work of every busy trace hart, or sleep."""
        gap_ns = at_ns - hart.last_ns
        hart.last_ns = at_ns
        busy = sum(hart.states.values())
        passed = gap_ns * self.settings.traced_mhz  # in millicycles
        if busy:
            worked = busy * passed
            paid = min(worked, hart.debt_millicycles)
            hart.debt_millicycles -= paid
            self.counts["recorded policy's millicycles taken out"] += paid
            hart.millicycles += worked - paid
        slept = 0 if busy else self.cycles(passed)
        hart.before_cycles = hart.place.at_cycles
        hart.place = _Place(at, self.cycles(hart.millicycles) + self.settings.touch_delay_cycles)
        if slept:
            self.put("idle", hart, arg=slept)

    # ---- items ----

    def put(
        self, kind: str, hart: _Hart, *, at: _Place | None = None, late: bool = False,
        area: Area | None = None, va: int = 0, pages: int = 0, arg: int = 0, flags: int = 0,
        wait: int = 0, signal: int = 0,
    ) -> _Item:
        """Add an item where the hart is now, or at a place it has passed; of a whole area or not.

        ``late`` puts it after everything else that happens there.
        """
        if area is not None:
            va, pages = self.addresses(area), area.pages
        place = at or hart.place
        self.subs[place.event] += 1
        sub = self.subs[place.event] + (_LAST if late else 0)
        item = _Item((place.event, sub), kind, hart.number, place.at_cycles, va, pages, arg, flags,
                     wait, signal)
        self.items.append(item)
        self.counts[kind] += 1
        return item

    def gate(self, signals: int) -> int:
        self.gates.append(signals)
        return len(self.gates) - 1

    def after(self, item: _Item) -> int:
        """Return the gate that the item signals; made when somebody waits for it first."""
        if not item.signal:
            item.signal = self.gate(1)
        return item.signal

    def use(self, area: Area, hart: _Hart) -> tuple[_Use, int]:
        """Note that the hart uses the area; the gate is that of its map, 0 if it is known here."""
        uses = self.uses[area.made_at]
        if hart.number in uses:
            uses[hart.number].last = hart.place
            return uses[hart.number], 0
        uses[hart.number] = _Use(hart.place)
        return uses[hart.number], self.after(self.mapped[area.made_at])

    def mapped_now(self, area: Area | None) -> Area | None:
        """Return the area unless it has been freed: a recording with losses may still name it."""
        return area if area is not None and area.made_at in self.uses else None

    # ---- what happens ----

    def map(self, at: int, area: Area, hart: _Hart, irqs_off: bool) -> None:
        for other in self.recovery.forced.get(at, ()):
            if other.freed_at == at:
                self.unmap(other, hart)
            self.fence(at, hart, [other], self.addresses(other), other.pages)
            self.counts["repaired"] += 1
        flag = engine.ITEM_FLAGS
        flags = (flag["stack"] * area.stack | flag["huge"] * area.huge
                 | flag["irqs_off"] * irqs_off)
        reused = self.recovery.reuses.get(at)
        wait = self.after(self.purges[reused]) if reused is not None else 0
        early = hart.place.at_cycles - self.settings.touch_delay_cycles
        alone = not self.subs[at]  # nothing else has happened at this event yet
        place = _Place(at, max(early, hart.before_cycles)) if alone else hart.place
        item = self.put("map", hart, at=place, flags=flags, wait=wait, area=area)
        self.mapped[area.made_at] = item
        self.uses[area.made_at] = {hart.number: _Use(hart.place)}
        # a fork writes the lowest word of a new stack (set_task_stack_end_magic); whoever makes
        # another area uses all of it
        self.put("touch", hart, va=item.va, pages=1 if area.stack else area.pages)
        hart.debt_millicycles += self.settings.map_cost_cycles * 1000

    def fork(self, at: int, event: Fork, hart: _Hart) -> None:
        area = self.mapped_now(self.recovery.stacks.get(at))
        self.owners.pop(event.child_pid, None)
        if area is None:
            return
        self.owners[event.child_pid] = area
        _, wait = self.use(area, hart)  # the parent writes it and is done with it
        va = self.addresses(area)
        if area.made_at in self.forked:  # from the cache: cleared whole (alloc_thread_stack_node)
            self.put("touch", hart, va=va, pages=area.pages, wait=wait)
        else:                            # new: the child's registers at the top (copy_thread)
            top = va + (area.pages - 1) * PAGE_BYTES
            self.put("touch", hart, va=top, pages=1, wait=wait)
        self.put("forget", hart, area=area)
        self.forked.add(area.made_at)

    def switch(self, event: Switch, hart: _Hart) -> None:
        if hart.current is not None:
            self.use(hart.current, hart)
        if event.prev_state.startswith(DEAD):
            self.owners.pop(event.pid, None)
        idle = self.recovery.idle_stacks.get(event.hart)
        area = self.owners.get(event.next_pid) if event.next_pid else idle
        self.stand_on(self.mapped_now(area), hart)

    def stand_on(self, area: Area | None, hart: _Hart) -> None:
        """Make a stack current; None is the hart's own, of whom nothing is recorded."""
        if area is hart.current:
            return
        hart.current = area
        if area is None:
            self.put("switch", hart)
            return
        use, wait = self.use(area, hart)
        deep = min(STACK_PAGES_IN_USE, area.pages)
        flag = engine.ITEM_FLAGS
        self.put("switch", hart, arg=1 if not use.switched else deep, wait=wait,
                 flags=0 if use.switched else flag["first"], area=area)
        if not use.switched and deep > 1:
            top = self.addresses(area) + area.pages * PAGE_BYTES
            self.put("touch", hart, va=top - deep * PAGE_BYTES, pages=deep - 1,
                     flags=flag["stack"])
        use.switched = True

    def unmap(self, area: Area, hart: _Hart) -> None:
        """Free an area once every hart that used it has said so."""
        uses = self.uses.pop(area.made_at)
        others = len(uses.keys() - {hart.number})
        gate = self.gate(others) if others else 0
        for number, use in sorted(uses.items()):
            user = self.harts[number]
            if user.current is area:  # its switch away is not recorded
                self.stand_on(None, user)
                use.last = user.place
            here = number == hart.number
            place = hart.place if here else use.last if area.stack else user.place
            self.put("forget", user, at=place, late=not here, signal=0 if here else gate,
                     area=area)
        flags = engine.ITEM_FLAGS["huge"] * area.huge
        self.unmapped[area.made_at] = self.put("unmap", hart, wait=gate, flags=flags,
                                               area=area)

    def purge(self, at: int, event: Purge, hart: _Hart) -> None:
        covered = self.recovery.purged[at]
        first_va, end_va = event.first_va, event.end_va
        if self.addresses.moved:
            somewhere = self.addresses.regions["vmalloc"][0]
            first_va = min(map(self.addresses, covered), default=somewhere)
            end_va = max((self.addresses(area) + area.pages * PAGE_BYTES for area in covered),
                         default=first_va + PAGE_BYTES)
        pages = min(_PAGES_MAX, -(-(end_va - first_va) // PAGE_BYTES))
        self.fence(at, hart, covered, first_va & -PAGE_BYTES, pages)

    def fence(self, at: int, hart: _Hart, covered: Sequence[Area], va: int, pages: int) -> None:
        """Purge after the frees it covers and after the purge before it: they hold a mutex."""
        before = self.last_purge
        turn = before is not None and before.hart != hart.number
        signals = len(covered) + turn
        gate = self.gate(signals) if signals else 0
        for area in covered:
            self.unmapped.pop(area.made_at).signal = gate
        if before is not None and turn:
            place = _Place(before.key[0], before.at_cycles)
            self.put("idle", self.harts[before.hart], at=place, late=True, signal=gate)
        item = self.put("purge", hart, va=va, pages=pages, wait=gate)
        self.purges[at] = self.last_purge = item

    def online(self, at: int, hart: _Hart, running: list[_Hart]) -> None:
        """Bring a hart up where the recording first shows it: after all that was before."""
        boot = running[0]
        place = _Place(at, boot.place.at_cycles)
        before = self.gate(len(running) - 1) if len(running) > 1 else 0
        ready = self.gate(1)
        for other in running[1:]:
            self.put("idle", other, late=True, signal=before)
        self.put("online", boot, at=place, arg=hart.number, signal=ready, wait=before)
        for other in [*running[1:], hart]:
            self.put("idle", other, at=_Place(at, other.place.at_cycles), wait=ready)

    # ---- the user side ----

    def switch_mm(self, space: int, hart: _Hart) -> None:
        """Run an address space here; the first time, after what flushed it elsewhere."""
        if self.running.get(hart.number) == space:
            return
        ran = self.ran.setdefault(space, {})
        if hart.number not in ran:
            for number, flush in self.flushed.get(space, {}).items():
                if number != hart.number:
                    self.put("idle", hart, wait=self.after(flush))
        item = self.put("switch_mm", hart, arg=space)
        ran.setdefault(hart.number, item)
        self.running[hart.number] = space

    def change_user(self, kind: str, space: int, pages: int, hart: _Hart) -> None:
        """Take rights from user pages, or give them, wherever their address space has run."""
        for number, first in self.ran.get(space, {}).items():
            key = space, hart.number, number
            if number != hart.number and key not in self.awaited:
                self.awaited.add(key)
                self.put("idle", hart, wait=self.after(first))
        named = 0 if self.running.get(hart.number, 0) == space else space
        item = self.put(kind, hart, arg=pages, pages=named)
        self.flushed.setdefault(space, {})[hart.number] = item

    def user(self, event: ftrace.Event, hart: _Hart) -> None:
        """Do what a hart did to user pages and address spaces."""
        if isinstance(event, SwitchMm):
            self.switch_mm(event.space, hart)
        elif isinstance(event, UserFault):
            self.put("user_fault", hart, arg=event.pages)
        elif isinstance(event, UserProtect):
            self.change_user("user_protect", event.space, 1, hart)
        elif isinstance(event, UserUnmap):
            self.change_user("user_unmap", event.space, event.pages, hart)
        elif isinstance(event, Flush):
            self.put("flush", hart)

    # ---- the whole ----

    def run(self) -> None:
        """Go through the recording."""
        recovery, count = self.recovery, len(self.harts)
        first_ns = recovery.trace.events[0].at_ns
        running = [h for h in self.harts if any(
            t not in recovery.online_at for t in h.states)] or [self.harts[0]]
        runs_next = _runs_next(recovery.trace)
        for hart in self.harts:
            hart.last_ns = first_ns
        for at, event in enumerate(recovery.trace.events):
            hart = self.harts[event.hart % count]
            if hart not in running:
                hart.last_ns = event.at_ns
                hart.place = _Place(at, 0)
                self.online(at, hart, running)
                running.append(hart)
            self.advance(at, hart, event.at_ns)
            hart.states[event.hart] = runs_next[at]
            if at in recovery.made:
                assert isinstance(event, Alloc)
                self.map(at, recovery.made[at], hart, event.irqs_off)
            elif at in recovery.freed:
                self.unmap(recovery.freed[at], hart)
            elif at in recovery.purged:
                assert isinstance(event, Purge)
                self.purge(at, event, hart)
            elif isinstance(event, Fork):
                self.fork(at, event, hart)
            elif isinstance(event, Switch):
                self.switch(event, hart)
            else:
                self.user(event, hart)
        for hart in self.harts:
            self.advance(len(runs_next), hart, recovery.trace.events[-1].at_ns)
            hart.place = _Place(len(runs_next), hart.place.at_cycles + 1)
            self.put("finish", hart)

    def done(self, notes: tuple[str, ...]) -> Replay:
        """Number the items, check the gates and pack both."""
        self.items.sort(key=lambda item: item.key)
        _check(self.items, self.gates)
        kinds = engine.ITEMS
        packed = b"".join(
            _ITEM.pack(item.at_cycles, order, item.va, item.arg, item.pages, item.wait,
                       item.signal, item.hart, kinds[item.kind], item.flags)
            for order, item in enumerate(self.items, 1))
        return Replay(items=packed, gates=struct.pack(f"<{len(self.gates)}I", *self.gates),
                      useful_cycles=max(hart.place.at_cycles for hart in self.harts) + 1,
                      counts=self.counts, notes=notes)


def _runs_next(trace: Trace) -> list[bool]:
    """Return for each event whether a task, not the idle task, runs on its hart afterwards.

    After a switch that is said; otherwise it is the task the hart's next event names.
    """
    after = [False] * len(trace.events)
    next_pid: dict[int, int] = {}
    for at in range(len(trace.events) - 1, -1, -1):
        event = trace.events[at]
        pid = event.next_pid if isinstance(event, Switch) else next_pid.get(event.hart, event.pid)
        after[at] = pid != 0
        next_pid[event.hart] = event.pid
    return after


def _check(items: list[_Item], gates: list[int]) -> None:
    """Assert what the engine relies on: every gate is signalled, as often as said, and before."""
    signals = Counter[int]()
    latest: dict[int, int] = {}
    last_at: dict[int, int] = {}
    for order, item in enumerate(items):
        assert item.at_cycles >= last_at.get(item.hart, 0), item
        last_at[item.hart] = item.at_cycles
        if item.signal:
            signals[item.signal] += 1
            latest[item.signal] = order
    for order, item in enumerate(items):
        if item.wait:
            assert gates[item.wait] > 0, item
            assert latest[item.wait] < order, item
    for gate in range(1, len(gates)):
        assert signals[gate] == gates[gate], gate


def build(recovery: Recovery, settings: Settings, notes: tuple[str, ...] = ()) -> Replay:
    """Turn what was recovered from a recording into items and gates.

    Raises InputError when its addresses do not fit the machine's mode.
    """
    trace, recorded = recovery.trace, recovery.recorded_harts
    first: dict[int, bool] = {}
    for event in trace.events:
        first.setdefault(event.hart, event.pid != 0)
    harts = [
        _Hart(number, {t: first.get(t, False) and t not in recovery.online_at
                       for t in range(number, recorded, settings.harts)})
        for number in range(min(settings.harts, recorded))
    ]
    builder = _Builder(recovery, settings, _Addresses.of(recovery, settings.levels), harts)
    builder.run()
    return builder.done(notes)


# ---- the seam to workloads ----------------------------------------------------------------------


@lru_cache(maxsize=32)
def _recovered(path: Path, stamp: tuple[int, int], window: str) -> Recovery:
    if not eventlog.is_log(path):
        if window:
            raise InputError(str(path), "window", "only an event log (.evt, .evt.gz) has windows")
        return recover(ftrace.load(path))
    named = kernel_counts.named(path.name)
    if named is None:
        return recover(eventlog.load(path, window))
    return recover(eventlog.load(path, window, harts=named.harts, svvptc=named.svvptc,
                                 imsic=named.via == "imsic"))


def recovered(source: str, window: str = "") -> Recovery:
    """Return what a recording says, by path or packaged name; read again when the file changed.

    Of an event log one window may be named. Raises InputError when it cannot be read, holds nothing
    usable, or has no such window.
    """
    path = ftrace.find(source)
    stat = path.stat()
    return _recovered(path, (stat.st_mtime_ns, stat.st_size), window)


def map_cost_cycles(policy: str, machine: Machine, harts: int) -> int:
    """Estimate what one map of a stack cost the mapping hart under the recorded policy, in cycles.

    ``mark``: nothing worth taking out (a few stores). ``preventive``: a remote fence of all harts
    on this machine; one hart alone fences page by page. Source of the sum: facts/hardware.md b,
    "Remote-fence default model".
    """
    if policy != "preventive":
        return 0
    fence = machine.fence_all_cycles + machine.fence_pipe_cycles
    if harts == 1:
        return STACK_PAGES * (machine.fence_va_cycles + machine.fence_pipe_cycles)
    others = harts - 1
    if machine.via == "sbi":
        return (machine.ecall_cycles + machine.sbi_fixed_cycles + machine.sbi_deliver_cycles
                + others * (machine.sbi_send_cycles + machine.sbi_ack_cycles)
                + machine.sbi_handler_cycles + fence)
    if machine.via == "imsic":
        return (machine.imsic_fixed_cycles + machine.imsic_deliver_cycles
                + others * (machine.imsic_send_cycles + machine.imsic_ack_cycles)
                + machine.imsic_handler_cycles + fence)
    return machine.hw_fixed_cycles + harts * machine.hw_per_hart_cycles


def settings(
    workload: Workload, machine: Machine, harts: int, recovery: Recovery
) -> tuple[Settings, tuple[str, ...]]:
    """Return how a workload's recording is laid on the machine's clock, and what that assumes."""
    name = recovery.trace.name
    known = _QEMU_NAME.match(name)
    recorded = recovery.recorded_harts
    notes = []
    mhz = workload.traced_mhz
    if not mhz and known:
        mhz = QEMU_TRACED_MHZ
        notes.append(f"{name}: recorded on QEMU, where wall times mean nothing; its gaps are read "
                     f"as {mhz} cycles a microsecond (assumed; set traced_mhz)")
    elif not mhz:
        mhz = machine.mhz
        notes.append(f"{name}: the traced clock is not given; taken as this machine's {mhz} MHz "
                     "(assumed; set traced_mhz)")
    policy = workload.recorded_policy or (known[1] if known else "")
    cost = map_cost_cycles(policy, machine, recorded)
    notes.append(
        f"{name}: recorded under {policy or 'an unknown policy'}; {cost} cycles a map are taken out"
        " of the mapping hart's work" + ("" if policy else " (set recorded_policy)"))
    return Settings(harts=harts, levels=machine.levels, traced_mhz=mhz,
                    rate_factor=Fraction(str(workload.rate_factor)), map_cost_cycles=cost,
                    touch_delay_cycles=int(workload.touch_delay_us * machine.mhz)), tuple(notes)


@lru_cache(maxsize=8)
def _built(path: Path, stamp: tuple[int, int], window: str, chosen: Settings,
           notes: tuple[str, ...]) -> Replay:
    return build(_recovered(path, stamp, window), chosen, notes)


def of(workload: Workload, machine: Machine, harts: int) -> Replay:
    """Return the work of a replay workload on this machine: items, gates, budget and notes.

    Raises InputError when the recording cannot be used.
    """
    path = ftrace.find(workload.trace)
    stat = path.stat()
    stamp = (stat.st_mtime_ns, stat.st_size)
    window = workload.window
    chosen, notes = settings(workload, machine, harts, _recovered(path, stamp, window))
    return _built(path, stamp, window, chosen, notes)


def items(workload: Workload, machine: Machine, harts: int) -> tuple[bytes, bytes]:
    """Return the items and the gates of a replay workload, as they cross the door."""
    made = of(workload, machine, harts)
    return made.items, made.gates
