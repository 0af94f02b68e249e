"""From when to when a client's key counts: the instants themselves, and what authentication makes of them."""

from dataclasses import replace

import pytest

from groat.protocol.enrolment import (
    ENDORSEMENT_TYP,
    LIFETIME,
    MAX_RETIREMENT,
    MIN_RETIREMENT,
    Endorsement,
    NewKey,
    check_endorsement,
    endorsement_claims,
)
from groat.protocol.errors import ConfigError, InvalidClient
from groat.protocol.jose import sign_jwt
from groat.protocol.jwk import PrivateKey, generate_private_key
from groat.protocol.key_limits import LATEST, KeyLimits, OutOfTime
from groat.protocol.models import Client

from .builders import (
    ABSENT,
    CID,
    CLIENT,
    CLIENT_KEY,
    ISS,
    KEYS,
    NOW,
    OTHER_KEY,
    POLICY,
    assertion,
    authenticate,
    client_refused,
)
from .test_client_auth import _verifications

TOLERANCE = POLICY.clock_tolerance
EXPIRED, EARLY = KeyLimits(expires_at=NOW), KeyLimits(not_before=NOW + TOLERANCE + 1)


def limited(limits: KeyLimits, key: PrivateKey = CLIENT_KEY, *others: PrivateKey) -> Client:
    """CLIENT with this key under these limits, and other keys without any."""
    keys = tuple(held.public for held in (key, *others))
    return replace(CLIENT, keys=keys, limits={key.kid: limits})


@pytest.mark.rule("KEY-23")
@pytest.mark.parametrize(
    ("limits", "at", "tolerance", "fault"),
    [
        (KeyLimits(), 0, 0, None),
        (KeyLimits(expires_at=NOW), NOW - 0.001, 0, None),
        (KeyLimits(expires_at=NOW), NOW, 0, "key_expired"),
        (KeyLimits(expires_at=NOW), NOW, 60, "key_expired"),
        (KeyLimits(not_before=NOW), NOW, 0, None),
        (KeyLimits(not_before=NOW), NOW - 0.001, 0, "key_not_yet_valid"),
        (KeyLimits(not_before=NOW), NOW - 10, 10, None),
        (KeyLimits(not_before=NOW), NOW - 10.001, 10, "key_not_yet_valid"),
        (KeyLimits(NOW, NOW + 1), NOW + 0.5, 0, None),
        (KeyLimits(NOW, NOW + 1), NOW + 1, 0, "key_expired"),
        (KeyLimits(NOW, NOW + 1), NOW - 1, 0, "key_not_yet_valid"),
    ],
)
def test_the_boundaries(limits: KeyLimits, at: float, tolerance: float, fault: str | None) -> None:
    """The first instant counts, the last does not; the tolerance is for the beginning alone."""
    assert limits.fault(at, tolerance) == fault


@pytest.mark.parametrize(
    ("not_before", "expires_at"), [(NOW, NOW), (NOW + 1, NOW), (-1, None), (None, LATEST + 1), (None, -1)]
)
def test_limits_that_leave_no_moment(not_before: int | None, expires_at: int | None) -> None:
    """They are an operator's slip."""
    with pytest.raises(ConfigError):
        KeyLimits(not_before, expires_at)


@pytest.mark.rule("KEY-23", "AS-CA-17", "AS-CA-19", "AS-CA-20")
@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize(("limits", "reason"), [(EXPIRED, "key_expired"), (EARLY, "key_not_yet_valid")])
def test_a_key_out_of_time_is_no_key_of_the_client(name: str, limits: KeyLimits, reason: str) -> None:
    """Its good signature is refused as an unknown kid is, at the cost of one check; the log tells the difference."""
    key = KEYS[name]
    token, client = assertion(key), limited(limits, key, OTHER_KEY)
    with client_refused(reason):
        authenticate(token, client)
    assert _verifications(lambda: authenticate(token, client)) == 1
    refusals = []
    for kid in (key.kid, "unknown"):
        with pytest.raises(InvalidClient) as caught:
            authenticate(assertion(key, {"kid": kid}), client)
        refusals.append(caught.value)
    assert len({(refusal.code, refusal.status, refusal.description) for refusal in refusals}) == 1
    assert abs(len(refusals[0].hint) - len(refusals[1].hint)) < 60


@pytest.mark.rule("KEY-23")
@pytest.mark.parametrize(
    "limits", [KeyLimits(expires_at=NOW + 1), KeyLimits(not_before=NOW + TOLERANCE), KeyLimits(NOW)]
)
def test_a_key_within_its_time_counts(limits: KeyLimits) -> None:
    """The control, at the boundaries."""
    assert authenticate(assertion(), limited(limits)).key is CLIENT_KEY.public


