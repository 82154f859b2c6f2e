"""Machines: every preset loads, every field is C's and is sourced, bad ones are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysim import engine, machines
from pysim.errors import InputError
from pysim.machines import model
from sweeps.cli import main


def test_every_field_of_the_model_is_a_field_of_the_c_struct() -> None:
    assert tuple(engine.struct_fields("csim_machine")) == model.C_FIELDS
    assert tuple(engine.struct_fields("csim_array")) == tuple(machines.Array.model_fields)
    for name, c_type in engine.struct_fields("csim_machine").items():
        if "csim_array" in c_type:
            wanted = int(c_type.partition("[")[2].rstrip("]"))
            assert len(list(getattr(machines.load("rocket"), name))) == wanted


@pytest.mark.parametrize("name", machines.PRESETS)
def test_every_field_of_a_preset_has_a_unit_a_meaning_and_a_source(name: str) -> None:
    machine = machines.load(name)
    for path in machine.flat():
        said = machine.provenance(path).removeprefix("assumed: ").removeprefix("fitted: ")
        assert said.strip()
        assert not machine.provenance(path).startswith(("given", "file ", "override")), path
        assert machines.unit(path), path
        assert machines.description(path), path


def test_presets_are_all_the_files_there_are() -> None:
    folder = Path(machines.__file__).parent
    assert {path.stem for path in folder.glob("*.toml")} == {*machines.PRESETS, "common"}


def _facts(shared: Path) -> dict[str, Any]:
    raw = json.loads((shared / "facts" / "machines.json").read_text())
    for entry in raw.values():
        parent = raw.get(entry.get("inherit"), {})
        entry.update({key: value for key, value in parent.items() if key not in entry})
    return dict(raw)


def _shape(tlb: dict[str, Any]) -> tuple[int, int, int]:
    return tlb.get("sets", 1), tlb.get("base_tags", tlb.get("ways", 0)), tlb.get("sectors", 1)


@pytest.mark.parametrize("name", machines.PRESETS)
def test_a_preset_says_what_the_facts_say(name: str, shared: Path) -> None:
    facts, machine = _facts(shared)[name], machines.load(name)
    assert (machine.mhz, machine.mode.lower(), machine.harts, machine.walkers) == (
        facts["mhz"], facts["mode"], facts["harts"], facts["walkers"])
    assert machine.asid_bits == facts["asid_bits"]
    for side, tlb in (("l1i", machine.l1i), ("l1d", machine.l1d)):
        base = tlb.base
        assert (base.sets, base.ways, base.sectors) == _shape(facts[side]), side
        assert base.policy == facts[side]["repl"]
        extra = facts[side]["super"]
        if extra == "shared":
            assert tlb.superpages.ways == 0
            assert base.levels == tuple(range(machine.levels))
        elif isinstance(extra, int):
            assert (tlb.superpages.sets, tlb.superpages.ways) == (1, extra)
        else:
            wanted = extra["ways"] * extra["sets"] if "ways" in extra else sum(extra.values())
            assert tlb.superpages.entries == wanted
    assert machine.l1_split_store == facts["l1d"].get("split_ld_st", False)
    if machine.l1_split_store:
        assert machine.l1st == machine.l1d
    l2 = facts["l2"]
    assert (machine.l2.base.ways == 0) == (l2 is None)
    if l2 is not None:
        shape = l2["sets"], l2["ways"], l2.get("ptes_per_line", 1)
        assert (machine.l2.base.sets, machine.l2.base.ways, machine.l2.base.sectors) == shape
        assert machine.l2.base.policy == l2.get("repl", machine.l2.base.policy)
        assert machine.l2.superpages.ways == l2.get("super", 0)
        assert machine.l2_seq_page_sizes == l2.get("seq_page_sizes", False)
        assert (machine.l2.base.levels == (0,)) == (
            l2.get("leaf4k_only", False) or "super" in l2)


# latencies of the fact sheet's preset block that its own measurements contradict
MEASURED_INSTEAD = {
    "p550": ("l2_hit_cycles",),                     # c.5 over the share of misses
    "u74": ("l2_hit_cycles",),                      # guessed there too
    "c910": ("walk_overhead_per_level_cycles",),    # row 13
    "sg2042": ("walk_overhead_per_level_cycles",),
}


@pytest.mark.parametrize("name", machines.PRESETS)
def test_caching_fences_and_latencies_are_the_facts(name: str, shared: Path) -> None:
    facts, machine = _facts(shared)[name], machines.load(name)
    inv, fence, lat = facts["inv"], facts["sfence"], facts["lat"]
    assert (machine.inv_l1, machine.inv_l2, machine.inv_pwc) == (
        inv["l1"], inv["l2"], inv["pwc"])
    if inv["l1"] is not None:
        assert machine.inv_nonleaf_range == inv.get("nonleaf_range", False)
        assert machine.inv_line_capture == inv.get("line_capture", 1)
    got = (machine.fence_all_cycles, machine.fence_asid_cycles, machine.fence_va_cycles,
           machine.fence_pipe_cycles, machine.fence_va_as_all)
    assert got == (fence["all"], fence["asid"], fence["va"], fence["pipe"],
                   fence.get("va_as_all", False))
    assert machine.fence_l2_va_clears_set == (
        fence.get("l2_va_clears_set", False) or name.startswith("xs-"))   # its RTL, not the sheet
    assert machine.fence_va_low8_match == fence.get("va_low8_match_utlb", False)
    assert (machine.via == "hw") == fence["broadcast"]
    assert (machine.l1_hit_cycles, machine.pte_via) == (lat["l1"], lat["pte_via"])
    for path, wanted in (("walk_overhead_per_level_cycles", lat["walk_overhead_per_level"]),
                         ("l2_hit_cycles", lat.get("l2", machine.l2_hit_cycles))):
        # where a measurement says otherwise the preset follows it, and says so
        assert machine.flat()[path] == wanted or "hardware.md" in machine.provenance(path), path
        assert machine.flat()[path] == wanted or path in MEASURED_INSTEAD[name], path
    assert machine.prefetch_next_line == (facts.get("prefetch") == "next_line")


def test_what_the_facts_guess_is_marked_assumed(shared: Path) -> None:
    paths = {"mhz": ["mhz"], "harts": ["harts"], "lat.l2": ["l2_hit_cycles"],
             "sfence.asid": ["fence_asid_cycles"], "l1i": ["l1i.base.ways"],
             "l1d": ["l1d.base.ways"], "l2": ["l2.base.sets"], "pwc": ["pwc.unified.ways"],
             "asid_bits": ["asid_bits"], "inv": ["inv_l1", "inv_l2", "inv_pwc"],
             "repl": ["l1d.base.policy"], "lat": ["walk_overhead_per_level_cycles"],
             "sfence": ["fence_all_cycles"], "walkers": ["walkers"]}
    for name, entry in json.loads((shared / "facts" / "machines.json").read_text()).items():
        machine = machines.load(name)
        for guess in entry.get("_assumed", []):
            for path in paths.get(guess.split(" ")[0], []):
                if (name, path) == ("p550", "l2.base.sets"):
                    assert "guess" in machine.provenance(path)
                assert machine.provenance(path).startswith(("assumed", "fitted")), (name, path)


def test_sg2042_says_that_its_mmu_is_a_guess() -> None:
    sg2042, c910 = machines.load("sg2042"), machines.load("c910")
    guess = "assumed: C920's MMU is taken to be C910's"
    assert sg2042.provenance("l2.base.ways").startswith(guess)
    assert c910.provenance("l2.base.ways") in sg2042.provenance("l2.base.ways")
    assert sg2042.provenance("sbi_range_limit_bytes") == c910.provenance("sbi_range_limit_bytes")
    assert not sg2042.provenance("read_llc_cycles").startswith("assumed")


def test_unknown_is_kept_and_lowered_to_caches() -> None:
    x60 = machines.load("x60")
    assert x60.inv_l1 is None
    assert x60.unknowns == ("inv_l1", "inv_l2", "inv_pwc")
    assert all("unknown" in note and "sweep" in note for note in x60.notes)
    decided = x60.override({"inv_l1": 0, "inv_l2": False, "inv_pwc": False})
    assert (decided.unknowns, decided.notes) == ((), ())


def test_lowering_writes_every_field_where_c_reads_it() -> None:
    x60 = machines.load("x60")
    packed = engine.ffi.from_buffer("struct csim_machine *",
                                    engine.pack("csim_machine", x60.c_values()))
    assert (packed.inv_l1, packed.inv_l2, packed.inv_pwc) == (1, 1, 1)
    c910 = machines.load("c910")
    packed = engine.ffi.from_buffer("struct csim_machine *",
                                    engine.pack("csim_machine", c910.c_values()))
    assert (packed.l2[0].sets, packed.l2[0].ways, packed.l2[0].levels) == (256, 4, 0b111)
    assert (packed.l1d[1].ways, packed.l1d[1].levels) == (1, 0b110)
    assert packed.via == engine.lib.CSIM_VIA_SBI
    assert packed.pte_via == engine.lib.CSIM_PTE_L1D
    assert packed.l2[0].policy == engine.TLB_POLICIES["fifo"]


@pytest.mark.parametrize("name", machines.PRESETS)
def test_the_engine_accepts_every_preset(name: str) -> None:
    engine.check_machine(engine.pack("csim_machine", machines.load(name).c_values()))


# what a person wrote -> key and words of the complaint, nearest name
BAD: list[tuple[str, str, str, str]] = [
    ("mzh = 5", "mzh", "unknown key", "mhz"),
    ("l2.base.wayz = 5", "l2.base.wayz", "unknown key", "ways"),
    ("l2.base.sets = 3", "l2.base.sets", "power of two", ""),
    ("l2.base.ways = 0", "l2.base.ways", "0 ways in 256 sets", ""),
    ("l2.base.sectors = 3", "l2.base.sectors", "power of two", ""),
    ("l2.base.sectors = 16", "l2.base.sectors", "64-byte line", ""),
    ("l2.base.ways = 65", "l2.base.ways", "at most 64", ""),
    ("l2.base.sets = 2_097_152", "l2.base.sets", "at most 1048576", ""),
    ("pwc_unified = true\npwc.unified = { sets = 1, ways = 8, sectors = 2, levels = [1] }",
     "pwc.unified.sectors", "tags of 1 pointer", ""),
    ("pwc.level1 = { sets = 1, ways = 8, levels = [2] }", "pwc.level1.levels", "of level 1", ""),
    ("l2.base.policy = 'plro'", "l2.base.policy", "one of", "plru"),
    ("l2.base.levels = [1, 0]", "l2.base.levels", "rising list", ""),
    ("l2.base.levels = [3]", "l2.base.levels", "not in Sv39", ""),
    ("l2.base.levels = [0, 'napot']", "l2.base.levels", "need svnapot", ""),
    ("svnapot = true\npwc.level1 = { sets = 1, ways = 8, levels = ['napot'] }", "pwc.level1.levels",
     "of level 1", ""),
    ("l1d.superpages.levels = [0, 1]", "l1d.superpages.levels", "both arrays", ""),
    ("l2 = 7", "l2", "dictionary", ""),
    ("l1i.base = 'absent'", "l1i.base", "first-level", ""),
    ("l1_split_store = true", "l1st.base", "split", ""),
    ("pwc_unified = true", "pwc_unified", "same", ""),
    ("harts = 0", "harts", "greater than or equal to 1", ""),
    ("harts = 4097", "harts", "4096", ""),
    ("mhz = 'fast'", "mhz", "integer", ""),
    ("mhz = 1.5", "mhz", "integer", ""),
    ("read_l1d_permille = 1001", "read_l1d_permille", "1000", ""),
    ("read_l1d_permille = 900", "read_llc_permille", "1250 permille", ""),
    ("via = 'imsci'", "via", "one of", "imsic"),
    ("via = 'machine'", "via", "one of", ""),
    ("negative_global = 'newer'", "negative_global", "one of", "never"),
    ("inv_l1 = 2", "inv_l1", "flag", ""),
    ("inv_line_capture = 3", "inv_line_capture", "1, 2, 4 or 8", ""),
    ("levels = 'sv32'", "levels", "integer", ""),
    ("ecall_cycles = -1", "ecall_cycles", "greater than or equal to 0", ""),
    ("ecall_cycles = 5_000_000_000", "ecall_cycles", "4294967295", ""),
    ("sbi_window_harts = 65", "sbi_window_harts", "64", ""),
]


@pytest.mark.parametrize(("line", "key", "words", "nearest"), BAD)
def test_an_impossible_machine_is_refused(line: str, key: str, words: str, nearest: str) -> None:
    with pytest.raises(InputError) as caught:
        machines.loads(f'inherit = "c910"\n{line}\n', "mine.toml")
    message = str(caught.value)
    assert message.startswith(f"mine.toml: {key}: "), message
    assert words in message, message
    assert (f"did you mean {nearest!r}?" in message) == bool(nearest), message


@pytest.mark.parametrize(("text", "words"), [
    ("mhz = ", "not TOML"),
    ('inherit = "sg2024"', "did you mean 'sg2042'?"),
    ("inherit = 5", "name of a preset"),
    ('inherit = "c910"\nmhz = 5\n[[sourced]]\nby = "me"\nmhz = 6', "mhz: is written twice"),
    ('inherit = "c910"\n[[sourced]]\nmhz = 6', "sourced[0]: every [[sourced]] block opens"),
    ('inherit = "c910"\n[assumed]\nmhz = 6', "assumed: write [[assumed]]"),
    ("mhz = 5", "is not given"),
])
def test_a_file_of_another_form_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        machines.loads(text, "mine.toml")
    assert words in str(caught.value)


def test_an_unknown_preset_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no preset named 'roket'.*did you mean 'rocket'"):
        machines.load("roket")


def test_a_file_inherits_overrides_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('inherit = "c910"\nmhz = 2500\n[[sourced]]\nby = "our RTL"\nl2.base.ways = 8\n'
                    '[[assumed]]\nwhy = "a guess"\nl2_hit_cycles = 5\n')
    mine, c910 = machines.load(path), machines.load("c910")
    assert (mine.name, mine.mhz, mine.l2.base.ways, mine.l2.base.sets) == ("mine", 2500, 8, 256)
    assert mine.provenance("mhz") == f"file {path}"
    assert mine.provenance("l2.base.ways") == "our RTL"
    assert mine.provenance("l2.base.sets") == c910.provenance("l2.base.sets")
    assert mine.provenance("l2_hit_cycles") == "assumed: a guess"
    again = tmp_path / "again.toml"
    again.write_text(f'inherit = "{path}"\nl2 = "absent"\n')
    assert machines.load(again).l2 == machines.Tlb()
    again.write_text(f'inherit = "{again}"\n')
    with pytest.raises(InputError, match="inherits from itself"):
        machines.load(again)


@pytest.mark.parametrize("name", machines.PRESETS)
def test_a_machine_survives_its_own_json(name: str) -> None:
    machine = machines.load(name)
    assert machines.Machine.model_validate_json(machine.model_dump_json()) == machine


COUNTS = [path for path in machines.load("rocket").flat() if path.endswith("_cycles")]


@pytest.mark.slow
@given(changes=st.dictionaries(st.sampled_from(COUNTS), st.integers(0, 2**32 - 1)),
       preset=st.sampled_from(machines.PRESETS))
def test_an_override_moves_its_fields_and_no_other(changes: dict[str, int], preset: str) -> None:
    before = machines.load(preset)
    after = before.override(changes, where="axis")
    assert {path: value for path, value in after.flat().items()
            if value != before.flat()[path]} == {
                path: value for path, value in changes.items() if before.flat()[path] != value}
    for path in COUNTS:
        wanted = "axis" if path in changes else before.provenance(path)
        assert after.provenance(path) == wanted


# ---- fencelab machines --check ------------------------------------------------------------------


def test_check_says_what_a_machine_of_ones_own_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('inherit = "c910"\nmhz = 2500\n[[sourced]]\nby = "our RTL"\nl2.base.ways = 8\n'
                    '[[fitted]]\nto = "our board"\nl2_hit_cycles = 5\n')
    assert main(["machines", "--check", str(path), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["tables"][0]["rows"]
    assert [(row["field"], row["value"], row["c910"]) for row in rows] == [
        ("mhz", 2500, 1850), ("l2.base.ways", 8, 4), ("l2_hit_cycles", 5, 3)]
    assert [row["source"] for row in rows] == [f"file {path}", "our RTL", "fitted: our board"]
    assert machines.load(path).fitted["l2_hit_cycles"] == "our board"


@pytest.mark.parametrize(("text", "words"), [
    ('inherit = "c910"\nl2.base.wayz = 8', "l2.base.wayz: unknown key"),
    ('inherit = "c911"', "did you mean 'c910'?"),
    ('inherit = "c910"\nwalkers = 9', "walkers: "),
    ('inherit = "c910"\ncache_l2_ways = 3', "cache_l2_bytes: "),
    ('inherit = "c910"\n[[fitted]]\nmhz = 6', "fitted[0]: every [[fitted]] block opens"),
])
def test_check_refuses_with_file_and_key(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert main(["machines", "--check", str(path)]) == 2
    said = capsys.readouterr().err
    assert words in said, said
    assert str(path) in said or "no preset" in said


def test_check_takes_a_file_and_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["machines", "rocket", "--check", "mine.toml"]) == 2
    assert "one name too many" in capsys.readouterr().err
