"""The explorer against the slow one: the same machine, transition by transition, and its limits."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import drawn
import pytest

from pysim import check, engine, litmus, ops, policies, reference
from pysim.errors import EngineError
from pysim.litmus import Litmus, Parameters
from pysim.reference import Machine, Violated

# How many drawn cases are compared; set FENCELAB_DRAWN=10000 for the long run.
DRAWN = int(os.environ.get("FENCELAB_DRAWN", "300"))
SMALL = {"max_memory_bytes": 2**24}
PLAIN = {**SMALL, "symmetry": False}


def explored(program: ops.Program, where: Litmus, parameters: Parameters,
             **search) -> engine.Explored:
    question = check.question(where, parameters, **{**PLAIN, **search})
    return engine.explore(question, program.header, program.ops)


def answer(found: engine.Explored) -> tuple:
    """What the reduced searches and the slow explorer must agree on."""
    return found.verdict, found.property or None, found.length or None


@pytest.mark.parametrize("seed", range(0, DRAWN, 10))
def test_drawn_cases_have_the_slow_explorers_answer(seed):
    for number in range(seed, seed + 10):
        program, where, parameters = drawn.case(number)
        slow = reference.explore(program, where, parameters, max_states=3000)
        if slow.verdict == "unknown":
            continue
        fast = explored(program, where, parameters)
        assert answer(fast) == (slow.verdict, slow.property, slow.length), number
        assert fast.s5_length == slow.s5_length, number
        assert len(fast.trace) == fast.length
        if slow.property is not None:
            trace = [step[:3] for step in fast.trace]
            assert reference.replay(program, where, parameters, trace, slow.property) is None
            last = list(engine.EXPLORE_PROPERTIES)[fast.trace[-1].property - 1]
            assert last == slow.property


def walk(program: ops.Program, where: Litmus, parameters: Parameters, seed: int,
         steps: int) -> None:
    """One random walk: at every state both machines offer the same transitions and violations."""
    slow, rng = Machine(program, where, parameters), random.Random(seed)
    question = check.question(where, parameters, max_memory_bytes=2**21)
    with engine.Explorer(question, program.header, program.ops) as fast:
        state, path = slow.initial(), []
        for _ in range(steps):
            offered, after = {}, {}
            for transition in slow.transitions(state):
                try:
                    after[transition], _ = slow.apply(state, transition)
                    offered[transition] = ""
                except Violated as violated:
                    offered[transition] = violated.prop
            assert fast.follow(path) == offered, (seed, path)
            if not after:
                return
            path.append(rng.choice(sorted(after)))
            state = after[path[-1]]


@pytest.mark.parametrize("seed", range(0, DRAWN, 10))
def test_random_walks_meet_the_same_transitions(seed):
    for number in range(seed, seed + 10):
        walk(*drawn.case(number), number, 40)


@pytest.mark.parametrize("where", litmus.ANY_NUMBER, ids=lambda found: found.name)
def test_chaos_is_the_same_chaos(where):
    for policy in policies.POLICIES:
        if policy.name == "ideal":
            continue
        for via in ("imsic", "sbi"):
            walk(ops.lower(policy), where, Parameters(via=via), 1, 60)


def test_a_walk_that_cannot_be_followed_is_none():
    program, where = ops.lower(policies.find("none")), litmus.find("map1")
    question = check.question(where, Parameters(), max_memory_bytes=2**21)
    with engine.Explorer(question, program.header, program.ops) as fast:
        assert fast.follow([]) == {(0, 0, 0): ""}
        assert fast.follow([(0, 0, 0)]) is not None
        assert fast.follow([(0, 1, 0)]) is None
        assert fast.follow([(5, 0, 0)]) is None


@pytest.mark.parametrize("seed", range(0, DRAWN, 30))
def test_reductions_keep_verdict_property_and_length(seed):
    for number in range(seed, seed + 30):
        program, where, parameters = drawn.case(number)
        plain = explored(program, where, parameters, max_states=20_000)
        if plain.verdict == "unknown":
            continue
        for search in ({"symmetry": True}, {"eager": True}, {"exact": False},
                       {"symmetry": True, "eager": True, "exact": False, "hash_seed": 7}):
            found = explored(program, where, parameters, **search)
            assert answer(found) == answer(plain), (number, search)
            if plain.property:
                trace = [step[:3] for step in found.trace]
                why = reference.replay(program, where, parameters, trace, plain.property)
                assert why is None, (number, search)


@pytest.mark.parametrize("harts", [3, 4])
@pytest.mark.parametrize("name", ["map2", "remap", "wild", "kstack", "trace"])
@pytest.mark.parametrize("policy", ["mark-7.2", "mark-barrier", "broken-b2", "preventive-range"])
def test_counterexamples_under_symmetry_name_the_right_harts(policy, name, harts):
    program, where = ops.lower(policies.find(policy)), litmus.find(name, harts=harts)
    parameters = Parameters(cpus=(0, 1, 2, 3, 4, 5))
    reduced = explored(program, where, parameters, symmetry=True, max_memory_bytes=2**28)
    plain = explored(program, where, parameters, max_memory_bytes=2**28)
    assert answer(reduced) == answer(plain)
    # remap awaits its readers by name: there nobody is interchangeable
    assert (reduced.symmetric == 0) == (name == "remap")
    assert name == "remap" or reduced.states < plain.states or plain.states < 100
    if plain.property:
        trace = [step[:3] for step in reduced.trace]
        assert reference.replay(program, where, parameters, trace, plain.property) is None


def test_eager_steps_are_off_where_they_would_not_be_sound():
    def eager(policy: str, name: str, **parameters) -> bool:
        found = explored(ops.lower(policies.find(policy)), litmus.find(name),
                         Parameters(**parameters), eager=True)
        assert found.verdict == "verified"
        return found.eager

    assert eager("mark-barrier", "map2")
    assert not eager("preventive-full", "map2")  # it has shootdowns
    assert not eager("mark-switch-in", "kstack")  # it has a stack
    assert not eager("mark-barrier", "map1", tlb="single")
    assert not eager("mark-barrier", "map1", svvptc=True, svvptc_k=1)


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
@pytest.mark.parametrize("policy", ["mark-7.2", "mark-barrier"])
def test_answer_does_not_depend_on_the_hash_seed(policy, seed):
    program, where = ops.lower(policies.find(policy)), litmus.find("map2", harts=3)
    for exact in (False, True):
        one = explored(program, where, Parameters(), exact=exact, symmetry=True)
        other = explored(program, where, Parameters(), exact=exact, symmetry=True, hash_seed=seed)
        assert one == other


def test_limits_are_unknown_never_verified():
    program, where = ops.lower(policies.find("mark-barrier")), litmus.find("map3", harts=4)
    search = {"eager": True, "symmetry": True, "max_memory_bytes": 2**26}
    whole = explored(program, where, Parameters(), **search)
    assert whole.verdict == "verified"
    for most in (1, 10, 1000, whole.states - 1):
        found = explored(program, where, Parameters(), **search, max_states=most)
        assert (found.verdict, found.limit, found.states) == ("unknown", "states", most)
        assert found.depth < whole.depth
    exactly = explored(program, where, Parameters(), **search, max_states=whole.states)
    assert exactly == whole
    small = explored(program, where, Parameters(), max_memory_bytes=2**20)
    assert (small.verdict, small.limit) == ("unknown", "memory")
    assert small.states > 1000


def test_fingerprints_need_less_memory_than_states():
    program, where = ops.lower(policies.find("mark-barrier")), litmus.find("map3", harts=4)
    limited = {"eager": True, "max_memory_bytes": 3 * 2**20, "symmetry": True}
    assert explored(program, where, Parameters(), **limited).verdict == "unknown"
    assert explored(program, where, Parameters(), exact=False, **limited).verdict == "verified"


def test_refutation_within_little_memory_is_still_shown():
    """The exact search for the shortest may not fit; the counterexample found first then stands."""
    program, where = ops.lower(policies.find("mark-7.2")), litmus.find("map3", harts=5)
    found = explored(program, where, Parameters(), exact=False, eager=True, symmetry=True,
                     max_memory_bytes=2**20)
    assert (found.verdict, found.property) == ("refuted", "S2")
    trace = [step[:3] for step in found.trace]
    assert reference.replay(program, where, Parameters(), trace, "S2") is None


def test_more_buffered_stores_than_a_state_holds_is_unknown():
    many = drawn.Drawn(name="many", drawn={"map_kernel": [
        ops.store_ptes(valid=True), *(ops.mark("m") for _ in range(17))]})
    found = explored(ops.lower(many), litmus.find("map1"), Parameters())
    assert (found.verdict, found.limit) == ("unknown", "stores")
    ordered = explored(ops.lower(many), litmus.find("map1"), Parameters(order="sc"))
    assert ordered.verdict != "unknown"


@pytest.mark.parametrize(("field", "value"), [
    ("harts", 0), ("harts", 7), ("pages", 11), ("below", 2**9), ("stack_pages", 3), ("object", 1),
    ("order", 3), ("nesting", 7), ("svvptc_k", 15), ("cpus", [0, 0]), ("cpus", [0, 64]),
    ("max_states", 0), ("max_memory_bytes", 1000), ("chaos", 2), ("actions_nr", [33, 1]),
    ("actions", [[{"kind": 99, "pages": 1, "frame": 1, "count": 1}]]),
    ("actions", [[{"kind": 0, "first": 9, "pages": 1, "frame": 1, "count": 1}]]),
    ("actions", [[{"kind": 0, "pages": 1, "frame": 4, "count": 1}]]),
    ("actions", [[{"kind": 10, "pages": 1, "frame": 1, "count": 1}]]),
    ("actions", [[{"kind": 12, "first": 0, "pages": 1, "frame": 1, "count": 1}]]),
])
def test_door_refuses_what_is_out_of_range(field, value):
    program = ops.lower(policies.find("none"))
    question = check.question(litmus.find("map1"), Parameters(), **SMALL)
    with pytest.raises(EngineError):
        engine.explore({**question, field: value}, program.header, program.ops)


def spoiled(data: bytes, rng: random.Random) -> bytes:
    """A few bytes of it are others now; seldom all of them, seldom some are missing."""
    if rng.randrange(20) == 0:
        return rng.randbytes(len(data))
    if rng.randrange(20) == 0:
        return data[: rng.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 5))):
        # small numbers come nearer to what is allowed than any do
        changed[rng.randrange(len(data))] = rng.choice((rng.randrange(20), rng.randrange(256)))
    return bytes(changed)


def spoiled_question(question: dict, rng: random.Random) -> dict:
    """Some numbers of it are others now; memory and states stay little."""
    spoiled_ = {**question, "max_states": 500, "max_memory_bytes": 2**21}
    wild = (0, 1, 2, 3, 5, 7, 15, 16, 31, 32, 64, 255, 256, 2**31, 2**32 - 1)
    names = sorted(set(spoiled_) - {"actions", "actions_nr", "cpus", "max_memory_bytes"})
    for _ in range(rng.choice((0, 0, 1, 2))):
        spoiled_[rng.choice(names)] = rng.choice(wild)
    spoiled_["actions"] = [[dict(action) for action in script] for script in question["actions"]]
    for script in spoiled_["actions"]:
        if script and rng.randrange(4) == 0:
            action = rng.choice(script)
            action[rng.choice(sorted(action))] = rng.choice((0, 1, 2, 3, 9, 15, 16, 255))
    return spoiled_


@pytest.mark.parametrize("seed", range(0, DRAWN, 30))
def test_any_bytes_are_refused_or_answered(seed):
    """Nothing that crosses the door ends the process: `make san` looks at every access too."""
    answers = set()
    for number in range(seed, seed + 30):
        rng = random.Random(number)
        program, where, parameters = drawn.case(number)
        question = check.question(where, parameters, symmetry=number % 2 == 0, eager=True)
        for _ in range(20):
            try:
                with engine.Explorer(spoiled_question(question, rng),
                                     spoiled(program.header, rng) if rng.randrange(3) == 0
                                     else program.header, spoiled(program.ops, rng)) as fast:
                    answers.add(fast.search().verdict)
                    fast.follow([(rng.randrange(256), rng.randrange(256), rng.randrange(256))])
            except EngineError:
                answers.add("refused")
    assert answers == {"refused", "verified", "refuted", "unknown"}


def test_free_fence_is_refused():
    program = ops.lower(policies.find("ideal"))
    with pytest.raises(EngineError, match="free fence"):
        explored(program, litmus.find("map1"), Parameters())


def test_search_stops_when_asked():
    program, where = ops.lower(policies.find("mark-barrier")), litmus.find("map4", harts=6)
    stop = engine.Stop()
    stop.set()
    question = check.question(where, Parameters(), **SMALL)
    found = engine.explore(question, program.header, program.ops, stop=stop)
    assert (found.verdict, found.limit) == ("unknown", "interrupted")


@pytest.mark.slow
def test_a_weaker_order_never_verifies_what_a_stronger_one_refutes():
    for policy in policies.POLICIES:
        if policy.name == "ideal":
            continue
        for where in litmus.LITMUS:
            found = [explored(ops.lower(policy), where, replace(Parameters(), order=order)).verdict
                     for order in ("sc", "tso", "pso")]
            assert found == sorted(found, reverse=True), (policy.name, where.name)
