"""Deadlines, TLS and broken HTTP, down to the bytes."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from groat.protocol.jwk import generate_private_key
from groat.protocol.key_set import public_key_set
from groat.verifier import KeysUnavailable, Response
from groat.verifier.keys import fetch
from groat.verifier.keys.fetch import MAX_BODY_BYTES, FetchError, KeyFetcher, https_get
from tests import certificates
from tests.certificates import self_signed
from tests.verifier.issuer import JWKS, METADATA, Answer, Issuer, eventually, json_answer, serving

GOOD = public_key_set([generate_private_key("ES256").public])


@pytest.mark.rule("RS-18", "R15", "K07", "F11")
@pytest.mark.parametrize("path", [JWKS, METADATA])
def test_slow_drip_ends_at_the_deadline(issuer: Issuer, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte now and then keeps no fetch alive: headers, body and discovery share one deadline."""
    monkeypatch.setattr(fetch, "DEADLINE", 0.4)
    answer = json_answer(issuer.document() if path == JWKS else issuer.metadata(), drip=0.02)
    issuer.spoil(path, answer)
    started = time.monotonic()
    with pytest.raises(FetchError, match="no answer in time"):
        KeyFetcher(issuer.url).fetch(None, 0.0)
    assert time.monotonic() - started < 1.5


@pytest.mark.rule("RS-18", "R15")
def test_silent_server_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts and says nothing costs the deadline and no more."""
    monkeypatch.setattr(fetch, "DEADLINE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}/jwks"
        with pytest.raises(FetchError, match="no answer in time"):
            KeyFetcher("https://as.example", uri).fetch(None, 0.0)


@pytest.mark.rule("RS-18", "JOSE-05")
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="closed at once"),
        pytest.param(b"\x00\xff\x00\xff\r\n\r\n", id="no HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 500 + b"\r\n", id="500 headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", id="one endless header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="broken chunks"),
        pytest.param(b"HTTP/1.1 two OK\r\n\r\n", id="status no number"),
    ],
)
def test_broken_http_is_a_fetch_error(raw: bytes) -> None:
    """Whatever comes over the wire, the caller sees one kind of exception."""
    with RawServer(raw) as origin, pytest.raises(FetchError):
        KeyFetcher("https://as.example", f"{origin}/jwks").fetch(None, 0.0)


class RawServer:
    """Answers one connection with these bytes; over TLS if it has a context."""

    def __init__(self, raw: bytes, context: ssl.SSLContext | None = None) -> None:
        self._raw, self._context = raw, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(5)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
            with connection:
                self._answer(connection)
        except OSError:
            return

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True)
        connection.recv(65536)
        connection.sendall(self._raw)
        connection.close()

    def __enter__(self) -> str:
        self._thread.start()
        scheme = "http" if self._context is None else "https"
        return f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join(5)


@pytest.mark.rule("RS-18", "OPS-01", "FO-19")
def test_certificates_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown authority is refused; the same server is accepted once its authority is trusted."""
    authority, both = self_signed(tmp_path)
    context = certificates.serving(both)
    good = json_answer(GOOD).raw()
    monkeypatch.setattr(fetch, "_tls", ssl.create_default_context)
    with (
        RawServer(good, context) as origin,
        pytest.raises(FetchError, match=r"not trusted: self.signed.*SSL_CERT_FILE"),
    ):
        KeyFetcher("https://as.example", f"{origin}/jwks").fetch(None, 0.0)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with RawServer(good, context) as origin:
        assert KeyFetcher("https://as.example", f"{origin}/jwks").fetch(None, 0.0).by_kid
    with RawServer(good, context) as origin, pytest.raises(FetchError, match="not trusted: Hostname mismatch"):
        KeyFetcher("https://as.example", f"{origin.replace('127.0.0.1', 'localhost')}/jwks").fetch(None, 0.0)


def test_default_tls_settings() -> None:
    """The default context checks certificates and names, and speaks TLS 1.2 at least."""
    context = fetch._tls()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.rule("RS-18")
def test_own_http_callable(issuer: Issuer) -> None:
    """A callable of the user's own is held to the same rules for what it brings."""
    asked: list[str] = []

    def http(url: str, headers: Mapping[str, str]) -> Response:
        asked.append(url)
        return https_get(url, headers, time.monotonic() + 5)

    assert issuer.verifier(http=http).verify(issuer.token()).client_id == "billing"
    assert asked == [issuer.origin + METADATA, issuer.origin + JWKS]

    def large(url: str, headers: Mapping[str, str]) -> Response:
        return Response(200, {"Content-Type": "application/json"}, b" " * (MAX_BODY_BYTES + 1))

    with pytest.raises(KeysUnavailable) as caught:
        issuer.verifier(http=large).verify(issuer.token())
    assert caught.value.hint == "the answer is too large"

    def broken(url: str, headers: Mapping[str, str]) -> Response:
        raise LookupError(url)

    with pytest.raises(KeysUnavailable, match="key_unavailable") as caught:
        issuer.verifier(http=broken).verify(issuer.token())
    assert "LookupError" in caught.value.hint


@pytest.mark.rule("RS-18", "R14")
@pytest.mark.parametrize("uri", ["http://keys.example/jwks", "file:///etc/passwd", "https://user@keys.example/jwks"])
def test_unfit_address_is_never_visited(uri: str) -> None:
    """The fetcher itself refuses an address before anybody is asked, whoever gave it."""
    asked: list[str] = []

    def http(url: str, headers: Mapping[str, str]) -> Response:
        asked.append(url)
        return Response(200, {}, b"")

    with pytest.raises(FetchError, match="must be https"):
        KeyFetcher("https://as.example", uri, http=http).fetch(None, 0.0)
    assert asked == []


@pytest.fixture
def with_threads() -> Iterator[None]:
    before = threading.active_count()
    yield
    eventually(lambda: threading.active_count() <= before)


@pytest.mark.usefixtures("with_threads")
@pytest.mark.rule("I9")
def test_threads_and_sockets_do_not_stay() -> None:
    """A fetch leaves neither thread nor socket behind, whether it succeeds or not (unclosed ones are warnings)."""
    with serving() as issuer:
        for answer in (None, Answer(status=500), Answer(b" " * (MAX_BODY_BYTES + 1))):
            if answer is not None:
                issuer.spoil(JWKS, answer)
            try:
                issuer.verifier().warm_sync()
            except KeysUnavailable:
                assert answer is not None
