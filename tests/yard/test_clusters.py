"""The ray executor on two nodes without the package, one of which dies; drivers die too.

The nodes are raylets of this machine (`nodes.py`); drivers run in fresh interpreters. Whoever has
to meet somebody waits for a file or a stored record, never for a clock.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asks
import pytest
from nodes import ON_CLUSTERS, cluster, driver_environment, free_port, listening

from pysim.scenario import Lowering
from sweeps import grid, run
from sweeps.executors.local import Processes
from sweeps.executors.shard import Stop
from sweeps.store import Store

pytestmark = ON_CLUSTERS
HERE = Path(__file__).parent
SWEEP = """
# What does a small sweep cost?
seeds = 10
[axes]
policy = ["preventive-range", "mark-7.2"]
machine = ["sg2042"]
harts = [1, 2, 4]
workload = [{ inherit = "mixed", duration_ms = 1 }]
"""
COUNT = 2 * 3 * 10

WHERE = """
import json, sys
sys.path.insert(0, {here!r})
import asks
from sweeps.executors.ray import Ray
from sweeps.executors.shard import Job, Stop

def where(asked):   # pickled by value: it lies in __main__
    import os, signal, pysim
    if asked.header:
        os.kill(os.getpid(), signal.SIGSEGV)
    return pysim.__file__.encode()

jobs = [Job(i, asks.question(i, "segfault" if i == 30 else "")) for i in range(60)]
rows = [row for batch in Ray({address!r}, None, where)(jobs, stop=Stop()) for row in batch.rows]
print(json.dumps([[row.index, row.record.decode(), row.error] for row in rows]))
"""


def place_of_work(address: str) -> str:
    """Ask 60 jobs, one of which crashes; return where the workers' package lies."""
    code = WHERE.format(here=str(HERE), address=address)
    child = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True,
                           check=False, env=driver_environment())
    assert child.returncode == 0, child.stderr
    rows = json.loads(child.stdout)
    assert sorted(index for index, _, _ in rows) == list(range(60))
    assert [index for index, _, error in rows if error] == [30]
    (place,) = {record for _, record, error in rows if not error}
    return place


