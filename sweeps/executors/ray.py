"""The executor for a cluster: Ray, imported here and nowhere else, and only when asked for.

Each shard is one task whose generator streams batches back; nothing is retried by Ray itself
(``max_retries=0``), because a job that crashes a worker has to be found by its name, not tried
three more times in silence: ``Backlog`` does that. Two shards per CPU are in flight, so a worker
never waits for the driver. Machines that lack the package get it as two directories (``py_modules``
of plain directories: no pip, no network, a new hash whenever a byte changes). Before any work every
node shakes hands: it says its engine's build id, Python and Ray, and a mismatch is refused by name;
nodes that come later are known by the build id that every batch carries.

Through ``ray://`` (Ray Client) nothing can be streamed: there a shard comes back whole, and jobs
suspected of a crash are tried again one by one.

An address is always given (``local``, ``HOST:PORT`` or ``ray://HOST:PORT``): without one, Ray would
attach to whatever cluster runs on this machine. How many CPUs there are is asked again as the run
goes on, so a cluster that grows is used. Left out: a cluster whose workers have another Python than
the driver.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pysim import engine
from pysim.errors import InputError
from sweeps.executors.shard import (
    CAREFUL_JOBS_MAX,
    NO_LIMITS,
    Backlog,
    Batch,
    Done,
    ExecutorError,
    Job,
    Limits,
    Shard,
    Simulate,
    Stop,
    StuckError,
    answer_shard,
    packed_batch,
    packed_jobs,
    simulate,
    unpacked_batch,
    unpacked_jobs,
)

CLIENT: Final = "ray://"
CLIENT_TRIES: Final = 3
"""Ray's client server dies now and then: https://github.com/ray-project/ray/issues/63202."""
SHARDS_PER_CPU: Final = 2
DEATHS_MAX: Final = 3
"""Workers of a cluster also die for reasons of its own: a job is blamed for the third of them."""
POLL_SECONDS: Final = 0.25
REACH_SECONDS: Final = 5.0
STUCK_SECONDS: Final = 1.0
"""How long a worker that has a thread it cannot end stays to hand over its last answer."""
LOOK_SECONDS: Final = 2.0
"""How often the cluster is asked how many CPUs it has by now."""
HANDSHAKE_SECONDS: Final = 600.0
"""A node that has not fetched the package and said hello by then is not used. Ray itself gives a
node as long to fetch it (``setup_timeout_seconds`` of a runtime_env)."""
PACKAGES: Final = ("pysim", "sweeps")
NOT_SHIPPED: Final = ("*.c", "*.o", "__pycache__", "*.pyc")

# Read by Ray when it is imported: no usage reports, no `uv run` inside workers (every worker would
# resolve an environment), no warning about accelerators, and .gitignore may not drop our *.so.
ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_RUNTIME_ENV_IGNORE_GITIGNORE": "1",
    "RAY_DEDUP_LOGS": "0",
}


def _import() -> Any:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ExecutorError(f"executor ray: {error}; pip install ray") from error
    return ray


def _serve(jobs: bytes, ask: Simulate, careful: bool, limits: Limits) -> Iterator[bytes]:
    """Be a worker for one shard; leave the process when a job cannot be ended."""
    host = socket.gethostname()
    try:
        for rows in answer_shard(unpacked_jobs(jobs), ask, careful=careful, limits=limits):
            yield packed_batch(Batch(engine.BUILD_ID, host, rows))
    except StuckError:
        threading.Timer(STUCK_SECONDS, os._exit, (1,)).start()   # when this answer has been sent


def _serve_whole(jobs: bytes, ask: Simulate, careful: bool, limits: Limits) -> list[bytes]:
    """Be a worker for one shard, where nothing can be streamed."""
    return list(_serve(jobs, ask, careful, limits))


@dataclass(frozen=True, slots=True)
class Hello:
    """What a node says of itself."""

    host: str
    build_id: str
    python: str
    ray: str


def hello() -> Hello:
    """Say what works here; asked on every node before any work."""
    version = getattr(sys.modules.get("ray"), "__version__", "")
    return Hello(socket.gethostname(), engine.BUILD_ID, platform.python_version(), version)


