"""uvicorn's HTTP/1.1 protocol with one write per response, and with bounds on what a connection may take.

A token costs less than uvicorn spends on a request of any kind: what every request needs is done here in fewer steps
(docs/decisions/0006-hot-path.md), the rest is uvicorn's. httptools bounds neither the size of a head nor the time it
takes nor the number of requests that come at once, so an anonymous peer could fill the memory or hold connections for
ever (docs/decisions/0037-crowds.md).
"""

import asyncio
from typing import Any, Final

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from groat.protocol.errors import InvalidRequest, PayloadTooLarge
from groat.server.connection.cycle import OneWriteCycle
from groat.server.connection.head import (
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    TOO_LARGE,
    TOO_MANY,
    check_coding,
    check_version,
    is_host,
    malformed,
    parse_target,
)
from groat.server.connection.lifetime import Lifetime
from groat.server.connection.shedding import Shedding
from groat.server.connection.states import (
    BETWEEN,
    READING,
    SECONDS,
    TRANSITIONS,
    Event,
    State,
)
from groat.server.http.admission import MAX_IN_FLIGHT
from groat.server.http.answers import refusal_body
from groat.server.http.forms import MAX_BODY_BYTES

_MALFORMED: Final = b"".join(
    (
        b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/json\r\n",
        b"cache-control: no-store\r\npragma: no-cache\r\n",
        b"content-length: %d\r\n" % len(refusal_body(InvalidRequest("head"))),
    )
)
_HEAD_END: Final = b"\r\n\r\n"
_NOTED: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect", b"upgrade"})
# What happens to every request.
_HEAD, _BODY, _WORKING, _IDLE, _REST = State.HEAD, State.BODY, State.WORKING, State.IDLE, State.REST
_BEGUN, _HEADED, _WHOLE, _ANSWERED = (
    TRANSITIONS[event] for event in (Event.BEGUN, Event.HEADED, Event.WHOLE, Event.ANSWERED)
)


