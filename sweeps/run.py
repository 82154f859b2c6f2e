"""Plan, minus what is stored, through an executor, into the store.

``plan`` finds the key of every scenario's question; ``run`` asks the store which keys it has, hands
the rest to an executor, each lowered only when its turn comes, and keeps what comes back as it
comes. A job that fails is noted with the command that meets it again, and the rest goes on; Ctrl-C
drains what is under way; a store that refuses ends everything. Running again is resuming: there is
no other state than the store. A question that failed is not asked again unless that is asked for.

Left out: what the results mean (tables.py), how jobs are spread (executors), how many replicates
are enough (search.py).
"""

from __future__ import annotations

import json
import platform
import shlex
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from pysim import engine
from pysim.errors import InputError
from pysim.scenario import Lowering
from sweeps.executors.shard import Batch, Executor, ExecutorError, Job, Stop, complaint
from sweeps.points import Scenarios, SweepError
from sweeps.progress import Bar, Watcher
from sweeps.store import Failure, Row, Store, key_of_text

if TYPE_CHECKING:
    from pysim.engine import Question
    from pysim.scenario import Scenario

FAILURES_SHOWN: Final = 10
NOTHING_MEASURED: Final = 4
_REPLAY_MS: Final = 10.0   # assumed: what a recording weighs beside a drawn workload of so long

