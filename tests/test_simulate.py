"""One run through the door: refused, stopped, repeated, and accounted for to the cycle."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest

from pysim import counters, engine, machines, ops, policies, scenario, workloads
from pysim.errors import EngineError, StoppedError
from pysim.policies import linux


def _question(**values: Any) -> engine.Question:
    base = {"policy": "mark-7.2", "machine": "rocket", "harts": 2,
            "workload": {"inherit": "mixed", "duration_ms": 1}}
    return scenario.lower(scenario.build(base | values))


@pytest.mark.parametrize("part", ["params", "header", "ops", "items", "gates"])
def test_bytes_of_another_length_are_refused(part: str) -> None:
    question = _question()
    cut = dataclasses.replace(question, **{part: getattr(question, part) + b"\0"})
    with pytest.raises(EngineError, match="wanted"):
        engine.simulate(cut)


def test_ops_the_header_counts_must_be_there() -> None:
    question = _question()
    with pytest.raises(EngineError, match="csim_op"):
        engine.simulate(dataclasses.replace(question, ops=question.ops[:-32]))


@pytest.mark.parametrize(("step", "reason"), [
    (ops.mark("new", "others"), "the clock marks all harts"),
    (ops.mark("new", "mm_mask"), "the clock marks all harts"),
    (ops.clear_mark("new", who="all"), "the clock clears the own bit"),
])
def test_a_mark_that_the_clock_cannot_store_is_refused_and_not_another_one_run(
    step: ops.Step, reason: str
) -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Others(linux.Mark72):
        marks: tuple[ops.Mark, ...] = (ops.Mark("new"),)

        def early_trap(self) -> ops.Handler:
            return []

        def map_kernel(self) -> ops.Handler:
            return [ops.store_ptes(valid=True), step]

    program = ops.lower(Others())
    with pytest.raises(EngineError, match=rf"map_kernel\[1\]: {reason}"):
        engine.simulate(dataclasses.replace(_question(), header=program.header, ops=program.ops))


def test_a_stop_flag_ends_a_run() -> None:
    stop = engine.Stop()
    stop.set()
    with pytest.raises(StoppedError):
        engine.simulate(_question(), stop=stop)
    with pytest.raises(StoppedError):
        engine.record(_question(), stop=stop)


def test_equal_questions_have_equal_records_in_any_thread() -> None:
    question, records = _question(), []
    threads = [threading.Thread(target=lambda: records.append(engine.simulate(question).record()))
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(records) == 4
    assert set(records) == {engine.simulate(question).record()}


@pytest.mark.parametrize("machine", machines.PRESETS)
@pytest.mark.parametrize("policy", [p.name for p in policies.POLICIES])
def test_every_policy_on_every_machine_is_accounted_for(policy: str, machine: str) -> None:
    question = _question(policy=policy, machine=machine, harts=4)
    result = engine.simulate(question)
    assert engine.record(question) == result.record()
    if counters.is_safe(result):
        assert counters.unaccounted_cycles(result) == 0
        assert result.counters["useful_cycles"] == 4 * machines.load(machine).mhz * 1000
        assert result.counters["ambient_faults"] == 0
    assert engine.Result.from_record(result.record()) == result


@pytest.mark.parametrize("workload", [
    pytest.param(name, marks=pytest.mark.soak if workloads.load(name).kind == "replay" else ())
    for name in workloads.WORKLOADS
])
def test_the_work_is_the_same_for_every_policy(workload: str) -> None:
    drawn = workloads.load(workload).kind == "synthetic"
    change = {"inherit": workload} | ({"duration_ms": 1} if drawn else {})
    digests = {
        result.counters["work_digest"]
        for policy in policies.POLICIES
        if counters.is_safe(result := engine.simulate(_question(
            policy=policy.name, machine="cva6", workload=change)))
    }
    assert len(digests) == 1
