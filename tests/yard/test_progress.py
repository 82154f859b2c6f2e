"""On a terminal a table that is redrawn; and a driver that does not grow with its sweep."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from pysim import engine

ROOT = Path(engine.__file__).resolve().parents[1]
SWEEP = """
# What does a sweep look like while it runs?
seeds = 300
[axes]
policy = ["preventive-range", "mark-7.2"]
machine = ["sg2042"]
harts = [2]
workload = [{ inherit = "mixed", duration_ms = 1, label = "short mix" }]
"""


def on_a_terminal(folder: Path, *arguments: str) -> str:
    """Run the command with a terminal for standard error; return what it showed there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    code = (f"import sys; sys.path.insert(0, {str(ROOT)!r}); from sweeps import cli, progress; "
            "progress.LIVE_SECONDS = 0; sys.exit(cli.main())")   # every batch, however fast
    child = subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=folder, stderr=theirs,
                             stdout=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:   # a terminal whose last user has left
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert child.wait() == 0
    return shown.decode()


@pytest.mark.slow
def test_a_live_table_is_redrawn_with_means_that_settle(tmp_path: Path) -> None:
    (tmp_path / "q.toml").write_text(SWEEP)
    shown = on_a_terminal(tmp_path, "sweep", "q.toml", "--live")
    assert "\x1b[" in shown
    last = shown.rpartition("running: ")[2]
    assert last.startswith("600 of 600")
    assert re.search(r"mark-7\.2 +300 runs  overhead [\d.e-]+ % \(spread [\d.e-]+\)", last)
    assert re.search(r"preventive-range +300 runs  overhead ", last)
    assert re.search(r"running: \d+ of 600, [\d.e+]+/s, \d+ s left", shown)
    plain = on_a_terminal(tmp_path, "sweep", "q.toml", "--seeds", "500")
    assert "runs  overhead" not in plain
    assert re.search(r"running: .*/400 \[", plain), "a bar"


MEMORY = """
import json, sys, tempfile
from pathlib import Path
sys.path.insert(0, {here!r})
import asks
from pysim.scenario import Lowering
from sweeps import grid, run
from sweeps.executors.local import Processes
from sweeps.executors.shard import Stop
from sweeps.store import Store
text = '''# How much?
seeds = SEEDS
[base]
machine = "sg2042"
workload = "mixed"
[axes]
policy = ["none", "ideal", "mark-7.2", "mark-6.12"]
harts = [1, 2, 4, 8, 16]
'''
points = grid.expand(grid.parse(text.replace("SEEDS", sys.argv[1]), "q"))
with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "a.db", write=True) as store:
    planned = run.plan(points.scenarios, Lowering(), stop=Stop())
    outcome = run.run(planned, store, Processes(2, asks.hashing), stop=Stop())
status = Path("/proc/self/status").read_text()      # ru_maxrss would be the parent's if larger
peak_kib = int(status.split("VmHWM:")[1].split()[0])
print(json.dumps([outcome.computed, peak_kib // 1024]))
"""


@pytest.mark.slow
def test_a_driver_does_not_grow_with_its_sweep() -> None:
    """Ten thousand points in 250 MiB, and 250 bytes for each of 50,000 more: its key, its place."""
    peaks = {}
    for seeds in (500, 3000):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY.format(here=str(Path(__file__).parent)), str(seeds)],
            text=True, capture_output=True, check=True)
        computed, peaks[seeds] = json.loads(done.stdout)
        assert computed == 20 * seeds
    assert peaks[500] < 250, peaks
    assert peaks[3000] - peaks[500] < 40, peaks
