"""How keys travel: metadata and JWKS over HTTPS, with the hygiene that RFC 8725 3.10 and common sense ask for.

https (or http on loopback and listed hosts), certificates checked, no redirects, status 200, JSON types, strict JSON,
512 KiB, five seconds in all. Blocking code on the standard library; threads and caching are `source`'s business.
"""

import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from groat.outbound.authorities import tls_context
from groat.outbound.connecting import connect
from groat.outbound.deadlines import DeadlineSocket
from groat.outbound.freshness import lifetime
from groat.outbound.real_time import monotonic
from groat.protocol import jose, strict_json
from groat.protocol.errors import ConfigError, JoseError
from groat.protocol.jwk import PublicKey, printable
from groat.protocol.key_set import ReadKeySet, Skipped, read_key_set
from groat.protocol.metadata import check_metadata, metadata_urls
from groat.protocol.uris import check_endpoint
from groat.verifier.keys.schedule import DEFAULT_MAX_AGE

MAX_BODY_BYTES: Final = 512 * 1024
MAX_HEAD_BYTES: Final = 64 * 1024
DEADLINE: Final = 5.0  # seconds for one whole visit: metadata and JWKS together
METADATA_MAX_AGE: Final = 3600.0
MAX_LISTED: Final = 3  # entries of a set that one message tells about
_JWKS_TYPES: Final = frozenset({"application/jwk-set+json", "application/json"})
_METADATA_TYPES: Final = frozenset({"application/json"})


class FetchError(Exception):
    """The keys could not be had; `str(error)` says why. What it quotes of the other side's is printable and short.

    `request_id`: what the other side calls the request, in its log; None where it does not say, or did not answer.
    """

    def __init__(self, message: str, request_id: str | None = None) -> None:
        super().__init__(f"{message} [request id {request_id}]" if request_id else message)
        self.request_id = request_id


