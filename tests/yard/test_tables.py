"""Numbers are printed as far as their interval supports, and nothing unsafe looks like a number."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from fractions import Fraction

import asks
import pytest

from pysim import counters, stats
from pysim.engine import Result
from pysim.scenario import build, lower
from pysim.stats import Estimate
from sweeps import grid, metrics, tables
from sweeps.tables import Column, Table


def result(**changed: int) -> Result:
    made = Result.from_record(asks.fabricate(asks.question(1)))
    known = dict.fromkeys(made.counters, 0) | {"useful_cycles": 1000} | changed
    return Result(verdict="ran", verdict_hart=0, verdict_at_cycles=0, verdict_va=0, counters=known,
                  histograms={"map": {100: 50, 200: 49, 6400: 1}, "stall": {}, "first_touch": {}})


def oops() -> Result:
    return Result(verdict="oops", verdict_hart=3, verdict_at_cycles=812, verdict_va=0xff10,
                  counters=result().counters, histograms=result().histograms)


@pytest.mark.parametrize(("value", "style", "text"), [
    (Estimate(mean=0.01234, low=0.01222, high=0.01246, n=5), "share", "1.234 ± 0.012"),
    (Estimate(mean=0.01234, low=0.01222, high=0.01246, n=5), "points", "+1.234 ± 0.012"),
    (Estimate(mean=-0.5, low=-0.6, high=-0.4, n=5), "points", "-50 ± 10"),
    (Estimate(mean=1234567.0, low=1234067.0, high=1235067.0, n=5), "number", "1,234,567 ± 500"),
    (Estimate(mean=3.0, low=3.0, high=3.0, n=5), "number", "3"),
    (Estimate(mean=3.25, low=None, high=None, n=1), "number", "3.25"),
    (Fraction(1000, 3), "ns", "333.3"),
    (0, "number", "0"),
    (None, "number", "-"),
    (12345, "number", "12,345"),
    ("text", "text", "text"),
])
def test_a_number_is_printed_as_far_as_its_interval_supports(
    value: tables.Cell, style: str, text: str
) -> None:
    assert tables.cell(value, style) == text


TABLE = Table(title="costs", columns=(Column(name="policy", style="text"),
                                      Column(name="overhead", heading="overhead %", style="share")),
              rows=(("a|b", Estimate(mean=0.5, low=0.4, high=0.6, n=5)), ("c", "unsafe: oops")))


def test_plain_and_github_are_for_reading() -> None:
    assert tables.render([TABLE], "plain").splitlines() == [
        "costs",
        "policy      overhead %",
        "--------  ------------",
        "a|b            50 ± 10",
        "c         unsafe: oops",
    ]
    assert tables.render([TABLE], "github").splitlines()[0] == "**costs**"
    assert "| c        | unsafe: oops |" in tables.render([TABLE], "github")


def test_a_table_without_a_title_begins_with_its_header() -> None:
    bare = dataclasses.replace(TABLE, title="")
    assert tables.render([bare], "github").startswith("| ")
    assert tables.render([bare], "plain").splitlines()[0].split()[0] == "policy"


def test_csv_and_json_are_for_programs() -> None:
    rows = list(csv.DictReader(io.StringIO(tables.render([TABLE], "csv"))))
    assert rows[0] == {"policy": "a|b", "overhead": "0.5", "overhead_low": "0.4",
                       "overhead_high": "0.6"}
    assert rows[1]["overhead"] == ""
    document = json.loads(tables.render([TABLE], "json", {"question": "?"}))
    assert document["question"] == "?"
    assert document["tables"][0]["rows"][0]["overhead_high"] == 0.6


def test_metrics_are_those_of_stats_and_counters() -> None:
    sample = {0: result(local_fence_cycles=10, fences_full=3), 1: result(local_fence_cycles=30)}
    row = metrics.reduce({"policy": "x"}, sample, 2000, metrics.DEFAULT)
    assert row.values["overhead"] == stats.estimate([Fraction(1, 100), Fraction(3, 100)])
    assert row.values["fences"] == stats.estimate([3, 0])
    assert row.values["map_p50"] == 50          # 100 cycles at 2 GHz
    assert row.values["map_p99"] == 100
    assert row.overheads == {0: Fraction(1, 100), 1: Fraction(3, 100)}


def test_the_difference_is_taken_in_pairs() -> None:
    ours = metrics.reduce({}, {n: result(local_fence_cycles=10 * n) for n in range(3)}, 1, ())
    base = metrics.reduce({}, {n: result(local_fence_cycles=10 * n + 5) for n in range(3)}, 1, ())
    value = metrics.against(ours, base).values["difference"]
    assert isinstance(value, Estimate)
    assert value.mean == -0.005
    assert value.half_width == 0


def test_one_unsafe_replicate_takes_every_number_away() -> None:
    row = metrics.reduce({"policy": "none"}, {0: result(), 1: oops()}, 1000, metrics.DEFAULT)
    assert row.values == {}
    assert row.overheads == {}
    table = tables.by_metric("t", ["policy"], [row], ["overhead", "ipis"], "base")
    assert table.rows == (("none", "unsafe: oops (hart 3)", None),)
    assert table.notes == ("none: oops (hart 3, cycle 812, va 0xff10), 1 of 2 runs",)
    assert metrics.against(row, row) is row


def test_what_is_missing_says_so() -> None:
    row = metrics.reduce({"policy": "none"}, {0: None, 1: None}, 1000, metrics.DEFAULT)
    table = tables.by_metric("t", ["policy"], [row], ["overhead"], "")
    assert table.rows == (("none", "no result"),)
    half = metrics.reduce({"policy": "none"}, {0: None, 1: result()}, 1000, ["overhead"])
    assert (half.missing, half.replicates) == (1, 2)
    assert half.values["overhead"] == stats.estimate([0])


SWEEP = """
# What does it cost?
seeds = 3
[axes]
workload = ["mixed", "fork"]
machine = ["xs-kmh", "sg2042"]
harts = [1, 64]
policy = ["none", "preventive-range", "mark-7.2"]
[report]
lead = { machine = "sg2042", harts = 64 }
"""


def sweep_rows() -> tuple[grid.Sweep, list[metrics.Row]]:
    sweep = grid.parse(SWEEP, "sweep")
    points = grid.expand(sweep)
    answers = {}
    for point in points:
        question = lower(point.scenario)
        bad = point.coordinates["policy"] == "none" and point.coordinates["machine"] == "xs-kmh"
        answers[question.key] = oops() if bad else Result.from_record(asks.fabricate(question))
    keys = [lower(point.scenario).key for point in points]
    rows = metrics.of_points(points, keys, answers.get, metrics.DEFAULT, rows="policy",
                             baseline="preventive-range")
    return sweep, rows


def test_the_lead_comes_first_and_every_point_is_somewhere() -> None:
    sweep, rows = sweep_rows()
    found = tables.of_sweep(sweep.report, list(sweep.axes), rows, metrics.DEFAULT)
    assert [table.title for table in found] == [
        "machine sg2042, harts 64, workload mixed", "machine sg2042, harts 64, workload fork",
        *(f"overhead %: workload {w}, machine {m}" for w in ("mixed", "fork")
          for m in ("xs-kmh", "sg2042"))]
    assert [len(table.rows) for table in found] == [3] * 6
    assert [c.heading for c in found[2].columns] == ["policy", "harts 1", "harts 64"]
    assert found[2].rows[0] == ("none", "unsafe: oops", "unsafe: oops")
    assert found[2].notes == ("none, harts 1: oops (hart 3, cycle 812, va 0xff10), 3 of 3 runs",)
    by_place = {tuple(row.coordinates.values()): row for row in rows}
    value = by_place["fork", "sg2042", 64, "mark-7.2"].values["overhead"]
    assert found[5].rows[2][2] is value


def test_rows_pair_with_the_baseline_of_their_own_place() -> None:
    _, rows = sweep_rows()
    at = {tuple(row.coordinates.values()): row for row in rows}
    for place, row in at.items():
        base = at[(*place[:-1], "preventive-range")]
        if row.unsafe:
            assert "difference" not in row.values
        else:
            assert row.values["difference"] == stats.paired(row.overheads, base.overheads)


def test_programs_get_every_point_once() -> None:
    sweep, rows = sweep_rows()
    table = tables.tidy(list(sweep.axes), rows, metrics.DEFAULT)
    lines = list(csv.DictReader(io.StringIO(tables.render([table], "csv"))))
    assert len(lines) == 2 * 2 * 2 * 3
    unsafe = [line for line in lines if line["unsafe"]]
    assert {(line["policy"], line["machine"]) for line in unsafe} == {("none", "xs-kmh")}
    assert all(line["overhead"] == "" for line in unsafe)
    assert all(float(line["overhead_low"]) <= float(line["overhead"]) for line in lines
               if not line["unsafe"])


def test_a_run_shows_causes_that_add_up_and_every_counter() -> None:
    scenario = build({"policy": "mark-7.2", "machine": "sg2042", "workload": "mixed"})
    shown = tables.of_run(scenario, result(local_fence_cycles=10, refill_map_cycles=5), "plain")
    causes = shown[0].rows
    assert causes[-1][2] == Fraction(15, 1000) == sum(row[2] for row in causes[:-1])
    assert [row[0] for row in shown[2].rows] == [c.name for c in counters.BY_NAME.values()]
    assert tables.of_run(scenario, oops(), "plain")[0].rows == ()
    assert "unsafe: oops (hart 3" in tables.of_run(scenario, oops(), "plain")[0].title


def test_text_goes_on_in_the_next_line_where_a_column_says_so() -> None:
    table = tables.Table(title="", columns=(
        tables.Column(name="what", style="text", wrap_columns=10),
        tables.Column(name="n", style="text")), rows=(("one two three four", "1"),))
    plain = tables.render([table], "plain").splitlines()
    assert [line.split() for line in plain[2:]] == [["one", "two", "1"], ["three", "four"]]
    assert "| one two three four |" in tables.render([table], "github")
