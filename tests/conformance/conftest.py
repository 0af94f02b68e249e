"""The plan of all modules: groat under profile fapi2 and the example API, both on https, and two clients."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from groat.demo import example_api
from tests.certificates import self_signed
from tests.conftest import Groat
from tests.ports import free_port
from tests.waiting import wait_until

from .parties import SCOPE, Party, Plan
from .signing import ALGORITHMS, Key
from .wire import Address, Site

SERVER: Final = "as.example"
API: Final = "orders.example"
Parties = tuple[Party, ...]


@pytest.fixture(scope="session")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    """The clients of a plan whose both sides are up: the first signs with PS256, the second with ES256."""
    directory = tmp_path_factory.mktemp("plan")
    authority, both = self_signed(directory, names=[SERVER, API])
    both.chmod(0o600)
    files = {"GROAT_SERVER__TLS_CERTIFICATE_FILE": str(both), "GROAT_SERVER__TLS_KEY_FILE": str(both)}
    env = {**files, "GROAT_PROFILE": "fapi2", "GROAT_LOG__FORMAT": "json"}
    groat = Groat(directory)
    groat.run("init", "--issuer", f"https://{SERVER}", check=True, **env)
    groat.run("api", "add", "orders", "--audience", f"https://{API}", "--scope", SCOPE, check=True, **env)
    keys = {algorithm.lower(): Key.new(algorithm) for algorithm in ALGORITHMS}
    for name, key in keys.items():
        (directory / "jwks.json").write_text(json.dumps({"keys": [key.registered]}))
        groat.run("client", "add", name, "--allow", f"orders={SCOPE}", "--jwks", "jwks.json", check=True, **env)
    server = groat.serve(env=env)
    try:
        with _example_api(authority, both, server.address) as api:
            plan = Plan(Site(SERVER, server.address, authority), api)
            yield tuple(Party(name, plan, key, Key.new(key.algorithm)) for name, key in keys.items())
    finally:
        assert server.stop() == 0


@contextmanager
def _example_api(authority: Path, both: Path, server: Address) -> Iterator[Site]:
    """The file that people copy, as a process."""
    site = Site(API, ("127.0.0.1", free_port()), authority)
    env: Mapping[str, str] = {
        **os.environ,
        "SSL_CERT_FILE": str(authority),
        "TLS_CERTIFICATE_FILE": str(both),
        "TLS_KEY_FILE": str(both),
        "GROAT_ISSUER": f"https://{SERVER}",
        "GROAT_AUDIENCE": site.url,
        "GROAT_JWKS_URI": f"https://127.0.0.1:{server[1]}/.well-known/jwks.json",
        "PORT": str(site.address[1]),
    }
    with subprocess.Popen([sys.executable, str(example_api.__file__)], env=env) as process:
        try:
            wait_until(lambda: _up(site), 30)
            yield site
        finally:
            process.terminate()


def _up(site: Site) -> bool:
    try:
        return site.ask("GET", "/health").status == 200
    except OSError:
        return False


@pytest.fixture(params=range(len(ALGORITHMS)), ids=ALGORITHMS)
def party(parties: Parties, request: pytest.FixtureRequest) -> Party:
    """Either client."""
    chosen: Party = parties[request.param]
    return chosen
