"""A footprint curve as a picture, PNG or SVG by the file's name; matplotlib only when asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pysim.errors import InputError
from sweeps import plots

if TYPE_CHECKING:
    from pysim.footprint import Curve

FORMATS: Final = (".png", ".svg")


def check(path: str) -> None:
    """Raise InputError unless a picture can be drawn there: before anything is computed."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise InputError("options", "plot", "a file that ends in .png or .svg is wanted",
                         got=path, nearest=FORMATS)
    if not Path(path).parent.is_dir():
        raise InputError("options", "plot", f"no folder {str(Path(path).parent)!r}")
    plots.pyplot("plot")


def draw(found: Curve, path: str) -> None:
    """Draw cost per read against footprint, and the measured points where a board is known."""
    from pysim.footprint import size_text

    pyplot = plots.pyplot("plot")
    sizes = [point.footprint_bytes for point in found.points]
    figure, axes = pyplot.subplots(figsize=(7.0, 4.2), layout="constrained")
    axes.plot(sizes, [float(point.translation_ns) for point in found.points],
              marker="o", label="predicted")
    measured = [(point.footprint_bytes, float(point.measured_ns)) for point in found.points
                if point.measured_ns is not None]
    if measured:
        axes.plot(*zip(*measured, strict=True), linestyle="none", marker="x", label="measured")
        axes.legend()
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [size_text(size) for size in sizes], rotation=45)
    axes.minorticks_off()
    axes.set_xlabel("footprint of uniform random reads")
    axes.set_ylabel("translation, ns per read")
    axes.set_title(f"{found.machine.name}, {found.machine.mhz} MHz")
    axes.grid(visible=True, alpha=0.3)
    figure.savefig(path)
    pyplot.close(figure)
