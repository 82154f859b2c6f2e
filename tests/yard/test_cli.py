"""The command line as a user meets it: real processes, one line per complaint, exit statuses."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pysim import engine, machines, policies, workloads
from sweeps.cli import main

SWEEP = """
# What does a small sweep cost?
seeds = 2
[axes]
policy = ["preventive-range", "mark-7.2"]
machine = ["sg2042"]
harts = [1, 2]
workload = [{ inherit = "mixed", duration_ms = 1, label = "short mix" }]
[report]
lead = { harts = 2 }
"""


def start(*arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Ctrl-C reaches it even where the tests run in the background of a shell, which ignores it."""
    code = ("import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from sweeps.cli import main; sys.exit(main())")
    root = str(Path(__file__).resolve().parents[2])
    command = f"import sys; sys.path.insert(0, {root!r}); {code}" if _in_place() else code
    return subprocess.Popen([sys.executable, "-c", command, *arguments], text=True, cwd=cwd,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def fencelab(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    child = start(*arguments, cwd=cwd)
    out, err = child.communicate(timeout=120)
    return subprocess.CompletedProcess(arguments, child.returncode, out, err)


def _in_place() -> bool:
    return Path(engine.__file__).resolve().parents[1] == Path(__file__).resolve().parents[2]


def test_help_answers_at_once_and_names_every_command() -> None:
    """At once: without the libraries that take longer to import than all the rest."""
    child = fencelab("--help")
    assert child.returncode == 0
    for command in ("run", "replay", "sweep", "schema", "compare", "store", "policies", "machines",
                    "workloads", "validate"):
        assert f"\n  {command} " in child.stdout
    code = ("import sys\nfrom sweeps.cli import main\nmain(['--help'])\n"
            "print({name.partition('.')[0] for name in sys.modules}"
            " & {'matplotlib', 'numpy', 'pyarrow', 'pydantic', 'ray', 'scipy', 'tabulate', 'tqdm'},"
            " file=sys.stderr)")
    alone = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert (alone.stdout, alone.stderr) == (child.stdout, "set()\n")


def within(capsys: pytest.CaptureFixture[str], *arguments: str
           ) -> subprocess.CompletedProcess[str]:
    """Run a command in this process: the same `main`, without Python's own start."""
    capsys.readouterr()
    status = main(arguments)
    captured = capsys.readouterr()
    return subprocess.CompletedProcess(arguments, status, captured.out, captured.err)


BAD = [
    (["polices"], "fencelab: no command 'polices'; did you mean 'policies'?"),
    (["validate", "wolk", "x"], "fencelab: no command 'wolk'; did you mean 'walk'?"),
    (["policies", "mark-7.3"], "policies: policy: unknown policy 'mark-7.3'; did you mean "
                               "'mark-7.2'?"),
    (["machines", "sg2024"], "did you mean 'sg2042'?"),
    (["workloads", "mixt"], "did you mean 'mixed'?"),
    (["run", "--policy", "none"], "fencelab: Missing option '--machine'"),
    (["run", "--policy", "nine", "--machine", "sg2042"],
     "options: policy: unknown policy 'nine'; did you mean 'none'?"),
    (["run", "--policy", "none", "--machine", "sg2042", "--harts", "0"],
     "options: harts: input should be greater than or equal to 1, got 0"),
    (["run", "--policy", "none", "--machine", "sg2042", "--harts", "x"],
     "fencelab: Invalid value for '--harts': 'x' is not a valid int"),
    (["run", "--policy", "none", "--machine", "sg2042", "--vmalloc-per-s", "-1"],
     "vmalloc_per_s: input should be greater than or equal to 0, got -1"),
    (["run", "--polcy", "none"], "fencelab: No such option '--polcy'"),
    (["machines", "--format", "xml"], "fencelab: Invalid value for '--format': 'xml' is not one"),
    (["sweep", "nowhere.toml"], "nowhere.toml: cannot be read: "),
    (["sweep", "good.toml", "--executor", "ray"], "--address: the ray executor needs one"),
    (["sweep", "good.toml", "--executor", "ray", "--address", "127.0.0.1:1"],
     "--address 127.0.0.1:1: no cluster: Connection refused"),
    (["sweep", "good.toml", "--executor", "ray", "--address", "nonsense"],
     "--address: local, HOST:PORT or ray://HOST:PORT, got 'nonsense'"),
    (["sweep", "good.toml", "--executor", "ray", "--address", "10.0.0.1:70000"],
     "--address: local, HOST:PORT or ray://HOST:PORT, got '10.0.0.1:70000'"),
    (["sweep", "good.toml", "--timeout-s", "nan"],
     "fencelab: Invalid value for '--timeout-s': nan is not a number."),
    (["sweep", "good.toml", "--summary", "nowhere/s.json"],
     "options: summary: no folder 'nowhere'"),
    (["sweep", "good.toml", "--axis", "policy=./mine.py:X"],
     "good.toml:5: policy: mine.py: no such file"),
    (["run", "--policy", "./mine.py:X", "--machine", "sg2042"],
     "options: policy: mine.py: no such file"),
    (["sweep", "good.toml", "--address", "local"],
     "fencelab: --address is for --executor ray, not for processes"),
    (["sweep", "good.toml", "--store", "nowhere/a.db"],
     "nowhere/a.db: cannot be written: No such file or directory"),
    (["sweep", "good.toml", "--store", "good.toml"], "good.toml: not a fencelab store"),
    (["validate", "walk", "nowhere"], "nowhere"),
    (["validate", "kernel", "nowhere"], "nowhere: is not a folder"),
    (["validate", "kernel", "."], ".: nothing to score in it: no counts*.csv with a row, no "
                                 "events-*.evt, no riscv-*.ftrace.txt"),
    (["replay", "nowhere.txt"], "nowhere.txt: no such file, and no recording of the package"),
    (["replay", "bad.txt"], "bad.txt: "),
    (["replay", "riscv-6.12-mark-smp2-forkburst", "--policy", "mark-7"],
     "options: policy: unknown policy 'mark-7'; did you mean 'mark-7.2'?"),
    (["replay", "riscv-6.12-mark-smp2-forkburst", "--rate-factor", "0"],
     "rate_factor: input should be greater than or equal to 0.000001, got 0"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "good.toml").write_text(SWEEP)
    (tmp_path / "bad.txt").write_text("this is no recording\n")
    monkeypatch.chdir(tmp_path)
    child = within(capsys, *arguments)
    assert child.returncode == 2, child.stderr
    assert message in child.stderr
    assert child.stderr.count("\n") == 1
    assert child.stdout == ""


def test_a_complaint_of_a_real_process_is_the_same() -> None:
    child = fencelab("polices")
    assert child.returncode == 2
    assert child.stderr == "fencelab: no command 'polices'; did you mean 'policies'?\n"


def test_the_version_is_told_installed_or_not() -> None:
    child = fencelab("--version")
    assert child.returncode == 0, child.stderr
    assert child.stdout.startswith("fencelab ")
    assert engine.BUILD_ID[:12] in child.stdout


def test_every_complaint_about_a_sweep_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(
        SWEEP.replace("seeds", "seed").replace("harts = 2 }", "hart = 2 }"))
    child = fencelab("sweep", "bad.toml", cwd=tmp_path)
    assert child.returncode == 2
    assert child.stderr == ("bad.toml:3: seed: unknown key; valid: include, parts, seeds, until, "
                            "goal, halving, base, axes, zip, sample, exclude, require, report; "
                            "did you mean 'seeds'?\n"
                            "bad.toml:10: report.lead.hart: no such axis; did you mean 'harts'?\n")
    (tmp_path / "bad.toml").write_text(
        SWEEP.replace("harts = 2 }", "hart = 2 }").replace("policy =", "polcy ="))
    child = fencelab("sweep", "bad.toml", cwd=tmp_path)
    assert child.returncode == 2
    assert child.stderr.count("\n") == 2
    assert not (tmp_path / "fencelab.db").exists()


LISTS = [
    ("policies", "policy", list(policies.names())),
    ("machines", "machine", list(machines.PRESETS)),
    ("workloads", "name", list(workloads.WORKLOADS)),
]


@pytest.mark.parametrize(("command", "column", "names"), LISTS, ids=[c for c, _, _ in LISTS])
def test_lists_hold_every_name_in_every_format(
    command: str, column: str, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for form in ("plain", "github", "csv", "json"):
        child = within(capsys, command, "--format", form)
        assert child.returncode == 0, child.stderr
        assert all(name in child.stdout for name in names)
        if form == "csv":
            rows = list(csv.DictReader(io.StringIO(child.stdout)))
            assert [row[column] for row in rows] == names
        if form == "json":
            assert [row[column] for row in json.loads(child.stdout)["tables"][0]["rows"]] == names


@pytest.mark.parametrize("arguments", [
    ("policies", "mark-7.2"), ("machines", "sg2042"), ("workloads", "mixed")])
def test_one_thing_is_shown_in_every_format(
    arguments: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for form in ("plain", "github", "csv", "json"):
        child = within(capsys, *arguments, "--format", form)
        assert child.returncode == 0, child.stderr
        assert child.stdout.strip()
        if form == "csv":
            assert len(list(csv.DictReader(io.StringIO(child.stdout)))) > 10
        if form == "json":
            assert json.loads(child.stdout)["tables"][0]["title"] == arguments[1]


@pytest.mark.slow
def test_walks_are_validated(shared: Path) -> None:
    golden = shared / "data" / "golden" / "walk_golden.jsonl.gz"
    child = fencelab("validate", "walk", str(golden), "--format", "json")
    assert child.returncode == 0, child.stdout
    rows = json.loads(child.stdout)["tables"][0]["rows"]
    assert sum(row["cases"] for row in rows) == sum(row["agreed"] for row in rows) == 36_000


def test_a_reader_that_leaves_is_no_traceback() -> None:
    child = subprocess.run(
        f"{sys.executable} -m sweeps.cli machines sg2042 | head -1", shell=True, text=True,
        capture_output=True, check=False, cwd=Path(engine.__file__).resolve().parents[1])
    assert child.stderr == ""
