"""The transitions of the abstract machine: actions, ops, traps, interrupts, drains.

Follows docs/abstract-machine.md, sections 3 to 5 and 7. Reads the lowered bytes of a program by
itself; what the engine does with the same bytes is not consulted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeAlias

from pysim import engine
from pysim.errors import InputError
from pysim.litmus import Action, Litmus, Parameters
from pysim.ops import Program
from pysim.reference.state import INVALID, Cover, Frame, Hart, Memory, Request, State

#: (hart, kind, arg); section 7.
Transition: TypeAlias = tuple[int, int, int]
STEP, ACCESS, DRAIN, TAKE, FIRMWARE, FILL, EVICT, CHAOS = range(8)
# args of CHAOS; 0 + m marks, 8 + m wipes
_WIPE, _FAULT, _INTERRUPT, _FENCE, _SWITCH, _STORE, _FETCH = 8, 16, 17, 18, 19, 20, 21
_ACCESSES: Final = frozenset({"page_fault_load", "page_fault_store", "page_fault_fetch"})

# struct csim_op and struct csim_program of csim.h
_OP: Final = struct.Struct("<6BHIIQQ")
_OP_NAMES: Final = {number: name for name, number in engine.OPS.items()}
_ATOM_NAMES: Final = {number: name for name, number in engine.ATOMS.items()}
_WHO: Final = ("all", "own", "first_n", "others", "online", "mm_mask", "running")
#: Words that surely name the hart itself alone: no other need ever have run the address space.
_ALONE: Final = frozenset({"own", "mm_mask", "running"})
_EVERYTHING, _PAGE = 0, 1  # enum csim_extent
_VIA: Final = ("machine", "sbi", "imsic", "hw")
_DYNAMIC: Final = frozenset({"marked", "pte_valid_now", "translates_now"})
_CALLS: Final = {"map": "map_kernel", "unmap": "unmap_kernel", "purge": "purge_kernel",
                 "flush": "flush_kernel"}
_RUNNING: Final = frozenset({"ops", "early", "fault", "ipi"})  # phases that run ops


class Op(NamedTuple):
    """One decoded op; ``all_of`` and ``none_of`` are names of atoms."""

    kind: str
    a: int
    b: int
    c: int
    d: int
    skip: int
    n: int
    all_of: frozenset[str]
    none_of: frozenset[str]


class Rest(NamedTuple):
    """What a hart rests at: an access, or a step with a name."""

    kind: str
    text: str
    page: int = 0
    frame: int = 1
    store: bool = True
    window: bool = False


class Violated(Exception):  # noqa: N818 - an outcome of the machine, not an error
    """A property failed in this step."""

    def __init__(self, prop: str, why: str) -> None:
        super().__init__(f"{prop}: {why}")
        self.prop, self.why = prop, why


def _atoms(mask: int) -> frozenset[str]:
    return frozenset(name for number, name in _ATOM_NAMES.items() if mask >> number & 1)


def decode(program: Program) -> tuple[dict[str, tuple[int, int]], list[Op], int]:
    """Return {handler: (first op, number)}, the ops, and the number of marks."""
    marks_max = engine.MARKS_MAX
    handlers = list(engine.HANDLERS)
    words = struct.unpack(f"<{2 + marks_max + 2 * len(handlers)}I", program.header)
    at = words[2 + marks_max:2 + marks_max + len(handlers)]
    nr = words[2 + marks_max + len(handlers):]
    spans = {name: (at[i], nr[i]) for i, name in enumerate(handlers) if nr[i]}
    ops = []
    for kind, a, b, c, d, _, skip, n, _, all_of, none_of in _OP.iter_unpack(program.ops):
        ops.append(Op(_OP_NAMES[kind], a, b, c, d, skip, n, _atoms(all_of), _atoms(none_of)))
    return spans, ops, words[1]


class Machine:
    """A program, a scenario and parameters: the transition system."""

    def __init__(self, program: Program, litmus: Litmus, parameters: Parameters) -> None:
        self.program, self.litmus, self.p = program, litmus, parameters
        self.handlers, self.ops, self.marks = decode(program)
        self.retries = litmus.retries(parameters)
        self.memory = Memory(litmus, parameters)
        self.harts = range(litmus.harts)
        spare = (cpu for cpu in range(64) if cpu not in parameters.cpus)
        self.cpus = [*parameters.cpus, *spare][:litmus.harts]
        self.everybody = (1 << litmus.harts) - 1
        self.low = sum(1 << h for h in self.harts if self.cpus[h] < 32)
        self._refuse()
        first, number = self.handlers.get("map_kernel", (0, 0))
        mapping = self.ops[first:first + number]
        self.ghosts = any(op.kind == "mark" for op in mapping)

    def _refuse(self) -> None:
        for op, text in zip(self.ops, self.program.texts, strict=True):
            reason = ""
            if op.kind == "fence_free":
                reason = "fence_free is nobody's hardware: it costs nothing and proves nothing"
            elif op.kind in ("shootdown", "defer") and _WHO[op.b] == "first_n":
                reason = f"{text}: a fence has no use for the first n harts"
            elif op.kind in ("allocate", "touch") and self.litmus.object is None:
                reason = f"{text}: the scenario has no object page"
            if reason:
                raise InputError(f"policy {self.program.name}", "ops", reason)

    def initial(self) -> State:
        """Return the initial state."""
        s = State(self.litmus, self.marks)
        for h in self.harts:
            self._settle(s, h)
        self.memory.after_step(s)
        return s

    # ---- small questions ------------------------------------------------------------------------

    def action(self, s: State, h: int) -> Action | None:
        """Return the script's action the hart is at, or None when the script is over."""
        script = self.litmus.scripts[h]
        at = s.harts[h].at
        return script[at] if at < len(script) else None

    def _advance(self, hart: Hart, h: int) -> None:
        """Go on to the next action of the script; under chaos the last is followed by the first."""
        hart.at += 1
        if self.litmus.chaos is not None and hart.at == len(self.litmus.scripts[h]):
            hart.at = 0

    def finished(self, s: State, h: int) -> bool:
        """Return whether the hart's script is over and nothing is left above it."""
        return not s.harts[h].frames and self.action(s, h) is None

    def interruptible(self, s: State, h: int) -> bool:
        """Return whether S-mode interrupts are on."""
        hart = s.harts[h]
        if any(f.kind != "call" or f.masked for f in hart.frames):
            return False
        return not self._inside_user(s, h)

    def _inside_user(self, s: State, h: int) -> bool:
        action = self.action(s, h)
        return action is not None and action.kind == "user" and s.harts[h].sub > 0

    def bits(self, who: str, h: int, n: int) -> int:
        """Return the mark bits of ``who``, seen from hart h."""
        if who in _ALONE:
            return 1 << h
        if who == "others":
            return self.everybody & ~(1 << h)
        if who == "first_n":
            return sum(1 << g for g in self.harts if self.cpus[g] < n)
        return self.everybody

    def _targets(self, who: str, h: int) -> tuple[list[int], bool]:
        """Return the other harts of ``who``, and whether h itself is in it."""
        others = [] if who in _ALONE else [g for g in self.harts if g != h]
        return others, who != "others"

    def _static(self, f: Frame, s: State, h: int, atom: str, n: int) -> bool:
        fault = f.cause == "fault"
        if atom.startswith("region_"):
            return f.first >= 0 and self.litmus.region == atom.removeprefix("region_")
        return {
            "sscratch_zero": not f.user,
            "interrupt": f.cause in ("ipi", "interrupt"),
            "page_fault": fault,
            "page_fault_fetch": fault and f.fetch,
            "page_fault_load": fault and not (f.store or f.fetch),
            "page_fault_store": fault and f.store,
            "user_mode": f.user,
            "kernel_address": fault or f.kind != "trap",
            "svvptc": self.p.svvptc,
            "svinval": False,
            "one_hart": self.litmus.harts == 1,
            "sbi_fences": self.p.via == "sbi",
            "irqs_on": self.interruptible(s, h),
            "asids": True,
            "running": True,
            "pages_le": 0 < f.pages <= n,
        }[atom]

    def _dynamic(self, f: Frame, s: State, h: int, atom: str, n: int) -> bool:
        if atom == "marked":
            return bool(self.memory.visible(s, h, ("mark", n)) >> h & 1)
        if f.first < 0 or f.pages == 0:
            return False
        reachable = f.first not in self.memory.below or self.memory.table(s, h)
        return bool(reachable) and self.memory.leaf(s, h, f.first) != INVALID

    def _covers(self, f: Frame, extent: int, threshold: int) -> list[Cover]:
        """Return what a fence of this extent covers, in its order; None is everything."""
        if extent == _EVERYTHING or f.first < 0 or f.pages == 0:
            return [None]
        if extent == _PAGE:
            return [f.first]
        if f.pages > threshold:
            return [None]
        return list(range(f.first, f.first + f.pages))

    def _via(self, op: Op) -> str:
        return self.p.via if _VIA[op.c] == "machine" else _VIA[op.c]

    def _own_half(self, f: Frame, op: Op) -> list[list[Cover]]:
        """Return the sender's own fences of a shootdown: what each of its steps covers."""
        if self._via(op) == "sbi":
            return [self._firmware_covers(*self._asked(f, op.a), "sbi")]
        return [[cover] for cover in self._covers(f, op.a, op.n)]

    def _firmware_covers(self, first: int, pages: int, via: str) -> list[Cover]:
        if pages == 0 or (via == "sbi" and pages > self.p.sbi_limit_pages):
            return [None]
        return list(range(first, first + pages))

    @staticmethod
    def _asked(f: Frame, extent: int) -> tuple[int, int]:
        """Return (first, pages) a request names; (0, 0) is everything."""
        if extent == _EVERYTHING or f.first < 0 or f.pages == 0:
            return 0, 0
        return f.first, 1 if extent == _PAGE else f.pages

    # ---- invisible moves ------------------------------------------------------------------------

    def _settle(self, s: State, h: int) -> None:
        while self._invisible(s, h):
            pass

    def _invisible(self, s: State, h: int) -> bool:
        hart = s.harts[h]
        if not hart.frames:
            return self._invisible_script(s, h)
        f = hart.frames[-1]
        if f.phase == "trace" and hart.trace < 0:
            self._enter_ops(hart, "fault", "kernel_fault", "fail")
        elif f.phase == "alloc" and not self.litmus.ipi_allocates:
            self._enter_ops(hart, "ipi", "ipi", "ack")
        elif f.phase == "return":
            hart.frames[-1] = f._replace(phase="csrw" if f.user else "sret", item=0)
        elif f.phase == "publish" and f.version == 0:
            self._pop_call(hart, h)
        elif f.phase == "restore" and not self._frame_page(hart, f.item):
            hart.frames[-1] = f._replace(phase="sret", item=0)
        elif f.phase in _RUNNING:
            return self._invisible_op(s, h, f)
        else:
            return False
        return True

    def _invisible_script(self, s: State, h: int) -> bool:
        hart, action = s.harts[h], self.action(s, h)
        if action is None:
            return False
        if action.kind in _CALLS:
            handler = _CALLS[action.kind]
            if handler in self.handlers:
                version = action.count if action.kind == "map" else 0
                hart.frames.append(Frame(
                    "call", "ops", handler, self.handlers[handler][0], first=action.first,
                    pages=action.pages, frame=action.frame, version=version, masked=action.masked))
                return True
            if action.kind == "map":
                return False
            self._advance(hart, h)
            return True
        if action.kind == "switch" and hart.sub == 0:
            hart.sub = 1
            if "switch_task" in self.handlers:
                first = self.litmus.stack if self.litmus.stack_pages else -1
                hart.frames.append(Frame(
                    "call", "ops", "switch_task", self.handlers["switch_task"][0], first=first,
                    pages=self.litmus.stack_pages, frame=action.frame, masked=True))
            return True
        if action.kind == "trace":
            hart.trace = action.first
            self._advance(hart, h)
            return True
        return False

    def _frame_page(self, hart: Hart, item: int) -> int | None:
        """Return the 1-based stack page that part ``item`` of a trap frame lies on, if any."""
        if hart.stack and item < self.litmus.frame:
            return self.litmus.stack + item + 1
        return None

    def _enter_ops(self, hart: Hart, phase: str, handler: str, missing: str) -> None:
        """Let the top frame run a handler, or go to phase ``missing`` when there is none."""
        f = hart.frames[-1]
        if handler in self.handlers:
            hart.frames[-1] = f._replace(phase=phase, handler=handler, item=0, register=None,
                                         op=self.handlers[handler][0])
        else:
            if missing == "ack" and f.sender < 0:
                missing = "return"
            hart.frames[-1] = f._replace(phase=missing, handler="", op=0, item=0, register=None)

    def _end_of_ops(self, hart: Hart, h: int) -> None:
        """Leave the handler the top frame runs."""
        f = hart.frames[-1]
        phase = {"early": "save", "fault": "fail", "ipi": "ack"}.get(f.phase, "publish")
        if f.phase == "ops" and (f.kind == "map" or f.handler != "map_kernel"):
            self._pop_call(hart, h)
            return
        if phase == "ack" and f.sender < 0:
            phase = "return"
        hart.frames[-1] = f._replace(phase=phase, handler="", op=0, item=0, register=None,
                                     cleared=False)

    def _pop_call(self, hart: Hart, h: int) -> None:
        f = hart.frames.pop()
        if f.kind == "call" and f.handler != "switch_task":
            self._advance(hart, h)

    def _invisible_op(self, s: State, h: int, f: Frame) -> bool:
        """Pass over the op the top frame is at, if nothing of it is left to do as a step."""
        hart, op = s.harts[h], self.ops[f.op]
        kind = op.kind
        if kind in ("end", "fall_through") or (kind == "retry" and f.phase in ("ops", "ipi")):
            self._end_of_ops(hart, h)
        elif kind == "retry":
            hart.frames[-1] = f._replace(phase="sret", item=1, handler="", op=0, register=None,
                                         cleared=False)
        elif kind == "fail":
            hart.frames[-1] = f._replace(phase="fail", item=0, handler="", op=0, register=None,
                                         cleared=False)
        elif kind == "jump":
            hart.frames[-1] = f._replace(op=f.op + 1 + op.skip)
        elif kind == "when":
            false = any(not self._static(f, s, h, a, op.n) for a in op.all_of - _DYNAMIC) or any(
                self._static(f, s, h, a, op.n) for a in op.none_of - _DYNAMIC)
            if not false and (op.all_of | op.none_of) & _DYNAMIC:
                return False
            hart.frames[-1] = f._replace(op=f.op + 1 + (op.skip if false else 0))
        elif self._nothing_left(hart, h, f, op):
            hart.frames[-1] = f._replace(op=f.op + 1, item=0)
        else:
            return False
        return True

    def _nothing_left(self, hart: Hart, h: int, f: Frame, op: Op) -> bool:
        kind = op.kind
        if kind in ("spend", "sync_root"):
            return True
        if kind == "store_ptes":
            return f.first < 0 or f.item == f.pages + 1 or f.pages == 0
        if kind == "publish":
            return f.version == 0
        if kind == "ack":
            return f.sender < 0
        if kind == "fence":
            return f.item == len(self._covers(f, op.a, op.n))
        if kind == "touch_stack":
            return self._touched(hart, op) is None or bool(op.a and f.elsewhere)
        if kind == "shootdown":
            return self._shootdown_stage(h, f, op) is None
        return False

    def _touched(self, hart: Hart, op: Op) -> int | None:
        if op.n >= self.litmus.stack_pages or not (op.a or hart.stack):
            return None
        return self.litmus.stack + op.n

    def _shootdown_stage(self, h: int, f: Frame, op: Op) -> str | None:
        """Return "send", "own", "wait" or None: item 0 sends, then own fences, then the wait."""
        targets, own = self._targets(_WHO[op.b], h)
        fences = len(self._own_half(f, op)) if own else 0
        steps = ["send"] * bool(targets) + ["own"] * fences + ["wait"] * bool(targets)
        return steps[f.item] if f.item < len(steps) else None

    # ---- what a hart rests at -------------------------------------------------------------------

    def rest(self, s: State, h: int) -> Rest | None:
        """Return what the hart does next, or None when it has nothing left to do."""
        hart = s.harts[h]
        if not hart.frames:
            return self._rest_script(s, h)
        f = hart.frames[-1]
        if f.phase == "save":
            page = self._frame_page(hart, f.item)
            if page is not None:
                return Rest("access", "save the frame on stack page", page - 1, hart.stack,
                            window=True)
            return Rest("save", "save the frame, sscratch = 0")
        if f.phase == "restore":
            return Rest("access", "load the registers from stack page",
                        self.litmus.stack + f.item, hart.stack, store=False, window=True)
        if f.phase == "trace":
            return Rest("access", "write the trace buffer, page", hart.trace)
        if f.phase == "alloc":
            return Rest("allocate", "vmalloc in the IPI path")
        if f.phase == "touch":
            return Rest("access", "touch the new object, page", self._object(h))
        if f.phase in _RUNNING:
            return self._rest_op(s, h, f)
        return Rest(f.phase, {"ack": "acknowledge", "fail": "nobody resolves the fault",
                              "csrw": "csrw sscratch, tp", "sret": "sret",
                              "publish": "publish the mapping"}[f.phase])

    def _rest_script(self, s: State, h: int) -> Rest | None:
        hart, action = s.harts[h], self.action(s, h)
        if action is None:
            return None
        if action.kind in ("access", "probe", "uses"):
            kind = "uses" if action.kind == "uses" else "access"
            return Rest(kind, f"{action.kind} page", action.first, action.frame, store=False)
        if action.kind == "user":
            if hart.sub == 0:
                return Rest("csrw", "csrw sscratch, tp: to user mode")
            page = self._frame_page(hart, hart.sub - 1)
            if page is not None:
                return Rest("access", "load the registers from stack page", page - 1, hart.stack,
                            store=False, window=True)
            return Rest("sret", "sret to user mode")
        if action.kind == "map":
            return Rest("publish", "publish the mapping")
        return Rest(action.kind, str(action))

    def _rest_op(self, s: State, h: int, f: Frame) -> Rest:
        hart, op = s.harts[h], self.ops[f.op]
        text = self.program.texts[f.op]
        if op.kind == "touch_stack":
            page = self._touched(hart, op)
            assert page is not None
            return Rest("access", f"{text}, page", page, f.frame if op.a else hart.stack,
                        window=f.phase == "early")
        if op.kind == "touch":
            return Rest("access", f"{text}, page", self._object(h), window=f.phase == "early")
        return Rest("op", text)

    def _object(self, h: int) -> int:
        assert self.litmus.object is not None
        return self.litmus.object + h

    # ---- transitions ----------------------------------------------------------------------------

    def transitions(self, s: State) -> Iterator[Transition]:
        """Yield everything that can happen next, in a fixed order."""
        for h in self.harts:
            rest = self.rest(s, h)
            if rest is not None and rest.kind in ("access", "uses"):
                for answer in self.memory.answers(s, h, rest.page):
                    yield h, ACCESS, answer
            if rest is not None and rest.kind != "access" and self._enabled(s, h, rest):
                yield h, STEP, 0
            for index in self.memory.drainable(s, h):
                yield h, DRAIN, index
            for request in sorted(s.requests):
                if request.target == h and self._deliverable(s, h, request):
                    kind = TAKE if request.via == "imsic" else FIRMWARE
                    yield h, kind, request.sender + 16 * request.level
            for kind, arg in self.memory.fills(s, h):
                yield h, kind, arg
        if self.litmus.chaos is not None:
            for arg in self._chaos(s, self.litmus.chaos):
                yield self.litmus.chaos, CHAOS, arg

    def _chaos(self, s: State, h: int) -> Iterator[int]:
        """Yield what the rest of the system can do to hart h now; section 8."""
        for mark in range(self.marks):
            marked = s.mark[mark] >> h & 1
            if not marked:
                yield mark
            elif self._others_clear(mark):
                yield _WIPE + mark
        hart, interruptible = s.harts[h], self.interruptible(s, h)
        above = [f for f in hart.frames if f.kind != "call"]
        in_c = len(above) == 1 and above[0].phase in ("fault", "ipi")
        if (not above or in_c) and not self._inside_user(s, h):
            yield _FAULT
            if any((op.all_of | op.none_of) & _ACCESSES for op in self.ops):
                yield _STORE
                yield _FETCH
        if interruptible:
            yield _INTERRUPT
        if interruptible or self.p.via != "imsic":
            yield _FENCE
        if interruptible and "switch_task" in self.handlers:
            yield _SWITCH

    def _others_clear(self, mark: int) -> bool:
        return any(op.kind == "clear_mark" and op.a == mark
                   and (not op.b or _WHO[op.d] != "own") for op in self.ops)

    def _happen_chaos(self, s: State, h: int, arg: int) -> str:
        hart = s.harts[h]
        if arg < _WIPE:
            s.mark[arg] |= 1 << h
            return "another mapping marks this hart"
        if arg < _FAULT:
            s.mark[arg - _WIPE] &= ~(1 << h)
            return "another hart's plain store wipes this hart's mark"
        if arg in (_FAULT, _STORE, _FETCH):
            self._trap(s, h, Frame("trap", "early", cause="fault", first=self.litmus.pages - 1,
                                   pages=1, elsewhere=True, store=arg == _STORE,
                                   fetch=arg == _FETCH))
            return "an unrelated kernel page faults"
        if arg == _INTERRUPT:
            self._trap(s, h, Frame("trap", "early", cause="interrupt", user=hart.user))
            return "an interrupt is taken"
        if arg == _SWITCH:
            hart.frames.append(Frame("call", "ops", "switch_task", self.handlers["switch_task"][0],
                                     first=self.litmus.pages - 1, pages=1, masked=True,
                                     elsewhere=True))
            return "other tasks are switched"
        if self.p.via == "imsic":
            self._trap(s, h, Frame("trap", "early", cause="ipi", user=hart.user, first=0))
            return "an unrelated IPI is taken"
        self.memory.fence(s, h, None)
        return "firmware fences for an unrelated hart"

    def _deliverable(self, s: State, h: int, request: Request) -> bool:
        return request.via != "imsic" or (not request.taken and self.interruptible(s, h))

    def _enabled(self, s: State, h: int, rest: Rest) -> bool:
        hart, action = s.harts[h], self.action(s, h)
        if rest.kind in ("wait", "await"):
            assert action is not None
            value = (s.flag if rest.kind == "wait" else s.done)[action.first]
            return value == action.count or (self.litmus.chaos is None and value > action.count)
        if rest.kind == "uses":
            return hart.faults == 0
        if rest.kind != "op":
            return True
        f = hart.frames[-1]
        op = self.ops[f.op]
        if op.kind == "sync_context" or (op.kind == "store_barrier" and op.a != 0):
            return not hart.buffer
        if op.kind == "clear_mark" and op.b:
            if self.p.order == "pso":
                return all(entry.place != ("mark", op.a) for entry in hart.buffer)
            return not hart.buffer
        if op.kind == "shootdown" and self._shootdown_stage(h, f, op) == "wait":
            return all((r.sender, r.level) != (h, len(hart.frames)) for r in s.requests)
        return True

    def apply(self, s: State, transition: Transition) -> tuple[State, str]:
        """Return the state after a transition that is enabled, and what happened in words.

        Raises Violated when the step violates S1, S2, S3 or S4.
        """
        h, kind, arg = transition
        s = s.copy()
        text = self._happen(s, h, kind, arg)
        self._settle(s, h)
        self.memory.after_step(s)
        return s, text

    def _happen(self, s: State, h: int, kind: int, arg: int) -> str:
        hart = s.harts[h]
        if kind == DRAIN:
            entry = hart.buffer[arg]
            self.memory.drain(s, h, arg)
            return f"the store to {entry.place[0]} {entry.place[1]} becomes visible"
        if kind in (TAKE, FIRMWARE):
            request = next(r for r in sorted(s.requests) if r.target == h
                           and (r.sender, r.level) == (arg % 16, arg // 16))
            s.requests -= {request}
            return (self._take if kind == TAKE else self._firmware)(s, h, request)
        if kind == FILL:
            self.memory.fill(s, h, arg)
            return f"a walk fills {'the table' if arg == 255 else f'page {arg}'}"
        if kind == EVICT:
            self.memory.evict(s, h, arg)
            return f"{'the table' if arg == 255 else f'page {arg}'} is evicted"
        if kind == CHAOS:
            return self._happen_chaos(s, h, arg)
        rest = self.rest(s, h)
        assert rest is not None
        if kind == ACCESS:
            return self._access(s, h, rest, arg)
        step: Callable[[State, int], str | None] = getattr(self, f"_step_{rest.kind}")
        return step(s, h) or rest.text

    def _take(self, s: State, h: int, request: Request) -> str:
        hart = s.harts[h]
        s.requests |= {request._replace(taken=True)}
        first = request.first if request.pages else 0
        self._trap(s, h, Frame("trap", "early", cause="ipi", user=hart.user, first=first,
                               pages=request.pages, sender=request.sender, level=request.level))
        return f"the IPI of hart {request.sender} is taken"

    def _firmware(self, s: State, h: int, request: Request) -> str:
        if not request.by_asid:
            for cover in self._firmware_covers(request.first, request.pages, request.via):
                self.memory.fence(s, h, cover)
        self.memory.serialise(s, h)
        return f"firmware fences for hart {request.sender}"

    def _trap(self, s: State, h: int, frame: Frame) -> None:
        """Enter a trap; section 4."""
        hart = s.harts[h]
        if sum(f.kind != "call" for f in hart.frames) >= self.p.nesting:
            raise Violated("S4", f"{self.p.nesting} trap frames on one stack, and one more")
        self.memory.serialise(s, h)
        hart.frames.append(frame)
        self._enter_ops(hart, "early", "early_trap", "save")

    # ---- accesses -------------------------------------------------------------------------------

    def _access(self, s: State, h: int, rest: Rest, answer: int) -> str:
        hart = s.harts[h]
        what = f"{rest.text} {rest.page}"
        if answer in (INVALID, 255):
            self.memory.count_stale(s, h, rest.page, answer)
            if rest.window:
                raise Violated("S4", f"{what}: page fault while the trap's CSRs are live")
            faults = (hart.frames[-1].faults if hart.frames else hart.faults) + 1
            if faults > self.retries:
                raise Violated("S3", f"{what}: fault {faults} on the same access")
            self._set_faults(hart, faults)
            self._trap(s, h, Frame("trap", "early", cause="fault", store=rest.store,
                                   first=rest.page, pages=1))
            return f"{what}: page fault{' (non-leaf)' if answer == 255 else ''}"
        if answer != rest.frame:
            raise Violated("S1", f"{what}: used frame {answer}, published is {rest.frame}")
        self._accessed(s, h)
        return f"{what}: ok"

    @staticmethod
    def _set_faults(hart: Hart, faults: int) -> None:
        if hart.frames:
            hart.frames[-1] = hart.frames[-1]._replace(faults=faults)
        else:
            hart.faults = faults

    def _accessed(self, s: State, h: int) -> None:
        """Go on after an access that completed or was fixed up."""
        hart = s.harts[h]
        self._set_faults(hart, 0)
        if not hart.frames:
            action = self.action(s, h)
            assert action is not None
            if action.kind == "user":
                hart.sub += 1
            elif action.kind != "uses":
                self._advance(hart, h)
            return
        f = hart.frames[-1]
        if f.phase == "save" and f.item + 1 == self.litmus.frame:
            self._saved(s, h)
        elif f.phase in ("save", "restore"):
            hart.frames[-1] = f._replace(item=f.item + 1)
        elif f.phase == "trace":
            self._enter_ops(hart, "fault", "kernel_fault", "fail")
        elif f.phase == "touch":
            self._enter_ops(hart, "ipi", "ipi", "ack")
        else:
            hart.frames[-1] = f._replace(op=f.op + 1)

    # ---- steps of the script and of traps -------------------------------------------------------

    def _saved(self, s: State, h: int) -> None:
        hart = s.harts[h]
        self.memory.serialise(s, h)
        f = hart.frames[-1]
        if f.cause == "user trap":
            hart.frames.pop()
            return
        phase = {"fault": "trace", "ipi": "alloc", "interrupt": "return"}[f.cause]
        hart.frames[-1] = f._replace(phase=phase, item=0)

    def _step_save(self, s: State, h: int) -> None:
        self._saved(s, h)

    def _step_allocate(self, s: State, h: int) -> None:
        hart = s.harts[h]
        hart.frames[-1] = hart.frames[-1]._replace(phase="touch")
        self._nested_map(s, h)

    def _nested_map(self, s: State, h: int) -> None:
        hart = s.harts[h]
        if sum(f.kind != "call" for f in hart.frames) >= self.p.nesting:
            raise Violated("S4", f"{self.p.nesting} frames on one stack, and a nested vmalloc")
        if "map_kernel" in self.handlers:
            hart.frames.append(Frame("map", "ops", "map_kernel", self.handlers["map_kernel"][0],
                                     first=self._object(h), pages=1))

    def _step_ack(self, s: State, h: int) -> None:
        hart = s.harts[h]
        f = hart.frames[-1]
        s.requests = frozenset(r for r in s.requests
                               if (r.sender, r.level, r.target) != (f.sender, f.level, h))
        if f.phase == "ack":
            hart.frames[-1] = f._replace(phase="return", sender=-1, level=-1)
        else:
            hart.frames[-1] = f._replace(op=f.op + 1, sender=-1, level=-1)

    def _step_fail(self, s: State, h: int) -> str:
        hart = s.harts[h]
        f = hart.frames[-1]
        action = self.action(s, h)
        probe = action is not None and action.kind == "probe" and len(hart.frames) == 1
        probe = f.elsewhere or (probe and f.cause == "fault")
        if f.kind != "trap" or not probe:
            raise Violated("S2", f"oops on page {f.first}" if f.first >= 0 else "oops")
        hart.frames.pop()
        self.memory.serialise(s, h)
        if not f.elsewhere:
            self._accessed(s, h)
        return "the probe is fixed up"

    def _step_csrw(self, s: State, h: int) -> None:
        hart = s.harts[h]
        self.memory.serialise(s, h)
        if hart.frames:
            hart.frames[-1] = hart.frames[-1]._replace(phase="restore", item=0)
        else:
            hart.sub = 1

    def _step_sret(self, s: State, h: int) -> None:
        hart = s.harts[h]
        self.memory.serialise(s, h)
        if not hart.frames:
            hart.sub, hart.user = 0, True
            self._advance(hart, h)
            return
        f = hart.frames.pop()
        if f.item == 1 and f.cause != "fault":
            raise Violated("S3", f"`retry` of an {f.cause}: it is taken again for ever")

    def _step_publish(self, s: State, h: int) -> None:
        hart, action = s.harts[h], self.action(s, h)
        assert action is not None
        self._release(s, h, ("flag", action.first), action.count)
        if hart.frames:
            self._pop_call(hart, h)
        else:
            self._advance(hart, h)

    def _release(self, s: State, h: int, place: tuple[str, int], value: int) -> None:
        self.memory.raise_barrier(s, h)
        self.memory.issue(s, h, place, value)

    def _step_wait(self, s: State, h: int) -> None:
        self._advance(s.harts[h], h)

    _step_await = _step_wait
    _step_uses = _step_wait

    def _step_signal(self, s: State, h: int) -> None:
        action = self.action(s, h)
        assert action is not None
        self._release(s, h, ("done", h), action.count)
        self._advance(s.harts[h], h)

    def _step_switch(self, s: State, h: int) -> None:
        hart, action = s.harts[h], self.action(s, h)
        assert action is not None
        hart.sub, hart.stack = 0, action.frame
        self._advance(hart, h)

    def _step_leave(self, s: State, h: int) -> None:
        s.harts[h].stack = 0
        self._advance(s.harts[h], h)

    def _step_interrupt(self, s: State, h: int) -> None:
        self._advance(s.harts[h], h)
        self._trap(s, h, Frame("trap", "early", cause="interrupt"))

    def _step_trap(self, s: State, h: int) -> None:
        hart = s.harts[h]
        hart.user = False
        self._advance(hart, h)
        self._trap(s, h, Frame("trap", "early", cause="user trap", user=True))

    # ---- steps of ops ---------------------------------------------------------------------------

    def _step_op(self, s: State, h: int) -> str | None:
        f = s.harts[h].frames[-1]
        op = self.ops[f.op]
        step: Callable[[State, int, Frame, Op], str | None] = getattr(self, f"_op_{op.kind}")
        return step(s, h, f, op)

    @staticmethod
    def _next(s: State, h: int) -> None:
        """Go on to the next op."""
        frames = s.harts[h].frames
        frames[-1] = frames[-1]._replace(op=frames[-1].op + 1, item=0)

    @staticmethod
    def _more(s: State, h: int, item: int) -> None:
        """Stay at this op, at a later position."""
        frames = s.harts[h].frames
        frames[-1] = frames[-1]._replace(item=item)

    def _op_store_ptes(self, s: State, h: int, f: Frame, op: Op) -> str:
        if (f.item == 0 and op.a and f.first in self.memory.below
                and self.memory.table(s, h) == INVALID):
            self.memory.issue(s, h, ("table", 0), 1)
            self._more(s, h, 1)
            return "store the non-leaf PTE"
        index = max(f.item, 1) - 1
        self.memory.issue(s, h, ("leaf", f.first + index), f.frame if op.a else INVALID)
        self._more(s, h, index + 2)
        return f"store PTE {f.first + index}, {f'frame {f.frame}' if op.a else 'invalid'}"

    def _op_store_barrier(self, s: State, h: int, _: Frame, op: Op) -> None:
        if op.a == 0:
            self.memory.raise_barrier(s, h)
        self._next(s, h)

    def _op_sync_context(self, s: State, h: int, _f: Frame, _op: Op) -> None:
        self.memory.serialise(s, h)
        self._next(s, h)

    def _op_publish(self, s: State, h: int, f: Frame, _: Op) -> None:
        hart = s.harts[h]
        self._release(s, h, ("flag", f.first), f.version)
        hart.frames[-1] = f._replace(version=0, op=f.op + 1)

    def _op_mark(self, s: State, h: int, f: Frame, op: Op) -> None:
        pages = range(f.first, f.first + f.pages) if f.handler == "map_kernel" else ()
        covers = sum(1 << page for page in pages) if self.ghosts else 0
        self.memory.issue(s, h, ("mark", op.a), self.bits(_WHO[op.b], h, op.n), keep=-1,
                          covers=covers)
        self._next(s, h)

    def _op_clear_mark(self, s: State, h: int, f: Frame, op: Op) -> None:
        hart = s.harts[h]
        width = self.everybody if op.c == 64 else self.low
        bits = self.bits(_WHO[op.d], h, op.n) & width
        if op.b:
            s.mark[op.a] &= ~bits
        else:
            word = self.memory.visible(s, h, ("mark", op.a))
            if f.register is not None and f.register[0] == op.a:
                word = f.register[1]
            self.memory.issue(s, h, ("mark", op.a), word & ~bits & width, keep=~width)
        hart.frames[-1] = f._replace(op=f.op + 1, register=None, cleared=self.ghosts)

    def _op_fence(self, s: State, h: int, f: Frame, op: Op) -> str | None:
        cover = self._covers(f, op.a, op.n)[f.item]
        if not op.b:
            self.memory.fence(s, h, cover)
        self.memory.serialise(s, h)
        self._more(s, h, f.item + 1)
        return None if cover is None else f"fence page {cover}"

    def _op_shootdown(self, s: State, h: int, f: Frame, op: Op) -> str:
        stage = self._shootdown_stage(h, f, op)
        targets, _ = self._targets(_WHO[op.b], h)
        self._more(s, h, f.item + 1)
        if stage == "send":
            first, pages = self._asked(f, op.a)
            level = len(s.harts[h].frames)
            s.requests |= {Request(h, level, g, first, pages, bool(op.d), self._via(op), False)
                           for g in targets}
            return f"send: {self.program.texts[f.op]}"
        if stage == "own":
            for cover in self._own_half(f, op)[f.item - bool(targets)]:
                if not op.d:
                    self.memory.fence(s, h, cover)
            self.memory.serialise(s, h)
            return "fence here"
        return "every target has acknowledged"

    def _op_ack(self, s: State, h: int, _f: Frame, _op: Op) -> None:
        self._step_ack(s, h)

    def _op_defer(self, s: State, h: int, f: Frame, op: Op) -> None:
        targets, own = self._targets(_WHO[op.b], h)
        first, pages = self._asked(f, op.a)
        queued = frozenset(range(first, first + pages)) if pages else frozenset({None})
        for g in [*targets, *[h] * own]:
            s.harts[g].queue |= queued
        self._next(s, h)

    def _op_flush_deferred(self, s: State, h: int, _f: Frame, _op: Op) -> None:
        hart = s.harts[h]
        covers: list[Cover] = [None] if None in hart.queue else list(hart.queue)
        hart.queue = frozenset()
        for cover in covers:
            self.memory.fence(s, h, cover)
        self.memory.serialise(s, h)
        self._next(s, h)

    def _op_when(self, s: State, h: int, f: Frame, op: Op) -> str:
        hart = s.harts[h]
        true = all(self._dynamic(f, s, h, a, op.n) for a in op.all_of & _DYNAMIC) and not any(
            self._dynamic(f, s, h, a, op.n) for a in op.none_of & _DYNAMIC)
        register = f.register
        if "marked" in op.all_of | op.none_of and self._stored_back(f, op.n):
            register = (op.n, self.memory.visible(s, h, ("mark", op.n)))
        hart.frames[-1] = f._replace(op=f.op + 1 + (0 if true else op.skip), register=register)
        return f"{self.program.texts[f.op]}: {'yes' if true else 'no'}"

    def _stored_back(self, f: Frame, mark: int) -> bool:
        """Return whether a plain clear of the mark stands later in this handler."""
        first, number = self.handlers[f.handler]
        return any(op.kind == "clear_mark" and not op.b and op.a == mark
                   for op in self.ops[f.op + 1:first + number])

    def _op_allocate(self, s: State, h: int, _f: Frame, _op: Op) -> None:
        self._next(s, h)
        self._nested_map(s, h)

    # ---- the ghost ------------------------------------------------------------------------------

    def s5(self, s: State) -> bool:
        """Return whether S5 is violated: a hart may miss a covered page and has no mark of it."""
        if not self.ghosts:
            return False
        for mark in range(self.marks):
            if any(e.place == ("mark", mark) for hart in s.harts for e in hart.buffer):
                continue
            for h in self.harts:
                if s.mark[mark] >> h & 1 or any(f.cleared for f in s.harts[h].frames):
                    continue
                if any(s.covered[mark] >> page & 1 and self.memory.may_miss(s, h, page)
                       for page in self.memory.pages):
                    return True
        return False
