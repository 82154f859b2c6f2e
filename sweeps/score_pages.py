"""The scoreboard as a page: a summary by group, then every row with its source and reason."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sweeps.tables import Column, Table, render

if TYPE_CHECKING:
    from pysim.scores import Score, Scoreboard

NOTE = ("Written by `make tables` from `pysim/validate.py` and the shared folder of counts; edit "
        "those, not this page.")


def summary(board: Scoreboard) -> Table:
    """Return one line a group: how many rows passed, and why those that fail do."""
    groups: dict[str, list[Score]] = {}
    for row in board.rows:
        groups.setdefault(row.group, []).append(row)
    lines = []
    for group, rows in groups.items():
        outcomes = Counter(row.outcome for row in rows)
        reasons = Counter(row.reason.partition(";")[0] for row in rows if row.outcome == "fail")
        scored = outcomes["pass"] + outcomes["fail"]
        lines.append((group, f"{outcomes['pass']} of {scored}" if scored else "-",
                      "; ".join(f"{reason} ({times})" if times > 1 else reason
                                for reason, times in reasons.items())))
    columns = (Column(name="predicted", style="text"), Column(name="rows that pass", style="text"),
               Column(name="why the others fail", style="text"))
    return Table(title="", columns=columns, rows=tuple(lines))


def page(board: Scoreboard) -> str:
    """Return the page `docs/tables/validate.md`."""
    from sweeps import listings

    return "\n".join([
        "# Predicted beside measured\n", NOTE + "\n",
        "`fencelab validate` prints this table; `--explain` adds every parameter of every row.\n",
        render([summary(board)], "github").strip() + "\n",
        "## Every row\n",
        listings.scoreboard(board, "github", explain=False).strip() + "\n",
    ])
