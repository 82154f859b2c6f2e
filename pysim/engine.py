"""The only importer of ``pysim._csim``: handles, bytes in, counters out. Decides nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pysim._csim import ffi, lib
from pysim.errors import EngineError, StoppedError

if TYPE_CHECKING:
    import numpy as np


def text(value: Any) -> str:
    """Decode a C string of the engine."""
    return bytes(ffi.string(value)).decode()


def _names(name: Callable[[int], Any]) -> dict[str, int]:
    """Ask the engine for a list of names until it answers NULL; name -> number."""
    found: dict[str, int] = {}
    while (value := name(len(found))) != ffi.NULL:
        found[text(value)] = len(found)
    return found


def meanings(family: str) -> dict[str, str]:
    """Return what C says of every ``op``, ``atom`` or ``handler``: name -> one line, in C's order.

    Operands, signs and moments are written once, in csim.h; reference pages ask for them here.
    """
    numbers = _names(getattr(lib, f"csim_{family}_name"))
    said = getattr(lib, f"csim_{family}_text")
    return {name: text(said(number)) for name, number in numbers.items()}


BUILD_ID: Final = text(lib.csim_build_id())
OPS: Final = _names(lib.csim_op_name)
ATOMS: Final = _names(lib.csim_atom_name)
HANDLERS: Final = _names(lib.csim_handler_name)
WALK_FAILS: Final = _names(lib.csim_walk_fail_name)
MARKS_MAX: Final = int(lib.CSIM_MARKS_MAX)
OPS_MAX: Final = int(lib.CSIM_OPS_MAX)
OP_BYTES: Final = int(ffi.sizeof("struct csim_op"))


def regions(levels: int) -> dict[str, tuple[int, int]]:
    """Return the kernel's virtual layout by mode (3 = Sv39 ... 5 = Sv57): name -> [first, end)."""
    made = ffi.new("struct csim_layout *")
    lib.csim_layout(levels, made)
    fields = [name for name, _ in ffi.typeof("struct csim_layout").fields]
    names = [name.removesuffix("_first") for name in fields if name.endswith("_first")]
    return {name: (int(getattr(made, f"{name}_first")), int(getattr(made, f"{name}_end")))
            for name in names}


def check_program(header: bytes, ops: bytes) -> None:
    """Raise EngineError unless clock and explorer would accept these ops."""
    error = ffi.new("struct csim_error *")
    program = ffi.new("struct csim_program *")
    ffi.memmove(program, header, len(header))
    rows = ffi.from_buffer("struct csim_op[]", ops)
    if lib.csim_check_program(program, rows, error) != lib.CSIM_OK:
        raise EngineError(f"{text(error.field)}: {text(error.reason)}")


def layout(struct: str) -> np.dtype[Any]:
    """Return the NumPy dtype of a struct of the door, e.g. ``"struct csim_walk_case"``.

    Names, offsets and sizes come from the declaration itself, so nothing is written twice.
    """
    import numpy as np

    ctype = ffi.typeof(struct)
    formats: list[Any] = []
    for _, field in ctype.fields:
        item, lengths = field.type, []
        if item.kind == "array":
            item, lengths = item.item, [item.length]
        kind = "i" if item.cname.startswith("int") else "u"
        formats.append((f"{kind}{ffi.sizeof(item)}", tuple(lengths)))
    return np.dtype(
        {
            "names": [name for name, _ in ctype.fields],
            "formats": formats,
            "offsets": [field.offset for _, field in ctype.fields],
            "itemsize": ffi.sizeof(ctype),
        }
    )


def walk_batch(cases: bytes, words: bytes) -> bytes:
    """Walk every ``struct csim_walk_case`` over its ``struct csim_word``s, in one call.

    Returns as many ``struct csim_walk_result``, in the order of the cases. Enums and the parts of
    ``words`` that cases name must be in range (:mod:`pysim.walks` checks them).
    """
    given = ffi.from_buffer("struct csim_walk_case[]", cases)
    results = ffi.new("struct csim_walk_result[]", len(given))
    lib.csim_walk_batch(given, len(given), ffi.from_buffer("struct csim_word[]", words), results)
    return bytes(ffi.buffer(results))
