"""The store on PostgreSQL: any number of replicas on one database, which is the one truth.

Hot writes go through `PostgresWriter`, hot reads are gathered, everything else is one transaction on a connection of
`Links`. Registrations lock the registry's row, so that they come one after the other.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, Final

from groat.outbound.clocks import Clocks
from groat.protocol.models import OneTimeValue
from groat.protocol.revocation import RevokedToken
from groat.server.store import (
    OPERATOR_PATIENCE,
    ClientWithKeys,
    Condition,
    Issuance,
    KeyUse,
    Notify,
    Owned,
    Receipt,
    Rows,
    Spans,
    StoreClosed,
    StoreUnavailable,
    silent,
)
from groat.server.store import registry_sql as sql
from groat.server.store.changes import Value
from groat.server.store.gathered import Gathered
from groat.server.store.group_commit import GroupCommit, Limits
from groat.server.store.postgres.contents import read_all
from groat.server.store.postgres.forgetting import Forgetting
from groat.server.store.postgres.history import Memory, settle_history
from groat.server.store.postgres.link import CONNECT_SECONDS, Link, Refused, Row, Target
from groat.server.store.postgres.links import Links
from groat.server.store.postgres.schema import has_schema, migrate, open_link
from groat.server.store.postgres.transaction import PostgresTransaction, keep_others_out, take_time
from groat.server.store.postgres.writer import PostgresWriter, prepare_batches
from groat.server.store.records import ClientKeyRecord, Lease, LeaseWish
from groat.server.store.registrations import Registrations
from groat.server.store.registry_sql import Statement
from groat.server.store.rows import client_key_record, client_record, replica_name
from groat.server.turns import Turns

# A statement ends by itself after 0.4 s; whoever is told later than that may have been used up.
LIMITS: Final = Limits(queue_seconds=0.3, total_seconds=0.55)
# One row at least, for the version: without a client in it where none of these is registered. LIMIT 1 is for the
# planner: it thinks that a table nobody has analyzed has hundreds of rows, and compiles the query for 100 ms.
_LOOK_UP: Final = """
SELECT r.version AS registry_version, c.*,
       coalesce((SELECT json_agg(k ORDER BY k.created_at, k.kid COLLATE "C") FROM client_keys AS k
                 WHERE k.client_id = c.client_id), '[]') AS keys
FROM (SELECT version FROM registry LIMIT 1) AS r
LEFT JOIN (json_array_elements_text($1::json) AS wanted (id)
           JOIN clients AS c ON c.client_id = wanted.id AND c.removed_at IS NULL) ON true
