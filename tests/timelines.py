"""Counterexamples that are written down: ``make goldens`` writes them, a test compares them.

The whole output of `fencelab check` for one refutation of each kind, as users see it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from click.testing import CliRunner

from sweeps.cli_check import check

FOLDER: Final = Path(__file__).resolve().parent / "golden" / "timelines"
CHECKS: Final = {
    "mark-7.2-map2": ("mark-7.2", "--scenario", "map2"),
    "mark-6.12-svvptc": ("mark-6.12", "--scenario", "map2", "--machine", "svvptc.toml"),
    "mark-barrier-kstack2": ("mark-barrier", "--scenario", "kstack2"),
    "mark-barrier-kret": ("mark-barrier", "--scenario", "kret"),
    "preventive-range-nl": ("preventive-range", "--scenario", "nl"),
    "preventive-range-ipialloc": ("preventive-range", "--scenario", "ipialloc"),
    "vmalloc-fault-nl": ("vmalloc-fault", "--scenario", "nl"),
    "broken-u1-remap": ("broken-u1", "--scenario", "remap"),
    "broken-b2-map1-3-harts": ("broken-b2", "--scenario", "map2", "--harts", "3", "--order", "sc"),
    "mark-barrier-unbounded": ("mark-barrier", "--unbounded"),
}
#: A core that keeps invalid entries for a bounded time.
SVVPTC: Final = 'inherit = "rocket"\nsvvptc = true\n'


def text(name: str, folder: Path) -> str:
    """Return what the command prints; ``folder`` is where it runs."""
    (folder / "svvptc.toml").write_text(SVVPTC)
    arguments = [str(folder / a) if a.endswith(".toml") else a for a in CHECKS[name]]
    result = CliRunner().invoke(check, arguments, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    shown = " ".join(("fencelab check", *CHECKS[name]))
    return f"$ {shown}\n{result.output}exit status {result.return_value}\n"


def main() -> None:
    """Write every golden file, and nothing else into their folder."""
    import tempfile

    FOLDER.mkdir(parents=True, exist_ok=True)
    for stale in FOLDER.glob("*.txt"):
        stale.unlink()
    with tempfile.TemporaryDirectory() as folder:
        for name in CHECKS:
            (FOLDER / f"{name}.txt").write_text(text(name, Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
