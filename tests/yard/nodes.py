"""Machines of a cluster, played by this one: nodes that have Python, Ray and cffi, and no more.

Bringing a cluster up is not what is tested: one that does not come up in time is ended and brought
up once more, and if that fails too the test is skipped with the reason. What a cluster that is up
answers is tested: nothing is forgiven there, and no wait has a limit but the test's own.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import pytest

ON_CLUSTERS: Final = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("FENCELAB_CLUSTERS") != "1",
        reason="clusters of several nodes have the machine for themselves: `make clusters`"),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None,
                       reason="RAY IS NOT INSTALLED: the ray executor is not tested"),
]

UP_SECONDS: Final = 300
"""assumed: a cluster that is not up by then never will be. On two busy cores it takes 20."""
TRIES: Final = 2
NEEDED_MIB: Final = 2048
"""assumed: a head, two nodes, their workers and a driver hold about half of it."""
MARK: Final = "FENCELAB_NODES"
"""In the environment of every process of a cluster: the folder it was started in."""

PATIENCE: Final = {
    "RAY_gcs_server_port_wait_time_s": str(UP_SECONDS),
    "RAY_gcs_server_request_timeout_seconds": str(UP_SECONDS),
    "RAY_agent_register_timeout_ms": str(1000 * UP_SECONDS),
    "RAY_worker_register_timeout_seconds": str(UP_SECONDS),
    "RAY_health_check_timeout_ms": str(1000 * UP_SECONDS),
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": str(UP_SECONDS),
    "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": str(UP_SECONDS),
    "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": str(UP_SECONDS),
    "AUTOSCALER_HEARTBEAT_TIMEOUT_S": str(UP_SECONDS),
    "RAY_memory_monitor_refresh_ms": "0",
}
"""Ray gives its own parts 10 to 60 s, then it ends them or calls a node dead. Nodes that share two
cores with each other and with strangers are slow, not dead. The last one: no worker is ended
because strangers fill the memory."""

Up = TypeVar("Up")


class NoClusterError(Exception):
    """A cluster that did not come up; says why."""


def room() -> str:
    """Return why no cluster fits into this machine's memory; nothing if one does."""
    told = Path("/proc/meminfo").read_text()
    found = re.search(r"^MemAvailable: +(\d+) kB", told, re.MULTILINE)
    free_mib = int(found[1]) >> 10 if found else NEEDED_MIB
    with contextlib.suppress(OSError, ValueError):   # there is no limit, or it is "max"
        most, held = (int(Path("/sys/fs/cgroup", name).read_text())
                      for name in ("memory.max", "memory.current"))
        free_mib = min(free_mib, (most - held) >> 20)
    return f"{free_mib} of {NEEDED_MIB} MiB are free" if free_mib < NEEDED_MIB else ""


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Skip where no cluster fits; wait until nobody else on this machine tests one."""
    if reason := room():
        pytest.skip(f"NO ROOM FOR A CLUSTER: {reason}")
    name = f"fencelab-clusters-{os.getuid()}.lock"
    with open(Path(tempfile.gettempdir()) / name, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def brought_up(start: Callable[[], AbstractContextManager[Up]]) -> Iterator[Up]:
    """Enter what starts a cluster; once more, from nothing, if none comes up; then skip."""
    with one_at_a_time(), ExitStack() as held:
        why: list[str] = []
        while len(why) < TRIES:
            try:
                up = held.enter_context(start())
                break
            except NoClusterError as error:
                why.append(str(error))
        else:
            no_cluster(why)
        yield up


def no_cluster(why: list[str]) -> NoReturn:
    """Skip the test: as many clusters did not come up, for these reasons."""
    pytest.skip(f"NO CLUSTER CAME UP HERE, {len(why)} times tried: " + " | ".join(why))


def needed(*wanted: str) -> Iterator[metadata.Distribution]:
    """Yield the installed distributions that these need, themselves first; `ray[default]` too."""
    from packaging.requirements import Requirement  # one of Ray's own needs

    left, seen = [Requirement(one) for one in wanted], set()
    while left:
        asked = left.pop()
        name = re.sub(r"[-_.]+", "-", asked.name).lower()
        if (name, *sorted(asked.extras)) in seen:
            continue
        seen.add((name, *sorted(asked.extras)))
        found = metadata.distribution(name)
        yield found
        for one in map(Requirement, found.requires or ()):
            extras = asked.extras or {""}
            if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in extras):
                left.append(one)


def bare_python(folder: Path, *wanted: str) -> str:
    """Make an environment that holds these, by links to this one's, and no fencelab.

    Returns its interpreter.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for distribution in needed(*wanted):
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            link = packages / top
            if not link.exists():
                link.symlink_to(Path(str(distribution.locate_file(top))))
    python = str(folder / "bin" / "python")
    modules = ", ".join(sorted({"cffi", "ray"} & {one.partition("[")[0] for one in wanted}))
    subprocess.run([python, "-c", f"import importlib.util, sys, {modules}\n"
                    "sys.exit(any(map(importlib.util.find_spec, ('pysim', 'sweeps', 'numpy'))))"],
                   cwd=folder, env=environment(folder), check=True)
    return python


