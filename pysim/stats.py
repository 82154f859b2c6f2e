"""Statistics over replicates: the first float in the building.

Everything that comes in is an integer or an exact fraction; a mean and its interval leave. What may
be compared is compared in pairs, replicate by replicate, because equal seeds draw equal work.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

Exact: TypeAlias = "int | Fraction"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean of ``n`` replicates and its two-sided interval; no interval from one replicate."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def half_width(self) -> float | None:
        """Half of the interval, in the mean's unit."""
        return None if self.high is None or self.low is None else (self.high - self.low) / 2

    def __str__(self) -> str:
        if self.half_width is None:
            return f"{self.mean:.4g}"
        return f"{self.mean:.4g} ± {self.half_width:.2g}"


def estimate(values: Iterable[Exact | float], *, confidence: float = 0.95) -> Estimate:
    """Return the mean and its Student t interval, n - 1 degrees of freedom.

    The sums are exact, so the order of the values does not matter. Raises ValueError without a
    value or when one is not finite.
    """
    exact = [Fraction(value) for value in values]
    if not exact:
        raise ValueError("an estimate needs a value")
    n = len(exact)
    mean = sum(exact, Fraction(0)) / n
    if n == 1:
        return Estimate(mean=float(mean), low=None, high=None, n=1)
    variance = sum(((value - mean) ** 2 for value in exact), Fraction(0)) / (n - 1)
    half = t_quantile(confidence, n - 1) * math.sqrt(variance / n)
    return Estimate(mean=float(mean), low=float(mean) - half, high=float(mean) + half, n=n)


def t_quantile(confidence: float, degrees: int) -> float:
    """Return the two-sided Student t quantile, e.g. 12.706 for 0.95 and 1 degree of freedom."""
    from scipy.special import stdtrit

    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1, got {confidence}")
    return float(stdtrit(degrees, (1 + confidence) / 2))


def paired(
    ours: Mapping[int, Exact], theirs: Mapping[int, Exact], *, confidence: float = 0.95
) -> Estimate:
    """Return the estimate of ours - theirs over the replicates that both have.

    Raises ValueError when they share none.
    """
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        raise ValueError("no replicate in common: nothing to pair")
    return estimate((ours[key] - theirs[key] for key in common), confidence=confidence)


def paired_ratio(
    ours: Mapping[int, Exact], theirs: Mapping[int, Exact], *, confidence: float = 0.95
) -> Estimate:
    """Return the estimate of ours / theirs over the replicates that both have.

    Raises ValueError when they share none, or when one of theirs is 0.
    """
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        raise ValueError("no replicate in common: nothing to pair")
    if any(theirs[key] == 0 for key in common):
        raise ValueError("a ratio to 0")
    return estimate((Fraction(ours[key]) / theirs[key] for key in common), confidence=confidence)


def proportion(hits: int, n: int, *, confidence: float = 0.95) -> Estimate:
    """Return the share of ``hits`` in ``n`` with its Wilson interval.

    Raises ValueError when ``n`` is 0 or ``hits`` is not in 0..n.
    """
    from scipy.special import ndtri

    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"{hits} of {n} is no proportion")
    z = float(ndtri((1 + confidence) / 2))
    share, spread = hits / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return Estimate(mean=share, low=max(0.0, middle - half), high=min(1.0, middle + half), n=n)


# ---- histograms -------------------------------------------------------------------------------


def merge(histograms: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """Add up histograms, bucket by bucket: smallest value of the bucket -> count."""
    total: dict[int, int] = {}
    for histogram in histograms:
        for floor, count in histogram.items():
            total[floor] = total.get(floor, 0) + count
    return dict(sorted(total.items()))


def count(histogram: Mapping[int, int]) -> int:
    """Return how many values a histogram holds."""
    return sum(histogram.values())


def quantile(histogram: Mapping[int, int], part: Fraction | float) -> int | None:
    """Return the smallest value of the bucket that holds the quantile; None when it is empty.

    The value itself lies in [result, result + max(1, result / 16)): 16 buckets per power of two.
    Rank as in the definition: the first value with at least ``part`` of all at or below it.
    """
    if not 0 <= part <= 1:
        raise ValueError(f"a quantile lies between 0 and 1, got {part}")
    rank = max(1, math.ceil(Fraction(part) * count(histogram)))
    seen = 0
    for floor in sorted(histogram):
        seen += histogram[floor]
        if seen >= rank:
            return floor
    return None


def quantiles(histogram: Mapping[int, int], parts: Sequence[Fraction | float]) -> list[int | None]:
    """Return several quantiles of one histogram, as ``quantile`` does."""
    return [quantile(histogram, part) for part in parts]


# ---- a line through points ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Least squares: ``fixed`` at 0, ``slope`` per step, and the share of variance it explains."""

    fixed: Fraction
    slope: Fraction
    r_squared: Fraction

    def __str__(self) -> str:
        return f"{float(self.fixed):.4g} + {float(self.slope):.4g} n"


def line(points: Sequence[tuple[Exact, Exact]]) -> Line:
    """Return the least-squares line through (x, y). Raises ValueError without two different x."""
    n = len(points)
    xs, ys = [Fraction(x) for x, _ in points], [Fraction(y) for _, y in points]
    if len(set(xs)) < 2:
        raise ValueError("a line needs two points")
    none = Fraction(0)
    mean_x, mean_y = sum(xs, none) / n, sum(ys, none) / n
    xx = sum(((x - mean_x) * (x - mean_x) for x in xs), none)
    xy = sum(((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)), none)
    yy = sum(((y - mean_y) * (y - mean_y) for y in ys), none)
    slope = xy / xx
    return Line(fixed=mean_y - slope * mean_x, slope=slope,
                r_squared=xy * xy / (xx * yy) if yy else Fraction(1))
