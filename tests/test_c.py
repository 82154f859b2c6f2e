"""Builds each ``tests/c/*.c`` with the engine's sources and runs it: one table of rows per module.

The programs are built with the address and undefined-behaviour sanitizers where the compiler can
link them, and held to the same warnings as the engine.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import warnings
from pathlib import Path

import pytest

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
        for source in sorted(root.glob("csim/*.c")):
            done = self.call("-c", source, "-o", into / f"{source.stem}.o")
            assert done.returncode == 0, done.stderr
        self.objects = sorted(into.glob("*.o"))

    def call(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [*self.cc, *FLAGS, *WARNINGS, *self.sanitizers, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=self.root, check=False)

    def program(self, source: Path) -> Path:
        made = self.into / source.stem
        done = self.call(source, *self.objects, "-o", made)
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
