"""The writer of the PostgreSQL store: a batch is one statement, one round trip, one durable transaction.

A batch with proofs is another statement, and still one: it inserts those proofs whose first value was new.

The statement inserts what is new, and reads version, floor and horizon of the registry from the same snapshot. That
snapshot is taken after every request of the batch arrived, so a change that was committed before a request was made
is always seen by it. Of two transactions with the same digest the second waits for the first and then finds it there.
"""

import asyncio
import time
from typing import Final

from psycopg.pq.abc import PGresult

from groat.protocol.models import OneTimeKind
from groat.server.store import StoreClosed, StoreUnavailable
from groat.server.store.group_commit import GroupCommit, Use, Written, use_of_owner, use_of_proof
from groat.server.store.postgres.history import FILENODE, Memory
from groat.server.store.postgres.link import (
    ANSWER_SECONDS,
    BIGINT,
    BYTEA,
    TEXT,
    Link,
    LinkLost,
    Refused,
    array_of,
    array_of_bigint,
    checked,
    texts,
)
from groat.server.store.postgres.links import Links

LANES: Final = 2
_NAME, _WITH_PROOFS, _WITH_OWNERS = b"use_once", b"use_once_with_proofs", b"use_once_with_owners"
_BYTEAS, _TEXTS, _BIGINTS = 1001, 1009, 1016

# Time-outs, deadlocks, a moment without memory: the statement failed, the next may not. A full disk is another matter.
_PASSING: Final = ("57014", "55P03", "40P01", "40001", "53200")
_OPEN, _CLOSED = b"\0\0\0\0", b"\0\0\0\1"
_INSERT: Final = "INSERT INTO used_once (digest, client_id, token_id, kid, issued_at, replica, expires_at)"
_STATE: Final = f"""
WITH state AS MATERIALIZED (
    SELECT version, floor, horizon,
        CASE WHEN closed_at IS NOT NULL THEN 1 WHEN filenode <> {FILENODE} THEN 2 ELSE 0 END AS state
    FROM registry
)"""
_REMEMBERED: Final = "> (SELECT horizon FROM state WHERE state = 0)"


def _fresh(more: str = "", names: str = "", condition: str = "") -> str:
    """The values of a batch. `more`: further arrays of it by their `names`, and what must be so of them."""
    # The conflict names its column: while a dump is being restored there is no primary key, and this must fail then.
    # Sorted, so that two batches that share values wait for each other in one order and never in a circle.
    return f"""fresh AS (
    {_INSERT}
    SELECT digest, client_id, token_id, kid, issued_at, $7, greatest(expires_at, issued_at + $8)
    FROM unnest($1, $2, $3, $4, $5, $6{more}) AS u (digest, client_id, token_id, kid, issued_at, expires_at{names})
    WHERE expires_at {_REMEMBERED}{condition}
    ORDER BY digest
    ON CONFLICT (digest) DO NOTHING
    RETURNING token_id, client_id, issued_at
)"""


