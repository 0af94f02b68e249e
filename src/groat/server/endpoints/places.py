"""Places in status lists for the tokens of one process: leased from the store by the block, drawn in random order.

A block is one write, however many tokens come of it. Nobody else ever has a place of it, so what a process leaves over
when it ends, or when its list closes, stays empty.
"""

import asyncio
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from groat.protocol.binding import Confirmation
from groat.protocol.errors import OAuthError, TemporarilyUnavailable
from groat.protocol.grants import decide_grant
from groat.protocol.models import Api, AuthenticatedClient, Grant, TokenRequest
from groat.protocol.revocation import issuable
from groat.protocol.status_list import KEEP, Place, status_claim
from groat.server.http.exchange import Exchange
from groat.server.store import Store
from groat.server.store.records import Lease, LeaseWish

LEAST: Final = 256  # places of a block
MOST: Final = 16_384
_KEY_BYTES: Final = 8
BUSY_SECONDS: Final = 30.0  # a block that lasts no longer is followed by a larger one


class Listed(NamedTuple):
    """The place of a token, and what it was drawn for: the token is given out for nothing else."""

    place: Place
    grant: Grant
    issued_at: int


@dataclass(slots=True)
class _Block:
    lease: Lease
    not_before: int
    since: float  # loop time
    left: list[int]


@dataclass(slots=True)
class Places:
    """`clock`: epoch seconds."""

    store: Store
    clock: Callable[[], float]
    _blocks: dict[str, _Block] = field(default_factory=dict, init=False)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict, init=False)

    async def draw(
        self, request: TokenRequest, client: AuthenticatedClient, exchange: Exchange, holds: Confirmation
    ) -> Listed | None:
        """The place of the token that this request will get, as far as can be said before anything is used up.

        None where it gets none, or one that is not listed. Raises StoreUnavailable, TemporarilyUnavailable.
        """
        policy = exchange.in_force.policy
        try:
            grant = decide_grant(request, client, policy, holds, exchange.presented)
        except OAuthError:
            return None  # refused when its turn has come
        if not grant.api.listed:
            return None
        now = int(self.clock())
        issued_at = issuable(grant.not_before, now) if grant.not_before > now else now
        return Listed(await self.next(grant.api, now, policy.token_lifetime), grant, issued_at)

    async def next(self, api: Api, now: int, open_for: int) -> Place:
        """A place for a token of this API that nobody else has. `open_for`: seconds that a new list takes tokens."""
        block = self._blocks.get(api.name)
        while block is None or not block.left or now >= block.lease.closes_at or block.not_before != api.not_before:
            async with self._locks.setdefault(api.name, asyncio.Lock()):
                if self._blocks.get(api.name) is block:
                    self._blocks[api.name] = await self._lease(api, now, open_for, block)
            block = self._blocks[api.name]
        return Place(block.lease.list_id, block.left.pop())

    async def _lease(self, api: Api, now: int, open_for: int, before: _Block | None) -> _Block:
        at, size = asyncio.get_running_loop().time(), LEAST
        if before is not None and not before.left and at - before.since < BUSY_SECONDS:
            size = min(2 * before.lease.size, MOST)
        wish = LeaseWish(api.name, api.not_before, size, now, secrets.token_urlsafe(9), open_for, open_for + KEEP)
        lease = await self.store.lease(wish)
        return _Block(lease, api.not_before, at, _shuffled(lease.start, lease.size))


def _shuffled(start: int, size: int) -> list[int]:
    """So many numbers from there on, sorted by random keys: one call into the operating system serves a block."""
    keys = os.urandom(_KEY_BYTES * size)
    return sorted(
        range(start, start + size), key=lambda n: keys[_KEY_BYTES * (n - start) : _KEY_BYTES * (n - start + 1)]
    )


def check_listed(listed: Listed | None, grant: Grant, issuer: str) -> str:
    """The member `status` of the token, or nothing.

    Raises TemporarilyUnavailable where the registry has changed since the place was drawn: the record of the token says
    what was so then, by which it is found if it is taken back.
    """
    if listed is None:
        if not grant.api.listed:
            return ""
    elif (grant.api.name, grant.not_before) == (listed.grant.api.name, listed.grant.not_before):
        return status_claim(issuer, listed.place)
    raise TemporarilyUnavailable("status_moved", "the API or the client was changed in this moment", retry_after=1)
