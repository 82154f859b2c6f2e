"""The only importer of ``pysim._csim``: handles, bytes in, counters out. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from pysim._csim import ffi, lib
from pysim.errors import EngineError

if TYPE_CHECKING:
    import numpy as np


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
WALK_FAILS: Final = _names(lib.csim_walk_fail_name)
MARKS_MAX: Final = int(lib.CSIM_MARKS_MAX)


def check_program(header: bytes, ops: bytes) -> None:
    """Raise EngineError unless clock and explorer would accept these ops."""
    error = ffi.new("struct csim_error *")
    program = ffi.new("struct csim_program *")
    ffi.memmove(program, header, len(header))
    rows = ffi.from_buffer("struct csim_op[]", ops)
    if lib.csim_check_program(program, rows, error) != lib.CSIM_OK:
        raise EngineError(f"{text(error.field)}: {text(error.reason)}")


def layout(struct: str) -> np.dtype[Any]:
    """Return the NumPy dtype of a struct of the door, e.g. ``"struct csim_walk_case"``.

    Names, offsets and sizes come from the declaration itself, so nothing is written twice.
    """
    import numpy as np

    ctype = ffi.typeof(struct)
    formats: list[Any] = []
    for _, field in ctype.fields:
        item, lengths = field.type, []
        if item.kind == "array":
            item, lengths = item.item, [item.length]
        kind = "i" if item.cname.startswith("int") else "u"
        formats.append((f"{kind}{ffi.sizeof(item)}", tuple(lengths)))
    return np.dtype(
        {
            "names": [name for name, _ in ctype.fields],
            "formats": formats,
            "offsets": [field.offset for _, field in ctype.fields],
            "itemsize": ffi.sizeof(ctype),
        }
    )


def walk_batch(cases: bytes, words: bytes) -> bytes:
    """Walk every ``struct csim_walk_case`` over its ``struct csim_word``s, in one call.

    Returns as many ``struct csim_walk_result``, in the order of the cases. Enums and the parts of
    ``words`` that cases name must be in range (:mod:`pysim.walks` checks them).
    """
    given = ffi.from_buffer("struct csim_walk_case[]", cases)
    results = ffi.new("struct csim_walk_result[]", len(given))
    lib.csim_walk_batch(given, len(given), ffi.from_buffer("struct csim_word[]", words), results)
    return bytes(ffi.buffer(results))
