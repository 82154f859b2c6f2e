"""A sweep file is refused before anything runs, or becomes its points in one order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pysim import counters
from pysim.errors import FencelabError, InputError
from sweeps import grid
from sweeps.axes import Range
from sweeps.grid import SweepError
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
    assert list(expand(GOOD)) == list(points)


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
    ("seeds = 2", "seed = 2", "q.toml: seed: unknown key; valid: include, parts, seeds, until, "
     "goal, halving, base, axes, zip, sample, exclude, require, report; did you mean 'seeds'?"),
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
    ("harts = [1, 4]", "harts = {from = 1, to = 4, step = 2}", "q.toml: axes.harts.step: unknown "
     "key; valid: from, to, scale, steps, random, seed, when; did you mean 'steps'?"),
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
     "rows, columns, metrics, cells, lead, baseline, pareto; did you mean 'rows'?"),
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
    ("[axes]", "[axis]", "q.toml: axis: unknown key; valid: "),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD, ids=[new[:40] for _, new, _ in BAD])
def test_a_bad_file_is_refused(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(FencelabError) as refused:
        expand(GOOD.replace(old, new, 1))
    assert message in re.sub(r"q\.toml:\d+:", "q.toml:", str(refused.value))


def test_all_complaints_are_told_at_once() -> None:
    text = GOOD.replace("nr_cpus", "nr_cpu").replace("harts = [1, 4]", "harts = []").replace(
        '["mixed"]', '["mixed"]\n"workload.user_kb" = [4]')
    with pytest.raises(SweepError) as refused:
        expand(text)
    lines = str(refused.value).splitlines()
    assert len(lines) == 3
    assert [line.split(": ")[:2] for line in lines] == [
        ["q.toml:8", "axes.harts"], ["q.toml:10", "axes.workload.user_kb"],
        ["q.toml:4", "base.nr_cpu"]]
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
    assert [path.stem for path in found] == [
        "hart-scaling", "interconnect", "kernel-eras", "negative-caching", "paper", "quickstart",
        "sensitivity", "svvptc", "tlb-policy"]
    for path in found:
        for asked in grid.questions(path.stem):
            points = grid.expand(asked)
            assert 100 <= len(points) <= 2000, "minutes, not hours"
            assert {"ideal", "mark-7.2"} & {p.scenario.policy for p in points[::7]}
            assert asked.report.columns in points[0].coordinates
    assert [asked.where for asked in grid.questions("paper")] == [
        f"{name}.toml" for name in grid.load("paper").parts]
    assert {*grid.load("paper").parts} == {path.stem for path in found} - {"paper"}


def test_parts_are_read_beside_their_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(GOOD)
    (tmp_path / "all.toml").write_text('# What is all of it?\nparts = ["a.toml", "svvptc"]\n')
    asked = grid.questions(str(tmp_path / "all.toml"), grid.Changes(seeds=1))
    assert [(Path(one.where).name, one.seeds) for one in asked] == [("a.toml", 1),
                                                                    ("svvptc.toml", 1)]
    (tmp_path / "all.toml").write_text('# What?\nparts = ["a.toml", "b.toml", "paper", "svpvtc"]\n')
    with pytest.raises(SweepError) as refused:
        grid.questions(str(tmp_path / "all.toml"))
    lines = str(refused.value).splitlines()
    assert "b.toml: cannot be read" in lines[0]
    assert "all.toml:2: parts: paper has parts itself" in lines[1]
    assert lines[2].startswith("svpvtc: no sweep of this name")
    with pytest.raises(InputError, match="is made of other questions"):
        grid.expand(grid.load(str(tmp_path / "all.toml")))


def test_the_example_of_the_manual_is_valid(root: Path) -> None:
    manual = (root / "docs" / "sweeps.md").read_text("utf-8")
    example = manual.partition("```toml\n")[2].partition("```")[0]
    points = grid.expand(grid.parse(example, "docs/sweeps.md"))
    assert len(points) == 2 * 2 * 4 * 2 * 2 * 5
    assert {p.scenario.machine.l2_hit_cycles for p in points} > {20}
    named = manual.partition("Metrics are ")[2].partition(", and every counter")[0]
    own = set(METRICS) - set(counters.BY_NAME) | {"ipis"}
    assert set(re.findall("`([a-z0-9_]+)`", named)) == own


# ---- what varies ------------------------------------------------------------------------------


def told(text: str) -> list[str]:
    with pytest.raises(SweepError) as refused:
        expand(text)
    return str(refused.value).splitlines()


def test_a_bad_value_is_told_with_its_own_line() -> None:
    text = """\