# ---- structs: packed by the names C gave its fields -------------------------------------------


def struct_fields(struct: str) -> dict[str, str]:
    """Return the C fields of ``struct csim_NAME`` in order: name -> C type."""
    return {name: field.type.cname for name, field in ffi.typeof(f"struct {struct}").fields}


def pack(struct: str, values: Mapping[str, Any]) -> bytes:
    """Return the bytes of a C struct whose every field is given by name; arrays are sequences.

    Raises EngineError naming the field that is missing, unknown or out of its C type's range.
    """
    made = ffi.new(f"struct {struct} *")
    _fill(made, ffi.typeof(f"struct {struct}"), values, "")
    return bytes(ffi.buffer(made))


def offset(struct: str, field: str) -> int:
    """Return where a field lies in ``struct csim_NAME``, in bytes."""
    return int(ffi.offsetof(f"struct {struct}", field))


def _fill(made: Any, ctype: Any, values: Mapping[str, Any], path: str) -> None:
    names = [name for name, _ in ctype.fields]
    for name in set(names) ^ set(values):
        what = "is missing" if name in names else "is no field of it"
        raise EngineError(f"{ctype.cname}: {path}{name} {what}")
    for name, c_field in ctype.fields:
        value, kind = values[name], c_field.type
        if kind.kind == "struct":
            _fill(getattr(made, name), kind, value, f"{path}{name}.")
        elif kind.kind == "array" and kind.item.kind == "struct":
            array = getattr(made, name)
            _same_length(kind, value, f"{path}{name}")
            for index, item in enumerate(value):
                _fill(array[index], kind.item, item, f"{path}{name}[{index}].")
        else:
            if kind.kind == "array":
                _same_length(kind, value, f"{path}{name}")
            try:
                setattr(made, name, value)
            except (OverflowError, TypeError) as error:
                raise EngineError(f"{ctype.cname}: {path}{name}: {error}") from error


def _same_length(kind: Any, value: Sequence[Any], path: str) -> None:
    if len(value) != kind.length:
        raise EngineError(f"{path}: {len(value)} elements, C has {kind.length}")


TLB_POLICIES: Final = _names(lib.csim_tlb_policy_name)


# ---- one run ----------------------------------------------------------------------------------


class Counter(NamedTuple):
    """One counter of the engine, as C describes it."""

    name: str
    unit: str
    meaning: str


COUNTERS: Final = tuple(
    Counter(name, text(lib.csim_counter_unit(index)), text(lib.csim_counter_meaning(index)))
    for name, index in _names(lib.csim_counter_name).items()
)
VERDICTS: Final = _names(lib.csim_verdict_name)


def _enum(name: str, prefix: str, leave_out: str) -> dict[str, int]:
    """Read a C enum: name without its prefix, in lower case -> number."""
    found = ffi.typeof(f"enum {name}").relements
    return {k.removeprefix(prefix).lower(): v for k, v in found.items() if k != leave_out}


