"""Read event logs: what a plugin of the emulator saw the kernel do, one event a line.

A line is ``seq hart seconds event args``; MARK lines stand around each workload. A log tells what
ftrace does not: every ``sfence.vma`` with its operands, every remote fence with its mask, user
faults and flushes, changes of address space. It does not tell what ftrace does: who was forked,
whose stack it is, which address space is new. That is recovered here, by these rules:

* A task is a pointer; after its ``do_exit`` the next one at the same place is another task.
* A ``copy_process`` of a task, and the 16 KiB it maps next, are a fork and the child's stack, or
  that of an idle task when a pid is handed in (linux 6.12, kernel/fork.c, fork_idle). A task that
  was never seen is the child of the oldest fork whose child has not run.
* An address space is a pointer too; once its last task has exited or has run something else
  (``switch_mm`` without a task: exec_mmap), the next one at the same place is another.
* A fence by address and no ASID, of user pages in a row, is a fault that installed them
  (update_mmu_cache_range); behind ``ptep_set_access_flags`` it is a change of one page's rights.
* A flush of user pages (``__flush_tlb_range`` with an address space) reaches as far as the fences
  or the remote fence behind it say.

Lines that are none of a log are kept with their number; events that mean nothing here are counted.
Source of the form: linux 6.12.94 on QEMU 10 with an instruction-counting plugin (data/kernel
README).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

from pysim import ftrace
from pysim.errors import InputError
from pysim.ftrace import (
    ADDRESS_END,
    PAGE_BYTES,
    Alloc,
    Event,
    Exit,
    Flush,
    Fork,
    Free,
    Purge,
    Switch,
    SwitchMm,
    Tally,
    Trace,
    UserFault,
    UserProtect,
    UserUnmap,
)

KERNEL_FIRST: Final = 1 << 63
"""Addresses from here on are the kernel's."""

WINDOWS: Final = {1: "fork", 4: "forkburst", 5: "forkexec", 6: "threads", 7: "bpf", 10: "modload",
                  14: "tv_rand"}
"""Workload w of an event log lies between MARK 10 + 2w and MARK 11 + 2w. Source: its README."""

BOOT: Final = "boot"
"""The window before MARK 1."""

SUFFIXES: Final = (".evt", ".evt.gz")

_STACK_BYTES: Final = 16384
_WHOLE: Final = (1 << 64) - 1
_SET_LATER: Final = -1
_ARGUMENT: Final = re.compile(r"(\w+)=([0-9a-f]+)")
_RFENCE_I, _RFENCE_ASID = 0, 2  # function ids. Source: RISC-V SBI 2.0, RFENCE extension

_Head: TypeAlias = tuple[int, int, int, bool]


def is_log(source: str | Path) -> bool:
    """Whether a file's name is an event log's."""
    return str(source).endswith(SUFFIXES)


@dataclass(slots=True, kw_only=True)
class Window:
    """One workload of an event log, or its boot, or all of it: what happened, what was fenced."""

    workload: str
    events: list[Event] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    """Fences, by the columns of the tables of counts (S_full, rf_calls, ...); beside them
    ``kernel targets``, ``user targets`` and ``map calls``, remote fences of a map alone."""
    others: Counter[str] = field(default_factory=Counter)
    """Local fences of the kernel with no cause in the log: harts that come up, patched text."""
    began_ns: int = 0
    masks: Mapping[int, int] = field(default_factory=dict)
    """Where each address space had run when the window began."""
    running: Mapping[int, int] = field(default_factory=dict)
    """What each hart ran then."""
    missing: int = 0
    """Events of it that are not in the log, by their numbers."""
    cut: bool = False
    """Whether the log ends in it."""

    @property
    def wrong(self) -> str:
        """Why it does not tell all that happened; empty if it does."""
        if self.cut:
            return "the log ends in this window"
        return f"{self.missing} events of this window are not in the log" if self.missing else ""

    @property
    def calls(self) -> int:
        """Remote fences of kernel ranges (rf_kern)."""
        return self.counted["rf_kern"]

    @property
    def targets(self) -> int:
        """Harts they addressed, the caller included."""
        return self.counted["kernel targets"]

    def before(self) -> list[Event]:
        """Return the switches that leave harts and masks as they were when the window began."""
        used = {event.space for event in self.events
                if isinstance(event, SwitchMm | UserProtect | UserUnmap)}
        used |= {space for space in self.running.values() if space}
        made: list[Event] = []
        for space in sorted(used & self.masks.keys()):
            made += [SwitchMm(self.began_ns, hart, 0, False, space) for hart in _bits(
                self.masks[space])]
        last = {event.hart: event.space for event in made if isinstance(event, SwitchMm)}
        return made + [SwitchMm(self.began_ns, hart, 0, False, space)
                       for hart, space in sorted(self.running.items()) if last.get(hart) != space]

    def trace(self, name: str, harts: int, tally: Tally | None = None) -> Trace:
        """Return the window as a recording of a machine of so many harts."""
        tally = tally or Tally()
        tally.harts_announced = harts
        return Trace(name=name, events=(*self.before(), *self.events), tally=tally)


