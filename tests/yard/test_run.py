"""Every way of running gives the same records; running again resumes; failures are kept apart."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asks
import pytest

from pysim import counters, engine
from pysim.errors import InputError
from pysim.scenario import Scenario, lower
from sweeps import grid, progress, run
from sweeps.executors.local import Processes, Threads
from sweeps.executors.ray import Ray
from sweeps.executors.shard import Batch, Done, Executor, ExecutorError, Stop
from sweeps.points import SweepError
from sweeps.store import Store

SWEEP = """
# Which questions are there?
seeds = 5
[axes]
policy = ["ideal", "mark-7.2", "preventive-range"]
machine = ["xs-kmh", "sg2042"]
harts = [1, 4, 64]
workload = ["mixed"]
"""
COUNT = 3 * 2 * 3 * 5

DRIVER = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import asks, test_run
from sweeps.executors.local import Processes
print("begun", flush=True)
outcome = test_run.go(Path(sys.argv[1]), Processes(2, getattr(asks, sys.argv[2])))
print(outcome.computed, outcome.stored, outcome.missing)
sys.exit(outcome.exit_status)
"""


def scenarios() -> list[Scenario]:
    return list(grid.expand(grid.parse(SWEEP, "sweep")).scenarios)


def go(path: Path, executor: Executor, *, lower: run.Lower = lower, retry_failed: bool = True
       ) -> run.Outcome:
    stop = Stop()
    with run.interruptible(stop), Store(path, write=True) as store:
        planned = run.plan(scenarios(), lower, stop=stop)
        outcome = run.run(planned, store, executor, stop=stop, retry_failed=retry_failed)
        run.say(outcome, planned, path)
        return outcome


def records(path: Path) -> dict[str, bytes]:
    database = sqlite3.connect(path)
    found = dict(database.execute("SELECT key, record FROM records"))
    database.close()
    return found


def wanted() -> dict[str, bytes]:
    questions = [lower(scenario) for scenario in scenarios()]
    return {question.key: asks.fabricate(question) for question in questions}


@contextmanager
def driving(path: Path, ask: str, most: int = COUNT) -> Iterator[subprocess.Popen[str]]:
    """Start a driver; its workers answer so many questions before they are given the word."""
    child = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(path), ask], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "ASKS": str(path.parent), "ASKS_MOST": str(most)})
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def stored_by(child: subprocess.Popen[str], path: Path, rows: int) -> None:
    """Wait until a driver has stored so many."""
    while not (path.exists() and len(_safely(path)) >= rows):
        assert child.poll() is None, child.communicate()
        time.sleep(0.01)


def interrupt(child: subprocess.Popen[str]) -> None:
    """Send Ctrl-C and wait until it is heard."""
    child.send_signal(signal.SIGINT)
    assert child.stderr is not None
    while not (line := child.stderr.readline()).startswith("finishing what is under way"):
        assert line, "it ended"


RAY = pytest.param(lambda: Ray("local", 2, asks.fabricate), id="ray", marks=[
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None,
                       reason="RAY IS NOT INSTALLED: the ray executor is not tested")])


@pytest.mark.parametrize("make", [
    pytest.param(lambda: Processes(1, asks.fabricate), id="one process"),
    pytest.param(lambda: Processes(5, asks.fabricate), id="five processes"),
    pytest.param(lambda: Threads(8, asks.fabricate), id="eight threads"),
    RAY,
])
def test_every_executor_stores_the_same_bytes(tmp_path: Path, make: Callable[[], Executor]) -> None:
    outcome = go(tmp_path / "a.db", make())
    assert (outcome.computed, outcome.stored, outcome.exit_status) == (COUNT, 0, 0)
    assert records(tmp_path / "a.db") == wanted()


@pytest.mark.slow
def test_another_process_asks_the_same_questions(tmp_path: Path) -> None:
    with driving(tmp_path / "a.db", "fabricate") as child:
        out, _ = child.communicate()
    assert out.splitlines()[-1] == f"{COUNT} 0 0"
    assert records(tmp_path / "a.db") == wanted()


def test_a_second_run_computes_nothing_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go(tmp_path / "a.db", Threads(2, asks.fabricate))
    before = records(tmp_path / "a.db")
    capsys.readouterr()

    def unused(*args: Any, **more: Any) -> Any:
        raise AssertionError("nothing is left to compute")

    outcome = go(tmp_path / "a.db", unused)
    assert (outcome.computed, outcome.stored) == (0, COUNT)
    assert capsys.readouterr().err == f"0 computed, {COUNT} stored in {tmp_path / 'a.db'}\n"
    assert records(tmp_path / "a.db") == before


