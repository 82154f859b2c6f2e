"""The commands that need a running engine: what they print, store and say again."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from test_cli import SWEEP, fencelab, start

from pysim import counters, engine, policies
from pysim.policies.broken import BROKEN

pytestmark = pytest.mark.skipif(not hasattr(engine.lib, "csim_create"),
                                reason="THE ENGINE CANNOT RUN YET: its commands are not tested")

RUN = ("run", "--policy", "mark-7.2", "--machine", "sg2042", "--harts", "4", "--vmalloc-per-s",
       "20000", "--seed", "7", "--duration-ms", "2")
PACKAGED = "riscv-6.12-mark-smp2-forkburst"


def done(child: subprocess.CompletedProcess[str]) -> str:
    assert child.returncode == 0, child.stderr
    return child.stdout


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def records(path: Path) -> dict[str, bytes]:
    database = sqlite3.connect(path)
    found = dict(database.execute("SELECT key, record FROM records"))
    database.close()
    return found


# ---- run --------------------------------------------------------------------------------------


def test_a_run_prints_every_counter_with_unit_and_meaning() -> None:
    rows = csv_rows(done(fencelab(*RUN, "--format", "csv")))
    assert [row["counter"] for row in rows] == [c.name for c in engine.COUNTERS]
    assert [(row["unit"], row["meaning"]) for row in rows] == [
        (c.unit, c.meaning) for c in engine.COUNTERS]
    values = {row["counter"]: int(row["value"]) for row in rows}
    assert values["maps"] > 10
    assert values["useful_cycles"] > 0


@pytest.mark.slow
def test_a_runs_causes_add_up_to_its_overhead() -> None:
    document = json.loads(done(fencelab(*RUN, "--format", "json")))
    assert document["verdict"] == "ran"
    assert document["scenario"]["harts"] == 4
    causes, latencies, counted = (table["rows"] for table in document["tables"])
    value = {row["counter"]: row["value"] for row in counted}
    assert [row["cause"] for row in causes] == [*counters.CAUSES, "overhead"]
    assert all(row["cycles"] == value[row["cause"]] for row in causes[:-1])
    cycles = sum(value[name] for name in counters.CAUSES)
    assert causes[-1]["share"] == pytest.approx(cycles / value["useful_cycles"], rel=1e-12)
    assert {row["latency"] for row in latencies} == set(engine.HISTOGRAMS)


@pytest.mark.slow
def test_equal_runs_print_equal_text_and_another_seed_another() -> None:
    first, second = done(fencelab(*RUN)), done(fencelab(*RUN))
    assert first == second
    assert done(fencelab(*RUN[:-3], "8", *RUN[-2:])) != first


# ---- sweep ------------------------------------------------------------------------------------


EXECUTORS = [
    pytest.param(("--executor", "processes", "--workers", "3"), id="processes"),
    pytest.param(("--executor", "threads", "--workers", "8"), id="threads"),
    pytest.param(("--executor", "ray", "--address", "local", "--workers", "2"), id="ray",
                 marks=pytest.mark.skipif(
                     importlib.util.find_spec("ray") is None,
                     reason="RAY IS NOT INSTALLED: the ray executor is not tested")),
]


@pytest.mark.slow
@pytest.mark.parametrize("options", EXECUTORS)
def test_every_executor_gives_equal_records_and_equal_text(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "q.toml").write_text(SWEEP)
    plain = fencelab("sweep", "q.toml", "--workers", "1", cwd=tmp_path)
    assert plain.stderr.splitlines()[-1] == "8 computed, 0 stored in fencelab.db"
    other = fencelab("sweep", "q.toml", "--store", "other.db", *options, cwd=tmp_path)
    assert other.stderr.splitlines()[-1] == "8 computed, 0 stored in other.db"
    assert done(other) == done(plain)
    assert records(tmp_path / "other.db") == records(tmp_path / "fencelab.db")
    assert len(records(tmp_path / "other.db")) == 8


@pytest.mark.slow
def test_a_second_sweep_computes_nothing_and_more_seeds_only_the_new_ones(tmp_path: Path) -> None:
    (tmp_path / "q.toml").write_text(SWEEP)
    first = done(fencelab("sweep", "q.toml", cwd=tmp_path))
    again = fencelab("sweep", "q.toml", cwd=tmp_path)
    assert again.stderr.splitlines()[-1] == "0 computed, 8 stored in fencelab.db"
    assert done(again) == first
    more = fencelab("sweep", "q.toml", "--seeds", "3", cwd=tmp_path)
    assert more.stderr.splitlines()[-1] == "4 computed, 8 stored in fencelab.db"


@pytest.mark.slow
def test_a_sweep_in_every_format(tmp_path: Path) -> None:
    (tmp_path / "q.toml").write_text(SWEEP)
    plain = done(fencelab("sweep", "q.toml", cwd=tmp_path))
    assert plain.startswith("What does a small sweep cost?\n")
    lead = next(line for line in plain.splitlines() if line.startswith("preventive-range"))
    assert "±" in lead
    github = done(fencelab("sweep", "q.toml", "--format", "github", cwd=tmp_path))
    assert "| preventive-range |" in github
    rows = csv_rows(done(fencelab("sweep", "q.toml", "--format", "csv", cwd=tmp_path)))
    assert [(row["policy"], row["harts"]) for row in rows] == [
        ("preventive-range", "1"), ("preventive-range", "2"), ("mark-7.2", "1"), ("mark-7.2", "2")]
    document = json.loads(done(fencelab("sweep", "q.toml", "--format", "json", cwd=tmp_path)))
    assert (document["computed"], document["stored"], document["failed"]) == (0, 8, 0)
    assert [float(row["overhead"]) for row in rows] == [
        row["overhead"] for row in document["tables"][0]["rows"]]


def test_preventive_range_costs_more_remote_fences_than_a_mark(tmp_path: Path) -> None:
    (tmp_path / "q.toml").write_text(SWEEP)
    rows = csv_rows(done(fencelab("sweep", "q.toml", "--format", "csv", cwd=tmp_path)))
    at = {(row["policy"], row["harts"]): row for row in rows}
    assert float(at["preventive-range", "2"]["remote"]) > float(at["mark-7.2", "2"]["remote"])
    assert float(at["mark-7.2", "2"]["difference_high"]) < 0
    assert float(at["preventive-range", "2"]["difference"]) == 0


@pytest.mark.slow
def test_kill_9_in_the_middle_of_a_sweep_costs_only_what_was_not_stored(tmp_path: Path) -> None:
    """The 80 longest runs come first: many times the time it takes to store the first of them."""
    (tmp_path / "q.toml").write_text(SWEEP.replace("seeds = 2", "seeds = 40"))
    asked = ("sweep", "q.toml", "--axis", "harts=1,2,64")
    child = start(*asked, "--workers", "1", cwd=tmp_path)
    while not _kept(tmp_path / "fencelab.db"):
        assert child.poll() is None
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    kept = _kept(tmp_path / "fencelab.db")
    assert 0 < kept < 240
    again = fencelab(*asked, cwd=tmp_path)
    assert again.stderr.splitlines()[-1] == (
        f"{240 - kept} computed, {kept} stored in fencelab.db")
    whole = fencelab(*asked, "--store", "whole.db", cwd=tmp_path)
    assert done(whole) == done(again)
    assert records(tmp_path / "whole.db") == records(tmp_path / "fencelab.db")


def _kept(path: Path) -> int:
    try:
        return len(records(path)) if path.exists() else 0
    except sqlite3.OperationalError:
        return 0


@pytest.mark.slow
def test_an_unsafe_policy_is_no_number(tmp_path: Path) -> None:
    """Without a fence and without a handler, a core that caches invalid entries faults for good."""
    text = SWEEP.replace('"mark-7.2"', '"none"').replace('"sg2042"', '"xs-kmh"').replace(
        "duration_ms = 1", "duration_ms = 20, vmalloc_per_s = 50000")
    (tmp_path / "q.toml").write_text(text)
    plain = done(fencelab("sweep", "q.toml", cwd=tmp_path))
    unsafe = next(line for line in plain.splitlines() if line.startswith("none"))
    assert "unsafe: oops (hart " in unsafe
    rows = csv_rows(done(fencelab("sweep", "q.toml", "--format", "csv", cwd=tmp_path)))
    assert {row["policy"] for row in rows if row["unsafe"]} == {"none"}
    assert all(row["overhead"] == "" for row in rows if row["unsafe"])


# ---- replay -----------------------------------------------------------------------------------


def test_a_window_of_an_event_log_is_replayed(tmp_path: Path) -> None:
    """Four faults of the log and not one drawn; under Svvptc's absence each is a fence."""
    lines = ["0 0 1.0 copy_process a0=0", "1 0 1.0 __switch_to a0=1 a1=2",
             "2 0 1.0 switch_mm a0=0 a1=3 a2=0", "3 0 1.0 MARK 1", "4 0 1.0 MARK 12"]
    lines += [f"{5 + n} 0 {1 + n / 100} sfence:S addr={5 + 2 * n:x}000" for n in range(4)]
    (tmp_path / "my.evt").write_text("\n".join([*lines, "9 0 1.1 MARK 13", "10 0 1.1 oops a0=1"]))
    document = json.loads(done(fencelab(
        "replay", "my.evt", "--window", "fork", "--seeds", "1", "--policy", "mark-7.2",
        "--format", "json", cwd=tmp_path)))
    about, table = document["tables"]
    said = {row["what"]: row["value"] for row in about["rows"]}
    assert said["user faults"] == said["user pages they installed"] == 4
    assert said["other event oops"] == 1
    assert table["rows"][0]["fences"] == 4
    child = fencelab("replay", "my.evt", "--window", "forks", cwd=tmp_path)
    assert child.returncode == 2
    assert "did you mean 'fork'" in child.stderr


