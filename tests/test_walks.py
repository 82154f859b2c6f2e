"""Walks judged by Spike: every field of every case, and the strictness of the reader.

All of them are 36,000 and not committed. ``golden/walks-500.jsonl.gz`` is a sample for a checkout
that is alone: :func:`sample` picks it by the rows of the file's histogram (:func:`rows_of`:
outcome, mode with outcome, kind of PTE update, construction class with outcome). Round n gives
each row, in alphabetical order, its next case of lowest id unless it already holds n; 500 cases
end it. So every row has several, rare ones as many as common ones.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pysim import walks
from pysim.errors import InputError

SAMPLE = Path(__file__).parent / "golden" / "walks-500.jsonl.gz"
SIZES = {
    4 << 10: "4K",
    64 << 10: "64K",
    2 << 20: "2M",
    1 << 30: "1G",
    512 << 30: "512G",
    256 << 40: "256T",
}
UPDATES = {0x40: "A", 0x80: "D", 0xC0: "AD"}


def all_golden(shared: Path) -> Path:
    return shared / "data" / "golden" / "walk_golden.jsonl.gz"


def lines_of(path: Path) -> list[str]:
    with gzip.open(path, "rt") as file:
        return file.read().splitlines()


def rows_of(case: dict[str, Any]) -> Iterator[str]:
    """The rows of the histogram that a case counts for."""
    exp = case["exp"]
    if "cause" in exp:
        outcome = f"cause{exp['cause']}"
    else:
        outcome = "ok_bare" if "bare" in exp else f"ok_{SIZES[exp['size']]}"
        access = exp["access"]
        yield "access_ok" if access == "ok" else f"ok_translate_but_access_cause{access}"
    yield outcome
    yield f"{case['mode']}:{outcome}"
    before = {int(pa, 16): int(value, 16) for pa, value in case["mem"]}
    for pa, value in case["after"]:
        yield f"pte_update_{UPDATES[int(value, 16) ^ before[int(pa, 16)]]}"
    aim = "two at once" if "+" in case["cls"] else case["cls"]
    yield f"{aim} -> {'fault' if 'cause' in exp else 'ok'}"


def sample(lines: list[str], cases: int) -> list[str]:
    """Pick as the module's docstring says; in the order of the file."""
    rows: dict[str, list[int]] = {}
    of_line = []
    for i, line in enumerate(lines):
        of_line.append(list(rows_of(json.loads(line))))
        for row in of_line[i]:
            rows.setdefault(row, []).append(i)
    left = {row: iter(members) for row, members in sorted(rows.items())}
    picked: set[int] = set()
    held: Counter[str] = Counter()
    for wanted in range(1, cases + 1):
        for row, members in left.items():
            if held[row] >= wanted or len(picked) == cases:
                continue
            if (new := next((i for i in members if i not in picked), None)) is not None:
                picked.add(new)
                held.update(of_line[new])
    return [lines[i] for i in sorted(picked)]


def counted(lines: list[str]) -> Counter[str]:
    return Counter(row for line in lines for row in rows_of(json.loads(line)))


# ---- agreement ----------------------------------------------------------------------------------


def test_all_golden_walks_agree(shared: Path) -> None:
    report = walks.validate(all_golden(shared))
    assert report.cases == 36_000
    assert report.agreed == report.cases, report.text()


def test_the_committed_golden_walks_agree() -> None:
    report = walks.validate(SAMPLE)
    assert report.cases == 500
    assert report.agreed == report.cases, report.text()


def test_the_sample_is_what_the_rule_picks(shared: Path) -> None:
    lines = lines_of(all_golden(shared))
    histogram = (shared / "data" / "golden" / "histogram.txt").read_text().splitlines()
    rows = dict(line.rsplit("\t", 1) for line in histogram if "\t" in line)
    assert counted(lines) == {row: int(count) for row, count in rows.items()}
    assert lines_of(SAMPLE) == sample(lines, 500)


def test_the_sample_has_every_row_several_times() -> None:
    found = counted(lines_of(SAMPLE))
    assert len(found) == 97
    scarce = {row: count for row, count in found.items() if count < 5}
    assert scarce == {"noncanon -> ok": 2}  # there are only two


# ---- disagreement -------------------------------------------------------------------------------


