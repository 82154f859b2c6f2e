"""The points of a sweep, made when asked for: a million of them are a few numbers each.

A *cell* is a combination of the axes' values; its replicates are its points. Cells are counted, not
kept: the number of a cell says which row of each group it takes, and machines and workloads are
built once for all cells that share them. Conditions are asked of every cell once, and the numbers
of those that are left are remembered.

Left out: how groups come about (axes.py).
"""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, overload

from pysim import scenario as scenarios
from pysim.errors import FencelabError, InputError
from pysim.scenario import Scenario
from sweeps.axes import INSIDE, NOT_ASKED, Condition, Group, Label, names_of, product

PARTS_KEPT: Final = 4096
"""Machines, workloads and cells kept ready; more are built again when they come back."""
SAMPLE: Final = {"policy": "none", "machine": "rocket", "workload": "idle", "harts": 1}
"""Any scenario, to try one machine or workload with."""
_ALONE: Final = (*INSIDE, "root_seed", "livelock_retries")
"""Fields of a scenario that are judged by themselves; the rest is judged together."""
_ELSEWHERE: Final = -1
"""The row of a conditional axis where its condition does not hold."""

Rows = tuple[int, ...]


class SweepError(FencelabError):
    """All that is wrong with a sweep file, a line for each."""

    def __init__(self, complaints: Sequence[str]) -> None:
        self.complaints = tuple(dict.fromkeys(complaints))
        super().__init__("\n".join(self.complaints))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One scenario and where it lies: the label of its value on every axis."""

    coordinates: dict[str, Label]
    scenario: Scenario


def put(values: dict[str, Any], path: str, value: Any) -> None:
    """Set a field; one inside a machine or workload is a change of what it inherits."""
    first, _, rest = path.partition(".")
    if not rest:
        values[first] = value
        return
    whole = values.get(first)
    table = dict(whole) if isinstance(whole, Mapping) else {"inherit": whole}
    table[rest] = value
    values[first] = table


def _depth(path: str) -> int:
    return path.count(".")


def _ours(path: str, key: str) -> bool:
    """Tell whether a path belongs to a field judged alone, or (empty) to the rest."""
    first = path.partition(".")[0]
    return first == key if key else first not in _ALONE


class Cells:
    """Every combination of the groups' rows that the conditions leave; ``names`` are the axes."""

    def __init__(self, groups: Sequence[Group], base: Mapping[str, Any],
                 filters: Sequence[tuple[Condition, bool]],
                 told: Callable[[InputError, Sequence[str]], str]) -> None:
        self.names = tuple(names_of(groups))
        self._groups = tuple(groups)
        self._base = dict(base)
        self._told = told
        self._all = product(groups)
        self._strides = self._sizes()
        self._parts = {key: self._touching(key) for key in (*_ALONE, "")}
        self._built = lru_cache(maxsize=PARTS_KEPT)(self._build)
        self._templates = lru_cache(maxsize=PARTS_KEPT)(self._template)
        self.scenario = lru_cache(maxsize=PARTS_KEPT)(self._scenario)
        self._alive: array[int] | None = None
        if filters or any(group.when for group in groups):
            self._alive = self._filtered(filters)

    def _sizes(self) -> list[tuple[int, int]]:
        """Return for each group how many cells a step of it is, and its rows."""
        found, stride = [], self._all
        for group in self._groups:
            stride //= len(group.rows) or 1
            found.append((stride, len(group.rows)))
        return found

    def _touching(self, key: str) -> tuple[int, ...]:
        """Return the groups that set one of the fields judged alone, or (empty) any other."""
        return tuple(
            number for number, group in enumerate(self._groups)
            if any(_ours(path, key) for row in group.rows for value in row for path in value.sets))

    def _filtered(self, filters: Sequence[tuple[Condition, bool]]) -> array[int]:
        """Ask every condition of every combination; return the numbers of those that are left."""
        conditional = [(at, group.when) for at, group in enumerate(self._groups) if group.when]
        alive = array("Q")
        for number in range(self._all):
            rows = self._rows_of(number)
            given = {**self._base, **self._named(rows)}
            keep = True
            for at, when in conditional:
                if not when.holds(given):
                    keep = keep and rows[at] == 0
                    given[self._groups[at].names[0]] = NOT_ASKED
            if keep and all(condition.holds(given) is wanted for condition, wanted in filters):
                alive.append(number)
        return alive

    def _rows_of(self, number: int) -> Rows:
        return tuple(number // stride % size for stride, size in self._strides)

    def rows(self, cell: int) -> Rows:
        """Return which row of each group a cell takes; -1 where a conditional axis is not asked."""
        if self._alive is None:
            return self._rows_of(cell)
        rows = list(self._rows_of(self._alive[cell]))
        if any(group.when for group in self._groups):
            given = {**self._base, **self._named(rows)}
            for at, group in enumerate(self._groups):
                if group.when is not None and not group.when.holds(given):
                    rows[at] = _ELSEWHERE
                    given[group.names[0]] = NOT_ASKED
        return tuple(rows)

    def _named(self, rows: Iterable[int]) -> dict[str, Label]:
        named: dict[str, Label] = {}
        for group, row in zip(self._groups, rows, strict=True):
            for name, value in zip(group.names, group.rows[row], strict=True):
                named[name] = NOT_ASKED if row == _ELSEWHERE else value.label
        return named

    def coordinates(self, cell: int) -> dict[str, Label]:
        """Return the label of a cell on every axis."""
        return self._named(self.rows(cell))

    def __len__(self) -> int:
        return self._all if self._alive is None else len(self._alive)

    # ---- scenarios ----

    def _values(self, key: str, rows: Rows) -> dict[str, Any]:
        """Return what base and these rows say; a field inside is a change of the whole."""
        sets = {path: value for path, value in self._base.items() if _ours(path, key)}
        sets |= {path: value for at, row in zip(self._parts[key], rows, strict=True)
                 if row != _ELSEWHERE for one in self._groups[at].rows[row]
                 for path, value in one.sets.items() if _ours(path, key)}
        values: dict[str, Any] = {}
        for path in sorted(sets, key=_depth):
            put(values, path, sets[path])
        return values

    def _part(self, key: str, rows: Rows) -> Any:
        found = self._built(key, tuple(rows[at] for at in self._parts[key]))
        if isinstance(found, InputError):
            raise found
        return found

    def _build(self, key: str, rows: Rows) -> Any:
        """Return the machine, workload or number of these rows, or what is wrong with it."""
        values = self._values(key, rows)
        if key not in values:
            return InputError("", key, "is not given") if key in INSIDE \
                else Scenario.model_fields[key].default
        try:
            return getattr(scenarios.build(SAMPLE | {key: values[key]}, ""), key)
        except InputError as error:
            return error

    def _template(self, rows: Rows, harts: int) -> Scenario:
        values = self._values("", rows)
        values.setdefault("harts", harts)
        try:
            return scenarios.build(SAMPLE | {"policy": None} | values, "")
        except InputError:
            if "policy" not in values:
                raise InputError("", "policy", "is not given") from None
            raise

    def _scenario(self, cell: int) -> Scenario:
        """Return a cell's scenario, replicate 0."""
        rows = self.rows(cell)
        alone = {key: self._part(key, rows) for key in _ALONE}
        template = self._templates(tuple(rows[at] for at in self._parts[""]),
                                   alone["machine"].harts)
        return template.model_copy(update=alone)

    def validate(self) -> None:
        """Build every part that a cell uses. Raises SweepError with all that is wrong."""
        complaints: dict[str, None] = {}
        seen: dict[str, set[Any]] = {key: set() for key in self._parts}
        for rows in self._distinct():
            for key, touching in self._parts.items():
                part: Any = tuple(rows[at] for at in touching)
                if not key:
                    machine = self._built("machine", tuple(rows[at]
                                                           for at in self._parts["machine"]))
                    part = (part, getattr(machine, "harts", 1))
                if part in seen[key]:
                    continue
                seen[key].add(part)
                try:
                    if key:
                        self._part(key, rows)
                    else:
                        self._templates(*part)
                except InputError as error:
                    complaints[self._told(error, self._suspects(error.key, rows))] = None
        if complaints:
            raise SweepError(list(complaints))

    def _suspects(self, key: str, rows: Rows) -> list[str]:
        """Return where in the file a value may stand that a complaint is about."""
        return [f"axes.{name}[{row}]" for group, row in zip(self._groups, rows, strict=True)
                for name, value in zip(group.names, group.rows[row], strict=True)
                if any(f"{key}.".startswith(f"{path}.") or f"{path}.".startswith(f"{key}.")
                       for path in value.sets)]

    def _distinct(self) -> Iterator[Rows]:
        """Yield rows so that every part of every cell is there; few where nothing is filtered."""
        if self._alive is not None:
            yield from (self.rows(cell) for cell in range(len(self)))
            return
        for key, touching in self._parts.items():
            if not key:
                touching = tuple(sorted({*touching, *self._parts["machine"]}))
            for chosen in itertools.product(*(range(self._strides[at][1]) for at in touching)):
                rows = [0] * len(self._groups)
                for at, row in zip(touching, chosen, strict=True):
                    rows[at] = row
                yield tuple(rows)


def _from_start(index: int, length: int) -> int:
    """Return an index counted from the start; a negative one counts from the end."""
    if not -length <= index < length:
        raise IndexError(index)
    return index % length


class Points(Sequence[Point]):
    """The replicates of every cell, cell by cell; ``replicates`` is one number or one a cell."""

    def __init__(self, cells: Cells, replicates: int | Sequence[int]) -> None:
        self.cells = cells
        self.replicates = replicates
        self._ends = None if isinstance(replicates, int) else array(
            "Q", itertools.accumulate(replicates))

    def __len__(self) -> int:
        if self._ends is None:
            assert isinstance(self.replicates, int)
            return len(self.cells) * self.replicates
        return self._ends[-1] if self._ends else 0

    def place(self, index: int) -> tuple[int, int]:
        """Return the cell and the replicate of a point."""
        if self._ends is None:
            assert isinstance(self.replicates, int)
            return divmod(index, self.replicates)
        cell = bisect.bisect_right(self._ends, index)
        return cell, index - (self._ends[cell - 1] if cell else 0)

    def scenario(self, index: int) -> Scenario:
        """Return the scenario of a point."""
        cell, replicate = self.place(index)
        found = self.cells.scenario(cell)
        return found.model_copy(update={"replicate": replicate}) if replicate else found

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> list[Point]: ...
    def __getitem__(self, index: int | slice) -> Point | list[Point]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        index = _from_start(index, len(self))
        cell, _ = self.place(index)
        return Point(coordinates=self.cells.coordinates(cell), scenario=self.scenario(index))

    @property
    def scenarios(self) -> Scenarios:
        """The scenarios alone, in the same order."""
        return Scenarios(self)


class Scenarios(Sequence[Scenario]):
    """The scenarios of points, made when asked for."""

    def __init__(self, points: Points) -> None:
        self._points = points

    def __len__(self) -> int:
        return len(self._points)

    def place(self, index: int) -> tuple[Scenario, int]:
        """Return a cell's scenario and the replicate that a point is of it."""
        points = self._points
        cell, replicate = points.place(index)
        return points.cells.scenario(cell), replicate

    def by_cell(self) -> Iterator[tuple[Scenario, int]]:
        """Yield each cell's scenario and how many replicates it has, in order."""
        cells, counts = self._points.cells, self._points.replicates
        for cell in range(len(cells)):
            yield cells.scenario(cell), counts if isinstance(counts, int) else counts[cell]

    @overload
    def __getitem__(self, index: int) -> Scenario: ...
    @overload
    def __getitem__(self, index: slice) -> list[Scenario]: ...
    def __getitem__(self, index: int | slice) -> Scenario | list[Scenario]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        index = _from_start(index, len(self))
        return self._points.scenario(index)
