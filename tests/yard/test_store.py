"""The store keeps what it was given, refuses what it must, and complains in one line."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pysim import engine
from pysim.scenario import build, lower
from sweeps.store import PAGE_BYTES, Failure, Provenance, Row, Store, StoreError, packed

WHO = Provenance(versions="{}", host="here", wall_s=0.1, cpu_s=0.1)

ONE = build({"policy": "none", "machine": "sg2042", "workload": "idle", "root_seed": 2**64 - 1})
TWO = ONE.model_copy(update={"policy": "mark-7.2"})

FILLER = """
import sys
from pathlib import Path
from sweeps.store import Provenance, Store, StoreError
who = Provenance(versions="{}", host="here", wall_s=0.1, cpu_s=0.1)
try:
    with Store(Path(sys.argv[1]), write=True) as store:
        for number in range(int(sys.argv[2])):
            store.put(f"key{number:06}", b"x" * 4000, who)
            print(number, flush=True)
        if len(sys.argv) > 3:
            sys.stdin.read()
except StoreError as error:
    sys.exit(f"StoreError: {error}")
"""


def fill(path: Path, rows: int, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", FILLER, str(path), str(rows), *more], text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_what_is_put_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with Store(path, write=True) as store:
        store.put("k1", b"one", WHO)
        store.put("k1", b"one", WHO)
        store.label([("k1", ONE, 0), ("k1", TWO, 0), ("k1", ONE, 0), ("k2", ONE, 1)])
    with Store(path, write=False) as store:
        assert store.known(["k1", "k2"]) == {"k1"}
        assert store.record("k1") == b"one"
        assert store.record("k2") is None
        assert store.counts() == {"records": 1, "scenarios": 2, "provenance": 1,
                                  "failures": 0}
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM parts").fetchone() == (2,)
    database.close()


def test_the_log_is_folded_in_at_the_end(tmp_path: Path) -> None:
    with Store(tmp_path / "a.db", write=True) as store:
        store.put("k1", b"one", WHO)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.db", "a.db.lock"]


def test_other_bytes_for_the_same_key_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with Store(path, write=True) as store:
        store.put("k0", b"kept", WHO)
        store.put("k1", b"one", WHO)
        with pytest.raises(StoreError, match="answered twice, with different bytes"):
            store.put("k1", b"two", WHO)
    with Store(path, write=False) as store:
        assert store.record("k0") == b"kept"
        assert store.record("k1") == b"one"


def test_rows_come_many_at_once_and_some_twice(tmp_path: Path) -> None:
    """As a worker's batch: one that was lost and asked again brings keys that are there."""
    path, maker = tmp_path / "a.db", ("{}", "here", "fencelab sweep")
    record = engine.packed_record(lower(ONE))
    first = [Row(f"k{n}", b"record %d" % n, 0.1, 0.1, 7) for n in range(5)]
    second = [Row("k9", record.record, 0.2, 0.2, 7, ONE, 3, record.counters), *first[3:],
              Row("k9", record.record, 0.3, 0.3, 7, ONE, 4, record.counters)]
    with Store(path, write=True) as store:
        store.put_all(first, maker)
        store.put_all(second, maker)
        assert store.counts() == {"records": 6, "scenarios": 2, "provenance": 6, "failures": 0}
        with pytest.raises(StoreError, match="the question k4 was answered twice"):
            store.put_all([Row("k7", b"new", 0.1, 0.1), Row("k4", b"other", 0.1, 0.1)], maker)
    with Store(path, write=False) as store:
        assert store.record("k4") == b"record 4"
        assert store.record("k7") == b"new"
        assert list(store.rows("SELECT r.key, n.verdict, p.wall_s FROM records r JOIN numbers n ON"
                               " n.record = r.id JOIN provenance p ON p.record = r.id")) == [
            ("k9", "ran", 0.2)]


def test_a_success_removes_the_failure(tmp_path: Path) -> None:
    with Store(tmp_path / "a.db", write=True) as store:
        store.fail(Failure(key="k1", scenario="{}", error="died"), "here")
        assert [f.error for f in store.failures(["k1"])] == ["died"]
        assert store.failures(["k2"]) == []
        store.put("k1", b"one", WHO)
        assert store.failures() == []


def test_a_second_driver_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    first = fill(path, 1, "wait")
    assert first.stdout is not None
    first.stdout.readline()
    with pytest.raises(StoreError, match=rf"a\.db: in use by process {first.pid} on "):
        Store(path, write=True)
    with Store(path, write=False):
        pass   # reading is allowed meanwhile
    first.communicate("")
    with Store(path, write=True):
        pass


