"""Our verdict beside those of joserfc, PyJWT and jwcrypto: what another refuses, we never accept.

All four get the same key, algorithm, issuer, audience and required claims. The others read the machine's clock or
are given it; every mutation stays clear of the boundaries by seconds, so that the run's own length does not matter.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import jwt as pyjwt
import pytest
from joserfc import jws as joserfc_jws
from joserfc import jwt as joserfc_jwt
from joserfc.errors import JoseError as JoserfcError
from joserfc.jwk import KeySet
from jwcrypto import jwk as jwcrypto_jwk
from jwcrypto import jwt as jwcrypto_jwt

from groat.protocol import jose
from groat.protocol.access_token import Expectations
from groat.protocol.errors import InvalidToken, OAuthError
from groat.protocol.jwk import PrivateKey
from groat.protocol.models import Client

from .builders import CID, ISS, KEYS, RES, assertion_claims, authenticate, token_claims, verify
from .mutations import HARMLESS, KINDS, MUST_FAIL, OPEN, RAW, SIGNED, Mutation, mutate

# joserfc warns that EdDSA is an old name; it is the only one that all four know.
pytestmark = pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")

ALGORITHMS = ("ES256", "PS256", "RS256", "Ed25519")
PER_ALGORITHM = 1100
REQUIRED = ("iss", "sub", "aud", "exp", "iat", "jti", "client_id")
SEED = 20260726

# (kind, library): why the other refuses what the standards let pass, so that we accept it.
JUSTIFIED: dict[tuple[str, str], str] = {}


@dataclass(frozen=True)
class Peer:
    """One library, set up to judge access tokens as we do."""

    name: str
    accepts: Callable[[str, PrivateKey, float], bool]


def _joserfc(token: str, key: PrivateKey, now: float) -> bool:
    registry = joserfc_jws.JWSRegistry(algorithms=[_written(key)], strict_check_header=False)
    try:
        decoded = joserfc_jwt.decode(token, _joserfc_keys(key.algorithm), registry=registry)
        essential: dict[str, Any] = {name: {"essential": True} for name in REQUIRED}
        essential |= {"iss": {"essential": True, "value": ISS}, "aud": {"essential": True, "value": RES}}
        joserfc_jwt.JWTClaimsRegistry(now=int(now), leeway=10, **essential).validate(decoded.claims)
    except (JoserfcError, ValueError, TypeError, RecursionError, KeyError, AttributeError):
        return False
    return True


@cache
def _joserfc_keys(name: str) -> KeySet:
    return KeySet.import_key_set({"keys": [_jwk(name)]})


def _jwk(name: str) -> Any:
    key = KEYS[name]
    return {**key.public.jwk, "alg": _written(key)}


def _pyjwt(token: str, key: PrivateKey, now: float) -> bool:
    try:
        kid = pyjwt.get_unverified_header(token).get("kid", key.kid)
        if kid != key.kid:
            return False
        pyjwt.decode(
            token,
            key.public.native,
            algorithms=[_written(key)],
            issuer=ISS,
            audience=RES,
            leeway=10,
            options={"require": list(REQUIRED)},
        )
    except (pyjwt.PyJWTError, ValueError, TypeError, RecursionError, KeyError, AttributeError, OverflowError):
        return False
    return True


def _jwcrypto(token: str, key: PrivateKey, now: float) -> bool:
    claims = {**dict.fromkeys(REQUIRED), "iss": ISS, "aud": RES}
    try:
        jwt = jwcrypto_jwt.JWT(check_claims=claims, algs=[_written(key)], expected_type="JWS")
        jwt.leeway = 10
        jwt.deserialize(token, _jwcrypto_keys(key.algorithm))
    except Exception:
        # jwcrypto lets errors of many types through; all of them are refusals.
        return False
    return True


@cache
def _jwcrypto_keys(name: str) -> Any:
    keys = jwcrypto_jwk.JWKSet()
    keys.import_keyset(json.dumps({"keys": [_jwk(name)]}))
    return keys


PEERS = (Peer("joserfc", _joserfc), Peer("PyJWT", _pyjwt), Peer("jwcrypto", _jwcrypto))


def _written(key: PrivateKey) -> str:
    # The name that all three libraries know.
    return "EdDSA" if key.algorithm == "Ed25519" else key.algorithm


def _good(key: PrivateKey, now: int) -> str:
    claims = token_claims(iat=now, exp=now + 600)
    return jose.sign_jwt(claims, key, "at+jwt", alg_name=_written(key))


def _ours(token: str, key: PrivateKey, now: float) -> bool:
    expected = Expectations(ISS, RES, algorithms=[key.algorithm])
    try:
        verify(token, expected, now, keys=(key.public,))
    except InvalidToken:
        return False
    return True


def _mutations(key: PrivateKey, now: int, count: int) -> list[Mutation]:
    rng = random.Random(f"{SEED}-{key.algorithm}")
    good = _good(key, now)
    return [mutate(good, key, rng) for _ in range(count)]


@pytest.mark.rule("JOSE-01", "JOSE-23", "RS-08", "Z04")
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_control_is_accepted_by_all(name: str, peer: Peer) -> None:
    """Unchanged, the token is good for everybody: otherwise agreement would mean nothing."""
    now = int(time.time())
    good = _good(KEYS[name], now)
    assert _ours(good, KEYS[name], now)
    assert peer.accepts(good, KEYS[name], now)
    assert not peer.accepts(good[:-8] + "AAAAAAAA", KEYS[name], now)


@pytest.mark.rule(
    "JOSE-01", "JOSE-02", "JOSE-03", "JOSE-04", "JOSE-05", "JOSE-06", "JOSE-08", "JOSE-18", "RS-08", "Z04"
)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_we_accept_nothing_that_another_refuses(name: str) -> None:
    """Over a thousand mutated tokens each: what we accept, joserfc, PyJWT and jwcrypto accept as well."""
    key, now = KEYS[name], int(time.time())
    mutations = _mutations(key, now, PER_ALGORITHM)
    accepted = [mutation for mutation in mutations if _ours(mutation.token, key, now)]
    alone = Counter(
        (mutation.kind, peer.name)
        for mutation in accepted
        for peer in PEERS
        if not peer.accepts(mutation.token, key, now)
    )
    assert {pair: count for pair, count in alone.items() if pair not in JUSTIFIED} == {}
    assert len(accepted) > 50, "a verifier that refuses everything would pass this test"


@pytest.mark.rule("RS-08", "JOSE-10", "Z01", "Z04")
@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_mutations_keep_what_they_promise(name: str) -> None:
    """As access tokens: harmless ones are accepted, and those that must fail are refused."""
    key, now = KEYS[name], int(time.time())
    for mutation in _mutations(key, now, PER_ALGORITHM):
        accepted = _ours(mutation.token, key, now)
        assert accepted or mutation.kind not in HARMLESS, mutation
        assert not accepted or mutation.kind not in MUST_FAIL, mutation


@pytest.mark.rule("AS-CA-02", "AS-CA-04", "AS-CA-06", "AS-CA-07", "AS-CA-09", "JOSE-10", "Z01")
@pytest.mark.parametrize("name", ALGORITHMS)
def test_mutated_assertions(name: str) -> None:
    """The same promises hold for assertions, and nothing but OAuth refusals comes out."""
    key, now = KEYS[name], int(time.time())
    client = Client(CID, (key.public,))
    good = jose.sign_jwt(assertion_claims(iat=now, exp=now + 60, client_id=CID), key, "client-authentication+jwt")
    rng = random.Random(f"{SEED}-assertion-{name}")
    for _ in range(PER_ALGORITHM):
        mutation = mutate(good, key, rng)
        try:
            authenticate(mutation.token, client, now=now)
        except OAuthError:
            assert mutation.kind not in HARMLESS, mutation
        else:
            assert mutation.kind not in MUST_FAIL - {"client_id_not_a_string"}, mutation


@pytest.mark.rule("Z04")
def test_the_mutator_is_reproducible_and_reaches_every_kind() -> None:
    """One seed, one sequence; a thousand draws visit all kinds."""
    key, now = KEYS["RS256"], 1_800_000_000
    first, again = _mutations(key, now, PER_ALGORITHM), _mutations(key, now, PER_ALGORITHM)
    assert [mutation.kind for mutation in first] == [mutation.kind for mutation in again]
    # RS256 is deterministic, PSS and the stranger's key are not.
    fixed = [(one, two) for one, two in zip(first, again, strict=True) if one.kind != "wrong_padding"]
    assert all(one == two for one, two in fixed)
    assert {mutation.kind for mutation in first} == set(KINDS)
    assert not RAW.keys() & SIGNED.keys()
    assert set(KINDS) >= HARMLESS | OPEN
    assert not HARMLESS & OPEN
