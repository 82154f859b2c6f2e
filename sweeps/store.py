"""What was computed: one SQLite file, one writer, nothing half-written.

A record is the canonical bytes of a result under the key of its question; the same key always has
the same bytes, and a second arrival with other bytes is refused as the error it is. Beside the
records, and never part of them: ``numbers`` (the records' counters again, packed, so that a million
of them are columns at once), ``scenarios`` (which ones asked this question; machines and workloads
are kept once, as ``parts``), ``provenance`` (who computed it, where, with what command, in how many
seconds and how much memory) and ``failures`` (jobs that ended in an error, and how to meet it
again; a later success removes the row). Rows are committed every 1,000 or every quarter of a second
in write-ahead mode, so that `kill -9` loses at most that much and a reader is never in the way.

Left out: network file systems (SQLite's locks do not hold there) and more than one writer: the
driver holds a lock on ``STORE.lock`` for as long as it writes. Reading many rows is columns.py's.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import sqlite3
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pysim import engine
from pysim.engine import Result
from pysim.errors import FencelabError

if TYPE_CHECKING:
    from pysim.scenario import Scenario

SCHEMA: Final = 2
"""Raised whenever the tables below change; a file of another schema is refused."""
APPLICATION: Final = 0x66656E63   # "fenc" in the file's header, so that nobody else's file is taken
BATCH_ROWS: Final = 1000
BATCH_SECONDS: Final = 0.25
PAGE_BYTES: Final = 16_384
"""Records are 2 to 4 KiB: SQLite's own 4 KiB would hold one and waste the rest."""
_ASK_AT_ONCE: Final = 500
_ASK_FOR_ALL: Final = 20_000
_PARTS_HELD: Final = 4096
FIELDS: Final = ("policy", "harts", "root_seed", "replicate", "nr_cpus", "livelock_retries")
"""Columns of `scenarios` beside the machine and the workload."""

_TABLES: Final = (
    "CREATE TABLE shapes (id INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE)",
    "CREATE TABLE records (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,"
    " record BLOB NOT NULL)",
    "CREATE TABLE numbers (record INTEGER PRIMARY KEY REFERENCES records, key TEXT NOT NULL,"
    " verdict TEXT NOT NULL, shape INTEGER NOT NULL REFERENCES shapes, counters BLOB NOT NULL)",
    "CREATE TABLE parts (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL,"
    " body TEXT NOT NULL, UNIQUE (kind, body))",
    "CREATE TABLE scenarios (record INTEGER NOT NULL REFERENCES records, policy TEXT NOT NULL,"
    " harts INTEGER NOT NULL, root_seed TEXT NOT NULL, replicate INTEGER NOT NULL,"
    " nr_cpus INTEGER NOT NULL, livelock_retries INTEGER NOT NULL,"
    " machine INTEGER NOT NULL REFERENCES parts, workload INTEGER NOT NULL REFERENCES parts,"
    " PRIMARY KEY (record, policy, harts, root_seed, replicate, nr_cpus, livelock_retries,"
    " machine, workload)) WITHOUT ROWID",
    "CREATE TABLE makers (id INTEGER PRIMARY KEY, versions TEXT NOT NULL, host TEXT NOT NULL,"
    " command TEXT NOT NULL, UNIQUE (versions, host, command))",
    "CREATE TABLE provenance (record INTEGER PRIMARY KEY REFERENCES records, maker INTEGER NOT NULL"
    " REFERENCES makers, wall_s REAL NOT NULL, cpu_s REAL NOT NULL, peak_kib INTEGER NOT NULL,"
    " at_utc TEXT NOT NULL)",
    "CREATE TABLE failures (key TEXT PRIMARY KEY, scenario TEXT NOT NULL, error TEXT NOT NULL,"
    " reproducer TEXT NOT NULL, host TEXT NOT NULL, at_utc TEXT NOT NULL)",
)


