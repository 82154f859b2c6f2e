"""What Linux did and does when it makes a new kernel mapping, era by era.

Each class cites the version and the file it follows. What several eras share (the purge of lazily
freed areas, set_memory, the user side) stands once, in the functions on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pysim.ops import (
    ALL,
    ASID_ROLLOVER,
    ASIDS,
    INTERRUPT,
    KERNEL_ADDRESS,
    ONE_HART,
    PAGE,
    PAGE_FAULT,
    PAGE_FAULT_FETCH,
    PAGE_FAULT_LOAD,
    PAGE_FAULT_STORE,
    RANGE,
    REGION_MODULE,
    REGION_VMALLOC,
    REGION_VMEMMAP,
    SSCRATCH_ZERO,
    SVVPTC,
    Extent,
    Handler,
    Mark,
    Steps,
    clear_mark,
    fail,
    fall_through,
    fence,
    fence_free,
    mark,
    marked,
    retry,
    shootdown,
    spend,
    store_barrier,
    store_ptes,
    when,
)
from pysim.policies import paths

# update_mmu_cache_range fences page by page however many there are
_NO_THRESHOLD: Final = 2**32 - 1


def flush_tlb_kernel(extent: Extent, *, svinval: bool = False) -> Handler:
    """Fence an extent on every online hart, or only here when no other is online.

    The barrier is the one the IPI paths contain before the message leaves.
    Source: linux 6.10 and later, arch/riscv/mm/tlbflush.c, __flush_tlb_range.
    """
    return [
        when(
            ONE_HART,
            [
                *paths.flush_here(each_page=paths.EACH_PAGE, whole=paths.FLUSH_ALL),
                fence(extent, svinval=svinval),
            ],
            [store_barrier("rw_rw"), shootdown(extent, who="online")],
        )
    ]


def flush_tlb_mm(extent: Extent, *, svinval: bool = False) -> Handler:
    """Fence an extent of one mm on every hart it ever ran on.

    Source: linux 6.12, arch/riscv/mm/tlbflush.c, flush_tlb_mm_range and flush_tlb_page.
    """
    return [
        when(
            ONE_HART,
            [
                *paths.flush_here(each_page=paths.EACH_PAGE_ASID, whole=paths.FLUSH_PAGE),
                fence(extent, by_asid=True, svinval=svinval),
            ],
            [store_barrier("rw_rw"), shootdown(extent, who="mm_mask", by_asid=True)],
        )
    ]


def update_mmu_cache(*, svvptc_aware: bool, by_asid: bool = False) -> Handler:
    """Fence the user pages a fault has just mapped, on this hart.

    Source: linux 6.12, arch/riscv/include/asm/pgtable.h, update_mmu_cache_range; before 6.12 the
    Svvptc test is missing, from 7.3 on (15ce1d7c4ddf) the fences are of this address space and by
    Svinval where there is one (kernel.md 4). assumed: as many instructions beside them.
    """
    fences: list[Steps] = [
        spend(paths.MAP_USER_PAGE, each_page=True),
        fence(RANGE, threshold_pages=_NO_THRESHOLD, by_asid=by_asid, svinval=by_asid),
    ]
    test = spend(paths.SVVPTC_TEST, each_page=True)
    return [test, when(~SVVPTC, fences)] if svvptc_aware else fences


def ptep_set_access_flags(*, svvptc_aware: bool, by_asid: bool = False) -> Handler:
    """Fence after a permission or A/D change of one user page.

    Source: linux 6.12, arch/riscv/mm/pgtable.c, ptep_set_access_flags: with Svvptc a changed PTE is
    flushed on every hart of the mm, without it update_mmu_cache fences here.
    """
    here: list[Steps] = [spend(paths.PROTECT_PAGE, loads=1),
                         fence(PAGE, by_asid=by_asid, svinval=by_asid)]
    return [when(SVVPTC, flush_tlb_mm(PAGE), here)] if svvptc_aware else here


def switch_mm() -> Handler:
    """Fence when address spaces change: nothing with ASIDs, until they have been given out anew.

    Source: linux 6.12, arch/riscv/mm/context.c, set_mm_asid (local_flush_tlb_all when a flush is
    pending) and set_mm_noasid (since 6.10 sfence.vma x0, asid 0, which keeps global entries).
    """
    return [when(ASIDS, [when(ASID_ROLLOVER, [fence(ALL)])], [fence(ALL, by_asid=True)])]


def new_vmalloc_check(name: str, *, nop_with_svvptc: bool) -> Handler:
    """Test, clear and fence in handle_exception, before the stack is touched.

    Instruction counts per path, the three of the prologue left out (every policy has them), the
    amoxor, the sfence.vma and the sret charged by their own steps: 4 for an interrupt, 12 for
    another exception, 10/12/14 for a user address (load/store/fetch), 25/27/29 with the bit clear,
    29/31/33 with the bit set.
    Source: linux 6.12 and 7.2, arch/riscv/kernel/entry.S, macro new_vmalloc_check.
    """
    resolve: list[Steps] = [spend(26, loads=5, stores=3), clear_mark(name, amo=True)]
    if nop_with_svvptc:
        resolve.append(when(SVVPTC, [spend(1)], [fence(ALL)]))
    else:
        resolve.append(fence(ALL))
    resolve.append(retry())
    user_address: list[Steps] = [
        when(PAGE_FAULT_LOAD, [spend(10, loads=2, stores=2)]),
        when(PAGE_FAULT_STORE, [spend(12, loads=2, stores=2)]),
        when(PAGE_FAULT_FETCH, [spend(14, loads=2, stores=2)]),
        fall_through(),
    ]
    return [
        when(
            SSCRATCH_ZERO,
            [
                when(INTERRUPT, [spend(4, loads=1, stores=1), fall_through()]),
                when(~PAGE_FAULT, [spend(12, loads=2, stores=2), fall_through()]),
                when(~KERNEL_ADDRESS, user_address),
                when(PAGE_FAULT_STORE, [spend(2)]),
                when(PAGE_FAULT_FETCH, [spend(4)]),
                when(marked(name), resolve),
                spend(25, loads=5, stores=3),
            ],
        ),
        fall_through(),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Linux:
    """What every era since 6.10 shares; alone it maps without a fence and resolves no fault.

    ``svvptc_aware`` says whether the user side tests for the extension (7a21b2e370da, 6.12),
    ``svinval_aware`` whether ranges are fenced by Svinval where there is one (a56972698810, 6.16),
    ``user_by_asid`` whether a fault fences its pages in its own address space only (15ce1d7c4ddf,
    7.3).
    """

    name: str
    source: str
    marks: tuple[Mark, ...] = ()
    svvptc_aware: bool = True
    svinval_aware: bool = False
    user_by_asid: bool = False

    def map_kernel(self) -> Handler:
        """Store the PTEs and leave it at that."""
        return [store_ptes(valid=True)]

    def unmap_kernel(self) -> Handler:
        """Clear the PTEs; the fence comes with the purge."""
        return [store_ptes(valid=False)]

    def purge_kernel(self) -> Handler:
        """Fence everything gathered, once (__purge_vmap_area_lazy)."""
        return flush_tlb_kernel(RANGE, svinval=self.svinval_aware)

    def flush_kernel(self) -> Handler:
        """Fence the extent of set_memory and reset-perms (flush_tlb_all when it is everything)."""
        return flush_tlb_kernel(RANGE, svinval=self.svinval_aware)

    def kernel_fault(self) -> Handler:
        """Nothing resolves a kernel fault in C on 64 bits (do_page_fault)."""
        return [fail()]

    def map_user(self) -> Handler:
        """Fence the new user pages here; from 6.12 on not if Svvptc bounds their staleness."""
        return update_mmu_cache(svvptc_aware=self.svvptc_aware, by_asid=self.user_by_asid)

    def protect_user(self) -> Handler:
        """Fence the changed user page."""
        return ptep_set_access_flags(svvptc_aware=self.svvptc_aware, by_asid=self.user_by_asid)

    def user_spurious(self) -> Handler:
        """Fence the page of a write that faults again (flush_tlb_fix_spurious_fault)."""
        return ptep_set_access_flags(svvptc_aware=self.svvptc_aware, by_asid=self.user_by_asid)

    def unmap_user(self) -> Handler:
        """Fence the unmapped user range."""
        return flush_tlb_mm(RANGE, svinval=self.svinval_aware)

    def switch_mm(self) -> Handler:
        """Fence in full after an ASID rollover; without ASIDs drop the user entries each time."""
        return switch_mm()

    def ipi(self) -> Handler:
        """Fence page by page up to 64 pages, else everything (local_flush_tlb_range_asid)."""
        return [*paths.flush_for_another(), fence(RANGE, svinval=self.svinval_aware)]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoFence(Linux):
    """Map without a fence and without a handler: the control that must fail.

    Source: linux 6.5-rc1 to rc5, where vmalloc_fault was gone (7d3332be011e) and flush_cache_vmap
    not yet there (7e3811521dc3); arch/riscv/mm/fault.c. The purge is that of 6.10.
    """

    name: str = "none"
    source: str = "linux 6.5-rc1..rc5"
    svvptc_aware: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PreventiveRange(Linux):
    """Map, then fence the range on every online hart: by address here when no other is online.

    Source: linux 6.10 and 6.11, arch/riscv/include/asm/cacheflush.h (flush_cache_vmap is
    flush_tlb_kernel_range) and arch/riscv/mm/tlbflush.c, __flush_tlb_range.
    """

    name: str = "preventive-range"
    source: str = "linux 6.10-6.11"
    svvptc_aware: bool = False

    def map_kernel(self) -> Handler:
        """Store the PTEs and fence their range on every online hart."""
        return [store_ptes(valid=True), *flush_tlb_kernel(RANGE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark612(Linux):
    """Map without a fence; each hart fences in full at its first kernel page fault after the mark.

    With Svvptc the fence is a nop. The mark is a bitmap eight times too large, stored whole.
    Source: linux 6.12 (503638e0babf), arch/riscv/include/asm/cacheflush.h and
    arch/riscv/kernel/entry.S.
    """

    name: str = "mark-6.12"
    source: str = "linux 6.12-7.1"
    marks: tuple[Mark, ...] = (Mark("new_vmalloc", "nr_cpus/8+1"),)

    def map_kernel(self) -> Handler:
        """Store the PTEs, then all ones to every word of the mark."""
        return [
            store_ptes(valid=True),
            *paths.mark_test(),
            when(
                REGION_VMALLOC | REGION_MODULE,
                [spend(paths.MARK_SETUP), mark("new_vmalloc")],
            ),
        ]

    def early_trap(self) -> Handler:
        """Look for the own bit; with Svvptc only retry."""
        return new_vmalloc_check("new_vmalloc", nop_with_svvptc=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark72(Linux):
    """Map without a fence; each hart fences in full at its first kernel page fault after the mark.

    The fence is unconditional (1b2c6b56a9fa), the bitmap has its size (26c171fc4853), vmemmap is
    marked too. ``barrier`` adds the write barrier between PTE and mark that linux-next has. The
    user side is 7.2's; 7.3 fences a fault's pages as ``user_by_asid`` does.
    Source: linux 7.2, arch/riscv/include/asm/cacheflush.h and arch/riscv/kernel/entry.S.
    """

    name: str = "mark-7.2"
    source: str = "linux 7.2-7.3"
    marks: tuple[Mark, ...] = (Mark("new_valid_map_cpus", "nr_cpus/64"),)
    barrier: bool = False
    svinval_aware: bool = True

    def map_kernel(self) -> Handler:
        """Store the PTEs, then set every hart's bit."""
        order: list[Steps] = [store_barrier("w_w")] if self.barrier else []
        return [
            store_ptes(valid=True),
            *paths.mark_test(),
            when(~(REGION_VMALLOC | REGION_MODULE), [spend(paths.VMEMMAP_TEST)]),
            when(
                REGION_VMALLOC | REGION_MODULE | REGION_VMEMMAP,
                [spend(paths.MARK_SETUP), *order, mark("new_valid_map_cpus")],
            ),
        ]

    def early_trap(self) -> Handler:
        """Look for the own bit, clear it, fence, retry."""
        return new_vmalloc_check("new_valid_map_cpus", nop_with_svvptc=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ideal(Linux):
    """Nobody's hardware: a new mapping is seen by every hart at once; the rest is 7.2.

    Source: none; the lower bound that slowdowns are measured against.
    """

    name: str = "ideal"
    source: str = "nobody: the lower bound"
    svinval_aware: bool = True

    def map_kernel(self) -> Handler:
        """Store the PTEs; no stale entry survives anywhere."""
        return [store_ptes(valid=True), fence_free()]


IDEAL: Final = Ideal()
NONE: Final = NoFence()
PREVENTIVE_RANGE: Final = PreventiveRange()
MARK_6_12: Final = Mark612()
MARK_7_2: Final = Mark72()
MARK_BARRIER: Final = Mark72(name="mark-barrier", source="linux-next 2026", barrier=True,
                             user_by_asid=True)
