"""Progress of a run: how far, how fast, how long still, and what the means look like so far.

On a terminal a bar; elsewhere a line now and then, so that a log stays readable; with ``--live`` a
table that is redrawn. The means are of what has come back so far, in the order it came: they settle
and are no result. Results are the tables at the end.
"""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Final, NoReturn

from pysim import counters
from sweeps.store import packed

if TYPE_CHECKING:
    from tqdm import tqdm

QUIET_SECONDS: Final = 10.0
"""Off a terminal, progress is one line at most this often."""
LIVE_SECONDS: Final = 0.5
_BACK: Final = "\x1b[{}A\x1b[J"   # cursor up so many lines, clear to the end


class Watcher:
    """Running means of the overhead by policy: count, mean and spread, in one pass each."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float, float]] = {}
        self._bad: dict[str, int] = {}
        self._columns: tuple[str, int, tuple[int, ...]] | None = None

    def take(self, policy: str, record: bytes) -> None:
        """Note a record that came back; none, or one that ended in a verdict, counts as bad."""
        numbers = packed(record) if b'"verdict":"ran"' in record else None
        if numbers is None:
            self._bad[policy] = self._bad.get(policy, 0) + 1
            return
        if self._columns is None or self._columns[0] != numbers[0]:
            names = numbers[0].split(",")
            self._columns = (numbers[0], names.index("useful_cycles"),
                             tuple(names.index(cause) for cause in counters.CAUSES))
        values = memoryview(numbers[1]).cast("Q")
        _, useful, causes = self._columns
        overhead = sum(values[at] for at in causes) / max(1, values[useful])
        n, mean, squares = self._seen.get(policy, (0, 0.0, 0.0))
        n += 1
        step = overhead - mean
        mean += step / n
        self._seen[policy] = n, mean, squares + step * (overhead - mean)

    def lines(self) -> list[str]:
        """Return a line for each policy: what its overhead looks like so far."""
        found = []
        for policy in sorted({*self._seen, *self._bad}):
            n, mean, squares = self._seen.get(policy, (0, 0.0, 0.0))
            spread = f" (spread {100 * math.sqrt(squares / (n - 1)):.2g})" if n > 1 else ""
            bad = f"  {self._bad[policy]} failed or unsafe" if policy in self._bad else ""
            so_far = f"{100 * mean:.4g} %{spread}" if n else "-"
            found.append(f"  {policy:<24} {n:>7} runs  overhead {so_far}{bad}")
        return found


def _span(seconds: float) -> str:
    """Return seconds as people say them: 42 s, 3:05 min, 2:10 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02} h"


class Bar:
    """Progress of one kind of work; a context manager.

    With ``watch`` a live table on a terminal; without, a bar there and quiet lines elsewhere.
    """

    def __init__(self, what: str, total: int, *, stored: int = 0,
                 watch: Watcher | None = None) -> None:
        self._what, self._total, self._stored = what, total, stored
        self._watch = watch if sys.stderr.isatty() else None
        self._done = self._failed = self._drawn = 0
        self._begun = self._said = time.monotonic()
        plain_bar = sys.stderr.isatty() and total and self._watch is None
        self._bar = _tqdm(what, total) if plain_bar else None

    def update(self, jobs: int, failed: int) -> None:
        """Take note of jobs that came back, and of how many of them failed."""
        self._done += jobs
        self._failed += failed
        if self._bar is not None:
            told = [f"{self._failed} failed"] if self._failed else []
            told += [f"{self._stored} stored"] if self._stored else []
            self._bar.set_postfix_str(", ".join(told), refresh=False)
            self._bar.update(jobs)
            return
        pause = LIVE_SECONDS if self._watch is not None else QUIET_SECONDS
        if time.monotonic() - self._said >= pause:
            self._said = time.monotonic()
            self._say()

    def line(self) -> str:
        """Return how far it is: done, failed, stored, rate, time left."""
        seconds = time.monotonic() - self._begun
        rate = self._done / seconds if seconds else 0.0
        told = [f"{self._what}: {self._done} of {self._total}"]
        told += [f"{self._failed} failed"] if self._failed else []
        told += [f"{self._stored} stored before"] if self._stored else []
        if self._done and self._done < self._total:
            told += [f"{rate:.3g}/s", f"{_span((self._total - self._done) / rate)} left"]
        return ", ".join(told)

    def _say(self) -> None:
        if self._watch is None:
            print(self.line(), file=sys.stderr, flush=True)
            return
        lines = [self.line(), *self._watch.lines()]
        back = _BACK.format(self._drawn) if self._drawn else ""
        print(back + "\n".join(lines), file=sys.stderr, flush=True)
        self._drawn = len(lines)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._watch is not None and self._total:
            self._say()


def _tqdm(what: str, total: int) -> tqdm[NoReturn]:
    from tqdm import tqdm

    tqdm.monitor_interval = 0   # no thread of its own
    return tqdm(total=total, desc=what, unit="run", leave=False, dynamic_ncols=True)
