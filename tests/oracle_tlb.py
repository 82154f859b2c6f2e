"""One hart's translation, read slowly: TLBs, page-walk cache, negative entries, fences, time.

Independent of the engine: it imports nothing of ours and keeps everything in lists and dicts, a
fence really visits every entry, recency is the order of a list, a tree is walked by recursion, and
memory is the list of all stores ever made. Shared with the engine are definitions only: how a
random number is drawn, and where tables lie in memory.

``run`` takes what ``csim_mmu_run`` takes, as dicts with the fields of ``struct csim_machine`` and
``struct csim_mmu_step``, and says what it should answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

V, R, W, X, U, G, A, D = (1 << bit for bit in range(8))
PPN = ((1 << 44) - 1) << 10
RESERVED = 0x1F << 54 | 3 << 59
PBMT = 3 << 61
NAPOT = 1 << 63
SIXTEEN = 5                  # among the sizes of an array: 16 pages of a NAPOT leaf, asked for last
M64 = (1 << 64) - 1

NONE, NON_CANONICAL, INVALID, RESERVED_RW, RESERVED_BITS = range(5)
NO_LEAF, MISALIGNED, DENIED, NEEDS_AD, ACCESS_FAULT = range(5, 10)
LOAD, STORE, FETCH = range(3)
(S_ACCESS, S_RESUME, S_FENCE, S_FORGET, S_MAP, S_UNMAP, S_STORE_INVALID, S_ADVANCE,
 S_GLOBAL_POINTER) = range(9)
F_ALL, F_ASID, F_VA, F_VA_ASID = range(4)
FIRST_FRAME = 0x80000
RNG_REPLACEMENT, RNG_PTE_LOCATION = 8, 9
POLICIES = ("lru", "plru", "fifo", "random", "rr", "setplru", "srrip")
COUNTED = (
    "lookups", "l1_hits", "l2_hits", "misses", "refill_misses", "walks", "walks_speculative",
    "walk_reads", "pwc_hits", "negative_fills", "negative_hits",
)


# ---- the shared definition of a draw ------------------------------------------------------------


def mix(z: int) -> int:
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & M64
    z = (z ^ z >> 27) * 0x94D049BB133111EB & M64
    return z ^ z >> 31


def draw_below(bound: int, seed: int, purpose: int, hart: int, item: int) -> int:
    key = mix(seed + 0x9E3779B97F4A7C15 * (purpose + 1) & M64)
    key = mix(key + 0xD1B54A32D192ED03 * (hart + 1) & M64)
    return (mix(key + 0x9E3779B97F4A7C15 * (item + 1) & M64) >> 32) * bound >> 32


# ---- replacement: which of `ways` full ways leaves ----------------------------------------------


class Recency:
    """A list of ways, the next to leave first."""

    def __init__(self, ways: int, *, hits_count: bool) -> None:
        self.line: list[int] = []
        self.hits_count = hits_count

    def fill(self, way: int) -> None:
        if way in self.line:
            self.line.remove(way)
        self.line.append(way)

    def hit(self, way: int) -> None:
        if self.hits_count:
            self.fill(way)

    def victim(self) -> int:
        return self.line[0]

    def exchange(self, one: int, two: int) -> None:
        names = {one: two, two: one}
        self.line = [names.get(way, way) for way in self.line]

    def longest_there(self, some: list[int]) -> int:
        return next(way for way in self.line if way in some)


class NoAges:
    """Policies that cannot say who has been there longest: then the first."""

    def exchange(self, one: int, two: int) -> None:
        pass

    def longest_there(self, some: list[int]) -> int:
        return some[0]


class Tree(NoAges):
    """Inner nodes are ranges of ways, cut at the largest power of two inside; each says whether
    the upper part is the one to evict from."""

    def __init__(self, ways: int) -> None:
        self.ways = ways
        self.upper: dict[tuple[int, int], bool] = {}

    @staticmethod
    def cut(count: int) -> int:
        power = 1
        while power * 2 < count:
            power *= 2
        return power

    def fill(self, way: int) -> None:
        first, count = 0, self.ways
        while count > 1:
            low = self.cut(count)
            in_upper = way >= first + low
            self.upper[first, count] = not in_upper
            first, count = (first + low, count - low) if in_upper else (first, low)

    hit = fill

    def victim(self) -> int:
        first, count = 0, self.ways
        while count > 1:
            low = self.cut(count)
            if self.upper.get((first, count), False):
                first, count = first + low, count - low
            else:
                count = low
        return first


class Srrip(NoAges):
    def __init__(self, ways: int) -> None:
        self.prediction = [0] * ways

    def fill(self, way: int) -> None:
        self.prediction[way] = 2

    def hit(self, way: int) -> None:
        self.prediction[way] = 0

    def victim(self) -> int:
        while 3 not in self.prediction:
            self.prediction = [value + 1 for value in self.prediction]
        return self.prediction.index(3)


@dataclass
class OneForAllSets(NoAges):
    """Random and round robin: state of the array, not of a set."""

    ways: int
    random: bool
    seed: int
    hart: int
    stream: int
    draws: int = 0
    pointer: int = 0

    def fill(self, way: int) -> None:
        self.pointer = (way + 1) % self.ways

    def hit(self, way: int) -> None:
        pass

    def victim(self) -> int:
        if not self.random:
            return self.pointer
        item = self.stream << 48 | self.draws
        self.draws += 1
        return draw_below(self.ways, self.seed, RNG_REPLACEMENT, self.hart, item)


def orders(policy: str, sets: int, ways: int, seed: int, hart: int, stream: int) -> list:
    if policy in ("random", "rr"):
        return [OneForAllSets(ways, policy == "random", seed, hart, stream)] * sets
    if policy in ("lru", "fifo"):
        return [Recency(ways, hits_count=policy == "lru") for _ in range(sets)]
    return [Srrip(ways) if policy == "srrip" else Tree(ways) for _ in range(sets)]


def reach(level: int) -> int:
    """log2 of the pages of an entry."""
    return 4 if level == SIXTEEN else 9 * level


# ---- one array ----------------------------------------------------------------------------------


@dataclass
class Entry:
    pte: int
    is_global: bool


@dataclass
class Way:
    """What stands under one tag; `gone` are valid entries that a fence dropped."""

    tag: tuple[int, int, int] | None = None      # level, group, ASID
    live: dict[int, Entry] = field(default_factory=dict)
    gone: dict[int, tuple[int, bool]] = field(default_factory=dict)


class Array:
    def __init__(self, shape: dict, sector_level: int, seed: int, hart: int, stream: int) -> None:
        self.ways = shape["ways"]
        self.sets = shape["sets"] if self.ways else 0
        self.sectors = shape["sectors"]
        self.sector_level = sector_level
        self.holds = {i for i in range(6) if self.ways and shape["levels"] >> i & 1}
        self.rows = [[Way() for _ in range(self.ways)] for _ in range(self.sets)]
        policy = POLICIES[shape["policy"]]
        self.orders = orders(policy, self.sets, self.ways, seed, hart, stream) if self.ways else []

    def place(self, vpn: int, level: int) -> tuple[int, int, int]:
        """(row, group, sector) of a page."""
        unit = vpn >> reach(level)
        sectors = self.sectors if level == self.sector_level else 1
        group, sector = divmod(unit, sectors)
        return group % self.sets, group, sector

    def find(self, vpn: int, level: int, asid: int) -> tuple[Way, int, Entry] | None:
        if not self.ways:
            return None
        row, group, sector = self.place(vpn, level)
        for way in self.rows[row]:
            if way.tag is None or way.tag[:2] != (level, group) or sector not in way.live:
                continue
            if way.tag[2] == asid or way.live[sector].is_global:
                return way, sector, way.live[sector]
        return None

    def use(self, vpn: int, level: int, way: Way) -> None:
        row = self.place(vpn, level)[0]
        index = next(i for i, other in enumerate(self.rows[row]) if other is way)
        self.orders[row].hit(index)

    def why_gone(self, vpn: int, level: int, asid: int) -> int | None:
        row, group, sector = self.place(vpn, level)
        for way in self.rows[row]:
            if way.tag is None or way.tag[:2] != (level, group) or sector not in way.gone:
                continue
            cause, is_global = way.gone[sector]
            if way.tag[2] == asid or is_global:
                return cause
        return None

    def fill(self, vpn: int, level: int, asid: int, units: dict[int, Entry]) -> int:
        """Of the offered units (page numbers in units of the level) those under vpn's tag."""
        row, group, _ = self.place(vpn, level)
        mine = {}
        for unit, entry in units.items():
            other_row, other_group, sector = self.place(unit << reach(level), level)
            if (other_row, other_group) == (row, group):
                mine[sector] = entry
        if not mine:
            return 0
        way = self.open(row, (level, group, asid))
        negative = 0
        for sector, entry in mine.items():
            old = way.live.get(sector)
            negative += not entry.pte & V and (old is None or bool(old.pte & V))
            way.live[sector] = entry
            way.gone.pop(sector, None)
        return negative

    def open(self, row: int, tag: tuple[int, int, int]) -> Way:
        ways = self.rows[row]
        for index, way in enumerate(ways):
            if way.tag == tag and way.live:
                self.orders[row].hit(index)
                return way
        free = [index for index, way in enumerate(ways) if not way.live]
        index = free[0] if free else self.orders[row].victim()
        if free:
            # What lay dropped in the slot filled moves to where something can be given up.
            other = self.given_up(row, tag, free)
            ways[index], ways[other] = ways[other], ways[index]
            self.orders[row].exchange(index, other)
        self.orders[row].fill(index)
        if ways[index].tag != tag:
            ways[index] = Way(tag)
        return ways[index]

    def given_up(self, row: int, tag: tuple[int, int, int], free: list[int]) -> int:
        """The tag's own dropped entries, or a slot with none, or the longest dropped."""
        ways = self.rows[row]
        for wanted in ([i for i in free if ways[i].tag == tag],
                       [i for i in free if not ways[i].gone]):
            if wanted:
                return wanted[0]
        return self.orders[row].longest_there(free)

    # ---- fences

    def every(self) -> list[Way]:
        return [way for row in self.rows for way in row if way.live]

    @staticmethod
    def drop(way: Way, sectors: list[int], cause: int) -> None:
        for sector in sectors:
            entry = way.live.pop(sector, None)
            if entry is not None and entry.pte & V:
                way.gone[sector] = (cause, entry.is_global)

    def drop_all(self, cause: int) -> None:
        for way in self.every():
            self.drop(way, list(way.live), cause)

    def drop_asid(self, asid: int, cause: int) -> None:
        for way in self.every():
            if way.tag[2] == asid:
                self.drop(way, [s for s, e in way.live.items() if not e.is_global], cause)

    def covers(self, way: Way, sector: int) -> tuple[int, int]:
        """First page and number of pages of one entry."""
        level, group, _ = way.tag
        sectors = self.sectors if level == self.sector_level else 1
        return (group * sectors + sector) << reach(level), 1 << reach(level)

    def drop_page(self, vpn: int, asid: int | None, cause: int) -> None:
        for way in self.every():
            for sector, entry in list(way.live.items()):
                first, pages = self.covers(way, sector)
                hit = first <= vpn < first + pages
                if hit and (asid is None or (way.tag[2] == asid and not entry.is_global)):
                    self.drop(way, [sector], cause)

    def drop_low8(self, vpn: int, cause: int) -> None:
        for way in self.every():
            for sector in list(way.live):
                if way.tag[0] > 0 or self.covers(way, sector)[0] % 256 == vpn % 256:
                    self.drop(way, [sector], cause)

    def drop_sets(self, vpn: int, cause: int) -> None:
        for level in self.holds:
            row = self.place(vpn, level)[0]
            for way in self.rows[row]:
                self.drop(way, list(way.live), cause)

    def forget(self, vpn: int, pages: int) -> None:
        for way in self.every():
            for sector, entry in list(way.live.items()):
                first, count = self.covers(way, sector)
                if not entry.pte & V and first < vpn + pages and vpn < first + count:
                    del way.live[sector]


