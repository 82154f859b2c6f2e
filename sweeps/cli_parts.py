"""What the files of commands share: groups that know near misses, the option --format."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

FORMATS: Final = ("plain", "github", "csv", "json")

F = TypeVar("F", bound=Callable[..., Any])


class Nearest(click.Group):
    """A group that answers an unknown command with the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of the first argument, or say which one was probably meant."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"no command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


class Real(click.FloatRange):
    """A number within limits; `nan`, which no limit holds back, is none."""

    def convert(self, value: Any, param: click.Parameter | None,
                ctx: click.Context | None) -> float:
        """Return the number of a word, or refuse it."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


def formatted(command: F) -> F:
    """Give a command the option --format."""
    return click.option("--format", "form", type=click.Choice(FORMATS), default="plain",
                        show_default=True, help="How tables are printed.")(command)
