"""Trusts as an operator writes them, and the keys of their issuers."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from groat.protocol.errors import ConfigError, JoseError
from groat.protocol.federation.keys import read_keys
from groat.protocol.federation.presets import PRESETS, check_trust, preset_of
from groat.protocol.federation.spiffe import sequence_of
from groat.protocol.federation.trust import KeySource, Replay, SourceKind, Trust
from groat.protocol.models import OneTimeKind
from tests.protocol.builders import KEYS, NOW, jose_refused

from .platforms import GENERIC, PLATFORMS, SOURCE, TENANT, show


def trust(**changes: Any) -> Trust:
    return replace(GENERIC.trust, **changes)


@pytest.mark.rule("AS-JB-06")
@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "-x"},
        {"issuer": "ci.example.com"},
        {"issuer": "http://ci.example.com"},
        {"issuer": "http://localhost"},
        {"issuer": "https://ci.example.com?x"},
        {"issuer": "https://u@ci.example.com"},
        {"issuer": "kubernetes/serviceaccount"},
        {"issuer": "spiffe://Prod.example"},
        {"issuer": "spiffe://prod.example/x"},
        {"issuer": f"https://{'x' * 600}"},
        {"algorithms": ()},
        {"algorithms": ("HS256",)},
        {"algorithms": ("none",)},
        {"max_lifetime": 9},
        {"max_lifetime": 86401},
        {"audiences": ("",)},
        {"audiences": tuple("abcdefghijk")},
        {"uses": frozenset()},
    ],
)
def test_trusts_that_cannot_be_meant(changes: dict[str, Any]) -> None:
    """Each is refused when it is written."""
    with pytest.raises(ConfigError):
        trust(**changes)


@pytest.mark.rule("AS-JB-07")
@pytest.mark.parametrize(
    "make",
    [
        lambda: KeySource(SourceKind.FILE, "relative.json"),
        lambda: KeySource(SourceKind.FILE, ""),
        lambda: KeySource(SourceKind.URI, "http://ci.example.com/keys"),
        lambda: KeySource(SourceKind.URI, "file:///etc/passwd"),
        lambda: KeySource(SourceKind.URI, "https://2130706433/keys"),
        lambda: KeySource(SourceKind.URI, "https://ci.example.com/keys", ca_file="ca.pem"),
        lambda: KeySource(SourceKind.DISCOVERY, ca_file="/etc/ca.pem"),
        lambda: KeySource(SourceKind.COPIED, "{}", token_file="/run/token"),
    ],
)
def test_sources_that_cannot_be_meant(make: Callable[[], KeySource]) -> None:
    """Absolute paths, https, and a CA or a token where something is fetched."""
    with pytest.raises(ConfigError):
        make()


@pytest.mark.rule("AS-WI-11", "AS-WI-10", "AS-WI-09", "AS-WI-05")
@pytest.mark.parametrize(
    ("preset", "issuer"),
    [
        ("entra", "https://login.microsoftonline.com/common/v2.0"),
        ("entra", "https://login.microsoftonline.com/organizations/v2.0"),
        ("entra", "https://login.microsoftonline.com/example.onmicrosoft.com/v2.0"),
        ("google", "https://accounts.google.com/"),
        ("google", "https://ci.example.com"),
        ("aws", "https://sts.amazonaws.com"),
        ("github", "https://github.com/octo-org"),
        ("spiffe", "https://prod.example"),
        ("", "spiffe://prod.example"),
    ],
)
def test_issuers_that_a_platform_does_not_have(preset: str, issuer: str) -> None:
    """Each preset knows how its issuers are written."""
    with pytest.raises(ConfigError):
        check_trust(trust(preset=preset, issuer=issuer))


@pytest.mark.rule("AS-WI-11", "AS-WI-05")
@pytest.mark.parametrize(
    ("preset", "issuer"),
    [
        ("entra", f"https://sts.windows.net/{TENANT}/"),
        ("github", "https://token.actions.githubusercontent.com/octo-enterprise"),
        ("github", "https://ghes.example.com/_services/token"),
        ("kubernetes", "https://oidc.eks.eu-central-1.amazonaws.com/id/ABC"),
    ],
)
def test_issuers_that_a_platform_has_too(preset: str, issuer: str) -> None:
    """The v1 issuer of a tenant, that of an enterprise, a managed cluster's."""
    check_trust(trust(preset=preset, issuer=issuer))


