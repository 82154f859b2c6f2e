"""Mapping policies: what the kernel owes after it stored a PTE. The family ends in its table."""

from __future__ import annotations

from typing import Final

from pysim.errors import InputError
from pysim.ops import Policy
from pysim.policies import elsewhere, linux, older, proposed
from pysim.policies.broken import BROKEN

POLICIES: Final[tuple[Policy, ...]] = (
    linux.IDEAL,
    linux.NONE,
    older.VMALLOC_FAULT,
    older.PREVENTIVE_FULL,
    older.PREVENTIVE_RANGE_6_7,
    linux.PREVENTIVE_RANGE,
    linux.MARK_6_12,
    linux.MARK_7_2,
    linux.MARK_BARRIER,
    proposed.MARK_SWITCH_IN,
    proposed.DEFERRED,
    elsewhere.ARM64,
    elsewhere.X86_64,
    elsewhere.POWERPC,
    *BROKEN,
)


def names() -> list[str]:
    """Return the names of all policies, in the table's order."""
    return [policy.name for policy in POLICIES]


def find(name: str, *, where: str = "options") -> Policy:
    """Return the policy of that name.

    Raises InputError, with the nearest valid name, when there is none.
    """
    for policy in POLICIES:
        if policy.name == name:
            return policy
    raise InputError(where, "policy", f"unknown policy {name!r}", got=name, nearest=names())
