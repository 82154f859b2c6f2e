"""Faults on cached invalid PTEs: geometry by hand, logs line by line, and the measured kernels."""

from __future__ import annotations

import gzip
import json
from fractions import Fraction
from pathlib import Path

import pytest
from mmu_steps import ADVANCE, INVALID, PAGE, access, answers, base, fence, step, store_map

from pysim import engine, negative
from pysim.errors import InputError
from pysim.machines import load
from sweeps.cli import main

AREA = engine.regions(5)["vmalloc"][0] + (1 << 24)


def hits(program: negative.Program, mode: str = "neg2") -> int:
    return sum(program.run(negative.machine(mode))[0].values())


# ---- the engine ---------------------------------------------------------------------------------


def test_a_lazy_access_fences_in_full_and_asks_again() -> None:
    start = base()
    before = [access(start), access(start + PAGE), store_map(start, 2), step(ADVANCE, cycles=10**6)]
    rocket = load("rocket").c_values()
    lazy, counted = answers(rocket, [*before, access(start, lazy=1), access(start + PAGE)])
    plain, others = answers(rocket, [*before, access(start), fence(), access(start),
                                     access(start + PAGE)])
    assert (plain[4]["negative"], plain[4]["fail"]) == (1, INVALID)
    assert (lazy[4]["negative"], lazy[4]["fail"], lazy[4]["ppn"]) == (1, 0, plain[6]["ppn"])
    assert lazy[4]["cycles"] == sum(row["cycles"] for row in plain[4:7])
    assert lazy[5]["fail"] == plain[7]["fail"] == 0
    assert counted == others


def test_a_lazy_access_that_met_nothing_cached_is_an_access() -> None:
    start = base()
    for steps in ([access(start, lazy=1)], [store_map(start), step(ADVANCE, cycles=10**6),
                                            access(start, lazy=1)]):
        lazy = answers(load("rocket").c_values(), steps)
        plain = answers(load("rocket").c_values(), [row | {"lazy": 0} for row in steps])
        assert lazy[0].tobytes() == plain[0].tobytes()
        assert lazy[1] == plain[1]


# ---- fill rules and geometry --------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "met"), [
    ("neg1", set()), ("neg2", {1, 7}), ("neg4", {1, 7, 8, 71}), ("evict8", {1, 7, 8, 71}),
])
def test_a_walk_catches_the_lines_its_mode_says(mode: str, met: set[int]) -> None:
    """One page is used; what lies so many pages after it is mapped then, and used."""
    for page in (1, 7, 8, 71, 72):
        made = negative.Program(harts=1)
        made.map(0, AREA, 1, (0,))
        made.map(0, AREA + page * PAGE, 1, (0,))
        assert hits(made, mode) == (page in met), page


def test_a_fence_between_map_and_use_leaves_nothing_to_meet() -> None:
    made = negative.Program(harts=1)
    made.map(0, AREA, 1, (0,))
    made.map(0, AREA + PAGE, 1, ())
    made.fence(0, 0)
    made.touch(0, AREA + PAGE)
    assert hits(made) == 0


def test_another_hart_meets_its_own_entries_only() -> None:
    made = negative.Program(harts=2)
    made.map(0, AREA, 1, (0,))
    made.map(1, AREA + PAGE, 1, (0,))       # hart 1 has walked nothing
    made.touch(0, AREA + PAGE)              # hart 0 had read the line before
    assert hits(made) == 1


def test_geometry_counts_what_lies_behind_the_first_use_of_a_line() -> None:
    wanted = {("tv_vmram", 1): 128 - 16, ("tv_fix1", 1): 128 - 32, ("tv_fix16", 1): 0}
    for (test, harts), count in wanted.items():
        made = negative.geometry(test, harts)
        assert made.run(negative.machine("neg2"))[0][test] == count
        assert made.run(negative.machine("neg1"))[0][test] == 0


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'neg2'"):
        negative.machine("neg3x"[:4] + "2")


# ---- logs ---------------------------------------------------------------------------------------

