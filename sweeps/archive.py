"""Reading a store as a whole: what is in it, out of it as columns, and keeping house.

Counters come out of the packed ``numbers`` of many records at once, so a million rows are a few
array operations; they are handed on in blocks, and no more than a block is held. Parquet, fast CSV
and pivots need pyarrow (``pip install 'fencelab[columns]'``); CSV and JSON lines work without it.

Left out: tables for people over replicates with intervals; a sweep prints those.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from pysim import counters, engine
from pysim.engine import Result
from pysim.errors import EngineError, InputError
from sweeps.axes import check_path
from sweeps.store import FIELDS, Store, StoreError, packed, verdict_of
from sweeps.tables import Column, Table

if TYPE_CHECKING:
    import numpy as np

    from pysim.scenario import Scenario

FORMATS: Final = ("parquet", "csv", "json")
BLOCK_ROWS: Final = 50_000
LABELS: Final = ("key", "policy", "machine", "workload", *FIELDS[1:])
PROVENANCE: Final = ("wall_s", "cpu_s", "peak_kib", "at_utc", "host", "versions", "command")
_DERIVED: Final = "overhead"

_VERDICT: Final = "verdict"
_WHERE: Final = {
    "key": "n.key", _VERDICT: "n.verdict", **{name: f"s.{name}" for name in FIELDS},
    "machine": "s.machine", "workload": "s.workload", "maker": "p.maker",
    **{name: f"p.{name}" for name in ("wall_s", "cpu_s", "peak_kib", "at_utc")},
    "record": "r.record",
}
"""Columns of a row, each with where it stands."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows as columns, by name: labels and provenance as they are stored, and the counters.

    Machines, workloads and makers are numbers of their tables.
    """

    columns: Mapping[str, Sequence[Any]]
    counters: Mapping[str, np.ndarray[Any, Any]]

    def __len__(self) -> int:
        return len(self.columns[_VERDICT])


def blocks(store: Store, names: Sequence[str], rows: int = BLOCK_ROWS) -> Iterator[Block]:
    """Yield every record of a run with every scenario that asked it, some rows at a time.

    ``names`` are the columns wanted beside the verdict; a block has one set of counters.
    """
    shapes = {number: said.split(",") for number, said in store.rows("SELECT * FROM shapes")}
    wanted = list(dict.fromkeys((_VERDICT, *names)))
    joins = "CROSS JOIN scenarios s ON s.record = n.record"
    if any(_WHERE[name].startswith("p.") for name in wanted):
        joins += " LEFT JOIN provenance p ON p.record = n.record"
    if "record" in wanted:
        joins += " CROSS JOIN records r ON r.id = n.record"
    query = (f"SELECT n.shape, n.counters, {', '.join(_WHERE[name] for name in wanted)}"
             f" FROM numbers n {joins} ORDER BY n.record")
    held: list[tuple[Any, ...]] = []
    for row in store.rows(query):
        if held and (len(held) >= rows or held[0][0] != row[0]):
            yield _block(held, shapes[held[0][0]], wanted)
            held = []
        held.append(row)
    if held:
        yield _block(held, shapes[held[0][0]], wanted)


def _block(rows: Sequence[tuple[Any, ...]], names: Sequence[str], wanted: Sequence[str]) -> Block:
    import numpy as np

    _, packed_rows, *columns = zip(*rows, strict=True)
    values = np.frombuffer(b"".join(packed_rows), dtype="<u8").reshape(len(rows), len(names))
    by_name = np.ascontiguousarray(values.T)
    numbers: dict[str, Any] = {name: by_name[at] for at, name in enumerate(names)}
    found = dict(zip(wanted, columns, strict=True))
    useful = numbers["useful_cycles"].astype("f8")
    counted = np.sum([numbers[cause] for cause in counters.CAUSES if cause in numbers], axis=0)
    ran = (np.array(found[_VERDICT]) == counters.RAN) & (useful > 0)
    numbers[_DERIVED] = np.where(ran, counted / np.where(useful > 0, useful, 1), np.nan)
    return Block(found, numbers)


# ---- export -----------------------------------------------------------------------------------


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("store", "", f"this needs pyarrow ({error}): "
                         "pip install 'fencelab[columns]'") from error
    return pyarrow


@dataclass(frozen=True, slots=True)
class _Kept:
    """Things kept once, by number, as columns of their own: machines, workloads, makers."""

    names: Mapping[str, Mapping[int | None, str | None]]

    @classmethod
    def of(cls, store: Store) -> _Kept:
        """Read them all: there are few."""
        parts = dict(store.rows("SELECT id, name FROM parts"))
        makers = list(store.rows("SELECT id, host, versions, command FROM makers"))
        return cls({"machine": parts, "workload": parts, **{
            name: {None: None, **{row[0]: row[at] for row in makers}}
            for at, name in enumerate(("host", "versions", "command"), 1)}})

    def column(self, block: Block, name: str) -> list[str | None]:
        """Return a column of a block in words."""
        known = self.names[name]
        numbers = block.columns[name if name in block.columns else "maker"]
        return [known[number] for number in numbers]


def _columns(block: Block, kept: _Kept) -> dict[str, Any]:
    """Return every column of an export by name: labels, verdict, overhead, counters, provenance."""
    def one(name: str) -> Any:
        return kept.column(block, name) if name in kept.names else block.columns[name]
    return {**{name: one(name) for name in (*LABELS, _VERDICT)},
            _DERIVED: block.counters[_DERIVED],
            **{name: values for name, values in block.counters.items() if name != _DERIVED},
            **{name: one(name) for name in PROVENANCE}}


_STORED: Final = ("key", "machine", "workload", *FIELDS, "maker", "wall_s", "cpu_s", "peak_kib",
                  "at_utc")
_REPEATED: Final = ("policy", "machine", "workload", "host", "versions", "command", _VERDICT,
                    "at_utc")


def _table(arrow: Any, block: Block, kept: _Kept) -> Any:
    """Return a block as an arrow table."""
    columns = {name: arrow.array(values, from_pandas=True) if name == _DERIVED
               else arrow.array(values) for name, values in _columns(block, kept).items()}
    for name in _REPEATED:
        columns[name] = columns[name].cast(arrow.string()).dictionary_encode()
    return arrow.table(columns)


def export(store: Store, form: str, to: BinaryIO) -> int:
    """Write every record of a run as rows; return how many. Raises InputError without pyarrow.

    ``json`` is one object a line, the record whole with its histograms; ``csv`` and ``parquet``
    have a column for each label, counter and bit of provenance.
    """
    if form == "json":
        rows = _json_lines(store, to)
    elif form == "csv" and not _has_arrow():
        rows = _plain_csv(store, to)
    else:
        rows = _with_arrow(store, form, to)
    if not rows:
        raise StoreError(f"{store.path}: no records of runs in it")
    return rows


def _has_arrow() -> bool:
    try:
        _arrow()
    except InputError:
        return False
    return True


def _with_arrow(store: Store, form: str, to: BinaryIO) -> int:
    """Read and write at once: arrow writes a block without the interpreter's lock."""
    arrow = _arrow()
    kept, rows = _Kept.of(store), 0
    writer: _Writer | None = None
    with ThreadPoolExecutor(max_workers=1) as behind:
        under_way: Future[None] | None = None
        for block in blocks(store, _STORED):
            table = _table(arrow, block, kept)
            if writer is None:
                writer = _writer(arrow, form, to, table.schema)
            elif not table.schema.equals(writer.schema):
                table = _fitted(arrow, table, writer.schema)
            if under_way is not None:
                under_way.result()
            under_way = behind.submit(writer.write_table, table)
            rows += len(block)
        if under_way is not None:
            under_way.result()
    if writer is not None:
        writer.close()
    return rows


