"""Two machines in network namespaces: own addresses, own files, no package, no other network."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nodes import (
    ON_CLUSTERS,
    UP_SECONDS,
    NoClusterError,
    bare_python,
    brought_up,
    driver_environment,
    end_all,
    environment,
    last_line,
)

pytestmark = ON_CLUSTERS
HERE = Path(__file__).parent
HEAD, OTHER = "10.213.0.1", "10.213.0.2"
PORT = "6379"

# The driver: all jobs but the first wait until two machines have begun one. What it finds where it
# works says whose files those are.
DRIVER = """
import json, sys
sys.path.insert(0, {here!r})
import asks
from sweeps.executors.ray import Ray
from sweeps.executors.shard import Job, Stop

def signed(asked):
    import os, socket, time, pysim
    names = {names!r}
    open(os.path.join(names, socket.gethostname()), "w").close()
    time.sleep(0.05)   # a shard of so long jobs is one of them
    while int.from_bytes(asked.params, "little") >= 10 and len(os.listdir(names)) < 2:
        time.sleep(0.05)
    while int.from_bytes(asked.params, "little") >= 20 and not os.path.exists({go!r}):
        time.sleep(0.05)
    return json.dumps([socket.gethostname(), pysim.__file__]).encode()

signed.__globals__["json"] = json
rows = []
for batch in Ray({address!r}, None, signed)([Job(i, asks.question(i)) for i in range(60)],
                                            stop=Stop()):
    rows += batch.rows
print(json.dumps([[row.index, row.record.decode(), row.error] for row in rows]))
"""


def command(*words: str) -> None:
    done = subprocess.run(words, text=True, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"NO NETWORK NAMESPACES HERE: two machines are not tested: {done.stderr}")


@contextlib.contextmanager
def two_networks() -> Iterator[tuple[str, str]]:
    """Join two namespaces by a cable of their own; nothing else is reachable from there."""
    if os.geteuid() != 0:
        pytest.skip("NOT ROOT: two machines in network namespaces are not tested")
    head, other = (f"fl{os.getpid()}{end}" for end in "ab")
    try:
        for name in (head, other):
            command("ip", "netns", "add", name)
        command("ip", "link", "add", "fl0", "netns", head, "type", "veth", "peer", "name", "fl0",
                "netns", other)
        for name, address in ((head, HEAD), (other, OTHER)):
            command("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "fl0")
            for link in ("lo", "fl0"):
                command("ip", "-n", name, "link", "set", link, "up")
        yield head, other
    except FileNotFoundError:
        pytest.skip("NO `ip` HERE (Debian: iproute2): two machines are not tested")
    finally:
        for name in (head, other):
            with contextlib.suppress(FileNotFoundError):
                subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@contextlib.contextmanager
def machine(network: str, name: str, hidden: list[str], shown: dict[str, str], python: str,
            *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start Ray on a machine with its own network, host name and empty folders ``hidden``."""
    mounts = " && ".join(f"mount -t tmpfs none {folder}" for folder in hidden)
    start = " ".join([python, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1",
                      "--disable-usage-stats", *options])
    child = subprocess.Popen(
        ["ip", "netns", "exec", network, "unshare", "-m", "-u", "sh", "-c",
         f"hostname {name} && {mounts} && cd / && exec {start}"],
        env=shown, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def inside(child: subprocess.Popen[bytes]) -> list[str]:
    return ["nsenter", "-t", str(child.pid), "-m", "-n", "-u"]


LISTENS = f"import socket; socket.create_connection(({HEAD!r}, {PORT})).close()"
MEET = f"""
import ray, time
ray.init(address="{HEAD}:{PORT}", log_to_driver=False, logging_level="ERROR")
while sum(node["Alive"] for node in ray.nodes()) < 2:
    time.sleep(0.2)
"""


@contextlib.contextmanager
def two_machines(folder: Path, python: str, drivers: str
                 ) -> Iterator[tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    """Start two machines that meet; raise NoClusterError unless they do."""
    shown = {**environment(folder), **token(folder)}
    with contextlib.ExitStack() as up:
        first, second = up.enter_context(two_networks())
        up.callback(end_all, folder)
        sessions = up.enter_context(_short_folder())
        head = up.enter_context(machine(
            first, "head", [sessions], shown, python, "--head", f"--node-ip-address={HEAD}",
            f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={sessions}"))
        succeeds([*inside(head), python, "-c", LISTENS], shown)
        other = up.enter_context(machine(
            second, "other", [sessions, drivers], shown, python,
            f"--address={HEAD}:{PORT}", f"--node-ip-address={OTHER}"))
        succeeds([*inside(head), python, "-c", MEET], shown)
        yield head, other


def succeeds(command: list[str], shown: dict[str, str]) -> None:
    """Wait until a command of the head's does; raise NoClusterError if it never does.

    Each try enters the head's namespaces anew: one that came too early has found those of others.
    """
    said, end = "nothing was said", time.monotonic() + UP_SECONDS
    while (left := end - time.monotonic()) > 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(command, env=shown, capture_output=True, text=True, check=False,
                                  timeout=left)
            if not done.returncode:
                return
            said = last_line(done.stderr)
            time.sleep(1)
    raise NoClusterError(f"two machines have not met after {UP_SECONDS} s: {said}")


def token(folder: Path) -> dict[str, str]:
    """Return what every process shows a cluster that asks for a token."""
    file = folder / "token"
    file.write_text("0123456789abcdef" * 4)
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)}


def test_a_second_machine_without_the_package_works_and_may_die(tmp_path: Path) -> None:
    """It has an interpreter with Ray and cffi, and reaches nobody but the head."""
    python = bare_python(tmp_path / "node", "ray", "cffi")
    (names := tmp_path / "names").mkdir()
    (drivers := tmp_path / "driver").mkdir()
    code = DRIVER.format(here=str(HERE), names=str(names), go=str(tmp_path / "go"),
                         address=f"{HEAD}:{PORT}")
    with brought_up(lambda: two_machines(tmp_path, python, str(drivers))) as (head, other):
        driver = subprocess.Popen(
            [*inside(head), sys.executable, "-c", code], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=driver_environment(TMPDIR=str(drivers), **token(tmp_path)))
        try:
            refused = subprocess.run(   # after as long as it has patience
                [*inside(head), sys.executable, "-c", code], text=True, capture_output=True,
                env={**os.environ, "RAY_AUTH_MODE": "disabled"}, check=False)
            assert refused.stderr.splitlines()[-1].endswith(
                "it asks for a token, and another or none was shown: set RAY_AUTH_MODE=token, and "
                "RAY_AUTH_TOKEN_PATH to a file with the cluster's"), refused.stderr
            while {path.name for path in names.iterdir()} != {"head", "other"}:
                assert driver.poll() is None, driver.communicate()
                time.sleep(0.05)
            os.killpg(other.pid, signal.SIGKILL)
            (tmp_path / "go").touch()
            out, err = driver.communicate()
        finally:
            driver.kill()
    assert (driver.returncode, err) == (0, "")
    rows = json.loads(out)
    assert sorted(index for index, _, _ in rows) == list(range(60))
    assert [error for _, _, error in rows if error] == []
    hosts, files = zip(*(json.loads(record) for _, record, _ in rows), strict=True)
    assert "head" in hosts
    assert not [file for file in files if Path(file).is_relative_to(HERE.parents[1])]


@contextlib.contextmanager
def _short_folder() -> Iterator[str]:
    """Make a folder whose name leaves room for the names of Ray's sockets."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="fl", dir="/tmp") as folder:
        yield folder
