"""Every executor answers every job once, names who crashed, and loses nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import asks
import pytest

from sweeps.executors.local import Processes, Threads
from sweeps.executors.shard import Backlog, Batch, Done, Executor, Job, Shard, Stop


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
    jobs, stop = jobs_of(400), Stop()
    found: dict[int, Done] = {}
    for batch in make(2, asks.slow)(jobs, stop=stop):
        found |= {row.index: row for row in batch.rows}
        stop.level = 1
    assert 0 < len(found) < 100
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
        "    (batch,) = Processes(1, asks.hashing)(jobs, stop=Stop())\n"
        "    print(not batch.rows[0].error)\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, check=True, text=True,
                          capture_output=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


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
