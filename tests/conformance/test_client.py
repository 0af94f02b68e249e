"""The modules of the client plan, against our client library: happy-path, without nonces, token type in any case."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
import pytest
import requests

from groat.client import MachineClient
from groat.client.requests import MachineAuth
from groat.outbound.authorities import FILE_VARIABLE
from tests.certificates import self_signed, serving

from .foreign_server import CLIENT, PATH, Issuer, Resource, Rules, Witness
from .signing import ALGORITHMS, Key

SCOPE: Final = "accounts"
OPENID: Final = f"{PATH}.well-known/openid-configuration"


@dataclass(frozen=True)
class Sides:
    """Our client before a foreign server and its API."""

    machine: MachineClient
    issuer: Issuer
    resource: Resource

    @property
    def url(self) -> str:
        return f"{self.resource.url}/accounts?day=1"

    def by_httpx2(self, times: int) -> list[int]:
        """The status of each of so many calls, their token fetched by the first."""
        with httpx2.Client(auth=self.machine.auth(resource=self.resource.url, scopes=[SCOPE])) as api:
            return [api.get(self.url).status_code for _ in range(times)]

    def by_requests(self, times: int) -> list[int]:
        with requests.Session() as api:
            api.auth = MachineAuth(self.machine, resource=self.resource.url, scopes=[SCOPE])
            return [api.get(self.url).status_code for _ in range(times)]


MakeSides = Callable[[str, Rules], Sides]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeSides]:
    """Both sides on https; the client's key of that algorithm is in a file, and its proofs are signed with it, too."""
    authority, both = self_signed(tmp_path)
    for name in (FILE_VARIABLE, "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, str(authority))
    with ExitStack() as stack:

        def sides(algorithm: str, rules: Rules) -> Sides:
            key, file = Key.new(algorithm), tmp_path / "key.json"
            file.touch(0o600)
            file.write_text(json.dumps({**key.private, "alg": algorithm, "kid": key.kid}))
            witness = Witness(key.pair, rules)
            issuer = stack.enter_context(Issuer(witness, serving(both)))
            resource = stack.enter_context(Resource(witness, serving(both)))
            machine = stack.enter_context(MachineClient(issuer.issuer, CLIENT, file, dpop=file))
            return Sides(machine, issuer, resource)

        yield sides


def check(sides: Sides, statuses: list[int], challenges: int) -> None:
    """All went well; each side was asked once more than needed where it had a nonce to tell, and no more than once."""
    assert statuses == [200] * len(statuses)
    posted = [seen for seen in sides.issuer.seen if seen.method == "POST"]
    assert (len(posted), len(sides.resource.seen)) == (1 + challenges, len(statuses) + challenges)
    refused = {"Issuer": 1, "Resource": 1} if challenges else {}
    assert +sides.issuer.witness.refused == refused


@pytest.mark.rule("CL-26", "CL-27", "CL-30")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_happy_path(make: MakeSides, algorithm: str) -> None:
    """client-test-happy-path: an issuer with a path and a trailing slash; both endpoints demand nonces of their own."""
    sides = make(algorithm, Rules())
    assert sides.issuer.issuer.endswith("/")
    check(sides, sides.by_httpx2(3), challenges=1)


@pytest.mark.rule("CL-26")
def test_happy_path_without_nonces(make: MakeSides) -> None:
    """client-test-happy-path-no-dpop-nonce."""
    sides = make("PS256", Rules(nonces=False))
    check(sides, sides.by_httpx2(3), challenges=0)


@pytest.mark.rule("CL-27")
@pytest.mark.parametrize("token_type", ["dpOp", "DPOP", "dpop"])
def test_token_type_in_any_case(make: MakeSides, token_type: str) -> None:
    """client-test-token-type-case-insensitivity: the scheme of the call is spelled as it should be."""
    sides = make("ES256", Rules(token_type=token_type))
    check(sides, sides.by_httpx2(1), challenges=1)


@pytest.mark.rule("CL-27")
def test_over_requests(make: MakeSides) -> None:
    """The same through the other library."""
    sides = make("ES256", Rules())
    check(sides, sides.by_requests(3), challenges=1)


@pytest.mark.rule("CL-01")
def test_metadata_below_the_issuer(make: MakeSides) -> None:
    """Where a server has its metadata at the place of OpenID Connect alone."""
    sides = make("ES256", Rules(well_known=OPENID))
    check(sides, sides.by_httpx2(1), challenges=1)


def test_the_other_side_would_notice(make: MakeSides) -> None:
    """A token that is bound to another key, and a proof that came before, fail the test."""
    sides = make("ES256", Rules(nonces=False))
    sides.by_httpx2(1)
    sides.issuer.witness.tokens = dict.fromkeys(sides.issuer.witness.tokens, "another")
    sides.by_httpx2(1)
    first = next(seen for seen in sides.issuer.seen if seen.method == "POST")
    httpx2.post(sides.issuer.url + first.target, content=first.body, headers=dict(first.headers))
    said = [str(failure) for server in (sides.issuer, sides.resource) for failure in server.failures]
    assert [words.partition("\n")[0] for words in said] == [
        "the same assertion came twice",
        "another key than the one that the token is bound to",
    ]
    sides.issuer.failures.clear()
    sides.resource.failures.clear()
