"""The model of a workload: what harts do, in human units; lowered to `struct csim_workload`.

Rates are per second, times in milli- and microseconds, parts are fractions of 1. The machine's
clock turns them into cycles; the engine draws the events themselves, from the seed.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from pysim import ftrace, sourced
from pysim.errors import InputError
from pysim.machines.model import U32, Count, Frozen, complaint
from pysim.workloads import drawn

if TYPE_CHECKING:
    from pysim.machines import Machine

TERA: Final = 10**12  # rates cross the door per 10^12 useful cycles
_U64: Final = 2**64 - 1


def _number(value: object) -> object:
    """Take an int or a float; a whole float is the int, so that 20 and 20.0 are one workload."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise complaint(f"a number is wanted, got {value!r}")
    if value != value or value in (float("inf"), float("-inf")):
        raise complaint(f"a finite number is wanted, got {value!r}")
    return int(value) if value == int(value) else value


Number: TypeAlias = Annotated[int | float, BeforeValidator(_number)]
NonNegative: TypeAlias = Annotated[Number, Field(ge=0)]
Part: TypeAlias = Annotated[Number, Field(ge=0, le=1)]


@lru_cache(maxsize=8192)
def _exact(value: float, scale: int | Fraction) -> int:
    """Scale what a person wrote, exactly as written, and round half to even."""
    return round(Fraction(str(value)) * scale)


