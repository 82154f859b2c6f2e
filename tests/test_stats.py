"""Estimates, quantiles and what is derived from counters."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysim import counters, engine, stats

# Student t, two-sided 95 %: any printed table (e.g. NIST Engineering Statistics Handbook 1.3.6.7.2)
T_TABLE = {1: 12.706, 2: 4.303, 4: 2.776, 9: 2.262, 29: 2.045, 100: 1.984}


@pytest.mark.parametrize(("degrees", "wanted"), T_TABLE.items())
def test_t_quantiles_are_the_printed_ones(degrees: int, wanted: float) -> None:
    assert stats.t_quantile(0.95, degrees) == pytest.approx(wanted, abs=5e-4)


def test_an_interval_is_students() -> None:
    got = stats.estimate([1, 2, 3, 4, 5])
    assert (got.mean, got.n) == (3.0, 5)
    # s = sqrt(2.5); 2.776 s / sqrt(5) = 1.963
    assert got.half_width == pytest.approx(1.9632, abs=1e-4)
    assert got.low == pytest.approx(3 - 1.9632, abs=1e-4)


def test_one_value_has_no_interval() -> None:
    got = stats.estimate([7])
    assert (got.mean, got.low, got.high, got.half_width, str(got)) == (7.0, None, None, None, "7")


@given(st.lists(st.integers(0, 2**63), min_size=2, max_size=12), st.randoms())
def test_the_order_of_replicates_moves_nothing(values: list[int], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert stats.estimate(shuffled) == stats.estimate(values)


@given(st.dictionaries(st.integers(0, 50), st.integers(0, 10**9), min_size=1),
       st.integers(0, 10**9))
def test_pairing_removes_what_replicates_share(base: dict[int, int], shift: int) -> None:
    got = stats.paired({key: value + shift for key, value in base.items()}, base)
    assert (got.mean, got.n) == (float(shift), len(base))
    if got.n > 1:
        assert got.low == got.high == float(shift)


def test_pairing_takes_common_replicates_only() -> None:
    got = stats.paired({0: 5, 1: 7, 2: 100}, {0: 1, 1: 3, 9: 4})
    assert (got.mean, got.n) == (4.0, 2)
    with pytest.raises(ValueError, match="no replicate in common"):
        stats.paired({0: 1}, {1: 1})
    assert stats.paired_ratio({0: 3, 1: 6}, {0: 2, 1: 4}).mean == 1.5
    with pytest.raises(ValueError, match="ratio to 0"):
        stats.paired_ratio({0: 3}, {0: 0})


def test_wilson_interval_of_a_known_case() -> None:
    got = stats.proportion(0, 10)
    assert got.low == 0.0
    assert got.high == pytest.approx(0.2775, abs=1e-4)  # z^2 / (n + z^2)
    with pytest.raises(ValueError, match="no proportion"):
        stats.proportion(11, 10)


def _bucket(value: int) -> int:
    """The bucket's smallest value, found the slow way: walk over all buckets."""
    floors = [engine.histogram_floor(index) for index in range(976)]
    return max(floor for floor in floors if floor <= value)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=60),
       st.sampled_from([Fraction(1, 2), Fraction(99, 100), Fraction(1), Fraction(0)]))
def test_a_quantile_is_the_bucket_of_the_sorted_value(values: list[int], part: Fraction) -> None:
    histogram: dict[int, int] = {}
    for value in values:
        histogram[_bucket(value)] = histogram.get(_bucket(value), 0) + 1
    rank = max(1, -(-part.numerator * len(values) // part.denominator))
    assert stats.quantile(histogram, part) == _bucket(sorted(values)[rank - 1])


def test_an_empty_histogram_has_no_quantile() -> None:
    assert stats.quantile({}, 0.5) is None
    assert counters.latency({}) == counters.Latency(n=0, p50=None, p99=None, longest=None)
    assert stats.merge([{1: 2}, {1: 3, 0: 1}]) == {0: 1, 1: 5}


def _result(verdict: str = "ran", **values: int) -> engine.Result:
    zero = dict.fromkeys((c.name for c in engine.COUNTERS), 0)
    return engine.Result(verdict=verdict, verdict_hart=0, verdict_at_cycles=0, verdict_va=0,
                         counters=zero | values, histograms={"map": {}})


def test_the_causes_are_those_c_names() -> None:
    assert "lazy_fault_cycles" in counters.CAUSES
    assert "handoff_wait_cycles" not in counters.CAUSES
    assert not set(counters.BESIDE_CAUSES) & set(counters.CAUSES)
    cycles = {c.name for c in engine.COUNTERS if c.unit == "cycles"}
    known = {*counters.CAUSES, *counters.BESIDE_CAUSES, "wall_cycles", "ipi_delay_cycles"}
    assert cycles == known, "a new counter of cycles is a cause, or is named beside them"


@given(st.lists(st.integers(0, 2**50), min_size=len(counters.CAUSES),
                max_size=len(counters.CAUSES)), st.integers(1, 2**50))
def test_parts_add_up_exactly(cycles: list[int], useful: int) -> None:
    values = dict(zip(counters.CAUSES, cycles, strict=True))
    result = _result(useful_cycles=useful, wall_cycles=useful + sum(cycles) + 5, **values)
    got = counters.overhead(result)
    assert got is not None
    assert sum(got.parts.values(), Fraction(0)) == got.total == Fraction(sum(cycles), useful)
    assert counters.unaccounted_cycles(result) == 5


def test_an_unsafe_run_has_no_overhead() -> None:
    oops = _result("oops", useful_cycles=5, wall_cycles=9)
    assert counters.overhead(oops) is None
    assert counters.slowdown(oops, _result(wall_cycles=5)) is None
    assert counters.slowdown(_result(wall_cycles=9), oops) is None
    assert counters.slowdown(_result(wall_cycles=9), _result(wall_cycles=6)) == Fraction(3, 2)
    assert counters.per(_result(maps=4, marks=6), "marks", "maps") == Fraction(3, 2)
    assert counters.per(_result(), "marks", "maps") is None


def test_a_line_is_found_exactly() -> None:
    fit = stats.line([(2, 10), (4, 14), (8, 22)])
    assert (fit.fixed, fit.slope, fit.r_squared) == (6, 2, 1)
    bent = stats.line([(0, 0), (1, 1), (2, 0)])
    assert (bent.slope, bent.r_squared) == (0, 0)
    with pytest.raises(ValueError, match="two points"):
        stats.line([(1, 2), (1, 3)])
