"""How other servers spell their access tokens, and what accepting that gives up.

Every dialect below accepts `typ: JWT`, so that the header alone no longer tells an access token from an ID token
(RFC 9068 5, RFC 8725 3.11). The `fixed` and `required` claims tell them apart instead, as far as the server lets them.
Where the server can be told to follow RFC 9068, do that and use the plain Verifier.

`Caller.is_client` asks the dialect, because the subject of a client that acts for itself is its service account at
Keycloak and Entra and `CLIENT_ID@clients` at Auth0. Each rule rather misses a machine than takes a person for one.
"""

from collections.abc import Mapping
from typing import Any, Final

from groat.protocol.access_token import Dialect

_JWT: Final = "application/jwt"
_AT_JWT: Final = "application/at+jwt"


def _keycloak_service_account(claims: Mapping[str, Any], client_id: str) -> bool:
    """The scope `service_account` adds client_id, `profile` the account's name, which is the client's in lower case."""
    account = f"service-account-{client_id}".lower()
    return bool(claims.get("client_id") == client_id and claims.get("preferred_username") == account)


def _auth0_machine(claims: Mapping[str, Any], client_id: str) -> bool:
    """The subject says so; the grant type, which custom profiles leave out, must not say otherwise."""
    granted = claims.get("gty", "client-credentials")
    return claims.get("sub") == f"{client_id}@clients" and bool(granted == "client-credentials")


def _entra_application(claims: Mapping[str, Any], client_id: str) -> bool:
    """Nothing is delegated, and either the optional claim idtyp says so or the subject is the object itself."""
    if "scp" in claims or claims.get("idtyp", "app") != "app":
        return False
    return "idtyp" in claims or ("oid" in claims and claims["oid"] == claims.get("sub"))


# Gives up: typ, unless the client setting for the RFC 9068 header type is on. Keeps: ID, refresh and DPoP-bound tokens
# are told apart by the claim typ. An audience mapper is needed: without one the tokens name no API.
KEYCLOAK: Final = Dialect(
    types=frozenset({_JWT, _AT_JWT}),
    client_id=("azp", "client_id"),
    fixed=(("typ", "Bearer"),),
    acts_alone=_keycloak_service_account,
)
# Gives up: typ and jti (the default profile has none). ID tokens are refused by their audience only, so an API
# identifier must never equal a client id. Permissions of Auth0's RBAC are not read; scopes are.
AUTH0: Final = Dialect(
    types=frozenset({_JWT, _AT_JWT}),
    client_id=("client_id", "azp"),
    required=("iat", "sub"),
    acts_alone=_auth0_machine,
)
# Gives up: typ and jti (Entra's uti is opaque). Keeps: v2.0 tokens of one tenant only; an ID token has no azp.
# Scopes: scp of a delegated token, else the application roles.
ENTRA: Final = Dialect(
    types=frozenset({_JWT}),
    client_id=("azp",),
    scopes=("scp", "roles"),
    required=("iat", "sub", "azp"),
    scope_array=True,
    fixed=(("ver", "2.0"),),
    acts_alone=_entra_application,
)
# Gives up: typ (there is none). Keeps: token_use tells access tokens from ID tokens.
COGNITO: Final = Dialect(
    types=frozenset({None, _JWT}),
    fixed=(("token_use", "access"),),
)
# Gives up the audience as well: a token names the client only, so any API of the pool accepts the tokens of this
# client, and only the scopes (RESOURCE_SERVER/SCOPE) keep APIs apart.
COGNITO_BY_CLIENT: Final = Dialect(
    types=frozenset({None, _JWT}),
    audience="client_id",
    fixed=(("token_use", "access"),),
)
