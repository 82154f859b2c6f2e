"""A run of the clock followed step by step on the abstract machine of docs/abstract-machine.md.

``work`` turns the scripts of a litmus test into items, ``follow`` walks the slow explorer's machine
along the event log of a run: each entry must be a transition that is possible where the machine
stands, stores drain when the clock says that others see them, and where the clock ends in a verdict
the machine must find a property violated. Nothing is searched and nothing may be left over.

Skipped are entries that no transition corresponds to: instructions that only cost, conditions that
are decided before the run, stores to a stack everybody has, and the making of the page table under
pages whose scenario says that it exists.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from items import Row, address, item

from pysim import engine
from pysim.engine import ITEMS, Logged
from pysim.litmus import Action, Litmus, Parameters
from pysim.ops import Program
from pysim.reference.machine import ACCESS, DRAIN, FIRMWARE, STEP, TAKE, Machine, Rest, Violated

PAGE = 4096
FOR_ANOTHER = 4
LOAD_FAULT, TIMER = 13, 1 << 63 | 5
PROPERTIES = {"oops": {"S2", "S4"}, "livelock": {"S3"}, "stack overflow": {"S4"},
              "stale use": {"S1"}}
OPS = {number: name for name, number in engine.OPS.items()}
#: Ops whose transitions are logged as what they do, or that have none.
TOLD_OTHERWISE = frozenset({
    "end", "spend", "jump", "sync_root", "store_ptes", "publish", "fence", "shootdown", "ack",
    "touch_stack", "touch", "retry", "fall_through", "fail"})


class Gates:
    """Numbers for what is waited for: a page's version, a hart's signals."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, int, int], int] = {}

    def __call__(self, kind: str, of: int, count: int) -> int:
        return self.numbers.setdefault((kind, of, count), len(self.numbers) + 1)


def page_va(litmus: Litmus, page: int) -> int:
    """Stacks grow down: page 0 of a stack is its last."""
    if litmus.stack <= page < litmus.stack + litmus.stack_pages:
        return address(2 * litmus.stack + litmus.stack_pages - 1 - page)
    return address(page)


def range_va(litmus: Litmus, first: int, pages: int) -> int:
    """Where a range of pages begins."""
    return min(page_va(litmus, page) for page in range(first, first + pages))


def to_item(litmus: Litmus, hart: int, action: Action, at: int, gate: Gates) -> Row:
    """One action as an item; a wait or a signal is an item of its own."""
    kind = action.kind
    if kind in ("wait", "await"):
        named = "page" if kind == "wait" else "done"
        return item("idle", hart, at, wait=gate(named, action.first, action.count))
    if kind == "signal":
        return item("idle", hart, at, signal=gate("done", hart, action.count))
    if kind == "interrupt":
        return item("trap", hart, at, arg=TIMER)
    if kind == "probe":
        return item("trap", hart, at, arg=LOAD_FAULT, va=page_va(litmus, action.first))
    if kind == "switch":
        return item("switch", hart, at, "first", va=range_va(litmus, litmus.stack,
                                                             litmus.stack_pages),
                    pages=litmus.stack_pages, arg=1)
    extent = {"va": range_va(litmus, action.first, action.pages), "pages": action.pages}
    if kind == "access":
        return item("touch", hart, at, "load", **extent)
    assert kind in ("map", "unmap", "purge", "flush"), kind
    flags = ("irqs_off",) if action.masked else ()
    made = item(kind, hart, at, *flags, **extent)
    return made | {"signal": gate("page", action.first, action.count)} if kind == "map" else made


def work(litmus: Litmus, at: Sequence[Sequence[int]]) -> list[Row]:
    """The scripts as items; ``at[hart][position]`` is when an action is due, in useful cycles.

    Items are put in an order in which nothing waits for a later one. Raises ValueError when there
    is none.
    """
    gate = Gates()
    left = [[to_item(litmus, hart, action, at[hart][position], gate)
             for position, action in enumerate(script)]
            for hart, script in enumerate(litmus.scripts)]
    rows: list[Row] = []
    signalled = {0}
    while any(left):
        ready = next((script for script in left if script and script[0]["wait"] in signalled), None)
        if ready is None:
            raise ValueError("scripts that wait for each other")
        rows.append(ready.pop(0) | {"order": len(rows) + 1})
        signalled.add(rows[-1]["signal"])
    return rows


