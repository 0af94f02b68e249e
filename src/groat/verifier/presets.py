"""Other servers as issuers to trust: how each writes its name, signs, and spells its tokens (see `dialects`).

    verifier = Verifier(issuer=keycloak("https://sso.example.com", "acme"), audience="https://orders.example.com")

They stand beside other issuers as well: `issuers=[keycloak(...), "https://auth.example.com"]`.
"""

from typing import Final

from groat.protocol.errors import ConfigError
from groat.verifier import dialects
from groat.verifier.trust import TrustedIssuer

# At these addresses of Entra the metadata names no one issuer, so nothing could be compared with iss.
_SHARED: Final = ("common", "organizations", "consumers")


def keycloak(url: str, realm_name: str) -> TrustedIssuer:
    """A Keycloak realm, for example ("https://sso.example.com", "acme"); see `dialects.KEYCLOAK`."""
    return TrustedIssuer(f"{url.rstrip('/')}/realms/{realm_name}", dialect=dialects.KEYCLOAK)


def auth0(domain: str) -> TrustedIssuer:
    """An Auth0 tenant by its domain, for example "acme.eu.auth0.com"; see `dialects.AUTH0`."""
    return TrustedIssuer(f"https://{domain}/", dialect=dialects.AUTH0, algorithms=("RS256", "PS256"))


def entra(tenant_id: str) -> TrustedIssuer:
    """One Microsoft Entra tenant, v2.0 tokens; the audience is the API's application id; see `dialects.ENTRA`.

    Raises ConfigError for `common` and its kin, whose metadata names no one issuer.
    """
    if tenant_id in _SHARED:
        raise ConfigError("Entra needs the id of one tenant; a shared endpoint has no one issuer")
    name = f"https://login.microsoftonline.com/{tenant_id}/v2.0"
    return TrustedIssuer(name, dialect=dialects.ENTRA, algorithms=("RS256",))


def cognito(region: str, user_pool_id: str, *, by_client: bool = False) -> TrustedIssuer:
    """An Amazon Cognito user pool; see `dialects.COGNITO`.

    `by_client`: its tokens carry no aud, so that the audience of the verifier is the one client to accept; then always
    require scopes (`dialects.COGNITO_BY_CLIENT`).
    """
    dialect = dialects.COGNITO_BY_CLIENT if by_client else dialects.COGNITO
    name = f"https://cognito-idp.{region}.amazonaws.com/{user_pool_id}"
    return TrustedIssuer(name, dialect=dialect, algorithms=("RS256",))


__all__ = ["auth0", "cognito", "entra", "keycloak"]
