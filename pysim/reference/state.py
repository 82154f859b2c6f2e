"""The state of the abstract machine, and what stores, fences and walks do to it.

Follows docs/abstract-machine.md, sections 1 and 2, line by line. A set of values is a bit mask:
bit 0 is invalid, bit f is frame f.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from pysim.litmus import Litmus, Parameters

INVALID: Final = 0
EMPTY: Final = -1
#: What a fence covers: one page, or everything.
Cover: TypeAlias = "int | None"
#: A place in memory: ("leaf", page), ("table", 0), ("mark", m), ("flag", page), ("done", hart).
Place: TypeAlias = tuple[str, int]


class Entry(NamedTuple):
    """One buffered store; a mark's word becomes ``(word & keep) | value``, all else ``value``.

    ``covers`` (a ghost): the pages whose ``map_kernel`` issued this mark.
    """

    place: Place
    value: int
    epoch: int
    keep: int = 0
    covers: int = 0


class Request(NamedTuple):
    """A fence asked of another hart; ``pages`` 0 means everything."""

    sender: int
    level: int
    target: int
    first: int
    pages: int
    by_asid: bool
    via: str
    taken: bool


class Frame(NamedTuple):
    """What a hart does above its script: a called handler, a trap, or a nested map."""

    kind: str                            # "call", "trap", "map"
    phase: str                           # where in its life; section 4
    handler: str = ""
    op: int = 0
    item: int = 0                        # position inside an op or a phase of several steps
    first: int = -1                      # extent; -1: none
    pages: int = 0                       # 0: everything
    frame: int = 1                       # what store_ptes stores
    version: int = 0                     # what publish stores; 0: nothing to publish
    masked: bool = False
    cause: str = ""                      # "fault", "ipi", "interrupt", "user trap"
    store: bool = False                  # the fault is a store's
    fetch: bool = False                  # it is an instruction fetch's
    user: bool = False
    sender: int = -1
    level: int = -1
    faults: int = 0
    register: tuple[int, int] | None = None  # (mark, word) read for a plain clear
    cleared: bool = False                # a ghost: executed clear_mark, no full fence since
    elsewhere: bool = False              # a fault, or tasks, that are not modelled: chaos


class Hart:
    """One hart."""

    __slots__ = ("at", "barrier", "buffer", "cache", "faults", "frames", "history",
                 "queue", "stack", "stale", "sub", "table_cache", "table_history", "table_stale",
                 "trace", "user")

    def __init__(self, litmus: Litmus) -> None:
        pages = litmus.pages
        self.at = self.sub = self.faults = self.stack = 0
        self.frames: list[Frame] = []
        self.user = self.barrier = False
        self.trace = -1
        self.buffer: list[Entry] = []
        self.queue: frozenset[Cover] = frozenset()
        self.history = [0 if page in litmus.table else 1 << INVALID for page in range(pages)]
        self.table_history = 1 << INVALID
        self.cache = [EMPTY] * pages
        self.table_cache = EMPTY
        self.stale = [0] * pages
        self.table_stale = 0

    def copy(self) -> Hart:
        """Return a hart that shares nothing mutable."""
        new = Hart.__new__(Hart)
        new.at, new.sub, new.faults, new.stack = self.at, self.sub, self.faults, self.stack
        new.user, new.barrier = self.user, self.barrier
        new.trace, new.queue = self.trace, self.queue
        new.table_history, new.table_cache = self.table_history, self.table_cache
        new.table_stale = self.table_stale
        new.frames, new.buffer = self.frames.copy(), self.buffer.copy()
        new.history, new.cache = self.history.copy(), self.cache.copy()
        new.stale = self.stale.copy()
        return new

    def key(self) -> tuple[object, ...]:
        """Return all of it as something hashable."""
        return (self.at, self.sub, self.faults, self.stack, self.user, self.barrier, self.trace,
                self.queue, self.table_history, self.table_cache, self.table_stale,
                tuple(self.frames), tuple(self.buffer), tuple(self.history), tuple(self.cache),
                tuple(self.stale))


class State:
    """A state of the whole machine."""

    __slots__ = ("covered", "done", "flag", "harts", "leaf", "mark", "requests", "table")

    def __init__(self, litmus: Litmus, marks: int) -> None:
        self.leaf = [INVALID] * litmus.pages
        self.table = INVALID
        self.mark = [0] * marks
        self.flag = [0] * litmus.pages
        self.done = [0] * litmus.harts
        self.requests: frozenset[Request] = frozenset()
        self.covered = [0] * marks
        self.harts = [Hart(litmus) for _ in range(litmus.harts)]

    def copy(self) -> State:
        """Return a state that shares nothing mutable."""
        new = State.__new__(State)
        new.leaf, new.mark, new.flag = self.leaf.copy(), self.mark.copy(), self.flag.copy()
        new.done, new.covered = self.done.copy(), self.covered.copy()
        new.table, new.requests = self.table, self.requests
        new.harts = [hart.copy() for hart in self.harts]
        return new

    def key(self) -> tuple[object, ...]:
        """Return all of it as something hashable."""
        return (tuple(self.leaf), self.table, tuple(self.mark), tuple(self.flag), tuple(self.done),
                self.requests, tuple(self.covered), tuple(hart.key() for hart in self.harts))


class Memory:
    """Stores, fences and walks under given parameters."""

    def __init__(self, litmus: Litmus, parameters: Parameters) -> None:
        self.litmus = litmus
        self.p = parameters
        self.maximal = parameters.tlb == "maximal"
        self.bound = parameters.svvptc_k if parameters.svvptc else None
        self.pages = range(litmus.pages)
        self.below = frozenset(litmus.table)  # pages under the new table

    # ---- what a hart sees -----------------------------------------------------------------------

    @staticmethod
    def stored(s: State, place: Place) -> int:
        """Return memory's value of a place."""
        kind, index = place
        if kind == "table":
            return s.table
        values: list[int] = getattr(s, kind)
        return values[index]

    def visible(self, s: State, h: int, place: Place) -> int:
        """Return the value of a place with the hart's own buffered stores applied."""
        value = self.stored(s, place)
        for entry in s.harts[h].buffer:
            if entry.place == place:
                value = (value & entry.keep) | entry.value
        return value

    def leaf(self, s: State, h: int, page: int) -> int:
        """Return the leaf PTE the hart sees."""
        return self.visible(s, h, ("leaf", page))

    def table(self, s: State, h: int) -> int:
        """Return the non-leaf PTE the hart sees."""
        return self.visible(s, h, ("table", 0))

    # ---- stores ---------------------------------------------------------------------------------

    def raise_barrier(self, s: State, h: int) -> None:
        """Order later stores of the hart behind its earlier ones."""
        if self.p.order == "pso" and s.harts[h].buffer:
            s.harts[h].barrier = True

    def issue(self, s: State, h: int, place: Place, value: int, *, keep: int = 0,
              covers: int = 0) -> None:
        """Issue a store: the own walker may see it at once, the others when it drains."""
        hart = s.harts[h]
        if place[0] == "leaf" and value == INVALID:
            self._uncover(s, place[1])
        if self.p.order == "sc":
            self._commit(s, Entry(place, value, 0, keep, covers))
            return
        epoch = hart.buffer[-1].epoch + hart.barrier if hart.buffer else 0
        hart.barrier = False
        hart.buffer.append(Entry(place, value, epoch, keep, covers))
        self._gain(s, h, place, value)

    @staticmethod
    def _uncover(s: State, page: int) -> None:
        without = ~(1 << page)
        s.covered = [covered & without for covered in s.covered]
        for hart in s.harts:
            hart.buffer = [e._replace(covers=e.covers & without) for e in hart.buffer]

    def drainable(self, s: State, h: int) -> list[int]:
        """Return the indices of the buffered stores that may drain now."""
        buffer = s.harts[h].buffer
        if not buffer or self.p.order == "tso":
            return [0] if buffer else []
        return [i for i, entry in enumerate(buffer) if entry.epoch == 0
                and all(older.place != entry.place for older in buffer[:i])]

    def drain(self, s: State, h: int, index: int) -> None:
        """Let one buffered store reach memory."""
        hart = s.harts[h]
        entry = hart.buffer.pop(index)
        epochs = sorted({e.epoch for e in hart.buffer})
        hart.buffer = [e._replace(epoch=epochs.index(e.epoch)) for e in hart.buffer]
        if not hart.buffer:
            hart.barrier = False
        self._commit(s, entry)

    def _commit(self, s: State, entry: Entry) -> None:
        kind, index = entry.place
        value = (self.stored(s, entry.place) & entry.keep) | entry.value
        if kind == "table":
            s.table = value
        else:
            getattr(s, kind)[index] = value
        if kind == "mark":
            s.covered[index] |= entry.covers
        for h in range(len(s.harts)):
            self._gain(s, h, entry.place, value)

    # ---- history and fences ---------------------------------------------------------------------

    def _gain(self, s: State, h: int, place: Place, value: int) -> None:
        kind, page = place
        hart = s.harts[h]
        if not self.maximal or kind not in ("leaf", "table"):
            return
        if kind == "leaf":
            if page not in self.below or hart.table_history & 2:
                hart.history[page] |= 1 << value
        else:
            hart.table_history |= 1 << value
            if value:
                for under in self.below:
                    hart.history[under] |= 1 << self.leaf(s, h, under)

    def fence(self, s: State, h: int, cover: Cover) -> None:
        """Execute sfence.vma: everything (None), or the leaf of one page."""
        hart = s.harts[h]
        if cover is None:
            hart.frames = [f._replace(cleared=False) for f in hart.frames]
        pages = self.pages if cover is None else (cover,)
        if not self.maximal:
            hart.table_cache = EMPTY if cover is None else hart.table_cache
            for page in pages:
                hart.cache[page] = EMPTY
            self.serialise(s, h)
            return
        if cover is None:
            hart.table_history = 1 << self.table(s, h)
        for page in pages:
            reachable = page not in self.below or bool(hart.table_history & 2)
            hart.history[page] = 1 << self.leaf(s, h, page) if reachable else 0
        self.serialise(s, h)

    def serialise(self, s: State, h: int) -> None:
        """Drop what only a reordered walk could still answer."""
        if self.p.invalid == "reorder":
            self._forget(s, h, always=True)
        elif not self.p.nonleaf:
            self._forget_table(s, h, always=True)

    def after_step(self, s: State) -> None:
        """Forget what the parameters say cannot last."""
        for h in range(len(s.harts)):
            self._forget(s, h, always=self.p.invalid == "none")

    def _forget(self, s: State, h: int, *, always: bool) -> None:
        hart = s.harts[h]
        if not always and self.bound is None:
            return
        for page in self.pages:
            held = hart.history[page] & 1 if self.maximal else hart.cache[page] == INVALID
            valid = self.leaf(s, h, page) != INVALID
            if held and valid and (always or self._spent(hart.stale[page])):
                held = False
                if self.maximal:
                    hart.history[page] &= ~1
                else:
                    hart.cache[page] = EMPTY
            if not valid or not held:
                hart.stale[page] = 0
        self._forget_table(s, h, always=always)

    def _forget_table(self, s: State, h: int, *, always: bool) -> None:
        hart = s.harts[h]
        held = hart.table_history & 1 if self.maximal else hart.table_cache == INVALID
        valid = self.table(s, h) != INVALID
        if held and valid and (always or self._spent(hart.table_stale)):
            held = False
            if self.maximal:
                hart.table_history &= ~1
            else:
                hart.table_cache = EMPTY
        if not valid or not held:
            hart.table_stale = 0

    def _spent(self, stale: int) -> bool:
        return self.bound is not None and stale >= self.bound

    # ---- walks ----------------------------------------------------------------------------------

    def answers(self, s: State, h: int, page: int) -> list[int]:
        """Return what an access may find: 255 (invalid non-leaf), 0 (invalid leaf), a frame."""
        hart = s.harts[h]
        if not self.maximal:
            if page in self.below:
                table = self.table(s, h) if hart.table_cache == EMPTY else hart.table_cache
                if table == INVALID:
                    return [255]
            return [self.leaf(s, h, page) if hart.cache[page] == EMPTY else hart.cache[page]]
        found: list[int] = []
        if page not in self.below or hart.table_history & 2:
            found = [value for value in range(4) if hart.history[page] >> value & 1]
        return found + [255] * (page in self.below and hart.table_history & 1)

    def may_miss(self, s: State, h: int, page: int) -> bool:
        """Return whether invalid is a possible answer now."""
        return any(answer in (INVALID, 255) for answer in self.answers(s, h, page))

    def count_stale(self, s: State, h: int, page: int, answer: int) -> None:
        """Count an invalid answer that was stale; only a bound of Svvptc makes it matter."""
        hart = s.harts[h]
        if self.bound is None:
            return
        if answer == 255 and self.table(s, h):
            hart.table_stale += 1
        elif answer == INVALID and self.leaf(s, h, page):
            hart.stale[page] += 1

    def fills(self, s: State, h: int) -> list[tuple[int, int]]:
        """Return the (kind, arg) of all fills (5) and evictions (6) of a single-entry TLB."""
        if self.maximal:
            return []
        hart = s.harts[h]
        found = []
        for page in self.pages:
            if hart.cache[page] != EMPTY:
                found.append((6, page))
            elif self._walkable(s, h, page) and self._fillable(self.leaf(s, h, page)):
                found.append((5, page))
        if self.below and hart.table_cache != EMPTY:
            found.append((6, 255))
        elif self.below and self._fillable(self.table(s, h)):
            found.append((5, 255))
        return found

    def _walkable(self, s: State, h: int, page: int) -> bool:
        cached = s.harts[h].table_cache
        table = self.table(s, h) if cached == EMPTY else cached
        return page not in self.below or table != INVALID

    def _fillable(self, value: int) -> bool:
        return value != INVALID or self.p.invalid != "none"

    def fill(self, s: State, h: int, arg: int) -> None:
        """Enter what a walk finds now into the TLB."""
        if arg == 255:
            s.harts[h].table_cache = self.table(s, h)
        else:
            s.harts[h].cache[arg] = self.leaf(s, h, arg)

    @staticmethod
    def evict(s: State, h: int, arg: int) -> None:
        """Drop one entry of the TLB."""
        if arg == 255:
            s.harts[h].table_cache = EMPTY
        else:
            s.harts[h].cache[arg] = EMPTY
