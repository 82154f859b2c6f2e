"""A sweep file, one question, becomes the points it asks about.

A sweep file is TOML; the comment on top asks the question. ::

    # What does each policy cost on 64 harts?
    seeds = 5                       # replicates of every point
    include = ["common.toml"]       # what this file does not say, that one does

    [base]                          # what all points share: the fields of a scenario
    nr_cpus = 64

    [axes]                          # every combination of these, first axis slowest
    policy = ["none", "mark-7.2"]
    harts = { from = 1, to = 64, steps = 7, scale = "log" }
    machine = ["xs-kmh", { inherit = "sg2042", l2_hit_cycles = 9, label = "sg2042, slow L2" }]
    "workload.lifetime_ms" = { values = [1, 10], when = { harts = { min = 4 } } }
    rate = [{ label = "x2", "workload.rate_factor" = 2, "workload.vmalloc_per_s" = 500 }]

    [[zip]]                         # axes that advance in step
    "workload.user_kib" = [64, 128]
    "workload.text_kib" = [32, 64]

    [sample]                        # axes that are drawn together
    method = "sobol"
    points = 64
    axes."workload.vmalloc_per_s" = { from = 10, to = 100000, scale = "log" }

    [report]
    rows = "policy"

``exclude`` lists conditions whose points are left out, ``require`` those that every point fulfils.
An axis named after a field takes values of it; an axis of any other name takes tables that set
several fields together under a ``label``. Everything is validated before anything runs, and all
complaints are told at once, each with its line. Replicates differ in nothing but their number, so
policies are compared on equal draws.

Left out: what the points are (points.py) and what varies (axes.py).
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError, field_validator

from pysim.errors import FencelabError, InputError
from sweeps import axes, lines
from sweeps.axes import NOT_ASKED, Condition, Group, Label, Sample, Strict
from sweeps.points import SAMPLE, Cells, Point, Points, SweepError

__all__ = ["CONFIGS", "NOT_ASKED", "Point", "Points", "Sweep", "SweepError", "expand", "load"]

POINTS_MAX: Final = 1_000_000
"""A sweep of more points than this is refused as a slip of the pen."""
CONFIGS: Final = Path(__file__).parent / "configs"


class Report(Strict):
    """What is shown of a sweep: rows and columns are axes, ``metrics`` names of `metrics.METRICS`.

    ``lead`` fixes axes of the table shown first; ``baseline`` is the row others are compared with.
    """

    rows: str = Field(default="policy", description="the axis of the tables' rows")
    columns: str = Field(default="harts", description="the axis of the tables' columns")
    metrics: tuple[str, ...] = Field(default=(), description="metrics of the tables by metric")
    cells: str = Field(default="overhead", description="the metric of the tables by columns")
    lead: dict[str, str | int | float] = Field(
        default_factory=dict, description="axis -> value: points whose every metric is shown first")
    baseline: str = Field(default="preventive-range",
                          description="the row that `difference` is taken from, seed by seed")
    pareto: tuple[str, ...] = Field(
        default=(), max_length=2,
        description="two goals, e.g. [\"min overhead\", \"min map_p99\"]: their front is shown")


_PERCENT: Final = re.compile(r"(\d+(?:\.\d+)?) *%")


class Until(Strict):
    """Adaptive replicates: add seeds only where the interval is still too wide."""

    overhead: float = Field(description="half width of the overhead's interval, as part of its "
                            "mean: \"2%\" or 0.02", gt=0, lt=1)
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="of the interval")
    min: Annotated[int, Field(strict=True, ge=2, le=10_000)] = Field(
        default=5, description="replicates before anything is judged")
    max: Annotated[int, Field(strict=True, ge=2, le=10_000)] = Field(
        default=64, description="replicates after which a point is left as it is")
    difference_to: str = Field(
        default="", description="judge the paired difference to this row instead: its half width "
        "as part of that row's mean overhead")

    @field_validator("overhead", mode="before")
    @classmethod
    def _percent(cls, value: Any) -> Any:
        if isinstance(value, str):
            found = _PERCENT.fullmatch(value.strip())
            if not found:
                raise ValueError(f"a share is written \"2%\" or 0.02, got {value!r}")
            return float(found[1]) / 100
        return value


class Halving(Strict):
    """Successive halving: drop the worse points of a search as replicates are added."""

    keep: float = Field(default=0.5, gt=0, lt=1, description="part of the points kept each round")
    first: Annotated[int, Field(strict=True, ge=2)] = Field(
        default=2, description="replicates in the first round; doubled each round")
    within: tuple[str, ...] = Field(
        default=(), description="axes inside whose every value points compete apart")


_GOAL: Final = re.compile(r"(min|max) +(\w+)")


class Sweep(Strict):
    """A sweep file, validated in form; ``expand`` makes the points."""

    where: str = Field(exclude=True)
    question: str = Field(exclude=True)
    include: tuple[str, ...] = Field(
        default=(), description="files whose values hold where this one says nothing")
    parts: tuple[str, ...] = Field(
        default=(), description="other questions, asked one after the other instead of this one")
    seeds: Annotated[int, Field(strict=True, ge=1, le=10_000)] = Field(
        default=5, description="replicates of every point")
    until: Until | None = Field(default=None, description="adaptive replicates instead of `seeds`")
    goal: str = Field(default="", description="search for it: \"min METRIC\" or \"max METRIC\"")
    halving: Halving | None = Field(
        default=None, description="successive halving towards `goal`, instead of `seeds`")
    base: dict[str, Any] = Field(
        default_factory=dict, description="what all points share: fields of a scenario")
    axes: dict[str, Any] = Field(
        default_factory=dict, description="what varies: every combination, the first slowest")
    zip: tuple[dict[str, Any], ...] = Field(
        default=(), description="groups of axes that advance in step")
    sample: Sample | None = Field(default=None, description="axes drawn together")
    exclude: tuple[dict[str, Any], ...] = Field(
        default=(), description="conditions: points for which one holds are left out")
    require: tuple[dict[str, Any], ...] = Field(
        default=(), description="conditions: points for which one does not hold are left out")
    report: Report = Field(default=Report(), description="what is shown")
    places: Places = Field(default_factory=lambda: Places("sweep"), exclude=True, repr=False)

    @field_validator("zip", mode="before")
    @classmethod
    def _one_zip(cls, value: Any) -> Any:
        return (value,) if isinstance(value, Mapping) else value

    @property
    def goals(self) -> list[tuple[int, str]]:
        """Goal and Pareto goals as (+1 for min, -1 for max; metric)."""
        said = [self.goal] if self.goal else list(self.report.pareto)
        found = [_GOAL.fullmatch(goal.strip()) for goal in said]
        return [(1 if goal[1] == "min" else -1, goal[2]) for goal in found if goal]


_OURS: Final = ("where", "question", "places")


@dataclass(frozen=True)
class Places:
    """Where every key of a sweep was written: file and line, or the option."""

    where: str
    wrote: dict[str, str] = field(default_factory=dict)

    def at(self, key: str) -> str:
        """Return the place of a key, or of what it stands in; keys of points are looked for."""
        for prefix in ("", "axes.", "base.", "sample.axes.", *(f"zip[{n}]." for n in range(9))):
            path = prefix + key
            while path:
                if path in self.wrote:
                    return self.wrote[path]
                path = re.sub(r"(\.?[^.\[]+|\[\d+\])$", "", path)
                if path == prefix.rstrip("."):
                    break
        return self.wrote.get(key.partition(".")[0], self.where)


def _relocated(places: Places, error: InputError, suspects: Sequence[str] = ()) -> str:
    """Return a complaint as one line with its place: a suspect's, or the nearest to its key."""
    place = places.at(error.key) if error.key else places.where
    place = next((places.wrote[key] for key in suspects if key in places.wrote), place)
    text = f"{error.key}: " if error.key else ""
    return f"{place}: {text}{error.reason}{error.hint}"


