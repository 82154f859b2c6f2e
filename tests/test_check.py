"""Verdicts as `pysim.check` gives them: known tables, machines, proofs, repairs, refusals."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import replace

import known
import pytest
import timelines
import variants

from pysim import check, engine, litmus, machines, ops, policies, reference, repair, timeline
from pysim.check import Search, UnreplayableError
from pysim.errors import InputError
from pysim.litmus import Parameters

PSO, TSO, SC, REORDER, NONE = known.MACHINES


@functools.cache
def program(name: str) -> ops.Program:
    return ops.lower(policies.find(name))


@functools.cache
def checked(policy: str, scenario: str, parameters: Parameters = PSO,
            harts: int = 2) -> check.Checked:
    return check.check(program(policy), litmus.find(scenario, harts=harts), parameters)


def told(found: check.Checked) -> str:
    return {"verified": "", "refuted": found.found.property}.get(found.verdict, found.verdict)


def row(policy: str, parameters: Parameters = PSO) -> tuple[str, ...]:
    return tuple(told(checked(policy, name, parameters)) for name in litmus.names())


@pytest.mark.parametrize("policy", known.KNOWN)
def test_known_scenarios_have_known_verdicts(policy):
    assert tuple(told(checked(policy, name)) for name in known.SIX) == known.KNOWN[policy]


def test_every_policy_has_its_verdict_in_every_scenario():
    assert {p.name for p in policies.POLICIES} == {"ideal", *known.EVERYWHERE}
    assert {policy: row(policy) for policy in known.EVERYWHERE} == known.EVERYWHERE


def test_what_is_verified_is_verified_with_one_entry_a_page():
    single = Parameters(tlb="single")
    assert {policy: row(policy, single) for policy in known.EVERYWHERE} == known.SINGLE


@pytest.mark.parametrize("bound", known.SVVPTC_K)
def test_svvptc_with_a_bound(bound):
    bounded = Parameters(svvptc=True, svvptc_k=bound)
    for policy, want in known.SVVPTC_K[bound].items():
        assert row(policy, bounded) == want, policy


def test_a_nop_instead_of_the_fence_is_refuted_everywhere():
    unbounded = Parameters(svvptc=True)
    assert tuple(told(checked("mark-6.12", name, unbounded)) for name in known.SIX) == known.SVVPTC
    by_machine = tuple(told(checked("mark-6.12", "map2", replace(each, svvptc=True)))
                       for each in known.MACHINES)
    # with early walks alone it is the missing barrier that refutes: broken-b10 has it
    assert by_machine == ("S2", "S2", "S2", "S2", "")


@pytest.mark.parametrize("policy", known.BROKEN)
def test_every_broken_variant_is_refuted(policy):
    prop, scenario = known.BROKEN[policy]
    assert told(checked(policy, scenario)) == prop


def test_what_is_said_of_single_broken_variants():
    assert told(checked("broken-b2", "map2", SC)) == ""  # the word is shared: a third hart it takes
    assert told(checked("broken-b2", "map2", SC, 3)) == "S2"
    assert told(checked("broken-b7", "map2", SC)) == "S2"  # even where stores are ordered
    assert told(checked("broken-b11", "map1", SC)) == ""
    # an endless retry where there was a bad access to report, and no harm anywhere else
    assert [told(checked("broken-b9", name)) for name in known.SIX] == ["", "", "", "S3", "", ""]


@pytest.mark.parametrize("policy", known.BY_MACHINE)
def test_map2_by_machine(policy):
    found = tuple(told(checked(policy, "map2", each)) for each in known.MACHINES)
    assert found == known.BY_MACHINE[policy]


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_other_mistakes_can_be_said_and_are_found(name):
    policy, refuted = variants.VARIANTS[name]
    lowered = check.lower(policy)
    found = {where.name: told(check.check(lowered, where)) for where in litmus.LITMUS}
    assert found == {**dict.fromkeys(litmus.names(), ""), **refuted}


@pytest.mark.parametrize("name", variants.ANY_REFUTED)
def test_proof_does_not_go_through_for_what_needs_more_than_a_scenario(name):
    policy, _ = variants.VARIANTS[name]
    lowered = check.lower(policy)
    page, _, stack, _ = (check.check(lowered, where) for where in litmus.ANY_NUMBER)
    assert (told(page), told(stack)) == variants.ANY_REFUTED[name]


def test_no_proof_is_given_of_a_mapping_that_clears_marks():
    policy = variants.marks(map_kernel=[variants.STORE, ops.mark(variants.M),
                                        ops.clear_mark(variants.M), ops.fence(ops.ALL)])
    with pytest.raises(InputError, match="nothing can be said of any number"):
        check.anywhere(check.lower(policy), PSO, Search())


@pytest.mark.parametrize("policy", known.ANY)
def test_any_number_of_harts(policy):
    page, own, stack, stack_own = check.anywhere(program(policy), PSO, Search())
    assert (told(page.chaos), told(stack.chaos)) == known.ANY[policy]
    for one in (page, own, stack, stack_own):
        # these bugs show with few harts too, so nothing stays unknown
        assert one.verdict == one.chaos.verdict
        assert (one.confirmed is None) == (one.verdict == "verified")


def test_chaos_that_nothing_confirms_is_unknown():
    """A refutation under chaos alone may be spurious: the exit status is that of unknown."""
    chaos = check.check(program("mark-7.2"), litmus.ANY_NUMBER[0])
    assert chaos.verdict == "refuted"
    assert check.Anywhere(chaos=chaos, confirmed=None).verdict == "unknown"
    assert check.worst(["verified", "unknown", "verified"]) == "unknown"
    assert check.worst(["unknown", "refuted"]) == "refuted"
    assert check.worst([]) == "verified"


# ---- what a preset means ------------------------------------------------------------------------


def test_spec_is_everything_the_manual_allows():
    assert check.machine_parameters("spec", TSO) == [TSO]


@pytest.mark.parametrize("name", machines.PRESETS)
def test_preset_sets_what_may_be_cached(name):
    machine = machines.load(name)
    (found,) = check.machine_parameters(name)
    caches = {machine.inv_l1, machine.inv_l2, machine.inv_pwc} != {False}
    assert found.order == "pso"
    assert found.invalid == ("cache" if caches else "reorder")
    assert found.nonleaf == (machine.inv_nonleaf_range or machine.inv_pwc is not False)
    assert found.via == machine.via


def test_one_of_unknown_caching_is_taken_to_cache():
    assert machines.load("x60").inv_l1 is None
    assert check.machine_parameters("x60")[0].invalid == "cache"


def test_svvptc_machine_must_pass_with_one_and_with_two_stale_answers(tmp_path):
    path = tmp_path / "svvptc.toml"
    path.write_text(timelines.SVVPTC)
    found = check.machine_parameters(str(path))
    assert [p.svvptc_k for p in found] == [1, 2]
    assert all(p.svvptc for p in found)
    assert {told(checked("mark-6.12", "map2", p)) for p in found} == {"S2"}


def test_fence_by_address_is_enough_where_no_nonleaf_entry_is_kept():
    leaves = replace(PSO, nonleaf=False)
    assert told(checked("preventive-range", "nl", leaves)) == ""
    assert told(checked("vmalloc-fault", "nl", leaves)) == ""
    assert told(checked("none", "nl", leaves)) == "S2"


# ---- searching ----------------------------------------------------------------------------------


def test_fingerprints_take_over_when_states_no_longer_fit():
    few = Search(max_memory_bytes=3 * 2**20)
    found = check.check(program("mark-barrier"), litmus.find("map3", harts=4), PSO, few)
    assert (found.verdict, found.exact) == ("verified", False)
    assert any("fingerprints" in text for text in found.assumptions)
    kept = check.check(program("mark-barrier"), litmus.find("map3", harts=4), PSO,
                       replace(few, exact=True))
    assert (kept.verdict, kept.cell) == ("unknown", "?")
    assert kept.found.depth > 10


def test_counterexample_that_does_not_replay_is_an_internal_error(monkeypatch):
    monkeypatch.setattr(reference, "replay", lambda *_: "step 3: not possible")
    with pytest.raises(UnreplayableError, match="step 3: not possible"):
        check.check(program("mark-7.2"), litmus.find("map2"))


def test_limits_out_of_range_are_refused():
    with pytest.raises(InputError):
        Search(max_states=0)
    with pytest.raises(InputError):
        Search(max_memory_bytes=10)


def test_hardware_says_where_it_breaks():
    grid = check.hardware(program("mark-7.2"), litmus.find("map2"), PSO, Search())
    cells = {(kind, order): told(one) for kind, row in grid.items() for order, one in row.items()}
    assert {key for key, cell in cells.items() if cell} == {
        (kind, "pso") for kind in check.HARDWARE if kind != "none"}


# ---- what would help ----------------------------------------------------------------------------


def repairs(policy: str, scenario: str, **options) -> list[repair.Repair]:
    return repair.find(policies.find(policy), litmus.find(scenario), PSO, Search(), **options)


@pytest.mark.parametrize(("policy", "scenario", "change"), [
    ("mark-7.2", "map2", "map_kernel: add 'fence w,w' before"),
    ("broken-b1", "map2", "early_trap: swap 'sfence.vma x0, x0' and 'clear the own bit"),
    ("broken-b3", "map2", "early_trap: add 'sfence.vma x0, x0' before"),
    ("broken-b8", "map1", "map_kernel: swap 'publish the mapping' and 'mark"),
    ("broken-b10", "map1", "early_trap: add 'sfence.vma x0, x0' before 'retry the access'"),
    ("broken-b11", "map1", "map_kernel: add 'fence rw,rw' before 'shootdown"),
    ("broken-u1", "remap", "unmap_kernel: add 'fence rw,rw' after"),
    ("preventive-range", "nl", "sfence.vma x0, x0"),
    ("mark-barrier", "kstack2", "switch_task: add 'sfence.vma x0, x0' as its only step"),
])
def test_single_change_is_found(policy, scenario, change):
    best = repairs(policy, scenario, others=litmus.LITMUS)[0]
    assert change in best.text
    assert not best.worse
    found = check.check(ops.lower(best.policy), litmus.find(scenario))
    assert found.verdict == "verified"
    assert scenario not in best.others


@pytest.mark.parametrize(("policy", "scenario"), [("none", "map1"), ("broken-u2", "remap")])
def test_nothing_is_named_where_no_single_change_helps(policy, scenario):
    assert repairs(policy, scenario) == []


def test_change_that_only_moves_the_harm_is_not_preferred():
    """Without its clear the mark holds for ever: no oops, and a genuine bad access never ends."""
    found = repairs("broken-b7", "map2", others=litmus.LITMUS)
    assert found
    assert found[0].worse
    assert "drop 'clear" in found[0].text


# ---- timelines ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", timelines.CHECKS)
def test_output_is_what_is_written_down(name, tmp_path):
    committed = (timelines.FOLDER / f"{name}.txt").read_text()
    assert timelines.text(name, tmp_path) == committed, "if that is meant: `make goldens`"


def test_no_written_timeline_is_left_over():
    assert {path.stem for path in timelines.FOLDER.glob("*")} == set(timelines.CHECKS)


def test_a_timeline_fits_into_a_mail():
    for path in timelines.FOLDER.glob("*.txt"):
        told = re.search(r"^step .*?(?=^(?:S\d|DL): )", path.read_text(), re.S | re.M)
        assert told, path.name
        assert max(map(len, told[0].splitlines())) <= 104, path.name


@pytest.mark.slow
@pytest.mark.parametrize("parameters", [PSO, SC, Parameters(tlb="single"), Parameters(via="sbi")])
def test_every_refutation_can_be_told(parameters):
    for policy in policies.POLICIES:
        for scenario in litmus.names() if policy.name != "ideal" else ():
            found = checked(policy.name, scenario, parameters)
            if found.verdict != "refuted":
                continue
            told_ = timeline.lines(found)
            assert [line.number for line in told_] == list(range(1, found.found.length + 1))
            assert all(line.text and "{" not in str(line) for line in told_)
            ending = timeline.ending(found)
            assert ending.startswith(found.found.property + ": ")
            assert "{" not in ending
            events = json.loads(timeline.chrome(found))["traceEvents"]
            steps = [e for e in events if e["ph"] == "X" and "step" in e["args"]]
            assert len(steps) == found.found.length


def test_chrome_slices_of_a_hart_nest():
    events = json.loads(timeline.chrome(checked("preventive-range", "ipialloc")))["traceEvents"]
    for track in {e["tid"] for e in events if e["ph"] == "X"}:
        ends: list[int] = []
        own = [e for e in events if e["ph"] == "X" and e["tid"] == track]
        for event in sorted(own, key=lambda e: (e["ts"], -e["dur"])):
            while ends and ends[-1] <= event["ts"]:
                ends.pop()
            assert not ends or event["ts"] + event["dur"] <= ends[-1]
            ends.append(event["ts"] + event["dur"])


def test_deadlock_says_where_everybody_waits():
    ending = timeline.ending(checked("preventive-range", "ipialloc"))
    assert ending.count("waits at map_kernel: shootdown") == 2


def test_chaos_is_told_in_words():
    found = check.check(program("mark-7.2"), litmus.ANY_NUMBER[0])
    texts = [line.text for line in timeline.lines(found)]
    assert any("somebody else" in text or "another mapping" in text for text in texts)


# ---- policies of one's own ----------------------------------------------------------------------

MINE = """\
from dataclasses import dataclass
from pysim.ops import ALL, Mark, fence, mark, store_ptes

