"""`POST /client-keys`: a client registers its next key itself, by a join code or by its current key.

The private half never travels; the answer is the same for a bad code, an unknown client and a bad signature.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from starlette.types import Receive, Scope, Send

from groat.keys.invitation import Invitations
from groat.protocol import strict_json
from groat.protocol.enrolment import Endorsement, NewKey, check_endorsement, code_digest, read_proof
from groat.protocol.errors import (
    ConfigError,
    InvalidClient,
    InvalidRequest,
    JoseError,
    TooManyRequests,
)
from groat.protocol.jwk import PublicKey
from groat.protocol.key_limits import UNLIMITED
from groat.protocol.models import Client, OneTimeKind, OneTimeValue, Policy
from groat.protocol.token_request import form_fields
from groat.server.endpoints.asking import Asking
from groat.server.endpoints.parts import Parts
from groat.server.gcra import Gcra
from groat.server.http.answers import send_private_json
from groat.server.http.exchange import Exchange, exchange_of
from groat.server.http.forms import read_form
from groat.server.operations import enrol_client_key, retire_client_key
from groat.server.operations.operator import Operator
from groat.server.store import StoreConflict
from groat.server.store.audit_trail import Actor, Face

COUNTER: Final = "groat_client_key_requests"
CHANGES: Final = 20  # of the registry that one client may cause in CHANGE_SECONDS
CHANGE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class EnrolmentEndpoint:
    """Refusals are raised, `Entrance` writes them. Repeating a request whose answer was lost is answered anew."""

    asking: Asking  # its proofs are others; who may try, what a failure counts and what counts once are the same
    operator: Operator
    invitations: Invitations
    key_lifetime: int = 0  # seconds
    changes: Gcra = field(default_factory=lambda: Gcra(CHANGES, CHANGE_SECONDS))

    @classmethod
    def of(cls, parts: Parts) -> Self:
        return cls(parts.asking, parts.operator, parts.invitations, parts.key_lifetime)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        body, _, _ = await read_form(scope, receive, self.asking.admission)
        with self.asking.admission:
            self.asking.throttle.check(exchange)
            known, document = await self._serve(body, exchange)
        self.operator.audit.tally.answer(COUNTER, "known" if known else "registered")
        await send_private_json(scope, send, 200 if known else 201, strict_json.dumps(document))

    async def _serve(self, body: bytes, exchange: Exchange) -> tuple[bool, dict[str, Any]]:
        """Whether the key was the client's already, and the answer. What is refused counts as a failed try."""
        now, throttle = self.asking.clock(), self.asking.throttle
        try:
            fields = read_fields(body)
            new = self._proof(fields["proof"], exchange, now)
        except InvalidRequest as error:
            raise throttle.failed(exchange, error) from None
        exchange.client = new.client_id
        # A proof by a key that the caller brings shows nothing yet, and what follows looks into the store for each.
        await self.asking.wait_its_turn(new.client_id)
        try:
            known, expires_at = await self._register(fields, new, exchange, now)
        except InvalidClient as error:
            raise throttle.failed(exchange, error) from None
        throttle.succeeded(exchange)
        ends = {} if expires_at is None else {"expires_at": expires_at}
        return known, {"client_id": new.client_id, "kid": new.key.kid, **ends}

    def _proof(self, text: str, exchange: Exchange, now: float) -> NewKey:
        """The caller brings the key that his signature is checked with: what that takes is counted, whoever he is."""
        with exchange.timed():
            try:
                return read_proof(text, exchange.in_force.policy, now)
            except JoseError as error:
                raise InvalidRequest(f"proof_{error.reason}", error.hint) from None

    async def _register(
        self, fields: dict[str, str], new: NewKey, exchange: Exchange, now: float
    ) -> tuple[bool, int | None]:
        """Register the key; returns whether it was the client's already, and when it ends."""
        await self.asking.registry.refresh()
        client = await self.asking.registry.find_client(new.client_id)
        with exchange.timed():
            right = self._right(fields, client, new, exchange.in_force.policy, now)
        if client is None or not client.enabled:
            raise InvalidClient("client_unknown", "no enabled client of that name is registered")
        known = next((key for key in client.keys if key.thumbprint == new.key.thumbprint), None)
        end = None if known is None else client.limits.get(known.kid, UNLIMITED).expires_at
        # Also when repeated: the first attempt may have ended in between. Never for a key that is over, or for itself.
        useful = right.by.thumbprint != new.key.thumbprint and (end is None or end > now)
        retire_at = max(right.retire_at, int(now)) if right.retire_at is not None and useful else None
        if known is None or _ends_sooner(client, right.by, retire_at):
            self._check_pace(new.client_id, exchange)
        await self._use_up(right, known=known is not None)
        if known is None:
            end = await self._enrol(fields, new)
        if retire_at is not None and _ends_sooner(client, right.by, retire_at):
            operator = self._operator(new.client_id, "endorsement")
            await retire_client_key(operator, new.client_id, right.by.kid, retire_at)
        return known is not None, end

    def _check_pace(self, client_id: str, exchange: Exchange) -> None:
        """Each change makes every process read the registry anew: what one client may cause is bounded."""
        if wait := self.changes.wait(client_id, exchange.started):
            hint = f"the client has changed its keys {self.changes.limit} times within {self.changes.window:.0f} s"
            raise TooManyRequests("enrolment_pace", hint, retry_after=int(wait) + 1)
        self.changes.add(client_id, exchange.started)

    async def _use_up(self, right: Endorsement, *, known: bool) -> None:
        """Each right counts once. Raises InvalidClient, unless its own key is there and this repeats the request."""
        again = right.whole is None or not await self._use_once(right.whole)
        if not await self._use_once(right.once) and not (known and again):
            raise InvalidClient("enrolment_replayed", "this join code or endorsement was used before")

    async def _use_once(self, once: OneTimeValue) -> bool:
        """Whether this is the first use; no token comes of it."""
        return (await self.asking.store.use_once(once, None)).fresh

    def _operator(self, client_id: str, by: str) -> Operator:
        """The client changes its own keys, and the audit trail says so."""
        return replace(self.operator, actor=Actor(f"client:{client_id} by:{by}", Face.ENROLMENT))

    async def _enrol(self, fields: dict[str, str], new: NewKey) -> int | None:
        by = "code" if "code" in fields else "endorsement"
        try:
            operator = self._operator(new.client_id, by)
            record = await enrol_client_key(operator, new.client_id, new.key, by, self.key_lifetime)
        except (StoreConflict, ConfigError) as error:
            raise InvalidRequest("enrolment_key", str(error)) from None
        return record.expires_at

    def _right(
        self, fields: dict[str, str], client: Client | None, new: NewKey, policy: Policy, now: float
    ) -> Endorsement:
        """What gives the right to register; a join code counts as the key's word for itself. Raises InvalidClient."""
        if "endorsement" in fields:
            return check_endorsement(fields["endorsement"], client, new, policy, now)
        try:
            invitation = self.invitations.read(fields["code"], now)
        except (JoseError, UnicodeDecodeError) as error:
            raise InvalidClient("join_code", str(error)) from None
        if invitation.client_id != new.client_id or new.code_digest != code_digest(fields["code"]):
            raise InvalidClient("join_code", "the join code is for another client, or the proof is for another code")
        once = OneTimeValue(
            OneTimeKind.JOIN_CODE, new.client_id, invitation.nonce, invitation.expires_at, invitation.made_at
        )
        return Endorsement(once, new.key)


def read_fields(body: bytes) -> dict[str, str]:
    """The two fields of a request. Raises InvalidRequest for any other form."""
    pairs = form_fields(body)
    fields = dict(pairs)
    if len(fields) != len(pairs) or fields.keys() not in ({"proof", "code"}, {"proof", "endorsement"}):
        raise InvalidRequest("enrolment_fields", "send proof, and either code or endorsement, each once")
    return fields


def _ends_sooner(client: Client, key: PublicKey, at: int | None) -> bool:
    """Whether this end would change anything; keys that the client publishes elsewhere have none here."""
    end = client.limits.get(key.kid, UNLIMITED).expires_at
    return at is not None and (end is None or end > at)
