"""The store on PostgreSQL: any number of replicas on one database, which is the one truth.

Hot writes go through `PostgresWriter`, hot reads are gathered, everything else is one transaction on a connection of
`Links`. Registrations lock the registry's row, so that they come one after the other.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Final

from groat.keys.ring.keyring import SigningKey
from groat.outbound.clocks import Clocks
from groat.protocol.key_limits import KeyLimits
from groat.protocol.models import OneTimeValue
from groat.server.store import (
    OPERATOR_PATIENCE,
    ClientWithKeys,
    Condition,
    Issuance,
    KeyUse,
    Notify,
    Receipt,
    RegistryMoved,
    Rows,
    Spans,
    StoreClosed,
    StoreConflict,
    StoreUnavailable,
    silent,
)
from groat.server.store.gathered import Gathered
from groat.server.store.group_commit import GroupCommit, Limits
from groat.server.store.postgres.contents import fill, read_all, take_time
from groat.server.store.postgres.forgetting import LOWER_HORIZON, RAISE_HORIZON, Forgetting
from groat.server.store.postgres.history import Memory, settle_history
from groat.server.store.postgres.link import CONNECT_SECONDS, Link, Refused, Row, Target
from groat.server.store.postgres.links import Links
from groat.server.store.postgres.registration import (
    EXPIRING,
    LIMIT_KEY,
    LOOK_UP,
    NAMES_KEY,
    NOTE_USES,
    PUBLISHED,
    insert_client_keys,
    refuse_foreign,
    update_clients,
)
from groat.server.store.postgres.schema import has_schema, migrate, open_link
from groat.server.store.postgres.writer import PostgresWriter, prepare_batches
from groat.server.store.records import ApiRecord, ClientKeyRecord, ClientRecord
from groat.server.store.rows import (
    api_record,
    client_document,
    client_key_record,
    client_record,
    published_at,
    replica_name,
    signing_key,
)
from groat.server.turns import Turns

# A statement ends by itself after 0.4 s; whoever is told later than that may have been used up.
LIMITS: Final = Limits(queue_seconds=0.3, total_seconds=0.55)
_CONFLICTS: Final = ("23505", "23503")  # unique violation, foreign key violation


class PostgresStore:
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

    def use_once(self, once: OneTimeValue, issuance: Issuance | None) -> Coroutine[Any, Any, Receipt]:
        return self._front.use_once(once, issuance)

    async def raise_horizon(self, horizon: int) -> None:
        await self._all(RAISE_HORIZON, horizon)

    async def lower_horizon(self, horizon: int, floor: int) -> None:
        await self._all(LOWER_HORIZON, horizon, floor)

    async def forget_expired(self) -> int:
        async with self._transaction(_unavailable) as link:
            return await self._forgetting.forget(link)

    # Reading

    async def registry_version(self) -> int:
        # Whoever asks while another's question is on its way shares the next one: one round trip for any number.
        version = await self._versions.ask(None)
        assert version is not None
        return version

    async def _fetch_version(self, _: Sequence[None]) -> dict[None, int]:
        return {None: _version(await self._all("SELECT version AS registry_version FROM registry"))}

    async def find_client(self, client_id: str) -> ClientRecord | None:
        _, found = await self.look_up(client_id)
        return found[0] if found else None

    async def client_keys(self, client_id: str) -> tuple[ClientKeyRecord, ...]:
        _, found = await self.look_up(client_id)
        return found[1] if found else ()

    async def keys_of_expiring(self, after: int, before: int, clients: int) -> tuple[ClientKeyRecord, ...]:
        return tuple(client_key_record(row) for row in await self._all(EXPIRING, after, before, clients))

    async def look_up(self, client_id: str) -> tuple[int, ClientWithKeys | None]:
        if "\0" in client_id:
            return await self.registry_version(), None  # PostgreSQL has no such text
        found = await self._clients.ask(client_id)
        assert found is not None
        return found

    async def _look_up_all(self, client_ids: Sequence[str]) -> dict[str, tuple[int, ClientWithKeys | None]]:
        rows = await self._all(LOOK_UP, json.dumps(client_ids))
        version = _version(rows)
        found = {row["client_id"]: (client_record(row), _keys(row["keys"])) for row in rows if row["client_id"]}
        return {client_id: (version, found.get(client_id)) for client_id in client_ids}

    async def list_clients(self) -> tuple[ClientRecord, ...]:
        # Ordered by bytes as SQLite does it, whatever collation the database was made with.
        rows = await self._all('SELECT * FROM clients WHERE removed_at IS NULL ORDER BY client_id COLLATE "C"')
        return tuple(client_record(row) for row in rows)

    async def published_at(self, limit: int) -> tuple[str, ...]:
        return published_at(await self._all(PUBLISHED, limit))

    async def list_apis(self) -> tuple[ApiRecord, ...]:
        return tuple(api_record(row) for row in await self._all('SELECT * FROM apis ORDER BY name COLLATE "C"'))

    async def signing_keys(self) -> tuple[SigningKey, ...]:
        rows = await self._all('SELECT * FROM signing_keys ORDER BY activates_at, kid COLLATE "C"')
        return tuple(signing_key(row) for row in rows)

    # Writing

    async def add_api(self, api: ApiRecord) -> None:
        async with self._registration(f"an API with name {api.name} or audience {api.audience} exists") as link:
            await link.query(
                "INSERT INTO apis (name, audience, scopes, created_at) VALUES ($1, $2, $3, $4)",
                api.name, api.audience, json.dumps(api.scopes), api.created_at,
            )  # fmt: skip

    async def update_api(self, api: ApiRecord, clients: Sequence[ClientRecord] = (), seen: int | None = None) -> None:
        async with self._registration(f"an API with audience {api.audience} exists", seen) as link:
            await link.query(
                "UPDATE apis SET audience = $1, scopes = $2 WHERE name = $3",
                api.audience, json.dumps(api.scopes), api.name,
            )  # fmt: skip
            await update_clients(link, clients)

    async def remove_api(self, name: str, clients: Sequence[ClientRecord] = (), seen: int | None = None) -> None:
        async with self._registration("", seen) as link:
            await link.query("DELETE FROM apis WHERE name = $1", name)
            await update_clients(link, clients)

    async def add_client(self, client: ClientRecord, keys: Sequence[ClientKeyRecord]) -> None:
        taken = f"client {client.client_id} exists, or existed (ids are never reassigned)"
        async with self._registration(taken) as link:
            await link.query(
                "INSERT INTO clients (client_id, document, enabled, created_at) VALUES ($1, $2, $3, $4)",
                client.client_id, client_document(client), client.enabled, client.created_at,
            )  # fmt: skip
            await insert_client_keys(link, keys)

    async def update_client(self, client: ClientRecord, seen: int | None = None) -> None:
        async with self._registration("", seen) as link:
            await update_clients(link, (client,))

    async def switch_client(self, client_id: str, *, enabled: bool) -> None:
        # Whatever else was changed meanwhile: who switches a client off wants that, and at once.
        async with self._registration("") as link:
            await link.query("UPDATE clients SET enabled = $1 WHERE client_id = $2", enabled, client_id)

    async def remove_client(self, client_id: str) -> None:
        async with self._registration("") as link:
            # Gone, and not kept like the client: a public key may be registered by whoever holds its private half.
            await link.query("DELETE FROM client_keys WHERE client_id = $1", client_id)
            await link.query(
                "UPDATE clients SET removed_at = extract(epoch FROM clock_timestamp())::bigint, enabled = false "
                "WHERE client_id = $1",
                client_id,
            )

    async def add_client_keys(self, keys: Sequence[ClientKeyRecord]) -> None:
        async with self._registration("") as link:
            await insert_client_keys(link, keys)

    async def limit_client_key(self, client_id: str, kid: str, limits: KeyLimits, seen: int | None = None) -> None:
        async with self._registration("", seen) as link:
            await link.query(LIMIT_KEY, limits.not_before, limits.expires_at, client_id, kid)

    async def remove_client_key(self, client_id: str, kid: str, seen: int | None = None) -> None:
        async with self._registration("", seen) as link:
            await link.query("DELETE FROM client_keys WHERE client_id = $1 AND kid = $2", client_id, kid)

    async def note_key_uses(self, uses: Sequence[KeyUse]) -> None:
        await self._all(NOTE_USES, json.dumps(uses))

    async def names_key(self, kid: str) -> bool:
        # In a transaction, because the longer time that this may take is set for one alone.
        async with self._transaction(_unavailable) as link:
            await take_time(link)
            (row,) = await link.query(NAMES_KEY, kid, seconds=60)
        return bool(row["named"])

    async def save_signing_keys(self, keys: Sequence[SigningKey], seen: int | None = None) -> None:
        async with self._registration("a signing key must not be a client's key", seen) as link:
            for key in keys:
                # A client that holds the private half of a signing key could write tokens for everybody.
                await refuse_foreign(link, "client_keys", key.public.thumbprint)
                await link.query(
                    "INSERT INTO signing_keys VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (kid) DO UPDATE SET "
                    "(thumbprint, jwk, sealed, created_at, activates_at, retires_at, removes_at) = "
                    "($2, $3, $4, $5, $6, $7, $8)",
                    key.kid, key.public.thumbprint, json.dumps(dict(key.public.jwk)), key.sealed,
                    key.created_at, key.activates_at, key.retires_at, key.removes_at,
                )  # fmt: skip

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

    async def raise_floor(self, floor: int) -> None:
        # Versions count on from a number that no replica can remember another registry under.
        await self._all("UPDATE registry SET floor = greatest(floor, $1), version = greatest(version + 1, $1)", floor)

    async def shut(self, at: int | None) -> None:
        async with self._transaction(_unavailable) as link:
            # Waits for every batch under way, and a batch that waits for this lock sees the mark: PostgreSQL takes a
            # statement's snapshot after its table locks.
            await link.query("LOCK TABLE used_once IN SHARE MODE")
            await link.query("UPDATE registry SET closed_at = $1, version = version + 1", at)

    async def read_all(self, table: str) -> AsyncIterator[Rows]:
        async with self._transaction(_unavailable) as link:
            async for rows in read_all(link, table):
                yield rows

    async def fill(self, contents: AsyncIterator[tuple[str, Rows]], version: int, floor: int, horizon: int = 0) -> None:
        async with self._transaction(_misfit) as link:
            await fill(link, contents)
            sql = "UPDATE registry SET version = version + $1, floor = $2, horizon = $3"
            await link.query(sql, version, floor, horizon)

    async def close(self) -> None:
        await self._front.close()
        await self._links.close()

    # Plumbing

    async def _all(self, sql: str, *values: str | bytes | int | None) -> list[Row]:
        async with self._links.link() as link:
            try:
                return await link.query(sql, *values)
            except Refused as error:
                raise StoreUnavailable(f"PostgreSQL: {error}") from None

    @contextlib.asynccontextmanager
    async def _transaction(self, refused: Callable[[Refused], Exception]) -> AsyncIterator[Link]:
        """All or nothing. A connection that breaks at COMMIT leaves it open which: StoreUnavailable says so."""
        async with self._links.link() as link:
            try:
                await link.query("BEGIN")
                yield link
                await link.query("COMMIT")
            except Refused as error:
                await _roll_back(link)
                raise refused(error) from None
            except BaseException:
                await _roll_back(link)
                raise

    @contextlib.asynccontextmanager
    async def _registration(self, conflict: str, seen: int | None = None) -> AsyncIterator[Link]:
        """A change of the registry: its version goes up in the same transaction, so no replica can miss it."""

        def refused(error: Refused) -> Exception:
            if error.sqlstate in _CONFLICTS:
                return StoreConflict(conflict or "the registration collides with another one")
            return _unavailable(error)

        async with self._transaction(refused) as link:
            # The lock on this one row lets changes go one after the other, on every replica.
            (registry,) = await link.query("SELECT version, closed_at FROM registry FOR UPDATE")
            if registry["closed_at"] is not None:
                raise StoreClosed
            if seen is not None and registry["version"] != seen:
                raise RegistryMoved("the registry was changed meanwhile; nothing was done. Try again")
            yield link
            await link.query("UPDATE registry SET version = version + 1")


def _unavailable(error: Refused) -> StoreUnavailable:
    return StoreUnavailable(f"PostgreSQL: {error}")


def _misfit(error: Refused) -> Exception:
    return StoreConflict(f"the contents do not fit: {error}") if error.sqlstate in _CONFLICTS else _unavailable(error)


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
