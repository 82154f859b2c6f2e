"""The reference pages are what their subjects say today, and leave nobody out."""

from __future__ import annotations

import re

import pytest
import tidy

from pysim import engine, machines, ops, scores, validate, workloads
from pysim.policies import POLICIES
from sweeps import reference_tables, score_pages


@pytest.mark.parametrize("name", reference_tables.PAGES)
def test_committed_page_is_what_the_generator_prints(name, root):
    committed = (root / "docs" / "tables" / name).read_text()
    assert committed == reference_tables.PAGES[name](), "run `make tables`"


SUBJECTS = {
    "counters.md": [c.name for c in engine.COUNTERS] + list(engine.VERDICTS),
    "ops.md": [*engine.OPS, *engine.ATOMS, *engine.HANDLERS],
    "policies.md": [policy.name for policy in POLICIES],
    "machines.md": [*machines.PRESETS, *engine.struct_fields("csim_machine")],
    "workloads.md": list(workloads.WORKLOADS),
}


@pytest.mark.parametrize(
    ("page", "name"), [(page, name) for page, names in SUBJECTS.items() for name in names]
)
def test_everything_has_its_row(page, name, root):
    rows = re.findall(r"^\| `([^`]+)` \| *(.*)", (root / "docs/tables" / page).read_text(), re.M)
    matching = [rest for first, rest in rows if first == name or first.startswith(f"{name}.")]
    assert matching, f"{page} has no row for {name}"


def test_every_counter_has_a_unit_and_a_meaning():
    assert not [c.name for c in engine.COUNTERS if not c.unit or len(c.meaning.split()) < 2]


def test_every_op_condition_and_handler_has_a_meaning():
    for family in ("op", "atom", "handler"):
        said = engine.meanings(family)
        assert said
        assert not [name for name, meaning in said.items() if not meaning]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_every_policy_cites_what_it_follows(policy):
    doc = type(policy).__doc__
    assert policy.source
    assert re.search(r"\bSource: \S", doc), f"{type(policy).__name__} cites nothing"
    for handler in ops.handlers(policy):
        assert getattr(type(policy), handler).__doc__, f"{policy.name}.{handler}"


def door_paragraphs(text: str) -> list[tuple[str, str]]:
    """Functions of csim.h, each with the paragraph (lines without an empty one) it stands in."""
    paragraphs = re.split(r"\n\s*\n", text)
    return [
        (name, paragraph)
        for paragraph in paragraphs
        if not paragraph.lstrip().startswith("#define")
        for name in re.findall(r"^[a-z][^;{}=]*?\b\*?(csim_\w+)\([^;{}]*\);", paragraph, re.M)
    ]


def test_every_door_function_stands_under_a_comment(root):
    functions = door_paragraphs((root / "csim" / "csim.h").read_text())
    assert {name for name, _ in functions} == set(tidy.House(root).door())
    assert not [name for name, paragraph in functions if not paragraph.startswith("/*")]


def test_door_paragraphs_finds_what_has_no_comment():
    text = "/* said */\nint csim_a(void);\nint csim_b(int x,\n    int y);\n\nint csim_c(void);\n"
    bare = [name for name, paragraph in door_paragraphs(text) if not paragraph.startswith("/*")]
    assert [name for name, _ in door_paragraphs(text)] == ["csim_a", "csim_b", "csim_c"]
    assert bare == ["csim_c"]


def test_the_readme_shows_the_quickstarts_first_table(root):
    readme = (root / "README.md").read_text()
    quickstart = (root / "docs" / "tables" / "quickstart.md").read_text()
    assert reference_tables.readme_with_lead(readme, quickstart) == readme
    assert "preventive-range" in reference_tables.LEAD.search(readme)[0]


def test_the_readme_shows_the_scoreboards_summary(root):
    readme = (root / "README.md").read_text()
    scores = (root / "docs" / "tables" / "validate.md").read_text()
    assert reference_tables.readme_with_scores(readme, scores) == readme
    assert "kernels" in reference_tables.SCORES.search(readme)[0]


def test_the_summary_says_each_reason_once_and_how_often():
    def row(outcome, reason):
        return scores.Score(group="g", what="w", role="predicted", measured="", predicted="",
                            tolerance="", outcome=outcome, source="s", reason=reason)

    board = scores.Scoreboard(rows=(row("fail", "wide; 1"), row("fail", "outside"),
                                    row("fail", "wide; 2"), row("pass", "narrow")))
    assert score_pages.summary(board).rows == (("g", "1 of 4", "wide (2); outside"),)


@pytest.mark.slow
def test_the_committed_scoreboard_is_what_validate_prints(shared, root):
    page = (root / "docs" / "tables" / "validate.md").read_text()
    assert page == score_pages.page(validate.validate()), "run `make tables`"