Lower = Callable[["Scenario"], "Question"]
"""Lowers a scenario; a ``Lowering`` finds keys without making questions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Scenarios with the keys of their questions.

    ``first`` is where each question is asked first; ``weights`` predict the cost of every scenario
    in one unit; ``refused`` are those that have no question.
    """

    scenarios: Sequence[Scenario]
    keys: Sequence[str]
    first: dict[str, int]
    weights: Sequence[float]
    refused: tuple[Failure, ...]
    lower: Lower

    def place(self, at: int) -> tuple[Scenario, int]:
        """Return a scenario to lower or label, and the replicate it is asked for."""
        if isinstance(self.scenarios, Scenarios):
            return self.scenarios.place(at)
        scenario = self.scenarios[at]
        return scenario, scenario.replicate

    def question(self, at: int) -> Question:
        """Lower one scenario."""
        if isinstance(self.lower, Lowering):
            return self.lower(*self.place(at))
        return self.lower(self.scenarios[at])


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to; ``keys`` are in the order of the scenarios.

    ``failed`` holds those that failed now and those that failed earlier (``failed_before`` many)
    and were not asked again. ``cpu_s`` is the engine's processor time.
    """

    keys: Sequence[str]
    computed: int
    stored: int
    failed: tuple[Failure, ...]
    missing: int
    failed_before: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def exit_status(self) -> int:
        """0 all there, 1 some failed, 4 nothing measured, 130 interrupted."""
        if self.missing:
            return 130
        if not self.computed and not self.stored:
            return NOTHING_MEASURED
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
    """Find the key of every scenario's question.

    Raises InputError or SweepError for bad input, KeyboardInterrupt when stopped; whatever else
    lowering raises is that scenario's own failure.
    """
    key_of = lower.key if isinstance(lower, Lowering) else lambda one: lower(one).key
    grouped = scenarios.by_cell() if isinstance(scenarios, Scenarios) \
        and isinstance(lower, Lowering) else None
    keys: list[str] = []
    first: dict[str, int] = {}
    weights = array("d")
    refused: list[Failure] = []
    complaints: dict[str, None] = {}
    with Bar("planning", len(scenarios)) as bar:
        for scenario, replicates in grouped or ((scenario, 1) for scenario in scenarios):
            if stop:
                raise KeyboardInterrupt
            begin = len(keys)
            try:
                keys += lower.keys(scenario, range(replicates)) \
                    if grouped is not None and isinstance(lower, Lowering) else [key_of(scenario)]
            except InputError as problem:
                complaints[str(problem)] = None
            except Exception as problem:
                said = complaint(problem)
                for number in range(replicates):
                    one = scenario.model_copy(update={"replicate": number}) if number else scenario
                    text = canonical(one)
                    keys.append(key_of_text(text))
                    refused.append(Failure(key=keys[-1], scenario=text, error=said))
            else:
                for at in range(begin, len(keys)):
                    first.setdefault(keys[at], at)
            weights.extend([_weight(scenario)] * replicates)
            bar.update(replicates, 0)
    if complaints:
        raise SweepError(list(complaints))
    return Plan(scenarios=scenarios, keys=keys, first=first, weights=weights,
                refused=tuple(refused), lower=lower)


def together(one: Outcome, more: Outcome) -> Outcome:
    """Return what two different questions came to."""
    return replace(more, keys=[*one.keys, *more.keys], computed=one.computed + more.computed,
                   stored=one.stored + more.stored, failed=(*one.failed, *more.failed),
                   missing=one.missing + more.missing,
                   failed_before=one.failed_before + more.failed_before,
                   wall_s=one.wall_s + more.wall_s, cpu_s=one.cpu_s + more.cpu_s)


class Todo(Sequence[Job]):
    """The jobs of a plan that are left to do, each made when it is asked for."""

    def __init__(self, planned: Plan, keys: Sequence[str]) -> None:
        self._planned = planned
        self._at = array("Q", (planned.first[key] for key in keys))
        self.weights = array("d", (planned.weights[at] for at in self._at))

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, index: int) -> Job:  # type: ignore[override]
        at = self._at[index]
        return Job(at, self._planned.question(at), weight=self.weights[index])


def run(planned: Plan, store: Store, executor: Executor, *, stop: Stop,
        retry_failed: bool = True, watch: Watcher | None = None) -> Outcome:
    """Compute what the store lacks. Raises StoreError when the store refuses."""
    began = time.monotonic()
    known = store.known(planned.first)
    before = {} if retry_failed else {
        failure.key: failure for failure in store.failures(planned.first)
        if failure.key not in known}
    store.label((key, *planned.place(at)) for at, key in enumerate(planned.keys) if key in known)
    for failure in planned.refused:
        store.fail(failure, platform.node())
    jobs = Todo(planned, [key for key in planned.first if key not in known and key not in before])
    twins = _twins(planned)
    failed: list[Failure] = []
    back, cpu_s = 0, 0.0
    with Bar("running", len(jobs), stored=len(known), watch=watch) as bar:
        for batch in executor(jobs, stop=stop) if len(jobs) else ():
            failures = _keep(batch, planned, store, twins, watch)
            if not batch.rows:
                store.flush()   # a long run must not hold back what came before it
            failed += failures
            back += len(batch.rows)
            cpu_s += sum(row.cpu_s for row in batch.rows)
            bar.update(len(batch.rows), len(failures))
    return Outcome(keys=planned.keys, computed=back - len(failed), stored=len(known),
                   failed=(*planned.refused, *failed, *before.values()), missing=len(jobs) - back,
                   failed_before=len(before), wall_s=time.monotonic() - began, cpu_s=cpu_s)


def added(one: Outcome, more: Outcome) -> Outcome:
    """Return what two rounds came to; what the first computed is stored for the second."""
    return replace(more, computed=one.computed + more.computed, stored=one.stored,
                   failed=tuple({f.key: f for f in (*one.failed, *more.failed)}.values()),
                   failed_before=one.failed_before, wall_s=one.wall_s + more.wall_s,
                   cpu_s=one.cpu_s + more.cpu_s)


def _twins(planned: Plan) -> dict[str, list[int]]:
    """Return the further scenarios of questions that are asked more than once."""
    found: dict[str, list[int]] = {}
    if len(planned.first) + len(planned.refused) < len(planned.keys):
        for at, key in enumerate(planned.keys):
            if planned.first.get(key, at) != at:
                found.setdefault(key, []).append(at)
    return found


def say(outcome: Outcome, planned: Plan, store: Path) -> None:
    """Tell on standard error what a run came to, and how to go on."""
    print(f"{outcome.computed} computed, {outcome.stored} stored in {store}", file=sys.stderr)
    say_failures(outcome, planned)
    if len(outcome.failed) > FAILURES_SHOWN:
        print(f"all of them: fencelab store ls --failures --store {store}", file=sys.stderr)
    if outcome.failed_before:
        print(f"{outcome.failed_before} failed earlier and were not asked again; "
              "--retry-failed does", file=sys.stderr)
    if outcome.missing:
        print(f"interrupted: {outcome.missing} are missing; run the same command again to go on",
              file=sys.stderr)


def say_failures(outcome: Outcome, planned: Plan) -> None:
    """Tell on standard error which scenarios failed, in what error, and how to meet it again."""
    for failure in outcome.failed[:FAILURES_SHOWN]:
        at = planned.first.get(failure.key)
        name = describe(planned.scenarios[at]) if at is not None else _named(failure)
        print(f"failed: {name}: {failure.error}", file=sys.stderr)
        if failure.reproducer:
            print(f"        {failure.reproducer}", file=sys.stderr)
    if len(outcome.failed) > FAILURES_SHOWN:
        print(f"and {len(outcome.failed) - FAILURES_SHOWN} more", file=sys.stderr)


def _named(failure: Failure) -> str:
    """Return a failure's scenario in the words of ``describe``, from its canonical JSON."""
    said = json.loads(failure.scenario)
    return (f"{said['policy']} on {said['machine']['name']}, {said['harts']} harts, "
            f"{said['workload']['name']}, replicate {said['replicate']}")


