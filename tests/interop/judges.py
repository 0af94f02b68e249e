"""Five opinions on one JWT: ours, joserfc, PyJWT, jwcrypto and npm jose, all of them told to expect the same.

Each is made as strict as its own options allow, and nothing is added to it. Clocks are fixed: two of the libraries
read the machine's clock, which `frozen_clocks` replaces for them.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from types import SimpleNamespace
from typing import Any, Final, Self

import jwcrypto.jwt
import jwt as pyjwt
import jwt.api_jwt
import pytest
from joserfc import jws as joserfc_jws
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet
from jwcrypto.jwk import JWKSet

from groat.protocol import jose
from groat.protocol.access_token import Expectations, check_access_token, parse_access_token
from groat.protocol.client_auth import authenticate_client, read_credential
from groat.protocol.client_auth.private_key_jwt import JWT_BEARER, read
from groat.protocol.client_settings import ClientSettings
from groat.protocol.errors import InvalidClient, InvalidToken, JoseError
from groat.protocol.key_set import import_key_set
from groat.protocol.models import Client, Policy, TokenRequest

from .processes import run_node

ALGORITHMS: Final = ("ES256", "PS256", "RS256", "Ed25519", "EdDSA")


@dataclass(frozen=True, slots=True)
class Expected:
    """What every judge is told. `subject`: the only sub to accept, None for any; `now`: epoch seconds."""

    issuer: str
    audience: str
    typ: str
    required: tuple[str, ...]
    jwks: Mapping[str, Any] = field(repr=False)
    now: int
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The claims that were accepted, or None and the name of the refusal."""

    claims: Mapping[str, Any] | None
    why: str = ""

    @property
    def accepted(self) -> bool:
        return self.claims is not None


Judge = Callable[[Sequence[str]], list[Verdict]]
Decode = Callable[[str], Mapping[str, Any]]


def _judge(decode: Decode, refusals: type[Exception] | tuple[type[Exception], ...] = Exception) -> Judge:
    """Every token by itself. What is no refusal is a bug of the judge and goes up."""

    def verdict(token: str) -> Verdict:
        try:
            return Verdict(decode(token))
        except refusals as error:
            return Verdict(None, str(getattr(error, "reason", type(error).__name__)))

    return lambda tokens: [verdict(token) for token in tokens]


def our_verifier(expected: Expected) -> Judge:
    """The steps of Verifier.verify after the keys are there. InvalidToken is the only refusal it may raise."""
    keys = import_key_set(expected.jwks)
    demands = Expectations(expected.issuer, expected.audience)

    def decode(token: str) -> Mapping[str, Any]:
        unverified = parse_access_token(token, demands)
        try:
            key = jose.select_key(unverified.header, keys)
        except JoseError as error:
            raise InvalidToken(error.reason, error.hint) from None
        return check_access_token(unverified, key, demands, expected.now).claims

    return _judge(decode, InvalidToken)


def our_server(expected: Expected) -> Judge:
    """Client authentication as the token endpoint does it, before the jti is used up; a client of strict type."""
    client = Client(str(expected.subject), import_key_set(expected.jwks), settings=ClientSettings(strict_typ=True))
    policy = Policy(expected.audience)

    def decode(token: str) -> Mapping[str, Any]:
        credentials = {"client_assertion": token, "client_assertion_type": JWT_BEARER}
        request = TokenRequest(grant_type="client_credentials", parameters={}, credentials=credentials)
        authenticate_client(read_credential(request), client, policy, expected.now)
        read_back = read(request)
        assert read_back is not None
        return read_back.jwt.claims

    return _judge(decode, InvalidClient)


def joserfc_judge(expected: Expected) -> Judge:
    """joserfc, with unknown header members allowed as RFC 7515 4 demands."""
    keys = KeySet.import_key_set(json.loads(json.dumps(expected.jwks)))
    registry = joserfc_jws.JWSRegistry(algorithms=list(ALGORITHMS), strict_check_header=False)
    demanded: dict[str, Any] = {name: {"essential": True} for name in expected.required}
    values = {"iss": expected.issuer, "aud": expected.audience, "sub": expected.subject}
    demanded |= {name: {"essential": True, "value": value} for name, value in values.items() if value is not None}
    claims_registry = joserfc_jwt.JWTClaimsRegistry(now=expected.now, **demanded)

    def decode(token: str) -> Mapping[str, Any]:
        claims = joserfc_jwt.decode(token, keys, registry=registry).claims
        claims_registry.validate(claims)
        return claims

    return _judge(decode)


def pyjwt_judge(expected: Expected) -> Judge:
    """PyJWT with PyJWK, which leaves the choice of the key to the caller: by kid, or the one of that algorithm."""
    keys = pyjwt.PyJWKSet.from_dict(dict(expected.jwks)).keys

    def decode(token: str) -> Mapping[str, Any]:
        header = pyjwt.get_unverified_header(token)
        name, wanted = ("kid", header["kid"]) if "kid" in header else ("algorithm_name", header["alg"])
        return pyjwt.decode(
            token,
            next(key for key in keys if (key.key_id if name == "kid" else key.algorithm_name) == wanted),
            algorithms=list(ALGORITHMS),
            issuer=expected.issuer,
            audience=expected.audience,
            subject=expected.subject,
            options={"require": list(expected.required)},
        )

    return _judge(decode)


def jwcrypto_judge(expected: Expected) -> Judge:
    """jwcrypto with a JWKSet."""
    keys = JWKSet.from_json(json.dumps(expected.jwks))
    demanded: dict[str, Any] = dict.fromkeys(expected.required)
    demanded |= {"iss": expected.issuer, "aud": expected.audience, "sub": expected.subject}

    def decode(token: str) -> Mapping[str, Any]:
        found = jwcrypto.jwt.JWT(check_claims=demanded, algs=list(ALGORITHMS), expected_type="JWS")
        found.leeway = 0
        found.deserialize(token, keys)
        claims: Mapping[str, Any] = json.loads(found.claims)
        return claims

    return _judge(decode)


def npm_jose_judge(expected: Expected) -> Judge:
    """npm jose, all tokens in one process; the only other judge that looks at typ."""
    question = {
        "jwks": expected.jwks,
        "issuer": expected.issuer,
        "audience": expected.audience,
        "algorithms": list(ALGORITHMS),
        "typ": expected.typ,
        "required": list(expected.required),
        "now": expected.now,
    }

    def judge(tokens: Sequence[str]) -> list[Verdict]:
        answers = run_node("jose_verify.mjs", [question, *({"token": token} for token in tokens)])
        assert len(answers) == len(tokens)
        return [Verdict(answer.get("claims"), answer.get("code", "")) for answer in answers]

    return judge


PEERS: Final[Mapping[str, Callable[[Expected], Judge]]] = {
    "joserfc": joserfc_judge,
    "PyJWT": pyjwt_judge,
    "jwcrypto": jwcrypto_judge,
    "npm jose": npm_jose_judge,
}


@contextmanager
def frozen_clocks(now: int) -> Iterator[None]:
    """Give PyJWT and jwcrypto this clock; the others are told the time."""

    class Frozen(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(now, tz or UTC)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jwt.api_jwt, "datetime", Frozen)
        patch.setattr(jwcrypto.jwt, "time", SimpleNamespace(time=lambda: float(now)))
        yield
