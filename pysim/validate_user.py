"""User fences and whole flushes of counted kernels: the work of a row, and what it fences.

What a workload does to user pages is an input: so many faults of so many pages, so many ranges
unmapped, write-protected or flushed, counted by the row itself or said below with its source. Which
fences that makes under a policy, on a CPU with Svvptc or not, on one hart or several, is predicted
by running it. A process has run on every hart before (its mask is an input too).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pysim import engine
from pysim.kernel_counts import Counted

FAULT_AROUND_PAGES: Final = 16
"""Pages that a fault on a file installs.
Source: linux 6.12, mm/memory.c, fault_around_bytes 64 KiB; data/kernel README."""

ROUND_PAGES: Final = 1024
"""pf_anon and pf_file touch and unmap so many pages a round. Source: data/kernel, 8192 pages, and
8 unmaps of a range and 8 of everything (its tables are freed: linux 6.12, mm/mmu_gather.c)."""

LAT_MMAP_PAGES: Final = 512
"""A range whose page table is freed is flushed as far as the table reaches, 2 MiB.
Source: linux 6.12, mm/mmu_gather.c and arch/riscv tlb_flush; data/kernel, S_asid of lat_mmap."""

WHOLE_FLUSHES: Final = 20
"""Whole flushes of a module's load and unload (set_memory). Source: data/kernel README."""

PURGES: Final = 4
"""Purges of a module's load and unload. Source: data/kernel README."""

MODULE_TESTS: Final = ("tv_fix1", "tv_fix1t", "tv_fix16", "tv_rand", "tv_vmram", "tv_pcpu")
"""Tests that load one module, and unload it."""

FORK_FAULTS: Final = 7
FORK_COW: Final = 4
"""A fork of the tables' program: 4 copies on write, 2 file faults, 1 access flag, and 2 flushes of
the whole address space. Source: data/kernel README and its event logs."""

_ITEM: Final = struct.Struct("<QQQQIIIHBB")  # csim.h, struct csim_item


@dataclass(frozen=True, slots=True, kw_only=True)
class UserWork:
    """What a row does beside its kernel mappings: (item, operand, times), in turn.

    ``counted`` names the columns that are predicted from it, ``wrong`` why they are not, if so.
    """

    items: tuple[tuple[str, int, int], ...]
    on_one_hart: tuple[str, ...]
    on_several: tuple[str, ...]
    wrong: str = ""


def of_row(row: Counted) -> UserWork | None:
    """Return the user work of a row; None where it is not known."""
    if row.workload in _KNOWN:
        return _KNOWN[row.workload](row)
    if row.workload in MODULE_TESTS:
        return _module(row, 1)
    return None


def _anonymous(row: Counted) -> UserWork:
    rounds = row["ops"] // ROUND_PAGES
    return UserWork(
        items=(("user_fault", 1, row["pf_U_u"] + row["pf_S_u"]),
               ("user_unmap", ROUND_PAGES, rounds), ("user_unmap", 0, rounds)),
        on_one_hart=("S_addr", "S_asid", "S_addr_asid"), on_several=("S_addr", "user calls"))


def _file(row: Counted) -> UserWork:
    rounds = row["ops"] // ROUND_PAGES
    return UserWork(
        items=(("user_fault", FAULT_AROUND_PAGES, row["ops"] // FAULT_AROUND_PAGES),
               ("user_fault", 1, row["pf_S_u"]),
               ("user_unmap", ROUND_PAGES, rounds), ("user_unmap", 0, rounds)),
        on_one_hart=("S_addr", "S_asid", "S_addr_asid"), on_several=("S_addr", "user calls"))


def _lat_mmap(row: Counted) -> UserWork:
    return UserWork(items=(("user_fault", 1, row["pf_U_u"] + row["pf_S_u"]),
                           ("user_unmap", LAT_MMAP_PAGES, row["ops"])),
                    on_one_hart=("S_addr",), on_several=("S_addr",))


def _mprotect(row: Counted) -> UserWork:
    """To read-only and back, and one unmap, of the pages that were touched."""
    pages = row["pf_U_u"]
    return UserWork(items=(("user_fault", 1, pages), ("user_unmap", pages, 2 * row["ops"] + 1)),
                    on_one_hart=("S_addr", "S_asid", "S_addr_asid"),
                    on_several=("S_addr", "user calls"))


def _fork(row: Counted) -> UserWork:
    forks, faults = row["ops"], row["pf_U_u"] + row["pf_S_u"]
    again = faults - FORK_FAULTS * forks
    return UserWork(
        items=(("user_unmap", 0, 2 * forks), ("user_unmap", 1, FORK_COW * forks),
               ("user_fault", 1, FORK_COW * forks), ("user_fault", FAULT_AROUND_PAGES, 2 * forks),
               ("user_protect", 1, forks), ("user_spurious", 0, max(0, again))),
        on_one_hart=("S_addr", "S_asid", "S_addr_asid"), on_several=("S_addr",),
        wrong="" if again >= 0 else f"{faults} faults are fewer than {FORK_FAULTS} a fork")


def _modload(row: Counted) -> UserWork:
    return _module(row, row["ops"])


def _module(row: Counted, modules: int) -> UserWork:
    wrong = ""
    purges = row.purges
    if row.workload == "modload" and purges != PURGES * modules:
        wrong = f"{purges} purges, not {PURGES} a module: earlier frees were flushed too"
    return UserWork(items=(("flush", 0, WHOLE_FLUSHES * modules),), on_one_hart=("S_full",),
                    on_several=("rf_full",), wrong=wrong)


_KNOWN: Final[Mapping[str, Callable[[Counted], UserWork]]] = {
    "pf_anon": _anonymous, "pf_file": _file, "lat_mmap": _lat_mmap, "mprotect": _mprotect,
    "fork": _fork, "forkpin0": _fork, "modload": _modload,
}

WORKLOADS: Final = (*_KNOWN, *MODULE_TESTS)


@lru_cache(maxsize=256)
def items(work: UserWork, harts: int) -> tuple[bytes, int]:
    """Return the work as items of hart 0, its process seen on every hart before, and its length."""
    packed, order = [], 0

    def put(kind: str, arg: int, hart: int = 0) -> None:
        nonlocal order
        order += 1
        packed.append(_ITEM.pack(order, order, 0, arg, 0, 0, 0, hart, engine.ITEMS[kind], 0))

    for hart in range(1, harts):
        put("switch_mm", 1, hart)
        put("switch_mm", 0, hart)
    put("switch_mm", 1)
    for kind, operand, times in work.items:
        for _ in range(times):
            put(kind, operand)
    return b"".join(packed), order + 2
