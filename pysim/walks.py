"""Page walks judged elsewhere (golden vectors): read strictly, walked in one C call, compared.

A file holds one JSON object a line, gzip'd or not. Keys and their meaning: :data:`KEYS`; physical
memory is :data:`RAM_FIRST` .. :data:`RAM_END` and reads as zero where ``mem`` lists nothing, the
translation caches are empty, the ASID is 0, and there is no PMP, hypervisor, pointer masking or
Svrsw60t59b.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from pysim import engine
from pysim.errors import InputError

RAM_FIRST: Final = 0x8000_0000
"""First byte of memory. Source: the vectors' environment (Spike, riscv-isa-sim 55b4658d)."""
RAM_END: Final = 0x10_0000_0000_0000
"""First byte past memory, 2^52. Source: as :data:`RAM_FIRST`."""
LEVELS: Final = {"bare": 0, "sv39": 3, "sv48": 4, "sv57": 5}
"""Levels of each mode. Source: riscv-isa-manual 1d472b8, satp."""
ACCESSES: Final = {"r": 0, "w": 1, "x": 2}
"""``acc`` -> enum csim_access."""
PRIVILEGES: Final = {"U": 0, "S": 1, "M": 3}
"""``priv`` -> enum csim_privilege."""
AD_SCHEMES: Final = {"svade": 0, "svadu": 1}
"""``ad`` -> csim_walk_case.svadu."""
KEYS: Final = (
    "id", "mode", "levels", "satp_ppn", "priv", "sum", "mxr", "ad", "svnapot", "svpbmt", "acc",
    "va", "mem", "exp", "reads", "after", "cls",
)  # fmt: skip
"""Keys of a line: all must be there, no other may."""
ACCESS_FAULTS: Final = (1, 5, 7)
"""scause of access faults of fetch, load, store. Source: riscv-isa-manual 1d472b8, scause."""
CAUSES: Final = (*ACCESS_FAULTS, 12, 13, 15)
"""scause a walk can end in: access faults, then page faults. Source: as ACCESS_FAULTS."""
SHOWN_DISAGREEMENTS: Final = 5
"""How many disagreements a report keeps; the rest is only counted."""

_HEX: Final = re.compile(r"0x[0-9a-f]{1,16}")
_EXP_KEYS: Final = {
    "cause": frozenset({"cause", "access"}),
    "bare": frozenset({"pa", "bare", "access"}),
    "level": frozenset({"pa", "level", "size", "pbmt", "g", "access"}),
}


def _size_text(size_bytes: int) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes} {unit}"
        size_bytes //= 1024
    return f"{size_bytes} TiB"


class Outcome(NamedTuple):
    """Everything a walk is judged by; equal outcomes agree.

    ``translation`` is what ``exp`` says without ``access``; ``access`` is ``"ok"`` or the cause of
    the whole access; ``reads`` are the PTE addresses in order, ``after`` the PTEs that changed.
    """

    translation: tuple[tuple[str, int], ...]
    access: int | str
    reads: tuple[int, ...]
    after: tuple[tuple[int, int], ...]

    def text(self) -> str:
        """One line, addresses in hexadecimal."""
        hexadecimal = ("pa", "size")
        parts = [f"{k} {v:#x}" if k in hexadecimal else f"{k} {v}" for k, v in self.translation]
        parts.append(f"access {self.access}")
        parts.append(f"reads [{' '.join(f'{pa:#x}' for pa in self.reads)}]")
        if self.after:
            parts.append(f"after [{' '.join(f'{pa:#x}={value:#x}' for pa, value in self.after)}]")
        return ", ".join(parts)

    def kind(self) -> str:
        """Return what a report counts it under: ``cause 12``, ``ok 4 KiB``, ``ok bare``."""
        name, number = self.kind_order()
        if name == "cause":
            return f"cause {number}"
        return f"ok {_size_text(number)}" if number else "ok bare"

    def kind_order(self) -> tuple[str, int]:
        """Return what kinds are sorted by: causes by number, then leaves by size."""
        found = dict(self.translation)
        return ("cause", found["cause"]) if "cause" in found else ("ok", found.get("size", 0))


