"""What other architectures do after a kernel mapping, said in the same ops.

Their rules are not RISC-V's: each of these is safe only on a machine that never caches an invalid
entry, x86-64 also only where stores become visible in order. ``fencelab check`` must say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pysim.ops import (
    PAGE,
    RANGE,
    TRANSLATES_NOW,
    Extent,
    Handler,
    Mark,
    fail,
    fence,
    retry,
    shootdown,
    store_barrier,
    store_ptes,
    sync_context,
    sync_root,
    when,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm64:
    """Wait until the PTE is visible to all walkers and synchronise; fences are broadcast.

    A residual spurious fault is recognised by translating the address again.
    Source: linux 7.2, arch/arm64/include/asm/pgtable.h (dsb(ishst), isb after a valid kernel PTE),
    arch/arm64/mm/fault.c (spurious EL1 faults), asm/tlbflush.h (above 512 pages: everything).
    """

    name: str = "arm64"
    source: str = "linux 7.2, arm64"
    marks: tuple[Mark, ...] = ()

    def map_kernel(self) -> Handler:
        """Store the PTEs, dsb ishst, isb."""
        return [
            store_ptes(valid=True),
            store_barrier("complete", insn="dsb ishst"),
            sync_context(),
        ]

    def unmap_kernel(self) -> Handler:
        """Clear the PTEs; the fence comes with the purge."""
        return [store_ptes(valid=False)]

    def purge_kernel(self) -> Handler:
        """Broadcast TLBI over the range and wait."""
        return self._broadcast(RANGE)

    def flush_kernel(self) -> Handler:
        """Broadcast TLBI over the range and wait."""
        return self._broadcast(RANGE)

    def kernel_fault(self) -> Handler:
        """Ignore a fault on an address that translates now; anything else is an oops."""
        return [when(TRANSLATES_NOW, [retry()]), fail()]

    def protect_user(self) -> Handler:
        """Broadcast TLBI of the page."""
        return self._broadcast(PAGE, by_asid=True)

    def unmap_user(self) -> Handler:
        """Broadcast TLBI over the range."""
        return self._broadcast(RANGE, by_asid=True)

    @staticmethod
    def _broadcast(extent: Extent, *, by_asid: bool = False) -> Handler:
        return [
            store_barrier("complete", insn="dsb ishst"),
            shootdown(extent, who="online", via="hw", threshold_pages=512, by_asid=by_asid,
                      insn="tlbi; dsb ish"),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class X8664:
    """Map without a fence: entries that are not present are never cached, stores stay in order.

    Source: linux 7.2, arch/x86/mm/init_64.c (top-level entries are synchronised),
    arch/x86/mm/fault.c (vmalloc_fault only on 32 bits), arch/x86/mm/tlb.c (ceiling of 33 pages).
    """

    name: str = "x86-64"
    source: str = "linux 7.2, x86-64"
    marks: tuple[Mark, ...] = ()

    def map_kernel(self) -> Handler:
        """Store the PTEs and copy a new top-level entry to every root."""
        return [store_ptes(valid=True), sync_root(all_roots=True)]

    def unmap_kernel(self) -> Handler:
        """Clear the PTEs; the fence comes with the purge."""
        return [store_ptes(valid=False)]

    def purge_kernel(self) -> Handler:
        """Interrupt every hart for the range."""
        return self._shootdown(RANGE, who="online")

    def flush_kernel(self) -> Handler:
        """Interrupt every hart for the range."""
        return self._shootdown(RANGE, who="online")

    def kernel_fault(self) -> Handler:
        """Oops: nothing is resolved."""
        return [fail()]

    def protect_user(self) -> Handler:
        """Interrupt the harts of the mm for the page."""
        return self._shootdown(PAGE, who="mm_mask")

    def unmap_user(self) -> Handler:
        """Interrupt the harts of the mm for the range."""
        return self._shootdown(RANGE, who="mm_mask")

    def ipi(self) -> Handler:
        """Invalidate page by page up to 33, else everything."""
        return [fence(RANGE, threshold_pages=33, insn="invlpg")]

    @staticmethod
    def _shootdown(extent: Extent, *, who: str) -> Handler:
        return [
            store_barrier("rw_rw", insn="mfence"),
            shootdown(extent, who=who, threshold_pages=33, insn="flush_tlb_func"),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerPC:
    """Wait with ptesync until the PTE is seen; no fault is expected and none is resolved.

    Source: linux 7.2, arch/powerpc/include/asm/cacheflush.h, flush_cache_vmap on book3s64.
    """

    name: str = "powerpc"
    source: str = "linux 7.2, powerpc book3s64"
    marks: tuple[Mark, ...] = ()

    def map_kernel(self) -> Handler:
        """Store the PTEs, then ptesync."""
        return [store_ptes(valid=True), store_barrier("complete", insn="ptesync")]

    def unmap_kernel(self) -> Handler:
        """Clear the PTEs; the fence comes with the purge."""
        return [store_ptes(valid=False)]

    def purge_kernel(self) -> Handler:
        """Broadcast tlbie over the range and wait."""
        return self._broadcast(RANGE)

    def flush_kernel(self) -> Handler:
        """Broadcast tlbie over the range and wait."""
        return self._broadcast(RANGE)

    def kernel_fault(self) -> Handler:
        """Oops: nothing is resolved."""
        return [fail()]

    def protect_user(self) -> Handler:
        """Broadcast tlbie of the page."""
        return self._broadcast(PAGE, by_asid=True)

    def unmap_user(self) -> Handler:
        """Broadcast tlbie over the range."""
        return self._broadcast(RANGE, by_asid=True)

    @staticmethod
    def _broadcast(extent: Extent, *, by_asid: bool = False) -> Handler:
        return [
            store_barrier("complete", insn="ptesync"),
            shootdown(extent, who="online", via="hw", by_asid=by_asid, insn="tlbie; ptesync"),
        ]


ARM64: Final = Arm64()
X86_64: Final = X8664()
POWERPC: Final = PowerPC()