HISTOGRAMS: Final = _enum("csim_histogram", "CSIM_HIST_", "CSIM_HISTOGRAMS")
VIA: Final = _enum("csim_via", "CSIM_VIA_", "")
PTE_VIA: Final = _enum("csim_pte_via", "CSIM_PTE_", "")
ACCESSES: Final = {"load": 0, "store": 1, "fetch": 2}
SIMD: Final = _enum("csim_simd", "CSIM_SIMD_", "CSIM_SIMD_PATHS")
ITEMS: Final = _enum("csim_item_kind", "CSIM_ITEM_", "CSIM_ITEM_KINDS")
ITEM_FLAGS: Final = _enum("csim_item_flag", "CSIM_ITEM_", "")
HARTS_MAX: Final = int(lib.CSIM_HARTS_MAX)
PAGE_LEVELS: Final = int(lib.CSIM_SIZES)
NAPOT: Final = int(lib.CSIM_NAPOT)  # stands among the levels that an array holds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """One run, whole, as the plain bytes that cross the door.

    ``params`` is a struct csim_params, ``header`` a struct csim_program, ``ops``, ``items`` and
    ``gates`` arrays of struct csim_op, struct csim_item and uint32_t (gate 0 is unused).
    """

    params: bytes = dataclasses.field(repr=False)
    header: bytes = dataclasses.field(repr=False)
    ops: bytes = dataclasses.field(repr=False)
    items: bytes = dataclasses.field(repr=False, default=b"")
    gates: bytes = dataclasses.field(repr=False, default=b"")

    @property
    def parts(self) -> tuple[bytes, ...]:
        """The fields in their order: params, header, ops, items, gates."""
        return self.params, self.header, self.ops, self.items, self.gates

    @classmethod
    def of(cls, parts: tuple[bytes, ...]) -> Question:
        """Return the question of these parts."""
        params, header, ops, items, gates = parts
        return cls(params=params, header=header, ops=ops, items=items, gates=gates)

    @cached_property
    def key(self) -> str:
        """Identity of the run and of its result: SHA-256 over the build id and every part.

        Each part counts by its own SHA-256, so that parts which many questions share are hashed
        once; see ``digest``.
        """
        parts = (self.header, self.ops, self.items, self.gates)
        return key_of(self.params, b"".join(digest(part) for part in parts))


@lru_cache(maxsize=4096)
def digest(part: bytes) -> bytes:
    """Return the SHA-256 of a part of questions."""
    return hashlib.sha256(part).digest()


_BUILD: Final = hashlib.sha256(BUILD_ID.encode()).digest()


def key_of(params: bytes, digests: bytes) -> str:
    """Return the key of a question of these parameters; ``digests`` are those of its other parts.

    The parts' order is header, ops, items, gates.
    """
    return hashlib.sha256(_BUILD + hashlib.sha256(params).digest() + digests).hexdigest()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one run left: a verdict, and counters that mean something when it is ``ran``.

    ``histograms`` map the smallest value of a bucket (cycles) to its count; empty buckets are left
    out. A verdict other than ``ran`` says at which hart, cycle and address the run ended.
    """

    verdict: str
    verdict_hart: int
    verdict_at_cycles: int
    verdict_va: int
    counters: dict[str, int]
    histograms: dict[str, dict[int, int]]

    def record(self) -> bytes:
        """Return the canonical JSON of the result: equal results are equal bytes."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_record(cls, record: bytes) -> Result:
        """Read what ``record`` wrote. Raises EngineError when it is something else."""
        try:
            values = json.loads(record)
            histograms = {
                name: {int(floor): int(count) for floor, count in buckets.items()}
                for name, buckets in values.pop("histograms").items()
            }
            return cls(histograms=histograms, **values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise EngineError(f"not the record of a run: {error}") from error


class Stop:
    """A flag that ends a run from another thread or a signal handler."""

    def __init__(self) -> None:
        self._flag = ffi.new("int *")

    def set(self) -> None:
        """Ask every run that was given this flag to end."""
        self._flag[0] = 1

    def is_set(self) -> bool:
        """Tell whether somebody did."""
        return bool(self._flag[0])

    @property
    def pointer(self) -> Any:
        """The C flag, for the engine."""
        return self._flag


def histogram_floor(bucket: int) -> int:
    """Return the smallest value of a bucket: 16 buckets per power of two, exact below 16."""
    return int(lib.csim_histogram_floor(bucket))


def _view(ctype: str, data: bytes | memoryview, *, count: int | None = None) -> Any:
    """Return the bytes as a C array: whole elements, and as many as C is going to read."""
    size = ffi.sizeof(ctype)
    found, rest = divmod(len(data), size)
    if rest or (count is not None and found != count):
        wanted = "whole elements" if count is None else f"{count} of them"
        raise EngineError(f"{len(data)} bytes of {ctype} ({size} each): {wanted} wanted")
    return ffi.from_buffer(f"{ctype}[]", data)


@contextlib.contextmanager
def _created(question: Question) -> Iterator[Any]:
    """Hold a simulator of the question. Raises EngineError with the field the engine refused."""
    error = ffi.new("struct csim_error *")
    handle = ffi.new("struct csim **")
    program = _view("struct csim_program", question.header, count=1)
    items = _view("struct csim_item", question.items)
    gates = _view("uint32_t", question.gates)
    status = lib.csim_create(
        _view("struct csim_params", question.params, count=1),
        program,
        _view("struct csim_op", question.ops, count=program[0].ops_nr),
        items if len(items) else ffi.NULL, len(items),
        gates if len(gates) else ffi.NULL, len(gates),
        handle, error,
    )
    if status == lib.CSIM_NO_MEMORY:
        raise EngineError("no memory: the run does not fit")
    if status != lib.CSIM_OK:
        raise EngineError(f"{text(error.field)}: {text(error.reason)}")
    try:
        yield handle[0]
    finally:
        lib.csim_destroy(handle[0])


def _run(simulator: Any, stop: Stop | None = None) -> Any:
    """Run a simulator to its end or verdict; return its struct csim_result, which is Python's."""
    result = ffi.new("struct csim_result *")
    status = lib.csim_run(simulator, stop.pointer if stop else ffi.NULL, result)
    if status == lib.CSIM_STOPPED:
        raise StoppedError("the run was stopped before its end")
    if status != lib.CSIM_OK:
        raise EngineError(f"the run ended with status {status}")
    return result


