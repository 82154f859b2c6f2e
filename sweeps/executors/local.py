"""Executors on this machine: a pool of processes (the default) and threads in this process.

The pool is our own because the standard ones do not survive a worker that dies in C: one hangs for
ever, the other throws away every other job. Here each worker owns one pipe; the driver waits on all
pipes and all deaths at once, sends a shard only to a worker that waits for one (so two full pipes
never wait for each other), and replaces a worker that died. Workers are forked from a small clean
process that has imported the engine and nothing else: they start in milliseconds, and inherit
neither the driver's threads nor its lock on the store.

Threads answer in this process; the engine's call drops the GIL, so they use every core, but a crash
in C takes the driver with it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.forkserver import ensure_running
from typing import TYPE_CHECKING, Final

from pysim import engine
from sweeps.executors.shard import (
    Backlog,
    Batch,
    Done,
    Job,
    Shard,
    Simulate,
    Stop,
    answer_shard,
    simulate,
)

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

POLL_SECONDS: Final = 0.25
"""How long a blocking wait lasts before the driver looks at `stop` again."""


def _serve(pipe: Connection, ask: Simulate) -> None:
    """Be a worker: answer shards until the pipe ends. Ctrl-C is the driver's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    host = socket.gethostname()
    try:
        while (shard := pipe.recv()) is not None:
            jobs, careful = shard
            for rows in answer_shard(jobs, ask, careful=careful, stopped=pipe.poll):
                pipe.send(Batch(engine.BUILD_ID, host, rows))
            pipe.send(None)
    except (EOFError, OSError):
        os._exit(0)   # the driver is gone: nobody is left to tell


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


@dataclass(slots=True)
class _Worker:
    process: ForkServerProcess
    pipe: Connection
    shard: Shard | None = None
    told_to_stop: bool = False


class Processes:
    """A pool of processes; ``workers`` defaults to the cores this process may use."""

    def __init__(self, workers: int | None = None, ask: Simulate = simulate) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._ask = ask
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["sweeps.executors.local"])

    def _hire(self) -> _Worker:
        with _same_search_path():
            ensure_running()
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._ask), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def __call__(self, jobs: Sequence[Job], *, stop: Stop) -> Iterator[Batch]:
        """Yield batches as workers hand them over."""
        backlog = Backlog(jobs, self.workers)
        crew = [self._hire() for _ in range(min(self.workers, len(jobs)))]
        try:
            while (backlog and not stop) or any(worker.shard for worker in crew):
                if stop.level > 1:
                    break
                self._employ(crew, backlog, stop)
                busy = {worker.pipe: worker for worker in crew if worker.shard}
                for ready in wait(list(busy), timeout=POLL_SECONDS):
                    worker = busy[ready]  # type: ignore[index]
                    yield from self._listen(worker, crew, backlog)
        finally:
            for worker in crew:
                worker.pipe.close()
                if worker.shard:
                    worker.process.kill()
            for worker in crew:
                worker.process.join()

    def _employ(self, crew: list[_Worker], backlog: Backlog, stop: Stop) -> None:
        """Give every idle worker a shard, or tell busy ones to stop after their current job."""
        for worker in crew:
            if stop:
                if worker.shard and not worker.told_to_stop:
                    worker.told_to_stop = True
                    with contextlib.suppress(OSError):
                        worker.pipe.send(None)
            elif worker.shard is None and backlog:
                worker.shard = backlog.next_shard()
                with contextlib.suppress(OSError):   # it died idle: _listen finds out
                    worker.pipe.send((worker.shard.jobs, worker.shard.careful))

    def _listen(self, worker: _Worker, crew: list[_Worker], backlog: Backlog) -> Iterator[Batch]:
        """Take one message of a worker that has something to say, or notice that it died."""
        shard = worker.shard
        assert shard is not None
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            worker.pipe.close()
            lost = backlog.worker_died(shard, _how(worker.process.exitcode))
            crew.remove(worker)
            if backlog:
                crew.append(self._hire())
            if lost:
                yield Batch(engine.BUILD_ID, socket.gethostname(), lost)
            return
        if message is None:
            worker.shard = None
            return
        shard.take(message.rows)
        backlog.learn(message.rows)
        yield message


def _how(exitcode: int | None) -> str:
    """Say how a worker ended: ``killed by SIGSEGV`` or ``exit status 77``."""
    if exitcode is not None and exitcode < 0:
        return f"the worker was killed by {signal.Signals(-exitcode).name}"
    return f"the worker ended with exit status {exitcode}"


class Threads:
    """Threads of this process; ``workers`` defaults to the cores this process may use."""

    def __init__(self, workers: int | None = None, ask: Simulate = simulate) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._ask = ask

    def __call__(self, jobs: Sequence[Job], *, stop: Stop) -> Iterator[Batch]:
        """Yield batches as threads hand them over."""
        backlog = Backlog(jobs, self.workers)
        lock = threading.Lock()
        left = threading.Event()
        done: queue.SimpleQueue[tuple[Done, ...] | None] = queue.SimpleQueue()

        def stopped() -> bool:
            return stop.level > 0 or left.is_set()

        def serve() -> None:
            try:
                while not stopped():
                    with lock:
                        if not backlog:
                            break
                        shard = backlog.next_shard()
                    for rows in answer_shard(shard.jobs, self._ask, stopped=stopped):
                        with lock:
                            backlog.learn(rows)
                        done.put(rows)
            finally:
                done.put(None)

        crew = [threading.Thread(target=serve, daemon=True) for _ in range(self.workers)]
        for thread in crew:
            thread.start()
        host, serving = socket.gethostname(), len(crew)
        try:
            while serving and stop.level < 2:
                with contextlib.suppress(queue.Empty):
                    rows = done.get(timeout=POLL_SECONDS)
                    if rows is None:
                        serving -= 1
                    else:
                        yield Batch(engine.BUILD_ID, host, rows)
        finally:
            left.set()
