"""Fills a store with clients that never ask and with uses that are still remembered, by SQL in bulk.

The rows are of the real schema and look like real ones: distinct ids, thumbprints and digests in random order. The keys
of the silent clients are one public key under many thumbprints; nothing can sign as them.
"""

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg

from groat.protocol.jwk import PrivateKey, generate_private_key

CHUNK: Final = 500_000
KEPT_SECONDS: Final = 24 * 3600  # the rows must outlive every measurement

_SERIES: Final = {
    "sqlite": "WITH RECURSIVE n (i) AS (SELECT {low} UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {high}) "
    "{insert} FROM n",
    "postgres": "{insert} FROM generate_series({low}, {high} - 1) AS n (i)",
}
_TEXT: Final = {
    "sqlite": "lower(hex(randomblob(21)))",
    "postgres": "substr(md5(random()::text || i) || md5(i::text), 1, 42)",
}
_DIGEST: Final = {"sqlite": "randomblob(32)", "postgres": "sha256((random()::text || i)::bytea)"}
_SETTLE: Final = {"sqlite": ("PRAGMA wal_checkpoint(TRUNCATE)",), "postgres": ("VACUUM ANALYZE", "CHECKPOINT")}
_ON: Final = {"sqlite": "1", "postgres": "true"}
_COLUMNS: Final = "clients (client_id, document, enabled, created_at)"
_KEY_COLUMNS: Final = "client_keys (thumbprint, client_id, kid, algorithm, jwk, created_at)"
_NAME: Final = "'silent-' || i"


@dataclass(slots=True)
class Crowd:
    """The database behind a server that is not running now. `password`: PostgreSQL's."""

    url: str
    password: str = field(default="", repr=False)
    clients: int = 0
    uses: int = 0

    @property
    def engine(self) -> str:
        return "postgres" if self.url.startswith("postgresql") else "sqlite"

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        if self.engine == "postgres":
            with psycopg.connect(self.url, password=self.password or None, autocommit=True) as connection:
                connection.execute("SET synchronous_commit = off")
                yield connection
        else:
            path = Path(self.url.removeprefix("sqlite:///"))
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("PRAGMA cache_size=-4000000")
                connection.execute("PRAGMA synchronous=OFF")
                yield connection

    def _insert(self, connection: Any, insert: str, low: int, high: int) -> None:
        for start in range(low, high, CHUNK):
            end = min(high, start + CHUNK)
            connection.execute(_SERIES[self.engine].format(insert=insert, low=start, high=end))

    def grow_clients(self, total: int) -> None:
        """So many clients altogether, the real ones included; the settings are those of an existing client."""
        now, engine = int(time.time()), self.engine
        jwk = json.dumps(dict(generate_private_key("ES256").public.jwk))
        with self._open() as connection:
            (document,) = connection.execute("SELECT document FROM clients LIMIT 1").fetchone()
            low, high = self.clients, total
            client = f"INSERT INTO {_COLUMNS} SELECT {_NAME}, '{document}', {_ON[engine]}, {now}"
            key = f"INSERT INTO {_KEY_COLUMNS} SELECT {_TEXT[engine]}, {_NAME}, 'k' || i, 'ES256', '{jwk}', {now}"
            for insert in (client, key):
                self._insert(connection, insert, low, high)
            connection.execute("UPDATE registry SET version = version + 1")
            self._settle(connection)
        self.clients = max(self.clients, total)

    def grow_uses(self, total: int) -> None:
        """So many remembered uses altogether, none of them about to expire."""
        now, engine = int(time.time()), self.engine
        insert = (
            "INSERT INTO used_once (digest, client_id, token_id, kid, issued_at, replica, expires_at) "
            f"SELECT {_DIGEST[engine]}, 'silent-' || (i % 1000), {_TEXT[engine]}, 'kid', {now}, 'host/1', "
            f"{now + KEPT_SECONDS} + i % 3600"
        )
        with self._open() as connection:
            self._insert(connection, insert, self.uses, total)
            self._settle(connection)
        self.uses = max(self.uses, total)

    def _settle(self, connection: Any) -> None:
        """Leave no work of the filling behind for the server under test."""
        for statement in _SETTLE[self.engine]:
            connection.execute(statement)

    def add_callers(self, prefix: str, keys: Sequence[PrivateKey]) -> list[str]:
        """Register clients that will ask, with these keys and the settings of an existing client; returns their ids."""
        now, mark = int(time.time()), "%s" if self.engine == "postgres" else "?"
        names = [f"{prefix}-{number}" for number in range(len(keys))]
        with self._open() as connection:
            (document,) = connection.execute("SELECT document FROM clients LIMIT 1").fetchone()
            cursor = connection.cursor()
            cursor.execute("BEGIN")
            cursor.executemany(
                f"INSERT INTO {_COLUMNS} VALUES ({mark}, {mark}, {_ON[self.engine]}, {mark})",
                [(name, document, now) for name in names],
            )
            cursor.executemany(
                f"INSERT INTO {_KEY_COLUMNS} VALUES ({', '.join([mark] * 6)})",
                [
                    (key.public.thumbprint, name, key.public.kid, "ES256", json.dumps(dict(key.public.jwk)), now)
                    for name, key in zip(names, keys, strict=True)
                ],
            )
            cursor.execute("UPDATE registry SET version = version + 1")
            cursor.execute("COMMIT")
        self.clients += len(keys)
        return names
