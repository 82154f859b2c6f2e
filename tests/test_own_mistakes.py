"""Mistakes in a policy of one's own end in one line that says where, and never in a hang."""

from __future__ import annotations

from pathlib import Path

import pytest

from pysim import scenario
from pysim.errors import InputError
from pysim.policies import own

HEAD = """\
import itertools
from pysim.ops import ALL, fence, shootdown
from pysim.policies.linux import Mark72

class Mine(Mark72):
    def map_kernel(self):
"""
"""Its last line is line 6."""


def lowered(text: str) -> None:
    Path("mine.py").write_text(text)
    scenario.lower(scenario.build({"policy": "mine.py", "machine": "u74", "workload": "idle"}))


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("text", "complaint"), [
    (HEAD + "        return [shootdown('everyone')]\n",
     r"mine\.py:7: .*extent: is ALL, PAGE or RANGE, got 'everyone'"),
    (HEAD + "        return ['fence']\n", "'fence' is no step"),
    (HEAD + "        return 5\n", "map_kernel: returns its steps, a list, not 5"),
    (HEAD + "        raise KeyError('x')\n", r"mine\.py:7: .*KeyError: 'x'"),
    (HEAD + "        return self.map_kernel()\n", "RecursionError"),
    (HEAD + "        raise SystemExit(0)\n", r"mine\.py:7: .*SystemExit: 0"),
    ("import sys\nsys.exit(0)\n", r"policy: mine\.py:2: SystemExit: 0"),
])
def test_a_mistake_is_told_with_its_place(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        lowered(text)


@pytest.mark.parametrize(("text", "complaint"), [
    (HEAD + "        while True: pass\n", r"mine\.py:7: .*does not end"),
    (HEAD + "        steps = []\n        while True:\n            steps.append(fence(ALL))\n",
     r"mine\.py:\d+: .*does not end"),
    (HEAD + "        while True:\n            yield fence(ALL)\n", "at most 1024 ops"),
    (HEAD + "        return itertools.repeat(fence(ALL))\n", "at most 1024 ops"),
    ("while True: pass\n", r"mine\.py:1: does not end"),
    ("class Mine:\n    name = 'm'\n    marks = ()\n    def __init__(self):\n"
     "        while True: pass\n", r"mine\.py:5: Mine: does not end"),
])
def test_a_loop_without_end_is_ended(
    monkeypatch: pytest.MonkeyPatch, text: str, complaint: str
) -> None:
    monkeypatch.setattr(own, "STEPS_MAX", 100_000)
    with pytest.raises(InputError, match=complaint):
        lowered(text)


def test_a_sweep_says_which_file_is_missing() -> None:
    from sweeps import grid

    asked = grid.parse('# Mine?\n[axes]\npolicy = ["none", "gone.py"]\n[base]\nmachine = "u74"\n',
                       "mine.toml")
    with pytest.raises(grid.SweepError, match=r"gone\.py: no such file"):
        grid.expand(asked)
