"""Policies of one's own: a class or an object of a Python file, named FILE.py or FILE.py:NAME.

Naming such a policy runs the file, with everything it does: it is your code, in this process. What
comes out of it is lowered to the same plain bytes as a shipped policy, so a run's identity follows
the ops and not the file: an edit that moves no op recomputes nothing.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from pysim import ops, policies
from pysim.errors import EngineError, FencelabError, InputError
from pysim.ops import Policy, Program


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
        return _complete(path, chosen())
    except FencelabError:
        raise
    except Exception as error:
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
    return f"fencelab_policy_{path.stem}_{digest}"


def _run(path: Path) -> dict[str, Any]:
    """Execute a Python file as a module of its own and return its names."""
    import importlib.util
    import sys

    name = _module(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(str(path), "", "no such file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise InputError(f"{path}:{error.lineno}", "", f"is not Python: {error.msg}") from error
    except FencelabError as error:
        raise InputError(_where(path, error), "", str(error)) from error
    except Exception as error:
        raise InputError(_where(path, error), "", f"{type(error).__name__}: {error}") from error
    return vars(module)


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
        return ops.lower(policy, nr_cpus=nr_cpus)
    except EngineError as error:
        # the engine names the handler and the op, as early_trap[3]
        handler = str(error).partition("[")[0].partition(":")[0]
        raise InputError(_written(policy, handler), f"policy {policy.name}", str(error)) from error
    except FencelabError as error:
        raise InputError(_deepest(policy, error), f"policy {policy.name}", str(error)) from error
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
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


def _deepest(policy: Policy, error: BaseException) -> str:
    import inspect

    try:
        file = inspect.getsourcefile(type(policy))
    except (OSError, TypeError):
        file = None
    where = _where(Path(file), error) if file else ""
    return where if ":" in where else _written(policy, "")
