"""Other servers' tokens: what each preset accepts and still refuses."""

from dataclasses import replace
from typing import Any

import pytest

from groat.protocol.access_token import DEFAULT_ALGORITHMS
from groat.verifier import TrustedIssuer, Verifier, presets
from groat.verifier.dialects import AUTH0, COGNITO, COGNITO_BY_CLIENT, ENTRA, KEYCLOAK
from groat.verifier.trust import OwnWords
from tests.verifier.issuer import Issuer
from tests.verifier.tokens import ABSENT, AUD, claims, refused, signed


def keyed(issuer: Issuer, dialect: Any) -> Verifier:
    return issuer.verifier(dialect=dialect, algorithms=["ES256"])


@pytest.mark.parametrize(
    ("verifier", "issuer_url"),
    [
        (Verifier.keycloak("https://sso.example/", "acme", AUD), "https://sso.example/realms/acme"),
        (Verifier.auth0("acme.eu.auth0.com", AUD), "https://acme.eu.auth0.com/"),
        (Verifier.entra("8f5e", "app-id"), "https://login.microsoftonline.com/8f5e/v2.0"),
        (Verifier.cognito("eu-west-1", "p_1", AUD), "https://cognito-idp.eu-west-1.amazonaws.com/p_1"),
        (Verifier.cognito("eu-west-1", "p_1", client_id="c"), "https://cognito-idp.eu-west-1.amazonaws.com/p_1"),
    ],
)
def test_preset_issuers(verifier: Verifier, issuer_url: str) -> None:
    """Each preset knows how its server writes the issuer."""
    assert verifier.issuers == (issuer_url,)


@pytest.mark.rule("FO-10")
def test_a_preset_beside_other_issuers() -> None:
    """A preset is an issuer like any other; what the keywords of a verifier say goes before what it says itself."""
    both = Verifier(issuers=[presets.auth0("acme.eu.auth0.com"), "https://auth.example.com"], audience=AUD)
    assert both.issuers == ("https://acme.eu.auth0.com/", "https://auth.example.com")
    preset = presets.auth0("acme.eu.auth0.com")
    plain = OwnWords(None, DEFAULT_ALGORITHMS, None)
    assert plain.over(preset) == replace(preset, algorithms=("RS256", "PS256"))
    own = OwnWords("https://keys.example.com", ["ES256"], ["at+jwt"])
    assert own.over(preset) == TrustedIssuer(
        preset.issuer,
        "https://keys.example.com",
        replace(AUTH0, types=frozenset({"application/at+jwt"})),
        ("ES256",),
    )


@pytest.mark.rule("RS-11", "JOSE-23", "R10")
@pytest.mark.parametrize(
    ("dialect", "typ", "changes", "reason"),
    [
        pytest.param(KEYCLOAK, "JWT", {"typ": "Bearer", "azp": "c", "client_id": ABSENT}, None, id="Keycloak"),
        pytest.param(KEYCLOAK, "at+jwt", {"typ": "Bearer", "azp": "c"}, None, id="Keycloak, RFC 9068 header"),
        pytest.param(KEYCLOAK, "JWT", {"typ": "ID", "azp": "c"}, "type", id="Keycloak ID token"),
        pytest.param(KEYCLOAK, "JWT", {"typ": "Refresh", "azp": "c"}, "type", id="Keycloak refresh token"),
        pytest.param(KEYCLOAK, "JWT", {"typ": "DPoP", "azp": "c"}, "type", id="Keycloak DPoP token"),
        pytest.param(KEYCLOAK, "JWT", {"azp": "c"}, "type", id="Keycloak without typ"),
        pytest.param(KEYCLOAK, "logout+jwt", {"typ": "Bearer", "azp": "c"}, "type", id="Keycloak logout token"),
        pytest.param(AUTH0, "JWT", {"azp": "c", "client_id": ABSENT, "jti": ABSENT}, None, id="Auth0"),
        pytest.param(AUTH0, "at+jwt", {"client_id": "c"}, None, id="Auth0, RFC 9068 profile"),
        pytest.param(AUTH0, "JWT", {"client_id": ABSENT}, "claims", id="Auth0 without a client"),
        pytest.param(AUTH0, "JWT", {"azp": "c", "client_id": ABSENT, "aud": "c"}, "audience", id="Auth0 ID token"),
        pytest.param(ENTRA, "JWT", {"azp": "c", "ver": "2.0", "jti": ABSENT}, None, id="Entra"),
        pytest.param(ENTRA, "JWT", {"azp": "c", "ver": "1.0"}, "type", id="Entra v1.0"),
        pytest.param(ENTRA, "JWT", {"ver": "2.0"}, "claims", id="Entra ID token"),
        pytest.param(ENTRA, None, {"azp": "c", "ver": "2.0"}, "type", id="Entra without typ"),
        pytest.param(COGNITO, None, {"token_use": "access", "client_id": "c"}, None, id="Cognito"),
        pytest.param(COGNITO, None, {"token_use": "id", "client_id": "c"}, "type", id="Cognito ID token"),
        pytest.param(COGNITO, None, {"token_use": "access", "aud": ABSENT}, "audience", id="Cognito without aud"),
        pytest.param(
            COGNITO_BY_CLIENT, None, {"token_use": "access", "client_id": "c"}, "audience", id="Cognito, other client"
        ),
    ],
)
def test_dialects(issuer: Issuer, dialect: Any, typ: str | None, changes: dict[str, Any], reason: str | None) -> None:
    """Each dialect accepts its server's access tokens, and none of the other tokens that server signs."""
    payload = claims(issuer.url, **changes)
    token = signed(payload, issuer.key, typ=typ, kid=issuer.key.kid)
    if reason is None:
        assert keyed(issuer, dialect).verify(token).client_id == "c"
        return
    with refused(reason):
        keyed(issuer, dialect).verify(token)


