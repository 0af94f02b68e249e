"""The modules of the client plan with mutual TLS, against our client library: happy-path, token type in any case."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import requests

from groat.client import MachineClient
from groat.client.requests import MachineAuth
from groat.outbound.authorities import FILE_VARIABLE
from tests.certificates import self_signed, serving
from tests.leaves import CallerCertificate, caller_certificate

from .foreign_certificates import Asking, CertifiedResource, Ordinary
from .foreign_server import CLIENT, Rules, Witness
from .signing import Key

SCOPE = "accounts"
METHODS = {"pk": "private_key_jwt", "mtls": "tls_client_auth", "self-signed": "self_signed_tls_client_auth"}


@dataclass(frozen=True)
class Sides:
    """Our client before a foreign server, its alias and its API."""

    machine: MachineClient
    leaf: CallerCertificate
    ordinary: Ordinary
    alias: Asking
    resource: CertifiedResource

    @property
    def url(self) -> str:
        return f"{self.resource.url}/accounts?day=1"

    def by_httpx2(self, times: int) -> list[int]:
        auth = self.machine.auth(resource=self.resource.url, scopes=[SCOPE])
        with httpx2.Client(auth=auth, verify=self.machine.ssl_context()) as api:
            return [api.get(self.url).status_code for _ in range(times)]

    def by_requests(self, times: int) -> list[int]:
        with requests.Session() as api:
            api.auth, api.cert = MachineAuth(self.machine, self.resource.url, scopes=[SCOPE]), str(self.leaf.both)
            return [api.get(self.url).status_code for _ in range(times)]


@contextmanager
def sides(directory: Path, method: str, token_type: str) -> Iterator[Sides]:
    """All three on https; only the alias and the API ask for certificates."""
    (home := directory / "server").mkdir()
    authority, both = self_signed(home)
    leaf = caller_certificate(directory, "suite-client")
    leaf.both.chmod(0o600)
    key, file = Key.new("PS256"), directory / "key.json"
    file.touch(0o600)
    file.write_text(json.dumps({**key.private, "alg": "PS256", "kid": key.kid}))
    witness = Witness(key.pair, Rules(token_type=token_type))
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        for name in (FILE_VARIABLE, "REQUESTS_CA_BUNDLE"):
            patch.setenv(name, str(authority))
        alias = stack.enter_context(Asking(both, leaf.path, witness))
        resource = stack.enter_context(CertifiedResource(both, leaf.path, witness))
        ordinary = stack.enter_context(Ordinary(serving(both), alias, [METHODS[method]]))
        own = file if method == "pk" else None
        machine = MachineClient(alias.issuer, CLIENT, own, certificate=(leaf.path, leaf.both))
        yield Sides(stack.enter_context(machine), leaf, ordinary, alias, resource)


def check(found: Sides, statuses: list[int]) -> None:
    """All went well, by one token of the alias."""
    assert statuses == [200] * len(statuses)
    assert (len(found.ordinary.seen), len(found.alias.seen), len(found.resource.seen)) == (1, 1, len(statuses))


@pytest.mark.rule("CL-29", "AS-MT-11")
@pytest.mark.parametrize("method", METHODS)
def test_happy_path(tmp_path: Path, method: str) -> None:
    """client-test-happy-path: the alias is asked, and both see the certificate; an assertion is for the issuer still."""
    with sides(tmp_path, method, "Bearer") as found:
        check(found, found.by_httpx2(2))
        assert ("client_assertion" in found.alias.seen[0].form) == (method == "pk")


@pytest.mark.rule("CL-29")
@pytest.mark.parametrize("token_type", ["bEARER", "BEARER"])
def test_token_type_in_any_case(tmp_path: Path, token_type: str) -> None:
    """client-test-token-type-case-insensitivity: the scheme of the call is spelled as it should be."""
    with sides(tmp_path, "mtls", token_type) as found:
        check(found, found.by_requests(1))


def test_the_other_side_would_notice(tmp_path: Path) -> None:
    """A call without the certificate fails the test."""
    with sides(tmp_path, "mtls", "Bearer") as found:
        with httpx2.Client(auth=found.machine.auth(resource=found.resource.url, scopes=[SCOPE])) as bare:
            assert bare.get(found.url).status_code == 400
        assert [str(one).partition("\n")[0] for one in found.resource.failures] == [
            "another certificate than the client's, or none"
        ]
        found.resource.failures.clear()
