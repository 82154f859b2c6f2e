"""The event log of a run and the timeline made of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from items import address, ask, item

from pysim import engine, ops, policies, run_timeline
from pysim.errors import EngineError

COSTS = {"store_cycles": 1, "sbi_send_cycles": 5, "sbi_deliver_cycles": 20,
         "sbi_handler_cycles": 7, "sbi_ack_cycles": 3, "barrier_cycles": 2, "fence_va_cycles": 4,
         "sbi_range_limit_bytes": 4096}


def question(policy: str, **more: Any) -> engine.Question:
    rows = [item("map", 0, 100, page=1, signal=1), item("touch", 1, 150, page=1, wait=1),
            item("trap", 1, 9000, arg=1 << 63 | 5)]
    return ask(rows, policy=policy, harts=2, **COSTS, **more)


def test_the_log_says_what_was_counted() -> None:
    result, log = engine.logged(question("preventive-range"))
    kinds = Counter(entry.kind for entry in log)
    assert kinds["item"] == kinds["item_end"] == result.counters["items"] == 3
    assert kinds["store"] == result.counters["pte_stores"] == 2
    assert kinds["fence"] == result.counters["fences_firmware"] == 2
    assert kinds["send"] == kinds["waited"] == result.counters["remote_fence_calls"] == 1
    assert kinds["trap"] == kinds["sret"] == result.counters["traps_interrupt"] == 1
    (leaf,) = [e for e in log if e.kind == "store" and e.va == address(1) and e.detail == 0]
    assert (leaf.hart, leaf.at_cycles) == (0, 101)      # after the pointer to its page table
    assert set(kinds) <= set(engine.LOG_KINDS)


@pytest.mark.parametrize("policy", ["none", "mark-7.2", "preventive-range"])
def test_a_log_changes_no_result(policy: str) -> None:
    assert engine.logged(question(policy))[0] == engine.simulate(question(policy))


def test_a_log_that_finds_no_room_is_refused_whole() -> None:
    _, log = engine.logged(question("none"))
    assert engine.logged(question("none"), entries_max=len(log))[1] == log
    with pytest.raises(EngineError, match=f"{len(log)} log entries, room was for {len(log) - 1}"):
        engine.logged(question("none"), entries_max=len(log) - 1)


def events(policy: str, **more: Any) -> list[dict[str, Any]]:
    _, log = engine.logged(question(policy, **more))
    text = run_timeline.chrome(log, ops.lower(policies.find(policy)), harts=2, mhz=2.0, about={})
    return json.loads(text)["traceEvents"]


@pytest.mark.parametrize(("policy", "more"), [
    ("preventive-range", {}), ("mark-7.2", {"coherence_cycles": 400}),
    ("preventive-range", {"via": engine.VIA["imsic"]}), ("none", {"inv_l1": 1})])
def test_slices_nest_and_time_does_not_go_back(policy: str, more: dict[str, int]) -> None:
    for hart in (0, 1):
        own = [event for event in events(policy, **more) if event["tid"] == hart
               and event["ph"] != "M"]
        times = [event["ts"] for event in own]
        assert times == sorted(times)
        depth = 0
        for event in own:
            depth += {"B": 1, "E": -1}.get(event["ph"], 0)
            assert depth >= 0
        assert depth == 0


def test_a_shootdown_is_a_slice_here_and_a_fence_there() -> None:
    found = events("preventive-range")
    assert [e["ts"] for e in found if e.get("name") == "map"] == [50.0]     # 2 cycles each us
    names = {(e["tid"], e["name"]) for e in found if "name" in e}
    assert (0, "shootdown: wait") in names
    assert (1, "fence for hart 0") in names
    assert (1, f"sfence.vma {address(1):#x} (firmware)") in names


@pytest.mark.slow
def test_the_command_writes_a_trace_and_prints_the_same_table(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sweeps.cli", "run", "--policy", "mark-7.2", "--machine",
               "u74", "--workload", "fork", "--duration-ms", "1"]
    out = tmp_path / "out.json"
    plain, traced = (subprocess.run([*command, *more], text=True, capture_output=True, check=True)
                     for more in ((), ("--timeline", str(out))))
    assert plain.stdout == traced.stdout
    trace = json.loads(out.read_text())
    assert trace["otherData"]["verdict"] == "ran"
    assert any("mark new_valid_map_cpus" in event.get("name", "") for event in trace["traceEvents"])
    nowhere = subprocess.run([*command, "--timeline", str(tmp_path / "no" / "x.json")], text=True,
                             capture_output=True, check=False)
    assert nowhere.returncode == 2
    assert "cannot be written" in nowhere.stderr
