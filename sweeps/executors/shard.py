"""The protocol of every executor: jobs, shards of them, and who is blamed when a worker dies.

A *job* is a question that has no answer yet. A *shard* is a list of jobs that one worker answers in
a row, streaming what is finished at least every 100 ms, so that a death costs next to nothing. The
``Backlog`` hands out shards, longest predicted jobs first and ever smaller towards the end (guided
self-scheduling), and takes back what a dead worker left. A shard that killed its worker is asked
again *carefully*, one batch per job: the first unfinished job of a careful shard is the suspect and
is asked again alone, the others lose nothing. A suspect over whom a second worker dies is the
culprit. No result depends on how jobs were cut into shards.

A worker computes in a thread of its own while another watches: it hands over what is finished even
in the middle of a long job, and when a job is past its time it raises the flag that ends a run from
outside. A job that does not listen is given up together with its worker.

Left out: any knowledge of where workers live.
"""

from __future__ import annotations

import contextlib
import pickle
import resource
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from pysim import engine
from pysim.errors import FencelabError, StoppedError

if TYPE_CHECKING:
    from pysim.engine import Question

STREAM_SECONDS: Final = 0.1
"""A worker hands over what is finished at least this often, as soon as its current job ends."""
SHARD_SECONDS_MIN: Final = 0.05
SHARD_SECONDS_MAX: Final = 1.0
SHARDS_PER_WORKER: Final = 4
"""A shard is the remaining work divided by this and by the workers, within the two limits above."""
SHARD_JOBS_MAX: Final = 2000
"""Even of the shortest jobs: what is under way is held by the driver."""
CAREFUL_JOBS_MAX: Final = 64
GRACE_SECONDS: Final = 2.0
"""How long a job that was told to end may take to do so."""
NODE_LOSSES_MAX: Final = 3
"""A job that saw so many machines disappear is given up."""

Simulate = Callable[[Any], "bytes | engine.Packed"]
"""What a worker does with a question: the record, as canonical bytes; its counters packed too."""


class Job(NamedTuple):
    """One question without an answer; ``weight`` is its predicted cost in any one unit.

    The question is what the executor's ``Simulate`` takes: an engine's Question, or another that
    can be pickled.
    """

    index: int  # type: ignore[assignment]  # a tuple's method, which nobody needs
    question: Any
    weight: float = 1.0


class Done(NamedTuple):
    """What became of a job: a record or an error, and the seconds the engine took.

    ``counters`` are the record's, packed, if whoever answered had them at hand.
    """

    index: int  # type: ignore[assignment]
    record: bytes = b""
    error: str = ""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_kib: int = 0
    counters: bytes = b""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one job may take: seconds, and MiB beyond what its worker already holds."""

    timeout_s: float | None = None
    memory_mib: int | None = None


NO_LIMITS: Final = Limits()


class Batch(NamedTuple):
    """What a worker hands over; ``build_id`` is the engine that answered, ``host`` where."""

    build_id: str
    host: str
    rows: tuple[Done, ...]


# ---- on the way ---------------------------------------------------------------------------------
# Plain tuples, pickled: of objects, each is a call of a Python function at both ends.


def packed_jobs(jobs: Iterable[Job]) -> bytes:
    """Return jobs as they travel to a worker; their weights stay at home."""
    return pickle.dumps([
        (job.index, job.question.parts, None) if type(job.question) is engine.Question
        else (job.index, None, job.question) for job in jobs], pickle.HIGHEST_PROTOCOL)


def unpacked_jobs(packed: bytes) -> list[Job]:
    """Return the jobs, all made at once: between runs each would meet cold caches."""
    return [Job(index, question if parts is None else engine.Question.of(parts))
            for index, parts, question in pickle.loads(packed)]


def packed_batch(batch: Batch) -> bytes:
    """Return a batch as it travels to the driver."""
    build_id, host, rows = batch
    return pickle.dumps((build_id, host, [tuple(row) for row in rows]), pickle.HIGHEST_PROTOCOL)


def unpacked_batch(packed: bytes) -> Batch:
    """Return the batch."""
    build_id, host, rows = pickle.loads(packed)
    return Batch(build_id, host, tuple(map(Done._make, rows)))


# ---- the protocol -------------------------------------------------------------------------------


class Executor(Protocol):
    """Answers jobs in any order; every job comes back exactly once unless ``stop`` is set.

    An empty batch says that nothing came for a while.
    """

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


class StuckError(Exception):
    """A job is past its time and does not listen: its worker has to be replaced."""


_DESK: Final = threading.local()


def stop_flag() -> engine.Stop | None:
    """Return the flag that ends this thread's job; an ask that can be ended passes it on."""
    return getattr(_DESK, "flag", None)


