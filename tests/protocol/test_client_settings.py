"""The settings of a client: read alike from a document and as they are, and changed one by one."""

from base64 import b64encode
from dataclasses import fields, replace
from typing import Any, get_type_hints

import pytest

from groat.protocol.binding import Binding
from groat.protocol.certificate_names import NAMES
from groat.protocol.client_settings import (
    CLIENT_SETTINGS,
    DEFAULTS,
    UNCHANGED,
    AssertionAudience,
    ClientSettings,
    ScopePolicy,
    SettingsChange,
)
from groat.protocol.errors import ConfigError
from groat.protocol.key_limits import KeyLimits, LimitsChange
from groat.protocol.pairs import Amendment
from groat.protocol.unset import UNSET, Unset
from tests.certificates import Wish, issued

FULL = ClientSettings(
    default_scopes=("read", "write"),
    grant_types=("a", "b"),
    assertion_audience=AssertionAudience.ISSUER_OR_TOKEN_ENDPOINT,
    max_assertion_lifetime=77,
    signing_alg="ES256",
    strict_typ=True,
    jwks_uri="https://keys.example/jwks",
    token_lifetime=120,
    scope_policy=ScopePolicy.NARROW,
    claims={"tenant": "acme"},
    owner="Accounts, accounts@example.com",
    labels={"env": "prod"},
    binding=Binding.DPOP,
)
LATER = {name for name, told in CLIENT_SETTINGS.items() if told.later}
WRITTEN = {
    "default_scopes": ["read", "write"],
    "grant_types": ["a", "b"],
    "assertion_audience": "issuer-or-token-endpoint",
    "max_assertion_lifetime": 77,
    "signing_alg": "ES256",
    "strict_typ": True,
    "jwks_uri": "https://keys.example/jwks",
    "token_lifetime": 120,
    "scope_policy": "narrow",
    "claims": {"tenant": "acme"},
    "owner": "Accounts, accounts@example.com",
    "labels": {"env": "prod"},
    "binding": "dpop",
    # What is said of certificates goes together: below, and tests/protocol/test_certificate_chain.py.
    "certificates": [],
    "certificate_ca": [],
    **dict.fromkeys(NAMES),
}


def test_a_change_knows_every_setting() -> None:
    """The same fields in the same order, each with UNSET besides what the setting may be, and nothing given at first."""
    known, changed = get_type_hints(ClientSettings), get_type_hints(SettingsChange)
    assert [one.name for one in fields(SettingsChange)] == [one.name for one in fields(ClientSettings)]
    assert {name: kind | Unset for name, kind in known.items()} == changed
    assert (UNCHANGED.given, UNCHANGED.applied(FULL), repr(UNSET)) == ({}, FULL, "UNSET")


def test_a_document_has_what_the_settings_have() -> None:
    """JSON there and back; members of something else do no harm."""
    assert FULL.document() == WRITTEN
    assert ClientSettings.of({**WRITTEN, "allow": {}}) == FULL
    assert ClientSettings.of(DEFAULTS.document()) == DEFAULTS


@pytest.mark.parametrize("name", CLIENT_SETTINGS)
def test_a_document_without_a_setting(name: str) -> None:
    """Those that came later have a default; of the others a document that is damaged must not make laxer ones."""
    damaged = {member: value for member, value in WRITTEN.items() if member != name}
    if name in LATER:
        assert ClientSettings.of(damaged) == replace(FULL, **{name: getattr(DEFAULTS, name)})
    else:
        with pytest.raises(KeyError):
            ClientSettings.of(damaged)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("default_scopes", "read", TypeError),
        ("default_scopes", [1], TypeError),
        ("grant_types", None, TypeError),
        ("assertion_audience", "everybody", ValueError),
        ("max_assertion_lifetime", 9, ConfigError),
        ("max_assertion_lifetime", 3601, ConfigError),
        ("max_assertion_lifetime", "60", TypeError),
        ("signing_alg", "none", ConfigError),
        ("strict_typ", 1, TypeError),
        ("jwks_uri", "http://keys.example/", ConfigError),
        ("token_lifetime", 59, ConfigError),
        ("token_lifetime", 3601, ConfigError),
        ("token_lifetime", True, TypeError),
        ("token_lifetime", "5m", TypeError),
        ("scope_policy", "loose", ValueError),
        ("claims", ["tenant"], TypeError),
        ("claims", {"tenant": 1}, TypeError),
        ("claims", {"tenant": ""}, ConfigError),
        ("claims", {"te nant": "acme"}, ConfigError),
        ("claims", {"": "acme"}, ConfigError),
        ("claims", {"x" * 129: "acme"}, ConfigError),
        ("claims", {"sub": "somebody"}, ConfigError),
        ("claims", {"cnf": "{}"}, ConfigError),
        ("claims", {"tenant": "a\nb"}, ConfigError),
        ("claims", {"tenant": "\udcff"}, ConfigError),
        ("claims", {"tenant": "x" * 1012}, ConfigError),
        ("owner", 1, TypeError),
        ("owner", "x" * 201, ConfigError),
        ("owner", "a\x1b[2Jb", ConfigError),
        ("labels", "env=prod", TypeError),
        ("labels", {"env": ""}, ConfigError),
        ("labels", {"-env": "prod"}, ConfigError),
        ("labels", {"e v": "prod"}, ConfigError),
        ("labels", {"jwks_uri": "prod"}, ConfigError),
        ("claims", {"jwks_uri": "prod"}, ConfigError),
        ("labels", {"x" * 64: "prod"}, ConfigError),
        ("labels", {"env": "x" * 129}, ConfigError),
        ("labels", {"env": "\u202eprod"}, ConfigError),
        ("labels", {f"l{n}": "x" for n in range(33)}, ConfigError),
        ("binding", "whatever", ValueError),
        ("binding", None, ValueError),
    ],
)
@pytest.mark.parametrize("made", [ClientSettings, SettingsChange])
def test_what_a_setting_cannot_be(made: Any, name: str, value: Any, error: type[Exception]) -> None:
    """Neither in settings nor in a change to them."""
    with pytest.raises(error):
        made(**{name: value})


