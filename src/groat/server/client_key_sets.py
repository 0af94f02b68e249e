"""The key sets that clients publish themselves (jwks_uri of RFC 7591 2), fetched without becoming anybody's errand boy.

https with verified certificates, no redirects, no proxies, 64 KiB, five seconds in all. The host is resolved here,
every address it has must be public (or in an allow-listed network), and the connection goes to the very address that
was checked, so that no second look-up can lead elsewhere (server-side request forgery, DNS rebinding).
"""

import asyncio
import contextlib
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from typing import Final
from urllib.parse import urlsplit

from groat.protocol import strict_json
from groat.protocol.errors import JoseError
from groat.protocol.jwk import PublicKey
from groat.protocol.key_set import import_key_set
from groat.server.source import Networks

DEADLINE: Final = 5.0
MAX_BYTES: Final = 64 * 1024
MIN_AGE, DEFAULT_AGE, MAX_AGE = 60.0, 300.0, 3600.0
COOLDOWN: Final = 30.0  # between two fetches that an unknown kid or a failure causes
MAX_SETS: Final = 10_000
THREADS: Final = 4
_TYPES: Final = frozenset({"application/json", "application/jwk-set+json"})
_MAX_AGE: Final = re.compile(r"max-age=(\d{1,9})")
# Addresses that carry an IPv4 address inside, which a gateway may unwrap; and what older Pythons take for global.
_SPECIAL: Final = tuple(
    map(
        ipaddress.ip_network,
        ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96", "fec0::/10", "192.0.0.0/24"),
    )
)


class Refused(Exception):
    """The key set was not fetched; says why without quoting what the other side sent."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A key set and for how many seconds it may be used."""

    keys: tuple[PublicKey, ...]
    max_age: float


def uri_fault(uri: str) -> str:
    """Why this cannot be a client's jwks_uri, or an empty string. Not checked: where its host leads."""
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "jwks_uri is not a URL"
    if parts.scheme != "https" or not host or parts.username is not None or parts.fragment:
        return "jwks_uri must be an https URL without user name or fragment"
    return "" if uri.isascii() and uri.isprintable() and " " not in uri else "jwks_uri must be printable ASCII"


def fetch_key_set(uri: str, allowed: Networks = (), context: ssl.SSLContext | None = None) -> Fetched:
    """Fetch one key set; blocks for five seconds at most, name look-ups excepted. Raises Refused."""
    if fault := uri_fault(uri):
        raise Refused(fault)
    parts = urlsplit(uri)
    host, port = parts.hostname or "", parts.port or 443
    address = _checked_address(host, port, allowed)
    connection = _Pinned(host, port, address, context or _tls())
    watchdog = threading.Timer(DEADLINE, connection.cut)
    watchdog.daemon = True
    watchdog.start()
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers={"Accept": "application/jwk-set+json, application/json"})
        return _read(connection.getresponse())
    except (OSError, HTTPException, ValueError) as error:
        raise Refused(f"{host} gives no usable answer ({type(error).__name__})") from None
    finally:
        watchdog.cancel()
        connection.close()


def _checked_address(host: str, port: int, allowed: Networks) -> str:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Refused(f"{host} has no address") from None
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    for address in addresses:
        if not is_public(address) and not any(ipaddress.ip_address(address) in network for network in allowed):
            raise Refused(f"{host} leads to an address that is not public")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet, also after unwrapping what it carries inside."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.is_global and not parsed.is_multicast and not any(parsed in network for network in _SPECIAL)


class _Pinned(HTTPSConnection):
    """Connects to the address that was checked, and demands the certificate of the host."""

    def __init__(self, host: str, port: int, address: str, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=DEADLINE, context=context)
        self._address, self._tls_context = address, context

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), DEADLINE)
        self.sock = plain  # so that the watchdog can cut a handshake, too
        self.sock = self._tls_context.wrap_socket(plain, server_hostname=self.host)

    def cut(self) -> None:
        """End whatever goes on: a slow drip of bytes resets no timer here."""
        with contextlib.suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)


def _read(response: HTTPResponse) -> Fetched:
    if response.status != 200:
        raise Refused(f"the key set came with status {response.status}, not 200")
    if (response.getheader("content-type") or "").partition(";")[0].strip().lower() not in _TYPES:
        raise Refused("the key set came with another content type than application/jwk-set+json or application/json")
    body = response.read(MAX_BYTES + 1)
    if len(body) > MAX_BYTES or response.length:
        raise Refused("the key set is too large, or ends early")
    try:
        keys = import_key_set(strict_json.loads_object(body))
    except JoseError as error:
        raise Refused(error.hint) from None
    found = _MAX_AGE.search(response.getheader("cache-control") or "")
    age = float(found[1]) if found else DEFAULT_AGE
    return Fetched(keys, min(MAX_AGE, max(MIN_AGE, age)))


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@dataclass(slots=True)
class _Cached:
    keys: tuple[PublicKey, ...] = ()
    good_until: float = 0.0
    dead_at: float = 0.0
    next_try: float = 0.0
    flight: "asyncio.Task[None] | None" = None


Fetch = Callable[[str], Fetched]


@dataclass(slots=True)
class ClientKeySets:
    """Key sets by URI: cached, fetched once for all who wait, kept for an hour when a fetch fails, then gone.

    `report` is told the URI's host and why a fetch failed.
    """

    fetch: Fetch
    report: Callable[[str, str], None] = lambda host, why: None
    monotonic: Callable[[], float] = time.monotonic
    _sets: "OrderedDict[str, _Cached]" = field(default_factory=OrderedDict)
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS, "groat-client-keys"))

    def at_hand(self, uri: str) -> tuple[PublicKey, ...]:
        """The keys of this set that may serve without a look at it."""
        cached = self._sets.get(uri)
        return cached.keys if cached is not None and self.monotonic() < cached.good_until else ()

    async def keys(self, uri: str, kid: str | None) -> tuple[PublicKey, ...]:
        """The keys of this set; a kid that it does not have causes a fetch, at most one in half a minute."""
        cached = self._sets.setdefault(uri, _Cached())
        self._sets.move_to_end(uri)
        if len(self._sets) > MAX_SETS:
            self._sets.popitem(last=False)
        now = self.monotonic()
        known = kid is None or any(key.kid == kid for key in cached.keys)
        if (now >= cached.good_until or not known) and (now >= cached.next_try or cached.flight is not None):
            await self._refresh(uri, cached)
        return cached.keys if self.monotonic() < cached.dead_at else ()

    async def _refresh(self, uri: str, cached: _Cached) -> None:
        if cached.flight is None:
            cached.next_try = self.monotonic() + COOLDOWN
            cached.flight = asyncio.create_task(self._fly(uri, cached))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(cached.flight), DEADLINE + 1)

    async def _fly(self, uri: str, cached: _Cached) -> None:
        started = self.monotonic()
        try:
            fetched = await asyncio.get_running_loop().run_in_executor(self._threads, self.fetch, uri)
            cached.keys, cached.good_until = fetched.keys, started + fetched.max_age
            cached.dead_at = started + MAX_AGE
        except Refused as error:
            self.report(urlsplit(uri).hostname or "", str(error))
        except Exception as error:
            self.report(urlsplit(uri).hostname or "", f"a bug: {type(error).__name__}")
        finally:
            cached.flight = None
