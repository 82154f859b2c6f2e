"""Executors on this machine: a pool of processes (the default) and threads in this process.

The pool is our own because the standard ones do not survive a worker that dies in C: one hangs for
ever, the other throws away every other job. Here each worker owns one pipe; the driver waits on all
pipes and all deaths at once, keeps a second shard ready in every worker (which reads its pipe in a
thread of its own, so two full pipes never wait for each other), and replaces a worker that died.
Workers are forked from a small clean process that has imported the engine and nothing else: they
start in milliseconds, and inherit neither the driver's threads nor its lock on the store. The first
worker begins alone; the others are hired when there is more than a third of a second to do.

Threads answer in this process; the engine's call drops the GIL, so they use every core, but a crash
in C takes the driver with it.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import queue
import signal
import socket
import sys
import threading
import time
import types
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.forkserver import ensure_running
from typing import TYPE_CHECKING, Final

from pysim import engine
from sweeps.executors.shard import (
    NO_LIMITS,
    Backlog,
    Batch,
    Done,
    Job,
    Limits,
    Shard,
    Simulate,
    Stop,
    StuckError,
    answer_shard,
    packed_batch,
    packed_jobs,
    simulate,
    unpacked_batch,
    unpacked_jobs,
)

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

POLL_SECONDS: Final = 0.25
"""How long a blocking wait lasts before the driver looks at `stop` again."""


SERIAL_SECONDS: Final = 1 / 3
"""Work predicted to take less than this is left to one worker."""
HIRE_SECONDS: Final = 0.1
"""Others are hired when the first has had nothing to say for so long."""
SHARDS_PER_WORKER: Final = 2
"""One is worked at, the next is there already."""
_READY: Final = "ready"
_STUCK: Final = "stuck"


class _Orders:
    """What the driver sends a worker, read in a thread: shards, then None for stop."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._shards: queue.SimpleQueue[tuple[bytes, bool] | None] = queue.SimpleQueue()
        self.stopped = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while (shard := self._pipe.recv()) is not None:
                self._shards.put(shard)
        except (EOFError, OSError):
            os._exit(0)   # the driver is gone: nobody is left to tell
        self.stopped = True
        self._shards.put(None)

    def __iter__(self) -> Iterator[tuple[list[Job], bool]]:
        while (shard := self._shards.get()) is not None and not self.stopped:
            jobs, careful = shard
            yield unpacked_jobs(jobs), careful