class Path:
    """The abstract machine beside a log."""

    def __init__(self, program: Program, litmus: Litmus, parameters: Parameters,
                 visible_cycles: int) -> None:
        self.program, self.litmus = program, litmus
        self.machine = Machine(program, litmus, parameters)
        self.state = self.machine.initial()
        self.visible_cycles = visible_cycles
        self.on_the_way: deque[tuple[int, int]] = deque()   # (due, hart), oldest first
        self.pages = {page_va(litmus, page): page for page in range(litmus.pages)}
        self.frames: dict[int, int] = {}                    # ppn -> abstract frame
        self.passed: set[int] = set()       # harts whose wait is over and whose next item is not
        self.steps = 0

    # ---- what the machine does ----

    def rest(self, h: int) -> Rest | None:
        return self.machine.rest(self.state, h)

    def op(self, h: int) -> str:
        """The kind of the op that the hart rests at, or nothing."""
        rest, frames = self.rest(h), self.state.harts[h].frames
        if rest is None or not frames or rest.kind not in ("op", "access"):
            return ""
        return self.machine.ops[frames[-1].op].kind if frames[-1].handler else ""

    def take(self, at: int, h: int, kind: int, arg: int = 0) -> None:
        """One transition; the stores it puts into the buffer are due later."""
        possible = [found for found in self.machine.transitions(self.state) if found[0] == h]
        assert (h, kind, arg) in possible, (
            f"at {at}: hart {h} cannot do {(kind, arg)}; it rests at {self.rest(h)}, "
            f"possible {possible}")
        before = len(self.state.harts[h].buffer)
        self.state, _ = self.machine.apply(self.state, (h, kind, arg))
        self.steps += 1
        for _ in range(len(self.state.harts[h].buffer) - before):
            self.on_the_way.append((at + self.visible_cycles, h))

    def drain(self, now: int) -> None:
        """What others see by now has left the buffers, each hart's in its order."""
        for due, h in sorted(self.on_the_way, key=lambda entry: entry[0]):
            if due <= now:
                self.take(due, h, DRAIN, 0)
                self.on_the_way.remove((due, h))

    # ---- what the log says ----

    def follow(self, log: Sequence[Logged]) -> str | None:
        """Take every entry in the order of time; return the property violated, if one is."""
        for entry in sorted(log, key=lambda entry: entry.at_cycles):
            self.drain(entry.at_cycles)
            try:
                getattr(self, f"on_{entry.kind}")(entry)
            except Violated as violated:
                return violated.prop
        self.drain(max((due for due, _ in self.on_the_way), default=0))
        for h in sorted(self.passed):
            self.take(0, h, STEP)
        return None

    def take_at(self, entry: Logged, kind: str) -> None:
        rest = self.rest(entry.hart)
        here = rest is not None and rest.kind == kind
        assert here, f"{entry}: the machine is at {rest}"
        self.take(entry.at_cycles, entry.hart, STEP)

    def step_if(self, entry: Logged, *kinds: str) -> None:
        rest = self.rest(entry.hart)
        if rest is not None and rest.kind in kinds:
            self.take(entry.at_cycles, entry.hart, STEP)

    def on_item(self, entry: Logged) -> None:
        """A wait ends here; its step is taken with the next item, up to which traps may come."""
        if entry.hart in self.passed:
            self.passed.remove(entry.hart)
            self.take(entry.at_cycles, entry.hart, STEP)
        rest = self.rest(entry.hart)
        if entry.value == ITEMS["idle"] and rest is not None and rest.kind in ("wait", "await"):
            self.passed.add(entry.hart)

    def on_item_end(self, entry: Logged) -> None:
        """A map without a handler publishes by itself."""

    def on_publish(self, entry: Logged) -> None:
        rest = self.rest(entry.hart)
        told = rest is not None and rest.kind in ("publish", "signal")
        assert told or self.op(entry.hart) == "publish", rest
        self.take(entry.at_cycles, entry.hart, STEP)

    def on_op(self, entry: Logged) -> None:
        h = entry.hart
        decoded = self.machine.ops[entry.detail]
        if decoded.kind in TOLD_OTHERWISE:
            return
        frames, rest = self.state.harts[h].frames, self.rest(h)
        here = bool(frames) and rest is not None and rest.kind == "op" \
            and frames[-1].op == entry.detail
        if here:
            self.take(entry.at_cycles, h, STEP)
        else:
            assert decoded.kind == "when", f"{entry}: {decoded.kind}, the machine is at {rest}"

    def on_store(self, entry: Logged) -> None:
        h = entry.hart
        leaf = entry.value & 0xE != 0 or entry.value == 0
        if not leaf and not self.litmus.table:
            return
        page = self.pages[entry.va]
        assert self.op(h) == "store_ptes", f"{entry}: the machine is at {self.rest(h)}"
        frame = self.state.harts[h].frames[-1]
        before = self.state.harts[h].buffer
        self.take(entry.at_cycles, h, STEP)
        if self.machine.p.order != "sc":
            stored = self.state.harts[h].buffer[len(before)]
            assert stored.place == (("leaf", page) if leaf else ("table", 0)), (entry, stored)
            assert (stored.value != 0) == (entry.value != 0)
        if leaf and entry.value:
            self.frames[entry.value >> 10] = frame.frame

    def on_fence(self, entry: Logged) -> None:
        """Drops that the machine has no step for are its freedom not to use an entry."""
        h = entry.hart
        frames = self.state.harts[h].frames
        if entry.detail & FOR_ANOTHER:
            return
        if self.op(h) == "fence" or (self.op(h) == "shootdown" and self.stage(h) == "own"):
            assert frames
            self.take(entry.at_cycles, h, STEP)

    def stage(self, h: int) -> str | None:
        frame = self.state.harts[h].frames[-1]
        return self.machine._shootdown_stage(h, frame, self.machine.ops[frame.op])

    def on_send(self, entry: Logged) -> None:
        assert self.op(entry.hart) == "shootdown", self.rest(entry.hart)
        if self.stage(entry.hart) == "send":
            self.take(entry.at_cycles, entry.hart, STEP)

    def on_waited(self, entry: Logged) -> None:
        if self.op(entry.hart) == "shootdown" and self.stage(entry.hart) == "wait":
            self.take(entry.at_cycles, entry.hart, STEP)

    def request(self, entry: Logged, kind: int) -> None:
        """The one request of that sender that can be answered now."""
        found = [arg for h, k, arg in self.machine.transitions(self.state)
                 if (h, k) == (entry.hart, kind) and arg % 16 == entry.value]
        assert found, f"{entry}: nothing of hart {entry.value} is pending"
        self.take(entry.at_cycles, entry.hart, kind, found[0])

    def on_firmware(self, entry: Logged) -> None:
        self.request(entry, FIRMWARE)

    def on_take(self, entry: Logged) -> None:
        self.request(entry, TAKE)

    def on_ack(self, entry: Logged) -> None:
        if self.machine.p.via == "imsic":
            rest = self.rest(entry.hart)
            assert (rest and rest.kind == "ack") or self.op(entry.hart) == "ack", rest
            self.take(entry.at_cycles, entry.hart, STEP)

    def on_access(self, entry: Logged) -> None:
        page = self.pages.get(entry.va & ~(PAGE - 1))
        if page is None:                    # a stack that every hart has from the start
            assert entry.detail == 0, entry
            self.step_if(entry, "save")
            return
        rest = self.rest(entry.hart)
        here = rest is not None and (rest.kind, rest.page) == ("access", page)
        assert here, (entry, rest)
        self.answer(entry, 0 if entry.detail else self.frames[entry.value])

    def answer(self, entry: Logged, frame: int) -> None:
        """Translated to that frame; 0: a page fault, at whatever level the machine allows."""
        answers = {arg for h, kind, arg in self.machine.transitions(self.state)
                   if (h, kind) == (entry.hart, ACCESS)}
        arg = 255 if frame == 0 and 0 not in answers else frame
        self.take(entry.at_cycles, entry.hart, ACCESS, arg)

    def on_trap(self, entry: Logged) -> None:
        """An interrupt is a step of the script; a probe is an access bound to fault."""
        rest = self.rest(entry.hart)
        if rest is None:
            return
        if rest.kind == "interrupt":
            self.take(entry.at_cycles, entry.hart, STEP)
        elif rest.kind == "access" and rest.text.startswith("probe"):
            self.answer(entry, 0)

    def on_sret(self, entry: Logged) -> None:
        self.take_at(entry, "sret")

    def on_fail(self, entry: Logged) -> None:
        self.take_at(entry, "fail")

    def on_stack(self, entry: Logged) -> None:
        self.take_at(entry, "switch")


def check(program: Program, litmus: Litmus, parameters: Parameters, visible_cycles: int,
          verdict: str, log: Sequence[Logged]) -> int:
    """Follow a whole run; return the number of transitions. Raises AssertionError."""
    path = Path(program, litmus, parameters, visible_cycles)
    found = path.follow(log)
    if verdict == "ran":
        assert found is None, f"the machine finds {found}, the clock ran to its end"
        harts: list[int] = list(path.machine.harts)
        assert all(path.machine.finished(path.state, h) for h in harts), \
            [str(path.rest(h)) for h in harts]
    elif verdict == "deadlock":
        assert found is None
        assert not any(path.machine.finished(path.state, h) for h in path.machine.harts)
    else:
        assert found in PROPERTIES[verdict], f"the clock says {verdict}, the machine {found}"
    return path.steps


def with_touch(litmus: Litmus) -> Litmus:
    """After a switch the clock stores to the top of the new stack; the machine is told to."""
    scripts = []
    for script in litmus.scripts:
        told: list[Action] = []
        for action in script:
            told.append(action)
            if action.kind == "switch":
                told.append(Action("access", litmus.stack, frame=action.frame))
        scripts.append(tuple(told))
    return replace(litmus, scripts=tuple(scripts))
