"""Which claims a client may be given: judged when they are set, so that no token has to be refused for them."""

from collections.abc import Iterable
from dataclasses import replace

from groat.protocol.access_token import longest_token
from groat.protocol.claim_names import claim_fault
from groat.protocol.errors import ConfigError
from groat.protocol.models import MAX_TOKEN_CHARS, Api, Grant, Policy
from groat.server.store.records import ApiRecord, ClientRecord


def check_claims(policy: Policy, apis: Iterable[ApiRecord], client: ClientRecord, before: ClientRecord | None) -> None:
    """Raises ConfigError for a claim that is new or changed and nobody's to set, or that leaves no room for a token.

    `before`: the client as it is so far; what it has already is not judged anew, since lists of names and the claims
    for all tokens may have grown meanwhile. Not checked: a token with more scopes than the client has by default.
    """
    claims, had = client.settings.claims, before.settings.claims if before else {}
    for name in (name for name, value in claims.items() if had.get(name) != value):
        if fault := claim_fault(name):
            raise ConfigError(f"claim {name} {fault}. Take another name, best a URI of your own")
        if name in policy.extra_claims:
            raise ConfigError(f"claim {name} is in every token already, by tokens.extra_claims")
    if claims and (before is None or replace(before, enabled=client.enabled) != client):
        _check_size(policy, apis, client)


def _check_size(policy: Policy, apis: Iterable[ApiRecord], client: ClientRecord) -> None:
    """What the client gets where it asks for nothing, or for one scope, must fit, or it could get nothing at all."""
    for api in apis:
        allowed = client.allow.get(api.name, ())
        scopes = tuple(one for one in client.settings.default_scopes if one in allowed) or tuple(
            sorted(allowed, key=len)[-1:]
        )
        grant = Grant(client.client_id, Api(api.name, api.audience, frozenset(api.scopes)), scopes,
                      policy.token_lifetime, claims=client.settings.claims)  # fmt: skip
        size = longest_token(grant, policy)
        if allowed and size > MAX_TOKEN_CHARS:
            longest = max(client.settings.claims.items(), key=lambda pair: len(pair[0]) + len(pair[1]))[0]
            raise ConfigError(
                f"claim {longest} is too long: a token of {client.client_id} for {api.name} would have {size} "
                f"characters, and must have {MAX_TOKEN_CHARS} at most"
            )
