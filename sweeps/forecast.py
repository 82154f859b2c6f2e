"""What a sweep would take: how many runs are left, for how long, in how much memory.

A few of the runs that are left are made to find out, spread over the predicted costs; their records
are thrown away. Left out: what other programs do to this machine meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sweeps.executors.shard import Executor, Job, Stop
from sweeps.run import Plan
from sweeps.store import Store
from sweeps.tables import Column, Table

if TYPE_CHECKING:
    from sweeps.points import Points

TRIALS: Final = 6
TRIAL_SECONDS: Final = 2.0
"""No further trial is begun after this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """A plan in numbers; ``seconds`` and ``worker_mib`` are None when nothing could be tried.

    ``seconds`` is wall time on ``workers`` idle cores; ``worker_mib`` the most that a worker held.
    """

    points: int
    cells: int
    questions: int
    stored: int
    failed: int
    tried: int
    workers: int
    seconds: float | None
    worker_mib: float | None

    def table(self) -> Table:
        """Return it as a table of two columns."""
        left = self.questions - self.stored - self.failed
        seconds = None if self.seconds is None else float(f"{self.seconds:.2g}")
        mib = None if self.worker_mib is None else float(f"{self.worker_mib:.2g}")
        return Table(title="what would run", columns=(
            Column(name="what", style="text"), Column(name="value"),
            Column(name="unit", style="text")), rows=(
            ("combinations of the axes", self.cells, "points"),
            ("with replicates", self.points, "points"),
            ("different questions", self.questions, "runs"),
            ("stored already", self.stored, "runs"),
            ("failed earlier", self.failed, "runs"),
            ("to be computed", left, "runs"),
            (f"expected time, {self.workers} workers", seconds, "s"),
            ("memory of a worker", mib, "MiB"),
            ("tried to find out", self.tried, "runs")))


class _Trials(Sequence[Job]):
    """A few jobs of a plan, heaviest first."""

    def __init__(self, planned: Plan, at: Sequence[int]) -> None:
        self._planned, self._at = planned, at
        self.weights = [planned.weights[one] for one in at]

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, index: int) -> Job:  # type: ignore[override]
        at = self._at[index]
        return Job(at, self._planned.question(at), self.weights[index])


def of_plan(planned: Plan, points: Points, store: Path, executor: Executor,
            workers: int | None, *, stop: Stop) -> Forecast:
    """Ask the store what it has and try a few of the rest. Raises what they raise."""
    known: set[str] = set()
    failed: set[str] = set()
    if store.exists():
        with Store(store, write=False) as opened:
            known = opened.known(planned.first)
            failed = {one.key for one in opened.failures(planned.first)} - known
    left = [at for key, at in planned.first.items() if key not in known and key not in failed]
    left.sort(key=lambda at: planned.weights[at])
    cores = workers or len(os.sched_getaffinity(0))
    seconds, weight, peak, tried = 0.0, 0.0, 0, 0
    if left:
        trials = _Trials(planned, sorted({left[i * (len(left) - 1) // max(1, TRIALS - 1)]
                                          for i in range(TRIALS)}))
        began = time.monotonic()
        for batch in executor(trials, stop=stop):
            for row in batch.rows:
                tried += 1
                peak = max(peak, row.peak_kib)
                if not row.error:
                    seconds += row.wall_s
                    weight += planned.weights[row.index]
            if time.monotonic() - began > TRIAL_SECONDS and not stop:
                stop.level = 1
    total = sum(planned.weights[at] for at in left)
    expected = 0.0 if not left else total * seconds / weight / cores if weight else None
    return Forecast(points=len(planned.keys), cells=len(points.cells),
                    questions=len(planned.first), stored=len(known), failed=len(failed),
                    tried=tried, workers=cores, seconds=expected,
                    worker_mib=peak / 1024 if peak else None)
