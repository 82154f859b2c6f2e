"""Questions that are no runs, through the executors of sweeps, into the store.

A verdict of the explorer, a group of rows of the scoreboard: whatever has a key that hashes all
that decides the answer, and an answer in bytes. What the store has is not asked again.

Left out: what an answer means, and scenarios, provenance of weights, replicates: run.py has those.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from sweeps import run as runs
from sweeps.executors.shard import Executor, Job, Stop
from sweeps.store import Failure, Provenance, Store

INTERNAL: Final = 5
INTERRUPTED: Final = 130


class Question(Protocol):
    """Something to be asked; it travels to a worker pickled."""

    @property
    def key(self) -> str:
        """SHA-256 over all that decides the answer."""
        ...

    @property
    def command(self) -> str:
        """The command line that asks this alone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Records by key; ``missing`` were not reached, ``failed`` ended in an error."""

    records: dict[str, bytes]
    computed: int
    stored: int
    failed: tuple[Failure, ...]
    missing: int

    def tell(self, path: Path) -> int:
        """Say on standard error what became of them; return an exit status."""
        print(f"{self.computed} computed, {self.stored} stored in {path}", file=sys.stderr)
        for failure in self.failed:
            print(f"failed: {failure.reproducer}: {failure.error}", file=sys.stderr)
        if self.missing:
            print(f"interrupted: {self.missing} are missing; run the same command again to go on",
                  file=sys.stderr)
            return INTERRUPTED
        return INTERNAL if self.failed else 0


def ask(asked: Sequence[Question], path: Path, executor: Executor) -> Answered:
    """Compute what the store lacks and keep it as it comes; Ctrl-C drains, twice leaves.

    Raises StoreError, ExecutorError.
    """
    keys = [one.key for one in asked]
    first = {key: at for at, key in reversed(list(enumerate(keys)))}
    stop, back = Stop(), 0
    failed: dict[int, Failure] = {}         # by the question, whoever answers first
    with runs.interruptible(stop), Store(path, write=True) as store:
        known = store.known(first)
        jobs = [Job(at, asked[at]) for key, at in sorted(first.items(), key=lambda one: one[1])
                if key not in known]
        for batch in executor(jobs, stop=stop) if jobs else ():
            runs.refuse_another_engine(batch)
            if not batch.rows:
                store.flush()
            for row in batch.rows:
                back += 1
                one = asked[row.index]
                if row.error:
                    failed[row.index] = Failure(key=keys[row.index], scenario=one.command,
                                                error=row.error, reproducer=one.command)
                    continue
                store.put(keys[row.index], row.record, Provenance(
                    versions=runs.versions(), host=batch.host or platform.node(),
                    wall_s=row.wall_s, cpu_s=row.cpu_s, peak_kib=row.peak_kib,
                    command=one.command))
        found = {key: store.record(key) for key in first}
    return Answered(records={key: record for key, record in found.items() if record is not None},
                    computed=back - len(failed), stored=len(known),
                    failed=tuple(failed[at] for at in sorted(failed)), missing=len(jobs) - back)
