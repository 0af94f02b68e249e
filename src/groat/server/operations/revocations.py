"""What an operator may take back: one token, or everything that was issued to a client, for an API, to all.

Each is durable when it returns, and in force at every server's next request. New tokens are not touched.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from groat.protocol import jose
from groat.protocol.client_settings import MAX_TOKEN_LIFETIME
from groat.protocol.errors import ConfigError, JoseError
from groat.protocol.models import MAX_CLOCK_TOLERANCE
from groat.protocol.revocation import Cut, CutKind, RevokedToken, listed_place, next_cut, token_digest
from groat.server.operations.apis import find_api
from groat.server.operations.clients import find_client
from groat.server.operations.operation import reads, writes
from groat.server.operations.operator import Operator
from groat.server.operations.trusts import find_trust
from groat.server.store.revocation_changes import MakeCut, TakeBack


@writes("revocation.token")
async def revoke_token(operator: Operator, token: str) -> RevokedToken:
    """Take one access token back, whole or by its jti. Not checked: its signature, nor whether there was such a one.

    Of a bare jti nobody knows the end, so it is remembered for as long as a token can live.
    """
    jti, client_id, ends = _told(token, operator.now)
    taken = RevokedToken(token_digest(jti), client_id, operator.now, ends, listed_place(jti))
    facts = {"jti": jti, "client": client_id or None, "by": "operator", "until": ends}
    await operator.change(None, [TakeBack(taken)], "token.revoked", facts)
    return taken


def _told(token: str, now: int) -> tuple[str, str, int]:
    """The jti, the client if it is known, and the second from which nobody takes the token anyway."""
    longest = now + MAX_TOKEN_LIFETIME + MAX_CLOCK_TOLERANCE
    if "." not in token:
        if not token or len(token) > jose.MAX_JTI_CHARS:
            raise ConfigError(f"a jti has 1 to {jose.MAX_JTI_CHARS} characters")
        return token, "", longest
    try:
        claims = jose.parse_jwt(token).claims
        jti, client_id = jose.string_claim(claims, "jti", jose.MAX_JTI_CHARS), jose.string_claim(claims, "client_id")
        exp = jose.numeric_date(claims, "exp")
    except JoseError as error:
        raise ConfigError(f"this is no access token of groat: {error.hint}") from None
    return jti, client_id, longest if exp is None else min(longest, math.ceil(exp) + MAX_CLOCK_TOLERANCE)


@writes("revocation.client")
async def revoke_client_tokens(operator: Operator, client_id: str) -> Cut:
    """End every token that a client has. It may ask for new ones: to stop that, disable it. Raises NotRegistered."""
    await find_client(operator, client_id)
    return await _cut(operator, CutKind.CLIENT, [client_id], "client.tokens_revoked", {"client": client_id})


@writes("revocation.api")
async def revoke_api_tokens(operator: Operator, name: str) -> Cut:
    """End every token for an API. Raises NotRegistered."""
    await find_api(operator, name)
    return await _cut(operator, CutKind.API, [name], "api.tokens_revoked", {"api": name})


@writes("revocation.trust")
async def revoke_trust_tokens(operator: Operator, name: str) -> tuple[str, ...]:
    """End every token of the clients that a trust's rules make somebody; those that they got otherwise, too.

    A token does not say by which trust it was got. Returns the client ids. Raises NotRegistered.
    """
    await find_trust(operator, name)
    clients = tuple(sorted({record.rule.client_id for record in await operator.store.rules_of(trust=name)}))
    if clients:
        facts = {"trust": name, "clients": list(clients)}
        await _cut(operator, CutKind.CLIENT, clients, "trust.tokens_revoked", facts)
    return clients


@writes("revocation.all")
async def revoke_all_tokens(operator: Operator) -> Cut:
    """End every token there is."""
    return await _cut(operator, CutKind.ALL, [""], "tokens.all_revoked", {})


@reads("revocation.list")
async def list_revocations(operator: Operator) -> tuple[Cut, ...]:
    """Whose tokens from before which second are over, the latest first. Single tokens are not listed: they are many."""
    return tuple(sorted(await operator.store.cuts(), key=lambda cut: (-cut.made_at, cut.kind, cut.subject)))


async def _cut(
    operator: Operator, kind: CutKind, subjects: Sequence[str], operation: str, facts: Mapping[str, Any]
) -> Cut:
    """Cut off all of these; returns the cut of the first."""
    now, seen = operator.now, await operator.store.cuts()
    # Before the change: it reads every record of an issuance, and whoever issues waits for no such thing.
    ahead = max(0, await operator.store.latest_issuance() - now)
    await operator.change(None, [MakeCut(kind, subject, now, ahead) for subject in subjects], operation, facts)
    made = next((cut for cut in await operator.store.cuts() if (cut.kind, cut.subject) == (kind, subjects[0])), None)
    if made is None or made in seen:  # it was tried alone, and rolled back
        return Cut(kind, subjects[0], next_cut(now, ahead, 0), now)
    return made
