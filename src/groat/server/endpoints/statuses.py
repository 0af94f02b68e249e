"""What the status lists say, computed: from the cuts, the clients, the tokens that were taken back and their records.

A list has no bits in the store. It is read anew when the number of the feed has moved, and only while somebody asks.
"""

import asyncio
import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from groat.protocol import jose
from groat.protocol.errors import NotFound
from groat.protocol.jwk import base64url_encode
from groat.protocol.revocation import CutKind, Cuts
from groat.protocol.revocation_feed import LONGEST
from groat.protocol.status_list import LIST_ID, TYP, Place, Status, encode_list, list_claims, list_uri
from groat.server.endpoints.feed import Feed
from groat.server.registry.registry import Registry
from groat.server.settings.slices import Revocation
from groat.server.store import Store
from groat.server.store.records import ListRecord

# What was issued while a client was cut off or disabled has its record by then; its second look finds it.
SETTLED_SECONDS: Final = 3.0
EVERY_SECOND: Final = 2**62
Statuses = dict[int, int]


@dataclass(slots=True)
class StatusBook:
    """Of all lists of the server. `affected`: clients whose tokens are over, with the second or the status."""

    registry: Registry
    store: Store
    _seq: int = field(default=-1, init=False)
    _cuts: Cuts = field(default_factory=Cuts, init=False)
    _affected: dict[str, tuple[int, Status]] = field(default_factory=dict, init=False)
    _since: float = field(default=0.0, init=False)  # loop time
    _settled: bool = field(default=True, init=False)
    _of_clients: dict[str, Statuses] = field(default_factory=dict, init=False)
    _of_tokens: dict[str, Statuses] = field(default_factory=dict, init=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def statuses(self, record: ListRecord, seq: int, now: float) -> tuple[Statuses, Status]:
        """What the list says of its places, and of those that are not named. Raises StoreUnavailable.

        `seq`: the number of the feed, as of a moment ago.
        """
        async with self._lock:
            if seq != self._seq:
                await self._read(seq, int(now))
            elif not self._settled and asyncio.get_running_loop().time() - self._since >= SETTLED_SECONDS:
                self._of_clients, self._settled = await self._issued(), True
        api = (await self.registry.apis()).get(record.api)
        if api is None or record.not_before < self._cuts.of(CutKind.API, record.api):
            return {}, Status.INVALID
        return self._of_clients.get(record.list_id, {}) | self._of_tokens.get(record.list_id, {}), Status.VALID

    async def _read(self, seq: int, now: int) -> None:
        cuts, disabled = await self.store.cuts(), await self.store.disabled_since(now - LONGEST)
        affected = {
            cut.subject: (cut.not_before, Status.INVALID)
            for cut in cuts
            if cut.kind is CutKind.CLIENT and cut.not_before + LONGEST > now
        }
        for client_id, removed in disabled.items():
            affected[client_id] = EVERY_SECOND, Status.INVALID if removed else Status.SUSPENDED
        tokens: dict[str, Statuses] = {}
        for token in await self.store.taken_back(now):
            list_id, _, index = token.listed.partition("~")
            if index:
                tokens.setdefault(list_id, {})[int(index)] = Status.INVALID
        await self.registry.refresh()
        if affected != self._affected:
            self._affected, self._since = affected, asyncio.get_running_loop().time()
            self._of_clients, self._settled = await self._issued(), not affected
        self._of_tokens, self._cuts, self._seq = tokens, Cuts(cuts), seq

    async def _issued(self) -> dict[str, Statuses]:
        """By the records of what was issued to these clients."""
        found: dict[str, Statuses] = {}
        rows = await self.store.issued_to(list(self._affected)) if self._affected else ()
        for client_id, token_id, issued_at in rows:
            before, status = self._affected[client_id]
            if issued_at < before and (place := Place.of(token_id)) is not None:
                found.setdefault(place.list_id, {})[place.at] = status
        return found


@dataclass(frozen=True, slots=True)
class Made:
    """One signed list; `until`: epoch seconds from which it is made anew, whatever it says."""

    says: tuple[Statuses, Status]
    kid: str
    until: float
    body: bytes
    packed: bytes
    etag: bytes


@dataclass(slots=True)
class StatusLists:
    """Those of one process. `clock`: epoch seconds."""

    feed: Feed
    book: StatusBook
    issuer: str
    spans: Revocation
    clock: Callable[[], float]
    _records: dict[str, ListRecord] = field(default_factory=dict, init=False)
    _made: dict[str, Made] = field(default_factory=dict, init=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def live(self) -> list[str]:
        """The addresses of the lists that there are."""
        records = await self.feed.store.status_lists(int(self.clock()))
        return sorted(list_uri(self.issuer, record.list_id) for record in records)

    async def current(self, list_id: str) -> Made:
        """The list as it is now, or was a moment ago. Raises NotFound, Unavailable."""
        now, seq = self.clock(), (await self.feed.current()).seq
        record = await self._record(list_id, now)
        says = await self.book.statuses(record, seq, now)
        kid = (await self.feed.registry.signer(now)).public.kid
        async with self._lock:
            made = self._made.get(list_id)
            if made is None or (made.says, made.kid) != (says, kid) or now >= made.until:
                made = self._made[list_id] = await self._make(list_id, says, int(now))
        return made

    async def _record(self, list_id: str, now: float) -> ListRecord:
        record = self._records.get(list_id)
        if record is None and LIST_ID.fullmatch(list_id):  # one that was opened since, or none
            found = await self.feed.store.status_lists(int(now))
            self._records = {one.list_id: one for one in found}
            self._made = {name: made for name, made in self._made.items() if name in self._records}
            record = self._records.get(list_id)
        if record is None or record.ends_at <= now:
            raise NotFound("status_list", "there is no such list, or its last token is over")
        return record

    async def _make(self, list_id: str, says: tuple[Statuses, Status], now: int) -> Made:
        statuses, fill = says
        encoded = await asyncio.to_thread(encode_list, statuses, fill=fill)
        lifetime = self.spans.list_lifetime
        claims = list_claims(list_uri(self.issuer, list_id), now, lifetime, self.spans.list_ttl, encoded)
        signer = await self.feed.registry.signer(now)
        unsigned = jose.signing_input(_header(signer.public.algorithm, signer.public.kid), claims)
        body = unsigned + b"." + base64url_encode(await signer.sign(unsigned))
        etag = b'"%s"' % hashlib.sha256(body).hexdigest()[:32].encode()
        packed = await asyncio.to_thread(gzip.compress, body, mtime=0)
        return Made(says, signer.public.kid, now + lifetime / 2, body, packed, etag)


@lru_cache(maxsize=64)
def _header(algorithm: str, kid: str) -> bytes:
    return jose.encode_header(algorithm, kid, TYP)
