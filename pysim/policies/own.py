"""Policies of one's own: a class or an object of a Python file, named FILE.py or FILE.py:NAME.

Naming such a policy runs the file, with everything it does: it is your code, in this process. What
comes out of it is lowered to the same plain bytes as a shipped policy, so a run's identity follows
the ops and not the file: an edit that moves no op recomputes nothing.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, Final

from pysim import ops, policies
from pysim.errors import EngineError, FencelabError, InputError
from pysim.ops import Policy, Program

STEPS_MAX: Final = 1_000_000
"""So many steps of Python may a file take to make or lower its policy: more is a loop without end.
assumed: a policy has 1024 ops at most, so a thousand steps for each."""

_MODULE: Final = "fencelab_policy_"


def is_file(name: str) -> bool:
    """Whether a policy's name is a file's, with or without a name in it."""
    return name.endswith(".py") or ".py:" in name


def _split(name: str) -> tuple[Path, str]:
    """Return the file of a policy's name, and the name in it."""
    if name.endswith(".py"):
        return Path(name), ""
    file, _, wanted = name.rpartition(".py:")
    return Path(f"{file}.py"), wanted


def load(name: str, *, where: str = "options") -> Policy:
    """Return a policy by its name, or one of a Python file: ``FILE.py`` or ``FILE.py:NAME``.

    NAME is an object as ``pysim.policies`` writes them, or a class that makes one without
    arguments; without it the file holds one. Raises InputError with file, line and reason.
    """
    if not is_file(name):
        return policies.find(name, where=where)
    path, wanted = _split(name)
    if not path.is_file():
        raise InputError(str(path), "", "no such file")
    return _loaded(path, wanted, *stamp(name))


def stamp(name: str) -> tuple[int, int]:
    """Return what changes when a policy's file does; (0, 0) for a shipped one, or no file."""
    if not is_file(name):
        return 0, 0
    try:
        stat = _split(name)[0].stat()
    except OSError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=64)
def _loaded(path: Path, wanted: str, mtime_ns: int, size: int) -> Policy:
    found = _run(path)
    objects = {key: value for key, value in found.items()
               if not isinstance(value, type) and _looks_like_one(value)}
    classes = {key: value for key, value in found.items() if isinstance(value, type)
               and value.__module__ == _module(path) and _looks_like_one(value)}
    offered = {**classes, **objects} if wanted else objects or classes
    if wanted and wanted not in offered:
        raise InputError(str(path), wanted, "no such policy in this file", got=wanted,
                         nearest=offered)
    if not wanted and len(offered) != 1:
        several = f"holds {', '.join(offered)}: say which, as {path}:{next(iter(offered))}" \
            if offered else "holds no policy: a class or an object with a name, marks and handlers"
        raise InputError(str(path), "", several)
    chosen = offered[wanted or next(iter(offered))]
    if not isinstance(chosen, type):
        return _complete(path, chosen)
    try:
        with _ending(path):
            made = chosen()
        return _complete(path, made)
    except EndlessError as error:
        raise InputError(_where(path, error), chosen.__name__, str(error)) from error
    except FencelabError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(_where(path, error), chosen.__name__, "cannot be made without arguments: "
                         f"{type(error).__name__}: {error}") from error


def _looks_like_one(value: object) -> bool:
    return hasattr(value, "name") and hasattr(value, "marks")


def _complete(path: Path, policy: Any) -> Policy:
    """Return a policy that has what lowering asks of one."""
    for key, kind in (("name", str), ("marks", tuple)):
        if not isinstance(getattr(policy, key, None), kind):
            raise InputError(str(path), f"{type(policy).__name__}.{key}",
                             f"a policy has one, and it is a {kind.__name__}")
    made: Policy = policy
    return made


def _module(path: Path) -> str:
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    return f"{_MODULE}{path.stem}_{digest}"


def _run(path: Path) -> dict[str, Any]:
    """Execute a Python file as a module of its own and return its names."""
    import importlib.util

    name = _module(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(str(path), "", "no such file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        with _ending(path):
            spec.loader.exec_module(module)
    except SyntaxError as error:
        raise InputError(f"{path}:{error.lineno}", "", f"is not Python: {error.msg}") from error
    except FencelabError as error:
        raise InputError(_where(path, error), "", str(error)) from error
    except (Exception, SystemExit) as error:
        raise InputError(_where(path, error), "", f"{type(error).__name__}: {error}") from error
    return vars(module)


class EndlessError(FencelabError):
    """A file of one's own took more steps than any policy needs."""


@contextmanager
def _ending(path: Path | None) -> Iterator[None]:
    """Raise EndlessError inside the file when it has taken too many steps; None: no file."""
    left = STEPS_MAX
    files = (str(path), str(path.resolve())) if path else ()

    def count(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise EndlessError(f"does not end: it has taken {STEPS_MAX:,} steps")
        return count

    def enter(frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True        # a loop on one line has no new line
        return count

    before = sys.gettrace()
    if path is None or before is not None:      # a debugger, or a measure of coverage, is there
        yield
        return
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(before)


def _where(path: Path, error: BaseException) -> str:
    """Return file and line of the deepest frame of the file that an error passed through."""
    import traceback

    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
             if Path(frame.filename).resolve() == path.resolve()]
    return f"{path}:{lines[-1]}" if lines else str(path)


def lower(policy: Policy, *, nr_cpus: int = 64) -> Program:
    """Lower a policy; a malformed one is refused with file, line and reason.

    Raises InputError: the line is that of the handler's method, or of the step inside it that
    could not be made.
    """
    try:
        with _ending(_own_file(policy)):
            return ops.lower(policy, nr_cpus=nr_cpus)
    except EngineError as error:
        # the engine names the handler and the op, as early_trap[3]
        handler = str(error).partition("[")[0].partition(":")[0]
        raise InputError(_written(policy, handler), f"policy {policy.name}", str(error)) from error
    except FencelabError as error:
        raise InputError(_deepest(policy, error), f"policy {policy.name}", str(error)) from error
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(_deepest(policy, error), f"policy {policy.name}", reason) from error


def _written(policy: Policy, handler: str) -> str:
    """Return file and line of a handler's method, or of the policy's class."""
    import inspect

    for thing in (getattr(policy, handler, None), type(policy)):
        try:
            if thing is not None:
                _, line = inspect.getsourcelines(thing)
                return f"{inspect.getsourcefile(thing)}:{line}"
        except (OSError, TypeError):
            continue
    return f"policy {policy.name}"


def _own_file(policy: Policy) -> Path | None:
    """Return the file of a policy whose class is one's own; None for a shipped class."""
    return _file(policy) if type(policy).__module__.startswith(_MODULE) else None


def _file(policy: Policy) -> Path | None:
    import inspect

    try:
        file = inspect.getsourcefile(type(policy))
    except (OSError, TypeError):
        file = None
    return Path(file) if file else None


def _deepest(policy: Policy, error: BaseException) -> str:
    file = _file(policy)
    where = _where(file, error) if file else ""
    return where if ":" in where else _written(policy, "")
