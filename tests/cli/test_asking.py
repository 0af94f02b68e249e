"""Whom `groat token` asks: the issuer itself, never whoever happens to listen on a local port; and with which key."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from groat.keys import files
from groat.protocol import jose
from groat.protocol.jwk import generate_private_key
from tests.ports import free_port

from .running import AUDIENCE, ISSUER, Home

GET = ("token", "get", "--client-id", "billing", "--key", "billing.key.json", "--scope", "orders:read")
VERIFY = ("token", "verify", "--audience", AUDIENCE)


@dataclass
class Eavesdropper:
    """A program that took the port first, and says about itself whatever it likes."""

    port: int
    heard: list[bytes] = field(default_factory=list)


@contextmanager
def eavesdropper() -> Iterator[Eavesdropper]:
    """Listen on loopback and write down what comes."""
    heard: list[bytes] = []

    class Handler(socketserver.BaseRequestHandler):
        answer: ClassVar = b'{"issuer":"%s"}' % ISSUER.encode()

        def handle(self) -> None:
            self.request.settimeout(5)
            heard.append(self.request.recv(65536))
            head = (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            )
            self.request.sendall(head % len(self.answer) + self.answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield Eavesdropper(server.server_address[1], heard)
        finally:
            server.shutdown()
            thread.join(5)


@pytest.mark.rule("FO-12")
@pytest.mark.parametrize("command", [GET, VERIFY], ids=["get", "verify"])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_another_program_on_the_local_port_hears_nothing(home: Home, host: str, command: tuple[str, ...]) -> None:
    """The issuer is asked; it cannot be reached from here, and the message says what a user may do who knows better."""
    token = home.ok("client", "assertion", "billing", "--key", "billing.key.json").out
    as_token = token.replace(token.partition(".")[0], "eyJhbGciOiJFUzI1NiIsImtpZCI6IngiLCJ0eXAiOiJhdCtqd3QifQ")
    with eavesdropper() as other:
        done = home(*command, stdin=as_token, GROAT_SERVER__PORT=str(other.port), GROAT_SERVER__HOST=host)
    assert (done.code, done.out, other.heard) == (5, "", [])
    assert "--local asks http://" in done.err
    assert f":{other.port} instead" in done.err


@pytest.mark.rule("FO-12")
def test_local_is_an_explicit_word(home: Home) -> None:
    """With it the address of [server] is asked, whoever is there: that is what the user said."""
    with eavesdropper() as other:
        done = home(*GET, "--local", GROAT_SERVER__PORT=str(other.port))
    assert done.code == 5
    assert f"asking the local server at http://127.0.0.1:{other.port} for {ISSUER}" in done.err
    assert other.heard[0].startswith(b"POST /token ")


@pytest.mark.rule("FO-12")
def test_an_issuer_on_loopback_is_asked_there(empty: Home) -> None:
    """The introduction on one machine needs no further word: there the issuer is the local address."""
    port = free_port()
    empty.env["GROAT_SERVER__PORT"] = str(port)
    empty.ok("init", "--issuer", f"http://127.0.0.1:{port}")
    empty.ok("api", "add", "orders", "--audience", AUDIENCE, "--scope", "orders:read")
    empty.ok("client", "add", "billing", "--allow", "orders=orders:read", "--new-key", "billing.key.json")
    with empty.serving(port=port):
        token = empty.ok(*GET, "--print-token").out
        empty.ok(*VERIFY, stdin=token)
    done = empty(*GET)
    assert (done.code, "--local" in done.err) == (5, False)


@pytest.mark.rule("FO-12")
def test_local_is_not_for_a_server_with_tls(home: Home) -> None:
    """Its certificate is for the issuer's name."""
    home.file("server.pem", "")
    done = home(*GET, "--local", GROAT_SERVER__TLS_CERTIFICATE_FILE="server.pem")
    assert (done.code, "certificate is for the name" in done.err) == (3, True)


@pytest.mark.rule("FO-11")
@pytest.mark.parametrize("algorithm", ["PS256", "RS512"])
def test_an_rsa_pem_signs_with_the_algorithm_that_is_named(home: Home, algorithm: str) -> None:
    """Registered for PS256, it is used with --alg PS256; the file itself cannot say it, and `client add` tells so."""
    port = free_port()
    home.env["GROAT_SERVER__PORT"] = str(port)
    add = ("client", "add", "rsa", "--allow", "orders=orders:read", "--rsa-bits", "2048")
    made = home.ok(*add, "--new-key", "rsa.pem", "--alg", algorithm)
    assert f"give it with --alg {algorithm}" in made.err
    get = ("token", "get", "--local", "--client-id", "rsa", "--key", "rsa.pem", "--scope", "orders:read")
    with home.serving(port=port):
        assert home(*get).code == 4
        home.ok(*get, "--alg", algorithm)
    signed = home.ok("client", "assertion", "rsa", "--key", "rsa.pem", "--alg", algorithm).out.strip()
    assert jose.parse_jwt(signed).header.algorithm.name == algorithm


@pytest.mark.rule("FO-7")
def test_two_public_keys_of_one_file_are_both_registered(home: Home) -> None:
    """By `client add` and by `client key add`."""
    keys = [generate_private_key("ES256") for _ in range(4)]
    for name, pair in (("first.pem", keys[:2]), ("then.pem", keys[2:])):
        home.file(name, b"".join(files.public_key_pem(key.public) for key in pair))
    home.ok("client", "add", "two", "--allow", "orders=orders:read", "--public-key", "first.pem")
    home.ok("client", "key", "add", "two", "then.pem")
    assert set(home.ok("-q", "client", "key", "list", "two").out.split()) == {key.kid for key in keys}
