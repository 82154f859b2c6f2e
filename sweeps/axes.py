"""Axes: what a sweep varies, one at a time, in pairs, or drawn; and the conditions on them.

Every way of varying becomes *groups*: rows of values that are set together. A plain axis is a group
of one; zipped axes advance in step; a sample is one row per drawn point. A sweep asks the product
of its groups, less what a condition leaves out. Conditions are data, never code: a table of axes
and what their values must be.

Left out: what a value means. A scenario says that.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pysim.errors import InputError
from pysim.machines import Machine
from pysim.scenario import Scenario
from pysim.workloads import Workload

Label: TypeAlias = "str | int | float"
NOT_ASKED: Final = "-"
"""The label of a conditional axis where its condition does not hold: it sets nothing there."""
INSIDE: Final[dict[str, type[BaseModel]]] = {"machine": Machine, "workload": Workload}
_NOT_BASE: Final = ("replicate",)
_DIGITS: Final = 6
"""Drawn and spaced fractions are rounded to so many digits: what is shown is what is run."""


class Strict(BaseModel):
    """A table of a sweep file: nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _round(value: float, whole: bool) -> int | float:
    return round(value) if whole else float(f"{value:.{_DIGITS}g}")


class Span(Strict):
    """Numbers between two ends; whole numbers when both ends are."""

    start: float = Field(alias="from", description="one end, included")
    to: float = Field(description="the other end, included")
    scale: Literal["linear", "log"] = Field(default="linear", description="even in x, or in log x")

    @model_validator(mode="after")
    def _positive(self) -> Span:
        if self.scale == "log" and min(self.start, self.to) <= 0:
            raise ValueError("a log scale has positive ends")
        return self

    @property
    def whole(self) -> bool:
        """Whether both ends are whole numbers."""
        return self.start == int(self.start) and self.to == int(self.to)

    def at(self, part: float) -> int | float:
        """Return the value so far (0 to 1) from one end to the other."""
        if self.scale == "log":
            low, high = math.log(self.start), math.log(self.to)
            return _round(math.exp(low + part * (high - low)), self.whole)
        return _round(self.start + part * (self.to - self.start), self.whole)


class Range(Span):
    """An axis of numbers from one end to the other: ``steps`` evenly spaced, or ``random`` ones."""

    steps: Annotated[int, Field(strict=True, ge=2, le=1_000_000)] | None = Field(
        default=None, description="how many values, both ends included")
    random: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None = Field(
        default=None, description="how many values drawn independently instead")
    seed: Annotated[int, Field(strict=True, ge=0)] = Field(
        default=1, description="of the draws of `random`; not the seed of any run")
    when: dict[str, Any] | None = Field(
        default=None, description="a condition on other axes; elsewhere the axis sets nothing")

    @model_validator(mode="after")
    def _one_way(self) -> Range:
        if (self.steps is None) == (self.random is None):
            raise ValueError("give either `steps` or `random`")
        return self

    def values(self) -> list[int | float]:
        """Return the values, each once."""
        if self.random is not None:
            draw = random.Random(self.seed)
            parts = [draw.random() for _ in range(self.random)]
        else:
            assert self.steps is not None
            parts = [i / (self.steps - 1) for i in range(self.steps)]
        return list(dict.fromkeys(self.at(part) for part in parts))


class Listed(Strict):
    """An axis written out as a table: its values, and a condition."""

    values: list[Any] = Field(description="the values, as in a plain list")
    when: dict[str, Any] | None = Field(
        default=None, description="a condition on other axes; elsewhere the axis sets nothing")


class Sample(Strict):
    """Axes whose values are drawn together, so many points of all of them."""

    method: Literal["random", "lhs", "sobol"] = Field(
        description="independent draws, a Latin hypercube, or a scrambled Sobol sequence "
        "(scipy.stats.qmc; a power of two of points is best)")
    points: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = Field(
        description="how many points")
    seed: Annotated[int, Field(strict=True, ge=0)] = Field(
        default=1, description="of the design; not the seed of any run")
    axes: dict[str, Any] = Field(
        description="field -> { from, to, scale } or a list of values, equally likely")