_LABEL: Final = "INSERT OR IGNORE INTO scenarios VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class StoreError(FencelabError):
    """A store that cannot be used: locked, full, read-only, damaged, of another schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Who computed a record: not part of it. ``cpu_s`` and ``wall_s`` are the engine's call.

    ``peak_kib`` is the most memory its process had held by then, other runs included.
    """

    versions: str
    host: str
    wall_s: float
    cpu_s: float
    peak_kib: int = 0
    command: str = ""


class Row(NamedTuple):
    """A record to keep: under which key, what it took, and which scenario's replicate asked for it.

    ``counters`` are the record's, packed, from whoever wrote it: reading them there again is half
    of what keeping a record costs. The rest is as in ``Provenance``.
    """

    key: str
    record: bytes
    wall_s: float
    cpu_s: float
    peak_kib: int = 0
    scenario: Scenario | None = None
    replicate: int = 0
    counters: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A question without an answer: the scenario that asked it and the error it ended in.

    ``reproducer`` is the command that asks it again, alone.
    """

    key: str
    scenario: str
    error: str
    reproducer: str = ""


def key_of_text(text: str) -> str:
    """Return a key for a scenario that never became a question: SHA-256 of its canonical JSON."""
    return "scenario:" + hashlib.sha256(text.encode()).hexdigest()


_COUNTERS: Final = b'{"counters":'


def packed(record: bytes) -> tuple[str, bytes] | None:
    """Return a record's counters as (their names, their values as u64); None if it has none.

    A record opens with its counters in the order of their names: that is what canonical means.
    """
    if not record.startswith(_COUNTERS):
        return None
    values = json.loads(record[len(_COUNTERS):record.index(b"}") + 1].decode())
    return ",".join(values), array("Q", values.values()).tobytes()


_VERDICT: Final = b'"verdict":"'


def verdict_of(record: bytes) -> str:
    """Return the verdict of a record without reading all of it."""
    at = record.rindex(_VERDICT) + len(_VERDICT)
    return record[at:record.index(b'"', at)].decode()


def part_body(part: Any) -> str:
    """Return a machine or workload as canonical JSON, sources left out."""
    values = part.model_dump(mode="json", exclude={"sources"})
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def _now() -> str:
    return _stamp(int(time.time()))


@lru_cache(maxsize=1)
def _stamp(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


class Store:
    """An open store; use it as a context manager. ``write`` takes the lock, or says who has it."""

    def __init__(self, path: Path, *, write: bool) -> None:
        self.path = path
        self._lock: int | None = None
        self._rows = 0
        self._begun = 0.0
        self._failures: bool | None = None
        self._ids: dict[tuple[str, ...], int] = {}
        self._parts: dict[int, tuple[object, int]] = {}
        self._next: int | None = None   # number of the next record
        self._asker: tuple[Scenario, tuple[tuple[Any, ...], tuple[Any, ...]]] | None = None
        if not write and not path.exists():
            raise StoreError(f"{path}: no such store; `fencelab sweep` makes one")
        if write:
            self._lock = _take_lock(path)
        try:
            with self._complaints():
                self._db = self._open(write)
        except BaseException:
            self._release()
            raise

    def _open(self, write: bool) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, timeout=10.0)
        try:
            self._prepare(db, write)
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection, write: bool) -> None:
        """Make the tables in a new file, or check that this file is one of ours."""
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        application = db.execute("PRAGMA application_id").fetchone()[0]
        schema = db.execute("PRAGMA user_version").fetchone()[0]
        if tables == 0 and write:
            db.execute(f"PRAGMA page_size={PAGE_BYTES}")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("BEGIN IMMEDIATE")
            for statement in _TABLES:
                db.execute(statement)
            db.execute(f"PRAGMA application_id={APPLICATION}")
            db.execute(f"PRAGMA user_version={SCHEMA}")
            db.execute("COMMIT")
        elif application != APPLICATION:
            raise StoreError(f"{self.path}: not a fencelab store")
        elif schema != SCHEMA:
            raise StoreError(f"{self.path}: schema {schema}, this fencelab writes schema {SCHEMA}; "
                             "keep it for the version that made it and choose another --store")
        db.execute("PRAGMA synchronous=NORMAL")

    @contextlib.contextmanager
    def _complaints(self) -> Iterator[None]:
        """Turn SQLite's errors into one line with the file's name."""
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {_reason(error)}") from error

    # ---- reading ------------------------------------------------------------------------------

    def known(self, keys: Iterable[str]) -> set[str]:
        """Return those of the keys that have a record."""
        wanted = list(dict.fromkeys(keys))
        found: set[str] = set()
        with self._complaints():
            if len(wanted) > _ASK_FOR_ALL:
                asked = set(wanted)
                return {row[0] for row in self._db.execute("SELECT key FROM records")
                        if row[0] in asked}
            for at in range(0, len(wanted), _ASK_AT_ONCE):
                part = wanted[at:at + _ASK_AT_ONCE]
                query = f"SELECT key FROM records WHERE key IN ({','.join('?' * len(part))})"
                found.update(row[0] for row in self._db.execute(query, part))
        return found

    def record(self, key: str) -> bytes | None:
        """Return the record of a key, or None."""
        with self._complaints():
            row = self._db.execute("SELECT record FROM records WHERE key=?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def result(self, key: str) -> Result | None:
        """Return the result of a key, or None."""
        record = self.record(key)
        return None if record is None else Result.from_record(record)

    def failures(self, keys: Iterable[str] | None = None) -> list[Failure]:
        """Return the failures, of these keys or of all, in the order of their keys."""
        wanted = None if keys is None else set(keys)
        with self._complaints():
            rows = self._db.execute(
                "SELECT key, scenario, error, reproducer FROM failures ORDER BY key")
            return [Failure(key=key, scenario=scenario, error=error, reproducer=reproducer)
                    for key, scenario, error, reproducer in rows
                    if wanted is None or key in wanted]

    def counts(self) -> Mapping[str, int]:
        """Return how many rows each table has."""
        names = ("records", "scenarios", "provenance", "failures")
        with self._complaints():
            return {name: self._db.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
                    for name in names}

    # ---- writing ------------------------------------------------------------------------------

    def label(self, asked: Iterable[tuple[str, Scenario, int]]) -> None:
        """Note which scenarios, by replicate, ask the questions of keys that have a record."""
        with self._complaints():
            self._begin()
            for key, scenario, replicate in asked:
                row = self._db.execute("SELECT id FROM records WHERE key=?", (key,)).fetchone()
                if row is not None:
                    self._db.execute(_LABEL, self._label(row[0], scenario, replicate))
            self._commit()

    def put(self, key: str, record: bytes, provenance: Provenance,
            scenario: Scenario | None = None, replicate: int = 0, counters: bytes = b"") -> None:
        """Keep one record; see ``put_all``."""
        self.put_all([Row(key, record, provenance.wall_s, provenance.cpu_s, provenance.peak_kib,
                          scenario, replicate, counters)],
                     (provenance.versions, provenance.host, provenance.command))

    def put_all(self, rows: Sequence[Row], maker: tuple[str, str, str]) -> None:
        """Keep records of one maker (versions, host, command); commit when many wait, or for long.

        Raises StoreError when a key is there with another record.
        """
        with self._complaints():
            self._begin()
            self._db.execute("SAVEPOINT rows")
            try:
                self._note(self._insert(rows), rows, maker)
            except sqlite3.IntegrityError:   # a key is there already, which is rare
                self._db.execute("ROLLBACK TO rows")
                for row in rows:
                    number = self._same_or_raise(row.key, row.record)
                    self._note(self._insert([row]) if number is None else [number], [row], maker)
            self._db.execute("RELEASE rows")
            self._count_rows(len(rows))

    def _insert(self, rows: Sequence[Row]) -> Sequence[int]:
        """Add records that are not there, and their counters; return the records' numbers."""
        if self._next is None:
            self._next = 1 + (self._db.execute("SELECT max(id) FROM records").fetchone()[0] or 0)
        numbers = range(self._next, self._next + len(rows))
        self._db.executemany(
            "INSERT INTO records (id, key, record) VALUES (?, ?, ?)",
            [(number, row.key, row.record) for number, row in zip(numbers, rows, strict=True)])
        self._db.executemany("INSERT INTO numbers VALUES (?, ?, ?, ?, ?)",
                             list(self._numbered(numbers, rows)))
        self._next += len(rows)
        return numbers

    def _numbered(self, numbers: Sequence[int], rows: Sequence[Row]) -> Iterator[tuple[Any, ...]]:
        """Yield the row of `numbers` of every record that has counters."""
        ours = self._id("shapes", (engine.RECORD_NAMES,))
        for number, row in zip(numbers, rows, strict=True):
            shape, counters = ours, row.counters
            if not counters:
                found = packed(row.record)
                if found is None:
                    continue
                shape, counters = self._id("shapes", found[:1]), found[1]
            yield number, row.key, verdict_of(row.record), shape, counters

    def _note(self, numbers: Sequence[int], rows: Sequence[Row],
              maker: tuple[str, str, str]) -> None:
        """Note who made records and which scenarios asked for them; a failure is past."""
        who, now = self._id("makers", maker), _now()
        self._db.executemany(
            "INSERT OR IGNORE INTO provenance VALUES (?, ?, ?, ?, ?, ?)",
            [(number, who, row.wall_s, row.cpu_s, row.peak_kib, now)
             for number, row in zip(numbers, rows, strict=True)])
        self._db.executemany(_LABEL, [self._label(number, row.scenario, row.replicate)
                                      for number, row in zip(numbers, rows, strict=True)
                                      if row.scenario is not None])
        if self._has_failures():
            self._db.executemany("DELETE FROM failures WHERE key=?", [(row.key,) for row in rows])

    def _has_failures(self) -> bool:
        if self._failures is None:
            self._failures = self._db.execute("SELECT count(*) FROM failures").fetchone()[0] > 0
        return self._failures

    def _label(self, number: int, scenario: Scenario, replicate: int) -> tuple[Any, ...]:
        """Return the row of `scenarios` that says so."""
        if self._asker is None or self._asker[0] is not scenario:
            self._asker = scenario, (
                (scenario.policy, scenario.harts, str(scenario.root_seed)),
                (scenario.nr_cpus, scenario.livelock_retries,
                 self._part("machine", scenario.machine),
                 self._part("workload", scenario.workload)))
        _, (before, after) = self._asker
        return number, *before, replicate, *after

    def _part(self, kind: str, part: Any) -> int:
        """Return the number of a machine or workload; equal ones are kept once."""
        held = self._parts.get(id(part))
        if held is None:
            if len(self._parts) >= _PARTS_HELD:
                self._parts.clear()
            held = part, self._id("parts", (kind, part.name, part_body(part)))
            self._parts[id(part)] = held
        return held[1]

    _COLUMNS: Final = {"shapes": ("names",), "makers": ("versions", "host", "command"),
                       "parts": ("kind", "name", "body")}

    def _id(self, table: str, values: tuple[str, ...]) -> int:
        """Return the number of a row of a table of things kept once; make it if it is new."""
        number = self._ids.get(values)
        if number is None:
            if len(self._ids) >= _PARTS_HELD:
                self._ids.clear()
            names = self._COLUMNS[table]
            marks = ",".join("?" * len(names))
            self._db.execute(f"INSERT OR IGNORE INTO {table} ({','.join(names)}) VALUES ({marks})",
                             values)
            where = " AND ".join(f"{name}=?" for name in names)
            number = int(self._db.execute(f"SELECT id FROM {table} WHERE {where}",
                                          values).fetchone()[0])
            self._ids[values] = number
        return number

    def _same_or_raise(self, key: str, record: bytes) -> int | None:
        """Return the number of the record that is there, if it is this one; None if none is."""
        row = self._db.execute("SELECT id, record FROM records WHERE key=?", (key,)).fetchone()
        if row is None:
            return None
        if bytes(row[1]) != record:
            self._commit()
            raise StoreError(f"{self.path}: the question {key[:16]} was answered twice, with "
                             "different bytes: the engine is not deterministic, or was changed "
                             "without changing its build id")
        return int(row[0])

    def fail(self, failure: Failure, host: str) -> None:
        """Note that a question ended in an error."""
        with self._complaints():
            self._begin()
            self._failures = True
            self._db.execute("INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?)",
                             (failure.key, failure.scenario, failure.error, failure.reproducer,
                              host, _now()))
            self._count_rows(1)

    def flush(self) -> None:
        """Commit what was put, so that readers see it."""
        with self._complaints():
            self._commit()

    def rows(self, query: str, values: tuple[object, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query; a reader beside a writer is fine."""
        with self._complaints():
            yield from self._db.execute(query, values)

    @property
    def writes(self) -> bool:
        """Whether this is the store's writer."""
        return self._lock is not None

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all that is read meanwhile be of one moment, whoever writes."""
        with self._complaints():
            self._commit()
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._commit()

    @contextlib.contextmanager
    def lent(self) -> Iterator[str]:
        """Yield the file's URI for another library to read; this store is closed meanwhile.

        Two copies of SQLite in one process undo each other's locks, so they take turns.
        """
        self._db.close()
        try:
            yield f"{self.path.absolute().as_uri()}?mode=ro"
        finally:
            with self._complaints():
                self._db = self._open(write=False)

    def change(self, *statements: tuple[str, tuple[object, ...]]) -> int:
        """Run statements in one transaction; return how many rows they changed in all."""
        with self._complaints():
            self._commit()
            self._ids.clear()   # what they name may go
            self._parts.clear()
            self._asker = self._next = None
            before = self._db.total_changes
            self._db.execute("BEGIN IMMEDIATE")
            for statement, values in statements:
                self._db.execute(statement, values)
            self._db.execute("COMMIT")
            return self._db.total_changes - before

    def shrink(self) -> None:
        """Give the room of removed rows back to the file system."""
        with self._complaints():
            self._db.execute("VACUUM")

    def _begin(self) -> None:
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
            self._begun, self._rows = time.monotonic(), 0

    def _count_rows(self, count: int) -> None:
        self._rows += count
        if self._rows >= BATCH_ROWS or time.monotonic() - self._begun >= BATCH_SECONDS:
            self._commit()

    def _commit(self) -> None:
        if self._db.in_transaction:
            self._db.execute("COMMIT")

    # ---- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """Commit, move the write-ahead log into the file, release the lock."""
        try:
            with self._complaints():
                if self._lock is not None:
                    self._commit()
                    self._db.execute("PRAGMA synchronous=FULL")
                    self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self.close()
            return
        with contextlib.suppress(StoreError):   # the first complaint is the one to hear
            self.close()


def _take_lock(path: Path) -> int:
    """Lock ``STORE.lock`` or raise, naming who holds it.

    Beside the store, not on it: SQLite's own locks end when any descriptor of the file is closed.
    """
    lock_path = path.with_name(path.name + ".lock")
    try:
        lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
        os.close(lock)
        raise StoreError(f"{path}: in use by {holder}; wait for it, or give another "
                         "--store") from error
    with contextlib.suppress(OSError):   # a full disk is the store's to complain about
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return lock


def _reason(error: sqlite3.Error) -> str:
    """Say in the user's words what SQLite complains about; a whole sentence with what to do."""
    name = getattr(error, "sqlite_errorname", "") or ""
    known = {
        "SQLITE_FULL": "the disk is full; what was committed is kept, make room and run again",
        "SQLITE_READONLY": "read-only; give another --store",
        "SQLITE_CANTOPEN": "cannot be opened: no such directory, or no permission",
        "SQLITE_NOTADB": "not a fencelab store",
        "SQLITE_CORRUPT": "damaged; move it away and run again",
        "SQLITE_IOERR": "cannot be written or read; what was committed is kept",
        "SQLITE_BUSY": "locked by another program",
    }
    for prefix, text in known.items():
        if name.startswith(prefix):
            return f"{text} ({error})"
    return str(error)
