"""The description of the admin API (OpenAPI 3.1), written from the table: from the types of its rows and operations."""

from functools import cache
from typing import Any, Final

import msgspec

import groat
from groat.admin_api.callers import SCOPES
from groat.admin_api.documents import Outcome, Problem, Query
from groat.admin_api.rows import PREFIX, Row
from groat.admin_api.schemas import schemas_of
from groat.admin_api.table import ROWS
from groat.protocol import strict_json
from groat.server.operations.operation import Access

PATH: Final = "/admin/openapi.json"
_PROBLEM: Final = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_STATUSES: Final = {
    "400": "The request cannot be read, or a parameter is unknown.",
    "401": "Nobody is known who asks.",
    "403": "The token lacks the scope, or the user is no operator.",
    "404": "There is no such thing.",
    "405": "The path has no such method.",
    "409": "The change collides with what is registered.",
    "412": "It is no more what If-Match says.",
    "413": "The body is larger than 64 KiB.",
    "415": "The body is no JSON.",
    "422": "The request can be read, and cannot be right.",
    "428": "If-Match is missing.",
    "429": "Too many failures from there.",
    "503": "The store or a key cannot be had now; Retry-After says when.",
}
_BODY: Final = ("413", "415", "422")
_CHANGE: Final = ("409", "422")
_TAGGED: Final = ("412", "428")
_USUAL: Final = ("400", "401", "403", "405", "429", "503")


@cache
def document() -> bytes:
    """The whole description, encoded."""
    return strict_json.dumps(describe(ROWS))


def describe(rows: tuple[Row, ...]) -> dict[str, Any]:
    """The description of these rows."""
    given = [kind for row in rows for kind in (row.gives, _tried(row)) if kind is not None] + [Problem]
    found, components = schemas_of([row.takes for row in rows if row.takes is not None], given)
    paths: dict[str, Any] = {}
    for row in rows:
        paths.setdefault(PREFIX + row.path, {})[row.method.lower()] = _operation(row, found)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "groat admin API",
            "version": groat.__version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The admin listener: admin.listen, or admin.socket."}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An access token of this server: groat admin token. None over the socket.",
                }
            },
        },
    }


def _tried(row: Row) -> Any:
    """What such a row gives with dry_run, where that is something else."""
    return Outcome[row.gives] if row.tries and row.current is None else None  # type: ignore[name-defined]


def _operation(row: Row, found: dict[str, Any]) -> dict[str, Any]:
    written: dict[str, Any] = {
        "operationId": _id(row),
        "summary": row.about,
        "tags": [row.path.split("/")[1]],
        "x-groat-operation": row.operation,
        "x-groat-scope": SCOPES[row.access],
        "parameters": [*_in_path(row), *_in_query(row.query), *(_if_match(row))],
        "responses": _responses(row, found),
    }
    if row.takes is not None:
        kinds = ["application/json", *(["application/merge-patch+json"] if row.method == "PATCH" else [])]
        content = {kind: {"schema": found[repr(row.takes)]} for kind in kinds}
        written["requestBody"] = {"required": True, "content": content}
    return written


def _id(row: Row) -> str:
    """Of the method and the words of the path, so that it stays while operations are renamed."""
    words = [word.strip("{}") for word in row.path.strip("/").replace("-", "_").split("/")]
    verb = {"GET": "get", "POST": "post", "PATCH": "patch", "DELETE": "delete"}[row.method]
    return "_".join([verb, *words])


def _in_path(row: Row) -> list[dict[str, Any]]:
    names = [word.strip("{}") for word in row.path.split("/") if word.startswith("{")]
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in names
    ]


def _in_query(kind: type[Query]) -> list[dict[str, Any]]:
    schema = msgspec.json.schema(kind)["$defs"][kind.__name__]
    return [
        {"name": name, "in": "query", "required": False, "schema": _textual(one)}
        for name, one in schema["properties"].items()
    ]


def _textual(schema: dict[str, Any]) -> dict[str, Any]:
    """In a URL there is no null: a parameter is left out."""
    for one in schema.get("anyOf", ()):
        if one.get("type") != "null":
            return dict(one)
    return schema


def _if_match(row: Row) -> list[dict[str, Any]]:
    if row.current is None:
        return []
    told = "The ETag of what was read, or *; needed unless dry_run is true."
    return [{"name": "If-Match", "in": "header", "required": False, "description": told, "schema": {"type": "string"}}]


def _answer(told: str, schema: Any) -> dict[str, Any]:
    return {"description": told, "content": {"application/json": {"schema": schema}}}


def _place(row: Row) -> tuple[str, ...]:
    return ("Location",) if row.adds else ()


def _responses(row: Row, found: dict[str, Any]) -> dict[str, Any]:
    done = _answer("Done.", found[repr(row.gives)])
    if row.tagged or row.adds or row.current is not None:
        done["headers"] = {name: {"schema": {"type": "string"}} for name in ("ETag", *_place(row))}
    responses: dict[str, Any] = {"201" if row.adds else "200": done}
    if (tried := _tried(row)) is not None:
        would = found[repr(tried)]
        if row.adds:
            responses["200"] = _answer("With dry_run: what would be.", would)
        else:  # one status for both
            both = {"anyOf": [found[repr(row.gives)], would]}
            responses["200"] = _answer("Done, or with dry_run what would be.", both)
    wrong = {*_USUAL, *(_BODY if row.takes is not None else ()), *(_TAGGED if row.current is not None else ())}
    if "{" in row.path or row.query.__struct_fields__:
        wrong.add("404")
    if row.access is Access.WRITE:
        wrong |= {*_CHANGE, "404"}
    elif row.takes is not None or "{" in row.path or row.path == "/clients":
        wrong.add("422")
    for status in sorted(wrong):
        responses[status] = {"description": _STATUSES[status], "content": _PROBLEM}
    return responses
