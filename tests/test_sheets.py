"""Sheets: every field of a machine or workload is on its sheet, with its source."""

from __future__ import annotations

import pytest

from pysim import machines, sheets, workloads


@pytest.mark.parametrize("name", machines.PRESETS)
def test_a_sheet_shows_every_field_value_and_source(name: str) -> None:
    machine = machines.load(name)
    rows = [line.split("\t") for line in sheets.machine_sheet(machine, form="tsv").splitlines()]
    shown = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows if len(row) == 4}
    for path, value in machine.flat().items():
        row = shown.get(path) or shown[path.rpartition(".")[0]]
        assert row[2] == machine.provenance(path), path
        if not isinstance(value, bool | tuple) and value is not None and row[0] != "absent":
            assert str(value) in row[0], path
    assert all(note in sheets.machine_sheet(machine) for note in machine.notes)


def test_an_overview_has_one_line_per_preset() -> None:
    lines = sheets.machines_overview().splitlines()
    assert [line.split()[0] for line in lines[2:]] == list(machines.PRESETS)
    assert "L1?" in next(line for line in lines if line.startswith("x60"))
    lines = sheets.workloads_overview().splitlines()
    assert [line.split()[0] for line in lines[2:]] == list(workloads.WORKLOADS)


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_a_workload_sheet_shows_every_field_it_was_given(name: str) -> None:
    workload = workloads.load(name)
    sheet = sheets.workload_sheet(workload, form="tsv")
    for field in workload.sources:
        line = next(x for x in sheet.splitlines() if x.split("\t")[0].strip() == field)
        assert workload.provenance(field) in line
        assert workloads.unit(field), field


def test_a_sheet_names_napot_as_the_file_does() -> None:
    text = 'name = "mine"\ninherit = "cva6"\nsvnapot = true\nl1d.base.levels = [0, "napot"]'
    assert "0 napot" in sheets.machine_sheet(machines.loads(text, "mine.toml"))
