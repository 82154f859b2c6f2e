"""Ask the explorer whether a policy is safe."""

from __future__ import annotations

from typing import Any, Final

from pysim import engine
from pysim.litmus import ACTIONS, INVALIDS, ORDERS, REGIONS, TLBS, Litmus, Parameters

_NONE: Final = 2**32 - 1


def question(litmus: Litmus, parameters: Parameters, *, exact: bool = True, symmetry: bool = True,
             eager: bool = False, max_states: int = 10**7, max_memory_bytes: int = 2**30,
             hash_seed: int = 0) -> dict[str, Any]:
    """Return a ``struct csim_explore_question`` by field names."""
    actions = [
        [{"kind": ACTIONS.index(a.kind), "first": a.first, "pages": a.pages, "frame": a.frame,
          "count": a.count, "masked": int(a.masked)} for a in script]
        for script in litmus.scripts
    ]
    return {
        "harts": litmus.harts,
        "pages": litmus.pages,
        "below": sum(1 << page for page in litmus.table),
        "region": REGIONS.index(litmus.region),
        "stack_first": litmus.stack,
        "stack_pages": litmus.stack_pages,
        "frame_pages": litmus.frame,
        "object": _NONE if litmus.object is None else litmus.object,
        "ipi_allocates": int(litmus.ipi_allocates),
        "order": ORDERS.index(parameters.order),
        "invalid": INVALIDS.index(parameters.invalid),
        "nonleaf": int(parameters.nonleaf),
        "tlb": TLBS.index(parameters.tlb),
        "svvptc": int(parameters.svvptc),
        "svvptc_k": _NONE if parameters.svvptc_k is None else parameters.svvptc_k,
        "via": engine.VIA[parameters.via],
        "sbi_limit_pages": parameters.sbi_limit_pages,
        "retries": litmus.retries(parameters),
        "nesting": parameters.nesting,
        "cpus": list(parameters.cpus[: litmus.harts]),
        "actions_nr": [len(script) for script in litmus.scripts],
        "actions": actions,
        "chaos": _NONE if litmus.chaos is None else litmus.chaos,
        "exact": int(exact),
        "symmetry": int(symmetry),
        "eager": int(eager),
        "max_states": max_states,
        "max_memory_bytes": max_memory_bytes,
        "hash_seed": hash_seed,
    }
