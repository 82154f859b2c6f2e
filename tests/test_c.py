"""Builds each ``tests/c/*.c`` with the engine's sources and runs it: one table of rows per module.

The programs are built with the address and undefined-behaviour sanitizers where the compiler can
link them, and held to the same warnings as the engine. ``tests/c/alone`` asks a whole question the
same way: without Python, where a leak can be seen.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pysim import engine, scenario

pytestmark = pytest.mark.slow  # compiles the engine
PROGRAMS = sorted((Path(__file__).parent / "c").glob("*.c"))
FLAGS = ["-std=c11", "-O1", "-g", "-UNDEBUG", "-Icsim", "-Itests/c"]
WARNINGS = shlex.split("-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wswitch-enum -Werror")
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


class Compiler:
    """``cc``, and the engine's objects, compiled once."""

    def __init__(self, root: Path, into: Path) -> None:
        self.root, self.into = root, into
        self.cc = shlex.split(os.environ.get("CC", "cc"))
        self.sanitizers = SANITIZERS
        probe = into / "probe.c"
        probe.write_text("int main(void) { return 0; }\n")
        if self.call(probe, "-o", into / "probe").returncode:
            warnings.warn("no sanitizers here: C tests run without them", stacklevel=1)
            self.sanitizers = []
        with ThreadPoolExecutor(os.cpu_count()) as together:
            self.objects = sorted(together.map(self.object, root.glob("csim/*.c")))

    def call(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [*self.cc, *FLAGS, *WARNINGS, *self.sanitizers, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=self.root, check=False)

    def object(self, source: Path) -> Path:
        made = self.into / f"{source.stem}.o"
        done = self.call("-c", source, "-o", made)
        assert done.returncode == 0, done.stderr
        return made

    def program(self, source: Path) -> Path:
        made = self.into / source.stem
        done = self.call(source, *self.objects, "-lm", "-o", made)
        assert done.returncode == 0, done.stderr
        return made


@pytest.fixture(scope="session")
def compiler(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    return Compiler(root, tmp_path_factory.mktemp("c"))


@pytest.mark.parametrize("source", PROGRAMS, ids=lambda source: source.stem)
def test_every_row_of_the_table_holds(compiler: Compiler, source: Path) -> None:
    done = subprocess.run([compiler.program(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" rows, 0 wrong\n")


def test_a_wrong_row_fails(compiler: Compiler, tmp_path: Path) -> None:
    source = tmp_path / "wrong.c"
    source.write_text(
        '#include "table.h"\n'
        "int main(void)\n{\n    struct table table = {.rows = 2};\n"
        '    table_want(&table, "one", "is one", 1, 1);\n'
        '    table_want(&table, "two", "is one", 2, 1);\n'
        "    return table_end(&table);\n}\n"
    )
    done = subprocess.run([compiler.program(source)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (
        1,
        "two: is one is 0x2, want 0x1\n2 rows, 1 wrong\n",
    )


def asked_alone(
    compiler: Compiler, question: engine.Question
) -> subprocess.CompletedProcess[bytes]:
    """Ask a question in a process that has no Python in it."""
    program = compiler.program(Path(__file__).parent / "c" / "alone" / "question.c")
    parts = (question.params, question.header, question.ops, question.items, question.gates)
    given = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    return subprocess.run([program], input=given, capture_output=True, check=False)


@pytest.mark.parametrize(
    ("policy", "machine", "workload"),
    [
        ("mark-7.2", "rocket", {"inherit": "fork", "duration_ms": 1}),
        ("preventive-range", "xs-kmh", {"inherit": "mixed", "duration_ms": 1}),
        ("none", "xs-nanhu", {"inherit": "mixed", "duration_ms": 1}),
        ("mark-6.12", "x60", {"inherit": "forkburst", "rate_factor": 8}),
    ],
)
def test_a_question_alone_leaks_nothing_and_gives_the_same_bytes(
    compiler: Compiler, policy: str, machine: str, workload: dict[str, object]
) -> None:
    """Built with other flags and without Python: no result depends on either."""
    values = {"policy": policy, "machine": machine, "workload": workload, "harts": 4}
    question = scenario.lower(scenario.build(values))
    done = asked_alone(compiler, question)
    assert done.returncode == 0, done.stderr.decode()
    (result,) = engine.ffi.from_buffer("struct csim_result[]", done.stdout)
    assert engine._result(result) == engine.simulate(question)


def test_a_refused_question_leaks_nothing(compiler: Compiler) -> None:
    question = scenario.lower(scenario.build({"policy": "none", "machine": "cva6",
                                              "workload": "idle"}))
    refused = dataclasses.replace(question, params=bytes(len(question.params)))
    done = asked_alone(compiler, refused)
    assert (done.returncode, done.stdout) == (2, b"")
    assert len(done.stderr.splitlines()) == 1, done.stderr.decode()
