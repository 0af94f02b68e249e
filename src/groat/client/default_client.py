"""The HTTP client that is used where the caller gives none: httpx2 or httpx, whichever is there.

Neither is imported before the first request. The libraries' own reading of the environment is not used, because it
makes a transport for every proxy that is named, needed or not, and sends loopback requests through them, too.
"""

import ssl
from contextlib import suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib import import_module
from types import ModuleType
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from groat import __version__
from groat.client.certificate import CertificateFiles
from groat.client.errors import EnvironmentUnusable, HttpClientMissing
from groat.client.proxies import Proxy, proxy_fault, proxy_for
from groat.outbound.authorities import AuthoritiesUnusable, check_authorities
from groat.outbound.connecting import connect
from groat.outbound.real_time import monotonic

LIBRARIES: Final = ("httpx2", "httpx")
CONNECT_SECONDS: Final = 5.0  # where a library names no time of its own
_OTHER_WAYS: Final = "unset the variable, or add the server's host to NO_PROXY, or give MachineClient(http=...)"
_CORES: Final = {"httpx2": "httpcore2", "httpx": "httpcore"}


class HttpClient(Protocol):
    """What we use of httpx2.Client and httpx.Client."""

    def build_request(
        self, method: str, url: Any, *, content: Any = ..., headers: Any = ..., timeout: Any = ...
    ) -> Any: ...

    def send(self, request: Any, *, stream: bool = ..., auth: Any = ..., follow_redirects: Any = ...) -> Any: ...

    def close(self) -> None: ...


def installed_libraries() -> list[ModuleType]:
    """The HTTP libraries that are installed, the default first. Raises HttpClientMissing if there is none."""
    found = []
    for name in LIBRARIES:
        with suppress(ImportError):
            found.append(import_module(name))
    if not found:
        raise HttpClientMissing
    return found


@dataclass(frozen=True, slots=True)
class _Way:
    """How a request leaves: over TLS or not, through a proxy or not."""

    secure: bool
    proxy: Proxy | None
    thumbprint: str = ""  # of the certificate that is shown


class DefaultClient:
    """One client of the library for each way out, made when the first request takes it.

    `certificate`: shown to servers over TLS. When it changes, so does the way: a connection keeps its own.
    """

    def __init__(self, certificate: CertificateFiles | None = None) -> None:
        self._library = installed_libraries()[0]
        self._certificate = certificate
        self._clients: dict[_Way, HttpClient] = {}
        self._left: list[HttpClient] = []

    def towards(self, url: str) -> HttpClient:
        """The client for this URL. Raises EnvironmentUnusable, which names the variable that is wrong."""
        secure = urlsplit(url).scheme == "https"
        shown = self._certificate.thumbprint if self._certificate is not None and secure else ""
        way = _Way(secure, proxy_for(url), shown)
        client = self._clients.get(way)
        if client is None:
            self._leave_behind(shown)
            built = _build(self._library, way, self._certificate)
            if isinstance(built, EnvironmentUnusable):
                raise built
            client = self._clients[way] = built
        return client

    def _leave_behind(self, shown: str) -> None:
        """Use the clients of earlier certificates no more: closed one change later, as exchanges may be under way."""
        old = [way for way in self._clients if way.thumbprint not in ("", shown)] if shown else []
        if old:
            for client in self._left:
                client.close()
            self._left = [self._clients.pop(way) for way in old]

    def close(self) -> None:
        """Close all of them."""
        for client in (*self._clients.values(), *self._left):
            client.close()


def _build(library: ModuleType, way: _Way, certificate: CertificateFiles | None) -> HttpClient | EnvironmentUnusable:
    """The client, or why there is none: an exception from here would carry the proxy's password in its frames."""
    fault = proxy_fault(way.proxy) if way.proxy is not None else ""
    if fault:
        return EnvironmentUnusable(fault, hint=_OTHER_WAYS)
    try:
        return _client(library, way, certificate if way.thumbprint else None)
    except AuthoritiesUnusable as error:
        return EnvironmentUnusable(str(error), hint="name a PEM file of certificates there, or unset the variable")
    except (ImportError, ValueError, library.InvalidURL) as error:
        if way.proxy is None:
            raise
        return _proxy_unusable(library, way.proxy, isinstance(error, ImportError))


def _proxy_unusable(library: ModuleType, proxy: Proxy, missing: bool) -> EnvironmentUnusable:
    if not missing:
        return EnvironmentUnusable(f"{proxy.variable} names a proxy that cannot be used", hint=_OTHER_WAYS)
    return EnvironmentUnusable(
        f"{proxy.variable} names a SOCKS proxy, for which {library.__name__} needs another package",
        hint=f'pip install "{library.__name__}[socks]", or {_OTHER_WAYS}',
    )


def _client(library: ModuleType, way: _Way, certificate: CertificateFiles | None) -> HttpClient:
    if way.secure or (way.proxy is not None and way.proxy.url.lower().startswith("https:")):
        check_authorities()
    transport = library.HTTPTransport(
        # Without TLS no authority is needed, and none is read.
        verify=_trust(library, certificate) if way.secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        proxy=way.proxy.url if way.proxy is not None else None,
    )
    _race_addresses(library.__name__, transport)
    # An authorization server has no business remembering us by cookie.
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    agent = {"User-Agent": f"groat/{__version__}"}
    client: HttpClient = library.Client(transport=transport, trust_env=False, headers=agent, cookies=no_cookies)
    return client


def _trust(library: ModuleType, certificate: CertificateFiles | None) -> Any:
    """The library's own trust, with our certificate to show. Raises KeyUnusable."""
    return True if certificate is None else certificate.give(library.create_ssl_context())


def showing(certificate: CertificateFiles) -> ssl.SSLContext:
    """A context for connections to others: trusts as those to the authorization server, and shows the certificate."""
    check_authorities()
    return certificate.give(installed_libraries()[0].create_ssl_context())


def _race_addresses(library: str, transport: Any) -> None:
    """Let the transport try all addresses of a name; by itself it gives the whole time to the first one.

    httpcore takes a backend for this, but the libraries above it do not pass one on, so it is put in its place here.
    A version that is built differently goes on as it would have without us.
    """
    with suppress(ImportError, AttributeError):
        core = import_module(_CORES[library])
        stream = import_module(f"{core.__name__}._backends.sync").SyncStream
        assert transport._pool._network_backend is not None
        transport._pool._network_backend = _racing(core, stream)


def _racing(core: ModuleType, stream: Any) -> Any:
    def connect_tcp(_: Any, host: str, port: int, timeout: float | None = None, **__: Any) -> Any:
        try:
            return stream(connect(host, port, monotonic() + (CONNECT_SECONDS if timeout is None else timeout)))
        except OSError as error:
            kind = core.ConnectTimeout if isinstance(error, TimeoutError) else core.ConnectError
            raise kind(str(error)) from error

    return type("RacingBackend", (core.SyncBackend,), {"connect_tcp": connect_tcp})()


__all__ = ["DefaultClient", "HttpClient", "installed_libraries", "showing"]
