"""`POST /token`, from top to bottom (RFC 6749 4.4, RFC 7523): each line is one step, none calls back up.

Its phases: parse, ask (who is it? holding which key? once?), decide, sign, record, answer. Requests that came together
take each together.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

from starlette.types import Receive, Scope, Send

from groat.keys.custody import Signer
from groat.protocol import jose, strict_json
from groat.protocol.access_token import TYP, access_token_claims
from groat.protocol.binding import UNBOUND
from groat.protocol.errors import InvalidScope
from groat.protocol.grants import decide_grant
from groat.protocol.jwk import base64url_encode
from groat.protocol.models import MAX_TOKEN_CHARS, AuthenticatedClient, Grant, Workload
from groat.protocol.status_list import KEEP
from groat.protocol.token_request import read_token_request
from groat.server.endpoints.asking import Asking, Claimant
from groat.server.endpoints.parts import Parts
from groat.server.endpoints.places import Listed, Places, check_listed
from groat.server.endpoints.possession import Possession, Shown
from groat.server.http.answers import send_private_json
from groat.server.http.exchange import Exchange, exchange_of
from groat.server.http.forms import read_form
from groat.server.http.ids import RandomIds
from groat.server.log.audit import Audit, Line
from groat.server.store import Issuance
from groat.server.turns import Turns

MAX_SUBJECT_SHOWN = 256


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """The token endpoint as an ASGI app; refusals are raised, `Entrance` writes them."""

    asking: Asking
    audit: Audit
    possession: Possession
    places: Places
    turns: Turns = field(default_factory=Turns)
    ids: RandomIds = field(default_factory=RandomIds)

    @classmethod
    def of(cls, parts: Parts) -> Self:
        return cls(
            parts.asking, parts.audit, Possession(parts.nonces, parts.asking.throttle), parts.places, parts.turns
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange, asking, turns = exchange_of(scope), self.asking, self.turns
        policy = exchange.in_force.policy
        body, authorization, dpop = await read_form(scope, receive, asking.admission)
        with asking.admission:
            request = asking.parse(read_token_request, (body, authorization), exchange)
            shown = self.possession.read(dpop, exchange, asking.clock()) if dpop else None
            claimant = asking.read(request, exchange)
            await turns.next()  # whoever came together parses first: a step at a time keeps the caches warm
            judged = await asking.prove(claimant)
            proof = self.possession.check(shown, exchange, claimant.now) if shown else None
            signer = await asking.registry.signer(claimant.now)
            holds = proof.confirmation if proof else UNBOUND
            client, listed = judged[0], None
            if client.client.listed:
                listed = await self.places.draw(request, client, exchange, holds)
            issuance = self._issuance(claimant, signer.public.kid, listed)
            client = await asking.use_up(claimant, judged, issuance, proof.once if proof else None, holds)
            grant = decide_grant(request, client, policy, holds, exchange.presented)
            status = check_listed(listed, grant, policy.issuer) if listed or grant.api.listed else ""
            claims = access_token_claims(grant, policy, issuance.issued_at, issuance.token_id, status)
            unsigned = jose.signing_input(_header(signer.public.algorithm, issuance.kid), claims)
            await turns.next()  # as above: whoever shares the batch signs in the same turn
            token = await sign_token(unsigned, signer)
            line = self._record(exchange, client, request.grant_type, grant, issuance, signer.public.algorithm)
            await turns.next()  # the lines of those who were signed in this turn are written with one call
            line.write()
            bound = grant.confirmation is not UNBOUND or shown
            offer = self._bound(grant, shown, exchange, claimant.now) if bound else ()
            await send_private_json(scope, send, 200, _success(token, grant), *offer)

    def _issuance(self, claimant: Claimant, kid: str, listed: Listed | None) -> Issuance:
        """The record: of a listed token it is kept for as long as that may live, since it says whose place it is."""
        fresh, client_id = self.ids.next(), claimant.credential.client_id
        if listed is None:
            return Issuance(fresh, client_id, kid, int(claimant.now))
        return Issuance(listed.place.jti(fresh), client_id, kid, listed.issued_at, KEEP)

    def _bound(
        self, grant: Grant, shown: Shown | None, exchange: Exchange, now: float
    ) -> Iterable[tuple[bytes, bytes]]:
        """Count the token; the headers that come with it for the next proof."""
        self.audit.tally.bound[grant.confirmation.kind] += 1
        return self.possession.offer(shown, exchange, now) if shown else ()

    def _record(
        self,
        exchange: Exchange,
        client: AuthenticatedClient,
        grant_type: str,
        grant: Grant,
        issuance: Issuance,
        algorithm: str,
    ) -> Line:
        facts = exchange.facts()
        if client.key is not None:
            facts |= {"key": client.key.kid, "alg": client.key.algorithm}
        elif client.workload is not None:
            facts |= _of_workload(client.workload)
            self.audit.tally.of_trusts[client.workload.trust, "issued"] += 1
        elif client.certificate:
            facts["certificate"] = client.certificate
        facts |= {
            "api": grant.api.name,
            "aud": grant.api.audience,
            "scope": grant.scope,
            "jti": issuance.token_id,
            "kid": issuance.kid,
        }
        if grant.narrowed:
            facts["narrowed"] = grant.narrowed
        if grant.confirmation.jkt is not None:
            facts["jkt"] = grant.confirmation.jkt
        elif grant.confirmation.x5t_s256 is not None:
            facts["x5t_s256"] = grant.confirmation.x5t_s256
        if client.advice:
            facts["hint"] = client.advice
        return self.audit.issued(facts, (grant_type, client.method, algorithm))


def _of_workload(workload: Workload) -> dict[str, str]:
    """Who said who asks, and of whom: the claims themselves stay out, but for the subject."""
    return {
        "key": workload.key,
        "alg": workload.algorithm,
        "trust": workload.trust,
        "rule": workload.rule,
        "workload": workload.subject[:MAX_SUBJECT_SHOWN],
    }


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
    return b'%s,"access_token":"%s"}' % (
        _constant_members(grant.confirmation.token_type, grant.lifetime, grant.scope),
        token,
    )


@lru_cache(maxsize=2048)
def _constant_members(token_type: str, lifetime: int, scope: str) -> bytes:
    members = {"token_type": token_type, "expires_in": lifetime, "scope": scope}
    return strict_json.dumps(members)[:-1]