# ---- reading ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What the command line changes of a file: fields fixed, axes replaced, replicates."""

    sets: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[str, Any] = field(default_factory=dict)
    seeds: int | None = None


def load(name: str, changes: Changes | None = None) -> Sweep:
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
    where = path.name if path.parent == CONFIGS else name
    return parse(_text(path, name), where, folder=path.parent, changes=changes)


def questions(name: str, changes: Changes | None = None) -> list[Sweep]:
    """Read a sweep, or the sweeps it is made of. Raises InputError or SweepError."""
    asked = load(name, changes)
    if not asked.parts:
        return [asked]
    found, complaints = [], []
    for part in asked.parts:
        beside = (CONFIGS if not Path(name).is_file() else Path(name).parent) / part
        try:
            one = load(str(beside) if beside.suffix == ".toml" else part, changes)
            if one.parts:
                raise InputError(asked.places.at("parts"), "parts", f"{part} has parts itself")
            found.append(one)
        except FencelabError as error:
            complaints.append(str(error))
    if complaints:
        raise SweepError(complaints)
    return found


def _text(path: Path, name: str) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(name, "", f"cannot be read: {error}") from error


def parse(text: str, where: str, *, folder: Path | None = None,
          changes: Changes | None = None) -> Sweep:
    """Read the text of a sweep file; ``where`` names it in complaints, includes lie in ``folder``.

    Raises InputError or SweepError.
    """
    places = Places(where)
    question = _opening_comment(text)
    table, complaints = _with_includes(text, where, folder or Path(), places)
    if not question:
        complaints.append(str(InputError(where, "", "a sweep file opens with a comment that asks "
                                         "its question")))
    complaints += [_relocated(places, error)
                   for error in _change(table, changes or Changes(), places)]
    for key in _OURS:
        if key in table:
            complaints.append(_relocated(places, InputError("", key, "unknown key")))
            del table[key]
    try:
        sweep = Sweep.model_validate({"where": where, "question": question, "places": places,
                                      **table})
    except ValidationError as error:
        complaints += [_relocated(places, one) for one in axes.complaints(error, table, Sweep)]
        rest = _without(table, [one["loc"] for one in error.errors()])
        raise SweepError([*complaints, *_further(where, places, rest)]) from None
    if complaints:
        raise SweepError([*complaints, *_further(where, places, table)])
    return sweep


