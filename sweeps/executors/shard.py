"""The protocol of every executor: jobs, shards of them, and who is blamed when a worker dies.

A *job* is a question that has no answer yet. A *shard* is a list of jobs that one worker answers in
a row, streaming what is finished at least every 100 ms, so that a death costs next to nothing. The
``Backlog`` hands out shards, longest predicted jobs first and ever smaller towards the end (guided
self-scheduling), and takes back what a dead worker left. A shard that killed its worker is asked
again *carefully*, one batch per job: the first unfinished job of a careful shard is the suspect and
is asked again alone, the others lose nothing. A suspect over whom a second worker dies is the
culprit. No result depends on how jobs were cut into shards.

Left out: a time limit per job (a run ends by itself: its work is finite and a fault that is retried
without end is a verdict), and any knowledge of where workers live.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from pysim import engine
from pysim.errors import FencelabError

if TYPE_CHECKING:
    from pysim.engine import Question

STREAM_SECONDS: Final = 0.1
"""A worker hands over what is finished at least this often, as soon as its current job ends."""
SHARD_SECONDS_MIN: Final = 0.05
SHARD_SECONDS_MAX: Final = 1.0
SHARDS_PER_WORKER: Final = 4
"""A shard is the remaining work divided by this and by the workers, within the two limits above."""
CAREFUL_JOBS_MAX: Final = 64
NODE_LOSSES_MAX: Final = 3
"""A job that saw so many machines disappear is given up."""

Simulate = Callable[["Question"], bytes]
"""What a worker does with a question: the record, as canonical bytes."""


@dataclass(frozen=True, slots=True)
class Job:
    """One question without an answer; ``weight`` is its predicted cost in any one unit."""

    index: int
    question: Question
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a job: a record or an error, and the seconds the engine took."""

    index: int
    record: bytes = b""
    error: str = ""
    wall_s: float = 0.0
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Batch:
    """What a worker hands over; ``build_id`` is the engine that answered, ``host`` where."""

    build_id: str
    host: str
    rows: tuple[Done, ...]


class Executor(Protocol):
    """Answers jobs in any order; every job comes back exactly once unless ``stop`` is set."""

    def __call__(self, jobs: Sequence[Job], *, stop: Stop) -> Iterator[Batch]:
        """Yield batches until every job is done, or what is under way when ``stop`` is set."""
        ...


class Stop:
    """Set by Ctrl-C: 1 = hand out nothing more and drain, 2 = leave what is under way behind."""

    def __init__(self) -> None:
        self.level = 0

    def __bool__(self) -> bool:
        return self.level > 0


class ExecutorError(FencelabError):
    """An executor that cannot start or go on: a missing library, a cluster that is not there."""


def simulate(question: Question) -> bytes:
    """Ask the engine; the answer as the record that is stored."""
    return engine.simulate(question).record()


def complaint(problem: Exception) -> str:
    """Return an exception as one line."""
    return " ".join(f"{type(problem).__name__}: {problem}".split())


def answer(job: Job, ask: Simulate) -> Done:
    """Answer one job; whatever Python raises is the job's error, not the worker's."""
    wall, cpu = time.perf_counter(), time.thread_time()
    try:
        record, error = ask(job.question), ""
    except Exception as problem:
        record, error = b"", complaint(problem)
    return Done(job.index, record, error, time.perf_counter() - wall, time.thread_time() - cpu)


def answer_shard(
    jobs: Iterable[Job], ask: Simulate, *, careful: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Done, ...]]:
    """Answer jobs in a row; yield the finished ones every 100 ms (careful: each one at once)."""
    rows: list[Done] = []
    handed_over = time.monotonic()
    for job in jobs:
        if stopped():
            break
        rows.append(answer(job, ask))
        if careful or time.monotonic() - handed_over >= STREAM_SECONDS:
            yield tuple(rows)
            rows = []
            handed_over = time.monotonic()
    if rows:
        yield tuple(rows)


