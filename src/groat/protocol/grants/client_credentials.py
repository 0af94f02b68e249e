"""client_credentials: what a client may have for itself (RFC 6749 4.4, RFC 8707)."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from groat.protocol.client_settings import ScopePolicy
from groat.protocol.differences import difference, shown
from groat.protocol.errors import InvalidScope, InvalidTarget
from groat.protocol.models import AuthenticatedClient, Client, Grant, Permission, Policy, TokenRequest
from groat.protocol.scope import parse_scope
from groat.protocol.shell import command
from groat.protocol.uris import is_absolute

NAME: Final = "client_credentials"
PARAMETERS: Final = ("scope",)
MAX_SHOWN_TARGETS: Final = 5
MAX_SHOWN_SCOPE: Final = 200


def decide(request: TokenRequest, client: AuthenticatedClient, policy: Policy) -> Grant:
    """For which API, with which scopes. Raises InvalidTarget, InvalidScope."""
    return _decide(request.parameters.get("scope"), request.targets, client.client, policy)


# The same client asks for the same again and again. A changed client is another object, so nothing outlives a change.
@lru_cache(maxsize=2048)
def _decide(scope: str | None, targets: tuple[str, ...], client: Client, policy: Policy) -> Grant:
    named = _named_permission(targets, client)
    wanted = parse_scope(scope) if scope is not None else client.settings.default_scopes
    permission = named or _implied_permission(wanted, client)
    scopes = _granted(wanted, permission, client, explicit=scope is not None)
    dropped = () if scope is None else (one for one in wanted if one not in scopes)
    return Grant(
        client.client_id,
        permission.api,
        scopes,
        _lifetime(client, permission, policy),
        claims=client.settings.claims,
        narrowed=" ".join(dropped)[:MAX_SHOWN_SCOPE],
        not_before=max(client.not_before, permission.api.not_before),
    )


def _lifetime(client: Client, permission: Permission, policy: Policy) -> int:
    """The shortest of what the client, the API and the policy allow, in seconds."""
    spans = (policy.token_lifetime, client.settings.token_lifetime, permission.api.token_lifetime)
    return min(span for span in spans if span is not None)


def _named_permission(targets: Sequence[str], client: Client) -> Permission | None:
    """The API that `resource` names (RFC 8707 2); one token, one audience, so at most one of them."""
    if not targets:
        return None
    if len(targets) > 1:
        raise InvalidTarget("resource", "ask for one resource per token")
    for permission in client.permissions:
        if permission.api.audience == targets[0]:
            return permission
    if not is_absolute(targets[0]):
        raise InvalidTarget("resource", f"resource must be an absolute URI without fragment, not {shown(targets[0])}")
    raise InvalidTarget("resource", f"{shown(targets[0])} {_unknown_target(targets[0], client)}")


def _unknown_target(target: str, client: Client) -> str:
    """What the client may name instead; the command only where no known name comes close."""
    known = [permission.api.audience for permission in client.permissions]
    close = next((audience for audience in known if difference(target, audience)), None)
    if close is not None:
        return f'is not granted, but "{close}" is{difference(target, close)}'
    may = ", ".join(f'"{audience}"' for audience in known[:MAX_SHOWN_TARGETS]) or "none"
    return f"is unknown or not granted; granted: {may}. groat api list shows all; to grant one: {_more_for(client)}"


def _implied_permission(wanted: Sequence[str], client: Client) -> Permission:
    """Without `resource`: the client's only API, or the only one that knows all the wanted scopes."""
    if len(client.permissions) == 1:
        return client.permissions[0]
    fitting = [p for p in client.permissions if wanted and _serves(p, wanted, client)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting and (wanted or not client.permissions):
        raise _not_granted(wanted, client)
    raise InvalidTarget("resource", "several APIs fit; name one with resource")


def _serves(permission: Permission, wanted: Sequence[str], client: Client) -> bool:
    """Whether the API could be meant: it knows all that is wanted, or some of it where the rest may be dropped."""
    if client.settings.scope_policy is ScopePolicy.NARROW:
        return not permission.scopes.isdisjoint(wanted)
    return permission.scopes.issuperset(wanted)


def _granted(wanted: Sequence[str], permission: Permission, client: Client, *, explicit: bool) -> tuple[str, ...]:
    """What was asked, whole, or as its policy has it the part that it may have (RFC 6749 3.3).

    Defaults narrow to the API they fit.
    """
    if not explicit:
        wanted = [scope for scope in wanted if scope in permission.scopes]
        if not wanted:
            raise InvalidScope(
                "scope",
                f"none asked; {client.client_id} has no default for {permission.api.name}. Ask for one, or: "
                + command("client update", client.client_id, options="--default-scope SCOPE"),
            )
    elif client.settings.scope_policy is ScopePolicy.NARROW:
        # Unknown ones go, too: a client that asks for all of scopes_supported asks for those of other APIs.
        wanted = [scope for scope in wanted if scope in permission.scopes] or wanted
    if not permission.scopes.issuperset(wanted):
        raise _not_granted(wanted, client)
    return tuple(wanted)


def _not_granted(wanted: Sequence[str], client: Client) -> InvalidScope:
    may = "; ".join(f"{p.api.name}: {' '.join(sorted(p.scopes))}" for p in client.permissions)
    asked = " ".join(wanted)[:MAX_SHOWN_SCOPE]
    return InvalidScope("scope", f"{client.client_id} may ask {may or 'nothing'}; asked {asked}. {_more_for(client)}")


def _more_for(client: Client) -> str:
    offer = command("client update", client.client_id, options="--allow API=SCOPE,SCOPE")
    return f"{offer} with all that it shall have there"
