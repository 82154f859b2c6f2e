"""How long a store of many records takes: to write, to export, to pivot; and in how much memory.

``python -m benchmarks.store [RECORDS]`` (default 1,000,000). The records are one real run's with
other counters under other keys, five replicates to a point; the scenarios are a sweep's. Reading is
done in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pysim import engine
from pysim.scenario import build, lower
from sweeps import archive, tables
from sweeps.store import Row, Store, packed

POLICIES = ("none", "mark-6.12", "mark-7.2", "mark-barrier", "preventive-range")
HARTS = (1, 2, 4, 8, 16, 32, 48, 64)
MARK = b'"useful_cycles":'
BATCH = 100   # rows that a worker hands over at once


def fill(path: Path, count: int) -> None:
    """Write a store of so many records."""
    base = build({"policy": "none", "machine": "sg2042",
                  "workload": {"inherit": "mixed", "duration_ms": 1}})
    record = engine.record(lower(base))
    begin = record.index(MARK) + len(MARK)
    end = record.index(b",", begin)
    counters = packed(record)
    assert counters is not None
    at = counters[0].split(",").index("useful_cycles") * 8
    scenarios = [base.model_copy(update={"policy": policy, "harts": harts})
                 for policy in POLICIES for harts in HARTS]
    began, cpu = time.perf_counter(), time.process_time()
    with Store(path, write=True) as store:
        rows: list[Row] = []
        for number in range(count):
            scenario = scenarios[number // 5 % len(scenarios)]
            if number % 5 == 0:
                scenario = scenario.model_copy(update={"root_seed": number})
            useful = 10**9 + number
            rows.append(Row(
                f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}{number:048x}",
                record[:begin] + str(useful).encode() + record[end:], 0.001, 0.001, 20_000,
                scenario, number % 5,
                counters[1][:at] + useful.to_bytes(8, "little") + counters[1][at + 8:]))
            if len(rows) == BATCH or number == count - 1:
                store.put_all(rows, ("{}", "here", ""))
                rows = []
    told("write", began, cpu, count, path.stat().st_size / 1e6)


def told(what: str, began: float, cpu: float, count: int, megabytes: float) -> None:
    """Print one line."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    taken = time.process_time() - cpu
    print(f"{what:<10} {time.perf_counter() - began:6.2f} s wall {taken:6.2f} s CPU "
          f"{taken / count * 1e6:6.1f} us a record, {megabytes:6.0f} MB, peak {peak:5.0f} MiB",
          flush=True)


def read(path: Path, what: str) -> None:
    """Export to a form, or pivot."""
    began, cpu = time.perf_counter(), time.process_time()
    with Store(path, write=False) as store:
        count = store.counts()["records"]
        if what == "pivot":
            tables.render([archive.pivot(store, "policy", "harts", "overhead")], "plain")
            told(what, began, cpu, count, 0)
            return
        out = path.with_suffix(f".{what}")
        with out.open("wb") as file:
            archive.export(store, what, file)
    told(what, began, cpu, count, out.stat().st_size / 1e6)
    out.unlink()


def main() -> None:
    """Write, then read in every way, each in a process of its own."""
    if len(sys.argv) > 2:
        read(Path(sys.argv[1]), sys.argv[2])
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="fencelab-") as folder:
        path = Path(folder) / "a.db"
        fill(path, count)
        for what in ("pivot", *archive.FORMATS):
            subprocess.run([sys.executable, "-m", "benchmarks.store", str(path), what], check=True)


if __name__ == "__main__":
    main()
