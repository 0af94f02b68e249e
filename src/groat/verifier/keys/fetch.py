"""How keys travel: metadata and JWKS over HTTPS, with the hygiene that RFC 8725 3.10 and common sense ask for.

https (or http on loopback and listed hosts), certificates checked, no redirects, status 200, JSON types, strict JSON,
512 KiB, five seconds in all. Blocking code on the standard library; threads and caching are `kept`'s business.
"""

import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
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
from groat.protocol.metadata import ServerMetadata, check_metadata, metadata_urls
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
Post = Callable[[str, Mapping[str, str], bytes], Response]

# What stands in for the network, by issuer, for GET and for POST with its body; only `groat.testing` writes here
# (docs/decisions/0056-fake-issuer.md).
stand_ins: Final[dict[str, Callable[..., Response]]] = {}


@dataclass(frozen=True, slots=True)
class Way:
    """How one issuer is asked. `http`, `post`: what to use instead of the standard library, each with a timeout."""

    issuer: str
    allow_http_hosts: frozenset[str] = frozenset()
    http: Http | None = None
    post: Post | None = None

    def get(self, url: str, headers: Mapping[str, str], deadline: float, limit: int | None = None) -> Response:
        """One GET. Raises FetchError. `limit`: bytes of body; those of a key set by default."""
        http = stand_ins.get(self.issuer, self.http)
        size = MAX_BODY_BYTES if limit is None else limit
        own = partial(exchange, url, headers, deadline, size)
        return self._answer(url, size, own if http is None else partial(http, url, headers))

    def send(self, url: str, headers: Mapping[str, str], body: bytes, deadline: float) -> Response:
        """One POST. Raises FetchError."""
        post = stand_ins.get(self.issuer, self.post)
        own = partial(exchange, url, headers, deadline, MAX_BODY_BYTES, body)
        return self._answer(url, MAX_BODY_BYTES, own if post is None else partial(post, url, headers, body))

    def _answer(self, url: str, limit: int, ask: Callable[[], Response]) -> Response:
        try:
            check_endpoint(url, self.allow_http_hosts)
            response = ask()
        except (ConfigError, FetchError):
            raise
        except TimeoutError:
            raise FetchError("no answer in time") from None
        except ssl.SSLCertVerificationError as error:
            raise FetchError(_distrust(error)) from None
        except (OSError, HTTPException, ValueError) as error:
            raise FetchError(f"no usable answer ({type(error).__name__})") from None
        if len(response.body) > limit:
            raise FetchError("the answer is too large")
        return response


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
        found = self.metadata(deadline, lambda document: document.jwks_uri is not None)
        return found.jwks_uri or "", now

    def metadata(self, deadline: float, fitting: Callable[[ServerMetadata], bool] = bool) -> ServerMetadata:
        """The issuer's metadata, from the first place where they are and are `fitting`. Raises FetchError."""
        problems, request_id = [], None
        for url in metadata_urls(self.issuer):
            try:
                found = self._discover(url, deadline)
                if fitting(found):
                    return found
                raise FetchError("the metadata document has no jwks_uri")
            except (FetchError, JoseError, ConfigError) as error:
                problems.append(str(error))
                request_id = getattr(error, "request_id", None) or request_id
        told = FetchError("; ".join(dict.fromkeys(problems)))
        told.request_id = request_id  # the last one; each stands in its problem already
        raise told

    def _discover(self, url: str, deadline: float) -> ServerMetadata:
        response = self._get(url, {}, deadline)
        require(response, _METADATA_TYPES, "the metadata document")
        return check_metadata(strict_json.loads_object(response.body), self.issuer, self.allow_http_hosts)

    def _key_set(self, uri: str, found_at: float, previous: KeySet | None, deadline: float) -> KeySet:
        known = previous if previous is not None and previous.uri == uri else None
        condition = {"If-None-Match": known.etag} if known is not None and known.etag else {}
        response = self._get(uri, condition, deadline)
        headers = {name.lower(): value for name, value in response.headers.items()}
        if known is not None and condition and response.status == 304:
            return replace(known, found_at=found_at, max_age=_lifetime(headers))
        require(response, _JWKS_TYPES, "the JWKS")
        read = read_key_set(strict_json.loads_object(response.body))
        if not read.keys:
            raise FetchError("the JWKS has no usable key" + _listed(read.skipped))
        return _key_set(read, previous, uri, found_at, headers)

    def _get(self, url: str, condition: Mapping[str, str], deadline: float) -> Response:
        headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity", **condition}
        return self.way.get(url, headers, deadline)

    @property
    def way(self) -> Way:
        """How the issuer is asked."""
        return Way(self.issuer, self.allow_http_hosts, self.http)


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


def require(response: Response, types: frozenset[str], what: str) -> None:
    """Raises FetchError unless this is a plain 200 of one of these media types."""
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
    """One GET on the standard library, as `exchange`."""
    return exchange(url, headers, deadline)


def exchange(
    url: str,
    headers: Mapping[str, str],
    deadline: float,
    limit: int = MAX_BODY_BYTES,
    body: bytes | None = None,
) -> Response:
    """One GET, or POST of a body, on the standard library; a redirect is an answer like any other, and a refused one.

    `deadline`: by `groat.outbound.real_time.monotonic`; `limit`: bytes of the answer's body. Raises OSError,
    HTTPException, ValueError, FetchError, AuthoritiesUnusable. Not limited: the time a name server takes (the reason
    why waiting requests have their own timeout). Proxies from the environment are not used.
    """
    connection = _connection(url, deadline)
    connection.response_class = lambda sock, *args, **kwargs: HTTPResponse(  # type: ignore[assignment]
        DeadlineSocket(sock, deadline, limit + MAX_HEAD_BYTES),  # type: ignore[arg-type]
        *args,
        **kwargs,
    )
    try:
        method = "GET" if body is None else "POST"
        connection.request(method, _target(url), body, {"User-Agent": "groat-verifier", **headers})
        response = connection.getresponse()
        content = response.read(limit + 1)
        if response.length and len(content) <= limit:
            raise FetchError("the answer ends early")
        # getheader joins repeated lines, so that no second value hides behind the first.
        names = {name.lower() for name, _ in response.getheaders()}
        return Response(response.status, {name: response.getheader(name) or "" for name in names}, content)
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
