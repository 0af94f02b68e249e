"""The client in odd surroundings: several addresses, certificates that are not there, clocks that stand still."""

import sys
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from groat.client import EnvironmentUnusable, MachineClient, RetryPolicy, ServerUnreachable
from groat.client.enrolment import Enrolment
from groat.client.wire import Transport
from groat.protocol.jwk import PrivateKey, generate_private_key
from tests.addresses import black_hole, resolve
from tests.certificates import self_signed, serving

from .clocks import Clock
from .conftest import CLIENT_ID, MakeMachine
from .servers import AuthorizationServer


@pytest.fixture(params=["httpx2", "httpx"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Either library alone, as on hosts where only the one is installed."""
    name = str(request.param)
    if name == "httpx":
        monkeypatch.setitem(sys.modules, "httpx2", None)
    return name


def under(issuer: AuthorizationServer, host: str) -> str:
    """Give the server another name; returns its issuer identifier."""
    url = issuer.url.replace("127.0.0.1", host)
    issuer.metadata = {"issuer": url, "token_endpoint": f"{url}/token"}
    return url


@pytest.mark.rule("FO-5")
@pytest.mark.parametrize("order", [["127.0.0.2", "127.0.0.1"], ["127.0.0.2", "127.0.0.2", "127.0.0.1"]])
def test_the_first_address_is_a_black_hole(
    make: MakeMachine, issuer: AuthorizationServer, monkeypatch: pytest.MonkeyPatch, library: str, order: list[str]
) -> None:
    """The token comes from the address that answers, at the first attempt and within its time."""
    url = under(issuer, "localhost")
    resolve(monkeypatch, {"localhost": order})
    with black_hole("127.0.0.2", int(url.rpartition(":")[2])):
        machine = make(issuer=url, retry=RetryPolicy(retries=0))
        assert machine.token().value in issuer.issued
    assert len(issuer.token_requests) == 1


@pytest.mark.rule("FO-5", "CL-02")
def test_the_same_over_tls(
    key: PrivateKey, monkeypatch: pytest.MonkeyPatch, library: str, tmp_path: Path, clock: Clock
) -> None:
    """Whichever address answers, its certificate must be for the name."""
    authority, both = self_signed(tmp_path, names=["auth.example.com"])
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    resolve(monkeypatch, {name: ["127.0.0.2", "127.0.0.1"] for name in ("auth.example.com", "other.example.com")})
    with AuthorizationServer(CLIENT_ID, key.public, serving(both)) as issuer:
        with black_hole("127.0.0.2", int(issuer.url.rpartition(":")[2])):
            with MachineClient(under(issuer, "auth.example.com"), CLIENT_ID, key) as machine:
                assert machine.token().value in issuer.issued
            with MachineClient(under(issuer, "other.example.com"), CLIENT_ID, key, **clock.options) as machine:
                with pytest.raises(ServerUnreachable, match=r"(?i)hostname mismatch"):
                    machine.token()


@pytest.mark.rule("FO-5", "CL-18")
def test_only_black_holes_end_in_time(
    make: MakeMachine, issuer: AuthorizationServer, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """A typed error that may be tried again, when the time of the exchange is over."""
    url = under(issuer, "localhost")
    resolve(monkeypatch, {"localhost": ["127.0.0.2", "127.0.0.2"]})
    with black_hole("127.0.0.2", int(url.rpartition(":")[2])):
        with pytest.raises(ServerUnreachable, match="ConnectTimeout: timed out") as caught:
            make(issuer=url, timeout=0.7, retry=RetryPolicy(retries=0)).token()
    assert caught.value.transient


@pytest.mark.rule("FO-19")
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_that_are_not_there(
    make: MakeMachine,
    issuer: AuthorizationServer,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    library: str,
    variable: str,
) -> None:
    """One error with the variable and the path, not retried; where no certificate is needed, it does not matter."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)  # beside a file the directory does not count
    monkeypatch.setenv(variable, "/nowhere/ca")
    with pytest.raises(EnvironmentUnusable, match=f'{variable} names "/nowhere/ca", which ') as caught:
        make(issuer="https://127.0.0.1:9", **clock.options).token()
    assert (caught.value.transient, clock.sleeps) == (False, [])
    assert make().token().value in issuer.issued


@pytest.mark.rule("FO-19")
def test_a_certificate_that_came_later(
    key: PrivateKey, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: Clock, library: str
) -> None:
    """What has been mended works at the next call, without a new client."""
    authority, both = self_signed(tmp_path)
    later = tmp_path / "later.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(later))
    with AuthorizationServer(CLIENT_ID, key.public, serving(both)) as issuer:
        with MachineClient(issuer.url, CLIENT_ID, key, **clock.options) as machine:
            with pytest.raises(EnvironmentUnusable, match=r"later\.pem"):
                machine.token()
            later.write_bytes(authority.read_bytes())
            assert machine.token().value in issuer.issued


@pytest.mark.rule("FO-19")
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_variables_of_other_programs_are_not_read(
    make: MakeMachine, issuer: AuthorizationServer, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """They are neither used nor complained about."""
    monkeypatch.setenv(variable, "/nowhere/ca")
    with pytest.raises(ServerUnreachable) as caught:
        make(issuer="https://127.0.0.1:9", retry=RetryPolicy(retries=0)).token()
    assert variable not in str(caught.value)
    assert make().token().value in issuer.issued


REAL = time.monotonic


def mixed() -> Callable[[], float]:
    """The real time and one of the epoch's size in turns, as where some modules are frozen and others are not."""
    turns: Any = cycle([lambda: 1_795_867_200.0, REAL])
    return lambda: float(next(turns)())


@pytest.mark.rule("CL-5", "I12")
@pytest.mark.parametrize("clock", [lambda: 1_795_867_200.0, lambda: 0.0, mixed()], ids=["frozen", "zero", "mixed"])
def test_a_frozen_monotonic_clock(
    key: PrivateKey, monkeypatch: pytest.MonkeyPatch, clock: Callable[[], float], library: str
) -> None:
    """Under a library that freezes time, a token is fetched as ever, and a key can be registered."""
    with AuthorizationServer(CLIENT_ID, key.public) as issuer:
        monkeypatch.setattr(time, "monotonic", clock)
        with MachineClient(issuer.url, CLIENT_ID, key) as machine:
            assert machine.token().value in issuer.issued
        transport = Transport()
        with pytest.raises(Exception, match="no JSON object"):
            Enrolment(issuer.url, CLIENT_ID, transport).by_code(generate_private_key("ES256"), "code")
        transport.close()
        monkeypatch.setattr(time, "monotonic", REAL)


@pytest.mark.rule("FO-4", "FO-19", "CL-21")
@pytest.mark.parametrize("own", [httpx2.Client, httpx.Client], ids=["httpx2", "httpx"])
@pytest.mark.parametrize(
    ("variable", "value"),
    [("ALL_PROXY", "socks5://user:hunter2@127.0.0.1:9"), ("SSL_CERT_FILE", "/nowhere/ca"), ("https_proxy", "ftp://p")],
)
def test_a_factory_that_cannot_make_a_client(
    make: MakeMachine, clock: Clock, monkeypatch: pytest.MonkeyPatch, own: Any, variable: str, value: str
) -> None:
    """The libraries' own clients do not say which variable is wrong: the error has those that are set, and ends it."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(EnvironmentUnusable, match="http= makes no client") as caught:
        make(http=own, **clock.options).token()
    assert variable in caught.value.hint
    assert "hunter2" not in str(caught.value)
    assert (caught.value.transient, clock.sleeps) == (False, [])
