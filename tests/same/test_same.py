"""Equal questions have equal records: again, in another process, in eight threads, on any seed of
Python's own hashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pysim import engine, scenario

ASKED = [
    {"policy": policy, "machine": {"inherit": machine, "via": via}, "harts": harts,
     "workload": {"inherit": workload} | change}
    for policy, machine, via, harts, workload, change in [
        ("mark-7.2", "rocket", "sbi", 4, "mixed", {"duration_ms": 1}),
        ("mark-6.12", "xs-kmh", "imsic", 3, "fork", {"duration_ms": 1}),
        ("preventive-range", "boom-mega", "imsic", 8, "mixed", {"duration_ms": 1}),
        ("preventive-full", "c910", "hw", 5, "server", {"duration_ms": 1}),
        ("vmalloc-fault", "xs-nanhu", "sbi", 2, "mixed", {"duration_ms": 1}),
        ("none", "xs-nanhu", "sbi", 4, "mixed",
         {"duration_ms": 1, "speculative_walks_per_mcycle": 2000}),      # an oops
        ("mark-barrier", "vexii", "sbi", 2, "forkburst", {}),            # recorded, random TLBs
    ]
]
PROGRAM = """
import json, sys
from pysim import engine, scenario
for asked in json.load(sys.stdin):
    question = scenario.lower(scenario.build(asked))
    print(question.key, engine.simulate(question).record().decode())
"""


@pytest.fixture(scope="module")
def records() -> list[tuple[str, bytes]]:
    """Key and record of every question, asked once."""
    return [(question.key, engine.simulate(question).record()) for question in questions()]


def questions() -> list[engine.Question]:
    return [scenario.lower(scenario.build(asked)) for asked in ASKED]


def test_asked_again(records: list[tuple[str, bytes]]) -> None:
    assert [(q.key, engine.simulate(q).record()) for q in questions()] == records


@pytest.mark.slow
@pytest.mark.parametrize("hash_seed", ["0", "1", "4294967295"])
def test_in_another_process(records: list[tuple[str, bytes]], root: Path, hash_seed: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], input=json.dumps(ASKED), text=True,
                          capture_output=True, check=True, cwd=root,
                          env=os.environ | {"PYTHONHASHSEED": hash_seed})
    found = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert [(key, record.encode()) for key, record in found] == records


def test_in_eight_threads(records: list[tuple[str, bytes]]) -> None:
    """Each thread asks all of them, every one starting with another."""
    asked = questions()

    def all_from(first: int) -> list[tuple[str, bytes]]:
        turned = asked[first:] + asked[:first]
        found = [(q.key, engine.simulate(q).record()) for q in turned]
        return found[len(found) - first:] + found[:len(found) - first]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(all_from, [n % len(asked) for n in range(8)]))
    assert found == [records] * 8


def test_they_are_not_one_result(records: list[tuple[str, bytes]]) -> None:
    assert len(set(records)) == len({key for key, _ in records}) == len(ASKED)
