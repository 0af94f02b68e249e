"""uvicorn's HTTP/1.1 protocol with one write per response, and with bounds on what a request head may take.

A token costs less than uvicorn spends on a request of any kind: what every request needs is done here in fewer steps
(docs/decisions/0006-hot-path.md), the rest is uvicorn's. httptools bounds neither the size of a head nor the time it
takes, so an anonymous peer could fill the memory or hold connections for ever.
"""

import asyncio
import math
import select
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from groat.protocol.errors import InvalidRequest
from groat.protocol.token_request import MAX_ESCAPES
from groat.server.admission import MAX_IN_FLIGHT
from groat.server.connection.cycle import OneWriteCycle
from groat.server.connection.lingering import linger
from groat.server.connection.shedding import Shedding
from groat.server.http import refusal_body

MAX_HEAD_BYTES: Final = 32 * 1024  # of an unfinished head one chunk more may be held
HEAD_SECONDS: Final = 10.0
MAX_REMEMBERED_TARGET: Final = 64
MAX_PIPELINED: Final = 1000  # requests that wait for the answer to the one before them; each takes kilobytes
# Longer than a load balancer that follows our recipes keeps an idle connection, so that it is the one who closes:
# whoever closes an idle connection may meet a request that is on its way (docs/decisions/0016-idle-connections.md).
DRAIN_SECONDS: Final = 3.0
KEEP_ALIVE_SECONDS: Final = 75
_LATE_SECONDS: Final = 0.05
_MALFORMED: Final = b"".join(
    (
        b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/json\r\n",
        b"cache-control: no-store\r\npragma: no-cache\r\n",
        b"content-length: %d\r\n" % len(refusal_body(InvalidRequest("head"))),
    )
)


@lru_cache(maxsize=64)  # nearly every request has one of a few; a long one is nobody's business to remember
def _parse_short_target(url: bytes) -> tuple[str, bytes, bytes]:
    return _parse_target(url)


def _parse_target(url: bytes) -> tuple[str, bytes, bytes]:
    parsed = httptools.parse_url(url)
    path = parsed.path.decode("ascii")
    # A path of thousands of escapes is nowhere, decoded or not.
    return unquote(path) if path.count("%") <= MAX_ESCAPES else path, parsed.path, parsed.query or b""


def parse_target(url: bytes) -> tuple[str, bytes, bytes]:
    """Path, path as sent, and query of a request target (RFC 9112 3.2). Raises httptools.HttpParserInvalidURLError."""
    return _parse_short_target(url) if len(url) <= MAX_REMEMBERED_TARGET else _parse_target(url)


