"""Mistakes one could make with these steps, each a policy as a user would write it.

``VARIANTS`` says where each is refuted and by what; the scenarios that are not named verify it.
``ANY_REFUTED``: what the proof for any number of harts says, of a page and of a stack.
"""

from __future__ import annotations

from drawn import Drawn

from pysim import ops
from pysim.ops import (
    ALL,
    KERNEL_ADDRESS,
    PAGE,
    PAGE_FAULT,
    PAGE_FAULT_FETCH,
    PAGE_FAULT_STORE,
    RANGE,
    SSCRATCH_ZERO,
    USER_MODE,
    Condition,
    Handler,
    Steps,
    ack,
    clear_mark,
    defer,
    fall_through,
    fence,
    flush_deferred,
    mark,
    marked,
    publish,
    retry,
    shootdown,
    store_barrier,
    store_ptes,
    when,
)
from pysim.policies import find

M = "new_valid_map_cpus"
FAULT = PAGE_FAULT & KERNEL_ADDRESS & marked(M)
STORE, W_W, RW_RW = store_ptes(valid=True), store_barrier("w_w"), store_barrier("rw_rw")


def early(*resolve: Steps, when_: Condition = SSCRATCH_ZERO & FAULT) -> Handler:
    return [when(when_, [*resolve, retry()]), fall_through()]


def changed(base: str, **handlers: Handler) -> Drawn:
    """A shipped policy but for these handlers."""
    policy = find(base)
    return Drawn(name="variant", drawn={**ops.handlers(policy), **handlers}, marks=policy.marks)


def fences(**handlers: Handler) -> Drawn:
    return changed("preventive-full", **handlers)


def marks(**handlers: Handler) -> Drawn:
    return changed("mark-barrier", **handlers)


def switch_in(**handlers: Handler) -> Drawn:
    return changed("mark-switch-in", **handlers)


# What the stack scenarios say of every mark without a check at the switch.
STACKS = {"kstack2": "S4", "kret": "S4"}
OOPS = dict.fromkeys(("map1", "map2", "cross", "remap", "wild", "trace", "ipialloc", "nl"), "S2")
NOTHING = {**OOPS, "kstack": "S4", **STACKS}  # as if nobody had been told
GENUINE = {"wild": "S3", "trace": "S3", **STACKS}  # a bad access is never reported

VARIANTS: dict[str, tuple[Drawn, dict[str, str]]] = {
    "clear everybody's bits": (
        marks(early_trap=early(clear_mark(M, who="all"), fence(ALL))), {"cross": "S2", **STACKS}),
    "clear the others' bits": (
        marks(early_trap=early(clear_mark(M, who="others"), fence(ALL))),
        {"cross": "S2", **GENUINE}),
    "never clear": (marks(early_trap=early(fence(ALL))), GENUINE),
    "resolve and report all the same": (
        marks(early_trap=[when(SSCRATCH_ZERO & FAULT, [clear_mark(M), fence(ALL)])]),
        {**OOPS, "trace": "", "kstack": "S2", **STACKS}),
    "check stores only": (
        marks(early_trap=early(clear_mark(M), fence(ALL), when_=FAULT & PAGE_FAULT_STORE)),
        {**NOTHING, "trace": ""}),
    # an unrelated fault uses the mark up without a fence
    "fence for loads only": (
        marks(early_trap=[
            when(SSCRATCH_ZERO & FAULT, [clear_mark(M), when(~PAGE_FAULT_STORE, [fence(ALL)]),
                                         retry()]),
            fall_through()]), {"ipialloc": "S2", **STACKS}),
    "fence but for fetches": (
        marks(early_trap=[
            when(SSCRATCH_ZERO & FAULT, [clear_mark(M), when(~PAGE_FAULT_FETCH, [fence(ALL)]),
                                         retry()]),
            fall_through()]), STACKS),
    "check traps from user mode only": (
        marks(early_trap=early(clear_mark(M), fence(ALL), when_=FAULT & USER_MODE)), NOTHING),
    "fence the own address space": (
        marks(early_trap=early(clear_mark(M), fence(ALL, by_asid=True))), NOTHING),
    "mark the others": (
        marks(map_kernel=[STORE, W_W, mark(M, "others")]),
        {"cross": "S2", "ipialloc": "S2", **STACKS}),
    "mark the own hart": (marks(map_kernel=[STORE, W_W, mark(M, "own")]), NOTHING),
    "mark harts that run now": (marks(map_kernel=[STORE, W_W, mark(M, "running")]), NOTHING),
    "mark harts that are online": (marks(map_kernel=[STORE, W_W, mark(M, "online")]), STACKS),
    "purge where the mm ran": (
        marks(purge_kernel=[RW_RW, shootdown(RANGE, who="mm_mask")]), {"remap": "S1", **STACKS}),
    "purge before the PTE is invalid": (
        marks(unmap_kernel=[RW_RW, shootdown(RANGE), store_ptes(valid=False)], purge_kernel=[]),
        {"remap": "S1", **STACKS}),
    "purge without waiting for anybody": (
        marks(purge_kernel=[RW_RW, fence(ALL), defer(ALL, who="others")],
              switch_task=[flush_deferred()]), {"remap": "S1", "kstack2": "S4", "kret": "S4"}),
    "let it be used before the IPI is answered": (
        fences(map_kernel=[STORE, RW_RW, publish(), shootdown(ALL)]), NOTHING),
    "order the stores, not the IPI": (
        fences(map_kernel=[STORE, W_W, shootdown(ALL)]), {**NOTHING, "ipialloc": "DL"}),
    "interrupt before the PTE is there": (
        fences(map_kernel=[RW_RW, shootdown(ALL), STORE]), {**NOTHING, "ipialloc": "DL"}),
    "interrupt where the mm ran": (
        fences(map_kernel=[STORE, RW_RW, shootdown(ALL, who="mm_mask")]), NOTHING),
    "interrupt the others only": (
        fences(map_kernel=[STORE, RW_RW, shootdown(ALL, who="others")]),
        {"cross": "S2", "ipialloc": "DL"}),
    "answer without a fence": (fences(ipi=[]), {**NOTHING, "ipialloc": "DL"}),
    # nothing that could go wrong is done between the answer and the fence
    "answer, then fence": (fences(ipi=[ack(), fence(RANGE)]), {"ipialloc": "DL"}),
    "switch in without the barrier": (
        switch_in(map_kernel=[STORE, mark(M)]), {"map2": "S2", "cross": "S2", "wild": "S2"}),
    "switch in with a fence of one page": (
        switch_in(switch_task=[when(marked(M), [clear_mark(M), fence(PAGE)])]), {"kstack2": "S4"}),
    "switch in, fence first": (
        switch_in(switch_task=[when(marked(M), [fence(ALL), clear_mark(M)])]), {}),
    "switch in, plain clear": (
        switch_in(switch_task=[when(marked(M), [clear_mark(M, amo=False), fence(ALL)])]), {}),
}

# Two tasks are switched, or harts clear at once: no scenario of two harts has that.
ANY_REFUTED = {
    "switch in without the barrier": ("S2", "S4"),
    "switch in, fence first": ("S2", "S4"),
    "switch in, plain clear": ("S2", "S4"),
    "clear everybody's bits": ("S2", "S4"),
    "fence for loads only": ("S2", "S4"),
    "fence but for fetches": ("S2", "S4"),
}
