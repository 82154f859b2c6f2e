"""Events beside plain maps: what harts do to user pages and address spaces, and kernel objects.

Each family arrives as a Poisson process, on every hart or once for the whole system, and becomes
items with their addresses and gates before the clock starts: the same for every policy. Draws are
counter-based, keyed (seed, family, hart, number); intervals come from a table of decimals, so they
are equal on every machine.

Kernel objects live in ranges of their own, away from the areas the engine draws: modules and BPF
programs in the module area, the others at the end of the vmalloc area. An address is reused
only behind the purge that fenced it. Source of what each object does: linux 6.12 (kernel.md 6) and
data/kernel, where said.
"""

from __future__ import annotations

import hashlib
import heapq
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from functools import lru_cache, partial
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from pysim import engine

if TYPE_CHECKING:
    from pysim.machines import Machine
    from pysim.workloads.model import Workload

PAGE_BYTES: Final = 4096
HUGE_PAGES: Final = 512
FAULT_AROUND_PAGES: Final = 16
"""Pages that a fault on a file installs. Source: linux 6.12, mm/memory.c, fault_around_bytes."""
BLOCK_PAGES: Final = 1024
"""vm_map_ram serves up to 64 pages from a hart's block of 4 MiB (kernel.md 6)."""
FORK_COW: Final = 4
FORK_WHOLE: Final = 2
"""A fork and its exit: 4 copies on write, 2 file faults, 1 access flag and 2 flushes of the whole
address space. Source: data/kernel README, counts of `fork` on one hart."""
MODULE_PAGES: Final = (4, 1, 1, 1, 2)
"""Areas of a small module: text, data, rodata, ro_after_init, init. Source: data/kernel, modload: 5
maps; their sizes: assumed, the module of the tables is a few KiB."""
MODULE_FLUSHES: Final = 20
MODULE_PURGES: Final = 4
"""Whole flushes and purges of a module's load and unload. Source: data/kernel README."""
BPF_PAGES: Final = (1, 1, 1)
BPF_FLUSHES: Final = 5
"""A BPF program: 3 maps, and 5 whole flushes with its purge. Source: data/kernel, `bpf`: S_full
less purges, over ops; sizes: assumed, a program of a few instructions."""
PERCPU_PAGES: Final = 1
IOREMAP_PAGES: Final = 4
"""assumed: a populate of one page (data/kernel: about 4,600 calls of one page each); a device's
registers of 16 KiB."""

OBJECTS_AT: Final = 48 << 30
OBJECTS_END: Final = 64 << 30
"""Where objects lie in the vmalloc area, which is 64 GiB in Sv39: behind what the engine draws, at
most 32 GiB, and the harts' own stacks."""

RATES: Final = (
    "file_faults_per_s", "access_flags_per_s", "user_unmaps_per_s", "user_forks_per_s",
    "mm_switches_per_s", "modules_per_s", "bpf_programs_per_s", "vm_map_rams_per_s",
    "percpu_populates_per_s", "ioremaps_per_s", "huge_maps_per_s", "fixmap_fences_per_s",
)
"""The rates that make items here: fields of a workload."""
_rates: Final = attrgetter(*RATES)

_ITEM: Final = struct.Struct("<QQQQIIIHBB")  # csim.h, struct csim_item
_PURGE_PAGES: Final = 1 << 20
_QUANTILES: Final = 1024


def wanted(workload: Workload) -> bool:
    """Whether a workload has any of these events."""
    return any(_rates(workload))


# ---- chance -------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _exponential() -> tuple[int, ...]:
    """Return the quantiles of an exponential of mean 2**20, rounded down; exact decimals."""
    context = Context(prec=30)
    parts = (Decimal(2 * n + 1) / (2 * _QUANTILES) for n in range(_QUANTILES))
    return tuple(int(-context.ln(part) * (1 << 20)) for part in parts)


def draw(seed: int, family: str, hart: int, number: int) -> int:
    """Return 64 bits that depend on these four alone."""
    text = f"{seed}/{family}/{hart}/{number}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def interval(mean: int, bits: int) -> int:
    """Return an exponential interval of a mean, at least 1."""
    return max(1, mean * _exponential()[bits % _QUANTILES] >> 20)