# What?
[base]
workload = "mixed"
[axes]
policy = [
    "none",
    "mark-7.4",
]
machine = ["sg2042",
           "xs-kmj",
           { inherit = "sg2042", l2_hit_cycle = 9 }]
harts = [1,
  0]
"""
    lines = told(text)
    assert lines[0].startswith("q.toml:10: machine: ")
    assert "did you mean 'xs-kmh'?" in lines[0]
    assert lines[1].startswith("q.toml:11: machine.l2_hit_cycle: unknown key")
    assert {line.split(": ")[0] for line in lines[2:]} == {"q.toml:7", "q.toml:13"}


def test_zipped_axes_advance_in_step() -> None:
    text = GOOD + """[[zip]]
"workload.user_kib" = [64, 128, 64]
"workload.text_kib" = { from = 4, to = 12, steps = 3 }
"""
    points = expand(text)
    assert len(points) == 2 * 2 * 2 * 3 * 2
    found = [(p.scenario.workload.user_kib, p.scenario.workload.text_kib) for p in points[:6:2]]
    assert found == [(64, 4), (128, 8), (64, 12)]
    assert points[2].coordinates["workload.text_kib"] == 8
    assert told(GOOD + "[zip]\nroot_seed = [1, 2]\nlivelock_retries = [5]\n") == [
        "q.toml:10: zip[0]: zipped axes are equally long: root_seed has 2, livelock_retries has 1"]


def test_a_conditional_axis_is_asked_only_where_its_condition_holds() -> None:
    text = GOOD + """"workload.user_kib" = { values = [64, 128, 256], when = { policy = "none" } }
root_seed = { from = 1, to = 2, steps = 2, when = { "workload.user_kib" = { min = 100 } } }
"""
    found = [tuple(p.coordinates[name] for name in ("policy", "workload.user_kib", "root_seed"))
             for p in expand(text) if p.scenario.harts == 1 and p.scenario.replicate == 0
             and p.scenario.machine.name == "xs-kmh"]
    assert found == [("none", 64, "-"), ("none", 128, 1), ("none", 128, 2), ("none", 256, 1),
                     ("none", 256, 2), ("mark-7.2", "-", "-")]
    assert told(text.replace('policy = "none" }', 'policy = "nun" }')) == [
        "q.toml:10: axes.workload.user_kib.when.policy: 'nun' is not on that axis; did you mean "
        "'none'?"]


CONDITIONS = [
    ('exclude = [{ policy = "none" }]', {("mark-7.2", 1), ("mark-7.2", 4)}),
    ('exclude = [{ policy = "none", harts = [4] }]',
     {("none", 1), ("mark-7.2", 1), ("mark-7.2", 4)}),
    ('exclude = [{ policy = { not = "none" }, harts = { above = 1 } }]',
     {("none", 1), ("none", 4), ("mark-7.2", 1)}),
    ('require = [{ harts = { max = 3 } }]', {("none", 1), ("mark-7.2", 1)}),
    ('require = [{ harts = { below = "nr_cpus", min = 2 } }, { policy = ["none"] }]',
     {("none", 4)}),
]


@pytest.mark.parametrize(("line", "left"), CONDITIONS, ids=[line for line, _ in CONDITIONS])
def test_conditions_leave_points_out(line: str, left: set[tuple[str, int]]) -> None:
    points = expand(GOOD.replace("seeds = 2", f"seeds = 2\n{line}"))
    assert {(p.coordinates["policy"], p.coordinates["harts"]) for p in points} == left
    assert len(points) == len(left) * 2 * 2


def test_what_is_excluded_need_not_be_possible() -> None:
    text = GOOD.replace("harts = [1, 4]", "harts = [1, 256]")
    assert "cannot run 256 harts" in told(text)[0]
    points = expand(text.replace("seeds = 2", 'require = [{harts = {max = "nr_cpus"}}]'))
    assert {p.scenario.harts for p in points} == {1}


@pytest.mark.parametrize(("line", "message"), [
    ('exclude = [{ polcy = "none" }]', "q.toml:2: exclude[0].polcy: no axis of this name, and "
     "nothing gives it a value; did you mean 'policy'?"),
    ('exclude = [{}]', "q.toml:2: exclude[0]: a condition is a table of axes and what they must "
     "be, got {}"),
    ('exclude = [{ harts = { above = "hart" } }]', "q.toml:2: exclude[0].hart: no axis of this "
     "name"),
    ('exclude = [{ harts = { above = true } }]', "q.toml:2: exclude[0].harts.above: a bound is a "
     "number or the name of an axis, got True"),
    ('require = [{ harts = 3 }]', "q.toml:2: require[0].harts: 3 is not on that axis"),
])
def test_a_bad_condition_is_refused(line: str, message: str) -> None:
    (said,) = told(GOOD.replace("seeds = 2", line))
    assert said.startswith(message)


def test_nothing_left_is_a_complaint() -> None:
    with pytest.raises(InputError, match="no point is left by `exclude` and `require`"):
        expand(GOOD.replace("seeds = 2", "require = [{ harts = { min = 5 } }]"))


@pytest.mark.parametrize("method", ["random", "lhs", "sobol"])
def test_a_sample_fills_its_space_and_is_the_same_again(method: str) -> None:
    text = GOOD + f"""[sample]