def _serve(pipe: Connection, ask: Simulate, limits: Limits) -> None:
    """Be a worker: answer shards until told to stop. Ctrl-C is the driver's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    host = socket.gethostname()
    orders = _Orders(pipe)
    try:
        pipe.send(_READY)
        for jobs, careful in orders:
            for rows in answer_shard(jobs, ask, careful=careful, limits=limits,
                                     stopped=lambda: orders.stopped):
                pipe.send(packed_batch(Batch(engine.BUILD_ID, host, rows)))
            pipe.send(None)
    except StuckError:
        pipe.send(_STUCK)
        os._exit(0)   # a thread of this process cannot be ended
    except (EOFError, OSError):
        os._exit(0)
    os._exit(0)


@contextlib.contextmanager
def _same_search_path() -> Iterator[None]:
    """Let a Python started meanwhile import from where this one does.

    It would look in its current folder first: in a checkout beside an installed fencelab, that is
    a package whose engine was never built.
    """
    ours = {"PYTHONSAFEPATH": "1",
            "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Let a process started meanwhile not run the main program again to have its names.

    The command line's imports are half of what a short sweep would cost.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@dataclass(slots=True)
class _Worker:
    process: ForkServerProcess
    pipe: Connection
    shards: deque[Shard]
    ready_at: float | None = None
    told_to_stop: bool = False


class Processes:
    """A pool of processes; ``workers`` defaults to the cores this process may use."""

    def __init__(self, workers: int | None = None, ask: Simulate = simulate,
                 limits: Limits = NO_LIMITS) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._ask = ask
        self._limits = limits
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["sweeps.executors.local"])

    def _hire(self) -> _Worker:
        with _same_search_path():
            ensure_running()
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._ask, self._limits),
                                        daemon=True)
        at_home = getattr(self._ask, "__module__", "") != "__main__"
        with _without_main() if at_home else contextlib.nullcontext():
            process.start()
        theirs.close()
        return _Worker(process, ours, deque())

    def __call__(self, jobs: Sequence[Job], *, stop: Stop) -> Iterator[Batch]:
        """Yield batches as workers hand them over."""
        backlog = Backlog(jobs, self.workers)
        crew: list[_Worker] = [self._hire()] if len(jobs) else []
        try:
            while (backlog and not stop) or any(worker.shards for worker in crew):
                if stop.level > 1:
                    break
                self._employ(crew, backlog, stop)
                busy = {worker.pipe: worker for worker in crew if worker.shards}
                alone = len(crew) < min(self.workers, len(jobs)) and backlog
                heard = wait(list(busy), timeout=HIRE_SECONDS if alone else POLL_SECONDS)
                if not heard:
                    yield Batch(engine.BUILD_ID, socket.gethostname(), ())
                for ready in heard:
                    worker = busy[ready]  # type: ignore[index]
                    yield from self._listen(worker, crew, backlog)
        finally:
            for worker in crew:
                if worker.shards:
                    worker.process.kill()
                else:
                    with contextlib.suppress(OSError):
                        worker.pipe.send(None)
            for worker in crew:
                worker.process.join()
                worker.pipe.close()

    def _employ(self, crew: list[_Worker], backlog: Backlog, stop: Stop) -> None:
        """Keep every worker in shards, hire when it is worth it, or tell all to stop."""
        if stop:
            for worker in crew:
                if worker.shards and not worker.told_to_stop:
                    worker.told_to_stop = True
                    with contextlib.suppress(OSError):
                        worker.pipe.send(None)
            return
        expected = backlog.seconds_left()
        began = min((worker.ready_at for worker in crew if worker.ready_at), default=math.inf)
        much = time.monotonic() - began >= HIRE_SECONDS if expected is None \
            else expected > SERIAL_SECONDS
        while backlog and len(crew) < (self.workers if much or not crew else 1):
            crew.append(self._hire())
        for depth in range(SHARDS_PER_WORKER):
            for worker in crew:
                if backlog and len(worker.shards) == depth and (depth == 0 or _ordinary(worker)):
                    shard = backlog.next_shard()
                    worker.shards.append(shard)
                    with contextlib.suppress(OSError):   # it died idle: _listen finds out
                        worker.pipe.send((packed_jobs(shard.jobs), shard.careful))

    def _listen(self, worker: _Worker, crew: list[_Worker], backlog: Backlog) -> Iterator[Batch]:
        """Take one message of a worker that has something to say, or notice that it died."""
        shard = worker.shards[0]
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._lost(worker, crew, backlog)
            return
        if message == _READY:
            worker.ready_at = time.monotonic()
        elif message == _STUCK:
            worker.process.join()
            worker.pipe.close()
            crew.remove(worker)
            for left in reversed(worker.shards):
                backlog.give_back(left)
        elif message is None:
            worker.shards.popleft()
            if worker.told_to_stop:
                worker.shards.clear()
        else:
            batch = unpacked_batch(message)
            del message   # whoever takes the batch takes his time
            shard.take(batch.rows)
            backlog.learn(batch.rows)
            yield batch

    def _lost(self, worker: _Worker, crew: list[_Worker], backlog: Backlog) -> Iterator[Batch]:
        """Bury a worker: what it was at is suspected, what it had not begun goes back."""
        worker.process.join()
        worker.pipe.close()
        crew.remove(worker)
        begun, *waiting = worker.shards
        for shard in reversed(waiting):
            backlog.give_back(shard)
        lost = backlog.worker_died(begun, _how(worker.process.exitcode))
        if lost:
            yield Batch(engine.BUILD_ID, socket.gethostname(), lost)


def _ordinary(worker: _Worker) -> bool:
    """Tell whether nothing is suspected of what a worker is at."""
    return not worker.shards[0].careful


def _how(exitcode: int | None) -> str:
    """Say how a worker ended: ``killed by SIGSEGV`` or ``exit status 77``."""
    if exitcode is not None and exitcode < 0:
        return f"the worker was killed by {signal.Signals(-exitcode).name}"
    return f"the worker ended with exit status {exitcode}"


class Threads:
    """Threads of this process; ``workers`` defaults to the cores this process may use."""

    def __init__(self, workers: int | None = None, ask: Simulate = simulate,
                 limits: Limits = NO_LIMITS) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._ask = ask
        self._limits = Limits(timeout_s=limits.timeout_s)   # memory is the process's

    def __call__(self, jobs: Sequence[Job], *, stop: Stop) -> Iterator[Batch]:
        """Yield batches as threads hand them over."""
        backlog = Backlog(jobs, self.workers)
        lock = threading.Lock()
        left = threading.Event()
        done: queue.SimpleQueue[tuple[Done, ...] | None] = queue.SimpleQueue()

        def stopped() -> bool:
            return stop.level > 0 or left.is_set()

        def serve_one(shard: Shard) -> None:
            try:
                for rows in answer_shard(shard.jobs, self._ask, stopped=stopped,
                                         limits=self._limits):
                    with lock:
                        shard.take(rows)
                        backlog.learn(rows)
                    done.put(rows)
            except StuckError:   # its thread is left behind
                with lock:
                    backlog.give_back(shard)

        def serve() -> None:
            try:
                while not stopped():
                    with lock:
                        if not backlog:
                            break
                        shard = backlog.next_shard()
                    serve_one(shard)
            finally:
                done.put(None)

        crew = [threading.Thread(target=serve, daemon=True) for _ in range(self.workers)]
        for thread in crew:
            thread.start()
        host, serving = socket.gethostname(), len(crew)
        try:
            while serving and stop.level < 2:
                try:
                    rows = done.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    rows = ()
                if rows is None:
                    serving -= 1
                else:
                    yield Batch(engine.BUILD_ID, host, rows)
        finally:
            left.set()
