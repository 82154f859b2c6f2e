"""The schema accepts what the program accepts, and says of every field what it is."""

from __future__ import annotations

import tomllib

import pytest

from sweeps import grid, schema

jsonschema = pytest.importorskip(
    "jsonschema", reason="NO JSONSCHEMA: the exported schema is not tried (pip install jsonschema)")

TEXT = """\
# What?
seeds = 2
until = { overhead = "2%" }
exclude = [{ policy = "none" }]
[base]
workload = "mixed"
machine.l2_hit_cycles = 3
[axes]
policy = ["none", "mark-7.2"]
harts = { from = 1, to = 4, steps = 4 }
"workload.user_kib" = { values = [64], when = { harts = 1 } }
mine = [{ label = "a", "workload.text_kib" = 4 }]
[zip]
root_seed = [1, 2]
[sample]
method = "lhs"
points = 4
axes."workload.vmalloc_per_s" = { from = 1, to = 10 }
[report]
rows = "policy"
"""


def flat(table: dict[str, object]) -> dict[str, object]:
    """Write tables inside base as dotted keys, the one form the schema lists."""
    base = dict(table.get("base", {}))  # type: ignore[call-overload]
    for owner in ("machine", "workload"):
        if isinstance(base.get(owner), dict) and "inherit" not in base[owner]:
            base |= {f"{owner}.{key}": value for key, value in base.pop(owner).items()}
    return {**table, "base": base}


def complaints(text: str) -> list[str]:
    checker = jsonschema.Draft202012Validator(schema.of_sweep())
    return [error.message for error in checker.iter_errors(flat(tomllib.loads(text)))]


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema.of_sweep())


def test_it_accepts_what_the_program_accepts() -> None:
    grid.parse(TEXT, "q.toml")
    assert complaints(TEXT) == []
    for path in grid.CONFIGS.glob("*.toml"):
        assert complaints(path.read_text("utf-8")) == [], path


@pytest.mark.parametrize(("old", "new"), [
    ("seeds = 2", "seed = 2"), ("seeds = 2", "seeds = 0"), ('"2%"', '"2"'), ('"2%"', "2"),
    ("machine.l2_hit_cycles", "machine.l2_hit_cycle"), ("steps = 4", "step = 4"),
    ('"lhs"', '"lsh"'), ("points = 4", "points = 0"), ("rows =", "row ="),
    ('label = "a"', 'lable = "a"'), ("from = 1, to = 10", "from = 1"),
])
def test_it_refuses_what_the_program_refuses(old: str, new: str) -> None:
    text = TEXT.replace(old, new, 1)
    assert text != TEXT
    with pytest.raises(Exception, match=":"):
        grid.expand(grid.parse(text, "q.toml"))
    assert complaints(text)


def test_every_field_has_a_meaning_and_a_unit() -> None:
    fields = schema.of_sweep()["properties"]["base"]["properties"]
    assert len(fields) > 80
    assert not [name for name, said in fields.items() if not said.get("description")]
    assert fields["workload.lifetime_ms"]["unit"] == "ms"
    assert fields["machine.l2_hit_cycles"]["unit"] == "cycles"
    top = schema.of_sweep()
    for part in (top, *top["$defs"].values()):
        assert not [name for name, said in part.get("properties", {}).items()
                    if not (said.get("description") or said.get("$ref"))]
