"""Verdicts that both explorers must give: properties, "" or ``ok`` for verified.

``KNOWN``, ``BROKEN``, ``BY_MACHINE`` and ``ANY`` were found by an independent search, which shares
no code with either explorer; ``EVERYWHERE`` and what follows it are what both of ours say. Lengths
are not compared here: they follow from what counts as a step.
"""

from __future__ import annotations

from pysim import litmus
from pysim.litmus import Parameters

SIX = ("map1", "map2", "remap", "wild", "kstack", "nl")
KNOWN = {
    "none": ("S2", "S2", "S2", "S2", "S4", "S2"),
    "vmalloc-fault": ("", "", "", "", "S4", "S3"),
    "preventive-full": ("", "", "", "", "", ""),
    "preventive-range": ("", "", "", "", "", "S2"),
    "mark-6.12": ("", "S2", "", "S2", "", ""),
    "mark-7.2": ("", "S2", "", "S2", "", ""),
    "mark-barrier": ("", "", "", "", "", ""),
    "mark-switch-in": ("", "", "", "", "", ""),
    "broken-naive-entry": ("", "", "", "", "", ""),
}
# mark-6.12 where Svvptc makes the fence a nop and nothing bounds what is stale
SVVPTC = ("S2", "S2", "S2", "S2", "S4", "S2")

# What refutes each broken variant, and where.
BROKEN = {
    "broken-b1": ("S2", "map2"), "broken-b2": ("S2", "map2"), "broken-b3": ("S2", "map2"),
    "broken-b4": ("S4", "kstack"), "broken-b5": ("S2", "map1"), "broken-b6": ("S2", "map1"),
    "broken-b7": ("S2", "map2"), "broken-b8": ("S2", "map1"), "broken-b9": ("S3", "wild"),
    "broken-b10": ("S2", "map1"), "broken-b11": ("S2", "map1"), "broken-b12": ("S2", "map1"),
    "broken-u1": ("S1", "remap"), "broken-u2": ("S1", "remap"), "broken-u3": ("S1", "remap"),
}

# map2 on other machines, in the order of MACHINES.
MACHINES = (Parameters(), Parameters(order="tso"), Parameters(order="sc"),
            Parameters(invalid="reorder"), Parameters(invalid="none"))
BY_MACHINE = {
    "none": ("S2", "S2", "S2", "S2", ""),
    "vmalloc-fault": ("", "", "", "", ""),
    "preventive-full": ("", "", "", "", ""),
    "mark-7.2": ("S2", "", "", "S2", ""),
    "mark-barrier": ("", "", "", "", ""),
    "broken-b10": ("S2", "S2", "S2", "", ""),
}

# Any number of harts: a page, then a stack.
ANY = {
    "mark-barrier": ("", "S4"), "mark-switch-in": ("", ""), "preventive-full": ("", ""),
    "mark-7.2": ("S2", "S4"), "broken-b1": ("S2", "S4"), "broken-b2": ("S2", "S4"),
    "broken-b3": ("S2", "S4"), "broken-b7": ("S2", "S4"), "broken-b8": ("S2", "S4"),
    "broken-b10": ("S2", "S4"), "broken-u1": ("S1", "S4"), "broken-u2": ("S1", "S4"),
    "broken-u3": ("S1", "S4"),
}


def _table(text: str) -> dict[str, tuple[str, ...]]:
    rows = [line.split() for line in text.strip().splitlines()]
    assert rows[0] == ["policy", *litmus.names()]
    return {row[0]: tuple("" if cell == "ok" else cell for cell in row[1:]) for row in rows[1:]}


