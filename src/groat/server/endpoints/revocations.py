"""`GET /revocations`: what was taken back, for verifiers that ask nobody about a token; with `wait` once it is news."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from groat.protocol.errors import InvalidRequest
from groat.protocol.revocation_feed import MEDIA_TYPE
from groat.server.endpoints.feed import Edition, Feed
from groat.server.endpoints.parts import Parts
from groat.server.http.answers import send_json
from groat.server.http.exchange import exchange_of, header_values, hurried
from groat.server.http.seats import Seats
from groat.server.log.tally import Tally

MAX_QUERY_BYTES: Final = 256
AGAIN_SECONDS: Final = 5  # for whoever finds no seat


@dataclass(frozen=True, slots=True)
class RevocationsEndpoint:
    """Refusals are raised, `Entrance` writes them. `longest`: seconds that somebody may wait."""

    feed: Feed
    seats: Seats
    tally: Tally
    longest: int

    @classmethod
    def of(cls, parts: Parts) -> Self:
        return cls(parts.feed, Seats(), parts.audit.tally, parts.revocation.feed_wait)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        seconds = min(_wait(scope["query_string"]), self.longest)
        tags = b",".join(header_values(scope, b"if-none-match"))
        edition, again = await self.feed.current(), 0
        if seconds and edition.is_known_by(tags) and not hurried(scope):
            with self._seat(scope) as seated:
                again = 0 if seated else AGAIN_SECONDS
                if seated:
                    await self.feed.news(scope, seconds)
            edition = await self.feed.current()
        await _send(scope, send, edition, tags, again)

    @contextlib.contextmanager
    def _seat(self, scope: Scope) -> Iterator[bool]:
        exchange = exchange_of(scope)
        try:
            with self.seats.seat(exchange.source, exchange.in_force.room.connections) as seated:
                self.tally.waiting_polls = self.seats.taken
                yield seated
        finally:
            self.tally.waiting_polls = self.seats.taken


def _wait(query: bytes) -> int:
    """The parameter `wait`, in seconds; what else there is is ignored. Raises InvalidRequest."""
    if len(query) > MAX_QUERY_BYTES:
        raise InvalidRequest("query", "the query is longer than anything that is asked here")
    found = [value for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True) if name == "wait"]
    if not found:
        return 0
    if len(found) > 1 or not (found[0].isascii() and found[0].isdigit() and len(found[0]) <= 9):
        raise InvalidRequest("wait", "wait is a number of seconds, once")
    return int(found[0])


async def _send(scope: Scope, send: Send, edition: Edition, tags: bytes, again: int) -> None:
    headers = [(b"etag", edition.etag), (b"cache-control", b"no-cache")]
    if again:
        headers.append((b"retry-after", b"%d" % again))
    if edition.is_known_by(tags):
        await send_json(scope, send, 304, b"", headers)
        return
    await send_json(scope, send, 200, edition.body, [(b"content-type", MEDIA_TYPE.encode()), *headers])
