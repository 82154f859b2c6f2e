"""The translation path beside the yardsticks: `python benchmarks/translate.py [--rounds N]`.

Builds ``yardsticks/`` of the shared folder (FENCELAB_SHARED, else ``../shared`` beside the
checkout) in a temporary folder and runs, in turn and on one core, what they run: six streams of
references over 65,536 mapped pages, with 16x4 and 128x8 LRU caches, Sv48 and a page-walk cache of
8x4 + 8 + 4 entries. The engine is asked through its door, all counters on. Prints CPU ns per
lookup, the smallest of all rounds, and the ratios; then other geometries and the plain C and AVX2
paths, relative to the first. Ends with 1 when a miss or PTE-read count differs.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pysim import engine
from pysim.errors import EngineError

STREAMS: Final = {
    "hit99": "mix:32:0.01:65472",
    "miss30": "mix:32:0.26:65472",
    "stlb30": "mix:32:0.28:800",
    "uniform64K": "uni:65536",
    "zipf0.99": "zipf:0.99",
    "seq64": "seq:64",
}
FAST_BAR: Final = 1.5
NAIVE_BARS: Final = {"hit99": 6.0, "miss30": 4.0}
GEOMETRY_BAR: Final = 2.5
FIRST_VPN, PAGES, FLAGS = 0x10000, 65536, 0xCF  # as the yardsticks map them
STEP: Final = engine.layout("struct csim_mmu_step")
MAP, ADVANCE = 4, 7  # enum csim_mmu_step_kind
ABSENT: Final = {"sets": 0, "ways": 0, "sectors": 1, "levels": 0, "policy": 0}
REPEATS: Final = 3


def array(sets: int, ways: int, *, level: int = 0, policy: str = "lru", sectors: int = 1) -> Any:
    """Return a ``struct csim_array`` that holds one size."""
    return {"sets": sets, "ways": ways, "sectors": sectors, "levels": 1 << level,
            "policy": engine.TLB_POLICIES[policy]}


def machine(**fields: Any) -> bytes:
    """Return the yardsticks' machine; every PTE read takes the same time unless fields differ."""
    pwc = [ABSENT, array(8, 4, level=1), array(1, 8, level=2), array(1, 4, level=3), ABSENT]
    made: dict[str, Any] = dict.fromkeys(engine.struct_fields("csim_machine"), 0)
    made |= {
        "mhz": 1000, "levels": 4, "walkers": 1, "svade": 1,
        "l1i": [array(16, 4), ABSENT], "l1d": [array(16, 4), ABSENT], "l1st": [ABSENT] * 2,
        "l2": [array(128, 8), ABSENT], "pwc": pwc,
        "l1_hit_cycles": 1, "l2_hit_cycles": 8, "pwc_hit_cycles": 1, "read_l2_cycles": 20,
        "walk_overhead_per_level_cycles": 2, "read_l2_permille": 1000,
    }
    return engine.pack("csim_machine", made | fields)


def one(**shape: Any) -> list[Any]:
    """Return a level of one array."""
    return [array(**shape), ABSENT]


def geometries() -> dict[str, bytes]:
    """Return machines that differ from the yardsticks' in one respect each."""
    caching = {"inv_l1": 1, "inv_l2": 1, "inv_pwc": 1, "inv_nonleaf_range": 1}
    return {
        "L1 of 32, fully associative": machine(l1d=one(sets=1, ways=32)),
        "L1 of 64, fully associative": machine(l1d=one(sets=1, ways=64)),
        "L1 of 8 sets x 8 ways": machine(l1d=one(sets=8, ways=8)),
        "L1 of 4 sets x 16 ways": machine(l1d=one(sets=4, ways=16)),
        "L2 of 64 sets x 16 ways": machine(l2=one(sets=64, ways=16)),
        "L1 of 16 sets x 4 ways x 4 sectors": machine(l1d=one(sets=16, ways=4, sectors=4)),
        "tree-PLRU in L1 and L2": machine(
            l1d=one(sets=16, ways=4, policy="plru"), l2=one(sets=128, ways=8, policy="plru")),
        "invalid PTEs cached everywhere": machine(**caching),
        "PTE reads drawn from a mix": machine(
            read_l1d_permille=500, read_l1d_cycles=3, read_l2_permille=300,
            read_llc_permille=150, read_llc_cycles=60, read_dram_cycles=200),
    }


class Yardsticks:
    """The programs, built; raises SystemExit with a sentence when they cannot be."""

    def __init__(self, source: Path, folder: Path) -> None:
        if not (source / "Makefile").is_file():
            sys.exit(f"translate: no yardsticks in {source}; set FENCELAB_SHARED to the folder "
                     "that holds yardsticks/")
        self.folder = folder
        for file in source.iterdir():
            if file.suffix in {".c", ".h"} or file.name == "Makefile":
                shutil.copy(file, folder)
        made = subprocess.run(["make", "-s"], cwd=folder, capture_output=True, text=True,
                              check=False)
        if made.returncode != 0:
            sys.exit(f"translate: the yardsticks do not build: {made.stderr.strip()}")

    def run(self, *command: str) -> dict[str, float]:
        """Run a program; return the numbers it prints by name."""
        done = subprocess.run([f"./{command[0]}", *command[1:]], cwd=self.folder,
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"translate: {' '.join(command)} ended with {done.returncode}"
                     + (" (it needs AVX-512)" if command[0] == "fast" else ""))
        return {k: float(v) for k, v in re.findall(r"(\w+)=([\d.]+)(?= |\n)", done.stdout)}

    def addresses(self, kind: str, n: int) -> np.ndarray[Any, Any]:
        """Return a stream as the yardsticks make it, as virtual addresses."""
        file = self.folder / "stream.bin"
        subprocess.run(["./dump", str(n), kind, str(file)], cwd=self.folder, check=True)
        return np.fromfile(file, np.uint64) << np.uint64(12)


