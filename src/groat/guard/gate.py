"""The guard as an ASGI application: a check, the API's metadata, and what a balancer asks.

A proxy lets a request through for 2xx alone (Envoy: for 200), so whatever goes wrong here must end in something else.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from groat.guard.demand import Misasked
from groat.guard.dialects import CHECK, Dialect, header_lines, peer_of
from groat.guard.figures import CONTENT_TYPE, Ages, Figures
from groat.guard.identity import identity_headers
from groat.protocol import strict_json
from groat.protocol.errors import KeysUnavailable, VerificationError
from groat.protocol.jwk import printable
from groat.server.connection.crowd import Crowd
from groat.server.log.event_log import EventLog, redact
from groat.server.log.scarce import ScarceLines
from groat.verifier.answers import Answer
from groat.verifier.certificates import Connection
from groat.verifier.protected_resource import READS, ApiRequest, ProtectedResource

Send = Callable[[Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]

LOOK_SECONDS: Final = 1.0
_NO_STORE: Final = (b"cache-control", b"no-store")
_EMPTY: Final = (b"content-length", b"0")  # which a 204 says by itself


def _answer(status: int, body: bytes, content_type: str = "application/json", *more: tuple[str, str]) -> Answer:
    headers = (("content-type", content_type), ("content-length", str(len(body))), ("cache-control", "no-store"), *more)
    return Answer(status, headers, body)


def _said(status: int, words: str, *more: tuple[str, str]) -> Answer:
    return _answer(status, strict_json.dumps({"detail": words}), "application/json", *more)


# 500, since neither the caller nor a neighbour is at fault: it lasts until the operator has read the log.
_MISASKED: Final = _said(500, "The guard is not asked as it must be. Its log says why.")
_NOTHING_HERE: Final = _said(404, "There is nothing here.")
_READ_ONLY: Final = _said(405, "This is for reading.", ("allow", "GET, HEAD"))
_ALIVE: Final = _answer(200, b'{"status":"ok"}')
_UNREADY: Final = _answer(
    503, b'{"status":"unavailable","reason":"key_unavailable"}', "application/json", ("retry-after", "1")
)


@dataclass(slots=True)
class Gate:
    """Answers a proxy's checks about one API. `crowd`: what its connections are members of."""

    resource: ProtectedResource
    dialect: Dialect
    figures: Figures
    crowd: Crowd
    log: EventLog
    ready: bool = field(default=False, init=False)
    _lines: ScarceLines = field(default_factory=ScarceLines, init=False)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        path: bytes = scope["raw_path"]
        if path == CHECK or path.startswith(CHECK + b"/"):
            await self._check(scope, send)
        else:
            await _send(scope, send, self._other(scope))

    async def _check(self, scope: Any, send: Send) -> None:
        try:
            check = self.dialect(scope)

            def lines(name: str) -> list[bytes]:
                return header_lines(scope, name.encode("latin-1"))

            request = ApiRequest(
                lines,
                check.query,
                check.method,
                lambda: check.target.decode("latin-1"),
                connection=lambda: Connection(peer_of(scope), None, lines),
            )
            caller = await self.resource.aadmit(request, check.demand)
        except Misasked as error:
            self._misasked(error)
            await _send(scope, send, _MISASKED)
        except VerificationError as error:
            await _send(scope, send, self.resource.refusal(error))
        else:
            headers = [*identity_headers(caller), _NO_STORE]
            if check.passes != 204:
                headers.append(_EMPTY)
            await send({"type": "http.response.start", "status": check.passes, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

    def _other(self, scope: Any) -> Answer:
        method, path = scope["method"], scope["path"]
        if (document := self.resource.public(method, path)) is not None:
            return document
        known: dict[str, Callable[[], Answer]] = {
            "/livez": lambda: _ALIVE,
            "/readyz": lambda: _ALIVE if self.ready else _UNREADY,
            "/metrics": self._metrics,
        }
        if path not in known:
            where = printable(
                redact(path.encode("utf-8", "replace")).decode()
            )  # before it is cut: a JWT has its dots yet
            self._misasked(Misasked("nowhere", f"nothing is at {where}; checks are at {CHECK.decode()}"))
            return _NOTHING_HERE
        return known[path]() if method in READS else _READ_ONLY

    def _metrics(self) -> Answer:
        ages = Ages(self.resource.verifier.jwks_age(), self.resource.verifier.status_age())
        return _answer(200, self.figures.render(ages, self.crowd.tally.cut), CONTENT_TYPE)

    def _misasked(self, error: Misasked) -> None:
        """Count it, and tell the operator, some lines a minute for each kind: callers may cause many."""
        self.figures.misasked(error.kind)
        held_back = self._lines.admit(error.kind, time.monotonic())
        if held_back is None:
            return
        more = {"held_back": held_back} if held_back else {}
        self._tell("warning" if error.kind == "nowhere" else "error", "guard.misasked", {"hint": error.hint, **more})

    def _tell(self, level: str, event: str, facts: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # decisions go on where the log takes nothing
            self.log.emit(level, event, facts)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        chore = asyncio.create_task(self._keep_keys())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        chore.cancel()
        await send({"type": "lifespan.shutdown.complete"})

    async def _keep_keys(self) -> None:
        """Have keys at hand without waiting for a token, and know whether there are: for as long as the guard runs.

        How often the issuer is asked is the verifier's to say, also while it does not answer.
        """
        told = False
        while True:
            hint = ""
            try:
                await self.resource.verifier.warm()
            except Exception as error:  # whatever it is, the guard goes on looking
                what = error.hint if isinstance(error, KeysUnavailable) else type(error).__name__
                hint = f"the keys of {' and '.join(self.resource.verifier.issuers)} cannot be had: {what}"
            if self.ready is bool(hint) or not told:
                told, self.ready = True, not hint
                if hint:
                    self._tell("error", "guard.unready", {"hint": hint})
                else:
                    self._tell("info", "guard.ready", {})
            await asyncio.sleep(LOOK_SECONDS)


async def _send(scope: Any, send: Send, answer: Answer) -> None:
    """HEAD gets the headers alone."""
    body = b"" if scope["method"] == "HEAD" else answer.body
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.raw_headers})
    await send({"type": "http.response.body", "body": body})
