"""A renewed certificate, taken up by real processes at SIGHUP."""

import datetime
import http.client
import json
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest
from cryptography import x509

from groat.demo.local_ca import LocalCa
from groat.serving.process import GRACEFUL_SECONDS
from tests.missing import Missing, skip

if TYPE_CHECKING:
    from tests.conftest import Groat, Server

NAME: Final = "as.example"
LIFETIME: Final = datetime.timedelta(days=397)  # of a certificate that LocalCa makes


def renew(groat: "Groat") -> int:
    """Make a new certificate with a new key; returns its serial number."""
    folder, now = groat.directory, datetime.datetime.now(datetime.UTC)
    ca, _ = LocalCa.ensure(folder / "ca.pem", folder / "ca.key.pem", [NAME], now)
    (folder / "tls.pem").unlink(missing_ok=True)
    ca.ensure_server(folder, [NAME], now)
    return x509.load_pem_x509_certificate((folder / "tls.pem").read_bytes()).serial_number


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def secured(make_groat: "Callable[[str], Groat]", request: pytest.FixtureRequest) -> "Iterator[tuple[Groat, Server]]":
    """A server that speaks https."""
    groat = make_groat(f"tls-reload-{request.param}")
    renew(groat)
    files = {"GROAT_SERVER__TLS_CERTIFICATE_FILE": "tls.pem", "GROAT_SERVER__TLS_KEY_FILE": "tls.key.pem"}
    server = groat.serve(request.param, env=files)
    yield groat, server
    server.stop()


def trust(groat: "Groat") -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(groat.directory / "ca.pem"))


def serials(groat: "Groat", server: "Server", count: int = 12) -> set[int]:
    """Which certificates are shown to so many callers: enough of them to meet every worker."""
    seen = set()
    for _ in range(count):
        with socket.create_connection(server.address, 10) as raw:
            with trust(groat).wrap_socket(raw, server_hostname=NAME) as spoken:
                shown = spoken.getpeercert(binary_form=True)
                assert shown is not None
                seen.add(x509.load_der_x509_certificate(shown).serial_number)
    return seen


def hang_up(server: "Server", expected: str, count: int) -> list[dict[str, Any]]:
    """SIGHUP; returns so many new log lines of that kind."""
    before = len([line for line in server.lines() if line["event"] == expected])
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 20
    while True:
        found = [line for line in server.lines() if line["event"] == expected][before:]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.02)


@pytest.mark.rule("OPS-01")
def test_a_renewed_certificate_needs_no_restart(secured: "tuple[Groat, Server]") -> None:
    """The next handshakes show the new one in every worker, an open connection goes on; files that are no pair are
    refused with a reason, and change nothing."""
    groat, server = secured
    kept = http.client.HTTPSConnection(*server.address, timeout=10)
    kept.sock = trust(groat).wrap_socket(socket.create_connection(server.address, 10), server_hostname=NAME)
    old = serials(groat, server)
    new = renew(groat)
    assert serials(groat, server) == old  # nothing is read by chance
    for line in hang_up(server, "config.reloaded", len(server.workers())):
        left = datetime.datetime.fromisoformat(line["certificate_until"]) - datetime.datetime.now(datetime.UTC)
        assert LIFETIME - datetime.timedelta(days=2) < left <= LIFETIME
    assert serials(groat, server) == {new} != old
    kept.request("GET", "/livez")
    assert kept.getresponse().status == 200
    kept.close()
    key = groat.directory / "tls.key.pem"
    key.write_bytes((groat.directory / "ca.key.pem").read_bytes())
    (refused,) = hang_up(server, "config.refused", 1)
    assert "KEY_VALUES_MISMATCH" in refused["findings"][0]
    assert serials(groat, server) == {new}
    assert server.process.poll() is None


def test_an_ipv6_address_is_shown_as_in_urls(make_groat: "Callable[[str], Groat]") -> None:
    """In brackets, so that the line can be copied to where an address is wanted; `groat health` does the same."""
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            skip(Missing.IPV6)
    groat = make_groat("ipv6")
    server = groat.serve(env={"GROAT_SERVER__HOST": "::1"})
    port = server.address[1]
    (started,) = [line for line in server.lines() if line["event"] == "server.started"]
    assert started["address"] == f"http://[::1]:{port}"
    asked = groat.run("--json", "health", GROAT_SERVER__HOST="::1", GROAT_SERVER__PORT=str(port))
    assert json.loads(asked.stdout)["url"] == f"http://[::1]:{port}/readyz"
    server.stop()


def test_what_is_no_handshake_bothers_nobody(secured: "tuple[Groat, Server]") -> None:
    """Plain text, silence and a caller who goes away at once: no line in the log, and the next caller is served."""
    groat, server = secured
    with socket.create_connection(server.address, 10) as silent:
        for said in (b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x00\x05nonsense", b""):
            with socket.create_connection(server.address, 10) as connection:
                connection.sendall(said)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass
        assert len(serials(groat, server, 4)) == 1
        silent.sendall(b"")
    assert [line["event"] for line in server.lines() if line["level"] in ("error", "warning")] == []


def test_a_peer_that_does_not_take_leave_delays_the_end_little(secured: "tuple[Groat, Server]") -> None:
    """A pool's idle connection does not confirm the end of TLS; the server waits less than for what is under way."""
    groat, server = secured
    with socket.create_connection(server.address, 10) as raw:
        with trust(groat).wrap_socket(raw, server_hostname=NAME) as idle:
            idle.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            assert idle.recv(65536).startswith(b"HTTP/1.1 200 ")
            began = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - began < GRACEFUL_SECONDS
    assert [line for line in server.lines() if line["level"] == "error"] == []
