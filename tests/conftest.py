"""What every test may ask for, and which fencelab is under test.

``python -m pytest`` puts the checkout first on ``sys.path``. A checkout that was built in place
(``make build``) tests itself. One that was not has no engine: there the installed wheel is meant,
so the checkout leaves the path, here and in every Python that a test starts.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent

if not any((ROOT / "pysim").glob("_csim*.so")):
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    os.environ["PYTHONSAFEPATH"] = "1"

import pysim  # noqa: E402  (pinned before a test module can put the checkout back)
import sweeps  # noqa: E402

# The same examples everywhere, and no deadline: how busy a machine is says nothing about the code.
# Look for new examples with `python -m pytest --hypothesis-profile=search`.
hypothesis.settings.register_profile("house", derandomize=True, deadline=None)
hypothesis.settings.register_profile("search", deadline=None, max_examples=2000)
hypothesis.settings.load_profile("house")


def pytest_report_header() -> list[str]:
    """Say what is tested: a wrong path would make every other line meaningless."""
    shared = shared_folder()
    return [
        f"fencelab: {Path(pysim.__file__).parent}, {Path(sweeps.__file__).parent}",
        f"shared data: {shared if shared else 'none, tests that need it are skipped'}",
    ]


def shared_folder() -> Path | None:
    """Return the folder of recorded data: FENCELAB_SHARED, else ``../shared``, else None."""
    named = os.environ.get("FENCELAB_SHARED")
    folder = Path(named) if named else ROOT.parent / "shared"
    return folder if (folder / "data").is_dir() else None


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the checkout: its sources, not the installed package."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of recorded data, or skip the test and say what is missing."""
    folder = shared_folder()
    if folder is None:
        pytest.skip("no recorded data: set FENCELAB_SHARED or put `shared` beside the checkout")
    return folder