def measure(hardware: bytes, vas: np.ndarray[Any, Any], simd: str = "best",
            ) -> tuple[float, dict[str, int], engine.Streamed]:
    """Return CPU ns per lookup from empty caches (the best of some), counters and the answer."""
    steps = np.zeros(2, STEP)
    steps[0]["kind"], steps[0]["va"], steps[0]["pages"] = MAP, FIRST_VPN << 12, PAGES
    steps[0]["flags"], steps[0]["ppn"] = FLAGS, 0x80800
    steps[1]["kind"], steps[1]["cycles"] = ADVANCE, 1 << 30  # the stores are seen
    best = float("inf")
    for _ in range(REPEATS):
        mmu = engine.Mmu(hardware, stores=2 * PAGES, tables=PAGES // 64)
        mmu.steps(steps.tobytes())
        begun = time.thread_time()
        answer = mmu.stream(vas, simd=simd)
        best = min(best, time.thread_time() - begun)
    return best * 1e9 / len(vas), mmu.counters(), answer


def same_counts(counters: dict[str, int], naive: dict[str, float], n: int) -> bool:
    """Misses as the yardstick prints them, PTE reads to the last one."""
    l1 = counters["lookups"] - counters["l1_hits"]
    return (counters["walk_reads"] == int(naive["reads"])
            and f"{l1 / n:.4f}" == f"{naive['l1miss']:.4f}"
            and f"{counters['misses'] / n:.4f}" == f"{naive['l2miss']:.4f}")


def beside(yard: Yardsticks, vas: dict[str, np.ndarray[Any, Any]], n: int, rounds: int,
           ) -> tuple[dict[str, float], bool]:
    """Print the engine beside the yardsticks; return its ns by stream, and whether all agree."""
    ours: dict[str, float] = {}
    all_same = True
    print(f"{'stream':12s}{'engine':>8s}{'F10':>8s}{'naive':>8s}{'/F10':>7s}{'naive/':>8s}"
          "  misses and PTE reads")
    for name, kind in STREAMS.items():
        times: dict[str, float] = {}
        for _ in range(rounds):
            ns, counters, answer = measure(machine(), vas[name])
            fast = yard.run("fast", str(n), kind, "F10", str(REPEATS))
            naive = yard.run("naive", str(n), "0", kind)
            for who, value in (("us", ns), ("fast", fast["ns"]), ("naive", naive["ns"])):
                times[who] = min(times.get(who, value), value)
        same = same_counts(counters, naive, n) and answer.faults == 0
        all_same &= same
        ours[name] = times["us"]
        slower, faster = times["us"] / times["fast"], times["naive"] / times["us"]
        met = slower <= FAST_BAR and faster >= NAIVE_BARS.get(name, 0)
        print(f"{name:12s}{times['us']:8.2f}{times['fast']:8.2f}{times['naive']:8.2f}"
              f"{slower:7.2f}{faster:8.2f}  {'same' if same else 'DIFFER'}"
              f"{'' if met else '  bar missed'}", flush=True)
    return ours, all_same


def others(vas: dict[str, np.ndarray[Any, Any]], rounds: int) -> None:
    """Print other geometries and paths, relative to the first machine in the same rounds."""
    rows: dict[str, tuple[bytes, str]] = {"as the yardsticks": (machine(), "best")}
    rows |= {name: (hardware, "best") for name, hardware in geometries().items()}
    rows |= {f"{path} path": (machine(), path) for path in ("avx2", "plain")}
    found = {name: dict.fromkeys(STREAMS, float("inf")) for name in rows}
    for _ in range(rounds):
        for row, (hardware, simd) in rows.items():
            for name in STREAMS:
                try:
                    ns = measure(hardware, vas[name], simd)[0]
                except EngineError:
                    continue
                found[row][name] = min(found[row][name], ns)
    print(f"\n{'ns, and ratio to the first':36s}" + "".join(f"{name:>16s}" for name in STREAMS))
    first = found["as the yardsticks"]
    for row, times in found.items():
        cells = [f"{ns:8.2f} {ns / first[name]:5.2f}x" for name, ns in times.items()]
        over = any(ns / first[name] > GEOMETRY_BAR for name, ns in times.items())
        note = "  bar missed" if over and not row.endswith("path") else ""
        print(f"{row:36s}" + "".join(f"{cell:>16s}" for cell in cells) + note)


def main() -> int:
    """Run everything; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--references", type=int, default=1_000_000)
    asked = parser.parse_args()
    beside_checkout = Path(__file__).resolve().parents[2] / "shared"
    shared = os.environ.get("FENCELAB_SHARED") or str(beside_checkout)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        yard = Yardsticks(Path(shared) / "yardsticks", Path(folder))
        n = asked.references
        vas = {name: yard.addresses(kind, n) for name, kind in STREAMS.items()}
        _, same = beside(yard, vas, n, asked.rounds)
        others(vas, asked.rounds)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
