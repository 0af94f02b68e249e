"""The modules of the API: happy-flow, access-token-type-header-case-sensitivity, dpop-negative-tests.

Each step is one request to the example API. A step that only warns in the suite is as binding here.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest

from .conftest import Parties
from .parties import RESOURCE, Party
from .signing import ABSENT, Key, encoded
from .wire import Reply


@dataclass(frozen=True)
class Attempt:
    """Who calls, with which token, and who else there is."""

    own: Party
    other: Party
    token: str

    def proof(
        self, header: Mapping[str, Any] | None = None, claims: Mapping[str, Any] | None = None, **how: Any
    ) -> str:
        """Good but for this."""
        return self.own.call_proof(self.token, header, claims, **how)

    def show(self, *proofs: str, **how: Any) -> Reply:
        """Call with these."""
        return self.own.call(self.token, proofs, **how)

    def headed(self, **header: Any) -> Reply:
        return self.show(self.proof(header))

    def claiming(self, **claims: Any) -> Reply:
        return self.show(self.proof(claims=claims))

    @property
    def url(self) -> str:
        return f"{self.own.plan.api.url}/protected"


Step = Callable[[Attempt], Reply]


def _twice(attempt: Attempt) -> Reply:
    proof = attempt.proof()
    assert attempt.show(proof).status == 200
    return attempt.show(proof)


def _same_jti(attempt: Attempt) -> Reply:
    assert attempt.claiming(jti="the-one-and-only").status == 200
    return attempt.claiming(jti="the-one-and-only")


def _flipped(attempt: Attempt) -> Reply:
    head, signature = attempt.proof().rsplit(".", 1)
    return attempt.show(f"{head}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}")


def _unsigned(attempt: Attempt) -> Reply:
    return attempt.show(attempt.proof({"alg": "none"}).rsplit(".", 1)[0] + ".")


def _without(claim: str) -> Step:
    return lambda attempt: attempt.show(attempt.proof(claims={claim: ABSENT}))


def _spelled(scheme: str) -> Step:
    return lambda attempt: attempt.show(attempt.proof(), scheme=scheme)


def _hours(count: int) -> Step:
    return lambda attempt: attempt.claiming(iat=int(time.time()) + count * 3600)


REFUSED: Final[Mapping[str, Step]] = {
    "two DPoP headers": lambda at: at.show(at.proof(), at.proof()),
    "no JWT": lambda at: at.show(encoded(b"no JWT")),
    "typ missing": lambda at: at.headed(typ=ABSENT),
    "typ wrong": lambda at: at.headed(typ="JWT"),
    "alg missing": lambda at: at.headed(alg=ABSENT),
    "jwk missing": lambda at: at.headed(jwk=ABSENT),
    **{f"{claim} missing": _without(claim) for claim in ("jti", "htm", "htu", "iat", "ath")},
    "ath of another token": lambda at: at.claiming(ath=encoded(b"0" * 32)),
    "RS256": lambda at: at.show(at.proof({"alg": "RS256"}, algorithm="RS256", key=Key.new("PS256"))),
    "none": _unsigned,
    "none, and signed": lambda at: at.headed(alg="none"),
    "bad signature": _flipped,
    "private key in jwk": lambda at: at.headed(jwk=at.own.proving.private),
    "htm of another method": lambda at: at.claiming(htm="POST"),
    "htm in small letters": lambda at: at.claiming(htm="get"),
    "htu of another path": lambda at: at.claiming(htu=f"{at.own.plan.api.url}/orders"),
    "htu of another host": lambda at: at.claiming(htu="https://other.example/protected"),
    "iat an hour ahead": _hours(1),
    "iat an hour back": _hours(-1),
    "another key than the token's": lambda at: at.show(at.proof(key=Key.new(at.own.proving.algorithm))),
    "no proof": lambda at: at.show(),
    "no proof and Bearer": lambda at: at.show(scheme="Bearer"),
    "a proof and Bearer": lambda at: at.show(at.proof(), scheme="Bearer"),
    "the same proof again": _twice,
    "the same jti again": _same_jti,
    "the first client's key with the second one's token": lambda at: at.show(at.proof(key=at.other.proving)),
    "the token in the query": lambda at: at.show(at.proof(), scheme=None, target=f"{RESOURCE}&access_token={at.token}"),
    "the token in the query, too": lambda at: at.show(at.proof(), target=f"{RESOURCE}&access_token={at.token}"),
    "no token": lambda at: at.show(at.proof(), scheme=None),
}
ACCEPTED: Final[Mapping[str, Step]] = {
    "the right proof": lambda at: at.show(at.proof()),
    "the header's name in capitals": lambda at: at.show(at.proof(), name="DPOP"),
    "the header's name in small letters": lambda at: at.show(at.proof(), name="dpop"),
    **{f"{scheme} as the scheme": _spelled(scheme) for scheme in ("dpop", "DPOP", "dPOP")},
    "htu with query and fragment": lambda at: at.claiming(htu=f"{at.url}?day=2#there"),
    "htu with the query of the URL": lambda at: at.claiming(htu=at.own.plan.api.url + RESOURCE),
    "a URL without a query": lambda at: at.show(at.proof(), target="/protected"),
    "scheme and host in capitals": lambda at: at.claiming(htu="HTTPS://ORDERS.EXAMPLE/protected"),
    "the default port": lambda at: at.claiming(htu="https://orders.example:443/protected"),
    "header members that nobody knows": lambda at: at.headed(kid="any", extra={"a": [1]}),
    "claims that nobody knows": lambda at: at.claiming(extra={"a": [1]}, sub=at.own.name),
    "Accept with a charset": lambda at: at.show(at.proof(), more=[("Accept", "application/json;charset=UTF-8")]),
    "Accept of anything": lambda at: at.show(at.proof(), more=[("Accept", "*/*")]),
}


@pytest.fixture(scope="module")
def attempts(parties: Parties, columns: Mapping[str, Parties]) -> Sequence[Attempt]:
    """One token of each client for all steps, as in the suite."""
    first, second = parties
    third = columns["mtls+dpop"][0]
    pairs = ((first, second), (second, first), (third, first))
    return [Attempt(own, other, own.token()) for own, other in pairs]


@pytest.mark.rule("RS-DP-01", "RS-DP-02", "RS-DP-03", "RS-DP-04", "RS-DP-06", "RS-DP-09", "RS-DP-10")
@pytest.mark.parametrize("side", range(3), ids=["PS256", "ES256", "mtls"])
@pytest.mark.parametrize("step", REFUSED)
def test_refused(attempts: Sequence[Attempt], side: int, step: str) -> None:
    """400 or 401, under the scheme that was tried; and the right proof works after it."""
    reply = REFUSED[step](attempts[side])
    assert reply.status in (400, 401), reply
    assert reply.header("www-authenticate") is not None
    assert attempts[side].show(attempts[side].proof()).status == 200


@pytest.mark.rule("RS-DP-01", "RS-DP-10", "AS-DP-13")
@pytest.mark.parametrize("side", range(3), ids=["PS256", "ES256", "mtls"])
@pytest.mark.parametrize("step", ACCEPTED)
def test_accepted(attempts: Sequence[Attempt], side: int, step: str) -> None:
    """What is only spelled in another way is the same."""
    reply = ACCEPTED[step](attempts[side])
    assert (reply.status, reply.body and reply.json["client"]) == (200, attempts[side].own.name)
