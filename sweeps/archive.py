"""Reading a store as a whole: what is in it, means of it, and keeping house.

Left out: the store as a file (export.py); tables for people over replicates with intervals; a sweep
prints those.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pysim import counters, engine
from pysim.engine import Result
from pysim.errors import EngineError, InputError
from sweeps.axes import check_path
from sweeps.columns import OVERHEAD, Block, Words, reading
from sweeps.export import LABELS, PROVENANCE
from sweeps.store import FIELDS, Store, StoreError, packed, verdict_of
from sweeps.tables import Column, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pysim.scenario import Scenario


def pivot(store: Store, down: str, across: str, value: str) -> Table:
    """Return the mean of a counter (or ``overhead``) over all records, by two labels.

    Records that ended in a verdict have no overhead; their counters are left out too. Raises
    InputError for a name that is no label or no counter.
    """
    for name in (down, across):
        if name not in LABELS[1:]:
            raise InputError("pivot", name, f"one of {', '.join(LABELS[1:])}", got=name,
                             nearest=LABELS[1:])
    if value != OVERHEAD and value not in counters.BY_NAME:
        known = (OVERHEAD, *counters.BY_NAME)
        raise InputError("pivot", value, "no counter of this name", got=value, nearest=known)
    sums: dict[tuple[Any, Any], tuple[float, int]] = {}
    with reading(store) as one:
        words = Words(one)
        for block in one.blocks((down, across)):
            if value in block.counters:
                _add(sums, words.coded(block, down), words.coded(block, across), block, value)
    if not sums:
        raise StoreError(f"{store.path}: no records of runs in it")
    downs, acrosses = (sorted({pair[at] for pair in sums}) for at in (0, 1))
    style = "share" if value == OVERHEAD else "number"
    cells = {pair: total / count if count else None for pair, (total, count) in sums.items()}
    return Table(
        title=f"mean {value} of {sum(count for _, count in sums.values())} runs",
        columns=(Column(name=down, style="text"),
                 *(Column(name=str(x), heading=f"{across} {x}", style=style) for x in acrosses)),
        rows=tuple((str(one), *(cells.get((one, other)) for other in acrosses)) for one in downs))


def _add(sums: dict[tuple[Any, Any], tuple[float, int]], down: tuple[NDArray[Any], list[Any]],
         across: tuple[NDArray[Any], list[Any]], block: Block, value: str) -> None:
    """Add a block's values up by pairs of labels, those of runs."""
    import numpy as np

    (rows, downs), (columns, acrosses) = down, across
    pairs, index = np.unique(rows.astype("i8") * len(acrosses) + columns, return_inverse=True)
    ran = ~np.isnan(block.counters[OVERHEAD])
    totals = np.bincount(index[ran], weights=block.counters[value][ran].astype("f8"),
                         minlength=len(pairs))
    counts = np.bincount(index[ran], minlength=len(pairs))
    for at, pair in enumerate(pairs.tolist()):
        place = downs[pair // len(acrosses)], acrosses[pair % len(acrosses)]
        total, count = sums.get(place, (0.0, 0))
        sums[place] = total + float(totals[at]), count + int(counts[at])


# ---- what there is ----------------------------------------------------------------------------


def listing(store: Store) -> Table:
    """Return how many records there are by policy and engine build."""
    rows = store.rows(
        "SELECT s.policy, json_extract(k.versions, '$.build_id'), count(*), count(DISTINCT"
        " s.machine), count(DISTINCT s.workload), min(s.harts), max(s.harts), sum(p.cpu_s),"
        " max(p.at_utc) FROM scenarios s LEFT JOIN provenance p ON p.record = s.record"
        " LEFT JOIN makers k ON k.id = p.maker GROUP BY 1, 2 ORDER BY 1, 2")
    lines = tuple((policy, (build or "-")[:12] + ("" if build == engine.BUILD_ID else " (old)"),
                   runs, machines, loads, f"{low}-{high}" if low != high else str(low),
                   None if cpu is None else float(f"{cpu:.3g}"), at)
                  for policy, build, runs, machines, loads, low, high, cpu, at in rows)
    names = (("policy", "text"), ("engine", "text"), ("runs", "number"), ("machines", "number"),
             ("workloads", "number"), ("harts", "text"), ("cpu s", "number"), ("last", "text"))
    counts = store.counts()
    return Table(title=f"{store.path}: {counts['records']} records, {counts['failures']} failures",
                 columns=tuple(Column(name=name, style=style) for name, style in names), rows=lines)


def failures(store: Store) -> Table:
    """Return every failure with the command that meets it again."""
    found = store.failures()
    return Table(title=f"{len(found)} failures", columns=tuple(
        Column(name=name, style="text") for name in ("key", "error", "again")),
        rows=tuple((one.key[:16], one.error, one.reproducer) for one in found))


def find(store: Store, start: str) -> str:
    """Return the one key that starts so. Raises InputError when none does, or several."""
    if not start:
        raise InputError("store", "KEY", "is empty")
    upper = start + "\U0010ffff"
    rows = list(store.rows("SELECT key FROM records WHERE key >= ? AND key < ? UNION SELECT key"
                           " FROM failures WHERE key >= ? AND key < ? LIMIT 3",
                           (start, upper, start, upper)))
    if len(rows) != 1:
        raise InputError(str(store.path), start, "no key starts so" if not rows else
                         "more than one key starts so; give more of it")
    return str(rows[0][0])


def show(store: Store, key: str) -> dict[str, Any]:
    """Return all that is known of a key: scenarios, result, provenance, failure."""
    said: dict[str, Any] = {"key": key}
    said["scenarios"] = [
        {**dict(zip(FIELDS, row[:-2], strict=True)), "machine": json.loads(row[-2]),
         "workload": json.loads(row[-1])} for row in _scenarios(store, key)]
    for row in store.rows(
            "SELECT p.wall_s, p.cpu_s, p.peak_kib, p.at_utc, k.host, k.versions, k.command FROM"
            " records r JOIN provenance p ON p.record = r.id JOIN makers k ON k.id = p.maker"
            " WHERE r.key = ?", (key,)):
        said["provenance"] = {**dict(zip(PROVENANCE, row, strict=True)),
                              "versions": json.loads(row[5])}
    record = store.record(key)
    if record is not None:
        said["result"] = json.loads(record)
    for failure in store.failures([key]):
        said["failure"] = {"error": failure.error, "reproducer": failure.reproducer}
        said["scenarios"] = [json.loads(failure.scenario)]
    return said


def _scenarios(store: Store, key: str) -> Iterator[tuple[Any, ...]]:
    return store.rows(
        "SELECT s.policy, s.harts, s.root_seed, s.replicate, s.nr_cpus, s.livelock_retries, m.body,"
        " w.body FROM records r JOIN scenarios s ON s.record = r.id JOIN parts m ON m.id ="
        " s.machine JOIN parts w ON w.id = s.workload WHERE r.key = ?", (key,))


def scenario(said: Mapping[str, Any]) -> Scenario:
    """Return the scenario of what ``show`` says of one. Raises InputError when it is none today."""
    from pysim import scenario as scenarios
    from pysim.machines import Machine
    from pysim.workloads import Workload

    values = {**said, "root_seed": int(said["root_seed"])}
    for name in values:
        check_path(name) if name != "replicate" else None
    try:
        values["machine"] = Machine.model_validate(said["machine"])
        values["workload"] = Workload.model_validate(said["workload"])
    except ValueError as error:
        first = str(error).splitlines()
        raise InputError("store", said["policy"], "is a scenario of another version: "
                         + " ".join(first[:3])) from error
    return scenarios.build(values, "store")


# ---- keeping house ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What verifying a store found: how much was looked at, and complaints, a line each."""

    records: int
    again: int
    complaints: tuple[str, ...]


def verify(store: Store, again: int = 0) -> Check:
    """Look at every byte: the file, every record, its packed counters; ask some runs ``again``.

    Runs are asked again only where this engine made the record; the answer must be the same bytes.
    """
    complaints = [f"file: {row[0]}" for row in store.rows("PRAGMA integrity_check")
                  if row[0] != "ok"]
    complaints += [f"file: a row of {row[0]} refers to nothing"
                   for row in store.rows("PRAGMA foreign_key_check")]
    shapes = {names: number for number, names in store.rows("SELECT * FROM shapes")}
    count = 0
    for key, record, again_key, verdict, shape, numbers in store.rows(
            "SELECT r.key, r.record, n.key, n.verdict, n.shape, n.counters FROM records r"
            " LEFT JOIN numbers n ON n.record = r.id"):
        count += 1
        numbered = packed(bytes(record))
        if numbered is not None and (
                key, verdict_of(bytes(record)), shapes.get(numbered[0]), numbered[1]
        ) != (again_key, verdict, shape, numbers):
            complaints.append(f"{key[:16]}: the packed counters are not the record's")
        if numbered is not None:
            try:
                if Result.from_record(bytes(record)).record() != record:
                    complaints.append(f"{key[:16]}: not in canonical form")
            except EngineError as error:
                complaints.append(f"{key[:16]}: {error}")
    asked = list(_again(store, again)) if again else []
    complaints += [said for said in asked if said]
    return Check(records=count, again=len(asked), complaints=tuple(complaints))


def _again(store: Store, count: int) -> Iterator[str]:
    """Ask some questions again, spread over the store; yield a complaint or nothing for each."""
    from pysim.scenario import lower

    keys = [row[0] for row in store.rows(
        "SELECT r.key FROM records r JOIN provenance p ON p.record = r.id JOIN makers k ON k.id ="
        " p.maker WHERE json_extract(k.versions, '$.build_id') = ? ORDER BY r.key",
        (engine.BUILD_ID,))]
    for key in keys[::max(1, len(keys) // count)][:count]:
        for said in show(store, key)["scenarios"][:1]:
            question = lower(scenario(said))
            if question.key != key:
                yield f"{key[:16]}: its scenario asks another question today"
            elif engine.record(question) != store.record(key):
                yield f"{key[:16]}: the engine answers other bytes now"
            else:
                yield ""


def prune(store: Store, *, old: bool, failed: bool, before: str) -> dict[str, int]:
    """Remove records of other engines, failures, or all from before a day; say how many went."""
    went = {"records": 0, "failures": 0}
    where, values = [], []
    if old:
        where.append("id NOT IN (SELECT p.record FROM provenance p JOIN makers k ON k.id = p.maker"
                     " WHERE json_extract(k.versions, '$.build_id') = ?)")
        values.append(engine.BUILD_ID)
    if before:
        try:
            time.strptime(before, "%Y-%m-%d")
        except ValueError as error:
            raise InputError("--before", "", f"a day is written 2026-01-31, got {before!r}"
                             ) from error
        where.append("id IN (SELECT record FROM provenance WHERE at_utc < ?)")
        values.append(before)
    if where:
        start = store.counts()["records"]
        store.change(
            (f"DELETE FROM records WHERE {' AND '.join(where)}", tuple(values)),
            ("DELETE FROM numbers WHERE record NOT IN (SELECT id FROM records)", ()),
            ("DELETE FROM scenarios WHERE record NOT IN (SELECT id FROM records)", ()),
            ("DELETE FROM provenance WHERE record NOT IN (SELECT id FROM records)", ()),
            ("DELETE FROM parts WHERE id NOT IN (SELECT machine FROM scenarios UNION SELECT"
             " workload FROM scenarios)", ()),
            ("DELETE FROM makers WHERE id NOT IN (SELECT maker FROM provenance)", ()))
        went["records"] = start - store.counts()["records"]
    if failed:
        went["failures"] = store.change(("DELETE FROM failures", ()))
    store.shrink()
    return went


