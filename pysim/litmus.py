"""Litmus tests of mapping policies: small scenarios for every-interleaving search, as data.

A scenario gives each hart a script of actions in the words of docs/abstract-machine.md, section 5.
The family ends in its table, ``LITMUS``; ``mapped`` and the other functions make the same scenarios
for more harts and pages, ``load`` reads one from TOML.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from pysim.errors import InputError

#: Limits of the abstract machine; a scenario beyond them is refused, never cut.
HARTS_MAX: Final = 6
PAGES_MAX: Final = 10
FRAME_MAX: Final = 3
ACTIONS_MAX: Final = 32

#: Action kinds in the order of their numbers.
ACTIONS: Final = ("map", "unmap", "purge", "flush", "wait", "access", "probe", "switch",
                  "interrupt", "user", "trap", "signal", "await", "trace", "uses", "leave")
_BARE: Final = frozenset({"switch", "interrupt", "user", "trap", "signal", "leave"})
_FRAMED: Final = frozenset({"map", "access", "probe", "switch", "uses"})
#: Regions a scenario's pages can lie in: the atoms ``region_*`` of csim.h, in their order.
REGIONS: Final = ("vmalloc", "module", "vmemmap", "linear", "pci_io")
ORDERS: Final = ("pso", "tso", "sc")
INVALIDS: Final = ("cache", "reorder", "none")
TLBS: Final = ("maximal", "single")
VIAS: Final = ("imsic", "sbi", "hw")


@dataclass(frozen=True, slots=True)
class Action:
    """One action of a script.

    ``first`` is its first page (``await``: a hart), ``pages`` how many follow each other, ``frame``
    the frame mapped or expected, ``count`` a version (``map``, ``wait``) or a number of signals
    (``signal``, ``await``); ``masked`` says that interrupts are off.
    """

    kind: str
    first: int = 0
    pages: int = 1
    frame: int = 1
    count: int = 1
    masked: bool = False

    def __str__(self) -> str:
        words = [self.kind] if self.kind in _BARE else [self.kind, str(self.first)]
        if self.kind in ("map", "unmap", "purge", "flush") and self.pages > 1:
            words.append(str(self.pages))
        if self.kind in ("wait", "await") and self.count > 1:
            words.append(str(self.count))
        if self.kind in _FRAMED and self.frame > 1:
            words.append(f"frame {self.frame}")
        return " ".join(words + ["masked"] * self.masked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What is assumed of the machine; docs/abstract-machine.md, section 1.

    ``svvptc_k`` None: a stale invalid entry may answer for ever. ``retries`` None: 2 + 2 per map.
    ``cpus`` gives each hart's CPU number, hence its bit in a mark; missing ones follow on.
    """

    order: str = "pso"
    invalid: str = "cache"
    nonleaf: bool = True
    tlb: str = "maximal"
    svvptc: bool = False
    svvptc_k: int | None = None
    via: str = "imsic"
    sbi_limit_pages: int = 1
    retries: int | None = None
    nesting: int = 4
    cpus: tuple[int, ...] = (0, 32, 33, 34, 35, 36)

    def __post_init__(self) -> None:
        for key, valid in (("order", ORDERS), ("invalid", INVALIDS), ("tlb", TLBS), ("via", VIAS)):
            value = getattr(self, key)
            if value not in valid:
                raise InputError("parameters", key, f"unknown {key} {value!r}, not one of "
                                 f"{', '.join(valid)}", got=str(value), nearest=valid)
        if self.svvptc_k is not None and not 0 <= self.svvptc_k <= 14:
            raise InputError("parameters", "svvptc_k", f"{self.svvptc_k} is not within 0 to 14")
        if self.retries is not None and not 0 <= self.retries <= 100:
            raise InputError("parameters", "retries", f"{self.retries} is not within 0 to 100")
        if not 1 <= self.nesting <= 6:
            raise InputError("parameters", "nesting", f"{self.nesting} is not within 1 to 6")
        if len(set(self.cpus)) != len(self.cpus) or not all(0 <= c < 64 for c in self.cpus):
            raise InputError("parameters", "cpus", "CPU numbers differ and lie within 0 to 63")


