"""Verdicts by policy, scenario and machine as jobs: byte-equal anywhere, kept, resumed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pysim import litmus, ops, policies
from pysim.check import Search, machine_parameters
from pysim.litmus import Parameters
from sweeps import asking, matrix
from sweeps.executors import local
from sweeps.store import Store

NAMES = ("none", "ideal", "mark-7.2", "mark-barrier", "preventive-range")
SCENARIOS = ("map1", "map2", "kstack")


def asked() -> list[matrix.Asked]:
    machines = {name: machine_parameters(name, Parameters()) for name in ("spec", "u74")}
    programs = [ops.lower(policies.find(name)) for name in NAMES]
    return matrix.questions(programs, [litmus.find(name, harts=2) for name in SCENARIOS], machines,
                            Search())


def test_every_question_has_a_key_of_its_own_and_no_label_is_in_it() -> None:
    one, *others = questions = asked()
    assert len({question.key for question in questions}) == len(questions)
    renamed = matrix.Asked(**{name: getattr(one, name) for name in one.__slots__}
                           | {"policy": "another", "machine": "another"})
    assert renamed.key == one.key != others[0].key


def test_executors_give_the_bytes_of_a_search_here(tmp_path: Path) -> None:
    questions = asked()
    here = {one.key: matrix.answer_with(one, Search()) for one in questions}
    for name, executor in (("threads", local.Threads(2, matrix.answer)),
                           ("processes", local.Processes(2, matrix.answer))):
        path = tmp_path / f"{name}.db"
        first = asking.ask(questions, path, executor)
        assert (first.computed, first.stored, first.missing) == (len(questions), 0, 0)
        assert first.failed == ()
        again = asking.ask(questions, path, executor)
        assert (again.computed, again.stored) == (0, len(questions))
        assert again.records == first.records
        with Store(path, write=False) as store:
            assert {key: store.record(key) for key in here} == here


def test_a_refused_policy_is_a_record_and_its_row_says_so() -> None:
    refused = [one for one in asked() if one.policy == "ideal"]
    records = [json.loads(matrix.answer_with(one, Search())) for one in refused]
    assert {record["verdict"] for record in records} == {"refused"}
    assert all("a free fence" in record["reason"] for record in records)


def test_an_error_in_a_worker_is_a_failure_with_the_command_that_meets_it(tmp_path: Path) -> None:
    def broken(question: matrix.Asked) -> bytes:
        if question.policy == "mark-7.2":
            raise ValueError("no")
        return matrix.answer_with(question, Search())

    questions = asked()
    found = asking.ask(questions, tmp_path / "x.db", local.Threads(2, broken))
    assert {failure.error for failure in found.failed} == {"ValueError: no"}
    assert len(found.failed) == len(SCENARIOS) * 2
    assert found.failed[0].reproducer.startswith("fencelab check mark-7.2 --scenario map1")
    mended = asking.ask(questions, tmp_path / "x.db", local.Threads(2, matrix.answer))
    assert (mended.computed, mended.failed) == (len(found.failed), ())


def fencelab(*words: str, **named: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "sweeps.cli", "check", "--all", *words], text=True,
                          capture_output=True, check=False, timeout=300, **named)  # type: ignore


@pytest.mark.slow
def test_the_command_prints_one_table_however_it_was_computed(tmp_path: Path) -> None:
    common = ("--scenario", "kstack", "--machine", "spec,u74", "--format", "json")
    here = fencelab(*common)
    swept = fencelab(*common, "--executor", "threads", "--store", str(tmp_path / "v.db"))
    again = fencelab(*common, "--store", str(tmp_path / "v.db"))
    assert here.returncode == swept.returncode == again.returncode == 0, swept.stderr
    assert here.stdout == swept.stdout == again.stdout
    assert "0 stored" in swept.stderr
    assert again.stderr.startswith("0 computed, ")
    rows = json.loads(here.stdout)["verdicts"]
    assert {row["machine"] for row in rows} == {"spec", "u74"}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="RAY IS NOT INSTALLED")
def test_ray_gives_the_same_table(tmp_path: Path) -> None:
    common = ("--scenario", "map1", "--format", "json")
    here = fencelab(*common)
    there = fencelab(*common, "--executor", "ray", "--address", "local", "--workers", "2",
                     "--store", str(tmp_path / "v.db"))
    assert there.returncode == 0, there.stderr
    assert there.stdout == here.stdout


def test_executor_options_without_all_are_refused() -> None:
    child = subprocess.run([sys.executable, "-m", "sweeps.cli", "check", "none", "--executor",
                            "threads"], text=True, capture_output=True, check=False)
    assert child.returncode == 2
    assert "need --all" in child.stderr