class Workload(Frozen):
    """What the harts do, in human units; equal for every policy and machine.

    ``sources`` tells for each field who vouches for its value.
    """

    name: str = Field(description="what tables call it; no part of its identity")
    title: str = Field(default="", description="what it is")
    sources: dict[str, str] = Field(default_factory=dict, repr=False,
                                    description="field -> source")

    kind: Literal["synthetic", "replay"] = Field(
        description="whether the engine draws the mappings or a recorded trace gives them"
    )
    trace: str = Field(
        default="", description="replay: the recorded ftrace text, by path or packaged name, or an "
        "event log (.evt, .evt.gz)"
    )
    window: str = Field(
        default="", description="replay: the workload of an event log that is replayed; empty: all"
    )
    rate_factor: Annotated[Number, Field(ge=1e-6, le=1e6)] = Field(
        default=1, description="how many times faster mappings come: a replay's gaps are divided "
        "by it, a drawn rate is multiplied"
    )
    traced_mhz: Count = Field(
        default=0, description="replay: clock of the traced machine; 0: that of the simulated one, "
        "or what is known of a packaged recording"
    )
    recorded_policy: Literal["", "mark", "preventive"] = Field(
        default="", description="replay: what the traced kernel did; its cost is no useful work"
    )

    duration_ms: NonNegative = Field(
        description="useful time of each hart, milliseconds; a replay's is its recording's: 0"
    )
    vmalloc_per_s: NonNegative = Field(
        description="kernel mappings per second of useful time, whole system, fork stacks included"
    )
    user_faults_per_s: NonNegative = Field(description="user page faults per second, each hart")
    ticks_hz: NonNegative = Field(description="timer interrupts per second, each hart")
    interrupts_per_s: NonNegative = Field(description="device interrupts per second, each hart")
    kernel_trap_fraction: Part = Field(description="ticks and interrupts that hit S-mode")

    stack_fraction: Part = Field(
        description="of mappings: a fork's kernel stack, which asks the stack cache first"
    )
    pages_1_fraction: Part = Field(description="of the other mappings: 1 page of 4 KiB")
    pages_4_fraction: Part = Field(description="of the other mappings: 4 pages")
    pages_16_fraction: Part = Field(description="of the other mappings: 16 pages; the rest: 64")
    lifetime_ms: NonNegative = Field(description="mean time from map to free, milliseconds")
    remote_fraction: Part = Field(description="mappings that another hart uses too")
    touch_delay_us: NonNegative = Field(description="from the map to its first use, microseconds")
    irqs_off_fraction: Part = Field(description="mappings made with interrupts masked")
    stack_cache_slots: Count = Field(description="stacks each hart keeps for the next fork")
    lazy_purge_mib: Count = Field(
        description="freed area gathered before a purge, MiB for each bit of the hart count (fls)"
    )

    file_faults_per_s: NonNegative = Field(
        default=0, description="user faults that install 16 pages of a file, each hart"
    )
    access_flags_per_s: NonNegative = Field(
        default=0, description="access-flag changes of one user page, each hart"
    )
    user_unmaps_per_s: NonNegative = Field(
        default=0, description="munmap and mprotect of user ranges, each hart"
    )
    user_unmap_pages: Annotated[int, Field(strict=True, ge=0, le=1 << 20)] = Field(
        default=1, description="pages of each; 0: the whole address space"
    )
    user_forks_per_s: NonNegative = Field(
        default=0, description="user side of a fork and its exit: copies on write, write "
        "protection, faults; each hart. Its kernel stack is a mapping"
    )
    mm_switches_per_s: NonNegative = Field(
        default=0, description="switches to a drawn address space, each hart"
    )
    address_spaces: Annotated[int, Field(strict=True, ge=1, le=1 << 17)] = Field(
        default=1, description="address spaces that harts switch between"
    )
    modules_per_s: NonNegative = Field(
        default=0, description="modules loaded, and unloaded after their lifetime, whole system"
    )
    bpf_programs_per_s: NonNegative = Field(
        default=0, description="BPF programs loaded and closed, whole system"
    )
    vm_map_rams_per_s: NonNegative = Field(
        default=0, description="vm_map_ram of 1 to 64 pages from a hart's block, whole system"
    )
    percpu_populates_per_s: NonNegative = Field(
        default=0, description="percpu chunks populated and depopulated, whole system"
    )
    ioremaps_per_s: NonNegative = Field(
        default=0, description="device registers mapped for good, whole system"
    )
    huge_maps_per_s: NonNegative = Field(
        default=0, description="vmalloc areas of one 2 MiB leaf, whole system"
    )
    fixmap_fences_per_s: NonNegative = Field(
        default=0, description="fixmap slots set or cleared, each fenced where it is done: early "
        "page tables, patched kernel text; whole system"
    )

    visit_cycles: Annotated[int, Field(strict=True, ge=1, le=U32)] = Field(
        description="useful cycles per page visit (one lookup each)"
    )
    visit_text_fraction: Part = Field(description="page visits: kernel text, fetches")
    visit_linear_fraction: Part = Field(description="page visits: the linear map, data")
    visit_stack_fraction: Part = Field(description="page visits: the current kernel stack")
    visit_module_fraction: Part = Field(
        description="page visits: vmalloc objects this hart has touched; the rest: user pages"
    )
    text_kib: Count = Field(description="footprint of kernel text, KiB")
    linear_kib: Count = Field(description="footprint in the linear map, KiB")
    user_kib: Count = Field(description="footprint of user pages, KiB")
    zipf_exponent: Annotated[Number, Field(ge=0, le=4)] = Field(
        description="Zipf exponent over a footprint's pages"
    )
    speculative_walks_per_mcycle: NonNegative = Field(
        description="wrong-path walks beyond the vmalloc area's end per 10^6 useful cycles, a hart"
    )
    speculative_span_pages: Count = Field(description="how far past the area's end they reach")

    @model_validator(mode="after")
    def _possible(self) -> Workload:
        sums = {
            "visit_module_fraction": ("visit_text_fraction", "visit_linear_fraction",
                                      "visit_stack_fraction", "visit_module_fraction"),
            "pages_16_fraction": ("pages_1_fraction", "pages_4_fraction", "pages_16_fraction"),
        }
        for key, names in sums.items():
            if sum(_exact(getattr(self, name), 1000) for name in names) > 1000:
                raise complaint(f"{' + '.join(names)} is more than 1", key=key)
        for key in ("text_kib", "linear_kib", "user_kib"):
            if getattr(self, key) % 4:
                raise complaint(f"is a multiple of 4, got {getattr(self, key)}", key=key)
        if self.kind == "replay" and self.draws_items:
            rate = next(rate for rate in drawn.RATES if getattr(self, rate))
            raise complaint("a replay's work is its recording's", key=rate)
        if self.window and not self.trace:
            raise complaint("only a replay has a window", key="window")
        if (self.kind == "replay") != bool(self.trace):
            raise complaint("a replay names its trace, and only a replay does", key="trace")
        if (self.kind == "replay") != (self.duration_ms == 0):
            raise complaint("is 0 for a replay, whose recording says how long it is, and more for "
                            "others", key="duration_ms")
        return self

    def provenance(self, field: str) -> str:
        """Return who vouches for a field: a source, or "assumed: why".

        Raises InputError when there is no such field.
        """
        if field not in Workload.model_fields:
            raise InputError(f"workload {self.name}", field, "no such field", got=field,
                             nearest=Workload.model_fields)
        return self.sources.get(field, "given in a program")

    def override(self, changes: Mapping[str, Any], *, where: str = "override") -> Workload:
        """Return the workload with some fields changed; ``where`` is their source.

        Raises InputError for an unknown field or an impossible value.
        """
        values = self.model_dump() | dict(changes)
        values["sources"] = self.sources | dict.fromkeys(changes, where)
        return _validated(values, lambda key: where)

    # ---- identity ----

    @property
    def canonical(self) -> str:
        """The fields that decide what happens, as canonical JSON: names and sources are not in it.

        A replay's trace counts by its bytes, not by its path. Raises InputError when it is gone.
        """
        fields = self.model_dump(exclude={"name", "title", "sources"})
        for name in _LATER:      # fields that came later keep the seeds of workloads without them
            if fields[name] == Workload.model_fields[name].default:
                del fields[name]
        if self.trace:
            fields["trace"] = self._trace_digest()
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))

    def _trace_digest(self) -> str:
        try:
            path = ftrace.find(self.trace)
            stat = path.stat()
            return _digest(str(path), stat.st_mtime_ns, stat.st_size)
        except OSError as error:
            where = f"workload {self.name}"
            raise InputError(where, "trace", f"cannot be read: {error}") from error

    def trace_bytes(self) -> bytes:
        """Return the trace file as it lies on disk. Raises InputError when it cannot be read."""
        try:
            return ftrace.find(self.trace).read_bytes()
        except OSError as error:
            where = f"workload {self.name}"
            raise InputError(where, "trace", f"cannot be read: {error}") from error

    def seed(self, root_seed: int, replicate: int) -> int:
        """Return the seed of every draw: a hash of root seed, workload and replicate alone.

        First 8 bytes, little endian, of SHA-256 over ["seed/v1", root seed, fields, replicate].
        Policy, machine and number of harts are not in it, so policies compare on equal draws.
        """
        scope = json.dumps(["seed/v1", root_seed, self.canonical, replicate],
                           separators=(",", ":"))
        return int.from_bytes(hashlib.sha256(scope.encode()).digest()[:8], "little")

    # ---- what crosses the door ----

    def c_values(self, machine: Machine, seed: int, harts: int) -> dict[str, int]:
        """Return the fields of struct csim_workload on this machine's clock.

        Raises InputError when a time or a rate does not fit its C field.
        """
        hz = machine.mhz * 10**6
        values = {
            "seed": seed,
            "synthetic": int(self.kind == "synthetic"),
            "visit_cycles": self.visit_cycles,
            "speculative_span_pages": self.speculative_span_pages,
            "stack_cache_slots": self.stack_cache_slots,
        }
        for field, (target, scale, most) in self._scaled(hz).items():
            drawn = field == "vmalloc_per_s" and self.kind == "synthetic"
            factor = Fraction(str(self.rate_factor)) if drawn else 1
            number = _exact(getattr(self, field), scale * factor)
            if number > most:
                raise InputError(f"workload {self.name}", field,
                                 f"{getattr(self, field)} is more than {most} as {target} at "
                                 f"{machine.mhz} MHz")
            values[target] = number
        if self.kind == "replay":
            values["useful_cycles"] = max(self.visit_cycles, self._replay(machine, harts)[2])
        if values["useful_cycles"] < self.visit_cycles:
            raise InputError(f"workload {self.name}", "duration_ms",
                             f"{values['useful_cycles']} cycles at {machine.mhz} MHz are less than "
                             f"one page visit")
        return values

    @staticmethod
    def _scaled(hz: int) -> dict[str, tuple[str, int | Fraction, int]]:
        """Return per field: C's name, the factor to its unit, and the largest value it takes."""
        per_tera = Fraction(TERA, hz)
        rates = {
            "vmalloc_per_s": "maps_per_tcycle",
            "user_faults_per_s": "user_faults_per_tcycle",
            "ticks_hz": "ticks_per_tcycle",
            "interrupts_per_s": "interrupts_per_tcycle",
        }
        parts = ("kernel_trap", "stack", "pages_1", "pages_4", "pages_16", "remote", "irqs_off",
                 "visit_text", "visit_linear", "visit_stack", "visit_module")
        return {
            "duration_ms": ("useful_cycles", Fraction(hz, 1000), 2**62),
            "lifetime_ms": ("lifetime_cycles", Fraction(hz, 1000), U32),
            "touch_delay_us": ("touch_delay_cycles", Fraction(hz, 10**6), U32),
            **{field: (target, per_tera, _U64) for field, target in rates.items()},
            "speculative_walks_per_mcycle": ("speculative_walks_per_tcycle", 10**6, _U64),
            **{f"{part}_fraction": (f"{part}_permille", 1000, 1000) for part in parts},
            "zipf_exponent": ("zipf_permille", 1000, U32),
            "text_kib": ("text_pages", Fraction(1, 4), U32),
            "linear_kib": ("linear_pages", Fraction(1, 4), U32),
            "user_kib": ("user_pages", Fraction(1, 4), U32),
            "lazy_purge_mib": ("lazy_pages_per_log2", 256, U32),
        }

    @property
    def draws_items(self) -> bool:
        """Whether some of its events are drawn as items: then they depend on the seed."""
        return drawn.wanted(self)

    def items(self, machine: Machine, harts: int, seed: int = 0) -> tuple[bytes, bytes]:
        """Return work as arrays of struct csim_item and of gates.

        Recorded, or drawn from the seed where `pysim.workloads.drawn` draws (``draws_items``);
        empty if the engine draws all of it.
        """
        if self.kind == "synthetic":
            return drawn.build(self, machine, harts, seed)
        made = self._replay(machine, harts)
        return made[0], made[1]

    def notes(self, machine: Machine, harts: int) -> tuple[str, ...]:
        """Return what turning a recording into work assumed; nothing if synthetic."""
        return self._replay(machine, harts)[3] if self.kind == "replay" else ()

    def _replay(self, machine: Machine, harts: int) -> tuple[bytes, bytes, int, tuple[str, ...]]:
        replay = importlib.import_module("pysim.workloads.replay")  # it imports this module
        made = replay.of(self, machine, harts)
        return made.items, made.gates, made.useful_cycles, made.notes


