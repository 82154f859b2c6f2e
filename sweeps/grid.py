"""A sweep file, one question, becomes the points it asks about.

A sweep file is TOML; the comment on top asks the question. ::

    # What does each policy cost on 64 harts?
    seeds = 5                       # replicates of every point

    [base]                          # what all points share: the fields of a scenario
    nr_cpus = 64

    [axes]                          # every combination of these, first axis slowest
    policy = ["none", "mark-7.2"]
    harts = { from = 1, to = 64, steps = 7, scale = "log" }
    machine = ["xs-kmh", { inherit = "sg2042", l2_hit_cycles = 9, label = "sg2042, slow L2" }]
    "workload.lifetime_ms" = [1, 10]             # a field inside the machine or the workload
    rate = [{ label = "x2", "workload.rate_factor" = 2, "workload.vmalloc_per_s" = 500 }]

    [report]
    rows = "policy"

An axis named after a field takes values of it; an axis of any other name takes tables that set
several fields together under a ``label``. Everything is validated before anything runs, and all
complaints are told at once. Replicates differ in nothing but their number, so policies are compared
on equal draws.

Left out: axes that depend on other axes, and random designs.
"""

from __future__ import annotations

import itertools
import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pysim import scenario as scenarios
from pysim.errors import FencelabError, InputError
from pysim.machines import Machine
from pysim.scenario import Scenario
from pysim.workloads import Workload

POINTS_MAX: Final = 1_000_000
"""A sweep of more points than this is refused as a slip of the pen."""
_INSIDE: Final[dict[str, type[BaseModel]]] = {"machine": Machine, "workload": Workload}
_NOT_BASE: Final = ("replicate",)
_SAMPLE: Final = {"policy": "none", "machine": "rocket", "workload": "idle", "harts": 1}
"""Any scenario, to try one machine or workload with."""
CONFIGS: Final = Path(__file__).parent / "configs"


class SweepError(FencelabError):
    """All that is wrong with a sweep file, a line for each."""

    def __init__(self, complaints: Sequence[str]) -> None:
        self.complaints = tuple(dict.fromkeys(complaints))
        super().__init__("\n".join(self.complaints))


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(_Strict):
    """An axis of numbers from one end to the other, both included."""

    start: float = Field(alias="from")
    to: float
    steps: Annotated[int, Field(strict=True, ge=2, le=10_000)]
    scale: Literal["linear", "log"] = "linear"

    def values(self) -> list[int | float]:
        """Return the values; whole numbers, each once, when both ends are whole numbers."""
        whole = self.start == int(self.start) and self.to == int(self.to)
        parts = [i / (self.steps - 1) for i in range(self.steps)]
        if self.scale == "log":
            low, high = math.log(self.start), math.log(self.to)
            found = [math.exp(low + part * (high - low)) for part in parts]
        else:
            found = [self.start + part * (self.to - self.start) for part in parts]
        return list(dict.fromkeys(round(x) if whole else x for x in found))


class Report(_Strict):
    """What is shown of a sweep: rows and columns are axes, ``metrics`` names of `metrics.METRICS`.

    ``lead`` fixes axes of the table shown first; ``baseline`` is the row others are compared with.
    """

    rows: str = "policy"
    columns: str = "harts"
    metrics: tuple[str, ...] = ()
    cells: str = "overhead"
    lead: dict[str, str | int | float] = Field(default_factory=dict)
    baseline: str = "preventive-range"


class Sweep(_Strict):
    """A sweep file, validated in form; ``points`` makes the scenarios."""

    where: str
    question: str
    seeds: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 5
    base: dict[str, Any] = Field(default_factory=dict)
    axes: dict[str, Any]
    report: Report = Report()


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One scenario and where it lies: the label of its value on every axis."""

    coordinates: dict[str, str | int | float]
    scenario: Scenario


@dataclass(frozen=True, slots=True)
class _Value:
    """One value of an axis: what it is called and what it sets, by dotted path."""

    label: str | int | float
    sets: dict[str, Any] = field(default_factory=dict)


def load(name: str) -> Sweep:
    """Read a sweep: the name of one that comes with fencelab, or the path of a TOML file.

    Raises InputError or SweepError.
    """
    path = Path(name)
    if path.suffix != ".toml" and not path.is_file():
        known = sorted(p.stem for p in CONFIGS.glob("*.toml"))
        if name not in known:
            raise InputError(name, "", f"no sweep of this name, and no file ({', '.join(known)})",
                             got=name, nearest=known)
        path = CONFIGS / f"{name}.toml"
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(name, "", f"cannot be read: {error}") from error
    return parse(text, path.name if path.parent == CONFIGS else name)


def parse(text: str, where: str) -> Sweep:
    """Read the text of a sweep file; ``where`` names it in complaints."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(where, "", f"not TOML: {error}") from error
    question = _opening_comment(text)
    complaints = []
    if not question:
        complaints.append(str(InputError(where, "", "a sweep file opens with a comment that asks "
                                         "its question")))
    for key in ("where", "question"):
        if key in table:
            complaints.append(_unknown(where, key, _top_keys()))
            del table[key]
    try:
        sweep = Sweep.model_validate({"where": where, "question": question, **table})
    except ValidationError as error:
        raise SweepError([*complaints, *_complaints(where, error, table)]) from None
    if complaints:
        raise SweepError(complaints)
    return sweep


