"""`GET /status/LIST` and `GET /status`: Token Status Lists, and which there are (draft-ietf-oauth-status-list 8, 9)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from starlette.types import Receive, Scope, Send

from groat.protocol import strict_json
from groat.protocol.errors import NotAcceptable, NotOffered
from groat.protocol.metadata import issuer_path
from groat.protocol.status_list import MEDIA_TYPE
from groat.server.endpoints.parts import Parts
from groat.server.endpoints.statuses import StatusLists
from groat.server.http.answers import etag_matches, send_json
from groat.server.http.exchange import header_values

PATH: Final = "/status"
CACHED_PART: Final = 10  # of a ttl: as long as caches on the way may keep it, which adds to what verifiers do
_ACCEPTED: Final = frozenset({MEDIA_TYPE, "application/*", "*/*"})


@dataclass(frozen=True, slots=True)
class StatusListEndpoint:
    """One list. Refusals are raised, `Entrance` writes them."""

    lists: StatusLists
    prefix: str

    @classmethod
    def of(cls, parts: Parts) -> Self:
        return cls(parts.lists, issuer_path(parts.lists.issuer) + PATH + "/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if b"time=" in scope["query_string"]:
            raise NotOffered("status_time", "what a list said at another time is not kept")
        if not accepts(value.decode("latin-1") for value in header_values(scope, b"accept")):
            raise NotAcceptable("status_form", f"lists are served as {MEDIA_TYPE} alone")
        made = await self.lists.current(scope["path"].removeprefix(self.prefix))
        kept = max(1, self.lists.spans.list_ttl // CACHED_PART)
        headers = [
            (b"cache-control", b"public, max-age=%d" % kept),
            (b"etag", made.etag),
            (b"vary", b"Accept, Accept-Encoding"),
        ]
        if etag_matches(scope, made.etag):
            await send_json(scope, send, 304, b"", headers)
            return
        headers.append((b"content-type", MEDIA_TYPE.encode()))
        packed = _takes_gzip(scope)
        if packed:
            headers.append((b"content-encoding", b"gzip"))
        await send_json(scope, send, 200, made.packed if packed else made.body, headers)


@dataclass(frozen=True, slots=True)
class AggregationEndpoint:
    """Which lists there are, for whoever fetches them ahead (9.1 of the draft)."""

    lists: StatusLists

    @classmethod
    def of(cls, parts: Parts) -> Self:
        return cls(parts.lists)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        document = strict_json.dumps({"status_lists": await self.lists.live()})
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-cache")]
        await send_json(scope, send, 200, document, headers)


def accepts(values: Iterable[str]) -> bool:
    """Whether Accept takes a list as a JWT: there is none, or a range of it fits that is not refused (q=0)."""
    ranges = [part for part in ",".join(values).split(",") if part.strip()]
    for part in ranges:
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if media in _ACCEPTED and not any(one.replace(" ", "").rstrip("0.") == "q=" for one in parameters):
            return True
    return not ranges


def _takes_gzip(scope: Scope) -> bool:
    for part in b",".join(header_values(scope, b"accept-encoding")).split(b","):
        coding, *parameters = (piece.strip().lower() for piece in part.split(b";"))
        if coding == b"gzip":
            return not any(one.replace(b" ", b"").rstrip(b"0.") == b"q=" for one in parameters)
    return False
