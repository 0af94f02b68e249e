"""How a connection begins, how long it may wait, and how it ends: the part that has nothing to do with what is said."""

import asyncio
import select
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from groat.protocol.client_certificate import Presented
from groat.server.connection.crowd import Crowd
from groat.server.connection.handshake import certificate_of
from groat.server.connection.lingering import close, linger
from groat.server.connection.states import BETWEEN, OWING, REPLACEABLE, SECONDS, TRANSITIONS, Event, State

DRAIN_SECONDS: Final = 3.0
WRITE_BUFFER_BYTES: Final = 4096  # of answers that the peer does not read, before the next one waits
READ_BUFFER_BYTES: Final = 16 * 1024  # of TLS records that are not deciphered while reading pauses
_LATE_SECONDS: Final = 0.05


class Lifetime(HttpToolsProtocol):
    """A connection in the states of `states`; a member of its listener's crowd."""

    peer: tuple[str, int] | None = None  # as accepted: a connection that was reset since does not know any more
    state = State.ARRIVING
    since = 0.0  # loop time: when it came into its state; in HEAD and BODY, when that was first found unfinished
    source = ""
    exempt = False
    presented: Presented | None = None  # the peer's certificate, or that there is none, where it was asked for one
    held = 0
    task: asyncio.Task[Any] | None = None  # that agrees on TLS, while ARRIVING
    _draining = False  # the server ends
    _timer: asyncio.TimerHandle | None = None
    _timer_at = 0.0
    _tail = b""  # the last bytes of an unfinished piece, which may be part of the empty line that ends a head
    _all_said = False  # the peer has closed its half
    _waiting = b""  # what came behind the request that is being answered

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.crowd: Crowd = self.app.crowd

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.client = self.client or self.peer
        self.task = None
        if not self.source and not self.crowd.admit(self, self.client and self.client[0]):
            self.state = State.CLOSED
            transport.abort()
            return
        self.state = TRANSITIONS[Event.CONNECTED][self.state]
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        if self.scheme == "https":
            transport.set_read_buffer_limits(high=READ_BUFFER_BYTES)
            self.presented = certificate_of(transport.get_extra_info("ssl_object"))
        self._begin_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._hurry()
        self._end_answering()
        super().connection_lost(exc)
        self._let_go()

    def eof_received(self) -> bool:  # type: ignore[override]  # as in asyncio: whether the other half stays open
        """A peer that closes its half behind a whole request gets the answer; one that closed all does no harm.

        Not over TLS, which has no halves; not where a request is not whole.
        """
        self._all_said = self.state is State.WORKING and self.transport.can_write_eof()
        if self._all_said:
            self.cycle.keep_alive = False
            self._hurry()
        return self._all_said

    def _hurry(self) -> None:
        """Have what is being worked at wait for nothing any more."""
        if self.state in OWING and self.cycle is not None:
            self.cycle.scope["hurried"] = True  # type: ignore[typeddict-unknown-key]

    def _let_go(self) -> None:
        """Keep nothing; what is being worked at keeps its own."""
        self.state = State.CLOSED
        self.crowd.leave(self)
        self._forget()

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.crowd.release(self)
        self._waiting = self._tail = self.url = b""
        self.parser = self.cycle = self.scope = None  # type: ignore[assignment]
        self.headers = []

    def _end(self) -> None:
        """The last answer is written; where more was sent than was read, the peer must get to see that answer."""
        more = self.state is not State.WORKING or self._waiting or (not self._all_said and self._has_unread())
        self.state = TRANSITIONS[Event.ENDED][self.state]
        self._forget()
        if more:
            linger(self.transport)
            self.since = self.loop.time()
            self.crowd.linger(self)
        else:
            close(self.transport)

    def _end_answering(self) -> None:
        cycle: Any = self.cycle
        if self.state in OWING and cycle is not None:
            cycle.end()

    def may_go(self) -> bool:
        """Whether no work of ours would be lost with it: who waits for an answer and reads it may not."""
        return self.state in REPLACEABLE or bool(self._waiting) or self.flow.write_paused

    def cut(self) -> bool:
        """End it now; False where something is unread that may be a request."""
        if self.state in BETWEEN and not self._waiting and self._has_unread():
            return False
        self._end_answering()
        if self.task is not None:
            self.task.cancel()
        elif self.state is State.LAST or self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()
        self._let_go()
        return True

    def shutdown(self) -> None:
        """Let the peer send one more request: it may be on its way, and closing now would reset it."""
        self._draining = True
        if self.state in OWING:
            self.cycle.keep_alive = False
            self._hurry()
        else:
            self.loop.call_later(DRAIN_SECONDS, self._close_if_idle)

    def _begin_waiting(self) -> None:
        self.since = now = self.loop.time()
        self._watch(now + self._seconds())

    def _seconds(self) -> float:
        return self.timeout_keep_alive if self.state in (State.IDLE, State.REST) else SECONDS[self.state]

    def _watch(self, deadline: float) -> None:
        """One timer for many requests is moved on only when it fires."""
        if self._timer is None or deadline < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            self._timer = self.loop.call_at(deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        if self.state not in SECONDS:
            return  # the application's to end
        deadline = self.since + self._seconds()
        if self.loop.time() < deadline:
            self._watch(deadline)
        elif self.state in (State.IDLE, State.REST):
            self._close_if_idle()
        else:
            self.crowd.tally.cut["slow"] += 1
            close(self.transport)

    def _close_if_idle(self) -> None:
        """Close a connection that nobody uses: timers run before reading, so a request may be here unread."""
        if self.state in OWING or self.transport.is_closing():
            return
        if self._waiting or (self.state in BETWEEN and self._has_unread()):
            self.loop.call_later(_LATE_SECONDS, self._close_if_idle)
        else:
            close(self.transport)

    def _has_unread(self) -> bool:
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))
