"""Scenarios are read, numbered and refused as docs/abstract-machine.md, section 5, says."""

from __future__ import annotations

import re

import pytest

from pysim import litmus
from pysim.errors import InputError
from pysim.litmus import Litmus, Parameters


def one(*texts: str, **fields: object) -> Litmus:
    return litmus.parse({"pages": 2, **fields, "hart": [{"do": list(texts)}, {"do": []}]}, "f.toml")


@pytest.mark.parametrize("where", [*litmus.LITMUS, *litmus.ANY_NUMBER], ids=lambda w: w.name)
def test_printed_actions_read_back(where):
    for script in where.scripts:
        assert litmus.script(*(str(action) for action in script)) == script


def test_maps_of_a_page_and_signals_number_themselves():
    script = litmus.script("map 0", "map 1", "signal", "map 0 frame 2", "signal", "map 0 2")
    assert [action.count for action in script] == [1, 1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("mapp 0", "do[0]: unknown action 'mapp'; did you mean 'map'?"),
        ("map", "'map' has 0 numbers, not 1"),
        ("map 0 1 2", "has 3 numbers"),
        ("wait x", "'x' is not a number"),
        ("access 0 frame 9", "frame 9 is not within 1 to 3"),
        ("access 2", "page outside 0 to 1"),
        ("map 1 2", "page outside 0 to 1"),
        ("wait 0 8", "count 8 is not within 1 to 7"),
        ("await 0", "no other hart 0"),
        ("await 2", "no other hart 2"),
        ("switch", "no stack to switch to"),
        ("trap", "`trap` needs user mode"),
        ("unmap 0 masked", "'masked' is not a number"),
        ("", "unknown action"),
    ],
)
def test_bad_actions_are_refused(text, complaint):
    with pytest.raises(InputError, match=re.escape(complaint)) as refused:
        one(text)
    assert str(refused.value).startswith("f.toml: hart[0].do[0]")


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"page": 1}, "page: unknown key; did you mean 'pages'?"),
        ({"pages": "2"}, "pages: '2' is not a int"),
        ({"pages": 11}, "pages: 11 is not within 1 to 10"),
        ({"region": "vmaloc"}, "did you mean 'vmalloc'?"),
        ({"table": [2]}, "table: page outside"),
        ({"stack": 1, "stack_pages": 2, "frame": 1}, "stack: page outside"),
        ({"stack_pages": 1}, "frame: a trap frame lies on 1 page"),
        ({"stack_pages": 1, "frame": 2}, "frame: a trap frame lies on 1 page"),
        ({"ipi_allocates": True}, "ipi_allocates: needs `object`"),
        ({"object": 1}, "object: needs 2 pages, one per hart"),
        ({"chaos": 2}, "chaos: no hart 2"),
        ({"ipi_allocates": 1}, "is not a bool"),
    ],
)
def test_bad_fields_are_refused(fields, complaint):
    with pytest.raises(InputError, match=re.escape(complaint)):
        one("map 0", **fields)


def test_a_page_has_one_mapper():
    with pytest.raises(InputError, match="page 1 is mapped by hart 0 already"):
        litmus.parse({"pages": 2, "hart": [{"do": ["map 0 2"]}, {"do": ["map 1"]}]}, "f.toml")


def test_after_user_only_a_trap_can_follow():
    assert one("user", "trap", "access 0").harts == 2
    with pytest.raises(InputError, match="only `trap` can follow"):
        one("user", "access 0")


def test_files_are_read_and_named(tmp_path):
    path = tmp_path / "twice.toml"
    path.write_text('pages = 1\n[[hart]]\ndo = ["map 0"]\n[[hart]]\ndo = ["wait 0", "access 0"]\n')
    found = litmus.load(path)
    assert (found.name, found.scripts) == ("twice", litmus.find("map1").scripts)
    path.write_text("pages = \n")
    with pytest.raises(InputError, match=re.escape(str(path))):
        litmus.load(path)
    with pytest.raises(InputError, match="cannot be read"):
        litmus.load(tmp_path / "missing.toml")


def test_scenarios_are_found_by_name_for_any_number_of_harts():
    for name in litmus.names():
        for harts in (2, 4, 6):
            found = litmus.find(name, harts=harts)
            assert (found.name, found.harts) == (name, harts)
    assert litmus.find("map4").pages == 4
    with pytest.raises(InputError, match="did you mean 'kstack"):
        litmus.find("kstak")
    with pytest.raises(InputError, match="7 harts are not within 2 to 6"):
        litmus.find("map1", harts=7)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"order": "psoo"}, "did you mean 'pso'?"),
        ({"svvptc_k": 99}, "svvptc_k: 99"),
        ({"retries": -1}, "retries: -1"),
        ({"nesting": 0}, "nesting: 0"),
        ({"cpus": (0, 0)}, "cpus"),
        ({"cpus": (0, 64)}, "cpus"),
    ],
)
def test_bad_parameters_are_refused(fields, complaint):
    with pytest.raises(InputError, match=re.escape(complaint)):
        Parameters(**fields)
