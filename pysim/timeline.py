"""Counterexamples as timelines: who does what, in the field's words, and as a Chrome trace.

``lines`` turns each step of a counterexample into a sentence for one column, a hart's or memory's;
``ending`` says what it broke and what that means. ``chrome`` writes the trace-event JSON that
Perfetto and chrome://tracing open; one step lasts one microsecond there, for the explorer has no
clock.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pysim import engine
from pysim.check import Checked
from pysim.engine import ExploreStep
from pysim.litmus import Action
from pysim.ops import ALL, Program

_KINDS: Final = {number: name for name, number in engine.EXPLORE_KINDS.items()}
_PHASES: Final = {number: name for name, number in engine.EXPLORE_PHASES.items()}
_PLACES: Final = {number: name for name, number in engine.EXPLORE_PLACES.items()}
_OPS: Final = {number: name for name, number in engine.OPS.items()}
_NO_OP: Final = 2**32 - 1
_EVERYWHERE: Final = 255

#: What a violated property means for the hart that broke it.
MEANINGS: Final = {
    "S1": "hart {hart} uses frame {frame} of page {page}: the mapping published there is another",
    "S2": "hart {hart} oopses on a mapping that was published (page {page})",
    "S3": "hart {hart} faults on page {page} for ever: every retry meets the same fault",
    "S4": "hart {hart} faults on page {page} {where}",
    "DL": "no hart can go on",
}
#: Where a fault breaks S4, by the phase it happens in; else traps nest beyond the bound.
_WINDOWS: Final = {
    "save": "while its trap frame is stored: sscratch is set, so the nested trap is taken for one "
            "from user mode, and the interrupted one is lost",
    "early": "before its trap frame is stored: sscratch is set, and the interrupted trap is lost",
    "user_load": "on the way to user mode, with sscratch set: the fault is taken for one from user "
                 "mode",
    "script": "on the way to user mode, with sscratch set: the fault is taken for one from user "
              "mode",
}
_NESTS: Final = "in a trap inside a trap inside a trap: the stack overflows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One step: its number, whose column it stands in (None: memory), and the sentence.

    ``handler`` is the policy's handler or the part of a trap it belongs to, ``insn`` the kernel's
    instruction behind it, ``depth`` how many frames the hart had above its script.
    """

    number: int
    hart: int
    column: int | None
    text: str
    handler: str
    insn: str
    depth: int

    def __str__(self) -> str:
        before = f"{self.handler}: " if self.handler else ""
        return f"{before}{self.text}" + (f"  [{self.insn}]" if self.insn else "")


# ---- sentences ----------------------------------------------------------------------------------


def _handler(program: Program, op: int) -> str:
    """Return the name of the handler an op belongs to."""
    count = len(engine.HANDLERS)
    words = struct.unpack(f"<{len(program.header) // 4}I", program.header)
    at, nr = words[-2 * count:-count], words[-count:]
    for name, number in engine.HANDLERS.items():
        if at[number] <= op < at[number] + nr[number]:
            return name
    return ""


def _mark(program: Program, number: int) -> str:
    """Return the name of a mark."""
    return program.marks[number] if number < len(program.marks) else f"mark {number}"


def _harts(bits: int, harts: int) -> str:
    named = [str(h) for h in range(harts) if bits >> h & 1]
    if len(named) == harts:
        return "every hart"
    return f"hart {' and '.join(named)}" if named else "no hart"


def _stored(checked: Checked, step: ExploreStep, hart: int) -> str:
    """Return what a store makes of memory."""
    place = _PLACES[step.place]
    if place == "leaf":
        return f"PTE {step.page} = " + (f"frame {step.value}" if step.value else "invalid")
    if place == "table":
        return "non-leaf PTE = " + ("valid" if step.value else "invalid")
    if place == "mark_word":
        harts = _harts(step.value, checked.scenario.harts)
        return f"{_mark(checked.program, step.page)} set for {harts}"
    if place == "flag":
        return f"page {step.page} is published" + (f", version {step.value}" * (step.value > 1))
    return f"hart {hart} is done" + (f" ({step.value})" * (step.value > 1))


def _access(step: ExploreStep, verb: str) -> str:
    if step.arg not in (0, 255):
        return f"{verb} page {step.page}: frame {step.arg}"
    what, now = ("non-leaf PTE", "valid") if step.arg == 255 else ("PTE", f"frame {step.value}")
    found = f"a stale invalid {what} (it is {now})" if step.value else f"an invalid {what}"
    return f"{verb} page {step.page}: page fault, {found}"


