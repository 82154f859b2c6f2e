"""The rules of the house that a machine can check, asked of the compiler, nm, size and ast.

Each rule is a function of a checkout that returns complaints, one line each with file and line, and
never rewrites anything. ``tests/test_tidy.py`` runs them, on this checkout and on a small one that
breaks every rule; ``python tests/tidy.py`` prints the complaints.

What the rules are for: one allocator and no mutable static make two simulators share nothing; no
recursion and no float in the hot files make a run bounded and equal on every machine; arrows that
point one way make it possible to read one room without the others.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
ROOMS: Final = ("pysim", "sweeps", "tests", "benchmarks")
LINE_COLUMNS: Final = 100
FUNCTION_LINES: Final = 60

# The engine room from the door inwards. A file includes only what stands on its own row or above.
ORDER: Final = (
    ("csim.h", "rv.h"),
    ("arena", "event", "histogram", "rng.h", "draw", "trace.h", "names", "layout", "simd"),
    ("pte", "policy"),
    ("pagetable",),
    ("walk", "pwc", "tlb", "tlb_policy", "tlb_batch_log", "tlb_batch", "cache"),
    ("mmu", "mmu_check", "mmu_batch", "mmu_run", "walk_batch", "footprint"),
    ("mark", "mm", "vmap", "workload"),
    ("world",),
    ("gate", "fence"),
    ("shootdown",),
    ("handler", "trap"),
    ("hart",),
    ("params", "tables"),
    ("explore_label.h", "explore_state.h", "explore_table"),
    ("explore_memory",),
    ("explore_control",),
    ("explore_canon", "explore_chaos"),
    ("explore_step",),
    ("explore_model", "explore_describe"),
    ("sim", "explore"),
)
HOT: Final = ("tlb", "walk", "pwc", "event", "hart")
# What a hot file may ask of the C library: bytes moved and a failed assertion, nothing else.
HOT_LIBRARY: Final = frozenset({"memset", "memcpy", "memmove", "memcmp", "__assert_fail"})
ALLOCATORS: Final = frozenset(
    {
        *("malloc", "calloc", "realloc", "reallocarray", "free", "aligned_alloc"),
        *("posix_memalign", "memalign", "valloc", "alloca", "mmap", "munmap", "brk", "sbrk"),
        *("strdup", "strndup", "asprintf", "vasprintf", "getline", "open_memstream"),
    }
)


# ---- the compiler's view ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Function:
    """A C function as the compiler sees it; ``name`` carries its file when it is static."""

    name: str
    file: str
    line: int
    calls: frozenset[str]
    calls_pointer: bool

    @property
    def plain(self) -> str:
        """The name as it stands in the source."""
        return self.name.rpartition(":")[2]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One compiled C file, unoptimised so that nothing is inlined or dropped."""

    stem: str
    defined: frozenset[str]  # exported symbols
    undefined: frozenset[str]
    sections: dict[str, int]  # name -> bytes
    functions: tuple[Function, ...]
    addressed: frozenset[str]  # names whose address is used other than to call them


def compiler() -> list[str]:
    """Return the compiler that writes call graphs: gcc 10 or later, or what TIDY_CC names."""
    return shlex.split(os.environ.get("TIDY_CC", "gcc"))


