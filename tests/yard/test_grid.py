"""A sweep file is refused before anything runs, or becomes its points in one order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pysim import counters
from pysim.errors import FencelabError, InputError
from sweeps import grid
from sweeps.grid import Range, SweepError
from sweeps.metrics import METRICS

GOOD = """\
# What does it cost?
seeds = 2
[base]
nr_cpus = 128
[axes]
policy = ["none", "mark-7.2"]
machine = ["xs-kmh", { inherit = "sg2042", l2_hit_cycles = 9 }]
harts = [1, 4]
workload = ["mixed"]
"""


def expand(text: str) -> list[grid.Point]:
    return grid.expand(grid.parse(text, "q.toml"))


def test_every_combination_in_the_order_of_the_file() -> None:
    points = expand(GOOD)
    found = [(*p.coordinates.values(), p.scenario.replicate) for p in points]
    want = [(policy, machine, harts, "mixed", replicate)
            for policy in ("none", "mark-7.2") for machine in ("xs-kmh", "sg2042(l2_hit_cycles=9)")
            for harts in (1, 4) for replicate in (0, 1)]
    assert found == want
    assert expand(GOOD) == points


def test_points_carry_what_they_say() -> None:
    point = expand(GOOD)[-1]
    scenario = point.scenario
    assert (scenario.policy, scenario.harts, scenario.nr_cpus) == ("mark-7.2", 4, 128)
    assert (scenario.machine.name, scenario.machine.l2_hit_cycles) == ("sg2042", 9)
    assert expand(GOOD)[0].scenario.machine.name == "xs-kmh"


def test_policies_of_one_point_share_the_seed() -> None:
    seeds: dict[tuple[object, ...], set[int]] = {}
    for point in expand(GOOD):
        where = (point.scenario.replicate,)
        seeds.setdefault(where, set()).add(point.scenario.seed)
    assert [len(found) for found in seeds.values()] == [1, 1]


def test_an_axis_inside_a_workload() -> None:
    text = GOOD + '"workload.vmalloc_per_s" = [100, 200]\n'
    rates = [p.scenario.workload.vmalloc_per_s for p in expand(text)]
    assert rates[:4] == [100, 100, 200, 200]


def test_an_axis_of_several_fields() -> None:
    text = GOOD + ('pair = [{label = "small", workload.vmalloc_per_s = 7, workload.user_kib = 64},'
                   ' {label = "large", "workload.vmalloc_per_s" = 8, workload.user_kib = 128}]\n')
    points = expand(text)
    assert [p.coordinates["pair"] for p in points[:4]] == ["small", "small", "large", "large"]
    loads = {p.coordinates["pair"]: p.scenario.workload for p in points}
    pairs = {label: (load.vmalloc_per_s, load.user_kib) for label, load in loads.items()}
    assert pairs == {"small": (7, 64), "large": (8, 128)}


@pytest.mark.parametrize(("given", "want"), [
    ({"from": 1, "to": 64, "steps": 7, "scale": "log"}, [1, 2, 4, 8, 16, 32, 64]),
    ({"from": 1, "to": 4, "steps": 4}, [1, 2, 3, 4]),
    ({"from": 1, "to": 3, "steps": 9}, [1, 2, 3]),
    ({"from": 0.5, "to": 1.5, "steps": 3}, [0.5, 1.0, 1.5]),
    ({"from": 64, "to": 1, "steps": 2}, [64, 1]),
])
def test_ranges_hold_both_ends(given: dict[str, object], want: list[float]) -> None:
    assert Range.model_validate(given).values() == want


BAD = [
    ("seeds = 2", "seed = 2", "q.toml: seed: unknown key; valid: seeds, base, axes, report; "
     "did you mean 'seeds'?"),
    ("seeds = 2", "seeds = 0", "q.toml: seeds: input should be greater than or equal to 1, got 0"),
    ("seeds = 2", 'seeds = "two"', "q.toml: seeds: input should be a valid integer, got 'two'"),
    ("nr_cpus", "nr_cpu", "q.toml: base.nr_cpu: no field of a scenario; did you mean 'nr_cpus'?"),
    ("nr_cpus = 128", "replicate = 3", "q.toml: base.replicate: no field of a scenario"),
    ("harts = [1, 4]", "hart = [1, 4]", "q.toml: axes.hart: no field of a scenario; an axis of a "
     "name of your own is a list of tables with a `label`; did you mean 'harts'?"),
    ("harts = [1, 4]", "harts = []", "q.toml: axes.harts: an axis is a list of values, or a range "
     "{ from, to, steps, scale }, got []"),
    ("harts = [1, 4]", "harts = 4", "got 4"),
    ("harts = [1, 4]", "harts = [4, 4]", "q.toml: axes.harts: 4 stands there twice; tell them "
     "apart by a `label`"),
    ("harts = [1, 4]", "harts = [0, 4]", "q.toml: harts: input should be greater than or equal "),
    ("harts = [1, 4]", "harts = [1, 4096]", "q.toml: nr_cpus: a kernel built for 128 cannot run "
     "4096 harts"),
    ("harts = [1, 4]", 'harts = ["4"]', "q.toml: harts: input should be a valid integer"),
    ("harts = [1, 4]", "harts = {from = 1, to = 4, step = 2}", "axes.harts: steps: is not given"),
    ("harts = [1, 4]", 'harts = {from = 0, to = 4, steps = 2, scale = "log"}',
     "q.toml: axes.harts: a log scale has positive ends"),
    ('"mark-7.2"', '"mark-7.4"', "unknown policy 'mark-7.4'"),
    ('"xs-kmh"', '"xs-kmj"', "did you mean 'xs-kmh'?"),
    ("l2_hit_cycles", "l2_hit_cycle", "did you mean 'l2_hit_cycles'?"),
    ('["mixed"]', '["mixed", "mixt"]', "did you mean 'mixed'?"),
    ('["mixed"]', '["mixed"]\n"workload.user_kb" = [4]',
     "q.toml: axes.workload.user_kb: workload has no field of this name; did you mean 'user_kib'?"),
    ('["mixed"]', '["mixed"]\n"harts.x" = [4]', "q.toml: axes.harts.x: harts has no fields inside"),
    ('["mixed"]', '["mixed"]\n[report]\nrow = "policy"', "q.toml: report.row: unknown key; valid: "
     "rows, columns, metrics, cells, lead, baseline; did you mean 'rows'?"),
    ('["mixed"]', '["mixed"]\n[report]\nrows = "policies"',
     "q.toml: report.rows: no axis 'policies'; did you mean 'policy'?"),
    ('["mixed"]', '["mixed"]\n[report]\nlead = {hart = 4}',
     "q.toml: report.lead.hart: no such axis; did you mean 'harts'?"),
    ('["mixed"]', '["mixed"]\n[report]\nlead = {harts = 64}',
     "q.toml: report.lead.harts: 64 is not on that axis"),
    ('["mixed"]', '["mixed"]\n[report]\nmetrics = ["overheads"]',
     "q.toml: report.metrics: no metric 'overheads'; did you mean 'overhead'?"),
    ('["mixed"]', '["mixed"]\n[report]\nbaseline = "mark-7"',
     "q.toml: report.baseline: 'mark-7' is not on the axis policy; did you mean 'mark-7.2'?"),
    ("# What", "What", "q.toml: not TOML: "),
    ("# What does it cost?", "", "q.toml: a sweep file opens with a comment that asks its "
     "question"),
    ("[axes]", "[axis]", "q.toml: axes: is not given"),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD, ids=[new[:40] for _, new, _ in BAD])
def test_a_bad_file_is_refused(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(FencelabError) as refused:
        expand(GOOD.replace(old, new, 1))
    assert message in str(refused.value)


def test_all_complaints_are_told_at_once() -> None:
    text = GOOD.replace("nr_cpus", "nr_cpu").replace("harts = [1, 4]", "harts = []").replace(
        '["mixed"]', '["mixed"]\n"workload.user_kb" = [4]')
    with pytest.raises(SweepError) as refused:
        expand(text)
    lines = str(refused.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("q.toml: ") for line in lines)
    text = GOOD.replace("none", "nun").replace("mixed", "mixt")
    with pytest.raises(SweepError) as refused:
        expand(text)
    assert len(str(refused.value).splitlines()) == 2


def test_a_slip_of_the_pen_is_not_a_million_runs() -> None:
    text = GOOD + '"workload.vmalloc_per_s" = {from = 1, to = 9999, steps = 9999}\n'
    text = text.replace("harts = [1, 4]", "harts = {from = 1, to = 64, steps = 64}")
    with pytest.raises(InputError, match="5119488 points are more than 1000000"):
        expand(text)
def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'quickstart'"):
        grid.load("quickstrat")


def test_every_sweep_that_comes_with_fencelab_is_valid() -> None:
    found = sorted(grid.CONFIGS.glob("*.toml"))
    assert Path(grid.CONFIGS / "quickstart.toml") in found
    for path in found:
        assert grid.expand(grid.load(path.stem))


def test_the_example_of_the_manual_is_valid(root: Path) -> None:
    manual = (root / "docs" / "sweeps.md").read_text("utf-8")
    example = manual.partition("```toml\n")[2].partition("```")[0]
    points = grid.expand(grid.parse(example, "docs/sweeps.md"))
    assert len(points) == 2 * 2 * 4 * 2 * 2 * 5
    assert {p.scenario.machine.l2_hit_cycles for p in points} > {20}
    named = manual.partition("Metrics are ")[2].partition(", and every counter")[0]
    own = set(METRICS) - set(counters.BY_NAME) | {"ipis"}
    assert set(re.findall("`([a-z0-9_]+)`", named)) == own
