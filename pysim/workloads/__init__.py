"""Workloads: what the harts do while the kernel maps. The family ends in its table.

One TOML file per preset lies beside this file (its form: ``pysim.sourced``); what they share is in
``common.toml``. A workload of one's own is such a file with ``inherit = "PRESET"``.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

from pysim import sourced
from pysim.workloads.model import Workload, build, unit

__all__ = ["WORKLOADS", "Workload", "build", "load", "loads", "unit"]

WORKLOADS: Final = (
    "fork",
    "threads",
    "mixed",
    "vmalloc-stress",
    "lat-pagefault",
    "boot",
    "boot-login",
    "server",
    "idle",
    "forkburst",
    "forkexec",
    "bpf",
    "modload",
    "vmalloc-test",
    "lat-mmap",
    "mmapstress01",
)

_READ: Final = sourced.reader(Path(__file__).parent, WORKLOADS, "workload")


@lru_cache(maxsize=64)
def _preset(name: str) -> Workload:
    facts = sourced.load(name, read=_READ)
    facts.header.setdefault("name", name)
    return build(facts, f"workload {name}")


def load(name: str | Path) -> Workload:
    """Return a preset by its name, or the workload of a TOML file by its path.

    Raises InputError: unknown name (with the nearest one), unknown key, impossible value.
    """
    text = str(name)
    if text in WORKLOADS:
        return _preset(text)
    facts = sourced.load(text, read=_READ)
    facts.header.setdefault("name", Path(text).stem)
    return build(facts, text)


def loads(text: str, where: str) -> Workload:
    """Return the workload of a TOML text; ``where`` names it in complaints and sources."""
    facts = sourced.loads(text, where, read=_READ)
    facts.header.setdefault("name", where)
    return build(facts, where)
