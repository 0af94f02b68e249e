"""What may stand where a URL is expected: each rule once.

A fault is a sentence, empty where there is none. Not checked: whether anything answers there.
"""

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

from groat.protocol.differences import shown
from groat.protocol.errors import ConfigError
from groat.protocol.stray import blanks, stray

LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
MAX_AUDIENCE_CHARS: Final = 512
MAX_URI_CHARS: Final = 2048
MAX_HOST_CHARS: Final = 253
_NAME: Final = re.compile(r"(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")
# What inet_aton takes for an address, and with it getaddrinfo: 2130706433, 0x7f.1, 0177.0.0.1 (WHATWG URL 3.5).
_ENDS_IN_A_NUMBER: Final = re.compile(r"(?:.*\.)?(?:\d+|0[xX][0-9A-Fa-f]*)\.?")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_plain(url: str) -> bool:
    """Whether it is printable ASCII without blank or backslash: RFC 3986 2 has neither, and readers differ on both."""
    return url.isascii() and url.isprintable() and " " not in url and "\\" not in url


def split(url: str) -> SplitResult | None:
    """The parts of a plain URL whose port can be one; None for anything else. Not checked: whether there is a host."""
    parts = _parts(url) if is_plain(url) else None
    try:
        return parts if parts and parts.port != 0 else None
    except ValueError:
        return None


def _parts(uri: str) -> SplitResult | None:
    try:
        return urlsplit(uri)
    except ValueError:
        return None


def _has_user(parts: SplitResult) -> bool:
    return parts.username is not None or parts.password is not None


def _is_safe(parts: SplitResult, allow_http_hosts: frozenset[str]) -> bool:
    """https; plain http for loopback hosts, and for hosts that the operator lists by name."""
    host = parts.hostname
    return bool(host) and (
        parts.scheme == "https" or (parts.scheme == "http" and (host in LOOPBACK_HOSTS or host in allow_http_hosts))
    )


def issuer_fault(issuer: str, allow_http_hosts: frozenset[str] = frozenset()) -> str:
    """Why this string cannot be an issuer identifier (RFC 8414 2)."""
    parts = split(issuer)
    if parts is None or not parts.hostname:
        return f"issuer must be an absolute URL, for example https://auth.example.com{_found(issuer)}"
    if "?" in issuer or "#" in issuer or _has_user(parts):
        return "issuer must have no query, fragment or user name"
    if not _is_safe(parts, allow_http_hosts):
        return "issuer must use https; plain http is for loopback or development.allow_http_hosts only"
    return ""


def _found(issuer: str) -> str:
    """What was found instead; not what may hold a password."""
    odd = stray(issuer) or blanks(issuer)
    found = "" if "@" in issuer else f", not {shown(issuer)}"
    return found + (f": {odd}" if odd else "")


def check_endpoint(url: str, allow_http_hosts: frozenset[str] = frozenset()) -> str:
    """Return the URL if requests may go there: https, or http on a loopback or listed host. Raises ConfigError."""
    if not is_plain(url):
        raise ConfigError("an endpoint must be printable ASCII without spaces")
    parts = split(url)
    if parts is None:
        raise ConfigError("an endpoint is not a URL")
    if not _is_safe(parts, allow_http_hosts) or "#" in url or _has_user(parts):
        raise ConfigError("an endpoint must be https (or http on loopback), without fragment or user")
    return url


def key_set_fault(uri: str) -> str:
    """Why this cannot be a client's jwks_uri (RFC 7591 2). Not checked: where its host leads."""
    if not is_plain(uri) or len(uri) > MAX_URI_CHARS:
        return f"jwks_uri must be printable ASCII without space or backslash, {MAX_URI_CHARS} characters at most"
    parts = split(uri)
    if parts is None:
        return "jwks_uri is not a URL"
    if parts.scheme != "https" or not parts.hostname or _has_user(parts) or "#" in uri:
        return "jwks_uri must be an https URL without user name or fragment"
    host = parts.hostname
    if not _is_unmistakable(host) or ("[" in parts.netloc) != (":" in host):
        return "the host of jwks_uri must be a name, or an address in its plain form"
    return ""


def _is_unmistakable(host: str) -> bool:
    """Whether a host is a name or an address that everybody reads alike."""
    if parse_address(host) is not None:
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


def in_url(host: str) -> str:
    """A host as a URL has it: an IPv6 address in brackets (RFC 3986 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def is_absolute(uri: str) -> bool:
    """Whether it is an absolute URI without fragment, as a resource is (RFC 8707 2); it need not be a URL."""
    parts = _parts(uri)
    return parts is not None and bool(parts.scheme and (parts.netloc or parts.path)) and "#" not in uri


def audience_fault(audience: str) -> str:
    """Why this cannot be the audience of an API: what a client may name as resource, and a token can carry."""
    if _parts(audience) is None:
        return "audience is not a URI"
    if not is_absolute(audience) or not audience.isascii():
        return "audience must be an absolute URI without fragment, for example https://orders.example.com"
    if not is_plain(audience):
        return "audience must have no spaces, backslashes or controls"
    return f"audience must have at most {MAX_AUDIENCE_CHARS} characters" if len(audience) > MAX_AUDIENCE_CHARS else ""