STACK = 0xFF20000000100000
LOG = f"""0 0 0.1 sfence:S full
1 0 0.2 MARK 1
2 0 0.3 MARK 24
3 0 0.4 __vmap_pages_range_noflush a0={STACK:x} a1={STACK + 4 * PAGE:x} a2=e7 ra=0
4 0 0.5 __vmap_pages_range_noflush a0={STACK + 5 * PAGE:x} a1={STACK + 7 * PAGE:x} a2=e7 ra=0
5 0 0.6 __switch_to a0=1000 a1=2000 a2=0 ra=0
6 0 0.7 __vunmap_range_noflush a0={STACK + 5 * PAGE:x} a1={STACK + 7 * PAGE:x} a2=0 ra=0
7 0 0.8 sfence:S full
8 0 0.9 __vmap_pages_range_noflush a0={STACK + 5 * PAGE:x} a1={STACK + 6 * PAGE:x} a2=e7 ra=0
9 0 1.0 MARK 25
"""


def test_a_log_says_what_was_mapped_used_and_fenced(tmp_path: Path) -> None:
    """The hole behind the stack is met twice: after the stack was written, and after it ran."""
    path = tmp_path / "events-6.12-mark-smp1.evt.gz"
    path.write_bytes(gzip.compress(LOG.encode()))
    found, walks = negative.logged(path, Fraction(1)).run(negative.machine("neg2"))
    assert found == {"bpf": 2}
    assert walks > 0
    assert negative.logged(path, Fraction(0)).run(negative.machine("neg2"))[0] == {"bpf": 1}
    path.write_bytes(gzip.compress(LOG.replace("a1=", "b1=").encode()))
    with pytest.raises(InputError, match=":4: not a line of an event log"):
        negative.logged(path)


# ---- the measured kernels -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(shared: Path) -> negative.Report:
    return negative.validate(shared / "data" / "kernel")


@pytest.mark.slow
def test_what_is_promised_holds(report: negative.Report) -> None:
    assert report.ok
    promised = {(row.mode, row.workload) for row in report.rows if row.holds}
    assert {("neg2", test) for test in ("tv_vmram", "tv_fix1", "tv_pcpu")} <= promised
    assert all(row.holds for row in report.rows if row.mode == "neg1")


@pytest.mark.slow
def test_geometry_is_within_a_factor_2_of_every_repetition(report: negative.Report) -> None:
    rows = [row for row in report.rows if row.mode == "neg2"
            and row.workload in ("tv_vmram", "tv_fix1", "tv_pcpu")]
    assert len(rows) == 6
    for row in rows:
        assert row.predicted is not None
        for count in row.measured:
            assert count / 2 <= row.predicted <= count * 2, row


@pytest.mark.slow
def test_traced_workloads_come_out_in_the_measured_order(report: negative.Report) -> None:
    orders = {(order.mode, order.harts): order for order in report.orders}
    assert orders["neg2", 1].wrong == ()
    assert orders["neg4", 2].right == orders["neg4", 2].pairs == 10
    assert orders["neg2", 2].wrong == (("bpf", "tv_rand"),)   # docs/negative-caching.md
    assert report.walks_per_event == 1


@pytest.mark.slow
def test_the_command_prints_the_walk_rate_beside_the_rows(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = str(shared / "data" / "kernel")
    assert main(["validate", "negative", directory, "--format", "json",
                 "--walks-per-event", "0.5"]) == 0
    rows = json.loads(capsys.readouterr().out)["tables"][0]["rows"]
    rates = {row["walks_per_event"] for row in rows if row["from"].startswith("log")}
    assert rates == {0.5}
    assert main(["validate", "negative", "/nowhere"]) == 2


@pytest.mark.parametrize("column", ["nv_hit", "ops"])
def test_a_table_without_its_counts_is_refused(tmp_path: Path, column: str) -> None:
    columns = [c for c in ("policy", "smp", "workload", "ops", "nv_hit") if c != column]
    (tmp_path / "counts_negative_caching.csv").write_text(
        ",".join(columns) + "\n" + ",".join(["mark", "2", "fork", "1"][:len(columns)]) + "\n")
    with pytest.raises(InputError, match=rf"csv:2: {column}: was not counted"):
        negative.validate(tmp_path)