def _bits(mask: int) -> list[int]:
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]


# ---- tasks and address spaces -------------------------------------------------------------------


@dataclass(slots=True)
class _Pending:
    """A fork under way, or one whose child has not run yet."""

    parent: int
    idle: bool
    user: bool               # the parent has an address space, so the child has one
    mapped: bool = False
    window: Window | None = None
    at: int = _SET_LATER     # where its event stands, once it does


@dataclass(slots=True)
class _Spaces:
    """User address spaces: whose each is, and where it has run."""

    number: dict[int, int] = field(default_factory=dict)    # pointer -> number
    tasks: Counter[int] = field(default_factory=Counter)    # pointer -> tasks that live in it
    leaving: dict[int, int] = field(default_factory=dict)   # pointer -> its last task, exiting
    of_task: dict[int, int] = field(default_factory=dict)   # task -> pointer
    masks: Counter[int] = field(default_factory=Counter)    # number -> harts
    running: dict[int, int] = field(default_factory=dict)   # hart -> number
    made: int = 0

    def of(self, pointer: int) -> int:
        """Return the number of the space at a place."""
        if pointer not in self.number:
            self._new(pointer)
        return self.number[pointer]

    def _new(self, pointer: int) -> None:
        self.made += 1
        self.number[pointer] = self.made
        self.tasks[pointer] = 0
        self.leaving.pop(pointer, None)

    def switch(self, hart: int, pointer: int, task: int, *, runs_another: bool) -> int | None:
        """A hart runs a space for a task; returns its number when it ran another before."""
        if runs_another:
            self._leave(task)
        gone = self.tasks[pointer] <= 0 and self.leaving.get(pointer) != task
        if pointer not in self.number or gone:
            self._new(pointer)
        exiting = self.leaving.get(pointer) == task
        if self.of_task.get(task) != pointer and not exiting:
            self.tasks[pointer] += 1
            self.of_task[task] = pointer
        space = self.number[pointer]
        self.masks[space] |= 1 << hart
        changed = self.running.get(hart) != space
        self.running[hart] = space
        return space if changed else None

    def _leave(self, task: int) -> int:
        pointer = self.of_task.pop(task, 0)
        if pointer:
            self.tasks[pointer] -= 1
        return pointer

    def exit(self, task: int) -> None:
        """A task exits; it may still run in its space until that is flushed."""
        pointer = self._leave(task)
        if pointer and self.tasks[pointer] <= 0:
            self.leaving[pointer] = task

    def flushed(self, pointer: int, *, whole: bool) -> None:
        """A space was flushed: the last time, when its last task is exiting."""
        if whole:
            self.leaving.pop(pointer, None)