def environment(folder: Path) -> dict[str, str]:
    """Return this process's environment for a node started in a folder: no way to fencelab.

    Ray's client server forks beside its threads, which gRPC's handlers of a fork do not survive
    now and then (github.com/ray-project/ray/issues/63202): without them it does.
    """
    kept = {name: value for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return {**kept, **PATIENCE, MARK: str(folder), "RAY_AUTH_MODE": "disabled",
            "GRPC_ENABLE_FORK_SUPPORT": "0", "RAY_USAGE_STATS_ENABLED": "0"}


def driver_environment(**more: str) -> dict[str, str]:
    """Return this process's environment for a driver, as patient as the nodes."""
    return {**os.environ, **PATIENCE, **more}


def end_all(folder: Path) -> None:
    """Kill whatever is left of the clusters that were started in a folder."""
    mark = f"{MARK}={folder}".encode()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)


PROGRAM: Final = """
import json, sys
from ray.cluster_utils import Cluster
head, seconds = json.loads(sys.argv[1]), float(sys.argv[2])
cluster = Cluster(initialize_head=True, head_node_args={
    "num_cpus": 1, "include_dashboard": False, **head})

node = cluster.add_node(num_cpus=2, wait=False)   # or it would wait 30 s and no longer
cluster.wait_for_nodes(timeout=seconds)
print(cluster.address, flush=True)
for line in sys.stdin:
    if line == "kill\\n":
        cluster.remove_node(node, allow_graceful=False)
    else:
        try:
            cluster.add_node(num_cpus=1, wait=False)
        except Exception:   # a raylet too has 30 s
            cluster.add_node(num_cpus=1, wait=False)
    print("done", flush=True)
cluster.shutdown()
"""


class Nodes:
    """A cluster of two bare nodes, which can be told to kill the second or to add one."""

    def __init__(self, child: subprocess.Popen[str], log: Path) -> None:
        self._child, self._log = child, log
        self.address = self._answer(UP_SECONDS)

    def _answer(self, seconds: float | None = None) -> str:
        assert self._child.stdout is not None
        ready, _, _ = select.select([self._child.stdout], [], [], seconds)
        said = self._child.stdout.readline().strip() if ready else ""
        if not said:
            end = "ended" if ready else f"was not up after {seconds} s"
            raise NoClusterError(f"it {end}: {last_line(self._log.read_text(errors='replace'))}")
        return said

    def tell(self, order: str) -> None:
        """Kill the second node, or add a third; skip the test where a third does not come up."""
        assert self._child.stdin is not None
        self._child.stdin.write(order + "\n")
        self._child.stdin.flush()
        try:
            self._answer()
        except NoClusterError as error:
            pytest.skip(f"NO THIRD NODE CAME UP HERE: {error}")


def last_line(text: str) -> str:
    """Return the last line that says something, which no stack's addresses do, if there is one."""
    lines = [line for line in text.splitlines()
             if line.strip() and not re.search(r"\+0x[0-9a-f]+\)|\*\*\*", line)]
    return lines[-1] if lines else "it said nothing"


@contextmanager
def started(python: str, folder: Path, head: dict[str, int]) -> Iterator[Nodes]:
    """Run the program that starts two nodes; raise NoClusterError unless they come up."""
    log = folder / "nodes.log"
    with open(log, "w") as errors:
        child = subprocess.Popen([python, "-c", PROGRAM, json.dumps(head), str(UP_SECONDS)],
                                 cwd=folder, text=True, env=environment(folder), stderr=errors,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield Nodes(child, log)
        with contextlib.suppress(subprocess.TimeoutExpired, BrokenPipeError):
            child.communicate(timeout=UP_SECONDS)   # it ends when it is told nothing more
    finally:
        end_all(folder)
        child.communicate()


@contextmanager
def cluster(folder: Path, *wanted: str, **head: int) -> Iterator[Nodes]:
    """Bring up two nodes that know nothing of the package."""
    python = bare_python(folder / "node", "ray", "cffi", *wanted)
    with brought_up(lambda: started(python, folder, head)) as nodes:
        yield nodes


RAY: Final = (sys.executable, "-m", "ray.scripts.scripts")
SUBMIT_JOB: Final = (*RAY, "job", "submit", "--address", "http://127.0.0.1:8265", "--")
NO_CLUSTER: Final = 75
"""The exit status of a program that found no cluster to ask anything of."""


def start_head(*options: str, **more: str) -> None:
    """Start a head on this machine's port for it; end this program if it does not come up."""
    try:
        subprocess.run([*RAY, "start", "--head", "--port=6379", "--disable-usage-stats", *options],
                       check=True, stdout=subprocess.DEVNULL, timeout=UP_SECONDS,
                       env={**os.environ, **more})
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"no head: {error}", file=sys.stderr)
        sys.exit(NO_CLUSTER)


def await_jobs() -> None:
    """Wait until the head takes jobs, some time after it is up; end this program if it does not."""
    end = time.monotonic() + UP_SECONDS
    while time.monotonic() < end:
        if not subprocess.run([*SUBMIT_JOB, "true"], capture_output=True, check=False).returncode:
            return
        time.sleep(0.5)
    print(f"the head takes no jobs after {UP_SECONDS} s", file=sys.stderr)
    sys.exit(NO_CLUSTER)


def listening(host: str, port: int) -> None:
    """Wait until somebody listens there; the test's own limit ends a wait for nobody."""
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.2)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
