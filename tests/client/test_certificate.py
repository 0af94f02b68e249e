"""Callers with a certificate (RFC 8705): against a server that asks for one in the handshake, over real TLS."""

import asyncio
import base64
import hashlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import httpx
import httpx2
import pytest
import requests

from groat.client import KeyUnusable, MachineClient, ServerUnreachable
from groat.client.requests import MachineAuth
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import generate_private_key
from tests.certificates import self_signed
from tests.leaves import CallerCertificate, caller_certificate

GROAT: Final = Path(sys.executable).parent / "groat"
METHODS: Final = ["private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"]
API: Final = "https://orders.example.com"


def thumbprint(der: bytes | None) -> str | None:
    return None if der is None else base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()


@dataclass
class Place:
    """A server at 127.0.0.1 whose tokens name the certificate of their request, and which lets in none but its holder.

    `asked`: the form of each token request, and the thumbprint of its connection. `methods`, `alias`: what the metadata
    say, and of the token endpoint.
    """

    certified: bool
    methods: list[str] = field(default_factory=lambda: list(METHODS))
    alias: str | None = None
    asked: list[tuple[dict[str, list[str]], str | None]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def metadata(self) -> dict[str, Any]:
        more = {} if self.alias is None else {"mtls_endpoint_aliases": {"token_endpoint": self.alias + "/token"}}
        methods = {"token_endpoint_auth_methods_supported": self.methods}
        return {"issuer": self.url, "token_endpoint": self.url + "/token", **methods, **more}

    def answer(self, handler: BaseHTTPRequestHandler) -> tuple[int, dict[str, Any]]:
        shown = thumbprint(handler.connection.getpeercert(True)) if self.certified else None  # type: ignore[attr-defined]
        if handler.command == "POST" and handler.path == "/token":
            form = parse_qs(handler.rfile.read(int(handler.headers["content-length"])).decode())
            self.asked.append((form, shown))
            token = f"{len(self.asked)}.{shown}"
            return 200, {"access_token": token, "token_type": "Bearer", "expires_in": 600}
        if handler.path == "/orders":
            token = (handler.headers["authorization"] or "").removeprefix("Bearer ")
            return (200 if shown and token.endswith(f".{shown}") else 401), {}
        return 200, self.metadata()


@contextmanager
def serving(place: Place, server: tuple[Path, Path], *leaves: CallerCertificate) -> Iterator[Place]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, document = place.answer(self)
            body = json.dumps(document).encode()
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Bearer error="invalid_token"')
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            return

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server[1])
    if place.certified:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata="".join(one.pem for one in leaves))
    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http_server.daemon_threads = True
    http_server.socket = context.wrap_socket(http_server.socket, server_side=True)
    place.port = http_server.server_port
    thread = threading.Thread(target=http_server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield place
    finally:
        http_server.shutdown()
        http_server.server_close()
        thread.join(5)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return self_signed(tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def leaves(tmp_path_factory: pytest.TempPathFactory) -> list[CallerCertificate]:
    made = [caller_certificate(tmp_path_factory.mktemp("leaves"), name) for name in ("first", "second")]
    for one in made:
        one.both.chmod(0o600)
    return made


@pytest.fixture(autouse=True)
def trusted(server: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(server[0]))


@pytest.fixture
def place(server: tuple[Path, Path], leaves: list[CallerCertificate]) -> Iterator[Place]:
    with serving(Place(certified=True), server, *leaves) as running:
        yield running


def client(place: Place, certificate: Any, **options: Any) -> MachineClient:
    return MachineClient(place.url, "billing", certificate=certificate, **options)


@pytest.mark.rule("CL-29")
def test_a_certificate_alone_says_who_asks(place: Place, leaves: list[CallerCertificate]) -> None:
    """The request has the client's id and nothing that proves it; the certificate is that of the handshake."""
    with client(place, (leaves[0].path, leaves[0].both)) as machine:
        token = machine.token(API, ["orders:read"])
    assert token.value == f"1.{leaves[0].thumbprint}"
    form, shown = place.asked[0]
    assert shown == leaves[0].thumbprint
    assert form == {
        "grant_type": ["client_credentials"],
        "client_id": ["billing"],
        "scope": ["orders:read"],
        "resource": [API],
    }


@pytest.mark.rule("CL-29")
def test_beside_a_key(place: Place, leaves: list[CallerCertificate]) -> None:
    """The assertion says who asks, and the certificate what the token is bound to."""
    with client(place, leaves[0].both, key=generate_private_key("ES256")) as machine:
        machine.token(API)
    form, shown = place.asked[0]
    assert ("client_assertion" in form, shown) == (True, leaves[0].thumbprint)


@pytest.mark.rule("CL-29")
def test_the_alias_of_the_token_endpoint(server: tuple[Path, Path], leaves: list[CallerCertificate]) -> None:
    """Who shows a certificate goes there; whoever has none, and the metadata's reader, stay at the ordinary host."""
    with serving(Place(certified=True), server, *leaves) as alias, serving(Place(certified=False), server) as plain:
        plain.alias = alias.url
        with client(plain, leaves[0].both) as machine:
            machine.token(API)
        assert (len(plain.asked), len(alias.asked)) == (0, 1)
        with MachineClient(plain.url, "billing", generate_private_key("ES256")) as machine:
            machine.token(API)
        assert (len(plain.asked), len(alias.asked)) == (1, 1)


@pytest.mark.rule("CL-29")
@pytest.mark.parametrize("alias", ["http://evil.example/token", 7, {}])
def test_an_alias_that_cannot_be(place: Place, leaves: list[CallerCertificate], alias: Any) -> None:
    """Nothing is sent anywhere."""
    place.metadata = lambda: {  # type: ignore[method-assign]
        "issuer": place.url,
        "token_endpoint": place.url + "/token",
        "mtls_endpoint_aliases": {"token_endpoint": alias} if alias != {} else [],
    }
    with client(place, leaves[0].both) as machine, pytest.raises(Exception, match=r"token_endpoint|https|aliases"):
        machine.token(API)
    assert place.asked == []


def test_a_server_that_takes_none(place: Place, leaves: list[CallerCertificate]) -> None:
    """Said here, before anything is sent; with a key it goes on."""
    place.methods = ["private_key_jwt"]
    with client(place, leaves[0].both) as machine, pytest.raises(KeyUnusable, match="by certificate"):
        machine.token(API)
    assert place.asked == []


@pytest.mark.rule("CL-34", "CL-30")
def test_a_new_certificate(place: Place, leaves: list[CallerCertificate], tmp_path: Path) -> None:
    """The next call has a new token, by the new certificate; the old one is in no memory any more."""
    files = tmp_path / "tls.crt", tmp_path / "tls.key"
    install(leaves[0], files)
    with client(place, files) as machine:
        first = machine.token(API)
        assert machine.token(API) == first
        install(leaves[1], files)
        second = machine.token(API)
        assert (first.value, second.value) == (f"1.{leaves[0].thumbprint}", f"2.{leaves[1].thumbprint}")
        assert machine.token(API) == second
        assert first not in [slot.issued and slot.issued.token for slot in machine._cache._slots.values()]
        install(leaves[0], files)
        assert machine.token(API).value == f"3.{leaves[0].thumbprint}"


def install(one: CallerCertificate, files: tuple[Path, Path]) -> None:
    """As renewal does it: each file is replaced as a whole, one after the other."""
    for source, target in ((one.path, files[0]), (one.both, files[1])):
        shutil.copyfile(source, target.with_suffix(".new"))
        target.with_suffix(".new").chmod(0o600)
        os.replace(target.with_suffix(".new"), target)


@pytest.mark.rule("CL-34")
def test_between_the_two_files(place: Place, leaves: list[CallerCertificate], tmp_path: Path) -> None:
    """While certificate and key are no pair, and while one is gone, the one before serves on."""
    files = tmp_path / "tls.crt", tmp_path / "tls.key"
    install(leaves[0], files)
    with client(place, files) as machine:
        machine.token(API)
        shutil.copyfile(leaves[1].path, files[0])
        assert machine.token("https://other.example.com").value == f"2.{leaves[0].thumbprint}"
        files[0].unlink()
        assert machine.token("https://third.example.com").value == f"3.{leaves[0].thumbprint}"
        install(leaves[1], files)
        assert machine.token(API).value == f"4.{leaves[1].thumbprint}"


@pytest.mark.rule("CL-30", "CL-34")
def test_kept_tokens(place: Place, leaves: list[CallerCertificate], tmp_path: Path) -> None:
    """By the certificate that they are bound to: another process with the same one has it, and with another does not."""
    for leaf, number in ((leaves[0], 1), (leaves[0], 1), (leaves[1], 2), (leaves[0], 1)):
        with client(place, leaf.both, token_cache=tmp_path / "kept") as machine:
            assert machine.token(API).value == f"{number}.{leaf.thumbprint}"


@pytest.mark.parametrize("library", [httpx2, httpx])
def test_calls_of_an_api(place: Place, leaves: list[CallerCertificate], tmp_path: Path, library: Any) -> None:
    """The context shows the certificate to the API, and the new one after a renewal; without it the token is 401."""
    files = tmp_path / "tls.crt", tmp_path / "tls.key"
    install(leaves[0], files)
    with client(place, files) as machine:
        auth = machine.auth(place.url)
        with library.Client(auth=auth, verify=machine.ssl_context()) as http:
            assert http.get(place.url + "/orders").status_code == 200
        with library.Client(auth=auth) as bare:
            assert bare.get(place.url + "/orders").status_code == 401
        context = machine.ssl_context()
        install(leaves[1], files)
        machine.token(place.url)
        with library.Client(auth=auth, verify=context) as http:
            assert http.get(place.url + "/orders").status_code == 200

        async def call() -> int:
            async with library.AsyncClient(auth=auth, verify=machine.ssl_context()) as http:
                answer = await http.get(place.url + "/orders")
                return int(answer.status_code)

        assert asyncio.run(call()) == 200


def test_calls_by_requests(place: Place, leaves: list[CallerCertificate], server: tuple[Path, Path]) -> None:
    """A session has the files of its own."""
    with client(place, leaves[0].both) as machine, requests.Session() as session:
        session.auth = MachineAuth(machine, place.url)
        trust = str(server[0])
        assert session.get(place.url + "/orders", timeout=20, verify=trust).status_code == 401
        session.cert = str(leaves[0].both)
        assert session.get(place.url + "/orders", timeout=20, verify=trust).status_code == 200


def test_what_cannot_be(leaves: list[CallerCertificate], tmp_path: Path, place: Place) -> None:
    """Arguments at once, files when they are read; nothing of a key is in any message."""
    one, two = leaves
    wrong: Any
    for wrong in (7, (one.path,), (one.path, 7), [one.path, one.both]):
        with pytest.raises(ConfigError, match="pair of paths"):
            client(place, wrong)
    with pytest.raises(ConfigError, match="not what is in them"):
        client(place, one.pem)
    with pytest.raises(ConfigError, match="certificate"):
        MachineClient(place.url, "billing")
    with pytest.raises(ConfigError, match="client_id"):
        MachineClient(place.url, certificate=one.both)
    with pytest.raises(ConfigError, match="no certificate to show"):
        MachineClient(place.url, "billing", generate_private_key("ES256")).ssl_context()
    open_key = tmp_path / "open.key"
    shutil.copyfile(one.both, open_key)
    open_key.chmod(0o644)
    garbage = tmp_path / "garbage"
    garbage.write_text("x")
    garbage.chmod(0o600)
    encrypted = tmp_path / "encrypted.key"
    convert = ["openssl", "pkey", "-in", str(one.both), "-aes256", "-passout", "pass:secret", "-out", str(encrypted)]
    subprocess.run(convert, check=True, capture_output=True)
    encrypted.chmod(0o600)
    for files, said in (
        ((one.path, two.both), "cannot be used"),
        ((one.path, open_key), "0644"),
        ((garbage, one.both), "certificate"),
        ((one.path, garbage), "cannot be used"),
        ((one.path, encrypted), "cannot be used"),
        ((tmp_path / "gone", one.both), "No such file"),
    ):
        with client(place, files) as machine, pytest.raises(KeyUnusable, match=said) as error:
            machine.token(API)
        assert "PRIVATE KEY" not in str(error.value)
    assert place.asked == []


def test_a_certificate_that_the_server_does_not_take(
    server: tuple[Path, Path], leaves: list[CallerCertificate]
) -> None:
    """TLS itself fails then, which is not tried again."""
    with serving(Place(certified=True), server, leaves[0]) as place, client(place, leaves[1].both) as machine:
        with pytest.raises(ServerUnreachable):
            machine.token(API)


def test_the_environment(place: Place, leaves: list[CallerCertificate]) -> None:
    """Two variables, or one for both in one file; no key is needed beside them."""
    env = {"GROAT_ISSUER": place.url, "GROAT_CLIENT_ID": "billing"}
    one = {"GROAT_CERTIFICATE_FILE": str(leaves[0].both)}
    two = {"GROAT_CERTIFICATE_FILE": str(leaves[0].path), "GROAT_CERTIFICATE_KEY_FILE": str(leaves[0].both)}
    for variables in (one, two):
        with MachineClient.from_env({**env, **variables}) as machine:
            assert machine.token(API).value.endswith(leaves[0].thumbprint)
    with pytest.raises(ConfigError, match="GROAT_CERTIFICATE_FILE is not"):
        MachineClient.from_env({**env, "GROAT_CERTIFICATE_KEY_FILE": "x"})


def test_the_command_line(place: Place, leaves: list[CallerCertificate], tmp_path: Path) -> None:
    """`groat token get --certificate`, with the key in the same file or not; without the client's id it says so."""

    def run(*options: str) -> tuple[int, str, str]:
        command = [str(GROAT), "token", "get", "--issuer", place.url, "--resource", API, "--print-token", *options]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
        return done.returncode, done.stdout.strip(), done.stderr

    files = ("--certificate", str(leaves[0].path), "--certificate-key", str(leaves[0].both))
    assert run("--client-id", "billing", *files)[:2] == (0, f"1.{leaves[0].thumbprint}")
    assert run("--client-id", "billing", "--certificate", str(leaves[1].both))[:2] == (0, f"2.{leaves[1].thumbprint}")
    code, _, said = run(*files)
    assert (code, "--client-id" in said) == (2, True)
    code, _, said = run("--client-id", "billing", "--certificate", str(leaves[0].path))
    assert (code != 0, "mode" in said) == (True, True)
