"""Every counter of some runs is what it was: a result moves on purpose or not at all."""

from __future__ import annotations

import goldens
import pytest

from pysim import engine


@pytest.mark.parametrize("name", goldens.RUNS)
def test_no_result_moved(name: str) -> None:
    committed = (goldens.FOLDER / f"{name}.txt").read_text()
    assert goldens.text(name) == committed, "if that is meant: `make goldens`, and say so"


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in goldens.FOLDER.glob("*")} == set(goldens.RUNS)


def test_the_runs_meet_every_counter() -> None:
    """What no golden run counts could move unseen."""
    counted = {line.split()[0] for path in goldens.FOLDER.glob("*")
               for line in path.read_text().splitlines() if line}
    silent = {counter.name for counter in engine.COUNTERS} - counted
    # must be 0 everywhere; and no workload draws spurious user faults, only given items are some
    assert silent == {"ambient_faults", "user_spurious_faults"}
