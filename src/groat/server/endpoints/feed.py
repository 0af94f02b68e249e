"""The feed of one process: what `GET /revocations` hands out, made anew when something was taken back.

Whoever asks is given what the process has, which is as of LOOK_SECONDS ago at most: a stranger who asks often makes it
read and sign no more. It is made anew, too, once half of its life is over.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from starlette.types import Scope

from groat.protocol import jose
from groat.protocol.jwk import base64url_encode
from groat.protocol.revocation_feed import LONGEST, TYP, TakenBack, feed_claims
from groat.server.http.exchange import hurried
from groat.server.registry.registry import Registry
from groat.server.store import Store
from groat.server.unavailable import Unavailable

LOOK_SECONDS: Final = 0.25
MAX_TAGS: Final = 8


@dataclass(frozen=True, slots=True)
class Edition:
    """One signed feed. `half`: the half of a lifetime that it was made in, from the epoch on; `ends`: epoch seconds."""

    seq: int
    half: int
    kid: str
    body: bytes
    ends: float

    @property
    def etag(self) -> bytes:
        """Weak: every replica signs its own, and all say the same."""
        return b'W/"%d.%d"' % (self.seq, self.half)

    def is_known_by(self, tags: bytes) -> bool:
        """Whether the tags of If-None-Match name this one, or one that a clock which is ahead has made since."""
        for tag in tags.split(b",", MAX_TAGS)[:MAX_TAGS]:
            seq, _, half = tag.strip().removeprefix(b"W/").strip(b'"').partition(b".")
            if seq == b"%d" % self.seq and half.isdigit() and len(half) < 20 and int(half) >= self.half:
                return True
        return False


class _Waiting(NamedTuple):
    scope: Scope
    answer: "asyncio.Future[None]"


@dataclass(slots=True)
class Feed:
    """`clock`: epoch seconds; `lifetime`: of an edition, in seconds."""

    registry: Registry
    store: Store
    issuer: str
    clock: Callable[[], float]
    lifetime: int
    _edition: Edition | None = field(default=None, init=False)
    _looked: float = field(default=float("-inf"), init=False)  # loop time
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _waiting: dict[int, _Waiting] = field(default_factory=dict, init=False)
    _watch: "asyncio.Task[None] | None" = field(default=None, init=False)

    async def current(self) -> Edition:
        """The edition in force. Raises Unavailable once the last one is over and none can be made."""
        async with self._lock:
            loop, edition, now = asyncio.get_running_loop(), self._edition, self.clock()
            if edition is None or now >= edition.ends or loop.time() - self._looked >= LOOK_SECONDS:
                try:
                    edition = await self._look(now)
                except Unavailable:
                    if edition is None or now >= edition.ends:
                        raise
                finally:
                    self._looked = loop.time()
        return edition

    async def _look(self, now: float) -> Edition:
        seq, half, edition = await self.store.revocation_seq(), int(now * 2 // self.lifetime), self._edition
        kid = (await self.registry.signer(now)).public.kid
        if edition is None or (edition.seq, edition.half, edition.kid) != (seq, half, kid):
            self._edition = await self._make(seq, half, int(now))
            if edition is None or edition.seq != seq:
                self._tell()  # of what only goes on for longer whoever waits hears when his time is over
            return self._edition
        return edition

    async def _make(self, seq: int, half: int, now: int) -> Edition:
        """What is read after its number is as new as that at least; what is newer comes once more, by the next one."""
        await self.registry.refresh()
        claims = feed_claims(self.issuer, seq, await self._taken_back(now), now, self.lifetime)
        signer = await self.registry.signer(now)
        unsigned = jose.signing_input(_header(signer.public.algorithm, signer.public.kid), claims)
        body = unsigned + b"." + base64url_encode(await signer.sign(unsigned))
        return Edition(seq, half, signer.public.kid, body, now + self.lifetime)

    async def _taken_back(self, now: int) -> TakenBack:
        keys = await self.registry.signing_keys()
        return TakenBack(
            await self.store.cuts(),
            {api.name: api.audience for api in (await self.registry.apis()).values()},
            await self.store.disabled_since(now - LONGEST),
            [key.kid for key in keys if key.revoked and (key.removes_at or 0) + LONGEST > now],
            await self.store.taken_back(now),
        )

    # Who waits

    async def news(self, scope: Scope, seconds: float) -> None:
        """Return once there is another edition, or the time is over, or whoever waits should wait no longer."""
        loop = asyncio.get_running_loop()
        self._waiting[id(scope)] = waiting = _Waiting(scope, loop.create_future())
        if self._watch is None or self._watch.done():
            self._watch = loop.create_task(self._look_out())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await waiting.answer
        finally:
            del self._waiting[id(scope)]

    async def _look_out(self) -> None:
        """For as long as somebody waits: one look for all of them."""
        while self._waiting:
            await asyncio.sleep(LOOK_SECONDS)
            with contextlib.suppress(Unavailable):
                await self.current()
            self._answer(hurried(waiting.scope) for waiting in self._waiting.values())

    def _tell(self) -> None:
        self._answer(True for _ in self._waiting)

    def _answer(self, chosen: Iterable[bool]) -> None:
        for waiting, now in zip(self._waiting.values(), chosen, strict=True):
            if now and not waiting.answer.done():
                waiting.answer.set_result(None)


@lru_cache(maxsize=64)
def _header(algorithm: str, kid: str) -> bytes:
    return jose.encode_header(algorithm, kid, TYP)
