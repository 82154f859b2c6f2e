"""A run that ends in a verdict says what, on which hart, when, and what led to it."""

from __future__ import annotations

import json

import pytest
from items import Handlers, Row, ask, item

from pysim import engine
from pysim.ops import (
    RANGE,
    allocate,
    fail,
    fall_through,
    fence,
    retry,
    shootdown,
    store_ptes,
)
from sweeps import endings
from sweeps.cli import main

IMSIC = {"via": engine.VIA["imsic"], "imsic_fixed_cycles": 307, "imsic_send_cycles": 101,
         "imsic_deliver_cycles": 293, "imsic_handler_cycles": 797}
SHOOT = [item("map", 0, 100, page=1), item("map", 1, 100, page=9)]
TRACED = Handlers({"map_kernel": [store_ptes(valid=True), shootdown(RANGE, who="online")],
                   "ipi": [allocate(1), fence(RANGE)]})


@pytest.mark.parametrize("via", ["sbi", "imsic", "hw"])
def test_two_harts_that_shoot_at_each_other_go_on(via: str) -> None:
    result = engine.simulate(ask(SHOOT, policy="preventive-range", harts=2,
                                 **(IMSIC | {"via": engine.VIA[via]})))
    assert result.verdict == "ran"
    assert result.counters["remote_fence_calls"] == 2


@pytest.mark.parametrize("rows", [SHOOT, SHOOT[:1]], ids=["both", "one"])
def test_a_map_inside_the_ipi_path_is_reported_as_a_deadlock(rows: list[Row]) -> None:
    question = ask(rows, policy=TRACED, harts=2, **IMSIC)
    result = engine.simulate(question)
    assert result.verdict == "deadlock"
    ending, last = endings.tables(question, result, 1000)
    told = dict(ending.rows)
    assert told["what"] == endings.WHAT["deadlock"]
    assert f"{result.verdict_at_cycles:,}" in str(told["when"])
    assert 0 < len(last.rows) <= endings.LAST
    kinds = [row[2] for row in last.rows]
    assert "send" in kinds
    assert "take" in kinds
    assert "waited" not in kinds[-3:]


RETRY = Handlers({"early_trap": [retry()]})
NOT_THERE = Handlers({"early_trap": [fall_through()], "kernel_fault": [fail()]})
ENDINGS = {
    "oops": (NOT_THERE, [item("touch", 1, 700, page=7)]),
    "livelock": (RETRY, [item("touch", 1, 700, page=7)]),
    "stack overflow": (NOT_THERE, [item("switch", 1, 500, page=8, pages=4, arg=1),
                                   item("touch", 1, 700, page=1)]),
    "deadlock": (TRACED, [item("map", 1, 700, page=1)]),
    # freed, fenced by nobody, used: what the TLB still has is no mapping any more
    "stale use": (Handlers({"map_kernel": [store_ptes(valid=True)],
                            "unmap_kernel": [store_ptes(valid=False)]}),
                  [item("map", 1, 100, page=1), item("touch", 1, 400, page=1),
                   item("forget", 1, 500, page=1), item("unmap", 1, 600, page=1),
                   item("touch", 1, 700, page=1)]),
}


@pytest.mark.parametrize("verdict", ENDINGS)
def test_every_ending_says_what_which_hart_when_and_the_last_events(verdict: str) -> None:
    """The offending item is hart 1's at 700; nothing else happens that late but on its account."""
    assert set(ENDINGS) == set(endings.WHAT)
    policy, rows = ENDINGS[verdict]
    question = ask(rows, policy=policy, harts=2, **IMSIC)
    result = engine.simulate(question)
    hart = 0 if verdict == "deadlock" else 1    # the first of those that wait
    assert (result.verdict, result.verdict_hart) == (verdict, hart)
    assert result.verdict_at_cycles >= 700
    ending, last = endings.tables(question, result, 1000)
    told = {str(row[0]): str(row[1]) for row in ending.rows}
    assert told["what"] == endings.WHAT[verdict]
    assert told["hart"] == str(hart)
    assert f"{result.verdict_at_cycles:,}" in told["when"]
    assert 0 < len(last.rows) <= endings.LAST == 20


def test_the_last_events_are_the_end_of_the_whole_log() -> None:
    question = ask(SHOOT, policy="preventive-range", harts=2, **IMSIC)
    result, whole = engine.logged(question)
    for number in (1, 7, 20, len(whole), len(whole) + 5):
        again, last = engine.last_logged(question, number)
        assert again == result
        assert last == whole[-number:]
    assert engine.simulate(question) == result


def test_every_verdict_has_words() -> None:
    assert set(endings.WHAT) == set(engine.VERDICTS) - {"ran"}


def test_run_prints_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--policy", "none", "--machine", "xs-kmh", "--workload", "vmalloc-test",
                 "--duration-ms", "0.3"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "the run ended: oops" in out
    assert endings.WHAT["oops"] in out
    assert "the last 20 events" in out
    assert main([*arguments, "--format", "json"]) == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    assert any(table["title"] == "the last 20 events" for table in tables)
    assert main([*arguments, "--format", "csv"]) == 0
    assert "the run ended" not in capsys.readouterr().out


def test_each_harts_counters_add_up() -> None:
    rows = [item("map", 0, 100, page=1), item("map", 1, 300, page=9), item("flush", 2, 500)]
    question = ask(rows, policy="preventive-range", harts=3, **IMSIC)
    result, parts = engine.per_hart(question)
    assert result == engine.simulate(question)
    assert len(parts) == 3
    assert [part["maps"] for part in parts] == [1, 1, 0]
    whole = {"stack_cache_hits", "work_digest", "events"}
    for name, value in result.counters.items():
        assert sum(part[name] for part in parts) == (0 if name in whole else value), name


def test_run_shows_what_each_hart_counted(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--policy", "mark-7.2", "--machine", "u74", "--harts", "2", "--workload",
                 "mixed", "--duration-ms", "0.3", "--per-hart"]
    assert main([*arguments, "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "counter,hart_0,hart_1"
    assert any(line.startswith("useful_cycles,") for line in lines)
    assert main(arguments) == 0
    assert "per hart" in capsys.readouterr().out
