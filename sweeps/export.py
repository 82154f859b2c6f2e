"""A store as a file: Parquet, CSV, or a line of JSON for each record.

With `fencelab[columns]` arrow writes a block while the next is read. Without, CSV and JSON lines
are written row by row. Either way a record's own bytes stand in its line of JSON as they are.

Left out: tables for people over replicates with intervals; a sweep prints those.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, Final

from pysim.errors import InputError
from sweeps.columns import BLOCK_ROWS, OVERHEAD, VERDICT, Block, Reading, Words, reading
from sweeps.store import FIELDS, Store, StoreError

FORMATS: Final = ("parquet", "csv", "json")
LABELS: Final = ("key", "policy", "machine", "workload", *FIELDS[1:])
PROVENANCE: Final = ("wall_s", "cpu_s", "peak_kib", "at_utc", "host", "versions", "command")
_STORED: Final = ("key", "machine", "workload", *FIELDS, "maker", "wall_s", "cpu_s", "peak_kib",
                  "at_utc")
_REPEATED: Final = ("policy", "machine", "workload", "host", "versions", "command", VERDICT,
                    "at_utc")
_NUMBERS: Final = ("harts", "replicate", "nr_cpus", "livelock_retries", "peak_kib")
_SECONDS: Final = ("wall_s", "cpu_s")
_LINE: Final = (*LABELS, "wall_s", "cpu_s", "peak_kib", "at_utc", "host")
_LINES: Final = 10_000
"""Whole records at once: they are 2 to 4 KiB."""
_NOT_PLAIN: Final = r'[^ !#-\[\]-~]'
"""What JSON escapes in a text."""


def export(store: Store, form: str, to: BinaryIO) -> int:
    """Write every record of a run as rows; return how many. Raises InputError without pyarrow.

    ``json`` is one object a line, the record whole with its histograms; ``csv`` and ``parquet``
    have a column for each label, counter and bit of provenance.
    """
    arrow = _arrow(needed=form == "parquet")
    with reading(store) as one:
        if arrow is not None:
            rows = _with_arrow(arrow, one, form, to)
        else:
            rows = (_plain_csv if form == "csv" else _plain_json)(one, to)
    if not rows:
        raise StoreError(f"{store.path}: no records of runs in it")
    return rows


def _arrow(*, needed: bool) -> Any:
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        if not needed:
            return None
        raise InputError("store", "", f"this needs pyarrow ({error}): "
                         "pip install 'fencelab[columns]'") from error
    return pyarrow


# ---- with arrow --------------------------------------------------------------------------------


def _with_arrow(arrow: Any, one: Reading, form: str, to: BinaryIO) -> int:
    """Read and write at once: arrow does either without the interpreter's lock."""
    words, rows = Words(one), 0
    names, at_once = ((*_STORED, "record"), _LINES) if form == "json" else (_STORED, BLOCK_ROWS)
    sheet = None if form == "json" else _Sheet(arrow, form, to)
    with ThreadPoolExecutor(max_workers=1) as behind:
        under_way: Future[Any] | None = None
        for block in one.blocks(names, at_once):
            ready = _lines(arrow, words, block) if sheet is None else _table(arrow, words, block)
            if under_way is not None:
                under_way.result()
            under_way = behind.submit(to.write if sheet is None else sheet.write, ready)
            rows += len(block)
        if under_way is not None:
            under_way.result()
    if sheet is not None:
        sheet.close()
    return rows


def _table(arrow: Any, words: Words, block: Block) -> Any:
    """Return a block as an arrow table: labels, verdict, overhead, counters, provenance."""
    return arrow.table({
        **{name: _column(arrow, words, block, name) for name in (*LABELS, VERDICT)},
        OVERHEAD: arrow.array(block.counters[OVERHEAD], from_pandas=True),
        **{name: arrow.array(block.counters[name]) for name in block.counters if name != OVERHEAD},
        **{name: _column(arrow, words, block, name) for name in PROVENANCE}})


def _column(arrow: Any, words: Words, block: Block, name: str) -> Any:
    """Return a column as an arrow array; what repeats, as a dictionary."""
    if name in _REPEATED:
        codes, values = words.coded(block, name)
        missing = [at for at, value in enumerate(values) if value is None]
        return arrow.DictionaryArray.from_arrays(
            arrow.array(codes, mask=codes == missing[0]) if missing else arrow.array(codes),
            arrow.array([value or "" for value in values], arrow.string()))
    kind = arrow.int64() if name in _NUMBERS else (
        arrow.float64() if name in _SECONDS else arrow.string())
    column = block.columns[name]
    return column.cast(kind) if isinstance(column, arrow.Array) else arrow.array(column, kind)