def output(*command: str, cwd: Path | None = None) -> str:
    """Run a tool and return what it prints; a tool that fails fails the rule."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


_NODE: Final = re.compile(
    r'^node: \{ title: "([^"]+)" label: "[^"\\]*\\n([^"\\]+):(\d+):\d+\\n', re.MULTILINE
)
_EDGE: Final = re.compile(r'^edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', re.MULTILINE)


def read_call_graph(text: str) -> tuple[Function, ...]:
    """Read what ``gcc -fcallgraph-info=su`` wrote: only functions defined in this unit."""
    edges: dict[str, set[str]] = {}
    for source, target in _EDGE.findall(text):
        edges.setdefault(source, set()).add(target)
    functions = []
    for name, file, line in _NODE.findall(text):
        calls = edges.get(name, set())
        functions.append(
            Function(
                name=name,
                file=Path(file).name,
                line=int(line),
                calls=frozenset(calls - {"__indirect_call"}),
                calls_pointer="__indirect_call" in calls,
            )
        )
    return tuple(functions)


# Lines of assembly that may name a function without taking its address.
_CALLS: Final = frozenset({"call", "jmp", "bl", "b", "jal", "tail"})
_SILENT: Final = frozenset(
    {".type", ".size", ".globl", ".local", ".weak", ".hidden", ".section", ".file", ".string"}
)


def read_addresses(assembly: str) -> frozenset[str]:
    """Read from assembly every name that is used, but not by a call: tables, stores, arguments.

    What this does not know counts as used: more functions than can be reached through a pointer,
    never fewer.
    """
    found: set[str] = set()
    for line in assembly.splitlines():
        first, _, rest = line.strip().partition("\t")
        if first not in _CALLS | _SILENT and not first.endswith(":"):
            found.update(re.findall(r"[A-Za-z_]\w*", rest))
    return frozenset(found)


def compile_unit(path: Path, into: Path) -> Unit:
    """Compile one file of csim/ as the extension is (position independent), asserts on."""
    here = into / path.stem
    flags = ["-std=c11", "-O0", "-fPIC", "-UNDEBUG", "-fno-common", "-fkeep-inline-functions"]
    flags += ["-save-temps=obj", "-fcallgraph-info=su", "-I", str(path.parent)]
    output(*compiler(), *flags, "-c", str(path), "-o", f"{here}.o", cwd=into)
    symbols = [line.split() for line in output("nm", f"{here}.o").splitlines()]
    sizes = [line.split() for line in output("size", "-A", f"{here}.o").splitlines()]
    return Unit(
        stem=path.stem,
        defined=frozenset(s[2] for s in symbols if len(s) == 3 and s[1].isupper()),
        undefined=frozenset(s[1].split("@")[0] for s in symbols if s[0] == "U"),
        sections={s[0]: int(s[1]) for s in sizes if len(s) == 3 and s[1].isdigit()},
        functions=read_call_graph(here.with_suffix(".ci").read_text()),
        addressed=read_addresses(here.with_suffix(".s").read_text()),
    )


# ---- text ---------------------------------------------------------------------------------------


def without_text(source: str) -> str:
    """Blank out comments, strings and characters of C, keeping every line where it was."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match.group())

    pattern = r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
    return re.sub(pattern, blank, source, flags=re.DOTALL)


def without_directives(source: str) -> str:
    """Blank out preprocessor lines with their continuations, keeping every line where it was."""
    pattern = r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*"
    return re.sub(pattern, lambda m: "\n" * m[0].count("\n"), source, flags=re.MULTILINE)


def c_function_spans(source: str) -> Iterator[tuple[int, int]]:
    """Yield first and last line of each function: a brace in column 0, or all on one line."""
    first = 0
    opened: int | None = None
    text = without_directives(without_text(source))
    for number, line in enumerate(text.splitlines(), start=1):
        if opened is None and not line.strip():
            first = 0
        elif opened is None and first == 0:
            first = number
        if line.startswith("{"):
            opened = first or number
        elif line.startswith("}") and opened is not None:
            yield opened, number
            opened, first = None, 0
        elif opened is None and re.search(r"\)\s*\{.*\}\s*$", line):
            yield first or number, number
            first = 0
        elif opened is None and line.rstrip().endswith((";", "}")):
            first = 0


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything a file imports, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, f"{path.parent.name}.{node.module or ''}"


# ---- a checkout ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class House:
    """A checkout: what is in it, and what the compiler says of it (asked once)."""

    root: Path

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """Every file of csim/, compiled."""
        with tempfile.TemporaryDirectory() as folder:
            files = sorted(self.root.glob("csim/*.c"))
            return tuple(compile_unit(path, Path(folder)) for path in files)

    def c_files(self) -> list[Path]:
        """Sources and headers of the engine room and of its own tests."""
        return sorted([*self.root.glob("csim/*.[ch]"), *self.root.glob("tests/c/**/*.[ch]")])

    def python_files(self, *rooms: str) -> list[Path]:
        """Python of the given rooms, or of all of them with the build's own files."""
        found = [p for room in rooms or ROOMS for p in self.root.glob(f"{room}/**/*.py")]
        return sorted(found if rooms else [*found, *self.root.glob("*.py")])

    def name_of(self, path: Path) -> str:
        """Return the path as it is read from the top of the checkout."""
        return str(path.relative_to(self.root))

    def door(self) -> dict[str, int]:
        """Return the functions csim.h declares, with their lines."""
        text = without_directives(without_text((self.root / "csim/csim.h").read_text()))
        found = re.finditer(r"\b(csim_\w+)\(", text)
        return {m[1]: text.count("\n", 0, m.start(1)) + 1 for m in found}

    def includes(self) -> dict[str, frozenset[str]]:
        """Return, for each file of csim/, the files of csim/ it includes."""
        pattern = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
        files = self.root.glob("csim/*.[ch]")
        return {path.name: frozenset(pattern.findall(path.read_text())) for path in files}

    def call_graph(self) -> dict[str, frozenset[str]]:
        """Return every call that could happen.

        A call through a pointer may reach any function whose address is used other than to call
        it: more than happens, never less.
        """
        functions = {function.name: function for unit in self.units for function in unit.functions}
        taken = {name for unit in self.units for name in unit.addressed}
        reachable = frozenset(name for name, f in functions.items() if f.plain in taken)
        return {
            name: function.calls | (reachable if function.calls_pointer else frozenset())
            for name, function in functions.items()
        }