def simulate(question: Question, *, stop: Stop | None = None) -> Result:
    """Run one question to its end or verdict; the C call holds no GIL.

    Raises EngineError (a field the engine refused, or no memory) and StoppedError.
    """
    with _created(question) as simulator:
        result = _run(simulator, stop)
    return _result(result)


class Packed(NamedTuple):
    """A record, and its counters again as u64 in the record's order, RECORD_NAMES."""

    record: bytes
    counters: bytes


def record(question: Question, *, stop: Stop | None = None) -> bytes:
    """Run one question and return its record: the bytes of ``simulate(question).record()``.

    Raises as ``simulate`` does.
    """
    return packed_record(question, stop=stop).record


def packed_record(question: Question, *, stop: Stop | None = None) -> Packed:
    """Run one question and return its record with its counters.

    Written from the engine's struct without the objects between: a sweep does this for every run.
    Raises as ``simulate`` does.
    """
    with _created(question) as simulator:
        result = _run(simulator, stop)
    counters = array("Q", bytes(ffi.buffer(ffi.addressof(result, "counters"))))
    ordered = array("Q", [counters[at] for at in _COUNTERS_SORTED])
    histograms = ",".join(
        f'"{name}":{{{_buckets(result.histogram[index])}}}' for name, index in _HISTOGRAMS_SORTED)
    written = _RECORD % (*ordered, histograms, text(lib.csim_verdict_name(result.verdict)),
                         result.verdict_at_cycles, result.verdict_hart, result.verdict_va)
    return Packed(written.encode(), ordered.tobytes())


def _buckets(histogram: Any) -> str:
    """Return the counts that are not 0 as JSON, smallest bucket first."""
    first, end = lib.csim_histogram_first(histogram), lib.csim_histogram_end(histogram)
    counts = array("Q", ffi.buffer(histogram)[first * 8:end * 8])
    return ",".join(f'"{_FLOORS[bucket]}":{count}'
                    for bucket, count in enumerate(counts, first) if count)


