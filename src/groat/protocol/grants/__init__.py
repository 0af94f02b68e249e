"""What an authenticated client gets: the table of grants, one module and one row each (RFC 6749 4)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from groat.protocol.errors import UnauthorizedClient
from groat.protocol.grants import client_credentials
from groat.protocol.models import AuthenticatedClient, Grant, Policy, TokenRequest


@dataclass(frozen=True, slots=True)
class GrantType:
    """A way to ask for a token, by the value of grant_type.

    `parameters`: of the form, each once at most, beside those that every request may have. `decide`: for which API,
    with which scopes; raises OAuthError. What it may remember is its own business: only it knows what its answer
    depends on.
    """

    name: str
    parameters: tuple[str, ...]
    decide: Callable[[TokenRequest, AuthenticatedClient, Policy], Grant]


_ROWS: Final = (GrantType(client_credentials.NAME, client_credentials.PARAMETERS, client_credentials.decide),)
GRANTS: Final[Mapping[str, GrantType]] = MappingProxyType({row.name: row for row in _ROWS})


def decide_grant(request: TokenRequest, client: AuthenticatedClient, policy: Policy) -> Grant:
    """`grant_allowed` to `scope` of order.py: may this client use the grant, for which API, with which scopes.

    `request.grant_type` is one of GRANTS. Raises UnauthorizedClient, and whatever the grant's rule raises.
    """
    if request.grant_type not in client.client.settings.grant_types:
        raise UnauthorizedClient("grant_type", f"{client.client.client_id} may not use this grant")
    return GRANTS[request.grant_type].decide(request, client, policy)