@dataclass(frozen=True, slots=True, kw_only=True)
class Litmus:
    """One scenario: a script per hart and what lies around it.

    With ``chaos`` the scripts run for ever and everything but that hart is chaos; section 8.
    """

    name: str
    question: str
    pages: int
    scripts: tuple[tuple[Action, ...], ...]
    table: tuple[int, ...] = ()
    region: str = "vmalloc"
    stack: int = 0
    stack_pages: int = 0
    frame: int = 0
    object: int | None = None
    ipi_allocates: bool = False
    chaos: int | None = None

    def __post_init__(self) -> None:
        _check(self)

    @property
    def harts(self) -> int:
        """How many harts there are."""
        return len(self.scripts)

    def retries(self, parameters: Parameters) -> int:
        """Return the most faults one access may take before it counts as a livelock."""
        if parameters.retries is not None:
            return parameters.retries
        return 2 + 2 * sum(a.kind == "map" for script in self.scripts for a in script)


def _refuse(where: str, key: str, reason: str, got: str | None = None,
            nearest: Sequence[str] = ()) -> InputError:
    return InputError(where, key, reason, got=got, nearest=nearest)


def _check_action(litmus: Litmus, hart: int, position: int, action: Action) -> None:
    key = f"hart[{hart}].do[{position}]"
    if action.kind not in ACTIONS:
        raise _refuse(litmus.name, key, f"unknown action {action.kind!r}", action.kind, ACTIONS)
    if action.kind == "await":
        if not 0 <= action.first < litmus.harts or action.first == hart:
            raise _refuse(litmus.name, key, f"no other hart {action.first}")
    elif action.first < 0 or action.pages < 1 or action.first + action.pages > litmus.pages:
        raise _refuse(litmus.name, key, f"page outside 0 to {litmus.pages - 1}")
    if not 1 <= action.frame <= FRAME_MAX:
        raise _refuse(litmus.name, key, f"frame {action.frame} is not within 1 to {FRAME_MAX}")
    if not 1 <= action.count <= 7:
        raise _refuse(litmus.name, key, f"count {action.count} is not within 1 to 7")
    if action.kind in ("switch", "leave") and litmus.stack_pages == 0:
        raise _refuse(litmus.name, key, "there is no stack to switch to or leave")


def _check_script(litmus: Litmus, hart: int, script: tuple[Action, ...]) -> None:
    if len(script) > ACTIONS_MAX:
        raise _refuse(litmus.name, f"hart[{hart}]", f"more than {ACTIONS_MAX} actions")
    in_user = False
    for position, action in enumerate(script):
        _check_action(litmus, hart, position, action)
        if in_user != (action.kind == "trap"):
            raise _refuse(litmus.name, f"hart[{hart}].do[{position}]",
                          "in user mode only `trap` can follow" if in_user
                          else "`trap` needs user mode: `user` comes first")
        in_user = action.kind == "user"


def _check(litmus: Litmus) -> None:
    if not 1 <= litmus.harts <= HARTS_MAX:
        raise _refuse(litmus.name, "hart", f"{litmus.harts} harts are not within 1 to {HARTS_MAX}")
    if not 1 <= litmus.pages <= PAGES_MAX:
        raise _refuse(litmus.name, "pages", f"{litmus.pages} is not within 1 to {PAGES_MAX}")
    if litmus.region not in REGIONS:
        raise _refuse(litmus.name, "region", f"unknown region {litmus.region!r}", litmus.region,
                      REGIONS)
    if not all(0 <= page < litmus.pages for page in litmus.table):
        raise _refuse(litmus.name, "table", f"page outside 0 to {litmus.pages - 1}")
    if litmus.stack < 0 or litmus.stack + litmus.stack_pages > litmus.pages:
        raise _refuse(litmus.name, "stack", f"page outside 0 to {litmus.pages - 1}")
    if litmus.frame > litmus.stack_pages or (litmus.stack_pages > 0 and litmus.frame < 1):
        raise _refuse(litmus.name, "frame", "a trap frame lies on 1 page of the stack or more")
    if litmus.object is None and litmus.ipi_allocates:
        raise _refuse(litmus.name, "ipi_allocates", "needs `object`, the page it maps")
    if litmus.object is not None and not 0 <= litmus.object <= litmus.pages - litmus.harts:
        raise _refuse(litmus.name, "object", f"needs {litmus.harts} pages, one per hart")
    if litmus.chaos is not None and not 0 <= litmus.chaos < litmus.harts:
        raise _refuse(litmus.name, "chaos", f"no hart {litmus.chaos}")
    owner: dict[int, int] = {}
    for hart, script in enumerate(litmus.scripts):
        _check_script(litmus, hart, script)
        for action in script:
            for page in range(action.first, action.first + action.pages):
                if action.kind == "map" and owner.setdefault(page, hart) != hart:
                    raise _refuse(litmus.name, f"hart[{hart}]", f"page {page} is mapped by hart "
                                  f"{owner[page]} already")


