"""Every way of reading a store yields the same rows, of one moment, some at a time."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import sqlite3
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pysim.scenario import build, lower
from sweeps import archive, columns, compare, export, grid, run
from sweeps.executors.local import Threads
from sweeps.executors.shard import Stop
from sweeps.store import Failure, Store, StoreError

SWEEP = """
# What is there?
seeds = 3
[axes]
policy = ["none", "mark-7.2"]
machine = ["sg2042"]
harts = [1, 2]
workload = [{ inherit = "mixed", duration_ms = 1 }]
"""
NO_COLUMNS = [name for name in ("pyarrow", "adbc_driver_sqlite")
              if importlib.util.find_spec(name) is None]
COLUMNS = pytest.mark.skipif(
    bool(NO_COLUMNS), reason=f"NO {NO_COLUMNS}: parquet, fast reading and fast CSV are not tested "
    "(pip install 'fencelab[columns]')")
READERS = [pytest.param("adbc", marks=COLUMNS), "plain"]
TEXTS = ("key", "policy", "machine", "workload", "root_seed", "verdict", "at_utc", "host",
         "versions", "command")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a store of twelve runs."""
    path = tmp_path_factory.mktemp("columns") / "a.db"
    with Store(path, write=True) as store:
        planned = run.plan(grid.expand(grid.parse(SWEEP, "q.toml")).scenarios, lower, stop=Stop())
        assert run.run(planned, store, Threads(2), stop=Stop()).computed == 12
    return path.read_bytes()


@pytest.fixture
def odd(ran: bytes, tmp_path: Path) -> Path:
    """Return a store with everything a store can hold.

    Counters of three engines, scenarios that asked one question, records nobody asks any more, no
    provenance, a verdict, a failure, a record without counters, words that must be quoted.
    """
    path = tmp_path / 'o#d%20 "d?.db'
    path.write_bytes(ran)
    with sqlite3.connect(path) as database:
        names = database.execute("SELECT names FROM shapes").fetchone()[0].split(",")
        short, renamed = ",".join(names[:-1]), ",".join(["of_old", *names[1:]])
        for statement, values in (
            ("INSERT INTO shapes VALUES (7, ?), (8, ?)", (short, renamed)),
            ("UPDATE numbers SET shape=7, counters=substr(counters, 1, length(counters) - 8)"
             " WHERE record IN (3, 4, 9)", ()),
            ("UPDATE numbers SET shape=8 WHERE record = 10", ()),
            ("INSERT INTO scenarios SELECT record, 'a \"b\", ''c''', harts + 7, '\"ö\\', replicate,"
             " 9, 0, machine, workload FROM scenarios WHERE record IN (2, 3, 4, 12)", ()),
            ("INSERT INTO scenarios SELECT record, 'third', harts, root_seed, replicate, 9, 0,"
             " machine, workload FROM scenarios WHERE record = 2", ()),
            ("DELETE FROM scenarios WHERE record IN (5, 11)", ()),
            ("DELETE FROM provenance WHERE record IN (1, 6, 7, 12)", ()),
            ("INSERT INTO makers VALUES (5, '{\"x\":\"é\"}', 'an, \"other\"', 'a\\b')", ()),
            ("UPDATE provenance SET maker=5, wall_s=2, cpu_s=1e-9 WHERE record = 8", ()),
            ("UPDATE numbers SET verdict='oops' WHERE record = 8", ()),
            ("INSERT INTO records VALUES (40, 'verdict', x'7b7d')", ()),
            ("INSERT INTO scenarios SELECT 40, policy, harts, root_seed, replicate, nr_cpus, 0,"
             " machine, workload FROM scenarios WHERE record = 1", ()),
        ):
            database.execute(statement, values)
    database.close()
    scenario = build({"policy": "none", "machine": "sg2042", "workload": "mixed"})
    with Store(path, write=True) as store:
        store.fail(Failure(key="0", scenario=run.canonical(scenario), error="died"), "here")
    return path