class Shard:
    """Jobs given to one worker, and those of them that have not come back."""

    def __init__(self, jobs: Sequence[Job], *, careful: bool) -> None:
        self.jobs = tuple(jobs)
        self.careful = careful
        self.pending = {job.index: job for job in jobs}

    def take(self, rows: Iterable[Done]) -> None:
        """Note that these came back."""
        for row in rows:
            self.pending.pop(row.index, None)


class Backlog:
    """The jobs nobody has been given yet, and what a second per unit of weight has come to.

    Where batches do not survive their worker, ``careful_jobs`` is 1: one suspect a shard. A job is
    blamed when ``deaths_max`` workers have died over it; one may be killed by something else.
    """

    def __init__(self, jobs: Iterable[Job], workers: int, *,
                 careful_jobs: int = CAREFUL_JOBS_MAX, deaths_max: int = 2) -> None:
        self._careful_jobs = careful_jobs
        self._deaths_max = deaths_max
        self._deaths: dict[int, int] = {}
        self._waiting = deque(sorted(jobs, key=lambda job: (-job.weight, job.index)))
        self._careful: deque[tuple[Job, ...]] = deque()
        self._weights = {job.index: job.weight for job in self._waiting}
        self._left = sum(job.weight for job in self._waiting)
        self._workers = workers
        self._seen_s = 0.0
        self._seen_weight = 0.0
        self._losses: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting or self._careful)

    def _shard_seconds(self, seconds_per_weight: float) -> float:
        share = self._left * seconds_per_weight / (SHARDS_PER_WORKER * self._workers)
        return min(max(share, SHARD_SECONDS_MIN), SHARD_SECONDS_MAX)

    def next_shard(self) -> Shard:
        """Cut the next shard; one job as long as nothing is known about what jobs cost."""
        if self._careful:
            return Shard(self._careful.popleft(), careful=True)
        jobs = [self._pop()]
        if self._seen_weight > 0:
            rate = self._seen_s / self._seen_weight
            room = self._shard_seconds(rate) - jobs[0].weight * rate
            while self._waiting and room >= self._waiting[0].weight * rate:
                jobs.append(self._pop())
                room -= jobs[-1].weight * rate
        return Shard(jobs, careful=False)

    def _pop(self) -> Job:
        job = self._waiting.popleft()
        self._left -= job.weight
        return job

    def _push(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self._waiting.appendleft(job)
            self._left += job.weight

    def learn(self, rows: Iterable[Done]) -> None:
        """Note what finished jobs cost."""
        for row in rows:
            self._seen_s += row.wall_s
            self._seen_weight += self._weights[row.index]

    def worker_died(self, shard: Shard, how: str) -> tuple[Done, ...]:
        """Take back what a dead worker left; return the culprit if there is no doubt."""
        left = [job for job in shard.jobs if job.index in shard.pending]
        culprit: tuple[Done, ...] = ()
        if left and (shard.careful or len(left) == 1):
            suspect, *left = left
            self._deaths[suspect.index] = self._deaths.get(suspect.index, 0) + 1
            if self._deaths[suspect.index] >= self._deaths_max:
                culprit = (Done(suspect.index, error=how),)
            else:
                self._careful.append((suspect,))
        suspects, rest = left[:CAREFUL_JOBS_MAX], left[CAREFUL_JOBS_MAX:]
        for at in range(0, len(suspects), self._careful_jobs):
            self._careful.append(tuple(suspects[at:at + self._careful_jobs]))
        self._push(reversed(rest))
        return culprit

    def node_lost(self, shard: Shard, how: str) -> tuple[Done, ...]:
        """Take back what a lost machine left: nobody's fault, unless it happens again and again."""
        given_up = []
        for job in reversed(shard.jobs):
            if job.index not in shard.pending:
                continue
            self._losses[job.index] = self._losses.get(job.index, 0) + 1
            if self._losses[job.index] < NODE_LOSSES_MAX:
                self._push([job])
            else:
                given_up.append(Done(job.index, error=how))
        return tuple(given_up)
