"""csim/csim.h -> `cc -E -P -DCSIM_CDEF` -> cffi cdef -> pysim/_csim; nothing else.

setuptools runs this file through `cffi_modules` in setup.py. The build id is the hash of everything
that decides what the engine computes: C sources, headers, the cdef and the compiler flags.
"""

import hashlib
import os
import shlex
import subprocess
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent
CSIM = ROOT / "csim"
SOURCES = sorted(CSIM.glob("*.c"))
HEADERS = sorted(CSIM.glob("*.h"))
# -UNDEBUG: asserts stay on, Python's own flags drop them. No -march: one wheel for every machine.
FLAGS = ["-std=c11", "-O2", "-UNDEBUG", "-fvisibility=hidden", "-ffp-contract=off"]
# Python's header and cffi's own C are not held to our warnings; `make warnings` holds csim/.


def cdef() -> str:
    """What is left of csim.h after the preprocessor: declarations only."""
    cc = shlex.split(os.environ.get("CC", "cc"))
    command = [*cc, "-E", "-P", "-DCSIM_CDEF", str(CSIM / "csim.h")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def build_id(declarations: str) -> str:
    """SHA-256 over names and contents of what is compiled, in a fixed order."""
    digest = hashlib.sha256()
    for part in (declarations, " ".join(FLAGS)):
        digest.update(part.encode() + b"\0")
    for path in (*HEADERS, *SOURCES):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


DECLARATIONS = cdef()

ffi = FFI()
ffi.cdef(DECLARATIONS)
ffi.set_source(
    "pysim._csim",
    '#include "csim.h"',
    sources=[str(path.relative_to(ROOT)) for path in SOURCES],
    include_dirs=["csim"],
    depends=[str(path.relative_to(ROOT)) for path in HEADERS],
    define_macros=[("CSIM_BUILD_ID", f'"{build_id(DECLARATIONS)}"')],
    extra_compile_args=FLAGS,
    py_limited_api=True,
)

if __name__ == "__main__":
    ffi.compile(verbose=True)
