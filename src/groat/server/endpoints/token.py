"""`POST /token`, from top to bottom (RFC 6749 4.4, RFC 7523): each line is one step, none calls back up."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

from starlette.types import Receive, Scope, Send

from groat.keys.custody import Signer
from groat.protocol import jose, strict_json
from groat.protocol.access_token import TYP, access_token_claims
from groat.protocol.client_auth import authenticate_client, read_credential
from groat.protocol.errors import InvalidClient, InvalidScope, OAuthError
from groat.protocol.grants import decide_grant
from groat.protocol.jwk import base64url_encode
from groat.protocol.models import (
    MAX_TOKEN_CHARS,
    MAX_TOKEN_LIFETIME,
    AuthenticatedClient,
    Client,
    Credential,
    Grant,
    OneTimeKind,
    OneTimeValue,
    Policy,
    TokenRequest,
)
from groat.protocol.token_request import read_token_request
from groat.server.http.admission import Admission
from groat.server.http.answers import send_private_json
from groat.server.http.entrance import require_method
from groat.server.http.exchange import Exchange, exchange_of
from groat.server.http.forms import read_form
from groat.server.http.ids import RandomIds
from groat.server.http.pacing import Pacing
from groat.server.http.throttle import Throttle
from groat.server.http.waiting_room import WaitingRoom
from groat.server.log.audit import Audit, Line
from groat.server.registry.key_uses import KeyUses
from groat.server.registry.publishers import Publishers
from groat.server.registry.registry import Registry
from groat.server.store import Issuance, Store

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """The token endpoint as an ASGI app; refusals are raised, `Entrance` writes them."""

    name: ClassVar[str] = "token"
    policy: Policy
    registry: Registry
    store: Store
    throttle: Throttle
    audit: Audit
    clock: Clock = time.time
    ids: RandomIds = field(default_factory=RandomIds)
    uses: KeyUses = field(default_factory=KeyUses)
    admission: Admission = field(default_factory=Admission)
    publishers: Publishers | None = None
    room: WaitingRoom = field(default_factory=WaitingRoom)
    failures: Pacing = field(default_factory=Pacing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        require_method(scope, "POST")
        body, authorization = await read_form(scope, receive, self.admission)
        turns = self.store.turns
        with self.admission:
            request = self._parse(body, authorization, exchange)
            now = self.clock()
            credential = self._read_credential(request, exchange)
            await turns.next()  # whoever came together parses first: a step at a time keeps the caches warm
            client, version = await self._authenticate(credential, exchange, now)
            signer = await self.registry.signer(now)
            issuance = Issuance(self.ids.next(), credential.client_id, signer.public.kid, int(now))
            client = await self._use_once(credential, client, version, issuance, exchange, now)
            grant = decide_grant(request, client, self.policy)
            claims = access_token_claims(grant, self.policy, int(now), issuance.token_id)
            data = jose.signing_input(_header(signer.public.algorithm, signer.public.kid), claims)
            await turns.next()  # as above: whoever shares the batch signs in the same turn
            token = await sign_token(data, signer)
            line = self._record(exchange, client, grant, signer, issuance.token_id, request.grant_type)
            await turns.next()  # the lines of those who were signed in this turn are written with one call
            line.write()
            await send_private_json(scope, send, 200, _success(token, grant))

    def _parse(self, body: bytes, authorization: Sequence[bytes], exchange: Exchange) -> TokenRequest:
        """`decoding` to `assertion_kind` of protocol/order.py."""
        try:
            request = read_token_request(body, authorization)
        except OAuthError as error:
            raise self.throttle.failed(exchange.source, None, error, exchange.started) from None
        exchange.authorization_scheme = request.authorization_scheme
        return request

    def _read_credential(self, request: TokenRequest, exchange: Exchange) -> Credential:
        try:
            credential = read_credential(request)
        except InvalidClient as error:
            raise self.throttle.failed(exchange.source, "", error, exchange.started) from None
        exchange.client = credential.client_id
        self.throttle.check(exchange.source, exchange.started)
        return credential

    async def _authenticate(
        self, credential: Credential, exchange: Exchange, now: float
    ) -> tuple[AuthenticatedClient, int]:
        """Judge by the registry in memory; a refusal stands only if neither the store nor a key set knows better."""
        version, client = self.registry.version, self.registry.remembered(credential.client_id)
        try:
            return self._judge(credential, client, exchange, now), version
        except InvalidClient as error:
            refusal = error
        with self.admission.away():  # what a failure costs beyond its signature must hold up nobody else
            await self.failures.next(credential.client_id)
        if await self.registry.catch_up(credential.client_id, version, known=client is not None):
            # Taken before the client is read: whatever changes while that goes on must be seen at the use.
            version, client = self.registry.version, await self.registry.find_client(credential.client_id)
            try:
                return self._judge(credential, client, exchange, now), version
            except InvalidClient as error:
                refusal = error
        if refusal.unproven and (found := await self._wait_for_keys(credential, client, exchange, now)):
            return found
        raise self._failed(refusal, exchange)

    async def _wait_for_keys(
        self, credential: Credential, client: Client | None, exchange: Exchange, now: float
    ) -> tuple[AuthenticatedClient, int] | None:
        """Judge by the keys that the client published meanwhile; None when the time is over that everybody waits."""
        client_id = credential.client_id
        if self.publishers is None or not self.publishers.conceivable:
            return None
        until = asyncio.get_running_loop().time() + self.room.patience
        with self.room.seat(client_id, exchange.source) as seated, self.admission.away():
            if seated:
                self.registry.ask_for_keys(client_id)
            while seated and await self.registry.news(client_id, client, until):
                version, client = self.registry.version, await self.registry.find_client(client_id)
                with contextlib.suppress(InvalidClient):
                    return self._judge(credential, client, exchange, now), version
        return None

    async def _judge_again(self, credential: Credential, exchange: Exchange, now: float) -> AuthenticatedClient:
        client = await self.registry.find_client(credential.client_id)
        try:
            return self._judge(credential, client, exchange, now)
        except InvalidClient as error:
            raise self._failed(error, exchange) from None

    def _judge(
        self, credential: Credential, client: Client | None, exchange: Exchange, now: float
    ) -> AuthenticatedClient:
        """Raises InvalidClient; the time that it took goes on the account of failures."""
        began = time.thread_time()
        try:
            return authenticate_client(credential, client, self.policy, now)
        except InvalidClient:
            exchange.proving += time.thread_time() - began
            raise

    def _failed(self, error: InvalidClient, exchange: Exchange) -> OAuthError:
        """What to answer to whoever could not prove to be the client that he named."""
        return self.throttle.failed(exchange.source, exchange.client, error, exchange.started, exchange.proving)

    async def _use_once(
        self,
        credential: Credential,
        client: AuthenticatedClient,
        version: int,
        issuance: Issuance,
        exchange: Exchange,
        now: float,
    ) -> AuthenticatedClient:
        """Use up the jti; if the registry moved since the client was judged, judge again before anything is signed."""
        receipt = await self.store.use_once(client.once or _the_token(issuance), issuance)
        if not receipt.fresh:
            replayed = InvalidClient("assertion_replayed", "this jti was used before; sign a new one each time")
            raise self._failed(replayed, exchange)
        if receipt.registry_version != version:
            self.registry.observe(receipt.registry_version)
            client = await self._judge_again(credential, exchange, now)
            await self.registry.check_signing(issuance.kid, now)  # the record names this key, so no other may sign
        self.throttle.succeeded(exchange.source, exchange.started)
        if client.key is not None:
            self.uses.noted[credential.client_id, client.key.thumbprint] = now
        return client

    def _record(
        self,
        exchange: Exchange,
        client: AuthenticatedClient,
        grant: Grant,
        signer: Signer,
        token_id: str,
        grant_type: str,
    ) -> Line:
        facts = exchange.facts()
        if client.key is not None:
            facts |= {"key": client.key.kid, "alg": client.key.algorithm}
        facts |= {
            "api": grant.api.name,
            "aud": grant.api.audience,
            "scope": grant.scope,
            "jti": token_id,
            "kid": signer.public.kid,
        }
        if client.advice:
            facts["hint"] = client.advice
        return self.audit.issued(facts, (grant_type, client.method, signer.public.algorithm))


def _the_token(issuance: Issuance) -> OneTimeValue:
    """What the store remembers where the proof is none that could come again: the row is the record all the same."""
    ends = issuance.issued_at + MAX_TOKEN_LIFETIME
    return OneTimeValue(OneTimeKind.TOKEN, issuance.client_id, issuance.token_id, ends, issuance.issued_at)


async def sign_token(data: bytes, signer: Signer) -> bytes:
    """Write the access token as a compact JWS (RFC 9068 2.1). Raises InvalidScope for one over 4 KiB."""
    signature = await signer.sign(data)
    token = data + b"." + base64url_encode(signature)
    if len(token) > MAX_TOKEN_CHARS:
        raise InvalidScope("token_size", f"the token would have {len(token)} bytes; ask for fewer scopes at a time")
    return token


@lru_cache(maxsize=64)
def _header(algorithm: str, kid: str) -> bytes:
    return jose.encode_header(algorithm, kid, TYP)


def _success(token: bytes, grant: Grant) -> bytes:
    return b'%s,"access_token":"%s"}' % (_constant_members(grant), token)


@lru_cache(maxsize=2048)
def _constant_members(grant: Grant) -> bytes:
    members = {"token_type": grant.confirmation.token_type, "expires_in": grant.lifetime, "scope": grant.scope}
    return strict_json.dumps(members)[:-1]