def arrivals(seed: int, family: str, hart: int, mean: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield (time, draw) of a Poisson process of a mean interval, up to ``end``."""
    at = number = 0
    while True:
        bits = draw(seed, family, hart, number)
        at += interval(mean, bits)
        if at >= end:
            return
        yield at, bits >> 10
        number += 1


# ---- addresses ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Area:
    """A range in use, freed or purged; ``gate`` is that of the purge behind which it is new."""

    page: int
    pages: int
    align: int
    gate: int = 0


@dataclass(slots=True)
class Block:
    """A hart's block of vm_map_ram: pages given out, and maps that live in it."""

    area: Area
    used: int = 0
    live: int = 0


@dataclass(slots=True)
class Space:
    """Addresses of kernel objects: given out lowest first, reused only after a purge."""

    first_va: int
    end_va: int
    end_page: int = 0
    lazy: list[Area] = field(default_factory=list)
    free: dict[tuple[int, int], list[Area]] = field(default_factory=dict)

    def take(self, pages: int, align: int = 1) -> Area | None:
        """Return a range of pages and its guard page; None when the space is used up."""
        reused = self.free.get((pages, align))
        if reused:
            area = reused.pop()
            assert area.gate, "reused before its purge"
            return area
        page = -(-self.end_page // align) * align
        if self.first_va + (page + pages + 1) * PAGE_BYTES > self.end_va:
            return None
        self.end_page = page + pages + 1
        return Area(page, pages, align)

    def va(self, area: Area) -> int:
        """Return where an area begins."""
        return self.first_va + area.page * PAGE_BYTES

    def give(self, area: Area) -> None:
        """Free a range; it stays unusable until a purge."""
        self.lazy.append(area)

    def purge(self, gate: int) -> None:
        """Make everything freed usable again behind a gate."""
        for area in self.lazy:
            area.gate = gate
            self.free.setdefault((area.pages, area.align), []).append(area)
        self.lazy.clear()

    @property
    def lazy_pages(self) -> int:
        """Freed pages that wait for a purge, guard pages included."""
        return sum(area.pages + 1 for area in self.lazy)


# ---- items --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Item:
    """One struct csim_item; its order follows from its time."""

    at: int
    kind: str
    hart: int
    va: int = 0
    pages: int = 0
    arg: int = 0
    flags: int = 0
    wait: int = 0
    signal: int = 0


Later = Callable[[int], None]


@dataclass(kw_only=True)
class Maker:
    """Goes along the common axis once: arrivals, and what they leave to be done later."""

    workload: Workload
    mhz: int
    harts: int
    seed: int
    end: int
    module: Space
    vmalloc: Space
    items: list[Item] = field(default_factory=list)
    gates: int = 1
    queue: list[tuple[int, int, Later]] = field(default_factory=list)
    queued: int = 0
    blocks: dict[int, Block] = field(default_factory=dict)
    unpurged: dict[int, list[Item]] = field(default_factory=dict)  # id of a space -> its unmaps

    def mean(self, rate: float) -> int:
        """Return the mean interval in cycles of a rate per second."""
        return max(1, round(self.mhz * 10**6 / rate))

    def put(self, at: int, kind: str, hart: int, **fields: int) -> Item:
        """Add an item."""
        item = Item(at, kind, hart, **fields)
        self.items.append(item)
        return item

    def gate(self) -> int:
        """Return a gate nobody has."""
        self.gates += 1
        return self.gates - 1

    def at_time(self, at: int, what: Later) -> None:
        """Do something when the axis gets there, if it does."""
        self.queued += 1
        if at < self.end:
            heapq.heappush(self.queue, (at, self.queued, what))

    # ---- the user side ----

    def user_events(self, hart: int) -> Iterator[tuple[int, Later]]:
        """Yield what one hart does to user pages."""
        w = self.workload

        def simple(family: str, rate: float, kind: str, arg: int) -> Iterator[tuple[int, Later]]:
            if rate:
                for at, _ in arrivals(self.seed, family, hart, self.mean(rate), self.end):
                    yield at, partial(self.add, kind, hart, arg)

        yield from simple("file fault", w.file_faults_per_s, "user_fault", FAULT_AROUND_PAGES)
        yield from simple("access flag", w.access_flags_per_s, "user_protect", 1)
        yield from simple("unmap", w.user_unmaps_per_s, "user_unmap", w.user_unmap_pages)
        if w.user_forks_per_s:
            mean = self.mean(w.user_forks_per_s)
            for at, _ in arrivals(self.seed, "user fork", hart, mean, self.end):
                yield at, partial(self.user_fork, hart)
        if w.mm_switches_per_s:
            mean = self.mean(w.mm_switches_per_s)
            for at, bits in arrivals(self.seed, "mm switch", hart, mean, self.end):
                yield at, partial(self.add, "switch_mm", hart, 1 + bits % w.address_spaces)

    def add(self, kind: str, hart: int, arg: int, at: int) -> None:
        """Add an item that has an operand and nothing else."""
        self.put(at, kind, hart, arg=arg)

    def user_fork(self, hart: int, at: int) -> None:
        """The user side of a fork and its exit (kernel stacks are drawn by the engine)."""
        for _ in range(FORK_WHOLE):
            self.put(at, "user_unmap", hart)
            self.put(at, "user_fault", hart, arg=FAULT_AROUND_PAGES)
        for _ in range(FORK_COW):
            self.put(at, "user_unmap", hart, arg=1)
            self.put(at, "user_fault", hart, arg=1)
        self.put(at, "user_protect", hart, arg=1)

    # ---- kernel objects ----

    def object_events(self) -> Iterator[tuple[int, Later]]:
        """Yield what the system does to kernel objects, each on a drawn hart."""
        w = self.workload
        families: tuple[tuple[str, float, Callable[[int, int, int], None]], ...] = (
            ("module", w.modules_per_s, self.load_module),
            ("bpf", w.bpf_programs_per_s, self.load_bpf),
            ("vm_map_ram", w.vm_map_rams_per_s, self.map_ram),
            ("percpu", w.percpu_populates_per_s, self.populate),
            ("ioremap", w.ioremaps_per_s, self.ioremap),
            ("huge", w.huge_maps_per_s, self.map_huge),
            ("fixmap", w.fixmap_fences_per_s, self.fence_fixmap),
        )
        for family, rate, what in families:
            if rate:
                for at, bits in arrivals(self.seed, family, 0, self.mean(rate), self.end):
                    hart = bits % self.harts
                    yield at, partial(what, hart, bits >> 20)

    def lifetime(self, bits: int) -> int:
        """Return a drawn lifetime in cycles."""
        return interval(max(1, round(self.workload.lifetime_ms * self.mhz * 1000)), bits)

    def map(self, at: int, hart: int, space: Space, pages: int, *, align: int = 1,
            fetch: bool = False, huge: bool = False) -> Area | None:
        """Map an area and use it on the same hart."""
        area = space.take(pages, align)
        if area is None:
            return None
        flag = engine.ITEM_FLAGS
        self.put(at, "map", hart, va=space.va(area), pages=pages, wait=area.gate,
                 flags=flag["huge"] * huge)
        self.put(at, "touch", hart, va=space.va(area), pages=1 if huge else pages,
                 flags=flag["fetch"] * fetch)
        return area

    def unmap(self, at: int, hart: int, space: Space, area: Area, *, huge: bool = False) -> None:
        """Free an area on the hart that used it; who purges waits for it."""
        self.put(at, "forget", hart, va=space.va(area), pages=area.pages)
        item = self.put(at, "unmap", hart, va=space.va(area), pages=area.pages,
                        flags=engine.ITEM_FLAGS["huge"] * huge)
        self.unpurged.setdefault(id(space), []).append(item)
        space.give(area)

    def purge(self, at: int, hart: int, space: Space) -> None:
        """Fence everything freed in a space, once, after its unmaps; then it may be reused."""
        def fence(now: int) -> None:
            covered = self.unpurged.pop(id(space), [])
            gate = self.gate() if covered else 0
            for item in covered:
                item.signal = gate
            done = self.gate()
            self.put(now, "purge", hart, va=space.first_va, wait=gate, signal=done,
                     pages=min(_PURGE_PAGES, max(1, space.end_page)))
            space.purge(done)

        self.at_time(at + 1, fence)

    def purge_if_due(self, at: int, hart: int) -> None:
        """Purge the vmalloc area past fls(harts) times the threshold (kernel.md 6)."""
        limit = self.harts.bit_length() * self.workload.lazy_purge_mib * 256
        if self.vmalloc.lazy_pages > limit:
            self.purge(at, hart, self.vmalloc)

    def load_module(self, hart: int, bits: int, at: int) -> None:
        """Load a module; unload it after its lifetime, with its purges and whole flushes."""
        areas = [self.map(at, hart, self.module, pages, fetch=n == 0)
                 for n, pages in enumerate(MODULE_PAGES)]
        for _ in range(MODULE_FLUSHES // 2):
            self.put(at, "flush", hart)

        def unload(now: int) -> None:
            for _ in range(MODULE_FLUSHES - MODULE_FLUSHES // 2):
                self.put(now, "flush", hart)
            for number, area in enumerate(areas):
                if area is not None:
                    self.at_time(now + 2 * number,
                                 partial(free, area=area, purged=number < MODULE_PURGES))

        def free(now: int, *, area: Area, purged: bool) -> None:
            self.unmap(now, hart, self.module, area)
            if purged:                          # VM_FLUSH_RESET_PERMS: at once
                self.purge(now, hart, self.module)

        self.at_time(at + self.lifetime(bits), unload)

    def load_bpf(self, hart: int, bits: int, at: int) -> None:
        """Load a BPF program and close it after its lifetime; its memory is purged at once."""
        areas = [self.map(at, hart, self.module, pages, fetch=True) for pages in BPF_PAGES]

        def close(now: int) -> None:
            for _ in range(BPF_FLUSHES):
                self.put(now, "flush", hart)
            for area in areas:
                if area is not None:
                    self.unmap(now, hart, self.module, area)
            self.purge(now, hart, self.module)

        self.at_time(at + self.lifetime(bits), close)

    def map_ram(self, hart: int, bits: int, at: int) -> None:
        """Map 1 to 64 pages from the hart's block of 4 MiB; a used-up block is freed whole."""
        pages = 1 + bits % 64
        block = self.blocks.get(hart)
        if block is None or block.used + pages > BLOCK_PAGES:
            area = self.vmalloc.take(BLOCK_PAGES, BLOCK_PAGES)
            if area is None:
                return
            if block is not None and block.live == 0:
                self.vmalloc.give(block.area)
            block = self.blocks[hart] = Block(area)
        mine = block
        va = self.vmalloc.va(mine.area) + mine.used * PAGE_BYTES
        mine.used += pages
        mine.live += 1
        self.put(at, "map", hart, va=va, pages=pages, wait=mine.area.gate)
        self.put(at, "touch", hart, va=va, pages=pages)

        def release(now: int) -> None:          # no flush: the block's dirty pages wait
            self.put(now, "forget", hart, va=va, pages=pages)
            self.unpurged.setdefault(id(self.vmalloc), []).append(
                self.put(now, "unmap", hart, va=va, pages=pages))
            mine.live -= 1
            if mine.live == 0 and self.blocks[hart] is not mine:
                self.vmalloc.give(mine.area)
                self.purge_if_due(now, hart)

        self.at_time(at + self.lifetime(bits >> 8), release)

    def populate(self, hart: int, bits: int, at: int) -> None:
        """Populate a percpu chunk; depopulating it flushes its range at once (kernel.md 6)."""
        area = self.map(at, hart, self.vmalloc, PERCPU_PAGES)
        if area is None:
            return

        def depopulate(now: int) -> None:
            self.unmap(now, hart, self.vmalloc, area)
            self.put(now, "flush", hart, va=self.vmalloc.va(area), pages=area.pages)
            self.purge_if_due(now, hart)

        self.at_time(at + self.lifetime(bits), depopulate)

    def ioremap(self, hart: int, bits: int, at: int) -> None:
        """Map a device's registers; they stay for the run."""
        self.map(at, hart, self.vmalloc, IOREMAP_PAGES)

    def map_huge(self, hart: int, bits: int, at: int) -> None:
        """Map 2 MiB with one leaf, aligned (HAVE_ARCH_HUGE_VMALLOC)."""
        area = self.map(at, hart, self.vmalloc, HUGE_PAGES, align=HUGE_PAGES, huge=True)
        if area is None:
            return

        def release(now: int) -> None:
            self.unmap(now, hart, self.vmalloc, area, huge=True)
            self.purge_if_due(now, hart)

        self.at_time(at + self.lifetime(bits), release)

    def fence_fixmap(self, hart: int, bits: int, at: int) -> None:
        """Set or clear a fixmap slot: early page tables, or a word of kernel text patched."""
        self.put(at, "fixmap", hart, arg=1)

    # ---- the whole ----

    def run(self) -> None:
        """Go along the axis: every event in the order of its time."""
        for at, what in self.object_events():
            self.at_time(at, what)
        for hart in range(self.harts):
            for at, what in self.user_events(hart):
                self.at_time(at, what)
        while self.queue:
            at, _, what = heapq.heappop(self.queue)
            what(at)


def build(workload: Workload, machine: Machine, harts: int, seed: int) -> tuple[bytes, bytes]:
    """Return the drawn events as items and gates, as they cross the door; empty without any."""
    if not wanted(workload):
        return b"", b""
    regions = engine.regions(machine.levels)
    first, end = regions["vmalloc"]
    useful = workload.c_values(machine, seed, harts)["useful_cycles"]
    maker = Maker(workload=workload, mhz=machine.mhz, harts=harts, seed=seed, end=useful,
                  module=Space(*regions["module"]),
                  vmalloc=Space(first + OBJECTS_AT, min(end, first + OBJECTS_END)))
    maker.run()
    return _packed(maker, useful)


def _packed(maker: Maker, useful: int) -> tuple[bytes, bytes]:
    """Drop what lies past the end, order the rest by time, count the signals of each gate."""
    kept = sorted((item for item in maker.items if item.at < useful), key=lambda item: item.at)
    gates = [0] * maker.gates
    for item in kept:
        gates[item.signal] += item.signal != 0
    kinds: Mapping[str, int] = engine.ITEMS
    packed = b"".join(
        _ITEM.pack(item.at, order, item.va, item.arg, item.pages, item.wait, item.signal,
                   item.hart, kinds[item.kind], item.flags)
        for order, item in enumerate(kept, 1))
    gates[0] = 0
    return packed, struct.pack(f"<{len(gates)}I", *gates)