"""


# One statement; whoever repeats it wakes nobody.
_REVOKE_TOKEN: Final = f"""
WITH raised AS (
    UPDATE revocation_feed SET seq = greatest(seq + 1, $3::bigint * 1000)
    WHERE NOT EXISTS (SELECT FROM revoked_tokens WHERE digest = $1)
){sql.REVOKE_TOKEN.postgres}"""


class PostgresStore(Registrations):
    """A Store in one database. Raises StoreUnavailable where PostgreSQL cannot answer; see `Store` for the methods.

    Connects at the first use, on the loop that runs then.
    """

    def __init__(
        self,
        url: str,
        spans: Spans = Spans(),  # noqa: B008 - frozen
        notify: Notify = silent,
        *,
        clocks: Clocks = Clocks(),  # noqa: B008 - frozen
        limits: Limits = LIMITS,
        patience: int = 1,
    ) -> None:
        """`url`: may hold a password. `patience`: how many times as long as a token request everything may take."""
        self._target = Target(url, replica_name(), patience)
        self._clock = clocks.now
        self._notify = notify
        self._memory = Memory(spans.clock_tolerance, clocks.now)
        self._forgetting = Forgetting(clocks.monotonic)
        self._links = Links(self._open_link, notify)
        self._writer = PostgresWriter(self._links, self._memory, self._target.replica, spans.retention)
        self._front = GroupCommit(self._writer, limits)
        self._versions: Gathered[None, int] = Gathered(self._fetch_version)
        self._clients: Gathered[str, tuple[int, ClientWithKeys | None]] = Gathered(self._look_up_all)

    async def _open_link(self, for_batches: bool) -> Link:
        """A connection that is known to lead to the database of the others, or to one whose going back was noticed."""
        link = await open_link(self._target)
        try:
            if for_batches:
                await prepare_batches(link)
            if floor := await settle_history(link, self._memory):
                self._notify("store.went_back", {"floor": floor, "hint": "older assertions are refused; see docs"})
        except BaseException as error:
            link.close()
            if isinstance(error, Refused):
                raise _unavailable(error) from None
            raise
        return link

    @classmethod
    async def create(cls, url: str) -> "PostgresStore":
        """Bring the schema up to date; safe to repeat, and for many processes at once."""
        store = cls(url, patience=OPERATOR_PATIENCE)
        await store.migrate()
        return store

    async def migrate(self) -> bool:
        """Bring the schema up to date; returns whether anything had to be done."""
        return await migrate(self._target)

    async def is_made(self) -> bool:
        """Whether the database has a schema of ours, of whatever version."""
        return await has_schema(self._target)

    # Single use

    def wait_for(self, turns: Turns) -> None:
        """Let a batch wait for the requests that are between two phases there, on their way to `use_once`."""
        self._front.turns = turns

    def use_once(
        self,
        once: OneTimeValue,
        issuance: Issuance | None,
        proof: OneTimeValue | None = None,
        owned: Owned | None = None,
    ) -> Coroutine[Any, Any, Receipt]:
        return self._front.use_once(once, issuance, proof, owned)

    async def raise_horizon(self, horizon: int) -> None:
        await self._all(sql.RAISE_HORIZON.postgres, horizon)

    async def forget_expired(self) -> int:
        async with self._begun() as link:
            return await self._forgetting.forget(link)

    async def revoke_token(self, token: RevokedToken) -> None:
        if not await self._all(_REVOKE_TOKEN, *token.row):
            raise StoreClosed

    async def lease(self, wish: LeaseWish) -> Lease:
        rows = await self._all(sql.LEASE.postgres, *wish[:4]) or await self._all(sql.OPEN_LIST.postgres, *wish)
        if not rows:
            raise StoreClosed
        return Lease(rows[0]["list_id"], rows[0]["start"], wish.size, rows[0]["closes_at"])

    # Reading

    async def registry_version(self) -> int:
        # Whoever asks while another's question is on its way shares the next one: one round trip for any number.
        version = await self._versions.ask(None)
        assert version is not None
        return version

    async def _fetch_version(self, _: Sequence[None]) -> dict[None, int]:
        return {None: _version(await self._all("SELECT version AS registry_version FROM registry"))}

    async def look_up(self, client_id: str) -> tuple[int, ClientWithKeys | None]:
        if "\0" in client_id:
            return await self.registry_version(), None  # PostgreSQL has no such text
        found = await self._clients.ask(client_id)
        assert found is not None
        return found

    async def _look_up_all(self, client_ids: Sequence[str]) -> dict[str, tuple[int, ClientWithKeys | None]]:
        rows = await self._all(_LOOK_UP, json.dumps(client_ids))
        version = _version(rows)
        found = {row["client_id"]: (client_record(row), _keys(row["keys"])) for row in rows if row["client_id"]}
        return {client_id: (version, found.get(client_id)) for client_id in client_ids}

    async def _rows(self, statement: Statement, *values: Value) -> list[Row]:
        return await self._all(statement.postgres, *values)

    async def note_key_uses(self, uses: Sequence[KeyUse]) -> None:
        for statement in (sql.NOTE_USES.postgres, sql.NOTE_CLIENTS.postgres):
            await self._all(statement, json.dumps(uses))

    async def names_key(self, kid: str) -> bool:
        return bool((await self._beside(sql.NAMES_KEY, kid))["named"])

    async def latest_issuance(self) -> int:
        return int((await self._beside(sql.LATEST_ISSUANCE))["latest"])

    async def issued_to(self, clients: Sequence[str]) -> Sequence[tuple[str, str, int]]:
        rows = await self._all_beside(sql.ISSUED_TO, json.dumps(clients))
        return [(row["client_id"], row["token_id"], row["issued_at"]) for row in rows]

    async def _beside(self, statement: Statement, *values: Value) -> Row:
        """The one row of a question that reads much."""
        (row,) = await self._all_beside(statement, *values)
        return row

    async def _all_beside(self, statement: Statement, *values: Value) -> Sequence[Row]:
        # In a transaction, because the longer time that this may take is set for one alone.
        async with self._begun() as link:
            await take_time(link)
            return await link.query(statement.postgres, *values, seconds=60)

    # As a whole

    async def condition(self) -> Condition:
        self._front.started()
        await self._writer.connected(CONNECT_SECONDS)
        await self._writer.check_writing()
        began = self._clock()
        (row,) = await self._all(
            "SELECT version, floor, horizon, closed_at, extract(epoch FROM clock_timestamp())::float8 AS now "
            "FROM registry"
        )
        # The middle of the round trip is when the database most likely looked at its clock.
        offset = row["now"] - (began + self._clock()) / 2
        return Condition(row["version"], row["floor"], row["horizon"], row["closed_at"], offset)

    async def read_all(self, table: str) -> AsyncIterator[Rows]:
        async with self._begun() as link:
            async for rows in read_all(link, table):
                yield rows

    async def close(self) -> None:
        await self._front.close()
        await self._links.close()

    # Plumbing

    async def _all(self, text: str, *values: Value) -> list[Row]:
        async with self._links.link() as link:
            try:
                return await link.query(text, *values)
            except Refused as error:
                raise StoreUnavailable(f"PostgreSQL: {error}") from None

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[PostgresTransaction]:
        async with self._begun() as link:
            yield PostgresTransaction(link)

    @contextlib.asynccontextmanager
    async def _filling(self) -> AsyncIterator[PostgresTransaction]:
        async with self._begun() as link:
            await keep_others_out(link)
            yield PostgresTransaction(link)

    @contextlib.asynccontextmanager
    async def _shutting(self) -> AsyncIterator[PostgresTransaction]:
        async with self._begun() as link:
            # The registry first, as with every change, so that nobody waits in a circle.
            await link.query(sql.IN_FORCE.postgres)
            # Waits for every batch under way and every token that is being taken back, and what waits for this lock
            # sees the mark: PostgreSQL takes a statement's snapshot after its table locks.
            await link.query("LOCK TABLE used_once, revoked_tokens IN SHARE MODE")
            yield PostgresTransaction(link)

    @contextlib.asynccontextmanager
    async def _begun(self) -> AsyncIterator[Link]:
        """A connection in a transaction. One that breaks at COMMIT leaves it open which: StoreUnavailable says so."""
        async with self._links.link() as link:
            try:
                await link.query("BEGIN")
                yield link
                await link.query("COMMIT")
            except Refused as error:
                await _roll_back(link)
                raise _unavailable(error) from None
            except BaseException:
                await _roll_back(link)
                raise


def _unavailable(error: Refused) -> StoreUnavailable:
    return StoreUnavailable(f"PostgreSQL: {error}")


async def _roll_back(link: Link) -> None:
    """Back to where the next one may begin; a connection of which that is not sure goes."""
    if link.lost is None:
        try:
            await link.query("ROLLBACK")
        except BaseException:
            link.close()
            raise


def _version(rows: Sequence[Row]) -> int:
    """That of the registry, which the first row has. Raises StoreUnavailable where there is none."""
    if not rows:
        raise StoreUnavailable("PostgreSQL: the registry is empty: this database was restored in part only")
    return int(rows[0]["registry_version"])


def _keys(document: str) -> tuple[ClientKeyRecord, ...]:
    return tuple(client_key_record(row) for row in json.loads(document))
