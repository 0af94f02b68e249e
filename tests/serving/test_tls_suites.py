"""What our own https listeners agree to: TLS 1.3, or 1.2 with ECDHE and AEAD."""

import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.certificates import self_signed, serving
from tests.ports import free_port
from tests.tls_suites import RECOMMENDED, agreed, speaks

if TYPE_CHECKING:
    from tests.conftest import Groat

KINDS = pytest.mark.parametrize("with_rsa", [False, True], ids=["ECDSA", "RSA"])
OLD = [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1]


def require_good_suites(address: tuple[str, int], with_rsa: bool) -> None:
    kind = "RSA" if with_rsa else "ECDSA"
    assert agreed(address) == {suite for suite in RECOMMENDED if kind in suite}
    assert speaks(address, ssl.TLSVersion.TLSv1_3)
    assert not any(speaks(address, version) for version in OLD)


@pytest.mark.rule("ST-16", "OPS-01")
@KINDS
def test_the_authorization_server(make_groat: "Callable[[str], Groat]", with_rsa: bool) -> None:
    """Of all suites that OpenSSL has, only those of RFC 9325; also after the certificate was read again."""
    groat = make_groat(f"suites-{with_rsa}")
    _, both = self_signed(groat.directory, with_rsa=with_rsa)
    both.chmod(0o600)
    files = {"GROAT_SERVER__TLS_CERTIFICATE_FILE": str(both), "GROAT_SERVER__TLS_KEY_FILE": str(both)}
    server = groat.serve(env=files)
    require_good_suites(server.address, with_rsa)
    assert server.stop() == 0


@contextmanager
def demo_api(both: Path) -> Iterator[tuple[str, int]]:
    port = free_port()
    env = {**os.environ, "PORT": str(port), "TLS_CERTIFICATE_FILE": str(both), "TLS_KEY_FILE": str(both),
           "GROAT_ISSUER": "https://as.example", "GROAT_AUDIENCE": "https://orders.example"}  # fmt: skip
    command = [sys.executable, "-m", "groat.demo.example_api"]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert any("Uvicorn running" in line for line in process.stderr)
            yield "127.0.0.1", port
        finally:
            process.terminate()


@pytest.mark.rule("ST-16", "OPS-01")
@KINDS
def test_the_demo_api(tmp_path: Path, with_rsa: bool) -> None:
    """The file that people copy is as strict."""
    _, both = self_signed(tmp_path, with_rsa=with_rsa)
    with demo_api(both) as address:
        require_good_suites(address, with_rsa)


def test_the_probe_would_notice(tmp_path: Path) -> None:
    """Python's own defaults take CBC, and static RSA where told to: this is how a bad server looks."""
    import socket
    import threading

    _, both = self_signed(tmp_path, with_rsa=True)
    context = serving(both)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    accepted, _ = listener.accept()
                except OSError:
                    return
                with accepted:
                    try:
                        context.wrap_socket(accepted, server_side=True).close()
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        found = agreed(listener.getsockname())
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    assert {"AES128-SHA", "AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"} <= found