class Logged(NamedTuple):
    """One entry of the event log; ``kind`` is a name of LOG_KINDS, which say what is in it.

    ``at_cycles`` counts from the start of the run; the rest is as csim.h says of each kind.
    """

    at_cycles: int
    hart: int
    kind: str
    va: int
    value: int
    detail: int


LOG_KINDS: Final = {
    name: text(lib.csim_log_kind_text(number))
    for name, number in _names(lib.csim_log_kind_name).items()
}
_LOG_NAMES: Final = tuple(LOG_KINDS)


def _logged(entry: Any) -> Logged:
    """Return a struct csim_log_entry in Python's words."""
    return Logged(entry.at_cycles, entry.hart, _LOG_NAMES[entry.kind], entry.va, entry.value,
                  entry.detail)


def logged(question: Question, *, entries_max: int = 1_000_000
           ) -> tuple[Result, list[Logged]]:
    """Run one question and return what every hart did, in the order it happened.

    The result is that of ``simulate``. Raises EngineError as it does, and when the run had more
    than ``entries_max`` entries: a log is whole or none.
    """
    with _created(question) as simulator:
        entries = ffi.new("struct csim_log_entry[]", entries_max)
        lib.csim_log(simulator, entries, entries_max)
        result = _run(simulator)
        number = int(lib.csim_logged(simulator))
    if number > entries_max:
        raise EngineError(f"the run has {number:,} log entries, room was for {entries_max:,}")
    return _result(result), [_logged(entry) for entry in entries[0:number]]


def last_logged(question: Question, entries_nr: int = 20) -> tuple[Result, list[Logged]]:
    """Run one question and return the last things that any hart did, in the order they happened.

    The result is that of ``simulate``; raises EngineError as it does.
    """
    with _created(question) as simulator:
        entries = ffi.new("struct csim_log_entry[]", entries_nr)
        lib.csim_log_last(simulator, entries, entries_nr)
        result = _run(simulator)
        number = int(lib.csim_logged(simulator))
    order = (entries[at % entries_nr] for at in range(max(0, number - entries_nr), number))
    return _result(result), [_logged(entry) for entry in order]


def per_hart(question: Question) -> tuple[Result, list[dict[str, int]]]:
    """Run one question and return each hart's part of the counters; the parts add up.

    Counters of the whole run (stack_cache_hits, work_digest, events) are 0 in the parts. The result
    is that of ``simulate``; raises EngineError as it does.
    """
    with _created(question) as simulator:
        result = _run(simulator)
        params = ffi.from_buffer("struct csim_params *", question.params)
        parts = ffi.new("struct csim_counters[]", params.harts)
        for hart in range(params.harts):
            lib.csim_hart_counters(simulator, hart, ffi.addressof(parts, hart))
    return _result(result), [
        {c.name: int(getattr(part, c.name)) for c in COUNTERS} for part in parts]


def items(question: Question) -> bytes:
    """Return the work of a run, drawn and given: struct csim_item by hart, then by place.

    Raises EngineError when the engine refuses the question.
    """
    with _created(question) as simulator:
        number = int(lib.csim_items(simulator, ffi.NULL, 0))
        found = ffi.new("struct csim_item[]", number)
        lib.csim_items(simulator, found, number)
        return bytes(ffi.buffer(found))


def _result(result: Any) -> Result:
    histograms: dict[str, dict[int, int]] = {}
    for name, index in HISTOGRAMS.items():
        counts = ffi.unpack(result.histogram[index], lib.CSIM_HISTOGRAM_BUCKETS)
        histograms[name] = {
            histogram_floor(bucket): count for bucket, count in enumerate(counts) if count
        }
    return Result(
        verdict=text(lib.csim_verdict_name(result.verdict)),
        verdict_hart=int(result.verdict_hart),
        verdict_at_cycles=int(result.verdict_at_cycles),
        verdict_va=int(result.verdict_va),
        counters={c.name: int(getattr(result.counters, c.name)) for c in COUNTERS},
        histograms=histograms,
    )


