"""The guide's filter for Envoy, in a real one: what it checks, and what the page says it does not."""

import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from groat.client import MachineClient
from tests.guide_pages import ISSUER, blocks
from tests.ports import free_port
from tests.verifier.issuer import serving

from .other_apis import AUDIENCE, KEY, ask, lies
from .processes import OTHER_RESOURCE, GroatServer
from .toolchains import api

ENVOY = Path(sys.executable).with_name("envoy")
PAGE = "protect-an-api-other-languages.md"
AROUND = """\
static_resources:
  listeners:
    - name: orders
      address: {socket_address: {address: 127.0.0.1, port_value: PUBLIC}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: orders
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes: [{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: an order}}}]
FILTERS
                  - name: envoy.filters.http.router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
    - name: groat
      load_assignment:
        cluster_name: groat
        endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: KEYS}}}}]}]
"""


@contextmanager
def envoy(issuer: str, directory: Path) -> Iterator[str]:
    """Envoy with the filter of the page; where it forwards to, everything is answered by 200."""
    (block,) = [block for block in blocks(PAGE, "yaml") if "jwt_authn" in block]
    port = free_port()
    filters = textwrap.indent(block.replace(ISSUER, issuer), " " * 16).rstrip()
    text = AROUND.replace("FILTERS", filters).replace("PUBLIC", str(port)).replace("KEYS", issuer.rpartition(":")[2])
    (directory / "envoy.yaml").write_text(text)
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    with api([ENVOY, "-c", str(directory / "envoy.yaml"), *options], port, directory) as origin:
        yield origin


@pytest.mark.rule("AT-01", "AT-05")
def test_envoy_takes_our_tokens(guided: GroatServer, tmp_path: Path) -> None:
    """For this API alone; a path that no rule names is open, as the page says."""
    with (
        MachineClient(guided.issuer, "billing", guided.directory / KEY) as client,
        envoy(guided.issuer, tmp_path) as at,
    ):
        good = client.token(AUDIENCE, ["orders:read"]).value
        other_api = client.token(OTHER_RESOURCE, ["stock:read"]).value
        assert [ask(at, token).status_code for token in (good, None, "x", other_api)] == [200, 401, 401, 403]
        assert httpx2.get(f"{at}/other").status_code == 200


def test_what_envoy_does_not_look_at(tmp_path: Path) -> None:
    """Types and scopes: behind this filter somebody else has to. A slash behind the audience is nothing to it."""
    passes = {
        "type of other tokens",
        "no type",
        "a longer scope",
        "no scope",
        "without end",
        "a prefix of the audience",
    }
    with serving() as issuer, envoy(issuer.url, tmp_path) as origin:
        answered = {name: (ask(origin, token).status_code, status) for name, (token, status) in lies(issuer).items()}
    wrong = {name: found for name, (found, status) in answered.items() if (found == 200) != (status == 200)}
    assert set(wrong) == passes, answered


def test_envoy_does_not_know_ed25519(tmp_path: Path) -> None:
    """Under its name of today."""
    with serving(algorithm="Ed25519") as issuer, envoy(issuer.url, tmp_path) as origin:
        assert ask(origin, issuer.token()).status_code == 401
