"""Instructions by which kernels differ: what a policy's paths say beside what was counted.

A counted kernel's ``insn`` is everything it executed. On one hart two kernels of one workload
differ in their policies' paths, in the timer ticks they took meanwhile (an emulator's fence makes
its host slower, and a slower run has more ticks), and in what boots differ in whatever the policy.
So a difference is scored only where it is larger than those two are uncertain:

* a tick costs what it costs in the folder's controls, workloads for which the policies of two
  kernels do the same in every repetition: the median of the instructions per interrupt more;
* the noise of a row is the sum of three: how far its repetitions lie apart, what the ticks between
  its kernels are uncertain by, and what its own workload's control differs in without a cause. Each
  is a median, and none of them knows the prediction.

The prediction is a run of the row's work on a machine on which an instruction is a cycle and all
else is free. Nothing of it is fitted. Left out: other harts, where idle loops count too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median
from typing import Final, TypeAlias

from pysim.engine import Result
from pysim.kernel_counts import SVVPTC, Counted, MissingColumnError
from pysim.machines import Machine
from pysim.scores import Outcome, passed

# ---- fixed before scoring -----------------------------------------------------------------------

TICKS: Final = 5
"""Interrupts by which two kernels differ at least where a control tells what one costs."""
CONTROLS: Final = 3
"""Repetitions of controls that tell it, at least."""

_SPENT: Final = ("map_store_cycles", "mark_cycles", "local_fence_cycles", "user_fence_cycles",
                 "purge_cycles", "initiator_wait_cycles")
_AN_INSTRUCTION: Final = ("fence_all_cycles", "fence_asid_cycles", "fence_va_cycles",
                          "barrier_cycles", "amo_cycles")


def counting(machine: Machine) -> Machine:
    """Return the machine with one cycle an instruction, fences among them, and all else free."""
    free = {field: int(field in _AN_INSTRUCTION) for field in machine.flat()
            if field.endswith("_cycles")}
    return machine.override(free | {"instruction_millicycles": 1000},
                            where="a cycle is an instruction")


def spent(result: Result) -> int:
    """Return what a run on a counting machine spent for its policy. Unit: instructions."""
    return sum(result.counters[counter] for counter in _SPENT)


Predict: TypeAlias = Callable[[Counted], tuple[int, str]]
"""The instructions of a row's paths, and why they are not known, if so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InsnRow:
    """A difference between two kernels in one workload on one hart. Unit: instructions an op."""

    file: str
    more: str
    less: str
    workload: str
    measured: Fraction | None = None
    noise: Fraction | None = None
    predicted: Fraction | None = None
    tick: Fraction | None = None
    """Instructions a tick was taken to cost."""
    reason: str = ""

    @property
    def outcome(self) -> Outcome:
        """``pass``, ``fail``, or ``not scored`` with its reason."""
        if self.reason or self.measured is None or self.noise is None or self.predicted is None:
            return "not scored"
        return passed(abs(self.measured - self.predicted) <= self.noise)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Two kernels in one workload, repetition by repetition."""

    more: tuple[Counted, ...]
    less: tuple[Counted, ...]
    predicted: tuple[int, ...]
    wrong: str

    @property
    def same(self) -> bool:
        """Whether the two policies do the same here, as far as their paths say."""
        return not self.wrong and not any(self.predicted)

    def differences(self, column: str) -> list[int]:
        """Return by how much a column differs, in each repetition."""
        return [a[column] - b[column] for a, b in zip(self.more, self.less, strict=True)]

    def less_ticks(self, tick: Fraction) -> list[Fraction]:
        """Return the differences of instructions without those of the ticks."""
        return [insn - tick * irqs for insn, irqs in zip(
            self.differences("insn"), self.differences("irqs"), strict=True)]


_Place: TypeAlias = tuple[str, str, str, str]
"""File, way of remote fences, boot, workload."""


def compare(rows: Iterable[Counted], pairs: Callable[[Iterable[str]], Iterable[tuple[str, str]]],
            predict: Predict) -> Iterator[InsnRow]:
    """Compare every pair of kernels of one hart in every workload of a folder."""
    places: dict[_Place, dict[str, list[Counted]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.harts == 1 and not (row.negative or row.traced):
            places[row.file, row.via, row.boot, row.workload][row.policy].append(row)
    found: dict[_Place, dict[tuple[str, str], _Pair]] = {}
    for place, kernels in places.items():
        found[place] = {}
        for more, less in pairs(kernels):
            try:
                pair = _pair(kernels[more], kernels[less], predict)
            except MissingColumnError as missing:
                yield _row(place, more, less, reason=str(missing))
                continue
            if not pair.more or not all(row["ops"] for row in pair.more):
                yield _row(place, more, less, reason="no repetition of both with operations in it")
            else:
                found[place][more, less] = pair
    tick = _tick(pair for there in found.values() for pair in there.values() if pair.same)
    for place, there in found.items():
        controls = [pair for pair in there.values() if pair.same]
        for (more, less), pair in there.items():
            if not pair.same:
                yield _scored(place, more, less, pair, controls, tick)


def _pair(more: Sequence[Counted], less: Sequence[Counted], predict: Predict) -> _Pair:
    """Pair the repetitions that both kernels have."""
    by_rep = {row.rep: row for row in less}
    both = [(row, by_rep[row.rep]) for row in more if row.rep in by_rep]
    predicted, reasons = [], []
    for a, b in both:
        for row in (a, b):
            for column in ("insn", "irqs", "ops"):
                _ = row[column]
        (of_more, wrong), (of_less, too) = predict(a), predict(b)
        predicted.append(of_more - of_less)
        reasons += [why for why in (wrong, too) if why]
    return _Pair(more=tuple(a for a, _ in both), less=tuple(b for _, b in both),
                 predicted=tuple(predicted), wrong=reasons[0] if reasons else "")


def _spread(values: Sequence[Fraction]) -> Fraction:
    """Return the median distance from the median."""
    middle = median(values)
    return Fraction(median([abs(value - middle) for value in values]))


def _tick(controls: Iterable[_Pair]) -> tuple[Fraction, Fraction] | None:
    """Return what a tick costs in the controls, and their spread; None where too few tell."""
    costs = [Fraction(insn, irqs) for control in controls for insn, irqs in zip(
        control.differences("insn"), control.differences("irqs"), strict=True)
        if abs(irqs) >= TICKS]
    return (Fraction(median(costs)), _spread(costs)) if len(costs) >= CONTROLS else None


def _row(place: _Place, more: str, less: str, **named: Fraction | str | None) -> InsnRow:
    file, via, boot, workload = place
    return InsnRow(file=file, more=more + " (imsic)" * (via == "imsic"), less=less,
                   workload=f"{workload} {boot}".strip(), **named)  # type: ignore[arg-type]


def _scored(place: _Place, more: str, less: str, pair: _Pair, controls: Sequence[_Pair],
            tick: tuple[Fraction, Fraction] | None) -> InsnRow:
    """Score a pair against what its workload's controls and the ticks leave uncertain."""
    if pair.wrong:
        return _row(place, more, less, reason=pair.wrong)
    each = pair.more[0]["ops"]
    predicted = Fraction(median(pair.predicted)) / each
    if tick is None or not controls:
        return _row(place, more, less, predicted=predicted,
                    reason="no kernels that should not differ say what the noise is")
    cost, uncertain = tick
    measured = pair.less_ticks(cost)
    middle = Fraction(median(measured))
    irqs = Fraction(median([abs(more) for more in pair.differences("irqs")]))
    control = max(Fraction(median([abs(x) for x in other.less_ticks(cost)])) for other in controls)
    noise = _spread(measured) + irqs * uncertain + control
    return _row(place, more, less, measured=middle / each, noise=noise / each,
                predicted=predicted, tick=cost,
                reason="noise: no smaller than what was measured" if noise >= abs(middle) else "")


def pairs_of(policies: Iterable[str], base_of: Callable[[str], str],
             fences_maps: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Yield kernels that differ in one thing: fences of maps, or Svvptc; the one with more first.

    ``base_of`` names the kernel that marks, for one that fences.
    """
    names = list(policies)
    for name in names:
        if fences_maps(name) and base_of(name) in names:
            yield name, base_of(name)
        if name.endswith(SVVPTC) and name.removesuffix(SVVPTC) in names:
            yield name.removesuffix(SVVPTC), name


def table(rows: Iterable[InsnRow]) -> Iterator[Mapping[str, str]]:
    """Yield the rows as text, by column."""
    def said(value: Fraction | None) -> str:
        return "" if value is None else f"{float(value):.1f}"

    for row in rows:
        yield {"file": row.file, "kernels": f"{row.more} - {row.less}", "workload": row.workload,
               "measured": said(row.measured), "noise": said(row.noise),
               "predicted": said(row.predicted), "outcome": row.outcome, "reason": row.reason}
