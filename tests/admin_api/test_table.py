"""The table of the admin API is whole, and its description says what it does."""

import json
import re
from typing import Any, Final

import jsonschema
import pytest

from groat.admin_api.callers import SCOPES
from groat.admin_api.openapi import describe, document
from groat.admin_api.rows import PREFIX, Row
from groat.admin_api.table import NOT_HERE, ROWS
from groat.protocol.client_settings import CLIENT_SETTINGS
from groat.server.operations.operation import Access
from groat.server.operations.table import OPERATIONS
from tests.admin_api.conftest import Admin

DESCRIPTION: Final[dict[str, Any]] = json.loads(document())


def test_every_operation_is_here_or_says_why_not() -> None:
    """One list, several faces: what is added to it must be offered here, or be missed for a reason."""
    assert {row.operation for row in ROWS} | set(NOT_HERE) == set(OPERATIONS)
    assert {row.operation for row in ROWS} & set(NOT_HERE) == set()
    assert all(NOT_HERE.values())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.path}")
def test_a_row_is_as_careful_as_its_operation(row: Row) -> None:
    """Reading needs no more than groat:read; what changes something that exists wants its tag and can be tried."""
    if row.method in ("GET", "HEAD"):
        assert row.access is Access.READ
    if row.method in ("PATCH", "DELETE"):
        assert row.access is Access.WRITE
        assert row.current is not None
        assert row.tries
    if row.row.plan is not None and row.current is not None and not row.path.endswith("/enable"):
        assert row.losses.__name__ != "nobody", "whom it hits is known, and not said"


def test_settings_of_clients_are_all_here() -> None:
    """They come from their table: a new one is in the description, to be read and to be set."""
    schemas = DESCRIPTION["components"]["schemas"]
    offered = {name for name, told in CLIENT_SETTINGS.items() if told.about}
    assert set(CLIENT_SETTINGS) <= set(schemas["ClientDocument"]["properties"])
    assert offered <= set(schemas["NewClient"]["properties"])
    assert offered <= set(schemas["ClientPatch"]["properties"])


def test_the_description_is_whole() -> None:
    """Each row is an operation of it, with a scope; every reference leads somewhere; ids are told apart."""
    operations = {
        (method.upper(), path): one for path, item in DESCRIPTION["paths"].items() for method, one in item.items()
    }
    assert set(operations) == {(row.method, PREFIX + row.path) for row in ROWS}
    ids = [one["operationId"] for one in operations.values()]
    assert len(set(ids)) == len(ids)
    assert {one["x-groat-scope"] for one in operations.values()} == set(SCOPES.values())
    schemas = DESCRIPTION["components"]["schemas"]
    for name in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(DESCRIPTION)):
        assert name in schemas
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(describe(ROWS))) == DESCRIPTION


def test_generators_find_nothing_left_open() -> None:
    """Answers have all of their members, objects without named members are open, enumerations have a type."""
    schemas = DESCRIPTION["components"]["schemas"]
    assert set(schemas["ApiRecord"]["required"]) == set(schemas["ApiRecord"]["properties"])
    assert set(schemas["Loss"]["required"]) == set(schemas["Loss"]["properties"])
    assert set(schemas["Problem"]["properties"]) - set(schemas["Problem"]["required"]) == {"detail"}
    assert schemas["NewApi"]["required"] == ["name", "audience"], "what comes in keeps its defaults"
    assert schemas["NewClientKey"]["properties"]["jwk"]["additionalProperties"] is True
    for name, schema in schemas.items():
        assert schema["type"] in ("object", "string"), name
        assert not re.search(r"\n +", schema["description"]), f"{name}: Markdown reads the indent as code"


def test_a_change_without_a_url_of_its_own_has_two_answers() -> None:
    """Taking tokens back gives what was done, or with dry_run what would be, and the status is the same."""
    answer = DESCRIPTION["paths"][f"{PREFIX}/revocations/all"]["post"]["responses"]["200"]
    names = [one["$ref"].rpartition("/")[2] for one in answer["content"]["application/json"]["schema"]["anyOf"]]
    assert names == ["CutDocument", "Outcome_CutDocument_"]


@pytest.mark.parametrize(("path", "detail"), [("/apis/none", True), ("/overview?x=1", True), ("/none", False)])
def test_problems_are_as_described(admin: Admin, path: str, detail: bool) -> None:
    """With a detail and without one; no member that the schema does not know."""
    answer = admin.over_socket("GET", PREFIX + path)
    schema = DESCRIPTION["components"]["schemas"]["Problem"]
    assert answer.header("content-type") == "application/problem+json"
    jsonschema.validate(answer.json, schema | {"additionalProperties": False})
    assert ("detail" in answer.json) is detail


def test_the_description_is_for_everybody(admin: Admin) -> None:
    """Also for who has no token yet: it says how to get one, and is the same everywhere."""
    answer = admin.over_tcp("GET", "/admin/openapi.json")
    assert (answer.status, answer.json) == (200, DESCRIPTION)


@pytest.mark.parametrize(
    "path", ["/apis", "/apis/orders", "/clients", "/clients/billing", "/clients/billing/keys", "/keys", "/overview"]
)
def test_answers_are_as_described(admin: Admin, path: str) -> None:
    """Each answer fits its schema, with no member that the schema does not know."""
    answer = admin.over_socket("GET", PREFIX + path)
    (row,) = [
        row for row in ROWS
        if row.method == "GET" and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", row.path), path)
    ]  # fmt: skip
    described = DESCRIPTION["paths"][PREFIX + row.path]["get"]["responses"]["200"]
    schema = described["content"]["application/json"]["schema"] | {"components": DESCRIPTION["components"]}
    jsonschema.validate(answer.json, schema)
    name = schema["$ref"].rpartition("/")[2]
    assert set(answer.json) == set(DESCRIPTION["components"]["schemas"][name]["properties"])
