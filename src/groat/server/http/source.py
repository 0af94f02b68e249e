"""Where a request comes from: the connection's peer, or what trusted proxies say of it in `X-Forwarded-For`.

Read as the list that RFC 9110 5.6.1 describes, from its end, in the forms that proxies write: an address, one with a
port, IPv6 in brackets, quoted. The `Forwarded` field of RFC 7239 is not read.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_HOPS: Final = 16  # that are looked at: more proxies of one's own has nobody
MAX_HOP_CHARS: Final = 64
NARROW, WIDE = 64, 48
# [IPv6%zone]:port, IPv4:port, IPv6%zone; what is left is an address as it stands.
_HOP: Final = re.compile(
    r"\[([0-9A-Fa-f:.]+)(?:%[\w.~-]+)?\](?::\d{1,5})?|(\d[\d.]*):\d{1,5}|([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)%[\w.~-]+"
)


@dataclass(frozen=True, slots=True)
class Source:
    """The address to count for, and the hop that named it if nobody can read that: then it is the proxy's own."""

    name: str
    unreadable: str | None = None


def request_source(peer: str, forwarded_for: Sequence[bytes], trusted: Networks) -> Source:
    """The peer, or the last hop that no trusted proxy is.

    IPv6 sources count by /64, the smallest block that one party controls. A hop that is no address ends the walk: its
    callers share the count of the proxy that wrote it.
    """
    address = read_address(peer)
    if address is None:
        return Source(peer[:MAX_HOP_CHARS])
    for hop in _hops(forwarded_for) if is_trusted(address, trusted) else ():
        found = read_address(hop)
        if found is None:
            return Source(_block(address), hop[:MAX_HOP_CHARS])
        address = found
        if not is_trusted(address, trusted):
            break
    return Source(_block(address))


def _hops(values: Sequence[bytes]) -> list[str]:
    """The last few members of the list, last one first; empty ones do not count."""
    members = b",".join(values).rsplit(b",", MAX_HOPS)[-MAX_HOPS:]
    return [hop for member in reversed(members) if (hop := member.decode("latin-1").strip(" \t"))]


def read_address(text: str) -> Address | None:
    """The address in a hop, IPv4 inside IPv6 taken out; None for `unknown`, `_name` and all else."""
    return _read(text) if len(text) <= MAX_HOP_CHARS else None


@lru_cache(maxsize=4096)
def _read(text: str) -> Address | None:
    bare = text[1:-1] if text[:1] == text[-1:] == '"' else text
    found = _HOP.fullmatch(bare)
    try:
        address = ipaddress.ip_address(found[found.lastindex or 0] if found else bare)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_trusted(address: Address, trusted: Networks) -> bool:
    """Whether the address is one of these proxies."""
    return any(address in network for network in trusted)


def _block(address: Address) -> str:
    return str(address) if address.version == 4 else _network(address, NARROW)


def _network(address: Address, bits: int) -> str:
    return str(ipaddress.IPv6Network((int(address), bits), strict=False))


@lru_cache(maxsize=4096)
def wider(source: str) -> str:
    """The block that a source belongs to: the /48 of an IPv6 one, the /24 of an IPv4 one; else itself."""
    try:
        network = ipaddress.ip_network(source)
    except ValueError:
        return source
    return str(network.supernet(new_prefix=WIDE if network.version == 6 else 24))
