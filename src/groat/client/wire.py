"""One HTTP exchange with an authorization server: no redirects, a deadline, a small answer, or a ServerUnreachable.

httpx2 or httpx does the work, whichever is there; neither is imported before the first request.
"""

import os
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import urlsplit

from groat.client.default_client import LIBRARIES, DefaultClient, HttpClient
from groat.client.errors import (
    ClientClosed,
    ClientError,
    EnvironmentUnusable,
    ServerUnreachable,
    TokenResponseInvalid,
    foreign,
    request_id,
)
from groat.client.fork import renew_in_child
from groat.client.proxies import VARIABLES, proxy_for
from groat.protocol.errors import ConfigError

MAX_ANSWER_BYTES: Final = 64 * 1024


HttpSource = HttpClient | Callable[[], HttpClient | DefaultClient] | None

# What stands in for the network, by scheme and host with port; only `groat.testing` writes here (docs/decisions/0056).
stand_ins: Final[dict[tuple[str, str], HttpClient]] = {}


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to the authorization server, or to a platform; its body or headers hold what proves who asks."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer; its body may hold a token. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def request_id(self) -> str | None:
        """What the server calls this request in its log."""
        return request_id(self.headers)


class Transport:
    """Sends requests over one HTTP client, which is made at the first use and again in a forked child.

    A client instance given by the caller is used as it is and never closed; a factory's product is ours.
    Not bounded here: the time of a name look-up, and of headers that trickle in; the waiting callers are (token_cache).
    """

    def __init__(
        self, http: HttpSource = None, *, timeout: float = 5.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        given = hasattr(http, "send") and not isinstance(http, type)  # a class is a factory
        self._given = cast(HttpClient, http) if given else None
        self._factory = cast(Callable[[], HttpClient | DefaultClient], http or DefaultClient)
        self._timeout = timeout
        self._monotonic = monotonic
        self._closed = False
        self.renew_after_fork()
        renew_in_child(self)

    def renew_after_fork(self) -> None:
        """Forget our client without closing it: its sockets belong to the parent too."""
        self._lock = threading.Lock()
        self._own: HttpClient | DefaultClient | None = None

    def exchange(self, request: Outgoing, end: float) -> Answer:
        """Send and read to the end, within the timeout and before `end` (monotonic seconds).

        Raises ServerUnreachable, TokenResponseInvalid (over 64 KiB, or compressed although we asked for plain bytes),
        ClientClosed. The library's exception is not chained: it refers to the request and so to the assertion.
        """
        outcome: Answer | ClientError
        try:
            outcome = self._exchange(request, end)
        except failures() as error:
            outcome = unreachable(request.url, error, self._proxy_of(request.url))
        except RuntimeError:
            # Both libraries say so when the client is closed while, or before, it is used.
            if not self._closed:
                raise
            outcome = ClientClosed("the MachineClient was closed")
        if isinstance(outcome, ClientError):
            raise outcome
        return outcome

    def until(self, seconds: float) -> float:
        """An `end` for `exchange`: so many seconds from now."""
        return self._monotonic() + seconds

    def close(self) -> None:
        """Close the client if it is ours; exchanges under way fail."""
        with self._lock:
            self._closed, own, self._own = True, self._own, None
        if own is not None:
            own.close()

    def _exchange(self, request: Outgoing, end: float) -> Answer | TokenResponseInvalid:
        # Making a client loads an HTTP library and the CA certificates; that must not eat the exchange's time.
        client = self._client(request.url)
        started = self._monotonic()
        left = min(self._timeout, end - started)
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        headers = {**request.headers, "Accept-Encoding": "identity"}
        built = client.build_request(
            request.method, request.url, content=request.body or None, headers=headers, timeout=left
        )
        response = client.send(built, stream=True, auth=None, follow_redirects=False)
        try:
            body = self._read(response, started + left)
        finally:
            response.close()
        received = {name.lower(): value for name, value in response.headers.items()}
        if isinstance(body, bytes):
            return Answer(response.status_code, received, body)
        return body.about(request_id(received))

    def _proxy_of(self, url: str) -> str:
        """The variable whose proxy stood in between, as far as we chose it."""
        proxy = proxy_for(url) if isinstance(self._own, DefaultClient) else None
        return "" if proxy is None else f" (through the proxy of {proxy.variable})"

    def _read(self, response: Any, end: float) -> bytes | TokenResponseInvalid:
        """The body, or what is wrong with it: an exception from here would carry the token in its frames."""
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            return TokenResponseInvalid("the answer is compressed, although plain bytes were asked for")
        chunks, size = [], 0
        for chunk in response.iter_raw():
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                return TokenResponseInvalid(
                    f"the answer is longer than {MAX_ANSWER_BYTES} bytes", status=response.status_code
                )
            if self._monotonic() > end:
                raise TimeoutError("the answer came too slowly")
            chunks.append(chunk)
        return b"".join(chunks)

    def _client(self, url: str) -> HttpClient:
        if stand_ins and (found := stand_ins.get(urlsplit(url)[:2])) and not self._closed:
            return found
        if self._given is not None and not self._closed:
            return self._given
        # Only request threads wait here; callers with a valid token never come this way.
        with self._lock:
            if self._closed:
                raise ClientClosed("the MachineClient was closed")
            if self._own is None:
                self._own = _made_by(self._factory)
            return self._own.towards(url) if isinstance(self._own, DefaultClient) else self._own


def _made_by(factory: Callable[[], HttpClient | DefaultClient]) -> HttpClient | DefaultClient:
    """What the factory makes. The libraries' own clients read the environment, and fail without naming a variable."""
    try:
        return factory()
    except ConfigError:
        raise
    except (ImportError, OSError, ValueError) as error:
        problem = f"http= makes no client: {type(error).__name__}: {foreign(str(error))}"
    named = ", ".join(name for name in VARIABLES if os.environ.get(name))
    raise EnvironmentUnusable(problem, hint=f"the HTTP library reads {named}, which are set" if named else "")


def failures() -> tuple[type[Exception], ...]:
    """What the libraries raise for a failed exchange; only loaded ones can raise."""
    loaded = [sys.modules[name] for name in LIBRARIES if sys.modules.get(name) is not None]
    classes = [getattr(library, name) for library in loaded for name in ("HTTPError", "InvalidURL", "StreamError")]
    return (OSError, *classes)


def unreachable(url: str, error: Exception, proxy: str = "") -> ServerUnreachable:
    """Such a failure in our words; `proxy`: what stood in between."""
    host = urlsplit(url).netloc
    # The library's own text for a connection or TLS error names hosts and certificates, never bodies.
    message = f"{host}{proxy}: {type(error).__name__}: {foreign(str(error))}"
    if _is_tls(error):
        return ServerUnreachable(
            message, transient=False, hint="trust the server's CA through SSL_CERT_FILE, or http= with your own client"
        )
    return ServerUnreachable(message)


def _is_tls(error: BaseException | None) -> bool:
    """Whether TLS itself failed: trying again would not change a certificate."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False
