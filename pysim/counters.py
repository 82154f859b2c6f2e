"""What counters say: overhead and its parts, slowdown, latencies; exact up to the last division.

The causes are the counters that C describes as ``cause: ...``; nothing is listed twice. Where a run
ended in a verdict there is no overhead: its policy is unsafe on this machine and is never ranked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from pysim import stats
from pysim.engine import COUNTERS, Counter, Result

CAUSES: Final = tuple(c.name for c in COUNTERS if c.meaning.startswith("cause:"))
BY_NAME: Final[Mapping[str, Counter]] = {c.name: c for c in COUNTERS}
RAN: Final = "ran"
# wall = these + the causes; hand-off waits are shown and are no overhead
BESIDE_CAUSES: Final = (
    "useful_cycles", "idle_cycles", "base_translation_cycles", "handoff_wait_cycles"
)


def is_safe(result: Result) -> bool:
    """Tell whether the run came to its end: only then do its counters mean something."""
    return result.verdict == RAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """Overhead of a run: counted causes / useful cycles, summed over harts.

    ``parts`` has one exact fraction per cause and adds up to ``total``.
    """

    total: Fraction
    parts: dict[str, Fraction]


def overhead(result: Result) -> Overhead | None:
    """Return the overhead by cause; None when the run ended in a verdict."""
    if not is_safe(result):
        return None
    useful = result.counters["useful_cycles"]
    if useful <= 0:
        raise ValueError("a run without useful cycles has no overhead")
    parts = {name: Fraction(result.counters[name], useful) for name in CAUSES}
    return Overhead(total=sum(parts.values(), Fraction(0)), parts=parts)


def slowdown(result: Result, ideal: Result) -> Fraction | None:
    """Return wall / wall of ``ideal`` on the same question; None when one of them is unsafe."""
    if not (is_safe(result) and is_safe(ideal)):
        return None
    return Fraction(result.counters["wall_cycles"], ideal.counters["wall_cycles"])


def unaccounted_cycles(result: Result) -> int:
    """Return wall less everything it is made of: 0, or the engine's accounting is broken."""
    counters = result.counters
    known = sum(counters[name] for name in (*BESIDE_CAUSES, *CAUSES))
    return counters["wall_cycles"] - known


def per(result: Result, counter: str, of: str) -> Fraction | None:
    """Return one counter per another, e.g. fence requests per map; None when there is none."""
    return Fraction(result.counters[counter], result.counters[of]) if result.counters[of] else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Quantiles of a latency histogram in cycles: the smallest value of each one's bucket."""

    n: int
    p50: int | None
    p99: int | None
    longest: int | None


def latency(histogram: Mapping[int, int]) -> Latency:
    """Return what people ask of a latency: count, median, 99th percentile, longest bucket."""
    p50, p99, longest = stats.quantiles(histogram, (Fraction(1, 2), Fraction(99, 100), Fraction(1)))
    return Latency(n=stats.count(histogram), p50=p50, p99=p99, longest=longest)


def latencies(result: Result) -> dict[str, Latency]:
    """Return the latencies of a run by name: map, stall, first_touch."""
    return {name: latency(histogram) for name, histogram in result.histograms.items()}


# ---- sums and units that tables ask for -------------------------------------------------------

_EXECUTED: Final = (
    "fences_full", "fences_addr", "fences_asid", "fences_addr_asid", "fences_firmware"
)


def fences_executed(result: Result) -> int:
    """Return how many sfence.vma ran on all harts, the firmware's included."""
    return sum(result.counters[name] for name in _EXECUTED)


def nanoseconds(cycles: int, mhz: int) -> Fraction:
    """Return cycles of a clock of ``mhz`` as nanoseconds."""
    return Fraction(1000 * cycles, mhz)