def cycles(graph: dict[str, frozenset[str]]) -> list[list[str]]:
    """Return one cycle for every back edge of a depth-first search; none when it has no cycle."""
    done: set[str] = set()
    found: list[list[str]] = []
    for root in sorted(graph):
        path: list[str] = []
        work: list[tuple[str, bool]] = [(root, False)]
        while work:
            name, leaving = work.pop()
            if leaving:
                done.add(path.pop())
            elif name in path:
                found.append([*path[path.index(name) :], name])
            elif name not in done:
                path.append(name)
                work.append((name, True))
                work.extend((target, False) for target in sorted(graph.get(name, ())))
    return found


def row_of(file: str) -> int | None:
    """Return the row of ORDER a file stands on, or None."""
    for number, row in enumerate(ORDER):
        if file in row or Path(file).stem in row:
            return number
    return None


# ---- the rules ----------------------------------------------------------------------------------


def long_lines(house: House) -> list[str]:
    """Lines have at most 100 columns, in C and in Python."""
    return [
        f"{house.name_of(path)}:{number}: {len(line)} columns"
        for path in [*house.c_files(), *house.python_files()]
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if len(line) > LINE_COLUMNS
    ]


def long_functions(house: House) -> list[str]:
    """Functions have at most 60 lines, signature and closing brace included."""
    found = []
    for path in house.c_files():
        for first, last in c_function_spans(path.read_text()):
            if last - first >= FUNCTION_LINES:
                found.append(f"{house.name_of(path)}:{first}: {last - first + 1} lines")
    for path in house.python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    place = f"{house.name_of(path)}:{node.lineno}"
                    found.append(f"{place}: {node.name} has {length} lines")
    return found


def unmeasured_functions(house: House) -> list[str]:
    """Every function the compiler saw was measured by ``long_functions``."""
    files = house.root.glob("csim/*.[ch]")
    spans = {path.name: list(c_function_spans(path.read_text())) for path in files}
    return sorted(
        {
            f"csim/{function.file}:{function.line}: {function.plain}"
            for unit in house.units
            for function in unit.functions
            if not any(a <= function.line <= b for a, b in spans.get(function.file, []))
        }
    )


def allocations(house: House) -> list[str]:
    """Only arena.c allocates."""
    return [
        f"csim/{unit.stem}.c: asks for {name}, which only arena.c may"
        for unit in house.units
        for name in sorted(unit.undefined & ALLOCATORS)
        if unit.stem != "arena"
    ]


def mutable_statics(house: House) -> list[str]:
    """No static, thread-local or global can change: two simulators share nothing."""
    changing = re.compile(r"^\.(data(?!\.rel\.ro)|bss|tdata|tbss|sdata|sbss)|^COMMON")
    return [
        f"csim/{unit.stem}.c: {size} bytes in {section}"
        for unit in house.units
        for section, size in unit.sections.items()
        if size and changing.match(section)
    ]


def wrong_names(house: House) -> list[str]:
    """Exported functions start with their file's stem; Python sees ``csim_*``."""
    found = [
        f"csim/{unit.stem}.c: exports {name}, expected {unit.stem}_* or csim_*"
        for unit in house.units
        for name in sorted(unit.defined)
        if name != unit.stem and not name.startswith((f"{unit.stem}_", "csim_"))
    ]
    inline = {
        (f.file, f.line, f.plain)
        for unit in house.units
        for f in unit.functions
        if f.file.endswith(".h")
    }
    return found + [
        f"csim/{file}:{line}: {name}, expected {Path(file).stem}_*"
        for file, line, name in sorted(inline)
        if name != Path(file).stem and not name.startswith(f"{Path(file).stem}_")
    ]


