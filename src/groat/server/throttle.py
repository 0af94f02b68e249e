"""Throttling of failed authentication, per source and per claimed client (RFC 6749 2.3.1, 10.10).

Only failures count. A request that proves itself is served however many failures others caused in its name, because
a name can be claimed by anybody: past the limit of (source, client) a failure is answered 429 instead of 401. Past
the limit of a source, requests are refused before any signature is checked, except those of clients that proved
themselves from there within the last hour. Each worker process keeps its own counts.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from groat.protocol.errors import InvalidClient, OAuthError, TooManyRequests

MAX_TRACKED: Final = 20_000
TRUST_SECONDS: Final = 3600.0


@dataclass(slots=True)
class Gcra:
    """A leaky bucket per key (generic cell rate algorithm): `limit` events per `window` seconds."""

    limit: int
    window: float
    _full_at: "OrderedDict[str, float]" = field(default_factory=OrderedDict, repr=False)

    def wait(self, key: str, now: float) -> float:
        """Seconds until one more event would fit; 0 if it fits now."""
        theoretical = self._full_at.get(key)
        if theoretical is None:
            return 0.0
        return max(0.0, theoretical - now - self.window + self.window / self.limit)

    def add(self, key: str, now: float) -> None:
        """Count one event."""
        theoretical = max(self._full_at.pop(key, now), now) + self.window / self.limit
        self._full_at[key] = min(theoretical, now + self.window)
        if len(self._full_at) > MAX_TRACKED:
            self._full_at.popitem(last=False)


@dataclass(slots=True)
class Throttle:
    """The counts of one worker. `now` is monotonic time in seconds."""

    per_client: Gcra = field(default_factory=lambda: Gcra(30, 60.0))
    per_source: Gcra = field(default_factory=lambda: Gcra(300, 60.0))
    _proven: "OrderedDict[str, float]" = field(default_factory=OrderedDict, repr=False)

    def check_source(self, source: str, client_id: str, now: float) -> None:
        """Raise TooManyRequests for a source over its limit, unless this client is known good from there."""
        wait = self.per_source.wait(source, now)
        if wait and self._proven.get(_pair(source, client_id), 0.0) < now:
            raise _too_many("source", wait)

    def succeeded(self, source: str, client_id: str, now: float) -> None:
        """Remember that this client proved itself from this source."""
        pair = _pair(source, client_id)
        if self._proven.get(pair, 0.0) < now + TRUST_SECONDS / 2:
            self._proven.pop(pair, None)
            self._proven[pair] = now + TRUST_SECONDS
            if len(self._proven) > MAX_TRACKED:
                self._proven.popitem(last=False)

    def failed(self, source: str, client_id: str, error: InvalidClient, now: float) -> OAuthError:
        """Count a failure; returns the refusal to send: the given one, or TooManyRequests past the limit."""
        pair = _pair(source, client_id)
        wait = self.per_client.wait(pair, now)
        self.per_source.add(source, now)
        if wait:
            return _too_many(f"client after {error.reason}", wait)
        self.per_client.add(pair, now)
        return error


def _pair(source: str, client_id: str) -> str:
    return f"{source} {client_id}"


def _too_many(what: str, wait: float) -> TooManyRequests:
    return TooManyRequests("throttled", f"too many failures of one {what}", retry_after=int(wait) + 1)


Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]


def request_source(peer: str, forwarded_for: Sequence[bytes], trusted: Networks) -> str:
    """The address to count for: the peer, or what trusted proxies say of it (the last untrusted hop).

    IPv6 sources count by /64, the smallest block that one party controls.
    """
    address = peer
    if trusted:
        hops = [hop.strip() for value in forwarded_for for hop in value.decode("latin-1").split(",")]
        while hops and _is_trusted(address, trusted):
            address = hops.pop()
    return _block(address)


def _is_trusted(address: str, trusted: Networks) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
    except ValueError:
        return False
    return any(parsed in network for network in trusted)


def _block(address: str) -> str:
    if ":" not in address:
        return address[:64]
    try:
        parsed = ipaddress.IPv6Address(address)
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network(f"{address}/64", strict=False))
    except ValueError:
        return "unknown"
