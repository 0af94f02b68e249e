"""Which hosts of an address that a stranger wrote may be called: those on the public internet, and nothing beside it.

The ranges are those of the IANA special-purpose registries for IPv4 and IPv6 (RFC 6890), as a table of our own: what
`ipaddress` calls global changes with the Python. For IPv6 the table says what is open, 2000::/3, less what is special.
"""

import ipaddress
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
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
_NAME: Final = re.compile(r"(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")
# What inet_aton takes for an address, and with it getaddrinfo: 2130706433, 0x7f.1, 0177.0.0.1 (WHATWG URL 3.5).
_ENDS_IN_A_NUMBER: Final = re.compile(r"(?:.*\.)?(?:\d+|0[xX][0-9A-Fa-f]*)\.?")
MAX_URI_CHARS: Final = 2048
MAX_HOST_CHARS: Final = 253


def uri_fault(uri: str) -> str:
    """Why this cannot be a client's jwks_uri, or an empty string. Not checked: where its host leads."""
    if not (uri.isascii() and uri.isprintable()) or " " in uri or "\\" in uri or len(uri) > MAX_URI_CHARS:
        return f"jwks_uri must be printable ASCII without space or backslash, {MAX_URI_CHARS} characters at most"
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "jwks_uri is not a URL"
    if parts.scheme != "https" or not host or port == 0 or parts.username is not None or parts.fragment:
        return "jwks_uri must be an https URL without user name or fragment"
    if not _is_plain(host) or ("[" in parts.netloc) != (":" in host):
        return "the host of jwks_uri must be a name, or an address in its plain form"
    return ""


def _is_plain(host: str) -> bool:
    """Whether a host is a name or an address that everybody reads alike."""
    address = parse_address(host)
    if address is not None:
        return True
    return len(host) <= MAX_HOST_CHARS and bool(_NAME.fullmatch(host)) and not _ENDS_IN_A_NUMBER.fullmatch(host)


def parse_address(text: str) -> Address | None:
    """The address in this text, without the IPv6 around a mapped IPv4 one; None for a name or a scoped address."""
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv4Address):
        return parsed
    if parsed.scope_id is not None:
        return None
    return parsed.ipv4_mapped or parsed


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
