"""Machines of a cluster, played by this one: nodes that have Python, Ray and cffi, and no more."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import pytest

#: Several raylets on one machine want it for themselves; beside other tests they run out of time.
ON_CLUSTERS = pytest.mark.skipif(
    os.environ.get("FENCELAB_CLUSTERS") != "1",
    reason="CLUSTERS ARE NOT TESTED: `make clusters`, or FENCELAB_CLUSTERS=1 and -n 0")


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
    return str(folder / "bin" / "python")


def environment() -> dict[str, str]:
    """Return this process's environment for a node: nothing in it leads to fencelab.

    Ray's client server forks beside its threads, which gRPC's handlers of a fork do not survive
    now and then (github.com/ray-project/ray/issues/63202): without them it does.
    """
    kept = {name: value for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return {**kept, "RAY_AUTH_MODE": "disabled", "GRPC_ENABLE_FORK_SUPPORT": "0",
            "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def nodes(folder: Path, code: str, *arguments: str, wanted: tuple[str, ...] = ("ray", "cffi")
          ) -> Iterator[tuple[str, Callable[[str], str]]]:
    """Run a program that starts bare nodes and prints their address.

    Yields the address and a way to tell the program a line and have its answer.
    """
    python = bare_python(folder / "node", *wanted)
    subprocess.run([python, "-c", "import importlib.util, sys, cffi, ray\n"
                    "sys.exit(any(map(importlib.util.find_spec, ('pysim', 'sweeps', 'numpy'))))"],
                   cwd=folder, env=environment(), check=True)
    child = subprocess.Popen([python, "-c", code, *arguments], cwd=folder, text=True,
                             env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL)
    assert child.stdin is not None
    assert child.stdout is not None
    orders, answers = child.stdin, child.stdout

    def tell(order: str) -> str:
        orders.write(order + "\n")
        orders.flush()
        return answers.readline().strip()

    try:
        yield answers.readline().strip(), tell
    finally:
        child.communicate("")


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