_FLOORS: Final = tuple(histogram_floor(bucket)
                       for bucket in range(int(lib.CSIM_HISTOGRAM_BUCKETS)))
_HISTOGRAMS_SORTED: Final = sorted(HISTOGRAMS.items())
_OFFSETS: Final = {name: field.offset // 8
                   for name, field in ffi.typeof("struct csim_counters").fields}
_COUNTERS_SORTED: Final = [_OFFSETS[name] for name in sorted(_OFFSETS)]
RECORD_NAMES: Final = ",".join(sorted(_OFFSETS))
"""The counters of a record in its order."""
_RECORD: Final = (
    '{"counters":{' + ",".join(f'"{name}":%d' for name in sorted(_OFFSETS)) + '},"histograms":{%s},'
    '"verdict":"%s","verdict_at_cycles":%d,"verdict_hart":%d,"verdict_va":%d}')


# ---- one hart's translation alone ---------------------------------------------------------------


def check_machine(machine: bytes) -> None:
    """Raise EngineError unless the translation side of a ``struct csim_machine`` is possible."""
    error = ffi.new("struct csim_error *")
    if lib.csim_check_machine(ffi.from_buffer("struct csim_machine *", machine), error):
        raise EngineError(f"{text(error.field)}: {text(error.reason)}")


def mmu_run(machine: bytes, hart: int, seed: int, steps: bytes) -> tuple[bytes, dict[str, int]]:
    """Drive one hart's translation over ``struct csim_mmu_step``s, on an empty table.

    Returns as many ``struct csim_mmu_answer`` as steps, and the counters. Raises EngineError when
    the machine or a step is impossible.
    """
    error = ffi.new("struct csim_error *")
    counters = ffi.new("struct csim_counters *")
    given = ffi.from_buffer("struct csim_mmu_step[]", steps)
    answers = ffi.new("struct csim_mmu_answer[]", len(given))
    hardware = ffi.from_buffer("struct csim_machine *", machine)
    if lib.csim_mmu_run(hardware, hart, seed, given, len(given), answers, counters, error):
        raise EngineError(f"{text(error.field)}: {text(error.reason)}")
    found = {c.name: int(getattr(counters, c.name)) for c in COUNTERS}
    return bytes(ffi.buffer(answers)), found


class Streamed(NamedTuple):
    """What a stream of references took, in cycles, and how many of them were not translated.

    ``batched`` of them went through the caches level by level, the rest one by one.
    """

    cycles: int
    faults: int
    batched: int


