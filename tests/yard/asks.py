"""Stand-ins for the engine that a worker can import: what a job asks decides how it ends."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

from pysim.engine import Question


def question(number: int, order: str = "") -> Question:
    """Return a question of one number; ``order`` tells ``obey`` what to do with it."""
    return Question(params=number.to_bytes(8, "little"), header=order.encode(), ops=b"")


def hashing(asked: Question) -> bytes:
    """Answer with a hash of the question."""
    return hashlib.sha256(asked.params).hexdigest().encode()


def slow(asked: Question) -> bytes:
    """Answer after 20 ms."""
    time.sleep(0.02)
    return hashing(asked)


def obey(asked: Question) -> bytes:
    """Answer, or end as the question says."""
    order, _, argument = asked.header.decode().partition(" ")
    if order == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif order == "exit":
        os._exit(int(argument))
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
