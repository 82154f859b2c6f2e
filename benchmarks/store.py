"""How long a store of many records takes: to write, to export, to pivot; and in how much memory.

``python -m benchmarks.store [RECORDS]`` (default 1,000,000). The records are one real run's with
other counters under other keys, five replicates to a point; the scenarios are a sweep's. Reading is
done in a process of its own, so that its peak memory is its own. ``python -m benchmarks.store FILE
pivot|parquet|csv|json`` reads a store that is there.

To be met, a million records, on two cores with little else to do: each way of reading under 10 s.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pysim import engine
from pysim.scenario import build, lower
from sweeps import archive, export, tables
from sweeps.store import Row, Store

POLICIES = ("none", "mark-6.12", "mark-7.2", "mark-barrier", "preventive-range")
HARTS = (1, 2, 4, 8, 16, 32, 48, 64)
BATCH = 100   # rows that a worker hands over at once


def fill(path: Path, count: int) -> None:
    """Write a store of so many records."""
    base = build({"policy": "none", "machine": "sg2042",
                  "workload": {"inherit": "mixed", "duration_ms": 1}})
    record = engine.record(lower(base))
    end = record.index(b"}")
    template = re.sub(rb":\d+", b":%d", record[:end])
    counted = np.array([int(digits) for digits in re.findall(rb":(\d+)", record[:end])], "u8")
    scenarios = [base.model_copy(update={"policy": policy, "harts": harts})
                 for policy in POLICIES for harts in HARTS]
    began, cpu = time.perf_counter(), time.process_time()
    with Store(path, write=True) as store:
        rows: list[Row] = []
        for number in range(count):
            if number % 5 == 0:
                scenario = scenarios[number // 5 % len(scenarios)].model_copy(
                    update={"root_seed": number})
            values = counted + counted * np.random.default_rng(number).integers(
                1000, size=len(counted), dtype="u8") // 1000
            rows.append(Row(f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}{number:048x}",
                            template % tuple(values.tolist()) + record[end:], 0.001, 0.001, 20_000,
                            scenario, number % 5, values.tobytes()))
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
            export.export(store, what, file)
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
        for what in ("pivot", *export.FORMATS):
            subprocess.run([sys.executable, "-m", "benchmarks.store", str(path), what], check=True)


if __name__ == "__main__":
    main()
