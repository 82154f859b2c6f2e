"""Start-up and the main job, beside a bare Python: `python benchmarks/start.py [--quickstart]`.

Prints seconds and the ratio to starting a bare interpreter, the smallest of five each: `import
pysim`, `fencelab --help`, the first answer of the process pool; with ``--quickstart`` also the
whole quickstart into a new store, once.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

POOL = """
from pysim import scenario
from sweeps.executors.local import Processes
from sweeps.executors.shard import Job, Stop

if __name__ == "__main__":
    asked = {"policy": "none", "machine": "cva6", "workload": {"inherit": "idle", "duration_ms": 1}}
    job = Job(0, scenario.lower(scenario.build(asked)))
    next(batch for batch in Processes(2)([job], stop=Stop()) if batch.rows)
"""


def seconds(command: list[str], repeats: int = 5) -> float:
    """Return the shortest wall time of a command."""
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        taken.append(time.perf_counter() - begun)
    return min(taken)


def main() -> None:
    """Print one line per command."""
    python = sys.executable
    bare = seconds([python, "-c", "pass"])
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder) / "pool.py"
        pool.write_text(POOL)
        rows = {
            "bare python": bare,
            "import pysim": seconds([python, "-c", "import pysim"]),
            "fencelab --help": seconds([python, "-m", "sweeps.cli", "--help"]),
            "first answer of two processes": seconds([python, str(pool)]),
        }
        if "--quickstart" in sys.argv:
            store = str(Path(folder) / "quickstart.db")
            sweep = [python, "-m", "sweeps.cli", "sweep", "quickstart", "--store", store]
            rows["fencelab sweep quickstart"] = seconds(sweep, repeats=1)
    for name, taken in rows.items():
        print(f"{name:30s} {taken:8.3f} s {taken / bare:8.1f} x bare python")


if __name__ == "__main__":
    main()