class OneWriteProtocol(Lifetime):
    """One connection: what comes on it, and what goes.

    The parser gets the bytes of one request; what comes behind it waits, and is not read on, until that is answered.
    """

    _first = True  # nothing was asked before: the time for this head runs since the connection was made
    _fresh = False  # a request has begun, and was not found unfinished yet
    _piece = 0  # size of what the parser has now
    _surplus = 0  # bytes of an unfinished request but for its body, or of empty lines before one
    _body_left = 0  # of a body with Content-Length
    _hosts = 0
    _coding: bytes | None = None
    _upgrade = False
    _thrown = 0  # bytes of a body that was answered before it was whole

    # What comes

    def data_received(self, data: bytes) -> None:
        if len(self.tasks) >= MAX_IN_FLIGHT and self._refused(data):  # with fewer there is a place
            return
        if self._waiting or self.state is _WORKING:
            self._wait(self._waiting + data)
        else:
            self._take(data)

    def _refused(self, data: bytes) -> bool:
        """Whether these bytes were a token request that found the process full, and are answered."""
        shedding: Shedding | None = getattr(self.app, "shedding", None)
        between = self.state in BETWEEN and not self._tail and not self._waiting
        if shedding is None or not between or self._draining or self.flow.write_paused:
            return False
        under_way = len(self.tasks) - len(self.crowd.beside)
        answer = shedding.refusal(data, under_way, self.server_state.default_headers)
        if answer is None:
            return False
        self.state = TRANSITIONS[Event.SHED][self.state]
        self._begin_waiting()
        self.transport.write(answer)
        return True

    def _take(self, data: bytes) -> None:
        """Give the parser what belongs to one request, piece by piece; nearly always that is a head and a body."""
        at, size = 0, len(data)
        while at < size and self.state in READING:
            end = self._end_of_piece(data, at)
            self._feed(data[at:end])
            at = end
        if self.state in READING:
            self._unfinished(data)
        elif at < size and self.state is _WORKING:
            self._wait(data[at:])
        if self.held and self.state is _WORKING and not self._waiting:
            self.crowd.release(self)

    def _end_of_piece(self, data: bytes, at: int) -> int:
        """Where to stop: no request ends but at the end of its length, or behind an empty line."""
        if self._body_left:
            return min(at + self._body_left, len(data))
        if self._tail:
            found = (self._tail + data[at : at + 3]).find(_HEAD_END)
            if found >= 0:
                return at + found + 4 - len(self._tail)
        found = data.find(_HEAD_END, at)
        return len(data) if found < 0 else found + 4

    def _feed(self, piece: bytes) -> None:
        self._tail = b""
        self._piece = len(piece)
        self._surplus += self._piece
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self._ignore_upgrade()
        except httptools.HttpParserError as error:
            why = error.__context__
            if isinstance(why, PayloadTooLarge):
                self._end()
            else:
                self._malformed(why.hint if isinstance(why, InvalidRequest) else str(error))

    def _wait(self, data: bytes) -> None:
        """Keep what came behind the request that is being answered, and read no further."""
        self.flow.pause_reading()
        self.crowd.release(self)
        self._waiting = data
        self.crowd.hold(self, len(data))

    def _unfinished(self, data: bytes) -> None:
        """A chunk left a request unfinished, which few do: count it, and see to its time."""
        self._tail = b"" if data.endswith(_HEAD_END) else data[-3:]
        begun = self.state in (_HEAD, _BODY)
        if self._surplus > (MAX_HEAD_BYTES if self.state is _HEAD else 2 * MAX_HEAD_BYTES):
            self._malformed(TOO_LARGE)
            return
        if self._fresh and begun:
            self._fresh = False
            if not self._first:
                self.since = self.loop.time()
        if self.state is _HEAD:
            self._watch(self.since + SECONDS[_HEAD])
        if begun:
            self.crowd.hold(self, len(data))

    # What the parser finds

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self.presented is not None:
            self.scope["certificate"] = self.presented  # type: ignore[typeddict-unknown-key]
        if self._draining:
            self.scope["hurried"] = True  # type: ignore[typeddict-unknown-key]
        self._first = self.state is State.NEW
        self.state = _BEGUN[self.state]
        self._fresh = True
        self._surplus = self._piece
        self._body_left = self._hosts = self._thrown = 0
        self._coding, self._upgrade = None, False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of a head or of a trailer; nobody reads the latter."""
        name = name.lower()
        headers = self.headers
        headers.append((name, value))
        if len(headers) > MAX_FIELDS:
            raise malformed(TOO_MANY)
        if name in _NOTED and self.state is _HEAD:
            self._note(name, value)

    def _note(self, name: bytes, value: bytes) -> None:
        """What decides where the request ends, whether it is one, and whether its peer waits for us."""
        if name == b"host":
            self._hosts += 1
            if not is_host(value):
                raise malformed("Host is no name or address with a port")
        elif name == b"content-length":
            self._body_left = int(value)
        elif name == b"transfer-encoding":
            self._coding = value if self._coding is None else b"%b, %b" % (self._coding, value)
        elif name == b"upgrade":
            self._upgrade = True
        elif value.lower() == b"100-continue":
            self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        if self._surplus > MAX_HEAD_BYTES:  # a piece ends where a head does
            raise malformed(TOO_LARGE)
        self._complete_scope()
        self.state = _HEADED[self.state]
        self.headers = []  # the scope keeps its own: fields of a trailer are no headers of the request (RFC 9110 6.5.1)
        self._upgrade = self._upgrade and self.parser.should_upgrade()
        if not self._upgrade:
            self.cycle = self._new_cycle()
            self._start()

    def _start(self) -> None:
        """Let the application work. What is no token request is counted apart: it takes no place of one."""
        task = self.loop.create_task(self.cycle.run_asgi(self.app))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        shedding: Shedding | None = getattr(self.app, "shedding", None)
        if shedding is not None and self.scope["raw_path"] != shedding.path:
            self.crowd.beside.add(task)
            task.add_done_callback(self.crowd.beside.discard)

    def _complete_scope(self) -> None:
        scope: Any = self.scope
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = version = self.parser.get_http_version()
        scope["path"], scope["raw_path"], scope["query_string"] = parse_target(self.url)
        if scope["method"] == "CONNECT":  # the parser would take what follows for a tunnel, whatever the answer
            raise malformed("CONNECT asks for a tunnel; this is no proxy")
        if self._hosts != 1 or version != "1.1":
            check_version(version, self._hosts)
        if self._coding is not None:
            check_coding(self._coding, version)

    def _ignore_upgrade(self) -> None:
        """Read the head once more, without the field that nobody here accepts (RFC 9110 7.8).

        The parser takes what follows an upgrade for another protocol, whatever the answer; the body is a body.
        """
        fields = [b"%b: %b\r\n" % field for field in self.scope["headers"] if field[0] != b"upgrade"]
        line = self.scope["method"].encode(), self.url, self.scope["http_version"].encode()
        head = b"%b %b HTTP/%b\r\n%b\r\n" % (*line, b"".join(fields))
        self.state = TRANSITIONS[Event.REREAD][self.state]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(head)

    def _new_cycle(self) -> OneWriteCycle:
        modern = self.scope["http_version"] != "1.0"  # what is older knows neither of the two (RFC 9110 10.1.1)
        return OneWriteCycle(
            self.scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            False,
            self.server_state.default_headers,
            asyncio.Event(),
            modern and self.expect_100_continue,
            not self._draining and modern and self.parser.should_keep_alive(),
            self.on_response_complete,
        )

    def on_body(self, body: bytes) -> None:
        size = len(body)
        self._surplus -= size
        if self._body_left:
            self._body_left -= size
        if self.state is _REST:
            self._throw_away(size)
            return
        self.cycle.body += body
        if len(self.cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def _throw_away(self, size: int) -> None:
        self._thrown += size
        if self._thrown > MAX_BODY_BYTES:
            raise PayloadTooLarge("body_size")  # ends the connection without another answer

    def on_message_complete(self) -> None:
        if self._upgrade:
            return  # the head is read once more
        if self._surplus > 2 * MAX_HEAD_BYTES:
            raise malformed(TOO_LARGE)
        self.state = _WHOLE[self.state]
        if self.state is _IDLE:
            self._surplus = 0
            self._begin_waiting()
            return
        self.cycle.more_body = False
        self.cycle.message_event.set()

    # What goes

    def on_response_complete(self) -> None:
        """An answer is written: read on, first what has come already."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if not self.cycle.keep_alive:
            self._end()
            return
        self.state = _ANSWERED[self.state]
        self.since = now = self.loop.time()
        if self._timer is None or now + self.timeout_keep_alive < self._timer_at:
            self._watch(now + self.timeout_keep_alive)
        self.scope = self.cycle = None  # type: ignore[assignment]
        self.url = b""
        if self._waiting:
            self.crowd.later(self._go_on)
            return
        if self.held:
            self.crowd.release(self)
        self.flow.resume_reading()

    def _go_on(self) -> None:
        """What came behind the request that is answered now."""
        data, self._waiting = self._waiting, b""
        self.crowd.release(self)
        self._take(data)
        if not self._waiting and self.state in READING:
            self.flow.resume_reading()

    def _malformed(self, why: str) -> None:
        """Refuse what is not HTTP as every other malformed request; this is the last answer."""
        self.logger.warning("Invalid HTTP request: %s", why)
        self._end_answering()
        date = b"".join(b"%s: %s\r\n" % header for header in self.server_state.default_headers)
        self.transport.write(_MALFORMED + date + b"\r\n" + refusal_body(InvalidRequest("head")))
        self._end()