@dataclass(frozen=True, slots=True)
class Value:
    """One value of an axis: what it is called and what it sets, by dotted path."""

    label: Label
    sets: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Axes that advance together: one value for each name in every row."""

    names: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    drawn: bool = False
    when: Condition | None = None


# ---- fields of a scenario ---------------------------------------------------------------------


def field_names() -> list[str]:
    """Return the fields of a scenario that a sweep may set."""
    return [name for name in Scenario.model_fields if name not in _NOT_BASE]


def check_path(path: str) -> None:
    """Raise InputError (key relative to the file) unless a scenario has a field of this path."""
    first, _, rest = path.partition(".")
    if first not in field_names():
        raise InputError("", path, "no field of a scenario", got=first, nearest=field_names())
    model = INSIDE.get(first)
    name = rest.partition(".")[0]
    if not rest:
        return
    if model is None:
        raise InputError("", path, f"{first} has no fields inside")
    if name not in model.model_fields:
        raise InputError("", path, f"{first} has no field of this name", got=name,
                         nearest=model.model_fields)


# ---- values -----------------------------------------------------------------------------------


def axis(name: str, given: Any) -> Group:
    """Return the group of one axis. Raises InputError with the key inside `axes`."""
    when = None
    if isinstance(given, Mapping) and "from" in given:
        check_path(name)
        chosen = _validated(Range, given, name)
        values = [Value(value, {name: value}) for value in chosen.values()]
        return Group((name,), tuple((value,) for value in values), chosen.random is not None,
                     _condition(chosen.when, name))
    if isinstance(given, Mapping) and "values" in given:
        listed = _validated(Listed, given, name)
        when, given = _condition(listed.when, name), listed.values
    if not isinstance(given, list) or not given:
        raise InputError("", name, "an axis is a list of values, or a range { from, to, steps, "
                         f"scale }}, got {given!r}")
    return Group((name,), tuple((value,) for value in _values(name, given)), when=when)


def _condition(given: Mapping[str, Any] | None, name: str) -> Condition | None:
    return None if given is None else Condition.read(given, f"{name}.when")


def _values(name: str, given: Sequence[Any], *, twice: bool = False) -> list[Value]:
    """Return labelled values of one axis; ``twice``: a value may stand there more than once."""
    joint = name.partition(".")[0] not in field_names()
    if joint and not all(isinstance(value, Mapping) and "label" in value for value in given):
        raise InputError("", name, "no field of a scenario; an axis of a name of your own is a "
                         "list of tables with a `label`", got=name, nearest=field_names())
    if not joint:
        check_path(name)
    values = [_joint_value(name, i, v) if joint else _plain_value(name, v)
              for i, v in enumerate(given)]
    seen: set[Label] = set()
    for value in values:
        if value.label in seen and not twice:
            raise InputError("", name, f"{value.label!r} stands there twice; tell them apart by a "
                             "`label`")
        seen.add(value.label)
    return values


def _validated(model: type[Any], given: Mapping[str, Any], name: str) -> Any:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise next(complaints(error, given, model, name)) from None


def complaints(error: ValidationError, given: Any, model: type[BaseModel],
               prefix: str = "") -> Iterator[InputError]:
    """Say each of pydantic's complaints in our form; ``prefix`` is where the table stands."""
    for one in error.errors(include_url=False):
        path = [str(part) for part in one["loc"]]
        key = ".".join([prefix, *path] if prefix else path)
        if one["type"] == "extra_forbidden":
            fields = _fields_at(model, path[:-1])
            yield InputError("", key, f"unknown key; valid: {', '.join(fields)}", got=path[-1],
                             nearest=fields)
        elif one["type"] == "missing":
            yield InputError("", key, "is not given")
        elif one["type"] == "value_error":
            yield InputError("", key, one["msg"].removeprefix("Value error, "))
        else:
            reason = one["msg"][:1].lower() + one["msg"][1:]
            yield InputError("", key, f"{reason}, got {one['input']!r}")


