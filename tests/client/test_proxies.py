"""Which requests leave through a proxy: the variables, their exceptions, and loopback."""

import socket
import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from groat.client import ClientError, EnvironmentUnusable, MachineClient, ServerUnreachable
from groat.client.proxies import is_loopback, proxy_fault, proxy_for
from groat.protocol.jwk import PrivateKey
from tests.addresses import resolve
from tests.certificates import self_signed, serving

from .clocks import Clock
from .conftest import CLIENT_ID, MakeMachine
from .servers import AuthorizationServer, Server

URL = "https://auth.example.com/token"
VARIABLES = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]


@pytest.mark.rule("FO-3", "FO-4")
@pytest.mark.parametrize(
    ("url", "environment", "variable"),
    [
        (URL, {}, None),
        (URL, {"HTTPS_PROXY": "http://p:1"}, "HTTPS_PROXY"),
        (URL, {"https_proxy": "http://p:1", "HTTPS_PROXY": "http://q:1"}, "https_proxy"),
        (URL, {"HTTP_PROXY": "http://p:1"}, None),
        (URL, {"ALL_PROXY": "socks5://p:1"}, "ALL_PROXY"),
        (URL, {"all_proxy": "p:1"}, "all_proxy"),
        (URL, {"ALL_PROXY": "http://p:1", "HTTPS_PROXY": "http://q:1"}, "HTTPS_PROXY"),
        (URL, {"HTTPS_PROXY": ""}, None),
        ("http://dev.example/token", {"HTTP_PROXY": "p:1"}, "HTTP_PROXY"),
        ("http://dev.example/token", {"HTTP_PROXY": "p:1", "REQUEST_METHOD": "GET"}, None),  # CGI: a caller's header
        ("http://dev.example/token", {"HTTPS_PROXY": "p:1"}, None),
    ],
)
def test_which_variable_counts(
    monkeypatch: pytest.MonkeyPatch, url: str, environment: dict[str, str], variable: str | None
) -> None:
    """That of the scheme before that for all, the lower-case one before the other."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    proxy = proxy_for(url)
    assert (None if proxy is None else proxy.variable) == variable
    if proxy is not None:
        assert proxy.url.removeprefix("http://") == environment[proxy.variable].removeprefix("http://")
        assert "://" in proxy.url


@pytest.mark.rule("FO-4", "FO-22")
@pytest.mark.parametrize(
    ("value", "odd"),
    [
        ('"http://u:s3cret@p:1"', "it is in quotes"),
        ("http://u:s3cret@p:1\r", "it ends in a carriage return"),
        (" http://u:s3cret@p:1", "it begins or ends with a blank"),
    ],
    ids=["quotes", "CR", "blank"],
)
def test_what_an_env_file_left_around_a_proxy_is_named(monkeypatch: pytest.MonkeyPatch, value: str, odd: str) -> None:
    """The variable and the oddity; never the value, which may hold a password."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    proxy = proxy_for(URL)
    assert proxy is not None
    fault = proxy_fault(proxy)
    assert (fault.startswith("HTTPS_PROXY is no URL"), odd in fault, "s3cret" in fault) == (True, True, False)


