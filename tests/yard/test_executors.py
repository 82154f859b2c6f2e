"""Every executor answers every job once, names who crashed, and loses nothing else."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import asks
import pytest
from nodes import bare_python, environment

from pysim import engine
from pysim.scenario import build, lower
from sweeps.executors import local
from sweeps.executors.local import Processes, Threads
from sweeps.executors.ray import ship
from sweeps.executors.shard import (
    Backlog,
    Batch,
    Done,
    Executor,
    Job,
    Limits,
    Shard,
    Stop,
    answer_shard,
    packed_jobs,
    unpacked_batch,
)


def jobs_of(count: int, orders: dict[int, str] | None = None) -> list[Job]:
    orders = orders or {}
    return [Job(i, asks.question(i, orders.get(i, ""))) for i in range(count)]


def collect(batches: Iterator[Batch]) -> dict[int, Done]:
    found: dict[int, Done] = {}
    for batch in batches:
        for row in batch.rows:
            assert row.index not in found, "a job came back twice"
            found[row.index] = row
    return found


def want(jobs: list[Job]) -> dict[int, bytes]:
    return {job.index: asks.hashing(job.question) for job in jobs}


@pytest.mark.parametrize("make", [Processes, Threads])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_job_comes_back_once(make: Callable[..., Executor], workers: int) -> None:
    jobs = jobs_of(300)
    found = collect(make(workers, asks.hashing)(jobs, stop=Stop()))
    assert {index: row.record for index, row in found.items()} == want(jobs)


@pytest.mark.parametrize("make", [Processes, Threads])
def test_no_jobs_is_no_work(make: Callable[..., Executor]) -> None:
    assert collect(make(2, asks.hashing)([], stop=Stop())) == {}


@pytest.mark.parametrize("make", [Processes, Threads])
def test_an_exception_is_the_jobs_own(make: Callable[..., Executor]) -> None:
    jobs = jobs_of(50, {7: "raise too many harts"})
    found = collect(make(2, asks.obey)(jobs, stop=Stop()))
    assert found[7].error == "ValueError: too many harts"
    assert [i for i, row in found.items() if row.error] == [7]


def test_a_crash_is_named_and_costs_nothing_else(tmp_path: Path) -> None:
    orders = {3: "segfault", 4: "segfault", 100: "exit 77", 199: "segfault",
              50: f"once {tmp_path / 'flag'}"}
    jobs = jobs_of(200, orders)
    found = collect(Processes(2, asks.obey)(jobs, stop=Stop()))
    failed = {index: row.error for index, row in found.items() if row.error}
    segv = "the worker was killed by SIGSEGV"
    assert failed == {3: segv, 4: segv, 199: segv, 100: "the worker ended with exit status 77"}
    rest = {index: row.record for index, row in found.items() if not row.error}
    assert rest == {i: record for i, record in want(jobs).items() if i not in failed}


def test_all_jobs_may_crash() -> None:
    jobs = jobs_of(8, dict.fromkeys(range(8), "segfault"))
    found = collect(Processes(3, asks.obey)(jobs, stop=Stop()))
    assert sorted(i for i, row in found.items() if row.error) == list(range(8))


@pytest.mark.parametrize("make", [Processes, Threads])
def test_stop_drains_what_is_under_way(make: Callable[..., Executor]) -> None:
    """Forty seconds of work: whoever stops it may well lose twenty of them."""
    jobs, stop = jobs_of(4000), Stop()
    found: dict[int, Done] = {}
    for batch in make(2, asks.slow)(jobs, stop=stop):
        found |= {row.index: row for row in batch.rows}
        if found:
            stop.level = 1
    assert 0 < len(found) < 2000
    assert not [row for row in found.values() if row.error]


def test_workers_import_what_the_driver_imports(tmp_path: Path) -> None:
    """As the installed command in the folder of a checkout, whose engine was never built."""
    for package in ("pysim", "sweeps"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "command.py"
    script.write_text(
        f"import sys; sys.path[1:1] = {[str(Path(__file__).parent), *sys.path]!r}\n"
        "import asks; from sweeps.executors.local import Processes\n"
        "from sweeps.executors.shard import Job, Stop\n"
        "if __name__ == '__main__':\n"
        "    jobs = [Job(0, asks.question(0))]\n"
        "    batches = list(Processes(1, asks.hashing)(jobs, stop=Stop()))\n"
        "    print([row.error for batch in batches for row in batch.rows])\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, check=True, text=True,
                          capture_output=True)
    assert (done.stdout, done.stderr) == ("['']\n", "")


def test_shards_shrink_towards_the_end_and_start_with_the_heaviest() -> None:
    jobs = [Job(i, asks.question(i), weight=1 + i % 3) for i in range(3000)]
    backlog = Backlog(jobs, workers=2)
    first = backlog.next_shard()
    assert [job.weight for job in first.jobs] == [3]
    backlog.learn([Done(first.jobs[0].index, b"x", wall_s=0.003)])   # 1 ms per unit of weight
    sizes = []
    while backlog:
        shard = backlog.next_shard()
        sizes.append(sum(job.weight for job in shard.jobs))
    assert sum(sizes) == sum(job.weight for job in jobs) - 3
    assert max(sizes) <= 1000, "no shard longer than a second"
    assert max(sizes[-3:]) <= 50, "the last ones are the smallest allowed"
    assert sizes[0] == pytest.approx((6000 - 3) / 8, abs=3)


def test_a_lost_machine_blames_nobody_until_the_third_time() -> None:
    backlog = Backlog(jobs_of(3), workers=1)
    for lost in range(3):
        shards = [backlog.next_shard() for _ in range(3)]
        rows = [row for shard in shards for row in backlog.node_lost(shard, "gone")]
        assert len(rows) == (3 if lost == 2 else 0)
    assert not backlog


def test_a_careful_shard_suspects_its_first_unfinished_job_and_asks_it_alone() -> None:
    jobs = jobs_of(4)
    backlog = Backlog([], workers=1)
    shard = Shard(jobs, careful=False)
    shard.take([Done(0, b"x")])
    assert backlog.worker_died(shard, "died") == ()
    again = backlog.next_shard()
    assert again.careful
    assert [job.index for job in again.jobs] == [1, 2, 3]
    again.take([Done(1, b"x")])
    assert backlog.worker_died(again, "died") == ()
    alone, rest = backlog.next_shard(), backlog.next_shard()
    assert [[job.index for job in shard.jobs] for shard in (alone, rest)] == [[2], [3]]
    assert [row.index for row in backlog.worker_died(alone, "died")] == [2]


@pytest.mark.parametrize("deaths", [2, 3])
def test_a_job_is_blamed_for_so_many_deaths_and_no_fewer(deaths: int) -> None:
    backlog = Backlog(jobs_of(1), workers=1, deaths_max=deaths)
    for death in range(1, deaths + 1):
        rows = backlog.worker_died(backlog.next_shard(), "died")
        assert len(rows) == (death == deaths)
    assert not backlog


# ---- limits -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("make", [Processes, Threads])
def test_a_job_past_its_time_is_named_and_costs_nothing_else(make: Callable[..., Executor]) -> None:
    """One listens and is ended, one does not and is given up with its worker."""
    jobs = jobs_of(60, {5: "listen", 30: f"sleep {asks.FOR_EVER}"})
    found = collect(make(2, asks.obey, limits=Limits(timeout_s=3))(jobs, stop=Stop()))
    failed = {index: row.error for index, row in found.items() if row.error}
    assert failed == {5: "timeout: more than 3 s",
                      30: "timeout: more than 3 s, and it could not be ended"}
    rest = {index: row.record for index, row in found.items() if not row.error}
    assert rest == {i: record for i, record in want(jobs).items() if i not in failed}


def test_the_engine_listens() -> None:
    """A run of half a minute, ended after a quarter of a second.

    One that does not listen within two seconds more is told apart.
    """
    asked = lower(build({"policy": "mark-7.2", "machine": "sg2042", "harts": 64,
                         "workload": {"inherit": "mixed", "duration_ms": 300}}))
    limits = Limits(timeout_s=0.25)
    (row,) = collect(Processes(1, limits=limits)([Job(0, asked)], stop=Stop())).values()
    assert row.error == "timeout: more than 0.25 s"


def test_a_job_that_takes_too_much_memory_is_named_and_costs_nothing_else() -> None:
    jobs = jobs_of(40, {7: "hoard 300", 8: "hoard 20"})
    found = collect(Processes(2, asks.obey, limits=Limits(memory_mib=100))(jobs, stop=Stop()))
    assert {index: row.error for index, row in found.items() if row.error} == {
        7: "MemoryError (limit 100 MiB)"}
    assert all(row.peak_kib > 1000 for row in found.values() if not row.error)
    free = collect(Processes(1, asks.obey)(jobs, stop=Stop()))
    assert not [row for row in free.values() if row.error]


def test_the_engine_is_refused_memory_in_its_own_words() -> None:
    asked = lower(build({"policy": "mark-7.2", "machine": "sg2042", "harts": 64,
                         "workload": {"inherit": "mixed", "duration_ms": 100}}))
    (row,) = collect(Processes(1, limits=Limits(memory_mib=1))([Job(0, asked)], stop=Stop())
                     ).values()
    assert "memory" in row.error.lower(), row.error


def test_what_is_finished_is_handed_over_in_the_middle_of_a_long_job(tmp_path: Path) -> None:
    """The second job does not end before the first one's answer is here."""
    jobs = [Job(0, asks.question(0)), Job(1, asks.question(1, f"await {tmp_path / 'seen'}"))]
    seen = []
    for rows in answer_shard(jobs, asks.obey):
        seen += [row.index for row in rows]
        (tmp_path / "seen").touch()
    assert seen == [0, 1]