def written(path: Path, *cases: dict[str, Any] | str) -> Path:
    text = "\n".join(case if isinstance(case, str) else json.dumps(case) for case in cases)
    path.write_text(text + "\n")
    return path


def a_case(wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first committed case with this property, for a test to change."""
    return next(case for case in map(json.loads, lines_of(SAMPLE)) if wanted(case))


def updated(case: dict[str, Any]) -> bool:
    return bool(case["after"])


def flipped(text: str, bit: int) -> str:
    return hex(int(text, 16) ^ 1 << bit)


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "pa": lambda case: case["exp"].update(pa=flipped(case["exp"]["pa"], 12)),
    "pbmt": lambda case: case["exp"].update(pbmt=case["exp"]["pbmt"] ^ 1),
    "g": lambda case: case["exp"].update(g=case["exp"]["g"] ^ 1),
    "access": lambda case: case["exp"].update(access=7),
    "cause": lambda case: case.update(exp={"cause": 15, "access": 15}),
    "a read less": lambda case: case["reads"].pop(),
    "another read": lambda case: case["reads"].__setitem__(0, flipped(case["reads"][0], 3)),
    "after": lambda case: case["after"][0].__setitem__(1, flipped(case["after"][0][1], 8)),
    "no update": lambda case: case.update(after=[]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_wrong_expectation_is_reported(tmp_path: Path, lie: str) -> None:
    case = a_case(updated)
    honest = json.dumps(case)
    LIES[lie](case)
    report = walks.validate(written(tmp_path / "walks.jsonl", honest, case, honest))
    assert (report.cases, report.agreed) == (3, 2)
    (found,) = report.disagreements
    assert (found.line, found.number, found.cls) == (2, case["id"], case["cls"])
    assert found.expected != found.got
    text = report.text()
    assert "2 of 3 walks agree" in text
    assert f"expected {found.expected.text()}" in text
    assert f"got      {found.got.text()}" in text


def test_another_level_and_size_are_reported(tmp_path: Path) -> None:
    case = a_case(lambda case: case["exp"].get("level") == 1)
    case["exp"].update(level=0, size=4096)
    report = walks.validate(written(tmp_path / "walks.jsonl", case))
    assert (report.cases, report.agreed) == (1, 0)


def test_five_disagreements_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    case = a_case(updated)
    LIES["g"](case)
    report = walks.validate(written(tmp_path / "walks.jsonl", *[case] * 7))
    assert [found.line for found in report.disagreements] == [1, 2, 3, 4, 5]
    assert report.text().endswith("and 2 more")


# ---- strictness ---------------------------------------------------------------------------------


def drop(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda case: case.pop(key)


def put(key: str, value: object) -> Callable[[dict[str, Any]], Any]:
    return lambda case: case.update({key: value})


def expect(**exp: object) -> Callable[[dict[str, Any]], Any]:
    return lambda case: case["exp"].update(exp)


MALFORMED: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("a key is missing", drop("satp_ppn"), "satp_ppn: missing"),
    ("a key is unknown", put("privs", "U"), "privs: unknown key; did you mean 'priv'?"),
    ("an unknown mode", put("mode", "sv84"), "mode: 'sv84' is not one of"),
    ("levels of another mode", put("levels", 5), "levels: not an integer in (3,): 5"),
    ("levels as text", put("levels", "3"), "levels: not an integer"),
    ("true is no flag", put("sum", True), "sum: not an integer in (0, 1): True"),
    ("a flag of 2", put("svpbmt", 2), "svpbmt: not an integer in (0, 1): 2"),
    ("an unknown privilege", put("priv", "H"), "priv: 'H' is not one of U, S, M"),
    ("an unknown access", put("acc", "rw"), "acc: 'rw' is not one of r, w, x"),
    ("an unknown A/D scheme", put("ad", "sva"), "ad: 'sva' is not one of svade, svadu"),
    ("a number for an address", put("va", 4096), "va: not a hexadecimal string"),
    ("no 0x", put("va", "1000"), "va: not a hexadecimal string"),
    ("seventeen digits", put("va", "0x1" + 16 * "0"), "va: not a hexadecimal string"),
    ("a wide satp ppn", put("satp_ppn", hex(1 << 44)), "satp_ppn: 0x100000000000 has more than 44"),
    ("mem is no list", put("mem", {}), "mem: not a list"),
    ("mem of triples", put("mem", [["0x0", "0x0", "0x0"]]), "mem[0]: not a pair"),
    ("an odd PTE address", put("mem", [["0x1", "0x0"]]), "mem[0]: 0x1 is not a multiple of 8"),
    ("a word twice", put("mem", [["0x8", "0x0"], ["0x8", "0x1"]]), "mem[1]: 0x8 is listed twice"),
    ("too many reads", put("reads", ["0x8"] * 4), "reads: not a list of at most 3"),
    ("an odd read", put("reads", ["0x4"]), "reads[0]: 0x4 is not a multiple of 8"),
    ("two updates", put("after", [["0x8", "0x0"], ["0x10", "0x0"]]), "after: not a list of at"),
    ("exp is no object", put("exp", 13), "exp: not a JSON object"),
    ("exp has both", expect(cause=13), "exp.pa: unknown key"),
    ("exp lacks access", lambda case: case["exp"].pop("access"), "exp.access: missing"),
    ("an unknown cause", put("exp", {"cause": 3, "access": 5}), "exp.cause: not an integer in (1,"),
    ("a failed walk, another access", put("exp", {"cause": 5, "access": 12}), "exp.access: not an"),
    ("a page fault after a walk", expect(access=13), "exp.access: not an integer in (1, 5, 7): 13"),
    ("an unknown access cause", expect(access="fine"), "exp.access: not an integer in (1,"),
    ("a level too many", expect(level=3), "exp.level: not an integer in 0..2: 3"),
    ("a size of no leaf", expect(level=1, size=65536), "exp.size: not an integer in (2097152,)"),
    ("PBMT 4", expect(pbmt=4), "exp.pbmt: not an integer in 0..3: 4"),
    ("a negative id", put("id", -1), "id: not an integer from 0 up: -1"),
    ("a class that is no text", put("cls", None), "cls: not a string: None"),
]


@pytest.mark.parametrize(("change", "complaint"), [row[1:] for row in MALFORMED],
                         ids=[row[0] for row in MALFORMED])  # fmt: skip
def test_a_malformed_line_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], complaint: str
) -> None:
    case = a_case(lambda case: case["mode"] == "sv39" and "level" in case["exp"])
    honest = json.dumps(case)
    change(case)
    path = written(tmp_path / "walks.jsonl", honest, case)
    with pytest.raises(InputError) as refused:
        walks.read(path)
    assert str(refused.value).startswith(f"{path}: line 2: {complaint}")


def test_a_fetch_address_is_even(tmp_path: Path) -> None:
    case = a_case(lambda case: case["acc"] == "x")
    case["va"] = flipped(case["va"], 0)
    with pytest.raises(InputError, match=r"line 1: va: .* is not a multiple of 2"):
        walks.read(written(tmp_path / "walks.jsonl", case))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [("{", "not JSON"), ("", "not JSON"), ("[]", "not a JSON object"), ("\0", "not JSON")],
)
def test_a_line_that_is_no_object_is_refused(tmp_path: Path, line: str, complaint: str) -> None:
    path = written(tmp_path / "walks.jsonl", lines_of(SAMPLE)[0], line)
    with pytest.raises(InputError, match=f"line 2: {complaint}"):
        walks.read(path)


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    line = lines_of(SAMPLE)[0].replace('"sum":', '"sum":1,"sum":', 1)
    with pytest.raises(InputError, match="line 1: not JSON: a key is given twice"):
        walks.read(written(tmp_path / "walks.jsonl", line))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(SAMPLE.read_bytes()[:-100])
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"")
    wrong = tmp_path / "wrong.jsonl.gz"
    wrong.write_bytes(b"\x1f\x8bnothing that was ever compressed")
    for path in (tmp_path / "absent.jsonl", tmp_path, cut, wrong):
        with pytest.raises(InputError, match="cannot be read"):
            walks.read(path)
    with pytest.raises(InputError, match="no cases"):
        walks.read(empty)


def test_a_plain_file_reads_as_its_gzip(tmp_path: Path) -> None:
    assert walks.read(written(tmp_path / "walks", *lines_of(SAMPLE))) == walks.read(SAMPLE)


def test_a_file_without_memory_is_walked(tmp_path: Path) -> None:
    case = a_case(lambda case: case["mode"] == "bare")
    case["mem"] = []
    report = walks.validate(written(tmp_path / "walks.jsonl", case))
    assert (report.cases, report.agreed) == (1, 1)
