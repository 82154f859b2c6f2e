"""Replicates are added where needed, searches narrow down, fronts hold what is not beaten."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import asks
import pytest

from pysim import stats
from pysim.engine import Question, Result
from pysim.scenario import Scenario, lower
from pysim.stats import Estimate
from sweeps import cli_sweep, grid, search
from sweeps.cli import main
from sweeps.executors.local import Threads
from sweeps.metrics import Row

SWEEP = """
# How many are enough?
{more}
[axes]
policy = ["none", "mark-7.2", "preventive-range", "ideal"]
machine = ["sg2042"]
harts = [1, 2]
workload = ["mixed"]
"""
NOISE = {"none": 0, "mark-7.2": 400, "preventive-range": 2000, "ideal": 40_000}
"""Spread of the made-up overhead in cycles of a million, around 5 %."""


class Answers:
    """An executor whose overheads have a known spread; counts what it is asked."""

    def __init__(self, level: Callable[[Scenario], int] = lambda scenario: 50_000) -> None:
        self.asked = 0
        self.level = level
        self.by_key: dict[str, Scenario] = {}

    def ask(self, asked: Question) -> bytes:
        self.asked += 1
        scenario = self.by_key[asked.key]
        told = Result.from_record(asks.fabricate(asked))
        wobble = [-1, 1, 0][scenario.replicate % 3] * NOISE[scenario.policy]
        counters = dict.fromkeys(told.counters, 0) | {
            "useful_cycles": 10**6, "local_fence_cycles": self.level(scenario) + wobble}
        return Result(verdict="ran", verdict_hart=0, verdict_at_cycles=0, verdict_va=0,
                      counters=counters, histograms=told.histograms).record()


def go(path: Path, more: str, answers: Answers) -> list[Row]:
    asked = grid.parse(SWEEP.format(more=more), "q.toml")
    points = grid.expand(asked, 64)
    for point in grid.Points(points.cells, 64):
        answers.by_key[lower(point.scenario).key] = point.scenario
    outcome, rows = cli_sweep.answer(asked, points, Threads(1, answers.ask), path)
    assert outcome.exit_status == 0
    return rows


def test_seeds_are_added_only_where_the_interval_is_too_wide(tmp_path: Path) -> None:
    answers = Answers()
    rows = go(tmp_path / "a.db", 'until = { overhead = "2%", min = 4, max = 24 }', answers)
    counts = {row.coordinates["policy"]: row.replicates for row in rows}
    assert counts["none"] == counts["mark-7.2"] == 4
    assert 4 < counts["preventive-range"] < 24
    assert counts["ideal"] == 24, "given up at the most"
    for row in rows:
        found = stats.estimate(row.overheads.values())
        assert found.half_width is not None
        enough = found.half_width <= 0.02 * found.mean
        assert enough == (row.coordinates["policy"] != "ideal")
    assert answers.asked == sum(row.replicates for row in rows)
    again = Answers()
    assert go(tmp_path / "a.db", 'until = { overhead = "2%", min = 4, max = 24 }', again) == rows
    assert again.asked == 0, "all of it was stored"


def test_a_paired_target_asks_for_pairs(tmp_path: Path) -> None:
    text = 'until = { overhead = "2%", min = 4, max = 12, difference_to = "mark-7.2" }'
    rows = go(tmp_path / "a.db", text, Answers())
    counts = {row.coordinates["policy"]: row.replicates for row in rows}
    assert counts["none"] == 4, "its difference is known already"
    assert counts["ideal"] == 12
    assert counts["mark-7.2"] == 12, "the other half of ideal's pairs"


def test_halving_doubles_what_is_better_and_drops_the_rest(tmp_path: Path) -> None:
    level = {"none": 9000, "mark-7.2": 10_000, "preventive-range": 200_000, "ideal": 800_000}
    answers = Answers(lambda scenario: level[scenario.policy] * (3 - scenario.harts))
    text = 'goal = "min overhead"\nhalving = { first = 3, within = ["harts"] }'
    rows = go(tmp_path / "a.db", text, answers)
    counts = {(row.coordinates["policy"], row.coordinates["harts"]): row.replicates for row in rows}
    for harts in (1, 2):
        assert [counts[policy, harts] for policy in NOISE] == [12, 6, 3, 3]
    best = search.best((1, "overhead"), rows, ["harts"])
    assert [row.coordinates["policy"] for row in best] == ["none", "none"]
    assert answers.asked == 2 * (12 + 6 + 3 + 3)


def row(name: str, one: float | None, other: float | None) -> Row:
    values = {"overhead": None if one is None else Estimate(mean=one, low=None, high=None, n=1),
              "map_p99": None if other is None else Fraction(other)}
    return Row(coordinates={"policy": name}, replicates=1, missing=0, unsafe="", values=values,
               overheads={})


def test_a_front_is_what_no_other_beats_in_both() -> None:
    rows = [row("a", 1, 9), row("b", 2, 4), row("c", 3, 5), row("d", 4, 1), row("e", 0.5, None),
            row("f", 2, 4), row("g", 1, 8)]
    found = search.front([(1, "overhead"), (1, "map_p99")], rows)
    assert [one.coordinates["policy"] for one in found] == ["g", "b", "d"]
    other = search.front([(1, "overhead"), (-1, "map_p99")], rows)
    assert [one.coordinates["policy"] for one in other] == ["a"]


REAL = """
# What does a small search find?
until = { overhead = "5%", min = 3, max = 6 }
[axes]
policy = ["preventive-range", "mark-7.2"]
machine = ["sg2042"]
harts = [2]
workload = [{ inherit = "mixed", duration_ms = 1, label = "short" }]
[report]
pareto = ["min overhead", "min map_p99"]
"""


def test_the_stopping_rule_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("q.toml").write_text(REAL)
    assert main(["sweep", "q.toml", "--executor", "threads"]) == 0
    out = capsys.readouterr().out
    assert "replicates a point. Replicates were added, from 3 to at most 6 a point" in out
    assert "a little too narrow" in out.replace("\n", " ")
    assert "not beaten in both: min overhead, min map_p99" in out
    assert main(["sweep", "q.toml", "--executor", "threads", "--format", "json"]) == 0
    assert "Replicates were added" in json.loads(capsys.readouterr().out)["stopping_rule"]
    said = json.loads(Path("fencelab.db.summary.json").read_text())
    assert (said["exit_status"], said["computed"]) == (0, 0)
    assert said["stored"] >= 6


def test_a_dry_run_tells_and_stores_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("q.toml").write_text(REAL.replace("until", "# until"))
    assert main(["sweep", "q.toml", "--dry-run", "--format", "json", "--seeds", "40"]) == 0
    rows = {row["what"]: row["value"] for row
            in json.loads(capsys.readouterr().out)["tables"][0]["rows"]}
    assert not Path("fencelab.db").exists()
    assert rows["different questions"] == rows["to be computed"] == 80
    assert rows["tried to find out"] >= 1
    assert next(value for what, value in rows.items() if what.startswith("expected time")) > 0
    assert rows["memory of a worker"] > 5
    assert main(["sweep", "q.toml", "--seeds", "2", "--executor", "threads"]) == 0
    capsys.readouterr()
    arguments = ["sweep", "q.toml", "--dry-run", "--seeds", "2", "--format", "json", "--set",
                 "harts=2", "--axis", "policy=mark-7.2,ideal"]
    assert main(arguments) == 0
    rows = {row["what"]: row["value"] for row
            in json.loads(capsys.readouterr().out)["tables"][0]["rows"]}
    assert (rows["stored already"], rows["to be computed"]) == (2, 2)
    assert main(["sweep", "q.toml", "--set", "harts"]) == 2
    assert "--set: FIELD=VALUE is wanted, got 'harts'" in capsys.readouterr().err
