"""Linux before 6.10: the lazy fault in C (to 6.4), the first preventive fences (6.5 to 6.9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pysim.ops import (
    ALL,
    ASID_ROLLOVER,
    ASIDS,
    ONE_HART,
    PAGE,
    PTE_VALID_NOW,
    RANGE,
    REGION_MODULE,
    REGION_VMALLOC,
    USER_MODE,
    Extent,
    Handler,
    fail,
    fence,
    retry,
    shootdown,
    spend,
    store_barrier,
    store_ptes,
    sync_root,
    when,
)
from pysim.policies import paths
from pysim.policies.linux import Linux


def flush_tlb_all() -> Handler:
    """Fence everything on every online hart, whether or not there is another one.

    Source: linux 6.1 and 6.5, arch/riscv/mm/tlbflush.c, flush_tlb_all.
    """
    return [store_barrier("rw_rw"), shootdown(ALL, who="online")]


def flush_tlb_kernel_always(extent: Extent) -> Handler:
    """Fence an extent on every online hart; one hart alone still goes the remote way.

    Source: linux 6.7, arch/riscv/mm/tlbflush.c, __flush_tlb_range: broadcast is always true for
    the kernel; the shortcut came with 6.10.
    """
    return [store_barrier("rw_rw"), shootdown(extent, who="online")]


def switch_mm_before_610() -> Handler:
    """Fence in full after an ASID rollover, and without ASIDs at each change of address space.

    Source: linux 6.1, arch/riscv/mm/context.c, set_mm_asid and set_mm_noasid.
    """
    return [when(ASIDS & ~ASID_ROLLOVER, [], [fence(ALL)])]


def flush_tlb_mm_before_67(extent: Extent) -> Handler:
    """Fence one user page by address, more than that by ASID.

    Source: linux 6.1, arch/riscv/mm/tlbflush.c, __sbi_tlb_flush_range. assumed: on one hart as many
    instructions as 6.12 has for one page; only that was counted.
    """
    return [
        when(
            ONE_HART,
            [
                spend(paths.CALL + paths.FLUSH_PAGE, loads=4),
                fence(extent, threshold_pages=1, by_asid=True),
            ],
            [
                store_barrier("rw_rw"),
                shootdown(extent, who="mm_mask", threshold_pages=1, by_asid=True),
            ],
        )
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class VmallocFault(Linux):
    """Map without a fence; the C fault handler copies the root entry, checks the PTE and fences.

    The handler runs on the kernel stack, which may be the very mapping that is missing. The order
    is that of the source: root entry first, PTE test after it, one fence by address.
    assumed: 150 instructions, 30 loads, 20 stores from do_page_fault to the return.
    Source: linux 6.1, arch/riscv/mm/fault.c, vmalloc_fault; flush_cache_vmap was a no-op.
    """

    name: str = "vmalloc-fault"
    source: str = "linux <= 6.4"
    svvptc_aware: bool = False

    def purge_kernel(self) -> Handler:
        """Fence everything everywhere (flush_tlb_kernel_range was flush_tlb_all)."""
        return flush_tlb_all()

    def flush_kernel(self) -> Handler:
        """Fence everything everywhere."""
        return flush_tlb_all()

    def kernel_fault(self) -> Handler:
        """Resolve a fault in the vmalloc or module area whose PTE is there by now."""
        return [
            when(
                (REGION_VMALLOC | REGION_MODULE) & ~USER_MODE,
                [
                    spend(150, loads=30, stores=20),
                    sync_root(),
                    when(PTE_VALID_NOW, [fence(PAGE), retry()]),
                ],
            ),
            fail(),
        ]

    def unmap_user(self) -> Handler:
        """Fence one page by address, more by ASID."""
        return flush_tlb_mm_before_67(RANGE)

    def switch_mm(self) -> Handler:
        """Fence in full after an ASID rollover, and without ASIDs each time."""
        return switch_mm_before_610()

    def ipi(self) -> Handler:
        """Fence one page by address, more in full."""
        return [fence(RANGE, threshold_pages=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreventiveFull(Linux):
    """Map, then fence everything on every online hart, whatever the size.

    Source: linux 6.5 (7e3811521dc3), arch/riscv/include/asm/cacheflush.h: flush_cache_vmap is
    flush_tlb_kernel_range, which in 6.5 and 6.6 is flush_tlb_all (arch/riscv/mm/tlbflush.c).
    """

    name: str = "preventive-full"
    source: str = "linux 6.5-6.6"
    svvptc_aware: bool = False

    def map_kernel(self) -> Handler:
        """Store the PTEs and fence everything everywhere."""
        return [store_ptes(valid=True), *flush_tlb_all()]

    def purge_kernel(self) -> Handler:
        """Fence everything everywhere."""
        return flush_tlb_all()

    def flush_kernel(self) -> Handler:
        """Fence everything everywhere."""
        return flush_tlb_all()

    def unmap_user(self) -> Handler:
        """Fence one page by address, more by ASID."""
        return flush_tlb_mm_before_67(RANGE)

    def switch_mm(self) -> Handler:
        """Fence in full after an ASID rollover, and without ASIDs each time."""
        return switch_mm_before_610()

    def ipi(self) -> Handler:
        """Fence one page by address, more in full."""
        return [fence(RANGE, threshold_pages=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreventiveRange67(Linux):
    """Map, then fence the range on every online hart: page by page up to 64, else everything.

    Source: linux 6.7 to 6.9, arch/riscv/mm/tlbflush.c, __flush_tlb_range and
    local_flush_tlb_range_threshold_asid.
    """

    name: str = "preventive-range-6.7"
    source: str = "linux 6.7-6.9"
    svvptc_aware: bool = False

    def map_kernel(self) -> Handler:
        """Store the PTEs and fence their range everywhere."""
        return [store_ptes(valid=True), *flush_tlb_kernel_always(RANGE)]

    def purge_kernel(self) -> Handler:
        """Fence the range gathered everywhere."""
        return flush_tlb_kernel_always(RANGE)

    def flush_kernel(self) -> Handler:
        """Fence the range everywhere."""
        return flush_tlb_kernel_always(RANGE)

    def switch_mm(self) -> Handler:
        """Fence in full after an ASID rollover, and without ASIDs each time."""
        return switch_mm_before_610()


VMALLOC_FAULT: Final = VmallocFault()
PREVENTIVE_FULL: Final = PreventiveFull()
PREVENTIVE_RANGE_6_7: Final = PreventiveRange67()
