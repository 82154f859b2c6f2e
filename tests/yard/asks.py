"""Stand-ins for the engine that a worker can import: what a job asks decides how it ends.

Tests that interfere with a run wait for what it has come to, never for a clock: a stand-in can wait
for a file to appear, and answer so many questions and no more.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
from pathlib import Path

from pysim.counters import BY_NAME
from pysim.engine import HISTOGRAMS, Question, Result
from pysim.errors import StoppedError
from sweeps.executors.shard import stop_flag


def question(number: int, order: str = "") -> Question:
    """Return a question of one number; ``order`` tells ``obey`` what to do with it."""
    return Question(params=number.to_bytes(8, "little"), header=order.encode(), ops=b"")


def hashing(asked: Question) -> bytes:
    """Answer with a hash of the question."""
    return hashlib.sha256(asked.params).hexdigest().encode()


FOR_EVER = 10_000.0
"""Seconds: no test lasts so long, whatever the machine."""


def slow(asked: Question) -> bytes:
    """Answer after 20 ms."""
    time.sleep(0.02)
    return hashing(asked)


def await_file(path: Path) -> None:
    """Return when somebody has made a file."""
    while not path.exists():
        time.sleep(0.005)


def obey(asked: Question) -> bytes:
    """Answer, or end as the question says."""
    order, _, argument = asked.header.decode().partition(" ")
    if order == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif order == "exit":
        os._exit(int(argument))
    elif order == "sleep":   # does not listen to anybody
        time.sleep(float(argument))
    elif order == "begin":   # say so, and go on for ever
        Path(argument).touch()
        time.sleep(FOR_EVER)
    elif order == "await":
        await_file(Path(argument))
    elif order == "meet":   # so many workers, here at one time
        folder, number = argument.rsplit(" ", 1)
        (Path(folder) / str(os.getpid())).touch()
        while len(os.listdir(folder)) < int(number):
            time.sleep(0.005)
    elif order == "listen":   # for ever, but ends when it is told to
        flag = stop_flag()
        assert flag is not None
        while not flag.is_set():
            time.sleep(0.005)
        raise StoppedError("told to stop")
    elif order == "hoard":
        kept = bytearray(int(argument) << 20)
        del kept
    elif order == "raise":
        raise ValueError(argument)
    elif order == "once":   # crash the first time only: a machine's fault, not the job's
        try:
            Path(argument).touch(exist_ok=False)
        except FileExistsError:
            return hashing(asked)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.001)
    return hashing(asked)


def who(asked: Question) -> bytes:
    """Answer with the worker's process number."""
    obey(asked)
    return str(os.getpid()).encode()


def fabricate(asked: Question) -> bytes:
    """Answer with a whole record whose numbers follow from the question."""
    draw = random.Random(asked.key)
    counters = {name: draw.randrange(1000) for name in BY_NAME}
    counters["useful_cycles"] = 1_000_000
    histograms = {name: {100: 3, 1000: draw.randrange(1, 5)} for name in HISTOGRAMS}
    return Result(verdict="ran", verdict_hart=0, verdict_at_cycles=0, verdict_va=0,
                  counters=counters, histograms=histograms).record()


def fabricate_slowly(asked: Question) -> bytes:
    """Answer as `fabricate` does, after 20 ms."""
    time.sleep(0.02)
    return fabricate(asked)


def fabricate_briefly(asked: Question) -> bytes:
    """Answer as `fabricate` does, after 8 ms."""
    time.sleep(0.008)
    return fabricate(asked)


def fabricate_some(asked: Question) -> bytes:
    """Answer as `fabricate_briefly` does, so many of all workers; the others wait for a word.

    Having it, they take a quarter of a second each: whoever gave it has time for more.
    """
    folder = Path(os.environ["ASKS"])
    with open(folder / "tickets", "ab", buffering=0) as tickets:
        tickets.write(b".")
        ticket = tickets.tell()
    if ticket > int(os.environ["ASKS_MOST"]):
        await_file(folder / "go")
        time.sleep(0.25)
    return fabricate_briefly(asked)


def stubborn(asked: Question) -> bytes:
    """Answer as `fabricate` does, but crash or raise on questions whose key begins so."""
    if asked.key[0] in "08":
        os.kill(os.getpid(), signal.SIGSEGV)
    if asked.key[0] in "19":
        raise ValueError("will not")
    return fabricate(asked)
