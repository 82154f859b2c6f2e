"""The JSON Schema of a sweep file, for editors: every key with its meaning and unit.

Made of the models that validate, so it cannot say anything else. Left out: what only the values
together decide (an axis that is varied twice, a report about an axis that is not there).
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from pysim.machines import model as machines
from pysim.machines.model import Machine
from pysim.scenario import Scenario
from pysim.workloads import Workload
from pysim.workloads import model as workloads
from sweeps import axes
from sweeps.axes import Listed, Range, Span
from sweeps.grid import Sweep

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_INHERITS: Final = "a preset's name, a file, or a table { inherit = NAME, field = value, ... }"


def of_sweep() -> dict[str, Any]:
    """Return the schema of a sweep file, as plain data."""
    schema = Sweep.model_json_schema(by_alias=True, ref_template="#/$defs/{model}")
    definitions = schema.setdefault("$defs", {})
    for name in ("where", "question", "places"):
        schema["properties"].pop(name, None)
        definitions.pop(name.title(), None)
    schema["required"] = [name for name in schema.get("required", ())
                          if name in schema["properties"]]
    for model in (Range, Listed, Span):
        definitions[model.__name__] = model.model_json_schema(by_alias=True)
    fields = _fields()
    axis = {"anyOf": [{"type": "array", "minItems": 1}, {"$ref": "#/$defs/Range"},
                      {"$ref": "#/$defs/Listed"}]}
    drawn = {"anyOf": [{"type": "array", "minItems": 1}, {"$ref": "#/$defs/Span"}]}
    own = {"type": "array", "minItems": 1,
           "items": {"type": "object", "required": ["label"]},
           "description": "an axis of your own: tables that set fields together"}
    properties = schema["properties"]
    properties["base"] |= {"properties": fields, "additionalProperties": False}
    properties["axes"] |= {"properties": {name: said | axis for name, said in _bare(fields)},
                           "additionalProperties": own}
    zipped = {"type": "object", "properties": {n: said | axis for n, said in _bare(fields)},
              "additionalProperties": own}
    properties["zip"] = {"description": properties["zip"]["description"],
                         "anyOf": [zipped, {"type": "array", "items": zipped}]}
    definitions["Sample"]["properties"]["axes"] |= {
        "properties": {name: said | drawn for name, said in _bare(fields)},
        "additionalProperties": False}
    _shares(definitions["Until"]["properties"]["overhead"])
    return {"$schema": DIALECT, "title": "a fencelab sweep",
            **{key: value for key, value in schema.items() if key != "title"}}


def _shares(overhead: dict[str, Any]) -> None:
    """A share may be written as a percentage."""
    number = {key: overhead.pop(key) for key in ("type", "exclusiveMinimum", "exclusiveMaximum")
              if key in overhead}
    overhead["anyOf"] = [number, {"type": "string", "pattern": r"^\d+(\.\d+)? *%$"}]


def _bare(fields: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the fields with what is said of them, without the form of one value."""
    return [(name, {key: said[key] for key in ("description", "unit") if key in said})
            for name, said in fields.items()]


def _fields() -> dict[str, Any]:
    """Return every field a sweep may set, by dotted path, with its meaning and unit."""
    found: dict[str, Any] = {}
    form = Scenario.model_json_schema()
    for name in axes.field_names():
        info = Scenario.model_fields[name]
        said = {key: value for key, value in form["properties"][name].items()
                if key in ("type", "minimum", "maximum", "exclusiveMaximum", "default")}
        found[name] = {**said, "description": info.description}
        if name in axes.INSIDE:
            found[name] = {"type": ["string", "object"],
                           "description": f"{info.description}; {_INHERITS}"}
    for owner, model, unit in (("machine", Machine, machines.unit),
                               ("workload", Workload, workloads.unit)):
        for path, description in _inside(model):
            found[f"{owner}.{path}"] = {"description": description, "unit": unit(path)}
    return found


def _inside(model: type[BaseModel]) -> list[tuple[str, str]]:
    """Return the fields of a model and those of tables directly in it: path and description."""
    found = []
    for name, info in model.model_fields.items():
        if name in ("sources", "name", "title"):
            continue
        found.append((name, str(info.description)))
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += [(f"{name}.{key}", str(field.description))
                      for key, field in inner.model_fields.items()]
    return found