def test_a_silent_while_is_an_empty_batch(tmp_path: Path) -> None:
    """So that a driver can keep what came before, and say how far it is."""
    for make in (Processes, Threads):
        flag = tmp_path / make.__name__
        found: list[tuple[Done, ...]] = []
        for batch in make(1, asks.obey)([Job(0, asks.question(0, f"await {flag}"))], stop=Stop()):
            found.append(batch.rows)
            flag.touch()
        assert found[0] == ()
        assert [row.index for rows in found for row in rows] == [0]


def test_a_second_stop_leaves_at_once(tmp_path: Path) -> None:
    """In the middle of jobs that never end."""
    stop, begun = Stop(), tmp_path / "begun"
    jobs = jobs_of(40, dict.fromkeys(range(40), f"begin {begun}"))

    def leave() -> None:
        asks.await_file(begun)
        stop.level = 2

    threading.Thread(target=leave, daemon=True).start()
    assert collect(Processes(2, asks.obey)(jobs, stop=stop)) == {}


def test_little_work_is_left_to_one_worker_and_much_to_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Much: no job ends before four workers are at one. Little: less than an hour."""
    much = jobs_of(40, dict.fromkeys(range(40), f"meet {tmp_path} 4"))
    many = {row.record for row in collect(Processes(4, asks.who)(much, stop=Stop())).values()}
    assert len(many) == 4
    assert (local.SERIAL_SECONDS, local.HIRE_SECONDS) == (1 / 3, 0.1)
    monkeypatch.setattr(local, "SERIAL_SECONDS", 3600.0)
    monkeypatch.setattr(local, "HIRE_SECONDS", 3600.0)
    few = {row.record for row in collect(Processes(4, asks.who)(jobs_of(10), stop=Stop())).values()}
    assert len(few) == 1


class Made(Sequence[Job]):
    """Jobs that count how many of them were made."""

    def __init__(self, count: int) -> None:
        self.weights = [1.0] * count
        self.made = 0

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, index: int) -> Job:  # type: ignore[override]
        self.made += 1
        return Job(index, asks.question(index))


def test_jobs_are_made_when_they_are_handed_out() -> None:
    jobs = Made(100_000)
    backlog = Backlog(jobs, workers=2)
    assert jobs.made == 0
    shard = backlog.next_shard()
    backlog.learn([Done(shard.jobs[0].index, b"x", wall_s=0.001)])
    backlog.next_shard()
    assert jobs.made < 1100


def test_a_node_needs_the_engine_and_nothing_else() -> None:
    """The shard function and the engine import nothing but cffi: nodes need no more than that."""
    code = (
        "import sys\n"
        "import sweeps.executors.ray, sweeps.executors.shard\n"
        "known = set(sys.stdlib_module_names) | {'pysim', 'sweeps', 'cffi', '_cffi_backend'}\n"
        "print(sorted({name.partition('.')[0] for name, module in sys.modules.items()\n"
        "              if getattr(module, '__file__', None)} - known))\n")
    before = subprocess.run([sys.executable, "-c", "import sys; print(sorted({n.partition('.')[0] "
                             "for n, m in sys.modules.items() if getattr(m, '__file__', None)} - "
                             "set(sys.stdlib_module_names)))"], text=True, capture_output=True,
                            check=True)
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    extra = set(ast.literal_eval(done.stdout)) - set(ast.literal_eval(before.stdout))
    assert extra <= {"__main__"}, extra


NODE = """
import pickle, sys
from sweeps.executors import ray
from sweeps.executors.shard import NO_LIMITS, simulate
jobs = sys.stdin.buffer.read()
batches = ray._serve_whole(jobs, simulate, False, NO_LIMITS)
pickle.dump([batches, ray.hello()], sys.stdout.buffer)
"""


def test_a_node_with_cffi_alone_answers_what_it_was_sent(tmp_path: Path) -> None:
    """What travels is unpacked and run where no other package is installed, not even Ray."""
    asked = [lower(build({"policy": policy, "machine": "sg2042", "harts": 2,
                          "workload": {"inherit": "mixed", "duration_ms": 1}}))
             for policy in ("mark-7.2", "preventive-range")]
    python = bare_python(tmp_path / "node", "cffi")
    ship(tmp_path / "package")
    done = subprocess.run(
        [python, "-c", NODE], input=packed_jobs([Job(i, one) for i, one in enumerate(asked)]),
        capture_output=True, check=False, cwd=tmp_path,
        env={**environment(tmp_path), "PYTHONPATH": str(tmp_path / "package")})
    assert (done.returncode, done.stderr) == (0, b"")
    batches, said = pickle.loads(done.stdout)
    rows = collect(map(unpacked_batch, batches))
    assert {index: row.record for index, row in rows.items()} == {
        index: engine.record(one) for index, one in enumerate(asked)}
    assert (said.build_id, said.ray) == (engine.BUILD_ID, "")
