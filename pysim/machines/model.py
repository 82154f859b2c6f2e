"""The model of a machine: what `struct csim_machine` holds, in the words people write.

Field names and units are those of csim.h. Where C holds a number that stands for a name (a
replacement policy, a path to other harts), people write the name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pysim import engine, sourced
from pysim.errors import InputError

U32: Final = 2**32 - 1
LINE_BYTES: Final = 64   # of a cache line; 8 PTEs
WAYS_MAX: Final = 64     # of a TLB or cache; tlb_policy.h
NEGATIVE_GLOBAL: Final = ("never", "from-pte", "always")  # csim.h, negative_global: 0, 1, 2
SIZES: Final = ("4 KiB", "2 MiB", "1 GiB", "512 GiB", "256 TiB")  # of a leaf, by level
_MODES: Final = {"sv39": 3, "sv48": 4, "sv57": 5}


def complaint(reason: str, *, key: str = "", got: str = "", nearest: Iterable[str] = ()) -> Any:
    """Return the error a validator raises; ``sourced.refused`` turns it into an InputError."""
    context = {"key": key, "got": got or None, "nearest": tuple(nearest)}
    return PydanticCustomError("fencelab", reason.replace("{", "{{").replace("}", "}}"), context)


def _flag(value: object) -> object:
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise complaint(f"a flag is true or false (1 or 0), got {value!r}")


def _flag_or_unknown(value: object) -> object:
    return None if value in (None, "unknown") else _flag(value)


def _lines(value: object) -> object:
    return int(value) if isinstance(value, bool) else value


def _mode(value: object) -> object:
    return _MODES.get(value.lower(), value) if isinstance(value, str) else value


def _size(value: object) -> object:
    return engine.NAPOT if value == "napot" else value


def _name(names: tuple[str, ...], value: object) -> object:
    if value in names:
        return value
    raise complaint(f"is one of {', '.join(names)}, got {value!r}", got=str(value), nearest=names)


Flag: TypeAlias = Annotated[bool, BeforeValidator(_flag)]
FlagOrUnknown: TypeAlias = Annotated[bool | None, BeforeValidator(_flag_or_unknown)]
Count: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=U32)]
Lines: TypeAlias = Annotated[int, BeforeValidator(_lines), Field(strict=True, ge=0, le=8)]
Permille: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=1000)]


Size: TypeAlias = Annotated[
    int, BeforeValidator(_size), Field(strict=True, ge=0, le=engine.NAPOT)
]


class Frozen(BaseModel):
    """What every model of ours is: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Array(Frozen):
    """One array of a translation cache; ``ways = 0`` (or the word "absent"): there is none."""

    sets: Count = Field(default=0, description="sets, a power of two; 1 = fully associative")
    ways: Count = Field(default=0, description="tags in a set")
    sectors: Count = Field(default=1, description="neighbouring pages under one tag, power of two")
    levels: tuple[Size, ...] = Field(
        default=(), description="levels it holds: 0 = 4 KiB leaves, 1 = 2 MiB; pointers in a pwc; "
        "\"napot\" = 64 KiB leaves as one entry"
    )
    policy: Annotated[str, BeforeValidator(partial(_name, tuple(engine.TLB_POLICIES)))] = Field(
        default="lru", description="who leaves, a replacement policy's name"
    )

    @model_validator(mode="before")
    @classmethod
    def _absent(cls, value: Any) -> Any:
        if value == "absent":
            return {}
        if not isinstance(value, Mapping | Array):
            raise complaint(f'is a table of sets, ways, ... or "absent", got {value!r}')
        return value

    @model_validator(mode="after")
    def _possible(self) -> Array:
        if self.ways == 0 and self.sets == 0:
            return self
        if self.ways == 0:
            raise complaint(f"0 ways in {self.sets} sets: an array that is there has a way, one "
                            "that is not has 0 sets", key="ways")
        for name, value in (("sets", self.sets), ("sectors", self.sectors)):
            if value & (value - 1) or value == 0:
                raise complaint(f"is a power of two, got {value}", key=name)
        for name, value, most, why in (
            ("sectors", self.sectors, 8, "the PTEs of a 64-byte line"),
            ("ways", self.ways, WAYS_MAX, "the engine's replacement trees hold no more"),
            ("sets", self.sets, 2**20, "far beyond any core"),
        ):
            if value > most:
                raise complaint(f"at most {most} ({why}), got {value}", key=name)
        if not self.levels or list(self.levels) != sorted(set(self.levels)):
            raise complaint(f"is a rising list of levels, got {list(self.levels)}", key="levels")
        return self

    @property
    def entries(self) -> int:
        """Translations it can hold: sets x ways x sectors."""
        return self.sets * self.ways * self.sectors

    def __str__(self) -> str:
        if self.ways == 0:
            return "-"
        shape = f"{self.ways} FA" if self.sets == 1 else f"{self.sets}x{self.ways}"
        return shape if self.sectors == 1 else f"{shape} x{self.sectors} sectors"

    def c_values(self) -> dict[str, int]:
        """Return the fields of struct csim_array; all 0 when absent."""
        if self.ways == 0:
            return dict.fromkeys(engine.struct_fields("csim_array"), 0)
        mask = sum(1 << level for level in self.levels)
        return {"sets": self.sets, "ways": self.ways, "sectors": self.sectors, "levels": mask,
                "policy": engine.TLB_POLICIES[self.policy]}