@pytest.mark.parametrize("name", CLIENT_SETTINGS)
def test_a_change_changes_what_it_names(name: str) -> None:
    """There and back, and leaves the others alone; a value is read as in a document."""
    change = SettingsChange.of({name: WRITTEN[name]})
    assert change.given == {name: getattr(FULL, name)}
    changed = change.applied(DEFAULTS)
    assert changed == replace(DEFAULTS, **{name: getattr(FULL, name)})
    assert SettingsChange(**{name: getattr(DEFAULTS, name)}).applied(changed) == DEFAULTS


def test_what_is_said_of_certificates() -> None:
    """There and back; an authority and a name come and go together, and a name by another one."""
    made = b64encode(issued(Wish("CN=authority", authority=True)).der).decode()
    known = SettingsChange(certificates=(made,)).applied(DEFAULTS)
    assert (known.certificates, known.certificate_name) == ((made,), None)
    named = SettingsChange(certificate_ca=(made,), certificate_dns="A.example").applied(known)
    assert named.certificate_name == ("certificate_dns", "a.example")
    assert ClientSettings.of({**DEFAULTS.document(), **named.document()}) == named
    other = SettingsChange.of({"certificate_dns": "", "certificate_uri": "spiffe://a/b"}).applied(named)
    assert other.certificate_name == ("certificate_uri", "spiffe://a/b")
    for change in (SettingsChange(certificate_ca=()), SettingsChange(certificate_dns=None)):
        with pytest.raises(ConfigError, match="belong together"):
            change.applied(named)


def test_an_algorithm_has_one_name_and_an_empty_address_is_none() -> None:
    """However they were written."""
    assert SettingsChange(signing_alg="EdDSA").given == {"signing_alg": "Ed25519"}
    assert ClientSettings(signing_alg="EdDSA").signing_alg == "Ed25519"
    assert SettingsChange(jwks_uri="").given == {"jwks_uri": None}


def test_names_with_values_change_one_by_one() -> None:
    """An amendment adds, replaces and takes away by name; what comes of it is held to the bounds of all together."""
    one = SettingsChange(claims=Amendment(tenant="acme", region="eu")).applied(DEFAULTS)
    two = SettingsChange(claims=Amendment(tenant="other", region="", plan="gold")).applied(one)
    assert (dict(one.claims), dict(two.claims)) == (
        {"tenant": "acme", "region": "eu"},
        {"tenant": "other", "plan": "gold"},
    )
    assert SettingsChange(claims={"a": "b"}).applied(two).claims == {"a": "b"}
    assert SettingsChange(labels=Amendment(env="")).applied(FULL).labels == {}
    assert ClientSettings(claims={"tenant": "x" * 1011}).claims.keys() == {"tenant"}
    with pytest.raises(ConfigError, match="1024 bytes of JSON together"):
        SettingsChange(claims=Amendment(a="x" * 600)).applied(ClientSettings(claims={"b": "x" * 600}))
    with pytest.raises(ConfigError, match="written by groat itself"):
        SettingsChange(claims=Amendment(jti=""))
    with pytest.raises(TypeError):
        one.claims["tenant"] = "other"  # type: ignore[index]


def test_an_owner_may_be_nobody() -> None:
    """An empty text takes the owner away."""
    assert SettingsChange(owner="").given == {"owner": None}
    assert ClientSettings(owner="Zoë, 会計").owner == "Zoë, 会計"


def test_limits_of_a_key_change_one_by_one() -> None:
    """None takes a limit away, UNSET leaves it, and what no key can be is refused as ever."""
    limits = KeyLimits(100, 200)
    assert LimitsChange().applied(limits) == limits
    assert LimitsChange(expires_at=300).applied(limits) == KeyLimits(100, 300)
    assert LimitsChange(not_before=None).applied(limits) == KeyLimits(None, 200)
    with pytest.raises(ConfigError, match="after its not-before"):
        LimitsChange(not_before=200).applied(limits)