def test_cognito_by_client(issuer: Issuer) -> None:
    """Without aud, the one client that is named is the one that is accepted."""
    verifier = Verifier(TrustedIssuer(issuer.url, dialect=COGNITO_BY_CLIENT), "c")
    payload = claims(issuer.url, client_id="c", aud=ABSENT, token_use="access")
    assert verifier.verify(signed(payload, issuer.key, typ=None, kid=issuer.key.kid)).client_id == "c"


@pytest.mark.rule("RS-22")
@pytest.mark.parametrize(
    ("changes", "scopes"),
    [
        ({"scp": "Orders.Read Orders.Write"}, {"Orders.Read", "Orders.Write"}),
        ({"roles": ["Orders.Read.All"]}, {"Orders.Read.All"}),
        ({"scp": "Orders.Read", "roles": ["Admin"]}, {"Orders.Read"}),
        ({}, set()),
    ],
)
def test_entra_scopes(issuer: Issuer, changes: dict[str, Any], scopes: set[str]) -> None:
    """A delegated token has its scp, an application's token its roles, and `scope` means nothing."""
    payload = claims(issuer.url, azp="c", ver="2.0", scope="ignored", **changes)
    token = signed(payload, issuer.key, typ="JWT", kid=issuer.key.kid)
    assert keyed(issuer, ENTRA).verify(token).scopes == scopes


_KEYCLOAK = {"typ": "Bearer", "azp": "c-App", "sub": "2f1c", "client_id": ABSENT}
_SERVICE = {**_KEYCLOAK, "client_id": "c-App", "preferred_username": "service-account-c-app"}
_AUTH0 = {"azp": "c", "client_id": ABSENT, "jti": ABSENT}
_ENTRA = {"azp": "c", "ver": "2.0", "sub": "2f1c", "oid": "2f1c", "scope": ABSENT, "client_id": ABSENT}


@pytest.mark.rule("RS-23")
@pytest.mark.parametrize("cache_size", [0, 10])
@pytest.mark.parametrize(
    ("dialect", "changes", "is_client"),
    [
        pytest.param(KEYCLOAK, _SERVICE, True, id="Keycloak service account"),
        pytest.param(KEYCLOAK, _KEYCLOAK, False, id="Keycloak user"),
        pytest.param(KEYCLOAK, {**_SERVICE, "preferred_username": "alice"}, False, id="Keycloak user with client_id"),
        pytest.param(KEYCLOAK, {**_SERVICE, "preferred_username": ABSENT}, False, id="Keycloak without a name"),
        pytest.param(KEYCLOAK, {**_SERVICE, "client_id": "x"}, False, id="Keycloak, other client"),
        pytest.param(KEYCLOAK, {**_KEYCLOAK, "sub": "c-App"}, False, id="Keycloak subject like a client"),
        pytest.param(AUTH0, {**_AUTH0, "sub": "c@clients", "gty": "client-credentials"}, True, id="Auth0 machine"),
        pytest.param(AUTH0, {**_AUTH0, "sub": "c@clients"}, True, id="Auth0 machine, RFC 9068 profile"),
        pytest.param(AUTH0, {**_AUTH0, "sub": "auth0|5f"}, False, id="Auth0 user"),
        pytest.param(AUTH0, {**_AUTH0, "sub": "d@clients"}, False, id="Auth0, other client"),
        pytest.param(AUTH0, {**_AUTH0, "sub": "c@clients", "gty": "password"}, False, id="Auth0, other grant"),
        pytest.param(ENTRA, _ENTRA, True, id="Entra application"),
        pytest.param(ENTRA, {**_ENTRA, "sub": "other", "idtyp": "app"}, True, id="Entra application by idtyp"),
        pytest.param(ENTRA, {**_ENTRA, "sub": "other"}, False, id="Entra without a sign"),
        pytest.param(ENTRA, {**_ENTRA, "oid": ABSENT}, False, id="Entra without oid"),
        pytest.param(ENTRA, {**_ENTRA, "scp": "Orders.Read"}, False, id="Entra delegated"),
        pytest.param(ENTRA, {**_ENTRA, "idtyp": "user"}, False, id="Entra user by idtyp"),
        pytest.param(COGNITO, {"token_use": "access", "client_id": "c", "sub": "c"}, True, id="Cognito machine"),
        pytest.param(COGNITO, {"token_use": "access", "client_id": "c", "sub": "5f"}, False, id="Cognito user"),
    ],
)
def test_who_acts_alone(
    issuer: Issuer, dialect: Any, changes: dict[str, Any], is_client: bool, cache_size: int
) -> None:
    """A machine's own token is known by what each server writes, and a person's is never taken for one."""
    typ = None if dialect is COGNITO else "JWT"
    token = signed(claims(issuer.url, **changes), issuer.key, typ=typ, kid=issuer.key.kid)
    verifier = issuer.verifier(dialect=dialect, algorithms=["ES256"], cache_size=cache_size)
    assert [verifier.verify(token).is_client for _ in range(2)] == [is_client] * 2
