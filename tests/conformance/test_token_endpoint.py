"""The modules of the token endpoint: whose assertion, which assertion, which proof."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.tls_suites import RECOMMENDED, agreed

from .conftest import Parties
from .parties import Party
from .signing import ABSENT, Key
from .wire import Reply

CLIENT: Final = {"invalid_client"}
REQUEST: Final = {"invalid_client", "invalid_request"}
GRANT: Final = {"invalid_client", "invalid_request", "invalid_grant"}
PROOF: Final = {"invalid_dpop_proof", "invalid_request", "invalid_grant"}
Spoil = Callable[[Party, Party], Mapping[str, Any]]


def check_refused(reply: Reply, codes: set[str]) -> None:
    """An OAuth error of these; what is not about the client is a 400."""
    code = reply.json["error"]
    assert code in codes
    assert reply.status in ((400, 401) if code == "invalid_client" else (400,))


@pytest.mark.rule("AS-DP-09", "AS-CA-15")
def test_both_clients_get_bound_tokens(party: Party) -> None:
    """happy-flow: the token names the key of the proof, and token_type the scheme."""
    served: Any = party.plan.server.ask("GET", "/.well-known/jwks.json").json
    claims = jwt.decode(party.token(), KeySet.import_key_set(served), algorithms=["ES256"]).claims
    assert claims["client_id"] == party.name
    assert claims["cnf"] == {"jkt": party.proving.pair.thumbprint()}


ASSERTIONS: Final[Mapping[str, tuple[set[str], Spoil]]] = {
    "another client's id": (GRANT, lambda own, other: {"client_id": other.name}),
    "another client's key": (CLIENT, lambda own, other: {"client_assertion": own.assertion(key=other.key)}),
    "RS256": (CLIENT, lambda own, other: {"client_assertion": own.assertion(key=Key("RS256", own.key.pair))}),
    "none": (REQUEST, lambda own, other: {"client_assertion": ABSENT, "client_assertion_type": ABSENT}),
    "none but the id": (
        REQUEST,
        lambda own, other: {"client_assertion": ABSENT, "client_assertion_type": ABSENT, "client_id": own.name},
    ),
    "exp five minutes ago": (REQUEST, lambda own, other: {"client_assertion": _aged(own)}),
    "another aud": (
        REQUEST,
        lambda own, other: {"client_assertion": own.assertion({"aud": "https://other.example"})},
    ),
    "no sub": (REQUEST, lambda own, other: {"client_assertion": own.assertion({"sub": ABSENT})}),
}


def _aged(party: Party) -> str:
    then = int(time.time()) - 300
    return party.assertion({"iat": then - 60, "exp": then})


@pytest.mark.rule("AS-CA-02", "AS-CA-03", "AS-CA-04", "AS-CA-05", "AS-CA-06", "AS-CA-07", "AS-CA-15")
@pytest.mark.parametrize("spoilt", ASSERTIONS)
def test_assertions_that_are_wrong(parties: Parties, spoilt: str) -> None:
    """ensure-client-id, ensure-client-assertion and ensure-signed-client-assertion: with a good proof beside."""
    codes, fields = ASSERTIONS[spoilt]
    check_refused(parties[0].ask(fields(*parties)), codes)
    parties[0].token()


@pytest.mark.rule("AS-DP-18")
def test_a_client_without_a_proof(party: Party) -> None:
    """ensure-holder-of-key-required: it is the proof that is missing, not the client who is unknown."""
    check_refused(party.ask(proofs=[]), PROOF)
    if not party.by_certificate:
        check_refused(party.ask({"client_assertion": _aged(party)}, proofs=[]), CLIENT)


@pytest.mark.rule("ST-16")
def test_the_ciphers_of_both_sides(parties: Parties) -> None:
    """The probes of happy-flow and ensure-holder-of-key-required, against these very processes."""
    for site in (parties[0].plan.server, parties[0].plan.api):
        assert agreed(site.address) == {suite for suite in RECOMMENDED if "ECDSA" in suite}


def _times(now: int) -> Mapping[str, Mapping[str, int]]:
    return {
        "nbf now, exp in five minutes": {"nbf": now, "exp": now + 300},
        "iat ten seconds back": {"iat": now - 10},
        "iat eight seconds ahead": {"iat": now + 8},
    }


@pytest.mark.rule("AS-DP-04", "AS-DP-07", "RS-DP-10")
@pytest.mark.parametrize("times", _times(0))
def test_times_of_proofs_that_are_good(party: Party, times: str) -> None:
    """check-dpop-proof-nbf-exp and ensure-dpopproof-with-iat: at the token endpoint and at the API."""
    reply = party.ask(proofs=[party.token_proof(_times(int(time.time()))[times])])
    assert reply.status == 200, reply.json
    token = str(reply.json["access_token"])
    proof = party.call_proof(token, claims=_times(int(time.time()))[times])
    assert party.call(token, [proof]).status == 200
