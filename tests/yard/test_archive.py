"""A store is listed, shown, exported, verified and pruned; a run in it can be met again."""

from __future__ import annotations

import csv
import importlib.util
import json
import sqlite3
from pathlib import Path

import asks
import pytest

from pysim import counters, engine
from pysim.engine import Result
from pysim.scenario import build, lower
from sweeps import archive, columns, grid, run
from sweeps.cli import main
from sweeps.executors.local import Threads
from sweeps.executors.shard import Stop
from sweeps.store import Failure, Store

SWEEP = """
# What is there?
seeds = 2
[axes]
policy = ["none", "mark-7.2"]
machine = ["sg2042"]
harts = [1, 2]
workload = [{ inherit = "mixed", duration_ms = 1 }]
"""
ARROW = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None,
    reason="NO PYARROW: parquet and fast CSV are not tested (pip install pyarrow)")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Return a store of eight runs, by the engine."""
    path = tmp_path / "a.db"
    points = grid.expand(grid.parse(SWEEP, "q.toml"))
    with Store(path, write=True) as store:
        planned = run.plan(points.scenarios, lower, stop=Stop())
        assert run.run(planned, store, Threads(2), stop=Stop()).computed == 8
    return path


def says(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    capsys.readouterr()
    assert main(["store", *arguments]) == status
    return capsys.readouterr().out


def keys(path: Path) -> list[str]:
    with Store(path, write=False) as store:
        return [row[0] for row in store.rows("SELECT key FROM records ORDER BY id")]


def test_ls_counts_by_policy_and_engine(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(says(capsys, "ls", "--store", str(made), "--format", "csv")
                               .splitlines()))
    assert [(row["policy"], row["runs"], row["harts"], row["machines"]) for row in rows] == [
        ("mark-7.2", "4", "1-2", "1"), ("none", "4", "1-2", "1")]
    assert {row["engine"] for row in rows} == {engine.BUILD_ID[:12]}


def test_show_tells_all_by_the_start_of_a_key(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = keys(made)[0]
    said = json.loads(says(capsys, "show", key[:12], "--store", str(made)))
    assert said["key"] == key
    assert said["scenarios"][0]["machine"]["name"] == "sg2042"
    assert said["provenance"]["versions"]["build_id"] == engine.BUILD_ID
    assert said["provenance"]["peak_kib"] > 1000
    assert said["result"]["verdict"] == "ran"
    assert main(["store", "show", "zzz", "--store", str(made)]) == 2
    assert "zzz: no key starts so" in capsys.readouterr().err


def test_a_stored_run_is_met_again(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = keys(made)[3]
    said = json.loads(says(capsys, "show", key, "--store", str(made)))
    assert lower(archive.scenario(said["scenarios"][0])).key == key
    rows = list(csv.DictReader(says(capsys, "rerun", key[:16], "--store", str(made), "--format",
                                    "csv").splitlines()))
    assert {row["counter"]: int(row["value"]) for row in rows} == said["result"]["counters"]


def test_a_failure_is_listed_and_met_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = build({"policy": "none", "machine": {"inherit": "sg2042", "l2_hit_cycles": 9},
                      "workload": {"inherit": "mixed", "duration_ms": 1}, "root_seed": 2**63})
    key = lower(scenario).key
    path = tmp_path / "a.db"
    with Store(path, write=True) as store:
        store.fail(Failure(key=key, scenario=run.canonical(scenario), error="died",
                           reproducer=f"fencelab store rerun {key[:16]}"), "here")
    table = says(capsys, "ls", "--failures", "--store", str(path))
    assert f"fencelab store rerun {key[:16]}" in table
    assert "died" in table
    said = json.loads(says(capsys, "rerun", key[:16], "--store", str(path), "--format", "json"))
    assert said["key"] == key
    with Store(path, write=False) as store:
        again = archive.scenario(archive.show(store, key)["scenarios"][0])
        assert lower(again).key == key
        assert store.counts()["records"] == 0


@pytest.mark.parametrize("form", ["csv", "json", pytest.param("parquet", marks=ARROW)])
@pytest.mark.parametrize("arrow", [pytest.param(True, marks=ARROW), False])
def test_an_export_holds_every_record(
    made: Path, tmp_path: Path, form: str, arrow: bool, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / f"a.{form}"
    if not arrow:
        if form == "parquet":
            monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
            assert main(["store", "export", form, "--store", str(made), "--to", str(out)]) == 2
            assert "pip install 'fencelab[columns]'" in capsys.readouterr().err
            assert not out.exists()
            return
        monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    says(capsys, "export", form, "--store", str(made), "--to", str(out))
    rows = _read(out, form)
    assert [row["key"] for row in rows] == keys(made)
    with Store(made, write=False) as store:
        for row in rows:
            result = store.result(row["key"])
            assert result is not None
            assert int(row["wall_cycles"]) == result.counters["wall_cycles"]
            overhead = counters.overhead(result)
            assert overhead is not None
            assert float(row["overhead"]) == pytest.approx(float(overhead.total))
    assert {(row["policy"], int(row["harts"]), row["machine"]) for row in rows} == {
        (policy, harts, "sg2042") for policy in ("none", "mark-7.2") for harts in (1, 2)}


def _read(path: Path, form: str) -> list[dict[str, str]]:
    if form == "csv":
        return list(csv.DictReader(path.read_text().splitlines()))
    if form == "parquet":
        from pyarrow import parquet
        return list(parquet.read_table(path).to_pylist())
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    found = []
    for row in rows:
        result = Result.from_record(json.dumps(row["result"]).encode())
        total = counters.overhead(result)
        assert total is not None
        found.append({**row, **result.counters, "overhead": float(total.total)})
    return found


def test_a_pivot_is_the_mean_over_runs(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = says(capsys, "pivot", "--store", str(made), "--value", "wall_cycles", "--format", "csv")
    rows = {row["policy"]: row for row in csv.DictReader(text.splitlines())}
    with Store(made, write=False) as store:
        with columns.reading(store) as one:
            for block in one.blocks(("policy",), rows=3):
                assert len(block) <= 3
        want = [result.counters["wall_cycles"] for key in keys(made)
                if (result := store.result(key))
                and archive.show(store, key)["scenarios"][0]["policy"] == "none"
                and archive.show(store, key)["scenarios"][0]["harts"] == 2]
    assert float(rows["none"]["2"]) == pytest.approx(sum(want) / len(want))
    assert main(["store", "pivot", "--store", str(made), "--rows", "polcy"]) == 2
    assert "did you mean 'policy'?" in capsys.readouterr().err


def test_verify_finds_what_was_changed(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert says(capsys, "verify", "--store", str(made), "--again", "3") == (
        "8 records, 3 asked again, 0 complaints\n")
    with sqlite3.connect(made) as database:
        (record,) = database.execute("SELECT record FROM records WHERE id=2").fetchone()
        swapped = bytes(record).replace(b'"ran"', b'"rat"')
        database.execute("UPDATE records SET record=? WHERE id=2", (swapped,))
        database.execute("UPDATE numbers SET counters=zeroblob(8) WHERE record=5")
        database.execute("DELETE FROM makers")
    database.close()
    assert main(["store", "verify", "--store", str(made), "--again", "8"]) == 1
    said = capsys.readouterr().err
    assert "the packed counters are not the record's" in said
    assert "refers to nothing" in said


def test_verify_asks_again_and_sees_other_bytes(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(made) as database:
        (record,) = database.execute("SELECT record FROM records WHERE id=4").fetchone()
        other = asks.fabricate(asks.question(1))
        assert other != record
        database.execute("UPDATE records SET record=? WHERE id=4", (other,))
    database.close()
    assert main(["store", "verify", "--store", str(made), "--again", "8"]) == 1
    assert "the engine answers other bytes now" in capsys.readouterr().err


def test_prune_removes_what_was_named_and_nothing_else(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says(capsys, "prune", "--old", "--store", str(made)) == (
        "0 records and 0 failures removed\n")
    with sqlite3.connect(made) as database:
        database.execute("INSERT INTO makers SELECT 9, replace(versions, ?, 'older'), host, "
                         "command FROM makers", (engine.BUILD_ID,))
        database.execute("UPDATE provenance SET maker=9 WHERE record <= 3")
        database.execute("UPDATE provenance SET at_utc='2020-01-01T00:00:00Z' WHERE record = 8")
    database.close()
    assert says(capsys, "prune", "--old", "--store", str(made)).startswith("3 records")
    assert says(capsys, "prune", "--before", "2021-01-01", "--store", str(made)).startswith("1 ")
    with Store(made, write=False) as store:
        assert store.counts() == {"records": 4, "scenarios": 4, "provenance": 4, "failures": 0}
        assert archive.verify(store).complaints == ()
    assert main(["store", "prune", "--store", str(made)]) == 2
    assert main(["store", "prune", "--before", "soon", "--store", str(made)]) == 2