_NAMES = "policy " + " ".join(litmus.names()) + "\n"
# Everything the manual allows, two harts.
EVERYWHERE = _table(_NAMES + """none                 S2 S2 S2 S2 S2 S4 S4 S4 S2 S2 S2
vmalloc-fault        ok ok ok ok ok S4 S4 S4 S4 ok S3
preventive-full      ok ok ok ok ok ok ok ok ok DL ok
preventive-range-6.7 ok ok ok ok ok ok ok ok ok DL S2
preventive-range     ok ok ok ok ok ok ok ok ok DL S2
mark-6.12            ok S2 S2 ok S2 ok S4 S4 ok ok ok
mark-7.2             ok S2 S2 ok S2 ok S4 S4 ok ok ok
mark-barrier         ok ok ok ok ok ok S4 S4 ok ok ok
mark-switch-in       ok ok ok ok ok ok ok ok ok ok ok
deferred             ok S2 S2 ok S2 ok S4 S4 ok ok ok
arm64                S3 S3 S3 S3 S3 S4 S4 S4 S4 S3 S3
x86-64               S2 S2 S2 S2 S2 S4 S4 S4 S2 S2 S2
powerpc              S2 S2 S2 S2 S2 S4 S4 S4 S2 S2 S2
broken-naive-entry   ok ok ok ok ok ok S4 S4 ok ok ok
broken-b1            ok S2 S2 ok ok ok S4 S4 ok ok ok
broken-b2            ok S2 S2 ok ok ok S4 S4 ok ok ok
broken-b3            ok S2 S2 ok S2 ok S4 S4 S2 ok S2
broken-b4            ok ok ok ok ok S4 S4 S4 ok ok ok
broken-b5            S2 S2 S2 S2 S2 S4 S4 S4 S2 S2 S2
broken-b6            S2 S2 S2 S2 S2 S4 S4 S4 S2 S2 S2
broken-b7            ok S2 S2 ok S2 ok S4 S4 ok ok ok
broken-b8            S2 S2 S2 S2 S2 S4 S4 S4 S2 S2 S2
broken-b9            ok ok ok ok S3 ok S4 S4 S3 ok ok
broken-b10           S2 S2 S2 S2 S2 S4 S4 S4 S2 S2 S2
broken-b11           S2 S2 S2 S2 S2 S4 S4 S4 S2 DL S2
broken-b12           S2 S2 S2 S2 S2 S4 S4 S4 S2 S2 S2
broken-b13           S2 S2 S2 S2 S2 S4 S4 S4 S2 S2 S2
broken-b14           S2 S2 S2 S2 S2 S4 S4 S4 S2 S2 S2
broken-b15           ok S2 S2 ok S2 ok S4 S4 ok ok ok
broken-u1            ok ok ok S1 ok ok S4 S4 ok ok ok
broken-u2            ok ok ok S1 ok ok S4 S4 ok ok ok
broken-u3            ok ok ok S1 ok ok S4 S4 ok ok ok
""")

# One entry a page: where it differs, it is verified. Only kret differs: there a valid entry has
# answered before a stale one does, which needs two.
SINGLE = {name: tuple("" if where == "kret" and row[litmus.names().index("kstack")] == "" else cell
                      for where, cell in zip(litmus.names(), row, strict=True))
          for name, row in EVERYWHERE.items()}

# Svvptc, a stale entry answering once, and twice.
SVVPTC_K = {
    1: _table(_NAMES + """none                 S2 S2 S2 S2 S2 S2 S4 S2 S2 S2 S2
vmalloc-fault        ok ok ok ok ok ok S4 S4 ok ok ok
preventive-full      ok ok ok ok ok ok ok ok ok DL ok
preventive-range     ok ok ok ok ok ok ok ok ok DL S2
mark-6.12            ok S2 S2 ok S2 ok S4 S4 S2 ok S2
mark-7.2             ok S2 S2 ok S2 ok S4 S4 ok ok ok
mark-barrier         ok ok ok ok ok ok S4 S4 ok ok ok
mark-switch-in       ok ok ok ok ok ok ok ok ok ok ok
"""),
    2: _table(_NAMES + """none                 S2 S2 S2 S2 S2 S4 S4 S4 S2 S2 S2
vmalloc-fault        ok ok ok ok ok S4 S4 S4 ok ok ok
preventive-full      ok ok ok ok ok ok ok ok ok DL ok
preventive-range     ok ok ok ok ok ok ok ok ok DL S2
mark-6.12            S2 S2 S2 S2 S2 S2 S4 S4 S2 S2 S2
mark-7.2             ok S2 S2 ok S2 ok S4 S4 ok ok ok
mark-barrier         ok ok ok ok ok ok S4 S4 ok ok ok
mark-switch-in       ok ok ok ok ok ok ok ok ok ok ok
"""),
}