@dataclass(frozen=True, slots=True)
class Response:
    """What an HTTP GET brought back. Redirects must not have been followed."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


Http = Callable[[str, Mapping[str, str]], Response]

# What stands in for the network, by issuer; only `groat.testing` writes here (docs/decisions/0056-fake-issuer.md).
stand_ins: Final[dict[str, Http]] = {}


@dataclass(frozen=True, slots=True)
class KeySet:
    """One issuer's keys as fetched; replaced as a whole, never changed.

    `max_age`: seconds, as the server said it, not clamped yet. `found_at`: when metadata named `uri`. `skipped`: the
    entries that nothing is verified with.
    """

    by_kid: Mapping[str, PublicKey]
    uri: str
    found_at: float
    max_age: float = DEFAULT_MAX_AGE
    etag: str | None = None
    skipped: tuple[Skipped, ...] = ()

    def find(self, header: jose.Header) -> PublicKey | None:
        """The key for this header, or None if another set may have it. Raises JoseError if no set could."""
        if header.kid is None:
            fitting = [key for key in self.by_kid.values() if header.algorithm.name in key.algorithms]
            return jose.select_key(header, fitting) if fitting else None
        key = self.by_kid.get(header.kid)
        if key is None or header.algorithm.name in key.algorithms:
            return key
        return jose.select_key(header, (key,))

    def overlooked(self, header: jose.Header) -> tuple[Skipped, ...]:
        """The skipped entries that this header may mean."""
        return tuple(entry for entry in self.skipped if header.kid is None or entry.kid == header.kid)


@dataclass(frozen=True, slots=True)
class KeyFetcher:
    """Where one issuer's keys are: behind its metadata (RFC 8414), or at a configured `jwks_uri`.

    `http`: a callable to use instead of the standard library; it must not follow redirects and needs its own timeout.
    """

    issuer: str
    jwks_uri: str | None = None
    allow_http_hosts: frozenset[str] = frozenset()
    http: Http | None = None

    def fetch(self, previous: KeySet | None, now: float, *, rediscover: bool = False) -> KeySet:
        """Visit the issuer once. Raises FetchError; then `previous` is what there still is.

        `now` is the caller's monotonic clock and only dates the discovery; the deadline runs on real time.
        """
        deadline = monotonic() + DEADLINE
        try:
            uri, found_at = self._locate(None if rediscover else previous, now, deadline)
            return self._key_set(uri, found_at, previous, deadline)
        except (JoseError, ConfigError) as error:
            raise FetchError(str(error)) from None

    def locate(self) -> str:
        """Where the keys are, without a visit there. Raises FetchError."""
        return self._locate(None, 0.0, monotonic() + DEADLINE)[0]

    def _locate(self, previous: KeySet | None, now: float, deadline: float) -> tuple[str, float]:
        if self.jwks_uri is not None:
            return self.jwks_uri, now
        if previous is not None and now < previous.found_at + METADATA_MAX_AGE:
            return previous.uri, previous.found_at
        problems, request_id = [], None
        for url in metadata_urls(self.issuer):
            try:
                return self._discover(url, deadline), now
            except (FetchError, JoseError, ConfigError) as error:
                problems.append(str(error))
                request_id = getattr(error, "request_id", None) or request_id
        told = FetchError("; ".join(dict.fromkeys(problems)))
        told.request_id = request_id  # the last one; each stands in its problem already
        raise told

    def _discover(self, url: str, deadline: float) -> str:
        response = self._get(url, {}, deadline)
        _require(response, _METADATA_TYPES, "the metadata document")
        found = check_metadata(strict_json.loads_object(response.body), self.issuer, self.allow_http_hosts)
        if found.jwks_uri is None:
            raise FetchError("the metadata document has no jwks_uri")
        return found.jwks_uri

    def _key_set(self, uri: str, found_at: float, previous: KeySet | None, deadline: float) -> KeySet:
        known = previous if previous is not None and previous.uri == uri else None
        condition = {"If-None-Match": known.etag} if known is not None and known.etag else {}
        response = self._get(uri, condition, deadline)
        headers = {name.lower(): value for name, value in response.headers.items()}
        if known is not None and condition and response.status == 304:
            return replace(known, found_at=found_at, max_age=_lifetime(headers))
        _require(response, _JWKS_TYPES, "the JWKS")
        read = read_key_set(strict_json.loads_object(response.body))
        if not read.keys:
            raise FetchError("the JWKS has no usable key" + _listed(read.skipped))
        return _key_set(read, previous, uri, found_at, headers)

    def _get(self, url: str, condition: Mapping[str, str], deadline: float) -> Response:
        headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity", **condition}
        try:
            check_endpoint(url, self.allow_http_hosts)
            http = stand_ins.get(self.issuer, self.http)
            response = https_get(url, headers, deadline) if http is None else http(url, headers)
        except (ConfigError, FetchError):
            raise
        except TimeoutError:
            raise FetchError("no answer in time") from None
        except ssl.SSLCertVerificationError as error:
            raise FetchError(_distrust(error)) from None
        except (OSError, HTTPException, ValueError) as error:
            raise FetchError(f"no usable answer ({type(error).__name__})") from None
        if len(response.body) > MAX_BODY_BYTES:
            raise FetchError("the answer is too large")
        return response


def _key_set(
    read: ReadKeySet, previous: KeySet | None, uri: str, found_at: float, headers: Mapping[str, str]
) -> KeySet:
    keys = _by_kid(read.keys, previous)
    return KeySet(keys, uri, found_at, _lifetime(headers), headers.get("etag"), read.skipped)


def _distrust(error: ssl.SSLCertVerificationError) -> str:
    """What OpenSSL has against a certificate: another name, an unknown authority, its end."""
    why = printable(getattr(error, "verify_message", "") or type(error).__name__)
    return f"the certificate is not trusted: {why}; SSL_CERT_FILE names the authorities to trust"


def _listed(skipped: Sequence[Skipped]) -> str:
    """Why entries were skipped, the first few of them."""
    return "".join(f"; {entry}" for entry in skipped[:MAX_LISTED])


def _by_kid(keys: Iterable[PublicKey], previous: KeySet | None) -> Mapping[str, PublicKey]:
    """Index a set; a key that stays the same stays the same object, so that what it proved stays proven."""
    old = previous.by_kid if previous is not None else {}
    index = {}
    for key in keys:
        known = old.get(key.kid)
        same = known is not None and (known.thumbprint, known.algorithms) == (key.thumbprint, key.algorithms)
        index[key.kid] = known if known is not None and same else key
    return MappingProxyType(index)


def _require(response: Response, types: frozenset[str], what: str) -> None:
    headers = {name.lower(): value for name, value in response.headers.items()}
    request_id = printable(headers["x-request-id"]) if headers.get("x-request-id") else None
    if response.status != 200:
        raise FetchError(f"{what} came with status {int(response.status)}, not 200", request_id)
    if headers.get("content-type", "").partition(";")[0].strip().lower() not in types:
        raise FetchError(f"{what} came with another content type than {' or '.join(sorted(types))}", request_id)
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise FetchError(f"{what} came compressed", request_id)


def _lifetime(headers: Mapping[str, str]) -> float:
    return lifetime(headers.get("cache-control", ""), headers.get("age", ""), DEFAULT_MAX_AGE)


def https_get(url: str, headers: Mapping[str, str], deadline: float) -> Response:
    """One GET on the standard library; a redirect is an answer like any other, and a refused one.

    `deadline`: by `groat.outbound.real_time.monotonic`. Raises OSError, HTTPException, ValueError, FetchError,
    AuthoritiesUnusable. Not limited: the time a name server takes (the reason why waiting requests have their own
    timeout). Proxies from the environment are not used.
    """
    connection = _connection(url, deadline)
    connection.response_class = lambda sock, *args, **kwargs: HTTPResponse(  # type: ignore[assignment]
        DeadlineSocket(sock, deadline, MAX_BODY_BYTES + MAX_HEAD_BYTES),  # type: ignore[arg-type]
        *args,
        **kwargs,
    )
    try:
        connection.request("GET", _target(url), headers={"User-Agent": "groat-verifier", **headers})
        response = connection.getresponse()
        body = response.read(MAX_BODY_BYTES + 1)
        if response.length and len(body) <= MAX_BODY_BYTES:
            raise FetchError("the answer ends early")
        # getheader joins repeated lines, so that no second value hides behind the first.
        names = {name.lower() for name, _ in response.getheaders()}
        return Response(response.status, {name: response.getheader(name) or "" for name in names}, body)
    finally:
        connection.close()


def _connection(url: str, deadline: float) -> HTTPConnection:
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    context = _tls() if secure else None
    connection = HTTPSConnection(host, parts.port, context=context) if secure else HTTPConnection(host, parts.port)
    sock = connect(host, connection.port, deadline)
    try:
        connection.sock = sock if context is None else context.wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise
    return connection


def _target(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


# The context is kept, so that reading the authorities costs the first fetch only.
_tls: Final = cache(tls_context)