def disagreement(ours: Hello, theirs: Hello) -> str:
    """Return why a node cannot work for this driver; nothing when it can."""
    if theirs.build_id != ours.build_id:
        return (f"has engine {theirs.build_id[:12]}, this is {ours.build_id[:12]}: remove the "
                "installed fencelab there, or install the same build")
    if theirs.python.split(".")[:2] != ours.python.split(".")[:2]:
        return f"has Python {theirs.python}, this is {ours.python}"
    if theirs.ray != ours.ray:
        return f"has Ray {theirs.ray}, this is {ours.ray}"
    return ""


def ship(to: Path) -> list[str]:
    """Copy the packages, built engine included, to where Ray can zip them; return the copies."""
    here = Path(__file__).resolve().parents[2]
    copies = []
    for name in PACKAGES:
        shutil.copytree(here / name, to / name, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
        copies.append(str(to / name))
    return copies


def _place(address: str) -> tuple[str, int] | None:
    """Return host and port of an address; None for `local`. Raises InputError for none."""
    if address == "local":
        return None
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise InputError("--address", "", f"local, HOST:PORT or ray://HOST:PORT, got {address!r}")
    return host, int(port)


def _reach(address: str) -> None:
    """Raise ExecutorError unless somebody listens there; Ray itself would try for a minute."""
    place = _place(address)
    if place is None:
        return
    try:
        socket.create_connection(place, REACH_SECONDS).close()
    except OSError as error:
        reason = error.strerror or error
        raise ExecutorError(f"--address {address}: no cluster: {reason}") from error


class Ray:
    """A cluster at ``address``; ``workers`` limits the CPUs used (default: all it has)."""

    def __init__(self, address: str | None, workers: int | None = None,
                 ask: Simulate = simulate, limits: Limits = NO_LIMITS) -> None:
        if not address:
            raise InputError("--address", "", "the ray executor needs one: local, HOST:PORT or "
                             "ray://HOST:PORT")
        _place(address)
        self._address = address
        self._limit = workers
        self._ask = ask
        self._limits = limits

    def _connect(self, ray: Any, ship_to: Path) -> None:
        local = self._address == "local"
        options: dict[str, Any] = {"address": self._address, "log_to_driver": False,
                                   "logging_level": "ERROR"}
        if local:
            path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
            options |= {"include_dashboard": False,
                        "num_cpus": self._limit or len(os.sched_getaffinity(0)),
                        "runtime_env": {"env_vars": {"PYTHONPATH": path}}}
        else:
            options["runtime_env"] = {"py_modules": ship(ship_to)}
        for again in reversed(range(CLIENT_TRIES if self._address.startswith(CLIENT) else 1)):
            try:
                # Ray puts the folder where it is initialised first on every worker's search path.
                # In a checkout beside an installed fencelab that is a package whose engine was
                # never built.
                with contextlib.chdir(ship_to), _silent():
                    ray.init(**options)
                return
            except Exception as error:
                if not (again and isinstance(error, ConnectionAbortedError)):
                    raise ExecutorError(f"--address {self._address}: {_refused(error)}") from error

    def __call__(self, jobs: Sequence[Job], *, stop: Stop) -> Iterator[Batch]:
        """Yield batches as the cluster streams them.

        Standard output is shut meanwhile: a thread of Ray's prints a paragraph there for every
        worker that dies, and what it says is in the job's error anyway.
        """
        _reach(self._address)
        ray = _import()
        with (
            tempfile.TemporaryDirectory(prefix="fencelab-ship-") as folder,
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
        ):
            self._connect(ray, Path(folder))
            try:
                yield from self._run(ray, jobs, stop)
            finally:
                ray.shutdown()

    def _shake_hands(self, ray: Any) -> None:
        """Ask every node who it is. Raises ExecutorError for the first that cannot work."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        ask = ray.remote(num_cpus=0, max_retries=0)(hello)
        nodes = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes()
                 if node["Alive"]}
        asked = {number: ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(
            number, soft=False)).remote() for number in nodes}
        ours = hello()
        for number, name in nodes.items():
            try:
                reason = disagreement(ours, ray.get(asked[number], timeout=HANDSHAKE_SECONDS))
            except Exception as error:
                reason = f"does not answer: {_last_line(error)}"
            if reason:
                raise ExecutorError(f"--address {self._address}: node {name} {reason}")

    def _cpus(self, ray: Any) -> int:
        cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        return min(cpus, self._limit or cpus)

    def _run(self, ray: Any, jobs: Sequence[Job], stop: Stop) -> Iterator[Batch]:
        self._shake_hands(ray)
        streams = not self._address.startswith(CLIENT)
        task = ray.remote(num_cpus=1, max_retries=0, num_returns="streaming" if streams else 1)(
            _serve if streams else _serve_whole)
        backlog = Backlog(jobs, self._cpus(ray), deaths_max=DEATHS_MAX,
                          careful_jobs=CAREFUL_JOBS_MAX if streams else 1)
        looked = time.monotonic()
        flying: dict[Any, Shard] = {}
        while (backlog and not stop) or flying:
            if time.monotonic() - looked > LOOK_SECONDS:
                backlog.workers, looked = self._cpus(ray), time.monotonic()
            while backlog and not stop and len(flying) < SHARDS_PER_CPU * backlog.workers:
                shard = backlog.next_shard()
                flight = task.remote(packed_jobs(shard.jobs), self._ask, shard.careful,
                                     self._limits)
                flying[flight] = shard
            if stop.level > 1:
                break
            ready, _ = ray.wait(list(flying), num_returns=1, timeout=POLL_SECONDS,
                                fetch_local=False)
            if not ready:
                yield Batch(engine.BUILD_ID, socket.gethostname(), ())
            for flight in ready:
                yield from self._listen(ray, flight, flying, backlog, streams=streams)

    def _listen(self, ray: Any, flight: Any, flying: dict[Any, Shard], backlog: Backlog, *,
                streams: bool) -> Iterator[Batch]:
        """Take what a shard hands over, or notice that it ended, well or badly."""
        shard, over = flying[flight], True
        try:
            if streams:
                batches = [unpacked_batch(ray.get(next(flight)))]
                over = False
            else:
                batches = [unpacked_batch(one) for one in ray.get(flight)]
        except StopIteration:
            batches = []
            backlog.give_back(shard)   # nothing, unless a job could not be ended
        except (ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError) as error:
            batches = _blame(backlog.node_lost(shard, _how(error)))
        except ray.exceptions.RayTaskError as error:   # a job's own error never gets here
            raise ExecutorError(f"a worker cannot work: {_last_line(error)}") from error
        except ray.exceptions.RayError as error:
            batches = _blame(backlog.worker_died(shard, _how(error)))
        else:
            for batch in batches:
                shard.take(batch.rows)
                backlog.learn(batch.rows)
            if over:
                backlog.give_back(shard)
        if over:
            del flying[flight]
        yield from batches


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Shut standard error, descriptor and all: a cluster that refuses is refused every second.

    What Ray's C++ says there is in its exception too.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _refused(error: Exception) -> str:
    """Say in one line why a cluster does not take this driver."""
    told, cause = "", error
    while cause is not None:
        told += f"{type(cause).__name__}: {cause}\n"
        cause = cause.__cause__  # type: ignore[assignment]
    if "AuthenticationError" in told or "InvalidAuthToken" in told:
        return ("it asks for a token, and another or none was shown: set RAY_AUTH_MODE=token, and "
                "RAY_AUTH_TOKEN_PATH to a file with the cluster's")
    return _first_line(error)


def _blame(lost: tuple[Done, ...]) -> list[Batch]:
    """Return what a dead worker leaves for good, if anything, as the driver's own batch."""
    return [Batch(engine.BUILD_ID, socket.gethostname(), lost)] if lost else []


def _how(error: Exception) -> str:
    """Say how a worker ended; Ray keeps signal and exit status to itself."""
    sentence = _first_line(error).partition(". ")[0].removesuffix(".")
    return f"{type(error).__name__}: {sentence}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