@dataclass(frozen=True)
class Mine:
    name: str = "mine"
    marks: tuple = ()

    def map_kernel(self):
        return [store_ptes(valid=True), {step}]

MINE = Mine()
"""


def mine(tmp_path, text: str) -> str:
    path = tmp_path / "mine.py"
    path.write_text(text)
    return str(path)


def test_policy_of_a_file_is_checked_like_ours(tmp_path):
    path = mine(tmp_path, MINE.format(step="fence(ALL)"))
    for name in (path, f"{path}:MINE"):
        found = check.check(check.lower(check.load_policy(name)), litmus.find("map1"))
        assert (found.policy, told(found)) == ("mine", "S2")


@pytest.mark.parametrize(("step", "reason"), [
    ("fence(", r"mine.py:10: is not Python"),
    ("3", r"mine.py:\d+: policy mine: .*3 is no step"),
    ("mark('m')", r"mine.py:\d+: policy mine: .*no mark named 'm'"),
    ("mark('m', 'nobody')", r"mine.py:10: policy mine: .*unknown who 'nobody'"),
    ("fence(ALL) + 1", r"mine.py:10: policy mine: TypeError"),
    ("fence(ALL, threshold_pages=-1)", r"mine.py:\d+: policy mine: .*out of range"),
])
def test_malformed_policy_is_refused_with_file_line_and_reason(tmp_path, step, reason):
    with pytest.raises(InputError, match=reason):
        check.lower(check.load_policy(mine(tmp_path, MINE.format(step=step))))


def test_file_without_the_policy_asked_for_is_refused(tmp_path):
    path = mine(tmp_path, MINE.format(step="fence(ALL)"))
    with pytest.raises(InputError, match="did you mean 'MINE'"):
        check.load_policy(f"{path}:MIN")
    with pytest.raises(InputError, match="holds no policy"):
        check.load_policy(mine(tmp_path, "x = 1"))
    with pytest.raises(InputError, match=r"mine.py:2: ZeroDivisionError"):
        check.load_policy(mine(tmp_path, "x = 1\ny = 1 / 0\n"))
    with pytest.raises(InputError, match="no such file"):
        check.load_policy(str(tmp_path / "other.py"))
    with pytest.raises(InputError, match=r"did you mean 'mark-7\.2'"):
        check.load_policy("mark-7.3")


def test_free_fence_is_refused_with_its_reason():
    with pytest.raises(InputError, match="free fence is on no machine"):
        check.check(program("ideal"), litmus.find("map1"))


def test_more_harts_than_cpu_numbers_follow_on():
    one = litmus.find("map1", harts=4)
    assert check.cpus(one, Parameters(cpus=(7, 3))) == [7, 3, 8, 9]
    assert check.cpus(one, Parameters(cpus=(5, 4, 3, 2, 1))) == [5, 4, 3, 2]


def test_properties_are_named_in_the_engines_order():
    assert list(engine.EXPLORE_PROPERTIES) == ["DL", "S1", "S2", "S3", "S4"]
    assert set(timeline.MEANINGS) == set(engine.EXPLORE_PROPERTIES)
