"""The only importer of ``pysim._csim``: handles, bytes in, counters out. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pysim._csim import ffi, lib
from pysim.errors import EngineError


def text(value: Any) -> str:
    """Decode a C string of the engine."""
    return bytes(ffi.string(value)).decode()


def _names(name: Callable[[int], Any]) -> dict[str, int]:
    """Ask the engine for a list of names until it answers NULL; name -> number."""
    found: dict[str, int] = {}
    while (value := name(len(found))) != ffi.NULL:
        found[text(value)] = len(found)
    return found


BUILD_ID: Final = text(lib.csim_build_id())
OPS: Final = _names(lib.csim_op_name)
ATOMS: Final = _names(lib.csim_atom_name)
HANDLERS: Final = _names(lib.csim_handler_name)
MARKS_MAX: Final = int(lib.CSIM_MARKS_MAX)


def check_program(header: bytes, ops: bytes) -> None:
    """Raise EngineError unless clock and explorer would accept these ops."""
    error = ffi.new("struct csim_error *")
    program = ffi.new("struct csim_program *")
    ffi.memmove(program, header, len(header))
    rows = ffi.from_buffer("struct csim_op[]", ops)
    if lib.csim_check_program(program, rows, error) != lib.CSIM_OK:
        raise EngineError(f"{text(error.field)}: {text(error.reason)}")