def use(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if reader == "plain":
        monkeypatch.setattr(columns, "_adbc", lambda: None)


def exported(path: Path, form: str) -> list[dict[str, Any]]:
    """Export a store; return its rows with numbers as numbers and nothing as None."""
    out = io.BytesIO()
    with Store(path, write=False) as store:
        count = export.export(store, form, out)
        assert store.counts()["failures"] == 1   # usable afterwards
    if form == "parquet":
        from pyarrow import parquet
        rows = parquet.read_table(io.BytesIO(out.getvalue())).to_pylist()
    elif form == "csv":
        rows = list(csv.DictReader(io.StringIO(out.getvalue().decode(), newline="")))
    else:
        rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len(rows) == count
    return [{name: _value(name, value) for name, value in row.items()} for row in rows]


def _value(name: str, value: Any) -> Any:
    """Return a value as CSV can tell it: an empty text is nothing."""
    if value in ("", None):
        return None
    if name in TEXTS or not isinstance(value, str):
        return value
    return int(value) if value.isdigit() else float(value)


@COLUMNS
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("at_once", [1, 2, 50_000])
def test_columns_hold_what_rows_do(
    odd: Path, reader: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without:
        without.setattr(export, "_arrow", lambda *, needed: None)
        use("plain", without)
        want, lines = exported(odd, "csv"), exported(odd, "json")
    use(reader, monkeypatch)
    monkeypatch.setattr(export, "BLOCK_ROWS", at_once)
    monkeypatch.setattr(export, "_LINES", at_once)
    assert len(want) == 16
    assert {row["policy"] for row in want} == {"none", "mark-7.2", "a \"b\", 'c'", "third"}
    assert [row["host"] for row in want].count("an, \"other\"") == 1
    for form in ("csv", "parquet"):
        found = exported(odd, form)
        assert list(found[0]) == list(want[0])
        for at, (row, other) in enumerate(zip(found, want, strict=True)):
            assert {name: (at, value, other[name]) for name, value in row.items()
                    if value != other[name]} == {}
    assert exported(odd, "json") == lines
    assert [line["key"] for line in lines] == [row["key"] for row in want]


@pytest.mark.parametrize("reader", READERS)
def test_a_pivot_counts_each_scenario_once(
    odd: Path, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = exported(odd, "csv")
    use(reader, monkeypatch)
    with Store(odd, write=False) as store:
        table = archive.pivot(store, "policy", "nr_cpus", "useful_cycles")
    found = {(row[0], column.name): cell for row in table.rows
             for column, cell in zip(table.columns[1:], row[1:], strict=True) if cell is not None}
    want: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["overhead"] is not None:
            place = row["policy"], str(int(row["nr_cpus"]))
            want.setdefault(place, []).append(row["useful_cycles"])
    assert found == {place: pytest.approx(sum(values) / len(values))
                     for place, values in want.items()}


@pytest.mark.parametrize("reader", READERS)
def test_blocks_are_bounded_and_have_one_set_of_counters(
    odd: Path, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(reader, monkeypatch)
    with Store(odd, write=False) as store, columns.reading(store) as one:
        blocks = list(one.blocks(("key",), rows=2))
    assert max(map(len, blocks)) == 2
    assert sum(map(len, blocks)) == 16
    assert len({tuple(block.counters) for block in blocks}) == 3
    keys = [key for block in blocks for key in _listed(block.columns["key"])]
    assert sum(a == b for a, b in pairwise(keys)) == 6   # beside each other, as records are


def _listed(column: Any) -> list[Any]:
    return column.to_pylist() if hasattr(column, "to_pylist") else list(column)


WRITER = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as database:
    database.execute("DELETE FROM numbers WHERE record IN (9, 10)")
    database.execute("DELETE FROM scenarios WHERE record = 8")
    database.execute("UPDATE scenarios SET policy = policy || ' changed'")
    database.execute("INSERT INTO makers VALUES (6, '{}', 'late', '')")
    database.execute("UPDATE provenance SET maker = 6")
    database.execute("UPDATE parts SET name = 'changed'")
print(database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone())
print(database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
database.close()
"""


@pytest.mark.parametrize("reader", READERS)
def test_a_reading_is_of_one_moment_beside_a_writer(
    odd: Path, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that changes every table and wants its log back gets the latter only afterwards."""
    use(reader, monkeypatch)
    before = exported(odd, "csv")
    with Store(odd, write=False) as store:
        with columns.reading(store) as one:
            blocks = one.blocks(("key", "policy", "machine", "maker"), rows=2)
            read = [next(blocks)]
            said = subprocess.run([sys.executable, "-c", WRITER, str(odd)], check=True,
                                  capture_output=True, text=True, timeout=60).stdout
            assert said.splitlines()[1].startswith("(1,")   # busy: the reader holds on to it
            read += blocks
            words = columns.Words(one)
            for name in ("key", "policy", "machine", "host"):
                found = []
                for block in read:
                    codes, values = words.coded(block, name)
                    found += [values[code] for code in codes]
                assert found == [row[name] for row in before]
        assert all(row[0].endswith(" changed") for row in store.rows(
            "SELECT policy FROM scenarios"))
    assert {row["host"] for row in exported(odd, "csv")} == {None, "late"}


@COLUMNS
def test_who_writes_a_store_reads_it_by_the_same_library(odd: Path) -> None:
    with Store(odd, write=True) as store, columns.reading(store) as one:
        assert isinstance(one, columns._Plain)
    with Store(odd, write=False) as store, columns.reading(store) as one:
        assert isinstance(one, columns._Arrow)


@COLUMNS
def test_a_store_that_is_damaged_is_refused(odd: Path) -> None:
    with sqlite3.connect(odd) as database:
        database.execute("UPDATE numbers SET counters=zeroblob(16) WHERE record = 3")
    database.close()
    with Store(odd, write=False) as store, pytest.raises(StoreError, match="another length"):
        export.export(store, "csv", io.BytesIO())
    with (Store(odd, write=False) as store, columns.plain(store) as one,
          pytest.raises(StoreError, match="another length")):
        list(one.blocks(()))
    with sqlite3.connect(odd) as database:
        database.execute("DROP TABLE scenarios")
    database.close()
    with Store(odd, write=False) as store, pytest.raises(StoreError, match="no such table"):
        export.export(store, "csv", io.BytesIO())


def test_a_store_is_compared_with_itself(odd: Path) -> None:
    with Store(odd, write=False) as base, Store(odd, write=False) as new:
        found = compare.stores(base, new)
    assert {one.judgement for one in found.points} == {"same"}
