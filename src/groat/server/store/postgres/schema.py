"""The schema on PostgreSQL: numbered SQL files, run once each under an advisory lock; and what a connection must find.

A migration only adds what the version before can live with, so that both serve during a rolling upgrade: the table
groat_schema names the oldest program that still works with the schema.
"""

from importlib import resources
from typing import Final

from groat.server.store import StoreUnavailable
from groat.server.store.postgres.link import STATEMENT_MS, Link, Refused, Row, Target

SCHEMA_VERSION: Final = 4
LOCK_KEY: Final = 0x67726F6174  # "groat"
MIGRATION_LOCK_MS: Final = 2000
MIGRATION_SECONDS: Final = 60.0

_SETTINGS: Final = """
SELECT pg_is_in_recovery() AS standby, current_setting('transaction_read_only') AS read_only,
    current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes, current_setting('server_version_num')::int AS server,
    set_config('synchronous_commit',
        CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('statement_timeout', $1, false),
    set_config('idle_in_transaction_session_timeout', '2000', false),
    set_config('client_min_messages', 'error', false),
    set_config('jit', 'off', false),  -- every statement here is short; to compile one takes 100 ms
    to_regclass('groat_schema') IS NOT NULL AS made
"""


class Unsafe(StoreUnavailable):
    """This database cannot keep what it is told, or is not ours to write to."""


class SchemaMissing(StoreUnavailable):
    """The schema is not there, or of a version that this program does not work with."""


async def open_link(target: Target, *, with_schema: bool = True) -> Link:
    """Connect, make the session durable, and check what it stands on. Raises StoreUnavailable."""
    link = Link(await target.connect(), target.patience)
    try:
        (found,) = await link.query(_SETTINGS, str(STATEMENT_MS * target.patience))
        _check_durable(found)
        if with_schema:
            await _check_schema(link, made=found["made"])
    except Refused as error:
        link.close()
        raise StoreUnavailable(f"PostgreSQL: {error}") from None
    except BaseException:
        link.close()
        raise
    return link


def _check_durable(found: Row) -> None:
    if found["standby"]:
        raise Unsafe("PostgreSQL: this server is a standby; storage.url must name the primary")
    if found["read_only"] != "off":
        raise Unsafe("PostgreSQL: this database takes no writes (default_transaction_read_only)")
    for setting in ("fsync", "full_page_writes"):
        if found[setting] != "on":
            raise Unsafe(f"PostgreSQL runs with {setting}=off and would forget used assertions in a crash; turn it on")
    if found["server"] < 130000:
        raise Unsafe("PostgreSQL 13 or newer is needed")


async def _check_schema(link: Link, *, made: bool) -> None:
    if not made:
        raise SchemaMissing("the database has no groat schema. Run: groat init --issuer URL --database URL")
    (schema,) = await link.query("SELECT version, compatible_from FROM groat_schema")
    if schema["version"] < SCHEMA_VERSION:
        raise SchemaMissing(
            f"the database has schema {schema['version']}, this version needs {SCHEMA_VERSION}. Run: groat init"
        )
    if schema["compatible_from"] > SCHEMA_VERSION:
        raise SchemaMissing(
            f"the database has schema {schema['version']}, which needs a newer groat: this one knows {SCHEMA_VERSION}"
        )


async def has_schema(target: Target) -> bool:
    """Whether there is a schema of ours, of whatever version. Raises StoreUnavailable."""
    link = await open_link(target, with_schema=False)
    try:
        return await _version(link) > 0
    finally:
        link.close()


async def migrate(target: Target) -> bool:
    """Bring the schema up to date; returns whether anything had to be done. Raises StoreUnavailable."""
    link = await open_link(target, with_schema=False)
    try:
        return await _migrate(link)
    except Refused as error:
        if error.sqlstate == "55P03":
            raise StoreUnavailable("another process holds the migration lock. Try again") from None
        raise StoreUnavailable(f"PostgreSQL: {error}") from None
    finally:
        link.close()


async def _migrate(link: Link) -> bool:
    await link.query(
        f"SELECT set_config('statement_timeout', '{int(MIGRATION_SECONDS * 1000)}', false), "
        f"set_config('lock_timeout', '{MIGRATION_LOCK_MS}', false)"
    )
    # Before the transaction begins, so that it sees what the one before made. The lock goes with the connection.
    await link.query("SELECT pg_advisory_lock($1)", LOCK_KEY, seconds=MIGRATION_LOCK_MS / 1000 + 1)
    await link.query("BEGIN")
    current = await _version(link)
    for number in range(current + 1, SCHEMA_VERSION + 1):
        script = resources.files("groat.server.store").joinpath(f"migrations/postgres-{number:04}.sql").read_text()
        for statement in script.split(";\n"):
            if statement.strip():
                await link.query(statement, seconds=MIGRATION_SECONDS)
        await link.query("UPDATE groat_schema SET version = $1", number)
    await link.query("COMMIT")
    return current < SCHEMA_VERSION


async def _version(link: Link) -> int:
    (found,) = await link.query("SELECT to_regclass('groat_schema') IS NOT NULL AS made")
    if not found["made"]:
        return 0
    (schema,) = await link.query("SELECT version FROM groat_schema")
    return int(schema["version"])
