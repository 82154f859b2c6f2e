"""Records of a store as columns, some rows at a time: what exports, pivots and comparisons read.

Counters come out of the packed ``numbers`` of many records at once, so a million rows are a few
array operations. No more than a block is held, and all blocks of a reading are of one moment,
whoever writes meanwhile.

There are two readers. Python's own makes an object of every value of every row, which is most of
what it costs. With `fencelab[columns]`, ADBC's SQLite driver fills arrow's columns in C; then the
tables are read one beside the other, each in the order of its records, and matched here, because
a join looks every row of the inner tables up.

Left out: what is done with the columns (export.py, archive.py, compare.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Protocol

from pysim import counters
from sweeps.store import FIELDS, Store, StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_ROWS: Final = 50_000
OVERHEAD: Final = "overhead"
VERDICT: Final = "verdict"
_WHERE: Final = {
    "key": "n.key", VERDICT: "n.verdict", **{name: f"s.{name}" for name in FIELDS},
    "machine": "s.machine", "workload": "s.workload", "maker": "p.maker",
    **{name: f"p.{name}" for name in ("wall_s", "cpu_s", "peak_kib", "at_utc")},
    "record": "r.record",
}
"""Columns of a row, each with where it stands."""
_INNER: Final = {"n": "numbers", "p": "provenance", "r": "records"}
_OF_MAKERS: Final = ("host", "versions", "command")


class Counters(Mapping[str, "NDArray[Any]"]):
    """The counters of some rows by name, and the overhead they come to (NaN where none ran)."""

    def __init__(self, names: Sequence[str], values: NDArray[Any], ran: NDArray[Any]) -> None:
        self._at = {name: at for at, name in enumerate(names)}
        self._values, self._ran = values, ran

    def __getitem__(self, name: str) -> NDArray[Any]:
        import numpy as np

        if name == OVERHEAD:
            return self._overhead()
        return np.ascontiguousarray(self._values[:, self._at[name]])

    def __iter__(self) -> Iterator[str]:
        return iter((*self._at, OVERHEAD))

    def __len__(self) -> int:
        return len(self._at) + 1

    def _overhead(self) -> NDArray[Any]:
        import numpy as np

        useful = self["useful_cycles"].astype("f8")
        causes = [self._at[cause] for cause in counters.CAUSES if cause in self._at]
        counted = self._values[:, causes].sum(axis=1)
        ran = self._ran & (useful > 0)
        return np.where(ran, counted / np.where(useful > 0, useful, 1), np.nan)


_ODD: Final = "packed counters of another length than their names: verify the store"


class Block:
    """Some rows as columns, by name: labels and provenance as they are stored, and the counters.

    A column is a sequence or arrow's array. Machines, workloads and makers are numbers of their
    tables.
    """

    def __init__(self, columns: Mapping[str, Any], names: Sequence[str],
                 values: NDArray[Any]) -> None:
        self.columns = columns
        self.counters = Counters(names, values, _is(columns[VERDICT], counters.RAN))

    def __len__(self) -> int:
        return len(self.columns[VERDICT])


class Reading(Protocol):
    """A store as it was at one moment."""

    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Yield the few rows of a query."""
        ...

    def blocks(self, names: Sequence[str], rows: int = BLOCK_ROWS) -> Iterator[Block]:
        """Yield every record of a run with every scenario that asked it, so many rows at a time.

        In the order of the records. ``names`` are the columns wanted beside the verdict; a block
        has one set of counters.
        """
        ...


@contextlib.contextmanager
def plain(store: Store) -> Iterator[Reading]:
    """Read a store row by row. Raises StoreError."""
    with store.snapshot():
        yield _Plain(store)


@contextlib.contextmanager
def reading(store: Store) -> Iterator[Reading]:
    """Read a store the fastest way there is; nothing else may ask it meanwhile. Raises StoreError.

    The writer of a store reads row by row: the file is not to be lent while it is written.
    """
    adbc = None if store.writes else _adbc()
    if adbc is None:
        with plain(store) as one:
            yield one
        return
    with store.lent() as uri:
        try:
            with contextlib.closing(adbc.connect(uri, autocommit=False)) as database:
                yield _Arrow(database)
        except adbc.Error as error:
            raise StoreError(f"{store.path}: {error}") from error


