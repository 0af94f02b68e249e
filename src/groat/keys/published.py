"""Key sets that strangers publish, fetched without becoming anybody's errand boy.

https with verified certificates, no redirects, no proxies, 64 KiB, two seconds in all. The host is resolved here, every
address it has must be public (or in an allow-listed network), and the connection goes to the very addresses that were
checked, so that no second look-up can lead elsewhere (server-side request forgery, DNS rebinding).
"""

import re
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from typing import Final
from urllib.parse import urlsplit

from groat.keys.deadlines import DeadlineSocket, remaining
from groat.keys.lookups import Crowded, Lookups
from groat.keys.public_address import Networks, may_be_called, parse_address, uri_fault
from groat.protocol import strict_json
from groat.protocol.errors import JoseError
from groat.protocol.jwk import PublicKey
from groat.protocol.key_set import import_key_set

DEADLINE: Final = 2.0  # seconds for one whole fetch, its name look-up included
MAX_BYTES: Final = 64 * 1024
MAX_HEAD_BYTES: Final = 32 * 1024
MAX_ADDRESSES: Final = 4  # of a host, tried one after the other
MIN_AGE, DEFAULT_AGE, MAX_AGE = 60.0, 300.0, 3600.0
_TYPES: Final = frozenset({"application/json", "application/jwk-set+json"})
_MAX_AGE: Final = re.compile(r'(?:^|[,\s])max-age="?(\d{1,9})', re.IGNORECASE)
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


def fetch_key_set(uri: str, allowed: Networks = (), context: ssl.SSLContext | None = None) -> Fetched:
    """Fetch one key set; blocks for two seconds at most. Raises Refused."""
    if fault := uri_fault(uri):
        raise Refused(fault)
    deadline = time.monotonic() + DEADLINE
    parts = urlsplit(uri)
    host, port = parts.hostname or "", parts.port or 443
    connection = _Pinned(host, port, _checked_addresses(host, port, allowed, deadline), deadline, context or _tls())
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
        connection.request("GET", target, headers=headers)
        return _read(connection.getresponse())
    except (OSError, HTTPException, ValueError) as error:
        raise Refused(f"{host} gives no usable answer ({type(error).__name__})") from None
    finally:
        connection.close()


def _checked_addresses(host: str, port: int, allowed: Networks, deadline: float) -> list[str]:
    """Every address of the host, each of which may be called. Raises Refused."""
    addresses = [host] if parse_address(host) else _look_up(host, port, deadline)
    if not addresses:
        raise Refused(f"{host} has no address")
    if not all(may_be_called(address, allowed) for address in addresses):
        raise Refused(f"{host} leads to an address that is not public")
    return addresses[:MAX_ADDRESSES]


def _look_up(host: str, port: int, deadline: float) -> list[str]:
    try:
        return _LOOKUPS.find(host, port, remaining(deadline))
    except Crowded:
        raise Postponed("too many names are being looked up") from None
    except TimeoutError:
        raise Refused(f"{host} was not looked up in time") from None
    except (OSError, UnicodeError):
        raise Refused(f"{host} has no address") from None


class _Pinned(HTTPSConnection):
    """Connects to the addresses that were checked, in turn, and demands the certificate of the host."""

    def __init__(
        self, host: str, port: int, addresses: Sequence[str], deadline: float, context: ssl.SSLContext
    ) -> None:
        super().__init__(host, port, context=context)
        self._addresses, self._deadline, self._tls_context = addresses, deadline, context
        self.response_class = lambda sock, *args, **kwargs: HTTPResponse(  # type: ignore[assignment]
            DeadlineSocket(sock, deadline, MAX_BYTES + MAX_HEAD_BYTES),  # type: ignore[arg-type]
            *args,
            **kwargs,
        )

    def connect(self) -> None:
        plain = self._reach()
        plain.settimeout(remaining(self._deadline))  # a handshake counts as one operation, however it drips
        self.sock = plain
        self.sock = self._tls_context.wrap_socket(plain, server_hostname=self.host)
        self.sock.settimeout(remaining(self._deadline))

    def _reach(self) -> socket.socket:
        """The first address that answers; one that is silent leaves the others their share of the time."""
        for tried, address in enumerate(self._addresses, 1):
            left = remaining(self._deadline)
            last = tried == len(self._addresses)
            try:
                return socket.create_connection((address, self.port), left if last else left / 2)
            except OSError:
                if last:
                    raise
        raise TimeoutError


def _read(response: HTTPResponse) -> Fetched:
    if response.status != 200:
        raise Refused(f"the key set came with status {response.status}, not 200")
    if (response.getheader("content-type") or "").partition(";")[0].strip().lower() not in _TYPES:
        raise Refused("the key set came with another content type than application/jwk-set+json or application/json")
    if (response.getheader("content-encoding") or "identity").strip().lower() != "identity":
        raise Refused("the key set came compressed")
    body = response.read(MAX_BYTES + 1)
    if len(body) > MAX_BYTES or response.length:
        raise Refused("the key set is too large, or ends early")
    try:
        keys = import_key_set(strict_json.loads_object(body))
    except JoseError as error:
        raise Refused(error.hint) from None
    return Fetched(keys, read_max_age(response.getheader("cache-control") or "", response.getheader("age") or ""))


def read_max_age(cache_control: str, age: str) -> float:
    """For how long a set may be kept: max-age less the time it spent in caches (RFC 9111 4.2), a minute to an hour."""
    found = _MAX_AGE.search(cache_control)
    told = float(found[1]) if found else DEFAULT_AGE
    age = age.strip()
    spent = float(age) if age.isascii() and age.isdigit() and len(age) < 10 else 0.0
    return min(MAX_AGE, max(MIN_AGE, told - spent))


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
