"""What each kind of item does, to the cycle: hand-offs, visibility, stacks, waits."""

from __future__ import annotations

import pytest
from items import item, run

STACK_VISITS = {"visit_text_permille": 0, "visit_stack_permille": 1000, "visit_cycles": 10}


@pytest.mark.parametrize(("page", "pages"), [(10, 1), (8, 1), (13, 2), (0, 1), (1, 1)])
def test_the_stream_stays_on_the_pages_of_the_stack_in_use(page: int, pages: int) -> None:
    """Touched pages of another stack, or of this one below pages not yet used, are not in use."""
    stacks = (0, 8, 12)
    rows = [item("map", 0, 10, "stack", page=at, pages=4) for at in stacks]
    rows += [item("switch", 0, 30 + at, "first", page=at, pages=4, arg=1) for at in (8, 12, 0)]
    rows += [item("touch", 0, 50, "stack", page=page, pages=pages)]
    result = run(sorted(rows, key=lambda row: row["at_cycles"]), policy="mark-7.2",
                 work=STACK_VISITS)
    assert result.verdict == "ran"
    assert result.counters["ambient_faults"] == 0
    assert result.counters["l1_hits"] + result.counters["misses"] == result.counters["lookups"]
