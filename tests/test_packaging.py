"""What is built, shipped and typed by a newcomer is all there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import tidy

BLOCK = r"^<!-- ci: {name} -->\n```sh\n(.*?)^```$"


@pytest.fixture(scope="module")
def project(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text())


def test_every_file_beside_the_packages_is_shipped(root: Path, project: dict) -> None:
    globs = project["tool"]["setuptools"]["package-data"]
    forgotten = [
        str(path.relative_to(root))
        for package in ("pysim", "sweeps")
        for path in (root / package).rglob("*")
        if path.is_file()
        and path.suffix not in {".py", ".pyc"}
        and not path.name.startswith("_csim")
        and not any(fnmatch(str(path.relative_to(root / package)), g) for g in globs[package])
    ]
    assert not forgotten


def test_every_folder_with_python_is_a_package(root: Path) -> None:
    folders = {path.parent for room in ("pysim", "sweeps") for path in (root / room).rglob("*.py")}
    assert not [str(folder) for folder in folders if not (folder / "__init__.py").exists()]


def test_every_imported_library_is_declared(root: Path, project: dict) -> None:
    names = (re.split(r"[><=\[ ]", name)[0] for name in project["project"]["dependencies"])
    declared = {*names}
    extras = {re.split(r"[><=\[ ]", name)[0].replace("-", "_")
              for extra, names in project["project"]["optional-dependencies"].items()
              if extra not in ("test", "lint") for name in names}
    ours = {"pysim", "sweeps"}
    parts = {"pydantic_core"}  # of pydantic
    house = tidy.House(root)
    imported = {
        module.partition(".")[0]
        for path in house.python_files("pysim", "sweeps")
        for _, module in tidy.imported_modules(path)
    }
    assert not imported - declared - extras - ours - parts - sys.stdlib_module_names
    used_unseen = {"cffi"}  # the extension imports its runtime
    assert declared <= imported | used_unseen


def test_the_readme_has_the_two_commands_that_ci_runs(root: Path) -> None:
    readme = (root / "README.md").read_text()
    blocks = {name: re.findall(BLOCK.format(name=name), readme, re.M | re.S)
              for name in ("run", "test")}
    assert [len(found) for found in blocks.values()] == [1, 1], "one block under each mark"
    assert "pip install '.[test]'" in blocks["run"][0]
    assert "fencelab sweep quickstart" in blocks["run"][0]
    assert blocks["test"][0].strip() == "python -m pytest"
    assert len(re.findall("^<!-- ci: ", readme, re.M)) == 2


def test_ci_is_a_script_that_parses_and_reads_the_readme(root: Path) -> None:
    script = root / ".ci" / "run"
    assert script.stat().st_mode & 0o111, "it can be executed"
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    assert "readme_block run" in text
    assert text.rstrip().endswith('eval "$test"'), "pytest's summary is the last line"


def test_the_version_has_an_entry_in_the_changelog(root: Path, project: dict) -> None:
    changelog = (root / "CHANGELOG.md").read_text()
    assert re.search(rf"^## .*{re.escape(project['project']['version'])}", changelog, re.M)
    assert re.search(r"^### Results moved$", changelog, re.M)