@pytest.mark.slow
def test_kill_9_costs_only_what_was_not_committed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with driving(path, "fabricate_some", most=50) as child:
        stored_by(child, path, 20)
    kept = len(records(path))
    assert 20 <= kept <= 50
    outcome = go(path, Processes(2, asks.fabricate))
    assert (outcome.computed, outcome.stored) == (COUNT - kept, kept)
    assert records(path) == wanted()


def _safely(path: Path) -> dict[str, bytes]:
    try:
        return records(path)
    except sqlite3.OperationalError:   # the tables are not there yet
        return {}


@pytest.mark.slow
def test_ctrl_c_drains_says_how_to_go_on_and_resumes(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with driving(path, "fabricate_some", most=20) as child:
        stored_by(child, path, 1)
        interrupt(child)
        (tmp_path / "go").touch()
        out, err = child.communicate()
    assert child.returncode == 130
    computed, stored, missing = map(int, out.splitlines()[-1].split())
    assert (stored, computed + missing) == (0, COUNT)
    assert missing > 0
    assert len(records(path)) == computed
    assert f"interrupted: {missing} are missing; run the same command again to go on" in err
    assert go(path, Threads(2, asks.fabricate)).computed == missing
    assert records(path) == wanted()


@pytest.mark.slow
def test_crashes_and_exceptions_are_kept_apart_and_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.db"
    outcome = go(path, Processes(2, asks.stubborn))
    crashed = {key for key in wanted() if key[0] in "08"}
    raised = {key for key in wanted() if key[0] in "19"}
    assert crashed
    assert raised
    assert outcome.exit_status == 1
    errors = {failure.key: failure.error for failure in outcome.failed}
    assert errors == {**dict.fromkeys(crashed, "the worker was killed by SIGSEGV"),
                      **dict.fromkeys(raised, "ValueError: will not")}
    with Store(path, write=False) as store:
        assert {f.key: f.error for f in store.failures()} == errors
    assert records(path) == {k: v for k, v in wanted().items() if k not in errors}
    err = capsys.readouterr().err
    assert "failed: " in err
    assert f"fencelab store rerun {outcome.failed[0].key[:16]} --store {path}" in err
    same = go(path, Threads(2, asks.fabricate), retry_failed=False)
    assert (same.computed, same.failed_before, same.exit_status) == (0, len(errors), 1)
    assert {failure.key: failure.error for failure in same.failed} == errors
    assert f"{len(errors)} failed earlier and were not asked again" in capsys.readouterr().err
    again = go(path, Threads(2, asks.fabricate))
    assert (again.computed, again.exit_status) == (len(errors), 0)
    with Store(path, write=False) as store:
        assert store.failures() == []
    assert records(path) == wanted()


def test_a_scenario_that_cannot_be_lowered_fails_alone(tmp_path: Path) -> None:
    def picky(scenario: Scenario) -> engine.Question:
        if scenario.harts == 4:
            raise RuntimeError("four is too many")
        return lower(scenario)

    outcome = go(tmp_path / "a.db", Threads(2, asks.fabricate), lower=picky)
    assert len(outcome.failed) == COUNT // 3
    assert {failure.error for failure in outcome.failed} == {"RuntimeError: four is too many"}
    assert outcome.computed == COUNT - COUNT // 3


def test_bad_input_is_refused_before_anything_runs(tmp_path: Path) -> None:
    def refuse(scenario: Scenario) -> engine.Question:
        raise InputError("trace.txt", "", "cannot be read")

    with pytest.raises(SweepError, match="cannot be read"):
        go(tmp_path / "a.db", Threads(2, asks.fabricate), lower=refuse)
    assert records(tmp_path / "a.db") == {}


def test_the_answer_of_another_engine_is_refused(tmp_path: Path) -> None:
    def stale(jobs: Any, *, stop: Stop) -> Any:
        yield Batch("0123456789abcdef", "node7", (Done(0, b"{}"),))

    with pytest.raises(ExecutorError, match="node7 answered with engine 0123456789ab, this is "):
        go(tmp_path / "a.db", stale)
    assert records(tmp_path / "a.db") == {}


@pytest.mark.slow
def test_provenance_is_beside_the_record(tmp_path: Path) -> None:
    go(tmp_path / "a.db", Threads(1, asks.fabricate_slowly))
    database = sqlite3.connect(tmp_path / "a.db")
    rows = database.execute(
        "SELECT key, versions, host, wall_s, cpu_s, peak_kib, command, at_utc FROM provenance JOIN "
        "records ON provenance.record = records.id JOIN makers ON maker = makers.id").fetchall()
    labels = database.execute("SELECT count(*) FROM scenarios").fetchone()[0]
    database.close()
    assert {row[0] for row in rows} == set(wanted())
    assert labels == COUNT
    assert all(engine.BUILD_ID in row[1] and row[2] == os.uname().nodename for row in rows)
    assert all(row[3] >= 0.02 and row[3] > row[4] for row in rows)
    assert all(row[5] > 1000 and row[6] == run.command() and row[7].endswith("Z") for row in rows)


def test_two_labels_may_share_one_record(tmp_path: Path) -> None:
    """The first replicate under two names of a machine is one question."""
    text = SWEEP.replace('["xs-kmh", "sg2042"]', '["sg2042", {inherit = "sg2042", label = "twin"}]')
    points = grid.expand(grid.parse(text, "sweep"))
    with Store(tmp_path / "a.db", write=True) as store:
        planned = run.plan(points.scenarios, lower, stop=Stop())
        outcome = run.run(planned, store, Threads(2, asks.fabricate), stop=Stop())
    assert len(outcome.keys) == COUNT
    assert outcome.computed == COUNT // 2
    with Store(tmp_path / "a.db", write=False) as store:
        assert store.counts()["scenarios"] == COUNT // 2, "a label is no part of a machine"


def test_nothing_measured_is_a_status_of_its_own(tmp_path: Path) -> None:
    def refuse(asked: engine.Question) -> bytes:
        raise ValueError("no")

    outcome = go(tmp_path / "a.db", Threads(2, refuse))
    assert (outcome.computed, len(outcome.failed), outcome.exit_status) == (0, COUNT, 4)
    said = run.summary(outcome, tmp_path / "a.db", outcome.exit_status)
    run.write_summary(said, tmp_path / "summary.json")
    found = json.loads((tmp_path / "summary.json").read_text())
    assert (found["exit_status"], found["failed"], len(found["failures"])) == (4, COUNT, COUNT)
    assert found["failures"][0]["error"] == "ValueError: no"
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.slow
def test_what_came_back_is_kept_while_a_long_run_goes_on(tmp_path: Path) -> None:
    """Five answers, far less than a batch, and then nothing for as long as anybody looks."""
    path = tmp_path / "a.db"
    with driving(path, "fabricate_some", most=5) as child:
        stored_by(child, path, 5)
    assert len(records(path)) == 5


@pytest.mark.slow
def test_a_second_ctrl_c_leaves_at_once_and_keeps_what_came(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with driving(path, "fabricate_some", most=20) as child:   # the next ones never end
        stored_by(child, path, 3)
        interrupt(child)
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate()
    assert child.returncode == 130
    computed, _, missing = map(int, out.splitlines()[-1].split())
    assert computed + missing == COUNT
    assert len(records(path)) == computed >= 3
    assert go(path, Threads(2, asks.fabricate)).computed == missing
    assert records(path) == wanted()


def test_quiet_lines_say_how_far_how_fast_and_how_long_still(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    with progress.Bar("running", 10, stored=3) as bar:
        time.sleep(0.02)
        bar.update(4, 1)
        bar.update(6, 0)
    first, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"running: 4 of 10, 1 failed, 3 stored before, [\d.e+]+/s, \d+ s left",
                        first)
    assert last == "running: 10 of 10, 1 failed, 3 stored before"


def test_running_means_are_the_means() -> None:
    watch = progress.Watcher()
    overheads = []
    for number in range(9):
        record = asks.fabricate(asks.question(number))
        overheads.append(float(counters.overhead(engine.Result.from_record(record)).total))
        watch.take("none", record)
    watch.take("none", b"")
    (line,) = watch.lines()
    mean = 100 * sum(overheads) / 9
    assert f"9 runs  overhead {mean:.4g} %" in line
    assert f"(spread {100 * statistics.stdev(overheads):.2g})" in line
    assert line.endswith("1 failed or unsafe")
