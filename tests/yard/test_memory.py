"""The driver of a sweep keeps nothing of a run once it is stored: its memory is the plan's."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import asks
import pytest

from pysim import engine
from pysim.scenario import Lowering
from sweeps import grid, progress, run
from sweeps.executors.local import Processes, Threads
from sweeps.executors.shard import Batch, Done, Executor, Job, Stop
from sweeps.store import Store

SWEEP = """
# How much is kept?
seeds = 1
[axes]
policy = ["none"]
machine = ["sg2042"]
harts = [1]
workload = ["mixed"]
"""
COUNT = 800


def in_turn(jobs: Sequence[Job], *, stop: Stop) -> Iterator[Batch]:
    """Answer jobs here, five at a time."""
    for at in range(0, len(jobs), 5):
        rows = [jobs[number] for number in range(at, min(at + 5, len(jobs)))]
        yield Batch(engine.BUILD_ID, "here", tuple(
            Done(job.index, asks.fabricate(job.question)) for job in rows))


EXECUTORS: dict[str, Callable[[], Executor]] = {
    "in turn": lambda: in_turn,
    "threads": lambda: Threads(2, asks.fabricate),
    "processes": lambda: Processes(2, asks.fabricate),
}


class Scales:
    """An executor that weighs Python's objects before the first job and after the last row."""

    def __init__(self, inner: Executor) -> None:
        self._inner = inner
        self.kept = 0.0

    def __call__(self, jobs: Sequence[Job], *, stop: Stop) -> Iterator[Batch]:
        rows = size = 0
        before = held()
        for batch in self._inner(jobs, stop=stop):
            rows += len(batch.rows)
            size += sum(len(row.record) for row in batch.rows)
            under_way = sum(len(row.record) + len(row.counters) for row in batch.rows)
            yield batch
            del batch
            if rows == len(jobs):   # the executor has not ended: what it keeps is weighed too
                assert size > 1000 * rows
                self.kept = (held() - before - 2 * under_way) / size   # it holds the last batch


def held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def kept(folder: Path, executor: Executor, watch: progress.Watcher | None = None) -> float:
    """Return what part of the records' bytes a run still holds when the last has come back."""
    scales = Scales(executor)
    tracemalloc.start()
    try:
        for name, count in ("first", 40), ("second", COUNT):   # the first time, modules are loaded
            points = grid.expand(grid.parse(SWEEP, "sweep", changes=grid.Changes(seeds=count)))
            planned = run.plan(points.scenarios, Lowering(), stop=Stop())
            with Store(folder / f"{name}.db", write=True) as store:
                outcome = run.run(planned, store, scales, stop=Stop(), watch=watch)
            assert outcome.computed == count
    finally:
        tracemalloc.stop()
    return scales.kept


@pytest.mark.slow
@pytest.mark.parametrize("name", EXECUTORS)
def test_nothing_of_a_row_is_kept(name: str, tmp_path: Path) -> None:
    assert kept(tmp_path, EXECUTORS[name](), progress.Watcher()) < 0.3


@pytest.mark.slow
def test_a_driver_that_kept_records_would_be_seen(tmp_path: Path) -> None:
    class Hoard(progress.Watcher):
        """Keeps every record."""

        def __init__(self) -> None:
            super().__init__()
            self.records: list[bytes] = []

        def take(self, policy: str, record: bytes) -> None:
            self.records.append(record)

    assert kept(tmp_path, in_turn, Hoard()) > 0.9
