"""Where the token endpoint is: from the issuer's own metadata (RFC 8414), or from explicit configuration."""

import logging
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Protocol

from groat.client.errors import MetadataInvalid, ServerUnreachable
from groat.client.fork import renew_in_child
from groat.client.retry import retry_after
from groat.client.wire import Answer, Outgoing, Transport
from groat.outbound.clocks import Clocks
from groat.protocol import strict_json
from groat.protocol.errors import ConfigError, JoseError
from groat.protocol.metadata import check_metadata, metadata_urls

METADATA_MAX_AGE: Final = 3600.0
STALE_RETRY: Final = 60.0
logger = logging.getLogger("groat.client")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The token endpoint and what it takes; an empty tuple means that the server did not say."""

    url: str
    signing_algorithms: tuple[str, ...] = ()
    auth_methods: tuple[str, ...] = ()


class Directory(Protocol):
    """Knows the token endpoint; `end` is a monotonic deadline."""

    def endpoint(self, end: float) -> Endpoint: ...


@dataclass(frozen=True, slots=True)
class StaticDirectory:
    """An endpoint from configuration: no metadata is read."""

    known: Endpoint

    def endpoint(self, end: float) -> Endpoint:
        return self.known


class MetadataDirectory:
    """Reads the issuer's metadata at the first use, once for all who wait, and again after an hour.

    While a re-read fails for want of an answer, the old document stays in use. `certified`: we show a certificate, so
    the endpoint is the one that asks for it, where there is another (RFC 8705 5).
    """

    def __init__(
        self,
        issuer: str,
        transport: Transport,
        clocks: Clocks,
        allow_http_hosts: Iterable[str] = (),
        *,
        certified: bool = False,
    ) -> None:
        self._issuer = issuer
        self._certified = certified
        self._transport = transport
        self._clocks = clocks
        self._allow_http_hosts = frozenset(allow_http_hosts)
        self._known: Endpoint | None = None
        self._fresh_until = 0.0
        self.renew_after_fork()
        renew_in_child(self)

    def renew_after_fork(self) -> None:
        self._lock = threading.Lock()
        self._flight: Future[Endpoint] | None = None

    def endpoint(self, end: float) -> Endpoint:
        """The endpoint. Raises MetadataInvalid, ServerUnreachable, TokenResponseInvalid (an answer too large)."""
        with self._lock:
            if self._known is not None and self._clocks.monotonic() < self._fresh_until:
                return self._known
            flight, leading = self._flight, self._flight is None
            if flight is None:
                flight = self._flight = Future()
        if leading:
            self._lead(flight, end)
        try:
            return flight.result(max(0.0, end - self._clocks.monotonic()))
        except TimeoutError:
            raise ServerUnreachable(f"{self._issuer}: no metadata before the deadline") from None

    def _lead(self, flight: Future[Endpoint], end: float) -> None:
        """Fetch in this thread, for everybody; whatever comes of it, nobody is left waiting."""
        try:
            endpoint, max_age = self._refetch(end)
        except BaseException as error:
            with self._lock:
                self._flight = None
            flight.set_exception(error)
            return
        with self._lock:
            self._known, self._flight = endpoint, None
            self._fresh_until = self._clocks.monotonic() + max_age
        flight.set_result(endpoint)

    def _refetch(self, end: float) -> tuple[Endpoint, float]:
        try:
            return self._fetch(end), METADATA_MAX_AGE
        except ServerUnreachable as error:
            if self._known is None:
                raise
            logger.warning("metadata of %s could not be read again: %s", self._issuer, error)
            return self._known, STALE_RETRY

    def _fetch(self, end: float) -> Endpoint:
        # A wrong document ends the search at once: only where there is none, the next place is worth a look.
        statuses, request_id = [], None
        for url in metadata_urls(self._issuer):
            answer = self._transport.exchange(Outgoing("GET", url, {"Accept": "application/json"}), end)
            if answer.status == 429 or answer.status >= 500:
                wait = retry_after(answer.headers, self._clocks.now())
                error = ServerUnreachable(f"{url}: status {answer.status}", status=answer.status, retry_after=wait)
                raise error.about(answer.request_id)
            endpoint = self._read(answer)
            if endpoint is not None:
                return endpoint
            statuses.append(str(answer.status))
            request_id = answer.request_id
        raise MetadataInvalid(
            f"{self._issuer} serves no metadata (status {', '.join(statuses)})",
            hint="check the issuer; a server without RFC 8414 metadata needs token_endpoint=",
        ).about(request_id)

    def _read(self, answer: Answer) -> Endpoint | None:
        """The endpoint, or None for a page that is no metadata document. A wrong document is an error at once."""
        if answer.status != 200:
            return None
        try:
            document = strict_json.loads_object(answer.body)
        except JoseError:
            return None
        try:
            metadata = check_metadata(document, self._issuer, self._allow_http_hosts)
        except (ConfigError, ValueError) as error:
            raise MetadataInvalid(f"{self._issuer}: {error}").about(answer.request_id) from None
        if metadata.token_endpoint is None:
            raise MetadataInvalid(f"{self._issuer}: the metadata names no token_endpoint").about(answer.request_id)
        url = metadata.mtls_token_endpoint if self._certified else None
        url = url or metadata.token_endpoint
        logger.debug("metadata of %s: token endpoint %s", self._issuer, url)
        return Endpoint(url, metadata.auth_signing_algs, metadata.auth_methods)
