"""Random reads over a footprint: counted again by a slow model, and beside a measured board."""

from __future__ import annotations

import itertools
import json
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from mmu_steps import ABSENT, array
from mmu_steps import machine as bare

from pysim import engine, footprint, machines
from pysim.errors import EngineError, InputError
from sweeps.cli import main

KIB, MIB = 1024, 1024**2
MASK = 2**64 - 1


# ---- a slow model -------------------------------------------------------------------------------


def mix(z: int) -> int:
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def drawn(seed: int, item: int, bound: int) -> int:
    """``rng_draw(seed, RNG_FOOTPRINT, 0, item)`` below a bound; the purpose is the twelfth."""
    key = mix(seed + 0x9E3779B97F4A7C15 * 12 & MASK)
    key = mix(key + 0xD1B54A32D192ED03 & MASK)
    return (mix(key + 0x9E3779B97F4A7C15 * (item + 1) & MASK) >> 32) * bound >> 32


class Lru:
    """A set-associative cache with least recently used replacement."""

    def __init__(self, sets: int, ways: int) -> None:
        self.sets = [OrderedDict[int, None]() for _ in range(sets)]
        self.ways = ways

    def use(self, line: int) -> bool:
        if self.ways == 0:
            return False
        lines = self.sets[line % len(self.sets)]
        hit = line in lines
        lines[line] = None
        lines.move_to_end(line)
        if len(lines) > self.ways:
            lines.popitem(last=False)
        return hit


