"""Predicted beside counted, from event logs: every fence of a workload, and the other policy's.

A window of a log holds what the kernel did (maps, frees, purges, user faults, flushes, switches of
address space) and every fence that followed. What it did is replayed under the policy it had; the
fences of each kind, the calls and the harts they addressed are compared with those in the log.
Inputs are the events and, of flushes, how far they reached; the harts each address space had run on
follow from its switches. Local fences of the kernel without a cause (harts that come up, text that
is patched) are the same under every policy, and taken from the log.

The same window under another policy is compared with what that policy's own kernels counted of the
workload, scaled to as many maps or operations: the events are of one kernel, the counts of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final, TypeAlias

from pysim.eventlog import BOOT, Window
from pysim.ftrace import Alloc, Event, Exit, Fork, Free, Purge, Switch, Trace
from pysim.kernel_counts import Counted

FENCES: Final[Mapping[str, str]] = {
    "S_full": "fences_full", "S_addr": "fences_addr", "S_asid": "fences_asid",
    "S_addr_asid": "fences_addr_asid",
}
"""Column -> counter: fences that the kernel executed."""

CALLS: Final[Mapping[str, str]] = {
    "rf_calls": "remote_fence_calls", "rf_targets": "remote_fence_targets",
    "user calls": "remote_user_calls", "user targets": "remote_user_targets",
}
"""Column -> counter: remote fences that went through SBI."""

KERNEL: Final[Mapping[str, str]] = {
    "rf_kern": "remote_fence_calls", "kernel targets": "remote_fence_targets",
}
"""Column -> counter of a run of the kernel's mappings alone."""

Run: TypeAlias = Callable[[Trace], Mapping[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One number of a log beside ours; ``reason`` says why it is not scored, if so."""

    what: str
    measured: int | None
    predicted: int | None
    reason: str = ""


def kernel_alone(window: Window) -> Window:
    """Return the window with its kernel mappings and tasks, without the user side and flushes."""
    kept: list[Event] = [event for event in window.events
                         if isinstance(event, Alloc | Free | Purge | Switch | Fork | Exit)]
    return replace(window, events=kept, masks={}, running={})


def predict(window: Window, harts: int, via: str, run: Run) -> Mapping[str, int]:
    """Replay a window; return what it fences, by the columns of the tables of counts.

    ``run`` gives the counters of a recording under the policy in question.
    """
    def counters(part: Window, name: str) -> Mapping[str, int]:
        if not any(isinstance(event, Alloc | Free | Purge) for event in part.events) and (
                part is not window or not part.events):
            return dict.fromkeys((*FENCES.values(), *CALLS.values()), 0)
        return run(part.trace(name, harts))

    whole = counters(window, window.workload)
    columns = {column: whole[counter] + window.others[column]
               for column, counter in FENCES.items()}
    if harts > 1 and via == "sbi":
        kernel = counters(kernel_alone(window), window.workload)
        columns |= {column: kernel[counter] for column, counter in KERNEL.items()}
        columns |= {column: whole[counter] for column, counter in CALLS.items()}
    return columns


def compare(window: Window, predicted: Mapping[str, int]) -> Iterable[Compared]:
    """Compare a window with the fences in it."""
    for column, value in predicted.items():
        yield Compared(what=column, measured=window.counted[column], predicted=value)


def against_row(window: Window, predicted: Mapping[str, int], row: Counted) -> Iterable[Compared]:
    """Compare the row of counts of the same run, counted by other means than the log."""
    reason = ""
    if window.counted["S_sfence"] != row["S_sfence"]:
        reason = (f"the log of this run has {window.counted['S_sfence']} fences, the row "
                  f"{row['S_sfence']}: the windows differ")
    for column, value in predicted.items():
        if column in row.counts and column != "rf_kern":        # that is compared for every row
            yield Compared(what=f"{column} by the log", measured=row[column], predicted=value,
                           reason=reason)


# ---- the other policy ---------------------------------------------------------------------------

SPURIOUS: Final = ("with Svvptc a write that meets a stale entry faults once more, which a kernel "
                   "without it did not do")


UNTOLD: Final = "with Svvptc a fault leaves no fence that tells how many pages it installed"


def crossed(window: Window, ops: int, predicted: Mapping[str, int], rows: Sequence[Counted], *,
            of_svvptc: bool, svvptc: bool, fences_maps: bool) -> Iterable[Compared]:
    """Compare a window of one policy under another with that policy's own rows of the workload.

    Kernel calls are scaled to as many maps, beside the purges that are the window's own; fences of
    the user side to as many operations. ``of_svvptc``, ``svvptc``: whether the log's CPU and the
    other kernel's had it.
    """
    if window.workload == BOOT or not rows or not ops:
        return
    maps = sum(isinstance(event, Alloc) for event in window.events)
    purges = sum(isinstance(event, Purge) for event in window.events)
    if "rf_kern" in predicted:
        rates = {Fraction(row["rf_kern"] - row["__purge_vmap_area_lazy"], row["alloc_vmap_area"])
                 for row in rows if row["alloc_vmap_area"]}
        yield _scaled("rf_kern", rates, maps, predicted["rf_kern"], purges)
    if len({Fraction(row["copy_process"], row["ops"]) for row in rows if row["ops"]}) > 1:
        return
    for column in FENCES:
        of_maps = fences_maps and "rf_kern" not in predicted
        if column == "S_full" or (column == "S_addr" and of_maps):
            continue            # maps and purges differ in number from run to run
        rates = {Fraction(row[column], row["ops"]) for row in rows if row["ops"]}
        row = _scaled(column, rates, ops, predicted[column])
        if column == "S_addr_asid" and svvptc and not of_svvptc:
            row = replace(row, reason=SPURIOUS)
        elif column == "S_addr" and of_svvptc and not svvptc:
            row = replace(row, reason=UNTOLD)
        yield row


def _scaled(column: str, rates: set[Fraction], times: int, predicted: int,
            more: int = 0) -> Compared:
    if len(rates) != 1:
        return Compared(what=column, measured=None, predicted=predicted, reason=(
            "that policy's own kernels differ between repetitions" if rates else
            "that policy's own kernels mapped nothing"))
    (rate,) = rates
    measured = rate * times + more
    if measured.denominator != 1:
        return Compared(what=column, measured=None, predicted=predicted,
                        reason="that policy's own kernels counted no whole number an operation")
    return Compared(what=column, measured=int(measured), predicted=predicted)