class Tlb(Frozen):
    """The two arrays of a TLB, in the order of csim.h."""

    base: Array = Field(default=Array(), description="the array 4 KiB leaves go to")
    superpages: Array = Field(default=Array(), description="an array of its own for superpages")

    @model_validator(mode="before")
    @classmethod
    def _absent(cls, value: Any) -> Any:
        return {} if value == "absent" else value

    @model_validator(mode="after")
    def _each_level_once(self) -> Tlb:
        both = set(self.base.levels) & set(self.superpages.levels)
        if both and self.base.ways and self.superpages.ways:
            raise complaint(f"both arrays hold level {min(both)}: a leaf would have two homes",
                            key="superpages.levels")
        return self

    def __str__(self) -> str:
        return f"{self.base} + {self.superpages}" if self.superpages.ways else str(self.base)


class Pwc(Frozen):
    """The page-walk cache: one array for every level, or one per level of pointers (1 to 4)."""

    unified: Array = Field(default=Array(), description="pointers of every level in one array")
    level1: Array = Field(default=Array(), description="pointers to tables of 4 KiB leaves")
    level2: Array = Field(default=Array(), description="pointers to tables of level 1")
    level3: Array = Field(default=Array(), description="pointers to tables of level 2")
    level4: Array = Field(default=Array(), description="pointers to tables of level 3")

    @model_validator(mode="before")
    @classmethod
    def _absent(cls, value: Any) -> Any:
        return {} if value == "absent" else value

    @model_validator(mode="after")
    def _one_kind(self) -> Pwc:
        by_level = (self.level1, self.level2, self.level3, self.level4)
        if self.unified.ways and any(array.ways for array in by_level):
            raise complaint("a page-walk cache is unified or has an array per level, not both")
        if engine.NAPOT in self.unified.levels:
            raise complaint("pointers are not NAPOT", key="unified.levels")
        if self.unified.sectors != 1:
            raise complaint("a unified page-walk cache has tags of 1 pointer, got "
                            f"{self.unified.sectors}", key="unified.sectors")
        for level, array in enumerate(by_level, 1):
            if array.ways and array.levels != (level,):
                raise complaint(f"holds pointers of level {level} only, got {list(array.levels)}",
                                key=f"level{level}.levels")
        return self

    def __str__(self) -> str:
        if self.unified.ways:
            return f"{self.unified} unified"
        parts = [f"L{name[-1]} {array}" for name, array in self if array.ways]
        return ", ".join(parts) or "-"


