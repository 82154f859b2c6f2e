"""``fencelab store``: what a store holds, out of it, and keeping house."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import click

from pysim.errors import InputError
from sweeps.cli_parts import F, Nearest, formatted
from sweeps.cli_sweep import STORE

_FORMATS: Final = ("parquet", "csv", "json")


def _at(command: F) -> F:
    """Give a command the option --store."""
    return click.option("--store", "path", default=STORE, show_default=True,
                        type=click.Path(dir_okay=False, path_type=Path),
                        help="The store.")(command)


@click.group(cls=Nearest)
def store() -> None:
    """What a store holds: list, show, export, pivot, verify, prune, run one again."""


@store.command("ls")
@_at
@click.option("--failures", is_flag=True, help="List what failed, and how to meet it again.")
@formatted
def ls(form: str, path: Path, *, failures: bool) -> int:
    """What there is, by policy and engine."""
    from sweeps import archive, tables
    from sweeps.store import Store

    with Store(path, write=False) as opened:
        table = archive.failures(opened) if failures else archive.listing(opened)
    click.echo(tables.render([table], form))
    return 0


@store.command()
@click.argument("key")
@_at
def show(key: str, path: Path) -> int:
    """All that is known of one run, as JSON; the start of its key is enough."""
    from sweeps import archive
    from sweeps.store import Store

    with Store(path, write=False) as opened:
        click.echo(json.dumps(archive.show(opened, archive.find(opened, key)), indent=1))
    return 0


@store.command()
@click.argument("form", type=click.Choice(_FORMATS))
@_at
@click.option("--to", "out", type=click.Path(dir_okay=False, path_type=Path),
              help="The file; default: standard output (not for parquet).")
def export(form: str, path: Path, out: Path | None) -> int:
    """Every record as a row (json: a line), with scenario and provenance."""
    from sweeps import export as files
    from sweeps.store import Store

    if out is None and form == "parquet":
        raise click.UsageError("parquet is no text: give --to FILE")
    with Store(path, write=False) as opened:
        if out is None:
            rows = files.export(opened, form, sys.stdout.buffer)
        else:
            part = out.with_name(out.name + ".part")
            try:
                with part.open("wb") as file:
                    rows = files.export(opened, form, file)
                part.replace(out)
            except OSError as error:
                raise InputError(str(out), "", f"cannot be written: {error.strerror}") from error
            finally:
                part.unlink(missing_ok=True)
    print(f"{rows} rows", file=sys.stderr)
    return 0


@store.command()
@click.option("--rows", "down", default="policy", show_default=True, help="A label.")
@click.option("--columns", "across", default="harts", show_default=True, help="A label.")
@click.option("--value", default="overhead", show_default=True, help="overhead or a counter.")
@_at
@formatted
def pivot(form: str, path: Path, down: str, across: str, value: str) -> int:
    """The mean of a counter over all runs, by two labels."""
    from sweeps import archive, tables
    from sweeps.store import Store

    with Store(path, write=False) as opened:
        click.echo(tables.render([archive.pivot(opened, down, across, value)], form))
    return 0


@store.command()
@_at
@click.option("--again", type=click.IntRange(0), default=0, show_default=True,
              help="Ask so many of its runs again and compare the bytes.")
def verify(path: Path, again: int) -> int:
    """Look at every byte; status 1 when something is not as it was written."""
    from sweeps import archive
    from sweeps.store import Store

    with Store(path, write=False) as opened:
        found = archive.verify(opened, again)
    for said in found.complaints:
        print(f"{path}: {said}", file=sys.stderr)
    click.echo(f"{found.records} records, {found.again} asked again, "
               f"{len(found.complaints)} complaints")
    return 1 if found.complaints else 0


@store.command()
@_at
@click.option("--old", is_flag=True, help="Records of other builds of the engine.")
@click.option("--failures", is_flag=True, help="Failures.")
@click.option("--before", default="", metavar="YYYY-MM-DD", help="Records older than this day.")
def prune(path: Path, before: str, *, old: bool, failures: bool) -> int:
    """Remove what is not wanted any more and give the room back."""
    from sweeps import archive
    from sweeps.store import Store

    if not (old or failures or before):
        raise click.UsageError("say what: --old, --failures or --before")
    if not path.exists():
        raise InputError(str(path), "", "no such store")
    with Store(path, write=True) as opened:
        went = archive.prune(opened, old=old, failed=failures, before=before)
    click.echo(f"{went['records']} records and {went['failures']} failures removed")
    return 0


@store.command()
@click.argument("key")
@_at
@formatted
def rerun(form: str, key: str, path: Path) -> int:
    """Ask one stored or failed run again, here and alone; nothing is stored."""
    from pysim import engine
    from pysim.scenario import lower
    from sweeps import archive, tables
    from sweeps.store import Store

    with Store(path, write=False) as opened:
        said = archive.show(opened, archive.find(opened, key))
    scenario = archive.scenario(said["scenarios"][0])
    result = engine.simulate(lower(scenario))
    click.echo(tables.render(tables.of_run(scenario, result, form), form, {"key": said["key"]}))
    return 0
