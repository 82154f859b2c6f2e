"""The ray executor: the same bytes, the culprit named, nodes without the package, a quiet screen.

Each test runs a real Ray of its own in a fresh interpreter.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asks
import pytest

from pysim.errors import InputError
from sweeps.executors.ray import Ray

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None,
                       reason="RAY IS NOT INSTALLED: the ray executor is not tested"),
]
HERE = Path(__file__).parent

DRIVER = """
import json, sys
sys.path.insert(0, {here!r})
import asks
from sweeps.executors.ray import Ray
from sweeps.executors.shard import Job, Stop
orders = {orders!r}
jobs = [Job(i, asks.question(i, orders.get(i, ""))) for i in range({count})]
found = {{}}
for batch in Ray({address!r}, 2, asks.obey)(jobs, stop=Stop()):
    for row in batch.rows:
        assert row.index not in found
        found[row.index] = [row.record.decode(), row.error]
print(json.dumps(found))
"""


def drive(count: int, orders: dict[int, str], *, address: str = "local"
          ) -> tuple[dict[int, list[str]], str]:
    code = DRIVER.format(here=str(HERE), orders=orders, count=count, address=address)
    child = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True,
                           check=False, timeout=200)
    assert child.returncode == 0, child.stderr
    return {int(k): v for k, v in json.loads(child.stdout).items()}, child.stderr


def want(index: int) -> list[str]:
    return [asks.hashing(asks.question(index)).decode(), ""]


def test_a_healthy_run_answers_all_and_prints_nothing() -> None:
    found, noise = drive(500, {})
    assert found == {i: want(i) for i in range(500)}
    assert noise == ""


def test_crashes_and_exceptions_are_named_and_cost_nothing_else() -> None:
    found, _ = drive(120, {3: "segfault", 60: "exit 77", 90: "raise too many harts"})
    failed = {index: error for index, (_, error) in found.items() if error}
    assert sorted(failed) == [3, 60, 90]
    assert failed[90] == "ValueError: too many harts"
    died = "WorkerCrashedError: The worker died unexpectedly while executing this task"
    assert failed[3] == failed[60] == died
    assert all(found[i] == want(i) for i in range(120) if i not in failed)


CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={
    "num_cpus": 1, "include_dashboard": False, **eval(sys.argv[1])})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
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


@contextmanager
def cluster(folder: Path, **options: int) -> Iterator[str]:
    """Start two nodes that know nothing of the package; yield the address."""
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(
        entry for entry in path if entry and not (Path(entry) / "pysim").exists())}
    child = subprocess.Popen([sys.executable, "-c", CLUSTER, repr(options)], cwd=folder, text=True,
                             env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL)
    try:
        assert child.stdout is not None
        yield child.stdout.readline().strip()
    finally:
        child.communicate("", timeout=60)


def listening(host: str, port: int) -> None:
    """Wait until somebody listens there."""
    for _ in range(120):
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.5)
    pytest.fail(f"nobody listens on {host}:{port}")


def place_of_work(address: str) -> str:
    """Ask 60 jobs, one of which crashes; return where the workers' package lies."""
    code = WHERE.format(here=str(HERE), address=address)
    child = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True,
                           check=False, timeout=200)
    assert child.returncode == 0, child.stderr
    rows = json.loads(child.stdout)
    assert sorted(index for index, _, _ in rows) == list(range(60))
    assert [index for index, _, error in rows if error] == [30]
    (place,) = {record for _, record, error in rows if not error}
    return place


def test_a_cluster_answers_by_host_and_port(tmp_path: Path) -> None:
    with cluster(tmp_path) as address:
        assert place_of_work(address).endswith("__init__.py")


@pytest.mark.skipif(importlib.util.find_spec("grpc") is None,
                    reason="NO GRPC: ray://, Ray's client, is not tested (pip install grpcio)")
def test_a_cluster_that_lacks_the_package_gets_it(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with cluster(tmp_path, ray_client_server_port=port):
        listening("127.0.0.1", port)
        assert "py_modules_files" in place_of_work(f"ray://127.0.0.1:{port}")


def test_an_address_is_required() -> None:
    with pytest.raises(InputError, match="--address: the ray executor needs one"):
        Ray(None)


def test_no_cluster_is_one_line() -> None:
    code = ("from sweeps.executors.ray import Ray\n"
            "from sweeps.executors.shard import Job, Stop, ExecutorError\n"
            "try: list(Ray('127.0.0.1:1')([Job(0, None)], stop=Stop()))\n"
            "except ExecutorError as error: print(error)\n")
    child = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True,
                           check=False, timeout=120)
    assert child.stdout.startswith("--address 127.0.0.1:1: no cluster: "), child
    assert child.stdout.count("\n") == 1
