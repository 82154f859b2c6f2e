"""Machines: hardware presets as data with sources, and the model they are validated by.

One TOML file per preset lies beside this file (its form: ``pysim.sourced``); what they share is in
``common.toml``. A machine of one's own is such a file with ``inherit = "PRESET"``.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

from pysim import sourced
from pysim.machines.model import Array, Machine, Pwc, Tlb, build, description, unit

__all__ = [
    "PRESETS", "Array", "Machine", "Pwc", "Tlb", "build", "description", "load", "loads", "read",
    "unit",
]

PRESETS: Final = (
    "rocket",
    "boom-mega",
    "cva6",
    "xs-nanhu",
    "xs-kmh",
    "c906",
    "c910",
    "sg2042",
    "u74",
    "p550",
    "x60",
    "naxriscv",
    "vexii",
    "blackparrot",
)

_READ: Final = sourced.reader(Path(__file__).parent, PRESETS, "machine")


@lru_cache(maxsize=256)
def _preset(name: str) -> Machine:
    facts = sourced.load(name, read=_READ)
    facts.header.setdefault("name", name)
    return build(facts, f"machine {name}")


def read(name: str | Path) -> tuple[str, str]:
    """Return the text of a preset or of somebody's file, and how complaints name it."""
    return _READ(str(name))


def load(name: str | Path) -> Machine:
    """Return a preset by its name, or the machine of a TOML file by its path.

    Raises InputError: unknown name (with the nearest one), unknown key, impossible value.
    """
    text = str(name)
    if text in PRESETS:
        return _preset(text)
    facts = sourced.load(text, read=_READ)
    facts.header.setdefault("name", Path(text).stem)
    return build(facts, text)


def loads(text: str, where: str) -> Machine:
    """Return the machine of a TOML text; ``where`` names it in complaints and sources."""
    facts = sourced.loads(text, where, read=_READ)
    facts.header.setdefault("name", where)
    return build(facts, where)
