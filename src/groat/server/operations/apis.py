"""What an operator may do with APIs; `operations` lists these with the rest."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from groat.protocol.binding import Binding
from groat.protocol.client_settings import token_lifetime as checked_lifetime
from groat.protocol.errors import ConfigError
from groat.protocol.grammar import SCOPE_TOKEN
from groat.protocol.listing import Listing
from groat.protocol.models import API_NAME, Policy
from groat.protocol.resource_metadata import ProofsTaken, resource_metadata, resource_metadata_url
from groat.protocol.unset import UNSET, Unset
from groat.protocol.uris import audience_fault
from groat.server.operations.losses import Loss, losses_of_api, refuse_others, without_api, without_scopes
from groat.server.operations.operation import reads, writes
from groat.server.operations.operator import NotRegistered, Operator, again_if_moved
from groat.server.store.changes import AddApi, RemoveApi, ReplaceApi, ReplaceClient
from groat.server.store.records import ApiRecord, ClientRecord

ISSUERS_OWN: Final = "groat"  # the API that this server itself is, for tokens with the scope groat:introspect


@dataclass(frozen=True, slots=True)
class ApiTerms:
    """What its tokens are like. `token_lifetime`: seconds at most; the shortest span counts. `status`: are they listed?

    `binding`: what all of them must be bound to.
    """

    token_lifetime: int | None = None
    binding: Binding = Binding.NONE
    status: Listing = Listing.NONE


@writes("api.add")
async def add_api(
    operator: Operator,
    name: str,
    audience: str,
    scopes: Sequence[str],
    terms: ApiTerms = ApiTerms(),
) -> ApiRecord:
    """Register a protected resource: its audience is what `resource` asks for and `aud` says (RFC 8707 2)."""
    check(API_NAME.fullmatch(name), f"API name {name!r} must be 1 to 64 of A-Z a-z 0-9 . _ -")
    api = ApiRecord(
        name,
        _audience(operator.policy, audience, name),
        checked_scopes(scopes),
        operator.now,
        checked_lifetime(terms.token_lifetime),
        Binding(terms.binding),
        Listing(terms.status),
    )
    facts = {"api": name, "aud": audience, "scope": " ".join(api.scopes)}
    await operator.change(None, [AddApi(api)], "api.added", facts)
    return api


@reads("api.list")
async def list_apis(operator: Operator) -> tuple[ApiRecord, ...]:
    """All APIs by name."""
    return await operator.store.list_apis()


@reads("api.show")
async def find_api(operator: Operator, name: str) -> ApiRecord:
    """One API. Raises NotRegistered."""
    for api in await operator.store.list_apis():
        if api.name == name:
            return api
    raise NotRegistered(f"no API {name}. See: groat api list")


@reads("api.describe")
async def describe_api(operator: Operator, name: str) -> tuple[str, dict[str, Any]]:
    """Where an API's metadata are read (RFC 9728 3.1), and what they say by the registry: all of its scopes.

    Raises NotRegistered, ConfigError where its audience is no https URL. Not known here: which of its scopes the API
    asks for, and what it calls itself.
    """
    api = await find_api(operator, name)
    url = resource_metadata_url(api.audience)
    if url is None:
        raise ConfigError(f"API {name} has no such document: {api.audience} is no https URL (RFC 9728 1.2)")
    proofs = ProofsTaken(required=api.binding is Binding.DPOP)
    return url, resource_metadata(api.audience, [operator.policy.issuer], api.scopes, proofs=proofs)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiWish:
    """What is to become of an API; what is not named stays. `token_lifetime`: None takes it away."""

    audience: str | None = None
    add_scopes: Sequence[str] = ()
    remove_scopes: Sequence[str] = ()
    token_lifetime: int | Unset | None = UNSET
    binding: Binding | Unset = UNSET
    status: Listing | Unset = UNSET


@dataclass(frozen=True, slots=True)
class ApiChange:
    """What becomes of an API (None: it goes), and of the clients that have a grant of it."""

    seen: int
    before: ApiRecord
    after: ApiRecord | None
    clients: Sequence[ClientRecord]
    losses: tuple[Loss, ...]

    @property
    def changes(self) -> bool:
        """Whether anything is different afterwards."""
        return self.before != self.after


async def plan_api_update(operator: Operator, name: str, wish: ApiWish) -> ApiChange:
    """What `update_api` would do, and whom it would hit; changes nothing."""
    seen = await operator.store.registry_version()
    api = await find_api(operator, name)
    unknown = sorted(set(wish.remove_scopes) - set(api.scopes))
    check(not unknown, f"API {name} has no scope {', '.join(unknown)}; it has: {' '.join(api.scopes)}")
    kept = [scope for scope in api.scopes if scope not in wish.remove_scopes]
    lifetime = api.token_lifetime if wish.token_lifetime is UNSET else checked_lifetime(wish.token_lifetime)
    changed = replace(
        api,
        audience=_audience(operator.policy, wish.audience, name) if wish.audience else api.audience,
        scopes=checked_scopes([*kept, *wish.add_scopes]),
        token_lifetime=lifetime,
        binding=api.binding if wish.binding is UNSET else Binding(wish.binding),
        status=api.status if wish.status is UNSET else Listing(wish.status),
    )
    clients = await operator.store.list_clients()
    affected = without_scopes(clients, api, set(api.scopes) - set(changed.scopes))
    losses = losses_of_api(api, changed, clients, affected, operator.policy.binding)
    return ApiChange(seen, api, changed, affected, losses)


@writes("api.update", plan=plan_api_update)
@again_if_moved
async def update_api(
    operator: Operator, name: str, wish: ApiWish, *, agreed: Sequence[Loss] | None = None
) -> ApiRecord:
    """Change an API; a scope that it loses is gone from every client's next token.

    `agreed`: the losses that the operator was shown. Raises ConfigError when others would come about.
    """
    plan = await plan_api_update(operator, name, wish)
    refuse_others(agreed, plan.losses)
    changed = plan.after or plan.before
    facts = {"api": name, "scope": " ".join(changed.scopes), **_hit(plan.losses)}
    await operator.change(plan.seen, [ReplaceApi(changed), *map(ReplaceClient, plan.clients)], "api.updated", facts)
    return changed


async def plan_api_removal(operator: Operator, name: str) -> ApiChange:
    """Whom `remove_api` would hit; changes nothing."""
    seen = await operator.store.registry_version()
    api = await find_api(operator, name)
    clients = await operator.store.list_clients()
    affected = without_api(clients, api)
    return ApiChange(seen, api, None, affected, losses_of_api(api, None, clients, affected))


@writes("api.remove", plan=plan_api_removal)
@again_if_moved
async def remove_api(operator: Operator, name: str, *, agreed: Sequence[Loss] | None = None) -> None:
    """Remove an API; nobody gets a token for it any more. `agreed`: as in `update_api`."""
    plan = await plan_api_removal(operator, name)
    refuse_others(agreed, plan.losses)
    facts = {"api": name, **_hit(plan.losses)}
    await operator.change(plan.seen, [RemoveApi(name), *map(ReplaceClient, plan.clients)], "api.removed", facts)


def _hit(losses: Sequence[Loss]) -> dict[str, Any]:
    """For the log: who loses something."""
    return {"clients": [loss.client_id for loss in losses]} if losses else {}


def check(condition: object, message: str) -> None:
    """Raises ConfigError unless it holds."""
    if not condition:
        raise ConfigError(message)


def _audience(policy: Policy, audience: str, name: str) -> str:
    if name == ISSUERS_OWN and audience == policy.issuer:
        return audience  # at+jwt, which no assertion is: who asks this server about tokens shows such a one
    if fault := audience_fault(audience):
        raise ConfigError(fault)
    issuer = policy.issuer.rstrip("/")
    # A token whose audience is this server could pass for an assertion somewhere.
    check(
        audience.rstrip("/") not in (issuer, policy.token_endpoint),
        "audience must name the API, not this authorization server",
    )
    return audience


def checked_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    """Each scope once. Raises ConfigError for one that cannot be a scope (RFC 6749 3.3)."""
    for scope in scopes:
        check(
            SCOPE_TOKEN.fullmatch(scope) and len(scope) <= 128,
            f"scope {scope!r} must be 1 to 128 printable ASCII characters without space, quote or backslash",
        )
    return tuple(dict.fromkeys(scopes))
