"""Proofs that all hosts of an API share, in two tables of a PostgreSQL database."""

import contextlib
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any, Final

from groat.extras import needs_extra
from groat.protocol.errors import ConfigError, ReplayStoreUnavailable
from groat.protocol.models import OneTimeValue
from groat.verifier.replay.shared import (
    KEEP_SECONDS,
    SWEEP_SECONDS,
    SWEPT_AT_ONCE,
    WAIT_SECONDS,
    SharedMemory,
    forgotten,
)

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
except ModuleNotFoundError as error:
    raise needs_extra(__name__, error) from None

CONNECTIONS: Final = 4  # of a process
MAX_BYTES: Final = 4 * 1024**3  # of the table; then nothing more is accepted
AWAY_SECONDS: Final = 1.0  # for so long nobody tries again to connect
_LOCK: Final = 0x67726F6174  # whoever makes the tables holds it
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS groat_proofs (digest bytea PRIMARY KEY, ends bigint NOT NULL);
CREATE INDEX IF NOT EXISTS groat_proofs_ends ON groat_proofs (ends);
CREATE TABLE IF NOT EXISTS groat_proofs_swept (
    id int PRIMARY KEY CHECK (id = 1), until bigint NOT NULL, at bigint NOT NULL);
INSERT INTO groat_proofs_swept VALUES (1, 0, 0) ON CONFLICT DO NOTHING;
"""
_FIRST: Final = """
WITH gate AS (SELECT until FROM groat_proofs_swept),
     new AS (INSERT INTO groat_proofs SELECT %(digest)s, %(ends)s FROM gate WHERE %(ends)s > until
             ON CONFLICT DO NOTHING RETURNING 1)
SELECT (SELECT count(*) FROM new), (SELECT until FROM gate)
"""
# By the one clock of the database. Of several processes one sweeps.
_SWEEP: Final = """
UPDATE groat_proofs_swept SET until = greatest(until, now - %(keep)s), at = now
FROM (SELECT extract(epoch FROM clock_timestamp())::bigint AS now) AS clock
WHERE abs(now - at) >= %(every)s RETURNING until
"""
# A little behind the horizon: a statement that has read an older one is over by then.
_FORGET: Final = """
DELETE FROM groat_proofs WHERE digest IN (SELECT digest FROM groat_proofs WHERE ends <= %s - 60 LIMIT %s)
"""
_SIZE: Final = "SELECT pg_relation_size('groat_proofs')"
Connection = Any  # psycopg.Connection[tuple[Any, ...]]


class PostgresReplays(SharedMemory):
    """A `ReplayStore` in the database of this URL; its tables are made at the first proof, if they are not there.

    Nobody waits for the disk of the database (`synchronous_commit = off`): after its crash, or a failover to a standby
    that is behind, proofs of the last moments could come again within their minute. `options` in the URL change that.
    """

    def __init__(self, url: str) -> None:
        self._arguments = _arguments(url)
        super().__init__()

    def renew(self) -> None:
        super().renew()
        self._slots = threading.BoundedSemaphore(CONNECTIONS)
        self._idle: list[Connection] = []
        self._away_until = 0.0
        self._full = False

    def first(self, proof: OneTimeValue, now: float) -> bool:
        """Raises ReplayStoreUnavailable: the database is away, slow or full; nothing was accepted then."""
        with self._connection() as connection:
            if abs(now - self._swept) >= SWEEP_SECONDS:
                self._sweep(connection, now)
            if self._full:
                raise ReplayStoreUnavailable(f"the table of proofs is larger than {MAX_BYTES} bytes")
            values = {"digest": proof.digest, "ends": proof.expires_at}
            new, until = connection.execute(_FIRST, values).fetchone()
        if not new and (until is None or proof.expires_at <= until):
            raise forgotten()
        return bool(new)

    def close(self) -> None:
        """Close the connections that nobody uses; the next proof opens one again."""
        while self._idle:
            self._idle.pop().close()

    def _sweep(self, connection: Connection, now: float) -> None:
        self._swept = now
        found = connection.execute(_SWEEP, {"keep": KEEP_SECONDS, "every": SWEEP_SECONDS}).fetchone()
        if found is not None:
            connection.execute(_FORGET, (found[0], SWEPT_AT_ONCE))
        self._full = connection.execute(_SIZE).fetchone()[0] > MAX_BYTES

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Connection]:
        """One of a few; one that failed is not used again."""
        slots = self._slots
        if monotonic() < self._away_until or not slots.acquire(timeout=WAIT_SECONDS):
            raise ReplayStoreUnavailable("the database of proofs does not answer")
        connection = None
        try:
            connection = self._idle.pop() if self._idle else self._connect()
            yield connection
        except (psycopg.Error, OSError) as error:
            if connection is None:
                self._away_until = monotonic() + AWAY_SECONDS
            else:
                connection.close()
            # The text of the driver may name hosts and users, never the password.
            raise ReplayStoreUnavailable(f"the database of proofs: {type(error).__name__}: {error}") from None
        else:
            self._idle.append(connection)
        finally:
            slots.release()

    def _connect(self) -> Connection:
        made = psycopg.connect(**self._arguments, autocommit=True, prepare_threshold=None)
        try:
            # Asked first: who may not create tables must be able to use those of somebody else.
            if made.execute("SELECT to_regclass('groat_proofs_swept')").fetchone() == (None,):
                with made.transaction():
                    made.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                    made.execute(_SCHEMA)
        except psycopg.Error:
            made.close()
            raise
        return made


def _arguments(url: str) -> dict[str, Any]:
    """What psycopg is called with. Raises ConfigError, which does not repeat the URL."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        raise ConfigError("Dpop.replay is no URL that PostgreSQL's library understands") from None
    own = f"-c statement_timeout={WAIT_SECONDS:.0f}s -c synchronous_commit=off"
    defaults = {"connect_timeout": 2, "tcp_user_timeout": 3000, "application_name": "groat proofs"}
    return {**defaults, **given, "options": f"{own} {given.get('options', '')}"}


__all__ = ["PostgresReplays"]