@pytest.mark.rule("FO-4")
@pytest.mark.parametrize(
    ("listed", "url", "exempt"),
    [
        ("auth.example.com", URL, True),
        ("AUTH.Example.com", URL, True),
        ("other.example,auth.example.com", URL, True),
        ("other.example auth.example.com", URL, True),
        (" auth.example.com , x", URL, True),
        ("example.com", URL, True),
        (".example.com", URL, True),
        ("*.example.com", URL, True),
        ("*example.com", URL, True),
        ("*", URL, True),
        ("auth.example.com:443", URL, True),
        ("https://auth.example.com", URL, True),
        ("https://auth.example.com/", URL, True),
        ("auth.example.com:8443", URL, False),
        ("auth.example.com", "https://auth.example.com:8443/token", True),
        ("auth.example.com.", "https://auth.example.com./token", True),
        ("xample.com", URL, False),
        ("10.0.0.0/8:443", "https://10.1.2.3", True),
        ("10.0.0.0/8:8443", "https://10.1.2.3", False),
        ("10.1.2.0/255.255.255.0", "https://10.1.2.3", True),
        ("2.3", "https://10.1.2.3", False),
        (".1.2.3", "https://10.1.2.3", False),
        ("[2001:DB8:0:0::1]:443", "https://[2001:db8::1]", True),
        ("[2001:db8::1]:8443", "https://[2001:db8::1]", False),
        ("[2001:db8::]/32", "https://[2001:db8::1]", True),
        ("[2001:db8::]/32:443", "https://[2001:db8::1]", True),
        (f"auth.example.com:{'9' * 5000}", URL, False),
        ("www.auth.example.com", URL, False),
        ("", URL, False),
        (",,", URL, False),
        ("10.0.0.0/8", "https://10.1.2.3/token", True),
        ("10.0.0.0/8", "https://11.1.2.3/token", False),
        ("10.1.2.3", "https://10.1.2.3/token", True),
        ("10.1.2.3:8443", "https://10.1.2.3:8443/token", True),
        ("fd00::/8", "https://[fd00::1]/token", True),
        ("[fd00::1]", "https://[fd00::1]/token", True),
        ("fd00::1", "https://[fd00::2]/token", False),
        ("10.0.0.0/99", "https://10.1.2.3/token", False),
    ],
)
def test_no_proxy(monkeypatch: pytest.MonkeyPatch, listed: str, url: str, exempt: bool) -> None:
    """Names, parent domains, ports, addresses and networks, as curl and the HTTP libraries read them."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv("HTTPS_PROXY", "http://p:1")
        monkeypatch.setenv(name, listed)
        assert (proxy_for(url) is None) is exempt
        monkeypatch.delenv(name)


@pytest.mark.rule("FO-3")
@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *((host, True) for host in ("localhost", "LOCALHOST", "localhost.", "as.localhost", "127.0.0.1", "127.9.9.9")),
        *((host, True) for host in ("::1", "::ffff:127.0.0.1", "127.1", "0x7f000001", "2130706433", "0.0.0.0", "::")),
        *((host, False) for host in ("localhost.example", "notlocalhost", "10.0.0.1", "128.0.0.1", "::2", "", "1")),
    ],
)
def test_loopback_in_every_spelling(host: str, loopback: bool) -> None:
    """This machine is this machine however it is written."""
    assert is_loopback(host) is loopback


class Recorder(Server):
    """A proxy that is no use, and knows who came."""


@pytest.mark.rule("FO-3")
@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_loopback_never_goes_through_a_proxy(
    key: PrivateKey, clock: Clock, monkeypatch: pytest.MonkeyPatch, variable: str, host: str
) -> None:
    """Neither assertion nor token is seen by a proxy, whichever variable names it."""
    resolve(monkeypatch, {"localhost": ["127.0.0.1"], "::1": ["127.0.0.1"]})
    with Recorder() as proxy, AuthorizationServer(CLIENT_ID, key.public) as issuer:
        monkeypatch.setenv(variable, proxy.url)
        url = issuer.url.replace("127.0.0.1", host)
        issuer.metadata = {"issuer": url, "token_endpoint": f"{url}/token"}
        with MachineClient(url, CLIENT_ID, key, **clock.options) as machine:
            assert machine.token().value in issuer.issued
        assert proxy.seen == []


@pytest.mark.rule("FO-3")
def test_other_hosts_do(make: MakeMachine, issuer: AuthorizationServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host for development that is not this machine is asked through the proxy, as the variable says."""
    with Recorder() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        with pytest.raises(ClientError):
            make(issuer="http://as.internal", allow_http_hosts=["as.internal"]).token()
        assert {request.target for request in proxy.seen} >= {
            "http://as.internal/.well-known/oauth-authorization-server"
        }


