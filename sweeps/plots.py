"""Records -> pictures: one metric along one axis, a line for every value of another.

Intervals are drawn as bars; a point whose policy is unsafe has no number and is left out of its
line. Pictures are SVG, and equal rows make equal bytes. matplotlib is imported only when asked for.

Left out: arithmetic. Values come from `sweeps.metrics`, and are drawn.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from pysim.errors import InputError
from pysim.stats import Estimate
from sweeps.metrics import METRICS

if TYPE_CHECKING:
    from sweeps.metrics import Coordinate, Row

WIDTH_INCHES: Final = 7.5
HEIGHT_INCHES: Final = 4.0
WIDE: Final = 16
"""An axis of positive numbers whose ends are so many times apart is drawn logarithmic."""
NAMES_WIDTH: Final = 60
"""Names along an axis are turned when they take more characters than this together."""
MARKERS: Final = "os^Dv<>PX*"
_PERCENT: Final = 100


def pyplot(option: str) -> Any:
    """Return matplotlib's pyplot. Raises InputError where it is not installed."""
    try:
        import matplotlib
    except ImportError as error:
        raise InputError("options", option, "matplotlib is not installed; "
                         "pip install 'fencelab[plot]' brings it") from error
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "fencelab"
    matplotlib.rcParams["svg.fonttype"] = "none"   # text stays text
    from matplotlib import pyplot as found

    return found


def lines(title: str, rows: Sequence[Row], down: str, across: str, metric: str) -> str:
    """Draw a metric along ``across``, a line for every value of ``down``; return the SVG."""
    figures = pyplot("report")
    figure, axes = figures.subplots(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
    places = list(dict.fromkeys(row.coordinates[across] for row in rows))
    numbers = all(isinstance(place, int | float) for place in places)
    where: dict[Coordinate, float] = {place: float(place) if numbers else float(at)
                                      for at, place in enumerate(places)}
    for at, name in enumerate(dict.fromkeys(row.coordinates[down] for row in rows)):
        _line(axes, [row for row in rows if row.coordinates[down] == name], where, across, metric,
              label=_literal(str(name)), marker=MARKERS[at % len(MARKERS)], color=f"C{at % 10}",
              linestyle="-" if numbers else "none")
    _scale(axes, places, where, numbers=numbers)
    axes.set_xlabel(_literal(across))
    axes.set_ylabel(_literal(METRICS[metric].heading.replace("\n", ", ")))
    axes.set_title(_literal(title), fontsize="medium")
    axes.grid(visible=True, alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small", title=_literal(down))
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    figures.close(figure)
    return text.getvalue()


def _line(axes: Any, rows: Sequence[Row], where: dict[Coordinate, float], across: str,
          metric: str, **look: Any) -> None:
    """Draw one line, and each interval where there is one."""
    factor = _PERCENT if METRICS[metric].style in ("share", "points") else 1
    found = [(where[row.coordinates[across]], value) for row in rows
             if (value := row.values.get(metric)) is not None]
    if not found:
        look["label"] += " (no number)"
    means = [factor * float(one.mean if isinstance(one, Estimate) else one) for _, one in found]
    halves = [factor * (one.half_width or 0.0) if isinstance(one, Estimate) else 0.0
              for _, one in found]
    axes.errorbar([at for at, _ in found], means, yerr=halves, capsize=2, linewidth=1.2,
                  markersize=4, **look)


def _scale(axes: Any, places: Sequence[Coordinate], where: dict[Coordinate, float], *,
           numbers: bool) -> None:
    """Mark every value of the axis by its name; wide ranges of numbers are logarithmic."""
    ends = sorted(where.values())
    if numbers and ends[0] > 0 and ends[-1] >= WIDE * ends[0]:
        axes.set_xscale("log", base=2)
        axes.minorticks_off()
    names = [f"{place:,}" if numbers else _literal(str(place)) for place in places]
    turned = sum(map(len, names)) > NAMES_WIDTH
    axes.set_xticks([where[place] for place in places], names, rotation=30 if turned else 0,
                    ha="right" if turned else "center")


def _literal(text: str) -> str:
    """Return a text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")