class _Writer:
    """Arrow's writers behind one face, with the schema of the first block."""

    def __init__(self, inner: Any, schema: Any, *, plain: bool) -> None:
        self._inner, self.schema, self._plain = inner, schema, plain

    def write_table(self, table: Any) -> None:
        """Write one block."""
        self._inner.write_table(_plain(table) if self._plain else table)

    def close(self) -> None:
        """End the file."""
        self._inner.close()


def _writer(arrow: Any, form: str, to: BinaryIO, schema: Any) -> _Writer:
    if form == "parquet":
        return _Writer(arrow.parquet.ParquetWriter(to, schema), schema, plain=False)
    plain = arrow.schema([(f.name, f.type.value_type if arrow.types.is_dictionary(f.type)
                           else f.type) for f in schema])
    return _Writer(arrow.csv.CSVWriter(to, plain), schema, plain=True)


def _plain(table: Any) -> Any:
    """Return a table without dictionaries, which CSV does not know."""
    arrow = _arrow()
    columns = [column.cast(column.type.value_type) if arrow.types.is_dictionary(column.type)
               else column for column in table.columns]
    return arrow.table(columns, names=table.column_names)


def _fitted(arrow: Any, table: Any, schema: Any) -> Any:
    """Return a block of another engine's counters in the columns of the first."""
    columns = [table[field.name].cast(field.type) if field.name in table.column_names
               else arrow.nulls(len(table), field.type) for field in schema]
    return arrow.table(columns, schema=schema)


