"""The privileged manual's page walk, read slowly. Imports nothing of ours: it judges the engine.

Source: riscv-isa-manual 1d472b8, src/priv/supervisor.adoc, "Virtual Address Translation Process",
whose steps are numbered in the code; svnapot.adoc, svpbmt.adoc. Without PMP, hypervisor, shadow
stacks (step 7), pointer masking and Svrsw60t59b.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

PAGESIZE = 4096
PTESIZE = 8
VA_BITS = {3: 39, 4: 48, 5: 57}
PAGE_FAULT = {"x": 12, "r": 13, "w": 15}
ACCESS_FAULT = {"x": 1, "r": 5, "w": 7}

Read = Callable[[int], int | None]
"""The 64-bit word at a physical address; None when there is no memory."""


@dataclass(frozen=True, kw_only=True)
class Mode:
    """What the walk depends on besides the tree, the address and the access."""

    levels: int
    satp_ppn: int
    privilege: str  # "U" or "S"
    sum: bool = False
    mxr: bool = False
    svadu: bool = False
    svnapot: bool = False
    svpbmt: bool = False


@dataclass(frozen=True, kw_only=True)
class Walked:
    """How a walk ended. ``step`` is the manual's; 0 is the check of the address before step 1.

    ``level`` is that of the last PTE read, ``pte`` its value before any update; ``cause`` is 0 when
    the translation succeeded (step 10), and only then pa .. g and ``after`` mean something.
    """

    step: int
    why: str
    cause: int
    level: int
    reads: tuple[int, ...]
    pte: int = 0
    pa: int = 0
    size: int = 0
    pbmt: int = 0
    g: int = 0
    after: tuple[tuple[int, int], ...] = ()


def bits(word: int, high: int, low: int) -> int:
    """word[high:low]"""
    return word % (1 << high + 1) >> low


def is_canonical(va: int, levels: int) -> bool:
    """Bits 63 and down to VA_BITS - 1 are all equal."""
    top = bits(va, 63, VA_BITS[levels] - 1)
    return top in (0, (1 << 65 - VA_BITS[levels]) - 1)


def reserved(pte: int, level: int, mode: Mode) -> str:
    """What is reserved for future standard use in a PTE with V = 1; "" when nothing."""
    r, w, x = bits(pte, 1, 1), bits(pte, 2, 2), bits(pte, 3, 3)
    if not r and w:
        return "r=0 w=1"
    if bits(pte, 58, 54):
        return "bits 58:54"
    if bits(pte, 60, 59):
        return "bits 60:59"
    n, pbmt = bits(pte, 63, 63), bits(pte, 62, 61)
    if not r and not x:
        for name, value in (("u", bits(pte, 4, 4)), ("a", bits(pte, 6, 6)), ("d", bits(pte, 7, 7)),
                            ("pbmt", pbmt), ("n", n)):  # fmt: skip
            if value:
                return f"{name} in a pointer"
        return ""
    if pbmt and not mode.svpbmt:
        return "pbmt without Svpbmt"
    if pbmt == 3:
        return "pbmt=3"
    if n and not mode.svnapot:
        return "n without Svnapot"
    if n and (level > 0 or bits(pte, 13, 10) != 0b1000):
        return "n with another size"
    return ""


def allowed_by_u(pte: int, access: str, mode: Mode) -> bool:
    """Step 6."""
    if mode.privilege == "U":
        return bits(pte, 4, 4) == 1
    if bits(pte, 4, 4) == 0:
        return True
    return access != "x" and mode.sum


def allowed_by_rwx(pte: int, access: str, mode: Mode) -> bool:
    """Step 8."""
    if access == "x":
        return bits(pte, 3, 3) == 1
    if access == "w":
        return bits(pte, 2, 2) == 1
    return bits(pte, 1, 1) == 1 or (mode.mxr and bits(pte, 3, 3) == 1)


def walk(read: Read, va: int, access: str, mode: Mode) -> Walked:
    """Translate va for an access "r", "w" or "x"."""
    reads: list[int] = []
    pte = 0

    def fault(step: int, why: str, level: int, causes: dict[str, int] = PAGE_FAULT) -> Walked:
        cause = causes[access]
        return Walked(step=step, why=why, cause=cause, level=level, reads=tuple(reads), pte=pte)

    if not is_canonical(va, mode.levels):
        return fault(0, "not canonical", mode.levels - 1)
    a = mode.satp_ppn * PAGESIZE  # 1
    i = mode.levels - 1
    while True:
        address = a + bits(va, 20 + 9 * i, 12 + 9 * i) * PTESIZE  # 2
        reads.append(address)
        value = read(address)
        if value is None:
            return fault(2, "no memory", i, ACCESS_FAULT)
        pte = value
        if bits(pte, 0, 0) == 0:  # 3
            return fault(3, "v=0", i)
        if why := reserved(pte, i, mode):
            return fault(3, why, i)
        if bits(pte, 1, 1) or bits(pte, 3, 3):  # 4
            break
        i = i - 1
        if i < 0:
            return fault(4, "i<0", 0)
        a = bits(pte, 53, 10) * PAGESIZE
    if i > 0 and bits(pte, 9 + 9 * i, 10) != 0:  # 5
        return fault(5, "misaligned", i)
    if not allowed_by_u(pte, access, mode):
        return fault(6, "u", i)
    if not allowed_by_rwx(pte, access, mode):
        return fault(8, "rwx", i)
    new = pte
    if bits(pte, 6, 6) == 0 or (access == "w" and bits(pte, 7, 7) == 0):  # 9
        if not mode.svadu:
            return fault(9, "a or d", i)
        new = pte | 1 << 6 | (access == "w") << 7
    size = PAGESIZE * 512**i  # 10
    base = bits(pte, 53, 10) * PAGESIZE
    if bits(pte, 63, 63):
        size = 16 * PAGESIZE
        base -= 8 * PAGESIZE
    return Walked(
        step=10,
        why="",
        cause=0,
        level=i,
        reads=tuple(reads),
        pte=pte,
        pa=base + va % size,
        size=size,
        pbmt=bits(pte, 62, 61),
        g=bits(pte, 5, 5),
        after=((address, new),) if new != pte else (),
    )