@pytest.fixture(params=["httpx2", "httpx"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Either library alone, as on hosts where only the one is installed."""
    name = str(request.param)
    if name == "httpx":
        monkeypatch.setitem(sys.modules, "httpx2", None)
    return name


@pytest.mark.rule("FO-4")
@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "HTTPS_PROXY"])
def test_a_socks_proxy_without_its_package(
    make: MakeMachine, clock: Clock, monkeypatch: pytest.MonkeyPatch, library: str, variable: str
) -> None:
    """The error names the variable and three ways out; it is not retried."""
    monkeypatch.setenv(variable, "socks5://user:hunter2@127.0.0.1:9")
    with pytest.raises(EnvironmentUnusable, match=f"{variable} names a SOCKS proxy") as caught:
        make(issuer="https://auth.example.com", **clock.options).token()
    assert f'pip install "{library}[socks]"' in caught.value.hint
    assert "NO_PROXY" in caught.value.hint
    assert "hunter2" not in f"{caught.value} {caught.value!r} {vars(caught.value)}"
    assert (caught.value.transient, clock.sleeps) == (False, [])


@pytest.mark.rule("FO-4")
@pytest.mark.parametrize(
    "value", ["socks5://127.0.0.1:9", "garbage://[", "http://[", "http://", "http://p:99999", "ftp://p", "http://p p"]
)
def test_hosts_of_no_proxy_need_no_proxy(
    make: MakeMachine, issuer: AuthorizationServer, monkeypatch: pytest.MonkeyPatch, library: str, value: str
) -> None:
    """Whatever a proxy variable holds, it does not matter to hosts that are exempt and to loopback."""
    monkeypatch.setenv("ALL_PROXY", value)
    assert make().token().value in issuer.issued
    resolve(monkeypatch, {"as.internal": ["127.0.0.1"]})
    monkeypatch.setenv("NO_PROXY", "as.internal")
    url = issuer.url.replace("127.0.0.1", "as.internal")
    issuer.metadata = {"issuer": url, "token_endpoint": f"{url}/token"}
    assert make(issuer=url, allow_http_hosts=["as.internal"]).token().value in issuer.issued


@pytest.mark.rule("FO-4")
@pytest.mark.parametrize(
    "value", ["garbage://[", "http://[", "http://", "http://p:99999", "ftp://p", "http://p p", "http://p\x1b[2J", "://"]
)
def test_a_proxy_that_is_none(
    make: MakeMachine, clock: Clock, monkeypatch: pytest.MonkeyPatch, library: str, value: str
) -> None:
    """Garbage is an error that names the variable, and nothing of its value."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(EnvironmentUnusable, match="HTTPS_PROXY") as caught:
        make(issuer="https://auth.example.com", **clock.options).token()
    assert str(caught.value).isprintable()
    assert (caught.value.transient, clock.sleeps) == (False, [])


@pytest.mark.rule("FO-4")
def test_a_proxy_that_refuses_is_named(make: MakeMachine, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the proxy is what fails, the error says that there is one."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:hunter2@127.0.0.1:{port}")
    with pytest.raises(ServerUnreachable, match=r"auth\.example\.com \(through the proxy of HTTPS_PROXY\)") as caught:
        make(issuer="https://auth.example.com", **clock.options).token()
    assert "hunter2" not in str(caught.value)


class _Tunnel(socketserver.BaseRequestHandler):
    """CONNECT, and then bytes in both directions, to where the test wants them."""

    def handle(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.request.recv(1)
        self.server.heads.append(head)  # type: ignore[attr-defined]
        with socket.create_connection(self.server.target) as onward:  # type: ignore[attr-defined]
            self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_pump, args=(onward, self.request), daemon=True)
            back.start()
            _pump(self.request, onward)


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@contextmanager
def tunnel(target: tuple[str, int]) -> Iterator[Any]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Tunnel) as server:
        server.daemon_threads = True
        server.heads, server.target = [], target  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.mark.rule("FO-3", "CL-02")
def test_through_a_proxy_the_server_is_still_checked(
    key: PrivateKey, clock: Clock, monkeypatch: pytest.MonkeyPatch, library: str, tmp_path: Path
) -> None:
    """A proxy that works carries TLS from end to end: it sees the host's name and nothing else."""
    authority, both = self_signed(tmp_path, names=["auth.example.com"])
    with AuthorizationServer(CLIENT_ID, key.public, serving(both)) as issuer:
        port = int(issuer.url.rpartition(":")[2])
        issuer.metadata = {
            "issuer": "https://auth.example.com",
            "token_endpoint": "https://auth.example.com/token",
        }
        with tunnel(("127.0.0.1", port)) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_address[1]}")
            monkeypatch.setenv("SSL_CERT_FILE", str(authority))
            with MachineClient("https://auth.example.com", CLIENT_ID, key, **clock.options) as machine:
                assert machine.token().value in issuer.issued
            assert proxy.heads
            assert all(head.startswith(b"CONNECT auth.example.com:443 ") for head in proxy.heads)
            monkeypatch.delenv("SSL_CERT_FILE")
            with MachineClient("https://auth.example.com", CLIENT_ID, key, **clock.options) as machine:
                with pytest.raises(ServerUnreachable, match="SSL_CERT_FILE"):
                    machine.token()