_UNITS: Final = {
    "_millicycles": "cycles / 1000", "_cycles": "cycles", "_permille": "1/1000",
    "_instructions": "instructions", "_bytes": "bytes", "_harts": "harts", "_bits": "bits",
    "prefetch_next_line": "lines", "mhz": "MHz", "harts": "harts", "walkers": "walkers",
    "inv_line_capture": "PTEs",
    "sets": "sets", "ways": "ways", "sectors": "pages", "levels": "levels", "policy": "name",
    "via": "name", "negative_global": "name",
}


class Machine(Frozen):
    """One machine: the fields of struct csim_machine, and how many harts it has by default.

    ``sources`` tells for each dotted path who vouches for the value; see ``provenance``.
    """

    name: str = Field(description="what tables call it")
    title: str = Field(default="", description="what it is")
    harts: Annotated[int, Field(strict=True, ge=1, le=engine.HARTS_MAX)] = Field(
        description="harts of the machine as built; a scenario may ask for another number"
    )
    sources: dict[str, str] = Field(default_factory=dict, repr=False,
                                    description="dotted path -> source")

    mhz: Annotated[int, Field(strict=True, ge=1, le=U32)] = Field(description="core clock")
    levels: Annotated[int, BeforeValidator(_mode), Field(strict=True, ge=3, le=5)] = Field(
        description="levels of the page table: 3 = Sv39, 4 = Sv48, 5 = Sv57 (the names work too)"
    )
    l1i: Tlb = Field(description="first-level TLB of fetches")
    l1d: Tlb = Field(description="first-level TLB of loads, and of stores unless split")
    l1st: Tlb = Field(description="first-level TLB of stores, when split")
    l2: Tlb = Field(description="second-level TLB, shared by fetches, loads and stores")
    pwc: Pwc = Field(description="page-walk cache: non-leaf PTEs")
    l1_split_store: Flag = Field(description="stores have a first-level TLB of their own")
    pwc_unified: Flag = Field(description="one page-walk cache array holds every level")
    l2_seq_page_sizes: Flag = Field(description="L2 is probed for one page size after the other")
    walkers: Annotated[int, Field(strict=True, ge=1, le=8)] = Field(
        description="walks that can be in flight at once"
    )
    asid_bits: Annotated[int, Field(strict=True, ge=0, le=16)] = Field(
        description="bits of the ASID that are compared"
    )
    prefetch_next_line: Lines = Field(
        description="lines of 8 PTEs that a walk fetches after its own; true = 1"
    )
    inv_l1: FlagOrUnknown = Field(description="L1 caches invalid PTEs")
    inv_l2: FlagOrUnknown = Field(description="L2 caches invalid PTEs")
    inv_pwc: FlagOrUnknown = Field(description="the page-walk cache caches invalid PTEs")
    inv_nonleaf_range: Flag = Field(
        description="a cached invalid non-leaf PTE covers the whole range under it"
    )
    inv_line_capture: Literal[1, 2, 4, 8] = Field(
        description="PTEs of the line whose validity one walk captures, itself included"
    )
    negative_global: Annotated[str, BeforeValidator(partial(_name, NEGATIVE_GLOBAL))] = Field(
        description="a cached invalid entry counts as global for ASID fences"
    )
    svvptc: Flag = Field(description="valid PTEs are seen within a bounded time (Svvptc)")
    svinval: Flag = Field(description="Svinval")
    svade: Flag = Field(description="A = 0, or D = 0 on a store, faults (Svade)")
    svnapot: Flag = Field(description="64 KiB NAPOT leaves (Svnapot)")
    svpbmt: Flag = Field(description="page-based memory types (Svpbmt)")
    fence_all_cycles: Count = Field(description="sfence.vma x0, x0: the TLB's own time")
    fence_asid_cycles: Count = Field(description="sfence.vma x0, asid")
    fence_va_cycles: Count = Field(description="sfence.vma va")
    fence_pipe_cycles: Count = Field(description="pipeline refill after any sfence.vma")
    fence_va_as_all: Flag = Field(description="sfence.vma va drops everything")
    fence_l2_va_clears_set: Flag = Field(description="sfence.vma va drops the whole set of L2")
    fence_va_low8_match: Flag = Field(description="L1 compares only the low 8 VPN bits for it")
    l1_hit_cycles: Count = Field(description="L1 hit, beyond the cache access it overlaps")
    l2_hit_cycles: Count = Field(description="L1 miss that hits L2")
    walk_overhead_per_level_cycles: Count = Field(description="walk, per level, beside the read")
    pwc_hit_cycles: Count = Field(description="a level answered by the page-walk cache")
    pte_via: Annotated[str, BeforeValidator(partial(_name, tuple(engine.PTE_VIA)))] = Field(
        description="the first cache a walk asks"
    )
    read_l1d_cycles: Count = Field(description="PTE read that hits the L1 data cache")
    read_l2_cycles: Count = Field(description="PTE read that hits the L2 cache")
    read_llc_cycles: Count = Field(description="PTE read that hits the last-level cache")
    read_dram_cycles: Count = Field(description="PTE read from memory")
    read_l1d_permille: Permille = Field(description="PTE reads that hit L1D")
    read_l2_permille: Permille = Field(description="PTE reads that hit L2")
    read_llc_permille: Permille = Field(description="PTE reads that hit the LLC; rest: memory")
    cache_l1d_bytes: Count = Field(description="L1 data cache of 64-byte lines; 0 = none")
    cache_l1d_ways: Count = Field(description="ways of the L1 data cache")
    cache_l2_bytes: Count = Field(description="L2 cache; 0 = none")
    cache_l2_ways: Count = Field(description="ways of the L2 cache")
    cache_llc_bytes: Count = Field(description="last-level cache; 0 = none")
    cache_llc_ways: Count = Field(description="ways of the last-level cache")
    store_drain_cycles: Count = Field(description="a PTE store reaches the own walker after this")
    coherence_cycles: Count = Field(description="... and the other harts' after this much more")
    line_transfer_cycles: Count = Field(description="a line last written by another hart")
    instruction_millicycles: Count = Field(description="an instruction of kernel code")
    load_cycles: Count = Field(description="a load, beyond the instruction")
    store_cycles: Count = Field(description="a store, beyond the instruction")
    amo_cycles: Count = Field(description="an AMO on a line of its own hart")
    barrier_cycles: Count = Field(description="a fence instruction that orders memory")
    trap_entry_cycles: Count = Field(description="from the trap to the handler's first instruction")
    sret_cycles: Count = Field(description="sret to the next instruction")
    trap_save_instructions: Count = Field(description="entry code from S after the check: "
                                          "stack test, save, CSRs, dispatch")
    trap_exit_instructions: Count = Field(description="exit code to S, sret included")
    via: Annotated[
        str, BeforeValidator(partial(_name, tuple(v for v in engine.VIA if v != "machine")))
    ] = Field(description="how fences reach other harts")
    ecall_cycles: Count = Field(description="an SBI call that does nothing, and back")
    sbi_fixed_cycles: Count = Field(description="fixed part of a remote fence by SBI")
    sbi_send_cycles: Count = Field(description="sending to one more hart")
    sbi_deliver_cycles: Count = Field(description="from the send until the target traps to M")
    sbi_handler_cycles: Count = Field(description="the firmware's handler at the target")
    sbi_ack_cycles: Count = Field(description="acknowledgement of one target, at the sender")
    sbi_range_limit_bytes: Count = Field(description="a larger request becomes a full fence")
    sbi_window_harts: Annotated[int, Field(strict=True, ge=1, le=64)] = Field(
        description="harts one call can name"
    )
    imsic_fixed_cycles: Count = Field(description="fixed part of a remote fence by S-mode IPIs")
    imsic_send_cycles: Count = Field(description="sending to one more hart")
    imsic_deliver_cycles: Count = Field(description="from the send until the target traps to S")
    imsic_handler_cycles: Count = Field(description="the kernel's handler, beside its fences")
    imsic_ack_cycles: Count = Field(description="acknowledgement of one target, at the sender")
    hw_fixed_cycles: Count = Field(description="fixed part of a broadcast fence in hardware")
    hw_per_hart_cycles: Count = Field(description="per hart that must complete it")
    idle_wake_cycles: Count = Field(description="from the interrupt until an idle hart runs")

    @model_validator(mode="after")
    def _possible(self) -> Machine:
        mix = self.read_l1d_permille + self.read_l2_permille + self.read_llc_permille
        if mix > 1000:
            raise complaint(f"the parts of PTE reads add up to {mix} permille",
                            key="read_llc_permille")
        if self.pwc_unified != bool(self.pwc.unified.ways):
            raise complaint("pwc.unified and pwc_unified must say the same", key="pwc_unified")
        if not self.l1i.base.ways or not self.l1d.base.ways:
            raise complaint("a machine has a first-level TLB",
                            key="l1d.base" if self.l1i.base.ways else "l1i.base")
        if self.l1_split_store != bool(self.l1st.base.ways):
            raise complaint("l1st is there exactly when stores are split", key="l1st.base")
        for cache in ("l1d", "l2", "llc"):
            size, ways = getattr(self, f"cache_{cache}_bytes"), getattr(self, f"cache_{cache}_ways")
            sets, rest = divmod(size, LINE_BYTES * ways) if ways else (0, size)
            if rest or sets & (sets - 1) or ways > WAYS_MAX:
                raise complaint(f"{size} bytes in {ways} ways: is {LINE_BYTES} x ways (1 to "
                                f"{WAYS_MAX}) x a power of two of sets", key=f"cache_{cache}_bytes")
        for key in ("l1i", "l1d", "l1st", "l2", "pwc"):
            for part, array in getattr(self, key):
                sizes = set(array.levels) - {engine.NAPOT}
                if array.ways and sizes and max(sizes) >= self.levels:
                    raise complaint(f"level {max(sizes)} is not in {self.mode}",
                                    key=f"{key}.{part}.levels")
                if array.ways and engine.NAPOT in array.levels and not self.svnapot:
                    raise complaint("holds 64 KiB leaves, which need svnapot",
                                    key=f"{key}.{part}.levels")
        return self

    # ---- what people ask of it ----

    @property
    def mode(self) -> str:
        """The satp mode: Sv39, Sv48 or Sv57."""
        return {3: "Sv39", 4: "Sv48", 5: "Sv57"}[self.levels]

    @property
    def caches_invalid(self) -> str:
        """Which structures cache invalid PTEs; "?" where nobody knows."""
        flags = {"L1": self.inv_l1, "L2": self.inv_l2, "PWC": self.inv_pwc}
        if self.inv_line_capture > 1 and self.inv_l1:
            flags[f"line of {self.inv_line_capture}"] = True
        flags = {name: value for name, value in flags.items() if value is not False}
        return " ".join(name if value else f"{name}?" for name, value in flags.items()) or "no"

    @property
    def unknowns(self) -> tuple[str, ...]:
        """Fields nobody knows the value of: sweep both."""
        return tuple(key for key in ("inv_l1", "inv_l2", "inv_pwc") if getattr(self, key) is None)

    @property
    def notes(self) -> tuple[str, ...]:
        """What lowering decided where the machine does not say, and what contradicts itself."""
        said = [f"{self.name}: {key} is unknown; taken as 1 (caches invalid PTEs), so sweep 0 and 1"
                for key in self.unknowns]
        kept = [key for key in ("inv_l1", "inv_l2", "inv_pwc") if getattr(self, key)]
        if self.svvptc and kept:
            said.append(f"{self.name}: Svvptc bounds how long an invalid PTE is kept, and "
                        f"{', '.join(kept)} keeps it until a fence: no core is both")
        return tuple(said)

    @property
    def window_cycles(self) -> int:
        """Cycles from a PTE store until every hart's walker sees it: the bound that Svvptc names.

        Without cached invalid PTEs, no fault on a valid mapping begins later.
        """
        return self.store_drain_cycles + self.coherence_cycles

    @property
    def fitted(self) -> dict[str, str]:
        """Fields that were fitted to a measurement, and to which."""
        return {path: self.provenance(path).removeprefix("fitted: ") for path in self.flat()
                if self.provenance(path).startswith("fitted: ")}

    def provenance(self, path: str) -> str:
        """Return who vouches for a field: a source, "assumed: why" or "fitted: to what".

        Raises InputError when the machine has no such field.
        """
        vouched = path
        while vouched and vouched not in self.sources:
            vouched = vouched.rpartition(".")[0]
        if not vouched and path not in self.flat():
            raise InputError(f"machine {self.name}", path, "no such field", got=path,
                             nearest=self.flat())
        return self.sources.get(vouched, "given in a program")

    def flat(self) -> dict[str, Any]:
        """Return every C-facing value by dotted path, in C's order; None where unknown."""
        values = self.model_dump(exclude={"name", "title", "sources"})
        return sourced.flatten(values)

    def override(self, changes: Mapping[str, Any], *, where: str = "override") -> Machine:
        """Return the machine with some fields changed, by dotted path; ``where`` is their source.

        Raises InputError for an unknown field or an impossible value.
        """
        values = self.model_dump()
        sources = values["sources"]
        for path, value in sourced.flatten(changes).items():
            *parents, last = path.split(".")
            at = values
            for name in parents:
                at = at.setdefault(name, {})
                if not isinstance(at, dict):
                    raise InputError(where, path, f"{name} has no parts")
            at[last] = value
            for under in [old for old in sources if old.startswith(f"{path}.")]:
                del sources[under]
            sources[path] = where
        try:
            return Machine.model_validate(values)
        except ValidationError as error:
            raise sourced.refused(error, lambda key: where, Machine) from None

    # ---- what crosses the door ----

    def c_values(self) -> dict[str, Any]:
        """Return the fields of struct csim_machine by C's names, for ``engine.pack``."""
        special: dict[str, Any] = {
            "negative_global": NEGATIVE_GLOBAL.index(self.negative_global),
            "pte_via": engine.PTE_VIA[self.pte_via],
            "via": engine.VIA[self.via],
        }
        for key in ("l1i", "l1d", "l1st", "l2", "pwc"):
            special[key] = [array.c_values() for _, array in getattr(self, key)]
        for key in self.unknowns:
            special[key] = 1
        return {name: special[name] if name in special else int(getattr(self, name))
                for name in C_FIELDS}


C_FIELDS: Final = tuple(
    name for name in Machine.model_fields if name not in ("name", "title", "harts", "sources")
)


def unit(path: str) -> str:
    """Return the unit of a field by its dotted path: its name's ending, as the house rule says."""
    last = path.rpartition(".")[2]
    field = Machine.model_fields.get(last)
    if field is not None and field.annotation in (bool, bool | None):
        return "flag"
    return next((unit for ending, unit in _UNITS.items() if last.endswith(ending)), "")


def description(path: str) -> str:
    """Return what a field means, by its dotted path."""
    model: type[BaseModel] = Machine
    parts = path.split(".")
    for part in parts[:-1]:
        inner = model.model_fields[part].annotation
        assert isinstance(inner, type)
        assert issubclass(inner, BaseModel)
        model = inner
    return str(model.model_fields[parts[-1]].description)


def build(facts: sourced.Facts, where: str) -> Machine:
    """Validate facts as a machine. Raises InputError with the file that wrote the bad key."""
    try:
        return Machine.model_validate(
            facts.nested() | facts.header | {"sources": dict(facts.sources)}
        )
    except ValidationError as error:
        raise sourced.refused(error, lambda key: facts.wrote(key, where), Machine) from None