def simulate(question: Question) -> engine.Packed:
    """Ask the engine; the answer as the record that is stored."""
    return engine.packed_record(question, stop=stop_flag())


def complaint(problem: Exception) -> str:
    """Return an exception as one line."""
    return " ".join(f"{type(problem).__name__}: {problem}".split())


def answer(job: Job, ask: Simulate, limits: Limits = NO_LIMITS) -> Done:
    """Answer one job; whatever Python raises is the job's error, not the worker's."""
    wall, cpu = time.perf_counter(), time.thread_time()
    counters = b""
    try:
        said, error = ask(job.question), ""
        record, counters = said if isinstance(said, engine.Packed) else (said, b"")
    except StoppedError:
        record, error = b"", f"timeout: more than {limits.timeout_s:g} s"
    except MemoryError as problem:
        told = f" (limit {limits.memory_mib} MiB)" if limits.memory_mib else ""
        record, error = b"", complaint(problem).rstrip(": ") + told
    except Exception as problem:
        record, error = b"", complaint(problem)
    return Done(job.index, record, error, time.perf_counter() - wall, time.thread_time() - cpu,
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, counters)


@contextlib.contextmanager
def memory_limited(mib: int | None) -> Iterator[None]:
    """While inside, this process may take so much more memory; then an allocation fails."""
    if mib is None:
        yield
        return
    with open("/proc/self/status", encoding="ascii") as file:
        held = next(int(line.split()[1]) << 10 for line in file if line.startswith("VmData:"))
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (held + (mib << 20), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


class _Bench:
    """Where one thread answers a shard and another looks on."""

    def __init__(self, jobs: Iterable[Job], ask: Simulate, careful: bool, limits: Limits,
                 stopped: Callable[[], bool]) -> None:
        self._jobs, self._ask, self._careful = jobs, ask, careful
        self._limits, self._stopped = limits, stopped
        self._lock = threading.Lock()
        self._rows: list[Done] = []
        self.wake = threading.Event()
        self.ended = False
        self.left = False
        self.at: tuple[int, float, engine.Stop] | None = None
        self.trouble: BaseException | None = None

    def work(self) -> None:
        """Answer the jobs in a row, in a thread of its own."""
        try:
            flag = _DESK.flag = engine.Stop()
            with memory_limited(self._limits.memory_mib):
                for job in self._jobs:
                    if self.left or self._stopped():
                        break
                    if self._limits.timeout_s is not None:   # its own: it may be set late
                        flag = _DESK.flag = engine.Stop()
                    self.at = job.index, time.monotonic(), flag
                    row = answer(job, self._ask, self._limits)
                    self.at = None
                    with self._lock:
                        self._rows.append(row)
                    if self._careful:
                        self.wake.set()
        except BaseException as trouble:
            self.trouble = trouble
        finally:
            self.ended = True
            self.wake.set()

    def take(self) -> tuple[Done, ...]:
        """Return what was finished since last time."""
        with self._lock:
            rows, self._rows = self._rows, []
        return tuple(rows)

    def overdue(self) -> int | None:
        """Tell a job past its time to end; return the one that does not listen, if there is one."""
        at, limit = self.at, self._limits.timeout_s
        if at is None or limit is None:
            return None
        index, begun, flag = at
        taken = time.monotonic() - begun
        if taken > limit:
            flag.set()
        return index if taken > limit + GRACE_SECONDS else None

    def next_look(self) -> float:
        """Return the seconds to wait for the thread at most."""
        at, limit = self.at, self._limits.timeout_s
        if at is None or limit is None:
            return STREAM_SECONDS
        return min(STREAM_SECONDS, max(0.001, at[1] + limit - time.monotonic()))


def answer_shard(
    jobs: Iterable[Job], ask: Simulate, *, careful: bool = False,
    stopped: Callable[[], bool] = lambda: False, limits: Limits = NO_LIMITS,
) -> Iterator[tuple[Done, ...]]:
    """Answer jobs in a row; yield the finished ones every 100 ms (careful: each one at once).

    Raises StuckError after the row of a job that neither ends nor listens.
    """
    bench = _Bench(jobs, ask, careful, limits, stopped)
    thread = threading.Thread(target=bench.work, daemon=True)
    thread.start()
    try:
        while True:
            bench.wake.wait(bench.next_look())
            ended = bench.ended
            bench.wake.clear()
            if rows := bench.take():
                yield rows
            if ended:
                break
            stuck = bench.overdue()
            if stuck is not None:
                yield (Done(stuck, error=f"timeout: more than {limits.timeout_s:g} s, and it "
                            "could not be ended", wall_s=limits.timeout_s or 0.0),)
                raise StuckError(stuck)
        thread.join()
        if bench.trouble is not None:
            raise bench.trouble
    finally:
        bench.left = True


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

    ``jobs`` may be a sequence that makes each when it is asked for, if it has their ``weights``.
    ``workers`` may change as a cluster grows. Where batches do not survive their worker,
    ``careful_jobs`` is 1: one suspect a shard. A job is blamed when ``deaths_max`` workers have
    died over it; one may be killed by something else.
    """

    def __init__(self, jobs: Sequence[Job], workers: int, *,
                 careful_jobs: int = CAREFUL_JOBS_MAX, deaths_max: int = 2) -> None:
        self._careful_jobs = careful_jobs
        self._deaths_max = deaths_max
        self._deaths: dict[int, int] = {}
        self._jobs = jobs
        weights = getattr(jobs, "weights", None)
        if weights is None:
            weights = array("d", (job.weight for job in jobs))
        self._order = array("Q", sorted(range(len(jobs)), key=weights.__getitem__,
                                        reverse=True))   # equals stay in order
        self._next = 0
        self._weight = weights
        self._back: deque[Job] = deque()
        self._careful: deque[tuple[Job, ...]] = deque()
        self._out: dict[int, float] = {}
        self._left = sum(weights)
        self.workers = workers
        self._seen_s = 0.0
        self._seen_weight = 0.0
        self._losses: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._careful or self._back) or self._next < len(self._order)

    def seconds_left(self) -> float | None:
        """Return the predicted seconds of one worker for what is left; None at first."""
        return self._left * self._seen_s / self._seen_weight if self._seen_weight > 0 else None

    def _shard_seconds(self, seconds_per_weight: float) -> float:
        share = self._left * seconds_per_weight / (SHARDS_PER_WORKER * self.workers)
        return min(max(share, SHARD_SECONDS_MIN), SHARD_SECONDS_MAX)

    def next_shard(self) -> Shard:
        """Cut the next shard; one job as long as nothing is known about what jobs cost."""
        if self._careful:
            return Shard(self._careful.popleft(), careful=True)
        jobs = [self._pop()]
        if self._seen_weight > 0:
            rate = self._seen_s / self._seen_weight
            room = self._shard_seconds(rate) - jobs[0].weight * rate
            while len(jobs) < SHARD_JOBS_MAX and (weight := self._peek()) is not None \
                    and room >= weight * rate:
                jobs.append(self._pop())
                room -= weight * rate
        return Shard(jobs, careful=False)

    def _peek(self) -> float | None:
        """Return the weight of the next job."""
        if self._back:
            return self._back[0].weight
        if self._next < len(self._order):
            return float(self._weight[self._order[self._next]])
        return None

    def _pop(self) -> Job:
        if self._back:
            job = self._back.popleft()
        else:
            job = self._jobs[self._order[self._next]]
            self._next += 1
        self._left -= job.weight
        self._out[job.index] = job.weight
        return job

    def _push(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self._back.appendleft(job)
            self._left += job.weight

    def learn(self, rows: Iterable[Done]) -> None:
        """Note what finished jobs cost."""
        for row in rows:
            weight = self._out.pop(row.index, None)
            if weight is not None:
                self._seen_s += row.wall_s
                self._seen_weight += weight

    def give_back(self, shard: Shard) -> None:
        """Take back what a worker did not come to, nobody's fault."""
        self._push(reversed([job for job in shard.jobs if job.index in shard.pending]))

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
