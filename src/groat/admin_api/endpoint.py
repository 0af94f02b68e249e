"""The admin API as one endpoint: finds the row, lets the caller in, reads, works, answers."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from starlette.types import Receive, Scope, Send

from groat.admin_api.callers import Asker, Gate, demand
from groat.admin_api.openapi import PATH, document
from groat.admin_api.reading import read_document, read_query
from groat.admin_api.rows import PREFIX, Ask, Desk, Row
from groat.admin_api.table import ROWS
from groat.admin_api.working import Reply, work
from groat.protocol import strict_json
from groat.protocol.errors import MethodNotAllowed, NotFound
from groat.server.http.admission import Admission
from groat.server.http.answers import Headers, etag_matches, send_json
from groat.server.http.exchange import header_values
from groat.server.http.forms import read_body
from groat.server.operations.operator import Operator

MAX_AT_ONCE: Final = 8  # requests in work; they share the process with whoever asks for tokens
_SEGMENT: Final = re.compile(r"\{(\w+)\}")
_PRIVATE: Final = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of one path by their methods, and what stands in the path's braces."""

    rows: Mapping[str, Row]
    path: Mapping[str, str]

    @property
    def allowed(self) -> str:
        """The methods, as a header lists them."""
        return ", ".join([*self.rows, *(["HEAD"] if "GET" in self.rows else [])])


class Paths:
    """Which rows a path has: the first pattern that fits, literal ones before those with braces."""

    def __init__(self, rows: Iterable[Row]) -> None:
        patterns: dict[str, dict[str, Row]] = {}
        for row in rows:
            patterns.setdefault(row.path, {})[row.method] = row
        self._patterns = [
            (re.compile(PREFIX + _SEGMENT.sub(r"(?P<\1>[^/]+)", path)), patterns[path])
            for path in sorted(patterns, key=lambda path: (path.count("{"), path))
        ]

    def find(self, raw: str) -> Found:
        """`raw`: the path as it was sent, where a slash of an id comes as %2F. Raises NotFound."""
        for pattern, rows in self._patterns:
            if match := pattern.fullmatch(raw):
                named = {name: unquote(text) for name, text in match.groupdict().items()}
                if "".join(named.values()).isprintable():  # nothing has another name, and PostgreSQL has no NUL
                    return Found(rows, named)
        raise NotFound("path", "nothing is at this path of the admin API")


@dataclass(frozen=True, slots=True)
class AdminApi:
    """`GET /admin/openapi.json`, and everything below /admin/v1.

    `acting`: the operator in the name of who asks. Not bounded here: what one operation on the store may take; the
    store sees to that.
    """

    desk: Desk
    gate: Gate
    acting: Callable[[Asker], Operator]
    admission: Admission = field(default_factory=lambda: Admission(MAX_AT_ONCE))
    paths: Paths = field(default_factory=lambda: Paths(ROWS))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == PATH:
            await _describe(scope, send)
            return
        asker = await self.gate.admit(scope)  # before anything is said of what there is
        found = self.paths.find(scope["raw_path"].decode("ascii"))
        row = found.rows.get("GET" if scope["method"] == "HEAD" else scope["method"])
        if row is None:
            raise MethodNotAllowed("method", found.allowed)
        demand(asker, row.access)
        with self.admission:
            raw = await read_body(header_values(scope, b"content-length"), receive, self.admission)
            query, body = read_query(row, scope), read_document(row, scope, raw)
            reply = await work(row, Ask(self.desk, self.acting(asker), found.path, query, body), scope)
        await _send(scope, send, reply)


async def _describe(scope: Scope, send: Send) -> None:
    """For everybody: it is the same for every server of this version."""
    if scope["method"] not in ("GET", "HEAD"):
        raise MethodNotAllowed("method", "GET, HEAD")
    await send_json(scope, send, 200, document(), [(b"content-type", b"application/json")])


async def _send(scope: Scope, send: Send, reply: Reply) -> None:
    headers: Headers = list(_PRIVATE)
    if reply.tag:
        headers.append((b"etag", reply.tag.encode()))
    if reply.location:
        headers.append((b"location", reply.location.encode("ascii")))
    read = scope["method"] in ("GET", "HEAD")
    known = read and reply.tag and etag_matches(scope, reply.tag.encode())
    await send_json(scope, send, 304 if known else reply.status, strict_json.dumps(reply.document), headers)
