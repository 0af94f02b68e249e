"""`groat health`, and `groat serve` with a certificate of its own."""

import datetime
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from groat.demo.local_ca import LocalCa
from tests.missing import obeys_modes
from tests.ports import free_port

from .conftest import Live
from .running import ISSUER, OBEYING_MODES, Home


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    """A certificate for the issuer's name, and the authority behind it."""
    now = datetime.datetime.now(datetime.UTC)
    name = ISSUER.removeprefix("https://")
    ca, _ = LocalCa.ensure(tmp_path / "ca.pem", tmp_path / "ca.key.pem", [name], now)
    ca.ensure_server(tmp_path, [name], now)
    return tmp_path


@pytest.fixture
def secure(home: Home, tls: Path) -> Home:
    settings = {
        "GROAT_SERVER__TLS_CERTIFICATE_FILE": str(tls / "tls.pem"),
        "GROAT_SERVER__TLS_KEY_FILE": str(tls / "tls.key.pem"),
        "GROAT_SERVER__PORT": str(free_port()),
    }
    return Home(home.directory, settings)


def test_a_running_server_is_healthy(live: Live) -> None:
    """The server of the configuration, and any URL that answers 200."""
    own = live.home.ok("--json", "health").json
    assert own == {"url": f"http://127.0.0.1:{live.server.port}/readyz", "status": 200, "outcome": "ok"}
    assert live.home.ok("-q", "health").out == "200\n"
    assert live.home.ok("health", f"{live.server.url}/livez").code == 0


@pytest.mark.rule("OPS-06")
@obeys_modes
def test_a_worker_that_cannot_write_is_not_ready(home: Home) -> None:
    """A worker that takes another's place finds the database read-only: it would answer every client with 503."""
    port = free_port()
    home.env["GROAT_SERVER__PORT"] = str(port)
    home.prefix = OBEYING_MODES
    with home.serving("--workers", "2", port=port) as server:
        home.ok("health")
        time.sleep(1.5)  # by then their first chore has opened it for writing
        database = home.directory / "data" / "groat.db"
        database.chmod(0o400)
        home.ok("health")  # rights count when a file is opened
        command = ["pgrep", "-P", str(server.process.pid), "-f", "spawn_main"]
        workers = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.split()
        for worker in workers:
            os.kill(int(worker), signal.SIGKILL)
        until = time.monotonic() + 20
        while (asked := home("--json", "health")).code != 7:
            assert time.monotonic() < until, asked
            time.sleep(0.1)
        assert asked.json["status"] == 503
        for _ in range(20):
            assert home("health").code == 7
            time.sleep(0.1)
        database.chmod(0o600)


def test_another_answer_is_not_healthy(live: Live) -> None:
    """Exit code 7, and the status."""
    asked = live.home("--json", "health", f"{live.server.url}/nowhere")
    assert (asked.code, asked.json["status"], asked.json["outcome"]) == (7, 404, "not ready")


def test_no_answer_is_unreachable(home: Home) -> None:
    """Exit code 5 and the reason."""
    asked = home("health", GROAT_SERVER__PORT=str(free_port()))
    assert asked.code == 5
    assert "Connection refused" in asked.err


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and says nonsense."""
    listener = socket.create_server(("127.0.0.1", 0))

    def talk() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(4096)
            peer.sendall(b"hello\r\n\r\n")

    thread = threading.Thread(target=talk)
    thread.start()
    yield int(listener.getsockname()[1])
    thread.join(5)
    listener.close()


def test_nonsense_is_unreachable(home: Home, silent: int) -> None:
    """Whatever listens there is no web server."""
    assert home("health", f"http://127.0.0.1:{silent}/").code == 5


@pytest.mark.parametrize("url", ["http://auth.example.com/readyz", "ftp://localhost/", "readyz", "https://"])
def test_a_url_must_be_https_or_loopback(home: Home, url: str) -> None:
    """The rule of all our clients holds here too: exit code 3."""
    assert home("health", url).code == 3


@pytest.mark.rule("OPS-01")
def test_https_with_a_certificate_of_our_own(secure: Home, tls: Path) -> None:
    """TLS 1.2 and newer; the health check trusts SSL_CERT_FILE alone and wants the issuer's name."""
    port = int(secure.env["GROAT_SERVER__PORT"])
    with secure.serving(port=port) as server:
        assert '"address":"https://127.0.0.1:' in server.log.read_text()
        trusting = secure.script("--json", "health", SSL_CERT_FILE=str(tls / "ca.pem"))
        assert (trusting.code, trusting.json["url"]) == (0, f"https://127.0.0.1:{port}/readyz")
        stranger = secure.script("health", SSL_CERT_FILE=str(tls / "ca.key.pem"))
        assert stranger.code == 5
        assert "self-signed certificate" in stranger.err or "unable to get" in stranger.err
        renamed = secure.script("health", SSL_CERT_FILE=str(tls / "ca.pem"), GROAT_ISSUER="https://other.example")
        assert (renamed.code, "ostname mismatch" in renamed.err) == (5, True)
        context = ssl.create_default_context(cafile=str(tls / "ca.pem"))
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection(("127.0.0.1", port), 5) as raw:
            with context.wrap_socket(raw, server_hostname=ISSUER.removeprefix("https://")) as spoken:
                assert spoken.version() == "TLSv1.2"
        assert (_greeted(port, "0303"), _greeted(port, "0302"), _greeted(port, "0301")) == (True, False, False)


def _greeted(port: int, version: str) -> bool:
    """Whether a hand-made greeting of that version gets a server hello: libraries will not even offer TLS 1.1."""
    suites, extensions = "0004c02bc009", "0010000d000400020403000a000400020017"  # ECDSA, SHA-256, P-256
    greeting = bytes.fromhex(version) + bytes(33) + bytes.fromhex(suites + "0100" + extensions)
    handshake = b"\x01" + len(greeting).to_bytes(3, "big") + greeting
    with socket.create_connection(("127.0.0.1", port), 5) as raw:
        raw.sendall(b"\x16\x03\x01" + len(handshake).to_bytes(2, "big") + handshake)
        return raw.recv(7)[:1] == b"\x16"


def _encrypted(tls: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    form = (Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (tls / "tls.key.pem").write_bytes(key.private_bytes(*form))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda tls: (tls / "tls.key.pem").chmod(0o644), "readable by others (mode 0644)"),
        (lambda tls: (tls / "tls.key.pem").unlink(), "cannot read"),
        (lambda tls: (tls / "tls.pem").unlink(), "No such file"),
        (lambda tls: (tls / "tls.pem").write_text("nothing"), "tls_certificate_file"),
        (lambda tls: (tls / "tls.key.pem").write_bytes((tls / "ca.key.pem").read_bytes()), "KEY_VALUES_MISMATCH"),
        (_encrypted, "tls_key_file"),
    ],
    ids=["readable", "no key", "no certificate", "no PEM", "another key", "passphrase"],
)
def test_bad_tls_files_are_refused_at_the_start(secure: Home, tls: Path, spoil: object, said: str) -> None:
    """Exit code 3 before anything listens, and never a question on a terminal."""
    assert callable(spoil)
    spoil(tls)
    done = secure.script("serve")
    assert done.code == 3
    assert said in done.err
    assert "PRIVATE" not in done.err


def test_a_key_needs_its_certificate(home: Home) -> None:
    """Half a setting would mean plain http where https was meant."""
    done = home("config", "check", GROAT_SERVER__TLS_KEY_FILE="tls.key.pem")
    assert done.code == 3
    assert "server.tls_key_file needs server.tls_certificate_file" in done.err