def test_what_a_trust_domain_cannot_have() -> None:
    """EdDSA is no algorithm of a JWT-SVID, and SVIDs are presented again; a preset is one of those that are."""
    svid = PLATFORMS["spiffe"].trust
    for changes in ({"algorithms": ("Ed25519",)}, {"replay": Replay.ONCE}, {"preset": "jenkins"}):
        with pytest.raises(ConfigError):
            check_trust(replace(svid, **changes))  # type: ignore[arg-type]
    assert {preset_of(trust(preset=name)).name for name in PRESETS} == set(PRESETS)


def test_a_document_does_not_repeat_a_copied_set() -> None:
    """It says that there is one."""
    assert trust().document()["keys"] == "copied"
    source = KeySource(SourceKind.URI, "https://k.example/keys", "/etc/ca.pem", "/run/token")
    assert trust(source=source).document()["keys"] == "https://k.example/keys"
    assert trust(source=KeySource(SourceKind.DISCOVERY)).document()["keys"] == "discovery"
    assert SOURCE.at not in str(trust().document())


@pytest.mark.rule("AS-JB-05", "AS-JB-11")
def test_replay_as_the_trust_says() -> None:
    """Once: by (issuer, jti), until it ends; otherwise nothing is to be remembered."""
    once = show(GENERIC, GENERIC.token()).use
    assert once is not None
    assert (once.kind, once.owner, once.value) == (OneTimeKind.FOREIGN_TOKEN, GENERIC.trust.issuer, "j-1")
    assert (once.expires_at, once.signed_at) == (NOW + 900, NOW - 10)
    other = replace(GENERIC, trust=trust(name="other"))
    assert show(other, other.token()).use == once, "two trusts of one issuer are one memory"
    free = replace(GENERIC, trust=trust(replay=Replay.REUSE))
    assert show(free, free.token()).use is None


@pytest.mark.rule("AS-JB-11")
@pytest.mark.parametrize("replay", [Replay.BIND, Replay.AUTO])
def test_what_a_key_owns_is_what_was_signed(replay: Replay) -> None:
    """Not the text of the token: of one ES256 signature everybody can make a second, which would be another text."""
    bound = replace(GENERIC, trust=trust(replay=replay))
    token = bound.token()
    owned = show(bound, token).use
    assert owned is not None
    assert (owned.kind, owned.owner) == (OneTimeKind.OWNED_TOKEN, GENERIC.trust.issuer)
    assert owned.value == hashlib.sha256(token.rpartition(".")[0].encode()).hexdigest()
    assert (owned.expires_at, owned.signed_at) == (NOW + 900, NOW - 10)
    assert show(bound, bound.token(jti="j-2")).use != owned


@pytest.mark.rule("AS-WI-12", "AS-SP-03")
def test_the_keys_of_a_bundle() -> None:
    """Those for JWT-SVIDs alone: not those of certificates, not those that say sig, not what is not known yet."""
    ec, rsa = dict(KEYS["ES256"].public.jwk), dict(KEYS["RS256"].public.jwk)
    bundle = {
        "keys": [
            {**ec, "use": "jwt-svid"},
            {**rsa, "use": "x509-svid", "x5c": ["MIIB"]},
            {**dict(KEYS["ES384"].public.jwk), "use": "sig"},
            {"kty": "new", "use": "wit-svid"},
            7,
        ],
        "spiffe_sequence": 12,
        "spiffe_refresh_hint": 300,
    }
    assert [key.kid for key in read_keys(bundle, PRESETS["spiffe"]).keys] == [KEYS["ES256"].kid]
    assert [key.kid for key in read_keys(bundle, PRESETS["kubernetes"]).keys] == [KEYS["ES384"].kid]
    assert sequence_of(bundle) == 12
    assert [sequence_of({"spiffe_sequence": odd}) for odd in (True, "1", -1, None)] == [None] * 4


def test_a_set_that_shows_private_members_is_no_set() -> None:
    """Whoever publishes those has lost the whole set, in a bundle too."""
    private = {**KEYS["ES256"].private_jwk(), "use": "jwt-svid"}
    for preset in (PRESETS["spiffe"], PRESETS["kubernetes"]):
        with jose_refused("key"):
            read_keys({"keys": [private]}, preset)
        with pytest.raises(JoseError):
            read_keys({}, preset)
