"""Which requests leave through a proxy: what HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say, and what they cannot.

Loopback is this machine, so a request to it never goes through a proxy, which would see assertions and tokens in clear
or look for the server on its own machine.
"""

import os
import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

from groat.protocol.stray import blanks, stray

SCHEMES: Final = ("http", "https", "socks5", "socks5h")
# What HTTP libraries read, the way out and whom to trust there.
VARIABLES: Final = (
    *(name for one in ("http", "https", "all") for name in (f"{one}_proxy", f"{one.upper()}_PROXY")),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy and the variable that names it. The URL may hold a password and shows nowhere."""

    url: str = field(repr=False)
    variable: str


def proxy_for(url: str) -> Proxy | None:
    """The proxy of this URL by the environment (or the system's settings), or None. Not checked: whether it is one."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
    settings = getproxies()
    found = settings.get(parts.scheme) or settings.get("all")
    if not found or is_loopback(host) or _is_exempt(host, port, settings.get("no", "")):
        return None
    return Proxy(found if "://" in found else f"http://{found}", _variable(parts.scheme))


def proxy_fault(proxy: Proxy) -> str:
    """Why this cannot be a proxy, or an empty string; says nothing of a user or password in it."""
    try:
        parts = urlsplit(proxy.url)
        usable = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if usable and proxy.url.isascii() and proxy.url.isprintable() and " " not in proxy.url:
        return ""
    odd = stray(proxy.url) or blanks(proxy.url)
    return f"{proxy.variable} is no URL of an http, https, socks5 or socks5h proxy{odd and f': {odd}'}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or address, in any spelling that resolvers take."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761 6.3
        return True
    address = _address(name)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address is not None and any(one.is_loopback or one.is_unspecified for one in (mapped or address,))


def _address(name: str) -> IPv4Address | IPv6Address | None:
    with suppress(ValueError):
        return ip_address(name)
    try:
        return IPv4Address(socket.inet_aton(name))  # 127.1, 0x7f000001 and their kin
    except (OSError, ValueError):
        return None


def _is_exempt(host: str, port: int, listed: str) -> bool:
    """Whether NO_PROXY has the host: by name, parent domain, address or network, with or without scheme and port."""
    entries: Iterable[str] = filter(None, re.split(r"[,\s]+", listed))
    return any(_covers(entry, host.lower().rstrip("."), port) for entry in entries)


def _covers(entry: str, host: str, port: int) -> bool:
    name, address = entry.lower().rpartition("://")[2], _address(host)
    if address is not None and (network := _network(name)) is not None:
        return address in network
    found = re.fullmatch(r"(.+?)(?::([0-9]{1,5}))?/?", name)
    if found is None or (found[2] and int(found[2]) != port):
        return False
    if found[1] == "*":
        return True
    if address is not None:  # that is no name: 1.2.3 is not above 10.1.2.3
        network = _network(found[1])
        return network is not None and address in network
    domain = found[1].strip("[]").lstrip("*").strip(".")
    return domain != "" and (host == domain or host.endswith(f".{domain}"))


def _network(text: str) -> IPv4Network | IPv6Network | None:
    """An address or a network, with or without brackets; None for a name, and for one with its port."""
    with suppress(ValueError):
        return ip_network(re.sub(r"\A\[([^]]*)\](?=/|\Z)", r"\1", text), strict=False)
    return None


def _variable(scheme: str) -> str:
    """The variable that counts; the lower-case one does where both are there."""
    names = [name for one in (scheme, "all") for name in (f"{one}_proxy", f"{one.upper()}_PROXY")]
    return next((name for name in names if os.environ.get(name)), "the proxy setting of this system")
