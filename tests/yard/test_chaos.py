"""Workers and drivers die at random; what is stored in the end is as if nobody had disturbed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import asks
import pytest

from pysim.scenario import Lowering
from sweeps import grid, run
from sweeps.executors.local import Processes
from sweeps.executors.shard import Batch, Executor, Job, Stop
from sweeps.store import Store

pytestmark = pytest.mark.slow
COUNT = 1000
SWEEP = """
# Which questions are there?
seeds = 25
[axes]
policy = ["ideal", "none", "mark-7.2", "mark-6.12", "preventive-range"]
machine = ["xs-kmh", "sg2042"]
harts = [1, 4, 16, 64]
workload = ["mixed"]
"""
DRIVER = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import asks, test_chaos
from sweeps.executors.local import Processes
test_chaos.go(Path(sys.argv[1]), Processes(3, getattr(asks, sys.argv[2])))
"""


def go(path: Path, executor: Executor) -> run.Outcome:
    points = grid.expand(grid.parse(SWEEP, "sweep"))
    with Store(path, write=True) as store:
        planned = run.plan(points.scenarios, Lowering(), stop=Stop())
        return run.run(planned, store, executor, stop=Stop())


def stored(path: Path) -> dict[str, bytes]:
    database = sqlite3.connect(path)
    found = database.execute("SELECT key, record FROM records").fetchall()
    database.close()
    assert len(found) == len({key for key, _ in found})
    return dict(found)


def wanted() -> dict[str, bytes]:
    lower = Lowering()
    questions = [lower(one) for one in grid.expand(grid.parse(SWEEP, "sweep")).scenarios]
    return {question.key: asks.fabricate(question) for question in questions}


def workers_of(parent: int) -> list[int]:
    """Return the living processes two below: workers are forked by a process between."""
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                state, above = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    found[int(entry.name)] = int(above)
    children = {pid for pid, above in found.items() if above == parent}
    return [pid for pid, above in found.items() if above in children]


class Havoc:
    """An executor whose workers are killed, one at random after every 40 to 90 answers."""

    def __init__(self, inner: Executor) -> None:
        self._inner, self._draw, self.killed = inner, random.Random(7), 0

    def __call__(self, jobs: Sequence[Job], *, stop: Stop) -> Iterator[Batch]:
        left = self._draw.randint(40, 90)
        for batch in self._inner(jobs, stop=stop):
            yield batch
            left -= len(batch.rows)
            alive = workers_of(os.getpid()) if left <= 0 else []
            if alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._draw.choice(alive), signal.SIGKILL)
                    self.killed += 1
                    left = self._draw.randint(40, 90)


def test_workers_killed_at_random_cost_nothing(tmp_path: Path) -> None:
    """A kill hits a run no more often than it takes to blame it: twice over the same one."""
    havoc = Havoc(Processes(3, asks.fabricate_briefly))
    outcome = go(tmp_path / "a.db", havoc)
    assert havoc.killed >= 5
    blamed = {failure.key for failure in outcome.failed}
    assert len(blamed) <= 2
    assert outcome.missing == 0
    if blamed:
        assert go(tmp_path / "a.db", Processes(3, asks.fabricate)).computed == len(blamed)
    assert stored(tmp_path / "a.db") == wanted()
    assert len(stored(tmp_path / "a.db")) == COUNT


AHEAD = 60
"""So many more answers than it takes to be killed, and no more, may a driver come to."""


def kept(path: Path) -> int:
    try:
        return len(stored(path)) if path.exists() else 0
    except sqlite3.OperationalError:   # the tables are not there yet
        return 0


def test_drivers_killed_at_random_are_resumed(tmp_path: Path) -> None:
    """Each is killed when it has stored some more; what it may answer at most is given to it."""
    draw, path, kills = random.Random(11), tmp_path / "a.db", 0
    while COUNT - (before := kept(path)) > 150 + AHEAD:
        more, folder = draw.randint(20, 150), tmp_path / f"driver {kills}"
        folder.mkdir()
        child = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(path), "fabricate_some"], stderr=subprocess.PIPE,
            env={**os.environ, "ASKS": str(folder), "ASKS_MOST": str(more + AHEAD)})
        try:
            while kept(path) < before + more:
                assert child.poll() is None, child.stderr.read() if child.stderr else ""
                time.sleep(0.005)
        finally:
            child.kill()
            child.communicate()
        kills += 1
        assert before + more <= kept(path) <= before + more + AHEAD, "what was committed stays"
    assert kills >= 3
    subprocess.run([sys.executable, "-c", DRIVER, str(path), "fabricate"], check=True)
    assert stored(path) == wanted()
    assert len(stored(path)) == COUNT
