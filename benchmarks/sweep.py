"""What a sweep costs beside its runs: executors and alternatives over the same work, in one go.

``python -m benchmarks.sweep [--ms 1,10] [--seconds 4] [--ray] [--tune] [--plan 1000000]
[--memory 10000,100000]``. The work
is a real run whose length is chosen so that the engine's C call takes about so many milliseconds,
asked for many replicates. Printed for each way of running it:

* wall efficiency: processor time inside the engine's call / cores / wall time, after start-up;
* CPU efficiency: the same processor time / all that this process and its children used meanwhile,
  daemons included: the figure to judge on a busy machine;
* the driver's processor time per run (store included, start-up not), its peak memory, and the
  time to the first result.

Alternatives: a bare fork pool (`multiprocessing.Pool`, shards of 50 ms, nothing stored, no crash
survived), Ray with one task per run, and Ray Tune (`pip install 'ray[tune]'`) with one trial per
run in actors that are used again, the best it can do; its wall time begins when Ray is up.

``--memory`` prints what the driver holds for so many of the shortest runs there are, a hundred to
a point: when the plan is made, and at most. To be met: at most 250 MiB for 10,000 runs, and not
growing: what 100,000 take beyond that is their plan (about 200 bytes a run: its key, and where it
is) and what lowering remembers, up to a limit of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pysim import engine
from pysim.scenario import Lowering, Scenario, build
from sweeps import grid, points, run
from sweeps.executors.local import Processes, Threads
from sweeps.executors.shard import Batch, Executor, Job, Stop
from sweeps.store import Store

LOOK_SECONDS = 1.0
RAY_SETTLES_SECONDS = 3.0
"""Ray's workers come one after the other."""
SEEDS_MAX = 10_000
CORES = len(os.sched_getaffinity(0))


def scenario(milliseconds: float) -> Scenario:
    """Return a scenario whose run takes about so long."""
    length = milliseconds / 4
    for _ in range(4):
        one = build({"policy": "preventive-range", "machine": "sg2042", "harts": 4,
                     "workload": {"inherit": "mixed", "duration_ms": round(length, 3)}})
        question = Lowering()(one)
        best = min(_timed(lambda: engine.record(question)) for _ in range(3)) * 1000  # noqa: B023
        length *= milliseconds / best
    return one


def _timed(call: Callable[[], object]) -> float:
    began = time.thread_time()
    call()
    return time.thread_time() - began