def _without(table: Mapping[str, Any], places: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """Return a table without the keys at these places, or those inside them."""
    rest = dict(table)
    for first, *inside in places:
        whole = rest.get(first)
        if inside and isinstance(whole, Mapping) and inside[0] in whole:
            rest[first] = {key: value for key, value in whole.items() if key != inside[0]}
        else:
            rest.pop(first, None)
    return rest


def _further(where: str, places: Places, rest: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what else is wrong with a file that is refused already, ``rest`` being left of it."""
    try:
        expand(Sweep.model_validate({"where": where, "question": "-", "places": places, **rest}))
    except SweepError as error:
        return error.complaints if "axes" in rest or "zip" in rest or "sample" in rest else ()
    except (InputError, ValidationError):   # about all of it, which is not what was meant
        pass
    return ()


def _opening_comment(text: str) -> str:
    found = itertools.takewhile(lambda line: line.startswith("#"), text.lstrip().splitlines())
    return "\n".join(line.lstrip("#").strip() for line in found).strip()


def _with_includes(text: str, where: str, folder: Path, places: Places,
                   above: tuple[Path, ...] = ()) -> tuple[dict[str, Any], list[str]]:
    """Return a file's table over those it includes, and what is wrong with those."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(where, "", f"not TOML: {error}") from error
    for key, line in lines.of(text).items():
        places.wrote.setdefault(key, f"{where}:{line}")
    included = table.get("include", [])
    complaints: list[str] = []
    if not isinstance(included, list) or not all(isinstance(name, str) for name in included):
        return table, complaints   # refused when the whole is validated
    for name in reversed(included):
        path = (folder / name).resolve()
        try:
            if path in above:
                raise InputError(places.at("include"), "include", f"{name} includes itself")
            beneath, more = _with_includes(_text(path, name), name, path.parent, places,
                                           (*above, path))
        except FencelabError as error:
            complaints.append(str(error))
            continue
        complaints += more
        table = _over(beneath, table)
    return table, complaints


def _over(beneath: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the upper table over the lower one; `base`, `axes` and `report` are merged by key."""
    merged = {key: value for key, value in beneath.items() if key != "include"}
    for key, value in table.items():
        if key in ("base", "axes", "report") and isinstance(merged.get(key), Mapping) \
                and isinstance(value, Mapping):
            merged[key] = {**merged[key], **value}
        else:
            merged[key] = value
    return merged


def _change(table: dict[str, Any], changes: Changes, places: Places) -> Iterator[InputError]:
    """Write the command line's changes into the table; an axis that is set has one value."""
    said = table.get("axes")
    axes_table: dict[str, Any] = dict(said) if isinstance(said, Mapping) else {}
    said = table.get("base")
    base: dict[str, Any] = dict(said) if isinstance(said, Mapping) else {}
    groups = [name for group in _zips(table) for name in group]
    for option, given in (("--set", changes.sets), ("--axis", changes.axes)):
        for path, value in given.items():
            if path in groups:
                yield InputError(option, path, "is a zipped axis; change the file")
                continue
            for key in (path, f"axes.{path}", f"base.{path}"):
                places.wrote[key] = option
            if option == "--axis":
                axes_table[path] = value
            elif path in axes_table:
                axes_table[path] = [value]
            else:
                base[path] = value
    if (changes.sets or changes.axes) and "parts" not in table:
        table["axes"], table["base"] = axes_table, base
    if changes.seeds is not None and "parts" not in table:
        table["seeds"] = changes.seeds
        table.pop("until", None)


def _zips(table: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    said = table.get("zip", [])
    groups = [said] if isinstance(said, Mapping) else said
    return [group for group in groups if isinstance(group, Mapping)] \
        if isinstance(groups, list) else []


def value(text: str) -> Any:
    """Return what a person typed on the command line: a TOML value, else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


# ---- points -----------------------------------------------------------------------------------


def expand(sweep: Sweep, seeds: int | None = None) -> Points:
    """Return every point in the order of the file, first axis slowest, replicates innermost.

    Nothing is made before it is asked for. Raises SweepError with every complaint there is.
    """
    places = sweep.places if sweep.places.wrote else Places(sweep.where)
    errors: list[InputError] = []
    groups = list(_groups(sweep, errors))
    for key in sweep.base:
        try:
            axes.check_path(key)
        except InputError as error:
            errors.append(error.inside("", "base"))
    names = axes.names_of(groups)
    errors += [InputError("", name, "is varied twice") for name in dict.fromkeys(names)
               if names.count(name) > 1]
    if sweep.parts:
        raise InputError(places.at("parts"), "parts", "is made of other questions; ask those")
    if not names and not errors:
        errors.append(InputError("", "axes", "a sweep varies something: axes, zip or sample"))
    known = {name: _labels(groups, name) for name in names}
    filters = list(_filters(sweep, groups, known, errors))
    errors += list(_report_complaints(sweep, known))
    def told(error: InputError, suspects: Sequence[str]) -> str:
        return _relocated(places, error, suspects)

    if errors:
        raise SweepError([*(_relocated(places, error) for error in errors),
                          *_wrong_values(sweep, groups, told)])
    replicates = seeds or sweep.seeds
    count = axes.product(groups) * replicates
    if count > POINTS_MAX:
        raise InputError(places.at("axes"), "axes", f"{count} points are more than {POINTS_MAX}")
    cells = Cells(groups, sweep.base, filters, told)
    cells.validate()
    if not len(cells):
        raise InputError(places.where, "", "no point is left by `exclude` and `require`")
    return Points(cells, [replicates] * len(cells) if _varies(sweep) else replicates)


def _wrong_values(sweep: Sweep, groups: Sequence[Group],
                  told: Callable[[InputError, Sequence[str]], str]) -> tuple[str, ...]:
    """Return what is wrong with the values of the axes that are axes, beside what else is wrong.

    A field whose axis is none stands at a value that is always possible; where a name is none, so
    does every field that is not given: it may be the one that was meant.
    """
    names = axes.names_of(groups)
    if len(set(names)) < len(names) or axes.product(groups) > POINTS_MAX:
        return ()
    failed = {*sweep.axes, *(name for group in sweep.zip for name in group),
              *(sweep.sample.axes if sweep.sample else ())} - set(names)
    stray = not all(map(_is_field, (*failed, *sweep.base)))
    base = {name: value for name, value in SAMPLE.items()
            if name in failed or (stray and name not in names)}
    base |= {path: value for path, value in sweep.base.items() if _is_field(path)}
    try:
        Cells([replace(group, when=None) for group in groups], base, (), told).validate()
    except SweepError as error:
        return error.complaints
    return ()


def _is_field(path: str) -> bool:
    try:
        axes.check_path(path)
    except InputError:
        return False
    return True


def _varies(sweep: Sweep) -> bool:
    return sweep.until is not None or sweep.halving is not None


def _groups(sweep: Sweep, errors: list[InputError]) -> Iterator[Group]:
    for name, given in sweep.axes.items():
        try:
            yield axes.axis(name, given)
        except InputError as error:
            errors.append(error.inside("", "axes"))
    for number, group in enumerate(sweep.zip):
        try:
            yield axes.zipped(group, f"zip[{number}]")
        except InputError as error:
            errors.append(error)
    if sweep.sample is not None:
        try:
            yield axes.sampled(sweep.sample)
        except InputError as error:
            errors.append(error)


def _labels(groups: Iterable[Group], name: str) -> list[Label] | None:
    for group in groups:
        if name in group.names:
            at = group.names.index(name)
            return None if group.drawn else list(dict.fromkeys(r[at].label for r in group.rows))
    return None


def _filters(sweep: Sweep, groups: Sequence[Group], known: Mapping[str, list[Label] | None],
             errors: list[InputError]) -> Iterator[tuple[Condition, bool]]:
    """Yield conditions with what they must come to; complain of names nobody has."""
    given = {**dict.fromkeys(sweep.base), **known}
    for key, tables, wanted in (("exclude", sweep.exclude, False),
                                ("require", sweep.require, True)):
        for number, table in enumerate(tables):
            try:
                condition = Condition.read(table, f"{key}[{number}]")
            except InputError as error:
                errors.append(error)
                continue
            errors += axes.check_condition(condition, given)
            yield condition, wanted
    for group in groups:
        if group.when is not None:
            found = list(axes.check_condition(group.when, given))
            if group.names[0] in group.when.names:
                found.append(InputError("", group.when.key, "an axis cannot depend on itself"))
            errors += [error.inside("", "axes") for error in found]


def _report_complaints(sweep: Sweep, known: Mapping[str, Sequence[Label] | None]
                       ) -> Iterator[InputError]:
    """Check what the report and the search name against the axes."""
    from sweeps.metrics import METRICS

    def wrong(key: str, reason: str, got: str, nearest: Iterable[str]) -> InputError:
        return InputError("", key, reason, got=got, nearest=list(nearest))

    report = sweep.report
    for key in ("rows", "columns"):
        axis = getattr(report, key)
        if axis not in known and key in report.model_fields_set:
            yield wrong(f"report.{key}", f"no axis {axis!r}", axis, known)
    rows = [str(label) for label in known.get(report.rows) or ()]
    for key, base, said in (
        ("report.baseline", report.baseline, "baseline" in report.model_fields_set),
        ("until.difference_to", sweep.until.difference_to if sweep.until else "", sweep.until),
    ):
        if rows and base and base not in rows and said:
            yield wrong(key, f"{base!r} is not on the axis {report.rows}", base, rows)
    for axis, label in report.lead.items():
        labels = known.get(axis)
        if axis not in known:
            yield wrong(f"report.lead.{axis}", "no such axis", axis, known)
        elif labels is not None and label not in labels:
            yield wrong(f"report.lead.{axis}", f"{label!r} is not on that axis", str(label),
                        [str(one) for one in labels])
    for key, names in (("report.metrics", report.metrics), ("report.cells", (report.cells,))):
        for name in names:
            if name not in METRICS:
                yield wrong(key, f"no metric {name!r}", name, METRICS)
    for key, goals in (("goal", [sweep.goal] if sweep.goal else []),
                       ("report.pareto", report.pareto)):
        for goal in goals:
            found = _GOAL.fullmatch(goal.strip())
            if not found:
                yield InputError("", key, f"a goal is \"min METRIC\" or \"max METRIC\", got "
                                 f"{goal!r}")
            elif found[2] not in METRICS:
                yield wrong(key, f"no metric {found[2]!r}", found[2], METRICS)
    if report.pareto and len(report.pareto) != 2:
        yield InputError("", "report.pareto", "a front has two goals")
    yield from _search_complaints(sweep, known)


def _search_complaints(sweep: Sweep, known: Mapping[str, Any]) -> Iterator[InputError]:
    if sweep.until is not None and sweep.halving is not None:
        yield InputError("", "halving", "not together with `until`")
    if sweep.until is not None and sweep.until.max < sweep.until.min:
        yield InputError("", "until.max", f"is at least `min`, got {sweep.until.max}")
    if sweep.halving is not None and not sweep.goal:
        yield InputError("", "halving", "halving needs a `goal`, e.g. \"min overhead\"")
    for axis in sweep.halving.within if sweep.halving else ():
        if axis not in known:
            yield InputError("", "halving.within", f"no axis {axis!r}", got=axis, nearest=known)


Sweep.model_rebuild()
