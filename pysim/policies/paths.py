"""Instructions of the kernel's C code around marks and fences, path by path.

Counted, not estimated: linux 6.12.107 was compiled for rv64gc by gcc 12.2 at -O2 (NR_CPUS=64,
PREEMPT_NONE, HZ=250, no function tracer, as the recorded kernels of data/kernel), and the paths
executed instruction by instruction on the object code of the file named, on hart 0. What a mark's
word, a fence, a barrier or a shootdown costs is its own op; a number here is what stands beside
them. A call is its arguments and two instructions, of which a linker may save one. A kernel with
the function tracer executes two or four instructions more for each function entered. Functions
that only pass the work on, and the frames a compiler gives them, are left out.

What is the same under every policy and on every machine is the workload's work, not a policy's:
the loops that store PTEs, a fault's way in and out, the switch of a task (docs/model.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pysim.ops import (
    ONE_PAGE,
    REGION_MODULE,
    SOME_PAGES,
    Handler,
    pages_le,
    spend,
    when,
)

THRESHOLD_PAGES: Final = 64
"""tlb_flush_all_threshold. Source: linux 6.12, arch/riscv/mm/tlbflush.c."""

CALL: Final = 4
"""Two arguments, auipc, jalr. Source: mm/vmalloc.o, flush_cache_vmap of a kernel in which it is
flush_tlb_kernel_range."""

# ---- marks --------------------------------------------------------------------------------------

REGION_TEST: Final = 18
"""is_vmalloc_or_module_addr of a vmalloc address, inlined, Sv57; two more with Sv48, three with
Sv39. Source: mm/vmalloc.o, vmap_pages_range."""

REGION_TEST_MODULE: Final = 11
"""The same of a module's address, which is tested first."""

VMEMMAP_TEST: Final = 7
"""What the test of 7.2 for vmemmap adds. assumed: as compiled into 6.12 from its description
(kernel.md 4), Sv57."""

MARK_SETUP: Final = 3
"""The bitmap's address and the value, before the words. Source: mm/vmalloc.o."""


def mark_test() -> Handler:
    """Return the test that flush_cache_vmap makes before it marks: module first, then vmalloc."""
    return [when(REGION_MODULE, [spend(REGION_TEST_MODULE)], [spend(REGION_TEST, loads=2)])]


# ---- fences on one hart -------------------------------------------------------------------------

FLUSH_ALL: Final = 5
"""flush_tlb_all where one hart is online, beside its fence. Source: tlbflush.o."""

FLUSH_PAGE: Final = 55
"""flush_tlb_kernel_range and flush_tlb_page for one page; flush_tlb_mm is as long."""

FLUSH_RANGE: Final = 64
"""flush_tlb_kernel_range and flush_tlb_mm_range for 2 to 64 pages, beside the loop."""

FLUSH_FULL: Final = 62
"""The same for more pages than the threshold."""

EACH_PAGE: Final = 5
"""The loop of local_flush_tlb_range_threshold_asid without an ASID, a page, beside the fence."""

EACH_PAGE_ASID: Final = 4
"""The same with an ASID."""


def flush_here(*, each_page: int, whole: int) -> Handler:
    """Return __flush_tlb_range where no other hart is in the mask, from its call to its return.

    ``each_page`` are the instructions of a page in its loop, ``whole`` those of the function that
    flushes everything.
    """
    several = when(
        pages_le(THRESHOLD_PAGES),
        [spend(CALL + FLUSH_RANGE, loads=5), spend(each_page, each_page=True)],
        [spend(CALL + FLUSH_FULL, loads=5)],
    )
    return [
        when(ONE_PAGE, [spend(CALL + FLUSH_PAGE, loads=4)],
             [when(SOME_PAGES, [several], [spend(CALL + whole)])])
    ]


# ---- the remote half ----------------------------------------------------------------------------

IPI_PAGE: Final = 8
"""__ipi_flush_tlb_range_asid for one page, beside its fence. Source: tlbflush.o."""

IPI_RANGE: Final = 17
"""The same for 2 to 64 pages, beside the loop."""

IPI_FULL: Final = 15
"""The same for more."""


def flush_for_another() -> Handler:
    """Return the function that an S-mode IPI calls; the way to it is `imsic_handler_cycles`."""
    several = when(
        pages_le(THRESHOLD_PAGES),
        [spend(IPI_RANGE, loads=5), spend(EACH_PAGE, each_page=True)],
        [spend(IPI_FULL, loads=5)],
    )
    return [when(ONE_PAGE, [spend(IPI_PAGE, loads=4)], [several])]


# ---- user pages ---------------------------------------------------------------------------------

MAP_USER_PAGE: Final = 7
"""update_mmu_cache_range of one page, beside the fence: 4 around the loop, 3 in it. One call a page
where a file's folios are pages (filemap_map_folio_range); do_anonymous_page has one more. Source:
mm/memory.o, set_pte_range."""

SVVPTC_TEST: Final = 1
"""The patched nop (no Svvptc) or jump (Svvptc) in front of it. Source: mm/memory.o."""

PROTECT_PAGE: Final = 2
"""The same of one page for access flags, where the loop is gone: the nop, and the address loaded.
Source: mm/memory.o, __handle_mm_fault."""

# ---- all of them --------------------------------------------------------------------------------

SOURCE: Final = "object code of linux 6.12.107, gcc 12.2, rv64gc (pysim/policies/paths.py)"


def counted() -> Mapping[str, int]:
    """Return every number of this page by its name. Unit: instructions, each page's in ``each``."""
    return {
        "a call": CALL, "region test": REGION_TEST, "region test, module": REGION_TEST_MODULE,
        "region test, vmemmap more": VMEMMAP_TEST, "mark, before its words": MARK_SETUP,
        "flush all": FLUSH_ALL, "flush 1 page": FLUSH_PAGE, "flush 2-64 pages": FLUSH_RANGE,
        "flush 2-64 pages, each": EACH_PAGE, "flush 2-64 pages by ASID, each": EACH_PAGE_ASID,
        "flush more": FLUSH_FULL, "IPI, 1 page": IPI_PAGE, "IPI, 2-64 pages": IPI_RANGE,
        "IPI, more": IPI_FULL, "user fault, each page": MAP_USER_PAGE,
        "user fault, test for Svvptc": SVVPTC_TEST, "access flag": PROTECT_PAGE,
    }
