"""Files of values that say where each value comes from.

A file of facts is TOML. Its values stand in blocks, each opened by what vouches for them, written
with the names of the model that reads them::

    inherit = "c910"

    [[sourced]]
    by = "openc910 ct_mmu_tlboper.v:760-764, one set per cycle"
    fence_all_cycles = 256

    [[assumed]]
    why = "nobody has measured it; sweep 0 to 10 000"
    coherence_cycles = 80

    [[fitted]]
    to = "c.5, the second knee of this board's own curve"
    l2_hit_cycles = 10

A value that was fitted to a measurement predicts nothing about that measurement: tables that show
the two beside each other say so. A person's own file may also write bare values on top level; their
source is then the file itself.
A table inside a block is a nested value (``l1d.base = { sets = 1, ways = 16 }``), and what a file
does not say it has from the one it inherits from. ``inherit_assumed = "why"`` says that taking over
what the other file says of its own machine is itself a guess.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pysim.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

Value: TypeAlias = "bool | int | float | str | list[Any]"

_BLOCKS: Final = {"sourced": "by", "assumed": "why", "fitted": "to"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Values by dotted path, and for each path who vouches for it.

    ``where`` is the file that was read; ``sources`` hold ``"..."`` for a source, ``"assumed: ..."``
    where there is none and ``"fitted: ..."`` where a measurement chose the value; ``files`` the
    file each path was written in; ``header`` is what a file says of itself (name, title);
    ``parent`` the name it inherits from ("" = nobody),
    ``parent_assumed`` why that is a guess, if it is one.
    """

    where: str = ""
    values: dict[str, Value] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    header: dict[str, Value] = field(default_factory=dict)
    parent: str = ""
    parent_assumed: str = ""

    def over(self, base: Facts) -> Facts:
        """Return ``base`` with every path that this one says replaced; the header is this one's."""
        sources = {path: self._taken_over(base, path) for path in base.values}
        merged = Facts(where=self.where, values=dict(base.values), sources=sources,
                       files=dict(base.files), header=dict(self.header))
        for path, value in self.values.items():
            merged.put(path, value, self.sources[path], self.files[path])
        return merged

    def _taken_over(self, base: Facts, path: str) -> str:
        """Return who vouches for an inherited value; a guess only if the parent itself wrote it."""
        source = base.sources[path]
        guessed = self.parent_assumed and base.files[path] == base.where
        if not guessed or source.startswith("assumed"):
            return source
        return f"assumed: {self.parent_assumed}; there: {source}"

    def put(self, path: str, value: Value, source: str, file: str) -> None:
        """Write one value; whatever stood at, under or above its path leaves."""
        parents = path.split(".")
        above = {".".join(parents[:n]) for n in range(1, len(parents))}
        for old in [p for p in self.values if p.startswith(path + ".") or p in above]:
            del self.values[old], self.sources[old], self.files[old]
        self.values[path], self.sources[path], self.files[path] = value, source, file

    def wrote(self, key: str, where: str) -> str:
        """Return the file to blame for a value: ``where`` unless only an inherited file wrote it.

        A preset is never to blame: alone it is valid, so what was written over it is not.
        """
        wrote = {file for path, file in self.files.items()
                 if f"{path}.".startswith(f"{key}.") or f"{key}.".startswith(f"{path}.")}
        blamed = sorted(file for file in wrote if file.endswith(".toml"))
        return where if where in wrote or not blamed else blamed[0]

    def nested(self) -> dict[str, Any]:
        """Return the values as the nested mapping a model validates."""
        tree: dict[str, Any] = {}
        for path, value in self.values.items():
            *parents, last = path.split(".")
            at = tree
            for name in parents:
                at = at.setdefault(name, {})
            at[last] = value
        return tree


def flatten(table: Mapping[str, Any], path: str = "") -> dict[str, Value]:
    """Return nested tables as dotted paths in the order they are written."""
    flat: dict[str, Value] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{path}{name}."))
        else:
            flat[f"{path}{name}"] = value
    return flat


