"""`fencelab check` as a user meets it: exit statuses, formats, files, complaints."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import pytest
from test_cli import fencelab, start

from pysim import litmus, policies

SCENARIO = """
pages = 2
question = "two pages, one reader"

[[hart]]
do = ["map 0", "map 1"]

[[hart]]
do = [
    "wait 0", "access 0",
    "wait 1", "access 1",
]
"""


def checked(*arguments: str, status: int) -> str:
    child = fencelab("check", *arguments)
    assert child.returncode == status, child.stderr
    return child.stdout


@pytest.mark.parametrize(("arguments", "status"), [
    (("mark-barrier", "--scenario", "map2"), 0),
    (("mark-7.2", "--scenario", "map2"), 1),
    (("mark-7.2", "--scenario", "map2", "--order", "tso"), 0),
    (("mark-7.2", "--scenario", "map2", "--machine", "c910"), 1),
    (("broken-b10", "--scenario", "map2", "--machine", "c910"), 0),
    (("mark-barrier", "--scenario", "map3", "--harts", "4", "--max-states", "100"), 4),
    (("mark-barrier", "--scenario", "map4", "--harts", "6", "--max-memory", "2M"), 4),
    (("mark-switch-in", "--unbounded"), 0),
    (("mark-barrier", "--unbounded"), 1),
    (("no-such",), 2),
    (("ideal", "--scenario", "map1"), 2),
    (("mark-7.2", "--scenario", "map9"), 2),
    (("mark-7.2", "--machine", "rockit"), 2),
    (("mark-7.2", "--max-memory", "much"), 2),
    (("mark-7.2", "--harts", "7"), 2),
    ((), 2),
    (("mark-7.2", "--all"), 2),
    (("mark-7.2", "--unbounded", "--scenario", "map1"), 2),
    (("mark-7.2", "--unbounded", "--harts", "3"), 2),
])
def test_exit_status_says_the_verdict(arguments, status):
    child = fencelab("check", *arguments)
    assert child.returncode == status, child.stderr
    if status == 2:
        assert child.stdout == ""
        assert len(child.stderr.splitlines()) <= 4


@pytest.mark.slow
def test_ctrl_c_ends_a_long_search():
    child = start("check", "mark-barrier", "--scenario", "map4", "--harts", "6",
                  "--max-memory", "700M")
    status = Path(f"/proc/{child.pid}/status")
    while int(status.read_text().split("VmRSS:")[1].split()[0]) < 150_000:   # KiB: of states found
        assert child.poll() is None, "the search is too short to be interrupted"
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate()
    assert (child.returncode, out, err.strip()) == (130, "", "")


def test_counterexample_that_does_not_replay_exits_with_5(monkeypatch, capsys):
    from pysim import reference
    from sweeps.cli import main

    monkeypatch.setattr(reference, "replay", lambda *_: "step 1: not possible")
    assert main(["check", "mark-7.2", "--scenario", "map2"]) == 5
    assert "internal error" in capsys.readouterr().err


@pytest.mark.slow
def test_all_prints_every_policy_and_scenario():
    rows = checked("--all", status=0).splitlines()
    cells = {row.split()[0]: row.split()[1:] for row in rows[3:-1]}
    assert list(cells) == policies.names()
    assert all(len(row) == len(litmus.names()) for row in cells.values())
    assert set(cells["mark-switch-in"]) == {"ok"}
    assert set(cells["ideal"]) == {"refused"}
    told = json.loads(checked("--all", "--format", "json", status=0))["verdicts"]
    assert {row["policy"]: list(row.values())[1:] for row in told} == cells


def test_json_says_everything():
    found = json.loads(checked("mark-7.2", "--scenario", "map2", "--format", "json", status=1))
    assert found["verdict"] == "refuted"
    assert (found["policy"], found["scenario"], found["harts"]) == ("mark-7.2", "map2", 2)
    assert found["property"] == "S2"
    assert found["length"] == len(found["steps"]) == 24
    assert found["steps"][14]["insn"] == "sfence.vma x0, x0"
    assert found["parameters"]["order"] == "pso"
    assert found["states"] > 0
    assert found["transitions"] > found["states"]
    assert found["assumptions"]
    safe = json.loads(checked("mark-barrier", "--scenario", "map2", "--format", "json", status=0))
    assert (safe["verdict"], safe["property"], safe["steps"]) == ("verified", None, [])


def test_github_tables_are_github_tables():
    out = checked("mark-7.2", "--scenario", "map2", "--format", "github", status=1)
    assert re.search(r"^\| step +\| hart 0", out, re.MULTILINE)


def test_timeline_is_a_chrome_trace(tmp_path):
    path = tmp_path / "out.json"
    checked("mark-7.2", "--scenario", "map2", "--timeline", str(path), status=1)
    events = json.loads(path.read_text())["traceEvents"]
    assert {e["args"]["name"] for e in events if e["ph"] == "M"} == {"hart 0", "hart 1", "memory"}
    child = fencelab("check", "mark-7.2", "--scenario", "map2", "--timeline",
                     str(tmp_path / "no" / "out.json"))
    assert child.returncode == 2


@pytest.mark.slow
def test_output_is_the_same_for_any_hash_seed():
    """Address-space layout differs between processes anyway."""
    one = checked("mark-7.2", "--scenario", "map2", "--harts", "3", status=1)
    other = checked("mark-7.2", "--scenario", "map2", "--harts", "3", "--hash-seed", "99", status=1)
    assert one == other


def test_scenario_of_a_file_is_checked(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SCENARIO)
    out = checked("mark-7.2", "--scenario", str(path), status=1)
    assert "two pages, one reader" in out
    assert "S2 in 24 steps" in out


@pytest.mark.parametrize(("old", "new", "complaint"), [
    ("access 1", "acces 1", "mine.toml:11: hart[1].do[3]: unknown action 'acces'; did you mean "
                            "'access'?"),
    ("wait 1", "wait 9", "mine.toml:11: hart[1].do[2]: page outside 0 to 1"),
    ("map 1", "map", "mine.toml:6: hart[0].do[1]:"),
    ("pages = 2", "pages = 2\nregion = 'vmaloc'", "mine.toml:3: region: unknown region 'vmaloc'; "
                                                  "did you mean 'vmalloc'?"),
    ("pages = 2", "pagess = 2", "mine.toml:2: pagess: unknown key; did you mean 'pages'?"),
    ("[[hart]]\ndo = [\n", "[[hart]]\nd = [\n", "mine.toml:8: hart[1]: has one key, `do`"),
    ("question =", "question", "mine.toml: cannot be read:"),
])
def test_malformed_scenario_is_refused_with_file_line_and_reason(tmp_path: Path, old: str, new: str,
                                                                 complaint: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SCENARIO.replace(old, new, 1))
    child = fencelab("check", "mark-7.2", "--scenario", str(path))
    assert child.returncode == 2
    (line,) = child.stderr.splitlines()
    assert complaint in line