def slow(m: dict[str, Any], size: int, reads: int, warm_up: int, seed: int,
         level: int) -> dict[str, Any]:
    """One L1 TLB (LRU, all sizes), no L2 TLB, no page-walk cache, Sv39, contiguous frames."""
    tlb = Lru(1, m["l1d"][0]["ways"])
    caches = [Lru(m[f"cache_{n}_bytes"] // 64 // max(1, m[f"cache_{n}_ways"]) or 1,
                  m[f"cache_{n}_ways"] if m[f"cache_{n}_bytes"] else 0)
              for n in ("l1d", "l2", "llc")]
    cycles = [m[f"read_{n}_cycles"] for n in ("l1d", "l2", "llc", "dram")]
    counts: dict[str, Any] = {"cycles": 0, "l1_misses": 0, "pte_reads": [0] * 4,
                              "data_reads": [0] * 4}

    def read(kind: str, pa: int, first: int = 0) -> int:
        place = next((i for i in range(first, 3) if caches[i].use(pa // 64)), 3)
        counts[kind][place] += 1
        return int(cycles[place])

    def reference(line: int) -> None:
        page = line * 64 >> 12 + 9 * level
        counts["cycles"] += m["l1_hit_cycles"]
        if not tlb.use(page):
            counts["l1_misses"] += 1
            for depth in range(3 - level):       # tables: root, level 1, then one per 2 MiB
                table = (0, 1, 2 + (line * 64 >> 21))[depth]
                entry = (ROOT_ENTRY, line * 64 >> 21, (line * 64 >> 12) % 512)[depth]
                counts["cycles"] += m["walk_overhead_per_level_cycles"]
                counts["cycles"] += read("pte_reads", TABLES + table * 4096 + entry * 8, via)
        counts["cycles"] += read("data_reads", (1 << 36) + line * 64)

    via = m["pte_via"]
    for line in range(size // 64):
        reference(line)
    for item in range(warm_up + reads):
        if item == warm_up:
            counts |= {"cycles": 0, "l1_misses": 0, "pte_reads": [0] * 4, "data_reads": [0] * 4}
        reference(drawn(seed, item, size // 64))
    return counts


TABLES = 0x80000 << 12   # where pagetable.c puts its frames
ROOT_ENTRY = 0xFFFFFFD600000000 >> 30 & 511


def small(**changes: int) -> dict[str, Any]:
    """A machine whose caches a short run outgrows."""
    return bare(
        l1d=[array(8, sizes=(0, 1, 2)), ABSENT], l1_hit_cycles=1, walk_overhead_per_level_cycles=5,
        read_l1d_cycles=3, read_l2_cycles=13, read_llc_cycles=41, read_dram_cycles=261,
        cache_l1d_bytes=2 * KIB, cache_l1d_ways=2, cache_l2_bytes=16 * KIB, cache_l2_ways=4,
        cache_llc_bytes=64 * KIB, cache_llc_ways=16) | changes


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("changes", [{}, {"pte_via": 1}, {"cache_llc_bytes": 0},
                                     {"cache_l2_bytes": 0}])
def test_counts_are_those_of_a_slow_model(level: int, changes: dict[str, int]) -> None:
    machine = small(**changes)
    packed = engine.pack("csim_machine", machine)
    for size, seed in ((32 * KIB, 1), (256 * KIB, 2), (4 * MIB, 3)):
        question = {"bytes": size, "reads": 3000, "warm_up": 500, "seed": seed, "level": level,
                    "scattered": 0}
        got = engine.footprint(packed, question)
        wanted = slow(machine, size, 3000, 500, seed, level)
        assert {"cycles": got.cycles, "l1_misses": got.l1_misses,
                "pte_reads": list(got.pte_reads), "data_reads": list(got.data_reads)} == wanted


def test_pte_lines_and_data_share_the_caches() -> None:
    """64 lines of PTEs fit a cache of 128 alone; the data of 2 MiB drives some of them out."""
    question = {"bytes": 2 * MIB, "reads": 5000, "warm_up": 5000, "seed": 1, "level": 0,
                "scattered": 0}
    for lines, fit in ((128, False), (4096, True)):
        machine = small(cache_l1d_bytes=64 * lines, cache_l1d_ways=16)
        got = engine.footprint(engine.pack("csim_machine", machine), question)
        assert (got.pte_reads[0] == sum(got.pte_reads)) == fit
        assert got.data_reads[0] < 5000


def test_scattered_frames_collide_where_the_index_is_physical_and_nowhere_else() -> None:
    p550 = machines.load("p550")
    plain, scattered = (footprint.curve(p550, footprints=(64 * KIB, 256 * KIB), reads=100_000,
                                        scattered=yes).points for yes in (False, True))
    assert [a.huge_ns for a in plain] == [b.huge_ns for b in scattered]
    assert scattered[1].translation_ns > plain[1].translation_ns + 1   # L2 holds 256 KiB exactly
    assert abs(scattered[0].translation_ns - plain[0].translation_ns) < 0.3
    assert [p.walks for p in plain] == [p.walks for p in scattered]


# ---- the measured board -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def p550() -> footprint.Curve:
    return footprint.curve(machines.load("p550"))


@pytest.mark.slow
def test_p550_has_its_first_knee_where_its_first_level_ends(p550: footprint.Curve) -> None:
    assert p550.reach("l1_misses") == 128 * KIB
    steps = {b.footprint_bytes: b.translation_ns - a.translation_ns
             for a, b in itertools.pairwise(p550.points)}
    assert next(size for size, step in steps.items() if step > 1) == 256 * KIB
    assert p550.reach("walks") == 2 * MIB


@pytest.mark.slow
def test_p550_is_within_tolerance_of_every_measured_point(p550: footprint.Curve) -> None:
    assert len(p550.points) == p550.agreed == 11
    for point in p550.points:
        assert point.measured_ns is not None
        allowed = max(point.measured_ns * 2 / 5, 0.5)
        assert abs(point.translation_ns - point.measured_ns) <= allowed, point.footprint_bytes


def test_the_measured_column_is_that_of_the_fact_sheet(shared: Path) -> None:
    rows = {}
    for line in (shared / "facts" / "hardware.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[2].startswith("+"):
            unit = {"K": KIB, "M": MIB}[cells[0][-1]]
            rows[int(cells[0][:-1]) * unit] = float(cells[2])
    assert rows == {size: float(ns) for size, ns in footprint.MEASURED["p550"].items()}


@pytest.mark.slow
def test_what_was_fitted_to_the_curve_is_named_beside_it(p550: footprint.Curve) -> None:
    assert set(p550.machine.fitted) == {"l2.base.sets", "l2.base.ways", "l2_hit_cycles"}
    said = "\n".join(footprint.notes(p550))
    assert all(f"fitted: {path}" in said for path in p550.machine.fitted)
    assert "128 KiB -> 256 KiB" in said
    assert "11 of 11" in said


def test_what_a_board_chose_is_named_where_that_board_is_predicted() -> None:
    for name in ("c910", "sg2042"):
        assert set(machines.load(name).fitted) == {"walk_overhead_per_level_cycles"}
    assert not machines.load("u74").fitted


def test_a_machine_of_ones_own_is_not_held_against_the_board() -> None:
    mine = machines.loads('name = "p550"\ninherit = "p550"\nl2_hit_cycles = 40', "mine.toml")
    found = footprint.curve(mine, footprints=(256 * KIB,), reads=2000)
    assert found.points[0].measured_ns is None


@pytest.mark.parametrize("name", machines.PRESETS)
def test_more_footprint_never_misses_less(name: str) -> None:
    found = footprint.curve(machines.load(name), footprints=footprint.FOOTPRINTS[::3], reads=20_000)
    for share in ("l1_misses", "walks"):
        values = [getattr(point, share) for point in found.points]
        assert all(b >= a - 0.02 for a, b in itertools.pairwise(values)), share
    assert found.points[-1].translation_ns > 0


# ---- the door and the command -------------------------------------------------------------------


@pytest.mark.parametrize(("bad", "field"), [
    ({"bytes": 0}, "bytes"), ({"bytes": 4097}, "bytes"), ({"bytes": 2**33}, "bytes"),
    ({"level": 2}, "level"), ({"reads": 0}, "reads"), ({"scattered": 2}, "scattered"),
])
def test_an_impossible_question_is_refused_by_name(bad: dict[str, int], field: str) -> None:
    packed = engine.pack("csim_machine", small())
    with pytest.raises(EngineError, match=rf"^footprint\.{field}: "):
        engine.footprint(packed, {"bytes": 4096, "reads": 1, "warm_up": 0, "seed": 0,
                                   "level": 0, "scattered": 0} | bad)


@pytest.mark.parametrize("change", [{"cache_l1d_bytes": 3000}, {"cache_l2_ways": 0},
                                    {"cache_llc_ways": 3}, {"cache_llc_ways": 65}])
def test_an_impossible_cache_is_refused(change: dict[str, int]) -> None:
    (key, value), = change.items()
    with pytest.raises(EngineError, match=f"^machine.{key.rpartition('_')[0]}_bytes: "):
        engine.check_machine(engine.pack("csim_machine", small(**change)))
    if key != "cache_llc_ways" or value == 65:
        with pytest.raises(InputError, match=f"{key.rpartition('_')[0]}_bytes"):
            machines.load("p550").override(change)


def test_the_command_prints_a_row_per_footprint_for_programs(
    capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["footprint", "p550", "--reads", "2000", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["tables"][0]["rows"]
    assert [row["footprint_bytes"] for row in rows] == list(footprint.FOOTPRINTS)
    assert rows[0]["translation_ns"] == 0
    assert rows[-1]["translation_ns"] > rows[3]["translation_ns"] > 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["curve.png", "curve.svg"])
def test_the_command_draws(name: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / name
    assert main(["footprint", "p550", "--reads", "1000", "--plot", str(path)]) == 0
    assert path.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def test_a_picture_nobody_can_draw_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeps import footprint_plot

    with pytest.raises(InputError, match=r"\.png or \.svg"):
        footprint_plot.check("curve.jpg")
    with pytest.raises(InputError, match="no folder"):
        footprint_plot.check(str(tmp_path / "nowhere" / "curve.png"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"fencelab\[plot\]"):
        footprint_plot.check(str(tmp_path / "curve.png"))


def test_a_knee_before_the_first_footprint_is_told_as_below_it() -> None:
    found = footprint.curve(machines.load("c906"), footprints=(64 * KIB, 128 * KIB), reads=2000)
    assert found.reach("l1_misses") == 0
    assert "first-level misses begin: below 64 KiB" in footprint.notes(found)