method = "{method}"
points = 16
axes."workload.vmalloc_per_s" = {{ from = 10, to = 100000, scale = "log" }}
axes.root_seed = {{ from = 0, to = 1000000 }}
axes."workload.interrupts_per_s" = [0, 1000]
"""
    points = expand(text)
    assert len(points) == 8 * 16 * 2
    names = ("workload.vmalloc_per_s", "root_seed", "workload.interrupts_per_s")
    rows = [tuple(p.coordinates[name] for name in names) for p in points[:32:2]]
    assert len(set(rows)) == 16
    rates = sorted(row[0] for row in rows)
    assert 10 <= rates[0] < 1000 < rates[-1] <= 100_000
    assert {row[2] for row in rows} == {0, 1000}
    assert points[4].scenario.workload.vmalloc_per_s == rows[2][0]
    if method != "random":   # one point in every sixteenth of either axis
        parts = [int(row[1] / 1000001 * 16) for row in rows]
        assert sorted(parts) == list(range(16)) or method == "sobol"
        assert sorted(part // 8 for part in parts) == [0] * 8 + [1] * 8
    assert list(expand(text)) == list(points)
    other = [p.coordinates for p in expand(text.replace("points = 16", "points = 16\nseed = 2"))]
    assert other != [p.coordinates for p in points]


def test_random_values_of_one_axis() -> None:
    text = GOOD.replace("harts = [1, 4]", "harts = { from = 1, to = 64, random = 5, seed = 3 }")
    harts = {p.scenario.harts for p in expand(text)}
    assert 3 <= len(harts) <= 5
    assert harts == {p.scenario.harts for p in expand(text)}
    assert harts != {p.scenario.harts for p in expand(text.replace("seed = 3", "seed = 4"))}


def test_an_included_file_holds_what_this_one_does_not_say(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "common.toml").write_text(
        'include = ["deep.toml"]\nseeds = 3\n[base]\nnr_cpus = 64\nworkload = "mixt"\n')
    (tmp_path / "sub" / "deep.toml").write_text('[axes]\nharts = [1, 2]\nmachine = ["sg2042"]\n')
    text = ('# What?\ninclude = ["sub/common.toml"]\n[axes]\npolicy = ["none"]\nharts = [4]\n'
            '[base]\nnr_cpus = 8\n')
    (tmp_path / "q.toml").write_text(text)
    with pytest.raises(SweepError) as refused:
        grid.expand(grid.load(str(tmp_path / "q.toml")))
    (message,) = str(refused.value).splitlines()
    assert message.startswith("sub/common.toml:5: workload: ")
    (tmp_path / "q.toml").write_text(text + 'workload = "mixed"\n')
    points = grid.expand(grid.load(str(tmp_path / "q.toml")))
    assert [(p.scenario.harts, p.scenario.nr_cpus, p.scenario.replicate) for p in points] == [
        (4, 8, 0), (4, 8, 1), (4, 8, 2)]
    (tmp_path / "sub" / "deep.toml").write_text('include = ["common.toml"]\n')
    with pytest.raises(FencelabError, match=r"include: common\.toml includes itself"):
        grid.load(str(tmp_path / "q.toml"))
    (tmp_path / "sub" / "deep.toml").unlink()
    with pytest.raises(FencelabError, match=r"deep\.toml: cannot be read"):
        grid.load(str(tmp_path / "q.toml"))


def test_the_command_line_changes_a_file() -> None:
    changes = grid.Changes(sets={"harts": 2, "root_seed": 7, "machine.l2_hit_cycles": 11},
                           axes={"policy": ["none"], "nr_cpus": [8, 16]}, seeds=1)
    points = grid.expand(grid.parse(GOOD, "q.toml", changes=changes))
    found = [(p.scenario.policy, p.scenario.harts, p.scenario.nr_cpus, p.scenario.root_seed,
              p.scenario.machine.l2_hit_cycles) for p in points]
    assert found == [("none", 2, n, 7, 11) for n in (8, 16) for _ in range(2)] or len(found) == 4
    assert {row[4] for row in found} == {11}
    with pytest.raises(SweepError) as refused:
        grid.expand(grid.parse(GOOD, "q.toml", changes=grid.Changes(sets={"hart": 2})))
    assert str(refused.value) == ("--set: base.hart: no field of a scenario; did you mean 'harts'?")
    assert [grid.value(text) for text in ("64", "2.5", "true", "mark-7.2", "[1, 2]", '"4"')] == [
        64, 2.5, True, "mark-7.2", [1, 2], "4"]


def test_points_are_made_when_asked_for() -> None:
    text = GOOD + 'root_seed = {from = 1, to = 2000, steps = 2000}\n'
    text = text.replace("seeds = 2", "seeds = 50")
    points = expand(text)
    assert len(points) == 800_000
    assert points[-1].scenario.root_seed == 2000
    assert points[123_457].scenario.replicate == 7
    assert points[123_457] == expand(text)[123_457]


@pytest.mark.parametrize(("line", "message"), [
    ('until = { overhead = "2" }', "q.toml:2: until.overhead: a share is written \"2%\" or 0.02"),
    ('until = { overhead = "2%", max = 3 }', "q.toml:2: until.max: is at least `min`, got 3"),
    ('until = { overhead = 0.1, difference_to = "mark" }',
     "q.toml:2: until.difference_to: 'mark' is not on the axis policy"),
    ('halving = {}', "q.toml:2: halving: halving needs a `goal`"),
    ('goal = "least overhead"', "q.toml:2: goal: a goal is \"min METRIC\""),
    ('goal = "min overheat"', "q.toml:2: goal: no metric 'overheat'; did you mean 'overhead'?"),
])
def test_a_bad_search_is_refused(line: str, message: str) -> None:
    (said,) = told(GOOD.replace("seeds = 2", line))
    assert said.startswith(message)


EVERYTHING_WRONG = """
# What is wrong?
seeds = 0
[base]
nr_cpu = 4
root_seed = -1
[axes]
policy = ["mark-7", "none"]
machine = ["sg2024", { inherit = "u74", l2_hit_cycle = 3 }]
harts = { from = 1, to = 64, step = 4 }
workload = ["mixt"]
[[exclude]]
polcy = "none"
[report]
row = "policy"
cells = "overhed"
"""


def test_all_that_is_wrong_is_said_at_once_whatever_kind_it_is() -> None:
    """Keys, values, axes, conditions and the report: nothing hides behind anything else."""
    with pytest.raises(SweepError) as raised:
        grid.parse(EVERYTHING_WRONG, "q.toml")
    said = {line.partition(": ")[0]: line for line in raised.value.complaints}
    assert sorted(int(place.removeprefix("q.toml:")) for place in said) == [
        3, 5, 6, 8, 9, 10, 11, 13, 15, 16]
    assert len(raised.value.complaints) == 11   # two machines stand on one line
    for line, near in ((5, "nr_cpus"), (8, "mark-7.2"), (9, "l2_hit_cycles"), (10, "steps"),
                       (11, "mixed"), (13, "policy"), (15, "rows"), (16, "overhead")):
        assert said[f"q.toml:{line}"].endswith(f"did you mean {near!r}?")


def test_a_wrong_axis_is_the_only_complaint_where_the_rest_is_right() -> None:
    """A field whose axis is refused does not count as missing."""
    for name, values in (("machine", "{ from = 1 }"), ("policy", "{ values = 3 }"),
                         ("workload", "{ step = 1 }")):
        given = {"machine": '["sg2042"]', "policy": '["none"]', "workload": '["mixed"]'}
        given[name] = values
        text = "# What?\n[axes]\n" + "".join(f"{k} = {v}\n" for k, v in given.items())
        with pytest.raises(SweepError) as raised:
            grid.expand(grid.parse(text, "q.toml"))
        assert {line.partition(": ")[2].partition(": ")[0].split(".")[1]
                for line in raised.value.complaints} == {name}
