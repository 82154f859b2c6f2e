"""What the clock does, the abstract machine can do: each event log is one of its paths.

That is property P8 of the explorer's specification, and what lets a proof say something about a
run. FENCELAB_PATHS sets how many drawn runs are followed for each policy (default 15).
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import clock_path
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from items import ask

from pysim import engine, litmus, ops, policies
from pysim.litmus import Action, Litmus, Parameters

EXAMPLES = int(os.environ.get("FENCELAB_PATHS", "15"))
FOUND = (Phase.explicit, Phase.reuse, Phase.generate)   # to shrink would take minutes
RETRIES = 4
TERMS = ("store", "barrier", "amo", "load", "line_transfer", "trap_entry", "sret", "store_drain",
         "coherence", "fence_all", "fence_va", "fence_pipe", "walk_overhead_per_level", "read_l1d",
         "ecall", "sbi_fixed", "sbi_send", "sbi_deliver", "sbi_handler", "sbi_ack", "imsic_fixed",
         "imsic_send", "imsic_deliver", "imsic_handler", "imsic_ack", "hw_fixed", "hw_per_hart")
POLICIES = [policy.name for policy in policies.POLICIES
            if policy.name != "ideal"]          # its fence is nobody's hardware


@st.composite
def machines(draw: st.DrawFn) -> dict[str, int]:
    """Costs, and whether invalid entries are cached.

    Where they are not, the own walker sees own stores at once: that it might miss one even after a
    trap is what `reorder` excludes and the clock, for `store_drain_cycles`, does not.
    """
    cost = st.sampled_from([0, 1, 2, 3, 10, 60, 230])
    made = {f"{term}_cycles": draw(cost) for term in TERMS} | {"inv_l1": draw(st.integers(0, 1))}
    if not made["inv_l1"]:
        made["store_drain_cycles"] = 0
    return made | {"via": draw(st.sampled_from(
        [engine.VIA[name] for name in ("sbi", "imsic", "hw")])),
        "svvptc": draw(st.integers(0, 1)),
        "sbi_range_limit_bytes": draw(st.sampled_from([0, 4096]))}


def assumed(machine: dict[str, int]) -> Parameters:
    """What `fencelab check` would assume of this machine."""
    via = next(name for name, number in engine.VIA.items() if number == machine["via"])
    limit = machine["sbi_range_limit_bytes"] // 4096
    return Parameters(invalid="cache" if machine["inv_l1"] else "reorder", nonleaf=True,
                      svvptc=bool(machine["svvptc"]), via=via, sbi_limit_pages=limit,
                      retries=RETRIES, nesting=6, cpus=tuple(range(6)))


@st.composite
def scripts(draw: st.DrawFn) -> Litmus:
    """Pages mapped, used, unmapped, purged and mapped again, among interrupts and probes."""
    harts, pages = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    made: list[list[Action]] = [[] for _ in range(harts)]
    made[0].append(Action("map", pages))                # the first map makes the page table
    for page in range(pages):
        mapper = draw(st.integers(0, harts - 1))
        users = draw(st.lists(st.integers(0, harts - 1), unique=True, max_size=harts))
        again = draw(st.booleans())
        masked = mapper > 0 and draw(st.booleans())
        if masked:                      # it begins as soon as what is before it is done
            made[mapper].append(Action("wait", pages))
        made[mapper].append(Action("map", page, masked=masked))
        for user in users:
            if user != mapper:
                made[user].append(Action("wait", page))
            made[user].append(Action("access", page))
            if again and user != mapper:
                made[user].append(Action("signal", count=1 + sum(
                    a.kind == "signal" for a in made[user])))
                made[mapper].append(Action("await", user, count=made[user][-1].count))
        if again:
            made[mapper] += [Action("unmap", page), Action("purge", page),
                             Action("map", page, frame=2, count=2)]
            for user in users:
                if user != mapper:
                    made[user].append(Action("wait", page, count=2))
                made[user].append(Action("access", page, frame=2))
    return disturbed(draw, Litmus(name="drawn", question="any?", pages=pages + 2,
                                  scripts=tuple(tuple(script) for script in made)))


def disturbed(draw: Any, calm: Litmus) -> Litmus:
    """Interrupts, and probes of the last page, which nobody maps; the first map stays first."""
    extra = [Action("interrupt"), Action("probe", calm.pages - 1)]
    made = [list(script) for script in calm.scripts]
    for hart, script in enumerate(made):
        for _ in range(draw(st.integers(0, 2))):
            script.insert(draw(st.integers(int(hart == 0), len(script))),
                          draw(st.sampled_from(extra)))
    return replace(calm, scripts=tuple(tuple(script) for script in made))


def with_its_table(named: Litmus) -> Litmus:
    """The page table is made by a first map of another page, unless that is what it is about."""
    first = () if named.table else (Action("map", named.pages),)
    return replace(named, pages=named.pages + 2,
                   scripts=(first + named.scripts[0], *named.scripts[1:]))


def times(draw: Any, drawn: Litmus) -> list[list[int]]:
    """When each action is due, growing on each hart; the page table is made long before."""
    found = []
    for script in drawn.scripts:
        at, row = 2000, []
        for position in range(len(script)):
            row.append(10 if script[position] == drawn.scripts[0][0] and position == 0
                       and not drawn.table else at)
            at += draw(st.sampled_from([0, 0, 1, 7, 60, 400, 1500]))
        found.append(row)
    return found


def compare(policy: str, drawn: Litmus, machine: dict[str, int], at: list[list[int]]) -> int:
    rows = clock_path.work(drawn, at)
    question = ask(rows, policy=policy, harts=drawn.harts, useful=100_000,
                   livelock_retries=RETRIES, read_l1d_permille=1000, **machine)
    result, log = engine.logged(question, entries_max=100_000)
    assert engine.simulate(question) == result      # a log changes nothing
    program = ops.lower(policies.find(policy), nr_cpus=64)
    visible = machine["store_drain_cycles"] + machine["coherence_cycles"]
    return clock_path.check(program, clock_path.with_touch(drawn), assumed(machine), visible,
                            result.verdict, log)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ["map2", "cross", "remap", "wild", "kstack", "nl"])
@settings(max_examples=max(3, EXAMPLES // 5), phases=FOUND)
@given(data=st.data())
def test_a_scenario_on_the_clock_is_a_path_of_it(policy: str, name: str, data: Any) -> None:
    """The scenarios of the verdict tables, on 2 to 4 harts; in `nl` one hart maps."""
    harts = data.draw(st.integers(2, 4))
    named = with_its_table(litmus.find(name, harts=harts))
    if not named.table:
        named = disturbed(data.draw, named)
    compare(policy, named, data.draw(machines()), times(data.draw, named))


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=EXAMPLES, phases=FOUND)
@given(data=st.data())
def test_every_log_is_a_path_of_the_abstract_machine(policy: str, data: Any) -> None:
    drawn, machine = data.draw(scripts()), data.draw(machines())
    steps = compare(policy, drawn, machine, times(data.draw, drawn))
    assert steps >= len(drawn.scripts[0])
