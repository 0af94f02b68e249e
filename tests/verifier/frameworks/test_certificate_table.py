"""Tokens that are bound to a certificate (RFC 8705 3) at every adapter, each in a real server: by proxies, and by TLS."""

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from groat.verifier import Certificates, Verifier
from tests.certificates import self_signed
from tests.leaves import CallerCertificate, caller_certificate, written
from tests.verifier.frameworks import grpc_servers
from tests.verifier.frameworks.grpc_servers import KINDS, SERVERS
from tests.verifier.frameworks.test_grpc_table import Served as GrpcServed
from tests.verifier.frameworks.test_table import APPS, Headers, Served, Sides, bearer, started
from tests.verifier.issuer import serving
from tests.verifier.tokens import AUD

# A dialect for each, so that each is read out of what some server makes of its characters. Traefik's is none for WSGI
# here: it has commas of its own, so that of lines which a server has joined the first counts.
DIALECTS: Final = {
    "aiohttp_app": "rfc9440",
    "asgi_app": "nginx",
    "django_app": "haproxy",
    "django_asgi_app": "envoy",
    "drf_app": "caddy",
    "fastapi_app": "traefik",
    "flask_app": "envoy",
}
OVER_TLS: Final = ["aiohttp_app", "django_app", "flask_app"]


@pytest.fixture(scope="module")
def sides() -> Iterator[Sides]:
    with serving() as issuer, serving() as away:
        away.close()
        yield Sides(issuer, away)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def mine(folder: Path) -> CallerCertificate:
    return caller_certificate(folder, "mine")


@pytest.fixture(scope="module")
def other(folder: Path) -> CallerCertificate:
    return caller_certificate(folder, "other")


def verdict(served: Served, headers: Headers, source: str = "127.0.0.1") -> tuple[int, str | None]:
    """Status and error of an answer to a request from this address."""
    address = ("127.0.0.1", served.port)
    connection = http.client.HTTPConnection(*address, timeout=20, source_address=(source, 0))
    with closing(connection):
        got = served.ask_on(connection, "/protected", headers)
    return got.status, json.loads(got.body).get("error")


@pytest.mark.rule("RS-MT-01", "RS-MT-02", "RS-28")
@pytest.mark.parametrize("name", APPS)
def test_by_the_word_of_a_proxy(name: str, sides: Sides, mine: CallerCertificate, other: CallerCertificate) -> None:
    """The named one counts, in its dialect alone; the same header from another address says nothing."""
    dialect = DIALECTS[name]
    token = bearer(sides.good(cnf=mine.cnf))
    right, wrong = written(dialect, mine), written(dialect, other)
    second = written("nginx" if dialect != "nginx" else "caddy", mine)
    invalid, malformed = (401, "invalid_token"), (400, "invalid_request")
    with started(name, sides, DIALECT=dialect) as served:
        assert verdict(served, [*token, right]) == (200, None)
        for headers in ([], [wrong], [right, wrong], [wrong, right], [(right[0], "x")]):
            assert verdict(served, [*token, *headers]) == invalid
        for headers in ([right, second], [second]):
            assert verdict(served, [*token, *headers]) == malformed
        assert verdict(served, [*token, right], "127.0.0.2") == invalid
        assert verdict(served, [*token, right, ("X-Forwarded-For", "127.0.0.1")], "127.0.0.2") == invalid
        assert verdict(served, bearer(sides.good())) == (200, None)
        metadata = json.loads(served.ask("/.well-known/oauth-protected-resource").body)
        assert metadata["tls_client_certificate_bound_access_tokens"] is True


def context(server: Path, leaf: CallerCertificate | None) -> ssl.SSLContext:
    """A caller's: trusts this server, and shows its certificate."""
    made = ssl.create_default_context(cafile=str(server))
    if leaf is not None:
        made.load_cert_chain(leaf.both)
    return made


