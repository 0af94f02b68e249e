"""`POST /revoke`: a client takes one of its tokens back (RFC 7009), durably before it hears so."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from starlette.types import Receive, Scope, Send

from groat.protocol import jose
from groat.protocol.errors import InvalidRequest, InvalidToken, JoseError, UnauthorizedClient, UnsupportedTokenType
from groat.protocol.introspection import SIGNED_TYP
from groat.protocol.revocation import RevokedToken, listed_place, token_digest
from groat.server.endpoints.asking import Asking
from groat.server.endpoints.parts import Parts
from groat.server.endpoints.standing import Asked, Standing
from groat.server.http.answers import send_json
from groat.server.http.exchange import Exchange, exchange_of
from groat.server.log.audit import Audit

COUNTER: Final = "groat_revocations"
PARAMETERS: Final = ("token", "token_type_hint")  # the hint changes nothing: there is one kind (RFC 7009 2.1)


@dataclass(frozen=True, slots=True)
class RevocationEndpoint:
    """Refusals are raised, `Entrance` writes them. 200 for whatever is no token any more (RFC 7009 2.2)."""

    asking: Asking
    audit: Audit
    clock: Callable[[], float] = time.time

    @classmethod
    def of(cls, parts: Parts) -> Self:
        return cls(parts.asking, parts.audit, parts.asking.clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        client, parameters = await self.asking.authenticate(scope, receive, PARAMETERS)
        if not parameters.get("token"):
            raise InvalidRequest("token_missing", "send token")
        with self.asking.admission:
            done = await self._revoke(parameters["token"], client.client.client_id, exchange)
        self.audit.tally.answer(COUNTER, "revoked" if done else "nothing")
        await send_json(scope, send, 200, b"", [(b"cache-control", b"no-store")])

    async def _revoke(self, token: str, client_id: str, exchange: Exchange) -> bool:
        """Whether it was a token that counts, and is none any more."""
        now, policy = self.clock(), exchange.in_force.policy
        audience = _audience(token)
        try:
            caller = await Standing(self.asking.registry, self.asking.store).proven(Asked(token, audience, policy, now))
        except InvalidToken:
            return False  # garbage, over, or not ours: nobody would take it, and nothing is written for it
        if caller.client_id != client_id:
            raise UnauthorizedClient("token_of_another", "a client takes its own tokens back")
        ends = math.ceil(caller.expires_at) + policy.clock_tolerance
        jti = caller.token_id or ""
        taken = RevokedToken(token_digest(jti), client_id, int(now), ends, listed_place(jti))
        await self.asking.store.revoke_token(taken)
        facts = {"jti": jti, "by": "client", "until": ends}
        self.audit.operated("token.revoked", {**exchange.facts(), **facts})
        return True


def _audience(token: str) -> str:
    """Whichever API it is for; what makes it ours is checked with the rest. Raises UnsupportedTokenType."""
    try:
        jwt = jose.parse_jwt(token)
    except JoseError:
        return "-"
    if jwt.header.media_type == f"application/{SIGNED_TYP}":
        raise UnsupportedTokenType("token_type", "an answer about a token is no token")
    audience = jwt.claims.get("aud")
    return audience if isinstance(audience, str) and audience else "-"
