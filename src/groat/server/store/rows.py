"""What a row says: the same columns in every engine, whichever driver hands them over.

All readers raise StoreUnavailable for a row that is not as groat writes it: damaged, or changed by hand.
"""

import contextlib
import functools
import json
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from groat.keys.ring.keyring import SigningKey
from groat.protocol.binding import Binding
from groat.protocol.client_settings import ClientSettings, token_lifetime
from groat.protocol.errors import ConfigError, JoseError
from groat.protocol.jwk import HELD, PublicKey, import_public_jwk
from groat.protocol.listing import Listing
from groat.protocol.revocation import Cut, CutKind, RevokedToken
from groat.server.store.records import ApiKeyRecord, ApiRecord, ClientKeyRecord, ClientRecord, ListRecord
from groat.server.unavailable import StoreUnavailable

Source = TypeVar("Source")
Result = TypeVar("Result")


class Row(Protocol):
    """A row whose columns are known by name: `sqlite3.Row`, or a mapping."""

    def __getitem__(self, name: str, /) -> Any: ...


def reads(what: str) -> Callable[[Callable[[Source], Result]], Callable[[Source], Result]]:
    """Of a reader: what is not as groat writes it raises StoreUnavailable, and names this."""

    def decorate(read: Callable[[Source], Result]) -> Callable[[Source], Result]:
        @functools.wraps(read)
        def checked(source: Source) -> Result:
            try:
                return read(source)
            except (LookupError, TypeError, ValueError, AttributeError, JoseError, ConfigError) as error:
                fault = f"{type(error).__name__}: {error}" if isinstance(error, JoseError) else type(error).__name__
                raise StoreUnavailable(f"the store holds {what} that cannot be read ({fault})") from None

        return checked

    return decorate


@reads("a public key")
def public_key(jwk: str) -> PublicKey:
    """A public key that the store keeps as JSON."""
    return import_public_jwk(json.loads(jwk), bounds=HELD)


def replica_name() -> str:
    """Which process wrote a row: host name and process id, 80 characters at most."""
    return f"{socket.gethostname()[:64]}/{os.getpid()}"


def client_document(client: ClientRecord) -> str:
    """What of a client stands in the JSON column; the rest has columns of its own."""
    return json.dumps({"allow": client.allow, **client.settings.document()})


@reads("a client")
def client_record(row: Row) -> ClientRecord:
    document: Mapping[str, Any] = json.loads(row["document"])
    return ClientRecord(
        client_id=row["client_id"],
        enabled=bool(row["enabled"]),
        created_at=row["created_at"],
        allow={api: tuple(scopes) for api, scopes in document["allow"].items()},
        settings=ClientSettings.of(document),
    )


def published_at(rows: Iterable[Row]) -> tuple[str, ...]:
    """The addresses of the key sets of these clients, each once; a row that cannot be read has none."""
    found: dict[str, None] = {}
    for row in rows:
        with contextlib.suppress(StoreUnavailable):
            if uri := client_record(row).settings.jwks_uri:
                found[uri] = None
    return tuple(found)


@reads("a client key")
def client_key_record(row: Row) -> ClientKeyRecord:
    return ClientKeyRecord(
        row["kid"],
        row["client_id"],
        row["thumbprint"],
        row["algorithm"],
        json.loads(row["jwk"]),
        row["created_at"],
        row["not_before"],
        row["expires_at"],
        row["last_used_at"],
    )


@reads("an API")
def api_record(row: Row) -> ApiRecord:
    scopes, lifetime = tuple(json.loads(row["scopes"])), token_lifetime(row["token_lifetime"])
    return ApiRecord(
        row["name"],
        row["audience"],
        scopes,
        row["created_at"],
        lifetime,
        Binding(row["binding"] or Binding.NONE),
        Listing(row["status"] or Listing.NONE),
    )


@reads("a key of an API")
def api_key_record(row: Row) -> ApiKeyRecord:
    jwk = json.loads(row["jwk"])
    return ApiKeyRecord(row["kid"], row["api"], row["thumbprint"], row["algorithm"], jwk, row["created_at"])


@reads("a cut")
def cut(row: Row) -> Cut:
    return Cut(CutKind(row["kind"]), row["subject"], row["not_before"], row["made_at"])


@reads("a token that was taken back")
def revoked_token(row: Row) -> RevokedToken:
    return RevokedToken(bytes(row["digest"]), row["client_id"], row["made_at"], row["ends_at"], row["listed"])


@reads("a status list")
def status_list(row: Row) -> ListRecord:
    names = ("list_id", "api", "not_before", "opened_at", "closes_at", "ends_at")
    return ListRecord(*(row[name] for name in names))


@reads("the last use of a client")
def unused_since(row: Row) -> int:
    """Epoch seconds since when no use of a client is known, by a memory that is whole from the floor on."""
    known: list[int] = [row[name] or 0 for name in ("created_at", "unused_since", "last_used_at", "floor")]
    return max(known)


@reads("a signing key")
def signing_key(row: Row) -> SigningKey:
    return SigningKey(
        public_key(row["jwk"]),
        row["created_at"],
        row["activates_at"],
        row["retires_at"],
        row["removes_at"],
        row["sealed"],
    )