@pytest.mark.rule("RS-MT-01", "RS-28")
@pytest.mark.parametrize("name", OVER_TLS)
def test_by_its_own_tls(
    name: str, sides: Sides, folder: Path, mine: CallerCertificate, other: CallerCertificate
) -> None:
    """The certificate of the handshake counts; headers say nothing beside it, and where there is none."""
    (place := folder / name).mkdir()
    authority, both = self_signed(place)
    callers = place / "callers.pem"
    callers.write_text(mine.pem + other.pem)
    token = bearer(sides.good(cnf=mine.cnf))
    forged = [written(dialect, mine) for dialect in ("rfc9440", "nginx")]
    with started(name, sides, "", context(authority, None), TLS=str(both), CALLERS=str(callers)) as served:

        def ask(leaf: CallerCertificate | None, headers: Headers) -> int:
            return Served(served.port, "", context(authority, leaf)).ask("/protected", headers).status

        assert ask(mine, token) == 200
        assert ask(mine, [*token, written("rfc9440", other)]) == 200
        assert ask(other, token) == 401
        assert ask(None, token) == 401
        assert ask(other, [*token, *forged]) == 401
        assert ask(None, [*token, *forged]) == 401
        assert ask(None, bearer(sides.good())) == 200


def secured(server: tuple[Path, Path], *leaves: CallerCertificate) -> grpc.ServerCredentials:
    """Of a server that demands certificates: gRPC knows no way to ask for one and go on without."""
    both = server[1].read_bytes()
    return grpc.ssl_server_credentials([(both, both)], "".join(one.pem for one in leaves).encode(), True)


@pytest.mark.rule("RS-MT-01", "RS-28")
@pytest.mark.parametrize("name", SERVERS)
def test_grpc_by_its_own_tls(
    name: str, sides: Sides, tmp_path: Path, mine: CallerCertificate, other: CallerCertificate
) -> None:
    """Each kind of call, of each kind of server; what is not let in is not parsed, and its caller is nobody's."""
    server = self_signed(tmp_path)
    verifier = Verifier(None, AUD, issuers=[sides.issuer.url, sides.away.url])
    metadata: Any = [("authorization", f"Bearer {sides.good(cnf=mine.cnf)}")]
    plain: Any = [("authorization", f"Bearer {sides.good()}")]
    with SERVERS[name](verifier, secured(server, mine, other)) as port:

        def calls(leaf: CallerCertificate, sent: Any) -> list[tuple[grpc.StatusCode, int]]:
            both = leaf.both.read_bytes()
            credentials = grpc.ssl_channel_credentials(server[0].read_bytes(), both, both)
            with grpc.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
                answers = [GrpcServed(channel).order(sent, kind) for kind in KINDS]
            assert all(one["client"] == "billing" for got in answers for one in got.answers)
            return [(got.code, len(got.answers)) for got in answers]

        let_in = [(grpc.StatusCode.OK, 1 + kind.endswith("Stream")) for kind in KINDS]
        assert calls(mine, metadata) == let_in
        assert calls(other, plain) == let_in
        grpc_servers.parsed.clear()
        assert calls(other, metadata) == [(grpc.StatusCode.UNAUTHENTICATED, 0)] * len(KINDS)
        assert calls(other, [*metadata, ("client-cert", written("rfc9440", mine)[1])]) == [
            (grpc.StatusCode.UNAUTHENTICATED, 0)
        ] * len(KINDS)
        assert grpc_servers.parsed == []


@pytest.mark.rule("RS-MT-02")
@pytest.mark.parametrize("name", ["sync", "aio"])
def test_grpc_by_the_word_of_a_proxy(
    name: str, sides: Sides, mine: CallerCertificate, other: CallerCertificate
) -> None:
    """As over HTTP: metadata are its headers."""
    metadata = [("authorization", f"Bearer {sides.good(cnf=mine.cnf)}")]
    codes = grpc.StatusCode
    for named, expected in (("127.0.0.0/8", codes.OK), ("10.0.0.0/8", codes.UNAUTHENTICATED)):
        verifier = sides.issuer.verifier(certificates=Certificates(named, "envoy"))
        with SERVERS[name](verifier) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            served = GrpcServed(channel)

            def code(*lines: tuple[str, str], served: GrpcServed = served) -> grpc.StatusCode:
                sent = [(header.lower(), value) for header, value in lines]
                return served.order([*metadata, *sent], "UnaryUnary").code

            assert code(written("envoy", mine)) is expected
            assert code(written("envoy", other)) is codes.UNAUTHENTICATED
            if expected is codes.OK:
                assert code(written("envoy", mine), written("caddy", mine)) is codes.INVALID_ARGUMENT
