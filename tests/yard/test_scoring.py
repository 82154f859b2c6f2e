"""Rows of the scoreboard as jobs: the rows of a scoring here, kept, and asked again when due."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pysim import validate
from pysim.errors import InputError
from pysim.scores import Scoreboard
from sweeps import asking, scoring
from sweeps.executors import local
from sweeps.executors.shard import Executor

QUICK = ("SBI calls", "remote fences")


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    folder = tmp_path / "counts"
    folder.mkdir()
    (folder / "counts.csv").write_text("policy,smp,workload,rep,ops\nmark,1,idle,0,1\n")
    return folder


def test_a_key_is_of_the_group_the_sources_and_every_count(
        counts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = scoring.questions(counts, None)
    assert [one.group for one in asked] == list(validate.GROUPS)
    keys = {one.key for one in asked}
    assert len(keys) == len(asked)
    assert {one.key for one in scoring.questions(counts, None)} == keys
    (counts / "notes.txt").write_text("a file more")
    more = {one.key for one in scoring.questions(counts, None)}
    assert not more & keys
    monkeypatch.setattr(scoring, "_sources", lambda: "another commit")
    assert not {one.key for one in scoring.questions(counts, None)} & more


def test_an_unknown_group_or_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'SBI calls'"):
        scoring.questions(None, "SBI cals")
    with pytest.raises(InputError, match="nowhere: is not a folder"):
        scoring.questions(tmp_path / "nowhere", None)


@pytest.mark.parametrize("executor", [local.Threads(2, scoring.answer),
                                      local.Processes(2, scoring.answer)])
def test_executors_give_the_rows_of_a_scoring_here(executor: Executor, tmp_path: Path) -> None:
    asked = [one for group in QUICK for one in scoring.questions(None, group)]
    here = Scoreboard(rows=tuple(row for group in QUICK
                                 for row in validate.validate(only=group).rows))
    found = asking.ask(asked, tmp_path / "a.db", executor)
    assert (found.computed, found.stored, found.failed) == (len(QUICK), 0, ())
    assert scoring.board(asked, found.records) == here
    again = asking.ask(asked, tmp_path / "a.db", executor)
    assert (again.computed, again.stored, again.records) == (0, len(QUICK), found.records)


def test_a_folder_that_went_is_a_failure_with_its_command(counts: Path, tmp_path: Path) -> None:
    (asked,) = scoring.questions(counts, "kernels")
    shutil.rmtree(counts)
    found = asking.ask([asked], tmp_path / "a.db", local.Threads(1, scoring.answer))
    (failure,) = found.failed
    assert failure.reproducer == f"fencelab validate --only kernels --data {counts}"
    assert found.tell(tmp_path / "a.db") == asking.INTERNAL
    assert dataclasses.replace(found, failed=(), missing=1).tell(tmp_path) == asking.INTERRUPTED


def test_the_command_prints_the_same_rows(tmp_path: Path) -> None:
    def fencelab(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sweeps.cli", "validate", "--only", "SBI calls", *words],
            text=True, capture_output=True, check=False, timeout=300)

    store = str(tmp_path / "v.db")
    here, swept = fencelab(), fencelab("--executor", "processes", "--store", store)
    again = fencelab("--store", store)
    assert here.returncode == swept.returncode == again.returncode == 0, swept.stderr
    assert here.stdout == swept.stdout == again.stdout
    assert swept.stderr == f"1 computed, 0 stored in {store}\n"
    assert again.stderr == f"0 computed, 1 stored in {store}\n"
    refused = fencelab("--workers", "2")
    assert refused.returncode == 2
    assert "need --executor" in refused.stderr