class Mmu:
    """One hart's translation over a table of its own, for as long as the object is held.

    ``stores`` and ``tables`` are the PTEs and the page tables that all its steps together may
    make. Raises EngineError when the machine is impossible or asks for more than fits.
    """

    def __init__(
        self, machine: bytes, *, hart: int = 0, seed: int = 0, stores: int, tables: int
    ) -> None:
        self._error = ffi.new("struct csim_error *")
        handle = ffi.new("struct csim_mmu **")
        hardware = _view("struct csim_machine", machine, count=1)
        self._check(
            lib.csim_mmu_create(hardware, hart, seed, stores, tables, handle, self._error)
        )
        self._handle = ffi.gc(handle[0], lib.csim_mmu_destroy)

    def _check(self, status: int) -> None:
        if status == lib.CSIM_NO_MEMORY:
            raise EngineError("no memory for the page tables")
        if status != lib.CSIM_OK:
            raise EngineError(f"{text(self._error.field)}: {text(self._error.reason)}")

    def steps(self, steps: bytes) -> bytes:
        """Run ``struct csim_mmu_step``s; return as many ``struct csim_mmu_answer``."""
        given = _view("struct csim_mmu_step", steps)
        answers = ffi.new("struct csim_mmu_answer[]", len(given))
        self._check(
            lib.csim_mmu_steps(self._handle, given, len(given), answers, self._error)
        )
        return bytes(ffi.buffer(answers))

    def stream(
        self, addresses: Any, *, access: str = "load", user: bool = False, asid: int = 0,
        simd: str = "best",
    ) -> Streamed:
        """Make one access of a kind to each address (a buffer of uint64), in their order.

        ``simd`` names the vector instructions to use, of :data:`SIMD`; every path returns the
        same. Raises EngineError for one that this processor has not.
        """
        how = ffi.new(
            "struct csim_mmu_stream *",
            {"asid": asid, "access": ACCESSES[access], "user": user, "simd": SIMD[simd]},
        )
        out = ffi.new("struct csim_mmu_streamed *")
        whole = memoryview(addresses)
        vas = _view("uint64_t", whole.cast("B") if whole.nbytes else b"")
        self._check(
            lib.csim_mmu_stream(self._handle, how, vas, len(vas), out, self._error)
        )
        return Streamed(int(out.cycles), int(out.faults), int(out.batched))

    def counters(self) -> dict[str, int]:
        """Return all counters since it was made."""
        found = ffi.new("struct csim_counters *")
        lib.csim_mmu_counters(self._handle, found)
        return {c.name: int(getattr(found, c.name)) for c in COUNTERS}


# ---- random reads over a footprint --------------------------------------------------------------


class FootprintCost(NamedTuple):
    """What reads over a buffer cost; the fields are those of struct csim_footprint_cost."""

    cycles: int
    translation_cycles: int
    l1_misses: int
    l2_misses: int
    pte_reads: tuple[int, ...]
    data_reads: tuple[int, ...]


def footprint(machine: bytes, question: Mapping[str, int]) -> FootprintCost:
    """Read a buffer at random, given a ``struct csim_footprint`` by its field names.

    Raises EngineError when the machine or the question is impossible.
    """
    error = ffi.new("struct csim_error *")
    cost = ffi.new("struct csim_footprint_cost *")
    hardware = ffi.from_buffer("struct csim_machine *", machine)
    asked = ffi.from_buffer("struct csim_footprint *", pack("csim_footprint", question))
    if lib.csim_footprint_run(hardware, asked, cost, error):
        raise EngineError(f"{text(error.field)}: {text(error.reason)}")
    return FootprintCost(
        cycles=int(cost.cycles), translation_cycles=int(cost.translation_cycles),
        l1_misses=int(cost.l1_misses), l2_misses=int(cost.l2_misses),
        pte_reads=tuple(map(int, cost.pte_reads)), data_reads=tuple(map(int, cost.data_reads)))


# ---- every interleaving ------------------------------------------------------------------------


class ExploreStep(NamedTuple):
    """One transition of a counterexample; the fields are those of struct csim_explore_step."""

    hart: int
    kind: int
    arg: int
    phase: int
    action: int
    frames: int
    page: int
    value: int
    place: int
    sub: int
    user: int
    property: int
    op: int


class Explored(NamedTuple):
    """The answer of one search; the fields are those of struct csim_explore_result.

    ``trace`` is the counterexample, empty unless the verdict is ``refuted``; ``rests`` says where
    each hart rests at its end, of a deadlock. ``s5_length`` None: no state breaks S5.
    """

    verdict: str
    property: str
    length: int
    limit: str
    depth: int
    s5_length: int | None
    symmetric: int
    eager: bool
    states: int
    transitions: int
    trace: tuple[ExploreStep, ...]
    rests: tuple[ExploreStep, ...]


EXPLORE_PROPERTIES: Final = {
    text(lib.csim_explore_property_name(number)): text(lib.csim_explore_property_text(number))
    for number in range(1, lib.CSIM_EXPLORE_PROPERTIES_NR)
}
EXPLORE_PHASES: Final = _names(lib.csim_explore_phase_name)
EXPLORE_KINDS: Final = _enum("csim_explore_kind", "CSIM_EXPLORE_", "")
EXPLORE_PLACES: Final = _enum("csim_explore_place", "CSIM_EXPLORE_", "")
_EXPLORE_VERDICTS: Final = ("verified", "refuted", "unknown")
_EXPLORE_LIMITS: Final = ("", "states", "memory", "stores", "interrupted")


