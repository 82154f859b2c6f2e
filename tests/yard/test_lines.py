"""Every key of a TOML text is found on its line, however it is written."""

from __future__ import annotations

import tomllib
from pathlib import Path

from sweeps import lines

TEXT = '''\
# a comment with = and [brackets]
seeds = 5
"quoted key" = "a # no comment"   # a = b
[base]
nr_cpus = 128
machine.l2 = { sets = 1, "ways x" = [1,
    2] }   # } ]

[axes]   # [not] a header
policy = [
    "none",    # "one"
    { label = "two", "workload.user_kib" = 4 },
]
"workload.user_kib" = [4, 8]
when = 1979-05-27 07:32:00
text = """
key = "inside"
[axes.no] \\"""
"""
other = \'\'\'
x = 1\'\'\'
[[zip]]
harts = [1]
[[zip]]
[zip.inner]
harts = { from = 1 }
'''


def test_keys_are_found_where_they_stand() -> None:
    tomllib.loads(TEXT)
    found = lines.of(TEXT)
    want = {"seeds": 2, "quoted key": 3, "base": 4, "base.nr_cpus": 5, "base.machine.l2": 6,
            "base.machine.l2.sets": 6, "base.machine.l2.ways x": 6, "base.machine.l2.ways x[1]": 7,
            "axes": 9, "axes.policy": 10, "axes.policy[0]": 11, "axes.policy[1]": 12,
            "axes.policy[1].workload.user_kib": 12, "axes.workload.user_kib": 14, "axes.when": 15,
            "axes.text": 16, "axes.other": 20, "zip": 22, "zip[0]": 22, "zip[0].harts": 23,
            "zip[1]": 24, "zip[1].inner": 25, "zip[1].inner.harts": 26,
            "zip[1].inner.harts.from": 26}
    assert {path: found.get(path) for path in want} == want
    assert not [path for path in found if path.startswith(("key", "x", "axes.no"))]


def test_every_file_that_comes_with_fencelab_is_walked_to_its_end(root: Path) -> None:
    files = [*root.glob("*/configs/*.toml"), *root.glob("pysim/*/*.toml"), root / "pyproject.toml"]
    assert len(files) > 20
    for path in files:
        text = path.read_text("utf-8")
        found = lines.of(text)
        top = tomllib.loads(text)
        assert set(top) <= {key.partition(".")[0].partition("[")[0] for key in found}
        rows = text.splitlines()
        for key, number in found.items():
            last = key.rpartition(".")[2].partition("[")[0]
            assert last in rows[number - 1] or "[" in key, (path, key, number)
