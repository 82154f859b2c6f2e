"""Rows of the scoreboard as jobs: a group at a time, through the executors, into the store.

A question names a group; its key hashes all that decides the rows: the engine's build, every file
of the package that asks it, and the counts of the folder. So a commit that moves nothing in them
scores nothing again.

Left out: nodes without the package's own needs, and folders that a node does not have: scoring
reads recordings and machines where it runs, unlike a run, which needs the engine alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pysim
from pysim import engine, validate
from pysim.engine import Question, Result
from pysim.errors import InputError
from pysim.scores import Parameter, Score, Scoreboard
from sweeps.executors.shard import stop_flag

_SOURCES: Final = (".py", ".toml", ".gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One group of rows; ``digest`` is of its folder of counts, empty where it reads none."""

    group: str
    data: str
    digest: str

    @property
    def key(self) -> str:
        """SHA-256 over the build id, the sources, group and counts."""
        parts = ("scores", engine.BUILD_ID, _sources(), self.group, self.data, self.digest)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def command(self) -> str:
        """The command that scores this group alone."""
        data = ["--data", self.data] if self.data else []
        return shlex.join(["fencelab", "validate", "--only", self.group, *data])


def questions(data: Path | None, only: str | None) -> list[Asked]:
    """Return a question for each group. Raises InputError for an unknown group or folder."""
    groups = validate.chosen(only)
    folder = data or validate.shared_counts()
    if folder and not folder.is_dir():
        raise InputError(str(folder), "", "is not a folder")
    where, digest = (str(folder.resolve()), _digest(folder)) if folder else ("", "")
    return [Asked(group=group, data=where, digest=digest) for group in groups]


def answer(asked: Asked) -> bytes:
    """Score a group; return its rows as canonical JSON."""
    flag = stop_flag()

    def simulate(question: Question) -> Result:
        return engine.simulate(question, stop=flag)

    board = validate.validate(Path(asked.data) if asked.data else None, only=asked.group,
                              simulate=simulate)
    rows = [dataclasses.asdict(row) for row in board.rows]
    return json.dumps(rows, sort_keys=True, separators=(",", ":")).encode()


def board(asked: list[Asked], records: Mapping[str, bytes]) -> Scoreboard:
    """Return the scoreboard of these records, in the order of the questions."""
    return Scoreboard(rows=tuple(row for one in asked if one.key in records
                                 for row in _rows(records[one.key])))


def _rows(record: bytes) -> Iterator[Score]:
    for values in json.loads(record):
        values["parameters"] = tuple(Parameter(**one) for one in values["parameters"])
        yield Score(**values)


def _digest(folder: Path, wanted: Callable[[Path], bool] = Path.is_file) -> str:
    """Return the SHA-256 of a folder's files, names included."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if wanted(path)):
        name = str(path.relative_to(folder)).encode()
        body = path.read_bytes()
        digest.update(b"%d %d " % (len(name), len(body)) + name + body)
    return digest.hexdigest()


@cache
def _sources() -> str:
    """Return the SHA-256 of every file of the package that asks."""
    return _digest(Path(pysim.__file__).parent,
                   lambda path: path.is_file() and path.suffix in _SOURCES)