def test_kill_9_keeps_what_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    child = fill(path, 2500, "wait")
    assert child.stdout is not None
    for _ in range(2500):
        child.stdout.readline()
    child.kill()
    child.communicate()
    with Store(path, write=True) as store:
        kept = store.counts()["records"]
        assert kept >= 2000, "two batches of 1,000 were committed"
        assert store.counts()["provenance"] == kept
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


@pytest.mark.parametrize(("content", "message"), [
    (b"this is not a database, but it is long enough to be mistaken for one" * 20,
     "not a fencelab store"),
    (None, "not a fencelab store"),
])
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.db"
    if content is None:
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE mine (x)")
        database.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=message):
        Store(path, write=True)
    assert path.read_bytes() == before


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with Store(path, write=True) as store:
        for number in range(300):
            store.put(f"k{number}", b"x" * 4000, WHO)
    damaged = bytearray(path.read_bytes())
    damaged[PAGE_BYTES * 4:400_000] = os.urandom(400_000 - PAGE_BYTES * 4)
    path.write_bytes(damaged)
    with Store(path, write=False) as store, pytest.raises(StoreError, match=r"a\.db: damaged"):
        store.known([f"k{n}" for n in range(300)])


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with Store(path, write=True):
        pass
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(StoreError, match="schema 99"):
        Store(path, write=True)


def test_reading_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such store"):
        Store(tmp_path / "a.db", write=False)
    assert not list(tmp_path.iterdir())


def test_no_such_directory(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file or directory"):
        Store(tmp_path / "nowhere" / "a.db", write=True)


def test_a_full_disk_is_one_line_and_keeps_what_was_committed(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk."""
    path = tmp_path / "a.db"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000_000, 12_000_000))

    child = subprocess.run([sys.executable, "-c", FILLER, str(path), "6000"], text=True,
                           capture_output=True, preexec_fn=limit, check=False)
    assert child.returncode == 1
    assert child.stderr.startswith(f"StoreError: {path}: ")
    assert child.stderr.count("\n") == 1
    with Store(path, write=True) as store:
        kept = store.counts()
        assert kept["records"] >= 1000
        assert kept["records"] == kept["provenance"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_really_full_disk(tmp_path: Path) -> None:
    script = (f"mount -t tmpfs -o size=2m none {tmp_path} && "
              f"{sys.executable} -c '{FILLER}' {tmp_path}/a.db 2000 > /dev/null; "
              f"{sys.executable} -c 'from sweeps.store import Store; from pathlib import Path; "
              f"print(Store(Path(\"{tmp_path}/a.db\"), write=False).counts())'")
    child = subprocess.run(["unshare", "-m", "sh", "-c", script], text=True, capture_output=True,
                           check=False)
    if "mount" in child.stderr or "unshare" in child.stderr:
        pytest.skip(f"cannot mount here: {child.stderr.strip()}")
    assert f"{tmp_path}/a.db: the disk is full" in child.stderr, child.stderr
    assert child.stderr.count("\n") == 1
    assert "'records': " in child.stdout


def test_a_read_only_store_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with Store(path, write=True):
        pass
    script = (f"mount -t tmpfs -o size=2m none {tmp_path} && "
              f"{sys.executable} -c '{FILLER}' {tmp_path}/a.db 1 > /dev/null && "
              f"mount -o remount,ro {tmp_path} && "
              f"{sys.executable} -c '{FILLER}' {tmp_path}/a.db 2000")
    child = subprocess.run(["unshare", "-m", "sh", "-c", script], text=True, capture_output=True,
                           check=False)
    if "mount" in child.stderr or "unshare" in child.stderr:
        pytest.skip(f"cannot mount here: {child.stderr.strip()}")
    assert child.returncode == 1
    assert child.stderr == (f"StoreError: {tmp_path}/a.db: cannot be written: "
                            "Read-only file system\n")


def test_counters_given_with_a_record_are_those_read_from_it(tmp_path: Path) -> None:
    """Whoever has them at hand packs them as the store would."""
    question = lower(ONE.model_copy(update={"policy": "mark-7.2"}))
    given = engine.packed_record(question)
    assert given.record == engine.record(question) == engine.simulate(question).record()
    assert packed(given.record) == (engine.RECORD_NAMES, given.counters)
    for path, counters in ((tmp_path / "a.db", given.counters), (tmp_path / "b.db", b"")):
        with Store(path, write=True) as store:
            store.put(question.key, given.record, WHO, ONE, 0, counters)
    rows = [list(sqlite3.connect(path).execute("SELECT * FROM numbers JOIN shapes"))
            for path in (tmp_path / "a.db", tmp_path / "b.db")]
    assert rows[0] == rows[1]
