"""Certificates of callers in handshakes of real processes: which come through, and what of a header then counts."""

import base64
import json
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from groat.protocol.client_certificate import certificate_thumbprint
from tests.certificates import Issued, Wish, issued, self_signed
from tests.server.builders import decoded
from tests.server.wire import FORM

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from tests.conftest import Groat, Server

CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(slots=True)
class Door:
    """A server that asks for certificates, its authorities, and callers of several kinds."""

    groat: "Groat"
    server: "Server"
    authority: Issued
    trust: ssl.SSLContext
    key: Path

    def context(self, caller: Issued | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.groat.directory / "ca.pem"))
        if caller is not None:
            context.load_cert_chain(*caller.write(self.groat.directory, "caller"))
        return context

    def post(self, path: str, body: str, caller: Issued | None = None, *headers: tuple[str, str]) -> dict[str, Any]:
        """The JSON of one answer, over a connection of its own."""
        fields = "".join(f"{name}: {value}\r\n" for name, value in (("Content-Type", FORM), *headers))
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len(body)}\r\n{fields}\r\n"
        with socket.create_connection(self.server.address, 10) as raw:
            with self.context(caller).wrap_socket(raw, server_hostname="127.0.0.1") as spoken:
                spoken.sendall((head + body).encode())
                answer = b""
                while chunk := spoken.recv(65536):
                    answer += chunk
        document: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return document

    def form(self) -> str:
        """A request of the client, with a new assertion."""
        made = self.groat.run("client", "assertion", "billing", "--key", str(self.key)).stdout.strip()
        return (
            "grant_type=client_credentials&scope=orders:read&client_assertion_type="
            f"urn:ietf:params:oauth:client-assertion-type:jwt-bearer&client_assertion={made}"
        )


@pytest.fixture(scope="module")
def door(make_groat: Any) -> Iterator[Door]:
    """One worker is enough: each has the same context."""
    groat: Groat = make_groat("certificates")
    authority = issued(Wish("CN=clients", authority=True))
    (groat.directory / "clients.pem").write_bytes(authority.pem)
    self_signed(groat.directory)[1].chmod(0o600)
    key = groat.directory / "billing.key.json"
    groat.run("api", "add", "orders", "--audience", "https://orders.example", "--scope", "orders:read")
    groat.run("client", "add", "billing", "--allow", "orders=orders:read", "--new-key", str(key), "--binding", "mtls")
    server = groat.serve(env={
        "GROAT_SERVER__TLS_CERTIFICATE_FILE": "server.pem",
        "GROAT_TLS__CLIENT_CERTIFICATES": "request",
        "GROAT_TLS__CLIENT_CA_FILE": "clients.pem",
    })  # fmt: skip
    made = Door(groat, server, authority, ssl.create_default_context(), key)
    yield made
    server.stop()


def bound_to(document: dict[str, Any]) -> str:
    assert document["token_type"] == "Bearer", document
    return str(decoded(document["access_token"])[1]["cnf"]["x5t#S256"])


def complaints(door: Door) -> list[str]:
    return [line["message"] for line in door.server.lines() if "no handshake with" in line.get("message", "")]


@pytest.mark.rule("AS-MT-13", "AS-MT-03")
def test_the_certificate_of_the_handshake_binds(door: Door) -> None:
    """And no header counts, whichever dialect: neither instead of it, nor where there is none."""
    caller, other = (issued(Wish(f"CN={name}", usages=[CLIENT_AUTH]), door.authority) for name in ("a", "b"))
    forged = ("Client-Cert", f":{base64.b64encode(other.der).decode()}:"), ("X-SSL-Client-Cert", "x")
    assert bound_to(door.post("/token", door.form(), caller)) == certificate_thumbprint(caller.der)
    assert bound_to(door.post("/token", door.form(), caller, *forged)) == certificate_thumbprint(caller.der)
    assert door.post("/token", door.form(), None, *forged)["error"] == "invalid_request"
    (refused,) = [line for line in door.server.lines() if line["event"] == "token.refused"]
    assert refused["reason"] == "certificate_missing"


@pytest.mark.rule("AS-MT-03")
def test_curl_gets_a_bound_token(door: Door) -> None:
    curl = shutil.which("curl")
    assert curl is not None
    certificate, key = issued(Wish("CN=curl"), door.authority).write(door.groat.directory, "curl")
    url = f"https://127.0.0.1:{door.server.address[1]}/token"
    ca = str(door.groat.directory / "ca.pem")
    done = subprocess.run(
        [curl, "-sS", "--cacert", ca, "--cert", str(certificate), "--key", str(key), "-d", door.form(), url],
        capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    der = x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(Encoding.DER)
    assert bound_to(json.loads(done.stdout)) == certificate_thumbprint(der)


def test_who_has_no_certificate_is_served_as_anybody(door: Door) -> None:
    """It is asked for, not demanded: the same listener serves metadata and clients that bind by DPoP."""
    assert door.post("/token", "grant_type=client_credentials")["error"] == "invalid_client"


@pytest.mark.parametrize(
    ("caller", "why"),
    [
        (Wish("CN=unknown"), "self-signed certificate"),
        (Wish("CN=server", usages=[SERVER_AUTH]), "unsuitable certificate purpose"),
        (Wish("CN=late", begins=-timedelta(days=2), ends=-timedelta(days=1)), "certificate has expired"),
    ],
)  # fmt: skip
def test_a_certificate_of_nobody_ends_the_handshake_and_is_said(door: Door, caller: Wish, why: str) -> None:
    """The peer gets an alert of TLS; why is in the log."""
    by = None if why.startswith("self") else door.authority
    before = len(complaints(door))
    with pytest.raises((ssl.SSLError, ConnectionError, ValueError)):
        door.post("/token", "grant_type=client_credentials", issued(caller, by))
    deadline = time.monotonic() + 10
    while len(complaints(door)) == before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert why in complaints(door)[before]
    assert "127.0.0.1" in complaints(door)[before]


def test_a_reload_takes_what_the_file_has_then(door: Door) -> None:
    """Also a certificate that has signed itself: its own bytes are what is trusted."""
    caller = issued(Wish("CN=itself"))
    with pytest.raises((ssl.SSLError, ConnectionError, ValueError)):
        door.post("/token", door.form(), caller)
    (door.groat.directory / "clients.pem").write_bytes(door.authority.pem + caller.pem)
    door.server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 10
    while not any(line["event"] == "config.reloaded" for line in door.server.lines()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert bound_to(door.post("/token", door.form(), caller)) == certificate_thumbprint(caller.der)
    (door.groat.directory / "clients.pem").write_text("no certificate")
    door.server.process.send_signal(signal.SIGHUP)
    while not (refused := [line for line in door.server.lines() if line["event"] == "config.refused"]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "tls.client_ca_file" in refused[0]["findings"][0]
    assert bound_to(door.post("/token", door.form(), caller)) == certificate_thumbprint(caller.der)
