"""Runs whose every counter is written down: ``make goldens`` writes them, a test compares them.

A change that moves a number here moves results somebody may have used: it says so in its commit and
in CHANGELOG.md under "Results moved". The files are not evidence that the numbers are right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import timelines

from pysim import engine, scenario

FOLDER: Final = Path(__file__).resolve().parent / "golden" / "runs"


def fork(**changes: Any) -> dict[str, Any]:
    """Return a fork storm of one millisecond."""
    return {"inherit": "fork", "duration_ms": 1, **changes}


def mixed(**changes: Any) -> dict[str, Any]:
    """Return a mix of vmalloc sizes of one millisecond, dense enough to meet every path."""
    return {"inherit": "mixed", "duration_ms": 1, "vmalloc_per_s": 50_000, "lifetime_ms": 0.2,
            "user_faults_per_s": 20_000, **changes}


# One run per way of reaching other harts, per way of caching invalid PTEs, per verdict.
RUNS: Final[dict[str, dict[str, Any]]] = {
    "ideal-cva6": {"policy": "ideal", "machine": "cva6", "harts": 2, "workload": mixed()},
    "none-xs-nanhu": {"policy": "none", "machine": "xs-nanhu", "harts": 2, "workload": mixed()},
    "preventive-sbi-sg2042": {
        "policy": "preventive-range", "machine": "sg2042", "harts": 8, "workload": mixed()
    },
    "preventive-imsic-p550": {
        "policy": "preventive-range",
        "machine": {"inherit": "p550", "via": "imsic"},
        "harts": 4,
        "workload": mixed(irqs_off_fraction=0.5),
    },
    "preventive-hw-c910": {
        "policy": "preventive-range",
        "machine": {"inherit": "c910", "via": "hw"},
        "harts": 4,
        "workload": mixed(),
    },
    "mark-6.12-rocket": {"policy": "mark-6.12", "machine": "rocket", "harts": 4,
                         "workload": mixed()},
    "mark-7.2-xs-kmh": {"policy": "mark-7.2", "machine": "xs-kmh", "harts": 4,
                        "workload": fork()},
    "mark-7.2-window": {
        "policy": "mark-7.2",
        "machine": {"inherit": "u74", "store_drain_cycles": 2000, "coherence_cycles": 8000},
        "harts": 4,
        "workload": mixed(touch_delay_us=1),
    },
    "mark-6.12-svvptc": {
        "policy": "mark-6.12",
        "machine": {"inherit": "x60", "svvptc": True, "inv_l1": False, "inv_l2": False,
                    "inv_pwc": False},
        "harts": 2,
        "workload": mixed(),
    },
    "preventive-local-c906": {
        "policy": "preventive-range", "machine": "c906", "harts": 1,
        "workload": mixed(lazy_purge_mib=1),
    },
    "preventive-recorded": {
        "policy": "preventive-range",
        "machine": "cva6",
        "harts": 4,
        "workload": {"inherit": "forkburst", "rate_factor": 8},
    },
    "vmalloc-fault-purges": {
        "policy": "vmalloc-fault", "machine": "cva6", "harts": 2,
        "workload": mixed(lazy_purge_mib=0),
    },
    "mark-7.2-address-spaces": {
        "policy": "mark-7.2",
        "machine": {"inherit": "u74", "asid_bits": 4},
        "harts": 4,
        "nr_cpus": 4,
        "workload": {"inherit": "mmapstress01", "duration_ms": 1, "mm_switches_per_s": 20_000,
                     "address_spaces": 60, "access_flags_per_s": 20_000,
                     "user_forks_per_s": 5_000, "user_unmaps_per_s": 20_000},
    },
    "preventive-merged": {
        "policy": "preventive-range", "machine": "sg2042", "harts": 8,
        "workload": mixed(vmalloc_per_s=1_000_000, lifetime_ms=0.05),
    },
    "mark-6.12-recorded": {
        "policy": "mark-6.12",
        "machine": "boom-mega",
        "harts": 2,
        "workload": {"inherit": "forkburst", "rate_factor": 8},
    },
}


def said(value: Any) -> str:
    """Return a value of a question as one line of text."""
    if isinstance(value, dict):
        return ", ".join(f"{key} = {said(item)}" for key, item in value.items())
    return str(value)


def text(name: str) -> str:
    """Return a golden file: the question, how it ended, and every counter that is not 0."""
    result = engine.simulate(scenario.lower(scenario.build(RUNS[name])))
    lines = [f"{key:28} {said(value)}" for key, value in RUNS[name].items()]
    lines += ["", f"{'verdict':28} {result.verdict}"]
    if result.verdict != "ran":
        lines.append(f"{'at':28} hart {result.verdict_hart}, cycle {result.verdict_at_cycles}, "
                     f"address {result.verdict_va:#x}")
    lines.append("")
    lines += [f"{c.name:28} {result.counters[c.name]:>20} {c.unit}" for c in engine.COUNTERS
              if result.counters[c.name]]
    for histogram, buckets in result.histograms.items():
        lines += ["", f"{f'{histogram}: cycles from':28} {'count':>20}"]
        lines += [f"{floor:28} {count:>20}" for floor, count in buckets.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write every golden file, and nothing else into their folder."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for stale in FOLDER.glob("*.txt"):
        stale.unlink()
    for name in RUNS:
        (FOLDER / f"{name}.txt").write_text(text(name))


if __name__ == "__main__":
    main()
    timelines.main()