def _opening_comment(text: str) -> str:
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.lstrip().splitlines())
    return "\n".join(line.lstrip("#").strip() for line in lines).strip()


def _top_keys() -> list[str]:
    return [name for name in Sweep.model_fields if name not in ("where", "question")]


def _unknown(where: str, key: str, valid: Sequence[str]) -> str:
    last = key.rpartition(".")[2]
    return str(InputError(where, key, f"unknown key; valid: {', '.join(valid)}", got=last,
                          nearest=valid))


def _complaints(where: str, error: ValidationError, table: Mapping[str, Any]) -> Iterator[str]:
    """Say each of pydantic's complaints in our form."""
    for one in error.errors(include_url=False):
        path = [str(part) for part in one["loc"]]
        key = ".".join(path)
        if one["type"] == "extra_forbidden":
            fields = list(Report.model_fields) if path[0] == "report" else _top_keys()
            yield _unknown(where, key, fields)
        elif one["type"] == "missing":
            yield f"{where}: {key}: is not given"
        else:
            reason = one["msg"][:1].lower() + one["msg"][1:]
            yield f"{where}: {key}: {reason}, got {one['input']!r}"


# ---- axes -------------------------------------------------------------------------------------


def _field_names() -> list[str]:
    return [name for name in Scenario.model_fields if name not in _NOT_BASE]


def _check_path(path: str) -> None:
    """Raise InputError (key relative to the file) unless a scenario has a field of this path."""
    first, _, rest = path.partition(".")
    if first not in _field_names():
        raise InputError("", path, "no field of a scenario", got=first, nearest=_field_names())
    model = _INSIDE.get(first)
    name = rest.partition(".")[0]
    if not rest:
        return
    if model is None:
        raise InputError("", path, f"{first} has no fields inside")
    if name not in model.model_fields:
        raise InputError("", path, f"{first} has no field of this name", got=name,
                         nearest=model.model_fields)


def _axis(name: str, given: Any) -> list[_Value]:
    """Return the values of an axis. Raises InputError with the key inside the axis."""
    if isinstance(given, Mapping) and "from" in given:
        return [_Value(value, {name: value}) for value in _range(name, given)]
    if not isinstance(given, list) or not given:
        raise InputError("", name, "an axis is a list of values, or a range { from, to, steps, "
                         f"scale }}, got {given!r}")
    joint = name.partition(".")[0] not in _field_names()
    if joint and not all(isinstance(value, Mapping) and "label" in value for value in given):
        raise InputError("", name, "no field of a scenario; an axis of a name of your own is a "
                         "list of tables with a `label`", got=name, nearest=_field_names())
    if not joint:
        _check_path(name)
    values = [_joint_value(name, v) if joint else _plain_value(name, v) for v in given]
    labels = [value.label for value in values]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError("", name, f"{label!r} stands there twice; tell them apart by a "
                             "`label`")
    return values


def _range(name: str, given: Mapping[str, Any]) -> list[int | float]:
    _check_path(name)
    try:
        chosen = Range.model_validate(given)
    except ValidationError as error:
        raise InputError("", name, next(_complaints("", error, given)).removeprefix(": ")) from None
    if chosen.scale == "log" and min(chosen.start, chosen.to) <= 0:
        raise InputError("", name, "a log scale has positive ends")
    return chosen.values()


def _joint_value(name: str, given: Mapping[str, Any]) -> _Value:
    sets = {}
    for path, value in _flat(given).items():
        if path != "label":
            _check_path(path)
            sets[path] = value
    return _Value(str(given["label"]), sets)


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return dotted paths; a table with `inherit` is a value, not a folder."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and "inherit" not in value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _plain_value(name: str, given: Any) -> _Value:
    if isinstance(given, Mapping):
        changes = {key: value for key, value in given.items() if key not in ("label", "inherit")}
        label = given.get("label")
        if label is None:
            inside = ", ".join(f"{key}={value}" for key, value in changes.items())
            label = f"{given.get('inherit', name)}({inside})"
        return _Value(str(label), {name: {k: v for k, v in given.items() if k != "label"}})
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        return _Value(str(given), {name: given})
    return _Value(given, {name: given})


# ---- points -----------------------------------------------------------------------------------


