"""JSON schemas as hosts take them: flat, without $ref, anyOf and null types, which several reject. Imports nothing of ours."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

Schema = dict[str, Any]


def flat(schema: Schema) -> Schema:
    """Return pydantic's schema with definitions in place of references, without null alternatives and titles."""
    definitions = cast("dict[str, Schema]", schema.get("$defs", {}))
    return _flat({key: value for key, value in schema.items() if key != "$defs"}, definitions)


def terse(schema: Schema) -> Schema:
    """Return an answer's schema without what a validating client does not need: texts, defaults, closedness, required."""
    kept = {key: value for key, value in schema.items() if key not in {"description", "default", "required"}}
    if kept.get("additionalProperties") is False:
        del kept["additionalProperties"]
    return _mapped(kept, terse)


def _flat(node: Schema, definitions: dict[str, Schema]) -> Schema:
    reference = node.get("$ref")
    if isinstance(reference, str):
        node = {
            **definitions[reference.rpartition("/")[2]],
            **{key: node[key] for key in node if key != "$ref"},
        }
    choices = cast("list[Schema]", node.get("anyOf", []))
    if choices:
        (only,) = (choice for choice in choices if choice.get("type") != "null")
        return _flat({**{key: node[key] for key in node if key != "anyOf"}, **only}, definitions)
    kept = {
        key: value
        for key, value in node.items()
        if key != "title" and not (key == "default" and value is None)
    }
    return _mapped(kept, partial(_flat, definitions=definitions))


def _mapped(node: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """Apply ``change`` to every schema directly inside one."""
    result = dict(node)
    if "properties" in node:
        result["properties"] = {name: change(inner) for name, inner in node["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            result[key] = change(node[key])
    return result
