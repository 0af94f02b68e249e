"""`POST /client-keys`: a client registers its next key itself, by a join code or by its current key.

The private half never travels; the answer is the same for a bad code, an unknown client and a bad signature.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from starlette.types import Receive, Scope, Send

from groat.keys.invitation import Invitations
from groat.protocol import strict_json
from groat.protocol.enrolment import Endorsement, NewKey, check_endorsement, code_digest, read_proof
from groat.protocol.errors import ConfigError, InvalidClient, InvalidRequest, JoseError
from groat.protocol.models import Client, OneTimeValue
from groat.protocol.token_request import form_fields
from groat.server.admission import Admission
from groat.server.http import Exchange, exchange_of, read_form, require_method, send_private_json
from groat.server.operations import enrol_client_key, retire_client_key
from groat.server.operator import Operator
from groat.server.random_ids import RandomIds
from groat.server.registry import Registry
from groat.server.store import Issuance, StoreConflict
from groat.server.throttle import Throttle

PATH: Final = "/client-keys"


@dataclass(frozen=True, slots=True)
class EnrolmentEndpoint:
    """Refusals are raised, `Entrance` writes them. Repeating a request whose answer was lost is answered anew."""

    operator: Operator
    registry: Registry
    throttle: Throttle
    invitations: Invitations
    key_lifetime: int = 0  # seconds
    clock: Callable[[], float] = time.time
    ids: RandomIds = field(default_factory=RandomIds)
    admission: Admission = field(default_factory=Admission)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        require_method(scope, "POST")
        exchange = exchange_of(scope)
        fields = await self._fields(scope, receive)
        with self.admission:
            status, document = await self._serve(fields, exchange)
        await send_private_json(scope, send, status, document)

    async def _serve(self, fields: dict[str, str], exchange: Exchange) -> tuple[int, bytes]:
        """Status and body of the answer."""
        now = self.clock()
        try:
            new = read_proof(fields["proof"], self.operator.policy, now)
        except JoseError as error:
            raise InvalidRequest(f"proof_{error.reason}", error.hint) from None
        exchange.client = new.client_id
        self.throttle.check_source(exchange.source, new.client_id, exchange.started)
        try:
            known, expires_at = await self._register(fields, new, now)
        except InvalidClient as error:
            raise self.throttle.failed(exchange.source, new.client_id, error, exchange.started) from None
        self.throttle.succeeded(exchange.source, new.client_id, exchange.started)
        document: dict[str, object] = {"client_id": new.client_id, "kid": new.key.kid}
        if expires_at is not None:
            document["expires_at"] = expires_at
        return 200 if known else 201, strict_json.dumps(document)

    async def _fields(self, scope: Scope, receive: Receive) -> dict[str, str]:
        body, _ = await read_form(scope, receive, self.admission)
        pairs = form_fields(body)
        fields = dict(pairs)
        if len(fields) != len(pairs) or fields.keys() not in ({"proof", "code"}, {"proof", "endorsement"}):
            raise InvalidRequest("enrolment_fields", "send proof, and either code or endorsement, each once")
        return fields

    async def _register(self, fields: dict[str, str], new: NewKey, now: float) -> tuple[bool, int | None]:
        """Register the key; returns whether it was the client's already, and when it ends."""
        await self.registry.refresh()
        client = await self.registry.find_client(new.client_id)
        right = self._right(fields, client, new, now)
        if client is None or not client.enabled:
            raise InvalidClient("client_unknown", "no enabled client of that name is registered")
        known = next((key for key in client.keys if key.thumbprint == new.key.thumbprint), None)
        if known is not None:
            limits = client.limits.get(known.kid)
            expires_at = limits.expires_at if limits is not None else None
        else:
            expires_at = await self._enrol(fields, new, right.once, now)
        # Also when repeated: the first attempt may have ended in between. Never for a key that is over, or for itself.
        useful = right.by.thumbprint != new.key.thumbprint and (expires_at is None or expires_at > now)
        if right.retire_after is not None and useful:
            await retire_client_key(self.operator, new.client_id, right.by.kid, int(now) + right.retire_after)
        return known is not None, expires_at

    async def _enrol(self, fields: dict[str, str], new: NewKey, once: OneTimeValue, now: float) -> int | None:
        # The use needs a name of its own: the store tells the first use from later ones by it.
        use = Issuance(self.ids.next(), new.client_id, kid="", issued_at=int(now))  # no key of ours signs anything
        if not (await self.operator.store.use_once(once, use)).fresh:
            raise InvalidClient("enrolment_replayed", "this join code or endorsement was used before")
        by = "code" if "code" in fields else "endorsement"
        try:
            record = await enrol_client_key(self.operator, new.client_id, new.key, by, self.key_lifetime)
        except (StoreConflict, ConfigError) as error:
            raise InvalidRequest("enrolment_key", str(error)) from None
        return record.expires_at

    def _right(self, fields: dict[str, str], client: Client | None, new: NewKey, now: float) -> Endorsement:
        """What gives the right to register; a join code counts as the key's word for itself. Raises InvalidClient."""
        if "endorsement" in fields:
            return check_endorsement(fields["endorsement"], client, new, self.operator.policy, now)
        try:
            invitation = self.invitations.read(fields["code"], now)
        except (JoseError, UnicodeDecodeError) as error:
            raise InvalidClient("join_code", str(error)) from None
        if invitation.client_id != new.client_id or new.code_digest != code_digest(fields["code"]):
            raise InvalidClient("join_code", "the join code is for another client, or the proof is for another code")
        # No client id has a space, so that this cannot collide with anybody's jti.
        once = OneTimeValue(f"join {new.client_id}", invitation.nonce, invitation.expires_at, invitation.made_at)
        return Endorsement(once, new.key)