def replicates(one: Scenario, count: int) -> points.Scenarios:
    """Return so many replicates of one scenario, as a sweep has them."""
    roots = -(-count // SEEDS_MAX)   # a point has at most so many replicates
    text = "# How long?\n[axes]\npolicy = ['preventive-range']\n" \
        f"root_seed = {list(range(roots))}\n"
    asked = grid.parse(text, "benchmark", changes=grid.Changes(sets={
        "machine": "sg2042", "harts": one.harts, "workload": {
            "inherit": "mixed", "duration_ms": one.workload.duration_ms}},
        seeds=-(-count // roots)))
    return grid.expand(asked).scenarios


def runs(milliseconds: float, seconds: float) -> int:
    """Return how many runs are so many seconds of work for every core."""
    return max(20, int(seconds * 1000 / milliseconds) * CORES)


class Clock:
    """An executor that notes, from the first batch to the last, time and what was computed."""

    def __init__(self, inner: Executor, settle_seconds: float = 0.0) -> None:
        self._inner, self._settle = inner, settle_seconds
        self.came = 0.0   # the first batch; the window opens when all have settled
        self.first = self.last = self.first_cpu = self.last_cpu = self.engine = 0.0
        self.first_mine = self.last_mine = self._looking = 0.0
        self.runs = self._runs = 0
        self._sum = 0.0

    def __call__(self, jobs: Sequence[Job], *, stop: Stop) -> Iterator[Batch]:
        """Pass batches on."""
        for batch in self._inner(jobs, stop=stop):
            if batch.rows:   # else nothing came for a while
                self._note(batch, time.perf_counter())
            yield batch

    def _note(self, batch: Batch, now: float) -> None:
        self.came = self.came or now
        if not self.first:
            if now - self.came >= self._settle:
                self.first, self.first_cpu, self.last = now, used(), now
                self.first_mine = time.process_time()
            return
        self._sum += sum(row.cpu_s for row in batch.rows)
        self._runs += len(batch.rows)
        if now - self.last >= LOOK_SECONDS:   # looking is not free
            began = time.process_time()
            self.last, self.last_cpu, self.engine = now, used() - self._looking, self._sum
            self.last_mine, self.runs = began - self._looking, self._runs
            self._looking += time.process_time() - began


def used() -> float:
    """Return the processor time of this process and everything that came of it and lives."""
    above: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue   # it ended meanwhile
            above[int(entry.name)] = int(fields[1])
            ticks[int(entry.name)] = sum(int(field) for field in fields[11:15])
    total, ours = 0, {os.getpid()}
    while ours:
        total += sum(ticks.get(pid, 0) for pid in ours)
        ours = {pid for pid, parent in above.items() if parent in ours}
    return total / os.sysconf("SC_CLK_TCK")


def swept(name: str, milliseconds: float, seconds: float) -> dict[str, Any]:
    """Run a sweep with an executor, into a store."""
    one = scenario(milliseconds)
    count = runs(milliseconds, seconds)
    from sweeps.executors.ray import Ray
    inner = {"processes": Processes, "threads": Threads}.get(name)
    clock = Clock(inner(CORES)) if inner else Clock(Ray("local", CORES), RAY_SETTLES_SECONDS)
    with tempfile.TemporaryDirectory(prefix="fencelab-") as folder:
        planned = run.plan(replicates(one, count), Lowering(), stop=Stop())
        with Store(Path(folder) / "a.db", write=True) as store:
            began = time.perf_counter()
            run.run(planned, store, clock, stop=Stop())
            ended = time.perf_counter()
    driver = clock.last_mine - clock.first_mine - (clock.engine if name == "threads" else 0.0)
    return told(name, milliseconds, count, clock.engine, clock.last - clock.first,
                clock.last_cpu - clock.first_cpu, driver / max(1, clock.runs),
                first=clock.came - began, whole=ended - began)


def told(name: str, milliseconds: float, count: int, cpu: float, wall: float, all_cpu: float,
         driver: float, *, first: float, whole: float) -> dict[str, Any]:
    """Return a row of the table."""
    return {"way": name, "ms": milliseconds, "runs": count,
            "wall efficiency": round(cpu / CORES / wall, 3) if wall else None,
            "CPU efficiency": round(cpu / all_cpu, 3) if all_cpu > 0 else None,
            "driver us/run": round(driver * 1e6),
            "driver MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "first s": round(first, 2), "whole s": round(whole, 2),
            "runs/s": round(count / whole, 1)}


def _pooled(question: engine.Question) -> tuple[bytes, float]:
    began = time.thread_time()
    return engine.record(question), time.thread_time() - began


def pooled(milliseconds: float, seconds: float) -> dict[str, Any]:
    """Run the same with a bare fork pool; nothing is stored."""
    one, lower = scenario(milliseconds), Lowering()
    count = runs(milliseconds, seconds)
    chunk = max(1, int(50 / milliseconds))
    began, mine, all_used = time.perf_counter(), time.process_time(), 0.0
    first, cpu = 0.0, 0.0
    with multiprocessing.get_context("fork").Pool(CORES) as pool:
        questions = (lower(each) for each in replicates(one, count))
        for _, taken in pool.imap_unordered(_pooled, questions, chunk):
            if first:
                cpu += taken
            else:
                first, all_used = time.perf_counter(), used()
        ended, driver = time.perf_counter(), time.process_time() - mine
        all_used = used() - all_used
        pool.close()
        pool.join()
    return told("bare fork pool", milliseconds, count, cpu, ended - first, all_used, driver / count,
                first=first - began, whole=ended - began)


def one_task_each(milliseconds: float, seconds: float) -> dict[str, Any]:
    """Run the same as one Ray task per run, eight in flight; nothing is stored."""
    from sweeps.executors import ray as executor

    ray = executor._import()
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    one, lower = scenario(milliseconds), Lowering()
    count = min(2000, runs(milliseconds, seconds))
    ray.init(address="local", num_cpus=CORES, include_dashboard=False, log_to_driver=False,
             logging_level="ERROR", runtime_env={"env_vars": {"PYTHONPATH": path}})
    task = ray.remote(num_cpus=1, max_retries=0)(_pooled)
    ray.get([task.remote(lower(one)) for _ in range(CORES)])
    began, mine, cpu, all_used = time.perf_counter(), time.process_time(), 0.0, used()
    flying: list[Any] = []
    for each in replicates(one, count):
        if len(flying) >= 8:
            done, flying = ray.wait(flying, num_returns=1)
            cpu += sum(taken for _, taken in ray.get(done))
        flying.append(task.remote(lower(each)))
    cpu += sum(taken for _, taken in ray.get(flying))
    wall, driver, all_used = (time.perf_counter() - began, time.process_time() - mine,
                              used() - all_used)
    ray.shutdown()
    return told("ray, a task each", milliseconds, count, cpu, wall, all_used, driver / count,
                first=0.0, whole=wall)


def tuned(milliseconds: float, seconds: float) -> dict[str, Any]:
    """Run the same as trials of Ray Tune, one per core at a time; at most 100 of them."""
    from sweeps.executors import ray as executor

    ray = executor._import()
    try:
        from ray import tune
    except ImportError as error:
        sys.exit(f"sweep: Ray Tune is not installed ({error}): pip install 'ray[tune]'")

    class Trial(tune.Trainable):
        """Asks one question and is done."""

        def setup(self, config: dict[str, Any], questions: list[engine.Question]) -> None:
            self.asked = questions
            self.number = config["number"]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.number = new_config["number"]
            return True

        def step(self) -> dict[str, Any]:
            return {"taken": _pooled(self.asked[self.number])[1], "done": True}

    one, lower = scenario(milliseconds), Lowering()
    count = min(100, runs(milliseconds, seconds))
    asked = [lower(each) for each in replicates(one, count)]
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    ray.init(address="local", num_cpus=CORES, include_dashboard=False, log_to_driver=False,
             logging_level="ERROR", runtime_env={"env_vars": {"PYTHONPATH": path}})
    with tempfile.TemporaryDirectory(prefix="fencelab-") as folder:
        tuner = tune.Tuner(
            tune.with_parameters(Trial, questions=asked),
            param_space={"number": tune.grid_search(list(range(count)))},
            tune_config=tune.TuneConfig(reuse_actors=True),   # each takes a core
            run_config=tune.RunConfig(
                verbose=0, storage_path=folder,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)))
        began, mine = time.perf_counter(), time.process_time()
        found = tuner.fit()
        wall, driver = time.perf_counter() - began, time.process_time() - mine
        cpu = sum(one.metrics["taken"] for one in found)
    ray.shutdown()                          # its actors have ended, and their time with them
    return told("Ray Tune", milliseconds, count, cpu, wall, 0.0, driver / count, first=0.0,
                whole=wall)


PLAN = """# How long does it take to plan?
seeds = 5
[base]
workload = "mixed"
[axes]
policy = ["none", "ideal", "mark-7.2", "mark-6.12", "mark-barrier", "preventive-range",
          "preventive-full", "vmalloc-fault", "mark-switch-in", "preventive-range-6.7"]
machine = ["sg2042", "xs-kmh", "rocket", "c910", "u74"]
harts = [1, 2, 4, 8, 16, 32, 48, 64]
"workload.lifetime_ms" = [1, 2, 5, 10, 20]
"workload.vmalloc_per_s" = { from = 100, to = 100000, steps = STEPS, scale = "log" }
"""


def planned(count: int) -> None:
    """Plan so many points: keys of all of them, none of them made."""
    steps = max(2, count // (5 * 10 * 5 * 8 * 5))
    began, cpu = time.perf_counter(), time.process_time()
    asked = grid.expand(grid.parse(PLAN.replace("STEPS", str(steps)), "plan"))
    found = run.plan(asked.scenarios, Lowering(), stop=Stop())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"plan: {len(found.keys)} points, {time.perf_counter() - began:.1f} s wall, "
          f"{time.process_time() - cpu:.1f} s CPU, {peak} MiB")


MEMORY = """# How much memory?
seeds = 100
[base]
policy = "none"
machine = "u74"
harts = 1
workload = { inherit = "mixed", duration_ms = 0.001 }
[axes]
"workload.vmalloc_per_s" = { from = 100, to = 100000, steps = STEPS }
"""


def remembered(name: str, count: int) -> dict[str, Any]:
    """Run so many with an executor, into a store; return what this process held meanwhile."""
    inner = {"processes": Processes, "threads": Threads}[name](CORES)
    begun = held()
    asked = grid.expand(grid.parse(MEMORY.replace("STEPS", str(max(2, count // 100))), "memory"))
    found = run.plan(asked.scenarios, Lowering(), stop=Stop())
    made = held()
    with tempfile.TemporaryDirectory(prefix="fencelab-") as folder, \
            Store(Path(folder) / "a.db", write=True) as store:
        outcome = run.run(found, store, inner, stop=Stop())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"way": name, "runs": outcome.computed, "at first MiB": round(begun),
            "planned MiB": round(made), "peak MiB": round(peak),
            "plan B/run": round((made - begun) * 2**20 / count),
            "running B/run": round((peak - made) * 2**20 / count)}


def held() -> float:
    """Return the MiB that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    """Measure each way in a process of its own and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--ms", default="1,10", help="lengths of a run")
    parser.add_argument("--seconds", type=float, default=4.0, help="of work a core")
    parser.add_argument("--ray", action="store_true", help="Ray too")
    parser.add_argument("--tune", action="store_true", help="Ray Tune too")
    parser.add_argument("--plan", type=int, default=0, help="plan so many points")
    parser.add_argument("--memory", default="", help="the driver's, for so many runs")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        way, milliseconds = given.one.rsplit(":", 1)
        if given.memory:
            print(json.dumps(remembered(way, int(milliseconds))))
            return
        measure = {"bare fork pool": pooled, "ray, a task each": one_task_each,
                   "Ray Tune": tuned}.get(way, lambda ms, seconds: swept(way, ms, seconds))
        print(json.dumps(measure(float(milliseconds), given.seconds)))
        return
    if given.plan:
        planned(given.plan)
        return
    from tabulate import tabulate

    ways = ["bare fork pool", "processes", "threads"]
    ways += ["ray", "ray, a task each"] if given.ray else []
    ways += ["Ray Tune"] if given.tune else []
    if given.memory:
        ways = ["processes", "threads"]
    rows = []
    for milliseconds in (given.memory or given.ms).split(","):
        for way in ways:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.sweep", "--one", f"{way}:{milliseconds}",
                 "--seconds", str(given.seconds), "--memory", given.memory],
                check=True, stdout=subprocess.PIPE, text=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{CORES} cores, load {os.getloadavg()[0]:.1f}")
    print(tabulate(rows, headers="keys"))


if __name__ == "__main__":
    main()
