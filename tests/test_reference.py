"""The slow explorer's verdicts: the table of known ones, and its own traces replayed."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace

import drawn
import known
import pytest
import variants

from pysim import litmus, ops, policies, reference
from pysim.errors import InputError
from pysim.litmus import Parameters

pytestmark = pytest.mark.soak  # the reference explores slowly, to be read


@functools.cache
def program(name: str) -> ops.Program:
    return ops.lower(policies.find(name))


@functools.cache
def outcome(policy: str, scenario: str, parameters: Parameters = Parameters(),  # noqa: B008
            harts: int = 2) -> reference.Outcome:
    return reference.explore(program(policy), litmus.find(scenario, harts=harts), parameters)


def told(found: reference.Outcome) -> str:
    return {"verified": "", "refuted": found.property}.get(found.verdict, found.verdict)


@pytest.mark.parametrize("policy", known.KNOWN)
def test_known_scenarios_have_known_verdicts(policy):
    assert tuple(told(outcome(policy, name)) for name in known.SIX) == known.KNOWN[policy]


@pytest.mark.parametrize("policy", known.EVERYWHERE)
def test_every_policy_has_its_verdict_in_every_scenario(policy):
    found = tuple(told(outcome(policy, name)) for name in litmus.names())
    assert found == known.EVERYWHERE[policy]


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_other_mistakes_can_be_said_and_are_found(name):
    policy, refuted = variants.VARIANTS[name]
    lowered = ops.lower(policy)
    found = {where.name: told(reference.explore(lowered, where)) for where in litmus.LITMUS}
    assert found == {**dict.fromkeys(litmus.names(), ""), **refuted}


@pytest.mark.parametrize("name", variants.ANY_REFUTED)
def test_proof_does_not_go_through_for_what_needs_more_than_a_scenario(name):
    policy, _ = variants.VARIANTS[name]
    page, _, stack, _ = (reference.explore(ops.lower(policy), w) for w in litmus.ANY_NUMBER)
    assert (told(page), told(stack)) == variants.ANY_REFUTED[name]


def test_nop_under_svvptc_is_refuted_everywhere():
    unbounded = Parameters(svvptc=True)
    assert tuple(told(outcome("mark-6.12", name, unbounded)) for name in known.SIX) == known.SVVPTC
    assert told(outcome("mark-6.12", "map1")) == ""


def test_staleness_of_one_access_is_enough_to_refute_the_nop():
    assert told(outcome("mark-6.12", "map2", Parameters(svvptc=True, svvptc_k=1))) == "S2"
    assert told(outcome("mark-6.12", "map2", Parameters(svvptc=True, svvptc_k=0))) == ""


@pytest.mark.parametrize("policy", known.BROKEN)
def test_every_broken_variant_is_refuted(policy):
    prop, scenario = known.BROKEN[policy]
    assert told(outcome(policy, scenario)) == prop


@pytest.mark.parametrize("policy", known.BY_MACHINE)
def test_map2_by_machine(policy):
    found = tuple(told(outcome(policy, "map2", machine)) for machine in known.MACHINES)
    assert found == known.BY_MACHINE[policy]


def test_plain_clear_needs_a_third_hart_where_stores_are_ordered():
    ordered = Parameters(order="sc")
    assert told(outcome("broken-b2", "map2", ordered)) == ""
    assert told(outcome("broken-b2", "map2", ordered, 3)) == "S2"


def test_mark_first_and_fence_first_are_refuted_where_stores_are_ordered():
    ordered = Parameters(order="sc")
    assert told(outcome("broken-b7", "map2", ordered)) == "S2"
    assert told(outcome("broken-b11", "map1", ordered)) == ""


@pytest.mark.parametrize("policy", ["arm64", "x86-64", "powerpc"])
def test_other_architectures_rest_on_not_caching_invalid_entries(policy):
    theirs = Parameters(invalid="none", order="tso")
    assert [told(outcome(policy, name, theirs)) for name in litmus.names()] == [""] * 11
    assert told(outcome(policy, "map1")) != ""


def test_ideal_is_refused_with_its_reason():
    with pytest.raises(InputError, match="fence_free is nobody's hardware"):
        outcome("ideal", "map1")


@pytest.mark.parametrize("policy", ["mark-7.2", "mark-barrier", "none", "broken-b3"])
@pytest.mark.parametrize("scenario", ["map1", "wild", "kstack"])
def test_one_entry_per_page_gives_the_same_verdicts(policy, scenario):
    single = outcome(policy, scenario, Parameters(tlb="single"))
    assert told(single) == told(outcome(policy, scenario))


@pytest.mark.parametrize(
    "policy", ["mark-7.2", "broken-b1", "broken-b3", "broken-b7", "broken-b10"]
)
def test_s5_fires_before_the_oops(policy):
    found = outcome(policy, "map2")
    assert found.s5_length is not None
    assert found.length is not None
    assert found.s5_length < found.length


@pytest.mark.parametrize("scenario", litmus.names())
def test_s5_never_fires_for_the_barrier(scenario):
    assert outcome("mark-barrier", scenario).s5_length is None


REFUTED = [(policy, name) for policy, row in known.KNOWN.items()
           for name, prop in zip(known.SIX, row, strict=True) if prop]
REFUTED += [(policy, scenario) for policy, (_, scenario) in known.BROKEN.items()]


@pytest.mark.parametrize(("policy", "scenario"), REFUTED)
def test_traces_replay(policy, scenario):
    found, where = outcome(policy, scenario), litmus.find(scenario)
    assert found.property is not None
    assert found.length == len(found.trace)
    ends = functools.partial(reference.replay, program(policy), where, None)
    assert ends(found.trace, found.property) is None
    assert ends(found.trace[:-1], found.property) is not None
    assert ends(found.trace, "DL") is not None
    hart, kind, arg = found.trace[-1]
    assert ends((*found.trace[:-1], (hart, kind, arg + 7)), found.property) is not None
    assert len(reference.tell(program(policy), where, None, found.trace)) == found.length


@pytest.mark.parametrize("block", range(10))
def test_drawn_cases_are_judged_and_replayed(block):
    """Valid by construction: nothing is refused, and every counterexample replays."""
    verdicts = set()
    for seed in range(20 * block, 20 * block + 20):
        one, where, parameters = drawn.case(seed)
        found = reference.explore(one, where, parameters, max_states=20_000)
        verdicts.add(found.verdict)
        if found.property is not None:
            why = reference.replay(one, where, parameters, found.trace, found.property)
            assert why is None, (seed, why)
    assert {"verified", "refuted"} <= verdicts


def test_a_weaker_machine_never_verifies_what_a_stronger_one_refutes():
    """PSO allows what TSO allows, and that what SC allows."""
    for seed in range(60):
        one, where, parameters = drawn.case(seed)
        found = [reference.explore(one, where, replace(parameters, order=order), max_states=20_000)
                 for order in ("sc", "tso", "pso")]
        for strong, weak in itertools.pairwise(found):
            assert (strong.verdict, weak.verdict) != ("refuted", "verified"), seed


@pytest.mark.parametrize("seed", range(0, 200, 8))
def test_caching_less_never_refutes_what_caching_more_verifies(seed):
    """none < reorder < cache, one entry < all the manual allows, k = 0 < 1 < unbounded."""
    one, where, parameters = drawn.case(seed)
    parameters = replace(parameters, tlb="maximal")
    rows = [[replace(parameters, invalid=invalid) for invalid in ("none", "reorder", "cache")],
            [replace(parameters, svvptc=True, svvptc_k=k) for k in (0, 1, None)]]
    if where.pages == 1 and where.harts == 2:
        rows.append([replace(parameters, tlb=tlb) for tlb in ("single", "maximal")])
    for row in rows:
        found = [reference.explore(one, where, each, max_states=10_000).verdict for each in row]
        assert ("refuted", "verified") not in itertools.pairwise(found), found


def test_limit_is_unknown_never_verified():
    found = reference.explore(program("mark-barrier"), litmus.find("map2"), max_states=50)
    assert found.verdict == "unknown"
    assert found.depth > 0


@pytest.mark.parametrize("tlb", ["maximal", "single"])
def test_ipis_for_a_mapping_made_in_the_ipi_path_deadlock(tlb):
    """Both harts wait with interrupts off; the fills of a small TLB must not hide it."""
    where = Parameters(tlb=tlb)
    assert told(outcome("preventive-full", "ipialloc", where)) == "DL"
    assert told(outcome("preventive-full", "ipialloc", replace(where, via="sbi"))) == ""
    assert told(outcome("mark-barrier", "ipialloc")) == ""


# Any number of harts: the known verdicts, a page and a stack.
ANY_PAGE = {
    "mark-barrier": "", "mark-7.2": "S2", "broken-b1": "S2", "broken-b2": "S2", "broken-b3": "S2",
    "broken-b7": "S2", "broken-b8": "S2", "broken-u1": "S1", "broken-u2": "S1", "broken-u3": "S1",
    "none": "S2", "vmalloc-fault": "", "preventive-full": "", "preventive-range": "",
}
ANY_STACK = {"mark-barrier": "S4", "mark-switch-in": "", "preventive-full": "",
             "vmalloc-fault": "S4", "none": "S4"}


@functools.cache
def any_number(policy: str, *, stack: bool, own: bool) -> str:
    return told(reference.explore(program(policy), litmus.any_number(stack=stack, own=own)))


@pytest.mark.parametrize("policy", ANY_PAGE)
def test_any_number_of_harts(policy):
    assert any_number(policy, stack=False, own=False) == ANY_PAGE[policy]


@pytest.mark.parametrize("policy", ANY_STACK)
def test_any_number_of_harts_on_a_stack(policy):
    assert any_number(policy, stack=True, own=False) == ANY_STACK[policy]


def test_any_number_refutes_the_nop_and_a_switch_in_check_without_barrier():
    nop = Parameters(svvptc=True)
    where = litmus.any_number(stack=False, own=False)
    assert told(reference.explore(program("mark-6.12"), where, nop)) == "S2"
    bare = ops.lower(replace(policies.find("mark-switch-in"), barrier=False))
    where = litmus.any_number(stack=True, own=False)
    assert told(reference.explore(bare, where)) == "S4"


@pytest.mark.parametrize("policy", ANY_PAGE)
def test_what_holds_for_any_number_holds_for_few(policy):
    if any(any_number(policy, stack=False, own=own) for own in (False, True)):
        return
    for scenario in ("map1", "map2", "cross", "remap"):
        assert told(outcome(policy, scenario)) == "", scenario
    assert told(outcome(policy, "map1", harts=3)) == ""


@pytest.mark.parametrize("scenario", litmus.ANY_NUMBER, ids=lambda found: found.name)
def test_s5_is_inductive_for_the_switch_in_check(scenario):
    found = reference.explore(program("mark-switch-in"), scenario)
    assert (found.verdict, found.s5_length) == ("verified", None)