class WalkCase(NamedTuple):
    """One line of a file: the fields of ``struct csim_walk_case``, its memory, what is expected."""

    line: int
    number: int
    cls: str
    va: int
    satp_ppn: int
    levels: int
    privilege: int
    access: int
    flags: tuple[int, int, int, int, int]
    """sum, mxr, svadu, svnapot, svpbmt"""
    mem: tuple[tuple[int, int], ...]
    expected: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """A case on which engine and file differ; ``reason`` is why the engine's walk stopped."""

    line: int
    number: int
    cls: str
    reason: str
    expected: Outcome
    got: Outcome

    def text(self) -> str:
        """Three lines: which case, what the file says, what the engine says."""
        return (
            f"line {self.line} (id {self.number}, class {self.cls})\n"
            f"  expected {self.expected.text()}\n"
            f"  got      {self.got.text()} ({self.reason})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkReport:
    """Cases of a file, how many agreed, by kind of expected outcome, and the first that did not."""

    path: str
    cases: int
    agreed: int
    kinds: tuple[tuple[str, int, int], ...]
    """(kind, cases, agreed), by kind"""
    disagreements: tuple[Disagreement, ...]

    def text(self) -> str:
        """Return a table by expected outcome, then the disagreements."""
        lines = [f"{'expected outcome':16}  cases  agreed"]
        lines += [f"{kind:16}  {cases:5}  {agreed:6}" for kind, cases, agreed in self.kinds]
        lines.append(f"{self.path}: {self.agreed} of {self.cases} walks agree")
        lines += [disagreement.text() for disagreement in self.disagreements]
        if (unseen := self.cases - self.agreed - len(self.disagreements)) > 0:
            lines.append(f"and {unseen} more")
        return "\n".join(lines)


class _Line:
    """Reads typed values out of one decoded line; a wrong one names the file, the line, the key."""

    def __init__(self, where: str, value: object) -> None:
        self.where = where
        if not isinstance(value, dict):
            raise InputError(where, "", "not a JSON object")
        self.value = value
        self.exact(value, frozenset(KEYS), "")

    def bad(self, key: str, reason: str) -> InputError:
        return InputError(self.where, key, reason)

    def exact(self, value: dict[str, Any], keys: frozenset[str], prefix: str) -> None:
        for key in value:
            if key not in keys:
                raise InputError(self.where, prefix + key, "unknown key", got=key, nearest=keys)
        for key in sorted(keys - value.keys()):
            raise self.bad(prefix + key, "missing")

    def hex(self, key: str, value: object, bits: int = 64, align: int = 1) -> int:
        if not isinstance(value, str) or not _HEX.fullmatch(value):
            raise self.bad(key, f"not a hexadecimal string such as '0x1f': {value!r}")
        number = int(value, 16)
        if number >> bits:
            raise self.bad(key, f"{value} has more than {bits} bits")
        if number % align:
            raise self.bad(key, f"{value} is not a multiple of {align}")
        return number

    def integer(self, key: str, value: object, allowed: Sequence[int] | range) -> int:
        if type(value) is not int or value not in allowed:
            span = f"{allowed[0]}..{allowed[-1]}" if isinstance(allowed, range) else str(allowed)
            raise self.bad(key, f"not an integer in {span}: {value!r}")
        return value

    def flag(self, key: str) -> int:
        return self.integer(key, self.value[key], (0, 1))

    def choice(self, key: str, table: dict[str, int]) -> int:
        value = self.value[key]
        if not isinstance(value, str) or value not in table:
            reason = f"{value!r} is not one of {', '.join(table)}"
            raise InputError(self.where, key, reason, got=str(value), nearest=table)
        return table[value]

    def items(self, key: str, most: int) -> list[Any]:
        value = self.value[key]
        if not isinstance(value, list) or len(value) > most:
            raise self.bad(key, f"not a list of at most {most}")
        return value

    def words(self, key: str, most: int) -> tuple[tuple[int, int], ...]:
        found: dict[int, int] = {}
        for i, pair in enumerate(self.items(key, most)):
            name = f"{key}[{i}]"
            if not isinstance(pair, list) or len(pair) != 2:
                raise self.bad(name, "not a pair [address, value]")
            address = self.hex(name, pair[0], bits=56, align=8)
            if address in found:
                raise self.bad(name, f"{pair[0]} is listed twice")
            found[address] = self.hex(name, pair[1])
        return tuple(found.items())

    def expected(self, levels: int) -> tuple[tuple[tuple[str, int], ...], int | str]:
        exp = self.value["exp"]
        if not isinstance(exp, dict):
            raise self.bad("exp", "not a JSON object")
        kind = next((kind for kind in ("cause", "bare") if kind in exp), "level")
        self.exact(exp, _EXP_KEYS[kind], "exp.")
        access = exp["access"]
        if kind == "cause":
            cause = self.integer("exp.cause", exp["cause"], CAUSES)
            return (("cause", cause),), self.integer("exp.access", access, (cause,))
        if access != "ok":
            access = self.integer("exp.access", access, ACCESS_FAULTS)
        pa = self.hex("exp.pa", exp["pa"])
        if kind == "bare":
            self.integer("exp.bare", exp["bare"], (1,))
            return (("pa", pa), ("bare", 1)), access
        if levels == 0:
            raise self.bad("exp.level", "mode bare has no levels")
        level = self.integer("exp.level", exp["level"], range(levels))
        sizes = (4096 << 9 * level, 65536) if level == 0 else (4096 << 9 * level,)
        size = self.integer("exp.size", exp["size"], sizes)
        pbmt = self.integer("exp.pbmt", exp["pbmt"], range(4))
        g = self.integer("exp.g", exp["g"], (0, 1))
        return (("pa", pa), ("level", level), ("size", size), ("pbmt", pbmt), ("g", g)), access

    def case(self, line: int) -> WalkCase:
        levels = self.choice("mode", LEVELS)
        self.integer("levels", self.value["levels"], (levels,))
        number, cls = self.value["id"], self.value["cls"]
        if type(number) is not int or number < 0:
            raise self.bad("id", f"not an integer from 0 up: {number!r}")
        if not isinstance(cls, str):
            raise self.bad("cls", f"not a string: {cls!r}")
        translation, access = self.expected(levels)
        reads = self.items("reads", levels)
        kind = self.choice("acc", ACCESSES)
        flags = (self.flag("sum"), self.flag("mxr"), self.choice("ad", AD_SCHEMES))
        return WalkCase(
            line=line,
            number=number,
            cls=cls,
            va=self.hex("va", self.value["va"], align=2 if kind == ACCESSES["x"] else 1),
            satp_ppn=self.hex("satp_ppn", self.value["satp_ppn"], bits=44),
            levels=levels,
            privilege=self.choice("priv", PRIVILEGES),
            access=kind,
            flags=(*flags, self.flag("svnapot"), self.flag("svpbmt")),
            mem=self.words("mem", 1 << 16),
            expected=Outcome(
                translation=translation,
                access=access,
                reads=tuple(self.hex(f"reads[{i}]", pa, align=8) for i, pa in enumerate(reads)),
                after=self.words("after", 1),
            ),
        )


def _no_repeated_key(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as plain:
            magic = plain.read(2)
            plain.seek(0)
            if magic != b"\x1f\x8b":
                yield from plain
                return
            with gzip.open(plain) as unpacked:
                yield from unpacked
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(str(path), "", f"cannot be read: {error}") from error


def read(path: str | Path) -> list[WalkCase]:
    """Read a file of judged walks.

    Raises InputError with file, line, key and reason at the first thing that is not as the format
    says, and when there is no case at all.
    """
    cases = []
    for line, raw in enumerate(_lines(Path(path)), 1):
        where = f"{path}: line {line}"
        try:
            value = json.loads(raw, object_pairs_hook=_no_repeated_key)
        except (ValueError, RecursionError) as error:
            raise InputError(where, "", f"not JSON: {error}") from error
        cases.append(_Line(where, value).case(line))
    if not cases:
        raise InputError(str(path), "", "no cases")
    return cases


def walk(cases: Sequence[WalkCase]) -> list[tuple[Outcome, str]]:
    """Walk all cases in one call of the engine: (outcome, why the walk stopped) of each."""
    import numpy as np

    given = np.zeros(len(cases), engine.layout("struct csim_walk_case"))
    words = np.zeros(sum(len(case.mem) for case in cases), engine.layout("struct csim_word"))
    pairs = [pair for case in cases for pair in case.mem]
    words["pa"] = [pa for pa, _ in pairs]
    words["value"] = [value for _, value in pairs]
    sizes = np.array([len(case.mem) for case in cases], np.uint32)
    given["words_nr"] = sizes
    given["words_at"] = np.cumsum(sizes) - sizes
    given["ram_first"], given["ram_end"] = RAM_FIRST, RAM_END
    for name in ("va", "satp_ppn", "levels", "privilege", "access"):
        given[name] = [getattr(case, name) for case in cases]
    for i, name in enumerate(("sum", "mxr", "svadu", "svnapot", "svpbmt")):
        given[name] = [case.flags[i] for case in cases]
    raw = engine.walk_batch(given.tobytes(), words.tobytes())
    reasons = list(engine.WALK_FAILS)
    results = np.frombuffer(raw, engine.layout("struct csim_walk_result"))
    names = results.dtype.names or ()
    rows = (dict(zip(names, row, strict=True)) for row in results.tolist())
    return [(_outcome(row), reasons[row["reason"]]) for row in rows]


def _outcome(row: dict[str, Any]) -> Outcome:
    if row["cause"]:
        translation: tuple[tuple[str, int], ...] = (("cause", row["cause"]),)
    elif row["bare"]:
        translation = (("pa", row["pa"]), ("bare", 1))
    else:
        fields = (("pa", "pa"), ("level", "level"), ("size", "size_bytes"), ("pbmt", "pbmt"))
        translation = (*((name, row[field]) for name, field in fields), ("g", row["global"]))
    return Outcome(
        translation=translation,
        access=row["access_cause"] or "ok",
        reads=tuple(row["reads"][: row["reads_nr"]]),
        after=((row["after_pa"], row["after_value"]),) if row["updated"] else (),
    )


def compare(path: str, cases: Iterable[WalkCase], got: Iterable[tuple[Outcome, str]]) -> WalkReport:
    """Count agreements; an outcome agrees when every field of it does."""
    names: dict[tuple[str, int], str] = {}
    met: Counter[tuple[str, int]] = Counter()
    agreed: Counter[tuple[str, int]] = Counter()
    disagreements: list[Disagreement] = []
    for case, (outcome, reason) in zip(cases, got, strict=True):
        kind = case.expected.kind_order()
        names[kind] = case.expected.kind()
        met[kind] += 1
        if outcome == case.expected:
            agreed[kind] += 1
        elif len(disagreements) < SHOWN_DISAGREEMENTS:
            disagreements.append(
                Disagreement(
                    line=case.line,
                    number=case.number,
                    cls=case.cls,
                    reason=reason,
                    expected=case.expected,
                    got=outcome,
                )
            )
    return WalkReport(
        path=path,
        cases=met.total(),
        agreed=agreed.total(),
        kinds=tuple((names[kind], met[kind], agreed[kind]) for kind in sorted(names)),
        disagreements=tuple(disagreements),
    )


def validate(path: str | Path) -> WalkReport:
    """Read a file, walk all its cases in one call, compare.

    Raises InputError as :func:`read` does.
    """
    cases = read(path)
    return compare(str(path), cases, walk(cases))
