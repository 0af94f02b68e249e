"""What an authenticated client gets: the table of grants, one module and one row each (RFC 6749 4)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from groat.protocol.binding import UNBOUND, Binding, Confirmation
from groat.protocol.client_certificate import NOT_HERE, NOTHING, Presented
from groat.protocol.errors import InvalidDpopProof, InvalidRequest, OAuthError, UnauthorizedClient
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
    request: TokenRequest,
    client: AuthenticatedClient,
    policy: Policy,
    confirmation: Confirmation = UNBOUND,
    presented: Presented = NOTHING,
) -> Grant:
    """`binding` to `api_binding` of order.py: must it be bound, may this client use the grant, for what.

    `request.grant_type` is one of GRANTS; `confirmation`: what was proven in the request; `presented`: the certificate
    that came with it, to which a token is bound where somebody demands that. Raises InvalidDpopProof, InvalidRequest,
    UnauthorizedClient, and whatever the grant's rule raises.
    """
    settings = client.client.settings
    demanded = policy.binding is not _NOTHING or settings.binding is not _NOTHING
    if demanded:
        _check_bound(Held(confirmation, presented), client.client, policy)
    workload = client.workload
    if request.grant_type not in settings.grant_types:
        if workload is None or request.grant_type != jwt_bearer.NAME:  # to which the trust has let it in
            raise UnauthorizedClient("grant_type", f"{client.client.client_id} may not use this grant")
    grant = GRANTS[request.grant_type].decide(request, client, policy)
    if demanded or grant.api.binding is not _NOTHING:
        confirmation = _bound_for(grant.api, Held(confirmation, presented), client.client, policy)
    copied = () if workload is None else workload.copied
    if confirmation is UNBOUND and not copied:
        return grant
    # Not remembered: a new key or a run's id with each request would push out what is remembered for others.
    return grant.held(confirmation, copied)


@dataclass(frozen=True, slots=True)
class Held:
    """What the caller holds: the key of a proof, a certificate, both or nothing."""

    proven: Confirmation
    presented: Presented

    def meeting(self, *demands: Binding) -> Confirmation | None:
        """What meets all of them; the proof rather than the certificate, since it was made for this request alone."""
        certificate = self.presented.certificate
        for one in (self.proven, UNBOUND if certificate is None else certificate.confirmation):
            if one is not UNBOUND and all(demand.met_by(one) for demand in demands):
                return one
        return None

    def missing(self, demand: Binding, who: str, offer: str, policy: Policy) -> OAuthError:
        """The refusal: who demands it, and what would help besides what is missing."""
        hint = f"{who}: {_MEANS[demand]}{offer}"
        if self.presented.fault:
            hint += f". No certificate came: {self.presented.fault}"
        if demand is not Binding.MTLS:
            return InvalidDpopProof("dpop_missing", hint)
        return InvalidRequest("certificate_missing", hint if policy.certificates else hint + NOT_HERE)


_MEANS: Final = {
    Binding.DPOP: "send a DPoP proof",
    Binding.MTLS: "send it over TLS with a client certificate",
    Binding.ANY: "send a DPoP proof, or a client certificate",
}


def _check_bound(held: Held, client: Client, policy: Policy) -> None:
    """Whether what is held is enough for the client and the profile (RFC 9449 5.2, RFC 8705 3.4, FAPI 2.0 5.3.2.1).

    The client first: it says which way, and a profile that any will do, so a certificate is missed as one (RFC 8705 3).
    """
    demand = client.settings.binding
    if demand is not _NOTHING and held.meeting(demand) is None:
        other = command("client update", client.client_id, options="--binding none")
        offer = f". Or: {other}" if policy.binding is _NOTHING else ""
        raise held.missing(demand, "the client's tokens must be bound", offer, policy)
    if policy.binding is not _NOTHING and held.meeting(policy.binding) is None:
        raise held.missing(policy.binding, f"profile {policy.profile} binds every token", "", policy)


def _bound_for(api: Api, held: Held, client: Client, policy: Policy) -> Confirmation:
    """What the token is bound to; an API would refuse one that is bound to less than it demands (RFC 9728 2)."""
    found = held.meeting(policy.binding, client.settings.binding, api.binding)
    if found is None:
        offer = ". Or: " + command("api update", api.name, options="--binding none")
        raise held.missing(api.binding, f"API {api.name} takes bound tokens", offer, policy)
    return found
