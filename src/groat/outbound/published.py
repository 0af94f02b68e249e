"""Key sets that strangers publish, fetched without becoming anybody's errand boy.

https with verified certificates, no redirects, no proxies, 64 KiB, two seconds in all. The host is resolved here, every
address it has must be public (or in an allow-listed network), and the connection goes to the very addresses that were
checked, so that no second look-up can lead elsewhere (server-side request forgery, DNS rebinding).
"""

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final
from urllib.parse import urlsplit

from groat.outbound.authorities import tls_context
from groat.outbound.connecting import Address, connect_to
from groat.outbound.deadlines import DeadlineSocket
from groat.outbound.freshness import lifetime
from groat.outbound.lookups import Crowded, Lookups
from groat.outbound.public_address import Networks, may_be_called
from groat.outbound.real_time import monotonic, remaining
from groat.protocol import strict_json
from groat.protocol.errors import ConfigError, JoseError
from groat.protocol.jwk import PublicKey
from groat.protocol.key_set import import_key_set
from groat.protocol.uris import key_set_fault

DEADLINE: Final = 2.0  # seconds for one whole fetch, its name look-up included
MAX_BYTES: Final = 64 * 1024
MAX_HEAD_BYTES: Final = 32 * 1024
MIN_AGE, DEFAULT_AGE, MAX_AGE = 60.0, 300.0, 3600.0
_TYPES: Final = frozenset({"application/json", "application/jwk-set+json"})
_LOOKUPS: Final = Lookups()


class Refused(Exception):
    """The key set was not fetched; says why without quoting what the other side sent."""


class Postponed(Refused):
    """Nobody was asked: this process had too much under way. Says nothing about the other side."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A key set and for how many seconds it may be used."""

    keys: tuple[PublicKey, ...]
    max_age: float


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON object that somebody publishes, and for how many seconds it may be used."""

    members: dict[str, Any]
    max_age: float


def fetch_key_set(uri: str, allowed: Networks = (), context: ssl.SSLContext | None = None) -> Fetched:
    """Fetch one key set; blocks for two seconds at most. Raises Refused."""
    found = fetch_document(uri, allowed, context)
    try:
        return Fetched(import_key_set(found.members), found.max_age)
    except JoseError as error:
        raise Refused(error.hint) from None


def fetch_document(
    uri: str,
    allowed: Networks = (),
    context: ssl.SSLContext | None = None,
    bearer: str = "",
    deadline: float | None = None,
    question: bytes | None = None,
) -> Document:
    """Fetch one JSON object, by the same rules; `bearer`: a token to show. Raises Refused.

    `deadline`: by `real_time.monotonic`, for one of several fetches that share their two seconds. `question`: JSON to
    send, by POST; then what it made is answered, with 201.
    """
    if fault := key_set_fault(uri):
        raise Refused(fault)
    deadline = monotonic() + DEADLINE if deadline is None else deadline
    parts = urlsplit(uri)
    host, port = parts.hostname or "", parts.port or 443
    addresses = _checked_addresses(host, port, allowed, deadline)
    try:
        connection = _Pinned(host, port, addresses, deadline, context or _tls())
    except ConfigError as error:  # no certificate could be checked: that is this server's fault
        raise Refused(str(error)) from None
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        if question is None:
            connection.request("GET", target, headers=headers)
        else:
            headers["Content-Type"] = "application/json"
            connection.request("POST", target, question, headers)
        return _read(connection.getresponse(), 200 if question is None else 201)
    except (OSError, HTTPException, ValueError) as error:
        raise Refused(f"{host} gives no usable answer ({type(error).__name__})") from None
    finally:
        connection.close()


def _checked_addresses(host: str, port: int, allowed: Networks, deadline: float) -> list[Address]:
    """Every address of the host, each of which may be called. Raises Refused."""
    found = _look_up(host, port, deadline)
    if not found:
        raise Refused(f"{host} has no address")
    if not all(may_be_called(str(address[4][0]), allowed) for address in found):
        raise Refused(f"{host} leads to an address that is not public")
    return found


def _look_up(host: str, port: int, deadline: float) -> list[Address]:
    try:
        return _LOOKUPS.find(host, port, remaining(deadline))
    except Crowded:
        raise Postponed("too many names are being looked up") from None
    except TimeoutError:
        raise Refused(f"{host} was not looked up in time") from None
    except (OSError, UnicodeError):
        raise Refused(f"{host} has no address") from None


class _Pinned(HTTPSConnection):
    """Connects to the addresses that were checked, and demands the certificate of the host."""

    def __init__(
        self, host: str, port: int, addresses: Sequence[Address], deadline: float, context: ssl.SSLContext
    ) -> None:
        super().__init__(host, port, context=context)
        self._addresses, self._deadline, self._tls_context = addresses, deadline, context
        self.response_class = lambda sock, *args, **kwargs: HTTPResponse(  # type: ignore[assignment]
            DeadlineSocket(sock, deadline, MAX_BYTES + MAX_HEAD_BYTES),  # type: ignore[arg-type]
            *args,
            **kwargs,
        )

    def connect(self) -> None:
        self.sock: socket.socket = connect_to(self._addresses, self._deadline)
        # Its time is what is left until the deadline, and a handshake counts as one operation, however it drips.
        self.sock = self._tls_context.wrap_socket(self.sock, server_hostname=self.host)
        self.sock.settimeout(remaining(self._deadline))


def _read(response: HTTPResponse, good: int) -> Document:
    if response.status != good:
        raise Refused(f"the answer has status {response.status}, not {good}")
    if (response.getheader("content-type") or "").partition(";")[0].strip().lower() not in _TYPES:
        raise Refused("the answer has another content type than application/jwk-set+json or application/json")
    if (response.getheader("content-encoding") or "identity").strip().lower() != "identity":
        raise Refused("the answer came compressed")
    body = response.read(MAX_BYTES + 1)
    if len(body) > MAX_BYTES or response.length:
        raise Refused("the answer is too large, or ends early")
    try:
        members = strict_json.loads_object(body)
    except JoseError as error:
        raise Refused(error.hint) from None
    told = lifetime(response.getheader("cache-control") or "", response.getheader("age") or "", DEFAULT_AGE)
    return Document(members, min(MAX_AGE, max(MIN_AGE, told)))


# The context is kept, so that reading the authorities costs the first fetch only.
_tls: Final = cache(tls_context)
