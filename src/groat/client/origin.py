"""Origins: where a token may go (RFC 6454, RFC 6750 5.3)."""

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from groat.protocol.arguments import strings
from groat.protocol.errors import ConfigError
from groat.protocol.uris import check_endpoint, in_url, is_plain

Origin = tuple[str, str, int]
DEFAULT_PORTS: Final = {"https": 443, "http": 80}


def allowed_origins(
    resource: str | None, origins: Iterable[str] | None, allow_http_hosts: frozenset[str]
) -> frozenset[Origin]:
    """The origins that may see a token for `resource`: those listed, or else the resource's own.

    Raises ConfigError: none at all, or one that is neither https nor http on a loopback or listed host.
    """
    if isinstance(origins, str):
        origins = [origins]
    urls = [resource or ""] if origins is None else list(strings("origins", origins))
    if origins is None and "://" not in urls[0]:
        raise ConfigError("the resource is no URL: say with origins=[...] which servers may see its token")
    if not urls:
        raise ConfigError("origins must not be empty")
    return frozenset(parse_origin(url, allow_http_hosts) for url in urls)


def parse_origin(url: str, allow_http_hosts: frozenset[str] = frozenset()) -> Origin:
    """Scheme, host and port of a URL; path and query do not count. Raises ConfigError."""
    if not is_plain(url):
        raise ConfigError("an origin must be printable ASCII; write an international host name in its xn-- form")
    try:
        check_endpoint(url, allow_http_hosts)
        parts = urlsplit(url)
        port = parts.port
    except (ConfigError, ValueError):
        raise ConfigError(f"{url}: an origin must be https, or http on loopback, as https://api.example") from None
    return (parts.scheme, parts.hostname or "", port or DEFAULT_PORTS[parts.scheme])


def show_origin(origin: Origin) -> str:
    """An origin as one writes it."""
    scheme, host, port = origin
    return f"{scheme}://{in_url(host)}" + ("" if DEFAULT_PORTS.get(scheme) == port else f":{port}")
