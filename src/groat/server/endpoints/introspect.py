"""`POST /introspect`: an API asks whether a token counts (RFC 7662), in JSON or signed (RFC 9701).

It sees tokens that are for itself alone; of any other it learns what it learns of garbage.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final, Self

from starlette.types import Receive, Scope, Send

from groat.protocol import jose, strict_json
from groat.protocol.client_auth.private_key_jwt import Assertion
from groat.protocol.errors import InvalidCallerToken, InvalidClient, InvalidRequest, InvalidToken
from groat.protocol.introspection import (
    INACTIVE,
    PARAMETERS,
    SCOPE,
    SIGNED_MEDIA_TYPE,
    SIGNED_TYP,
    active,
    signed_claims,
    wants_signed,
)
from groat.protocol.jwk import base64url_encode
from groat.protocol.models import Api, ClientRequest
from groat.protocol.token_request import check_query, read_client_request
from groat.server.endpoints.asking import Asking
from groat.server.endpoints.parts import Parts
from groat.server.endpoints.standing import Asked, Standing
from groat.server.http.answers import send_json, send_private_json
from groat.server.http.exchange import Exchange, exchange_of, header_values
from groat.server.http.forms import read_form
from groat.server.log.audit import Audit

COUNTER: Final = "groat_introspections"
_BEARER: Final = b"bearer "


@dataclass(frozen=True, slots=True)
class IntrospectionEndpoint:
    """Refusals are raised, `Entrance` writes them. `asking`: APIs, by their own keys; `standing`: tokens of clients."""

    asking: Asking
    standing: Standing
    audit: Audit
    clock: Callable[[], float] = time.time

    @classmethod
    def of(cls, parts: Parts) -> Self:
        clients = parts.asking
        return cls(parts.apis_asking, Standing(clients.registry, clients.store), parts.audit, clients.clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange, asking = exchange_of(scope), self.asking
        signed = wants_signed(value.decode("latin-1") for value in header_values(scope, b"accept"))
        body, authorization, _ = await read_form(scope, receive, asking.admission)
        check_query(scope["query_string"], PARAMETERS)
        with asking.admission:
            request = asking.parse(partial(read_client_request, own=PARAMETERS), (body, authorization), exchange)
            if signed and not request.auth_methods:
                # RFC 9701 5: not the answer to somebody unknown, which he would take for a reason to ask unsigned.
                raise InvalidRequest("introspection_credentials", "the signed form is for those who say who they are")
            api = await self._api(request, authorization[0] if authorization else b"", exchange)
            if not request.parameters.get("token"):
                raise InvalidRequest("token_missing", "send token")
            about = await self._about(request.parameters["token"], api, exchange)
            if not signed:
                await send_private_json(scope, send, 200, strict_json.dumps(about))
                return
            answer = await self._sign(about, api, exchange)
            headers = [(b"content-type", SIGNED_MEDIA_TYPE.encode()), (b"cache-control", b"no-store")]
            await send_json(scope, send, 200, answer, headers)

    async def _api(self, request: ClientRequest, authorization: bytes, exchange: Exchange) -> Api:
        """Which API asks: by an assertion of its own, or by a token of the client that has its name."""
        if authorization[: len(_BEARER)].lower() == _BEARER:
            name = await self._bearer(authorization[len(_BEARER) :].strip().decode("latin-1"), exchange)
        else:
            claimant = self.asking.read(request, exchange)
            if type(claimant.credential) is not Assertion:
                raise self.asking.throttle.failed(exchange, _no_api())
            name = (await self.asking.proven(claimant)).client.client_id
        api = (await self.standing.registry.apis()).get(name)
        if api is None:  # removed in this moment, or a client that has the name of none
            raise self.asking.throttle.failed(exchange, _no_api())
        return api

    async def _bearer(self, token: str, exchange: Exchange) -> str:
        """The client that a token of the issuer's own API was given to. No write: it may come as often as it likes."""
        policy = exchange.in_force.policy
        self.asking.throttle.check(exchange)
        try:
            caller = await self.standing.counting(Asked(token, policy.issuer, policy, self.clock()))
        except InvalidToken as error:
            refusal = InvalidCallerToken("caller_token", f"{error.reason}: {error.hint}")
            raise self.asking.throttle.failed(exchange, refusal) from None
        exchange.client = caller.client_id
        if SCOPE not in caller.scopes or caller.confirmation is not None:
            hint = f"the token has no scope {SCOPE}" if SCOPE not in caller.scopes else "the token is a bound one"
            raise self.asking.throttle.failed(exchange, InvalidCallerToken("caller_token", hint))
        return caller.client_id

    async def _about(self, token: str, api: Api, exchange: Exchange) -> Mapping[str, Any]:
        """What there is to say of it, and a line for the operator that says why, where it does not count."""
        try:
            caller = await self.standing.counting(Asked(token, api.audience, exchange.in_force.policy, self.clock()))
        except InvalidToken as error:
            self.audit.tally.answer(COUNTER, "inactive", error.reason)
            self.audit.operated("token.inactive", {**exchange.facts(), "reason": error.reason, "hint": error.hint})
            return INACTIVE
        self.audit.tally.answer(COUNTER, "active")
        return active(caller)

    async def _sign(self, about: Mapping[str, Any], api: Api, exchange: Exchange) -> bytes:
        now = self.clock()
        signer = await self.standing.registry.signer(now)
        claims = signed_claims(dict(about), exchange.in_force.policy.issuer, api.audience, int(now))
        unsigned = jose.signing_input(_header(signer.public.algorithm, signer.public.kid), claims)
        return unsigned + b"." + base64url_encode(await signer.sign(unsigned))


def _no_api() -> InvalidClient:
    return InvalidClient("caller_method", "an API asks, by an assertion of its key or a token of its client")


@lru_cache(maxsize=64)
def _header(algorithm: str, kid: str) -> bytes:
    return jose.encode_header(algorithm, kid, SIGNED_TYP)