# ---- reading ----------------------------------------------------------------------------------


def parse_action(text: str, where: str, key: str) -> Action:
    """Read one action, for instance ``map 0 2 frame 1``; ``map`` and ``signal`` number themselves.

    Raises InputError naming ``where`` and ``key``.
    """
    words = text.split()
    if not words or words[0] not in ACTIONS:
        got = words[0] if words else ""
        raise _refuse(where, key, f"unknown action {got!r}", got, ACTIONS)
    kind = words.pop(0)
    values: dict[str, int] = {}
    masked = kind == "map" and words[-1:] == ["masked"]
    if masked:
        words.pop()
    if len(words) >= 2 and words[-2] == "frame" and kind in _FRAMED:
        words[-2:], number = [], words[-1]
        values["frame"] = _number(number, where, key)
    second = {"map": "pages", "unmap": "pages", "purge": "pages", "flush": "pages",
              "wait": "count", "await": "count"}.get(kind)
    names = [] if kind in _BARE else ["first"]
    if second is not None and len(words) == 2:
        names.append(second)
    if len(words) != len(names):
        raise _refuse(where, key, f"{text!r} has {len(words)} numbers, not {len(names)}")
    values.update({name: _number(w, where, key) for name, w in zip(names, words, strict=True)})
    return Action(kind, masked=masked, **values)


def _number(word: str, where: str, key: str) -> int:
    if not word.isdecimal():
        raise _refuse(where, key, f"{word!r} is not a number")
    return int(word)


def script(*texts: str, where: str = "litmus", key: str = "do") -> tuple[Action, ...]:
    """Read a script; maps of a page and signals get their running numbers."""
    found: list[Action] = []
    for position, text in enumerate(texts):
        action = parse_action(text, where, f"{key}[{position}]")
        if action.kind in ("map", "signal"):
            count = 1 + sum(a.kind == action.kind and a.first == action.first for a in found)
            action = Action(action.kind, action.first, action.pages, action.frame, count,
                            action.masked)
        found.append(action)
    return tuple(found)


def parse(data: Mapping[str, Any], where: str) -> Litmus:
    """Make a scenario of a TOML table: the fields of ``Litmus``, and ``hart`` = tables with ``do``.

    Raises InputError for an unknown key, a bad value or a bad action.
    """
    known = [f.name for f in fields(Litmus) if f.name != "scripts"] + ["hart"]
    values: dict[str, Any] = {"name": where, "question": ""}
    scripts: list[tuple[Action, ...]] = []
    for key, value in data.items():
        if key not in known:
            raise _refuse(where, key, "unknown key", key, known)
        if key == "hart":
            for number, table in enumerate(value):
                if not isinstance(table, Mapping) or set(table) != {"do"}:
                    raise _refuse(where, f"hart[{number}]", "has one key, `do`")
                scripts.append(script(*table["do"], where=where, key=f"hart[{number}].do"))
        elif key == "table":
            values[key] = tuple(value)
        else:
            values[key] = value
    wanted = {"name": str, "question": str, "region": str, "ipi_allocates": bool}
    for key, value in values.items():
        kind = wanted.get(key, int)
        items = value if isinstance(value, tuple) else (value,)
        if not all(type(item) is kind for item in items):
            raise _refuse(where, key, f"{value!r} is not a {kind.__name__}")
    if "pages" not in values:
        raise _refuse(where, "pages", "is missing")
    return Litmus(scripts=tuple(scripts), **values)