def ajar_door(house: House) -> list[str]:
    """What csim.h declares is defined, and every csim_* function is declared there."""
    door = house.door()
    defined = {name for unit in house.units for name in unit.defined if name.startswith("csim_")}
    return [
        *(f"csim/csim.h:{door[n]}: {n} is defined nowhere" for n in sorted({*door} - defined)),
        *(f"{name} is not declared in csim.h" for name in sorted(defined - {*door})),
    ]


def recursion(house: House) -> list[str]:
    """No function can come back to itself, directly or through others or a pointer."""
    return [" -> ".join(cycle) for cycle in cycles(house.call_graph())]


def wrong_includes(house: House) -> list[str]:
    """Includes go one way: never in a circle, never to a later row of ORDER."""
    graph = house.includes()
    found = [f"csim: {' includes '.join(cycle)}" for cycle in cycles(graph)]
    for file in sorted(graph):
        row = row_of(file)
        if row is None:
            found.append(f"csim/{file}: has no place; give it one in ORDER of tests/tidy.py")
            continue
        for target in sorted(graph[file]):
            other = row_of(target)
            if other is not None and other > row:
                found.append(f"csim/{file}: includes {target}, which stands further in")
    return found


def hot_files(house: House) -> list[str]:
    """Files on the path of every access have no float, no string and no I/O."""
    number = re.compile(r"\b(?:float|double)\b|\b\d+\.\d*|\b\d+[eE][+-]?\d+\b")
    found = []
    for stem in HOT:
        for path in sorted(house.root.glob(f"csim/{stem}.[ch]")):
            text = without_directives(without_text(path.read_text()))
            found += [
                f"{house.name_of(path)}:{at}: a float: {line.strip()}"
                for at, line in enumerate(text.splitlines(), start=1)
                if number.search(line)
            ]
    ours = {name for unit in house.units for name in unit.defined} | {"_GLOBAL_OFFSET_TABLE_"}
    for unit in house.units:
        if unit.stem in HOT:
            asked = unit.undefined - ours - HOT_LIBRARY
            found += [f"csim/{unit.stem}.c: asks for {name}" for name in sorted(asked)]
    return found


def wrong_imports(house: House) -> list[str]:
    """Arrows point one way: sweeps -> pysim -> _csim; one file owns each foreign thing."""

    def inside(module: str, package: str) -> bool:
        return module == package or module.startswith(f"{package}.")

    found = []
    for path in house.python_files("pysim", "sweeps"):
        file = house.name_of(path)
        for line, module in imported_modules(path):
            place = f"{file}:{line}: imports {module}"
            if file.startswith("pysim/") and inside(module, "sweeps"):
                found.append(f"{place}: the study does not know the yard")
            if file != "pysim/engine.py" and inside(module, "pysim._csim"):
                found.append(f"{place}: only pysim/engine.py opens the door")
            if inside(module, "cffi") or inside(module, "ctypes"):
                found.append(f"{place}: only pysim/engine.py opens the door")
            if file != "sweeps/executors/ray.py" and inside(module, "ray"):
                found.append(f"{place}: only sweeps/executors/ray.py knows Ray")
            if inside(module, "tests"):
                found.append(f"{place}: the building does not know its tests")
    return found


def machine_paths(house: House) -> list[str]:
    """Nothing tells where it was written: no path of one machine."""
    pattern = re.compile(r"(?<![\w.<>$}])/(?:work|root|home|Users|mnt)/\w")
    kinds = {".md", ".py", ".toml", ".c", ".h", ".txt", ".svg", ".html", ".csv", ".json", ""}
    files = [*house.root.glob("[!.]*")]
    for name in ("csim", "docs", ".ci", *ROOMS):
        files += house.root.glob(f"{name}/**/*")
    return [
        f"{house.name_of(path)}:{number}: {line.strip()[:80]}"
        for path in sorted(files)
        if path.is_file() and path.suffix in kinds and not path.name.startswith("_csim")
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if pattern.search(line)
    ]


RULES: Final[tuple[Callable[[House], list[str]], ...]] = (
    long_lines,
    long_functions,
    unmeasured_functions,
    allocations,
    mutable_statics,
    wrong_names,
    ajar_door,
    recursion,
    wrong_includes,
    hot_files,
    wrong_imports,
    machine_paths,
)


def main() -> int:
    """Print every complaint; the number of them decides the exit code."""
    house = House(ROOT)
    complaints = [f"{rule.__name__}: {line}" for rule in RULES for line in rule(house)]
    print("\n".join(complaints) or "tidy")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
