"""The page on counted kernels names every column that a comparison reads, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from pysim import kernel_counts

PAGE = Path(__file__).resolve().parents[2] / "docs" / "counted-kernels.md"


def test_every_column_of_the_page_is_known_and_every_one_that_is_read_is_there() -> None:
    text = PAGE.read_text()
    named = set(re.findall(r"`(\w+)`", text[text.index("## Columns"):text.index("## The answer")]))
    known = {*kernel_counts.COUNTS, "policy", "workload", "smp", "boot_id", "rep", "ipi",
             "negative_mode"}
    read = {column for path in (Path(kernel_counts.__file__).parent).glob("validate_*.py")
            for column in re.findall(r'row(?:\.counts\.get\(|\[)"(\w+)"', path.read_text())}
    assert named & known >= read & known
    assert named - known <= {"sbi", "imsic", "ftkr", "flush_tlb_kernel_range"}
    for name in ("events-6.12-mark-imsic-smp4.evt.gz",
                 "riscv-6.12-mark+svvptc-smp8-neg2-fork.ftrace.txt.gz"):
        assert kernel_counts.named(name)