def load(path: Path) -> Litmus:
    """Read one scenario from a TOML file; raises InputError."""
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(str(path), "", f"cannot be read: {why}") from error
    try:
        return parse({"name": path.stem, **data}, str(path))
    except InputError as error:
        line = line_of(text, error.key)
        where = f"{path}:{line}" if line else str(path)
        raise InputError(where, error.key, f"{error.reason}{error.hint}") from None


def line_of(text: str, key: str) -> int:
    """Return the line of a TOML text where a key of ours stands; 0 when it cannot be told.

    ``key`` is a field, ``hart[i]`` or ``hart[i].do[j]``.
    """
    rows = text.splitlines()
    wanted = re.fullmatch(r"hart\[(\d+)\](?:\.do\[(\d+)\])?", key)
    if wanted is None:
        field_ = re.compile(rf"\s*{re.escape(key)}\s*=")
        return next((at for at, row in enumerate(rows, 1) if key and field_.match(row)), 0)
    tables = [at for at, row in enumerate(rows, 1) if row.split("#")[0].strip() == "[[hart]]"]
    if int(wanted[1]) >= len(tables):
        return 0
    first = tables[int(wanted[1])]
    if wanted[2] is None:
        return first
    actions = [at for at, row in enumerate(rows[first:], first + 1)
               for _ in re.findall(r'"[^"]*"', row.split("#")[0])]
    return actions[int(wanted[2])] if int(wanted[2]) < len(actions) else first


# ---- the scenarios ----------------------------------------------------------------------------


def mapped(pages: int, harts: int = 2) -> Litmus:
    """Hart 0 maps ``pages`` pages one after the other; every other hart uses each."""
    reader = [text for page in range(pages) for text in (f"wait {page}", f"access {page}")]
    return Litmus(
        name=f"map{pages}",
        question="hart 0 maps a page, the others use it" if pages == 1 else
                 f"hart 0 maps {pages} pages, the others use them",
        pages=pages,
        scripts=(script(*(f"map {page}" for page in range(pages))),
                 *(script(*reader) for _ in range(harts - 1))),
    )


def cross(harts: int = 2) -> Litmus:
    """Every hart maps a page, uses it, and then uses the others' pages."""
    scripts = []
    for hart in range(harts):
        others = [(hart + step) % harts for step in range(1, harts)]
        foreign = [text for page in others for text in (f"wait {page}", f"access {page}")]
        scripts.append(script(f"map {hart}", f"access {hart}", *foreign))
    return Litmus(name="cross", question="every hart maps a page and all use all of them",
                  pages=harts, scripts=tuple(scripts))


def remap(harts: int = 2) -> Litmus:
    """Unmap, flush and map the page to another frame, once the readers are done with the first."""
    waits = [f"await {hart}" for hart in range(1, harts)]
    reader = script("wait 0", "access 0", "signal", "wait 0 2", "access 0 frame 2")
    return Litmus(
        name="remap",
        question="unmap, flush, map to another frame: may a hart see the old one?",
        pages=1,
        scripts=(script("map 0", *waits, "unmap 0", "purge 0", "map 0 frame 2"),
                 *(reader for _ in range(harts - 1))),
    )


def wild(harts: int = 2) -> Litmus:
    """Probe a page that nobody maps beside a real mapping."""
    return Litmus(
        name="wild",
        question="a nofault probe of a never-mapped page beside a real mapping",
        pages=2,
        scripts=(script("map 0"),
                 *(script("probe 1", "wait 0", "access 0") for _ in range(harts - 1))),
    )


def kstack(harts: int = 2) -> Litmus:
    """Use a new task's stack, mapped on hart 0, for the first time on another hart."""
    return Litmus(
        name="kstack",
        question="a new task's stack is first used on another hart",
        pages=1, stack_pages=1, frame=1,
        scripts=(script("map 0"),
                 *(script("wait 0", "switch", "access 0") for _ in range(harts - 1))),
    )


def kstack2(harts: int = 2) -> Litmus:
    """Take an interrupt whose frame spills onto a stack page this hart never touched."""
    reader = script("wait 0", "switch", "access 0", "interrupt")
    return Litmus(
        name="kstack2",
        question="a trap frame spills onto the second page of a new stack",
        pages=2, stack_pages=2, frame=2,
        scripts=(script("map 0 2"), *(reader for _ in range(harts - 1))),
    )


