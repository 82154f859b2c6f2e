"""The figures that docs/decisions cites, measured here: ``python -m benchmarks.decisions``.

Each is the best of several rounds, because what disturbs a round only ever adds to it.
"""

from __future__ import annotations

import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cffi import FFI

from pysim.engine import lib

ROUNDS = 5


def best(measure: Callable[[], float]) -> float:
    """Return the smallest of several measurements."""
    return min(measure() for _ in range(ROUNDS))


def import_ms(statement: str) -> float:
    """CPU milliseconds a fresh Python spends on an import, beyond starting."""

    def child(code: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return 1000 * (best(lambda: child(statement)) - best(lambda: child("pass")))


def call_ns() -> float:
    """Nanoseconds of one call through the door, the GIL released and taken again."""
    calls = range(100_000)

    def measure() -> float:
        started = time.perf_counter()
        for _ in calls:
            lib.csim_histogram_floor(0)
        return time.perf_counter() - started

    return 1e9 * best(measure) / len(calls)


def callback_ns() -> float:
    """Nanoseconds of one call from C back into Python: a comparison that qsort asks for."""
    ffi = FFI()
    ffi.cdef("void qsort(void *, size_t, size_t, int (*)(const void *, const void *));")
    libc = ffi.dlopen(None)
    asked = 0

    @ffi.callback("int(const void *, const void *)")
    def compare(a: object, b: object) -> int:
        nonlocal asked
        asked += 1
        return 0

    def measure() -> float:
        nonlocal asked
        asked = 0
        array = ffi.new("int[]", 20_000)
        started = time.perf_counter()
        libc.qsort(array, len(array), 4, compare)
        return (time.perf_counter() - started) / asked

    return 1e9 * best(measure)


def store_us(*, rows_per_transaction: int, synchronous: str) -> float:
    """Wall microseconds per record of 1 KiB written to SQLite in WAL mode."""
    rows, record = 1000, random.Random(0).randbytes(1024)

    def measure() -> float:
        with tempfile.TemporaryDirectory() as folder:
            store = sqlite3.connect(Path(folder) / "store.db", isolation_level=None)
            store.execute("pragma journal_mode = wal")
            store.execute(f"pragma synchronous = {synchronous}")
            store.execute("create table r (key blob primary key, record blob) without rowid")
            started = time.perf_counter()
            for first in range(0, rows, rows_per_transaction):
                store.execute("begin")
                for row in range(first, first + rows_per_transaction):
                    store.execute("insert into r values (?, ?)", (row.to_bytes(32, "big"), record))
                store.execute("commit")
            wall = time.perf_counter() - started
            store.close()
        return wall

    return 1e6 * best(measure) / rows


def main() -> None:
    """Print every figure with its unit."""
    print(f"{'door: one call':40} {call_ns():8.0f} ns")
    print(f"{'door: one call back into Python':40} {callback_ns():8.0f} ns")
    for name in ("click", "tqdm", "tabulate", "numpy", "scipy.stats"):
        print(f"{f'import {name}':40} {import_ms(f'import {name}'):8.0f} ms CPU")
    model = "from pydantic import BaseModel"
    print(f"{model:40} {import_ms(model):8.0f} ms CPU")
    for rows, synchronous in ((100, "normal"), (100, "full"), (1, "full")):
        cost = store_us(rows_per_transaction=rows, synchronous=synchronous)
        print(f"{f'store: {rows} rows a commit, {synchronous}':40} {cost:8.0f} us a row")


if __name__ == "__main__":
    main()
