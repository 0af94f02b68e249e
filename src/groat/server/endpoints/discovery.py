"""Metadata and JWKS: what anybody may read (RFC 8414, RFC 7517)."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from starlette.types import Receive, Scope, Send

from groat.keys.ring.keyring import JWKS_MAX_AGE
from groat.protocol import strict_json
from groat.protocol.key_set import public_key_set
from groat.protocol.metadata import server_metadata
from groat.server.endpoints.parts import Parts
from groat.server.http.answers import etag_matches, send_json
from groat.server.http.exchange import exchange_of
from groat.server.http.routes import Route, advertised
from groat.server.registry.registry import Registry
from groat.server.registry.trusts import Trusts


async def _send_document(scope: Scope, send: Send, document: Any, media_type: bytes, max_age: int) -> None:
    """Send a public document with its entity tag; 304 to whoever has it already (RFC 9110 13.1.2)."""
    payload = strict_json.dumps(document)
    etag = b'"' + hashlib.sha256(payload).hexdigest()[:32].encode() + b'"'
    headers = [
        (b"content-type", media_type),
        (b"cache-control", b"public, max-age=%d" % max_age),
        (b"etag", etag),
    ]
    if etag_matches(scope, etag):
        await send_json(scope, send, 304, b"", headers[1:])
        return
    await send_json(scope, send, 200, payload, headers)


@dataclass(frozen=True, slots=True)
class MetadataEndpoint:
    """The metadata document: the policy, the tables and the keys, never what a request says, decide what it says."""

    registry: Registry
    trusts: Trusts
    routes: Sequence[Route[Any]]
    clock: Callable[[], float] = time.time
    max_age: int = JWKS_MAX_AGE

    @classmethod
    def of(cls, parts: Parts, routes: Sequence[Route[Any]]) -> Self:
        return cls(parts.asking.registry, parts.asking.workloads.trusts, routes, parts.asking.clock, parts.jwks_max_age)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.registry.refresh_if_possible()
        apis = (await self.registry.apis()).values()
        policy = exchange_of(scope).in_force.policy
        scopes = (s for api in apis for s in api.scopes)
        algorithms = [key.algorithm for key in await self.registry.published(self.clock())]
        audiences = [api.audience for api in apis]
        trusts = (await self.trusts.read_last()).values()
        document = server_metadata(policy, scopes, advertised(self.routes, policy), algorithms, audiences, trusts)
        await _send_document(scope, send, document, b"application/json", self.max_age)


@dataclass(frozen=True, slots=True)
class JwksEndpoint:
    """The published signing keys, public halves only. `max_age` is the one that the schedule counts on (KEY-19)."""

    registry: Registry
    clock: Callable[[], float] = time.time
    max_age: int = JWKS_MAX_AGE

    @classmethod
    def of(cls, parts: Parts) -> Self:
        return cls(parts.asking.registry, parts.asking.clock, parts.jwks_max_age)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.registry.refresh_if_possible()
        document = public_key_set(await self.registry.published(self.clock()))
        await _send_document(scope, send, document, b"application/jwk-set+json", self.max_age)