def replayed(*options: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(done(fencelab(
        "replay", PACKAGED, "--seeds", "2", "--rate-factor", "64", "--format", "json", *options)))
    return document


@pytest.mark.slow
def test_a_replay_says_what_it_read_and_tables_every_policy() -> None:
    about, table = replayed()["tables"]
    read = {row["what"]: row["value"] for row in about["rows"]}
    assert read["recording"] == PACKAGED + ".ftrace.txt.gz"
    assert read["broken lines"] == 0
    assert read["maps"] == 236
    assert read["recorded harts"] == 2
    assert any(note.startswith("note: ") for note in about["notes"])
    assert [row["policy"] for row in table["rows"]] == [
        policy.name for policy in policies.POLICIES if policy not in BROKEN]


@pytest.mark.slow
def test_a_replay_of_some_policies_on_another_machine() -> None:
    _, table = replayed("--policy", "mark-7.2", "--policy", "preventive-range", "--machine",
                        "rocket", "--harts", "8")["tables"]
    assert table["title"] == "rocket, 8 harts"
    assert [row["policy"] for row in table["rows"]] == ["mark-7.2", "preventive-range"]


@pytest.mark.slow
def test_broken_lines_of_a_recording_are_told_with_their_numbers(tmp_path: Path) -> None:
    lines = ["# tracer: nop"]
    for number in range(4):
        at = 1 + number / 1000
        va = 0xffffffc600000000 + number * 0x10000
        lines.append(f"  sh-1  [000] .....  {at:.6f}: alloc_vmap_area: va_start: 0 size=20480 "
                     f"align=32768 vmap_start=0x{va:x} vmap_end=0x{va + 0x8000:x} failed=0")
    lines.append("  sh-1  [000] .....  1.9: alloc_vmap_area: va_start: zzz")
    (tmp_path / "mine.txt").write_text("\n".join(lines) + "\n")
    child = fencelab("replay", "mine.txt", "--seeds", "1", cwd=tmp_path)
    assert "line 6 broken" in child.stdout, child


# ---- validate kernel ---------------------------------------------------------------------------


@pytest.mark.slow
def test_counted_kernels_are_predicted(shared: Path) -> None:
    folder = shared / "data" / "kernel"
    rows = csv_rows(done(fencelab("validate", "kernel", str(folder), "--format", "csv")))
    outcomes = [row["outcome"] for row in rows]
    assert outcomes.count("equal") > 1000
    assert "differs" not in outcomes
    assert all(row["reason"] or not row["measured"] for row in rows
               if row["outcome"] == "not scored")


# ---- the quickstart ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_the_quickstart_answers_all_it_asks(tmp_path: Path) -> None:
    child = start("sweep", "quickstart", cwd=tmp_path)
    out, err = child.communicate(timeout=1200)
    assert child.returncode == 0, err
    assert err.splitlines()[-1] == "1440 computed, 0 stored in fencelab.db"
    assert "machine sg2042, harts 64" in out
