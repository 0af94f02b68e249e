"""Key sets as other people's servers write them: null members, entries twice, keys that cannot be used."""

import logging
from typing import Any

import pytest

from groat.protocol.jwk import PrivateKey, generate_private_key
from groat.verifier import KeysUnavailable, Verifier
from tests.verifier.issuer import JWKS, METADATA, Clock, Issuer, json_answer, outcome
from tests.verifier.tokens import refused

OTHER = generate_private_key("ES256")
WARNING = "keys unusable"


def serve(issuer: Issuer, *entries: Any) -> Verifier:
    issuer.spoil(JWKS, json_answer({"keys": list(entries)}))
    return issuer.verifier()


def jwk(key: PrivateKey, **changes: Any) -> dict[str, Any]:
    return {**key.public.jwk, **changes}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [record for record in caplog.records if record.levelno == logging.WARNING]
    return [record.getMessage() for record in said if WARNING in record.getMessage()]


@pytest.mark.rule("FO-16")
@pytest.mark.parametrize("member", ["use", "alg", "key_ops", "x5c", "x5t", "x5u", "d"])
def test_null_members_of_a_key_do_not_matter(issuer: Issuer, member: str) -> None:
    """A key whose unused members are written as null verifies its tokens."""
    verifier = serve(issuer, jwk(issuer.key, **{member: None}))
    assert verifier.verify(issuer.token()).client_id == "billing"


@pytest.mark.rule("FO-16")
def test_a_null_kid_is_no_kid(issuer: Issuer) -> None:
    """Such a key answers for tokens without a kid, as if the member were not there."""
    verifier = serve(issuer, jwk(issuer.key, kid=None))
    assert verifier.verify(issuer.token(kid=None)).client_id == "billing"


@pytest.mark.rule("FO-16", "RS-17")
def test_null_members_of_metadata_are_absent(issuer: Issuer) -> None:
    """A server that writes null for the lists it does not have is read like one that leaves them out."""
    names = ("token_endpoint_auth_methods_supported", "token_endpoint_auth_signing_alg_values_supported")
    issuer.spoil(METADATA, json_answer({**issuer.metadata(), **dict.fromkeys(names), "token_endpoint": None}))
    assert issuer.verifier().verify(issuer.token()).client_id == "billing"


@pytest.mark.rule("FO-16", "JOSE-18", "JOSE-12")
@pytest.mark.parametrize("claim", ["exp", "iat", "nbf", "sub", "jti", "client_id", "scope", "cnf", "aud"])
def test_null_stays_a_fault_in_what_is_signed(running: Issuer, claim: str) -> None:
    """A claim that is null says neither yes nor no, and a JWT is a statement: refused."""
    verifier = running.verifier()
    assert outcome(lambda: verifier.verify(running.token(**{claim: None}))) in ("claims", "audience", "binding")


@pytest.mark.rule("FO-17", "K05")
def test_an_entry_that_stands_twice_takes_no_key_away(issuer: Issuer) -> None:
    """Identical entries are one; only what contradicts itself is refused."""
    entry = jwk(issuer.key)
    verifier = serve(issuer, entry, jwk(OTHER), entry, {**entry, "x5c": ["AAAA"]})
    assert verifier.verify(issuer.token()).client_id == "billing"
    assert verifier.verify(issuer.token(OTHER)).client_id == "billing"
    with pytest.raises(KeysUnavailable) as caught:
        serve(issuer, entry, jwk(OTHER, kid=issuer.key.kid)).verify(issuer.token())
    assert issuer.key.kid in caught.value.hint


SPOILT = {
    "use": ({"use": "enc"}, "use must be sig, and is enc"),
    "key_ops": ({"key_ops": ["sign"]}, "key_ops must allow verify and agree with use, and is ['sign']"),
    "alg": ({"alg": "ES256K"}, "alg ES256K is unknown or does not fit kty and crv"),
    "crv": ({"crv": "secp256k1"}, "crv must be P-256, P-384, P-521 or Ed25519, and is secp256k1"),
    "kty": ({"kty": "AKP"}, "kty must be RSA, EC or OKP, and is AKP"),
    "x": ({"x": "AAAA"}, "member x must be 32 bytes long, and is 3"),
}


@pytest.mark.rule("FO-18", "KEY-18")
@pytest.mark.parametrize(("change", "why"), SPOILT.values(), ids=SPOILT.keys())
def test_a_key_that_was_skipped_is_told_with_its_fault(
    issuer: Issuer, caplog: pytest.LogCaptureFixture, change: dict[str, Any], why: str
) -> None:
    """The hint names the member, and one warning does, however many tokens come and however often keys are read."""
    verifier = serve(issuer, jwk(issuer.key, **change), jwk(OTHER))
    for _ in range(3):
        with refused("key_unknown"):
            verifier.verify(issuer.token())
    verifier.warm_sync(force=True)
    with pytest.raises(Exception, match="key_unknown") as caught:
        verifier.verify(issuer.token())
    assert getattr(caught.value, "hint", "") == f"no key with kid {issuer.key.kid} is usable: {why}"
    assert warnings(caplog) == [f"keys unusable: issuer={issuer.url} kid {issuer.key.kid}: {why}"]


@pytest.mark.rule("FO-18")
def test_a_skipped_key_is_told_of_when_its_token_has_no_kid(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """Without a kid, whatever was skipped may be the key that is meant."""
    verifier = serve(issuer, jwk(issuer.key, use="enc"), jwk(generate_private_key("Ed25519")))
    with pytest.raises(Exception, match="key_unknown") as caught:
        verifier.verify(issuer.token(kid=None))
    assert getattr(caught.value, "hint", "") == "no key for ES256 is usable: use must be sig, and is enc"
    assert len(warnings(caplog)) == 1


@pytest.mark.rule("FO-18")
def test_no_warning_for_keys_that_no_token_names(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """Many servers publish encryption keys beside the others: nobody is told of those."""
    verifier = serve(issuer, jwk(OTHER, use="enc"), jwk(issuer.key))
    assert verifier.verify(issuer.token()).client_id == "billing"
    with refused("key_unknown"):
        verifier.verify(issuer.token(kid="made-up"))
    assert warnings(caplog) == []


@pytest.mark.rule("FO-18", "I7")
def test_a_set_without_a_usable_key_says_why(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """The 503 and the warning name the entries, a few of them, and only what can be printed."""
    entries = [jwk(OTHER, kid=f"k{number}\x1b[31m\u202e", use="enc") for number in range(50)]
    with pytest.raises(KeysUnavailable) as caught:
        serve(issuer, *entries).verify(issuer.token())
    assert caught.value.hint.startswith(
        r"the JWKS has no usable key; kid k0\x1b[31m\u202e: use must be sig, and is enc; "
    )
    assert caught.value.hint.count("use must be sig") == 3
    assert caplog.text.isascii()
    assert caught.value.hint in caplog.text


@pytest.mark.rule("FO-18", "RS-20")
def test_a_key_that_is_mended_works(issuer: Issuer, monotonic: Clock) -> None:
    """Once the issuer has corrected the entry its tokens are accepted after the cooldown."""
    verifier = issuer.verifier(monotonic=monotonic)
    issuer.spoil(JWKS, json_answer({"keys": [jwk(issuer.key, use="enc"), jwk(OTHER)]}))
    with refused("key_unknown"):
        verifier.verify(issuer.token())
    issuer.mend()
    monotonic.now += 31
    assert verifier.verify(issuer.token()).client_id == "billing"