class _Wardrobe:
    """Machines and workloads, each built once however many points use it."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._built: dict[str, Scenario | FencelabError] = {}

    def scenario(self, values: dict[str, Any]) -> Scenario:
        """Build a scenario, its machine and workload taken from an earlier one where equal.

        Raises SweepError with all that is wrong with it.
        """
        dressed = dict(values)
        complaints: list[str] = []
        for key in _INSIDE:
            try:
                if key in values:
                    dressed[key] = self._part(key, values)
            except FencelabError as error:
                complaints.append(str(error))
                dressed[key] = _SAMPLE[key]
        try:
            built = scenarios.build(dressed, self._where)
        except FencelabError as error:
            complaints.append(str(error))
        if complaints:
            raise SweepError(complaints)
        return built

    def _part(self, key: str, values: dict[str, Any]) -> Any:
        name = f"{key} {json.dumps(values[key], sort_keys=True, default=str)}"
        if name not in self._built:
            try:
                self._built[name] = scenarios.build(_SAMPLE | {key: values[key]}, self._where)
            except FencelabError as error:
                self._built[name] = error
        built = self._built[name]
        if isinstance(built, FencelabError):
            raise built
        return getattr(built, key)


def _put(values: dict[str, Any], path: str, value: Any) -> None:
    """Set a field; one inside a machine or workload is a change of what it inherits."""
    first, _, rest = path.partition(".")
    if not rest:
        values[first] = value
        return
    whole = values.get(first)
    table = dict(whole) if isinstance(whole, Mapping) else {"inherit": whole}
    table[rest] = value
    values[first] = table


def expand(sweep: Sweep, seeds: int | None = None) -> list[Point]:
    """Return every point in the order of the file, first axis slowest, replicates innermost.

    Raises SweepError with every complaint there is.
    """
    complaints: list[str] = []
    axes: dict[str, list[_Value]] = {}
    for name, given in sweep.axes.items():
        try:
            axes[name] = _axis(name, given)
        except InputError as error:
            complaints.append(str(error.inside(sweep.where, "axes")))
    for key in sweep.base:
        try:
            _check_path(key)
        except InputError as error:
            complaints.append(str(error.inside(sweep.where, "base")))
    complaints += list(_report_complaints(sweep, axes))
    if complaints:
        raise SweepError(complaints)
    count = math.prod(len(values) for values in axes.values()) * (seeds or sweep.seeds)
    if count > POINTS_MAX:
        raise InputError(sweep.where, "axes", f"{count} points are more than {POINTS_MAX}")
    return _points(sweep, axes, seeds or sweep.seeds)


def _points(sweep: Sweep, axes: Mapping[str, list[_Value]], seeds: int) -> list[Point]:
    wardrobe = _Wardrobe(sweep.where)
    points: list[Point] = []
    complaints: list[str] = []
    for chosen in itertools.product(*axes.values()):
        values: dict[str, Any] = {}
        for path in sorted(sweep.base, key=lambda path: path.count(".")):
            _put(values, path, sweep.base[path])
        sets = {path: value for one in chosen for path, value in one.sets.items()}
        for path in sorted(sets, key=lambda path: path.count(".")):
            _put(values, path, sets[path])
        coordinates = {axis: one.label for axis, one in zip(axes, chosen, strict=True)}
        try:
            first = wardrobe.scenario(values)
        except SweepError as error:
            complaints += error.complaints
            continue
        points += [Point(coordinates=coordinates,
                         scenario=first.model_copy(update={"replicate": number}))
                   for number in range(seeds)]
    if complaints:
        raise SweepError(complaints)
    return points


def _report_complaints(sweep: Sweep, axes: Mapping[str, list[_Value]]) -> Iterator[str]:
    """Check what the report names against the axes."""
    def wrong(key: str, reason: str, got: str, nearest: Sequence[str]) -> str:
        return str(InputError(sweep.where, f"report.{key}", reason, got=got, nearest=nearest))

    from sweeps.metrics import METRICS
    names = list(sweep.axes)
    for key in ("rows", "columns"):
        axis = getattr(sweep.report, key)
        if axis not in names and key in sweep.report.model_fields_set:
            yield wrong(key, f"no axis {axis!r}", axis, names)
    rows = [str(value.label) for value in axes.get(sweep.report.rows, ())]
    base = sweep.report.baseline
    if rows and base not in rows and "baseline" in sweep.report.model_fields_set:
        yield wrong("baseline", f"{base!r} is not on the axis {sweep.report.rows}", base, rows)
    for axis, label in sweep.report.lead.items():
        if axis not in names:
            yield wrong(f"lead.{axis}", "no such axis", axis, names)
        elif axis in axes and label not in [value.label for value in axes[axis]]:
            labels = [str(value.label) for value in axes[axis]]
            yield wrong(f"lead.{axis}", f"{label!r} is not on that axis", str(label), labels)
    for key, metrics in (("metrics", sweep.report.metrics), ("cells", (sweep.report.cells,))):
        for name in metrics:
            if name not in METRICS:
                yield wrong(key, f"no metric {name!r}", name, list(METRICS))
