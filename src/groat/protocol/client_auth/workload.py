"""The token of another issuer in place of a client's own proof: as client authentication, or as a JWT bearer grant.

No row of the table of methods: who the client is cannot be read from the token, it follows from trusts and rules after
the signature has been proven. The caller finds those (`federation/foreign_token.py`).
"""

from typing import Final

from groat.protocol.binding import Binding
from groat.protocol.client_auth.private_key_jwt import JWT_SPIFFE
from groat.protocol.errors import InvalidClient, JoseError
from groat.protocol.federation.foreign_token import Presented, Proven, read, refusal
from groat.protocol.federation.rules import Match
from groat.protocol.federation.trust import Replay, Use
from groat.protocol.grants import jwt_bearer
from groat.protocol.models import AuthenticatedClient, Client, ClientRequest, Credential, OneTimeKind, Policy, Workload
from groat.protocol.passing import passing
from groat.protocol.shell import command

NAME: Final = "workload"


@passing()
class ForeignCredential(Credential):
    """A well-formed token of another issuer; `client_id` is empty until it is proven whose it is."""

    presented: Presented


def read_foreign(request: ClientRequest) -> ForeignCredential:
    """Whatever the table has no row for. Raises InvalidClient, InvalidGrant."""
    assertion = request.credentials.get("client_assertion")
    use = Use.AUTHENTICATION if assertion else Use.GRANT
    token = assertion or request.parameters.get(jwt_bearer.PARAMETERS[0])
    if not token:
        raise InvalidClient("auth_method", f"presented: {', '.join(request.auth_methods) or 'nothing'}")
    svid = request.credentials.get("client_assertion_type") == JWT_SPIFFE
    try:
        return ForeignCredential(NAME, "", read(token, use, request.client_id, svid=svid))
    except JoseError as error:
        raise refusal(error, use) from None


def authenticated(proven: Proven, met: Match, client: Client | None, policy: Policy) -> AuthenticatedClient:
    """The client that a rule makes of a workload. Raises JoseError("disabled").

    Not checked: whether its token was used before, or is another key's (AS-JB-11).
    """
    if client is None or not client.enabled:
        raise disabled(met)
    workload = Workload(
        trust=proven.trust.name,
        rule=met.rule.rule_id,
        subject=str(proven.claims["sub"]),
        key=proven.key.kid,
        algorithm=proven.presented.jwt.header.algorithm.name,
        copied=tuple(met.workload.items()),
    )
    use, replay = proven.use, proven.trust.replay
    if use is None or use.kind is OneTimeKind.FOREIGN_TOKEN:
        return AuthenticatedClient(client, NAME, once=use, workload=workload)
    if replay is Replay.AUTO and not _wants_bound(client, policy):
        return AuthenticatedClient(client, NAME, workload=workload)
    return AuthenticatedClient(client, NAME, workload=workload, owned=use, must_prove=replay is Replay.BIND)


def _wants_bound(client: Client, policy: Policy) -> bool:
    """Whether some of its access tokens must be bound: then a foreign token that is not would be the way around it."""
    demands = policy.binding, client.settings.binding, *(permission.api.binding for permission in client.permissions)
    return any(demand is not Binding.NONE for demand in demands)


def disabled(met: Match) -> JoseError:
    """What is wrong with a workload whose client gets no token."""
    return JoseError("disabled", command("client enable", met.rule.client_id))


def replayed() -> JoseError:
    """What is wrong with a token that counts once, and was used before."""
    return JoseError(
        "replayed", "this token was used before, and its trust takes each once: ask the platform for another"
    )


def unproven() -> JoseError:
    """What is wrong with a token that must come with a proof of possession, and came without."""
    return JoseError("unproven", "its trust binds each token to the first key that uses it: send a DPoP proof with it")


def anothers() -> JoseError:
    """What is wrong with a token that came with another key than the first that used it."""
    return JoseError("anothers", "another key used this token first: keep one DPoP key for as long as a token lives")