class _Sheet:
    """A file of columns, those of the first block; counters of other engines are fitted in."""

    def __init__(self, arrow: Any, form: str, to: BinaryIO) -> None:
        self._arrow, self._form, self._to = arrow, form, to
        self._inner: Any = None
        self._schema: Any = None

    def write(self, table: Any) -> None:
        """Write one block."""
        if self._form == "csv":
            table = _spelt_out(self._arrow, table)
        if self._inner is None:
            self._schema = table.schema
            self._inner = self._opened(table.schema)
        elif not table.schema.equals(self._schema):
            nothing = self._arrow.nulls(len(table))
            table = self._arrow.table([
                (table[field.name] if field.name in table.column_names else nothing).cast(
                    field.type) for field in self._schema], schema=self._schema)
        self._inner.write_table(table)

    def _opened(self, schema: Any) -> Any:
        """Open a writer. Counters that differ fill no dictionary: a third of the time without."""
        arrow = self._arrow
        if self._form == "csv":
            return arrow.csv.CSVWriter(self._to, schema)
        counted = [field.name for field in schema if field.type == arrow.uint64()]
        return arrow.parquet.ParquetWriter(
            self._to, schema, compression="zstd", use_dictionary=[*_REPEATED, *_NUMBERS],
            column_encoding=dict.fromkeys(counted, "DELTA_BINARY_PACKED"))

    def close(self) -> None:
        """End the file."""
        if self._inner is not None:
            self._inner.close()


def _spelt_out(arrow: Any, table: Any) -> Any:
    """Return a table without dictionaries, which CSV does not know."""
    columns = [column.cast(column.type.value_type) if arrow.types.is_dictionary(column.type)
               else column for column in table.columns]
    return arrow.table(columns, names=table.column_names)


def _lines(arrow: Any, words: Words, block: Block) -> memoryview:
    """Return a line of JSON for each row, all in one piece."""
    pieces: list[Any] = []
    for name in _LINE:
        pieces += [f'{"," if pieces else "{"}"{name}":'.encode(),
                   _spelt(arrow, words, block, name).cast(arrow.binary())]
    record = block.columns["record"]
    if not isinstance(record, arrow.Array):
        record = arrow.array(record, arrow.binary())
    lines = arrow.compute.binary_join_element_wise(*pieces, b',"result":', record, b"}\n", b"")
    _, ends, data = lines.buffers()
    return memoryview(data)[:memoryview(ends).cast("i")[len(lines)]]


def _spelt(arrow: Any, words: Words, block: Block, name: str) -> Any:
    """Return a column as JSON has its values."""
    if name in _REPEATED:
        codes, values = words.coded(block, name)
        return arrow.array([json.dumps(value) for value in values]).take(arrow.array(codes))
    column = _column(arrow, words, block, name)
    if name in _NUMBERS or name in _SECONDS:
        return column.cast(arrow.string()).fill_null("null")
    if arrow.compute.any(arrow.compute.match_substring_regex(column, _NOT_PLAIN)).as_py():
        return arrow.array([json.dumps(value) for value in column.to_pylist()])
    return arrow.compute.binary_join_element_wise('"', column, '"', "")


# ---- without -----------------------------------------------------------------------------------


def _rows(one: Reading, words: Words, names: Sequence[str], at_once: int
          ) -> Iterator[tuple[Block, Callable[[str], Sequence[Any]]]]:
    """Yield blocks, each with a function that returns a column of it in words."""
    for block in one.blocks(names, at_once):
        def column(name: str, block: Block = block) -> Sequence[Any]:
            if name in _REPEATED:
                codes, values = words.coded(block, name)
                return [values[code] for code in codes.tolist()]
            return block.columns[name]   # type: ignore[no-any-return]
        yield block, column


def _plain_csv(one: Reading, to: BinaryIO) -> int:
    text = io.TextIOWrapper(to, encoding="utf-8", newline="", write_through=True)
    writer, rows = csv.writer(text), 0
    counted: list[str] = []
    for block, column in _rows(one, Words(one), _STORED, BLOCK_ROWS):
        if not rows:
            counted = [name for name in block.counters if name != OVERHEAD]
            writer.writerow((*LABELS, VERDICT, OVERHEAD, *counted, *PROVENANCE))
        overhead = [None if x != x else x for x in block.counters[OVERHEAD].tolist()]
        nothing = [None] * len(block)
        writer.writerows(zip(
            *map(column, (*LABELS, VERDICT)), overhead,
            *(block.counters[name].tolist() if name in block.counters else nothing
              for name in counted), *map(column, PROVENANCE), strict=True))
        rows += len(block)
    text.detach()
    return rows


def _plain_json(one: Reading, to: BinaryIO) -> int:
    rows = 0
    for block, column in _rows(one, Words(one), (*_STORED, "record"), _LINES):
        lines = []
        for record, *said in zip(block.columns["record"], *map(column, _LINE), strict=True):
            head = json.dumps(dict(zip(_LINE, said, strict=True)), separators=(",", ":"))
            lines.append(head[:-1].encode() + b',"result":' + record + b"}\n")
        to.write(b"".join(lines))
        rows += len(block)
    return rows