def _of_op(checked: Checked, step: ExploreStep) -> str:
    """Return what a step of a handler's op does."""
    program = checked.program
    kind = _OPS[program.ops[step.op * engine.OP_BYTES]]
    text = program.texts[step.op]
    if kind in ("store_ptes", "publish"):
        return f"store {_stored(checked, step, step.hart)}"
    if kind == "when":
        return f"{text.removeprefix('when ')}: {'yes' if step.value else 'no'}"
    if kind == "shootdown":
        part = {0: "send", _EVERYWHERE: "all have acknowledged"}.get(step.sub, "fence here")
        return f"{text}: {part}"
    if kind == "fence":
        extent = program.ops[step.op * engine.OP_BYTES + 1]
        everything = extent == ALL.kind or step.page == _EVERYWHERE
        return text if everything else f"fence page {step.page + step.sub}"
    return text


_PHASE_TEXTS: Final = {
    "publish": "publish page {page}",
    "save": "store the trap frame",
    "allocate": "the IPI path allocates",
    "ack": "acknowledge the IPI",
    "return": "return to the kernel",
    "user_csrw": "on the way to user mode: set sscratch",
    "user_sret": "return to user mode",
}
_PHASE_INSNS: Final = {"return": "sret", "user_csrw": "csrw sscratch, tp", "user_sret": "sret"}
_ACCESS_VERBS: Final = {"save": "store the trap frame to", "user_load": "load registers from",
                        "trace": "write the trace buffer in", "touch": "use what was allocated,"}


def _of_action(step: ExploreStep, action: Action) -> tuple[str, str]:
    """Return what an action of the script does, and the instruction."""
    version = f", version {action.count}" * (action.count > 1)
    last = step.sub > 0
    return {
        "map": (f"publish page {action.first}{version}", ""),
        "wait": (f"see page {action.first} published{version}", "lw"),
        "switch": (f"run on the new stack, page {step.page}" if step.page != _EVERYWHERE else
                   "run on the new stack", "__switch_to"),
        "interrupt": ("take an interrupt", ""),
        "user": (_PHASE_TEXTS["user_sret" if last else "user_csrw"],
                 _PHASE_INSNS["user_sret" if last else "user_csrw"]),
        "trap": ("trap from user mode", ""),
        "signal": ("say that it is done", "sw"),
        "await": (f"see that hart {action.first} is done", "lw"),
        "uses": (f"no more accesses to page {action.first}", ""),
        "leave": ("run on the old stack", "__switch_to"),
    }[action.kind]


_CHAOS: Final = {16: "fault on a page of somebody else's", 17: "take an interrupt",
                 18: "fence for somebody else's page", 19: "switch between somebody else's tasks",
                 20: "fault of a store to a page of somebody else's",
                 21: "fault of a fetch from a page of somebody else's"}


def _of_chaos(checked: Checked, arg: int) -> str:
    if arg < 8:
        return f"another mapping marks this hart: {_mark(checked.program, arg)}"
    if arg < 16:
        return f"another hart's clear wipes this one's bit: {_mark(checked.program, arg - 8)}"
    return _CHAOS[arg]


def _sentence(checked: Checked, step: ExploreStep) -> tuple[int | None, str, str, str]:
    """Return the column, sentence, handler and instruction of a step."""
    kind, phase = _KINDS[step.kind], _PHASES[step.phase]
    handler = _handler(checked.program, step.op) if step.op != _NO_OP else ""
    insn = checked.program.insns[step.op] if step.op != _NO_OP else ""
    if kind == "drain":
        return None, f"{_stored(checked, step, step.hart)}  (store of hart {step.hart})", "", ""
    if kind in ("take", "firmware"):
        does = "take the IPI" if kind == "take" else "firmware fences this hart for the request"
        return step.hart, f"{does} of hart {step.arg & 15}", "", ""
    if kind in ("fill", "evict"):
        what = "the non-leaf PTE" if step.arg == _EVERYWHERE else f"the PTE of page {step.arg}"
        return step.hart, f"{kind} {what}", "", ""
    if kind == "chaos":
        return step.hart, _of_chaos(checked, step.arg), "", ""
    if kind == "answer":
        verb = _ACCESS_VERBS.get(phase, "store to" if step.op != _NO_OP else "load from")
        return step.hart, _access(step, verb), handler or phase.replace("script", ""), insn
    if phase in ("ops", "early"):
        return step.hart, _of_op(checked, step), handler, insn
    if phase == "fail":
        oops = step.property != 0
        return step.hart, *(("nobody resolves the fault: oops", "", "die") if oops else
                            ("the probe is fixed up", "", "fixup_exception"))
    if phase == "script":
        text, insn = _of_action(step, checked.scenario.scripts[step.hart][step.action])
        return step.hart, text, "", insn
    return step.hart, _PHASE_TEXTS[phase].format(page=step.page), "", _PHASE_INSNS.get(phase, "")


