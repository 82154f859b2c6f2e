"""A comparison fails for what got worse beyond tolerance and noise, and for nothing else."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import asks
import pytest

from pysim.engine import Question, Result
from pysim.scenario import Scenario, lower
from sweeps import grid, run
from sweeps.cli import main
from sweeps.executors.local import Threads
from sweeps.executors.shard import Stop
from sweeps.store import Store

SWEEP = """
# What moved?
seeds = 4
[axes]
policy = ["none", "mark-7.2"]
machine = ["sg2042"]
harts = [1, 2]
workload = ["mixed"]
"""
Change = Callable[[Scenario, dict[str, int]], "str | None"]


def nothing(scenario: Scenario, counters: dict[str, int]) -> None:
    """Change nothing."""


def make(path: Path, change: Change = nothing, text: str = SWEEP) -> Path:
    """Make a store whose counters are a scenario's own, changed; as another engine would."""
    points = grid.expand(grid.parse(text, "q.toml"))
    scenarios = {lower(one).key: one for one in points.scenarios}

    def answer(asked: Question) -> bytes:
        scenario = scenarios[asked.key]
        told = Result.from_record(asks.fabricate(asks.question(scenario.replicate)))
        counters = dict.fromkeys(told.counters, 0) | {
            "useful_cycles": 10**6, "local_fence_cycles": 50_000 + 1000 * scenario.replicate}
        verdict = change(scenario, counters) or "ran"
        return Result(verdict=verdict, verdict_hart=0, verdict_at_cycles=0, verdict_va=0,
                      counters=counters, histograms=told.histograms).record()

    with Store(path, write=True) as store:
        run.run(run.plan(points.scenarios, lower, stop=Stop()), store, Threads(1, answer),
                stop=Stop())
    return path


def compare(capsys: pytest.CaptureFixture[str], *arguments: object
            ) -> tuple[int, dict[tuple[str, str], str]]:
    capsys.readouterr()
    status = main(["compare", *map(str, arguments), "--every", "--format", "csv"])
    rows = csv.DictReader(capsys.readouterr().out.splitlines())
    return status, {(row["policy"], row["harts"]): row["judgement"] for row in rows}


def more(cycles: int, noise: int = 0) -> Change:
    def change(scenario: Scenario, counters: dict[str, int]) -> None:
        if scenario.policy == "mark-7.2" and scenario.harts == 2:
            wobble = noise * (1 if scenario.replicate % 2 else -1)
            counters["local_fence_cycles"] += cycles + wobble
    return change


CASES = [
    (nothing, "0", 0, "same"),
    (more(1), "0", 3, "worse"),
    (more(5000), "2%", 3, "worse"),
    (more(500), "2%", 0, "moved"),
    (more(-5000), "2%", 0, "better"),
    (more(5000, noise=20_000), "0", 0, "moved"),
    (more(0, noise=10), "0", 0, "moved"),
]


@pytest.mark.parametrize(("change", "tolerance", "status", "judgement"), CASES)
def test_a_point_is_worse_when_its_whole_interval_is(
    change: Change, tolerance: str, status: int, judgement: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base, new = make(tmp_path / "a.db"), make(tmp_path / "b.db", change)
    got, found = compare(capsys, base, new, "--tolerance", tolerance)
    assert (got, found["mark-7.2", "2"]) == (status, judgement)
    assert [said for place, said in found.items() if place != ("mark-7.2", "2")] == ["same"] * 3


def test_a_floor_forgives_what_is_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, new = make(tmp_path / "a.db"), make(tmp_path / "b.db", more(500))
    assert compare(capsys, base, new, "--floor", "0.1%")[0] == 0
    assert compare(capsys, base, new, "--floor", "0.01%")[0] == 3
    assert compare(capsys, base, new, "--metric", "local_fence_cycles", "--floor", "499")[0] == 3
    assert compare(capsys, base, new, "--metric", "local_fence_cycles", "--floor", "500")[0] == 0


def test_a_policy_that_became_unsafe_is_a_regression(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def oops(scenario: Scenario, counters: dict[str, int]) -> str | None:
        return "oops" if scenario.policy == "none" and scenario.replicate == 3 else None

    base, new = make(tmp_path / "a.db"), make(tmp_path / "b.db", oops)
    status, found = compare(capsys, base, new, "--tolerance", "100%")
    assert (status, found["none", "1"], found["none", "2"]) == (3, "unsafe now", "unsafe now")
    status, found = compare(capsys, new, base)
    assert (status, found["none", "1"]) == (0, "safe now")
    assert compare(capsys, new, new)[0] == 0


def test_nothing_in_common_is_a_status_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = SWEEP.replace('["sg2042"]', '["xs-kmh"]')
    base, new = make(tmp_path / "a.db"), make(tmp_path / "b.db", text=other)
    assert main(["compare", str(base), str(new), "--format", "json"]) == 4
    said = json.loads(capsys.readouterr().out)
    assert said["exit_status"] == 4
    assert main(["compare", str(base), str(tmp_path / "c.db")]) == 2
    assert main(["compare", str(base), str(new), "--tolerance", "much"]) == 2
    assert main(["compare", str(base), str(new), "--metric", "overheat"]) == 2


def test_a_machine_whose_fields_changed_is_the_same_machine_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = SWEEP.replace('["sg2042"]', '["sg2042", {inherit = "sg2042", l2_hit_cycles = 9}]')
    changed = two.replace("l2_hit_cycles = 9", "l2_hit_cycles = 10")
    base, new = make(tmp_path / "a.db", text=two), make(tmp_path / "b.db", text=changed)
    capsys.readouterr()
    assert main(["compare", str(base), str(new), "--every", "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["machine"] for row in rows] == ["sg2042", "sg2042", "sg2042 (changed)",
                                                "sg2042 (changed)"] * 2
    fewer = SWEEP.replace("harts = [1, 2]", "harts = [2]")
    new = make(tmp_path / "c.db", text=fewer)
    assert main(["compare", str(base), str(new)]) == 0
    assert "points are only in the first store" in capsys.readouterr().out
