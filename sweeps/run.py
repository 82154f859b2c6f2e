"""Plan, minus what is stored, through an executor, into the store.

``run`` lowers every scenario to its question, asks the store which keys it has, hands the rest to
an executor and keeps what comes back as it comes. A job that fails is noted and the rest goes on;
Ctrl-C drains what is under way; a store that refuses ends everything. Running again is resuming:
there is no other state than the store.

Left out: what the results mean (tables.py), and how jobs are spread (executors).
"""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

from pysim import engine
from pysim.errors import InputError
from sweeps.executors.shard import Batch, Executor, ExecutorError, Job, Stop, complaint
from sweeps.store import Failure, Provenance, Store, key_of_text

if TYPE_CHECKING:
    from tqdm import tqdm

    from pysim.engine import Question
    from pysim.scenario import Scenario

QUIET_SECONDS: Final = 10.0
"""Off a terminal, progress is one line at most this often."""
FAILURES_SHOWN: Final = 10

Lower = Callable[["Scenario"], "Question"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Scenarios with the keys of their questions; ``refused`` are those that have no question."""

    scenarios: tuple[Scenario, ...]
    keys: tuple[str, ...]
    questions: dict[str, Question]
    refused: tuple[Failure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to; ``keys`` are in the order of the scenarios."""

    keys: tuple[str, ...]
    computed: int
    stored: int
    failed: tuple[Failure, ...]
    missing: int

    @property
    def exit_status(self) -> int:
        """0 all there, 1 some failed, 130 interrupted."""
        if self.missing:
            return 130
        return 1 if self.failed else 0


def canonical(scenario: Scenario) -> str:
    """Return a scenario as canonical JSON, sources left out: its label in the store."""
    values = scenario.model_dump(mode="json", exclude={"machine": {"sources"},
                                                       "workload": {"sources"}})
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def describe(scenario: Scenario) -> str:
    """Return a scenario in a few words, for complaints."""
    return (f"{scenario.policy} on {scenario.machine.name}, {scenario.harts} harts, "
            f"{scenario.workload.name}, replicate {scenario.replicate}")


def plan(scenarios: Sequence[Scenario], lower: Lower, *, stop: Stop) -> Plan:
    """Lower every scenario. Equal parts of questions are kept once.

    Raises InputError for bad input, KeyboardInterrupt when stopped; whatever else lowering raises
    is that scenario's own failure.
    """
    parts: dict[bytes, bytes] = {}
    questions: dict[str, Question] = {}
    keys, refused = [], []
    with Bar("planning", len(scenarios)) as bar:
        for scenario in scenarios:
            if stop:
                raise KeyboardInterrupt
            try:
                question = _shared(lower(scenario), parts)
                key = question.key
                questions.setdefault(key, question)
            except InputError:
                raise
            except Exception as problem:
                text = canonical(scenario)
                key = key_of_text(text)
                refused.append(Failure(key=key, scenario=text,
                                       error=complaint(problem)))
            keys.append(key)
            bar.update(1, 0)
    return Plan(scenarios=tuple(scenarios), keys=tuple(keys), questions=questions,
                refused=tuple(refused))


def _shared(question: Question, parts: dict[bytes, bytes]) -> Question:
    """Return the question with its larger parts replaced by equal ones seen before."""
    items = parts.setdefault(question.items, question.items)
    gates = parts.setdefault(question.gates, question.gates)
    return engine.Question(params=question.params, header=question.header, ops=question.ops,
                           items=items, gates=gates)


def run(planned: Plan, store: Store, executor: Executor, *, stop: Stop) -> Outcome:
    """Compute what the store lacks. Raises StoreError when the store refuses."""
    at = {key: number for number, key in reversed(list(enumerate(planned.keys)))}
    known = store.known(planned.questions)
    store.label((key, canonical(scenario))
                for key, scenario in zip(planned.keys, planned.scenarios, strict=True)
                if key in planned.questions)
    for failure in planned.refused:
        store.fail(failure, platform.node())
    jobs = [Job(at[key], question, weight=_weight(planned.scenarios[at[key]]))
            for key, question in planned.questions.items() if key not in known]
    failed: list[Failure] = []
    back = 0
    with Bar("running", len(jobs)) as bar:
        for batch in executor(jobs, stop=stop) if jobs else ():
            failures = _keep(batch, planned, store)
            failed += failures
            back += len(batch.rows)
            bar.update(len(batch.rows), len(failures))
    return Outcome(keys=planned.keys, computed=back - len(failed), stored=len(known),
                   failed=(*planned.refused, *failed), missing=len(jobs) - back)


def say(outcome: Outcome, planned: Plan, store: Path) -> None:
    """Tell on standard error what a run came to, and how to go on."""
    print(f"{outcome.computed} computed, {outcome.stored} stored in {store}", file=sys.stderr)
    say_failures(outcome, planned)
    if len(outcome.failed) > FAILURES_SHOWN:
        print(f"all of them: table `failures` of {store}", file=sys.stderr)
    if outcome.missing:
        print(f"interrupted: {outcome.missing} are missing; run the same command again to go on",
              file=sys.stderr)


def say_failures(outcome: Outcome, planned: Plan) -> None:
    """Tell on standard error which scenarios failed, and in what error."""
    named = dict(zip(planned.keys, planned.scenarios, strict=True))
    for failure in outcome.failed[:FAILURES_SHOWN]:
        print(f"failed: {describe(named[failure.key])}: {failure.error}", file=sys.stderr)
    if len(outcome.failed) > FAILURES_SHOWN:
        print(f"and {len(outcome.failed) - FAILURES_SHOWN} more", file=sys.stderr)


def _weight(scenario: Scenario) -> float:
    """Predict what a run costs: about as much as harts times simulated time."""
    return float(scenario.harts)


def _keep(batch: Batch, planned: Plan, store: Store) -> list[Failure]:
    """Put a batch into the store; return its failures."""
    if batch.build_id != engine.BUILD_ID:
        raise ExecutorError(f"{batch.host} answered with engine {batch.build_id[:12]}, this is "
                            f"{engine.BUILD_ID[:12]}: install the same build there")
    failures = []
    for row in batch.rows:
        key = planned.keys[row.index]
        if row.error:
            scenario = canonical(planned.scenarios[row.index])
            failures.append(Failure(key=key, scenario=scenario, error=row.error))
            store.fail(failures[-1], batch.host)
        else:
            store.put(key, row.record, Provenance(versions=versions(), host=batch.host,
                                                  wall_s=row.wall_s, cpu_s=row.cpu_s))
    return failures


@cache
def versions() -> str:
    """Return what computes here, as JSON: fencelab, build id, Python, platform, commit if known."""
    return json.dumps({
        "fencelab": version(), "build_id": engine.BUILD_ID, "commit": _commit(),
        "python": platform.python_version(), "platform": platform.platform(),
    }, sort_keys=True)


def version() -> str | None:
    """Return the installed version; None in a checkout that was not installed."""
    try:
        return metadata.version("fencelab")
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the checkout this package lies in, if it lies in one."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True,
                              timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


@contextmanager
def interruptible(stop: Stop) -> Iterator[None]:
    """While inside, Ctrl-C and SIGTERM raise ``stop`` instead of ending the program."""
    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.level += 1
        if stop.level == 1:
            print("\nfinishing what is under way; once more to leave it", file=sys.stderr)

    with ExitStack() as back:
        for number in (signal.SIGINT, signal.SIGTERM):
            back.callback(signal.signal, number, signal.signal(number, on_signal))
        yield


class Bar:
    """Progress: a tqdm bar on a terminal, elsewhere a line now and then. A context manager."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._done = self._failed = 0
        self._said = time.monotonic()
        self._bar = _tqdm(what, total) if sys.stderr.isatty() and total else None

    def update(self, jobs: int, failed: int) -> None:
        """Take note of jobs that came back, and of how many of them failed."""
        self._done += jobs
        self._failed += failed
        failed_text = f", {self._failed} failed" if self._failed else ""
        if self._bar is not None:
            self._bar.set_postfix_str(failed_text.removeprefix(", "), refresh=False)
            self._bar.update(jobs)
        elif time.monotonic() - self._said >= QUIET_SECONDS:
            self._said = time.monotonic()
            print(f"{self._what}: {self._done} of {self._total}{failed_text}", file=sys.stderr)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _tqdm(what: str, total: int) -> tqdm[NoReturn]:
    from tqdm import tqdm

    tqdm.monitor_interval = 0   # no thread of its own
    return tqdm(total=total, desc=what, unit="run", leave=False, dynamic_ncols=True)