def _plain_csv(store: Store, to: BinaryIO) -> int:
    text = io.TextIOWrapper(to, encoding="utf-8", newline="", write_through=True)
    writer, rows, kept = csv.writer(text), 0, _Kept.of(store)
    names: list[str] = []
    for block in blocks(store, _STORED):
        columns = _columns(block, kept)
        if not names:
            names = list(columns)
            writer.writerow(names)
        columns |= {name: columns[name].tolist() for name in block.counters}
        columns[_DERIVED] = [None if x != x else x for x in columns[_DERIVED]]
        nothing = [None] * len(block)
        writer.writerows(zip(*(columns.get(name, nothing) for name in names), strict=True))
        rows += len(block)
    text.detach()
    return rows


def _json_lines(store: Store, to: BinaryIO) -> int:
    """Write a line per record; the record's own bytes stand in it as they are."""
    rows, kept = 0, _Kept.of(store)
    named = (*LABELS, "wall_s", "cpu_s", "peak_kib", "at_utc", "host")
    for block in blocks(store, (*_STORED, "record"), BLOCK_ROWS // 5):
        found = _columns(block, kept)
        lines = []
        for record, *said in zip(block.columns["record"], *(found[name] for name in named),
                                 strict=True):
            head = json.dumps(dict(zip(named, said, strict=True)), separators=(",", ":"))
            lines.append(head[:-1].encode() + b',"result":' + record + b"}\n")
        to.write(b"".join(lines))
        rows += len(block)
    return rows


def pivot(store: Store, down: str, across: str, value: str) -> Table:
    """Return the mean of a counter (or ``overhead``) over all records, by two labels.

    Records that ended in a verdict have no overhead; their counters are left out too. Raises
    InputError for a name that is no label or no counter.
    """
    for name in (down, across):
        if name not in LABELS[1:]:
            raise InputError("pivot", name, f"one of {', '.join(LABELS[1:])}", got=name,
                             nearest=LABELS[1:])
    if value != _DERIVED and value not in counters.BY_NAME:
        known = (_DERIVED, *counters.BY_NAME)
        raise InputError("pivot", value, "no counter of this name", got=value, nearest=known)
    import numpy as np

    sums: dict[tuple[Any, Any], tuple[float, int]] = {}
    kept = _Kept.of(store)
    for block in blocks(store, (down, across)):
        numbers = block.counters.get(value)
        if numbers is None:
            continue
        ran = ~np.isnan(block.counters[_DERIVED])
        pairs = list(zip(*(kept.column(block, name) if name in kept.names else block.columns[name]
                           for name in (down, across)), strict=True))
        places = {pair: at for at, pair in enumerate(dict.fromkeys(pairs))}
        index = np.fromiter((places[pair] for pair in pairs), dtype="i8", count=len(pairs))[ran]
        totals = np.bincount(index, weights=numbers[ran].astype("f8"), minlength=len(places))
        counts = np.bincount(index, minlength=len(places))
        for pair, at in places.items():
            total, count = sums.get(pair, (0.0, 0))
            sums[pair] = total + float(totals[at]), count + int(counts[at])
    if not sums:
        raise StoreError(f"{store.path}: no records of runs in it")
    downs, acrosses = (sorted({pair[at] for pair in sums}) for at in (0, 1))
    style = "share" if value == _DERIVED else "number"
    cells = {pair: total / count if count else None for pair, (total, count) in sums.items()}
    return Table(
        title=f"mean {value} of {sum(count for _, count in sums.values())} runs",
        columns=(Column(name=down, style="text"),
                 *(Column(name=str(x), heading=f"{across} {x}", style=style) for x in acrosses)),
        rows=tuple((str(one), *(cells.get((one, other)) for other in acrosses)) for one in downs))


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


