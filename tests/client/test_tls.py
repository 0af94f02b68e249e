"""Where TLS is demanded, and that it is checked."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from groat.client import MachineClient, ServerUnreachable
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PrivateKey
from tests.certificates import self_signed, serving

from .clocks import Clock
from .conftest import CLIENT_ID, MakeMachine
from .servers import AuthorizationServer


@pytest.fixture
def certificate(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return self_signed(tmp_path, [getattr(request, "param", "127.0.0.1")])[1]


@pytest.fixture
def tls_issuer(key: PrivateKey, certificate: Path) -> Iterator[AuthorizationServer]:
    with AuthorizationServer(CLIENT_ID, key.public, serving(certificate)) as server:
        yield server


@pytest.mark.rule("CL-02")
@pytest.mark.parametrize("library", [None, httpx2.Client, httpx.Client], ids=["default", "httpx2", "httpx"])
def test_self_signed_is_refused(make: MakeMachine, tls_issuer: AuthorizationServer, clock: Clock, library: Any) -> None:
    """A certificate that nobody vouches for is an error at once: no retry, no request, and a hint."""
    with pytest.raises(ServerUnreachable, match=r"(?i)certificate.verify.failed.*SSL_CERT_FILE") as failed:
        make(issuer=tls_issuer.url, http=library, **clock.options).token()
    assert not failed.value.transient
    assert (tls_issuer.seen, clock.sleeps) == ([], [])


@pytest.mark.rule("CL-02")
def test_trusted_authority(
    make: MakeMachine, tls_issuer: AuthorizationServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An authority of one's own is trusted through the environment or through one's own client."""
    context = ssl.create_default_context(cafile=str(certificate))
    with httpx2.Client(verify=context) as http:
        assert make(issuer=tls_issuer.url, http=http).token().value in tls_issuer.issued
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert make(issuer=tls_issuer.url).token().value in tls_issuer.issued


@pytest.mark.rule("CL-02")
@pytest.mark.parametrize("certificate", ["127.0.0.2"], indirect=True)
def test_wrong_name_is_refused(
    make: MakeMachine, tls_issuer: AuthorizationServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A good certificate for another host is an error."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1"):
        make(issuer=tls_issuer.url).token()
    assert tls_issuer.seen == []


@pytest.mark.rule("CL-02")
@pytest.mark.parametrize(
    ("issuer", "hosts", "accepted"),
    [
        ("https://as.example", (), True),
        ("http://127.0.0.1:3001", (), True),
        ("http://localhost:3001", (), True),
        ("http://[::1]:3001", (), True),
        ("http://as.example", (), False),
        ("http://as.internal", ("as.internal",), True),
        ("http://as.internal.example", ("as.internal",), False),
        ("http://127.0.0.1.example", (), False),
        ("http://0.0.0.0:3001", (), False),
        ("ftp://as.example", (), False),
        ("as.example", (), False),
        ("https://as.example?x", (), False),
        ("https://user@as.example", (), False),
    ],
)
def test_where_http_is_allowed(key: PrivateKey, issuer: str, hosts: tuple[str, ...], accepted: bool) -> None:
    """Without TLS only loopback and hosts listed by name are spoken to."""
    if accepted:
        MachineClient(issuer, CLIENT_ID, key, allow_http_hosts=hosts).close()
    else:
        with pytest.raises(ConfigError):
            MachineClient(issuer, CLIENT_ID, key, allow_http_hosts=hosts)


@pytest.mark.rule("CL-02")
def test_no_insecure_option() -> None:
    """No parameter turns verification off."""
    import inspect

    names = inspect.signature(MachineClient).parameters
    assert not [name for name in names if "verify" in name or "insecure" in name or "tls" in name]