def _adbc() -> Any:
    """Return ADBC's driver, or None where it is not installed."""
    try:
        import pyarrow  # noqa: F401
        from adbc_driver_sqlite import dbapi
    except ImportError:
        return None
    return dbapi


class _Plain:
    """Reads by Python's own SQLite, in one query."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        return self._store.rows(query)

    def blocks(self, names: Sequence[str], rows: int = BLOCK_ROWS) -> Iterator[Block]:
        shapes = _shapes(self)
        wanted = list(dict.fromkeys((VERDICT, *names)))
        joins = "CROSS JOIN scenarios s ON s.record = n.record"
        if any(_WHERE[name].startswith("p.") for name in wanted):
            joins += " LEFT JOIN provenance p ON p.record = n.record"
        if "record" in wanted:
            joins += " CROSS JOIN records r ON r.id = n.record"
        query = (f"SELECT n.shape, n.counters, {', '.join(_WHERE[name] for name in wanted)}"
                 f" FROM numbers n {joins} ORDER BY n.record")
        held: list[tuple[Any, ...]] = []
        for row in self._store.rows(query):
            if held and (len(held) >= rows or held[0][0] != row[0]):
                yield _block(held, shapes[held[0][0]], wanted)
                held = []
            held.append(row)
        if held:
            yield _block(held, shapes[held[0][0]], wanted)


def _shapes(one: Reading) -> dict[int, list[str]]:
    return {number: said.split(",") for number, said in one.rows("SELECT id, names FROM shapes")}


def _block(rows: Sequence[tuple[Any, ...]], names: Sequence[str], wanted: Sequence[str]) -> Block:
    import numpy as np

    _, packed_rows, *columns = zip(*rows, strict=True)
    if any(len(one) != 8 * len(names) for one in packed_rows):
        raise StoreError(_ODD)
    values = np.frombuffer(b"".join(packed_rows), dtype="<u8").reshape(len(rows), len(names))
    return Block(dict(zip(wanted, columns, strict=True)), names, values)


class _Arrow:
    """Reads by ADBC, table by table; its transaction is open from the first query to the end."""

    def __init__(self, database: Any) -> None:
        self._database = database

    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        with self._database.cursor() as cursor:
            cursor.execute(query)
            yield from cursor.fetchall()

    def blocks(self, names: Sequence[str], rows: int = BLOCK_ROWS) -> Iterator[Block]:
        shapes = _shapes(self)
        wanted: dict[str, list[str]] = {"s": [], "n": ["shape", "counters"]}
        for name in dict.fromkeys((VERDICT, *names)):
            table, column = _WHERE[name].split(".")
            wanted.setdefault(table, []).append(column)
        query = f"SELECT {', '.join(('record AS at', *wanted.pop('s')))} FROM scenarios"
        with self._asked(f"{query} ORDER BY record", rows) as cursor:
            for batch in cursor.fetch_record_batch():
                found = dict(zip(batch.schema.names, batch.columns, strict=True))
                yield from _cut(self._beside(found, wanted), shapes)

    @contextlib.contextmanager
    def _asked(self, query: str, rows: int) -> Iterator[Any]:
        """Ask, for so many rows in one piece."""
        from adbc_driver_sqlite import StatementOptions

        with self._database.cursor() as cursor:
            cursor.adbc_statement.set_options(**{StatementOptions.BATCH_ROWS.value: str(rows)})
            cursor.execute(query)
            yield cursor

    def _beside(self, found: dict[str, Any], wanted: Mapping[str, Sequence[str]]
                ) -> dict[str, Any]:
        """Return rows of scenarios with what the other tables hold of their records.

        Rows without counters are left out, and what else is not there is null.
        """
        import numpy as np
        import pyarrow

        records = found.pop("at").to_numpy()
        keep = np.ones(len(records), dtype=bool)
        for table, columns in wanted.items():
            number = "id" if table == "r" else "record"
            query = (f"SELECT {number} AS at, {', '.join(columns)} FROM {_INNER[table]} WHERE"
                     f" {number} BETWEEN {records[0]} AND {records[-1]} ORDER BY {number}")
            with self._asked(query, len(records) + 1) as cursor:
                rows = cursor.fetch_arrow_table()
            at, there = _places(rows["at"].to_numpy(), records)
            found |= {name: _taken(rows[name], at, there) for name in columns}
            keep &= there | (table == "p")
        return found if keep.all() else {name: column.filter(pyarrow.array(keep))
                                         for name, column in found.items()}


def _places(records: NDArray[Any], wanted: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return where in sorted records those wanted are, and whether they are."""
    import numpy as np

    if not len(records):
        return np.zeros(len(wanted), dtype="i8"), np.zeros(len(wanted), dtype=bool)
    at = np.minimum(np.searchsorted(records, wanted), len(records) - 1)
    return at, records[at] == wanted


