"""`groat call --certificate`: against `groat serve` and an API that both ask for certificates in their own handshakes."""

import re
import shlex
import socket
import ssl
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from groat.verifier import Certificates, Response, Verifier
from groat.verifier.aiohttp import middleware
from tests.certificates import self_signed
from tests.conformance.certified_api import asking, protected, running
from tests.guide_pages import blocks
from tests.leaves import CallerCertificate, caller_certificate
from tests.ports import free_port

from .running import Home, Outcome

READ = ("--client-id", "billing", "--scope", "orders:read")


@dataclass(frozen=True)
class Sides:
    """The home of an issuer, an API that wants bound tokens, and two certificates of which one is registered."""

    home: Home
    api: str
    own: CallerCertificate
    other: CallerCertificate

    def call(self, one: CallerCertificate, *words: str, path: str = "/protected") -> Outcome:
        files = ("--certificate", str(one.path), "--certificate-key", str(one.both))
        return self.home("call", f"{self.api}{path}", *READ, *files, *words)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    folder, port, listener = tmp_path_factory.mktemp("certified"), free_port(), socket.create_server(("127.0.0.1", 0))
    authority, both = self_signed(folder)
    own, other = (caller_certificate(folder, name) for name in ("own", "other"))
    for file in (both, own.both, other.both):
        file.chmod(0o600)
    callers, issuer = folder / "callers.pem", f"https://127.0.0.1:{port}"
    callers.write_text(own.pem + other.pem)
    tls = {
        "GROAT_SERVER__PORT": str(port),
        "GROAT_SERVER__TLS_CERTIFICATE_FILE": str(both),
        "GROAT_TLS__CLIENT_CERTIFICATES": "request",
        "GROAT_TLS__CLIENT_CA_FILE": str(callers),
    }
    home = Home(folder, {"SSL_CERT_FILE": str(authority), "GROAT_ISSUER": issuer, **tls})
    api = f"https://127.0.0.1:{listener.getsockname()[1]}"
    home.ok("init", "--issuer", issuer)
    home.ok("api", "add", "orders", "--audience", api, "--scope", "orders:read", "--binding", "any")
    home.ok("client", "add", "billing", "--allow", "orders=orders:read", "--certificate", str(own.path))
    home.ok("client", "add", "keyed", "--allow", "orders=orders:read", "--new-key", "keyed.key.json")
    judge = Verifier(issuer, api, http=_fetching(authority), certificates=Certificates(), require_binding="mtls")
    app = web.Application(middlewares=[middleware(judge, scopes=["orders:read"])])
    app.router.add_get("/protected", protected)
    with home.serving(port=port), closing(judge), running(app, asking(both, callers), listener):
        yield Sides(home, api, own, other)


def _fetching(authority: Path) -> Callable[[str, Mapping[str, str]], Response]:
    trusted = ssl.create_default_context(cafile=str(authority))

    def fetch(url: str, headers: Mapping[str, str]) -> Response:
        with urllib.request.urlopen(url, context=trusted, timeout=20) as answer:
            return Response(answer.status, dict(answer.headers), answer.read())

    return fetch


@pytest.mark.rule("CL-29", "AS-MT-13", "RS-MT-01")
def test_a_certificate_says_who_calls(sides: Sides) -> None:
    """Both ends see it; no assertion is sent, and -v says which certificate it is, and that the token names it."""
    done = sides.call(sides.own, "-v")
    assert (done.code, done.json) == (0, {"client": "billing"})
    assert f"the certificate: x5t#S256 {sides.own.thumbprint}" in done.err
    assert f'"cnf": {{"x5t#S256": "{sides.own.thumbprint}"}}' in done.err
    assert "client_assertion" not in done.err


@pytest.mark.rule("AS-MT-10")
def test_beside_a_key(sides: Sides) -> None:
    """The key says who calls; the token is bound to whatever certificate was shown."""
    done = sides.call(sides.other, "--client-id", "keyed", "--key", "keyed.key.json", "-v")
    assert (done.code, done.json) == (0, {"client": "keyed"})
    assert "client_assertion" in done.err


def test_who_refuses(sides: Sides) -> None:
    """A certificate that is not the client's; no certificate, for an API that wants one; and what cannot be at all."""
    done = sides.call(sides.other)
    assert (done.code, "invalid_client" in done.err) == (4, True)
    bare = sides.home("call", f"{sides.api}/protected", *READ[2:], "--client-id", "keyed", "--key", "keyed.key.json")
    assert (bare.code, bare.out) == (4, "")
    plain = sides.api.replace("https", "http")
    for words, code, said in (
        ((f"{plain}/protected", "--certificate", str(sides.own.both), *READ), 3, "over TLS"),
        ((f"{sides.api}/protected", "--certificate-key", str(sides.own.both), *READ), 3, "needs --certificate"),
        ((f"{sides.api}/protected", "--certificate", str(sides.own.both), *READ[2:]), 2, "--client-id"),
        ((f"{sides.api}/protected", "--certificate", "missing.pem", *READ), 3, "No such file"),
    ):
        wrong = sides.home("call", *words)
        assert (wrong.code, wrong.out, said in wrong.err) == (code, "", True), wrong


def test_the_line_of_the_guide(sides: Sides) -> None:
    """With its files in the caller's directory."""
    (block,) = blocks("certificates.md", "sh")
    for name, file in (("billing.pem", sides.own.path), ("billing.key.pem", sides.own.both)):
        sides.home.file(name, file.read_text())
    line = re.sub(r"https://orders.example.com/orders", f"{sides.api}/protected", block.replace("\\\n", ""))
    assert sides.home.ok(*shlex.split(line)[1:]).json == {"client": "billing"}
