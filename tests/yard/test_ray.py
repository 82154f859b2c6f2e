"""The ray executor: the same bytes, the culprit named, nodes without the package, a quiet screen.

Each test runs a real Ray of its own in a fresh interpreter.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
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