@pytest.mark.rule("KEY-23", "AS-CA-19", "A18")
def test_time_comes_after_the_signature_and_before_all_else() -> None:
    """Only the owner learns, and can time, that a key is out of time; whatever else is wrong with it is not looked at."""
    client = limited(EXPIRED, CLIENT_KEY, OTHER_KEY)
    with client_refused("assertion_signature"):
        authenticate(assertion(OTHER_KEY, {"kid": CLIENT_KEY.kid}), client)
    with client_refused("key_expired"):
        authenticate(assertion(aud="https://other.example"), client)
    with client_refused("key_expired"):
        authenticate(assertion(), replace(client, enabled=False))
    with client_refused("assertion_algorithm"):
        authenticate(assertion(CLIENT_KEY, {"alg": "ES384"}), client)


@pytest.mark.rule("KEY-23", "JOSE-13")
def test_without_a_kid_only_keys_that_count_are_asked() -> None:
    """An expired key makes no choice ambiguous; where nothing else fits, the log says that it expired."""
    token = _without_kid(OTHER_KEY)
    assert authenticate(token, limited(EXPIRED, CLIENT_KEY, OTHER_KEY)).key is OTHER_KEY.public
    with client_refused("assertion_key") as caught:
        authenticate(token, limited(KeyLimits(expires_at=NOW + 1), CLIENT_KEY, OTHER_KEY))
    assert "2 keys fit ES256: the header must say which" in caught.value.hint
    assert caught.value.hint.endswith(f"groat client key list {CID}")
    with client_refused("key_expired"):
        authenticate(_without_kid(CLIENT_KEY), limited(EXPIRED))


@pytest.mark.rule("KEY-23", "A18")
def test_a_forger_without_a_kid_does_not_reach_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signature comes first here, too, and the owner of the one key that fits learns that it expired."""
    judged = []
    real = KeyLimits.fault

    def fault(limits: KeyLimits, now: float, tolerance: float = 0) -> OutOfTime | None:
        judged.append(limits)
        return real(limits, now, tolerance)

    monkeypatch.setattr(KeyLimits, "fault", fault)
    with client_refused("assertion_signature"):
        authenticate(_without_kid(OTHER_KEY), limited(EXPIRED))
    assert judged == []
    with client_refused("key_expired"):
        authenticate(_without_kid(CLIENT_KEY), limited(EXPIRED, CLIENT_KEY, generate_private_key("Ed25519")))
    assert judged == [EXPIRED]


def _without_kid(key: PrivateKey) -> str:
    return assertion(key, {"kid": ABSENT})


@pytest.mark.rule("KEY-23", "KEY-21")
@pytest.mark.parametrize(("limits", "reason"), [(EXPIRED, "key_expired"), (EARLY, "key_not_yet_valid")])
def test_a_key_out_of_time_endorses_nothing(limits: KeyLimits, reason: str) -> None:
    """Its word for a new key is worth as little as its assertion."""
    with client_refused(reason):
        _endorse(limited(limits))
    assert _endorse(CLIENT).by is CLIENT_KEY.public


def _endorse(client: Client, **changes: object) -> Endorsement:
    new = NewKey(CID, OTHER_KEY.public, None)
    claims = endorsement_claims(CID, ISS, OTHER_KEY.public.thumbprint, NOW, "j" * 22) | changes
    claims = {name: value for name, value in claims.items() if value is not ABSENT}
    return check_endorsement(sign_jwt(claims, CLIENT_KEY, ENDORSEMENT_TYP), client, new, POLICY, NOW)


@pytest.mark.rule("KEY-23")
@pytest.mark.parametrize("seconds", [MIN_RETIREMENT, 3600, MAX_RETIREMENT])
def test_an_endorsement_may_end_its_own_key(seconds: int) -> None:
    """So many seconds after it was signed, or after its end if it does not say when that was; none if it says nothing."""
    assert _endorse(CLIENT, retire_after=seconds).retire_at == NOW + seconds
    assert _endorse(CLIENT, retire_after=seconds, iat=NOW - 7).retire_at == NOW - 7 + seconds
    assert _endorse(CLIENT, retire_after=seconds, iat=ABSENT).retire_at == NOW + LIFETIME + seconds
    assert _endorse(CLIENT).retire_at is None
    assert "retire_after" not in endorsement_claims(CID, ISS, "t", NOW, "j")
    assert endorsement_claims(CID, ISS, "t", NOW, "j", seconds)["retire_after"] == seconds


@pytest.mark.rule("KEY-23")
@pytest.mark.parametrize("seconds", [MIN_RETIREMENT - 1, MAX_RETIREMENT + 1, -1, 0, "3600", 3600.0, True, None, [60]])
def test_an_endorsement_with_another_retirement_is_refused(seconds: object) -> None:
    """Strictly whole seconds within the bounds, or not at all."""
    with client_refused("endorsement_retirement"):
        _endorse(CLIENT, retire_after=seconds)