class Tlb:
    """A base array and a superpage array; every size has one home."""

    def __init__(self, shapes: list[dict], seed: int, hart: int, stream: int) -> None:
        self.arrays = [Array(s, 0, seed, hart, stream + i) for i, s in enumerate(shapes)]
        self.home: dict[int, Array] = {}
        for level in range(6):
            preferred = self.arrays if level == 0 else self.arrays[::-1]
            for array in reversed(preferred):
                if level in array.holds:
                    self.home[level] = array

    def lookup(self, vpn: int, asid: int) -> tuple[int, Array, Way, int, Entry] | None:
        for level in sorted(self.home):
            found = self.home[level].find(vpn, level, asid)
            if found:
                self.home[level].use(vpn, level, found[0])
                return level, self.home[level], *found
        return None

    def why_gone(self, vpn: int, asid: int) -> int | None:
        for level in sorted(self.home):
            cause = self.home[level].why_gone(vpn, level, asid)
            if cause is not None:
                return cause
        return None


# ---- PTEs and memory ----------------------------------------------------------------------------


def is_leaf(pte: int) -> bool:
    return bool(pte & (R | X))


def ppn_of(pte: int) -> int:
    return (pte & PPN) >> 10


def frame_of(pte: int, level: int, vpn: int) -> int:
    """The 4 KiB frame that a leaf gives to a page."""
    own = (1 << 9 * level) - 1 if level or not pte & NAPOT else 15
    return ppn_of(pte) & ~own | vpn & own


