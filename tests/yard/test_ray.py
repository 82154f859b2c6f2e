"""The ray executor: the same bytes, the culprit named, nodes without the package, a quiet screen.

Each test runs a real Ray of its own in a fresh interpreter.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import asks
import pytest

from pysim.errors import InputError
from sweeps.executors.ray import Hello, Ray, disagreement

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
from sweeps.executors.shard import Job, Limits, Stop
orders = {orders!r}
jobs = [Job(i, asks.question(i, orders.get(i, ""))) for i in range({count})]
found = {{}}
for batch in Ray({address!r}, 2, asks.obey, {limits})(jobs, stop=Stop()):
    for row in batch.rows:
        assert row.index not in found
        found[row.index] = [row.record.decode(), row.error]
print(json.dumps(found))
"""


def drive(count: int, orders: dict[int, str], *, address: str = "local",
          limits: str = "Limits()") -> tuple[dict[int, list[str]], str]:
    code = DRIVER.format(here=str(HERE), orders=orders, count=count, address=address,
                         limits=limits)
    child = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True,
                           check=False)
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
                           check=False)
    assert child.stdout.startswith("--address 127.0.0.1:1: no cluster: "), child
    assert child.stdout.count("\n") == 1


OURS = Hello("here", "b" * 64, "3.11.7", "2.60.0")


@pytest.mark.parametrize(("theirs", "reason"), [
    (OURS, ""),
    (replace(OURS, host="there", python="3.11.9"), ""),
    (replace(OURS, build_id="c" * 64), "has engine cccccccccccc, this is bbbbbbbbbbbb: remove"),
    (replace(OURS, python="3.12.1"), "has Python 3.12.1, this is 3.11.7"),
    (replace(OURS, ray="2.61.0"), "has Ray 2.61.0, this is 2.60.0"),
])
def test_a_node_that_differs_is_refused_with_the_reason(theirs: Hello, reason: str) -> None:
    assert disagreement(OURS, theirs).startswith(reason)
    assert bool(disagreement(OURS, theirs)) == bool(reason)


OTHER = """
import sys
from sweeps.executors import ray as executor
from sweeps.executors.shard import ExecutorError, Job, Stop

def hello():   # pickled by value: what a node with another engine says
    from sweeps.executors.ray import Hello
    return Hello("there", "0" * 64, sys.version.split()[0], __import__("ray").__version__)

executor.hello, ours = hello, executor.hello
executor.disagreement, check = lambda mine, theirs: check(ours(), theirs), executor.disagreement
try:
    list(executor.Ray("local", 1)([Job(0, None)], stop=Stop()))
except ExecutorError as error:
    print(error)
"""


def test_another_engine_is_refused_before_any_work() -> None:
    child = subprocess.run([sys.executable, "-c", OTHER], text=True, capture_output=True,
                           check=False)
    assert re.fullmatch(r"--address local: node \S+ has engine 000000000000, this is [0-9a-f]{12}: "
                        r"remove .*\n", child.stdout), child


def test_a_job_past_its_time_is_named_on_a_cluster_too() -> None:
    found, _ = drive(40, {5: "listen", 20: f"sleep {asks.FOR_EVER}"}, limits="Limits(timeout_s=3)")
    failed = {index: error for index, (_, error) in found.items() if error}
    assert failed == {5: "timeout: more than 3 s",
                      20: "timeout: more than 3 s, and it could not be ended"}
    assert all(found[i] == want(i) for i in range(40) if i not in failed)