# ---- one log ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Hart:
    """One hart while the log is read."""

    task: int = 0            # pointer; 0: not known yet
    next_task: int = 0       # whose address space was just switched to
    last: str = ""           # its last event that is no fence
    map: tuple[int, int] | None = None      # range of its last map, until that is fenced
    maps: bool = False       # what it fences is what it has just mapped
    # What the fences that follow belong to: the event they make longer, or a kernel range.
    event: int = _SET_LATER
    next_va: int = 0
    first_va: int = 0
    end_va: int = 0
    fenced: bool = False     # a flush of everything, or of a kernel range, is under way
    waits: bool = False      # the event is a flush of which no fence was seen yet
    flush_va: int = -1       # where it begins; -1: it is none, 0: the whole space
    served: dict[int, int] = field(default_factory=dict)    # by hart, pages fenced for it; -1: all
    serves: _Hart | None = None             # for whom it fenced last

    def covers(self, va: int | None, on: int, *, by_asid: bool) -> bool:
        """Whether a fence on a hart belongs to what this one flushes; by address, or everything.

        Pages are fenced in their order, so of flushes under way at once the next page tells which.
        """
        if by_asid:
            pages = self.served.get(on, 0)
            return self.flush_va >= 0 and (pages == 0 if va is None else
                                           pages >= 0 and va == self.flush_va + pages * PAGE_BYTES)
        return self.fenced if va is None else self.first_va <= va < self.end_va


