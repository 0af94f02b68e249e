"""Which hosts of an address that a stranger wrote may be called: those on the public internet, and nothing beside it.

The ranges are those of the IANA special-purpose registries for IPv4 and IPv6 (RFC 6890), as a table of our own: what
`ipaddress` calls global changes with the Python. For IPv6 the table says what is open, 2000::/3, less what is special.
"""

import ipaddress
from collections.abc import Sequence
from typing import Final

from groat.protocol.uris import parse_address

Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]

_SPECIAL_V4: Final = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16",
            "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
        ),
    )
)  # fmt: skip
# Everything that carries an IPv4 address for a gateway to unwrap (NAT64, translated, compatible, Teredo, 6to4) lies
# outside of 2000::/3 or in this list.
_OPEN_V6: Final = ipaddress.IPv6Network("2000::/3")
_SPECIAL_V6: Final = tuple(
    map(
        ipaddress.IPv6Network,
        ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3ffe::/16", "3fff::/20"),
    )
)
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})  # an interface id that carries an IPv4 address (RFC 5214 6.1)


def is_public(text: str) -> bool:
    """Whether this address belongs to the public internet, also after unwrapping what it carries inside.

    Not known: prefixes that somebody's own gateway translates to IPv4 (RFC 6052 2.2).
    """
    address = parse_address(text)
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    if address is None or address not in _OPEN_V6 or any(address in network for network in _SPECIAL_V6):
        return False
    return (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP


def may_be_called(text: str, allowed: Networks) -> bool:
    """Whether this address is public or in a network that the operator listed."""
    address = parse_address(text)
    return address is not None and (is_public(text) or any(address in network for network in allowed))
