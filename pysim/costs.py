"""The cost table: what a field of a machine may cost, low, typical and high, with its row.

The rows are those of the fact sheet ``hardware.md`` b; a core's own preset says what *it* costs.
The range is for questions about a machine that nobody has described: how far could a prediction be
off, and would the ranking of the policies survive it?
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One field of a machine (cycles, or instructions by its name), and its range."""

    field: str
    low: int
    typical: int
    high: int
    source: str


COSTS: Final = (
    Cost(field="l2_hit_cycles", low=3, typical=4, high=10, source="hardware.md rows 2-5"),
    Cost(field="walk_overhead_per_level_cycles", low=3, typical=4, high=5,
         source="hardware.md row 7"),
    Cost(field="read_l1d_cycles", low=2, typical=3, high=4, source="hardware.md row 9"),
    Cost(field="read_l2_cycles", low=10, typical=20, high=60, source="hardware.md row 10"),
    Cost(field="read_llc_cycles", low=30, typical=50, high=250, source="hardware.md row 11"),
    Cost(field="read_dram_cycles", low=250, typical=300, high=500, source="hardware.md row 12"),
    Cost(field="fence_all_cycles", low=1, typical=1, high=256, source="hardware.md row 15"),
    Cost(field="fence_va_cycles", low=1, typical=1, high=12, source="hardware.md row 16"),
    Cost(field="fence_asid_cycles", low=1, typical=1, high=4000, source="hardware.md row 17"),
    Cost(field="fence_pipe_cycles", low=5, typical=10, high=40, source="hardware.md row 18"),
    Cost(field="trap_entry_cycles", low=5, typical=12, high=40, source="hardware.md d.2"),
    Cost(field="sret_cycles", low=10, typical=10, high=20, source="hardware.md d.2, row 30"),
    Cost(field="trap_save_instructions", low=63, typical=66, high=66,
         source="hardware.md row 22, less 3"),
    Cost(field="trap_exit_instructions", low=41, typical=41, high=44, source="hardware.md row 23"),
    Cost(field="amo_cycles", low=20, typical=20, high=100, source="hardware.md row 30"),
    Cost(field="line_transfer_cycles", low=20, typical=60, high=400, source="hardware.md d.1 3"),
    Cost(field="ecall_cycles", low=217, typical=280, high=480, source="hardware.md row 33"),
    Cost(field="sbi_send_cycles", low=80, typical=200, high=500, source="hardware.md row 38"),
    Cost(field="sbi_deliver_cycles", low=300, typical=500, high=2000, source="hardware.md d.2"),
    Cost(field="sbi_handler_cycles", low=600, typical=1000, high=1500,
         source="hardware.md row 40"),
    Cost(field="imsic_handler_cycles", low=300, typical=800, high=2000,
         source="hardware.md row 41"),
)

LEVELS: Final = ("low", "typical", "high")

def at(level: str) -> Mapping[str, int]:
    """Return every field's cost at ``low``, ``typical`` or ``high``."""
    return {cost.field: getattr(cost, level) for cost in COSTS}