def _fields_at(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Return the keys of the table at a path of a model."""
    for part in path:
        said = model.model_fields[part].annotation if part in model.model_fields else None
        for one in (said, *get_args(said)):   # X, or X | None
            if isinstance(one, type) and issubclass(one, BaseModel):
                model = one
    return [field.alias or name for name, field in model.model_fields.items() if not field.exclude]


def _joint_value(name: str, number: int, given: Mapping[str, Any]) -> Value:
    sets = {}
    for path, value in flat(given).items():
        if path != "label":
            try:
                check_path(path)
            except InputError as error:
                raise error.inside("", f"{name}[{number}]") from None
            sets[path] = value
    return Value(str(given["label"]), sets)


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return dotted paths; a table with `inherit` is a value, not a folder."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and "inherit" not in value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _plain_value(name: str, given: Any) -> Value:
    if isinstance(given, Mapping):
        changes = {key: value for key, value in given.items() if key not in ("label", "inherit")}
        label = given.get("label")
        if label is None:
            inside = ", ".join(f"{key}={value}" for key, value in changes.items())
            label = f"{given.get('inherit', name)}({inside})"
        return Value(str(label), {name: {k: v for k, v in given.items() if k != "label"}})
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        return Value(str(given), {name: given})
    return Value(given, {name: given})


def zipped(given: Mapping[str, Any], key: str) -> Group:
    """Return the group of axes that advance in step. Raises InputError with the key in the file."""
    columns: dict[str, list[Value]] = {}
    for name, values in given.items():
        try:
            if isinstance(values, Mapping) and "from" in values:
                columns[name] = [row[0] for row in axis(name, values).rows]
            elif isinstance(values, list) and values:
                columns[name] = _values(name, values, twice=True)
            else:
                raise InputError("", name, f"a zipped axis is a list or a range, got {values!r}")
        except InputError as error:
            raise error.inside("", key) from None
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) != 1:
        told = ", ".join(f"{name} has {n}" for name, n in lengths.items()) or "it is empty"
        raise InputError("", key, f"zipped axes are equally long: {told}")
    return Group(tuple(columns), tuple(zip(*columns.values(), strict=True)))


def sampled(sample: Sample) -> Group:
    """Return the group of a drawn design. Raises InputError with the key in the file."""
    spans: dict[str, Span | list[Value]] = {}
    for name, given in sample.axes.items():
        try:
            check_path(name)
            spans[name] = (_values(name, given) if isinstance(given, list) and given
                           else _validated(Span, given, name) if isinstance(given, Mapping)
                           else _refuse(name, given))
        except InputError as error:
            raise error.inside("", "sample.axes") from None
    if not spans:
        raise InputError("", "sample.axes", "a sample draws at least one axis")
    rows = []
    for parts in _design(sample, len(spans)):
        row = []
        for (name, span), part in zip(spans.items(), parts, strict=True):
            if isinstance(span, Span):
                row.append(Value(span.at(part), {name: span.at(part)}))
            else:
                row.append(span[min(int(part * len(span)), len(span) - 1)])
        rows.append(tuple(row))
    unique = dict.fromkeys(tuple(value.label for value in row) for row in rows)
    first = {tuple(value.label for value in row): row for row in reversed(rows)}
    return Group(tuple(spans), tuple(first[labels] for labels in unique), drawn=True)


def _refuse(name: str, given: Any) -> Any:
    raise InputError("", name, f"a drawn axis is {{ from, to, scale }} or a list, got {given!r}")


def _design(sample: Sample, dimensions: int) -> list[list[float]]:
    """Return the points of the unit cube; scipy keeps the streams of a seed."""
    if sample.method == "random":
        draw = random.Random(sample.seed)
        return [[draw.random() for _ in range(dimensions)] for _ in range(sample.points)]
    from numpy.random import default_rng
    from scipy.stats import qmc

    engine = qmc.LatinHypercube if sample.method == "lhs" else qmc.Sobol
    generator = default_rng(sample.seed)
    try:
        made = engine(dimensions, rng=generator)
    except TypeError:   # scipy before 1.15 calls it so
        made = engine(dimensions, seed=generator)
    power = 1 << (sample.points - 1).bit_length() if sample.method == "sobol" else sample.points
    points: list[list[float]] = made.random(power)[:sample.points].tolist()
    return points


# ---- conditions -------------------------------------------------------------------------------

Given: TypeAlias = "Mapping[str, Any]"
_Test: TypeAlias = "Callable[[Any, Given], bool]"
_BOUNDS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "min": lambda value, bound: bool(value >= bound),
    "max": lambda value, bound: bool(value <= bound),
    "above": lambda value, bound: bool(value > bound),
    "below": lambda value, bound: bool(value < bound),
}
_OPERATORS: Final = ("not", *_BOUNDS)


@dataclass(frozen=True, slots=True)
class Condition:
    """What values must be: by name, all of them. ``names`` are what it looks at."""

    key: str
    tests: tuple[tuple[str, _Test], ...]
    labels: tuple[tuple[str, tuple[Any, ...]], ...]
    bounds: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, given: Any, key: str) -> Condition:
        """Read a table of names and what they must be. Raises InputError under ``key``.

        A value means equal, a list one of; a table holds ``not``, ``min``, ``max``, ``above``,
        ``below``, whose bounds are numbers or the names of other axes.
        """
        if not isinstance(given, Mapping) or not given:
            raise InputError("", key, "a condition is a table of axes and what they must be, got "
                             f"{given!r}")
        tests: list[tuple[str, _Test]] = []
        labels: list[tuple[str, tuple[Any, ...]]] = []
        bounds: list[tuple[str, str]] = []
        for name, wanted in flat_condition(given).items():
            for operator, value in (wanted if isinstance(wanted, Mapping)
                                    else {"is": wanted}).items():
                if operator in ("is", "not"):
                    choices = tuple(value) if isinstance(value, list) else (value,)
                    tests.append((name, _one_of(choices, operator == "is")))
                    labels.append((name, choices))
                elif isinstance(value, str):
                    bounds.append((name, value))
                    tests.append((name, _bound(operator, value)))
                elif isinstance(value, int | float) and not isinstance(value, bool):
                    tests.append((name, _bound(operator, value)))
                else:
                    raise InputError("", f"{key}.{name}.{operator}", "a bound is a number or the "
                                     f"name of an axis, got {value!r}")
        return cls(key, tuple(tests), tuple(labels), tuple(bounds))

    def holds(self, given: Given) -> bool:
        """Tell whether all of it is so for these values, by name."""
        return all(test(given.get(name), given) for name, test in self.tests)

    @property
    def names(self) -> list[str]:
        """Every name it looks at."""
        return [name for name, _ in self.tests] + [other for _, other in self.bounds]


def flat_condition(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return dotted names; a table of operators is what a name must be."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and not (value and set(value) <= set(_OPERATORS)):
            found |= flat_condition(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _one_of(choices: tuple[Any, ...], wanted: bool) -> _Test:
    return lambda value, given: (value in choices) is wanted


def _bound(operator: str, bound: int | float | str) -> _Test:
    compare = _BOUNDS[operator]

    def test(value: Any, given: Given) -> bool:
        other = given.get(bound) if isinstance(bound, str) else bound
        if not isinstance(value, int | float) or not isinstance(other, int | float):
            return False
        return compare(value, other)
    return test


def check_condition(condition: Condition, known: Mapping[str, Sequence[Label] | None]
                    ) -> Iterator[InputError]:
    """Complain of names that are no axis and of labels that are not on theirs.

    ``known`` maps axes and given fields to their labels; None where any value may come.
    """
    for name in dict.fromkeys(condition.names):
        if name not in known:
            yield InputError("", f"{condition.key}.{name}", "no axis of this name, and nothing "
                             "gives it a value", got=name, nearest=known)
    for name, choices in condition.labels:
        labels = known.get(name)
        for choice in choices:
            if labels is not None and choice not in labels:
                yield InputError("", f"{condition.key}.{name}", f"{choice!r} is not on that axis",
                                 got=str(choice), nearest=[str(label) for label in labels])


def product(groups: Sequence[Group]) -> int:
    """Return how many combinations there are before conditions."""
    return math.prod(len(group.rows) for group in groups)


def names_of(groups: Sequence[Group]) -> list[str]:
    """Return every axis in the order of the file."""
    return list(itertools.chain.from_iterable(group.names for group in groups))
