"""The JSON Schemas of what the admin API takes and gives, as generators of clients need them.

msgspec writes each as what is read. Here what goes out has every member; and what JSON Schema leaves open is said,
because generators close it: an object without named members becomes one that must be empty.
"""

import inspect
from collections.abc import Iterable
from typing import Any, Final

import msgspec

_REFERENCE: Final = "#/components/schemas/{name}"


def schemas_of(taken: Iterable[Any], given: Iterable[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of each type by its repr, and the components that they refer to."""
    found, components = _written(taken)
    more, outgoing = _written(given)
    return found | more, components | {name: _as_given(schema) for name, schema in outgoing.items()}


def _written(kinds: Iterable[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    kinds = list(kinds)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    found = {repr(kind): _told(schema) for kind, schema in zip(kinds, schemas, strict=True)}
    return found, _told(components)


def _as_given(schema: dict[str, Any]) -> dict[str, Any]:
    """A member with a default stands in every answer; one that may be missing (UNSET) has none."""
    if "properties" not in schema:
        return schema
    members: dict[str, Any] = schema["properties"]
    always = [name for name, one in members.items() if name in schema["required"] or "default" in one]
    bare = {name: {key: value for key, value in one.items() if key != "default"} for name, one in members.items()}
    return schema | {"properties": bare, "required": always}


def _told(schema: Any) -> Any:
    """The same with what generators need: open objects, typed enumerations, descriptions without an indent."""
    if isinstance(schema, list):
        return [_told(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    told = {name: _told(one) for name, one in schema.items()}
    if told.get("type") == "object" and not {"properties", "additionalProperties"} & told.keys():
        told["additionalProperties"] = True
    if isinstance(told.get("enum"), list) and all(isinstance(one, str) for one in told["enum"]):
        told.setdefault("type", "string")
    if isinstance(told.get("description"), str):
        told["description"] = inspect.cleandoc(told["description"])
    return told
