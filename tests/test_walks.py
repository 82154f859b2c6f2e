"""Walks judged by Spike: every field of every case, and the strictness of the reader."""

from pathlib import Path

from pysim import walks


def test_all_golden_walks_agree(shared: Path) -> None:
    report = walks.validate(shared / "data" / "golden" / "walk_golden.jsonl.gz")
    assert report.cases == 36_000
    assert report.agreed == report.cases, report.text()
