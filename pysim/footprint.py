"""Translation cost against footprint: random reads over a buffer, on 4 KiB and on 2 MiB pages.

What boards are measured by: tinymembench reads single random words of a buffer, once with
MADV_NOHUGEPAGE and once with MADV_HUGEPAGE, and the difference is the cost of translation. Both
runs are simulated (csim/footprint.c), PTE lines and data sharing the caches; nothing here counts a
cycle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from pysim import engine, machines
from pysim.errors import EngineError, InputError
from pysim.machines import Machine

KIB: Final = 1024
FOOTPRINTS: Final = tuple(2**power for power in range(16, 27))   # 64 KiB to 64 MiB
# assumed: enough for a standard error below 0.1 ns on every preset; no published count of reads
READS: Final = 400_000
WARM_UP: Final = 100_000
# Predicted and measured agree within the larger of the two; hardware.md d.3 1 (0.5 ns: the scatter
# of the measured column where no TLB misses).
TOLERANCE: Final = Fraction(2, 5)
TOLERANCE_NS: Final = Fraction(1, 2)
# A share of reads from which on a level of translation counts as outgrown.
KNEE: Final = Fraction(1, 10)

# ns per read, by footprint, of machines that a board was measured with.
# Source: hardware.md c.5, column d of P550 at 1.4 GHz (sbc-bench result 8PA8).
MEASURED: Final = {
    "p550": dict(zip(FOOTPRINTS, map(Fraction, (
        "0.1", "0.3", "5.0", "4.7", "6.0", "6.9", "13.3", "15.4", "22.4", "26.3", "26.7",
    )), strict=True)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One footprint: ns per read on either size of pages, and what the 4 KiB run missed.

    ``translation_ns`` is the difference; ``l1_misses`` and ``walks`` are shares of the 4 KiB run's
    reads, ``pte_reads`` how many PTEs a read takes on average from L1D, L2, last level and memory;
    ``measured_ns`` is None where no board is known.
    """

    footprint_bytes: int
    small_ns: Fraction
    huge_ns: Fraction
    l1_misses: Fraction
    walks: Fraction
    pte_reads: tuple[Fraction, ...]
    measured_ns: Fraction | None = None

    @property
    def translation_ns(self) -> Fraction:
        """What 4 KiB pages cost more than 2 MiB pages, per read."""
        return self.small_ns - self.huge_ns

    @property
    def agrees(self) -> bool | None:
        """Whether the prediction is within tolerance of the measurement; None without one."""
        if self.measured_ns is None:
            return None
        allowed = max(TOLERANCE * self.measured_ns, TOLERANCE_NS)
        return abs(self.translation_ns - self.measured_ns) <= allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The points of one machine, smallest footprint first."""

    machine: Machine
    points: tuple[Point, ...]

    def reach(self, share: str) -> int | None:
        """Return the largest footprint before ``share`` (l1_misses, walks) is 1/10; None: all."""
        grown = [index for index, point in enumerate(self.points) if getattr(point, share) >= KNEE]
        if not grown:
            return None
        return self.points[grown[0] - 1].footprint_bytes if grown[0] else 0

    @property
    def agreed(self) -> int:
        """Points within tolerance of their measurement."""
        return sum(point.agrees is True for point in self.points)


def curve(machine: Machine, *, footprints: Iterable[int] = FOOTPRINTS, reads: int = READS,
          seed: int = 1, scattered: bool = False) -> Curve:
    """Sweep the footprint of uniform random reads over one machine.

    ``footprints`` in bytes, whole pages. ``scattered``: the frames of 4 KiB pages lie all over
    memory, as on a board that has run for long, instead of one after the other. Raises InputError
    when a footprint is impossible.
    """
    packed = engine.pack("csim_machine", machine.c_values())
    known = MEASURED.get(machine.name, {}) if _is_preset(machine) and not scattered else {}
    points = []
    for size in sorted(footprints):
        try:
            small, huge = (
                engine.footprint(packed, {"bytes": size, "reads": reads, "warm_up": WARM_UP,
                                          "seed": seed, "level": level, "scattered": scattered})
                for level in (0, 1))
        except EngineError as error:
            raise InputError("footprint", "", str(error)) from error
        points.append(Point(
            footprint_bytes=size,
            small_ns=_ns(small.cycles, reads, machine.mhz),
            huge_ns=_ns(huge.cycles, reads, machine.mhz),
            l1_misses=Fraction(small.l1_misses, reads),
            walks=Fraction(small.l2_misses, reads),
            pte_reads=tuple(Fraction(count, reads) for count in small.pte_reads),
            measured_ns=known.get(size),
        ))
    return Curve(machine=machine, points=tuple(points))


def _is_preset(machine: Machine) -> bool:
    return machine.name in machines.PRESETS and machine == machines.load(machine.name)


def _ns(cycles: int, reads: int, mhz: int) -> Fraction:
    return Fraction(cycles * 1000, reads * mhz)


def size_text(size: int) -> str:
    """Return a footprint as people write it: 64 KiB, 4 MiB."""
    return f"{size // KIB**2} MiB" if size % KIB**2 == 0 else f"{size / KIB:g} KiB"


def notes(found: Curve) -> Sequence[str]:
    """Say where the knees are, what was fitted, and how many points agree."""
    lines = []
    for share, what in (("l1_misses", "first-level misses"), ("walks", "walks")):
        reach = found.reach(share)
        if reach is not None:
            after = next(p.footprint_bytes for p in found.points if p.footprint_bytes > reach)
            where = f"{size_text(reach)} -> {size_text(after)}" if reach else \
                f"below {size_text(after)}"
            lines.append(f"{what} begin: {where}")
    measured = sum(point.measured_ns is not None for point in found.points)
    if measured:
        lines.append(f"within {TOLERANCE * 100} % or {float(TOLERANCE_NS)} ns of the measured "
                     f"column: {found.agreed} of {measured}")
    lines += [f"fitted: {path}: {to}" for path, to in found.machine.fitted.items()]
    return lines
