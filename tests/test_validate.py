"""The scoreboard: rows pass and fail for the right reasons, and say what went into them."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import pytest

from pysim import costs, engine, machines, policies, published, scores, stats, validate
from pysim.engine import Question, Result
from pysim.errors import InputError


def board(only: str, **changes: Any) -> dict[str, scores.Score]:
    return {row.what: row for row in validate.validate(only=only, **changes).rows}


def score(outcome: scores.Outcome) -> scores.Score:
    return scores.Score(group="g", what="w", role="predicted", measured="", predicted="",
                          tolerance="", outcome=outcome, source="s")


@pytest.mark.parametrize(("outcomes", "ok"), [
    (["pass"], True), (["pass", "fitted", "input", "not scored"], True), (["pass", "fail"], False),
    (["pass", "not modelled"], False), (["fitted", "input"], False), ([], False),
])
def test_a_board_holds_when_something_passes_and_nothing_fails(
    outcomes: list[scores.Outcome], ok: bool
) -> None:
    assert scores.Scoreboard(rows=tuple(map(score, outcomes))).ok is ok


def test_an_unknown_group_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'gains'"):
        validate.validate(only="gain")


@pytest.mark.slow
@pytest.mark.parametrize("group", [name for name in validate.GROUPS
                                   if name not in ("kernels", "instructions")])
def test_every_row_has_a_source_and_says_what_went_in(group: str) -> None:
    for row in board(group).values():
        assert row.source
        assert row.tolerance
        assert row.outcome not in ("not scored", "not modelled")
        assert row.outcome != "fail" or row.reason
        assert row.parameters
        assert all(p.source and p.role in ("input", "fitted", "assumed") for p in row.parameters)


# ---- SBI calls ----------------------------------------------------------------------------------


def test_sbi_calls_that_were_not_fitted_are_predicted() -> None:
    rows = board("SBI calls")
    assert {row.outcome for row in rows.values()} == {"fitted", "pass"}
    assert sum(row.role == "predicted" for row in rows.values()) == 6
    assert rows["K1, OpenSBI: sfence 16 pages self"].predicted == "1,478 cycles"


def test_a_firmware_that_does_not_widen_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were 16 pages 16 fences of 300 cycles, or of 1, the prediction would miss."""
    real = published.K1[1]
    for cycles in (16 * 300, 700):
        odd = dataclasses.replace(real, pages_16_self=cycles)
        monkeypatch.setattr(published, "K1", (odd,))
        rows = board("SBI calls")
        assert rows["K1, OpenSBI: sfence 16 pages self"].outcome == "fail"


def test_fitted_rows_are_met_to_the_cycle() -> None:
    fitted = [row for row in board("SBI calls").values() if row.role == "fitted"]
    assert len(fitted) == 8
    assert all(row.measured == row.predicted for row in fitted)


# ---- remote fences ------------------------------------------------------------------------------


def test_remote_fences_are_a_line_with_a_large_fixed_part() -> None:
    assert {row.outcome for row in board("remote fences").values()} == {"pass"}


def test_remote_fences_of_another_shape_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def square(bench: Any, policy: Any, machine: Any, harts: int, counter: str) -> Fraction:
        return Fraction(harts ** 3)

    monkeypatch.setattr(validate.Bench, "cycles_a_map", square)
    assert {row.outcome for row in board("remote fences").values()} == {"fail"}


def test_one_more_hart_costs_one_more_send() -> None:
    bench = validate.Bench(data=None)
    machine = machines.load("sg2042")
    policy = policies.find("preventive-range")
    fit = stats.line([(harts, bench.cycles_a_map(policy, machine, harts, "initiator_wait_cycles"))
                      for harts in (2, 3, 5, 9)])
    assert fit.slope == machine.sbi_send_cycles
    assert fit.r_squared == 1


# ---- costs -------------------------------------------------------------------------------------


def test_the_cost_table_has_a_range_for_every_field() -> None:
    fields = machines.load("p550").flat()
    for cost in costs.COSTS:
        assert cost.field in fields
        assert cost.low <= cost.typical <= cost.high
        assert "row" in cost.source or "d." in cost.source


# ---- kernels ------------------------------------------------------------------------------------


def test_without_counts_the_kernels_are_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "shared_counts", lambda: None)
    rows = validate.validate(only="kernels").rows
    assert [row.outcome for row in rows] == ["not scored"]
    assert "FENCELAB_SHARED" in rows[0].reason


@pytest.mark.slow
def test_a_kernel_row_with_one_wrong_count_fails_and_names_it(shared: Any) -> None:
    def one_off(question: Question) -> Result:
        result = engine.simulate(question)
        counters = dict(result.counters)
        counters["remote_fence_calls"] += counters["remote_fence_calls"] == 40
        return dataclasses.replace(result, counters=counters)

    rows = board("kernels", simulate=one_off)
    failed = [row for row in rows.values() if row.outcome == "fail"]
    assert failed
    assert all("40 measured, 41 predicted" in row.reason for row in failed)
    assert [row for row in rows.values() if row.outcome == "pass"]