_LATER: Final = (*drawn.RATES, "user_unmap_pages", "address_spaces", "window")


@lru_cache(maxsize=256)
def _digest(path: str, mtime_ns: int, size: int) -> str:
    """Return the SHA-256 of a file, read again only when its time or size has moved."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _validated(values: Mapping[str, Any], where: Any) -> Workload:
    try:
        return Workload.model_validate(values)
    except ValidationError as error:
        raise sourced.refused(error, where, Workload) from None


_UNITS: Final = {
    "_per_s": "1/s", "_hz": "1/s", "_ms": "ms", "_us": "us", "_fraction": "of 1", "_kib": "KiB",
    "_mib": "MiB", "_pages": "pages", "_spaces": "spaces", "_cycles": "cycles", "_slots": "stacks",
    "_per_mcycle": "1/10^6 cycles", "_exponent": "exponent", "_factor": "times", "_mhz": "MHz",
    "_policy": "name", "kind": "name", "trace": "path", "window": "name",
}


def unit(field: str) -> str:
    """Return the unit of a field: its name's ending, as the house rule says."""
    return next((unit for ending, unit in _UNITS.items() if field.endswith(ending)), "")


def build(facts: sourced.Facts, where: str) -> Workload:
    """Validate facts as a workload. Raises InputError with the file that wrote the bad key."""
    values = facts.nested() | facts.header | {"sources": dict(facts.sources)}
    return _validated(values, lambda key: facts.wrote(key, where))
