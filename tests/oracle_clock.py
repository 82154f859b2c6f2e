"""The clock, read slowly: harts as generators, one step each in the order of (time, hart).

A restricted world, importing nothing of ours: items MAP, TOUCH, UNMAP and TRAP; pages of one
2 MiB region; a first-level TLB that never evicts and no other cache; PTE reads of one latency; no
speculation; a reference stream of one page visit, so that text and the top of the stack are looked
up again after each item and interrupt. The policies are `preventive-range` over SBI and `mark-7.2`,
written out here by hand.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

LEVELS = 3
TEXT, STACK = "text", "stack"
Step = Generator[float, None, None]     # yields the time of its next step; it may be woken before


class Over(Exception):  # noqa: N818 - an outcome, not an error
    """The run ends in a verdict: name, hart, time, page."""


@dataclass
class Item:
    """What tests/items.py calls an item, pages by number."""

    kind: str
    hart: int
    at: int
    page: int = 0
    pages: int = 1
    wait: int = 0
    signal: int = 0


@dataclass
class Store:
    """One PTE store: by whom, when, and the mapping it made (0: none)."""

    hart: int
    at: int
    value: int


@dataclass
class Entry:
    """What a TLB holds of a page: a mapping, 0 for an invalid PTE; or what a fence left of it."""

    value: int
    dropped_for: str | None = None


@dataclass
class Shoot:
    """A request of firmware to the harts of one window."""

    sender: int
    page: int
    pages: int
    pending: int = 0
    seen_at: int = 0


@dataclass
class Waiting:
    """A request at one target, the extent that is fenced for it, and those served with it."""

    at: int
    shoot: Shoot
    page: int
    pages: int
    merged: list[Shoot] = field(default_factory=list)


@dataclass
class Hart:
    """One hart: its clock, what it has done of its work, and what it holds."""

    id: int
    now: int = 0
    useful: int = 0
    tlb: dict[Any, Entry] = field(default_factory=dict)
    again: list[str] = field(default_factory=lambda: ["page"])
    inbox: list[Waiting] = field(default_factory=list)
    calling: str = ""               # in firmware: "busy", or "waiting" for acknowledgements
    walking: bool = False
    lost: bool = False              # the walk in flight, to an interrupt
    waits_for: str | None = None    # the cause that pays while it sleeps
    spent: int = 0                  # by the lookup in flight, nobody has paid yet
    stored_at: int | None = None    # its last store of any kind, PTE store, store to a mark
    pte_at: int | None = None
    mark_at: int | None = None
    done_at: int | None = None
    next_at: float = 0


class World:
    """Harts, memory and the queue of what is on its way."""

    def __init__(self, policy: str, harts: int, useful: int, costs: dict[str, int],
                 items: list[Item]) -> None:
        self.policy, self.useful, self.cost = policy, useful, costs
        self.count: Counter[str] = Counter()
        self.harts = [Hart(n) for n in range(harts)]
        self.items = [[i for i in items if i.hart == n] for n in range(harts)]
        self.need = Counter(i.signal for i in items if i.signal)
        self.signals: dict[int, list[tuple[int, int]]] = {}
        self.leaves: dict[int, list[Store]] = {}
        self.table: Store | None = None     # the pointer to the region's last-level table
        self.mappings = 0
        self.marks: list[tuple[int, int]] = []          # (hart, time), in order
        self.cleared = [0] * harts                      # marks before that number ...
        self.cleared_at = [-1] * harts                  # ... and seen by then are gone
        self.line_owner: int | None = None
        self.line_holders: set[int] = set()
        self.events: list[tuple[int, int, int, Any]] = []
        self.pushed = 0

    # ---- time and money ----

    def c(self, name: str) -> int:
        return self.cost.get(f"{name}_cycles", 0)

    def charge(self, hart: Hart, cause: str, cycles: int) -> None:
        hart.now += cycles
        if hart.done_at is None:
            self.count[f"{cause}_cycles"] += cycles

    def delay(self, owner: int, hart: Hart) -> int:
        """How long after a store of `owner` this hart's loads see it."""
        return 0 if owner == hart.id else self.c("store_drain") + self.c("coherence")

    def push(self, at: int, hart: int, what: Any) -> None:
        self.events.append((at, hart, self.pushed, what))
        self.pushed += 1

    def run(self) -> None:
        """Take whatever is next until nothing is left."""
        steps = [self.live(hart) for hart in self.harts]
        alive = set(range(len(steps)))
        while True:
            best = min(((h.next_at, h.id, 1, -1) for h in self.harts if h.id in alive),
                       default=(math.inf, 0, 1, -1))
            for index, (at, hart, _, _) in enumerate(self.events):
                if (at, hart, 0) < best[:3]:
                    best = (at, hart, 0, index)
            if best[0] == math.inf:
                break
            if best[3] >= 0:
                self.event(*self.events.pop(best[3]))
                continue
            hart = self.harts[best[1]]
            self.sleep_until(hart, int(best[0]))
            hart.next_at = next(steps[hart.id])
        for hart in self.harts:
            if hart.done_at is None:
                raise Over("deadlock", hart.id, hart.now, 0)

    def sleep_until(self, hart: Hart, at: int) -> None:
        if at <= hart.now:
            return
        if hart.waits_for == "useful":
            hart.useful += at - hart.now
            self.count["useful_cycles"] += at - hart.now
            hart.now = at
        elif hart.waits_for is not None:
            self.charge(hart, hart.waits_for, at - hart.now)
        else:
            hart.now = at

    def event(self, at: int, to: int, _: int, what: tuple[str, Shoot]) -> None:
        hart, (kind, shoot) = self.harts[to], what
        if kind == "ack":
            shoot.pending -= 1
            shoot.seen_at = max(shoot.seen_at, at) + self.c("sbi_ack")
            if shoot.pending == 0 and hart.waits_for:
                hart.next_at = min(hart.next_at, max(at, hart.now))
            return
        if not self.merge(hart, shoot):
            hart.inbox.append(Waiting(at, shoot, shoot.page, shoot.pages))
        if hart.waits_for is not None or hart.done_at is not None:
            hart.next_at = min(hart.next_at, max(at, hart.now))

    def merge(self, hart: Hart, shoot: Shoot) -> bool:
        """A request that covers one not yet taken, or is covered by it, is served with it."""
        for held in hart.inbox:
            mine, theirs = ({0} if s.pages == 0 else set(range(s.page, s.page + s.pages))
                            for s in (shoot, held))
            inside = held.pages == 0 or (shoot.pages != 0 and mine <= theirs)
            around = shoot.pages == 0 or (held.pages != 0 and theirs <= mine)
            if inside or around:
                held.merged.append(shoot)
                if around:
                    held.page, held.pages = shoot.page, shoot.pages
                self.count["requests_merged"] += 1
                return True
        return False

    def pause(self, hart: Hart, until: float, cause: str | None) -> Step:
        """One step ends here; requests of others are served before the next one."""
        hart.waits_for = cause
        yield max(until, hart.now)
        hart.waits_for = None
        while hart.inbox and hart.calling != "busy":
            yield from self.serve(hart, hart.inbox.pop(0))

    # ---- the life of a hart ----

    def live(self, hart: Hart) -> Step:
        for item in self.items[hart.id]:
            yield from self.stream(hart, item.at)
            yield from self.do(hart, item)
            self.count["items"] += 1
            self.disturb(hart)
        yield from self.stream(hart, self.useful)
        hart.done_at = hart.now
        while True:
            hart.waits_for = None
            yield math.inf
            while hart.inbox:
                yield from self.serve(hart, hart.inbox.pop(0))

    def disturb(self, hart: Hart) -> None:
        self.settle(hart, "base_translation")
        hart.again = ["page", TEXT, STACK]

    def settle(self, hart: Hart, cause: str) -> None:
        """Somebody pays for the lookup so far."""
        hart.now -= hart.spent
        self.charge(hart, cause, hart.spent)
        hart.spent = 0

    def stream(self, hart: Hart, until: int) -> Step:
        """The reference stream up to so many useful cycles; requests come in between."""
        while hart.useful < until:
            yield from self.between(hart, hart.now, None)
            if hart.again:
                what = STACK if hart.again.pop(0) == STACK else TEXT
                hart.lost = False
                yield from self.lookup(hart, what, in_stream=True)
                if not hart.lost:
                    self.settle(hart, self.paid_by(hart, what))
                continue
            yield from self.between(hart, hart.now + until - hart.useful, "useful")
        yield from self.between(hart, hart.now, None)

    def between(self, hart: Hart, until: float, cause: str | None) -> Step:
        """A step of the stream: a request in it disturbs the visit."""
        hart.waits_for = cause
        yield max(until, hart.now)
        hart.waits_for = None
        if hart.inbox:
            if hart.walking:
                hart.walking, hart.lost = False, True
            self.disturb(hart)
            while hart.inbox:
                yield from self.serve(hart, hart.inbox.pop(0))
                self.disturb(hart)

    # ---- translation ----

    def paid_by(self, hart: Hart, what: Any) -> str:
        return hart.refill_for if hart.refill_for else "base_translation"

    def lookup(self, hart: Hart, what: Any, *, in_stream: bool = False) -> Step:
        """Ask the TLB, else walk; leaves the answer in hart.found: a mapping, or 0."""
        self.count["lookups"] += 1
        entry = hart.tlb.get(what)
        hart.refill_for = None
        hart.negative = False
        if entry is not None and entry.dropped_for is None:
            self.count["l1_hits"] += 1
            hart.negative = entry.value == 0
            self.count["negative_hits"] += hart.negative
            hart.found = entry.value
            return
        self.count["misses"] += 1
        self.count["walks"] += 1
        if entry is not None:
            hart.refill_for = f"refill_{entry.dropped_for}"
            self.count["refill_misses"] += 1
        levels = LEVELS - 1 if what == TEXT else LEVELS
        hart.walking = True
        for level in range(levels):
            yield from (self.between(hart, hart.now, None) if in_stream
                        else self.pause(hart, hart.now, None))
            if hart.lost:
                return
            self.count["walk_reads"] += 1
            value = self.read(hart, what, level)
            cycles = self.c("walk_overhead_per_level") + self.c("read_l1d")
            hart.now += cycles
            hart.spent += cycles
            if value == 0:
                break
        hart.walking = False
        hart.found = value
        if value or self.cost.get("inv_l1"):
            self.count["negative_fills"] += value == 0
            hart.tlb[what] = Entry(value)

    def read(self, hart: Hart, what: Any, level: int) -> int:
        """What this hart's walker sees now of the level-th PTE from the root."""
        if what in (TEXT, STACK) or level == 0:
            return 1
        if level == 1:
            return int(self.table is not None and self.reached(hart, self.table))
        for store in reversed(self.leaves.get(what, [])):
            if self.reached(hart, store):
                return store.value
        return 0

    def reached(self, hart: Hart, store: Store) -> bool:
        seen = store.at + self.c("store_drain")
        return seen + (0 if store.hart == hart.id else self.c("coherence")) <= hart.now

    def wait_for(self, hart: Hart, cause: str, stored_at: int | None) -> None:
        """Others see the store: nothing of it is left in the buffer."""
        if stored_at is not None:
            seen = stored_at + self.c("store_drain") + self.c("coherence")
            self.charge(hart, cause, max(0, seen - hart.now))

    def fence(self, hart: Hart, page: int, pages: int, cause: str) -> int:
        """It lasts until the own walker sees the own stores. pages 0: everything.

        What was valid leaves a tag that says for whom it was dropped.
        """
        every = list(hart.tlb) if pages == 0 else range(page, page + pages)
        for what in every:
            entry = hart.tlb.get(what)
            if entry is not None and entry.dropped_for is None:
                if entry.value:
                    entry.dropped_for = cause
                else:
                    del hart.tlb[what]
        each = self.c("fence_all") if pages == 0 else self.c("fence_va") * pages
        cycles = each + self.c("fence_pipe") * max(pages, 1)
        if hart.pte_at is None:
            return cycles
        return max(cycles, hart.pte_at + self.c("store_drain") - hart.now)

    # ---- accesses and traps ----

    def access(self, hart: Hart, what: Any) -> Step:
        """A load or store that may fault; it is repeated until it is translated."""
        while True:
            hart.lost = False
            yield from self.pause(hart, hart.now, None)
            yield from self.lookup(hart, what)
            if hart.lost:
                self.settle(hart, "base_translation")
                continue
            if hart.found:
                self.settle(hart, self.paid_by(hart, what))
                if what != STACK and hart.found != self.newest(what):
                    raise Over("stale use", hart.id, hart.now, what)
                return
            self.settle(hart, "lazy_fault")
            yield from self.fault(hart, what)

    def newest(self, page: int) -> int:
        stores = self.leaves.get(page)
        return stores[-1].value if stores else 0

    def fault(self, hart: Hart, page: int) -> Step:
        if self.newest(page):
            self.count["spurious_faults"] += 1
            self.count["negative_faults" if hart.negative else "window_faults"] += 1
        self.count["traps_kernel_fault"] += 1
        self.count["early_checks"] += 1
        self.charge(hart, "lazy_fault", self.c("trap_entry") + 3)
        yield from self.pause(hart, hart.now, None)
        if self.policy == "mark-7.2":
            yield from self.spend(hart, "lazy_fault", 2)
            if self.is_marked(hart, "lazy_fault"):
                yield from self.pause(hart, hart.now, None)
                yield from self.resolve(hart)
                return
            yield from self.pause(hart, hart.now, None)
            yield from self.spend(hart, "lazy_fault", 25, loads=5, stores=3)
        self.charge(hart, "lazy_fault", self.cost.get("trap_save_instructions", 0))
        yield from self.access(hart, STACK)
        yield from self.pause(hart, hart.now, None)
        raise Over("oops", hart.id, hart.now, page)

    def resolve(self, hart: Hart) -> Step:
        yield from self.spend(hart, "lazy_fault", 26, loads=5, stores=3)
        self.count["mark_clears"] += 1
        self.wait_for(hart, "lazy_fault", hart.mark_at)
        self.cleared[hart.id], self.cleared_at[hart.id] = len(self.marks), hart.now
        self.charge(hart, "lazy_fault", self.c("amo") + self.write_line(hart))
        yield from self.pause(hart, hart.now, None)
        self.count["fences_full"] += 1
        self.charge(hart, "lazy_fault", self.fence(hart, 0, 0, "lazy"))
        yield from self.pause(hart, hart.now, None)
        self.count["early_checks_retried"] += 1
        self.count["retries"] += 1
        self.charge(hart, "lazy_fault", self.c("sret"))

    def spend(self, hart: Hart, cause: str, instructions: int, loads: int = 0,
              stores: int = 0) -> Step:
        self.charge(hart, cause, instructions + loads * self.c("load")
                    + stores * self.c("store"))
        yield from self.pause(hart, hart.now, None)

    def trap(self, hart: Hart) -> Step:
        self.count["traps_interrupt"] += 1
        self.count["early_checks"] += 1
        yield from self.pause(hart, hart.now, None)
        if self.policy == "mark-7.2":
            yield from self.spend(hart, "early_check", 4, loads=1, stores=1)
        yield from self.access(hart, STACK)

    # ---- the mark and its line ----

    def is_marked(self, hart: Hart, cause: str) -> bool:
        found = False
        for number, (owner, at) in enumerate(self.marks):
            seen = at + self.delay(owner, hart)
            gone = number < self.cleared[hart.id] and seen <= self.cleared_at[hart.id]
            found |= seen <= hart.now and not gone
        if self.line_owner is not None and hart.id not in self.line_holders:
            self.line_holders.add(hart.id)
            self.count["line_transfers"] += 1
            self.charge(hart, cause, self.c("line_transfer"))
        return found

    def write_line(self, hart: Hart) -> int:
        """Own the line alone; the cycles until then."""
        alone = self.line_owner in (None, hart.id) and self.line_holders <= {hart.id}
        self.line_owner, self.line_holders = hart.id, {hart.id}
        self.count["line_transfers"] += not alone
        return 0 if alone else self.c("line_transfer")

    # ---- items ----

    def do(self, hart: Hart, item: Item) -> Step:
        while item.wait and (passes := self.passes(hart, item.wait)) > hart.now:
            yield from self.pause(hart, passes, "handoff_wait")
        yield from self.pause(hart, hart.now, None)
        if item.kind == "map":
            yield from self.map(hart, item)
            self.count["maps"] += 1
        elif item.kind == "unmap":
            yield from self.unmap(hart, item)
            self.count["unmaps"] += 1
        elif item.kind == "touch":
            for page in range(item.page, item.page + item.pages):
                yield from self.access(hart, page)
        elif item.kind == "trap":
            yield from self.trap(hart)
        yield from self.pause(hart, hart.now, None)
        if item.signal:
            hart.stored_at = hart.now
            self.signals.setdefault(item.signal, []).append((hart.id, hart.now))
            for other in self.harts:
                if other.waits_for == "handoff_wait":
                    other.next_at = min(other.next_at, max(hart.now, other.now))

    def passes(self, hart: Hart, gate: int) -> float:
        signals = self.signals.get(gate, [])
        if len(signals) < self.need[gate]:
            return math.inf
        return max((at + self.delay(owner, hart) for owner, at in signals), default=0)

    def store(self, hart: Hart, page: int, value: int, nth: int) -> None:
        at = hart.now + nth * self.c("store")
        self.leaves.setdefault(page, []).append(Store(hart.id, at, value))
        hart.pte_at = hart.stored_at = at

    def map(self, hart: Hart, item: Item) -> Step:
        self.mappings += 1
        stores = 0
        if self.table is None:
            self.table = Store(hart.id, hart.now, 1)
            stores = 1
        for page in range(item.page, item.page + item.pages):
            self.store(hart, page, self.mappings, stores)
            stores += 1
        self.count["pte_stores"] += stores
        self.charge(hart, "map_store", stores * self.c("store"))
        yield from self.pause(hart, hart.now, None)
        if self.policy == "mark-7.2":
            yield from self.spend(hart, "map_store", 18, loads=2)   # is it vmalloc's?
            yield from self.spend(hart, "map_store", 3)
            self.count["marks"] += 1
            self.marks.append((hart.id, hart.now))
            hart.mark_at = hart.stored_at = hart.now
            one_word = 1 + self.c("store")      # its instruction, and what a store costs more
            self.charge(hart, "mark", one_word + self.write_line(hart))
            yield from self.pause(hart, hart.now, None)
        elif len(self.harts) == 1:
            if item.pages == 1:
                yield from self.spend(hart, "map_store", 4 + 55, loads=4)
            else:
                yield from self.spend(hart, "map_store", 4 + 64, loads=5)
                yield from self.spend(hart, "map_store", 5 * item.pages)
            self.count["fences_addr"] += item.pages
            self.charge(hart, "local_fence", self.fence(hart, item.page, item.pages, "map"))
            yield from self.pause(hart, hart.now, None)
        else:
            self.charge(hart, "map_store", self.c("barrier"))
            self.wait_for(hart, "map_store", hart.stored_at)
            yield from self.pause(hart, hart.now, None)
            yield from self.shoot(hart, item)

    def unmap(self, hart: Hart, item: Item) -> Step:
        mapped = [page for page in range(item.page, item.page + item.pages) if self.newest(page)]
        for nth, page in enumerate(mapped):
            self.store(hart, page, 0, nth)
        self.count["pte_stores"] += len(mapped)
        self.charge(hart, "purge", len(mapped) * self.c("store"))
        yield from self.pause(hart, hart.now, None)

    # ---- fences of other harts, by firmware ----

    def extent(self, page: int, pages: int) -> tuple[int, int]:
        whole = pages * 4096 > self.cost.get("sbi_range_limit_bytes", 0)
        return (0, 0) if whole else (page, pages)

    def shoot(self, hart: Hart, item: Item) -> Step:
        page, pages = self.extent(item.page, item.pages)
        shoot = Shoot(hart.id, page, pages)
        hart.calling = "busy"
        self.charge(hart, "initiator_wait", self.c("ecall") + self.c("sbi_fixed"))
        for target in range(len(self.harts)):
            yield from self.pause(hart, hart.now, None)
            if target == hart.id:
                self.count["fences_firmware"] += max(pages, 1)
                self.charge(hart, "initiator_wait", self.fence(hart, page, pages, "map"))
                continue
            self.charge(hart, "initiator_wait", self.c("sbi_send"))
            shoot.pending += 1
            self.push(hart.now + self.c("sbi_deliver"), target, ("ipi", shoot))
        yield from self.pause(hart, hart.now, None)
        hart.calling = "waiting"
        yield from self.pause(hart, hart.now, None)
        while shoot.pending or shoot.seen_at > hart.now:
            until = math.inf if shoot.pending else shoot.seen_at
            yield from self.pause(hart, until, "initiator_wait")
        hart.calling = ""

    def serve(self, hart: Hart, what: Waiting) -> Step:
        self.count["ipi_delay_cycles"] += hart.now - what.at
        before, hart.calling = hart.calling, "busy"
        if hart.walking:
            hart.walking, hart.lost = False, True
        if before != "waiting":
            self.charge(hart, "victim_handler", self.c("sbi_handler"))
        yield hart.now
        self.count["fences_firmware"] += max(what.pages, 1)
        self.charge(hart, "victim_handler",
                    self.fence(hart, what.page, what.pages, "map"))
        for done in (what.shoot, *reversed(what.merged)):
            self.push(hart.now, done.sender, ("ack", done))
        hart.calling = before
        yield hart.now


def predict(policy: str, harts: int, useful: int, costs: dict[str, int],
            items: list[Item]) -> tuple[str, int, int, int, Counter[str]]:
    """Verdict, and the hart, time and page it is about; what was counted."""
    world = World(policy, harts, useful, costs, items)
    try:
        world.run()
    except Over as over:
        verdict, hart, at, page = over.args
        return verdict, hart, at, page, world.count
    world.count["wall_cycles"] = sum(hart.done_at or 0 for hart in world.harts)
    return "ran", 0, 0, 0, world.count
