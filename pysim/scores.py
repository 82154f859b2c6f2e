"""Rows of the scoreboard: one prediction beside one measurement, what went in, how it came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias

from pysim.machines import Machine

Role: TypeAlias = Literal["input", "fitted", "predicted"]
Outcome: TypeAlias = Literal["pass", "fail", "input", "fitted", "not scored", "not modelled"]
Number: TypeAlias = "int | Fraction"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One number behind a row: ``role`` says whether it was measured, fitted or assumed."""

    name: str
    value: str
    role: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One prediction beside one measurement."""

    group: str
    what: str
    role: Role
    measured: str
    predicted: str
    tolerance: str
    outcome: Outcome
    source: str
    reason: str = ""
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoreboard:
    """All rows, in the order of the groups."""

    rows: tuple[Score, ...]

    @property
    def ok(self) -> bool:
        """Whether something passed and nothing failed or is not modelled."""
        outcomes = Counter(row.outcome for row in self.rows)
        return bool(outcomes["pass"]) and not (outcomes["fail"] or outcomes["not modelled"])

    @property
    def summary(self) -> str:
        """One line: how many rows passed, failed, were inputs, were not scored."""
        outcomes = Counter(row.outcome for row in self.rows)
        scored = outcomes["pass"] + outcomes["fail"]
        rest = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items())
                         if outcome not in ("pass", "fail"))
        return f"{outcomes['pass']} of {scored} scored rows pass" + (f"; {rest}" if rest else "")


def text(value: Number, unit: str = "") -> str:
    """Print up to four digits; whole numbers whole."""
    number = float(value)
    whole = number.is_integer() or abs(number) >= 1000
    said = f"{number:,.0f}" if whole else f"{number:.3g}"
    return f"{said} {unit}".strip()


def percent(value: Number) -> str:
    """Print a part of 1 in percent."""
    return f"{text(value * 100)} %"


def passed(good: bool) -> Outcome:
    """Return the outcome of a row that was scored."""
    return "pass" if good else "fail"


def role_of(source: str) -> str:
    """Return whether a value was measured, fitted or assumed, from who vouches for it."""
    return next((role for role in ("assumed", "fitted") if source.startswith(role)), "input")


def of_machine(machine: Machine, fields: Iterable[str], roles: Mapping[str, str] | None = None,
                ) -> Iterator[Parameter]:
    """Yield fields of a machine with who vouches for them."""
    for field in fields:
        source = machine.provenance(field)
        role = (roles or {}).get(field) or role_of(source)
        yield Parameter(name=f"{machine.name}: {field}", value=str(machine.flat()[field]),
                        role=role, source=source)
