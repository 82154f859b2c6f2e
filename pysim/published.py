"""Numbers that others measured and published, each with its source; predictions are scored by them.

Nothing here is an input of a machine or a policy. "hardware.md" and "kernel.md" are the fact sheets
(see docs/model.md, Sources).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Fences of one benchmark before and after the lazy and Svvptc patches, and the gain in time.

    ``before`` and ``after`` count fence requests: one per local fence, size / 4 KiB or 1 per call
    of the firmware, not times harts. ``gain`` is the part of the time that was saved; ``note`` what
    a reader of that number should know.
    """

    name: str
    workload: str
    before: int
    after: int
    gain: Fraction
    note: str = ""


SERIES_SOURCE: Final = ("A. Ghiti, 'Remove preventive sfence.vma', v4 20240717060125.139416-1 "
                        "(kernel.md 5, hardware.md c.2): a core that caches no invalid entry, 6.5")

SERIES: Final = (
    Series(name="Ubuntu boot to login", workload="boot-login", before=630_000, after=200_000,
           gain=Fraction(6, 100)),
    Series(name="ltp mmapstress01", workload="mmapstress01", before=45_000, after=6_300,
           gain=Fraction(8, 100),
           note="ltp's mmapstress01 runs until it is stopped: what the 8 % are of is not said"),
    Series(name="lmbench lat_pagefault", workload="lat-pagefault", before=665_000, after=832,
           gain=Fraction(20, 100)),
    Series(name="lmbench lat_mmap", workload="lat-mmap", before=546_000, after=718,
           gain=Fraction(5, 100),
           note="lmbench writes pages of a shared file, the counted program anonymous ones: its "
                "faults may be dearer, and so the fence"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """Cycles of SBI calls on one hart of a SpacemiT K1, by call."""

    name: str
    impl_id: int
    marchid: int
    page_self: int
    pages_16_self: int
    all_self: int
    asid_page_self: int
    asid_all_self: int


K1_SOURCE: Final = "rustsbi/rustsbi pull request 277, SpacemiT K1 (hardware.md c.6)"

K1: Final = (
    Firmware(name="RustSBI", impl_id=217, marchid=225, page_self=619, pages_16_self=853,
             all_self=853, asid_page_self=617, asid_all_self=1362),
    Firmware(name="OpenSBI", impl_id=282, marchid=281, page_self=1281, pages_16_self=1481,
             all_self=1478, asid_page_self=1291, asid_all_self=2016),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shootdowns:
    """Time of one remote fence against the harts it addresses: (harts, nanoseconds)."""

    name: str
    source: str
    points: tuple[tuple[int, int], ...]


SHOOTDOWNS: Final = (
    Shootdowns(name="Haswell, madvise and touch less one thread's",
               source="N. Amit, RFC 'flush remote and local TLBs concurrently', 2019 "
                      "(hardware.md c.4): 661, 1436, 1571 ns",
               points=((2, 1436 - 661), (4, 1571 - 661))),
    Shootdowns(name="LATR, IPIs of 2 and 8 sockets",
               source="Kumar et al., ASPLOS'18 (hardware.md c.7): 2.7 us at 16, 6.6 us at 120",
               points=((16, 2700), (120, 6600))),
)
