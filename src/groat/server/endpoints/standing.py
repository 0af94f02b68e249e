"""Whether an access token of ours counts now: computed from its signature, the registry and what was taken back.

Nothing is kept of a token that was issued, so nothing is looked up but whether it was taken back.
"""

from dataclasses import dataclass
from typing import NamedTuple

from groat.protocol.access_token import Caller, Expectations, check_access_token, parse_access_token
from groat.protocol.differences import shown
from groat.protocol.errors import InvalidToken
from groat.protocol.jose import UnverifiedJwt
from groat.protocol.jwk import ALGORITHMS
from groat.protocol.models import Policy
from groat.protocol.revocation import token_digest
from groat.server.registry.registry import Registry
from groat.server.store import Store

_NONE = "\0"  # no jti is like this: one read of the store for each token, whatever it is


class Asked(NamedTuple):
    """A token, the audience that it has to be for, by which policy, at which instant (epoch seconds)."""

    token: str
    audience: str
    policy: Policy
    now: float

    def expectations(self) -> Expectations:
        at_issuer = self.audience == self.policy.issuer
        tolerance = self.policy.clock_tolerance
        return Expectations(self.policy.issuer, self.audience, tuple(ALGORITHMS), tolerance, at_issuer=at_issuer)


@dataclass(frozen=True, slots=True)
class Standing:
    """Both raise InvalidToken with the reason, StoreUnavailable."""

    registry: Registry
    store: Store

    async def proven(self, asked: Asked) -> Caller:
        """What one of our tokens says that is for this audience and not over. Not checked: whether it still counts."""
        expected = asked.expectations()
        return await self._checked(parse_access_token(asked.token, expected), expected, asked.now)

    async def counting(self, asked: Asked) -> Caller:
        """The same of a token that counts now, by the registry as it is.

        Not checked: whether the client may still ask for what was granted; that is for its next token.
        """
        expected = asked.expectations()
        parsed = _parsed(asked.token, expected)
        # Asked first, and of anything: what is read after it is as new, and time does not tell why a token is none.
        version, taken_back = await self.store.is_revoked(token_digest(_jti(parsed)))
        self.registry.observe(version)
        if isinstance(parsed, InvalidToken):
            raise parsed
        caller = await self._checked(parsed, expected, asked.now)
        if taken_back:
            raise InvalidToken("revoked", "this token was taken back")
        await self._check_registry(caller, asked.audience)
        return caller

    async def _checked(self, jwt: UnverifiedJwt, expected: Expectations, now: float) -> Caller:
        keys = await self.registry.published(now)
        key = next((key for key in keys if key.kid == jwt.header.kid), None)
        if key is None:
            raise InvalidToken("key_unknown", f"no key {shown(jwt.header.kid)} is published: not ours, or revoked")
        return check_access_token(jwt, key, expected, now)

    async def _check_registry(self, caller: Caller, audience: str) -> None:
        client = await self.registry.find_client(caller.client_id)
        if client is None or not client.enabled:
            raise InvalidToken("revoked", f"client {shown(caller.client_id)} is disabled, or was removed")
        apis = (await self.registry.apis()).values()
        api = next((api for api in apis if api.audience == audience), None)
        if api is None:
            raise InvalidToken("audience", f"no API has the audience {shown(audience)} any more")
        if (caller.issued_at or 0) < max(client.not_before, api.not_before):
            raise InvalidToken("revoked", "everything was taken back that was issued when this token was")


def _parsed(token: str, expected: Expectations) -> UnverifiedJwt | InvalidToken:
    try:
        return parse_access_token(token, expected)
    except InvalidToken as error:
        return error


def _jti(parsed: UnverifiedJwt | InvalidToken) -> str:
    jti = None if isinstance(parsed, InvalidToken) else parsed.claims.get("jti")
    return jti if isinstance(jti, str) else _NONE