def lines(checked: Checked) -> list[Line]:
    """Return a counterexample as sentences, one per step."""
    found = []
    for number, step in enumerate(checked.found.trace, 1):
        column, text, handler, insn = _sentence(checked, step)
        found.append(Line(number=number, hart=step.hart, column=column, text=text, handler=handler,
                          insn=insn, depth=step.frames))
    return found


def ending(checked: Checked) -> str:
    """Return the last line: the property, and what breaking it means."""
    name = checked.found.property
    last = checked.found.trace[-1] if checked.found.trace else checked.found.rests[0]
    where = _NESTS if last.frames > 1 else _WINDOWS.get(_PHASES[last.phase], _NESTS)
    meaning = MEANINGS[name].format(hart=last.hart, page=last.page, frame=last.arg, where=where)
    if name == "S2" and not _was_published(checked, last.page):
        meaning = f"hart {last.hart} oopses on page {last.page}"
    if name == "DL":
        waits = "; ".join(_waits(checked, step) for step in checked.found.rests
                          if _PHASES[step.phase] != "done")
        meaning += f": {waits}"
    return f"{name}: {meaning}"


def _was_published(checked: Checked, page: int) -> bool:
    maps = (a for script in checked.scenario.scripts for a in script if a.kind == "map")
    return any(a.first <= page < a.first + a.pages for a in maps)


def _waits(checked: Checked, step: ExploreStep) -> str:
    _, text, handler, _ = _sentence(checked, step)
    text = text.replace(": all have acknowledged", ", for the acknowledgements")
    return f"hart {step.hart} waits at {handler + ': ' if handler else ''}{text}"


# ---- Chrome trace -------------------------------------------------------------------------------


def _nested(told: Sequence[Line], hart: int) -> Iterator[dict[str, Any]]:
    """Yield one slice per stretch of steps that a hart spends inside a handler or a trap."""
    own = [line for line in told if line.column == hart]
    open_at: list[tuple[int, str]] = []
    for line in own:
        while len(open_at) > line.depth:
            first, name = open_at.pop()
            yield _slice(hart, name, first, line.number - first)
        while len(open_at) < line.depth:
            open_at.append((line.number, line.handler or "trap"))
    end = told[-1].number + 1 if told else 0
    while open_at:
        first, name = open_at.pop()
        yield _slice(hart, name, first, end - first)


def _slice(track: int, name: str, at: int, duration: int, **more: Any) -> dict[str, Any]:
    return {"ph": "X", "pid": 0, "tid": track, "name": name, "ts": at, "dur": duration,
            "cat": "check", "args": more}


def chrome(checked: Checked) -> str:
    """Return a counterexample in the trace-event format; a step is one microsecond."""
    told, memory = lines(checked), checked.scenario.harts
    names = [*(f"hart {h}" for h in range(memory)), "memory"]
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 0, "tid": track, "name": "thread_name", "args": {"name": name}}
        for track, name in enumerate(names)
    ]
    for hart in range(memory):
        events += sorted(_nested(told, hart), key=lambda slice_: (slice_["ts"], -slice_["dur"]))
    for line in told:
        track = memory if line.column is None else line.column
        events.append(_slice(track, line.text, line.number, 1, step=line.number,
                             handler=line.handler, instruction=line.insn))
    if told:
        events.append({"ph": "i", "s": "g", "pid": 0, "tid": told[-1].hart, "ts": told[-1].number,
                       "name": ending(checked), "cat": "check"})
    about = {"policy": checked.policy, "scenario": checked.scenario.name, "clock": "steps"}
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ns", "otherData": about},
                      indent=1)