_RESULT: Final = """
SELECT version, floor, horizon, state, inserted, CASE WHEN inserted < cardinality($1) THEN won END
FROM state, (SELECT count(*) AS inserted, array_agg(token_id) AS won FROM fresh) AS result
"""
_SQL: Final = f"{_STATE}, {_fresh()}{_RESULT}".encode()
_TYPES: Final = (_BYTEAS, _TEXTS, _TEXTS, _TEXTS, _BIGINTS, _BIGINTS, TEXT, BIGINT)
# Sorting takes all of what is fresh before the first proof is inserted: every batch waits for values first and then for
# proofs, each in their order, and so never in a circle.
_PROVEN: Final = f"""proven AS (
    {_INSERT}
    SELECT p.digest, client_id, '{OneTimeKind.PROOF} ' || token_id, '', issued_at, $7,
        greatest(p.expires_at, issued_at + $8)
    FROM unnest($9, $10, $11) AS p (digest, token_id, expires_at) JOIN fresh USING (token_id)
    WHERE p.expires_at {_REMEMBERED}
    ORDER BY p.digest
    ON CONFLICT (digest) DO NOTHING
    RETURNING token_id
)
SELECT everything.*, (SELECT array_agg(token_id) FROM proven) FROM ({_RESULT}) AS everything
"""
_SQL_WITH_PROOFS: Final = f"{_STATE}, {_fresh()}, {_PROVEN}".encode()
_TYPES_WITH_PROOFS: Final = (*_TYPES, _BYTEAS, _TEXTS, _BIGINTS)
# Owners come before all values, and a sum of them is asked for, which takes all. DO UPDATE changes nothing: of a row
# that another batch has just committed it alone tells what stands there. It takes one row of a batch for each value.
_OWNERS: Final = f"""owners AS (
    {_INSERT}
    SELECT DISTINCT ON (digest) digest, client_id, owner, '', issued_at, $7, greatest(expires_at, issued_at + $8)
    FROM unnest($2, $5, $12, $13, $14) WITH ORDINALITY AS o (client_id, issued_at, digest, owner, expires_at, n)
    WHERE digest <> '' AND expires_at {_REMEMBERED}
    ORDER BY digest, n
    ON CONFLICT (digest) DO UPDATE SET token_id = used_once.token_id
    RETURNING encode(digest, 'hex') || token_id AS pair
)"""
_OWNING: Final = """
        AND (owned = '' OR encode(owned, 'hex') || owner = ANY ((SELECT array_agg(pair) FROM owners)::text[]))"""
_SQL_WITH_OWNERS: Final = f"{_STATE}, {_OWNERS}, {_fresh(', $12, $13', ', owned, owner', _OWNING)}, {_PROVEN}".encode()
_TYPES_WITH_OWNERS: Final = (*_TYPES_WITH_PROOFS, _BYTEAS, _TEXTS, _BIGINTS)
RESULTS: Final = 6  # columns of a batch without proofs
FRESH_SECONDS: Final = 2.0  # a write that is younger needs no other one to prove it
# More than a page takes, so that the table has to grow; rolled back.
_TRIAL: Final = """
INSERT INTO used_once (digest, client_id, token_id, kid, issued_at, replica, expires_at)
SELECT sha256((random()::text || n)::bytea), 'trial', 'trial', 'trial', 0, 'trial', 0
FROM generate_series(1, $1::int) AS n
"""
TRIAL_ROWS: Final = 64
_PREPARED_ALREADY: Final = "42P05"
_SHARED: Final = "PostgreSQL: this connection is not ours alone; a pooler must be in session mode (pool_mode = session)"


async def prepare_batches(link: Link) -> None:
    """Make the connection take batches; fails where the tables are not what we write to.

    Raises Refused, StoreUnavailable.
    """
    try:
        await link.prepare(_NAME, _SQL, _TYPES)
        await link.prepare(_WITH_PROOFS, _SQL_WITH_PROOFS, _TYPES_WITH_PROOFS)
        await link.prepare(_WITH_OWNERS, _SQL_WITH_OWNERS, _TYPES_WITH_OWNERS)
    except Refused as error:
        if error.sqlstate == _PREPARED_ALREADY:
            raise StoreUnavailable(_SHARED) from None
        raise
    # An empty batch: what can only be found out by planning and running, such as a missing primary key, shows now.
    none = [array_of(BYTEA, []), *(array_of(TEXT, []),) * 3, *(array_of_bigint([]),) * 2]
    await link.run_prepared(_NAME, [*none, b"", bytes(8)])
    second = none[0], none[1], none[4]
    await link.run_prepared(_WITH_PROOFS, [*none, b"", bytes(8), *second])
    await link.run_prepared(_WITH_OWNERS, [*none, b"", bytes(8), *second, *second])
    await try_writing(link, TRIAL_ROWS)


async def try_writing(link: Link, rows: int = 1) -> None:
    """Find out whether rows can be written, and leave none. Raises Refused.

    Not found out: whether the log can be flushed; PostgreSQL itself does not survive that it cannot.
    """
    await link.query("BEGIN")
    try:
        await link.query(_TRIAL, rows)
    finally:
        if link.lost is None:
            await link.query("ROLLBACK")


