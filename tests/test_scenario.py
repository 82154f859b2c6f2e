"""Scenarios and workloads: seeds, lowering, and what is refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysim import engine, machines, policies, scenario, workloads
from pysim.errors import InputError

BASE = {"policy": "mark-6.12", "machine": "rocket", "workload": "mixed"}


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_every_field_of_a_workload_is_sourced_and_described(name: str) -> None:
    workload = workloads.load(name)
    for field, info in workloads.Workload.model_fields.items():
        assert info.description, field
        if field not in ("name", "title", "sources"):
            source = workload.provenance(field)
            assert source.removeprefix("assumed: ")
            assert not source.startswith("given"), field
            assert workloads.unit(field), field


def test_presets_are_all_the_files_there_are() -> None:
    folder = Path(workloads.__file__).parent
    assert {path.stem for path in folder.glob("*.toml")} == {*workloads.WORKLOADS, "common"}


@pytest.mark.parametrize("name", workloads.WORKLOADS)
@pytest.mark.parametrize("preset", machines.PRESETS)
def test_every_workload_lowers_on_every_machine(name: str, preset: str) -> None:
    machine, workload = machines.load(preset), workloads.load(name)
    values = workload.c_values(machine, 7, 2)
    packed = engine.ffi.from_buffer("struct csim_workload *",
                                    engine.pack("csim_workload", values))
    if workload.kind == "synthetic":
        assert packed.useful_cycles == workload.duration_ms * machine.mhz * 1000
    assert packed.ticks_per_tcycle == round(250 * 10**6 / machine.mhz)
    assert packed.lazy_pages_per_log2 == 8192  # 32 MiB, linux lazy_max_pages
    assert packed.seed == 7


SEEDS = st.integers(0, 2**64 - 1)


@given(root=SEEDS, replicate=st.integers(0, 1000), policy=st.sampled_from(policies.names()),
       machine=st.sampled_from(machines.PRESETS), harts=st.integers(1, 64))
def test_a_seed_knows_no_policy_machine_or_harts(
    root: int, replicate: int, policy: str, machine: str, harts: int
) -> None:
    given_one = {"root_seed": root, "replicate": replicate}
    one = scenario.build(BASE | given_one)
    other = scenario.build(BASE | given_one | {"policy": policy, "machine": machine,
                                               "harts": harts})
    assert one.seed == other.seed
    assert one.seed != scenario.build(BASE | given_one | {"replicate": replicate + 1}).seed


def test_a_seed_counts_what_happens_and_not_its_name() -> None:
    fork = workloads.load("fork")
    assert fork.model_copy(update={"name": "x"}).seed(1, 0) == fork.seed(1, 0)
    assert fork.override({"duration_ms": 20.0}).seed(1, 0) == fork.seed(1, 0)
    assert fork.override({"duration_ms": 21}).seed(1, 0) != fork.seed(1, 0)


@pytest.mark.parametrize("machine", machines.PRESETS)
def test_a_scenario_survives_its_own_json(machine: str) -> None:
    one = scenario.build(BASE | {"machine": {"inherit": machine, "coherence_cycles": 7}})
    again = scenario.Scenario.model_validate_json(one.model_dump_json())
    assert again == one
    assert scenario.lower(again).key == scenario.lower(one).key


@given(rate=st.one_of(st.integers(0, 10**7), st.floats(0, 1e7, allow_nan=False)),
       duration=st.floats(0.01, 1000), preset=st.sampled_from(machines.PRESETS))
def test_rates_and_times_cross_within_half_a_unit(
    rate: float, duration: float, preset: str
) -> None:
    machine = machines.load(preset)
    workload = workloads.load("mixed").override({"vmalloc_per_s": rate, "duration_ms": duration})
    values = workload.c_values(machine, 0, 1)
    exact = Fraction(str(rate)) * 10**6 / machine.mhz
    assert abs(values["maps_per_tcycle"] - exact) <= Fraction(1, 2)
    exact = Fraction(str(duration)) * machine.mhz * 1000
    assert abs(values["useful_cycles"] - exact) <= Fraction(1, 2)


def test_nr_cpus_holds_the_harts_or_is_refused() -> None:
    assert scenario.build(BASE).nr_cpus == 64
    assert scenario.build(BASE | {"harts": 64}).nr_cpus == 64
    assert scenario.build(BASE | {"harts": 65}).nr_cpus == 128
    with pytest.raises(InputError, match=r"nr_cpus: a kernel built for 64 cannot run 65 harts"):
        scenario.build(BASE | {"harts": 65, "nr_cpus": 64})


BAD: list[tuple[dict[str, Any], str]] = [
    ({"policy": "mark-6.1"}, "policy: unknown policy 'mark-6.1'; did you mean 'mark-6.12'?"),
    ({"machine": "roket"}, "machine: no preset named 'roket', and no such file; "
                           "did you mean 'rocket'?"),
    ({"machine": {"inherit": "rocket", "inv_l9": 1}}, "machine.inv_l9: unknown key; did you"),
    ({"machine": {"inv_l1": 1}}, "machine: is a name, a file or a table with `inherit`"),
    ({"workload": {"inherit": "fork", "vmalloc_per_s": -1}}, "workload.vmalloc_per_s: "),
    ({"workload": {"inherit": "fork", "stack_fraction": 2}}, "workload.stack_fraction: "),
    ({"workload": {"inherit": "fork", "visit_text_fraction": 0.9}},
     "workload.visit_module_fraction: visit_text_fraction + "),
    ({"workload": {"inherit": "fork", "duration_ms": float("nan")}}, "workload.duration_ms: a fin"),
    ({"workload": {"inherit": "fork", "text_kib": 6}}, "workload.text_kib: is a multiple of 4"),
    ({"workload": {"inherit": "fork", "kind": "replay"}}, "workload.trace: a replay names its"),
    ({"hart": 3}, "hart: unknown key; did you mean 'harts'?"),
    ({"harts": 0}, "harts: "), ({"harts": "x"}, "harts: "), ({"harts": 4097}, "harts: "),
    ({"root_seed": -1}, "root_seed: "),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_a_bad_scenario_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        scenario.build(BASE | change, "q.toml")
    assert str(caught.value).startswith(f"q.toml: {message}")


def test_what_does_not_fit_the_door_is_refused_by_its_human_name() -> None:
    long = workloads.load("fork").override({"lifetime_ms": 10_000})
    with pytest.raises(InputError, match=r"workload fork: lifetime_ms: 10000 is more than"):
        long.c_values(machines.load("rocket"), 0, 1)
    short = workloads.load("fork").override({"duration_ms": 0.0001})
    with pytest.raises(InputError, match=r"duration_ms: 100 cycles .* less than one page visit"):
        short.c_values(machines.load("rocket"), 0, 1)


def test_the_key_is_of_the_bytes_and_not_of_the_names() -> None:
    one = scenario.lower(scenario.build(BASE))
    renamed = machines.load("rocket").model_copy(update={"name": "mine"})
    assert scenario.lower(scenario.build(BASE | {"machine": renamed})).key == one.key
    for change in ({"harts": 5}, {"policy": "none"}, {"replicate": 1},
                   {"machine": "cva6"}, {"workload": "idle"}, {"nr_cpus": 128}):
        assert scenario.lower(scenario.build(BASE | change)).key != one.key, change


def test_a_result_survives_its_record() -> None:
    result = engine.Result(verdict="ran", verdict_hart=0, verdict_at_cycles=0, verdict_va=0,
                           counters={"maps": 3}, histograms={"map": {16: 2, 2**40: 1}})
    assert engine.Result.from_record(result.record()) == result
    assert b" " not in result.record()


@given(st.integers(0, 974))
def test_histogram_buckets_are_log_linear(bucket: int) -> None:
    low, high = engine.histogram_floor(bucket), engine.histogram_floor(bucket + 1)
    octave, part = divmod(bucket, 16)
    assert low == (bucket if octave == 0 else (16 + part) << (octave - 1))
    assert low < high
    assert (high - low) * 16 <= max(low, 16)


def test_lowering_many_is_lowering_each() -> None:
    """In any order, with parts shared or not, and the keys are those of the questions."""
    many = scenario.Lowering()
    made = [
        scenario.build({"policy": policy, "machine": machine, "workload": workload, "harts": harts,
                        "root_seed": seed, "replicate": replicate})
        for machine in ("sg2042", {"inherit": "xs-kmh", "l2_hit_cycles": 9})
        for workload in ("forkburst", {"inherit": "mixed", "duration_ms": 1}, "idle")
        for policy in ("none", "mark-7.2")
        for harts in (1, 3) for seed in (1, 2**64 - 1) for replicate in (0, 7)
    ]
    made += [one.model_copy(update={"replicate": 3}) for one in made[::5]]
    for one in [*made, *reversed(made)]:
        want = scenario.lower(one)
        assert many(one) == want
        assert many.key(one) == want.key
    assert len({many.key(one) for one in made}) == len(made)