def sweep(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the sweep from the command line."""
    (folder / "q.toml").write_text(SWEEP)
    return subprocess.run([sys.executable, "-m", "sweeps.cli", "sweep", str(folder / "q.toml"),
                           *options], text=True, capture_output=True, check=False,
                          env=driver_environment())


def test_a_cluster_that_lacks_the_package_gets_it_and_is_not_heard(tmp_path: Path) -> None:
    """What a user sees of a sweep there is what is seen of one here; off a terminal, a line of
    progress every ten seconds may stand before the last."""
    with cluster(tmp_path) as nodes:
        assert re.search("py_modules_files|fencelab-ship-", place_of_work(nodes.address))
        there = sweep(tmp_path, "--executor", "ray", "--address", nodes.address,
                      "--store", str(tmp_path / "there.db"))
    here = sweep(tmp_path, "--store", str(tmp_path / "here.db"))
    assert (there.returncode, there.stdout) == (here.returncode, here.stdout)
    *progress, last = there.stderr.splitlines()
    assert last == f"{COUNT} computed, 0 stored in {tmp_path / 'there.db'}"
    assert all(re.fullmatch(r"(planning|running): \d+ of \d+(, .*)?", line)
               for line in progress), there.stderr
    assert records(tmp_path / "there.db") == records(tmp_path / "here.db")


@pytest.mark.skipif(importlib.util.find_spec("grpc") is None,
                    reason="NO GRPC: ray://, Ray's client, is not tested (pip install grpcio)")
def test_a_cluster_behind_rays_client_gets_the_package_too(tmp_path: Path) -> None:
    port = free_port()
    with cluster(tmp_path, "grpcio", ray_client_server_port=port):
        listening("127.0.0.1", port)
        assert "py_modules_files" in place_of_work(f"ray://127.0.0.1:{port}")


LONG = """
import json, sys
sys.path.insert(0, {here!r})
import asks
from sweeps.executors.ray import Ray
from sweeps.executors.shard import Job, Stop

def signed(asked):   # leaves its node's name; all but the first ones wait for three such names
    import os, ray, time
    names = os.path.join({folder!r}, "nodes")
    open(os.path.join(names, ray.get_runtime_context().get_node_id()), "w").close()
    while int.from_bytes(asked.params, "little") >= 20 and len(os.listdir(names)) < 3:
        time.sleep(0.05)
    time.sleep(0.05)
    return asked.params

rows = []
for batch in Ray({address!r}, None, signed)([Job(i, asks.question(i)) for i in range(150)],
                                            stop=Stop()):
    rows += batch.rows
print(json.dumps([[row.index, row.record.hex(), row.error] for row in rows]))
"""


@contextmanager
def driver(code: str) -> Iterator[subprocess.Popen[str]]:
    """Start a driver; it is gone afterwards."""
    child = subprocess.Popen([sys.executable, "-c", code], text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=driver_environment())
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def until(met: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    """Wait for something that a driver brings about, as long as it lives."""
    while not met():
        assert child.poll() is None, child.communicate()
        time.sleep(0.05)


def test_a_node_that_dies_in_the_middle_costs_nothing_and_one_that_comes_is_used(
    tmp_path: Path
) -> None:
    """Both nodes are at work when one is killed, and the rest waits until a third has begun."""
    (names := tmp_path / "nodes").mkdir()
    with cluster(tmp_path) as nodes, driver(LONG.format(
            here=str(HERE), address=nodes.address, folder=str(tmp_path))) as child:
        until(lambda: len(list(names.iterdir())) == 2, child)
        nodes.tell("kill")
        nodes.tell("add")
        out, err = child.communicate()
    assert (child.returncode, err) == (0, "")
    rows = json.loads(out)
    assert sorted(index for index, _, _ in rows) == list(range(150))
    assert [error for _, _, error in rows if error] == []
    assert all(record == asks.question(index).params.hex() for index, record, _ in rows)


STORING = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import test_clusters
from sweeps.executors.ray import Ray

def gated(asked):   # so many answers of all workers; then they wait for a word
    import os, ray, time
    from sweeps.executors.shard import simulate
    folder = {folder!r}
    open(os.path.join(folder, "nodes", ray.get_runtime_context().get_node_id()), "w").close()
    with open(os.path.join(folder, "tickets"), "ab", buffering=0) as tickets:
        tickets.write(b".")
        ticket = tickets.tell()
    while ticket > {most} and not os.path.exists(os.path.join(folder, "go")):
        time.sleep(0.05)
    return simulate(asked)

outcome = test_clusters.go(Path({store!r}), Ray({address!r}, None, gated))
print(outcome.computed, outcome.stored, outcome.missing, len(outcome.failed))
"""
MOST = 20


def go(path: Path, executor: run.Executor) -> run.Outcome:
    points = grid.expand(grid.parse(SWEEP, "sweep"))
    with Store(path, write=True) as store:
        return run.run(run.plan(points.scenarios, Lowering(), stop=Stop()), store, executor,
                       stop=Stop())


def records(path: Path) -> dict[str, bytes]:
    try:
        database = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        found = database.execute("SELECT key, record FROM records").fetchall()
        database.close()
    except sqlite3.OperationalError:   # nothing is stored yet
        return {}
    assert len(found) == len({key for key, _ in found})
    return dict(found)


def storing(folder: Path, store: Path, address: str) -> str:
    """Return a driver whose workers leave their names in a folder and wait there for a word."""
    (folder / "nodes").mkdir(parents=True)
    return STORING.format(here=str(HERE), folder=str(folder), store=str(store), address=address,
                          most=MOST)


def test_kill_9_of_the_driver_and_then_of_a_node_leaves_every_run_stored_once(
    tmp_path: Path
) -> None:
    """Both die while work is under way on both nodes, and some of it is stored."""
    store, first, second = tmp_path / "a.db", tmp_path / "first", tmp_path / "second"
    with cluster(tmp_path) as nodes:
        with driver(storing(first, store, nodes.address)) as child:
            until(lambda: len(records(store)) >= MOST // 2, child)
        kept = len(records(store))
        assert MOST // 2 <= kept <= MOST
        with driver(storing(second, store, nodes.address)) as child:
            until(lambda: len(list((second / "nodes").iterdir())) == 2
                  and len(records(store)) >= kept + MOST // 2, child)
            assert len(records(store)) <= kept + MOST
            nodes.tell("kill")
            (second / "go").touch()
            out, err = child.communicate()
    assert (child.returncode, out.split()) == (0, [str(COUNT - kept), str(kept), "0", "0"]), err
    assert go(tmp_path / "b.db", Processes(2)).computed == COUNT
    assert records(store) == records(tmp_path / "b.db")
    assert len(records(store)) == COUNT
