"""How fast the explorer is, on one core: ``python -m benchmarks.explore [--spin]``.

Each row is the best of several rounds of CPU time, because what disturbs a round only ever adds to
it; short rounds are many. The question is the one other checkers were measured on: linux-next's
mark and barrier, one hart mapping, the others using every page. ``--spin`` also runs our Promela
model of it (``benchmarks/mark_barrier.pml``) with Spin, if there is one.
"""

from __future__ import annotations

import argparse
import re
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pysim import check, engine, litmus, ops, policies
from pysim.litmus import Parameters

ROUNDS: Final = 5
#: Seconds that the rounds of a row take together, at least.
ROW_SECONDS: Final = 0.5
MODEL: Final = Path(__file__).with_name("mark_barrier.pml")
#: What a row is called: harts, pages, how the search is reduced, and the rate it should reach.
SEARCHES: Final[tuple[tuple[str, int, int, dict[str, Any], str], ...]] = (
    ("fingerprints, symmetry, eager steps", 4, 3,
     {"exact": False, "symmetry": True, "eager": True}, ">= 2 M/s, < 0.05 s"),
    ("exact, symmetry, eager steps", 4, 3,
     {"exact": True, "symmetry": True, "eager": True}, ""),
    ("exact, symmetry", 4, 3, {"exact": True, "symmetry": True}, ""),
    ("exact, eager steps", 4, 3, {"exact": True, "symmetry": False, "eager": True}, ""),
    ("exact, no reduction", 4, 3, {"exact": True, "symmetry": False}, ">= 1.2 M/s"),
    ("fingerprints, no reduction", 4, 3, {"exact": False, "symmetry": False}, ""),
    ("fingerprints, symmetry, eager steps", 4, 4,
     {"exact": False, "symmetry": True, "eager": True}, ""),
    ("fingerprints, symmetry, eager steps", 6, 3,
     {"exact": False, "symmetry": True, "eager": True}, ""),
)


def cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of some work, and what it returned."""
    before = time.process_time()
    result = work()
    return time.process_time() - before, result


def searches() -> None:
    """Print one line per way of searching."""
    program = ops.lower(policies.find("mark-barrier"))
    parameters = Parameters(cpus=(0, 1, 2, 3, 4, 5))
    print(f"{'search':38} {'harts':>5} {'pages':>5} {'states':>9} {'transitions':>11} "
          f"{'CPU s':>8} {'M states/s':>10} {'M trans/s':>9}  should be")
    for name, harts, pages, how, goal in SEARCHES:
        asked = check.question(litmus.mapped(pages, harts), parameters, max_states=10**8,
                               max_memory_bytes=2**30, **how)
        rounds: list[tuple[float, engine.Explored]] = []
        while len(rounds) < ROUNDS or sum(one for one, _ in rounds) < ROW_SECONDS:
            with engine.Explorer(asked, program.header, program.ops) as explorer:
                rounds.append(cpu(explorer.search))
        seconds, found = min(rounds, key=lambda one: one[0])
        assert found.verdict == "verified", found
        print(f"{name:38} {harts:5} {pages:5} {found.states:9} {found.transitions:11} "
              f"{seconds:8.4f} {found.states / seconds / 1e6:10.2f} "
              f"{found.transitions / seconds / 1e6:9.2f}  {goal}")


def everything() -> None:
    """Print how long `fencelab check --all` takes, replays included."""

    def work() -> int:
        cells = 0
        for policy in policies.POLICIES:
            if policy.name != "ideal":
                program = ops.lower(policy)
                cells += sum(check.check(program, s) is not None for s in litmus.LITMUS)
        return cells

    seconds, cells = min((cpu(work) for _ in range(ROUNDS)), key=lambda one: one[0])
    print(f"\n{cells} verdicts of `check --all`, replays included: {seconds:.2f} CPU s "
          "(should be < 2)")


def spin() -> None:
    """Print what Spin says of the Promela model, with and without its reduction."""
    if shutil.which("spin") is None:
        print("\nspin: not installed")
        return
    print(f"\n{'Spin':38} {'states':>9} {'transitions':>11} {'CPU s':>8} {'M states/s':>10}")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["spin", "-a", str(MODEL)], cwd=folder, check=True, capture_output=True)
        for name, flags in (("partial-order reduction", []), ("no reduction", ["-DNOREDUCE"]),
                            ("breadth first", ["-DBFS"])):
            command = ["gcc", "-O3", "-w", "-DSAFETY", "-DMEMLIM=4000", *flags, "-opan", "pan.c"]
            subprocess.run(command, cwd=folder, check=True)
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            out = subprocess.run(["./pan", "-m1000000", "-w24"], cwd=folder, check=True, text=True,
                                 capture_output=True).stdout
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            states = _number(r"([\d.e+]+) states, stored", out)
            steps = _number(r"([\d.e+]+) transitions", out)
            errors = int(_number(r"errors: (\d+)", out))
            print(f"{name:38} {states:9.0f} {steps:11.0f} {seconds:8.2f} "
                  f"{states / seconds / 1e6:10.2f}  errors: {errors}")


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found is not None, text
    return float(found[1])


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spin", action="store_true")
    arguments = parser.parse_args()
    searches()
    everything()
    if arguments.spin:
        spin()


if __name__ == "__main__":
    main()
