"""A cluster that does not come up is no failure, and one that is up is not forgiven."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import nodes
import pytest


@pytest.fixture(autouse=True)
def _a_lock_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(nodes, "NEEDED_MIB", 0)


def failing(times: int, seen: list[str]) -> Callable[[], AbstractContextManager[str]]:
    """Return what starts a cluster, so many times in vain, and notes what became of it."""
    @contextmanager
    def start() -> Iterator[str]:
        seen.append("begun")
        if len(seen) <= times:
            raise nodes.NoClusterError(f"try {len(seen)}")
        yield "up"
        seen.append("ended")
    return start


def test_a_cluster_that_does_not_come_up_is_tried_again() -> None:
    seen: list[str] = []
    with nodes.brought_up(failing(1, seen)) as up:
        assert (up, seen) == ("up", ["begun", "begun"])
    assert seen == ["begun", "begun", "ended"]


def test_one_that_never_comes_up_is_a_skip_with_every_reason() -> None:
    with pytest.raises(pytest.skip.Exception, match=r"NO CLUSTER .* 2 times .*: try 1 \| try 2"), \
            nodes.brought_up(failing(2, [])):
        raise AssertionError


def test_what_goes_wrong_in_a_cluster_that_is_up_is_a_failure() -> None:
    seen: list[str] = []
    with pytest.raises(AssertionError, match="wrong"), nodes.brought_up(failing(0, seen)):
        raise AssertionError("wrong")
    assert seen == ["begun"]


def test_too_little_memory_is_a_skip_before_anything_begins(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "NEEDED_MIB", 1 << 40)
    seen: list[str] = []
    with pytest.raises(pytest.skip.Exception, match=r"NO ROOM FOR A CLUSTER: \d+ of \d+ MiB"), \
            nodes.brought_up(failing(0, seen)):
        raise AssertionError
    assert seen == []


def test_a_program_that_ends_or_says_nothing_is_no_cluster_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = ("import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', "
               "'import time; time.sleep(10000)']); time.sleep(10000)")
    for program, seconds, reason in (("raise SystemExit('no raylet')", 300, "ended: no raylet"),
                                     (sleeper, 1, "was not up after 1 s: it said nothing")):
        monkeypatch.setattr(nodes, "PROGRAM", program)
        monkeypatch.setattr(nodes, "UP_SECONDS", seconds)
        with pytest.raises(nodes.NoClusterError, match=reason), \
                nodes.started(sys.executable, tmp_path, {}):
            raise AssertionError
    assert marked(tmp_path) == []


def marked(folder: Path) -> list[str]:
    """Return the living processes of clusters that were started in a folder."""
    told = subprocess.run(["grep", "-lsa", f"{nodes.MARK}={folder}", *processes()], text=True,
                          capture_output=True, check=False).stdout
    return told.split()


def processes() -> list[str]:
    return [str(path) for path in Path("/proc").glob("[0-9]*/environ")]
