"""What an authenticated client gets: the table of grants, one module and one row each (RFC 6749 4)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from groat.protocol.binding import UNBOUND, Binding, Confirmation
from groat.protocol.errors import InvalidDpopProof, UnauthorizedClient
from groat.protocol.grants import client_credentials, jwt_bearer
from groat.protocol.models import Api, AuthenticatedClient, Client, Grant, Policy, TokenRequest
from groat.protocol.shell import command


@dataclass(frozen=True, slots=True)
class GrantType:
    """A way to ask for a token, by the value of grant_type.

    `parameters`: of the form, each once at most, beside those that every request may have. `decide`: for which API,
    with which scopes; raises OAuthError. What it may remember is its own business: only it knows what its answer
    depends on. `proves`: its first parameter says who asks, so that it must be there, and nothing else that does.
    """

    name: str
    parameters: tuple[str, ...]
    decide: Callable[[TokenRequest, AuthenticatedClient, Policy], Grant]
    proves: bool = False


_NOTHING: Final = Binding.NONE  # looked up once: asking an enumeration takes a call
_ROWS: Final = (
    GrantType(client_credentials.NAME, client_credentials.PARAMETERS, client_credentials.decide),
    GrantType(jwt_bearer.NAME, jwt_bearer.PARAMETERS, jwt_bearer.decide, proves=True),
)
GRANTS: Final[Mapping[str, GrantType]] = MappingProxyType({row.name: row for row in _ROWS})


def decide_grant(
    request: TokenRequest, client: AuthenticatedClient, policy: Policy, confirmation: Confirmation = UNBOUND
) -> Grant:
    """`binding` to `api_binding` of order.py: must it be bound, may this client use the grant, for what.

    `request.grant_type` is one of GRANTS; `confirmation`: what was proven in the request. Raises InvalidDpopProof,
    UnauthorizedClient, and whatever the grant's rule raises.
    """
    settings = client.client.settings
    if policy.binding is not _NOTHING or settings.binding is not _NOTHING:
        _check_bound(confirmation, client.client, policy)
    workload = client.workload
    if request.grant_type not in settings.grant_types:
        if workload is None or request.grant_type != jwt_bearer.NAME:  # to which the trust has let it in
            raise UnauthorizedClient("grant_type", f"{client.client.client_id} may not use this grant")
    grant = GRANTS[request.grant_type].decide(request, client, policy)
    if grant.api.binding is not _NOTHING:
        _check_bound_for(grant.api, confirmation)
    copied = () if workload is None else workload.copied
    if confirmation is UNBOUND and not copied:
        return grant
    # Not remembered: a new key or a run's id with each request would push out what is remembered for others.
    return replace(grant, confirmation=confirmation, workload=copied, plain=grant)


def _check_bound_for(api: Api, confirmation: Confirmation) -> None:
    """Whether what was proven is enough for the API; it would refuse a token that is bound to less (RFC 9728 2)."""
    if not api.binding.met_by(confirmation):
        offer = command("api update", api.name, options="--binding none")
        raise InvalidDpopProof("dpop_missing", f"API {api.name} takes bound tokens: send a DPoP proof. Or: {offer}")


def _check_bound(confirmation: Confirmation, client: Client, policy: Policy) -> None:
    """Whether what was proven is enough for those who demand it (RFC 9449 5.2, FAPI 2.0 5.3.2.1)."""
    if not policy.binding.met_by(confirmation):
        raise InvalidDpopProof("dpop_missing", f"profile {policy.profile} binds every token: send a DPoP proof")
    if not client.settings.binding.met_by(confirmation):
        offer = command("client update", client.client_id, options="--binding none")
        raise InvalidDpopProof("dpop_missing", f"the client's tokens must be bound: send a DPoP proof. Or: {offer}")
