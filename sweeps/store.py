"""What was computed: one SQLite file, one writer, nothing half-written.

A record is the canonical bytes of a result under the key of its question; the same key always has
the same bytes, and a second arrival with other bytes is refused as the error it is. Beside the
records, and never part of them: ``labels`` (which scenarios asked this question), ``provenance``
(who computed it, where, in how many seconds) and ``failures`` (jobs that ended in an error; a later
success removes the row). Rows are committed every 100 or every quarter of a second in write-ahead
mode, so that `kill -9` loses at most that much and a reader is never in the way.

Left out: network file systems (SQLite's locks do not hold there) and more than one writer: the
driver holds a lock on ``STORE.lock`` for as long as it writes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pysim.engine import Result
from pysim.errors import FencelabError

SCHEMA: Final = 1
"""Raised whenever the tables below change; a file of another schema is refused."""
APPLICATION: Final = 0x66656E63   # "fenc" in the file's header, so that nobody else's file is taken
BATCH_ROWS: Final = 100
BATCH_SECONDS: Final = 0.25
_ASK_AT_ONCE: Final = 500

_TABLES: Final = (
    "CREATE TABLE records (key TEXT PRIMARY KEY, record BLOB NOT NULL)",
    "CREATE TABLE labels (key TEXT NOT NULL, scenario TEXT NOT NULL, PRIMARY KEY (key, scenario))"
    " WITHOUT ROWID",
    "CREATE TABLE provenance (key TEXT PRIMARY KEY, versions TEXT NOT NULL, host TEXT NOT NULL,"
    " wall_s REAL NOT NULL, cpu_s REAL NOT NULL, at_utc TEXT NOT NULL)",
    "CREATE TABLE failures (key TEXT PRIMARY KEY, scenario TEXT NOT NULL, error TEXT NOT NULL,"
    " host TEXT NOT NULL, at_utc TEXT NOT NULL)",
)


class StoreError(FencelabError):
    """A store that cannot be used: locked, full, read-only, damaged, of another schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Who computed a record: not part of it. ``cpu_s`` and ``wall_s`` are the engine's call."""

    versions: str
    host: str
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A question without an answer: the scenario that asked it and the error it ended in."""

    key: str
    scenario: str
    error: str


def key_of_text(text: str) -> str:
    """Return a key for a scenario that never became a question: SHA-256 of its canonical JSON."""
    return "scenario:" + hashlib.sha256(text.encode()).hexdigest()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Store:
    """An open store; use it as a context manager. ``write`` takes the lock, or says who has it."""

    def __init__(self, path: Path, *, write: bool) -> None:
        self.path = path
        self._lock: int | None = None
        self._rows = 0
        self._begun = 0.0
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
            rows = self._db.execute("SELECT key, scenario, error FROM failures ORDER BY key")
            return [Failure(key=key, scenario=scenario, error=error)
                    for key, scenario, error in rows if wanted is None or key in wanted]

    def counts(self) -> Mapping[str, int]:
        """Return how many rows each table has."""
        names = ("records", "labels", "provenance", "failures")
        with self._complaints():
            return {name: self._db.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
                    for name in names}

    # ---- writing ------------------------------------------------------------------------------

    def label(self, labels: Iterable[tuple[str, str]]) -> None:
        """Note which scenarios (canonical JSON) ask which questions: pairs (key, scenario)."""
        with self._complaints():
            self._begin()
            self._db.executemany("INSERT OR IGNORE INTO labels VALUES (?, ?)", labels)
            self._commit()

    def put(self, key: str, record: bytes, provenance: Provenance) -> None:
        """Keep a record; commit when the batch is full or old. Raises StoreError on other bytes."""
        with self._complaints():
            self._begin()
            added = self._db.execute("INSERT OR IGNORE INTO records VALUES (?, ?)", (key, record))
            if added.rowcount == 0:
                self._same_or_raise(key, record)
            self._db.execute(
                "INSERT OR IGNORE INTO provenance VALUES (?, ?, ?, ?, ?, ?)",
                (key, provenance.versions, provenance.host, provenance.wall_s, provenance.cpu_s,
                 _now()))
            self._db.execute("DELETE FROM failures WHERE key=?", (key,))
            self._count_row()

    def _same_or_raise(self, key: str, record: bytes) -> None:
        row = self._db.execute("SELECT record FROM records WHERE key=?", (key,)).fetchone()
        if bytes(row[0]) != record:
            self._commit()
            raise StoreError(f"{self.path}: the question {key[:16]} was answered twice, with "
                             "different bytes: the engine is not deterministic, or was changed "
                             "without changing its build id")

    def fail(self, failure: Failure, host: str) -> None:
        """Note that a question ended in an error."""
        with self._complaints():
            self._begin()
            self._db.execute("INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?)",
                             (failure.key, failure.scenario, failure.error, host, _now()))
            self._count_row()

    def _begin(self) -> None:
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
            self._begun, self._rows = time.monotonic(), 0

    def _count_row(self) -> None:
        self._rows += 1
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