def kret(harts: int = 2) -> Litmus:
    """Return to user mode from a new stack: the registers are loaded with sscratch set."""
    reader = script("wait 0", "switch", "access 0", "user")
    return Litmus(
        name="kret",
        question="the return-to-user window on a new stack",
        pages=1, stack_pages=1, frame=1,
        scripts=(script("map 0"), *(reader for _ in range(harts - 1))),
    )


def trace(harts: int = 2) -> Litmus:
    """Let the C fault handler touch a trace buffer that was itself just mapped."""
    return Litmus(
        name="trace",
        question="the C fault handler touches a trace buffer mapped the same way",
        pages=2,
        scripts=(script("map 0"),
                 *(script("wait 0", "trace 0", "probe 1") for _ in range(harts - 1))),
    )


def ipialloc(harts: int = 2) -> Litmus:
    """Let the IPI path itself make a mapping, as a traced one does."""
    waits = [f"await {hart}" for hart in range(1, harts)]
    return Litmus(
        name="ipialloc",
        question="the IPI path itself maps, because it is traced",
        pages=1 + harts, object=1, ipi_allocates=True,
        scripts=(script("map 0", *waits, "unmap 0", "purge 0"),
                 *(script("wait 0", "access 0", "signal") for _ in range(harts - 1))),
    )


def new_table(harts: int = 2) -> Litmus:
    """Make a mapping that needs a new page-table page."""
    return Litmus(
        name="nl",
        question="the mapping needs a new page-table page",
        pages=1, table=(0,),
        scripts=(script("map 0"), *(script("wait 0", "access 0") for _ in range(harts - 1))),
    )


def any_number(*, stack: bool, own: bool) -> Litmus:
    """Keep one hart and one page exact, and let everything else be chaos.

    ``stack``: the page is a kernel stack; ``own``: the hart maps it itself.
    """
    rounds: list[tuple[str, list[str]]] = []
    for frame in ("", " frame 2"):
        on_stack = [f"switch{frame}", f"uses 0{frame}", "leave"]
        rounds.append((frame, on_stack if stack else [f"uses 0{frame}"]))
    mapper, user = [], []
    for number, (frame, use) in enumerate(rounds, 1):
        if own:
            user += [f"map 0{frame}", *use, "unmap 0", "purge 0"]
        else:
            mapper += [f"map 0{frame}", f"await 1 {number}", "unmap 0", "purge 0"]
            user += [f"wait 0 {number}", *use, "signal"]
    return Litmus(
        name="any" + "-stack" * stack + "-own" * own,
        question="any number of harts, pages, mappers and remappings" + ", on a stack" * stack,
        pages=2, chaos=1, stack_pages=int(stack), frame=int(stack),
        scripts=(script(*mapper), script(*user)),
    )


#: The configurations whose verdict "verified" holds for any number of harts.
ANY_NUMBER: Final[tuple[Litmus, ...]] = (
    any_number(stack=False, own=False), any_number(stack=False, own=True),
    any_number(stack=True, own=False), any_number(stack=True, own=True),
)

LITMUS: Final[tuple[Litmus, ...]] = (
    mapped(1), mapped(2), cross(), remap(), wild(), kstack(), kstack2(), kret(), trace(),
    ipialloc(), new_table(),
)


def names() -> list[str]:
    """Return the names of all scenarios, in the table's order."""
    return [litmus.name for litmus in LITMUS]


def find(name: str, *, harts: int = 2, where: str = "litmus") -> Litmus:
    """Return the scenario of that name for so many harts; ``map`` takes any number of pages.

    Raises InputError, with the nearest valid name, when there is none.
    """
    makers = {"cross": cross, "remap": remap, "wild": wild, "kstack": kstack, "kstack2": kstack2,
              "kret": kret, "trace": trace, "ipialloc": ipialloc, "nl": new_table}
    if not 2 <= harts <= HARTS_MAX:
        raise InputError(where, "harts", f"{harts} harts are not within 2 to {HARTS_MAX}")
    if name in makers:
        return makers[name](harts)
    if name.startswith("map") and name[3:].isdecimal() and 1 <= int(name[3:]) <= 4:
        return mapped(int(name[3:]), harts)
    raise InputError(where, "scenario", f"unknown scenario {name!r}", got=name, nearest=names())
