"""Policies with one known mistake each: every one must be refuted, or the check proves nothing.

B variants break the mark of linux-next (``mark-barrier``) or the preventive fence of 6.5
(``preventive-full``) on the mapping side, U variants the purge. Where upstream or a review had the
bug, it is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pysim.ops import (
    ALL,
    KERNEL_ADDRESS,
    PAGE,
    PAGE_FAULT,
    RANGE,
    SSCRATCH_ZERO,
    Handler,
    Mark,
    Policy,
    Steps,
    clear_mark,
    fall_through,
    fence,
    mark,
    marked,
    publish,
    retry,
    shootdown,
    store_barrier,
    store_ptes,
    touch_stack,
    when,
)
from pysim.policies.linux import Mark72
from pysim.policies.older import PreventiveFull

_MARK: Final = "new_valid_map_cpus"
_BEYOND: Final = "beyond it"


def check(*resolve: Steps) -> Handler:
    """Look for the own bit at a kernel page fault and resolve it this way; costs nothing else."""
    bit = SSCRATCH_ZERO & PAGE_FAULT & KERNEL_ADDRESS & marked(_MARK)
    return [when(bit, [*resolve, retry()]), fall_through()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken(Mark72):
    """What the broken marks share: linux-next but for the handler that is wrong.

    Source: linux-next 2026, arch/riscv/include/asm/cacheflush.h.
    """

    source: str = "broken"
    barrier: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NaiveEntry(Broken):
    """Run the check in every entry, from user mode and inside the entry itself too.

    The obvious answer to a frame that faults. But sepc, scause and sstatus of the interrupted trap
    are overwritten by then (entry.S saves them after the frame), and sscratch is not zero.
    Source: none; arch/riscv/kernel/entry.S of linux 7.2 without its `bnez tp`.
    """

    name: str = "broken-naive-entry"

    def early_trap(self) -> Handler:
        """Do not ask whether sscratch is zero."""
        bit = PAGE_FAULT & KERNEL_ADDRESS & marked(_MARK)
        return [when(bit, [clear_mark(_MARK), fence(ALL), retry()]), fall_through()]


@dataclass(frozen=True, slots=True, kw_only=True)
class B1(Broken):
    """Fence before the clear: a mark that arrives between the two is lost.

    Source: none; the reverse of arch/riscv/kernel/entry.S, linux 7.2.
    """

    name: str = "broken-b1"

    def early_trap(self) -> Handler:
        """Fence, then clear."""
        return check(fence(ALL), clear_mark(_MARK))


@dataclass(frozen=True, slots=True, kw_only=True)
class B2(Broken):
    """Clear by storing the word back: others' bits set since the test are wiped.

    The first version of the patch did this; its review found it (v1 to v2 of the series).
    Source: none; version 1 of the series that became 503638e0babf (linux 6.12).
    """

    name: str = "broken-b2"

    def early_trap(self) -> Handler:
        """Load, and, store."""
        return check(clear_mark(_MARK, amo=False), fence(ALL))


@dataclass(frozen=True, slots=True, kw_only=True)
class B3(Broken):
    """Fence only the faulting page, though one bit stands for all pages.

    Source: none; arch/riscv/kernel/entry.S of linux 7.2 with vmalloc_fault's fence.
    """

    name: str = "broken-b3"

    def early_trap(self) -> Handler:
        """Clear, then fence stval alone."""
        return check(clear_mark(_MARK), fence(PAGE))


@dataclass(frozen=True, slots=True, kw_only=True)
class B4(Broken):
    """Check after the stack has been used, as C code would.

    Source: none; the place of vmalloc_fault, arch/riscv/mm/fault.c of linux 6.1.
    """

    name: str = "broken-b4"

    def early_trap(self) -> Handler:
        """Touch the stack, then check."""
        return [touch_stack("current"), *check(clear_mark(_MARK), fence(ALL))]


@dataclass(frozen=True, slots=True, kw_only=True)
class B5(Broken):
    """Forget a call site: PTEs become valid and nobody is marked.

    Upstream twice: kfence_unprotect (8d6c8c40e733) and vmemmap hotplug (the VMEMMAP range in
    flush_cache_vmap of linux 7.2).
    Source: linux 6.12 before 8d6c8c40e733, arch/riscv/include/asm/kfence.h.
    """

    name: str = "broken-b5"

    def map_kernel(self) -> Handler:
        """Store the PTEs, nothing else."""
        return [store_ptes(valid=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class B6(Broken):
    """Mark too few harts: the store is half a word wide, CPUs 32 and up never hear of it.

    Source: none; a bitmap sized for half of NR_CPUS.
    """

    name: str = "broken-b6"

    def map_kernel(self) -> Handler:
        """Mark the first 32 CPUs."""
        return [
            store_ptes(valid=True),
            store_barrier("w_w"),
            mark(_MARK, "first_n", n=32, insn="sw"),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class B7(Broken):
    """Mark before the PTE store: the mark can be used up before there is anything to see.

    Source: none; the reverse of mark_new_valid_map, arch/riscv/include/asm/cacheflush.h.
    """

    name: str = "broken-b7"

    def map_kernel(self) -> Handler:
        """Mark, then store."""
        return [mark(_MARK), store_barrier("w_w"), store_ptes(valid=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class B8(Broken):
    """Mark after the mapping is published.

    Source: none; what flush_cache_vmap after the area is in use would be.
    """

    name: str = "broken-b8"

    def map_kernel(self) -> Handler:
        """Store, publish, then mark."""
        return [store_ptes(valid=True), store_barrier("w_w"), publish(), mark(_MARK)]


@dataclass(frozen=True, slots=True, kw_only=True)
class B9(Broken):
    """Clear with a 32-bit amoxor in a 64-bit word: nothing happens on CPUs 32 and up.

    Versions 1 and 2 of the series had amoxor.w; version 4 corrected it.
    Source: none; versions 1 and 2 of the series that became 503638e0babf (linux 6.12).
    """

    name: str = "broken-b9"

    def early_trap(self) -> Handler:
        """Clear 32 bits."""
        return check(clear_mark(_MARK, width=32), fence(ALL))


@dataclass(frozen=True, slots=True, kw_only=True)
class B10(Broken):
    """Retry without a fence: right only where invalid entries are not cached.

    Source: linux 6.12 on a hart with Svvptc, arch/riscv/kernel/entry.S, before 1b2c6b56a9fa.
    """

    name: str = "broken-b10"

    def early_trap(self) -> Handler:
        """Clear and retry."""
        return check(clear_mark(_MARK))


@dataclass(frozen=True, slots=True, kw_only=True)
class B11(PreventiveFull):
    """Send the IPI while the PTE may still be in the store buffer.

    Source: none; flush_tlb_all of linux 6.5 without the order its IPI path has.
    """

    name: str = "broken-b11"
    source: str = "broken"

    def map_kernel(self) -> Handler:
        """Store and interrupt, no barrier between."""
        return [store_ptes(valid=True), shootdown(ALL, who="online")]


@dataclass(frozen=True, slots=True, kw_only=True)
class B12(PreventiveFull):
    """Fence on the mapping hart alone.

    Source: none; local_flush_tlb_all in place of flush_tlb_all, linux 6.5.
    """

    name: str = "broken-b12"
    source: str = "broken"

    def map_kernel(self) -> Handler:
        """Store and fence here."""
        return [store_ptes(valid=True), fence(ALL)]


@dataclass(frozen=True, slots=True, kw_only=True)
class B13(Broken):
    """Look at another word than the mark's: its own bit is never seen.

    The check loaded the 32-bit CPU number of thread_info as 64 bits; what lay behind it chose the
    word and the bit (e108c8a94f3f, linux 6.17-rc3 and stable).
    Source: linux 6.12 before e108c8a94f3f, arch/riscv/kernel/entry.S, macro new_vmalloc_check.
    """

    name: str = "broken-b13"
    marks: tuple[Mark, ...] = (Mark(_MARK), Mark(_BEYOND))

    def early_trap(self) -> Handler:
        """Test, clear and fence by a bit that nobody sets."""
        bit = SSCRATCH_ZERO & PAGE_FAULT & KERNEL_ADDRESS & marked(_BEYOND)
        return [when(bit, [clear_mark(_BEYOND), fence(ALL), retry()]), fall_through()]


@dataclass(frozen=True, slots=True, kw_only=True)
class B14(Broken):
    """Fence the page on the mapping hart alone, and mark nobody.

    kfence did so to keep interrupts off (b3431a8bb336, linux 6.13), until SpacemiT X60 reported
    use-after-free on every hart but the allocating one (8d6c8c40e733, linux 7.2 and stable).
    Source: linux 6.13 to 7.1, arch/riscv/include/asm/kfence.h, kfence_protect_page.
    """

    name: str = "broken-b14"

    def map_kernel(self) -> Handler:
        """Store and fence the page here."""
        return [store_ptes(valid=True), fence(PAGE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class B15(Broken):
    """Put the write barrier behind the mark: it orders nothing that matters.

    Source: none; mark_new_valid_map of linux-next 2026, arch/riscv/include/asm/cacheflush.h, with
    its smp_wmb() last.
    """

    name: str = "broken-b15"

    def map_kernel(self) -> Handler:
        """Store, mark, then the barrier."""
        return [store_ptes(valid=True), mark(_MARK), store_barrier("w_w")]


@dataclass(frozen=True, slots=True, kw_only=True)
class U1(Broken):
    """Purge with an IPI that may overtake the invalid PTE.

    Source: none; __purge_vmap_area_lazy without the order its IPI path has.
    """

    name: str = "broken-u1"

    def purge_kernel(self) -> Handler:
        """Interrupt, no barrier before."""
        return [shootdown(RANGE, who="online")]


@dataclass(frozen=True, slots=True, kw_only=True)
class U2(Broken):
    """Purge on this hart alone.

    Source: none; kfence_protect_page (b3431a8bb336, linux 6.13) as the purge would do it.
    """

    name: str = "broken-u2"

    def purge_kernel(self) -> Handler:
        """Fence here."""
        return [store_barrier("rw_rw"), fence(ALL)]


@dataclass(frozen=True, slots=True, kw_only=True)
class U3(Broken):
    """Do not fence a purge at all.

    Source: none; __purge_vmap_area_lazy without its flush.
    """

    name: str = "broken-u3"

    def purge_kernel(self) -> Handler:
        """Do nothing."""
        return []


BROKEN: Final[tuple[Policy, ...]] = (
    NaiveEntry(), B1(), B2(), B3(), B4(), B5(), B6(), B7(), B8(), B9(), B10(), B11(), B12(),
    B13(), B14(), B15(), U1(), U2(), U3(),
)
