"""Who asks: from the form of a request to a client that has proven itself, and whose one-time value is used up.

For every endpoint that a client has to authenticate at (RFC 6749 2.3, RFC 7009 2.1, RFC 7662 2.1), and in the same
steps everywhere, because what they cost may tell nobody who is registered (docs/decisions/0025-equal-refusals.md,
0036-foreign-keys.md). Refusals are raised; whoever raises one here has counted it.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from starlette.types import Receive, Scope

from groat.protocol.binding import UNBOUND, Confirmation
from groat.protocol.client_auth import authenticate_client, read_credential
from groat.protocol.client_auth.workload import ForeignCredential, anothers, replayed, unproven
from groat.protocol.client_settings import MAX_TOKEN_LIFETIME
from groat.protocol.errors import InvalidClient, InvalidDpopProof, JoseError, OAuthError
from groat.protocol.federation.foreign_token import refusal
from groat.protocol.models import (
    AuthenticatedClient,
    Client,
    ClientRequest,
    Credential,
    OneTimeKind,
    OneTimeValue,
)
from groat.protocol.token_request import check_query, read_client_request
from groat.server.endpoints.workloads import NoKey, Workloads, name_of
from groat.server.http.admission import Admission
from groat.server.http.exchange import Exchange, exchange_of
from groat.server.http.forms import read_form
from groat.server.http.pacing import Pacing
from groat.server.http.throttle import Throttle
from groat.server.http.waiting_room import WaitingRoom
from groat.server.registry.key_uses import KeyUses
from groat.server.registry.publishers import Publishers
from groat.server.registry.registry import Registry
from groat.server.registry.token_reviews import Unreviewed
from groat.server.store import Issuance, Owned, Store
from groat.server.unavailable import Unavailable

Clock = Callable[[], float]
Form = tuple[bytes, Sequence[bytes]]  # a body, and the Authorization headers that came with it
Request = TypeVar("Request", bound=ClientRequest)
# A client that has proven itself, and the version of the registry by which it was judged.
Judged = tuple[AuthenticatedClient, int]


@dataclass(slots=True)
class Claimant:
    """Somebody who says that he is a client: what he presents for it, in which request, when (epoch seconds)."""

    credential: Credential
    exchange: Exchange
    now: float


@dataclass(frozen=True, slots=True)
class Asking:
    """The steps, in their order: `parse`, `read`, `prove`, `use_up`; `authenticate` takes them all.

    The token endpoint takes them one by one: its requests wait for each other in between, and the record of what is
    used up is that of the token.
    """

    registry: Registry
    store: Store
    publishers: Publishers
    workloads: Workloads
    clock: Clock = time.time
    throttle: Throttle = field(default_factory=Throttle)
    admission: Admission = field(default_factory=Admission)
    room: WaitingRoom = field(default_factory=WaitingRoom)
    uses: KeyUses = field(default_factory=KeyUses)
    failures: Pacing = field(default_factory=Pacing)

    async def authenticate(
        self, scope: Scope, receive: Receive, own: Sequence[str] = ()
    ) -> tuple[AuthenticatedClient, Mapping[str, str]]:
        """The client that sent this form, and what it says by the names in `own`. No token comes of it.

        Raises OAuthError, Unavailable, ClientDisconnected. Not checked: whether what is in `own` was sent. Not bounded:
        what the caller does next, which holds no place any more.
        """
        body, authorization, _ = await read_form(scope, receive, self.admission)
        check_query(scope["query_string"], own)
        with self.admission:
            exchange = exchange_of(scope)
            request = self.parse(partial(read_client_request, own=own), (body, authorization), exchange)
            return await self.proven(self.read(request, exchange)), request.parameters

    async def proven(self, claimant: Claimant) -> AuthenticatedClient:
        """The client, its one-time value used up. No token comes of it. Raises OAuthError, Unavailable."""
        return await self.use_up(claimant, await self.prove(claimant))

    def parse(self, read: Callable[[bytes, Sequence[bytes]], Request], form: Form, exchange: Exchange) -> Request:
        """`decoding` to `assertion_kind` of protocol/order.py, as `read` does it."""
        try:
            request = read(*form)
        except OAuthError as error:
            raise self.throttle.failed(exchange, error) from None
        exchange.authorization_scheme = request.authorization_scheme
        return request

    def read(self, request: ClientRequest, exchange: Exchange) -> Claimant:
        """Whom the request claims to come from. Raises TooManyRequests for a source that may not even try."""
        if (certificate := exchange.presented.certificate) is not None:
            request = replace(request, certificate=certificate)
        try:
            credential = read_credential(request)
        except OAuthError as error:
            exchange.client = ""
            raise self.throttle.failed(exchange, error) from None
        exchange.client = credential.client_id
        self.throttle.check(exchange)
        return Claimant(credential, exchange, self.clock())

    async def prove(self, claimant: Claimant) -> Judged:
        """Judge by the registry in memory; a refusal stands only if neither the store nor a key set knows better."""
        if type(claimant.credential) is ForeignCredential:
            return await self._prove_workload(claimant, claimant.credential)
        client_id = claimant.credential.client_id
        if self.failures.holds(client_id):  # of a burst in one name not even the signatures are looked at all at once
            await self.wait_its_turn(client_id)
        version, client = self.registry.version, self.registry.remembered(client_id)
        try:
            return self._judge(claimant, client), version
        except InvalidClient as error:
            refusal = error
        await self.wait_its_turn(client_id)
        if await self.registry.catch_up(client_id, version, known=client is not None):
            # Taken before the client is read: whatever changes while that goes on must be seen at the use.
            version, client = self.registry.version, await self.registry.find_client(client_id)
            try:
                return self._judge(claimant, client), version
            except InvalidClient as error:
                refusal = error
        if refusal.unproven and (found := await self._wait_for_keys(claimant, client)):
            return found
        raise self.throttle.failed(claimant.exchange, refusal)

    async def wait_its_turn(self, client_id: str) -> None:
        """What a failure costs must hold up nobody of another name, and takes no place meanwhile."""
        with self.admission.away():
            await self.failures.next(client_id)

    async def use_up(
        self,
        claimant: Claimant,
        judged: Judged,
        issuance: Issuance | None = None,
        proof: OneTimeValue | None = None,
        confirmation: Confirmation = UNBOUND,
    ) -> AuthenticatedClient:
        """Use up what counts once, for this token or for none; if the registry moved meanwhile, judge again.

        So what it says now holds before anything is signed. `proof`: of possession, used up by the same write.
        `confirmation`: what was proven, by which a foreign token may be owned.
        """
        client, version = judged
        owned = None if client.owned is None else self._owned(claimant, client, confirmation)
        once = client.once or (issuance and _the_token(issuance))
        if once is None:  # a proof that cannot come again, and no token either: there is nothing to remember
            seen = await self.registry.refresh()
        else:
            fresh, seen, proof_fresh = await self.store.use_once(once, issuance, proof, owned)
            if not fresh and owned is not None and seen != version:  # need it be owned? Nothing was written
                self.registry.observe(seen)
                again = await self._judge_again(claimant), seen
                return await self.use_up(claimant, again, issuance, proof, confirmation)
            if not (fresh and proof_fresh):
                raise self.throttle.failed(claimant.exchange, _known(claimant.credential, fresh, owned))
        if seen != version:
            self.registry.observe(seen)
            client = await self._judge_again(claimant)
            if client.owned is not None and owned is None:
                await self._claim(claimant, client, confirmation)
            if issuance is not None:  # the record names this key, so no other may sign
                await self.registry.check_signing(issuance.kid, claimant.now)
        self.throttle.succeeded(claimant.exchange)
        if client.key is not None:
            self.uses.noted[claimant.credential.client_id, client.key.thumbprint] = claimant.now
        elif client.workload is not None or client.certificate:
            self.uses.noted[claimant.credential.client_id, ""] = claimant.now
        return client

    def _owned(self, claimant: Claimant, client: AuthenticatedClient, confirmation: Confirmation) -> Owned | None:
        """The claim of whoever shows a key to the foreign token that came with it; None: nobody shows any, nor must."""
        assert client.owned is not None
        certificate = claimant.exchange.presented.certificate
        if not confirmation.thumbprint and certificate is not None:  # the proof first: it is of this request alone
            confirmation = certificate.confirmation
        if confirmation.thumbprint:
            return Owned(client.owned, f"{confirmation.kind} {confirmation.thumbprint}")
        if client.must_prove:
            raise self.throttle.failed(claimant.exchange, _refusal(claimant.credential, unproven()))
        return None

    async def _claim(self, claimant: Claimant, client: AuthenticatedClient, confirmation: Confirmation) -> None:
        """What `use_up` would have done, had the trust or the client bound a moment before: one more write, once."""
        owned = self._owned(claimant, client, confirmation)
        if owned is not None:
            itself = replace(owned.value, kind=OneTimeKind.TOKEN, value=secrets.token_hex(16))
            if not (await self.store.use_once(itself, None, owned=owned)).fresh:
                raise self.throttle.failed(claimant.exchange, _refusal(claimant.credential, anothers()))

    async def _prove_workload(self, claimant: Claimant, credential: ForeignCredential) -> Judged:
        """The same for the token of another issuer: who it is follows from it, and is not asked of it."""
        if self.failures.waiting and self.failures.holds(name_of(credential)):
            await self.wait_its_turn(name_of(credential))
        version, fault = self.registry.version, await self._identify(claimant, credential)
        if not isinstance(fault, JoseError):
            return fault, version
        await self.wait_its_turn(name_of(credential))
        # Of an issuer that nobody trusts the refusal stands, too, while the store is away: nothing was read for it.
        await (self.registry.refresh_if_possible() if fault.reason == "issuer" else self.registry.refresh())
        if self.registry.version != version:
            # As with clients: the version is taken before anything is read, so that the use sees what changes then.
            version, fault = self.registry.version, await self._identify(claimant, credential)
        if isinstance(fault, NoKey):
            version, fault = await self._wait_for_trust(claimant, credential, fault)
        if isinstance(fault, JoseError):
            raise self._refused(claimant, credential, fault)
        return fault, version

    def _refused(self, claimant: Claimant, credential: ForeignCredential, fault: JoseError) -> Exception:
        """What to raise for it; that nobody could say whether the token counts is no failure of anybody."""
        if isinstance(fault, Unreviewed):
            return Unavailable("review_unavailable", fault.hint)
        return self.throttle.failed(claimant.exchange, refusal(fault, credential.presented.use))

    async def _identify(self, claimant: Claimant, credential: ForeignCredential) -> AuthenticatedClient | JoseError:
        """Also says whose request it is from here on."""
        try:
            client = await self.workloads.identify(credential, claimant.exchange, claimant.now, self.admission.away)
        except JoseError as error:
            return error
        claimant.credential = ForeignCredential(credential.method, client.client.client_id, credential.presented)
        claimant.exchange.client = client.client.client_id
        return client

    async def _wait_for_trust(
        self, claimant: Claimant, credential: ForeignCredential, fault: NoKey
    ) -> tuple[int, AuthenticatedClient | JoseError]:
        """Judge by the keys that a trusted issuer published meanwhile. Only such an issuer's name comes as far as here.

        Who waits has a seat, as in `_wait_for_keys`; but who is trusted need not be hidden by waiting with the rest.
        """
        name = name_of(credential)
        with self.room.seat(name, claimant.exchange.source) as seated, self.admission.away():
            if seated and await self.workloads.newer_keys(fault, self.room.patience):
                return self.registry.version, await self._identify(claimant, credential)
            return self.registry.version, fault

    async def _wait_for_keys(self, claimant: Claimant, client: Client | None) -> Judged | None:
        """Judge by the keys that the client published meanwhile; None when the time is over that everybody waits."""
        client_id = claimant.credential.client_id
        if not self.publishers.conceivable:
            return None
        until = asyncio.get_running_loop().time() + self.room.patience
        with self.room.seat(client_id, claimant.exchange.source) as seated, self.admission.away():
            if seated:
                self.registry.ask_for_keys(client_id)
            while seated and await self.registry.news(client_id, client, until):
                version, client = self.registry.version, await self.registry.find_client(client_id)
                with contextlib.suppress(InvalidClient):
                    return self._judge(claimant, client), version
        return None

    async def _judge_again(self, claimant: Claimant) -> AuthenticatedClient:
        credential = claimant.credential
        if type(credential) is ForeignCredential:
            found = await self._identify(claimant, credential)
            if isinstance(found, JoseError):
                raise self._refused(claimant, credential, found)
            return found
        client = await self.registry.find_client(claimant.credential.client_id)
        try:
            return self._judge(claimant, client)
        except InvalidClient as error:
            raise self.throttle.failed(claimant.exchange, error) from None

    def _judge(self, claimant: Claimant, client: Client | None) -> AuthenticatedClient:
        """Raises InvalidClient; the time that it took goes on the account of failures."""
        began = time.thread_time()
        try:
            return authenticate_client(claimant.credential, client, claimant.exchange.in_force.policy, claimant.now)
        except InvalidClient:
            claimant.exchange.proving += time.thread_time() - began
            raise


def _known(credential: Credential, fresh: bool, owned: Owned | None) -> OAuthError:
    """Of what was used before, or is owned by another key; `fresh`: then it is the proof."""
    if fresh:
        return InvalidDpopProof("dpop_replayed", "this jti was used before with this key; sign a new proof")
    if type(credential) is ForeignCredential:
        return _refusal(credential, replayed() if owned is None else anothers())
    return InvalidClient("assertion_replayed", "this jti was used before; sign a new one each time")


def _refusal(credential: Credential, error: JoseError) -> OAuthError:
    """Of a foreign token, in the voice of what it was presented as."""
    assert type(credential) is ForeignCredential
    return refusal(error, credential.presented.use)


def _the_token(issuance: Issuance) -> OneTimeValue:
    """What the store remembers where the proof is none that could come again: the row is the record all the same."""
    ends = issuance.issued_at + MAX_TOKEN_LIFETIME
    return OneTimeValue(OneTimeKind.TOKEN, issuance.client_id, issuance.token_id, ends, issuance.issued_at)
