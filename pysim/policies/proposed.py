"""What nobody ships: the mark with a check before a stack's first use, and deferred user fences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pysim.ops import (
    ALL,
    PAGE,
    RANGE,
    Extent,
    Handler,
    clear_mark,
    defer,
    fence,
    flush_deferred,
    marked,
    shootdown,
    spend,
    store_barrier,
    when,
)
from pysim.policies.linux import Mark72, switch_mm

_MARK: Final = "new_valid_map_cpus"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkSwitchIn(Mark72):
    """The mark with its write barrier, and a look at the own bit before a task's stack is used.

    The check in handle_exception cannot help a trap whose own frame meets a stale invalid entry:
    it stores to the stack after the check, with sepc and sscratch still live. A hart that fences
    before it uses a stack for the first time cannot hold such an entry.
    assumed: 6 instructions, 2 loads when the bit is clear (address, word, test).
    Source: none; follows from arch/riscv/kernel/entry.S of linux 7.2, where the frame is stored
    between the check and `csrw CSR_SCRATCH, x0`.
    """

    name: str = "mark-switch-in"
    source: str = "proposed"
    barrier: bool = True
    user_by_asid: bool = True

    def switch_task(self) -> Handler:
        """Receive what was mapped before this task became runnable."""
        return [spend(6, loads=2), when(marked(_MARK), [clear_mark(_MARK), fence(ALL)])]


def defer_user(extent: Extent) -> Handler:
    """Queue the fence for every hart of the mm and interrupt only those that run it now."""
    return [
        store_barrier("rw_rw"),
        defer(extent, who="mm_mask"),
        shootdown(extent, who="running", by_asid=True),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred(Mark72):
    """User fences of harts that do not run the mm wait for their next switch to it.

    The kernel side is that of 7.2: this policy is about the user side.
    Source: RFC 20251030135652 "riscv: mm: Defer tlb flush to context_switch"; not merged in 7.3.4.
    """

    name: str = "deferred"
    source: str = "RFC, 2025-10"

    def protect_user(self) -> Handler:
        """Fence the changed page where the mm runs, queue it elsewhere."""
        return defer_user(PAGE)

    def unmap_user(self) -> Handler:
        """Fence the range where the mm runs, queue it elsewhere."""
        return defer_user(RANGE)

    def switch_mm(self) -> Handler:
        """Execute what was queued for this hart."""
        return [*switch_mm(), flush_deferred()]


MARK_SWITCH_IN: Final = MarkSwitchIn()
DEFERRED: Final = Deferred()
