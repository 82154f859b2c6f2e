"""Workers and drivers die at random; what is stored in the end is as if nobody had disturbed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import asks
import pytest

from pysim.scenario import Lowering
from sweeps import grid, run
from sweeps.executors.local import Processes
from sweeps.executors.shard import Executor, Stop
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
test_chaos.go(Path(sys.argv[1]), Processes(3, asks.fabricate_briefly))
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
    """Return the processes two below: the driver's workers are forked by a process between."""
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2]
                                             .split()[1])
    children = {pid for pid, above in found.items() if above == parent}
    return [pid for pid, above in found.items() if above in children]


def test_workers_killed_at_random_cost_nothing(tmp_path: Path) -> None:
    """A kill hits a run no more often than it takes to blame it: twice over the same one."""
    draw, over, killed = random.Random(7), threading.Event(), [0]

    def havoc() -> None:
        while not over.wait(draw.uniform(0.05, 0.4)):
            alive = workers_of(os.getpid())
            if alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(draw.choice(alive), signal.SIGKILL)
                    killed[0] += 1

    thread = threading.Thread(target=havoc)
    thread.start()
    try:
        outcome = go(tmp_path / "a.db", Processes(3, asks.fabricate_briefly))
    finally:
        over.set()
        thread.join()
    assert killed[0] >= 5
    blamed = {failure.key for failure in outcome.failed}
    assert len(blamed) <= 2
    assert outcome.missing == 0
    if blamed:
        assert go(tmp_path / "a.db", Processes(3, asks.fabricate)).computed == len(blamed)
    assert stored(tmp_path / "a.db") == wanted()
    assert len(stored(tmp_path / "a.db")) == COUNT


def test_drivers_killed_at_random_are_resumed(tmp_path: Path) -> None:
    draw, path, before, kills = random.Random(11), tmp_path / "a.db", 0, 0
    for _ in range(40):
        child = subprocess.Popen([sys.executable, "-c", DRIVER, str(path)],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        limit = time.monotonic() + draw.uniform(1.5, 3.5)
        while child.poll() is None and time.monotonic() < limit:
            time.sleep(0.02)
        if child.poll() is not None:
            assert child.returncode == 0, child.stderr.read() if child.stderr else ""
            break
        child.kill()
        child.communicate()
        kills += 1
        now = len(stored(path)) if path.exists() else 0
        assert now >= before, "what was committed stays"
        before = now
    assert kills >= 2
    assert stored(path) == wanted()
    assert len(stored(path)) == COUNT
