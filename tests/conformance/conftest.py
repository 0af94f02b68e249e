"""The plan of all modules: groat under profile fapi2 and an API, both on https, and the clients of each column.

`parties`: two with a key and proofs (pk+dpop). `columns`: pairs of those whose certificate stands for one of the two, or
for both. The server asks everybody for certificates, so that one serves all plans.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509

from groat.demo import example_api
from tests.certificates import Issued, Wish, issued, self_signed
from tests.conftest import Groat
from tests.ports import free_port
from tests.waiting import wait_until

from .certified_api import certified_api
from .parties import SCOPE, Party, Plan
from .signing import ALGORITHMS, Key
from .wire import Address, Site

SERVER: Final = "as.example"
API: Final = "orders.example"
COLUMNS: Final = ("pk+mtls", "mtls+mtls", "mtls+dpop")
Parties = tuple[Party, ...]


@dataclass(frozen=True)
class Registered:
    """Where the server is, and what its clients have."""

    groat: Groat
    env: Mapping[str, str]
    keys: Mapping[str, Key]
    certificates: Mapping[str, Path]

    def client(self, name: str, *options: str) -> None:
        self.groat.run("client", "add", name, "--allow", f"orders={SCOPE}", *options, check=True, **self.env)


@pytest.fixture(scope="session")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Registered:
    """A store with an API and all clients; two of them are known by certificates, each in another way."""
    directory = tmp_path_factory.mktemp("plan")
    _, both = self_signed(directory, names=[SERVER, API])
    both.chmod(0o600)
    certificates = _certificates(directory)
    env = {
        "GROAT_SERVER__TLS_CERTIFICATE_FILE": str(both),
        "GROAT_SERVER__TLS_KEY_FILE": str(both),
        "GROAT_TLS__CLIENT_CERTIFICATES": "request",
        "GROAT_TLS__CLIENT_CA_FILE": str(directory / "callers.pem"),
        "GROAT_PROFILE": "fapi2",
        "GROAT_LOG__FORMAT": "json",
    }
    keys = {name: Key.new(name.partition("-")[0].upper()) for name in ("ps256", "es256", "ps256-mtls")}
    plan = Registered(Groat(directory), env, keys, certificates)
    plan.groat.run("init", "--issuer", f"https://{SERVER}", check=True, **env)
    plan.groat.run("api", "add", "orders", "--audience", f"https://{API}", "--scope", SCOPE, check=True, **env)
    for name, key in keys.items():
        (directory / "jwks.json").write_text(json.dumps({"keys": [key.registered]}))
        plan.client(name, "--jwks", "jwks.json", "--binding", "mtls" if name in certificates else "dpop")
    signed = ["--certificate-ca", str(directory / "authority.pem"), "--certificate-dns", "signed.example"]
    plan.client("signed", *signed, "--binding", "mtls")
    plan.client("own", "--certificate", str(directory / "own.pem"), "--binding", "mtls")
    plan.client("proving", "--certificate", str(directory / "proving.pem"), "--binding", "dpop")
    return plan


def _certificates(directory: Path) -> dict[str, Path]:
    """A PEM file with its key for each client that has one, and `callers.pem` with whom listeners let in."""
    authority = issued(Wish(name="CN=authority", authority=True))
    (directory / "authority.pem").write_bytes(authority.pem)
    made: dict[str, Issued] = {name: issued(Wish(name=f"CN={name}")) for name in ("own", "proving", "ps256-mtls")}
    (directory / "callers.pem").write_bytes(b"".join(one.pem for one in (authority, *made.values())))
    made["signed"] = issued(Wish(names=[x509.DNSName("signed.example")]), authority)
    files: dict[str, Path] = {}
    for name, one in made.items():
        certificate, key = one.write(directory, name)
        files[name] = directory / f"{name}.both.pem"
        files[name].write_bytes(certificate.read_bytes() + key.read_bytes())
    return files


@pytest.fixture(scope="session")
def server(registered: Registered) -> Iterator[Site]:
    """The authorization server."""
    serving = registered.groat.serve(env=registered.env)
    yield Site(SERVER, serving.address, registered.groat.directory / "ca.pem")
    assert serving.stop() == 0


@pytest.fixture(scope="session")
def parties(registered: Registered, server: Site) -> Iterator[Parties]:
    """pk+dpop: the first client signs with PS256, the second with ES256."""
    with _example_api(server.authority, Path(registered.env["GROAT_SERVER__TLS_KEY_FILE"]), server.address) as api:
        plan, keys = Plan(server, api), registered.keys
        names = [algorithm.lower() for algorithm in ALGORITHMS]
        yield tuple(Party(name, plan, keys[name], Key.new(keys[name].algorithm)) for name in names)


@pytest.fixture(scope="session")
def columns(registered: Registered, parties: Parties) -> Iterator[Mapping[str, Parties]]:
    """Two clients for each of the columns with certificates; the API of those with proofs is the example still."""
    server, files, directory = parties[0].plan.server, registered.certificates, registered.groat.directory
    third = replace(parties[0], name="proving", proving=Key.new("PS256"))
    proving = replace(third, certificate=files["proving"], by_certificate=True)
    both = Path(registered.env["GROAT_SERVER__TLS_KEY_FILE"])
    with certified_api(API, server, both, directory / "callers.pem") as api:
        bound = replace(parties[0], plan=Plan(server, api), binds_to_it=True)
        own, signed = (
            replace(bound, name=name, certificate=files[name], by_certificate=True) for name in ("own", "signed")
        )
        key = registered.keys["ps256-mtls"]
        asserting = replace(bound, name="ps256-mtls", key=key, certificate=files["ps256-mtls"])
        yield {"pk+mtls": (asserting, own), "mtls+mtls": (own, signed), "mtls+dpop": (proving, parties[1])}


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


@pytest.fixture(params=[*ALGORITHMS, "mtls+dpop"])
def party(parties: Parties, request: pytest.FixtureRequest) -> Party:
    """Each client that binds by proofs: by an assertion of either algorithm, or by certificate."""
    if request.param in ALGORITHMS:
        return dict(zip(ALGORITHMS, parties, strict=True))[request.param]
    columns: Mapping[str, Parties] = request.getfixturevalue("columns")
    return columns[request.param][0]
