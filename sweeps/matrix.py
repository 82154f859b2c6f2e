"""Verdicts as jobs: policy by scenario by machine, through the executors of sweeps, into the store.

A question is what `fencelab check` asks once, the lowered policy included, so a worker needs no
policy by name; its key hashes what crosses the door, as a run's does. The record is the verdict
with its counterexample, which the worker has replayed: byte-equal wherever it was found. A policy
that the explorer refuses in a scenario has that as its record.

Left out: the timelines (`fencelab check POLICY` words them) and any number of harts.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pysim import check, engine
from pysim.check import Checked, Search
from pysim.errors import InputError
from pysim.litmus import Litmus, Parameters
from pysim.ops import Program
from sweeps.executors.shard import stop_flag

REFUSED: Final = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One verdict asked for; ``policy`` and ``machine`` are labels and not in the key."""

    policy: str
    machine: str
    program: Program
    scenario: Litmus
    parameters: Parameters
    max_states: int
    max_memory_bytes: int

    @property
    def key(self) -> str:
        """SHA-256 over the build id and what the explorer is given."""
        asked = check.question(self.scenario, self.parameters, max_states=self.max_states,
                               max_memory_bytes=self.max_memory_bytes)
        parts = (b"verdict", engine.BUILD_ID.encode(),
                 _canonical(asked), self.program.header, self.program.ops)
        digest = hashlib.sha256()
        for part in parts:
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()

    @property
    def command(self) -> str:
        """The command that asks this alone, of a policy and a scenario that have names."""
        words = ["fencelab", "check", self.policy, "--scenario", self.scenario.name, "--machine",
                 self.machine, "--harts", str(self.scenario.harts), "--order",
                 self.parameters.order]
        return shlex.join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is known of one question: ``verdict`` is verified, refuted, unknown or refused.

    ``broken`` is the property that a refuted one violates, ``length`` the steps that takes.
    """

    verdict: str
    broken: str = ""
    length: int | None = None

    @property
    def cell(self) -> str:
        """The verdict in a table's cell: ``ok``, ``S2@24``, ``?`` or ``refused``."""
        words = {"verified": "ok", "refuted": f"{self.broken}@{self.length}", "unknown": "?"}
        return words.get(self.verdict, self.verdict)


def questions(programs: Sequence[Program], scenarios: Sequence[Litmus],
              machines: Mapping[str, Sequence[Parameters]], search: Search) -> list[Asked]:
    """Return every question of the matrix, policies outermost."""
    return [
        Asked(policy=program.name, machine=machine, program=program, scenario=scenario,
              parameters=parameters, max_states=search.max_states,
              max_memory_bytes=search.max_memory_bytes)
        for program in programs for machine, assumed in machines.items()
        for scenario in scenarios for parameters in assumed
    ]


def answer(asked: Asked) -> bytes:
    """Search and replay; return the record. Raises UnreplayableError and StoppedError."""
    search = Search(max_states=asked.max_states, max_memory_bytes=asked.max_memory_bytes,
                    stop=stop_flag())
    return answer_with(asked, search)


def answer_with(asked: Asked, search: Search) -> bytes:
    """Search as told; the record says nothing of how."""
    try:
        found = check.check(asked.program, asked.scenario, asked.parameters, search)
    except InputError as refusal:
        return _canonical({"verdict": REFUSED, "reason": refusal.reason})
    return _canonical(_document(found))


def _document(found: Checked) -> dict[str, Any]:
    said = found.found
    return {
        "verdict": said.verdict, "property": said.property, "limit": said.limit,
        "length": said.length if said.verdict == "refuted" else None, "depth": said.depth,
        "s5_length": said.s5_length, "states": said.states, "transitions": said.transitions,
        "exact": found.exact, "steps": [[s.hart, s.kind, s.arg] for s in said.trace],
    }


def _canonical(values: dict[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def read(record: bytes) -> Verdict:
    """Return the verdict of a record."""
    values = json.loads(record)
    return Verdict(verdict=values["verdict"], broken=values.get("property", ""),
                   length=values.get("length"))
