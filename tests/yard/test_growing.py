"""A cluster that grows with its work, and a driver that a cluster was asked to run.

Each runs in namespaces of its own: Ray's tools end every Ray they see, and keep fixed ports.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from nodes import (
    NO_CLUSTER,
    ON_CLUSTERS,
    TRIES,
    environment,
    last_line,
    no_cluster,
    one_at_a_time,
)

from pysim import engine

pytestmark = ON_CLUSTERS
HERE = Path(__file__).parent
PACKAGE = Path(engine.__file__).resolve().parents[1]


ALONE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--net", "sh", "-c",
         'mkdir -p /tmp/ray && mount -t tmpfs none /tmp/ray && ip link set lo up && exec "$@"',
         "sh")
"""What a command is run by where it sees no other process, network or temporary file."""


def alone(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run a program alone; once more if no cluster came up; if none does then, skip the test."""
    if os.geteuid() != 0:
        pytest.skip("NOT ROOT: Ray's cluster tools are not tested")
    tried = subprocess.run([*ALONE, "true"], text=True, capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"NO NAMESPACES HERE: Ray's cluster tools are not tested: {tried.stderr}")
    script = folder / "script.py"
    script.write_text(code)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    why: list[str] = []
    with one_at_a_time():
        while True:
            done = subprocess.run(
                [*ALONE, sys.executable, str(script)], cwd=folder, text=True, capture_output=True,
                check=False, env={**environment(folder), "PATH": path, "PYTHONPATH": str(PACKAGE)})
            if done.returncode != NO_CLUSTER:
                return done
            why.append(last_line(done.stderr))
            if len(why) == TRIES:
                no_cluster(why)


GROWING = """
import json, os, sys
sys.path.insert(0, {here!r})
import asks
from nodes import start_head
from sweeps.executors.ray import Ray
from sweeps.executors.shard import Job, Stop

worker = {{"resources": {{"CPU": 1, "object_store_memory": 10**8}}, "node_config": {{}},
          "min_workers": 0, "max_workers": 2}}
head = {{"resources": {{"CPU": 0}}, "node_config": {{}}, "max_workers": 0}}
lists = ("cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands",
         "setup_commands", "head_setup_commands", "worker_setup_commands",
         "head_start_ray_commands", "worker_start_ray_commands")
provider = {{"type": "fake_multinode", "disable_node_updaters": True,
            "disable_launch_config_check": True}}
with open("cluster.json", "w") as file:   # JSON is YAML
    json.dump({{**{{name: [] for name in lists}}, "file_mounts": {{}}, "auth": {{}},
               "file_mounts_sync_continuously": False, "cluster_name": "growing", "max_workers": 2,
               "upscaling_speed": 1.0, "idle_timeout_minutes": 5, "provider": provider,
               "head_node_type": "ray.head.default",
               "available_node_types": {{"ray.head.default": head, "worker": worker}}}}, file)
start_head("--num-cpus=0", "--include-dashboard=false",
           "--autoscaling-config=" + os.path.abspath("cluster.json"),
           RAY_FAKE_CLUSTER="1", AUTOSCALER_UPDATE_INTERVAL_S="1")

def signed(asked):   # all but the first ones wait until two nodes have begun
    import os, ray, time
    node = ray.get_runtime_context().get_node_id()
    open(os.path.join({nodes!r}, node), "w").close()
    time.sleep(0.05)
    while int.from_bytes(asked.params, "little") >= 10 and len(os.listdir({nodes!r})) < 2:
        time.sleep(0.05)
    return node.encode()

rows = [row for batch in Ray("127.0.0.1:6379", None, signed)(
    [Job(i, asks.question(i)) for i in range(60)], stop=Stop()) for row in batch.rows]
print(json.dumps([[row.index, row.record.decode(), row.error] for row in rows]))
"""


def test_a_cluster_that_begins_with_no_worker_grows(tmp_path: Path) -> None:
    (names := tmp_path / "nodes").mkdir()
    done = alone(tmp_path, GROWING.format(here=str(HERE), nodes=str(names)))
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])
    assert sorted(index for index, _, _ in rows) == list(range(60))
    assert [error for _, _, error in rows if error] == []
    assert len({node for _, node, _ in rows}) == 2


SUBMIT = """
import subprocess, sys
sys.path.insert(0, {here!r})
from nodes import SUBMIT_JOB, await_jobs, start_head
start_head("--num-cpus=2", "--include-dashboard=true")
await_jobs()
done = subprocess.run([*SUBMIT_JOB, sys.executable, "-m", "sweeps.cli", "sweep",
                       {folder!r} + "/q.toml", "--executor", "ray", "--address", "127.0.0.1:6379",
                       "--store", {folder!r} + "/a.db"])
sys.exit(done.returncode)
"""
QUESTION = """
# What does a submitted sweep cost?
seeds = 5
[axes]
policy = ["preventive-range", "mark-7.2"]
machine = ["sg2042"]
harts = [1, 2]
workload = [{ inherit = "mixed", duration_ms = 1 }]
"""


@pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None,
                    reason="NO RAY[DEFAULT]: `ray job submit` is not tested")
def test_a_sweep_may_be_submitted_as_a_job(tmp_path: Path) -> None:
    (tmp_path / "q.toml").write_text(QUESTION)
    done = alone(tmp_path, SUBMIT.format(here=str(HERE), folder=str(tmp_path)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20 computed, 0 stored in " in done.stdout + done.stderr
    assert json.loads((tmp_path / "a.db.summary.json").read_text())["exit_status"] == 0
    with sqlite3.connect(tmp_path / "a.db") as database:
        assert database.execute("SELECT count(*) FROM records").fetchone() == (20,)
    database.close()
