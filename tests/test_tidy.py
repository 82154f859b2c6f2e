"""The rules of tests/tidy.py hold here, and each of them can fail."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import tidy

HOUSE = tidy.House(tidy.ROOT)


@pytest.mark.parametrize("rule", tidy.RULES, ids=lambda rule: rule.__name__)
def test_rule_holds_here(rule):
    assert not rule(HOUSE), "\n".join([rule.__doc__, *rule(HOUSE)])


LONG_BODY = "\n".join(["    x++;"] * 60)
BROKEN = {
    "csim/csim.h": """
        #pragma once
        #include "tlb.h"
        int csim_missing(int x);
        """,
    "csim/arena.c": """
        #include <stdlib.h>
        static _Thread_local int taken = 1;
        void *arena_take(void) { return malloc((size_t)taken++); }
        """,
    "csim/tlb.h": """
        #pragma once
        #include "csim.h"
        static inline int way(int x) { return x; }
        """,
    "csim/tlb.c": f"""
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        #include "tlb.h"
        static int calls;
        static const char *const name = "a constant is no static that changes";
        /* a comment may say 1.5 or double */
        static int ping(int x, int (*f)(int));
        static int pong(int x) {{ return ping(x, pong); }}
        static int ping(int x, int (*f)(int)) {{ return f(x); }}
        int lookup(int x)
        {{
            double y = 1.5;
        {textwrap.indent(LONG_BODY, "        ")}
            free(malloc((size_t)x));
            puts(name);
            return calls++ + (int)y + ping(x, pong);
        }}
        """,
    "csim/walk.c": """
        #include "hart.h"
        static int walk_down(int x) { return x > 0 ? walk_down(x - 1) : 0; }
        int walk(int x) { return walk_down(x); }
        int csim_unheard_of(int x) { return x; }
        """,
    "csim/hart.h": "",
    "csim/cupboard.h": "",
    "pysim/study.py": f"""
        import ctypes
        from pysim._csim import lib
        def late():
            import sweeps.run
        WIDE = "{"x" * 100}"
        HOME = "/{"home"}/somebody/results"
        """,
    "sweeps/yard.py": "import cffi\nimport ray.util\nfrom tests import tidy\n"
    + "def long():\n" + "    print()\n" * 60,
}
EXPECTED = {
    "long_lines": ["pysim/study.py:6: 109 columns"],
    "long_functions": ["csim/tlb.c:12: 67 lines", "sweeps/yard.py:4: long has 61 lines"],
    "allocations": [
        "csim/tlb.c: asks for free, which only arena.c may",
        "csim/tlb.c: asks for malloc, which only arena.c may",
    ],
    "mutable_statics": ["csim/arena.c: 4 bytes in .tdata", "csim/tlb.c: 4 bytes in .bss"],
    "wrong_names": [
        "csim/tlb.c: exports lookup, expected tlb_* or csim_*",
        "csim/tlb.h:4: way, expected tlb_*",
    ],
    "ajar_door": [
        "csim/csim.h:4: csim_missing is defined nowhere",
        "csim_unheard_of is not declared in csim.h",
    ],
    "wrong_includes": [
        "csim: csim.h includes tlb.h includes csim.h",
        "csim/csim.h: includes tlb.h, which stands further in",
        "csim/cupboard.h: has no place; give it one in ORDER of tests/tidy.py",
        "csim/walk.c: includes hart.h, which stands further in",
    ],
    "hot_files": [
        "csim/tlb.c:14: a float: double y = 1.5;",
        "csim/tlb.c: asks for free",
        "csim/tlb.c: asks for malloc",
        "csim/tlb.c: asks for puts",
    ],
    "wrong_imports": [
        "pysim/study.py:2: imports ctypes: only pysim/engine.py opens the door",
        "pysim/study.py:3: imports pysim._csim.lib: only pysim/engine.py opens the door",
        "pysim/study.py:5: imports sweeps.run: the study does not know the yard",
        "sweeps/yard.py:1: imports cffi: only pysim/engine.py opens the door",
        "sweeps/yard.py:2: imports ray.util: only sweeps/executors/ray.py knows Ray",
        "sweeps/yard.py:3: imports tests.tidy: the building does not know its tests",
    ],
    "machine_paths": [f'pysim/study.py:7: HOME = "/{"home"}/somebody/results"'],
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A small checkout that breaks every rule."""
    root = tmp_path_factory.mktemp("broken")
    for name, text in BROKEN.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(textwrap.dedent(text))
    return tidy.House(root)


@pytest.mark.parametrize("name", EXPECTED)
def test_rule_finds_what_is_broken(name, broken):
    rule = next(rule for rule in tidy.RULES if rule.__name__ == name)
    assert sorted(rule(broken)) == sorted(EXPECTED[name])


def test_recursion_is_found_direct_and_through_a_pointer(broken):
    found = " -> ".join(tidy.recursion(broken)).split(" -> ")
    assert {name.rpartition(":")[2] for name in found} == {"walk_down", "ping", "pong"}


def test_a_function_the_measure_overlooks_is_named(broken, monkeypatch):
    monkeypatch.setattr(tidy, "c_function_spans", lambda _source: iter(()))
    complaints = tidy.unmeasured_functions(broken)
    assert "csim/tlb.c:12: lookup" in complaints
    assert "csim/tlb.h:4: way" in complaints


START = """
import json, sys
{code}
print()
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


def modules_after(code: str) -> set[str]:
    """Top-level modules a fresh Python holds after running ``code``."""
    command = [sys.executable, "-c", START.format(code=code)]
    done = subprocess.run(command, cwd=Path.cwd(), capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


HEAVY = {"ray", "numpy", "scipy", "pandas", "matplotlib", "pyarrow"}
HELP = """
sys.argv = ["fencelab", "--help"]
from sweeps.cli import main
try:
    main()
except SystemExit:
    pass
"""


@pytest.mark.parametrize("code", ["import pysim, pysim.engine, pysim.policies", HELP])
def test_a_start_loads_nothing_heavy(code):
    loaded = modules_after(code)
    assert "sweeps" in loaded or code != HELP
    assert not loaded & HEAVY
