"""From the schema before to this one, while programs of the version before go on: what they do still works."""

import asyncio
import json
import sqlite3
import time
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from groat.protocol.binding import Binding
from groat.server.store import Spans, StoreUnavailable
from groat.server.store.changes import ReplaceApi
from groat.server.store.postgres.link import Target
from groat.server.store.postgres.schema import migrate
from groat.server.store.postgres.store import PostgresStore
from groat.server.store.records import ApiRecord
from groat.server.store.sqlite.store import SCHEMA_VERSION, SqliteStore
from tests.postgres import GivenServer, PostgresServer
from tests.server.store.places import DEED

NOW: Final = 1_700_000_000
# As the version before wrote them.
DOCUMENT: Final = json.dumps(
    {"allow": {"orders": ["read"]}, "default_scopes": [], "grant_types": ["client_credentials"],
     "assertion_audience": "issuer", "max_assertion_lifetime": None, "signing_alg": None, "strict_typ": False}
)  # fmt: skip
API: Final = ("orders", "https://orders.example", '["read"]', NOW)
ADD_API: Final = "INSERT INTO apis (name, audience, scopes, created_at) VALUES (?, ?, ?, ?)"
ADD_CLIENT: Final = "INSERT INTO clients (client_id, document, enabled, created_at) VALUES (?, ?, ?, ?)"
REPLACE_API: Final = "UPDATE apis SET audience = ?, scopes = ? WHERE name = ?"
REPLACE_CLIENT: Final = "UPDATE clients SET document = ? WHERE client_id = ?"
FIRST: Final = resources.files("groat.server.store").joinpath("migrations")


def _statements(engine: str) -> list[str]:
    return [part for part in FIRST.joinpath(f"{engine}-0001.sql").read_text().split(";\n") if part.strip()]


async def _seen(store: SqliteStore | PostgresStore) -> tuple[Any, Any, Any]:
    (api,) = await store.list_apis()
    clients = {one.client_id: one.settings.token_lifetime for one in await store.list_clients()}
    return api, clients, await store.unused_since()


def _check_upgraded(api: ApiRecord, clients: dict[str, Any], since: dict[str, int], began: float) -> None:
    """The bound of the API stays, though the version before replaced the API; who was there counts from the upgrade."""
    assert api == ApiRecord("orders", "https://orders.example/v2", ("read", "write"), NOW, 90, Binding.DPOP)
    assert clients == {"before": None, "after": None}
    assert began - 2 <= since["before"] <= time.time() + 2
    assert since["after"] == NOW


@pytest.mark.rule("F14")
def test_a_file_of_the_version_before(tmp_path: Path) -> None:
    """A connection that was open before reads and writes on as it did; this version asks for `groat init` until then."""
    path, began = tmp_path / "groat.db", time.time()
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("PRAGMA journal_mode=WAL")
        for statement in _statements("sqlite"):
            old.execute(statement)
        old.execute("PRAGMA user_version=1")
        old.execute(ADD_API, API)
        old.execute(ADD_CLIENT, ("before", DOCUMENT, 1, NOW))
        old.row_factory = sqlite3.Row
        assert old.execute("SELECT * FROM apis ORDER BY name").fetchall()[0]["scopes"] == '["read"]'
        with pytest.raises(StoreUnavailable, match=f"has schema 1, this version needs {SCHEMA_VERSION}: groat init"):
            SqliteStore.open(path)

        async def work() -> tuple[Any, Any, Any]:
            store = SqliteStore.create(path)
            await store.change(DEED, None, [ReplaceApi(ApiRecord(*API[:2], ("read",), NOW, 90, Binding.DPOP))])
            row = old.execute("SELECT * FROM apis ORDER BY name").fetchone()
            assert (row["scopes"], row["created_at"]) == ('["read"]', NOW)
            old.execute(REPLACE_API, ("https://orders.example/v2", '["read", "write"]', "orders"))
            old.execute(ADD_CLIENT, ("after", DOCUMENT, 1, NOW))
            old.execute(REPLACE_CLIENT, (DOCUMENT, "before"))
            seen = await _seen(store)
            await store.close()
            return seen

        _check_upgraded(*asyncio.run(work()), began)


@pytest.mark.rule("F14")
def test_a_database_of_the_version_before(postgres: PostgresServer | GivenServer) -> None:
    """The same on PostgreSQL, where the version before may also come anew: the schema says that it is welcome."""
    url, began = postgres.database(), time.time()
    with psycopg.connect(url, autocommit=True) as old:
        for statement in _statements("postgres"):
            old.execute(statement)  # type: ignore[call-overload]
        old.execute("UPDATE groat_schema SET version = 1")

        def say(statement: str, *values: Any) -> list[Any]:
            cursor = old.execute(statement.replace("?", "%s"), values)  # type: ignore[call-overload]
            return list(cursor.fetchall()) if cursor.description else []

        say(ADD_API, *API)
        say(ADD_CLIENT, "before", DOCUMENT, True, NOW)

        async def work() -> tuple[Any, Any, Any]:
            assert await migrate(Target(url))
            store = PostgresStore(url, Spans())
            await store.change(DEED, None, [ReplaceApi(ApiRecord(*API[:2], ("read",), NOW, 90, Binding.DPOP))])
            say(REPLACE_API, "https://orders.example/v2", '["read", "write"]', "orders")
            say(ADD_CLIENT, "after", DOCUMENT, True, NOW)
            say(REPLACE_CLIENT, DOCUMENT, "before")
            seen = await _seen(store)
            await store.close()
            return seen

        _check_upgraded(*asyncio.run(work()), began)
        ((version, compatible_from),) = say("SELECT version, compatible_from FROM groat_schema")
        assert (version, compatible_from <= 1) == (SCHEMA_VERSION, True)