class OneWriteProtocol(HttpToolsProtocol):
    """One connection. A head over 32 KiB is answered 400, one that takes over 10 seconds is cut off.

    The same 32 KiB are the bound of what surrounds a chunked body: extensions and trailers, which nobody reads.
    """

    peer: tuple[str, int] | None = None  # as accepted: a connection that was reset since does not know any more
    _progress = 0  # complete heads, pieces of bodies and complete bodies so far
    _in_head = True
    _answering: Any = None  # a OneWriteCycle, or None before the first; `cycle` is the last of those sent at once
    _head_bytes = 0
    _had_large_chunk = False
    _head_timer: asyncio.TimerHandle | None = None
    _draining = False
    _idle_since = math.inf  # loop time; infinity while a request is on its way or being answered

    def shutdown(self) -> None:
        """Let the peer send one more request: it may be on its way, and closing now would reset it."""
        self._draining = True
        if self._is_busy():
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(DRAIN_SECONDS, self._close_if_idle)

    def _is_busy(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _close_if_idle(self) -> None:
        """Close a connection that nobody uses: timers run before reading, so a request may be here unread."""
        if self._is_busy() or self.transport.is_closing():
            return
        if self._has_unread():
            self.loop.call_later(_LATE_SECONDS, self._close_if_idle)
        else:
            self.transport.close()

    def _has_unread(self) -> bool:
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.client = self.client or self.peer
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._cut_off)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        self._end_answering()
        super().connection_lost(exc)

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = math.inf

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:  # and nothing more is read until all of them are answered
            cycle, app = self.pipeline.pop()
            self._answering = cycle
            self._start_asgi_task(cycle, app)
            return
        self.flow.resume_reading()
        self._begin_idling()

    def _begin_idling(self) -> None:
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def timeout_keep_alive_handler(self) -> None:
        """End a connection that was idle for long; one timer for many requests is moved on only when it fires."""
        self.timeout_keep_alive_task = None
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if 0 < left < math.inf:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        elif left <= 0:
            self._close_if_idle()

    def data_received(self, data: bytes) -> None:
        if len(self.tasks) >= MAX_IN_FLIGHT and self._refused(data):  # with fewer there is a place
            return
        began_in_head, progress = self._in_head, self._progress
        if len(data) > MAX_HEAD_BYTES:
            self._had_large_chunk = True
        super().data_received(data)
        # Nearly every chunk holds a whole request; only what leaves a head or a trailer unfinished is counted.
        if progress == self._progress:
            self._unfinished(len(data))
        if not began_in_head and not self._is_busy():
            self._begin_idling()  # the rest of a body that was answered unread

    def _refused(self, data: bytes) -> bool:
        """Whether these bytes were a token request that found the process full, and are answered."""
        shedding: Shedding | None = getattr(self.app, "shedding", None)
        between = self._in_head and not self._head_bytes and not self._is_busy()
        if shedding is None or not between or self._draining or self.flow.write_paused:
            return False
        answer = shedding.refusal(data, len(self.tasks), self.server_state.default_headers)
        if answer is None:
            return False
        self._stop_timer()
        self._begin_idling()
        self.transport.write(answer)
        return True

    def _unfinished(self, size: int) -> None:
        if self.transport.get_protocol() is not self:
            return  # refused already
        self._head_bytes += size
        if self._in_head and self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._cut_off)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.logger.warning("The request head is too large.")
            self.send_400_response("The request head is too large.")

    def on_body(self, body: bytes) -> None:
        self._progress += 1
        self._head_bytes = 0
        super().on_body(body)

    def on_headers_complete(self) -> None:
        # A head in one chunk of usual size needs no counting, which is nearly every one.
        if (self._had_large_chunk or self._head_bytes) and self._head_size() > MAX_HEAD_BYTES:
            raise InvalidRequest("head")
        self._progress += 1
        self._in_head = False
        self._head_bytes = 0
        self._stop_timer()
        self._complete_scope()
        self.headers = []  # the scope keeps its own: fields of a trailer are no headers of the request (RFC 9110 6.5.1)
        previous: RequestResponseCycle | None = self.cycle  # None before the first head, whatever its type says
        self.cycle = self._new_cycle()
        if previous is None or previous.response_complete:
            self._answering = self.cycle
            self._start_asgi_task(self.cycle, self.app)
        else:  # sent before the answer to the one before it
            if len(self.pipeline) >= MAX_PIPELINED:
                raise InvalidRequest("head")
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _head_size(self) -> int:
        """Bytes of the target and the fields of a head that has come whole."""
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _complete_scope(self) -> None:
        scope: Any = self.scope
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = self.parser.get_http_version()
        scope["path"], scope["raw_path"], scope["query_string"] = parse_target(self.url)

    def _new_cycle(self) -> OneWriteCycle:
        return OneWriteCycle(
            self.scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            False,
            self.server_state.default_headers,
            asyncio.Event(),
            self.expect_100_continue,
            not self._draining and self.scope["http_version"] != "1.0" and self.parser.should_keep_alive(),
            self.on_response_complete,
        )

    def on_message_complete(self) -> None:
        self._progress += 1
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP as every other malformed request, once; `msg` is what the caller has logged."""
        if self.transport.get_protocol() is not self:
            return
        self._stop_timer()
        self._end_answering()  # this is the last answer, whatever else is being worked on
        date = b"".join(b"%s: %s\r\n" % header for header in self.server_state.default_headers)
        self.transport.write(_MALFORMED + date + b"\r\n" + refusal_body(InvalidRequest("head")))
        linger(self.transport)

    def _end_answering(self) -> None:
        if self._answering is not None:
            self._answering.end()

    def _cut_off(self) -> None:
        self._head_timer = None
        self.transport.close()
