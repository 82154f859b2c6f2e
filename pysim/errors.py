"""FencelabError and its children: everything a user can do wrong ends in one of these."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FencelabError(Exception):
    """A complaint a user can act on: one line, where, what and the nearest valid name."""


class InputError(FencelabError):
    """Bad input: the command line ends with status 2.

    ``where`` is a file (with line where known) or an option, ``key`` the dotted key in it,
    ``reason`` a short sentence; ``nearest`` are the valid names to choose a suggestion from, and
    ``got`` the name that was not one of them.
    """

    def __init__(
        self,
        where: str,
        key: str,
        reason: str,
        *,
        got: str | None = None,
        nearest: Iterable[str] = (),
    ) -> None:
        self.where, self.key, self.reason = where, key, reason
        suggestion = nearest_name(got, nearest) if got is not None else None
        self.hint = f"; did you mean {suggestion!r}?" if suggestion else ""
        place = f"{where}: {key}" if key else where
        super().__init__(f"{place}: {reason}{self.hint}")

    def inside(self, where: str, key: str) -> InputError:
        """Return the same complaint about a value that stands under ``key`` in ``where``."""
        inner = f"{key}.{self.key}" if self.key else key
        return InputError(where, inner, f"{self.reason}{self.hint}")


class EngineError(FencelabError):
    """The engine refused its parameters: a field of csim_params and why."""


class StoppedError(FencelabError):
    """Somebody raised the stop flag: the run has no result."""


def nearest_name(got: str, valid: Iterable[str]) -> str | None:
    """Return the valid name closest to ``got``, or None when nothing is close."""
    matches = difflib.get_close_matches(got, list(valid), n=1, cutoff=0.5)
    return matches[0] if matches else None