class Explorer:
    """A ``struct csim_explore_question``, given by field names, checked and ready to be searched.

    Fields that are left out are 0. Use it as a context: its memory is given back at the end. Raises
    EngineError when the explorer refuses the question.
    """

    def __init__(self, question: Mapping[str, Any], header: bytes, ops: bytes) -> None:
        error = ffi.new("struct csim_error *")
        handle = ffi.new("struct csim_explore **")
        program = _view("struct csim_program", header, count=1)
        rows = _view("struct csim_op", ops, count=program[0].ops_nr)
        try:
            asked = ffi.new("struct csim_explore_question *", dict(question))
        except (OverflowError, TypeError, IndexError, KeyError) as wrong:
            raise EngineError(f"csim_explore_question: {wrong}") from wrong
        if lib.csim_explore_create(asked, program, rows, handle, error) != lib.CSIM_OK:
            raise EngineError(f"{text(error.field)}: {text(error.reason)}")
        self._handle = handle[0]
        self._harts = int(asked.harts)

    def __enter__(self) -> Explorer:
        return self

    def __exit__(self, *_: object) -> None:
        lib.csim_explore_destroy(self._handle)
        self._handle = ffi.NULL

    def search(self, *, stop: Stop | None = None) -> Explored:
        """Search every interleaving until a verdict or a limit; the C call holds no GIL."""
        result = ffi.new("struct csim_explore_result *")
        lib.csim_explore_run(self._handle, stop.pointer if stop else ffi.NULL, result)
        room = result.length + self._harts
        steps = ffi.new("struct csim_explore_step[]", room)
        length = lib.csim_explore_trace(self._handle, steps, room)
        told = [
            ExploreStep(*(int(getattr(steps[i], name)) for name in ExploreStep._fields))
            for i in range(room if length else 0)
        ]
        deadlock = length > 0 and result.property == lib.CSIM_EXPLORE_DL
        return Explored(
            verdict=_EXPLORE_VERDICTS[result.verdict],
            property=text(lib.csim_explore_property_name(result.property)),
            length=int(result.length),
            limit=_EXPLORE_LIMITS[result.limit],
            depth=int(result.depth),
            s5_length=None if result.s5_length == 2**32 - 1 else int(result.s5_length),
            symmetric=int(result.symmetric),
            eager=bool(result.eager),
            states=int(result.states),
            transitions=int(result.transitions),
            trace=tuple(told[:length]),
            rests=tuple(told[length:]) if deadlock else (),
        )

    def follow(
        self, moves: Sequence[tuple[int, int, int]]
    ) -> dict[tuple[int, int, int], str] | None:
        """Take moves (hart, kind, argument) from the start and return what can happen next.

        The answer maps each transition to the property it breaks ("" for none); None when a move is
        not possible where it stands, or breaks a property itself.
        """
        given = ffi.new("struct csim_explore_move[]", [[*move, 0] for move in moves] or 1)
        room = 1024
        after = ffi.new("struct csim_explore_move[]", room)
        found = lib.csim_explore_follow(self._handle, given, len(moves), after, room)
        if found > room:
            return None
        return {
            (after[i].hart, after[i].kind, after[i].arg):
                text(lib.csim_explore_property_name(after[i].property))
            for i in range(found)
        }


def explore(question: Mapping[str, Any], header: bytes, ops: bytes, *,
            stop: Stop | None = None) -> Explored:
    """Search every interleaving of one question; see ``Explorer``."""
    with Explorer(question, header, ops) as explorer:
        return explorer.search(stop=stop)
