"""Whether a cluster still vouches for a token: asked beside, for a bounded time, and a yes remembered for a moment.

Only tokens come here that hold, and that a rule makes a client, so that a stranger makes nobody ask.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from groat.outbound.public_address import Networks
from groat.outbound.published import DEADLINE, Document, Refused, fetch_document
from groat.outbound.real_time import monotonic
from groat.protocol import jose
from groat.protocol.errors import JoseError
from groat.protocol.federation.foreign_token import Presented
from groat.protocol.federation.token_review import PATH, check_answer, is_answer, question
from groat.protocol.federation.trust import Review
from groat.protocol.jwk import base64url_encode
from groat.server.registry.host_turns import HostTurns, in_a_thread
from groat.server.registry.private_source import private_context, secret_of

GOOD_SECONDS: Final = 10.0  # for which a yes is believed, from when it was asked
MAX_GOOD: Final = 10_000
MAX_UNDER_WAY: Final = 64  # questions that are asked or wait for their turn
AT_ONCE, PER_HOST = 32, 8
_Key = tuple[bytes, Review]


class Unreviewed(JoseError):
    """Nobody can say whether the token counts: that is no fault of it."""

    def __init__(self, review: Review, why: str) -> None:
        super().__init__("unreviewed", f"{urlsplit(review.server).netloc} does not review tokens: {why}")


@dataclass(slots=True)
class TokenReviews:
    """Answers of clusters about tokens. `allowed`: private networks that an API server may be in."""

    allowed: Networks = ()
    clock: Callable[[], float] = time.monotonic
    turns: HostTurns = field(default_factory=lambda: HostTurns(AT_ONCE, PER_HOST))
    _good: "OrderedDict[_Key, float]" = field(default_factory=OrderedDict, init=False)
    _under_way: "dict[_Key, asyncio.Task[None]]" = field(default_factory=dict, init=False)

    def knows(self, review: Review, presented: Presented) -> bool:
        """Whether the cluster said yes a moment ago."""
        return self._good.get(_key(review, presented), float("-inf")) > self.clock()

    async def check(self, review: Review, presented: Presented) -> None:
        """Ask, with whoever asks the same now. Raises JoseError("gone"); Unreviewed where there is no answer."""
        key = _key(review, presented)
        task = self._under_way.get(key)
        if task is None:
            if len(self._under_way) >= MAX_UNDER_WAY:
                raise Unreviewed(review, f"{MAX_UNDER_WAY} questions are under way")
            task = self._under_way[key] = asyncio.create_task(self._ask(key, review, presented))
            task.add_done_callback(partial(self._done, key))
        await asyncio.shield(task)

    def _done(self, key: _Key, task: "asyncio.Task[None]") -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # somebody looked at it, if only this

    async def _ask(self, key: _Key, review: Review, presented: Presented) -> None:
        began, audiences = self.clock(), jose.audience(presented.jwt.claims)
        try:
            async with asyncio.timeout(DEADLINE), self.turns.turn(urlsplit(review.server).netloc, troubled=False):
                asked = question(_text(presented), audiences)
                answer = (await in_a_thread(partial(self._fetch, review, asked))).members
        except TimeoutError:
            raise Unreviewed(review, f"no answer within {DEADLINE:.0f} s") from None
        except Refused as error:
            raise Unreviewed(review, str(error)) from None
        if not is_answer(answer):
            raise Unreviewed(review, "the answer is no TokenReview")
        check_answer(answer, audiences, str(presented.jwt.claims["sub"]))
        self._good[key] = began + GOOD_SECONDS
        self._good.move_to_end(key)
        while self._good and (len(self._good) > MAX_GOOD or next(iter(self._good.values())) <= began):
            self._good.popitem(last=False)

    def _fetch(self, review: Review, asked: bytes) -> Document:
        """In a thread. Raises Refused."""
        deadline = monotonic() + DEADLINE
        context = private_context(review.ca_file) if review.ca_file else None
        bearer = secret_of(review.token_file)
        return fetch_document(review.server.rstrip("/") + PATH, self.allowed, context, bearer, deadline, asked)


def _text(presented: Presented) -> str:
    return (presented.jwt.signing_input + b"." + base64url_encode(presented.jwt.signature)).decode("ascii")


def _key(review: Review, presented: Presented) -> _Key:
    return hashlib.sha256(presented.jwt.signing_input + presented.jwt.signature).digest(), review
