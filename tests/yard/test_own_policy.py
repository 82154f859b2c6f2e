"""A policy of one's own is timed, swept and checked like ours, and refused like ours."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from pysim import ops, scenario
from pysim.policies import own
from sweeps import grid
from sweeps.cli import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own-policy.md"
MINE = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
SWEEP = """
# Mine?
seeds = 2
[base]
machine = "u74"
harts = 2
[axes]
policy = ["mark-7.2", "mine.py:MyPolicy"]
workload = [{ inherit = "mixed", duration_ms = 1, label = "short" }]
[report]
baseline = "mark-7.2"
"""


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def built(policy: str) -> scenario.Scenario:
    return scenario.build({"policy": policy, "machine": "u74", "workload": "idle"})


def test_the_documented_class_is_run_swept_checked_and_listed(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (there / "mine.toml").write_text(SWEEP)
    assert main(["run", "--policy", "./mine.py:MyPolicy", "--machine", "u74", "--workload",
                 "mixed", "--duration-ms", "1"]) == 0
    assert main(["sweep", "mine.toml", "--executor", "threads", "--store", "a.db"]) == 0
    assert "mine.py:MyPolicy" in capsys.readouterr().out
    assert main(["check", "mine.py:MyPolicy", "--scenario", "map1"]) == 0
    assert main(["policies", "mine.py"]) == 0
    assert "sfence.vma va" in capsys.readouterr().out


def test_processes_compute_it_too(there: Path) -> None:
    (there / "mine.toml").write_text(SWEEP)
    assert main(["sweep", "mine.toml", "--workers", "2", "--store", "b.db"]) == 0


@pytest.mark.parametrize("name", ["mine.py", "mine.py:MyPolicy", "./mine.py:MyPolicy"])
def test_every_way_to_name_it_leads_to_the_same_bytes(there: Path, name: str) -> None:
    shipped = scenario.lower(built("mark-7.2"))
    mine = scenario.lower(built(name))
    assert mine.ops != shipped.ops
    assert mine.ops == ops.lower(own.load("mine.py:MyPolicy")).ops
    assert mine.key == scenario.lower(built("mine.py")).key


def test_an_edit_that_moves_no_op_keeps_the_key_and_one_that_does_changes_it(there: Path) -> None:
    keys = []
    other = MINE.replace("fence(PAGE)", "fence(PAGE), fence(PAGE)")
    for text in (MINE, "# a comment\n" + MINE, other):
        (there / "mine.py").write_text(text)
        os.utime(there / "mine.py", ns=(time.time_ns(), time.time_ns() + len(keys)))
        keys.append(scenario.lower(built("mine.py:MyPolicy")).key)
    assert keys[0] == keys[1] != keys[2]


def test_two_files_of_one_name_do_not_meet(there: Path) -> None:
    (there / "other").mkdir()
    (there / "other" / "mine.py").write_text(MINE.replace("fence(PAGE)", ""))
    assert own.load("mine.py").map_kernel() != own.load("other/mine.py").map_kernel()


@pytest.mark.parametrize(("text", "name", "complaint"), [
    (MINE, "mine.py:MyPolic", r"mine\.py: MyPolic: no such policy in this file; did you mean "
                              "'MyPolicy'"),
    (MINE, "mini.py:MyPolicy", r"mini\.py: no such file"),
    (MINE + "\nclass (", "mine.py:MyPolicy", r"mine\.py:16: is not Python"),
    (MINE + "\n1 / 0\n", "mine.py", r"mine\.py:16: ZeroDivisionError"),
    (MINE + "\nOTHER = MyPolicy(name=3)\n", "mine.py:OTHER", r"MyPolicy\.name: a policy has one"),
    (MINE.replace("fence(PAGE)", "fence(PAGE, threshold_pages=-1)"), "mine.py",
     r"mine\.py:\d+: policy mine: .*out of range"),
    ("class Odd:\n    marks = ()\n    name = ''\n    def __init__(self, x):\n        pass\n",
     "mine.py", "Odd: cannot be made without arguments"),
    ("import pysim\n", "mine.py", "holds no policy"),
    ("from pysim.policies.linux import MARK_7_2, NONE\n", "mine.py", "say which"),
])
def test_what_is_wrong_with_it_is_said_in_one_line(
    there: Path, capsys: pytest.CaptureFixture[str], text: str, name: str, complaint: str
) -> None:
    (there / "mine.py").write_text(text)
    assert main(["run", "--policy", name, "--machine", "u74"]) == 2
    said = capsys.readouterr().err
    assert re.search(complaint, said), said
    assert said.count("\n") == 1


def test_a_sweep_file_with_a_wrong_class_is_refused_before_anything_runs(there: Path) -> None:
    asked = grid.parse(SWEEP.replace("MyPolicy", "YourPolicy"), "mine.toml")
    with pytest.raises(grid.SweepError, match="YourPolicy"):
        grid.expand(asked)