@dataclass(slots=True, kw_only=True)
class _Log:
    """An event log while it is read, line by line."""

    tally: Tally
    svvptc: bool
    imsic: bool = False
    window: Window | None = None
    whole: bool = False
    spaces: _Spaces = field(default_factory=_Spaces)
    harts: dict[int, _Hart] = field(default_factory=dict)
    pids: dict[int, int] = field(default_factory=dict)      # task -> pid; absent: never seen
    dead: set[int] = field(default_factory=set)
    forks: list[_Pending] = field(default_factory=list)
    void: set[int] = field(default_factory=set)             # events of the window that were none
    pid_nr: int = 0
    now_ns: int = 0
    seq: int | None = None
    at: _Head = (0, 0, 0, False)

    # ---- lines ----

    def line(self, number: int, text: str) -> Window | None:
        """Take one line in; returns the window that it ends."""
        words = text.split()
        if not words or words[0].startswith("#"):
            self.tally.comments += 1
            return None
        try:
            seq, hart, at_ns, what = (int(words[0]), int(words[1]), round(float(words[2]) * 1e9),
                                      words[3])
            given = {name: int(value, 16) for name, value in _ARGUMENT.findall(
                " ".join(words[4:]))}
            if not (0 <= hart < 4096 and at_ns >= 0):
                raise ValueError("no such hart or time")
            known = EVENTS.get(what)
            if what == "MARK":
                mark = int(words[4])
            elif known is not None and any(name not in given for name in known[0]):
                raise ValueError(f"lacks {' or '.join(set(known[0]) - given.keys())}")
        except (ValueError, IndexError) as error:
            self.tally.complain(number, f"not a line of an event log: {error}", text)
            return None
        if self.seq is not None and seq > self.seq + 1:
            self.tally.lost[-1] += seq - self.seq - 1
            if self.window is not None:
                self.window.missing += seq - self.seq - 1
        self.seq = seq
        self.tally.out_of_order += at_ns < self.now_ns
        self.now_ns = max(self.now_ns, at_ns)
        if what == "MARK":
            self.tally.known[what] += 1
            return self.mark(mark)
        if known is None and not what.startswith("sfence:"):
            self.tally.unknown[what] += 1
            return None
        self.tally.known[what] += 1
        self.take(hart, what, given)
        return None

    def mark(self, mark: int) -> Window | None:
        """Begin or end a window; a whole log is one window that no mark ends."""
        if self.whole:
            return None
        ended = self.window if mark == 1 or (mark >= 10 and mark % 2) else None
        begins = WINDOWS.get((mark - 10) // 2) if mark >= 10 and mark % 2 == 0 else None
        if ended is not None:
            self.end()
        self.window = Window(
            workload=begins, began_ns=self.now_ns, masks=dict(self.spaces.masks),
            running=dict(self.spaces.running)) if begins else None
        self.void.clear()
        for hart in self.harts.values():
            hart.event, hart.waits = _SET_LATER, False
        for fork in self.forks:
            fork.window = None
        return ended

    def take(self, number: int, what: str, given: Mapping[str, int]) -> None:
        """Take in one event of a hart."""
        came_up = number not in self.harts
        hart = self.harts.setdefault(number, _Hart())
        self.at = (self.now_ns, number, self.pid(hart.task), False)
        if came_up and len(self.harts) > 1 and self.window is not None:
            self.put(Switch(self.now_ns, number, 0, False, "R", 0))
        if what.startswith("sfence:"):
            if what == "sfence:S":
                self.fence(hart, given)
            else:
                self.count("M_sfence")
            return
        self.close_fork(hart, what)
        EVENTS[what][1](self, hart, given)
        hart.last = what

    # ---- what becomes of it ----

    def put(self, event: Event) -> int:
        """Add an event to the window; returns its place, -1 outside of every window."""
        if self.window is None:
            return _SET_LATER
        self.window.events.append(event)
        return len(self.window.events) - 1

    def count(self, column: str, times: int = 1) -> None:
        """Count what a window fenced."""
        if self.window is not None:
            self.window.counted[column] += times

    def close(self, hart: _Hart) -> None:
        """No fence that follows belongs to what the hart did before: it may have fenced nothing."""
        if hart.waits and hart.event >= 0:
            self.void.add(hart.event)
        hart.event = _SET_LATER
        hart.first_va = hart.end_va = hart.next_va = 0
        hart.fenced = hart.waits = False
        hart.flush_va = -1
        hart.served = {}

    def longer(self, hart: _Hart, pages: int) -> None:
        """Change the pages of the event that the hart's fences belong to."""
        if self.window is None or hart.event < 0:
            return
        event = self.window.events[hart.event]
        if isinstance(event, UserFault | UserUnmap):
            self.window.events[hart.event] = replace(event, pages=pages)

    def pages(self, hart: _Hart) -> int:
        """Return the pages so far of that event."""
        event = self.window.events[hart.event] if self.window and hart.event >= 0 else None
        return event.pages if isinstance(event, UserFault | UserUnmap) else 0

    # ---- fences ----

    def fence(self, hart: _Hart, given: Mapping[str, int]) -> None:
        """Count one sfence.vma of the kernel, and find out what it belongs to."""
        va, by_asid = given.get("addr"), "asid" in given
        kind = "S" + "_addr" * (va is not None) + "_asid" * by_asid
        kind = "S_full" if kind == "S" else kind
        self.count(kind)
        self.count("S_sfence")
        if va is not None and va < KERNEL_FIRST and not by_asid:
            self.user_page(hart, va)
            return
        # under the kernel's own IPIs every hart fences for the one that waits; a fence of all is
        # sooner for a whole space, and for who has seen none yet
        asking = [hart.serves or hart, hart, *(self.harts.values() if self.imsic else ())]
        if by_asid and va is None:
            asking.sort(key=lambda one: (one.flush_va != 0, not one.waits))
        on = self.at[1]
        for one in asking:
            if one.covers(va, on, by_asid=by_asid):
                if by_asid:
                    hart.serves = one
                    one.served[on] = -1 if va is None else one.served.get(on, 0) + 1
                    self.longer(one, max(self.pages(one), one.served[on]))
                    one.waits = False
                return
        self.other(kind)

    def other(self, kind: str) -> None:
        if self.window is not None:
            self.window.others[kind] += 1

    def user_page(self, hart: _Hart, va: int) -> None:
        """A fault fenced one page: the next of its range, or the first."""
        if hart.event >= 0 and hart.next_va and va == hart.next_va:
            self.longer(hart, self.pages(hart) + 1)
        else:
            self.close(hart)
            space = self.spaces.running.get(self.at[1], 0)
            protects = hart.last == "ptep_set_access_flags"
            hart.event = self.put(UserProtect(*self.at, space) if protects
                                  else UserFault(*self.at, 1))
            hart.last = "fence"
            if protects:
                hart.event = _SET_LATER
        hart.next_va = va + PAGE_BYTES

    def remote(self, hart: _Hart, given: Mapping[str, int]) -> None:
        """An SBI call for fences elsewhere."""
        if given["fid"] == _RFENCE_I:
            self.count("fencei_calls")
            return
        start, size, targets = given["start"], given["size"], given["hmask"].bit_count()
        self.count("rf_calls")
        self.count("rf_targets", targets)
        user = given["fid"] == _RFENCE_ASID
        if size == _WHOLE:
            self.count("rf_full")
        elif start >= KERNEL_FIRST:
            self.count("rf_kern")
            self.count("kernel targets", targets)
            self.count("map calls", int(hart.maps))
        else:
            self.count("rf_user")
        if user:
            hart.waits = False
            self.count("user calls")
            self.count("user targets", targets)
            self.longer(hart, 0 if size == _WHOLE else -(-size // PAGE_BYTES))

    # ---- kernel mappings ----

    def map(self, hart: _Hart, given: Mapping[str, int]) -> None:
        """Pages of the vmalloc or module area were mapped."""
        self.close(hart)
        first, end = given["a0"], given["a1"]
        hart.map = (first, end)
        fork = next((f for f in self.forks if f.parent == hart.task and not f.mapped
                     and f.at == _SET_LATER), None)
        stack = (fork is not None and end - first == _STACK_BYTES
                 and first % (2 * _STACK_BYTES) == 0)
        if stack and fork is not None:
            fork.mapped = True
        self.put(Alloc(*self.at, first, end - first + PAGE_BYTES,
                       2 * _STACK_BYTES if stack else 1, 0, False))

    def unmap(self, hart: _Hart, given: Mapping[str, int]) -> None:
        """Pages of the area were unmapped."""
        self.close(hart)
        self.put(Free(*self.at, given["a0"], 0, 0))

    def flush_kernel(self, hart: _Hart, given: Mapping[str, int]) -> None:
        """A kernel range is fenced: what was just mapped, or what was freed."""
        self.close(hart)
        first, end = given["a0"], given["a1"]
        hart.first_va, hart.end_va, hart.fenced = first, end, True
        hart.maps, hart.map = hart.map == (first, end), None
        if not hart.maps:
            self.put(Purge(*self.at, first, min(end, ADDRESS_END - PAGE_BYTES), 0))
        self.count("ftkr_calls")

    def flush_all(self, hart: _Hart, given: Mapping[str, int]) -> None:
        """Everything is fenced everywhere."""
        self.close(hart)
        hart.fenced, hart.maps = True, False
        self.put(Flush(*self.at))

    # ---- the user side ----

    def flush_user(self, hart: _Hart, given: Mapping[str, int]) -> None:
        """Pages of an address space are fenced; how many, the fences that follow say."""
        pointer = given["a0"]
        if not pointer:
            return              # of the kernel: flush_tlb_kernel_range has said it
        self.close(hart)
        space = self.spaces.of(pointer)
        self.spaces.flushed(pointer, whole=given["a2"] == 0)
        if hart.last == "ptep_set_access_flags":
            self.put(UserProtect(*self.at, space))
            hart.last, hart.flush_va = "fence", given["a2"]
            return
        hart.event = self.put(UserUnmap(*self.at, space, 0))
        hart.waits, hart.flush_va = True, given["a2"]

    def page_fault(self, hart: _Hart, given: Mapping[str, int]) -> None:
        """A page fault; what it installed is told by its fences, which Svvptc leaves out."""
        if given["stval"] >= KERNEL_FIRST:
            return              # in the middle of anything, where invalid entries are cached
        self.close(hart)
        if self.svvptc:
            self.put(UserFault(*self.at, 1))

    def access_flags(self, hart: _Hart, given: Mapping[str, int]) -> None:
        """A page's rights change: the fault installs nothing."""
        self.close(hart)
        events = self.window.events if self.window is not None else []
        before = events[-1] if events else None
        if self.svvptc and isinstance(before, UserFault) and before.hart == self.at[1]:
            events.pop()

    def switch_mm(self, hart: _Hart, given: Mapping[str, int]) -> None:
        """Another address space runs here: that of the task that comes next, or a new one."""
        self.close(hart)
        task = given["a2"] or hart.task
        hart.next_task = given["a2"]
        space = self.spaces.switch(self.at[1], given["a1"], task, runs_another=not given["a2"])
        if space is not None:
            self.put(SwitchMm(*self.at, space))

    # ---- tasks ----

    def pid(self, task: int) -> int:
        """Return a task's number; 0 is an idle task, or one that is not known."""
        return self.pids.get(task, 0)

    def switch(self, hart: _Hart, given: Mapping[str, int]) -> None:
        """Another task runs here."""
        self.close(hart)
        before, after = given["a0"], given["a1"]
        if before not in self.pids:         # its own first task: idle, and it may have forked
            self.pids[before] = 0
            for fork in self.forks:
                fork.parent = fork.parent or before
        user = hart.next_task == after
        hart.next_task = 0
        if after not in self.pids or (after in self.dead and self.is_another(after, user=user)):
            self.first_run(after, user=user)
        state = "X" if before in self.dead else "S"
        self.put(Switch(self.at[0], self.at[1], self.pid(before), False, state, self.pid(after)))
        hart.task = after

    def is_another(self, task: int, *, user: bool) -> bool:
        """Whether it is another task that runs where one has exited, not the same again."""
        if user:
            pointer = self.spaces.of_task.get(task, 0)
            return bool(pointer)    # one that exits lives nowhere any more
        return any(not (fork.idle or fork.user) for fork in self.forks)

    def first_run(self, task: int, *, user: bool) -> None:
        """A task that was never seen runs: the child of the oldest fork that has none."""
        self.dead.discard(task)
        self.pid_nr += 1
        self.pids[task] = self.pid_nr
        forks = [fork for fork in self.forks if not fork.idle and fork.user == user]
        if not forks:
            self.tally.notes["tasks whose fork is not in the log"] += 1
            return
        if len(forks) > 1:
            self.tally.notes["children told apart by the order of their forks"] += 1
        fork = forks[0]
        self.forks.remove(fork)
        if fork.at == _SET_LATER:
            self.forked(fork)
        if fork.window is not None and fork.window is self.window:
            event = fork.window.events[fork.at]
            assert isinstance(event, Fork)
            fork.window.events[fork.at] = replace(event, child_pid=self.pid_nr)

    def copy(self, hart: _Hart, given: Mapping[str, int]) -> None:
        """A task begins to fork."""
        self.close(hart)
        self.forks.append(_Pending(hart.task, idle=given["a0"] != 0,
                                   user=hart.task in self.spaces.of_task))

    def close_fork(self, hart: _Hart, what: str) -> None:
        """The task does something that no fork does before its stack is there: it has it."""
        if what in _INSIDE_A_FORK:
            return
        for fork in self.forks:
            if fork.parent == hart.task and fork.at == _SET_LATER and not fork.idle and (
                    fork.mapped or what not in ("__switch_to", "switch_mm")):
                self.forked(fork)

    def forked(self, fork: _Pending) -> None:
        """Put the event of a fork; its child is not known yet."""
        fork.window = self.window
        fork.at = 0
        if self.window is not None:
            fork.at = self.put(Fork(self.now_ns, self.at[1], self.pid(fork.parent), False,
                                    _SET_LATER))

    def exit(self, hart: _Hart, given: Mapping[str, int]) -> None:
        """The task exits; the next one at its place is another."""
        self.close(hart)
        self.put(Exit(*self.at))
        self.spaces.exit(hart.task)
        self.dead.add(hart.task)

    def nothing(self, hart: _Hart, given: Mapping[str, int]) -> None:
        """Said by other events too."""

    # ---- the end ----

    def end(self) -> None:
        """Drop what turned out to be nothing: forks without a child, flushes without a fence."""
        if self.window is None:
            return
        for hart in self.harts.values():
            self.close(hart)
        events = [event for at, event in enumerate(self.window.events) if at not in self.void]
        kept = [event for event in events
                if not (isinstance(event, Fork) and event.child_pid == _SET_LATER)]
        missing = len(events) - len(kept)
        if self.void:
            self.tally.notes["user flushes that fenced nothing"] += len(self.void)
        if missing:
            self.tally.notes["forks whose child did not run in the window"] += missing
        self.window.events = kept


_INSIDE_A_FORK: Final = ("__vmap_pages_range_noflush", "vmap_range_noflush", "sbi_rfence",
                         "flush_tlb_kernel_range", "__purge_vmap_area_lazy")

_Take: TypeAlias = Callable[[_Log, _Hart, Mapping[str, int]], None]

EVENTS: Final[Mapping[str, tuple[tuple[str, ...], _Take]]] = {
    "__vmap_pages_range_noflush": (("a0", "a1"), _Log.map),
    "vmap_range_noflush": (("a0", "a1"), _Log.map),
    "__vunmap_range_noflush": (("a0",), _Log.unmap),
    "flush_tlb_kernel_range": (("a0", "a1"), _Log.flush_kernel),
    "flush_tlb_all": ((), _Log.flush_all),
    "__flush_tlb_range": (("a0", "a2"), _Log.flush_user),
    "sbi_rfence": (("fid", "hmask", "start", "size"), _Log.remote),
    "pagefault": (("stval",), _Log.page_fault),
    "ptep_set_access_flags": ((), _Log.access_flags),
    "switch_mm": (("a1", "a2"), _Log.switch_mm),
    "__switch_to": (("a0", "a1"), _Log.switch),
    "copy_process": (("a0",), _Log.copy),
    "do_exit": ((), _Log.exit),
    "__purge_vmap_area_lazy": ((), _Log.nothing),
    "__set_memory": ((), _Log.nothing),
    "remove_vm_area": ((), _Log.nothing),
}
"""The events that are known, the arguments each needs, and what becomes of it."""


# ---- files --------------------------------------------------------------------------------------


def _lines(log: _Log, lines: Iterable[str]) -> Iterator[Window]:
    for number, text in enumerate(lines, 1):
        log.tally.lines = number
        ended = log.line(number, text)
        if ended is not None:
            yield ended
    if log.window is not None:
        log.end()
        log.window.cut = not log.whole
        yield log.window


def windows(
    path: Path, tally: Tally, *, svvptc: bool = False, imsic: bool = False
) -> Iterator[Window]:
    """Yield the windows of an event log in its order, boot first, and fill ``tally``.

    One that the log ends in comes last and says so.

    ``svvptc``: the CPU had it, so faults left no fence to be counted by. ``imsic``: the kernel used
    its own IPIs, so each hart's fences for another are among its own.
    """
    log = _Log(tally=tally, svvptc=svvptc, imsic=imsic, window=Window(workload=BOOT))
    with ftrace.open_text(path) as lines:
        yield from _lines(log, lines)


def load(path: Path, window: str = "", *, harts: int = 0, svvptc: bool = False,
         imsic: bool = False) -> Trace:
    """Read one window of an event log as a recording; all of the log without one.

    Raises InputError when there is no such window, and says which there are.
    """
    tally = Tally()
    if window:
        found = {one.workload: one for one in windows(path, tally, svvptc=svvptc, imsic=imsic)
                 if not one.cut}
    else:
        log = _Log(tally=tally, svvptc=svvptc, imsic=imsic, window=Window(workload=""),
                   whole=True)
        with ftrace.open_text(path) as lines:
            found = {one.workload: one for one in _lines(log, lines)}
    if window not in found:
        raise InputError(str(path), "window", f"no window {window!r} in it, it has "
                         f"{', '.join(found) or 'none'}", got=window, nearest=found)
    chosen = found[window]
    if not chosen.events:
        raise InputError(str(path), window and "window", ftrace.nothing(tally))
    return chosen.trace(path.name, max([harts, *(event.hart + 1 for event in chosen.events)]),
                        tally)