def summary(outcome: Outcome, store: Path, status: int) -> dict[str, Any]:
    """Return what a run came to as plain data, for the summary file."""
    return {
        "exit_status": status, "computed": outcome.computed, "stored": outcome.stored,
        "failed": len(outcome.failed), "failed_before": outcome.failed_before,
        "missing": outcome.missing, "wall_s": round(outcome.wall_s, 3),
        "cpu_s": round(outcome.cpu_s, 3), "store": str(store), "command": command(),
        "versions": json.loads(versions()), "host": platform.node(),
        "failures": [{"key": one.key, "error": one.error, "scenario": _named(one),
                      "reproducer": one.reproducer} for one in outcome.failed],
    }


def write_summary(said: dict[str, Any], path: Path) -> None:
    """Write a summary whole or not at all."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise InputError(str(path), "", f"cannot be written: {error.strerror}") from error


def _weight(scenario: Scenario) -> float:
    """Predict what a run costs: about as much as harts times simulated time."""
    return scenario.harts * (float(scenario.workload.duration_ms) or _REPLAY_MS)


def refuse_another_engine(batch: Batch) -> None:
    """Raise ExecutorError unless this very engine answered."""
    if batch.build_id != engine.BUILD_ID:
        raise ExecutorError(f"{batch.host} answered with engine {batch.build_id[:12]}, this is "
                            f"{engine.BUILD_ID[:12]}: install the same build there")


def _keep(batch: Batch, planned: Plan, store: Store, twins: dict[str, list[int]],
          watch: Watcher | None) -> list[Failure]:
    """Put a batch into the store; return its failures."""
    refuse_another_engine(batch)
    failures = []
    kept = []
    for row in batch.rows:
        key, (scenario, replicate) = planned.keys[row.index], planned.place(row.index)
        if row.error:
            whole = planned.scenarios[row.index]
            again = f"fencelab store rerun {key[:16]} --store {shlex.quote(str(store.path))}"
            failures.append(Failure(key=key, scenario=canonical(whole), error=row.error,
                                    reproducer=again))
            store.fail(failures[-1], batch.host)
        else:
            kept.append(Row(key, row.record, row.wall_s, row.cpu_s, row.peak_kib, scenario,
                            replicate, row.counters))
        if watch is not None:
            watch.take(scenario.policy, row.record)
    if kept:
        store.put_all(kept, (versions(), batch.host, command()))
        again_asked = [(row.key, at) for row in kept if row.key in twins for at in twins[row.key]]
        if again_asked:
            store.label((key, *planned.place(at)) for key, at in again_asked)
    return failures


@cache
def command() -> str:
    """Return the command line of this process, as one could type it."""
    program, *arguments = sys.argv or ["python"]
    return shlex.join([Path(program).name, *arguments])


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