def piece_of(pte: int, level: int, piece: int, vpn: int) -> int:
    """The part of a leaf that is a leaf of the smaller size `piece`."""
    if not pte & V:
        return pte
    frame = frame_of(pte, level, vpn) >> 9 * piece << 9 * piece
    return pte & ~(PPN | NAPOT) | frame << 10


class Memory:
    def __init__(self, machine: dict) -> None:
        self.levels = machine["levels"]
        self.drain, self.coherence = machine["store_drain_cycles"], machine["coherence_cycles"]
        self.stores: dict[int, list[tuple[int, int, int]]] = {}
        self.frames = 1

    def read(self, pa: int, hart: int, now: int) -> int:
        for value, by, at in reversed(self.stores.get(pa, [])):
            if at + self.drain + (0 if by == hart else self.coherence) <= now:
                return value
        return 0

    def newest(self, pa: int) -> int:
        return self.stores[pa][-1][0] if pa in self.stores else 0

    def store(self, pa: int, value: int, hart: int, at: int) -> None:
        self.stores.setdefault(pa, []).append((value, hart, at))

    def search(self, va: int, level: int) -> tuple[int, int, int]:
        """(level, pa, newest PTE) where the way down to `level` ends."""
        table = FIRST_FRAME
        for at in range(self.levels - 1, -1, -1):
            pa = (table << 12) + (va >> 12 + 9 * at & 511) * 8
            pte = self.newest(pa)
            if at == level or not pte & V or is_leaf(pte):
                return at, pa, pte
            table = ppn_of(pte)
        raise AssertionError

    def fits(self, step: dict) -> bool:
        kind, level = step["kind"], step["level"] if step["kind"] != S_UNMAP else 0
        if kind == S_GLOBAL_POINTER:
            found, _, pte = self.search(step["va"], level)
            return found == level and bool(pte & V) and not is_leaf(pte)
        va, end = step["va"], step["va"] + step["pages"] * 4096
        while va < end:
            found, _, pte = self.search(va, level)
            size = 4096 << 9 * found
            if kind == S_UNMAP and pte & V and (va % size or end - va < size):
                return False
            if kind == S_STORE_INVALID and (found != level or (pte & V and not is_leaf(pte))):
                return False
            if kind == S_MAP and pte & V and (found != level or not is_leaf(pte)):
                return False
            va += 4096 << 9 * level if kind != S_UNMAP else size - va % size
        return True

    def apply(self, step: dict, hart: int, now: int, store_cycles: int) -> int:
        """Make the stores of a step; return how many."""
        made: list[tuple[int, int]] = []

        def store(pa: int, value: int) -> None:
            self.store(pa, value, hart, now + len(made) * store_cycles)
            made.append((pa, value))

        if step["kind"] == S_GLOBAL_POINTER:
            _, pa, pte = self.search(step["va"], step["level"])
            store(pa, pte | G)
        va, end = step["va"], step["va"] + step["pages"] * 4096
        while va < end:
            if step["kind"] == S_UNMAP:
                found, pa, pte = self.search(va, 0)
                if pte & V:
                    store(pa, 0)
                va += (4096 << 9 * found) - va % (4096 << 9 * found)
                continue
            while (way := self.search(va, step["level"]))[0] > step["level"]:
                store(way[1], (FIRST_FRAME + self.frames) << 10 | V)
                self.frames += 1
            frame = step["ppn"] + (va - step["va"]) // 4096
            store(way[1], step["flags"] | (frame << 10 if step["kind"] == S_MAP else 0))
            va += 4096 << 9 * step["level"]
        return len(made)