def parse(text: str, where: str, *, header: Iterable[str] = ("name", "title")) -> Facts:
    """Read one file of facts: what it says itself. Raises InputError with ``where`` and the key."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(where, "", f"not TOML: {error}") from error
    parent, assumed = table.pop("inherit", ""), table.pop("inherit_assumed", "")
    if not isinstance(parent, str):
        raise InputError(where, "inherit", f"the name of a preset is wanted, got {parent!r}")
    if not isinstance(assumed, str):
        raise InputError(where, "inherit_assumed", f"a text is wanted, got {assumed!r}")
    facts = Facts(where=where, parent=parent, parent_assumed=assumed,
                  header={name: table.pop(name) for name in header if name in table})
    for block, voucher in _BLOCKS.items():
        _read_blocks(facts, table.pop(block, []), block, voucher, where)
    for path, value in flatten(table).items():
        _put_once(facts, path, value, f"file {where}", where)
    return facts


def _read_blocks(facts: Facts, blocks: Any, kind: str, voucher: str, where: str) -> None:
    if not isinstance(blocks, list) or not all(isinstance(b, dict) for b in blocks):
        raise InputError(where, kind, f"write [[{kind}]], a list of blocks")
    for index, block in enumerate(blocks):
        vouched = block.pop(voucher, None)
        if not isinstance(vouched, str) or not vouched.strip():
            raise InputError(where, f"{kind}[{index}]",
                             f"every [[{kind}]] block opens with a text `{voucher}`")
        source = vouched if kind == "sourced" else f"{kind}: {vouched}"
        for path, value in flatten(block).items():
            _put_once(facts, path, value, source, where)


def _put_once(facts: Facts, path: str, value: Value, source: str, where: str) -> None:
    if path in facts.values:
        raise InputError(where, path, "is written twice")
    facts.put(path, value, source, where)


Reader: TypeAlias = Callable[[str], tuple[str, str]]


def load(name: str, *, read: Reader) -> Facts:
    """Read a file of facts and everything it inherits; ``read`` turns a name into (text, where)."""
    return loads(*read(name), read=read)


def loads(text: str, where: str, *, read: Reader) -> Facts:
    """Read a text of facts and everything it inherits; ``where`` names it in complaints."""
    chain = [parse(text, where)]
    while parent := chain[-1].parent:
        chain.append(parse(*read(parent)))
        names = [facts.where for facts in chain]
        if names[-1] in names[:-1]:
            raise InputError(where, "inherit", f"inherits from itself: {' -> '.join(names)}")
    merged = chain.pop()
    while chain:
        merged = chain.pop().over(merged)
    return merged


def reader(folder: Path, names: Iterable[str], what: str) -> Reader:
    """Return the ``read`` of ``load``: a preset of the folder, or the path of somebody's file."""
    known = tuple(names)

    def read(name: str) -> tuple[str, str]:
        preset = folder / f"{name}.toml"
        if "/" not in name and "\\" not in name and preset.is_file():
            return preset.read_text("utf-8"), f"{what} {name}"
        path = Path(name)
        if path.suffix != ".toml" and not path.is_file():
            raise InputError(what, "", f"no preset named {name!r}, and no such file",
                             got=name, nearest=known)
        try:
            return path.read_text("utf-8"), name
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(name, what, f"cannot be read: {error}") from error

    return read


def refused(
    error: ValidationError, where: Callable[[str], str], model: type[BaseModel]
) -> InputError:
    """Turn the first complaint of a pydantic model into an InputError with key and nearest name.

    ``where`` tells for a dotted key which file or option wrote it.
    """
    first, *others = error.errors(include_url=False)
    context = first.get("ctx", {})
    key = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-"))
    extra = context.get("key", "")
    key = ".".join(part for part in (key, extra) if part)
    got, nearest = context.get("got"), context.get("nearest", ())
    reason = first["msg"][:1].lower() + first["msg"][1:]
    if first["type"] == "extra_forbidden":
        reason, got = "unknown key", str(first["loc"][-1])
        nearest = _names_at(model, [str(part) for part in first["loc"][:-1]])
    elif first["type"] == "missing":
        reason = "is not given"
    elif first["type"] != "fencelab":
        reason += f", got {first['input']!r}"
    if others:
        reason += f" (and {len(others)} more)"
    return InputError(where(key), key, reason, got=got, nearest=nearest)


def _names_at(model: type[BaseModel], path: list[str]) -> tuple[str, ...]:
    """Return the field names of the model, or of the one nested at ``path``."""
    for name in path:
        inner = model.model_fields[name].annotation if name in model.model_fields else None
        if not hasattr(inner, "model_fields"):
            return ()
        model = inner  # type: ignore[assignment]
    return tuple(model.model_fields)