class WentBack(StoreUnavailable):
    """The database is not the one that the connection was checked against; nothing was written."""


class PostgresWriter:
    """A `Writer` on connections of its own, so that no other statement ever stands before a batch."""

    def __init__(self, links: Links, memory: Memory, replica: str, retention: int) -> None:
        self._links = links
        self._memory = memory
        self._replica = replica.encode()
        self._kept_for = retention
        self._retention = retention.to_bytes(8, "big")  # as it goes over the wire, once and not for every batch
        self._wrote = float("-inf")  # monotonic
        self._free: list[Link] = []
        self._busy: dict[int, Link] = {}
        self._front: GroupCommit | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        self._closed = False
        links.on_up.append(self._connect)

    def start(self, front: GroupCommit) -> None:
        self._front = front
        self._connect()

    def check(self) -> None:
        if not self._links.up:
            raise self._links.refusal()

    async def connected(self, seconds: float) -> None:
        """Wait until a batch could be sent. Raises StoreUnavailable when that takes longer."""
        if self._connecting and not self.lanes():
            await asyncio.wait([*self._connecting], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        self.check()
        if not self.lanes():
            raise StoreUnavailable("no connection to the database yet")

    async def check_writing(self) -> None:
        """Find out whether rows can be written, unless that was shown a moment ago. Raises StoreUnavailable."""
        if time.monotonic() - self._wrote < FRESH_SECONDS:
            return  # a batch that was written proves more than a trial would
        async with self._links.link() as link:
            try:
                await try_writing(link)
            except Refused as error:
                # What passes by itself (a lock, a cancelled statement) says nothing about the next request.
                unavailable = StoreUnavailable(f"PostgreSQL: {error}")
                if error.sqlstate not in _PASSING:
                    self._links.trip(str(unavailable))
                raise unavailable from None
        self._wrote = time.monotonic()

    def catch_up(self) -> None:
        for link in list(self._busy.values()):
            link.catch_up()

    def lanes(self) -> int:
        return len(self._free) + len(self._busy)

    def write(self, batch: list[Use]) -> None:
        link = self._free.pop()
        self._busy[id(batch)] = link
        bound = [use for use in batch if use.proof is not None]
        if any(use.owned is not None for use in batch):
            future = link.send_prepared(_WITH_OWNERS, [*self._values(batch), *_proofs(bound), *_owners(batch)])
        elif bound:
            future = link.send_prepared(_WITH_PROOFS, [*self._values(batch), *_proofs(bound)])
        else:
            future = link.send_prepared(_NAME, self._values(batch))
        timer = asyncio.get_running_loop().call_later(ANSWER_SECONDS, link.give_up)

        def answered(future: "asyncio.Future[PGresult]") -> None:
            timer.cancel()
            self._answer(batch, future)

        future.add_done_callback(answered)

    def _values(self, batch: list[Use]) -> list[bytes]:
        uses = [(use.once, use.issuance) for use in batch]
        keep = max([issuance.keep for _, issuance in uses])  # of all of the batch: longer does no harm
        return [
            array_of(BYTEA, [once.digest for once, _ in uses]),
            array_of(TEXT, [issuance.client_id.encode() for _, issuance in uses]),
            array_of(TEXT, [issuance.token_id.encode() for _, issuance in uses]),
            array_of(TEXT, [issuance.kid.encode() for _, issuance in uses]),
            array_of_bigint([issuance.issued_at for _, issuance in uses]),
            array_of_bigint([once.expires_at for once, _ in uses]),
            self._replica,
            self._retention if keep <= self._kept_for else keep.to_bytes(8, "big"),
        ]

    def _answer(self, batch: list[Use], future: "asyncio.Future[PGresult]") -> None:
        assert self._front is not None
        link = self._busy.pop(id(batch))
        if link.lost is None and not self._closed:
            self._free.append(link)
        try:
            result = _written(batch, checked(future.result()))
        except Refused as error:
            unavailable = StoreUnavailable(f"PostgreSQL: {error}")
            if error.sqlstate not in _PASSING:
                self._check_anew(link, unavailable)
            self._front.refused(batch, unavailable)
        except WentBack as error:
            self._check_anew(link, error)
            self._front.refused(batch, error)
        except LinkLost as error:
            self._lost(error)
            self._front.refused(batch, error)
        except StoreUnavailable as error:
            self._front.refused(batch, error)
        else:
            last = batch[-1]  # what stands there now, whoever was first: of what another owns that alone
            known = last.once if last.owned is None else last.owned.value
            self._memory.note(known.digest, known.expires_at)
            if any(result.fresh):
                self._wrote = time.monotonic()
            self._front.written(batch, result)

    def _check_anew(self, link: Link, error: StoreUnavailable) -> None:
        """Nothing that this connection was checked for may hold any more (read-only, another schema or past)."""
        link.close()
        self._free = [free for free in self._free if free is not link]
        self._lost(error)

    def _lost(self, error: StoreUnavailable) -> None:
        assert self._front is not None
        if not self._closed:
            self._links.trip(str(error))
            if not self.lanes():
                self._front.refuse_all(error)

    def _lost_idle(self, link: Link) -> None:
        if link in self._free:
            self._free.remove(link)
            self._lost(link.loss())

    def _connect(self) -> None:
        """Get the lanes that are missing, in the background."""
        loop = asyncio.get_running_loop()
        for _ in range(LANES - self.lanes() - len(self._connecting)):
            task = loop.create_task(self._add_lane())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _add_lane(self) -> None:
        assert self._front is not None
        try:
            link = await self._links.open()
        except StoreUnavailable as error:
            self._front.refuse_all(error)
            return
        self._wrote = time.monotonic()  # to find out was part of connecting
        link.on_loss = lambda: self._lost_idle(link)
        self._free.append(link)
        self._front.write_next()

    async def close(self) -> None:
        self._closed = True
        for task in list(self._connecting):
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for link in (*self._free, *self._busy.values()):
            link.close()


def _proofs(uses: list[Use]) -> list[bytes]:
    rows = [use_of_proof(use) for use in uses]
    return [
        array_of(BYTEA, [row.once.digest for row in rows]),
        array_of(TEXT, [use.issuance.token_id.encode() for use in uses]),
        array_of_bigint([row.once.expires_at for row in rows]),
    ]


def _owners(batch: list[Use]) -> list[bytes]:
    """One entry for each use of the batch, empty where nothing need be owned."""
    rows = [None if use.owned is None else use_of_owner(use) for use in batch]
    return [
        array_of(BYTEA, [b"" if row is None else row.once.digest for row in rows]),
        array_of(TEXT, [b"" if row is None else row.issuance.token_id.encode() for row in rows]),
        array_of_bigint([0 if row is None else row.once.expires_at for row in rows]),
    ]


def _written(batch: list[Use], result: PGresult) -> Written:
    if result.ntuples != 1:
        raise StoreUnavailable("the database has no registry")
    version, floor, horizon, state, inserted, won = (result.get_value(0, column) or b"" for column in range(RESULTS))
    if state == _CLOSED:
        raise StoreClosed
    if state != _OPEN:
        raise WentBack("the database was restored; assertions used before may be unknown to it")
    first = [True] * len(batch)
    if int.from_bytes(inserted, "big") != len(batch):
        winners = set(texts(won))
        first = [use.issuance.token_id in winners for use in batch]
    known, complete_from, complete_after = (int.from_bytes(number, "big") for number in (version, floor, horizon))
    proofs: list[bool] = []
    if result.nfields > RESULTS:
        proven = set(texts(result.get_value(0, RESULTS) or b""))
        proofs = [f"{OneTimeKind.PROOF} {use.issuance.token_id}" in proven for use in batch]
    return Written(first, known, complete_from, complete_after, proofs)