def _taken(column: Any, at: NDArray[Any], there: NDArray[Any]) -> Any:
    """Return an arrow column's values at these places, null where they are not there."""
    import numpy as np
    import pyarrow

    if not len(column):
        return pyarrow.nulls(len(at), column.type)
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if len(at) == len(whole) and there.all() and (at == np.arange(len(at))).all():
        return whole
    return whole.take(pyarrow.array(at, mask=~there))


def _cut(found: dict[str, Any], shapes: Mapping[int, Sequence[str]]) -> Iterator[Block]:
    """Yield the rows, one set of counters at a time."""
    import numpy as np

    shape, values = found.pop("shape").to_numpy(), found.pop("counters")
    edges = np.flatnonzero(np.diff(shape)) + 1
    for begin, end in pairwise((0, *edges.tolist(), len(shape))) if len(shape) else ():
        names = shapes[int(shape[begin])]
        yield Block({name: column.slice(begin, end - begin) for name, column in found.items()},
                    names, _matrix(values.slice(begin, end - begin), len(names)))


def _matrix(column: Any, width: int) -> NDArray[Any]:
    """Return packed counters as rows of 64-bit numbers: arrow's own bytes, not a copy."""
    import numpy as np

    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, dtype="<i4")[column.offset:column.offset + len(column) + 1]
    if (np.diff(ends) != 8 * width).any():
        raise StoreError(_ODD)
    return np.frombuffer(data, dtype="<u8", offset=int(ends[0]),
                         count=len(column) * width).reshape(len(column), width)


# ---- repeated values ---------------------------------------------------------------------------


class Words:
    """Columns of few different values, as numbers and the values that they stand for.

    Machines, workloads and makers are told by their names.
    """

    def __init__(self, one: Reading) -> None:
        self._one = one

    @cached_property
    def _known(self) -> Mapping[str, Mapping[int | None, str | None]]:
        parts = dict(self._one.rows("SELECT id, name FROM parts"))
        makers = list(self._one.rows("SELECT id, host, versions, command FROM makers"))
        return {"machine": parts, "workload": parts, **{
            name: {None: None, **{row[0]: row[at] for row in makers}}
            for at, name in enumerate(_OF_MAKERS, 1)}}

    def coded(self, block: Block, name: str) -> tuple[NDArray[Any], list[Any]]:
        """Return a column of a block as places in a list, and the list of different values."""
        import numpy as np

        codes, values = _coded(block.columns["maker" if name in _OF_MAKERS else name])
        if name in self._known:
            values = [self._known[name][value] for value in values]
        places = {value: at for at, value in enumerate(dict.fromkeys(values))}
        return np.array([places[value] for value in values], dtype="i4")[codes], list(places)


def _is(column: Any, value: str) -> NDArray[Any]:
    """Return where a column is this value."""
    import numpy as np

    codes, values = _coded(column)
    same: NDArray[Any] = np.array([one == value for one in values], dtype=bool)
    return same[codes]  # type: ignore[no-any-return]


def _coded(column: Any) -> tuple[NDArray[Any], list[Any]]:
    import numpy as np

    if hasattr(column, "dictionary_encode"):
        coded = column.dictionary_encode("encode")
        return coded.indices.to_numpy(), coded.dictionary.to_pylist()
    places = {value: at for at, value in enumerate(dict.fromkeys(column))}
    return np.fromiter((places[value] for value in column), dtype="i4",
                       count=len(column)), list(places)