# ---- the mmu ------------------------------------------------------------------------------------


class Mmu:
    def __init__(self, machine: dict, hart: int, seed: int) -> None:
        self.m, self.hart, self.seed = machine, hart, seed
        self.l1i = Tlb(machine["l1i"], seed, hart, 0)
        self.l1d = Tlb(machine["l1d"], seed, hart, 2)
        self.l1st = Tlb(machine["l1st"], seed, hart, 4)
        self.l2 = Tlb(machine["l2"], seed, hart, 6)
        self.pwc: dict[int, Array] = {}
        absent = dict(machine["pwc"][0], ways=0)
        self.pwc_arrays = []
        for i, shape in enumerate(machine["pwc"]):
            there = i == 0 if machine["pwc_unified"] else 0 < i < machine["levels"]
            array = Array(shape if there else absent, i, seed, hart, 8 + i)
            self.pwc_arrays.append(array)
            if array.ways and not machine["pwc_unified"]:
                self.pwc[i] = array
            elif array.ways:
                self.pwc.update({level: array for level in array.holds if level > 0})
        self.counters = dict.fromkeys(COUNTED, 0)
        self.line_reads = [0] * 1024
        self.walking = self.aborted = False
        self.request: dict = {}
        self.answer: dict = {}

    def l1_arrays(self) -> list[Array]:
        return [array for tlb in (self.l1i, self.l1d, self.l1st) for array in tlb.arrays]

    def l1(self) -> Tlb:
        if self.request["access"] == FETCH:
            return self.l1i
        split = self.m["l1_split_store"] and self.request["access"] == STORE
        return self.l1st if split else self.l1d

    def count(self, **more: int) -> None:
        for name, value in more.items():
            self.counters[name] += value

    # ---- a PTE against the request

    def refusal(self, pte: int) -> int:
        """DENIED, NEEDS_AD (also under Svadu, where it means an update) or NONE."""
        access, user = self.request["access"], self.request["user"]
        right = {LOAD: R, STORE: W, FETCH: X}[access]
        if not pte & right or bool(pte & U) != bool(user):
            return DENIED
        needs = A | D if access == STORE else A
        return NONE if pte & needs == needs else NEEDS_AD

    def walk_verdict(self, pte: int, level: int) -> int:
        """Steps 3 to 9 of the manual for one PTE; -1: a pointer to follow."""
        if not pte & V:
            return INVALID
        if pte & (R | W) == W:
            return RESERVED_RW
        if not is_leaf(pte):
            if pte & (D | A | U | NAPOT | PBMT | RESERVED):
                return RESERVED_BITS
            return NO_LEAF if level == 0 else -1
        if self.reserved_leaf(pte, level):
            return RESERVED_BITS
        if ppn_of(pte) % (1 << 9 * level):
            return MISALIGNED
        why = self.refusal(pte)
        return NONE if why == NEEDS_AD and not self.m["svade"] else why

    def reserved_leaf(self, pte: int, level: int) -> bool:
        napot, pbmt = bool(pte & NAPOT), (pte & PBMT) >> 61
        bad = bool(pte & RESERVED) or (napot and not self.m["svnapot"])
        bad |= pbmt != 0 and not self.m["svpbmt"]
        return bad or (napot and (level > 0 or ppn_of(pte) % 16 != 8)) or pbmt == 3

    def is_translation(self, pte: int) -> bool:
        """A level-0 PTE that maps a page for somebody."""
        return bool(pte & V) and is_leaf(pte) and pte & (R | W) != W \
            and not self.reserved_leaf(pte, 0)

    def with_ad(self, pte: int) -> int:
        return pte | A | (D if self.request["access"] == STORE else 0)

    # ---- an access

    def begin(self, request: dict) -> int:
        self.request = dict(request, asid=request["asid"] % (1 << self.m["asid_bits"]))
        self.answer = {"fail": NONE, "negative": 0, "refill": 0, "refill_for": 0, "ppn": 0}
        self.walking = self.aborted = False
        demand = not request["speculative"]
        va, asid = request["va"], self.request["asid"]
        self.vpn = va >> 12 & (1 << 45) - 1
        cycles = self.m["l1_hit_cycles"]
        self.count(lookups=demand)
        bits = 12 + 9 * self.m["levels"]
        if va >> bits - 1 not in (0, (1 << 65 - bits) - 1):
            self.count(misses=demand, walks=1, walks_speculative=not demand)
            self.answer["fail"] = NON_CANONICAL
            return cycles

        hit = self.l1().lookup(self.vpn, asid)
        if hit and self.answered_by(hit[4].pte, hit[0]):
            self.count(l1_hits=demand, negative_hits=demand and self.answer["negative"])
            return cycles

        hit = self.l2.lookup(self.vpn, asid)
        if self.l2.home:
            probes = sum(1 for level in self.l2.home if not hit or level <= hit[0])
            cycles += self.m["l2_hit_cycles"] * (probes if self.m["l2_seq_page_sizes"] else 1)
        if hit and self.answered_by(hit[4].pte, hit[0]):
            self.count(l2_hits=demand, negative_hits=demand and self.answer["negative"])
            self.fill_l1_from_l2(*hit)
            cause = self.l1().why_gone(self.vpn, asid)
            if cause is not None:
                self.blame(cause)
            return cycles

        self.count(misses=demand)
        cause = self.l1().why_gone(self.vpn, asid)
        if cause is None:
            cause = self.l2.why_gone(self.vpn, asid)
        if cause is not None:
            self.blame(cause)
        self.count(walks=1, walks_speculative=not demand)
        self.level, self.table = self.m["levels"] - 1, FIRST_FRAME
        self.upper_global, self.pwc_hit, self.walking = False, False, True
        return cycles + self.consult_pwc()

    def blame(self, cause: int) -> None:
        self.answer.update(refill=1, refill_for=cause)
        self.count(refill_misses=not self.request["speculative"])

    def answered_by(self, pte: int, level: int) -> bool:
        if not pte & V:
            self.answer.update(fail=INVALID, negative=1)
            return True
        why = self.refusal(pte)
        if not self.m["svade"]:
            access = self.request["access"]
            if pte & (A | D if access == STORE else A) != (A | D if access == STORE else A):
                return False
        self.answer["fail"] = why
        if why == NONE:
            self.answer["ppn"] = frame_of(pte, level % SIXTEEN, self.vpn)
        return True

    def consult_pwc(self) -> int:
        hits = 0
        if self.m["pwc_unified"]:
            while self.walking and self.level > 0 and self.follow(self.level):
                hits += 1
        else:
            for level in range(1, self.level + 1):
                if self.follow(level):
                    hits = 1
                    break
        if hits and not self.pwc_hit:
            self.pwc_hit = True
            self.count(pwc_hits=1)
        return hits * self.m["pwc_hit_cycles"]

    def follow(self, level: int) -> bool:
        array = self.pwc.get(level)
        found = array.find(self.vpn, level, self.request["asid"]) if array else None
        if not found:
            return False
        array.use(self.vpn, level, found[0])
        entry = found[2]
        self.upper_global |= entry.is_global
        if entry.pte & V:
            self.level, self.table = level - 1, ppn_of(entry.pte)
            return True
        self.answer.update(fail=INVALID, negative=1)
        self.count(negative_hits=not self.request["speculative"])
        self.walking = False
        self.fill(entry.pte, level, INVALID, None)
        return True

    def step(self, memory: Memory, now: int) -> int:
        pa = (self.table << 12) + (self.request["va"] >> 12 + 9 * self.level & 511) * 8
        pte = memory.read(pa, self.hart, now)
        self.count(walk_reads=1)
        cycles = self.m["walk_overhead_per_level_cycles"] + self.read_cycles(pa)
        verdict = self.walk_verdict(pte, self.level)
        if self.level > 0 and verdict in (-1, INVALID):
            self.fill_pwc(pa, memory, now)
        if verdict == -1:
            self.upper_global |= bool(pte & G)
            self.level, self.table = self.level - 1, ppn_of(pte)
            if self.m["pwc_unified"]:
                cycles += self.consult_pwc()
            return cycles
        self.walking = False
        self.answer["fail"] = verdict
        if verdict == NONE:
            self.answer["ppn"] = frame_of(pte, self.level, self.vpn)
            if not self.m["svade"]:
                pte = self.with_ad(pte)
        self.fill(pte, self.level, verdict, (pa, memory, now))
        return cycles

    def read_cycles(self, pa: int) -> int:
        line = mix(pa // 64)
        item = line + self.line_reads[line % 1024] & M64
        self.line_reads[line % 1024] += 1
        share = draw_below(1000, self.seed, RNG_PTE_LOCATION, self.hart, item)
        for place in ("l1d", "l2", "llc"):
            share -= self.m[f"read_{place}_permille"]
            if share < 0:
                if place == "l1d" and self.m["pte_via"]:
                    place = "l2"
                return self.m[f"read_{place}_cycles"]
        return self.m["read_dram_cycles"]

    # ---- fills

    def entry(self, pte: int) -> Entry:
        is_global = self.upper_global or bool(pte & G)
        if not pte & V:
            is_global = (False, is_global, True)[self.m["negative_global"]]
        return Entry(pte, is_global)

    def captured(self, pa: int, unit: int, memory: Memory, now: int) -> dict[int, Entry]:
        """The aligned block of PTEs around one, by page number in units of its level."""
        block = max(1, self.m["inv_line_capture"])
        index = pa // 8 % 8
        return {
            unit - index + i: self.entry(memory.read(pa - 8 * index + 8 * i, self.hart, now))
            for i in range(8)
            if i // block == index // block
        }

    def by_page(self, unit: int, entry: Entry) -> Entry:
        """Caches keep a NAPOT leaf page by page."""
        if not self.is_translation(entry.pte):
            return entry
        return Entry(piece_of(entry.pte, 0, 0, unit), entry.is_global)

    def taken(self, fail: int, inv: int) -> bool:
        return fail == NONE or (bool(inv) and fail in (INVALID, DENIED, NEEDS_AD))

    def fill(self, pte: int, level: int, fail: int, read: tuple | None) -> None:
        own = self.entry(pte)
        around: dict[int, Entry] = {}
        last_level = read is not None and level == 0
        if last_level:
            around = self.captured(read[0], self.vpn, read[1], read[2])
            around.pop(self.vpn)
        if fail == INVALID and not self.m["inv_nonleaf_range"]:
            level = 0
        around = {unit: self.by_page(unit, entry) for unit, entry in around.items()}
        if not self.filled_whole(self.l2, self.vpn, level, own, fail, self.m["inv_l2"]):
            self.fill_l2(self.vpn, level, own, fail, around)
        self.fill_l1(level, own, fail, around)
        for lines in range(1, 1 + self.m["prefetch_next_line"]) if last_level else ():
            self.prefetch(lines, *read)

    def filled_whole(
        self, tlb: Tlb, vpn: int, level: int, own: Entry, fail: int, inv: int
    ) -> bool:
        """A NAPOT leaf goes as it is to a cache that has room for such, and nothing else does."""
        whole = own.pte & NAPOT and self.is_translation(own.pte)
        if level or SIXTEEN not in tlb.home or not whole:
            return False
        if self.taken(fail, inv):
            tlb.home[SIXTEEN].fill(vpn, SIXTEEN, self.request["asid"], {vpn >> 4: own})
        return True

    def fill_l2(self, vpn: int, level: int, own: Entry, fail: int, around: dict) -> None:
        array, inv = self.l2.home.get(level), self.m["inv_l2"]
        if array is None:
            return
        offered = {
            unit: entry for unit, entry in around.items()
            if self.is_translation(entry.pte) or (inv and not entry.pte & V)
        }
        if self.taken(fail, inv):
            pte = piece_of(own.pte, level, level, vpn)
            offered[vpn >> 9 * level] = Entry(pte, own.is_global)
        self.count(negative_fills=array.fill(vpn, level, self.request["asid"], offered))

    def fill_l1(self, level: int, own: Entry, fail: int, around: dict[int, Entry]) -> None:
        if self.filled_whole(self.l1(), self.vpn, level, own, fail, self.m["inv_l1"]):
            return
        held = [size for size in self.l1().home if size <= level]
        if not held or not self.taken(fail, self.m["inv_l1"]):
            return
        size = max(held)
        mine = Entry(piece_of(own.pte, level, size, self.vpn), own.is_global)
        offered = {self.vpn >> 9 * size: mine}
        if level == 0:
            low = 7 << 10
            same = {u: e for u, e in around.items() if e.pte & ~low == mine.pte & ~low}
            offered = same | offered
        array = self.l1().home[size]
        self.count(negative_fills=array.fill(self.vpn, size, self.request["asid"], offered))

    def fill_l1_from_l2(
        self, level: int, array: Array, way: Way, sector: int, entry: Entry
    ) -> None:
        around = {}
        block = max(1, self.m["inv_line_capture"])
        if level == 0:
            first = self.vpn - sector
            around = {first + s: e for s, e in way.live.items()
                      if (first + s) // block == self.vpn // block and s != sector}
        self.fill_l1(level % SIXTEEN, entry, self.answer["fail"], around)

    def prefetch(self, lines: int, pa: int, memory: Memory, now: int) -> None:
        ahead = pa // 64 * 64 + 64 * lines
        vpn = self.vpn // 8 * 8 + 8 * lines
        array = self.l2.home.get(0)
        outside, pa = ahead // 4096 != pa // 4096, ahead
        if outside or array is None or array.find(vpn, 0, self.request["asid"]):
            return
        whole = self.l2.home.get(SIXTEEN)
        if whole and whole.find(vpn, SIXTEEN, self.request["asid"]):
            return
        around = self.captured(pa, vpn, memory, now)
        own = around.pop(vpn)
        around = {unit: self.by_page(unit, entry) for unit, entry in around.items()}
        fail = RESERVED_BITS
        if not own.pte & V:
            fail = INVALID
        elif self.is_translation(own.pte):
            fail = NONE
        if not self.filled_whole(self.l2, vpn, 0, own, fail, self.m["inv_l2"]):
            self.fill_l2(vpn, 0, own, fail, around)

    def fill_pwc(self, pa: int, memory: Memory, now: int) -> None:
        array = self.pwc.get(self.level)
        if array is None:
            return
        unit = self.vpn >> 9 * self.level
        around = self.captured(pa, unit, memory, now)
        pointer = V | R | W | X | D | A | U | NAPOT | PBMT | RESERVED
        offered = {
            u: e for u, e in around.items()
            if (e.pte & pointer == V or (self.m["inv_pwc"] and not e.pte & V))
            and (u == unit or array.sectors > 1)
        }
        self.count(
            negative_fills=array.fill(self.vpn, self.level, self.request["asid"], offered)
        )

    # ---- fences

    def abort(self) -> None:
        if self.walking:
            self.walking, self.aborted = False, True

    def fence(self, form: int, va: int, asid: int, cause: int) -> int:
        m = self.m
        if m["fence_va_as_all"]:
            form = F_ALL
        asid %= 1 << m["asid_bits"]
        self.abort()
        cost = {F_ALL: "all", F_ASID: "asid", F_VA: "va", F_VA_ASID: "va"}[form]
        cycles = m[f"fence_{cost}_cycles"] + m["fence_pipe_cycles"]
        vpn = va >> 12 & (1 << 45) - 1
        bits = 12 + 9 * m["levels"]
        by_address = form in (F_VA, F_VA_ASID)
        if by_address and va >> bits - 1 not in (0, (1 << 65 - bits) - 1):
            return cycles
        for array in self.l1_arrays() + self.l2.arrays:
            if not array.ways:
                continue
            in_l2 = array in self.l2.arrays
            if form == F_ALL:
                array.drop_all(cause)
            elif form == F_ASID:
                array.drop_asid(asid, cause)
            elif in_l2 and m["fence_l2_va_clears_set"]:
                array.drop_sets(vpn, cause)
            elif not in_l2 and m["fence_va_low8_match"]:
                array.drop_low8(vpn, cause)
            else:
                array.drop_page(vpn, None if form == F_VA else asid, cause)
        for array in self.pwc_arrays:
            if form == F_ALL or (form == F_ASID and not m["asid_bits"]):
                array.drop_all(cause)
            elif form == F_ASID:
                array.drop_asid(asid, cause)
        return cycles

    def forget(self, va: int, pages: int) -> None:
        vpn = va >> 12 & (1 << 45) - 1
        for array in self.l1_arrays() + self.l2.arrays + self.pwc_arrays:
            array.forget(vpn, pages)
        if self.walking and vpn <= self.vpn < vpn + pages:
            self.abort()


# ---- a program ----------------------------------------------------------------------------------

QUIET = dict.fromkeys(
    ("fail", "negative", "refill", "refill_for", "ppn", "walking", "aborted"), 0
)


class RefusedError(Exception):
    """A step that does not fit what is mapped."""


class Run:
    """One hart, its memory and its clock; `step` answers one step."""

    def __init__(self, machine: dict, hart: int, seed: int) -> None:
        self.mmu, self.memory = Mmu(machine, hart, seed), Memory(machine)
        self.machine, self.now = machine, 0

    def step(self, step: dict) -> dict:
        before = self.now
        answer = dict(QUIET)
        kind = step["kind"]
        if kind in (S_ACCESS, S_RESUME):
            answer |= self.access(step)
        elif kind == S_FENCE:
            self.now += self.mmu.fence(step["form"], step["va"], step["asid"], step["cause"])
        elif kind == S_FORGET:
            self.mmu.forget(step["va"], step["pages"])
        elif kind == S_ADVANCE:
            self.now += step["cycles"]
        else:
            if not self.memory.fits(step):
                raise RefusedError
            hart = self.mmu.hart + (1 if step["other_hart"] else 0)
            cost = self.machine["store_cycles"]
            stores = self.memory.apply(step, hart, self.now, cost)
            self.now += 0 if step["other_hart"] else stores * cost
        return answer | {"cycles": self.now - before}

    def access(self, step: dict) -> dict:
        mmu = self.mmu
        if step["kind"] == S_ACCESS:
            mmu.abort()
            self.now += mmu.begin(step)
        elif not mmu.walking:
            return {"aborted": int(mmu.aborted)}
        reads = 0
        while mmu.walking and not (step["reads_max"] and reads == step["reads_max"]):
            self.now += mmu.step(self.memory, self.now)
            reads += 1
        return {"walking": 1} if mmu.walking else dict(mmu.answer)


def run(machine: dict, hart: int, seed: int, steps: list[dict]) -> tuple[list[dict], dict]:
    """Answers and counters. Raises RefusedError when a step does not fit."""
    one = Run(machine, hart, seed)
    return [one.step(step) for step in steps], one.mmu.counters
